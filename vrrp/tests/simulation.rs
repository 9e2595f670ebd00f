//! Two and three boxes on links that lose, delay and reorder, with boxes that die, sleep, lose a link, are parted from
//! each other, are taken out by their operator or whose clock steps. Time is simulated, chance is seeded.
//!
//! Faults come one after the other. Between them the network is whole, and then must hold: exactly one box is Active,
//! it is the best one, it alone has the addresses, and nothing changes until the next fault.

mod world;

use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use vrrp::{
    Action, Centis, Event, Input, Name, Packet, RouterSettings, Routers, Settings, Standing,
    Transmission,
};
use world::{address, group, interface, ip, ms, router, router_v3};

/// What a world is made of.
#[derive(Clone, Copy, Debug)]
struct Plan {
    boxes: u8,
    /// One router per link; those of a box are a sync group if there are more.
    links: u8,
    /// Version 3, at this interval; else version 2, every second.
    centis: Option<u16>,
    max_delay: Duration,
    seed: u64,
}

impl Plan {
    fn interval(&self) -> Duration {
        Centis(self.centis.unwrap_or(100)).duration()
    }

    /// The longest Active_Down_Interval.
    fn down(&self) -> Duration {
        let skew = self
            .centis
            .map_or(ms(1000), |centis| Centis(centis).duration());
        self.interval() * 3 + skew
    }

    /// After that much time without fault all is in order.
    fn settle(&self) -> Duration {
        self.down() + self.interval() * 2 + self.max_delay * 4 + ms(300)
    }

    fn settings(&self, place: u8) -> Settings {
        let routers: Vec<_> = (0..self.links)
            .map(|link| {
                let priority = 100 + 10 * place;
                let base = match self.centis {
                    Some(centis) => RouterSettings {
                        advert_interval: Centis(centis),
                        ..router_v3(priority)
                    },
                    None => router(priority),
                };
                RouterSettings {
                    name: format!("VI_{link}").into(),
                    interface: eth(link),
                    addresses: vec![address(&format!("10.0.{link}.60/32"))],
                    ..base
                }
            })
            .collect();
        let names: Vec<_> = routers.iter().map(|router| router.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let groups = if self.links > 1 {
            vec![group(&names)]
        } else {
            vec![]
        };
        Settings { routers, groups }
    }
}

fn eth(link: u8) -> Name {
    format!("eth{link}").into()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Killed, and started again.
    Kill(u8),
    /// Stopped in order, and started again.
    Stop(u8),
    /// Does not run; packets wait.
    Sleep(u8),
    /// A link of the box is down.
    LinkDown(u8, u8),
    /// A box and the others do not hear each other on this link.
    Part(u8, u8),
    /// Taken out by the operator.
    Maintenance(u8),
    /// The operator has it yield.
    Release(u8),
    /// That many of 100 packets are lost.
    Loss(u8),
    /// The clock of the box goes forward by that many milliseconds, or back if they are negative, and stays so.
    ///
    /// It is the monotonic clock, the one the driver reads: a wall clock that is set never reaches the machine. What
    /// steps it is beneath the kernel: a virtual machine that was suspended or has moved (forward; unlike after
    /// [`Fault::Sleep`] no packet waits that could tell it better), a clock source that is corrected or replaced
    /// (either way, though the kernel promises not to go back).
    Step(u8, i64),
}

struct Node {
    routers: Routers,
    is_alive: bool,
    is_asleep: bool,
    waiting: Vec<Flight>,
    /// Its clock is ahead of the world's by that many milliseconds.
    ahead: i64,
    /// Addresses in the kernel.
    placed: BTreeSet<IpAddr>,
    /// When each transition of a router was told.
    told: Vec<(Instant, Standing)>,
}

impl Node {
    /// What its clock shows.
    fn clock(&self, now: Instant) -> Instant {
        shift(now, self.ahead)
    }

