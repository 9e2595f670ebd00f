//! CPUs, hugepages and memory: what the machine has, what the configuration wants, and the EAL
//! arguments that follow.

use dataplane::expected::ExpectedConnections;
use dataplane::pipeline::bytes_besides_tables;
use dataplane::template::Templates;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use thiserror::Error;

/// Bytes of a mempool object besides its data room: `rte_mbuf`, object header, trailer.
const MBUF_OVERHEAD: u64 = 128 + 64;
/// DPDK's headroom in front of every frame.
const HEADROOM: u64 = 128;
/// EAL's own needs, in bytes: rings, queues, device state.
const EAL_BASE: u64 = 96 << 20;
/// Packet buffers a queue may hold: descriptors both ways, and twice a fill ring of `net_af_xdp`.
const MBUFS_PER_QUEUE: u32 = 1024 + 1024 + 2 * 2048;
/// Packet buffers beside the queues: rings to and from Linux, the waiting room, lcore caches.
const MBUFS_BESIDES: u32 = 4096;
/// Packet buffers of a small and of a hugepage-backed box.
const MBUFS_SMALL: u32 = 16_383;
const MBUFS_LARGE: u32 = 65_535;

/// What the machine lacks; every message says what to do.
#[derive(Debug, Error)]
pub(super) enum ResourceError {
    /// A CPU that does not exist or is not allowed.
    #[error(
        "CPU {cpu} ({key}) is not usable: this process may run on CPUs {allowed}; change {key}, or the CPU set of the service"
    )]
    Cpu {
        /// The CPU.
        cpu: usize,
        /// The configuration key that names it.
        key: &'static str,
        /// CPUs that may be used.
        allowed: String,
    },
    /// `idle = busy` with a CPU used twice.
    #[error(
        "idle = busy needs a CPU for every worker, but CPU {0} would be shared; use idle = adaptive or other worker_cores"
    )]
    BusyShared(usize),
    /// `memory` is too little.
    #[error(
        "memory is too little for {queues} receive queue(s); set it to at least {wanted}MB, or leave it out"
    )]
    Memory {
        /// Megabytes needed.
        wanted: u64,
        /// Receive queues.
        queues: u32,
    },
    /// `connections` needs more memory than there is.
    #[error(
        "connections = {connections} needs {wanted} MB for the tables, but only {available} MB of memory are available; lower it"
    )]
    Connections {
        /// What is configured.
        connections: u64,
        /// Megabytes needed.
        wanted: u64,
        /// Megabytes available.
        available: u64,
    },
    /// `hugepages = yes` and not enough of them.
    #[error(
        "hugepages = yes needs {wanted} free hugepages of 2 MB, there are {free}; reserve them with: echo {wanted} > /proc/sys/vm/nr_hugepages"
    )]
    Hugepages {
        /// Pages needed.
        wanted: u64,
        /// Pages free.
        free: u64,
    },
}

/// CPUs by role.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Cpus {
    /// The control core.
    pub(super) control: usize,
    /// One per worker; workers on the same CPU share it.
    pub(super) workers: Vec<usize>,
}

impl Cpus {
    /// Resolves `control_core` and `worker_cores` (`None` = auto: every other CPU, or the control
    /// core's on a machine with one CPU) against the CPUs this process may use.
    pub(super) fn resolve(
        control: usize,
        workers: Option<&[usize]>,
        busy: bool,
        allowed: &BTreeSet<usize>,
    ) -> Result<Self, ResourceError> {
        let check = |cpu: usize, key| {
            if allowed.contains(&cpu) {
                return Ok(cpu);
            }
            Err(ResourceError::Cpu {
                cpu,
                key,
                allowed: list(allowed),
            })
        };
        let control = check(control, "control_core")?;
        let workers = if let Some(cpus) = workers {
            cpus.iter()
                .map(|cpu| check(*cpu, "worker_cores"))
                .collect::<Result<Vec<_>, _>>()?
        } else {
            let others: Vec<_> = allowed.iter().copied().filter(|c| *c != control).collect();
            if others.is_empty() {
                vec![control]
            } else {
                others
            }
        };
        let mut taken = BTreeSet::from([control]);
        if busy && let Some(shared) = workers.iter().find(|cpu| !taken.insert(**cpu)) {
            return Err(ResourceError::BusyShared(*shared));
        }
        Ok(Self { control, workers })
    }
}

