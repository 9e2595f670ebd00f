//! What the configuration asks for, in the words of the dataplane.

use dataplane::connection::Timeouts;
use dataplane::scheduler::SchedulerKind;
use dataplane::service::{
    Forward, IpvsSettings, NoServer, Orphans, Serve, ServiceKey, Transit,
};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything the services table is built from.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Services in file order.
    pub services: Vec<DesiredService>,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// `[ipvs]`.
    pub ipvs: IpvsSettings,
    /// `transit`.
    pub transit: Transit,
}

/// One IPVS service: a section with several addresses makes several of them.
#[derive(Clone, Debug)]
pub struct DesiredService {
    /// Protocol, VIP, port.
    pub key: ServiceKey,
    /// Section name.
    pub name: Arc<str>,
    /// Scheduler.
    pub scheduler: SchedulerKind,
    /// When it is served.
    pub serve: Serve,
    /// What clients get when nothing can serve.
    pub no_server: NoServer,
    /// What becomes of connections of servers removed from it.
    pub on_real_removed: Orphans,
    /// Servers in file order.
    pub servers: Vec<DesiredServer>,
}

/// One real server.
#[derive(Clone, Debug)]
pub struct DesiredServer {
    /// The part of the section name behind the slash.
    pub name: Arc<str>,
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Effective weight.
    pub weight: u32,
    /// Forwarding method.
    pub forward: Forward,
    /// Upper connection threshold, 0 = none.
    pub upper_threshold: u32,
    /// Lower connection threshold, 0 = three quarters.
    pub lower_threshold: u32,
}

impl DesiredService {
    /// A service with the file's defaults and no servers.
    pub fn new(key: ServiceKey, name: &str) -> Self {
        Self {
            key,
            name: name.into(),
            scheduler: SchedulerKind::Wlc,
            serve: Serve::WhileLocal,
            no_server: NoServer::Unreachable,
            on_real_removed: Orphans::Keep,
            servers: Vec::new(),
        }
    }
}
