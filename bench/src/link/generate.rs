//! `bench generate`: the generator alone, for any device DPDK has.

use super::generator::{Generator, Pace};
use super::pattern::{Conversations, Established, Opening, Popularity};
use crate::figure::{self, Failure, Figure};
use std::path::PathBuf;
use std::time::Duration;

/// How `bench generate` is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The device: a PCI address or a vdev string
    #[arg(long)]
    device: String,
    /// The CPU to run on
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// How many flows
    #[arg(long, default_value_t = 1000)]
    flows: u32,
    /// Frame length in bytes, Ethernet checksum included
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Frames per second; as many as possible by default
    #[arg(long)]
    rate: Option<f64>,
    /// How long, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Draw flows by Zipf's law instead of evenly
    #[arg(long)]
    zipf: bool,
    /// Whole conversations of four packets instead of established flows
    #[arg(long)]
    conversations: bool,
    /// Measure latency (frames of at least 74 bytes)
    #[arg(long)]
    latency: bool,
    /// How long to wait for the link, in seconds
    #[arg(long, default_value_t = 10)]
    wait: u64,
    /// Where the figures go, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Opens the flows, sends, says what came back.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    if options.flows == 0 || options.flows > crate::packet::FLOWS {
        return Err(format!("between 1 and {} flows, please", crate::packet::FLOWS).into());
    }
    let prefix = format!("bench-generate-{}", std::process::id());
    let mut generator = Generator::new(&options.device, options.cpu, &prefix)?;
    generator.wait_for_link(true, Duration::from_secs(options.wait))?;
    let pace = Pace {
        duration: Duration::from_secs(options.seconds),
        rate: options.rate,
    };
    let outcome = if options.conversations {
        generator.run(&mut Conversations::new(), pace)
    } else {
        let patience = Pace {
            duration: Duration::from_mins(10),
            rate: options.rate,
        };
        generator.run(&mut Opening::new(0, options.flows), patience);
        let popularity = if options.zipf {
            Popularity::zipf(options.flows)
        } else {
            Popularity::Uniform
        };
        let mut pattern = Established::new(options.flows, options.size, popularity);
        if options.latency {
            pattern = pattern.stamped();
        }
        generator.run(&mut pattern, pace)
    };
    let mut figures = vec![
        Figure::new(
            "generate.sent.mpps",
            outcome.sent as f64 / outcome.seconds / 1e6,
            "Mpps",
        ),
        Figure::new("generate.received.mpps", outcome.mpps(), "Mpps"),
        Figure::new(
            "generate.lost",
            outcome.sent as f64 - outcome.received as f64,
            "packets",
        ),
    ];
    if options.latency {
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
            figures.push(Figure::new(
                format!("generate.{name}.us"),
                outcome.latency(share),
                "us",
            ));
        }
    }
    generator.close()?;
    if let Some(path) = &options.json {
        figure::write(path, &figures)?;
    }
    Ok(true)
}
