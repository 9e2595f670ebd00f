//! TCP states as IPVS tracks them from one or both directions.
//!
//! The two tables are the kernel's normal and `secure_tcp` transition tables, laid out row by row
//! as the behaviour notes list them (3.3). IPVS never looks at sequence numbers: the first of
//! RST, SYN, FIN, ACK in the header is the event.

use super::state::Path;
use std::fmt::{Display, Formatter};

/// State of a TCP connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum TcpState {
    /// No packet seen yet.
    None,
    /// Both ends talk.
    Established,
    /// The server opened it (SYN seen from the server first).
    SynSent,
    /// The client's SYN was seen.
    SynRecv,
    /// One end has finished.
    FinWait,
    /// Both ends have finished.
    TimeWait,
    /// Reset, or a segment without any flag.
    Close,
    /// The client has finished, the server not yet.
    CloseWait,
    /// Waiting for the last ACK.
    LastAck,
    /// Listening.
    Listen,
    /// `secure_tcp`: SYN answered, client not proven yet.
    SynAck,
}

impl TcpState {
    /// Every state; its position is its discriminant and its column in the tables.
    pub const ALL: [Self; 11] = [NO, ES, SS, SR, FW, TW, CL, CW, LA, LI, SA];

    /// Name as `ipvsadm -Lc` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::SynAck => "SYNACK",
        }
    }

    /// True in the states that `ActiveConn` counts (3.2).
    #[inline]
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            Self::Established | Self::SynSent | Self::SynRecv | Self::SynAck
        )
    }

    /// The state after a segment that carries `event`; without any of the four flags the
    /// connection counts as closed.
    #[inline]
    pub(super) fn after(self, path: Path, event: Option<TcpEvent>, table: TcpTable) -> Self {
        let rows = match table {
            TcpTable::Normal => &NORMAL,
            TcpTable::Secure => &SECURE,
        };
        event.map_or(Self::Close, |event| {
            rows[path as usize * 4 + event as usize][self as usize]
        })
    }
}

impl Display for TcpState {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a segment means to the state machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum TcpEvent {
    /// SYN, with or without ACK.
    Syn,
    /// FIN without SYN.
    Fin,
    /// ACK alone.
    Ack,
    /// RST, whatever else is set.
    Rst,
}

impl TcpEvent {
    /// True for an ACK that neither opens nor closes anything.
    #[inline]
    pub(super) const fn is_plain_ack(flags: u8) -> bool {
        flags & (FIN | SYN | RST | ACK) == ACK
    }

    /// Reads the header's flag byte; `None` if neither RST, SYN, FIN nor ACK is set.
    #[inline]
    pub const fn from_flags(flags: u8) -> Option<Self> {
        if flags & RST != 0 {
            Some(Self::Rst)
        } else if flags & SYN != 0 {
            Some(Self::Syn)
        } else if flags & FIN != 0 {
            Some(Self::Fin)
        } else if flags & ACK != 0 {
            Some(Self::Ack)
        } else {
            None
        }
    }
}

/// Which transition table is in force (`secure_tcp`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TcpTable {
    /// The usual one.
    #[default]
    Normal,
    /// The one under which a client alone cannot reach ESTABLISHED.
    Secure,
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

const NO: TcpState = TcpState::None;
const ES: TcpState = TcpState::Established;
const SS: TcpState = TcpState::SynSent;
const SR: TcpState = TcpState::SynRecv;
const FW: TcpState = TcpState::FinWait;
const TW: TcpState = TcpState::TimeWait;
const CL: TcpState = TcpState::Close;
const CW: TcpState = TcpState::CloseWait;
const LA: TcpState = TcpState::LastAck;
const LI: TcpState = TcpState::Listen;
const SA: TcpState = TcpState::SynAck;

/// Four rows (syn, fin, ack, rst) for each way a packet was seen; a column for each state.
type Rows = [[TcpState; 11]; 12];

#[rustfmt::skip]
const NORMAL: Rows = [
    //         NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    // Input: client to server, replies seen
    /* syn */ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    /* fin */ [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
    /* ack */ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    /* rst */ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
    // Output: server to client
    /* syn */ [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
    /* fin */ [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    /* ack */ [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    /* rst */ [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    // Input only: client to server, replies bypass us
    /* syn */ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    /* fin */ [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    /* ack */ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    /* rst */ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
];

#[rustfmt::skip]
const SECURE: Rows = [
    //         NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    // Input: client to server, replies seen
    /* syn */ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA],
    /* fin */ [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA],
    /* ack */ [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA],
    /* rst */ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    // Output: server to client
    /* syn */ [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA],
    /* fin */ [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    /* ack */ [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    /* rst */ [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    // Input only: client to server, replies bypass us
    /* syn */ [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA],
    /* fin */ [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    /* ack */ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    /* rst */ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
];

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(path: Path, table: TcpTable, events: &[TcpEvent]) -> TcpState {
        events
            .iter()
            .fold(NO, |state, event| state.after(path, Some(*event), table))
    }

    #[test]
    fn the_first_of_rst_syn_fin_ack_is_the_event() {
        assert_eq!(TcpEvent::from_flags(0xff), Some(TcpEvent::Rst));
        assert_eq!(TcpEvent::from_flags(SYN | ACK), Some(TcpEvent::Syn));
        assert_eq!(TcpEvent::from_flags(FIN | ACK), Some(TcpEvent::Fin));
        assert_eq!(TcpEvent::from_flags(ACK | 0x08), Some(TcpEvent::Ack));
        assert_eq!(TcpEvent::from_flags(0x28), None);
    }

    #[test]
    fn a_segment_without_flags_closes_from_every_state() {
        for state in TcpState::ALL {
            assert_eq!(state.after(Path::Input, None, TcpTable::Normal), CL);
        }
    }

    #[test]
    fn states_are_their_columns() {
        for (column, state) in TcpState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, column);
        }
    }

    #[test]
    fn a_client_establishes_alone_under_dr_but_not_under_secure_tcp() {
        use TcpEvent::{Ack, Fin, Syn};
        assert_eq!(walk(Path::InputOnly, TcpTable::Normal, &[Syn, Ack]), ES);
        assert_eq!(
            walk(Path::InputOnly, TcpTable::Normal, &[Syn, Ack, Fin]),
            FW
        );
        assert_eq!(walk(Path::Input, TcpTable::Secure, &[Syn, Ack, Ack]), SR);
    }

    #[test]
    fn closing_through_nat_goes_as_observed_on_the_kernel() {
        let step = |state: TcpState, path, event| state.after(path, Some(event), TcpTable::Normal);
        let client_first = step(ES, Path::Input, TcpEvent::Fin);
        assert_eq!(client_first, CW);
        assert_eq!(step(client_first, Path::Output, TcpEvent::Fin), TW);
        let server_first = step(ES, Path::Output, TcpEvent::Fin);
        assert_eq!(server_first, FW);
        assert_eq!(step(server_first, Path::Input, TcpEvent::Fin), TW);
        assert_eq!(step(ES, Path::Output, TcpEvent::Rst), CL);
    }

    #[test]
    fn the_secure_table_differs_in_exactly_the_listed_cells() {
        let differences = NORMAL
            .iter()
            .flatten()
            .zip(SECURE.iter().flatten())
            .filter(|(normal, secure)| normal != secure)
            .count();
        // IN: syn 1, fin 1, ack 2, rst 1; OUT: syn 2; INONLY: syn 8.
        assert_eq!(differences, 15);
    }
}
