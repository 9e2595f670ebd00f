//! Who is Active when: RFC 9568 section 6.4 and keepalived's habits (behaviour notes 8.2, 8.3), in absolute times.

mod world;

use std::time::Duration;
use vrrp::{Action, Centis, Event, Initial, Input, RouterSettings, Standing};
use world::{Host, advert, interface, ip, ms, router, router_v3, settings};

const PEER: &str = "10.0.1.2";
const LOWER_PEER: &str = "10.0.0.9";

fn started(own: RouterSettings) -> Host {
    Host::new(settings([own]))
}

/// Active, with everything that led there forgotten.
fn active(own: RouterSettings) -> Host {
    let mut host = started(own);
    host.run(Duration::from_secs(10));
    assert_eq!(host.standing(), Standing::Active);
    host.take();
    host
}

#[test]
fn all_begin_as_backup_and_wait_active_down_interval_even_with_state_master() {
    for (own, wait) in [
        (router(100), Duration::from_micros(3_609_375)),
        (
            router(150),
            Duration::from_micros(3_414_062) + Duration::from_nanos(500),
        ),
        (router_v3(100), Duration::from_nanos(1_804_687_500)),
        (router(255), Duration::from_nanos(3_003_906_250)),
    ] {
        for initial in [Initial::Backup, Initial::Active] {
            if own.priority == 255 && initial == Initial::Active {
                continue;
            }
            let mut host = started(RouterSettings {
                initial,
                ..own.clone()
            });
            assert_eq!(host.next(), Some(wait));
            host.run(Duration::from_secs(4));
            let told = [(Duration::ZERO, Standing::Backup), (wait, Standing::Active)];
            assert_eq!(host.transitions(), told);
        }
    }
}

#[test]
fn the_owner_with_state_master_is_active_at_once() {
    let host = started(RouterSettings {
        initial: Initial::Active,
        ..router(255)
    });
    assert_eq!(host.transitions(), [(Duration::ZERO, Standing::Active)]);
    assert_eq!(host.sent()[0].1.message[2], 255);
}

#[test]
fn becoming_active_is_advertise_claim_add_announce_tell() {
    let mut host = started(RouterSettings {
        addresses: vec![
            world::address("10.0.1.60/32"),
            world::address("10.0.1.61/32"),
        ],
        excluded: vec![world::address("2001:db8::53/128")],
        ..router(100)
    });
    host.take();
    host.run_until(ms(3700));
    let mut expected = vec![
        "send 100",
        "claim",
        "+10.0.1.60",
        "+10.0.1.61",
        "+2001:db8::53",
    ];
    for _ in 0..5 {
        expected.extend([
            "announce 10.0.1.60",
            "announce 10.0.1.61",
            "announce 2001:db8::53",
        ]);
    }
    expected.push("VI_1 MASTER");
    assert_eq!(host.words(), expected);
    // The second batch comes after the delay, and no third.
    host.run_until(ms(30_000));
    let announced = host
        .actions
        .iter()
        .filter_map(|(at, action)| matches!(action, Action::Announce { .. }).then_some(*at));
    assert_eq!(
        announced.collect::<Vec<_>>(),
        [Duration::from_micros(8_609_375); 15]
    );
}

#[test]
fn advertisements_go_out_at_the_interval_with_identifications_from_1() {
    let mut host = started(router(100));
    host.run_until(ms(7700));
    let sent: Vec<_> = host
        .sent()
        .into_iter()
        .map(|(at, sent)| (at.as_micros(), sent.identification, sent.hop_limit))
        .collect();
    let at = |number: u16| (3_609_375 + 1_000_000 * u128::from(number - 1), number, 255);
    assert_eq!(sent, [at(1), at(2), at(3), at(4), at(5)]);
    assert_eq!(host.sent()[0].1.source, ip("10.0.1.1"));
    assert_eq!(host.sent()[0].1.destination, ip("224.0.0.18"));
}

