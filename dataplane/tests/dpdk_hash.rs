//! DPDK's hash table behind its safe interface.

use dataplane::dpdk::{Hash, HashError, HashKey};

use dpdk_support::eal;

mod dpdk_support;

fn key(number: u32) -> HashKey {
    [number, 0, number ^ 7, 6]
}

#[test]
fn it_finds_exactly_what_is_in_it() {
    eal("hash", &["-l", "0"]);
    let mut hash = Hash::create("exactly", 1000).expect("memory");
    for number in 0..1000 {
        let done = hash.insert(&key(number), 3 * number as usize);
        done.expect("room");
    }
    assert!(hash.remove(&key(17)) && !hash.remove(&key(17)));
    hash.insert(&key(18), 5).expect("a key that is there");
    let keys: [HashKey; Hash::BURST] = std::array::from_fn(|i| key(i as u32));
    let mut values = [usize::MAX; Hash::BURST];
    let hits = hash.lookup(keys.each_ref(), &mut values);
    assert_eq!(hits, !(1 << 17) & u64::from(u32::MAX));
    for (number, value) in values.into_iter().enumerate() {
        match number {
            17 => {}
            18 => assert_eq!(value, 5),
            _ => assert_eq!(value, 3 * number),
        }
    }
}

#[test]
fn a_name_and_its_memory_are_free_once_the_table_is_dropped() {
    eal("hash", &["-l", "0"]);
    for _ in 0..3 {
        let first = Hash::create("again", 100_000).expect("memory");
        let error = Hash::create("again", 100_000).expect_err("the name is in use");
        assert!(matches!(error, HashError::Create(_)), "{error}");
        drop(first);
    }
}
