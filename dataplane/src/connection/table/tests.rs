use super::*;
use crate::address::{Endpoint, Protocol};
use crate::connection::{Binding, INITIAL_TIMEOUT, TableMemory};
use crate::service::{Forward, RealId, ServiceId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;
/// Milliseconds a timer may be late: one tick of the wheel.
const LATE: u64 = 256;

type Table4 = Table<Ipv4Addr>;

/// Flow `n`: its own client port, VIP 10.0.1.50:80, server 10.0.2.(11 + n mod 3).
fn flow(n: u32, protocol: Protocol, forward: Forward) -> Binding<Ipv4Addr> {
    let client = Endpoint::new(
        Ipv4Addr::from_bits(0x0a00_0164 + (n >> 14)),
        1024 + (n & 0x3fff) as u16,
    );
    Binding {
        protocol,
        client,
        vip: Endpoint::new(Ipv4Addr::new(10, 0, 1, 50), 80),
        local: client,
        destination: Endpoint::new(Ipv4Addr::new(10, 0, 2, 11 + (n % 3) as u8), 8080),
        real: RealId(n % 3),
        service: ServiceId(0),
        forward,
    }
}

fn tcp(n: u32) -> Binding<Ipv4Addr> {
    flow(n, Protocol::Tcp, Forward::Dr)
}

fn add(table: &mut Table4, binding: Binding<Ipv4Addr>, now: u64) -> Slot {
    let now = Millis(now);
    table.insert(Connection::new(binding, now), now).unwrap()
}

fn send(table: &mut Table4, slot: Slot, flags: u8, now: u64) {
    let signal = match table.get(slot).binding().protocol {
        Protocol::Udp => Signal::Udp,
        Protocol::Tcp | Protocol::Sctp => Signal::Tcp(flags),
    };
    let _ = table.on_packet(
        slot,
        Direction::Input,
        signal,
        Millis(now),
        &Timeouts::default(),
        TcpTable::Normal,
    );
}

/// Adds a connection and sends it segments with these flags.
fn open(table: &mut Table4, n: u32, flags: &[u8], now: u64) -> Slot {
    let slot = add(table, tcp(n), now);
    for flags in flags {
        send(table, slot, *flags, now);
    }
    slot
}

fn expire_all(table: &mut Table4, now: u64) -> Vec<Binding<Ipv4Addr>> {
    let mut expired = Vec::new();
    while table.expire(Millis(now), 64, |connection| {
        expired.push(*connection.binding());
    }) == 64
    {}
    expired
}

#[test]
fn an_ipv4_connection_costs_less_than_a_hundred_bytes() {
    assert!(size_of::<Connection<Ipv4Addr>>() <= 56);
    assert_eq!(size_of::<Line<Ipv4Addr>>(), 64);
    assert_eq!(size_of::<Line<Ipv6Addr>>(), 128);
    let table = Table4::new(100_000, TableMemory::default());
    assert!(table.bytes() / table.capacity() < 100, "{}", table.bytes());
}

#[test]
fn nat_is_found_both_ways_and_dr_only_from_the_client() {
    let mut table = Table4::new(4, TableMemory::default());
    let nat = flow(1, Protocol::Tcp, Forward::Nat);
    let dr = flow(2, Protocol::Tcp, Forward::Dr);
    let nat_slot = add(&mut table, nat, 0);
    let dr_slot = add(&mut table, dr, 0);
    assert_eq!(table.lookup(&nat.key()), Some((nat_slot, Direction::Input)));
    let reply = nat.reply_key().unwrap();
    assert_eq!(table.lookup(&reply), Some((nat_slot, Direction::Output)));
    assert_eq!(table.lookup(&dr.key()), Some((dr_slot, Direction::Input)));
    let reply = FiveTuple {
        source: dr.destination,
        destination: dr.client,
        ..dr.key()
    };
    assert_eq!(table.lookup(&reply), None);
    let udp = FiveTuple {
        protocol: Protocol::Udp,
        ..nat.key()
    };
    assert_eq!(table.lookup(&udp), None);
    table.remove(nat_slot);
    assert_eq!(table.lookup(&nat.key()), None);
    assert_eq!(table.lookup(&nat.reply_key().unwrap()), None);
}

#[test]
fn the_other_family_runs_the_same_code() {
    let mut table = Table::<Ipv6Addr>::new(2, TableMemory::default());
    let client = Endpoint::new("2001:db8::1".parse::<Ipv6Addr>().unwrap(), 4000);
    let binding = Binding {
        protocol: Protocol::Udp,
        client,
        vip: Endpoint::new("2001:db8::50".parse().unwrap(), 53),
        local: Endpoint::new("2001:db8::99".parse().unwrap(), 5000),
        destination: Endpoint::new("2001:db8:1::1".parse().unwrap(), 53),
        real: RealId(0),
        service: ServiceId(0),
        forward: Forward::FullNat,
    };
    let slot = table
        .insert(Connection::new(binding, Millis(0)), Millis(0))
        .unwrap();
    let reply = FiveTuple {
        protocol: Protocol::Udp,
        source: binding.destination,
        destination: binding.local,
    };
    assert_eq!(table.lookup(&binding.key()), Some((slot, Direction::Input)));
    assert_eq!(table.lookup(&reply), Some((slot, Direction::Output)));
}

#[test]
fn a_reply_key_that_is_taken_is_named_with_its_holder() {
    let mut table = Table4::new(8, TableMemory::default());
    let first = flow(1, Protocol::Tcp, Forward::Nat);
    let slot = add(&mut table, first, 0);
    let insert =
        |table: &mut Table4, binding| table.insert(Connection::new(binding, Millis(0)), Millis(0));
    // Another VIP, same client port, same server: the reply could be either's.
    let other_vip = Binding {
        vip: Endpoint::new(Ipv4Addr::new(10, 0, 1, 51), 80),
        ..first
    };
    assert_eq!(
        insert(&mut table, other_vip),
        Err(InsertError::ReplyKeyInUse(slot))
    );
    let another_server = Binding {
        destination: Endpoint::new(Ipv4Addr::new(10, 0, 2, 99), 8080),
        ..other_vip
    };
    assert!(insert(&mut table, another_server).is_ok());
    // Under DR nothing comes back, so nothing is ambiguous.
    let direct = Binding {
        vip: Endpoint::new(Ipv4Addr::new(10, 0, 1, 52), 80),
        forward: Forward::Dr,
        ..first
    };
    assert!(insert(&mut table, direct).is_ok());
    // A client that sends what looks like a server's reply.
    let impostor = Binding {
        client: first.destination,
        vip: first.client,
        ..direct
    };
    let found = table.lookup(&impostor.key());
    assert_eq!(found, Some((slot, Direction::Output)));
    assert_eq!(table.len(), 3);
}

#[test]
fn a_connection_to_oneself_does_not_take_its_own_key_for_its_reply() {
    let mut table = Table4::new(2, TableMemory::default());
    let binding = flow(1, Protocol::Tcp, Forward::Nat);
    let looped = Binding {
        vip: binding.client,
        destination: binding.client,
        ..binding
    };
    let slot = add(&mut table, looped, 0);
    assert!(table.lookup(&looped.key()).is_some());
    table.remove(slot);
    assert_eq!(table.lookup(&looped.key()), None);
}

#[test]
fn a_full_table_refuses_and_takes_again_after_a_removal() {
    let mut table = Table4::new(2, TableMemory::default());
    let slot = add(&mut table, tcp(0), 0);
    add(&mut table, tcp(1), 0);
    let third = Connection::new(tcp(2), Millis(0));
    assert_eq!(table.insert(third, Millis(0)), Err(InsertError::Full));
    assert_eq!(*table.remove(slot).binding(), tcp(0));
    assert!(table.insert(third, Millis(0)).is_ok());
}

#[test]
fn a_table_without_room_is_still_a_table() {
    let mut table = Table4::new(0, TableMemory::default());
    let connection = Connection::new(tcp(0), Millis(0));
    assert_eq!(table.insert(connection, Millis(0)), Err(InsertError::Full));
    assert_eq!(table.lookup(&tcp(0).key()), None);
    assert!(table.evict_one(Millis(0)).is_none());
    assert_eq!(table.scan(0, 64, |_, _| ()), None);
}

#[test]
fn a_hundred_thousand_connections_all_expire_on_time() {
    let mut table = Table4::new(100_000, TableMemory::default());
    for n in 0..100_000 {
        open(&mut table, n, &[SYN], u64::from(n) / 100);
    }
    assert_eq!(table.len(), 100_000);
    // The last one was seen at 999 ms and has 60 s.
    let mut count = 0;
    for now in (0..61_000 + LATE).step_by(250) {
        loop {
            let looked_at = table.expire(Millis(now), 64, |connection| {
                assert!(connection.is_expired(Millis(now)));
                count += 1;
            });
            if looked_at < 64 {
                break;
            }
        }
    }
    assert_eq!(count, 100_000);
    assert!(table.is_empty());
    assert!((0..100_000).all(|n| table.lookup(&tcp(n).key()).is_none()));
}

#[test]
fn expiry_looks_at_no_more_than_its_budget_and_loses_none() {
    let mut table = Table4::new(1000, TableMemory::default());
    for n in 0..1000 {
        add(&mut table, tcp(n), 0);
    }
    let now = Millis(1_000_000_000);
    let mut rounds = 0;
    let mut total = 0;
    while !table.is_empty() {
        let mut expired = 0;
        assert!(table.expire(now, 64, |_| expired += 1) <= 64);
        assert!(expired <= 64);
        total += expired;
        rounds += 1;
    }
    assert_eq!((total, rounds), (1000, 16));
}

#[test]
fn a_hit_postpones_expiry_and_a_shorter_timeout_brings_it_forward() {
    let mut table = Table4::new(2, TableMemory::default());
    let slot = open(&mut table, 0, &[SYN, ACK], 0);
    send(&mut table, slot, ACK, 800_000);
    assert!(expire_all(&mut table, 1_699_999).is_empty());
    // RST: ten seconds from now on, long before the armed tick.
    send(&mut table, slot, 4, 1_699_999);
    assert!(expire_all(&mut table, 1_709_998).is_empty());
    assert_eq!(expire_all(&mut table, 1_709_999 + LATE), [tcp(0)]);
}

#[test]
fn a_timeout_may_be_set_from_outside() {
    let mut table = Table4::new(1, TableMemory::default());
    let slot = open(&mut table, 0, &[SYN, ACK], 0);
    table.set_timeout(slot, 1000, Millis(500));
    assert!(expire_all(&mut table, 1499).is_empty());
    assert_eq!(expire_all(&mut table, 1500 + LATE).len(), 1);
}

#[test]
fn connections_longer_than_a_turn_of_the_wheel_and_the_clock_expire_once() {
    let mut table = Table4::new(1, TableMemory::default());
    let start = u64::from(u32::MAX) - 1_000_000;
    let slot = open(&mut table, 0, &[SYN, ACK], start);
    table.set_timeout(slot, Timeouts::MAX, Millis(start));
    let due = start + u64::from(Timeouts::MAX);
    let mut now = start;
    while now < due {
        assert!(expire_all(&mut table, now).is_empty());
        now += 500_000;
    }
    assert_eq!(expire_all(&mut table, due + LATE).len(), 1);
}

#[test]
fn victims_go_in_the_order_of_the_design() {
    let mut table = Table4::new(8, TableMemory::default());
    open(&mut table, 0, &[SYN, ACK], 0);
    open(&mut table, 1, &[SYN, ACK, FIN], 0);
    open(&mut table, 2, &[SYN], 30_000);
    let udp = add(&mut table, flow(3, Protocol::Udp, Forward::Dr), 30_001);
    send(&mut table, udp, 0, 30_001);
    // Talkative: never.
    open(
        &mut table,
        4,
        &[SYN, ACK, ACK, ACK, ACK, ACK, ACK, ACK, ACK],
        0,
    );
    // UDP with two packets: never.
    let udp = add(&mut table, flow(5, Protocol::Udp, Forward::Dr), 0);
    send(&mut table, udp, 0, 0);
    send(&mut table, udp, 0, 0);
    // Not idle for long enough.
    open(&mut table, 6, &[SYN, ACK], 30_000);
    // Expired: its three seconds are over.
    add(&mut table, tcp(7), 56_000);
    let mut order = Vec::new();
    while let Some(evicted) = table.evict_one(Millis(60_001)) {
        order.push((evicted.connection.binding().client.port - 1024, evicted.why));
    }
    assert_eq!(
        order,
        [
            (7, Eviction::Expired),
            (2, Eviction::Embryonic),
            (3, Eviction::Embryonic),
            (1, Eviction::Closing),
            (0, Eviction::Idle),
        ]
    );
    assert_eq!(table.len(), 3);
}

#[test]
fn few_handshakes_outlive_closing_connections_and_many_do_not() {
    let victims = |half_open: u32, closing: u32| {
        let mut table = Table4::new(64, TableMemory::default());
        for n in 0..half_open {
            open(&mut table, n, &[SYN], 0);
        }
        for n in 0..closing {
            open(&mut table, half_open + n, &[SYN, ACK, FIN], 0);
        }
        let victims = std::iter::from_fn(|| table.evict_one(Millis(500)));
        victims.map(|evicted| evicted.why).collect::<Vec<_>>()
    };
    let (embryonic, closing) = (Eviction::Embryonic, Eviction::Closing);
    assert_eq!(victims(1, 16)[0], closing);
    assert_eq!(victims(2, 24)[0], closing);
    assert_eq!(victims(3, 24)[0], embryonic);
    assert_eq!(victims(1, 7)[0], embryonic);
    assert_eq!(victims(2, 24).len(), 26);
    // A flood: of 24 closing connections at most those go that make it no eighth.
    let flooded = victims(30, 24);
    assert_eq!(flooded[..28], [embryonic; 28]);
}

#[test]
fn the_ninth_client_packet_protects_and_an_idle_minute_is_exclusive() {
    let mut table = Table4::new(1, TableMemory::default());
    let eight = [SYN, ACK, ACK, ACK, ACK, ACK, ACK, ACK];
    let slot = open(&mut table, 0, &eight, 0);
    assert!(table.evict_one(Millis(60_000)).is_none());
    send(&mut table, slot, ACK, 0);
    assert!(table.evict_one(Millis(60_001)).is_none());
    table.remove(slot);
    open(&mut table, 0, &eight, 0);
    assert!(table.evict_one(Millis(60_001)).is_some());
}

#[test]
fn idle_connections_behind_busy_ones_are_reached_in_a_few_calls() {
    let mut table = Table4::new(40, TableMemory::default());
    for n in 0..33 {
        open(&mut table, n, &[SYN, ACK], 0);
    }
    for n in 0..32 {
        let (slot, _) = table.lookup(&tcp(n).key()).unwrap();
        send(&mut table, slot, ACK, 50_000);
    }
    let attempts = (1..10).find(|_| table.evict_one(Millis(70_000)).is_some());
    assert_eq!(attempts, Some(5));
    assert_eq!(table.len(), 32);
}

#[test]
fn a_listing_in_steps_shows_every_connection_once() {
    let mut table = Table4::new(100, TableMemory::default());
    let slots: Vec<_> = (0..100).map(|n| add(&mut table, tcp(n), 0)).collect();
    for slot in slots.iter().step_by(3) {
        table.remove(*slot);
    }
    let mut shown = BTreeSet::new();
    let mut cursor = Some(0);
    while let Some(from) = cursor {
        cursor = table.scan(from, 7, |slot, connection| {
            assert_eq!(table.get(slot), connection);
            assert!(shown.insert(slot));
        });
    }
    assert_eq!(shown.len(), table.len());
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, bool),
    Packet(u32, u8),
    Reply(u32, u8),
    Remove(u32),
    Expire(usize),
    Evict,
    Wait(u64),
    SetTimeout(u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0u32..24;
    let flags = prop::sample::select(vec![0u8, FIN, SYN, 4, ACK, SYN | ACK, FIN | ACK]);
    prop_oneof![
        6 => (n.clone(), any::<bool>()).prop_map(|(n, nat)| Step::Insert(n, nat)),
        8 => (n.clone(), flags.clone()).prop_map(|(n, flags)| Step::Packet(n, flags)),
        4 => (n.clone(), flags).prop_map(|(n, flags)| Step::Reply(n, flags)),
        2 => n.clone().prop_map(Step::Remove),
        4 => (0usize..8).prop_map(Step::Expire),
        2 => Just(Step::Evict),
        3 => prop_oneof![0u64..1000, 0u64..100_000, 0u64..5_000_000_000].prop_map(Step::Wait),
        1 => (n, 0u32..2_000_000).prop_map(|(n, timeout)| Step::SetTimeout(n, timeout)),
    ]
}

/// Odd flows are UDP.
fn model_flow(n: u32, nat: bool) -> Binding<Ipv4Addr> {
    let protocol = if n.is_multiple_of(2) {
        Protocol::Tcp
    } else {
        Protocol::Udp
    };
    flow(n, protocol, if nat { Forward::Nat } else { Forward::Dr })
}

/// The class of a connection, from the rules as the design words them.
fn may_go(connection: &Connection<Ipv4Addr>, now: Millis) -> Option<Eviction> {
    let packets = connection.client_packets();
    match connection.state().name() {
        "NONE" | "SYN_SENT" | "SYN_RECV" | "SYNACK" => Some(Eviction::Embryonic),
        "UDP" if packets <= 1 => Some(Eviction::Embryonic),
        "FIN_WAIT" | "TIME_WAIT" | "CLOSE" | "CLOSE_WAIT" | "LAST_ACK" => Some(Eviction::Closing),
        "ESTABLISHED" if packets <= 8 && connection.idle(now) > 60_000 => Some(Eviction::Idle),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn it_behaves_like_a_map_with_deadlines(steps in prop::collection::vec(step(), 1..150)) {
        const CAPACITY: usize = 12;
        let mut table = Table4::new(CAPACITY, TableMemory::default());
        let mut model: BTreeMap<u32, (Connection<Ipv4Addr>, u64)> = BTreeMap::new();
        let mut now = 5u64;
        for step in steps {
            let clock = Millis(now);
            let id = |binding: &Binding<Ipv4Addr>| u32::from(binding.client.port) - 1024;
            match step {
                Step::Insert(n, nat) => {
                    let connection = Connection::new(model_flow(n, nat), clock);
                    if model.contains_key(&n) {
                        prop_assert!(table.lookup(&connection.key()).is_some());
                        continue;
                    }
                    let inserted = table.insert(connection, clock);
                    if model.len() == CAPACITY {
                        prop_assert_eq!(inserted, Err(InsertError::Full));
                    } else {
                        prop_assert!(inserted.is_ok());
                        model.insert(n, (connection, now + u64::from(INITIAL_TIMEOUT)));
                    }
                }
                Step::Packet(n, flags) | Step::Reply(n, flags) => {
                    let Some((connection, due)) = model.get_mut(&n) else { continue };
                    let reply = matches!(step, Step::Reply(..));
                    let (tuple, direction) = match (reply, connection.reply_key()) {
                        (false, _) => (connection.key(), Direction::Input),
                        (true, Some(key)) => (key, Direction::Output),
                        (true, None) => continue,
                    };
                    let (slot, found) = table.lookup(&tuple).unwrap();
                    prop_assert_eq!(found, direction);
                    let signal = if n.is_multiple_of(2) { Signal::Tcp(flags) } else { Signal::Udp };
                    let timeouts = Timeouts::default();
                    let mode = TcpTable::Normal;
                    let one = table.on_packet(slot, direction, signal, clock, &timeouts, mode);
                    let two = connection.on_packet(direction, signal, clock, &timeouts, mode);
                    prop_assert_eq!(one, two);
                    *due = now + u64::from(connection.timeout());
                }
                Step::SetTimeout(n, timeout) => {
                    let Some((connection, due)) = model.get_mut(&n) else { continue };
                    let (slot, _) = table.lookup(&connection.key()).unwrap();
                    table.set_timeout(slot, timeout, clock);
                    *connection = *table.get(slot);
                    *due = now + u64::from(timeout);
                }
                Step::Remove(n) => {
                    let slot = table.lookup(&model_flow(n, false).key());
                    prop_assert_eq!(slot.is_some(), model.contains_key(&n));
                    if let Some((slot, _)) = slot {
                        let (connection, _) = model.remove(&n).unwrap();
                        prop_assert_eq!(table.remove(slot), connection);
                    }
                }
                Step::Expire(budget) => {
                    let mut expired = Vec::new();
                    let looked_at = table.expire(clock, budget, |c| expired.push(c));
                    prop_assert!(expired.len() <= looked_at && looked_at <= budget);
                    for connection in expired {
                        let (held, due) = model.remove(&id(connection.binding())).unwrap();
                        prop_assert_eq!(held, connection);
                        prop_assert!(due <= now, "early");
                    }
                    if looked_at < budget {
                        for (_, due) in model.values() {
                            prop_assert!(*due + LATE > now, "late");
                        }
                    }
                }
                Step::Evict => {
                    let evicted = table.evict_one(clock);
                    if let Some(Evicted { connection, why }) = evicted {
                        let (held, due) = model.remove(&id(connection.binding())).unwrap();
                        prop_assert_eq!(held, connection);
                        if why == Eviction::Expired {
                            prop_assert!(due <= now);
                        } else {
                            prop_assert_eq!(may_go(&connection, clock), Some(why));
                        }
                        // Nothing that should have gone first is left.
                        let left: Vec<_> = model.values().map(|(other, _)| other).collect();
                        let any = |why| left.iter().any(|other| may_go(other, clock) == Some(why));
                        let count = |why| {
                            let class = |other: &&&Connection<_>| may_go(other, clock) == Some(why);
                            left.iter().filter(class).count()
                        };
                        match why {
                            Eviction::Expired => {}
                            Eviction::Embryonic => {
                                prop_assert!(count(Eviction::Embryonic) + 1 >= count(Eviction::Closing) / 8);
                            }
                            Eviction::Closing => {
                                let half_open = count(Eviction::Embryonic);
                                let closing = count(Eviction::Closing) + 1;
                                prop_assert!(half_open == 0 || half_open < closing / 8);
                            }
                            Eviction::Idle => prop_assert!(
                                !any(Eviction::Embryonic) && !any(Eviction::Closing)
                            ),
                        }
                    } else {
                        for (other, _) in model.values() {
                            let left = may_go(other, clock);
                            prop_assert!(matches!(left, None | Some(Eviction::Idle)));
                        }
                    }
                }
                // Workers look at the timers in every loop. Half the range of the entries' 32-bit
                // clock without a look is far more than they ever sleep, and the most they may.
                Step::Wait(mut milliseconds) => while milliseconds > 0 {
                    let leap = milliseconds.min(1_000_000_000);
                    now += leap;
                    milliseconds -= leap;
                    if leap < 1_000_000_000 {
                        continue;
                    }
                    for connection in expire_all(&mut table, now) {
                        let n = u32::from(connection.client.port) - 1024;
                        let (_, due) = model.remove(&n).unwrap();
                        prop_assert!(due <= now, "early");
                    }
                },
            }
            prop_assert_eq!(table.len(), model.len());
            for n in 0..24 {
                let found = table.lookup(&model_flow(n, false).key());
                prop_assert_eq!(found.is_some(), model.contains_key(&n));
                if let Some((slot, _)) = found {
                    prop_assert_eq!(table.get(slot), &model[&n].0);
                }
            }
        }
        // Whatever is left expires, once.
        let due = expire_all(&mut table, now).len();
        prop_assert!(due <= model.len());
        let left = model.len() - due;
        let end = now + u64::from(Timeouts::MAX);
        prop_assert_eq!(expire_all(&mut table, end).len(), left);
        prop_assert!(table.is_empty());
        prop_assert_eq!(table.queues.first(Class::Embryonic as u32), None);
        prop_assert_eq!(table.queues.first(Class::Young as u32), None);
    }
}

proptest! {
    #[test]
    fn a_tuple_belongs_to_one_connection_or_none(
        steps in prop::collection::vec((any::<bool>(), 0u8..3, 0u8..3, 0u8..3, any::<bool>()), 0..80),
    ) {
        // Few endpoints, each of which may be client, VIP and server at once.
        let endpoint = |n: u8| Endpoint::new(Ipv4Addr::new(10, 0, 0, n), 80);
        let mut table = Table4::new(64, TableMemory::default());
        let mut model: Vec<(Slot, Binding<Ipv4Addr>)> = Vec::new();
        for (insert, client, vip, server, nat) in steps {
            let binding = Binding {
                client: endpoint(client),
                local: endpoint(client),
                vip: endpoint(vip),
                destination: endpoint(server),
                ..flow(0, Protocol::Tcp, if nat { Forward::Nat } else { Forward::Dr })
            };
            let holder = |tuple: FiveTuple<Ipv4Addr>| {
                model
                    .iter()
                    .find(|(_, b)| b.key() == tuple || b.reply_key() == Some(tuple))
                    .map(|(slot, _)| *slot)
            };
            if insert {
                if let Some(slot) = holder(binding.key()) {
                    let found = table.lookup(&binding.key());
                    prop_assert_eq!(found.map(|(slot, _)| slot), Some(slot));
                    continue;
                }
                let inserted = table.insert(Connection::new(binding, Millis(0)), Millis(0));
                match binding.reply_key().and_then(holder) {
                    Some(slot) => {
                        prop_assert_eq!(inserted, Err(InsertError::ReplyKeyInUse(slot)));
                    }
                    None => model.push((inserted.unwrap(), binding)),
                }
            } else if let Some(at) = model.iter().position(|(_, b)| b.key() == binding.key()) {
                let (slot, binding) = model.swap_remove(at);
                prop_assert_eq!(*table.remove(slot).binding(), binding);
            }
            prop_assert_eq!(table.len(), model.len());
            for (slot, binding) in &model {
                prop_assert_eq!(table.lookup(&binding.key()), Some((*slot, Direction::Input)));
                // A connection whose two keys are one tuple is found as the client's.
                let reply = binding.reply_key().filter(|key| *key != binding.key());
                if let Some(reply) = reply {
                    prop_assert_eq!(table.lookup(&reply), Some((*slot, Direction::Output)));
                }
            }
        }
    }
}
