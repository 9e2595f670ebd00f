//! Services and their real servers; the rules of ipvsadm and of the kernel's checks.

mod mark;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::super::address::InterfaceAddress;
use super::super::diagnostic::nearest;
use super::super::effective::{EffectiveTable, Section};
use super::super::netmask::PersistenceNetmask;
use super::super::report::Report;
use super::super::words::{Family, Forward, Protocol, Serve};
use super::{At, scheduler};

pub(super) fn check(table: &EffectiveTable, report: &mut Report) {
    let subnets = subnets(table);
    let reals = table.real_servers();
    for service in table.of("virtual_server") {
        identity(service, report);
        mark::service(service, table, report);
        persistence(service, report);
        let reals = reals
            .get(service.name.as_str())
            .map_or(&[][..], Vec::as_slice);
        scheduler::check(service, reals, report);
        quorum(service, reals, report);
        ignored(service, table, report);
        real_servers(service, reals, report);
        if !subnets.is_empty() {
            off_link(service, reals, &subnets, report);
        }
    }
    duplicate_services(table, report);
    for real in table.of("real_server") {
        real_server(real, table, report);
    }
    mark::check(table, report);
}

/// The addresses of the ports and VLANs.
fn subnets(table: &EffectiveTable) -> Vec<InterfaceAddress> {
    let sections = table.of("port").chain(table.of("vlan"));
    let addresses =
        sections.filter_map(|section| section.get::<Vec<InterfaceAddress>>("addresses"));
    addresses.flatten().collect()
}

fn identity(service: &Section, report: &mut Report) {
    let at = At::new(service);
    match (
        service.is_explicit("addresses"),
        service.is_explicit("fwmark"),
    ) {
        (false, false) => at.error(
            report,
            "addresses",
            "the key is missing; expected addresses, or a fwmark".to_owned(),
        ),
        (true, true) => at.error(
            report,
            "fwmark",
            "conflicts with addresses; expected one of the two".to_owned(),
        ),
        _ => {}
    }
    // The default beside addresses says nothing, and the dump of a configuration shows it.
    if service.get::<Family>("family").unwrap_or_default() != Family::default()
        && service.is_explicit("addresses")
    {
        at.error(
            report,
            "family",
            "belongs to a fwmark; expected no family beside addresses".to_owned(),
        );
    }
    if service.get::<bool>("one_packet") == Some(true)
        && !service.is_explicit("fwmark")
        && matches!(
            service.get("protocol"),
            Some(Protocol::Tcp | Protocol::Sctp)
        )
    {
        let message =
            "One-Packet Scheduling is only for UDP virtual services; expected protocol = udp";
        at.error(report, "one_packet", message.to_owned());
    }
}

fn persistence(service: &Section, report: &mut Report) {
    let at = At::new(service);
    let addresses: Vec<SocketAddr> = service.get("addresses").unwrap_or_default();
    let off = service
        .setting("persistence")
        .is_none_or(|setting| setting.value == Some(super::super::value::Value::Word("off")));
    if off {
        if let Some(any) = addresses.iter().find(|address| address.port() == 0) {
            let message = format!(
                "`{any}`: Zero port specified for non-persistent service; expected a port, or \
                                   persistence"
            );
            at.error(report, "addresses", message);
        }
        for key in ["persistence_netmask", "persistence_engine"] {
            if service.is_explicit(key) {
                at.error(
                    report,
                    key,
                    "persistence is off; expected persistence with it".to_owned(),
                );
            }
        }
    }
    if let Some(masks) = service.get::<PersistenceNetmask>("persistence_netmask") {
        let mark = service.is_explicit("fwmark");
        let family = service.get::<Family>("family").filter(|_| mark);
        let of_mark = family.map(Family::any);
        let mut all = addresses.iter().chain(&of_mark);
        let families = (
            all.clone().any(SocketAddr::is_ipv4),
            all.any(SocketAddr::is_ipv6),
        );
        if let Some(message) = masks.misfit(families) {
            at.error(report, "persistence_netmask", message);
        }
    }
    if service.is_explicit("persistence_engine")
        && !service.is_explicit("fwmark")
        && service.get("protocol") != Some(Protocol::Udp)
    {
        at.error(
            report,
            "persistence_engine",
            "sip is for UDP; expected protocol = udp".to_owned(),
        );
    }
}

/// keepalived corrects these silently.
fn quorum(service: &Section, reals: &[&Section], report: &mut Report) {
    let at = At::new(service);
    let quorum = service.get::<u32>("quorum").unwrap_or(1);
    if let Some(hysteresis) = service.get::<u32>("hysteresis")
        && hysteresis > 0
        && hysteresis >= quorum
    {
        let message = format!("{hysteresis} is not below the quorum of {quorum}; expected less");
        at.error(report, "hysteresis", message);
    }
    let total: u64 = reals
        .iter()
        .filter_map(|real| real.get::<u64>("weight"))
        .sum();
    if service.is_explicit("quorum")
        && service.get::<u32>("quorum").is_some()
        && u64::from(quorum) > total
    {
        at.warning(
            report,
            "quorum",
            format!(
                "{quorum} is more than all weights together ({total}); expected at most \
            that, or the service is never up"
            ),
        );
    }
    if service.is_explicit("sorry_server_forward") && !service.is_explicit("sorry_server") {
        at.error(
            report,
            "sorry_server_forward",
            "there is no sorry_server; expected one with it".to_owned(),
        );
    }
    if service.get::<bool>("sorry_server_inhibit") == Some(true)
        && !service.is_explicit("sorry_server")
    {
        at.error(
            report,
            "sorry_server_inhibit",
            "there is no sorry_server; expected one with it".to_owned(),
        );
    }
}

