//! The part of RESP3 that the message path speaks (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
//!
//! The path has connections of its own, because what it needs is small and exact: replies matched to messages in the
//! order of writing, pushes that are never taken for replies (a server that moves a slot unsubscribes on its own), and
//! a deadline on every wait. All else uses the client library.

use super::keys::write_number;

/// Deepest nesting that is read; what we ask for nests three levels.
const MAX_DEPTH: usize = 8;
/// Longest bulk string that is read, in bytes: no frame of ours is longer.
pub(crate) const MAX_BULK: usize = 32 * 1024 * 1024;
/// Most elements of one aggregate: `CLUSTER SLOTS` of a large cluster has some thousands.
const MAX_ELEMENTS: usize = 1 << 20;

/// A value as it stands in the read buffer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    /// A simple, bulk or verbatim string.
    Text(&'a [u8]),
    /// An error, with its code in front.
    Error(&'a [u8]),
    Number(i64),
    /// Null, and what we have no use for: doubles, booleans, big numbers.
    Other,
    Array(Vec<Value<'a>>),
    /// Keys and values in turn.
    Map(Vec<Value<'a>>),
    /// Not a reply.
    Push(Vec<Value<'a>>),
}

impl<'a> Value<'a> {
    pub(crate) fn text(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self) -> Option<i64> {
        match *self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }

    pub(crate) fn elements(&self) -> &[Value<'a>] {
        match self {
            Self::Array(elements) | Self::Map(elements) | Self::Push(elements) => elements,
            _ => &[],
        }
    }

    /// The value of a key of a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.elements()
            .chunks_exact(2)
            .find(|pair| pair[0].text() == Some(key.as_bytes()))
            .map(|pair| &pair[1])
    }
}

/// What came in is not RESP3, or is larger than anything that we asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server answered something that is not RESP3")]
pub(crate) struct Malformed;

/// The first value in the buffer and its length; `None` while it is not all there.
pub(crate) fn parse(buffer: &[u8]) -> Result<Option<(Value<'_>, usize)>, Malformed> {
    let mut reader = Reader { buffer, at: 0 };
    match reader.value(0) {
        Ok(value) => Ok(Some((value, reader.at))),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Malformed) => Err(Malformed),
    }
}

enum Stop {
    Incomplete,
    Malformed,
}

struct Reader<'a> {
    buffer: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value<'a>, Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Malformed);
        }
        let (kind, rest) = self.line()?.split_first().ok_or(Stop::Malformed)?;
        Ok(match kind {
            b'+' => Value::Text(rest),
            b'-' => Value::Error(rest),
            b':' => Value::Number(number(rest)?),
            b'$' | b'=' => self.bulk(rest)?.map_or(Value::Other, Value::Text),
            b'!' => self.bulk(rest)?.map_or(Value::Other, Value::Error),
            b'_' | b'#' | b',' | b'(' => Value::Other,
            b'*' | b'~' => self.elements(rest, 1, depth)?.map_or(Value::Other, Value::Array),
            b'%' => self.elements(rest, 2, depth)?.map_or(Value::Other, Value::Map),
            b'>' => self.elements(rest, 1, depth)?.map_or(Value::Other, Value::Push),
            _ => return Err(Stop::Malformed),
        })
    }

    fn line(&mut self) -> Result<&'a [u8], Stop> {
        /// No line that we ask for is longer; errors are cut by the server.
        const MAX_LINE: usize = 64 * 1024;
        let rest = &self.buffer[self.at..];
        let Some(end) = rest.iter().take(MAX_LINE).position(|&byte| byte == b'\n') else {
            return Err(if rest.len() < MAX_LINE { Stop::Incomplete } else { Stop::Malformed });
        };
        self.at += end + 1;
        rest[..end].strip_suffix(b"\r").ok_or(Stop::Malformed)
    }

    fn bulk(&mut self, length: &[u8]) -> Result<Option<&'a [u8]>, Stop> {
        let Some(length) = size(length, MAX_BULK)? else { return Ok(None) };
        let rest = &self.buffer[self.at..];
        let text = rest.get(..length).ok_or(Stop::Incomplete)?;
        match rest.get(length..length + 2).ok_or(Stop::Incomplete)? {
            b"\r\n" => {
                self.at += length + 2;
                Ok(Some(text))
            }
            _ => Err(Stop::Malformed),
        }
    }

    fn elements(&mut self, count: &[u8], each: usize, depth: usize) -> Result<Option<Vec<Value<'a>>>, Stop> {
        let Some(count) = size(count, MAX_ELEMENTS)? else { return Ok(None) };
        let count = count * each;
        // An element takes four bytes at least, so that a large count alone makes no room.
        let mut elements = Vec::with_capacity(count.min((self.buffer.len() - self.at) / 4 + 1));
        for _ in 0..count {
            elements.push(self.value(depth + 1)?);
        }
        Ok(Some(elements))
    }
}

