//! Collecting diagnostics while a configuration is read.

use std::path::Path;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::location::Origin;

/// Diagnostics so far, and the files in the order they were opened.
#[derive(Debug, Default)]
pub(crate) struct Report {
    files: Vec<Arc<Path>>,
    diagnostics: Diagnostics,
}

impl Report {
    pub(crate) fn file(&mut self, path: &Arc<Path>) {
        self.files.push(Arc::clone(path));
    }

    pub(crate) fn error(
        &mut self,
        origin: &Origin,
        section: Option<&str>,
        key: Option<&str>,
        message: String,
    ) {
        self.diagnostics
            .errors
            .push(diagnostic(origin, section, key, message));
    }

    pub(crate) fn warning(
        &mut self,
        origin: &Origin,
        section: Option<&str>,
        key: Option<&str>,
        message: String,
    ) {
        self.diagnostics
            .warnings
            .push(diagnostic(origin, section, key, message));
    }

    /// Everything, in file order.
    pub(crate) fn finish(mut self) -> Diagnostics {
        self.diagnostics.sort(&self.files);
        self.diagnostics
    }
}

fn diagnostic(
    origin: &Origin,
    section: Option<&str>,
    key: Option<&str>,
    message: String,
) -> Diagnostic {
    Diagnostic {
        origin: origin.clone(),
        section: section.map(str::to_owned),
        key: key.map(str::to_owned),
        message,
    }
}
