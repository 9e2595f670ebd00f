//! The types a key can have: what text is accepted, what is expected, and the value it becomes.
//!
//! Invariant: [`Type::parse`] is total. Every text gives a value or a description of what is wrong with it.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::address::{self, InterfaceAddress, Route, VirtualAddress};
use super::diagnostic::{alternatives, nearest};
use super::ini::Text;
use super::netmask::PersistenceNetmask;

/// The type of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Type {
    Flag,
    FlagOrAuto,
    Choice(&'static [&'static str]),
    /// Several distinct words of a set.
    Choices(&'static [&'static str]),
    Integer(i64, i64),
    IntegerOrAuto(i64, i64),
    /// Least and greatest duration in milliseconds, and the step it must be a multiple of.
    Duration(u64, u64, u64),
    DurationOrOff(u64, u64, u64),
    /// Smallest size in bytes; or `auto`.
    SizeOrAuto(u64),
    Text,
    Texts,
    /// Shell-like words.
    Words,
    /// An absolute path, at most this many bytes long.
    Path(usize),
    LogFilter,
    Interface,
    InterfaceOrNone,
    Device,
    Cores,
    Listen,
    Ip,
    Ips,
    Ipv4Multicast,
    Socket,
    /// `ip[:port]`.
    Endpoint,
    /// `ip:port` with ranges and prefixes, expanded.
    Services,
    InterfaceAddresses,
    Gateways,
    Routes,
    Prefix,
    Prefixes,
    VirtualAddresses,
    PortRanges,
    StatusRanges,
    Mac,
    Digest,
    Netmask,
    Tunnel,
    /// The name of one section, of any of these kinds.
    Reference(&'static [&'static str]),
    /// Names of sections of a kind, or one of the words.
    References(&'static str, &'static [&'static str]),
    /// `name[:weight]` of sections of a kind; without a kind the names are Linux interfaces.
    Tracked(Option<&'static str>),
}

/// What a text became.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Flag(bool),
    /// A word of a choice, or `auto`, `off`, `none`.
    Word(&'static str),
    Integer(i64),
    Duration(Duration),
    Size(u64),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<u16>),
    Ranges(Vec<(u16, u16)>),
    Ip(IpAddr),
    Ips(Vec<IpAddr>),
    Socket(SocketAddr),
    Endpoint(IpAddr, Option<u16>),
    Services(Vec<SocketAddr>),
    InterfaceAddresses(Vec<InterfaceAddress>),
    Routes(Vec<Route>),
    Prefix(IpNet),
    Prefixes(Vec<IpNet>),
    VirtualAddresses(Vec<VirtualAddress>),
    Mac([u8; 6]),
    Netmask(PersistenceNetmask),
    Tunnel(&'static str, Option<u16>),
    /// A weight that is not given is the tracked section's own.
    Tracked(Vec<(String, Option<i32>)>),
}

/// Why a text was refused; `line` if it is known better than the key's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) line: u32,
    pub(crate) message: String,
}

impl Type {
    /// True if the value is a list, whose items may stand on lines of their own.
    pub(crate) fn is_list(self) -> bool {
        matches!(
            self,
            Self::Choices(_)
                | Self::Texts
                | Self::Cores
                | Self::Ips
                | Self::Services
                | Self::InterfaceAddresses
                | Self::Gateways
                | Self::Routes
                | Self::Prefixes
                | Self::VirtualAddresses
                | Self::PortRanges
                | Self::StatusRanges
                | Self::References(..)
                | Self::Tracked(_)
        )
    }

    /// True if saying nothing says something: no arguments, no checks.
    fn allows_empty(self) -> bool {
        matches!(self, Self::Words | Self::References(..) | Self::Choices(_))
    }

    /// Reads the text, or says everything that is wrong with it.
    pub(crate) fn parse(self, text: &Text) -> Result<Value, Vec<Bad>> {
        let joined = text.joined();
        let whole = unquote(&joined);
        let bad = |message: String| vec![Bad { line: 0, message }];
        if whole.is_empty() && !self.allows_empty() {
            return Err(bad(format!(
                "the value is missing; expected {}",
                self.expected()
            )));
        }
        if self.is_list() {
            return self.parse_list(text);
        }
        self.parse_scalar(whole)
            .map_err(|problem| bad(self.complain(whole, problem)))
    }

    /// `problem` may be a complete sentence of its own, or nothing for the usual one.
    fn complain(self, text: &str, problem: Option<String>) -> String {
        if let Some(problem) = problem {
            return problem;
        }
        let mut message = format!("`{text}` is not valid; expected {}", self.expected());
        if let Self::Choice(words) | Self::Choices(words) = self
            && let Some(near) = nearest(text, words.iter().copied())
        {
            let _ = write!(message, "; did you mean `{near}`?");
        }
        message
    }

    fn parse_scalar(self, text: &str) -> Result<Value, Option<String>> {
        let value = match self {
            Self::Flag => flag(text).map(Value::Flag),
            Self::FlagOrAuto if text == "auto" => Some(Value::Word("auto")),
            Self::FlagOrAuto => flag(text).map(Value::Flag),
            Self::Choice(words) => word(text, words).map(Value::Word),
            Self::IntegerOrAuto(..) | Self::SizeOrAuto(_) if text == "auto" => {
                Some(Value::Word("auto"))
            }
            Self::Integer(min, max) | Self::IntegerOrAuto(min, max) => {
                return self.integer(text, min, max);
            }
            Self::DurationOrOff(..) if matches!(text, "off" | "no") => Some(Value::Word("off")),
            Self::Duration(min, max, step) | Self::DurationOrOff(min, max, step) => duration(text)
                .filter(|millis| (min..=max).contains(millis) && millis.is_multiple_of(step))
                .map(|millis| Value::Duration(Duration::from_millis(millis))),
            Self::SizeOrAuto(min) => size(text).filter(|bytes| *bytes >= min).map(Value::Size),
            Self::Text => Some(Value::Text(text.to_owned())),
            Self::Words => return words(text).map(Value::Texts).map_err(Some),
            Self::Path(longest) => (text.starts_with('/') && text.len() <= longest)
                .then(|| Value::Text(text.to_owned())),
            Self::LogFilter => return log_filter(text).map(|()| Value::Text(text.to_owned())),
            Self::InterfaceOrNone if text == "none" => Some(Value::Word("none")),
            Self::InterfaceOrNone if text == "lo" => None,
            Self::Interface | Self::InterfaceOrNone => {
                is_interface(text).then(|| Value::Text(text.to_owned()))
            }
            Self::Device => address::is_device(text).then(|| Value::Text(text.to_owned())),
            Self::Listen if text == "off" => Some(Value::Word("off")),
            Self::Listen | Self::Socket => text
                .parse()
                .ok()
                .filter(|s: &SocketAddr| s.port() != 0)
                .map(Value::Socket),
            Self::Ip => text.parse().ok().map(Value::Ip),
            Self::Ipv4Multicast => text
                .parse()
                .ok()
                .filter(|ip: &IpAddr| ip.is_ipv4() && ip.is_multicast())
                .map(Value::Ip),
            Self::Endpoint => {
                return address::endpoint(text).map(|(ip, port)| Value::Endpoint(ip, port));
            }
            Self::Prefix => return address::network(text).map(Value::Prefix),
            Self::Mac => return address::mac(text).map(Value::Mac),
            Self::Digest => (text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()))
                .then(|| Value::Text(text.to_ascii_lowercase())),
            Self::Netmask => PersistenceNetmask::parse(text).map(Value::Netmask),
            Self::Tunnel => address::tunnel(text).map(|(kind, port)| Value::Tunnel(kind, port)),
            Self::Reference(_) => Some(Value::Text(text.to_owned())),
            _ => None,
        };
        value.ok_or(None)
    }

    fn integer(self, text: &str, min: i64, max: i64) -> Result<Value, Option<String>> {
        match text.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
            Ok(_) => Err(Some(format!(
                "`{text}` is out of range; expected {}",
                self.expected()
            ))),
            Err(_) => Err(None),
        }
    }

    fn parse_list(self, text: &Text) -> Result<Value, Vec<Bad>> {
        let mut items = split_list(text);
        if let Self::Routes = self {
            join_routes(&mut items);
        }
        let mut errors = Vec::new();
        let value = match self {
            Self::Cores if matches!(items.as_slice(), [(_, only)] if only == "auto") => {
                Value::Word("auto")
            }
            Self::Cores => {
                let ranges =
                    self.each(&items, &mut errors, |item| range(item, 0, 1023).ok_or(None));
                // A CPU may come twice: whether workers may share one depends on `idle`.
                let cores = ranges.into_iter().flat_map(|(first, last)| first..=last);
                Value::Numbers(cores.collect())
            }
            Self::Choices(words) => {
                let chosen = self.each(&items, &mut errors, |item| word(item, words).ok_or(None));
                Value::Texts(chosen.into_iter().map(str::to_owned).collect())
            }
            Self::Texts | Self::References(..) => {
                Value::Texts(self.each(&items, &mut errors, |item| Ok(item.to_owned())))
            }
            Self::Ips | Self::Gateways => {
                let ips = self.each(&items, &mut errors, |item| {
                    item.parse::<IpAddr>().map_err(|_| None)
                });
                if matches!(self, Self::Gateways) {
                    for family in [true, false] {
                        if ips.iter().filter(|ip| ip.is_ipv4() == family).count() > 1 {
                            let message = "two gateways of one family; expected at most one IPv4 and one IPv6 \
                                           address";
                            errors.push(Bad {
                                line: 0,
                                message: message.to_owned(),
                            });
                        }
                    }
                }
                Value::Ips(ips)
            }
            Self::Services => {
                let mut services = Vec::new();
                for (line, item) in &items {
                    match address::services(item) {
                        Ok(expanded) => services.extend(expanded),
                        Err(problem) => errors.push(Bad {
                            line: *line,
                            message: self.complain(item, problem),
                        }),
                    }
                }
                Value::Services(services)
            }
            Self::InterfaceAddresses => Value::InterfaceAddresses(self.each(
                &items,
                &mut errors,
                address::interface_address,
            )),
            Self::Routes => Value::Routes(self.each(&items, &mut errors, address::route)),
            Self::Prefixes => Value::Prefixes(self.each(&items, &mut errors, address::network)),
            Self::VirtualAddresses => {
                Value::VirtualAddresses(self.each(&items, &mut errors, address::virtual_address))
            }
            Self::PortRanges => Value::Ranges(self.each(&items, &mut errors, |item| {
                range(item, 1, u16::MAX).ok_or(None)
            })),
            Self::StatusRanges => Value::Ranges(self.each(&items, &mut errors, |item| {
                range(item, 100, 999).ok_or(None)
            })),
            Self::Tracked(_) => Value::Tracked(self.each(&items, &mut errors, tracked)),
            _ => Value::Texts(Vec::new()),
        };
        if errors.is_empty() {
            Ok(value)
        } else {
            Err(errors)
        }
    }

    fn each<T>(
        self,
        items: &[(u32, String)],
        errors: &mut Vec<Bad>,
        read: impl Fn(&str) -> Result<T, Option<String>>,
    ) -> Vec<T> {
        let mut values = Vec::with_capacity(items.len());
        for (line, item) in items {
            if item.is_empty() {
                let message = format!("an empty item in the list; expected {}", self.expected());
                errors.push(Bad {
                    line: *line,
                    message,
                });
                continue;
            }
            match read(item) {
                Ok(value) => values.push(value),
                Err(problem) => errors.push(Bad {
                    line: *line,
                    message: self.complain(item, problem),
                }),
            }
        }
        values
    }

    /// What a message says was expected.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Flag => "yes or no".to_owned(),
            Self::FlagOrAuto => "yes, no or auto".to_owned(),
            Self::Choice(words) => alternatives(words),
            Self::Choices(words) => format!("a list of {}", alternatives(words)),
            Self::Integer(min, max) if min == max => min.to_string(),
            Self::Integer(min, i64::MAX) => format!("a number, at least {min}"),
            Self::Integer(min, max) => format!("a number from {min} to {max}"),
            Self::IntegerOrAuto(min, max) => format!("a number from {min} to {max}, or auto"),
            Self::Duration(min, max, step) => expected_duration(min, max, step),
            Self::DurationOrOff(min, max, step) => {
                format!("{}, or off", expected_duration(min, max, step))
            }
            Self::SizeOrAuto(min) => format!(
                "a size such as 512MB or 1GB, at least {}MB, or auto",
                min >> 20
            ),
            Self::Text => "a text".to_owned(),
            Self::Texts => "a comma-separated list".to_owned(),
            Self::Words => "words separated by blanks".to_owned(),
            Self::Path(usize::MAX) => "an absolute path".to_owned(),
            Self::Path(longest) => format!("an absolute path of at most {longest} characters"),
            Self::LogFilter => {
                "off, error, warn, info, debug or trace, or TARGET=LEVEL, separated by commas"
                    .to_owned()
            }
            Self::Interface => "an interface name of at most 15 characters".to_owned(),
            Self::InterfaceOrNone => {
                "an interface name of at most 15 characters, or none".to_owned()
            }
            Self::Device => "a PCI address such as 0000:3b:00.0, or a DPDK virtual device such as \
                             net_af_xdp0,iface=eth1"
                .to_owned(),
            Self::Cores => "CPU numbers such as 1-3,6, or auto".to_owned(),
            Self::Listen => "ADDRESS:PORT, or off".to_owned(),
            Self::Ip => "an IP address".to_owned(),
            Self::Ips => "IP addresses separated by commas".to_owned(),
            Self::Ipv4Multicast => "an IPv4 multicast address".to_owned(),
            Self::Socket => "ADDRESS:PORT, IPv6 in brackets".to_owned(),
            Self::Endpoint => "ADDRESS or ADDRESS:PORT, IPv6 with a port in brackets".to_owned(),
            Self::Services => {
                "ADDRESS:PORT, FIRST-LAST:PORT or PREFIX:PORT, IPv6 in brackets".to_owned()
            }
            Self::InterfaceAddresses => "ADDRESS/LENGTH such as 10.0.0.2/24".to_owned(),
            Self::Gateways => "a gateway's IP address".to_owned(),
            Self::Routes => "PREFIX via GATEWAY such as 10.1.0.0/16 via 10.0.0.1".to_owned(),
            Self::Prefix => "a network such as 10.1.0.0/16".to_owned(),
            Self::Prefixes => "networks such as 10.1.0.0/16 or single addresses".to_owned(),
            Self::VirtualAddresses => "ADDRESS[/LENGTH][@INTERFACE]".to_owned(),
            Self::PortRanges => "ports such as 80,443,10000-20000".to_owned(),
            Self::StatusRanges => "HTTP status codes such as 200,301 or 200-299".to_owned(),
            Self::Mac => "a unicast MAC address such as 02:00:00:00:00:01".to_owned(),
            Self::Digest => "an MD5 digest of 32 hexadecimal digits".to_owned(),
            Self::Netmask => {
                "full, an IPv4 mask such as 255.255.255.0, an IPv6 prefix length from 1 to 128, or \
                both with a comma between"
                    .to_owned()
            }
            Self::Tunnel => "ipip, gre or gue:PORT".to_owned(),
            Self::Reference(kinds) => format!("the name of a [{}]", kinds.join("] or [")),
            Self::References(kind, []) => format!("names of [{kind}] sections"),
            Self::References(kind, words) => {
                format!("names of [{kind}] sections, {}", alternatives(words))
            }
            Self::Tracked(Some(kind)) => {
                format!("NAME[:WEIGHT] of [{kind}] sections, weight -253 to 253")
            }
            Self::Tracked(None) => "INTERFACE[:WEIGHT], weight -253 to 253".to_owned(),
        }
    }
}

