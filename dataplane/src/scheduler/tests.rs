//! Sequences recorded from the kernel (servers .11, .12, ... in order of addition, one worker) and
//! properties of every scheduler.

use super::*;
use crate::service::{Forward, RealShared};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Servers 10.0.2.ID with these ids and weights.
pub(super) fn servers(weights: &[(u32, u32)]) -> Vec<RealServer> {
    weights
        .iter()
        .map(|(id, weight)| RealServer {
            id: RealId(*id),
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 2, *id as u8)),
            port: 5001,
            weight: *weight,
            forward: Forward::Nat,
            upper_threshold: 0,
            lower_threshold: 0,
            shared: RealShared::new(1),
        })
        .collect()
}

/// A fresh list of such servers.
pub(super) fn with_weights(weights: &[(u32, u32)]) -> ServerList {
    ServerList::rebuilt(None, servers(weights))
}

/// A service that binds UDP connections to what its scheduler chooses.
struct Service {
    kind: SchedulerKind,
    list: ServerList,
    cell: SchedulerCell,
    worker: WorkerId,
}

impl Service {
    fn new(kind: SchedulerKind, weights: &[(u32, u32)]) -> Self {
        Self::of(kind, with_weights(weights))
    }

    fn of(kind: SchedulerKind, list: ServerList) -> Self {
        Self {
            kind,
            list,
            cell: SchedulerCell::default(),
            worker: WorkerId(0),
        }
    }

    fn pick(&self, excluded: &[RealId]) -> Option<&RealServer> {
        let index = self.kind.pick(&Request {
            list: &self.list,
            cell: &self.cell,
            worker: self.worker,
            workers: self.worker.0 + 1,
            source: (0x0a00_0164, 20000),
            destination: (0x0a00_0132, 5001),
            excluded,
        })?;
        Some(&self.list.servers[index])
    }

    /// The id of the server a new connection is bound to.
    fn bind(&self) -> Option<u32> {
        let server = self.pick(&[])?;
        server.shared.cell(WorkerId(0)).inactive.add(1);
        server.evaluate_overload();
        Some(server.id.0)
    }

    /// The servers of the next `flows` connections, as the recordings print them.
    fn sequence(&self, flows: usize) -> String {
        let ids: Vec<_> = (0..flows)
            .filter_map(|_| self.bind())
            .map(|id| id.to_string())
            .collect();
        ids.join(" ")
    }

    /// The threshold wrr would decide with now.
    fn carried_over(&self) -> i64 {
        wrr::carried_over(
            self.cell.current_weight.load(Relaxed),
            self.cell.generation.load(Relaxed),
            &self.list,
        )
    }

    /// Replaces the configuration; servers that stay keep their counters.
    fn reload(&mut self, weights: &[(u32, u32)]) {
        let mut servers = servers(weights);
        for server in &mut servers {
            if let Some(old) = self.list.servers.iter().find(|old| old.id == server.id) {
                server.shared = Arc::clone(&old.shared);
            }
        }
        self.list = ServerList::rebuilt(Some(&self.list), servers);
    }
}

#[test]
fn each_worker_begins_one_choice_later_in_rr_and_wrr() {
    let weights = [(11, 4), (12, 3), (13, 2)];
    for kind in [SchedulerKind::Rr, SchedulerKind::Wrr] {
        let first = Service::new(kind, &weights).sequence(12);
        for worker in 1..3 {
            let mut service = Service::new(kind, &weights);
            service.worker = WorkerId(worker);
            let skipped = usize::from(worker) * "13 ".len();
            assert!(
                first[skipped..].starts_with(&service.sequence(9)),
                "{kind} {worker}"
            );
        }
    }
}

/// Scheduler, servers and weights in order of addition, recorded sequence.
type Recording = (SchedulerKind, &'static [(u32, u32)], &'static str);

