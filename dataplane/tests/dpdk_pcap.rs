//! A capture in, a capture out: golden files run through the real receive and transmit path of `net_pcap`.

use std::fs;

use dataplane::buffer::PacketBuffer;
use dataplane::dpdk::{Burst, Port, PortConfig};

use dpdk_support::{eal, pcap, pool};

mod dpdk_support;

#[test]
fn a_capture_is_received_rewritten_and_written_again() {
    eal("pcap", &["-l", "0"]);
    let pool = pool("pcap", 255);
    let directory = std::env::temp_dir().join(format!("sluice-pcap-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("temporary directory");
    let (input, output) = (directory.join("in.pcap"), directory.join("out.pcap"));
    let frames: Vec<Vec<u8>> = (0..70_u8).map(|i| vec![i; 60 + usize::from(i)]).collect();
    fs::write(&input, pcap::capture(&frames)).expect("input");

    let device = format!(
        "net_pcap0,rx_pcap={},tx_pcap={}",
        input.display(),
        output.display()
    );
    let port = Port::open(&device).expect("device");
    let (port, mut queues) = port.start(&PortConfig::new(pool)).expect("starts");
    let mut pair = queues.remove(0);
    let (rx, tx) = (pair.rx.as_mut().expect("rx"), pair.tx.as_mut().expect("tx"));
    let mut burst: Burst = Burst::new();
    while rx.rx(&mut burst) > 0 {
        for mbuf in burst.as_mut_slice() {
            // Into a 4-byte longer frame and back at the other end: both edges move.
            assert!(mbuf.prepend(4));
            mbuf.data_mut()[..4].copy_from_slice(b"slce");
            mbuf.truncate(mbuf.len() - 1);
        }
        while !burst.is_empty() {
            assert!(tx.tx(&mut burst) > 0, "a file takes all");
        }
    }
    drop(pair);
    port.stop().expect("stops").close().expect("closes");

    let written = pcap::read(&output);
    let expected: Vec<Vec<u8>> = frames
        .iter()
        .map(|frame| [b"slce", &frame[1..]].concat())
        .collect();
    fs::remove_dir_all(&directory).expect("cleaned up");
    assert_eq!(written, expected);
    assert!(pool.is_full());
}
