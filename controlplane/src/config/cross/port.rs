//! The box and its ports: CPUs, devices, kernel interfaces, addresses, neighbours, VLANs.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::super::address::{self, InterfaceAddress, Route};
use super::super::effective::{EffectiveTable, Section};
use super::super::report::Report;
use super::super::words::Idle;
use super::At;

pub(super) fn check(table: &EffectiveTable, report: &mut Report) {
    if let Some(global) = table.find("global", "") {
        cores(global, report);
    }
    devices(table, report);
    kernel_interfaces(table, report);
    for section in table.of("port").chain(table.of("vlan")) {
        addresses(section, report);
    }
    same_address(table, report);
    vlans(table, report);
    neighbors(table, report);
}

fn cores(global: &Section, report: &mut Report) {
    let (Some(control), Some(workers)) = (
        global.get::<u16>("control_core"),
        global.get::<Vec<u16>>("worker_cores"),
    ) else {
        return;
    };
    let busy = global.get::<Idle>("idle") == Some(Idle::Busy);
    let at = At::new(global);
    if busy && workers.contains(&control) {
        let message = format!(
            "CPU {control} is the control core and a worker's, which `busy` would leave no time; expected adaptive, or \
             another control_core or worker_cores"
        );
        at.error(report, "idle", message);
        return;
    }
    let shared = shared_cpus(&workers);
    if shared.is_empty() {
        return;
    }
    let what = format!("several workers share CPU {shared}");
    if busy {
        let message = format!(
            "{what}, and `busy` would leave none of them its time; expected adaptive, or worker_cores with each CPU once"
        );
        at.error(report, "idle", message);
    } else {
        let message = format!("{what} and take turns on it; expected each CPU once");
        at.warning(report, "worker_cores", message);
    }
}

/// The CPUs that are listed more than once, for a message.
fn shared_cpus(workers: &[u16]) -> String {
    let mut times = BTreeMap::<u16, usize>::new();
    for cpu in workers {
        *times.entry(*cpu).or_default() += 1;
    }
    times.retain(|_, times| *times > 1);
    let shared: Vec<_> = times.keys().map(u16::to_string).collect();
    shared.join(",")
}

fn devices(table: &EffectiveTable, report: &mut Report) {
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut beneath: HashMap<String, String> = HashMap::new();
    for section in table.of("port") {
        let at = At::new(section);
        let parts: Vec<_> = section
            .settings
            .iter()
            .filter(|setting| setting.key.name == "device")
            .collect();
        for setting in &parts {
            let Some(device) = section.get::<String>(&setting.name) else {
                continue;
            };
            let key = setting.name.as_ref();
            if address::is_pci(&device) {
                if key != "device" {
                    let message = format!(
                        "`{device}` is a PCI address; expected a further DPDK virtual device"
                    );
                    at.error(report, key, message);
                } else if parts.len() > 1 {
                    let message = format!(
                        "`{device}` has its own queues; expected no device_2 beside a PCI device"
                    );
                    at.error(report, parts[1].name.as_ref(), message);
                }
            }
            let name = address::device_name(&device).to_ascii_lowercase();
            let name = if name.len() == 7 {
                format!("0000:{name}")
            } else {
                name
            };
            if let Some(first) = seen.get(&name) {
                let message =
                    format!("`{name}` is used already at {first}; expected each device once");
                at.error(report, key, message);
            } else {
                seen.insert(name, setting.origin.to_string());
            }
            let Some(netdev) = address::device_argument(&device, "iface") else {
                continue;
            };
            let is_tap = address::device_name(&device).starts_with("net_tap");
            if section.get::<String>("kernel_interface").as_deref() == Some(netdev) {
                let message = format!(
                    "`{netdev}` is the interface beneath the port's device; expected another name, such as the port's"
                );
                let key = if section.is_explicit("kernel_interface") {
                    "kernel_interface"
                } else {
                    key
                };
                at.error(report, key, message);
            }
            match beneath.get(netdev) {
                Some(first) if *first != section.name && !is_tap => {
                    let message = format!(
                        "the interface `{netdev}` is beneath port `{first}` already; expected each \
                                           interface under one port"
                    );
                    at.error(report, key, message);
                }
                _ => {
                    beneath.insert(netdev.to_owned(), section.name.clone());
                }
            }
        }
    }
}

