//! The report's pictures: each twice, for a wide page and for a phone.

use plimsoll::{LatencySnapshot, MessagePriority, Signal};

use crate::cli::picture::{self, Area, Drawn, Marks, Rates, Size, Watched, escaped, svg};
use crate::cli::recording::{Recording, Row};

/// Spans of a picture, at most.
const SPANS: usize = 300;

/// The same in two sizes.
fn both(wide: (u32, u32), narrow: (u32, u32), label: &str, draw: impl Fn(&Area<'_>, Size) -> Drawn) -> String {
    [wide, narrow].into_iter().fold(String::new(), |text, (width, height)| {
        let size = Size { width, height };
        text + &svg(size, label, |area| draw(area, size))
    })
}

pub(super) fn levels(recording: &Recording) -> String {
    let length = recording.length().as_secs_f64();
    let label = format!("The level over time: {} changes", recording.transition_count);
    both((1060, 170), (420, 170), &label, |area, size| picture::levels(area, size, length, &recording.transitions))
}

pub(super) fn water(recording: &Recording) -> String {
    // Between two rows, the higher one: a peak must not go.
    let points = |pick: fn(&Row) -> f64| -> Vec<_> {
        let highest = |rows: &[Row]| rows.iter().map(pick).fold(f64::NAN, f64::max);
        spans(&recording.rows).map(|(_, rows, last)| (last.at.as_secs_f64(), highest(rows))).collect()
    };
    let (lag, memory) = (points(|row| row.lag_peak as f64), points(|row| row.memory_pct));
    let first = Watched { marks: Marks::of_lag(&recording.thresholds), points: &lag };
    let second = Watched { marks: Marks::of_memory(&recording.thresholds), points: &memory };
    let (length, label) =
        (recording.length().as_secs_f64(), "Lag and memory against the thresholds of the levels, over time");
    both((1060, 280), (420, 260), label, |area, size| picture::water(area, size, length, first, Some(second)))
}

/// One for each signal beside lag and memory.
pub(super) fn signals(recording: &Recording) -> String {
    let length = recording.length().as_secs_f64();
    let picture = |signal: &Signal| {
        let points: Vec<_> = spans(&recording.rows)
            .filter_map(|(_, rows, last)| {
                let values = rows.iter().flat_map(|row| &row.signals).filter(|(name, _)| *name == signal.name);
                let highest = values.map(|(_, value)| *value).max_by(f64::total_cmp)?;
                Some((last.at.as_secs_f64(), highest))
            })
            .collect();
        let label = format!("Signal {} against its thresholds, over time", signal.name);
        let watched = Watched { marks: Marks(signal.thresholds), points: &points };
        let drawn =
            both((1060, 220), (420, 220), &label, |area, size| picture::water(area, size, length, watched, None));
        let unit = escaped(&signal.unit);
        format!(
            "<section><h2>Signal {} <small>in {unit}; each level has a fifth of the height</small></h2>{drawn}</section>",
            signal.name
        )
    };
    recording.signals.iter().map(picture).collect()
}

/// One for each priority.
pub(super) fn flows(recording: &Recording) -> String {
    let length = recording.length().as_secs_f64();
    each_priority(|priority| {
        let i = priority.index();
        let points: Vec<_> = spans(&recording.rows)
            .map(|(first, _, last)| {
                let seconds = (last.at - first.at).as_secs_f64().max(1e-9);
                let (old, new) = (&first.by_priority[i], &last.by_priority[i]);
                let rate = |old: u64, new: u64| new.saturating_sub(old) as f64 / seconds;
                let rates = Rates {
                    processed: rate(old.processed_live, new.processed_live),
                    conflated: rate(old.conflated, new.conflated),
                    spilled: rate(old.spilled, new.spilled),
                    shed: rate(old.shed, new.shed),
                    refused: rate(old.refused + old.full, new.refused + new.full),
                    replayed: rate(old.replayed, new.replayed),
                };
                (last.at.as_secs_f64(), rates)
            })
            .collect();
        let label = format!("Messages a second of priority {}, by what became of them", priority.name());
        both((600, 200), (420, 190), &label, |area, size| picture::flow(area, size, length, &points))
    })
}

pub(super) fn spill(recording: &Recording) -> String {
    let points: Vec<_> = spans(&recording.rows)
        .map(|(_, rows, last)| {
            let pending = rows.iter().map(|row| row.spill_pending).max().unwrap_or_default();
            (last.at.as_secs_f64(), pending as f64)
        })
        .collect();
    let label = "Messages that wait in the spill log, over time";
    let picture = both((1060, 170), (420, 170), label, |area, size| picture::pending(area, size, &points));
    format!("<section><h2>Spill log <small>messages that wait in it</small></h2>{picture}</section>")
}

/// One for each priority that was sampled; all on one scale.
pub(super) fn latencies(recording: &Recording) -> String {
    let length = recording.length().as_secs_f64();
    let of = |priority: MessagePriority| -> Vec<_> {
        let i = priority.index();
        let quantiles = |snapshot: &LatencySnapshot| {
            let [p50, p99, p999] = picture::PERCENTILES.map(|(quantile, ..)| snapshot.quantile_ns(quantile));
            Some([p50?, p99?, p999?])
        };
        let between =
            spans(&recording.rows).map(|(first, _, last)| (last.at, last.latency[i].since(&first.latency[i])));
        between.map(|(at, latency)| (at.as_secs_f64(), quantiles(&latency))).collect()
    };
    let all: Vec<_> = MessagePriority::ALL.into_iter().map(of).collect();
    let found = || all.iter().flatten().filter_map(|(_, found)| *found).flatten();
    let (low, high) = (found().min().unwrap_or(1_000), found().max().unwrap_or(1_000_000));
    each_priority(|priority| {
        let points = &all[priority.index()];
        if points.iter().all(|(_, found)| found.is_none()) {
            return "<p class=\"dim\">no samples</p>".to_owned();
        }
        let label = format!("Latency percentiles of priority {}, over time", priority.name());
        let range = (low as f64 * 0.8, high as f64 * 1.25);
        both((600, 200), (420, 190), &label, |area, size| picture::latency(area, size, length, range, points))
    })
}

fn each_priority(draw: impl Fn(MessagePriority) -> String) -> String {
    MessagePriority::ALL.into_iter().fold(String::new(), |text, priority| {
        text + &format!("<div><h3>{}</h3>{}</div>", priority.name(), draw(priority))
    })
}

/// The rows in so few spans that each can be seen: the row before a span, those in it, and the last one.
fn spans(rows: &[Row]) -> impl Iterator<Item = (&Row, &[Row], &Row)> {
    let step = rows.len().saturating_sub(1).div_ceil(SPANS).max(1);
    let inner = rows.get(1..).unwrap_or_default();
    inner.chunks(step).enumerate().filter_map(move |(i, chunk)| Some((&rows[i * step], chunk, chunk.last()?)))
}
