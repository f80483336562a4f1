//! Programs come, command and go.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::forms::{self, Command, Label, Mistake, Order, code};
use super::hub::{Hub, Program};
use super::lines::{Lines, Read};
use super::queue::{Queue, Written};
use super::{Bridge, Mesh, Refusal};

/// Before the next try when no socket could be accepted: there are too many open files, and more haste frees none.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Bridge {
    /// Serves local programs until `end`; they may then read what waits for them, and the socket's file is removed.
    pub(crate) async fn serve(self, mesh: Arc<dyn Mesh>, hub: Arc<Hub>, end: CancellationToken) {
        let programs = TaskTracker::new();
        loop {
            let socket = tokio::select! {
                () = end.cancelled() => break,
                accepted = self.listener().accept() => match accepted {
                    Ok((socket, _)) => socket,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a local program");
                        sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            if let Some(program) = let_in(&socket, &hub) {
                programs.spawn(serve_program(
                    socket,
                    program,
                    Arc::clone(&mesh),
                    Arc::clone(&hub),
                    end.clone(),
                ));
            }
        }
        programs.close();
        programs.wait().await;
    }
}

/// The file's mode keeps others out already, on systems that look at it; and it can be changed.
fn let_in(socket: &UnixStream, hub: &Arc<Hub>) -> Option<Program> {
    let us = rustix::process::geteuid().as_raw();
    if !socket.peer_cred().is_ok_and(|program| may_use(program.uid(), us)) {
        tracing::warn!("a program of another user was turned away");
        refuse(socket, code::NOT_ALLOWED, "only programs of the agent's own user may use it");
        return None;
    }
    let program = hub.attach();
    if program.is_none() {
        tracing::warn!(programs = hub.bounds.programs, "a local program was turned away: there are too many");
        let message = format!("{} programs use this agent already; end one of them", hub.bounds.programs);
        refuse(socket, code::TOO_MANY_PROGRAMS, &message);
    }
    program
}

pub(super) fn may_use(program: u32, us: u32) -> bool {
    program == us || program == 0
}

/// Never waits: a new socket has room for a line.
fn refuse(socket: &UnixStream, code: &str, message: &str) {
    let _ = socket.try_write(forms::trouble(code, message).as_bytes());
}

async fn serve_program(
    socket: UnixStream,
    mut program: Program,
    mesh: Arc<dyn Mesh>,
    hub: Arc<Hub>,
    end: CancellationToken,
) {
    tracing::debug!(programs = hub.programs(), "a local program came");
    let (reader, mut writer) = socket.into_split();
    let queue = Arc::clone(&program.queue);
    let writing = queue.write_to(&mut writer, hub.bounds.last_word);
    let obeying = obey(reader, hub.bounds.line_bytes, &*mesh, &queue);
    tokio::pin!(writing, obeying);
    let written = tokio::select! {
        () = end.cancelled() => None,
        () = &mut obeying => None,
        written = &mut writing => Some(written),
        never = settle(&hub) => match never {},
    };
    if written == Some(Written::Unheard) {
        // Whoever says something and goes at once means it, and may have gone without reading what came meanwhile.
        program.goes_deaf();
        tokio::select! {
            () = end.cancelled() => {}
            () = obeying => {}
        }
    }
    drop(program);
    // Whoever pipes commands in has ended its own side, and still wants the answers.
    if written.is_none() && timeout(hub.bounds.last_word, writing).await.is_err() {
        tracing::debug!("a local program did not read what was left");
    }
    tracing::debug!(programs = hub.programs(), "a local program went");
}

async fn settle(hub: &Hub) -> Infallible {
    sleep(hub.bounds.settling).await;
    hub.settle();
    pending().await
}

/// One command after the other, until the program ends its side. Its socket is not read while a command waits for
/// room at a peer, nor while the program does not read its answers.
async fn obey(reader: impl AsyncRead + Unpin, line_bytes: usize, mesh: &dyn Mesh, queue: &Queue) {
    let mut lines = Lines::new(reader, line_bytes);
    loop {
        match lines.next().await {
            Ok(Read::Line(line)) if line.trim_ascii().is_empty() => {}
            Ok(Read::Line(line)) => match forms::parse(line) {
                Ok(command) => carry_out(command, mesh, queue).await,
                Err(Mistake { label, refusal }) => queue.push(forms::refused(&label, &refusal)),
            },
            Ok(Read::TooLong) => {
                let message =
                    format!("a line may have {line_bytes} bytes; this one was longer and is ignored");
                queue.push(forms::trouble(code::TOO_LARGE, &message));
            }
            Ok(Read::End) | Err(_) => return,
        }
        queue.room().await;
    }
}

async fn carry_out(command: Command<'_>, mesh: &dyn Mesh, queue: &Queue) {
    let Command { label, order } = command;
    let outcome = match order {
        Order::ListPeers => return queue.push(forms::peer_list(&label, &mesh.peers())),
        Order::Status => return queue.push(forms::status(&label, &mesh.status())),
        Order::Send { target, message } => mesh.send(&target, message).await.map(|()| None),
        Order::Connect { target } => mesh.connect(&target).await.map(|()| None),
        Order::Broadcast { message } => mesh.broadcast(message).await.map(Some),
    };
    answer(&label, outcome, queue);
}

/// The original says nothing to these three; who gives an `id` wants to know.
fn answer(label: &Label<'_>, outcome: Result<Option<usize>, Refusal>, queue: &Queue) {
    match outcome {
        Err(refusal) => queue.push(forms::refused(label, &refusal)),
        Ok(peers) if label.wants_answer() => queue.push(forms::done(label, peers)),
        Ok(_) => {}
    }
}
