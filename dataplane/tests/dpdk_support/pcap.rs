//! Captures in the classic libpcap format, as much of it as golden files need: little endian,
//! microseconds, Ethernet. Times are written as zero and not looked at.

use std::path::Path;

const MAGIC: u32 = 0xa1b2_c3d4;
/// The same with times in nanoseconds, as `net_pcap` writes it.
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const ETHERNET: u32 = 1;
const FILE_HEADER: usize = 24;
const SNAP_LENGTH: u32 = 65535;

/// A capture of these frames.
pub(crate) fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [MAGIC, 0x0004_0002, 0, 0, SNAP_LENGTH, ETHERNET] {
        file.extend(word.to_le_bytes());
    }
    for frame in frames {
        let length = u32::try_from(frame.len()).expect("a frame is short");
        for word in [0, 0, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// The frames of such a capture.
pub(crate) fn frames(file: &[u8]) -> Vec<Vec<u8>> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    assert!(matches!(word(0), MAGIC | MAGIC_NANOSECONDS), "no capture");
    assert_eq!(word(20), ETHERNET);
    let mut frames = Vec::new();
    let mut at = FILE_HEADER;
    while at < file.len() {
        let length = word(at + 8) as usize;
        assert_eq!(word(at + 12) as usize, length, "a frame is cut short");
        frames.push(file[at + 16..at + 16 + length].to_vec());
        at += 16 + length;
    }
    frames
}

/// The frames of the capture at `path`.
pub(crate) fn read(path: &Path) -> Vec<Vec<u8>> {
    match std::fs::read(path) {
        Ok(file) => frames(&file),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}
