//! Where Redis is and how to be let in: one URL for each form in which it is run.
//!
//! ```text
//! redis://[user:password@]host[:port][/db]                      one server
//! redis+cluster://[user:password@]host[:port],host[:port]       Redis Cluster; any of its nodes
//! redis+sentinel://[user:password@]host[:port],host/service[/db]  the primary that these sentinels name
//! ```
//!
//! With `rediss` everything goes over TLS, the sentinels too. Parameters: `ca` (a PEM file with the certificates to
//! trust instead of the machine's), `prefix` (of all channels and keys, so that installations can share a server),
//! `sentinel_user` and `sentinel_password` (the sentinels' own).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::keys::Prefix;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// Most addresses in one URL: they are only where to ask first.
const MAX_ADDRESSES: usize = 64;

/// Why a URL cannot be used. Never says the URL itself: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The scheme is not one of Redis's.
    #[error(
        "must begin with redis://, rediss://, redis+cluster://, rediss+cluster://, redis+sentinel:// or rediss+sentinel://"
    )]
    Scheme,
    /// A host or port is missing or wrong.
    #[error("host {0} of the Redis URL is not HOST or HOST:PORT")]
    Address(usize),
    /// One server's URL lists several, or there are too many.
    #[error("the Redis URL must name {0}")]
    Addresses(&'static str),
    /// A Sentinel URL does not say which service.
    #[error(
        "a redis+sentinel:// URL must end in /SERVICE, the name under which the sentinels know the primary"
    )]
    Service,
    /// What follows the addresses is not a database number, or cannot be.
    #[error("the path of the Redis URL must be a database number (redis://HOST/0); a Cluster has only one")]
    Database,
    /// A `%` is not followed by two hexadecimal digits, or the result is not text.
    #[error("a percent-encoded character in the Redis URL is wrong")]
    Encoding,
    /// A parameter that nobody reads is a mistake.
    #[error("unknown parameter {0:?} in the Redis URL; known: ca, prefix, sentinel_user, sentinel_password")]
    Parameter(String),
    /// The prefix would break the names of channels.
    #[error("prefix must be 1 to 32 letters, digits, '-', '_' or '.'")]
    Prefix,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }

    fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Some(default_port), |port| port.parse().ok())?;
        (!host.is_empty() && port != 0).then(|| Self::new(host, port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A user and a password; either may be missing.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.password.is_some() { "Credentials(***)" } else { "Credentials(none)" })
    }
}

/// In which form Redis is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    Standalone(Address),
    Cluster(Vec<Address>),
    Sentinel { sentinels: Vec<Address>, service: String, credentials: Credentials },
}

/// Where Redis is and how to be let in. Printing it shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    pub(crate) form: Form,
    pub(crate) credentials: Credentials,
    pub(crate) database: u32,
    pub(crate) tls: bool,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) prefix: Prefix,
    pub(crate) plain_publish: bool,
}

impl Options {
    /// From a URL; the module's text says which there are.
    pub fn parse(url: &str) -> Result<Self, OptionsError> {
        let (scheme, rest) = url.trim().split_once("://").ok_or(OptionsError::Scheme)?;
        let (tls, form) = match scheme.split_once('+').unwrap_or((scheme, "")) {
            ("redis", form) => (false, form),
            ("rediss", form) => (true, form),
            _ => return Err(OptionsError::Scheme),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold '@' and '/' unencoded; a host may not.
        let (userinfo, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let parameters = Parameters::parse(query)?;
        let (form, database) = match form {
            "" => (standalone(hosts)?, path),
            "cluster" if matches!(path, "" | "0") => (Form::Cluster(addresses(hosts, REDIS_PORT)?), ""),
            "cluster" => return Err(OptionsError::Database),
            "sentinel" => sentinel(hosts, path, parameters.sentinel)?,
            _ => return Err(OptionsError::Scheme),
        };
        Ok(Self {
            form,
            credentials: credentials(userinfo)?,
            database: if database.is_empty() {
                0
            } else {
                database.parse().map_err(|_| OptionsError::Database)?
            },
            tls,
            ca: parameters.ca,
            prefix: parameters.prefix,
            plain_publish: false,
        })
    }

    /// Uses `PUBLISH` also where the server knows `SPUBLISH`: for proxies and access lists that do not.
    #[must_use]
    pub fn with_plain_publish(mut self) -> Self {
        self.plain_publish = true;
        self
    }
}

impl FromStr for Options {
    type Err = OptionsError;

    fn from_str(url: &str) -> Result<Self, OptionsError> {
        Self::parse(url)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, addresses, service) = match &self.form {
            Form::Standalone(address) => ("", std::slice::from_ref(address), None),
            Form::Cluster(nodes) => ("+cluster", nodes.as_slice(), None),
            Form::Sentinel { sentinels, service, .. } => ("+sentinel", sentinels.as_slice(), Some(service)),
        };
        write!(f, "redis{}{form}://", if self.tls { "s" } else { "" })?;
        if self.credentials != Credentials::default() {
            f.write_str("***@")?;
        }
        for (i, address) in addresses.iter().enumerate() {
            write!(f, "{}{address}", if i == 0 { "" } else { "," })?;
        }
        service.map_or(Ok(()), |service| write!(f, "/{service}"))?;
        if self.database == 0 { Ok(()) } else { write!(f, "/{}", self.database) }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options({self})")
    }
}

fn standalone(hosts: &str) -> Result<Form, OptionsError> {
    match <[Address; 1]>::try_from(addresses(hosts, REDIS_PORT)?) {
        Ok([address]) => Ok(Form::Standalone(address)),
        Err(_) => Err(OptionsError::Addresses(
            "one server (redis+cluster:// and redis+sentinel:// take several, with commas between)",
        )),
    }
}

fn sentinel<'a>(
    hosts: &str,
    path: &'a str,
    credentials: Credentials,
) -> Result<(Form, &'a str), OptionsError> {
    let sentinels = addresses(hosts, SENTINEL_PORT)?;
    let (service, database) = path.split_once('/').unwrap_or((path, ""));
    let service = decoded(service)?;
    if service.is_empty() {
        return Err(OptionsError::Service);
    }
    Ok((Form::Sentinel { sentinels, service, credentials }, database))
}

