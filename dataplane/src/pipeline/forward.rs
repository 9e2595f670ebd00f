//! Forwarding: the way out, TTL, MTU, and the rewriting each method needs.
//!
//! Everything that can fail (route, neighbour, TTL, MTU) is decided before the packet is touched,
//! so that a packet that waits, or is quoted in an ICMP error, is still the client's own.

use super::{Context, Outcome, Pass, Spare};
use crate::address::Address;
use crate::buffer::PacketBuffer;
use crate::connection::{Binding, Connection, Direction};
use crate::counters::Event;
use crate::forwarding::{Adjacency, Resolution};
use crate::packet::icmp_error::IcmpError;
use crate::packet::{Fragment, Headers, fragment, rewrite};
use crate::service::{Forward, Transit};
use crate::verdict::{DropReason, Verdict};
use arrayvec::ArrayVec;
use std::net::IpAddr;

/// A way out that the packet fits through.
pub(super) struct Exit {
    adjacency: Adjacency,
    /// The packet exceeds the MTU but may be cut.
    oversize: bool,
}

impl Context<'_> {
    /// Sends a packet of a connection on its way.
    #[inline]
    pub(super) fn forward<A: Address, P: PacketBuffer>(
        &mut self,
        connection: &Connection<A>,
        direction: Direction,
        packet: &mut P,
        headers: &Headers,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        let binding = connection.binding();
        if headers.fragment == Fragment::First {
            self.state.forwarded.set(binding, direction);
        }
        match (binding.forward, direction) {
            (Forward::Dr, _) => {
                let exit = match self.exit_to_server(packet, headers, binding) {
                    Ok(exit) => exit,
                    Err(verdict) => return verdict,
                };
                self.send(packet, headers, &exit, spare)
            }
            (Forward::Nat, Direction::Input) => {
                let exit = match self.exit_to_server(packet, headers, binding) {
                    Ok(exit) => exit,
                    Err(verdict) => return verdict,
                };
                let to = binding.destination;
                if let Err(reason) = rewrite::translate_destination(packet.data_mut(), headers, to)
                {
                    return Verdict::Drop(reason);
                }
                self.send(packet, headers, &exit, spare)
            }
            (Forward::Nat, Direction::Output) => {
                let to = binding.client.address.into();
                let exit = match self.exit(packet, headers, to, None) {
                    Ok(exit) => exit,
                    Err(verdict) => return verdict,
                };
                let vip = binding.vip;
                if let Err(reason) = rewrite::translate_source(packet.data_mut(), headers, vip) {
                    return Verdict::Drop(reason);
                }
                self.send(packet, headers, &exit, spare)
            }
            (Forward::Local, _) => self.to_stack(packet, headers),
            (Forward::Tunnel(tunnel), _) => {
                self.forward_into_tunnel(binding, tunnel, packet, headers, spare)
            }
            (Forward::FullNat, _) => Verdict::Drop(DropReason::NotSupported),
        }
    }

    /// Unicast that is neither ours nor a service's.
    pub(super) fn transit<P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        destination: IpAddr,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        match self.services.transit {
            Transit::Kernel => self.to_stack_as_transit(packet),
            Transit::Drop => Verdict::Drop(DropReason::Transit),
            Transit::Fast => {
                // What needs Linux's judgement goes there.
                if matches!(
                    self.forwarding.resolve(destination, 0),
                    Resolution::Local | Resolution::Elsewhere
                ) {
                    return self.to_stack_as_transit(packet);
                }
                let exit = match self.exit(packet, headers, destination, None) {
                    Ok(exit) => exit,
                    Err(verdict) => return verdict,
                };
                self.count(Event::TransitForwarded);
                self.send(packet, headers, &exit, spare)
            }
        }
    }

    /// The way to a connection's server, if the packet may take it.
    #[inline]
    pub(super) fn exit_to_server<A: Address, P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        binding: &Binding<A>,
    ) -> Result<Exit, Verdict> {
        let address = binding.destination.address;
        let ways = &mut self.state.ways;
        let way = ways.towards(self.forwarding, binding.real, address, flow_of(headers));
        let speaker = Some(binding.vip.address.into());
        match way {
            Some(adjacency) => self.through(packet, headers, adjacency, speaker),
            // A server on this very box (spec 2.3): only NAT changes anything.
            None if binding.forward == Forward::Nat && self.forwarding.is_local(address.into()) => {
                Err(self.deliver_here(packet, headers, binding.destination))
            }
            None => self.exit(packet, headers, address.into(), speaker),
        }
    }

    /// The way to `address`, if the packet may take it.
    ///
    /// `speaker` is who ICMP errors come from: the VIP towards clients; `None` = the address of
    /// the port the packet came in on, as a router would.
    #[inline]
    pub(super) fn exit<P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        address: IpAddr,
        speaker: Option<IpAddr>,
    ) -> Result<Exit, Verdict> {
        let adjacency = self.way_out(packet, headers, address, speaker)?;
        self.through(packet, headers, adjacency, speaker)
    }

    /// The way to `address` whatever the packet is like, or what becomes of the packet if there is
    /// none; `speaker` as for [`Self::exit`].
    #[inline]
    pub(super) fn way_out<P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        address: IpAddr,
        speaker: Option<IpAddr>,
    ) -> Result<Adjacency, Verdict> {
        match self.forwarding.resolve(address, flow_of(headers)) {
            Resolution::Ready(adjacency) => Ok(adjacency),
            // Also one that did not answer the last time: it may be back, and the kernel, too,
            // asks before it tells the client.
            Resolution::Unresolved(neighbour) | Resolution::Failed(neighbour)
                if self.pass != Pass::Retry(Outcome::Failed) =>
            {
                Err(Verdict::Wait(neighbour))
            }
            Resolution::Unresolved(neighbour) | Resolution::Failed(neighbour) => {
                // It may be back: have the kernel look again, for the packets to come.
                if self.state.ask.take(self.now) {
                    let _ = self.state.asks.push(neighbour);
                }
                // The kernel has taken the hop off before it queued the packet.
                if headers.ttl > 1 {
                    rewrite::decrement_ttl(packet.data_mut(), headers);
                }
                let error = IcmpError::HostUnreachable;
                let reason = DropReason::NeighbourFailed;
                Err(self.answer(packet, headers, error, speaker, reason))
            }
            Resolution::NoRoute | Resolution::Elsewhere => {
                let error = IcmpError::HostUnreachable;
                Err(self.answer(packet, headers, error, speaker, DropReason::NoRoute))
            }
            Resolution::Down => Err(Verdict::Drop(DropReason::PortDown)),
            Resolution::Prohibited if speaker.is_none() => {
                let error = IcmpError::AdministrativelyProhibited;
                Err(self.answer(packet, headers, error, speaker, DropReason::Blackhole))
            }
            Resolution::Blackhole if speaker.is_none() => Err(Verdict::Drop(DropReason::Blackhole)),
            // To LVS any route that leads nowhere is an unreachable server.
            Resolution::Blackhole | Resolution::Prohibited => {
                let error = IcmpError::HostUnreachable;
                Err(self.answer(packet, headers, error, speaker, DropReason::Blackhole))
            }
            Resolution::Local => Err(self.to_stack(packet, headers)),
        }
    }

    /// Whether the packet may go that way, as [`Self::exit`].
    #[inline]
    fn through<P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        adjacency: Adjacency,
        speaker: Option<IpAddr>,
    ) -> Result<Exit, Verdict> {
        if headers.ttl <= 1 {
            let error = IcmpError::TimeExceeded;
            return Err(self.answer(packet, headers, error, speaker, DropReason::TtlExpired));
        }
        let oversize = headers.ip_length() > usize::from(adjacency.mtu);
        if oversize && !headers.may_be_fragmented() {
            rewrite::decrement_ttl(packet.data_mut(), headers);
            let error = IcmpError::FragmentationNeeded { mtu: adjacency.mtu };
            return Err(self.answer(packet, headers, error, speaker, DropReason::TooBig));
        }
        Ok(Exit {
            adjacency,
            oversize,
        })
    }

    /// Takes the hop off, addresses the frame, and cuts it if it must be.
    #[inline]
    pub(super) fn send<P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        exit: &Exit,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        let Exit {
            adjacency,
            oversize,
        } = exit;
        rewrite::decrement_ttl(packet.data_mut(), headers);
        rewrite::set_link(packet.data_mut(), adjacency.destination, adjacency.source);
        if *oversize {
            return self.send_fragments(packet, headers, *adjacency, spare);
        }
        Verdict::Tx(adjacency.port)
    }

    #[cold]
    fn send_fragments<P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        adjacency: Adjacency,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        let port = adjacency.port;
        let mut fragments = ArrayVec::<P, { fragment::MAX_FRAGMENTS }>::new();
        let cut = fragment::fragment_ipv4(
            packet,
            headers,
            adjacency.mtu,
            || spare.allocate(),
            |fragment| fragments.push(fragment),
        );
        match cut {
            Ok(count) => {
                let sent = self.state.counters.event(Event::FragmentsSent);
                sent.add(count as u64);
                for fragment in fragments {
                    spare.send(port, fragment);
                }
                // The packet itself has become the first fragment.
                Verdict::Tx(port)
            }
            Err(reason) => Verdict::Drop(reason.into()),
        }
    }
}

/// What spreads flows over the next hops of a route: the ports.
#[inline]
fn flow_of(headers: &Headers) -> u32 {
    u32::from(headers.source_port) << 16 | u32::from(headers.destination_port)
}
