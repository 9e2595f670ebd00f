//! Sync groups: Active together or not at all (behaviour notes 8.5), and reloads that change them.

mod world;

use std::time::Duration;
use vrrp::{Initial, Input, Interface, Report, RouterSettings, Settings, Standing, Tracked};
use world::{Host, address, group, interface, ms, router};

const PEER: &str = "10.0.1.2";

fn gone() -> Interface {
    Interface {
        index: 0,
        up: false,
        mac: None,
        addresses: vec![],
    }
}

fn script(name: &str) -> Tracked {
    Tracked::Script(name.into())
}

fn pair(priority: u8) -> Settings {
    let second = RouterSettings {
        name: "VI_2".into(),
        interface: "eth1".into(),
        vrid: 52,
        addresses: vec![address("10.0.2.60/32")],
        tracked: vec![(script("a"), -50)],
        ..router(priority)
    };
    Settings {
        routers: vec![router(priority), second],
        groups: vec![group(&["VI_1", "VI_2"])],
    }
}

fn pair_host() -> Host {
    let mut host = Host::new(pair(100));
    host.handle(Input::Interface("eth1".into(), interface("10.0.2.1")));
    host.handle(Input::Tracked(script("a"), Report::Down));
    host
}

fn peer_of_second(priority: u8) -> RouterSettings {
    RouterSettings {
        priority,
        ..pair(100).routers[1].clone()
    }
}

fn standings(host: &Host) -> Vec<Standing> {
    let all = host.routers.status(host.now);
    all.iter().map(|status| status.standing).collect()
}

#[test]
fn a_group_becomes_active_when_all_its_members_may() {
    let mut host = pair_host();
    host.run(ms(2000));
    host.hear("10.0.2.2", &peer_of_second(150));
    host.take();
    // The first one's wait ends at 3.6 s, the second one's at 5.6 s.
    host.run_until(ms(5600));
    assert_eq!(standings(&host), [Standing::Backup, Standing::Backup]);
    assert_eq!(host.take(), []);
    host.run_until(ms(5700));
    assert_eq!(standings(&host), [Standing::Active, Standing::Active]);
    let told: Vec<_> = host.words();
    let masters: Vec<_> = told
        .iter()
        .filter(|word| word.ends_with("MASTER"))
        .collect();
    assert_eq!(masters, ["VI_2 MASTER", "VI_1 MASTER", "VG MASTER"]);
    // Weights of members do not count.
    assert_eq!(host.routers.status(host.now)[1].effective_priority, 100);
}

#[test]
fn a_member_that_falls_back_takes_its_group_with_it() {
    let mut host = pair_host();
    host.run(ms(5000));
    host.take();
    host.hear(PEER, &router(150));
    assert_eq!(
        host.words(),
        [
            "-10.0.1.60",
            "VI_1 BACKUP",
            "send 0",
            "VI_2 BACKUP",
            "VG BACKUP"
        ]
    );
    host.hear("10.0.2.2", &peer_of_second(150));
    assert_eq!(host.words(), ["-10.0.2.60"]);
}

#[test]
fn a_fault_of_one_is_a_fault_of_all() {
    let mut host = pair_host();
    host.run(ms(5000));
    host.take();
    host.handle(Input::Interface("eth1".into(), gone()));
    let words = host.words();
    assert_eq!(standings(&host), [Standing::Fault, Standing::Fault]);
    assert_eq!(words[..3], ["send 0", "-10.0.1.60", "VI_1 FAULT"]);
    assert_eq!(words.last().unwrap(), "VG FAULT");
    let status = host.routers.status(host.now);
    assert_eq!(
        status[0].faults,
        ["VI_2 of the same group cannot take part"]
    );
    host.handle(Input::Interface("eth1".into(), interface("10.0.2.1")));
    assert_eq!(standings(&host), [Standing::Backup, Standing::Backup]);
}

/// An Active router, and a reload that makes a group of it and a second.
fn joined(second: RouterSettings) -> Host {
    let alone = pair(100).routers.remove(0);
    let mut host = Host::new(Settings {
        routers: vec![alone.clone()],
        groups: vec![group(&["VI_1"])],
    });
    host.handle(Input::Interface("eth1".into(), interface("10.0.2.1")));
    host.handle(Input::Tracked(script("a"), Report::Up));
    host.run(Duration::from_secs(10));
    host.take();
    host.handle(Input::Reconfigure(Settings {
        routers: vec![alone, second],
        groups: vec![group(&["VI_1", "VI_2"])],
    }));
    host
}

#[test]
fn a_member_that_joins_an_active_group_waits_and_the_group_stays_active() {
    let mut host = joined(pair(100).routers.remove(1));
    assert_eq!(standings(&host), [Standing::Active, Standing::Backup]);
    host.run(Duration::from_secs(10));
    assert_eq!(standings(&host), [Standing::Active, Standing::Active]);
    let changes: Vec<_> = host
        .words()
        .into_iter()
        .filter(|word| word.starts_with('V'))
        .collect();
    assert_eq!(changes, ["VI_2 BACKUP", "VI_2 MASTER"], "nobody else moved");
}

#[test]
fn a_member_that_joins_an_active_group_takes_it_to_the_better_router_it_hears() {
    let mut host = joined(pair(100).routers.remove(1));
    // Not worth to be followed.
    host.hear(PEER, &peer_of_second(90));
    assert_eq!(standings(&host), [Standing::Active, Standing::Backup]);
    host.hear(PEER, &peer_of_second(200));
    assert_eq!(standings(&host), [Standing::Backup, Standing::Backup]);
    let words = host.words();
    assert!(words.contains(&"VI_1 BACKUP".to_owned()), "{words:?}");
}

#[test]
fn a_member_that_joins_an_active_group_and_cannot_take_part_takes_it_down() {
    let mut second = pair(100).routers.remove(1);
    second.interface = "eth9".into();
    let mut host = joined(second);
    assert_eq!(
        standings(&host)[0],
        Standing::Active,
        "nothing is known yet"
    );
    host.run(ms(1500));
    assert_eq!(standings(&host), [Standing::Fault, Standing::Fault]);
}

#[test]
fn a_release_releases_the_group() {
    let mut host = pair_host();
    host.run(ms(5000));
    host.take();
    host.handle(Input::Release("VI_2".into()));
    assert_eq!(
        host.words(),
        [
            "send 0",
            "VI_2 BACKUP",
            "send 0",
            "VI_1 BACKUP",
            "VG BACKUP"
        ]
    );
    host.run(ms(8000));
    assert_eq!(standings(&host), [Standing::Active, Standing::Active]);
}

#[test]
fn a_group_of_owners_is_active_when_the_last_of_them_may_be() {
    let mut both = pair(255);
    for router in &mut both.routers {
        router.initial = Initial::Active;
        router.tracked = vec![];
    }
    let mut host = Host::bare(both);
    for name in ["eth0", "eth1"] {
        host.handle(Input::Interface(name.into(), interface("10.0.1.1")));
    }
    assert_eq!(standings(&host), [Standing::Active, Standing::Active]);
    let told: Vec<_> = host.transitions().into_iter().map(|(_, to)| to).collect();
    // The first had to wait for the second, and said so; then all were Active.
    assert_eq!(told[told.len() - 3..], [Standing::Active; 3]);
}

// Reloads.
