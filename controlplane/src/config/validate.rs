//! The located tree against the schema: unknown and repeated sections and keys, names, and the value of every line.
//!
//! Invariant: each line that sets something is looked at, also one that a later layer overrides.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::diagnostic::nearest;
use super::ini::{self, Entry, Text};
use super::location::Origin;
use super::report::Report;
use super::schema::{self, Default, Key, Kind, Naming, Support};
use super::sources::Source;
use super::value::Value;

/// A section that may be used, at its first occurrence.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) kind: &'static Kind,
    pub(crate) name: String,
    pub(crate) origin: Origin,
    /// The lines of the file, first occurrence of each key.
    pub(crate) lines: Vec<Line>,
}

/// A `key = value` line with a known key.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: Cow<'static, str>,
    pub(crate) key: &'static Key,
    pub(crate) origin: Origin,
    pub(crate) text: Arc<Text>,
    /// Nothing if the text is bad, which has been reported.
    pub(crate) value: Option<Value>,
}

/// A key's name in a file; borrowed unless it is a `_2`, `_3`, …
pub(crate) fn key_name(key: &'static Key, name: &str) -> Cow<'static, str> {
    if name == key.name {
        Cow::Borrowed(key.name)
    } else {
        Cow::Owned(name.to_owned())
    }
}

/// Checks all files and returns what is usable of them, in file order.
pub(crate) fn sections(sources: &[Source], report: &mut Report) -> Vec<Known> {
    let mut known: Vec<Known> = Vec::new();
    let mut seen: HashMap<(&str, String), Origin> = HashMap::new();
    for source in sources {
        for fault in &source.document.faults {
            let origin = Origin::file(&source.path, fault.line);
            report.error(
                &origin,
                fault.section.as_deref(),
                fault.key.as_deref(),
                fault.message.clone(),
            );
        }
        let faulty: HashSet<u32> = source
            .document
            .faults
            .iter()
            .map(|fault| fault.line)
            .collect();
        for section in &source.document.sections {
            let origin = Origin::file(&source.path, section.line);
            // A header that cannot be read has been reported; what it says is anyone's guess.
            let broken = faulty.contains(&section.line);
            if broken && schema::kind(&section.kind).is_none() {
                continue;
            }
            let Some(kind) = kind(section, &origin, report) else {
                continue;
            };
            let named = check_name(kind, &section.name, &origin, report);
            let title = section.title();
            if !kind.built {
                report.error(&origin, Some(&title), None, "not supported yet".to_owned());
            }
            let lines = lines(kind, section, source, &faulty, report);
            if !named {
                continue;
            }
            let identity = (kind.name, identity(kind, &section.name));
            if let Some(first) = seen.get(&identity) {
                let message =
                    format!("the section is repeated; expected it once, first at {first}");
                report.error(&origin, Some(&title), None, message);
                continue;
            }
            seen.insert(identity, origin.clone());
            known.push(Known {
                kind,
                name: section.name.clone(),
                origin,
                lines,
            });
        }
    }
    known
}

/// Addresses are the same however they are written.
fn identity(kind: &Kind, name: &str) -> String {
    match kind.naming {
        Naming::Address => name
            .parse::<std::net::IpAddr>()
            .map_or_else(|_| name.to_owned(), |ip| ip.to_string()),
        _ => name.to_owned(),
    }
}

fn kind(section: &ini::Section, origin: &Origin, report: &mut Report) -> Option<&'static Kind> {
    if let Some(kind) = schema::kind(&section.kind) {
        return Some(kind);
    }
    let title = section.title();
    let names = || schema::KINDS.iter().map(|kind| kind.name);
    let message = if section.kind.is_empty() {
        "the section has no kind; expected [kind] or [kind name]".to_owned()
    } else if let Some(near) = nearest(&section.kind, names()) {
        format!("unknown section; did you mean `{near}`?")
    } else {
        format!(
            "unknown section; expected one of {}",
            names().collect::<Vec<_>>().join(", ")
        )
    };
    report.error(origin, Some(&title), None, message);
    None
}

