//! One virtual router: its machine's reactions become actions.
//!
//! The order of actions is keepalived's and DESIGN section 6's. Becoming Active: advertise, have the data plane claim
//! the addresses, and when it has (or has not answered in time) add them, announce them, tell. Leaving: advertise
//! priority 0 where it is of the router's own will, then what [`Hold`] says.

use crate::action::{Action, Transmission};
use crate::announcing::Due;
use crate::claim::{all_addresses, claim, virtual_interface};
use crate::counters::{Counter, Counters};
use crate::event::{Event as Told, Standing, Transition};
use crate::leaving::{Hold, Leaving};
use crate::machine::{CLAIM_BOUND, Cause, Event, Parameters, Reaction, State};
use crate::packet::{GROUP_V4, GROUP_V6, Outgoing};
use crate::placing::{Places, wanted};
use crate::routing::Routes;
use crate::settings::{Family, Initial, Name, RouterSettings, Version};
use crate::status::RouterStatus;
use crate::timers::skew_time;
use crate::tracking::{Fault, Knowledge, consider, effective_priority};
use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What is to be done goes there.
pub(crate) type Out = VecDeque<Action>;

/// One virtual router.
#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) settings: RouterSettings,
    pub(crate) group: Option<Name>,
    pub(crate) state: State,
    pub(crate) counters: Counters,
    /// Why it cannot take part, without its group.
    pub(crate) faults: Vec<Fault>,
    /// The interface it speaks on: its own one, with a virtual MAC.
    speaking: Name,
    /// What it waits to be told of.
    pub(crate) waits_for: Vec<Fault>,
    /// The priority that is sent.
    priority: u8,
    /// The address it sends from.
    source: Option<IpAddr>,
    can_send: bool,
    places: Places,
    routes: Routes,
    /// Of the owner's addresses, those that were on their interfaces before it put any there: it never takes them away.
    owned: Vec<(Name, IpAddr)>,
    hold: Option<Hold>,
    is_refusing: bool,
    /// Number of the interface that its own one was made on.
    made_on: Option<u32>,
    identification: u16,
    /// What was told last.
    standing: Standing,
    /// That it is Active; told when its addresses are in place.
    untold: Option<Transition>,
    last: Option<(Transition, Instant)>,
}

impl Router {
    pub(crate) fn new(settings: RouterSettings, group: Option<Name>) -> Self {
        let speaking = if settings.virtual_mac {
            virtual_interface(&settings).name
        } else {
            settings.interface.clone()
        };
        Self {
            speaking,
            priority: settings.priority,
            source: settings.source,
            settings,
            group,
            state: State::Initialize,
            counters: Counters::new(),
            faults: Vec::new(),
            waits_for: Vec::new(),
            can_send: false,
            places: Places::default(),
            routes: Routes::default(),
            owned: Vec::new(),
            hold: None,
            is_refusing: false,
            made_on: None,
            identification: 0,
            standing: Standing::Initialize,
            untold: None,
            last: None,
        }
    }

    /// Does one step of the machine and what it asks for. The collection answers [`Reaction::Wants`] and moves groups.
    pub(crate) fn step(&mut self, event: Event, now: Instant, out: &mut Out) -> Reaction {
        let parameters = self.parameters();
        let reaction = self.state.step(event, &parameters, now);
        match reaction {
            // Who wants is told of only if it is not promoted at once.
            Reaction::Nothing | Reaction::Wants => {}
            Reaction::Waits => self.tell(
                Standing::Backup,
                "waits for advertisements".into(),
                now,
                out,
            ),
            Reaction::TookOver(cause) => self.take_over(cause, now, out),
            Reaction::Advertises => self.advertise(self.priority, out),
            Reaction::Insists(_) => {
                self.advertise(self.priority, out);
                self.reannounce(now, out);
            }
            Reaction::Superseded(speaker) => {
                self.leave(Leaving::Superseded, now, out);
                let why = format!(
                    "{} advertises priority {}, ours is {}",
                    speaker.source, speaker.priority, self.priority
                );
                self.tell(Standing::Backup, why, now, out);
            }
            Reaction::Yields => {
                self.advertise(0, out);
                self.leave(Leaving::OnPurpose, now, out);
            }
            Reaction::Fails(was_active) => {
                if was_active {
                    self.advertise(0, out);
                    self.leave(Leaving::Fault, now, out);
                }
            }
            Reaction::Ends(was_active) => {
                if was_active {
                    self.advertise(0, out);
                    self.leave(Leaving::OnPurpose, now, out);
                }
                self.remove_interface_when_free(out);
            }
        }
        reaction
    }

