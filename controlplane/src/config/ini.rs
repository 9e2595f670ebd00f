//! Text to tree: the file syntax of the configuration, keeping order, duplicates and line numbers.
//!
//! `#` and `;` start a comment at the beginning of a line or after white space, not inside `"…"`; a backslash is an
//! ordinary character; an indented line continues the value above. Values stay raw here (quotes included): what a
//! quote means depends on the type of the value. Invariant: never fails and never panics; what cannot be read becomes a
//! [`Fault`] and the rest is still read.

use std::sync::Arc;

/// A file's content, in file order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Document {
    /// `key = value` lines before the first section.
    pub(crate) preamble: Vec<Entry>,
    pub(crate) sections: Vec<Section>,
    pub(crate) faults: Vec<Fault>,
}

/// A section with everything up to the next header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) kind: String,
    /// Empty for `[kind]`.
    pub(crate) name: String,
    pub(crate) line: u32,
    pub(crate) entries: Vec<Entry>,
}

impl Section {
    /// What stands between the brackets.
    pub(crate) fn title(&self) -> String {
        title(&self.kind, &self.name)
    }
}

/// `kind` or `kind name`.
pub(crate) fn title(kind: &str, name: &str) -> String {
    if name.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind} {name}")
    }
}

/// One `key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: u32,
    /// Shared with everything that is made of it.
    pub(crate) text: Arc<Text>,
}

/// A raw value: its first line and its continuation lines, comments removed, trimmed, with their line numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) pieces: Vec<(u32, String)>,
}

impl Text {
    /// A value that does not come from a file.
    pub(crate) fn inline(text: &str) -> Self {
        Self {
            pieces: vec![(0, text.to_owned())],
        }
    }

    /// The pieces on one line, separated by single spaces.
    pub(crate) fn joined(&self) -> String {
        let pieces = self.pieces.iter().map(|(_, piece)| piece.as_str());
        pieces
            .filter(|piece| !piece.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The pieces separated by line feeds, for carrying the value as one string.
    pub(crate) fn lines(&self) -> String {
        let pieces = self.pieces.iter().map(|(_, piece)| piece.as_str());
        pieces.collect::<Vec<_>>().join("\n")
    }
}

/// Something that is not a comment, a section or a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: u32,
    /// The section it stands in, without brackets.
    pub(crate) section: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) message: String,
}

/// Reads a file's text. A byte order mark and CRLF are accepted.
pub(crate) fn parse(text: &str) -> Document {
    let mut parser = Parser::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.split('\n').enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        parser.line(number, line.strip_suffix('\r').unwrap_or(line));
    }
    parser.document
}

#[derive(Default)]
struct Parser {
    document: Document,
    /// An indented line has something to continue.
    open: bool,
    /// The last line was refused: its continuation lines belong to it and are not reported again.
    refused: bool,
}

impl Parser {
    fn line(&mut self, number: u32, line: &str) {
        let (content, balanced) = strip_comment(line);
        let trimmed = content.trim();
        if trimmed.is_empty() {
            return;
        }
        let indented = line.starts_with([' ', '\t']);
        if indented && self.refused {
            return;
        }
        self.refused = false;
        if let Some(control) = trimmed.chars().find(|c| c.is_control() && *c != '\t') {
            let code = u32::from(control);
            self.fault(
                number,
                None,
                format!("control character 0x{code:02x}; expected plain text"),
            );
        } else if indented {
            self.continuation(number, trimmed, balanced);
        } else if let Some(header) = trimmed.strip_prefix('[') {
            self.header(number, header);
        } else {
            self.setting(number, trimmed, balanced);
        }
    }

    fn continuation(&mut self, number: u32, text: &str, balanced: bool) {
        if !self.open {
            let message = "an indented line continues the value above, and there is none; expected \
                           `key = value` at the start of the line";
            self.fault(number, None, message.to_owned());
            return;
        }
        let entries = match self.document.sections.last_mut() {
            Some(section) => &mut section.entries,
            None => &mut self.document.preamble,
        };
        let Some(entry) = entries.last_mut() else {
            return;
        };
        Arc::make_mut(&mut entry.text)
            .pieces
            .push((number, text.to_owned()));
        if !balanced {
            let key = entry.key.clone();
            self.fault(number, Some(key), UNBALANCED.to_owned());
        }
    }

    fn header(&mut self, number: u32, header: &str) {
        self.open = false;
        let (inside, rest) = header.split_once(']').unwrap_or((header, ""));
        let rest = rest.trim();
        // Whatever follows a broken header must not be taken for settings of the section before.
        self.begin(number, inside);
        if !header.contains(']') {
            let message = "the header has no closing bracket; expected `[kind]` or `[kind name]`";
            self.fault(number, None, message.to_owned());
        } else if !rest.is_empty() {
            let message =
                format!("`{rest}` after the header; expected nothing but a comment there");
            self.fault(number, None, message);
        }
    }

