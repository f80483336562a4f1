//! Every alert says what to do, and is tried.

use std::collections::BTreeSet;
use std::path::Path;

use crate::prometheus::root;

/// The alerts of the rule files with their lines, up to the next rule.
fn alerts() -> Vec<(String, String)> {
    let mut alerts = vec![];
    for file in ["alerts.yml", "slo.yml"] {
        let text = std::fs::read_to_string(root().join("deploy/prometheus/rules").join(file)).unwrap();
        for rule in text.split("      - alert: ").skip(1) {
            let (name, rest) = rule.split_once('\n').unwrap();
            alerts.push((name.to_owned(), rest.to_owned()));
        }
    }
    assert!(alerts.len() > 20, "{alerts:?}");
    alerts
}

fn stems(folder: &Path) -> BTreeSet<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let pages = files.filter(|file| file.file_stem().is_some_and(|stem| stem != "README"));
    pages.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let alerts: BTreeSet<String> = alerts().into_iter().map(|(name, _)| name).collect();
    assert_eq!(stems(&root().join("docs/runbooks")), alerts);
}

#[test]
fn every_alert_says_how_bad_it_is_and_where_help_is() {
    for (name, rule) in alerts() {
        let severity = ["critical", "warning", "info"];
        assert!(severity.iter().any(|word| rule.contains(&format!("severity: {word}\n"))), "{name}");
        assert!(rule.contains("summary: ") && rule.contains("description: "), "{name}");
        assert!(rule.contains(&format!("runbook_url: docs/runbooks/{name}.md\n")), "{name}");
    }
}

#[test]
fn every_runbook_has_the_same_parts() {
    let parts =
        ["## What it means", "## What users feel", "## Look here", "## Do this", "## How to know it is over"];
    for (name, _) in alerts() {
        let page = std::fs::read_to_string(root().join(format!("docs/runbooks/{name}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {name}\n")), "{name}");
        let places: Vec<_> = parts.iter().map(|part| page.find(part)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{name}: {places:?}");
    }
}

#[test]
fn every_alert_is_tried_with_series_that_fire_it_and_with_series_that_do_not() {
    let folder = root().join("deploy/prometheus/tests");
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let tests = read("alerts.yml") + &read("slo.yml");
    for (name, _) in alerts() {
        let expects = |what: &str| tests.contains(&format!("alertname: {name}\n        exp_alerts:{what}\n"));
        assert!(expects("") && expects(" []"), "{name} is not tried both ways");
    }
}
