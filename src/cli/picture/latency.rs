//! Latency percentiles over time.

use plotters::prelude::*;

use super::{Area, DIM, Drawn, Ink, LEVEL_0, LEVEL_1, LEVEL_4, LINE, Size, axis_text, clock, time_labels};
use crate::cli::summary::duration;

/// The lines: which share of the messages was as fast, and how it is drawn.
pub(crate) const PERCENTILES: [(f64, &str, Ink, bool); 3] =
    [(0.5, "p50", LEVEL_0, false), (0.99, "p99", LEVEL_1, false), (0.999, "p99.9", LEVEL_4, true)];

/// A line for each percentile; the scale is logarithmic. Points are the end of a span, and its percentiles in nanoseconds; a span without
/// messages has none.
pub(crate) fn latency(
    area: &Area<'_>,
    size: Size,
    length: f64,
    range: (f64, f64),
    points: &[(f64, Option<[u64; 3]>)],
) -> Drawn {
    let length = length.max(1e-3);
    let (low, high) = (range.0.max(1.0), range.1.max(range.0.max(1.0) * 10.0));
    let mut chart = ChartBuilder::on(area)
        .margin_right(14)
        .margin_top(8)
        .x_label_area_size(24)
        .y_label_area_size(62)
        .build_cartesian_2d(0.0..length, (low..high).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(if size.is_narrow() { 4 } else { time_labels(size) / 2 })
        .x_label_formatter(&|at| clock(*at, length))
        .y_labels(5)
        .y_label_formatter(&|nanos| duration(*nanos as u64).replace(".0 ", " "))
        .label_style(axis_text())
        .axis_style(LINE.colour())
        .light_line_style(TRANSPARENT)
        .bold_line_style(DIM.colour().mix(0.25))
        .draw()?;
    for (i, (_, _, ink, is_dashed)) in PERCENTILES.into_iter().enumerate() {
        for run in points.split(|(_, percentiles)| percentiles.is_none()) {
            let line = run.iter().filter_map(|(at, found)| Some((*at, found.as_ref()?[i] as f64)));
            let line: Vec<_> = line.map(|(at, nanos)| (at, nanos.max(low))).collect();
            let style = ink.colour().stroke_width(2);
            if let [lone] = line[..] {
                chart.draw_series([Circle::new(lone, 2, ink.colour().filled())])?;
            } else if is_dashed {
                chart.draw_series(DashedLineSeries::new(line, 6, 3, style))?;
            } else {
                chart.draw_series(LineSeries::new(line, style))?;
            }
        }
    }
    Ok(())
}
