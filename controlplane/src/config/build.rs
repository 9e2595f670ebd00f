//! From the effective table to the typed model. Runs only when nothing is wrong, so what is missing here is optional.

use std::path::PathBuf;
use std::time::Duration;

use super::effective::{EffectiveTable, FromValue, Section, Size};
use super::location::Place;
use super::model::{
    Config, DEFAULT_SCRIPT_USER, GlobalConfig, IpvsConfig, MarkConfig, NeighborConfig, PortConfig,
    RealServerConfig, TimeoutsConfig, VirtualServerConfig, VlanConfig,
};
use super::{monitoring, redundancy};

/// The model of a table that has passed all checks; nothing if it has not.
pub(crate) fn config(table: &EffectiveTable) -> Option<Config> {
    let single = |kind| table.find(kind, "");
    let ports: Vec<_> = table.of("port").map(port).collect();
    let mut reals = table.real_servers();
    Some(Config {
        global: global(single("global")?)?,
        timeouts: timeouts(single("timeouts")?)?,
        ipvs: ipvs(single("ipvs")?)?,
        neighbors: table
            .of("neighbor")
            .filter_map(|section| neighbor(section, &ports))
            .collect(),
        virtual_servers: table
            .of("virtual_server")
            .map(|section| {
                service(
                    section,
                    reals.remove(section.name.as_str()).unwrap_or_default(),
                )
            })
            .collect(),
        ports,
        vlans: table.of("vlan").filter_map(vlan).collect(),
        marks: table.of("mark").filter_map(mark).collect(),
        checks: table
            .of("check")
            .filter_map(|section| monitoring::check(section, table))
            .collect(),
        bfd: table.of("bfd").filter_map(monitoring::bfd).collect(),
        track_files: table
            .of("track_file")
            .filter_map(monitoring::track_file)
            .collect(),
        track_scripts: table
            .of("track_script")
            .filter_map(monitoring::track_script)
            .collect(),
        vrrp: table
            .of("vrrp")
            .filter_map(|section| redundancy::vrrp(section, table))
            .collect(),
        vrrp_groups: table
            .of("vrrp_group")
            .filter_map(redundancy::vrrp_group)
            .collect(),
        sync: single("sync").and_then(redundancy::sync),
    })
}

fn global(section: &Section) -> Option<GlobalConfig> {
    Some(GlobalConfig {
        router_id: section.get("router_id")?,
        control_core: section.get("control_core")?,
        worker_cores: section.get("worker_cores"),
        idle: or_default(section, "idle"),
        hugepages: section.get("hugepages"),
        memory: section.get::<Size>("memory").map(|size| size.0),
        connections: section.get("connections")?,
        eal_args: section.get("eal_args").unwrap_or_default(),
        transit: or_default(section, "transit"),
        admin_socket: section.get::<String>("admin_socket")?.into(),
        admin_group: section.get("admin_group")?,
        monitor_group: section.get("monitor_group")?,
        http_listen: section.get("http_listen"),
        http_token_file: path(section, "http_token_file"),
        http_tls_cert: path(section, "http_tls_cert"),
        http_tls_key: path(section, "http_tls_key"),
        log: section.get("log")?,
        script_user: section
            .get("script_user")
            .unwrap_or_else(|| DEFAULT_SCRIPT_USER.to_owned()),
        notification_email: section.get("notification_email").unwrap_or_default(),
        notification_email_from: section.get("notification_email_from"),
        smtp_server: section.get("smtp_server"),
        smtp_connect_timeout: section
            .get("smtp_connect_timeout")
            .unwrap_or(Duration::from_secs(30)),
        smtp_helo_name: section.get("smtp_helo_name"),
        alerts: section.get("alerts"),
        place: Place(section.origin.clone()),
    })
}

