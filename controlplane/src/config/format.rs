//! The `config` crate's side: the layers it merges.
//!
//! The crate carries, per value, the text and where it came from; order, duplicates and the lines of a list's items
//! it cannot carry, so those are read from the located tree ([`super::ini`]), which its layers are made of. Precedence:
//! default < file < environment < `--set`. Shape: kind → name (empty for `[kind]`) → key → text, because the crate
//! takes the outermost key for a path expression and section names may contain dots.

use ::config::{Map, Source as Layer, Value, ValueKind};

use super::location::Origin;
use super::sources::Source;

/// A layer made of single settings: the defaults, a file, the environment, the `--set` arguments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    root: Map<String, Value>,
}

impl Settings {
    /// The sections of a file that `wanted` chooses by kind and name.
    pub(crate) fn of_file(source: &Source, wanted: impl Fn(&str, &str) -> bool) -> Self {
        let mut settings = Self::default();
        let sections = source.document.sections.iter();
        for section in sections.filter(|section| wanted(&section.kind, &section.name)) {
            for entry in &section.entries {
                let origin = Origin::file(&source.path, entry.line);
                let text = entry.text.lines();
                settings.set(&section.kind, &section.name, &entry.key, &text, &origin);
            }
        }
        settings
    }

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
        files: impl IntoIterator<Item = Settings>,
        environment: Settings,
        set: Settings,
    ) -> Result<Self, ::config::ConfigError> {
        let mut builder = ::config::Config::builder().add_source(defaults);
        for file in files {
            builder = builder.add_source(file);
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
    use crate::config::ini;
    use std::path::Path;
    use std::sync::Arc;

    fn file(path: &str, text: &str) -> Settings {
        let source = Source {
            path: Arc::from(Path::new(path)),
            document: ini::parse(text),
        };
        Settings::of_file(&source, |_, _| true)
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
            file(
                "one.ini",
                "[global]\nidle = busy\n[real_server a.b/c-1]\nweight = 3\naddress = 1.2.3.4\n",
            ),
            file("two.ini", "[real_server a.b]\nweight = 9\n"),
        ];
        let merged = Merged::build(defaults, files, environment, set).unwrap();
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
