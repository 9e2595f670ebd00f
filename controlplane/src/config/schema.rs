//! The one table of sections and keys: name, type, default, whether it is built, whether a reload may change it.
//!
//! Everything else (validation, layering, dump, reload) walks this table. A later issue makes a feature available by
//! flipping the key's [`Support`] or the section's `built`.

mod check;
mod director;
mod service;
mod vrrp;

use super::value::Type;

/// How sections of a kind are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// `[kind]`: at most one.
    Single,
    /// `[kind NAME]`.
    Name,
    /// `[kind NAME]` where the name is also an interface's: at most 15 characters.
    Interface,
    /// `[kind ADDRESS]`.
    Address,
    /// `[kind SERVICE/NAME]`.
    ServiceName,
}

/// A kind of section.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) naming: Naming,
    pub(crate) built: bool,
    /// May be overridden by `SLUICE__KIND__KEY`.
    pub(crate) environment: bool,
    pub(crate) keys: &'static [Key],
}

/// Whether a feature exists yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    Built,
    /// Only these words; the others are valid but refused as not supported yet.
    Words(&'static [&'static str]),
    /// Only the default, which changes nothing.
    DefaultOnly,
    Unbuilt,
}

/// What applies if a key is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Default {
    /// Nothing: the feature is off, or the key is required (see [`Key::required`]).
    Unset,
    Text(&'static str),
    /// The host's name.
    HostName,
    /// The section's own name.
    SectionName,
    /// The key of the same name in the real server's virtual server.
    FromService,
}

/// Whether key `key` of sections of kind `section` may be given the word `word`: what is valid but not
/// built yet may not. For what asks for the same features by another way than the file.
pub(crate) fn is_built(section: &str, key: &str, word: &str) -> bool {
    let keys = kind(section).map_or(&[][..], |kind| kind.keys);
    keys.iter()
        .find(|known| known.name == key)
        .is_some_and(|known| match known.support {
            Support::Built => true,
            Support::Words(words) => words.contains(&word),
            Support::DefaultOnly => matches!(known.default, Default::Text(text) if text == word),
            Support::Unbuilt => false,
        })
}

/// A key of a section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) value: Type,
    pub(crate) default: Default,
    pub(crate) support: Support,
    /// May be repeated as `name_2`, `name_3`, …
    pub(crate) repeats: bool,
    pub(crate) required: bool,
    /// Shown as `***`.
    pub(crate) secret: bool,
    /// A change needs a restart.
    pub(crate) restart: bool,
}

/// An optional, built key without default.
const fn key(name: &'static str, value: Type) -> Key {
    Key {
        name,
        value,
        default: Default::Unset,
        support: Support::Built,
        repeats: false,
        required: false,
        secret: false,
        restart: false,
    }
}

impl Key {
    const fn default(self, text: &'static str) -> Self {
        self.fallback(Default::Text(text))
    }

    const fn fallback(self, default: Default) -> Self {
        Self { default, ..self }
    }

    const fn later(self) -> Self {
        Self {
            support: Support::Unbuilt,
            ..self
        }
    }

    const fn default_only(self) -> Self {
        Self {
            support: Support::DefaultOnly,
            ..self
        }
    }

    const fn only(self, words: &'static [&'static str]) -> Self {
        Self {
            support: Support::Words(words),
            ..self
        }
    }

    const fn repeats(self) -> Self {
        Self {
            repeats: true,
            ..self
        }
    }

    const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    const fn secret(self) -> Self {
        Self {
            secret: true,
            ..self
        }
    }

    const fn restart(self) -> Self {
        Self {
            restart: true,
            ..self
        }
    }
}

/// The highest suffix of a repeated key.
const MAX_REPEAT: u32 = 64;

impl Kind {
    /// The key of a name, `_2`, `_3` … included.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        if let Some(key) = self.keys.iter().find(|key| key.name == name) {
            return Some(key);
        }
        let (base, suffix) = name.rsplit_once('_')?;
        let key = self
            .keys
            .iter()
            .find(|key| key.repeats && key.name == base)?;
        let plain = !suffix.starts_with('0') && suffix.bytes().all(|b| b.is_ascii_digit());
        let number: u32 = plain.then(|| suffix.parse().ok())??;
        (2..=MAX_REPEAT).contains(&number).then_some(key)
    }

    /// The name an operator used elsewhere (keepalived, ipvsadm) for one of our keys.
    pub(crate) fn familiar(&self, word: &str) -> Option<&'static str> {
        let (_, ours) = FAMILIAR
            .iter()
            .find(|(theirs, ours)| *theirs == word && self.key(ours).is_some())?;
        Some(ours)
    }
}