fn expected_duration(min: u64, max: u64, step: u64) -> String {
    let kind = match step {
        1 => "a duration such as 500ms, 6s, 5m or 1h",
        10 => "a duration in hundredths of a second such as 500ms or 1s",
        _ => "a duration in whole seconds such as 6s, 5m or 1h",
    };
    format!(
        "{kind}, from {} to {}",
        show_duration(min),
        show_duration(max)
    )
}

fn show_duration(millis: u64) -> String {
    match millis {
        0 => "0".to_owned(),
        _ if millis.is_multiple_of(86_400_000) => format!("{} days", millis / 86_400_000),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

/// Removes quotes that enclose the whole text.
pub(crate) fn unquote(text: &str) -> &str {
    text.strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .filter(|inside| !inside.contains('"'))
        .unwrap_or(text)
}

/// Splits at commas outside quotes; a line feed separates too, so that a line's trailing comma may be left out.
fn split_list(text: &Text) -> Vec<(u32, String)> {
    let mut items = Vec::new();
    let last = text.pieces.len().saturating_sub(1);
    for (index, (line, piece)) in text.pieces.iter().enumerate() {
        if piece.is_empty() {
            continue;
        }
        let (mut start, mut quoted) = (0, false);
        for (at, c) in piece.char_indices() {
            match c {
                '"' => quoted = !quoted,
                ',' if !quoted => {
                    items.push((*line, unquote(piece[start..at].trim()).to_owned()));
                    start = at + 1;
                }
                _ => {}
            }
        }
        let rest = unquote(piece[start..].trim());
        // A comma at the end of a line that is continued belongs to the line break.
        if !rest.is_empty() || index == last {
            items.push((*line, rest.to_owned()));
        }
    }
    if let [(_, only)] = items.as_slice()
        && only.is_empty()
    {
        items.clear();
    }
    items
}

/// A route may be broken before its `via`.
fn join_routes(items: &mut Vec<(u32, String)>) {
    let mut at = 1;
    while at < items.len() {
        if items[at].1.starts_with("via ") {
            let (_, tail) = items.remove(at);
            items[at - 1].1.push(' ');
            items[at - 1].1.push_str(&tail);
        } else {
            at += 1;
        }
    }
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "yes" | "on" | "true" | "1" => Some(true),
        "no" | "off" | "false" | "0" => Some(false),
        _ => None,
    }
}

fn word(text: &str, words: &'static [&'static str]) -> Option<&'static str> {
    words.iter().copied().find(|word| *word == text)
}

