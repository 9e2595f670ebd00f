//! What a DPDK process leaves behind when it dies: its runtime directory and its hugepage files.
//!
//! A process that is killed cannot tidy up, and its hugepages stay taken. Before the next start they are removed, but
//! only if no living process holds them: DPDK locks `config` (a record lock), the other files and every hugepage file
//! (`flock`) for as long as it runs.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock, flock};

use super::eal::Eal;

/// Why nothing, or not everything, was removed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// It would be this process's own.
    #[error("DPDK is running in this process")]
    OwnProcess,
    /// A prefix is part of file names.
    #[error("`{0}` is not a file prefix")]
    Prefix(String),
    /// A living process has the prefix.
    #[error("another DPDK process holds {}", .0.display())]
    InUse(PathBuf),
    /// The file system refused.
    #[error("cannot clear {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Removes what a dead process with this `--file-prefix` (DPDK's default is `rte`) left, and says what that was. To be called
/// before [`Eal::init`]. Removes nothing if a living process holds any of it.
pub fn remove_stale_runtime(prefix: &str) -> Result<Vec<PathBuf>, RuntimeError> {
    // Closing a file drops all record locks that this process has on it, also DPDK's.
    if Eal::get().is_some() {
        return Err(RuntimeError::OwnProcess);
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    clear(&runtime_directory(), &hugetlbfs_mounts(&mounts), prefix)
}

/// Removes what this process itself would leave, for one that is about to exit and cannot clean EAL up because a driver
/// keeps buffers (`net_af_xdp`). What is mapped stays usable to the end.
pub fn remove_own_runtime(prefix: &str) -> Result<Vec<PathBuf>, RuntimeError> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let leavings = Leavings::of(&runtime_directory(), &hugetlbfs_mounts(&mounts), prefix)?;
    leavings.remove()
}

/// As DPDK chooses it.
fn runtime_directory() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/run/dpdk");
    }
    std::env::var_os("XDG_RUNTIME_DIR")
        .map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
        .join("dpdk")
}

fn hugetlbfs_mounts(mounts: &str) -> Vec<PathBuf> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (path, kind) = (words.next()?, words.next()?);
            (kind == "hugetlbfs").then(|| PathBuf::from(path))
        })
        .collect()
}

fn clear(
    runtime: &Path,
    hugetlbfs: &[PathBuf],
    prefix: &str,
) -> Result<Vec<PathBuf>, RuntimeError> {
    let leavings = Leavings::of(runtime, hugetlbfs, prefix)?;
    // Once all is locked by us nobody can start to use it before it is gone.
    let held = leavings.lock()?;
    let removed = leavings.remove();
    drop(held);
    removed
}

/// What a process with a certain prefix has in the file system.
struct Leavings {
    directory: Option<PathBuf>,
    pages: Vec<PathBuf>,
}

impl Leavings {
    fn of(runtime: &Path, hugetlbfs: &[PathBuf], prefix: &str) -> Result<Self, RuntimeError> {
        if prefix.is_empty() || prefix.starts_with('.') || prefix.contains('/') {
            return Err(RuntimeError::Prefix(prefix.to_owned()));
        }
        let mut pages = Vec::new();
        for mount in hugetlbfs {
            pages.extend(
                entries(mount)?
                    .into_iter()
                    .filter(|path| is_page_of(path, prefix)),
            );
        }
        Ok(Self {
            directory: Some(runtime.join(prefix)).filter(|directory| directory.is_dir()),
            pages,
        })
    }

    /// Locks every file, or fails because a living process holds one.
    fn lock(&self) -> Result<Vec<File>, RuntimeError> {
        let mut held = Vec::new();
        if let Some(directory) = &self.directory {
            for path in entries(directory)? {
                // Sockets have no lock, and are not opened.
                if path.is_file() {
                    held.extend(lock(&path)?);
                }
            }
        }
        for path in &self.pages {
            held.extend(lock(path)?);
        }
        Ok(held)
    }

