//! Redis's protocol (RESP2) as far as a benchmark needs it: commands of byte strings out, replies in.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// Longest reply or part of one that is believed, in bytes.
const MAX_LENGTH: usize = 16 * 1024 * 1024;
/// Most elements of an array, and deepest nesting.
const MAX_ELEMENTS: usize = 1_024;
const MAX_DEPTH: usize = 4;

/// A reply, or what a subscription pushes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A status such as `OK`.
    Status(Bytes),
    /// The command failed.
    Error(Bytes),
    /// A whole number.
    Integer(i64),
    /// A string; `None` is null.
    Text(Option<Bytes>),
    /// Several.
    Array(Vec<Self>),
}

/// Redis sent what is not its protocol, or more than is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadReply(&'static str);

impl fmt::Display for BadReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis sent {}", self.0)
    }
}

impl std::error::Error for BadReply {}

/// Appends a command to what is to be written.
pub(crate) fn command(out: &mut BytesMut, parts: &[&[u8]]) {
    header(out, b'*', parts.len());
    for part in parts {
        header(out, b'$', part.len());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

fn header(out: &mut BytesMut, kind: u8, length: usize) {
    // A length has at most twenty digits; they are made from the last to the first.
    let (mut digits, mut first, mut rest) = ([0_u8; 20], 20, length);
    while first > 0 {
        first -= 1;
        digits[first] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&[kind]);
    out.extend_from_slice(&digits[first..]);
    out.extend_from_slice(b"\r\n");
}

/// Takes one reply off the front of `buffer`; `None` while it is not whole.
pub(crate) fn decode(buffer: &mut BytesMut) -> Result<Option<Reply>, BadReply> {
    let Some(length) = measure(buffer, 0, 0)? else { return Ok(None) };
    let mut whole = buffer.split_to(length).freeze();
    Ok(take(&mut whole))
}

/// Where the reply that begins at `at` ends; `None` while it is not whole.
fn measure(bytes: &[u8], at: usize, depth: usize) -> Result<Option<usize>, BadReply> {
    let Some((kind, line, mut end)) = line(bytes, at)? else { return Ok(None) };
    match kind {
        b'+' | b'-' => {}
        b':' => {
            number(line)?;
        }
        b'$' => {
            if let Some(length) = length(line, MAX_LENGTH)? {
                end += length + 2;
            }
        }
        b'*' => {
            if depth == MAX_DEPTH {
                return Err(BadReply("a reply that is nested too deep"));
            }
            for _ in 0..length(line, MAX_ELEMENTS)?.unwrap_or(0) {
                match measure(bytes, end, depth + 1)? {
                    Some(next) => end = next,
                    None => return Ok(None),
                }
            }
        }
        _ => return Err(BadReply("a reply of an unknown kind")),
    }
    Ok((end <= bytes.len()).then_some(end))
}

/// A kind, the rest of its line, and where the next line begins.
type Line<'a> = (u8, &'a [u8], usize);

/// The line that begins at `at`.
fn line(bytes: &[u8], at: usize) -> Result<Option<Line<'_>>, BadReply> {
    let Some((&kind, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) else { return Ok(None) };
    let Some(length) = rest.windows(2).position(|two| two == b"\r\n") else {
        if rest.len() > MAX_LENGTH {
            return Err(BadReply("a line without an end"));
        }
        return Ok(None);
    };
    Ok(Some((kind, &rest[..length], at + length + 3)))
}

fn number(line: &[u8]) -> Result<i64, BadReply> {
    let text = std::str::from_utf8(line).ok();
    text.and_then(|text| text.parse().ok()).ok_or(BadReply("a strange number"))
}

/// A length of at most `most`; `None` stands for null.
fn length(line: &[u8], most: usize) -> Result<Option<usize>, BadReply> {
    match number(line)? {
        -1 => Ok(None),
        length => usize::try_from(length)
            .ok()
            .filter(|&length| length <= most)
            .map(Some)
            .ok_or(BadReply("a reply that is too long")),
    }
}

/// Takes apart what [`measure`] found to be whole.
fn take(whole: &mut Bytes) -> Option<Reply> {
    let (kind, text, end) = line(whole, 0).ok()??;
    let (text, value) = (1..1 + text.len(), number(text).ok());
    let reply = match kind {
        b'+' => Reply::Status(whole.slice(text)),
        b'-' => Reply::Error(whole.slice(text)),
        b':' => Reply::Integer(value?),
        b'$' => {
            let length = usize::try_from(value?).ok();
            whole.advance(end);
            let text = length.map(|length| whole.split_to(length));
            whole.advance(if text.is_some() { 2 } else { 0 });
            return Some(Reply::Text(text));
        }
        _ => {
            whole.advance(end);
            let count = usize::try_from(value?).unwrap_or(0);
            return (0..count).map(|_| take(whole)).collect::<Option<_>>().map(Reply::Array);
        }
    };
    whole.advance(end);
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Reply {
        Reply::Text(Some(Bytes::from_static(text.as_bytes())))
    }

    #[test]
    fn commands_state_their_lengths() {
        let mut out = BytesMut::new();
        command(&mut out, &[b"PUBLISH", b"peer", &[b'x'; 1_500]]);
        assert!(out.starts_with(b"*3\r\n$7\r\nPUBLISH\r\n$4\r\npeer\r\n$1500\r\nxxx"), "{out:?}");
        out.clear();
        command(&mut out, &[b""]);
        assert_eq!(&out[..], b"*1\r\n$0\r\n\r\n");
    }

    #[test]
    fn replies_come_whole_or_not_at_all() {
        let stream = b"+OK\r\n:42\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\nx\r\ny\r\n-ERR no\r\n$-1\r\n*-1\r\n$0\r\n\r\n*2\r\n:1\r\n*1\r\n+x\r\n";
        let mut buffer = BytesMut::new();
        let mut replies = vec![];
        for &byte in stream {
            buffer.extend_from_slice(&[byte]);
            replies.extend(decode(&mut buffer).unwrap());
        }
        let word = |word: &'static [u8]| Bytes::from_static(word);
        let expected = [
            Reply::Status(word(b"OK")),
            Reply::Integer(42),
            Reply::Array(vec![text("message"), text("a"), text("x\r\ny")]),
            Reply::Error(word(b"ERR no")),
            Reply::Text(None),
            Reply::Array(vec![]),
            text(""),
            Reply::Array(vec![Reply::Integer(1), Reply::Array(vec![Reply::Status(word(b"x"))])]),
        ];
        assert_eq!(replies, expected);
        assert!(buffer.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        let deep = "*1\r\n".repeat(MAX_DEPTH + 1);
        for nonsense in
            ["hello\r\n", "$99999999999\r\n", ":x\r\n", "*9999\r\n", "$-2\r\n", "$\r\n", deep.as_str()]
        {
            assert!(decode(&mut BytesMut::from(nonsense)).is_err(), "{nonsense:?}");
        }
    }
}