    /// Does what is due and says what the machine reacted with.
    pub(crate) fn expire(&mut self, now: Instant, out: &mut Out) -> Reaction {
        if let Some(hold) = &mut self.hold {
            if hold.take_addresses(now) {
                self.let_addresses_go(out);
            }
            self.end_hold(now, out);
        }
        let reaction = match self.state.fired(now) {
            Some(event) => self.step(event, now, out),
            None => Reaction::Nothing,
        };
        if let State::Active(active) = &mut self.state {
            if active.claim_until.is_some_and(|until| until <= now) {
                self.serve(now, out);
            } else if let Some(due) = active.announcer.due(&self.settings.announcing, now) {
                let times = match due {
                    Due::Batch => self.settings.announcing.repeat,
                    Due::Once => 1,
                };
                self.places.announce(None, times, out);
            }
        }
        reaction
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let mut first = self.state.timer();
        let mut consider = |other: Option<Instant>| {
            first = match (first, other) {
                (Some(first), Some(other)) => Some(first.min(other)),
                (first, other) => first.or(other),
            };
        };
        consider(self.hold.as_ref().map(Hold::deadline));
        if let State::Active(active) = &self.state {
            consider(active.claim_until);
            consider(active.announcer.deadline());
        }
        first
    }

    /// The data plane forwards: the addresses may be put in place.
    pub(crate) fn claimed(&mut self, now: Instant, out: &mut Out) {
        if let State::Active(active) = &self.state
            && active.claim_until.is_some()
        {
            self.serve(now, out);
        }
    }

    /// Another router is Active.
    pub(crate) fn peer_spoke(&mut self, now: Instant, out: &mut Out) {
        if let Some(hold) = &mut self.hold {
            hold.peer_spoke(now);
            if hold.take_addresses(now) {
                self.let_addresses_go(out);
            }
        }
    }

    /// Whether it still holds something, though it is not Active.
    pub(crate) fn holds(&self) -> bool {
        self.hold.is_some()
    }

    /// Its addresses are needed elsewhere.
    pub(crate) fn release_addresses(&mut self, now: Instant, out: &mut Out) {
        if let Some(hold) = &mut self.hold {
            hold.let_addresses_go(now);
            if hold.take_addresses(now) {
                self.let_addresses_go(out);
            }
        }
    }

    /// A batch, unless there was one within the last second.
    pub(crate) fn reannounce(&mut self, now: Instant, out: &mut Out) {
        if let State::Active(active) = &mut self.state
            && active.claim_until.is_none()
            && active.announcer.provoke(&self.settings.announcing, now)
        {
            self.places
                .announce(None, self.settings.announcing.repeat, out);
        }
    }

    /// Looks at what it depends on. `virtual_addresses` are no addresses to speak from.
    pub(crate) fn assess(
        &mut self,
        knowledge: &Knowledge,
        virtual_addresses: &HashSet<IpAddr>,
        now: Instant,
        out: &mut Out,
    ) {
        if self.state == State::Ended {
            return;
        }
        self.look_at_owned(knowledge);
        let outcome = consider(&self.settings.tracked, knowledge);
        self.faults = outcome.faults;
        if !knowledge.unplaceable.is_empty() {
            let refused = wanted(&self.settings, &self.speaking)
                .filter(|place| knowledge.unplaceable.contains(place));
            let refused = refused.map(|(interface, net)| Fault::Unplaceable(interface, net));
            self.faults.extend(refused);
        }
        self.waits_for = outcome.unknown;
        let weight = if self.group.is_some() {
            0
        } else {
            outcome.weight
        };
        let priority = effective_priority(self.settings.priority, weight);
        let changed = std::mem::replace(&mut self.priority, priority) != priority;
        self.look_at_interface(knowledge, virtual_addresses, out);
        self.look_at_own_interface(knowledge, out);
        if changed {
            self.advertise_soon(now);
        }
    }

