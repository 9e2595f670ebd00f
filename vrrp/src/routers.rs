//! All virtual routers of a box and their sync groups.
//!
//! A packet goes to exactly the one router of its interface, family and VRID. What comes in is handled before timers
//! are: a box that slept through its deadlines decides by the packets that wait for it, so whoever drives this hands in
//! all of them before it calls [`Routers::expire`].

use crate::action::Action;
use crate::admission::{Verdict, complaint, judge};
use crate::counters::Counter;
use crate::event::{Event as Told, Standing, Transition};
use crate::group::Group;
use crate::input::{Input, Interface, Packet};
use crate::machine::{Backup, Cause, Event, Heard, Reaction, State};
use crate::packet;
use crate::router::{Out, Router};
use crate::settings::{Family, Name, RouterSettings, Settings, Tracked};
use crate::status::RouterStatus;
use crate::tracking::{Fault, Knowledge};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// All virtual routers of a box. Every call takes the time as the caller's clock has it; it never goes back.
#[derive(Debug)]
pub struct Routers {
    all: Vec<Router>,
    /// No longer configured, and still holding something.
    departed: Vec<Router>,
    groups: Vec<Group>,
    /// Place of the group of each router.
    group_of: Vec<Option<usize>>,
    /// By interface, family and VRID.
    index: HashMap<Name, HashMap<(Family, u8), usize>>,
    virtual_addresses: HashSet<IpAddr>,
    knowledge: Knowledge,
    /// Interfaces that were not told of by then are absent.
    patience: Option<Instant>,
    in_maintenance: bool,
    is_stopping: bool,
    /// When each router has something due, and the first of all.
    deadlines: Vec<Option<Instant>>,
    next: Option<Instant>,
    now: Instant,
    unknown_vrid: u64,
    no_vrid: u64,
    actions: Out,
}

/// How long the interfaces may take to be told of.
const PATIENCE: Duration = Duration::from_secs(1);

