//! The driver's thread.
//!
//! Each round takes the time once and then goes in this order: packets, interfaces, what the host says, timers,
//! actions, answers. Because the clock is read *before* the sockets are, and a round reads all that a socket can hold,
//! an advertisement that waited while the thread could not run is always handed in before the timer that it should have
//! reset; a flood cannot keep timers from expiring either. Because answers come last, what they show has been done: a
//! router that is Backup by them has no address in the kernel any more.
//!
//! Invariant: nothing that fails here ends the thread. It is counted, told once per change, and tried again.

use super::announcer::Announcer;
use super::clock::Clock;
use super::counters::Counters;
use super::links::Links;
use super::machine::Machine;
use super::netlink::{Netlink, ROUTE};
use super::outcome::{Moment, Outbox, Outcome};
use super::placement::{self, Failures};
use super::plan::Plan;
use super::receiver::{Place, Receiver};
use super::refusal::Refusal;
use super::routing::Routing;
use super::sender::Sender;
use super::trouble::Troubles;
use super::virtual_interface::VirtualInterfaces;
use super::{Control, Message, Options, Question, address, leftover};
use crate::action::Action;
use crate::event::Event;
use crate::input::{Input, Interface};
use crate::settings::{Name, VirtualRoute};
use crossbeam_channel as channel;
use ipnet::IpNet;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// All that the thread owns.
pub(super) struct Thread<M> {
    // Fields are dropped in this order, and whoever sees the outcomes end takes the addresses for gone.
    pub(super) edge: Edge,
    pub(super) machine: M,
    pub(super) plan: Plan,
    pub(super) options: Options,
    pub(super) clock: Clock,
    pub(super) messages: channel::Receiver<Message>,
    /// Of them, questions.
    pub(super) questions: Arc<AtomicUsize>,
    pub(super) counters: Arc<Counters>,
    pub(super) outbox: Outbox,
    pub(super) progress: Progress,
}

/// Everything through which it touches the kernel.
pub(super) struct Edge {
    links: Links,
    netlink: Netlink,
    sender: Sender,
    announcer: Announcer,
    refusal: Refusal,
    virtual_interfaces: VirtualInterfaces,
    /// By device and whether it is IPv6.
    receivers: BTreeMap<(Name, bool), Receiver>,
    /// Addresses that were put in place and not taken away.
    placed: BTreeSet<(Name, IpNet)>,
    routing: Routing,
}

/// What it remembers from round to round.
pub(super) struct Progress {
    /// When the present settings came into effect.
    begun: Instant,
    told: BTreeMap<Name, Interface>,
    troubles: Troubles,
    /// Routers whose claim has not ended.
    claimed: BTreeSet<Name>,
    stopping: Option<Instant>,
    /// Interfaces that are told again then, though they are as they were.
    again: BTreeMap<Name, Instant>,
    /// Addresses the kernel does not take.
    failures: Failures,
    /// Interfaces are not as they were last told.
    stale: bool,
    /// Where listening failed, not tried again before `retry`.
    deaf: BTreeMap<(Name, bool), Place>,
    retry: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            told: BTreeMap::new(),
            troubles: Troubles::default(),
            claimed: BTreeSet::new(),
            stopping: None,
            again: BTreeMap::new(),
            failures: Failures::default(),
            stale: false,
            deaf: BTreeMap::new(),
            retry: None,
        }
    }
}

impl Edge {
    /// Opens the sockets in the network namespace of the calling thread.
    pub(super) fn open() -> Result<Self> {
        fn opened<T>(what: &str, result: Result<T>) -> Result<T> {
            result.map_err(|error| {
                Error::new(
                    error.kind(),
                    format!("cannot open {what} for VRRP: {error}"),
                )
            })
        }
        Ok(Self {
            links: opened("a netlink socket", Links::open())?,
            netlink: opened("a netlink socket", Netlink::open(ROUTE))?,
            sender: opened("a raw socket", Sender::open())?,
            announcer: opened("a packet socket", Announcer::open())?,
            refusal: Refusal::new(),
            virtual_interfaces: VirtualInterfaces::default(),
            receivers: BTreeMap::new(),
            placed: BTreeSet::new(),
            routing: Routing::default(),
        })
    }
}

