//! New connections: scheduling, whole conversations, floods.

use super::established::Traffic;
use super::rig::{RING, Rig, Site};
use super::{FEW_PROCESSES, Method, PROCESSES, decile};
use crate::figure::Failure;
use crate::packet::{FLOWS, Family, Template};
use dataplane::packet::tcp;
use dataplane::scheduler::SchedulerKind;
use dataplane::service::Forward;
use std::time::{Duration, Instant};

/// A scheduler as it is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    /// In the figure's name.
    pub(super) name: &'static str,
    scheduler: SchedulerKind,
    reals: u16,
    /// Of each server.
    weight: u32,
    /// How many processes take it.
    pub(super) processes: usize,
}

/// Every scheduler among a hundred servers, some among four too.
pub(super) const SCHEDULERS: [Choice; 20] = [
    choice("rr", SchedulerKind::Rr, 4),
    choice("wrr", SchedulerKind::Wrr, 4),
    choice("lc", SchedulerKind::Lc, 4),
    choice("wlc", SchedulerKind::Wlc, 4),
    choice("rr100", SchedulerKind::Rr, 100),
    choice("wlc100", SchedulerKind::Wlc, 100),
    among_hundred("wrr100", SchedulerKind::Wrr, 1),
    among_hundred("lc100", SchedulerKind::Lc, 1),
    among_hundred("sed100", SchedulerKind::Sed, 1),
    among_hundred("nq100", SchedulerKind::Nq, 1),
    among_hundred("twos100", SchedulerKind::Twos, 1),
    among_hundred("fo100", SchedulerKind::Fo, 1),
    among_hundred("ovf100", SchedulerKind::Ovf, ROOMY),
    among_hundred("dh100", SchedulerKind::Dh, 1),
    among_hundred("sh100", SchedulerKind::Sh, 1),
    among_hundred("mh100", SchedulerKind::Mh, 1),
    among_hundred("lblc100", SchedulerKind::Lblc, ROOMY),
    among_hundred("lblc100-full", SchedulerKind::Lblc, 1),
    among_hundred("lblcr100", SchedulerKind::Lblcr, ROOMY),
    among_hundred("lblcr100-full", SchedulerKind::Lblcr, 1),
];

/// Where a weight says how many connections a server is meant for: hardly ever reached here.
const ROOMY: u32 = 65_535;

const fn choice(name: &'static str, scheduler: SchedulerKind, reals: u16) -> Choice {
    Choice {
        name,
        scheduler,
        reals,
        weight: 1,
        processes: PROCESSES,
    }
}

const fn among_hundred(name: &'static str, scheduler: SchedulerKind, weight: u32) -> Choice {
    Choice {
        weight,
        processes: FEW_PROCESSES,
        ..choice(name, scheduler, 100)
    }
}

/// Room in the table.
const CONNECTIONS: usize = 1 << 20;

fn site(scheduler: SchedulerKind, reals: u16) -> Site {
    Site {
        scheduler,
        reals,
        ..Site::new(Family::V4, Forward::Dr, CONNECTIONS)
    }
}

/// Nanoseconds per SYN of a new flow; DR, a table of a million connections with room.
pub(super) fn flows(method: Method, choice: Choice) -> Result<f64, Failure> {
    let site = Site {
        weight: choice.weight,
        ..site(choice.scheduler, choice.reals)
    };
    opened(method, site)
}

/// The same where the clients are persistent: nearly all flows have a template.
pub(super) fn persistent(method: Method) -> Result<f64, Failure> {
    let site = Site {
        persistent: true,
        ..site(SchedulerKind::Rr, 4)
    };
    opened(method, site)
}

fn opened(method: Method, site: Site) -> Result<f64, Failure> {
    let mut rig = Rig::new(site, method.clock);
    let syn = rig.request(tcp::SYN, 64);
    let mut next = 0;
    let ring = method.measure(
        &mut rig,
        |rig, _| {
            rig.clear();
            Ok(())
        },
        |rig| {
            next = if next + RING as u32 > FLOWS { 0 } else { next };
            let first = next;
            next += RING as u32;
            rig.send(RING, |index, packet| {
                syn.write(packet, first + index as u32);
            })
        },
    )?;
    Ok(ring / RING as f64)
}

/// Packets of a conversation: SYN, ACK, request, FIN.
const TURNS: usize = 4;
/// Conversations that begin with each ring; as many are at each of their other turns.
const GROUP: u32 = (RING / TURNS) as u32;
const GROUPS: u32 = FLOWS / 2 / GROUP;

/// TCP conversations, many at a time.
struct Conversations {
    turns: [Template; TURNS],
    /// The group that begins next.
    group: u32,
    /// Rings sent since the table was empty.
    rings: u32,
}

impl Conversations {
    fn new(rig: &Rig) -> Self {
        Self {
            turns: [
                rig.request(tcp::SYN, 64),
                rig.request(tcp::ACK, 64),
                rig.request(tcp::ACK | tcp::PSH, 128),
                rig.request(tcp::ACK | tcp::FIN, 64),
            ],
            group: 0,
            rings: 0,
        }
    }

    /// Takes every conversation at hand one turn further; ticks.
    fn ring(&mut self, rig: &mut Rig) -> Result<u64, Failure> {
        let (ticks, sent) = self.attempt(rig);
        rig.all_sent(RING, sent)?;
        Ok(ticks)
    }

