//! Sequences recorded from the kernel (servers .11, .12, ... in order of addition, one worker) and
//! properties of every scheduler.

mod hashing;
mod places;
mod properties;
mod weighing;

use super::*;
use crate::address::Family;
use crate::connection::Millis;
use crate::connection_counts::CountTable;
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
    flags: SchedulerFlags,
    list: ServerList,
    cell: SchedulerCell,
    localities: Option<Arc<Localities>>,
    worker: WorkerId,
    workers: u8,
    /// Of every server after a reload.
    upper_threshold: u32,
    /// Whether its connections are active.
    active: bool,
    /// Where packets come from and go to.
    source: (u32, u16),
    destination: Ipv4Addr,
    now: Millis,
}

impl Service {
    fn new(kind: SchedulerKind, weights: &[(u32, u32)]) -> Self {
        Self::of(kind, servers(weights))
    }

    fn of(kind: SchedulerKind, servers: Vec<RealServer>) -> Self {
        let tables = &mut MaglevTables::default();
        let first = servers.first();
        let family = first.map_or(Family::V4, |server| Family::of(server.address));
        Self {
            kind,
            flags: SchedulerFlags::NONE,
            list: ServerList::rebuilt_for(kind, family, None, servers, tables),
            cell: SchedulerCell::default(),
            localities: kind.localities(0),
            worker: WorkerId(0),
            workers: 1,
            upper_threshold: 0,
            active: false,
            source: (0x0a00_0164, 20000),
            destination: Ipv4Addr::new(10, 0, 1, 50),
            now: Millis(1_000_000),
        }
    }

    /// A service of TCP connections.
    fn active(self) -> Self {
        Self {
            active: true,
            ..self
        }
    }

    fn pick(&self, excluded: &[RealId]) -> Option<&RealServer> {
        let index = self.kind.pick(&Request {
            list: &self.list,
            cell: &self.cell,
            worker: self.worker,
            workers: self.workers,
            source: self.source,
            destination: (self.destination.to_bits(), 5001),
            excluded,
            flags: self.flags,
            address: self.destination.into(),
            localities: self.localities.as_deref(),
            now: self.now,
        })?;
        Some(&self.list.servers[index])
    }

