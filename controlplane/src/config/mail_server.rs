//! The mail server as operators write it: `mail.example.org`, `10.0.0.25:587`, `[2001:db8::25]:25`.

use std::net::Ipv6Addr;

/// The port of SMTP.
const SMTP: u16 = 25;

/// Host and port of `HOST[:PORT]`; IPv6 in brackets, or bare without a port.
pub(crate) fn mail_server(text: &str) -> Option<(String, u16)> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some((text.to_owned(), SMTP));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        let port = match rest {
            "" => SMTP,
            _ => port(rest.strip_prefix(':')?)?,
        };
        return Some((host.to_owned(), port));
    }
    let (host, port) = match text.split_once(':') {
        None => (text, SMTP),
        Some((host, text)) => (host, port(text)?),
    };
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (!host.is_empty() && host.bytes().all(letter)).then(|| (host.to_owned(), port))
}

fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?.filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_names_or_addresses_with_port_25_unless_told() {
        for (text, host, port) in [
            ("mail.example.org", "mail.example.org", 25),
            ("10.0.0.25:587", "10.0.0.25", 587),
            ("2001:db8::25", "2001:db8::25", 25),
            ("[2001:db8::25]", "2001:db8::25", 25),
            ("[2001:db8::25]:2525", "2001:db8::25", 2525),
        ] {
            assert_eq!(mail_server(text), Some((host.to_owned(), port)), "{text}");
        }
        for text in [
            "",
            ":25",
            "mail:",
            "mail:0",
            "mail:+1",
            "mail:65536",
            "a b",
            "[10.0.0.1]:25",
            "[::1",
        ] {
            assert_eq!(mail_server(text), None, "{text}");
        }
    }
}
