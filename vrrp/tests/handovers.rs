//! Leaving on purpose and by fault, what is tracked, groups and reloads (behaviour notes 8.3 to 8.6, DESIGN section 6).

mod world;

use std::time::Duration;
use vrrp::{
    Action, Centis, Event, Family, Initial, Input, Interface, Report, RouterSettings, Settings,
    Standing, Tracked, Version,
};
use world::{Host, address, interface, ip, ms, router, router_v3, settings};

const PEER: &str = "10.0.1.2";

fn active(own: RouterSettings) -> Host {
    let mut host = Host::new(settings([own]));
    host.run(Duration::from_secs(10));
    assert_eq!(host.standing(), Standing::Active);
    host.take();
    host
}

fn down() -> Interface {
    Interface {
        up: false,
        ..interface("10.0.1.1")
    }
}

fn gone() -> Interface {
    Interface {
        index: 0,
        up: false,
        mac: None,
        addresses: vec![],
    }
}

fn told(host: &mut Host, interface: Interface) {
    host.handle(Input::Interface("eth0".into(), interface));
}

fn script(name: &str) -> Tracked {
    Tracked::Script(name.into())
}

#[test]
fn a_release_keeps_addresses_until_the_peer_speaks_and_forwards_a_second_longer() {
    let mut host = active(router(100));
    host.handle(Input::Release("VI_1".into()));
    assert_eq!(host.words(), ["send 0", "VI_1 BACKUP"]);
    host.run(ms(600));
    assert_eq!(host.words(), Vec::<String>::new());
    assert_eq!(host.status().addresses, [ip("10.0.1.60")]);
    host.hear(PEER, &router(90));
    assert_eq!(host.words(), ["-10.0.1.60"]);
    host.run(ms(999));
    assert_eq!(host.words(), Vec::<String>::new());
    host.run(ms(1));
    assert_eq!(host.words(), ["disclaim"]);
}

#[test]
fn the_released_router_does_not_preempt_until_the_other_went_away() {
    let mut host = active(router(150));
    host.handle(Input::Release("VI_1".into()));
    host.run(ms(640));
    let end = host.elapsed() + Duration::from_mins(1);
    host.hear_until(PEER, &router(90), ms(1000), end);
    assert_eq!(host.standing(), Standing::Backup);
    host.run(ms(3000));
    assert_eq!(host.standing(), Standing::Active);
    // Once Active, it preempts again.
    host.hear(PEER, &router(200));
    assert_eq!(host.standing(), Standing::Backup);
    let end = host.elapsed() + Duration::from_secs(10);
    host.hear_until(PEER, &router(90), ms(1000), end);
    assert_eq!(host.standing(), Standing::Active);
}

#[test]
fn a_release_that_nobody_answers_is_taken_back_after_two_active_down_intervals() {
    let mut host = active(router(100));
    let released = host.elapsed();
    host.handle(Input::Release("VI_1".into()));
    host.run(ms(20_000));
    let transitions = host.transitions();
    let back = (
        released + 2 * Duration::from_micros(3_609_375),
        Standing::Active,
    );
    assert_eq!(transitions, [(released, Standing::Backup), back]);
    let why = host.actions.iter().find_map(|(_, action)| match action {
        Action::Tell(Event::Transition(to)) if to.to == Standing::Active => Some(to.why.clone()),
        _ => None,
    });
    assert_eq!(why.unwrap(), "nobody took over after the release");
}

#[test]
fn releasing_what_is_not_active_is_only_told() {
    let mut host = Host::new(settings([router(100)]));
    host.take();
    host.handle(Input::Release("VI_1".into()));
    let actions = host.take();
    assert!(matches!(actions[..], [Action::Tell(Event::Notice { .. })]));
    host.handle(Input::Release("nobody".into()));
    assert_eq!(host.take(), []);
}

#[test]
fn without_a_peer_a_leaving_router_lets_go_by_itself() {
    let mut host = active(router_v3(100));
    let left = host.elapsed();
    host.handle(Input::Maintenance(true));
    host.run(ms(20_000));
    let at = |wanted: &str| {
        let found = host
            .actions
            .iter()
            .find(|(_, action)| world::word(action).is_some_and(|word| word == wanted));
        found.unwrap().0
    };
    assert_eq!(at("send 0"), left);
    assert_eq!(at("-10.0.1.60"), left + ms(3000));
    assert_eq!(at("disclaim"), left + ms(5000));
}

