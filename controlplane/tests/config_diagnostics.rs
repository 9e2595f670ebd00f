//! Bad files and exactly what is said about them: every problem, in file order, one line each.

use std::path::Path;

use controlplane::config::{LoadOptions, load};

/// Lines that make a file complete, so that a case shows only what it is about.
const PORT: &str = "[port lan]\ndevice = net_tap0\n";

fn lines_of(directory: &Path, result: Result<Vec<String>, String>) -> Vec<String> {
    let prefix = format!("{}/", directory.display());
    let text = match result {
        Ok(warnings) => warnings.join("\n"),
        Err(text) => text,
    };
    text.replace(&prefix, "")
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Loads the text as `t.ini` and returns the diagnostics' lines, file names without their directory.
fn check_bytes(bytes: &[u8]) -> (bool, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.ini");
    std::fs::write(&path, bytes).unwrap();
    let result = load(&LoadOptions::new(&path));
    let ok = result.is_ok();
    let result = result
        .map(|loaded| {
            loaded
                .warnings
                .iter()
                .map(|warning| format!("warning: {warning}"))
                .collect()
        })
        .map_err(|diagnostics| diagnostics.to_string());
    (ok, lines_of(directory.path(), result))
}

/// The file must be refused with these lines.
#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let (ok, lines) = check_bytes(text.as_bytes());
    assert!(!ok, "accepted: {text}");
    assert_eq!(lines, expected);
}

/// The file must be accepted with these warnings.
#[track_caller]
fn accepted(text: &str, expected: &[&str]) {
    let (ok, lines) = check_bytes(text.as_bytes());
    assert!(ok, "refused: {lines:?}");
    assert_eq!(lines, expected);
}

#[test]
fn unknown_things_are_refused_with_what_was_probably_meant() {
    refused(
        &format!(
            "{PORT}[global]\nidel = busy\nIdle = busy\nbanana = 1\n[globl]\nx = 1\n[timeouts]\ntcp_established = 9\n"
        ),
        &[
            "t.ini:4: [global] idel: unknown key; did you mean `idle`?",
            "t.ini:5: [global] Idle: unknown key; did you mean `idle`?",
            "t.ini:6: [global] banana: unknown key; expected one of config_version, router_id, control_core, worker_cores, \
             idle, hugepages, memory, connections, eal_args, transit, admin_socket, admin_group, monitor_group, \
             http_listen, http_token_file, http_tls_cert, http_tls_key, log, script_user, notification_email, \
             notification_email_from, smtp_server, smtp_connect_timeout, smtp_helo_name, alerts",
            "t.ini:7: [globl]: unknown section; did you mean `global`?",
            "t.ini:10: [timeouts] tcp_established: unknown key; did you mean `tcp`?",
        ],
    );
}

#[test]
fn repeated_sections_and_keys_name_both_lines() {
    refused(
        &format!(
            "{PORT}[global]\nidle = busy\nidle = adaptive\n[ipvs]\n[global]\nlog = info\n[port lan]\ndevice = net_tap1\n"
        ),
        &[
            "t.ini:5: [global] idle: the key is repeated; expected it once, first at t.ini:4",
            "t.ini:7: [global]: the section is repeated; expected it once, first at t.ini:3",
            "t.ini:9: [port lan]: the section is repeated; expected it once, first at t.ini:1",
        ],
    );
}

#[test]
fn bad_values_say_what_is_expected() {
    refused(
        &format!(
            "{PORT}[global]\nidle = bussy\nconnections = 0\nworker_cores = 3-1\nmemory = 64\nhugepages = maybe\n\
             log = inof\nadmin_socket = relative\nconfig_version = 2\ncontrol_core =\ntransit = fsat\n[timeouts]\n\
             tcp = 0\nudp = 1.5s\ntcp_fin = 745h\n"
        ),
        &[
            "t.ini:4: [global] idle: `bussy` is not valid; expected busy or adaptive; did you mean `busy`?",
            "t.ini:5: [global] connections: `0` is out of range; expected a number from 1 to 1000000000",
            "t.ini:6: [global] worker_cores: `3-1` is not valid; expected CPU numbers such as 1-3,6, or auto",
            "t.ini:7: [global] memory: `64` is not valid; expected a size such as 512MB or 1GB, at least 16MB, or auto",
            "t.ini:8: [global] hugepages: `maybe` is not valid; expected yes, no or auto",
            "t.ini:9: [global] log: `inof` is not a log directive; expected off, error, warn, info, debug or trace, or \
             TARGET=LEVEL, separated by commas; did you mean `info`?",
            "t.ini:10: [global] admin_socket: `relative` is not valid; expected an absolute path of at most 107 characters",
            "t.ini:11: [global] config_version: `2` is out of range; expected 1",
            "t.ini:12: [global] control_core: the value is missing; expected a number from 0 to 1023",
            "t.ini:13: [global] transit: `fsat` is not valid; expected kernel, fast or drop; did you mean `fast`?",
            "t.ini:15: [timeouts] tcp: `0` is not valid; expected a duration in whole seconds such as 6s, 5m or 1h, \
             from 1s to 31 days",
            "t.ini:16: [timeouts] udp: `1.5s` is not valid; expected a duration in whole seconds such as 6s, 5m or 1h, \
             from 1s to 31 days",
            "t.ini:17: [timeouts] tcp_fin: `745h` is not valid; expected a duration in whole seconds such as 6s, 5m or \
             1h, from 1s to 31 days",
        ],
    );
}

