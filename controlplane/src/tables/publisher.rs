//! The publisher: the one thread that builds snapshots and gives them to the workers.
//!
//! Others send it what they want the tables to be; it merges. Forwarding tables are built and
//! published at most once per [`FORWARDING_INTERVAL`], services at once; neither is published while
//! two old tables are still in use somewhere (a late worker), then the changes wait and merge
//! (DESIGN §4).
//!
//! Building a large table takes a tenth of a second, freeing one nearly as long. Invariant: the
//! lock that status, watchdog and main loop take ([`Epochs`]) is never held for either.
//!
//! As the only writer of what the tables hold for workers to read, it also tells each worker every
//! [`SHARE_INTERVAL`] how many connections the others have, if there are others.

use super::desired::Desired;
use super::registry::{Registry, ServiceTotals, ServiceTraffic};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use dataplane::connection_counts::SHARE_INTERVAL;
use dataplane::epoch;
use dataplane::forwarding::Forwarding;
use dataplane::service::{ServiceKey, Services};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Shortest time between two forwarding tables.
pub(super) const FORWARDING_INTERVAL: Duration = Duration::from_millis(20);
/// How often a busy publisher looks whether the workers have moved on.
const RETRY: Duration = Duration::from_millis(1);
/// How often an idle one looks for identities to forget.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// Builds a forwarding table, on the publisher's thread. Only the newest of several is called.
struct Build {
    ticket: Ticket,
    make: Box<dyn FnOnce() -> Forwarding + Send>,
}

/// Stands for a forwarding table that was asked for, or a newer one in its place.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(u64);

/// What is asked of forwarding.
#[derive(Debug, Default)]
struct Asked {
    last: Ticket,
    /// How to build the newest table asked for, until the thread takes it.
    build: Option<Build>,
}

impl std::fmt::Debug for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Build")
    }
}

/// What the rest of the control plane asks of the publisher.
enum Request {
    Services(Box<Desired>, Sender<u64>),
    /// There is something in [`Shared::forwarding`].
    Forwarding,
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
    shared: Arc<Shared>,
    published: watch::Receiver<()>,
}

/// The publishing state; also read by [`Handle::published`]. Who takes both locks takes the
/// registry's first.
#[derive(Debug)]
struct Shared {
    /// Held while a table is built.
    registry: Mutex<Registry>,
    /// Held for moments.
    epochs: Mutex<Epochs>,
    /// Whoever asks never waits for a table that is being built.
    forwarding: Mutex<Asked>,
}

/// The tables in force and who has seen them.
#[derive(Debug)]
struct Epochs {
    workers: usize,
    services: epoch::Publisher<Services>,
    forwarding: epoch::Publisher<Forwarding>,
    /// That of the newest forwarding table.
    ticket: Ticket,
}

impl Epochs {
    fn seen(&self) -> Vec<(u64, u64)> {
        (0..self.workers)
            .map(|worker| (self.services.seen(worker), self.forwarding.seen(worker)))
            .collect()
    }
}

