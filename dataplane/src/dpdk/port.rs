//! A port: one Ethernet device of DPDK's, physical or virtual.
//!
//! Stopped and started ports are different types, so queues exist only while they can be polled. Invariants: a device has
//! one [`Port`] at a time; it is stopped only when none of its queues is left (each holds the same [`Claim`]).
//!
//! Starting adapts to what the device offers: fewer queues, fewer descriptors, no RSS, no VLAN stripping are taken as they
//! are, because the datapath copes with all of them in software.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info, rte_eth_rss_conf, rte_eth_rx_mq_mode};

use super::eal::{self, EalError};
use super::error::Errno;
use super::mempool::Mempool;
use super::queue::{QueuePair, RxQueue, TxQueue};
use super::rss::{self, HashInput, Rss, Target};

/// A port in the state `S`.
#[derive(Debug)]
pub struct Port<S> {
    claim: Arc<Claim>,
    name: String,
    rss: Rss,
    /// DPDK's control functions for one port are not thread safe among each other: `Send`, but not `Sync`.
    state: PhantomData<(S, Cell<()>)>,
}

/// State of a port that has no queues and passes no packets.
#[derive(Debug)]
pub enum Stopped {}

/// State of a port that passes packets.
#[derive(Debug)]
pub enum Started {}

/// How a port is to be started.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// Receive queues wanted; the port may have fewer.
    pub rx_queues: u16,
    /// Transmit queues wanted; the port may have fewer. (Some devices, `net_tap` for one, insist on equal numbers.)
    pub tx_queues: u16,
    /// Descriptors per receive queue, brought within the device's limits.
    pub rx_descriptors: u16,
    /// Descriptors per transmit queue, brought within the device's limits.
    pub tx_descriptors: u16,
    /// Largest IP packet in bytes; none leaves the device's own.
    pub mtu: Option<u16>,
    /// Accept frames to any MAC, if the device filters at all.
    pub promiscuous: bool,
    /// The end of a packet whose hash chooses the queue, if the device can be told; see [`Port::rss`].
    pub hash_input: HashInput,
    /// Workers that share the receive queues, one queue each as far as they go.
    pub workers: u8,
    /// Where received frames go.
    pub mempool: &'static Mempool,
}

impl PortConfig {
    /// One queue in each direction, 1024 descriptors, the device's MTU, promiscuous.
    pub fn new(mempool: &'static Mempool) -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: None,
            promiscuous: true,
            hash_input: HashInput::Both,
            workers: 1,
            mempool,
        }
    }
}

/// What a device is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// The driver, as in `net_ixgbe`.
    pub driver: String,
    /// NUMA node, if the device has one.
    pub socket: Option<u32>,
    /// Receive queues it can have.
    pub max_rx_queues: u16,
    /// Transmit queues it can have.
    pub max_tx_queues: u16,
    /// Receive queues it has now.
    pub rx_queues: u16,
    /// Transmit queues it has now.
    pub tx_queues: u16,
    /// Smallest MTU in bytes.
    pub min_mtu: u16,
    /// Largest MTU in bytes.
    pub max_mtu: u16,
    /// Offered receive offloads, as `RTE_ETH_RX_OFFLOAD_*`.
    pub rx_offloads: u64,
    /// Offered transmit offloads, as `RTE_ETH_TX_OFFLOAD_*`.
    pub tx_offloads: u64,
    /// Offered RSS hash inputs, as `RTE_ETH_RSS_*`.
    pub rss: u64,
    /// Index of the kernel's interface beneath (`net_tap`, `net_af_packet` and the like), if there is one.
    pub kernel_interface: Option<u32>,
}

/// State of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether there is carrier.
    pub up: bool,
    /// Megabits per second, if known.
    pub speed: Option<u32>,
    /// Both directions at once.
    pub full_duplex: bool,
}