#[test]
fn defences_have_the_kernels_modes_and_limits() {
    refused(
        &format!(
            "{PORT}[ipvs]\ndrop_entry = 4\ndrop_packet = auto\nsecure_tcp = -1\namemthresh = 3000000000\n\
             am_droprate = ten\nsloppy_sctp = 2\nnat_icmp_send = maybe\nschedule_icmp = 2\ndrop_entri = 1\n\
             [timeouts]\nsctp_closed = 0\n"
        ),
        &[
            "t.ini:4: [ipvs] drop_entry: `4` is out of range; expected a number from 0 to 3",
            "t.ini:5: [ipvs] drop_packet: `auto` is not valid; expected a number from 0 to 3",
            "t.ini:6: [ipvs] secure_tcp: `-1` is out of range; expected a number from 0 to 3",
            "t.ini:7: [ipvs] amemthresh: `3000000000` is out of range; expected a number from 0 to 2147483647",
            "t.ini:8: [ipvs] am_droprate: `ten` is not valid; expected a number from 0 to 2147483647",
            "t.ini:9: [ipvs] sloppy_sctp: `2` is not valid; expected yes or no",
            "t.ini:10: [ipvs] nat_icmp_send: `maybe` is not valid; expected yes or no",
            "t.ini:11: [ipvs] schedule_icmp: `2` is not valid; expected yes or no",
            "t.ini:12: [ipvs] drop_entri: unknown key; did you mean `drop_entry`?",
            "t.ini:14: [timeouts] sctp_closed: `0` is not valid; expected a duration in whole seconds such as 6s, 5m or \
             1h, from 1s to 31 days",
        ],
    );
}

#[test]
fn list_items_are_reported_at_their_own_lines() {
    refused(
        &format!(
            "{PORT}[virtual_server web]\naddresses = 10.0.0.1:80,\n  # fine so far\n  10.0.0.2,\n  10.0.0.300:80\n[real_server web/a]\naddress = 10.0.0.11\n"
        ),
        &[
            "t.ini:6: [virtual_server web] addresses: `10.0.0.2` has no port; expected ADDRESS:PORT, port 0 for any, \
             IPv6 in brackets",
            "t.ini:7: [virtual_server web] addresses: `10.0.0.300:80` is not valid; expected ADDRESS:PORT, \
             FIRST-LAST:PORT or PREFIX:PORT, IPv6 in brackets",
        ],
    );
}

#[test]
fn what_is_not_built_is_refused_and_never_ignored() {
    refused(
        &format!(
            "{PORT}local_addresses = 10.0.0.3\n[global]\nhttp_listen = 127.0.0.1:9380\nhttp_token_file = /x\n[ipvs]\n\
             backup_only = yes\npmtu_disc = no\n[timeouts]\nsctp_init = 61\n[virtual_server web]\n\
             addresses = 10.0.0.50:80\nscheduler = lc\nprotocol = sctp\nforward = fullnat\npersistence = 300\n\
             checks = tcp\nquorum = 1\n[real_server web/a]\naddress = 10.0.0.11\nforward = fullnat\nnotify_up = x\n\
             [vlan v5]\nport = lan\nid = 5\n"
        ),
        &[
            "t.ini:3: [port lan] local_addresses: not supported yet",
            "t.ini:5: [global] http_listen: `127.0.0.1:9380` is not supported yet; expected off",
            "t.ini:6: [global] http_token_file: not supported yet",
            "t.ini:8: [ipvs] backup_only: `yes` is not supported yet; expected no, the default",
            "t.ini:16: [virtual_server web] forward: `fullnat` is not supported yet; expected nat, dr or tunnel",
            "t.ini:18: [virtual_server web] checks: not supported yet",
            "t.ini:19: [virtual_server web] quorum: not supported yet",
            "t.ini:22: [real_server web/a] forward: `fullnat` is not supported yet; expected nat, dr or tunnel",
            "t.ini:23: [real_server web/a] notify_up: not supported yet",
            "t.ini:24: [vlan v5]: not supported yet",
        ],
    );
}

