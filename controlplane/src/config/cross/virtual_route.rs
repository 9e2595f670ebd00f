//! Routes of virtual routers: the kernel has one to a destination, and it leads to a neighbour.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::address::{Route, VirtualAddress};
use super::super::effective::{EffectiveTable, Section};
use super::super::report::Report;
use super::At;

pub(super) fn check(table: &EffectiveTable, report: &mut Report) {
    let fixed = fixed(table);
    let mut moving: HashMap<IpNet, (String, IpAddr)> = HashMap::new();
    for section in table.of("vrrp") {
        let at = At::new(section);
        let own = addresses(section);
        for route in routes(section) {
            let Route {
                destination,
                gateway,
            } = route;
            if own.contains(&gateway) {
                let message =
                    format!("`{gateway}` is an address of this box; expected a neighbour's");
                at.error(report, "routes", message);
            }
            if let Some(owner) = fixed.get(&destination) {
                let message = format!(
                    "`{destination}` is a route of [{owner}], which is always there; expected it in one place"
                );
                at.error(report, "routes", message);
            }
            match moving.get(&destination) {
                Some((other, _)) if *other == section.name => {
                    let message =
                        format!("`{destination}` is listed twice; expected each destination once");
                    at.error(report, "routes", message);
                }
                Some((other, by)) if *by != gateway => {
                    let message = format!(
                        "`{destination}` leads to {by} in [vrrp {other}], and the box that is MASTER of both has only one \
                         of them; expected the same gateway"
                    );
                    at.warning(report, "routes", message);
                }
                Some(_) => {}
                None => {
                    moving.insert(destination, (section.name.clone(), gateway));
                }
            }
        }
    }
}

fn addresses(section: &Section) -> Vec<IpAddr> {
    let keys = ["addresses", "excluded_addresses"].into_iter();
    keys.flat_map(|key| section.get::<Vec<VirtualAddress>>(key).unwrap_or_default())
        .map(|address| address.net.addr())
        .collect()
}

fn routes(section: &Section) -> Vec<Route> {
    section.get("routes").unwrap_or_default()
}

/// The destinations of ports, each with its section.
fn fixed(table: &EffectiveTable) -> HashMap<IpNet, String> {
    let mut fixed = HashMap::new();
    for section in table.of("port").chain(table.of("vlan")) {
        let gateways: Vec<IpAddr> = section.get("gateway").unwrap_or_default();
        let anywhere = gateways.into_iter().map(|gateway| match gateway {
            IpAddr::V4(_) => Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
            IpAddr::V6(_) => Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
        });
        let named = routes(section).into_iter().map(|route| route.destination);
        fixed.extend(
            named
                .chain(anywhere)
                .map(|destination| (destination, section.title())),
        );
    }
    fixed
}
