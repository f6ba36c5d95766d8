//! What a run looked like over time: rows that a thread of its own takes, few enough for a picture, however long the run is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};
use plimsoll::{
    Control, DegradationLevel, DegradationThresholds, LatencySnapshot, Ledger, PriorityLedger, Signal, SignalName,
    Snapshot, Transition,
};

use super::CliError;

/// When there are so many rows, every other one goes, and they come half as often.
const ROWS_MAX: usize = 1024;
/// No more transitions are kept; the count goes on.
const TRANSITIONS_MAX: usize = 10_000;

/// A moment of a run. Counts are since the start.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) at: Duration,
    pub(crate) level: DegradationLevel,
    pub(crate) lag: u64,
    /// The highest lag that is known of, since the row before.
    pub(crate) lag_peak: u64,
    /// Not-a-number where it is not known.
    pub(crate) memory_pct: f64,
    /// Of signals beside lag and memory: name and value, where there is one.
    pub(crate) signals: Vec<(SignalName, f64)>,
    pub(crate) offered: u64,
    pub(crate) by_priority: [PriorityLedger; 4],
    pub(crate) spill_pending: u64,
    pub(crate) latency: [LatencySnapshot; 4],
}

/// A run over time.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    pub(crate) rows: Vec<Row>,
    pub(crate) transitions: Vec<Transition>,
    pub(crate) transition_count: u64,
    /// Those in force at the end.
    pub(crate) thresholds: DegradationThresholds,
    /// Signals beside lag and memory, those of the end.
    pub(crate) signals: Vec<Signal>,
    /// As of the last row.
    pub(crate) ledger: Ledger,
    interval: Duration,
}

impl Recording {
    pub(super) fn new(interval: Duration) -> Self {
        let (rows, transitions, transition_count) = (Vec::with_capacity(ROWS_MAX), Vec::new(), 0);
        let (thresholds, ledger) = (DegradationThresholds::default(), Ledger::default());
        Self { rows, transitions, transition_count, thresholds, signals: Vec::new(), ledger, interval }
    }

    /// Takes a row.
    fn look(&mut self, control: &Control) {
        let Snapshot { uptime, level, lag, memory, ledger, transitions, transition_count, explanation, .. } =
            control.snapshot();
        let untold = usize::try_from(transition_count - self.transition_count).unwrap_or(usize::MAX);
        let new = transitions.iter().rev().take(untold).rev();
        let lag_peak = new.clone().map(|transition| transition.lag).fold(lag, u64::max);
        self.transitions.extend(new.take(TRANSITIONS_MAX - self.transitions.len()));
        self.transition_count = transition_count;
        self.thresholds = explanation.thresholds;
        self.signals = explanation.signals.iter().map(|status| status.signal.clone()).collect();
        let signals = explanation.signals.iter().filter_map(|status| Some((status.signal.name, status.value?)));
        if self.rows.len() == ROWS_MAX {
            let mut is_kept = false;
            self.rows.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
            self.interval *= 2;
        }
        self.rows.push(Row {
            at: uptime,
            level,
            lag,
            lag_peak,
            memory_pct: memory.percent(),
            signals: signals.collect(),
            offered: ledger.offered,
            by_priority: ledger.by_priority,
            spill_pending: ledger.spill_pending,
            latency: control.latency(),
        });
        self.ledger = ledger;
    }

    /// The time of the last row.
    pub(crate) fn length(&self) -> Duration {
        self.rows.last().map_or(Duration::ZERO, |row| row.at)
    }
}

/// Takes rows until it is [finished](Self::finish).
pub(crate) struct Recorder {
    recording: Arc<Mutex<Recording>>,
    control: Control,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Recorder {
    /// `interval`: between two rows, at first.
    pub(crate) fn start(control: Control, interval: Duration) -> Result<Self, CliError> {
        let recording = Arc::new(Mutex::new(Recording::new(interval)));
        let (stop, stopped) = bounded::<()>(0);
        let (rows, of) = (Arc::clone(&recording), control.clone());
        let thread = std::thread::Builder::new().name("recorder".to_owned()).spawn(move || {
            loop {
                let interval = {
                    let mut recording = lock(&rows);
                    recording.look(&of);
                    recording.interval
                };
                if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        let thread = thread.map_err(|error| CliError::io(&"the recorder's thread", &error))?;
        Ok(Self { recording, control, stop, thread })
    }

    /// What there is so far.
    pub(crate) fn recording(&self) -> MutexGuard<'_, Recording> {
        lock(&self.recording)
    }

    /// Takes a last row, of a pipeline that has ended, and gives all of them.
    pub(crate) fn finish(self) -> Recording {
        let Self { recording, control, stop, thread } = self;
        drop(stop);
        let _ = thread.join();
        let mut recording = lock(&recording);
        recording.look(&control);
        recording.clone()
    }
}

fn lock(recording: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}
