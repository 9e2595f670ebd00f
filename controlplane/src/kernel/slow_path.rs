//! The slow-path thread: punted packets to the TAPs, what Linux sends back to the wire.
//!
//! Each round serves the punt classes in order of importance, each with a budget, so that a flood
//! of the least important delays a VRRP advert by at most one round. Linux may answer every frame at
//! once and its queue towards us holds a few hundred, so it is emptied after each class: a flood's
//! answers would push those to ARP out. Invariant: every frame taken from either side is delivered or
//! counted; the thread sleeps when there is nothing to do.

use super::tap::Tap;
use dataplane::packet::MacAddress;
use dataplane::verdict::{PortId, PuntClass};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where punted packets come from.
pub trait PuntSource {
    /// Hands up to `budget` frames of `class` to `deliver` with the port each arrived on; returns
    /// how many.
    fn receive(
        &mut self,
        class: PuntClass,
        budget: usize,
        deliver: &mut dyn FnMut(PortId, &[u8]),
    ) -> usize;
}

/// Where packets of the Linux stack go.
pub trait InjectSink {
    /// Queues a frame for sending on `port`; `false` if there is no room.
    fn inject(&mut self, port: PortId, frame: &[u8]) -> bool;
}

/// The state of the slow-path thread.
pub struct SlowPath<S, I> {
    taps: Vec<Option<Slot>>,
    source: S,
    sink: I,
    counters: Arc<SlowPathCounters>,
}

impl<S: PuntSource, I: InjectSink> SlowPath<S, I> {
    /// `taps[i]` belongs to `PortId(i)`; `None` for a port without a kernel interface.
    pub fn new(taps: Vec<Option<Tap>>, source: S, sink: I) -> Self {
        Self {
            taps: taps.into_iter().map(|tap| tap.map(Slot::new)).collect(),
            source,
            sink,
            counters: Arc::default(),
        }
    }

    /// The counters, to be read from anywhere.
    pub fn counters(&self) -> Arc<SlowPathCounters> {
        Arc::clone(&self.counters)
    }

