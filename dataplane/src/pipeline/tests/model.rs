//! Random packets through the pipeline and through a plain model of spec 3.3 to 3.6 (states, timeouts,
//! active and inactive): what is listed and counted must be the same after each of them, whatever
//! expires, is evicted, or loses its server in between.

use super::*;
use crate::connection::notes;
use crate::connection::{Path, SctpState, State, TcpState};
use crate::defence::Mode;
use crate::job::ConnectionRow;
use crate::verdict::{DropReason, Verdict};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Client ports in play: more than the table has room for.
const PORTS: u16 = 12;
const ROOM: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Client port and packet.
    Client(u16, u8),
    /// The server of that port's connection sends.
    Server(u16, u8),
    /// Milliseconds, and whether the timers run after them.
    Sleep(u64, bool),
    /// Server 12 leaves the list, or comes back.
    Server12(bool),
}

/// What the model knows of a connection.
#[derive(Clone, Copy, Debug)]
struct Flow {
    host: u8,
    state: State,
    no_output: bool,
    inactive: bool,
    packets: u32,
    timeout: u64,
    last: u64,
}

impl Flow {
    fn new(site: Site, host: u8) -> Self {
        Self {
            host,
            state: State::initial(site.protocol),
            no_output: site.forward == Forward::Dr,
            inactive: true,
            packets: 0,
            timeout: 3000,
            last: 0,
        }
    }

    fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.last) >= self.timeout
    }

    /// A packet that means `event` (`None`: TCP without flags).
    fn packet(&mut self, output: bool, event: Option<&str>, secure: bool, now: u64) {
        let path = if output {
            self.no_output = false;
            Path::Output
        } else {
            self.packets += 1;
            if self.no_output {
                Path::InputOnly
            } else {
                Path::Input
            }
        };
        self.state = match event {
            Some(event) => notes::after(self.state, path, event, secure),
            None => State::Tcp(TcpState::Close),
        };
        self.timeout = 1000 * seconds(self.state);
        self.last = now;
        self.inactive = !is_active(self.state);
    }
}

/// 3.2, the last column.
fn is_active(state: State) -> bool {
    ["ESTABLISHED", "SYN_SENT", "SYN_RECV", "SYNACK"].contains(&state.name())
}

/// 3.2.
fn seconds(state: State) -> u64 {
    match (state, state.name()) {
        (State::Udp, _) => 300,
        (_, "ESTABLISHED") => 900,
        (_, "NONE") => 2,
        (State::Tcp(_), "SYN_SENT" | "FIN_WAIT" | "TIME_WAIT" | "LISTEN" | "SYNACK") => 120,
        (State::Tcp(_), "CLOSE") => 10,
        (State::Tcp(_), "LAST_ACK") => 30,
        (State::Tcp(_), _) => 60,
        (State::Sctp(_), "INIT1" | "REJECTED") => 4,
        (State::Sctp(_), _) => 61,
    }
}

/// The packet number `kind`: what it means to the state machine, and whether it asks for a connection
/// and may get one.
#[derive(Clone, Copy, Debug)]
struct Packet {
    event: Option<&'static str>,
    opening: bool,
    schedulable: bool,
    flags: u8,
    chunks: [u8; 2],
}

fn packet(site: Site, kind: u8) -> Packet {
    let plain = Packet {
        event: Some("datagram"),
        opening: false,
        schedulable: true,
        flags: 0,
        chunks: [0; 2],
    };
    match site.protocol {
        Protocol::Udp => plain,
        Protocol::Tcp => {
            let (flags, event) = [
                (SYN, Some("syn")),
                (ACK, Some("ack")),
                (FIN | ACK, Some("fin")),
                (RST, Some("rst")),
                (SYN | ACK, Some("syn")),
                (SYN | RST, Some("rst")),
                (0x28, None),
                (SYN | FIN, Some("syn")),
            ][usize::from(kind % 8)];
            let opening = flags & SYN != 0;
            Packet {
                event,
                opening,
                schedulable: opening && flags & RST == 0,
                flags,
                ..plain
            }
        }
        Protocol::Sctp => {
            let (chunks, event) = [
                ([1, 0], "i"),
                ([10, 0], "ce"),
                ([11, 0], "ca"),
                ([2, 0], "ia"),
                ([0, 3], "d"),
                ([7, 0], "s"),
                ([8, 0], "sa"),
                ([14, 0], "sc"),
                ([6, 0], "a"),
                ([9, 0], "e"),
                ([10, 6], "a"),
                ([4, 6], "d"),
            ][usize::from(kind % 12)];
            let opening = event == "i";
            Packet {
                event: Some(event),
                opening,
                schedulable: opening,
                chunks,
                ..plain
            }
        }
    }
}

