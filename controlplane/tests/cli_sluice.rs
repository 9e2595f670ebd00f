//! The real `sluice` program against a fake daemon: what it prints and how it exits.

mod fake_daemon;

use fake_daemon::Daemon;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;

#[derive(Debug)]
struct Run {
    status: i32,
    stdout: String,
    stderr: String,
}

fn sluice(socket: &Path, words: &[&str]) -> Run {
    let mut program = Command::new(env!("CARGO_BIN_EXE_sluice"));
    program.arg("--socket").arg(socket).args(words);
    finish(program)
}

fn finish(mut program: Command) -> Run {
    let output = program.stdin(Stdio::null()).output().unwrap();
    Run {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn shows(words: &[&str], expected: &str) {
    let daemon = Daemon::start();
    let run = sluice(&daemon.socket, words);
    assert_eq!(run.stderr, "");
    assert_eq!(run.stdout, expected.trim_start_matches('\n'));
    assert_eq!(run.status, 0);
}

#[test]
fn status_is_one_screen() {
    shows(
        &["status"],
        "
sluiced 0.1.0, pid 4711, up 3h 12m
router         lb1
configuration  /etc/sluice/sluice.ini, epoch 3
last reload    accepted 1m 5s ago: 2 services changed
connections    IPv4 1.23M of 4.00M (30.9 %), IPv6 0 of 1.00M (0.0 %)
steering       in software, 12 packets redirected
idle           adaptive
memory         2 GB in hugepages
warning        no hugepages reserved on node 1

worker  cpu  state    busy  IPv4 connections       IPv6  waiting  redirected in  out  epochs
     0    2  running  43 %     617K of 2.00M  0 of 500K        0              0   12  5/17
     1    3  running  41 %     618K of 2.00M  0 of 500K        0             12    0  5/17

port  link  mac                 mtu  kernel  queues  steering                 rx packets  bytes  tx packets  bytes  missed  rx errors  tx errors  driver      devices
lan   up    02:00:00:00:00:01  1500  lan          1  software, 1 of 2 queues       1.00M  64.0M        999K  63.9M       0          0          0  net_af_xdp  net_af_xdp0,iface=eth1

buffer pool   free     of
mbufs0       65000  65535
",
    );
}

#[test]
fn vrrp_shows_who_is_what_since_when_and_why() {
    shows(
        &["vrrp"],
        "
router  state   group  interface  VRID  version  priority  master    advert  down after    next
VI_1    MASTER  both   lan          51        2  81 (101)  this box     1 s     3.683 s  0.42 s
VI_6    FAULT          lan          51        3       100             0.1 s      0.36 s

VI_1
  last       MASTER 1m 5s ago: no advertisement for 3.683 s
  timers     own advert 1 s, skew 0.683 s
  addresses  10.0.1.50, 10.0.1.51
  1234  adverts_sent  advertisements sent, to each peer one
     2  bad_ttl       ignored: TTL not 255, so it came from afar

VI_6
  fault      interface lan is down
  timers     own advert 0.1 s, skew 0.06 s

mail: 3 sent, 0 failed, 0 dropped because too many were waiting
",
    );
}

#[test]
fn a_router_is_released_by_its_name_and_only_if_it_can_be() {
    let daemon = Daemon::start();
    let release = |name| {
        let run = sluice(&daemon.socket, &["vrrp", "release", name]);
        (run.status, run.stdout, run.stderr)
    };
    assert_eq!(
        release("VI_1"),
        (0, "VI_1: yields to a peer\n".into(), String::new())
    );
    let refused = "sluice: VI_6 is not MASTER but FAULT\n";
    assert_eq!(release("VI_6"), (1, String::new(), refused.into()));
    let unknown = "sluice: there is no virtual router 'VI_2'; there are VI_1, VI_6\n";
    assert_eq!(release("VI_2"), (1, String::new(), unknown.into()));
    assert_eq!(sluice(&daemon.socket, &["vrrp", "release"]).status, 2);
    let run = sluice(&daemon.socket, &["--json", "vrrp"]);
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(json["routers"][0]["active_down_interval_ms"], 3683);
}

#[test]
fn maintenance_is_switched_on_and_off_and_shown() {
    let daemon = Daemon::start();
    let run = sluice(&daemon.socket, &["maintenance", "on"]);
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (0, "maintenance is on\n")
    );
    let run = sluice(&daemon.socket, &["vrrp"]);
    let said = "maintenance is on: every virtual router yields to its peers\n";
    assert!(run.stdout.starts_with(said), "{}", run.stdout);
    let run = sluice(&daemon.socket, &["maintenance", "off"]);
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (0, "maintenance is off\n")
    );
    assert!(!daemon.fake.maintenance.load(SeqCst));
    for words in [&["maintenance"][..], &["maintenance", "maybe"]] {
        assert_eq!(sluice(&daemon.socket, words).status, 2);
    }
}

