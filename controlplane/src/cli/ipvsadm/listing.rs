//! `ipvsadm -L`: services and servers, byte for byte in the tool's columns.
//!
//! Every width and trailing blank is the tool's (recorded), because scripts cut these lines up.

use super::flags;
use super::names::Names;
use super::syntax::{Columns, Listing};
use super::text::Writer;
use crate::admin::api::{
    Counters, IpvsForward, IpvsKey, IpvsRates, IpvsServer, IpvsService, IpvsSettings, IpvsTunnel,
    Netmask, Protocol, TunnelChecksum, TunnelType,
};
use std::fmt::Write as _;

/// The first line of a listing of everything. The size is the kernel's default: it means nothing
/// here, and a line that scripts compare should not.
const BANNER: &str = "IP Virtual Server version 1.2.1 (size=4096)\n";
/// Longest name of an IPv4 server.
const LONGEST_NAME: usize = 28;

/// The listing of `services`; `whole` if it is of all there are.
pub(super) fn render(
    services: &[IpvsService],
    whole: bool,
    listing: Listing,
    names: &impl Names,
) -> String {
    let mut text = String::new();
    if whole {
        text.push_str(BANNER);
    }
    text.push_str(match listing.columns {
        Columns::Plain => {
            "Prot LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
        }
        Columns::TunnelInfo => {
            "Prot LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n"
        }
        Columns::Stats => {
            "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  \
             -> RemoteAddress:Port\n"
        }
        Columns::Rate => {
            "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n  \
             -> RemoteAddress:Port\n"
        }
        Columns::Thresholds => {
            "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  \
             -> RemoteAddress:Port\n"
        }
        Columns::PersistentConn => {
            "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n  \
             -> RemoteAddress:Port\n"
        }
    });
    let writer = Writer::new(names, listing.numeric);
    for service in ordered(services, listing.unsorted) {
        let name = service_name(&service.key, &writer);
        match listing.columns {
            Columns::Stats => {
                let numbers = counters(service.counters);
                push_numbers(&mut text, &name, numbers, listing.exact);
            }
            Columns::Rate => {
                push_numbers(&mut text, &name, rates(service.rates), listing.exact);
            }
            _ => {
                let _ = writeln!(text, "{name} {}", settings(&service.settings));
            }
        }
        for server in ordered_servers(service, listing.unsorted) {
            push_server(&mut text, service, server, listing, &writer);
        }
    }
    text
}

/// Services in the order of a listing: marks last, IPv4 first, by protocol, address and port.
pub(super) fn ordered(services: &[IpvsService], unsorted: bool) -> Vec<&IpvsService> {
    let mut ordered: Vec<_> = services.iter().collect();
    if !unsorted {
        ordered.sort_by_key(|service| {
            let key = service.key;
            let family = key.address.is_ipv6();
            (key.fwmark, family, key.protocol, key.address, key.port)
        });
    }
    ordered
}

/// Servers in the order of a listing: IPv4 first, by address and port.
pub(super) fn ordered_servers(service: &IpvsService, unsorted: bool) -> Vec<&IpvsServer> {
    let mut ordered: Vec<_> = service.servers.iter().collect();
    if !unsorted {
        ordered.sort_by_key(|server| server.key);
    }
    ordered
}

fn service_name<N: Names>(key: &IpvsKey, writer: &Writer<'_, N>) -> String {
    match key.fwmark {
        Some(mark) if key.address.is_ipv6() => format!("FWM  {mark} IPv6"),
        Some(mark) => format!("FWM  {mark}"),
        None => format!(
            "{:<4} {}",
            key.protocol.lvs_name(),
            writer.endpoint(key.address, key.port, key.protocol)
        ),
    }
}