impl Packet {
    fn on(self, site: Site, frame: PacketBuilder) -> PacketBuilder {
        match site.protocol {
            Protocol::Sctp => {
                let [first, second] = self.chunks;
                frame.payload([first, 0, 0, 4, second, 0, 0, 4])
            }
            _ => frame.flags(self.flags),
        }
    }
}

struct Model {
    site: Site,
    world: World,
    reuse: u8,
    secure: bool,
    flows: BTreeMap<u16, Flow>,
    /// Server 12 has left.
    left: bool,
}

impl Model {
    fn new(site: Site, reuse: u8, secure: bool) -> Self {
        let mut plan = site.plan(&[11, 12]);
        plan.connections = ROOM;
        plan.ipvs.conn_reuse_mode = reuse;
        plan.ipvs.defences.secure_tcp = if secure { Mode::Always } else { Mode::Off };
        let mut world = World::new(plan);
        world.expire();
        Self {
            site,
            world,
            reuse,
            secure,
            flows: BTreeMap::new(),
            left: false,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Client(port, kind) => self.client(port, packet(self.site, kind)),
            Step::Server(port, kind) => self.server(port, packet(self.site, kind)),
            Step::Sleep(milliseconds, timers) => {
                self.world.sleep(milliseconds);
                if timers {
                    self.world.expire();
                    let (rows, now) = (rows(&mut self.world), self.world.now.0);
                    // An entry found late is still listed, but no later than a tick.
                    self.flows.retain(|port, flow| {
                        let listed = rows.contains_key(port);
                        assert!(listed || flow.is_over(now), "{port} {flow:?}");
                        assert!(!listed || !flow.is_over(now.saturating_sub(TICK)));
                        listed
                    });
                }
            }
            Step::Server12(leaves) => {
                let site = self.site;
                let hosts: &[u8] = if leaves { &[11] } else { &[11, 12] };
                let reals = site.plan(hosts).services.remove(0).reals;
                self.world.edit(|plan| plan.services[0].reals = reals);
                self.left = leaves;
            }
        }
        self.compare();
    }

    fn client(&mut self, port: u16, packet: Packet) {
        let (site, now) = (self.site, self.world.now.0);
        let frame = packet.on(site, site.request(5000 + port));
        if self.flows.get(&port).is_some_and(|flow| {
            let gone = self.left && flow.host == 12;
            flow.is_over(now)
                || packet.opening && (self.is_reused(flow) || gone && is_closing(flow))
        }) {
            self.flows.remove(&port);
        }
        let verdict = self.world.verdict(0, &frame);
        if let Some(flow) = self.flows.get_mut(&port) {
            assert!(matches!(verdict, Verdict::Tx(_)));
            flow.packet(false, packet.event, self.secure, now);
        } else if !packet.schedulable {
            assert!(matches!(verdict, Verdict::Punt(_)));
        } else if verdict == Verdict::Drop(DropReason::TableFull) {
            assert_eq!(self.flows.len(), ROOM);
        } else {
            let rows = rows(&mut self.world);
            // Of a full table one may have gone.
            if self.flows.len() == ROOM {
                let gone = self.flows.iter().find(|(port, _)| !rows.contains_key(port));
                let (gone, flow) = gone.expect("one made room");
                assert!(may_be_evicted(flow, now), "{flow:?}");
                let gone = *gone;
                self.flows.remove(&gone);
            }
            let mut flow = Flow::new(site, host(&rows[&port]));
            assert!(!(self.left && flow.host == 12));
            flow.packet(false, packet.event, self.secure, now);
            self.flows.insert(port, flow);
        }
    }

