//! A round: services, drawn so that every kind comes up, for Sluice and for `ipvsadm`.

use crate::random::Random;
use dataplane::address::{Family, Protocol};
use dataplane::pipeline::world::{Plan, RealPlan, ServicePlan};
use dataplane::scheduler::{SchedulerFlags, SchedulerKind};
use dataplane::service::{Forward, MarkRule, Persistence, Tunnel, TunnelKind};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Services of a round.
const SERVICES: usize = 16;
/// VIPs of a family: dh looks at nothing else.
const VIPS: usize = 10;

/// Scheduler, method, protocol, family.
type Kind = (SchedulerKind, Forward, Protocol, Family);

/// Methods that are compared.
const METHODS: [Forward; 7] = [
    Forward::Nat,
    Forward::Dr,
    tunnel(TunnelKind::Ipip, false),
    tunnel(TunnelKind::Gre, false),
    tunnel(TunnelKind::Gre, true),
    tunnel(TunnelKind::Gue(GUE_PORT), false),
    tunnel(TunnelKind::Gue(GUE_PORT), true),
];
/// Where GUE goes to.
pub(crate) const GUE_PORT: u16 = 6080;

const fn tunnel(kind: TunnelKind, checksum: bool) -> Forward {
    Forward::Tunnel(Tunnel { kind, checksum })
}

/// Kinds not yet given to a round, so that each comes up as often as any other.
#[derive(Debug, Default)]
pub(crate) struct Deal(Vec<Kind>);

impl Deal {
    fn next(&mut self, random: &mut Random) -> Kind {
        if self.0.is_empty() {
            self.0 = kinds();
            random.shuffle(&mut self.0);
        }
        self.0.pop().expect("there are kinds")
    }
}

fn kinds() -> Vec<Kind> {
    let schedulers = SchedulerKind::ALL.into_iter();
    // Two independent random choices have nothing to compare.
    let schedulers =
        schedulers.filter(|kind| !matches!(*kind, SchedulerKind::Twos | SchedulerKind::None));
    let mut kinds = Vec::new();
    for scheduler in schedulers {
        for method in METHODS {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                for family in [Family::V4, Family::V6] {
                    kinds.push((scheduler, method, protocol, family));
                }
            }
        }
    }
    kinds
}

/// The services of a round.
#[derive(Debug)]
pub(crate) struct Round {
    /// What Sluice is configured with.
    pub(crate) plan: Plan,
}

impl Round {
    /// Draws the next round.
    pub(crate) fn draw(random: &mut Random, deal: &mut Deal) -> Self {
        let services = (0..SERVICES).map(|number| {
            let kind = deal.next(random);
            service(random, number, kind)
        });
        let mut plan = Plan::new(services.collect());
        plan.marks = plan.services.iter_mut().filter_map(mark_rule).collect();
        plan.connections = 4096;
        Self { plan }
    }

    /// The same services for `ipvsadm -R`.
    pub(crate) fn rules(&self) -> String {
        let mut text = String::new();
        for service in &self.plan.services {
            let vip = match service.fwmark {
                None => format!("{} {}", protocol_option(service.protocol), service.vip),
                Some(mark) if service.vip.is_ipv6() => format!("-f {mark} -6"),
                Some(mark) => format!("-f {mark}"),
            };
            let flags = scheduler_options(service.scheduler, service.scheduler_flags);
            let more = service_options(service);
            let _ = writeln!(text, "-A {vip} -s {}{flags}{more}", service.scheduler);
            for real in &service.reals {
                let _ = writeln!(
                    text,
                    "-a {vip} -r {} {} -w {} -x {} -y {}",
                    real.address,
                    method_options(service.forward),
                    real.weight,
                    real.upper,
                    real.lower
                );
            }
        }
        text
    }

    /// What marks its packets, for `nft -f`; empty if nothing does.
    pub(crate) fn marks(&self) -> String {
        let mut text = String::new();
        for service in &self.plan.services {
            let Some(mark) = service.fwmark else { continue };
            let family = if service.vip.is_ipv6() { "ip6" } else { "ip" };
            let (address, port) = (service.vip.ip(), service.vip.port());
            let protocol = service.protocol.name().to_lowercase();
            let rule = format!("{family} daddr {address} {protocol} dport {port}");
            let _ = writeln!(text, "    {rule} meta mark set {mark}");
        }
        if text.is_empty() {
            return text;
        }
        let hook = "type filter hook prerouting priority mangle;";
        format!("table inet replay {{\n  chain marks {{\n    {hook}\n{text}  }}\n}}\n")
    }

    /// Its VIPs, one a line.
    pub(crate) fn vips(&self) -> String {
        let vips: BTreeSet<_> = self.plan.services.iter().map(|s| s.vip.ip()).collect();
        vips.iter()
            .fold(String::new(), |text, vip| text + &format!("{vip}\n"))
    }
}

fn protocol_option(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "-t",
        Protocol::Udp => "-u",
        Protocol::Sctp => "--sctp-service",
    }
}

