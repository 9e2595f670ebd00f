//! From the configuration's words to the dataplane's.

use crate::config::{self, Config};
use crate::tables::{Desired, DesiredServer, DesiredService};
use dataplane::address::{Family, Protocol};
use dataplane::connection::Timeouts;
use dataplane::defence::{Defences, Mode};
use dataplane::scheduler::{SchedulerFlags, SchedulerKind};
use dataplane::service::{
    Engine, Forward, IpvsSettings, MarkRule, NoServer, Orphans, Persistence, Serve, ServiceKey,
    Transit, Tunnel, TunnelKind,
};
use dataplane::worker::Idle;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

/// What the tables shall be for `config`. The configuration has been checked, so that everything
/// in it can be built; what cannot is left out by the check, not here.
pub(super) fn desired(config: &Config) -> Desired {
    let services = config
        .virtual_servers
        .iter()
        .flat_map(|section| {
            let endpoints = section.endpoints().into_iter();
            endpoints.map(move |at| service(config, section, at))
        })
        .collect();
    Desired {
        services,
        marks: config.marks.iter().map(mark).collect(),
        timeouts: timeouts(&config.timeouts),
        ipvs: ipvs(&config.ipvs),
        transit: match config.global.transit {
            config::Transit::Kernel => Transit::Kernel,
            config::Transit::Fast => Transit::Fast,
            config::Transit::Drop => Transit::Drop,
        },
    }
}

/// The VIPs that this box should carry itself, in file order: those no other feature owns.
pub(super) fn vips(config: &Config) -> Vec<IpAddr> {
    let routers = config.vrrp.iter();
    let moving: HashSet<IpAddr> = routers
        .flat_map(|router| router.addresses.iter().chain(&router.excluded_addresses))
        .map(|address| address.net.addr())
        .collect();
    let mut vips: Vec<IpAddr> = Vec::new();
    for section in &config.virtual_servers {
        if section.serve != config::Serve::Auto || section.announce.is_some() {
            continue;
        }
        for vip in config.vips(section) {
            if !vips.contains(&vip) && !moving.contains(&vip) {
                vips.push(vip);
            }
        }
    }
    vips
}

/// What becomes of connections of servers that leave a service which is not in the file.
pub(super) fn orphans(config: &Config) -> Orphans {
    match config.ipvs.expire_nodest_conn {
        Some(true) => Orphans::Reschedule,
        Some(false) => Orphans::Silent,
        None => Orphans::Keep,
    }
}

/// What workers do without packets.
pub(super) fn idle(word: config::Idle) -> Idle {
    match word {
        config::Idle::Busy => Idle::Busy,
        config::Idle::Adaptive => Idle::Adaptive,
    }
}

/// The scheduler with the configuration's name.
pub(super) fn scheduler(name: config::Scheduler) -> SchedulerKind {
    name.name()
        .parse()
        .expect("the words of the configuration are the names of the schedulers")
}

/// The flags of a section; they have been checked to be its scheduler's.
pub(super) fn scheduler_flags(section: &config::VirtualServerConfig) -> SchedulerFlags {
    let kind = scheduler(section.scheduler);
    let flags = section.scheduler_flags.iter();
    flags.fold(SchedulerFlags::NONE, |flags, name| {
        let flag = SchedulerFlags::named(name, kind);
        flags.union(flag.expect("the words of the configuration are names of flags"))
    })
}

fn service(
    config: &Config,
    section: &config::VirtualServerConfig,
    address: SocketAddr,
) -> DesiredService {
    let key = match section.fwmark {
        None => ServiceKey::new(protocol(section.protocol), address.ip(), address.port()),
        Some(mark) => ServiceKey::of_mark(Family::of(address.ip()), mark),
    };
    let servers = section
        .real_servers
        .iter()
        .filter(|server| server.serves(address))
        .map(|server| {
            let endpoint = server.endpoint(address);
            DesiredServer {
                name: server.name.as_str().into(),
                address: endpoint.ip(),
                port: endpoint.port(),
                weight: u32::from(server.weight),
                forward: match server.forward {
                    config::Forward::Nat => Forward::Nat,
                    config::Forward::Tunnel => Forward::Tunnel(tunnel(server)),
                    // FullNAT is refused by the check until it is built.
                    config::Forward::Dr | config::Forward::FullNat => Forward::Dr,
                },
                upper_threshold: server.upper_threshold,
                lower_threshold: server.lower_threshold,
            }
        })
        .collect();
    DesiredService {
        key,
        name: section.name.as_str().into(),
        scheduler: scheduler(section.scheduler),
        scheduler_flags: scheduler_flags(section),
        serve: match section.serve {
            config::Serve::Auto => Serve::WhileLocal,
            config::Serve::Always => Serve::Always,
        },
        no_server: match section.no_server {
            config::NoServer::Unreachable => NoServer::Unreachable,
            config::NoServer::Drop => NoServer::Drop,
        },
        persistence: section.persistence.map(|timeout| Persistence {
            netmask: section.persistence_netmask.of(address.ip()),
            engine: section.persistence_engine.as_ref().map(|_| Engine::Sip),
            ..Persistence::new(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX))
        }),
        one_packet: section.one_packet,
        on_real_removed: match config.ipvs.expire_nodest_conn {
            // Given explicitly, the kernel's switch wins.
            Some(true) => Orphans::Reschedule,
            Some(false) => Orphans::Silent,
            None => match section.on_real_removed {
                config::Established::Keep => Orphans::Keep,
                config::Established::Expire => Orphans::Expire,
                config::Established::Reset => Orphans::Reset,
            },
        },
        servers,
    }
}

