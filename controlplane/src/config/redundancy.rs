//! The typed model of who is active: `[vrrp]`, `[vrrp_group]`, `[sync]`.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::{Route, VirtualAddress};
use super::effective::{EffectiveTable, Section};
use super::location::Place;
use super::words::{AuthType, CheckAddresses, InitialState, SyncPeer, VrrpChecksum};

/// A password. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Why a file of a password cannot be used; no word of it is in here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadSecret {
    #[error("{0}")]
    Unreadable(#[from] std::io::Error),
    #[error("it is empty")]
    Empty,
}

impl Secret {
    /// The first line of a file.
    pub(crate) fn read(path: &Path) -> Result<Self, BadSecret> {
        let text = std::fs::read_to_string(path)?;
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err(BadSecret::Empty);
        }
        Ok(Self(line.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `[vrrp NAME]`: a virtual router.
#[derive(Clone, Debug, PartialEq)]
pub struct VrrpConfig {
    /// Its name.
    pub name: String,
    /// The interface it speaks on.
    pub interface: String,
    /// 2 or 3.
    pub version: u8,
    /// The initial hint.
    pub state: InitialState,
    /// 1 to 255.
    pub virtual_router_id: u8,
    /// 1 to 255.
    pub priority: u8,
    /// Between advertisements.
    pub advert_interval: Duration,
    /// Missed advertisements before the active router is down.
    pub down_timer_adverts: u8,
    /// VRRPv2 authentication.
    pub auth_type: AuthType,
    /// Its password, from whichever key gave it.
    pub auth_pass: Option<Secret>,
    /// Addresses named in advertisements.
    pub addresses: Vec<VirtualAddress>,
    /// Further addresses that move with them.
    pub excluded_addresses: Vec<VirtualAddress>,
    /// Routes while it is Active.
    pub routes: Vec<Route>,
    /// Takes over from a lower priority.
    pub preempt: bool,
    /// But not before.
    pub preempt_delay: Duration,
    /// Accepts packets to the addresses.
    pub accept: bool,
    /// Source of advertisements.
    pub source: Option<IpAddr>,
    /// Peers, if advertisements are unicast.
    pub unicast_peers: Vec<IpAddr>,
    /// Their TTL.
    pub unicast_ttl: u8,
    /// Uses the virtual MAC.
    pub virtual_mac: bool,
    /// Before the second batch of gratuitous ARP.
    pub garp_delay: Duration,
    /// Gratuitous ARPs per batch.
    pub garp_repeat: u32,
    /// Between further batches; `None` = none.
    pub garp_refresh: Option<Duration>,
    /// Interfaces and weights; weight 0 = fault.
    pub track_interfaces: Vec<(String, i32)>,
    /// Scripts and weights.
    pub track_scripts: Vec<(String, i32)>,
    /// Services and weights.
    pub track_services: Vec<(String, i32)>,
    /// Files and weights.
    pub track_files: Vec<(String, i32)>,
    /// A stalled worker is a fault.
    pub track_workers: bool,
    /// Stalled for that long.
    pub worker_stall: Duration,
    /// What is done about another address list.
    pub check_addresses: CheckAddresses,
    /// The checksum of VRRPv3 over IPv4.
    pub checksum: VrrpChecksum,
    /// Commands.
    pub notify: NotifyConfig,
    /// Where the section begins.
    pub place: Place,
}

/// Commands run when the state changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotifyConfig {
    /// On every change.
    pub any: Option<String>,
    /// On becoming active.
    pub master: Option<String>,
    /// On becoming backup.
    pub backup: Option<String>,
    /// On a fault.
    pub fault: Option<String>,
    /// On stopping.
    pub stop: Option<String>,
}

/// `[vrrp_group NAME]`: virtual routers that move together.
#[derive(Clone, Debug, PartialEq)]
pub struct VrrpGroupConfig {
    /// Its name.
    pub name: String,
    /// Names of `[vrrp]` sections.
    pub members: Vec<String>,
    /// Commands.
    pub notify: NotifyConfig,
    /// Where the section begins.
    pub place: Place,
}

/// `[sync]`: connection synchronisation.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncConfig {
    /// The virtual router whose state decides the role.
    pub follow: Option<String>,
    /// Sends, given by role.
    pub master: bool,
    /// Receives, given by role.
    pub backup: bool,
    /// Interface.
    pub interface: Option<String>,
    /// Sync id; `None` = the id of `follow`, else 0.
    pub sync_id: Option<u8>,
    /// Multicast group.
    pub mcast_group: IpAddr,
    /// UDP port.
    pub mcast_port: u16,
    /// TTL.
    pub ttl: u8,
    /// Packets before a connection is sent first.
    pub threshold: u32,
    /// Packets between later ones.
    pub period: u32,
    /// Resent when the timeout changed by that much.
    pub refresh: Option<Duration>,
    /// Bytes of a message.
    pub max_length: u16,
    /// Whom the messages are for.
    pub peer: SyncPeer,
    /// Where the section begins.
    pub place: Place,
}

/// What a section tracks, each with the weight given there, else the tracked section's own.
fn tracked(section: &Section, key: &str, kind: &str, table: &EffectiveTable) -> Vec<(String, i32)> {
    let named: Vec<(String, Option<i32>)> = section.get(key).unwrap_or_default();
    let weigh = |(name, weight): (String, Option<i32>)| {
        let own = || table.find(kind, &name)?.get("weight");
        let weight = weight.or_else(own).unwrap_or(0);
        (name, weight)
    };
    named.into_iter().map(weigh).collect()
}

pub(crate) fn vrrp(section: &Section, table: &EffectiveTable) -> Option<VrrpConfig> {
    let tracked = |key, kind| tracked(section, key, kind, table);
    let addresses: Vec<VirtualAddress> = section.get("addresses").unwrap_or_default();
    let v6 = addresses
        .first()
        .is_some_and(|address| address.net.addr().is_ipv6());
    Some(VrrpConfig {
        name: section.name.clone(),
        interface: section.get("interface")?,
        version: section.get("version").unwrap_or(if v6 { 3 } else { 2 }),
        state: section.get("state")?,
        virtual_router_id: section.get("virtual_router_id")?,
        priority: section.get("priority")?,
        advert_interval: section.get("advert_interval")?,
        down_timer_adverts: section.get("down_timer_adverts")?,
        auth_type: section.get("auth_type")?,
        auth_pass: section.get("auth_pass").map(Secret).or_else(|| {
            let file: PathBuf = section.get::<String>("auth_pass_file")?.into();
            // The check has read it a moment ago. One that is gone since is no password at all:
            // such adverts are nobody's.
            Secret::read(&file).ok()
        }),
        addresses,
        excluded_addresses: section.get("excluded_addresses").unwrap_or_default(),
        routes: section.get("routes").unwrap_or_default(),
        preempt: section.get("preempt")?,
        preempt_delay: section.get("preempt_delay")?,
        accept: section.get("accept")?,
        source: section.get("source"),
        unicast_peers: section.get("unicast_peers").unwrap_or_default(),
        unicast_ttl: section.get("unicast_ttl")?,
        virtual_mac: section.get("virtual_mac")?,
        garp_delay: section.get("garp_delay")?,
        garp_repeat: section.get("garp_repeat")?,
        garp_refresh: section.get("garp_refresh"),
        track_interfaces: tracked("track_interfaces", ""),
        track_scripts: tracked("track_scripts", "track_script"),
        track_services: tracked("track_services", ""),
        track_files: tracked("track_files", "track_file"),
        track_workers: section.get("track_workers")?,
        worker_stall: section.get("worker_stall")?,
        check_addresses: section.get("check_addresses")?,
        checksum: section.get("checksum")?,
        notify: notify(section),
        place: Place(section.origin.clone()),
    })
}

fn notify(section: &Section) -> NotifyConfig {
    NotifyConfig {
        any: section.get("notify"),
        master: section.get("notify_master"),
        backup: section.get("notify_backup"),
        fault: section.get("notify_fault"),
        stop: section.get("notify_stop"),
    }
}

pub(crate) fn vrrp_group(section: &Section) -> Option<VrrpGroupConfig> {
    Some(VrrpGroupConfig {
        name: section.name.clone(),
        members: section.get("members")?,
        notify: notify(section),
        place: Place(section.origin.clone()),
    })
}

pub(crate) fn sync(section: &Section) -> Option<SyncConfig> {
    let roles: Vec<String> = section.get("role").unwrap_or_default();
    Some(SyncConfig {
        follow: section.get("follow"),
        master: roles.iter().any(|role| role == "master"),
        backup: roles.iter().any(|role| role == "backup"),
        interface: section.get("interface"),
        sync_id: section.get("sync_id"),
        mcast_group: section.get("mcast_group")?,
        mcast_port: section.get("mcast_port")?,
        ttl: section.get("ttl")?,
        threshold: section.get("threshold")?,
        period: section.get("period")?,
        refresh: section.get("refresh"),
        max_length: section.get("max_length")?,
        peer: section.get("peer")?,
        place: Place(section.origin.clone()),
    })
}
