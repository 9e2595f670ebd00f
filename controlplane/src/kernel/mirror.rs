//! Follows the kernel's tables by rtnetlink(7) and publishes them as views.
//!
//! Neighbours are followed message by message. Links, addresses and routes are read again when a
//! notification touches them, because notifications do not tell everything: Linux removes IPv4
//! routes of an interface that goes down, and marks next hops dead, without a word, and describes
//! the removal of one IPv6 next hop as the removal of a route. A burst becomes one view, at most
//! one per [`INTERVAL`]. Reading a big routing table takes at most a fifth of one CPU and is done
//! beside the rest: a neighbour that packets wait for does not wait for half a million routes.
//!
//! Invariant: the socket is subscribed before the tables are read. A socket that overflowed is
//! thrown away, never read on: what is left in it may be older than the dump.

use super::decode;
use super::netlink::{Rtnl, is};
use super::view::{InterfaceAddress, KernelNeighbour, KernelRoute, KernelView, Link};
use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use rustix::io::Errno;
use rustix::net::sockopt;
use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// Shortest time between two published views.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// A running mirror; it stops when dropped.
#[derive(Debug)]
pub struct Mirror {
    views: watch::Receiver<Arc<KernelView>>,
    counters: Arc<MirrorCounters>,
    task: JoinHandle<()>,
}

impl Mirror {
    /// Reads the tables once and follows them from then on, on the current tokio runtime.
    pub async fn start() -> Result<Self> {
        Self::with_buffer(RECEIVE_BUFFER).await
    }

    /// Like [`Mirror::start`], with a socket buffer of `bytes`.
    pub async fn with_buffer(bytes: usize) -> Result<Self> {
        let counters = Arc::new(MirrorCounters::default());
        let mut follower = Follower::new(bytes, Arc::clone(&counters)).await?;
        let (publish, views) = watch::channel(Arc::new(follower.view()));
        let task = tokio::spawn({
            let counters = Arc::clone(&counters);
            async move {
                loop {
                    let why = follower.follow(&publish).await;
                    counters.count_end(&why);
                    log::warn!("kernel mirror: {why}; reading all tables again");
                    follower = loop {
                        match Follower::new(bytes, Arc::clone(&counters)).await {
                            Ok(follower) => break follower,
                            Err(error) => {
                                log::warn!("kernel mirror: cannot read the tables: {error}");
                                sleep(RETRY).await;
                            }
                        }
                    };
                    counters.resyncs.fetch_add(1, Ordering::Relaxed);
                    follower.publish(&publish);
                }
            }
        });
        Ok(Self {
            views,
            counters,
            task,
        })
    }

