//! The admin socket's place in the file system.
//!
//! The socket is made under a temporary name, given its owner and mode there and renamed into
//! place, so that it is never reachable with other permissions. It is 0660 root:`admin_group`; the
//! monitor group is let in by a POSIX ACL entry rather than by opening the mode to everyone
//! (`ls -l` goes on to say `rw-rw----+`). Where the file system knows no ACLs monitors cannot
//! connect, which is said once in the log. What a caller may do is decided in
//! [`access`](super::access), not here.

use super::access::AccessGroups;
use rustix::fs::{XattrFlags, setxattr};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A listening admin socket; dropping it removes the file, if it still is the same one.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
}

impl AdminSocket {
    /// Makes and binds the socket at `path`, replacing what a dead process left there. Needs no
    /// runtime.
    pub fn bind(path: &Path, groups: AccessGroups) -> Result<Self, SocketError> {
        let failed = |what, source| SocketError::Io {
            path: path.to_owned(),
            what,
            source,
        };
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)
                .map_err(|e| failed("cannot make its directory", e))?;
        }
        refuse_occupied(path)?;

        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("cannot remove a remnant", error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&temporary).map_err(|e| failed("cannot bind", e))?;
        let identity = restrict(&temporary, groups)
            .and_then(|()| listener.set_nonblocking(true))
            .and_then(|()| std::fs::rename(&temporary, path))
            .and_then(|()| std::fs::symlink_metadata(path))
            .map(|metadata| (metadata.dev(), metadata.ino()))
            .map_err(|error| {
                let _ = std::fs::remove_file(&temporary);
                failed("cannot set it up", error)
            })?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Why the socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers on it.
    #[error("another sluiced is running: it answers on {}", .0.display())]
    AlreadyRunning(PathBuf),
    /// Something that is not a socket has the name.
    #[error("{} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The file system refuses.
    #[error("admin socket {}: {what}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// A socket nobody listens on is left from a killed process and may be replaced.
fn refuse_occupied(path: &Path) -> Result<(), SocketError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        // A full backlog (EAGAIN) or a refused permission also means that somebody is there.
        _ => Err(SocketError::AlreadyRunning(path.to_owned())),
    }
}

fn restrict(path: &Path, groups: AccessGroups) -> io::Result<()> {
    if let Some(admin) = groups.admin {
        // Only root may give files away; a daemon run by a user for a test keeps its own group.
        match std::os::unix::fs::chown(path, None, Some(admin)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                log::warn!("admin: cannot give the socket to group {admin}: {error}");
            }
            other => other?,
        }
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    if let Some(monitor) = groups.monitor
        && let Err(error) = setxattr(path, ACL, &acl_for_group(monitor), XattrFlags::empty())
    {
        log::warn!("admin: the monitor group cannot connect, no ACL on the socket: {error}");
    }
    Ok(())
}

const ACL: &str = "system.posix_acl_access";

/// `u::rw-, g::rw-, g:GROUP:rw-, m::rw-, o::---` in the kernel's form (`linux/posix_acl_xattr.h`):
/// a version word, then tag, permissions and id of each entry, little endian, in order of tag.
fn acl_for_group(group: u32) -> Vec<u8> {
    const VERSION: u32 = 2;
    const NO_ID: u32 = u32::MAX;
    const READ_WRITE: u16 = 6;
    let entries: [(u16, u16, u32); 5] = [
        (0x01, READ_WRITE, NO_ID),
        (0x04, READ_WRITE, NO_ID),
        (0x08, READ_WRITE, group),
        (0x10, READ_WRITE, NO_ID),
        (0x20, 0, NO_ID),
    ];
    let mut acl = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}