/// Settings that something else makes void.
fn ignored(service: &Section, table: &EffectiveTable, report: &mut Report) {
    let at = At::new(service);
    let ipvs = table
        .find("ipvs", "")
        .filter(|ipvs| ipvs.is_explicit("expire_nodest_conn"));
    if let Some(ipvs) = ipvs
        && service.is_explicit("on_real_removed")
    {
        let message = format!(
            "[ipvs] expire_nodest_conn at {} wins over this; expected only one of the two",
            ipvs.origin("expire_nodest_conn")
        );
        at.warning(report, "on_real_removed", message);
    }
}

/// Addresses that belong to no network of the box. Without any address in the file somebody else puts them there.
fn off_link(
    service: &Section,
    reals: &[&Section],
    subnets: &[InterfaceAddress],
    report: &mut Report,
) {
    let on_link = |ip: IpAddr| subnets.iter().any(|subnet| subnet.contains(ip));
    let addresses: Vec<SocketAddr> = service.get("addresses").unwrap_or_default();
    let stray = addresses.iter().find(|address| !on_link(address.ip()));
    if let Some(stray) = stray
        .filter(|_| service.get("serve") == Some(Serve::Auto) && !service.is_explicit("announce"))
    {
        let message = format!(
            "`{}` is in no subnet of a port, so nothing puts it on this box and it is not served until somebody does; \
             expected an address in a port's subnet, or serve = always",
            stray.ip()
        );
        At::new(service).warning(report, "addresses", message);
    }
    for real in reals {
        if let Some((ip, _)) = real.get::<(IpAddr, Option<u16>)>("address")
            && real.get::<Forward>("forward") == Some(Forward::Dr)
            && !on_link(ip)
            && !ip.is_loopback()
        {
            let message = format!(
                "`{ip}` is in no subnet of a port, and dr reaches only servers on the same network; expected a server \
                 there, or forward = nat"
            );
            At::new(real).warning(report, "address", message);
        }
    }
}

/// Each address and protocol, and each mark, is one service.
fn duplicate_services(table: &EffectiveTable, report: &mut Report) {
    let mut seen: HashMap<(Protocol, SocketAddr), &Section> = HashMap::new();
    let mut marks: HashMap<(u32, Family), &Section> = HashMap::new();
    for service in table.of("virtual_server") {
        let at = At::new(service);
        let family = service.get::<Family>("family").unwrap_or_default();
        if let Some(mark) = service.get::<u32>("fwmark")
            && let Some(first) = marks.insert((mark, family), service)
        {
            let message = format!(
                "mark {mark} is a service already: [{}] at {}; expected each mark once",
                first.title(),
                first.origin("fwmark")
            );
            at.error(report, "fwmark", message);
        }
        let Some(protocol) = service.get::<Protocol>("protocol") else {
            continue;
        };
        for address in service
            .get::<Vec<SocketAddr>>("addresses")
            .unwrap_or_default()
        {
            let Some(first) = seen.insert((protocol, address), service) else {
                continue;
            };
            let message = if std::ptr::eq(first, service) {
                format!("`{address}` is listed twice; expected each address once")
            } else {
                format!(
                    "`{address}` over {protocol} is a service already: [{}] at {}; expected each once",
                    first.title(),
                    first.origin("addresses")
                )
            };
            at.error(report, "addresses", message);
        }
    }
}

