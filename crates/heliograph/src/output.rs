//! What commands print: tables and lines for people, JSON for programs.

use std::io::{self, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// The text without characters that end a line or steer a terminal: much of it was written by others.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Prints one line.
pub(crate) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", plain(text))
}

/// Says something beside the output: why this does other things than one might expect.
pub(crate) fn note(text: &str) {
    // If stderr is gone, there is nobody left to tell.
    _ = writeln!(io::stderr(), "note: {}", plain(text));
}

/// Prints a text of ours as it is.
pub(crate) fn page(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Prints JSON for programs.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{value:#}")
}

/// Prints JSON for programs that read line by line.
pub(crate) fn json_line(value: &Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{value}")?;
    stdout.flush()
}

/// Prints names and values below each other.
pub(crate) fn facts(facts: &[(&str, String)]) -> io::Result<()> {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, value) in facts {
        line(&format!("{name:width$}  {value}"))?;
    }
    Ok(())
}

/// Prints a table, or `nothing` when it has no rows.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>], nothing: &str) -> io::Result<()> {
    if rows.is_empty() {
        return line(nothing);
    }
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([head[column].len()]).max().unwrap_or_default()
        })
        .collect();
    row(&widths, &head.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>())?;
    rows.iter().try_for_each(|cells| row(&widths, cells))
}

fn row(widths: &[usize], cells: &[String]) -> io::Result<()> {
    let padded: Vec<String> =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    line(padded.join("  ").trim_end())
}

/// The member `name` as people read it; nothing is `-`.
pub(crate) fn text(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The names in the list `name`.
pub(crate) fn names(value: &Value, name: &str) -> Vec<String> {
    let list = value[name].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
}

/// The member `name`, seconds since the Unix epoch, as `2026-11-21 09:00:00Z`.
pub(crate) fn time(value: &Value, name: &str) -> String {
    value[name].as_f64().map_or_else(|| "-".into(), |seconds| utc(whole(seconds)))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times of this era fit")]
fn whole(seconds: f64) -> u64 {
    seconds.max(0.0) as u64
}

fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of so many days after 1970-01-01, in the Gregorian calendar. Years are counted from March, so
/// that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468; // from 0000-03-01
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let day = days + DAYS_TO_1970;
    let (era, day) = (day / DAYS_IN_400_YEARS, day % DAYS_IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day)
}

/// How long ago the member `name` (seconds since the Unix epoch) was.
pub(crate) fn age(value: &Value, name: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    value[name].as_f64().map_or_else(|| "-".into(), |then| span(whole(now - then)))
}

/// So many seconds in the largest unit that says enough.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A line on a terminal that is written over; nothing elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { shown: false }
    }

    /// Whether there is a terminal on which it shows.
    pub(crate) fn is_seen() -> bool {
        io::stderr().is_terminal()
    }

    /// Shows how far it is.
    pub(crate) fn show(&mut self, text: &str) {
        if Self::is_seen() {
            self.shown = true;
            _ = write!(io::stderr(), "\r\u{1b}[K{}", plain(text));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_dates() {
        for (seconds, expect) in [
            (0.0, "1970-01-01 00:00:00Z"),
            (951_782_400.0, "2000-02-29 00:00:00Z"),
            (1_709_251_199.9, "2024-02-29 23:59:59Z"),
            (1_795_338_443.0, "2026-11-22 09:07:23Z"),
            (4_107_542_400.0, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(time(&json!({ "at": seconds }), "at"), expect);
        }
        assert_eq!(time(&json!({}), "at"), "-");
    }

    #[test]
    fn others_texts_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2J\nb\u{202e}"), "a\\u{1b}[2J\\nb\\u{202e}");
    }

    #[test]
    fn spans_are_short() {
        let spans = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(span);
        assert_eq!(spans, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }
}