/// The thread's own state.
pub struct Publisher {
    requests: Receiver<Request>,
    shared: Arc<Shared>,
    published: watch::Sender<()>,
    desired: Desired,
    pending_services: Option<Vec<Sender<u64>>>,
    pending_forwarding: Option<Build>,
    /// When forwarding was published last.
    forwarded: Option<Instant>,
    /// Every table published and not freed yet: what [`Epochs`] lets go of is freed here, without
    /// its lock.
    services: Vec<Arc<Services>>,
    forwarding: Vec<Arc<Forwarding>>,
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
        let tables = (
            Arc::clone(services.current()),
            Arc::clone(forwarding.current()),
        );
        let shared = Arc::new(Shared {
            registry: Mutex::new(registry),
            epochs: Mutex::new(Epochs {
                workers,
                services,
                forwarding,
                ticket: Ticket::default(),
            }),
            forwarding: Mutex::default(),
        });
        let (publish, published) = watch::channel(());
        // Bounded, so that a stuck publisher is felt by who feeds it and memory stays flat.
        let (sender, requests) = bounded(64);
        Start {
            publisher: Self {
                requests,
                shared: Arc::clone(&shared),
                published: publish,
                desired,
                pending_services: None,
                pending_forwarding: None,
                forwarded: None,
                services: vec![tables.0],
                forwarding: vec![tables.1],
            },
            handle: Handle {
                requests: sender,
                shared,
                published,
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
        let several = self.epochs().workers > 1;
        let idle = if several {
            SHARE_INTERVAL
        } else {
            HOUSEKEEPING
        };
        let mut sharing = Instant::now();
        loop {
            #[cfg(feature = "test-hooks")]
            crate::test_hooks::pause("the publisher");
            let pending = self.pending_services.is_some() || self.pending_forwarding.is_some();
            let wait = if pending { RETRY } else { idle };
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
            if several && now >= sharing {
                self.share_counts();
                // From the end: a box with very many servers spends only a part of its time on it.
                sharing = Instant::now() + SHARE_INTERVAL;
            }
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
            Request::Forwarding | Request::Stop => {}
        }
    }

    fn publish(&mut self, now: Instant) {
        if let Some(build) = lock(&self.shared.forwarding).build.take() {
            self.pending_forwarding = Some(build);
        }
        if self.pending_services.is_some()
            && self.epochs().services.is_ready()
            && let Some(replies) = self.pending_services.take()
        {
            // In hand and not in `self`: should building panic, whoever asked hears that it failed,
            // and it is not tried for ever.
            let next = self.epochs().services.epoch() + 1;
            let table = lock(&self.shared.registry).build(&self.desired, next, now);
            if self.epochs().workers > 1 {
                // What was shared last is old for servers that come back.
                table.share_counts();
            }
            let (epoch, table) = {
                let mut epochs = self.epochs();
                let epoch = epochs.services.publish(table);
                (epoch, Arc::clone(epochs.services.current()))
            };
            self.services.push(table);
            self.published.send_replace(());
            for reply in replies {
                // Whoever asked may have given up waiting.
                let _ = reply.send(epoch);
            }
        }
        let due = self
            .forwarded
            .is_none_or(|last| now - last >= FORWARDING_INTERVAL);
        if due
            && self.epochs().forwarding.is_ready()
            && let Some(build) = self.pending_forwarding.take()
        {
            let table = (build.make)();
            let table = {
                let mut epochs = self.epochs();
                epochs.forwarding.publish(table);
                epochs.ticket = build.ticket;
                Arc::clone(epochs.forwarding.current())
            };
            self.forwarding.push(table);
            self.published.send_replace(());
            // From the end of building: a table that takes longer than the interval to build must
            // not keep this thread from everything else.
            self.forwarded = Some(Instant::now());
        }
        free(&mut self.services);
        free(&mut self.forwarding);
    }

    /// Without the lock: whoever looks at the tables meanwhile need not wait.
    fn share_counts(&self) {
        let services = Arc::clone(self.epochs().services.current());
        services.share_counts();
    }

    fn tidy(&mut self, now: Instant) {
        let oldest = {
            let mut epochs = self.epochs();
            epochs.forwarding.reclaim();
            epochs.services.reclaim();
            (0..epochs.workers)
                .map(|worker| epochs.services.seen(worker))
                .min()
                .unwrap_or(u64::MAX)
        };
        free(&mut self.services);
        free(&mut self.forwarding);
        if lock(&self.shared.registry).forget(oldest, now) {
            self.pending_services.get_or_insert_default();
        }
    }

    fn epochs(&self) -> MutexGuard<'_, Epochs> {
        lock(&self.shared.epochs)
    }
}

