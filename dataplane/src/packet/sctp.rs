//! SCTP common header and chunk headers (RFC 9260 3.1, 3.2), and CRC32c (appendix A).
//!
//! ```text
//! |     Source Port Number        |     Destination Port Number   |
//! |                      Verification Tag                         |
//! |                           Checksum                            |
//! |   Chunk Type  | Chunk Flags   |        Chunk Length           |
//! ```
//!
//! The checksum covers the packet alone, no pseudo header, so an address may change without it.
//! CRC32c is linear: two packets of one length whose bytes differ by `d` have checksums that differ
//! by the bare remainder of `d`. [`Crc32c::shifted`] uses that to correct the checksum for new ports
//! without reading the packet, and a wrong checksum stays as wrong as it was.

use super::bytes::{load16, load32, store16, store32};

/// Length of the common header.
pub const LEN: usize = 12;
/// Length of a chunk header.
pub const CHUNK_LEN: usize = 4;
/// Chunk type: opens an association.
pub const INIT: u8 = 1;
/// Chunk type: answers INIT.
pub const INIT_ACK: u8 = 2;
/// Chunk type: aborts an association.
pub const ABORT: u8 = 6;
/// Chunk type: begins an orderly end.
pub const SHUTDOWN: u8 = 7;
/// Chunk type: answers SHUTDOWN.
pub const SHUTDOWN_ACK: u8 = 8;
/// Chunk type: reports a mistake of the other end.
pub const ERROR: u8 = 9;
/// Chunk type: gives the server its cookie back.
pub const COOKIE_ECHO: u8 = 10;
/// Chunk type: the server took the cookie.
pub const COOKIE_ACK: u8 = 11;
/// Chunk type: the last word.
pub const SHUTDOWN_COMPLETE: u8 = 14;

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

/// The header of a chunk (RFC 9260 3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Chunk {
    /// What it is.
    pub kind: u8,
    /// Bytes, this header included, padding not.
    pub length: u16,
}

impl Chunk {
    fn read(header: [u8; CHUNK_LEN]) -> Self {
        Self {
            kind: header[0],
            length: load16(&header, 2),
        }
    }
}

/// The first chunk of a packet that starts with the common header, and the one behind it if there
/// is one. `None` if the first is not there in full or claims to be shorter than its own header;
/// its value may be cut off if the packet is a `fragment`.
///
/// Looks at two chunk headers, whatever the packet says.
#[inline]
pub fn first_chunks(packet: &[u8], fragment: bool) -> Option<(Chunk, Option<Chunk>)> {
    let first = Chunk::read(*packet.get(LEN..)?.first_chunk()?);
    let length = usize::from(first.length);
    if length < CHUNK_LEN || (!fragment && length > packet.len() - LEN) {
        return None;
    }
    let second = packet.get(LEN + length.next_multiple_of(4)..);
    let second = second.and_then(|rest| rest.first_chunk());
    Some((first, second.map(|header| Chunk::read(*header))))
}

/// True if the packet's checksum is right.
pub fn is_checksum_good(packet: &[u8]) -> bool {
    let Some((header, chunks)) = packet.split_first_chunk::<LEN>() else {
        return false;
    };
    let checksum = Header::read(header).checksum;
    let (covered, _) = header.split_at(field::CHECKSUM);
    Crc32c::checksum(&[covered, &[0; 4], chunks]) == checksum
}

/// CRC32c, bits reversed as everywhere in SCTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Crc32c;

impl Crc32c {
    /// The CRC32c of `pieces` one after the other as a checksum: by the CPU's instruction where it
    /// has one (SSE4.2: 1500 bytes in about 105 ns here).
    pub fn checksum(pieces: &[&[u8]]) -> u32 {
        let pieces = pieces.iter();
        pieces.fold(0, |checksum, piece| crc32c::crc32c_append(checksum, piece))
    }

    /// By how much (XOR) the checksum of a packet changes when `difference` (old XOR new) is applied
    /// to its first four bytes; `behind` bytes follow those four.
    pub fn shifted(difference: [u8; 4], behind: usize) -> u32 {
        let mut register = difference.iter().fold(0, |register, byte| {
            (0..8).fold(register ^ u32::from(*byte), |register, _| times_x(register))
        });
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
}

/// The Castagnoli polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

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

    /// A packet without checksum whose chunks are these bytes.
    fn packet(chunks: &[u8]) -> Vec<u8> {
        [&[0; LEN][..], chunks].concat()
    }

    #[test]
    fn the_first_chunk_follows_the_header_and_the_second_its_padding() {
        let chunk = |kind, length| Chunk { kind, length };
        let bundle = packet(&[10, 0, 0, 6, 1, 2, 0, 0, 6, 0, 0, 4]);
        let both = (chunk(COOKIE_ECHO, 6), Some(chunk(ABORT, 4)));
        assert_eq!(first_chunks(&bundle, false), Some(both));
        // The second one's header is cut off, or all of it.
        for end in [bundle.len() - 1, bundle.len() - 4] {
            let alone = Some((chunk(COOKIE_ECHO, 6), None));
            assert_eq!(first_chunks(&bundle[..end], false), alone);
        }
    }

    #[test]
    fn a_chunk_that_is_not_all_there_or_has_no_length_is_none() {
        for bad in [
            &[][..],
            &[1, 0, 0],
            &[1, 0, 0, 0],
            &[1, 0, 0, 3],
            &[1, 0, 0, 5],
            &[1, 0, 0xff, 0xff, 0, 0, 0, 0],
        ] {
            assert_eq!(first_chunks(&packet(bad), false), None, "{bad:?}");
        }
        let first = Chunk {
            kind: 0,
            length: 2000,
        };
        assert_eq!(
            first_chunks(&packet(&[0, 3, 7, 208]), true),
            Some((first, None))
        );
        assert_eq!(first_chunks(&packet(&[0, 3, 0, 0]), true), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_bad_and_only_the_right_checksum_is_good(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300),
            fragment in any::<bool>(),
        ) {
            if let Some((first, _)) = first_chunks(&bytes, fragment) {
                prop_assert!(usize::from(first.length) >= CHUNK_LEN);
                prop_assert!(fragment || usize::from(first.length) + LEN <= bytes.len());
            }
            if bytes.len() < LEN {
                prop_assert!(!is_checksum_good(&bytes));
            } else {
                bytes[field::CHECKSUM..LEN].fill(0);
                let right = Crc32c::checksum(&[&bytes]);
                for wrong in [1, 0xffff_ffff, 0] {
                    bytes[field::CHECKSUM..LEN].copy_from_slice(&(right ^ wrong).to_le_bytes());
                    prop_assert_eq!(is_checksum_good(&bytes), wrong == 0);
                }
            }
        }

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