#[test]
fn without_an_answer_of_the_data_plane_the_addresses_come_after_200_ms() {
    let mut host = started(router(100));
    host.claims = false;
    host.run_until(ms(3700));
    assert_eq!(host.standing(), Standing::Active);
    assert!(!host.words().contains(&"+10.0.1.60".into()));
    host.run_until(ms(4000));
    let added = host
        .actions
        .iter()
        .find(|(_, action)| matches!(action, Action::AddAddress { .. }));
    assert_eq!(added.unwrap().0, Duration::from_micros(3_809_375));
    // The answer that comes later does nothing.
    host.take();
    host.handle(Input::Claimed("VI_1".into()));
    assert_eq!(host.take(), []);
}

#[test]
fn a_late_claimed_after_giving_way_does_nothing() {
    let mut host = started(router(100));
    host.claims = false;
    host.run_until(ms(3700));
    host.hear(PEER, &router(150));
    assert_eq!(host.standing(), Standing::Backup);
    host.take();
    host.handle(Input::Claimed("VI_1".into()));
    assert_eq!(host.take(), []);
    assert_eq!(host.transitions(), []);
    host.run(ms(1000));
    assert_eq!(host.words(), ["disclaim"]);
}

#[test]
fn priority_0_makes_a_backup_wait_its_skew_time_only() {
    let mut host = started(router(100));
    host.run_until(ms(1000));
    host.hear(PEER, &router(150));
    host.run_until(ms(1500));
    host.hear(PEER, &router(0));
    assert_eq!(
        host.next(),
        Some(Duration::from_micros(1_500_000 + 609_375))
    );
    host.run_until(ms(2200));
    assert_eq!(host.standing(), Standing::Active);
}

#[test]
fn the_recorded_hand_over_of_version_3_took_the_skew_that_is_computed() {
    // Recorded: priority 0 at 55.7216, the Backup of priority 90 spoke at 56.0676. Its skew is 0.3242 s.
    let mut host = started(router_v3(90));
    host.receive("10.0.1.2", &advert("10.0.1.2", &router_v3(100)));
    host.receive("10.0.1.2", &advert("10.0.1.2", &router_v3(0)));
    assert_eq!(host.next(), Some(Duration::from_nanos(324_218_750)));
}

#[test]
fn the_active_router_answers_priority_0_with_an_advertisement_and_stays() {
    let mut host = active(router(100));
    host.hear(PEER, &router(0));
    assert_eq!(host.words(), ["send 100"]);
    assert_eq!(host.standing(), Standing::Active);
}

#[test]
fn a_lower_priority_is_discarded_and_the_wait_runs_out() {
    let mut host = started(router(150));
    host.hear_until(PEER, &router(90), ms(1000), ms(3000));
    let told = [
        (Duration::ZERO, Standing::Backup),
        (Duration::from_nanos(3_414_062_500), Standing::Active),
    ];
    assert_eq!(host.transitions(), told);
}

#[test]
fn nopreempt_stays_backup_as_long_as_anyone_is_active() {
    let mut host = started(RouterSettings {
        preempt: false,
        ..router(150)
    });
    host.hear_until(PEER, &router(90), ms(1000), ms(60_000));
    assert_eq!(host.standing(), Standing::Backup);
    let last = ms(60_000);
    assert_eq!(
        host.next(),
        Some(last + Duration::from_nanos(3_414_062_500))
    );
}

#[test]
fn preempt_delay_obeys_lower_priorities_for_that_long() {
    // As measured: delay 4 s, from the first lower advertisement; then the wait from the last that was obeyed.
    let mut host = started(RouterSettings {
        preempt_delay: Duration::from_secs(4),
        ..router(150)
    });
    host.run_until(ms(500));
    host.hear_until(PEER, &router(90), ms(1000), ms(8000));
    let told = [
        (Duration::ZERO, Standing::Backup),
        (
            ms(3500) + Duration::from_nanos(3_414_062_500),
            Standing::Active,
        ),
    ];
    assert_eq!(host.transitions(), told);
}

