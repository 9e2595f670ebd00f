//! Marks and the services that are found by them.

use super::super::super::effective::{EffectiveTable, Section};
use super::super::super::report::Report;
use super::super::super::words::Family;
use super::At;

/// A service of a mark that no rule sets is never reached.
pub(super) fn service(service: &Section, table: &EffectiveTable, report: &mut Report) {
    let Some(mark) = service.get::<u32>("fwmark") else {
        return;
    };
    let family = service.get::<Family>("family").unwrap_or_default();
    let mut rules = table.of("mark");
    // One whose mark is not known might set it.
    let sets = |rule: &Section| rule.get("mark").is_none_or(|other: u32| other == mark);
    if !rules.any(|rule| sets(rule) && this_family(rule).is_none_or(|other| other == family)) {
        let message = format!(
            "no [mark] section sets mark {mark} on {family} packets, so nothing reaches the service; expected a [mark NAME] \
             with mark = {mark}"
        );
        At::new(service).warning(report, "fwmark", message);
    }
}

/// A mark that is no service's has no effect but to hide later rules.
fn unused(rule: &Section, table: &EffectiveTable, report: &mut Report) {
    let Some(mark) = rule.get::<u32>("mark") else {
        return;
    };
    let mut services = table.of("virtual_server");
    let used = services.any(|service| {
        let family = service.get::<Family>("family").unwrap_or_default();
        // One that is not known might be it.
        let fwmark = service.get("fwmark");
        (service.is_explicit("fwmark") && fwmark.is_none_or(|other: u32| other == mark))
            && this_family(rule).is_none_or(|own| own == family)
    });
    if !used {
        let message = format!(
            "mark {mark} is no service's, so its packets go on to the services on addresses; expected a [virtual_server] \
             with fwmark = {mark}"
        );
        At::new(rule).warning(report, "mark", message);
    }
}

/// The family of the packets a rule fits; `None` = both.
fn this_family(rule: &Section) -> Option<Family> {
    let nets: Vec<ipnet::IpNet> = rule.get("addresses").unwrap_or_default();
    let source: Option<ipnet::IpNet> = rule.get("source");
    let of = |net: &ipnet::IpNet| {
        if net.addr().is_ipv4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        }
    };
    rule.get("family")
        .or_else(|| nets.iter().chain(&source).next().map(of))
}

pub(super) fn check(table: &EffectiveTable, report: &mut Report) {
    for mark in table.of("mark") {
        let at = At::new(mark);
        unused(mark, table, report);
        let matches = ["addresses", "ports", "protocol", "source", "family"];
        if !matches.iter().any(|key| mark.is_explicit(key)) {
            at.section_warning(
                report,
                "matches every packet; expected addresses, ports, protocol or source".to_owned(),
            );
        }
        let family = mark.get::<Family>("family");
        let nets: Vec<ipnet::IpNet> = mark.get("addresses").unwrap_or_default();
        let source: Option<ipnet::IpNet> = mark.get("source");
        let mut all = nets.iter().chain(&source);
        let wanted = family.or_else(|| {
            nets.first().map(|net| {
                if net.addr().is_ipv4() {
                    Family::Ipv4
                } else {
                    Family::Ipv6
                }
            })
        });
        if let Some(wanted) = wanted
            && let Some(other) = all.find(|net| net.addr().is_ipv4() != (wanted == Family::Ipv4))
        {
            let key = if source.as_ref() == Some(other) {
                "source"
            } else {
                "addresses"
            };
            at.error(
                report,
                key,
                format!("`{other}` is not {wanted}; expected one family in a mark"),
            );
        }
    }
}