    /// The views; the current one is there at once.
    pub fn views(&self) -> watch::Receiver<Arc<KernelView>> {
        self.views.clone()
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Arc<MirrorCounters> {
        &self.counters
    }

    /// True if the mirror has stopped, which only a panic can bring about.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Counters of a mirror.
#[derive(Debug, Default)]
pub struct MirrorCounters {
    /// Views published.
    pub published: AtomicU64,
    /// Times all tables were read again.
    pub resyncs: AtomicU64,
    /// Times the kernel had more notifications than the socket could hold.
    pub overflows: AtomicU64,
    /// Times the connection was lost for another reason.
    pub losses: AtomicU64,
    /// Notifications that could not be decoded.
    pub undecodable: AtomicU64,
}

impl MirrorCounters {
    fn count_end(&self, why: &Error) {
        let counter = if is(why, Errno::NOBUFS) {
            &self.overflows
        } else {
            &self.losses
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// One subscription and the tables as known through it.
struct Follower {
    events: TokioSocket,
    rtnl: Rtnl,
    counters: Arc<MirrorCounters>,
    links: BTreeMap<u32, Link>,
    addresses: Vec<InterfaceAddress>,
    routes: Arc<[KernelRoute]>,
    neighbours: BTreeMap<(u32, IpAddr), KernelNeighbour>,
    stale: Stale,
    published: Instant,
    /// Routes being read, and since when.
    reading: Option<(JoinHandle<Result<NewRoutes>>, Instant)>,
    routes_not_before: Instant,
}

/// Routes just read; `None` if they are those that were known.
type NewRoutes = Option<Arc<[KernelRoute]>>;

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some((reading, _)) = &self.reading {
            reading.abort();
        }
    }
}

/// Tables that have to be read again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Stale {
    links: bool,
    addresses: bool,
    routes: bool,
    neighbours: bool,
}

impl Follower {
    async fn new(buffer: usize, counters: Arc<MirrorCounters>) -> Result<Self> {
        let events = subscribe(buffer)?;
        let rtnl = Rtnl::connect()?;
        let now = Instant::now();
        let mut follower = Self {
            events,
            rtnl,
            counters,
            links: BTreeMap::new(),
            addresses: Vec::new(),
            routes: Arc::default(),
            neighbours: BTreeMap::new(),
            stale: Stale {
                links: true,
                addresses: true,
                routes: true,
                neighbours: false,
            },
            published: now,
            reading: None,
            routes_not_before: now,
        };
        follower.refresh().await?;
        if let Some((reading, since)) = follower.reading.take() {
            follower.install(ended(reading.await)?, since);
        }
        follower.neighbours = follower.read_neighbours().await?;
        Ok(follower)
    }

    /// Publishes until the subscription breaks; says why.
    async fn follow(&mut self, publish: &watch::Sender<Arc<KernelView>>) -> Error {
        loop {
            if let Err(error) = self.step(publish).await {
                return error;
            }
        }
    }

    /// Waits for a notification, collects its burst and publishes once.
    async fn step(&mut self, publish: &watch::Sender<Arc<KernelView>>) -> Result<()> {
        tokio::select! {
            datagram = self.events.recv_from_full() => {
                let (bytes, _) = datagram?;
                self.take(&bytes);
            }
            // Only the limit on reading routes leaves them stale.
            () = sleep_until(self.routes_not_before), if self.stale.routes && self.reading.is_none() => {}
            (routes, since) = read(&mut self.reading) => self.install(routes?, since),
        }
        let until = (self.published + INTERVAL).max(Instant::now() + SETTLE);
        while let Ok(datagram) = timeout_at(until, self.events.recv_from_full()).await {
            let (bytes, _) = datagram?;
            self.take(&bytes);
            // A flood must not put publishing off for ever.
            if Instant::now() >= until {
                break;
            }
        }
        self.refresh().await?;
        self.publish(publish);
        Ok(())
    }

    /// Publishes the tables if they differ from what was published last.
    fn publish(&mut self, publish: &watch::Sender<Arc<KernelView>>) {
        self.published = Instant::now();
        let view = self.view();
        let changed = publish.send_if_modified(|current| {
            let changed = **current != view;
            if changed {
                *current = Arc::new(view);
            }
            changed
        });
        if changed {
            self.counters.published.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn view(&self) -> KernelView {
        KernelView {
            links: self.links.clone(),
            addresses: self.addresses.clone(),
            routes: Arc::clone(&self.routes),
            neighbours: self.neighbours.clone(),
        }
    }

    /// Looks through one datagram of notifications.
    fn take(&mut self, datagram: &[u8]) {
        let mut rest = datagram;
        while rest.len() >= HEADER {
            let Ok(header) = NetlinkBuffer::new_checked(rest) else {
                self.counters.undecodable.fetch_add(1, Ordering::Relaxed);
                return;
            };
            let length = header.length() as usize;
            match header.message_type() {
                RTM_NEWLINK | RTM_DELLINK => {
                    self.stale.links = true;
                    self.stale.routes = true;
                }
                RTM_NEWADDR | RTM_DELADDR => {
                    self.stale.addresses = true;
                    self.stale.routes = true;
                }
                RTM_NEWROUTE | RTM_DELROUTE => self.stale.routes = true,
                RTM_NEWNEIGH | RTM_DELNEIGH => self.take_neighbour(&rest[..length]),
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    fn take_neighbour(&mut self, bytes: &[u8]) {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else {
            // What it said is unknown, so the table as a whole is.
            self.counters.undecodable.fetch_add(1, Ordering::Relaxed);
            self.stale.neighbours = true;
            return;
        };
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => {
                self.neighbours.extend(decode::neighbour(&message));
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(message)) => {
                if let Some((key, _)) = decode::neighbour(&message) {
                    self.neighbours.remove(&key);
                }
            }
            _ => {}
        }
    }

    /// Reads the stale tables again.
    async fn refresh(&mut self) -> Result<()> {
        if std::mem::take(&mut self.stale.links) {
            self.links = self.read_links().await?;
        }
        if std::mem::take(&mut self.stale.addresses) {
            self.addresses = self.read_addresses().await?;
        }
        if std::mem::take(&mut self.stale.neighbours) {
            self.neighbours = self.read_neighbours().await?;
        }
        let start = Instant::now();
        if self.stale.routes && self.reading.is_none() && start >= self.routes_not_before {
            self.stale.routes = false;
            let task = read_routes(self.rtnl.clone(), Arc::clone(&self.routes));
            let mut reading = tokio::spawn(task);
            // Few routes take no time, and make one view with what changed beside them.
            match timeout(INTERVAL, &mut reading).await {
                Ok(routes) => self.install(ended(routes)?, start),
                Err(_) => self.reading = Some((reading, start)),
            }
        }
        Ok(())
    }

    fn install(&mut self, routes: NewRoutes, since: Instant) {
        if let Some(routes) = routes {
            self.routes = routes;
        }
        let end = Instant::now();
        self.routes_not_before = end + 4 * (end - since);
    }

    async fn read_links(&self) -> Result<BTreeMap<u32, Link>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = self.rtnl.dump(request, |object| match object {
            RouteNetlinkMessage::NewLink(message) => decode::link(&message),
            _ => None,
        });
        Ok(links
            .await?
            .into_iter()
            .map(|link| (link.index, link))
            .collect())
    }

    async fn read_addresses(&self) -> Result<Vec<InterfaceAddress>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let addresses = self.rtnl.dump(request, |object| match object {
            RouteNetlinkMessage::NewAddress(message) => decode::address(&message),
            _ => None,
        });
        addresses.await
    }

    async fn read_neighbours(&self) -> Result<BTreeMap<(u32, IpAddr), KernelNeighbour>> {
        let mut neighbours = BTreeMap::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            let request = RouteNetlinkMessage::GetNeighbour(message);
            let found = self.rtnl.dump(request, |object| match object {
                RouteNetlinkMessage::NewNeighbour(message) => decode::neighbour(&message),
                _ => None,
            });
            neighbours.extend(found.await?);
        }
        Ok(neighbours)
    }
}

async fn read_routes(rtnl: Rtnl, known: Arc<[KernelRoute]>) -> Result<NewRoutes> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let request = RouteNetlinkMessage::GetRoute(message);
        let found = rtnl.dump(request, |object| match object {
            RouteNetlinkMessage::NewRoute(message) => decode::route(&message),
            _ => None,
        });
        routes.append(&mut found.await?);
    }
    let routes = decode::preferred(routes);
    Ok((*known != *routes).then(|| routes.into()))
}

/// The routes being read, once; waits for ever if none are.
async fn read(
    reading: &mut Option<(JoinHandle<Result<NewRoutes>>, Instant)>,
) -> (Result<NewRoutes>, Instant) {
    let Some((task, since)) = reading else {
        return std::future::pending().await;
    };
    let routes = ended(task.await);
    let since = *since;
    *reading = None;
    (routes, since)
}

/// A panic while reading ends the subscription; the next one reads everything again.
fn ended(outcome: std::result::Result<Result<NewRoutes>, JoinError>) -> Result<NewRoutes> {
    outcome.unwrap_or_else(|error| Err(Error::other(error)))
}

/// A socket that hears of every change.
fn subscribe(buffer: usize) -> Result<TokioSocket> {
    let mut events = TokioSocket::new(NETLINK_ROUTE)?;
    let socket = events.socket_mut();
    // Beyond rmem_max needs CAP_NET_ADMIN; the ordinary limit will do, an overflow is survived.
    if sockopt::set_socket_recv_buffer_size_force(&*socket, buffer).is_err() {
        sockopt::set_socket_recv_buffer_size(&*socket, buffer)?;
    }
    let groups = GROUPS.iter().fold(0, |mask, group| mask | 1 << (group - 1));
    socket.bind(&SocketAddr::new(0, groups))?;
    Ok(events)
}

/// `RTNLGRP_LINK`, `NEIGH`, `IPV4_IFADDR`, `IPV4_ROUTE`, `IPV6_IFADDR`, `IPV6_ROUTE`.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
/// Bytes of a netlink message header.
const HEADER: usize = 16;
/// Room for the notifications of some thousand changes.
const RECEIVE_BUFFER: usize = 4 << 20;
/// One `ip` command is several notifications; waiting this long makes them one view.
const SETTLE: Duration = Duration::from_millis(2);
/// Pause after a failed attempt to read the tables.
const RETRY: Duration = Duration::from_millis(500);
