//! Lines from a program: a bound on their length, and no memory for what is beyond.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// A line's memory is given back above this many bytes.
const USUAL: usize = 64 * 1024;

/// Reads lines of at most `most` bytes.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: BufReader<R>,
    line: Vec<u8>,
    most: usize,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read<'a> {
    /// A line, without its end; or what stood there when the program ended.
    Line(&'a [u8]),
    /// The line was longer than allowed. It has been read to its end and forgotten.
    TooLong,
    /// There is no more.
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(source: R, most: usize) -> Self {
        Self { source: BufReader::new(source), line: vec![], most }
    }

    /// The next line. Not to be called again once it was cancelled: half a line would be lost.
    pub(super) async fn next(&mut self) -> io::Result<Read<'_>> {
        self.line.clear();
        self.line.shrink_to(USUAL);
        let mut is_too_long = false;
        loop {
            let chunk = self.source.fill_buf().await?;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let is_over = end.is_some() || chunk.is_empty();
            let was_there = !chunk.is_empty();
            let part = &chunk[..end.unwrap_or(chunk.len())];
            is_too_long |= self.line.len() + part.len() > self.most;
            if is_too_long {
                self.line.clear();
            } else {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.source.consume(used);
            if is_over {
                return Ok(match (is_too_long, was_there || !self.line.is_empty()) {
                    (true, _) => Read::TooLong,
                    (false, true) => Read::Line(&self.line),
                    (false, false) => Read::End,
                });
            }
        }
    }
}