#[test]
fn services_look_like_ipvsadm() {
    shows(
        &["services"],
        "
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port  Forward  Weight           ActiveConn  InActConn  Conns  InPkts  OutPkts  InBytes  OutBytes  Name   State
TCP  10.0.1.50:80 rr                                        0          3      3      15        0      809         0  web    2 unserved
  -> 10.0.1.11:80        Route         1                    0          3      0       0        0        0         0  web/a
  -> 10.0.1.12:80        Route         0                    0          0      0       0        0        0         0  web/b  drained
  -> 10.0.1.13:80        Masq          5                   10     123456      0       0        0        0         0  web/c  overloaded (limit 10), weight 1 configured
UDP  [2001:db8::50]:53 wrr persistent 300 mask 64           0          0      0       0        0        0         0  dns6   not served: the address is not on this box
",
    );
}

#[test]
fn stats_show_drops_first_and_no_zeros() {
    shows(
        &["stats"],
        "
Rates over 1.0 s: in 1.50M packets/s 768M bit/s, out 1.50M packets/s 767M bit/s, 12.3K connections/s, 0 drops/s

Drops      total  meaning
multicast    120  multicast or broadcast nobody here listens to
no_server      7  no real server can take the connection

Punts to Linux  total  meaning
arp                 4  ARP and neighbour discovery

Events      total  meaning
rx_packets  1.00M  frames received

Slow path    total
tap_written      4
",
    );
}

#[test]
fn connections_look_like_ipvsadm() {
    shows(
        &["connections"],
        "
pro  expire  state        source            virtual       destination   forward  packets  worker  server
TCP  14:59   ESTABLISHED  10.0.1.100:57886  10.0.1.50:80  10.0.1.11:80  Route          7       0  web/a
TCP  14:59   FIN_WAIT     10.0.1.100:57888  10.0.1.50:80  10.0.1.12:80  Route          7       0  web/b
TCP  14:59   ESTABLISHED  10.0.1.101:40000  10.0.1.50:80  10.0.1.11:80  Route          7       0  web/a
",
    );
}

#[test]
fn a_filter_selects_and_a_limit_is_said() {
    let daemon = Daemon::start();
    let words = ["connections", "client=10.0.1.100", "state=fin_wait"];
    let run = sluice(&daemon.socket, &words);
    assert_eq!(run.stdout.lines().count(), 2);
    assert!(run.stdout.contains("10.0.1.100:57888"));
    let run = sluice(&daemon.socket, &["connections", "real=*/a", "limit=1"]);
    assert_eq!(run.stdout.lines().count(), 2);
    assert_eq!(
        run.stderr,
        "sluice: 1 of 2 connections shown; limit=N shows more\n"
    );
    let run = sluice(&daemon.socket, &["connections", "service=db"]);
    assert_eq!((run.stdout.as_str(), run.status), ("no connections\n", 0));
}