#[test]
fn unbuilt_sections_are_read_and_checked_all_the_same() {
    let good = "[check web]\ntype = http\ninterval = 5s\npath = /\nstatus = 200-299,301\npath_2 = /b\nvia = vip\n\
        [check deep]\nextends = web\ndigest = 0123456789abcdef0123456789ABCDEF\n\
        [check s]\ntype = script\ncommand = /bin/true\ndynamic_weight = yes\n\
        [bfd b]\npeer = 10.0.0.9\nmin_rx = 50ms\n\
        [check bb]\ntype = bfd\nbfd = b\n\
        [track_file f]\nfile = /run/f\n[check ff]\ntype = file\ntrack_file = f\n\
        [vrrp VI_1]\ninterface = lan\nvirtual_router_id = 51\naddresses = 10.0.0.50\n\
        [sync]\nfollow = VI_1\ninterface = lan\n\
        [virtual_server web]\naddresses = 10.0.0.50:80\n[real_server web/a]\naddress = 10.0.0.11\n";
    let (ok, lines) = check_bytes(format!("{PORT}{good}").as_bytes());
    assert!(!ok);
    assert!(
        lines
            .iter()
            .all(|line| line.ends_with("]: not supported yet")),
        "{lines:#?}"
    );
    assert_eq!(lines.len(), 7, "{lines:#?}");
    refused(
        &format!(
            "{PORT}[vrrp a]\ninterface = lan\nvirtual_router_id = 256\nadvert_interval = 500ms\nauth_type = PASS\n\
             auth_pass = 0123456789\nstate = MASTER\npreempt = no\naddresses = 10.0.0.50\ntrack_scripts = foo:5\n\
             [check tcp]\n[check c]\ntype = tcp\npath = /\nextends = d\n[check d]\nextends = c\n[sync]\nfollow = b\n\
             threshold = 50\n[vrrp_group g]\nmembers = a, a\n[mark m]\nmark = 0\n"
        ),
        &[
            "t.ini:5: [vrrp a] virtual_router_id: `256` is out of range; expected a number from 1 to 255",
            "t.ini:6: [vrrp a] advert_interval: VRRPv2 cannot send this; expected whole seconds from 1s to 255s",
            "t.ini:12: [vrrp a] track_scripts: there is no `foo`; expected NAME[:WEIGHT] of [track_script] sections, \
             weight -253 to 253",
            "t.ini:13: [check tcp]: `tcp` is a shorthand for a check with all defaults; expected another name",
            "t.ini:13: [check tcp]: not supported yet",
            "t.ini:14: [check c]: not supported yet",
            "t.ini:17: [check c] extends: the checks extend each other in a circle; expected none",
            "t.ini:18: [check d]: not supported yet",
            "t.ini:19: [check d] extends: the checks extend each other in a circle; expected none",
            "t.ini:20: [sync]: not supported yet",
            "t.ini:21: [sync] follow: there is no `b`; expected the name of a [vrrp]",
            "t.ini:22: [sync] threshold: 50 is not below the period of 50; expected less",
            "t.ini:24: [vrrp_group g] members: `a` is named twice; expected each once",
            "t.ini:26: [mark m] mark: `0` is out of range; expected a number from 1 to 4294967295",
            "warning: t.ini:3: [vrrp a] priority: is 100 although the state is MASTER, where keepalived takes 255; \
             expected a priority",
            "warning: t.ini:8: [vrrp a] auth_pass: has more than 8 characters and is cut there; expected at most 8",
            "warning: t.ini:10: [vrrp a] preempt: no is ignored with state MASTER; expected state = BACKUP on both \
             directors",
            "warning: t.ini:25: [mark m]: matches every packet; expected addresses, ports, protocol or source",
        ],
    );
}

#[test]
fn good_values_of_unbuilt_keys_are_told_from_bad_ones() {
    refused(
        &format!(
            "{PORT}[virtual_server web]\naddresses = 10.0.0.50:0\npersistence = 32000h\nscheduler = sh\n\
             scheduler_flags = mh-port\npersistence_netmask = 255.0.255.0\none_packet = yes\nquorum = 0\n\
             [real_server web/a]\naddress = 10.0.0.11\ntunnel = gue\n"
        ),
        &[
            "t.ini:5: [virtual_server web] persistence: `32000h` is not valid; expected a duration in whole seconds such \
             as 6s, 5m or 1h, from 1s to 31 days, or off",
            "t.ini:7: [virtual_server web] scheduler_flags: `mh-port` does not go with scheduler sh; expected a flag of sh",
            "t.ini:8: [virtual_server web] persistence_netmask: `255.0.255.0` is not valid; expected full, an IPv4 mask \
             such as 255.255.255.0, an IPv6 prefix length from 1 to 128, or both with a comma between",
            "t.ini:9: [virtual_server web] one_packet: One-Packet Scheduling is only for UDP virtual services; expected \
             protocol = udp",
            "t.ini:10: [virtual_server web] quorum: `0` is out of range; expected a number from 1 to 4294967295",
            "t.ini:13: [real_server web/a] tunnel: `gue` is not valid; expected ipip, gre or gue:PORT",
            "t.ini:13: [real_server web/a] tunnel: Tunnel options conflict with forward method; expected forward = tunnel",
        ],
    );
}

#[test]
fn a_tunnel_has_a_kind_a_port_only_with_gue_and_no_offloaded_checksum() {
    let service = "[port lan]\ndevice = net_tap0\n[virtual_server web]\naddresses = 10.0.0.50:80\nforward = tunnel\n";
    for good in [
        "tunnel = ipip",
        "tunnel = gre\ntunnel_checksum = csum",
        "tunnel = gue:6080\ntunnel_checksum = none",
    ] {
        accepted(
            &format!("{service}[real_server web/a]\naddress = 10.0.0.11\n{good}\n"),
            &[],
        );
    }
    refused(
        &format!(
            "{service}[real_server web/a]\naddress = 10.0.0.11\ntunnel = gue\n[real_server web/b]\n\
             address = 10.0.0.12\ntunnel = gre:5\n[real_server web/c]\naddress = 2001:db8::13\n\
             tunnel = gue:0\ntunnel_checksum = remcsum\n[real_server web/d]\naddress = 10.0.0.14\n\
             forward = nat\ntunnel = gre\ntunnel_checksum = csum\n"
        ),
        &[
            "t.ini:8: [real_server web/a] tunnel: `gue` is not valid; expected ipip, gre or gue:PORT",
            "t.ini:11: [real_server web/b] tunnel: `gre:5` is not valid; expected ipip, gre or gue:PORT",
            "t.ini:14: [real_server web/c] tunnel: `gue:0` is not valid; expected ipip, gre or gue:PORT",
            "t.ini:15: [real_server web/c] tunnel_checksum: `remcsum` is not supported yet; expected none or csum",
            "t.ini:19: [real_server web/d] tunnel: Tunnel options conflict with forward method; expected forward = tunnel",
            "t.ini:20: [real_server web/d] tunnel_checksum: Tunnel options conflict with forward method; expected \
             forward = tunnel",
        ],
    );
}

