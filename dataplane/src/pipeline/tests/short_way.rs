//! The short way and the general one, over the same packets: nobody may be able to tell.

use super::*;
use crate::buffer::PacketBuffer;
use crate::packet::tcp::PSH;
use crate::pipeline::world::RealPlan;
use crate::verdict::Verdict;
use proptest::prelude::*;

/// What happens next in both worlds.
#[derive(Clone, Debug)]
enum Step {
    /// A packet of connection `client` (port 1024 + client).
    Packet {
        client: u16,
        reply: bool,
        flags: u8,
        ttl: u8,
        data: usize,
        padding: usize,
    },
    /// Time passes, in milliseconds.
    Sleep(u64),
    /// The first server leaves or comes back.
    List(bool),
    /// Its neighbour stops or goes on answering.
    Fail(bool),
    /// Both ports go down or up.
    Up(bool),
    /// Both ports get this MTU.
    Mtu(u16),
    /// `[timeouts] tcp` and `udp`, in milliseconds.
    Timeouts(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop::sample::select(vec![
        SYN,
        ACK,
        ACK,
        ACK,
        ACK,
        ACK | PSH,
        ACK | PSH,
        FIN | ACK,
        RST,
        RST | ACK,
        SYN | ACK,
        0,
    ]);
    let ttl = prop::sample::select(vec![64_u8, 64, 64, 2, 1, 0]);
    let data = prop::sample::select(vec![0_usize, 6, 12, 100, 700]);
    let packet = (0_u16..4, any::<bool>(), flags, ttl, data, 0_usize..3).prop_map(
        |(client, reply, flags, ttl, data, padding)| Step::Packet {
            client,
            reply,
            flags,
            ttl,
            data,
            padding,
        },
    );
    prop_oneof![
        30 => packet,
        1 => prop::sample::select(vec![1, 1000, 59_000, 61_000, 200_000, 1_000_000]).prop_map(Step::Sleep),
        1 => any::<bool>().prop_map(Step::List),
        1 => any::<bool>().prop_map(Step::Fail),
        1 => any::<bool>().prop_map(Step::Up),
        1 => prop::sample::select(vec![1500, 576]).prop_map(Step::Mtu),
        1 => prop::sample::select(vec![900_000, 5_000]).prop_map(Step::Timeouts),
    ]
}

fn take(world: &mut world::World, site: Site, step: &Step) -> Option<(Verdict, Vec<u8>)> {
    match *step {
        Step::Packet {
            client,
            reply,
            flags,
            ttl,
            data,
            padding,
        } => {
            let client = site.client(1024 + client);
            let (port, packet) = if reply {
                (site.inside(), site.between(site.real(11), client))
            } else {
                (0, site.between(client, site.vip()))
            };
            let packet = packet.link(port_mac(9), port_mac(port)).ttl(ttl);
            let packet = packet.payload(vec![7; data]).padding(padding);
            let packet = match site.protocol {
                Protocol::Udp => packet,
                _ => packet.flags(flags),
            };
            let (verdict, frame) = world.receive(port, &packet.build());
            return Some((verdict, frame.data().to_vec()));
        }
        Step::Sleep(milliseconds) => {
            world.sleep(milliseconds);
            world.expire();
        }
        Step::List(listed) => world.edit(|plan| {
            let reals = &mut plan.services[0].reals;
            let first = site.real(11);
            reals.retain(|real| real.address != first);
            if listed {
                reals.insert(0, RealPlan::new(&first.to_string()));
            }
        }),
        Step::Fail(failed) => world.edit(|plan| {
            plan.failed.clear();
            if failed {
                plan.failed.push(site.real(11).ip());
            }
        }),
        Step::Up(up) => world.edit(|plan| plan.up = [up; 2]),
        Step::Mtu(mtu) => world.edit(|plan| plan.mtu = [mtu; 2]),
        Step::Timeouts(milliseconds) => world.edit(|plan| {
            plan.timeouts.set("tcp", milliseconds);
            plan.timeouts.set("udp", milliseconds);
        }),
    }
    None
}

proptest! {
    // A case is a hundred packets in two worlds.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nobody_can_tell_the_short_way_from_the_general_one(
        site in 0_usize..4,
        udp in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let site = if udp { Site::ALL[site].udp() } else { Site::ALL[site] };
        let mut short = world::World::new(site.plan(&[11, 12]));
        let mut general = world::World::new(site.plan(&[11, 12]));
        general.pipeline.state.short_way = false;
        for step in &steps {
            let one = take(&mut short, site, step);
            let other = take(&mut general, site, step);
            prop_assert_eq!(one, other, "{:?}", step);
            prop_assert_eq!(short.movement(), general.movement(), "{:?}", step);
        }
        prop_assert_eq!(short.connections(), general.connections());
        prop_assert_eq!(short.tray.sent.len(), general.tray.sent.len());
    }
}

#[test]
fn packets_of_an_established_connection_take_the_short_way() {
    for site in Site::ALL.into_iter().chain(Site::ALL.map(Site::udp)) {
        let mut world = World::new(site.plan(&[11]));
        establish(&mut world, site, 1024);
        let request = site.request(1024).flags(ACK).payload([7; 20]);
        let reply = site.reply(11, 1024).flags(ACK).payload([7; 20]);
        let before = world.pipeline.state.general_packets;
        for _ in 0..3 {
            world.sent(0, &request, site.inside());
            if site.forward == Forward::Nat {
                world.sent(1, &reply, 0);
            }
        }
        assert_eq!(world.pipeline.state.general_packets, before, "{site:?}");
        world.movement();
    }
}
