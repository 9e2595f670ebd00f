//! The table of a run.

use crate::figure::Figure;
use std::fmt::Write;

/// One line per figure: value, budget, whether it is kept, ratio to the baseline. An empty line parts groups.
pub(super) fn table(figures: &[Figure], baseline: &[Figure]) -> String {
    let mut text = format!(
        "{:<38} {:>14} {:<13} {:>12}  {:<4} {:>9}\n",
        "figure", "value", "unit", "budget", "kept", "baseline"
    );
    let mut group = figures.first().map(Figure::group);
    for figure in figures {
        if group.replace(figure.group()) != Some(figure.group()) {
            text.push('\n');
        }
        let kept = match (figure.budget, figure.ok) {
            (None, _) => "",
            (Some(_), true) => "yes",
            (Some(_), false) => "NO",
        };
        let ratio = baseline
            .iter()
            .find(|before| before.name == figure.name && before.value != 0.0)
            .map_or(String::new(), |before| {
                format!("x {:.2}", figure.value / before.value)
            });
        let line = format!(
            "{:<38} {:>14} {:<13} {:>12}  {kept:<4} {ratio:>9}",
            figure.name,
            number(figure.value),
            figure.unit,
            figure.budget.map(number).unwrap_or_default(),
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// A number as a person reads it: about four digits that matter, thousands apart.
pub(super) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (position, digit) in whole.char_indices() {
        if position > 0 && digit.is_ascii_digit() && (whole.len() - position) % 3 == 0 {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::judge;

    #[test]
    fn numbers_are_grouped_and_rounded() {
        assert_eq!(number(3_000_000.4), "3 000 000");
        assert_eq!(number(123.45), "123.5");
        assert_eq!(number(2.0), "2.00");
    }

    #[test]
    fn an_empty_line_parts_groups() {
        let names = [
            "pipeline.dr.v4.1k.ns",
            "pipeline.nat.v4.1k.ns",
            "pipeline.new.rr.ns",
        ];
        let figures = names.map(|name| Figure::new(name, 1.0, "ns"));
        let text = table(&figures, &[]);
        let empty: Vec<_> = text.lines().map(str::is_empty).collect();
        assert_eq!(empty, [false, false, false, true, false]);
    }

    #[test]
    fn a_line_shows_budget_judgement_and_ratio() {
        let mut figures = vec![Figure::new("pipeline.dr.v4.1k.ns", 30.0, "ns")];
        judge(&mut figures);
        let baseline = vec![Figure::new("pipeline.dr.v4.1k.ns", 60.0, "ns")];
        let text = table(&figures, &baseline);
        let words: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            words,
            [
                "pipeline.dr.v4.1k.ns",
                "30.00",
                "ns",
                "25.00",
                "NO",
                "x",
                "0.50"
            ]
        );
    }
}
