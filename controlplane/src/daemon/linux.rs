//! The daemon's hold on the Linux stack: addresses, routes and neighbours of its ports.

use super::translate;
use crate::config::Config;
use crate::kernel::addresses::Addresses;
use crate::kernel::forwarding_view::{Builder, PortBinding};
use crate::kernel::link::{self, Links};
use crate::kernel::mirror::{Mirror, MirrorCounters};
use crate::kernel::neighbours::Neighbours;
use crate::kernel::netlink::Rtnl;
use crate::kernel::routes::{Routes, StaticRoute};
use crate::kernel::sysctl;
use crate::kernel::tap::Tap;
use crate::kernel::view::KernelView;
use dataplane::forwarding::{Forwarding, VirtualAddresses};
use dataplane::packet::MacAddress;
use dataplane::service::Services;
use dataplane::verdict::Neighbour;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// The Linux side of all ports.
#[derive(Debug)]
pub(super) struct Linux {
    rtnl: Rtnl,
    mirror: Mirror,
    views: watch::Receiver<Arc<KernelView>>,
    links: Links,
    addresses: Addresses,
    routes: Routes,
    neighbours: Neighbours,
    ports: Vec<PortBinding>,
    /// By port: the name of its interface, and where its TAP reads the MTU.
    interfaces: Vec<Option<(String, Arc<AtomicU32>)>>,
    /// Largest MTU the packet buffers have room for.
    largest_mtu: u16,
    fixed: Vec<(Neighbour, MacAddress)>,
    builder: Arc<Mutex<Builder>>,
    virtual_addresses: Arc<VirtualAddresses>,
}

/// Neighbours told to the kernel in one step.
const STEP: usize = 64;

impl Linux {
    /// Connects to the kernel in the process's network namespace.
    pub(super) async fn connect() -> io::Result<Self> {
        let rtnl = Rtnl::connect()?;
        let mirror = Mirror::start().await?;
        let views = mirror.views();
        Ok(Self {
            links: Links::new(rtnl.clone()),
            addresses: Addresses::new(rtnl.clone()),
            routes: Routes::new(rtnl.clone()),
            neighbours: Neighbours::new(rtnl.clone()),
            rtnl,
            mirror,
            views,
            ports: Vec::new(),
            interfaces: Vec::new(),
            largest_mtu: 0,
            fixed: Vec::new(),
            builder: Arc::default(),
            virtual_addresses: Arc::default(),
        })
    }

    /// Takes the ports over, with whatever an earlier process left on their interfaces; the TAPs it
    /// left of ports that are no longer configured go.
    pub(super) async fn take(&mut self, ports: Vec<PortBinding>, taps: &[Option<Tap>]) {
        self.largest_mtu = ports.iter().map(|port| port.mtu).max().unwrap_or(0);
        self.interfaces = taps
            .iter()
            .map(|tap| {
                let tap = tap.as_ref()?;
                Some((tap.name().to_owned(), Arc::clone(tap.mtu())))
            })
            .collect();
        let interfaces: Vec<u32> = ports.iter().filter_map(|port| port.interface).collect();
        for interface in &interfaces {
            if let Err(error) = self.links.claim(*interface).await {
                log::warn!("{}: cannot be marked: {error}", self.name(*interface));
            }
        }
        let view = self.view();
        let names: Vec<&str> = interfaces
            .iter()
            .filter_map(|interface| Some(view.links.get(interface)?.name.as_str()))
            .collect();
        for link in link::left_over(&view, &names) {
            match self.links.delete(link.index).await {
                Ok(()) => log::info!("removed {}, left by an earlier configuration", link.name),
                Err(error) => log::warn!("removing {}: {error}", link.name),
            }
        }
        self.addresses.adopt(&view, &interfaces);
        self.routes.adopt(&view, &interfaces);
        self.ports = ports;
    }

