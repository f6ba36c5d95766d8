//! Writes trades and quotes as rows.

use std::io::{self, Write};

use super::config::RowFormat;
use super::fields::Role;
use crate::tick::{Side, Tick, TickKind};

/// The columns that are written.
const COLUMNS: [Role; 10] = [
    Role::Kind,
    Role::Symbol,
    Role::Ts,
    Role::Price,
    Role::Size,
    Role::Side,
    Role::Bid,
    Role::BidSize,
    Role::Ask,
    Role::AskSize,
];

/// Writes trades and quotes as [`RowsSource`](super::RowsSource) reads them, with columns named by their roles, and times in
/// nanoseconds.
#[derive(Debug)]
pub struct RowWriter<W> {
    out: W,
    format: RowFormat,
    row: String,
}

impl<W: Write> RowWriter<W> {
    /// Begins a file, for CSV with its header.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn new(mut out: W, format: RowFormat) -> io::Result<Self> {
        if let RowFormat::Csv { delimiter } = format {
            let delimiter = char::from(delimiter).to_string();
            writeln!(out, "{}", COLUMNS.map(Role::name).join(&delimiter))?;
        }
        Ok(Self::headless(out, format))
    }

    /// Goes on in a file.
    pub(crate) fn headless(out: W, format: RowFormat) -> Self {
        Self { out, format, row: String::new() }
    }

    /// What is written to.
    #[cfg(feature = "kafka")]
    pub(crate) fn out_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes a trade or a quote; other ticks are left out, and `false` is returned. The symbol's name has no quotes, delimiters or control
    /// characters.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn tick(&mut self, symbol: &str, tick: &Tick) -> io::Result<bool> {
        let kind = match tick.kind {
            TickKind::Trade => "trade",
            TickKind::Quote => "quote",
            _ => return Ok(false),
        };
        let side = match tick.side {
            Side::Buy => "buy",
            Side::Sell => "sell",
            Side::Unknown => "",
        };
        let is_trade = tick.kind == TickKind::Trade;
        self.row.clear();
        for role in COLUMNS {
            let number = |is_there: bool, number: &dyn std::fmt::Display| {
                if is_there { number.to_string() } else { String::new() }
            };
            let (has_bid, has_ask) = (!is_trade && tick.size > 0, !is_trade && tick.ask_size > 0);
            let text = match role {
                Role::Kind => kind.to_owned(),
                Role::Symbol => symbol.to_owned(),
                Role::Ts => tick.event_ns.to_string(),
                Role::Price => number(is_trade, &tick.price),
                Role::Size => number(is_trade, &tick.size),
                Role::Side => side.to_owned(),
                Role::Bid => number(has_bid, &tick.price),
                Role::BidSize => number(has_bid, &tick.size),
                Role::Ask => number(has_ask, &tick.ask_price),
                _ => number(has_ask, &tick.ask_size),
            };
            self.push(role, &text);
        }
        match self.format {
            RowFormat::Csv { .. } => writeln!(self.out, "{}", &self.row[1..])?,
            RowFormat::Ndjson => writeln!(self.out, "{{{}}}", &self.row[1..])?,
        }
        Ok(true)
    }

    /// Adds a field, after what stands between fields.
    fn push(&mut self, role: Role, text: &str) {
        match self.format {
            RowFormat::Csv { delimiter } => {
                self.row.push(char::from(delimiter));
                self.row.push_str(text);
            }
            RowFormat::Ndjson if text.is_empty() => {}
            RowFormat::Ndjson => {
                let quote = if matches!(role, Role::Kind | Role::Symbol | Role::Side) { "\"" } else { "" };
                self.row.push_str(&format!(",\"{role}\":{quote}{text}{quote}"));
            }
        }
    }

    /// Ends the file; returns what it was written to.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}
