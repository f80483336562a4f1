//! The examples, as their page runs them: programs in Python and in shell, over two agents.

use std::path::{Path, PathBuf};

use heliograph_sandbox::{Process, Program, find_program};
use heliograph_testkit::{Agent, Plan, eventually};

use crate::pair;

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/agent").join(path)
}

fn python(script: &str, agent: &Agent) -> Program {
    Program::new(find_program("python3", "python3").unwrap()).arg(example(script)).arg(agent.socket())
}

fn shell(script: &str, agent: &Agent) -> Program {
    for tool in ["socat", "jq"] {
        find_program(tool, tool).unwrap();
    }
    Program::new("/bin/sh").arg(example(script)).arg(agent.socket())
}

/// What it printed so far, once that holds `words`.
async fn prints(process: &mut Process, words: &str) -> String {
    eventually(words, async || {
        let output = process.output();
        if !output.contains(words) {
            process.must_run().unwrap();
        }
        output.contains(words).then_some(output)
    })
    .await
}

#[tokio::test]
async fn programs_in_python_exchange_tasks() {
    let cluster = Plan::nodes(2).peers(2).start().await;
    let [(a, _a), (b, _b)] = pair(&cluster).await;
    let mut worker = python("python/worker.py", &b).start().unwrap();
    prints(&mut worker, "peer-1 is ready").await;
    let ask = |words: &[&str]| python("python/asker.py", &a).args(words);
    assert_eq!(ask(&["sum", "1", "2", "3"]).run().await.unwrap(), "6.0\n");
    assert_eq!(ask(&["upper", "hello", "mesh"]).run().await.unwrap(), "HELLO MESH\n");
    let error = ask(&["sum", "one"]).run().await.unwrap_err().to_string();
    assert!(error.contains("peer-1: could not convert string to float"), "{error}");
}

#[tokio::test]
async fn a_shell_sends_and_listens() {
    let cluster = Plan::nodes(2).peers(2).start().await;
    let [(a, _a), (b, _b)] = pair(&cluster).await;
    let mut listener = shell("shell/listen.sh", &b).start().unwrap();
    prints(&mut listener, "+ peer-0\n").await;
    let send = |words: &[&str]| shell("shell/send.sh", &a).args(words);
    send(&["peer-1", "to one: \"quoted\" $(and more)"]).run().await.unwrap();
    send(&["*", "to all"]).run().await.unwrap();
    let heard = prints(&mut listener, "to all").await;
    assert!(heard.contains(r#"peer-0: "to one: \"quoted\" $(and more)""#), "{heard}");
    let error = send(&["nobody", "hello"]).run().await.unwrap_err().to_string();
    assert!(error.contains("nobody"), "{error}");
}
