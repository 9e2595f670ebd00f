//! The nine mistakes another VRRP implementation made, each a test. Where a rule has tests of its own elsewhere, here
//! is the one that would have caught the mistake.

mod world;

use std::time::Duration;
use vrrp::{Centis, Checksum, Input, Packet, RouterSettings, Standing};
use world::{Host, advert, interface, ip, ms, router, router_v3, settings};

const PEER: &str = "10.0.1.2";

#[test]
fn first_intervals_are_seconds_in_version_2_and_centiseconds_in_version_3() {
    for (own, raw, every) in [
        (router(100), [0, 1], ms(1000)),
        (
            RouterSettings {
                advert_interval: Centis(100),
                ..router_v3(100)
            },
            [0, 100],
            ms(1000),
        ),
        (
            RouterSettings {
                advert_interval: Centis(10),
                ..router_v3(100)
            },
            [0, 10],
            ms(100),
        ),
        (
            RouterSettings {
                advert_interval: Centis(300),
                ..router(100)
            },
            [0, 3],
            ms(3000),
        ),
    ] {
        let mut host = Host::new(settings([own]));
        host.run(Duration::from_secs(20));
        let sent = host.sent();
        assert_eq!(sent[0].1.message[4..6], raw);
        assert!(sent.windows(2).all(|pair| pair[1].0 == pair[0].0 + every));
    }
}

#[test]
fn second_the_skew_below_a_second_is_not_lost() {
    // Two routers that lose their Active router at the same time do not act at the same time.
    let next = |priority| {
        let mut host = Host::new(settings([router(priority)]));
        host.hear(PEER, &router(250));
        host.next().unwrap()
    };
    assert_eq!(next(100), Duration::from_micros(3_609_375));
    assert_eq!(next(164), Duration::from_micros(3_359_375));
}

#[test]
fn third_version_3_obeys_other_intervals_and_learns_them() {
    let mut host = Host::new(settings([router_v3(100)]));
    let other = RouterSettings {
        advert_interval: Centis(4095),
        ..router_v3(101)
    };
    host.hear(PEER, &other);
    assert_eq!(host.status().active_advert_interval, ms(40_950));
    host.run(Duration::from_mins(2));
    assert_eq!(host.standing(), Standing::Backup);
}

#[test]
fn fourth_ttl_and_type_are_checked_and_transitions_counted() {
    let mut host = Host::new(settings([router(100)]));
    host.run(ms(4000));
    assert_eq!(host.count("became_active"), 1);
    let mut message = advert(PEER, &router(150));
    host.handle(Input::Packet(Packet {
        interface: "eth0",
        source: ip(PEER),
        destination: ip("224.0.0.18"),
        hop_limit: 254,
        message: &message,
    }));
    message[0] = 0x22;
    host.receive(PEER, &message);
    assert_eq!((host.count("bad_ttl"), host.count("bad_type")), (1, 1));
    assert_eq!(host.standing(), Standing::Active);
    host.hear(PEER, &router(150));
    assert_eq!(host.count("released_active"), 1);
}

#[test]
fn fifth_a_packet_is_handled_once_and_none_reaches_a_panic_before_the_start() {
    let both = [1, 2].map(|vrid| RouterSettings {
        name: format!("VI_{vrid}").into(),
        vrid,
        ..router(100)
    });
    let mut host = Host::bare(settings(both.clone()));
    for own in &both {
        host.hear(PEER, own);
    }
    let status = host.routers.status(host.now);
    for router in status {
        assert_eq!(router.standing, Standing::Initialize);
        assert_eq!(router.counters["adverts_received"], 1);
    }
}

#[test]
fn sixth_an_expiry_after_a_cancel_promotes_nobody() {
    let mut host = Host::new(settings([router(100)]));
    let due = host.routers.next_deadline().unwrap();
    // The driver woke for the deadline; the advertisement was faster.
    host.now = due;
    host.hear(PEER, &router(150));
    host.routers.expire(due);
    host.collect();
    assert_eq!(host.standing(), Standing::Backup);
}

#[test]
fn seventh_identifications_count_from_1_and_wrap() {
    let mut host = Host::new(settings([RouterSettings {
        advert_interval: Centis(1),
        ..router_v3(100)
    }]));
    host.run(Duration::from_mins(11));
    let identifications: Vec<_> = host
        .sent()
        .iter()
        .map(|(_, sent)| sent.identification)
        .collect();
    assert_eq!(identifications[..3], [1, 2, 3]);
    assert_eq!(identifications[65_534..65_537], [65_535, 0, 1]);
}

