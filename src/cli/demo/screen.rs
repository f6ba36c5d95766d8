//! The day on a terminal: the water line, what each priority gets, the spill log, and the last changes of level.

use std::io;
use std::time::Duration;

use plimsoll::{DegradationLevel, MessagePriority, PriorityLedger, Transition};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline, Widget};

use super::script::{CHAPTERS, REPLAY};
use super::{Pace, Recording, Row};
use crate::cli::picture::{Marks, short};
use crate::cli::summary::grouped;
use crate::cli::top::COLOURS;
use crate::cli::verdict;

/// How often it is drawn.
pub(super) const INTERVAL: Duration = Duration::from_millis(80);

/// What became of messages: a glyph each, that tells them apart without colour, and what it means.
const OUTCOMES: [(&str, Color, &str); 5] = [
    ("█", Color::Blue, "processed"),
    ("▓", Color::Cyan, "replayed"),
    ("▒", Color::Yellow, "spilled, waiting"),
    ("░", Color::LightRed, "shed"),
    ("·", Color::Gray, "refused"),
];

/// Columns and rows below which it is no use to draw.
const LEAST: (u16, u16) = (64, 20);

/// Eighths of a cell.
const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// What is shown beside the recording.
pub(super) struct Screen {
    pace: Pace,
    headline: String,
}