/// How much packet memory to take, and from where.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Memory {
    /// Packet buffers in the pool.
    pub(super) mbufs: u32,
    /// Bytes of frame each holds, headroom included.
    pub(super) data_room: u16,
    /// Megabytes for EAL.
    pub(super) megabytes: u64,
    /// From hugepages.
    pub(super) hugepages: bool,
}

/// What `hugepages` says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hugepages {
    /// Must have them.
    Yes,
    /// Must not use them.
    No,
    /// If there are enough.
    Auto,
}

impl Memory {
    /// Sizes memory for the largest `mtu` of the ports and `queues` receive queues in all; `fixed`
    /// is `memory` in bytes, `None` = auto; `free_pages` counts free hugepages of 2 MB.
    pub(super) fn plan(
        mtu: u16,
        queues: u32,
        fixed: Option<u64>,
        hugepages: Hugepages,
        free_pages: u64,
    ) -> Result<Self, ResourceError> {
        // Ethernet header, two VLAN tags; rounded so that buffers stay cache-line sized.
        let frame = u64::from(mtu) + 14 + 8;
        let data_room = (HEADROOM + frame).next_multiple_of(64).max(2048 + HEADROOM);
        let object = |huge| {
            in_pages(
                data_room + MBUF_OVERHEAD,
                if huge { 2 << 20 } else { 4 << 10 },
            )
        };
        let bytes_for = |mbufs: u32, huge| u64::from(mbufs) * object(huge) + EAL_BASE;
        let needed = (queues * MBUFS_PER_QUEUE + MBUFS_BESIDES).next_power_of_two() - 1;
        let sizes = |huge| {
            [MBUFS_SMALL, MBUFS_LARGE]
                .map(|mbufs| fixed.unwrap_or_else(|| bytes_for(needed.max(mbufs), huge)))
        };
        let pages = |bytes: u64| bytes.div_ceil(2 << 20);
        let [small, large] = sizes(true);
        let use_huge = match hugepages {
            Hugepages::No => false,
            Hugepages::Auto => free_pages >= pages(small),
            Hugepages::Yes if free_pages < pages(small) => {
                return Err(ResourceError::Hugepages {
                    wanted: pages(small),
                    free: free_pages,
                });
            }
            Hugepages::Yes => true,
        };
        let enough = bytes_for(needed, use_huge);
        if fixed.is_some_and(|fixed| fixed < enough) {
            return Err(ResourceError::Memory {
                wanted: enough.div_ceil(1 << 20),
                queues,
            });
        }
        let bytes = if use_huge && free_pages >= pages(large) {
            large
        } else {
            sizes(use_huge)[0]
        };
        let room = bytes.saturating_sub(EAL_BASE) / object(use_huge);
        // Of the form 2^n - 1, which mempools like best.
        let mbufs = (room + 1).min(u64::from(needed.max(MBUFS_LARGE)) + 1);
        let mbufs = (1_u64 << mbufs.ilog2()) - 1;
        Ok(Self {
            mbufs: mbufs as u32,
            data_room: data_room as u16,
            megabytes: bytes.div_ceil(1 << 20),
            hugepages: use_huge,
        })
    }
}

/// Bytes of memory an object of a mempool takes: DPDK lays none across two pages if it
/// fits one, so in ordinary memory each buffer of a usual frame has a page to itself.
fn in_pages(object: u64, page: u64) -> u64 {
    match page / object {
        0 => object.next_multiple_of(page),
        each => page.div_ceil(each),
    }
}