    /// The id of the server a new connection is bound to.
    fn bind(&self) -> Option<u32> {
        let server = self.pick(&[])?;
        server.shared.counts(WorkerId(0)).bind(self.active);
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
            server.upper_threshold = self.upper_threshold;
            if let Some(old) = self.list.servers.iter().find(|old| old.id == server.id) {
                server.shared = Arc::clone(&old.shared);
            }
        }
        let tables = &mut MaglevTables::default();
        self.list =
            ServerList::rebuilt_for(self.kind, Family::V4, Some(&self.list), servers, tables);
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
            service.workers = worker + 1;
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
    use SchedulerKind::{Fo, Lc, Nq, Ovf, Rr, Sed, Wlc, Wrr};
    let recordings: [Recording; 14] = [
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
        // UDP connections are never active.
        (
            Sed,
            &[(11, 1), (12, 2), (13, 3)],
            "13 13 13 13 13 13 13 13 13 13",
        ),
        (
            Nq,
            &[(11, 1), (12, 2), (13, 3)],
            "13 13 13 13 13 13 13 13 13 13",
        ),
        (Fo, &[(11, 1), (12, 3), (13, 2)], "12 12 12 12 12"),
        (Fo, &[(11, 3), (12, 3)], "12 12 12 12 12"),
        (Ovf, &[(11, 1), (12, 3), (13, 2)], "12 12 12 12 12 12 12 12"),
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
    let service = Service::of(SchedulerKind::Rr, three);
    assert_eq!(service.sequence(12), "13 12 11 13 12 11 13 12 11 13 13 13");

    let mut two = servers(&[(11, 1), (12, 1)]);
    two[0].upper_threshold = 2;
    two[1].upper_threshold = 2;
    let service = Service::of(SchedulerKind::Rr, two);
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
        SchedulerKind::Sed,
        SchedulerKind::Nq,
        SchedulerKind::Fo,
        SchedulerKind::Ovf,
        SchedulerKind::Twos,
        SchedulerKind::Dh,
        SchedulerKind::Sh,
        SchedulerKind::Mh,
        // Not lblc: it has a destination stay with its server.
        SchedulerKind::Lblcr,
    ] {
        let mut one = servers(&[(11, 2)]);
        one[0].upper_threshold = 4;
        one[0].lower_threshold = 2;
        let service = Service::of(kind, one);
        assert_eq!(service.sequence(9), "11 11 11 11", "{kind}");
        let server = &service.list.servers[0];
        for freed in 1..=3 {
            server.shared.counts(WorkerId(0)).unbind(false);
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
    newer.shared.counts(WorkerId(0)).bind(true);
    for _ in 0..257 {
        older.shared.counts(WorkerId(0)).bind(false);
    }
    assert_eq!(service.bind(), Some(12));
    assert_eq!(service.bind(), Some(11));
}

#[test]
fn wlc_compares_the_largest_counts_and_weights_exactly() {
    // 2^31 - 1 connections of each kind on both: only the weights tell them apart.
    let service = Service::new(SchedulerKind::Wlc, &[(11, 65535), (12, 65534)]);
    for server in &service.list.servers {
        server
            .shared
            .counts(WorkerId(0))
            .set_own(0x7fff_ffff, 0x7fff_ffff);
    }
    assert_eq!(service.pick(&[]).map(|server| server.id), Some(RealId(11)));
}

#[test]
fn the_scheduler_none_chooses_nobody() {
    for kind in SchedulerKind::ALL {
        let service = Service::new(kind, &[(11, 1)]);
        assert_eq!(
            service.bind().is_none(),
            kind == SchedulerKind::None,
            "{kind}"
        );
    }
}

fn any_kind() -> impl Strategy<Value = SchedulerKind> {
    prop::sample::select(SchedulerKind::ALL.to_vec())
}

/// True if it finds an eligible server whenever there is one.
fn finds_any(kind: SchedulerKind, flags: SchedulerFlags) -> bool {
    use SchedulerKind::{Dh, Mh, None, Ovf, Sh};
    match kind {
        Sh | Mh => flags.contains(SchedulerFlags::FALLBACK),
        // All may be full.
        Ovf | Dh | None => false,
        _ => true,
    }
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
        kind in any_kind(),
        flags in 0u8..8,
        source in any::<(u32, u16)>(),
        reloads in prop::collection::vec(
            (prop::collection::btree_map(0u32..6, 0u32..5, 0..6), 0usize..8), 1..8),
        overloaded in 0u32..8,
        excluded in prop::collection::vec(0u32..6, 0..3),
    ) {
        let excluded: Vec<_> = excluded.into_iter().map(RealId).collect();
        let mut service = Service::new(kind, &[]).active();
        service.upper_threshold = 1_000_000;
        service.source = source;
        service.flags = SchedulerFlags::with_bits(flags);
        for (weights, picks) in reloads {
            service.reload(&weights.into_iter().collect::<Vec<_>>());
            for server in &service.list.servers {
                let flag = server.id.0 == overloaded;
                server.shared.count_place().overloaded().store(flag, Relaxed);
            }
            let may_choose =
                |server: &RealServer| server.is_eligible() && !excluded.contains(&server.id);
            let any = service.list.servers.iter().any(may_choose);
            for _ in 0..picks {
                let chosen = service.pick(&excluded);
                // lblc may still have one when nobody takes new destinations.
                if finds_any(kind, service.flags) && (any || kind != SchedulerKind::Lblc) {
                    prop_assert_eq!(chosen.is_some(), any);
                }
                // lblc has a destination stay with its server in spite of the threshold.
                let stays = |server: &RealServer| {
                    kind == SchedulerKind::Lblc && excluded.is_empty() && server.weight > 0
                };
                prop_assert!(chosen.is_none_or(|server| may_choose(server) || stays(server)));
                if let Some(server) = chosen {
                    server.shared.counts(WorkerId(0)).bind(true);
                }
            }
        }
    }

    #[test]
    fn the_first_of_the_least_loaded_wins_wherever_their_counts_stand(
        dividing in any::<bool>(),
        workers in 1u8..4,
        same_weight in any::<bool>(),
        states in prop::collection::vec((0u32..4, 0u64..3, 0u64..300, any::<bool>()), 1..20),
        places in Just((0..20).collect::<Vec<usize>>()).prop_shuffle(),
        turned in 0usize..3,
        limited in any::<bool>(),
        excluded in prop::collection::vec(0u32..20, 0..2),
    ) {
        let mut table = CountTable::new(usize::from(workers));
        let taken: Vec<_> = (0..20).map(|_| table.take()).collect();
        let mut file = Vec::new();
        for (index, (weight, active, inactive, overloaded)) in states.iter().enumerate() {
            // In order, in order backwards, or anyhow.
            let place = [index, 19 - index, places[index]][turned];
            let shared = RealShared::with_counts(usize::from(workers), taken[place].clone());
            shared.counts(WorkerId(0)).set_own(*active, *inactive);
            shared.count_place().overloaded().store(limited && *overloaded, Relaxed);
            file.push(RealServer {
                weight: if same_weight { 2 } else { *weight },
                upper_threshold: u32::from(limited && index % 2 == 0),
                shared,
                ..servers(&[(index as u32, 0)]).remove(0)
            });
        }
        let list = ServerList::rebuilt(None, file);
        let excluded: Vec<_> = excluded.into_iter().map(RealId).collect();
        let kind = if dividing { SchedulerKind::Wlc } else { SchedulerKind::Lc };
        let chosen = kind.pick(&Request {
            list: &list,
            cell: &SchedulerCell::default(),
            worker: WorkerId(0),
            workers,
            source: (1, 2),
            destination: (3, 4),
            excluded: &excluded,
            flags: SchedulerFlags::NONE,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            localities: None,
            now: Millis(0),
        });
        let mut best: Option<(usize, u64, u64)> = None;
        for (index, server) in list.servers.iter().enumerate() {
            if !server.is_eligible() || excluded.contains(&server.id) {
                continue;
            }
            let connections = server.shared.counts(WorkerId(0)).estimate(workers);
            let overhead = 257 * connections.active + connections.inactive;
            let weight = if dividing { u64::from(server.weight) } else { 1 };
            if best.is_none_or(|(_, least, its)| least * weight > overhead * its) {
                best = Some((index, overhead, weight));
            }
        }
        prop_assert_eq!(chosen, best.map(|(index, ..)| index));
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
