//! The generator: sends frames of a pattern at a rate, or as fast as the peer takes them, counts
//! what comes back and how long it took.
//!
//! It runs in the calling thread, which is its EAL's main lcore. A frame the link has no room for is
//! offered again, so nothing is lost on the way to the peer; it never waits for room in its own
//! receive ring, which it empties every turn.

use crate::clock::Clock;
use crate::figure::Failure;
use dataplane::buffer::PacketBuffer;
use dataplane::dpdk::{Burst, Eal, Mempool, Port, PortConfig, RxQueue, Started, TxQueue, tsc};
use std::time::{Duration, Instant};

/// Frames offered to the link at once.
const BURST: usize = 32;
/// Latencies remembered per run.
const SAMPLES: usize = 1 << 22;
/// Bytes of a stamp at the end of a frame: the time and its complement, whose one's complement sum
/// is zero, so that checksums stay right.
const STAMP: usize = 16;

/// What frames are made of.
pub(crate) trait Pattern {
    /// Length of the next frame in bytes; `None` if there are no more.
    fn next(&mut self) -> Option<usize>;
    /// Writes the next frame.
    fn write(&mut self, frame: &mut [u8]);
    /// Looks at a frame that came back.
    fn returned(&mut self, _frame: &[u8]) {}
    /// Whether frames carry the time they were sent.
    fn stamped(&self) -> bool {
        false
    }
}

/// How long and how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// At most so long.
    pub(crate) duration: Duration,
    /// Frames per second; none = as many as the link takes.
    pub(crate) rate: Option<f64>,
}

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// How long it sent.
    pub(crate) seconds: f64,
    /// Times from sending to receiving in microseconds, in order.
    pub(crate) latencies: Vec<f64>,
}

impl Outcome {
    /// Frames received per second, in millions.
    pub(crate) fn mpps(&self) -> f64 {
        self.received as f64 / self.seconds / 1e6
    }

    /// The latency that the part `share` of the frames stays below.
    pub(crate) fn latency(&self, share: f64) -> f64 {
        #[expect(clippy::cast_sign_loss, reason = "a share is not negative")]
        let index = (self.latencies.len() as f64 * share) as usize;
        let last = self.latencies.len().saturating_sub(1);
        self.latencies
            .get(index.min(last))
            .copied()
            .unwrap_or(f64::NAN)
    }
}

/// A started port with one queue in each direction.
pub(crate) struct Generator {
    clock: Clock,
    pool: &'static Mempool,
    port: Port<Started>,
    rx: RxQueue,
    tx: TxQueue,
}

impl Generator {
    /// Brings up DPDK on `cpu` and the device.
    pub(crate) fn new(device: &str, cpu: usize, prefix: &str) -> Result<Self, Failure> {
        let mut arguments: Vec<String> = [
            "--main-lcore=0",
            "--no-huge",
            "--no-shconf",
            "--no-telemetry",
            "--iova-mode=va",
            "--log-level=warning",
            "-m256",
        ]
        .map(str::to_owned)
        .into();
        arguments.push(format!("--lcores=0@{cpu}"));
        arguments.push(format!("--file-prefix={prefix}"));
        if !device.split(',').next().unwrap_or_default().contains(':') {
            arguments.push("--no-pci".to_owned());
        }
        let eal = Eal::init(&arguments)?;
        crate::pipeline::pin(cpu);
        let pool = Mempool::create("generator", 16383, 256, Mempool::DATA_ROOM, None)?;
        let (port, mut queues) = Port::open(device)?.start(&PortConfig::new(pool))?;
        let queue = queues.pop().ok_or("the device has no queue")?;
        Ok(Self {
            clock: Clock {
                hz: eal.tsc_hz() as f64,
            },
            pool,
            port,
            rx: queue.rx.ok_or("the device has no receive queue")?,
            tx: queue.tx.ok_or("the device has no transmit queue")?,
        })
    }

