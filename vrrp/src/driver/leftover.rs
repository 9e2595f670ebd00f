//! What a process that was killed left in the kernel: routes, virtual addresses, interfaces with a virtual MAC, and the
//! ARP settings of the interfaces beneath. A peer has long taken over, so whatever is left is a second box that answers.
//!
//! Addresses are told by their mark (`IFA_PROTO`, Linux 5.18), routes by theirs (`rtm_protocol`), interfaces by name and
//! MAC, and what the settings were is written on those interfaces. None of it needs a configuration: the router may be
//! gone from it, or another interface be its own now. Addresses without a mark, of an older kernel, are found by the
//! present settings.

use super::address::{self, PROTOCOL};
use super::links::Links;
use super::netlink::{Netlink, ROUTE};
use super::plan::Plan;
use super::{routing, virtual_interface};
use crate::settings::Settings;
use std::io::Result;

/// Removes what an earlier process left in the network namespace of the calling thread. To be called before anybody
/// could be answered for these addresses, and while no [`Driver`](super::Driver) runs there. One sentence each of what
/// was removed, and of what could not be.
pub fn remove_leftovers(settings: &Settings) -> Result<Vec<std::result::Result<String, String>>> {
    let mut netlink = Netlink::open(ROUTE)?;
    let mut links = Links::open()?;
    links.follow(&mut netlink, |_| true)?;
    // The kernel may have a million routes to look through: not for the thread that has timers to keep.
    let mut done: Vec<_> = match routing::remove_left(&mut netlink) {
        Ok(routes) => routes
            .into_iter()
            .map(|(route, result)| sentence(&format!("the route {route}"), result))
            .collect(),
        Err(error) => vec![sentence("routes", Err(error))],
    };
    done.extend(remove(&mut netlink, &links, &Plan::new(settings)));
    Ok(done)
}

fn sentence(what: &str, result: Result<()>) -> std::result::Result<String, String> {
    match result {
        Ok(()) => Ok(format!("removed {what}, left by a process that died")),
        Err(error) => Err(format!("cannot remove {what}: {error}")),
    }
}

/// Addresses and interfaces, by what is open already.
pub(super) fn remove(
    netlink: &mut Netlink,
    links: &Links,
    plan: &Plan,
) -> Vec<std::result::Result<String, String>> {
    let mut done = Vec::new();
    for link in links.all() {
        for address in links.addresses(link.index) {
            let is_configured = || {
                let mut left = plan.leftovers.iter();
                left.any(|(name, ip)| **name == *link.name && *ip == address.net.addr())
            };
            if address.protocol == PROTOCOL || is_configured() {
                let result = address::remove(netlink, link.index, address.net);
                done.push(sentence(
                    &format!("{} on {}", address.net, link.name),
                    result,
                ));
            }
        }
    }
    for link in links.all() {
        if virtual_interface::is_ours(link) {
            let result = virtual_interface::remove_left(netlink, links, link);
            done.push(sentence(&link.name, result));
        }
    }
    done
}
