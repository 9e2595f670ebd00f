//! Through DPDK: the generator on one core, the peer's worker on another, linked by memif.
//!
//! The same link gives very different rates from run to run, so the figure is `extra_ns`: busy
//! time per packet of sluiced less that of testpmd's macswap, which does the same work on the
//! device and next to nothing else. Both are run in turns and medians are taken; of latencies' p50 the
//! best turn. Busy time is that of polls which found packets, receiving and sending included, by
//! both's own counters.

pub(crate) mod generate;
mod generator;
mod pattern;
mod peer;

use crate::figure::{self, Failure, Figure};
use crate::packet::FLOWS;
use generator::{Generator, Outcome, Pace};
use pattern::{Conversations, Echo, Established, Opening, Popularity, REALS};
use peer::{Counters, Place, Sluiced, Testpmd};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How `bench link` is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fewer turns
    #[arg(long)]
    quick: bool,
    /// Only figures of parts with this in their name: throughput, cps, latency, reload
    #[arg(long, default_value = "")]
    only: String,
    /// No more flows than this
    #[arg(long, default_value_t = 10_000_000)]
    most: u32,
    /// An empty directory for the run's files
    #[arg(long)]
    work: PathBuf,
    /// Where sluiced and sluice are
    #[arg(long)]
    binaries: PathBuf,
    /// CPU of the generator and of the peer's control core
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// CPU of the peer's worker
    #[arg(long, default_value_t = 1)]
    worker_cpu: usize,
    /// Where the figures go, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const SIZES: [(&str, u32); 3] = [("1k", 1_000), ("1m", 1_000_000), ("10m", 10_000_000)];
const METHODS: [&str; 2] = ["dr", "nat"];
/// Room in the connection table of every sluiced.
const CONNECTIONS: u32 = 10_000_000;
/// A link that is slow for once must not end a run.
const PATIENCE: Duration = Duration::from_mins(1);
/// Numbers of flows that need long to get nine packets each, and do within a run.
const SETTLING: RangeInclusive<u32> = 100_000..=2_000_000;
/// Enough for 20 packets each of a million flows.
const SETTLING_TIME: Duration = Duration::from_secs(2);
/// Frame length of latency measurements.
const STAMPED: usize = 128;

