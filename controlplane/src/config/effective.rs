//! Every setting that applies, with its text, its parsed value and its origin: what a dump shows and what the model,
//! the cross checks and the reload comparison read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::address::{InterfaceAddress, Route, VirtualAddress};
use super::ini::{self, Text};
use super::location::Origin;
use super::netmask::PersistenceNetmask;
use super::schema::{Key, Kind};
use super::value::Value;

/// All sections in file order, `[global]`, `[timeouts]` and `[ipvs]` always present.
#[derive(Clone, Debug, Default)]
pub struct EffectiveTable {
    sections: Vec<Section>,
    /// Position by kind and name: a director may have a hundred thousand real servers.
    index: HashMap<&'static str, HashMap<String, usize>>,
}

impl EffectiveTable {
    pub(crate) fn new(sections: Vec<Section>) -> Self {
        let mut index: HashMap<&'static str, HashMap<String, usize>> = HashMap::new();
        for (position, section) in sections.iter().enumerate() {
            let names = index.entry(section.kind.name).or_default();
            names.insert(section.name.clone(), position);
        }
        Self { sections, index }
    }

    /// Every section, in file order.
    pub(crate) fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The sections of a kind, in file order.
    pub(crate) fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Section> {
        self.sections
            .iter()
            .filter(move |section| section.kind.name == kind)
    }

    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<&Section> {
        self.sections.get(*self.index.get(kind)?.get(name)?)
    }

    /// The real servers of each service by its name, in file order.
    pub(crate) fn real_servers(&self) -> HashMap<&str, Vec<&Section>> {
        let mut by_service: HashMap<&str, Vec<&Section>> = HashMap::new();
        for real in self.of("real_server") {
            if let Some((service, _)) = real.name.split_once('/') {
                by_service.entry(service).or_default().push(real);
            }
        }
        by_service
    }
}

/// One section with its settings in the order of the schema.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) kind: &'static Kind,
    pub(crate) name: String,
    /// Its header; [`Origin::Default`] if nobody wrote the section.
    pub(crate) origin: Origin,
    pub(crate) settings: Vec<Setting>,
}

/// One setting that applies.
#[derive(Clone)]
pub(crate) struct Setting {
    /// The key with its `_2`, `_3`, …
    pub(crate) name: Cow<'static, str>,
    pub(crate) key: &'static Key,
    pub(crate) text: Arc<Text>,
    pub(crate) origin: Origin,
    /// Nothing if the text is bad, which has been reported.
    pub(crate) value: Option<Value>,
}

/// Secrets are shown nowhere.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.key.secret {
            "***".to_owned()
        } else {
            self.text.joined()
        };
        write!(f, "{} = {text} ({})", self.name, self.origin)
    }
}

impl Section {
    /// What stands between the brackets.
    pub(crate) fn title(&self) -> String {
        ini::title(self.kind.name, &self.name)
    }

    pub(crate) fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.name == key)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.setting(key)?.value.as_ref()
    }

    /// True if somebody gave the key a value, good or bad.
    pub(crate) fn is_explicit(&self, key: &str) -> bool {
        self.setting(key)
            .is_some_and(|setting| setting.origin.is_explicit())
    }

    /// Where the key was set, else the section's header.
    pub(crate) fn origin(&self, key: &str) -> &Origin {
        match self.setting(key) {
            Some(setting) if setting.origin.is_explicit() => &setting.origin,
            _ => &self.origin,
        }
    }

    /// The value; nothing if it is unset, bad, or one of the words `auto`, `off`, `none` where `T` has none.
    pub(crate) fn get<T: FromValue>(&self, key: &str) -> Option<T> {
        self.value(key).and_then(T::from_value)
    }

    /// The values of `key`, `key_2`, `key_3`, … in order.
    pub(crate) fn all<T: FromValue>(&self, key: &str) -> Vec<T> {
        let repeated = self
            .settings
            .iter()
            .filter(|setting| setting.key.name == key);
        repeated
            .filter_map(|setting| setting.value.as_ref().and_then(T::from_value))
            .collect()
    }
}

/// A Rust type a [`Value`] can become.
pub(crate) trait FromValue: Sized {
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($type:ty: $pattern:pat => $result:expr),+ $(,)?) => {
        $(impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value { $pattern => $result, _ => None }
            }
        })+
    };
}

from_value! {
    bool: Value::Flag(flag) => Some(*flag),
    u8: Value::Integer(number) => Self::try_from(*number).ok(),
    u16: Value::Integer(number) => Self::try_from(*number).ok(),
    u32: Value::Integer(number) => Self::try_from(*number).ok(),
    u64: Value::Integer(number) => Self::try_from(*number).ok(),
    i32: Value::Integer(number) => Self::try_from(*number).ok(),
    Size: Value::Size(bytes) => Some(Self(*bytes)),
    Duration: Value::Duration(duration) => Some(*duration),
    String: Value::Text(text) => Some(text.clone()),
    Vec<String>: Value::Texts(texts) => Some(texts.clone()),
    Vec<u16>: Value::Numbers(numbers) => Some(numbers.clone()),
    Vec<(u16, u16)>: Value::Ranges(ranges) => Some(ranges.clone()),
    IpAddr: Value::Ip(ip) => Some(*ip),
    Vec<IpAddr>: Value::Ips(ips) => Some(ips.clone()),
    std::net::SocketAddr: Value::Socket(socket) => Some(*socket),
    (IpAddr, Option<u16>): Value::Endpoint(ip, port) => Some((*ip, *port)),
    Vec<std::net::SocketAddr>: Value::Services(services) => Some(services.clone()),
    Vec<InterfaceAddress>: Value::InterfaceAddresses(addresses) => Some(addresses.clone()),
    Vec<Route>: Value::Routes(routes) => Some(routes.clone()),
    ipnet::IpNet: Value::Prefix(net) => Some(*net),
    Vec<ipnet::IpNet>: Value::Prefixes(nets) => Some(nets.clone()),
    Vec<VirtualAddress>: Value::VirtualAddresses(addresses) => Some(addresses.clone()),
    [u8; 6]: Value::Mac(mac) => Some(*mac),
    PersistenceNetmask: Value::Netmask(masks) => Some(*masks),
    (&'static str, Option<u16>): Value::Tunnel(kind, port) => Some((kind, *port)),
    Vec<(String, Option<i32>)>: Value::Tracked(tracked) => Some(tracked.clone()),
    &'static str: Value::Word(word) => Some(*word),
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

macro_rules! from_word {
    ($($type:ident),+ $(,)?) => {
        $(impl FromValue for super::words::$type {
            fn from_value(value: &Value) -> Option<Self> {
                match value { Value::Word(word) => Self::from_name(word), _ => None }
            }
        })+
    };
}

from_word!(
    Idle,
    Transit,
    Protocol,
    Scheduler,
    Forward,
    Family,
    Serve,
    Established,
    NoServer,
    ClientAddress,
    CheckType,
    Via,
    InitialState,
    AuthType,
    CheckAddresses,
    VrrpChecksum,
    SyncPeer,
);
