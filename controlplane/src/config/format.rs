//! The `config` crate's side: our file syntax as a [`Format`], and the layers it merges.
//!
//! The crate carries, per value, the text and where it came from; order, duplicates and the lines of a list's items
//! it cannot carry, so those are read from the located tree ([`super::ini`]), which is the same parser. Precedence:
//! default < file < environment < `--set`. Shape: kind → name (empty for `[kind]`) → key → text, because the crate
//! takes the outermost key for a path expression and section names may contain dots.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use ::config::{File, FileStoredFormat, Format, Map, Source as Layer, Value, ValueKind};

use super::ini;
use super::location::Origin;
use super::sources::Source;

/// Sluice's INI for the `config` crate. What is not a setting is the located tree's to report and is left out here.
#[derive(Clone, Debug)]
pub(crate) struct Ini {
    path: Arc<Path>,
}

impl Format for Ini {
    fn parse(
        &self,
        _: Option<&String>,
        text: &str,
    ) -> Result<Map<String, Value>, Box<dyn Error + Send + Sync>> {
        let mut settings = Settings::default();
        for section in ini::parse(text).sections {
            for entry in section.entries {
                let origin = Origin::file(&self.path, entry.line);
                settings.set(
                    &section.kind,
                    &section.name,
                    &entry.key,
                    &entry.text.lines(),
                    &origin,
                );
            }
        }
        Ok(settings.root)
    }
}

impl FileStoredFormat for Ini {
    fn file_extensions(&self) -> &'static [&'static str] {
        &["ini"]
    }
}

/// A layer made of single settings: the defaults, the environment, the `--set` arguments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    root: Map<String, Value>,
}

impl Settings {
    pub(crate) fn set(&mut self, kind: &str, name: &str, key: &str, text: &str, origin: &Origin) {
        let named = table(self.root.entry(kind.to_owned()).or_insert_with(empty));
        let Some(named) = named else { return };
        let Some(keys) = table(named.entry(name.to_owned()).or_insert_with(empty)) else {
            return;
        };
        let value = Value::new(
            Some(&origin.to_string()),
            ValueKind::String(text.to_owned()),
        );
        keys.insert(key.to_owned(), value);
    }
}

impl Layer for Settings {
    fn clone_into_box(&self) -> Box<dyn Layer + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ::config::ConfigError> {
        Ok(self.root.clone())
    }
}

/// The merged layers.
#[derive(Debug)]
pub(crate) struct Merged {
    root: Value,
}

impl Merged {
    /// Lays the files over the defaults and the overrides over the files.
    pub(crate) fn build(
        defaults: Settings,
        sources: &[Source],
        environment: Settings,
        set: Settings,
    ) -> Result<Self, ::config::ConfigError> {
        let mut builder = ::config::Config::builder().add_source(defaults);
        for source in sources {
            let format = Ini {
                path: Arc::clone(&source.path),
            };
            builder = builder.add_source(File::from_str(&source.text, format));
        }
        let merged = builder.add_source(environment).add_source(set).build()?;
        Ok(Self { root: merged.cache })
    }

    /// The text that counts, and the printed form of its origin.
    pub(crate) fn get(&self, kind: &str, name: &str, key: &str) -> Option<(&str, &str)> {
        let value = child(child(child(&self.root, kind)?, name)?, key)?;
        match &value.kind {
            ValueKind::String(text) => Some((text, value.origin().unwrap_or_default())),
            _ => None,
        }
    }
}

fn empty() -> Value {
    Value::new(None, Map::<String, Value>::new())
}

fn table(value: &mut Value) -> Option<&mut Map<String, Value>> {
    match &mut value.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    }
}

fn child<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match &value.kind {
        ValueKind::Table(table) => table.get(key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: Arc::from(Path::new(path)),
            text: text.to_owned(),
            document: ini::parse(text),
        }
    }

    #[test]
    fn later_layers_win_and_every_value_names_its_origin() {
        let mut defaults = Settings::default();
        defaults.set("global", "", "idle", "adaptive", &Origin::Default);
        defaults.set("global", "", "log", "info", &Origin::Default);
        let mut environment = Settings::default();
        environment.set(
            "global",
            "",
            "log",
            "debug",
            &Origin::Environment("SLUICE__GLOBAL__LOG".into()),
        );
        let mut set = Settings::default();
        set.set(
            "real_server",
            "a.b/c-1",
            "weight",
            "5",
            &Origin::Set("x".into()),
        );
        let files = [
            source(
                "one.ini",
                "[global]\nidle = busy\n[real_server a.b/c-1]\nweight = 3\naddress = 1.2.3.4\n",
            ),
            source("two.ini", "[real_server a.b]\nweight = 9\n"),
        ];
        let merged = Merged::build(defaults, &files, environment, set).unwrap();
        assert_eq!(
            merged.get("global", "", "idle"),
            Some(("busy", "one.ini:2"))
        );
        assert_eq!(
            merged.get("global", "", "log"),
            Some(("debug", "SLUICE__GLOBAL__LOG"))
        );
        assert_eq!(
            merged.get("real_server", "a.b/c-1", "weight"),
            Some(("5", "--set x"))
        );
        assert_eq!(
            merged.get("real_server", "a.b/c-1", "address"),
            Some(("1.2.3.4", "one.ini:5"))
        );
        assert_eq!(
            merged.get("real_server", "a.b", "weight"),
            Some(("9", "two.ini:2"))
        );
    }
}
