//! The report of a run: one table, JSON, a plot, ratios to a stored baseline, the guard.

mod plot;
mod table;

use crate::figure::{self, Failure, Figure};
use std::fs;
use std::path::PathBuf;

/// How `bench report` is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Files with figures
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Figures to compare with, as ratios
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Where all figures go, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the plot goes
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Fail if an instruction count exceeds 1.25 times the baseline's
    #[arg(long, requires = "baseline")]
    guard: bool,
}

/// What the guard lets pass: `count / baseline` up to this.
const GUARD: f64 = 1.25;
const COUNTED: &str = "pipeline.instructions.";

/// Puts the figures together; false if the guard objects.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    let mut figures = Vec::new();
    for file in &options.files {
        figures.extend(figure::read(file)?);
    }
    figure::judge(&mut figures);
    let baseline = match &options.baseline {
        Some(path) => figure::read(path)?,
        None => Vec::new(),
    };
    print!("{}", table::table(&figures, &baseline));
    if let Some(path) = &options.json {
        figure::write(path, &figures)?;
    }
    if let Some(path) = &options.svg {
        fs::write(path, plot::svg(&figures)).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    if !options.guard {
        return Ok(true);
    }
    let objections = objections(&figures, &baseline);
    for objection in &objections {
        eprintln!("bench: {objection}");
    }
    Ok(objections.is_empty())
}

/// Every instruction count that has grown too much, in words.
fn objections(figures: &[Figure], baseline: &[Figure]) -> Vec<String> {
    let counted: Vec<_> = figures
        .iter()
        .filter(|f| f.name.starts_with(COUNTED))
        .collect();
    if counted.is_empty() {
        return vec!["there is no instruction count to guard".to_owned()];
    }
    let mut objections = Vec::new();
    for figure in counted {
        let Some(before) = baseline.iter().find(|b| b.name == figure.name) else {
            objections.push(format!("the baseline has no {}", figure.name));
            continue;
        };
        let ratio = figure.value / before.value;
        if ratio > GUARD || !ratio.is_finite() {
            objections.push(format!(
                "{} is {:.1}, {ratio:.2} times the baseline's {:.1}; at most {GUARD} times is allowed",
                figure.name, figure.value, before.value,
            ));
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: &[(&str, f64)]) -> Vec<Figure> {
        values
            .iter()
            .map(|(name, value)| Figure::new(format!("{COUNTED}{name}"), *value, "instructions"))
            .collect()
    }

    #[test]
    fn the_guard_objects_to_a_quarter_more_instructions_and_to_nothing_else() {
        let baseline = counts(&[("a", 200.0), ("b", 100.0)]);
        assert!(objections(&counts(&[("a", 250.0), ("b", 20.0)]), &baseline).is_empty());
        let slow = objections(&counts(&[("a", 251.0), ("b", 100.0)]), &baseline);
        assert_eq!(slow.len(), 1, "{slow:?}");
        let mut timed = counts(&[("a", 200.0)]);
        timed.push(Figure::new("pipeline.dr.v4.1k.ns", 1e9, "ns"));
        assert!(objections(&timed, &baseline).is_empty());
    }

    #[test]
    fn the_guard_does_not_pass_for_want_of_figures() {
        assert_eq!(objections(&[], &counts(&[("a", 1.0)])).len(), 1);
        assert_eq!(objections(&counts(&[("a", 1.0)]), &[]).len(), 1);
    }
}