/// The device's own counters since it was started or they were reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames lost because no worker took them out of the queue in time.
    pub rx_missed: u64,
    /// Frames received in error.
    pub rx_errors: u64,
    /// Times the mempool was empty.
    pub rx_no_mbuf: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
}

/// Why a port cannot be had, started or changed.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// DPDK is not up.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// There is no such device.
    #[error(
        "DPDK has no device `{0}`: a NIC must be given by its PCI address and be bound to vfio-pci, a virtual device by its \
         full argument string such as `net_tap0,iface=tap0`"
    )]
    NotFound(String),
    /// The device cannot be brought up.
    #[error(
        "DPDK cannot attach `{device}`: {errno}. Its log says more; a NIC must be given by its PCI address and be bound \
         to vfio-pci, a virtual device by a driver DPDK has"
    )]
    Attach {
        /// The device arguments.
        device: String,
        /// DPDK's reason.
        errno: Errno,
    },
    /// Somebody has this port already.
    #[error("device `{0}` is in use by another port")]
    InUse(String),
    /// The device cannot have this MTU.
    #[error("device `{name}` takes an MTU of {min} to {max}, not {mtu}")]
    Mtu {
        /// The port's name.
        name: String,
        /// The MTU asked for.
        mtu: u16,
        /// The smallest.
        min: u16,
        /// The largest.
        max: u16,
    },
    /// Queues still exist.
    #[error("device `{name}` cannot stop: {queues} of its queues are still in use")]
    QueuesInUse {
        /// The port's name.
        name: String,
        /// Handles not dropped yet.
        queues: usize,
    },
    /// The driver refused.
    #[error("device `{name}`: {step} failed: {errno}")]
    Driver {
        /// The port's name.
        name: String,
        /// What was tried.
        step: String,
        /// The driver's reason.
        errno: Errno,
    },
}

/// A port that did not stop, and why.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct StopError {
    /// The port, still started.
    pub port: Port<Started>,
    /// Why.
    #[source]
    pub cause: PortError,
}

impl Port<Stopped> {
    /// Takes a device that EAL knows already, by its name: a PCI address or a virtual device's name.
    pub fn by_name(name: &str) -> Result<Self, PortError> {
        Self::known(&devices(), name)
    }

    /// Takes a device given as in the configuration: a PCI address, or a virtual device with its arguments
    /// (`net_tap0,iface=tap0`). One that EAL does not know yet is attached.
    pub fn open(device: &str) -> Result<Self, PortError> {
        let name = device.split(',').next().unwrap_or(device);
        let devices = devices();
        match Self::known(&devices, name) {
            Err(PortError::NotFound(_)) => {}
            known => return known,
        }
        let _lease = eal::Lease::take()?;
        let c_device = CString::new(device).map_err(|_| PortError::NotFound(device.to_owned()))?;
        // SAFETY: EAL is up while the lease is held, and its devices are locked; the string is copied.
        let code = unsafe { dpdk_sys::rte_dev_probe(c_device.as_ptr()) };
        Errno::check(code).map_err(|errno| PortError::Attach {
            device: device.to_owned(),
            errno,
        })?;
        Self::known(&devices, name)
    }

