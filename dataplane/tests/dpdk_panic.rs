//! A worker that panics takes the process down at once, with its message.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use dataplane::dpdk::launch;

mod dpdk_support;

/// Makes the second test the child.
const CHILD: &str = "SLUICE_TEST_PANIC";

#[test]
fn a_panic_on_an_lcore_aborts_with_its_message() {
    let output = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "--nocapture", "a_worker_that_panics"])
        .env(CHILD, "1")
        // Only the message, and no core file in the source tree.
        .env("RUST_BACKTRACE", "0")
        .current_dir(std::env::temp_dir())
        .output()
        .expect("starts");
    assert_eq!(output.status.signal(), Some(6), "SIGABRT: {output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("fatal: the worker on lcore 1 panicked: number 7"),
        "{text}"
    );
}

/// Run by the test above in a process of its own.
#[test]
fn a_worker_that_panics() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let cpus = rustix::thread::sched_getaffinity(None).expect("own CPU set");
    let first = (0..1024)
        .find(|&cpu| cpus.is_set(cpu))
        .expect("at least one CPU");
    let eal = dpdk_support::eal("panic", &["--lcores", &format!("(0-1)@{first}")]);
    launch(eal.lcores()[0], || panic!("number {}", 7))
        .expect("launched")
        .join();
}
