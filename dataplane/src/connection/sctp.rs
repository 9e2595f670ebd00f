//! SCTP states as IPVS tracks them from the first chunk of each packet (behaviour notes 3.4).

use super::state::Path;
use crate::packet::sctp;
use std::fmt::{Display, Formatter};

/// State of an SCTP association.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum SctpState {
    /// No packet seen yet.
    None,
    /// First INIT seen.
    Init1,
    /// INIT repeated.
    Init,
    /// INIT-ACK sent by the server.
    CookieSent,
    /// COOKIE-ECHO answered.
    CookieReplied,
    /// Waiting for a cookie (the server opened it).
    CookieWait,
    /// Cookie seen.
    Cookie,
    /// COOKIE-ECHO sent by the server.
    CookieEchoed,
    /// Both ends talk.
    Established,
    /// SHUTDOWN from the server.
    ShutdownSent,
    /// SHUTDOWN from the client.
    ShutdownReceived,
    /// SHUTDOWN-ACK sent.
    ShutdownAckSent,
    /// Aborted during the handshake.
    Rejected,
    /// Closed.
    Closed,
}

impl SctpState {
    /// Every state; its position is its discriminant and its column in the tables.
    pub const ALL: [Self; 14] = [NO, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL];

    /// Name as `ipvsadm -Lc` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Init1 => "INIT1",
            Self::Init => "INIT",
            Self::CookieSent => "C-SENT",
            Self::CookieReplied => "C-REPLIED",
            Self::CookieWait => "C-WAIT",
            Self::Cookie => "COOKIE",
            Self::CookieEchoed => "C-ECHOED",
            Self::Established => "ESTABLISHED",
            Self::ShutdownSent => "S-SENT",
            Self::ShutdownReceived => "S-RECEIVED",
            Self::ShutdownAckSent => "S-ACK-SENT",
            Self::Rejected => "REJECTED",
            Self::Closed => "CLOSED",
        }
    }

    /// The state after a packet.
    #[inline]
    pub(super) fn after(self, path: Path, event: SctpEvent) -> Self {
        TABLE[path as usize * 10 + event as usize][self as usize]
    }
}

impl Display for SctpState {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a packet means to the state machine: its first chunk, or ABORT if a COOKIE-ECHO or
/// COOKIE-ACK is followed by one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum SctpEvent {
    /// DATA, SACK, HEARTBEAT, HEARTBEAT-ACK and all others.
    Data,
    /// INIT.
    Init,
    /// INIT-ACK.
    InitAck,
    /// COOKIE-ECHO.
    CookieEcho,
    /// COOKIE-ACK.
    CookieAck,
    /// SHUTDOWN.
    Shutdown,
    /// SHUTDOWN-ACK.
    ShutdownAck,
    /// SHUTDOWN-COMPLETE.
    ShutdownComplete,
    /// ERROR.
    Error,
    /// ABORT.
    Abort,
}

impl SctpEvent {
    /// What a packet means whose first chunks are of these types.
    pub const fn of_chunks(first: u8, second: Option<u8>) -> Self {
        match first {
            sctp::COOKIE_ECHO | sctp::COOKIE_ACK if matches!(second, Some(sctp::ABORT)) => {
                Self::Abort
            }
            sctp::INIT => Self::Init,
            sctp::INIT_ACK => Self::InitAck,
            sctp::ABORT => Self::Abort,
            sctp::SHUTDOWN => Self::Shutdown,
            sctp::SHUTDOWN_ACK => Self::ShutdownAck,
            sctp::ERROR => Self::Error,
            sctp::COOKIE_ECHO => Self::CookieEcho,
            sctp::COOKIE_ACK => Self::CookieAck,
            sctp::SHUTDOWN_COMPLETE => Self::ShutdownComplete,
            _ => Self::Data,
        }
    }
}

const NO: SctpState = SctpState::None;
const I1: SctpState = SctpState::Init1;
const IN: SctpState = SctpState::Init;
const CS: SctpState = SctpState::CookieSent;
const CR: SctpState = SctpState::CookieReplied;
const CW: SctpState = SctpState::CookieWait;
const CO: SctpState = SctpState::Cookie;
const CE: SctpState = SctpState::CookieEchoed;
const ES: SctpState = SctpState::Established;
const SS: SctpState = SctpState::ShutdownSent;
const SR: SctpState = SctpState::ShutdownReceived;
const SA: SctpState = SctpState::ShutdownAckSent;
const RJ: SctpState = SctpState::Rejected;
const CL: SctpState = SctpState::Closed;

/// Ten rows, in the order of [`SctpEvent`] and abbreviated as in the notes, for each way a packet
/// was seen; a column for each state.
#[rustfmt::skip]
const TABLE: [[SctpState; 14]; 30] = [
    //        NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    // Input
    /* d  */ [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* i  */ [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN],
    /* ia */ [CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ce */ [CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ca */ [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL],
    /* s  */ [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
    /* sa */ [CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL],
    /* sc */ [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL],
    /* e  */ [CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL],
    /* a  */ [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
    // Output
    /* d  */ [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* i  */ [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW],
    /* ia */ [CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ce */ [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL],
    /* ca */ [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL],
    /* s  */ [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL],
    /* sa */ [SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL],
    /* sc */ [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* e  */ [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* a  */ [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL],
    // Input only
    /* d  */ [ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* i  */ [I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN],
    /* ia */ [CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ce */ [ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ca */ [ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL],
    /* s  */ [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
    /* sa */ [CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL],
    /* sc */ [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL],
    /* e  */ [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* a  */ [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_their_columns() {
        for (column, state) in SctpState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, column);
        }
    }

    #[test]
    fn the_first_chunk_is_the_event_unless_an_abort_follows_a_cookie() {
        use SctpEvent::{Abort, CookieAck, CookieEcho, Data, Init};
        for (first, second, event) in [
            (1, None, Init),
            (1, Some(6), Init),
            (10, None, CookieEcho),
            (10, Some(0), CookieEcho),
            (10, Some(6), Abort),
            (11, Some(6), Abort),
            (11, Some(3), CookieAck),
            (0, Some(6), Data),
        ] {
            assert_eq!(SctpEvent::of_chunks(first, second), event);
        }
        // SACK, HEARTBEAT, HEARTBEAT-ACK, ECNE, CWR and what was never defined.
        for other in [3, 4, 5, 12, 13, 15, 64, 130, 255] {
            assert_eq!(SctpEvent::of_chunks(other, None), Data);
        }
        for named in [2, 6, 7, 8, 9, 14] {
            assert_ne!(SctpEvent::of_chunks(named, None), Data);
        }
    }

    #[test]
    fn a_four_way_handshake_through_nat_establishes() {
        let steps = [
            (Path::Input, SctpEvent::Init, I1),
            (Path::Output, SctpEvent::InitAck, CS),
            (Path::Input, SctpEvent::CookieEcho, CR),
            (Path::Output, SctpEvent::CookieAck, ES),
        ];
        let mut state = NO;
        for (path, event, expected) in steps {
            state = state.after(path, event);
            assert_eq!(state, expected);
        }
    }

    #[test]
    fn an_abort_closes_whatever_was_established() {
        for path in [Path::Input, Path::Output, Path::InputOnly] {
            assert_eq!(ES.after(path, SctpEvent::Abort), CL);
        }
    }
}
