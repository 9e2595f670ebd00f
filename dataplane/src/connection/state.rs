//! The state of a connection of any protocol, and what moves it.

use super::sctp::{SctpEvent, SctpState};
use super::tcp::{TcpEvent, TcpState, TcpTable};
use crate::address::Protocol;
use std::fmt::{Display, Formatter};

/// Which way a packet of a connection travels.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Direction {
    /// Client to real server.
    Input,
    /// Real server to client (NAT and FullNAT).
    Output,
}

/// How the state machine sees a packet: its direction and whether replies come past us at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Path {
    Input,
    Output,
    InputOnly,
}

/// What a packet tells the state machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// The flag byte of a TCP header.
    Tcp(u8),
    /// A datagram.
    Udp,
    /// The first chunk of an SCTP packet.
    Sctp(SctpEvent),
}

/// State of a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// TCP.
    Tcp(TcpState),
    /// UDP has one state.
    Udp,
    /// SCTP.
    Sctp(SctpState),
}

impl State {
    /// The state of a connection no packet of which was seen yet.
    pub const fn initial(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp(TcpState::None),
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp(SctpState::None),
        }
    }

    /// Name as `ipvsadm -Lc` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp(state) => state.name(),
            Self::Udp => "UDP",
            Self::Sctp(state) => state.name(),
        }
    }

    /// True in the states that `ActiveConn` counts (3.2): never for UDP.
    #[inline]
    pub const fn is_active(self) -> bool {
        match self {
            Self::Tcp(state) => state.is_active(),
            Self::Udp => false,
            Self::Sctp(state) => matches!(state, SctpState::Established),
        }
    }

    /// True if the packet certainly leaves the state as it is, whatever its way and the table; the
    /// cheap question for the packets that are nearly all.
    #[inline]
    pub(super) fn is_kept_by(self, signal: Signal) -> bool {
        match (self, signal) {
            (Self::Tcp(TcpState::Established), Signal::Tcp(flags)) => TcpEvent::is_plain_ack(flags),
            (Self::Udp, Signal::Udp) => true,
            (Self::Tcp(_) | Self::Udp | Self::Sctp(_), _) => false,
        }
    }

    /// The state after a packet. A signal of another protocol changes nothing.
    #[inline]
    pub(super) fn after(self, path: Path, signal: Signal, table: TcpTable) -> Self {
        match (self, signal) {
            (Self::Tcp(state), Signal::Tcp(flags)) => {
                Self::Tcp(state.after(path, TcpEvent::from_flags(flags), table))
            }
            (Self::Sctp(state), Signal::Sctp(event)) => Self::Sctp(state.after(path, event)),
            (Self::Tcp(_) | Self::Udp | Self::Sctp(_), _) => self,
        }
    }
}

impl Display for State {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_of_another_protocol_changes_nothing() {
        let state = State::Tcp(TcpState::Established);
        assert_eq!(
            state.after(Path::Input, Signal::Udp, TcpTable::Normal),
            state
        );
        assert_eq!(
            State::Udp.after(Path::Input, Signal::Tcp(4), TcpTable::Normal),
            State::Udp
        );
    }

    #[test]
    fn what_is_said_to_keep_the_state_keeps_it_on_every_way() {
        let mut kept = 0;
        for state in TcpState::ALL {
            for flags in 0..=255 {
                let (state, signal) = (State::Tcp(state), Signal::Tcp(flags));
                if !state.is_kept_by(signal) {
                    continue;
                }
                kept += 1;
                for path in [Path::Input, Path::Output, Path::InputOnly] {
                    for table in [TcpTable::Normal, TcpTable::Secure] {
                        assert_eq!(state.after(path, signal, table), state);
                    }
                }
            }
        }
        // ESTABLISHED with ACK and any of PSH, URG, ECE and CWR.
        assert_eq!(kept, 16);
        assert!(State::Udp.is_kept_by(Signal::Udp));
    }

    #[test]
    fn active_are_the_states_that_ipvsadm_counts_so() {
        let active: Vec<_> = TcpState::ALL
            .into_iter()
            .filter(|state| State::Tcp(*state).is_active())
            .map(TcpState::name)
            .collect();
        assert_eq!(active, ["ESTABLISHED", "SYN_SENT", "SYN_RECV", "SYNACK"]);
        assert!(!State::Udp.is_active());
        let active: Vec<_> = SctpState::ALL
            .into_iter()
            .filter(|state| State::Sctp(*state).is_active())
            .collect();
        assert_eq!(active, [SctpState::Established]);
    }
}
