//! Addresses on interfaces: those of ports and the VIPs (rtnetlink(7), `RTM_*ADDR`).
//!
//! Invariant: an address that somebody else put there is used but never removed. Ours are told
//! apart by `IFA_PROTO`, also after a restart ([`Addresses::adopt`]).

use super::PROTOCOL;
use super::netlink::{ADD, Rtnl, is};
use super::view::KernelView;
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io::{Error, Result};
use std::net::{IpAddr, Ipv4Addr};

/// The addresses this process has put on interfaces.
#[derive(Debug)]
pub struct Addresses {
    rtnl: Rtnl,
    ours: BTreeSet<(u32, IpNet)>,
}

/// What putting something into the kernel came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Put {
    /// It was not there.
    Added,
    /// It was there already by this process, or by an earlier one that was adopted.
    Kept,
    /// It was there already by somebody else, who keeps it.
    Foreign,
}

impl Addresses {
    /// Nothing put yet.
    pub fn new(rtnl: Rtnl) -> Self {
        Self {
            rtnl,
            ours: BTreeSet::new(),
        }
    }

    /// Takes over the addresses an earlier process left on `interfaces`: the next
    /// [`Addresses::apply`] removes those no longer wanted and does not touch the others.
    pub fn adopt(&mut self, view: &KernelView, interfaces: &[u32]) {
        self.ours.extend(
            view.addresses
                .iter()
                .filter(|address| {
                    address.protocol == PROTOCOL && interfaces.contains(&address.interface)
                })
                .map(|address| (address.interface, address.address)),
        );
    }

    /// Puts an address with its prefix length on an interface.
    pub async fn put(&mut self, interface: u32, address: IpNet) -> Result<Put> {
        let is_host = address.prefix_len() == address.max_prefix_len();
        let flags = if is_host {
            AddressFlags::Nodad
        } else {
            AddressFlags::empty()
        };
        let message = message(interface, address, flags);
        match self
            .rtnl
            .change(RouteNetlinkMessage::NewAddress(message), ADD)
            .await
        {
            Ok(()) => {
                self.ours.insert((interface, address));
                Ok(Put::Added)
            }
            Err(error) if is(&error, Errno::EXIST) => {
                let kept = self.ours.contains(&(interface, address));
                Ok(if kept { Put::Kept } else { Put::Foreign })
            }
            Err(error) => Err(error),
        }
    }

    /// Puts a VIP on an interface: /32, or /128 without duplicate address detection.
    pub async fn put_vip(&mut self, interface: u32, vip: IpAddr) -> Result<Put> {
        self.put(interface, IpNet::from(vip)).await
    }

    /// Removes an address if it is ours; `false` if it is not.
    pub async fn remove(&mut self, interface: u32, address: IpNet) -> Result<bool> {
        if !self.ours.contains(&(interface, address)) {
            return Ok(false);
        }
        let message = message(interface, address, AddressFlags::empty());
        match self
            .rtnl
            .change(RouteNetlinkMessage::DelAddress(message), 0)
            .await
        {
            // It, or the interface with it, is gone already.
            Err(error) if is(&error, Errno::ADDRNOTAVAIL) || is(&error, Errno::NODEV) => {}
            result => result?,
        }
        self.ours.remove(&(interface, address));
        Ok(true)
    }

    /// Removes a VIP put by [`Addresses::put_vip`]; `false` if it is not ours.
    pub async fn remove_vip(&mut self, interface: u32, vip: IpAddr) -> Result<bool> {
        self.remove(interface, IpNet::from(vip)).await
    }

    /// Makes ours exactly `wanted`: adds what is missing, removes what is not wanted. Returns what
    /// could not be done; the rest is done all the same.
    pub async fn apply(&mut self, wanted: &BTreeSet<(u32, IpNet)>) -> Vec<(u32, IpNet, Error)> {
        let mut failed = Vec::new();
        let unwanted: Vec<_> = self.ours.difference(wanted).copied().collect();
        // New ones first, so that a renumbered interface is never without an address.
        for (interface, address) in wanted {
            if let Err(error) = self.put(*interface, *address).await {
                failed.push((*interface, *address, error));
            }
        }
        for (interface, address) in unwanted {
            if let Err(error) = self.remove(interface, address).await {
                failed.push((interface, address, error));
            }
        }
        failed
    }

    /// Removes all of ours.
    pub async fn clear(&mut self) -> Vec<(u32, IpNet, Error)> {
        self.apply(&BTreeSet::new()).await
    }

    /// All of ours: (interface index, address).
    pub fn ours(&self) -> &BTreeSet<(u32, IpNet)> {
        &self.ours
    }
}

fn message(interface: u32, address: IpNet, flags: AddressFlags) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = interface;
    message.header.prefix_len = address.prefix_len();
    message.header.family = match address {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.attributes = vec![
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Address(address.addr()),
        AddressAttribute::Flags(flags),
        AddressAttribute::Protocol(PROTOCOL.into()),
    ];
    // RFC 3021: a /31 or /32 has no broadcast address.
    if let IpNet::V4(address) = address
        && address.prefix_len() < 31
        && address.broadcast() != Ipv4Addr::BROADCAST
    {
        message
            .attributes
            .push(AddressAttribute::Broadcast(address.broadcast()));
    }
    message
}
