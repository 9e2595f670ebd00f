//! The Internet checksum: in full (RFC 1071), incrementally (RFC 1624), and over pseudo headers.
//!
//! One's complement addition does not care about byte order (RFC 1071 2 (B)), so sums are taken
//! over words as they lie in memory and swapped once, when the checksum is read out. Checksums are
//! passed around in host order; `0` is what a verified sum comes to.
//!
//! Zero has two forms. The sum of bytes that are not all zero is never `0x0000`, so a checksum is
//! never `0xffff`; [`Delta::apply`] keeps to that (RFC 1624 3), except for UDP, where `0` on the
//! wire means "none" and a computed zero is sent as `0xffff` (RFC 768): [`Delta::apply_udp`].

/// A running one's complement sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of `bytes`; an odd last byte is padded with a zero.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        Self::default().bytes(bytes)
    }

    /// The sum of `bytes`, a few words of 32 bits: [`Self::of`] without a loop.
    #[inline(always)]
    pub fn of_words<const N: usize>(bytes: &[u8; N]) -> Self {
        const { assert!(N.is_multiple_of(4), "whole words") }
        let (words, _) = bytes.as_chunks::<4>();
        let word = |word: &[u8; 4]| u64::from(u32::from_ne_bytes(*word));
        Self(words.iter().map(word).sum())
    }

    /// True if the sum was taken over a right checksum too.
    #[inline(always)]
    pub fn is_good(self) -> bool {
        // What folds to all ones is a multiple of 0xffff, and above zero.
        self.0 != 0 && self.0.is_multiple_of(0xffff)
    }

    /// Adds `bytes`. Everything added before must have had an even length.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let mut sum = self.0;
        // Halves of 32 bits: 2^32 of them fit into the sum, and the loop needs no carry, so it
        // vectorizes.
        for chunk in chunks {
            let lane = u64::from_ne_bytes(*chunk);
            sum += (lane & 0xffff_ffff) + (lane >> 32);
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            let lane = u64::from_ne_bytes(last);
            sum += (lane & 0xffff_ffff) + (lane >> 32);
        }
        Self(sum)
    }

    /// Adds one 16-bit word given in host order.
    #[inline]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word.to_be()))
    }

    /// The IPv4 pseudo header (RFC 793 3.1): `addresses` are source and destination as they follow
    /// each other in the header, `length` that of the transport header and its data.
    #[inline]
    pub fn pseudo_v4(addresses: &[u8; 8], protocol: u8, length: u16) -> Self {
        Self::of(addresses).word(u16::from(protocol)).word(length)
    }

    /// The IPv6 pseudo header (RFC 8200 8.1), see [`Self::pseudo_v4`].
    #[inline]
    pub fn pseudo_v6(addresses: &[u8; 32], protocol: u8, length: u32) -> Self {
        Self::of(addresses)
            .bytes(&length.to_be_bytes())
            .word(u16::from(protocol))
    }

    /// The checksum to write where the checksum field was summed as zero; `0` if the sum was taken
    /// over a right checksum too.
    #[inline]
    pub fn checksum(self) -> u16 {
        u16::from_be(!fold(self.0))
    }

    /// [`Self::checksum`] as UDP sends it: never zero.
    #[inline]
    pub fn udp_checksum(self) -> u16 {
        never_zero(self.checksum())
    }
}

/// The checksum of an IPv4 header after its TTL was lowered by one, from the one before:
/// [`Delta::word`] and [`Delta::apply`] for a word of which only this is known to have changed.
#[inline(always)]
pub fn after_hop(checksum: u16) -> u16 {
    // ~m + m' is 0xfeff whatever the word was.
    let sum = u32::from(!checksum) + 0xfeff;
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// The difference that replaced fields make to every checksum that covers them.
///
/// RFC 1624 equation 3: `HC' = ~(~HC + ~m + m')`. What is collected here is the `~m + m'` of all
/// replaced words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delta(u64);

impl Delta {
    /// A 16-bit field (host order) changes from `old` to `new`.
    #[inline]
    pub fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + u64::from(!old.to_be()) + u64::from(new.to_be()))
    }

    /// `N` bytes at an even offset change from `old` to `new`; `N` is even.
    #[inline]
    pub fn bytes<const N: usize>(self, old: &[u8; N], new: &[u8; N]) -> Self {
        const { assert!(N.is_multiple_of(2), "checksums cover 16-bit words") }
        let (old_lanes, old_rest) = old.as_chunks::<4>();
        let (new_lanes, new_rest) = new.as_chunks::<4>();
        let mut sum = self.0;
        for (old, new) in old_lanes.iter().zip(new_lanes) {
            sum += u64::from(!u32::from_ne_bytes(*old)) + u64::from(u32::from_ne_bytes(*new));
        }
        if let (&[a, b], &[c, d]) = (old_rest, new_rest) {
            sum += u64::from(!u16::from_ne_bytes([a, b])) + u64::from(u16::from_ne_bytes([c, d]));
        }
        Self(sum)
    }

    /// The checksum after the change, from the one before it. A wrong checksum stays exactly as
    /// wrong as it was.
    #[inline]
    pub fn apply(self, checksum: u16) -> u16 {
        u16::from_be(!fold(self.0 + u64::from(!checksum.to_be())))
    }

    /// [`Self::apply`] for UDP: no checksum (`0`) stays none, and a computed zero becomes `0xffff`.
    #[inline]
    pub fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        never_zero(self.apply(checksum))
    }
}

