//! The server's side of a control connection: where it listens for a data connection.
//!
//! `227 text h1,h2,h3,h4,p1,p2` (RFC 959; clients must look for the first digit, RFC 1123 4.1.2.6)
//! and `229 text (|||port|)` (RFC 2428). The reader takes one byte at a time and never looks back,
//! so that an answer may be split over segments anywhere; it says where the address begins, before
//! it can know how it ends.

use std::net::Ipv4Addr;

/// What a byte of the server's stream means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Meaning {
    /// Nothing.
    Plain,
    /// It belongs to the address of a 227 reply; the first byte that does is the first digit.
    Address,
    /// It ends an answer: the address, if the answer tells one, and the port.
    Passive(Option<Ipv4Addr>, u16),
    /// It shows that the answer at hand makes no sense.
    Malformed,
}

/// Reads the server's stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replies {
    place: Place,
    /// Numbers complete so far: four of the address, one of the port.
    numbers: [u8; 5],
    complete: u8,
    /// The number at hand; 229 has one of 16 bits.
    number: u32,
    digits: u8,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Place {
    /// So many bytes of a code that matters were read; in the third, its last digit.
    #[default]
    LineStart,
    Second,
    Third,
    /// Behind the code; the digit is its last.
    Code(u8),
    /// In the text of a 227 reply, before the first digit.
    Text227,
    /// In its numbers.
    Numbers,
    /// In the text of a 229 reply, before the parenthesis.
    Text229,
    /// Behind the parenthesis: so many of this delimiter were read.
    Delimiters(u8, u8),
    /// In its port.
    Port(u8),
    /// In the rest of a line that does not matter, or no longer.
    Rest,
}

impl Replies {
    /// True if the next digit begins an address.
    pub fn is_before_address(&self) -> bool {
        self.place == Place::Text227
    }

    /// Takes the next byte of the stream.
    pub fn next(&mut self, byte: u8) -> Meaning {
        if byte == b'\n' {
            let ends = matches!(self.place, Place::Numbers) && self.complete == 5;
            let broken = matches!(
                self.place,
                Place::Numbers | Place::Delimiters(..) | Place::Port(_)
            );
            let meaning = if ends {
                self.end_numbers()
            } else if broken {
                Meaning::Malformed
            } else {
                Meaning::Plain
            };
            *self = Self::default();
            return meaning;
        }
        match self.place {
            Place::LineStart => self.expect(byte, b'2', Place::Second),
            Place::Second => self.expect(byte, b'2', Place::Third),
            Place::Third if matches!(byte, b'7' | b'9') => self.go(Place::Code(byte)),
            Place::Third => self.go(Place::Rest),
            // A hyphen instead would announce further lines.
            Place::Code(b'7') => self.expect(byte, b' ', Place::Text227),
            Place::Code(_) => self.expect(byte, b' ', Place::Text229),
            Place::Text227 if byte.is_ascii_digit() => {
                self.place = Place::Numbers;
                self.digit(byte)
            }
            Place::Text227 | Place::Rest => Meaning::Plain,
            Place::Numbers => self.in_numbers(byte),
            Place::Text229 => self.expect_sometime(byte, b'(', Place::Delimiters(0, 0)),
            Place::Delimiters(_, 0) if (33..=126).contains(&byte) && !byte.is_ascii_digit() => {
                self.go(Place::Delimiters(byte, 1))
            }
            Place::Delimiters(delimiter, 2) if byte == delimiter => self.go(Place::Port(delimiter)),
            Place::Delimiters(delimiter, count) if byte == delimiter => {
                self.go(Place::Delimiters(delimiter, count + 1))
            }
            Place::Delimiters(..) => self.malformed(),
            Place::Port(delimiter) if byte == delimiter && self.digits > 0 => {
                self.place = Place::Rest;
                match u16::try_from(self.number) {
                    Ok(port) => Meaning::Passive(None, port),
                    Err(_) => Meaning::Malformed,
                }
            }
            Place::Port(_) if byte.is_ascii_digit() && self.digits < 5 => {
                self.number = self.number * 10 + u32::from(byte - b'0');
                self.digits += 1;
                Meaning::Plain
            }
            Place::Port(_) => self.malformed(),
        }
    }

    fn in_numbers(&mut self, byte: u8) -> Meaning {
        match byte {
            b'0'..=b'9' => self.digit(byte),
            b',' if self.digits > 0 && self.complete < 5 => {
                self.numbers[usize::from(self.complete)] = self.number as u8;
                self.complete += 1;
                self.number = 0;
                self.digits = 0;
                // The comma behind the address is none of it.
                if self.complete < 4 {
                    Meaning::Address
                } else {
                    Meaning::Plain
                }
            }
            _ if self.complete == 5 => {
                let meaning = self.end_numbers();
                self.place = Place::Rest;
                meaning
            }
            _ => self.malformed(),
        }
    }

