//! The interfaces of the network namespace and their addresses, mirrored from rtnetlink(7).
//!
//! Changes of links are applied as they are told; addresses of a link that somebody watches are read anew, because
//! only a dump has them in the kernel's order. When the kernel had to drop an event everything is read anew.
//! Invariant: after [`Links::follow`] the mirror is not older than the moment it was called.

use super::address::IFA_PROTO;
use super::netlink::{Attributes, Monitor, Netlink, ip};
use crate::input::Interface;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// The mirror.
#[derive(Debug)]
pub(super) struct Links {
    monitor: Monitor,
    by_index: BTreeMap<u32, Link>,
    addresses: BTreeMap<u32, Vec<Address>>,
    stale: Stale,
}

/// A link as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) mac: Option<[u8; 6]>,
    /// The link beneath, of a macvlan.
    pub(super) macvlan_on: Option<u32>,
    /// What somebody has written on it.
    pub(super) alias: Option<String>,
}

/// An address as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) net: IpNet,
    flags: u32,
    /// Who put it there, [`super::address::PROTOCOL`] for a virtual router; 0 = unknown.
    pub(super) protocol: u8,
}

/// What has to be read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    Nothing,
    Addresses,
    Everything,
}

/// What [`Links::follow`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Followed {
    /// Something is different now.
    pub(super) changed: bool,
    /// Events were lost; everything was read anew.
    pub(super) resynchronised: bool,
}

impl Links {
    /// Begins to listen; the mirror is empty until it follows.
    pub(super) fn open() -> Result<Self> {
        Ok(Self {
            monitor: Monitor::open(GROUP_LINK | GROUP_IPV4_ADDRESS | GROUP_IPV6_ADDRESS)?,
            by_index: BTreeMap::new(),
            addresses: BTreeMap::new(),
            stale: Stale::Everything,
        })
    }

    /// Catches up. After an error the next call reads everything anew.
    pub(super) fn follow(
        &mut self,
        netlink: &mut Netlink,
        watched: impl Fn(&str) -> bool,
    ) -> Result<Followed> {
        let mut followed = Followed::default();
        let (links, stale) = (&mut self.by_index, &mut self.stale);
        let read = self.monitor.read(|kind, body| match kind {
            NEW_LINK => {
                if let Some(link) = link(body) {
                    followed.changed |= links.get(&link.index) != Some(&link);
                    // Its addresses are not known if nobody watched the name it had.
                    if watched(&link.name) {
                        *stale = (*stale).max(Stale::Addresses);
                    }
                    links.insert(link.index, link);
                }
            }
            DELETE_LINK => {
                if let Some(link) = link(body) {
                    followed.changed |= links.remove(&link.index).is_some();
                }
            }
            NEW_ADDRESS | DELETE_ADDRESS => {
                let index = address(body).map_or(0, |(index, _)| index);
                if links.get(&index).is_none_or(|link| watched(&link.name)) {
                    *stale = (*stale).max(Stale::Addresses);
                }
            }
            _ => {}
        });
        if read.is_err() {
            self.stale = Stale::Everything;
            followed.resynchronised = true;
        }
        if self.stale == Stale::Everything {
            self.by_index = dump(netlink, GET_LINK, &link_request(0, 0, 0), |body| {
                link(body).map(|link| (link.index, link))
            })?
            .into_iter()
            .collect();
            followed.changed = true;
        }
        if self.stale >= Stale::Addresses {
            let mut addresses: BTreeMap<u32, Vec<Address>> = BTreeMap::new();
            for (index, address) in dump(netlink, GET_ADDRESS, &[0; 8], address)? {
                addresses.entry(index).or_default().push(address);
            }
            followed.changed |= addresses != self.addresses;
            self.addresses = addresses;
        }
        self.stale = Stale::Nothing;
        Ok(followed)
    }

    /// Has everything read anew next time.
    pub(super) fn distrust(&mut self) {
        self.stale = Stale::Everything;
    }

    /// All links.
    pub(super) fn all(&self) -> impl Iterator<Item = &Link> {
        self.by_index.values()
    }