fn timeouts(section: &Section) -> Option<TimeoutsConfig> {
    Some(TimeoutsConfig {
        tcp_established: section.get("tcp")?,
        tcp_fin_wait: section.get("tcp_fin")?,
        udp: section.get("udp")?,
        tcp_none: section.get("tcp_none")?,
        tcp_syn_sent: section.get("tcp_syn_sent")?,
        tcp_syn_recv: section.get("tcp_syn_recv")?,
        tcp_time_wait: section.get("tcp_time_wait")?,
        tcp_close: section.get("tcp_close")?,
        tcp_close_wait: section.get("tcp_close_wait")?,
        tcp_last_ack: section.get("tcp_last_ack")?,
        tcp_listen: section.get("tcp_listen")?,
        tcp_synack: section.get("tcp_synack")?,
        sctp_none: section.get("sctp_none")?,
        sctp_init1: section.get("sctp_init1")?,
        sctp_init: section.get("sctp_init")?,
        sctp_cookie_sent: section.get("sctp_cookie_sent")?,
        sctp_cookie_replied: section.get("sctp_cookie_replied")?,
        sctp_cookie_wait: section.get("sctp_cookie_wait")?,
        sctp_cookie: section.get("sctp_cookie")?,
        sctp_cookie_echoed: section.get("sctp_cookie_echoed")?,
        sctp_established: section.get("sctp_established")?,
        sctp_shutdown_sent: section.get("sctp_shutdown_sent")?,
        sctp_shutdown_received: section.get("sctp_shutdown_received")?,
        sctp_shutdown_ack_sent: section.get("sctp_shutdown_ack_sent")?,
        sctp_rejected: section.get("sctp_rejected")?,
        sctp_closed: section.get("sctp_closed")?,
    })
}

fn ipvs(section: &Section) -> Option<IpvsConfig> {
    Some(IpvsConfig {
        conn_reuse_mode: section.get("conn_reuse_mode")?,
        expire_nodest_conn: section.get("expire_nodest_conn"),
        sloppy_tcp: section.get("sloppy_tcp")?,
        expire_quiescent_template: section.get("expire_quiescent_template")?,
        drop_entry: section.get("drop_entry")?,
        drop_packet: section.get("drop_packet")?,
        secure_tcp: section.get("secure_tcp")?,
        amemthresh: section.get("amemthresh")?,
        am_droprate: section.get("am_droprate")?,
        sloppy_sctp: section.get("sloppy_sctp")?,
        pmtu_disc: section.get("pmtu_disc")?,
        nat_icmp_send: section.get("nat_icmp_send")?,
        schedule_icmp: section.get("schedule_icmp")?,
        backup_only: section.get("backup_only")?,
        cache_bypass: section.get("cache_bypass")?,
    })
}

fn port(section: &Section) -> PortConfig {
    PortConfig {
        name: section.name.clone(),
        devices: section.all("device"),
        addresses: section.get("addresses").unwrap_or_default(),
        gateways: section.get("gateway").unwrap_or_default(),
        routes: section.get("routes").unwrap_or_default(),
        mtu: section.get("mtu").unwrap_or(1500),
        kernel_interface: section.get("kernel_interface"),
        rx_queues: section.get("rx_queues"),
        local_addresses: section.get("local_addresses").unwrap_or_default(),
        place: Place(section.origin.clone()),
    }
}

fn vlan(section: &Section) -> Option<VlanConfig> {
    Some(VlanConfig {
        name: section.name.clone(),
        port: section.get("port")?,
        id: section.get("id")?,
        addresses: section.get("addresses").unwrap_or_default(),
        gateways: section.get("gateway").unwrap_or_default(),
        routes: section.get("routes").unwrap_or_default(),
        mtu: section.get("mtu")?,
        place: Place(section.origin.clone()),
    })
}

fn mark(section: &Section) -> Option<MarkConfig> {
    Some(MarkConfig {
        name: section.name.clone(),
        mark: section.get("mark")?,
        addresses: section.get("addresses").unwrap_or_default(),
        ports: section.get("ports").unwrap_or_default(),
        protocol: section.get("protocol"),
        source: section.get("source"),
        family: section.get("family"),
        place: Place(section.origin.clone()),
    })
}

