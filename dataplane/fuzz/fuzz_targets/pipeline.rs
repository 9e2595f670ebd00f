//! A sequence of frames through the whole pipeline with DR and NAT services.
//!
//! Run with `cargo +nightly fuzz run pipeline` in `dataplane/` (needs `cargo install cargo-fuzz`);
//! `cargo check` in `dataplane/fuzz` is enough to see that it builds.
//!
//! The input is a list of records, each begun by a control byte:
//!
//! ```text
//!   0ttt tttt                 the clock goes on by t² milliseconds
//!   10pp nnnn                 template n of the storm arrives on port p, or on its own if p = 3,
//!     page, count, (offset, byte)*   (n + 16 page, in fact) with so many bytes replaced
//!   11pp nnnn  length, bytes  so many times 8 bytes of input arrive as a frame on port p
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use storm::{Storm, templates};

#[path = "../../tests/storm/mod.rs"]
mod storm;

fuzz_target!(|input: &[u8]| {
    thread_local! {
        static TEMPLATES: Vec<(u16, Vec<u8>)> = templates();
    }
    let mut storm = Storm::new(16);
    let mut input = input.iter().copied();
    TEMPLATES.with(|templates| {
        while let Some(frame) = next(&mut input, templates, &mut storm) {
            storm.burst(&[frame]);
        }
    });
    storm.settle();
});

/// The next frame and its port; records about the clock are obeyed on the way.
fn next(
    input: &mut impl Iterator<Item = u8>,
    templates: &[(u16, Vec<u8>)],
    storm: &mut Storm,
) -> Option<(u16, Vec<u8>)> {
    loop {
        let control = input.next()?;
        let port = u16::from(control >> 4 & 3);
        match control >> 6 {
            0 | 1 => {
                storm.world.sleep(u64::from(control).pow(2));
                storm.world.pipeline.maintain(storm.world.now);
                storm.discard();
            }
            2 => {
                // Sixteen at a time are within reach; the first byte behind chooses among the rest.
                let chosen = usize::from(control & 15) + 16 * usize::from(input.next()?);
                let (own, mut frame) = templates[chosen % templates.len()].clone();
                for _ in 0..input.next()? % 16 {
                    let (offset, byte) = (usize::from(input.next()?), input.next()?);
                    if let Some(at) = frame.get_mut(offset) {
                        *at = byte;
                    }
                }
                return Some((if port == 3 { own } else { port }, frame));
            }
            _ => {
                let length = usize::from(input.next()?) * 8;
                return Some((port, input.take(length).collect()));
            }
        }
    }
}
