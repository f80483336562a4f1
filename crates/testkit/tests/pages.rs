//! The pages for operators name what there is: links lead somewhere, settings and metrics exist, no code or reason is
//! missing.

#![expect(clippy::unwrap_used, reason = "a panic is how tests and their helpers fail")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use heliograph_core::close::CloseCode;

/// Documents of the root that operators read too.
const BESIDES: [&str; 2] = ["README.md", "load-tests/README.md"];

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut broken = vec![];
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let reached = target.exists() && (heading.is_empty() || headings(&target).contains(heading));
            if !reached {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn settings_that_pages_name_exist() {
    // Of the command line, of load tests, and of what runs tests.
    let others = [
        "SERVER",
        "SERVERS",
        "ADMIN_SERVER",
        "KEY",
        "KEY_FILE",
        "CONFIG",
        "BIN",
        "K6",
        "POSTGRES_BIN",
        "TEST_LOG",
        "NAME",
    ];
    let known = words(&docs("configuration.md"), "HELIOGRAPH_");
    for page in pages() {
        for setting in words(&page, "HELIOGRAPH_") {
            let name = setting.trim_start_matches("HELIOGRAPH_");
            let of_a_file = setting.strip_suffix("_FILE").is_some_and(|setting| known.contains(setting));
            let exists = known.contains(&setting) || of_a_file || others.contains(&name) || name.is_empty();
            assert!(exists, "{}: {setting}", page.display());
        }
    }
}

#[test]
fn metrics_that_pages_name_exist() {
    let known = words(&docs("metrics.md"), "heliograph_");
    let parts = ["_bucket", "_sum", "_count"];
    for page in pages() {
        let named = words(&page, "heliograph_");
        for metric in named.iter().filter(|metric| !is_a_crate(metric)) {
            let base = parts.iter().find_map(|part| metric.strip_suffix(part)).unwrap_or(metric);
            assert!(known.contains(metric) || known.contains(base), "{}: {metric}", page.display());
        }
    }
}

#[test]
fn troubleshooting_has_every_close_code_and_reason() {
    let page = std::fs::read_to_string(docs("troubleshooting.md")).unwrap();
    for code in CloseCode::ALL {
        let row = format!("\n| {} |", code.code());
        assert!(page.contains(&row), "{code:?}");
    }
    let protocol = std::fs::read_to_string(docs("protocol/mesh.md")).unwrap();
    let reasons = protocol.split("| reason | what happened |").nth(1).unwrap();
    let reasons = reasons.lines().skip(2).take_while(|line| line.starts_with("| `"));
    let reasons: Vec<&str> = reasons.map(|line| line.split('`').nth(1).unwrap()).collect();
    assert_eq!(reasons.len(), 8, "{reasons:?}");
    for reason in reasons {
        assert!(page.contains(&format!("\n| `{reason}` |")), "{reason}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

fn docs(page: &str) -> PathBuf {
    root().join("docs").join(page)
}

/// All pages for operators, runbooks included.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = BESIDES.map(|page| root().join(page)).into();
    for folder in ["docs", "docs/runbooks", "docs/protocol"] {
        let files = std::fs::read_dir(root().join(folder)).unwrap().map(|file| file.unwrap().path());
        pages.extend(files.filter(|file| file.extension().is_some_and(|extension| extension == "md")));
    }
    assert!(pages.len() > 20, "{pages:?}");
    pages
}

/// Targets of links within the repository, outside of code.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    let targets = prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.contains(' ')).collect()
}

/// What links to a page's headings say after the `#`.
fn headings(page: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let titles =
        text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches(['#', ' ']));
    titles.map(anchor).collect()
}

/// As it is made from a heading.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect()
}

/// All words of a page that begin so.
fn words(page: &Path, beginning: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let ends = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '_');
    text.split(ends).filter(|word| word.starts_with(beginning)).map(str::to_owned).collect()
}

/// Names of crates stand in log filters.
fn is_a_crate(word: &str) -> bool {
    let name = word.trim_start_matches("heliograph_");
    root().join("crates").join(name.replace('_', "-")).is_dir()
}
