//! Redis as a test has it: alone, as a Cluster, behind Sentinels.

use heliograph_sandbox::{Redis, RedisOptions};

#[tokio::test]
async fn a_killed_server_comes_back_empty_at_its_address() {
    let mut redis = Redis::standalone().await.unwrap();
    redis.command(0, &["SET", "a", "1"]).await.unwrap();
    assert_eq!(redis.command(0, &["GET", "a"]).await.unwrap().text(), "1");
    let url = redis.url();
    redis.kill().unwrap();
    redis.command(0, &["PING"]).await.unwrap_err();
    redis.start_empty().await.unwrap();
    assert_eq!(redis.url(), url);
    assert_eq!(redis.command(0, &["DBSIZE"]).await.unwrap().number(), Some(0));
}

#[tokio::test]
async fn flush_empties_a_server() {
    let redis = Redis::standalone().await.unwrap();
    redis.command(0, &["SET", "a", "1"]).await.unwrap();
    redis.flush().await.unwrap();
    assert_eq!(redis.command(0, &["DBSIZE"]).await.unwrap().number(), Some(0));
}

#[tokio::test]
async fn a_paused_server_accepts_and_does_not_answer() {
    let mut redis = Redis::standalone().await.unwrap();
    redis.pause().unwrap();
    let error = redis.command(0, &["PING"]).await.unwrap_err();
    assert!(format!("{error:#}").contains("no answer"), "{error:#}");
    redis.resume().unwrap();
    assert_eq!(redis.command(0, &["PING"]).await.unwrap().text(), "PONG");
}

#[tokio::test]
async fn a_server_with_a_password_refuses_those_who_do_not_say_it() {
    let password = "correct-horse".to_owned();
    let options = RedisOptions { password: Some(password), ..RedisOptions::default() };
    let redis = Redis::standalone_with(options).await.unwrap();
    assert!(redis.url().starts_with("redis://:correct-horse@127.0.0.1:"), "{}", redis.url());
    assert_eq!(redis.command(0, &["PING"]).await.unwrap().text(), "PONG");
    let port = redis.nodes()[0].address().port().to_string();
    let without = std::process::Command::new("redis-cli").args(["-p", &port, "PING"]).output().unwrap();
    assert!(String::from_utf8_lossy(&without.stdout).starts_with("NOAUTH"), "{without:?}");
}

#[tokio::test]
async fn a_server_with_tls_shows_a_certificate_of_its_authority() {
    let redis = Redis::standalone_with(RedisOptions { tls: true, ..RedisOptions::default() }).await.unwrap();
    assert!(redis.url().starts_with("rediss://127.0.0.1:"), "{}", redis.url());
    let port = redis.nodes()[0].address().port().to_string();
    let ask = |arguments: &[&str]| {
        let output =
            std::process::Command::new("redis-cli").args(["-p", &port]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let authority = redis.authority().unwrap();
    assert_eq!(ask(&["--tls", "--cacert", authority.to_str().unwrap(), "PING"]), "PONG");
    assert_ne!(ask(&["--tls", "--cacert", "/etc/ssl/certs/ca-certificates.crt", "PING"]), "PONG");
    assert_ne!(ask(&["PING"]), "PONG");
}

#[tokio::test]
async fn a_server_can_be_an_old_one() {
    let arguments = ["--rename-command", "SSUBSCRIBE", ""].map(str::to_owned).to_vec();
    let redis = Redis::standalone_with(RedisOptions { arguments, ..RedisOptions::default() }).await.unwrap();
    let error = redis.command(0, &["SSUBSCRIBE", "a"]).await.unwrap_err();
    assert!(format!("{error:#}").contains("unknown command"), "{error:#}");
}

#[tokio::test]
async fn a_replica_takes_over_the_slots_of_a_killed_master() {
    let mut redis = Redis::cluster().await.unwrap();
    assert_eq!(redis.masters().await.unwrap(), [0, 1, 2]);
    assert!(redis.nodes().iter().all(|node| node.address().port() < 22_000));
    let slot = u16::try_from(redis.command(0, &["CLUSTER", "KEYSLOT", "a"]).await.unwrap().number().unwrap());
    let slot = slot.unwrap();
    let before = redis.master_of_slot(slot).await.unwrap();
    redis.command(before, &["SET", "a", "kept"]).await.unwrap();
    // What the replica has got is there after the fail-over.
    redis.command(before, &["WAIT", "1", "5000"]).await.unwrap();
    assert_eq!(redis.kill_master_of_slot(slot).await.unwrap(), before);
    redis.wait_until_served().await.unwrap();
    let after = redis.master_of_slot(slot).await.unwrap();
    assert_ne!(after, before);
    assert_eq!(redis.command(after, &["GET", "a"]).await.unwrap().text(), "kept");
    // It comes back as a replica of its replica.
    redis.start_empty().await.unwrap();
    redis.wait_until_served().await.unwrap();
    assert_eq!(redis.master_of_slot(slot).await.unwrap(), after);
    assert_eq!(redis.masters().await.unwrap().len(), 3);
    redis.flush().await.unwrap();
    assert_eq!(redis.command(after, &["DBSIZE"]).await.unwrap().number(), Some(0));
}

#[tokio::test]
async fn sentinels_name_another_primary_when_theirs_is_killed() {
    let mut redis = Redis::sentinel().await.unwrap();
    assert!(redis.url().ends_with("/main"), "{}", redis.url());
    let before = redis.kill_primary().await.unwrap();
    redis.wait_until_served().await.unwrap();
    let after = redis.primary().await.unwrap();
    assert_ne!(after, before);
    assert_eq!(redis.masters().await.unwrap(), [after]);
    redis.start_empty().await.unwrap();
    redis.wait_until_served().await.unwrap();
    assert_eq!(redis.primary().await.unwrap(), after);
    assert_eq!(redis.masters().await.unwrap(), [after]);
}
