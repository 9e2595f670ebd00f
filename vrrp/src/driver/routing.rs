//! Routes of virtual routers in the kernel's main table, by rtnetlink(7).
//!
//! The kernel drops routes with the interface or the address they depend on, and tells of the others only those who
//! listen to all routes, of which there may be a million. So each is looked up every [`PERIOD`], which needs no lock of
//! the kernel's, and put there only if it is not found: that waits for whoever changes interfaces or routes, and this
//! thread has timers to keep. Invariant: only routes that were put there by a virtual router, which carry [`PROTOCOL`],
//! are ever removed; one of somebody else with the same destination and metric is left alone and told.

use super::address::PROTOCOL;
use super::netlink::{
    Attributes, INET, INET6, NLM_F_CREATE, NLM_F_EXCL, Netlink, address, attribute, family, ip, is,
};
use crate::settings::{Name, VirtualRoute};
use ipnet::IpNet;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The routes that are wanted.
#[derive(Debug, Default)]
pub(super) struct Routing {
    wanted: BTreeMap<VirtualRoute, Wanted>,
    due: Option<Instant>,
}

#[derive(Debug)]
struct Wanted {
    routers: BTreeSet<Name>,
    /// Not put there before, and after the next failure not for so long.
    not_before: Instant,
    pause: Duration,
}

/// What the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Ours,
    /// The same destination by another way.
    Another,
    /// It is missing, or one to a part of the destination hides it.
    Unknown,
}

impl Routing {
    /// A router wants it; `index` finds interfaces.
    pub(super) fn add(
        &mut self,
        netlink: &mut Netlink,
        index: impl Fn(&str) -> Result<u32>,
        router: Name,
        route: VirtualRoute,
        now: Instant,
    ) -> Result<()> {
        self.due.get_or_insert(now + PERIOD);
        let wanted = self.wanted.entry(route.clone()).or_insert(Wanted {
            routers: BTreeSet::new(),
            not_before: now,
            pause: PERIOD,
        });
        wanted.routers.insert(router);
        wanted.keep(netlink, index, &route, now).unwrap_or(Ok(()))
    }

    /// A router does not want it any more; `true` = nobody does.
    pub(super) fn remove(
        &mut self,
        netlink: &mut Netlink,
        index: impl Fn(&str) -> Result<u32>,
        router: &Name,
        route: &VirtualRoute,
    ) -> (bool, Result<()>) {
        if let Some(wanted) = self.wanted.get_mut(route) {
            wanted.routers.remove(router);
            if !wanted.routers.is_empty() {
                return (false, Ok(()));
            }
        }
        self.wanted.remove(route);
        if self.wanted.is_empty() {
            self.due = None;
        }
        // An interface without this name may only have another now: whichever it is.
        let index = interface(index, route).unwrap_or(None);
        (true, take_away(netlink, &message(route, index)))
    }

    /// Puts back what has gone, if that is due; each that was tried with what came of it.
    pub(super) fn keep(
        &mut self,
        netlink: &mut Netlink,
        index: impl Fn(&str) -> Result<u32>,
        now: Instant,
    ) -> Vec<(String, Result<()>)> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = Some(now + PERIOD);
        let wanted = self.wanted.iter_mut();
        wanted
            .filter_map(|(route, wanted)| {
                let result = wanted.keep(netlink, &index, route, now)?;
                Some((route.to_string(), result))
            })
            .collect()
    }

    /// Interfaces or addresses are others now: with them routes go, and gateways come.
    pub(super) fn hurry(&mut self, now: Instant) {
        for wanted in self.wanted.values_mut() {
            wanted.not_before = now;
            self.due = Some(now);
        }
    }

    /// When that is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due
    }

    /// Everything that is wanted, and by whom.
    pub(super) fn all(&self) -> Vec<(Name, VirtualRoute)> {
        let mut all = Vec::new();
        for (route, wanted) in &self.wanted {
            all.extend(wanted.routers.iter().map(|it| (it.clone(), route.clone())));
        }
        all
    }
}

