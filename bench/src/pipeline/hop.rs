//! What it costs to hand a packet to another worker: putting it into the redirect ring on one CPU,
//! taking it out on another, and finding its lines in the cache of the first.
//!
//! Two workers give each other the same burst through the daemon's rings of mbufs, in turns, as
//! workers do that have other work between putting in and taking out: who polls a ring that is
//! being filled takes packets one at a time and makes both sides several times slower. A turn is one
//! hop of each packet. What it costs only to say whose turn it is is measured without packets and
//! subtracted. Nothing overlaps in a turn, so the figure is rather too high than too low.

use super::{Method, pin};
use crate::figure::Failure;
use dataplane::buffer::PacketBuffer;
use dataplane::dpdk::{Burst, Consumer, Eal, Mempool, Producer, Ring, tsc};
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// As between the daemon's workers.
const DEPTH: u32 = 1024;
/// Turns of each worker measured at a time.
const TURNS: u32 = 64;
/// [`Track::exchange`] is over.
const OVER: u64 = u64::MAX;
/// An Ethernet frame without its checksum.
const FRAME: [u8; 60] = [0; 60];

/// DPDK without devices, and the CPUs of the two workers.
pub(super) struct Track {
    eal: &'static Eal,
    pool: &'static Mempool,
    other_cpu: usize,
}

impl Track {
    /// Brings up DPDK; the calling thread is one of the workers and stays on `cpu`.
    pub(super) fn new(cpu: usize, other_cpu: usize) -> Result<Self, Failure> {
        let mut arguments: Vec<String> = [
            "--main-lcore=0",
            "--no-huge",
            "--no-shconf",
            "--no-pci",
            "--no-telemetry",
            "--iova-mode=va",
            "--log-level=warning",
            "-m64",
        ]
        .map(str::to_owned)
        .into();
        arguments.push(format!("--lcores=0@{cpu}"));
        arguments.push(format!(
            "--file-prefix=bench-scaling-{}",
            std::process::id()
        ));
        let eal = Eal::init(&arguments)?;
        pin(cpu);
        let pool = Mempool::create("scaling", 127, 0, Mempool::DATA_ROOM, None)?;
        Ok(Self {
            eal,
            pool,
            other_cpu,
        })
    }

    /// Nanoseconds per packet in bursts of `N`.
    pub(super) fn hop<const N: usize>(&self, method: Method) -> Result<f64, Failure> {
        let empty = self.exchange::<N>(method, 0)?;
        let full = self.exchange::<N>(method, N)?;
        Ok((full - empty) / N as f64)
    }

    /// Nanoseconds per turn with so many packets.
    fn exchange<const N: usize>(&self, method: Method, packets: usize) -> Result<f64, Failure> {
        let (there, far_inbox) = Ring::create(&format!("there_{N}_{packets}"), DEPTH)?;
        let (back, near_inbox) = Ring::create(&format!("back_{N}_{packets}"), DEPTH)?;
        let turn = AtomicU64::new(0);
        let mut near = Worker::<N>::new(there, near_inbox, packets);
        let mut far = Worker::<N>::new(back, far_inbox, packets);
        // Near begins, so what it is to take lies ready.
        far.load(self.pool)?;
        let round = thread::scope(|scope| {
            scope.spawn(|| {
                pin(self.other_cpu);
                for own in (1..).step_by(2) {
                    if !await_turn(&turn, own) {
                        return;
                    }
                    far.work();
                    turn.store(own + 1, Ordering::Release);
                }
            });
            let mut next = 0;
            let round = method.measure(
                &mut near,
                |_, _| Ok(()),
                |near| {
                    let start = tsc();
                    for _ in 0..TURNS {
                        near.work();
                        turn.store(next + 1, Ordering::Release);
                        next += 2;
                        await_turn(&turn, next);
                    }
                    Ok(tsc() - start)
                },
            );
            turn.store(OVER, Ordering::Relaxed);
            round
        })?;
        if near.short || far.short {
            return Err("a burst was not there in its turn".into());
        }
        Ok(round / f64::from(2 * TURNS))
    }

    /// Shuts DPDK down; fails if a packet was lost.
    pub(super) fn close(self) -> Result<(), Failure> {
        Ok(self.eal.cleanup()?)
    }
}

/// Waits for turn `own`; false if there are no more.
#[inline]
fn await_turn(turn: &AtomicU64, own: u64) -> bool {
    loop {
        match turn.load(Ordering::Acquire) {
            OVER => return false,
            now if now == own => return true,
            _ => spin_loop(),
        }
    }
}

/// One of the two.
struct Worker<const N: usize> {
    out: Producer,
    inbox: Consumer,
    burst: Burst<N>,
    packets: usize,
    /// There were once fewer.
    short: bool,
}

impl<const N: usize> Worker<N> {
    fn new(out: Producer, inbox: Consumer, packets: usize) -> Self {
        Self {
            out,
            inbox,
            burst: Burst::new(),
            packets,
            short: false,
        }
    }

    /// Sends the packets off.
    fn load(&mut self, pool: &Mempool) -> Result<(), Failure> {
        for _ in 0..self.packets {
            let mut packet = pool.alloc().ok_or("the pool is too small")?;
            if !packet.fill(&FRAME) || self.out.push(packet).is_err() {
                return Err("the packets do not fit".into());
            }
        }
        Ok(())
    }

    /// Takes the burst, looks at each packet and writes to it as the pipeline would, and puts them
    /// one by one into the other's ring, as [`dataplane::worker`] does.
    #[inline]
    fn work(&mut self) {
        if self.packets == 0 {
            return;
        }
        self.short |= self.inbox.dequeue_burst(&mut self.burst) < self.packets;
        for packet in self.burst.as_mut_slice() {
            let port = black_box(packet.port());
            if let Some(addresses) = packet.data_mut().first_chunk_mut::<12>() {
                addresses[11] = black_box(addresses[0]) ^ port as u8;
            }
        }
        for packet in self.burst.drain() {
            // Never full: there are fewer packets than it has room for.
            drop(self.out.push(packet));
        }
    }
}
