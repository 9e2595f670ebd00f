//! Virtual routers beside ports, services and each other. What a `[vrrp]` section needs for itself
//! is checked in [`super::watch`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::super::address::{InterfaceAddress, VirtualAddress};
use super::super::effective::{EffectiveTable, Section};
use super::super::redundancy::Secret;
use super::super::report::Report;
use super::super::words::{AuthType, InitialState, Serve};
use super::At;

/// As many addresses keepalived puts into an advertisement; they also fit every MTU.
const MOST_ADDRESSES: usize = 20;

pub(super) fn check(table: &EffectiveTable, report: &mut Report) {
    let mut owners = HashMap::new();
    let mut macs = HashMap::new();
    for section in table.of("vrrp") {
        alone(section, report);
        mac_once(section, &mut macs, report);
        password(section, report);
        for key in ["addresses", "excluded_addresses"] {
            owned_once(section, key, &mut owners, report);
        }
        beside_ports(section, table, report);
    }
    if !owners.is_empty() {
        for service in table.of("virtual_server") {
            beside_services(service, table, &owners, report);
        }
    }
}

fn alone(section: &Section, report: &mut Report) {
    let at = At::new(section);
    let addresses: Vec<VirtualAddress> = section.get("addresses").unwrap_or_default();
    if addresses.len() > MOST_ADDRESSES {
        let message = format!(
            "{} addresses are too many for an advertisement; expected at most {MOST_ADDRESSES}, the others in \
             excluded_addresses",
            addresses.len()
        );
        at.error(report, "addresses", message);
    }
    let delayed = section
        .get::<Duration>("preempt_delay")
        .is_some_and(|delay| !delay.is_zero());
    let always = section.get("state") == Some(InitialState::Master)
        || section.get("priority") == Some(255_u8);
    if delayed && section.get("preempt") == Some(false) && !always {
        let message = "has no effect with preempt = no; expected one of the two";
        at.warning(report, "preempt_delay", message.to_owned());
    }
    let peers: Vec<IpAddr> = section.get("unicast_peers").unwrap_or_default();
    if let Some(own) = section.get::<IpAddr>("source")
        && peers.contains(&own)
    {
        let message = format!("`{own}` is this box's own source; expected its peers only");
        at.error(report, "unicast_peers", message);
    }
    let unweighed = |key: &str| {
        let tracked: Vec<(String, Option<i32>)> = section.get(key).unwrap_or_default();
        tracked
            .into_iter()
            .any(|(_, weight)| weight.is_some_and(|weight| weight != 0))
    };
    if section.get("priority") == Some(255_u8) {
        for key in ["track_interfaces", "track_scripts", "track_services"] {
            if unweighed(key) {
                let message = "weights do not change the priority 255 of an address owner; expected a lower priority";
                at.warning(report, key, message.to_owned());
            }
        }
    }
}

fn password(section: &Section, report: &mut Report) {
    let Some(file) = section.get::<String>("auth_pass_file") else {
        return;
    };
    if section.get("auth_type") != Some(AuthType::Pass) {
        return;
    }
    let at = At::new(section);
    match Secret::read(Path::new(&file)) {
        Err(why) => {
            let message = format!("cannot read the password from {file}: {why}");
            at.error(report, "auth_pass_file", message);
        }
        Ok(secret) if secret.reveal().len() > 8 => {
            let message =
                "the password has more than 8 characters and is cut there; expected at most 8";
            at.warning(report, "auth_pass_file", message.to_owned());
        }
        Ok(_) => {}
    }
}

/// A virtual MAC, and the interface that has it, belong to one virtual router, wherever others are.
fn mac_once(
    section: &Section,
    macs: &mut HashMap<(bool, u8), (String, String)>,
    report: &mut Report,
) {
    let Some(vrid) = section.get::<u8>("virtual_router_id") else {
        return;
    };
    if section.get("virtual_mac") != Some(true) {
        return;
    }
    let interface: String = section.get("interface").unwrap_or_default();
    let addresses: Vec<VirtualAddress> = section.get("addresses").unwrap_or_default();
    let is_v6 = addresses.first().is_some_and(|it| it.net.addr().is_ipv6());
    if let Some((other, there)) = macs.get(&(is_v6, vrid)) {
        // Twice on one interface it is refused in any case.
        if *there == interface {
            return;
        }
        let name = vrrp::driver::virtual_interface_name(
            if is_v6 {
                vrrp::Family::V6
            } else {
                vrrp::Family::V4
            },
            vrid,
        );
        let message = format!(
            "[vrrp {other}] has the virtual MAC of {vrid} and the interface {name} already; expected another id, or \
             virtual_mac = no"
        );
        At::new(section).error(report, "virtual_router_id", message);
    } else {
        macs.insert((is_v6, vrid), (section.name.clone(), interface));
    }
}

