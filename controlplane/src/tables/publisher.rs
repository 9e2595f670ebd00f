//! The publisher: the one thread that builds snapshots and gives them to the workers.
//!
//! Others send it what they want the tables to be; it merges. Forwarding tables are published at
//! most once per [`FORWARDING_INTERVAL`], services at once; neither is published while two old
//! tables are still in use somewhere (a late worker), then the changes wait and merge (DESIGN §4).

use super::desired::Desired;
use super::registry::{Registry, ServiceTotals};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use dataplane::epoch;
use dataplane::forwarding::Forwarding;
use dataplane::service::{ServiceKey, Services};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shortest time between two forwarding tables.
pub(super) const FORWARDING_INTERVAL: Duration = Duration::from_millis(20);
/// How often a busy publisher looks whether the workers have moved on.
const RETRY: Duration = Duration::from_millis(1);
/// How often an idle one looks for identities to forget.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// What the rest of the control plane asks of the publisher.
enum Request {
    Services(Box<Desired>, Sender<u64>),
    Forwarding(Box<Forwarding>),
    Stop,
}

/// What is published now, for status and listings.
#[derive(Clone, Debug)]
pub struct Published {
    /// The newest services table.
    pub services: Arc<Services>,
    /// Its epoch.
    pub services_epoch: u64,
    /// The newest forwarding table.
    pub forwarding: Arc<Forwarding>,
    /// Its epoch.
    pub forwarding_epoch: u64,
    /// Per worker: the services and forwarding epochs it works with.
    pub seen: Vec<(u64, u64)>,
    /// Totals per service.
    pub totals: HashMap<ServiceKey, ServiceTotals>,
    /// Servers that left but are remembered.
    pub tombstones: usize,
}

/// How the rest of the control plane talks to the publisher. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: Sender<Request>,
    shared: Arc<Mutex<Shared>>,
}

/// The publishing state; also read by [`Handle::published`].
#[derive(Debug)]
struct Shared {
    registry: Registry,
    services: epoch::Publisher<Services>,
    forwarding: epoch::Publisher<Forwarding>,
}

impl Shared {
    fn seen(&self) -> Vec<(u64, u64)> {
        (0..self.registry.workers())
            .map(|worker| (self.services.seen(worker), self.forwarding.seen(worker)))
            .collect()
    }
}

/// The thread's own state.
pub struct Publisher {
    requests: Receiver<Request>,
    shared: Arc<Mutex<Shared>>,
    desired: Desired,
    pending_services: Option<Vec<Sender<u64>>>,
    pending_forwarding: Option<Box<Forwarding>>,
    /// When forwarding was published last.
    forwarded: Option<Instant>,
}

/// What [`Publisher::new`] gives back.
pub struct Start {
    /// Run it on a thread of its own.
    pub publisher: Publisher,
    /// For everybody else.
    pub handle: Handle,
    /// One pair of readers per worker.
    pub readers: Vec<(epoch::Reader<Services>, epoch::Reader<Forwarding>)>,
}

impl Publisher {
    /// Builds the first tables for `workers` workers.
    pub fn start(workers: usize, desired: Desired, forwarding: Forwarding) -> Start {
        let mut registry = Registry::new(workers);
        let first = registry.build(&desired, 1, Instant::now());
        let (services, services_readers) = epoch::channel(first, workers);
        let (forwarding, forwarding_readers) = epoch::channel(forwarding, workers);
        let shared = Arc::new(Mutex::new(Shared {
            registry,
            services,
            forwarding,
        }));
        // Bounded, so that a stuck publisher is felt by who feeds it and memory stays flat.
        let (sender, requests) = bounded(64);
        Start {
            publisher: Self {
                requests,
                shared: Arc::clone(&shared),
                desired,
                pending_services: None,
                pending_forwarding: None,
                forwarded: None,
            },
            handle: Handle {
                requests: sender,
                shared,
            },
            readers: services_readers
                .into_iter()
                .zip(forwarding_readers)
                .collect(),
        }
    }

