//! WebSocket frames (RFC 6455 section 5) as a client writes and reads them: no more than a load generator needs.

use bytes::{Buf, Bytes, BytesMut};

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Instead of a length: the length follows in two bytes, or in eight.
const LENGTH_IN_TWO: u8 = 126;
const LENGTH_IN_EIGHT: u8 = 127;
/// Longest frame that is believed, in bytes; a list of a mesh of 10,000 is far smaller.
const MAX_FRAME: u64 = 16 * 1024 * 1024;

/// The bytes of a masked text frame, ready to be written as often as one likes.
pub fn text(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    frame(TEXT, payload, mask)
}

/// A masked pong that answers `payload`.
pub fn pong(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    frame(PONG, payload, mask)
}

/// A masked close frame with `code`.
pub fn close(code: u16, mask: [u8; 4]) -> Vec<u8> {
    frame(CLOSE, &code.to_be_bytes(), mask)
}

fn frame(opcode: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 14);
    bytes.push(FIN | opcode);
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < LENGTH_IN_TWO => bytes.push(MASKED | short),
        (_, Ok(middle)) => {
            bytes.push(MASKED | LENGTH_IN_TWO);
            bytes.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            bytes.push(MASKED | LENGTH_IN_EIGHT);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// What a server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A whole text message.
    Text(Bytes),
    /// To be answered with the same payload.
    Ping(Bytes),
    /// The end, with its code (1005 when there was none).
    Close(u16),
    /// What a load generator does not care about.
    Other,
}

/// The server broke the protocol, or uses a part of it that this client does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadFrame(&'static str);

impl std::fmt::Display for BadFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server sent {}", self.0)
    }
}

impl std::error::Error for BadFrame {}

/// Takes one frame off the front of `buffer`; `None` while it is not whole.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, BadFrame> {
    let Some((&[first, second], rest)) = buffer.split_first_chunk::<2>() else { return Ok(None) };
    if second & MASKED != 0 {
        return Err(BadFrame("a masked frame"));
    }
    let (header, length) = match second {
        LENGTH_IN_TWO => match rest.first_chunk() {
            Some(&bytes) => (4, u64::from(u16::from_be_bytes(bytes))),
            None => return Ok(None),
        },
        LENGTH_IN_EIGHT => match rest.first_chunk() {
            Some(&bytes) => (10, u64::from_be_bytes(bytes)),
            None => return Ok(None),
        },
        short => (2, u64::from(short)),
    };
    if length > MAX_FRAME {
        return Err(BadFrame("a frame of more than 16 MiB"));
    }
    let length = usize::try_from(length).map_err(|_| BadFrame("a frame too long for this machine"))?;
    if buffer.len() < header + length {
        return Ok(None);
    }
    if first & FIN == 0 {
        return Err(BadFrame("a message in fragments"));
    }
    buffer.advance(header);
    let payload = buffer.split_to(length).freeze();
    Ok(Some(match first & 0x0F {
        TEXT => Frame::Text(payload),
        PING => Frame::Ping(payload),
        CLOSE => Frame::Close(payload.first_chunk().map_or(1005, |&code| u16::from_be_bytes(code))),
        _ => Frame::Other,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    #[test]
    fn a_short_text_is_masked() {
        assert_eq!(text(b"Hello", [0x37, 0xfa, 0x21, 0x3d]), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    }

    #[test]
    fn lengths_take_as_many_bytes_as_they_need() {
        let head = |length| text(&vec![0; length], MASK);
        assert_eq!(head(125)[..2], [0x81, 0xfd]);
        assert_eq!(head(126)[..4], [0x81, 0xfe, 0, 126]);
        assert_eq!(head(65_535)[..4], [0x81, 0xfe, 0xff, 0xff]);
        assert_eq!(head(65_536)[..10], [0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(head(65_536).len(), 65_536 + 14);
    }

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let stream =
            [b"\x81\x02hi".as_slice(), b"\x89\x01p", b"\x88\x02\x11\x2a", b"\x88\x00", b"\x8a\x00"].concat();
        let mut buffer = BytesMut::new();
        let mut frames = vec![];
        for byte in stream {
            buffer.extend_from_slice(&[byte]);
            frames.extend(decode(&mut buffer).unwrap());
        }
        let hi = Frame::Text(Bytes::from_static(b"hi"));
        let ping = Frame::Ping(Bytes::from_static(b"p"));
        assert_eq!(frames, [hi, ping, Frame::Close(4394), Frame::Close(1005), Frame::Other]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn long_frames_are_read() {
        for length in [126_usize, 65_535, 65_536] {
            let mut bytes = vec![0x81];
            if let Ok(middle @ ..=65_535) = u16::try_from(length) {
                bytes.push(126);
                bytes.extend_from_slice(&middle.to_be_bytes());
            } else {
                bytes.push(127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
            bytes.resize(bytes.len() + length, b'x');
            let mut buffer = BytesMut::from(&bytes[..]);
            let Some(Frame::Text(payload)) = decode(&mut buffer).unwrap() else { panic!("no text") };
            assert_eq!(payload.len(), length);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(decode(&mut BytesMut::from(&b"\x81\x81abcdx"[..])).is_err());
        assert!(decode(&mut BytesMut::from(&b"\x01\x01x"[..])).is_err());
        assert!(decode(&mut BytesMut::from(&b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff"[..])).is_err());
    }
}