/// Everything needed to take a turn.
struct Bench {
    generator: Generator,
    place: Place,
    /// One measurement of throughput.
    turn: Duration,
    turns: usize,
    most: u32,
    /// Values by name and unit, one per turn.
    samples: BTreeMap<(String, &'static str), Vec<f64>>,
}

/// Measures and writes what was asked for.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    let place = Place {
        work: options.work.clone(),
        binaries: options.binaries.clone(),
        worker: options.worker_cpu,
        control: options.cpu,
        cpus: rustix::thread::sched_getaffinity(None)?,
    };
    let prefix = format!("bench-{}", std::process::id());
    let generator = Generator::new(&place.device("server"), options.cpu, &prefix)?;
    let mut bench = Bench {
        generator,
        place,
        turn: Duration::from_millis(if options.quick { 400 } else { 1000 }),
        turns: if options.quick { 1 } else { 7 },
        most: options.most,
        samples: BTreeMap::new(),
    };
    let wanted = |part: &str| part.contains(&options.only);
    if wanted("throughput") {
        for _ in 0..bench.turns {
            bench.alone()?;
            let floor = bench.macswap()?;
            for method in METHODS {
                bench.throughput(method, floor)?;
            }
        }
    }
    for method in METHODS {
        if wanted("cps") {
            bench.conversations(method)?;
        }
    }
    if wanted("latency") {
        bench.latency()?;
    }
    if wanted("reload") {
        bench.reload()?;
    }
    let Bench {
        generator, samples, ..
    } = bench;
    generator.close()?;
    println!("lowest, median and highest of the turns");
    for ((name, unit), values) in &samples {
        let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let median = median(values.clone());
        println!("  {name:<36} {lowest:>12.2} {median:>12.2} {highest:>12.2} {unit}");
    }
    let figures: Vec<_> = samples
        .into_iter()
        .map(|((name, unit), values)| {
            // Both peers' loops take a fraction of a microsecond; whatever else the machine does
            // in a turn is orders of magnitude more.
            let value = if name.starts_with("latency.") && name.ends_with("p50.us") {
                values.into_iter().fold(f64::INFINITY, f64::min)
            } else {
                median(values)
            };
            Figure::new(name, value, unit)
        })
        .collect();
    if let Some(path) = &options.json {
        figure::write(path, &figures)?;
    }
    Ok(true)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Bench {
    fn sample(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.samples
            .entry((name.into(), unit))
            .or_default()
            .push(value);
    }

    /// As fast as the peer takes it, for one turn.
    fn full_speed(&self) -> Pace {
        Pace {
            duration: self.turn,
            rate: None,
        }
    }

    /// Waits until the peer is on the link.
    fn link_up(&self) -> Result<(), Failure> {
        self.generator.wait_for_link(true, Duration::from_secs(20))
    }

    /// Nothing may be polled while the peer goes away.
    fn link_down(&self) -> Result<(), Failure> {
        self.generator.wait_for_link(false, Duration::from_secs(20))
    }

    /// The generator itself: how many packets it makes for a peer that only takes them, and how long that is busy
    /// with each.
    fn alone(&mut self) -> Result<(), Failure> {
        let (outcome, ns) = self.testpmd("rxonly")?;
        self.sample("link.generator.taken_ns", ns, "ns");
        let rate = outcome.sent as f64 / outcome.seconds / 1e6;
        self.sample("link.generator.mpps", rate, "Mpps");
        Ok(())
    }

    /// testpmd's macswap: the floor, in nanoseconds per packet.
    fn macswap(&mut self) -> Result<f64, Failure> {
        let (outcome, ns) = self.testpmd("macswap")?;
        self.sample("link.testpmd.mpps", outcome.mpps(), "Mpps");
        self.sample("link.testpmd.ns", ns, "ns");
        Ok(ns)
    }

    /// A turn at full speed with a testpmd of this forwarding mode; how long that was busy with each packet, in
    /// nanoseconds.
    fn testpmd(&mut self, mode: &str) -> Result<(Outcome, f64), Failure> {
        let testpmd = Testpmd::start(&self.place, mode)?;
        self.link_up()?;
        let mut pattern = Established::new(1000, 64, Popularity::Uniform);
        let pace = self.full_speed();
        let outcome = self.generator.run(&mut pattern, pace);
        let ticks = testpmd.stop()?.ok_or("testpmd received nothing")?;
        self.link_down()?;
        Ok((outcome, self.generator.clock().ns(ticks)))
    }

    /// A sluiced that forwards: it learns routes and neighbours from the kernel after its start.
    fn sluiced(&mut self, method: &str) -> Result<Sluiced, Failure> {
        let sluiced = Sluiced::start(&self.place, method, CONNECTIONS)?;
        self.link_up()?;
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            // The last flow, which no measurement uses.
            let mut opening = Opening::new(FLOWS - 1, FLOWS);
            let pace = self.full_speed();
            self.generator.run(&mut opening, pace);
            if !opening.servers.is_empty() {
                return Ok(sluiced);
            }
        }
        Err("nothing comes back: sluiced does not forward".into())
    }

    /// Opens the flows `from..until`; the servers of the first ones.
    fn open(&mut self, from: u32, until: u32) -> Result<Vec<u8>, Failure> {
        let mut opening = Opening::new(from, until);
        let pace = Pace {
            duration: PATIENCE,
            rate: None,
        };
        self.generator.run(&mut opening, pace);
        let servers: Vec<u8> = opening.servers.iter().copied().step_by(2).collect();
        if servers.len() < usize::from(REALS) {
            return Err("too little comes back of the flows that were opened".into());
        }
        Ok(servers)
    }

    /// Established flows through sluiced.
    fn throughput(&mut self, method: &str, floor: f64) -> Result<(), Failure> {
        let sluiced = self.sluiced(method)?;
        let (mut open, mut servers) = (0, Vec::new());
        for (size, flows) in SIZES {
            if flows > self.most {
                break;
            }
            let opened = self.open(open, flows)?;
            if open == 0 {
                servers = opened;
            }
            open = flows;
            let mut pattern = Established::new(flows, 64, Popularity::Uniform);
            if method == "nat" {
                pattern = pattern.with_replies(&servers, 64);
            }
            // The ninth packet of a flow costs more than the others. Either all have had it before
            // the measurement, or none gets it meanwhile.
            let settling = if SETTLING.contains(&flows) {
                SETTLING_TIME
            } else {
                self.turn / 4
            };
            let pace = self.full_speed();
            let warm_up = Pace {
                duration: settling,
                ..pace
            };
            self.generator.run(&mut pattern, warm_up);
            let before = sluiced.counters()?;
            let outcome = self.generator.run(&mut pattern, pace);
            let after = sluiced.counters()?;
            let ticks = (after.ticks - before.ticks) / (after.received - before.received);
            let extra = self.generator.clock().ns(ticks) - floor;
            let burst = (after.received - before.received) / (after.polls - before.polls);
            let name = format!("link.{method}.v4.{size}");
            self.sample(format!("{name}.mpps"), outcome.mpps(), "Mpps");
            self.sample(format!("{name}.extra_ns"), extra, "ns");
            self.sample(format!("{name}.burst"), burst, "packets");
        }
        sluiced.stop()?;
        self.link_down()
    }

    /// Whole conversations, as many as sluiced takes.
    fn conversations(&mut self, method: &str) -> Result<(), Failure> {
        let sluiced = self.sluiced(method)?;
        // Not so long that clients' ports come round again.
        let pace = Pace {
            duration: Duration::from_secs(2),
            rate: None,
        };
        let outcome = self.generator.run(&mut Conversations::new(), pace);
        let created = sluiced.counters()?.created;
        self.sample(
            format!("link.cps.{method}"),
            created / outcome.seconds,
            "1/s",
        );
        sluiced.stop()?;
        self.link_down()
    }

    /// Time there and back at 10, 50 and 90 % of what sluiced and testpmd's icmpecho both take, in
    /// turns and at the same rates.
    fn latency(&mut self) -> Result<(), Failure> {
        const LOADS: [(&str, f64); 3] = [("load10.", 0.1), ("", 0.5), ("load90.", 0.9)];
        let pace = self.full_speed();
        let most = |outcome: &Outcome| outcome.received as f64 / outcome.seconds;
        let testpmd = Testpmd::start(&self.place, "icmpecho")?;
        self.link_up()?;
        let echoed = most(&self.generator.run(&mut Echo::new(STAMPED), pace));
        testpmd.stop()?;
        self.link_down()?;
        let mut rate = None;
        for _ in 0..self.turns.div_ceil(2) {
            let sluiced = self.sluiced("dr")?;
            self.open(0, 1000)?;
            let mut pattern = Established::new(1000, STAMPED, Popularity::Uniform).stamped();
            let passed = most(&self.generator.run(&mut pattern, pace));
            let base = *rate.get_or_insert(passed.min(echoed));
            let at = |share: f64| Pace {
                rate: Some(base * share),
                ..pace
            };
            for (name, share) in LOADS {
                let before = sluiced.counters()?;
                let outcome = self.generator.run(&mut pattern, at(share));
                self.latencies(name, &outcome);
                self.turns_of(name, &before, &sluiced.counters()?);
            }
            sluiced.stop()?;
            self.link_down()?;

            let mut testpmd = Testpmd::start(&self.place, "icmpecho")?;
            self.link_up()?;
            for (name, share) in LOADS {
                let name = format!("icmpecho.{name}");
                let outcome = self.generator.run(&mut Echo::new(STAMPED), at(share));
                self.latencies(&name, &outcome);
                let ticks = testpmd.lap()?.ok_or("testpmd received nothing")?;
                let ns = self.generator.clock().ns(ticks);
                self.sample(format!("latency.{name}packet.ns"), ns, "ns");
            }
            testpmd.stop()?;
            self.link_down()?;
        }
        Ok(())
    }

    /// What the time there and back is made of on the side of `sluiced`: how many packets a turn of its loop found
    /// that found any, and how long it took.
    fn turns_of(&mut self, name: &str, before: &Counters, after: &Counters) {
        let packets = after.received - before.received;
        let polls = after.polls - before.polls;
        let ticks = after.ticks - before.ticks;
        let ns = |ticks| self.generator.clock().ns(ticks);
        let (packet, turn) = (ns(ticks / packets), ns(ticks / polls));
        self.sample(format!("latency.{name}packet.ns"), packet, "ns");
        self.sample(format!("latency.{name}turn.ns"), turn, "ns");
        self.sample(format!("latency.{name}burst"), packets / polls, "packets");
    }

    fn latencies(&mut self, name: &str, outcome: &Outcome) {
        for (percentile, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
            let value = outcome.latency(share);
            self.sample(format!("latency.{name}{percentile}.us"), value, "us");
        }
    }

    /// Packets lost while the configuration is reloaded again and again.
    ///
    /// The rate is low: the reload runs on the generator's core. What sluiced could not send
    /// because the generator did not look in time is the generator's fault and not counted.
    fn reload(&mut self) -> Result<(), Failure> {
        const RATE: f64 = 200e3;
        const RELOADS: u32 = 5;
        let sluiced = self.sluiced("dr")?;
        self.open(0, 1000)?;
        let mut reload = sluiced.reloader();
        let before = sluiced.counters()?;
        let reloads = std::thread::spawn(move || {
            for round in 0..RELOADS {
                std::thread::sleep(Duration::from_millis(300));
                reload("dr", CONNECTIONS, 2 + round).map_err(|error| error.to_string())?;
            }
            Ok::<(), String>(())
        });
        let mut pattern = Established::new(1000, 64, Popularity::Uniform);
        let pace = Pace {
            duration: Duration::from_secs(5),
            rate: Some(RATE),
        };
        let outcome = self.generator.run(&mut pattern, pace);
        reloads.join().map_err(|_| "the reloads failed")??;
        let after = sluiced.counters()?;
        let refused = after.tx_full - before.tx_full;
        let lost = outcome.sent as f64 - outcome.received as f64 - refused;
        self.sample("reload.lost_packets", lost, "packets");
        self.sample("reload.offered_packets", outcome.sent as f64, "packets");
        sluiced.stop()?;
        self.link_down()
    }
}