#[test]
fn in_maintenance_nothing_becomes_active_and_afterwards_all_begin_as_at_the_start() {
    let mut host = active(router(100));
    host.handle(Input::Maintenance(true));
    host.run(Duration::from_hours(1));
    assert_eq!(host.standing(), Standing::Backup);
    assert_eq!(host.status().faults, ["the box is in maintenance"]);
    assert_eq!(host.next(), None);
    let end = host.elapsed();
    host.handle(Input::Maintenance(false));
    assert_eq!(host.next(), Some(end + Duration::from_micros(3_609_375)));
    host.run(ms(4000));
    assert_eq!(host.standing(), Standing::Active);
}

#[test]
fn a_stop_says_priority_0_first_and_is_complete_when_nothing_is_held() {
    let mut host = active(router(100));
    host.handle(Input::Stop);
    assert_eq!(host.words(), ["send 0", "VI_1 STOP"]);
    assert!(!host.routers.is_idle());
    host.run(ms(500));
    host.hear(PEER, &router(90));
    host.run(ms(999));
    assert!(!host.routers.is_idle());
    host.run(ms(1));
    assert_eq!(host.words(), ["-10.0.1.60", "disclaim"]);
    assert!(host.routers.is_idle());
    assert_eq!(host.next(), None);
}

#[test]
fn a_stop_without_peers_ends_after_five_seconds_and_that_of_a_backup_at_once() {
    let mut host = active(router(100));
    host.handle(Input::Stop);
    host.run(ms(4999));
    assert!(!host.routers.is_idle());
    host.run(ms(1));
    assert!(host.routers.is_idle());

    let mut host = Host::new(settings([router(100)]));
    host.handle(Input::Stop);
    assert!(host.routers.is_idle());
    assert_eq!(host.words(), ["VI_1 BACKUP", "VI_1 STOP"]);
    host.run(ms(10_000));
    assert_eq!(host.take(), []);
}

#[test]
fn a_broken_interface_is_a_fault_and_its_return_a_new_beginning() {
    let no_mac = Interface {
        mac: None,
        ..interface("10.0.1.1")
    };
    let no_address = Interface {
        addresses: vec![
            "10.0.1.60/32".parse().unwrap(),
            "fe80::1/64".parse().unwrap(),
        ],
        ..interface("10.0.1.1")
    };
    for broken in [gone(), down(), no_mac, no_address] {
        let mut host = active(router(100));
        told(&mut host, broken);
        // Nothing can be sent there any more.
        assert_eq!(host.words(), ["-10.0.1.60", "VI_1 FAULT"]);
        assert_eq!(host.status().faults.len(), 1);
        host.run(ms(10_000));
        assert_eq!(host.words(), ["disclaim"]);
        let back = host.elapsed();
        told(&mut host, interface("10.0.1.1"));
        assert_eq!(host.words(), ["VI_1 BACKUP"]);
        assert_eq!(host.next(), Some(back + Duration::from_micros(3_609_375)));
    }
}

#[test]
fn an_interface_that_is_never_told_of_is_absent_after_a_second() {
    let mut host = Host::bare(settings([router(100)]));
    host.run(ms(999));
    assert_eq!(host.standing(), Standing::Initialize);
    host.run(ms(1));
    assert_eq!(host.words(), ["VI_1 FAULT"]);
    assert_eq!(host.status().faults, ["interface eth0 does not exist"]);
}

#[test]
fn a_tracked_thing_of_weight_0_is_a_fault_that_says_priority_0() {
    for tracked in [
        script("a"),
        Tracked::Workers(ms(500)),
        Tracked::Service("web".into()),
    ] {
        let mut host = Host::new(settings([RouterSettings {
            tracked: vec![(tracked.clone(), 0)],
            ..router(100)
        }]));
        host.run(Duration::from_hours(1));
        // Until it is told of, the router waits.
        assert_eq!(host.standing(), Standing::Initialize);
        host.handle(Input::Tracked(tracked.clone(), Report::Up));
        host.run(ms(4000));
        host.take();
        host.handle(Input::Tracked(tracked.clone(), Report::Down));
        assert_eq!(host.words(), ["send 0", "-10.0.1.60", "VI_1 FAULT"]);
        host.handle(Input::Tracked(tracked, Report::Up));
        assert_eq!(host.words(), ["VI_1 BACKUP"]);
    }
}

