//! Hostile traffic for the whole pipeline, shared by the million-frame test and the fuzz target.
//!
//! [`Storm`] keeps the books: every packet gets exactly one verdict, every drop and punt is
//! counted under its reason or class, and what is sent is right wherever what came was.

#![allow(
    dead_code,
    reason = "the test and the fuzz target each use their own part"
)]

use dataplane::address::Protocol;
use dataplane::buffer::{Frame, PacketBuffer};
use dataplane::packet::builder::{PacketBuilder, verify};
use dataplane::packet::tcp::{ACK, FIN, RST, SYN};
use dataplane::packet::{MacAddress, ethernet};
use dataplane::pipeline::world::{Plan, ServicePlan, World, endpoint, host_mac, port_mac};
use dataplane::pipeline::{BURST, Outcome, Pass};
use dataplane::service::{Forward, Transit};
use dataplane::verdict::{DropReason, PuntClass, Verdict, WorkerId};

/// What no pipeline of one worker ever decides: the mark of a packet without a verdict.
const NONE: Verdict = Verdict::Redirect(WorkerId(u8::MAX));

/// A pipeline under fire, and what became of every packet.
pub(crate) struct Storm {
    /// The world it happens in.
    pub(crate) world: World,
    /// Packets put in.
    pub(crate) received: u64,
    /// Sent, of those put in.
    pub(crate) sent: u64,
    /// Waiting for a neighbour when last seen.
    pub(crate) waiting: u64,
    drops: [u64; DropReason::COUNT],
    punts: [u64; PuntClass::COUNT],
    frames: Vec<Frame>,
    /// Fragments that wait for the first of their datagram, by seat.
    held: Vec<Option<Frame>>,
}

impl Storm {
    /// DR and NAT services of both families, tables that overflow, one server whose neighbour is
    /// not known and one whose has failed.
    pub(crate) fn new(connections: usize) -> Self {
        let service = |protocol, vip, forward, reals: &[&str]| {
            ServicePlan::new(protocol, vip, forward, reals)
        };
        let mut plan = Plan::new(vec![
            service(
                Protocol::Tcp,
                "10.0.1.50:80",
                Forward::Dr,
                &["10.0.1.11:80", "10.0.1.12:80"],
            ),
            service(
                Protocol::Tcp,
                "10.0.1.51:80",
                Forward::Nat,
                &["10.0.2.11:8080", "10.0.2.12:8080"],
            ),
            service(
                Protocol::Udp,
                "10.0.1.51:53",
                Forward::Nat,
                &["10.0.2.11:53", "10.0.2.13:53", "10.0.2.14:53"],
            ),
            service(
                Protocol::Tcp,
                "[fd00:1::50]:80",
                Forward::Dr,
                &["[fd00:1::11]:80"],
            ),
            service(
                Protocol::Udp,
                "[fd00:1::51]:53",
                Forward::Nat,
                &["[fd00:2::11]:5353"],
            ),
            service(Protocol::Tcp, "10.0.1.52:80", Forward::Nat, &[]),
        ]);
        plan.connections = connections;
        plan.unknown = vec!["10.0.2.13".parse().expect("an address")];
        plan.failed = vec!["10.0.2.14".parse().expect("an address")];
        plan.transit = Transit::Fast;
        let world = World::new(plan);
        Self {
            held: vec![None; world.pipeline.fragment_seats()],
            world,
            received: 0,
            sent: 0,
            waiting: 0,
            drops: [0; DropReason::COUNT],
            punts: [0; PuntClass::COUNT],
            frames: (0..BURST)
                .map(|_| Frame::with_tailroom(&[], 2048))
                .collect(),
        }
    }

    /// Puts up to [`BURST`] frames in, each with the port it arrives on.
    pub(crate) fn burst(&mut self, input: &[(u16, Vec<u8>)]) {
        let count = input.len();
        for (frame, (port, bytes)) in self.frames.iter_mut().zip(input) {
            frame.refill(bytes);
            frame.port = *port;
        }
        let mut verdicts = [NONE; BURST];
        self.world.pipeline.process(
            &mut self.frames[..count],
            &mut verdicts[..count],
            self.world.now,
            Pass::First,
            &mut self.world.tray,
        );
        self.received += count as u64;
        for (index, (_, bytes)) in input.iter().enumerate() {
            self.book(index, verdicts[index], bytes);
        }
        for verdict in &verdicts[count..] {
            assert_eq!(*verdict, NONE, "a verdict on no packet");
        }
        while let Some(seat) = self.world.pipeline.next_released() {
            let held = self.held[usize::from(seat.0)].take();
            let frame = held.expect("a fragment in a seat that is named");
            let before = frame.data().to_vec();
            let mut frames = [frame];
            let mut verdicts = [NONE];
            self.world.pipeline.process(
                &mut frames,
                &mut verdicts,
                self.world.now,
                Pass::Held,
                &mut self.world.tray,
            );
            // The place in the burst is free: everything in it was booked.
            let [mut frame] = frames;
            std::mem::swap(&mut self.frames[0], &mut frame);
            self.book(0, verdicts[0], &before);
            std::mem::swap(&mut self.frames[0], &mut frame);
        }
        self.discard();
        for (port, fragment) in self.world.tray.sent.drain(..) {
            check_sent(port.0, fragment.data());
        }
    }