/// Scheduler and flags.
fn settings(settings: &IpvsSettings) -> String {
    let mut text = settings.scheduler.clone();
    if settings.flags != 0 {
        let list = flags::list(settings.flags, &settings.scheduler);
        let _ = write!(text, " ({list})");
    }
    if settings.persistence != 0 {
        let _ = write!(text, " persistent {}", settings.persistence);
        match settings.netmask {
            Some(Netmask::V4(mask)) => {
                let _ = write!(text, " mask {mask}");
            }
            Some(Netmask::V6(length)) => {
                let _ = write!(text, " mask {length}");
            }
            None => {}
        }
    }
    if let Some(engine) = &settings.engine {
        let _ = write!(text, " pe {engine}");
    }
    if settings.one_packet {
        text.push_str(" ops");
    }
    text
}

fn push_server<N: Names>(
    text: &mut String,
    service: &IpvsService,
    server: &IpvsServer,
    listing: Listing,
    writer: &Writer<'_, N>,
) {
    let key = server.key;
    let mut name = writer.endpoint(key.address, key.port, service.key.protocol);
    if key.address.is_ipv4() && name.len() > LONGEST_NAME {
        name = name.chars().take(LONGEST_NAME).collect();
    }
    let of = &server.settings;
    let (active, inactive) = (server.active, server.inactive);
    let forward = forward_name(of.forward);
    let _ = match listing.columns {
        Columns::Plain => writeln!(
            text,
            "  -> {name:<28} {forward:<7} {:<6} {active:<10} {inactive:<10}",
            of.weight
        ),
        Columns::TunnelInfo => writeln!(
            text,
            "  -> {name:<28} {forward:<7} {:<13} {:<6} {active:<10} {inactive:<10}",
            tunnel_info(of.forward, of.tunnel),
            of.weight
        ),
        Columns::Stats => {
            let numbers = counters(server.counters);
            push_numbers(text, &format!("  -> {name}"), numbers, listing.exact);
            Ok(())
        }
        Columns::Rate => {
            let numbers = rates(server.rates);
            push_numbers(text, &format!("  -> {name}"), numbers, listing.exact);
            Ok(())
        }
        Columns::Thresholds => writeln!(
            text,
            "  -> {name:<28} {:<10} {:<10} {active:<10} {inactive:<10}",
            of.upper_threshold, of.lower_threshold
        ),
        Columns::PersistentConn => writeln!(
            text,
            "  -> {name:<28} {:<9} {:<11} {active:<10} {inactive:<10}",
            of.weight, server.persistent
        ),
    };
}

fn forward_name(forward: IpvsForward) -> &'static str {
    match forward {
        IpvsForward::Dr => "Route",
        IpvsForward::Nat => "Masq",
        IpvsForward::Tunnel => "Tunnel",
        IpvsForward::Fullnat => "FullNat",
        IpvsForward::Local => "Local",
    }
}

fn tunnel_info(forward: IpvsForward, tunnel: IpvsTunnel) -> String {
    if forward != IpvsForward::Tunnel {
        return "n/a".to_owned();
    }
    let checksum = match tunnel.checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match tunnel.kind {
        TunnelType::Ipip => "ipip".to_owned(),
        TunnelType::Gue => format!("gue:{}:{checksum}", tunnel.port),
        TunnelType::Gre => format!("gre:{checksum}"),
    }
}

fn counters(counters: Counters) -> [u64; 5] {
    [
        counters.connections,
        counters.in_packets,
        counters.out_packets,
        counters.in_bytes,
        counters.out_bytes,
    ]
}

fn rates(rates: IpvsRates) -> [u64; 5] {
    [
        rates.connections,
        rates.in_packets,
        rates.out_packets,
        rates.in_bytes,
        rates.out_bytes,
    ]
}

fn push_numbers(text: &mut String, name: &str, numbers: [u64; 5], exact: bool) {
    let _ = write!(text, "{name:<33}");
    for number in numbers {
        push_number(text, number, exact);
    }
    text.push('\n');
}

/// A number in nine columns, or, in full, in as many as it takes.
fn push_number(text: &mut String, number: u64, exact: bool) {
    let _ = if exact {
        write!(text, "{:>9}", format!(" {number}"))
    } else if number < 100_000_000 {
        write!(text, "{number:>9}")
    } else if number < 1_000_000_000 {
        write!(text, "{:>8}K", number / 1_000)
    } else if number < 100_000_000_000 {
        write!(text, "{:>8}M", number / 1_000_000)
    } else if number < 100_000_000_000_000 {
        write!(text, "{:>8}G", number / 1_000_000_000)
    } else {
        write!(text, "{:>8}T", number / 1_000_000_000_000)
    };
}

