//! Where values come from: defaults, the file, the environment, flags; a later one wins.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Problems, nearest};
use super::setting::{Exposure, PREFIX, Setting, settings};
use super::value::{FromText, Raw};
use super::{Mode, url};

/// Largest configuration or secret file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Variables that are not settings of a node: the command line's own.
const OTHER_VARIABLES: [&str; 4] =
    ["HELIOGRAPH_CONFIG", "HELIOGRAPH_SERVER", "HELIOGRAPH_KEY", "HELIOGRAPH_KEY_FILE"];

/// Everything that may set a value, handed in so that tests can feed it.
#[derive(Debug, Default)]
pub struct Sources {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// Names and values; those that are not ours are ignored.
    pub environment: Vec<(String, String)>,
    /// What the command line said.
    pub flags: Vec<Flag>,
}

/// A setting that was given on the command line.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The flag as it was written, such as `--listen`.
    pub name: String,
    /// The setting's key.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Sources {
    /// The environment of this process; the file is `file`, or the one that `HELIOGRAPH_CONFIG` names.
    pub fn from_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        // What is not UTF-8 keeps its place with replacement characters and is refused by name below.
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let environment: Vec<_> =
            std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect();
        let named = environment.iter().find(|(name, value)| name == "HELIOGRAPH_CONFIG" && !value.is_empty());
        let file = file.or_else(|| named.map(|(_, path)| path.into()));
        Self { file, environment, flags }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provenance {
    /// Nobody set it.
    Default,
    /// A line of the TOML file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// This environment variable.
    Environment(String),
    /// This flag.
    Flag(String),
    /// A file with a secret.
    SecretFile {
        /// The file.
        path: PathBuf,
        /// What named it.
        named_by: Box<Provenance>,
    },
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::SecretFile { path, named_by } => write!(f, "file {}, named by {named_by}", path.display()),
        }
    }
}

/// A setting's value and origin, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The key.
    pub key: &'static str,
    /// The value with secrets hidden; `None` when it is not set.
    pub value: Option<String>,
    /// Where it came from.
    pub provenance: Provenance,
}

struct Given {
    raw: Raw,
    provenance: Provenance,
}

/// The winning value of every setting that has one.
pub(super) struct Layers(BTreeMap<&'static str, Given>);

impl Layers {
    /// Reads all sources. Problems are collected; what could be read is there.
    pub(super) fn collect(mode: Mode, sources: &Sources) -> (Self, Vec<Problem>) {
        let mut collector = Collector { values: defaults(mode), problems: Vec::new() };
        if let Some(path) = &sources.file {
            collector.file(path);
        }
        collector.environment(&sources.environment);
        collector.flags(&sources.flags);
        (Self(collector.values), collector.problems)
    }

    /// Every setting with its value, fit to be shown.
    pub(super) fn effective(&self) -> Vec<Effective> {
        let show = |setting: &'static Setting| match self.0.get(setting.key) {
            None => Effective { key: setting.key, value: None, provenance: Provenance::Default },
            Some(given) => Effective {
                key: setting.key,
                value: Some(shown(setting.exposure, &given.raw)),
                provenance: given.provenance.clone(),
            },
        };
        settings().map(show).collect()
    }
}

fn defaults(mode: Mode) -> BTreeMap<&'static str, Given> {
    let given = |text: std::borrow::Cow<'static, str>| Given {
        raw: Raw::Text(text.into_owned()),
        provenance: Provenance::Default,
    };
    settings().filter_map(|setting| Some((setting.key, given(setting.default.text(mode)?)))).collect()
}

fn shown(exposure: Exposure, raw: &Raw) -> String {
    match (exposure, raw) {
        (Exposure::Hidden, _) => "•••".into(),
        (Exposure::Masked, Raw::Text(text)) => url::mask(text),
        (Exposure::Masked, Raw::List(items)) => {
            items.iter().map(|item| url::mask(item)).collect::<Vec<_>>().join(", ")
        }
        (Exposure::Plain, Raw::Text(text)) => text.clone(),
        (Exposure::Plain, Raw::List(items)) => items.join(", "),
    }
}

