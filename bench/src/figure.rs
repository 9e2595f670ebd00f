//! A figure: one measured number with its unit and the budget it has to keep.
//!
//! The names and the JSON form are a contract: reports, the baseline and the guard rely on them.

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fs;
use std::path::Path;

/// What fails a benchmark.
pub(crate) type Failure = Box<dyn Error>;

/// One measured number.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// Dotted name, most general word first.
    pub(crate) name: String,
    /// The number.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: String,
    /// What it may be at most (rates: at least); none if nothing was promised.
    pub(crate) budget: Option<f64>,
    /// Whether the budget is kept; true without one.
    pub(crate) ok: bool,
}

impl Figure {
    /// A figure whose budget [`judge`] finds.
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &str) -> Self {
        let name = name.into();
        println!("  {name:<36} {value:>12.2} {unit}");
        Self {
            name,
            value: (value * 1000.0).round() / 1000.0,
            unit: unit.to_owned(),
            budget: None,
            ok: true,
        }
    }

    /// What it is shown with: the part it belongs to, and of the many of the pipeline those that are
    /// about the same work.
    pub(crate) fn group(&self) -> &str {
        let mut words = self.name.split('.');
        let first = words.next().unwrap_or_default();
        let second = words.next().unwrap_or_default();
        match (first, second) {
            ("pipeline", "size" | "new" | "cps" | "flood" | "instructions") => {
                &self.name[..first.len() + 1 + second.len()]
            }
            _ => first,
        }
    }

    /// Keeps the better of two measurements of one figure; of losses the worse.
    pub(crate) fn take_better(&mut self, other: Self) {
        let is_rate = self.unit == "1/s" || self.unit == "Mpps";
        let is_loss = matches!(self.name.rsplit('.').next(), Some("lost" | "left"));
        self.value = if is_rate || is_loss {
            self.value.max(other.value)
        } else {
            self.value.min(other.value)
        };
    }
}

/// Reads a list of figures.
pub(crate) fn read(path: &Path) -> Result<Vec<Figure>, Failure> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?)
}

/// Writes a list of figures, one a line.
pub(crate) fn write(path: &Path, figures: &[Figure]) -> Result<(), Failure> {
    let lines: Result<Vec<_>, _> = figures.iter().map(serde_json::to_string).collect();
    let text = format!("[\n  {}\n]\n", lines?.join(",\n  "));
    Ok(fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?)
}

/// Sets budget and judgement of every figure (DESIGN §11, which is about IPv4); some budgets are relative to another
/// figure of the same run.
pub(crate) fn judge(figures: &mut [Figure]) {
    let known: Vec<(String, f64)> = figures.iter().map(|f| (f.name.clone(), f.value)).collect();
    let value = |name: &str| known.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    for figure in figures {
        let limit = limit(&figure.name, &value);
        figure.budget = limit.map(|limit| match limit {
            Limit::AtMost(bound) | Limit::AtLeast(bound) => (bound * 100.0).round() / 100.0,
        });
        figure.ok = limit.is_none_or(|limit| match limit {
            Limit::AtMost(bound) => figure.value <= bound,
            Limit::AtLeast(bound) => figure.value >= bound,
        });
    }
}

/// How a figure is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

