//! The Call-ID of a SIP message (RFC 3261 7.3, 20.8), and no more of SIP than that takes.
//!
//! What is not a SIP message with one has none: no error, the packet is then like any other of its
//! client. Lines may end in CR, LF or both, as RFC 2543 allowed and the kernel does.

/// Longest Call-ID that counts: the kernel keeps no more.
pub const MAX_CALL_ID: usize = 255;

/// The Call-ID of the message in `datagram`, a UDP payload.
pub fn call_id(datagram: &[u8]) -> Option<&[u8]> {
    let (start, mut rest) = line(datagram)?;
    if !is_start(start) {
        return None;
    }
    // A line without end may have lost its rest, so it is none.
    while let Some((header, next)) = line(rest) {
        if header.is_empty() {
            // The end of the headers.
            return None;
        }
        rest = next;
        let Some(colon) = header.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (
            header[..colon].trim_ascii_end(),
            header[colon + 1..].trim_ascii(),
        );
        if name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i") {
            let fits = (1..=MAX_CALL_ID).contains(&value.len());
            return (fits && value.iter().all(u8::is_ascii_graphic)).then_some(value);
        }
    }
    None
}

/// The first line without its end, and what comes after it.
fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let skipped = if text[end..].starts_with(b"\r\n") {
        2
    } else {
        1
    };
    Some((&text[..end], &text[end + skipped..]))
}

/// `INVITE sip:bob@example.org SIP/2.0` or `SIP/2.0 200 OK`.
fn is_start(line: &[u8]) -> bool {
    let is_version = |word: &[u8]| {
        word.get(..4)
            .is_some_and(|begin| begin.eq_ignore_ascii_case(b"SIP/"))
            && word.len() > 4
    };
    let mut words = line.split(|byte| *byte == b' ');
    words.clone().next().is_some_and(is_version) || words.next_back().is_some_and(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INVITE: &str = "INVITE sip:bob@10.0.1.50 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.100:5060\r\n\
        Max-Forwards: 70\r\nCall-ID: a84b4c76e66710@pc33.example.org\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\n";

    fn of(text: &str) -> Option<&str> {
        call_id(text.as_bytes()).map(|id| std::str::from_utf8(id).unwrap())
    }

    #[test]
    fn requests_and_responses_have_the_call_id_of_their_header() {
        assert_eq!(of(INVITE), Some("a84b4c76e66710@pc33.example.org"));
        for header in [
            "Call-ID:x@y\r\n",
            "CALL-id : \t x@y \r\n",
            "i: x@y\n",
            "i:x@y\r",
        ] {
            let text = format!("SIP/2.0 200 OK\r\nVia: z\r\n{header}");
            assert_eq!(of(&text), Some("x@y"), "{header:?}");
        }
    }

    #[test]
    fn what_is_no_message_or_has_no_whole_call_id_has_none() {
        let long = format!("INVITE a SIP/2.0\r\nCall-ID: {}\r\n\r\n", "x".repeat(256));
        for text in [
            "",
            "\r\n\r\n",
            "GET / HTTP/1.1\r\nCall-ID: x\r\n\r\n",
            "INVITE a SIP/2.0\r\nVia: z\r\n\r\nCall-ID: in-the-body\r\n",
            "INVITE a SIP/2.0\r\nCall-ID: cut-of",
            "INVITE a SIP/2.0\r\nCall-ID:\r\n\r\n",
            "INVITE a SIP/2.0\r\nCall-ID: two words\r\n\r\n",
            "INVITE a SIP/2.0\r\nX-Call-ID: x\r\n\r\n",
            &long,
        ] {
            assert_eq!(of(text), None, "{text:?}");
        }
        let longest = "x".repeat(255);
        let text = format!("INVITE a SIP/2.0\r\nCall-ID: {longest}\r\n\r\n");
        assert_eq!(of(&text), Some(longest.as_str()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_found_is_short_and_printable(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            cut in 0_usize..400,
            at in 0_usize..200,
        ) {
            let mut mutated = INVITE.as_bytes().to_vec();
            for (place, byte) in bytes.iter().take(4).enumerate() {
                if let Some(target) = mutated.get_mut(at + place * 7) {
                    *target = *byte;
                }
            }
            mutated.truncate(cut);
            for datagram in [bytes, mutated] {
                if let Some(id) = call_id(&datagram) {
                    prop_assert!((1..=MAX_CALL_ID).contains(&id.len()));
                    prop_assert!(id.iter().all(u8::is_ascii_graphic));
                }
            }
        }
    }
}
