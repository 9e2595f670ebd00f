//! Sluice's round against the kernel's.
//!
//! Frames must be equal byte by byte, wire by wire and in order, but for what the kernel draws at
//! random ([`comparable`]). Listings must be equal but for the seconds that pass.

use crate::kernel::Record;
use crate::round::{GUE_PORT, Round};
use crate::traffic::{Step, Trace};
use dataplane::address::Family;
use dataplane::packet::builder::verify;
use dataplane::packet::{Headers, Offloads, Parsed, parse};
use std::collections::BTreeMap;
use std::fmt::Write;

// Protocol numbers.
const UDP: u8 = 17;
const IPIP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
/// Differences of one kind that are printed in full.
const SHOWN: usize = 4;

/// What was compared over all rounds.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) differences: usize,
    rounds: usize,
    flows: usize,
    packets: usize,
    frames: usize,
    servers: usize,
    connections: usize,
    kinds: BTreeMap<String, usize>,
}

impl Tally {
    /// Compares a round and prints what differs.
    pub(crate) fn round(&mut self, name: &str, round: &Round, trace: &Trace, kernel: &Record) {
        self.rounds += 1;
        self.flows += trace.flows;
        self.packets += trace.steps.len();
        for service in &round.plan.services {
            let kinds = [
                Some(service.scheduler.name()),
                Some(service.forward.ipvs_name()),
                service.persistence.map(|_| "persistent"),
                service.fwmark.map(|_| "by mark"),
                service.one_packet.then_some("one-packet"),
            ];
            for kind in kinds.into_iter().flatten() {
                *self.kinds.entry(kind.to_owned()).or_default() += 1;
            }
        }
        for port in 0..2 {
            self.wire(name, round, trace, kernel, port);
        }
        self.listing(name, trace, kernel);
        self.table(name, trace, kernel);
    }

    /// Says what was done.
    pub(crate) fn print(&self) {
        println!(
            "{} rounds, {} flows, {} packets in, {} out, {} servers and {} connections listed: {} differences",
            self.rounds,
            self.flows,
            self.packets,
            self.frames,
            self.servers,
            self.connections,
            self.differences
        );
        let kinds: Vec<_> = self
            .kinds
            .iter()
            .map(|(kind, n)| format!("{kind} {n}"))
            .collect();
        println!("services: {}", kinds.join(", "));
    }

    fn wire(&mut self, name: &str, round: &Round, trace: &Trace, kernel: &Record, port: u8) {
        let ours: Vec<(&Step, &[u8])> = trace
            .steps
            .iter()
            .flat_map(|step| step.out.iter().map(move |(on, frame)| (step, on, frame)))
            .filter(|(_, on, _)| **on == port)
            .map(|(step, _, frame)| (step, &frame[..]))
            .collect();
        let theirs = &kernel.out[usize::from(port)];
        self.frames += ours.len();
        let mut shown = 0;
        for (at, (step, frame)) in ours.iter().enumerate() {
            let their = theirs.get(at).map(Vec::as_slice);
            if their.is_some_and(|their| agree(frame, their)) {
                continue;
            }
            self.differences += 1;
            shown += 1;
            if shown <= SHOWN {
                println!("{name}, wire {port}, frame {at}, {}", context(round, step));
                println!("  in      {}", describe(&step.frame));
                println!("  sluice  {}", describe(frame));
                println!("  kernel  {}", their.map_or("nothing".to_owned(), describe));
            }
        }
        if theirs.len() > ours.len() {
            self.differences += theirs.len() - ours.len();
            println!(
                "{name}, wire {port}: {} frames more of the kernel's, the first is",
                theirs.len() - ours.len()
            );
            println!("  kernel  {}", describe(&theirs[ours.len()]));
        }
    }

    fn listing(&mut self, name: &str, trace: &Trace, kernel: &Record) {
        for service in &trace.services {
            self.servers += service.servers.len();
            let Some((scheduler, servers)) = kernel.services.get(&service.name) else {
                self.differences += 1;
                println!("{name}, -Ln: the kernel has no {}", service.name);
                continue;
            };
            if scheduler != service.scheduler {
                self.differences += 1;
                println!(
                    "{name}, -Ln: {}: {} here, {scheduler} there",
                    service.name, service.scheduler
                );
            }
            if *servers != service.servers {
                self.differences += 1;
                println!("{name}, -Ln: {} {scheduler}", service.name);
                println!("  sluice  {:?}\n  kernel  {servers:?}", service.servers);
            }
        }
        if kernel.services.len() != trace.services.len() {
            self.differences += 1;
            println!(
                "{name}, -Ln: {} services here, {} there",
                trace.services.len(),
                kernel.services.len()
            );
        }
    }

