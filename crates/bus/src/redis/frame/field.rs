//! The fields of a frame.

use bytes::Bytes;

/// Appends fields. What does not fit is remembered rather than answered each time.
pub(super) struct Writer<'a> {
    to: &'a mut Vec<u8>,
    fits: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(to: &'a mut Vec<u8>) -> Self {
        Self { to, fits: true }
    }

    pub(super) fn fits(&self) -> bool {
        self.fits
    }

    pub(super) fn written(&self) -> usize {
        self.to.len()
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.to.push(value);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.to.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u128(&mut self, value: u128) {
        self.to.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn optional_u64(&mut self, value: Option<u64>) {
        self.bool(value.is_some());
        if let Some(value) = value {
            self.u64(value);
        }
    }

    /// A text of at most 255 bytes.
    pub(super) fn short_text(&mut self, text: &str) {
        match u8::try_from(text.len()) {
            Ok(length) => self.u8(length),
            Err(_) => return self.fits = false,
        }
        self.to.extend_from_slice(text.as_bytes());
    }

    /// A text of at most 65,535 bytes.
    pub(super) fn text(&mut self, text: &str) {
        match u16::try_from(text.len()) {
            Ok(length) => self.to.extend_from_slice(&length.to_le_bytes()),
            Err(_) => return self.fits = false,
        }
        self.to.extend_from_slice(text.as_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.to.extend_from_slice(bytes);
    }

    fn length(&mut self, length: usize) {
        match u32::try_from(length) {
            Ok(length) => self.to.extend_from_slice(&length.to_le_bytes()),
            Err(_) => self.fits = false,
        }
    }

    /// Each item with its length, so that a later version may append fields to it too.
    pub(super) fn each<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.length(items.len());
        for item in items {
            let at = self.to.len();
            self.length(0);
            let start = self.to.len();
            write(self, item);
            match u32::try_from(self.to.len() - start) {
                Ok(length) => self.to[at..start].copy_from_slice(&length.to_le_bytes()),
                Err(_) => self.fits = false,
            }
        }
    }
}

/// Takes fields; `None` when one is not there.
pub(super) struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(frame: &'a Bytes, at: usize) -> Self {
        Self { frame, at, end: frame.len() }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.end)?;
        let taken = &self.frame[self.at..end];
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn bool(&mut self) -> Option<bool> {
        self.u8().map(|byte| byte != 0)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// What [`Writer::optional_u64`] wrote, if it is there.
    #[expect(clippy::option_option, reason = "outside: whether the field is there; inside: what it says")]
    pub(super) fn optional_u64(&mut self) -> Option<Option<u64>> {
        if self.bool()? { self.u64().map(Some) } else { Some(None) }
    }

    fn length(&mut self) -> Option<usize> {
        self.array().map(u32::from_le_bytes).and_then(|length| usize::try_from(length).ok())
    }

    pub(super) fn short_text(&mut self) -> Option<&'a str> {
        let length = self.u8()?;
        std::str::from_utf8(self.take(usize::from(length))?).ok()
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.array().map(u16::from_le_bytes)?;
        std::str::from_utf8(self.take(usize::from(length))?).ok()
    }

    /// A text that stays where it is in the frame.
    pub(super) fn text_bytes(&mut self) -> Option<Bytes> {
        let length = self.length()?;
        let start = self.at;
        std::str::from_utf8(self.take(length)?).ok()?;
        Some(self.frame.slice(start..self.at))
    }

    pub(super) fn each<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.length()?;
        // Room comes with the items: a count alone is no reason to believe it.
        let mut items = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let length = self.length()?;
            let start = self.at;
            self.take(length)?;
            items.push(read(&mut Reader { frame: self.frame, at: start, end: self.at })?);
        }
        Some(items)
    }
}
