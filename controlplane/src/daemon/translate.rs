//! From the configuration's words to the dataplane's.

use crate::config::{self, Config};
use crate::tables::{Desired, DesiredServer, DesiredService};
use dataplane::address::Protocol;
use dataplane::connection::{TcpTable, Timeouts};
use dataplane::scheduler::SchedulerKind;
use dataplane::service::{Forward, IpvsSettings, NoServer, Orphans, Serve, ServiceKey, Transit};
use dataplane::worker::Idle;
use std::net::{IpAddr, SocketAddr};

/// What the tables shall be for `config`. The configuration has been checked, so that everything
/// in it can be built; what cannot is left out by the check, not here.
pub(super) fn desired(config: &Config) -> Desired {
    let services = config
        .virtual_servers
        .iter()
        .flat_map(|section| {
            section
                .addresses
                .iter()
                .map(move |at| service(config, section, *at))
        })
        .collect();
    Desired {
        services,
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
    let mut vips: Vec<IpAddr> = Vec::new();
    for section in &config.virtual_servers {
        if section.serve != config::Serve::Auto || section.announce.is_some() {
            continue;
        }
        for address in &section.addresses {
            if !vips.contains(&address.ip()) {
                vips.push(address.ip());
            }
        }
    }
    vips
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

fn service(
    config: &Config,
    section: &config::VirtualServerConfig,
    address: SocketAddr,
) -> DesiredService {
    let key = ServiceKey {
        protocol: match section.protocol {
            config::Protocol::Tcp => Protocol::Tcp,
            config::Protocol::Udp => Protocol::Udp,
            config::Protocol::Sctp => Protocol::Sctp,
        },
        address: address.ip(),
        port: address.port(),
    };
    let servers = section
        .real_servers
        .iter()
        .map(|server| {
            let endpoint = server.endpoint(address);
            DesiredServer {
                name: server.name.as_str().into(),
                address: endpoint.ip(),
                port: endpoint.port(),
                weight: u32::from(server.weight),
                forward: match server.forward {
                    config::Forward::Nat => Forward::Nat,
                    // Tunnels and FullNAT are refused by the check until they are built.
                    config::Forward::Dr | config::Forward::Tunnel | config::Forward::FullNat => {
                        Forward::Dr
                    }
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
        serve: match section.serve {
            config::Serve::Auto => Serve::WhileLocal,
            config::Serve::Always => Serve::Always,
        },
        no_server: match section.no_server {
            config::NoServer::Unreachable => NoServer::Unreachable,
            config::NoServer::Drop => NoServer::Drop,
        },
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

fn ipvs(section: &config::IpvsConfig) -> IpvsSettings {
    IpvsSettings {
        conn_reuse_mode: section.conn_reuse_mode,
        expire_nodest_conn: section.expire_nodest_conn == Some(true),
        sloppy_tcp: section.sloppy_tcp,
        table: if section.secure_tcp == 3 {
            TcpTable::Secure
        } else {
            TcpTable::Normal
        },
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
    ];
    for (key, value) in values {
        let milliseconds = u32::try_from(value.as_millis()).unwrap_or(u32::MAX);
        let known = timeouts.set(key, milliseconds);
        debug_assert!(known, "the dataplane does not know the timeout {key}");
    }
    timeouts
}
