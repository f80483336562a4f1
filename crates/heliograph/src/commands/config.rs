//! `config`: what is in force, where it comes from, what is wrong with it.

use heliograph_server::config::{Effective, Inspection, Mode, Sources, inspect};
use serde_json::json;

use crate::cli::{Config, InspectArgs};
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(config: &Config) -> Result<(), Failure> {
    match config {
        Config::Check(args) => check(args),
        Config::Show { inspect, json } => show(inspect, *json),
    }
}

fn check(args: &InspectArgs) -> Result<(), Failure> {
    let (mode, inspection) = look(args);
    inspection.config?;
    Ok(output::line(&format!("the configuration is good for `heliograph {}`", mode.as_str()))?)
}

/// Shows what there is even when something is wrong with it: that is when one looks.
fn show(args: &InspectArgs, as_json: bool) -> Result<(), Failure> {
    let (mode, inspection) = look(args);
    if as_json {
        let describe = |value: &Effective| json!({ "key": value.key, "value": value.value, "source": value.provenance.to_string() });
        let settings: Vec<_> = inspection.effective.iter().map(describe).collect();
        output::json(&json!({ "mode": mode.as_str(), "settings": settings }))?;
    } else {
        let row = |value: &Effective| {
            let shown = value.value.clone().unwrap_or_else(|| "-".into());
            vec![value.key.to_owned(), shown, value.provenance.to_string()]
        };
        let rows: Vec<_> = inspection.effective.iter().map(row).collect();
        output::table(&["key", "value", "from"], &rows, "no settings")?;
    }
    inspection.config?;
    Ok(())
}

/// Reads the configuration for the mode that was asked for, or the one that it seems to be for.
pub(crate) fn look(args: &InspectArgs) -> (Mode, Inspection) {
    let sources = args.config.sources();
    let mode = args.mode.map_or_else(|| likely(&sources), Mode::from);
    (mode, inspect(mode, &sources))
}

fn likely(sources: &Sources) -> Mode {
    let values = inspect(Mode::Dev, sources).effective;
    let database = values.iter().find(|value| value.key == "database_url");
    if database.is_some_and(|value| value.value.is_some()) { Mode::Serve } else { Mode::Dev }
}
