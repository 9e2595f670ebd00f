//! Which of a router's addresses it has put on interfaces.

use crate::action::Action;
use crate::announcing::announce;
use crate::input::Interface;
use crate::settings::{Name, RouterSettings};
use ipnet::IpNet;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The addresses in place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    placed: Vec<Place>,
}

/// One address.
#[derive(Clone, Debug)]
struct Place {
    interface: Name,
    net: IpNet,
    /// It was there before, because this box owns it: it is never taken away.
    is_own: bool,
    /// The kernel has shown it since it was put there.
    is_seen: bool,
    since: Instant,
}

/// An address the kernel does not show that long after it was put there is put there again.
const PATIENCE: Duration = Duration::from_secs(1);

impl Places {
    /// Puts what is not there yet in place; says which addresses are new.
    pub(crate) fn fill(
        &mut self,
        settings: &RouterSettings,
        default_interface: &Name,
        is_own: impl Fn(&Name, IpAddr) -> bool,
        now: Instant,
        out: &mut VecDeque<Action>,
    ) -> Vec<(Name, IpAddr)> {
        let mut new = Vec::new();
        for (interface, net) in wanted(settings, default_interface) {
            if self.holds(&interface, net) {
                continue;
            }
            self.placed.push(Place {
                is_own: is_own(&interface, net.addr()),
                interface: interface.clone(),
                net,
                is_seen: false,
                since: now,
            });
            out.push_back(Action::AddAddress {
                interface: interface.clone(),
                address: net,
            });
            new.push((interface, net.addr()));
        }
        new
    }

    /// Takes away what is not wanted any more.
    pub(crate) fn prune(
        &mut self,
        settings: &RouterSettings,
        default_interface: &Name,
        out: &mut VecDeque<Action>,
    ) {
        let keep: Vec<_> = wanted(settings, default_interface).collect();
        self.placed.retain(|place| {
            let is_wanted = keep
                .iter()
                .any(|(interface, net)| *interface == place.interface && *net == place.net);
            if !is_wanted {
                place.remove(out);
            }
            is_wanted
        });
    }

    /// Takes all away.
    pub(crate) fn clear(&mut self, out: &mut VecDeque<Action>) {
        for place in self.placed.drain(..) {
            place.remove(out);
        }
    }

    /// An interface is as told: what somebody else has taken from it is put there again and announced.
    pub(crate) fn mend(
        &mut self,
        name: &Name,
        interface: &Interface,
        repeat: u32,
        now: Instant,
        out: &mut VecDeque<Action>,
    ) {
        let mut missing = Vec::new();
        for place in &mut self.placed {
            if place.interface != *name {
                continue;
            }
            let address = place.net.addr();
            if interface.addresses.iter().any(|net| net.addr() == address) {
                place.is_seen = true;
            } else if place.is_seen || now.saturating_duration_since(place.since) >= PATIENCE {
                place.is_seen = false;
                place.since = now;
                out.push_back(Action::AddAddress {
                    interface: name.clone(),
                    address: place.net,
                });
                missing.push(address);
            }
        }
        announce(missing.iter().map(|address| (name, *address)), repeat, out);
    }

    /// Tells the link of all addresses, `times` times; only of those on one interface, if one is named.
    pub(crate) fn announce(&self, only: Option<&Name>, times: u32, out: &mut VecDeque<Action>) {
        let places = self
            .placed
            .iter()
            .filter(|place| only.is_none_or(|only| *only == place.interface))
            .map(|place| (&place.interface, place.net.addr()));
        announce(places, times, out);
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.placed.iter().map(|place| place.net.addr())
    }

    pub(crate) fn holds(&self, interface: &Name, net: IpNet) -> bool {
        self.placed
            .iter()
            .any(|place| place.interface == *interface && place.net == net)
    }
}

impl Place {
    fn remove(&self, out: &mut VecDeque<Action>) {
        if !self.is_own {
            out.push_back(Action::RemoveAddress {
                interface: self.interface.clone(),
                address: self.net,
            });
        }
    }
}

/// All addresses of a router with their interfaces; those that advertisements name first.
pub(crate) fn wanted<'a>(
    settings: &'a RouterSettings,
    default_interface: &'a Name,
) -> impl Iterator<Item = (Name, IpNet)> + 'a {
    let all = settings.addresses.iter().chain(&settings.excluded);
    all.map(|address| {
        let interface = address.interface.as_ref().unwrap_or(default_interface);
        (interface.clone(), address.net)
    })
}
