//! How sequence numbers move when bytes of a TCP stream are replaced by others of another length.
//!
//! One replacement is in the making or may still have to be repeated; all before it are summed up
//! in one offset. The first replaced byte stands for the whole new text, the others for nothing,
//! so that a replacement can begin before its end is known, and every segment of it, sent again
//! in whatever cut, gives the same bytes at the same numbers. A new replacement may begin once the
//! receiver has acknowledged the one before.

use arrayvec::ArrayString;

/// Longest new text in bytes: an IPv4 address in decimal.
pub const LONGEST_TEXT: usize = 15;

/// The sender's numbers and the receiver's.
#[derive(Clone, Debug, Default)]
pub struct Shift {
    /// Receiver's number minus sender's, before the replacement.
    offset: u32,
    replaced: Option<Replaced>,
    /// The sender's number up to which the receiver has everything.
    acknowledged: u32,
}

#[derive(Clone, Debug)]
struct Replaced {
    /// The sender's number of the first byte replaced.
    start: u32,
    /// How many bytes are replaced so far.
    length: u32,
    text: ArrayString<LONGEST_TEXT>,
}

impl Replaced {
    fn text_length(&self) -> u32 {
        self.text.len() as u32
    }
}

/// What to change in the payload of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Change<'a> {
    /// Where in the payload.
    pub offset: usize,
    /// How many bytes to take out there.
    pub remove: usize,
    /// What to put there instead.
    pub insert: &'a str,
}

impl Shift {
    /// True while all numbers are the same on both sides.
    pub fn is_none(&self) -> bool {
        self.offset == 0 && self.replaced.is_none()
    }

    /// The receiver's number for the sender's.
    pub fn sequence(&self, sent: u32) -> u32 {
        let base = sent.wrapping_add(self.offset);
        let Some(replaced) = &self.replaced else {
            return base;
        };
        if !is_before(replaced.start, sent) {
            return base;
        }
        let end = replaced.start.wrapping_add(replaced.length);
        // Any byte of the replaced ones but the first is behind the text.
        let at = if is_before(sent, end) { end } else { sent };
        at.wrapping_add(self.offset)
            .wrapping_add(replaced.text_length())
            .wrapping_sub(replaced.length)
    }

    /// The sender's number for the receiver's, as the receiver acknowledges it.
    pub fn acknowledgment(&self, received: u32) -> u32 {
        let base = received.wrapping_sub(self.offset);
        let Some(replaced) = &self.replaced else {
            return base;
        };
        if !is_before(replaced.start, base) {
            return base;
        }
        let text_end = replaced.start.wrapping_add(replaced.text_length());
        if is_before(base, text_end) {
            // A part of the text is none of what it stands for.
            return replaced.start;
        }
        base.wrapping_sub(replaced.text_length())
            .wrapping_add(replaced.length)
    }

    /// Notes what the receiver has, in the sender's numbers.
    pub fn acknowledge(&mut self, acknowledged: u32) {
        if is_before(self.acknowledged, acknowledged) || self.replaced.is_none() {
            self.acknowledged = acknowledged;
        }
    }

    /// True if a replacement may begin: the receiver has all of the one before.
    pub fn may_begin(&self) -> bool {
        self.replaced.as_ref().is_none_or(|replaced| {
            let end = replaced.start.wrapping_add(replaced.length);
            !is_before(self.acknowledged, end)
        })
    }

    /// Begins a replacement by `text` at the sender's number `start`; no byte of it is known yet.
    pub fn begin(&mut self, start: u32, text: ArrayString<LONGEST_TEXT>) {
        if let Some(last) = self.replaced.take() {
            self.offset = self
                .offset
                .wrapping_add(last.text_length())
                .wrapping_sub(last.length);
        }
        self.acknowledged = start;
        self.replaced = Some(Replaced {
            start,
            length: 0,
            text,
        });
    }

    /// One more byte is replaced.
    pub fn extend(&mut self) {
        if let Some(replaced) = &mut self.replaced {
            replaced.length += 1;
        }
    }