/// Milliseconds of `500ms`, `6s`, `5m`, `1h`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    plain_number(digits)?.checked_mul(unit)
}

/// Bytes of `64MB`, `1GB`.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "KB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    plain_number(digits)?.checked_mul(unit)
}

/// Digits only: no sign, no blanks.
fn plain_number(digits: &str) -> Option<u64> {
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

/// `5` or `3-7`, within the bounds.
fn range(text: &str, min: u16, max: u16) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| plain_number(text.trim()).and_then(|n| u16::try_from(n).ok());
    let (first, last) = (number(first)?, number(last)?);
    (min <= first && first <= last && last <= max).then_some((first, last))
}

/// Words separated by blanks; quotes group.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quoted {
        Err(format!(
            "`{text}` has an open quote; expected a closing `\"`"
        ))
    } else {
        Ok(words)
    }
}

fn log_filter(text: &str) -> Result<(), Option<String>> {
    const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
    let directives = text
        .split_once('/')
        .map_or(text, |(directives, _)| directives);
    for directive in directives.split(',') {
        let (target, level) = match directive.trim().split_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, directive.trim()),
        };
        let blank =
            target.is_some_and(|target| target.is_empty() || target.contains(char::is_whitespace));
        if blank || !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            let near = nearest(level, LEVELS.iter().copied()).filter(|_| !blank);
            let hint = near
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            let expected = Type::LogFilter.expected();
            return Err(Some(format!(
                "`{}` is not a log directive; expected {expected}{hint}",
                directive.trim()
            )));
        }
    }
    Ok(())
}

