//! The picture: latency of CRITICAL messages, and how many of them were handled, by load.

use std::error::Error;
use std::path::Path;

use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::feed::SHARES;
use crate::{CONTENDERS, LOADS, Load};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Anything = Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (900, 540);
const TITLE: u32 = 34;
const LEGEND: u32 = 118;
const TEXT: RGBColor = RGBColor(40, 40, 40);
const GREY: RGBColor = RGBColor(150, 150, 150);
const BLUE_INK: RGBColor = RGBColor(0, 90, 181);
const RED_INK: RGBColor = RGBColor(200, 30, 45);
const ORANGE: RGBColor = RGBColor(230, 140, 0);
const GREEN_INK: RGBColor = RGBColor(20, 140, 90);

#[derive(Clone, Copy)]
enum Marker {
    Disc,
    Square,
    Up,
    Down,
}

/// How a contender is drawn: small queues as large ones, but dashed and hollow.
#[derive(Clone, Copy)]
struct Look {
    colour: RGBColor,
    marker: Marker,
    solid: bool,
    width: u32,
}

const LOOKS: [Look; CONTENDERS.len()] = {
    const fn look(colour: RGBColor, marker: Marker, solid: bool, width: u32) -> Look {
        Look { colour, marker, solid, width }
    }
    [
        look(BLUE_INK, Marker::Disc, true, 4),
        look(RED_INK, Marker::Square, true, 2),
        look(ORANGE, Marker::Up, true, 2),
        look(GREEN_INK, Marker::Down, true, 2),
        look(RED_INK, Marker::Square, false, 2),
        look(ORANGE, Marker::Up, false, 2),
        look(GREEN_INK, Marker::Down, false, 2),
    ]
};

/// Two panels of one axis of loads, and a legend below them.
pub(crate) fn draw(path: &Path, loads: &[Load], capacity: f64) -> Anything {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let centred = text(17).pos(Pos::new(HPos::Center, VPos::Top));
    let title = format!(
        "CRITICAL messages, {} % of a feed, under overload: the handler manages {:.0} 000 messages/s",
        SHARES[0],
        capacity / 1e3
    );
    root.draw(&Text::new(title, (SIZE.0 as i32 / 2, 10), centred))?;
    let (_, rest) = root.split_vertically(TITLE);
    let (panels, legend) = rest.split_vertically(SIZE.1 - TITLE - LEGEND);
    let (left, right) = panels.split_horizontally(SIZE.0 / 2);
    latency(&left, loads)?;
    goodput(&right, loads)?;
    keys(&legend)?;
    root.present()?;
    Ok(())
}

fn latency(area: &Area<'_>, loads: &[Load]) -> Anything {
    let ticks: Vec<f64> = (-2..=4).map(|power| 10_f64.powi(power)).collect();
    let label = |ms: &f64| match *ms {
        1_000.0.. => format!("{} s", ms / 1e3),
        1.0.. => format!("{ms} ms"),
        _ => format!("{:.0} µs", ms * 1e3),
    };
    let y = (0.01..10_000.0).log_scale().with_key_points(ticks);
    let p99 = |load: &Load, contender: usize| load.outcome(contender).critical().value_at_quantile(0.99) as f64 / 1e6;
    panel(area, "p99 latency, from intended send to handled", y, &label, loads, &p99, None)
}

fn goodput(area: &Area<'_>, loads: &[Load]) -> Anything {
    let y = 0.0..104.0;
    let share = |load: &Load, contender: usize| load.outcome(contender).goodput(0)[1];
    // All that anybody can do: a worker that spends all its time on CRITICAL.
    let bound = |times: f64| (100.0 * 100.0 / (times * f64::from(SHARES[0]))).min(100.0);
    panel(area, "handled by the end, % of those sent", y, &|share| format!("{share:.0} %"), loads, &share, Some(&bound))
}

