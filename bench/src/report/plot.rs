//! The plot: for each figure in nanoseconds a bar, with its budget as a mark. Each group of figures has
//! a heading and a scale of its own: a new flow can cost fifty times an established packet.

use super::table::number;
use crate::figure::Figure;
use std::fmt::Write;

const ROW: usize = 22;
const LEFT: f64 = 250.0;
const WIDTH: f64 = 560.0;

/// A plot as SVG, readable on a light and on a dark page.
pub(super) fn svg(figures: &[Figure]) -> String {
    let bars: Vec<_> = figures.iter().filter(|f| f.unit == "ns").collect();
    let mut body = String::new();
    let mut top = 40;
    for group in bars.chunk_by(|one, other| one.group() == other.group()) {
        top += draw_group(&mut body, group, top) + ROW / 2;
    }
    let height = top + 20;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="900" height="{height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="12" y="24" font-size="15" fill="#202020">Nanoseconds per packet; the line is the budget; each group has its own scale</text>
{body}</svg>
"##
    )
}

/// Draws a heading and bars from `top` on; how high that is.
fn draw_group(text: &mut String, bars: &[&Figure], top: usize) -> usize {
    let longest = bars
        .iter()
        .flat_map(|f| [f.value, f.budget.unwrap_or(0.0)])
        .fold(1.0, f64::max);
    let heading = bars.first().map_or("", |figure| figure.group());
    let _ = writeln!(
        text,
        r##"<text x="12" y="{}" font-weight="bold" fill="#202020">{heading}</text>"##,
        top + 14
    );
    for (row, figure) in bars.iter().enumerate() {
        let top = top + (row + 1) * ROW;
        let width = figure.value.max(0.0) / longest * WIDTH;
        let colour = match (figure.budget, figure.ok) {
            (None, _) => "#8a94a6",
            (Some(_), true) => "#3b8f5a",
            (Some(_), false) => "#c0563f",
        };
        let base = top + 14;
        let name = figure.name.trim_end_matches(".ns");
        // Right of the budget's line, too, which would strike it through.
        let line = figure.budget.map(|budget| budget / longest * WIDTH);
        let end = LEFT + width.max(line.unwrap_or(0.0)) + 6.0;
        let value = number(figure.value);
        let _ = write!(
            text,
            r##"<text x="{}" y="{base}" text-anchor="end" fill="#202020">{name}</text>
<rect x="{LEFT}" y="{top}" width="{width:.1}" height="16" fill="{colour}"/>
<text x="{end:.1}" y="{base}" fill="#202020">{value}</text>
"##,
            LEFT - 8.0
        );
        if let Some(line) = line {
            let x = LEFT + line;
            let (from, to) = (top - 2, top + 18);
            let _ = writeln!(
                text,
                r##"<line x1="{x:.1}" x2="{x:.1}" y1="{from}" y2="{to}" stroke="#202020" stroke-width="2"/>"##
            );
        }
    }
    (bars.len() + 1) * ROW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_bar_and_every_budget_a_mark() {
        let mut figures = vec![
            Figure::new("pipeline.dr.v4.1k.ns", 30.0, "ns"),
            Figure::new("pipeline.dr.v6.1k.ns", 40.0, "ns"),
            Figure::new("pipeline.cps.dr", 1e6, "1/s"),
        ];
        crate::figure::judge(&mut figures);
        let text = svg(&figures);
        assert_eq!(text.matches("<rect x").count(), 2);
        assert_eq!(text.matches("<line").count(), 1);
        assert!(text.ends_with("</svg>\n"));
    }

    #[test]
    fn the_longest_bar_of_each_group_is_as_long_as_any_other() {
        let figures = [
            Figure::new("pipeline.dr.v4.1k.ns", 20.0, "ns"),
            Figure::new("pipeline.nat.v4.1k.ns", 40.0, "ns"),
            Figure::new("pipeline.new.rr.ns", 1000.0, "ns"),
        ];
        let text = svg(&figures);
        assert_eq!(text.matches(r#"width="560.0""#).count(), 2);
        assert_eq!(text.matches(r#"width="280.0""#).count(), 1);
        assert_eq!(text.matches("bold").count(), 2);
    }
}
