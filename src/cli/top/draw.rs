//! What the screen looks like: banner, signals, rates, workers, transitions.

use std::time::Duration;

use plimsoll::internals::rounded;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Sparkline, Table, Widget};

use super::Screen;
use crate::cli::picture::Marks;
use crate::cli::status::{LevelStatus, Status, WorkerStatus};
use crate::cli::summary::{bytes, grouped};

/// Rows of the parts that do not depend on anything.
const BANNER: u16 = 5;
const SIGNALS: u16 = 4;
const RATES: u16 = 9;

/// The colours of the five levels, which everything that is about a level has; told apart by lightness, too.
pub(in crate::cli) const COLOURS: [Color; 5] =
    [Color::Green, Color::Cyan, Color::Yellow, Color::LightRed, Color::Magenta];

pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let area = frame.area();
    render(screen, area, frame.buffer_mut());
}

/// Rows that all of it takes.
pub(super) fn height_of(screen: &Screen) -> u16 {
    let Some(status) = &screen.status else { return 3 };
    BANNER + SIGNALS + RATES + status.workers.len() as u16 + 3 + (status.transitions.len().min(8) as u16 + 2).max(3)
}

/// The screen as lines, without colours.
pub(super) fn as_text(screen: &Screen, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    render(screen, area, &mut buffer);
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect::<Vec<_>>().join("\n")
}

fn render(screen: &Screen, area: Rect, buffer: &mut Buffer) {
    let Some(status) = &screen.status else {
        return Paragraph::new(screen.trouble.clone().unwrap_or_default()).render(area, buffer);
    };
    let workers = (status.workers.len() as u16 + 3).min(area.height / 3).max(4);
    let parts = [BANNER, SIGNALS, RATES, workers].map(Constraint::Length);
    let layout = Layout::vertical(parts.into_iter().chain([Constraint::Min(3)]));
    let [top, signals, rates, table, transitions] = layout.areas(area);
    banner(screen, status, top, buffer);
    signal_bars(status, signals, buffer);
    let [numbers, curve] = Layout::horizontal([Constraint::Length(46), Constraint::Min(10)]).areas(rates);
    rate_table(screen, status, numbers, buffer);
    curves(screen, curve, buffer);
    worker_table(screen, status, table, buffer);
    transition_list(status, transitions, buffer);
}

fn colour(value: u8) -> Color {
    COLOURS[usize::from(value).min(4)]
}

/// The level, for how long, why, and what is out of the ordinary.
fn banner(screen: &Screen, status: &Status, area: Rect, buffer: &mut Buffer) {
    let LevelStatus { name, value, for_seconds, cause, .. } = &status.level;
    let title = format!(" plimsoll {} · pid {} · {} ", status.version, status.pid, screen.name);
    let block = Block::new().borders(Borders::ALL).title(title).border_style(Style::new().fg(colour(*value)));
    let badge = Style::new().fg(Color::Black).bg(colour(*value)).add_modifier(Modifier::BOLD);
    let first = Line::from(vec![
        Span::styled(format!(" {value} {name} "), badge),
        Span::raw(format!("  for {}   up {}", time(*for_seconds), time(status.uptime_seconds))),
    ]);
    let cause = cause.clone().unwrap_or_else(|| "the level has never changed".to_owned());
    let mut notes = Vec::new();
    if let Some(trouble) = &screen.trouble {
        notes.push(format!("no answer: {trouble}"));
    }
    notes.extend(status.troubles.iter().cloned());
    if status.level.mode == "observe" {
        notes.push("DRY RUN: levels have no effect".to_owned());
    }
    if status.level.pinned {
        let left = status.level.pin_left_seconds.map_or("until unpin".to_owned(), |left| format!("for {}", time(left)));
        notes.push(format!("PINNED by hand {left}"));
    }
    if let Some(shadow) = &status.level.shadow {
        notes.push(format!("shadow thresholds: {shadow}"));
    }
    if notes.is_empty() {
        notes.push(if status.ready { "ready" } else { "not ready" }.to_owned());
    }
    let is_bad = screen.trouble.is_some() || !status.live;
    let note = Line::styled(notes.join(" · "), Style::new().fg(if is_bad { Color::LightRed } else { Color::Reset }));
    Paragraph::new(vec![first, Line::raw(cause), note]).block(block).render(area, buffer);
}

/// Lag and memory, each as a bar with the four thresholds on it.
fn signal_bars(status: &Status, area: Rect, buffer: &mut Buffer) {
    let width = usize::from(area.width).saturating_sub(48).max(10);
    let lag = status.lag.messages as f64;
    let lag_marks = status.lag.thresholds.map(|threshold| threshold as f64);
    let memory = status.memory.percent;
    let text = memory
        .map_or("unknown".to_owned(), |percent| format!("{percent:.1} % of {}", bytes(status.memory.limit_bytes)));
    let lines = vec![
        bar("lag", &format!("{} messages", grouped(status.lag.messages)), lag, lag_marks, width),
        bar("memory", &text, memory.unwrap_or_default(), status.memory.thresholds, width),
        Line::raw(format!("{:>41}a fifth for each level", "")).dim(),
    ];
    Paragraph::new(lines).render(area, buffer);
}