/// The encapsulation of a tunnelled server; ipip without a checksum unless it says otherwise.
fn tunnel(server: &config::RealServerConfig) -> Tunnel {
    let (kind, port) = match &server.tunnel {
        Some((kind, port)) => (kind.as_str(), *port),
        None => ("ipip", None),
    };
    let kind = match (kind, port) {
        ("gre", _) => TunnelKind::Gre,
        ("gue", Some(port)) => TunnelKind::Gue(port),
        _ => TunnelKind::Ipip,
    };
    Tunnel {
        kind,
        checksum: server.tunnel_checksum.as_deref() == Some("csum"),
    }
}

fn mark(section: &config::MarkConfig) -> MarkRule {
    MarkRule {
        mark: section.mark,
        addresses: section.addresses.clone(),
        ports: section.ports.clone(),
        protocol: section.protocol.map(protocol),
        source: section.source,
        family: section.family.map(|family| match family {
            config::Family::Ipv4 => Family::V4,
            config::Family::Ipv6 => Family::V6,
        }),
    }
}

fn protocol(word: config::Protocol) -> Protocol {
    match word {
        config::Protocol::Tcp => Protocol::Tcp,
        config::Protocol::Udp => Protocol::Udp,
        config::Protocol::Sctp => Protocol::Sctp,
    }
}

fn ipvs(section: &config::IpvsConfig) -> IpvsSettings {
    IpvsSettings {
        conn_reuse_mode: section.conn_reuse_mode,
        expire_nodest_conn: section.expire_nodest_conn == Some(true),
        expire_quiescent_template: section.expire_quiescent_template,
        sloppy_tcp: section.sloppy_tcp,
        sloppy_sctp: section.sloppy_sctp,
        nat_icmp_send: section.nat_icmp_send,
        schedule_icmp: section.schedule_icmp,
        cache_bypass: section.cache_bypass,
        defences: Defences {
            drop_entry: Mode::of(section.drop_entry),
            drop_packet: Mode::of(section.drop_packet),
            secure_tcp: Mode::of(section.secure_tcp),
            amemthresh: section.amemthresh,
            am_droprate: section.am_droprate,
        },
        pmtu_disc: section.pmtu_disc,
    }
}

