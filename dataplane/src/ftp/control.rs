//! One control connection: both its streams, and what they announce.

use super::LOWEST_DATA_PORT;
use super::command::{Command, Commands};
use super::reply::{Meaning, Replies};
use super::shift::{LONGEST_TEXT, Shift, is_before};
use arrayvec::ArrayString;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What a stream announces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Announced {
    /// The server will connect to this port of the client.
    Active(u16),
    /// The client will connect to this port of the server, and so of the VIP.
    Passive(u16),
    /// Something nobody is let in for: another host's address, a privileged port, an answer to no
    /// question, nonsense.
    Refused,
}

/// A segment must not go on: bytes before it are missing, or those before it must be acknowledged
/// first. Its sender will send it again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused;

/// Who talks over the connection.
#[derive(Clone, Copy, Debug)]
pub struct Parties {
    /// The client.
    pub client: IpAddr,
    /// Whom the client talks to.
    pub vip: IpAddr,
    /// The real server.
    pub server: IpAddr,
}

/// State of one control connection.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// The client's next new byte; `None` before its first.
    client_next: Option<u32>,
    /// The server's next new byte.
    server_next: Option<u32>,
    commands: Commands,
    replies: Replies,
    /// The client has asked where to connect to, and not been told yet.
    asked: bool,
    /// The address at hand is being replaced.
    replacing: bool,
    shift: Shift,
}

impl Control {
    /// How the server's sequence numbers look to the client.
    pub fn shift(&self) -> &Shift {
        &self.shift
    }

    /// The client has sent its SYN: its first byte will have this number.
    pub fn client_begins(&mut self, start: u32) {
        self.client_next = Some(start);
    }

    /// The server has sent its SYN: its first byte will have this number.
    pub fn server_begins(&mut self, start: u32) {
        self.server_next = Some(start);
    }

    /// Takes a segment of the client: its sequence number, that of its first payload byte, is
    /// `start`; `acknowledged` is its acknowledgment in the server's numbers, if it has one.
    ///
    /// # Errors
    /// [`Refused`] if bytes before it are missing.
    pub fn client_segment(
        &mut self,
        start: u32,
        payload: &[u8],
        acknowledged: Option<u32>,
        parties: &Parties,
        mut announce: impl FnMut(Announced),
    ) -> Result<(), Refused> {
        if let Some(acknowledged) = acknowledged {
            self.shift.acknowledge(acknowledged);
        }
        let new = new_bytes(&mut self.client_next, start, payload)?;
        for byte in new {
            match self.commands.next(*byte) {
                None => {}
                Some(Command::Passive) => self.asked = true,
                Some(Command::Active(to)) => announce(active(to, parties)),
                Some(Command::Malformed) => announce(Announced::Refused),
            }
        }
        if !payload.is_empty() {
            self.client_next = Some(after(self.client_next, start, payload.len()));
        }
        Ok(())
    }

    /// Takes a segment of the server. Returns how much of the payload may go on; the rest, if
    /// any, its sender will send again. What is to be changed in it, [`Shift::change`] says.
    ///
    /// # Errors
    /// [`Refused`] if bytes before it are missing, or nothing of it may go on yet.
    pub fn server_segment(
        &mut self,
        start: u32,
        payload: &[u8],
        parties: &Parties,
        mut announce: impl FnMut(Announced),
    ) -> Result<usize, Refused> {
        let new = new_bytes(&mut self.server_next, start, payload)?;
        let old = payload.len() - new.len();
        for (index, byte) in new.iter().enumerate() {
            let before = self.replies;
            let meaning = self.replies.next(*byte);
            if meaning == Meaning::Address && !self.replacing && self.asked {
                // The first digit, or a later one of an address that is not the server's.
                let first = before.is_before_address();
                if let Some(text) = first.then(|| replacement(&new[index..], parties)).flatten() {
                    if !self.shift.may_begin() {
                        self.replies = before;
                        let kept = old + index;
                        self.server_next = Some(after(self.server_next, start, kept));
                        return if kept == 0 { Err(Refused) } else { Ok(kept) };
                    }
                    self.shift
                        .begin(start.wrapping_add((old + index) as u32), text);
                    self.replacing = true;
                }
            }
            match meaning {
                Meaning::Address if self.replacing => self.shift.extend(),
                Meaning::Address => {}
                Meaning::Plain => self.replacing = false,
                Meaning::Malformed => {
                    self.replacing = false;
                    announce(Announced::Refused);
                }
                Meaning::Passive(address, port) => {
                    self.replacing = false;
                    announce(self.passive(address, port, parties));
                    self.asked = false;
                }
            }
        }
        if !payload.is_empty() {
            self.server_next = Some(after(self.server_next, start, payload.len()));
        }
        Ok(payload.len())
    }

    fn passive(&self, address: Option<Ipv4Addr>, port: u16, parties: &Parties) -> Announced {
        let at_home = address.is_none_or(|address| {
            let address = IpAddr::V4(address);
            address == parties.server || address == parties.vip
        });
        if self.asked && at_home && port >= LOWEST_DATA_PORT {
            Announced::Passive(port)
        } else {
            Announced::Refused
        }
    }
}

