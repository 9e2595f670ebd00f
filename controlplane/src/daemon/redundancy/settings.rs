//! From the configuration's words to those of the virtual routers. The configuration has been
//! checked, so that nothing here can be out of range.

use crate::config::{
    AuthType, CheckAddresses, Config, InitialState, Route, VirtualAddress, VrrpChecksum, VrrpConfig,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use vrrp::{
    AddressCheck, Announcing, Centis, Checksum, Family, GroupSettings, Initial, Name, Password,
    RouterSettings, Settings, Tracked, Version,
};

/// What the virtual routers of this configuration are to be.
pub(super) fn settings(config: &Config) -> Settings {
    let has_workers = !config.ports.is_empty();
    Settings {
        routers: config
            .vrrp
            .iter()
            .map(|section| router(section, has_workers))
            .collect(),
        groups: config
            .vrrp_groups
            .iter()
            .map(|section| GroupSettings {
                name: name(&section.name),
                members: section.members.iter().map(|member| name(member)).collect(),
            })
            .collect(),
    }
}

/// How long a worker may stall, for each router that minds; each once.
pub(super) fn stalls(config: &Config) -> BTreeSet<Duration> {
    let routers = config.vrrp.iter().filter(|section| section.track_workers);
    routers.map(|section| section.worker_stall).collect()
}

/// Every address of every virtual router.
pub(super) fn addresses(config: &Config) -> impl Iterator<Item = IpAddr> {
    config.vrrp.iter().flat_map(|section| {
        let all = section.addresses.iter().chain(&section.excluded_addresses);
        all.map(|address| address.net.addr())
    })
}

fn name(text: &str) -> Name {
    Name::from(text)
}

fn family(section: &VrrpConfig) -> Family {
    let first = section.addresses.first();
    if first.is_some_and(|address| address.net.addr().is_ipv6()) {
        Family::V6
    } else {
        Family::V4
    }
}

fn router(section: &VrrpConfig, has_workers: bool) -> RouterSettings {
    RouterSettings {
        name: name(&section.name),
        interface: name(&section.interface),
        family: family(section),
        version: match section.version {
            2 => Version::V2,
            _ => Version::V3,
        },
        initial: match section.state {
            InitialState::Master => Initial::Active,
            InitialState::Backup => Initial::Backup,
        },
        vrid: section.virtual_router_id,
        priority: section.priority,
        advert_interval: centis(section.advert_interval),
        down_timer_adverts: section.down_timer_adverts,
        password: (section.auth_type == AuthType::Pass).then(|| {
            let pass = section.auth_pass.as_ref().map_or("", |pass| pass.reveal());
            let mut padded = [0; 8];
            for (to, from) in padded.iter_mut().zip(pass.bytes()) {
                *to = from;
            }
            Password(padded)
        }),
        addresses: section.addresses.iter().map(address).collect(),
        excluded: section.excluded_addresses.iter().map(address).collect(),
        routes: section
            .routes
            .iter()
            .map(|own| route(own, section))
            .collect(),
        // The owner of the addresses must have them (RFC 9568, 6.1), and who is to begin as MASTER
        // wants to be (behaviour notes 7.3).
        preempt: section.preempt
            || section.state == InitialState::Master
            || section.priority == 255,
        preempt_delay: section.preempt_delay,
        accept: section.accept,
        source: section.source,
        peers: section.unicast_peers.clone(),
        unicast_ttl: section.unicast_ttl,
        virtual_mac: section.virtual_mac,
        announcing: Announcing {
            delay: section.garp_delay,
            repeat: section.garp_repeat,
            refresh: section.garp_refresh,
        },
        address_check: match section.check_addresses {
            CheckAddresses::Drop => AddressCheck::Drop,
            // `ignore` is refused by the check.
            CheckAddresses::Warn | CheckAddresses::Ignore => AddressCheck::Warn,
        },
        checksum: match section.checksum {
            VrrpChecksum::PseudoHeader => Checksum::PseudoHeader,
            VrrpChecksum::Rfc9568 => Checksum::MessageOnly,
        },
        tracked: tracked(section, has_workers),
    }
}

fn tracked(section: &VrrpConfig, has_workers: bool) -> Vec<(Tracked, i32)> {
    fn of(
        list: &[(String, i32)],
        kind: fn(Name) -> Tracked,
    ) -> impl Iterator<Item = (Tracked, i32)> {
        list.iter()
            .map(move |(text, weight)| (kind(name(text)), *weight))
    }
    let workers = (section.track_workers && has_workers)
        .then_some((Tracked::Workers(section.worker_stall), 0));
    of(&section.track_interfaces, Tracked::Interface)
        .chain(of(&section.track_scripts, Tracked::Script))
        .chain(of(&section.track_services, Tracked::Service))
        .chain(of(&section.track_files, Tracked::File))
        .chain(workers)
        .collect()
}

fn address(address: &VirtualAddress) -> vrrp::VirtualAddress {
    vrrp::VirtualAddress {
        net: address.net,
        interface: address.interface.as_deref().map(name),
    }
}

fn route(route: &Route, section: &VrrpConfig) -> vrrp::VirtualRoute {
    // Each link has link-local addresses of its own.
    let is_of_link = matches!(route.gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
    vrrp::VirtualRoute {
        destination: route.destination,
        gateway: route.gateway,
        interface: is_of_link.then(|| name(&section.interface)),
    }
}

fn centis(duration: Duration) -> Centis {
    Centis(u16::try_from(duration.as_millis() / 10).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, LoadOptions};

    fn load(text: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.ini");
        std::fs::write(&path, text).unwrap();
        config::load(&LoadOptions::new(&path)).unwrap().config
    }

    #[test]
    fn every_key_reaches_the_virtual_routers() {
        let config = load(
            "[vrrp a]\ninterface = eth0\nvirtual_router_id = 51\npriority = 101\nstate = MASTER\nadvert_interval = 2s\n\
             down_timer_adverts = 4\nauth_type = PASS\nauth_pass = sesame\naddresses = 10.0.0.50/24, 10.0.0.51@eth1\n\
             excluded_addresses = 2001:db8::50\nroutes = 10.9.0.0/16 via 10.0.0.254, ::/0 via fe80::1\n\
             preempt_delay = 3s\naccept = no\nsource = 10.0.0.2\n\
             unicast_peers = 10.0.0.3\nunicast_ttl = 200\ngarp_delay = 1s\ngarp_repeat = 2\ngarp_refresh = 60s\n\
             track_interfaces = eth2:-20\ntrack_scripts = s\ntrack_files = f:3\ncheck_addresses = drop\n\
             [track_script s]\ncommand = true\nweight = 5\n[track_file f]\nfile = /f\n\
             [vrrp b]\ninterface = eth0\nvirtual_router_id = 51\naddresses = fe80::50\nadvert_interval = 100ms\n\
             virtual_mac = yes\npreempt = no\nchecksum = rfc9568\n\
             [vrrp_group g]\nmembers = a, b\n",
        );
        let settings = settings(&config);
        let at = |net: &str, interface: Option<&str>| vrrp::VirtualAddress {
            net: net.parse().unwrap(),
            interface: interface.map(name),
        };
        let a = RouterSettings {
            name: name("a"),
            interface: name("eth0"),
            family: Family::V4,
            version: Version::V2,
            initial: Initial::Active,
            vrid: 51,
            priority: 101,
            advert_interval: Centis(200),
            down_timer_adverts: 4,
            password: Some(Password(*b"sesame\0\0")),
            addresses: vec![at("10.0.0.50/24", None), at("10.0.0.51/32", Some("eth1"))],
            excluded: vec![at("2001:db8::50/128", None)],
            routes: vec![
                vrrp::VirtualRoute {
                    destination: "10.9.0.0/16".parse().unwrap(),
                    gateway: [10, 0, 0, 254].into(),
                    interface: None,
                },
                vrrp::VirtualRoute {
                    destination: "::/0".parse().unwrap(),
                    gateway: "fe80::1".parse().unwrap(),
                    interface: Some(name("eth0")),
                },
            ],
            preempt: true,
            preempt_delay: Duration::from_secs(3),
            accept: false,
            source: Some([10, 0, 0, 2].into()),
            peers: vec![[10, 0, 0, 3].into()],
            unicast_ttl: 200,
            virtual_mac: false,
            announcing: Announcing {
                delay: Duration::from_secs(1),
                repeat: 2,
                refresh: Some(Duration::from_mins(1)),
            },
            address_check: AddressCheck::Drop,
            checksum: Checksum::PseudoHeader,
            tracked: vec![
                (Tracked::Interface(name("eth2")), -20),
                (Tracked::Script(name("s")), 5),
                (Tracked::File(name("f")), 3),
            ],
        };
        assert_eq!(settings.routers[0], a);
        let b = &settings.routers[1];
        assert_eq!(
            (b.family, b.version, b.advert_interval, b.checksum),
            (Family::V6, Version::V3, Centis(10), Checksum::MessageOnly)
        );
        assert!(!b.preempt && b.virtual_mac && b.accept);
        assert_eq!(settings.groups[0].members, [name("a"), name("b")]);
        assert_eq!(addresses(&config).count(), 4);
    }

    #[test]
    fn who_begins_as_master_or_owns_the_addresses_always_preempts() {
        let preempts = |more: &str| {
            let router =
                "[vrrp a]\ninterface = eth0\nvirtual_router_id = 51\naddresses = 10.0.0.50\n";
            let config = load(&format!("{router}preempt = no\n{more}"));
            settings(&config).routers[0].preempt
        };
        assert!(!preempts("priority = 254\n"));
        assert!(preempts("state = MASTER\npriority = 100\n"));
        assert!(preempts("priority = 255\n"));
    }

    #[test]
    fn workers_are_tracked_where_there_are_any() {
        let text = "[vrrp a]\ninterface = eth0\nvirtual_router_id = 51\naddresses = 10.0.0.50\n";
        let port = "[port lan]\ndevice = net_tap0\n";
        let tracked = |text: &str| settings(&load(text)).routers.remove(0).tracked;
        assert_eq!(tracked(text), []);
        let workers = |stall| [(Tracked::Workers(Duration::from_millis(stall)), 0)];
        assert_eq!(tracked(&format!("{port}{text}")), workers(500));
        assert_eq!(
            tracked(&format!("{port}{text}worker_stall = 20s\n")),
            workers(20_000)
        );
        assert_eq!(tracked(&format!("{port}{text}track_workers = no\n")), []);
    }
}
