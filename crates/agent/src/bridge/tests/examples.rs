//! The programs in `examples/agent/python`, at two bridges that are linked without a network.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::linked::pair;
use super::{Local, PATIENCE, World};

fn python(script: &str) -> Command {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/agent/python");
    let mut command = Command::new("python3");
    command.arg(folder.join(script)).env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn start(command: &mut Command) -> Child {
    command.spawn().expect("python3 starts: apt-get install python3")
}

/// What the asker printed, or why it failed.
async fn ask(world: &World, arguments: &[&str]) -> Result<String, String> {
    let asker = start(python("asker.py").arg(world.path()).args(arguments));
    let output = timeout(PATIENCE, asker.wait_with_output()).await.expect("the asker ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[tokio::test]
async fn two_programs_exchange_tasks() {
    let (a, b) = pair().await;
    let mut worker = start(python("worker.py").arg(b.path()));
    let mut printed = BufReader::new(worker.stdout.take().unwrap()).lines();
    let ready = timeout(PATIENCE, printed.next_line()).await.expect("the worker starts").unwrap();
    assert_eq!(ready.as_deref(), Some("agent-b is ready for sum, upper"));

    assert_eq!(ask(&a, &["sum", "1", "2.5", "3"]).await.unwrap(), "6.5");
    assert_eq!(ask(&a, &["upper", "grüße", "📡"]).await.unwrap(), "GRÜSSE 📡");
    let failed = ask(&a, &["sum", "one"]).await.unwrap_err();
    assert!(failed.starts_with("agent-b: could not convert"), "{failed}");
    let failed = ask(&a, &["dance", "--timeout", "1"]).await.unwrap_err();
    assert_eq!(failed, "no peer with the skill dance in time; without it: agent-b");

    // The worker ends with its agent.
    b.end.cancel();
    let status = timeout(PATIENCE, worker.wait()).await.expect("the worker ends").unwrap();
    assert_eq!(status.code(), Some(1));
}

/// What a peer sends is not to be trusted.
#[tokio::test]
async fn the_worker_survives_what_peers_send() {
    let (a, b) = pair().await;
    let mut worker = start(python("worker.py").arg(b.path()));
    let mut printed = BufReader::new(worker.stdout.take().unwrap()).lines();
    timeout(PATIENCE, printed.next_line()).await.expect("the worker starts").unwrap();
    let mut stranger = a.program().await;
    assert_eq!(stranger.hear().await["type"], "peer_connected");
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    for bad in [
        r#"{"type":"task_request"}"#,
        r#"{"type":"task_request","payload":[1]}"#,
        r#"{"type":"task_request","request_id":{},"payload":{"skill":[],"input":5}}"#,
        r#"{"type":"task_request","payload":{"skill":"sum","input":[null]}}"#,
        r#"{"type":"task_request","payload":{"skill":"upper","input":[1]}}"#,
    ] {
        send(&mut stranger, bad).await;
        let answer = stranger.hear().await;
        assert_eq!(answer["payload"]["message"]["payload"]["status"], "failed", "{bad}: {answer}");
    }
    send(&mut stranger, &format!(r#"{{"type":"task_request","payload":{deep}}}"#)).await;
    send(&mut stranger, r#"{"type":"nonsense"}"#).await;
    assert_eq!(ask(&a, &["sum", "2", "2"]).await.unwrap(), "4.0");
}

async fn send(program: &mut Local, message: &str) {
    program
        .say(&format!(r#"{{"type":"send","payload":{{"target_peer":"agent-b","message":{message}}}}}"#))
        .await;
}

#[tokio::test]
async fn without_an_agent_the_programs_say_so() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["worker.py"][..], &["asker.py", "sum", "1"]] {
        let mut command = python(arguments[0]);
        let program = start(command.arg(folder.path().join("none.sock")).args(&arguments[1..]));
        let output = timeout(PATIENCE, program.wait_with_output()).await.expect("it ends").unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.starts_with("no agent answers at"), "{error}");
    }
}
