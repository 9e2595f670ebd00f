//! Forwarding into tunnels: the way to the real server, what fits through it, the outer headers
//! (spec 2.4, 2.5).
//!
//! The packet counts as too big if it and its outer headers exceed the MTU of the way, or what a
//! router on it said ([`PathMtus`]). One that may not be fragmented (DF and `pmtu_disc`, or IPv6) is
//! answered with the room the tunnel has; any other is encapsulated whole and the outer packet
//! fragmented, as the kernel does, so that its real server gets it back in one piece.

use super::path_mtu::PathMtus;
use super::{Context, Spare, account};
use crate::address::{Address, Endpoint, Family, Protocol};
use crate::buffer::PacketBuffer;
use crate::connection::{Binding, Direction, Millis, Signal, Slot, Table};
use crate::counters::Event;
use crate::forwarding::{Adjacency, Forwarding, Resolution};
use crate::packet::icmp_error::IcmpError;
use crate::packet::tunnel::{self, Outer};
use crate::packet::{Headers, Plain, fragment, fragment6, rewrite};
use crate::service::{RealId, RealRecord, Tunnel, TunnelKind};
use crate::verdict::{DropReason, PortId, Verdict, WorkerId};
use arrayvec::ArrayVec;
use std::net::{IpAddr, Ipv4Addr};

/// Smallest MTU an IPv4 host can be told (RFC 791 3.2).
pub(super) const SMALLEST_V4: u16 = 68;
/// Smallest MTU of an IPv6 link (RFC 8200 5): packets up to it get through whatever it takes.
pub(super) const SMALLEST_V6: u16 = 1280;

/// One worker's knowledge of tunnels.
#[derive(Debug)]
pub(super) struct Tunnels {
    /// Direct-mapped by real server, as [`Ways`](super::ways::Ways) are.
    kept: Box<[Kept; WAYS]>,
    /// Ways kept under another snapshot are void.
    snapshot: u32,
    /// What routers said.
    pub(super) path_mtus: PathMtus,
    /// Identification of the next outer packet. Workers count in steps of their number, so that no
    /// two fragment different packets under the same one.
    next_id: u32,
    step: u32,
}

/// The way to a real server's end of a tunnel.
#[derive(Clone, Copy, Debug)]
struct Way {
    adjacency: Adjacency,
    /// This box, towards it.
    source: IpAddr,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    snapshot: u32,
    real: RealId,
    way: Way,
}

/// More than a usual box has tunnelled servers.
const WAYS: usize = 512;

impl Tunnels {
    /// Allocates.
    pub(super) fn new(worker: WorkerId, workers: u8) -> Self {
        let void = Kept {
            snapshot: 0,
            real: RealId(0),
            way: Way {
                adjacency: Adjacency {
                    port: PortId(0),
                    destination: crate::packet::MacAddress::ZERO,
                    source: crate::packet::MacAddress::ZERO,
                    mtu: 0,
                    by_flow: false,
                },
                source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            },
        };
        Self {
            kept: vec![void; WAYS]
                .try_into()
                .expect("a vector of this length"),
            snapshot: 1,
            path_mtus: PathMtus::new(),
            next_id: u32::from(worker.0),
            step: u32::from(workers.max(1)),
        }
    }

    /// Forgets the ways: there is a new snapshot.
    pub(super) fn forget(&mut self) {
        self.snapshot = self.snapshot.wrapping_add(1);
        if self.snapshot == 0 {
            for kept in &mut self.kept[..] {
                kept.snapshot = 0;
            }
            self.snapshot = 1;
        }
    }

    /// The way to `address`, which is the address of `real`, for a flow of these ports; `None` if
    /// packets cannot go there now.
    #[inline]
    fn towards(
        &mut self,
        forwarding: &Forwarding,
        real: RealId,
        address: IpAddr,
        flow: u32,
    ) -> Option<Way> {
        let kept = &mut self.kept[real.0 as usize % WAYS];
        if kept.snapshot == self.snapshot && kept.real == real {
            return Some(kept.way);
        }
        let Resolution::Ready(adjacency) = forwarding.resolve(address, flow) else {
            return None;
        };
        let source = forwarding.source_towards(address, flow)?;
        let way = Way { adjacency, source };
        if !adjacency.by_flow {
            *kept = Kept {
                snapshot: self.snapshot,
                real,
                way,
            };
        }
        Some(way)
    }

