//! From files, environment and `--set` to the table of effective settings.
//!
//! A section no override touches has one layer above the defaults, its file: it is taken as it stands there. Only the
//! others are laid over each other by the `config` crate, for a director may have a hundred thousand sections.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::effective::{EffectiveTable, Section, Setting};
use super::format::{Merged, Settings};
use super::ini::Text;
use super::location::Origin;
use super::overrides::Override;
use super::schema::{Default, Key, Kind, Support};
use super::sources::Source;
use super::validate::{Known, Line, key_name};
use super::value::Value;

/// Lays defaults, files, environment and `--set` over each other.
pub(crate) fn effective(
    known: &[Known],
    sources: &[Source],
    (environment, environment_layer): (&[Override], Settings),
    (set, set_layer): (&[Override], Settings),
) -> Result<EffectiveTable, ::config::ConfigError> {
    let overrides: Vec<&Override> = environment.iter().chain(set).collect();
    let overridden: HashSet<(&str, &str)> = overrides
        .iter()
        .map(|found| (found.kind.name, found.section.as_str()))
        .collect();
    let is_overridden = |kind: &str, name: &str| overridden.contains(&(kind, name));
    let mut layer = Settings::default();
    for section in known
        .iter()
        .filter(|section| is_overridden(section.kind.name, &section.name))
    {
        let (kind, name) = (section.kind.name, section.name.as_str());
        for key in section.kind.keys {
            if let Some(text) = default(section, key) {
                layer.set(kind, name, key.name, &text, &Origin::Default);
            }
        }
    }
    let files = sources
        .iter()
        .map(|source| Settings::of_file(source, is_overridden));
    let merged = Merged::build(layer, files, environment_layer, set_layer)?;
    let mut defaults = Defaults::default();
    let mut sections: Vec<_> = known
        .iter()
        .map(|section| Section {
            kind: section.kind,
            name: section.name.clone(),
            origin: section.origin.clone(),
            settings: if is_overridden(section.kind.name, &section.name) {
                merged_settings(section, &merged, &overrides)
            } else {
                settings_as_written(section, defaults.of(section.kind))
            },
        })
        .collect();
    inherit_forward(&mut sections);
    Ok(EffectiveTable::new(sections))
}

/// The settings of a section that only its file and the defaults speak of.
fn settings_as_written(section: &Known, defaults: &[Option<Fallback>]) -> Vec<Setting> {
    let written = |line: &Line| Setting {
        name: line.name.clone(),
        key: line.key,
        text: Arc::clone(&line.text),
        origin: line.origin.clone(),
        value: line.value.clone(),
    };
    let mut settings = Vec::with_capacity(section.lines.len() + defaults.len());
    for (key, fallback) in section.kind.keys.iter().zip(defaults) {
        let line = section.lines.iter().find(|line| line.name == key.name);
        if let Some(line) = line {
            settings.push(written(line));
        } else if let Some(Fallback { text, value }) = fallback {
            settings.push(Setting {
                name: Cow::Borrowed(key.name),
                key,
                text: Arc::clone(text),
                origin: Origin::Default,
                value: value.clone(),
            });
        } else if let Some(text) = default(section, key) {
            settings.push(inline(key, Cow::Borrowed(key.name), &text, Origin::Default));
        }
        if key.repeats {
            let mut repeated: Vec<&Line> = section
                .lines
                .iter()
                .filter(|line| line.key.name == key.name && line.name != key.name)
                .collect();
            repeated.sort_by_key(|line| (line.name.len(), line.name.as_ref()));
            settings.extend(repeated.into_iter().map(written));
        }
    }
    settings.shrink_to_fit();
    settings
}

