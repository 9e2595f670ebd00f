//! What is balanced: `[mark NAME]`, `[virtual_server NAME]`, `[real_server SERVICE/NAME]`.

use super::super::value::Type;
use super::super::words::{
    ClientAddress, Established, Family, Forward, NoServer, Protocol, Scheduler, Serve,
};
use super::{Default, Kind, Naming, key};

const HOUR: u64 = 3_600_000;
/// ipvsadm's limit of a persistence timeout.
const LONGEST: u64 = 31 * 24 * HOUR;
const COUNT: Type = Type::Integer(1, u32::MAX as i64);
const WEIGHT: Type = Type::Integer(0, 65_535);
const THRESHOLD: Type = Type::Integer(0, u32::MAX as i64);

/// Shorthands that may stand for a `[check]` section.
pub(crate) const CHECK_SHORTHANDS: &[&str] = &["tcp", "http", "ping"];
const CHECKS: Type = Type::References("check", CHECK_SHORTHANDS);
const BUILT_FORWARD: &[&str] = &["nat", "dr", "tunnel"];

pub(super) static MARK: Kind = Kind {
    name: "mark",
    naming: Naming::Name,
    built: true,
    environment: false,
    keys: &[
        key("mark", COUNT).required(),
        key("addresses", Type::Prefixes),
        key("ports", Type::PortRanges),
        key("protocol", Type::Choice(&["any", "tcp", "udp", "sctp"])).default("any"),
        key("source", Type::Prefix),
        key("family", Type::Choice(Family::WORDS)),
    ],
};

pub(super) static VIRTUAL_SERVER: Kind = Kind {
    name: "virtual_server",
    naming: Naming::Name,
    built: true,
    environment: false,
    keys: &[
        key("addresses", Type::Services),
        key("fwmark", COUNT),
        // Of a mark; ipv4 if absent. No default, because beside addresses it is an error.
        key("family", Type::Choice(Family::WORDS)),
        key("protocol", Type::Choice(Protocol::WORDS)).default("tcp"),
        key("scheduler", Type::Choice(Scheduler::WORDS)).default("wlc"),
        key(
            "scheduler_flags",
            Type::Choices(&["sh-fallback", "sh-port", "mh-fallback", "mh-port"]),
        ),
        key("forward", Type::Choice(Forward::WORDS))
            .default("dr")
            .only(BUILT_FORWARD),
        key("persistence", Type::DurationOrOff(1000, LONGEST, 1000)).default("off"),
        key("persistence_netmask", Type::Netmask),
        key("persistence_engine", Type::Choice(&["sip"])),
        key("one_packet", Type::Flag).default("no"),
        key("serve", Type::Choice(Serve::WORDS)).default("auto"),
        key("announce", Type::Interface).later(),
        key("checks", CHECKS).later(),
        key("quorum", COUNT).default("1").later(),
        key("hysteresis", Type::Integer(0, u32::MAX as i64))
            .default("0")
            .later(),
        key("quorum_up", Type::Text).later(),
        key("quorum_down", Type::Text).later(),
        key("sorry_server", Type::Socket).later(),
        key("sorry_server_forward", Type::Choice(Forward::WORDS)).later(),
        key("sorry_server_inhibit", Type::Flag)
            .default("no")
            .later(),
        key("alpha", Type::Flag).default("no").later(),
        key("omega", Type::Flag).default("no").later(),
        key("inhibit_on_failure", Type::Flag).default("no").later(),
        key("slow_start", Type::DurationOrOff(1, HOUR, 1))
            .default("off")
            .later(),
        key("flap_hold", Type::DurationOrOff(1, HOUR, 1))
            .default("off")
            .later(),
        key("passive", Type::Flag).default("no").later(),
        // Nothing takes a server down before there are checks.
        key("on_real_down", Type::Choice(Established::WORDS))
            .default("keep")
            .default_only(),
        key("on_real_removed", Type::Choice(Established::WORDS)).default("keep"),
        key("allow", Type::Prefixes).later(),
        key("deny", Type::Prefixes).later(),
        key("max_connections", COUNT).later(),
        key("new_per_second", COUNT).later(),
        key("per_source_new_per_second", COUNT).later(),
        key("client_address", Type::Choice(ClientAddress::WORDS))
            .default("none")
            .later(),
        key("no_server", Type::Choice(NoServer::WORDS)).default("unreachable"),
    ],
};

pub(super) static REAL_SERVER: Kind = Kind {
    name: "real_server",
    naming: Naming::ServiceName,
    built: true,
    environment: false,
    keys: &[
        key("address", Type::Endpoint).required(),
        key("weight", WEIGHT).default("1"),
        key("forward", Type::Choice(Forward::WORDS))
            .fallback(Default::FromService)
            .only(BUILT_FORWARD),
        key("tunnel", Type::Tunnel).default("ipip"),
        key(
            "tunnel_checksum",
            Type::Choice(&["none", "csum", "remcsum"]),
        )
        .default("none")
        .only(&["none", "csum"]),
        key("lower_threshold", THRESHOLD).default("0"),
        key("upper_threshold", THRESHOLD).default("0"),
        key("checks", CHECKS).later(),
        key("check_address", Type::Ip).later(),
        key("check_port", Type::Integer(1, 65_535)).later(),
        key("check_digest", Type::Digest).later(),
        key("inhibit_on_failure", Type::Flag).later(),
        key("notify_up", Type::Text).later(),
        key("notify_down", Type::Text).later(),
    ],
};
