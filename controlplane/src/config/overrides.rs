//! Settings from outside the files: `SLUICE__SECTION__KEY` in the environment and `--set 'SECTION.key=value'`.
//!
//! Invariant: one that matches nothing is an error, never ignored.

use super::diagnostic::nearest;
use super::format::Settings;
use super::ini::{self, Text};
use super::location::Origin;
use super::report::Report;
use super::schema::{self, Key, Kind, Naming};
use super::validate::{self, Known, implied, unknown_key};

/// One accepted override.
#[derive(Debug)]
pub(crate) struct Override {
    pub(crate) kind: &'static Kind,
    pub(crate) section: String,
    pub(crate) name: String,
    pub(crate) key: &'static Key,
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

const PREFIX: &str = "SLUICE__";

/// Reads the variables that begin with `SLUICE__`; others are none of our business.
pub(crate) fn environment(
    variables: &[(String, String)],
    known: &mut Vec<Known>,
    report: &mut Report,
) -> (Vec<Override>, Settings) {
    let (mut overrides, mut settings) = (Vec::new(), Settings::default());
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        let origin = Origin::Environment(variable.clone());
        let (section, name) = rest.split_once("__").unwrap_or((rest, ""));
        let (section, name) = (section.to_lowercase(), name.to_lowercase());
        let allowed = || {
            schema::KINDS
                .iter()
                .filter(|kind| kind.environment)
                .map(|kind| kind.name)
        };
        let Some(kind) = schema::kind(&section).filter(|kind| kind.environment) else {
            let names: Vec<_> = allowed().map(str::to_uppercase).collect();
            let near = nearest(&section, allowed());
            let hint =
                near.map(|near| format!("; did you mean `{PREFIX}{}__…`?", near.to_uppercase()));
            let message = format!(
                "matches nothing; expected {PREFIX}SECTION__KEY with SECTION one of {}{}",
                names.join(", "),
                hint.unwrap_or_default()
            );
            report.error(&origin, None, None, message);
            continue;
        };
        if let Some(found) = accept(kind, "", &name, text, origin, known, report) {
            settings.set(found.kind.name, "", &found.name, &found.text, &found.origin);
            overrides.push(found);
        }
    }
    (overrides, settings)
}

/// Reads the `--set` arguments; of several for one key the last counts.
pub(crate) fn set(
    arguments: &[String],
    known: &mut Vec<Known>,
    report: &mut Report,
) -> (Vec<Override>, Settings) {
    let (mut overrides, mut settings) = (Vec::new(), Settings::default());
    for argument in arguments {
        let origin = Origin::Set(argument.clone());
        let parts = argument.split_once('=').and_then(|(left, text)| {
            let (section, name) = left.rsplit_once('.')?;
            Some((section.trim(), name.trim(), text.trim()))
        });
        let Some((section, name, text)) = parts else {
            let message = "matches nothing; expected 'SECTION.key=value' such as 'virtual_server web.scheduler=rr'";
            report.error(&origin, None, None, message.to_owned());
            continue;
        };
        let (word, section_name) = section.split_once([' ', '\t']).unwrap_or((section, ""));
        let section_name = section_name.trim();
        let Some(kind) = schema::kind(word) else {
            let near = nearest(word, schema::KINDS.iter().map(|kind| kind.name));
            let hint = near
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            let message =
                format!("matches nothing: unknown section; expected 'SECTION.key=value'{hint}");
            report.error(&origin, Some(section), None, message);
            continue;
        };
        if let Some(found) = accept(kind, section_name, name, text, origin, known, report) {
            settings.set(
                found.kind.name,
                &found.section,
                &found.name,
                &found.text,
                &found.origin,
            );
            overrides.push(found);
        }
    }
    (overrides, settings)
}

fn accept(
    kind: &'static Kind,
    section: &str,
    name: &str,
    text: &str,
    origin: Origin,
    known: &mut Vec<Known>,
    report: &mut Report,
) -> Option<Override> {
    let title = ini::title(kind.name, section);
    let exists = known
        .iter()
        .any(|other| other.kind.name == kind.name && other.name == section);
    if !exists {
        if kind.naming != Naming::Single || !section.is_empty() {
            let names = known
                .iter()
                .filter(|other| other.kind.name == kind.name)
                .map(|other| other.name.as_str());
            let hint = nearest(section, names)
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            let message =
                format!("matches nothing: no such section; expected one of the file's{hint}");
            report.error(&origin, Some(&title), None, message);
            return None;
        }
        if !kind.built {
            report.error(&origin, Some(&title), None, "not supported yet".to_owned());
        }
        known.push(implied(kind));
    }
    let Some(key) = kind.key(name) else {
        report.error(&origin, Some(&title), Some(name), unknown_key(kind, name));
        return None;
    };
    if text.chars().any(char::is_control) {
        let message = "control character in the value; expected plain text on one line";
        report.error(&origin, Some(&title), Some(name), message.to_owned());
        return None;
    }
    if text.matches('"').count() % 2 == 1 {
        let message = "the quote is not closed; expected a closing `\"`";
        report.error(&origin, Some(&title), Some(name), message.to_owned());
        return None;
    }
    let Some(text) = literal(text) else {
        let message = "quotes together with # or ; after a blank; expected one of the two";
        report.error(&origin, Some(&title), Some(name), message.to_owned());
        return None;
    };
    validate::value(
        kind,
        &title,
        name,
        key,
        &Text::inline(&text),
        &origin,
        report,
    )?;
    Some(Override {
        kind,
        section: section.to_owned(),
        name: name.to_owned(),
        key,
        text,
        origin,
    })
}

/// The text as it would stand in a file, if it can. There are no comments outside a file, so what would be one is
/// quoted.
fn literal(text: &str) -> Option<String> {
    let text = text.trim();
    let mut after_space = true;
    let mut comment = false;
    for c in text.chars() {
        comment |= after_space && matches!(c, '#' | ';');
        after_space = c.is_whitespace();
    }
    match (comment, text.contains('"')) {
        (true, true) => None,
        (true, false) => Some(format!("\"{text}\"")),
        (false, _) => Some(text.to_owned()),
    }
}