/// What Linux accepts as an interface name.
pub(crate) fn is_interface(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && !matches!(text, "." | ".." | "all" | "default")
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%' | b'"' | b','))
}

fn tracked(item: &str) -> Result<(String, Option<i32>), Option<String>> {
    let (name, weight) = match item.split_once(':') {
        None => (item, None),
        Some((name, weight)) => {
            let weight = weight.trim().parse().ok();
            let weight = weight.filter(|weight| (-253..=253).contains(weight));
            (name, Some(weight.ok_or(None)?))
        }
    };
    let name = name.trim();
    if name.is_empty() {
        Err(None)
    } else {
        Ok((name.to_owned(), weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_bare_numbers_are_seconds() {
        assert_eq!(duration("500ms"), Some(500));
        assert_eq!(duration("6s"), Some(6000));
        assert_eq!(duration("6"), Some(6000));
        assert_eq!(duration("5m"), Some(300_000));
        assert_eq!(duration("1h"), Some(3_600_000));
        for bad in [
            "",
            "s",
            "-1",
            "1.5s",
            "1 s",
            "1d",
            "+1",
            "99999999999999999999h",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("64MB"), Some(64 << 20));
        assert_eq!(size("1GB"), Some(1 << 30));
        assert_eq!(size("64"), None);
        assert_eq!(size("64mb"), None);
    }

    #[test]
    fn booleans_are_the_eight_words() {
        for (text, value) in [
            ("yes", true),
            ("on", true),
            ("true", true),
            ("1", true),
            ("no", false),
            ("off", false),
            ("false", false),
            ("0", false),
        ] {
            assert_eq!(
                Type::Flag.parse(&Text::inline(text)),
                Ok(Value::Flag(value))
            );
        }
        let refused = Type::Flag.parse(&Text::inline("maybe")).unwrap_err();
        assert_eq!(
            refused[0].message,
            "`maybe` is not valid; expected yes or no"
        );
    }

    #[test]
    fn lists_split_at_commas_outside_quotes_and_at_line_ends() {
        let text = Text {
            pieces: vec![(1, "a, \"b,c\",".into()), (2, "d".into()), (3, "e".into())],
        };
        let items: Vec<_> = split_list(&text)
            .into_iter()
            .map(|(_, item)| item)
            .collect();
        assert_eq!(items, ["a", "b,c", "d", "e"]);
        assert!(Type::Texts.parse(&Text::inline("a,,b")).is_err());
    }

    #[test]
    fn core_lists_are_expanded_and_checked() {
        let parse = |text| Type::Cores.parse(&Text::inline(text));
        assert_eq!(parse("1-3,6"), Ok(Value::Numbers(vec![1, 2, 3, 6])));
        assert_eq!(parse("0,1,1"), Ok(Value::Numbers(vec![0, 1, 1])));
        assert_eq!(parse("auto"), Ok(Value::Word("auto")));
        for bad in ["3-1", "a", "", "1,", "-1", "2000", "auto,1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_misspelt_log_level_is_refused_with_a_hint() {
        assert_eq!(log_filter("info,sluice::packet=debug"), Ok(()));
        let message = log_filter("inof").unwrap_err().unwrap();
        assert!(message.ends_with("did you mean `info`?"), "{message}");
    }

    #[test]
    fn words_group_by_quotes() {
        assert_eq!(
            words("--a \"b c\" d\"e f\"").unwrap(),
            ["--a", "b c", "de f"]
        );
        assert_eq!(words("").unwrap(), Vec::<String>::new());
    }
}
