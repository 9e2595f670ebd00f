//! The memory of a table: one array on large pages, written once when it is made.
//!
//! A look-up in a table of millions of connections touches lines at random; on pages of 4 KB each
//! is also a miss of the TLB and a walk through page tables that no longer fit the caches. The
//! array is therefore taken from reserved hugepages of 2 MB if it may be and there are enough of
//! them, else from memory the kernel is asked to back with transparent hugepages, else it is
//! ordinary memory: never a reason to fail. Writing every element when it is made puts the pages
//! on the NUMA node of the CPU that does it and keeps page faults away from the worker.
//!
//! Invariant: `start` points to `length` initialised elements that nobody else can reach.

#![expect(
    unsafe_code,
    reason = "there is no safe way to ask for large pages: random look-ups among 10 M connections \
              take 2 to 3 times as long on pages of 4 KB"
)]

use std::fmt::{Debug, Formatter};
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Where large tables may lie.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TableMemory {
    /// Reserved hugepages if there are enough, else transparent ones.
    Reserved,
    /// Transparent hugepages if the kernel gives any.
    #[default]
    Transparent,
}

/// A fixed array of `T`.
pub(super) struct Pages<T> {
    start: NonNull<T>,
    length: usize,
    /// What to give back; `None` = it came from the heap.
    mapping: Option<Mapping>,
}

/// A mapping of our own, which the array lies in.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl<T: Copy> Pages<T> {
    /// `length` times `value`.
    pub(super) fn filled(value: T, length: usize, memory: TableMemory) -> Self {
        // Miri knows neither large pages nor advice.
        if length * size_of::<T>() < LARGE || cfg!(miri) {
            return Self::from_heap(value, length);
        }
        let Some((mapping, start)) = Mapping::new(length * size_of::<T>(), memory) else {
            return Self::from_heap(value, length);
        };
        let start: NonNull<T> = start.cast();
        for index in 0..length {
            // SAFETY: the mapping has room for `length` elements from `start` on, which is aligned
            // to more than any type is.
            unsafe { start.add(index).write(value) };
        }
        Self {
            start,
            length,
            mapping: Some(mapping),
        }
    }

    fn from_heap(value: T, length: usize) -> Self {
        let elements = Box::leak(vec![value; length].into_boxed_slice());
        Self {
            length: elements.len(),
            start: NonNull::from(elements).cast(),
            mapping: None,
        }
    }
}

impl<T> Deref for Pages<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the invariant of the type; the borrow of `self` covers the slice.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for Pages<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: the invariant of the type; the exclusive borrow of `self` covers the slice.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        // The elements are `Copy`: nothing of theirs is to be dropped.
        if self.mapping.is_none() {
            let elements = ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.length);
            // SAFETY: it was leaked from a box of this very slice, and is reachable only from here.
            drop(unsafe { Box::from_raw(elements) });
        }
    }
}

// SAFETY: it owns its elements as a box does.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: as a box; shared access gives shared references only.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T: Debug> Debug for Pages<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages")
            .field("length", &self.length)
            .field("mapping", &self.mapping)
            .finish_non_exhaustive()
    }
}

impl Mapping {
    /// Memory for `bytes` bytes, and where in it to begin; `None` if there is none.
    fn new(bytes: usize, memory: TableMemory) -> Option<(Self, NonNull<u8>)> {
        let whole = bytes.next_multiple_of(LARGE);
        if memory == TableMemory::Reserved {
            let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
            if let Some(mapping) = Self::map(whole, flags) {
                mapping.advise(Advice::LinuxDontFork);
                let start = mapping.start;
                return Some((mapping, start));
            }
        }
        // Older kernels place a mapping on any page: one large page more leaves room to begin on
        // a large one.
        let mapping = Self::map(whole + LARGE, MapFlags::PRIVATE | MapFlags::NORESERVE)?;
        mapping.advise(Advice::LinuxHugepage);
        mapping.advise(Advice::LinuxDontFork);
        let skip = mapping.start.as_ptr().align_offset(LARGE);
        // SAFETY: less than `LARGE`, by which the mapping is longer than what is used of it.
        let start = unsafe { mapping.start.add(skip) };
        Some((mapping, start))
    }

    fn map(bytes: usize, flags: MapFlags) -> Option<Self> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that
        // exists.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        };
        Some(Self {
            start: NonNull::new(start.ok()?.cast())?,
            bytes,
        })
    }

    /// Advice a kernel does not follow is no loss.
    fn advise(&self, advice: Advice) {
        // SAFETY: our own mapping, and advice that changes no contents.
        let _ = unsafe { madvise(self.start.as_ptr().cast(), self.bytes, advice) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping; whoever owns this owned the elements in it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Bytes of a large page. Smaller arrays are left to the heap.
const LARGE: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_there_and_keeps_what_is_written() {
        for memory in [TableMemory::Reserved, TableMemory::Transparent] {
            for length in [0, 1, 1000, LARGE / 8, LARGE / 8 + 1] {
                let mut pages = Pages::filled(7_u64, length, memory);
                assert_eq!(pages.len(), length);
                assert!(pages.iter().all(|element| *element == 7));
                for (index, element) in pages.iter_mut().enumerate() {
                    *element = index as u64;
                }
                let sum: u64 = pages.iter().sum();
                assert_eq!(sum, (0..length as u64).sum());
            }
        }
    }

    #[test]
    fn a_large_array_begins_on_a_large_page() {
        let pages = Pages::filled(0_u8, 3 * LARGE, TableMemory::Transparent);
        assert!(pages.mapping.is_some() || cfg!(miri));
        if pages.mapping.is_some() {
            assert_eq!(pages.start.as_ptr().align_offset(LARGE), 0);
        }
    }
}
