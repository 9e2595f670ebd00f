//! What is watched: `[check NAME]`, `[bfd NAME]`, `[track_file NAME]`, `[track_script NAME]`.

use super::super::value::Type;
use super::super::words::{CheckType, Via};
use super::{Kind, Naming, key};

const DAY: u64 = 86_400_000;
const INTERVAL: Type = Type::Duration(1, DAY, 1);
const COUNT: Type = Type::Integer(1, 1000);
/// keepalived's bound of a tracked object's weight.
const TRACK_WEIGHT: Type = Type::Integer(-253, 253);

pub(super) static CHECK: Kind = Kind {
    name: "check",
    naming: Naming::Name,
    built: false,
    environment: false,
    keys: &[
        key("type", Type::Choice(CheckType::WORDS)),
        key("extends", Type::Reference(&["check"])),
        key("via", Type::Choice(Via::WORDS)).default("address"),
        key("interval", INTERVAL).default("6s"),
        key("timeout", INTERVAL).default("5s"),
        key("retries", Type::Integer(0, 1000)).default("3"),
        key("retry_delay", Type::Duration(0, DAY, 1)).default("3s"),
        key("rise", COUNT).default("1"),
        key("warmup", Type::Duration(0, DAY, 1)),
        key("port", Type::Integer(1, 65_535)),
        key("source", Type::Ip),
        key("interface", Type::Interface),
        key("fast_recovery", Type::Flag).default("no"),
        key("path", Type::Text).repeats(),
        key("status", Type::StatusRanges).repeats(),
        key("digest", Type::Digest).repeats(),
        key("match", Type::Text).repeats(),
        key("host", Type::Text),
        key("method", Type::Choice(&["GET", "HEAD"])).default("GET"),
        key("tls_sni", Type::Text),
        key("tls_verify", Type::Flag).default("no"),
        key("helo", Type::Text),
        key("query", Type::Text),
        key(
            "query_type",
            Type::Choice(&["A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA"]),
        )
        .default("SOA"),
        key("payload", Type::Text),
        key("expect", Type::Text),
        key("require_reply", Type::Flag).default("no"),
        key("command", Type::Text),
        key("user", Type::Text),
        key("dynamic_weight", Type::Flag).default("no"),
        key("track_file", Type::Reference(&["track_file"])),
        key("bfd", Type::Reference(&["bfd"])),
    ],
};

pub(super) static BFD: Kind = Kind {
    name: "bfd",
    naming: Naming::Name,
    built: false,
    environment: false,
    keys: &[
        key("peer", Type::Ip).required(),
        key("source", Type::Ip),
        key("min_rx", Type::Duration(1, 60_000, 1)).default("10ms"),
        key("min_tx", Type::Duration(1, 60_000, 1)).default("10ms"),
        key("multiplier", Type::Integer(1, 255)).default("5"),
    ],
};

pub(super) static TRACK_FILE: Kind = Kind {
    name: "track_file",
    naming: Naming::Name,
    built: true,
    environment: false,
    keys: &[
        key("file", Type::Path(usize::MAX)).required(),
        key("weight", TRACK_WEIGHT).default("1"),
    ],
};

pub(super) static TRACK_SCRIPT: Kind = Kind {
    name: "track_script",
    naming: Naming::Name,
    built: true,
    environment: false,
    keys: &[
        key("command", Type::Text).required(),
        key("interval", INTERVAL).default("1s"),
        key("timeout", INTERVAL),
        key("rise", COUNT).default("1"),
        key("fall", COUNT).default("1"),
        key("weight", TRACK_WEIGHT).default("0"),
        key("user", Type::Text),
        key("init_fail", Type::Flag).default("no"),
        key("reverse", Type::Flag).default("no"),
    ],
};
