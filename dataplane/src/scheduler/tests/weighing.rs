//! sed, nq, fo, ovf, twos with connections that are active, and who is ever chosen.

use super::*;

#[test]
fn sed_weighs_the_connection_that_is_to_come() {
    // (active + 1) / weight: 1/1, 1/2, 1/3 at first.
    let service = Service::new(SchedulerKind::Sed, &[(11, 1), (12, 2), (13, 3)]).active();
    // 13 until 2/3 > 1/2; a tie goes to the first in the list.
    assert_eq!(service.sequence(12), "13 12 13 13 12 11 13 12 13 13 12 11");
}

#[test]
fn nq_fills_idle_servers_first_however_slow() {
    let service = Service::new(SchedulerKind::Nq, &[(11, 1), (12, 2), (13, 9)]).active();
    assert_eq!(service.sequence(3), "13 12 11");
    // All busy: as sed.
    assert_eq!(service.sequence(3), "13 13 13");
    let slow = service.list.servers.iter().find(|s| s.id.0 == 11).unwrap();
    slow.shared.counts(WorkerId(0)).unbind(true);
    assert_eq!(service.sequence(1), "11");
}

#[test]
fn fo_fails_over_by_weight_and_threshold() {
    let mut service = Service::new(SchedulerKind::Fo, &[(11, 1), (12, 3), (13, 2)]);
    assert_eq!(service.sequence(2), "12 12");
    service.reload(&[(11, 1), (12, 0), (13, 2)]);
    assert_eq!(service.sequence(2), "13 13");
    let flag = |service: &Service, id: u32| {
        let server = service.list.servers.iter().find(|s| s.id.0 == id).unwrap();
        server
            .shared
            .count_place()
            .overloaded()
            .store(true, Relaxed);
    };
    service.upper_threshold = 1000;
    service.reload(&[(11, 1), (12, 3), (13, 2)]);
    flag(&service, 12);
    assert_eq!(service.sequence(2), "13 13");
    flag(&service, 13);
    assert_eq!(service.sequence(2), "11 11");
    flag(&service, 11);
    assert_eq!(service.bind(), None);
}

#[test]
fn ovf_takes_one_more_than_the_weight_before_it_overflows() {
    let service = Service::new(SchedulerKind::Ovf, &[(11, 1), (12, 3), (13, 2)]).active();
    assert_eq!(service.sequence(9), "12 12 12 12 13 13 13 11 11");
    assert_eq!(service.bind(), None, "all are full");
    service.list.servers[0]
        .shared
        .counts(WorkerId(0))
        .unbind(true);
    assert_eq!(service.bind(), Some(13));
}

#[test]
fn twos_chooses_by_weight_as_often_as_chance_and_load_say() {
    // Nothing is ever bound: the loads are equal, so the first choice always stands.
    let service = Service::new(SchedulerKind::Twos, &[(11, 1), (12, 2), (13, 5), (14, 0)]);
    let mut counts = BTreeMap::<u32, u32>::new();
    for _ in 0..80_000 {
        *counts.entry(service.pick(&[]).unwrap().id.0).or_default() += 1;
    }
    // Numbers from 0 to 8, both included: 14 is not in it, 13 has 0 to 5, 12 6 and 7, 11 8.
    for (host, of_nine) in [(13, 6), (12, 2), (11, 1)] {
        let expected = 80_000 * of_nine / 9;
        assert!(
            counts[&host].abs_diff(expected) < expected / 20 + 100,
            "{counts:?}"
        );
    }
    assert!(!counts.contains_key(&14));
}

#[test]
fn twos_prefers_the_less_loaded_of_its_two_and_so_keeps_loads_together() {
    let service = Service::new(
        SchedulerKind::Twos,
        &(1..=10).map(|id| (id, 1)).collect::<Vec<_>>(),
    );
    let service = service.active();
    for _ in 0..10_000 {
        service.bind();
    }
    let counts = service.list.servers.iter();
    let counts: Vec<_> = counts.map(|s| s.shared.connections().0).collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    // Chance alone would spread them by some 100.
    assert!(most - least <= 12, "{counts:?}");
}

proptest! {
    #[test]
    fn nobody_starves(
        kind in prop::sample::select(vec![
            SchedulerKind::Rr, SchedulerKind::Wrr, SchedulerKind::Lc, SchedulerKind::Wlc,
            SchedulerKind::Twos,
        ]),
        weights in prop::collection::vec(0u32..6, 1..8),
        active in any::<bool>(),
        before in 0usize..30,
    ) {
        let mut service = Service::new(kind, &numbered(&weights));
        service.active = active;
        service.sequence(before);
        let total = weights.iter().sum::<u32>() as usize;
        // rr, wrr: within a period; lc, wlc: loads differ by one connection by weight; twos: with
        // probability 1 - 10^-9.
        let rounds = if kind == SchedulerKind::Twos { 40 } else { 2 };
        let mut seen = BTreeMap::new();
        for _ in 0..(rounds * total.max(weights.len()) + before) {
            if let Some(id) = service.bind() {
                *seen.entry(id).or_insert(0) += 1;
            }
        }
        for (id, weight) in numbered(&weights) {
            prop_assert_eq!(seen.contains_key(&id), weight > 0, "{} of {:?}", id, weights);
        }
    }

    #[test]
    fn ovf_never_overfills_and_leaves_nobody_out(
        weights in prop::collection::vec(0u32..6, 1..8),
    ) {
        let service = Service::new(SchedulerKind::Ovf, &numbered(&weights)).active();
        while service.bind().is_some() {}
        for server in &service.list.servers {
            let full = if server.weight == 0 { 0 } else { u64::from(server.weight) + 1 };
            prop_assert_eq!(server.shared.connections().0, full);
        }
    }

    #[test]
    fn sed_and_nq_choose_what_their_definition_says(
        never_queue in any::<bool>(),
        workers in 1u8..4,
        states in prop::collection::vec((0u32..4, 0u64..3, 0u64..300), 1..20),
        excluded in prop::collection::vec(0u32..20, 0..2),
    ) {
        let kind = if never_queue { SchedulerKind::Nq } else { SchedulerKind::Sed };
        let weights: Vec<_> = (0..).zip(states.iter().map(|(weight, ..)| *weight)).collect();
        let mut file = servers(&weights);
        for (server, (_, active, inactive)) in file.iter_mut().zip(&states) {
            server.shared = RealShared::new(usize::from(workers));
            server.shared.counts(WorkerId(0)).set_own(*active, *inactive);
        }
        let mut service = Service::of(kind, file);
        service.workers = workers;
        let excluded: Vec<_> = excluded.into_iter().map(RealId).collect();
        let may = service.list.servers.iter();
        let mut may = may.filter(|s| s.is_eligible() && !excluded.contains(&s.id)).peekable();
        let active = |server: &RealServer| server.shared.counts(WorkerId(0)).estimate(workers).active;
        let mut best = None::<&RealServer>;
        if never_queue {
            best = may.clone().find(|server| active(server) == 0);
        }
        if best.is_none() {
            best = may.next();
            for server in may {
                let least = best.expect("it is not the first");
                let delays = (
                    (active(least) + 1) * u64::from(server.weight),
                    (active(server) + 1) * u64::from(least.weight),
                );
                if delays.0 > delays.1 {
                    best = Some(server);
                }
            }
        }
        prop_assert_eq!(service.pick(&excluded).map(|s| s.id), best.map(|s| s.id));
    }
}