#[test]
fn weights_change_the_priority_that_is_sent() {
    let eth1 = Tracked::Interface("eth1".into());
    let mut host = Host::new(settings([RouterSettings {
        tracked: vec![
            (eth1, -20),
            (script("a"), 10),
            (Tracked::File("f".into()), 2),
        ],
        ..router(100)
    }]));
    host.handle(Input::Interface("eth1".into(), interface("10.0.2.1")));
    host.handle(Input::Tracked(script("a"), Report::Up));
    host.handle(Input::Tracked(Tracked::File("f".into()), Report::Value(-3)));
    host.run(ms(5000));
    assert_eq!(host.status().effective_priority, 104);
    host.take();
    host.run(ms(500));
    host.handle(Input::Interface("eth1".into(), gone()));
    host.run(Duration::ZERO);
    assert_eq!(host.words(), ["send 84"]);
    host.handle(Input::Tracked(script("a"), Report::Down));
    host.run(ms(10));
    assert_eq!(host.words(), ["send 74"]);
    assert_eq!(host.standing(), Standing::Active);
}

#[test]
fn an_address_that_somebody_removed_is_put_back_and_announced() {
    let mut host = active(router(100));
    let mut with = interface("10.0.1.1");
    with.addresses.push("10.0.1.60/32".parse().unwrap());
    told(&mut host, with.clone());
    assert_eq!(host.take(), []);
    told(&mut host, interface("10.0.1.1"));
    let mut expected = vec!["+10.0.1.60"];
    expected.extend(["announce 10.0.1.60"; 5]);
    assert_eq!(host.words(), expected);
    // A report that is older than the new address does not do it again.
    told(&mut host, interface("10.0.1.1"));
    assert_eq!(host.take(), []);
}

#[test]
fn addresses_that_a_killed_process_left_are_removed_at_the_start() {
    let mut host = Host::bare(settings([router(100)]));
    let mut left = interface("10.0.1.1");
    left.addresses.insert(0, "10.0.1.60/32".parse().unwrap());
    told(&mut host, left);
    assert_eq!(host.words(), ["-10.0.1.60", "VI_1 BACKUP"]);
    host.run(ms(4000));
    assert_eq!(host.sent()[0].1.source, ip("10.0.1.1"));
}

#[test]
fn the_owner_never_takes_away_its_own_address() {
    let mut host = Host::new(settings([RouterSettings {
        addresses: vec![address("10.0.1.1/24"), address("10.0.1.60/32")],
        initial: Initial::Active,
        ..router(255)
    }]));
    host.take();
    host.handle(Input::Maintenance(true));
    host.run(ms(10_000));
    assert_eq!(
        host.words(),
        ["send 0", "VI_1 BACKUP", "-10.0.1.60", "disclaim"]
    );
}

#[test]
fn an_address_that_cannot_be_placed_is_a_fault_and_its_end_a_new_beginning() {
    let mut host = active(router(100));
    let mut placeable = |possible| {
        host.handle(Input::Placeable {
            interface: "eth0".into(),
            address: "10.0.1.60/32".parse().unwrap(),
            possible,
        });
        (host.words(), host.status().faults)
    };
    let (words, faults) = placeable(false);
    assert_eq!(words, ["send 0", "-10.0.1.60", "VI_1 FAULT"]);
    assert_eq!(faults, ["10.0.1.60/32 cannot be put on eth0"]);
    assert_eq!(placeable(true).0, ["VI_1 BACKUP"]);
    placeable(false);
    // Another configuration does not have it.
    let other = RouterSettings {
        addresses: vec![address("10.0.1.61/32")],
        ..router(100)
    };
    host.handle(Input::Reconfigure(settings([other])));
    assert_eq!(host.status().faults, Vec::<String>::new());
    host.handle(Input::Reconfigure(settings([router(100)])));
    assert_eq!(host.status().faults, Vec::<String>::new());
}