/// Whether somebody has pressed a key that ends it.
pub(super) fn wants_end() -> io::Result<bool> {
    while event::poll(Duration::ZERO)? {
        if let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            let is_interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
            if is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

impl Screen {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, headline: String::new() }
    }

    pub(super) fn chapter(&mut self, number: usize) {
        self.headline = CHAPTERS[number].headline();
    }

    pub(super) fn replay(&mut self) {
        REPLAY.clone_into(&mut self.headline);
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>, recording: &Recording) {
        self.render(frame.area(), frame.buffer_mut(), recording);
    }

    fn render(&self, area: Rect, buffer: &mut Buffer, recording: &Recording) {
        let Some(now) = recording.rows.last() else { return };
        if area.width < LEAST.0 || area.height < LEAST.1 {
            let text = format!(
                "{}\n{} · lag {} · make it {} × {}, at least",
                self.headline,
                now.level,
                grouped(now.lag),
                LEAST.0,
                LEAST.1
            );
            return Paragraph::new(text).render(area, buffer);
        }
        // The water line has as many rows for each level as there is room for.
        let water = (area.height.saturating_sub(14) / 5).clamp(1, 6) * 5;
        let parts = [2, water, 1, 6, 2].map(Constraint::Length).into_iter().chain([Constraint::Min(0)]);
        let [top, water, _, priorities, flow, changes] = Layout::vertical(parts).areas(area);
        self.banner(top, buffer, recording, now);
        let [lag, memory] = Layout::horizontal([Constraint::Min(30), Constraint::Length(19)]).areas(water);
        self.water_line(lag, buffer, recording);
        memory_gauge(memory, buffer, recording, now);
        priority_bars(priorities, buffer, now);
        self.flow(flow, buffer, recording, now);
        transition_list(changes, buffer, &recording.transitions);
    }

    /// The chapter, the level, and why it is what it is.
    fn banner(&self, area: Rect, buffer: &mut Buffer, recording: &Recording, now: &Row) {
        let level = now.level;
        let badge = Style::new().fg(Color::Black).bg(COLOURS[level.index()]).add_modifier(Modifier::BOLD);
        let why = recording.transitions.last().map_or_else(String::new, |last| last.cause.to_string());
        let lines = vec![
            Line::from(vec![
                Span::styled(format!("{:<62}", self.headline), Style::new().add_modifier(Modifier::BOLD)),
                Span::raw(format!("{:>5.1} s", now.at.as_secs_f64())),
                Span::raw("  q: end").dim(),
            ]),
            Line::from(vec![
                Span::styled(format!(" {} {:<13} ", level.value(), level.name()), badge),
                Span::raw(format!("  {why}")),
            ]),
        ];
        Paragraph::new(lines).render(area, buffer);
    }

    /// The lag over time, as water that rises through the marks, and memory as dots; the newest at the right.
    fn water_line(&self, area: Rect, buffer: &mut Buffer, recording: &Recording) {
        let marks = Marks::of_lag(&recording.thresholds);
        let per_level = area.height / 5;
        let names = 21;
        for level in DegradationLevel::ALL {
            let bottom = area.bottom() - 1 - u16::from(level.value()) * per_level;
            let mark = level.index().checked_sub(1).map_or(String::new(), |i| short(marks.0[i]));
            let name = format!("{:<13}{mark:>6} ", level.name());
            buffer.set_string(area.x, bottom, name, Style::new().fg(COLOURS[level.index()]));
        }
        let width = area.width.saturating_sub(names + 2);
        let span = self.pace.time(0.5);
        let columns = peaks(&recording.rows, span, usize::from(width));
        let memory_marks = Marks::of_memory(&recording.thresholds);
        let tenths = |row: &Row| (row.memory_pct.max(0.0) * 10.0) as u64;
        let memory = peaks_of(&recording.rows, span, usize::from(width), tenths);
        for x in 0..width {
            let lag = columns.get(usize::from(x)).copied().flatten();
            let height = lag.map_or(0.0, |lag| marks.place(lag as f64) * f64::from(per_level));
            let memory = memory.get(usize::from(x)).copied().flatten();
            let dot = memory.map(|tenths| memory_marks.place(tenths as f64 / 10.0) * f64::from(per_level));
            for row in 0..area.height {
                let (symbol, colour) = match cell(height, row, per_level) {
                    (" " | "┈", _) if dot.is_some_and(|dot| dot as u16 == row) => ("•", Color::Reset),
                    cell => cell,
                };
                let y = area.bottom() - 1 - row;
                buffer.set_string(area.x + names + x, y, symbol, Style::new().fg(colour));
            }
        }
    }

    /// Messages a second, and the spill log.
    fn flow(&self, area: Rect, buffer: &mut Buffer, recording: &Recording, now: &Row) {
        let before = recording.rows.iter().rev().find(|row| row.at + self.pace.time(1.0) <= now.at);
        let seconds = before.map_or(1.0, |before| (now.at - before.at).as_secs_f64());
        let rate = |pick: fn(&Row) -> u64| {
            let new = pick(now).saturating_sub(before.map_or(0, pick));
            format!("{}/s", short(new as f64 / seconds))
        };
        let processed = rate(|row| row.by_priority.iter().map(PriorityLedger::processed).sum());
        let offered = rate(|row| row.offered);
        let pending = grouped(now.spill_pending);
        let text = format!(
            "offered {offered:>8}   processed {processed:>8}   lag {:>8}   spill log {pending:>8} ",
            grouped(now.lag)
        );
        let style = Style::new().add_modifier(Modifier::BOLD);
        buffer.set_stringn(area.x, area.y, &text, usize::from(area.width), style);
        let taken = (text.chars().count() as u16).min(area.width);
        let place = Rect { x: area.x + taken, width: area.width - taken, height: 1, ..area };
        let spans = peaks_of(&recording.rows, self.pace.time(0.5), usize::from(place.width), |row| row.spill_pending);
        let data: Vec<u64> = spans.into_iter().map(Option::unwrap_or_default).collect();
        Sparkline::default().data(&data).style(Style::new().fg(Color::Yellow)).render(place, buffer);
    }
}

/// The highest lag in each span of time, so many of them; the newest last.
fn peaks(rows: &[Row], span: Duration, count: usize) -> Vec<Option<u64>> {
    peaks_of(rows, span, count, |row| row.lag_peak)
}

/// Spans begin at whole multiples of their length, so that what was drawn stays as it is when it moves on.
fn peaks_of(rows: &[Row], span: Duration, count: usize, pick: impl Fn(&Row) -> u64) -> Vec<Option<u64>> {
    let number = |row: &Row| row.at.div_duration_f64(span) as usize;
    let last = rows.last().map_or(0, number);
    let first = (last + 1).saturating_sub(count);
    let mut peaks = vec![None; (last + 1 - first).min(count)];
    for row in rows.iter().rev().take_while(|row| number(row) >= first) {
        if let Some(peak) = peaks.get_mut(number(row) - first) {
            *peak = (*peak).max(Some(pick(row)));
        }
    }
    peaks
}

