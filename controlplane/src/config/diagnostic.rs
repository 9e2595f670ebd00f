//! What is wrong with a configuration, as values: one line each, `file:line: [section] key: what is wrong; expected …`.
//!
//! Invariant: everything is collected and reported together, in file order; nothing stops at the first problem.

use std::fmt;

use super::location::Origin;

/// One problem or surprise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where it was written.
    pub origin: Origin,
    /// The section without brackets, e.g. `virtual_server web`.
    pub section: Option<String>,
    /// The key within the section.
    pub key: Option<String>,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        match (&self.section, &self.key) {
            (Some(section), Some(key)) => write!(f, "[{section}] {key}: ")?,
            (Some(section), None) => write!(f, "[{section}]: ")?,
            (None, Some(key)) => write!(f, "{key}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.message)
    }
}

/// Everything found in one pass over a configuration. Displayed as one line per entry, warnings with `warning: ` in
/// front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// Problems; with any of these the configuration is refused as a whole.
    pub errors: Vec<Diagnostic>,
    /// Settings that will not do what their author thinks.
    pub warnings: Vec<Diagnostic>,
}

impl Diagnostics {
    /// True if the configuration may be used.
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }

    /// Orders both lists by file (in order of first appearance in `files`), then line; the rest follows.
    pub(crate) fn sort(&mut self, files: &[std::sync::Arc<std::path::Path>]) {
        let rank = |d: &Diagnostic| match &d.origin {
            Origin::File { path, line } => (
                files.iter().position(|f| f == path).unwrap_or(files.len()),
                *line,
            ),
            _ => (usize::MAX, 0),
        };
        self.errors.sort_by_key(rank);
        self.warnings.sort_by_key(rank);
        self.errors.dedup();
        self.warnings.dedup();
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(f, "{error}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The candidate nearest to a misspelt word, if one is near enough to be meant.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|&(distance, candidate)| {
            distance <= (candidate.chars().count().max(word.chars().count()) / 3).max(1)
                && distance < candidate.chars().count()
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_found_and_a_far_one_is_not() {
        assert_eq!(
            nearest("schedular", ["scheduler", "forward"]),
            Some("scheduler")
        );
        assert_eq!(nearest("wrrr", ["rr", "wrr", "wlc"]), Some("wrr"));
        assert_eq!(nearest("Idle", ["idle"]), Some("idle"));
        assert_eq!(nearest("banana", ["scheduler", "forward"]), None);
        assert_eq!(nearest("x", ["y"]), None);
    }

    #[test]
    fn alternatives_read_as_a_sentence() {
        assert_eq!(alternatives(&["a", "b", "c"]), "a, b or c");
        assert_eq!(alternatives(&["a"]), "a");
    }
}
