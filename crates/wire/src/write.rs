//! What all encoders write with: straight into the buffer of the connection.

use serde::Serialize;

/// As it is.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// As JSON: texts and numbers need no memory of their own.
pub(crate) fn value(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Writing to a vector cannot fail, and nothing that is written here has keys that are not strings.
    let written = serde_json::to_writer(&mut *out, value);
    debug_assert!(written.is_ok(), "texts, numbers and Values always serialize");
}