    /// What an owner has by itself, as opposed to what was put there by this router.
    fn look_at_owned(&mut self, knowledge: &Knowledge) {
        if self.settings.priority != u8::MAX {
            return self.owned.clear();
        }
        // What was just taken away may still be shown.
        if self.hold.is_some() {
            return;
        }
        let mut owned = Vec::new();
        for (interface, net) in wanted(&self.settings, &self.speaking) {
            let place = (interface, net.addr());
            let is_owned = if self.places.holds(&place.0, net) {
                self.owned.contains(&place)
            } else {
                let shown = knowledge.interfaces.get(&place.0);
                shown.is_some_and(|shown| shown.addresses.iter().any(|own| own.addr() == place.1))
            };
            if is_owned {
                owned.push(place);
            }
        }
        self.owned = owned;
    }

    fn look_at_interface(
        &mut self,
        knowledge: &Knowledge,
        virtual_addresses: &HashSet<IpAddr>,
        out: &mut Out,
    ) {
        let name = &self.settings.interface;
        self.can_send = false;
        let interface = match knowledge.interfaces.get(name) {
            Some(interface) if interface.index != 0 => interface,
            None if !knowledge.is_complete => {
                return self.waits_for.push(Fault::Untold(name.clone()));
            }
            Some(_) | None => {
                self.made_on = None;
                return self.faults.push(Fault::Absent(name.clone()));
            }
        };
        if self.settings.virtual_mac && self.made_on != Some(interface.index) {
            self.made_on = Some(interface.index);
            out.push_back(Action::MakeInterface(virtual_interface(&self.settings)));
        }
        let speakable: Vec<IpAddr> = interface
            .addresses
            .iter()
            .map(ipnet::IpNet::addr)
            .filter(|address| is_speakable(*address, self.settings.family))
            .collect();
        let real = speakable
            .iter()
            .find(|address| !virtual_addresses.contains(address));
        // The owner's real address is a virtual one.
        let owned = speakable
            .first()
            .filter(|_| self.settings.priority == u8::MAX);
        self.source = self.settings.source.or(real.or(owned).copied());
        if !interface.up {
            self.faults.push(Fault::Down(name.clone()));
        } else if interface.mac.is_none() {
            self.faults.push(Fault::NoMac(name.clone()));
        } else if self.source.is_none() {
            let kind = match self.settings.family {
                Family::V4 => "IPv4",
                Family::V6 => "IPv6 link-local",
            };
            self.faults.push(Fault::NoAddress(name.clone(), kind));
        } else {
            self.can_send = true;
        }
    }

    /// The interface with the virtual MAC: made again if somebody took it away.
    fn look_at_own_interface(&mut self, knowledge: &Knowledge, out: &mut Out) {
        if !self.settings.virtual_mac || !self.can_send {
            return;
        }
        let name = self.speaking.clone();
        match knowledge.interfaces.get(&name) {
            Some(own) if own.index != 0 && own.up => {}
            // Being made takes a moment in which the kernel shows it as not there yet or down.
            Some(_) if !knowledge.is_complete && self.state == State::Initialize => {
                self.waits_for.push(Fault::Untold(name));
            }
            Some(own) if own.index != 0 => {
                self.can_send = false;
                self.faults.push(Fault::Down(name));
            }
            Some(_) => {
                if self.state != State::Fault {
                    out.push_back(Action::MakeInterface(virtual_interface(&self.settings)));
                }
                self.can_send = false;
                self.faults.push(Fault::Absent(name));
            }
            None if !knowledge.is_complete => self.waits_for.push(Fault::Untold(name)),
            None => {}
        }
    }

    /// It begins: addresses that a former process left are removed.
    pub(crate) fn clean(&mut self, knowledge: &Knowledge, out: &mut Out) {
        if self.settings.priority == u8::MAX || self.hold.is_some() {
            return;
        }
        let default = self.speaking.clone();
        for (interface, net) in wanted(&self.settings, &default) {
            let is_there = knowledge
                .interfaces
                .get(&interface)
                .is_some_and(|found| found.addresses.iter().any(|own| own.addr() == net.addr()));
            if is_there {
                out.push_back(Action::RemoveAddress {
                    interface,
                    address: net,
                });
            }
        }
    }

    /// An interface was told of: an Active router mends its addresses there, and announces them if it came back.
    pub(crate) fn mend(
        &mut self,
        name: &Name,
        interface: &crate::input::Interface,
        came_back: bool,
        now: Instant,
        out: &mut Out,
    ) {
        if let State::Active(active) = &self.state
            && active.claim_until.is_none()
        {
            let repeat = self.settings.announcing.repeat;
            self.places.mend(name, interface, repeat, now, out);
            if came_back {
                self.places.announce(Some(name), repeat, out);
            }
        }
    }

