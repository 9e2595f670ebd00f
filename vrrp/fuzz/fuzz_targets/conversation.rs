//! Any bytes as a conversation: packets, operators, trackers and time, with three routers of which two are a group.
//!
//! A step is a byte that says what, a byte that says how long before it (units of 20 ms), a byte of length and as many
//! bytes of packet. Whatever happens, after a stop everything is let go within five seconds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use vrrp::{
    Action, AddressCheck, Announcing, Centis, Checksum, Family, GroupSettings, Initial, Input,
    Interface, Packet, Report, RouterSettings, Routers, Settings, Tracked, Version, VirtualAddress,
};

fuzz_target!(|input: &[u8]| {
    let mut now = Instant::now();
    let mut routers = Routers::new(settings(), now);
    interfaces(&mut routers, true, now);
    let mut rest = input;
    while let &[what, pause, length, ref tail @ ..] = rest {
        let (message, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        now += Duration::from_millis(20) * u32::from(pause);
        match what % 16 {
            0 => routers.handle(Input::Maintenance(what & 16 == 0), now),
            1 => routers.handle(Input::Release("a".into()), now),
            2 => {
                let report = [Report::Up, Report::Down, Report::Value(i32::from(length))];
                let report = report[usize::from(what >> 4) % 3];
                routers.handle(Input::Tracked(Tracked::Script("s".into()), report), now);
            }
            3 => interfaces(&mut routers, what & 16 == 0, now),
            4 => routers.handle(Input::Reconfigure(settings()), now),
            5 => routers.handle(Input::Reconfigure(Settings::default()), now),
            6 => routers.handle(Input::Claimed("b".into()), now),
            7 => routers.expire(now),
            _ => {
                let is_v6 = what & 16 != 0;
                let source: [IpAddr; 2] =
                    [[10, 0, 1, 2].into(), [0xfe80, 0, 0, 0, 0, 0, 0, 9].into()];
                let group: [IpAddr; 2] = [
                    [224, 0, 0, 18].into(),
                    [0xff02, 0, 0, 0, 0, 0, 0, 18].into(),
                ];
                routers.handle(
                    Input::Packet(Packet {
                        interface: "eth0",
                        source: source[usize::from(is_v6)],
                        destination: group[usize::from(is_v6)],
                        hop_limit: 255,
                        message,
                    }),
                    now,
                );
            }
        }
        drain(&mut routers);
    }
    routers.handle(Input::Stop, now);
    let end = now + Duration::from_secs(5);
    drain(&mut routers);
    while let Some(next) = routers.next_deadline() {
        assert!(next <= end);
        now = now.max(next);
        routers.expire(now);
        drain(&mut routers);
    }
    assert!(routers.is_idle());
});

fn drain(routers: &mut Routers) {
    while let Some(action) = routers.next_action() {
        if let Action::Send(sent) = action {
            assert!(sent.message.len() >= 12);
        }
    }
}

fn interfaces(routers: &mut Routers, up: bool, now: Instant) {
    let interface = Interface {
        index: 2,
        up,
        mac: Some([2, 0, 0, 0, 0, 1]),
        addresses: vec![
            "10.0.1.1/24".parse().unwrap(),
            "fe80::1/64".parse().unwrap(),
        ],
    };
    routers.handle(Input::Interface("eth0".into(), interface), now);
}

fn settings() -> Settings {
    let router = |name: &str, vrid, version, family, address: &str| RouterSettings {
        name: name.into(),
        interface: "eth0".into(),
        family,
        version,
        initial: Initial::Backup,
        vrid,
        priority: 100,
        advert_interval: Centis(100),
        down_timer_adverts: 3,
        password: None,
        addresses: vec![VirtualAddress {
            net: address.parse().unwrap(),
            interface: None,
        }],
        excluded: vec![],
        routes: vec![],
        preempt: vrid != 2,
        preempt_delay: Duration::from_secs(u64::from(vrid == 3) * 2),
        accept: vrid != 1,
        source: None,
        peers: vec![],
        unicast_ttl: 255,
        virtual_mac: false,
        announcing: Announcing {
            delay: Duration::from_secs(5),
            repeat: 1,
            refresh: Some(Duration::from_secs(7)),
        },
        address_check: AddressCheck::Warn,
        checksum: Checksum::PseudoHeader,
        tracked: vec![(Tracked::Script("s".into()), i32::from(vrid) - 2)],
    };
    Settings {
        routers: vec![
            router("a", 1, Version::V2, Family::V4, "10.0.1.61/32"),
            router("b", 2, Version::V3, Family::V4, "10.0.1.62/32"),
            router("c", 3, Version::V3, Family::V6, "fe80::63/128"),
        ],
        groups: vec![GroupSettings {
            name: "g".into(),
            members: vec!["a".into(), "b".into()],
        }],
    }
}
