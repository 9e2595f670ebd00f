//! Interface settings under /proc/sys/net of the calling thread's network namespace.
//!
//! Invariant: only what differs is written, so that a read-only /proc/sys whose values are right is no error.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::PathBuf;

/// Sets `net.FAMILY.conf.INTERFACE.KEY` and returns what it was.
pub(super) fn set(family: &str, interface: &str, key: &str, value: &str) -> Result<String> {
    let path = path(family, interface, key)?;
    let describe = |error: Error| {
        let path = path.display();
        Error::new(error.kind(), format!("{path} = {value}: {error}"))
    };
    let was = fs::read_to_string(&path).map_err(describe)?;
    if was.trim() != value {
        fs::write(&path, value).map_err(describe)?;
    }
    Ok(was.trim().to_owned())
}

/// Reads it.
pub(super) fn get(family: &str, interface: &str, key: &str) -> Result<String> {
    let value = fs::read_to_string(path(family, interface, key)?)?;
    Ok(value.trim().to_owned())
}

fn path(family: &str, interface: &str, key: &str) -> Result<PathBuf> {
    if interface.is_empty() || interface.contains('/') || matches!(interface, "." | "..") {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("{interface:?} is not an interface name"),
        ));
    }
    Ok(["/proc/sys/net", family, "conf", interface, key]
        .iter()
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_directory_are_refused() {
        for name in ["", "..", "a/b", "."] {
            let error = get("ipv4", name, "rp_filter").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
        }
    }
}