    fn known(_devices: &MutexGuard<'_, ()>, name: &str) -> Result<Self, PortError> {
        let lease = eal::Lease::take()?;
        let not_found = || PortError::NotFound(name.to_owned());
        let c_name = CString::new(name).map_err(|_| not_found())?;
        let mut id = 0;
        // SAFETY: EAL is up while the lease is held, and its devices are locked; the name is only read.
        let code = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut id) };
        Errno::check(code).map_err(|_| not_found())?;
        let claim = Claim::take(id, lease).ok_or_else(|| PortError::InUse(name.to_owned()))?;
        Ok(Self {
            claim: Arc::new(claim),
            name: name.to_owned(),
            rss: Rss::default(),
            state: PhantomData,
        })
    }

    /// Configures and starts the port. All its queues are handed out here, once.
    pub fn start(self, config: &PortConfig) -> Result<(Port<Started>, Vec<QueuePair>), PortError> {
        let (id, raw) = (self.id(), self.raw_info()?);
        let rx_queues = config.rx_queues.clamp(1, raw.max_rx_queues.max(1));
        let tx_queues = config.tx_queues.clamp(1, raw.max_tx_queues.max(1));
        if let Some(mtu) = config.mtu {
            self.check_mtu(mtu, &raw)?;
        }
        let rss_types = {
            // Some drivers (`net_bonding`) look at every other device when theirs is configured.
            let _devices = devices();
            self.bring_up(config, &raw, rx_queues, tx_queues)?
        };

        let mut port: Port<Started> = Port {
            claim: self.claim,
            name: self.name,
            rss: Rss::default(),
            state: PhantomData,
        };
        if let Err(error) = port.set_filters(config.promiscuous) {
            // A started device without a handle could be neither stopped nor started.
            // SAFETY: a started port whose queues were not handed out.
            unsafe { dpdk_sys::rte_eth_dev_stop(id) };
            return Err(error);
        }
        if let Some(types) = rss_types {
            let target = Target {
                input: config.hash_input,
                queues: rx_queues,
                workers: config.workers,
            };
            // Some devices size their table when they are configured.
            port.rss = rss::settle(id, &port.raw_info().unwrap_or(raw), types, target);
        }
        let queues = (0..rx_queues.max(tx_queues))
            .map(|queue| QueuePair {
                rx: (queue < rx_queues).then(|| RxQueue::new(Arc::clone(&port.claim), queue)),
                tx: (queue < tx_queues).then(|| TxQueue::new(Arc::clone(&port.claim), queue)),
            })
            .collect();
        Ok((port, queues))
    }

    /// Closes the device and detaches it: its buffers go back to their pool, its name is free, and it can be opened again.
    pub fn close(self) -> Result<(), PortError> {
        let device = self.raw_info()?.device;
        let _devices = devices();
        // Dropped before the lock: DPDK gives the number of a detached port to the next device attached, which must not
        // find it claimed.
        let port = self;
        // SAFETY: a stopped port without queues, and this is its only handle.
        port.step("closing", unsafe { dpdk_sys::rte_eth_dev_close(port.id()) })?;
        // SAFETY: the device outlives its port; nobody else detaches, as the list is locked.
        port.step("detaching", unsafe { dpdk_sys::rte_dev_remove(device) })
    }

    /// Configures the queues and starts the device, with the best receive side scaling with which it starts. Returns the
    /// inputs of its hash, if there is any.
    fn bring_up(
        &self,
        config: &PortConfig,
        raw: &rte_eth_dev_info,
        rx_queues: u16,
        tx_queues: u16,
    ) -> Result<Option<u64>, PortError> {
        if rx_queues > 1 {
            for rss in rss::attempts(raw, config.hash_input) {
                if self
                    .try_to_start(config, raw, rx_queues, tx_queues, Some(rss))
                    .is_ok()
                {
                    return Ok(Some(rss.rss_hf));
                }
            }
        }
        self.try_to_start(config, raw, rx_queues, tx_queues, None)?;
        Ok(None)
    }

    fn try_to_start(
        &self,
        config: &PortConfig,
        raw: &rte_eth_dev_info,
        rx_queues: u16,
        tx_queues: u16,
        rss: Option<rte_eth_rss_conf>,
    ) -> Result<(), PortError> {
        let id = self.id();
        self.configure(config, raw, rx_queues, tx_queues, rss)?;

        let (mut rx_descriptors, mut tx_descriptors) =
            (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: a configured port; the numbers are written back.
        let code = unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(
                id,
                &raw mut rx_descriptors,
                &raw mut tx_descriptors,
            )
        };
        self.step("setting the queue sizes", code)?;
        // SAFETY: a configured port.
        let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(id) }.cast_unsigned();
        let pool = config.mempool.as_ptr();
        for queue in 0..rx_queues {
            // SAFETY: a configured port with that many queues; null stands for the driver's defaults; the pool lives as
            // long as the process.
            let code = unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(
                    id,
                    queue,
                    rx_descriptors,
                    socket,
                    ptr::null(),
                    pool,
                )
            };
            self.step(
                &format!("setting up receive queue {queue} of {rx_queues}"),
                code,
            )?;
        }
        for queue in 0..tx_queues {
            // SAFETY: as above.
            let code = unsafe {
                dpdk_sys::rte_eth_tx_queue_setup(id, queue, tx_descriptors, socket, ptr::null())
            };
            self.step(
                &format!("setting up transmit queue {queue} of {tx_queues}"),
                code,
            )?;
        }
        // SAFETY: a port whose queues are all set up.
        self.step("starting", unsafe { dpdk_sys::rte_eth_dev_start(id) })
    }

    fn configure(
        &self,
        config: &PortConfig,
        raw: &rte_eth_dev_info,
        rx_queues: u16,
        tx_queues: u16,
        rss: Option<rte_eth_rss_conf>,
    ) -> Result<(), PortError> {
        let mut conf = rte_eth_conf::default();
        conf.rxmode.mtu = config.mtu.map_or(0, u32::from);
        let mut rx_offloads = dpdk_sys::RTE_ETH_RX_OFFLOAD_VLAN_STRIP
            | dpdk_sys::RTE_ETH_RX_OFFLOAD_IPV4_CKSUM
            | dpdk_sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM
            | dpdk_sys::RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
        // Chains of segments cost the drivers their fastest paths: only where a frame does not fit a buffer.
        let frame = u32::from(config.mtu.unwrap_or(dpdk_sys::RTE_ETHER_MTU as u16)) + LINK_OVERHEAD;
        if frame > config.mempool.frame_room() {
            rx_offloads |= dpdk_sys::RTE_ETH_RX_OFFLOAD_SCATTER;
            conf.txmode.offloads = raw.tx_offload_capa & dpdk_sys::RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
        }
        conf.rxmode.offloads = raw.rx_offload_capa & rx_offloads;
        if let Some(rss) = rss {
            conf.rxmode.mq_mode = rte_eth_rx_mq_mode::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf = rss;
        }
        self.step(
            &format!("configuring {rx_queues} receive and {tx_queues} transmit queues"),
            // SAFETY: a stopped port; the configuration is copied.
            unsafe {
                dpdk_sys::rte_eth_dev_configure(self.id(), rx_queues, tx_queues, &raw const conf)
            },
        )?;
        self.apply_mtu(config.mtu)
    }

    /// Virtual devices pass the MTU on to the kernel's interface only when asked.
    fn apply_mtu(&self, mtu: Option<u16>) -> Result<(), PortError> {
        let Some(mtu) = mtu else { return Ok(()) };
        // SAFETY: a configured port.
        self.optional_step("setting the MTU", unsafe {
            dpdk_sys::rte_eth_dev_set_mtu(self.id(), mtu)
        })
    }
}

