//! Receive side scaling: how a device with several queues is told which packet goes to which worker.
//!
//! With the key and the redirection table of [`crate::steering`] and a hash over the client's end alone, a device delivers
//! every packet to the worker that owns its connection. Devices differ in what they take, so the best is tried first and
//! what was reached is read back: [`Rss`] says what the device confirms, not what it was told. Nothing here is needed for
//! correctness: workers hand over what arrives at the wrong one.
//!
//! `rte_flow` actions, by which some devices (ice, i40e, iavf) take a one-sided hash although they do not offer it for the
//! whole port, are not used: each has its own order of the hash's inputs, and what cannot be read back cannot be reported.

use std::ptr;

use dpdk_sys::{rte_eth_dev_info, rte_eth_rss_conf, rte_eth_rss_reta_entry64};

use super::error::Errno;
use crate::steering;

/// The end of a packet that a device is to hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashInput {
    /// The sender's: right where clients' requests arrive.
    Source,
    /// The receiver's: right where only replies of real servers arrive.
    Destination,
    /// Both, as usual.
    #[default]
    Both,
}

/// What a device does to spread packets over its queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum RssWay {
    /// Nothing that it would tell of.
    #[default]
    Off,
    /// It keeps each direction of a connection on a queue of its own choice.
    Spread,
    /// It delivers each packet to the worker that owns the connection.
    Owner,
}

/// Receive side scaling as the device confirms it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rss {
    /// What comes of it.
    pub way: RssWay,
    /// Hash inputs in force, as `RTE_ETH_RSS_*`; 0 if it hashes nothing or does not say.
    pub types: u64,
    /// The key is [`steering::KEY`].
    pub key: bool,
    /// Entries of its redirection table, if they are those asked for; else 0.
    pub table: u16,
}

/// Queues and workers that a device is to serve.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) input: HashInput,
    pub(super) queues: u16,
    pub(super) workers: u8,
}

/// What to try on a device that has several queues, the best first; nothing if it offers no hash. Some drivers refuse what
/// they offer: the last resort, no receive side scaling, is the caller's.
pub(super) fn attempts(
    info: &rte_eth_dev_info,
    input: HashInput,
) -> impl Iterator<Item = rte_eth_rss_conf> {
    types(info.flow_type_rss_offloads, input).flat_map(|types| {
        let without_key = rte_eth_rss_conf {
            rss_hf: types,
            ..Default::default()
        };
        [conf(types, info), without_key]
    })
}

/// Hash inputs to try with a device that offers these, the best first; none if it offers none.
fn types(offered: u64, input: HashInput) -> impl Iterator<Item = u64> {
    let both = offered & PROTOCOLS;
    let only = one_sided(input);
    let narrowed = (only != 0 && offered & only == only).then_some(both | only);
    narrowed
        .into_iter()
        .chain([both])
        .filter(move |_| both != 0)
}

/// The configuration for these hash inputs, with the key if it is of a length the device takes.
fn conf(types: u64, info: &rte_eth_dev_info) -> rte_eth_rss_conf {
    let length = key_length(info);
    rte_eth_rss_conf {
        // Drivers keep the pointer until they start, and only read.
        rss_key: length.map_or(ptr::null_mut(), |_| KEY.as_ptr().cast_mut()),
        rss_key_len: length.unwrap_or(0),
        rss_hf: types,
    }
}

/// Writes the redirection table, and the key where the device did not take it with its configuration, and says what the
/// device confirms. `types` are the hash inputs it was configured with; it is started and nobody polls it.
pub(super) fn settle(port: u16, info: &rte_eth_dev_info, types: u64, target: Target) -> Rss {
    let mut found = read_hash(port, info);
    if found.is_some_and(|(_, key)| !key) {
        let mut wanted = conf(types, info);
        // SAFETY: a started port; the structure and the key are only read.
        let code = unsafe { dpdk_sys::rte_eth_dev_rss_hash_update(port, &raw mut wanted) };
        if Errno::check(code).is_ok() {
            found = read_hash(port, info);
        }
    }
    let table = write_table(port, info.reta_size, target);
    let (types, key) = found.unwrap_or_default();
    Rss {
        way: way(types, key, table, target),
        types,
        key,
        table,
    }
}

/// What comes of hash inputs, key and table that a device confirms.
fn way(types: u64, key: bool, table: u16, target: Target) -> RssWay {
    let only = one_sided(target.input);
    if types & PROTOCOLS == 0 {
        RssWay::Off
    } else if only != 0
        && types & ONE_SIDED == only
        && key
        && target.queues >= u16::from(target.workers)
        && steering::table_agrees(table, target.workers)
    {
        RssWay::Owner
    } else {
        RssWay::Spread
    }
}