/// Puts one source over the other.
struct Collector {
    values: BTreeMap<&'static str, Given>,
    problems: Vec<Problem>,
}

impl Collector {
    fn problem(&mut self, text: impl AsRef<str>) {
        self.problems.push(Problem::new(text));
    }

    fn file(&mut self, path: &Path) {
        let text = match read_file(path) {
            Ok(text) => text,
            Err(why) => return self.problem(format!("configuration file {}: {why}", path.display())),
        };
        // The library's own display quotes the line, and a secret may stand there.
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in errors {
            let line = line_of(&text, error.span().map_or(0, |span| span.start));
            self.problem(format!("{} line {line}: not valid TOML: {}", path.display(), error.message()));
        }
        for (key, value) in table.get_ref() {
            let provenance = Provenance::File { path: path.into(), line: line_of(&text, key.span().start) };
            self.entry(key.get_ref(), value.get_ref(), provenance);
        }
    }

    fn entry(&mut self, key: &str, value: &DeValue<'_>, provenance: Provenance) {
        let Some((setting, is_file)) = find(key) else {
            let hint = suggestion(key);
            return self.problem(format!("{key} ({provenance}): there is no such setting{hint}"));
        };
        match toml_raw(value) {
            Ok(raw) => self.set(setting, is_file, raw, provenance),
            Err(kind) => self.problem(format!(
                "{key} ({provenance}): is a {kind}; give a text, number, true, false or a list"
            )),
        }
    }

    fn environment(&mut self, variables: &[(String, String)]) {
        let value_of =
            |name: &str| variables.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str());
        for setting in settings() {
            let name = setting.environment();
            for alias in setting.aliases {
                if let Some(text) = value_of(alias.name) {
                    let raw = Raw::Text((alias.rewrite)(text));
                    self.set(setting, false, raw, Provenance::Environment(alias.name.into()));
                }
            }
            let file = format!("{name}_FILE");
            let named = setting.is_secret().then(|| value_of(&file)).flatten();
            if let Some(path) = named {
                if value_of(&name).is_some() {
                    self.problem(format!("{name} and {file} are both set; keep one of them"));
                }
                self.set(setting, true, Raw::Text(path.into()), Provenance::Environment(file));
            } else if let Some(text) = value_of(&name) {
                self.set(setting, false, Raw::Text(text.into()), Provenance::Environment(name));
            }
        }
        for (name, value) in variables {
            self.known_variable(name, value);
        }
    }

    fn known_variable(&mut self, name: &str, value: &str) {
        let Some(key) = name.strip_prefix(PREFIX) else { return };
        let is_setting = find(&key.to_lowercase()).is_some() && !key.chars().any(char::is_lowercase);
        if is_setting || OTHER_VARIABLES.contains(&name) || is_service_link(name, value) {
            return;
        }
        let hint = match nearest(&key.to_lowercase(), keys()) {
            Some(known) => format!("; did you mean {PREFIX}{}?", known.to_uppercase()),
            None => SEE_ALL.into(),
        };
        self.problem(format!("{name} (environment): there is no such setting{hint}"));
    }

    fn flags(&mut self, flags: &[Flag]) {
        for Flag { name, key, value } in flags {
            let provenance = Provenance::Flag(name.clone());
            match find(key) {
                None => {
                    let hint = suggestion(key);
                    self.problem(format!("{key} ({provenance}): there is no such setting{hint}"));
                }
                Some((setting, false)) if setting.is_secret() => self.problem(format!(
                    "{key} ({provenance}): a command line is visible to others; use {}_FILE or a configuration file",
                    setting.environment()
                )),
                Some((setting, is_file)) => self.set(setting, is_file, Raw::Text(value.clone()), provenance),
            }
        }
    }

    fn set(&mut self, setting: &'static Setting, is_file: bool, raw: Raw, provenance: Provenance) {
        if let Raw::Text(text) = &raw
            && text.contains(char::REPLACEMENT_CHARACTER)
        {
            return self.problem(format!("{} ({provenance}): the value is not UTF-8", setting.key));
        }
        if !is_file {
            self.values.insert(setting.key, Given { raw, provenance });
            return;
        }
        let Raw::Text(path) = raw else {
            return self.problem(format!("{}_file ({provenance}): give one path", setting.key));
        };
        let path = PathBuf::from(path);
        match read_file(&path) {
            Ok(text) => {
                let raw = Raw::Text(text.trim_end_matches(['\r', '\n']).to_owned());
                let provenance = Provenance::SecretFile { path, named_by: Box::new(provenance) };
                self.values.insert(setting.key, Given { raw, provenance });
            }
            Err(why) => self.problem(format!("{} ({provenance}): {}: {why}", setting.key, path.display())),
        }
    }
}

