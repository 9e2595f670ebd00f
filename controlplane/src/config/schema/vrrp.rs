//! Who is active: `[vrrp NAME]`, `[vrrp_group NAME]`, `[sync]`.

use super::super::value::Type;
use super::super::words::{AuthType, CheckAddresses, InitialState, SyncPeer, VrrpChecksum};
use super::{Kind, Naming, key};

const HOUR: u64 = 3_600_000;

pub(super) static VRRP: Kind = Kind {
    name: "vrrp",
    naming: Naming::Name,
    built: true,
    environment: false,
    keys: &[
        key("interface", Type::Interface).required(),
        // Without default: 2, or 3 if the addresses are IPv6.
        key("version", Type::Integer(2, 3)),
        key("state", Type::Choice(InitialState::WORDS)).default("BACKUP"),
        key("virtual_router_id", Type::Integer(1, 255)).required(),
        key("priority", Type::Integer(1, 255)).default("100"),
        // The version decides which of these can be sent.
        key("advert_interval", Type::Duration(10, 255_000, 10)).default("1s"),
        key("down_timer_adverts", Type::Integer(1, 100)).default("3"),
        key("auth_type", Type::Choice(AuthType::WORDS)).default("none"),
        key("auth_pass", Type::Text).secret(),
        key("auth_pass_file", Type::Path(usize::MAX)),
        key("addresses", Type::VirtualAddresses),
        key("excluded_addresses", Type::VirtualAddresses),
        key("routes", Type::Routes),
        key("preempt", Type::Flag).default("yes"),
        key("preempt_delay", Type::Duration(0, 1_000_000, 1)).default("0"),
        key("accept", Type::Flag).default("yes"),
        key("source", Type::Ip),
        key("unicast_peers", Type::Ips),
        key("unicast_ttl", Type::Integer(1, 255)).default("255"),
        key("virtual_mac", Type::Flag).default("no"),
        key("garp_delay", Type::Duration(0, HOUR, 1)).default("5s"),
        key("garp_repeat", Type::Integer(1, 1000)).default("5"),
        key("garp_refresh", Type::DurationOrOff(1000, 24 * HOUR, 1)).default("off"),
        key("track_interfaces", Type::Tracked(None)),
        key("track_scripts", Type::Tracked(Some("track_script"))),
        key("track_services", Type::Tracked(Some("virtual_server"))),
        key("track_files", Type::Tracked(Some("track_file"))),
        key("track_workers", Type::Flag).default("yes"),
        key("worker_stall", Type::Duration(10, 60_000, 1)).default("500ms"),
        key("check_addresses", Type::Choice(CheckAddresses::WORDS))
            .default("warn")
            .only(&["warn", "drop"]),
        key("checksum", Type::Choice(VrrpChecksum::WORDS)).default("pseudo_header"),
        key("notify", Type::Text),
        key("notify_master", Type::Text),
        key("notify_backup", Type::Text),
        key("notify_fault", Type::Text),
        key("notify_stop", Type::Text),
    ],
};

pub(super) static VRRP_GROUP: Kind = Kind {
    name: "vrrp_group",
    naming: Naming::Name,
    built: true,
    environment: false,
    keys: &[
        key("members", Type::References("vrrp", &[])).required(),
        key("notify", Type::Text),
        key("notify_master", Type::Text),
        key("notify_backup", Type::Text),
        key("notify_fault", Type::Text),
        key("notify_stop", Type::Text),
    ],
};

pub(super) static SYNC: Kind = Kind {
    name: "sync",
    naming: Naming::Single,
    built: false,
    environment: true,
    keys: &[
        key("follow", Type::Reference(&["vrrp"])),
        key("role", Type::Choices(&["master", "backup"])),
        key("interface", Type::Interface),
        key("sync_id", Type::Integer(0, 255)),
        key("mcast_group", Type::Ipv4Multicast).default("224.0.0.81"),
        key("mcast_port", Type::Integer(1, 65_535)).default("8848"),
        key("ttl", Type::Integer(1, 255)).default("1"),
        key("threshold", Type::Integer(0, 1_000_000)).default("3"),
        key("period", Type::Integer(0, 1_000_000)).default("50"),
        key("refresh", Type::DurationOrOff(1000, 24 * HOUR, 1000)),
        key("max_length", Type::Integer(64, 65_507)).default("1472"),
        key("peer", Type::Choice(SyncPeer::WORDS)).default("kernel"),
    ],
};
