//! Packets of known flows, in random order.

use super::rig::{RING, Rig, Site};
use super::{FAMILIES, FEW_PROCESSES, Method, PROCESSES, Random};
use crate::figure::Failure;
use crate::packet::{Family, Template};
use dataplane::packet::tcp;
use dataplane::pipeline::BURST;
use dataplane::service::{Forward, Tunnel, TunnelKind};

/// The tunnels that are measured, by the name of the figure. GUE's checksum covers the whole packet.
pub(super) const TUNNELS: [(&str, Forward); 4] = [
    ("ipip", tunnel(TunnelKind::Ipip, false)),
    ("gre", tunnel(TunnelKind::Gre, false)),
    ("gue", tunnel(TunnelKind::Gue(6080), false)),
    ("gue-csum", tunnel(TunnelKind::Gue(6080), true)),
];

const fn tunnel(kind: TunnelKind, checksum: bool) -> Forward {
    Forward::Tunnel(Tunnel { kind, checksum })
}

/// Established flows in the table, by the name of the figure.
const SIZES: [(&str, u32); 3] = [("1k", 1_000), ("1m", 1_000_000), ("10m", 10_000_000)];

/// Established flows of one kind.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// Of the figure.
    pub(super) name: String,
    pub(super) family: Family,
    pub(super) forward: Forward,
    pub(super) flows: u32,
    /// How many processes take it.
    pub(super) processes: usize,
}

/// Each way to forward, in both families, with few and with many flows.
pub(super) fn scenarios() -> Vec<Scenario> {
    let plain = [("dr", Forward::Dr), ("nat", Forward::Nat)];
    let mut all = Vec::new();
    for methods in [&plain[..], &TUNNELS] {
        for (family_name, family) in FAMILIES {
            for (method, forward) in methods {
                for (size, flows) in SIZES {
                    // What a checksum adds depends on the packet's length, not on the flows.
                    if *method == "gue-csum" && size != "1k" {
                        continue;
                    }
                    all.push(Scenario {
                        name: format!("pipeline.{method}.{family_name}.{size}.ns"),
                        family,
                        forward: *forward,
                        flows,
                        processes: match (forward, size) {
                            (Forward::Tunnel(_), "1m" | "10m") => FEW_PROCESSES,
                            _ => PROCESSES,
                        },
                    });
                }
            }
        }
    }
    all
}

/// Nanoseconds per 64-byte packet of `flows` established flows.
///
/// With NAT every other burst is of replies, as on a box with two arms.
pub(super) fn flows(
    method: Method,
    family: Family,
    forward: Forward,
    flows: u32,
) -> Result<f64, Failure> {
    let mut rig = Rig::new(Site::new(family, forward, flows as usize), method.clock);
    rig.establish(flows)?;
    let mut traffic = Traffic::new(&rig, flows, 64);
    let ring = method.measure(
        &mut rig,
        |_, _| Ok(()),
        |rig| rig.send_traffic(&mut traffic),
    )?;
    Ok(ring / RING as f64)
}

/// Nanoseconds per packet of `length` bytes, 1000 flows, DR.
pub(super) fn size(method: Method, length: usize) -> Result<f64, Failure> {
    const FLOWS: u32 = 1000;
    let site = Site::new(Family::V4, Forward::Dr, FLOWS as usize);
    let mut rig = Rig::new(site, method.clock);
    rig.establish(FLOWS)?;
    let mut traffic = Traffic::new(&rig, FLOWS, length);
    let ring = method.measure(
        &mut rig,
        |_, _| Ok(()),
        |rig| rig.send_traffic(&mut traffic),
    )?;
    Ok(ring / RING as f64)
}

/// Nanoseconds per 64-byte packet that is alone in its burst, 1000 flows, DR: what one costs at low load.
pub(super) fn single(method: Method) -> Result<f64, Failure> {
    const FLOWS: u32 = 1000;
    let site = Site::new(Family::V4, Forward::Dr, FLOWS as usize);
    let mut rig = Rig::new(site, method.clock);
    rig.establish(FLOWS)?;
    let mut traffic = Traffic::new(&rig, FLOWS, 64);
    let ring = method.measure(
        &mut rig,
        |_, _| Ok(()),
        |rig| {
            let (ticks, sent) = rig.single_pass(RING, |_, packet| {
                let flow = traffic.random.below(traffic.flows);
                traffic.request.write(packet, flow);
            });
            rig.all_sent(RING, sent)?;
            Ok(ticks)
        },
    )?;
    Ok(ring / RING as f64)
}

/// Packets of established flows, each flow as likely as any other.
#[derive(Clone)]
pub(super) struct Traffic {
    random: Random,
    flows: u32,
    request: Template,
    /// By server; empty if replies do not come back through us.
    replies: Vec<Template>,
    /// The server of flow `n` is the one at `n % servers.len()`.
    servers: Vec<u16>,
}

impl Traffic {
    pub(super) fn new(rig: &Rig, flows: u32, length: usize) -> Self {
        Self {
            random: Random::SEED,
            flows,
            request: rig.request(tcp::ACK, length),
            replies: if rig.site.forward.sees_replies() {
                rig.replies(length)
            } else {
                Vec::new()
            },
            servers: rig.servers().to_vec(),
        }
    }
}

impl Rig {
    /// Sends a ring of established packets; ticks.
    pub(super) fn send_traffic(&mut self, traffic: &mut Traffic) -> Result<u64, Failure> {
        let (ticks, sent) = self.pass_traffic(traffic);
        self.all_sent(RING, sent)?;
        Ok(ticks)
    }

    /// Takes a ring of established packets through; ticks, and how many were sent.
    pub(super) fn pass_traffic(&mut self, traffic: &mut Traffic) -> (u64, usize) {
        self.pass(RING, |index, packet| {
            let flow = traffic.random.below(traffic.flows);
            if (index / BURST).is_multiple_of(2) || traffic.replies.is_empty() {
                traffic.request.write(packet, flow);
            } else {
                let servers = &traffic.servers;
                let server = servers[flow as usize % servers.len()];
                traffic.replies[usize::from(server)].write(packet, flow);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn every_way_to_forward_takes_few_flows_through_in_both_families() {
        let few: Vec<_> = scenarios()
            .into_iter()
            .filter(|scenario| scenario.name.ends_with(".1k.ns"))
            .collect();
        assert_eq!(few.len(), (2 + TUNNELS.len()) * FAMILIES.len());
        for Scenario {
            family, forward, ..
        } in few
        {
            let clock = Clock { hz: f64::INFINITY };
            let mut rig = Rig::new(Site::new(family, forward, 64), clock);
            rig.establish(64).unwrap();
            let mut traffic = Traffic::new(&rig, 64, 64);
            rig.send_traffic(&mut traffic).unwrap();
        }
    }

    #[test]
    fn no_two_scenarios_have_one_name() {
        let mut names: Vec<_> = scenarios()
            .into_iter()
            .map(|scenario| scenario.name)
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
