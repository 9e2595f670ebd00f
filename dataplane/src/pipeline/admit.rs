//! Admission: is the frame for this box, is it well-formed, and is it for the dataplane at all?

use super::Context;
use crate::buffer::PacketBuffer;
use crate::packet::{Headers, MacAddress, Offloads, Parsed, parse, punt_class};
use crate::verdict::{DropReason, PortId, PuntClass, Verdict};

impl Context<'_> {
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
        if headers.vlan.is_some() {
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

    /// The verdict on a packet for the Linux stack.
    pub(super) fn punt(&self, port: PortId, class: PuntClass) -> Verdict {
        match self.forwarding.port(port) {
            Some(port) if port.kernel_interface => Verdict::Punt(class),
            Some(_) | None => Verdict::Drop(DropReason::NoKernelInterface),
        }
    }
}
