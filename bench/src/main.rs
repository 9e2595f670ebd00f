//! Benchmarks of the Sluice dataplane; `bench/run` drives them all.
//!
//! ```text
//!   bench pipeline      the packet walk over packets in memory: ns per packet, no device
//!   bench instructions  the same under callgrind: instructions per packet, repeatable
//!   bench scaling       what packets cost as workers are added: a model from measured parts
//!   bench link          sluiced and testpmd as peers on a memif link, in turns
//!   bench generate      the generator alone, for any device
//!   bench report        figures of several runs → one table, JSON, SVG, ratios to a baseline
//! ```
//!
//! Each part writes a list of [`figure::Figure`]s as JSON. Wall time is never judged by a machine
//! here except against the budgets of the design; what a test may fail on is the instruction count.

mod clock;
mod figure;
mod link;
mod packet;
mod pipeline;
mod report;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Benchmarks of the Sluice dataplane.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Nanoseconds per packet of the pipeline, without a device
    Pipeline(pipeline::Options),
    /// Instructions per packet of the pipeline, counted by callgrind
    Instructions(pipeline::instructions::Options),
    /// What callgrind runs for `instructions`
    #[command(hide = true)]
    Subject(pipeline::instructions::Subject),
    /// Packets per second of 1 to 8 workers, by a model from measured parts
    Scaling(pipeline::scaling::Options),
    /// Throughput, cost per packet, latency of sluiced and testpmd on a memif link
    Link(link::Options),
    /// Sends flows to a device and counts what comes back
    Generate(link::generate::Options),
    /// One table, JSON and SVG of the figures in several files
    Report(report::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Pipeline(options) => pipeline::run(&options),
        Command::Instructions(options) => pipeline::instructions::run(&options),
        Command::Subject(subject) => pipeline::instructions::subject(&subject),
        Command::Scaling(options) => pipeline::scaling::run(&options),
        Command::Link(options) => link::run(&options),
        Command::Generate(options) => link::generate::run(&options),
        Command::Report(options) => report::run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}