    /// When in the world it has something to do.
    fn deadline(&self) -> Option<Instant> {
        Some(shift(self.routers.next_deadline()?, -self.ahead))
    }
}

fn shift(moment: Instant, milliseconds: i64) -> Instant {
    let by = ms(milliseconds.unsigned_abs());
    if milliseconds < 0 {
        moment.checked_sub(by).unwrap()
    } else {
        moment + by
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Flight {
    at: Instant,
    number: u64,
    to: u8,
    from: u8,
    link: u8,
    sent: Transmission,
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct World {
    plan: Plan,
    now: Instant,
    nodes: Vec<Node>,
    air: BinaryHeap<Reverse<Flight>>,
    flights: u64,
    chance: u64,
    fault: Option<Fault>,
    /// The first time since asked that no running box had an address.
    uncovered: Option<Instant>,
}

impl World {
    fn new(plan: Plan) -> Self {
        // Clocks that go back must not get before the boot of the machine this runs on.
        let now = Instant::now() + Duration::from_hours(24);
        let mut world = Self {
            plan,
            now,
            nodes: vec![],
            air: BinaryHeap::new(),
            flights: 0,
            chance: plan.seed | 1,
            fault: None,
            uncovered: None,
        };
        for place in 0..plan.boxes {
            world.nodes.push(Node {
                routers: Routers::new(plan.settings(place), now),
                is_alive: true,
                is_asleep: false,
                waiting: vec![],
                ahead: 0,
                placed: BTreeSet::new(),
                told: vec![],
            });
            world.start(place);
        }
        world.run(plan.settle());
        world.check();
        world
    }

    /// xorshift64*
    fn random(&mut self, below: u64) -> u64 {
        self.chance ^= self.chance >> 12;
        self.chance ^= self.chance << 25;
        self.chance ^= self.chance >> 27;
        (self.chance.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }

    fn source(place: u8, link: u8) -> String {
        format!("10.0.{link}.{}", place + 1)
    }

    fn start(&mut self, place: u8) {
        let settings = self.plan.settings(place);
        let node = &mut self.nodes[usize::from(place)];
        node.routers = Routers::new(settings, node.clock(self.now));
        node.is_alive = true;
        for link in 0..self.plan.links {
            self.link(place, link, true);
        }
    }

    fn link(&mut self, place: u8, link: u8, up: bool) {
        let node = &self.nodes[usize::from(place)];
        let mut told = interface(&Self::source(place, link));
        told.up = up;
        let nets = node
            .placed
            .iter()
            .map(|&address| ipnet::IpNet::from(address));
        told.addresses.extend(nets);
        self.handle(place, Input::Interface(eth(link), told));
    }

    fn handle(&mut self, place: u8, input: Input<'_>) {
        let node = &mut self.nodes[usize::from(place)];
        let now = node.clock(self.now);
        node.routers.handle(input, now);
        self.collect(place);
    }

    fn collect(&mut self, place: u8) {
        while let Some(action) = self.nodes[usize::from(place)].routers.next_action() {
            let node = &mut self.nodes[usize::from(place)];
            match action {
                Action::Send(sent) => self.send(place, &sent),
                Action::Claim { router, .. } => {
                    let now = node.clock(self.now);
                    node.routers.handle(Input::Claimed(router), now);
                }
                Action::AddAddress { address, .. } => {
                    node.placed.insert(address.addr());
                }
                Action::RemoveAddress { address, .. } => {
                    node.placed.remove(&address.addr());
                }
                Action::Tell(Event::Transition(to)) if !to.group => {
                    node.told.push((self.now, to.to));
                }
                Action::Tell(Event::Complaint { what, .. }) => panic!("{what}"),
                _ => {}
            }
        }
    }

    fn send(&mut self, from: u8, sent: &Transmission) {
        let link: u8 = sent.interface[3..].parse().unwrap();
        for to in (0..self.plan.boxes).filter(|to| *to != from) {
            let is_lost = match self.fault {
                Some(Fault::Loss(percent)) => self.random(100) < u64::from(percent),
                Some(Fault::Part(apart, parted)) => {
                    link == parted && (apart == from) != (apart == to)
                }
                Some(Fault::LinkDown(down, which)) => link == which && (down == from || down == to),
                _ => false,
            };
            if is_lost {
                continue;
            }
            let delay = self.random(1 + self.plan.max_delay.as_micros() as u64);
            self.flights += 1;
            self.air.push(Reverse(Flight {
                at: self.now + Duration::from_micros(delay),
                number: self.flights,
                to,
                from,
                link,
                sent: sent.clone(),
            }));
        }
    }

    fn deliver(&mut self, flight: Flight) {
        let node = &mut self.nodes[usize::from(flight.to)];
        if !node.is_alive {
            return;
        }
        if node.is_asleep {
            node.waiting.push(flight);
            return;
        }
        let name = eth(flight.link);
        let packet = Packet {
            interface: &name,
            source: flight.sent.source,
            destination: flight.sent.destination,
            hop_limit: flight.sent.hop_limit,
            message: &flight.sent.message,
        };
        assert_eq!(packet.source, ip(&Self::source(flight.from, flight.link)));
        self.handle(flight.to, Input::Packet(packet));
    }

    fn run(&mut self, length: Duration) {
        let end = self.now + length;
        loop {
            let flight = self.air.peek().map(|Reverse(flight)| flight.at);
            let running = self.nodes.iter().enumerate();
            let timer = running
                .filter(|(_, node)| node.is_alive && !node.is_asleep)
                .filter_map(|(place, node)| Some((node.deadline()?, place)))
                .min();
            let next = flight.into_iter().chain(timer.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            // What waits in a socket is handed in before timers are looked at.
            if flight.is_some_and(|at| at <= self.now)
                && let Some(Reverse(flight)) = self.air.pop()
            {
                self.deliver(flight);
            } else if let Some((_, place)) = timer {
                let node = &mut self.nodes[place];
                let now = node.clock(self.now);
                node.routers.expire(now);
                self.collect(place as u8);
            }
            self.look_for_gap();
        }
        self.now = end;
    }

    fn look_for_gap(&mut self) {
        let covered = (0..self.plan.links).all(|link| {
            let wanted = ip(&format!("10.0.{link}.60"));
            self.nodes.iter().any(|node| node.placed.contains(&wanted))
        });
        if !covered && self.uncovered.is_none() {
            self.uncovered = Some(self.now);
        }
    }

    /// The box that is Active on all its links; a box that is so on some only is none.
    fn active(&self) -> Vec<u8> {
        (0..self.plan.boxes)
            .filter(|place| {
                let node = &self.nodes[usize::from(*place)];
                let status = node.routers.status(node.clock(self.now));
                let active = |status: &vrrp::RouterStatus| status.standing == Standing::Active;
                let is_any = node.is_alive && status.iter().any(active);
                assert!(
                    !is_any || status.iter().all(active),
                    "half a group: {place}"
                );
                is_any
            })
            .collect()
    }

    /// Nothing has been wrong for long.
    fn check(&self) {
        let best = self.plan.boxes - 1;
        assert_eq!(self.active(), [best], "{:?}", self.plan);
        for (place, node) in self.nodes.iter().enumerate() {
            let count = if place == usize::from(best) {
                self.plan.links
            } else {
                0
            };
            assert_eq!(
                node.placed.len(),
                usize::from(count),
                "box {place} {:?}",
                self.plan
            );
        }
    }

    fn any_fault(&mut self) -> Fault {
        // The best box is Active: it is hit as often as all others.
        let place = if self.random(2) == 0 {
            self.plan.boxes - 1
        } else {
            self.random(u64::from(self.plan.boxes)) as u8
        };
        let link = self.random(u64::from(self.plan.links)) as u8;
        match self.random(9) {
            0 => Fault::Kill(place),
            1 => Fault::Stop(place),
            2 => Fault::Sleep(place),
            3 => Fault::LinkDown(place, link),
            4 => Fault::Part(place, link),
            5 => Fault::Maintenance(place),
            6 => Fault::Release(place),
            7 => Fault::Step(place, self.any_step()),
            _ => Fault::Loss(5 + self.random(60) as u8),
        }
    }

    /// When the first of the others became Active instead of the best box.
    fn taken_over(&self) -> Instant {
        let others = &self.nodes[..self.nodes.len() - 1];
        let told = others.iter().flat_map(|node| &node.told);
        let active = told.filter(|(_, to)| *to == Standing::Active);
        active.map(|(at, _)| *at).min().expect("nobody took over")
    }

    /// Half of them are short enough to come near the timers.
    fn any_step(&mut self) -> i64 {
        let most = match self.random(2) {
            0 => 8 * self.plan.interval().as_millis() as u64,
            _ => 60_000,
        };
        let step = 1 + self.random(most).cast_signed();
        if self.random(2) == 0 { step } else { -step }
    }

    /// The clock of a box steps, and that only what must come of it does, and for no longer than it must.
    ///
    /// A step is over at once, its box does not know of it, and the network is whole all the time. So the best box
    /// stays Active and keeps the addresses; another may be Active besides it until it hears the best one's next
    /// advertisement, and never afterwards. That comes within an interval, unless the best box's own clock went back:
    /// time stands still for it until its clock has made up for that, and it is silent for so long.
    fn step(&mut self, place: u8, milliseconds: i64) {
        let best = self.plan.boxes - 1;
        let begin = self.now;
        let by = ms(milliseconds.unsigned_abs());
        let is_back = milliseconds < 0;
        let is_silent = is_back && place == best;
        let what = format!("box {place} by {milliseconds} ms {:?}", self.plan);
        self.nodes[usize::from(place)].ahead += milliseconds;
        let window = self.plan.interval() + self.plan.max_delay;
        self.run(if is_silent { by + window } else { window });
        self.check();
        assert_eq!(self.uncovered, None, "left a gap: {what}");
        // Whom the step may have made Active: those who miss the best box, or the one whose timers came too early.
        let down = self.plan.down() + self.plan.max_delay;
        for (other, node) in self.nodes.iter().enumerate() {
            let may = if is_silent {
                // Three intervals without an advertisement; one passes in any case.
                other != usize::from(best) && by + window > self.plan.interval() * 3
            } else {
                !is_back && place != best && other == usize::from(place)
            };
            // Once for its silence; once more after its only word in it, which answers the first.
            let most = usize::from(self.plan.links) * if is_silent { 4 } else { 2 };
            let told = node.told.len();
            assert!(
                told <= if may { most } else { 0 },
                "{other} told {told}: {what}"
            );
        }
        if is_silent && by > down {
            let took = self.taken_over() - begin;
            assert!(took <= down, "took {took:?}: {what}");
        }
        if !is_back && place != best && by > down {
            // Nothing tells it better before it acts.
            let first = self.nodes[usize::from(place)].told.first();
            assert_eq!(first, Some(&(begin, Standing::Active)), "{what}");
        }
        // Until the clock has made up for the step too, which nobody but the best box shows.
        self.rest(if is_back { by } else { Duration::ZERO } + self.plan.settle());
    }

    /// One fault from beginning to end (a step has its own length), and that all is well afterwards.
    fn suffer(&mut self, fault: Fault, length: Duration) {
        let best = self.plan.boxes - 1;
        let begin = self.now;
        for node in &mut self.nodes {
            node.told.clear();
        }
        self.uncovered = None;
        self.fault = Some(fault);
        match fault {
            Fault::Kill(place) => {
                let node = &mut self.nodes[usize::from(place)];
                node.is_alive = false;
                node.placed.clear();
            }
            Fault::Stop(place) => self.handle(place, Input::Stop),
            Fault::Sleep(place) => self.nodes[usize::from(place)].is_asleep = true,
            Fault::LinkDown(place, link) => self.link(place, link, false),
            Fault::Maintenance(place) => self.handle(place, Input::Maintenance(true)),
            Fault::Release(place) => self.handle(place, Input::Release("VI_0".into())),
            Fault::Step(place, milliseconds) => {
                self.fault = None;
                return self.step(place, milliseconds);
            }
            Fault::Part(..) | Fault::Loss(_) => {}
        }
        self.run(length);
        // Somebody has taken over in time; the link that is down makes it known by priority 0 or not at all.
        let hit = match fault {
            Fault::Kill(place)
            | Fault::Stop(place)
            | Fault::Sleep(place)
            | Fault::LinkDown(place, _)
            | Fault::Maintenance(place)
            | Fault::Release(place) => Some(place),
            Fault::Part(..) | Fault::Loss(_) | Fault::Step(..) => None,
        };
        let bound = self.plan.down() + self.plan.max_delay;
        if hit == Some(best) && length > bound {
            let took = self.taken_over() - begin;
            assert!(took <= bound, "{fault:?} took {took:?} {:?}", self.plan);
        }
        if matches!(
            fault,
            Fault::Stop(_) | Fault::Maintenance(_) | Fault::Release(_)
        ) {
            assert_eq!(self.uncovered, None, "{fault:?} left a gap {:?}", self.plan);
        }
        self.fault = None;
        match fault {
            Fault::Kill(place) | Fault::Stop(place) => {
                self.nodes[usize::from(place)].placed.clear();
                self.start(place);
            }
            Fault::Sleep(place) => {
                let node = &mut self.nodes[usize::from(place)];
                node.is_asleep = false;
                let waiting = std::mem::take(&mut node.waiting);
                for flight in waiting {
                    self.deliver(flight);
                }
            }
            Fault::LinkDown(place, link) => self.link(place, link, true),
            Fault::Maintenance(place) => self.handle(place, Input::Maintenance(false)),
            Fault::Release(place) => {
                // It would yield for as long as the other lives.
                self.handle(place, Input::Maintenance(true));
                self.handle(place, Input::Maintenance(false));
            }
            Fault::Part(..) | Fault::Loss(_) | Fault::Step(..) => {}
        }
        self.run(self.plan.settle());
        self.check();
        let changes: usize = self.nodes.iter().map(|node| node.told.len()).sum();
        let per_router = match fault {
            // Each needs three lost advertisements.
            Fault::Loss(_) => {
                4 + 2 * (length.as_millis() / self.plan.interval().as_millis()) as usize
            }
            // Down, waiting and back; once more where the one it yielded to is hit.
            Fault::Kill(_)
            | Fault::Stop(_)
            | Fault::Sleep(_)
            | Fault::LinkDown(..)
            | Fault::Part(..)
            | Fault::Maintenance(_)
            | Fault::Release(_)
            | Fault::Step(..) => 4,
        };
        let routers = usize::from(self.plan.boxes) * usize::from(self.plan.links);
        assert!(
            changes <= per_router * routers,
            "{fault:?} {changes} {:?}",
            self.plan
        );
    }

    /// In peace nothing changes.
    fn rest(&mut self, length: Duration) {
        // What was held is let go after five seconds at most.
        for node in &mut self.nodes {
            node.told.clear();
        }
        self.run(length);
        self.check();
        assert!(
            self.nodes.iter().all(|node| node.told.is_empty()),
            "{:?}",
            self.plan
        );
    }
}

const CALM: Plan = Plan {
    boxes: 2,
    links: 1,
    centis: None,
    max_delay: Duration::from_millis(20),
    seed: 1,
};

#[test]
fn a_killed_active_router_is_followed_within_active_down_interval() {
    let mut world = World::new(CALM);
    for _ in 0..20 {
        let pause = ms(world.random(2000));
        world.rest(pause);
        world.suffer(Fault::Kill(1), ms(8000));
    }
}

#[test]
fn an_active_router_that_sleeps_ten_seconds_is_followed_once_and_takes_back_in_one_interval() {
    let mut world = World::new(CALM);
    world.suffer(Fault::Sleep(1), ms(10_000));
    let told = |place: usize| {
        let told = world.nodes[place].told.iter();
        told.map(|(_, to)| *to).collect::<Vec<_>>()
    };
    assert_eq!(told(0), [Standing::Active, Standing::Backup]);
    assert_eq!(told(1), []);
}

#[test]
fn a_planned_hand_over_leaves_no_moment_without_the_addresses() {
    for fault in [Fault::Stop(2), Fault::Maintenance(2), Fault::Release(2)] {
        for centis in [None, Some(10), Some(100)] {
            let mut world = World::new(Plan {
                boxes: 3,
                centis,
                ..CALM
            });
            // Within: no gap is asserted.
            world.suffer(fault, ms(7000));
        }
    }
}

#[test]
fn a_backup_router_whose_clock_leaps_takes_over_for_less_than_one_interval() {
    for links in [1, 2] {
        for centis in [None, Some(10), Some(100)] {
            let mut world = World::new(Plan {
                boxes: 3,
                links,
                centis,
                ..CALM
            });
            // Within: that it ends in time is asserted.
            world.suffer(Fault::Step(1, 60_000), Duration::ZERO);
        }
    }
}

#[test]
fn an_active_router_whose_clock_goes_back_is_followed_and_takes_back_when_it_has_caught_up() {
    for centis in [None, Some(10), Some(100)] {
        let mut world = World::new(Plan {
            boxes: 3,
            centis,
            ..CALM
        });
        world.suffer(Fault::Step(2, -20_000), Duration::ZERO);
    }
}

fn two_days_of_random_faults(plan: Plan) {
    let mut world = World::new(plan);
    let end = world.now + Duration::from_hours(48);
    let mut faults = 0;
    while world.now < end {
        let length = ms(100 + world.random(60_000));
        let fault = world.any_fault();
        world.suffer(fault, length);
        faults += 1;
        let pause = ms(world.random(60_000));
        world.rest(pause);
    }
    assert!(faults > 1000, "{faults}");
}

#[test]
fn two_simulated_days_of_random_faults_violate_nothing() {
    two_days_of_random_faults(Plan {
        boxes: 3,
        seed: 0x5eed,
        ..CALM
    });
}

#[test]
fn two_simulated_days_of_random_faults_violate_nothing_in_a_sync_group_of_version_3() {
    two_days_of_random_faults(Plan {
        boxes: 3,
        links: 2,
        centis: Some(100),
        seed: 0x5eed,
        ..CALM
    });
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let centis = prop_oneof![Just(None), Just(Some(100)), Just(Some(50)), Just(Some(10))];
    (2..=3_u8, 1..=2_u8, centis, 0..30_u64, any::<u64>()).prop_map(
        |(boxes, links, centis, delay, seed)| Plan {
            boxes,
            links,
            centis,
            max_delay: ms(delay),
            seed,
        },
    )
}

/// A case takes long; a longer run asks for more of them by `PROPTEST_CASES`, which `with_cases` would override.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default.cases,
        None => 96,
    };
    ProptestConfig { cases, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn outside_of_faults_the_best_box_alone_is_active(plan in any_plan()) {
        let mut world = World::new(plan);
        for _ in 0..12 {
            let fault = world.any_fault();
            let length = ms(100 + world.random(20_000));
            world.suffer(fault, length);
            let pause = ms(world.random(10_000));
            world.rest(pause);
        }
    }
}
