//! The real program under the names `ipvsadm`, `ipvsadm-save` and `ipvsadm-restore` against a fake
//! daemon: what it asks for, what it prints and how it exits.

mod fake_daemon;

use controlplane::admin::api::IpvsCommand;
use fake_daemon::Daemon;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

#[derive(Debug, Eq, PartialEq)]
struct Run {
    status: i32,
    stdout: String,
    stderr: String,
}

/// Runs it under `name`, with `input` to read.
fn run(name: &str, words: &[&str], socket: &Path, input: &str) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .arg0(format!("/usr/sbin/{name}"))
        .args(words)
        .env("SLUICE_SOCKET", socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that has seen enough does not read to the end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn says(status: i32, stdout: &str, stderr: &str) -> Run {
    Run {
        status,
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
    }
}

const LISTING: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.1.50:80 rr
  -> 10.0.1.11:80                 Route   1      2          3         
";

#[test]
fn a_listing_is_the_kernels() {
    let daemon = Daemon::start();
    let listed = run("ipvsadm", &["-Ln"], &daemon.socket, "");
    assert_eq!(listed, says(0, LISTING, ""));
    let mut program = Command::new(env!("CARGO_BIN_EXE_sluice"));
    let program = program.arg("--socket").arg(&daemon.socket);
    let output = program.args(["ipvsadm", "-L", "-n"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), LISTING);
    let one = run(
        "ipvsadm",
        &["-ln", "-t", "10.0.1.50:81"],
        &daemon.socket,
        "",
    );
    assert_eq!(one, says(1, "", "No such service\n"));
    let timeouts = run("ipvsadm", &["-L", "--timeout"], &daemon.socket, "");
    assert_eq!(timeouts.stdout, "Timeout (tcp tcpfin udp): 900 120 300\n");
    let connections = run("ipvsadm", &["-lcn"], &daemon.socket, "");
    assert_eq!(
        connections.stdout.lines().nth(2),
        Some("TCP 14:59  ESTABLISHED 10.0.1.100:57886   10.0.1.50:80       10.0.1.11:80")
    );
}

#[test]
fn without_words_names_are_listed() {
    let daemon = Daemon::start();
    let listed = run("ipvsadm", &[], &daemon.socket, "");
    assert!(listed.stdout.contains(":http rr\n"), "{listed:?}");
}

#[test]
fn the_daemons_refusal_is_the_exit_status_255() {
    let daemon = Daemon::start();
    let words = ["-A", "-t", "10.0.1.50:80", "-s", "rr"];
    let refused = run("ipvsadm", &words, &daemon.socket, "");
    assert_eq!(refused, says(255, "", "Service already exists\n"));
    let done = run("ipvsadm", &["-Z"], &daemon.socket, "");
    assert_eq!(done, says(0, "", ""));
}

#[test]
fn a_restore_is_one_batch_and_its_last_line_decides() {
    let daemon = Daemon::start();
    let lines = "-A -t 10.0.1.50:80 -s rr\n\n-D -t 10.0.1.51:80\n-A -t 10.0.1.50:81 -s rr\n";
    let restored = run("ipvsadm", &["-R"], &daemon.socket, lines);
    let said = "Service already exists\nNo such service\n";
    assert_eq!(restored, says(0, "", said));
    let batches = daemon.fake.batches.lock().unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].commands.len(), 3);
}

#[test]
fn a_line_that_makes_no_sense_ends_a_restore_after_what_came_before() {
    let daemon = Daemon::start();
    let lines = "-A -t 10.0.1.50:81 -s rr\n# no comment\n-C\n";
    let restored = run("ipvsadm", &["-R"], &daemon.socket, lines);
    let help = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n";
    assert_eq!(restored, says(255, "", help));
    let restored = run("ipvsadm", &["-R"], &daemon.socket, "-A -t 80\n-C\n");
    let illegal = "illegal virtual server address[:port] specified\n";
    assert_eq!(restored, says(2, "", illegal));
    let batches = daemon.fake.batches.lock().unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].commands.len(), 1);
}

#[test]
fn the_wrappers_save_and_restore() {
    let daemon = Daemon::start();
    let saved = run("ipvsadm-save", &["-n"], &daemon.socket, "");
    let commands = "-A -t 10.0.1.50:80 -s rr\n-a -t 10.0.1.50:80 -r 10.0.1.11:80 -g -w 1\n";
    assert_eq!(saved, says(0, commands, ""));
    let lines = "# from a backup\n-A -t 10.0.1.50:81 -s rr\n";
    let restored = run("ipvsadm-restore", &[], &daemon.socket, lines);
    assert_eq!(restored, says(0, "", ""));
    let batches = daemon.fake.batches.lock().unwrap();
    let commands = &batches[0].commands;
    assert_eq!(commands.len(), 2);
    assert_eq!(commands[0], IpvsCommand::Clear);
}

#[test]
fn without_a_daemon_it_says_so_as_without_a_kernel_module() {
    let daemon = Daemon::start();
    let nowhere = &daemon.directory.path().join("other.sock");
    let refused = run("ipvsadm", &["-Ln"], nowhere, "");
    let said = format!(
        "Can't initialize ipvs: no sluiced is running: nobody listens on {}\n\
         Are you sure that IP Virtual Server is built in the kernel or as module?\n",
        nowhere.display()
    );
    assert_eq!(refused, says(2, "", &said));
    let version = run("ipvsadm", &["-v"], nowhere, "");
    let line = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";
    assert_eq!(version, says(0, line, ""));
    let help = run("ipvsadm", &["-h"], nowhere, "");
    assert!(help.stdout.starts_with(line) && help.stdout.contains("Usage:"));
    assert_eq!(help.status, 0);
}
