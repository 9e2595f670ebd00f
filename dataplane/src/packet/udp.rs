//! UDP header (RFC 768).
//!
//! ```text
//! |          Source Port          |       Destination Port        |
//! |            Length             |           Checksum            |
//! ```

use super::bytes::{load16, store16};

/// Length of the header.
pub const LEN: usize = 8;

pub(super) mod field {
    pub(in crate::packet) const SOURCE_PORT: usize = 0;
    pub(in crate::packet) const DESTINATION_PORT: usize = 2;
    pub(in crate::packet) const LENGTH: usize = 4;
    pub(in crate::packet) const CHECKSUM: usize = 6;
}

/// The header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// Length of header and data.
    pub length: u16,
    /// Checksum over pseudo header, header and data; `0` is none.
    pub checksum: u16,
}

impl Header {
    /// Reads the header without judging it.
    #[inline]
    pub fn read(header: &[u8; LEN]) -> Self {
        Self {
            source_port: load16(header, field::SOURCE_PORT),
            destination_port: load16(header, field::DESTINATION_PORT),
            length: load16(header, field::LENGTH),
            checksum: load16(header, field::CHECKSUM),
        }
    }

    /// Writes the header, the checksum as given.
    #[inline]
    pub fn write(self, header: &mut [u8; LEN]) {
        store16(header, field::SOURCE_PORT, self.source_port);
        store16(header, field::DESTINATION_PORT, self.destination_port);
        store16(header, field::LENGTH, self.length);
        store16(header, field::CHECKSUM, self.checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_reads_and_writes_literal_bytes() {
        // The inner datagram of the recorded IPIP packet.
        let bytes = [0xc8, 0xbb, 0x00, 0x63, 0x00, 0x16, 0x7b, 0x00];
        let header = Header {
            source_port: 51387,
            destination_port: 99,
            length: 22,
            checksum: 0x7b00,
        };
        assert_eq!(Header::read(&bytes), header);
        let mut written = [0; LEN];
        header.write(&mut written);
        assert_eq!(written, bytes);
    }
}
