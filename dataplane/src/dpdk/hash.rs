//! DPDK's hash table `rte_hash` (cuckoo, buckets of eight, CRC32), which the index of connections is measured
//! against. Only the benchmark uses it.
//!
//! It lies in a heap of its own of transparent large pages: without reserved hugepages EAL's memory
//! has pages of 4 KB, which would be what is measured.
//!
//! Invariants: values are numbers, never followed as pointers; a table has one owner, so the default
//! (no locks) is sound; the heap is unmapped only once DPDK has let go of it.

use std::ffi::{CString, NulError, c_void};
use std::ptr::{self, NonNull};

use dpdk_sys::{rte_hash, rte_hash_parameters};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::eal::{self, EalError};
use super::error::Errno;

/// A key: a packed five-tuple of IPv4.
pub type HashKey = [u32; 4];

/// A table of numbers by [`HashKey`].
#[derive(Debug)]
pub struct Hash {
    raw: NonNull<rte_hash>,
    /// Freed after the table, see `Drop`.
    _heap: Heap,
    _lease: eal::Lease,
}

/// Why a table could not be created.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// DPDK is not up.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// The name cannot be a C string.
    #[error("hash name: {0}")]
    Name(#[from] NulError),
    /// The system has no memory for it.
    #[error("no memory for the hash: {0}")]
    Memory(#[from] rustix::io::Errno),
    /// DPDK refused: a name in use, or too many entries.
    #[error("cannot create the hash: {0}")]
    Create(Errno),
}

impl Hash {
    /// Keys a look-up takes at once.
    pub const BURST: usize = 32;

    /// An empty table for `entries` keys, under a name (at most 20 bytes) no other has. DPDK rounds the room in the
    /// buckets up to a power of two.
    pub fn create(name: &str, entries: u32) -> Result<Self, HashError> {
        let lease = eal::Lease::take()?;
        let name = CString::new(name)?;
        let heap = Heap::create(name, entries)?;
        let parameters = rte_hash_parameters {
            name: heap.name.as_ptr(),
            entries,
            key_len: size_of::<HashKey>() as u32,
            // No function means CRC32.
            hash_func: None,
            socket_id: heap.socket,
            ..Default::default()
        };
        // SAFETY: EAL is up while the lease is held; the parameters and the name in them are read during the call only.
        let raw = unsafe { dpdk_sys::rte_hash_create(&raw const parameters) };
        let raw = NonNull::new(raw).ok_or_else(|| HashError::Create(Errno::last()))?;
        Ok(Self {
            raw,
            _heap: heap,
            _lease: lease,
        })
    }

    /// Sets the value of a key; an error if there is no room.
    #[inline]
    pub fn insert(&mut self, key: &HashKey, value: usize) -> Result<(), Errno> {
        // SAFETY: the table is valid and only ours; the key is as long as the table was told, and copied.
        let code = unsafe {
            dpdk_sys::rte_hash_add_key_data(
                self.raw.as_ptr(),
                ptr::from_ref(key).cast(),
                ptr::without_provenance_mut(value),
            )
        };
        Errno::check(code).map(|_| ())
    }

    /// Takes a key out; false if it was not there.
    #[inline]
    pub fn remove(&mut self, key: &HashKey) -> bool {
        // SAFETY: as above.
        let position =
            unsafe { dpdk_sys::rte_hash_del_key(self.raw.as_ptr(), ptr::from_ref(key).cast()) };
        position >= 0
    }

    /// Writes the values of the keys that are there, and sets their bits in the result.
    #[inline]
    pub fn lookup(
        &self,
        mut keys: [&HashKey; Self::BURST],
        values: &mut [usize; Self::BURST],
    ) -> u64 {
        let mut hits = 0;
        // SAFETY: the table is valid, and `&self` keeps it from being changed; references to keys are pointers to keys;
        // a value is as large as the pointer DPDK takes it for, and there is room for all.
        let found = unsafe {
            dpdk_sys::rte_hash_lookup_bulk_data(
                self.raw.as_ptr(),
                keys.as_mut_ptr().cast(),
                Self::BURST as u32,
                &raw mut hits,
                values.as_mut_ptr().cast(),
            )
        };
        if found < 0 { 0 } else { hits }
    }
}

impl Drop for Hash {
    fn drop(&mut self) {
        // SAFETY: nobody refers to the table any more; the heap is dropped afterwards.
        unsafe { dpdk_sys::rte_hash_free(self.raw.as_ptr()) };
    }
}

/// Memory of ours that DPDK allocates from.
#[derive(Debug)]
struct Heap {
    name: CString,
    start: NonNull<c_void>,
    bytes: usize,
    /// By which DPDK knows the heap.
    socket: i32,
}

impl Heap {
    /// Room for a table of `entries` keys.
    fn create(name: CString, entries: u32) -> Result<Self, HashError> {
        let room = entries as usize;
        // A key with its value; a slot of a bucket; a place in the ring of free keys.
        let bytes = room * 32 + room.next_power_of_two() * 8 + (room + 1).next_power_of_two() * 4;
        let bytes = (bytes + SPARE).next_multiple_of(LARGE);
        let failed = |code| Errno::check(code).map_err(|_| HashError::Create(Errno::last()));
        // SAFETY: EAL is up (the caller holds a lease); the name is copied.
        failed(unsafe { dpdk_sys::rte_malloc_heap_create(name.as_ptr()) })?;
        // From here on `Drop` destroys the heap.
        let mut heap = Self {
            name,
            start: NonNull::dangling(),
            bytes: 0,
            socket: 0,
        };
        heap.start = map(bytes)?;
        heap.bytes = bytes;
        // SAFETY: the memory is mapped, aligned to its page size, ours alone, and stays until DPDK gives it up. Without
        // addresses for devices no device can be given any of it.
        failed(unsafe {
            dpdk_sys::rte_malloc_heap_memory_add(
                heap.name.as_ptr(),
                heap.start.as_ptr(),
                bytes,
                ptr::null_mut(),
                (bytes / LARGE) as u32,
                LARGE,
            )
        })?;
        // SAFETY: the name is read during the call only.
        heap.socket = failed(unsafe { dpdk_sys::rte_malloc_heap_get_socket(heap.name.as_ptr()) })?;
        Ok(heap)
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        let name = self.name.as_ptr();
        if self.bytes > 0 {
            // SAFETY: the name is read during the call only; DPDK refuses if anything in the memory is in use.
            unsafe {
                dpdk_sys::rte_malloc_heap_memory_remove(name, self.start.as_ptr(), self.bytes)
            };
        }
        // SAFETY: as above; DPDK refuses unless the heap is empty.
        let destroyed = unsafe { dpdk_sys::rte_malloc_heap_destroy(name) };
        if self.bytes > 0 && destroyed == 0 {
            // SAFETY: no heap has it any more, so nobody refers to it.
            let _ = unsafe { munmap(self.start.as_ptr(), self.bytes) };
        }
    }
}

/// Maps memory that begins on a large page and is asked to consist of such.
fn map(bytes: usize) -> Result<NonNull<c_void>, rustix::io::Errno> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let mapping = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            bytes + LARGE,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }?;
    // What lies before and behind the aligned part stays mapped and untouched.
    let skip = mapping.cast::<u8>().align_offset(LARGE);
    // SAFETY: less than `LARGE`, by which the mapping is longer than what is used of it.
    let start = unsafe { mapping.byte_add(skip) };
    // SAFETY: our own mapping, and advice that changes no contents and may be ignored.
    let _ = unsafe { madvise(start, bytes, Advice::LinuxHugepage) };
    NonNull::new(start).ok_or(rustix::io::Errno::NOMEM)
}

/// Bytes of a large page.
const LARGE: usize = 2 << 20;
/// What a table needs however small it is, with room to align. DPDK writes all of the heap, so more would count.
const SPARE: usize = 1 << 20;