/// Bytes a connection takes in the tables, all in; see the tests of the connection table.
const BYTES_V4: u64 = 100;
const BYTES_V6: u64 = 165;
/// A family without a service at the start gets this part of `connections`, in case a reload brings
/// one: the tables never grow, and their memory is taken whole.
const RESERVE: u64 = 4;

/// How many connections the tables of one worker hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Capacity {
    /// Its IPv4 table.
    pub(super) v4: u64,
    /// Its IPv6 table.
    pub(super) v6: u64,
}

impl Capacity {
    /// Shares `connections` out to `workers`, rounded up: in full for each family with services
    /// (for IPv4 if there are none at all), the other family gets a quarter besides.
    pub(super) fn share(connections: u64, workers: usize, v4: bool, v6: bool) -> Self {
        let full = connections.div_ceil(workers.max(1) as u64);
        let share = |served| if served { full } else { full.div_ceil(RESERVE) };
        Self {
            v4: share(v4 || !v6),
            v6: share(v6),
        }
    }
}

/// Bytes of memory that the data plane takes besides the connection tables, at most: fragments and FTP
/// control connections of each worker, announced connections, and as many persistence templates as
/// connections if any service has them.
pub(super) fn besides_tables(connections: u64, workers: usize, persistence: bool) -> u64 {
    let templates = if persistence { connections as usize } else { 0 };
    let shared = ExpectedConnections::BYTES + Templates::bytes_for(templates);
    (bytes_besides_tables() * workers + shared) as u64
}

/// Refuses a number of connections whose tables do not fit into the memory that is available, with
/// what else is taken (`besides`).
pub(super) fn check_connections(
    connections: u64,
    workers: usize,
    each: Capacity,
    besides: u64,
    available_bytes: Option<u64>,
) -> Result<(), ResourceError> {
    let tables = (each.v4 * BYTES_V4 + each.v6 * BYTES_V6) * workers as u64;
    let wanted = tables + besides;
    match available_bytes {
        Some(available) if wanted > available => Err(ResourceError::Connections {
            connections,
            wanted: wanted >> 20,
            available: available >> 20,
        }),
        Some(_) | None => Ok(()),
    }
}

/// Memory that can be had without swapping, in bytes.
pub(super) fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes << 10)
}

/// Capabilities `sluiced` needs, by number and name (capabilities(7)).
const CAPABILITIES: [(u32, &str); 4] = [
    (12, "NET_ADMIN"),
    (13, "NET_RAW"),
    (14, "IPC_LOCK"),
    (21, "SYS_ADMIN"),
];

/// Those a daemon without ports needs.
const CAPABILITIES_OF_VRRP: [(u32, &str); 2] = [(12, "NET_ADMIN"), (13, "NET_RAW")];

/// Names of the needed capabilities that this process lacks.
pub(super) fn missing_capabilities() -> Vec<&'static str> {
    missing(&CAPABILITIES)
}

/// The same for a daemon without ports.
pub(super) fn missing_capabilities_of_vrrp() -> Vec<&'static str> {
    missing(&CAPABILITIES_OF_VRRP)
}

