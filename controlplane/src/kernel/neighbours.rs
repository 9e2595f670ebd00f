//! Asks the kernel to resolve neighbours and to keep them resolved (`NTF_EXT_MANAGED`, Linux 5.16).
//!
//! Kernels that do not know managed neighbours get a probe (`NTF_USE`) every [`PROBE_INTERVAL`]
//! for each that is not confirmed. Invariant: a request for a managed neighbour always carries the
//! managed flag, because the kernel takes its absence as "no longer managed".
//!
//! There may be ten thousand servers. What is wanted is noted at once and asked for in steps
//! ([`Neighbours::advance`]), so that whoever has other things to do in between can do them.

use super::netlink::{PUT, Rtnl, is};
use super::view::{KernelView, NudState};
use dataplane::packet::MacAddress;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{Error, Result};
use std::net::IpAddr;
use std::time::Duration;

/// How often [`Neighbours::maintain`] should be called.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// A neighbour on an interface: (interface index, address).
pub type Key = (u32, IpAddr);

/// The neighbours this process has asked the kernel for.
#[derive(Debug)]
pub struct Neighbours {
    rtnl: Rtnl,
    managed: BTreeSet<Key>,
    fixed: BTreeMap<Key, MacAddress>,
    /// What the kernel has not been told yet.
    pending: VecDeque<Key>,
    kernel_manages: bool,
}

impl Neighbours {
    /// Nothing asked for yet.
    pub fn new(rtnl: Rtnl) -> Self {
        Self {
            rtnl,
            managed: BTreeSet::new(),
            fixed: BTreeMap::new(),
            pending: VecDeque::new(),
            kernel_manages: true,
        }
    }

    /// Keeps exactly `wanted` (real servers and gateways) resolved from now on. Returns what the
    /// kernel refused, for instance because an interface is down; [`Neighbours::maintain`] tries
    /// those again.
    pub async fn manage(&mut self, wanted: BTreeSet<Key>) -> Vec<(Key, Error)> {
        self.want(wanted);
        self.advance(usize::MAX).await
    }

    /// Notes that exactly `wanted` is to be kept resolved from now on; [`Neighbours::advance`]
    /// tells the kernel.
    pub fn want(&mut self, wanted: BTreeSet<Key>) {
        self.pending
            .extend(self.managed.symmetric_difference(&wanted));
        self.managed = wanted;
    }

    /// True if [`Neighbours::advance`] has something to do.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Tells the kernel up to `most` things it has not been told yet; returns what it refused.
    pub async fn advance(&mut self, most: usize) -> Vec<(Key, Error)> {
        let mut failed = Vec::new();
        for _ in 0..most {
            let Some(key) = self.pending.pop_front() else {
                break;
            };
            let wanted = self.managed.contains(&key) || self.fixed.contains_key(&key);
            // Asking without the flag takes it away and leaves the entry to age as any other.
            if !wanted && !self.kernel_manages {
                continue;
            }
            if let Err(error) = self.request(key).await
                && (wanted || !is_gone(&error))
            {
                failed.push((key, error));
            }
        }
        failed
    }

    /// Has the kernel resolve one address now: a packet waits for it. Also starts a failed entry
    /// anew. The answer arrives as a change of the mirrored view.
    pub async fn resolve(&mut self, key: Key) -> Result<()> {
        self.request(key).await
    }

    /// Makes the static entries exactly `wanted`.
    pub async fn fix(&mut self, wanted: BTreeMap<Key, MacAddress>) -> Vec<(Key, Error)> {
        let mut failed = Vec::new();
        let released: Vec<_> = self
            .fixed
            .keys()
            .filter(|key| !wanted.contains_key(key))
            .copied()
            .collect();
        self.fixed = wanted;
        for key in released {
            if let Err(error) = self.remove(key).await {
                failed.push((key, error));
            }
            if self.managed.contains(&key)
                && let Err(error) = self.request(key).await
            {
                failed.push((key, error));
            }
        }
        for key in self.fixed.keys().copied().collect::<Vec<_>>() {
            if let Err(error) = self.request(key).await {
                failed.push((key, error));
            }
        }
        failed
    }

    /// Puts right what the kernel has lost, for instance because an interface went down, and
    /// probes what it does not keep resolved by itself. Call it every [`PROBE_INTERVAL`] and when
    /// an interface comes up.
    pub async fn maintain(&mut self, view: &KernelView) -> Vec<(Key, Error)> {
        self.plan_maintenance(view);
        self.advance(usize::MAX).await
    }

