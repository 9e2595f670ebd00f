//! Mail: the keys of `[global]` that only work together.

use super::super::effective::EffectiveTable;
use super::super::report::Report;
use super::At;
use std::net::IpAddr;

pub(super) fn check(table: &EffectiveTable, report: &mut Report) {
    let Some(global) = table.find("global", "") else {
        return;
    };
    let at = At::new(global);
    let to = global.is_explicit("notification_email");
    let server = global.is_explicit("smtp_server");
    if to && !server {
        let message = "the key is missing; notification_email needs the mail server's address";
        at.error(report, "smtp_server", message.to_owned());
    }
    for key in [
        "smtp_server",
        "notification_email_from",
        "smtp_helo_name",
        "alerts",
    ] {
        if global.is_explicit(key) && !to {
            let message = "no mail is sent without notification_email; expected that too";
            at.warning(report, key, message.to_owned());
        }
    }
    if let Some(server) = global.get::<String>("smtp_server")
        && super::super::mail_server(&server).is_none()
    {
        let message = format!("`{server}` is no mail server; expected HOST[:PORT], [IPV6][:PORT]");
        at.error(report, "smtp_server", message);
    }
    if let Some(name) = global.get::<String>("smtp_helo_name")
        && !is_host_name(&name)
    {
        let message = format!("`{name}` is no host name; expected letters, digits, `-` and dots");
        at.error(report, "smtp_helo_name", message);
    }
    let addresses: Vec<String> = global.get("notification_email").unwrap_or_default();
    let from: Option<String> = global.get("notification_email_from");
    let all = addresses
        .iter()
        .map(|address| ("notification_email", address))
        .chain(
            from.iter()
                .map(|address| ("notification_email_from", address)),
        );
    for (key, address) in all {
        if !is_address(address) {
            let message = format!("`{address}` is no mail address; expected NAME@DOMAIN");
            at.error(report, key, message);
        }
    }
}

/// Enough that it cannot end the command it is put into.
fn is_address(text: &str) -> bool {
    text.split_once('@')
        .is_some_and(|(name, domain)| !name.is_empty() && !domain.is_empty())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b','))
}

/// RFC 5321, 4.1.2: a domain, or an address in brackets.
fn is_host_name(text: &str) -> bool {
    let literal = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = literal {
        let address = address.strip_prefix("IPv6:").unwrap_or(address);
        return address.parse::<IpAddr>().is_ok();
    }
    let is_label = |label: &str| {
        let mut letters = label.bytes();
        letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'-')
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 255 && text.split('.').all(is_label)
}
