//! Which connections a listing or a deletion means: `client=10.0.1.100 vip=10.0.1.50:80`.
//!
//! The same words are the command line, the query string and the JSON document. All criteria
//! must hold. Values are checked where they are read, so that a slip is an error and never a
//! filter that selects something else.

use super::{Connection, Protocol};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::{Display, Formatter};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Which connections are meant. The default means all.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionFilter {
    /// Of this protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// From this client, at any port unless one is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Endpoint>,
    /// To this virtual address. `vip` is accepted too.
    #[serde(
        rename = "virtual",
        alias = "vip",
        skip_serializing_if = "Option::is_none"
    )]
    pub vip: Option<Endpoint>,
    /// On this real server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real: Option<RealSelector>,
    /// In this state, as listed; letter case does not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Of the service of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// List at most this many (default 1000, at most 100 000). A deletion ignores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl ConnectionFilter {
    /// Rows listed when no limit is given.
    pub const DEFAULT_LIMIT: u32 = 1_000;
    /// The most rows one answer carries: about 30 MB of JSON.
    pub const MAX_LIMIT: u32 = 100_000;

    /// How many rows to list.
    pub fn effective_limit(&self) -> usize {
        self.limit
            .unwrap_or(Self::DEFAULT_LIMIT)
            .min(Self::MAX_LIMIT) as usize
    }

    /// Whether it selects everything. The limit is no criterion.
    pub fn selects_all(&self) -> bool {
        let criteria = Self {
            limit: None,
            ..self.clone()
        };
        criteria == Self::default()
    }

    /// Whether it selects `connection`.
    pub fn selects(&self, connection: &Connection) -> bool {
        fn holds<T>(criterion: Option<&T>, test: impl FnOnce(&T) -> bool) -> bool {
            criterion.is_none_or(test)
        }
        holds(self.protocol.as_ref(), |p| *p == connection.protocol)
            && holds(self.client.as_ref(), |e| e.matches(connection.client))
            && holds(self.vip.as_ref(), |e| e.matches(connection.vip))
            && holds(self.real.as_ref(), |r| r.selects(connection))
            && holds(self.state.as_ref(), |s| {
                s.eq_ignore_ascii_case(&connection.state)
            })
            && holds(self.service.as_ref(), |s| *s == connection.service)
    }

    /// Reads words such as `client=10.0.1.100`, each criterion at most once.
    pub fn from_words<S: AsRef<str>>(words: &[S]) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for word in words {
            filter.add(word.as_ref())?;
        }
        Ok(filter)
    }

    /// The query string that says the same, empty for the default.
    pub fn to_query(&self) -> String {
        let mut pairs = Vec::new();
        let mut push = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                pairs.push(format!("{key}={}", percent_encoded(&value)));
            }
        };
        push("protocol", self.protocol.map(|v| v.to_string()));
        push("client", self.client.map(|v| v.to_string()));
        push("virtual", self.vip.map(|v| v.to_string()));
        push("real", self.real.as_ref().map(ToString::to_string));
        push("state", self.state.clone());
        push("service", self.service.clone());
        push("limit", self.limit.map(|v| v.to_string()));
        pairs.join("&")
    }

    fn add(&mut self, word: &str) -> Result<(), FilterError> {
        let Some((key, value)) = word.split_once('=') else {
            return Err(FilterError(format!(
                "'{word}' is not a filter; expected KEY=VALUE with KEY one of {KEYS}"
            )));
        };
        if value.is_empty() {
            return Err(FilterError(format!("{key}: the value is missing")));
        }
        match key {
            "protocol" => set(&mut self.protocol, key, value, "tcp, udp, sctp or ip"),
            "client" => set(&mut self.client, key, value, ENDPOINT),
            "vip" | "virtual" => set(&mut self.vip, key, value, ENDPOINT),
            "real" => set(&mut self.real, key, value, REAL),
            "state" => set(&mut self.state, key, value, "a state"),
            "service" => set(&mut self.service, key, value, "a name"),
            "limit" => set(&mut self.limit, key, value, "a number"),
            _ => Err(FilterError(format!(
                "unknown filter '{key}'; expected one of {KEYS}"
            ))),
        }
    }
}

const KEYS: &str = "protocol, client, vip, real, state, service, limit";
const ENDPOINT: &str = "IP, IP:PORT or [IPV6]:PORT";
const REAL: &str = "VS/NAME, */NAME, IP or IP:PORT";

fn set<T: FromStr>(
    slot: &mut Option<T>,
    key: &str,
    value: &str,
    expected: &str,
) -> Result<(), FilterError> {
    if slot.is_some() {
        return Err(FilterError(format!("{key} is given twice")));
    }
    let Ok(parsed) = value.parse() else {
        return Err(FilterError(format!(
            "{key}: '{value}' is wrong; expected {expected}"
        )));
    };
    *slot = Some(parsed);
    Ok(())
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// A filter that cannot be understood; the text says what was expected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

/// An address, at one port or at any.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port, or any.
    pub port: Option<u16>,
}

impl Endpoint {
    /// Whether `address` is meant.
    pub fn matches(&self, address: SocketAddr) -> bool {
        self.address == address.ip() && self.port.is_none_or(|port| port == address.port())
    }
}

impl Display for Endpoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

impl FromStr for Endpoint {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self {
                address: address.ip(),
                port: Some(address.port()),
            });
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        match bare.parse() {
            Ok(address) => Ok(Self {
                address,
                port: None,
            }),
            Err(_) => Err(FilterError(format!(
                "'{text}' is wrong; expected {ENDPOINT}"
            ))),
        }
    }
}

