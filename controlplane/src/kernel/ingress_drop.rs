//! Hides from Linux what arrives on an interface: an nf_tables chain at its ingress whose policy is
//! to drop.
//!
//! Packet sockets are served before the ingress hook, so `net_af_packet` still gets every frame.
//! nf_tables rather than tc, because the chain alone does it: no classifier and no action, which
//! small kernels lack. Each has a table of the `netdev` family of its own, owned by a socket: the
//! kernel removes it when the socket closes, so a killed process leaves no deaf interface behind
//! (`NFT_TABLE_F_OWNER`, Linux 5.12).

use super::netlink::is;
use rustix::io::Errno;
use std::io::{Error, Result};
use vrrp::driver::nf_tables::{Change, DROP, Family, Hook, NfTables, Table};

/// Linux sees nothing of what arrives on an interface while this lives.
#[derive(Debug)]
#[must_use = "dropping it lets Linux see the interface again"]
pub struct IngressDrop {
    owner: NfTables,
    table: String,
    interface: String,
}

impl IngressDrop {
    /// Drops what arrives on `interface` before Linux sees it.
    pub fn set(interface: &str) -> Result<Self> {
        Self::install(interface).map_err(|error| describe(interface, &error))
    }

    /// Lets Linux see again what arrives. Dropping does the same and says nothing of failures.
    pub fn release(mut self) -> Result<()> {
        let delete = table(&self.table).delete();
        self.owner
            .transaction(&[delete])
            .map_err(|error| describe(&self.interface, &error))
    }

    fn install(interface: &str) -> Result<Self> {
        let mut owner = NfTables::open()?;
        let name = format!("sluice-{}", owner.id()?);
        let table = table(&name);
        let mut make = |create: Change| {
            let chain = table.chain(interface, Hook::Ingress(interface), DROP);
            owner.transaction(&[create, chain])
        };
        match make(table.create_owned()) {
            // A kernel before 5.12: the table stays if the process is killed.
            Err(error) if is(&error, Errno::INVAL) || is(&error, Errno::OPNOTSUPP) => {
                make(table.create())?;
            }
            result => result?,
        }
        Ok(Self {
            owner,
            table: name,
            interface: interface.to_owned(),
        })
    }
}

fn table(name: &str) -> Table<'_> {
    Table {
        family: Family::Netdev,
        name,
    }
}

fn describe(interface: &str, error: &Error) -> Error {
    Error::new(
        error.kind(),
        format!("cannot change the ingress filter of {interface} (nf_tables): {error}"),
    )
}
