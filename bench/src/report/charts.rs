//! The charts: bars in clusters on a logarithmic scale, one colour a peer, whiskers from the least to
//! the most.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::compare::stats::{Spread, short};

/// One chart.
pub struct Chart<'a> {
    /// Its headline.
    pub title: &'a str,
    /// What the axis counts.
    pub unit: &'a str,
    /// Everyone in the report, so that colours are the same in all charts.
    pub all: &'a [String],
    /// Whose bars are in this chart, by place in `all`.
    pub shown: Vec<usize>,
    /// A label, and a bar or none for each of those.
    pub clusters: Vec<(String, Vec<Option<Spread>>)>,
}

const SIZE: (u32, u32) = (1000, 420);
const GVT: [RGBColor; 4] =
    [RGBColor(214, 73, 34), RGBColor(240, 140, 60), RGBColor(160, 40, 60), RGBColor(250, 180, 90)];
const OTHERS: [RGBColor; 6] = [
    RGBColor(52, 119, 178),
    RGBColor(84, 160, 112),
    RGBColor(134, 108, 176),
    RGBColor(120, 170, 200),
    RGBColor(130, 130, 130),
    RGBColor(190, 190, 190),
];

type Fault = Box<dyn std::error::Error>;

/// The colour of peer number `index`.
fn colour(peers: &[String], index: usize) -> RGBColor {
    let ours = peers[index].starts_with("gvt");
    let before = peers[..index].iter().filter(|p| p.starts_with("gvt") == ours).count();
    if ours { GVT[before % GVT.len()] } else { OTHERS[before % OTHERS.len()] }
}

/// Draws it into an SVG file.
pub fn draw(chart: &Chart<'_>, path: &Path) -> Result<(), Fault> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(chart.title.to_owned(), (16, 12), ("sans-serif", 20).into_font()))?;
    legend(chart, &root)?;
    let area = root.margin(58, 8, 8, 16);
    let values = || chart.clusters.iter().flat_map(|(_, bars)| bars.iter().flatten());
    let least = values().map(|s| s.min).fold(f64::INFINITY, f64::min).max(1e-6);
    let most = values().map(|s| s.max).fold(0.0, f64::max).max(least);
    let (bottom, top) = (least / 3.0, most * 2.5);
    let mut plot = ChartBuilder::on(&area)
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..chart.clusters.len() as f64, (bottom..top).log_scale())?;
    plot.configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(WHITE)
        .y_desc(format!("{}, logarithmic", chart.unit))
        .y_label_formatter(&|value| short(*value))
        .draw()?;
    let plane = plot.plotting_area();
    for (place, (label, bars)) in chart.clusters.iter().enumerate() {
        let width = 0.88 / bars.len() as f64;
        for (index, bar) in bars.iter().enumerate() {
            let Some(bar) = bar else { continue };
            let left = place as f64 + 0.06 + index as f64 * width;
            let (right, middle) = (left + width * 0.9, left + width * 0.45);
            let fill = colour(chart.all, chart.shown[index]).filled();
            plane.draw(&Rectangle::new([(left, bottom), (right, bar.median.max(bottom))], fill))?;
            plane.draw(&PathElement::new(
                [(middle, bar.min.max(bottom)), (middle, bar.max)],
                BLACK.stroke_width(1),
            ))?;
            let style = ("sans-serif", 10)
                .into_font()
                .into_text_style(&root)
                .pos(Pos::new(HPos::Center, VPos::Bottom));
            plane.draw(&Text::new(short(bar.median), (middle, bar.max.max(bottom) * 1.05), style))?;
        }
        let spot = plane.map_coordinate(&(place as f64 + 0.5, bottom));
        let style =
            ("sans-serif", 13).into_font().into_text_style(&root).pos(Pos::new(HPos::Center, VPos::Top));
        root.draw(&Text::new(label.clone(), (spot.0, spot.1 + 6), style))?;
    }
    root.present()?;
    Ok(())
}

fn legend(chart: &Chart<'_>, root: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Fault> {
    let mut x = 16;
    for &place in &chart.shown {
        let peer = &chart.all[place];
        root.draw(&Rectangle::new([(x, 40), (x + 12, 52)], colour(chart.all, place).filled()))?;
        root.draw(&Text::new(peer.clone(), (x + 16, 40), ("sans-serif", 13).into_font()))?;
        x += 34 + 8 * peer.len() as i32;
    }
    Ok(())
}
