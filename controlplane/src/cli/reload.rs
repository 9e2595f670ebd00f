//! `sluice reload` for people.

use crate::admin::api::ReloadReport;

/// What changed.
pub(super) fn render(report: &ReloadReport) -> String {
    format!("{}\n{}", report.message, lines("  ", &report.changes))
}

/// The surprises, for standard error.
pub(super) fn render_warnings(report: &ReloadReport) -> String {
    lines("warning: ", &report.warnings)
}

/// Why nothing changed, for standard error.
pub(super) fn render_refusal(report: &ReloadReport) -> String {
    format!(
        "{}{}sluice: {}\n",
        lines("", &report.errors),
        render_warnings(report),
        report.message
    )
}

fn lines(before: &str, lines: &[String]) -> String {
    lines.iter().flat_map(|line| [before, line, "\n"]).collect()
}