    #[inline]
    fn id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(self.step);
        id
    }

    /// Bytes of an outer packet that get to `real`.
    #[inline]
    fn path_mtu(&self, real: RealId, adjacency: &Adjacency, now: Millis) -> u16 {
        self.path_mtus
            .get(real, now)
            .map_or(adjacency.mtu, |learnt| learnt.min(adjacency.mtu))
    }
}

/// What is left for the client's packet of an outer packet of `mtu` bytes.
#[inline]
pub(super) fn room(mtu: u16, tunnel: Tunnel, outer: IpAddr) -> u16 {
    mtu.saturating_sub(tunnel::overhead(tunnel, Family::of(outer)))
}

impl Context<'_> {
    /// Sends a packet of a connection into its server's tunnel.
    #[inline(never)]
    pub(super) fn forward_into_tunnel<A: Address, P: PacketBuffer>(
        &mut self,
        binding: &Binding<A>,
        tunnel: Tunnel,
        packet: &mut P,
        headers: &Headers,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        // Of either family, so not the one in the connection.
        let Some(address) = self.services.real(binding.real).map(|real| real.address) else {
            return Verdict::Drop(DropReason::ServerGone);
        };
        let speaker = Some(binding.vip.address.into());
        let flow = u32::from(binding.client.port) << 16 | u32::from(binding.vip.port);
        let tunnels = &mut self.state.tunnels;
        let Some(way) = tunnels.towards(self.forwarding, binding.real, address, flow) else {
            if let Err(verdict) = self.way_out(packet, headers, address, speaker) {
                return verdict;
            }
            // There is a way, but no address to speak from.
            let error = IcmpError::HostUnreachable;
            return self.answer(packet, headers, error, speaker, DropReason::NoRoute);
        };
        if headers.ttl <= 1 {
            let error = IcmpError::TimeExceeded;
            return self.answer(packet, headers, error, speaker, DropReason::TtlExpired);
        }
        let mtu = self
            .state
            .tunnels
            .path_mtu(binding.real, &way.adjacency, self.now);
        let room = room(mtu, tunnel, address);
        let pmtu_disc = self.services.ipvs.pmtu_disc;
        let (mtu_told, may_be_cut) = match headers.family {
            Family::V4 => (
                room.max(SMALLEST_V4),
                !(headers.dont_fragment && pmtu_disc) && room >= SMALLEST_V4,
            ),
            Family::V6 => (
                room.max(SMALLEST_V6),
                headers.ip_length() <= usize::from(SMALLEST_V6),
            ),
        };
        rewrite::decrement_ttl(packet.data_mut(), headers);
        if headers.ip_length() > usize::from(room) && !may_be_cut {
            let error = IcmpError::FragmentationNeeded { mtu: mtu_told };
            return self.answer(packet, headers, error, speaker, DropReason::TooBig);
        }
        let outer = self.outer(binding, tunnel, &way, address);
        let headers = match tunnel::encapsulate(packet, headers, &outer) {
            Ok(headers) => headers,
            Err(reason) => return Verdict::Drop(reason),
        };
        let Adjacency {
            port,
            destination,
            source,
            ..
        } = way.adjacency;
        rewrite::set_link(packet.data_mut(), destination, source);
        if headers.ip_length() > usize::from(mtu) {
            return self.send_outer_fragments(packet, &headers, mtu, port, spare);
        }
        Verdict::Tx(port)
    }

    /// Sends a plain packet of a connection that goes on into its tunnel, if nothing can come between
    /// (see [`established`](super::established)); `None` = untouched, for the general way.
    #[inline(never)]
    pub(super) fn established_into_tunnel<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        packet: &mut P,
        plain: &Plain<A>,
        slot: Slot,
        tunnel: Tunnel,
        real: &RealRecord,
    ) -> Option<Result<PortId, DropReason>> {
        let binding = *table.get(slot).binding();
        let address = real.address;
        let flow = u32::from(binding.client.port) << 16 | u32::from(binding.vip.port);
        let tunnels = &mut self.state.tunnels;
        let way = tunnels.towards(self.forwarding, binding.real, address, flow)?;
        let mtu = tunnels.path_mtu(binding.real, &way.adjacency, self.now);
        if plain.ttl <= 1 || plain.ip_length > room(mtu, tunnel, address) {
            return None;
        }
        let headers = plain.headers().ok()?;
        let direction = Direction::Input;
        let signal = match plain.tuple.protocol {
            Protocol::Tcp => Signal::Tcp(plain.tcp_flags),
            Protocol::Udp => Signal::Udp,
            // Never plain.
            Protocol::Sctp => return None,
        };
        let timeouts = &self.services.timeouts;
        if !(table.live(slot)).on_quiet_packet(direction, signal, self.now, timeouts)
            && !self.change(table, slot, direction, signal, real)
        {
            return None;
        }
        self.count(Event::ConnectionHits);
        account(
            real.shared.cell(self.state.worker),
            direction,
            u64::from(plain.ip_length),
        );
        packet.truncate(plain.end());
        rewrite::decrement_ttl(packet.data_mut(), &headers);
        let outer = self.outer(&binding, tunnel, &way, address);
        let sent = tunnel::encapsulate(packet, &headers, &outer).map(|_| {
            let Adjacency {
                port,
                destination,
                source,
                ..
            } = way.adjacency;
            rewrite::set_link(packet.data_mut(), destination, source);
            port
        });
        if let Err(reason) = sent {
            self.state.counters.dropped(reason).add(1);
        }
        Some(sent)
    }

    #[inline]
    fn outer<A: Address>(
        &mut self,
        binding: &Binding<A>,
        tunnel: Tunnel,
        way: &Way,
        destination: IpAddr,
    ) -> Outer {
        Outer {
            tunnel,
            source: way.source,
            destination,
            source_port: match tunnel.kind {
                TunnelKind::Gue(_) => tunnel::source_port(spread(binding.client, binding.vip)),
                TunnelKind::Ipip | TunnelKind::Gre => 0,
            },
            copy_dont_fragment: self.services.ipvs.pmtu_disc,
            id: self.state.tunnels.id() as u16,
        }
    }

    #[cold]
    fn send_outer_fragments<P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        mtu: u16,
        port: PortId,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        let mut fragments = ArrayVec::<P, { fragment::MAX_FRAGMENTS }>::new();
        let emit = |fragment| fragments.push(fragment);
        let cut = match headers.family {
            Family::V4 => fragment::fragment_ipv4(packet, headers, mtu, || spare.allocate(), emit),
            Family::V6 => {
                let id = self.state.tunnels.id();
                fragment6::fragment_ipv6(packet, headers, mtu, id, || spare.allocate(), emit)
            }
        };
        match cut {
            Ok(count) => {
                self.state
                    .counters
                    .event(Event::FragmentsSent)
                    .add(count as u64);
                for fragment in fragments {
                    spare.send(port, fragment);
                }
                Verdict::Tx(port)
            }
            Err(reason) => Verdict::Drop(reason.into()),
        }
    }
}

/// A hash of a flow, each bit of which depends on every bit of its ends: GUE's source port is taken
/// from it, which spreads flows over the routers' ways and the server's queues.
#[inline]
fn spread<A: Address>(client: Endpoint<A>, vip: Endpoint<A>) -> u32 {
    let ports = u64::from(client.port) << 16 | u64::from(vip.port);
    let mut mixed = client
        .address
        .word()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(vip.address.word().rotate_left(32))
        .wrapping_add(ports);
    // The finalizer of SplitMix64.
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 32) as u32
}
