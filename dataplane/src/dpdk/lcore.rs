//! Running a function on an EAL lcore.
//!
//! Workers run on EAL's own threads: pinned, with a mempool cache each, and known to `dpdk-pdump` and the like.
//!
//! Invariant: no panic unwinds into C. A worker that panics takes the process down at once, with its message: half a
//! dataplane that looks alive would be worse, and the VRRP peer takes over.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::eal::{self, EalError, LcoreId};
use super::error::Errno;

/// A function running on an lcore. Dropping it lets the function run on.
#[derive(Debug)]
#[must_use = "a worker nobody joins may outlive what it uses"]
pub struct Running {
    lcore: LcoreId,
    done: Arc<Done>,
}

/// Why nothing was launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// DPDK is not up.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// The main lcore is the thread that initialised EAL; nothing can be launched there.
    #[error("lcore {} is the main lcore", .0.number())]
    Main(LcoreId),
    /// The lcore runs something already.
    #[error("lcore {} is busy", .0.number())]
    Busy(LcoreId),
    /// DPDK's pipe to the lcore failed.
    #[error("cannot launch on lcore {}: {errno}", lcore.number())]
    Launch {
        /// The lcore.
        lcore: LcoreId,
        /// DPDK's reason.
        errno: Errno,
    },
}

/// Runs `work` on a worker lcore (one of [`Eal::lcores`](super::Eal::lcores)).
pub fn launch(
    lcore: LcoreId,
    work: impl FnOnce() + Send + 'static,
) -> Result<Running, LaunchError> {
    /// DPDK checks and sets an lcore's state without a lock.
    static LAUNCHING: Mutex<()> = Mutex::new(());

    let lease = eal::Lease::take()?;
    // SAFETY: EAL is up while the lease is held.
    if lcore.number() == unsafe { dpdk_sys::rte_get_main_lcore() } {
        return Err(LaunchError::Main(lcore));
    }
    let done = Arc::new(Done::default());
    let task = Box::new(Task {
        work: Box::new(work),
        done: Arc::clone(&done),
        lease,
    });
    let argument = Box::into_raw(task);
    let code = {
        let _guard = LAUNCHING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: a worker lcore of EAL's; `entry` takes exactly such an argument, and takes it once.
        unsafe { dpdk_sys::rte_eal_remote_launch(Some(entry), argument.cast(), lcore.number()) }
    };
    match Errno::check(code) {
        Ok(_) => Ok(Running { lcore, done }),
        Err(errno) => {
            // SAFETY: nothing was launched, so the argument is still ours.
            drop(unsafe { Box::from_raw(argument) });
            Err(if errno == Errno::BUSY {
                LaunchError::Busy(lcore)
            } else {
                LaunchError::Launch { lcore, errno }
            })
        }
    }
}

impl Running {
    /// The lcore it runs on.
    pub fn lcore(&self) -> LcoreId {
        self.lcore
    }

    /// Whether the function has returned.
    pub fn is_finished(&self) -> bool {
        *self
            .done
            .flag
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, asleep, until the function has returned; afterwards the lcore can be launched again.
    pub fn join(self) {
        let mut flag = self
            .done
            .flag
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while !*flag {
            flag = self
                .done
                .changed
                .wait(flag)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(flag);
        // DPDK's own wait spins; now it only has the few instructions between `entry` and the idle state to bridge.
        // SAFETY: a worker lcore of EAL's.
        unsafe { dpdk_sys::rte_eal_wait_lcore(self.lcore.number()) };
    }
}

#[derive(Debug, Default)]
struct Done {
    flag: Mutex<bool>,
    changed: Condvar,
}

struct Task {
    work: Box<dyn FnOnce() + Send>,
    done: Arc<Done>,
    lease: eal::Lease,
}

unsafe extern "C" fn entry(argument: *mut c_void) -> c_int {
    // SAFETY: `launch` gave this box away to exactly this call.
    let Task { work, done, lease } = *unsafe { Box::from_raw(argument.cast::<Task>()) };
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(work)) {
        abort(&*panic);
    }
    drop(lease);
    *done.flag.lock().unwrap_or_else(PoisonError::into_inner) = true;
    done.changed.notify_all();
    0
}

fn abort(panic: &(dyn Any + Send)) -> ! {
    let reason = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let lcore = LcoreId::current().map_or(u32::MAX, LcoreId::number);
    eprintln!("fatal: the worker on lcore {lcore} panicked: {reason}");
    process::abort();
}
