//! The C library's heap, which Rust's allocations come from.

/// Lets the heap of the process have two arenas at most; false if it cannot be told. To be called
/// before there is a second thread. The environment variable `MALLOC_ARENA_MAX` has precedence.
///
/// Control builds a table in one thread and frees it in another. With an arena for each of many
/// threads, of which none is given back to the system, a hundred tables of 100 000 real servers
/// took 2.4 GB at their worst, and take 1.2 with two arenas.
pub fn limit_heap_arenas() -> bool {
    if std::env::var_os("MALLOC_ARENA_MAX").is_some() {
        return true;
    }
    // SAFETY: sets a number in libc, which has a lock of its own.
    unsafe { dpdk_sys::mallopt(dpdk_sys::M_ARENA_MAX, 2) == 1 }
}
