//! The box itself: `[global]`, `[timeouts]`, `[ipvs]`, `[port NAME]`, `[vlan NAME]`, `[neighbor ADDRESS]`.

use super::super::model::DEFAULT_SCRIPT_USER;
use super::super::value::Type;
use super::super::words::{Idle, Transit};
use super::{Default, Key, Kind, Naming, key};

const DAY: u64 = 86_400_000;
const HOUR: u64 = 3_600_000;
/// The kernel's and ipvsadm's limit of a timeout.
const LONGEST: u64 = 31 * DAY;
const MB: u64 = 1 << 20;
/// `sun_path` less its terminating zero.
const SOCKET_PATH: usize = 107;

pub(super) static GLOBAL: Kind = Kind {
    name: "global",
    naming: Naming::Single,
    built: true,
    environment: true,
    keys: &[
        key("config_version", Type::Integer(1, 1)).default("1"),
        key("router_id", Type::Text).fallback(Default::HostName),
        key("control_core", Type::Integer(0, 1023))
            .default("0")
            .restart(),
        key("worker_cores", Type::Cores).default("auto").restart(),
        key("idle", Type::Choice(Idle::WORDS)).default("adaptive"),
        key("hugepages", Type::FlagOrAuto).default("auto").restart(),
        key("memory", Type::SizeOrAuto(16 * MB))
            .default("auto")
            .restart(),
        key("connections", Type::Integer(1, 1_000_000_000))
            .default("1000000")
            .restart(),
        key("eal_args", Type::Words).default("").restart(),
        key("transit", Type::Choice(Transit::WORDS)).default("kernel"),
        key("admin_socket", Type::Path(SOCKET_PATH))
            .default("/run/sluice/admin.sock")
            .restart(),
        key("admin_group", Type::Text).default("sluice").restart(),
        key("monitor_group", Type::Text)
            .default("sluice-monitor")
            .restart(),
        // Becomes 127.0.0.1:9380 with the HTTP server.
        key("http_listen", Type::Listen)
            .default("off")
            .only(&["off"]),
        key("http_token_file", Type::Path(usize::MAX)).later(),
        key("http_tls_cert", Type::Path(usize::MAX)).later(),
        key("http_tls_key", Type::Path(usize::MAX)).later(),
        key("log", Type::LogFilter).default("info"),
        key("script_user", Type::Text).default(DEFAULT_SCRIPT_USER),
        key("notification_email", Type::Texts),
        key("notification_email_from", Type::Text),
        key("smtp_server", Type::Text),
        key("smtp_connect_timeout", Type::Duration(1, HOUR, 1)).default("30s"),
        key("smtp_helo_name", Type::Text),
        key(
            "alerts",
            Type::Choices(&["real", "service", "vrrp", "system"]),
        ),
    ],
};

const fn timeout(name: &'static str, default: &'static str) -> Key {
    key(name, Type::Duration(1000, LONGEST, 1000)).default(default)
}

pub(super) static TIMEOUTS: Kind = Kind {
    name: "timeouts",
    naming: Naming::Single,
    built: true,
    environment: true,
    keys: &[
        timeout("tcp", "900"),
        timeout("tcp_fin", "120"),
        timeout("udp", "300"),
        timeout("tcp_none", "2"),
        timeout("tcp_syn_sent", "120"),
        timeout("tcp_syn_recv", "60"),
        timeout("tcp_time_wait", "120"),
        timeout("tcp_close", "10"),
        timeout("tcp_close_wait", "60"),
        timeout("tcp_last_ack", "30"),
        timeout("tcp_listen", "120"),
        timeout("tcp_synack", "120"),
        timeout("sctp_none", "2"),
        timeout("sctp_init1", "4"),
        timeout("sctp_init", "61"),
        timeout("sctp_cookie_sent", "61"),
        timeout("sctp_cookie_replied", "61"),
        timeout("sctp_cookie_wait", "61"),
        timeout("sctp_cookie", "61"),
        timeout("sctp_cookie_echoed", "61"),
        timeout("sctp_established", "900"),
        timeout("sctp_shutdown_sent", "61"),
        timeout("sctp_shutdown_received", "61"),
        timeout("sctp_shutdown_ack_sent", "61"),
        timeout("sctp_rejected", "4"),
        timeout("sctp_closed", "61"),
    ],
};

pub(super) static IPVS: Kind = Kind {
    name: "ipvs",
    naming: Naming::Single,
    built: true,
    environment: true,
    keys: &[
        key("conn_reuse_mode", Type::Integer(0, 3)).default("1"),
        // Without default: only a value given explicitly wins over on_real_removed.
        key("expire_nodest_conn", Type::Flag),
        key("sloppy_tcp", Type::Flag).default("no"),
        key("expire_quiescent_template", Type::Flag).default("no"),
        key("drop_entry", Type::Integer(0, 3)).default("0"),
        key("drop_packet", Type::Integer(0, 3)).default("0"),
        key("secure_tcp", Type::Integer(0, 3)).default("0"),
        key("amemthresh", Type::Integer(0, i32::MAX as i64)).default("1024"),
        key("am_droprate", Type::Integer(0, i32::MAX as i64)).default("10"),
        key("sloppy_sctp", Type::Flag).default("no"),
        key("pmtu_disc", Type::Flag).default("yes"),
        key("nat_icmp_send", Type::Flag).default("no"),
        key("schedule_icmp", Type::Flag).default("no"),
        key("backup_only", Type::Flag).default("no").default_only(),
        key("cache_bypass", Type::Flag).default("no"),
    ],
};

/// From the smallest MTU IPv4 allows in practice to the largest jumbo frame NICs agree on.
const MTU: Type = Type::Integer(576, 9600);

pub(super) static PORT: Kind = Kind {
    name: "port",
    naming: Naming::Interface,
    built: true,
    environment: false,
    keys: &[
        key("device", Type::Device).repeats().required().restart(),
        key("addresses", Type::InterfaceAddresses),
        key("gateway", Type::Gateways),
        key("routes", Type::Routes),
        key("mtu", MTU).default("1500"),
        key("kernel_interface", Type::InterfaceOrNone)
            .fallback(Default::SectionName)
            .restart(),
        key("rx_queues", Type::IntegerOrAuto(1, 64))
            .default("auto")
            .restart(),
        key("local_addresses", Type::Ips).later(),
    ],
};

pub(super) static VLAN: Kind = Kind {
    name: "vlan",
    naming: Naming::Interface,
    built: false,
    environment: false,
    keys: &[
        key("port", Type::Reference(&["port"])).required(),
        key("id", Type::Integer(1, 4094)).required(),
        key("addresses", Type::InterfaceAddresses),
        key("gateway", Type::Gateways),
        key("routes", Type::Routes),
        key("mtu", MTU).default("1500"),
    ],
};

pub(super) static NEIGHBOR: Kind = Kind {
    name: "neighbor",
    naming: Naming::Address,
    built: true,
    environment: false,
    keys: &[
        key("on", Type::Reference(&["port", "vlan"])),
        key("mac", Type::Mac).required(),
    ],
};
