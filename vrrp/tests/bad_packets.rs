//! What is wrong with a packet is counted by its reason and told once; it never resets a timer nor changes a state
//! (behaviour notes 8.7). Bytes from the wire cannot reach a panic.

mod world;

use proptest::prelude::*;
use std::net::IpAddr;
use std::time::Duration;
use vrrp::{
    Action, AddressCheck, Centis, Event, Family, Input, Packet, RouterSettings, Standing, Version,
};
use world::{Host, address, advert, ip, ms, router, router_v3, settings};

const PEER: &str = "10.0.1.2";
const GROUP: &str = "224.0.0.18";

fn with_password(password: [u8; 8]) -> RouterSettings {
    RouterSettings {
        password: Some(vrrp::Password(password)),
        ..router(150)
    }
}

struct Case {
    own: RouterSettings,
    message: Vec<u8>,
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    reason: &'static str,
}

fn case(own: RouterSettings, message: Vec<u8>, reason: &'static str) -> Case {
    Case {
        own,
        message,
        source: ip(PEER),
        destination: ip(GROUP),
        hop_limit: 255,
        reason,
    }
}

fn cases() -> Vec<Case> {
    let good = advert(PEER, &router(150));
    let own = || router(100);
    let changed = |at: usize, to: u8| {
        let mut message = good.clone();
        message[at] = to;
        message
    };
    let unicast = || RouterSettings {
        peers: vec![ip(PEER)],
        ..own()
    };
    let secret = with_password(*b"abcd1234");
    let strict = RouterSettings {
        address_check: AddressCheck::Drop,
        ..own()
    };
    let two = RouterSettings {
        addresses: vec![address("10.0.1.60/32"), address("10.0.1.61/32")],
        ..router(150)
    };
    let other = RouterSettings {
        addresses: vec![address("10.0.1.61/32")],
        ..router(150)
    };
    let slow = RouterSettings {
        advert_interval: Centis(200),
        ..router(150)
    };
    let never = RouterSettings {
        advert_interval: Centis(0),
        ..router_v3(150)
    };
    let mut never = {
        // Nobody sends that, so it is made from another: the checksum covers what it takes from the interval.
        let mut message = advert(
            PEER,
            &RouterSettings {
                advert_interval: Centis(50),
                ..never
            },
        );
        message[5] = 0;
        let sum = u32::from(u16::from_be_bytes([message[6], message[7]])) + 50;
        let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        message[6..8].copy_from_slice(&sum.to_be_bytes());
        message
    };
    never.extend([0; 20]);
    vec![
        Case {
            hop_limit: 254,
            ..case(own(), good.clone(), "bad_ttl")
        },
        Case {
            source: ip("10.0.1.1"),
            ..case(own(), good.clone(), "from_self")
        },
        Case {
            destination: ip("10.0.1.1"),
            ..case(own(), good.clone(), "bad_destination")
        },
        case(unicast(), good.clone(), "bad_destination"),
        case(own(), good[..19].to_vec(), "bad_length"),
        case(own(), good[..2].to_vec(), "bad_length"),
        case(own(), changed(3, 9), "bad_length"),
        case(own(), changed(0, 0x31), "bad_version"),
        case(own(), changed(0, 0x41), "bad_version"),
        case(own(), changed(0, 0x22), "bad_type"),
        case(own(), changed(2, 151), "bad_checksum"),
        case(own(), changed(7, !good[7]), "bad_checksum"),
        case(own(), advert(PEER, &secret), "bad_auth_type"),
        case(secret.clone(), good.clone(), "bad_auth_type"),
        case(own(), changed(4, 2), "bad_auth_type"),
        case(
            secret,
            advert(PEER, &with_password(*b"abcd1235")),
            "bad_password",
        ),
        case(own(), advert(PEER, &slow), "bad_interval"),
        case(router_v3(100), never, "bad_interval"),
        case(strict.clone(), advert(PEER, &two), "other_addresses"),
        case(strict, advert(PEER, &other), "other_addresses"),
    ]
}

#[test]
fn every_bad_packet_is_counted_by_its_reason_told_once_and_changes_nothing() {
    for (number, case) in cases().into_iter().enumerate() {
        for is_active in [false, true] {
            let mut host = Host::new(settings([case.own.clone()]));
            host.run(if is_active { ms(9700) } else { ms(500) });
            let (next, standing) = (host.next(), host.standing());
            host.take();
            for _ in 0..100 {
                host.handle(Input::Packet(Packet {
                    interface: "eth0",
                    source: case.source,
                    destination: case.destination,
                    hop_limit: case.hop_limit,
                    message: &case.message,
                }));
            }
            assert_eq!(host.count(case.reason), 100, "{number} {}", case.reason);
            assert_eq!(host.count("adverts_received"), 0, "{number}");
            assert_eq!((host.next(), host.standing()), (next, standing), "{number}");
            let actions = host.take();
            assert!(
                matches!(actions[..], [Action::Tell(Event::Complaint { .. })]),
                "{number} {actions:?}"
            );
        }
    }
}

#[test]
fn another_address_list_is_told_and_obeyed_unless_it_is_to_be_dropped() {
    let mut host = Host::new(settings([router(100)]));
    host.take();
    let two = RouterSettings {
        addresses: vec![address("10.0.1.61/32"), address("10.0.1.60/32")],
        ..router(150)
    };
    host.hear_until(PEER, &two, ms(1000), ms(20_000));
    assert_eq!(host.standing(), Standing::Backup);
    assert_eq!(host.count("other_addresses"), 21);
    assert_eq!(host.take().len(), 1);
}

