//! The behaviour notes' transition tables (3.3, 3.4) as text, and the plainest machine over them: what
//! the tables of the code and the counting of the pipeline are held against. Tests only.

use super::state::{Path, State};
use super::{SctpState, TcpState};

/// States by the abbreviations of the notes, in the order of their columns.
pub(crate) const TCP_STATES: [(&str, TcpState); 11] = [
    ("NO", TcpState::None),
    ("ES", TcpState::Established),
    ("SS", TcpState::SynSent),
    ("SR", TcpState::SynRecv),
    ("FW", TcpState::FinWait),
    ("TW", TcpState::TimeWait),
    ("CL", TcpState::Close),
    ("CW", TcpState::CloseWait),
    ("LA", TcpState::LastAck),
    ("LI", TcpState::Listen),
    ("SA", TcpState::SynAck),
];

/// The same for SCTP.
pub(crate) const SCTP_STATES: [(&str, SctpState); 14] = [
    ("NO", SctpState::None),
    ("I1", SctpState::Init1),
    ("IN", SctpState::Init),
    ("CS", SctpState::CookieSent),
    ("CR", SctpState::CookieReplied),
    ("CW", SctpState::CookieWait),
    ("CO", SctpState::Cookie),
    ("CE", SctpState::CookieEchoed),
    ("ES", SctpState::Established),
    ("SS", SctpState::ShutdownSent),
    ("SR", SctpState::ShutdownReceived),
    ("SA", SctpState::ShutdownAckSent),
    ("RJ", SctpState::Rejected),
    ("CL", SctpState::Closed),
];

/// 3.3, the normal table.
const TCP: &str = "
IN syn SR ES ES SR SR SR SR SR SR SR SR
IN fin CL CW SS TW TW TW CL CW LA LI TW
IN ack ES ES SS ES FW TW CL CW CL LI ES
IN rst CL CL CL SR CL CL CL CL LA LI SR
OUT syn SS ES SS SR SS SS SS SS SS LI SR
OUT fin TW FW SS TW FW TW CL TW LA LI TW
OUT ack ES ES SS ES FW TW CL CW LA ES ES
OUT rst CL CL SS CL CL TW CL CL CL CL CL
INONLY syn SR ES ES SR SR SR SR SR SR SR SR
INONLY fin CL FW SS TW FW TW CL CW LA LI TW
INONLY ack ES ES SS ES FW TW CL CW CL LI ES
INONLY rst CL CL CL SR CL CL CL CL LA LI CL
";

/// 3.3, the rows of the secure_tcp table that differ.
const SECURE: &str = "
IN syn SR ES ES SR SR SR SR SR SR SR SA
IN fin CL CW SS TW TW TW CL CW LA LI SA
IN ack ES ES SS SR FW TW CL CW CL LI SA
IN rst CL CL CL SR CL CL CL CL LA LI CL
OUT syn SS ES SS SA SS SS SS SS SS LI SA
INONLY syn SA ES ES SR SA SA SA SA SA SA SA
";