    /// Other settings that leave it the same router. Addresses that are new are claimed first.
    pub(crate) fn adapt(&mut self, settings: RouterSettings, now: Instant, out: &mut Out) {
        let before = std::mem::replace(&mut self.settings, settings);
        let is_same = before.addresses == self.settings.addresses
            && before.excluded == self.settings.excluded
            && before.accept == self.settings.accept;
        let is_louder = before.priority != self.settings.priority
            || before.advert_interval != self.settings.advert_interval;
        let default = self.speaking.clone();
        if !is_same {
            self.places.prune(&self.settings, &default, out);
        }
        if is_louder || !is_same {
            self.advertise_soon(now);
        }
        let is_refusing = self.is_refusing;
        let State::Active(active) = &mut self.state else {
            self.routes.prune(&self.settings, out);
            return;
        };
        if before.announcing != self.settings.announcing && active.claim_until.is_none() {
            active.announcer.adapt(&self.settings.announcing, now);
        }
        if is_same {
            if active.claim_until.is_none() {
                self.routes.follow(&self.settings, out);
            }
        } else {
            active.claim_until = Some(now + CLAIM_BOUND);
            out.push_back(claim(&self.settings));
            if is_refusing && (self.settings.accept || self.settings.priority == u8::MAX) {
                self.accept_again(out);
            }
        }
    }

    /// What it advertises has changed: peers need not wait for the timer to hear so.
    fn advertise_soon(&mut self, now: Instant) {
        if let State::Active(active) = &mut self.state {
            let soon = active.quiet_until.max(now);
            active.advert_deadline = active.advert_deadline.min(soon);
        }
    }

    /// Ends because its settings make it another router, which inherits what is still held.
    pub(crate) fn replace(
        &mut self,
        settings: RouterSettings,
        now: Instant,
        out: &mut Out,
    ) -> Self {
        if self.state.is_active() {
            self.advertise(0, out);
            self.leave(Leaving::Changed, now, out);
        }
        self.release_addresses(now, out);
        let keeps_interface = settings.virtual_mac
            && self.settings.virtual_mac
            && (settings.vrid, settings.family) == (self.settings.vrid, self.settings.family)
            && settings.interface == self.settings.interface;
        if !keeps_interface && self.settings.virtual_mac && self.made_on.is_some() {
            out.push_back(Action::RemoveInterface {
                name: self.speaking.clone(),
            });
        }
        let mut new = Self::new(settings, self.group.clone());
        new.hold = self.hold;
        new.owned.clone_from(&self.owned);
        new.standing = self.standing;
        new.last.clone_from(&self.last);
        new.counters = self.counters.clone();
        new.made_on = self.made_on.filter(|_| keeps_interface);
        new
    }

    /// Tells a change of state, unless it was told.
    pub(crate) fn tell(&mut self, to: Standing, why: String, now: Instant, out: &mut Out) {
        let transition = self.transition(to, why, now);
        if self.untold.take().is_some() {
            self.notice("gave way before its addresses were in place".into(), out);
        }
        if self.standing != to {
            self.standing = to;
            self.counters.forget_told();
            out.push_back(Action::Tell(Told::Transition(transition)));
        }
    }

    pub(crate) fn notice(&self, what: String, out: &mut Out) {
        out.push_back(Action::Tell(Told::Notice {
            router: self.settings.name.clone(),
            what,
        }));
    }

    /// What its group has to go by: Active only once its addresses are in place.
    pub(crate) fn told_standing(&self) -> Standing {
        self.standing
    }

    pub(crate) fn speaking_interface(&self) -> &Name {
        &self.speaking
    }

    /// The priority that is sent.
    pub(crate) fn priority(&self) -> u8 {
        self.priority
    }