    /// Serves requests until [`Handle::stop`] or until every handle is gone.
    pub fn run(&mut self) {
        let mut housekeeping = Instant::now() + HOUSEKEEPING;
        loop {
            let pending = self.pending_services.is_some() || self.pending_forwarding.is_some();
            let wait = if pending { RETRY } else { HOUSEKEEPING };
            match self.requests.recv_timeout(wait) {
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(request) => self.accept(request),
                Err(RecvTimeoutError::Timeout) => {}
            }
            while let Ok(request) = self.requests.try_recv() {
                if matches!(request, Request::Stop) {
                    return;
                }
                self.accept(request);
            }
            let now = Instant::now();
            self.publish(now);
            if now >= housekeeping {
                housekeeping = now + HOUSEKEEPING;
                self.tidy(now);
            }
        }
    }

    fn accept(&mut self, request: Request) {
        match request {
            Request::Services(desired, reply) => {
                self.desired = *desired;
                self.pending_services.get_or_insert_default().push(reply);
            }
            Request::Forwarding(forwarding) => self.pending_forwarding = Some(forwarding),
            Request::Stop => {}
        }
    }

    fn publish(&mut self, now: Instant) {
        let mut shared = lock(&self.shared);
        let shared = &mut *shared;
        if self.pending_services.is_some() && shared.services.is_ready() {
            let next = shared.services.epoch() + 1;
            let table = shared.registry.build(&self.desired, next, now);
            let epoch = shared.services.publish(table);
            for reply in self.pending_services.take().into_iter().flatten() {
                // Whoever asked may have given up waiting.
                let _ = reply.send(epoch);
            }
        }
        let due = self
            .forwarded
            .is_none_or(|last| now - last >= FORWARDING_INTERVAL);
        if due
            && shared.forwarding.is_ready()
            && let Some(forwarding) = self.pending_forwarding.take()
        {
            shared.forwarding.publish(*forwarding);
            self.forwarded = Some(now);
        }
    }

    fn tidy(&mut self, now: Instant) {
        let mut shared = lock(&self.shared);
        let shared = &mut *shared;
        shared.forwarding.reclaim();
        shared.services.reclaim();
        let oldest = (0..shared.registry.workers())
            .map(|worker| shared.services.seen(worker))
            .min()
            .unwrap_or(u64::MAX);
        if shared.registry.forget(oldest, now) {
            self.pending_services.get_or_insert_default();
        }
    }
}

impl Handle {
    /// Makes the services table what `desired` says; returns its epoch once it is published, not
    /// waiting for workers. `None` if the publisher has stopped.
    pub fn publish_services(&self, desired: Desired) -> Option<u64> {
        let (sender, receiver) = bounded(1);
        self.requests
            .send(Request::Services(Box::new(desired), sender))
            .ok()?;
        receiver.recv().ok()
    }

    /// Replaces the forwarding table soon.
    pub fn publish_forwarding(&self, forwarding: Forwarding) {
        // A publisher that has stopped needs no table.
        let _ = self
            .requests
            .send(Request::Forwarding(Box::new(forwarding)));
    }

