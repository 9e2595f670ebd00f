//! Reloads of a large configuration while packets flow: what a burst costs then, and what is lost.
//!
//! The measuring thread is a worker: bursts of established packets, spread over 1000 services of
//! 100 real servers each, and every burst timed. A thread on another CPU is control: it builds
//! tables of all of them, publishes them by the real publisher as fast as workers may be given
//! them, and frees the old ones. Then the same without it, because the machine also keeps a thread
//! from running now and then: what both have is not the swaps'.

use super::Random;
use super::rig::{Nothing, RING};
use crate::clock::Clock;
use crate::figure::{Failure, Figure};
use crate::packet::{Packet, Template, Way};
use dataplane::address::Protocol;
use dataplane::connection::Millis;
use dataplane::dpdk::tsc;
use dataplane::packet::tcp;
use dataplane::pipeline::world::{Control, Plan, RealPlan, ServicePlan, World, endpoint};
use dataplane::pipeline::{BURST, Pass, Pipeline};
use dataplane::service::{Forward, Serve};
use dataplane::verdict::{DropReason, Verdict};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::ptr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const SERVICES: u16 = 1000;
const REALS: u16 = 100;
/// Round robin gives each server one.
const FLOWS: u32 = SERVICES as u32 * REALS as u32;
const SWAPS: usize = 60;
/// How often control looks whether the worker has moved on, as in the daemon.
const RETRY: Duration = Duration::from_millis(1);

/// Measures on `cpu`, the current one, with control on another.
pub(super) fn figures(clock: Clock, cpu: usize) -> Result<Vec<Figure>, Failure> {
    let world = World::new(plan());
    let start = world.now;
    let (pipeline, control) = world.apart();
    let mut worker = Worker::new(pipeline, clock, start);
    worker.establish()?;
    // The first rings find everything cold.
    worker.work(&mut Record::default(), |rings| rings == 1000);

    let mut record = Record::default();
    let control = thread::Builder::new().spawn(move || reload(control, cpu))?;
    worker.work(&mut record, |_| control.is_finished());
    // It still has the newest table, as control has in the daemon.
    let _control = control
        .join()
        .map_err(|_| "control panicked")?
        .map_err(|complaint| format!("control: {complaint}"))?;
    let mut calm = Record::default();
    worker.work(&mut calm, |rings| rings == record.rings());

    let microseconds = |ticks: u32| clock.ns(f64::from(ticks)) / 1e3;
    let mut figures = Vec::new();
    let mut add = |name: &str, value, unit| {
        figures.push(Figure::new(format!("reload.swap.{name}"), value, unit));
    };
    let lost = record.lost + calm.lost;
    let swaps = record.taking.len();
    for (name, mut ticks) in [
        ("burst", record.ticks),
        ("taking", record.taking),
        ("calm", calm.ticks),
    ] {
        ticks.sort_unstable();
        for (place, part) in [("p50", 0.5), ("p999", 0.999), ("max", 1.0)] {
            // Of so few the 999th thousandth is the last.
            if name == "taking" && place == "p999" {
                continue;
            }
            let value = percentile(&ticks, part).ok_or("nothing was measured")?;
            add(&format!("{name}.{place}.us"), microseconds(value), "us");
        }
    }
    add("count", swaps as f64, "swaps");
    add("lost", lost as f64, "packets");
    // A worker that stands still skips tables, which is as it should be.
    if swaps < SWAPS / 2 {
        return Err(format!("the worker took {swaps} of {SWAPS} tables").into());
    }
    Ok(figures)
}

/// 1000 addresses, each served by the same 100 hosts.
fn plan() -> Plan {
    let reals: Vec<_> = (0..REALS)
        .map(|number| RealPlan::new(&format!("10.0.1.{}:80", 101 + number)))
        .collect();
    let services = (0..SERVICES).map(|number| {
        let mut service = ServicePlan::new(Protocol::Tcp, &vip(number), Forward::Dr, &[]);
        service.serve = Serve::Always;
        service.reals.clone_from(&reals);
        service
    });
    let mut plan = Plan::new(services.collect());
    plan.connections = 2 * FLOWS as usize;
    plan.connections_v6 = Some(16);
    plan
}

