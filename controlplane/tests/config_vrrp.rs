//! `[vrrp]` and what goes with it: what is refused or warned about, in one line each, and what the model holds.

use controlplane::config::{Config, LoadOptions, Secret, load};
use std::path::Path;
use std::time::Duration;

const PORT: &str = "[port lan]\ndevice = net_tap0\naddresses = 10.0.0.2/24\n";

struct File(tempfile::TempDir);

impl File {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("t.ini"), text).unwrap();
        Self(directory)
    }

    fn directory(&self) -> &Path {
        self.0.path()
    }

    /// Whether it loads, and every line said about it.
    fn check(&self) -> (bool, Vec<String>) {
        let options = LoadOptions::new(self.directory().join("t.ini"));
        let (ok, text) = match load(&options) {
            Ok(loaded) => {
                let warnings = loaded.warnings.iter();
                let lines: Vec<_> = warnings.map(|it| format!("warning: {it}")).collect();
                (true, lines.join("\n"))
            }
            Err(diagnostics) => (false, diagnostics.to_string()),
        };
        let text = text.replace(&format!("{}/", self.directory().display()), "");
        (ok, text.lines().map(str::to_owned).collect())
    }

    fn config(&self) -> Config {
        let options = LoadOptions::new(self.directory().join("t.ini"));
        load(&options).unwrap_or_else(|it| panic!("{it}")).config
    }
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let (ok, lines) = File::new(text).check();
    assert!(!ok, "accepted: {text}");
    assert_eq!(lines, expected);
}

#[track_caller]
fn accepted(text: &str, expected: &[&str]) {
    let (ok, lines) = File::new(text).check();
    assert!(ok, "refused: {lines:#?}");
    assert_eq!(lines, expected);
}

/// A plain virtual router with these further lines, which begin at line 5.
fn router(lines: &str) -> String {
    format!("[vrrp a]\ninterface = eth0\nvirtual_router_id = 51\naddresses = 10.0.0.50/24\n{lines}")
}

/// The same over IPv6.
fn router6(lines: &str) -> String {
    format!(
        "[vrrp a]\ninterface = eth0\nvirtual_router_id = 51\naddresses = fe80::50, 2001:db8::50\n{lines}"
    )
}

#[test]
fn a_virtual_router_without_any_port_is_a_configuration() {
    accepted(&router(""), &[]);
    let config = File::new(&router("")).config();
    assert!(config.ports.is_empty());
    let a = &config.vrrp[0];
    assert_eq!((a.version, a.priority, a.preempt), (2, 100, true));
    assert_eq!(a.advert_interval, Duration::from_secs(1));
    assert_eq!(File::new(&router6("")).config().vrrp[0].version, 3);
    accepted(
        "[global]\nlog = info\n",
        &["warning: t.ini: no [port] section: nothing will be forwarded; expected at least one"],
    );
}

#[test]
fn services_need_a_port() {
    refused(
        &router(
            "[virtual_server web]\naddresses = 10.0.0.50:80\n[real_server web/a]\naddress = 10.0.0.11\n",
        ),
        &["t.ini:5: [virtual_server web]: there is no [port] to forward by; expected one"],
    );
}

#[test]
fn the_version_decides_what_can_be_sent() {
    accepted(&router("advert_interval = 255s\n"), &[]);
    accepted(&router("version = 3\nadvert_interval = 100ms\n"), &[]);
    accepted(&router("version = 3\nadvert_interval = 40950ms\n"), &[]);
    refused(
        &router("advert_interval = 1500ms\n"),
        &[
            "t.ini:5: [vrrp a] advert_interval: VRRPv2 cannot send this; expected whole seconds from 1s to 255s",
        ],
    );
    refused(
        &router("version = 3\nadvert_interval = 41s\n"),
        &[
            "t.ini:6: [vrrp a] advert_interval: VRRPv3 cannot send this; expected hundredths of a second up to 40950ms",
        ],
    );
    refused(
        &router6("version = 2\n"),
        &["t.ini:5: [vrrp a] version: VRRPv2 has no IPv6; expected 3"],
    );
}

