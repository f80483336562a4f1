//! Descriptions and candidates as they travel through the service: `{"sdp": …}` and what `RTCIceCandidate.toJSON()` gives.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::rtc::Candidate;

/// One message of a negotiation. `Debug` shows no content.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Signal {
    /// An SDP text.
    Offer(String),
    /// An SDP text.
    Answer(String),
    /// A candidate.
    Candidate(Candidate),
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signal({})", self.kind())
    }
}

#[derive(Serialize, Deserialize)]
struct Description {
    sdp: String,
}

#[derive(Deserialize)]
struct Received {
    candidate: String,
    #[serde(rename = "sdpMid", default)]
    mid: Value,
    #[serde(rename = "sdpMLineIndex", default)]
    index: Value,
}

#[derive(Serialize)]
struct Sent<'a> {
    candidate: &'a str,
    #[serde(rename = "sdpMid")]
    mid: Option<&'a str>,
    #[serde(rename = "sdpMLineIndex")]
    index: Option<u16>,
}

impl Signal {
    /// Reads a message of a peer; `None` if it is none of a negotiation, or not one that can be read.
    pub(crate) fn parse(kind: &str, payload: &RawValue) -> Option<Self> {
        let description = || serde_json::from_str::<Description>(payload.get()).ok();
        match kind {
            "offer" => Some(Self::Offer(description()?.sdp)),
            "answer" => Some(Self::Answer(description()?.sdp)),
            "ice_candidate" => {
                let received: Received = serde_json::from_str(payload.get()).ok()?;
                // The original sidecar sends an empty name; only the number means something there.
                let mid = received.mid.as_str().filter(|mid| !mid.is_empty()).map(str::to_owned);
                let index = received.index.as_u64().and_then(|index| u16::try_from(index).ok());
                let index = if mid.is_none() { index.or(Some(0)) } else { index };
                Some(Self::Candidate(Candidate { text: received.candidate, mid, index }))
            }
            _ => None,
        }
    }

    /// The type of the message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Offer(_) => "offer",
            Self::Answer(_) => "answer",
            Self::Candidate(_) => "ice_candidate",
        }
    }

    /// The payload of the message.
    pub(crate) fn payload(&self) -> Box<RawValue> {
        let payload = match self {
            Self::Offer(sdp) | Self::Answer(sdp) => to_raw_value(&Description { sdp: sdp.clone() }),
            Self::Candidate(Candidate { text, mid, index }) => {
                to_raw_value(&Sent { candidate: text, mid: mid.as_deref(), index: *index })
            }
        };
        // Texts and numbers always are JSON.
        payload.unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, payload: &str) -> Option<Signal> {
        Signal::parse(kind, &RawValue::from_string(payload.to_owned()).unwrap())
    }

    fn candidate(mid: Option<&str>, index: Option<u16>) -> Signal {
        Signal::Candidate(Candidate { text: "c".into(), mid: mid.map(Into::into), index })
    }

    #[test]
    fn what_is_written_is_read() {
        let all = [
            Signal::Offer("v=0\r\n".into()),
            Signal::Answer("v=0\r\n".into()),
            candidate(Some("0"), Some(0)),
        ];
        for signal in all {
            assert_eq!(Signal::parse(signal.kind(), &signal.payload()), Some(signal));
        }
    }

    #[test]
    fn candidates_of_every_client_are_read() {
        let check = |given: &str, expect: Option<Signal>| {
            assert_eq!(parse("ice_candidate", given), expect, "{given}");
        };
        check(
            r#"{"candidate":"c","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"x"}"#,
            Some(candidate(Some("0"), Some(0))),
        );
        check(r#"{"candidate":"c","sdpMid":"","sdpMLineIndex":1}"#, Some(candidate(None, Some(1))));
        check(r#"{"candidate":"c","sdpMid":null,"sdpMLineIndex":null}"#, Some(candidate(None, Some(0))));
        check(r#"{"candidate":"c","sdpMid":"0"}"#, Some(candidate(Some("0"), None)));
        check(r#"{"candidate":"c","sdpMid":7,"sdpMLineIndex":-1}"#, Some(candidate(None, Some(0))));
        check(r#"{"candidate":null}"#, None);
        check("null", None);
        check("[]", None);
    }

    #[test]
    fn what_is_no_description_is_not_read() {
        for payload in ["null", "1", "{}", r#"{"sdp":1}"#, r#"{"sdp":null}"#] {
            assert_eq!(parse("offer", payload), None, "{payload}");
            assert_eq!(parse("answer", payload), None, "{payload}");
        }
        assert_eq!(parse("chat", r#"{"sdp":"v=0"}"#), None);
    }

    #[test]
    fn debug_shows_no_content() {
        let signal = parse("offer", r#"{"sdp":"very private"}"#).unwrap();
        assert_eq!(format!("{signal:?} {:?}", candidate(None, None)), "Signal(offer) Signal(ice_candidate)");
    }
}