/// Words of keepalived and ipvsadm, and ours for them.
const FAMILIAR: &[(&str, &str)] = &[
    ("lb_algo", "scheduler"),
    ("lvs_sched", "scheduler"),
    ("lb_kind", "forward"),
    ("lvs_method", "forward"),
    ("persistence_timeout", "persistence"),
    ("persistence_granularity", "persistence_netmask"),
    ("uthreshold", "upper_threshold"),
    ("lthreshold", "lower_threshold"),
    ("flags", "scheduler_flags"),
    ("ops", "one_packet"),
    ("port", "addresses"),
    ("ip", "address"),
    ("address", "addresses"),
    ("vip", "addresses"),
    ("virtual_ipaddress", "addresses"),
    ("virtual_ipaddress_excluded", "excluded_addresses"),
    ("virtual_routes", "routes"),
    ("advert_int", "advert_interval"),
    ("delay_loop", "interval"),
    ("connect_timeout", "timeout"),
    ("retry", "retries"),
    ("nb_get_retry", "retries"),
    ("delay_before_retry", "retry_delay"),
    ("tcp_established", "tcp"),
    ("tcp_fin_wait", "tcp_fin"),
    ("tcpfin", "tcp_fin"),
    ("workers", "worker_cores"),
    ("track_interface", "track_interfaces"),
    ("track_script", "track_scripts"),
    ("unicast_peer", "unicast_peers"),
    ("unicast_src_ip", "source"),
];

/// Every kind of section, in the order of a dump.
pub(crate) static KINDS: &[&Kind] = &[
    &director::GLOBAL,
    &director::TIMEOUTS,
    &director::IPVS,
    &director::PORT,
    &director::VLAN,
    &director::NEIGHBOR,
    &service::MARK,
    &service::VIRTUAL_SERVER,
    &service::REAL_SERVER,
    &check::CHECK,
    &check::BFD,
    &check::TRACK_FILE,
    &check::TRACK_SCRIPT,
    &vrrp::VRRP,
    &vrrp::VRRP_GROUP,
    &vrrp::SYNC,
];

/// True for a word that stands for a check without a section.
pub(crate) fn is_check_shorthand(word: &str) -> bool {
    service::CHECK_SHORTHANDS.contains(&word)
}

/// The kind of a name.
pub(crate) fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ini::Text;

    #[test]
    fn what_is_built_is_known_by_key_and_word() {
        assert!(is_built("virtual_server", "scheduler", "rr"));
        assert!(is_built("virtual_server", "forward", "nat"));
        assert!(!is_built("virtual_server", "forward", "fullnat"));
        assert!(!is_built("virtual_server", "announce", "lo"));
        assert!(!is_built("virtual_server", "no_such_key", "1"));
        assert!(!is_built("no_such_section", "scheduler", "rr"));
    }

    #[test]
    fn every_default_is_a_valid_value_of_its_key() {
        for kind in KINDS {
            for key in kind.keys {
                if let Default::Text(text) = key.default {
                    let value = key.value.parse(&Text::inline(text));
                    assert!(value.is_ok(), "[{}] {}: {value:?}", kind.name, key.name);
                }
            }
        }
    }

    #[test]
    fn key_names_are_unique_lower_case_and_never_look_repeated() {
        for kind in KINDS {
            for (at, key) in kind.keys.iter().enumerate() {
                assert!(
                    kind.keys[..at].iter().all(|other| other.name != key.name),
                    "{}",
                    key.name
                );
                assert_eq!(key.name, key.name.to_lowercase());
            }
        }
    }

    #[test]
    fn repeated_keys_count_from_two() {
        let port = kind("port").unwrap();
        assert_eq!(port.key("device_2").unwrap().name, "device");
        for bad in [
            "device_1",
            "device_0",
            "device_02",
            "device_",
            "device_x",
            "device_65",
            "mtu_2",
            "device_+2",
        ] {
            assert!(port.key(bad).is_none(), "{bad}");
        }
    }
}