#[test]
fn flags_go_with_their_scheduler_and_schedulers_with_their_servers() {
    refused(
        &format!(
            "{PORT}[virtual_server a]\naddresses = 10.0.0.50:80\nscheduler = wlc\nscheduler_flags = sh-port\n\
             [virtual_server b]\naddresses = 10.0.0.51:80\nscheduler = sh\nscheduler_flags = sh-fallback, \
             mh-fallback\n[virtual_server c]\naddresses = 10.0.0.52:80\nscheduler = mh\nscheduler_flags = flag-1\n\
             [virtual_server d]\naddresses = 10.0.0.53:80\nscheduler = none\n"
        ),
        &[
            "t.ini:6: [virtual_server a] scheduler_flags: `sh-port` does not go with scheduler wlc; expected scheduler = sh",
            "t.ini:10: [virtual_server b] scheduler_flags: `mh-fallback` does not go with scheduler sh; expected a flag of sh",
            "t.ini:14: [virtual_server c] scheduler_flags: `flag-1` is not valid; expected a list of sh-fallback, sh-port, \
             mh-fallback or mh-port",
            "t.ini:17: [virtual_server d] scheduler: `none` is not valid; expected rr, wrr, lc, wlc, lblc, lblcr, dh, sh, \
             sed, nq, fo, ovf, mh or twos",
            "warning: t.ini:3: [virtual_server a]: the service has no real servers: every client is refused; expected \
             [real_server SERVICE/NAME] sections",
            "warning: t.ini:7: [virtual_server b]: the service has no real servers: every client is refused; expected \
             [real_server SERVICE/NAME] sections",
            "warning: t.ini:11: [virtual_server c]: the service has no real servers: every client is refused; expected \
             [real_server SERVICE/NAME] sections",
            "warning: t.ini:15: [virtual_server d]: the service has no real servers: every client is refused; expected \
             [real_server SERVICE/NAME] sections",
        ],
    );
    let server = |number| {
        let (high, low) = (number / 250, number % 250 + 1);
        format!("[real_server a/r{number}]\naddress = 10.1.{high}.{low}\n")
    };
    let text = format!(
        "{PORT}[virtual_server a]\naddresses = 10.0.0.50:80\nscheduler = mh\n{}",
        (0..4094).map(server).collect::<String>()
    );
    refused(
        &text,
        &[
            "t.ini:5: [virtual_server a] scheduler: mh cannot choose from 4094 ipv4 servers; expected at most 4093",
        ],
    );
}

#[test]
fn services_and_real_servers_must_fit_together() {
    refused(
        "[port lan]\ndevice = net_tap0\naddresses = 10.0.0.2/24\n[virtual_server web]\naddresses = 10.0.0.50:80\n\
         [real_server web/a]\naddress = 10.0.0.11:8080\n[real_server web/b]\naddress = 10.0.0.11\n\
         [real_server web/c]\naddress = 127.0.0.1\n[real_server web/d]\naddress = 2001:db8::1\n\
         [real_server web/e]\naddress = 10.0.0.15\nlower_threshold = 5\nupper_threshold = 3\nweight = 65536\n\
         [real_server wbe/f]\naddress = 10.0.0.16\n[real_server web/g]\naddress = 224.0.0.1\n[real_server web/h]\n\
         [virtual_server dup]\naddresses = 10.0.0.40-60:80\n[virtual_server any]\naddresses = 10.0.1.51:0\n\
         [virtual_server none]\n[real_server web]\naddress = 1.2.3.4\n",
        &[
            "t.ini:9: [real_server web/b] address: `10.0.0.11:80` is [real_server web/a] at t.ini:7 already; expected \
             each real server once in a service",
            "t.ini:11: [real_server web/c] address: `127.0.0.1` is no address clients' packets can be delivered to; \
             expected an address of a port for a server on this box, or another host's",
            "t.ini:13: [real_server web/d] address: `2001:db8::1` serves 10.0.0.50:80: Different address family is \
             allowed only for tunneling servers; expected an address of the service's family",
            "t.ini:16: [real_server web/e] lower_threshold: 5 is higher than upper_threshold 3; expected at most that",
            "t.ini:18: [real_server web/e] weight: `65536` is out of range; expected a number from 0 to 65535",
            "t.ini:19: [real_server wbe/f]: there is no [virtual_server wbe]; expected the name of a virtual server \
             before the `/`; did you mean `web`?",
            "t.ini:22: [real_server web/g] address: `224.0.0.1` is not a unicast address; expected the address of a host",
            "t.ini:23: [real_server web/h] address: the key is missing; expected ADDRESS or ADDRESS:PORT, IPv6 with a \
             port in brackets",
            "t.ini:25: [virtual_server dup] addresses: `10.0.0.50:80` over tcp is a service already: [virtual_server \
             web] at t.ini:5; expected each once",
            "t.ini:27: [virtual_server any] addresses: `10.0.1.51:0`: Zero port specified for non-persistent service; \
             expected a port, or persistence",
            "t.ini:28: [virtual_server none] addresses: the key is missing; expected addresses, or a fwmark",
            "t.ini:29: [real_server web]: `web` names no service; expected [real_server SERVICE/NAME]",
            "warning: t.ini:7: [real_server web/a] address: port 8080 is not used: dr forwards to the service's port; \
             expected no port, or forward = nat",
            "warning: t.ini:13: [real_server web/d] address: `2001:db8::1` is in no subnet of a port, and dr reaches only servers on the same network; expected a server there, or forward = nat",
            "warning: t.ini:24: [virtual_server dup]: the service has no real servers: every client is refused; expected \
             [real_server SERVICE/NAME] sections",
            "warning: t.ini:26: [virtual_server any]: the service has no real servers: every client is refused; expected \
             [real_server SERVICE/NAME] sections",
            "warning: t.ini:27: [virtual_server any] addresses: `10.0.1.51` is in no subnet of a port, so nothing puts it on this box and it is not served until somebody does; expected an address in a port's subnet, or serve = always",
            "warning: t.ini:28: [virtual_server none]: the service has no real servers: every client is refused; \
             expected [real_server SERVICE/NAME] sections",
        ],
    );
}

