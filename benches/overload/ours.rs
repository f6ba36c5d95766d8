//! Plimsoll, set up for this handler.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use plimsoll::spill::SpillConfig;
use plimsoll::{
    DegradationThresholds, Ingress, MemoryUse, Offer, Pinning, PipelineBuilder, Symbols, Tick, WaitStrategy,
};

use crate::feed::{Intake, Mix, Schedule, feed};
use crate::levels::Levels;
use crate::outcome::{Fates, Outcome};
use crate::work::Work;

/// Lag at which SOFT to CIRCUIT_BREAK begin.
///
/// Up to AGGRESSIVE a message in the lane stands for a handler's turn, so lag × cost is what the last one waits: these
/// are 5, 10 and 20 ms. From there on only CRITICAL and HIGH, few of the messages, take their turn. The last level
/// shuts the gate for CRITICAL, too: it is far off, for the case that these alone are too many.
pub(crate) const LAG: [u64; 4] = [250, 500, 1_000, 60_000];
/// Messages that the lane, and the large queues, hold.
pub(crate) const LANE: usize = 1 << 16;
/// A little more than a lane takes to drain at CIRCUIT_BREAK: until it is over the gate stays shut, and the worker would
/// have nothing to do. The shorter it is, the more often the pipeline tries, amid the storm, whether that is over.
pub(crate) const COOLDOWN_SECONDS: f64 = 0.1;
pub(crate) const SAMPLE_INTERVAL: Duration = Duration::from_millis(1);

impl Intake for Ingress<Tick> {
    fn offer(&mut self, tick: Tick) -> bool {
        // A live feed does not wait; the ledger counts what was not accepted.
        let (Offer::Accepted | Offer::Refused | Offer::Full) = Ingress::offer(self, tick);
        true
    }

    fn flush(&mut self) {
        Ingress::flush(self);
    }
}

pub(crate) fn plimsoll(schedule: &Schedule) -> Outcome {
    let dir = std::env::var_os("PLIMSOLL_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(dir).unwrap();
    let spill = SpillConfig { segment_bytes: 8 << 20, free_space_floor_bytes: 0, ..SpillConfig::new(dir.path()) };
    let symbols = Arc::new(Symbols::default());
    let mix = Mix::new(&symbols);
    let start = Instant::now();
    let transitions = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&transitions);
    let mut pipeline = PipelineBuilder::new()
        .symbols(symbols)
        .lane_capacity(LANE)
        .prefault(true)
        .thresholds(thresholds())
        .sample_interval(SAMPLE_INTERVAL)
        // This is about lag: the memory of the machine that it runs on shall not have a say.
        .memory_source(|| MemoryUse { used_bytes: 0, limit_bytes: 1 })
        .wait_strategy(WaitStrategy::BusySpin)
        .pinning(Pinning::Cores(vec![1]))
        .spill(spill)
        .on_transition(move |transition| seen.lock().unwrap().push((start.elapsed(), transition.from, transition.to)))
        .start(|_| Work::new(start, schedule))
        .unwrap();
    let mut ingress = pipeline.ingress().expect("one producer by default");
    let sent = feed(schedule, &mix, start, &mut ingress);
    drop(ingress);
    let samples = pipeline.monitor_samples();
    let mut finished = pipeline.join().unwrap();

    let ledger = &finished.ledger;
    ledger.check().unwrap();
    let work = finished.handlers.pop().expect("one worker");
    let by_priority = |p: usize| work.live.iter().map(|phase| phase[p]).sum::<u64>();
    assert_eq!(ledger.by_priority.map(|part| part.processed_live), std::array::from_fn(by_priority));
    assert_eq!(ledger.replayed, work.replayed.iter().flatten().sum::<u64>());
    assert_eq!(ledger.offered, sent.offered.iter().flatten().sum::<u64>());
    assert_eq!((ledger.in_flight, ledger.spill_lost), (0, 0));
    let fates = Fates {
        shed: ledger.shed,
        refused: ledger.refused,
        full: ledger.full,
        spilled: ledger.spilled,
        waiting: ledger.spill_pending,
        ..Fates::default()
    };
    let transitions = std::mem::take(&mut *transitions.lock().unwrap());
    Outcome { sent, work, fates, levels: Some(Levels::new(transitions, schedule, samples)) }
}

pub(crate) fn thresholds() -> DegradationThresholds {
    let [lag_soft, lag_graceful, lag_aggressive, lag_circuit_break] = LAG;
    DegradationThresholds {
        lag_soft,
        lag_graceful,
        lag_aggressive,
        lag_circuit_break,
        recovery_cooldown_seconds: COOLDOWN_SECONDS,
        ..DegradationThresholds::default()
    }
}
