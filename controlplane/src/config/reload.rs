//! What a reload changes, and whether it may: the table "What a reload does" of the configuration reference.
//!
//! Invariant: all or nothing. One change that needs a restart refuses the whole reload.

use std::fmt;

use super::Loaded;
use super::effective::{Section, Setting};
use super::location::Origin;

/// A change that the running process cannot make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedsRestart {
    /// Where the new value stands, or the old one if there is none any more.
    pub origin: Origin,
    /// The section without brackets.
    pub section: String,
    /// The key; nothing if the whole section came or went.
    pub key: Option<String>,
    /// What changed.
    pub change: String,
}

impl fmt::Display for NeedsRestart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: [{}]", self.origin, self.section)?;
        if let Some(key) = &self.key {
            write!(f, " {key}")?;
        }
        write!(f, ": needs a restart: {}", self.change)
    }
}

/// One change a reload makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Kind of the section, e.g. `virtual_server`.
    pub kind: &'static str,
    /// Name of the section; empty for `[global]` and the like.
    pub name: String,
    /// What happened to it.
    pub what: What,
}

/// What happened to a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// A key has another value.
    Key {
        /// The key.
        key: String,
        /// The old text, if any.
        before: Option<String>,
        /// The new text, if any.
        after: Option<String>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = super::ini::title(self.kind, &self.name);
        match &self.what {
            What::Added => write!(f, "[{title}] added"),
            What::Removed => write!(f, "[{title}] removed"),
            What::Key { key, before, after } => {
                let show =
                    |text: &Option<String>| text.clone().unwrap_or_else(|| "not set".to_owned());
                write!(f, "[{title}] {key}: {} -> {}", show(before), show(after))
            }
        }
    }
}

/// Everything a reload changes, in the order of the old file, additions last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The changes.
    pub list: Vec<Change>,
}

impl Changes {
    /// True if nothing changes.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// True if a section of this kind changed, came or went.
    pub fn touches(&self, kind: &str) -> bool {
        self.list.iter().any(|change| change.kind == kind)
    }

    /// True if this key changed in some section of the kind.
    pub fn touches_key(&self, kind: &str, name: &str) -> bool {
        self.list.iter().any(|change| {
            change.kind == kind && matches!(&change.what, What::Key { key, .. } if key == name)
        })
    }
}

/// Compares the running configuration with a new one.
pub fn compare(old: &Loaded, new: &Loaded) -> Result<Changes, Vec<NeedsRestart>> {
    let mut comparison = Comparison::default();
    let (old, new) = (&old.effective, &new.effective);
    for section in old.sections() {
        match new.find(section.kind.name, &section.name) {
            Some(other) => comparison.section(section, other),
            None => comparison.whole(section, What::Removed),
        }
    }
    for section in new.sections() {
        if old.find(section.kind.name, &section.name).is_none() {
            comparison.whole(section, What::Added);
        }
    }
    if comparison.refused.is_empty() {
        Ok(comparison.changes)
    } else {
        Err(comparison.refused)
    }
}

#[derive(Default)]
struct Comparison {
    changes: Changes,
    refused: Vec<NeedsRestart>,
}

impl Comparison {
    /// A section that came or went. Its devices cannot.
    fn whole(&mut self, section: &Section, what: What) {
        if section.kind.name == "port" {
            self.refused.push(NeedsRestart {
                origin: section.origin.clone(),
                section: section.title(),
                key: None,
                change: if what == What::Added {
                    "a new port"
                } else {
                    "the port is gone"
                }
                .to_owned(),
            });
        }
        self.changes.list.push(Change {
            kind: section.kind.name,
            name: section.name.clone(),
            what,
        });
    }

    fn section(&mut self, old: &Section, new: &Section) {
        for setting in &old.settings {
            let other = new.setting(&setting.name);
            if !other.is_some_and(|other| other.value == setting.value) {
                self.key(new, setting, Some(setting), other);
            }
        }
        for setting in &new.settings {
            if old.setting(&setting.name).is_none() {
                self.key(new, setting, None, Some(setting));
            }
        }
    }

    fn key(
        &mut self,
        section: &Section,
        setting: &Setting,
        before: Option<&Setting>,
        after: Option<&Setting>,
    ) {
        let text = |setting: Option<&Setting>| {
            setting.map(|setting| {
                if setting.key.secret {
                    "***".to_owned()
                } else {
                    setting.text.joined()
                }
            })
        };
        let (before, after_text) = (text(before), text(after));
        if setting.key.restart {
            let show = |text: &Option<String>| match text.as_deref() {
                None | Some("") => "nothing".to_owned(),
                Some(text) => format!("`{text}`"),
            };
            let origin = match after {
                Some(after) if after.origin.is_explicit() => after.origin.clone(),
                _ if setting.origin.is_explicit() => setting.origin.clone(),
                _ => section.origin.clone(),
            };
            self.refused.push(NeedsRestart {
                origin,
                section: section.title(),
                key: Some(setting.name.to_string()),
                change: format!(
                    "{} is running, {} is wanted",
                    show(&before),
                    show(&after_text)
                ),
            });
        }
        self.changes.list.push(Change {
            kind: section.kind.name,
            name: section.name.clone(),
            what: What::Key {
                key: setting.name.to_string(),
                before,
                after: after_text,
            },
        });
    }
}