impl Port<Started> {
    /// Stops the port. All its queues must have been dropped: otherwise the port comes back with the error.
    pub fn stop(mut self) -> Result<Port<Stopped>, Box<StopError>> {
        if Arc::get_mut(&mut self.claim).is_none() {
            let queues = Arc::strong_count(&self.claim) - 1;
            let cause = PortError::QueuesInUse {
                name: self.name.clone(),
                queues,
            };
            return Err(Box::new(StopError { port: self, cause }));
        }
        // SAFETY: a started port that no queue handle refers to.
        if let Err(cause) = self.step("stopping", unsafe { dpdk_sys::rte_eth_dev_stop(self.id()) })
        {
            return Err(Box::new(StopError { port: self, cause }));
        }
        Ok(Port {
            claim: self.claim,
            name: self.name,
            rss: Rss::default(),
            state: PhantomData,
        })
    }

    /// How the device spreads packets over its queues, as it confirmed when it was started.
    pub fn rss(&self) -> Rss {
        self.rss
    }

    /// The link, without waiting for it.
    pub fn link(&self) -> Result<Link, PortError> {
        let mut raw = dpdk_sys::rte_eth_link::default();
        // SAFETY: a valid port; the structure is written.
        self.step("reading the link", unsafe {
            dpdk_sys::rte_eth_link_get_nowait(self.id(), &raw mut raw)
        })?;
        Ok(Link {
            up: u32::from(raw.link_status()) == dpdk_sys::RTE_ETH_LINK_UP,
            speed: (raw.link_speed != 0 && raw.link_speed != u32::MAX).then_some(raw.link_speed),
            full_duplex: u32::from(raw.link_duplex()) == dpdk_sys::RTE_ETH_LINK_FULL_DUPLEX,
        })
    }