    pub(crate) fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// What an operator sees; `held_back` is why it may not be Active besides its own faults.
    pub(crate) fn status(&self, held_back: &[Fault], now: Instant) -> RouterStatus {
        let parameters = self.parameters();
        let (active, learnt) = match &self.state {
            State::Backup(backup) => (backup.active, backup.active_advert_interval),
            State::Active(_) => (
                self.source.map(|source| (source, self.priority)),
                parameters.interval,
            ),
            State::Initialize | State::Fault | State::Ended => (None, parameters.interval),
        };
        let faults = self.faults.iter().chain(&self.waits_for).chain(held_back);
        RouterStatus {
            name: self.settings.name.clone(),
            group: self.group.clone(),
            interface: self.settings.interface.clone(),
            version: match self.settings.version {
                Version::V2 => 2,
                Version::V3 => 3,
            },
            vrid: self.settings.vrid,
            standing: match &self.state {
                State::Initialize => Standing::Initialize,
                State::Fault => Standing::Fault,
                State::Backup(_) => Standing::Backup,
                State::Active(_) => Standing::Active,
                State::Ended => Standing::Stop,
            },
            faults: faults.map(ToString::to_string).collect(),
            priority: self.settings.priority,
            effective_priority: self.priority,
            active,
            advert_interval: parameters.interval,
            active_advert_interval: learnt,
            skew: skew_time(self.settings.version, self.priority, learnt),
            active_down_interval: parameters.active_down_interval(learnt),
            next: self
                .state
                .timer()
                .map(|timer| timer.saturating_duration_since(now)),
            addresses: self.places.addresses().collect(),
            routes: self.routes.all().to_vec(),
            last: self.last.clone(),
            counters: self.counters.by_name(),
        }
    }

    fn parameters(&self) -> Parameters {
        let settings = &self.settings;
        Parameters {
            version: settings.version,
            priority: self.priority,
            owner: settings.priority == u8::MAX && settings.initial == Initial::Active,
            interval: settings.advert_interval.duration(),
            down_timer_adverts: settings.down_timer_adverts,
            preempt: settings.preempt,
            preempt_delay: settings.preempt_delay,
            source: self.source,
        }
    }

    fn take_over(&mut self, cause: Cause, now: Instant, out: &mut Out) {
        self.counters.count(Counter::BecameActive);
        self.advertise(self.priority, out);
        out.push_back(claim(&self.settings));
        self.hold = None;
        let parameters = self.parameters();
        let down = parameters.active_down_interval(parameters.interval);
        let why = match cause {
            Cause::Owner => "it owns the addresses".into(),
            Cause::Silence => format!("no advertisement was heard for {}", Seconds(down)),
            Cause::Lost(source) => format!("{source} has fallen silent"),
            Cause::Left(source) => format!("{source} has left"),
            Cause::Outranks(source, priority) => {
                format!(
                    "{source} has priority {priority}, ours is {}",
                    self.priority
                )
            }
            Cause::NobodyElse => "nobody took over after the release".into(),
        };
        self.untold = Some(self.transition(Standing::Active, why, now));
    }

    /// The data plane forwards: addresses in place, announced, told.
    fn serve(&mut self, now: Instant, out: &mut Out) {
        let default = self.speaking.clone();
        let State::Active(active) = &mut self.state else {
            return;
        };
        active.claim_until = None;
        let is_owner = self.settings.priority == u8::MAX;
        let owned = &self.owned;
        let new = self.places.fill(
            &self.settings,
            &default,
            |interface, address| {
                let mut owned = owned.iter();
                owned.any(|(there, own)| there == interface && *own == address)
            },
            now,
            out,
        );
        let how = &self.settings.announcing;
        let begins = self.untold.take();
        if begins.is_some() {
            active.announcer.begin(how, now);
            self.places.announce(None, how.repeat, out);
        } else if !new.is_empty() {
            active.announcer.begin(how, now);
            let new = new.iter().map(|(interface, address)| (interface, *address));
            crate::announcing::announce(new, how.repeat, out);
        }
        // Last: whatever it takes the kernel, nobody waits for it.
        if !self.settings.accept && !is_owner {
            self.is_refusing = true;
            out.push_back(Action::Refuse {
                router: self.settings.name.clone(),
                addresses: all_addresses(&self.settings),
            });
        }
        if let Some(transition) = begins
            && self.standing != Standing::Active
        {
            self.standing = Standing::Active;
            self.counters.forget_told();
            out.push_back(Action::Tell(Told::Transition(transition)));
        }
        self.routes.follow(&self.settings, out);
    }

    fn leave(&mut self, leaving: Leaving, now: Instant, out: &mut Out) {
        self.counters.count(Counter::ReleasedActive);
        let interval = self.settings.advert_interval.duration();
        let adverts = self.settings.down_timer_adverts;
        let hold = Hold::new(leaving, self.settings.version, interval, adverts, now);
        self.hold = Some(hold);
        match leaving {
            Leaving::OnPurpose => {}
            Leaving::Changed | Leaving::Fault | Leaving::Superseded => self.let_addresses_go(out),
        }
    }