fn panel<Y>(
    area: &Area<'_>,
    caption: &str,
    y: Y,
    y_label: &dyn Fn(&f64) -> String,
    loads: &[Load],
    figure: &dyn Fn(&Load, usize) -> f64,
    bound: Option<&dyn Fn(f64) -> f64>,
) -> Anything
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let x = (0.4..130.0).log_scale().with_key_points(LOADS.map(|(times, _)| times).to_vec());
    let mut chart = ChartBuilder::on(area)
        .caption(caption, text(14))
        .margin(8)
        .margin_right(16)
        .x_label_area_size(42)
        .y_label_area_size(52)
        .build_cartesian_2d(x, y)?;
    let mut mesh: MeshStyle<'_, '_, _, _, _> = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.35))
        .axis_style(TEXT)
        .label_style(text(12))
        .axis_desc_style(text(13))
        .x_desc("messages sent ÷ messages that the handler can manage")
        .x_label_formatter(&|times| format!("{times}×"))
        .y_label_formatter(y_label)
        .draw()?;
    let root = area.strip_coord_spec();
    let (left, top) = root.get_base_pixel();
    let at = |times: f64, value: f64| {
        let (x, y) = chart.backend_coord(&(times, value));
        (x - left, y - top)
    };
    if let Some(bound) = bound {
        let steps = (0..=120).map(|i| 0.5 * 200_f64.powf(f64::from(i) / 120.0));
        let points: Vec<_> = steps.map(|times| at(times, bound(times))).collect();
        root.draw(&PathElement::new(points, GREY.stroke_width(5)))?;
    }
    // Plimsoll last, on top.
    for contender in (0..CONTENDERS.len()).rev() {
        let points: Vec<_> = loads.iter().map(|load| at(load.times, figure(load, contender))).collect();
        LOOKS[contender].draw(&root, &points)?;
    }
    Ok(())
}

/// Which look is whose.
fn keys(area: &Area<'_>) -> Anything {
    const ROW: i32 = 21;
    let columns = [20, 240, 570];
    let key = |place: (i32, i32), look: Look, words: &str| -> Anything {
        look.draw_key(area, place)?;
        area.draw(&Text::new(words.to_owned(), (place.0 + 46, place.1 - 6), text(13)))?;
        Ok(())
    };
    for (i, (contender, look)) in CONTENDERS.iter().zip(LOOKS).enumerate() {
        let (column, row) = if i == 0 { (0, 0) } else { (1 + (i - 1) / 3, (i - 1) % 3) };
        let words = match (i, contender.blocks) {
            (0, _) => contender.name.to_owned(),
            (_, true) => format!("queue that {} messages, ≥", contender.name),
            (_, false) => format!("queue that {}", contender.name),
        };
        key((columns[column], 14 + row as i32 * ROW), look, &words)?;
    }
    let (x, y) = (columns[0], 14 + ROW);
    area.draw(&PathElement::new(vec![(x, y), (x + 36, y)], GREY.stroke_width(5)))?;
    area.draw(&Text::new("the most that is possible", (x + 46, y - 6), text(13)))?;
    let notes = [
        "The end is 1 s after a storm of 2 s. Queues that drop show the latency of what they let through.".to_owned(),
        "≥: what still waits in front of the queue at the end counts with its wait so far.".to_owned(),
    ];
    for (row, note) in (3..).zip(notes) {
        area.draw(&Text::new(note, (columns[0], 14 + row * ROW), text(12)))?;
    }
    Ok(())
}

impl Look {
    fn draw(self, area: &Area<'_>, points: &[(i32, i32)]) -> Anything {
        self.line(area, points)?;
        points.iter().try_for_each(|point| self.mark(area, *point))
    }

    fn line(self, area: &Area<'_>, points: &[(i32, i32)]) -> Anything {
        let line = self.colour.stroke_width(self.width);
        if self.solid {
            area.draw(&PathElement::new(points.to_vec(), line))?;
        } else {
            area.draw(&DashedPathElement::new(points.iter().copied(), 6, 4, line))?;
        }
        Ok(())
    }

    fn draw_key(self, area: &Area<'_>, (x, y): (i32, i32)) -> Anything {
        self.line(area, &[(x, y), (x + 36, y)])?;
        self.mark(area, (x + 18, y))
    }

    fn mark(self, area: &Area<'_>, (x, y): (i32, i32)) -> Anything {
        let inside = if self.solid { self.colour } else { WHITE };
        let corners: &[(i32, i32)] = match self.marker {
            Marker::Disc => {
                area.draw(&Circle::new((x, y), 6, inside.filled()))?;
                return Ok(());
            }
            Marker::Square => &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
            Marker::Up => &[(0, -6), (5, 4), (-5, 4)],
            Marker::Down => &[(0, 6), (5, -4), (-5, -4)],
        };
        let mut corners: Vec<_> = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        area.draw(&Polygon::new(corners.clone(), inside.filled()))?;
        corners.extend_from_within(..2);
        area.draw(&PathElement::new(corners, self.colour.stroke_width(2)))?;
        Ok(())
    }
}

fn text(size: i32) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font()).color(&TEXT)
}
