//! What an operator sees of the virtual routers.

use crate::event::{Standing, Transition};
use crate::settings::{Name, VirtualRoute};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// One virtual router.
#[derive(Clone, Debug, PartialEq)]
pub struct RouterStatus {
    /// Its name.
    pub name: Name,
    /// The group it is in.
    pub group: Option<Name>,
    /// The interface it speaks on.
    pub interface: Name,
    /// 2 or 3.
    pub version: u8,
    /// Virtual router id.
    pub vrid: u8,
    /// What it is.
    pub standing: Standing,
    /// Why it cannot take part, one sentence each.
    pub faults: Vec<String>,
    /// The configured priority.
    pub priority: u8,
    /// The one that is sent.
    pub effective_priority: u8,
    /// Who is Active, and its priority, as far as known.
    pub active: Option<(IpAddr, u8)>,
    /// Between advertisements: the own interval, and the one learnt from the Active router.
    pub advert_interval: Duration,
    /// See there.
    pub active_advert_interval: Duration,
    /// Skew time.
    pub skew: Duration,
    /// Time without advertisement after which it takes over.
    pub active_down_interval: Duration,
    /// Time to the next advertisement (Active) or the takeover (Backup).
    pub next: Option<Duration>,
    /// Addresses it has put in place.
    pub addresses: Vec<IpAddr>,
    /// Routes it wants the kernel to have; the log tells of those that it refuses.
    pub routes: Vec<VirtualRoute>,
    /// The last change and when it was.
    pub last: Option<(Transition, Instant)>,
    /// Counters by name: `adverts_sent`, `adverts_received`, `became_active`, and one per reason of a
    /// packet that was ignored.
    pub counters: BTreeMap<&'static str, u64>,
}