/// Folds the carries back in until 16 bits are left.
#[inline]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[inline]
fn never_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 4.1, word by word, as the model.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&bytes).checksum(), !0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624_gives_zero_and_not_minus_zero() {
        // RFC 1624 4: HC = 0xdd2f, m = 0x5555, m' = 0x3285.
        assert_eq!(Delta::default().word(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn an_unchanged_field_leaves_either_zero_as_a_valid_zero() {
        assert_eq!(Delta::default().word(7, 7).apply(0x0000), 0x0000);
        assert_eq!(Delta::default().word(7, 7).apply(0xffff), 0x0000);
        assert_eq!(Delta::default().word(0xffff, 0).apply(0x1234), 0x1234);
    }

    #[test]
    fn udp_keeps_no_checksum_and_never_sends_a_computed_zero() {
        assert_eq!(Delta::default().word(1, 2).apply_udp(0), 0);
        assert_eq!(
            Delta::default().word(0x5555, 0x3285).apply_udp(0xdd2f),
            0xffff
        );
        assert_eq!(Sum::of(&[0xff, 0xff]).udp_checksum(), 0xffff);
    }

    #[test]
    fn long_runs_of_ones_do_not_overflow() {
        assert_eq!(Sum::of(&vec![0xff; 70_000]).checksum(), 0);
        assert_eq!(fold(u64::MAX), 0xffff);
    }

    #[test]
    fn a_recorded_ipv4_header_verifies() {
        let header = [
            0x45, 0xb9, 0x00, 0x3e, 0x00, 0x00, 0x40, 0x00, 0x20, 0x04, 0x41, 0xf7, 0x0a, 0x00,
            0x02, 0x01, 0x0a, 0x00, 0x02, 0x0c,
        ];
        assert_eq!(Sum::of(&header).checksum(), 0);
    }

    proptest! {
        #[test]
        fn the_fast_sum_equals_the_plain_one(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Sum::of(&bytes).checksum(), plain(&bytes));
        }

        #[test]
        fn a_sum_may_be_taken_in_even_pieces(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            cut in 0usize..50,
        ) {
            let (head, tail) = bytes.split_at((cut * 2).min(bytes.len()));
            prop_assert_eq!(Sum::of(head).bytes(tail).checksum(), plain(&bytes));
        }

        #[test]
        fn replacing_a_word_incrementally_equals_summing_again(
            mut bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 4..64),
            at in any::<prop::sample::Index>(),
            new in prop_oneof![Just(0u16), Just(0xffff), any::<u16>()],
        ) {
            // The version nibble makes sure that no header is all zero.
            bytes[0] = 0x45;
            let at = 2 + at.index(bytes.len() / 2 - 1) * 2;
            let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let before = plain(&bytes);
            bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(Delta::default().word(old, new).apply(before), plain(&bytes));
        }

        #[test]
        fn replacing_addresses_and_a_port_incrementally_equals_summing_again(
            mut bytes in prop::array::uniform32(prop_oneof![Just(0u8), Just(0xff), any::<u8>()]),
            v4 in any::<[u8; 4]>(),
            v6 in any::<[u8; 16]>(),
            port in any::<[u8; 2]>(),
        ) {
            bytes[0] = 0x60;
            let before = plain(&bytes);
            let old_v4: [u8; 4] = bytes[2..6].try_into().unwrap();
            let old_v6: [u8; 16] = bytes[8..24].try_into().unwrap();
            let old_port: [u8; 2] = bytes[30..32].try_into().unwrap();
            bytes[2..6].copy_from_slice(&v4);
            bytes[8..24].copy_from_slice(&v6);
            bytes[30..32].copy_from_slice(&port);
            let delta = Delta::default()
                .bytes(&old_v4, &v4)
                .bytes(&old_v6, &v6)
                .bytes(&old_port, &port);
            prop_assert_eq!(delta.apply(before), plain(&bytes));
        }

        #[test]
        fn pseudo_headers_sum_as_if_they_were_bytes(
            v4 in any::<[u8; 8]>(),
            v6 in any::<[u8; 32]>(),
            protocol in any::<u8>(),
            length in any::<u16>(),
        ) {
            let mut bytes = v4.to_vec();
            bytes.extend([0, protocol]);
            bytes.extend(length.to_be_bytes());
            prop_assert_eq!(Sum::pseudo_v4(&v4, protocol, length).checksum(), plain(&bytes));

            let mut bytes = v6.to_vec();
            bytes.extend(u32::from(length).to_be_bytes());
            bytes.extend([0, 0, 0, protocol]);
            prop_assert_eq!(
                Sum::pseudo_v6(&v6, protocol, u32::from(length)).checksum(),
                plain(&bytes)
            );
        }
    }
}