#[test]
fn recorded_kernel_sequences_are_reproduced() {
    use SchedulerKind::{Lc, Rr, Wlc, Wrr};
    let recordings: [Recording; 9] = [
        (
            Rr,
            &[(11, 1), (12, 1), (13, 1)],
            "13 12 11 13 12 11 13 12 11 13",
        ),
        (
            Rr,
            &[(11, 1), (12, 0), (13, 1)],
            "13 11 13 11 13 11 13 11 13 11",
        ),
        (
            Wrr,
            &[(11, 4), (12, 3), (13, 2)],
            "13 12 11 11 12 11 13 12 11 13 12 11 11 12 11 13 12 11 13 12",
        ),
        (
            Wrr,
            &[(11, 1), (12, 2), (13, 3)],
            "13 12 11 13 13 12 13 12 11 13 13 12 13 12 11 13 13 12 13 12",
        ),
        (
            Wrr,
            &[(11, 6), (12, 2)],
            "12 11 11 11 12 11 11 11 12 11 11 11 12 11 11 11 12 11 11 11",
        ),
        (
            Wrr,
            &[(11, 10), (12, 20), (13, 30)],
            "13 12 11 13 13 12 13 12 11 13 13 12 13 12 11 13 13 12 13 12",
        ),
        (
            Wrr,
            &[(11, 0), (12, 2), (13, 1)],
            "13 12 12 13 12 12 13 12 12 13 12 12",
        ),
        (
            Lc,
            &[(11, 1), (12, 1), (13, 1)],
            "13 12 11 13 12 11 13 12 11 13",
        ),
        (
            Wlc,
            &[(11, 1), (12, 2), (13, 3)],
            "13 12 11 13 12 13 13 12 11 13 12 13 13 12 11 13 12 13 13 12",
        ),
    ];
    for (kind, weights, recorded) in recordings {
        let flows = recorded.split(' ').count();
        let service = Service::new(kind, weights);
        assert_eq!(service.sequence(flows), recorded, "{kind} {weights:?}");
    }
}

#[test]
fn recorded_thresholds_divert_connections() {
    let mut three = servers(&[(11, 1), (12, 1), (13, 1)]);
    three[0].upper_threshold = 3;
    three[1].upper_threshold = 3;
    three[1].lower_threshold = 1;
    let service = Service::of(SchedulerKind::Rr, ServerList::rebuilt(None, three));
    assert_eq!(service.sequence(12), "13 12 11 13 12 11 13 12 11 13 13 13");

    let mut two = servers(&[(11, 1), (12, 1)]);
    two[0].upper_threshold = 2;
    two[1].upper_threshold = 2;
    let service = Service::of(SchedulerKind::Rr, ServerList::rebuilt(None, two));
    assert_eq!(service.sequence(10), "12 11 12 11");
    assert_eq!(service.bind(), None);
}

#[test]
fn overloaded_servers_come_back_below_the_lower_threshold() {
    for kind in [
        SchedulerKind::Rr,
        SchedulerKind::Wrr,
        SchedulerKind::Lc,
        SchedulerKind::Wlc,
    ] {
        let mut one = servers(&[(11, 2)]);
        one[0].upper_threshold = 4;
        one[0].lower_threshold = 2;
        let service = Service::of(kind, ServerList::rebuilt(None, one));
        assert_eq!(service.sequence(9), "11 11 11 11", "{kind}");
        let server = &service.list.servers[0];
        for freed in 1..=3 {
            server.shared.cell(WorkerId(0)).inactive.sub(1);
            server.evaluate_overload();
            assert_eq!(service.pick(&[]).is_some(), freed == 3, "{kind} {freed}");
        }
    }
}

