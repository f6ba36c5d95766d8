//! Messages a second, by what became of them; and how many wait in the spill log.

use plotters::prelude::*;

use super::{
    Area, CONFLATED, DIM, Drawn, Ink, LINE, PROCESSED, REFUSED, REPLAYED, SHED, SPILLED, Size, axis_text, clock, short,
    time_labels,
};

/// Messages a second, as they came off the feed or out of the spill log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) processed: f64,
    pub(crate) conflated: f64,
    pub(crate) spilled: f64,
    pub(crate) shed: f64,
    /// And those that found a full lane.
    pub(crate) refused: f64,
    pub(crate) replayed: f64,
}

/// A colour, and the rate that it stands for.
type Layer = (Ink, fn(&Rates) -> f64);

/// What is stacked, from below.
const LAYERS: [Layer; 5] = [
    (PROCESSED, |rates| rates.processed),
    (CONFLATED, |rates| rates.conflated),
    (SPILLED, |rates| rates.spilled),
    (SHED, |rates| rates.shed),
    (REFUSED, |rates| rates.refused),
];

/// Areas on top of each other, which together are what was offered, and a line of what was replayed. Each point is the end of a span, and
/// the rates in it.
pub(crate) fn flow(area: &Area<'_>, size: Size, length: f64, points: &[(f64, Rates)]) -> Drawn {
    let length = length.max(1e-3);
    let total = |rates: &Rates| LAYERS.iter().map(|(_, pick)| pick(rates)).sum::<f64>();
    let highest = points.iter().map(|(_, rates)| total(rates).max(rates.replayed)).fold(1.0, f64::max);
    let mut chart = axes(area, size, length, highest)?;
    let mut below = vec![0.0; points.len()];
    for (ink, pick) in LAYERS {
        let above: Vec<f64> = below.iter().zip(points).map(|(below, (_, rates))| below + pick(rates)).collect();
        if above != below {
            let top = steps(points, &above);
            let bottom = steps(points, &below);
            let outline: Vec<_> = top.into_iter().chain(bottom.into_iter().rev()).collect();
            chart.draw_series([Polygon::new(outline, ink.colour().filled())])?;
        }
        below = above;
    }
    let replayed: Vec<f64> = points.iter().map(|(_, rates)| rates.replayed).collect();
    if replayed.iter().any(|rate| *rate > 0.0) {
        chart.draw_series(DashedLineSeries::new(steps(points, &replayed), 5, 3, REPLAYED.colour().stroke_width(2)))?;
    }
    Ok(())
}

/// Messages that wait in the spill log.
pub(crate) fn pending(area: &Area<'_>, size: Size, points: &[(f64, f64)]) -> Drawn {
    let length = points.last().map_or(1e-3, |point| point.0.max(1e-3));
    let highest = points.iter().map(|point| point.1).fold(1.0, f64::max);
    let mut chart = axes(area, size, length, highest)?;
    let mut outline = points.to_vec();
    outline.extend([(length, 0.0), (0.0, 0.0)]);
    chart.draw_series([Polygon::new(outline, SPILLED.colour().mix(0.6).filled())])?;
    chart.draw_series(LineSeries::new(points.iter().copied(), SPILLED.colour().stroke_width(2)))?;
    Ok(())
}

/// A rate holds for the whole of its span.
fn steps(points: &[(f64, Rates)], values: &[f64]) -> Vec<(f64, f64)> {
    let mut since = 0.0;
    let mut line = Vec::with_capacity(2 * points.len());
    for ((at, _), value) in points.iter().zip(values) {
        line.extend([(since, *value), (*at, *value)]);
        since = *at;
    }
    line
}

type Plane = Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>;

fn axes<'a, 'b>(
    area: &'a Area<'b>,
    size: Size,
    length: f64,
    highest: f64,
) -> Result<ChartContext<'a, SVGBackend<'b>, Plane>, DrawingAreaErrorKind<std::io::Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin_right(14)
        .margin_top(8)
        .x_label_area_size(24)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..length, 0.0..highest * 1.05)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(if size.is_narrow() { 4 } else { time_labels(size) / 2 })
        .x_label_formatter(&|at| clock(*at, length))
        .y_labels(4)
        .y_label_formatter(&|y| short(*y))
        .label_style(axis_text())
        .axis_style(LINE.colour())
        .light_line_style(TRANSPARENT)
        .bold_line_style(DIM.colour().mix(0.25))
        .draw()?;
    Ok(chart)
}

#[cfg(test)]
mod tests {
    use super::super::svg;
    use super::*;

    #[test]
    fn what_there_is_has_its_colour_and_what_there_is_not_has_none() {
        let size = Size { width: 600, height: 200 };
        let colours = |rates: Rates| {
            let picture = svg(size, "flow", |area| flow(area, size, 2.0, &[(1.0, rates), (2.0, Rates::default())]));
            let has = |ink: Ink| picture.contains(&ink.css());
            [PROCESSED, CONFLATED, SPILLED, SHED, REFUSED, REPLAYED].map(has)
        };
        let none = Rates::default();
        assert_eq!(colours(Rates { processed: 1.0, ..none }), [true, false, false, false, false, false]);
        assert_eq!(colours(Rates { conflated: 1.0, ..none }), [false, true, false, false, false, false]);
        assert_eq!(colours(Rates { spilled: 1.0, ..none }), [false, false, true, false, false, false]);
        assert_eq!(colours(Rates { shed: 1.0, ..none }), [false, false, false, true, false, false]);
        assert_eq!(colours(Rates { refused: 1.0, ..none }), [false, false, false, false, true, false]);
        assert_eq!(colours(Rates { replayed: 1.0, ..none }), [false, false, false, false, false, true]);
    }

    #[test]
    fn a_rate_holds_for_the_whole_of_its_span() {
        let points = [(1.0, Rates::default()), (3.0, Rates::default())];
        assert_eq!(steps(&points, &[5.0, 7.0]), [(0.0, 5.0), (1.0, 5.0), (1.0, 7.0), (3.0, 7.0)]);
    }
}