fn vip(service: u16) -> String {
    format!("10.8.{}.{}:80", service / 250, service % 250 + 1)
}

/// Control's part: changes a weight in every service and publishes, [`SWAPS`] times.
///
/// Whoever drops a table last frees it. That this is here and never the worker is the publisher's
/// promise; it is checked by having every table until the worker's reference to it is gone.
fn reload(mut control: Control, worker_cpu: usize) -> Result<Control, &'static str> {
    leave(worker_cpu)?;
    let mut tables = vec![Arc::clone(control.services())];
    for number in 0..SWAPS {
        wait_until_ready(&mut control, &mut tables);
        control.edit_services(|plan| {
            for service in &mut plan.services {
                service.reals[number % usize::from(REALS)].weight += 1;
            }
        });
        tables.push(Arc::clone(control.services()));
    }
    // Ready with one fewer unreclaimed table than may be: the worker may not have the last one.
    let newest = Arc::as_ptr(control.services());
    while tables.len() > 1 {
        wait_until_ready(&mut control, &mut tables);
        thread::sleep(RETRY);
    }
    if !ptr::eq(newest, Arc::as_ptr(&tables[0])) {
        return Err("an old table was never freed");
    }
    Ok(control)
}

/// Frees what the worker has no more, and waits until it may be given another table.
fn wait_until_ready(control: &mut Control, tables: &mut Vec<Arc<dataplane::service::Services>>) {
    while !control.is_ready() {
        thread::sleep(RETRY);
    }
    tables.retain(|table| Arc::strong_count(table) > 1);
}

/// Moves the calling thread, which has inherited its one CPU, to any other.
fn leave(cpu: usize) -> Result<(), &'static str> {
    for other in (0..CpuSet::MAX_CPU).filter(|other| *other != cpu) {
        let mut set = CpuSet::new();
        set.set(other);
        if sched_setaffinity(None, &set).is_ok() {
            return Ok(());
        }
    }
    Err("there is no second CPU")
}

/// What bursts took.
#[derive(Default)]
struct Record {
    /// Ticks of each.
    ticks: Vec<u32>,
    /// Ticks of those that began with a new table.
    taking: Vec<u32>,
    /// Packets not sent.
    lost: u64,
}

impl Record {
    fn rings(&self) -> usize {
        self.ticks.len() / (RING / BURST)
    }
}

/// The worker's part.
struct Worker {
    pipeline: Pipeline,
    clock: Clock,
    start: (Millis, u64),
    ring: Vec<Packet>,
    /// By service.
    requests: Vec<Template>,
    random: Random,
}

impl Worker {
    fn new(pipeline: Pipeline, clock: Clock, start: Millis) -> Self {
        Self {
            pipeline,
            clock,
            start: (start, tsc()),
            ring: vec![Packet::EMPTY; RING],
            requests: requests(tcp::ACK),
            random: Random::SEED,
        }
    }

    /// Opens all flows.
    fn establish(&mut self) -> Result<(), Failure> {
        let mut record = Record::default();
        for flags in [tcp::SYN, tcp::ACK, tcp::ACK] {
            let templates = requests(flags);
            for first in (0..FLOWS).step_by(RING) {
                let count = RING.min((FLOWS - first) as usize);
                for (flow, packet) in (first..).zip(&mut self.ring[..count]) {
                    write(&templates, packet, flow);
                }
                self.pass(count, &mut record);
            }
        }
        if record.lost > 0 {
            let counters = self.pipeline.counters().moved();
            return Err(format!("flows were not opened: {counters:?}").into());
        }
        Ok(())
    }

    /// Sends rings of established packets until `done` with so many.
    fn work(&mut self, record: &mut Record, done: impl Fn(usize) -> bool) {
        while !done(record.rings()) {
            for packet in &mut self.ring {
                write(&self.requests, packet, self.random.below(FLOWS));
            }
            self.pass(RING, record);
        }
    }

