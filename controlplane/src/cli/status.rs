//! `sluice status` for people: one screen that says whether the box is well.

use super::number::{count, duration, size};
use super::table::{Align::Left, Align::Right, Table};
use crate::admin::api::{Status, SteeringWay, WorkerState};
use std::fmt::Write as _;

/// The screen.
pub(super) fn render(status: &Status) -> String {
    let mut text = format!(
        "sluiced {}, pid {}, up {}\n",
        status.version,
        status.pid,
        duration(status.uptime_seconds)
    );
    for (name, value) in facts(status) {
        let _ = writeln!(text, "{name:<15}{value}");
    }
    for table in [workers(status), ports(status), mempools(status)] {
        text.push('\n');
        text.push_str(&table.render(0));
    }
    text
}

fn facts(status: &Status) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("router", status.router_id.clone()),
        (
            "configuration",
            format!("{}, epoch {}", status.config_file, status.config_epoch),
        ),
    ];
    if let Some(reload) = &status.last_reload {
        let now = status.started + status.uptime_seconds;
        let verdict = if reload.ok { "accepted" } else { "refused" };
        facts.push((
            "last reload",
            format!(
                "{verdict} {} ago: {}",
                duration(now.saturating_sub(reload.at)),
                reload.message
            ),
        ));
    }
    facts.push((
        "connections",
        occupancy(status.table.connections, status.table.capacity),
    ));
    facts.push((
        "steering",
        match status.steering.way {
            SteeringWay::SingleWorker => "none, one worker".into(),
            SteeringWay::Rss => redirected("by the devices", status.steering.redirected),
            SteeringWay::Software => redirected("in software", status.steering.redirected),
        },
    ));
    facts.push(("idle", status.idle.clone()));
    facts.push((
        "memory",
        match status.hugepage_bytes {
            0 => "ordinary pages".into(),
            bytes => format!("{} in hugepages", size(bytes)),
        },
    ));
    if status.tombstones > 0 {
        facts.push((
            "removed",
            format!(
                "{} real servers kept for their connections",
                status.tombstones
            ),
        ));
    }
    if let Some(late) = &status.late_worker {
        facts.push((
            "late",
            format!(
                "worker {} has not taken the newest tables for {} ms",
                late.id, late.late_ms
            ),
        ));
    }
    for warning in &status.warnings {
        facts.push(("warning", warning.clone()));
    }
    facts
}

fn redirected(way: &str, packets: u64) -> String {
    format!("{way}, {} packets redirected", count(packets))
}

fn occupancy(used: u64, capacity: u64) -> String {
    let percent = if capacity == 0 {
        0.0
    } else {
        used as f64 * 100.0 / capacity as f64
    };
    format!("{} of {} ({percent:.1} %)", count(used), count(capacity))
}

fn workers(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("worker", Right),
        ("cpu", Right),
        ("state", Left),
        ("busy", Right),
        ("connections", Right),
        ("waiting", Right),
        ("redirected in", Right),
        ("out", Right),
        ("epochs", Left),
    ]);
    for worker in &status.workers {
        table.push([
            worker.id.to_string(),
            worker.cpu.to_string(),
            match worker.state {
                WorkerState::Running => "running",
                WorkerState::Late => "late",
                WorkerState::Stalled => "STALLED",
            }
            .into(),
            worker
                .busy_percent
                .map_or_else(String::new, |percent| format!("{percent:.0} %")),
            count(worker.connections),
            count(worker.waiting),
            count(worker.redirected_in),
            count(worker.redirected_out),
            format!("{}/{}", worker.services_epoch, worker.forwarding_epoch),
        ]);
    }
    table
}

fn ports(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("port", Left),
        ("link", Left),
        ("mac", Left),
        ("mtu", Right),
        ("kernel", Left),
        ("queues", Right),
        ("rx packets", Right),
        ("bytes", Right),
        ("tx packets", Right),
        ("bytes", Right),
        ("missed", Right),
        ("rx errors", Right),
        ("tx errors", Right),
        ("driver", Left),
        ("devices", Left),
    ]);
    for port in &status.ports {
        table.push([
            port.name.clone(),
            if port.link_up { "up" } else { "DOWN" }.into(),
            port.mac.clone(),
            port.mtu.to_string(),
            port.kernel_interface
                .clone()
                .unwrap_or_else(|| "none".into()),
            port.rx_queues.to_string(),
            count(port.rx_packets),
            count(port.rx_bytes),
            count(port.tx_packets),
            count(port.tx_bytes),
            count(port.rx_missed),
            count(port.rx_errors),
            count(port.tx_errors),
            port.driver.clone(),
            port.devices.join(" "),
        ]);
    }
    table
}

fn mempools(status: &Status) -> Table {
    let mut table = Table::new(&[("buffer pool", Left), ("free", Right), ("of", Right)]);
    for pool in &status.mempools {
        table.push([
            pool.name.clone(),
            count(pool.available),
            count(pool.capacity),
        ]);
    }
    table
}
