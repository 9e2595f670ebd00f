//! Checks, tracking, VRRP and synchronisation.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::super::address::VirtualAddress;
use super::super::effective::{EffectiveTable, Section};
use super::super::location::Origin;
use super::super::report::Report;
use super::super::words::{AuthType, CheckType, InitialState};
use super::At;

pub(super) fn check(table: &EffectiveTable, report: &mut Report) {
    for section in table.of("check") {
        health_check(section, table, report);
    }
    for section in table.of("vrrp") {
        virtual_router(section, report);
    }
    same_router(table, report);
    groups(table, report);
    for section in table.of("sync") {
        sync(section, report);
    }
}

/// Which types a key of `[check]` belongs to; keys not named here belong to all.
const OF_TYPE: &[(&[CheckType], &[&str])] = &[
    (
        &[CheckType::Http, CheckType::Https],
        &[
            "path",
            "status",
            "digest",
            "match",
            "host",
            "method",
            "fast_recovery",
        ],
    ),
    (&[CheckType::Https], &["tls_sni", "tls_verify"]),
    (&[CheckType::Smtp], &["helo"]),
    (&[CheckType::Dns], &["query", "query_type"]),
    (&[CheckType::Udp], &["payload", "expect", "require_reply"]),
    (&[CheckType::Script], &["command", "user", "dynamic_weight"]),
    (&[CheckType::File], &["track_file"]),
    (&[CheckType::Bfd], &["bfd"]),
];

fn health_check(section: &Section, table: &EffectiveTable, report: &mut Report) {
    let at = At::new(section);
    let mut chain = vec![section];
    let mut parent = section;
    while let Some(next) = parent
        .get::<String>("extends")
        .and_then(|name| table.find("check", &name))
    {
        if chain.iter().any(|known| known.name == next.name) {
            at.error(
                report,
                "extends",
                "the checks extend each other in a circle; expected none".to_owned(),
            );
            return;
        }
        chain.push(next);
        parent = next;
    }
    let inherits = |key: &str| chain.iter().any(|section| section.is_explicit(key));
    let Some(kind) = chain
        .iter()
        .find_map(|section| section.get::<CheckType>("type"))
    else {
        if !inherits("type") && !section.is_explicit("extends") {
            let message = format!(
                "the key is missing; expected one of {}",
                CheckType::WORDS.join(", ")
            );
            at.error(report, "type", message);
        }
        return;
    };
    for (types, keys) in OF_TYPE {
        for setting in &section.settings {
            if setting.origin.is_explicit()
                && keys.contains(&setting.key.name)
                && !types.contains(&kind)
            {
                let types: Vec<_> = types.iter().map(|kind| kind.name()).collect();
                let message = format!(
                    "does not go with type {kind}; expected type {}",
                    types.join(" or ")
                );
                at.error(report, &setting.name, message);
            }
        }
    }
    for (wanted, key) in [
        (CheckType::Script, "command"),
        (CheckType::File, "track_file"),
        (CheckType::Bfd, "bfd"),
    ] {
        if kind == wanted && !inherits(key) {
            at.error(
                report,
                key,
                format!("the key is missing; a check of type {kind} needs it"),
            );
        }
    }
}

fn virtual_router(section: &Section, report: &mut Report) {
    let at = At::new(section);
    let addresses: Vec<VirtualAddress> = section.get("addresses").unwrap_or_default();
    let v6 = addresses
        .first()
        .is_some_and(|address| address.net.addr().is_ipv6());
    if !section.is_explicit("addresses") {
        let message = "the key is missing; expected the addresses the advertisement names";
        at.error(report, "addresses", message.to_owned());
    }
    if let Some(other) = addresses
        .iter()
        .find(|address| address.net.addr().is_ipv6() != v6)
    {
        let message = format!(
            "`{}` is of another family; expected one family, the others in excluded_addresses",
            other.net.addr()
        );
        at.error(report, "addresses", message);
    }
    if let Some(IpAddr::V6(first)) = addresses.first().map(|address| address.net.addr())
        && !first.is_unicast_link_local()
    {
        at.warning(
            report,
            "addresses",
            format!("`{first}` is not link-local; expected a link-local address first"),
        );
    }
    let version = section
        .get::<u8>("version")
        .unwrap_or(if v6 { 3 } else { 2 });
    if version == 2 && v6 {
        at.error(
            report,
            "version",
            "VRRPv2 has no IPv6; expected 3".to_owned(),
        );
    }
    if let Some(interval) = section.get::<Duration>("advert_interval") {
        let bad = if version == 2 {
            (interval.subsec_millis() != 0 || interval.is_zero())
                .then_some("whole seconds from 1s to 255s")
        } else {
            (interval > Duration::from_millis(40_950))
                .then_some("hundredths of a second up to 40950ms")
        };
        if let Some(expected) = bad {
            at.error(
                report,
                "advert_interval",
                format!("VRRPv{version} cannot send this; expected {expected}"),
            );
        }
    }
    authentication(section, version, report);
    let master = section.get("state") == Some(InitialState::Master);
    let owner = section.get("priority") == Some(255_u8);
    if section.get("preempt") == Some(false) {
        // keepalived does the same about both.
        if master {
            let message =
                "no is ignored with state MASTER; expected state = BACKUP on both directors";
            at.warning(report, "preempt", message.to_owned());
        } else if owner {
            let message = "no is ignored with priority 255, the owner's; expected a lower priority";
            at.warning(report, "preempt", message.to_owned());
        }
    }
    if master && !section.is_explicit("priority") {
        let message =
            "is 100 although the state is MASTER, where keepalived takes 255; expected a priority";
        at.warning(report, "priority", message.to_owned());
    }
    // The default says nothing, and the dump of a configuration shows it.
    if section.get("unicast_ttl") != Some(255_u8)
        && section.is_explicit("unicast_ttl")
        && !section.is_explicit("unicast_peers")
    {
        at.error(
            report,
            "unicast_ttl",
            "there are no unicast_peers; expected them with it".to_owned(),
        );
    }
    for key in ["source", "unicast_peers"] {
        let ips = section
            .get::<IpAddr>(key)
            .into_iter()
            .chain(section.get::<Vec<IpAddr>>(key).into_iter().flatten());
        for ip in ips.filter(|ip| !addresses.is_empty() && ip.is_ipv6() != v6) {
            at.error(
                report,
                key,
                format!("`{ip}` is not of the addresses' family; expected the same"),
            );
        }
    }
}