fn missing(needed: &[(u32, &'static str)]) -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        // A kernel that does not say lets things fail where they do.
        .unwrap_or(u64::MAX);
    needed
        .iter()
        .filter(|(bit, _)| effective >> bit & 1 == 0)
        .map(|(_, name)| *name)
        .collect()
}

/// The EAL command line.
#[derive(Clone, Debug)]
pub(super) struct EalPlan<'a> {
    /// `--file-prefix`.
    pub(super) prefix: &'a str,
    /// CPUs.
    pub(super) cpus: &'a Cpus,
    /// Memory.
    pub(super) memory: Memory,
    /// True if a hugetlbfs is mounted, so that shared hugepage files can be used.
    pub(super) hugetlbfs: bool,
    /// PCI addresses and vdev strings of all ports.
    pub(super) devices: &'a [String],
    /// `eal_args`, last so that they win.
    pub(super) extra: &'a [String],
}

impl EalPlan<'_> {
    /// The arguments, without a program name.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut lcores = format!("0@{}", self.cpus.control);
        for (index, cpu) in self.cpus.workers.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(lcores, ",{}@{cpu}", index + 1);
        }
        let mut arguments = vec![
            format!("--lcores={lcores}"),
            "--main-lcore=0".to_owned(),
            format!("--file-prefix={}", self.prefix),
            "--no-telemetry".to_owned(),
            "--log-level=warning".to_owned(),
            format!("-m{}", self.memory.megabytes),
        ];
        if !self.memory.hugepages {
            arguments.extend(["--no-huge", "--no-shconf"].map(str::to_owned));
        } else if !self.hugetlbfs {
            arguments.push("--in-memory".to_owned());
        }
        let (pci, vdevs): (Vec<_>, Vec<_>) = self.devices.iter().partition(|d| is_pci(d));
        if pci.is_empty() {
            arguments.extend(["--no-pci", "--iova-mode=va"].map(str::to_owned));
        }
        arguments.extend(pci.iter().map(|device| format!("--allow={device}")));
        arguments.extend(vdevs.iter().map(|device| format!("--vdev={device}")));
        arguments.extend_from_slice(self.extra);
        arguments
    }
}

/// True for `0000:3b:00.0` and `3b:00.0`.
pub(super) fn is_pci(device: &str) -> bool {
    let name = device.split(',').next().unwrap_or_default();
    name.contains(':')
        && name
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.')
}

/// Receive queues a device can have of those wanted, as far as its own arguments tell: some drivers
/// have one unless they are told otherwise. Others are known only once EAL is up.
pub(super) fn queues(device: &str, wanted: u16) -> u16 {
    let mut parts = device.split(',').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let key = if name.starts_with("net_af_xdp") {
        "queue_count="
    } else if name.starts_with("net_af_packet") {
        "qpairs="
    } else {
        return wanted.max(1);
    };
    let told = parts
        .find_map(|part| part.strip_prefix(key))
        .and_then(|count| count.trim().parse().ok());
    wanted.min(told.unwrap_or(1)).max(1)
}

/// DPDK's name of a device given as a PCI address or a vdev string.
pub(super) fn device_name(device: &str) -> String {
    let name = device.split(',').next().unwrap_or_default();
    if is_pci(name) && name.matches(':').count() == 1 {
        return format!("0000:{name}");
    }
    name.to_owned()
}

/// The `--file-prefix` in effect: one given in `eal_args`, else one derived from the admin socket,
/// so that two daemons on one box have two.
pub(super) fn eal_prefix(admin_socket: &Path, extra: &[String]) -> String {
    let mut words = extra.iter();
    while let Some(word) = words.next() {
        if let Some(prefix) = word.strip_prefix("--file-prefix=") {
            return prefix.to_owned();
        }
        if word == "--file-prefix"
            && let Some(prefix) = words.next()
        {
            return prefix.clone();
        }
    }
    if admin_socket == Path::new("/run/sluice/admin.sock") {
        return "sluice".to_owned();
    }
    // FNV-1a: stable over versions, and the prefix stays short.
    let hash = admin_socket
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("sluice-{:08x}", hash as u32)
}

/// CPUs this process may run on.
pub(super) fn allowed_cpus() -> BTreeSet<usize> {
    core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect()
}

