//! What a worker's packets cost as workers are added: a **model** from measured parts.
//!
//! Workers share nothing they write, so with a device that delivers each packet to its owner a
//! packet costs what it costs one worker. Where the device does not, packets arrive anywhere: of
//! `N` workers an `N`th part at its owner, and the rest is handed over. Such a packet costs, beside
//! what its owner does for it, what the first worker does to find that it is another's (*decide*)
//! and the way through the ring (*hop*), half of it on either side:
//!
//! ```text
//!   hardware: own            software: own + (N-1)/N x (decide + hop)
//! ```
//!
//! Not in the model: that workers share the third level of cache and the memory's bandwidth, the
//! device, and turns that are uneven.

use super::hop::Track;
use super::rig::{RING, Rig, Site};
use super::{Method, Random, established, pin};
use crate::clock::Clock;
use crate::figure::{self, Failure, Figure};
use crate::packet::{FLOWS, Family, client};
use dataplane::packet::tcp;
use dataplane::service::Forward;
use dataplane::steering;
use dataplane::verdict::WorkerId;
use std::path::PathBuf;

/// How `bench scaling` is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fewer rounds
    #[arg(long)]
    quick: bool,
    /// The CPU to run on
    #[arg(long, default_value_t = 1)]
    cpu: usize,
    /// The CPU of the worker that packets are handed to
    #[arg(long, default_value_t = 0)]
    other_cpu: usize,
    /// Where the figures go, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Established flows of each worker.
const ESTABLISHED: u32 = 1_000_000;

/// Measures the parts, writes them and what the model makes of them.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    if options.cpu == options.other_cpu {
        return Err("two workers need two CPUs".into());
    }
    pin(options.cpu);
    let (rounds, rings) = if options.quick { (5, 200) } else { (9, 400) };
    let method = Method {
        clock: Clock::calibrated(),
        rounds,
        rings,
    };
    let track = Track::new(options.cpu, options.other_cpu)?;
    let mut figures = Vec::new();
    let mut add = |name: String, value, unit| figures.push(Figure::new(name, value, unit));
    let own = established::flows(method, Family::V4, Forward::Dr, ESTABLISHED)?;
    add("scaling.own.ns".to_owned(), own, "ns");
    let whole = track.hop::<32>(method)?;
    add("scaling.hop.burst32.ns".to_owned(), whole, "ns");
    for workers in [1, 2, 4, 8] {
        // Of a burst of 32 each of the others gets its part.
        let hop = match workers {
            1 => 0.0,
            2 => track.hop::<16>(method)?,
            4 => track.hop::<8>(method)?,
            _ => track.hop::<4>(method)?,
        };
        let decide = if workers > 1 {
            let decide = decide(method, workers)?;
            add(format!("scaling.hop.burst{}.ns", 32 / workers), hop, "ns");
            add(format!("scaling.decide.workers{workers}.ns"), decide, "ns");
            decide
        } else {
            0.0
        };
        let parts = Parts { own, decide, hop };
        for (steering, ns) in [
            ("software", parts.software(workers)),
            ("hardware", parts.hardware()),
        ] {
            let name = format!("scaling.{steering}.workers{workers}.mpps");
            add(name, mpps(workers, ns), "Mpps");
        }
    }
    track.close()?;
    figure::judge(&mut figures);
    if let Some(path) = &options.json {
        figure::write(path, &figures)?;
    }
    Ok(true)
}

/// What was measured, in nanoseconds per packet.
#[derive(Clone, Copy, Debug)]
struct Parts {
    /// A packet of the worker's own.
    own: f64,
    /// Finding that a packet is another's.
    decide: f64,
    /// Handing it over, both sides.
    hop: f64,
}

impl Parts {
    /// What a packet costs all workers together if any of them may receive it.
    fn software(self, workers: u8) -> f64 {
        let workers = f64::from(workers);
        self.own + (workers - 1.0) / workers * (self.decide + self.hop)
    }

    /// The same if its owner receives it.
    fn hardware(self) -> f64 {
        self.own
    }
}

/// Millions of packets per second of so many workers, at so many nanoseconds each.
fn mpps(workers: u8, ns: f64) -> f64 {
    f64::from(workers) * 1e3 / ns
}

/// Nanoseconds per packet that the first of `workers` workers hands over, beside a table of flows of
/// its own.
fn decide(method: Method, workers: u8) -> Result<f64, Failure> {
    let site = Site::new(Family::V4, Forward::Dr, ESTABLISHED as usize);
    let mut rig = Rig::of_workers(site, method.clock, workers);
    let is_own = |flow| steering::owner(client(flow), workers) == WorkerId(0);
    let own: Vec<u32> = (0..FLOWS)
        .filter(|flow| is_own(*flow))
        .take(ESTABLISHED as usize)
        .collect();
    for flags in [tcp::SYN, tcp::ACK] {
        let request = rig.request(flags, 64);
        for flows in own.chunks(RING) {
            rig.send(flows.len(), |index, packet| {
                request.write(packet, flows[index]);
            })?;
        }
    }
    let request = rig.request(tcp::ACK, 64);
    let mut random = Random::SEED;
    let ring = method.measure(
        &mut rig,
        |_, _| Ok(()),
        |rig| {
            rig.send_redirected(|_, packet| {
                let mut flow = random.below(FLOWS);
                while is_own(flow) {
                    flow = random.below(FLOWS);
                }
                request.write(packet, flow);
            })
        },
    )?;
    Ok(ring / RING as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: Parts = Parts {
        own: 40.0,
        decide: 20.0,
        hop: 12.0,
    };

    #[test]
    fn all_but_one_worker_in_so_many_hand_a_packet_over() {
        let costs = [1, 2, 4, 8].map(|workers| PARTS.software(workers));
        let expected = [40.0, 56.0, 64.0, 68.0];
        for (cost, expected) in costs.into_iter().zip(expected) {
            assert!((cost - expected).abs() < 1e-9, "{costs:?}");
        }
        assert!((PARTS.hardware() - 40.0).abs() < 1e-9);
    }

    #[test]
    fn the_rate_is_that_of_all_workers() {
        assert!((mpps(1, 40.0) - 25.0).abs() < 1e-9);
        assert!((mpps(8, 40.0) - 200.0).abs() < 1e-9);
    }

    #[test]
    fn a_worker_hands_over_all_packets_of_others_and_none_of_its_own() {
        let clock = Clock { hz: f64::INFINITY };
        let mut rig = Rig::of_workers(Site::new(Family::V4, Forward::Dr, 64), clock, 4);
        let syn = rig.request(tcp::SYN, 64);
        let of = |worker: fn(u8) -> bool| {
            let owned = (0..FLOWS).filter(move |flow| worker(steering::owner(client(*flow), 4).0));
            owned.take(RING).collect::<Vec<_>>()
        };
        let (own, others) = (of(|worker| worker == 0), of(|worker| worker != 0));
        rig.send(32, |index, packet| syn.write(packet, own[index]))
            .unwrap();
        rig.send_redirected(|index, packet| syn.write(packet, others[index]))
            .unwrap();
        assert!(
            rig.send_redirected(|index, packet| syn.write(packet, own[index]))
                .is_err()
        );
    }
}
