//! `sluice vrrp` for people: who is what, since when and why, and what was heard.

use super::meaning;
use super::number::count;
use super::table::{Align::Left, Align::Right, Table};
use crate::admin::api::{VirtualRouter, Vrrp};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The screen: one table, then what there is to say about each router.
pub(super) fn render(vrrp: &Vrrp) -> String {
    let mut text = String::new();
    if vrrp.maintenance {
        text.push_str("maintenance is on: every virtual router yields to its peers\n\n");
    }
    if vrrp.restarts > 0 {
        let _ = writeln!(
            text,
            "the VRRP thread ended by itself {} time(s) and was started again; please report this\n",
            vrrp.restarts
        );
    }
    if vrrp.routers.is_empty() {
        text.push_str("no virtual routers\n");
        return text;
    }
    text.push_str(&overview(vrrp).render(0));
    for router in &vrrp.routers {
        text.push('\n');
        describe(router, &mut text);
    }
    if vrrp.counters.values().any(|value| *value > 0) {
        text.push_str("\nall routers\n");
    }
    list(&vrrp.counters, meaning::of_virtual_routers, &mut text);
    let mail = vrrp.mail;
    if mail.sent + mail.failed + mail.dropped > 0 {
        let _ = writeln!(
            text,
            "\nmail: {} sent, {} failed, {} dropped because too many were waiting",
            mail.sent, mail.failed, mail.dropped
        );
    }
    text
}

fn overview(vrrp: &Vrrp) -> Table {
    let mut table = Table::new(&[
        ("router", Left),
        ("state", Left),
        ("group", Left),
        ("interface", Left),
        ("VRID", Right),
        ("version", Right),
        ("priority", Right),
        ("master", Left),
        ("advert", Right),
        ("down after", Right),
        ("next", Right),
    ]);
    for router in &vrrp.routers {
        let priority = if router.priority == router.effective_priority {
            router.priority.to_string()
        } else {
            format!("{} ({})", router.effective_priority, router.priority)
        };
        let master = router.active.map_or_else(String::new, |active| {
            if router.state == "MASTER" {
                "this box".to_owned()
            } else {
                format!("{} ({})", active.address, active.priority)
            }
        });
        table.push([
            router.name.clone(),
            router.state.clone(),
            router.group.clone().unwrap_or_default(),
            router.interface.clone(),
            router.virtual_router_id.to_string(),
            router.version.to_string(),
            priority,
            master,
            seconds(router.active_advert_interval_ms),
            seconds(router.active_down_interval_ms),
            router.next_ms.map(seconds).unwrap_or_default(),
        ]);
    }
    table
}

fn describe(router: &VirtualRouter, text: &mut String) {
    let _ = writeln!(text, "{}", router.name);
    for fault in &router.faults {
        let _ = writeln!(text, "  fault      {fault}");
    }
    if let Some(last) = &router.last_transition {
        let ago = ago(last.ago_ms);
        let _ = writeln!(text, "  last       {} {ago} ago: {}", last.to, last.why);
    }
    let own = seconds(router.advert_interval_ms);
    let _ = writeln!(
        text,
        "  timers     own advert {own}, skew {}",
        seconds(router.skew_ms)
    );
    if !router.addresses.is_empty() {
        let addresses = router.addresses.iter().map(ToString::to_string);
        let addresses: Vec<_> = addresses.collect();
        let _ = writeln!(text, "  addresses  {}", addresses.join(", "));
    }
    if !router.routes.is_empty() {
        let _ = writeln!(text, "  routes     {}", router.routes.join(", "));
    }
    let meaning = |name: &str| meaning::of_virtual_router(name).unwrap_or_default();
    list(&router.counters, meaning, text);
}

/// Those that are not 0.
fn list(
    counters: &BTreeMap<String, u64>,
    meaning: impl Fn(&str) -> &'static str,
    text: &mut String,
) {
    let mut table = Table::new(&[("", Right), ("", Left), ("", Left)]);
    for (name, value) in counters.iter().filter(|(_, value)| **value > 0) {
        table.push([count(*value), name.clone(), meaning(name).to_owned()]);
    }
    // Columns without headings; without lines there is nothing after them.
    text.extend(table.render(2).split_inclusive('\n').skip(1));
}

/// Milliseconds as seconds with as many digits as there are.
fn seconds(milliseconds: u64) -> String {
    let text = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} s")
}

fn ago(milliseconds: u64) -> String {
    if milliseconds < 10_000 {
        seconds(milliseconds)
    } else {
        super::number::duration(milliseconds / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_for_no_router_are_shown_after_the_routers() {
        let mut vrrp = Vrrp {
            routers: vec![VirtualRouter::default()],
            ..Vrrp::default()
        };
        vrrp.counters.insert("unknown_vrid".to_owned(), 7);
        vrrp.counters.insert("events_lost".to_owned(), 0);
        let text = render(&vrrp);
        let (_, end) = text.split_once("all routers\n").unwrap();
        assert_eq!(
            end,
            "  7  unknown_vrid  for a VRID that is not configured there\n"
        );
    }

    #[test]
    fn an_end_of_the_vrrp_thread_is_told() {
        let mut vrrp = Vrrp::default();
        assert_eq!(render(&vrrp), "no virtual routers\n");
        vrrp.restarts = 2;
        let text = render(&vrrp);
        assert!(
            text.starts_with("the VRRP thread ended by itself 2 time(s)"),
            "{text}"
        );
    }

    #[test]
    fn seconds_have_no_idle_zeros() {
        let shown = [0, 1000, 3609, 500, 10_250].map(seconds);
        assert_eq!(shown, ["0 s", "1 s", "3.609 s", "0.5 s", "10.25 s"]);
        assert_eq!(ago(9_999), "9.999 s");
        assert_eq!(ago(65_000), "1m 5s");
    }
}
