//! What a virtual router is told by its operator. The configuration has been checked: nothing here is out of range.

use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A name from the configuration: of a virtual router, a sync group, an interface.
pub type Name = Arc<str>;

/// All virtual routers of a box.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// In file order; names are unique, and so is a VRID among those of a family on an interface.
    pub routers: Vec<RouterSettings>,
    /// Sync groups; a router is in at most one.
    pub groups: Vec<GroupSettings>,
}

/// One virtual router.
#[derive(Clone, Debug, PartialEq)]
pub struct RouterSettings {
    /// Its name.
    pub name: Name,
    /// The interface it speaks on.
    pub interface: Name,
    /// The family it speaks.
    pub family: Family,
    /// Version of the protocol; IPv6 has only 3.
    pub version: Version,
    /// What the operator expects it to be. A hint: priorities decide (behaviour notes 8.3).
    pub initial: Initial,
    /// Virtual router id.
    pub vrid: u8,
    /// 1 to 254, or 255 for the owner of the addresses. Trackers with weights change what is sent.
    pub priority: u8,
    /// Between advertisements.
    pub advert_interval: Centis,
    /// Intervals without advertisement, besides the skew time, after which the Active router is down.
    pub down_timer_adverts: u8,
    /// Password of VRRPv2, padded with zeros.
    pub password: Option<Password>,
    /// Named in advertisements, in that order.
    pub addresses: Vec<VirtualAddress>,
    /// Further addresses, of either family, that move with them.
    pub excluded: Vec<VirtualAddress>,
    /// Routes of this box, of either family, while it is Active.
    pub routes: Vec<VirtualRoute>,
    /// Takes over from a lower priority.
    pub preempt: bool,
    /// But not before it has been seen that long.
    pub preempt_delay: Duration,
    /// Accepts packets to the addresses, though it does not own them (RFC 9568, `Accept_Mode`).
    pub accept: bool,
    /// Source of advertisements; `None` = the interface's primary (IPv6: link-local) address.
    pub source: Option<IpAddr>,
    /// Peers, if advertisements are unicast; else they go to the group.
    pub peers: Vec<IpAddr>,
    /// TTL or hop limit of unicast advertisements.
    pub unicast_ttl: u8,
    /// Uses the virtual MAC, on an interface of its own.
    pub virtual_mac: bool,
    /// How addresses are announced.
    pub announcing: Announcing,
    /// What is done about an advertisement with other addresses.
    pub address_check: AddressCheck,
    /// What the checksum of VRRPv3 over IPv4 that is sent covers; both are accepted.
    pub checksum: Checksum,
    /// What it depends on, each with its weight; 0 = a fault when it is down.
    pub tracked: Vec<(Tracked, i32)>,
}

/// A password of VRRPv2, which goes on the wire as it is and into no log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password(pub [u8; 8]);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Routers that are Active together or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSettings {
    /// Its name.
    pub name: Name,
    /// Names of routers.
    pub members: Vec<Name>,
}

/// An address that moves with a virtual router.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VirtualAddress {
    /// The address and the prefix length it gets on the interface.
    pub net: IpNet,
    /// Where; `None` = the router's interface (its own one, with a virtual MAC).
    pub interface: Option<Name>,
}

/// A route that the box has while a virtual router is Active.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualRoute {
    /// Where to.
    pub destination: IpNet,
    /// Next hop, of the same family.
    pub gateway: IpAddr,
    /// By which interface; `None` = the kernel knows where the gateway is.
    pub interface: Option<Name>,
}

impl fmt::Display for VirtualRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} via {}", self.destination, self.gateway)?;
        match &self.interface {
            Some(interface) => write!(f, " dev {interface}"),
            None => Ok(()),
        }
    }
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 3768.
    V2,
    /// RFC 9568.
    V3,
}

/// The configured initial state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// `state = MASTER`.
    Active,
    /// `state = BACKUP`.
    Backup,
}

/// Hundredths of a second, the unit of VRRPv3. VRRPv2 sends whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Centis(pub u16);

impl Centis {
    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_millis(u64::from(self.0) * 10)
    }
}

/// Gratuitous ARP and unsolicited neighbour advertisements (behaviour notes 8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcing {
    /// From the first batch to the second.
    pub delay: Duration,
    /// Announcements of each address in a batch.
    pub repeat: u32,
    /// Between single announcements later on; `None` = none.
    pub refresh: Option<Duration>,
}

/// What is done about an advertisement that names other addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressCheck {
    /// Told, and obeyed.
    Warn,
    /// Told, and ignored, as keepalived 2.2.7 does.
    Drop,
}

/// What the checksum of VRRPv3 over IPv4 covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// A pseudo-header too (RFC 5798 as keepalived reads it).
    PseudoHeader,
    /// The message alone (RFC 9568).
    MessageOnly,
}

/// What a virtual router can depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tracked {
    /// An interface besides its own.
    Interface(Name),
    /// `[track_script NAME]`.
    Script(Name),
    /// `[virtual_server NAME]`: its quorum.
    Service(Name),
    /// `[track_file NAME]`.
    File(Name),
    /// The workers: down while one has stalled for at least this long.
    Workers(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(format!("{:?}", Some(Password(*b"abcd1234"))), "Some(***)");
    }
}