#[test]
fn a_list_of_both_families_wants_servers_of_both() {
    let port = "[port lan]\ndevice = net_tap0\naddresses = 10.0.0.2/24, 2001:db8::2/64\n";
    // A family nobody serves is a surprise, not an error; a server counts for the ports of its own family.
    let mixed = "[virtual_server web]\naddresses = 10.0.0.50:80, [2001:db8::50]:8080\n";
    let v4 = "[real_server web/a]\naddress = 10.0.0.11:80\n";
    let v6 = "[real_server web/b]\naddress = [2001:db8::11]:8080\n";
    accepted(&format!("{port}{mixed}{v4}{v6}"), &[]);
    accepted(
        &format!("{port}{mixed}{v4}"),
        &[
            "warning: t.ini:5: [virtual_server web] addresses: `[2001:db8::50]:8080` has no IPv6 real server, and every \
             IPv6 client is refused; expected a [real_server] with an IPv6 address, or no IPv6 address here",
        ],
    );
    accepted(
        &format!("{port}{mixed}{v6}"),
        &[
            "warning: t.ini:5: [virtual_server web] addresses: `10.0.0.50:80` has no IPv4 real server, and every IPv4 \
             client is refused; expected a [real_server] with an IPv4 address, or no IPv4 address here",
        ],
    );
    // No address of its family: it would serve nobody.
    refused(
        &format!(
            "{port}[virtual_server web]\naddresses = [2001:db8::50]:80, [2001:db8::51]:80\n{v6}{v4}"
        ),
        &[
            "t.ini:9: [real_server web/a] address: `10.0.0.11` serves [2001:db8::50]:80: Different address family is \
             allowed only for tunneling servers; expected an address of the service's family",
            "warning: t.ini:7: [real_server web/b] address: port 8080 is not used: dr forwards to the service's port; \
             expected no port, or forward = nat",
        ],
    );
}

#[test]
fn workers_that_share_a_cpu_are_warned_of_and_refused_if_busy() {
    let global = format!("{PORT}[global]\ncontrol_core = 0\nworker_cores = 1-3,2,3\n");
    accepted(
        &global,
        &[
            "warning: t.ini:5: [global] worker_cores: several workers share CPU 2,3 and take turns on it; \
             expected each CPU once",
        ],
    );
    refused(
        &format!("{global}idle = busy\n"),
        &[
            "t.ini:6: [global] idle: several workers share CPU 2,3, and `busy` would leave none of them its time; \
             expected adaptive, or worker_cores with each CPU once",
        ],
    );
}

#[test]
fn ports_devices_and_cpus_must_not_collide() {
    refused(
        "[global]\ncontrol_core = 1\nworker_cores = 1-3\nidle = busy\n[port a]\ndevice = net_af_xdp0,iface=eth1\n\
         kernel_interface = eth1\n[port b]\ndevice = net_af_xdp0,iface=eth2\ndevice_2 = 0000:3b:00.0\n\
         kernel_interface = eth1\naddresses = 10.0.0.2/24\ngateway = 10.0.0.2, 10.0.0.3\nroutes = 10.1.0.1/16 via 10.0.0.1\n\
         [port c]\n[port averyveryverylongname]\ndevice = net_tap1\n[port d]\ndevice = eth0\n\
         [neighbor 10.77.0.1]\nmac = 01:00:00:00:00:00\n[neighbor 10.0.0.7]\nmac = 02:00:00:00:00:01\non = lna\n\
         [neighbor web]\n",
        &[
            "t.ini:4: [global] idle: CPU 1 is the control core and a worker's, which `busy` would leave no time; expected \
             adaptive, or another control_core or worker_cores",
            "t.ini:7: [port a] kernel_interface: `eth1` is the interface beneath the port's device; expected another \
             name, such as the port's",
            "t.ini:9: [port b] device: `net_af_xdp0` is used already at t.ini:6; expected each device once",
            "t.ini:10: [port b] device_2: `0000:3b:00.0` is a PCI address; expected a further DPDK virtual device",
            "t.ini:11: [port b] kernel_interface: `eth1` is the kernel interface of port `a` already; expected another \
             name",
            "t.ini:13: [port b] gateway: two gateways of one family; expected at most one IPv4 and one IPv6 address",
            "t.ini:14: [port b] routes: `10.1.0.1/16` has bits set behind its prefix length; expected a network such as \
             10.1.0.0/16",
            "t.ini:15: [port c] device: the key is missing; expected a PCI address such as 0000:3b:00.0, or a DPDK \
             virtual device such as net_af_xdp0,iface=eth1",
            "t.ini:16: [port averyveryverylongname]: the name has 21 characters and is the kernel interface's name too; \
             expected at most 15",
            "t.ini:19: [port d] device: `eth0` is not valid; expected a PCI address such as 0000:3b:00.0, or a DPDK \
             virtual device such as net_af_xdp0,iface=eth1",
            "t.ini:20: [neighbor 10.77.0.1] on: no port has a subnet that contains `10.77.0.1`; expected the name of a \
             [port]",
            "t.ini:21: [neighbor 10.77.0.1] mac: `01:00:00:00:00:00` is not valid; expected a unicast MAC address such \
             as 02:00:00:00:00:01",
            "t.ini:24: [neighbor 10.0.0.7] on: there is no `lna`; expected the name of a [port] or [vlan]",
            "t.ini:25: [neighbor web]: `web` is not an address; expected [neighbor ADDRESS]",
        ],
    );
}