    /// As [`Self::ring`], and how many packets were sent.
    fn attempt(&mut self, rig: &mut Rig) -> (u64, usize) {
        let (group, rings) = (self.group, self.rings);
        self.group = (group + 1) % GROUPS;
        self.rings += 1;
        rig.pass(RING, |index, packet| {
            let back = (index % TURNS) as u32;
            let member = (index / TURNS) as u32;
            if back <= rings {
                let flow = (group + GROUPS - back) % GROUPS * GROUP + member;
                self.turns[back as usize].write(packet, flow);
            } else {
                // There is nothing to continue yet: a SYN, from the other half of the clients.
                self.turns[0].write(packet, (GROUPS + back) * GROUP + member);
            }
        })
    }
}

/// Conversations per second, four packets each; DR.
pub(super) struct Rates {
    /// With room in the table for all that linger in FIN_WAIT.
    pub(super) roomy: f64,
    /// In a full table, where each new conversation pushes a connection out.
    pub(super) full: f64,
    /// Percentage of the packets not forwarded in the full table.
    pub(super) lost_percent: f64,
}

/// Measures the rate of conversations.
pub(super) fn conversations(method: Method) -> Result<Rates, Failure> {
    let mut rig = Rig::new(site(SchedulerKind::Rr, 4), method.clock);
    let mut conversations = Conversations::new(&rig);
    let mut subject = (&mut rig, &mut conversations);
    let roomy = method.measure(
        &mut subject,
        |(rig, conversations), _| {
            rig.clear();
            conversations.rings = 0;
            Ok(())
        },
        |(rig, conversations)| conversations.ring(rig),
    )?;
    while rig.world.pipeline.connections() < CONNECTIONS {
        conversations.attempt(&mut rig);
    }
    let (mut offered, mut sent) = (0_u64, 0_u64);
    let full = method.measure(
        &mut rig,
        |_, _| Ok(()),
        |rig| {
            let (ticks, passed) = conversations.attempt(rig);
            offered += RING as u64;
            sent += passed as u64;
            Ok(ticks)
        },
    )?;
    let per_second = |ring: f64| f64::from(GROUP) * 1e9 / ring;
    Ok(Rates {
        roomy: per_second(roomy),
        full: per_second(full),
        lost_percent: (offered - sent) as f64 * 100.0 / offered as f64,
    })
}

/// What a SYN flood does.
pub(super) struct Flood {
    /// Nanoseconds per packet of it.
    pub(super) ns: f64,
    /// Percentage of packets of established flows that were not forwarded during it.
    pub(super) lost_percent: f64,
    /// Connections left beyond the established ones when it is over and the timers have run.
    pub(super) left: usize,
}

/// A table a quarter full of established flows is flooded with SYNs of ever new clients for
/// `seconds`; every 64th ring is of established flows.
pub(super) fn flood(method: Method, seconds: u64) -> Result<Flood, Failure> {
    const ESTABLISHED: u32 = CONNECTIONS as u32 / 4;
    let mut rig = Rig::new(site(SchedulerKind::Rr, 4), method.clock);
    rig.establish(ESTABLISHED)?;
    let mut traffic = Traffic::new(&rig, ESTABLISHED, 64);
    let syn = rig.request(tcp::SYN, 64);
    let (mut asked, mut lost) = (0_u64, 0_u64);
    let mut ticks = Vec::new();
    let mut next = ESTABLISHED;
    let until = Instant::now() + Duration::from_secs(seconds);
    for number in 0_u64.. {
        if number % 64 == 63 {
            if Instant::now() > until {
                break;
            }
            let (_, sent) = rig.pass_traffic(&mut traffic);
            asked += RING as u64;
            lost += (RING - sent) as u64;
            continue;
        }
        if next + RING as u32 > FLOWS {
            next = ESTABLISHED;
        }
        let (spent, _) = rig.pass(RING, |index, packet| syn.write(packet, next + index as u32));
        next += RING as u32;
        if rig.world.pipeline.connections() == CONNECTIONS {
            ticks.push(spent);
        }
    }
    if ticks.is_empty() {
        return Err("the flood was too short to fill the table".into());
    }
    // All half-open connections are over after a minute; established ones stay a quarter of an hour.
    rig.wait(125);
    Ok(Flood {
        ns: method.clock.ns(decile(ticks)) / RING as f64,
        lost_percent: lost as f64 * 100.0 / asked as f64,
        left: rig
            .world
            .pipeline
            .connections()
            .abs_diff(ESTABLISHED as usize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn every_scheduler_that_a_configuration_can_have_is_measured_among_a_hundred() {
        for kind in SchedulerKind::ALL {
            let measured = |choice: &Choice| choice.scheduler == kind && choice.reals == 100;
            let is_measured = SCHEDULERS.iter().any(measured);
            assert_eq!(is_measured, kind != SchedulerKind::None, "{kind}");
        }
    }

    #[test]
    fn every_choice_finds_servers_for_more_flows_than_it_has_servers() {
        let method = Method {
            clock: Clock { hz: f64::INFINITY },
            rounds: 1,
            rings: 1,
        };
        for choice in SCHEDULERS {
            flows(method, choice).unwrap();
        }
    }
}
