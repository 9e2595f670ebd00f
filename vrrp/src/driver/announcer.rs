//! The packet socket through which announcements leave. It receives nothing.

use super::links::Link;
use super::{gratuitous_arp, neighbour_advertisement, sysctl};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, sendto};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Tells links where addresses are.
#[derive(Debug)]
pub(super) struct Announcer {
    socket: OwnedFd,
    /// By interface index, what the socket wants to be given for it.
    links: BTreeMap<u32, LinkAddr>,
}

impl Announcer {
    pub(super) fn open() -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Self {
            // No protocol: nothing is received.
            socket: socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?,
            links: BTreeMap::new(),
        })
    }

    /// Sends one announcement.
    pub(super) fn announce(&mut self, link: &Link, address: IpAddr) -> Result<()> {
        let mac = link.mac.ok_or_else(|| Error::from(Errno::NODEV))?;
        let frame = match address {
            IpAddr::V4(address) => gratuitous_arp::frame(mac, address),
            IpAddr::V6(address) => {
                let forwards = sysctl::get("ipv6", &link.name, "forwarding");
                let router = forwards.is_ok_and(|value| value != "0");
                neighbour_advertisement::frame(mac, address, router)
            }
        };
        let to = self.address(link)?;
        sendto(self.socket.as_raw_fd(), &frame, &to, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// The link-layer address of an interface as the kernel lists it: the one way to name an interface to a packet
    /// socket without unsafe code. Only its index matters; the frame has its own header.
    fn address(&mut self, link: &Link) -> Result<LinkAddr> {
        if let Some(address) = self.links.get(&link.index) {
            return Ok(*address);
        }
        // Indices of interfaces that are gone do not come back soon, but they need not pile up.
        self.links.clear();
        for entry in getifaddrs()? {
            if let Some(address) = entry.address.and_then(|a| a.as_link_addr().copied()) {
                self.links.insert(address.ifindex() as u32, address);
            }
        }
        let address = self.links.get(&link.index).copied();
        address.ok_or_else(|| Error::from(Errno::NODEV))
    }
}