    fn digit(&mut self, byte: u8) -> Meaning {
        self.number = self.number * 10 + u32::from(byte - b'0');
        self.digits += 1;
        if self.digits > 3 || self.number > 255 {
            return self.malformed();
        }
        if self.complete < 4 {
            Meaning::Address
        } else {
            Meaning::Plain
        }
    }

    /// The answer at hand is over: six numbers, if the last has a digit.
    fn end_numbers(&self) -> Meaning {
        if self.digits == 0 {
            return Meaning::Malformed;
        }
        let [a, b, c, d, high] = self.numbers;
        let port = u16::from_be_bytes([high, self.number as u8]);
        Meaning::Passive(Some(Ipv4Addr::new(a, b, c, d)), port)
    }

    fn go(&mut self, place: Place) -> Meaning {
        self.place = place;
        Meaning::Plain
    }

    fn expect(&mut self, byte: u8, expected: u8, then: Place) -> Meaning {
        self.go(if byte == expected { then } else { Place::Rest })
    }

    fn expect_sometime(&mut self, byte: u8, expected: u8, then: Place) -> Meaning {
        if byte == expected {
            self.place = then;
        }
        Meaning::Plain
    }

    fn malformed(&mut self) -> Meaning {
        self.place = Place::Rest;
        Meaning::Malformed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers in a stream and the bytes marked as an address.
    fn read(bytes: &[u8]) -> (Vec<Meaning>, String) {
        let mut replies = Replies::default();
        let mut answers = Vec::new();
        let mut address = String::new();
        for byte in bytes {
            match replies.next(*byte) {
                Meaning::Plain => {}
                Meaning::Address => address.push(char::from(*byte)),
                answer => answers.push(answer),
            }
        }
        (answers, address)
    }

    fn passive(address: Option<[u8; 4]>, port: u16) -> Vec<Meaning> {
        vec![Meaning::Passive(address.map(Ipv4Addr::from), port)]
    }

    #[test]
    fn answers_of_real_servers_are_read() {
        let ours = Some([10, 0, 2, 11]);
        for (line, address, port) in [
            (
                &b"227 Entering Passive Mode (10,0,2,11,153,23).\r\n"[..],
                ours,
                39191,
            ),
            (
                b"227 Entering Passive Mode 10,0,2,11,153,23\r\n",
                ours,
                39191,
            ),
            (b"227 =10,0,2,11,153,23\n", ours, 39191),
            (
                b"229 Entering Extended Passive Mode (|||38903|)\r\n",
                None,
                38903,
            ),
            (b"229 ok (!!!1024!)\r\n", None, 1024),
        ] {
            let (answers, marked) = read(line);
            assert_eq!(answers, passive(address, port), "{}", line.escape_ascii());
            assert_eq!(marked, if address.is_some() { "10,0,2,11" } else { "" });
        }
    }

    #[test]
    fn other_lines_mean_nothing() {
        for line in [
            &b"220 hi 10,0,2,11,153,23\r\n"[..],
            b"226 done\r\n",
            b"227-Entering Passive Mode (10,0,2,11,153,23).\r\n",
            b" 227 Entering Passive Mode (10,0,2,11,153,23).\r\n",
            b"2277 (10,0,2,11,153,23)\r\n",
            b"229 no parenthesis |||38903|\r\n",
            b"227 no numbers\r\n",
        ] {
            let (answers, marked) = read(line);
            assert_eq!(
                (answers, marked.as_str()),
                (vec![], ""),
                "{}",
                line.escape_ascii()
            );
        }
    }

    #[test]
    fn absurd_answers_are_malformed_and_the_next_line_is_read() {
        for line in [
            &b"227 (10,0,2,11,153)\r\n"[..],
            b"227 (10,0,2,256,153,23)\r\n",
            b"227 (10,0,2,1111,153,23)\r\n",
            b"227 (10,0,2,11,153,)\r\n",
            b"227 (10,0,2,11,153,23,9)\r\n".get(..14).unwrap(),
            b"227 (10..0)\r\n",
            b"229 (|||65536|)\r\n",
            b"229 (|||999999|)\r\n",
            b"229 (|||)\r\n",
            b"229 (|1|10.0.2.11|38903|)\r\n",
            b"229 (111389031)\r\n",
        ] {
            let mut bytes = line.to_vec();
            if !bytes.ends_with(b"\n") {
                bytes.push(b'\n');
            }
            assert_eq!(
                read(&bytes).0,
                [Meaning::Malformed],
                "{}",
                line.escape_ascii()
            );
            bytes.extend_from_slice(b"229 (|||38903|)\r\n");
            assert_eq!(read(&bytes).0[1..], passive(None, 38903)[..]);
        }
    }
}