#[test]
fn preempt_delay_begins_anew_after_an_equal_or_higher_priority() {
    let mut host = started(RouterSettings {
        preempt_delay: Duration::from_secs(4),
        ..router(150)
    });
    host.hear_until(PEER, &router(90), ms(1000), ms(3000));
    host.hear(PEER, &router(150));
    host.run(ms(1000));
    // From here on four seconds again: obeyed at 5, 6, 7, 8 and discarded from 9 on.
    host.hear_until(PEER, &router(90), ms(1000), ms(11_000));
    let told = host.transitions();
    assert_eq!(
        told[1],
        (
            ms(8000) + Duration::from_nanos(3_414_062_500),
            Standing::Active
        )
    );
}

#[test]
fn equal_priorities_are_settled_by_the_address() {
    let mut host = active(router(100));
    host.hear(LOWER_PEER, &router(100));
    assert_eq!(host.standing(), Standing::Active);
    assert!(host.words().contains(&"send 100".to_owned()));
    host.hear(PEER, &router(100));
    assert_eq!(host.standing(), Standing::Backup);
}

#[test]
fn two_owners_settle_it_by_the_address_and_it_is_told_once() {
    let mut host = active(router(255));
    for _ in 0..10 {
        host.hear(LOWER_PEER, &router(255));
        host.run(ms(100));
    }
    assert_eq!(host.standing(), Standing::Active);
    let complaints = host.take().into_iter().filter(|action| {
        matches!(action, Action::Tell(Event::Complaint { what, .. }) if what.contains("255"))
    });
    assert_eq!(complaints.count(), 1);
    assert_eq!(host.count("two_owners"), 10);
    host.hear(PEER, &router(255));
    assert_eq!(host.standing(), Standing::Backup);
}

#[test]
fn version_3_learns_the_interval_and_waits_and_skews_by_it() {
    let mut host = started(router_v3(100));
    let slow = RouterSettings {
        advert_interval: Centis(200),
        ..router_v3(150)
    };
    host.hear(PEER, &slow);
    let status = host.status();
    assert_eq!(status.active_advert_interval, ms(2000));
    assert_eq!(status.skew, Duration::from_micros(1_218_750));
    assert_eq!(host.next(), Some(Duration::from_micros(7_218_750)));
    host.hear(
        PEER,
        &RouterSettings {
            priority: 0,
            ..slow
        },
    );
    assert_eq!(host.next(), Some(Duration::from_micros(1_218_750)));
    // It advertises at its own interval.
    host.run_until(ms(2000));
    let sent = host.sent();
    assert_eq!(sent[1].0, sent[0].0 + ms(500));
    assert_eq!(sent[0].1.message[4..6], [0, 50]);
}

#[test]
fn a_lower_priority_makes_the_active_router_speak_at_once() {
    let mut host = active(router(100));
    host.run(ms(1234));
    host.take();
    host.hear(PEER, &router(90));
    let words = host.words();
    assert_eq!(words[0], "send 100");
    assert_eq!(words[1..], ["announce 10.0.1.60"; 5]);
    assert_eq!(host.next(), Some(host.elapsed() + ms(1000)));
}

#[test]
fn a_flood_of_lower_priorities_is_answered_in_measure() {
    let mut host = active(router(100));
    let message = advert(PEER, &router(90));
    for _ in 0..10_000 {
        host.receive(PEER, &message);
        host.run(Duration::from_micros(10));
    }
    let words = host.words();
    let count = |what: &str| words.iter().filter(|word| *word == what).count();
    assert!(count("send 100") <= 11, "{}", count("send 100"));
    assert_eq!(count("announce 10.0.1.60"), 5);
}

#[test]
fn a_higher_priority_takes_the_addresses_at_once_and_forwarding_a_second_later() {
    let mut host = active(router(100));
    host.hear(PEER, &router(150));
    assert_eq!(host.words(), ["-10.0.1.60", "VI_1 BACKUP"]);
    host.run(ms(999));
    assert_eq!(host.words(), Vec::<String>::new());
    host.run(ms(1));
    assert_eq!(host.words(), ["disclaim"]);
    assert_eq!(host.status().active, Some((ip(PEER), 150)));
}