/// `[A-Za-z0-9_.-]{1,64}`.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn check_name(kind: &'static Kind, name: &str, origin: &Origin, report: &mut Report) -> bool {
    const LETTERS: &str = "1 to 64 of the characters A-Z a-z 0-9 _ . -";
    let title = ini::title(kind.name, name);
    let what = kind.name;
    let problem = match kind.naming {
        Naming::Single if name.is_empty() => None,
        Naming::Single => Some(format!("the section takes no name; expected [{what}]")),
        Naming::Name if name.is_empty() => {
            Some(format!("the name is missing; expected [{what} NAME]"))
        }
        Naming::Interface if name.is_empty() => {
            Some(format!("the name is missing; expected [{what} NAME]"))
        }
        Naming::Address if name.is_empty() => {
            Some(format!("the address is missing; expected [{what} ADDRESS]"))
        }
        Naming::ServiceName if name.is_empty() => Some(format!(
            "the name is missing; expected [{what} SERVICE/NAME]"
        )),
        Naming::Name if !is_name(name) => Some(format!("bad name `{name}`; expected {LETTERS}")),
        Naming::Interface if is_name(name) && name.len() > 15 => Some(format!(
            "the name has {} characters and is the kernel interface's name too; expected at most 15",
            name.len()
        )),
        Naming::Interface
            if !is_name(name) || matches!(name, "." | ".." | "all" | "default" | "lo" | "none") =>
        {
            Some(format!(
                "bad name `{name}`; expected 1 to 15 of the characters A-Z a-z 0-9 _ . -, and no name Linux \
                          keeps for itself"
            ))
        }
        Naming::Address if name.parse::<std::net::IpAddr>().is_err() => Some(format!(
            "`{name}` is not an address; expected [{what} ADDRESS]"
        )),
        Naming::ServiceName => match name.split_once('/') {
            Some((service, own)) if is_name(service) && is_name(own) => None,
            Some(_) => Some(format!(
                "bad name `{name}`; expected SERVICE/NAME, each {LETTERS}"
            )),
            None => Some(format!(
                "`{name}` names no service; expected [{what} SERVICE/NAME]"
            )),
        },
        Naming::Name if what == "check" && schema::is_check_shorthand(name) => Some(format!(
            "`{name}` is a shorthand for a check with all defaults; expected another name"
        )),
        _ => None,
    };
    let good = problem.is_none();
    if let Some(message) = problem {
        report.error(origin, Some(&title), None, message);
    }
    good
}

fn lines(
    kind: &'static Kind,
    section: &ini::Section,
    source: &Source,
    faulty: &HashSet<u32>,
    report: &mut Report,
) -> Vec<Line> {
    let title = section.title();
    let mut lines: Vec<Line> = Vec::new();
    for entry in &section.entries {
        let origin = Origin::file(&source.path, entry.line);
        warn_swallowed(kind, &title, entry, &origin, report);
        let Some(key) = kind.key(&entry.key) else {
            report.error(
                &origin,
                Some(&title),
                Some(&entry.key),
                unknown_key(kind, &entry.key),
            );
            continue;
        };
        let has_fault = entry
            .text
            .pieces
            .iter()
            .any(|(line, _)| faulty.contains(line));
        let value = if has_fault {
            None
        } else {
            value(kind, &title, &entry.key, key, &entry.text, &origin, report)
        };
        if let Some(first) = lines.iter().find(|line| line.name == entry.key) {
            let message = format!(
                "the key is repeated; expected it once, first at {}",
                first.origin
            );
            report.error(&origin, Some(&title), Some(&entry.key), message);
            continue;
        }
        lines.push(Line {
            name: key_name(key, &entry.key),
            key,
            origin,
            text: Arc::clone(&entry.text),
            value,
        });
    }
    lines
}

