//! The pipeline without a device: nanoseconds per packet.
//!
//! A figure is the lowest of several rounds, a round the first decile of its rings of 1024 packets:
//! whatever else the machine does can only make a ring slower, and on a busy one it does so to
//! more than half of them. All that is repeated in several processes and the best is taken, because
//! where a process's memory happens to lie makes up to 10 ns for as long as it lives. Figures that
//! are not worth so much time are taken by fewer of them.
//! Everything random in the traffic comes from fixed seeds; a process is pinned to one CPU.

mod established;
mod fresh;
mod hop;
pub(crate) mod instructions;
mod memory;
mod rig;
pub(crate) mod scaling;
mod swap;

use crate::clock::Clock;
use crate::figure::{self, Failure, Figure};
use crate::packet::Family;
use established::Scenario;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::path::PathBuf;
use std::process::Command;

/// How `bench pipeline` is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// One process instead of five, and only the figures that all five take
    #[arg(long)]
    quick: bool,
    /// Measure once, in this process
    #[arg(long)]
    once: bool,
    /// Which of the processes this one is
    #[arg(long, hide = true, default_value_t = 1)]
    process: usize,
    /// Only figures whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// The CPU to run on
    #[arg(long, default_value_t = 1)]
    cpu: usize,
    /// How long the SYN flood lasts, in seconds
    #[arg(long, default_value_t = SHORT_FLOOD)]
    flood: u64,
    /// Where the figures go, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Options {
    /// True if this process is to take a figure that the first so many processes take.
    fn wants(&self, name: &str, processes: usize) -> bool {
        let least = if self.quick { PROCESSES } else { self.process };
        name.contains(&self.only) && processes >= least
    }
}

/// How many processes take most figures.
const PROCESSES: usize = 5;
/// How many take those that are many and have no budget: the fewest by which two runs agree.
const FEW_PROCESSES: usize = 3;

/// What every measurement needs to know.
#[derive(Clone, Copy, Debug)]
struct Method {
    clock: Clock,
    rounds: usize,
    /// Rings per round.
    rings: usize,
}

/// Seconds, long enough to fill the table several times.
const SHORT_FLOOD: u64 = 2;

const FAMILIES: [(&str, Family); 2] = [("v4", Family::V4), ("v6", Family::V6)];

/// Measures and writes what was asked for.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    let mut figures = if options.once {
        measure(options)?
    } else {
        let processes = if options.quick { 1 } else { PROCESSES };
        println!("best of {processes} processes");
        let mut figures = best_of(processes, options)?;
        // Once: these are about the worst that happens.
        if "reload.swap".contains(&options.only) || options.only.starts_with("reload.swap") {
            pin(options.cpu);
            figures.extend(swap::figures(Clock::calibrated(), options.cpu)?);
        }
        figures
    };
    figure::judge(&mut figures);
    if let Some(path) = &options.json {
        figure::write(path, &figures)?;
    }
    Ok(true)
}

/// Measures in so many processes, one after another.
fn best_of(processes: usize, options: &Options) -> Result<Vec<Figure>, Failure> {
    let file = std::env::temp_dir().join(format!("bench-pipeline-{}.json", std::process::id()));
    let mut best: Vec<Figure> = Vec::new();
    let mut all: Vec<Vec<f64>> = Vec::new();
    for number in 1..=processes {
        println!("  process {number}");
        // A long flood is about what it does to others, and once is enough for that.
        let flood = if number == 1 {
            options.flood
        } else {
            SHORT_FLOOD
        };
        let status = Command::new(std::env::current_exe()?)
            .args(["pipeline", "--once", "--only", &options.only])
            .args(options.quick.then_some("--quick"))
            .args(["--process", &number.to_string()])
            .args(["--cpu", &options.cpu.to_string()])
            .args(["--flood", &flood.to_string()])
            .arg("--json")
            .arg(&file)
            .status()?;
        if !status.success() {
            return Err(format!("process {number} failed: {status}").into());
        }
        let figures = figure::read(&file)?;
        for figure in figures {
            let before = best.iter().position(|before| before.name == figure.name);
            let place = before.unwrap_or(best.len());
            if before.is_none() {
                all.push(Vec::new());
                best.push(figure.clone());
            }
            all[place].push(figure.value);
            best[place].take_better(figure);
        }
    }
    std::fs::remove_file(&file)?;
    println!("lowest, median and highest of the processes");
    for (figure, mut values) in best.iter().zip(all) {
        values.sort_by(f64::total_cmp);
        let (name, median) = (&figure.name, values[values.len() / 2]);
        let (lowest, highest) = (values[0], values[values.len() - 1]);
        println!("  {name:<36} {lowest:>12.2} {median:>12.2} {highest:>12.2}");
    }
    Ok(best)
}