    /// Takes the first `count` packets of the ring through, in bursts, each of them timed.
    fn pass(&mut self, count: usize, record: &mut Record) {
        let (start, origin) = self.start;
        let now = Millis(start.0 + self.clock.milliseconds(tsc() - origin));
        for burst in self.ring[..count].chunks_mut(BURST) {
            let table = ptr::from_ref(self.pipeline.services());
            let mut verdicts = [Verdict::Drop(DropReason::Frame); BURST];
            let verdicts = &mut verdicts[..burst.len()];
            let start = tsc();
            serve(&mut self.pipeline, burst, verdicts, now);
            let ticks = u32::try_from(tsc() - start).unwrap_or(u32::MAX);
            record.ticks.push(ticks);
            if !ptr::eq(table, self.pipeline.services()) {
                record.taking.push(ticks);
            }
            let sent = verdicts.iter().filter(|v| matches!(v, Verdict::Tx(_)));
            record.lost += (verdicts.len() - sent.count()) as u64;
        }
    }
}

/// What is timed: a worker's turn.
#[inline(never)]
fn serve(pipeline: &mut Pipeline, burst: &mut [Packet], verdicts: &mut [Verdict], now: Millis) {
    pipeline.refresh();
    pipeline.process(burst, verdicts, now, Pass::First, &mut Nothing);
    pipeline.maintain(now);
}

/// Segments to each of the services.
fn requests(flags: u8) -> Vec<Template> {
    (0..SERVICES)
        .map(|service| Template::new(endpoint(&vip(service)), Way::Request, flags, 64))
        .collect()
}

#[inline]
fn write(templates: &[Template], packet: &mut Packet, flow: u32) {
    templates[flow as usize % templates.len()].write(packet, flow);
}

/// The least value that the part `part` of the sorted values does not exceed.
fn percentile(sorted: &[u32], part: f64) -> Option<u32> {
    #[expect(clippy::cast_sign_loss, reason = "a part is not negative")]
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_so_many_do_not_exceed() {
        let thousand: Vec<u32> = (1..=1000).collect();
        assert_eq!(percentile(&thousand, 0.5), Some(500));
        assert_eq!(percentile(&thousand, 0.999), Some(999));
        assert_eq!(percentile(&thousand, 1.0), Some(1000));
        assert_eq!(percentile(&[7], 0.0), Some(7));
        assert_eq!(percentile(&[7], 0.999), Some(7));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn a_packet_that_is_not_sent_counts_as_lost() {
        let mut plan = plan();
        plan.services.truncate(1);
        plan.connections = 16;
        let world = World::new(plan);
        let now = world.now;
        let (pipeline, _control) = world.apart();
        let mut worker = Worker::new(pipeline, Clock { hz: 1e9 }, now);
        let mut record = Record::default();
        let syns = requests(tcp::SYN);
        syns[0].write(&mut worker.ring[0], 0);
        // No such service here.
        syns[1].write(&mut worker.ring[1], 1);
        worker.pass(2, &mut record);
        assert_eq!((record.ticks.len(), record.lost), (1, 1));
    }

    #[test]
    fn every_table_published_is_taken_and_freed_by_control() {
        let mut plan = plan();
        plan.services.truncate(2);
        plan.connections = 16;
        let world = World::new(plan);
        let now = world.now;
        let (pipeline, control) = world.apart();
        let mut worker = Worker::new(pipeline, Clock { hz: 1e9 }, now);
        let mut record = Record::default();
        let control = thread::spawn(move || reload(control, usize::MAX));
        let limit = std::time::Instant::now() + Duration::from_mins(1);
        worker.work(&mut record, |_| {
            control.is_finished() || std::time::Instant::now() > limit
        });
        assert!(control.is_finished(), "an old table is still in use");
        control.join().unwrap().unwrap();
        assert!(record.taking.len() > 1);
    }
}
