//! Captures as files: the classic pcap format, microseconds, Ethernet.

use dataplane::connection::Millis;

const MAGIC: u32 = 0xa1b2_c3d4;
const ETHERNET: u32 = 1;
const SNAP: u32 = 65535;

/// The file with these frames, each with its time.
pub(crate) fn write<'a>(frames: impl Iterator<Item = (Millis, &'a [u8])>) -> Vec<u8> {
    let mut file = Vec::new();
    let words = |file: &mut Vec<u8>, words: &[u32]| {
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    words(&mut file, &[MAGIC, 4 << 16 | 2, 0, 0, SNAP, ETHERNET]);
    for (time, frame) in frames {
        let length = frame.len() as u32;
        let (seconds, rest) = (time.0 / 1000, time.0 % 1000);
        let header = [seconds as u32, rest as u32 * 1000, length, length];
        words(&mut file, &header);
        file.extend(frame);
    }
    file
}

/// The frames of a file; `None` if it is cut or of another kind.
pub(crate) fn read(file: &[u8]) -> Option<Vec<Vec<u8>>> {
    let word = |at: usize| {
        let bytes = file.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if word(0)? != MAGIC || word(20)? != ETHERNET {
        return None;
    }
    let mut frames = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let length = word(at + 8)? as usize;
        frames.push(file.get(at + 16..at + 16 + length)?.to_vec());
        at += 16 + length;
    }
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_a_cut_file_is_not() {
        let frames: [&[u8]; 2] = [b"a frame", b""];
        let file = write(frames.iter().map(|frame| (Millis(1_234_567), *frame)));
        assert_eq!(read(&file), Some(frames.map(<[u8]>::to_vec).to_vec()));
        assert_eq!(read(&file[..file.len() - 1]), None);
        assert_eq!(read(&[]), None);
    }
}
