//! From text to types. The error texts end the sentence `"…" …`, and say what would be right.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use heliograph_auth::secret::Secret;
use ipnet::IpNet;

use super::setting::Exposure;

/// A value as it was given: one text, or a list where the source has lists.
#[derive(Clone)]
pub enum Raw {
    /// One text; a list is separated by commas.
    Text(String),
    /// A TOML array.
    List(Vec<String>),
}

/// A type with one value per setting.
pub trait Scalar: Sized {
    /// The words for the type.
    const KIND: &'static str;
    /// How much of a value may be shown.
    const EXPOSURE: Exposure = Exposure::Plain;

    /// Reads it. On failure: the end of a sentence that begins with the value, without repeating the value.
    fn parse(text: &str) -> Result<Self, String>;
}

/// What a setting can be: a [`Scalar`], perhaps one, or several.
pub trait FromText: Sized {
    /// How much of a value may be shown.
    const EXPOSURE: Exposure;

    /// The words for the type.
    fn kind() -> String;

    /// The value when none is given; `None` when there has to be one.
    fn absent() -> Option<Self>;

    /// Reads it. On failure: the wrong text, if it is a part of the whole, and what is wrong with it.
    fn read(raw: &Raw) -> Result<Self, Wrong>;
}

/// Why a text cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The part that is wrong.
    pub text: String,
    /// The end of the sentence.
    pub why: String,
}

impl<T: Scalar> FromText for T {
    const EXPOSURE: Exposure = T::EXPOSURE;

    fn kind() -> String {
        T::KIND.to_owned()
    }

    fn absent() -> Option<Self> {
        None
    }

    fn read(raw: &Raw) -> Result<Self, Wrong> {
        match raw {
            Raw::Text(text) => T::parse(text.trim()).map_err(|why| Wrong { text: text.clone(), why }),
            Raw::List(items) => Err(Wrong {
                text: format!("[{}]", items.join(", ")),
                why: "is a list; give one value".into(),
            }),
        }
    }
}

impl<T: Scalar> FromText for Option<T> {
    const EXPOSURE: Exposure = T::EXPOSURE;

    fn kind() -> String {
        <T as FromText>::kind()
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn read(raw: &Raw) -> Result<Self, Wrong> {
        <T as FromText>::read(raw).map(Some)
    }
}

impl<T: Scalar> FromText for Vec<T> {
    const EXPOSURE: Exposure = T::EXPOSURE;

    fn kind() -> String {
        format!("list: {}", T::KIND)
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn read(raw: &Raw) -> Result<Self, Wrong> {
        let items: Vec<&str> = match raw {
            Raw::Text(text) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect(),
            Raw::List(items) => items.iter().map(|item| item.trim()).collect(),
        };
        items
            .into_iter()
            .map(|item| T::parse(item).map_err(|why| Wrong { text: item.to_owned(), why }))
            .collect()
    }
}

impl Scalar for SocketAddr {
    const KIND: &'static str = "address and port";

    fn parse(text: &str) -> Result<Self, String> {
        let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        numeric
            .as_deref()
            .unwrap_or(text)
            .parse()
            .map_err(|_| "is not an address with a port; write it like 127.0.0.1:8080 or [::]:8080".into())
    }
}

impl Scalar for Duration {
    const KIND: &'static str = "duration";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || "is not a duration; write it like 3s, 10m or 500ms (a plain number is seconds)".to_owned();
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let seconds = match unit {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        let duration = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        if duration > LONGEST {
            return Err("is longer than a year".into());
        }
        // To the millisecond: what binary fractions add to `0.3s` helps nobody.
        Ok(Duration::from_millis(
            u64::try_from((duration + HALF_A_MILLISECOND).as_millis()).unwrap_or(u64::MAX),
        ))
    }
}

/// Far below the range in which adding to a point in time could overflow.
const LONGEST: Duration = Duration::from_hours(366 * 24);
const HALF_A_MILLISECOND: Duration = Duration::from_micros(500);

/// The shortest text that [`Duration`] is read from.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".into(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.replace('_', "").parse().ok()?;
    Some((number, unit.trim_start()))
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub usize);

impl Scalar for ByteSize {
    const KIND: &'static str = "bytes";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "is not a size; write it like 65536, 64KiB or 1MiB".to_owned();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: usize = number.replace('_', "").parse().map_err(|_| wrong())?;
        let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "kb" => 1_000,
            "m" | "mib" => 1 << 20,
            "mb" => 1_000_000,
            "g" | "gib" => 1 << 30,
            "gb" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(|| "is too large".into())
    }
}

impl Scalar for bool {
    const KIND: &'static str = "`true` or `false`";

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err("is neither true nor false".into()),
        }
    }
}

impl Scalar for PathBuf {
    const KIND: &'static str = "path";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("is not a path".into()) } else { Ok(text.into()) }
    }
}

impl Scalar for Secret {
    const KIND: &'static str = "secret";
    const EXPOSURE: Exposure = Exposure::Hidden;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("is empty".into()) } else { Ok(Self::new(text)) }
    }
}

impl Scalar for IpNet {
    const KIND: &'static str = "network";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |_| "is not a network; write it like 10.0.0.0/8 or 2001:db8::1".to_owned();
        match text.parse() {
            Ok(network) => Ok(network),
            Err(_) => text.parse::<IpAddr>().map(Self::from).map_err(wrong),
        }
    }
}

/// A share from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(pub f64);

impl Scalar for Ratio {
    const KIND: &'static str = "0 to 1";

    fn parse(text: &str) -> Result<Self, String> {
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.map(Self).ok_or_else(|| "is not a number from 0 to 1".into())
    }
}

/// Implements [`Scalar`] for an enum of words.
macro_rules! words {
    ($type:ty: $kind:literal, $($word:literal => $variant:expr),+) => {
        impl $crate::config::value::Scalar for $type {
            const KIND: &'static str = $kind;

            fn parse(text: &str) -> Result<Self, String> {
                match text.to_ascii_lowercase().as_str() {
                    $($word => Ok($variant),)+
                    _ => Err(concat!("is none of ", $kind).replace('`', "")),
                }
            }
        }
    };
}
pub(super) use words;
