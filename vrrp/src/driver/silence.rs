//! Linux reports the groups it listens to from the interface that does, with that interface's MAC: IGMP and MLD. From a
//! virtual MAC only the Active router may speak (RFC 9568 section 7.3): a report by a Backup router teaches the switches
//! that the MAC is here, and until the Active router's next advertisement they send to the wrong box.
//!
//! One nf_tables table per virtual interface drops its reports, whatever the router is: the interface beneath reports
//! the same group on the same port. The table has no owner: an interface that a killed process left behind stays silent
//! too, while its sockets go.

use super::nf_tables::{
    ACCEPT, AT_LEAST, AT_MOST, DROP, EQUAL, Family, Hook, L4PROTO, NfTables, OUT_NAME, TRANSPORT,
    Table, compare, meta, payload, verdict,
};
use std::io::Result;

/// Keeps virtual interfaces from reporting.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Opened when first needed.
    socket: Option<NfTables>,
}

impl Silence {
    /// To be called before the interface is brought up; again is fine.
    pub(super) fn impose(&mut self, interface: &str) -> Result<()> {
        let name = table_name(interface);
        let table = table(&name);
        let mut changes = vec![
            // Deleting one that is not there would undo all of it.
            table.create(),
            table.delete(),
            table.create(),
            table.chain(CHAIN, Hook::LocalOut, ACCEPT),
        ];
        let reports = [
            vec![meta(L4PROTO), compare(EQUAL, &[IGMP])],
            icmpv6(&[compare(AT_LEAST, &[130]), compare(AT_MOST, &[132])]),
            icmpv6(&[compare(EQUAL, &[143])]),
        ];
        for report in reports {
            let out = vec![meta(OUT_NAME), compare(EQUAL, &padded(interface))];
            let expressions = [out, report, vec![verdict(DROP)]].concat();
            changes.push(table.rule(CHAIN, &expressions));
        }
        self.socket()?.transaction(&changes)
    }

    /// The interface is gone.
    pub(super) fn lift(&mut self, interface: &str) -> Result<()> {
        let name = table_name(interface);
        let table = table(&name);
        self.socket()?
            .transaction(&[table.create(), table.delete()])
    }

    fn socket(&mut self) -> Result<&mut NfTables> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => NfTables::open()?,
        };
        Ok(self.socket.insert(socket))
    }
}

fn icmpv6(types: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let start = [
        meta(L4PROTO),
        compare(EQUAL, &[ICMPV6]),
        payload(TRANSPORT, 0, 1),
    ];
    [&start[..], types].concat()
}

fn table_name(interface: &str) -> String {
    format!("sluice-{interface}")
}

fn table(name: &str) -> Table<'_> {
    Table {
        family: Family::Inet,
        name,
    }
}

/// As long as the kernel compares names.
fn padded(interface: &str) -> [u8; 16] {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().take(15).zip(interface.bytes()) {
        *to = from;
    }
    name
}

const CHAIN: &str = "output";
const IGMP: u8 = 2;
const ICMPV6: u8 = 58;
