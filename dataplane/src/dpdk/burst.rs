//! A burst: the array of mbufs that passes between DPDK and a worker, owning what is in it.
//!
//! DPDK writes received buffers straight into the spare part and reads those to send from the filled part, so a burst costs
//! neither a heap allocation nor a copy. Invariant: exactly the first `len` elements are initialised and owned.

use std::fmt;
use std::mem::MaybeUninit;

use super::mbuf::{self, Mbuf};

/// Up to `N` mbufs. Dropping it frees them in one call.
pub struct Burst<const N: usize = 32> {
    mbufs: [MaybeUninit<Mbuf>; N],
    len: usize,
}

impl<const N: usize> Burst<N> {
    /// An empty burst.
    #[inline]
    pub const fn new() -> Self {
        Self {
            mbufs: [const { MaybeUninit::uninit() }; N],
            len: 0,
        }
    }

    /// How many mbufs are in it.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True if there is room for none.
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.len == N
    }

    /// How many it can hold.
    #[inline]
    pub const fn capacity(&self) -> usize {
        N
    }

    /// Adds one at the end; gives it back if the burst is full.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        let Some(slot) = self.mbufs.get_mut(self.len) else {
            return Err(mbuf);
        };
        slot.write(mbuf);
        self.len += 1;
        Ok(())
    }

    /// Takes the last one out.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the element was among the first `len`, and no longer is: it is moved out once.
        Some(unsafe { self.mbufs[self.len].assume_init_read() })
    }

    /// The mbufs in it.
    #[inline]
    pub fn as_slice(&self) -> &[Mbuf] {
        // SAFETY: the first `len` elements are initialised.
        unsafe { self.mbufs[..self.len].assume_init_ref() }
    }

    /// The mbufs in it, to be changed in place.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [Mbuf] {
        // SAFETY: the first `len` elements are initialised.
        unsafe { self.mbufs[..self.len].assume_init_mut() }
    }

    /// Takes all out, first to last. Those not taken when the iterator is dropped are freed; the burst is empty in any case.
    #[inline]
    pub fn drain(&mut self) -> Drain<'_> {
        let len = std::mem::take(&mut self.len);
        Drain {
            rest: &mut self.mbufs[..len],
            next: 0,
        }
    }

    /// Frees all, in one call.
    #[inline]
    pub fn clear(&mut self) {
        drop(self.drain());
    }

    /// The room behind the filled part.
    #[inline]
    pub(super) fn spare(&mut self) -> &mut [MaybeUninit<Mbuf>] {
        &mut self.mbufs[self.len..]
    }

    /// Takes over `count` mbufs that were written to the front of [`Self::spare`].
    ///
    /// # Safety
    /// They must be initialised and owned by nobody else.
    #[inline]
    pub(super) unsafe fn assume_added(&mut self, count: usize) {
        debug_assert!(count <= N - self.len);
        self.len += count;
    }

    /// Forgets the first `count` mbufs, which now belong to somebody else, and moves the rest to the front.
    ///
    /// # Safety
    /// They must not be used or freed through this burst's owner any more; `count` must not exceed the length.
    #[inline]
    pub(super) unsafe fn assume_taken(&mut self, count: usize) {
        debug_assert!(count <= self.len);
        // Mostly all or none of them were taken: then nothing moves.
        if count > 0 {
            for (target, source) in (count..self.len).enumerate() {
                self.mbufs.swap(target, source);
            }
            self.len -= count;
        }
    }
}

impl<const N: usize> Default for Burst<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Drop for Burst<N> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<const N: usize> fmt::Debug for Burst<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Burst({} of {N})", self.len)
    }
}

/// Moves the mbufs out of a [`Burst`].
pub struct Drain<'a> {
    /// Initialised and owned from `next` on.
    rest: &'a mut [MaybeUninit<Mbuf>],
    next: usize,
}

impl Iterator for Drain<'_> {
    type Item = Mbuf;

    #[inline]
    fn next(&mut self) -> Option<Mbuf> {
        let slot = self.rest.get(self.next)?;
        self.next += 1;
        // SAFETY: elements from `next` on are initialised, and each is moved out once.
        Some(unsafe { slot.assume_init_read() })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.rest.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    #[inline]
    fn drop(&mut self) {
        let rest = &mut self.rest[self.next..];
        if !rest.is_empty() {
            // SAFETY: these are initialised, owned and not looked at again.
            unsafe { mbuf::free_bulk(rest) };
        }
    }
}

impl fmt::Debug for Drain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Drain({} left)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::PacketBuffer;
    use crate::dpdk::mbuf::fake;

    fn burst_of<const N: usize>(count: u8) -> Burst<N> {
        let mut burst = Burst::new();
        for i in 0..count {
            burst.push(fake::mbuf(&[i; 60])).expect("room");
        }
        burst
    }

    fn first_bytes(mbufs: &[Mbuf]) -> Vec<u8> {
        mbufs.iter().map(|mbuf| mbuf.data()[0]).collect()
    }

    #[test]
    fn a_full_burst_gives_back_what_does_not_fit() {
        let mut burst: Burst<2> = burst_of(2);
        assert!(burst.is_full());
        let back = burst.push(fake::mbuf(&[9])).expect_err("full");
        assert_eq!(back.data(), [9]);
        drop((burst, back));
        assert_eq!(fake::live(), 0);
    }

    #[test]
    fn dropping_a_burst_frees_every_mbuf() {
        let burst: Burst = burst_of(7);
        assert_eq!(fake::live(), 7);
        drop(burst);
        assert_eq!(fake::live(), 0);
    }

    #[test]
    fn a_burst_drained_half_way_leaks_nothing_and_is_empty() {
        let mut burst: Burst = burst_of(5);
        let taken: Vec<Mbuf> = burst.drain().take(2).collect();
        assert_eq!(first_bytes(&taken), [0, 1]);
        assert!(burst.is_empty());
        assert_eq!(fake::live(), 2);
        drop(taken);
        assert_eq!(fake::live(), 0);
    }

    #[test]
    fn pop_takes_the_last_one() {
        let mut burst: Burst = burst_of(2);
        assert_eq!(burst.pop().map(|mbuf| mbuf.data()[0]), Some(1));
        assert_eq!(burst.pop().map(|mbuf| mbuf.data()[0]), Some(0));
        assert!(burst.pop().is_none());
        assert_eq!(fake::live(), 0);
    }

    #[test]
    fn unsent_mbufs_move_to_the_front_in_order() {
        let mut burst: Burst<8> = burst_of(5);
        let mut sent = Vec::new();
        for slot in &burst.mbufs[..3] {
            // SAFETY: the first three are initialised, and forgotten by the burst below.
            sent.push(unsafe { slot.assume_init_read() });
        }
        // SAFETY: `sent` owns them.
        unsafe { burst.assume_taken(3) };
        assert_eq!(first_bytes(burst.as_slice()), [3, 4]);
        burst.as_mut_slice()[0].data_mut()[0] = 8;
        burst.push(fake::mbuf(&[7])).expect("room");
        assert_eq!(first_bytes(burst.as_slice()), [8, 4, 7]);
        drop((burst, sent));
        assert_eq!(fake::live(), 0);
    }
}