#[test]
fn what_is_no_setting_is_reported_and_the_rest_is_still_read() {
    refused(
        "stray = 1\n[global]\n  idle = busy\n[port lan]\ndevice = net_tap0\nnonsense\n  its continuation\n= 5\n\
         [ipvs] junk\n[timeouts\ntcp = x\n[]\n[virtual_server a b]\n[global x]\n[virtual_server]\nschedular = \"open\n\u{1}\n",
        &[
            "t.ini:1: stray: a setting before the first section; expected `include` or a [section] above it",
            "t.ini:3: [global]: an indented line continues the value above, and there is none; expected `key = value` at \
             the start of the line",
            "t.ini:6: [port lan]: `nonsense` is not a setting; expected `key = value` or `[section]`",
            "t.ini:8: [port lan]: no key before `=`; expected `key = value`",
            "t.ini:9: [ipvs]: `junk` after the header; expected nothing but a comment there",
            "t.ini:10: [timeouts]: the header has no closing bracket; expected `[kind]` or `[kind name]`",
            "t.ini:11: [timeouts] tcp: `x` is not valid; expected a duration in whole seconds such as 6s, 5m or 1h, from \
             1s to 31 days",
            "t.ini:12: []: the section has no kind; expected [kind] or [kind name]",
            "t.ini:13: [virtual_server a b]: bad name `a b`; expected 1 to 64 of the characters A-Z a-z 0-9 _ . -",
            "t.ini:14: [global x]: the section takes no name; expected [global]",
            "t.ini:15: [virtual_server]: the name is missing; expected [virtual_server NAME]",
            "t.ini:16: [virtual_server] schedular: the quote is not closed on this line; expected a closing `\"`",
            "t.ini:16: [virtual_server] schedular: unknown key; did you mean `scheduler`?",
            "t.ini:17: [virtual_server]: control character 0x01; expected plain text",
        ],
    );
}

#[test]
fn text_that_is_not_utf8_is_reported_with_its_line() {
    let (ok, lines) = check_bytes(b"[port lan]\ndevice = net_tap0\n# caf\xe9\n");
    assert!(!ok);
    assert_eq!(
        lines,
        ["t.ini:3: byte 0xe9 is not valid here; expected text in UTF-8"]
    );
}

#[test]
fn a_missing_file_is_one_line() {
    let diagnostics = load(&LoadOptions::new("/nonexistent/sluice.ini")).unwrap_err();
    assert_eq!(
        diagnostics.to_string(),
        "/nonexistent/sluice.ini: cannot read the file: no such file\n"
    );
}

#[test]
fn surprises_are_warnings() {
    accepted(
        "",
        &["warning: t.ini: no [port] section: nothing will be forwarded; expected at least one"],
    );
    accepted(
        "[ipvs]\nexpire_nodest_conn = yes\n[port lan]\ndevice = net_tap0\naddresses = 10.0.0.2\ngateway = 10.9.9.9\n\
         [port p2]\ndevice = net_tap1\nkernel_interface = none\naddresses = 10.5.0.1/24\n\
         [virtual_server web]\naddresses = 10.0.0.50:80\nscheduler = rr\non_real_removed = reset\n\
         [real_server web/a]\naddress = 10.0.0.11:81\nweight = 2\n[virtual_server idle]\naddresses = 10.0.0.51:80\n\
         [real_server idle/a]\naddress = 10.0.0.11\nweight = 0\n",
        &[
            "warning: t.ini:5: [port lan] addresses: `10.0.0.2` has no prefix length and is taken as /32; expected \
             ADDRESS/LENGTH",
            "warning: t.ini:6: [port lan] gateway: `10.9.9.9` is in no subnet of the section's addresses, so the kernel \
             may refuse it; expected a neighbour's address",
            "warning: t.ini:10: [port p2] addresses: kernel_interface is none, so there is nothing to put this on; \
             expected a kernel interface, or the key left out",
            "warning: t.ini:12: [virtual_server web] addresses: `10.0.0.50` is in no subnet of a port, so nothing puts it on this box and it is not served until somebody does; expected an address in a port's subnet, or serve = always",
            "warning: t.ini:13: [virtual_server web] scheduler: rr takes no account of weights above 0, and [real_server \
             web/a] has one at t.ini:17; expected wrr",
            "warning: t.ini:14: [virtual_server web] on_real_removed: [ipvs] expire_nodest_conn at t.ini:2 wins over \
             this; expected only one of the two",
            "warning: t.ini:16: [real_server web/a] address: port 81 is not used: dr forwards to the service's port; \
             expected no port, or forward = nat",
            "warning: t.ini:16: [real_server web/a] address: `10.0.0.11` is in no subnet of a port, and dr reaches only servers on the same network; expected a server there, or forward = nat",
            "warning: t.ini:18: [virtual_server idle]: all its real servers have weight 0: every new client is refused; \
             expected a weight above 0",
            "warning: t.ini:19: [virtual_server idle] addresses: `10.0.0.51` is in no subnet of a port, so nothing puts it on this box and it is not served until somebody does; expected an address in a port's subnet, or serve = always",
            "warning: t.ini:21: [real_server idle/a] address: `10.0.0.11` is in no subnet of a port, and dr reaches only servers on the same network; expected a server there, or forward = nat",
        ],
    );
}

