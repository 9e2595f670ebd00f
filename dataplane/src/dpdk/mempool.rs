//! Pools of packet buffers.
//!
//! Invariant: a pool is never freed before the process ends, which is why an [`Mbuf`] needs no lifetime. Freeing pools
//! under ports that still hold their buffers is the classic DPDK shutdown crash.

use std::ffi::{CStr, CString, NulError};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use dpdk_sys::rte_mempool;

use super::burst::Burst;
use super::eal::{self, Eal, EalError};
use super::error::Errno;
use super::mbuf::Mbuf;

/// A pool of equally large packet buffers.
#[derive(Debug)]
pub struct Mempool {
    raw: NonNull<rte_mempool>,
    capacity: usize,
    data_room: u16,
}

// SAFETY: DPDK's mempools are multi-producer, multi-consumer; the per-lcore cache is only used by its own lcore, and threads
// that are not EAL's have none. The other fields never change.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

/// Why a pool could not be created.
#[derive(Debug, thiserror::Error)]
pub enum MempoolError {
    /// DPDK is not up.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// The name cannot be a C string.
    #[error("mempool name: {0}")]
    Name(#[from] NulError),
    /// DPDK refused: usually too little memory.
    #[error("cannot create mempool `{name}` of {mbufs} buffers of {data_room} bytes: {errno}")]
    Create {
        /// The pool's name.
        name: String,
        /// Buffers asked for.
        mbufs: u32,
        /// Bytes per buffer, headroom included.
        data_room: u16,
        /// DPDK's reason.
        errno: Errno,
    },
}

impl Mempool {
    /// Bytes per buffer, headroom included, that hold a frame of the usual MTU.
    pub const DATA_ROOM: u16 = 2048 + dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;

    /// Creates a pool of `mbufs` buffers (best a power of two less one) of `data_room` bytes, headroom included, on NUMA
    /// node `socket` (none: any). Each lcore keeps up to `cache` free buffers to itself (at most 512, and at most two
    /// thirds of the pool).
    pub fn create(
        name: &str,
        mbufs: u32,
        cache: u32,
        data_room: u16,
        socket: Option<u32>,
    ) -> Result<&'static Self, MempoolError> {
        Self::create_with(name, mbufs, cache, data_room, socket, Layout::Nics)
    }

