//! One mail as bytes (RFC 5322), ready to stand after `DATA` (RFC 5321).
//!
//! Invariants: nothing in a subject or a body can end the message early or add a header; headers are
//! ASCII (RFC 2047).

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mail {
    /// The subject.
    pub subject: String,
    /// The text; lines end as in Rust strings.
    pub body: String,
    /// When it happened.
    pub at: SystemTime,
}

impl Mail {
    /// The message, from its headers to the line with the dot that ends it.
    pub(super) fn encode(&self, from: &str, to: &[String], number: u64) -> String {
        let seconds = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = seconds.as_secs();
        let host = from.split_once('@').map_or("localhost", |(_, host)| host);
        let process = std::process::id();
        let mut text = String::new();
        let _ = write!(
            text,
            "Date: {}\r\nFrom: {from}\r\nTo: {}\r\nSubject: {}\r\n\
             Message-ID: <{seconds}.{process}.{number}@{host}>\r\nX-Mailer: Sluice\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 8bit\r\n\r\n",
            date(seconds),
            to.join(", "),
            header(&self.subject),
        );
        for line in self.body.lines() {
            // RFC 5321, 4.5.2.
            if line.starts_with('.') {
                text.push('.');
            }
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.push_str(".\r\n");
        text
    }
}

/// Text as it may stand in a header: as it is, or as encoded words (RFC 2047, 4.2) if it is not ASCII.
fn header(text: &str) -> String {
    /// A word is at most 75 characters long.
    const LONGEST: usize = 75 - "=?UTF-8?Q??=".len();
    let text = one_line(text);
    if text.is_ascii() {
        return text;
    }
    let mut words = vec![String::new()];
    for letter in text.chars() {
        let mut encoded = String::new();
        if letter.is_ascii_alphanumeric() {
            encoded.push(letter);
        } else if letter == ' ' {
            encoded.push('_');
        } else {
            for byte in letter.to_string().bytes() {
                let _ = write!(encoded, "={byte:02X}");
            }
        }
        // No letter may be cut in two.
        match words.last_mut() {
            Some(word) if word.len() + encoded.len() <= LONGEST => word.push_str(&encoded),
            _ => words.push(encoded),
        }
    }
    let words = words.iter().map(|word| format!("=?UTF-8?Q?{word}?="));
    words.collect::<Vec<_>>().join("\r\n ")
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

/// `Sat, 21 Nov 2026 16:17:27 +0000`.
fn date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March, so that the odd day comes last; the era of 400 years on 0000-03-01.
    let shifted = days + 719_468;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = shifted / 146_097 * 400 + year_of_era + u64::from(month < 2);
    format!(
        "{}, {day} {} {year} {:02}:{:02}:{:02} +0000",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize],
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "Thu, 1 Jan 1970 00:00:00 +0000");
        assert_eq!(date(951_782_399), "Mon, 28 Feb 2000 23:59:59 +0000");
        assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 +0000");
        assert_eq!(date(1_795_277_847), "Sat, 21 Nov 2026 16:17:27 +0000");
        assert_eq!(date(4_107_542_400), "Mon, 1 Mar 2100 00:00:00 +0000");
    }

    #[test]
    fn a_subject_that_is_not_ascii_is_encoded_in_words() {
        assert_eq!(header("[lb1] VRRP a - MASTER"), "[lb1] VRRP a - MASTER");
        assert_eq!(header("[büro] a\r\n"), "=?UTF-8?Q?=5Bb=C3=BCro=5D_a__?=");
        let long = header(&"ü".repeat(20));
        let words: Vec<_> = long.split("\r\n ").collect();
        assert_eq!(words.len(), 2);
        assert!(words.iter().all(|word| word.len() <= 75), "{words:?}");
        assert_eq!(long.matches("=C3=BC").count(), 20);
    }

    #[test]
    fn nothing_in_a_mail_ends_it_or_adds_a_header() {
        let mail = Mail {
            subject: "a\r\nBcc: x@y".into(),
            body: "first\n.\nRCPT\n..two".into(),
            at: UNIX_EPOCH + Duration::from_secs(1),
        };
        let text = mail.encode("lb@example.org", &["a@b".into(), "c@d".into()], 7);
        assert!(text.contains("\r\nSubject: a  Bcc: x@y\r\n"), "{text}");
        assert!(text.contains("\r\nTo: a@b, c@d\r\n"), "{text}");
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "first\r\n..\r\nRCPT\r\n...two\r\n.\r\n");
    }
}