/// What a row shows, counted from below, of water that stands so many rows high.
fn cell(height: f64, row: u16, per_level: u16) -> (&'static str, Color) {
    let filled = ((height - f64::from(row)) * 8.0).round().clamp(0.0, 8.0) as usize;
    match (filled, is_mark(row, per_level)) {
        (0, true) => ("┈", Color::DarkGray),
        (filled, _) => (EIGHTHS[filled], COLOURS[usize::from(row / per_level).min(4)]),
    }
}

/// Whether a level above NORMAL begins in a row.
fn is_mark(row: u16, per_level: u16) -> bool {
    row > 0 && row.is_multiple_of(per_level)
}

/// Memory against its marks.
fn memory_gauge(area: Rect, buffer: &mut Buffer, recording: &Recording, now: &Row) {
    let marks = Marks::of_memory(&recording.thresholds);
    let per_level = area.height / 5;
    let height = marks.place(now.memory_pct) * f64::from(per_level);
    for row in 0..area.height {
        let level = usize::from(row / per_level).min(4);
        let y = area.bottom() - 1 - row;
        let (symbol, colour) = cell(height, row, per_level);
        for x in 0..5 {
            buffer.set_string(area.x + x, y, symbol, Style::new().fg(colour));
        }
        if is_mark(row, per_level) {
            let text = format!("{:>3.0} %", marks.0[level - 1]);
            buffer.set_string(area.x + 6, y, text, Style::new().fg(COLOURS[level]));
        }
    }
    let text = format!("{:>3.0} % •memory", now.memory_pct);
    buffer.set_stringn(area.x + 6, area.bottom() - 1, text, 13, Style::new().add_modifier(Modifier::BOLD));
}

/// For each priority a bar of all that was offered so far, by what became of it.
fn priority_bars(area: Rect, buffer: &mut Buffer, now: &Row) {
    let mut key = vec![Span::raw("kept           ")];
    for (glyph, colour, name) in OUTCOMES {
        key.push(Span::styled(glyph.repeat(2), Style::new().fg(colour)));
        key.push(Span::raw(format!(" {name} ")));
    }
    Line::from(key).render(Rect { height: 1, ..area }, buffer);
    let width = usize::from(area.width).saturating_sub(36).max(10);
    for (i, (priority, part)) in MessagePriority::ALL.into_iter().zip(&now.by_priority).enumerate() {
        let waiting = part.spilled.saturating_sub(part.replayed);
        let counts = [part.processed_live, part.replayed, waiting, part.shed, part.refused + part.full];
        let all = counts.iter().sum::<u64>().max(1);
        let mut spans = vec![Span::raw(format!("{:<9}{:>8}  ", priority.name(), verdict::kept(part)))];
        let (mut sum, mut drawn) = (0, 0);
        for (count, (glyph, colour, _)) in counts.into_iter().zip(OUTCOMES) {
            sum += count;
            let end = (sum as f64 / all as f64 * width as f64).round() as usize;
            spans.push(Span::styled(glyph.repeat(end - drawn), Style::new().fg(colour)));
            drawn = end;
        }
        spans.push(Span::raw(format!("{}  {:>13}", " ".repeat(width - drawn), grouped(part.offered()))));
        let place = Rect { y: area.y + 1 + i as u16, height: 1, ..area };
        Line::from(spans).render(place, buffer);
    }
}

