//! Rings of mbufs between threads.

use dataplane::buffer::PacketBuffer;
use dataplane::dpdk::{Burst, Ring, RingError};

use dpdk_support::{eal, frames, numbers, pool};

mod dpdk_support;

const ARGS: &[&str] = &["-l", "0"];

#[test]
fn a_ring_takes_what_fits_and_leaves_the_rest_in_the_burst() {
    eal("ring", ARGS);
    let pool = pool("rest", 255);
    let (mut producer, mut consumer) = Ring::create("rest", 20).expect("ring");
    assert_eq!((producer.capacity(), consumer.capacity()), (20, 20));
    let mut burst: Burst = frames(pool, 24);
    assert_eq!(producer.enqueue_burst(&mut burst), 20);
    assert_eq!(numbers(&burst), [20, 21, 22, 23]);
    assert_eq!((producer.len(), consumer.len()), (20, 20));

    let back = producer.push(burst.pop().expect("four")).expect_err("full");
    assert_eq!(back.data()[0], 23);
    assert_eq!(consumer.pop().expect("twenty").data()[0], 0);
    producer.push(back).expect("room again");

    let mut received: Burst<64> = Burst::new();
    assert_eq!(consumer.dequeue_burst(&mut received), 20);
    assert_eq!(numbers(&received), (1..20).chain([23]).collect::<Vec<_>>());
    assert!(consumer.is_empty() && producer.is_empty());
    assert!(consumer.pop().is_none());
    drop((burst, received));
    assert!(pool.is_full());
}

#[test]
fn dropping_both_ends_frees_what_is_inside() {
    eal("ring", ARGS);
    let pool = pool("ends", 255);
    let (mut producer, consumer) = Ring::create("ends", 100).expect("ring");
    for _ in 0..3 {
        producer.enqueue_burst(&mut frames::<32>(pool, 30));
    }
    drop(consumer);
    assert_eq!(
        pool.available(),
        255 - 90,
        "the producer still has the ring"
    );
    drop(producer);
    assert!(pool.is_full());
    Ring::create("ends", 100).expect("the name is free again");
}

#[test]
fn a_name_is_used_once() {
    eal("ring", ARGS);
    let _both = Ring::create("twice", 8).expect("ring");
    let error = Ring::create("twice", 8).expect_err("in use");
    assert!(matches!(error, RingError::Create { .. }));
    assert!(error.to_string().contains("File exists"), "{error}");
    assert!(matches!(Ring::create("a\0b", 8), Err(RingError::Name(_))));
    assert!(Ring::create("a name far too long for a ring of DPDK", 8).is_err());
}

#[test]
fn mbufs_cross_threads_in_order() {
    eal("ring", ARGS);
    let pool = pool("cross", 255);
    let (mut producer, mut consumer) = Ring::create("cross", 64).expect("ring");
    let sender = std::thread::spawn(move || {
        for round in 0..200_u8 {
            let mut burst: Burst<4> = frames(pool, 4);
            burst
                .as_mut_slice()
                .iter_mut()
                .for_each(|mbuf| mbuf.data_mut()[1] = round);
            while !burst.is_empty() {
                if producer.enqueue_burst(&mut burst) == 0 {
                    std::thread::yield_now();
                }
            }
        }
    });
    let mut burst: Burst = Burst::new();
    let mut seen = 0_u32;
    while seen < 800 {
        if consumer.dequeue_burst(&mut burst) == 0 {
            std::thread::yield_now();
        }
        for mbuf in burst.drain() {
            let (number, round) = (u32::from(mbuf.data()[0]), u32::from(mbuf.data()[1]));
            assert_eq!(round * 4 + number, seen);
            seen += 1;
        }
    }
    sender.join().expect("the sender ends");
    drop(consumer);
    assert!(pool.is_full());
}