/// `-S`: the tables as the commands that make them.
pub(super) fn save(services: &[IpvsService], numeric: bool, names: &impl Names) -> String {
    let writer = Writer::new(names, numeric);
    let mut text = String::new();
    for service in ordered(services, false) {
        let key = &service.key;
        let name = match (key.fwmark, key.protocol) {
            (Some(mark), _) if key.address.is_ipv6() => format!("-f {mark} -6"),
            (Some(mark), _) => format!("-f {mark}"),
            (None, protocol) => {
                let option = match protocol {
                    Protocol::Udp => "-u",
                    Protocol::Sctp => "--sctp-service",
                    Protocol::Tcp | Protocol::Ip => "-t",
                };
                let endpoint = writer.endpoint(key.address, key.port, protocol);
                format!("{option} {endpoint}")
            }
        };
        let _ = write!(text, "-A {name} -s {}", service.settings.scheduler);
        push_saved_settings(&mut text, &service.settings);
        text.push('\n');
        for server in ordered_servers(service, false) {
            let at = server.key;
            let endpoint = writer.endpoint(at.address, at.port, key.protocol);
            let _ = write!(text, "-a {name} -r {endpoint}");
            let of = &server.settings;
            let _ = match of.forward {
                // What no option of the tool can say is saved as what comes nearest.
                IpvsForward::Nat | IpvsForward::Fullnat => write!(text, " -m -w {}", of.weight),
                IpvsForward::Dr | IpvsForward::Local => write!(text, " -g -w {}", of.weight),
                IpvsForward::Tunnel => {
                    let tunnel = saved_tunnel(of.tunnel);
                    write!(text, " -i -w {} {tunnel}", of.weight)
                }
            };
            text.push('\n');
        }
    }
    text
}

fn push_saved_settings(text: &mut String, settings: &IpvsSettings) {
    if settings.persistence != 0 {
        let _ = write!(text, " -p {}", settings.persistence);
        match settings.netmask {
            Some(Netmask::V4(mask)) => {
                let _ = write!(text, " -M {mask}");
            }
            Some(Netmask::V6(length)) => {
                let _ = write!(text, " -M {length}");
            }
            None => {}
        }
    }
    if let Some(engine) = &settings.engine {
        let _ = write!(text, " --pe {engine}");
    }
    if settings.one_packet {
        text.push_str(" -o");
    }
    if settings.flags != 0 {
        let list = flags::list(settings.flags, &settings.scheduler);
        let _ = write!(text, " -b {list}");
    }
}

fn saved_tunnel(tunnel: IpvsTunnel) -> String {
    let checksum = match tunnel.checksum {
        TunnelChecksum::None => "--tun-nocsum",
        TunnelChecksum::Full => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    };
    match tunnel.kind {
        TunnelType::Ipip => "--tun-type ipip".to_owned(),
        TunnelType::Gue => format!("--tun-type gue --tun-port {} {checksum}", tunnel.port),
        TunnelType::Gre => format!("--tun-type gre {checksum}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_lose_digits_and_exact_ones_take_room() {
        for (number, short, exact) in [
            (0, "        0", "        0"),
            (99_999_999, " 99999999", " 99999999"),
            (100_000_000, "  100000K", " 100000000"),
            (999_999_999, "  999999K", " 999999999"),
            (1_000_000_000, "    1000M", " 1000000000"),
            (100_000_000_000, "     100G", " 100000000000"),
            (100_000_000_000_000, "     100T", " 100000000000000"),
        ] {
            let written = |exact| {
                let mut text = String::new();
                push_number(&mut text, number, exact);
                text
            };
            assert_eq!(written(false), short);
            assert_eq!(written(true), exact);
        }
    }
}
