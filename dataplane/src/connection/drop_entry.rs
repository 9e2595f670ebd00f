//! Which connections the defence `drop_entry` deletes when it comes past them (spec 3.6).
//!
//! Handshakes always; established TCP and SCTP, and UDP, only after more than a minute without a
//! packet and with one to eight packets from the client, of those that have had `n` one in `n`: the
//! more a client has said, the likelier it is one.

use super::entry::Connection;
use super::eviction::{FEW_PACKETS, IDLE};
use super::sctp::SctpState;
use super::state::State;
use super::tcp::TcpState;
use super::time::Millis;
use crate::address::Address;

/// The judge, who remembers how many of each number of packets were spared.
#[derive(Debug, Default)]
pub struct DropEntry {
    /// By client packets: how many more are spared, the next one deleted included.
    left: [u8; FEW_PACKETS as usize + 1],
}

impl DropEntry {
    /// True if `connection` must go.
    pub fn takes<A: Address>(&mut self, connection: &Connection<A>, now: Millis) -> bool {
        match connection.state() {
            State::Tcp(TcpState::SynRecv | TcpState::SynAck)
            | State::Sctp(SctpState::Init1 | SctpState::Init) => true,
            State::Tcp(TcpState::Established)
            | State::Sctp(SctpState::Established)
            | State::Udp => self.takes_idle(connection, now),
            State::Tcp(_) | State::Sctp(_) => false,
        }
    }

    fn takes_idle<A: Address>(&mut self, connection: &Connection<A>, now: Millis) -> bool {
        let packets = connection.client_packets();
        if connection.idle(now) <= IDLE || packets == 0 {
            return false;
        }
        let Some(left) = self.left.get_mut(packets as usize) else {
            return false;
        };
        if *left > 1 {
            *left -= 1;
            return false;
        }
        *left = packets as u8;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Binding, Direction, SctpEvent, Signal, TcpTable, Timeouts};
    use super::*;
    use crate::address::{Endpoint, Protocol};
    use crate::service::{Forward, RealId, ServiceId};
    use std::net::Ipv4Addr;

    const SYN: Signal = Signal::Tcp(2);
    const ACK: Signal = Signal::Tcp(16);
    const FIN: Signal = Signal::Tcp(17);
    const RST: Signal = Signal::Tcp(4);

    /// A connection that has had these packets from its client at time 0.
    fn after(protocol: Protocol, packets: &[Signal], table: TcpTable) -> Connection<Ipv4Addr> {
        let client = Endpoint::new(Ipv4Addr::new(10, 0, 1, 100), 20000);
        let binding = Binding {
            protocol,
            client,
            vip: client,
            local: client,
            destination: client,
            real: RealId(0),
            service: ServiceId(0),
            forward: Forward::Dr,
        };
        let mut connection = Connection::new(binding, Millis(0));
        for signal in packets {
            let (now, timeouts) = (Millis(0), Timeouts::default());
            let _ = connection.on_packet(Direction::Input, *signal, now, &timeouts, table);
        }
        connection
    }

    #[test]
    fn handshakes_go_at_once_and_other_unfinished_or_closing_connections_never() {
        let mut judge = DropEntry::default();
        let mut takes = |protocol, packets: &[Signal], table| {
            let connection = after(protocol, packets, table);
            let now = [Millis(0), Millis(50_000), Millis(10_000_000)];
            let answers = now.map(|now| judge.takes(&connection, now));
            assert!(answers.iter().all(|answer| *answer == answers[0]));
            answers[0]
        };
        let init = Signal::Sctp(SctpEvent::Init);
        assert!(takes(Protocol::Tcp, &[SYN], TcpTable::Normal));
        assert!(takes(Protocol::Tcp, &[SYN], TcpTable::Secure));
        assert!(takes(Protocol::Sctp, &[init], TcpTable::Normal));
        assert!(takes(Protocol::Sctp, &[init, init], TcpTable::Normal));
        for end in [FIN, RST] {
            assert!(!takes(Protocol::Tcp, &[SYN, ACK, end], TcpTable::Normal));
        }
        let end = Signal::Sctp(SctpEvent::Abort);
        assert!(!takes(Protocol::Sctp, &[init, end], TcpTable::Normal));
        assert!(!takes(Protocol::Tcp, &[], TcpTable::Normal));
    }

    #[test]
    fn of_idle_ones_with_n_packets_one_in_n_goes_and_above_eight_none() {
        let first = Signal::Sctp(SctpEvent::Data);
        for (protocol, signal) in [
            (Protocol::Tcp, ACK),
            (Protocol::Udp, Signal::Udp),
            (Protocol::Sctp, first),
        ] {
            for packets in 1..=12 {
                let connection = after(protocol, &vec![signal; packets], TcpTable::Normal);
                let mut judge = DropEntry::default();
                assert!((0..100).all(|_| !judge.takes(&connection, Millis(60_000))));
                let taken = (0..840).filter(|_| judge.takes(&connection, Millis(60_001)));
                let expected = if packets <= 8 { 840 / packets } else { 0 };
                assert_eq!(taken.count(), expected, "{protocol:?}, {packets} packets");
            }
        }
    }
}