#[test]
fn a_box_that_slept_decides_by_the_packets_that_wait() {
    let mut host = started(router(100));
    host.hear_until(PEER, &router(150), ms(1000), ms(5000));
    // Ten seconds in which nothing ran; then what waits is handed in before timers are looked at.
    host.now += ms(10_000);
    host.take();
    let message = advert(PEER, &router(150));
    for _ in 0..10 {
        host.receive(PEER, &message);
    }
    host.run(ms(1));
    assert_eq!(host.take(), []);
    assert_eq!(host.standing(), Standing::Backup);
    let next = host.status().next.map(|next| next + ms(1));
    assert_eq!(next, Some(Duration::from_micros(3_609_375)));
}

#[test]
fn an_active_router_that_slept_sends_one_advertisement_not_all_it_missed() {
    let mut host = active(router(100));
    let before = host.elapsed();
    host.now += ms(10_500);
    host.run(ms(1));
    assert_eq!(host.words(), ["send 100"]);
    assert_eq!(host.next(), Some(before + ms(11_500)));
}

#[test]
fn time_that_goes_back_stands_still() {
    let mut host = active(router(100));
    let next = host.next();
    host.routers.expire(host.start);
    host.routers.handle(Input::Maintenance(false), host.start);
    assert_eq!(host.next(), next);
    assert!(host.routers.next_action().is_none());
}

#[test]
fn spurious_expiries_do_nothing() {
    let mut host = started(router(100));
    host.take();
    for _ in 0..1000 {
        host.now += ms(3);
        host.routers.expire(host.now);
    }
    host.collect();
    assert_eq!(host.take(), []);
    let next = host.routers.next_deadline().unwrap();
    host.now = next.checked_sub(Duration::from_nanos(1)).unwrap();
    host.routers.expire(host.now);
    assert!(host.routers.next_action().is_none());
    host.routers.expire(next);
    assert!(host.routers.next_action().is_some());
}

#[test]
fn every_packet_is_for_one_router_of_its_interface_family_and_vrid() {
    let named = |name: &str, interface: &str, vrid| RouterSettings {
        name: name.into(),
        interface: interface.into(),
        vrid,
        ..router(100)
    };
    let mut host = Host::new(settings([
        named("a", "eth0", 1),
        named("b", "eth0", 2),
        named("c", "eth1", 1),
    ]));
    host.handle(Input::Interface("eth1".into(), interface("10.0.2.1")));
    host.hear(PEER, &named("x", "eth0", 2));
    host.hear(PEER, &named("x", "eth0", 9));
    let received: Vec<_> = host
        .routers
        .status(host.now)
        .iter()
        .map(|status| status.counters["adverts_received"])
        .collect();
    assert_eq!(received, [0, 1, 0]);
    assert_eq!(host.routers.counters()["unknown_vrid"], 1);
}

#[test]
fn a_packet_for_a_router_that_has_not_begun_is_harmless() {
    let mut host = Host::bare(settings([router(100)]));
    host.hear(PEER, &router(150));
    host.hear(PEER, &router(0));
    assert_eq!(host.standing(), Standing::Initialize);
    assert_eq!(host.count("adverts_received"), 2);
}

#[test]
fn scores_of_routers_take_over_each_in_its_time() {
    let many = (1..=255).map(|vrid| RouterSettings {
        name: format!("VI_{vrid}").into(),
        vrid,
        addresses: vec![world::address(&format!("10.0.1.{vrid}/32"))],
        ..router(vrid)
    });
    let mut host = Host::new(settings(many));
    host.handle(Input::Interface("eth0".into(), interface("10.0.2.1")));
    host.run(ms(5000));
    let told: Vec<_> = host
        .transitions()
        .into_iter()
        .filter(|(_, to)| *to == Standing::Active)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(told.len(), 255);
    assert!(told.is_sorted());
    assert_eq!(told[254], ms(3000) + ms(1000) * 255 / 256);
}
