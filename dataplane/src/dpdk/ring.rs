//! A bounded queue of mbufs from one thread to another, over `rte_ring`.
//!
//! Invariants: one producer and one consumer, neither of which can be cloned, so the single-producer single-consumer forms
//! are sound; when both are gone, the mbufs still inside are freed with the ring.

use std::cell::Cell;
use std::ffi::{CString, NulError};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use dpdk_sys::rte_ring;

use super::burst::Burst;
use super::eal::{self, EalError};
use super::error::Errno;
use super::mbuf::Mbuf;

/// The ring itself; only its two ends are handed out.
#[derive(Debug)]
pub struct Ring {
    raw: NonNull<rte_ring>,
    _lease: eal::Lease,
}

// SAFETY: `rte_ring` is made for two threads; which of its functions run where is fixed by the two ends.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

/// The end that puts in.
#[derive(Debug)]
pub struct Producer {
    ring: Arc<Ring>,
    /// `Send`, but not `Sync`.
    not_sync: PhantomData<Cell<()>>,
}

/// The end that takes out.
#[derive(Debug)]
pub struct Consumer {
    ring: Arc<Ring>,
    /// `Send`, but not `Sync`.
    not_sync: PhantomData<Cell<()>>,
}

/// Why a ring could not be created.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// DPDK is not up.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// The name cannot be a C string.
    #[error("ring name: {0}")]
    Name(#[from] NulError),
    /// DPDK refused: a name in use, or too little memory.
    #[error("cannot create ring `{name}` of {size}: {errno}")]
    Create {
        /// The ring's name.
        name: String,
        /// The size asked for.
        size: u32,
        /// DPDK's reason.
        errno: Errno,
    },
}

impl Ring {
    /// Creates a ring for exactly `size` mbufs under a name that no other ring has (at most 28 bytes).
    pub fn create(name: &str, size: u32) -> Result<(Producer, Consumer), RingError> {
        let lease = eal::Lease::take()?;
        let c_name = CString::new(name)?;
        let flags = dpdk_sys::RING_F_SP_ENQ | dpdk_sys::RING_F_SC_DEQ | dpdk_sys::RING_F_EXACT_SZ;
        // SAFETY: EAL is up while the lease is held; the name is copied.
        let raw = unsafe {
            dpdk_sys::rte_ring_create(c_name.as_ptr(), size, dpdk_sys::SOCKET_ID_ANY, flags)
        };
        let Some(raw) = NonNull::new(raw) else {
            return Err(RingError::Create {
                name: name.to_owned(),
                size,
                errno: Errno::last(),
            });
        };
        let ring = Arc::new(Self { raw, _lease: lease });
        let consumer = Consumer {
            ring: Arc::clone(&ring),
            not_sync: PhantomData,
        };
        Ok((
            Producer {
                ring,
                not_sync: PhantomData,
            },
            consumer,
        ))
    }

    fn len(&self) -> usize {
        // SAFETY: the ring is valid until it is dropped.
        unsafe { dpdk_sys::rte_ring_count(self.raw.as_ptr()) as usize }
    }

    fn capacity(&self) -> usize {
        // SAFETY: as above.
        unsafe { dpdk_sys::rte_ring_get_capacity(self.raw.as_ptr()) as usize }
    }

    /// # Safety
    /// Only from the consumer, or when there is neither end any more.
    #[inline]
    unsafe fn dequeue<const N: usize>(&self, burst: &mut Burst<N>) -> usize {
        let spare = burst.spare();
        // SAFETY: `spare` is room for that many pointers; single consumer by the caller's promise.
        let count = unsafe {
            dpdk_sys::rte_ring_sc_dequeue_burst(
                self.raw.as_ptr(),
                spare.as_mut_ptr().cast(),
                spare.len() as u32,
                ptr::null_mut(),
            )
        } as usize;
        // SAFETY: only owned mbufs are ever put in, and these have left the ring.
        unsafe { burst.assume_added(count) };
        count
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut burst: Burst = Burst::new();
        // SAFETY: both ends are gone.
        while unsafe { self.dequeue(&mut burst) } > 0 {
            burst.clear();
        }
        // SAFETY: nobody refers to the ring any more.
        unsafe { dpdk_sys::rte_ring_free(self.raw.as_ptr()) };
    }
}

impl Producer {
    /// Moves mbufs from the front of the burst into the ring, as many as fit, and says how many. The others stay in the
    /// burst, in order.
    #[inline]
    pub fn enqueue_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let mbufs = burst.as_slice();
        // SAFETY: this is the only producer; the mbufs are initialised and ours to give.
        let count = unsafe {
            dpdk_sys::rte_ring_sp_enqueue_burst(
                self.ring.raw.as_ptr(),
                mbufs.as_ptr().cast(),
                mbufs.len() as u32,
                ptr::null_mut(),
            )
        } as usize;
        // SAFETY: the first `count` belong to the ring now.
        unsafe { burst.assume_taken(count) };
        count
    }

    /// Puts one in; gives it back if the ring is full.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        let mut one = Burst::<1>::new();
        one.push(mbuf)?;
        self.enqueue_burst(&mut one);
        one.pop().map_or(Ok(()), Err)
    }

    /// How many mbufs are inside; the consumer may have taken some by now.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// True if none is inside.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many it can hold.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }
}

impl Consumer {
    /// Adds what is inside to the burst, as far as there is room, and says how many.
    #[inline]
    pub fn dequeue_burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        // SAFETY: this is the only consumer.
        unsafe { self.ring.dequeue(burst) }
    }

    /// Takes one out.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        let mut one = Burst::<1>::new();
        self.dequeue_burst(&mut one);
        one.pop()
    }

    /// How many mbufs are inside; the producer may have added some by now.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// True if none is inside.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many it can hold.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }
}