#[test]
fn connections_are_deleted_by_filter_only() {
    let daemon = Daemon::start();
    let words = ["connections", "delete", "vip=10.0.1.50:80", "real=web/a"];
    let run = sluice(&daemon.socket, &words);
    assert_eq!(run.stdout, "2 connections deleted\n");
    let run = sluice(&daemon.socket, &["connections", "delete"]);
    assert_eq!(run.status, 2);
    let run = sluice(&daemon.socket, &["connections", "delete", "limit=1"]);
    assert_eq!(run.status, 2);
    let asked = daemon.fake.deleted.lock().unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].to_query(), "virtual=10.0.1.50:80&real=web/a");
}

#[test]
fn a_reload_tells_what_changed() {
    let daemon = Daemon::start();
    let run = sluice(&daemon.socket, &["reload"]);
    assert_eq!(
        run.stdout,
        "reloaded, epoch 4\n  virtual_server web: scheduler rr -> wrr\n"
    );
    assert_eq!(
        run.stderr,
        "warning: sluice.ini:9: [global] idle: busy on a shared CPU\n"
    );
    assert_eq!(run.status, 0);
}

#[test]
fn a_refused_reload_tells_every_reason_and_exits_with_1() {
    let daemon = Daemon::start();
    daemon.fake.refuse_reload.store(true, SeqCst);
    let run = sluice(&daemon.socket, &["reload"]);
    assert_eq!(run.stdout, "");
    assert_eq!(
        run.stderr,
        "sluice.ini:12: [virtual_server web] scheduler: unknown 'rrr'; expected rr\n\
         sluice: refused, nothing changed\n"
    );
    assert_eq!(run.status, 1);
    let run = sluice(&daemon.socket, &["--json", "reload"]);
    assert_eq!(run.status, 1);
    let report: controlplane::admin::api::ReloadReport = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report, fake_daemon::reload(false));
}

#[test]
fn json_is_the_apis_own_text() {
    let daemon = Daemon::start();
    let run = sluice(&daemon.socket, &["services", "--json"]);
    let expected = serde_json::to_string_pretty(&fake_daemon::services()).unwrap();
    assert_eq!(run.stdout, expected + "\n");
    let run = sluice(&daemon.socket, &["--json", "status"]);
    let expected = serde_json::to_string_pretty(&fake_daemon::status()).unwrap();
    assert_eq!(run.stdout, expected + "\n");
    let run = sluice(&daemon.socket, &["connections", "--json", "limit=1"]);
    let listed: controlplane::admin::api::Connections = serde_json::from_str(&run.stdout).unwrap();
    assert!(listed.truncated);
    assert!(run.stdout.contains("\"virtual\": \"10.0.1.50:80\""));
}

#[test]
fn what_the_daemon_refuses_exits_with_1() {
    let daemon = Daemon::start();
    daemon.fake.unavailable.store(true, SeqCst);
    let run = sluice(&daemon.socket, &["services"]);
    assert_eq!(run.stderr, "sluice: the daemon is starting\n");
    assert_eq!((run.stdout.as_str(), run.status), ("", 1));
    let run = sluice(&daemon.socket, &["services", "--json"]);
    assert_eq!(
        run.stdout,
        "{\n  \"error\": \"the daemon is starting\"\n}\n"
    );
    assert_eq!((run.stderr.as_str(), run.status), ("", 1));
}

#[test]
fn without_a_daemon_it_exits_with_3() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let expected = format!(
        "sluice: no sluiced is running: nobody listens on {}\n",
        socket.display()
    );
    let run = sluice(&socket, &["status"]);
    assert_eq!((run.stderr.as_str(), run.status), (expected.as_str(), 3));
    // What a killed daemon leaves behind is a socket nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let run = sluice(&socket, &["status", "--json"]);
    assert_eq!((run.stderr.as_str(), run.status), (expected.as_str(), 3));
    assert_eq!(run.stdout, "");
}

#[test]
fn a_daemon_that_hangs_up_is_no_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let thread = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let run = sluice(&socket, &["status"]);
    thread.join().unwrap();
    assert!(run.stderr.contains("hung up"), "{}", run.stderr);
    assert_eq!(run.status, 3);
}

