//! What virtual routers of a process that was killed have left goes when `sluiced` starts, before any port is opened,
//! whatever is configured now.

mod kernel_netns;

use kernel_netns::{in_namespace, ip};
use rustix::process::{Signal, getpid, kill_process};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};
use vrrp::driver::{Driver, Machine, Options};
use vrrp::{Action, Input, RouterStatus, Settings};

/// Puts addresses in place, and nothing else.
struct Places(Vec<Action>);

impl Machine for Places {
    fn handle(&mut self, _input: Input<'_>, _now: Instant) {}
    fn expire(&mut self, _now: Instant) {}
    fn next_deadline(&self) -> Option<Instant> {
        None
    }
    fn next_action(&mut self) -> Option<Action> {
        self.0.pop()
    }
    fn status(&self, _now: Instant) -> Vec<RouterStatus> {
        Vec::new()
    }
    fn counters(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }
}

/// What the process that is killed does.
fn be_killed() {
    let places = [("lan", "10.0.1.60/32"), ("eth7", "10.0.1.61/24")];
    let actions = places.map(|(interface, address)| Action::AddAddress {
        interface: interface.into(),
        address: address.parse().unwrap(),
    });
    let machine = Places(actions.into());
    let driver = Driver::start_with(machine, &Settings::default(), Options::default()).unwrap();
    driver.status(Duration::from_secs(5)).unwrap();
    kill_process(getpid(), Signal::KILL).unwrap();
}

fn shown(what: &str) -> String {
    let output = Command::new("ip").args(what.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn without_any_virtual_router_those_of_before_are_removed_before_ports_are_opened() {
    let test = "without_any_virtual_router_those_of_before_are_removed_before_ports_are_opened";
    const ROLE: &str = "SLUICE_TEST_KILLED";
    if std::env::var_os(ROLE).is_some() {
        be_killed();
    }
    in_namespace(test, async || {
        ip("tuntap add lan mode tap; link set lan up; link add eth7 type veth peer name eth8");
        ip("addr add 10.0.1.1/24 dev lan");
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, "")
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(9));
        ip("link add vrrp.51 link eth7 address 00:00:5e:00:01:33 type macvlan");
        let addresses = shown("addr");
        assert!(addresses.contains("10.0.1.60") && addresses.contains("10.0.1.61"));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sluice.ini");
        // There is no such interface, so that it gets no further.
        let text = format!(
            "[global]\nadmin_socket = {}/socket\n[port lan]\ndevice = net_af_packet0,iface=absent0\n\
             kernel_interface = lan\naddresses = 10.0.1.1/24\n",
            directory.path().display()
        );
        std::fs::write(&path, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_sluiced"))
            .arg("--config")
            .arg(&path)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && told.contains("absent0"),
            "{told}"
        );
        for gone in ["10.0.1.60/32 on lan", "10.0.1.61/24 on eth7", "vrrp.51"] {
            let sentence = format!("removed {gone}, left by a process that died");
            assert!(told.contains(&sentence), "{gone}: {told}");
        }
        let addresses = shown("addr");
        assert!(!addresses.contains("10.0.1.60") && !addresses.contains("10.0.1.61"));
        assert!(addresses.contains("10.0.1.1/24"), "the operator's");
        assert!(!addresses.contains("vrrp.51"));
    });
}