fn timeouts(section: &config::TimeoutsConfig) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let values = [
        ("tcp", section.tcp_established),
        ("tcp_fin", section.tcp_fin_wait),
        ("udp", section.udp),
        ("tcp_none", section.tcp_none),
        ("tcp_syn_sent", section.tcp_syn_sent),
        ("tcp_syn_recv", section.tcp_syn_recv),
        ("tcp_time_wait", section.tcp_time_wait),
        ("tcp_close", section.tcp_close),
        ("tcp_close_wait", section.tcp_close_wait),
        ("tcp_last_ack", section.tcp_last_ack),
        ("tcp_listen", section.tcp_listen),
        ("tcp_synack", section.tcp_synack),
        ("sctp_none", section.sctp_none),
        ("sctp_init1", section.sctp_init1),
        ("sctp_init", section.sctp_init),
        ("sctp_cookie_sent", section.sctp_cookie_sent),
        ("sctp_cookie_replied", section.sctp_cookie_replied),
        ("sctp_cookie_wait", section.sctp_cookie_wait),
        ("sctp_cookie", section.sctp_cookie),
        ("sctp_cookie_echoed", section.sctp_cookie_echoed),
        ("sctp_established", section.sctp_established),
        ("sctp_shutdown_sent", section.sctp_shutdown_sent),
        ("sctp_shutdown_received", section.sctp_shutdown_received),
        ("sctp_shutdown_ack_sent", section.sctp_shutdown_ack_sent),
        ("sctp_rejected", section.sctp_rejected),
        ("sctp_closed", section.sctp_closed),
    ];
    for (key, value) in values {
        let milliseconds = u32::try_from(value.as_millis()).unwrap_or(u32::MAX);
        let known = timeouts.set(key, milliseconds);
        debug_assert!(known, "the dataplane does not know the timeout {key}");
    }
    timeouts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.ini");
        std::fs::write(&path, format!("[port lan]\ndevice = net_tap0\n{text}")).unwrap();
        let loaded = config::load(&config::LoadOptions::new(&path)).unwrap();
        loaded.config
    }

    #[test]
    fn vips_of_virtual_routers_are_put_nowhere_else() {
        let web = "[virtual_server web]\naddresses = 10.0.0.50:80, 10.0.0.51:80, 10.0.0.52:80\n\
                   [real_server web/a]\naddress = 10.0.0.11\n";
        let of = |text: &str| vips(&load(text));
        let all = [50, 51, 52].map(|host| IpAddr::from([10, 0, 0, host]));
        assert_eq!(of(web), all);
        let router = "[vrrp a]\ninterface = lan\nvirtual_router_id = 1\naddresses = 10.0.0.50/24\n\
                      excluded_addresses = 10.0.0.52\n";
        assert_eq!(of(&format!("{router}{web}")), [all[1]]);
    }

    #[test]
    fn every_timeout_of_the_data_plane_is_a_key_and_has_the_same_default() {
        assert_eq!(timeouts(&load("").timeouts), Timeouts::default());
        for (seconds, key) in (1000..).zip(Timeouts::KEYS) {
            let config = load(&format!("[timeouts]\n{key} = {seconds}\n"));
            let mut expected = Timeouts::default();
            assert!(expected.set(key, seconds * 1000));
            assert_eq!(timeouts(&config.timeouts), expected, "{key}");
        }
    }

    #[test]
    fn the_settings_of_ipvs_reach_the_data_plane() {
        assert_eq!(ipvs(&load("").ipvs), IpvsSettings::default());
        let settings = ipvs(
            &load(
                "[ipvs]\ndrop_entry = 3\ndrop_packet = 1\nsecure_tcp = 2\namemthresh = 7\nam_droprate = 5\n\
                 sloppy_sctp = yes\nnat_icmp_send = yes\nschedule_icmp = yes\ncache_bypass = yes\n",
            )
            .ipvs,
        );
        let defences = Defences {
            drop_entry: Mode::Always,
            drop_packet: Mode::Auto,
            secure_tcp: Mode::Auto,
            amemthresh: 7,
            am_droprate: 5,
        };
        let expected = IpvsSettings {
            sloppy_sctp: true,
            nat_icmp_send: true,
            schedule_icmp: true,
            cache_bypass: true,
            defences,
            ..IpvsSettings::default()
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn in_a_list_of_both_families_each_service_has_the_servers_of_its_own() {
        let text = "[port lan]\ndevice = net_tap0\n\
             [virtual_server web]\naddresses = 10.0.0.50:80, [2001:db8::50]:80, 10.0.0.51:80\n\
             [real_server web/a]\naddress = 10.0.0.11\n\
             [real_server web/b]\naddress = 2001:db8::11\n\
             [real_server web/c]\naddress = 10.0.0.12:8080\nforward = nat\n";
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.ini");
        std::fs::write(&path, text).unwrap();
        let loaded = config::load(&config::LoadOptions::new(&path)).unwrap();
        assert_eq!(loaded.warnings, []);
        let desired = desired(&loaded.config);
        let listed: Vec<_> = desired
            .services
            .iter()
            .map(|service| {
                let servers = service.servers.iter();
                let servers = servers.map(|s| SocketAddr::new(s.address, s.port).to_string());
                (
                    service.key.shown_address().to_string(),
                    servers.collect::<Vec<_>>(),
                )
            })
            .collect();
        let v4 = ["10.0.0.11:80", "10.0.0.12:8080"]
            .map(str::to_owned)
            .to_vec();
        let v6 = vec!["[2001:db8::11]:80".to_owned()];
        assert_eq!(
            listed,
            [
                ("10.0.0.50".to_owned(), v4.clone()),
                ("2001:db8::50".to_owned(), v6),
                ("10.0.0.51".to_owned(), v4),
            ]
        );
    }

    #[test]
    fn every_scheduler_of_the_file_and_its_flags_get_through() {
        for kind in SchedulerKind::ALL {
            if kind == SchedulerKind::None {
                continue;
            }
            let flags = match kind {
                SchedulerKind::Sh => "scheduler_flags = sh-port\n",
                SchedulerKind::Mh => "scheduler_flags = mh-fallback, mh-port\n",
                _ => "",
            };
            let text = format!(
                "[port lan]\ndevice = net_tap0\n[virtual_server web]\naddresses = 10.0.0.50:80\n\
                 scheduler = {kind}\n{flags}[real_server web/a]\naddress = 10.0.0.11\n"
            );
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("t.ini");
            std::fs::write(&path, text).unwrap();
            let loaded = config::load(&config::LoadOptions::new(&path)).unwrap();
            assert_eq!(loaded.warnings, []);
            let service = desired(&loaded.config).services.remove(0);
            assert_eq!(service.scheduler, kind);
            let listed = match kind {
                SchedulerKind::Sh => "(sh-port)",
                SchedulerKind::Mh => "(mh-fallback,mh-port)",
                _ => "",
            };
            assert_eq!(service.scheduler_flags.listed(kind).to_string(), listed);
        }
    }

    #[test]
    fn the_check_knows_how_many_servers_mh_takes() {
        let most = SchedulerKind::Mh.most_servers();
        assert_eq!(most, Some(config::MOST_SERVERS_OF_MH));
    }
}
