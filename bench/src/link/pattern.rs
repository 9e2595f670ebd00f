//! What the generator sends: openings, established flows, whole conversations, echo requests.

use super::generator::Pattern;
use crate::packet::{FLOWS, Template, Way};
use crate::pipeline::Random;
use dataplane::packet::MacAddress;
use dataplane::packet::builder::PacketBuilder;
use dataplane::packet::tcp;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The network every link scenario plays in: one arm, everything in 10.0.1.0/24.
pub(crate) const STATION: MacAddress = MacAddress([2, 0, 0, 0, 0xff, 0]);
/// Servers of every service.
pub(crate) const REALS: u8 = 4;

/// The virtual service.
pub(crate) fn vip() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 50)), 80)
}

/// Address of a server.
pub(crate) fn real(number: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 101 + number)), 80)
}

fn request(flags: u8, length: usize) -> Template {
    Template::new(vip(), Way::Request, flags, length).addressed(STATION)
}

/// Opens flows: for each a SYN and an ACK, which makes it established.
pub(crate) struct Opening {
    turns: [Template; 2],
    next: u64,
    until: u64,
    /// Host numbers of the servers of the first flows, in order, as the frames that came back show.
    pub(crate) servers: Vec<u8>,
}

impl Opening {
    /// Opens the flows `from..until`.
    pub(crate) fn new(from: u32, until: u32) -> Self {
        Self {
            turns: [request(tcp::SYN, 64), request(tcp::ACK, 64)],
            next: u64::from(from) * 2,
            until: u64::from(until) * 2,
            servers: Vec::new(),
        }
    }
}

impl Pattern for Opening {
    fn next(&mut self) -> Option<usize> {
        (self.next < self.until).then(|| self.turns[(self.next % 2) as usize].length())
    }

    fn write(&mut self, frame: &mut [u8]) {
        let flow = (self.next / 2) as u32;
        self.turns[(self.next % 2) as usize].write_to(frame, flow);
        self.next += 1;
    }

    fn returned(&mut self, frame: &[u8]) {
        /// Last byte of an IPv4 destination address.
        const HOST: usize = 33;
        /// First byte of an IPv4 header without options, and the protocol.
        const TCP_OVER_IPV4: (u8, u8) = (0x45, 6);
        // SYN and ACK of each of the first flows; the peer's kernel says something now and then too.
        if self.servers.len() < usize::from(REALS) * 2
            && let (Some(version), Some(protocol)) = (frame.get(14), frame.get(23))
            && (*version, *protocol) == TCP_OVER_IPV4
            && let Some(host) = frame.get(HOST)
        {
            self.servers.push(*host);
        }
    }
}

/// How often each flow is drawn.
#[derive(Clone, Debug)]
pub(crate) enum Popularity {
    /// All alike.
    Uniform,
    /// The n-th flow in proportion to 1/n: a cumulative table in 64ths of a percent.
    Zipf(Vec<u32>),
}

impl Popularity {
    /// Zipf's law over `flows` flows.
    pub(crate) fn zipf(flows: u32) -> Self {
        const STEPS: u32 = 65536;
        let total = f64::from(flows).ln().max(1.0);
        // Inverse of the cumulative distribution, ln n / ln N, at even steps.
        #[expect(clippy::cast_sign_loss, reason = "an exponential is positive")]
        let table = (0..STEPS)
            .map(|step| (total * f64::from(step) / f64::from(STEPS)).exp() as u32 - 1)
            .map(|flow| flow.min(flows - 1))
            .collect();
        Self::Zipf(table)
    }

    fn draw(&self, random: &mut Random, flows: u32) -> u32 {
        match self {
            Self::Uniform => random.below(flows),
            Self::Zipf(table) => {
                let step = random.below(table.len() as u32) as usize;
                let from = table[step];
                let to = table.get(step + 1).copied().unwrap_or(flows);
                from + random.below((to - from).max(1))
            }
        }
    }
}

/// Packets of established flows; with servers, every other one is a reply.
pub(crate) struct Established {
    random: Random,
    flows: u32,
    popularity: Popularity,
    request: Template,
    replies: Vec<Template>,
    sent: u64,
    stamped: bool,
}

impl Established {
    /// Client packets of the flows `0..flows`.
    pub(crate) fn new(flows: u32, length: usize, popularity: Popularity) -> Self {
        Self {
            random: Random::SEED,
            flows,
            popularity,
            request: request(tcp::ACK, length),
            replies: Vec::new(),
            sent: 0,
            stamped: false,
        }
    }

