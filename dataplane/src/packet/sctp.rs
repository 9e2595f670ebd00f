//! SCTP common header (RFC 9260 3.1), the type of its first chunk, and CRC32c (appendix A).
//!
//! ```text
//! |     Source Port Number        |     Destination Port Number   |
//! |                      Verification Tag                         |
//! |                           Checksum                            |
//! |   Chunk Type  | Chunk Flags   |        Chunk Length           |
//! ```
//!
//! CRC32c is linear: two packets of one length whose bytes differ by `d` have checksums that differ
//! by the bare remainder of `d`. [`Crc32c::shifted`] uses that to correct the checksum for new ports
//! without reading the packet, and a wrong checksum stays as wrong as it was.

use super::bytes::{load16, load32, store16, store32};

/// Length of the common header.
pub const LEN: usize = 12;
/// Chunk type: opens an association.
pub const INIT: u8 = 1;
/// Chunk type: aborts an association.
pub const ABORT: u8 = 6;

pub(super) mod field {
    pub(in crate::packet) const SOURCE_PORT: usize = 0;
    pub(in crate::packet) const DESTINATION_PORT: usize = 2;
    pub(in crate::packet) const VERIFICATION_TAG: usize = 4;
    pub(in crate::packet) const CHECKSUM: usize = 8;
}

/// The common header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// The tag the receiver chose for the association; 0 with INIT.
    pub verification_tag: u32,
    /// CRC32c as it lies in the header: least significant byte first on the wire.
    pub checksum: u32,
}

impl Header {
    /// Reads the header without judging it.
    #[inline]
    pub fn read(header: &[u8; LEN]) -> Self {
        Self {
            source_port: load16(header, field::SOURCE_PORT),
            destination_port: load16(header, field::DESTINATION_PORT),
            verification_tag: load32(header, field::VERIFICATION_TAG),
            checksum: load32(header, field::CHECKSUM).swap_bytes(),
        }
    }

    /// Writes the header, the checksum as given.
    #[inline]
    pub fn write(self, header: &mut [u8; LEN]) {
        store16(header, field::SOURCE_PORT, self.source_port);
        store16(header, field::DESTINATION_PORT, self.destination_port);
        store32(header, field::VERIFICATION_TAG, self.verification_tag);
        store32(header, field::CHECKSUM, self.checksum.swap_bytes());
    }
}

/// The type of the first chunk of a packet that starts with the common header.
pub fn first_chunk(packet: &[u8]) -> Option<u8> {
    packet.get(LEN).copied()
}

/// The register of a CRC32c, least significant bit first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Crc32c(u32);

impl Crc32c {
    /// The CRC32c of `bytes` as a checksum.
    pub fn checksum(pieces: &[&[u8]]) -> u32 {
        let register = pieces
            .iter()
            .fold(Self(u32::MAX), |register, piece| register.add(piece));
        !register.0
    }

    /// By how much (XOR) the checksum of a packet changes when `difference` (old XOR new) is applied
    /// to its first four bytes; `behind` bytes follow those four.
    pub fn shifted(difference: [u8; 4], behind: usize) -> u32 {
        let mut register = Self(0).add(&difference).0;
        // A zero byte multiplies the register by x^8: square and multiply instead of 8 steps a byte.
        let mut count = behind;
        for power in POWERS {
            if count == 0 {
                break;
            }
            if count & 1 != 0 {
                register = multiply(power, register);
            }
            count >>= 1;
        }
        register
    }

    fn add(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |register, byte| {
            register >> 8 ^ TABLE[usize::from(register as u8 ^ byte)]
        }))
    }
}

/// The Castagnoli polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut register = index as u32;
        let mut bit = 0;
        while bit < 8 {
            register = times_x(register);
            bit += 1;
        }
        table[index] = register;
        index += 1;
    }
    table
};

/// `POWERS[k]` is x^(8 * 2^k); 17 of them shift over any IP datagram.
const POWERS: [u32; 17] = {
    let mut powers = [0; 17];
    // The most significant bit is x^0.
    powers[0] = 1 << (31 - 8);
    let mut k = 1;
    while k < powers.len() {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

/// One step of the register: multiplication by x.
const fn times_x(register: u32) -> u32 {
    register >> 1 ^ if register & 1 != 0 { POLYNOMIAL } else { 0 }
}

/// Product of two polynomials modulo the CRC's.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut mask = 1u32 << 31;
    while mask != 0 {
        if a & mask != 0 {
            product ^= b;
        }
        b = times_x(b);
        mask >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_header_reads_and_writes_literal_bytes() {
        let bytes = [0x0b, 0x59, 0x00, 0x50, 1, 2, 3, 4, 0x78, 0x56, 0x34, 0x12];
        let header = Header {
            source_port: 2905,
            destination_port: 80,
            verification_tag: 0x0102_0304,
            checksum: 0x1234_5678,
        };
        assert_eq!(Header::read(&bytes), header);
        let mut written = [0; LEN];
        header.write(&mut written);
        assert_eq!(written, bytes);
    }

    #[test]
    fn crc32c_gives_the_check_values_of_rfc_3720() {
        assert_eq!(Crc32c::checksum(&[b"123456789"]), 0xe306_9283);
        assert_eq!(Crc32c::checksum(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(Crc32c::checksum(&[&[0xff; 16], &[0xff; 16]]), 0x62a8_ab43);
    }

    #[test]
    fn the_first_chunk_follows_the_header() {
        assert_eq!(
            first_chunk(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
            Some(INIT)
        );
        assert_eq!(first_chunk(&[0; 12]), None);
    }

    proptest! {
        #[test]
        fn shifting_a_difference_equals_computing_again(
            mut packet in prop::collection::vec(any::<u8>(), 4..300),
            difference in any::<[u8; 4]>(),
        ) {
            let before = Crc32c::checksum(&[&packet]);
            for (byte, change) in packet.iter_mut().zip(difference) {
                *byte ^= change;
            }
            let shifted = Crc32c::shifted(difference, packet.len() - 4);
            prop_assert_eq!(before ^ shifted, Crc32c::checksum(&[&packet]));
        }
    }
}
