//! `sluice status` for people: one screen that says whether the box is well.

use super::number::{count, duration, size};
use super::table::{Align::Left, Align::Right, Table};
use crate::admin::api::{Defence, Occupancy, Port, Status, SteeringWay, WorkerState};
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
    // A plain VRRP daemon has none of them.
    let tables = [
        (!status.workers.is_empty()).then(|| workers(status)),
        (!status.ports.is_empty()).then(|| ports(status)),
        (!status.mempools.is_empty()).then(|| mempools(status)),
    ];
    for table in tables.into_iter().flatten() {
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
    if status.workers.is_empty() {
        facts.push(("data plane", "none: there is no [port]".into()));
    } else {
        facts.extend(forwarding(status));
    }
    if !status.virtual_routers.is_empty() {
        let by_state = status.virtual_routers.iter();
        let by_state: Vec<_> = by_state.map(|(state, n)| format!("{n} {state}")).collect();
        facts.push(("vrrp", by_state.join(", ")));
    }
    if status.maintenance {
        let text = "on: the virtual routers yield; end it with 'sluice maintenance off'";
        facts.push(("maintenance", text.into()));
    }
    for defence in &status.defences {
        facts.push(("defence", described(defence, status.workers.len())));
    }
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

/// What there is only with workers.
fn forwarding(status: &Status) -> [(&'static str, String); 4] {
    [
        (
            "connections",
            format!(
                "IPv4 {}, IPv6 {}",
                occupancy(status.table.ipv4),
                occupancy(status.table.ipv6)
            ),
        ),
        (
            "steering",
            match status.steering.way {
                SteeringWay::SingleWorker => "none, one worker".into(),
                way => format!(
                    "{}, {} packets redirected",
                    steering(way),
                    count(status.steering.redirected)
                ),
            },
        ),
        ("idle", status.idle.clone()),
        (
            "memory",
            match status.hugepage_bytes {
                0 => "ordinary pages".into(),
                bytes => format!("{} in hugepages", size(bytes)),
            },
        ),
    ]
}

fn described(defence: &Defence, workers: usize) -> String {
    let Defence { name, workers: of } = defence;
    if of.len() == workers {
        return format!("{name} is in effect");
    }
    let of: Vec<_> = of.iter().map(ToString::to_string).collect();
    let worker = if of.len() == 1 { "worker" } else { "workers" };
    format!("{name} is in effect on {worker} {}", of.join(", "))
}

fn steering(way: SteeringWay) -> &'static str {
    match way {
        SteeringWay::SingleWorker => "none",
        SteeringWay::RssAgrees => "hardware RSS, both directions agree",
        SteeringWay::Rss => "hardware RSS, redirected in software",
        SteeringWay::Software => "in software",
    }
}

/// How a port's packets find their workers, and why it cannot be in hardware.
fn port_steering(port: &Port, workers: usize) -> String {
    let queues = port.rx_queues as usize;
    let way = match port.steering {
        SteeringWay::SingleWorker => "none",
        SteeringWay::RssAgrees => "RSS, agrees",
        SteeringWay::Rss => "RSS, redirected",
        SteeringWay::Software => "software",
    };
    if queues < workers {
        return format!("{way}, {queues} of {workers} queues");
    }
    way.into()
}

fn occupancy(table: Occupancy) -> String {
    let percent = match table.capacity {
        0 => 0.0,
        capacity => table.connections as f64 * 100.0 / capacity as f64,
    };
    format!("{} ({percent:.1} %)", used(table))
}

fn used(table: Occupancy) -> String {
    format!("{} of {}", count(table.connections), count(table.capacity))
}

fn workers(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("worker", Right),
        ("cpu", Right),
        ("state", Left),
        ("busy", Right),
        ("IPv4 connections", Right),
        ("IPv6", Right),
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
            used(worker.table.ipv4),
            used(worker.table.ipv6),
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
        ("steering", Left),
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
            port_steering(port, status.workers.len()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defence_in_effect_names_its_workers_unless_it_is_all_of_them() {
        let of = |workers: &[u32]| {
            let defence = Defence {
                name: "drop_entry".to_owned(),
                workers: workers.to_vec(),
            };
            described(&defence, 3)
        };
        assert_eq!(of(&[0, 1, 2]), "drop_entry is in effect");
        assert_eq!(of(&[1]), "drop_entry is in effect on worker 1");
        assert_eq!(of(&[0, 2]), "drop_entry is in effect on workers 0, 2");
    }
}
