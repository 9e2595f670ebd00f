//! Stray replies: packets from the address and port of a NAT real server that belong to no
//! connection (`nat_icmp_send`, spec 2.3).
//!
//! By default they pass, as the server's own traffic would. With the setting the server is told that
//! nobody listens, so that it ends a connection that the director has forgotten instead of sending
//! into the void with an address no client knows.

use super::Context;
use super::signal::signal;
use crate::address::{Address, FiveTuple, Protocol};
use crate::buffer::PacketBuffer;
use crate::connection::{SctpEvent, Signal};
use crate::packet::icmp_error::IcmpError;
use crate::packet::{Headers, tcp};
use crate::verdict::{DropReason, Verdict};

impl Context<'_> {
    /// Answers a stray reply; `None` if it is none, or one that ends a connection itself: a reset or
    /// an abort, which pass.
    #[cold]
    pub(super) fn refuse_stray_reply<A: Address, P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        tuple: &FiveTuple<A>,
    ) -> Option<Verdict> {
        let FiveTuple {
            protocol, source, ..
        } = *tuple;
        if !(self.services).is_translated_real(protocol, source.address.into(), source.port) {
            return None;
        }
        let ends = match protocol {
            Protocol::Tcp => headers.tcp_flags & tcp::RST != 0,
            Protocol::Udp => false,
            Protocol::Sctp => match signal(packet.data(), headers) {
                Ok(signal) => signal == Signal::Sctp(SctpEvent::Abort),
                Err(reason) => return Some(Verdict::Drop(reason)),
            },
        };
        let error = IcmpError::PortUnreachable;
        (!ends).then(|| self.answer(packet, headers, error, None, DropReason::NoConnection))
    }
}
