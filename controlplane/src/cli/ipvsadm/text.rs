//! Addresses and ports in listings, with names or in figures; each host is looked up once.

use super::names::Names;
use crate::admin::api::Protocol;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;

/// How endpoints are written.
#[derive(Debug)]
pub(super) struct Writer<'a, N> {
    names: &'a N,
    numeric: bool,
    hosts: RefCell<HashMap<IpAddr, Option<String>>>,
}

impl<'a, N: Names> Writer<'a, N> {
    pub(super) fn new(names: &'a N, numeric: bool) -> Self {
        Self {
            names,
            numeric,
            hosts: RefCell::default(),
        }
    }

    /// `host:port`, IPv6 in brackets.
    pub(super) fn endpoint(&self, address: IpAddr, port: u16, protocol: Protocol) -> String {
        let (mut host, mut service) = (None, None);
        if !self.numeric {
            let mut hosts = self.hosts.borrow_mut();
            host.clone_from(
                hosts
                    .entry(address)
                    .or_insert_with(|| self.names.host_name(address)),
            );
            service = self.names.service_name(port, protocol);
        }
        let host = host.unwrap_or_else(|| address.to_string());
        let service = service.unwrap_or_else(|| port.to_string());
        if address.is_ipv6() {
            format!("[{host}]:{service}")
        } else {
            format!("{host}:{service}")
        }
    }
}