#[test]
fn passwords_are_for_version_two_come_from_one_place_and_are_never_shown() {
    let file = File::new(&router("auth_type = PASS\nauth_pass_file = pass\n"));
    let path = file.directory().join("pass");
    let text = router(&format!(
        "auth_type = PASS\nauth_pass_file = {}\n",
        path.display()
    ));
    std::fs::write(file.directory().join("t.ini"), text).unwrap();
    let (ok, lines) = file.check();
    assert!(!ok);
    assert_eq!(
        lines,
        [
            "t.ini:6: [vrrp a] auth_pass_file: cannot read the password from pass: No such file or directory (os error 2)"
        ]
    );
    std::fs::write(&path, "").unwrap();
    assert_eq!(
        file.check().1,
        ["t.ini:6: [vrrp a] auth_pass_file: cannot read the password from pass: it is empty"]
    );
    std::fs::write(&path, "sesame42xyz\nsecond line\n").unwrap();
    assert_eq!(
        file.check(),
        (
            true,
            vec![
                "warning: t.ini:6: [vrrp a] auth_pass_file: the password has more than 8 characters and is cut there; \
                 expected at most 8"
                    .to_owned()
            ]
        )
    );
    let config = file.config();
    let pass = config.vrrp[0].auth_pass.as_ref();
    assert_eq!(pass.map(Secret::reveal), Some("sesame42xyz"));
    assert!(!format!("{config:?}").contains("sesame"));
    refused(
        &router("version = 3\nauth_type = PASS\nauth_pass = 1111\n"),
        &["t.ini:6: [vrrp a] auth_type: VRRPv3 has no authentication; expected none"],
    );
    refused(
        &router("auth_pass = 1111\n"),
        &["t.ini:5: [vrrp a] auth_pass: auth_type is none; expected auth_type = PASS with it"],
    );
}

#[test]
fn advertised_addresses_are_of_one_family_and_few_enough() {
    refused(
        "[vrrp a]\ninterface = eth0\nvirtual_router_id = 51\naddresses = 10.0.0.50, 2001:db8::50\n",
        &[
            "t.ini:4: [vrrp a] addresses: `2001:db8::50` is of another family; expected one family, the others in \
            excluded_addresses",
        ],
    );
    accepted(
        &router("excluded_addresses = 2001:db8::50, 10.0.0.51@eth1\n"),
        &[],
    );
    accepted(
        "[vrrp a]\ninterface = eth0\nvirtual_router_id = 51\naddresses = 2001:db8::50\n",
        &[
            "warning: t.ini:4: [vrrp a] addresses: `2001:db8::50` is not link-local; expected a link-local address first",
        ],
    );
    let many: Vec<_> = (1..=21).map(|host| format!("10.0.0.{host}")).collect();
    refused(
        &format!(
            "[vrrp a]\ninterface = eth0\nvirtual_router_id = 51\naddresses = {}\n",
            many.join(", ")
        ),
        &[
            "t.ini:4: [vrrp a] addresses: 21 addresses are too many for an advertisement; expected at most 20, the others \
            in excluded_addresses",
        ],
    );
}

#[test]
fn what_keepalived_would_do_in_silence_is_warned_about() {
    accepted(
        &router("state = MASTER\npreempt = no\npreempt_delay = 5s\n"),
        &[
            "warning: t.ini:1: [vrrp a] priority: is 100 although the state is MASTER, where keepalived takes 255; \
             expected a priority",
            "warning: t.ini:6: [vrrp a] preempt: no is ignored with state MASTER; expected state = BACKUP on both \
             directors",
        ],
    );
    accepted(
        &router("preempt = no\npreempt_delay = 5s\n"),
        &[
            "warning: t.ini:6: [vrrp a] preempt_delay: has no effect with preempt = no; expected one of the two",
        ],
    );
    accepted(
        &router("preempt = no\npriority = 255\n"),
        &[
            "warning: t.ini:5: [vrrp a] preempt: no is ignored with priority 255, the owner's; expected a lower priority",
        ],
    );
    accepted(
        &router("priority = 255\ntrack_interfaces = eth1:-20\n"),
        &[
            "warning: t.ini:6: [vrrp a] track_interfaces: weights do not change the priority 255 of an address owner; \
            expected a lower priority",
        ],
    );
}

