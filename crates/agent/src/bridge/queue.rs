//! What waits to be written to one program.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use super::forms::{self, Line, code};

/// Lines for one program, in order. Filling never waits: whoever fills waits for [`Queue::room`] afterwards, so that
/// a lock need not be held meanwhile.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: watch::Sender<Waiting>,
    most_lines: usize,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The first may be partly written.
    lines: VecDeque<Line>,
    bytes: usize,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// No more lines come; those that wait are written.
    Finished,
    /// The program did not read. What waits is not written any more.
    Cut,
}

/// How the writing to a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// All is written, or the program was cut off.
    Done,
    /// The program does not listen any more.
    Unheard,
}

impl Queue {
    pub(super) fn new(most_lines: usize, most_bytes: usize) -> Self {
        Self { waiting: watch::Sender::default(), most_lines, most_bytes }
    }

    /// One line more, beyond the bound too. A queue that is finished or cut takes none.
    pub(super) fn push(&self, line: Line) {
        self.waiting.send_if_modified(|waiting| {
            let takes = waiting.state == State::Open;
            if takes {
                waiting.bytes += line.len();
                waiting.lines.push_back(line);
            }
            takes
        });
    }

    /// Whether one more line is within the bound, or nobody waits for this program any more.
    pub(super) fn has_room(&self) -> bool {
        self.is_free(&self.waiting.borrow())
    }

    fn is_free(&self, waiting: &Waiting) -> bool {
        let is_full = waiting.lines.len() >= self.most_lines || waiting.bytes >= self.most_bytes;
        !is_full || waiting.state != State::Open
    }

    /// Returns when [`Self::has_room`].
    pub(super) async fn room(&self) {
        self.until(|waiting| self.is_free(waiting)).await;
    }

    /// No more lines; what waits is still written.
    pub(super) fn finish(&self) {
        self.waiting.send_if_modified(|waiting| {
            let is_open = waiting.state == State::Open;
            if is_open {
                waiting.state = State::Finished;
            }
            is_open
        });
    }

    /// No more lines, and what waits is forgotten.
    pub(super) fn cut(&self) {
        self.waiting.send_modify(|waiting| {
            waiting.state = State::Cut;
            waiting.lines.clear();
            waiting.bytes = 0;
        });
    }

    /// Writes lines as they come; returns when the queue is finished and empty, when it was cut and the program has
    /// been told (for which it gets `last_word`), or when the program does not listen any more.
    pub(super) async fn write_to(
        &self,
        socket: &mut (impl AsyncWrite + Unpin),
        last_word: Duration,
    ) -> Written {
        while let Some(line) = self.front().await {
            let mut rest = line.as_bytes();
            let was_written = tokio::select! {
                biased;
                () = self.until(Waiting::is_cut) => false,
                written = socket.write_all_buf(&mut rest) => match written {
                    Ok(()) => true,
                    Err(_gone) => return Written::Unheard,
                },
            };
            if !was_written {
                // A line that was begun is ended, or else the error would not be one.
                let is_begun = rest.len() < line.len();
                say_last(socket, if is_begun { rest } else { &[] }, last_word).await;
                return Written::Done;
            }
            self.pop();
        }
        if self.waiting.borrow().is_cut() {
            say_last(socket, &[], last_word).await;
        }
        Written::Done
    }

    /// The line to be written next, which stays in the queue and counts until it is written.
    async fn front(&self) -> Option<Line> {
        self.until(|waiting| !waiting.lines.is_empty() || waiting.state != State::Open).await;
        self.waiting.borrow().lines.front().cloned()
    }

    fn pop(&self) {
        self.waiting.send_modify(|waiting| {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
            }
        });
    }

    async fn until(&self, condition: impl Fn(&Waiting) -> bool) {
        // Fails when the sender is gone, which is `self`.
        let _ = self.waiting.subscribe().wait_for(condition).await;
    }
}

impl Waiting {
    fn is_cut(&self) -> bool {
        self.state == State::Cut
    }
}

/// `rest` and then why the program is cut off. It did not read for long: if it does not now either, so be it.
async fn say_last(socket: &mut (impl AsyncWrite + Unpin), rest: &[u8], at_most: Duration) {
    let message = "this program did not read what it was sent, and others had to wait for it; it is cut off";
    let error = forms::trouble(code::TOO_SLOW, message);
    let told = async {
        socket.write_all(rest).await?;
        socket.write_all(error.as_bytes()).await
    };
    let was_told = timeout(at_most, told).await.is_ok_and(|told| told.is_ok());
    tracing::debug!(was_told, "a local program was cut off");
}
