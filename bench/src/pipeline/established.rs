//! Packets of known flows, in random order.

use super::rig::{RING, Rig, Site};
use super::{Method, Random};
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
