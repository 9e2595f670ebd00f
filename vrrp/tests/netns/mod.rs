//! Runs each test in a process and a network namespace of its own, with a second namespace behind a veth pair.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "compiled into several test programs, none of which uses all of it"
)]

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const INSIDE: &str = "SLUICE_TEST_NETNS";
const RAN: &str = "SLUICE_TEST_RAN";

/// Runs `body` in a fresh network namespace: the test binary starts itself again under `unshare`.
pub fn in_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var(INSIDE).as_deref() == Ok(test) {
        ip("link set lo up");
        body();
        std::fs::write(std::env::var(RAN).unwrap(), "").unwrap();
        return;
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "{test} needs root: it makes a network namespace"
    );
    // A name that matches no test would run none and succeed.
    let scratch = tempfile::tempdir().unwrap();
    let ran = scratch.path().join("ran");
    let status = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        .env(RAN, &ran)
        .status()
        .expect("unshare (util-linux) must be installed");
    assert!(status.success(), "{test} failed inside its namespace");
    assert!(ran.exists(), "no test is called {test}");
}

/// Runs one `ip` command; several separated by `;`.
pub fn ip(commands: &str) {
    for command in commands.split(';').map(str::trim) {
        run("ip", command);
    }
}

/// Runs a command in the calling thread's namespace and returns what it printed.
pub fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a ping is answered: its options and address.
pub fn reached(arguments: &str) -> bool {
    Command::new("ping")
        .args(["-c1", "-W1"])
        .args(arguments.split_whitespace())
        .output()
        .expect("ping must be installed")
        .status
        .success()
}

/// Whether one of ten pings is answered: on a busy machine one may be lost.
pub fn reached_in_the_end(arguments: &str) -> bool {
    (0..10).any(|_| reached(arguments))
}

/// The namespace behind `far`, the other end of `lan`, of a process that sleeps. `lan` has 10.0.1.1/24 and fe80::1,
/// `far` 10.0.1.2/24 and fe80::2.
pub struct Peer {
    process: Child,
}

impl Peer {
    pub fn start() -> Self {
        let process = Command::new("unshare")
            .args(["--net", "sleep", "300"])
            .spawn()
            .unwrap();
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", process.id());
        let start = Instant::now();
        while std::fs::read_link(&theirs).is_ok_and(|namespace| namespace == own) {
            assert!(start.elapsed() < Duration::from_secs(20), "unshare is slow");
            std::thread::sleep(Duration::from_millis(5));
        }
        let peer = Self { process };
        peer.link();
        peer
    }

    /// Makes the veth pair.
    pub fn link(&self) {
        ip("link add lan type veth peer name far");
        ip(&format!("link set far netns {}", self.process.id()));
        ip("link set lan addrgenmode none; addr add 10.0.1.1/24 dev lan");
        ip("addr add fe80::1/64 dev lan nodad; link set lan up");
        self.inside(|| {
            ip("link set lo up; link set far addrgenmode none; addr add 10.0.1.2/24 dev far");
            ip("addr add fe80::2/64 dev far nodad; link set far up");
        });
        let carrier = |name| run("ip", &format!("link show {name}")).contains("state UP");
        eventually("carrier", || {
            carrier("lan") && self.inside(|| carrier("far"))
        });
    }

    /// Runs `body` on a thread of its own in the peer's namespace.
    pub fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.process.id())).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                body()
            });
            inside.join().unwrap()
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until the kernel shows what is awaited; there is no event for most of it.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "not seen: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}
