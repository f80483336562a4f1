//! The socket's file.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::super::serve::may_use;
use super::super::socket::check_folder;
use super::{Bridge, World};

#[tokio::test]
async fn the_socket_is_private_in_a_private_folder_that_is_made() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("new/folder");
    let path = folder.join("agent.sock");
    let bridge = Bridge::bind(&path).await.unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&base.path().join("new")), 0o700);
    drop(bridge);
    assert!(!path.exists(), "the file went with the bridge");
    assert!(folder.exists());
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    // A listener of std leaves its file behind, as a killed agent does.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let bridge = Bridge::bind(&path).await.unwrap();
    let error = refused(&path).await;
    assert!(error.contains("an agent is running on") && error.contains("agent.sock"), "{error}");
    drop(bridge);
    Bridge::bind(&path).await.unwrap();
}

#[tokio::test]
async fn of_agents_that_start_at_once_one_gets_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    for _ in 0..20 {
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (one, two, three) = tokio::join!(Bridge::bind(&path), Bridge::bind(&path), Bridge::bind(&path));
        let winners = [&one, &two, &three].into_iter().filter(|bridge| bridge.is_ok()).count();
        assert_eq!(winners, 1, "{one:?} {two:?} {three:?}");
        assert!(path.exists(), "nobody removed the winner's file");
    }
}

#[tokio::test]
async fn a_file_that_is_no_socket_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    fs::write(&path, "dear diary").unwrap();
    let error = refused(&path).await;
    assert!(error.contains("is not a socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "dear diary");
}

#[tokio::test]
async fn a_folder_that_others_can_write_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    for open in [0o770, 0o707, 0o777] {
        fs::set_permissions(folder.path(), Permissions::from_mode(open)).unwrap();
        let error = refused(&path).await;
        assert!(error.contains("chmod go-w"), "{error}");
    }
    // As `/tmp` is.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
    Bridge::bind(&path).await.unwrap();
}

#[test]
fn a_folder_of_another_user_is_refused() {
    let us = rustix::process::geteuid().as_raw();
    let error = check_folder(Path::new("/x"), us + 1, 0o755).unwrap_err();
    assert!(error.to_string().contains("belongs to another user"), "{error}");
    check_folder(Path::new("/x"), us, 0o755).unwrap();
    check_folder(Path::new("/tmp"), 0, 0o1777).unwrap();
}

#[test]
fn only_our_own_user_and_root_are_let_in() {
    assert!(may_use(1000, 1000));
    assert!(may_use(0, 1000));
    assert!(!may_use(1001, 1000));
    assert!(!may_use(1000, 0));
}

#[tokio::test]
async fn a_long_path_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(&folder.path().join("x".repeat(110))).await;
    assert!(error.contains("at most 10"), "{error}");
    assert!(error.contains("choose a shorter one"), "{error}");
}

/// Somebody removed our file and put another there: it is not ours to remove.
#[tokio::test]
async fn a_file_that_was_replaced_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let bridge = Bridge::bind(&path).await.unwrap();
    // Kept under another name, so that its inode is not given to the next file.
    fs::rename(&path, folder.path().join("moved")).unwrap();
    fs::write(&path, "new").unwrap();
    drop(bridge);
    assert!(path.exists());
}

#[tokio::test]
async fn at_the_end_programs_get_what_waits_and_the_file_goes() {
    let world = World::new().await;
    let mut local = world.program().await;
    world.message("tab-1", r#"{"type":"last"}"#).await;
    world.end.cancel();
    assert_eq!(local.hear().await["payload"]["message"]["type"], "last");
    assert_eq!(local.line().await, None);
    world.serving.await.unwrap();
    assert!(!world.folder.path().join("agent.sock").exists());
}

async fn refused(path: &Path) -> String {
    Bridge::bind(path).await.expect_err("refused").to_string()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}
