//! Which service a packet is for: the order of spec 2.2.
//!
//! An FTP service has all ports of its VIP that data connections may be on, unless another service
//! has them. Its clients' data connections are recognised there by their templates; without
//! persistence they cannot be, and the packets are the host's.

use super::{ServiceKey, Services, VirtualService};
use crate::address::{Family, Protocol};
use crate::ftp::{CONTROL_PORT, DATA_PORT, LOWEST_DATA_PORT};
use std::net::IpAddr;

impl Services {
    /// The service for a packet from `source` to `address:port`: that of its mark, else the exact
    /// one, else the VIP's FTP service if the port may be that of FTP data, else the VIP's port-0
    /// service (spec 2.2). Only a persistent FTP service takes a connection on such a port
    /// ([`VirtualService::takes`]).
    #[inline]
    pub fn find(
        &self,
        protocol: Protocol,
        source: IpAddr,
        address: IpAddr,
        port: u16,
    ) -> Option<&VirtualService> {
        let marked = self.marks.of(protocol, source, address, port);
        marked
            .and_then(|mark| self.with_key(&ServiceKey::of_mark(Family::of(address), mark)))
            .or_else(|| self.with_key(&ServiceKey::new(protocol, address, port)))
            .or_else(|| self.of_ftp_data(protocol, address, port))
            .or_else(|| self.with_key(&ServiceKey::new(protocol, address, 0)))
    }

    /// The FTP service of the VIP, if `port` may be one that it has data connections on.
    fn of_ftp_data(
        &self,
        protocol: Protocol,
        address: IpAddr,
        port: u16,
    ) -> Option<&VirtualService> {
        let may_be = port == DATA_PORT || port >= LOWEST_DATA_PORT;
        (self.ftp_control && protocol == Protocol::Tcp && may_be)
            .then(|| self.with_key(&ServiceKey::new(protocol, address, CONTROL_PORT)))?
    }
}

impl VirtualService {
    /// True if a connection on `port` that [`Services::find`] gives it may be made: on a port of
    /// FTP data its clients are known by their templates only.
    pub fn takes(&self, port: u16) -> bool {
        self.persistence.is_some() || self.key.port() == 0 || self.key.port() == port
    }

    /// True if a packet to `port`, which [`Services::find`] gave it, is on one of FTP data: what it
    /// cannot serve there may be another's.
    pub fn is_data(&self, port: u16) -> bool {
        self.key.port() == CONTROL_PORT && port != CONTROL_PORT
    }
}