/// The queue that entry `slot` of a redirection table names. Queue `n` is worker `n`'s.
fn slot_queue(slot: u16, target: Target) -> u16 {
    if target.queues >= u16::from(target.workers) {
        u16::from(steering::slot_owner(slot & (steering::SLOTS - 1), target.workers).0)
    } else {
        slot % target.queues.max(1)
    }
}

/// Hash inputs in force and whether the key is ours, if the device says.
fn read_hash(port: u16, info: &rte_eth_dev_info) -> Option<(u64, bool)> {
    // Drivers write a key of their own length.
    let mut key = [0_u8; u8::MAX as usize];
    let mut found = rte_eth_rss_conf {
        rss_key: key.as_mut_ptr(),
        rss_key_len: u8::MAX,
        rss_hf: 0,
    };
    // SAFETY: a valid port; there is room for any key.
    let code = unsafe { dpdk_sys::rte_eth_dev_rss_hash_conf_get(port, &raw mut found) };
    Errno::check(code).ok()?;
    let ours = key_length(info).is_some_and(|length| {
        let length = usize::from(length);
        key[..length] == steering::KEY[..length]
    });
    Some((found.rss_hf, ours))
}

/// Writes the redirection table and reads it back. Returns its size if it is as written, else 0.
fn write_table(port: u16, size: u16, target: Target) -> u16 {
    if size == 0 {
        return 0;
    }
    let wanted = table(size, target);
    let mut copy = wanted.clone();
    // SAFETY: a started port; the table is of the size named.
    let written = unsafe { dpdk_sys::rte_eth_dev_rss_reta_update(port, copy.as_mut_ptr(), size) };
    for group in &mut copy {
        group.reta.fill(u16::MAX);
    }
    // SAFETY: as above.
    let read = unsafe { dpdk_sys::rte_eth_dev_rss_reta_query(port, copy.as_mut_ptr(), size) };
    let entries = |table: &[rte_eth_rss_reta_entry64]| -> Vec<u16> {
        let all = table.iter().flat_map(|group| group.reta);
        all.take(size.into()).collect()
    };
    if written == 0 && read == 0 && entries(&copy) == entries(&wanted) {
        size
    } else {
        0
    }
}

/// A redirection table of `size` entries, in DPDK's groups of 64.
fn table(size: u16, target: Target) -> Vec<rte_eth_rss_reta_entry64> {
    let group = dpdk_sys::RTE_ETH_RETA_GROUP_SIZE as u16;
    let mut table = vec![rte_eth_rss_reta_entry64::default(); size.div_ceil(group).into()];
    for slot in 0..size {
        let entries = &mut table[usize::from(slot / group)];
        entries.mask |= 1 << (slot % group);
        entries.reta[usize::from(slot % group)] = slot_queue(slot, target);
    }
    table
}

/// Bytes of the key this device takes, if ours is long enough.
fn key_length(info: &rte_eth_dev_info) -> Option<u8> {
    match info.hash_key_size {
        // Of a driver that does not say; older ones all took 40.
        0 => Some(SHORTEST_KEY),
        size if (SHORTEST_KEY..=steering::KEY.len() as u8).contains(&size) => Some(size),
        _ => None,
    }
}

fn one_sided(input: HashInput) -> u64 {
    match input {
        HashInput::Source => SOURCE_ONLY,
        HashInput::Destination => DESTINATION_ONLY,
        HashInput::Both => 0,
    }
}

/// At an address of its own for as long as the process lives.
static KEY: [u8; steering::KEY.len()] = steering::KEY;

const SHORTEST_KEY: u8 = 40;

const PROTOCOLS: u64 =
    dpdk_sys::RTE_ETH_RSS_IP | dpdk_sys::RTE_ETH_RSS_TCP | dpdk_sys::RTE_ETH_RSS_UDP;
