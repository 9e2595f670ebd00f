//! The short way: plain packets of connections that go on.
//!
//! Nearly every packet is one: its connection is known, its server listed, the way is known, it
//! fits, and it is no SYN of a client or of an FTP data connection. For these the short way does
//! exactly what the general one ([`Context::flow`] and [`Context::forward`]) does, at constant
//! offsets and without any of its questions. For all others it changes nothing and says so, and the
//! general way begins from the start. A test runs both over the same packets and compares everything.

use super::{Context, Pass, account};
use crate::address::{Address, Protocol};
use crate::buffer::PacketBuffer;
use crate::connection::{Direction, Signal, Slot, Table};
use crate::counters::Event;
use crate::forwarding::{Adjacency, Resolution};
use crate::packet::{Plain, Translation, tcp};
use crate::service::{Forward, RealRecord, Standing};
use crate::verdict::{DropReason, PortId};

impl Context<'_> {
    /// Forwards the packet if it may take the short way: the port to send it on, or why it was dropped,
    /// which is counted. `None` = untouched, for the general one.
    #[inline(always)]
    pub(super) fn established<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        packet: &mut P,
        plain: &Plain<A>,
        slot: Slot,
        direction: Direction,
    ) -> Option<Result<PortId, DropReason>> {
        if matches!(self.pass, Pass::Retry(_)) || !self.state.short_way {
            return None;
        }
        let mut connection = table.live(slot);
        let binding = connection.binding();
        let real = self.services.real(binding.real)?;
        if real.standing != Standing::Listed {
            return None;
        }
        let (to, translation) = match (binding.forward, direction) {
            (Forward::Dr, _) => (binding.destination, Translation::None),
            (Forward::Nat, _) if connection.is_helped() => return None,
            (Forward::Nat, Direction::Input) => (
                binding.destination,
                Translation::Destination(binding.destination),
            ),
            (Forward::Nat, Direction::Output) => (binding.client, Translation::Source(binding.vip)),
            (Forward::Tunnel(tunnel), Direction::Input) => {
                return self.established_into_tunnel(table, packet, plain, slot, tunnel, real);
            }
            (Forward::Local | Forward::FullNat | Forward::Tunnel(_), _) => return None,
        };
        let flow =
            u32::from(plain.tuple.source.port) << 16 | u32::from(plain.tuple.destination.port);
        let way = if direction == Direction::Output && binding.forward == Forward::Nat {
            match self.forwarding.resolve(to.address.into(), flow) {
                Resolution::Ready(way) => way,
                _ => return None,
            }
        } else {
            let ways = &mut self.state.ways;
            ways.towards(self.forwarding, binding.real, to.address, flow)?
        };
        let Adjacency {
            port,
            destination,
            source,
            mtu,
            ..
        } = way;
        if plain.ttl <= 1 || plain.ip_length > mtu {
            return None;
        }
        // SCTP is never plain: its checksum and chunks must be looked at.
        debug_assert_ne!(plain.tuple.protocol, Protocol::Sctp);
        let signal = if plain.tuple.protocol == Protocol::Tcp {
            Signal::Tcp(plain.tcp_flags)
        } else {
            Signal::Udp
        };
        if !connection.on_quiet_packet(direction, signal, self.now, &self.services.timeouts)
            && !self.change(table, slot, direction, signal, real)
        {
            return None;
        }
        // Nothing can go wrong from here on.
        self.count(Event::ConnectionHits);
        account(
            real.shared.cell(self.state.worker),
            direction,
            u64::from(plain.ip_length),
        );
        if packet.data().len() > plain.end() {
            packet.truncate(plain.end());
        }
        plain.rewrite(packet.data_mut(), destination, source, translation);
        Some(Ok(port))
    }

    /// Takes a packet into account that changes the connection's state or its place among those
    /// that may be evicted. False, and nothing is done, if the connection may be over: it has
    /// expired, or the client asks for a new one.
    #[inline(never)]
    pub(super) fn change<A: Address>(
        &self,
        table: &mut Table<A>,
        slot: Slot,
        direction: Direction,
        signal: Signal,
        real: &RealRecord,
    ) -> bool {
        let opening = matches!(signal, Signal::Tcp(flags) if flags & tcp::SYN != 0);
        let general = opening && (direction == Direction::Input || table.get(slot).is_expected());
        if general || table.get(slot).is_expired(self.now) {
            return false;
        }
        self.account_state(table, slot, direction, signal, real);
        true
    }
}