    /// [`Self::create`] for virtual devices alone, one buffer directly behind the other.
    ///
    /// By default DPDK lays no object across two pages, which leaves gaps. `net_af_xdp` (22.11) knows nothing of them: it
    /// shows the kernel count times size bytes from the first buffer on, and a fill ring entry beyond that is lost for
    /// good, so in pages of 4 KB a port went deaf once the last two fifths of the pool had come round. Buffers laid out so
    /// have no device addresses: a NIC must never be given them.
    pub fn create_packed(
        name: &str,
        mbufs: u32,
        cache: u32,
        data_room: u16,
        socket: Option<u32>,
    ) -> Result<&'static Self, MempoolError> {
        Self::create_with(name, mbufs, cache, data_room, socket, Layout::Packed)
    }

    fn create_with(
        name: &str,
        mbufs: u32,
        cache: u32,
        data_room: u16,
        socket: Option<u32>,
        layout: Layout,
    ) -> Result<&'static Self, MempoolError> {
        // Creation needs EAL up throughout.
        let _lease = eal::Lease::take()?;
        let eal = Eal::get().ok_or(EalError::NotInitialised)?;
        let c_name = CString::new(name)?;
        let socket = socket.map_or(dpdk_sys::SOCKET_ID_ANY, u32::cast_signed);
        let raw = build(&c_name, mbufs, cache, data_room, socket, layout);
        let Some(raw) = raw else {
            let errno = Errno::last();
            return Err(MempoolError::Create {
                name: name.to_owned(),
                mbufs,
                data_room,
                errno,
            });
        };
        let pool: &'static Self = Box::leak(Box::new(Self {
            raw,
            capacity: mbufs as usize,
            data_room,
        }));
        eal.register(pool);
        Ok(pool)
    }

    /// How many buffers it has in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many buffers are free now, those in lcore caches included. Walks all lcores: not for the packet path. After the
    /// shutdown, which requires full pools, all of them.
    pub fn available(&self) -> usize {
        if eal::is_shut_down() {
            return self.capacity;
        }
        // SAFETY: the pool lives until EAL is shut down.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.raw.as_ptr()) as usize }
    }

    /// True if every buffer is back: what a test that took any asserts last.
    pub fn is_full(&self) -> bool {
        self.available() == self.capacity
    }

    /// Takes one empty buffer. For the packet path, [`Self::alloc_into`] is several times cheaper per buffer.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        if eal::is_shut_down() {
            return None;
        }
        // SAFETY: the pool lives until EAL is shut down.
        let raw = unsafe { dpdk_sys::rte_pktmbuf_alloc(self.raw.as_ptr()) };
        // SAFETY: a buffer fresh from the pool belongs to nobody else.
        NonNull::new(raw).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// Fills the burst with empty buffers and says how many it added: fewer than were missing only if the pool runs dry.
    #[inline]
    pub fn alloc_into<const N: usize>(&self, burst: &mut Burst<N>) -> usize {
        if eal::is_shut_down() {
            return 0;
        }
        let spare: &mut [MaybeUninit<Mbuf>] = burst.spare();
        let count = spare.len();
        // SAFETY: `Mbuf` is a transparent pointer, so `spare` is room for `count` pointers.
        let code = unsafe {
            dpdk_sys::rte_pktmbuf_alloc_bulk(
                self.raw.as_ptr(),
                spare.as_mut_ptr().cast(),
                count as u32,
            )
        };
        if code == 0 {
            // SAFETY: all or nothing: DPDK wrote `count` buffers that are ours now.
            unsafe { burst.assume_added(count) };
            return count;
        }
        // Too few for all: what is left, one by one.
        let before = burst.len();
        while !burst.is_full() {
            let Some(mbuf) = self.alloc() else { break };
            if burst.push(mbuf).is_err() {
                break;
            }
        }
        burst.len() - before
    }

    /// Bytes of a frame that fit one buffer behind its headroom.
    pub fn frame_room(&self) -> u32 {
        u32::from(self.data_room).saturating_sub(dpdk_sys::RTE_PKTMBUF_HEADROOM)
    }

    pub(super) fn as_ptr(&self) -> *mut rte_mempool {
        self.raw.as_ptr()
    }
}

/// How buffers lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Layout {
    /// As DPDK does it: each where a device can reach all of it.
    Nics,
    /// See [`Mempool::create_packed`].
    Packed,
}

/// What `rte_pktmbuf_pool_create` does, with a choice of layout.
fn build(
    name: &CStr,
    mbufs: u32,
    cache: u32,
    data_room: u16,
    socket: i32,
    layout: Layout,
) -> Option<NonNull<rte_mempool>> {
    let flags = match layout {
        Layout::Nics => 0,
        Layout::Packed => dpdk_sys::RTE_MEMPOOL_F_NO_IOVA_CONTIG,
    };
    let element = size_of::<dpdk_sys::rte_mbuf>() as u32 + u32::from(data_room);
    // SAFETY: EAL is up; the name is copied.
    let raw = unsafe {
        dpdk_sys::rte_mempool_create_empty(
            name.as_ptr(),
            mbufs,
            element,
            cache,
            POOL_PRIVATE,
            socket,
            flags,
        )
    };
    let pool = NonNull::new(raw)?;
    // SAFETY: the pool is ours and empty; the order is that of rte_pktmbuf_pool_create. Without an
    // argument pool_init takes what an element has besides the mbuf as data room.
    let populated = unsafe {
        let ops = dpdk_sys::rte_mbuf_best_mempool_ops();
        let chosen = dpdk_sys::rte_mempool_set_ops_byname(raw, ops, ptr::null_mut());
        dpdk_sys::rte_pktmbuf_pool_init(raw, ptr::null_mut());
        chosen == 0 && dpdk_sys::rte_mempool_populate_default(raw) >= 0
    };
    if !populated {
        // SAFETY: nobody has taken anything from it.
        unsafe { dpdk_sys::rte_mempool_free(raw) };
        return None;
    }
    // SAFETY: the callback is the one DPDK provides for pools of mbufs.
    unsafe {
        dpdk_sys::rte_mempool_obj_iter(raw, Some(dpdk_sys::rte_pktmbuf_init), ptr::null_mut());
    }
    Some(pool)
}

/// Room for `struct rte_pktmbuf_pool_private`, 8 bytes in 22.11, in a cache line of its own.
const POOL_PRIVATE: u32 = 64;