fn number(text: &[u8]) -> Result<i64, Stop> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Stop::Malformed)
}

/// A length; `None` is the null of RESP2.
fn size(text: &[u8], most: usize) -> Result<Option<usize>, Stop> {
    if text == b"-1" {
        return Ok(None);
    }
    let size = usize::try_from(number(text)?).map_err(|_| Stop::Malformed)?;
    if size > most { Err(Stop::Malformed) } else { Ok(Some(size)) }
}

/// Begins a command of `count` arguments.
pub(crate) fn write_command(to: &mut Vec<u8>, count: usize) {
    to.push(b'*');
    write_number(to, count);
    to.extend_from_slice(b"\r\n");
}

/// Appends an argument.
pub(crate) fn write_argument(to: &mut Vec<u8>, argument: &[u8]) {
    to.push(b'$');
    write_number(to, argument.len());
    to.extend_from_slice(b"\r\n");
    to.extend_from_slice(argument);
    to.extend_from_slice(b"\r\n");
}

/// A whole command.
pub(crate) fn command(arguments: &[&[u8]]) -> Vec<u8> {
    let mut to = Vec::with_capacity(16 + arguments.iter().map(|argument| argument.len() + 16).sum::<usize>());
    write_command(&mut to, arguments.len());
    for argument in arguments {
        write_argument(&mut to, argument);
    }
    to
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(wire: &[u8], expect: &Value<'_>) {
        assert_eq!(parse(wire), Ok(Some((expect.clone(), wire.len()))));
        for cut in 0..wire.len() {
            assert_eq!(parse(&wire[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn every_kind_is_read_and_waited_for() {
        check(b"+OK\r\n", &Value::Text(b"OK"));
        check(b"-MOVED 1 a:2\r\n", &Value::Error(b"MOVED 1 a:2"));
        check(b":-7\r\n", &Value::Number(-7));
        check(b"$5\r\na\r\nbc\r\n", &Value::Text(b"a\r\nbc"));
        check(b"$-1\r\n", &Value::Other);
        check(b"_\r\n", &Value::Other);
        check(b"*2\r\n:1\r\n*0\r\n", &Value::Array(vec![Value::Number(1), Value::Array(vec![])]));
        check(
            b">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n",
            &Value::Push(vec![Value::Text(b"smessage"), Value::Text(b"c"), Value::Text(b"hi")]),
        );
        check(b"%1\r\n+role\r\n+master\r\n", &Value::Map(vec![Value::Text(b"role"), Value::Text(b"master")]));
    }

    #[test]
    fn what_is_too_large_or_nonsense_is_refused() {
        for wire in
            ["?x\r\n", "$33554433\r\n", "$-2\r\n", ":x\r\n", "*1048577\r\n", "+a\n", "$1\r\nabc\r\n", "\r\n"]
        {
            assert_eq!(parse(wire.as_bytes()), Err(Malformed), "{wire:?}");
        }
        assert_eq!(parse("*1\r\n".repeat(20).as_bytes()), Err(Malformed));
        assert_eq!(parse(&vec![b'+'; 70_000]), Err(Malformed));
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        assert_eq!(command(&[b"GET", b"a\r\n"]), b"*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n");
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _any_answer = parse(&bytes);
        }

        #[test]
        fn what_is_written_can_be_read(arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5)) {
            let borrowed: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
            let wire = command(&borrowed);
            let expect = Value::Array(borrowed.iter().map(|text| Value::Text(text)).collect());
            prop_assert_eq!(parse(&wire), Ok(Some((expect, wire.len()))));
        }
    }
}
