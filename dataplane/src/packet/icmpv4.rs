//! ICMP header (RFC 792).
//!
//! ```text
//! |     Type      |     Code      |          Checksum             |
//! |          depends on the type (unused, MTU, id and sequence)   |
//! ```

use super::bytes::{load, load16, store, store16};

/// Length of the header.
pub const LEN: usize = 8;

/// Type: echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Type: destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Type: source quench (deprecated by RFC 6633).
pub const SOURCE_QUENCH: u8 = 4;
/// Type: redirect.
pub const REDIRECT: u8 = 5;
/// Type: echo request.
pub const ECHO: u8 = 8;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Type: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Code of [`UNREACHABLE`]: no route to the network.
pub const NETWORK: u8 = 0;
/// Code of [`UNREACHABLE`]: the host does not answer.
pub const HOST: u8 = 1;
/// Code of [`UNREACHABLE`]: nobody listens on the port.
pub const PORT: u8 = 3;
/// Code of [`UNREACHABLE`]: too big and DF is set.
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Code of [`UNREACHABLE`]: forbidden by a filter.
pub const PROHIBITED: u8 = 13;
/// Code of [`TIME_EXCEEDED`]: the TTL ran out.
pub const IN_TRANSIT: u8 = 0;

pub(super) mod field {
    pub(in crate::packet) const TYPE: usize = 0;
    pub(in crate::packet) const CODE: usize = 1;
    pub(in crate::packet) const CHECKSUM: usize = 2;
    pub(in crate::packet) const REST: usize = 4;
}

/// The header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Type.
    pub kind: u8,
    /// Code within the type.
    pub code: u8,
    /// Checksum over header and data.
    pub checksum: u16,
    /// The word that depends on the type.
    pub rest: [u8; 4],
}

impl Header {
    /// Reads the header without judging it.
    #[inline]
    pub fn read(header: &[u8; LEN]) -> Self {
        Self {
            kind: header[field::TYPE],
            code: header[field::CODE],
            checksum: load16(header, field::CHECKSUM),
            rest: load(header, field::REST),
        }
    }

    /// Writes the header, the checksum as given.
    #[inline]
    pub fn write(self, header: &mut [u8; LEN]) {
        header[field::TYPE] = self.kind;
        header[field::CODE] = self.code;
        store16(header, field::CHECKSUM, self.checksum);
        store(header, field::REST, self.rest);
    }
}

/// Whether the message is a query or its answer. Everything else counts as an error, unknown types
/// too, so that no error is sent about it (RFC 1122 3.2.2).
pub fn is_query(kind: u8) -> bool {
    // Echo, router discovery, timestamp, information, address mask; extended echo of RFC 8335.
    matches!(kind, ECHO_REPLY | ECHO | 9 | 10 | 13..=18 | 42 | 43)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_reads_and_writes_literal_bytes() {
        let bytes = [3, 4, 0x12, 0x34, 0, 0, 0x05, 0x78];
        let header = Header {
            kind: UNREACHABLE,
            code: FRAGMENTATION_NEEDED,
            checksum: 0x1234,
            rest: [0, 0, 5, 0x78],
        };
        assert_eq!(Header::read(&bytes), header);
        let mut written = [0; LEN];
        header.write(&mut written);
        assert_eq!(written, bytes);
    }

    #[test]
    fn errors_and_unknown_types_are_no_queries() {
        for kind in [
            UNREACHABLE,
            SOURCE_QUENCH,
            REDIRECT,
            TIME_EXCEEDED,
            PARAMETER_PROBLEM,
            200,
        ] {
            assert!(!is_query(kind), "{kind}");
        }
        assert!(is_query(ECHO));
        assert!(is_query(ECHO_REPLY));
    }
}