    /// With replies: the server of flow `n` is the one with host number `servers[n % len]`.
    pub(crate) fn with_replies(mut self, servers: &[u8], length: usize) -> Self {
        self.replies = servers
            .iter()
            .map(|host| {
                let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 1, *host)), 80);
                Template::new(peer, Way::Reply, tcp::ACK, length).addressed(STATION)
            })
            .collect();
        self
    }

    /// With the time in each frame.
    pub(crate) fn stamped(mut self) -> Self {
        self.stamped = true;
        self
    }
}

impl Pattern for Established {
    fn next(&mut self) -> Option<usize> {
        Some(self.request.length())
    }

    fn write(&mut self, frame: &mut [u8]) {
        let flow = self.popularity.draw(&mut self.random, self.flows);
        self.sent += 1;
        if self.replies.is_empty() || self.sent.is_multiple_of(2) {
            self.request.write_to(frame, flow);
        } else {
            self.replies[flow as usize % self.replies.len()].write_to(frame, flow);
        }
    }

    fn stamped(&self) -> bool {
        self.stamped
    }
}

/// Conversations of four packets, many at a time: SYN, ACK, request, FIN.
pub(crate) struct Conversations {
    turns: [Template; 4],
    sent: u64,
}

/// Conversations that are at the same turn.
const GROUP: u64 = 256;

impl Conversations {
    /// From flow 0 on.
    pub(crate) fn new() -> Self {
        Self {
            turns: [
                request(tcp::SYN, 64),
                request(tcp::ACK, 64),
                request(tcp::ACK | tcp::PSH, 64),
                request(tcp::ACK | tcp::FIN, 64),
            ],
            sent: 0,
        }
    }
}

impl Pattern for Conversations {
    fn next(&mut self) -> Option<usize> {
        Some(self.turns[0].length())
    }

    fn write(&mut self, frame: &mut [u8]) {
        let round = self.sent / (GROUP * 4);
        let turn = self.sent / GROUP % 4;
        let flow = round * GROUP + self.sent % GROUP;
        self.turns[turn as usize].write_to(frame, (flow % u64::from(FLOWS)) as u32);
        self.sent += 1;
    }
}

/// ICMP echo requests with the time in them, for testpmd's icmpecho.
pub(crate) struct Echo(Vec<u8>);

impl Echo {
    /// Requests of `length` bytes on the wire.
    pub(crate) fn new(length: usize) -> Self {
        let client = IpAddr::V4(Ipv4Addr::new(10, 0, 9, 2));
        let frame = PacketBuilder::icmp(client, vip().ip(), 8, 0)
            .link(MacAddress([2, 0, 0, 0, 0, 9]), STATION)
            .payload(vec![0; length - 4 - 42])
            .build();
        Self(frame)
    }
}

impl Pattern for Echo {
    fn next(&mut self) -> Option<usize> {
        Some(self.0.len())
    }

    fn write(&mut self, frame: &mut [u8]) {
        frame.copy_from_slice(&self.0);
    }

    fn stamped(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_take_their_turns_in_order() {
        let mut pattern = Conversations::new();
        let mut flags = std::collections::BTreeMap::<Vec<u8>, Vec<u8>>::new();
        for _ in 0..GROUP * 8 {
            let mut frame = vec![0; pattern.next().unwrap()];
            pattern.write(&mut frame);
            // Client address and port; TCP flags.
            flags
                .entry(frame[26..36].to_vec())
                .or_default()
                .push(frame[47]);
        }
        assert_eq!(flags.len() as u64, GROUP * 2);
        let turns = [tcp::SYN, tcp::ACK, tcp::ACK | tcp::PSH, tcp::ACK | tcp::FIN];
        assert!(flags.values().all(|seen| seen == &turns), "{flags:?}");
    }

    #[test]
    fn zipf_prefers_the_first_flows_and_reaches_the_last() {
        let popularity = Popularity::zipf(1000);
        let mut random = Random::SEED;
        let mut seen = vec![0_u32; 1000];
        for _ in 0..1_000_000 {
            seen[popularity.draw(&mut random, 1000) as usize] += 1;
        }
        // ln 2 / ln 1000 and ln 10 / ln 1000.
        assert!((90_000..110_000).contains(&seen[0]), "{}", seen[0]);
        let ten: u32 = seen[..9].iter().sum();
        assert!((320_000..346_000).contains(&ten), "{ten}");
        assert!(seen[990..].iter().sum::<u32>() > 0);
    }

    #[test]
    fn opening_ends_after_two_packets_per_flow() {
        let mut pattern = Opening::new(5, 8);
        let mut frames = 0;
        while let Some(length) = pattern.next() {
            pattern.write(&mut vec![0; length]);
            frames += 1;
        }
        assert_eq!(frames, 6);
    }
}