    fn table(&mut self, name: &str, trace: &Trace, kernel: &Record) {
        let mut theirs = kernel.connections.clone();
        self.connections += trace.connections.len();
        let mut shown = 0;
        let mut differ = |text: String| {
            self.differences += 1;
            shown += 1;
            if shown <= SHOWN {
                println!("{name}, -Lcn: {text}");
            }
        };
        for row in &trace.connections {
            let key = (
                row.protocol_name().to_uppercase(),
                row.client,
                row.virtual_address,
            );
            let Some(their) = theirs.remove(&key) else {
                differ(format!("the kernel has no {row:?}"));
                continue;
            };
            if their.state != row.state_name() || their.destination != row.destination {
                differ(format!(
                    "{key:?}: {} {} here, {their:?} there",
                    row.state_name(),
                    row.destination
                ));
            }
            // Both count down, the kernel for as long as its round took.
            let (expires, their) = (row.expires_ms as f64 / 1000.0, their.expires as f64);
            if their > expires + 1.0 || their < expires - kernel.elapsed - 1.0 {
                differ(format!(
                    "{key:?} {}: expires in {expires} s here, {their} s there, after {} s",
                    row.state_name(),
                    kernel.elapsed
                ));
            }
        }
        for (key, their) in theirs {
            differ(format!("only the kernel has {key:?} {their:?}"));
        }
    }
}

fn context(round: &Round, step: &Step) -> String {
    let service = &round.plan.services[step.service];
    format!(
        "{} {} {} {}",
        service.protocol,
        service.vip,
        service.scheduler,
        service.forward.ipvs_name()
    )
}

/// Whether both sent the same. A datagram without a checksum stays so here when it is translated
/// (RFC 3022 4.1); the kernel computes one for it, which has to be right then.
fn agree(ours: &[u8], theirs: &[u8]) -> bool {
    let (ours, mut theirs) = (comparable(ours), comparable(theirs));
    if let Some(headers) = headers(&ours)
        && headers.protocol == UDP
    {
        let at = usize::from(headers.l4) + 6;
        let checksum = at..at + 2;
        if ours.get(checksum.clone()) == Some(&[0, 0]) && verify(&theirs).is_ok() {
            theirs
                .get_mut(checksum)
                .into_iter()
                .for_each(|sum| sum.fill(0));
        }
    }
    ours == theirs
}

/// The frame with zeros where two right answers may differ:
/// - in ICMP errors made by the director itself the identification, and the ECN bits, of which
///   Linux takes over one and Sluice none;
/// - around tunnels the identification where the packet may be fragmented, and GUE's source port,
///   whose hash nobody else can know, with the checksum over it.
fn comparable(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let Some(headers) = headers(frame) else {
        return bytes;
    };
    let (l3, l4) = (usize::from(headers.l3), usize::from(headers.l4));
    let gue = headers.protocol == UDP && headers.destination_port == GUE_PORT;
    let outer = gue || matches!(headers.protocol, IPIP | IPV6_IN_IP | GRE);
    if headers.family == Family::V4 {
        if headers.icmp(frame).is_some() {
            bytes[l3 + 1] &= !3;
        }
        if headers.icmp(frame).is_some() || (outer && !headers.dont_fragment) {
            bytes[l3 + 4..l3 + 6].fill(0);
            bytes[l3 + 10..l3 + 12].fill(0);
        }
    }
    if gue && verify(frame).is_ok() {
        bytes[l4..l4 + 2].fill(0);
        if bytes[l4 + 6..l4 + 8] != [0, 0] {
            bytes[l4 + 6..l4 + 8].fill(0xff);
        }
    }
    bytes
}

fn headers(frame: &[u8]) -> Option<Headers> {
    match parse(frame, Offloads::default()) {
        Ok(Parsed::Ip(headers)) => Some(headers),
        _ => None,
    }
}

/// One line with what matters, then the bytes.
fn describe(frame: &[u8]) -> String {
    let mut text = String::new();
    if let Some(headers) = headers(frame)
        && let (Some(source), Some(destination)) =
            (headers.source_ip(frame), headers.destination_ip(frame))
    {
        let _ = write!(
            text,
            "{source}:{} -> {destination}:{} protocol {} flags {:#x} ttl {} | ",
            headers.source_port,
            headers.destination_port,
            headers.protocol,
            headers.tcp_flags,
            headers.ttl
        );
    }
    for (at, byte) in frame.iter().take(140).enumerate() {
        let gap = if matches!(at, 14 | 34 | 54) { " " } else { "" };
        let _ = write!(text, "{gap}{byte:02x}");
    }
    text
}