impl Routers {
    /// The routers at their beginning. Each waits for its interface ([`Input::Interface`]) and for what it tracks.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let mut routers = Self {
            all: Vec::new(),
            departed: Vec::new(),
            groups: Vec::new(),
            group_of: Vec::new(),
            index: HashMap::new(),
            virtual_addresses: HashSet::new(),
            knowledge: Knowledge::default(),
            patience: Some(now + PATIENCE),
            in_maintenance: false,
            is_stopping: false,
            deadlines: Vec::new(),
            next: None,
            now,
            unknown_vrid: 0,
            no_vrid: 0,
            actions: Out::new(),
        };
        let made = settings
            .routers
            .iter()
            .map(|router| Router::new(router.clone(), None))
            .collect();
        routers.install(made, &settings);
        routers.refresh_all();
        routers
    }

    /// Something happened. What is to be done because of it is in [`Self::next_action`] afterwards.
    ///
    /// A driver that was kept from running hands in every packet that waits before it calls [`Self::expire`]: nothing
    /// here acts on a timer.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        let now = self.advance(now);
        match input {
            Input::Packet(packet) => return self.packet(&packet, now),
            Input::Interface(name, interface) => self.interface(name, interface, now),
            Input::Tracked(tracked, report) => {
                let before = self.knowledge.reports.insert(tracked, report);
                if before != Some(report) {
                    self.assess(now);
                }
            }
            Input::Placeable {
                interface,
                address,
                possible,
            } => {
                let refused = &mut self.knowledge.unplaceable;
                let place = (interface, address);
                let is_news = if possible {
                    refused.remove(&place)
                } else {
                    refused.insert(place)
                };
                if is_news {
                    self.assess(now);
                }
            }
            Input::Claimed(name) => {
                if let Some(place) = self.place(&name) {
                    self.all[place].claimed(now, &mut self.actions);
                }
            }
            Input::Release(name) => self.release(&name, now),
            Input::Maintenance(on) => self.maintain(on, now),
            Input::Reconfigure(settings) => self.reconfigure(&settings, now),
            Input::Stop => self.stop(now),
        }
        self.tell_groups();
        self.refresh_all();
    }

    /// Does what is due. Call it when [`Self::next_deadline`] has come; earlier is harmless.
    pub fn expire(&mut self, now: Instant) {
        let now = self.advance(now);
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        if self.patience.is_some_and(|patience| patience <= now) {
            self.patience = None;
            self.knowledge.is_complete = true;
            self.assess(now);
            self.refresh_all();
        }
        let mut is_alone = true;
        for place in 0..self.all.len() {
            if self.deadlines[place].is_none_or(|due| due > now) {
                continue;
            }
            let reaction = self.all[place].expire(now, &mut self.actions);
            self.deadlines[place] = self.all[place].deadline();
            if !matches!(reaction, Reaction::Nothing | Reaction::Advertises) {
                is_alone = false;
                self.react(place, reaction, now);
            }
        }
        for router in &mut self.departed {
            router.expire(now, &mut self.actions);
        }
        self.departed.retain(Router::holds);
        self.tell_groups();
        if is_alone {
            self.find_next();
        } else {
            self.refresh_all();
        }
    }

    /// When [`Self::expire`] has something to do; `None` = when nothing else happens, never.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// The next thing to do.
    #[must_use]
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// After [`Input::Stop`]: nothing is held any more and nothing is left to do.
    pub fn is_idle(&self) -> bool {
        self.is_stopping
            && self.actions.is_empty()
            && self.departed.is_empty()
            && !self.all.iter().any(Router::holds)
    }

    /// What an operator sees, in the order of the configuration.
    pub fn status(&self, now: Instant) -> Vec<RouterStatus> {
        let now = self.now.max(now);
        let all = self.all.iter().enumerate();
        all.map(|(place, router)| {
            let mut held_back = Vec::new();
            if self.in_maintenance {
                held_back.push(Fault::Maintenance);
            }
            if let Some(group) = self.group(place) {
                let failing = group.failing(&self.all, place);
                held_back.extend(failing.map(|router| Fault::Member(router.settings.name.clone())));
            }
            router.status(&held_back, now)
        })
        .collect()
    }

    /// Packets that are for none of the routers, by reason.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("unknown_vrid", self.unknown_vrid),
            ("no_vrid", self.no_vrid),
        ])
    }

    /// The caller's clock never goes back; if it does, time stands still here.
    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn packet(&mut self, packet: &Packet<'_>, now: Instant) {
        let Some(vrid) = packet::vrid(packet.message) else {
            self.no_vrid += 1;
            return;
        };
        let family = match packet.source {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        };
        let place = self
            .index
            .get(packet.interface)
            .and_then(|routers| routers.get(&(family, vrid)));
        let Some(&place) = place else {
            return self.departed_packet(packet, (family, vrid), now);
        };
        let router = &mut self.all[place];
        let Some(reaction) = receive(router, packet, now, &mut self.actions) else {
            return;
        };
        if reaction == Reaction::Nothing && !self.follow_peer(place, now) {
            self.refresh(place);
        } else {
            self.react(place, reaction, now);
            self.tell_groups();
            self.refresh_all();
        }
    }

    /// A peer of a router that has gone speaks.
    fn departed_packet(&mut self, packet: &Packet<'_>, key: (Family, u8), now: Instant) {
        let departed = self.departed.iter_mut().find(|router| {
            *router.settings.interface == *packet.interface
                && (router.settings.family, router.settings.vrid) == key
        });
        match departed {
            Some(router) => {
                receive(router, packet, now, &mut self.actions);
                self.refresh_all();
            }
            None => self.unknown_vrid += 1,
        }
    }

    /// What a reaction means for others: promotion, and the rest of the group.
    fn react(&mut self, place: usize, reaction: Reaction, now: Instant) {
        match reaction {
            Reaction::Wants => {
                if !self.promote(place, now) {
                    let router = &mut self.all[place];
                    let why = "wants to be master and is held back".into();
                    router.tell(Standing::Backup, why, now, &mut self.actions);
                }
            }
            Reaction::Superseded(_) => {
                let name = self.all[place].settings.name.clone();
                self.demote_group(place, &format!("its group follows {name}"), now);
            }
            Reaction::Insists(_) => {
                for mate in self.mates(place) {
                    self.all[mate].reannounce(now, &mut self.actions);
                }
            }
            Reaction::Nothing
            | Reaction::Waits
            | Reaction::TookOver(_)
            | Reaction::Advertises
            | Reaction::Yields
            | Reaction::Fails(_)
            | Reaction::Ends(_) => {}
        }
    }

    /// Makes this router Active, and its whole group with it, if all may be.
    fn promote(&mut self, place: usize, now: Instant) -> bool {
        let may = !self.in_maintenance
            && !self.is_stopping
            && match self.group(place) {
                Some(group) => group.may_be_active(&self.all),
                None => self.all[place].is_ready(),
            };
        if may {
            self.all[place].step(Event::Promote, now, &mut self.actions);
            for mate in self.mates(place) {
                self.all[mate].step(Event::Promote, now, &mut self.actions);
            }
        }
        may
    }

    /// A member that joined an Active group waits as any router does before it is Active too. Where it hears that
    /// another box has the addresses, the group goes there; `true` = it has.
    fn follow_peer(&mut self, place: usize, now: Instant) -> bool {
        // What is only heard, and not obeyed, has no such cause.
        let obeys = matches!(
            &self.all[place].state,
            State::Backup(Backup {
                cause: Cause::Lost(_),
                ..
            })
        );
        let is_mixed = |group: &Group| group.is_mixed(&self.all);
        let goes = obeys && self.group(place).is_some_and(is_mixed);
        if goes {
            let name = self.all[place].settings.name.clone();
            self.demote_group(place, &format!("its group follows {name}"), now);
        }
        goes
    }

    fn demote_group(&mut self, place: usize, why: &str, now: Instant) {
        for mate in self.mates(place) {
            let router = &mut self.all[mate];
            if router.state.is_active() {
                router.step(Event::Demote, now, &mut self.actions);
                router.tell(Standing::Backup, why.into(), now, &mut self.actions);
            }
        }
    }

    /// Looks at what routers depend on and moves those for which it makes a difference.
    fn assess(&mut self, now: Instant) {
        if self.is_stopping {
            return;
        }
        for router in &mut self.all {
            router.assess(
                &self.knowledge,
                &self.virtual_addresses,
                now,
                &mut self.actions,
            );
        }
        for place in 0..self.all.len() {
            let member = self.group(place).and_then(|group| {
                let failing = group.failing(&self.all, place).next()?;
                Some(Fault::Member(failing.settings.name.clone()))
            });
            let router = &mut self.all[place];
            if let Some(fault) = router.faults.first().or(member.as_ref()) {
                let why = fault.to_string();
                if let Reaction::Fails(_) = router.step(Event::Failure, now, &mut self.actions) {
                    router.tell(Standing::Fault, why, now, &mut self.actions);
                }
                continue;
            }
            if !router.waits_for.is_empty() {
                continue;
            }
            if router.state == State::Initialize {
                router.clean(&self.knowledge, &mut self.actions);
            }
            router.step(Event::Startup, now, &mut self.actions);
        }
        // A group of owners is Active at once, but only when the last of them has begun.
        for place in 0..self.all.len() {
            if self.all[place].state.wants() {
                self.react(place, Reaction::Wants, now);
            }
        }
    }

    fn interface(&mut self, name: Name, interface: Interface, now: Instant) {
        let before = self
            .knowledge
            .interfaces
            .insert(name.clone(), interface.clone());
        if before.as_ref() == Some(&interface) && self.knowledge.is_complete {
            // Told again: what somebody else took away may have been asked for again by now.
            for router in &mut self.all {
                router.mend(&name, &interface, false, now, &mut self.actions);
            }
            return;
        }
        if self.patience.is_some() && self.is_all_told() {
            self.patience = None;
            self.knowledge.is_complete = true;
        }
        let key = |interface: &Interface| (interface.index, interface.up, interface.mac);
        let came_back = interface.index != 0
            && interface.up
            && before.is_some_and(|before| key(&before) != key(&interface));
        self.assess(now);
        for router in &mut self.all {
            router.mend(&name, &interface, came_back, now, &mut self.actions);
        }
    }

    /// Nothing has to be waited for that might not exist.
    fn is_all_told(&self) -> bool {
        self.all.iter().all(|router| {
            let of_router = [&router.settings.interface, router.speaking_interface()];
            let tracked = router.settings.tracked.iter();
            let tracked = tracked.filter_map(|(object, _)| match object {
                Tracked::Interface(name) => Some(name),
                Tracked::Script(_)
                | Tracked::Service(_)
                | Tracked::File(_)
                | Tracked::Workers(_) => None,
            });
            of_router
                .into_iter()
                .chain(tracked)
                .all(|name| self.knowledge.interfaces.contains_key(name))
        })
    }

    fn release(&mut self, name: &Name, now: Instant) {
        let Some(place) = self.place(name) else {
            return;
        };
        if !self.all[place].state.is_active() {
            let what = "it is not master: there is nothing to release".into();
            return self.all[place].notice(what, &mut self.actions);
        }
        for member in std::iter::once(place).chain(self.mates(place)) {
            let router = &mut self.all[member];
            if router.state.is_active() {
                router.step(Event::Release, now, &mut self.actions);
                let why = "released by the operator".into();
                router.tell(Standing::Backup, why, now, &mut self.actions);
            }
        }
    }

    fn maintain(&mut self, on: bool, now: Instant) {
        if std::mem::replace(&mut self.in_maintenance, on) == on || self.is_stopping {
            return;
        }
        for router in &mut self.all {
            if on && router.state.is_active() {
                router.step(Event::Demote, now, &mut self.actions);
                let why = "the box is in maintenance".into();
                router.tell(Standing::Backup, why, now, &mut self.actions);
            }
            if !on && matches!(router.state, State::Backup(_)) {
                router.state = State::Initialize;
            }
        }
        self.assess(now);
    }

    fn stop(&mut self, now: Instant) {
        self.is_stopping = true;
        self.patience = None;
        for router in &mut self.all {
            if let Reaction::Ends(_) = router.step(Event::Shutdown, now, &mut self.actions) {
                let why = "the daemon stops".into();
                router.tell(Standing::Stop, why, now, &mut self.actions);
            }
        }
    }

    fn reconfigure(&mut self, settings: &Settings, now: Instant) {
        if self.is_stopping {
            return;
        }
        let mut old: Vec<Option<Router>> = self.all.drain(..).map(Some).collect();
        for slot in &mut old {
            let stays = slot
                .as_ref()
                .is_some_and(|router| settings.routers.iter().any(|new| is_named(router, new)));
            if !stays && let Some(router) = slot.take() {
                self.depart(router, settings, now);
            }
        }
        let mut routers = Vec::with_capacity(settings.routers.len());
        for new in &settings.routers {
            let found = old
                .iter_mut()
                .find(|slot| slot.as_ref().is_some_and(|router| is_named(router, new)))
                .and_then(Option::take);
            let departed = self
                .departed
                .iter()
                .position(|router| is_named(router, new))
                .map(|place| self.departed.swap_remove(place));
            routers.push(match (found, departed) {
                (Some(mut router), _) if is_same_router(&router.settings, new) => {
                    router.adapt(new.clone(), now, &mut self.actions);
                    router
                }
                (Some(mut router), _) | (None, Some(mut router)) => {
                    router.replace(new.clone(), now, &mut self.actions)
                }
                (None, None) => Router::new(new.clone(), None),
            });
        }
        self.install(routers, settings);
        let configured = &self.virtual_addresses;
        let refused = &mut self.knowledge.unplaceable;
        refused.retain(|(_, net)| configured.contains(&net.addr()));
        // What is not tracked now may be tracked again, and is something else by then.
        self.knowledge.reports.retain(|object, _| {
            let mut routers = self.all.iter();
            routers.any(|router| router.settings.tracked.iter().any(|(own, _)| own == object))
        });
        if !self.is_all_told() {
            self.knowledge.is_complete = false;
            self.patience = Some(now + PATIENCE);
        }
        for place in 0..self.all.len() {
            self.follow_peer(place, now);
        }
        self.assess(now);
    }

    /// A router is no longer configured. What it holds is let go at once where another needs it.
    fn depart(&mut self, mut router: Router, settings: &Settings, now: Instant) {
        router.step(Event::Shutdown, now, &mut self.actions);
        let why = "it is no longer configured".into();
        router.tell(Standing::Deleted, why, now, &mut self.actions);
        let own = &router.settings;
        let heir = settings.routers.iter().find(|new| {
            (&new.interface, new.family, new.vrid) == (&own.interface, own.family, own.vrid)
        });
        let is_needed = heir.is_some()
            || own.addresses.iter().chain(&own.excluded).any(|address| {
                settings.routers.iter().any(|new| {
                    let mut theirs = new.addresses.iter().chain(&new.excluded);
                    theirs.any(|other| other.net.addr() == address.net.addr())
                })
            });
        // Its own interface has the same name wherever it is.
        let has_interface = settings
            .routers
            .iter()
            .find(|new| new.virtual_mac && (new.family, new.vrid) == (own.family, own.vrid));
        let is_elsewhere = has_interface.is_some_and(|new| new.interface != own.interface);
        if is_needed || is_elsewhere {
            router.release_addresses(now, &mut self.actions);
        }
        match has_interface {
            Some(_) if is_elsewhere => router.remove_interface(&mut self.actions),
            Some(_) => router.forget_interface(),
            None => {}
        }
        if router.holds() {
            self.departed.push(router);
        }
    }

    /// Puts routers in place with all that is looked up.
    fn install(&mut self, mut routers: Vec<Router>, settings: &Settings) {
        self.index.clear();
        self.virtual_addresses.clear();
        for (place, router) in routers.iter_mut().enumerate() {
            let own = &router.settings;
            self.index
                .entry(own.interface.clone())
                .or_default()
                .insert((own.family, own.vrid), place);
            let addresses = own.addresses.iter().chain(&own.excluded);
            self.virtual_addresses
                .extend(addresses.map(|address| address.net.addr()));
            router.group = None;
        }
        for router in &self.departed {
            let addresses = router.settings.addresses.iter();
            let addresses = addresses.chain(&router.settings.excluded);
            self.virtual_addresses
                .extend(addresses.map(|address| address.net.addr()));
        }
        self.group_of = vec![None; routers.len()];
        let mut groups = Vec::with_capacity(settings.groups.len());
        for (number, group) in settings.groups.iter().enumerate() {
            let is_member = |router: &Router| group.members.contains(&router.settings.name);
            let mut members = Vec::new();
            for (place, router) in routers.iter_mut().enumerate() {
                if is_member(router) {
                    router.group = Some(group.name.clone());
                    self.group_of[place] = Some(number);
                    members.push(place);
                }
            }
            let before = self.groups.iter().find(|before| before.name == group.name);
            groups.push(Group {
                name: group.name.clone(),
                members,
                standing: before.map_or(Standing::Initialize, |before| before.standing),
            });
        }
        self.groups = groups;
        self.deadlines = vec![None; routers.len()];
        self.all = routers;
    }

    fn tell_groups(&mut self) {
        for group in &mut self.groups {
            let Some(to) = group.settled(&self.all) else {
                continue;
            };
            if to == group.standing {
                continue;
            }
            group.standing = to;
            let why = match to {
                Standing::Fault => "a member cannot take part",
                Standing::Active => "all members are master",
                Standing::Backup => "all members are backup",
                Standing::Initialize => "all members begin",
                Standing::Stop | Standing::Deleted => "the daemon stops",
            };
            // keepalived gives 0 as the priority of a group.
            self.actions
                .push_back(Action::Tell(Told::Transition(Transition {
                    group: true,
                    name: group.name.clone(),
                    to,
                    why: why.into(),
                    priority: 0,
                })));
        }
    }

    fn group(&self, place: usize) -> Option<&Group> {
        self.group_of[place].map(|number| &self.groups[number])
    }

    /// The other members of its group.
    fn mates(&self, place: usize) -> Vec<usize> {
        let members = self.group(place).map_or(&[][..], |group| &group.members);
        let others = members.iter().filter(|&&member| member != place);
        others.copied().collect()
    }

    fn place(&self, name: &Name) -> Option<usize> {
        self.all
            .iter()
            .position(|router| router.settings.name == *name)
    }

    /// One router's deadline may have changed. A packet does no more than this.
    fn refresh(&mut self, place: usize) {
        let new = self.all[place].deadline();
        let old = std::mem::replace(&mut self.deadlines[place], new);
        if new == old {
            return;
        }
        if old.is_some() && old == self.next {
            self.find_next();
        } else {
            self.next = self.next.into_iter().chain(new).min();
        }
    }

    fn refresh_all(&mut self) {
        for (deadline, router) in self.deadlines.iter_mut().zip(&self.all) {
            *deadline = router.deadline();
        }
        self.find_next();
    }

    fn find_next(&mut self) {
        let departed = self.departed.iter().filter_map(Router::deadline);
        let routers = self.deadlines.iter().flatten().copied();
        self.next = routers.chain(departed).chain(self.patience).min();
    }
}