    /// Finds interfaces that were removed and made again; true if there was one, so that addresses
    /// and routes must be applied again.
    pub(super) async fn rebind(&mut self) -> bool {
        let view = self.view();
        let mut renewed = Vec::new();
        for (port, interface) in self.ports.iter_mut().zip(&self.interfaces) {
            let Some((name, _)) = interface else { continue };
            let Some(link) = view.link_named(name) else {
                continue;
            };
            if port.interface != Some(link.index) {
                log::warn!("{name} was made anew: it gets its addresses and routes again");
                port.interface = Some(link.index);
                renewed.push((link.index, name.clone(), port.up));
            }
        }
        for (index, name, up) in &renewed {
            if let Err(error) = self.links.claim(*index).await {
                log::warn!("{name}: cannot be marked: {error}");
            }
            if let Err(error) = sysctl::prepare_port(name) {
                log::warn!("{name}: {error}");
            }
            // A new TAP has a carrier, whatever its port has.
            if !up && let Err(error) = self.links.set_carrier(*index, false).await {
                log::debug!("{name}: carrier does not follow: {error}");
            }
        }
        !renewed.is_empty()
    }

    /// The kernel's tables now.
    pub(super) fn view(&self) -> Arc<KernelView> {
        Arc::clone(&self.views.borrow())
    }

    /// For waiting on changes.
    pub(super) fn views(&self) -> watch::Receiver<Arc<KernelView>> {
        self.views.clone()
    }

    /// What the mirror went through.
    pub(super) fn mirror_counters(&self) -> Arc<MirrorCounters> {
        Arc::clone(self.mirror.counters())
    }

    /// Netlink connection, for what is done once.
    pub(super) fn rtnl(&self) -> &Rtnl {
        &self.rtnl
    }

