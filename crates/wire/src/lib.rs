//! The dialects: bytes to core messages and back, as pure codecs.