fn active(to: SocketAddr, parties: &Parties) -> Announced {
    if to.ip() == parties.client && to.port() >= LOWEST_DATA_PORT {
        Announced::Active(to.port())
    } else {
        Announced::Refused
    }
}

/// The part of `payload` not seen yet.
fn new_bytes<'a>(
    next: &mut Option<u32>,
    start: u32,
    payload: &'a [u8],
) -> Result<&'a [u8], Refused> {
    if payload.is_empty() {
        return Ok(payload);
    }
    // Whoever comes into a connection under way begins where it is.
    let expected = *next.get_or_insert(start);
    if is_before(expected, start) {
        return Err(Refused);
    }
    let seen = expected.wrapping_sub(start) as usize;
    Ok(payload.get(seen..).unwrap_or_default())
}

/// The next new byte after `length` bytes from `start` on were taken.
fn after(next: Option<u32>, start: u32, length: usize) -> u32 {
    let end = start.wrapping_add(length as u32);
    match next {
        Some(next) if is_before(end, next) => next,
        Some(_) | None => end,
    }
}

/// What the address that begins here is replaced by, if it is the server's, as far as can be seen.
fn replacement(text: &[u8], parties: &Parties) -> Option<ArrayString<LONGEST_TEXT>> {
    let server = comma_separated(parties.server)?;
    let vip = comma_separated(parties.vip)?;
    let seen = text.len().min(server.len());
    let is_server = text[..seen] == server.as_bytes()[..seen]
        && text.get(server.len()).is_none_or(|next| *next == b',');
    (is_server && server != vip).then_some(vip)
}