    fn server(&mut self, port: u16, packet: Packet) {
        let (site, now) = (self.site, self.world.now.0);
        let Some(flow) = self.flows.get_mut(&port) else {
            return;
        };
        if site.forward != Forward::Nat {
            return;
        }
        let frame = packet.on(site, site.reply(flow.host, 5000 + port));
        let verdict = self.world.verdict(1, &frame);
        if flow.is_over(now) {
            assert!(matches!(verdict, Verdict::Punt(_)));
            self.flows.remove(&port);
        } else {
            assert!(matches!(verdict, Verdict::Tx(_)));
            flow.packet(true, packet.event, self.secure, now);
        }
    }

    /// `conn_reuse_mode`.
    fn is_reused(&self, flow: &Flow) -> bool {
        match flow.state {
            State::Tcp(TcpState::TimeWait | TcpState::Close) | State::Sctp(SctpState::Closed) => {
                self.reuse != 0
            }
            State::Tcp(TcpState::FinWait) => self.reuse & 2 != 0 && flow.no_output,
            _ => false,
        }
    }

    fn compare(&mut self) {
        let (rows, now) = (rows(&mut self.world), self.world.now.0);
        let listed: Vec<_> = rows.keys().collect();
        assert_eq!(listed, self.flows.keys().collect::<Vec<_>>());
        let mut counts = BTreeMap::from([(11, (0, 0)), (12, (0, 0))]);
        for (port, flow) in &self.flows {
            let row = &rows[port];
            assert_eq!(row.state, flow.state, "{port}");
            let left = flow.timeout.saturating_sub(now - flow.last);
            assert_eq!(row.expires_ms, left, "{port} {flow:?}");
            assert_eq!(host(row), flow.host);
            assert_eq!(row.packets, flow.packets);
            let (active, inactive) = counts.entry(flow.host).or_default();
            if flow.inactive {
                *inactive += 1;
            } else {
                *active += 1;
            }
        }
        for (_, record) in self.world.services().reals() {
            let host = record.name.parse().unwrap();
            assert_eq!(record.shared.connections(), counts[&host], "{host}");
        }
    }
}

fn rows(world: &mut World) -> BTreeMap<u16, ConnectionRow> {
    let rows = world.connections();
    let rows = rows.into_iter().map(|row| (row.client.port() - 5000, row));
    rows.collect()
}

fn host(row: &ConnectionRow) -> u8 {
    match row.destination.ip() {
        std::net::IpAddr::V4(address) => address.octets()[3],
        std::net::IpAddr::V6(address) => match address.segments()[7] {
            0x11 => 11,
            _ => 12,
        },
    }
}

fn is_closing(flow: &Flow) -> bool {
    let name = flow.state.name();
    let closing = [
        "FIN_WAIT",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "S-SENT",
        "S-RECEIVED",
        "S-ACK-SENT",
        "REJECTED",
        "CLOSED",
    ];
    closing.contains(&name)
}

fn may_be_evicted(flow: &Flow, now: u64) -> bool {
    let idle = now - flow.last;
    match flow.state.name() {
        _ if flow.is_over(now) => true,
        "ESTABLISHED" => flow.packets <= 8 && idle > 60_000,
        "UDP" => flow.packets <= 1,
        "LISTEN" => false,
        _ => true,
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..PORTS, any::<u8>()).prop_map(|(port, kind)| Step::Client(port, kind)),
        // Few of the ports, so that connections get on.
        12 => (0..3u16, any::<u8>()).prop_map(|(port, kind)| Step::Client(port, kind)),
        12 => (0..3u16, any::<u8>()).prop_map(|(port, kind)| Step::Server(port, kind)),
        3 => (0..2000u64, any::<bool>()).prop_map(|(time, timers)| Step::Sleep(time, timers)),
        2 => (0..130_000u64, any::<bool>()).prop_map(|(time, timers)| Step::Sleep(time, timers)),
        1 => any::<bool>().prop_map(Step::Server12),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn states_timeouts_and_counts_are_those_of_the_model(
        number in 0..12usize,
        reuse in 0..4u8,
        secure in any::<bool>(),
        steps in steps(),
    ) {
        let site = Site::ALL[number % 4];
        let site = [site, site.udp(), site.sctp()][number / 4];
        let mut model = Model::new(site, reuse, secure);
        for step in steps {
            model.step(step);
        }
        model.world.movement();
    }
}