#[test]
fn unicast_peers_are_others_of_the_same_family_and_go_with_a_virtual_mac() {
    accepted(
        &router(
            "source = 10.0.0.2\nunicast_peers = 10.0.0.3\nunicast_ttl = 255\nvirtual_mac = yes\n",
        ),
        &[],
    );
    refused(
        &router("source = 10.0.0.2\nunicast_peers = 10.0.0.2, fe80::3\n"),
        &[
            "t.ini:6: [vrrp a] unicast_peers: `fe80::3` is not of the addresses' family; expected the same",
            "t.ini:6: [vrrp a] unicast_peers: `10.0.0.2` is this box's own source; expected its peers only",
        ],
    );
}

#[test]
fn a_router_id_is_unique_per_interface_and_family_and_an_address_has_one_router() {
    let second = |interface: &str, addresses: &str| {
        router(&format!(
            "[vrrp b]\ninterface = {interface}\nvirtual_router_id = 51\naddresses = {addresses}\n"
        ))
    };
    accepted(&second("eth1", "10.0.1.50"), &[]);
    accepted(&second("eth0", "fe80::50"), &[]);
    refused(
        &second("eth0", "10.0.0.51"),
        &[
            "t.ini:7: [vrrp b] virtual_router_id: 51 is used on eth0 already at t.ini:3; expected each once per interface",
        ],
    );
    refused(
        &second("eth1", "10.0.0.50"),
        &[
            "t.ini:8: [vrrp b] addresses: `10.0.0.50` is in [vrrp a] already; expected each address once",
        ],
    );
}

#[test]
fn a_virtual_mac_is_of_one_virtual_router_wherever_others_are() {
    let second = |family: &str, vrid: u8, mac: &str| {
        format!(
            "{}[vrrp b]\ninterface = eth1\nvirtual_router_id = {vrid}\naddresses = {family}\nvirtual_mac = {mac}\n",
            router("virtual_mac = yes\n")
        )
    };
    refused(
        &second("10.0.1.50", 51, "yes"),
        &[
            "t.ini:8: [vrrp b] virtual_router_id: [vrrp a] has the virtual MAC of 51 and the interface vrrp.51 already; \
             expected another id, or virtual_mac = no",
        ],
    );
    accepted(&second("10.0.1.50", 52, "yes"), &[]);
    accepted(&second("10.0.1.50", 51, "no"), &[]);
    accepted(&second("fe80::50", 51, "yes"), &[]);
}

#[test]
fn a_link_local_address_is_of_one_virtual_router_on_each_link() {
    let pair = |interface: &str| {
        let section = |name: &str, interface: &str, vrid: u8| {
            format!(
                "[vrrp {name}]\ninterface = {interface}\nvirtual_router_id = {vrid}\naddresses = fe80::53\n"
            )
        };
        section("a", "eth0", 51) + &section("b", interface, 52)
    };
    accepted(&pair("eth1"), &[]);
    refused(
        &pair("eth0"),
        &[
            "t.ini:8: [vrrp b] addresses: `fe80::53` is in [vrrp a] already; expected each address once",
        ],
    );
}

#[test]
fn groups_and_trackers_name_what_exists() {
    refused(
        &router(
            "track_scripts = alive:-254\ntrack_files = state\ntrack_services = web\n\
             [vrrp_group one]\nmembers = a, b\n[vrrp_group two]\nmembers = a\n",
        ),
        &[
            "t.ini:5: [vrrp a] track_scripts: `alive:-254` is not valid; expected NAME[:WEIGHT] of [track_script] \
             sections, weight -253 to 253",
            "t.ini:6: [vrrp a] track_files: there is no `state`; expected NAME[:WEIGHT] of [track_file] sections, \
             weight -253 to 253",
            "t.ini:7: [vrrp a] track_services: there is no `web`; expected NAME[:WEIGHT] of [virtual_server] sections, \
             weight -253 to 253",
            "t.ini:9: [vrrp_group one] members: there is no `b`; expected names of [vrrp] sections",
            "t.ini:11: [vrrp_group two] members: `a` is in [vrrp_group one] already; expected it in one group",
        ],
    );
}