    /// Serves until `stop` is set; notices within 1 ms.
    pub fn run(&mut self, stop: &AtomicBool) {
        // Largest datagram, Ethernet header, two VLAN tags.
        let mut frame = vec![0; 65_535 + 14 + 8];
        let mut pause = SHORTEST_PAUSE;
        while !stop.load(Ordering::Relaxed) {
            #[cfg(feature = "test-hooks")]
            crate::test_hooks::pause("the slow path");
            let mut moved = 0;
            for class in PuntClass::ALL {
                let delivered = self.deliver(*class);
                if delivered > 0 {
                    moved += delivered + self.inject(&mut frame);
                }
            }
            moved += self.inject(&mut frame);
            if moved > 0 {
                pause = SHORTEST_PAUSE;
                continue;
            }
            self.wait(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The TAPs, for the caller to keep or remove after [`SlowPath::run`].
    pub fn into_taps(self) -> Vec<Option<Tap>> {
        self.taps
            .into_iter()
            .map(|slot| slot.and_then(|slot| slot.tap))
            .collect()
    }

    /// Punted frames of a class to the TAPs; how many.
    fn deliver(&mut self, class: PuntClass) -> usize {
        let counters = &self.counters.classes[class as usize];
        let taps = &mut self.taps;
        self.source
            .receive(class, budget(class), &mut |port, frame| {
                let Some(Some(slot)) = taps.get_mut(usize::from(port.0)) else {
                    count(&counters.no_interface);
                    return;
                };
                match slot.write(frame) {
                    Ok(_) => count(&counters.delivered),
                    Err(error) => {
                        count(&counters.failed);
                        slot.check(&error);
                    }
                }
            })
    }

    /// Frames of the Linux stack to the wire; how many.
    fn inject(&mut self, frame: &mut [u8]) -> usize {
        let mut moved = 0;
        for (index, slot) in self.taps.iter_mut().enumerate() {
            let Some(slot) = slot else { continue };
            slot.reopen(&self.counters);
            let port = PortId(index as u8);
            for _ in 0..TAP_BUDGET {
                let Some(tap) = &slot.tap else { break };
                let length = match tap.read(frame) {
                    Ok(length) => length,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => {
                        count(&self.counters.read_failures);
                        slot.check(&error);
                        break;
                    }
                };
                moved += 1;
                let largest = tap.mtu().load(Ordering::Relaxed) as usize + ETHERNET_AND_VLAN;
                if length > largest {
                    count(&self.counters.oversize);
                } else if self.sink.inject(port, &frame[..length]) {
                    count(&self.counters.injected);
                } else {
                    count(&self.counters.inject_failures);
                }
            }
        }
        moved
    }

    /// Sleeps until Linux sends something, at most `pause`: the punt rings cannot wake anybody.
    fn wait(&self, pause: Duration) {
        let mut polled: Vec<_> = self
            .taps
            .iter()
            .flatten()
            .filter_map(|slot| slot.tap.as_ref())
            .map(|tap| PollFd::new(tap, PollFlags::IN))
            .collect();
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(pause.subsec_nanos()),
        };
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            // Out of memory is the only cause left; without a sleep here it would spin.
            Err(_) => std::thread::sleep(pause),
        }
    }
}

/// Counters of the slow path.
#[derive(Debug, Default)]
pub struct SlowPathCounters {
    /// Per punt class, in [`PuntClass`] order.
    pub classes: [ClassCounters; PuntClass::COUNT],
    /// Frames of the Linux stack queued for the wire.
    pub injected: AtomicU64,
    /// Frames of the Linux stack lost because the inject ring was full.
    pub inject_failures: AtomicU64,
    /// Frames of the Linux stack larger than the port's MTU allows.
    pub oversize: AtomicU64,
    /// Failed reads from a TAP, other than "nothing there".
    pub read_failures: AtomicU64,
    /// Times a TAP that had vanished was made again.
    pub reopened: AtomicU64,
}

impl SlowPathCounters {
    /// The counters of one class.
    pub fn class(&self, class: PuntClass) -> &ClassCounters {
        &self.classes[class as usize]
    }
}

/// Counters of one punt class.
#[derive(Debug, Default)]
pub struct ClassCounters {
    /// Frames handed to the Linux stack.
    pub delivered: AtomicU64,
    /// Frames the TAP did not take (it is down, gone, or its queue is full).
    pub failed: AtomicU64,
    /// Frames for a port that has no TAP.
    pub no_interface: AtomicU64,
}

/// A port's TAP and what is needed to make it again.
struct Slot {
    tap: Option<Tap>,
    name: String,
    mac: MacAddress,
    mtu: Arc<AtomicU32>,
    retry: Instant,
    reported: bool,
}

impl Slot {
    fn new(tap: Tap) -> Self {
        Self {
            name: tap.name().to_owned(),
            mac: tap.mac(),
            mtu: Arc::clone(tap.mtu()),
            tap: Some(tap),
            retry: Instant::now(),
            reported: false,
        }
    }

    fn write(&self, frame: &[u8]) -> std::io::Result<usize> {
        match &self.tap {
            Some(tap) => tap.write(frame),
            None => Err(Error::from(Errno::NODEV)),
        }
    }

    /// Lets go of a TAP whose interface was removed.
    fn check(&mut self, error: &Error) {
        let vanished = matches!(
            Errno::from_io_error(error),
            Some(Errno::BADFD | Errno::NODEV | Errno::NXIO)
        );
        if vanished && self.tap.take().is_some() {
            log::warn!("interface {} was removed; making it again", self.name);
            self.retry = Instant::now();
            self.reported = false;
        }
    }

    fn reopen(&mut self, counters: &SlowPathCounters) {
        if self.tap.is_some() || Instant::now() < self.retry {
            return;
        }
        match Tap::reopen(&self.name, self.mac, &self.mtu) {
            Ok(tap) => {
                log::info!("interface {} is back", self.name);
                count(&counters.reopened);
                self.tap = Some(tap);
            }
            Err(error) => {
                // One line per state change, not one per attempt.
                if !self.reported {
                    log::error!("{error}");
                    self.reported = true;
                }
                self.retry = Instant::now() + RETRY;
            }
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Frames of one class per round.
const fn budget(class: PuntClass) -> usize {
    match class {
        PuntClass::Vrrp | PuntClass::Arp => 64,
        PuntClass::Routing | PuntClass::Icmp | PuntClass::Rest => 32,
    }
}

/// Frames read from one TAP per round.
const TAP_BUDGET: usize = 64;
/// A frame is the datagram plus its Ethernet header and a VLAN tag.
const ETHERNET_AND_VLAN: usize = 14 + 4;
/// Sleep right after work, doubled up to [`LONGEST_PAUSE`] while nothing comes.
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);
/// Time between two attempts to make a TAP again.
const RETRY: Duration = Duration::from_millis(200);
