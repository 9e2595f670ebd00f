//! The admin API over its socket: statuses, access, limits, and clients that misbehave.

mod fake_daemon;

use controlplane::admin::access::AccessGroups;
use controlplane::admin::socket::{AdminSocket, SocketError};
use fake_daemon::Daemon;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// Status and body of the answer to a request given as its bytes.
fn ask(socket: &Path, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

fn get(socket: &Path, resource: &str) -> (u16, String) {
    ask(
        socket,
        &format!("GET {resource} HTTP/1.1\r\nHost: x\r\n\r\n"),
    )
}

fn post(socket: &Path, resource: &str, body: &str) -> (u16, String) {
    let length = body.len();
    ask(
        socket,
        &format!("POST {resource} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}"),
    )
}

fn error_of(body: &str) -> String {
    let body: controlplane::admin::api::ErrorBody = serde_json::from_str(body).unwrap();
    body.error
}

#[test]
fn every_resource_answers() {
    let daemon = Daemon::start();
    for resource in ["status", "services", "stats", "connections"] {
        let (status, body) = get(&daemon.socket, &format!("/v1/{resource}"));
        assert_eq!(status, 200);
        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
    }
    assert_eq!(post(&daemon.socket, "/v1/reload", "").0, 200);
    assert_eq!(daemon.fake.reloads.load(SeqCst), 1);
}

#[test]
fn wrong_requests_get_a_sentence_and_the_right_status() {
    let daemon = Daemon::start();
    let socket = &daemon.socket;
    for ((status, body), (expected, said)) in [
        (
            get(socket, "/v1/nothing"),
            (404, "no such resource: /v1/nothing"),
        ),
        (get(socket, "/status"), (404, "no such resource: /status")),
        (
            get(socket, "/v1/reload"),
            (405, "/v1/reload does not take GET"),
        ),
        (get(socket, "/v1/connections?clinet=1"), (400, "clinet")),
        (
            get(socket, "/v1/connections?client=x"),
            (400, "expected IP"),
        ),
        (get(socket, "/v1/connections?limit=-1"), (400, "limit")),
        (
            post(socket, "/v1/connections/delete", "{}"),
            (400, "a deletion needs at least one criterion"),
        ),
        (
            post(socket, "/v1/connections/delete", r#"{"limit":1}"#),
            (400, "a deletion needs at least one criterion"),
        ),
        (
            post(socket, "/v1/connections/delete", "client=1"),
            (400, "filter: "),
        ),
        (
            post(socket, "/v1/connections/delete", &" ".repeat(70_000)),
            (413, ""),
        ),
    ] {
        assert_eq!(status, expected, "{body}");
        assert!(error_of(&body).contains(said), "{body}");
    }
    assert!(daemon.fake.deleted.lock().unwrap().is_empty());
}

#[test]
fn a_refused_reload_is_a_conflict_with_its_reasons() {
    let daemon = Daemon::start();
    daemon.fake.refuse_reload.store(true, SeqCst);
    let (status, body) = post(&daemon.socket, "/v1/reload", "");
    assert_eq!(status, 409);
    let report: controlplane::admin::api::ReloadReport = serde_json::from_str(&body).unwrap();
    assert_eq!(report, fake_daemon::reload(false));
}

#[test]
fn a_panic_is_one_answer_500_and_the_next_request_is_served() {
    let daemon = Daemon::start();
    daemon.fake.panic_in_status.store(true, SeqCst);
    let (status, body) = get(&daemon.socket, "/v1/status");
    assert_eq!(status, 500);
    assert_eq!(
        error_of(&body),
        "internal error; the daemon's log says more"
    );
    daemon.fake.panic_in_status.store(false, SeqCst);
    assert_eq!(get(&daemon.socket, "/v1/status").0, 200);
}

#[test]
fn a_caller_that_hangs_up_does_not_stop_a_reload_half_way() {
    let daemon = Daemon::start();
    daemon.fake.slow_reload.store(true, SeqCst);
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    stream
        .write_all(b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(5);
    while daemon.fake.reloads.load(SeqCst) == 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn silent_and_senseless_clients_delay_nobody_and_are_dropped() {
    let daemon = Daemon::start();
    let silent: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut stream = UnixStream::connect(&daemon.socket).unwrap();
            stream.write_all(b"GET /v1/sta").unwrap();
            stream
        })
        .collect();
    let mut senseless = UnixStream::connect(&daemon.socket).unwrap();
    senseless.write_all(&[0xff; 64]).unwrap();
    let started = Instant::now();
    assert_eq!(get(&daemon.socket, "/v1/status").0, 200);
    assert!(started.elapsed() < Duration::from_secs(2));
    for mut stream in silent {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut rest = Vec::new();
        // Closed, with or without an answer 408.
        stream.read_to_end(&mut rest).unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_socket_is_for_root_and_its_group_and_vanishes_at_the_end() {
    let groups = AccessGroups {
        admin: Some(54_001),
        monitor: None,
    };
    let mut daemon = Daemon::start_with(groups);
    let metadata = std::fs::symlink_metadata(&daemon.socket).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o660);
    assert_eq!((metadata.uid(), metadata.gid()), (0, 54_001));
    daemon.stop();
    assert!(!daemon.socket.exists());
}

/// Connects as user 65534 with `group` and returns the status of a GET and of a POST, or `None`
/// where the kernel refuses the connection.
fn ask_as(daemon: &Daemon, group: u32) -> [Option<u16>; 2] {
    ["GET /v1/status", "POST /v1/reload"].map(|request| {
        let sluice = daemon.directory.path().join("sluice");
        if !sluice.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_sluice"), &sluice).unwrap();
        }
        let word = if request.starts_with("GET") {
            "status"
        } else {
            "reload"
        };
        let output = Command::new(sluice)
            .arg("--socket")
            .arg(&daemon.socket)
            .arg(word)
            .uid(65_534)
            .gid(group)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if said.contains("permission denied on") {
            None
        } else if said.contains("permission denied:") {
            Some(403)
        } else {
            assert_eq!(output.status.code(), Some(0), "{said}");
            Some(200)
        }
    })
}

#[test]
fn admins_change_monitors_read_and_others_do_not_even_connect() {
    let groups = AccessGroups {
        admin: Some(54_001),
        monitor: Some(54_002),
    };
    let daemon = Daemon::start_with(groups);
    assert_eq!(ask_as(&daemon, 54_001), [Some(200), Some(200)]);
    assert_eq!(ask_as(&daemon, 54_002), [Some(200), Some(403)]);
    assert_eq!(ask_as(&daemon, 54_003), [None, None]);
    // Even if somebody opens the socket to everyone.
    let everyone = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(&daemon.socket, everyone).unwrap();
    assert_eq!(ask_as(&daemon, 54_003), [Some(403), Some(403)]);
    assert_eq!(daemon.fake.reloads.load(SeqCst), 1);
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/admin.sock");
    std::fs::create_dir(directory.path().join("run")).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    let first = AdminSocket::bind(&path, AccessGroups::default()).unwrap();
    let second = AdminSocket::bind(&path, AccessGroups::default());
    assert!(matches!(second, Err(SocketError::AlreadyRunning(_))));
    UnixStream::connect(&path).unwrap();
    drop(first);
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    std::fs::write(&path, "precious").unwrap();
    let refused = AdminSocket::bind(&path, AccessGroups::default());
    assert!(matches!(refused, Err(SocketError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