/// The last changes, the newest first.
fn transition_list(area: Rect, buffer: &mut Buffer, transitions: &[Transition]) {
    for (i, transition) in transitions.iter().rev().take(usize::from(area.height)).enumerate() {
        let style = Style::new().fg(COLOURS[transition.to.index()]);
        let arrow = if transition.is_degradation() { '▲' } else { '▼' };
        let (at, to, why) = (transition.at.as_secs_f64(), transition.to, transition.cause);
        let text = format!("{at:>6.1} s {arrow} {to:<13} {why}");
        buffer.set_stringn(area.x, area.y + i as u16, text, usize::from(area.width), style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll::{Cause, LatencySnapshot};

    /// Ten seconds in which the lag rises through all marks.
    fn recording(pace: Pace) -> Recording {
        let mut recording = Recording::new(Duration::from_millis(100));
        recording.thresholds = pace.thresholds();
        let part = |processed_live, spilled, replayed, shed, refused| PriorityLedger {
            processed_live,
            spilled,
            replayed,
            shed,
            refused,
            ..PriorityLedger::default()
        };
        for tenth in 0..=100u64 {
            let lag = tenth * 4_000;
            recording.rows.push(Row {
                at: Duration::from_millis(100 * tenth),
                level: DegradationLevel::CircuitBreak,
                lag,
                lag_peak: lag,
                memory_pct: 85.0,
                signals: Vec::new(),
                offered: 40_000 * tenth,
                by_priority: [
                    part(750, 0, 0, 0, 250),
                    part(500, 250, 250, 0, 250),
                    part(0, 750, 0, 0, 250),
                    part(0, 0, 0, 1000, 0),
                ],
                spill_pending: 750,
                latency: std::array::from_fn(|_| LatencySnapshot::default()),
            });
        }
        let cause = Cause::Lag { lag: 300_000, trigger: 300_000 };
        let (from, to) = (DegradationLevel::Aggressive, DegradationLevel::CircuitBreak);
        let at = Duration::from_millis(7500);
        recording.transitions.push(Transition { at, from, to, lag: 300_000, memory_pct: 85.0, cause });
        recording
    }

    fn drawn(width: u16, height: u16) -> Vec<String> {
        let pace = Pace(1.0);
        let mut screen = Screen::new(pace);
        screen.chapter(6);
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        screen.render(area, &mut buffer, &recording(pace));
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn both_sizes_of_terminal_show_all_of_it() {
        for (width, height) in [(80, 24), (160, 50)] {
            let lines = drawn(width, height);
            let text = lines.join("\n");
            for said in [
                "14:15  Flash crash: 400 k messages/s",
                "10.0 s  q: end",
                "4 CIRCUIT_BREAK",
                "lag 300000 ≥ 300000",
                "CIRCUIT_BREAK 300 k",
                "AGGRESSIVE    120 k",
                "SOFT           20 k",
                "95 %",
                "85 % •memory",
                "refused",
                "CRITICAL   75.0 %",
                "LOW         0.0 %",
                "offered  400 k/s",
                "spill log      750",
                "7.5 s ▲ CIRCUIT_BREAK lag 300000",
            ] {
                assert!(text.contains(said), "{width} × {height}: no {said:?} in\n{text}");
            }
            assert!(lines.iter().any(|line| line.starts_with("CRITICAL   75") && line.ends_with("1 000")), "{text}");
        }
    }

    #[test]
    fn a_terminal_of_any_size_shows_something() {
        for (width, height) in [(1, 1), (10, 3), (63, 50), (64, 20), (64, 21), (300, 20), (400, 120)] {
            let lines = drawn(width, height);
            assert!(lines.iter().any(|line| !line.is_empty()), "{width} × {height}");
        }
        assert!(drawn(60, 10)[1].contains("make it 64 × 20"));
    }

    #[test]
    fn the_water_stands_as_high_as_the_lag_asks_for() {
        let lines = drawn(80, 24);
        // Two rows a level, from row 2 on: at 400 000 it is in the topmost band, at 40 000 in the second one.
        let heights: Vec<usize> = (21..42)
            .map(|x| (2..12).filter(|y| !matches!(lines[*y].chars().nth(x), None | Some(' ' | '┈' | '•'))).count())
            .collect();
        assert!(heights.windows(2).all(|pair| pair[0] <= pair[1]), "{heights:?}");
        assert_eq!((heights[2], heights[20]), (4, 9), "{heights:?}");
        // 75 %, and 25 % refused.
        let bar = lines.iter().find(|line| line.starts_with("CRITICAL   75")).unwrap();
        assert_eq!((bar.matches('█').count(), bar.matches('·').count()), (33, 11));
        let bar = lines.iter().find(|line| line.starts_with("HIGH       75")).unwrap();
        assert_eq!((bar.matches('█').count(), bar.matches('▓').count()), (22, 11));
    }
}