/// Free hugepages of 2 MB.
pub(super) fn free_hugepages() -> u64 {
    fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// True if a hugetlbfs with 2 MB pages is mounted.
pub(super) fn hugetlbfs_mounted() -> bool {
    fs::read_to_string("/proc/mounts").is_ok_and(|mounts| {
        mounts
            .lines()
            .filter(|line| line.split(' ').nth(2) == Some("hugetlbfs"))
            .any(|line| line.contains("pagesize=2M"))
    })
}

fn list(cpus: &BTreeSet<usize>) -> String {
    let words: Vec<_> = cpus.iter().map(usize::to_string).collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(cpus: &[usize]) -> BTreeSet<usize> {
        cpus.iter().copied().collect()
    }

    #[test]
    fn auto_takes_every_cpu_but_the_control_core() {
        let cpus = Cpus::resolve(0, None, false, &allowed(&[0, 1, 2])).unwrap();
        assert_eq!(cpus.workers, [1, 2]);
        let one = Cpus::resolve(0, None, false, &allowed(&[0])).unwrap();
        assert_eq!(one.workers, [0], "a box with one CPU shares it");
    }

    #[test]
    fn a_missing_cpu_is_named_with_its_key() {
        let error = Cpus::resolve(0, Some(&[7]), false, &allowed(&[0, 1])).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("CPU 7 (worker_cores)") && text.contains("0,1"),
            "{text}"
        );
    }

    #[test]
    fn a_busy_worker_may_not_share_the_control_core() {
        assert!(Cpus::resolve(0, None, true, &allowed(&[0])).is_err());
    }

    #[test]
    fn workers_may_share_a_cpu_unless_they_are_busy() {
        let two = allowed(&[0, 1]);
        let cpus = Cpus::resolve(0, Some(&[0, 1, 1]), false, &two).unwrap();
        assert_eq!(cpus.workers, [0, 1, 1]);
        let error = Cpus::resolve(0, Some(&[1, 1]), true, &two).unwrap_err();
        assert!(error.to_string().contains("CPU 1 would be shared"));
    }

    #[test]
    fn hugepages_are_used_if_there_are_enough_and_demanded_only_by_yes() {
        let none = Memory::plan(1500, 1, None, Hugepages::Auto, 0).unwrap();
        assert!(!none.hugepages);
        assert_eq!(none.mbufs, MBUFS_SMALL);
        let many = Memory::plan(1500, 1, None, Hugepages::Auto, 1000).unwrap();
        assert!(many.hugepages);
        assert_eq!(many.mbufs, MBUFS_LARGE);
        assert!(Memory::plan(1500, 1, None, Hugepages::Yes, 3).is_err());
    }

    #[test]
    fn many_queues_get_more_buffers_and_too_little_memory_is_said() {
        let plan = Memory::plan(1500, 8, None, Hugepages::No, 0).unwrap();
        assert!(plan.mbufs >= 8 * MBUFS_PER_QUEUE, "{plan:?}");
        let error = Memory::plan(1500, 8, Some(64 << 20), Hugepages::No, 0).unwrap_err();
        assert!(error.to_string().contains("8 receive queue(s)"), "{error}");
    }

    #[test]
    fn ordinary_memory_has_a_page_for_every_buffer() {
        let plan = Memory::plan(1500, 8, None, Hugepages::No, 0).unwrap();
        let pages = u64::from(plan.mbufs) * 4096;
        assert!(plan.megabytes << 20 >= pages + EAL_BASE, "{plan:?}");
        let jumbo = Memory::plan(9000, 8, None, Hugepages::No, 0).unwrap();
        assert!(jumbo.megabytes << 20 >= 3 * pages + EAL_BASE, "{jumbo:?}");
        let huge = Memory::plan(1500, 8, None, Hugepages::Yes, 1000).unwrap();
        assert_eq!(huge.mbufs, plan.mbufs);
        assert!(huge.megabytes < plan.megabytes, "{huge:?}");
    }

    #[test]
    fn tables_that_do_not_fit_are_refused_in_one_sentence() {
        let check = |connections, available| {
            let each = Capacity::share(connections, 2, true, true);
            check_connections(connections, 2, each, 0, Some(available))
        };
        assert!(check(1_000_000, 1 << 30).is_ok());
        assert!(check(1_000_000, 200 << 20).is_err());
        let error = check(1_000_000_000, 8 << 30).unwrap_err();
        assert!(error.to_string().contains("8192 MB of memory"), "{error}");
    }

    #[test]
    fn what_is_not_a_table_counts_too() {
        let mib = |workers, persistence| besides_tables(1_000_000, workers, persistence) >> 20;
        let (one, two) = (mib(1, false), mib(2, false));
        // Fragments and FTP: some megabytes for each worker and for the box.
        assert!((8..128).contains(&one), "{one}");
        assert!(two > one && two < 2 * one, "{one} {two}");
        // A template is somewhat larger than a connection.
        let templates = mib(1, true) - one;
        assert!((100..400).contains(&templates), "{templates}");
        let each = Capacity::share(1000, 1, true, true);
        let check = |besides| check_connections(1000, 1, each, besides, Some(1 << 20));
        assert!(check(0).is_ok());
        assert!(check(1 << 20).is_err());
    }

    #[test]
    fn each_family_that_is_served_gets_all_connections_and_the_other_a_quarter() {
        let share = |v4, v6| {
            let each = Capacity::share(1_000_001, 2, v4, v6);
            (each.v4, each.v6)
        };
        assert_eq!(share(true, false), (500_001, 125_001));
        assert_eq!(share(false, true), (125_001, 500_001));
        assert_eq!(share(true, true), (500_001, 500_001));
        assert_eq!(share(false, false), (500_001, 125_001));
        let least = Capacity::share(1, 3, true, false);
        assert_eq!((least.v4, least.v6), (1, 1));
    }

    #[test]
    fn jumbo_frames_fit_one_buffer() {
        let plan = Memory::plan(9000, 1, None, Hugepages::No, 0).unwrap();
        assert!(plan.data_room >= 9000 + 14 + 8 + 128);
    }

    #[test]
    fn the_eal_command_line_pins_lcores_and_separates_pci_from_vdevs() {
        let cpus = Cpus {
            control: 0,
            workers: vec![1, 1],
        };
        let plan = EalPlan {
            prefix: "x",
            cpus: &cpus,
            memory: Memory::plan(1500, 1, None, Hugepages::No, 0).unwrap(),
            hugetlbfs: false,
            devices: &["net_af_xdp0,iface=dev0".to_owned()],
            extra: &["--legacy-mem".to_owned()],
        };
        let line = plan.arguments().join(" ");
        assert!(
            line.contains("--lcores=0@0,1@1,2@1 ") && line.contains("--no-huge"),
            "{line}"
        );
        assert!(
            line.contains("--vdev=net_af_xdp0,iface=dev0 --legacy-mem"),
            "{line}"
        );
        assert!(is_pci("0000:3b:00.0") && !is_pci("net_tap0"));
        assert_eq!(device_name("3b:00.0"), "0000:3b:00.0");
        assert_eq!(device_name("net_tap0,iface=x"), "net_tap0");
    }

    #[test]
    fn buffers_are_planned_for_the_queues_a_device_can_have() {
        assert_eq!(queues("net_af_xdp0,iface=eth1", 4), 1);
        assert_eq!(queues("net_af_xdp0,iface=eth1,queue_count=2", 4), 2);
        assert_eq!(queues("net_af_xdp0,iface=eth1,queue_count=8", 4), 4);
        assert_eq!(queues("net_af_packet1,iface=eth1", 4), 1);
        assert_eq!(queues("net_af_packet1,iface=eth1,qpairs=3", 4), 3);
        assert_eq!(queues("0000:3b:00.0", 4), 4);
        assert_eq!(queues("net_tap0,iface=tap0", 4), 4);
        assert_eq!(queues("net_tap0", 0), 1);
    }

    #[test]
    fn two_daemons_have_two_prefixes_unless_told_otherwise() {
        let default = eal_prefix(Path::new("/run/sluice/admin.sock"), &[]);
        assert_eq!(default, "sluice");
        assert_ne!(
            eal_prefix(Path::new("/tmp/a"), &[]),
            eal_prefix(Path::new("/tmp/b"), &[])
        );
        let told = eal_prefix(
            Path::new("/tmp/a"),
            &["--file-prefix".into(), "mine".into()],
        );
        assert_eq!(told, "mine");
    }
}
