//! Which connections may make room when the table is full, in which order.
//!
//! The order is the design's: expired, embryonic and one-packet UDP, closing, established with at
//! most eight client packets and idle for more than a minute (the kernel's drop-entry rule); the
//! rest never. Each class is a FIFO, so finding a victim costs the same however full the table is.
//!
//! One exception: while the half-open ones (with one-packet UDP) are less than an eighth of the
//! closing ones, closing ones go first. Otherwise a table full of connections in `FIN_WAIT` would
//! push out the few handshakes under way, and nobody could connect. A flood of SYNs is past that
//! share at once.

use super::entry::Connection;
use super::sctp::SctpState;
use super::state::State;
use super::tcp::TcpState;
use crate::address::{Address, Protocol};

/// Why a connection was the one to go, best victim first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Eviction {
    /// Its timer had run out already.
    Expired,
    /// A handshake not finished, or UDP with one client packet.
    Embryonic,
    /// Closing or closed.
    Closing,
    /// Established, at most eight client packets, idle for more than 60 s.
    Idle,
}

/// A connection taken out to make room.
#[derive(Clone, Copy, Debug)]
pub struct Evicted<A> {
    /// The connection.
    pub connection: Connection<A>,
    /// Why it.
    pub why: Eviction,
}

/// The FIFO a connection waits in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(super) enum Class {
    Embryonic,
    Closing,
    /// Established with few packets; idle or not is asked when its turn comes.
    Young,
}

/// How many there are.
pub(super) const CLASSES: usize = 3;

impl Class {
    /// The class of `connection`; `None` = never evicted.
    #[inline]
    pub(super) fn of<A: Address>(connection: &Connection<A>) -> Option<Self> {
        let packets = connection.client_packets();
        match connection.state() {
            State::Tcp(state) => match state {
                TcpState::None | TcpState::SynSent | TcpState::SynRecv | TcpState::SynAck => {
                    Some(Self::Embryonic)
                }
                TcpState::Established => (packets <= FEW_PACKETS).then_some(Self::Young),
                TcpState::FinWait
                | TcpState::TimeWait
                | TcpState::Close
                | TcpState::CloseWait
                | TcpState::LastAck => Some(Self::Closing),
                TcpState::Listen => None,
            },
            State::Udp => (packets <= 1).then_some(Self::Embryonic),
            State::Sctp(state) => match state {
                SctpState::Established => (packets <= FEW_PACKETS).then_some(Self::Young),
                SctpState::ShutdownSent
                | SctpState::ShutdownReceived
                | SctpState::ShutdownAckSent
                | SctpState::Rejected
                | SctpState::Closed => Some(Self::Closing),
                SctpState::None
                | SctpState::Init1
                | SctpState::Init
                | SctpState::CookieSent
                | SctpState::CookieReplied
                | SctpState::CookieWait
                | SctpState::Cookie
                | SctpState::CookieEchoed => Some(Self::Embryonic),
            },
        }
    }

    /// True if a packet that left the state as it was may have changed the class: only the packet
    /// counts of the rules above can.
    #[inline]
    pub(super) fn may_change_at<A: Address>(connection: &Connection<A>) -> bool {
        Self::may_change_after(connection.binding().protocol, connection.client_packets())
    }

    /// [`Self::may_change_at`] for a connection of `protocol` with so many client packets.
    #[inline]
    pub(super) fn may_change_after(protocol: Protocol, packets: u32) -> bool {
        packets == FEW_PACKETS + 1 || (packets == 2 && protocol == Protocol::Udp)
    }
}

/// An established connection with more client packets than this is never evicted.
pub(super) const FEW_PACKETS: u32 = 8;
/// So many times as many closing connections as half-open ones, and closing ones go first.
pub(super) const FEW_HALF_OPEN: u32 = 8;
/// Milliseconds an established connection must have been idle for.
pub(super) const IDLE: u32 = 60_000;
