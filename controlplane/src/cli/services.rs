//! `sluice services` for people: the look of `ipvsadm -Ln`, with counters, names and troubles.

use super::number::count;
use super::table::{Align::Left, Align::Right, Table};
use crate::admin::api::{Counters, RealServer, RealState, Service, Services};
use std::net::SocketAddr;

/// The listing.
pub(super) fn render(listed: &Services) -> String {
    if listed.services.is_empty() {
        return "no services\n".into();
    }
    let width = listed
        .services
        .iter()
        .flat_map(|service| &service.real_servers)
        .map(|real| address_of(real).len())
        .chain([REMOTE.len()])
        .max()
        .unwrap_or(0);
    // Service lines run on over the real servers' first columns, as in ipvsadm's listing.
    let columns = |address: &str, forward: &str, weight: &str| {
        format!("{address:<width$}  {forward:<7}  {weight:>6}")
    };
    let heading = columns(REMOTE, "Forward", "Weight");
    let mut table = Table::new(&[
        (heading.as_str(), Left),
        ("ActiveConn", Right),
        ("InActConn", Right),
        ("Conns", Right),
        ("InPkts", Right),
        ("OutPkts", Right),
        ("InBytes", Right),
        ("OutBytes", Right),
        ("Name", Left),
        ("State", Left),
    ]);
    for service in &listed.services {
        let [conns, in_packets, out_packets, in_bytes, out_bytes] = counters(&service.counters);
        table.push([
            service_line(service),
            service.active.to_string(),
            service.inactive.to_string(),
            conns,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
            service.name.clone(),
            service_trouble(service),
        ]);
        for real in &service.real_servers {
            let [conns, in_packets, out_packets, in_bytes, out_bytes] = counters(&real.counters);
            let weight = real.weight.to_string();
            table.push([
                columns(&address_of(real), real.forward.lvs_name(), &weight),
                real.active.to_string(),
                real.inactive.to_string(),
                conns,
                in_packets,
                out_packets,
                in_bytes,
                out_bytes,
                format!("{}/{}", service.name, real.name),
                real_trouble(real),
            ]);
        }
    }
    format!(
        "Prot LocalAddress:Port Scheduler Flags\n{}",
        table.render(0)
    )
}

const REMOTE: &str = "  -> RemoteAddress:Port";

fn address_of(real: &RealServer) -> String {
    format!("  -> {}", SocketAddr::new(real.address, real.port))
}

fn service_line(service: &Service) -> String {
    let mut line = match service.fwmark {
        Some(mark) if service.address.is_ipv6() => format!("FWM  {mark} IPv6"),
        Some(mark) => format!("FWM  {mark}"),
        None => format!(
            "{:<4} {}",
            service.protocol.lvs_name(),
            SocketAddr::new(service.address, service.port)
        ),
    };
    for word in std::iter::once(&service.scheduler).chain(&service.flags) {
        line.push(' ');
        line.push_str(word);
    }
    line
}

fn counters(counters: &Counters) -> [String; 5] {
    [
        counters.connections,
        counters.in_packets,
        counters.out_packets,
        counters.in_bytes,
        counters.out_bytes,
    ]
    .map(count)
}

fn service_trouble(service: &Service) -> String {
    let mut troubles = Vec::new();
    if !service.served {
        troubles.push(if service.why.is_empty() {
            "not served".to_owned()
        } else {
            format!("not served: {}", service.why)
        });
    }
    if service.unserved > 0 {
        troubles.push(format!("{} unserved", count(service.unserved)));
    }
    troubles.join(", ")
}

fn real_trouble(real: &RealServer) -> String {
    let mut troubles = Vec::new();
    match real.state {
        RealState::Up => {}
        RealState::Down => troubles.push("down".to_owned()),
        RealState::Drained => troubles.push("drained".to_owned()),
        RealState::Removed => troubles.push("removed".to_owned()),
    }
    if real.overloaded {
        troubles.push(format!("overloaded (limit {})", real.upper_threshold));
    }
    // Of a server that is down or drained a weight of 0 is no news.
    if real.weight != real.configured_weight && real.state == RealState::Up {
        troubles.push(format!("weight {} configured", real.configured_weight));
    }
    troubles.join(", ")
}
