//! One daemon per admin socket and EAL prefix, with real processes.

use controlplane::instance::{Holder, InstanceError, InstanceLocks, LockFile};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LOCK: &str = "SLUICE_TEST_LOCK";

/// Not a test: holds a lock until killed when a test below starts this program again.
#[test]
fn holder_entry() {
    if let Some(path) = std::env::var_os(LOCK) {
        let _lock = LockFile::acquire(path.as_ref(), "it").unwrap();
        println!("\nlocked");
        std::thread::sleep(Duration::from_mins(1));
    }
}

#[test]
fn the_second_is_told_who_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let pid = std::process::id();
    let first = InstanceLocks::acquire_in(directory.path(), &socket, "sluice").unwrap();
    let error = InstanceLocks::acquire_in(directory.path(), &socket, "other").unwrap_err();
    let socket_name = socket.display();
    assert_eq!(
        error.to_string(),
        format!("another sluiced (pid {pid}) uses the admin socket {socket_name}")
    );
    let other = directory.path().join("other.sock");
    let error = InstanceLocks::acquire_in(directory.path(), &other, "sluice").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("another sluiced (pid {pid}) uses the EAL prefix sluice")
    );
    drop(first);
    // A child that another test forks at this moment holds our descriptors until it executes.
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(error) = InstanceLocks::acquire_in(directory.path(), &socket, "sluice") {
        assert!(Instant::now() < deadline, "{error}");
        std::thread::yield_now();
    }
}

#[test]
fn what_a_killed_process_left_is_no_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.lock");
    let mut child = Command::new("/proc/self/exe")
        .args(["--exact", "holder_entry", "--nocapture"])
        .env(LOCK, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "locked"));
    let Err(InstanceError::Held { holder, .. }) = LockFile::acquire(&path, "it") else {
        panic!("the lock of a living process was taken");
    };
    assert_eq!(holder, Holder(Some(child.id())));
    child.kill().unwrap();
    child.wait().unwrap();
    LockFile::acquire(&path, "it").unwrap();
}

#[test]
fn a_lock_is_not_for_other_users_to_take() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.lock");
    let _lock = LockFile::acquire(&path, "it").unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_link_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    let path = directory.path().join("x.lock");
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert!(matches!(
        LockFile::acquire(&path, "it"),
        Err(InstanceError::Io { .. })
    ));
    assert!(!target.exists());
}
