//! Interface settings under /proc/sys/net that forwarding by somebody else needs.
//!
//! The files belong to the network namespace of the process. Invariant: only what differs is
//! written, so that a read-only /proc/sys whose values are right is no error.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Which half of /proc/sys/net.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Half {
    /// `net/ipv4/conf`.
    Ipv4,
    /// `net/ipv6/conf`.
    Ipv6,
}

/// Prepares the TAP of a port: no ICMP redirects (a real server behind the same port would be sent
/// past the balancer), no reverse path filter (replies of DR take another way), and an interface
/// that loses its first address keeps the others.
pub fn prepare_port(interface: &str) -> Result<()> {
    // Linux combines `all` and the interface: OR for send_redirects, the maximum for rp_filter.
    for name in ["all", interface] {
        set(Half::Ipv4, name, "send_redirects", "0")?;
        set(Half::Ipv4, name, "rp_filter", "0")?;
    }
    set(Half::Ipv4, interface, "promote_secondaries", "1")?;
    Ok(())
}

/// Switches IPv6 off on an interface that must not speak; `true` if it was on. A kernel without
/// IPv6 is fine.
pub fn disable_ipv6(interface: &str) -> Result<bool> {
    match set(Half::Ipv6, interface, "disable_ipv6", "1") {
        Err(error) if error.kind() == ErrorKind::NotFound && !has_ipv6() => Ok(false),
        result => result,
    }
}

/// Makes room for `neighbours` entries in the kernel's tables, which hold 1024 by default and then
/// refuse new ones. Never lowers a limit. Other namespaces than the first share its limits and
/// cannot see them; there nothing is done.
pub fn make_room_for_neighbours(neighbours: usize) -> Result<()> {
    // Twice as many: clients on the link are entries too.
    let wanted = neighbours.saturating_mul(2);
    for half in ["ipv4", "ipv6"] {
        // Largest first: the kernel wants them in order at any moment.
        for (key, share) in [("gc_thresh3", 1), ("gc_thresh2", 2), ("gc_thresh1", 8)] {
            let path: PathBuf = ["/proc/sys/net", half, "neigh/default", key]
                .iter()
                .collect();
            let Ok(current) = fs::read_to_string(&path) else {
                continue;
            };
            let wanted = wanted / share;
            if current
                .trim()
                .parse()
                .is_ok_and(|have: usize| have < wanted)
            {
                write(&path, &wanted.to_string())?;
            }
        }
    }
    Ok(())
}

/// Sets `net.ipvX.conf.INTERFACE.KEY`, unless it has that value already; `true` if it was changed.
pub fn set(half: Half, interface: &str, key: &str, value: &str) -> Result<bool> {
    let path = path(half, interface, key)?;
    let current = fs::read_to_string(&path).map_err(|error| describe(&path, value, &error))?;
    if current.trim() == value {
        return Ok(false);
    }
    write(&path, value).map(|()| true)
}

fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).map_err(|error| describe(path, value, &error))
}

fn describe(path: &Path, value: &str, error: &Error) -> Error {
    Error::new(
        error.kind(),
        format!("{} = {value}: {error}", path.display()),
    )
}

/// Reads `net.ipvX.conf.INTERFACE.KEY`.
pub fn get(half: Half, interface: &str, key: &str) -> Result<String> {
    Ok(fs::read_to_string(path(half, interface, key)?)?
        .trim()
        .to_owned())
}

fn path(half: Half, interface: &str, key: &str) -> Result<PathBuf> {
    if interface.is_empty() || interface.contains('/') || matches!(interface, "." | "..") {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("{interface:?} is not an interface name"),
        ));
    }
    let half = match half {
        Half::Ipv4 => "ipv4",
        Half::Ipv6 => "ipv6",
    };
    Ok(["/proc/sys/net", half, "conf", interface, key]
        .iter()
        .collect())
}

fn has_ipv6() -> bool {
    PathBuf::from("/proc/sys/net/ipv6").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_directory_are_refused() {
        for name in ["", "..", "a/b", "."] {
            let error = get(Half::Ipv4, name, "rp_filter").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
        }
    }
}
