//! The virtual routers as the admin API shows them.

use crate::admin::api;
use std::time::{Duration, Instant};
use vrrp::{RouterStatus, Standing};

pub(super) fn router(status: RouterStatus, now: Instant) -> api::VirtualRouter {
    api::VirtualRouter {
        name: status.name.to_string(),
        group: status.group.map(|group| group.to_string()),
        interface: status.interface.to_string(),
        version: status.version,
        virtual_router_id: status.vrid,
        state: status.standing.word().to_owned(),
        faults: status.faults,
        priority: status.priority,
        effective_priority: status.effective_priority,
        active: status
            .active
            .filter(|_| status.standing != Standing::Fault)
            .map(|(address, priority)| api::ActiveRouter { address, priority }),
        advert_interval_ms: milliseconds(status.advert_interval),
        active_advert_interval_ms: milliseconds(status.active_advert_interval),
        skew_ms: milliseconds(status.skew),
        active_down_interval_ms: milliseconds(status.active_down_interval),
        next_ms: status.next.map(milliseconds),
        addresses: status.addresses,
        routes: status.routes.iter().map(ToString::to_string).collect(),
        last_transition: status.last.map(|(transition, at)| api::LastTransition {
            to: transition.to.word().to_owned(),
            why: transition.why,
            ago_ms: milliseconds(now.saturating_duration_since(at)),
        }),
        counters: status
            .counters
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
