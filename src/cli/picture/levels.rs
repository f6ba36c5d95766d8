//! The level over time, and the signals that drove it.

use plimsoll::{DegradationLevel, DegradationThresholds, Transition};
use plotters::prelude::*;

use super::{Area, DIM, Drawn, LEVELS, LINE, Size, TEXT, axis_text, clock, short, time_labels};

/// Room at the left for a level's name, or a threshold.
const LEFT: u32 = 120;

/// Room at the right for a threshold; as much where there is none, so that times are below each other.
fn right(size: Size) -> u32 {
    if size.is_narrow() { 40 } else { 56 }
}

/// The thresholds of a signal, from SOFT on, as marks on a scale that gives each level a fifth, whatever its range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks(pub(crate) [f64; 4]);

impl Marks {
    pub(crate) fn of_lag(thresholds: &DegradationThresholds) -> Self {
        Self(degraded(|level| thresholds.triggers(level).map_or(0.0, |(lag, _)| lag as f64)))
    }

    pub(crate) fn of_memory(thresholds: &DegradationThresholds) -> Self {
        Self(degraded(|level| thresholds.triggers(level).map_or(0.0, |(_, memory)| memory)))
    }

    /// The mark at a whole number of the scale.
    fn at(&self, y: f64) -> Option<f64> {
        self.0.get((y as usize).wrapping_sub(1)).copied().filter(|_| y.fract() == 0.0)
    }

    /// How far a value has come, from 0 to 5: the whole part is the level that it asks for.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let reached = self.0.iter().filter(|mark| value >= **mark).count();
        let from = if reached == 0 { 0.0 } else { self.0[reached - 1] };
        let to = self.0.get(reached).copied().unwrap_or(from * 2.0);
        let within = if to > from { ((value - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 };
        // A level's own band does not show its end: that is the next one's.
        reached as f64 + if reached < 4 { within.min(0.999) } else { within }
    }
}

/// Of the four levels above NORMAL.
fn degraded(pick: impl Fn(DegradationLevel) -> f64) -> [f64; 4] {
    std::array::from_fn(|i| pick(DegradationLevel::ALL[i + 1]))
}

/// A row for each level, with a bar while it was in force. Of several sets of thresholds, one picture each.
pub(crate) fn levels(area: &Area<'_>, size: Size, length: f64, transitions: &[Transition]) -> Drawn {
    let length = length.max(1e-3);
    let mut chart = ChartBuilder::on(area)
        .margin_right(right(size))
        .margin_top(6)
        .x_label_area_size(24)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(0.0..length, -0.5..4.5)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(time_labels(size))
        .x_label_formatter(&|at| clock(*at, length))
        .y_labels(5)
        .y_label_formatter(&|y: &f64| {
            let level = (y.fract() == 0.0).then(|| DegradationLevel::from_value(*y as u8)).flatten();
            level.map_or_else(String::new, |level| level.name().to_owned())
        })
        .label_style(axis_text())
        .axis_style(LINE.colour())
        .light_line_style(TRANSPARENT)
        .bold_line_style(LINE.colour())
        .draw()?;
    let ends = transitions.iter().map(|transition| (transition.at.as_secs_f64(), transition.to));
    let (mut since, mut level) = (0.0, DegradationLevel::Normal);
    // A bar that is shorter than a point of the picture is still to be seen.
    let least = length / f64::from(size.width - LEFT - right(size));
    for (at, next) in ends.chain([(length, level)]) {
        let (y, style) = (f64::from(level.value()), LEVELS[level.index()].colour().filled());
        let end = at.max(since + least).min(length);
        chart.draw_series([Rectangle::new([(since, y - 0.36), (end, y + 0.36)], style)])?;
        (since, level) = (at, next);
    }
    Ok(())
}

/// A signal over time, by its thresholds: points are a time in seconds and a value, which may be not-a-number.
#[derive(Clone, Copy)]
pub(crate) struct Watched<'a> {
    pub(crate) marks: Marks,
    pub(crate) points: &'a [(f64, f64)],
}

/// A water line: how far signals have come, on a scale that gives each level a fifth. The first one has its marks at the left; a second one is
/// dashed, and has its marks, in percent, at the right.
pub(crate) fn water(
    area: &Area<'_>,
    size: Size,
    length: f64,
    first: Watched<'_>,
    second: Option<Watched<'_>>,
) -> Drawn {
    let length = length.max(1e-3);
    let mut chart = ChartBuilder::on(area)
        .margin_top(8)
        .x_label_area_size(24)
        .y_label_area_size(if size.is_narrow() { 52 } else { LEFT })
        .right_y_label_area_size(right(size))
        .build_cartesian_2d(0.0..length, 0.0..5.0)?
        .set_secondary_coord(0.0..length, 0.0..5.0);
    for level in DegradationLevel::ALL {
        let y = f64::from(level.value());
        let band = LEVELS[level.index()].colour().mix(0.10).filled();
        chart.draw_series([Rectangle::new([(0.0, y), (length, y + 1.0)], band)])?;
    }
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(time_labels(size))
        .x_label_formatter(&|at| clock(*at, length))
        .y_labels(6)
        .y_label_formatter(&|y| match first.marks.at(*y) {
            Some(mark) if size.is_narrow() => short(mark),
            Some(mark) => format!("{} {:>6}", DegradationLevel::ALL[*y as usize].name(), short(mark)),
            None => String::new(),
        })
        .label_style(axis_text())
        .axis_style(LINE.colour())
        .light_line_style(TRANSPARENT)
        .bold_line_style(DIM.colour().mix(0.5))
        .draw()?;
    let line = |watched: Watched<'_>| -> Vec<_> {
        let known = watched.points.iter().filter(|(_, value)| value.is_finite());
        known.map(|(at, value)| (*at, watched.marks.place(*value))).collect()
    };
    let surface = line(first);
    let mut water = surface.clone();
    water.extend([(length, 0.0), (0.0, 0.0)]);
    chart.draw_series([Polygon::new(water, TEXT.colour().mix(0.14).filled())])?;
    chart.draw_series(LineSeries::new(surface, TEXT.colour().stroke_width(2)))?;
    if let Some(second) = second {
        chart
            .configure_secondary_axes()
            .y_labels(6)
            .y_label_formatter(&|y| second.marks.at(*y).map_or_else(String::new, |mark| format!("{mark:.0} %")))
            .label_style(axis_text())
            .axis_style(LINE.colour())
            .draw()?;
        chart.draw_series(DashedLineSeries::new(line(second), 6, 4, TEXT.colour().stroke_width(2)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_has_a_fifth_of_the_scale() {
        let marks = Marks::of_lag(&DegradationThresholds::default());
        let places = [0.0, 50_000.0, 100_000.0, 300_000.0, 500_000.0, 1e6, 3e6, 5e6, 7.5e6, 1e9];
        let expected = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 3.5, 4.0, 4.5, 5.0];
        assert_eq!(places.map(|value| marks.place(value)), expected);
        // Just below a mark is below it.
        assert!(marks.place(99_999.99).floor() < 1.0);
    }
}
