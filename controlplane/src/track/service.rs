//! `track_services`: whether a `[virtual_server NAME]` has its quorum, as the published tables have it.
//!
//! keepalived's rule (behaviour notes 7.5): the weights of the live servers are added up; quorum is
//! lost below `quorum - hysteresis` or without any, and gained from `quorum + hysteresis` on.

use super::Sink;
use crate::config::VirtualServerConfig;
use crate::tables;
use dataplane::service::Services;
use std::time::Duration;
use vrrp::{Report, Tracked};

/// After a look; tables may change very often.
const PAUSE: Duration = Duration::from_millis(20);

/// When a service is up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Quorum {
    service: String,
    needed: u64,
    hysteresis: u64,
}

impl Quorum {
    pub(super) fn of(section: &VirtualServerConfig) -> Self {
        Self {
            service: section.name.clone(),
            needed: u64::from(section.quorum),
            hysteresis: u64::from(section.hysteresis),
        }
    }

    fn holds(&self, held: Option<bool>, sum: u64) -> bool {
        match held {
            None => sum > 0 && sum >= self.needed,
            Some(true) => sum > 0 && sum + self.hysteresis >= self.needed,
            Some(false) => sum > 0 && sum >= self.needed + self.hysteresis,
        }
    }

    /// The weights of the live servers; of several addresses, that with the least.
    fn sum(&self, services: &Services) -> u64 {
        let of_section = services.services().iter();
        let of_section = of_section.filter(|service| *service.name == *self.service);
        let sums = of_section.map(|service| -> u64 {
            let servers = service.list.servers.iter();
            servers.map(|server| u64::from(server.weight)).sum()
        });
        sums.min().unwrap_or(0)
    }
}

/// Looks at every change of the tables.
pub(super) async fn track(quorum: Quorum, tables: tables::Handle, tracked: Tracked, sink: Sink) {
    let mut changes = tables.changes();
    changes.mark_changed();
    let mut held = None;
    let mut told = None;
    let mut seen = 0;
    while changes.changed().await.is_ok() {
        let ((epoch, _), _) = tables.epochs();
        if std::mem::replace(&mut seen, epoch) != epoch {
            let sum = quorum.sum(&tables.services());
            let holds = quorum.holds(held, sum);
            if held.replace(holds).is_some_and(|before| before != holds) {
                let (name, quorum) = (&quorum.service, quorum.needed);
                if holds {
                    log::info!("gained quorum {quorum} for virtual server {name}: weight {sum}");
                } else {
                    log::warn!("lost quorum {quorum} for virtual server {name}: weight {sum}");
                }
            }
            let report = if holds { Report::Up } else { Report::Down };
            if !super::tell(&sink, &tracked, &mut told, report).await {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(quorum: u64, hysteresis: u64, sums: &[u64]) -> Vec<bool> {
        let quorum = Quorum {
            service: "web".into(),
            needed: quorum,
            hysteresis,
        };
        let mut held = None;
        let sums = sums.iter();
        sums.map(|sum| *held.insert(quorum.holds(held, *sum)))
            .collect()
    }

    #[test]
    fn quorum_is_lost_below_and_gained_above_with_the_hysteresis_between() {
        assert_eq!(held(1, 0, &[1, 0, 1]), [true, false, true]);
        assert_eq!(
            held(4, 1, &[4, 3, 2, 4, 5, 3]),
            [true, true, false, false, true, true]
        );
        assert_eq!(held(4, 1, &[3, 4, 5]), [false, false, true]);
        // Nobody is never enough.
        assert_eq!(held(1, 5, &[1, 0]), [true, false]);
    }
}