#[test]
fn the_owner_keeps_all_it_had_and_takes_away_what_it_added() {
    let mut host = Host::bare(settings([RouterSettings {
        addresses: vec![
            address("10.0.1.1/24"),
            address("10.0.1.5/24"),
            address("10.0.1.60/32"),
        ],
        excluded: vec![address("2001:db8::5/64")],
        initial: Initial::Active,
        ..router(255)
    }]));
    let mut real = interface("10.0.1.1");
    for own in ["10.0.1.5/24", "2001:db8::5/64"] {
        real.addresses.push(own.parse().unwrap());
    }
    let mut with_all = real.clone();
    with_all.addresses.push("10.0.1.60/32".parse().unwrap());
    told(&mut host, real.clone());
    for _ in 0..2 {
        assert_eq!(host.standing(), Standing::Active);
        told(&mut host, with_all.clone());
        host.take();
        host.handle(Input::Maintenance(true));
        // Looked at again before the kernel has shown what is gone.
        host.handle(Input::Tracked(script("other"), Report::Up));
        host.run(ms(10_000));
        assert_eq!(
            host.words(),
            ["send 0", "VI_1 BACKUP", "-10.0.1.60", "disclaim"]
        );
        told(&mut host, real.clone());
        host.handle(Input::Maintenance(false));
    }
}

#[test]
fn who_does_not_accept_refuses_while_it_has_the_addresses() {
    let mut host = Host::new(settings([RouterSettings {
        accept: false,
        ..router(100)
    }]));
    host.take();
    host.run(ms(3700));
    // However long that takes the kernel, the addresses do not wait for it.
    let words = host.words();
    assert_eq!(words[..3], ["send 100", "claim", "+10.0.1.60"]);
    assert_eq!(words[words.len() - 2..], ["refuse", "VI_1 MASTER"]);
    host.hear(PEER, &router(150));
    assert_eq!(host.words(), ["-10.0.1.60", "accept", "VI_1 BACKUP"]);
}

#[test]
fn a_virtual_mac_has_an_interface_of_its_own_from_start_to_end() {
    for (family, name, mac, net) in [
        (
            Family::V4,
            "vrrp.51",
            [0, 0, 0x5e, 0, 1, 51],
            "10.0.1.60/32",
        ),
        (
            Family::V6,
            "vrrp6.51",
            [0, 0, 0x5e, 0, 2, 51],
            "fe80::60/128",
        ),
    ] {
        let mut host = Host::new(settings([RouterSettings {
            virtual_mac: true,
            family,
            addresses: vec![address(net)],
            ..router_v3(100)
        }]));
        let Some((_, Action::MakeInterface(made))) = host.actions.first() else {
            panic!("{:?}", host.actions);
        };
        assert_eq!((&*made.name, &*made.on, made.mac), (name, "eth0", mac));
        host.handle(Input::Interface(name.into(), interface("0.0.0.0")));
        host.run(ms(4000));
        let (_, sent) = &host.sent()[0];
        assert_eq!(&*sent.interface, name);
        let added = host.actions.iter().find_map(|(_, action)| match action {
            Action::AddAddress { interface, .. } => Some(interface.clone()),
            _ => None,
        });
        assert_eq!(&*added.unwrap(), name);
        host.take();
        host.handle(Input::Stop);
        host.run(ms(6000));
        let words = host.words();
        assert_eq!(words[0], "send 0");
        assert_eq!(words.last().unwrap(), &format!("unmake {name}"));
    }
}

#[test]
fn a_claim_says_by_which_virtual_mac() {
    let own = RouterSettings {
        virtual_mac: true,
        ..router(100)
    };
    let mut host = Host::new(settings([
        own,
        RouterSettings {
            name: "VI_2".into(),
            vrid: 52,
            addresses: vec![address("10.0.1.61/32")],
            ..router(100)
        },
    ]));
    host.handle(Input::Interface("vrrp.51".into(), interface("10.0.1.1")));
    host.run(ms(4000));
    let claims = host.take().into_iter().filter_map(|action| match action {
        Action::Claim { own, .. } => Some(own.map(|own| (own.on, own.mac))),
        _ => None,
    });
    let expected = ("eth0".into(), [0, 0, 0x5e, 0, 1, 51]);
    assert_eq!(claims.collect::<Vec<_>>(), [Some(expected), None]);
}

