//! The Toeplitz hash of receive side scaling, by table look-up.
//!
//! Follows Microsoft's "RSS hashing functions" and is checked against its "Verifying the RSS hash calculation": every set
//! bit of the input selects the 32 bits of the key that begin at the bit's own position, and the hash is their exclusive
//! or. Invariant: `tables[i]` holds that sum for every value of input byte `i`, so that hashing is one look-up a byte.

/// The hash of inputs of up to `BYTES` bytes under one key.
#[derive(Debug)]
pub(super) struct Toeplitz<const BYTES: usize> {
    tables: [[u32; 256]; BYTES],
}

impl<const BYTES: usize> Toeplitz<BYTES> {
    /// Computes the tables. The key must be at least four bytes longer than the input.
    pub(super) const fn new(key: &[u8]) -> Self {
        assert!(key.len() >= BYTES + 4, "the key is too short for the input");
        let mut tables = [[0; 256]; BYTES];
        let mut byte = 0;
        while byte < BYTES {
            let mut value = 1;
            while value < 256_usize {
                let lowest = value.trailing_zeros() as usize;
                tables[byte][value] =
                    tables[byte][value & (value - 1)] ^ window(key, byte, 7 - lowest);
                value += 1;
            }
            byte += 1;
        }
        Self { tables }
    }

    /// What `value` contributes as byte `index` of the input: the hash is the exclusive or over all bytes.
    #[inline]
    pub(super) fn of_byte(&self, index: usize, value: u8) -> u32 {
        self.tables[index][usize::from(value)]
    }
}

/// The 32 bits of the key that begin `bit` bits (at most 7) behind the start of `byte`.
const fn window(key: &[u8], byte: usize, bit: usize) -> u32 {
    let bytes = [
        0,
        0,
        0,
        key[byte],
        key[byte + 1],
        key[byte + 2],
        key[byte + 3],
        key[byte + 4],
    ];
    (u64::from_be_bytes(bytes) >> (8 - bit)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// The suite's key.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    static TOEPLITZ: Toeplitz<36> = Toeplitz::new(&KEY);

    fn hash(input: &[u8]) -> u32 {
        let bytes = input.iter().enumerate();
        bytes.fold(0, |hash, (index, byte)| {
            hash ^ TOEPLITZ.of_byte(index, *byte)
        })
    }

    /// One row of the suite: destination, source, hash of the addresses, hash with the ports.
    type Row<A> = ((A, u16), (A, u16), u32, u32);

    fn verify(source: &[u8], destination: &[u8], ports: [u16; 2], addresses: u32, all: u32) {
        let mut input = [source, destination].concat();
        assert_eq!(hash(&input), addresses, "{input:?}");
        input.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
        assert_eq!(hash(&input), all, "{input:?}");
    }

    #[test]
    fn the_published_ipv4_hashes_are_reproduced() {
        let address = Ipv4Addr::new;
        let suite: [Row<Ipv4Addr>; 5] = [
            (
                (address(161, 142, 100, 80), 1766),
                (address(66, 9, 149, 187), 2794),
                0x323e_8fc2,
                0x51cc_c178,
            ),
            (
                (address(65, 69, 140, 83), 4739),
                (address(199, 92, 111, 2), 14230),
                0xd718_262a,
                0xc626_b0ea,
            ),
            (
                (address(12, 22, 207, 184), 38024),
                (address(24, 19, 198, 95), 12898),
                0xd2d0_a5de,
                0x5c2b_394a,
            ),
            (
                (address(209, 142, 163, 6), 2217),
                (address(38, 27, 205, 30), 48228),
                0x8298_9176,
                0xafc7_327f,
            ),
            (
                (address(202, 188, 127, 2), 1303),
                (address(153, 39, 163, 191), 44251),
                0x5d18_09c5,
                0x10e8_28a2,
            ),
        ];
        for (to, from, addresses, all) in suite {
            verify(
                &from.0.octets(),
                &to.0.octets(),
                [from.1, to.1],
                addresses,
                all,
            );
        }
    }

    #[test]
    fn the_published_ipv6_hashes_are_reproduced() {
        let suite = [
            (
                ("3ffe:2501:200:3::1", 1766),
                ("3ffe:2501:200:1fff::7", 2794),
                0x2cc1_8cd5,
                0x4020_7d3d,
            ),
            (
                ("ff02::1", 4739),
                ("3ffe:501:8::260:97ff:fe40:efab", 14230),
                0x0f0c_461c,
                0xdde5_1bbf,
            ),
            (
                ("fe80::200:f8ff:fe21:67cf", 38024),
                ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251),
                0x4b61_e985,
                0x02d1_feef,
            ),
        ];
        let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        for (to, from, addresses, all) in suite {
            verify(
                &octets(from.0),
                &octets(to.0),
                [from.1, to.1],
                addresses,
                all,
            );
        }
    }
}