#[test]
fn an_indented_setting_is_warned_of_where_it_is_swallowed() {
    refused(
        "[port lan]\ndevice = net_tap0\n  mtu = 9000\n",
        &[
            "t.ini:2: [port lan] device: `net_tap0 mtu = 9000` is not valid; expected a PCI address such as \
             0000:3b:00.0, or a DPDK virtual device such as net_af_xdp0,iface=eth1",
            "warning: t.ini:3: [port lan] device: this indented line continues the value above although it looks like \
             the setting `mtu`; expected it at the start of the line",
        ],
    );
}

#[test]
fn marks_and_their_services_are_told_from_slips() {
    let good = format!(
        "{PORT}[mark web]\nmark = 1\naddresses = 10.0.0.50, 10.0.0.64/28\nports = 80,443,10000-20000\nprotocol = tcp\n\
         source = 10.0.0.0/8\n[mark six]\nmark = 1\nfamily = ipv6\nports = 80\n\
         [virtual_server web]\nfwmark = 1\n[real_server web/a]\naddress = 10.0.0.11\n\
         [virtual_server web6]\nfwmark = 1\nfamily = ipv6\n[real_server web6/a]\naddress = 2001:db8::11\n"
    );
    assert_eq!(check_bytes(good.as_bytes()), (true, Vec::new()));
    refused(
        &format!(
            "{PORT}[mark web]\nmark = 1\naddresses = 10.0.0.50/33\nports = 443-80\nprotocol = icmp\n\
             [mark idle]\nmark = 2\nports = 70000\n[mark both]\nmark = 3\naddresses = 10.0.0.50\nsource = 2001:db8::/32\n\
             [virtual_server web]\nfwmark = 0\nfamily = ipx\n\
             [virtual_server nobody]\nfwmark = 9\n[real_server nobody/a]\naddress = 2001:db8::11\n\
             [real_server nobody/b]\naddress = 10.0.0.11:80\n\
             [virtual_server again]\nfwmark = 9\naddresses = 10.0.0.50:80\n[real_server again/a]\naddress = 10.0.0.11\n"
        ),
        &[
            "t.ini:5: [mark web] addresses: `10.0.0.50/33` is not valid; expected networks such as 10.1.0.0/16 \
             or single addresses",
            "t.ini:6: [mark web] ports: `443-80` is not valid; expected ports such as 80,443,10000-20000",
            "t.ini:7: [mark web] protocol: `icmp` is not valid; expected any, tcp, udp or sctp",
            "t.ini:10: [mark idle] ports: `70000` is not valid; expected ports such as 80,443,10000-20000",
            "t.ini:14: [mark both] source: `2001:db8::/32` is not ipv4; expected one family in a mark",
            "t.ini:16: [virtual_server web] fwmark: `0` is out of range; expected a number from 1 to 4294967295",
            "t.ini:17: [virtual_server web] family: `ipx` is not valid; expected ipv4 or ipv6",
            "t.ini:21: [real_server nobody/a] address: `2001:db8::11` serves mark 9 of ipv4: Different address \
             family is allowed only for tunneling servers; expected an address of the service's family",
            "t.ini:25: [virtual_server again] fwmark: conflicts with addresses; expected one of the two",
            "t.ini:25: [virtual_server again] fwmark: mark 9 is a service already: [virtual_server nobody] at \
             t.ini:19; expected each mark once",
            "warning: t.ini:15: [virtual_server web]: the service has no real servers: every client is refused; \
             expected [real_server SERVICE/NAME] sections",
            "warning: t.ini:19: [virtual_server nobody] fwmark: no [mark] section sets mark 9 on ipv4 packets, \
             so nothing reaches the service; expected a [mark NAME] with mark = 9",
            "warning: t.ini:23: [real_server nobody/b] address: port 80 is not used: dr forwards to the \
             service's port; expected no port, or forward = nat",
            "warning: t.ini:25: [virtual_server again] fwmark: no [mark] section sets mark 9 on ipv4 packets, \
             so nothing reaches the service; expected a [mark NAME] with mark = 9",
        ],
    );
    let idle = format!("{PORT}[mark idle]\nmark = 2\naddresses = 10.0.0.50\n");
    let warning = "warning: t.ini:4: [mark idle] mark: mark 2 is no service's, so its packets go on to the services on \
                   addresses; expected a [virtual_server] with fwmark = 2";
    assert_eq!(
        check_bytes(idle.as_bytes()),
        (true, vec![warning.to_owned()])
    );
}

