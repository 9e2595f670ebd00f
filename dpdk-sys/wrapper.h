/* What dpdk-sys binds: DPDK's headers, a switch of the C library's, and one-line helpers for what is a macro in C. No logic. */
#include <malloc.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_hash.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_version.h>

/* `rte_errno` is a macro over a thread-local of libdpdk. */
static inline int dpdk_errno(void)
{
	return rte_errno;
}

/* `rte_lcore_id()` reads a thread-local of libdpdk. */
static inline unsigned int dpdk_lcore_id(void)
{
	return rte_lcore_id();
}

/* Bindgen leaves it out, `lib.rs` has it. */
_Static_assert(RTE_ETH_RSS_L3_SRC_ONLY == 1ULL << 63, "RTE_ETH_RSS_L3_SRC_ONLY");