impl<M: Machine> Thread<M> {
    /// Works until it is told to stop, and has.
    pub(super) fn run(mut self) {
        if let Err(error) = self.clock.listen(&self.edge.links) {
            self.result("watching", "interfaces", Err(error));
        }
        let now = Instant::now();
        self.follow_links();
        self.remove_leftovers();
        self.take_interfaces(now);
        self.machine.expire(now);
        self.act(now);
        while !self.finished() {
            let until = self.next_moment();
            if let Err(error) = self.clock.wait(until) {
                // Without epoll it has to look by itself.
                self.result("waiting for", "sockets", Err(error));
                std::thread::sleep(Duration::from_millis(1));
            }
            if let Some(pause) = self.options.pause {
                pause();
            }
            self.round();
        }
    }

    fn round(&mut self) {
        self.counters.rounds.add(1);
        let now = Instant::now();
        self.take_packets(now);
        self.follow_links();
        self.take_interfaces(now);
        let questions = self.take_messages(now);
        self.try_refused(now);
        self.machine.expire(now);
        self.act(now);
        self.outbox.flush();
        self.keep_routes(now);
        self.answer(questions, now);
    }

    fn next_moment(&mut self) -> Option<Instant> {
        let soon = |after| Some(Instant::now() + after);
        let held = if self.outbox.flush() {
            None
        } else {
            soon(HELD)
        };
        // What was found out or said in the middle of a round is the next one's.
        let more = self.progress.stale || !self.messages.is_empty();
        let more = if more { soon(Duration::ZERO) } else { None };
        let end = self.progress.stopping.map(|since| since + STOP_WITHIN);
        [
            self.machine.next_deadline(),
            self.progress.retry,
            self.progress.failures.next(),
            self.edge.routing.next(),
            held,
            more,
            end,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn finished(&mut self) -> bool {
        let Some(since) = self.progress.stopping else {
            return false;
        };
        // Without a data plane nothing is forwarded once the addresses are gone.
        let has_let_go = self.progress.claimed.is_empty()
            || (!self.options.claims && self.edge.placed.is_empty());
        since.elapsed() >= STOP_WITHIN || (has_let_go && self.outbox.flush())
    }

    fn take_packets(&mut self, now: Instant) {
        let mut failed = Vec::new();
        for (key, receiver) in &mut self.edge.receivers {
            let machine = &mut self.machine;
            let (taken, result) =
                receiver.receive(|packet| machine.handle(Input::Packet(packet), now));
            self.counters.packets_received.add(taken.packets);
            self.counters.packets_malformed.add(taken.malformed);
            self.counters.packets_overflowed.add(taken.overflowed);
            if let Err(error) = result {
                failed.push((key.clone(), error));
            }
        }
        for (key, error) in failed {
            // The interface went down or away; it is opened again when that is told or a second later.
            if let Some(receiver) = self.edge.receivers.remove(&key) {
                self.progress
                    .deaf
                    .insert(key.clone(), receiver.place().clone());
            }
            self.progress.retry.get_or_insert(now + RETRY);
            self.result("receiving on", &key.0, Err(error));
        }
    }

    fn follow_links(&mut self) {
        let watched = &self.plan.watched;
        let Edge { links, netlink, .. } = &mut self.edge;
        let followed = links.follow(netlink, |name| watched.contains(name));
        match followed {
            Ok(followed) => {
                self.progress.stale |= followed.changed;
                if followed.changed {
                    self.edge.routing.hurry(Instant::now());
                }
                self.counters
                    .netlink_resyncs
                    .add(u64::from(followed.resynchronised));
                self.result("reading", "interfaces", Ok(()));
            }
            Err(error) => {
                self.edge.links.distrust();
                self.counters.netlink_failures.add(1);
                self.progress.retry.get_or_insert(Instant::now() + RETRY);
                self.result("reading", "interfaces", Err(error));
            }
        }
    }

    /// Tells the state machine what is different about interfaces and listens where they are now.
    fn take_interfaces(&mut self, now: Instant) {
        if self.progress.retry.is_some_and(|retry| retry <= now) {
            self.progress.retry = None;
            self.progress.deaf.clear();
            self.progress.stale = true;
            let Progress { again, told, .. } = &mut self.progress;
            again.retain(|name, due| {
                let is_due = *due <= now;
                if is_due {
                    told.remove(name);
                }
                !is_due
            });
            self.progress.retry = again.values().min().copied();
        }
        if !std::mem::take(&mut self.progress.stale) {
            return;
        }
        self.tell_interfaces(now, false);
        // Virtual interfaces may have been asked for because of that.
        self.act(now);
        self.follow_links();
        self.keep_virtual_interfaces(now);
        self.tell_interfaces(now, true);
        self.listen(now);
    }

    fn tell_interfaces(&mut self, now: Instant, virtual_ones: bool) {
        for name in &self.plan.watched {
            if self.plan.virtual_interfaces.contains(name) != virtual_ones {
                continue;
            }
            let interface = self.edge.links.interface(name, &self.plan.addresses);
            let told = self.progress.told.get(name);
            if told == Some(&interface) {
                continue;
            }
            // One that is being made is no fault.
            let settled = self.progress.begun + MAKING;
            if virtual_ones && told.is_none() && !interface.up && now < settled {
                let retry = self.progress.retry.get_or_insert(settled);
                *retry = settled.min(*retry);
                continue;
            }
            self.progress.told.insert(name.clone(), interface.clone());
            self.machine
                .handle(Input::Interface(name.clone(), interface), now);
        }
    }

    fn listen(&mut self, now: Instant) {
        let places = self.plan.places(&self.edge.links, now);
        self.edge
            .receivers
            .retain(|key, receiver| places.get(key) == Some(receiver.place()));
        for (key, place) in places {
            if self.edge.receivers.contains_key(&key)
                || self.progress.deaf.get(&key) == Some(&place)
            {
                continue;
            }
            let device = place.device.clone();
            let result = Receiver::open(place.clone()).and_then(|receiver| {
                self.clock.listen(&receiver)?;
                self.edge.receivers.insert(key.clone(), receiver);
                Ok(())
            });
            if result.is_err() {
                self.progress.deaf.insert(key, place);
                self.progress.retry.get_or_insert(now + RETRY);
            }
            self.result("listening on", &device, result);
        }
    }

    /// Makes those again that went with the interface beneath, or that somebody removed.
    fn keep_virtual_interfaces(&mut self, now: Instant) {
        let Edge {
            links,
            netlink,
            virtual_interfaces,
            ..
        } = &mut self.edge;
        for (name, result) in virtual_interfaces.keep(netlink, links) {
            if result.is_err() {
                self.progress.retry.get_or_insert(now + RETRY);
            }
            self.result("making", &name, result);
        }
    }

    /// Does as the host says; its questions are for the end of the round.
    fn take_messages(&mut self, now: Instant) -> Vec<Question> {
        let mut questions = Vec::new();
        for _ in 0..MESSAGES {
            match self.messages.try_recv() {
                Ok(Message::Control(control)) => self.obey(control, now),
                Ok(Message::Tracked(tracked, waiting)) => {
                    if let Some(report) = waiting.take() {
                        self.obey(Control::Tracked(tracked, report), now);
                    }
                }
                Ok(Message::Question(question)) => {
                    self.questions.fetch_sub(1, Ordering::Relaxed);
                    questions.push(question);
                }
                Err(channel::TryRecvError::Empty) => break,
                // The host is gone without a word.
                Err(channel::TryRecvError::Disconnected) => {
                    if self.progress.stopping.is_none() {
                        self.obey(Control::Stop, now);
                    }
                    break;
                }
            }
        }
        questions
    }

    fn answer(&self, questions: Vec<Question>, now: Instant) {
        for question in questions {
            // Who asked may have given up.
            match question {
                Question::Status(reply) => {
                    let _ = reply.try_send(self.machine.status(now));
                }
                Question::Ignored(reply) => {
                    let _ = reply.try_send(self.machine.counters());
                }
            }
        }
    }

    fn obey(&mut self, control: Control, now: Instant) {
        let input = match control {
            Control::Claimed(router) => Input::Claimed(router),
            Control::Tracked(tracked, report) => Input::Tracked(tracked, report),
            Control::Release(router) => Input::Release(router),
            Control::Maintenance(on) => Input::Maintenance(on),
            Control::Stop => {
                self.progress.stopping.get_or_insert(now);
                Input::Stop
            }
            Control::Reconfigure(settings) => {
                let before = std::mem::replace(&mut self.plan, Plan::new(&settings));
                self.plan.succeed(&before, now + STOP_WITHIN);
                self.progress.begun = now;
                self.progress.failures.keep(&self.plan.addresses);
                let watched = &self.plan.watched;
                self.progress.told.retain(|name, _| watched.contains(name));
                // Addresses of interfaces that nobody watched are not known.
                self.edge.links.distrust();
                self.machine.handle(Input::Reconfigure(settings), now);
                self.follow_links();
                self.progress.stale = true;
                self.take_interfaces(now);
                return;
            }
        };
        self.machine.handle(input, now);
    }

    fn act(&mut self, now: Instant) {
        while let Some(action) = self.machine.next_action() {
            self.perform(action, now);
        }
    }

    fn perform(&mut self, action: Action, now: Instant) {
        match action {
            Action::Send(advert) => {
                let result = self
                    .index(&advert.interface)
                    .and_then(|index| self.edge.sender.send(index, &advert));
                let counter = match result {
                    Ok(()) => &self.counters.adverts_sent,
                    Err(_) => &self.counters.send_failures,
                };
                counter.add(1);
                self.result("sending on", &advert.interface, result);
            }
            Action::Announce { interface, address } => {
                let link = self.edge.links.named(&interface);
                let result = match link {
                    Some(link) => self.edge.announcer.announce(link, address),
                    None => Err(Errno::NODEV.into()),
                };
                let counter = match result {
                    Ok(()) => &self.counters.announcements_sent,
                    Err(_) => &self.counters.announce_failures,
                };
                counter.add(1);
                self.result("announcing on", &interface, result);
            }
            Action::AddAddress { interface, address } => {
                let result = self
                    .index(&interface)
                    .and_then(|index| address::add(&mut self.edge.netlink, index, address));
                let place = (interface.clone(), address);
                match result {
                    Ok(true) => {
                        self.placeable(place.clone(), true, now);
                        self.edge.placed.insert(place);
                    }
                    // The owner's: not ours to take away.
                    Ok(false) => self.placeable(place, true, now),
                    // Told again, the state machine sees that it is missing, and asks again.
                    Err(_) => {
                        let due = now + RETRY;
                        self.progress.again.insert(interface.clone(), due);
                        self.progress.retry.get_or_insert(due);
                        self.placeable(place, false, now);
                    }
                }
                self.changed("adding an address on", &interface, result.map(|_| ()));
            }
            Action::RemoveAddress { interface, address } => {
                let place = (interface.clone(), address);
                self.progress.failures.withdrawn(&place);
                let result = self.edge.remove_address(&interface, address);
                self.changed("removing an address on", &interface, result);
            }
            Action::AddRoute { router, route } => {
                let place = route.to_string();
                let result = self.edge.add_route(router, route, now);
                self.changed(ADDING_ROUTE, &place, result);
            }
            Action::RemoveRoute { router, route } => {
                let (is_over, result) = self.edge.remove_route(&router, &route);
                let place = route.to_string();
                if is_over {
                    self.progress.troubles.forget(ADDING_ROUTE, &place);
                }
                self.changed("removing the route", &place, result);
            }
            Action::MakeInterface(wanted) => {
                let name = wanted.name.clone();
                let Edge {
                    links,
                    netlink,
                    virtual_interfaces,
                    ..
                } = &mut self.edge;
                let result = virtual_interfaces.make(netlink, links, wanted);
                self.changed("making", &name, result);
                // What comes next may want to use it.
                self.follow_links();
            }
            Action::RemoveInterface { name } => {
                let result = self.edge.remove_interface(&name);
                self.changed("removing", &name, result);
            }
            Action::Refuse { router, addresses } => {
                let result = self.edge.refusal.set(router.clone(), addresses);
                self.changed("refusing packets of", &router, result);
            }
            Action::Claim {
                router,
                addresses,
                own,
            } => {
                self.progress.claimed.insert(router.clone());
                if self.options.claims {
                    let at = Moment::now();
                    let claim = Outcome::Claim {
                        at,
                        router,
                        addresses,
                        own,
                    };
                    self.outbox.put(claim, &self.counters);
                } else {
                    self.machine.handle(Input::Claimed(router), now);
                }
            }
            Action::Disclaim { router } => {
                self.progress.claimed.remove(&router);
                if self.options.claims {
                    let at = Moment::now();
                    self.outbox
                        .put(Outcome::Disclaim { at, router }, &self.counters);
                }
            }
            Action::Tell(event) => self.tell(event),
        }
    }

    /// An address could be placed or not: the state machine hears of it when that lasts.
    fn placeable(&mut self, place: placement::Place, possible: bool, now: Instant) {
        let failures = &mut self.progress.failures;
        let is_news = if possible {
            failures.placed(&place)
        } else {
            failures.failed(place.clone(), now)
        };
        if is_news {
            self.tell_placeable(place, possible, now);
        }
    }

    fn tell_placeable(
        &mut self,
        (interface, address): placement::Place,
        possible: bool,
        now: Instant,
    ) {
        let input = Input::Placeable {
            interface,
            address,
            possible,
        };
        self.machine.handle(input, now);
    }

    /// Looks whether the kernel would take now what it refused.
    fn try_refused(&mut self, now: Instant) {
        for place in self.progress.failures.due(now) {
            let index = self.index(&place.0);
            let netlink = &mut self.edge.netlink;
            let works = index.and_then(|index| placement::probe(netlink, index, place.1));
            self.progress.failures.probed(&place, works.is_ok(), now);
            if works.is_ok() {
                self.tell_placeable(place, true, now);
            }
        }
    }

    fn keep_routes(&mut self, now: Instant) {
        let Edge {
            links,
            netlink,
            routing,
            ..
        } = &mut self.edge;
        for (route, result) in routing.keep(netlink, |name| index(links, name), now) {
            self.changed(ADDING_ROUTE, &route, result);
        }
    }

    fn remove_leftovers(&mut self) {
        let Edge { links, netlink, .. } = &mut self.edge;
        for result in leftover::remove(netlink, links, &self.plan) {
            if let Err(what) = result {
                self.changed("removing", "leftovers", Err(Error::other(what)));
            }
        }
        self.follow_links();
    }

    fn index(&self, interface: &str) -> Result<u32> {
        index(&self.edge.links, interface)
    }

    /// Counts a change that the kernel refused.
    fn changed(&mut self, what: &'static str, place: &str, result: Result<()>) {
        if result.is_err() {
            self.counters.netlink_failures.add(1);
        }
        self.result(what, place, result);
    }

    /// Tells the routers that have to do with a place if how it goes there is news.
    fn result(&mut self, what: &'static str, place: &str, result: Result<()>) {
        if let Some(sentence) = self.progress.troubles.news(what, place, &result) {
            for router in self.plan.users(place) {
                let what = sentence.clone();
                self.tell(match result {
                    Ok(()) => Event::Notice { router, what },
                    Err(_) => Event::Trouble { router, what },
                });
            }
        }
    }

    fn tell(&mut self, event: Event) {
        let at = Moment::now();
        self.outbox
            .put(Outcome::Event { at, event }, &self.counters);
    }
}

impl Edge {
    fn remove_address(&mut self, interface: &Name, address: IpNet) -> Result<()> {
        self.placed.remove(&(interface.clone(), address));
        match self.links.named(interface) {
            Some(link) => address::remove(&mut self.netlink, link.index, address),
            None => Ok(()),
        }
    }

    fn add_route(&mut self, router: Name, route: VirtualRoute, now: Instant) -> Result<()> {
        let links = &self.links;
        let index = |name: &str| index(links, name);
        self.routing
            .add(&mut self.netlink, index, router, route, now)
    }

    fn remove_route(&mut self, router: &Name, route: &VirtualRoute) -> (bool, Result<()>) {
        let links = &self.links;
        let index = |name: &str| index(links, name);
        self.routing.remove(&mut self.netlink, index, router, route)
    }

    fn remove_interface(&mut self, name: &str) -> Result<()> {
        self.virtual_interfaces
            .remove(&mut self.netlink, &self.links, name)
    }
}

fn index(links: &Links, interface: &str) -> Result<u32> {
    let link = links.named(interface);
    link.map(|link| link.index)
        .ok_or_else(|| Error::from(Errno::NODEV))
}

/// However the thread ends, no route, address or interface of a virtual router stays behind for both boxes to have.
impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.links.follow(&mut self.netlink, |_| true);
        for (router, route) in self.routing.all() {
            let _ = self.remove_route(&router, &route);
        }
        for (interface, address) in std::mem::take(&mut self.placed) {
            let _ = self.remove_address(&interface, address);
        }
        for name in self.virtual_interfaces.names() {
            let _ = self.remove_interface(&name);
        }
        let _ = self.refusal.clear();
    }
}

const ADDING_ROUTE: &str = "adding the route";
/// After it was told to stop: a peer's advertisement and a second, at most 5 s, then whatever is left.
const STOP_WITHIN: Duration = Duration::from_millis(5_500);
/// Before what failed is tried again, unless the kernel tells of a change first.
const RETRY: Duration = Duration::from_secs(1);
/// Before what the host had no room for is offered again.
const HELD: Duration = Duration::from_millis(5);
/// What a virtual interface may take to come up before it is told that it is down.
const MAKING: Duration = Duration::from_millis(700);
/// Messages of the host per round.
const MESSAGES: usize = 256;
