//! A trace as CSV.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use csv::StringRecord;

use super::trace::{Point, Trace};
use crate::cli::CliError;

const COLUMNS: [&str; 3] = ["t_ms", "lag", "heap_pct"];
/// Messages offered a second since the row before, by priority: all or none of them.
const RATES: [&str; 4] = ["offered_critical", "offered_high", "offered_normal", "offered_low"];

/// A trace being read.
pub(super) struct Rows<'a> {
    path: &'a Path,
    reader: csv::Reader<File>,
    /// Where in a row the three columns are.
    columns: [usize; 3],
    /// Where the rates are, if they are there.
    rates: Option<[usize; 4]>,
    record: StringRecord,
    last: Duration,
}

impl<'a> Rows<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self, CliError> {
        let file = File::open(path).map_err(|error| CliError::io(&path.display(), &error))?;
        // Lines end with a line feed; a carriage return before it is trimmed. Then the reader counts lines as editors do.
        let mut reader =
            csv::ReaderBuilder::new().terminator(csv::Terminator::Any(b'\n')).trim(csv::Trim::All).from_reader(file);
        let header = reader.headers().map_err(|error| in_file(path, &error))?.clone();
        let place = |name: &str| header.iter().position(|column| column == name);
        let missing = |name: &str| {
            let found = header.iter().collect::<Vec<_>>().join(",");
            CliError::Runtime(format!(
                "{}:1: no column {name:?} in the header {found:?}: a trace has t_ms, lag and heap_pct, and it may have all of {}",
                path.display(),
                RATES.join(", ")
            ))
        };
        let mut columns = [0; 3];
        for (found, name) in columns.iter_mut().zip(COLUMNS) {
            *found = place(name).ok_or_else(|| missing(name))?;
        }
        let mut rates = None;
        if RATES.iter().any(|name| place(name).is_some()) {
            let mut places = [0; 4];
            for (found, name) in places.iter_mut().zip(RATES) {
                *found = place(name).ok_or_else(|| missing(name))?;
            }
            rates = Some(places);
        }
        Ok(Self { path, reader, columns, rates, record: StringRecord::new(), last: Duration::ZERO })
    }

    pub(super) fn next(&mut self) -> Result<Option<Point>, CliError> {
        let read = self.reader.read_record(&mut self.record);
        if !read.map_err(|error| in_file(self.path, &error))? {
            return Ok(None);
        }
        let [t_ms, lag, heap_pct] = self.texts();
        let at = milliseconds(t_ms).ok_or_else(|| self.bad(self.columns[0], "not milliseconds of 0 or more"))?;
        if at < self.last {
            return Err(self.bad(self.columns[0], "earlier than the row before; a trace is ascending by time"));
        }
        let lag = lag.parse().map_err(|_| self.bad(self.columns[1], "not a whole number of messages of 0 or more"))?;
        let memory_pct = heap_pct.parse().ok().filter(|pct: &f64| pct.is_finite());
        let memory_pct = memory_pct.ok_or_else(|| self.bad(self.columns[2], "not a percentage"))?;
        let mut offered = None;
        if let Some(places) = self.rates {
            let mut rates = [0.0; 4];
            for (rate, place) in rates.iter_mut().zip(places) {
                let parsed = self.text(place).parse().ok().filter(|rate: &f64| rate.is_finite() && *rate >= 0.0);
                *rate = parsed.ok_or_else(|| self.bad(place, "not messages a second of 0 or more"))?;
            }
            offered = Some(rates);
        }
        self.last = at;
        Ok(Some(Point { at, lag, memory_pct, age_ms: None, level: None, offered, finished: None }))
    }

    /// The three columns of the row read last, as they stand there.
    pub(super) fn texts(&self) -> [&str; 3] {
        self.columns.map(|column| self.text(column))
    }

    fn text(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or_default()
    }

    fn bad(&self, column: usize, reason: &str) -> CliError {
        let line = self.record.position().map_or(0, csv::Position::line);
        let all = COLUMNS.into_iter().zip(self.columns);
        let rates = RATES.into_iter().zip(self.rates.into_iter().flatten());
        let name = all.chain(rates).find(|(_, place)| *place == column).map_or("", |(name, _)| name);
        CliError::Runtime(format!(
            "{}:{line}: column {} ({name}): {:?}: {reason}",
            self.path.display(),
            column + 1,
            self.text(column)
        ))
    }
}

/// All of it.
pub(super) fn read(path: &Path) -> Result<Trace, CliError> {
    let mut rows = Rows::open(path)?;
    let mut points = Vec::new();
    while let Some(point) = rows.next()? {
        points.push(point);
    }
    Ok(Trace { points, thresholds: None })
}

fn milliseconds(text: &str) -> Option<Duration> {
    match text.parse() {
        Ok(whole) => Some(Duration::from_millis(whole)),
        Err(_) => Duration::try_from_secs_f64(text.parse::<f64>().ok()? / 1000.0).ok(),
    }
}

fn in_file(path: &Path, error: &csv::Error) -> CliError {
    CliError::Runtime(format!("{}: {error}", path.display()))
}
