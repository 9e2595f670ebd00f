//! Interface settings under /proc/sys/net that forwarding by somebody else needs.
//!
//! The files belong to the network namespace of the process. Invariant: only what differs is
//! written, so that a read-only /proc/sys whose values are right is no error.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::PathBuf;

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
    set(Half::Ipv4, interface, "promote_secondaries", "1")
}

/// Switches IPv6 off on an interface that must not speak. A kernel without IPv6 is fine.
pub fn disable_ipv6(interface: &str) -> Result<()> {
    match set(Half::Ipv6, interface, "disable_ipv6", "1") {
        Err(error) if error.kind() == ErrorKind::NotFound && !has_ipv6() => Ok(()),
        result => result,
    }
}

/// Sets `net.ipvX.conf.INTERFACE.KEY`, unless it has that value already.
pub fn set(half: Half, interface: &str, key: &str, value: &str) -> Result<()> {
    let path = path(half, interface, key)?;
    let report = |error: Error| {
        Error::new(
            error.kind(),
            format!("{} = {value}: {error}", path.display()),
        )
    };
    if fs::read_to_string(&path).map_err(report)?.trim() == value {
        return Ok(());
    }
    fs::write(&path, value).map_err(report)
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