#[test]
fn rr_goes_on_after_the_one_before_a_server_that_left() {
    let mut service = Service::new(SchedulerKind::Rr, &[(11, 1), (12, 1), (13, 1), (14, 1)]);
    assert_eq!(service.sequence(3), "14 13 12");
    // Stopped at 12, which leaves: the turn stands at 13, next is 11.
    service.reload(&[(11, 1), (13, 1), (14, 1)]);
    assert_eq!(service.sequence(4), "11 14 13 11");
    assert_eq!(service.sequence(1), "14");
    // The first of the list leaves: from the head.
    service.reload(&[(11, 1), (13, 1)]);
    assert_eq!(service.sequence(2), "13 11");
}

#[test]
fn rr_follows_departures_through_several_reloads() {
    let mut service = Service::new(SchedulerKind::Rr, &[(11, 1), (12, 1), (13, 1), (14, 1)]);
    assert_eq!(service.sequence(3), "14 13 12");
    service.reload(&[(11, 1), (13, 1), (14, 1)]);
    service.reload(&[(11, 1), (14, 1)]);
    service.reload(&[(11, 1), (14, 1), (15, 1)]);
    assert_eq!(service.sequence(3), "11 15 14");
}

#[test]
fn an_edit_does_not_disturb_rr_and_a_new_server_waits_for_its_turn() {
    let mut service = Service::new(SchedulerKind::Rr, &[(11, 1), (12, 1), (13, 1)]);
    assert_eq!(service.sequence(1), "13");
    service.reload(&[(11, 5), (12, 1), (13, 1)]);
    assert_eq!(service.sequence(1), "12");
    service.reload(&[(11, 5), (12, 1), (13, 1), (14, 1)]);
    assert_eq!(service.sequence(5), "11 14 13 12 11");
}

#[test]
fn wrr_starts_over_at_the_head_after_a_change_with_its_threshold_kept() {
    let mut service = Service::new(SchedulerKind::Wrr, &[(11, 1), (12, 2), (13, 3)]);
    // 13 12 11 at threshold 1, then 13 at 3.
    assert_eq!(service.sequence(4), "13 12 11 13");
    // Largest weight is 2 now, so the threshold falls from 3 to 2.
    service.reload(&[(11, 1), (12, 2), (13, 2)]);
    assert_eq!(service.sequence(5), "13 12 13 12 11");
    // Weights 4 and 8: step 4, thresholds 5 and 1; 1 is kept (0 * 4 + 1).
    service.reload(&[(11, 4), (12, 8)]);
    assert_eq!(service.sequence(6), "12 11 12 12 11 12");
}

#[test]
fn a_cell_that_slept_through_changes_applies_them_in_order() {
    let mut awake = Service::new(SchedulerKind::Wrr, &[(11, 4), (12, 3), (13, 2)]);
    let mut asleep = Service::new(SchedulerKind::Wrr, &[(11, 4), (12, 3), (13, 2)]);
    awake.sequence(5);
    asleep.sequence(5);
    for weights in [
        &[(11, 1), (12, 1), (13, 1)][..],
        &[(11, 9), (12, 6)],
        &[(11, 9), (12, 6), (14, 12)],
    ] {
        awake.reload(weights);
        asleep.reload(weights);
        // A decision that may choose nobody carries over; only its walk over thresholds is undone.
        let all: Vec<_> = awake.list.servers.iter().map(|server| server.id).collect();
        let before = awake.carried_over();
        assert_eq!(awake.pick(&all).map(|server| server.id), None);
        awake.cell.current_weight.store(before, Relaxed);
    }
    assert_eq!(awake.sequence(20), asleep.sequence(20));
}

#[test]
fn wlc_weighs_an_active_connection_like_257_inactive_ones() {
    let service = Service::new(SchedulerKind::Wlc, &[(11, 1), (12, 1)]);
    let [newer, older] = &*service.list.servers else {
        unreachable!("two servers");
    };
    newer.shared.cell(WorkerId(0)).active.add(1);
    older.shared.cell(WorkerId(0)).inactive.add(257);
    assert_eq!(service.bind(), Some(12));
    assert_eq!(service.bind(), Some(11));
}