#[test]
fn a_weight_that_is_not_given_is_the_tracked_sections_own() {
    let config = File::new(&router(
        "track_scripts = s, t:7\ntrack_files = f\ntrack_interfaces = eth1, eth2:-20\n\
         [track_script s]\ncommand = /bin/true\nweight = -20\n[track_script t]\ncommand = /bin/true\nweight = 3\n\
         [track_file f]\nfile = /run/f\n",
    ))
    .config();
    let a = &config.vrrp[0];
    let named = |list: &[(&str, i32)]| -> Vec<(String, i32)> {
        list.iter()
            .map(|(name, weight)| ((*name).to_owned(), *weight))
            .collect()
    };
    assert_eq!(a.track_scripts, named(&[("s", -20), ("t", 7)]));
    assert_eq!(a.track_files, named(&[("f", 1)]));
    assert_eq!(a.track_interfaces, named(&[("eth1", 0), ("eth2", -20)]));
}

#[test]
fn vips_belong_to_a_router_or_to_a_port_and_not_to_both() {
    let web = "[virtual_server web]\naddresses = 10.0.0.50:80, 10.0.0.60:80, 10.0.0.60:81, 10.0.0.2:80\n\
               [real_server web/a]\naddress = 10.0.0.11\n";
    let text = |address: &str| {
        format!(
            "{PORT}[vrrp a]\ninterface = lan\nvirtual_router_id = 51\naddresses = {address}\n{web}"
        )
    };
    accepted(
        &text("10.0.0.50"),
        &[
            "warning: t.ini:9: [virtual_server web] addresses: `10.0.0.60` is in no [vrrp] section, so this box always has \
            it; expected it in one's addresses",
        ],
    );
    refused(
        &text("10.0.0.50, 10.0.0.60, 10.0.0.2"),
        &[
            "t.ini:7: [vrrp a] addresses: `10.0.0.2` is [port lan]'s own address, which never leaves; expected it in one \
            place",
        ],
    );
    accepted(
        &format!(
            "{PORT}kernel_interface = tap9\n[vrrp a]\ninterface = lan\nvirtual_router_id = 5\naddresses = 10.0.0.50\n"
        ),
        &[
            "warning: t.ini:6: [vrrp a] interface: [port lan]'s kernel interface is `tap9`; expected that one",
        ],
    );
}

#[test]
fn mail_needs_whom_to_tell_and_a_server() {
    let global = |lines: &str| format!("{}[global]\n{lines}", router(""));
    accepted(
        &global(
            "notification_email = ops@example.org, root@localhost\nsmtp_server = 10.0.0.25:2525\n\
             notification_email_from = lb@example.org\nalerts = vrrp\n",
        ),
        &[],
    );
    refused(
        &global("notification_email = ops\n"),
        &[
            "t.ini:5: [global] smtp_server: the key is missing; notification_email needs the mail server's address",
            "t.ini:6: [global] notification_email: `ops` is no mail address; expected NAME@DOMAIN",
        ],
    );
    refused(
        &global("notification_email = a@b\nsmtp_server = mail:x\n"),
        &[
            "t.ini:7: [global] smtp_server: `mail:x` is no mail server; expected HOST[:PORT], [IPV6][:PORT]",
        ],
    );
    accepted(
        &global("smtp_server = mail\n"),
        &[
            "warning: t.ini:6: [global] smtp_server: no mail is sent without notification_email; expected that too",
        ],
    );
}

#[test]
fn a_script_runs_as_nobody_who_is_not_there() {
    refused(
        &format!(
            "{PORT}[global]\nscript_user = no-such-user\n[track_script s]\ncommand = true\nuser = nobdy\n"
        ),
        &[
            "t.ini:5: [global] script_user: there is no user `no-such-user`; expected one of this machine's",
            "t.ini:8: [track_script s] user: there is no user `nobdy`; expected one of this machine's",
        ],
    );
    accepted(
        &format!(
            "{PORT}[global]\nscript_user = nobody\n[track_script s]\ncommand = true\nuser = root\n"
        ),
        &[],
    );
}