    /// Frees the fragments that have waited in vain.
    pub(crate) fn discard(&mut self) {
        while let Some((seat, reason)) = self.world.pipeline.next_discarded() {
            assert!(self.held[usize::from(seat.0)].take().is_some());
            self.drops[reason as usize] += 1;
        }
    }

    /// Asserts that the counters explain every packet.
    pub(crate) fn settle(&self) {
        let counters = self.world.counters();
        let (mut drops, mut punts) = (0, 0);
        for reason in DropReason::ALL {
            let booked = self.drops[*reason as usize];
            assert_eq!(counters.dropped(*reason).value(), booked, "{reason}");
            drops += booked;
        }
        for class in PuntClass::ALL {
            punts += self.punts[*class as usize];
        }
        let held = self.held.iter().flatten().count() as u64;
        let explained = self.sent + drops + punts + self.waiting + held;
        assert_eq!(self.received, explained);
    }

    fn book(&mut self, index: usize, verdict: Verdict, before: &[u8]) {
        match verdict {
            Verdict::Tx(port) => {
                self.sent += 1;
                let frame = self.frames[index].data();
                check_sent(port.0, frame);
                if verify(before).is_ok() {
                    assert_eq!(verify(frame), Ok(()), "{before:02x?} became {frame:02x?}");
                }
            }
            Verdict::Punt(class) => {
                self.punts[class as usize] += 1;
                // As a worker does whose ring has room.
                self.world.counters().punted(class).add(1);
            }
            Verdict::Drop(reason) => self.drops[reason as usize] += 1,
            Verdict::Hold(seat) => {
                let frame = self.frames[index].clone();
                let before = self.held[usize::from(seat.0)].replace(frame);
                assert!(before.is_none(), "two fragments in {seat:?}");
            }
            Verdict::Wait(_) if index.is_multiple_of(2) => self.waiting += 1,
            Verdict::Wait(_) => {
                // Its patience ends at once.
                let mut verdicts = [NONE];
                self.world.pipeline.process(
                    &mut self.frames[index..=index],
                    &mut verdicts,
                    self.world.now,
                    Pass::Retry(Outcome::Failed),
                    &mut self.world.tray,
                );
                let [verdict] = verdicts;
                assert!(!matches!(verdict, Verdict::Wait(_)), "waits for ever");
                self.book(index, verdict, before);
            }
            Verdict::Redirect(_) => panic!("{verdict:?}"),
        }
    }
}