#[test]
fn wlc_compares_huge_counts_without_overflow() {
    let service = Service::new(SchedulerKind::Wlc, &[(11, 65535), (12, 65534)]);
    for server in &service.list.servers {
        server.shared.cell(WorkerId(0)).active.add(u64::MAX / 4);
    }
    assert!(service.bind().is_some());
}

#[test]
fn a_scheduler_that_is_not_built_chooses_nobody() {
    for kind in SchedulerKind::ALL {
        let service = Service::new(kind, &[(11, 1)]);
        assert_eq!(service.bind().is_some(), kind.is_built(), "{kind}");
    }
}

fn built() -> impl Strategy<Value = SchedulerKind> {
    let built = SchedulerKind::ALL
        .into_iter()
        .filter(|kind| kind.is_built());
    prop::sample::select(built.collect::<Vec<_>>())
}

fn numbered(weights: &[u32]) -> Vec<(u32, u32)> {
    (1..).zip(weights.iter().copied()).collect()
}

proptest! {
    #[test]
    fn a_period_of_wrr_has_each_server_as_often_as_its_weight(
        weights in prop::collection::vec(0u32..12, 1..8),
        before in 0usize..40,
    ) {
        let service = Service::new(SchedulerKind::Wrr, &numbered(&weights));
        let period = weights.iter().sum::<u32>() / service.list.gcd;
        service.sequence(before);
        let mut counts = BTreeMap::new();
        for _ in 0..period {
            *counts.entry(service.bind().unwrap()).or_insert(0) += service.list.gcd;
        }
        for (id, weight) in numbered(&weights) {
            prop_assert_eq!(counts.get(&id).copied().unwrap_or(0), weight);
        }
    }

    #[test]
    fn only_eligible_servers_are_chosen_and_one_always_is_if_there_is_one(
        kind in built(),
        reloads in prop::collection::vec(
            (prop::collection::btree_map(0u32..6, 0u32..5, 0..6), 0usize..8), 1..8),
        overloaded in 0u32..8,
        excluded in prop::collection::vec(0u32..6, 0..3),
    ) {
        let excluded: Vec<_> = excluded.into_iter().map(RealId).collect();
        let mut service = Service::new(kind, &[]);
        for (weights, picks) in reloads {
            service.reload(&weights.into_iter().collect::<Vec<_>>());
            for server in &service.list.servers {
                let flag = server.id.0 == overloaded;
                server.shared.overloaded.store(flag, Relaxed);
            }
            let may_choose =
                |server: &RealServer| server.is_eligible() && !excluded.contains(&server.id);
            let any = service.list.servers.iter().any(may_choose);
            for _ in 0..picks {
                let chosen = service.pick(&excluded);
                prop_assert_eq!(chosen.is_some(), any);
                prop_assert!(chosen.is_none_or(may_choose));
            }
        }
    }

    #[test]
    fn a_list_is_the_same_whichever_way_the_kernel_would_have_got_there(
        reloads in prop::collection::vec(prop::collection::btree_map(0u32..8, 0u32..5, 0..8), 1..10),
    ) {
        let mut list = ServerList::rebuilt(None, Vec::new());
        let mut order: Vec<u32> = Vec::new();
        for weights in reloads {
            let file: Vec<_> = weights.iter().map(|(id, weight)| (*id, *weight)).collect();
            list = ServerList::rebuilt(Some(&list), servers(&file));
            order.retain(|id| weights.contains_key(id));
            for (id, _) in &file {
                if !order.contains(id) {
                    order.insert(0, *id);
                }
            }
            let ids: Vec<_> = list.servers.iter().map(|server| server.id.0).collect();
            prop_assert_eq!(&ids, &order);
            prop_assert_eq!(list.max_weight, weights.values().copied().max().unwrap_or(0));
            prop_assert!(weights.values().all(|weight| weight.is_multiple_of(list.gcd)));
        }
    }
}