    /// What to change in a payload of `length` bytes that begins at the sender's number `start`.
    pub fn change(&self, start: u32, length: usize) -> Option<Change<'_>> {
        let replaced = self.replaced.as_ref()?;
        let end = replaced.start.wrapping_add(replaced.length);
        // Where it begins and ends in the payload; before it is its start.
        let within = |number: u32| {
            if is_before(number, start) {
                return 0;
            }
            (number.wrapping_sub(start) as usize).min(length)
        };
        let (from, to) = (within(replaced.start), within(end));
        let first = !is_before(replaced.start, start) && from < length && replaced.length > 0;
        (first || to > from).then_some(Change {
            offset: from,
            remove: to - from,
            insert: if first { replaced.text.as_str() } else { "" },
        })
    }
}

/// True if `a` comes before `b` in a space that wraps (RFC 9293 3.4).
pub fn is_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shift(start: u32, length: u32, text: &str) -> Shift {
        let mut shift = Shift::default();
        shift.begin(start, ArrayString::from(text).unwrap());
        for _ in 0..length {
            shift.extend();
        }
        shift
    }

    #[test]
    fn numbers_behind_a_replacement_move_by_the_difference_in_length() {
        let shift = shift(1000, 9, "10,0,1,150");
        assert_eq!(shift.sequence(1000), 1000);
        assert_eq!(shift.sequence(1001), 1010);
        assert_eq!(shift.sequence(1009), 1010);
        assert_eq!(shift.sequence(1020), 1021);
        assert_eq!(shift.acknowledgment(1000), 1000);
        assert_eq!(shift.acknowledgment(1005), 1000);
        assert_eq!(shift.acknowledgment(1010), 1009);
        assert_eq!(shift.acknowledgment(1021), 1020);
    }

    #[test]
    fn the_next_replacement_waits_until_the_last_is_acknowledged_and_adds_to_it() {
        let mut shift = shift(1000, 9, "1,1,1,1");
        assert!(!shift.may_begin());
        shift.acknowledge(1008);
        assert!(!shift.may_begin());
        shift.acknowledge(1009);
        assert!(shift.may_begin());
        assert_eq!(shift.sequence(2000), 1998);
        shift.begin(2000, ArrayString::from("1,1,1,1").unwrap());
        assert_eq!(shift.sequence(2000), 1998);
        for _ in 0..9 {
            shift.extend();
        }
        assert_eq!(shift.sequence(2009), 2005);
        assert_eq!(shift.acknowledgment(2005), 2009);
    }

    proptest! {
        /// Whatever way the stream is cut, and wherever the numbers wrap, the receiver gets the
        /// same bytes at the same numbers, and acknowledging all of them acknowledges all sent.
        #[test]
        fn every_cut_of_the_stream_gives_the_same_bytes(
            origin: u32,
            before in 0_usize..20,
            length in 1_usize..16,
            after in 0_usize..20,
            text in "[0-9,]{1,15}",
            cuts in proptest::collection::vec(0_usize..56, 0..6),
        ) {
            let start = origin.wrapping_add(before as u32);
            let shift = shift(start, length as u32, &text);
            let sent: Vec<u8> = (0..before + length + after).map(|i| b'a' + (i % 26) as u8).collect();
            let mut expected = sent.clone();
            expected.splice(before..before + length, text.bytes());

            let mut edges: Vec<usize> = cuts.iter().map(|cut| cut % (sent.len() + 1)).collect();
            edges.extend([0, sent.len()]);
            edges.sort_unstable();
            let mut received = vec![None; expected.len()];
            for pair in edges.windows(2) {
                let number = origin.wrapping_add(pair[0] as u32);
                let mut payload = sent[pair[0]..pair[1]].to_vec();
                if let Some(change) = shift.change(number, payload.len()) {
                    let cut = change.offset..change.offset + change.remove;
                    payload.splice(cut, change.insert.bytes());
                }
                let at = shift.sequence(number).wrapping_sub(origin) as usize;
                for (place, byte) in received[at..].iter_mut().zip(payload) {
                    prop_assert!(place.is_none());
                    *place = Some(byte);
                }
            }
            let received: Option<Vec<u8>> = received.into_iter().collect();
            prop_assert_eq!(received, Some(expected.clone()));
            let all = origin.wrapping_add(expected.len() as u32);
            prop_assert_eq!(shift.acknowledgment(all), origin.wrapping_add(sent.len() as u32));
        }
    }
}
