//! How long a connection may be idle in each state; the defaults are the kernel's (behaviour
//! notes 3.2).

use super::sctp::SctpState;
use super::state::State;
use super::tcp::TcpState;
use crate::address::Protocol;

/// Idle timeouts in milliseconds, one per state.
///
/// A connection takes its timeout over when a packet arrives, so a change reaches an idle
/// connection with its next packet, as `ipvsadm --set` does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    tcp: [u32; 11],
    udp: u32,
    sctp: [u32; 14],
}

impl Timeouts {
    /// Configuration keys, one per state: `tcp`, `tcp_fin` and `udp` are what `ipvsadm --set` sets.
    pub const KEYS: [&str; 26] = {
        let mut keys = [""; 26];
        let mut i = 0;
        while i < STATES.len() {
            keys[i] = STATES[i].0;
            i += 1;
        }
        keys
    };

    /// Longest timeout in milliseconds: 31 days, the cap of `ipvsadm`. The 32-bit clock of
    /// connections carries no more.
    pub const MAX: u32 = 31 * 24 * 3600 * 1000;

    /// The timeout of `state`.
    #[inline(always)]
    pub fn of(&self, state: State) -> u32 {
        match state {
            State::Tcp(state) => self.tcp[state as usize],
            State::Udp => self.udp,
            State::Sctp(state) => self.sctp[state as usize],
        }
    }

    /// The longest timeout of connections of `protocol`.
    pub fn longest(&self, protocol: Protocol) -> u32 {
        let all: &[u32] = match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &[self.udp],
            Protocol::Sctp => &self.sctp,
        };
        all.iter().copied().fold(0, u32::max)
    }

    /// The timeout that configuration key `key` sets.
    pub fn value(&self, key: &str) -> Option<u32> {
        state_of(key).map(|state| self.of(state))
    }

    /// Sets the timeout of configuration key `key` in milliseconds, at most [`Self::MAX`].
    ///
    /// Returns false if there is no such key.
    pub fn set(&mut self, key: &str, milliseconds: u32) -> bool {
        let Some(state) = state_of(key) else {
            return false;
        };
        let milliseconds = milliseconds.min(Self::MAX);
        match state {
            State::Tcp(state) => self.tcp[state as usize] = milliseconds,
            State::Udp => self.udp = milliseconds,
            State::Sctp(state) => self.sctp[state as usize] = milliseconds,
        }
        true
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let mut timeouts = Self {
            tcp: [0; 11],
            udp: 0,
            sctp: [0; 14],
        };
        for (key, _, seconds) in STATES {
            timeouts.set(key, seconds * 1000);
        }
        timeouts
    }
}

fn state_of(key: &str) -> Option<State> {
    STATES
        .iter()
        .find(|(name, ..)| *name == key)
        .map(|(_, state, _)| *state)
}

/// Key, state, default in seconds.
#[rustfmt::skip]
const STATES: [(&str, State, u32); 26] = [
    ("tcp",                    State::Tcp(TcpState::Established),        900),
    ("tcp_fin",                State::Tcp(TcpState::FinWait),            120),
    ("udp",                    State::Udp,                               300),
    ("tcp_none",               State::Tcp(TcpState::None),                 2),
    ("tcp_syn_sent",           State::Tcp(TcpState::SynSent),            120),
    ("tcp_syn_recv",           State::Tcp(TcpState::SynRecv),             60),
    ("tcp_time_wait",          State::Tcp(TcpState::TimeWait),           120),
    ("tcp_close",              State::Tcp(TcpState::Close),               10),
    ("tcp_close_wait",         State::Tcp(TcpState::CloseWait),           60),
    ("tcp_last_ack",           State::Tcp(TcpState::LastAck),             30),
    ("tcp_listen",             State::Tcp(TcpState::Listen),             120),
    ("tcp_synack",             State::Tcp(TcpState::SynAck),             120),
    ("sctp_established",       State::Sctp(SctpState::Established),      900),
    ("sctp_none",              State::Sctp(SctpState::None),               2),
    ("sctp_init1",             State::Sctp(SctpState::Init1),              4),
    ("sctp_init",              State::Sctp(SctpState::Init),              61),
    ("sctp_cookie_sent",       State::Sctp(SctpState::CookieSent),        61),
    ("sctp_cookie_replied",    State::Sctp(SctpState::CookieReplied),     61),
    ("sctp_cookie_wait",       State::Sctp(SctpState::CookieWait),        61),
    ("sctp_cookie",            State::Sctp(SctpState::Cookie),            61),
    ("sctp_cookie_echoed",     State::Sctp(SctpState::CookieEchoed),      61),
    ("sctp_shutdown_sent",     State::Sctp(SctpState::ShutdownSent),      61),
    ("sctp_shutdown_received", State::Sctp(SctpState::ShutdownReceived),  61),
    ("sctp_shutdown_ack_sent", State::Sctp(SctpState::ShutdownAckSent),   61),
    ("sctp_rejected",          State::Sctp(SctpState::Rejected),           4),
    ("sctp_closed",            State::Sctp(SctpState::Closed),            61),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_state_has_one_key_and_a_default() {
        let states: HashSet<_> = STATES.iter().map(|(_, state, _)| *state).collect();
        let keys: HashSet<_> = Timeouts::KEYS.into_iter().collect();
        assert_eq!(states.len(), TcpState::ALL.len() + 1 + SctpState::ALL.len());
        assert_eq!(keys.len(), states.len());
        let timeouts = Timeouts::default();
        assert_eq!(timeouts.of(State::Tcp(TcpState::Established)), 900_000);
        assert_eq!(timeouts.of(State::Tcp(TcpState::Close)), 10_000);
        assert_eq!(timeouts.value("udp"), Some(300_000));
    }

    #[test]
    fn unknown_keys_are_refused_and_values_capped() {
        let mut timeouts = Timeouts::default();
        assert!(!timeouts.set("tcp_syn", 1));
        assert_eq!(timeouts, Timeouts::default());
        assert!(timeouts.set("tcp_fin", u32::MAX));
        assert_eq!(timeouts.of(State::Tcp(TcpState::FinWait)), Timeouts::MAX);
    }
}