#[test]
fn eighth_either_checksum_of_version_3_over_ipv4_is_understood_by_either() {
    let with = |checksum| RouterSettings {
        checksum,
        ..router_v3(150)
    };
    let [pseudo, alone] = [Checksum::PseudoHeader, Checksum::MessageOnly].map(with);
    let (pseudo_sent, alone_sent) = (advert(PEER, &pseudo), advert(PEER, &alone));
    assert_ne!(pseudo_sent, alone_sent);
    for own in [pseudo, alone] {
        let mut host = Host::new(settings([RouterSettings {
            priority: 100,
            ..own
        }]));
        host.receive(PEER, &pseudo_sent);
        host.receive(PEER, &alone_sent);
        assert_eq!(host.count("adverts_received"), 2);
    }
}

#[test]
fn ninth_operators_and_scripts_see_the_words_they_know() {
    let words = [
        Standing::Initialize,
        Standing::Active,
        Standing::Backup,
        Standing::Fault,
        Standing::Stop,
        Standing::Deleted,
    ]
    .map(Standing::word);
    assert_eq!(
        words,
        ["INIT", "MASTER", "BACKUP", "FAULT", "STOP", "DELETED"]
    );
}

/// Two boxes as recorded: keepalived 2.2.7 at 10.0.1.100 with priority 90 for VRID 51 (version 2, PASS) and 52
/// (version 3). We are the other one, 10.0.1.1, with 150 and 100. Times are of the recording; its bytes come in.
#[test]
fn the_recorded_conversation_with_keepalived_goes_as_recorded() {
    let bytes = |hex: &str| -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        let pairs = digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]);
        pairs.map(|byte| u8::try_from(byte).unwrap()).collect()
    };
    let v2 = RouterSettings {
        password: Some(vrrp::Password(*b"abcd1234")),
        addresses: vec![
            world::address("10.0.1.60/24"),
            world::address("10.0.1.61/24"),
        ],
        ..router(150)
    };
    let v3 = RouterSettings {
        name: "VI_2".into(),
        vrid: 52,
        addresses: vec![world::address("10.0.1.62/24")],
        ..router_v3(100)
    };
    let theirs_v2 = bytes("21335a02 01014423 0a00013c 0a00013d 61626364 31323334");
    let theirs_v3 = bytes("31345a01 00327d67 0a00013e");
    let mut host = Host::bare(settings([v2, v3]));
    // The second half of the minute 01:49, from when we were started at 41.43.
    host.handle(Input::Interface("eth0".into(), interface("10.0.1.1")));
    let zero = 41_430;
    for (at, is_v2) in [
        (41_472, false),
        (41_973, false),
        (42_367, true),
        (42_485, false),
        (42_989, false),
        (43_368, true),
        (44_369, true),
    ] {
        host.run_until(ms(at - zero));
        let message = if is_v2 { &theirs_v2 } else { &theirs_v3 };
        host.receive("10.0.1.100", message);
    }
    host.run_until(ms(44_900 - zero));
    // Recorded: version 3 spoke at 43.27, version 2 at 44.87.
    let first = |vrid: u8| {
        let sent = host.sent();
        let (at, sent) = sent
            .into_iter()
            .find(|(_, sent)| sent.message[1] == vrid)
            .unwrap();
        (at, sent.message)
    };
    let (at, message) = first(52);
    assert_eq!(message, bytes("31346401 003273ca 0a00013e"));
    assert_eq!(at, Duration::from_nanos(1_804_687_500)); // 43.23
    let (at, message) = first(51);
    let expected = "21339602 01010823 0a00013c 0a00013d 61626364 31323334";
    assert_eq!(message, bytes(expected));
    assert_eq!(at, Duration::from_nanos(3_414_062_500)); // 44.84
    for status in host.routers.status(host.now) {
        let bad = status
            .counters
            .iter()
            .filter(|(name, _)| name.starts_with("bad"));
        assert!(bad.map(|(_, count)| count).all(|count| *count == 0));
    }
    // And priority 0 as recorded at the end.
    host.actions.clear();
    host.handle(Input::Stop);
    let sent: Vec<_> = host
        .sent()
        .into_iter()
        .map(|(_, sent)| sent.message)
        .collect();
    assert_eq!(
        sent,
        [
            bytes("21330002 01019e23 0a00013c 0a00013d 61626364 31323334"),
            bytes("31340001 0032d7ca 0a00013e"),
        ]
    );
}