/// Measures in this process.
fn measure(options: &Options) -> Result<Vec<Figure>, Failure> {
    pin(options.cpu);
    let method = Method {
        clock: Clock::calibrated(),
        rounds: 5,
        rings: 200,
    };
    let mut figures = Vec::new();
    let wanted = |name: &str| options.wants(name, PROCESSES);
    // First: memory that other measurements gave back would be used again and not be seen.
    for (family_name, family) in FAMILIES {
        let name = format!("connection.bytes.{family_name}");
        if wanted(&name) {
            let bytes = memory::per_connection(method, family)?;
            figures.push(Figure::new(name, bytes, "B"));
        }
    }
    for scenario in established::scenarios() {
        if options.wants(&scenario.name, scenario.processes) {
            let Scenario {
                family,
                forward,
                flows,
                ..
            } = scenario;
            let ns = established::flows(method, family, forward, flows)?;
            figures.push(Figure::new(scenario.name, ns, "ns"));
        }
    }
    let name = "pipeline.single.ns";
    if wanted(name) {
        figures.push(Figure::new(name, established::single(method)?, "ns"));
    }
    for length in [64, 512, 1500] {
        let name = format!("pipeline.size.{length}.ns");
        if wanted(&name) {
            figures.push(Figure::new(name, established::size(method, length)?, "ns"));
        }
    }
    for choice in fresh::SCHEDULERS {
        let name = format!("pipeline.new.{}.ns", choice.name);
        if options.wants(&name, choice.processes) {
            figures.push(Figure::new(name, fresh::flows(method, choice)?, "ns"));
        }
    }
    let name = "pipeline.new.persistent.ns";
    if wanted(name) {
        figures.push(Figure::new(name, fresh::persistent(method)?, "ns"));
    }
    if wanted("pipeline.cps") {
        let rates = fresh::conversations(method)?;
        figures.push(Figure::new("pipeline.cps.dr", rates.roomy, "1/s"));
        figures.push(Figure::new("pipeline.cps.full", rates.full, "1/s"));
        figures.push(Figure::new(
            "pipeline.cps.full.lost",
            rates.lost_percent,
            "%",
        ));
    }
    if wanted("pipeline.flood") {
        let flood = fresh::flood(method, options.flood)?;
        figures.push(Figure::new("pipeline.flood.ns", flood.ns, "ns"));
        figures.push(Figure::new("pipeline.flood.lost", flood.lost_percent, "%"));
        figures.push(Figure::new(
            "pipeline.flood.left",
            flood.left as f64,
            "connections",
        ));
    }
    Ok(figures)
}

/// Stays on one CPU, if there is that one: caches keep warm and two parts do not disturb each other.
pub(crate) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        eprintln!("bench: not pinned to CPU {cpu}: {error}");
    }
}

impl Method {
    /// The lowest of the rounds, each the first decile of its rings, in nanoseconds per ring.
    ///
    /// `round` prepares a round; `ring` measures one ring in ticks.
    fn measure<T>(
        self,
        subject: &mut T,
        mut round: impl FnMut(&mut T, usize) -> Result<(), Failure>,
        mut ring: impl FnMut(&mut T) -> Result<u64, Failure>,
    ) -> Result<f64, Failure> {
        let mut lowest = f64::INFINITY;
        // The first round warms up.
        for number in 0..=self.rounds {
            round(subject, number)?;
            let ticks: Result<Vec<_>, _> = (0..self.rings).map(|_| ring(subject)).collect();
            if number > 0 {
                lowest = lowest.min(decile(ticks?));
            }
        }
        Ok(self.clock.ns(lowest))
    }
}

/// The value that a tenth of `values` stays below.
fn decile(mut values: Vec<u64>) -> f64 {
    values.sort_unstable();
    values[values.len() / 10] as f64
}

/// Random numbers that are the same in every run (xorshift64*).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const SEED: Self = Self(0x9e37_79b9_7f4a_7c15);

    /// A number below `bound`.
    #[inline]
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_is_the_lowest_decile_after_the_first_round() {
        let method = Method {
            clock: Clock { hz: 1e9 },
            rounds: 2,
            rings: 10,
        };
        let rounds = [[1; 10], [30, 90, 90, 20, 90, 90, 90, 90, 90, 90], [99; 10]];
        let mut ticks = rounds.concat().into_iter();
        let figure = method.measure(&mut (), |(), _| Ok(()), |()| Ok(ticks.next().unwrap()));
        assert!((figure.unwrap() - 30.0).abs() < 1e-9);
    }

    #[test]
    fn a_figure_is_taken_by_its_processes_and_a_quick_run_takes_what_all_take() {
        let mut options = Options {
            quick: false,
            once: true,
            process: 2,
            only: "new".to_owned(),
            cpu: 0,
            flood: 0,
            json: None,
        };
        assert!(options.wants("pipeline.new.rr.ns", 2));
        assert!(!options.wants("pipeline.new.rr.ns", 1));
        assert!(!options.wants("pipeline.dr.v4.1k.ns", 5));
        options.quick = true;
        assert!(options.wants("pipeline.new.rr.ns", PROCESSES));
        assert!(!options.wants("pipeline.new.rr.ns", 2));
    }

    #[test]
    fn random_numbers_fill_their_range_evenly() {
        let mut random = Random::SEED;
        let mut seen = [0_u32; 10];
        for _ in 0..100_000 {
            seen[random.below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (9_500..10_500).contains(n)), "{seen:?}");
    }
}
