//! `--dump-config`: every effective setting as a valid file, each with a comment that says where it came from.
//!
//! Invariant: reading the dump gives the same configuration, secrets aside.

use std::fmt::Write;

use super::effective::{EffectiveTable, Section, Setting};
use super::location::Origin;
use super::schema;

/// The column of the comments, where the setting leaves room.
const COLUMN: usize = 44;

impl EffectiveTable {
    /// The table as INI text.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        // Order means something only within a kind.
        for kind in schema::KINDS {
            for section in self.of(kind.name) {
                if !text.is_empty() {
                    text.push('\n');
                }
                dump_section(section, &mut text);
            }
        }
        text
    }
}

fn dump_section(section: &Section, text: &mut String) {
    line(text, &format!("[{}]", section.title()), &section.origin);
    for setting in &section.settings {
        let shown = if setting.key.secret {
            "***".to_owned()
        } else {
            shown(setting)
        };
        line(
            text,
            format!("{} = {shown}", setting.name).trim_end(),
            &setting.origin,
        );
    }
}

/// The text on one line. Items that stood on lines of their own get the comma they may have left out.
fn shown(setting: &Setting) -> String {
    if !setting.key.value.is_list() {
        return setting.text.joined();
    }
    let mut shown = String::new();
    for (_, piece) in setting
        .text
        .pieces
        .iter()
        .filter(|(_, piece)| !piece.is_empty())
    {
        if !shown.is_empty() {
            shown.push_str(if shown.ends_with(',') || piece.starts_with("via ") {
                " "
            } else {
                ", "
            });
        }
        shown.push_str(piece);
    }
    shown
}

fn line(text: &mut String, setting: &str, origin: &Origin) {
    let _ = writeln!(text, "{setting:<COLUMN$} # {}", origin.comment());
}
