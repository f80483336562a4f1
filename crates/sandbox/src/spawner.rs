//! One thread starts all programs.
//!
//! The kernel can end a program with its parent (`PR_SET_PDEATHSIG`), but the parent that it means is the *thread*
//! that started it. A test's thread ends with the test, so programs are started by a thread that lives as long as
//! the process. `setpriv` asks the kernel for it, which from Rust would need `unsafe`.

use std::io::{Error, Result};
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

type Order = (Command, SyncSender<Result<Child>>);

/// How many orders may wait; who orders more waits with them.
const ORDERS: usize = 16;

static SPAWNER: LazyLock<SyncSender<Order>> = LazyLock::new(|| {
    let (orders, taken) = sync_channel::<Order>(ORDERS);
    let thread = thread::Builder::new().name("spawner".to_owned());
    // Without the thread the channel is closed, which `spawn` reports.
    let _started = thread.spawn(move || {
        for (mut command, answer) in taken {
            // Whoever asked may have gone; the handle is dropped then and its program with it.
            let _ = answer.send(command.spawn());
        }
    });
    orders
});

/// Starts a program as a child of the thread that lives as long as this process.
pub(crate) fn spawn(command: Command) -> Result<Child> {
    let gone = || Error::other("the thread that starts programs is gone");
    let (answer, started) = sync_channel(1);
    SPAWNER.send((command, answer)).map_err(|_| gone())?;
    started.recv().map_err(|_| gone())?
}