/// Judges a packet and has the router act on it; `None` = it was ignored, nothing has changed.
fn receive(
    router: &mut Router,
    packet: &Packet<'_>,
    now: Instant,
    out: &mut Out,
) -> Option<Reaction> {
    let (heard, oddities) = match judge(packet, &router.settings, router.source()) {
        Verdict::Ignore(counter) => {
            complain(router, counter, packet, now, out);
            return None;
        }
        Verdict::Obey(heard, oddities) => (heard, oddities),
    };
    router.counters.count(Counter::AdvertsReceived);
    for (is_odd, counter) in [
        (oddities.addresses, Counter::Addresses),
        (oddities.interval, Counter::OtherInterval),
        (oddities.two_owners, Counter::TwoOwners),
    ] {
        if is_odd {
            complain(router, counter, packet, now, out);
        }
    }
    if heard.priority == 0 {
        router.counters.count(Counter::PriorityZeroReceived);
    } else {
        router.peer_spoke(now, out);
        notice_lower(router, &heard, now, out);
    }
    Some(router.step(Event::Advertisement(heard), now, out))
}

/// A lower priority is no fault, and what explains an election.
fn notice_lower(router: &mut Router, heard: &Heard, now: Instant, out: &mut Out) {
    let own = router.priority();
    if heard.priority >= own {
        return;
    }
    router.counters.count(Counter::LowerPriority);
    let what = match &router.state {
        State::Active(_) => "forcing a new election",
        State::Backup(_) if router.settings.preempt => "it will not stay so",
        State::Backup(_) => "obeyed without preempting",
        State::Initialize | State::Fault | State::Ended => return,
    };
    if router
        .counters
        .is_news(Counter::LowerPriority, heard.source, now)
    {
        let Heard {
            source, priority, ..
        } = heard;
        let what = format!("{source} advertises priority {priority}, ours is {own}: {what}");
        router.notice(what, out);
    }
}

fn complain(
    router: &mut Router,
    counter: Counter,
    packet: &Packet<'_>,
    now: Instant,
    out: &mut Out,
) {
    router.counters.count(counter);
    if router.counters.is_news(counter, packet.source, now) {
        out.push_back(Action::Tell(Told::Complaint {
            router: router.settings.name.clone(),
            source: packet.source,
            what: complaint(counter, packet, &router.settings),
        }));
    }
}

fn is_named(router: &Router, settings: &RouterSettings) -> bool {
    router.settings.name == settings.name
}

/// Whether only such settings differ as may change while a router keeps its state.
fn is_same_router(old: &RouterSettings, new: &RouterSettings) -> bool {
    let key = |settings: &RouterSettings| {
        (
            settings.vrid,
            settings.version,
            settings.family,
            settings.password,
            settings.virtual_mac,
        )
    };
    key(old) == key(new) && old.interface == new.interface
}