    fn let_addresses_go(&mut self, out: &mut Out) {
        self.routes.clear(&self.settings, out);
        self.places.clear(out);
        self.accept_again(out);
    }

    fn accept_again(&mut self, out: &mut Out) {
        if std::mem::take(&mut self.is_refusing) {
            out.push_back(Action::Refuse {
                router: self.settings.name.clone(),
                addresses: Vec::new(),
            });
        }
    }

    fn end_hold(&mut self, now: Instant, out: &mut Out) {
        if self.hold.is_some_and(|hold| hold.is_over(now)) {
            self.hold = None;
            self.let_addresses_go(out);
            out.push_back(Action::Disclaim {
                router: self.settings.name.clone(),
            });
            self.remove_interface_when_free(out);
        }
    }

    /// The own interface goes with the router, once nothing is forwarded by it.
    fn remove_interface_when_free(&mut self, out: &mut Out) {
        if self.state == State::Ended && self.hold.is_none() {
            self.remove_interface(out);
        }
    }

    /// Its own interface goes now, if it has one.
    pub(crate) fn remove_interface(&mut self, out: &mut Out) {
        if self.made_on.take().is_some() {
            out.push_back(Action::RemoveInterface {
                name: self.speaking.clone(),
            });
        }
    }

    fn transition(&mut self, to: Standing, why: String, now: Instant) -> Transition {
        let transition = Transition {
            group: false,
            name: self.settings.name.clone(),
            to,
            why,
            priority: self.priority,
        };
        if self.last.as_ref().is_none_or(|(last, _)| last.to != to) {
            self.last = Some((transition.clone(), now));
        }
        transition
    }

    fn advertise(&mut self, priority: u8, out: &mut Out) {
        let Some(source) = self.source.filter(|_| self.can_send) else {
            return;
        };
        let settings = &self.settings;
        let is_multicast = settings.peers.is_empty();
        let group = [match settings.family {
            Family::V4 => GROUP_V4,
            Family::V6 => GROUP_V6,
        }];
        let (destinations, hop_limit) = if is_multicast {
            (&group[..], 255)
        } else {
            (&settings.peers[..], settings.unicast_ttl)
        };
        // Unicast goes by the interface beneath, as keepalived demands (behaviour notes 8.6): what peers answer to the
        // source address finds that one's MAC.
        let interface = if is_multicast {
            self.speaking.clone()
        } else {
            self.settings.interface.clone()
        };
        for &destination in destinations {
            let outgoing = Outgoing {
                version: settings.version,
                vrid: settings.vrid,
                priority,
                raw_interval: match settings.version {
                    Version::V2 => settings.advert_interval.0 / 100,
                    Version::V3 => settings.advert_interval.0,
                },
                password: settings.password.as_ref().map(|password| &password.0),
                checksum: settings.checksum,
                source,
                destination,
            };
            self.identification = self.identification.wrapping_add(1);
            out.push_back(Action::Send(Transmission {
                interface: interface.clone(),
                source,
                destination,
                hop_limit,
                identification: self.identification,
                message: outgoing.encode(settings.addresses.iter().map(|own| own.net.addr())),
            }));
            self.counters.count(Counter::AdvertsSent);
            if priority == 0 {
                self.counters.count(Counter::PriorityZeroSent);
            }
        }
    }

    /// Its own interface is another router's from now on.
    pub(crate) fn forget_interface(&mut self) {
        self.made_on = None;
    }

    /// Whether it may be Active as far as it alone decides.
    pub(crate) fn is_ready(&self) -> bool {
        self.faults.is_empty() && self.waits_for.is_empty()
    }
}

/// IPv4 routers speak from any address, IPv6 ones from a link-local one (RFC 9568 section 5.1.2.1).
fn is_speakable(address: IpAddr, family: Family) -> bool {
    match (address, family) {
        (IpAddr::V4(_), Family::V4) => true,
        (IpAddr::V6(address), Family::V6) => address.is_unicast_link_local(),
        (IpAddr::V4(_), Family::V6) | (IpAddr::V6(_), Family::V4) => false,
    }
}

struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} s", self.0.as_secs_f64())
    }
}
