//! Ports: DPDK devices opened and started as the configuration says.

use super::resources::device_name;
use super::sides;
use crate::config::{Config, PortConfig};
use crate::kernel::underlying::Underlying;
use crate::kernel::view::KernelView;
use dataplane::dpdk::{HashInput, Mempool, Port, PortError, QueuePair, RssWay, Started, Stopped};
use dataplane::packet::MacAddress;
use dataplane::verdict::PortId;
use dataplane::worker::{Receive, Transmit};
use thiserror::Error;

/// A device could not be used; the message names the port and says what to do.
#[derive(Debug, Error)]
#[error("[port {port}] device {device}: {cause}")]
pub(super) struct DeviceError {
    port: String,
    device: String,
    #[source]
    cause: PortError,
}

/// A started port.
#[derive(Debug)]
pub(super) struct OpenPort {
    /// Its index.
    pub(super) id: PortId,
    /// Section name.
    pub(super) name: String,
    /// Its devices, one or several.
    pub(super) devices: Vec<Port<Started>>,
    /// Device strings as configured.
    pub(super) device_strings: Vec<String>,
    /// DPDK driver of the first device.
    pub(super) driver: String,
    /// MAC address of the first device: the port's.
    pub(super) mac: MacAddress,
    /// Largest IP datagram.
    pub(super) mtu: u16,
    /// Receive queues in all.
    pub(super) rx_queues: u16,
    /// What its devices, each of them, do to bring packets to workers.
    pub(super) rss: RssWay,
}

impl OpenPort {
    /// True while any of the devices has a link. One that cannot say is taken to have one.
    pub(super) fn has_link(&self, view: &KernelView) -> bool {
        self.devices
            .iter()
            .zip(&self.device_strings)
            .any(|(device, string)| {
                device.link().map_or(true, |link| link.up)
                    && Underlying::of(string).is_none_or(|beneath| beneath.has_carrier(view))
            })
    }

    /// Buffers that stay with the driver for good.
    ///
    /// `net_af_xdp` of DPDK 22.11 does not return its fill ring when it is closed; every other
    /// driver returns all.
    pub(super) fn kept_by_driver(&self) -> usize {
        const FILL_RING: usize = 2048;
        match self.driver.as_str() {
            "net_af_xdp" => usize::from(self.rx_queues) * FILL_RING,
            _ => 0,
        }
    }
}

/// Queues of one worker.
#[derive(Debug, Default)]
pub(super) struct WorkerQueues {
    /// To poll.
    pub(super) receive: Vec<Receive>,
    /// To send on.
    pub(super) transmit: Vec<Transmit>,
}

/// Opens and starts every port and deals its queues out to `workers` workers, round robin.
pub(super) fn open(
    config: &Config,
    workers: usize,
    mempool: &'static Mempool,
) -> Result<(Vec<OpenPort>, Vec<WorkerQueues>), DeviceError> {
    let mut opened = Vec::new();
    let mut queues: Vec<WorkerQueues> = (0..workers).map(|_| WorkerQueues::default()).collect();
    let inputs = sides::hash_inputs(config);
    for (index, (config, input)) in config.ports.iter().zip(inputs).enumerate() {
        let id = PortId(index as u8);
        let mut port: Option<OpenPort> = None;
        let mut next_worker = 0;
        for device in &config.devices {
            let wrap = |cause| DeviceError {
                port: config.name.clone(),
                device: device.clone(),
                cause,
            };
            let (started, pairs, driver) =
                start(device, config, workers, input, mempool).map_err(wrap)?;
            let rss = started.rss();
            log::debug!("port {}: {device}: {input:?} wanted, {rss:?}", config.name);
            if rss.way == RssWay::Owner {
                // Its table counts the workers from its first queue.
                next_worker = 0;
            }
            let rx_queues = pairs.iter().filter(|pair| pair.rx.is_some()).count() as u16;
            for pair in pairs {
                let worker = &mut queues[next_worker % workers];
                next_worker += 1;
                if let Some(queue) = pair.rx {
                    worker.receive.push(Receive { port: id, queue });
                }
                if let Some(queue) = pair.tx {
                    worker.transmit.push(Transmit { port: id, queue });
                }
            }
            if let Some(port) = &mut port {
                port.devices.push(started);
                port.rx_queues += rx_queues;
                port.rss = port.rss.min(rss.way);
                continue;
            }
            let mac = MacAddress(started.mac().map_err(wrap)?);
            port = Some(OpenPort {
                id,
                name: config.name.clone(),
                devices: vec![started],
                device_strings: config.devices.clone(),
                driver,
                mac,
                mtu: config.mtu,
                rx_queues,
                rss: rss.way,
            });
        }
        opened.extend(port);
    }
    Ok((opened, queues))
}

/// Stops and closes every device; the workers must have dropped their queues.
pub(super) fn close(ports: Vec<OpenPort>) {
    for device in ports.into_iter().flat_map(|port| port.devices) {
        let name = device.name().to_owned();
        let closed = device
            .stop()
            .map_err(|error| error.cause)
            .and_then(Port::close);
        if let Err(error) = closed {
            log::warn!("device {name}: {error}");
        }
    }
}

fn start(
    device: &str,
    config: &PortConfig,
    workers: usize,
    input: HashInput,
    mempool: &'static Mempool,
) -> Result<(Port<Started>, Vec<QueuePair>, String), PortError> {
    let stopped: Port<Stopped> = Port::by_name(&device_name(device))?;
    let info = stopped.info()?;
    let wanted = config.rx_queues.unwrap_or(workers as u16).max(1);
    // Some devices insist on equal numbers.
    let queues = wanted.min(info.max_rx_queues.max(1));
    let mut settings = dataplane::dpdk::PortConfig::new(mempool);
    settings.rx_queues = queues;
    settings.tx_queues = queues.min(info.max_tx_queues.max(1));
    settings.hash_input = input;
    settings.workers = workers as u8;
    // Virtual devices carry what the interface beneath carries and often refuse to be told.
    settings.mtu = (config.mtu != stopped.mtu()?).then_some(config.mtu);
    let (started, pairs) = stopped.start(&settings)?;
    Ok((started, pairs, info.driver))
}
