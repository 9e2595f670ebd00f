//! The tool against transcripts of the real one (Debian 12, kernel 6.1): every complaint with its
//! exit status, and every listing byte for byte.

use super::names::Recorded;
use super::syntax::{self, Listing, Request, What};
use super::{Misuse, connections, listing};
use crate::admin::api::{
    Connection, Counters, Forward, IpvsCommand, IpvsRates, IpvsServer, IpvsService, IpvsTables,
    Owner, Protocol,
};
use crate::daemon::ipvs::pure::Director;

const MISUSE: &str = include_str!("recorded/misuse.txt");
const LISTINGS: &str = include_str!("recorded/listings.txt");

/// A command of a transcript with what it printed and its exit status.
struct Step<'a> {
    line: &'a str,
    printed: String,
    status: u8,
}

fn steps(transcript: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for line in transcript.lines() {
        if let Some(command) = line.strip_prefix("$ ipvsadm") {
            steps.push(Step {
                line: command.trim(),
                printed: String::new(),
                status: 0,
            });
            continue;
        }
        let step = steps
            .last_mut()
            .expect("a transcript begins with a command");
        let status = line.strip_prefix("[exit ");
        if let Some(status) = status.and_then(|rest| rest.strip_suffix(']')) {
            step.status = status.parse().unwrap();
        } else {
            step.printed.push_str(line);
            step.printed.push('\n');
        }
    }
    steps
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn parse(line: &str) -> Result<Request, Misuse> {
    syntax::parse("ipvsadm", &words(line), false, &Recorded)
}

/// What the tool prints and its exit status, with a director of its own.
fn run(line: &str, director: &mut Director) -> (String, u8) {
    let refused = |text: String, status| (format!("{text}\n"), status);
    match parse(line) {
        Err(misuse) => refused(misuse.text, misuse.status),
        Ok(Request::Change(command)) => match director.apply(&command) {
            Ok(()) => (String::new(), 0),
            Err(refusal) => refused(refusal.to_string(), 255),
        },
        Ok(Request::StopDaemon) => refused("No daemon is running".to_owned(), 255),
        Ok(Request::StartDaemon) => refused("connection sync".to_owned(), 255),
        Ok(Request::List(Listing {
            what: What::Service(key),
            ..
        })) if !director.tables().services.iter().any(|s| s.key == key) => {
            refused("No such service".to_owned(), 1)
        }
        Ok(request) => panic!("{line}: {request:?} prints something"),
    }
}

/// The recording machine had no wlc; and nobody starts connection sync yet.
fn differs(line: &str) -> bool {
    [
        "-A -t 2001:db8::1 -p 60",
        "--start-daemon master --mcast-interface nosuchif",
    ]
    .contains(&line)
}

#[test]
fn a_lower_threshold_above_the_upper_one_is_refused_as_the_kernel_does_also_without_an_upper_one() {
    let mut director = Director::new();
    let mut run = |line: &str| run(line, &mut director);
    let done = (String::new(), 0);
    let refused = ("Numerical result out of range\n".to_owned(), 255);
    run("-A -t 10.0.1.50:80 -s rr");
    let server = "-t 10.0.1.50:80 -r 10.0.2.11:8080 -m";
    assert_eq!(run(&format!("-a {server} -y 3")), refused);
    assert_eq!(run(&format!("-a {server} -x 2 -y 3")), refused);
    assert_eq!(run(&format!("-a {server} -x 3 -y 3")), done);
    assert_eq!(run(&format!("-e {server} -y 1")), refused);
    assert_eq!(run(&format!("-e {server} -x 0 -y 1")), refused);
    assert_eq!(run(&format!("-e {server}")), done);
    assert_eq!(run(&format!("-e {server} -x 9")), done);
}

#[test]
fn complaints_and_exit_statuses_are_the_recorded_ones() {
    let mut director = Director::new();
    for step in steps(MISUSE) {
        if differs(step.line) {
            continue;
        }
        let expected = (step.printed, step.status);
        assert_eq!(
            run(step.line, &mut director),
            expected,
            "ipvsadm {}",
            step.line
        );
    }
}

#[test]
fn the_slips_of_the_keyboard_are_answered_as_operators_know_it() {
    let mut director = Director::new();
    for (line, text, status) in [
        (
            "-A 192.168.0.100:80 -s rr",
            "unexpected argument 192.168.0.100:80",
            2,
        ),
        (
            "-t 10.0.0.1:80 -A",
            "Try `ipvsadm -h' or 'ipvsadm --help' for more information.",
            255,
        ),
        (
            "-A -t 10.0.0.1:80 -t 10.0.0.1:81",
            "multiple 'service-address' options specified",
            2,
        ),
        (
            "-C -n",
            "Illegal 'numeric' option with the 'flush' command",
            2,
        ),
        (
            "-S -c",
            "Illegal 'connection' option with the 'save' command",
            2,
        ),
        ("-a -t 10.0.0.1:80 -r", "-r: missing argument", 255),
        (
            "-A -t 10.0.0.1:80 -s rr -w 1",
            "Illegal 'weight' option with the 'add-service' command",
            2,
        ),
        (
            "-L --daemon --timeout",
            "The option 'daemon' conflicts with the 'timeout' option in the 'list' command",
            2,
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gre --tun-csum --tun-remcsum",
            "Illegal 'tun-remcsum' option with the 'gre' tunnel type",
            2,
        ),
    ] {
        let expected = (format!("{text}\n"), status);
        assert_eq!(run(line, &mut director), expected, "ipvsadm {line}");
    }
}

#[test]
fn settings_left_out_of_an_edit_have_their_defaults_again() {
    let mut director = Director::new();
    let mut run = |line| assert_eq!(run(line, &mut director), (String::new(), 0), "{line}");
    run("-A -t 10.0.1.50:80 -s rr");
    run("-a -t 10.0.1.50:80 -r 10.0.2.11:8080 -m -w 5 -x 9 -y 3");
    run("-a -t 10.0.1.50:80 -r 10.0.2.12");
    run("-e -t 10.0.1.50:80 -r 10.0.2.11:8080 -m");
    run("-E -t 10.0.1.50:80");
    let saved = listing::save(&director.tables().services, true, &Recorded);
    assert_eq!(
        saved,
        "-A -t 10.0.1.50:80 -s wlc\n\
         -a -t 10.0.1.50:80 -r 10.0.2.11:8080 -m -w 1\n\
         -a -t 10.0.1.50:80 -r 10.0.2.12:80 -g -w 1\n"
    );
    let servers = &director.tables().services[0].servers;
    // Listed newest first; the edited one kept its place.
    let ports: Vec<_> = servers.iter().map(|server| server.key.port).collect();
    assert_eq!(ports, [80, 8080]);
    assert!(
        servers
            .iter()
            .all(|server| server.settings.upper_threshold == 0)
    );
}

/// The tables that commands make, without a daemon's judgement.
fn tables(commands: &str) -> IpvsTables {
    let mut tables = IpvsTables::default();
    for line in commands.lines() {
        match parse(line).unwrap() {
            Request::Change(IpvsCommand::AddService { service, settings }) => {
                tables.services.push(IpvsService {
                    key: service,
                    settings,
                    owner: Owner::Command,
                    counters: Counters::default(),
                    rates: IpvsRates::default(),
                    servers: Vec::new(),
                });
            }
            Request::Change(IpvsCommand::AddServer {
                service,
                server,
                settings,
            }) => {
                let mut services = tables.services.iter_mut();
                let of = services.find(|known| known.key == service).unwrap();
                let server = IpvsServer {
                    key: server,
                    settings,
                    owner: Owner::Command,
                    active: 0,
                    inactive: 0,
                    persistent: 0,
                    counters: Counters::default(),
                    rates: IpvsRates::default(),
                };
                of.servers.insert(0, server);
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    tables
}

/// The recorded tables in the order of the recording's hash table, for the listing without sorting.
const COMMANDS: &str = "\
-A -u 10.0.1.50:53 -s rr -o
-a -u 10.0.1.50:53 -r 10.0.2.11:53 -m -w 1
-A -t 10.0.1.52:21 -s none
-A -t 10.0.1.50:80 -s rr
-a -t 10.0.1.50:80 -r 10.0.2.11:8080 -m -w 1
-a -t 10.0.1.50:80 -r 10.0.2.12:8080 -m -w 2 -x 100 -y 50
-a -t 10.0.1.50:80 -r 10.0.2.13:80 -g -w 0
-a -t 10.0.1.50:80 -r 10.0.2.1:8080 -m -w 1
-a -t 10.0.1.50:80 -r 127.0.0.1:80 -g -w 1
-A -t [2001:db8::50]:80 -s wrr -p 300 -M 64
-a -t [2001:db8::50]:80 -r [2001:db8::11]:8080 -m -w 1
-A --sctp-service 10.0.1.50:3868 -s wrr -b flag-1,flag-3
-a --sctp-service 10.0.1.50:3868 -r 10.0.2.12:3868 -m -w 1
-A -u 10.0.1.50:5060 -s rr -p 60 --pe sip -o
-a -u 10.0.1.50:5060 -r 10.0.2.11:5060 -m -w 1
-A -f 7 -s sh -b sh-fallback,sh-port
-a -f 7 -r 10.0.2.11:0 -g -w 1
-a -f 7 -r 10.0.2.12:0 -m -w 5
-A -f 8 -6 -s mh -p 120 -M 64 -b mh-port";

#[test]
fn listings_are_the_recorded_ones_byte_for_byte() {
    let tables = tables(COMMANDS);
    let mut compared = 0;
    for step in steps(LISTINGS) {
        let printed = match parse(step.line).unwrap() {
            Request::Save { numeric } => listing::save(&tables.services, numeric, &Recorded),
            Request::List(listing) => match listing.what {
                What::Services => listing::render(&tables.services, true, listing, &Recorded),
                What::Service(key) => {
                    let services = tables.services.iter().filter(|s| s.key == key);
                    let services: Vec<_> = services.cloned().collect();
                    if services.is_empty() {
                        assert_eq!((&*step.printed, step.status), ("No such service\n", 1));
                        continue;
                    }
                    listing::render(&services, false, listing, &Recorded)
                }
                What::Connections => connections::render(&[], listing, &Recorded),
                What::Timeouts | What::Daemons => continue,
            },
            other => panic!("{}: {other:?}", step.line),
        };
        assert_eq!(printed, step.printed, "ipvsadm {}", step.line);
        compared += 1;
    }
    assert_eq!(compared, 20);
}

#[test]
fn what_is_saved_makes_the_same_tables() {
    let before = tables(COMMANDS);
    let saved = listing::save(&before.services, true, &Recorded);
    let again = listing::save(&tables(&saved).services, true, &Recorded);
    assert_eq!(again, saved);
}

#[test]
fn tunnels_are_listed_and_saved_with_their_type() {
    let tables = tables(
        "-A -t 10.0.1.50:80 -s rr\n\
         -a -t 10.0.1.50:80 -r 10.0.2.11 -i\n\
         -a -t 10.0.1.50:80 -r 10.0.2.12 -i --tun-type gue --tun-port 6080 --tun-csum\n\
         -a -t 10.0.1.50:80 -r 10.0.2.13 -i --tun-type gre\n\
         -a -t 10.0.1.50:80 -r [2001:db8::2]:80 -i --tun-type gue --tun-port 6080 --tun-remcsum",
    );
    let Ok(Request::List(of)) = parse("-Ln --tun-info") else {
        panic!("a listing");
    };
    let text = listing::render(&tables.services, false, of, &Recorded);
    let rows: Vec<_> = text.lines().skip(3).collect();
    assert_eq!(
        rows,
        [
            "  -> 10.0.2.11:80                 Tunnel  ipip          1      0          0         ",
            "  -> 10.0.2.12:80                 Tunnel  gue:6080:+c   1      0          0         ",
            "  -> 10.0.2.13:80                 Tunnel  gre:-c        1      0          0         ",
            "  -> [2001:db8::2]:80             Tunnel  gue:6080:r+c  1      0          0         ",
        ]
    );
    let saved = listing::save(&tables.services, true, &Recorded);
    let rows: Vec<_> = saved.lines().skip(1).collect();
    assert_eq!(
        rows,
        [
            "-a -t 10.0.1.50:80 -r 10.0.2.11:80 -i -w 1 --tun-type ipip",
            "-a -t 10.0.1.50:80 -r 10.0.2.12:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum",
            "-a -t 10.0.1.50:80 -r 10.0.2.13:80 -i -w 1 --tun-type gre --tun-nocsum",
            "-a -t 10.0.1.50:80 -r [2001:db8::2]:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum",
        ]
    );
}

#[test]
fn connections_are_listed_as_recorded() {
    let connection = |protocol, state: &str, expires_seconds, ends: [&str; 3]| Connection {
        protocol,
        state: state.into(),
        template: protocol == Protocol::Ip,
        pe_data: None,
        expires_seconds,
        client: ends[0].parse().unwrap(),
        vip: ends[1].parse().unwrap(),
        destination: ends[2].parse().unwrap(),
        service: "web".into(),
        real: "a".into(),
        worker: 0,
        packets: 7,
        forward: Forward::Dr,
    };
    let listed = [
        connection(
            Protocol::Tcp,
            "ESTABLISHED",
            899,
            ["10.0.1.100:57886", "10.0.1.50:80", "10.0.2.11:8080"],
        ),
        connection(
            Protocol::Ip,
            "ASSURED",
            59,
            ["10.0.1.100:0", "0.0.0.9:0", "10.0.2.12:0"],
        ),
        connection(
            Protocol::Udp,
            "UDP",
            298,
            ["10.0.1.100:52751", "10.0.1.50:53", "10.0.2.11:53"],
        ),
    ];
    let list = |line| {
        let Ok(Request::List(of)) = parse(line) else {
            panic!("{line} is a listing");
        };
        connections::render(&listed, of, &Recorded)
    };
    let numeric = "\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:59  ESTABLISHED 10.0.1.100:57886   10.0.1.50:80       10.0.2.11:8080
IP  00:59  ASSURED     10.0.1.100:0       0.0.0.9:0          10.0.2.12:0
UDP 04:58  UDP         10.0.1.100:52751   10.0.1.50:53       10.0.2.11:53
";
    assert_eq!(list("-lcn"), numeric);
    assert_eq!(list("-L -n -c"), numeric);
    assert!(list("-Lc").contains("10.0.1.50:http     10.0.2.11:http-alt\n"));
}