/// 3.4.
const SCTP: &str = "
IN d ES I1 IN CS CR CW CO CE ES SS SR SA RJ CL
IN i I1 IN IN CS CR CW CO CE ES SS SR SA IN IN
IN ia CW CW CW CS CR CO CO CE ES SS SR SA RJ CL
IN ce CR IN IN CR CR CW CO CE ES SS SR SA RJ CL
IN ca ES I1 IN CS CR CW CO ES ES SS SR SA RJ CL
IN s SR I1 IN CS CR CW CO CE SR SS SR SA RJ CL
IN sa CL IN IN CS CR CW CO CE ES CL SR CL RJ CL
IN sc CL CL CL CS CR CW CO CE ES SS SR CL RJ CL
IN e CL I1 IN CS CR CW CO CL ES SS SR SA RJ CL
IN a CL CL CL CL CL RJ CL CL CL CL CL CL CL CL
OUT d ES I1 IN CS CR CW CO CE ES SS SR SA RJ CL
OUT i CW CW CW CW CW CW CW CW ES CW CW CW CW CW
OUT ia CS CS CS CS CR CW CO CE ES SS SR SA RJ CL
OUT ce CE CE CE CE CE CE CE CE ES SS SR SA RJ CL
OUT ca ES ES ES ES ES ES ES ES ES SS SR SA RJ CL
OUT s SS SS SS SS SS SS SS SS SS SS SR SA RJ CL
OUT sa SA SA SA SA SA CW CO CE ES SA SA SA RJ CL
OUT sc CL I1 IN CS CR CW CO CE ES SS SR SA RJ CL
OUT e CL CL CL CL CL CW CO CE ES SS SR SA RJ CL
OUT a CL RJ CL CL CL CL CL CL CL CL CL CL CL CL
INONLY d ES I1 IN CS CR ES CO CE ES SS SR SA RJ CL
INONLY i I1 IN IN IN IN IN CO CE ES SS SR SA IN IN
INONLY ia CE CE CE CE CE CE CO CE ES SS SR SA RJ CL
INONLY ce ES ES ES ES ES ES CO CE ES SS SR SA RJ CL
INONLY ca ES I1 IN ES ES CW ES ES ES SS SR SA RJ CL
INONLY s SR I1 IN CS CR CW CO CE SR SS SR SA RJ CL
INONLY sa CL IN IN CS CR CW CO CE CL CL SR CL RJ CL
INONLY sc CL CL CL CL CL CW CO CE ES SS CL CL RJ CL
INONLY e CL I1 IN CS CR CW CO CE ES SS SR SA RJ CL
INONLY a CL CL CL CL CL RJ CL CL CL CL CL CL CL CL
";

/// The state after `event` (`syn`, `fin`, `ack`, `rst`; the abbreviations of 3.4 for SCTP), by the
/// text.
pub(crate) fn after(state: State, path: Path, event: &str, secure: bool) -> State {
    let way = match path {
        Path::Input => "IN",
        Path::Output => "OUT",
        Path::InputOnly => "INONLY",
    };
    let find = |table: &str, column: usize| {
        table.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(way) && words.next() == Some(event)).then(|| {
                words
                    .nth(column)
                    .expect("a row has every column")
                    .to_owned()
            })
        })
    };
    match state {
        State::Udp => state,
        State::Tcp(state) => {
            let column = position(&TCP_STATES, state);
            let differs = secure.then(|| find(SECURE, column)).flatten();
            let next = differs.or_else(|| find(TCP, column)).expect(event);
            State::Tcp(named(&TCP_STATES, &next))
        }
        State::Sctp(state) => {
            let next = find(SCTP, position(&SCTP_STATES, state)).expect(event);
            State::Sctp(named(&SCTP_STATES, &next))
        }
    }
}

fn position<S: Copy + PartialEq>(states: &[(&str, S)], state: S) -> usize {
    let found = states.iter().position(|(_, other)| *other == state);
    found.expect("every state is listed")
}

fn named<S: Copy>(states: &[(&str, S)], name: &str) -> S {
    let found = states.iter().find(|(other, _)| *other == name);
    found.expect("the text names states").1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::state::Signal;
    use crate::connection::{SctpEvent, TcpTable};

    const PATHS: [Path; 3] = [Path::Input, Path::Output, Path::InputOnly];

    #[test]
    fn every_cell_of_the_tcp_tables_is_the_notes() {
        for (secure, table) in [(false, TcpTable::Normal), (true, TcpTable::Secure)] {
            for (_, state) in TCP_STATES {
                for path in PATHS {
                    for (event, flags) in [("syn", 2), ("fin", 1), ("ack", 16), ("rst", 4)] {
                        let state = State::Tcp(state);
                        assert_eq!(
                            state.after(path, Signal::Tcp(flags), table),
                            after(state, path, event, secure),
                            "{state} {path:?} {event} {table:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_cell_of_the_three_sctp_tables_is_the_notes() {
        use SctpEvent::*;
        let events = [
            ("d", Data),
            ("i", Init),
            ("ia", InitAck),
            ("ce", CookieEcho),
            ("ca", CookieAck),
            ("s", Shutdown),
            ("sa", ShutdownAck),
            ("sc", ShutdownComplete),
            ("e", Error),
            ("a", Abort),
        ];
        for (_, state) in SCTP_STATES {
            for path in PATHS {
                for (name, event) in events {
                    let state = State::Sctp(state);
                    assert_eq!(
                        state.after(path, Signal::Sctp(event), TcpTable::Normal),
                        after(state, path, name, false),
                        "{state} {path:?} {name}"
                    );
                }
            }
        }
    }
}
