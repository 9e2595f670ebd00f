//! What it costs to find connections: the own index, hashbrown and DPDK's `rte_hash`, on the same work.
//!
//! The same IPv4 five-tuples are looked up in random order in bursts of 32; each look-up ends with
//! a word of a 64-byte entry read and written. Keys lie in a ring of 1024, written outside the
//! timed part. *pair*: taking one of 1 M flows out and putting another in. *worst*: the dearest of
//! the insertions into a table as full as it was made for (7 / 8 of 2^21 flows, where hashbrown's
//! and `rte_hash`'s buckets are as full as they ever get), each after a removal.
//!
//! Every candidate runs in processes of its own (memory freed by one would be another's), several
//! times in turns, and the lowest counts: other programs only ever make a figure larger. All have
//! their tables in transparent pages of 2 MB.
//!
//! ```text
//!   index_cost [ROUNDS]     all of them, 3 rounds of processes; some 35 s each
//! ```

mod candidates;

#[path = "../../clock.rs"]
#[expect(dead_code, reason = "the pipeline's measurements use more of it")]
mod clock;

use candidates::{Alone, Dpdk, Entries, Flow, Index, Map, Own};
use clock::Clock;
use dataplane::dpdk::tsc;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::error::Error;
use std::process::Command;
use std::{env, fs};

type Failure = Box<dyn Error>;

/// Keys looked up at once.
const BURST: usize = 32;
/// Keys made at once.
const RING: usize = 1024;
const MILLION: u32 = 1_000_000;
/// Flows of the full table.
const FULL: u32 = 7 << 18;

/// Name on the command line, name in the table.
const CANDIDATES: [(&str, &str); 5] = [
    ("own", "own table, staged"),
    ("alone", "own index alone"),
    ("map", "hashbrown, keys in it"),
    ("entries", "hashbrown, keys in entries"),
    ("dpdk", "rte_hash, bulk"),
];

/// What is measured, in the order of the columns.
const COLUMNS: [&str; 6] = ["1k ns", "1M ns", "10M ns", "pair ns", "bytes", "worst us"];

fn main() -> Result<(), Failure> {
    let argument = env::args().nth(1);
    pin()?;
    match argument.as_deref() {
        Some("own") => measure::<Own>(),
        Some("alone") => measure::<Alone>(),
        Some("map") => measure::<Map>(),
        Some("entries") => measure::<Entries>(),
        Some("dpdk") => {
            let eal = candidates::start_dpdk()?;
            measure::<Dpdk>()?;
            Ok(eal.cleanup()?)
        }
        other => compare(other.map_or(Ok(3), str::parse)?),
    }
}

/// Runs all candidates `rounds` times and prints the lowest figures.
fn compare(rounds: u32) -> Result<(), Failure> {
    let mut lowest = [[f64::INFINITY; COLUMNS.len()]; CANDIDATES.len()];
    for _ in 0..rounds {
        for ((argument, _), lowest) in CANDIDATES.iter().zip(&mut lowest) {
            let output = Command::new(env::current_exe()?)
                .arg(argument)
                // glibc asks for large pages.
                .env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
                .output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into());
            }
            let text = String::from_utf8(output.stdout)?;
            for (lowest, figure) in lowest.iter_mut().zip(text.split_whitespace()) {
                *lowest = lowest.min(figure.parse()?);
            }
        }
    }
    print!("{:<27}", "");
    for column in COLUMNS {
        print!("{column:>10}");
    }
    println!();
    for ((_, name), figures) in CANDIDATES.iter().zip(lowest) {
        print!("{name:<27}");
        for figure in figures {
            print!("{figure:>10.1}");
        }
        println!();
    }
    Ok(())
}

/// Prints the figures of one candidate.
fn measure<I: Index>() -> Result<(), Failure> {
    let clock = Clock::calibrated();
    let before = resident()?;
    let mut million = Table::<I>::filled(MILLION)?;
    // The handles are the benchmark's own.
    let bytes = (resident()? - before) / f64::from(MILLION) - size_of::<I::Handle>() as f64;
    let ns_million = million.look_ups(clock)?;
    let pair = million.pairs(clock)?;
    drop(million);
    let ns_thousand = Table::<I>::filled(1000)?.look_ups(clock)?;
    let ns_ten = Table::<I>::filled(10 * MILLION)?.look_ups(clock)?;
    let worst = Table::<I>::filled(FULL)?.worst(clock)? / 1e3;
    println!("{ns_thousand} {ns_million} {ns_ten} {pair} {bytes} {worst}");
    Ok(())
}

