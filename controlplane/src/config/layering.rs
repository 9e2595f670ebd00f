//! From files, environment and `--set` to the table of effective settings.

use std::collections::HashMap;

use super::effective::{EffectiveTable, Section, Setting};
use super::format::{Merged, Settings};
use super::ini::Text;
use super::location::Origin;
use super::overrides::Override;
use super::schema::{Default, Key, Support};
use super::sources::Source;
use super::validate::Known;

/// Lays defaults, files, environment and `--set` over each other.
pub(crate) fn effective(
    known: &[Known],
    sources: &[Source],
    (environment, environment_layer): (&[Override], Settings),
    (set, set_layer): (&[Override], Settings),
) -> Result<EffectiveTable, ::config::ConfigError> {
    let mut defaults = Settings::default();
    for section in known {
        for key in section.kind.keys {
            if let Some(text) = default(section, key) {
                defaults.set(
                    section.kind.name,
                    &section.name,
                    key.name,
                    &text,
                    &Origin::Default,
                );
            }
        }
    }
    let merged = Merged::build(defaults, sources, environment_layer, set_layer)?;
    let overrides = || environment.iter().chain(set);
    let mut origins: HashMap<String, Origin> = HashMap::new();
    for found in overrides() {
        origins.insert(found.origin.to_string(), found.origin.clone());
    }
    let default_origin = Origin::Default.to_string();
    let mut sections = Vec::with_capacity(known.len());
    for section in known {
        let mut names: Vec<(&'static Key, String)> = Vec::new();
        for key in section.kind.keys {
            names.push((key, key.name.to_owned()));
            let of_file = section
                .lines
                .iter()
                .filter(|line| line.key.name == key.name)
                .map(|line| &line.name);
            let of_overrides = overrides()
                .filter(|found| {
                    found.kind.name == section.kind.name && found.section == section.name
                })
                .filter(|found| found.key.name == key.name)
                .map(|found| &found.name);
            let mut repeated: Vec<String> = of_file
                .chain(of_overrides)
                .filter(|name| **name != key.name)
                .cloned()
                .collect();
            repeated.sort_by_key(|name| (name.len(), name.clone()));
            repeated.dedup();
            names.extend(repeated.into_iter().map(|name| (key, name)));
        }
        let settings = names.into_iter().filter_map(|(key, name)| {
            let (text, origin) = merged.get(section.kind.name, &section.name, &name)?;
            let (text, origin) = if let Some(origin) = origins.get(origin) {
                (Text::inline(text), origin.clone())
            } else if origin == default_origin {
                (Text::inline(text), Origin::Default)
            } else {
                // The tree knows the line of every item. Where keys are repeated, which has been reported, the crate
                // may have another one than the tree.
                let line = section.lines.iter().find(|line| line.name == name)?;
                (line.text.clone(), line.origin.clone())
            };
            let value = key.value.parse(&text).ok();
            Some(Setting {
                name,
                key,
                text,
                origin,
                value,
            })
        });
        sections.push(Section {
            kind: section.kind,
            name: section.name.clone(),
            origin: section.origin.clone(),
            settings: settings.collect(),
        });
    }
    inherit_forward(&mut sections);
    Ok(EffectiveTable::new(sections))
}

/// The text that applies if nobody sets the key. A feature that is not built has none: it does not act.
fn default(section: &Known, key: &Key) -> Option<String> {
    if key.support == Support::Unbuilt && section.kind.built {
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
