//! One daemon per admin socket and per EAL prefix.
//!
//! Two daemons with the same EAL prefix would map each other's memory, two with the same admin
//! socket could not both be asked. `flock` decides: the kernel drops it when the process ends,
//! however it ends, so what a killed process leaves behind is no obstacle. The files stay: removing
//! a lock file lets a third process lock a new one while a second still waits on the old. They
//! are 0600, because whoever may open one may hold its lock.

use rustix::fs::{FlockOperation, Mode, OFlags, flock, ftruncate, open};
use rustix::io::{Errno, pread, pwrite};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where the EAL locks are.
pub const RUN_DIRECTORY: &str = "/run/sluice";

/// The locks of this process, held until dropped.
#[derive(Debug)]
pub struct InstanceLocks {
    _admin_socket: LockFile,
    _eal: LockFile,
}

impl InstanceLocks {
    /// Takes both locks: `ADMIN_SOCKET.lock` and `/run/sluice/eal-PREFIX.lock`.
    pub fn acquire(admin_socket: &Path, eal_prefix: &str) -> Result<Self, InstanceError> {
        Self::acquire_in(Path::new(RUN_DIRECTORY), admin_socket, eal_prefix)
    }

    /// The same with another directory for the EAL lock.
    pub fn acquire_in(
        run_directory: &Path,
        admin_socket: &Path,
        eal_prefix: &str,
    ) -> Result<Self, InstanceError> {
        let mut socket_lock = admin_socket.as_os_str().to_owned();
        socket_lock.push(".lock");
        Ok(Self {
            _admin_socket: LockFile::acquire(
                Path::new(&socket_lock),
                &format!("the admin socket {}", admin_socket.display()),
            )?,
            _eal: LockFile::acquire(
                &run_directory.join(format!("eal-{eal_prefix}.lock")),
                &format!("the EAL prefix {eal_prefix}"),
            )?,
        })
    }
}

/// A locked file, unlocked when dropped.
#[derive(Debug)]
pub struct LockFile(#[expect(dead_code, reason = "an open descriptor is the lock")] OwnedFd);

impl LockFile {
    /// Locks the file at `path`, made if need be, with its directory; `what` it stands for is said
    /// if another process holds it.
    pub fn acquire(path: &Path, what: &str) -> Result<Self, InstanceError> {
        let failed = |source: io::Error| InstanceError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let file = open(
            path,
            OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::RUSR | Mode::WUSR,
        )
        .map_err(|errno| failed(errno.into()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(InstanceError::Held {
                    what: what.to_owned(),
                    holder: Holder(holder(&file)),
                });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        // The number is only for the other's message.
        ftruncate(&file, 0)
            .and_then(|()| pwrite(&file, format!("{}\n", std::process::id()).as_bytes(), 0))
            .map_err(|errno| failed(errno.into()))?;
        Ok(Self(file))
    }
}

fn holder(file: &OwnedFd) -> Option<u32> {
    let mut text = [0; 16];
    let length = pread(file, &mut text, 0).ok()?;
    std::str::from_utf8(&text[..length])
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Who holds a lock, if it said so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Holder(pub Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "another sluiced (pid {pid})"),
            None => f.write_str("another sluiced"),
        }
    }
}

/// Why this process may not start.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another process is using it.
    #[error("{holder} uses {what}")]
    Held {
        /// What it uses.
        what: String,
        /// Who it is.
        holder: Holder,
    },
    /// The lock cannot be taken.
    #[error("cannot lock {}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