/// What holds for everything that is sent, whatever came in.
fn check_sent(port: u8, frame: &[u8]) {
    assert!(port < 2);
    match u16::from_be_bytes([frame[12], frame[13]]) {
        // The parser takes wrong checksums when it is fuzzed, and wrong they stay.
        ethernet::IPV4 if !cfg!(fuzzing) => {
            let header_length = usize::from(frame[14] & 15) * 4;
            let sum: u32 = frame[14..14 + header_length]
                .chunks(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum();
            let sum = (sum & 0xffff) + (sum >> 16);
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{frame:02x?}");
        }
        // A priority tag stays on.
        0x8100 | 0x88a8 | ethernet::IPV4 | ethernet::IPV6 => {}
        other => panic!("EtherType {other:#06x} sent"),
    }
}

/// Valid frames of every kind with the port they arrive on.
pub(crate) fn templates() -> Vec<(u16, Vec<u8>)> {
    let client = |port| endpoint(&format!("10.0.1.100:{port}"));
    let client6 = |port| endpoint(&format!("[fd00:1::100]:{port}"));
    let mut frames = Vec::new();
    let mut outside = |packet: PacketBuilder, from: &str| {
        let from = from.parse().expect("an address");
        frames.push((0, packet.link(host_mac(from), port_mac(0)).build()));
    };
    for (vip, sizes) in [
        ("10.0.1.50:80", [0, 100, 1460]),
        ("10.0.1.51:80", [0, 6, 4000]),
        ("10.0.1.52:80", [0, 1, 2]),
    ] {
        for (flags, size) in [SYN, ACK, FIN | ACK, RST, SYN | ACK]
            .into_iter()
            .zip(sizes.into_iter().cycle())
        {
            let segment = PacketBuilder::tcp(client(5000), endpoint(vip)).flags(flags);
            outside(segment.payload(vec![0x5a; size]), "10.0.1.100");
        }
        outside(
            PacketBuilder::tcp(client(20), endpoint(vip)).flags(SYN),
            "10.0.1.100",
        );
    }
    let dns = PacketBuilder::udp(client(5353), endpoint("10.0.1.51:53"));
    outside(dns.clone().payload("a question"), "10.0.1.100");
    outside(dns.clone().no_checksum(), "10.0.1.100");
    outside(dns.clone().ttl(1), "10.0.1.100");
    outside(dns.clone().payload([1; 3000]), "10.0.1.100");
    outside(dns.clone().payload([1; 3000]).dont_fragment(), "10.0.1.100");
    outside(dns.clone().payload([1; 64]).fragment(0, true), "10.0.1.100");
    outside(
        dns.clone().payload([1; 64]).fragment(9, false),
        "10.0.1.100",
    );
    for (offset, more) in [(1, true), (8, true), (16, false), (0, true)] {
        let piece = dns.clone().payload([3; 64]).id(77);
        outside(piece.fragment(offset, more), "10.0.1.100");
    }
    outside(
        dns.clone().ipv4_options(&[0x94, 4, 0, 0]).padding(5),
        "10.0.1.100",
    );
    outside(dns.clone().vlan(7), "10.0.1.100");
    outside(dns.vlan(0), "10.0.1.100");
    let web6 = PacketBuilder::tcp(client6(5000), endpoint("[fd00:1::50]:80"));
    outside(web6.clone().flags(SYN), "fd00:1::100");
    outside(web6.clone().payload([2; 1400]), "fd00:1::100");
    outside(web6.extension(60, &[1, 4, 0, 0, 0, 0]), "fd00:1::100");
    let dns6 = PacketBuilder::udp(client6(5353), endpoint("[fd00:1::51]:53"));
    outside(dns6.clone().payload("odd"), "fd00:1::100");
    outside(dns6.clone().ttl(1), "fd00:1::100");
    outside(dns6.payload([3; 64]).fragment(0, true), "fd00:1::100");
    let echo = |to: &str| {
        let to: std::net::IpAddr = to.parse().expect("an address");
        let (from, kind) = if to.is_ipv4() {
            (client(0).ip(), 8)
        } else {
            (client6(0).ip(), 128)
        };
        PacketBuilder::icmp(from, to, kind, 0)
    };
    for to in ["10.0.1.50", "10.0.2.11", "10.0.9.1", "203.0.113.1"] {
        outside(echo(to), "10.0.1.100");
    }
    // Errors about replies.
    for (from, to, vip) in [
        ("10.0.1.100", "10.0.1.50", "10.0.1.50:80"),
        ("10.0.1.100", "10.0.1.51", "10.0.1.51:80"),
        ("fd00:1::100", "fd00:1::50", "[fd00:1::50]:80"),
    ] {
        let (vip, receiver) = (endpoint(vip), endpoint(vip).is_ipv4());
        let client = if receiver {
            client(5000)
        } else {
            client6(5000)
        };
        let kind = if receiver { 3 } else { 1 };
        let quote = PacketBuilder::tcp(vip, client).build().split_off(14);
        let (source, target) = (from.parse().expect("one"), to.parse().expect("one"));
        let error = PacketBuilder::icmp(source, target, kind, 1);
        outside(error.clone().payload(&quote[..28.min(quote.len())]), from);
        outside(error.payload(quote), from);
    }
    outside(echo("fd00:1::50"), "fd00:1::100");
    let transit = PacketBuilder::udp(client(4000), endpoint("10.0.9.9:9"));
    outside(transit, "10.0.1.100");
    let init = PacketBuilder::sctp(client(4000), endpoint("10.0.1.50:80"));
    outside(init.payload([1, 0, 0, 4]), "10.0.1.100");
    let unreachable = PacketBuilder::icmp(client(0).ip(), client(1).ip(), 3, 3);
    outside(unreachable.payload([0x45; 28]), "10.0.1.100");
    for (real, port) in [("10.0.2.11:8080", 5000), ("10.0.2.11:53", 5353)] {
        let real = endpoint(real);
        let reply = if real.port() == 53 {
            PacketBuilder::udp(real, client(port)).payload("an answer")
        } else {
            PacketBuilder::tcp(real, client(port)).flags(SYN | ACK)
        };
        let link = (host_mac(real.ip()), port_mac(1));
        frames.push((1, reply.link(link.0, link.1).build()));
    }
    let vrrp = PacketBuilder::raw(
        client(0).ip(),
        "224.0.0.18".parse().expect("an address"),
        112,
    );
    let group = MacAddress([1, 0, 0x5e, 0, 0, 18]);
    frames.push((0, vrrp.ttl(255).link(port_mac(1), group).build()));
    let mut arp = [&[0xff; 6][..], &port_mac(9).0, &[8, 6, 0, 1, 8, 0]].concat();
    arp.resize(60, 1);
    frames.push((0, arp));
    frames
}