    /// Builds the forwarding table as the kernel has it now, wherever it is called: with a full
    /// Internet table that takes a while.
    pub(super) fn forwarding(&self) -> impl FnOnce() -> Forwarding + Send + 'static {
        let view = self.view();
        let ports = self.ports.clone();
        let fixed = self.fixed.clone();
        let builder = Arc::clone(&self.builder);
        let virtual_addresses = Arc::clone(&self.virtual_addresses);
        move || {
            // It has nothing half done when it panics.
            let mut builder = builder.lock().unwrap_or_else(PoisonError::into_inner);
            let built = builder.build(&view, &ports, &fixed);
            built.with_virtual_addresses(virtual_addresses)
        }
    }

    /// Notes the addresses of virtual routers, and the MAC addresses in use with the interface of
    /// each, for the next forwarding table.
    pub(super) fn set_virtual(
        &mut self,
        addresses: VirtualAddresses,
        macs: &[(String, MacAddress)],
    ) {
        self.virtual_addresses = Arc::new(addresses);
        for (port, interface) in self.ports.iter_mut().zip(&self.interfaces) {
            let own = macs
                .iter()
                .filter(|(name, _)| interface.as_ref().is_some_and(|(own, _)| own == name));
            port.virtual_macs = own.map(|(_, mac)| *mac).collect();
        }
    }

    /// Sets a port's link state; true if it changed.
    pub(super) async fn set_link(&mut self, index: usize, up: bool) -> bool {
        let Some(port) = self.ports.get_mut(index) else {
            return false;
        };
        if port.up == up {
            return false;
        }
        port.up = up;
        if let Some(interface) = port.interface
            && let Err(error) = self.links.set_carrier(interface, up).await
        {
            log::debug!("port {}: carrier does not follow: {error}", port.name);
        }
        true
    }

    /// Makes addresses, routes, MTUs and static neighbours what the configuration says. Returns
    /// what could not be done, one sentence each.
    pub(super) async fn apply(&mut self, config: &Config) -> Vec<String> {
        let mut problems = Vec::new();
        let interfaces = self.interfaces.iter();
        for ((binding, port), interface) in self.ports.iter_mut().zip(&config.ports).zip(interfaces)
        {
            if binding.mtu == port.mtu {
                continue;
            }
            if port.mtu > self.largest_mtu {
                problems.push(format!(
                    "[port {}] mtu: packet buffers have room for {} bytes; a larger MTU needs a restart",
                    port.name, self.largest_mtu
                ));
                continue;
            }
            if let (Some(index), Some((_, cell))) = (binding.interface, interface) {
                if let Err(error) = self.links.set_mtu(index, port.mtu).await {
                    problems.push(format!("[port {}] mtu: {error}", port.name));
                    continue;
                }
                cell.store(u32::from(port.mtu), Ordering::Relaxed);
            }
            binding.mtu = port.mtu;
        }
        let (wanted, homeless) = self.wanted_addresses(config);
        problems.extend(homeless);
        for (interface, address, error) in self.addresses.apply(&wanted).await {
            problems.push(format!(
                "address {address} on {}: {error}",
                self.name(interface)
            ));
        }
        let wanted = self.wanted_routes(config);
        for (route, error) in self.routes.apply(&wanted).await {
            problems.push(format!("route {route}: {error}"));
        }
        self.fix_neighbours(config, &mut problems).await;
        problems
    }

    /// True if an address that the configuration puts on a port is not there.
    pub(super) fn lacks_addresses(&self, config: &Config) -> bool {
        let view = self.view();
        let there = view.addresses.iter();
        let there: HashSet<_> = there.map(|it| (it.interface, it.address)).collect();
        let (wanted, _) = self.wanted_addresses(config);
        wanted.iter().any(|wanted| !there.contains(wanted))
    }

    /// Keeps these neighbours resolved from now on. [`Self::advance`] does the work.
    pub(super) fn keep_resolved(&mut self, wanted: &HashSet<Neighbour>) {
        let wanted = wanted
            .iter()
            .filter_map(|neighbour| self.key(*neighbour))
            .collect();
        self.neighbours.want(wanted);
    }

    /// Plans to probe managed neighbours that need it. Call every few seconds.
    pub(super) fn maintain(&mut self) {
        let view = self.view();
        self.neighbours.plan_maintenance(&view);
    }

    /// True if [`Self::advance`] has something to do.
    pub(super) fn has_pending(&self) -> bool {
        self.neighbours.has_pending()
    }

    /// Tells the kernel the next of the neighbours that are to be kept resolved.
    pub(super) async fn advance(&mut self) {
        for ((interface, address), error) in self.neighbours.advance(STEP).await {
            log::debug!("neighbour {address} on {}: {error}", self.name(interface));
        }
    }

    /// Asks the kernel for a neighbour a packet waits for.
    pub(super) async fn resolve(&mut self, neighbour: Neighbour) {
        if let Some(key) = self.key(neighbour)
            && let Err(error) = self.neighbours.resolve(key).await
        {
            log::debug!("neighbour {}: {error}", neighbour.address);
        }
    }

    /// Removes everything that was put into the kernel.
    pub(super) async fn clear(&mut self) {
        for (interface, address, error) in self.addresses.clear().await {
            log::warn!("address {address} on {}: {error}", self.name(interface));
        }
        for (route, error) in self.routes.clear().await {
            // Most went with their addresses.
            log::debug!("route {route}: {error}");
        }
        self.neighbours.clear().await;
    }

    fn key(&self, neighbour: Neighbour) -> Option<(u32, IpAddr)> {
        let port = self.ports.get(usize::from(neighbour.port.0))?;
        Some((port.interface?, neighbour.address))
    }

    fn name(&self, interface: u32) -> String {
        self.view().links.get(&interface).map_or_else(
            || format!("interface {interface}"),
            |link| link.name.clone(),
        )
    }

    fn interface(&self, config: &Config, port: &str) -> Option<u32> {
        let index = config.ports.iter().position(|p| p.name == port)?;
        self.ports.get(index)?.interface
    }

    /// Port addresses and the VIPs that have a home; and a sentence for each that has none.
    fn wanted_addresses(&self, config: &Config) -> (BTreeSet<(u32, IpNet)>, Vec<String>) {
        let mut wanted = BTreeSet::new();
        let mut homeless = Vec::new();
        for (binding, port) in self.ports.iter().zip(&config.ports) {
            let Some(interface) = binding.interface else {
                continue;
            };
            wanted.extend(
                port.addresses
                    .iter()
                    .map(|address| (interface, address.net)),
            );
        }
        let view = self.view();
        for vip in translate::vips(config) {
            let configured = wanted.iter().any(|(_, net)| net.addr() == vip);
            if configured {
                continue;
            }
            let home = config
                .ports
                .iter()
                .position(|port| port.addresses.iter().any(|address| address.contains(vip)))
                .and_then(|index| self.ports.get(index)?.interface);
            match home {
                Some(interface) => {
                    wanted.insert((interface, IpNet::from(vip)));
                }
                None if view.has_address(vip) => {}
                None => homeless.push(format!(
                    "VIP {vip} is not served: no port's subnet contains it, so it was not put on \
                     one; add it to an interface, or set serve = always"
                )),
            }
        }
        (wanted, homeless)
    }

    fn wanted_routes(&self, config: &Config) -> BTreeSet<StaticRoute> {
        let mut wanted = BTreeSet::new();
        for (binding, port) in self.ports.iter().zip(&config.ports) {
            let Some(interface) = binding.interface else {
                continue;
            };
            for gateway in &port.gateways {
                wanted.insert(StaticRoute::default_through(*gateway, interface));
            }
            for route in &port.routes {
                let route = StaticRoute::new(route.destination, interface, Some(route.gateway));
                wanted.insert(route);
            }
        }
        wanted
    }

    async fn fix_neighbours(&mut self, config: &Config, problems: &mut Vec<String>) {
        let mut wanted = BTreeMap::new();
        self.fixed.clear();
        for neighbour in &config.neighbors {
            let mac = MacAddress(neighbour.mac);
            if let Some(interface) = self.interface(config, &neighbour.port) {
                wanted.insert((interface, neighbour.address), mac);
            }
            let port = self.ports.iter().find(|port| port.name == neighbour.port);
            if let Some(port) = port {
                let key = Neighbour {
                    port: port.port,
                    address: neighbour.address,
                };
                self.fixed.push((key, mac));
            }
        }
        for ((_, address), error) in self.neighbours.fix(wanted).await {
            problems.push(format!("[neighbor {address}]: {error}"));
        }
    }
}