fn neighbor(section: &Section, ports: &[PortConfig]) -> Option<NeighborConfig> {
    let address = section.name.parse().ok()?;
    let by_subnet = || {
        let port = ports
            .iter()
            .find(|port| port.addresses.iter().any(|own| own.contains(address)));
        port.map(|port| port.name.clone())
    };
    Some(NeighborConfig {
        address,
        port: section.get("on").or_else(by_subnet)?,
        mac: section.get("mac")?,
        place: Place(section.origin.clone()),
    })
}

fn service(section: &Section, reals: Vec<&Section>) -> VirtualServerConfig {
    VirtualServerConfig {
        name: section.name.clone(),
        addresses: section.get("addresses").unwrap_or_default(),
        fwmark: section.get("fwmark"),
        family: or_default(section, "family"),
        protocol: or_default(section, "protocol"),
        scheduler: or_default(section, "scheduler"),
        scheduler_flags: section.get("scheduler_flags").unwrap_or_default(),
        forward: or_default(section, "forward"),
        persistence: section.get("persistence"),
        persistence_netmask: section.get("persistence_netmask").unwrap_or_default(),
        persistence_engine: section
            .get::<&'static str>("persistence_engine")
            .map(str::to_owned),
        one_packet: or_default(section, "one_packet"),
        serve: or_default(section, "serve"),
        announce: section.get("announce"),
        checks: section.get("checks").unwrap_or_default(),
        quorum: section.get("quorum").unwrap_or(1),
        hysteresis: or_default(section, "hysteresis"),
        quorum_up: section.get("quorum_up"),
        quorum_down: section.get("quorum_down"),
        sorry_server: section.get("sorry_server"),
        sorry_server_forward: section.get("sorry_server_forward"),
        sorry_server_inhibit: or_default(section, "sorry_server_inhibit"),
        alpha: or_default(section, "alpha"),
        omega: or_default(section, "omega"),
        slow_start: section.get("slow_start"),
        flap_hold: section.get("flap_hold"),
        passive: or_default(section, "passive"),
        allow: section.get("allow").unwrap_or_default(),
        deny: section.get("deny").unwrap_or_default(),
        max_connections: section.get("max_connections"),
        new_per_second: section.get("new_per_second"),
        per_source_new_per_second: section.get("per_source_new_per_second"),
        inhibit_on_failure: or_default(section, "inhibit_on_failure"),
        on_real_down: or_default(section, "on_real_down"),
        on_real_removed: or_default(section, "on_real_removed"),
        client_address: or_default(section, "client_address"),
        no_server: or_default(section, "no_server"),
        real_servers: reals
            .into_iter()
            .filter_map(|real| real_server(real, real.name.split_once('/')?.1))
            .collect(),
        place: Place(section.origin.clone()),
    }
}

fn real_server(section: &Section, name: &str) -> Option<RealServerConfig> {
    let (address, port) = section.get("address")?;
    Some(RealServerConfig {
        name: name.to_owned(),
        address,
        port,
        weight: section.get("weight")?,
        forward: or_default(section, "forward"),
        lower_threshold: or_default(section, "lower_threshold"),
        upper_threshold: or_default(section, "upper_threshold"),
        tunnel: section
            .get::<(&'static str, _)>("tunnel")
            .map(|(kind, port)| (kind.to_owned(), port)),
        tunnel_checksum: section
            .get::<&'static str>("tunnel_checksum")
            .map(str::to_owned),
        checks: section.get("checks"),
        check_address: section.get("check_address"),
        check_port: section.get("check_port"),
        check_digest: section.get("check_digest"),
        inhibit_on_failure: section.get("inhibit_on_failure"),
        notify_up: section.get("notify_up"),
        notify_down: section.get("notify_down"),
        place: Place(section.origin.clone()),
    })
}

fn path(section: &Section, key: &str) -> Option<PathBuf> {
    section.get::<String>(key).map(PathBuf::from)
}

fn or_default<T: FromValue + Default>(section: &Section, key: &str) -> T {
    section.get(key).unwrap_or_default()
}
