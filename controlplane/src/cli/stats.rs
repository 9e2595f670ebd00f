//! `sluice stats` for people: what was lost first, then what went to Linux, then the rest. Only
//! counters that are not zero; several workers get a column each.

use super::meaning;
use super::number::{count, rate};
use super::table::{Align::Left, Align::Right, Table};
use crate::admin::api::{Rates, Stats, StatsSet};
use std::collections::BTreeMap;

/// The listing.
pub(super) fn render(stats: &Stats) -> String {
    let mut text = rates(&stats.rates);
    text.push_str(&group(stats, "Drops", |set| &set.drops, meaning::of_drop));
    text.push_str(&group(
        stats,
        "Punts to Linux",
        |set| &set.punts,
        meaning::of_punt,
    ));
    text.push_str(&group(
        stats,
        "Events",
        |set| &set.events,
        meaning::of_event,
    ));
    text.push_str(&section(
        "Slow path",
        sorted(&stats.slow_path)
            .into_iter()
            .map(|(name, value)| vec![name.clone(), count(value)])
            .collect(),
        0,
    ));
    text
}

fn rates(rates: &Rates) -> String {
    if rates.interval_seconds <= 0.0 {
        return "Rates: not measured yet\n".into();
    }
    format!(
        "Rates over {:.1} s: in {} packets/s {} bit/s, out {} packets/s {} bit/s, \
         {} connections/s, {} drops/s\n",
        rates.interval_seconds,
        rate(rates.rx_pps),
        rate(rates.rx_bps),
        rate(rates.tx_pps),
        rate(rates.tx_bps),
        rate(rates.cps),
        rate(rates.drop_pps)
    )
}

fn group(
    stats: &Stats,
    title: &str,
    part: fn(&StatsSet) -> &BTreeMap<String, u64>,
    meaning: fn(&str) -> &'static str,
) -> String {
    let workers: &[_] = if stats.workers.len() > 1 {
        &stats.workers
    } else {
        &[]
    };
    let rows = sorted(part(&stats.total))
        .into_iter()
        .map(|(name, value)| {
            let mut cells = vec![name.clone(), count(value)];
            cells.extend(
                workers
                    .iter()
                    .map(|worker| count(part(&worker.counters).get(name).copied().unwrap_or(0))),
            );
            cells.push(meaning(name).to_owned());
            cells
        })
        .collect();
    section(title, rows, workers.len())
}

/// Largest first, then by name; without zeros.
fn sorted(counters: &BTreeMap<String, u64>) -> Vec<(&String, u64)> {
    let mut counters: Vec<_> = counters
        .iter()
        .map(|(name, value)| (name, *value))
        .filter(|(_, value)| *value > 0)
        .collect();
    counters.sort_by_key(|(_, value)| std::cmp::Reverse(*value));
    counters
}

fn section(title: &str, rows: Vec<Vec<String>>, workers: usize) -> String {
    if rows.is_empty() {
        return format!("{title}: none\n");
    }
    let workers: Vec<String> = (0..workers).map(|n| format!("worker {n}")).collect();
    let mut headings = vec![(title, Left), ("total", Right)];
    headings.extend(workers.iter().map(|name| (name.as_str(), Right)));
    headings.push(("meaning", Left));
    let mut table = Table::new(&headings);
    for row in rows {
        table.push(row);
    }
    format!("\n{}", table.render(0))
}
