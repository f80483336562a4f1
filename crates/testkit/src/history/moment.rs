//! Moments that another process of this machine logged: on Linux all share the monotonic clock that is behind
//! [`Instant`](std::time::Instant), whose debug text shows it.

use std::time::Duration;

use serde_json::Value;

use super::event::Id;

/// The clock's reading in the debug text of an `Instant`; nothing if it has another form.
pub(super) fn of(text: &str) -> Option<Duration> {
    let number = |name: &str| text.split_once(name)?.1.split(|c: char| !c.is_ascii_digit()).next();
    Some(Duration::new(number("tv_sec: ")?.parse().ok()?, number("tv_nsec: ")?.parse().ok()?))
}

/// The message whose write began, and when, if that is what a line of a log says.
pub(super) fn write(line: &str) -> Option<(Id, Duration)> {
    if !line.contains("heliograph::write") {
        return None; // of a long log most lines need not be parsed
    }
    let line: Value = serde_json::from_str(line).ok()?;
    (line["target"] == "heliograph::write").then_some(())?;
    // Whatever the format does with fields, they are on the line or in an object on it.
    let field = |name: &str| {
        let inner = line.as_object()?.values().find_map(|value| value.get(name));
        line.get(name).or(inner)?.as_str()
    };
    Some((Id::from(field("id")?), of(field("now")?)?))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_clock_is_read_from_its_debug_text() {
        let instant = Instant::now();
        let later = instant + Duration::from_nanos(1_000_000_001);
        let [instant, later] = [instant, later].map(|instant| of(&format!("{instant:?}")).unwrap());
        assert_eq!(later.checked_sub(instant), Some(Duration::from_nanos(1_000_000_001)));
        assert_eq!(of("yesterday"), None);
    }

    #[test]
    fn writes_are_found_among_other_lines() {
        let line = r#"{"target":"heliograph::write","message":"write begins","id":"a.1","now":"Instant { tv_sec: 7, tv_nsec: 5 }"}"#;
        assert_eq!(write(line), Some((Id::from("a.1"), Duration::new(7, 5))));
        assert_eq!(write(&line.replace(r#""id":"a.1","#, "")), None, "a message without a name");
        assert_eq!(write(r#"{"target":"heliograph_server","message":"heliograph::write"}"#), None);
        assert_eq!(write("heliograph::write"), None);
    }
}
