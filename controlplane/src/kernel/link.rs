//! Interfaces: MAC address, MTU, up and down, carrier (rtnetlink(7), `RTM_*LINK`).

use super::decode;
use super::netlink::{Rtnl, is};
use super::view::{KernelView, Link};
use dataplane::packet::MacAddress;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rustix::io::Errno;
use std::io::Result;

/// Changes interfaces.
#[derive(Clone, Debug)]
pub struct Links {
    rtnl: Rtnl,
}

impl Links {
    /// Works through `rtnl`.
    pub fn new(rtnl: Rtnl) -> Self {
        Self { rtnl }
    }

    /// The interface of this name as it is now.
    pub async fn find(&self, name: &str) -> Result<Option<Link>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = self.rtnl.dump(request, |object| match object {
            RouteNetlinkMessage::NewLink(message) => decode::link(&message),
            _ => None,
        });
        Ok(links.await?.into_iter().find(|link| link.name == name))
    }

    /// Gives the interface a MAC address.
    pub async fn set_mac(&self, index: u32, mac: MacAddress) -> Result<()> {
        self.set(index, LinkAttribute::Address(mac.0.to_vec()))
            .await
    }

    /// Marks the interface as Sluice's, for [`left_over`] of a later start.
    pub async fn claim(&self, index: u32) -> Result<()> {
        self.set(index, LinkAttribute::IfAlias(ALIAS.into())).await
    }

    /// Sets the MTU in bytes.
    pub async fn set_mtu(&self, index: u32, mtu: u16) -> Result<()> {
        self.set(index, LinkAttribute::Mtu(mtu.into())).await
    }

    /// Sets the interface up or down. Down loses its IPv6 addresses and all routes; to show that a
    /// port has no link use [`Links::set_carrier`].
    pub async fn set_up(&self, index: u32, up: bool) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = LinkFlags::Up;
        if up {
            message.header.flags = LinkFlags::Up;
        }
        self.rtnl
            .change(RouteNetlinkMessage::SetLink(message), 0)
            .await
    }

    /// Sets the carrier of a TAP, so that Linux sees what the port sees.
    pub async fn set_carrier(&self, index: u32, carrier: bool) -> Result<()> {
        self.set(index, LinkAttribute::Carrier(carrier.into()))
            .await
    }

    /// Removes a virtual interface; one that is gone already is no error.
    pub async fn delete(&self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self
            .rtnl
            .change(RouteNetlinkMessage::DelLink(message), 0)
            .await
        {
            Err(error) if is(&error, Errno::NODEV) => Ok(()),
            result => result,
        }
    }

    async fn set(&self, index: u32, attribute: LinkAttribute) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(attribute);
        self.rtnl
            .change(RouteNetlinkMessage::SetLink(message), 0)
            .await
    }
}

/// Interfaces an earlier process claimed and nobody of `wanted` (names) uses any more, for
/// [`Links::delete`]: the TAPs of ports no longer configured.
pub fn left_over<'a>(view: &'a KernelView, wanted: &[&str]) -> Vec<&'a Link> {
    view.links
        .values()
        .filter(|link| link.alias.as_deref() == Some(ALIAS))
        .filter(|link| !wanted.contains(&&*link.name))
        .collect()
}

/// Alias of every interface Sluice has made.
pub const ALIAS: &str = "sluice";
