//! Instructions per packet, counted by callgrind: the same on every machine and under any load.
//!
//! `bench instructions` runs itself as `bench subject` under valgrind, which counts only inside
//! one function of the [rig](super::rig). The keys of the tables' hashes are random, so the
//! count varies by some tenths of a percent.

use super::established::{TUNNELS, Traffic};
use super::rig::{RING, Rig, Site};
use crate::clock::Clock;
use crate::figure::{self, Failure, Figure};
use crate::packet::Family;
use dataplane::packet::tcp;
use dataplane::service::Forward;
use std::path::PathBuf;
use std::process::Command;
use std::thread::{self, ScopedJoinHandle};

/// How `bench instructions` is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only figures whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Where the figures go, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep the profiles, for `callgrind_annotate`, in this directory
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
}

/// What `bench subject` is to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Subject {
    /// The last part of the figure's name
    scenario: String,
}

/// Rings counted.
const RINGS: u32 = 16;

/// What is counted, as the figures are named after `pipeline.instructions.`; the first is the one
/// the others may be compared with.
const SCENARIOS: [&str; 9] = [
    "dr.v4.1m",
    "dr.v4.1k",
    "dr.v6.1k",
    "nat.v4.1k",
    "nat.v6.1k",
    "ipip.v4.1k",
    "gue.v4.1k",
    "new.rr",
    "new.nat",
];

/// Counts and writes what was asked for, two scenarios at a time: time is of no importance.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    let name = |scenario: &str| format!("pipeline.instructions.{scenario}");
    let wanted: Vec<_> = SCENARIOS
        .into_iter()
        .filter(|scenario| name(scenario).contains(&options.only))
        .collect();
    let mut figures = Vec::new();
    for pair in wanted.chunks(2) {
        let counts: Vec<_> = thread::scope(|scope| {
            let running: Vec<_> = pair
                .iter()
                .map(|scenario| scope.spawn(|| count(options, scenario).map_err(|e| e.to_string())))
                .collect();
            running.into_iter().map(ScopedJoinHandle::join).collect()
        });
        for (scenario, count) in pair.iter().zip(counts) {
            let per_packet = count.map_err(|_| "a thread panicked")??;
            figures.push(Figure::new(name(scenario), per_packet, "instructions"));
        }
    }
    if let Some(path) = &options.json {
        figure::write(path, &figures)?;
    }
    Ok(true)
}

/// Instructions per packet of one scenario.
fn count(options: &Options, scenario: &str) -> Result<f64, Failure> {
    let directory = options.keep.clone().unwrap_or_else(std::env::temp_dir);
    let profile = directory.join(format!("callgrind.{scenario}.{}", std::process::id()));
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=*counted_pass*",
        ])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(std::env::current_exe()?)
        .args(["subject", scenario])
        .output()
        .map_err(|e| format!("valgrind (Debian package valgrind): {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let text = std::fs::read_to_string(&profile)?;
    if options.keep.is_none() {
        std::fs::remove_file(&profile)?;
    }
    let total = total(&text).ok_or("callgrind's profile has no totals")?;
    Ok(total / f64::from(RINGS) / RING as f64)
}

/// The sum callgrind wrote at the end of its profile.
fn total(profile: &str) -> Option<f64> {
    let line = profile
        .lines()
        .find_map(|line| line.strip_prefix("totals:"))?;
    line.trim().parse().ok()
}

/// Prepares a scenario, then sends its packets while they are counted.
pub(crate) fn subject(subject: &Subject) -> Result<bool, Failure> {
    let words: Vec<&str> = subject.scenario.split('.').collect();
    // No time passes: under valgrind it would be minutes.
    let clock = Clock { hz: f64::INFINITY };
    let forward = |word: &str| match word {
        "nat" => Forward::Nat,
        word => {
            let mut tunnels = TUNNELS.iter();
            let tunnel = tunnels.find(|(name, _)| *name == word);
            tunnel.map_or(Forward::Dr, |(_, forward)| *forward)
        }
    };
    match words.as_slice() {
        ["new", word] => {
            let method = if *word == "nat" { "nat" } else { "dr" };
            let mut rig = Rig::new(Site::new(Family::V4, forward(method), 1 << 17), clock);
            rig.open(1 << 14)?;
            let syn = rig.request(tcp::SYN, 64);
            rig.count();
            for ring in 0..RINGS {
                let first = (1 << 14) + ring * RING as u32;
                rig.send(RING, |index, packet| {
                    syn.write(packet, first + index as u32);
                })?;
            }
        }
        [method, family, size] => {
            let family = if *family == "v6" {
                Family::V6
            } else {
                Family::V4
            };
            let flows = if *size == "1m" { 1_000_000 } else { 1000 };
            let site = Site::new(family, forward(method), flows as usize);
            let mut rig = Rig::new(site, clock);
            rig.open(flows)?;
            let mut traffic = Traffic::new(&rig, flows, 64);
            if *size == "1k" {
                rig.establish(flows)?;
            } else {
                // Only the flows whose packets are counted, which are drawn again below.
                settle(&mut rig, &mut traffic)?;
                traffic = Traffic::new(&rig, flows, 64);
            }
            rig.count();
            for _ in 0..RINGS {
                rig.send_traffic(&mut traffic)?;
            }
        }
        _ => return Err(format!("there is no scenario {}", subject.scenario).into()),
    }
    Ok(true)
}

/// Brings the flows of the next [`RINGS`] rings of `traffic` into their steady state.
fn settle(rig: &mut Rig, traffic: &mut Traffic) -> Result<(), Failure> {
    for _ in 0..RINGS {
        let again = traffic.clone();
        for _ in 0..10 {
            *traffic = again.clone();
            rig.send_traffic(traffic)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_runs() {
        for scenario in SCENARIOS.iter().filter(|name| !name.ends_with("1m")) {
            let scenario = (*scenario).to_owned();
            assert!(subject(&Subject { scenario }).unwrap());
        }
    }

    #[test]
    fn the_total_is_found() {
        assert_eq!(
            total("events: Ir\nsummary: 12\n\ntotals: 345\n"),
            Some(345.0)
        );
        assert_eq!(total("events: Ir\n"), None);
    }
}
