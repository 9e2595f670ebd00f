//! The TAP of a port: the interface the Linux stack has in place of the NIC (tun(4)).
//!
//! Whole Ethernet frames without any header before them and without offloads, so that what is
//! written is what the wire carries. The interface persists: a restart finds it with its addresses,
//! routes and sockets. Invariant: reads and writes never block.

use super::link::Links;
use dataplane::packet::MacAddress;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::fmt::{Debug, Formatter};
use std::io::{Error, Result};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// An open TAP.
pub struct Tap {
    device: SyncDevice,
    name: String,
    index: u32,
    mac: MacAddress,
    mtu: Arc<AtomicU32>,
}

/// Why a TAP could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// A process, perhaps an earlier one of ours, has it open.
    #[error("interface {name} is in use by another process")]
    Busy {
        /// Its name.
        name: String,
    },
    /// An interface of another kind has the name.
    #[error("interface {name} exists and is not a TAP this program can take over")]
    Taken {
        /// Its name.
        name: String,
    },
    /// Not permitted.
    #[error("opening interface {name} needs CAP_NET_ADMIN")]
    NotPermitted {
        /// Its name.
        name: String,
    },
    /// /dev/net/tun is missing.
    #[error("the kernel has no TUN/TAP support (/dev/net/tun): {source}")]
    Unsupported {
        /// What opening it said.
        source: Error,
    },
    /// Anything else.
    #[error("cannot set up interface {name}: {source}")]
    Failed {
        /// Its name.
        name: String,
        /// Why.
        source: Error,
    },
}

impl Tap {
    /// Opens the TAP `name`, made if it does not exist, with this MAC address and MTU (bytes), and
    /// sets it up. What it has already stays: addresses, routes, neighbours.
    pub fn open(name: &str, mac: MacAddress, mtu: u16) -> std::result::Result<Self, TapError> {
        let device = DeviceBuilder::new()
            .name(name)
            .layer(Layer::L2)
            .packet_information(false)
            .offload(false)
            .multi_queue(false)
            .inherit_enable_state()
            .build_sync()
            .map_err(|error| describe(name, error))?;
        let failed = |source| TapError::Failed {
            name: name.to_owned(),
            source,
        };
        let index = prepare(&device, mac, mtu).map_err(failed)?;
        Ok(Self {
            device,
            name: name.to_owned(),
            index,
            mac,
            mtu: Arc::new(AtomicU32::new(mtu.into())),
        })
    }

    /// Reads one frame the Linux stack sends. `WouldBlock` if there is none.
    pub fn read(&self, frame: &mut [u8]) -> Result<usize> {
        self.device.recv(frame)
    }

    /// Hands one frame to the Linux stack as received from the wire.
    pub fn write(&self, frame: &[u8]) -> Result<usize> {
        self.device.send(frame)
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interface's index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The MAC address it was opened with.
    pub fn mac(&self) -> MacAddress {
        self.mac
    }

    /// Largest IP datagram in bytes; whoever changes the interface's MTU stores it here too.
    pub fn mtu(&self) -> &Arc<AtomicU32> {
        &self.mtu
    }

    /// Opens the interface anew, made again if somebody removed it. The MTU cell stays the same.
    pub(super) fn reopen(
        name: &str,
        mac: MacAddress,
        mtu: &Arc<AtomicU32>,
    ) -> std::result::Result<Self, TapError> {
        let bytes = u16::try_from(mtu.load(Ordering::Relaxed)).unwrap_or(u16::MAX);
        let mut tap = Self::open(name, mac, bytes)?;
        tap.mtu = Arc::clone(mtu);
        Ok(tap)
    }

    /// Closes it and removes the interface with all it has.
    pub async fn remove(self, links: &Links) -> Result<()> {
        let index = self.index;
        drop(self);
        links.delete(index).await
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl Debug for Tap {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap")
            .field("name", &self.name)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

fn prepare(device: &SyncDevice, mac: MacAddress, mtu: u16) -> Result<u32> {
    let flags = fcntl_getfl(device)?;
    fcntl_setfl(device, flags | OFlags::NONBLOCK)?;
    // Setting the same address again would flush the neighbours of an interface taken over.
    if device.mac_address()? != mac.0 {
        device.set_mac_address(mac.0)?;
    }
    if device.mtu()? != mtu {
        device.set_mtu(mtu)?;
    }
    device.persist()?;
    device.enabled(true)?;
    device.if_index()
}

fn describe(name: &str, source: Error) -> TapError {
    let name = name.to_owned();
    match Errno::from_io_error(&source) {
        Some(Errno::BUSY) => TapError::Busy { name },
        Some(Errno::INVAL | Errno::EXIST) => TapError::Taken { name },
        Some(Errno::PERM | Errno::ACCESS) => TapError::NotPermitted { name },
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => TapError::Unsupported { source },
        _ => TapError::Failed { name, source },
    }
}
