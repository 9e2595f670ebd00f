//! What a virtual router depends on: faults, and the priority that is sent (behaviour notes 7.2, 8.3).
//!
//! Weight 0 turns a tracked thing that is down into a fault. A positive weight is added while it is up, a negative one
//! while it is down, a file's number counts times the weight; the sum stays within 1 to 254 and never touches the owner
//! of the addresses nor a member of a sync group.

use crate::input::{Interface, Report};
use crate::settings::{Name, Tracked};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// Why a router cannot take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The interface does not exist.
    Absent(Name),
    /// The interface is down.
    Down(Name),
    /// The interface has no MAC.
    NoMac(Name),
    /// The interface has no address to speak from.
    NoAddress(Name, &'static str),
    /// The kernel does not take an address.
    Unplaceable(Name, IpNet),
    /// Something tracked is down.
    Tracked(Tracked),
    /// Another member of the group cannot take part.
    Member(Name),
    /// Nothing is known yet of an interface.
    Untold(Name),
    /// Nothing is known yet of something tracked.
    Unknown(Tracked),
    /// The operator has taken the box out.
    Maintenance,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(name) => write!(f, "interface {name} does not exist"),
            Self::Down(name) => write!(f, "interface {name} is down"),
            Self::NoMac(name) => write!(f, "interface {name} has no MAC address"),
            Self::NoAddress(name, kind) => write!(f, "interface {name} has no {kind} address"),
            Self::Unplaceable(name, net) => write!(f, "{net} cannot be put on {name}"),
            Self::Tracked(tracked) => write!(f, "{} is down", Shown(tracked)),
            Self::Member(name) => write!(f, "{name} of the same group cannot take part"),
            Self::Untold(name) => write!(f, "nothing is known yet of interface {name}"),
            Self::Unknown(tracked) => write!(f, "nothing is known yet of {}", Shown(tracked)),
            Self::Maintenance => f.write_str("the box is in maintenance"),
        }
    }
}

struct Shown<'a>(&'a Tracked);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Tracked::Interface(name) => write!(f, "interface {name}"),
            Tracked::Script(name) => write!(f, "track script {name}"),
            Tracked::Service(name) => write!(f, "virtual server {name}"),
            Tracked::File(name) => write!(f, "track file {name}"),
            Tracked::Workers(_) => f.write_str("a worker"),
        }
    }
}

/// What is known of everything routers depend on.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    pub(crate) interfaces: HashMap<Name, Interface>,
    pub(crate) reports: BTreeMap<Tracked, Report>,
    /// Addresses the kernel does not take, with their interfaces.
    pub(crate) unplaceable: BTreeSet<(Name, IpNet)>,
    /// Interfaces nothing was told of are absent, rather than not told of yet.
    pub(crate) is_complete: bool,
}

impl Knowledge {
    /// What is known of this; an interface is as it was told.
    pub(crate) fn of(&self, tracked: &Tracked) -> Option<Report> {
        if let Tracked::Interface(name) = tracked {
            return match self.interfaces.get(name) {
                Some(interface) if interface.index != 0 && interface.up => Some(Report::Up),
                Some(_) => Some(Report::Down),
                None if self.is_complete => Some(Report::Down),
                None => None,
            };
        }
        self.reports.get(tracked).copied()
    }
}

/// What follows from all that is tracked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) faults: Vec<Fault>,
    pub(crate) unknown: Vec<Fault>,
    /// To be added to the priority.
    pub(crate) weight: i64,
}

/// A sum at or below this is a fault (keepalived's track_file).
const HOPELESS: i64 = -254;

/// Looks at everything tracked.
pub(crate) fn consider(tracked: &[(Tracked, i32)], knowledge: &Knowledge) -> Outcome {
    let mut outcome = Outcome::default();
    for (object, weight) in tracked {
        let weight = i64::from(*weight);
        let (is_fault, counts) = match knowledge.of(object) {
            None => {
                outcome.unknown.push(Fault::Unknown(object.clone()));
                continue;
            }
            Some(Report::Up) => (false, weight.max(0)),
            Some(Report::Down) => (weight == 0, weight.min(0)),
            Some(Report::Value(value)) if weight == 0 => (value != 0, 0),
            Some(Report::Value(value)) => {
                let counts = i64::from(value) * weight;
                (counts <= HOPELESS, counts)
            }
        };
        if is_fault {
            outcome.faults.push(Fault::Tracked(object.clone()));
        }
        outcome.weight = outcome.weight.saturating_add(counts);
    }
    outcome
}

/// The priority that is sent.
pub(crate) fn effective_priority(configured: u8, weight: i64) -> u8 {
    if configured == u8::MAX {
        return configured;
    }
    let sum = i64::from(configured).saturating_add(weight).clamp(1, 254);
    u8::try_from(sum).unwrap_or(configured)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(name: &str) -> Tracked {
        Tracked::Script(name.into())
    }

    fn weight_of(weight: i32, report: Report) -> (i64, bool) {
        let mut knowledge = Knowledge::default();
        knowledge.reports.insert(script("a"), report);
        let outcome = consider(&[(script("a"), weight)], &knowledge);
        (outcome.weight, !outcome.faults.is_empty())
    }

    #[test]
    fn weights_count_as_in_keepalived() {
        assert_eq!(weight_of(20, Report::Up), (20, false));
        assert_eq!(weight_of(20, Report::Down), (0, false));
        assert_eq!(weight_of(-20, Report::Up), (0, false));
        assert_eq!(weight_of(-20, Report::Down), (-20, false));
        assert_eq!(weight_of(0, Report::Up), (0, false));
        assert_eq!(weight_of(0, Report::Down), (0, true));
        assert_eq!(weight_of(2, Report::Value(-7)), (-14, false));
        assert_eq!(weight_of(-1, Report::Value(10)), (-10, false));
        assert_eq!(weight_of(0, Report::Value(1)), (0, true));
        assert_eq!(weight_of(0, Report::Value(0)), (0, false));
        assert_eq!(weight_of(1, Report::Value(-254)), (-254, true));
    }

    #[test]
    fn what_was_never_told_is_neither_up_nor_down() {
        let outcome = consider(&[(script("a"), 0), (script("b"), 5)], &Knowledge::default());
        assert_eq!(outcome.faults, []);
        assert_eq!(outcome.weight, 0);
        assert_eq!(outcome.unknown.len(), 2);
    }

    #[test]
    fn an_interface_is_tracked_as_it_was_told() {
        let eth1 = Tracked::Interface("eth1".into());
        let mut knowledge = Knowledge::default();
        assert_eq!(knowledge.of(&eth1), None);
        knowledge.is_complete = true;
        assert_eq!(knowledge.of(&eth1), Some(Report::Down));
        let mut told = |index, up| {
            let interface = Interface {
                index,
                up,
                mac: None,
                addresses: vec![],
            };
            knowledge.interfaces.insert("eth1".into(), interface);
            knowledge.of(&eth1)
        };
        assert_eq!(told(3, true), Some(Report::Up));
        assert_eq!(told(3, false), Some(Report::Down));
        assert_eq!(told(0, true), Some(Report::Down));
    }

    #[test]
    fn the_priority_stays_between_1_and_254_and_the_owner_stays_the_owner() {
        assert_eq!(effective_priority(100, 20), 120);
        assert_eq!(effective_priority(100, -200), 1);
        assert_eq!(effective_priority(250, 253), 254);
        assert_eq!(effective_priority(255, -253), 255);
        assert_eq!(effective_priority(254, i64::MIN), 1);
        assert_eq!(effective_priority(1, i64::MAX), 254);
    }
}
