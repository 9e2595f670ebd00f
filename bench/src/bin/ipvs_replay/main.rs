//! The same flows through the kernel's IPVS and through Sluice.
//!
//! ```text
//!   ipvs_replay generate DIR [--seed N] [--flows N] [--rounds N]
//!       DIR/round-N/{rules,vips,marks,in.pcap}: what a kernel director is configured with and what it gets
//!   (a guest runs them: scripts/guest-tests/inside/replay.py)
//!       DIR/round-N/{out-0.pcap,out-1.pcap,ln,lcn,elapsed}: what it did
//!   ipvs_replay compare DIR
//!       the same in Sluice's pipeline, held against the kernel: choices, packets, `-ln`, `-lcn`
//! ```
//!
//! The flows of a round run while the test world ([`dataplane::pipeline::world`]) answers them:
//! real servers reply to what they got from *it*. So both sides get the same bytes, and where the
//! kernel would have chosen another server the first difference shows. A round is short, for no
//! connection may expire in it: the kernel's clock is the guest's, which is slow and not ours.
//! All is drawn from one seed; `compare` repeats what `generate` did.

mod capture;
mod compare;
mod kernel;
mod random;
mod round;
mod traffic;

use clap::{Parser, Subcommand};
use random::Random;
use round::{Deal, Round};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use traffic::Trace;

type Failure = Box<dyn Error>;

/// The same flows through the kernel's IPVS and through Sluice
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes rules and packets for a kernel
    Generate {
        /// Where to; created if missing
        directory: PathBuf,
        /// Other numbers give other flows
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Flows over all rounds
        #[arg(long, default_value_t = 5000)]
        flows: usize,
        /// Rounds, each with services of its own
        #[arg(long, default_value_t = 40)]
        rounds: usize,
    },
    /// Holds what the kernel did against Sluice
    Compare {
        /// What `generate` wrote and a kernel answered
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Generate {
            directory,
            seed,
            flows,
            rounds,
        } => generate(&directory, seed, flows, rounds.max(1)).map(|()| true),
        Command::Compare { directory } => compare(&directory),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ipvs_replay: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs all rounds in Sluice.
fn run(seed: u64, flows: usize, rounds: usize) -> impl Iterator<Item = (Round, Trace)> {
    let mut random = Random::new(seed);
    let mut deal = Deal::default();
    (0..rounds).map(move |number| {
        let round = Round::draw(&mut random, &mut deal);
        let share = flows * (number + 1) / rounds - flows * number / rounds;
        let trace = Trace::run(&round, share, &mut random);
        (round, trace)
    })
}

fn generate(directory: &Path, seed: u64, flows: usize, rounds: usize) -> Result<(), Failure> {
    fs::create_dir_all(directory)?;
    fs::write(
        directory.join("drawn"),
        format!("{seed} {flows} {rounds}\n"),
    )?;
    for (number, (round, trace)) in run(seed, flows, rounds).enumerate() {
        let directory = directory.join(format!("round-{number}"));
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("rules"), round.rules())?;
        fs::write(directory.join("vips"), round.vips())?;
        fs::write(directory.join("marks"), round.marks())?;
        let frames = trace.steps.iter().map(|step| (step.at, &step.frame[..]));
        fs::write(directory.join("in.pcap"), capture::write(frames))?;
    }
    Ok(())
}

fn compare(directory: &Path) -> Result<bool, Failure> {
    let drawn = fs::read_to_string(directory.join("drawn"))?;
    let mut numbers = drawn.split_whitespace().map(str::parse::<u64>);
    let mut next = || Ok::<_, Failure>(numbers.next().ok_or("drawn: a number is missing")??);
    let (seed, flows, rounds) = (next()?, next()? as usize, next()? as usize);
    let mut total = compare::Tally::default();
    for (number, (round, trace)) in run(seed, flows, rounds).enumerate() {
        let name = format!("round-{number}");
        let kernel = kernel::Record::read(&directory.join(&name))?;
        total.round(&name, &round, &trace, &kernel);
    }
    total.print();
    Ok(total.differences == 0)
}