fn kernel_interfaces(table: &EffectiveTable, report: &mut Report) {
    let mut seen: HashMap<String, String> = HashMap::new();
    for section in table.of("port") {
        let at = At::new(section);
        match section.get::<String>("kernel_interface") {
            Some(name) => {
                if let Some(first) = seen.get(&name) {
                    let message = format!(
                        "`{name}` is the kernel interface of port `{first}` already; expected \
                                           another name"
                    );
                    at.error(report, "kernel_interface", message);
                }
                seen.insert(name, section.name.clone());
            }
            None if section.get::<&'static str>("kernel_interface") == Some("none") => {
                for key in ["addresses", "gateway", "routes"] {
                    if section.is_explicit(key) {
                        let message = "kernel_interface is none, so there is nothing to put this on; expected a \
                                       kernel interface, or the key left out";
                        at.warning(report, key, message.to_owned());
                    }
                }
            }
            None => {}
        }
    }
}

fn addresses(section: &Section, report: &mut Report) {
    let at = At::new(section);
    let own: Vec<InterfaceAddress> = section.get("addresses").unwrap_or_default();
    let known = section
        .setting("addresses")
        .is_none_or(|setting| setting.value.is_some());
    for (position, address) in own.iter().enumerate() {
        if !address.has_length {
            let message = format!(
                "`{}` has no prefix length and is taken as /{}; expected ADDRESS/LENGTH",
                address.net.addr(),
                address.net.prefix_len()
            );
            at.warning(report, "addresses", message);
        }
        if own[..position]
            .iter()
            .any(|other| other.net.addr() == address.net.addr())
        {
            let message = format!(
                "`{}` is listed twice; expected each address once",
                address.net.addr()
            );
            at.error(report, "addresses", message);
        }
    }
    let reachable = |gateway: IpAddr| own.iter().any(|address| address.contains(gateway));
    if !known {
        return;
    }
    let gateways = section.get::<Vec<IpAddr>>("gateway").unwrap_or_default();
    let routes = section.get::<Vec<Route>>("routes").unwrap_or_default();
    let hops = gateways.iter().map(|hop| ("gateway", *hop));
    for (key, hop) in hops.chain(routes.iter().map(|route| ("routes", route.gateway))) {
        if own.iter().any(|address| address.net.addr() == hop) {
            at.error(
                report,
                key,
                format!("`{hop}` is an address of this box; expected a neighbour's"),
            );
        } else if !reachable(hop) {
            let message = format!(
                "`{hop}` is in no subnet of the section's addresses, so the kernel may refuse it; \
                                   expected a neighbour's address"
            );
            at.warning(report, key, message);
        }
    }
}

fn same_address(table: &EffectiveTable, report: &mut Report) {
    let mut seen: HashMap<IpAddr, String> = HashMap::new();
    for section in table.of("port").chain(table.of("vlan")) {
        for address in section
            .get::<Vec<InterfaceAddress>>("addresses")
            .unwrap_or_default()
        {
            let ip = address.net.addr();
            match seen.get(&ip) {
                Some(first) if *first != section.title() => {
                    let message = format!(
                        "`{ip}` is an address of [{first}] already; expected it on one of them"
                    );
                    At::new(section).error(report, "addresses", message);
                }
                _ => {
                    seen.insert(ip, section.title());
                }
            }
        }
    }
}

fn vlans(table: &EffectiveTable, report: &mut Report) {
    let mut seen: HashMap<(String, u16), String> = HashMap::new();
    for section in table.of("vlan") {
        if table.find("port", &section.name).is_some() {
            let message = format!(
                "the name is that of [port {}]; expected another",
                section.name
            );
            At::new(section).section_error(report, message);
        }
        let (Some(port), Some(id)) = (section.get::<String>("port"), section.get::<u16>("id"))
        else {
            continue;
        };
        if let Some(first) = seen.get(&(port.clone(), id)) {
            let message =
                format!("VLAN {id} of port `{port}` is [vlan {first}] already; expected each once");
            At::new(section).error(report, "id", message);
        }
        seen.insert((port, id), section.name.clone());
    }
}

fn neighbors(table: &EffectiveTable, report: &mut Report) {
    for section in table.of("neighbor") {
        let Ok(ip) = section.name.parse::<IpAddr>() else {
            continue;
        };
        let at = At::new(section);
        if !address::is_unicast(ip) {
            at.section_error(
                report,
                format!("`{ip}` is not a unicast address; expected a neighbour's"),
            );
        }
        let subnets = || table.of("port").chain(table.of("vlan"));
        let own = |section: &Section| {
            section
                .get::<Vec<InterfaceAddress>>("addresses")
                .unwrap_or_default()
        };
        if subnets().any(|section| own(section).iter().any(|address| address.net.addr() == ip)) {
            at.section_error(
                report,
                format!("`{ip}` is an address of this box; expected a neighbour's"),
            );
        }
        let found =
            subnets().any(|section| own(section).iter().any(|address| address.contains(ip)));
        if !found && section.setting("on").is_none() {
            let message =
                format!("no port has a subnet that contains `{ip}`; expected the name of a [port]");
            at.error(report, "on", message);
        }
    }
}
