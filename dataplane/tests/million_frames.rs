//! A million mutated frames through the whole pipeline: no panic, one verdict and one explanation
//! for each packet, and whoever behaved is still served afterwards.

use dataplane::address::Protocol;
use dataplane::packet::builder::PacketBuilder;
use dataplane::packet::ipv4;
use dataplane::packet::tcp::{ACK, SYN};
use dataplane::pipeline::BURST;
use dataplane::pipeline::world::{RealPlan, endpoint, host_mac, port_mac};
use dataplane::service::Orphans;
use storm::{Storm, templates};

mod storm;

const FRAMES: u64 = 1_000_000;

#[test]
fn a_million_mutated_frames_are_all_explained_and_harm_nobody() {
    let mut storm = Storm::new(4096);
    let templates = templates();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    bystander(&mut storm, SYN);
    // Past its ninth packet a connection is never evicted.
    for _ in 0..9 {
        bystander(&mut storm, ACK);
    }
    let mut input = Vec::with_capacity(BURST);
    let mut frames = 0;
    let mut bursts = 0_u64;
    while frames < FRAMES {
        input.clear();
        let size = (1 + random.below(BURST)).min((FRAMES - frames) as usize);
        for _ in 0..size {
            let (port, frame) = &templates[random.below(templates.len())];
            let mut frame = frame.clone();
            mutate(&mut frame, &mut random);
            let port = if random.below(64) == 0 {
                random.below(3) as u16
            } else {
                *port
            };
            input.push((port, frame));
        }
        storm.burst(&input);
        frames += size as u64;
        bursts += 1;
        storm.world.sleep(5);
        storm.world.pipeline.maintain(storm.world.now);
        storm.discard();
        if bursts.is_multiple_of(5000) {
            reload(&mut storm, bursts / 5000);
        }
        if bursts.is_multiple_of(1000) {
            bystander(&mut storm, ACK);
        }
    }
    storm.settle();
    bystander(&mut storm, ACK);

    for _ in 0..64 {
        storm.world.sleep(1000);
        storm.world.pipeline.maintain(storm.world.now);
        storm.discard();
    }
    // The storm reached every part: nothing below would be tested if one of these were zero.
    let moved = storm.world.movement();
    for name in [
        "connection_hits",
        "connections_created",
        "connections_expired",
        "connections_evicted",
        "icmp_time_exceeded",
        "icmp_too_big",
        "icmp_port_unreachable",
        "icmp_host_unreachable",
        "tcp_resets",
        "fragments_sent",
        "transit_forwarded",
        "punt.vrrp",
        "punt.arp",
        "punt.icmp",
        "punt.rest",
        "drop.ipv4_checksum",
        "drop.truncated",
        "drop.transport_header",
        "drop.fragment_timeout",
        "drop.fragment_duplicate",
        "fragments_held",
        "icmp_related",
        "drop.transport_checksum",
        "drop.foreign_mac",
        "drop.vlan",
    ] {
        assert!(moved.contains_key(name), "no {name} in {moved:#?}");
    }
    assert!(storm.waiting > 0);
    // Gauges come back to zero when everything has ended.
    storm.world.sleep(1_000_000);
    storm.world.expire();
    assert_eq!(storm.world.pipeline.connections(), 0);
    for (_, real) in storm.world.services().reals() {
        assert_eq!(real.shared.connections(), (0, 0), "{}", real.name);
    }
}

/// A packet of a client behind the gateway who has nothing to do with all this.
fn bystander(storm: &mut Storm, flags: u8) {
    let client = endpoint("10.0.9.200:55555");
    let gateway = host_mac("10.0.1.254".parse().unwrap());
    let packet = |to| PacketBuilder::tcp(client, to).flags(flags).payload("hello");
    let request = packet(endpoint("10.0.1.51:80")).link(gateway, port_mac(0));
    let out = storm.world.sent(0, &request, 1);
    let real = if out[33] == 11 {
        endpoint("10.0.2.11:8080")
    } else {
        endpoint("10.0.2.12:8080")
    };
    let expected = packet(real).ttl(63).link(port_mac(1), host_mac(real.ip()));
    assert_eq!(out, expected.build());
    storm.received += 1;
    storm.sent += 1;
}

/// Takes servers out and in again, what becomes of their connections by turns.
fn reload(storm: &mut Storm, turn: u64) {
    storm.world.edit(|plan| {
        plan.orphans = match turn % 4 {
            0 => Orphans::Keep,
            1 => Orphans::Reset,
            2 => Orphans::Expire,
            _ => Orphans::Reschedule,
        };
        let dr = plan.services.iter_mut().find(|service| {
            service.protocol == Protocol::Tcp && service.vip == endpoint("10.0.1.50:80")
        });
        let reals = &mut dr.expect("the DR service").reals;
        let other = if reals
            .iter()
            .any(|real| real.address.ip().to_string().ends_with("11"))
        {
            ["10.0.1.12:80", "10.0.1.13:80"]
        } else {
            ["10.0.1.11:80", "10.0.1.13:80"]
        };
        *reals = other.map(RealPlan::new).to_vec();
    });
}

/// Breaks a frame in one or more ways; one in eight stays as it is.
fn mutate(frame: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(3) {
        match random.below(9) {
            // Bit flips, anywhere or in the headers.
            0 => flip(frame, usize::MAX, random),
            1 => flip(frame, 54, random),
            // Truncation to nothing at all, or growth to a jumbo frame.
            2 => frame.truncate(random.below(frame.len() + 1)),
            3 => frame.resize(frame.len() + random.below(9000), 0xee),
            // Length fields of IP and transport.
            4 => put(frame, [16, 18, 38, 46][random.below(4)], random),
            // Random bytes over a stretch.
            5 => {
                let start = random.below(frame.len() + 1);
                let end = (start + random.below(16)).min(frame.len());
                for byte in &mut frame[start..end] {
                    *byte = random.next() as u8;
                }
            }
            // Spoofed source, and other ports, with checksums as a router would leave them.
            6 => {
                put(frame, 28, random);
                correct(frame);
            }
            7 => put(frame, 34, random),
            // Every flag combination and fragment field.
            _ => {
                put(frame, [20, 46][random.below(2)], random);
                correct(frame);
            }
        }
        if random.below(2) == 0 {
            correct(frame);
        }
    }
}

fn flip(frame: &mut [u8], within: usize, random: &mut Random) {
    let within = within.min(frame.len());
    if within > 0 {
        frame[random.below(within)] ^= 1 << random.below(8);
    }
}

fn put(frame: &mut [u8], at: usize, random: &mut Random) {
    if let Some(bytes) = frame.get_mut(at..at + 2) {
        bytes.copy_from_slice(&(random.next() as u16).to_be_bytes());
    }
}

/// Makes the IPv4 header checksum right again, so that the damage gets past it.
fn correct(frame: &mut [u8]) {
    if frame.get(12..14) == Some(&[8, 0])
        && let Some(header) = frame.get_mut(14..34)
    {
        ipv4::fill_checksum(header);
    }
}

/// xorshift64*: the same million frames every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}