fn comma_separated(address: IpAddr) -> Option<ArrayString<LONGEST_TEXT>> {
    let IpAddr::V4(address) = address else {
        return None;
    };
    let [a, b, c, d] = address.octets();
    let mut text = ArrayString::new();
    write!(text, "{a},{b},{c},{d}").ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARTIES: Parties = Parties {
        client: IpAddr::V4(Ipv4Addr::new(10, 0, 1, 100)),
        vip: IpAddr::V4(Ipv4Addr::new(192, 168, 100, 150)),
        server: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 11)),
    };

    /// A client that asks, a server that answers in pieces, and what the client gets to see.
    struct Session {
        control: Control,
        client: u32,
        server: u32,
        announced: Vec<Announced>,
    }

    impl Session {
        fn new(client: u32, server: u32) -> Self {
            let mut control = Control::default();
            control.client_begins(client);
            control.server_begins(server);
            Self {
                control,
                client,
                server,
                announced: Vec::new(),
            }
        }

        fn client_sends(&mut self, text: &[u8]) {
            let announced = &mut self.announced;
            let sent = self
                .control
                .client_segment(self.client, text, None, &PARTIES, |a| announced.push(a));
            assert_eq!(sent, Ok(()));
            self.client = self.client.wrapping_add(text.len() as u32);
        }

        /// One segment; what of it arrives. The client acknowledges it.
        fn server_sends(&mut self, text: &[u8]) -> Vec<u8> {
            let announced = &mut self.announced;
            let start = self.server;
            let kept = self
                .control
                .server_segment(start, text, &PARTIES, |a| announced.push(a))
                .unwrap();
            let mut seen = text[..kept].to_vec();
            if let Some(change) = self.control.shift().change(start, kept) {
                seen.splice(
                    change.offset..change.offset + change.remove,
                    change.insert.bytes(),
                );
            }
            self.server = start.wrapping_add(kept as u32);
            let received = self
                .control
                .shift()
                .sequence(start)
                .wrapping_add(seen.len() as u32);
            let acknowledged = self.control.shift().acknowledgment(received);
            assert_eq!(acknowledged, self.server);
            let acked =
                self.control
                    .client_segment(self.client, &[], Some(acknowledged), &PARTIES, |_| {});
            assert_eq!(acked, Ok(()));
            seen
        }
    }

    #[test]
    fn a_passive_answer_shows_the_vip_and_announces_the_port() {
        let mut session = Session::new(1, u32::MAX - 20);
        for _ in 0..3 {
            session.client_sends(b"PASV\r\n");
            let seen = session.server_sends(b"227 Entering Passive Mode (10,0,2,11,153,23).\r\n");
            let expected = b"227 Entering Passive Mode (192,168,100,150,153,23).\r\n";
            assert_eq!(seen, expected);
        }
        assert_eq!(session.announced, [Announced::Passive(39191); 3]);
        let shift = session.control.shift();
        assert_eq!(
            shift.sequence(session.server),
            session.server.wrapping_add(18)
        );
    }

    #[test]
    fn an_answer_nobody_asked_for_opens_nothing() {
        let mut session = Session::new(1, 1);
        let line = b"227 Entering Passive Mode (10,0,2,11,153,23).\r\n";
        assert_eq!(session.server_sends(line), line);
        session.client_sends(b"EPSV\r\n");
        session.server_sends(b"229 (|||38903|)\r\n229 (|||38904|)\r\n");
        let refused = Announced::Refused;
        assert_eq!(
            session.announced,
            [refused, Announced::Passive(38903), refused]
        );
    }

    #[test]
    fn nobody_is_let_in_but_the_parties_and_not_to_privileged_ports() {
        let mut session = Session::new(1, 1);
        for line in [
            &b"PORT 10,0,1,101,19,136\r\n"[..],
            b"PORT 10,0,1,100,0,22\r\n",
            b"EPRT |1|10.0.2.11|5000|\r\n",
            b"EPRT |2|fd00::1|5000|\r\n",
            b"PORT 1,2\r\n",
        ] {
            session.client_sends(line);
        }
        for line in [
            &b"227 (10,0,2,12,153,23)\r\n"[..],
            b"227 (10,0,2,110,153,23)\r\n",
            b"227 (10,0,2,11,0,22)\r\n",
            b"229 (|||22|)\r\n",
        ] {
            session.client_sends(b"PASV\r\n");
            session.server_sends(line);
        }
        assert_eq!(session.announced, [Announced::Refused; 9]);
        session.client_sends(b"PORT 10,0,1,100,19,136\r\n");
        assert_eq!(session.announced[9], Announced::Active(5000));
    }

    #[test]
    fn a_server_that_knows_the_vip_is_left_alone() {
        let mut session = Session::new(1, 1);
        session.client_sends(b"PASV\r\n");
        let line = b"227 (192,168,100,150,153,23)\r\n";
        assert_eq!(session.server_sends(line), line);
        assert_eq!(session.announced, [Announced::Passive(39191)]);
    }

    #[test]
    fn bytes_out_of_order_are_refused_and_repeated_ones_announce_nothing() {
        let mut session = Session::new(100, 200);
        let late = session
            .control
            .client_segment(106, b"PASV\r\n", None, &PARTIES, |_| {});
        assert_eq!(late, Err(Refused));
        session.client_sends(b"PORT 10,0,1,100,19,136\r\n");
        session.client = 100;
        session.client_sends(b"PORT 10,0,1,100,19,136\r\nPASV\r\n");
        assert_eq!(session.announced, [Announced::Active(5000)]);
        assert!(session.control.asked);
        let late = session
            .control
            .server_segment(201, b"27 (10,0,2,11,1,1)", &PARTIES, |_| {});
        assert_eq!(late, Err(Refused));
    }

    #[test]
    fn a_second_answer_waits_until_the_client_has_the_first() {
        let mut session = Session::new(1, 1);
        let line = b"227 (10,0,2,11,153,23)\r\n";
        session.client_sends(b"PASV\r\n");
        let mut control = session.control.clone();
        assert_eq!(control.server_segment(1, line, &PARTIES, |_| {}), Ok(24));
        let asked = control.client_segment(7, b"PASV\r\n", None, &PARTIES, |_| {});
        assert_eq!(asked, Ok(()));
        // Up to the address, then nothing until the first is acknowledged.
        assert_eq!(control.server_segment(25, line, &PARTIES, |_| {}), Ok(5));
        let rest = &line[5..];
        assert_eq!(
            control.server_segment(30, rest, &PARTIES, |_| {}),
            Err(Refused)
        );
        let acknowledged = control.client_segment(13, &[], Some(30), &PARTIES, |_| {});
        assert_eq!(acknowledged, Ok(()));
        assert_eq!(
            control.server_segment(30, rest, &PARTIES, |_| {}),
            Ok(rest.len())
        );
    }

    proptest! {
        #[test]
        fn answers_split_anywhere_come_out_the_same(
            cuts in proptest::collection::vec(0_usize..120, 0..12),
            server: u32,
        ) {
            let mut session = Session::new(7, server);
            session.client_sends(b"PASV\r\n");
            let stream = b"220 x\r\n227 Entering Passive Mode (10,0,2,11,153,23).\r\n226 done\r\n";
            let mut edges: Vec<usize> = cuts.iter().map(|cut| cut % stream.len()).collect();
            edges.extend([0, stream.len()]);
            edges.sort_unstable();
            let mut seen = Vec::new();
            for pair in edges.windows(2) {
                seen.extend(session.server_sends(&stream[pair[0]..pair[1]]));
            }
            let expected =
                b"220 x\r\n227 Entering Passive Mode (192,168,100,150,153,23).\r\n226 done\r\n";
            prop_assert_eq!(seen, expected.to_vec());
            prop_assert_eq!(session.announced, [Announced::Passive(39191)]);
        }

        #[test]
        fn no_bytes_panic(
            segments in proptest::collection::vec(
                (any::<bool>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..20
            ),
        ) {
            let mut control = Control::default();
            for (client, number, bytes) in segments {
                // Small numbers, so that some fit together.
                let start = number % 64;
                if client {
                    let _ = control.client_segment(start, &bytes, Some(number), &PARTIES, |_| {});
                } else {
                    let _ = control.server_segment(start, &bytes, &PARTIES, |_| {});
                }
            }
        }
    }
}
