//! The end of what a program wrote.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// How much of a program's output is kept, in bytes; what is older goes first.
const KEPT: usize = 256 * 1024;

/// Reads a program's output as it comes, so that the program never blocks on it, and keeps the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    kept: Mutex<VecDeque<u8>>,
    complete: AtomicBool,
}

impl Tail {
    /// Reads from `source` until it ends, on a thread of its own: a program outlives the runtime of a test.
    pub(crate) fn of(mut source: impl Read + Send + 'static) -> std::io::Result<Self> {
        let tail = Self::default();
        let shared = Arc::clone(&tail.0);
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(read @ 1..) = source.read(&mut chunk) {
                let mut kept = shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&chunk[..read]);
                let too_many = kept.len().saturating_sub(KEPT);
                kept.drain(..too_many);
            }
            shared.complete.store(true, Ordering::Release);
        })?;
        Ok(tail)
    }

    /// What is kept.
    pub(crate) fn text(&self) -> String {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }

    /// Whether the source has ended, so that nothing more will come.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.complete.load(Ordering::Acquire)
    }
}
