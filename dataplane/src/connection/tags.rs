//! Comparing the tags of a bucket with one tag, all at once.
//!
//! Every look-up does it twice. With SSE2 it takes eight instructions, with words of 64 bits about
//! thirty.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "the compiler does not take the features of the target for granted when it calls \
                  its intrinsics; measured above"
    )
)]

/// Tags in a bucket.
pub(super) const WAYS: usize = 12;

/// Bit `i` is set if `tags[i]` is `tag`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn equal(tags: [u8; WAYS], tag: u8) -> u32 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    let [t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11] = tags;
    let low = i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
    let high = i64::from(u32::from_le_bytes([t8, t9, t10, t11]));
    // SAFETY: SSE2 is part of x86_64, and these work on values alone.
    let mask = unsafe {
        let tags = _mm_set_epi64x(high, low);
        _mm_movemask_epi8(_mm_cmpeq_epi8(tags, _mm_set1_epi8(tag.cast_signed())))
    };
    mask.cast_unsigned() & ((1 << WAYS) - 1)
}

/// Bit `i` is set if `tags[i]` is `tag`.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn equal(tags: [u8; WAYS], tag: u8) -> u32 {
    (0..WAYS).fold(0, |mask, way| mask | u32::from(tags[way] == tag) << way)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_bit_is_one_comparison(tags in prop::array::uniform12(0_u8..4), tag in 0_u8..5) {
            let mask = equal(tags, tag);
            for (way, held) in tags.into_iter().enumerate() {
                prop_assert_eq!(mask >> way & 1 == 1, held == tag);
            }
            prop_assert_eq!(mask >> WAYS, 0);
        }
    }
}
