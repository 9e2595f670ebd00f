//! Interfaces that have a virtual router's MAC (RFC 9568 section 7.3; behaviour notes 8.6): a macvlan in private mode,
//! and the settings that make Linux answer ARP for its addresses from it and from nowhere else.
//!
//! Invariants: the settings of the interface beneath are as they were once the last one on it is gone, also after a
//! process was killed: what they were is written on the interface (its alias) before they are changed. An interface
//! that is not a macvlan with a virtual router's MAC is never touched.

use super::links::{
    DELETE_LINK, IFLA_ADDRESS, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO,
    Link, Links, NEW_LINK, UP, link_request,
};
use super::netlink::{NLM_F_CREATE, NLM_F_EXCL, Netlink, attribute, is, nested, text};
use super::silence::Silence;
use super::sysctl;
use crate::action::VirtualInterface;
use crate::settings::{Family, Name};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, ErrorKind, Result};

/// The name of the interface of a virtual router.
pub fn virtual_interface_name(family: Family, vrid: u8) -> Name {
    match family {
        Family::V4 => format!("vrrp.{vrid}").into(),
        Family::V6 => format!("vrrp6.{vrid}").into(),
    }
}

/// Those that were made here.
#[derive(Debug, Default)]
pub(super) struct VirtualInterfaces {
    /// By name.
    made: BTreeMap<Name, VirtualInterface>,
    /// By name of an interface beneath: what [`BENEATH`] was before.
    before: BTreeMap<Name, Vec<String>>,
    silence: Silence,
}

impl VirtualInterfaces {
    /// Makes one and brings it up. One that is there, from a process that was killed, is used if it is the same.
    pub(super) fn make(
        &mut self,
        netlink: &mut Netlink,
        links: &Links,
        wanted: VirtualInterface,
    ) -> Result<()> {
        let result = self.ensure(netlink, links, &wanted);
        self.made.insert(wanted.name.clone(), wanted);
        result
    }

    /// Makes those again that are not there any more though the interface beneath is: name and result of each.
    pub(super) fn keep(&mut self, netlink: &mut Netlink, links: &Links) -> Vec<(Name, Result<()>)> {
        let missing: Vec<_> = self
            .made
            .values()
            .filter(|made| links.named(&made.on).is_some() && links.named(&made.name).is_none())
            .cloned()
            .collect();
        missing
            .into_iter()
            .map(|wanted| (wanted.name.clone(), self.ensure(netlink, links, &wanted)))
            .collect()
    }

    fn ensure(
        &mut self,
        netlink: &mut Netlink,
        links: &Links,
        wanted: &VirtualInterface,
    ) -> Result<()> {
        let beneath = links
            .named(&wanted.on)
            .ok_or_else(|| Error::from(Errno::NODEV))?
            .index;
        let existing = links.named(&wanted.name);
        let same = existing
            .is_some_and(|link| link.macvlan_on == Some(beneath) && link.mac == Some(wanted.mac));
        if let Some(link) = existing
            && !same
        {
            if !is_ours(link) {
                let taken = format!("another interface is called {}", wanted.name);
                return Err(Error::new(ErrorKind::AlreadyExists, taken));
            }
            delete(netlink, link.index)?;
        }
        let before = self.before(&wanted.on)?;
        if !same {
            let mut body = link_request(0, 0, 0).to_vec();
            body.extend(text(IFLA_IFNAME, &wanted.name));
            body.extend(attribute(IFLA_LINK, &beneath.to_ne_bytes()));
            body.extend(attribute(IFLA_ADDRESS, &wanted.mac));
            let mode = attribute(IFLA_MACVLAN_MODE, &MODE_PRIVATE.to_ne_bytes());
            body.extend(nested(
                IFLA_LINKINFO,
                &[
                    text(IFLA_INFO_KIND, "macvlan"),
                    nested(IFLA_INFO_DATA, &[mode]),
                ],
            ));
            match netlink.change(NEW_LINK, NLM_F_CREATE | NLM_F_EXCL, &body) {
                Err(error) if is(&error, Errno::EXIST) => {}
                result => result?,
            }
        }
        let mut body = link_request(0, 0, 0).to_vec();
        body.extend(text(IFLA_IFNAME, &wanted.name));
        body.extend(attribute(IFLA_IFALIAS, before.as_bytes()));
        netlink.change(NEW_LINK, 0, &body)?;
        prepare(wanted)?;
        // A kernel without nf_tables: it is up all the same, and what could not be done is told.
        let silenced = self.silence.impose(&wanted.name);
        let mut body = link_request(0, UP, UP).to_vec();
        body.extend(text(IFLA_IFNAME, &wanted.name));
        netlink.change(NEW_LINK, 0, &body)?;
        silenced.map_err(|error| {
            let text = format!("its IGMP and MLD reports cannot be kept back: {error}");
            Error::new(error.kind(), text)
        })
    }

    /// Removes one; that it is not there is fine.
    pub(super) fn remove(
        &mut self,
        netlink: &mut Netlink,
        links: &Links,
        name: &str,
    ) -> Result<()> {
        if let Some(link) = links.named(name).filter(|link| is_ours(link)) {
            delete(netlink, link.index)?;
        }
        let gone = self.made.remove(name);
        if gone.is_some() {
            // Without nf_tables there is nothing to lift.
            let _ = self.silence.lift(name);
        }
        if let Some(gone) = gone
            && !self.made.values().any(|other| other.on == gone.on)
            && let Some(values) = self.before.remove(&gone.on)
            && links.named(&gone.on).is_some()
        {
            restore(&gone.on, &values)?;
        }
        Ok(())
    }

