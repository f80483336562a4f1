//! What must not be seen, and how the rest is written.

use std::fmt::{self, Write};

/// What stands in the place of a secret.
pub(super) const HIDDEN: &str = "•••";

/// Fields whose value is never shown. Only a name can be judged: a value looks like any other.
const SECRET_NAMES: [&str; 12] = [
    "token",
    "code",
    "key",
    "secret",
    "sdp",
    "candidate",
    "authorization",
    "password",
    "credential",
    "cookie",
    "api_key",
    "jwt",
];
/// Ends of such names, as in `device_token`.
const SECRET_ENDS: [&str; 5] = ["_token", "_secret", "_password", "_key", "_credential"];

/// Whether the value of the field `name` must not be seen. Of a dotted name the last part counts.
pub(super) fn is_secret(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let is = |secret: &&str| same(last, secret);
    let ends = |end: &&str| {
        last.len() >= end.len()
            && last.is_char_boundary(last.len() - end.len())
            && same(&last[last.len() - end.len()..], end)
    };
    SECRET_NAMES.iter().any(is) || SECRET_ENDS.iter().any(ends)
}

/// Equal but for case, and for `-` in the place of `_`.
fn same(name: &str, secret: &str) -> bool {
    let plain = |byte: u8| if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
    name.len() == secret.len() && name.bytes().map(plain).eq(secret.bytes())
}

/// Characters that could end a line, hide text or steer a terminal.
fn is_treacherous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes text with treacherous characters escaped, so that no value can look like another line.
pub(super) struct Plain<'a>(pub(super) &'a mut dyn Write);

impl Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text, is_treacherous, |out, c| write!(out, "{}", c.escape_default()))
    }
}

/// Writes the inside of a JSON string.
pub(super) struct Json<'a>(pub(super) &'a mut dyn Write);

impl Write for Json<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let special = |c| is_treacherous(c) || c == '"' || c == '\\';
        escape(self.0, text, special, |out, c| match c {
            '"' | '\\' => write!(out, "\\{c}"),
            '\n' => out.write_str("\\n"),
            _ => write!(out, "\\u{:04x}", u32::from(c)),
        })
    }
}

/// Writes the stretches between special characters whole.
fn escape(
    out: &mut dyn Write,
    text: &str,
    special: impl Fn(char) -> bool,
    escaped: impl Fn(&mut dyn Write, char) -> fmt::Result,
) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(&special) {
        let (plain, tail) = rest.split_at(at);
        out.write_str(plain)?;
        let mut chars = tail.chars();
        if let Some(c) = chars.next() {
            escaped(out, c)?;
        }
        rest = chars.as_str();
    }
    out.write_str(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_names_are_known_in_any_spelling() {
        for name in [
            "token",
            "Token",
            "device_token",
            "http.request.header.authorization",
            "x-api-key",
            "sdp",
            "resume-token",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["tokens", "key_id", "peer", "status_code", "message", "keys", "", "é_kéy", "€n"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn lines_cannot_be_forged() {
        let evil = "a\nINFO all is well\u{1b}[2J\u{9b}\u{202e}\"\\";
        let mut plain = String::new();
        Plain(&mut plain).write_str(evil).unwrap();
        assert_eq!(plain, "a\\nINFO all is well\\u{1b}[2J\\u{9b}\\u{202e}\"\\");
        let mut json = String::new();
        Json(&mut json).write_str(evil).unwrap();
        assert_eq!(serde_json::from_str::<String>(&format!("\"{json}\"")).unwrap(), evil);
        assert!(!json.chars().any(is_treacherous));
    }
}
