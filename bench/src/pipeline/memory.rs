//! Memory per connection, all in: what the process's resident set grows by.

use super::Method;
use super::rig::{Rig, Site};
use crate::figure::Failure;
use crate::packet::Family;
use dataplane::service::Forward;
use std::fs;

const CONNECTIONS: u32 = 1 << 20;

/// Bytes per connection of a table that is full of NAT connections, which have two keys each.
pub(super) fn per_connection(method: Method, family: Family) -> Result<f64, Failure> {
    let site = |connections| Site::new(family, Forward::Nat, connections);
    // What is needed once whatever the size of the table.
    let mut small = Rig::new(site(4096), method.clock);
    small.open(4096)?;
    let before = resident()?;
    let mut full = Rig::new(site(CONNECTIONS as usize), method.clock);
    full.open(CONNECTIONS)?;
    let after = resident()?;
    if full.world.pipeline.connections() != CONNECTIONS as usize {
        return Err("the table did not take as many connections as it has room for".into());
    }
    drop(small);
    Ok((after - before) / f64::from(CONNECTIONS))
}

/// Bytes of physical memory this process has.
fn resident() -> Result<f64, Failure> {
    const PAGE: f64 = 4096.0;
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm
        .split(' ')
        .nth(1)
        .ok_or("/proc/self/statm has no second field")?;
    let huge = reserved_hugepages()?;
    Ok(pages.parse::<f64>()? * PAGE + huge)
}

/// Bytes in reserved hugepages, which the resident set leaves out.
fn reserved_hugepages() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("HugetlbPages:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kilobytes.map_or(Ok(0.0), str::parse::<f64>)? * 1024.0)
}