#[test]
fn persistence_and_one_packet_are_told_from_slips() {
    let good = format!(
        "{PORT}[ipvs]\nexpire_quiescent_template = yes\n\
         [virtual_server web]\naddresses = 10.0.0.50:80\npersistence = 5m\npersistence_netmask = 255.255.255.0\n\
         [real_server web/a]\naddress = 10.0.0.11\n\
         [virtual_server any]\naddresses = 10.0.0.51:0\npersistence = 300\n[real_server any/a]\naddress = 10.0.0.11\n\
         [virtual_server six]\naddresses = [2001:db8::50]:80\npersistence = 1h\npersistence_netmask = 64\n\
         [real_server six/a]\naddress = 2001:db8::11\n\
         [virtual_server sip]\naddresses = 10.0.0.50:5060\nprotocol = udp\npersistence = 60\n\
         persistence_engine = sip\none_packet = yes\n[real_server sip/a]\naddress = 10.0.0.11\n\
         [virtual_server full]\naddresses = 10.0.0.54:80, [2001:db8::54]:80\npersistence = 1h\n\
         persistence_netmask = full\n[real_server full/a]\naddress = 10.0.0.11\n\
         [real_server full/b]\naddress = 2001:db8::11\n\
         [virtual_server both]\naddresses = 10.0.0.55:80, [2001:db8::55]:80\npersistence = 1h\n\
         persistence_netmask = 255.255.255.0, 64\n[real_server both/a]\naddress = 10.0.0.11\n\
         [real_server both/b]\naddress = 2001:db8::11\n"
    );
    assert_eq!(check_bytes(good.as_bytes()), (true, Vec::new()));
    refused(
        &format!(
            "{PORT}[ipvs]\nexpire_quiescent_template = maybe\n\
             [virtual_server a]\naddresses = 10.0.0.50:80\npersistence = 1500ms\none_packet = yes\n\
             [real_server a/a]\naddress = 10.0.0.11\n\
             [virtual_server b]\naddresses = 10.0.0.51:0\npersistence_netmask = 255.255.255.0\n\
             persistence_engine = sip\n[real_server b/a]\naddress = 10.0.0.11\n\
             [virtual_server c]\naddresses = 10.0.0.52:80\npersistence = 60\npersistence_netmask = 24\n\
             persistence_engine = h323\n[real_server c/a]\naddress = 10.0.0.11\n\
             [virtual_server d]\naddresses = 10.0.0.53:5060\nprotocol = sctp\npersistence = 60\n\
             persistence_engine = sip\n[real_server d/a]\naddress = 10.0.0.11\n\
             [virtual_server e]\naddresses = 10.0.0.54:80, [2001:db8::54]:80\npersistence = 60\n\
             persistence_netmask = 255.255.255.0\n[real_server e/a]\naddress = 10.0.0.11\n\
             [real_server e/b]\naddress = 2001:db8::11\n\
             [virtual_server f]\naddresses = 10.0.0.55:80\npersistence = 60\n\
             persistence_netmask = 255.255.255.0, 64\n[real_server f/a]\naddress = 10.0.0.11\n\
             [virtual_server g]\naddresses = [2001:db8::56]:80\npersistence = 60\n\
             persistence_netmask = 255.255.255.0, 64\n[real_server g/a]\naddress = 2001:db8::11\n"
        ),
        &[
            "t.ini:4: [ipvs] expire_quiescent_template: `maybe` is not valid; expected yes or no",
            "t.ini:7: [virtual_server a] persistence: `1500ms` is not valid; expected a duration in whole \
             seconds such as 6s, 5m or 1h, from 1s to 31 days, or off",
            "t.ini:8: [virtual_server a] one_packet: One-Packet Scheduling is only for UDP virtual services; \
             expected protocol = udp",
            "t.ini:12: [virtual_server b] addresses: `10.0.0.51:0`: Zero port specified for non-persistent \
             service; expected a port, or persistence",
            "t.ini:13: [virtual_server b] persistence_netmask: persistence is off; expected persistence with it",
            "t.ini:14: [virtual_server b] persistence_engine: persistence is off; expected persistence with it",
            "t.ini:14: [virtual_server b] persistence_engine: sip is for UDP; expected protocol = udp",
            "t.ini:20: [virtual_server c] persistence_netmask: `24` is an IPv6 prefix length; expected a mask \
             such as 255.255.255.0",
            "t.ini:21: [virtual_server c] persistence_engine: `h323` is not valid; expected sip",
            "t.ini:21: [virtual_server c] persistence_engine: sip is for UDP; expected protocol = udp",
            "t.ini:28: [virtual_server d] persistence_engine: sip is for UDP; expected protocol = udp",
            "t.ini:34: [virtual_server e] persistence_netmask: one of two families has none; expected an IPv4 mask and \
             an IPv6 prefix length such as 255.255.255.0, 64",
            "t.ini:42: [virtual_server f] persistence_netmask: `64` is an IPv6 prefix length; expected a mask such as \
             255.255.255.0",
            "t.ini:48: [virtual_server g] persistence_netmask: an IPv4 mask with IPv6 addresses; expected a prefix \
             length from 1 to 128",
        ],
    );
}
