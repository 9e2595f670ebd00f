//! One connection: who talks to whom through which server, and how long it may stay idle.
//!
//! An IPv4 connection and its place in a queue fit one cache line, so a hit touches one line. What a
//! packet does to state, timers and the active and inactive counters is exactly the kernel's
//! (behaviour notes 3.2, 3.3 and 3.5).

use super::eviction::Class;
use super::sctp::SctpState;
use super::state::{Direction, Path, Signal, State};
use super::tcp::{TcpState, TcpTable};
use super::time::Millis;
use super::timeouts::Timeouts;
use crate::address::{Address, Endpoint, FiveTuple, Protocol};
use crate::service::{Forward, RealId, ServiceId};

/// Timeout of a new connection in milliseconds, until the first packet's state sets the real one.
pub const INITIAL_TIMEOUT: u32 = 3000;

/// What never changes in the life of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Binding<A> {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The client.
    pub client: Endpoint<A>,
    /// VIP and port the client talks to.
    pub vip: Endpoint<A>,
    /// Whom the real server sees as its peer: the client, unless FullNAT puts a local address there.
    pub local: Endpoint<A>,
    /// Address and port of the real server.
    pub destination: Endpoint<A>,
    /// The real server's identity.
    pub real: RealId,
    /// The service's identity.
    pub service: ServiceId,
    /// How packets get to the real server.
    pub forward: Forward,
}

impl<A: Address> Binding<A> {
    /// The tuple of packets from the client.
    #[inline]
    pub fn key(&self) -> FiveTuple<A> {
        FiveTuple {
            protocol: self.protocol,
            source: self.client,
            destination: self.vip,
        }
    }

    /// The tuple of packets from the real server, if they come back through us.
    #[inline]
    pub fn reply_key(&self) -> Option<FiveTuple<A>> {
        self.forward.sees_replies().then_some(FiveTuple {
            protocol: self.protocol,
            source: self.destination,
            destination: self.local,
        })
    }
}

/// A connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connection<A> {
    binding: Binding<A>,
    /// Low half of the clock at the last packet.
    last_seen: u32,
    timeout: u32,
    client_packets: u32,
    state: State,
    flags: u8,
}

impl<A: Address> Connection<A> {
    /// A connection no packet of which was seen yet: inactive, to expire after
    /// [`INITIAL_TIMEOUT`].
    pub fn new(binding: Binding<A>, now: Millis) -> Self {
        Self {
            binding,
            last_seen: now.low(),
            timeout: INITIAL_TIMEOUT,
            client_packets: 0,
            state: State::initial(binding.protocol),
            // The kernel marks by method at birth; a reply seen later clears it.
            flags: if binding.forward.sees_replies() {
                INACTIVE
            } else {
                INACTIVE | NO_OUTPUT
            },
        }
    }

    /// A connection that was expected: it listens for its first packet, which is at hand.
    pub fn expected(binding: Binding<A>, now: Millis) -> Self {
        let mut connection = Self::new(binding, now);
        connection.state = State::Tcp(TcpState::Listen);
        connection.flags |= EXPECTED;
        connection
    }

    /// What never changes.
    #[inline]
    pub fn binding(&self) -> &Binding<A> {
        &self.binding
    }

    /// The tuple of packets from the client.
    #[inline]
    pub fn key(&self) -> FiveTuple<A> {
        self.binding.key()
    }

    /// The tuple of packets from the real server, if they come back through us.
    #[inline]
    pub fn reply_key(&self) -> Option<FiveTuple<A>> {
        self.binding.reply_key()
    }

    /// State.
    #[inline]
    pub fn state(&self) -> State {
        self.state
    }