    /// The device's counters.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        let mut raw = dpdk_sys::rte_eth_stats::default();
        // SAFETY: a valid port; the structure is written.
        self.step("reading the counters", unsafe {
            dpdk_sys::rte_eth_stats_get(self.id(), &raw mut raw)
        })?;
        Ok(PortStats {
            rx_packets: raw.ipackets,
            rx_bytes: raw.ibytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            rx_no_mbuf: raw.rx_nombuf,
            tx_packets: raw.opackets,
            tx_bytes: raw.obytes,
            tx_errors: raw.oerrors,
        })
    }

    /// Accepts frames to any MAC, or only to its own. Devices that have no filter take no notice.
    pub fn set_promiscuous(&mut self, on: bool) -> Result<(), PortError> {
        // SAFETY: a started port.
        let code = unsafe {
            if on {
                dpdk_sys::rte_eth_promiscuous_enable(self.id())
            } else {
                dpdk_sys::rte_eth_promiscuous_disable(self.id())
            }
        };
        self.optional_step("setting promiscuous mode", code)
    }

    fn set_filters(&mut self, promiscuous: bool) -> Result<(), PortError> {
        self.set_promiscuous(promiscuous)?;
        // VRRP, neighbour discovery and routing protocols are multicast; the worker sorts them.
        // SAFETY: a started port.
        let code = unsafe { dpdk_sys::rte_eth_allmulticast_enable(self.id()) };
        self.optional_step("accepting multicast", code)
    }

    /// Changes the MTU in bytes. Some drivers refuse while the port is started.
    pub fn set_mtu(&mut self, mtu: u16) -> Result<(), PortError> {
        self.check_mtu(mtu, &self.raw_info()?)?;
        // SAFETY: a started port.
        self.step("setting the MTU", unsafe {
            dpdk_sys::rte_eth_dev_set_mtu(self.id(), mtu)
        })
    }
}

impl<S> Port<S> {
    /// DPDK's number of the port.
    pub fn id(&self) -> u16 {
        self.claim.id
    }

    /// DPDK's name of the device.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its MAC address.
    pub fn mac(&self) -> Result<[u8; 6], PortError> {
        let mut mac = dpdk_sys::rte_ether_addr::default();
        // SAFETY: a valid port; the structure is written.
        self.step("reading the MAC", unsafe {
            dpdk_sys::rte_eth_macaddr_get(self.id(), &raw mut mac)
        })?;
        Ok(mac.addr_bytes)
    }

    /// Its MTU in bytes.
    pub fn mtu(&self) -> Result<u16, PortError> {
        let mut mtu = 0;
        // SAFETY: a valid port; the number is written.
        self.step("reading the MTU", unsafe {
            dpdk_sys::rte_eth_dev_get_mtu(self.id(), &raw mut mtu)
        })?;
        Ok(mtu)
    }