fn bar<'a>(name: &str, text: &str, value: f64, marks: [f64; 4], width: usize) -> Line<'a> {
    let filled = (Marks(marks).place(value) / 5.0 * width as f64).round() as usize;
    let mut spans = vec![Span::raw(format!(" {name:<8}{text:>30}  "))];
    for cell in 0..width {
        let level = (cell * 5 / width) as u8;
        let is_mark = cell > 0 && (cell - 1) * 5 / width < cell * 5 / width;
        let (symbol, style) = match (cell < filled, is_mark) {
            (true, _) => ("█", Style::new().fg(colour(level))),
            (false, true) => ("│", Style::new().fg(colour(level))),
            (false, false) => ("·", Style::new().fg(Color::DarkGray)),
        };
        spans.push(Span::styled(symbol, style));
    }
    Line::from(spans)
}

fn rate_table(screen: &Screen, status: &Status, area: Rect, buffer: &mut Buffer) {
    let (rates, totals) = (&screen.rates, &status.totals);
    let rows = [
        ("offered", rates.offered, totals.offered),
        ("processed", rates.processed, totals.processed_live + totals.replayed),
        ("shed, tier 1", rates.shed[0], totals.shed_by_tier[0]),
        ("shed, tier 2", rates.shed[1], totals.shed_by_tier[1]),
        ("shed, tier 3", rates.shed[2], totals.shed_by_tier[2]),
        ("conflated", rates.conflated, totals.conflated),
        ("spilled", rates.spilled, totals.spilled),
        ("refused", rates.refused, totals.refused),
    ];
    let row = |(name, rate, total): (&str, f64, u64)| {
        let style = if rate > 0.0 { Style::new() } else { Style::new().dim() };
        let cells =
            [format!(" {name}"), format!("{:>13}", grouped(rate.round() as u64)), format!("{:>16}", grouped(total))];
        Row::new(cells).style(style)
    };
    let head = Row::new([" messages".to_owned(), format!("{:>13}", "a second"), format!("{:>16}", "in all")]).bold();
    let widths = [Constraint::Length(14), Constraint::Length(13), Constraint::Length(16)];
    Widget::render(Table::new(rows.map(row), widths).header(head), area, buffer);
}

/// Offered a second, and the lag, over time.
fn curves(screen: &Screen, area: Rect, buffer: &mut Buffer) {
    let [upper, lower] = Layout::vertical([Constraint::Ratio(1, 2); 2]).areas(area);
    for (column, name, place) in [(1, "processed a second", upper), (2, "lag", lower)] {
        let width = usize::from(place.width);
        let skip = screen.history.len().saturating_sub(width);
        let values: Vec<u64> = screen.history.iter().skip(skip).map(|row| row[column] as u64).collect();
        let highest = values.iter().copied().max().unwrap_or_default();
        let block = Block::new().title(format!("{name}, at most {}", grouped(highest))).title_style(Style::new().dim());
        let colour = if column == 1 { Color::Green } else { Color::Yellow };
        Sparkline::default().block(block).data(&values).style(Style::new().fg(colour)).render(place, buffer);
    }
}

fn worker_table(screen: &Screen, status: &Status, area: Rect, buffer: &mut Buffer) {
    let row = |(i, worker): (usize, &WorkerStatus)| {
        let fill = worker.in_flight as f64 / worker.capacity.max(1) as f64 * 100.0;
        let rate = screen.worker_rates.get(i).copied().unwrap_or_default();
        let state = match (worker.stalled, worker.restarts) {
            (true, _) => "STANDS STILL".to_owned(),
            (false, 0) => "ok".to_owned(),
            (false, restarts) => format!("ok, {restarts} restarts"),
        };
        let cells = [
            format!(" {}", worker.worker),
            worker.core.map_or("-".to_owned(), |core| core.to_string()),
            format!("{:>4.0} %", worker.busy * 100.0),
            format!("{:>11}", grouped(worker.in_flight)),
            format!("{fill:>5.1} %"),
            format!("{:>11}", grouped(rate.round() as u64)),
            format!("{:>11}", grouped(worker.spill_pending)),
            format!(" {state}"),
        ];
        Row::new(cells).style(if worker.stalled { Style::new().fg(Color::LightRed) } else { Style::new() })
    };
    let head = [" worker", "core", "  busy", "   in lanes", "   full", "   a second", " in the log", " state"];
    let widths = [7, 4, 6, 11, 7, 11, 11].map(Constraint::Length).into_iter().chain([Constraint::Min(8)]);
    let table = Table::new(status.workers.iter().enumerate().map(row), widths).header(Row::new(head).bold());
    Widget::render(table.block(Block::new().borders(Borders::TOP).border_style(Style::new().dim())), area, buffer);
}

fn transition_list(status: &Status, area: Rect, buffer: &mut Buffer) {
    let title = format!(" last changes of level, {} in all ", status.transition_count);
    let line = |transition: &crate::cli::status::TransitionStatus| {
        let arrow = if transition.is_up { '▲' } else { '▼' };
        Line::from(vec![
            Span::raw(format!(" {:>12} ago ", time(transition.ago_seconds))),
            Span::styled(
                format!("{arrow} {:<13} → {:<13}", transition.from, transition.to),
                Style::new().fg(colour(transition.value)),
            ),
            Span::raw(format!(" {}", transition.cause)),
        ])
    };
    let lines: Vec<_> = status.transitions.iter().map(line).collect();
    let block = Block::new().borders(Borders::TOP).title(title).border_style(Style::new().dim());
    Paragraph::new(lines).block(block).render(area, buffer);
}

/// Seconds as they are read at a glance.
fn time(seconds: f64) -> String {
    rounded(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