    /// True if it counts in `ActiveConn`, false if in `InActConn`.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.flags & INACTIVE == 0
    }

    /// True while no packet of the real server was seen and none is expected.
    #[inline]
    pub fn is_no_output(&self) -> bool {
        self.flags & NO_OUTPUT != 0
    }

    /// True if a helper reads its packets (see [`crate::ftp`]): none may go on unread.
    #[inline(always)]
    pub fn is_helped(&self) -> bool {
        self.flags & HELPED != 0
    }

    /// True if another connection announced it (see [`crate::expected`]).
    #[inline]
    pub fn is_expected(&self) -> bool {
        self.flags & EXPECTED != 0
    }

    /// The same under a persistence template made in this generation of its service's settings
    /// (1 to 3), which waits to hear that the connection is established.
    #[must_use]
    pub fn controlled(mut self, generation: u8) -> Self {
        self.flags |= generation << CONTROL_SHIFT & CONTROL | UNASSURED;
        self
    }

    /// The generation of its template, see [`Self::controlled`]; `None` = no template controls it.
    #[inline]
    pub fn control(&self) -> Option<u8> {
        let generation = (self.flags & CONTROL) >> CONTROL_SHIFT;
        (generation != 0).then_some(generation)
    }

    /// True while it has a template that was not told that it is established: that TCP or SCTP are,
    /// or that a UDP server has replied.
    #[inline]
    pub fn is_unassured(&self) -> bool {
        self.flags & UNASSURED != 0
    }

    /// Packets from the client so far; stops at `u32::MAX`.
    #[inline]
    pub fn client_packets(&self) -> u32 {
        self.client_packets
    }

    /// Idle timeout in milliseconds as of the last packet.
    #[inline]
    pub fn timeout(&self) -> u32 {
        self.timeout
    }

    /// Milliseconds since the last packet.
    #[inline]
    pub fn idle(&self, now: Millis) -> u32 {
        let idle = now.low().wrapping_sub(self.last_seen);
        // Seen "in the future" by less than a minute: a caller with an older reading of the clock.
        if idle > u32::MAX - 60_000 { 0 } else { idle }
    }

    /// Milliseconds until it expires; 0 = it has.
    #[inline]
    pub fn expires_in(&self, now: Millis) -> u32 {
        self.timeout.saturating_sub(self.idle(now))
    }

    /// True once it has been idle for its timeout.
    #[inline]
    pub fn is_expired(&self, now: Millis) -> bool {
        self.idle(now) >= self.timeout
    }

    /// Takes a packet into account: state, timeout, packet count and the active mark.
    ///
    /// For a connection in a table use [`Table::on_packet`](super::Table::on_packet), which keeps
    /// timers and eviction order right; this is for one about to be inserted.
    #[inline]
    pub fn on_packet(
        &mut self,
        direction: Direction,
        signal: Signal,
        now: Millis,
        timeouts: &Timeouts,
        table: TcpTable,
    ) -> Transition {
        let path = match direction {
            Direction::Output => {
                self.flags &= !NO_OUTPUT;
                Path::Output
            }
            Direction::Input => {
                self.client_packets = self.client_packets.saturating_add(1);
                if self.is_no_output() {
                    Path::InputOnly
                } else {
                    Path::Input
                }
            }
        };
        self.state = self.state.after(path, signal, table);
        self.timeout = timeouts.of(self.state);
        self.last_seen = now.low();
        let assures = match self.state {
            State::Tcp(state) => state == TcpState::Established,
            State::Sctp(state) => state == SctpState::Established,
            State::Udp => direction == Direction::Output,
        };
        if assures {
            self.flags &= !UNASSURED;
        }
        match (self.is_active(), self.state.is_active()) {
            (false, true) => {
                self.flags &= !INACTIVE;
                Transition::BecameActive
            }
            (true, false) => {
                self.flags |= INACTIVE;
                Transition::BecameInactive
            }
            (true, true) | (false, false) => Transition::None,
        }
    }

    /// Takes a packet into account that changes nothing but the clock and the packet count; false,
    /// and nothing is done, if [`Self::on_packet`] would do more, or if it has expired.
    #[inline(always)]
    pub(super) fn on_quiet_packet(
        &mut self,
        direction: Direction,
        signal: Signal,
        now: Millis,
        timeouts: &Timeouts,
    ) -> bool {
        if !self.state.is_kept_by(signal)
            || self.timeout != timeouts.of(self.state)
            || self.is_expired(now)
        {
            return false;
        }
        match direction {
            Direction::Input => {
                let packets = self.client_packets.saturating_add(1);
                if Class::may_change_after(self.binding.protocol, packets) {
                    return false;
                }
                self.client_packets = packets;
            }
            Direction::Output if self.flags & (NO_OUTPUT | UNASSURED) != 0 => return false,
            Direction::Output => {}
        }
        self.last_seen = now.low();
        true
    }

    /// Refreshes the timer without a transition.
    #[inline]
    pub(super) fn touch(&mut self, now: Millis) {
        self.last_seen = now.low();
    }

    /// A helper reads its packets from now on.
    pub(super) fn mark_helped(&mut self) {
        self.flags |= HELPED;
    }

    /// Lets it live for so many milliseconds more, whatever its state allows.
    pub fn keep_for(&mut self, timeout: u32) {
        self.change_timeout(timeout);
    }

    /// Gives it another timeout, in milliseconds, until its next packet.
    pub(super) fn change_timeout(&mut self, timeout: u32) {
        self.timeout = timeout.min(Timeouts::MAX);
    }
}

/// What a packet did to the connection's share in its server's active and inactive counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Transition {
    /// Nothing.
    None,
    /// It moves from inactive to active.
    BecameActive,
    /// It moves from active to inactive.
    BecameInactive,
}

