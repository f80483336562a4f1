//! The page for those who write programs says what is so.

use super::super::forms::code;
use super::Bounds;

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/agent-bridge.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_page_has_every_code() {
    let page = page();
    for code in [
        code::MALFORMED,
        code::UNKNOWN_COMMAND,
        code::TOO_LARGE,
        code::TOO_SLOW,
        code::TOO_MANY_PROGRAMS,
        code::NOT_ALLOWED,
        code::MISSED,
    ] {
        assert!(page.contains(&format!("\n| `{code}` |")), "{code}");
    }
}

#[test]
fn the_page_has_the_bounds() {
    let page = page();
    let bounds = Bounds::DEFAULT;
    let mib = |bytes: usize| format!("{} MiB", bytes / (1024 * 1024));
    let thousands = |count: usize| format!("{},{:03}", count / 1000, count % 1000);
    for row in [
        format!("| a line from a program | {};", mib(bounds.line_bytes)),
        format!("| programs at once | {} |", bounds.programs),
        format!(
            "| what waits for one program | {} lines, {} |",
            thousands(bounds.queue_lines),
            mib(bounds.queue_bytes)
        ),
        format!("whose queue is full | {} s, once", bounds.stall.as_secs()),
        format!("when the bridge closes | {} s |", bounds.last_word.as_secs()),
        format!("| {} messages, {} |", thousands(bounds.kept_lines), mib(bounds.kept_bytes)),
    ] {
        assert!(page.contains(&row), "{row}");
    }
}
