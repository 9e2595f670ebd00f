//! What goes with which scheduler: its flags, the number of servers it can choose from, weights.

use super::super::effective::Section;
use super::super::report::Report;
use super::super::words::{Family, Scheduler};
use super::At;
use std::net::IpAddr;

/// The most servers mh can choose from: the slots of its table, as in the kernel.
pub(crate) const MOST_SERVERS_OF_MH: usize = 4093;

pub(super) fn check(service: &Section, reals: &[&Section], report: &mut Report) {
    let Some(scheduler) = service.get::<Scheduler>("scheduler") else {
        return;
    };
    flags(service, scheduler, report);
    servers(service, scheduler, reals, report);
    weights(service, scheduler, reals, report);
}

/// Flags are named after the scheduler they belong to.
fn flags(service: &Section, scheduler: Scheduler, report: &mut Report) {
    for flag in service
        .get::<Vec<String>>("scheduler_flags")
        .unwrap_or_default()
    {
        let owner = flag.split_once('-').map_or("", |(owner, _)| owner);
        if owner == scheduler.name() {
            continue;
        }
        let expected = match scheduler {
            Scheduler::SourceHash | Scheduler::Maglev => format!("a flag of {scheduler}"),
            _ => format!("scheduler = {owner}"),
        };
        let message =
            format!("`{flag}` does not go with scheduler {scheduler}; expected {expected}");
        At::new(service).error(report, "scheduler_flags", message);
    }
}

/// Where the kernel refuses the server that is one too many.
fn servers(service: &Section, scheduler: Scheduler, reals: &[&Section], report: &mut Report) {
    if scheduler != Scheduler::Maglev {
        return;
    }
    for family in [Family::Ipv4, Family::Ipv6] {
        let is_of = |real: &&&Section| {
            real.get::<(IpAddr, Option<u16>)>("address")
                .is_some_and(|(address, _)| address.is_ipv6() == (family == Family::Ipv6))
        };
        let number = reals.iter().filter(is_of).count();
        if number > MOST_SERVERS_OF_MH {
            let message = format!(
                "mh cannot choose from {number} {family} servers; expected at most \
                 {MOST_SERVERS_OF_MH}"
            );
            At::new(service).error(report, "scheduler", message);
        }
    }
}

/// Weights that say nothing.
fn weights(service: &Section, scheduler: Scheduler, reals: &[&Section], report: &mut Report) {
    let instead = match scheduler {
        Scheduler::RoundRobin => "wrr",
        Scheduler::LeastConnection => "wlc",
        Scheduler::DestinationHash => "weight = 1",
        _ => return,
    };
    let weighted = reals
        .iter()
        .find(|real| real.get::<u16>("weight").is_some_and(|weight| weight > 1));
    if let Some(real) = weighted {
        let message = format!(
            "{scheduler} takes no account of weights above 0, and [{}] has one at {}; expected \
             {instead}",
            real.title(),
            real.origin("weight")
        );
        At::new(service).warning(report, "scheduler", message);
    }
}
