//! The raw sockets through which advertisements arrive: one per interface and family, shared by all virtual routers
//! there, member of the group by interface index.
//!
//! Invariants: nothing of another interface ever enters the queue; a queue holds fewer packets than a round reads
//! ([`BUDGET`]), so that all that waited when a round began have been handed in before its timers expire.

use super::datagram;
use super::filter;
use crate::input::Packet;
use crate::settings::{Family, Name};
use nix::sys::socket::sockopt::{Ipv6RecvHopLimit, Ipv6RecvPacketInfo, RxqOvfl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, RecvMsg, SockaddrIn6, recvmsg, setsockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::io::{Error, ErrorKind, IoSliceMut, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// What a receive socket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The interface it is bound to.
    pub(super) device: Name,
    /// The one the state machine is told: the one beneath if the device has a virtual MAC.
    pub(super) interface: Name,
    pub(super) family: Family,
    pub(super) index: u32,
    /// Only frames from this MAC.
    pub(super) from: Option<[u8; 6]>,
}

/// A receive socket.
#[derive(Debug)]
pub(super) struct Receiver {
    place: Place,
    socket: Socket,
    buffer: Box<[u8]>,
    control: Vec<u8>,
    overflowed: u32,
}

/// What came of one round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) packets: u64,
    /// Not even an IP header, or longer than any advertisement.
    pub(super) malformed: u64,
    /// Dropped by the kernel because the queue was full.
    pub(super) overflowed: u64,
}

impl Receiver {
    pub(super) fn open(place: Place) -> Result<Self> {
        let domain = match place.family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let kind = Type::RAW.nonblocking().cloexec();
        let protocol = Some(Protocol::from(i32::from(datagram::PROTOCOL)));
        let socket = Socket::new(domain, kind, protocol)?;
        // Until it is bound it would receive from every interface.
        socket.attach_filter(&filter::nothing())?;
        socket.bind_device(Some(place.device.as_bytes()))?;
        socket.set_recv_buffer_size(QUEUE)?;
        setsockopt(&socket, RxqOvfl, &1)?;
        match place.family {
            Family::V4 => {
                socket.set_multicast_all_v4(false)?;
                let interface = InterfaceIndexOrAddress::Index(place.index);
                socket.join_multicast_v4_n(&GROUP_V4, &interface)?;
            }
            Family::V6 => {
                setsockopt(&socket, Ipv6RecvHopLimit, &true)?;
                setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
                socket.set_multicast_all_v6(false)?;
                socket.join_multicast_v6(&GROUP_V6, place.index)?;
            }
        }
        match place.from {
            Some(mac) => socket.attach_filter(&filter::only_from(mac))?,
            None => socket.attach_filter(&filter::everything())?,
        }
        Ok(Self {
            place,
            socket,
            buffer: vec![0; LONGEST].into_boxed_slice(),
            control: nix::cmsg_space!(u32, [u8; 20], i32),
            overflowed: 0,
        })
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Hands `each` what has arrived, at most [`BUDGET`] packets.
    pub(super) fn receive(&mut self, mut each: impl FnMut(Packet<'_>)) -> (Taken, Result<()>) {
        let mut taken = Taken::default();
        for _ in 0..BUDGET {
            match self.receive_one(&mut taken, &mut each) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (taken, Ok(())),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (taken, Err(error)),
            }
        }
        (taken, Ok(()))
    }

    fn receive_one(&mut self, taken: &mut Taken, each: &mut impl FnMut(Packet<'_>)) -> Result<()> {
        let mut parts = [IoSliceMut::new(&mut self.buffer)];
        let received: RecvMsg<'_, '_, SockaddrIn6> = recvmsg(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut self.control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        taken.packets += 1;
        let (mut hop_limit, mut destination) = (None, None);
        for message in received.cmsgs().map_err(Error::from)? {
            match message {
                ControlMessageOwned::RxqOvfl(total) => {
                    taken.overflowed += u64::from(total.wrapping_sub(self.overflowed));
                    self.overflowed = total;
                }
                ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = u8::try_from(limit).ok(),
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    destination = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                _ => {}
            }
        }
        let length = received.bytes;
        let truncated = received.flags.contains(MsgFlags::MSG_TRUNC);
        let source = received.address.map(|from| IpAddr::V6(from.ip()));
        let bytes = &self.buffer[..length];
        let interface = &self.place.interface;
        let packet = match self.place.family {
            Family::V4 => datagram::received_v4(bytes).map(|received| Packet {
                interface,
                source: received.source,
                destination: received.destination,
                hop_limit: received.ttl,
                message: received.message,
            }),
            Family::V6 => match (source, destination, hop_limit) {
                (Some(source), Some(destination), Some(hop_limit)) => Some(Packet {
                    interface,
                    source,
                    destination,
                    hop_limit,
                    message: bytes,
                }),
                _ => None,
            },
        };
        match packet.filter(|_| !truncated) {
            Some(packet) => each(packet),
            None => taken.malformed += 1,
        }
        Ok(())
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// 255 IPv6 addresses with headers and authentication are 4.2 kB.
const LONGEST: usize = 8192;
/// Of receive buffer; Linux doubles it.
const QUEUE: usize = 128 * 1024;
/// Of the receive buffer the smallest packet takes at least this: its `sk_buff` and shared info alone are more.
const SMALLEST: usize = 512;
/// Packets per socket and round: all that a full queue holds, about a millisecond's work.
const BUDGET: usize = 2 * QUEUE / SMALLEST;