fn real_servers(service: &Section, reals: &[&Section], report: &mut Report) {
    let at = At::new(service);
    let mark: Option<u32> = service.get("fwmark");
    let addresses: Vec<SocketAddr> = match mark {
        None => service.get("addresses").unwrap_or_default(),
        // One service, on no address and all ports.
        Some(_) => vec![service.get::<Family>("family").unwrap_or_default().any()],
    };
    // A destination of an IPVS service; the services of one section differ in their ports.
    let mut seen: HashMap<(u16, SocketAddr), &Section> = HashMap::new();
    let mut weights = Vec::new();
    // What each server is and how it is reached; `None` if that is not known.
    let mut reached = Vec::new();
    for real in reals.iter().copied() {
        weights.push(real.get::<u16>("weight"));
        let (Some((ip, port)), Some(forward)) = (
            real.get::<(IpAddr, Option<u16>)>("address"),
            real.get::<Forward>("forward"),
        ) else {
            reached.push(None);
            continue;
        };
        reached.push(Some((ip, forward)));
        let at = At::new(real);
        // In a list of both families a server belongs to the services of its own.
        let served = || {
            let addresses = addresses.iter();
            addresses.filter(|address| forward.reaches(ip, address.ip()))
        };
        let mut ports: Vec<u16> = served().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        // What the kernel sees: direct routing and tunnels take the service's port whatever is written.
        let rewrites = matches!(forward, Forward::Nat | Forward::FullNat);
        let own_port = port.filter(|_| rewrites);
        let targets = ports
            .iter()
            .map(|service| (*service, SocketAddr::new(ip, own_port.unwrap_or(*service))));
        let mut taken = None;
        for target in targets {
            if let Some(first) = seen.insert(target, real) {
                taken.get_or_insert((target.1, first));
            }
        }
        if let Some((target, first)) = taken {
            let message = format!(
                "`{target}` is [{}] at {} already; expected each real server once in a service",
                first.title(),
                first.origin("address")
            );
            at.error(report, "address", message);
        }
        if let Some(port) = port.filter(|_| !rewrites)
            && served().any(|address| address.port() != port)
        {
            let message = format!(
                "port {port} is not used: {forward} forwards to the service's port; expected no port, or forward = nat"
            );
            at.warning(report, "address", message);
        }
        if port == Some(0) && served().any(|address| address.port() != 0) {
            let message = "port 0 goes with a service on port 0 only; expected a port, or none for the service's";
            at.error(report, "address", message.to_owned());
        }
        if let Some(address) = addresses.first().filter(|_| ports.is_empty()) {
            let what = mark.map_or_else(
                || address.to_string(),
                |mark| {
                    let family = service.get::<Family>("family").unwrap_or_default();
                    format!("mark {mark} of {family}")
                },
            );
            let message = format!(
                "`{ip}` serves {what}: Different address family is allowed only for tunneling servers; expected an \
                 address of the service's family"
            );
            at.error(report, "address", message);
        }
        if ip.is_loopback() {
            let message = format!(
                "`{ip}` is no address clients' packets can be delivered to; expected an address of a port for a \
                 server on this box, or another host's"
            );
            at.error(report, "address", message);
        }
    }
    // A server that is not known might have been the one.
    let reached: Option<Vec<_>> = reached.into_iter().collect();
    if let Some(reached) = reached.filter(|reached| !reached.is_empty()) {
        families(&at, &addresses, &reached, report);
    }
    if weights.is_empty() {
        at.section_warning(
            report,
            "the service has no real servers: every client is refused; expected \
            [real_server SERVICE/NAME] sections"
                .to_owned(),
        );
    } else if weights.iter().all(|weight| *weight == Some(0)) {
        at.section_warning(
            report,
            "all its real servers have weight 0: every new client is refused; expected a weight \
            above 0"
                .to_owned(),
        );
    }
}

/// A list of both families whose servers are all of one: half of it serves nobody.
fn families(
    at: &At<'_>,
    addresses: &[SocketAddr],
    reals: &[(IpAddr, Forward)],
    report: &mut Report,
) {
    let first = |ipv4| addresses.iter().find(|address| address.is_ipv4() == ipv4);
    let (Some(v4), Some(v6)) = (first(true), first(false)) else {
        return;
    };
    for (address, family) in [(v4, "IPv4"), (v6, "IPv6")] {
        let mut reals = reals.iter();
        if !reals.any(|(ip, forward)| forward.reaches(*ip, address.ip())) {
            let message = format!(
                "`{address}` has no {family} real server, and every {family} client is refused; expected a \
                 [real_server] with an {family} address, or no {family} address here"
            );
            at.warning(report, "addresses", message);
        }
    }
}

fn real_server(real: &Section, table: &EffectiveTable, report: &mut Report) {
    let at = At::new(real);
    let (owner, _) = real.name.split_once('/').unwrap_or((&real.name, ""));
    if table.find("virtual_server", owner).is_none() {
        let near = nearest(
            owner,
            table
                .of("virtual_server")
                .map(|service| service.name.as_str()),
        );
        let hint = near
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        let message = format!(
            "there is no [virtual_server {owner}]; expected the name of a virtual server before \
                               the `/`{hint}"
        );
        at.section_error(report, message);
    }
    if let (Some(lower), Some(upper)) = (
        real.get::<u32>("lower_threshold"),
        real.get::<u32>("upper_threshold"),
    ) && lower > upper
    {
        let message =
            format!("{lower} is higher than upper_threshold {upper}; expected at most that");
        at.error(report, "lower_threshold", message);
    }
    let forward = real.get::<Forward>("forward");
    // The defaults say nothing, and the dump of a configuration shows them.
    let tunnel = real.get::<(&'static str, Option<u16>)>("tunnel");
    let checksum = real.get::<&'static str>("tunnel_checksum");
    let said = [
        ("tunnel", tunnel.is_none_or(|(kind, _)| kind != "ipip")),
        (
            "tunnel_checksum",
            checksum.is_none_or(|word| word != "none"),
        ),
    ];
    for (key, said) in said {
        let explicit = said && real.is_explicit(key);
        if explicit && forward.is_some_and(|forward| forward != Forward::Tunnel) {
            at.error(
                report,
                key,
                "Tunnel options conflict with forward method; expected forward = tunnel".to_owned(),
            );
        }
    }
}
