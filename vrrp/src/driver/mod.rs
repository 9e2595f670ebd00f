//! The thin edge of the virtual routers: a thread that moves packets, interfaces' states and actions between
//! [`Routers`] and Linux.
//!
//! ```text
//!   raw sockets (receiver) ─┐                         ┌─► sender: raw sockets     announcer: packet socket
//!   rtnetlink (links) ──────┼─► thread ─► Machine ─►──┼─► address, virtual_interface: rtnetlink   refusal: nf_tables
//!   Driver::send ───────────┘   (clock)               ├─► routing: rtnetlink
//!                                                     └─► outcome: bounded channel to the host
//! ```
//! Invariants: one thread, real-time if permitted, that shares no lock with any other; no call of [`Driver`] but
//! questions ([`Driver::status`]) and [`Driver::stop`] ever waits, and these for a bounded time; while the thread is
//! held up what waits for it stays within bounds.

mod address;
mod announcer;
mod clock;
mod counters;
mod datagram;
mod filter;
mod gratuitous_arp;
mod latest;
mod leftover;
mod links;
mod machine;
mod neighbour_advertisement;
mod netlink;
pub mod nf_tables;
mod outcome;
mod placement;
mod plan;
mod receiver;
mod refusal;
mod routing;
mod sender;
mod silence;
mod sysctl;
mod thread;
mod trouble;
mod virtual_interface;

pub use counters::DriverCounters;
pub use leftover::remove_leftovers;
pub use machine::Machine;
pub use outcome::{Moment, Outcome};
pub use virtual_interface::virtual_interface_name;

use crate::input::Report;
use crate::routers::Routers;
use crate::settings::{Name, Settings, Tracked};
use crate::status::RouterStatus;
use clock::{Bell, Clock};
use counters::Counters;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use latest::{Latest, Waiting};
use outcome::Outbox;
use plan::Plan;
use std::collections::BTreeMap;
use std::io::Result;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thread::{Edge, Progress, Thread};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// What the host says.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// The data plane forwards for this router, the answer to [`Outcome::Claim`].
    Claimed(Name),
    /// Something tracked is as told now.
    Tracked(Tracked, Report),
    /// This router yields to its peers for once.
    Release(Name),
    /// This box takes no part (`true`), or does again.
    Maintenance(bool),
    /// The configuration changed.
    Reconfigure(Settings),
    /// Every Active router says so and lets go; then the thread ends. See [`Driver::stop`].
    Stop,
}

/// How the driver works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// There is a data plane: claims are told to the host, which answers with [`Control::Claimed`]. Without one they
    /// are granted at once and not told.
    pub claims: bool,
    /// Called in each round before anything is read. For tests that have the thread not run for a while.
    pub pause: Option<fn()>,
    /// Outcomes that can wait for the host; more events are lost and counted.
    pub outcomes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            claims: false,
            pause: None,
            outcomes: 4096,
        }
    }
}

/// Virtual routers at work. Dropping it stops them as [`Driver::stop`] does.
#[derive(Debug)]
pub struct Driver {
    // Not bounded, because a message lost would be wrong for ever. What waits is: a report of each thing tracked,
    // QUESTIONS, an answer to each claim, and what operators say.
    messages: Sender<Message>,
    /// For whoever sends; the thread never takes it.
    latest: Mutex<Latest>,
    /// Questions that wait for the thread.
    questions: Arc<AtomicUsize>,
    outcomes: Receiver<Outcome>,
    counters: Arc<Counters>,
    bell: Bell,
    thread: Option<JoinHandle<()>>,
    realtime: std::result::Result<(), String>,
}

/// What goes to the thread.
#[derive(Debug)]
enum Message {
    Control(Control),
    Tracked(Tracked, Waiting),
    Question(Question),
}

/// What is asked, with where the answer goes.
#[derive(Debug)]
enum Question {
    Status(Sender<Vec<RouterStatus>>),
    Ignored(Sender<BTreeMap<&'static str, u64>>),
}

impl Driver {
    /// Starts the virtual routers in the network namespace of the calling thread. Needs `CAP_NET_RAW` and
    /// `CAP_NET_ADMIN`. What a process that was killed left there is removed before the first advertisement, as
    /// [`remove_leftovers`] does.
    pub fn start(settings: Settings, options: Options) -> Result<Self> {
        let plan = Plan::new(&settings);
        Self::spawn(plan, Routers::new(settings, Instant::now()), options)
    }

    /// Starts with another state machine than [`Routers`].
    pub fn start_with(
        machine: impl Machine,
        settings: &Settings,
        options: Options,
    ) -> Result<Self> {
        Self::spawn(Plan::new(settings), machine, options)
    }