impl Wanted {
    /// Puts it there unless it is; `None` = not tried yet again.
    fn keep(
        &mut self,
        netlink: &mut Netlink,
        index: impl Fn(&str) -> Result<u32>,
        route: &VirtualRoute,
        now: Instant,
    ) -> Option<Result<()>> {
        let body = match interface(index, route) {
            Ok(index) => message(route, index),
            Err(error) => return Some(Err(error)),
        };
        let found = look_up(netlink, &body, route);
        if found == Found::Ours {
            self.pause = PERIOD;
            self.not_before = now;
            return Some(Ok(()));
        }
        if now < self.not_before {
            return None;
        }
        self.not_before = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        match netlink.change(NEW_ROUTE, NLM_F_CREATE | NLM_F_EXCL, &body) {
            // Ours, perhaps, and hidden.
            Err(error) if is(&error, Errno::EXIST) && found == Found::Unknown => Some(Ok(())),
            Err(error) if is(&error, Errno::EXIST) => Some(Err(Error::new(
                ErrorKind::AlreadyExists,
                "another route to there exists",
            ))),
            result => Some(result),
        }
    }
}

fn interface(index: impl Fn(&str) -> Result<u32>, route: &VirtualRoute) -> Result<Option<u32>> {
    route.interface.as_deref().map(index).transpose()
}

/// Asks by which route packets to the destination go. `body` is the message the route is put by.
fn look_up(netlink: &mut Netlink, body: &[u8], route: &VirtualRoute) -> Found {
    // Nobody may go to the address 0; what has no route of its own stands in for it (RFC 5737, 3849).
    let somewhere = match route.destination {
        IpNet::V4(net) if net.prefix_len() == 0 => [192, 0, 2, 0].into(),
        IpNet::V6(net) if net.prefix_len() == 0 => {
            std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).into()
        }
        net => net.addr(),
    };
    let mut question = vec![body[0], if body[0] == INET { 32 } else { 128 }];
    question.resize(HEADER, 0);
    question[8..].copy_from_slice(&FIB_MATCH.to_ne_bytes());
    question.extend(address(RTA_DST, somewhere));
    match netlink.ask(GET_ROUTE, &question) {
        Ok(answer) => compare(body, &answer),
        // Nothing leads there.
        Err(_) => Found::Unknown,
    }
}

/// Compares the route that is wanted with one that the kernel has.
fn compare(wanted: &[u8], found: &[u8]) -> Found {
    let (Some(wanted), Some(found)) = (decode(wanted), decode(found)) else {
        return Found::Unknown;
    };
    let is_there = wanted.destination == found.destination && found.table == MAIN;
    let is_by =
        wanted.gateway == found.gateway && (wanted.index.is_none() || wanted.index == found.index);
    match (is_there, found.protocol == PROTOCOL && is_by) {
        (false, _) => Found::Unknown,
        (true, true) => Found::Ours,
        (true, false) => Found::Another,
    }
}

/// Takes those away that a process which died has left; one sentence each about which.
pub(super) fn remove_left(netlink: &mut Netlink) -> Result<Vec<(String, Result<()>)>> {
    let mut left = Vec::new();
    for family in [INET, INET6] {
        let mut request = [0; HEADER];
        request[0] = family;
        // Interrupted by a change, it has still told of all that did not change meanwhile; nobody changes ours.
        netlink.dump(GET_ROUTE, &request, |_, body| left.extend(ours(body)))?;
    }
    Ok(left
        .into_iter()
        .map(|(name, body)| (name, take_away(netlink, &body)))
        .collect())
}

/// The name and the message of a route that carries our mark.
fn ours(body: &[u8]) -> Option<(String, Vec<u8>)> {
    let route = decode(body)?;
    if (route.table, route.protocol) != (MAIN, PROTOCOL) {
        return None;
    }
    let ours = VirtualRoute {
        destination: route.destination,
        gateway: route.gateway?,
        interface: None,
    };
    Some((ours.to_string(), message(&ours, route.index)))
}

/// A unicast route as the kernel tells it.
#[derive(Debug)]
struct Decoded {
    destination: IpNet,
    gateway: Option<IpAddr>,
    index: Option<u32>,
    table: u8,
    protocol: u8,
}