#[test]
fn the_order_of_addresses_does_not_matter() {
    let list = |addresses: [&str; 2]| RouterSettings {
        addresses: addresses.map(address).to_vec(),
        address_check: AddressCheck::Drop,
        ..router(100)
    };
    let mut host = Host::new(settings([list(["10.0.1.60/32", "10.0.1.61/24"])]));
    host.hear(PEER, &list(["10.0.1.61/32", "10.0.1.60/32"]));
    assert_eq!(host.count("adverts_received"), 1);
    assert_eq!(host.count("other_addresses"), 0);
}

#[test]
fn ethernet_padding_is_no_fault() {
    let mut host = Host::new(settings([router(100)]));
    let mut message = advert(PEER, &router(150));
    message.extend([0; 6]);
    host.receive(PEER, &message);
    assert_eq!(host.count("adverts_received"), 1);
}

#[test]
fn the_interval_of_version_3_may_differ_and_that_is_told_once() {
    let mut host = Host::new(settings([router_v3(100)]));
    host.take();
    let slow = RouterSettings {
        advert_interval: Centis(100),
        ..router_v3(150)
    };
    host.hear_until(PEER, &slow, ms(1000), ms(9000));
    assert_eq!(host.standing(), Standing::Backup);
    assert_eq!(host.count("other_interval"), 10);
    assert_eq!(host.take().len(), 1);
}

#[test]
fn unicast_needs_no_ttl_of_255_and_no_known_peer() {
    let mut host = Host::new(settings([RouterSettings {
        peers: vec![ip("10.0.1.9")],
        ..router(100)
    }]));
    host.handle(Input::Packet(Packet {
        interface: "eth0",
        source: ip(PEER),
        destination: ip("10.0.1.1"),
        hop_limit: 64,
        message: &advert(PEER, &router(150)),
    }));
    assert_eq!(host.count("adverts_received"), 1);
}

#[test]
fn a_hundred_thousand_bad_packets_cost_a_counter_each() {
    let mut host = Host::new(settings((1..=255).map(|vrid| RouterSettings {
        name: format!("VI_{vrid}").into(),
        vrid,
        ..router(100)
    })));
    host.take();
    let mut message = advert(PEER, &router(150));
    message[7] ^= 1;
    for number in 0..100_000_u32 {
        // From ever other sources and for every router.
        message[1] = (number % 256) as u8;
        let source: IpAddr = (0x0a01_0000 + number).to_be_bytes().into();
        host.routers.handle(
            Input::Packet(Packet {
                interface: "eth0",
                source,
                destination: ip(GROUP),
                hop_limit: 1,
                message: &message,
            }),
            host.now,
        );
    }
    host.collect();
    assert_eq!(host.take().len(), 255);
    assert_eq!(host.routers.counters()["unknown_vrid"], 391);
}

#[test]
fn what_has_no_vrid_is_counted_for_the_box() {
    let mut host = Host::new(settings([router(100)]));
    for message in [&[][..], &[0x21]] {
        host.receive(PEER, message);
    }
    assert_eq!(host.routers.counters()["no_vrid"], 2);
}

fn any_router() -> impl Strategy<Value = RouterSettings> {
    (
        any::<bool>(),
        any::<bool>(),
        1..=255_u8,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(is_v6, is_v3, priority, preempt, has_password)| RouterSettings {
                family: if is_v6 { Family::V6 } else { Family::V4 },
                version: if is_v6 || is_v3 {
                    Version::V3
                } else {
                    Version::V2
                },
                preempt,
                password: (has_password && !is_v6 && !is_v3)
                    .then_some(vrrp::Password(*b"abcd1234")),
                addresses: vec![address(if is_v6 {
                    "fe80::53/128"
                } else {
                    "10.0.1.60/32"
                })],
                ..router(priority)
            },
        )
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        own in any_router(),
        messages in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..80), 0..5000_u64, any::<bool>()), 1..40),
    ) {
        let is_v6 = own.family == Family::V6;
        let mut host = Host::new(settings([own]));
        for (mut message, pause, aimed) in messages {
            if aimed && message.len() > 8 {
                message[0] = if message[0] & 1 == 0 { 0x21 } else { 0x31 };
                message[1] = 51;
                message[3] &= 3;
            }
            host.receive(if is_v6 { "fe80::9" } else { PEER }, &message);
            host.run(ms(pause));
        }
    }

    /// Any mixture of right advertisements leaves the machine in order: it has a deadline, and in silence it
    /// becomes Active.
    #[test]
    fn after_any_conversation_silence_makes_it_active(
        own in any_router(),
        heard in prop::collection::vec((0..=255_u8, 0..3000_u64), 1..20),
    ) {
        let source = if own.family == Family::V6 { "fe80::9" } else { PEER };
        let messages: Vec<_> = heard
            .iter()
            .map(|&(priority, _)| advert(source, &RouterSettings { priority, ..own.clone() }))
            .collect();
        let mut host = Host::new(settings([own]));
        for (message, (_, pause)) in messages.iter().zip(&heard) {
            host.receive(source, message);
            host.run(ms(*pause));
            prop_assert!(host.next().is_some());
        }
        host.run(Duration::from_secs(5));
        prop_assert_eq!(host.standing(), Standing::Active);
    }
}
