//! Tables without lines: columns that are easy to read and to cut with `awk`.

use anstyle::Style;

use crate::terminal::{DIM, paint};

const GAP: &str = "   ";

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell in a style.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        let text = text.into();
        Self {
            // An empty cell would shift the columns for programs that split on blanks.
            text: if text.is_empty() {
                "-".to_owned()
            } else {
                text
            },
            style,
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

/// A header and rows.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: one cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as text.
    pub(crate) fn render(&self, colour: bool) -> String {
        let header: Vec<Cell> = self
            .header
            .iter()
            .map(|title| Cell::styled(title.to_uppercase(), DIM))
            .collect();
        let widths: Vec<usize> = (0..header.len())
            .map(|column| {
                let cells = std::iter::once(&header).chain(&self.rows);
                cells
                    .filter_map(|row| row.get(column))
                    .map(Cell::width)
                    .max()
                    .unwrap_or_default()
            })
            .collect();
        std::iter::once(&header)
            .chain(&self.rows)
            .map(|row| line(row, &widths, colour))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn line(row: &[Cell], widths: &[usize], colour: bool) -> String {
    let mut text = String::new();
    for (position, (cell, width)) in row.iter().zip(widths).enumerate() {
        text.push_str(&paint(colour, cell.style, &cell.text));
        if position + 1 < row.len() {
            text.push_str(&" ".repeat(width - cell.width()));
            text.push_str(GAP);
        }
    }
    text
}

/// Names with their values, one below the other.
pub(crate) fn pairs(pairs: &[(&str, String)], colour: bool) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{}  {value}", paint(colour, DIM, &format!("{name:width$}"))))
        .collect::<Vec<_>>()
        .join("\n")
}
