//! What the hand-written pipelines have in common: the way to a worker, the decision, the counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use crossbeam::utils::CachePadded;
use plimsoll::{Context, DegradationLevel, MessagePriority, SymbolId, Tick, TickKind, Verdict};

use crate::handlers::{Checked, Seen, context};
use crate::load::Load;

/// What is decided from.
pub(crate) struct Rules {
    /// Index of the priority of each symbol's trades and quotes.
    priorities: Box<[u8]>,
    /// By level and priority: whether a message is processed, not shed.
    keeps: [[bool; 4]; 5],
    /// By level; the one before CIRCUIT_BREAK stands for that.
    contexts: [Context; 5],
}

impl Rules {
    pub(crate) fn of(load: &Load) -> Arc<Self> {
        let priority = |id| Load::priority(SymbolId::new(id), TickKind::Trade).index() as u8;
        let keeps =
            |level| MessagePriority::ALL.map(|priority| load.verdicts.verdict(level, priority) == Verdict::Process);
        Arc::new(Self {
            priorities: (0..load.symbols).map(priority).collect(),
            keeps: DegradationLevel::ALL.map(keeps),
            contexts: DegradationLevel::ALL.map(context),
        })
    }
}

/// A worker's counters, by priority. It is their one writer, so that a load and a store do.
#[derive(Default)]
pub(crate) struct Counts {
    processed: [AtomicU64; 4],
    shed: [AtomicU64; 4],
}

#[inline]
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// A worker's part that decides and handles.
pub(crate) struct Desk<H> {
    handler: H,
    rules: Arc<Rules>,
    counts: Arc<CachePadded<Counts>>,
}

impl<H: Checked> Desk<H> {
    /// One for each worker.
    pub(crate) fn all(load: &Load) -> Vec<Self> {
        let rules = Rules::of(load);
        let desk = |_| Self { handler: H::new(load), rules: Arc::clone(&rules), counts: Arc::default() };
        (0..load.workers).map(desk).collect()
    }

    /// Processes the message or sheds it, and counts.
    #[inline]
    pub(crate) fn decide(&mut self, level: usize, tick: &mut Tick) {
        let low = MessagePriority::Low.index();
        let priority = match tick.kind {
            TickKind::Reference => low,
            _ => usize::from(self.rules.priorities[tick.symbol.index()] & 3),
        };
        if self.rules.keeps[level][priority] {
            let context = &self.rules.contexts[level];
            if level == DegradationLevel::Normal.index() {
                self.handler.enrich(tick, context);
            }
            self.handler.process(tick, context);
            bump(&self.counts.processed[priority]);
        } else {
            bump(&self.counts.shed[priority]);
        }
    }

    /// What the handler saw, and how many messages were processed and shed.
    pub(crate) fn end(self) -> Ended {
        let sum = |counters: &[AtomicU64; 4]| counters.iter().map(|c| c.load(Ordering::Relaxed)).sum();
        Ended { processed: sum(&self.counts.processed), shed: sum(&self.counts.shed), seen: self.handler.seen() }
    }
}

/// A worker's result.
pub(crate) struct Ended {
    seen: Seen,
    processed: u64,
    shed: u64,
}

impl Ended {
    pub(crate) fn turn(elapsed: std::time::Duration, workers: Vec<Self>) -> crate::race::Turn {
        let of = |pick: fn(&Self) -> u64| workers.iter().map(pick).sum();
        let (processed, shed) = (of(|w| w.processed), of(|w| w.shed));
        crate::race::Turn { elapsed, processed, shed, seen: workers.into_iter().map(|w| w.seen).collect() }
    }
}

/// Starts a worker thread; returns when it is ready, and so on its core.
pub(crate) fn spawn<T: Send + 'static>(
    prepare: impl FnOnce() + Send + 'static,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let (ready, is_ready) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        prepare();
        let _ = ready.send(());
        body()
    });
    is_ready.recv().expect("a worker died at its start");
    thread
}
