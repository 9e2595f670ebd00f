//! The typed model of what is watched: `[check]`, `[bfd]`, `[track_file]`, `[track_script]`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::effective::{EffectiveTable, FromValue, Section};
use super::location::Place;
use super::words::{CheckType, Via};

/// `[check NAME]`, with what it inherits by `extends`.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckConfig {
    /// Its name.
    pub name: String,
    /// What is probed.
    pub kind: CheckType,
    /// Where the probe is sent.
    pub via: Via,
    /// From the end of a probe to the next.
    pub interval: Duration,
    /// For the whole probe.
    pub timeout: Duration,
    /// Further probes before a server is down.
    pub retries: u32,
    /// Between these.
    pub retry_delay: Duration,
    /// Successes in a row before a server is up.
    pub rise: u32,
    /// Over which the first probes are spread; `None` = the interval.
    pub warmup: Option<Duration>,
    /// Port; `None` = the real server's.
    pub port: Option<u16>,
    /// Source address.
    pub source: Option<IpAddr>,
    /// Interface to leave by.
    pub interface: Option<String>,
    /// No delay between the pages while recovering.
    pub fast_recovery: bool,
    /// Pages, in order.
    pub paths: Vec<String>,
    /// Accepted status codes of each page.
    pub statuses: Vec<Vec<(u16, u16)>>,
    /// MD5 of each page's body.
    pub digests: Vec<String>,
    /// Patterns of each page's body.
    pub matches: Vec<String>,
    /// `Host` header.
    pub host: Option<String>,
    /// `GET` or `HEAD`.
    pub method: String,
    /// Server name of TLS.
    pub tls_sni: Option<String>,
    /// Whether the certificate must be good.
    pub tls_verify: bool,
    /// SMTP greeting.
    pub helo: Option<String>,
    /// DNS name; `None` = the root.
    pub query: Option<String>,
    /// DNS record type.
    pub query_type: String,
    /// Datagram to send.
    pub payload: Option<String>,
    /// Answer to expect.
    pub expect: Option<String>,
    /// Silence is a failure.
    pub require_reply: bool,
    /// Command to run.
    pub command: Option<String>,
    /// As this user.
    pub user: Option<String>,
    /// The exit status sets the weight.
    pub dynamic_weight: bool,
    /// `[track_file]` to follow.
    pub track_file: Option<String>,
    /// `[bfd]` session to follow.
    pub bfd: Option<String>,
    /// Where the section begins.
    pub place: Place,
}

/// `[bfd NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct BfdConfig {
    /// Its name.
    pub name: String,
    /// The other end.
    pub peer: IpAddr,
    /// Own address.
    pub source: Option<IpAddr>,
    /// Required minimum receive interval.
    pub min_rx: Duration,
    /// Desired minimum transmit interval.
    pub min_tx: Duration,
    /// Missed packets before the session is down.
    pub multiplier: u8,
    /// Where the section begins.
    pub place: Place,
}

/// `[track_file NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackFileConfig {
    /// Its name.
    pub name: String,
    /// The file that holds a number.
    pub file: PathBuf,
    /// Factor of the number.
    pub weight: i32,
    /// Where the section begins.
    pub place: Place,
}

/// `[track_script NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackScriptConfig {
    /// Its name.
    pub name: String,
    /// What is run.
    pub command: String,
    /// How often.
    pub interval: Duration,
    /// For how long at most; `None` = the interval.
    pub timeout: Option<Duration>,
    /// Successes in a row before it is up.
    pub rise: u32,
    /// Failures in a row before it is down.
    pub fall: u32,
    /// Added to the priority; 0 = a failure is a fault.
    pub weight: i32,
    /// As this user.
    pub user: Option<String>,
    /// Begins as failed.
    pub init_fail: bool,
    /// Up and down swapped.
    pub reverse: bool,
    /// Where the section begins.
    pub place: Place,
}

/// A check's own settings and those it inherits, nearest first.
struct Chain<'a>(Vec<&'a Section>);

impl<'a> Chain<'a> {
    fn new(section: &'a Section, table: &'a EffectiveTable) -> Self {
        let mut chain = vec![section];
        let mut last = section;
        while let Some(next) = last
            .get::<String>("extends")
            .and_then(|name| table.find("check", &name))
        {
            if chain.iter().any(|known| known.name == next.name) {
                break;
            }
            chain.push(next);
            last = next;
        }
        Self(chain)
    }

    fn giving(&self, key: &str) -> Option<&'a Section> {
        let explicit = self.0.iter().find(|section| section.is_explicit(key));
        explicit.or(self.0.first()).copied()
    }

    fn get<T: FromValue>(&self, key: &str) -> Option<T> {
        self.giving(key)?.get(key)
    }

    fn all<T: FromValue>(&self, key: &str) -> Vec<T> {
        self.giving(key)
            .map(|section| section.all(key))
            .unwrap_or_default()
    }
}

pub(crate) fn check(section: &Section, table: &EffectiveTable) -> Option<CheckConfig> {
    let chain = Chain::new(section, table);
    Some(CheckConfig {
        name: section.name.clone(),
        kind: chain.get("type")?,
        via: chain.get("via")?,
        interval: chain.get("interval")?,
        timeout: chain.get("timeout")?,
        retries: chain.get("retries")?,
        retry_delay: chain.get("retry_delay")?,
        rise: chain.get("rise")?,
        warmup: chain.get("warmup"),
        port: chain.get("port"),
        source: chain.get("source"),
        interface: chain.get("interface"),
        fast_recovery: chain.get("fast_recovery")?,
        paths: chain.all("path"),
        statuses: chain.all("status"),
        digests: chain.all("digest"),
        matches: chain.all("match"),
        host: chain.get("host"),
        method: chain.get::<&'static str>("method")?.to_owned(),
        tls_sni: chain.get("tls_sni"),
        tls_verify: chain.get("tls_verify")?,
        helo: chain.get("helo"),
        query: chain.get("query"),
        query_type: chain.get::<&'static str>("query_type")?.to_owned(),
        payload: chain.get("payload"),
        expect: chain.get("expect"),
        require_reply: chain.get("require_reply")?,
        command: chain.get("command"),
        user: chain.get("user"),
        dynamic_weight: chain.get("dynamic_weight")?,
        track_file: chain.get("track_file"),
        bfd: chain.get("bfd"),
        place: Place(section.origin.clone()),
    })
}

pub(crate) fn bfd(section: &Section) -> Option<BfdConfig> {
    Some(BfdConfig {
        name: section.name.clone(),
        peer: section.get("peer")?,
        source: section.get("source"),
        min_rx: section.get("min_rx")?,
        min_tx: section.get("min_tx")?,
        multiplier: section.get("multiplier")?,
        place: Place(section.origin.clone()),
    })
}

pub(crate) fn track_file(section: &Section) -> Option<TrackFileConfig> {
    Some(TrackFileConfig {
        name: section.name.clone(),
        file: section.get::<String>("file")?.into(),
        weight: section.get("weight")?,
        place: Place(section.origin.clone()),
    })
}

pub(crate) fn track_script(section: &Section) -> Option<TrackScriptConfig> {
    Some(TrackScriptConfig {
        name: section.name.clone(),
        command: section.get("command")?,
        interval: section.get("interval")?,
        timeout: section.get("timeout"),
        rise: section.get("rise")?,
        fall: section.get("fall")?,
        weight: section.get("weight")?,
        user: section.get("user"),
        init_fail: section.get("init_fail")?,
        reverse: section.get("reverse")?,
        place: Place(section.origin.clone()),
    })
}
