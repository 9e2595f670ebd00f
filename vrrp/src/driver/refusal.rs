//! `accept = no` (RFC 9568 Accept_Mode false): Linux drops what is for these addresses, except neighbour discovery. ARP
//! is no IP and is not touched; services are forwarded before Linux sees them.
//!
//! One nf_tables chain on the input hook, replaced as a whole in one transaction. Its table is owned by the socket
//! (`NFT_TABLE_F_OWNER`, Linux 5.12): the kernel removes it when the process is killed.
//!
//! Invariant: a kernel that has no nf_tables is asked once in [`PAUSE`], not at each takeover.

use super::nf_tables::{
    ACCEPT, AT_LEAST, AT_MOST, Change, DROP, EQUAL, Family, Hook, L4PROTO, NETWORK, NFPROTO,
    NfTables, TRANSPORT, Table, compare, meta, payload, verdict,
};
use crate::settings::Name;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The addresses that are refused.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Opened when first needed: many kernels and containers never need it.
    socket: Option<NfTables>,
    installed: bool,
    /// nf_tables could not be used then, and why.
    unusable: Option<(Instant, Errno)>,
    addresses: BTreeMap<Name, Vec<IpAddr>>,
    table: String,
}

impl Refusal {
    pub(super) fn new() -> Self {
        Self {
            socket: None,
            installed: false,
            unusable: None,
            addresses: BTreeMap::new(),
            table: format!("sluice-vrrp-{}", std::process::id()),
        }
    }

    /// Refuses these addresses for a virtual router; none = accepts all of its again.
    pub(super) fn set(&mut self, router: Name, addresses: Vec<IpAddr>) -> Result<()> {
        if addresses.is_empty() {
            self.addresses.remove(&router);
        } else {
            self.addresses.insert(router, addresses);
        }
        self.install()
    }

    /// Accepts all again.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.addresses.clear();
        self.install()
    }

    fn install(&mut self) -> Result<()> {
        let table = Table {
            family: Family::Inet,
            name: &self.table,
        };
        let mut changes = Vec::new();
        if self.installed {
            changes.push(table.delete());
        }
        if !self.addresses.is_empty() {
            changes.push(table.create_owned());
            changes.push(table.chain(CHAIN, Hook::LocalIn, ACCEPT));
            changes.push(table.rule(CHAIN, &accept_neighbour_discovery()));
            for address in self.addresses.values().flatten() {
                changes.push(table.rule(CHAIN, &drop(*address)));
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        if let Some((since, why)) = self.unusable
            && since.elapsed() < PAUSE
        {
            return Err(why.into());
        }
        let result = self.commit(&changes);
        self.unusable = match &result {
            Err(error) => unusable(error).map(|why| (Instant::now(), why)),
            Ok(()) => None,
        };
        result?;
        self.installed = !self.addresses.is_empty();
        Ok(())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<()> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            None => self.socket.insert(NfTables::open()?),
        };
        socket.transaction(changes)
    }
}

/// Whether this says that nf_tables is not there, or does not answer, rather than what is wrong with a request.
fn unusable(error: &Error) -> Option<Errno> {
    let why = Errno::from_io_error(error)?;
    let all = [
        Errno::OPNOTSUPP,
        Errno::PROTONOSUPPORT,
        Errno::PERM,
        Errno::AGAIN,
    ];
    all.contains(&why).then_some(why)
}

fn drop(address: IpAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(ip) => vec![
            meta(NFPROTO),
            compare(EQUAL, &[2]),
            payload(NETWORK, 16, 4),
            compare(EQUAL, &ip.octets()),
            verdict(DROP),
        ],
        IpAddr::V6(ip) => vec![
            meta(NFPROTO),
            compare(EQUAL, &[10]),
            payload(NETWORK, 24, 16),
            compare(EQUAL, &ip.octets()),
            verdict(DROP),
        ],
    }
}

fn accept_neighbour_discovery() -> Vec<Vec<u8>> {
    vec![
        meta(NFPROTO),
        compare(EQUAL, &[10]),
        meta(L4PROTO),
        compare(EQUAL, &[58]),
        // Neighbour solicitation and advertisement.
        payload(TRANSPORT, 0, 1),
        compare(AT_LEAST, &[135]),
        compare(AT_MOST, &[136]),
        verdict(ACCEPT),
    ]
}

/// Before nf_tables is tried again where it could not be used.
const PAUSE: Duration = Duration::from_mins(1);
const CHAIN: &str = "input";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_nf_tables_is_not_asked_at_each_takeover() {
        let mut refusal = Refusal::new();
        refusal.unusable = Some((Instant::now(), Errno::OPNOTSUPP));
        let addresses = vec![IpAddr::from([10, 0, 1, 60])];
        let error = refusal.set("VI_1".into(), addresses).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP));
        assert!(refusal.socket.is_none(), "nothing was opened");
        // What is to be refused is not forgotten meanwhile.
        assert_eq!(refusal.addresses.len(), 1);
        assert!(unusable(&Errno::INVAL.into()).is_none());
    }
}