/// An indented line that reads like a setting or a section continues the value above, which nobody expects.
fn warn_swallowed(kind: &Kind, title: &str, entry: &Entry, origin: &Origin, report: &mut Report) {
    for (line, piece) in entry.text.pieces.iter().skip(1) {
        let looks_like = match piece.split_once('=') {
            Some((word, _)) => kind
                .key(word.trim())
                .map(|_| format!("the setting `{}`", word.trim())),
            None => None,
        };
        let looks_like = looks_like.or_else(|| {
            let inside = piece.strip_prefix('[')?.strip_suffix(']')?;
            let word = inside.split_whitespace().next()?;
            schema::kind(word).map(|_| format!("the section `{piece}`"))
        });
        if let Some(what) = looks_like {
            let message = format!(
                "this indented line continues the value above although it looks like {what}; expected it at the start \
                 of the line"
            );
            report.warning(
                &origin.at_line(*line),
                Some(title),
                Some(&entry.key),
                message,
            );
        }
    }
}

/// The message about a key the section does not have.
pub(crate) fn unknown_key(kind: &Kind, name: &str) -> String {
    if name == "include" || name.starts_with("include_") {
        return "stands in a section; expected it before the first section of the file".to_owned();
    }
    if let Some(ours) = kind.familiar(name) {
        return format!("unknown key; did you mean `{ours}`?");
    }
    if let Some(near) = nearest(name, kind.keys.iter().map(|key| key.name)) {
        return format!("unknown key; did you mean `{near}`?");
    }
    let names: Vec<_> = kind.keys.iter().map(|key| key.name).collect();
    format!("unknown key; expected one of {}", names.join(", "))
}

/// Reads one value, reporting what is wrong with it, or that its feature is not built.
pub(crate) fn value(
    kind: &Kind,
    title: &str,
    name: &str,
    key: &Key,
    text: &Text,
    origin: &Origin,
    report: &mut Report,
) -> Option<Value> {
    let value = match key.value.parse(text) {
        Ok(value) => value,
        Err(problems) => {
            for bad in problems {
                let origin = if bad.line == 0 {
                    origin.clone()
                } else {
                    origin.at_line(bad.line)
                };
                report.error(&origin, Some(title), Some(name), bad.message);
            }
            return None;
        }
    };
    // The section as a whole has been refused already.
    if kind.built
        && let Some(message) = unsupported(key, text, &value)
    {
        report.error(origin, Some(title), Some(name), message);
    }
    Some(value)
}

fn unsupported(key: &Key, text: &Text, value: &Value) -> Option<String> {
    match key.support {
        Support::Built => None,
        Support::Unbuilt => Some("not supported yet".to_owned()),
        Support::Words(words) => match value {
            Value::Word(word) if words.contains(word) => None,
            _ => {
                let expected = super::diagnostic::alternatives(words);
                Some(format!(
                    "`{}` is not supported yet; expected {expected}",
                    text.joined()
                ))
            }
        },
        Support::DefaultOnly => {
            let Default::Text(default) = key.default else {
                return None;
            };
            let same = key
                .value
                .parse(&Text::inline(default))
                .is_ok_and(|default| default == *value);
            (!same).then(|| {
                format!(
                    "`{}` is not supported yet; expected {default}, the default",
                    text.joined()
                )
            })
        }
    }
}

/// The sections that exist without being written.
pub(crate) fn add_implied(known: &mut Vec<Known>) {
    for name in ["ipvs", "timeouts", "global"] {
        if let Some(kind) = schema::kind(name)
            && !known.iter().any(|section| section.kind.name == name)
        {
            known.insert(0, implied(kind));
        }
    }
}

/// A section nobody wrote.
pub(crate) fn implied(kind: &'static Kind) -> Known {
    Known {
        kind,
        name: String::new(),
        origin: Origin::Default,
        lines: Vec::new(),
    }
}

/// The origin of a file as a whole, for problems without a line.
pub(crate) fn whole(path: &std::path::Path) -> Origin {
    Origin::file(&Arc::from(path), 0)
}
