//! Programs: watched, paused, ended, and never left behind.

#![expect(clippy::unwrap_used, reason = "tests fail by a panic")]

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use heliograph_sandbox::{Postgres, Process, Program, Redis};

const PATIENCE: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Process {
    Program::new("/bin/sh").args(["-c", script]).start().unwrap()
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < give_up, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The letter that the kernel has for a process's state, if there is one.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn is_gone(pid: u32) -> bool {
    matches!(state(pid), None | Some('Z'))
}

#[tokio::test]
async fn what_a_program_writes_and_how_it_ends_is_known() {
    let mut process = shell("echo out; echo err >&2; exit 7");
    let status = process.wait(PATIENCE).await.unwrap();
    assert_eq!(status.code(), Some(7));
    assert_eq!((process.output().as_str(), process.log().as_str()), ("out\n", "err\n"));
    let error = process.must_run().unwrap_err().to_string();
    assert!(error.contains("exit status: 7") && error.contains("err"), "{error}");
}

#[tokio::test]
async fn of_much_output_the_end_is_kept() {
    let mut process = shell("head -c 5000000 /dev/zero | tr '\\0' a; echo the end");
    process.wait(PATIENCE).await.unwrap();
    let output = process.output();
    assert!(output.ends_with("the end\n"));
    assert!(output.len() < 1_000_000, "{} bytes", output.len());
}

#[tokio::test]
async fn waiting_for_the_end_has_a_bound() {
    let mut process = shell("sleep 1000");
    let error = process.wait(Duration::from_millis(100)).await.unwrap_err().to_string();
    assert!(error.contains("did not end"), "{error}");
}

#[tokio::test]
async fn a_program_that_is_missing_is_named() {
    let error = Program::new("/no/such/program").run().await.unwrap_err().to_string();
    assert!(error.contains("/no/such/program"), "{error}");
}

#[test]
fn a_paused_program_stands_still_with_those_that_it_started() {
    let mut process = shell("sleep 1000 & echo $!; wait");
    eventually("the other's number", || process.output().ends_with('\n'));
    let other: u32 = process.output().trim().parse().unwrap();
    process.pause().unwrap();
    eventually("both stand", || (state(process.id()), state(other)) == (Some('T'), Some('T')));
    process.resume().unwrap();
    eventually("both go on", || (state(process.id()), state(other)) == (Some('S'), Some('S')));
    process.kill().unwrap();
    eventually("both are gone", || is_gone(process.id()) && is_gone(other));
    process.pause().unwrap_err();
}

#[tokio::test]
async fn a_program_can_be_asked_to_end() {
    let mut process = shell("trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
    eventually("it listens", || process.output().contains("ready"));
    process.terminate().unwrap();
    assert_eq!(process.wait(PATIENCE).await.unwrap().code(), Some(3));
    assert!(process.output().ends_with("asked\n"));
}

#[test]
fn a_dropped_program_ends() {
    let process = shell("sleep 1000");
    let pid = process.id();
    drop(process);
    assert!(is_gone(pid));
}

#[test]
fn the_environment_is_what_was_asked_for() {
    let program =
        Program::new("/bin/sh").args(["-c", "echo $GIVEN-$PATH"]).env("GIVEN", "given").without_env("PAT");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let output = runtime.block_on(program.run()).unwrap();
    assert!(output.starts_with("given-"), "{output}");
    assert!(!output.contains(&std::env::var("PATH").unwrap()), "{output}");
}

/// The kernel would end them with the thread that started them; tests run on threads that come and go.
#[tokio::test]
async fn servers_outlive_the_thread_that_asked_for_them() {
    let asked = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(Redis::standalone()).unwrap()
    });
    let redis = tokio::task::spawn_blocking(|| asked.join().unwrap()).await.unwrap();
    assert_eq!(redis.command(0, &["PING"]).await.unwrap().text(), "PONG");
}

#[test]
fn a_killed_process_leaves_no_server_behind() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hold_servers", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines().map_while(Result::ok);
    let servers: Vec<SocketAddr> =
        lines.filter_map(|line| line.strip_prefix("server ")?.parse().ok()).take(2).collect();
    assert_eq!(servers.len(), 2);
    for server in &servers {
        TcpStream::connect(server).unwrap();
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("they are gone", || servers.iter().all(|server| TcpStream::connect(server).is_err()));
}

#[tokio::test]
#[ignore = "a process for another test to kill; it does not end"]
async fn hold_servers() {
    let (postgres, redis) = tokio::try_join!(Postgres::start(), Redis::standalone()).unwrap();
    println!("\nserver {}\nserver {}", postgres.address(), redis.nodes()[0].address());
    std::future::pending::<()>().await;
}