#[test]
fn a_virtual_interface_that_moves_to_another_router_is_not_removed_by_the_one_that_had_it() {
    let with_mac = |name: &str, interface: &str| RouterSettings {
        name: name.into(),
        interface: interface.into(),
        virtual_mac: true,
        ..router(100)
    };
    let mut host = Host::new(settings([with_mac("VI_1", "eth0")]));
    host.handle(Input::Interface("eth1".into(), interface("10.0.2.1")));
    host.handle(Input::Interface("vrrp.51".into(), interface("10.0.1.1")));
    host.run(ms(4000));
    assert_eq!(host.standing(), Standing::Active);
    host.take();
    let moved = settings([with_mac("VI_2", "eth1")]);
    host.handle(Input::Reconfigure(moved));
    let words = host.words();
    let place = |wanted: &str| words.iter().position(|word| word == wanted);
    assert!(place("-10.0.1.60") < place("unmake vrrp.51"), "{words:?}");
    assert!(place("unmake vrrp.51") < place("make vrrp.51"), "{words:?}");
    host.run(ms(20_000));
    assert!(!host.words().contains(&"unmake vrrp.51".to_owned()));
}

#[test]
fn a_virtual_interface_that_somebody_removed_is_a_fault_and_made_again() {
    let mut host = Host::new(settings([RouterSettings {
        virtual_mac: true,
        ..router(100)
    }]));
    host.handle(Input::Interface("vrrp.51".into(), interface("0.0.0.0")));
    host.run(ms(4000));
    host.take();
    host.handle(Input::Interface("vrrp.51".into(), gone()));
    assert_eq!(host.words(), ["make vrrp.51", "-10.0.1.60", "VI_1 FAULT"]);
    host.handle(Input::Interface("vrrp.51".into(), interface("0.0.0.0")));
    assert_eq!(host.words(), ["VI_1 BACKUP"]);
}

// Sync groups.

#[test]
fn a_reload_of_addresses_and_priority_keeps_the_state() {
    let mut host = active(router(100));
    host.handle(Input::Reconfigure(settings([RouterSettings {
        addresses: vec![address("10.0.1.61/32"), address("10.0.1.62/32")],
        priority: 120,
        ..router(100)
    }])));
    host.run(Duration::ZERO);
    let words = host.words();
    let mut expected = vec!["-10.0.1.60", "claim", "+10.0.1.61", "+10.0.1.62"];
    for _ in 0..5 {
        expected.extend(["announce 10.0.1.61", "announce 10.0.1.62"]);
    }
    expected.push("send 120");
    assert_eq!(words, expected);
    assert_eq!(host.standing(), Standing::Active);
}

#[test]
fn a_reload_that_changes_nothing_does_nothing() {
    let mut host = active(router(100));
    let next = host.next();
    host.handle(Input::Reconfigure(settings([router(100)])));
    assert_eq!(host.take(), []);
    assert_eq!(host.next(), next);
}

#[test]
fn a_reload_that_makes_it_another_router_says_priority_0_with_the_old_settings() {
    let v3 = RouterSettings {
        version: Version::V3,
        ..router(100)
    };
    let password = RouterSettings {
        password: Some(vrrp::Password(*b"secret\0\0")),
        ..router(100)
    };
    let vrid = RouterSettings {
        vrid: 77,
        ..router(100)
    };
    for new in [v3, password, vrid] {
        let mut host = active(router(100));
        host.handle(Input::Reconfigure(settings([new.clone()])));
        let (_, sent) = &host.sent()[0];
        assert_eq!(sent.message[..5], [0x21, 51, 0, 1, 0]);
        assert_eq!(host.words(), ["send 0", "-10.0.1.60", "VI_1 BACKUP"]);
        host.hear(PEER, &new);
        host.run(ms(1000));
        assert_eq!(host.words(), ["disclaim"]);
    }
}

#[test]
fn a_reload_that_removes_it_says_priority_0_and_lets_go_as_on_purpose() {
    let mut host = active(router(100));
    host.handle(Input::Reconfigure(Settings::default()));
    assert_eq!(host.words(), ["send 0", "VI_1 DELETED"]);
    host.run(ms(500));
    host.hear(PEER, &router(90));
    assert_eq!(host.words(), ["-10.0.1.60"]);
    host.run(ms(1000));
    assert_eq!(host.words(), ["disclaim"]);
    assert_eq!(host.next(), None);
}

#[test]
fn a_reload_that_renames_a_router_never_takes_the_new_ones_addresses() {
    let mut host = active(router_v3(100));
    let renamed = RouterSettings {
        name: "VI_9".into(),
        advert_interval: Centis(10),
        ..router_v3(100)
    };
    host.handle(Input::Reconfigure(settings([renamed])));
    assert_eq!(
        host.words(),
        ["send 0", "VI_1 DELETED", "-10.0.1.60", "VI_9 BACKUP"]
    );
    host.run(ms(10_000));
    let words = host.words();
    assert!(!words.contains(&"-10.0.1.60".into()));
    assert!(words.contains(&"VI_9 MASTER".into()));
}