fn decode(body: &[u8]) -> Option<Decoded> {
    let header: &[u8; HEADER] = body.first_chunk()?;
    let [family, length, _, _, table, protocol, _, kind] = *header.first_chunk::<8>()?;
    if kind != UNICAST {
        return None;
    }
    let (mut destination, mut gateway, mut index) = (None, None, None);
    for (kind, value) in Attributes(&body[HEADER..]) {
        match kind {
            RTA_DST => destination = ip(value),
            RTA_GATEWAY => gateway = ip(value),
            RTA_OIF => index = value.try_into().ok().map(u32::from_ne_bytes),
            _ => {}
        }
    }
    // A default route has none.
    let anywhere = || match family {
        INET => IpAddr::from([0; 4]),
        _ => IpAddr::from([0; 16]),
    };
    Some(Decoded {
        destination: IpNet::new(destination.unwrap_or_else(anywhere), length).ok()?,
        gateway,
        index,
        table,
        protocol,
    })
}

/// That it, or what it depends on, is not there is fine.
fn take_away(netlink: &mut Netlink, body: &[u8]) -> Result<()> {
    match netlink.change(DELETE_ROUTE, 0, body) {
        Err(error) if is(&error, Errno::SRCH) || is(&error, Errno::NODEV) => Ok(()),
        result => result,
    }
}

/// `struct rtmsg` and attributes.
fn message(route: &VirtualRoute, index: Option<u32>) -> Vec<u8> {
    let destination = route.destination;
    let length = destination.prefix_len();
    let mut body = vec![
        family(destination.addr()),
        length,
        0,
        0,
        MAIN,
        PROTOCOL,
        0,
        UNICAST,
    ];
    body.extend(0_u32.to_ne_bytes());
    body.extend(address(RTA_DST, destination.addr()));
    body.extend(address(RTA_GATEWAY, route.gateway));
    if let Some(index) = index {
        body.extend(attribute(RTA_OIF, &index.to_ne_bytes()));
    }
    body
}

/// Before one that has gone is put back.
const PERIOD: Duration = Duration::from_secs(1);
/// Between attempts in the end.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const HEADER: usize = 12;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const MAIN: u8 = 254;
const UNICAST: u8 = 1;
/// The route itself is asked for, not what it makes of the address.
const FIB_MATCH: u32 = 0x2000;

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, gateway: &str) -> VirtualRoute {
        VirtualRoute {
            destination: destination.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
            interface: None,
        }
    }

    #[test]
    fn what_is_sent_is_recognised_as_ours() {
        for route in [
            route("10.9.0.0/16", "10.0.1.254"),
            route("0.0.0.0/0", "10.0.1.254"),
            route("2001:db8::/32", "fe80::1"),
        ] {
            let body = message(&route, Some(7));
            assert_eq!(ours(&body), Some((route.to_string(), body.clone())));
            let mut of_another = body.clone();
            of_another[5] = 4;
            assert_eq!(ours(&of_another), None);
            let mut of_another_table = body;
            of_another_table[4] = 100;
            assert_eq!(ours(&of_another_table), None);
        }
    }

    #[test]
    fn what_is_found_is_ours_anothers_or_says_nothing() {
        let own = route("10.9.0.0/16", "10.0.1.254");
        let wanted = message(&own, None);
        assert_eq!(compare(&wanted, &message(&own, Some(7))), Found::Ours);
        let by_another = message(&route("10.9.0.0/16", "10.0.1.253"), Some(7));
        assert_eq!(compare(&wanted, &by_another), Found::Another);
        let mut of_another = message(&own, Some(7));
        of_another[5] = 4;
        assert_eq!(compare(&wanted, &of_another), Found::Another);
        let part = message(&route("10.9.0.0/24", "10.0.1.254"), Some(7));
        assert_eq!(compare(&wanted, &part), Found::Unknown);
        assert_eq!(compare(&wanted, &[]), Found::Unknown);
        let elsewhere = message(&own, Some(7));
        assert_eq!(compare(&message(&own, Some(8)), &elsewhere), Found::Another);
    }

    #[test]
    fn a_message_that_is_cut_is_nobodys() {
        let body = message(&route("2001:db8::/32", "fe80::1"), Some(7));
        for length in 0..body.len() {
            // An attribute that is not whole counts as missing.
            let _ = ours(&body[..length]);
        }
        assert_eq!(ours(&body[..HEADER]), None);
    }
}
