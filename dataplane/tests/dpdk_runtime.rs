//! What a killed DPDK process leaves behind is removed, what a living one uses is not.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use dataplane::dpdk::{Eal, RuntimeError, remove_stale_runtime};

/// Names the prefix in the child's environment, and makes the second test the child.
const PREFIX: &str = "SLUICE_TEST_EAL_PREFIX";

#[test]
fn the_runtime_of_a_killed_process_is_removed_but_not_of_a_living_one() {
    let prefix = format!("sluice-test-stale-{}", std::process::id());
    let mut child = Holder::start(&prefix);
    assert!(matches!(
        remove_stale_runtime(&prefix),
        Err(RuntimeError::InUse(_))
    ));
    child.kill();
    let removed = remove_stale_runtime(&prefix).expect("nobody holds it");
    assert!(
        removed.iter().any(|path| path.ends_with(&prefix)),
        "{removed:?}"
    );
    assert!(removed.iter().all(|path| !path.exists()));
    assert!(
        remove_stale_runtime(&prefix)
            .expect("nothing is left")
            .is_empty()
    );
}

/// Run by the test above in a process of its own: holds an EAL until it is killed.
#[test]
fn a_holder_of_eal_waits_to_be_killed() {
    let Ok(prefix) = std::env::var(PREFIX) else {
        return;
    };
    let args = [
        "--no-huge",
        "--no-pci",
        "-m",
        "32",
        "-l",
        "0",
        "--log-level=error",
        "--file-prefix",
        &prefix,
    ];
    Eal::init(&args.map(str::to_owned)).expect("EAL starts");
    let mut out = std::io::stdout();
    writeln!(out, "\nready")
        .and_then(|()| out.flush())
        .expect("the parent listens");
    std::io::stdin().lines().for_each(drop);
}

struct Holder(Child);

impl Holder {
    fn start(prefix: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("own path"))
            .args([
                "--exact",
                "--nocapture",
                "a_holder_of_eal_waits_to_be_killed",
            ])
            .env(PREFIX, prefix)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = lines.map_while(Result::ok).any(|line| line == "ready");
        let holder = Self(child);
        assert!(ready, "the child has EAL up");
        holder
    }

    fn kill(&mut self) {
        self.0.kill().expect("our child");
        self.0.wait().expect("our child");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