#[test]
fn a_stranger_is_told_that_permission_is_missing() {
    let daemon = Daemon::start();
    // The program itself may be where the stranger cannot go.
    let program = daemon.directory.path().join("sluice");
    // By another process: were the copy written by this one, a child that another test forks just
    // then would hold it open, and executing it would fail with "text file busy".
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_sluice"))
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    let mut stranger = Command::new(program);
    stranger.arg("--socket").arg(&daemon.socket).arg("status");
    stranger.uid(65_534).gid(65_534);
    let run = finish(stranger);
    assert_eq!(
        run.stderr,
        format!(
            "sluice: permission denied on {}: you must be root or in the admin or monitor group\n",
            daemon.socket.display()
        )
    );
    assert_eq!(run.status, 1);
}

#[test]
fn commands_of_later_releases_say_so() {
    let socket = Path::new("/nonexistent");
    for words in [
        &["top"][..],
        &["events", "--follow"],
        &["restore", "--atomic", "x"],
        &["drain", "web/a", "--wait"],
        &["undrain", "web/a"],
        &["weight", "web/a", "3"],
        &["checks"],
        &["trace"],
        &["which-real"],
        &["capture"],
        &["log", "debug"],
        &["save"],
        &["config", "diff"],
        &["support-bundle"],
        &["convert", "keepalived.conf"],
        &["genhash", "-s", "x"],
    ] {
        let run = sluice(socket, words);
        let expected = format!("sluice: '{}' is not supported yet\n", words[0]);
        assert_eq!((run.stderr, run.status), (expected, 1));
    }
}

#[test]
fn a_reload_discards_what_commands_changed_only_when_asked_to() {
    let daemon = Daemon::start();
    assert_eq!(sluice(&daemon.socket, &["reload"]).status, 0);
    assert!(!daemon.fake.discarded.load(SeqCst));
    let run = sluice(&daemon.socket, &["reload", "--discard-overrides"]);
    assert_eq!(run.status, 0);
    assert!(daemon.fake.discarded.load(SeqCst));
}

#[test]
fn under_the_name_of_genhash_it_is_not_that_program_yet() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_sluice"));
    program.arg0("/usr/sbin/genhash").arg("-s");
    let run = finish(program);
    assert_eq!(run.stderr, "genhash: not supported yet\n");
    assert_eq!(run.status, 1);
}

#[test]
fn wrong_usage_exits_with_2_before_anyone_is_asked() {
    let socket = Path::new("/nonexistent");
    for (words, said) in [
        (&[][..], "Usage"),
        (
            &["statsu"][..],
            "sluice: unknown command 'statsu'; did you mean 'stats'?",
        ),
        (&["frobnicate"], "sluice: unknown command 'frobnicate'\n"),
        (&["status", "extra"], "extra"),
        (&["--no-such-option", "status"], "--no-such-option"),
        (
            &["connections", "clinet=1"],
            "sluice: connections: unknown filter 'clinet'; expected one of protocol, client",
        ),
        (
            &["connections", "delete", "client=x"],
            "sluice: connections: client: 'x' is wrong; expected IP",
        ),
    ] {
        let run = sluice(socket, words);
        assert_eq!(run.status, 2, "{words:?}: {run:?}");
        assert!(run.stderr.contains(said), "{words:?}: {run:?}");
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let run = sluice(Path::new("/nonexistent"), &["--help"]);
    assert_eq!(run.status, 0);
    assert!(
        run.stdout
            .contains("Exit status: 0 done, 1 refused, 2 wrong usage, 3 no daemon.")
    );
    let run = sluice(Path::new("/nonexistent"), &["connections", "--help"]);
    assert!(run.stdout.contains("client=10.0.1.100"));
    let run = sluice(Path::new("/nonexistent"), &["--version"]);
    assert_eq!(run.status, 0);
    assert!(run.stdout.starts_with("sluice "));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let daemon = Daemon::start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .arg("--socket")
        .arg(&daemon.socket)
        .arg("status")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(stderr, "");
}
