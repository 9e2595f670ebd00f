//! TCP header (RFC 9293 3.1), without its options.
//!
//! ```text
//! |          Source Port          |       Destination Port        |
//! |                        Sequence Number                        |
//! |                    Acknowledgment Number                      |
//! | Offset| Rsrvd |C E U A P R S F|            Window             |
//! |           Checksum            |         Urgent Pointer        |
//! ```

use super::bytes::{load16, load32, store16, store32};

/// Length of the header without options.
pub const LEN: usize = 20;
/// Flag: no more data from the sender.
pub const FIN: u8 = 0x01;
/// Flag: synchronize sequence numbers.
pub const SYN: u8 = 0x02;
/// Flag: reset the connection.
pub const RST: u8 = 0x04;
/// Flag: push.
pub const PSH: u8 = 0x08;
/// Flag: the acknowledgment number counts.
pub const ACK: u8 = 0x10;
/// Flag: the urgent pointer counts.
pub const URG: u8 = 0x20;
/// Flag: ECN echo.
pub const ECE: u8 = 0x40;
/// Flag: congestion window reduced.
pub const CWR: u8 = 0x80;

pub(super) mod field {
    pub(in crate::packet) const SOURCE_PORT: usize = 0;
    pub(in crate::packet) const DESTINATION_PORT: usize = 2;
    pub(in crate::packet) const SEQUENCE: usize = 4;
    pub(in crate::packet) const ACKNOWLEDGMENT: usize = 8;
    pub(in crate::packet) const DATA_OFFSET: usize = 12;
    pub(in crate::packet) const FLAGS: usize = 13;
    pub(in crate::packet) const WINDOW: usize = 14;
    pub(in crate::packet) const CHECKSUM: usize = 16;
    pub(in crate::packet) const URGENT: usize = 18;
}

/// The fixed part of the header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// Length of the header with options in bytes, 20 to 60 in a legal header.
    pub header_length: u8,
    /// Flags, see [`SYN`] and its neighbours.
    pub flags: u8,
    /// Receive window.
    pub window: u16,
    /// Checksum over pseudo header, header and data.
    pub checksum: u16,
    /// Urgent pointer.
    pub urgent: u16,
}

impl Header {
    /// Reads the fixed part of the header without judging it.
    #[inline]
    pub fn read(header: &[u8; LEN]) -> Self {
        Self {
            source_port: load16(header, field::SOURCE_PORT),
            destination_port: load16(header, field::DESTINATION_PORT),
            sequence: load32(header, field::SEQUENCE),
            acknowledgment: load32(header, field::ACKNOWLEDGMENT),
            header_length: (header[field::DATA_OFFSET] >> 4) * 4,
            flags: header[field::FLAGS],
            window: load16(header, field::WINDOW),
            checksum: load16(header, field::CHECKSUM),
            urgent: load16(header, field::URGENT),
        }
    }

    /// Writes the fixed part of the header, the checksum as given.
    #[inline]
    pub fn write(self, header: &mut [u8; LEN]) {
        store16(header, field::SOURCE_PORT, self.source_port);
        store16(header, field::DESTINATION_PORT, self.destination_port);
        store32(header, field::SEQUENCE, self.sequence);
        store32(header, field::ACKNOWLEDGMENT, self.acknowledgment);
        header[field::DATA_OFFSET] = (self.header_length / 4) << 4;
        header[field::FLAGS] = self.flags;
        store16(header, field::WINDOW, self.window);
        store16(header, field::CHECKSUM, self.checksum);
        store16(header, field::URGENT, self.urgent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_reads_and_writes_literal_bytes() {
        // The recorded SYN 10.0.1.100.59662 > 10.0.1.50.81, its checksum as tcpdump corrects it.
        let bytes = [
            0xe9, 0x0e, 0x00, 0x51, 0x7f, 0x71, 0x27, 0xcd, 0, 0, 0, 0, 0xa0, 0x02, 0xfa, 0xf0,
            0x7c, 0xa4, 0, 0,
        ];
        let header = Header {
            source_port: 59662,
            destination_port: 81,
            sequence: 2_138_122_189,
            acknowledgment: 0,
            header_length: 40,
            flags: SYN,
            window: 64240,
            checksum: 0x7ca4,
            urgent: 0,
        };
        assert_eq!(Header::read(&bytes), header);
        let mut written = [0; LEN];
        header.write(&mut written);
        assert_eq!(written, bytes);
    }

    #[test]
    fn every_flag_is_a_bit_of_its_own() {
        let all = [FIN, SYN, RST, PSH, ACK, URG, ECE, CWR];
        assert_eq!(all.iter().fold(0, |sum, flag| sum ^ flag), 0xff);
    }
}
