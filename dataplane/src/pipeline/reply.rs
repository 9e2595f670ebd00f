//! Answers of our own: ICMP errors and TCP resets, made in place of the packet that caused them.

use super::Context;
use crate::buffer::PacketBuffer;
use crate::counters::Event;
use crate::forwarding::Resolution;
use crate::packet::icmp_error::{self, IcmpError};
use crate::packet::{Headers, reset, rewrite};
use crate::service::{NoServer, VirtualService};
use crate::verdict::{DropReason, PortId, Verdict};
use std::net::IpAddr;

impl Context<'_> {
    /// Turns the packet into an ICMP error to its sender; `otherwise` is why it is dropped if
    /// none may be sent.
    #[cold]
    pub(super) fn answer<P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        error: IcmpError,
        speaker: Option<IpAddr>,
        otherwise: DropReason,
    ) -> Verdict {
        let Some(receiver) = headers.source_ip(packet.data()) else {
            return Verdict::Drop(otherwise);
        };
        let speaker = speaker.or_else(|| {
            self.forwarding
                .port(PortId(packet.port() as u8))?
                .source_towards(receiver)
        });
        let Some(speaker) = speaker else {
            return Verdict::Drop(otherwise);
        };
        if !self.state.icmp.take(self.now) {
            return Verdict::Drop(DropReason::IcmpLimited);
        }
        if icmp_error::build(packet, headers, error, speaker, 0).is_err() {
            return Verdict::Drop(otherwise);
        }
        self.count(match error {
            IcmpError::TimeExceeded => Event::IcmpTimeExceeded,
            IcmpError::FragmentationNeeded { .. } => Event::IcmpTooBig,
            IcmpError::PortUnreachable => Event::IcmpPortUnreachable,
            IcmpError::HostUnreachable
            | IcmpError::NetworkUnreachable
            | IcmpError::AdministrativelyProhibited => Event::IcmpHostUnreachable,
            IcmpError::Other { .. } => Event::IcmpRelayed,
        });
        self.send_back(packet, receiver)
    }

    /// Nothing can serve the client.
    #[cold]
    pub(super) fn no_server<P: PacketBuffer>(
        &mut self,
        service: &VirtualService,
        packet: &mut P,
        headers: &Headers,
    ) -> Verdict {
        match service.no_server {
            NoServer::Drop => Verdict::Drop(DropReason::NoServer),
            NoServer::Unreachable => {
                let vip = headers.destination_ip(packet.data());
                let error = IcmpError::PortUnreachable;
                self.answer(packet, headers, error, vip, DropReason::NoServer)
            }
        }
    }

    /// Turns a TCP packet of a client into a reset to it.
    #[cold]
    pub(super) fn reset<P: PacketBuffer>(&mut self, packet: &mut P, headers: &Headers) -> Verdict {
        let Some(receiver) = headers.source_ip(packet.data()) else {
            return Verdict::Drop(DropReason::ServerGone);
        };
        if !self.state.icmp.take(self.now) || reset::build(packet, headers).is_err() {
            return Verdict::Drop(DropReason::ServerGone);
        }
        self.count(Event::TcpResets);
        self.send_back(packet, receiver)
    }

    /// Sends an answer by the route to `receiver`; while that is not resolved, to the station the
    /// packet came from (the answer's link addresses are already swapped).
    fn send_back<P: PacketBuffer>(&self, packet: &mut P, receiver: IpAddr) -> Verdict {
        if let Resolution::Ready(way) = self.forwarding.resolve(receiver, 0) {
            rewrite::set_link(packet.data_mut(), way.destination, way.source);
            return Verdict::Tx(way.port);
        }
        Verdict::Tx(PortId(packet.port() as u8))
    }
}
