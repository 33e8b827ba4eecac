//! One plot: as SVG, and its values as a table.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use plotters::prelude::*;

use super::Curve;

/// Width and height in pixels.
const SIZE: (u32, u32) = (900, 520);

/// Height of the letters, of titles and of the rest.
const LETTERS: (u32, u32) = (20, 14);

/// What one line of names takes, as a part of the height of all curves.
const NAME: f64 = 0.08;

/// A plot with both axes logarithmic: steps and values span orders of magnitude.
#[derive(Debug)]
pub(super) struct Chart {
    name: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    curves: Vec<Curve>,
}

impl Chart {
    pub(super) fn new(
        name: &'static str,
        title: &'static str,
        (x, y): (&'static str, &'static str),
        curves: Vec<Curve>,
    ) -> Self {
        Self { name, title, x, y, curves }
    }

    /// The name of its file.
    pub(super) fn file(&self) -> String {
        format!("{}.svg", self.name)
    }

    /// The picture and its values, for `BENCHMARKS.md`.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("![{}: {}](benches/plots/{})\n\n", self.title, self.y, self.file());
        // Writing to a string cannot fail.
        let _ = write!(text, "| {}, by {} |", self.y, self.x);
        let steps = self.curves.first().map(|curve| curve.points.as_slice()).unwrap_or_default();
        for (step, _) in steps {
            let _ = write!(text, " {step} |");
        }
        let _ = writeln!(text, "\n| --- |{}", " --- |".repeat(steps.len()));
        for curve in &self.curves {
            let _ = write!(text, "| {} |", curve.name);
            for (_, value) in &curve.points {
                let _ = write!(text, " {value} |");
            }
            text.push('\n');
        }
        text
    }

    /// The picture: medians, with a line from the smallest to the largest round at each.
    pub(super) fn svg(&self) -> Result<String> {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let both = values.fold(None, |range: Option<(f64, f64)>, value| {
                Some(range.map_or((value, value), |(least, most)| (least.min(value), most.max(value))))
            });
            // A tenth of a decade around them.
            both.map(|(least, most)| least / 1.25..most * 1.25).context("nothing to draw")
        };
        let x = range(&mut points().map(|(step, _)| *step))?;
        let mut y = range(&mut points().flat_map(|(_, value)| [value.least, value.most]))?;
        // Room for the names above the curves.
        y.end *= (y.end / y.start).powf(NAME * self.curves.len() as f64);
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE)?;
            let mut chart = ChartBuilder::on(&area)
                .caption(self.title, ("sans-serif", LETTERS.0))
                .margin(12)
                .x_label_area_size(44)
                .y_label_area_size(70)
                .build_cartesian_2d(x.log_scale(), y.log_scale())?;
            chart
                .configure_mesh()
                .x_desc(self.x)
                .y_desc(self.y)
                .label_style(("sans-serif", LETTERS.1))
                .light_line_style(WHITE)
                .draw()?;
            for (index, curve) in self.curves.iter().enumerate() {
                let color = Palette99::pick(index).to_rgba();
                let medians = curve.points.iter().map(|(step, value)| (*step, value.median));
                chart
                    .draw_series(LineSeries::new(medians.clone(), color.stroke_width(2)))?
                    .label(&curve.name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
                chart.draw_series(medians.map(|point| Circle::new(point, 3, color.filled())))?;
                let spreads =
                    curve.points.iter().map(|(step, value)| [(*step, value.least), (*step, value.most)]);
                chart.draw_series(spreads.map(|ends| PathElement::new(ends, color)))?;
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .label_font(("sans-serif", LETTERS.1))
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3))
                .draw()?;
            area.present()?;
        }
        Ok(svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::figures::Summary;

    #[test]
    fn every_curve_is_drawn_and_told() {
        let points = |value: f64| {
            let of = |step: f64| Some((step, Summary::of([value * step, value].into_iter())?));
            [1.0, 10.0, 100.0].into_iter().filter_map(of).collect()
        };
        let curves = ["first", "second"].map(|name| Curve { name: name.to_owned(), points: points(2.0) });
        let chart = Chart::new("name", "Title", ("streams", "ns/B"), curves.into());
        let svg = chart.svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(["Title", "streams", "ns/B", "first", "second"].iter().all(|text| svg.contains(text)));
        assert_eq!(svg.matches("<circle").count(), 6);
        let markdown = chart.markdown();
        let head = "![Title: ns/B](benches/plots/name.svg)\n\n| ns/B, by streams | 1 | 10 | 100 |";
        assert!(markdown.starts_with(head), "{markdown}");
        assert_eq!(markdown.lines().count(), 6);
        assert!(Chart::new("n", "T", ("x", "y"), Vec::new()).svg().is_err());
    }
}