    fn remove(self) -> Result<Vec<PathBuf>, RuntimeError> {
        for path in &self.pages {
            fs::remove_file(path).map_err(|source| RuntimeError::Io {
                path: path.clone(),
                source,
            })?;
        }
        let mut removed = self.pages;
        if let Some(directory) = self.directory {
            fs::remove_dir_all(&directory).map_err(|source| RuntimeError::Io {
                path: directory.clone(),
                source,
            })?;
            removed.push(directory);
        }
        Ok(removed)
    }
}

/// `<prefix>map_<number>`, in DPDK's hugepage directories.
fn is_page_of(path: &Path, prefix: &str) -> bool {
    path.file_name()
        .and_then(|name| name.to_str()?.strip_prefix(prefix)?.strip_prefix("map_"))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, RuntimeError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    read().map_err(|source| RuntimeError::Io {
        path: directory.to_owned(),
        source,
    })
}

/// Takes both kinds of lock on a file; none if the file has vanished.
fn lock(path: &Path) -> Result<Option<File>, RuntimeError> {
    let failed = |source| RuntimeError::Io {
        path: path.to_owned(),
        source,
    };
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let locks = [
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive),
        flock(&file, FlockOperation::NonBlockingLockExclusive),
    ];
    for result in locks {
        match result {
            Ok(()) => {}
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                return Err(RuntimeError::InUse(path.to_owned()));
            }
            Err(e) => return Err(failed(e.into())),
        }
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own for each test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("run/sluice")).expect("temporary directory");
            fs::create_dir_all(path.join("huge")).expect("temporary directory");
            fs::write(path.join("run/sluice/config"), "c").expect("file");
            for page in [
                "sluicemap_0",
                "sluicemap_17",
                "rtemap_0",
                "sluicemap_",
                "sluicemap_x",
            ] {
                fs::write(path.join("huge").join(page), "p").expect("file");
            }
            Self(path)
        }

        fn clear(&self, prefix: &str) -> Result<Vec<PathBuf>, RuntimeError> {
            clear(&self.0.join("run"), &[self.0.join("huge")], prefix)
        }

        fn pages(&self) -> usize {
            entries(&self.0.join("huge")).expect("directory").len()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn what_a_dead_process_left_is_removed_and_nothing_else() {
        let place = Place::new("dead");
        assert_eq!(place.clear("sluice").expect("cleared").len(), 3);
        assert_eq!(place.pages(), 3);
        assert!(!place.0.join("run/sluice").exists());
        assert!(place.clear("sluice").expect("nothing left").is_empty());
    }

    #[test]
    fn a_held_page_or_directory_keeps_everything() {
        let place = Place::new("alive");
        for name in ["huge/sluicemap_17", "run/sluice/config"] {
            let held = File::open(place.0.join(name)).expect("file");
            flock(&held, FlockOperation::LockShared).expect("lock");
            assert!(
                matches!(place.clear("sluice"), Err(RuntimeError::InUse(path)) if path.ends_with(name))
            );
            assert_eq!(place.pages(), 5);
            assert!(place.0.join("run/sluice/config").exists());
        }
    }

    #[test]
    fn a_prefix_cannot_leave_the_directory() {
        for prefix in ["", ".", "..", "a/b", "../x"] {
            assert!(matches!(
                clear(Path::new("/nonexistent"), &[], prefix),
                Err(RuntimeError::Prefix(_))
            ));
        }
    }

    #[test]
    fn hugetlbfs_mounts_are_found_among_others() {
        let mounts = "proc /proc proc rw 0 0\nhugetlbfs /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n\
                      none /mnt/huge1g hugetlbfs rw 0 0\nhugetlbfs /x tmpfs rw 0 0\n";
        assert_eq!(
            hugetlbfs_mounts(mounts),
            [
                PathBuf::from("/dev/hugepages"),
                PathBuf::from("/mnt/huge1g")
            ]
        );
    }
}
