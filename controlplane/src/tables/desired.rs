//! What the configuration asks for, in the words of the dataplane.

use dataplane::connection::Timeouts;
use dataplane::scheduler::{SchedulerFlags, SchedulerKind};
use dataplane::service::{
    Forward, IpvsSettings, MarkRule, NoServer, Orphans, Persistence, Serve, ServiceKey, Transit,
};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything the services table is built from.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Services in file order.
    pub services: Vec<DesiredService>,
    /// `[mark NAME]`, in file order.
    pub marks: Vec<MarkRule>,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// `[ipvs]`.
    pub ipvs: IpvsSettings,
    /// `transit`.
    pub transit: Transit,
}

/// One IPVS service: a section with several addresses makes several of them.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredService {
    /// Protocol, VIP and port, or the mark.
    pub key: ServiceKey,
    /// Section name.
    pub name: Arc<str>,
    /// Scheduler.
    pub scheduler: SchedulerKind,
    /// Its flags.
    pub scheduler_flags: SchedulerFlags,
    /// When it is served.
    pub serve: Serve,
    /// What clients get when nothing can serve.
    pub no_server: NoServer,
    /// How its clients stay on their servers; the registry sees to the generation.
    pub persistence: Option<Persistence>,
    /// Every datagram is scheduled for itself.
    pub one_packet: bool,
    /// What becomes of connections of servers removed from it.
    pub on_real_removed: Orphans,
    /// Servers in file order.
    pub servers: Vec<DesiredServer>,
}

/// One real server.
#[derive(Clone, Debug, PartialEq)]
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
            scheduler_flags: SchedulerFlags::NONE,
            serve: Serve::WhileLocal,
            no_server: NoServer::Unreachable,
            persistence: None,
            one_packet: false,
            on_real_removed: Orphans::Keep,
            servers: Vec::new(),
        }
    }
}
