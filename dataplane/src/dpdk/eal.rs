//! The environment abstraction layer (EAL): DPDK's memory, devices and lcores, once per process.
//!
//! Invariants kept here:
//! - `rte_eal_init` runs at most once, whatever threads call [`Eal::init`].
//! - EAL pins the thread that initialises it, and threads inherit that. The CPU set is saved before and restored after, so
//!   that a runtime built later still sees all CPUs.
//! - Memory is unmapped ([`Eal::cleanup`]) only when no [`Lease`] is left and every pool is full.

use std::ffi::{CStr, CString, NulError, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{fs, io};

use super::error::Errno;
use super::mempool::Mempool;

/// Proof that DPDK is initialised. There is one, and it lives as long as the process.
#[derive(Debug)]
pub struct Eal {
    tsc_hz: u64,
    /// Every pool ever created, for the leak check at the end.
    pools: Mutex<Vec<&'static Mempool>>,
}

/// Why DPDK could not be initialised, or cannot be shut down.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// There is one EAL per process and life.
    #[error("DPDK is already initialised in this process")]
    AlreadyInitialised,
    /// An argument cannot be a C string.
    #[error("DPDK argument holds a NUL byte: {0}")]
    Argument(#[from] NulError),
    /// `rte_eal_init` refused; it has logged the details to stderr.
    #[error("DPDK does not initialise with `{args}`: {errno}")]
    Init {
        /// The arguments, joined by blanks.
        args: String,
        /// DPDK's reason.
        errno: Errno,
    },
    /// The CPU set of the calling thread cannot be read or restored.
    #[error("cannot read or restore the CPU set of the initialising thread: {0}")]
    Affinity(#[source] rustix::io::Errno),
    /// `Eal::init` has not run, or failed.
    #[error("DPDK is not initialised")]
    NotInitialised,
    /// `Eal::cleanup` has run.
    #[error("DPDK is shut down")]
    ShutDown,
    /// Something would outlive the memory it lives in.
    #[error(
        "DPDK is still in use: {leases} ports, rings or lcores, {mbufs} mbufs out of their pools"
    )]
    InUse {
        /// Ports, rings and running lcores.
        leases: usize,
        /// Buffers that are not in their pool.
        mbufs: usize,
    },
    /// `rte_eal_cleanup` reported an error.
    #[error("DPDK does not shut down: {0}")]
    Cleanup(Errno),
}

/// An EAL lcore: a thread of DPDK's, pinned as the arguments say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LcoreId(pub(super) u32);

impl LcoreId {
    /// The number, as in the EAL's `-l` argument.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The lcore that runs the caller; none on a thread that is not EAL's.
    pub fn current() -> Option<Self> {
        // SAFETY: reads a thread-local of libdpdk.
        let id = unsafe { dpdk_sys::dpdk_lcore_id() };
        (id != dpdk_sys::LCORE_ID_ANY).then_some(Self(id))
    }
}

static EAL: OnceLock<Eal> = OnceLock::new();
static INITIALISING: Mutex<()> = Mutex::new(());

impl Eal {
    /// Initialises DPDK with these EAL arguments (without a program name).
    ///
    /// The calling thread becomes the main lcore, but keeps its CPU set. DPDK logs to stderr and syslog, and prints its
    /// usage if it does not know an argument.
    pub fn init(args: &[String]) -> Result<&'static Self, EalError> {
        let _guard = INITIALISING.lock().unwrap_or_else(PoisonError::into_inner);
        if EAL.get().is_some() {
            return Err(EalError::AlreadyInitialised);
        }
        let mut argv = vec![CString::from(c"sluiced")];
        for arg in args {
            argv.push(CString::new(arg.as_str())?);
        }
        // EAL permutes this array, writes into it, and keeps pointers to some of the strings: they are given away for good,
        // a few hundred bytes once per process.
        let mut argv: Vec<*mut c_char> = argv.into_iter().map(CString::into_raw).collect();
        argv.push(std::ptr::null_mut());
        let argc = i32::try_from(argv.len() - 1).unwrap_or(i32::MAX);

