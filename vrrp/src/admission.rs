//! Which packets a virtual router obeys, in keepalived's order (behaviour notes 8.7): the first thing wrong ends it.
//!
//! A packet that is ignored costs a counter. It never resets a timer nor changes a state, which is why this knows
//! neither: it judges, and the router acts on [`Verdict::Obey`] only.

use crate::counters::Counter;
use crate::input::Packet;
use crate::machine::Heard;
use crate::packet::{ADVERTISEMENT, AUTH_NONE, AUTH_PASS, Message};
use crate::settings::{AddressCheck, RouterSettings, Version};
use std::net::IpAddr;
use std::time::Duration;

/// What is to be done about a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// Counted and forgotten.
    Ignore(Counter),
    /// It counts; what is odd about it is told.
    Obey(Heard, Oddities),
}

/// What is odd about an advertisement that is obeyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Oddities {
    pub(crate) addresses: bool,
    pub(crate) interval: bool,
    pub(crate) two_owners: bool,
}

/// Judges a packet that came in by the router's interface with its VRID. `own` is the address the router sends from.
pub(crate) fn judge(
    packet: &Packet<'_>,
    settings: &RouterSettings,
    own: Option<IpAddr>,
) -> Verdict {
    match admit(packet, settings, own) {
        Ok((heard, oddities)) => Verdict::Obey(heard, oddities),
        Err(counter) => Verdict::Ignore(counter),
    }
}

fn admit(
    packet: &Packet<'_>,
    settings: &RouterSettings,
    own: Option<IpAddr>,
) -> Result<(Heard, Oddities), Counter> {
    let require = |is_right: bool, counter| if is_right { Ok(()) } else { Err(counter) };
    require(own != Some(packet.source), Counter::FromSelf)?;
    let message = Message::decode(packet.message, settings.family).map_err(|_| Counter::Length)?;
    let is_unicast = !settings.peers.is_empty();
    require(is_unicast || packet.hop_limit == 255, Counter::Ttl)?;
    let version = match settings.version {
        Version::V2 => 2,
        Version::V3 => 3,
    };
    require(message.version() == version, Counter::Version)?;
    let raw = message.raw_interval();
    let mut oddities = Oddities::default();
    let interval = match settings.version {
        Version::V2 => {
            let auth_type = if settings.password.is_some() {
                AUTH_PASS
            } else {
                AUTH_NONE
            };
            require(message.auth_type() == auth_type, Counter::AuthType)?;
            if let Some(password) = &settings.password {
                let is_same = message
                    .password()
                    .is_some_and(|theirs| is_same(password.0, *theirs));
                require(is_same, Counter::Password)?;
            }
            require(raw == settings.advert_interval.0 / 100, Counter::Interval)?;
            settings.advert_interval.duration()
        }
        Version::V3 => Duration::from_millis(u64::from(raw) * 10),
    };
    require(message.kind() == ADVERTISEMENT, Counter::Type)?;
    if settings.version == Version::V3 {
        // Another interval is learnt; one of zero would have us take over within the skew of nothing.
        require(raw != 0, Counter::Interval)?;
        oddities.interval = raw != settings.advert_interval.0;
    }
    let checksum = message.is_checksum_good(packet.source, packet.destination);
    require(checksum, Counter::Checksum)?;
    let is_multicast = packet.destination.is_multicast();
    require(is_multicast != is_unicast, Counter::Destination)?;
    if !has_our_addresses(&message, settings) {
        require(
            settings.address_check == AddressCheck::Warn,
            Counter::Addresses,
        )?;
        oddities.addresses = true;
    }
    oddities.two_owners = message.priority() == u8::MAX && settings.priority == u8::MAX;
    let heard = Heard {
        source: packet.source,
        priority: message.priority(),
        interval,
    };
    Ok((heard, oddities))
}

/// In constant time: how long it takes tells nothing about the password.
fn is_same(ours: [u8; 8], theirs: [u8; 8]) -> bool {
    let pairs = ours.into_iter().zip(theirs);
    pairs.fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// In any order.
fn has_our_addresses(message: &Message<'_>, settings: &RouterSettings) -> bool {
    message.count() == settings.addresses.len()
        && settings
            .addresses
            .iter()
            .all(|ours| message.addresses().any(|theirs| theirs == ours.net.addr()))
}

/// What is wrong, as a sentence.
pub(crate) fn complaint(
    counter: Counter,
    packet: &Packet<'_>,
    settings: &RouterSettings,
) -> String {
    let message = Message::decode(packet.message, settings.family).ok();
    let source = packet.source;
    match counter {
        Counter::FromSelf => format!("ignored an advertisement from our own address {source}"),
        Counter::Length => format!(
            "ignored a packet from {source}: its {} bytes are too few",
            packet.message.len()
        ),
        Counter::Ttl => format!(
            "ignored a packet from {source}: TTL/hop limit {}, not 255",
            packet.hop_limit
        ),
        Counter::Version => format!(
            "ignored a packet from {source}: VRRP version {}, ours is {}",
            message.map_or(0, |message| message.version()),
            match settings.version {
                Version::V2 => 2,
                Version::V3 => 3,
            }
        ),
        Counter::AuthType => format!(
            "ignored a packet from {source}: authentication type {}",
            message.map_or(0, |message| message.auth_type())
        ),
        Counter::Password => format!("ignored a packet from {source}: another password"),
        Counter::Interval => format!(
            "ignored a packet from {source}: advertisement interval {}, ours is {}",
            message.map_or(0, |message| message.raw_interval()),
            match settings.version {
                Version::V2 => settings.advert_interval.0 / 100,
                Version::V3 => settings.advert_interval.0,
            }
        ),
        Counter::Type => format!("ignored a packet from {source}: not an advertisement"),
        Counter::Checksum => format!("ignored a packet from {source}: wrong checksum"),
        Counter::Destination => format!(
            "ignored a packet from {source} to {}: {} is configured",
            packet.destination,
            if settings.peers.is_empty() {
                "multicast"
            } else {
                "unicast"
            }
        ),
        Counter::Addresses => format!(
            "{source} advertises other addresses than ours: {}",
            message
                .into_iter()
                .flat_map(|message| message.addresses())
                .map(|address| address.to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ),
        Counter::OtherInterval => format!(
            "{source} advertises every {} centiseconds, we every {}; its interval counts while it is master",
            message.map_or(0, |message| message.raw_interval()),
            settings.advert_interval.0
        ),
        Counter::TwoOwners => format!(
            "configuration error: {source} has priority 255 as well; the higher address wins"
        ),
        Counter::AdvertsSent
        | Counter::AdvertsReceived
        | Counter::PriorityZeroSent
        | Counter::PriorityZeroReceived
        | Counter::LowerPriority
        | Counter::BecameActive
        | Counter::ReleasedActive => String::new(),
    }
}
