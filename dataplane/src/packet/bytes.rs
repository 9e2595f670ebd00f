//! Big-endian loads and stores in headers, and headers out of frames.
//!
//! The offsets given to the loads and stores are constants of a `field` table, so the compiler
//! proves the bounds and nothing is checked at run time.

/// The 16-bit word at `at` in host order.
#[inline(always)]
pub(super) fn load16<const N: usize>(header: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([header[at], header[at + 1]])
}

/// The 32-bit word at `at` in host order.
#[inline(always)]
pub(super) fn load32<const N: usize>(header: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes(load(header, at))
}

/// `M` bytes from `at` on.
#[inline(always)]
pub(super) fn load<const N: usize, const M: usize>(header: &[u8; N], at: usize) -> [u8; M] {
    let mut bytes = [0; M];
    bytes.copy_from_slice(&header[at..at + M]);
    bytes
}

/// Writes a 16-bit word given in host order.
#[inline(always)]
pub(super) fn store16<const N: usize>(header: &mut [u8; N], at: usize, value: u16) {
    store(header, at, value.to_be_bytes());
}

/// Writes a 32-bit word given in host order.
#[inline(always)]
pub(super) fn store32<const N: usize>(header: &mut [u8; N], at: usize, value: u32) {
    store(header, at, value.to_be_bytes());
}

/// Writes `M` bytes from `at` on.
#[inline(always)]
pub(super) fn store<const N: usize, const M: usize>(
    header: &mut [u8; N],
    at: usize,
    value: [u8; M],
) {
    header[at..at + M].copy_from_slice(&value);
}

/// The `N` bytes of `frame` from `at` on, if it has that many.
#[inline(always)]
pub(super) fn array<const N: usize>(frame: &[u8], at: usize) -> Option<&[u8; N]> {
    frame.get(at..)?.first_chunk()
}

/// The `N` bytes of `frame` from `at` on to write to, if it has that many.
#[inline(always)]
pub(super) fn array_mut<const N: usize>(frame: &mut [u8], at: usize) -> Option<&mut [u8; N]> {
    frame.get_mut(at..)?.first_chunk_mut()
}