/// Which real server is meant: by name, or by address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RealSelector {
    /// `VS/NAME`, or `*/NAME` for that name in every service.
    Name {
        /// The service, or any.
        service: Option<String>,
        /// The real server's own name.
        name: String,
    },
    /// `IP[:PORT]`.
    Address(Endpoint),
}

impl RealSelector {
    /// Whether `connection` is on a real server that is meant.
    pub fn selects(&self, connection: &Connection) -> bool {
        match self {
            Self::Name { service, name } => {
                *name == connection.real
                    && service.as_ref().is_none_or(|s| *s == connection.service)
            }
            Self::Address(endpoint) => endpoint.matches(connection.destination),
        }
    }
}

impl Display for RealSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name { service, name } => {
                write!(f, "{}/{name}", service.as_deref().unwrap_or("*"))
            }
            Self::Address(endpoint) => endpoint.fmt(f),
        }
    }
}

impl FromStr for RealSelector {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        match text.split_once('/') {
            Some((service, name)) if !service.is_empty() && !name.is_empty() => Ok(Self::Name {
                service: (service != "*").then(|| service.to_owned()),
                name: name.to_owned(),
            }),
            None => text.parse().map(Self::Address),
            Some(_) => Err(FilterError(format!("'{text}' is wrong; expected {REAL}"))),
        }
    }
}

macro_rules! serde_as_text {
    ($($type:ty),+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
serde_as_text!(Endpoint, RealSelector);

#[cfg(test)]
mod tests {
    use super::super::Forward;
    use super::*;

    fn connection() -> Connection {
        Connection {
            protocol: Protocol::Tcp,
            state: "ESTABLISHED".into(),
            expires_seconds: 899,
            client: "10.0.1.100:57886".parse().unwrap(),
            vip: "10.0.1.50:80".parse().unwrap(),
            destination: "10.0.2.11:8080".parse().unwrap(),
            service: "web".into(),
            real: "a".into(),
            worker: 0,
            packets: 7,
            template: false,
            pe_data: None,
            forward: Forward::Nat,
        }
    }

    #[test]
    fn every_criterion_selects_and_rejects() {
        for (selecting, rejecting) in [
            ("protocol=tcp", "protocol=udp"),
            ("client=10.0.1.100", "client=10.0.1.101"),
            ("client=10.0.1.100:57886", "client=10.0.1.100:1"),
            ("vip=10.0.1.50:80", "virtual=10.0.1.50:81"),
            ("real=10.0.2.11", "real=10.0.2.11:80"),
            ("real=web/a", "real=db/a"),
            ("real=*/a", "real=*/b"),
            ("state=established", "state=SYN_RECV"),
            ("service=web", "service=we"),
        ] {
            let filter = ConnectionFilter::from_words(&[selecting]).unwrap();
            assert!(filter.selects(&connection()), "{selecting}");
            assert!(!filter.selects_all());
            let filter = ConnectionFilter::from_words(&[rejecting]).unwrap();
            assert!(!filter.selects(&connection()), "{rejecting}");
        }
    }

    #[test]
    fn all_criteria_must_hold() {
        let filter = ConnectionFilter::from_words(&["service=web", "state=CLOSE"]).unwrap();
        assert!(!filter.selects(&connection()));
    }

    #[test]
    fn a_limit_is_no_criterion() {
        let filter = ConnectionFilter::from_words(&["limit=5"]).unwrap();
        assert!(filter.selects_all());
        assert_eq!(filter.effective_limit(), 5);
    }

    #[test]
    fn slips_are_errors_that_say_what_was_expected() {
        for (word, message) in [
            (
                "clinet=10.0.1.100",
                "unknown filter 'clinet'; expected one of protocol, client, vip, real, state, service, limit",
            ),
            (
                "client=10.0.1",
                "client: '10.0.1' is wrong; expected IP, IP:PORT or [IPV6]:PORT",
            ),
            ("client=", "client: the value is missing"),
            (
                "real=/a",
                "real: '/a' is wrong; expected VS/NAME, */NAME, IP or IP:PORT",
            ),
        ] {
            let error = ConnectionFilter::from_words(&[word]).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        let error = ConnectionFilter::from_words(&["limit=1", "limit=2"]).unwrap_err();
        assert_eq!(error.to_string(), "limit is given twice");
    }

    #[test]
    fn a_query_is_escaped() {
        let filter =
            ConnectionFilter::from_words(&["client=[2001:db8::1]:80", "real=*/a", "service=a&b"])
                .unwrap();
        assert_eq!(
            filter.to_query(),
            "client=%5B2001:db8::1%5D:80&real=%2A/a&service=a%26b"
        );
    }

    #[test]
    fn json_round_trips_and_unknown_keys_are_refused() {
        let filter =
            ConnectionFilter::from_words(&["vip=10.0.1.50", "real=web/a", "protocol=udp"]).unwrap();
        let json = serde_json::to_string(&filter).unwrap();
        assert_eq!(
            json,
            r#"{"protocol":"udp","virtual":"10.0.1.50","real":"web/a"}"#
        );
        assert_eq!(
            serde_json::from_str::<ConnectionFilter>(&json).unwrap(),
            filter
        );
        assert!(serde_json::from_str::<ConnectionFilter>(r#"{"stat":"X"}"#).is_err());
    }

    #[test]
    fn a_selection_counts_beyond_its_limit() {
        use super::super::Connections;
        let filter = ConnectionFilter::from_words(&["limit=2"]).unwrap();
        let selected = Connections::select(std::iter::repeat_n(connection(), 3), &filter);
        assert_eq!(selected.connections.len(), 2);
        assert_eq!(selected.total, 3);
        assert!(selected.truncated);
    }
}