fn limit(name: &str, value: &impl Fn(&str) -> Option<f64>) -> Option<Limit> {
    use Limit::{AtLeast, AtMost};
    /// NAT may cost so many times what DR costs.
    const NAT: f64 = 1.3;
    /// What a packet may cost more through a device than in the pipeline alone, ns.
    const DEVICE: f64 = 10.0;
    /// The generator alone makes so many times what goes through.
    const GENERATOR: f64 = 1.5;
    let flows = |size: &str| match size {
        "1k" => Some(25.0),
        "1m" => Some(38.0),
        "10m" => Some(45.0),
        _ => None,
    };
    let words: Vec<&str> = name.split('.').collect();
    match words.as_slice() {
        ["pipeline", "dr", "v4", size, "ns"] => flows(size).map(AtMost),
        ["pipeline", "nat", "v4", size, "ns"] => {
            value(&format!("pipeline.dr.v4.{size}.ns")).map(|dr| AtMost(dr * NAT))
        }
        ["link", "dr", "v4", size, "extra_ns"] => flows(size).map(|ns| AtMost(ns + DEVICE)),
        ["link", "nat", "v4", size, "extra_ns"] => flows(size).map(|ns| AtMost(ns * NAT + DEVICE)),
        // Else the generator, not the peer, would be what is measured.
        ["link", "generator", "mpps"] => {
            let rates = ["dr", "nat"].into_iter().flat_map(|method| {
                ["1k", "1m", "10m"].map(|size| value(&format!("link.{method}.v4.{size}.mpps")))
            });
            rates
                .flatten()
                .reduce(f64::max)
                .map(|most| AtLeast(most * GENERATOR))
        }
        ["pipeline", "new", "rr", "ns"] => Some(AtMost(150.0)),
        ["pipeline", "new", "wlc100", "ns"] => Some(AtMost(250.0)),
        ["pipeline", "cps", "dr"] => Some(AtLeast(3e6)),
        ["link", "cps", "dr"] => Some(AtLeast(1.2e6)),
        ["connection", "bytes", "v4"] => Some(AtMost(100.0)),
        ["pipeline", "flood", "lost"] => Some(AtMost(0.1)),
        ["reload", "swap", "lost"] => Some(AtMost(0.0)),
        ["reload", "swap", "burst", "p999", "us"] => Some(AtMost(100.0)),
        ["reload", "lost_packets"] => Some(AtMost(0.0)),
        ["latency", "p50", "us"] => value("latency.icmpecho.p50.us").map(|us| AtMost(us * 1.2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(figures: &[(&str, f64)]) -> Vec<(Option<f64>, bool)> {
        let mut figures: Vec<_> = figures
            .iter()
            .map(|(name, value)| Figure::new(*name, *value, "x"))
            .collect();
        judge(&mut figures);
        figures.iter().map(|f| (f.budget, f.ok)).collect()
    }

    #[test]
    fn times_are_bounded_above_and_rates_below() {
        let figures = [
            ("pipeline.dr.v4.1k.ns", 25.0),
            ("pipeline.dr.v4.1m.ns", 38.1),
            ("pipeline.cps.dr", 2.9e6),
            ("link.cps.dr", 1.3e6),
            ("pipeline.dr.v6.1k.ns", 999.0),
        ];
        let expected = [
            (Some(25.0), true),
            (Some(38.0), false),
            (Some(3e6), false),
            (Some(1.2e6), true),
            (None, true),
        ];
        assert_eq!(judged(&figures), expected);
    }

    #[test]
    fn of_two_measurements_the_lowest_time_the_highest_rate_and_the_worst_loss_count() {
        for (name, unit, values, expected) in [
            ("pipeline.dr.v4.1k.ns", "ns", [21.0, 30.0], 21.0),
            ("pipeline.cps.dr", "1/s", [3e6, 4e6], 4e6),
            ("pipeline.flood.lost", "%", [0.0, 0.3], 0.3),
        ] {
            let mut figure = Figure::new(name, values[0], unit);
            figure.take_better(Figure::new(name, values[1], unit));
            assert_eq!(figure, Figure::new(name, expected, unit));
        }
    }

    #[test]
    fn nat_is_judged_by_dr_and_latency_by_icmpecho_of_the_same_run() {
        let figures = [
            ("pipeline.dr.v4.1m.ns", 40.0),
            ("pipeline.nat.v4.1m.ns", 53.0),
            ("latency.p50.us", 11.0),
            ("latency.icmpecho.p50.us", 10.0),
        ];
        assert_eq!(judged(&figures)[1], (Some(52.0), false));
        assert_eq!(judged(&figures)[2], (Some(12.0), true));
        assert_eq!(judged(&figures[2..3]), [(None, true)]);
    }

    #[test]
    fn the_generator_is_judged_by_the_highest_rate_of_the_same_run() {
        let figures = [
            ("link.generator.mpps", 24.0),
            ("link.dr.v4.1k.mpps", 16.0),
            ("link.nat.v4.1k.mpps", 10.0),
        ];
        assert_eq!(judged(&figures)[0], (Some(24.0), true));
        let faster = [("link.generator.mpps", 24.0), ("link.dr.v4.10m.mpps", 16.1)];
        assert_eq!(judged(&faster)[0], (Some(24.15), false));
        assert_eq!(judged(&figures[..1]), [(None, true)]);
    }

    #[test]
    fn a_swap_may_lose_nothing_and_hold_up_few_bursts() {
        let figures = [
            ("reload.swap.burst.p999.us", 100.0),
            ("reload.swap.burst.max.us", 101.0),
            ("reload.swap.lost", 1.0),
        ];
        let expected = [(Some(100.0), true), (None, true), (Some(0.0), false)];
        assert_eq!(judged(&figures), expected);
    }

    #[test]
    fn figures_about_the_same_work_are_a_group() {
        for (name, group) in [
            ("pipeline.dr.v4.1k.ns", "pipeline"),
            ("pipeline.gue-csum.v6.1k.ns", "pipeline"),
            ("pipeline.new.lblcr100-full.ns", "pipeline.new"),
            ("pipeline.flood.ns", "pipeline.flood"),
            ("link.dr.v4.1k.mpps", "link"),
            ("alone", "alone"),
        ] {
            assert_eq!(Figure::new(name, 1.0, "ns").group(), group);
        }
    }

    #[test]
    fn figures_survive_a_file() {
        let path = std::env::temp_dir().join(format!("figures-{}.json", std::process::id()));
        let figures = vec![Figure::new("a.b", 1.25, "ns"), Figure::new("c", 3e6, "1/s")];
        write(&path, &figures).unwrap();
        assert_eq!(read(&path).unwrap(), figures);
        fs::remove_file(path).unwrap();
    }
}