/// Frees what nobody else has any more.
fn free<T>(tables: &mut Vec<Arc<T>>) {
    tables.retain(|table| Arc::strong_count(table) > 1);
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

    /// Replaces the forwarding table soon with what `build` makes; it is called on the publisher's
    /// thread, or not at all if a newer one comes before its turn.
    pub fn publish_forwarding(
        &self,
        build: impl FnOnce() -> Forwarding + Send + 'static,
    ) -> Ticket {
        let ticket = {
            let mut asked = lock(&self.shared.forwarding);
            asked.last = Ticket(asked.last.0 + 1);
            asked.build = Some(Build {
                ticket: asked.last,
                make: Box::new(build),
            });
            asked.last
        };
        // A queue that is full will be looked at all the same; a publisher that has stopped needs
        // no table.
        let _ = self.requests.try_send(Request::Forwarding);
        ticket
    }

    /// True if every worker works with the forwarding table of this ticket or with a later one.
    pub fn is_taken(&self, ticket: Ticket) -> bool {
        let epochs = self.lock_epochs();
        epochs.ticket >= ticket && epochs.forwarding.all_seen(epochs.forwarding.epoch())
    }

    /// Changes with every table published.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.published.clone()
    }

    /// Waits until every worker works with services `epoch` or a later one. False on timeout.
    pub fn wait_services(&self, epoch: u64, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if self.lock_epochs().services.all_seen(epoch) {
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
        let epochs = self.lock_epochs();
        (
            (epochs.services.epoch(), epochs.forwarding.epoch()),
            epochs.seen(),
        )
    }

    /// The newest services table.
    pub fn services(&self) -> Arc<Services> {
        Arc::clone(self.lock_epochs().services.current())
    }

    /// The newest forwarding table.
    pub fn forwarding(&self) -> Arc<Forwarding> {
        Arc::clone(self.lock_epochs().forwarding.current())
    }

    /// What is published now, with totals over every server: for listings, not for watching.
    pub fn published(&self) -> Published {
        // Both at once, so that the totals go with the table.
        let registry = lock(&self.shared.registry);
        let totals = registry.totals();
        let tombstones = registry.tombstones();
        let epochs = self.lock_epochs();
        Published {
            services: Arc::clone(epochs.services.current()),
            services_epoch: epochs.services.epoch(),
            forwarding: Arc::clone(epochs.forwarding.current()),
            forwarding_epoch: epochs.forwarding.epoch(),
            seen: epochs.seen(),
            totals,
            tombstones,
        }
    }

    /// What went through every service and its servers, for `ipvsadm`.
    pub fn traffic(&self) -> HashMap<ServiceKey, ServiceTraffic> {
        lock(&self.shared.registry).traffic()
    }

    /// Shows the counters of these services and their servers to `ipvsadm` from 0 on.
    pub fn zero(&self, services: &[ServiceKey]) {
        if !services.is_empty() {
            lock(&self.shared.registry).zero(services);
        }
    }

    fn lock_epochs(&self) -> MutexGuard<'_, Epochs> {
        lock(&self.shared.epochs)
    }

    /// Ends the thread.
    pub fn stop(&self) {
        let _ = self.requests.send(Request::Stop);
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while building a table leaves the old one in place, which is the right one to keep.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{DesiredServer, DesiredService};
    use dataplane::address::Protocol;
    use dataplane::service::Forward;
    use dataplane::verdict::WorkerId;
    use std::net::IpAddr;

    fn desired(weight: u32) -> Desired {
        let key = ServiceKey::new(Protocol::Tcp, IpAddr::from([10, 0, 1, 50]), 80);
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
        let (running, mut readers) = run_for(1);
        let (services, forwarding) = readers.remove(0);
        (running, services, forwarding)
    }

    type Readers = Vec<(epoch::Reader<Services>, epoch::Reader<Forwarding>)>;

    fn run_for(workers: usize) -> (Running, Readers) {
        let Start {
            mut publisher,
            handle,
            readers,
        } = Publisher::start(workers, desired(1), Forwarding::default());
        let thread = Some(std::thread::spawn(move || publisher.run()));
        (Running { handle, thread }, readers)
    }

    /// Waits until what `worker` sees of the first server is `active` connections.
    fn await_estimate(services: &Services, worker: u8, active: u64) {
        let shared = &services.services()[0].list.servers[0].shared;
        let counts = shared.counts(WorkerId(worker));
        let deadline = Instant::now() + Duration::from_secs(20);
        while counts.estimate(2).active != active {
            let now = counts.estimate(2);
            assert!(Instant::now() < deadline, "{now:?} instead of {active}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn each_worker_learns_what_the_other_one_has() {
        let (running, mut readers) = run_for(2);
        let bind = |services: &Services, worker: u8, connections: u32| {
            let shared = &services.services()[0].list.servers[0].shared;
            for _ in 0..connections {
                shared.counts(WorkerId(worker)).bind(true);
            }
        };
        bind(&readers[0].0, 0, 30);
        bind(&readers[1].0, 1, 12);
        await_estimate(&readers[0].0, 0, 42);
        await_estimate(&readers[1].0, 1, 42);
        // A server that left and came back is not remembered as it was: the table is published
        // with the counts of that moment.
        let without = Desired {
            services: vec![DesiredService {
                servers: Vec::new(),
                ..desired(1).services.remove(0)
            }],
            ..Desired::default()
        };
        running.handle.publish_services(without).unwrap();
        bind(&readers[0].0, 0, 8);
        let epoch = running.handle.publish_services(desired(1)).unwrap();
        for (services, _) in &mut readers {
            services.refresh();
        }
        assert!(running.handle.wait_services(epoch, Duration::ZERO));
        let (first, _) = &readers[0];
        let shared = &first.services()[0].list.servers[0].shared;
        assert_eq!(shared.counts(WorkerId(1)).estimate(2).active, 50);
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
    fn of_several_forwarding_tables_only_the_newest_is_built() {
        let (running, _services, mut forwarding) = run();
        let built = Arc::new(Mutex::new(Vec::new()));
        // The first is in the making until the others wait behind it.
        let (begun, has_begun) = bounded::<()>(1);
        let (proceed, gate) = bounded::<()>(0);
        let note = |number: u32| {
            let built = Arc::clone(&built);
            move || {
                built.lock().unwrap().push(number);
                Forwarding::default()
            }
        };
        let mut changes = running.handle.changes();
        let first = note(1);
        running.handle.publish_forwarding(move || {
            begun.send(()).unwrap();
            gate.recv().unwrap();
            first()
        });
        has_begun.recv().unwrap();
        for number in 2..=5 {
            running.handle.publish_forwarding(note(number));
        }
        // Whoever asks for epochs meanwhile is not kept waiting.
        assert_eq!(running.handle.epochs().0, (1, 1));
        proceed.send(()).unwrap();
        while running.handle.epochs().0.1 < 3 {
            std::thread::yield_now();
        }
        assert_eq!(*built.lock().unwrap(), [1, 5]);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert!(forwarding.refresh());
    }

    #[test]
    fn a_panicking_builder_leaves_the_old_table_in_force() {
        let (running, mut services, _forwarding) = run();
        let shared = Arc::clone(&running.handle.shared);
        let poisoned = std::thread::spawn(move || {
            let _registry = shared.registry.lock();
            let _epochs = shared.epochs.lock();
            panic!("a builder that fails, on purpose");
        });
        assert!(poisoned.join().is_err());
        assert_eq!(weight(&running.handle.published().services), 1);
        running.handle.publish_services(desired(5)).unwrap();
        services.refresh();
        assert_eq!(weight(&services), 5);
    }
}
