//! The raw sockets through which advertisements leave, one per family for all interfaces: each datagram is given with
//! its IP header and the interface it leaves by. They receive nothing (`IPPROTO_RAW`).

use super::datagram;
use crate::action::Transmission;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, SockaddrIn6, sendmsg};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Error, IoSlice, Result};
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

/// Sends advertisements.
#[derive(Debug)]
pub(super) struct Sender {
    v4: Socket,
    /// `None` = a kernel without IPv6.
    v6: Option<Socket>,
}

impl Sender {
    pub(super) fn open() -> Result<Self> {
        let raw = Some(Protocol::from(IPPROTO_RAW));
        let kind = Type::RAW.nonblocking().cloexec();
        let v4 = Socket::new(Domain::IPV4, kind, raw)?;
        v4.set_multicast_loop_v4(false)?;
        let v6 = match Socket::new(Domain::IPV6, kind, raw) {
            Ok(socket) => {
                socket.set_multicast_loop_v6(false)?;
                // An interface with a virtual MAC has no address of its own to send from.
                socket.set_freebind_v6(true)?;
                Some(socket)
            }
            Err(_) => None,
        };
        Ok(Self { v4, v6 })
    }

    /// Sends one by the interface of this index.
    pub(super) fn send(&self, index: u32, advert: &Transmission) -> Result<()> {
        let message = &advert.message;
        match (advert.source, advert.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let bytes = datagram::v4(
                    source,
                    destination,
                    advert.hop_limit,
                    advert.identification,
                    message,
                );
                let by = in_pktinfo {
                    ipi_ifindex: index.cast_signed(),
                    ipi_spec_dst: in_addr { s_addr: 0 },
                    ipi_addr: in_addr { s_addr: 0 },
                };
                sendmsg(
                    self.v4.as_raw_fd(),
                    &[IoSlice::new(&bytes)],
                    &[ControlMessage::Ipv4PacketInfo(&by)],
                    MsgFlags::MSG_DONTWAIT,
                    Some(&SockaddrIn::from(SocketAddrV4::new(destination, 0))),
                )?;
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let socket = self.v6.as_ref().ok_or(Error::from(Errno::AFNOSUPPORT))?;
                let bytes = datagram::v6(source, destination, advert.hop_limit, message);
                let by = in6_pktinfo {
                    ipi6_addr: in6_addr {
                        s6_addr: source.octets(),
                    },
                    ipi6_ifindex: index,
                };
                let to = SocketAddrV6::new(destination, 0, 0, index);
                sendmsg(
                    socket.as_raw_fd(),
                    &[IoSlice::new(&bytes)],
                    &[ControlMessage::Ipv6PacketInfo(&by)],
                    MsgFlags::MSG_DONTWAIT,
                    Some(&SockaddrIn6::from(to)),
                )?;
            }
            _ => return Err(Error::from(Errno::AFNOSUPPORT)),
        }
        Ok(())
    }
}

const IPPROTO_RAW: i32 = 255;