    /// Names of those that are there.
    pub(super) fn names(&self) -> Vec<Name> {
        self.made.keys().cloned().collect()
    }

    /// What the settings of an interface were before the first of those on it, as it is written on each of them.
    fn before(&mut self, on: &Name) -> Result<String> {
        let values = match self.before.get(on) {
            Some(values) => values.clone(),
            None => BENEATH
                .iter()
                .map(|(key, _)| sysctl::get("ipv4", on, key))
                .collect::<Result<Vec<_>>>()?,
        };
        let words = BENEATH.iter().zip(&values);
        let words: Vec<_> = words
            .map(|((key, _), value)| format!("{key}={value}"))
            .collect();
        self.before.insert(on.clone(), values);
        Ok(format!("{ALIAS}{}", words.join(" ")))
    }
}

/// Whether this is an interface that a process like this one has made.
pub(super) fn is_ours(link: &Link) -> bool {
    let Some([0, 0, 0x5e, 0, kind @ (1 | 2), vrid]) = link.mac else {
        return false;
    };
    let family = if kind == 1 { Family::V4 } else { Family::V6 };
    link.macvlan_on.is_some() && *virtual_interface_name(family, vrid) == *link.name
}

/// Removes one that a process which was killed has left, and has the interface beneath as it was.
pub(super) fn remove_left(netlink: &mut Netlink, links: &Links, link: &Link) -> Result<()> {
    delete(netlink, link.index)?;
    // Where nf_tables cannot be used there is nothing to lift.
    let _ = Silence::default().lift(&link.name);
    let written = link
        .alias
        .as_deref()
        .and_then(|text| text.strip_prefix(ALIAS));
    let beneath = link.macvlan_on.and_then(|index| links.numbered(index));
    let (Some(written), Some(beneath)) = (written, beneath) else {
        return Ok(());
    };
    let values: Option<Vec<String>> = BENEATH
        .iter()
        .map(|(key, _)| {
            let mut words = written.split(' ').filter_map(|word| word.split_once('='));
            let value = words.find(|(name, _)| name == key)?.1;
            value.parse::<u8>().ok().map(|value| value.to_string())
        })
        .collect();
    values.map_or(Ok(()), |values| restore(&beneath.name, &values))
}

fn restore(beneath: &str, values: &[String]) -> Result<()> {
    for ((key, _), value) in BENEATH.iter().zip(values) {
        sysctl::set("ipv4", beneath, key, value)?;
    }
    Ok(())
}

fn prepare(wanted: &VirtualInterface) -> Result<()> {
    let name: &str = &wanted.name;
    if fs::exists("/proc/sys/net/ipv6")? {
        // Nobody but the virtual router speaks IPv6 here. 1 = no link-local address by itself.
        sysctl::set("ipv6", name, "addr_gen_mode", "1")?;
        sysctl::set("ipv6", name, "accept_ra", "0")?;
        sysctl::set("ipv6", name, "autoconf", "0")?;
    }
    for (key, value) in BENEATH {
        sysctl::set("ipv4", &wanted.on, key, value)?;
    }
    sysctl::set("ipv4", name, "arp_ignore", "1")?;
    // The route back to whoever asks is through the interface beneath.
    sysctl::set("ipv4", name, "arp_filter", "0")?;
    sysctl::set("ipv4", name, "accept_local", "1")?;
    allow_loose_paths()?;
    sysctl::set("ipv4", name, "rp_filter", "0")?;
    Ok(())
}

/// Linux filters by the stricter of an interface's `rp_filter` and that of `all`. Moves the latter into each interface,
/// which changes nothing for them, so that one can be exempt.
fn allow_loose_paths() -> Result<()> {
    let all: u8 = sysctl::get("ipv4", "all", "rp_filter")?
        .parse()
        .unwrap_or(0);
    if all == 0 {
        return Ok(());
    }
    for entry in fs::read_dir("/proc/sys/net/ipv4/conf")? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| *name != "all") else {
            continue;
        };
        // One that vanishes meanwhile needs nothing.
        let own =
            sysctl::get("ipv4", name, "rp_filter").map_or(all, |own| own.parse().unwrap_or(0));
        if own < all {
            sysctl::set("ipv4", name, "rp_filter", &all.to_string())?;
        }
    }
    sysctl::set("ipv4", "all", "rp_filter", "0").map(|_| ())
}

fn delete(netlink: &mut Netlink, index: u32) -> Result<()> {
    match netlink.change(DELETE_LINK, 0, &link_request(index, 0, 0)) {
        Err(error) if is(&error, Errno::NODEV) => Ok(()),
        result => result,
    }
}

/// The interface beneath must answer ARP for its own addresses only, and must not ask with an address of the one above
/// as the sender, which teaches those who are asked its own MAC.
const BENEATH: [(&str, &str); 2] = [("arp_ignore", "1"), ("arp_announce", "2")];
/// How what is written on an interface begins; then the settings beneath as they were.
const ALIAS: &str = "sluice-vrrp ";
const IFLA_INFO_DATA: u16 = 2;
const IFLA_MACVLAN_MODE: u16 = 1;
const MODE_PRIVATE: u32 = 1;
