//! Runs each test in a process and a network namespace of its own.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "compiled into several test programs, none of which uses all of it"
)]

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use controlplane::kernel::view::KernelView;
use tokio::sync::watch;

const INSIDE: &str = "SLUICE_TEST_NETNS";
const RAN: &str = "SLUICE_TEST_RAN";

/// Runs `body` in a fresh network namespace: the test binary starts itself again under `unshare`.
pub fn in_namespace(test: &str, body: impl AsyncFnOnce()) {
    if std::env::var(INSIDE).as_deref() == Ok(test) {
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(body());
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
        let output = Command::new("ip")
            .args(command.split_whitespace())
            .output()
            .expect("ip (iproute2) must be installed");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {command}: {error}");
    }
}

/// A veth pair `lan` (10.0.1.1/24) and `far`, the latter in the namespace `peer` of a process that
/// sleeps, with 10.0.1.2/24 and fd00:1::2/64.
pub struct Peer {
    process: std::process::Child,
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
        ip("link add lan type veth peer name far");
        ip(&format!("link set far netns {}", peer.process.id()));
        ip("addr add 10.0.1.1/24 dev lan; addr add fd00:1::1/64 dev lan nodad; link set lan up");
        peer.ip("link set far up");
        peer.ip("addr add 10.0.1.2/24 dev far");
        peer.ip("addr add fd00:1::2/64 dev far nodad");
        peer
    }

    /// Runs one `ip` command in the peer's namespace.
    pub fn ip(&self, command: &str) {
        let output = Command::new("nsenter")
            .args(["--net", "--target", &self.process.id().to_string(), "ip"])
            .args(command.split_whitespace())
            .output()
            .expect("nsenter (util-linux) must be installed");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "peer: ip {command}: {error}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until a view satisfies `condition`; panics after `limit`.
pub async fn eventually(
    views: &mut watch::Receiver<Arc<KernelView>>,
    what: &str,
    limit: Duration,
    condition: impl Fn(&KernelView) -> bool,
) -> Arc<KernelView> {
    let wait = views.wait_for(|view| condition(view));
    if let Ok(view) = tokio::time::timeout(limit, wait).await {
        return Arc::clone(&view.expect("the mirror lives"));
    }
    let last = views.borrow();
    panic!("{what} not seen within {limit:?}; last view: {last:#?}");
}

pub fn at(text: &str) -> IpAddr {
    text.parse().unwrap()
}