    /// The link of an index.
    pub(super) fn numbered(&self, index: u32) -> Option<&Link> {
        self.by_index.get(&index)
    }

    /// The link of a name.
    pub(super) fn named(&self, name: &str) -> Option<&Link> {
        self.by_index.values().find(|link| link.name == name)
    }

    /// The addresses of a link, in the kernel's order.
    pub(super) fn addresses(&self, index: u32) -> &[Address] {
        self.addresses.get(&index).map_or(&[], Vec::as_slice)
    }

    /// An interface as the state machine wants it. Of each family the first address is the one to speak from: not a
    /// virtual one, not a secondary or deprecated one, and in IPv6 link-local.
    pub(super) fn interface(&self, name: &str, virtual_ones: &BTreeSet<IpAddr>) -> Interface {
        let Some(link) = self.named(name) else {
            return Interface {
                index: 0,
                up: false,
                mac: None,
                addresses: Vec::new(),
            };
        };
        let mut usable: Vec<_> = self
            .addresses(link.index)
            .iter()
            .filter(|address| address.flags & (TENTATIVE | DUPLICATE) == 0)
            .collect();
        usable.sort_by_key(|address| {
            let ip = address.net.addr();
            (
                virtual_ones.contains(&ip),
                address.flags & (SECONDARY | DEPRECATED) != 0,
                matches!(ip, IpAddr::V6(ip) if !ip.is_unicast_link_local()),
            )
        });
        Interface {
            index: link.index,
            up: link.up,
            mac: link.mac,
            addresses: usable.iter().map(|address| address.net).collect(),
        }
    }
}

impl AsFd for Links {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }
}

fn dump<T>(
    netlink: &mut Netlink,
    kind: u16,
    request: &[u8],
    decode: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>> {
    for _ in 0..DUMP_ATTEMPTS {
        let mut objects = Vec::new();
        if netlink.dump(kind, request, |_, body| objects.extend(decode(body)))? {
            return Ok(objects);
        }
    }
    Err(Error::new(
        ErrorKind::WouldBlock,
        "interfaces change faster than they can be read",
    ))
}

/// `struct ifinfomsg`.
pub(super) fn link_request(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..16].copy_from_slice(&change.to_ne_bytes());
    body
}

fn link(body: &[u8]) -> Option<Link> {
    let header: &[u8; 16] = body.first_chunk()?;
    // Bridges tell of their ports with a family of their own and fewer attributes.
    if header[0] != 0 {
        return None;
    }
    let hardware = u16::from_ne_bytes([header[2], header[3]]);
    let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    let flags = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
    let (mut name, mut mac, mut beneath, mut macvlan) = (None, None, None, false);
    let mut alias = None;
    for (kind, value) in Attributes(&body[16..]) {
        match kind {
            IFLA_IFNAME => name = string(value),
            IFLA_ADDRESS => mac = value.try_into().ok(),
            IFLA_IFALIAS => alias = string(value),
            IFLA_LINK => beneath = value.try_into().ok().map(u32::from_ne_bytes),
            IFLA_LINKINFO => {
                macvlan = Attributes(value)
                    .any(|(kind, value)| kind == IFLA_INFO_KIND && value == b"macvlan\0");
            }
            _ => {}
        }
    }
    Some(Link {
        index,
        name: name?,
        up: flags & (UP | RUNNING) == UP | RUNNING,
        mac: mac.filter(|_| hardware == ETHERNET),
        macvlan_on: beneath.filter(|_| macvlan),
        alias,
    })
}