fn addresses(hosts: &str, default_port: u16) -> Result<Vec<Address>, OptionsError> {
    let parsed: Result<Vec<_>, _> = (1..)
        .zip(hosts.split(','))
        .map(|(n, host)| Address::parse(host, default_port).ok_or(OptionsError::Address(n)))
        .collect();
    parsed.and_then(|all| {
        if all.len() > MAX_ADDRESSES {
            return Err(OptionsError::Addresses("at most 64 addresses"));
        }
        Ok(all)
    })
}

fn credentials(userinfo: Option<&str>) -> Result<Credentials, OptionsError> {
    let Some(userinfo) = userinfo else { return Ok(Credentials::default()) };
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    Ok(Credentials { user: filled(decoded(user)?), password: filled(decoded(password)?) })
}

fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String, OptionsError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
            let (high, low) = digit().zip(digit()).ok_or(OptionsError::Encoding)?;
            u8::try_from(high * 16 + low).map_err(|_| OptionsError::Encoding)?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).map_err(|_| OptionsError::Encoding)
}

#[derive(Default)]
struct Parameters {
    ca: Option<PathBuf>,
    prefix: Prefix,
    sentinel: Credentials,
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, OptionsError> {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value)?;
            match name {
                "ca" => parameters.ca = filled(value).map(PathBuf::from),
                "prefix" => parameters.prefix = Prefix::parse(&value).ok_or(OptionsError::Prefix)?,
                "sentinel_user" => parameters.sentinel.user = filled(value),
                "sentinel_password" => parameters.sentinel.password = filled(value),
                // Cut short: what stands here may be the rest of a password with a '?' in it.
                unknown => return Err(OptionsError::Parameter(unknown.chars().take(3).collect())),
            }
        }
        Ok(parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expect: &Result<&str, OptionsError>) {
        let shown = Options::parse(url).map(|options| options.to_string());
        assert_eq!(shown.as_deref().map_err(Clone::clone), expect.clone(), "{url}");
    }

    #[test]
    fn every_form_is_read() {
        check("redis://localhost", &Ok("redis://localhost:6379"));
        check("redis://127.0.0.1:7000/3", &Ok("redis://127.0.0.1:7000/3"));
        check("rediss://[::1]:7000", &Ok("rediss://[::1]:7000"));
        check("redis+cluster://a:1,b,[::2]", &Ok("redis+cluster://a:1,b:6379,[::2]:6379"));
        check("rediss+cluster://a/0", &Ok("rediss+cluster://a:6379"));
        check("redis+sentinel://a,b:1/main", &Ok("redis+sentinel://a:26379,b:1/main"));
        check("rediss+sentinel://a/main/2", &Ok("rediss+sentinel://a:26379/main/2"));
    }

    #[test]
    fn mistakes_are_named() {
        check("localhost:6379", &Err(OptionsError::Scheme));
        check("http://a", &Err(OptionsError::Scheme));
        check("redis+ring://a", &Err(OptionsError::Scheme));
        check("redis://", &Err(OptionsError::Address(1)));
        check("redis://a:b", &Err(OptionsError::Address(1)));
        check("redis+cluster://a,b:0", &Err(OptionsError::Address(2)));
        check("redis://a/x", &Err(OptionsError::Database));
        check("redis+cluster://a/1", &Err(OptionsError::Database));
        check("redis+sentinel://a", &Err(OptionsError::Service));
        check("redis://u:%zz@a", &Err(OptionsError::Encoding));
        check("redis://a?prefix={x}", &Err(OptionsError::Prefix));
        check("redis://a?tmieout=3", &Err(OptionsError::Parameter("tmi".into())));
        assert!(matches!(Options::parse("redis://a,b"), Err(OptionsError::Addresses(_))));
    }

    #[test]
    fn passwords_are_read_and_never_shown() {
        let options =
            Options::parse("redis+sentinel://me:p%40ss@word@a/main?sentinel_password=s%33cret&ca=/ca.pem")
                .unwrap();
        assert_eq!(options.credentials.user.as_deref(), Some("me"));
        assert_eq!(options.credentials.password.as_deref(), Some("p@ss@word"));
        assert_eq!(options.ca.as_deref(), Some(std::path::Path::new("/ca.pem")));
        let Form::Sentinel { credentials, .. } = &options.form else { panic!("{options}") };
        assert_eq!(credentials.password.as_deref(), Some("s3cret"));
        for shown in [options.to_string(), format!("{options:?}"), format!("{:?}", options.form)] {
            assert!(!shown.contains("word") && !shown.contains("s3cret"), "{shown}");
        }
        let error = Options::parse("redis://me:secret?x@a").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