    /// Like [`Neighbours::maintain`], but only notes what is to be done.
    pub fn plan_maintenance(&mut self, view: &KernelView) {
        // What is under way comes round again.
        if self.pending.is_empty() {
            self.pending = self.due(view).into();
        }
    }

    /// Removes the static entries and lets go of the managed ones.
    pub async fn clear(&mut self) -> Vec<(Key, Error)> {
        let mut failed = self.fix(BTreeMap::new()).await;
        failed.extend(self.manage(BTreeSet::new()).await);
        failed
    }

    /// True if the kernel keeps neighbours resolved by itself; false once it has refused to.
    pub fn kernel_manages(&self) -> bool {
        self.kernel_manages
    }

    /// What has to be asked for again, given what the kernel has.
    fn due(&self, view: &KernelView) -> Vec<Key> {
        let up = |key: &Key| view.links.get(&key.0).is_some_and(|link| link.up);
        let managed = self.managed.iter().filter(|key| {
            !self.fixed.contains_key(key)
                && view
                    .neighbours
                    .get(key)
                    .is_none_or(|have| !have.managed && have.state != NudState::Reachable)
        });
        let fixed = self.fixed.iter().filter(|(key, mac)| {
            view.neighbours
                .get(key)
                .is_none_or(|have| have.state != NudState::Permanent || have.mac != Some(**mac))
        });
        managed
            .chain(fixed.map(|(key, _)| key))
            .filter(|key| up(key))
            .copied()
            .collect()
    }

    async fn request(&mut self, key: Key) -> Result<()> {
        let mut message = message(key);
        if let Some(mac) = self.fixed.get(&key) {
            message.header.state = NeighbourState::Permanent;
            message
                .attributes
                .push(NeighbourAttribute::LinkLocalAddress(mac.0.to_vec()));
            return self.put(message).await;
        }
        // NTF_USE starts a resolution, also that of a failed entry.
        message.header.flags = NeighbourFlags::Use;
        if self.kernel_manages && self.managed.contains(&key) {
            let mut managed = message.clone();
            managed
                .attributes
                .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
            match self.put(managed).await {
                Err(error) if is(&error, Errno::INVAL) || is(&error, Errno::OPNOTSUPP) => {
                    // A kernel before 5.16: probes from now on.
                    log::info!("the kernel does not manage neighbours ({error}); probing them");
                    self.kernel_manages = false;
                }
                result => return result,
            }
        }
        self.put(message).await
    }

    async fn put(&self, message: NeighbourMessage) -> Result<()> {
        self.rtnl
            .change(RouteNetlinkMessage::NewNeighbour(message), PUT)
            .await
    }

    async fn remove(&self, key: Key) -> Result<()> {
        match self
            .rtnl
            .change(RouteNetlinkMessage::DelNeighbour(message(key)), 0)
            .await
        {
            Err(error) if is_gone(&error) => Ok(()),
            result => result,
        }
    }
}

fn message((interface, address): Key) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = interface;
    let (family, destination) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.header.family = family;
    message.attributes = vec![NeighbourAttribute::Destination(destination)];
    message
}

fn is_gone(error: &Error) -> bool {
    is(error, Errno::NOENT) || is(error, Errno::NODEV) || is(error, Errno::NXIO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::view::{KernelNeighbour, Link};

    const KEY: Key = (3, IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)));

    fn view(up: bool, neighbour: Option<(NudState, bool)>) -> KernelView {
        let link = Link {
            index: 3,
            name: "lan".into(),
            mac: None,
            alias: None,
            mtu: 1500,
            up,
            lower_up: up,
        };
        KernelView {
            links: [(3, link)].into(),
            neighbours: neighbour
                .map(|(state, managed)| {
                    let neighbour = KernelNeighbour {
                        mac: None,
                        state,
                        managed,
                    };
                    (KEY, neighbour)
                })
                .into_iter()
                .collect(),
            ..KernelView::default()
        }
    }

    #[tokio::test]
    async fn entries_are_asked_for_again_when_lost_and_probed_only_when_nobody_else_does() {
        let mut neighbours = Neighbours::new(Rtnl::connect().unwrap());
        neighbours.managed.insert(KEY);
        assert_eq!(neighbours.due(&view(true, None)), [KEY]);
        assert_eq!(neighbours.due(&view(false, None)), []);
        let due = |state, managed| neighbours.due(&view(true, Some((state, managed))));
        assert_eq!(due(NudState::Stale, true), []);
        assert_eq!(due(NudState::Failed, false), [KEY]);
        assert_eq!(due(NudState::Stale, false), [KEY]);
        assert_eq!(due(NudState::Reachable, false), []);
    }
}