/// The neighbours through which real servers and gateways are reached.
pub(super) fn ways_to_servers(forwarding: &Forwarding, services: &Services) -> HashSet<Neighbour> {
    // One address may serve in a thousand services.
    let addresses: HashSet<IpAddr> = services.reals().map(|(_, real)| real.address).collect();
    addresses
        .into_iter()
        .flat_map(|address| forwarding.neighbours_towards(address))
        .chain(forwarding.gateways())
        .collect()
}

/// What an operator should know about Linux's settings, though nothing is wrong with ours.
pub(super) fn hints(config: &Config) -> Vec<String> {
    forwarding_hint(config).into_iter().collect()
}

/// Servers behind NAT use the director as gateway for their own traffic too, which Linux forwards
/// only if it may.
fn forwarding_hint(config: &Config) -> Option<String> {
    let translated = config
        .virtual_servers
        .iter()
        .flat_map(|service| &service.real_servers)
        .any(|server| server.forward == crate::config::Forward::Nat);
    let forwards = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
        .is_ok_and(|text| text.trim() != "0");
    let by_kernel = config.global.transit == crate::config::Transit::Kernel;
    (translated && by_kernel && !forwards).then(|| {
        "net.ipv4.ip_forward is 0: real servers that use this box as gateway reach nothing but \
         their clients; switch it on, or set transit = fast or drop"
            .to_owned()
    })
}
