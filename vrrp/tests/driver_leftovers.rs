//! What a process that was killed has left in the kernel, and what is somebody else's and looks like it.

mod netns;
mod puppet;

use netns::{Peer, in_namespace, ip, run};
use puppet::{Stage, add, both};
use vrrp::driver::{Options, remove_leftovers};
use vrrp::{Action, Family, Settings, VirtualInterface};

#[test]
fn what_a_killed_process_left_is_removed_before_anything_is_told() {
    in_namespace(
        "what_a_killed_process_left_is_removed_before_anything_is_told",
        || {
            let _peer = Peer::start();
            ip("addr add 10.0.1.60/24 dev lan; addr add fe80::60/64 dev lan nodad");
            ip("addr add 10.0.1.61/32 dev lan");
            let near = Stage::start(&both("lan"), Options::default());
            let first = near.interface(|_, _| true);
            let addresses: Vec<_> = first.addresses.iter().map(ToString::to_string).collect();
            assert_eq!(addresses, ["10.0.1.1/24", "10.0.1.61/32", "fe80::1/64"]);
        },
    );
}

/// What `ip addr` and `ip link` show of an interface.
fn shown(interface: &str) -> String {
    run("ip", &format!("-d addr show dev {interface}"))
}

fn setting(interface: &str, key: &str) -> String {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/{key}");
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

/// A puppet that is killed: it works in a process of its own, the test program started again.
#[test]
fn what_was_left_is_found_by_its_mark_without_any_configuration() {
    const TEST: &str = "what_was_left_is_found_by_its_mark_without_any_configuration";
    const ROLE: &str = "SLUICE_TEST_KILLED";
    if std::env::var_os(ROLE).is_some() {
        let mut settings = both("lan");
        settings.routers[0].virtual_mac = true;
        let near = Stage::start(&settings, Options::default());
        near.interface(|_, interface| interface.up);
        near.act([
            Action::MakeInterface(VirtualInterface {
                name: "vrrp.51".into(),
                on: "lan".into(),
                mac: [0, 0, 0x5e, 0, 1, 51],
                family: Family::V4,
            }),
            add("lan", "10.0.1.60/32"),
            add("other", "2001:db8::60/64"),
            add("vrrp.51", "10.0.1.61/32"),
        ]);
        assert!(run("ip", "link show vrrp.51").contains("UP"));
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
    }
    in_namespace(TEST, || {
        let _peer = Peer::start();
        ip("link add other type veth peer name rehto; link set other up; link set rehto up");
        // Not made here, whatever they are called.
        ip("link add vrrp.52 link other address 02:00:00:00:00:01 type macvlan");
        ip("link add mine link other address 00:00:5e:00:01:34 type macvlan");
        ip("addr add 10.0.1.7/24 dev other");
        std::fs::write("/proc/sys/net/ipv4/conf/lan/arp_announce", "1").unwrap();
        let leave = || {
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", TEST, "--nocapture"])
                .env(ROLE, "")
                .status()
                .unwrap();
            assert_eq!(
                std::os::unix::process::ExitStatusExt::signal(&status),
                Some(9)
            );
            assert!(shown("lan").contains("10.0.1.60"));
            assert!(shown("other").contains("2001:db8::60"));
            assert!(shown("vrrp.51").contains("10.0.1.61"));
            assert!(run("nft", "list tables").contains("sluice-vrrp.51"));
            assert_eq!(setting("lan", "arp_announce"), "2");
            assert_eq!(setting("lan", "arp_ignore"), "1");
        };
        let all_gone = || {
            assert!(!shown("lan").contains("10.0.1.60"));
            assert!(!shown("other").contains("2001:db8::60"));
            assert!(!run("ip", "link").contains("vrrp.51"));
            assert_eq!(setting("lan", "arp_announce"), "1", "as it was");
            assert_eq!(setting("lan", "arp_ignore"), "0", "as it was");
            assert!(shown("lan").contains("10.0.1.1/24"), "the operator's");
            assert!(shown("other").contains("10.0.1.7/24"), "the operator's");
            assert_eq!(run("nft", "list tables").trim(), "");
            let links = run("ip", "link");
            assert!(links.contains("vrrp.52") && links.contains("mine"));
        };
        leave();
        let done = remove_leftovers(&Settings::default()).unwrap();
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        assert_eq!(done.len(), 4, "{done:?}");
        all_gone();
        assert!(remove_leftovers(&Settings::default()).unwrap().is_empty());
        leave();
        // One that starts does it too, before anything is told.
        let mut settings = both("rehto");
        settings.routers.truncate(1);
        let near = Stage::start(&settings, Options::default());
        near.interface(|_, _| true);
        all_gone();
    });
}

#[test]
fn an_interface_of_somebody_else_is_never_replaced() {
    in_namespace("an_interface_of_somebody_else_is_never_replaced", || {
        let _peer = Peer::start();
        ip("link add vrrp.51 type veth peer name other");
        let near = Stage::start(&both("lan"), Options::default());
        near.interface(|_, interface| interface.up);
        near.act([Action::MakeInterface(VirtualInterface {
            name: "vrrp.51".into(),
            on: "lan".into(),
            mac: [0, 0, 0x5e, 0, 1, 51],
            family: Family::V4,
        })]);
        near.notice("making vrrp.51 failed: another interface is called vrrp.51");
        near.act([Action::RemoveInterface {
            name: "vrrp.51".into(),
        }]);
        assert!(run("ip", "-d link show vrrp.51").contains("veth"));
        assert_eq!(setting("lan", "arp_ignore"), "0");
    });
}
