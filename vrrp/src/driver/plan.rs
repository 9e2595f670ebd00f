//! What the settings want of the edge: which interfaces to watch, where to listen, which addresses are virtual.

use super::links::Links;
use super::receiver::Place;
use super::virtual_interface::virtual_interface_name;
use crate::settings::{Family, Name, RouterSettings, Settings, Tracked};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

/// The driver's view of [`Settings`].
#[derive(Debug)]
pub(super) struct Plan {
    /// Interfaces that the state machine is told of.
    pub(super) watched: BTreeSet<Name>,
    /// Those of them that have a virtual MAC.
    pub(super) virtual_interfaces: BTreeSet<Name>,
    /// All virtual addresses of the box.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Virtual addresses and the interfaces they may have been left on by a process that was killed.
    pub(super) leftovers: BTreeSet<(Name, IpAddr)>,
    listeners: Vec<Listener>,
    users: BTreeMap<Name, BTreeSet<Name>>,
    routers: Vec<Name>,
}

/// A device on which a virtual router hears its peers.
#[derive(Clone, Debug)]
struct Listener {
    /// Of a router that is not configured any more: when it has let go of everything.
    until: Option<Instant>,
    device: Name,
    interface: Name,
    family: Family,
    from: Option<[u8; 6]>,
}

impl Plan {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut plan = Self {
            watched: BTreeSet::new(),
            virtual_interfaces: BTreeSet::new(),
            addresses: BTreeSet::new(),
            leftovers: BTreeSet::new(),
            listeners: Vec::new(),
            users: BTreeMap::new(),
            routers: Vec::new(),
        };
        for router in &settings.routers {
            plan.take_in(router);
        }
        plan
    }

    fn take_in(&mut self, router: &RouterSettings) {
        self.routers.push(router.name.clone());
        let mut own = vec![router.interface.clone()];
        self.listeners.push(Listener {
            until: None,
            device: router.interface.clone(),
            interface: router.interface.clone(),
            family: router.family,
            from: None,
        });
        if router.virtual_mac {
            let device = virtual_interface_name(router.family, router.vrid);
            own.push(device.clone());
            self.virtual_interfaces.insert(device.clone());
            self.listeners.push(Listener {
                until: None,
                device,
                interface: router.interface.clone(),
                family: router.family,
                from: Some(virtual_mac(router.family, router.vrid)),
            });
        }
        for address in router.addresses.iter().chain(&router.excluded) {
            self.addresses.insert(address.net.addr());
            let places = match &address.interface {
                Some(interface) => std::slice::from_ref(interface),
                None => &own[..],
            };
            for place in places {
                // The owner has had its addresses from the beginning.
                if router.priority != u8::MAX {
                    self.leftovers.insert((place.clone(), address.net.addr()));
                }
                self.use_of(place, router);
            }
        }
        for route in &router.routes {
            self.use_of_place(route.to_string().into(), router);
        }
        for (tracked, _) in &router.tracked {
            if let Tracked::Interface(interface) = tracked {
                self.watched.insert(interface.clone());
            }
        }
        for interface in own {
            self.use_of(&interface, router);
        }
    }

    fn use_of(&mut self, interface: &Name, router: &RouterSettings) {
        self.watched.insert(interface.clone());
        self.use_of_place(interface.clone(), router);
    }

    fn use_of_place(&mut self, place: Name, router: &RouterSettings) {
        let users = self.users.entry(place).or_default();
        users.insert(router.name.clone());
    }

    /// Goes on listening where routers that are not configured any more hold addresses until a peer speaks.
    pub(super) fn succeed(&mut self, before: &Self, until: Instant) {
        for old in &before.listeners {
            let is_there = self
                .listeners
                .iter()
                .any(|new| (&new.device, new.family) == (&old.device, old.family));
            if !is_there {
                let until = old.until.or(Some(until));
                self.listeners.push(Listener {
                    until,
                    ..old.clone()
                });
            }
        }
    }

    /// Where to listen, as the interfaces are now: each device and family once.
    pub(super) fn places(&self, links: &Links, now: Instant) -> BTreeMap<(Name, bool), Place> {
        let mut places: BTreeMap<(Name, bool), Place> = BTreeMap::new();
        for listener in &self.listeners {
            if listener.until.is_some_and(|until| until <= now) {
                continue;
            }
            let Some(link) = links.named(&listener.device) else {
                continue;
            };
            let key = (listener.device.clone(), listener.family == Family::V6);
            places.entry(key).or_insert_with(|| Place {
                device: listener.device.clone(),
                interface: listener.interface.clone(),
                family: listener.family,
                index: link.index,
                from: listener.from,
            });
        }
        places
    }

    /// The virtual routers that have to do with an interface or a route, or the one of this name; all of them if none
    /// has.
    pub(super) fn users(&self, place: &str) -> Vec<Name> {
        if let Some(users) = self.users.get(place) {
            return users.iter().cloned().collect();
        }
        let named = self.routers.iter().find(|name| ***name == *place);
        named.map_or_else(|| self.routers.clone(), |name| vec![name.clone()])
    }
}

fn virtual_mac(family: Family, vrid: u8) -> [u8; 6] {
    let family = match family {
        Family::V4 => 1,
        Family::V6 => 2,
    };
    [0, 0, 0x5e, 0, family, vrid]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_goes_to_those_it_concerns() {
        let mut plan = Plan::new(&Settings::default());
        plan.routers = ["VI_1", "VI_2", "VI_3"].map(Name::from).to_vec();
        plan.users.insert(
            "eth0".into(),
            BTreeSet::from(["VI_1".into(), "VI_2".into()]),
        );
        assert_eq!(plan.users("eth0").len(), 2);
        assert_eq!(plan.users("VI_3"), ["VI_3".into()]);
        assert_eq!(plan.users("sockets").len(), 3);
    }
}