/// The settings of a section that an override speaks of too.
fn merged_settings(section: &Known, merged: &Merged, overrides: &[&Override]) -> Vec<Setting> {
    let of_section = || {
        let overrides = overrides.iter();
        overrides
            .filter(|found| found.kind.name == section.kind.name && found.section == section.name)
    };
    let origins: HashMap<String, Origin> = of_section()
        .map(|found| (found.origin.to_string(), found.origin.clone()))
        .collect();
    let default_origin = Origin::Default.to_string();
    let mut names: Vec<(&'static Key, Cow<'static, str>)> = Vec::new();
    for key in section.kind.keys {
        names.push((key, Cow::Borrowed(key.name)));
        let of_file = section
            .lines
            .iter()
            .filter(|line| line.key.name == key.name)
            .map(|line| line.name.as_ref());
        let of_overrides = of_section()
            .filter(|found| found.key.name == key.name)
            .map(|found| found.name.as_str());
        let mut repeated: Vec<&str> = of_file
            .chain(of_overrides)
            .filter(|name| *name != key.name)
            .collect();
        repeated.sort_by_key(|name| (name.len(), *name));
        repeated.dedup();
        names.extend(repeated.into_iter().map(|name| (key, key_name(key, name))));
    }
    let settings = names.into_iter().filter_map(|(key, name)| {
        let (text, origin) = merged.get(section.kind.name, &section.name, &name)?;
        if let Some(origin) = origins.get(origin) {
            return Some(inline(key, name, text, origin.clone()));
        }
        if origin == default_origin {
            return Some(inline(key, name, text, Origin::Default));
        }
        // The tree knows the line of every item. Where keys are repeated, which has been reported, the crate
        // may have another one than the tree.
        let line = section.lines.iter().find(|line| line.name == name)?;
        Some(Setting {
            name,
            key,
            text: Arc::clone(&line.text),
            origin: line.origin.clone(),
            value: line.value.clone(),
        })
    });
    settings.collect()
}

fn inline(key: &'static Key, name: Cow<'static, str>, text: &str, origin: Origin) -> Setting {
    let text = Arc::new(Text::inline(text));
    let value = key.value.parse(&text).ok();
    Setting {
        name,
        key,
        text,
        origin,
        value,
    }
}

/// A default that is the same in every section of a kind.
struct Fallback {
    text: Arc<Text>,
    value: Option<Value>,
}

/// By kind, and there by key, read once.
#[derive(std::default::Default)]
struct Defaults(HashMap<&'static str, Vec<Option<Fallback>>>);

impl Defaults {
    fn of(&mut self, kind: &'static Kind) -> &[Option<Fallback>] {
        self.0.entry(kind.name).or_insert_with(|| {
            let keys = kind.keys.iter();
            keys.map(|key| {
                let Default::Text(text) = key.default else {
                    return None;
                };
                let acts = acts(kind, key);
                let text = Arc::new(Text::inline(text));
                let value = key.value.parse(&text).ok();
                acts.then_some(Fallback { text, value })
            })
            .collect()
        })
    }
}

/// A feature that is not built does not act.
fn acts(kind: &Kind, key: &Key) -> bool {
    !(key.support == Support::Unbuilt && kind.built)
}

/// The text that applies if nobody sets the key.
fn default(section: &Known, key: &Key) -> Option<String> {
    if !acts(section.kind, key) {
        return None;
    }
    match key.default {
        Default::Unset | Default::FromService => None,
        Default::Text(text) => Some(text.to_owned()),
        Default::SectionName => Some(section.name.clone()),
        Default::HostName => Some(host_name()),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "sluice".to_owned()
    } else {
        name.to_owned()
    }
}

/// A real server without a setting of its own takes its service's, which may come from any layer.
fn inherit_forward(sections: &mut [Section]) {
    let services = sections
        .iter()
        .filter(|section| section.kind.name == "virtual_server");
    let services: HashMap<String, Section> = services
        .map(|service| (service.name.clone(), service.clone()))
        .collect();
    for section in sections
        .iter_mut()
        .filter(|section| section.kind.name == "real_server")
    {
        let service = section
            .name
            .split_once('/')
            .and_then(|(service, _)| services.get(service));
        for key in section
            .kind
            .keys
            .iter()
            .filter(|key| key.default == Default::FromService)
        {
            if section.setting(key.name).is_some() {
                continue;
            }
            let Some(setting) = service.and_then(|service| service.setting(key.name)) else {
                continue;
            };
            let order = |name: &str| section.kind.keys.iter().position(|key| key.name == name);
            let at = section
                .settings
                .iter()
                .position(|other| order(other.key.name) > order(key.name));
            let inherited = Setting {
                key,
                origin: Origin::Default,
                ..setting.clone()
            };
            section
                .settings
                .insert(at.unwrap_or(section.settings.len()), inherited);
        }
    }
}