/// Persistence and one-packet scheduling.
fn service_options(service: &ServicePlan) -> String {
    let mut text = String::new();
    if let Some(persistence) = service.persistence {
        let _ = write!(text, " -p {}", persistence.timeout / 1000);
        match persistence.netmask {
            None => {}
            Some(length) if service.vip.is_ipv6() => {
                let _ = write!(text, " -M {length}");
            }
            Some(length) => {
                let mask = u32::MAX << (32 - u32::from(length));
                let _ = write!(text, " -M {}", Ipv4Addr::from_bits(mask));
            }
        }
    }
    if service.one_packet {
        text.push_str(" -o");
    }
    text
}

/// What marks the packets of a mark's service. Its servers have no port.
fn mark_rule(service: &mut ServicePlan) -> Option<MarkRule> {
    let mark = service.fwmark?;
    for real in &mut service.reals {
        real.address.set_port(0);
    }
    let length = if service.vip.is_ipv6() { 128 } else { 32 };
    let network = format!("{}/{length}", service.vip.ip());
    Some(MarkRule {
        mark,
        addresses: vec![network.parse().expect("an address is a network")],
        ports: vec![(service.vip.port(), service.vip.port())],
        protocol: Some(service.protocol),
        source: None,
        family: None,
    })
}

fn scheduler_options(scheduler: SchedulerKind, flags: SchedulerFlags) -> String {
    let mut names = Vec::new();
    for (flag, name) in [
        (SchedulerFlags::FALLBACK, "fallback"),
        (SchedulerFlags::PORT, "port"),
    ] {
        if flags.contains(flag) {
            names.push(format!("{scheduler}-{name}"));
        }
    }
    if names.is_empty() {
        return String::new();
    }
    format!(" -b {}", names.join(","))
}

fn method_options(forward: Forward) -> String {
    match forward {
        Forward::Nat => "-m".to_owned(),
        Forward::Dr => "-g".to_owned(),
        Forward::Tunnel(Tunnel { kind, checksum }) => {
            let checksum = if checksum {
                "--tun-csum"
            } else {
                "--tun-nocsum"
            };
            match kind {
                TunnelKind::Ipip => "-i".to_owned(),
                TunnelKind::Gre => format!("-i --tun-type gre {checksum}"),
                TunnelKind::Gue(port) => {
                    format!("-i --tun-type gue --tun-port {port} {checksum}")
                }
            }
        }
        Forward::FullNat | Forward::Local => unreachable!("METHODS does not name it"),
    }
}

fn service(random: &mut Random, number: usize, kind: Kind) -> ServicePlan {
    let (scheduler, forward, protocol, family) = kind;
    let port = 1000 + number as u16;
    let vip = SocketAddr::new(address(family, 1, 50 + random.below(VIPS) as u8), port);
    // A translated port, sometimes.
    let server_port = match forward {
        Forward::Nat if random.percent(70) => 8000 + number as u16,
        _ => port,
    };
    let mut hosts: Vec<_> = (11..40).collect();
    random.shuffle(&mut hosts);
    let servers = 1 + random.below(6);
    let reals = hosts.into_iter().take(servers).map(|host| {
        // Mostly behind the other port; else on the clients' network (one arm).
        let net = if random.percent(75) { 2 } else { 1 };
        // Tunnels may be of the other family.
        let family = match (forward, family) {
            (Forward::Tunnel(_), Family::V4) if random.percent(20) => Family::V6,
            (Forward::Tunnel(_), Family::V6) if random.percent(20) => Family::V4,
            _ => family,
        };
        let mut real = RealPlan {
            address: SocketAddr::new(address(family, net, host), server_port),
            weight: random.of(&[0, 1, 1, 1, 2, 3, 4, 6, 10]),
            upper: 0,
            lower: 0,
        };
        if random.percent(15) {
            real.upper = 2 + random.below(8) as u32;
            real.lower = random.below(real.upper as usize) as u32;
        }
        real
    });
    let reals = reals.collect();
    let mut scheduler_flags = SchedulerFlags::NONE;
    if matches!(scheduler, SchedulerKind::Sh | SchedulerKind::Mh) {
        scheduler_flags = SchedulerFlags::with_bits(random.below(4) as u8);
    }
    let mut plan = ServicePlan {
        scheduler,
        scheduler_flags,
        reals,
        ..ServicePlan::new(protocol, &vip.to_string(), forward, &[])
    };
    // What else a service can be, each now and then.
    let lot = random.below(100);
    if (15..35).contains(&lot) {
        plan.fwmark = Some(100 + number as u32);
    }
    if lot < 25 {
        let netmasks = match family {
            Family::V4 => [None, None, Some(24), Some(28)],
            Family::V6 => [None, None, Some(64), Some(124)],
        };
        plan.persistence = Some(Persistence {
            netmask: random.of(&netmasks),
            ..Persistence::new(300_000)
        });
    }
    plan.one_packet = protocol == Protocol::Udp && lot >= 60;
    plan
}

/// Address of a host of the test world, whose IPv6 addresses end in the digits of its number.
pub(crate) fn address(family: Family, net: u8, host: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 0, net, host)),
        Family::V6 => {
            let host = u16::from(host);
            let digits = host / 100 * 0x100 + host / 10 % 10 * 0x10 + host % 10;
            IpAddr::V6(Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, digits))
        }
    }
}
