//! What only several settings together can show: missing keys, dangling references, conflicts, surprises.
//!
//! Works on the effective table, so overrides count. Invariant: a setting whose own value is bad has been reported and
//! takes part in no further complaint.

mod mail;
mod port;
mod scheduler;
mod script_user;
mod service;
mod virtual_route;
mod virtual_router;
mod watch;

pub(crate) use self::scheduler::MOST_SERVERS_OF_MH;

use super::diagnostic::nearest;
use super::effective::{EffectiveTable, Section, Setting};
use super::location::Origin;
use super::report::Report;
use super::value::{Type, Value};

/// Runs every cross check. `main` is the main file as a whole.
pub(crate) fn check(table: &EffectiveTable, main: &Origin, report: &mut Report) {
    if table.of("port").next().is_none() && table.of("vrrp").next().is_none() {
        let message = "no [port] section: nothing will be forwarded; expected at least one";
        report.warning(main, None, None, message.to_owned());
    }
    for section in table.sections() {
        required(section, report);
        for setting in &section.settings {
            references(table, section, setting, report);
        }
    }
    port::check(table, report);
    service::check(table, report);
    watch::check(table, report);
    virtual_router::check(table, report);
    virtual_route::check(table, report);
    mail::check(table, report);
    script_user::check(table, report);
}

/// Complaints about one section.
struct At<'a> {
    section: &'a Section,
    title: String,
}

impl<'a> At<'a> {
    fn new(section: &'a Section) -> Self {
        Self {
            section,
            title: section.title(),
        }
    }

    fn error(&self, report: &mut Report, key: &str, message: String) {
        report.error(
            self.section.origin(key),
            Some(&self.title),
            Some(key),
            message,
        );
    }

    fn warning(&self, report: &mut Report, key: &str, message: String) {
        report.warning(
            self.section.origin(key),
            Some(&self.title),
            Some(key),
            message,
        );
    }

    fn section_error(&self, report: &mut Report, message: String) {
        report.error(&self.section.origin, Some(&self.title), None, message);
    }

    fn section_warning(&self, report: &mut Report, message: String) {
        report.warning(&self.section.origin, Some(&self.title), None, message);
    }
}

fn required(section: &Section, report: &mut Report) {
    for key in section.kind.keys.iter().filter(|key| key.required) {
        if section.setting(key.name).is_none() {
            let message = format!("the key is missing; expected {}", key.value.expected());
            At::new(section).error(report, key.name, message);
        }
    }
}

/// Names in a value must be names of sections.
fn references(table: &EffectiveTable, section: &Section, setting: &Setting, report: &mut Report) {
    let (kinds, names): (&[&str], Vec<&str>) = match (setting.key.value, setting.value.as_ref()) {
        (Type::Reference(kinds), Some(Value::Text(name))) => (kinds, vec![name]),
        (Type::References(kind, words), Some(Value::Texts(names))) => {
            let names = names
                .iter()
                .map(String::as_str)
                .filter(|name| !words.contains(name));
            (&[kind][..], names.collect())
        }
        (Type::Tracked(Some(kind)), Some(Value::Tracked(tracked))) => (
            &[kind][..],
            tracked.iter().map(|(name, _)| name.as_str()).collect(),
        ),
        _ => return,
    };
    let at = At::new(section);
    for (position, name) in names.iter().enumerate() {
        if names[..position].contains(name) {
            at.error(
                report,
                &setting.name,
                format!("`{name}` is named twice; expected each once"),
            );
        }
        if kinds.iter().any(|kind| table.find(kind, name).is_some()) {
            continue;
        }
        let words = match setting.key.value {
            Type::References(_, words) => words,
            _ => &[],
        };
        let sections = kinds
            .iter()
            .flat_map(|kind| table.of(kind))
            .map(|section| section.name.as_str());
        let near = nearest(name, sections.chain(words.iter().copied()));
        let hint = near
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        let expected = setting.key.value.expected();
        at.error(
            report,
            &setting.name,
            format!("there is no `{name}`; expected {expected}{hint}"),
        );
    }
}