    /// What the device is and can do.
    pub fn info(&self) -> Result<PortInfo, PortError> {
        let raw = self.raw_info()?;
        // SAFETY: the driver's name is a static NUL-terminated string.
        let driver = unsafe { CStr::from_ptr(raw.driver_name) }
            .to_string_lossy()
            .into_owned();
        // SAFETY: a valid port.
        let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(self.id()) };
        Ok(PortInfo {
            driver,
            socket: u32::try_from(socket).ok(),
            max_rx_queues: raw.max_rx_queues,
            max_tx_queues: raw.max_tx_queues,
            rx_queues: raw.nb_rx_queues,
            tx_queues: raw.nb_tx_queues,
            min_mtu: raw.min_mtu,
            max_mtu: raw.max_mtu,
            rx_offloads: raw.rx_offload_capa,
            tx_offloads: raw.tx_offload_capa,
            rss: raw.flow_type_rss_offloads,
            kernel_interface: (raw.if_index != 0).then_some(raw.if_index),
        })
    }

    fn raw_info(&self) -> Result<rte_eth_dev_info, PortError> {
        // SAFETY: the structure is plain numbers and pointers, for which zero is a value.
        let mut raw: rte_eth_dev_info = unsafe { mem::zeroed() };
        // SAFETY: a valid port; the structure is written.
        self.step("reading its properties", unsafe {
            dpdk_sys::rte_eth_dev_info_get(self.id(), &raw mut raw)
        })?;
        Ok(raw)
    }

    fn check_mtu(&self, mtu: u16, raw: &rte_eth_dev_info) -> Result<(), PortError> {
        let by_frame =
            u16::try_from(raw.max_rx_pktlen.saturating_sub(ETHERNET_OVERHEAD)).unwrap_or(u16::MAX);
        // A driver that leaves the limit open means its largest frame.
        let max = if raw.max_mtu == u16::MAX {
            by_frame
        } else {
            raw.max_mtu
        };
        if (raw.min_mtu..=max).contains(&mtu) {
            return Ok(());
        }
        Err(PortError::Mtu {
            name: self.name.clone(),
            mtu,
            min: raw.min_mtu,
            max,
        })
    }

    fn step(&self, step: &str, code: i32) -> Result<(), PortError> {
        Errno::check(code)
            .map(drop)
            .map_err(|errno| PortError::Driver {
                name: self.name.clone(),
                step: step.to_owned(),
                errno,
            })
    }

    /// A step that a simple device may not know.
    fn optional_step(&self, step: &str, code: i32) -> Result<(), PortError> {
        match Errno::check(code) {
            Err(Errno::NOTSUP | Errno::NOSYS) => Ok(()),
            _ => self.step(step, code),
        }
    }
}

/// Bytes of Ethernet around an IP packet: header and checksum.
const ETHERNET_OVERHEAD: u32 = dpdk_sys::RTE_ETHER_HDR_LEN + dpdk_sys::RTE_ETHER_CRC_LEN;

/// The same with two VLAN tags.
const LINK_OVERHEAD: u32 = ETHERNET_OVERHEAD + 8;

/// Locks DPDK's list of devices, which DPDK itself does not: held while it is searched or changed.
fn devices() -> MutexGuard<'static, ()> {
    static DEVICES: Mutex<()> = Mutex::new(());
    DEVICES.lock().unwrap_or_else(PoisonError::into_inner)
}

static CLAIMED: [AtomicBool; dpdk_sys::RTE_MAX_ETHPORTS as usize] =
    [const { AtomicBool::new(false) }; dpdk_sys::RTE_MAX_ETHPORTS as usize];

/// The right to use one device, shared by a port and its queues.
#[derive(Debug)]
pub(super) struct Claim {
    id: u16,
    _lease: eal::Lease,
}

impl Claim {
    fn take(id: u16, lease: eal::Lease) -> Option<Self> {
        let taken = CLAIMED.get(id as usize)?.swap(true, Ordering::AcqRel);
        (!taken).then_some(Self { id, _lease: lease })
    }

    #[inline]
    pub(super) fn port(&self) -> u16 {
        self.id
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED[self.id as usize].store(false, Ordering::Release);
    }
}