fn address(body: &[u8]) -> Option<(u32, Address)> {
    let header: &[u8; 8] = body.first_chunk()?;
    let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    let mut flags = u32::from(header[2]);
    let (mut local, mut prefix, mut protocol) = (None, None, 0);
    for (kind, value) in Attributes(&body[8..]) {
        match kind {
            IFA_LOCAL => local = ip(value),
            IFA_ADDRESS => prefix = ip(value),
            IFA_FLAGS => flags = value.try_into().ok().map_or(flags, u32::from_ne_bytes),
            IFA_PROTO => protocol = value.first().copied().unwrap_or(0),
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the peer, IFA_LOCAL ours.
    let net = IpNet::new(local.or(prefix)?, header[1]).ok()?;
    let address = Address {
        net,
        flags,
        protocol,
    };
    Some((index, address))
}

fn string(value: &[u8]) -> Option<String> {
    let text = value.strip_suffix(&[0]).unwrap_or(value);
    String::from_utf8(text.to_vec()).ok()
}

const DUMP_ATTEMPTS: usize = 8;
const GROUP_LINK: u32 = 0x1;
const GROUP_IPV4_ADDRESS: u32 = 0x10;
const GROUP_IPV6_ADDRESS: u32 = 0x100;
pub(super) const NEW_LINK: u16 = 16;
pub(super) const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_LINK: u16 = 5;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_IFALIAS: u16 = 20;
pub(super) const IFLA_INFO_KIND: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
pub(super) const UP: u32 = 0x1;
/// Has carrier and nothing (802.1X, a link beneath) keeps it from working.
const RUNNING: u32 = 0x40;
const ETHERNET: u16 = 1;
const SECONDARY: u32 = 0x01;
const DUPLICATE: u32 = 0x08;
const DEPRECATED: u32 = 0x20;
const TENTATIVE: u32 = 0x40;

#[cfg(test)]
mod tests {
    use super::super::netlink::{attribute, nested, text};
    use super::*;

    fn told(family: u8, flags: u32, more: Vec<u8>) -> Vec<u8> {
        let mut body = link_request(7, flags, 0).to_vec();
        body[0] = family;
        body[2] = ETHERNET as u8;
        body.extend(text(IFLA_IFNAME, "vrrp.51"));
        body.extend(more);
        body
    }

    #[test]
    fn a_macvlan_is_told_with_the_link_beneath() {
        let more = [
            attribute(IFLA_ADDRESS, &[0, 0, 0x5e, 0, 1, 51]),
            attribute(IFLA_LINK, &3u32.to_ne_bytes()),
            attribute(999, &[1, 2, 3]),
            nested(IFLA_LINKINFO, &[text(IFLA_INFO_KIND, "macvlan")]),
        ]
        .concat();
        let expected = Link {
            index: 7,
            name: "vrrp.51".into(),
            up: true,
            mac: Some([0, 0, 0x5e, 0, 1, 51]),
            macvlan_on: Some(3),
            alias: None,
        };
        assert_eq!(link(&told(0, UP | RUNNING, more)), Some(expected));
    }

    #[test]
    fn an_interface_without_carrier_is_not_up() {
        assert!(!link(&told(0, UP, Vec::new())).unwrap().up);
        assert!(!link(&told(0, RUNNING, Vec::new())).unwrap().up);
    }

    #[test]
    fn what_a_bridge_tells_of_its_ports_is_not_taken() {
        assert_eq!(link(&told(7, UP, Vec::new())), None);
    }

    #[test]
    fn the_address_to_speak_from_comes_first() {
        let at = |text: &str, flags| Address {
            net: text.parse().unwrap(),
            flags,
            protocol: 0,
        };
        let mut links = Links::open().unwrap();
        let body = told(0, UP | RUNNING, Vec::new());
        links.by_index.insert(7, link(&body).unwrap());
        links.addresses.insert(
            7,
            vec![
                at("10.0.1.60/24", 0),
                at("10.0.1.7/24", SECONDARY),
                at("10.0.1.1/24", 0),
                at("2001:db8::1/64", 0),
                at("fe80::53/64", 0),
                at("fe80::9/64", TENTATIVE),
                at("fe80::1/64", 0),
            ],
        );
        let virtual_ones = ["10.0.1.60", "fe80::53"].map(|text| text.parse().unwrap());
        let interface = links.interface("vrrp.51", &virtual_ones.into());
        let order: Vec<_> = interface
            .addresses
            .iter()
            .map(|net| net.addr().to_string())
            .collect();
        assert_eq!(
            order,
            [
                "10.0.1.1",
                "fe80::1",
                "2001:db8::1",
                "10.0.1.7",
                "10.0.1.60",
                "fe80::53"
            ]
        );
    }
}
