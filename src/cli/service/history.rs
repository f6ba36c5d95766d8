//! The last ten minutes, a sample a second: what the page draws when it is opened.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use plimsoll::Control;
use serde::Serialize;

/// Samples that are kept.
const KEPT: usize = 600;
const INTERVAL: Duration = Duration::from_secs(1);

/// One row for each second.
#[derive(Debug, Default)]
pub(crate) struct History {
    rows: VecDeque<Row>,
    next: Option<Instant>,
}

/// In the order of [`COLUMNS`].
type Row = [f64; 14];

/// What rows are made of; counts since the start.
const COLUMNS: [&str; 14] = [
    "unix_ms",
    "level",
    "lag",
    "memory_percent",
    "offered",
    "processed",
    "shed_tier_1",
    "shed_tier_2",
    "shed_tier_3",
    "spilled",
    "replayed",
    "refused",
    "spill_pending",
    "conflated",
];

/// The answer of `/history.json`.
#[derive(Debug, Serialize)]
pub(crate) struct HistoryAnswer {
    interval_seconds: u64,
    columns: [&'static str; 14],
    /// `null` for what is not known.
    rows: Vec<Vec<Option<f64>>>,
}

impl History {
    /// Takes a sample, if one is due.
    pub(super) fn look(&mut self, control: &Control) {
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        // A late sample does not make the next one early.
        self.next = Some(self.next.map_or(now, |next| (next + INTERVAL).max(now)));
        if self.rows.len() == KEPT {
            self.rows.pop_front();
        }
        let (snapshot, unix) = (control.snapshot(), SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default());
        let ledger = &snapshot.ledger;
        let totals = super::super::status::Totals::from(ledger);
        let [tier_1, tier_2, tier_3] = totals.shed_by_tier.map(|count| count as f64);
        self.rows.push_back([
            unix.as_millis() as f64,
            f64::from(snapshot.level.value()),
            snapshot.lag as f64,
            snapshot.memory.percent(),
            ledger.offered as f64,
            ledger.processed() as f64,
            tier_1,
            tier_2,
            tier_3,
            ledger.spilled as f64,
            ledger.replayed as f64,
            ledger.refused as f64,
            ledger.spill_pending as f64,
            ledger.conflated as f64,
        ]);
    }

    pub(super) fn answer(&self) -> HistoryAnswer {
        let known = |number: &f64| number.is_finite().then_some(*number);
        let rows = self.rows.iter().map(|row| row.iter().map(known).collect()).collect();
        HistoryAnswer { interval_seconds: INTERVAL.as_secs(), columns: COLUMNS, rows }
    }
}