/// Which virtual router has an address. Each link has link-local ones of its own, others belong to one router.
type Owners = HashMap<(IpAddr, Option<String>), String>;

/// Where a link-local address is; nothing for one that is the same everywhere.
fn link_of(address: &VirtualAddress, section: &Section) -> Option<String> {
    let is_of_link = matches!(address.net.addr(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    let own = || section.get::<String>("interface").unwrap_or_default();
    is_of_link.then(|| address.interface.clone().unwrap_or_else(own))
}

/// An address belongs to one virtual router.
fn owned_once(section: &Section, key: &str, owners: &mut Owners, report: &mut Report) {
    let addresses: Vec<VirtualAddress> = section.get(key).unwrap_or_default();
    for address in addresses {
        let ip = address.net.addr();
        let place = (ip, link_of(&address, section));
        if let Some(owner) = owners.get(&place) {
            let message =
                format!("`{ip}` is in [vrrp {owner}] already; expected each address once");
            At::new(section).error(report, key, message);
        } else {
            owners.insert(place, section.name.clone());
        }
    }
}

fn beside_ports(section: &Section, table: &EffectiveTable, report: &mut Report) {
    let at = At::new(section);
    let Some(interface) = section.get::<String>("interface") else {
        return;
    };
    for port in table.of("port") {
        let own: Option<String> = port.get("kernel_interface");
        if port.name == interface && own.as_ref() != Some(&interface) {
            let message = match own {
                None => format!(
                    "[port {interface}] has no kernel interface; expected kernel_interface = {interface} there"
                ),
                Some(own) => {
                    format!("[port {interface}]'s kernel interface is `{own}`; expected that one")
                }
            };
            at.warning(report, "interface", message);
        }
        let fixed: Vec<InterfaceAddress> = port.get("addresses").unwrap_or_default();
        for key in ["addresses", "excluded_addresses"] {
            let moving: Vec<VirtualAddress> = section.get(key).unwrap_or_default();
            for ip in moving.iter().map(|address| address.net.addr()) {
                let fixed = fixed.iter().any(|address| address.net.addr() == ip);
                if fixed && section.get("priority") != Some(255_u8) {
                    let message = format!(
                        "`{ip}` is [port {}]'s own address, which never leaves; expected it in one place",
                        port.name
                    );
                    at.error(report, key, message);
                }
            }
        }
    }
}

fn beside_services(
    service: &Section,
    table: &EffectiveTable,
    owners: &Owners,
    report: &mut Report,
) {
    let at = At::new(service);
    if table.of("port").next().is_none() {
        let message = "there is no [port] to forward by; expected one";
        at.section_error(report, message.to_owned());
        return;
    }
    if service.get::<Serve>("serve") == Some(Serve::Always) || service.is_explicit("announce") {
        return;
    }
    let fixed = |ip: IpAddr| {
        let mut ports = table.of("port");
        ports.any(|port| {
            let addresses: Vec<InterfaceAddress> = port.get("addresses").unwrap_or_default();
            addresses.iter().any(|address| address.net.addr() == ip)
        })
    };
    let mut told: Vec<IpAddr> = Vec::new();
    let addresses: Vec<SocketAddr> = service.get("addresses").unwrap_or_default();
    for ip in addresses.iter().map(SocketAddr::ip) {
        if !owners.contains_key(&(ip, None)) && !told.contains(&ip) && !fixed(ip) {
            told.push(ip);
            let message = format!(
                "`{ip}` is in no [vrrp] section, so this box always has it; expected it in one's addresses"
            );
            at.warning(report, "addresses", message);
        }
    }
}
