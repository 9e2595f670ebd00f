//! Putting addresses on interfaces and taking them away, by rtnetlink(7), as keepalived does: IPv6 without duplicate
//! address detection (the peer may have had it a moment ago), and deprecated if it is a host address, so that nobody
//! speaks from it by chance (behaviour notes 8.4).
//!
//! Invariant: each carries [`PROTOCOL`], so that a later process finds it wherever it is (Linux 5.18; before, the mark is
//! ignored).

use super::netlink::{self, INET6, NLM_F_CREATE, NLM_F_EXCL, Netlink, attribute, is};
use ipnet::IpNet;
use rustix::io::Errno;
use std::io::Result;

/// Puts an address on the interface of this index; `false` = it was there already.
pub(super) fn add(netlink: &mut Netlink, index: u32, net: IpNet) -> Result<bool> {
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    match netlink.change(NEW_ADDRESS, flags, &message(index, net, true)) {
        Err(error) if is(&error, Errno::EXIST) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Takes an address away; that it, or the interface, is not there is fine.
pub(super) fn remove(netlink: &mut Netlink, index: u32, net: IpNet) -> Result<()> {
    match netlink.change(DELETE_ADDRESS, 0, &message(index, net, false)) {
        Err(error) if is(&error, Errno::ADDRNOTAVAIL) || is(&error, Errno::NODEV) => Ok(()),
        result => result,
    }
}

fn message(index: u32, net: IpNet, add: bool) -> Vec<u8> {
    let family = netlink::family(net.addr());
    let nodad = if add && family == INET6 { NODAD } else { 0 };
    let mut body = vec![family, net.prefix_len(), nodad, 0];
    body.extend(index.to_ne_bytes());
    body.extend(netlink::address(IFA_LOCAL, net.addr()));
    body.extend(netlink::address(IFA_ADDRESS, net.addr()));
    if add {
        body.extend(attribute(IFA_PROTO, &[PROTOCOL]));
    }
    if add && family == INET6 && net.prefix_len() == 128 {
        // `struct ifa_cacheinfo`: preferred for no time, valid for ever.
        let lifetimes = [0, u32::MAX, 0, 0].map(u32::to_ne_bytes).concat();
        body.extend(attribute(IFA_CACHEINFO, &lifetimes));
    }
    body
}

/// Who put an address there, `IFA_PROTO`: the IP protocol number of VRRP. The kernel's own numbers are below 4.
pub(super) const PROTOCOL: u8 = 112;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
pub(super) const IFA_PROTO: u16 = 11;
const NODAD: u8 = 0x02;