#[test]
fn a_tracker_that_a_reload_adds_does_not_end_what_is_active() {
    let mut host = active(router(100));
    let with = RouterSettings {
        tracked: vec![(script("new"), 0)],
        ..router(100)
    };
    host.handle(Input::Reconfigure(settings([with])));
    host.run(ms(3000));
    assert_eq!(host.standing(), Standing::Active);
    host.handle(Input::Tracked(script("new"), Report::Down));
    assert_eq!(host.standing(), Standing::Fault);
}

#[test]
fn what_was_reported_of_a_tracker_is_forgotten_when_a_reload_drops_it() {
    let tracking = || {
        settings([RouterSettings {
            tracked: vec![(script("a"), 0)],
            ..router(100)
        }])
    };
    let mut host = Host::new(tracking());
    host.handle(Input::Tracked(script("a"), Report::Down));
    assert_eq!(host.standing(), Standing::Fault);
    host.handle(Input::Reconfigure(settings([router(100)])));
    host.run(Duration::from_secs(10));
    assert_eq!(host.standing(), Standing::Active);
    host.handle(Input::Reconfigure(tracking()));
    assert_eq!(host.standing(), Standing::Active, "not known yet");
    host.handle(Input::Tracked(script("a"), Report::Up));
    assert_eq!(host.standing(), Standing::Active);
}

#[test]
fn a_refresh_of_announcements_that_a_reload_switches_on_begins_and_off_ends() {
    let refreshing = |every: Option<u64>| {
        let mut own = router(100);
        own.announcing.refresh = every.map(Duration::from_secs);
        settings([own])
    };
    let mut host = Host::new(refreshing(None));
    host.run(Duration::from_mins(1));
    host.take();
    let mut announced = |every, seconds| {
        host.handle(Input::Reconfigure(refreshing(every)));
        host.run(Duration::from_secs(seconds));
        let words = host.words();
        words
            .iter()
            .filter(|word| word.starts_with("announce"))
            .count()
    };
    assert_eq!(announced(Some(10), 35), 3);
    assert_eq!(announced(Some(10), 35), 4, "it is not put off by a reload");
    assert_eq!(announced(Some(20), 35), 1);
    assert_eq!(announced(None, 60), 0);
}

#[test]
fn unicast_goes_to_each_peer_with_the_configured_ttl() {
    let mut host = Host::new(settings([RouterSettings {
        peers: vec![ip("10.0.1.2"), ip("10.0.1.3")],
        unicast_ttl: 64,
        source: Some(ip("10.0.1.7")),
        ..router_v3(100)
    }]));
    host.run(ms(1900));
    let sent = host.sent();
    let to: Vec<_> = sent
        .iter()
        .map(|(_, sent)| (sent.destination, sent.hop_limit, sent.source))
        .collect();
    let expected = ["10.0.1.2", "10.0.1.3"].map(|peer| (ip(peer), 64, ip("10.0.1.7")));
    assert_eq!(to, expected);
    assert_ne!(sent[0].1.message, sent[1].1.message);
}

#[test]
fn unicast_goes_by_the_interface_beneath_a_virtual_mac() {
    let mut host = Host::new(settings([RouterSettings {
        peers: vec![ip(PEER)],
        virtual_mac: true,
        ..router_v3(100)
    }]));
    host.handle(Input::Interface("vrrp.51".into(), interface("0.0.0.0")));
    host.run(ms(1900));
    assert_eq!(&*host.sent()[0].1.interface, "eth0");
}

#[test]
fn a_lower_priority_is_counted_and_noticed_once() {
    let mut host = active(router(100));
    for _ in 0..100 {
        host.hear(PEER, &router(90));
        host.run(ms(100));
    }
    assert_eq!(host.count("lower_priority"), 100);
    let actions = host.take().into_iter();
    let notices: Vec<_> = actions
        .filter_map(|action| match action {
            Action::Tell(Event::Notice { what, .. }) => Some(what),
            _ => None,
        })
        .collect();
    let expected = "10.0.1.2 advertises priority 90, ours is 100: forcing a new election";
    assert_eq!(notices, [expected]);
}
