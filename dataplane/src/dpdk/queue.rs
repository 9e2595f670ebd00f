//! Receive and transmit queues of a started port.
//!
//! Invariant: a queue has one handle, made when the port starts, and polling takes `&mut`: no two threads can poll one
//! queue. Every handle keeps the port from being stopped.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use super::burst::Burst;
use super::port::Claim;

/// The queues of one index. A port that has fewer queues in one direction leaves the later ones empty there.
#[derive(Debug)]
pub struct QueuePair {
    /// To receive from.
    pub rx: Option<RxQueue>,
    /// To send to.
    pub tx: Option<TxQueue>,
}

/// A receive queue.
#[derive(Debug)]
pub struct RxQueue {
    claim: Arc<Claim>,
    queue: u16,
    /// `Send`, but not `Sync`.
    not_sync: PhantomData<Cell<()>>,
}

/// A transmit queue.
#[derive(Debug)]
pub struct TxQueue {
    claim: Arc<Claim>,
    queue: u16,
    /// `Send`, but not `Sync`.
    not_sync: PhantomData<Cell<()>>,
}

impl RxQueue {
    pub(super) fn new(claim: Arc<Claim>, queue: u16) -> Self {
        Self {
            claim,
            queue,
            not_sync: PhantomData,
        }
    }

    /// Adds what has arrived to the burst, as far as there is room, and says how many. Some drivers need room for at least
    /// four to return any: best poll with an empty burst.
    #[inline]
    pub fn rx<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let spare = burst.spare();
        let room = spare.len().min(u16::MAX as usize) as u16;
        // SAFETY: the port is started and configured with this queue for as long as `claim` is held; this is the only
        // handle; `Mbuf` is a transparent pointer, so `spare` is room for `room` pointers.
        let received = unsafe {
            dpdk_sys::rte_eth_rx_burst(
                self.claim.port(),
                self.queue,
                spare.as_mut_ptr().cast(),
                room,
            )
        } as usize;
        // SAFETY: the driver wrote that many and gave them away.
        unsafe { burst.assume_added(received) };
        received
    }

    /// Its index.
    pub fn index(&self) -> u16 {
        self.queue
    }
}

impl TxQueue {
    pub(super) fn new(claim: Arc<Claim>, queue: u16) -> Self {
        Self {
            claim,
            queue,
            not_sync: PhantomData,
        }
    }

    /// Sends as many from the front of the burst as the queue has room for, and says how many. The others stay in the
    /// burst, in order: to be retried, or dropped and counted.
    #[inline]
    pub fn tx<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let mbufs = burst.as_mut_slice();
        let count = mbufs.len().min(u16::MAX as usize) as u16;
        // SAFETY: as in `rx`; the mbufs are initialised and ours to give.
        let sent = unsafe {
            dpdk_sys::rte_eth_tx_burst(
                self.claim.port(),
                self.queue,
                mbufs.as_mut_ptr().cast(),
                count,
            )
        } as usize;
        // SAFETY: the first `sent` belong to the driver now.
        unsafe { burst.assume_taken(sent) };
        sent
    }

    /// Its index.
    pub fn index(&self) -> u16 {
        self.queue
    }
}