#[test]
fn the_name_said_to_a_mail_server_is_a_host_name() {
    let with = |name: &str| {
        format!(
            "{PORT}[global]\nnotification_email = a@b\nsmtp_server = 10.0.0.25\nsmtp_helo_name = {name}\n"
        )
    };
    for name in ["lb1", "lb1.example.org", "[10.0.0.2]", "[IPv6:2001:db8::2]"] {
        accepted(&with(name), &[]);
    }
    for name in ["lb 1", "<lb1>", "lb1..org", "-lb1", "[lb1]", "bür"] {
        let expected = format!(
            "t.ini:7: [global] smtp_helo_name: `{name}` is no host name; expected letters, digits, `-` and dots"
        );
        refused(&with(name), &[&expected]);
    }
}

#[test]
fn routes_lead_to_neighbours_and_each_destination_is_there_once() {
    refused(
        &router(
            "excluded_addresses = 2001:db8::50\nroutes = 10.9.0.0/16 via 10.0.0.50, 10.8.0.0/16 via 10.0.0.1,\n \
             10.8.0.0/16 via 10.0.0.2, 2001:db8:1::/48 via 2001:db8::50\n",
        ),
        &[
            "t.ini:6: [vrrp a] routes: `10.0.0.50` is an address of this box; expected a neighbour's",
            "t.ini:6: [vrrp a] routes: `10.8.0.0/16` is listed twice; expected each destination once",
            "t.ini:6: [vrrp a] routes: `2001:db8::50` is an address of this box; expected a neighbour's",
        ],
    );
    refused(
        &router("routes = 10.9.0.1/16 via 10.0.0.1\n"),
        &[
            "t.ini:5: [vrrp a] routes: `10.9.0.1/16` has bits set behind its prefix length; expected a network such as 10.9.0.0/16",
        ],
    );
    refused(
        &router("routes = 10.9.0.0/16 via 224.0.0.1, 10.8.0.0/16 via 127.0.0.1\n"),
        &[
            "t.ini:5: [vrrp a] routes: `224.0.0.1` is no neighbour's address; expected one",
            "t.ini:5: [vrrp a] routes: `127.0.0.1` is no neighbour's address; expected one",
        ],
    );
    accepted(
        &router("routes = 0.0.0.0/0 via 10.0.0.1, ::/0 via fe80::1\n"),
        &[],
    );
    let config = File::new(&router("routes = 10.9.0.0/16 via 10.0.0.1\n")).config();
    assert_eq!(config.vrrp[0].routes.len(), 1);
    // keepalived's word.
    let (ok, lines) = File::new(&router("virtual_routes = 10.9.0.0/16 via 10.0.0.1\n")).check();
    assert!(!ok && lines.concat().contains("`routes`"), "{lines:?}");
}

#[test]
fn a_destination_of_a_port_or_of_another_virtual_router_is_told() {
    let port = format!("{PORT}gateway = 10.0.0.1\nroutes = 10.7.0.0/16 via 10.0.0.3\n");
    let section = "[vrrp a]\ninterface = lan\nvirtual_router_id = 51\naddresses = 10.0.0.50/24\n";
    refused(
        &format!(
            "{port}{section}routes = 0.0.0.0/0 via 10.0.0.254, 10.7.0.0/16 via 10.0.0.3, ::/0 via fe80::1\n"
        ),
        &[
            "t.ini:10: [vrrp a] routes: `0.0.0.0/0` is a route of [port lan], which is always there; expected it in one \
             place",
            "t.ini:10: [vrrp a] routes: `10.7.0.0/16` is a route of [port lan], which is always there; expected it in one \
             place",
        ],
    );
    let second = |gateway: &str| {
        format!(
            "routes = 10.9.0.0/16 via 10.0.0.254\n[vrrp b]\ninterface = eth0\nvirtual_router_id = 52\n\
             addresses = 10.0.0.51/24\nroutes = 10.9.0.0/16 via {gateway}\n"
        )
    };
    accepted(&router(&second("10.0.0.254")), &[]);
    accepted(
        &router(&second("10.0.0.253")),
        &[
            "warning: t.ini:10: [vrrp b] routes: `10.9.0.0/16` leads to 10.0.0.254 in [vrrp a], and the box that is MASTER \
             of both has only one of them; expected the same gateway",
        ],
    );
}