const SOURCE_ONLY: u64 = dpdk_sys::RTE_ETH_RSS_L3_SRC_ONLY | dpdk_sys::RTE_ETH_RSS_L4_SRC_ONLY;
const DESTINATION_ONLY: u64 = dpdk_sys::RTE_ETH_RSS_L3_DST_ONLY | dpdk_sys::RTE_ETH_RSS_L4_DST_ONLY;
const ONE_SIDED: u64 = SOURCE_ONLY | DESTINATION_ONLY;

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: Target = Target {
        input: HashInput::Source,
        queues: 3,
        workers: 3,
    };

    #[test]
    fn a_one_sided_hash_is_tried_first_where_it_is_offered_whole() {
        let tried = |offered, input| types(offered, input).collect::<Vec<_>>();
        let mlx5 = PROTOCOLS | ONE_SIDED;
        assert_eq!(
            tried(mlx5, HashInput::Source),
            [PROTOCOLS | SOURCE_ONLY, PROTOCOLS]
        );
        assert_eq!(
            tried(mlx5, HashInput::Destination),
            [PROTOCOLS | DESTINATION_ONLY, PROTOCOLS]
        );
        assert_eq!(tried(mlx5, HashInput::Both), [PROTOCOLS]);
        let half = PROTOCOLS | dpdk_sys::RTE_ETH_RSS_L3_SRC_ONLY;
        assert_eq!(tried(half, HashInput::Source), [PROTOCOLS]);
        let some = dpdk_sys::RTE_ETH_RSS_TCP;
        assert_eq!(tried(some, HashInput::Source), [some]);
        assert!(tried(0, HashInput::Source).is_empty());
    }

    #[test]
    fn each_hash_is_tried_with_our_key_and_then_with_the_devices_own() {
        // SAFETY: the structure is plain numbers and pointers, for which zero is a value.
        let mut info: rte_eth_dev_info = unsafe { std::mem::zeroed() };
        let tried = |info: &_| {
            attempts(info, HashInput::Source)
                .map(|conf| (conf.rss_hf, conf.rss_key_len))
                .collect::<Vec<_>>()
        };
        assert_eq!(tried(&info), []);
        info.flow_type_rss_offloads = PROTOCOLS | SOURCE_ONLY;
        let narrowed = PROTOCOLS | SOURCE_ONLY;
        let expected = [
            (narrowed, 40),
            (narrowed, 0),
            (PROTOCOLS, 40),
            (PROTOCOLS, 0),
        ];
        assert_eq!(tried(&info), expected);
    }

    #[test]
    fn packets_reach_their_owner_only_if_everything_is_confirmed() {
        let types = PROTOCOLS | SOURCE_ONLY;
        assert_eq!(way(types, true, 512, CLIENTS), RssWay::Owner);
        let spread = [
            way(types, false, 512, CLIENTS),
            way(types, true, 0, CLIENTS),
            way(types, true, 128, CLIENTS),
            way(PROTOCOLS, true, 512, CLIENTS),
            way(PROTOCOLS | DESTINATION_ONLY, true, 512, CLIENTS),
            way(PROTOCOLS | ONE_SIDED, true, 512, CLIENTS),
            way(
                types,
                true,
                512,
                Target {
                    queues: 2,
                    ..CLIENTS
                },
            ),
            way(
                PROTOCOLS,
                true,
                512,
                Target {
                    input: HashInput::Both,
                    ..CLIENTS
                },
            ),
        ];
        assert_eq!(spread, [RssWay::Spread; 8]);
        assert_eq!(way(0, true, 512, CLIENTS), RssWay::Off);
    }

    #[test]
    fn the_table_names_the_owners_queue_and_uses_all_queues_if_there_are_fewer() {
        let entries = |target| {
            let table = table(1024, target);
            assert!(table.iter().all(|group| group.mask == u64::MAX));
            table
                .iter()
                .flat_map(|group| group.reta)
                .collect::<Vec<_>>()
        };
        let wide = entries(CLIENTS);
        for (slot, queue) in wide.iter().enumerate() {
            let owner = steering::slot_owner(slot as u16 % steering::SLOTS, 3);
            assert_eq!(*queue, u16::from(owner.0));
        }
        let narrow = entries(Target {
            queues: 2,
            ..CLIENTS
        });
        assert_eq!(narrow[..4], [0, 1, 0, 1]);
        assert_eq!(table(100, CLIENTS)[1].mask, (1 << 36) - 1);
        assert!(table(0, CLIENTS).is_empty());
    }

    #[test]
    fn the_key_is_given_in_the_devices_length_or_not_at_all() {
        let given = |size| {
            // SAFETY: the structure is plain numbers and pointers, for which zero is a value.
            let mut info: rte_eth_dev_info = unsafe { std::mem::zeroed() };
            info.hash_key_size = size;
            let conf = conf(PROTOCOLS, &info);
            (conf.rss_key.is_null(), conf.rss_key_len)
        };
        assert_eq!(given(0), (false, 40));
        assert_eq!(given(40), (false, 40));
        assert_eq!(given(52), (false, 52));
        assert_eq!(given(16), (true, 0));
        assert_eq!(given(64), (true, 0));
    }
}