        let cpus = rustix::thread::sched_getaffinity(None).map_err(EalError::Affinity)?;
        // SAFETY: `argv` holds `argc` valid, writable, never freed strings and a terminating null; the lock makes this the
        // only call.
        let code = unsafe { dpdk_sys::rte_eal_init(argc, argv.as_mut_ptr()) };
        let errno = Errno::last();
        let restored = rustix::thread::sched_setaffinity(None, &cpus);
        if code < 0 {
            return Err(EalError::Init {
                args: args.join(" "),
                errno,
            });
        }
        // SAFETY: EAL is initialised.
        let tsc_hz = unsafe { dpdk_sys::rte_get_tsc_hz() };
        let eal = EAL.get_or_init(|| Self {
            tsc_hz,
            pools: Mutex::new(Vec::new()),
        });
        restored.map_err(EalError::Affinity)?;
        Ok(eal)
    }

    /// The environment, if it is initialised.
    pub fn get() -> Option<&'static Self> {
        EAL.get()
    }

    /// Time-stamp counter ticks per second.
    pub fn tsc_hz(&self) -> u64 {
        self.tsc_hz
    }

    /// The time-stamp counter now (see [`tsc`]).
    pub fn tsc(&self) -> u64 {
        tsc()
    }

    /// DPDK's version, as in `DPDK 22.11.11`.
    pub fn version(&self) -> String {
        // SAFETY: returns a static NUL-terminated string.
        unsafe { CStr::from_ptr(dpdk_sys::rte_version()) }
            .to_string_lossy()
            .into_owned()
    }

    /// Where DPDK keeps its sockets and, unless told not to, its shared files for this `--file-prefix`.
    pub fn runtime_directory(&self) -> PathBuf {
        // SAFETY: returns a static NUL-terminated string, written once by the initialisation.
        let path = unsafe { CStr::from_ptr(dpdk_sys::rte_eal_get_runtime_dir()) };
        PathBuf::from(OsStr::from_bytes(path.to_bytes()))
    }

    /// The worker lcores: all but the main one, in ascending order.
    pub fn lcores(&self) -> Vec<LcoreId> {
        // SAFETY: EAL is initialised; the functions read its table, which never changes afterwards.
        let next = |from| unsafe { dpdk_sys::rte_get_next_lcore(from, 1, 0) };
        let mut lcores = Vec::new();
        let mut id = next(u32::MAX);
        while id < dpdk_sys::RTE_MAX_LCORE {
            lcores.push(LcoreId(id));
            id = next(id);
        }
        lcores
    }

    /// The NUMA node of an lcore.
    pub fn socket_id(&self, lcore: LcoreId) -> u32 {
        // SAFETY: EAL is initialised, and lcore ids come from it.
        unsafe { dpdk_sys::rte_lcore_to_socket_id(lcore.0) }
    }

    /// How many buffers are out of their pools, over all pools.
    pub fn mbufs_in_use(&self) -> usize {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools
            .iter()
            .map(|pool| pool.capacity() - pool.available())
            .sum()
    }

    /// Shuts DPDK down, unmaps its memory and removes its runtime directory. Ports must be closed, rings dropped, lcores
    /// joined and every mbuf be back in its pool: otherwise nothing happens and the error says what is left.
    ///
    /// DPDK 22.11's `net_af_xdp` keeps the buffers of its fill ring for ever, closed or not: after it, this always refuses,
    /// and the process just exits. The next start clears the directory then.
    ///
    /// DPDK cannot be initialised again in this process. Pools are empty for ever afterwards.
    pub fn cleanup(&self) -> Result<(), EalError> {
        let mbufs = self.mbufs_in_use();
        if mbufs > 0 {
            return Err(EalError::InUse {
                leases: LEASES.load(Ordering::Acquire),
                mbufs,
            });
        }
        match LEASES.compare_exchange(0, SHUT_DOWN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {}
            Err(SHUT_DOWN) => return Err(EalError::ShutDown),
            Err(leases) => return Err(EalError::InUse { leases, mbufs }),
        }
        let runtime = self.runtime_directory();
        // SAFETY: no lease is left and none can be taken any more, no mbuf is out, and pools look at `is_shut_down` before
        // they touch their memory.
        Errno::check(unsafe { dpdk_sys::rte_eal_cleanup() }).map_err(EalError::Cleanup)?;
        // DPDK leaves its directory behind, for nobody.
        match fs::remove_dir_all(&runtime) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {e}", runtime.display());
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn register(&self, pool: &'static Mempool) {
        self.pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(pool);
    }
}

/// The time-stamp counter: about 20 cycles, not serialising. Ticks at [`Eal::tsc_hz`].
#[inline(always)]
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction, and Linux leaves it enabled.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Number of leases, or `SHUT_DOWN`.
static LEASES: AtomicUsize = AtomicUsize::new(0);
const SHUT_DOWN: usize = usize::MAX;

/// Whether EAL's memory is gone (or about to be).
#[inline]
pub(super) fn is_shut_down() -> bool {
    LEASES.load(Ordering::Relaxed) == SHUT_DOWN
}

/// Held by whatever lives in EAL's memory or runs on its threads; keeps [`Eal::cleanup`] from pulling it away.
#[derive(Debug)]
pub(super) struct Lease(());

impl Lease {
    /// A lease; an error before the initialisation and after the shutdown.
    pub(super) fn take() -> Result<Self, EalError> {
        if EAL.get().is_none() {
            return Err(EalError::NotInitialised);
        }
        LEASES
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n != SHUT_DOWN).then(|| n + 1)
            })
            .map_or(Err(EalError::ShutDown), |_| Ok(Self(())))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        LEASES.fetch_sub(1, Ordering::AcqRel);
    }
}
