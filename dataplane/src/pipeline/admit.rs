//! Admission: is the frame for this box, is it well-formed, and is it for the dataplane at all?

use super::Context;
use crate::buffer::PacketBuffer;
use crate::forwarding::NeighbourState;
use crate::packet::{Headers, MacAddress, Offloads, Parsed, arp, ethernet, parse, punt_class};
use crate::verdict::{DropReason, Neighbour, PortId, PuntClass, Verdict};
use std::net::IpAddr;

impl Context<'_> {
    /// True if the frame lies in one buffer, no tag was taken out of it, and it is to its port's
    /// MAC address or one of its virtual ones.
    #[inline]
    pub(super) fn is_for_us_untagged<P: PacketBuffer>(&self, packet: &P) -> bool {
        packet.is_contiguous()
            && packet.vlan().is_none()
            && (packet.data().first_chunk()).is_some_and(|destination| {
                let port = self.forwarding.port(PortId(packet.port() as u8));
                port.is_some_and(|port| port.owns(MacAddress(*destination)))
            })
    }

    /// Checks and parses a frame and trims Ethernet padding off it. `Err` is the verdict on frames
    /// that go no further: malformed, foreign, link-layer or multicast ones.
    #[inline]
    pub(super) fn admit<P: PacketBuffer>(&self, packet: &mut P) -> Result<Headers, Verdict> {
        let drop = |reason| Err(Verdict::Drop(reason));
        if !packet.is_contiguous() {
            return drop(DropReason::Frame);
        }
        let frame = packet.data();
        let Some(destination) = frame.first_chunk::<6>().map(|mac| MacAddress(*mac)) else {
            return drop(DropReason::Frame);
        };
        let port_id = PortId(packet.port() as u8);
        let Some(port) = self.forwarding.port(port_id) else {
            return drop(DropReason::PortDown);
        };
        let group = destination.is_multicast();
        if !group && !port.owns(destination) {
            return drop(DropReason::ForeignMac);
        }
        let offloads = Offloads {
            vlan: packet.vlan(),
            // No device's word is taken for it yet: not all of them keep it.
            ipv4_checksum_good: false,
        };
        let parsed = match parse(frame, offloads) {
            Ok(parsed) => parsed,
            Err(reason) => return drop(reason),
        };
        let headers = match parsed {
            Parsed::Ip(headers) => headers,
            Parsed::Arp { vlan: None, .. } => return Err(self.punt(port_id, PuntClass::Arp)),
            Parsed::Arp { .. } => return drop(DropReason::Vlan),
            Parsed::Other { .. } => return drop(DropReason::EtherType),
        };
        if headers.vlan.is_some() || headers.inner_vlan.is_some() {
            return drop(DropReason::Vlan);
        }
        if group {
            // Multicast is for protocols of the Linux stack: discovery, routing, VRRP.
            return match punt_class(frame, &parsed) {
                class @ (PuntClass::Vrrp | PuntClass::Arp | PuntClass::Routing) => {
                    Err(self.punt(port_id, class))
                }
                PuntClass::Icmp | PuntClass::Rest => drop(DropReason::Multicast),
            };
        }
        packet.truncate(usize::from(headers.end));
        Ok(headers)
    }

    /// A packet for the Linux stack is punted, unless its class has had its share.
    #[cold]
    pub(super) fn police<P: PacketBuffer>(&mut self, packet: &P, class: PuntClass) -> Verdict {
        let frame = packet.data();
        let station = frame.first_chunk().map_or(MacAddress::ZERO, |header| {
            ethernet::Header::read(header).source
        });
        let known = class == PuntClass::Arp
            && speaker(frame).is_some_and(|address| {
                let port = PortId(packet.port() as u8);
                let state = self.forwarding.neighbour(Neighbour { port, address });
                state == Some(NeighbourState::Reachable(station))
            });
        if self.state.punts.admit(class, station, known, self.now) {
            Verdict::Punt(class)
        } else {
            Verdict::Drop(class.policed())
        }
    }

    /// The verdict on a packet for the Linux stack.
    pub(super) fn punt(&self, port: PortId, class: PuntClass) -> Verdict {
        match self.forwarding.port(port) {
            Some(port) if port.kernel_interface => Verdict::Punt(class),
            Some(_) | None => Verdict::Drop(DropReason::NoKernelInterface),
        }
    }
}

/// The address that ARP or discovery speaks for: the sender's.
fn speaker(frame: &[u8]) -> Option<IpAddr> {
    match parse(frame, Offloads::default()).ok()? {
        Parsed::Arp { l3, .. } => {
            let message = frame.get(usize::from(l3)..)?.first_chunk()?;
            Some(arp::Message::read(message)?.sender_ip.into())
        }
        Parsed::Ip(headers) => headers.source_ip(frame),
        Parsed::Other { .. } => None,
    }
}