/// An index with flows in it.
struct Table<I: Index> {
    index: I,
    flows: u32,
    /// Where each flow is.
    handles: Vec<I::Handle>,
    random: Random,
}

impl<I: Index> Table<I> {
    /// The flows `0..flows` in an index made for as many.
    fn filled(flows: u32) -> Result<Self, Failure> {
        let mut index = I::new(flows)?;
        let mut handles = Vec::with_capacity(flows as usize);
        for number in 0..flows {
            handles.push(index.insert(&Flow::new(number))?);
        }
        Ok(Self {
            index,
            flows,
            handles,
            random: Random(0x9e37_79b9_7f4a_7c15),
        })
    }

    /// Nanoseconds per look-up: the lowest of several rounds, of each the first decile.
    fn look_ups(&mut self, clock: Clock) -> Result<f64, Failure> {
        const ROUNDS: usize = 12;
        const RINGS: usize = 200;
        let mut lowest = u64::MAX;
        let mut ring = vec![Flow::new(0); RING];
        for _ in 0..ROUNDS {
            let mut spent = Vec::with_capacity(RINGS);
            for _ in 0..RINGS {
                ring.fill_with(|| Flow::new(self.random.below(self.flows)));
                let (bursts, _) = ring.as_chunks::<BURST>();
                let mut found = 0;
                let start = tsc();
                for burst in bursts {
                    found += self.index.look_up(burst);
                }
                spent.push(tsc() - start);
                if found != RING {
                    return Err("a flow was not found".into());
                }
            }
            spent.sort_unstable();
            lowest = lowest.min(spent[RINGS / 10]);
        }
        Ok(clock.ns(lowest as f64) / RING as f64)
    }

    /// Nanoseconds for taking a flow out and putting another in, as [`Self::look_ups`].
    fn pairs(&mut self, clock: Clock) -> Result<f64, Failure> {
        let mut lowest = u64::MAX;
        let order = self.random.order(self.flows);
        for pass in 0..8 {
            let mut spent = Vec::new();
            for some in order.chunks_exact(RING) {
                let mut ring = self.replacements(some, pass);
                let start = tsc();
                for step in &mut ring {
                    self.index.remove(step.handle);
                    step.handle = self.index.insert(&step.flow)?;
                }
                spent.push(tsc() - start);
                self.keep(ring);
            }
            spent.sort_unstable();
            lowest = lowest.min(spent[spent.len() / 10]);
        }
        Ok(clock.ns(lowest as f64) / RING as f64)
    }

    /// Nanoseconds of the dearest insertion while all flows are replaced twice.
    fn worst(&mut self, clock: Clock) -> Result<f64, Failure> {
        let mut worst = 0;
        let order = self.random.order(self.flows);
        for pass in 0..2 {
            for some in order.chunks_exact(RING) {
                let mut ring = self.replacements(some, pass);
                for step in &mut ring {
                    self.index.remove(step.handle);
                    let start = tsc();
                    step.handle = self.index.insert(&step.flow)?;
                    worst = worst.max(tsc() - start);
                }
                self.keep(ring);
            }
        }
        Ok(clock.ns(worst as f64))
    }

    /// What takes the place of the flows at `some`: `n + flows` that of `n`, or in odd passes the
    /// other way round.
    fn replacements(&self, some: &[u32], pass: u32) -> Vec<Replacement<I::Handle>> {
        let first = if pass.is_multiple_of(2) {
            self.flows
        } else {
            0
        };
        some.iter()
            .map(|&at| Replacement {
                at,
                handle: self.handles[at as usize],
                flow: Flow::new(at + first),
            })
            .collect()
    }

    fn keep(&mut self, ring: Vec<Replacement<I::Handle>>) {
        for step in ring {
            self.handles[step.at as usize] = step.handle;
        }
    }
}

/// A flow to be put in the place of another.
struct Replacement<H> {
    at: u32,
    /// Where the old one is, then where the new one is.
    handle: H,
    flow: Flow,
}

/// Random numbers that are the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * u64::from(bound)) >> 32) as u32
    }

    /// The numbers below `bound`, shuffled.
    fn order(&mut self, bound: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..bound).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, self.below(last as u32 + 1) as usize);
        }
        order
    }
}

/// Keeps this process on its last CPU.
fn pin() -> Result<(), Failure> {
    let cpus = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rfind(|cpu| cpus.is_set(*cpu));
    let mut one = CpuSet::new();
    one.set(last.ok_or("no CPU")?);
    Ok(sched_setaffinity(None, &one)?)
}

/// Bytes of physical memory this process has.
fn resident() -> Result<f64, Failure> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).ok_or("no second field in statm")?;
    Ok(pages.parse::<f64>()? * 4096.0)
}
