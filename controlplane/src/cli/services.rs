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
    let mut table = Table::new(&[
        ("  -> RemoteAddress:Port", Left),
        ("Forward", Left),
        ("Weight", Right),
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
        let mut cells = vec![
            service_line(service),
            String::new(),
            String::new(),
            service.active.to_string(),
            service.inactive.to_string(),
        ];
        cells.extend(counters(&service.counters));
        cells.extend([service.name.clone(), service_trouble(service)]);
        table.push(cells);
        for real in &service.real_servers {
            let mut cells = vec![
                format!("  -> {}", SocketAddr::new(real.address, real.port)),
                real.forward.lvs_name().into(),
                real.weight.to_string(),
                real.active.to_string(),
                real.inactive.to_string(),
            ];
            cells.extend(counters(&real.counters));
            cells.extend([
                format!("{}/{}", service.name, real.name),
                real_trouble(real),
            ]);
            table.push(cells);
        }
    }
    format!(
        "Prot LocalAddress:Port Scheduler Flags\n{}",
        table.render(0)
    )
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