/// Counts as inactive (`IP_VS_CONN_F_INACTIVE`).
const INACTIVE: u8 = 1;
/// Replies bypass us (`IP_VS_CONN_F_NOOUTPUT`).
const NO_OUTPUT: u8 = 2;
/// Its template, if it has one, was not told yet that it is established.
const UNASSURED: u8 = 4;
/// Generation of its template; 0 = it has none.
const CONTROL: u8 = 0x30;
const CONTROL_SHIFT: u32 = 4;
/// A helper reads its packets.
const HELPED: u8 = 0x40;
/// Another connection announced it.
const EXPECTED: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const ACK: u8 = 16;

    fn connection(protocol: Protocol, forward: Forward) -> Connection<Ipv4Addr> {
        let client = Endpoint::new(Ipv4Addr::new(10, 0, 1, 100), 20000);
        Connection::new(
            Binding {
                protocol,
                client,
                vip: Endpoint::new(Ipv4Addr::new(10, 0, 1, 50), 80),
                local: client,
                destination: Endpoint::new(Ipv4Addr::new(10, 0, 2, 11), 8080),
                real: RealId(0),
                service: ServiceId(0),
                forward,
            },
            Millis(0),
        )
    }

    fn packet(
        connection: &mut Connection<Ipv4Addr>,
        direction: Direction,
        flags: u8,
        now: u64,
    ) -> (Transition, &'static str, u32) {
        let transition = connection.on_packet(
            direction,
            Signal::Tcp(flags),
            Millis(now),
            &Timeouts::default(),
            TcpTable::Normal,
        );
        (transition, connection.state().name(), connection.timeout())
    }

    #[test]
    fn a_new_connection_is_inactive_and_lives_three_seconds() {
        let connection = connection(Protocol::Tcp, Forward::Dr);
        assert!(!connection.is_active());
        assert_eq!(connection.expires_in(Millis(1000)), 2000);
        assert!(!connection.is_expired(Millis(2999)));
        assert!(connection.is_expired(Millis(3000)));
    }

    #[test]
    fn a_dr_connection_is_active_until_the_client_finishes() {
        use Direction::Input;
        use Transition::{BecameActive, BecameInactive};
        let mut c = connection(Protocol::Tcp, Forward::Dr);
        assert_eq!(
            packet(&mut c, Input, SYN, 0),
            (BecameActive, "SYN_RECV", 60_000)
        );
        assert_eq!(
            packet(&mut c, Input, ACK, 1),
            (Transition::None, "ESTABLISHED", 900_000)
        );
        assert_eq!(
            packet(&mut c, Input, FIN | ACK, 2),
            (BecameInactive, "FIN_WAIT", 120_000)
        );
        assert_eq!(c.client_packets(), 3);
        assert!(c.reply_key().is_none());
    }

    #[test]
    fn an_output_packet_clears_no_output_for_good() {
        let mut c = connection(Protocol::Tcp, Forward::Dr);
        assert!(c.is_no_output());
        let _ = packet(&mut c, Direction::Input, SYN, 0);
        let _ = packet(&mut c, Direction::Output, SYN | ACK, 0);
        assert!(!c.is_no_output());
        let _ = packet(&mut c, Direction::Input, ACK, 0);
        // INPUT, not INPUT_ONLY: the client's FIN leads to CLOSE_WAIT.
        assert_eq!(packet(&mut c, Direction::Input, FIN, 0).1, "CLOSE_WAIT");
        assert_eq!(c.client_packets(), 3);
    }

    #[test]
    fn udp_never_becomes_active() {
        let mut c = connection(Protocol::Udp, Forward::Nat);
        for now in 0..5 {
            let transition = c.on_packet(
                Direction::Input,
                Signal::Udp,
                Millis(now),
                &Timeouts::default(),
                TcpTable::Normal,
            );
            assert_eq!(transition, Transition::None);
        }
        assert_eq!(c.expires_in(Millis(4)), 300_000);
        assert_eq!(c.reply_key().unwrap().destination, c.binding().client);
    }

    #[test]
    fn a_changed_timeout_reaches_a_connection_with_its_next_packet() {
        let mut c = connection(Protocol::Tcp, Forward::Dr);
        let _ = packet(&mut c, Direction::Input, SYN, 0);
        let _ = packet(&mut c, Direction::Input, ACK, 0);
        let mut timeouts = Timeouts::default();
        timeouts.set("tcp", 5000);
        assert_eq!(c.expires_in(Millis(0)), 900_000);
        let _ = c.on_packet(
            Direction::Input,
            Signal::Tcp(ACK),
            Millis(10),
            &timeouts,
            TcpTable::Normal,
        );
        assert_eq!(c.state(), State::Tcp(TcpState::Established));
        assert_eq!(c.expires_in(Millis(10)), 5000);
    }

    #[test]
    fn idle_time_survives_the_wrap_of_the_32_bit_clock() {
        let mut c = connection(Protocol::Tcp, Forward::Dr);
        let before = u64::from(u32::MAX) - 500;
        let _ = packet(&mut c, Direction::Input, SYN, before);
        assert_eq!(c.idle(Millis(before + 1000)), 1000);
        assert_eq!(c.idle(Millis(before - 1000)), 0);
    }
}
