//! The files of a configuration: the main one and what its `include` lines name.
//!
//! An included file stands where the `include` is: before the first section of the including file. Patterns are
//! relative to the directory of the including file and their matches are read in alphabetical order. Invariant: a file
//! is read at most once, so a cycle ends.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::nearest;
use super::ini::{self, Document, Entry};
use super::location::Origin;
use super::report::Report;
use super::value::unquote;

/// One file that could be read.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: Arc<Path>,
    pub(crate) document: Document,
}

/// Reads the file and everything it includes, included files first.
pub(crate) fn read(path: &Path, report: &mut Report) -> Vec<Source> {
    let mut reader = Reader {
        report,
        stack: Vec::new(),
        done: Vec::new(),
        sources: Vec::new(),
    };
    reader.file(&Arc::from(path), None);
    reader.sources
}

struct Reader<'a> {
    report: &'a mut Report,
    /// The files being read, outermost first, by their real path.
    stack: Vec<PathBuf>,
    done: Vec<PathBuf>,
    sources: Vec<Source>,
}

/// No configuration is larger; a device or a core dump named by mistake is.
const MAX_SIZE: u64 = 64 << 20;

impl Reader<'_> {
    /// `from` is the `include` line that names the file.
    fn file(&mut self, path: &Arc<Path>, from: Option<&Origin>) {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        if let Some(from) = from {
            let problem = if self.stack.contains(&real) {
                Some("includes itself; expected no cycle")
            } else if self.done.contains(&real) {
                Some("is included twice; expected each file once")
            } else {
                None
            };
            if let Some(problem) = problem {
                self.report.error(
                    from,
                    None,
                    Some("include"),
                    format!("`{}` {problem}", path.display()),
                );
                return;
            }
        }
        let whole = Origin::file(path, 0);
        self.report.file(path);
        let bytes = match read_bytes(path) {
            Ok(bytes) => bytes,
            Err(reason) => {
                self.report.error(
                    from.unwrap_or(&whole),
                    None,
                    from.map(|_| "include"),
                    match from {
                        Some(_) => format!(
                            "cannot read `{}`: {reason}; expected a readable file",
                            path.display()
                        ),
                        None => format!("cannot read the file: {reason}"),
                    },
                );
                return;
            }
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let before = &error.as_bytes()[..good];
                let line = before.split(|byte| *byte == b'\n').count();
                let origin = Origin::file(path, u32::try_from(line).unwrap_or(u32::MAX));
                let byte = error.as_bytes().get(good).copied().unwrap_or_default();
                let message =
                    format!("byte 0x{byte:02x} is not valid here; expected text in UTF-8");
                self.report.error(&origin, None, None, message);
                // What is wrong with the rest is still worth saying.
                String::from_utf8_lossy(error.as_bytes()).into_owned()
            }
        };
        let document = ini::parse(&text);
        self.stack.push(real.clone());
        for entry in &document.preamble {
            self.preamble(path, entry);
        }
        self.stack.pop();
        self.done.push(real);
        self.sources.push(Source {
            path: Arc::clone(path),
            document,
        });
    }

    fn preamble(&mut self, path: &Arc<Path>, entry: &Entry) {
        let origin = Origin::file(path, entry.line);
        let number = entry.key.strip_prefix("include_").map(str::parse::<u8>);
        if entry.key != "include" && !matches!(number, Some(Ok(2..))) {
            let hint = nearest(&entry.key, ["include"]).map(|_| "; did you mean `include`?");
            let message = format!(
                "a setting before the first section; expected `include` or a [section] above it{}",
                hint.unwrap_or_default()
            );
            self.report.error(&origin, None, Some(&entry.key), message);
            return;
        }
        let text = entry.text.joined();
        for pattern in text.split(',').map(|pattern| unquote(pattern.trim())) {
            self.include(path, &origin, pattern);
        }
    }

    fn include(&mut self, path: &Path, origin: &Origin, pattern: &str) {
        if pattern.is_empty() {
            let message = "the value is missing; expected a file or a pattern such as conf.d/*.ini";
            self.report
                .error(origin, None, Some("include"), message.to_owned());
            return;
        }
        let pattern = match path.parent() {
            Some(directory) => directory.join(pattern),
            None => PathBuf::from(pattern),
        };
        if !pattern.to_string_lossy().contains(['*', '?', '[']) {
            self.file(&Arc::from(pattern), Some(origin));
            return;
        }
        let options = glob::MatchOptions {
            require_literal_leading_dot: true,
            ..glob::MatchOptions::default()
        };
        match glob::glob_with(&pattern.to_string_lossy(), options) {
            Ok(matches) => {
                for found in matches {
                    match found {
                        Ok(file) if file.is_dir() => {}
                        Ok(file) => self.file(&Arc::from(file), Some(origin)),
                        Err(error) => {
                            let message = format!("{error}; expected a readable directory");
                            self.report.error(origin, None, Some("include"), message);
                        }
                    }
                }
            }
            Err(error) => {
                let message = format!(
                    "`{}`: {}; expected a pattern such as conf.d/*.ini",
                    pattern.display(),
                    error.msg
                );
                self.report.error(origin, None, Some("include"), message);
            }
        }
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let describe = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    };
    let size = fs::metadata(path).map_err(describe)?.len();
    if size > MAX_SIZE {
        return Err(format!("it is larger than {} MB", MAX_SIZE >> 20));
    }
    fs::read(path).map_err(describe)
}
