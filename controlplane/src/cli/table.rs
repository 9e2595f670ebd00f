//! Aligned columns of text.

use std::fmt::Write as _;

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A table under construction.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(super) fn new(headings: &[(&str, Align)]) -> Self {
        Self {
            columns: headings.iter().map(|(_, align)| *align).collect(),
            rows: vec![headings.iter().map(|(text, _)| (*text).into()).collect()],
        }
    }

    /// Adds a row; cells beyond the last heading are dropped, missing ones are empty.
    pub(super) fn push(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    /// The text, each line ended, `indent` spaces before each; columns nobody filled are left out.
    pub(super) fn render(&self, indent: usize) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let filled = |row: &Vec<String>| row.get(column).is_some_and(|c| !c.is_empty());
                if !self.rows.iter().skip(1).any(filled) {
                    return 0;
                }
                let width = |row: &Vec<String>| row.get(column).map_or(0, |c| c.chars().count());
                self.rows.iter().map(width).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(indent);
            let mut first = true;
            for ((cell, align), &width) in row.iter().zip(&self.columns).zip(&widths) {
                if width == 0 {
                    continue;
                }
                if !std::mem::take(&mut first) {
                    line.push_str("  ");
                }
                let _ = match align {
                    Align::Left => write!(line, "{cell:<width$}"),
                    Align::Right => write!(line, "{cell:>width$}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_empty_ones_vanish() {
        let mut table = Table::new(&[
            ("name", Align::Left),
            ("empty", Align::Left),
            ("n", Align::Right),
        ]);
        table.push(["a".into(), String::new(), "1".into()]);
        table.push(["long name".into(), String::new(), "1000".into()]);
        assert_eq!(
            table.render(1),
            " name          n\n a             1\n long name  1000\n"
        );
    }
}
