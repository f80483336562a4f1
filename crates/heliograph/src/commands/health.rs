//! `health`: one look at a node, for health checks of containers and deployments, where there is no other program.

use anyhow::Context;
use heliograph_server::config::Config;
use ureq::http::Method;

use super::config::look;
use super::doctor;
use crate::api::Api;
use crate::cli::HealthArgs;
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(args: &HealthArgs) -> Result<(), Failure> {
    let Some(url) = &args.url else { return this_node(args) };
    let (server, path) = split(url).ok_or_else(|| {
        Failure::usage(format!("--url {url:?} is not an address; write it like http://127.0.0.1:9464/readyz"))
    })?;
    Api::anonymous(server).send(&Method::GET, path, &[], None).context("not healthy")?;
    Ok(output::line("healthy")?)
}

/// The node whose configuration is found here.
fn this_node(args: &HealthArgs) -> Result<(), Failure> {
    let (_, inspection) = look(&args.inspect);
    let Config { listen, .. } = inspection.config?;
    let (path, word) = if args.ready { ("/readyz", "ready") } else { ("/livez", "alive") };
    doctor::ask(listen.ops_listen, path).with_context(|| format!("the node is not {word}"))?;
    Ok(output::line(word)?)
}

/// The server's part of an address, and the rest.
fn split(url: &str) -> Option<(&str, &str)> {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let begin = url.len() - host.len();
    let (server, path) = match host.find('/') {
        Some(at) => url.split_at(begin + at),
        None => (url, "/"),
    };
    (server.len() > begin).then_some((server, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_server_and_a_path() {
        let check = |url, expected| assert_eq!(split(url), expected, "{url}");
        check("http://h:9464/readyz?x=1", Some(("http://h:9464", "/readyz?x=1")));
        check("https://h", Some(("https://h", "/")));
        check("http:///readyz", None);
        check("http://", None);
        check("h:9464/readyz", None);
    }
}
