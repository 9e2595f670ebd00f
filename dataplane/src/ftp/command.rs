//! The client's side of a control connection: what of it announces data connections.
//!
//! `PORT h1,h2,h3,h4,p1,p2` (RFC 959) and `EPRT |family|address|port|` (RFC 2428) ask the server to
//! connect; `PASV` and `EPSV` ask it to listen. Commands are lines, in any case of letters, and may
//! be split over segments anywhere.

use arrayvec::ArrayVec;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str;

/// Longest line looked at, in bytes without its end; any that matters is shorter
/// (`EPRT |2|` + 45 bytes of address + `|65535|`). Longer ones are some other command.
pub const LONGEST: usize = 72;

/// A command that matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// The server is to connect to this address and port.
    Active(SocketAddr),
    /// The server is to listen and say where.
    Passive,
    /// One of them with arguments that make no sense.
    Malformed,
}

/// Collects the client's bytes into lines.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    line: ArrayVec<u8, LONGEST>,
    /// The line at hand is too long to matter.
    overlong: bool,
}

impl Commands {
    /// Takes the next byte of the stream; the command, if the byte ends one.
    pub fn next(&mut self, byte: u8) -> Option<Command> {
        if byte != b'\n' {
            if self.line.try_push(byte).is_err() {
                self.overlong = true;
            }
            return None;
        }
        let command = if self.overlong {
            None
        } else {
            parse(&self.line)
        };
        self.line.clear();
        self.overlong = false;
        command
    }
}

/// The command in a line.
fn parse(line: &[u8]) -> Option<Command> {
    let line = line.trim_ascii();
    let (verb, argument) = line.split_at_checked(4)?;
    let spaced = argument.first().is_none_or(|byte| *byte == b' ');
    if !spaced {
        return None;
    }
    let argument = argument.trim_ascii();
    let active =
        |target: Option<SocketAddr>| Some(target.map_or(Command::Malformed, Command::Active));
    if verb.eq_ignore_ascii_case(b"PORT") {
        active(parse_port(argument))
    } else if verb.eq_ignore_ascii_case(b"EPRT") {
        active(parse_eprt(argument))
    } else if verb.eq_ignore_ascii_case(b"PASV") {
        Some(Command::Passive)
    } else if verb.eq_ignore_ascii_case(b"EPSV") {
        // `EPSV ALL` promises to use nothing else; it asks for no port.
        (!argument.eq_ignore_ascii_case(b"ALL")).then_some(Command::Passive)
    } else {
        None
    }
}

/// Six numbers, separated by commas.
fn parse_port(argument: &[u8]) -> Option<SocketAddr> {
    let mut numbers = [0; 6];
    let mut fields = argument.split(|byte| *byte == b',');
    for number in &mut numbers {
        *number = decimal(fields.next()?)?;
    }
    if fields.next().is_some() {
        return None;
    }
    let [a, b, c, d, high, low] = numbers;
    let port = u16::from_be_bytes([high, low]);
    Some((Ipv4Addr::new(a, b, c, d), port).into())
}

/// Family, address and port between four delimiters, which may be any printable character.
fn parse_eprt(argument: &[u8]) -> Option<SocketAddr> {
    let (delimiter, rest) = argument.split_first()?;
    if !(33..=126).contains(delimiter) {
        return None;
    }
    let mut fields = rest.split(|byte| byte == delimiter);
    let family = fields.next()?;
    let address: IpAddr = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let port: u16 = decimal(fields.next()?)?;
    let ends = fields.next()?.is_empty() && fields.next().is_none();
    let fits = matches!(
        (family, address),
        (b"1", IpAddr::V4(_)) | (b"2", IpAddr::V6(_))
    );
    (ends && fits).then_some((address, port).into())
}

/// A decimal number of nothing but digits.
fn decimal<N: str::FromStr>(digits: &[u8]) -> Option<N> {
    let only = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| only)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(bytes: &[u8]) -> Vec<Command> {
        let mut lines = Commands::default();
        bytes.iter().filter_map(|byte| lines.next(*byte)).collect()
    }

    #[test]
    fn the_commands_that_announce_data_connections_are_read() {
        let active = |text: &str| vec![Command::Active(text.parse().unwrap())];
        assert_eq!(
            commands(b"PORT 10,0,1,100,19,136\r\n"),
            active("10.0.1.100:5000")
        );
        assert_eq!(commands(b"port 10,0,1,100,0,20\n"), active("10.0.1.100:20"));
        assert_eq!(
            commands(b"EPRT |1|10.0.1.100|6275|\r\n"),
            active("10.0.1.100:6275")
        );
        assert_eq!(
            commands(b"EPRT #2#fd00::7#6275#\r\n"),
            active("[fd00::7]:6275")
        );
        assert_eq!(commands(b"PASV\r\n"), [Command::Passive]);
        assert_eq!(commands(b"EPSV\r\n"), [Command::Passive]);
        assert_eq!(commands(b"EPSV 1\r\n"), [Command::Passive]);
    }

    #[test]
    fn other_lines_announce_nothing() {
        for line in [
            &b"USER anonymous\r\n"[..],
            b"PASVX\r\n",
            b"PORTER 1,2,3,4,5,6\r\n",
            b"EPSV ALL\r\n",
            b"RETR PORT 10,0,1,100,19,136\r\n",
            b"\r\n",
            b"PAS\n",
            b"PORT 10,0,1,100,19,136",
        ] {
            assert_eq!(commands(line), [], "{}", line.escape_ascii());
        }
    }

    #[test]
    fn absurd_arguments_are_malformed() {
        for line in [
            &b"PORT\r\n"[..],
            b"PORT 10,0,1,100,19\r\n",
            b"PORT 10,0,1,100,19,136,1\r\n",
            b"PORT 10,0,1,256,19,136\r\n",
            b"PORT 10,0,1,+1,19,136\r\n",
            b"PORT 10,0,1,,19,136\r\n",
            b"PORT 99999999999999999999,0,1,1,19,136\r\n",
            b"EPRT |1|10.0.1.100|65536|\r\n",
            b"EPRT |2|10.0.1.100|6275|\r\n",
            b"EPRT |1|10.0.1.100|6275\r\n",
            b"EPRT |1|10.0.1.100|6275|x\r\n",
            b"EPRT |1||6275|\r\n",
            b"EPRT\r\n",
            b"EPRT |\r\n",
            b"EPRT \xff1\xff10.0.1.100\xff6275\xff\r\n",
        ] {
            assert_eq!(
                commands(line),
                [Command::Malformed],
                "{}",
                line.escape_ascii()
            );
        }
    }

    #[test]
    fn a_line_beyond_all_bounds_is_ignored_and_the_next_one_read() {
        let mut bytes = vec![b'A'; 100_000];
        bytes.extend_from_slice(b"\r\nPASV\r\n");
        assert_eq!(commands(&bytes), [Command::Passive]);
        // Not read from its middle either.
        let mut bytes = vec![b' '; LONGEST];
        bytes.extend_from_slice(b"PASV\r\n");
        assert_eq!(commands(&bytes), []);
    }
}