    fn spawn(plan: Plan, machine: impl Machine, options: Options) -> Result<Self> {
        let clock = Clock::new()?;
        let bell = clock.bell();
        let counters = Arc::new(Counters::default());
        let questions = Arc::new(AtomicUsize::new(0));
        let (messages, inbox) = unbounded();
        let (outbox, outcomes) = bounded(options.outcomes);
        let thread = Thread {
            edge: Edge::open()?,
            machine,
            plan,
            options,
            clock,
            messages: inbox,
            questions: Arc::clone(&questions),
            counters: Arc::clone(&counters),
            outbox: Outbox::new(outbox),
            progress: Progress::new(),
        };
        let (report, priority) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("vrrp".into())
            .spawn(move || {
                let _ = report.send(become_realtime());
                thread.run();
            })?;
        let realtime = priority
            .recv()
            .unwrap_or_else(|_| Err("the thread ended at once".into()));
        Ok(Self {
            messages,
            latest: Mutex::default(),
            questions,
            outcomes,
            counters,
            bell,
            thread: Some(thread),
            realtime,
        })
    }

    /// Says something to the virtual routers. Never waits; what is said after [`Control::Stop`] may not be heard.
    pub fn send(&self, control: Control) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let message = match control {
            Control::Tracked(tracked, report) => match latest.note(&tracked, report) {
                Some(waiting) => Message::Tracked(tracked, waiting),
                None => return,
            },
            Control::Reconfigure(_) => {
                latest.begin();
                Message::Control(control)
            }
            Control::Claimed(_) | Control::Release(_) | Control::Maintenance(_) | Control::Stop => {
                Message::Control(control)
            }
        };
        // It cannot be heard once the thread has ended.
        let is_sent = self.messages.send(message).is_ok();
        drop(latest);
        if is_sent {
            self.bell.ring();
        }
    }

    /// What the host is told. It ends (is disconnected) when the thread has, after it took its addresses away.
    pub fn outcomes(&self) -> Receiver<Outcome> {
        self.outcomes.clone()
    }

    /// What an operator sees of the virtual routers, once what follows from it has been done in the kernel; `None` =
    /// the thread did not answer in time.
    pub fn status(&self, timeout: Duration) -> Option<Vec<RouterStatus>> {
        self.ask(Question::Status, timeout)
    }

    /// Packets that are for none of the virtual routers, by reason; `None` = the thread did not answer in time.
    pub fn ignored(&self, timeout: Duration) -> Option<BTreeMap<&'static str, u64>> {
        self.ask(Question::Ignored, timeout)
    }

    fn ask<T>(&self, question: impl Fn(Sender<T>) -> Question, timeout: Duration) -> Option<T> {
        // A thread that does not answer is not asked for ever.
        if self.questions.fetch_add(1, Ordering::Relaxed) >= QUESTIONS {
            self.questions.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let (reply, answer) = bounded(1);
        let message = Message::Question(question(reply));
        self.messages.send(message).ok()?;
        self.bell.ring();
        answer.recv_timeout(timeout).ok()
    }

    /// What was counted so far.
    pub fn counters(&self) -> DriverCounters {
        self.counters.read()
    }

    /// Why the thread has no real-time priority, if it has none: one sentence for the log.
    pub fn realtime(&self) -> std::result::Result<(), &str> {
        self.realtime.as_ref().copied().map_err(String::as_str)
    }

    /// Whether the thread is at work.
    pub fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Has every Active router say so and let go, waits until that has been done and every claim has ended (without a
    /// data plane: every address has been taken away), 6 s at most. Outcomes can still be taken afterwards. `false` = the thread did not end by itself in that time, or
    /// panicked.
    pub fn stop(mut self) -> bool {
        self.finish()
    }

    fn finish(&mut self) -> bool {
        let Some(thread) = self.thread.take() else {
            return true;
        };
        self.send(Control::Stop);
        let end = Instant::now() + STOP;
        // There is no join with a timeout. The thread ends itself well before, unless a pause holds it.
        while !thread.is_finished() {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        thread.join().is_ok()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The lowest real-time priorities are above everything that is not real-time, and below what keeps the kernel going.
fn become_realtime() -> std::result::Result<(), String> {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    ThreadPriority::try_from(PRIORITY)
        .map_err(str::to_owned)
        .and_then(|priority| {
            set_thread_priority_and_policy(thread_native_id(), priority, policy)
                .map_err(|error| format!("no real-time priority: {error:?}"))
        })
}

/// Questions that may wait for the thread.
const QUESTIONS: usize = 64;
const PRIORITY: u8 = 10;
const STOP: Duration = Duration::from_secs(6);
