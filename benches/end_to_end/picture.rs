//! `docs/benchmarks.svg`: bars for the figures that matter most.

use std::path::Path;

use plotters::{
    prelude::{Color as _, IntoDrawingArea as _, RGBColor, Rectangle, SVGBackend, Text, TextStyle, WHITE},
    style::text_anchor::{HPos, Pos, VPos},
};

/// Pixels.
const WIDTH: u32 = 760;
const LINE: i32 = 26;
const LABELS: i32 = 290;
const BARS: i32 = 380;
/// The library's unit: 14 pixels.
const FONT: i32 = 17;

const OURS: RGBColor = RGBColor(31, 119, 180);
const OTHERS: RGBColor = RGBColor(170, 170, 170);

/// Bars under a heading, all of one unit.
pub(crate) struct Panel {
    /// What is shown.
    pub(crate) heading: String,
    /// Rows and their figures.
    pub(crate) bars: Vec<(String, f64)>,
    /// How a figure is written.
    pub(crate) decimals: usize,
}

/// Draws all panels, one below the other.
pub(crate) fn draw(file: &Path, panels: &[Panel]) {
    // A line for the heading of each, and one for the room below it.
    let lines: usize = panels.iter().map(|panel| panel.bars.len() + 2).sum();
    let height = u32::try_from(lines).unwrap() * LINE.unsigned_abs();
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let text = |right: bool| {
        let anchor = Pos::new(if right { HPos::Right } else { HPos::Left }, VPos::Center);
        TextStyle::from(("sans-serif", FONT)).pos(anchor)
    };
    let mut y = LINE;
    for Panel { heading, bars, decimals } in panels {
        area.draw(&Text::new(heading.as_str(), (10, y), text(false))).unwrap();
        let most = bars.iter().map(|(_, figure)| *figure).fold(f64::MIN_POSITIVE, f64::max);
        for (label, figure) in bars {
            y += LINE;
            #[expect(clippy::cast_possible_truncation, reason = "at most the width of the picture")]
            let end = LABELS + 10 + (f64::from(BARS) * figure / most) as i32;
            let colour = if label.starts_with("ours") { OURS } else { OTHERS };
            let corners = [(LABELS + 10, y - LINE / 3), (end, y + LINE / 3)];
            area.draw(&Text::new(label.as_str(), (LABELS, y), text(true))).unwrap();
            area.draw(&Rectangle::new(corners, colour.filled())).unwrap();
            area.draw(&Text::new(format!("{figure:.decimals$}"), (end + 6, y), text(false))).unwrap();
        }
        y += 2 * LINE;
    }
    area.present().unwrap();
}