fn authentication(section: &Section, version: u8, report: &mut Report) {
    let at = At::new(section);
    let pass = section.is_explicit("auth_pass");
    let file = section.is_explicit("auth_pass_file");
    match section.get::<AuthType>("auth_type") {
        Some(AuthType::Pass) => {
            if version == 3 {
                at.error(
                    report,
                    "auth_type",
                    "VRRPv3 has no authentication; expected none".to_owned(),
                );
            }
            if !pass && !file {
                let message =
                    "the key is missing; auth_type PASS needs auth_pass or auth_pass_file";
                at.error(report, "auth_pass", message.to_owned());
            }
        }
        Some(AuthType::None) if pass || file => {
            let key = if pass { "auth_pass" } else { "auth_pass_file" };
            at.error(
                report,
                key,
                "auth_type is none; expected auth_type = PASS with it".to_owned(),
            );
        }
        _ => {}
    }
    if pass && file {
        at.error(
            report,
            "auth_pass_file",
            "conflicts with auth_pass; expected one of the two".to_owned(),
        );
    }
    if section
        .get::<String>("auth_pass")
        .is_some_and(|password| password.len() > 8)
    {
        let message = "has more than 8 characters and is cut there; expected at most 8";
        at.warning(report, "auth_pass", message.to_owned());
    }
}

/// An interface has each virtual router id once per family.
fn same_router(table: &EffectiveTable, report: &mut Report) {
    let mut seen: HashMap<(String, u8, bool), &Origin> = HashMap::new();
    for section in table.of("vrrp") {
        let addresses: Vec<VirtualAddress> = section.get("addresses").unwrap_or_default();
        let v6 = addresses
            .first()
            .is_some_and(|address| address.net.addr().is_ipv6());
        let (Some(interface), Some(id)) = (
            section.get::<String>("interface"),
            section.get::<u8>("virtual_router_id"),
        ) else {
            continue;
        };
        if let Some(first) = seen.insert(
            (interface.clone(), id, v6),
            section.origin("virtual_router_id"),
        ) {
            let message = format!(
                "{id} is used on {interface} already at {first}; expected each once per interface"
            );
            At::new(section).error(report, "virtual_router_id", message);
        }
    }
}

fn groups(table: &EffectiveTable, report: &mut Report) {
    let mut owner: HashMap<String, String> = HashMap::new();
    for section in table.of("vrrp_group") {
        for member in section.get::<Vec<String>>("members").unwrap_or_default() {
            match owner.get(&member) {
                Some(first) if *first != section.name => {
                    let message = format!(
                        "`{member}` is in [vrrp_group {first}] already; expected it in one group"
                    );
                    At::new(section).error(report, "members", message);
                }
                _ => {
                    owner.insert(member, section.name.clone());
                }
            }
        }
    }
}

fn sync(section: &Section, report: &mut Report) {
    let at = At::new(section);
    match (section.is_explicit("follow"), section.is_explicit("role")) {
        (true, true) => at.error(
            report,
            "role",
            "conflicts with follow; expected one of the two".to_owned(),
        ),
        (false, false) => at.error(
            report,
            "follow",
            "the key is missing; expected follow, or a role".to_owned(),
        ),
        _ => {}
    }
    if let (Some(threshold), Some(period)) = (
        section.get::<u32>("threshold"),
        section.get::<u32>("period"),
    ) && period != 0
        && threshold >= period
    {
        let message = format!("{threshold} is not below the period of {period}; expected less");
        at.error(report, "threshold", message);
    }
}