    fn begin(&mut self, number: u32, inside: &str) {
        let inside = inside.trim();
        let (kind, name) = inside.split_once([' ', '\t']).unwrap_or((inside, ""));
        self.document.sections.push(Section {
            kind: kind.to_owned(),
            name: name.trim().to_owned(),
            line: number,
            entries: Vec::new(),
        });
    }

    fn setting(&mut self, number: u32, text: &str, balanced: bool) {
        let Some((key, value)) = text.split_once('=') else {
            self.open = false;
            self.refused = true;
            let shown: String = text.chars().take(60).collect();
            self.fault(
                number,
                None,
                format!("`{shown}` is not a setting; expected `key = value` or `[section]`"),
            );
            return;
        };
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() {
            self.open = false;
            self.refused = true;
            self.fault(
                number,
                None,
                "no key before `=`; expected `key = value`".to_owned(),
            );
            return;
        }
        let entry = Entry {
            key: key.to_owned(),
            line: number,
            text: Arc::new(Text {
                pieces: vec![(number, value.to_owned())],
            }),
        };
        match self.document.sections.last_mut() {
            Some(section) => section.entries.push(entry),
            None => self.document.preamble.push(entry),
        }
        self.open = true;
        if !balanced {
            self.fault(number, Some(key.to_owned()), UNBALANCED.to_owned());
        }
    }

    fn fault(&mut self, line: u32, key: Option<String>, message: String) {
        let section = self.document.sections.last().map(Section::title);
        self.document.faults.push(Fault {
            line,
            section: section.filter(|title| !title.is_empty()),
            key,
            message,
        });
    }
}

const UNBALANCED: &str = "the quote is not closed on this line; expected a closing `\"`";

/// The line without its comment, and whether its quotes are balanced.
fn strip_comment(line: &str) -> (&str, bool) {
    let mut quoted = false;
    let mut after_space = true;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' | ';' if after_space && !quoted => return (&line[..at], true),
            _ => {}
        }
        after_space = c.is_whitespace();
    }
    (line, !quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_value(text: &str) -> String {
        let document = parse(text);
        assert_eq!(document.faults, []);
        document.sections[0].entries[0].text.joined()
    }

    #[test]
    fn comments_start_after_white_space_and_not_inside_quotes() {
        assert_eq!(only_value("[a]\nk = v # c"), "v");
        assert_eq!(only_value("[a]\nk = v ; c"), "v");
        assert_eq!(only_value("[a]\nk = v#c;d"), "v#c;d");
        assert_eq!(only_value("[a]\nk = \"v # c\" # d"), "\"v # c\"");
        assert_eq!(only_value("# x\n; y\n[a] # z\nk=v\\n"), "v\\n");
    }

    #[test]
    fn bom_and_crlf_are_accepted() {
        assert_eq!(only_value("\u{feff}[a]\r\nk = v\r\n"), "v");
    }

    #[test]
    fn indented_lines_continue_the_value_and_keep_their_line_numbers() {
        let document = parse("[a]\nk = 1,\n  # note\n\n  2, # two\n\t3\nl = 4\n");
        assert_eq!(document.faults, []);
        let pieces = &document.sections[0].entries[0].text.pieces;
        assert_eq!(
            *pieces,
            [(2, "1,".into()), (5, "2,".into()), (6, "3".into())]
        );
        assert_eq!(document.sections[0].entries[1].key, "l");
    }

    #[test]
    fn order_and_duplicates_are_kept() {
        let document = parse("[b x]\nk = 1\nk = 2\n[a]\n[b   x ]\n");
        let titles: Vec<_> = document.sections.iter().map(Section::title).collect();
        assert_eq!(titles, ["b x", "a", "b x"]);
        assert_eq!(document.sections[0].entries.len(), 2);
        assert_eq!(document.sections[2].line, 5);
    }

    #[test]
    fn what_cannot_be_read_is_a_fault_and_the_rest_is_read() {
        let document =
            parse("[a\nk = 1\nnonsense\n  more\n= 2\n[b] x\n  indented = 1\nk = \"open\n");
        let faults: Vec<_> = document.faults.iter().map(|fault| fault.line).collect();
        assert_eq!(faults, [1, 3, 5, 6, 7, 8]);
        assert_eq!(document.sections.len(), 2);
        assert_eq!(document.sections[1].entries.len(), 1);
    }
}