    /// Ticks of the time-stamp counter.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Waits until the peer is there, or gone.
    pub(crate) fn wait_for_link(&self, up: bool, limit: Duration) -> Result<(), Failure> {
        let until = Instant::now() + limit;
        while self.port.link()?.up != up {
            if Instant::now() > until {
                return Err(format!("the link is not {}", if up { "up" } else { "down" }).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Sends frames of `pattern`, then receives until nothing comes any more.
    pub(crate) fn run(&mut self, pattern: &mut impl Pattern, pace: Pace) -> Outcome {
        let start = tsc();
        let length = self.clock.ticks(pace.duration.as_secs_f64() * 1e9);
        // Long enough for a peer that was kept from its CPU for a while.
        let quiet = self.clock.ticks(100e6);
        let per_frame = pace.rate.map(|rate| self.clock.hz / rate);
        let (mut sent, mut received, mut made) = (0_u64, 0_u64, 0_u64);
        let mut latencies = Vec::new();
        let mut outgoing = Burst::<BURST>::new();
        let mut incoming = Burst::<BURST>::new();
        let mut last_heard = start;
        let mut stopped = None;
        loop {
            let now = tsc();
            let elapsed = now.wrapping_sub(start);
            if stopped.is_none() && elapsed >= length {
                stopped = Some(elapsed);
            }
            if stopped.is_none() && outgoing.is_empty() {
                let due = per_frame.map_or(BURST, |ticks| {
                    let frames = elapsed as f64 / ticks - made as f64;
                    (0..BURST).take_while(|n| (*n as f64) < frames).count()
                });
                if !self.fill(&mut outgoing, due, pattern, now) {
                    stopped = Some(elapsed);
                }
                made += outgoing.len() as u64;
            }
            if !outgoing.is_empty() {
                sent += self.tx.tx(&mut outgoing) as u64;
            }
            let count = self.rx.rx(&mut incoming);
            if count > 0 {
                last_heard = now;
                for packet in incoming.as_slice() {
                    let frame = packet.data();
                    // The peer's kernel speaks too, but not IPv4 unless it is spoken to.
                    if frame.get(12..14) != Some(&[8, 0]) {
                        continue;
                    }
                    received += 1;
                    if pattern.stamped()
                        && latencies.len() < SAMPLES
                        && let Some(stamp) = stamp(frame)
                    {
                        latencies.push(now.saturating_sub(stamp));
                    }
                    pattern.returned(frame);
                }
                incoming.clear();
            }
            let over = stopped.is_some_and(|at| elapsed - at > quiet)
                && now.wrapping_sub(last_heard) > quiet;
            if over {
                break;
            }
        }
        latencies.sort_unstable();
        Outcome {
            sent,
            received,
            seconds: self.clock.ns(stopped.unwrap_or(length) as f64) / 1e9,
            latencies: latencies
                .into_iter()
                .map(|ticks| self.clock.ns(ticks as f64) / 1e3)
                .collect(),
        }
    }

    /// Makes `count` frames; false if the pattern has no more.
    fn fill(
        &self,
        burst: &mut Burst<BURST>,
        count: usize,
        pattern: &mut impl Pattern,
        now: u64,
    ) -> bool {
        if count == BURST {
            self.pool.alloc_into(burst);
        } else {
            for _ in 0..count {
                let Some(mbuf) = self.pool.alloc() else {
                    break;
                };
                drop(burst.push(mbuf));
            }
        }
        let mut made = 0;
        for mbuf in burst.as_mut_slice() {
            let Some(length) = pattern.next() else {
                break;
            };
            if !mbuf.append(length) {
                break;
            }
            let frame = mbuf.data_mut();
            pattern.write(frame);
            if pattern.stamped() && length >= STAMP {
                let at = length - STAMP;
                frame[at..at + 8].copy_from_slice(&now.to_be_bytes());
                frame[at + 8..].copy_from_slice(&(!now).to_be_bytes());
            }
            made += 1;
        }
        let all = made == burst.len();
        while burst.len() > made {
            burst.pop();
        }
        all
    }

    /// Closes the device. The peer must be gone or have closed its end: the driver of memif does
    /// not survive a peer that goes away while it receives.
    pub(crate) fn close(self) -> Result<(), Failure> {
        let Self { port, rx, tx, .. } = self;
        drop((rx, tx));
        port.stop().map_err(|error| error.cause)?.close()?;
        Ok(())
    }
}

/// The time a frame was sent, if it carries one.
fn stamp(frame: &[u8]) -> Option<u64> {
    let (rest, complement) = frame.split_last_chunk::<8>()?;
    let (_, time) = rest.split_last_chunk::<8>()?;
    let time = u64::from_be_bytes(*time);
    (time == !u64::from_be_bytes(*complement)).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_told_from_other_bytes() {
        let mut frame = vec![0; 60];
        assert_eq!(stamp(&frame), None);
        frame.extend(7_u64.to_be_bytes());
        frame.extend((!7_u64).to_be_bytes());
        assert_eq!(stamp(&frame), Some(7));
        assert_eq!(stamp(&frame[..10]), None);
    }

    #[test]
    fn a_latency_is_the_one_its_share_stays_below() {
        let outcome = Outcome {
            latencies: (0..1000).map(f64::from).collect(),
            ..Outcome::default()
        };
        assert!((outcome.latency(0.5) - 500.0).abs() < 1e-9);
        assert!((outcome.latency(0.999) - 999.0).abs() < 1e-9);
        assert!((outcome.latency(1.0) - 999.0).abs() < 1e-9);
        assert!(Outcome::default().latency(0.5).is_nan());
    }
}