    /// Waits until every worker works with services `epoch` or a later one. False on timeout.
    pub fn wait_services(&self, epoch: u64, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if lock(&self.shared).services.all_seen(epoch) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The newest epochs of services and forwarding, and per worker those it works with.
    pub fn epochs(&self) -> ((u64, u64), Vec<(u64, u64)>) {
        let shared = lock(&self.shared);
        (
            (shared.services.epoch(), shared.forwarding.epoch()),
            shared.seen(),
        )
    }

    /// The newest services table.
    pub fn services(&self) -> Arc<Services> {
        Arc::clone(lock(&self.shared).services.current())
    }

    /// What is published now, with totals over every server: for listings, not for watching.
    pub fn published(&self) -> Published {
        let shared = lock(&self.shared);
        Published {
            services: Arc::clone(shared.services.current()),
            services_epoch: shared.services.epoch(),
            forwarding: Arc::clone(shared.forwarding.current()),
            forwarding_epoch: shared.forwarding.epoch(),
            seen: shared.seen(),
            totals: shared.registry.totals(),
            tombstones: shared.registry.tombstones(),
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        let _ = self.requests.send(Request::Stop);
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    // A panic while building a table leaves the old one in place, which is the right one to keep.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{DesiredServer, DesiredService};
    use dataplane::address::Protocol;
    use dataplane::service::Forward;
    use std::net::IpAddr;

    fn desired(weight: u32) -> Desired {
        let key = ServiceKey {
            protocol: Protocol::Tcp,
            address: IpAddr::from([10, 0, 1, 50]),
            port: 80,
        };
        let server = DesiredServer {
            name: "rs1".into(),
            address: IpAddr::from([10, 0, 1, 11]),
            port: 80,
            weight,
            forward: Forward::Dr,
            upper_threshold: 0,
            lower_threshold: 0,
        };
        Desired {
            services: vec![DesiredService {
                servers: vec![server],
                ..DesiredService::new(key, "web")
            }],
            ..Desired::default()
        }
    }

    fn weight(services: &Services) -> u32 {
        services.services()[0].list.servers[0].weight
    }

    /// A running publisher for one worker, ended when dropped.
    struct Running {
        handle: Handle,
        thread: Option<std::thread::JoinHandle<()>>,
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.handle.stop();
            self.thread.take().unwrap().join().unwrap();
        }
    }

    fn run() -> (Running, epoch::Reader<Services>, epoch::Reader<Forwarding>) {
        let Start {
            mut publisher,
            handle,
            mut readers,
        } = Publisher::start(1, desired(1), Forwarding::default());
        let (services, forwarding) = readers.remove(0);
        let thread = Some(std::thread::spawn(move || publisher.run()));
        (Running { handle, thread }, services, forwarding)
    }

    #[test]
    fn a_new_table_is_seen_by_the_worker_at_its_next_burst() {
        let (running, mut services, _forwarding) = run();
        let epoch = running.handle.publish_services(desired(7)).unwrap();
        assert_eq!(weight(&services), 1);
        assert!(!running.handle.wait_services(epoch, Duration::ZERO));
        services.refresh();
        assert_eq!(weight(&services), 7);
        assert!(running.handle.wait_services(epoch, Duration::ZERO));
        assert_eq!(running.handle.published().seen, [(epoch, 1)]);
    }

    #[test]
    fn changes_merge_while_a_late_worker_holds_two_old_tables() {
        let (running, mut services, _forwarding) = run();
        let first = running.handle.publish_services(desired(2)).unwrap();
        let second = running.handle.publish_services(desired(3)).unwrap();
        assert_eq!((first, second), (2, 3));
        // The worker still has the first table: what comes now waits for it, as one change.
        let handle = running.handle.clone();
        let late = std::thread::spawn(move || handle.publish_services(desired(4)));
        let handle = running.handle.clone();
        let later = std::thread::spawn(move || handle.publish_services(desired(4)));
        while !running.handle.requests.is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(running.handle.published().services_epoch, second);
        services.refresh();
        let epochs = (late.join().unwrap(), later.join().unwrap());
        assert!(
            epochs.0 > Some(second) && epochs.1 > Some(second),
            "{epochs:?}"
        );
        services.refresh();
        assert_eq!(weight(&services), 4);
    }

    #[test]
    fn a_panicking_builder_leaves_the_old_table_in_force() {
        let (running, mut services, _forwarding) = run();
        let shared = Arc::clone(&running.handle.shared);
        let poisoned = std::thread::spawn(move || {
            let _guard = shared.lock();
            panic!("a builder that fails, on purpose");
        });
        assert!(poisoned.join().is_err());
        assert_eq!(weight(&running.handle.published().services), 1);
        running.handle.publish_services(desired(5)).unwrap();
        services.refresh();
        assert_eq!(weight(&services), 5);
    }
}
