//! [`Table`]: figures of all rounds, shown as medians with their spread, and the ratios between them.

use std::fmt;

use super::picture::Panel;

/// A column: its heading, and how many decimals its figures are shown with.
pub(crate) type Column = (&'static str, usize);

/// Figures by row and column, each taken once a round.
pub(crate) struct Table {
    heading: String,
    columns: Vec<Column>,
    rows: Vec<(String, Vec<Vec<f64>>)>,
    ratios: Vec<(String, Vec<String>)>,
    /// What of it is drawn.
    pub(crate) panel: Option<Panel>,
}

impl Table {
    /// An empty one.
    pub(crate) fn new(heading: &str, columns: &[Column]) -> Self {
        Self {
            heading: heading.to_owned(),
            columns: columns.to_vec(),
            rows: Vec::new(),
            ratios: Vec::new(),
            panel: None,
        }
    }

    /// Adds a round's figure.
    pub(crate) fn add(&mut self, row: &str, column: &str, figure: f64) {
        let place = self.place(column);
        let at = self.rows.iter().position(|(name, _)| name == row).unwrap_or_else(|| {
            self.rows.push((row.to_owned(), vec![Vec::new(); self.columns.len()]));
            self.rows.len() - 1
        });
        self.rows[at].1[place].push(figure);
    }

    /// Notes how one row compares with another, as the median of the rounds' ratios; nothing, where one of them was not
    /// measured.
    pub(crate) fn compare(&mut self, column: &str, row: &str, with: &str) {
        let (Some(one), Some(other)) = (self.figures(row, column), self.figures(with, column)) else { return };
        let ratios: Vec<f64> = one.iter().zip(other).map(|(one, other)| one / other).collect();
        let shown = cell(&ratios, 2);
        let (median, spread) = shown.split_once(' ').map_or((&*shown, String::new()), |(m, s)| (m, format!(" {s}")));
        let ratio = format!("{row} / {with} **{median}**{spread}");
        match self.ratios.last_mut().filter(|(last, _)| last == column) {
            Some((_, ratios)) => ratios.push(ratio),
            None => self.ratios.push((column.to_owned(), vec![ratio])),
        }
    }

    /// Has some rows' medians in a column drawn, as they are or as parts of one row's.
    pub(crate) fn draw(&mut self, heading: &str, column: &str, rows: &[&str], whole: Option<&str>) {
        let whole = whole.map(|row| self.median(row, column).unwrap());
        let medians = rows.iter().filter_map(|row| Some(((*row).to_owned(), self.median(row, column)?)));
        let bars = medians.map(|(row, median)| (row, median / whole.unwrap_or(1.0))).collect();
        self.panel = Some(Panel { heading: heading.to_owned(), bars, decimals: if whole.is_some() { 2 } else { 0 } });
    }

    /// The median of what was measured, if anything was.
    pub(crate) fn median(&self, row: &str, column: &str) -> Option<f64> {
        Some(middle(&sorted(self.figures(row, column)?)))
    }

    /// What was measured, in the order of the rounds; `None`: nothing was.
    fn figures(&self, row: &str, column: &str) -> Option<&[f64]> {
        let (_, figures) = self.rows.iter().find(|(name, _)| name == row)?;
        Some(figures[self.place(column)].as_slice()).filter(|figures| !figures.is_empty())
    }

    fn place(&self, column: &str) -> usize {
        self.columns.iter().position(|(heading, _)| *heading == column).unwrap()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n", self.heading)?;
        let headings: Vec<_> = self.columns.iter().map(|(heading, _)| *heading).collect();
        writeln!(f, "| | {} |", headings.join(" | "))?;
        writeln!(f, "|---|{}", "---:|".repeat(headings.len()))?;
        for (name, figures) in &self.rows {
            let cells = figures.iter().zip(&self.columns).map(|(figures, (_, decimals))| cell(figures, *decimals));
            writeln!(f, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "))?;
        }
        if !self.ratios.is_empty() {
            writeln!(f)?;
        }
        self.ratios.iter().try_for_each(|(column, ratios)| writeln!(f, "- {column}: {}", ratios.join("; ")))
    }
}

/// Median (least–most).
fn cell(figures: &[f64], decimals: usize) -> String {
    let figures = sorted(figures);
    match figures[..] {
        [] => "–".to_owned(),
        [only] => format!("{only:.decimals$}"),
        [least, .., most] => format!("{:.decimals$} ({least:.decimals$}–{most:.decimals$})", middle(&figures)),
    }
}

fn sorted(figures: &[f64]) -> Vec<f64> {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures
}

/// NaN: there are none.
fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}