/// The setting that `key` names, and whether it names the file for it.
fn find(key: &str) -> Option<(&'static Setting, bool)> {
    let by_key = |key: &str| settings().find(|setting| setting.key == key);
    by_key(key).map(|setting| (setting, false)).or_else(|| {
        let setting = by_key(key.strip_suffix("_file")?)?;
        setting.is_secret().then_some((setting, true))
    })
}

fn keys() -> impl Iterator<Item = &'static str> {
    settings().map(|setting| setting.key)
}

fn suggestion(name: &str) -> String {
    nearest(name, keys()).map_or_else(|| SEE_ALL.into(), |known| format!("; did you mean {known}?"))
}

const SEE_ALL: &str = "; `heliograph config show` lists all";

/// Kubernetes sets such variables for every service of the namespace. One that is called `heliograph` must not
/// keep a node from starting.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && is_url)
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| name.contains("_PORT_") && name.contains(protocol))
}

fn read_file(path: &Path) -> Result<String, String> {
    let describe = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => format!("cannot be read ({error})"),
    };
    let size = std::fs::metadata(path).map_err(describe)?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    std::fs::read_to_string(path).map_err(describe)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn toml_raw(value: &DeValue<'_>) -> Result<Raw, &'static str> {
    match value {
        DeValue::Array(items) => {
            items.iter().map(|item| toml_text(item.get_ref())).collect::<Result<_, _>>().map(Raw::List)
        }
        other => toml_text(other).map(Raw::Text),
    }
}

fn toml_text(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.to_string()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        DeValue::Datetime(_) => Err("date"),
        DeValue::Array(_) => Err("list in a list"),
        DeValue::Table(_) => Err("table"),
    }
}

/// Turns values into types, and keeps what is wrong with them.
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers, problems: Vec<Problem>) -> Self {
        Self { layers, problems }
    }

    /// The value of `key`; `None` after a problem.
    pub(super) fn get<T: FromText>(&mut self, key: &'static str) -> Option<T> {
        let Some(given) = self.layers.0.get(key) else {
            let absent = T::absent();
            if absent.is_none() {
                self.object(key, "must be set");
            }
            return absent;
        };
        let wrong = match T::read(&given.raw) {
            Ok(value) => return Some(value),
            Err(wrong) => wrong,
        };
        let subject = if T::EXPOSURE == Exposure::Plain { quote(&wrong.text) } else { "the value".into() };
        self.object(key, &format!("{subject} {}", wrong.why));
        None
    }

    /// Notes that the value of `key` will not do.
    pub(super) fn object(&mut self, key: &str, why: &str) {
        let line = match self.layers.0.get(key) {
            Some(given) => format!("{key} ({}): {why}", given.provenance),
            None => format!("{key} (not set): {why}"),
        };
        self.problems.push(Problem::new(line));
    }

    /// The result of it all.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(Problems::new(self.problems)),
        }
    }
}

/// Long enough to recognize, short enough for a line.
const QUOTED_CHARS: usize = 80;

fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}
