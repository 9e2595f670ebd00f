//! What has been done to the netdevs beneath ports, on disk for as long as it has to be undone.
//!
//! A process that is killed cannot give back the addresses `--take-over` moved, nor switch IPv6 on
//! again; the box might not be reachable any more. The next start reads the record and does it
//! before it looks at the netdevs. Invariant: the record is written before the deed, and undoing
//! what was not done changes nothing.

use super::link::Links;
use super::netlink::Rtnl;
use super::sysctl::{self, Half};
use super::take_over::TakeOver;
use super::view::KernelRoute;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// The record of a running process.
#[derive(Debug)]
pub struct LeftBehind {
    path: PathBuf,
    netdevs: Vec<Netdev>,
}

/// What was done to one netdev. Names, not indices: interfaces may be made anew.
#[derive(Debug, Serialize, Deserialize)]
struct Netdev {
    interface: String,
    /// IPv6 was on.
    ipv6: bool,
    taken: Option<Taken>,
}

/// What was moved to the kernel interface of the port.
#[derive(Debug, Serialize, Deserialize)]
struct Taken {
    kernel_interface: String,
    addresses: Vec<IpNet>,
    routes: Vec<KernelRoute>,
}

impl LeftBehind {
    /// Nothing done yet but what could not be undone; the file is written with the first entry.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            netdevs: read(path).unwrap_or_default(),
        }
    }

    /// The addresses of `interface` are about to move to `kernel_interface`.
    pub fn taking(
        &mut self,
        interface: &str,
        kernel_interface: &str,
        plan: &TakeOver,
    ) -> Result<()> {
        let taken = Taken {
            kernel_interface: kernel_interface.to_owned(),
            addresses: plan.addresses.clone(),
            routes: plan.routes.clone(),
        };
        // Two devices may share a netdev.
        self.netdev(interface).taken.get_or_insert(taken);
        self.save()
    }

    /// IPv6 of `interface` is about to be switched off.
    pub fn silencing(&mut self, interface: &str) -> Result<()> {
        let on = sysctl::get(Half::Ipv6, interface, "disable_ipv6").is_ok_and(|off| off == "0");
        self.netdev(interface).ipv6 |= on;
        self.save()
    }

    /// All of it has been undone.
    pub fn forget(self) -> Result<()> {
        remove(&self.path)
    }

    fn netdev(&mut self, interface: &str) -> &mut Netdev {
        let known = self.netdevs.iter().position(|n| n.interface == interface);
        let index = known.unwrap_or_else(|| {
            self.netdevs.push(Netdev {
                interface: interface.to_owned(),
                ipv6: false,
                taken: None,
            });
            self.netdevs.len() - 1
        });
        &mut self.netdevs[index]
    }

    /// Replaced at once: a process killed here leaves the old one or the new one.
    fn save(&self) -> Result<()> {
        let draft = self.path.with_extension("new");
        std::fs::write(&draft, serde_json::to_vec_pretty(&self.netdevs)?)?;
        std::fs::rename(&draft, &self.path)
    }
}

/// Undoes what the record at `path` says, if there is one. What could not be done stays in it, for
/// the next time, and is returned, one sentence each.
pub async fn undo(path: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let netdevs = match read(path) {
        Ok(netdevs) => netdevs,
        Err(error) => {
            problems.push(format!("{}: {error}", path.display()));
            Vec::new()
        }
    };
    let mut record = LeftBehind {
        path: path.to_owned(),
        netdevs: Vec::new(),
    };
    for netdev in netdevs {
        match netdev.undo().await {
            Ok(()) => log::info!(
                "gave back {}, left by a process that died",
                netdev.interface
            ),
            Err(error) => {
                problems.push(format!("giving back {}: {error}", netdev.interface));
                record.netdevs.push(netdev);
            }
        }
    }
    let kept = if record.netdevs.is_empty() {
        remove(path)
    } else {
        record.save()
    };
    if let Err(error) = kept {
        problems.push(format!("{}: {error}", path.display()));
    }
    problems
}

impl Netdev {
    async fn undo(&self) -> Result<()> {
        let rtnl = Rtnl::connect()?;
        let links = Links::new(rtnl.clone());
        let Some(link) = links.find(&self.interface).await? else {
            return Ok(());
        };
        // The addresses come back whether this works or not.
        let ipv6 = if self.ipv6 {
            sysctl::set(Half::Ipv6, &self.interface, "disable_ipv6", "0").map(|_| ())
        } else {
            Ok(())
        };
        let Some(taken) = &self.taken else {
            return ipv6;
        };
        let tap = links.find(&taken.kernel_interface).await?;
        let plan = TakeOver {
            from: link.index,
            // No interface has the number 0.
            to: tap.map_or(0, |tap| tap.index),
            addresses: taken.addresses.clone(),
            routes: taken.routes.clone(),
        };
        plan.give_back(&rtnl).await.and(ipv6)
    }
}

fn read(path: &Path) -> Result<Vec<Netdev>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(Error::from),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
