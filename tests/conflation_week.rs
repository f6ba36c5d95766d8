//! A recorded week through a handler that is three times too slow: conflated, the last bid and ask of each symbol are those of a run without load,
//! and quotes are fresh when the handler gets them.
//!
//! Wants `PLIMSOLL_ASX_WEEK`, a directory as of a feed of kind `asx`; without it nothing is tested. `PLIMSOLL_ASX_PACE` says how many times as fast as
//! recorded, 40 000 if not given: a week in ten seconds.
#![cfg(feature = "feeds")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll::source::{AsxSource, OnMalformed, Pace, pump};
use plimsoll::{
    Context, DegradationThresholds, Handler, Ledger, MemoryUse, Pipeline, PipelineBuilder, Price, SymbolId, Symbols,
    Tick, TickKind, VerdictTable, wall_clock_ns,
};

/// Bid and ask of each symbol, as it was handed over last, and how old quotes were then.
#[derive(Default)]
struct Bests {
    last: BTreeMap<SymbolId, [(Price, u64); 2]>,
    ages: Vec<u64>,
    work: Duration,
}

impl Handler<Tick> for Bests {
    fn process(&mut self, tick: &Tick, _: &Context) {
        let begin = Instant::now();
        if tick.kind == TickKind::Quote {
            self.last.insert(tick.symbol, [(tick.price, tick.size), (tick.ask_price, tick.ask_size)]);
            self.ages.push(wall_clock_ns().saturating_sub(tick.receive_ns));
        }
        while begin.elapsed() < self.work {
            std::hint::spin_loop();
        }
    }
}

/// By name, since ids are those of one run.
type Last = BTreeMap<String, [(Price, u64); 2]>;

fn run(week: &Path, pace: Pace, work: Duration, verdicts: VerdictTable) -> (Last, Vec<u64>, Ledger) {
    let symbols = Arc::new(Symbols::default());
    let thresholds = DegradationThresholds {
        lag_soft: 200,
        lag_graceful: 500,
        lag_aggressive: 2_000,
        lag_circuit_break: 390_000,
        recovery_cooldown_seconds: 0.1,
        ..Default::default()
    };
    let mut pipeline: Pipeline<Tick, Bests> = PipelineBuilder::new()
        .symbols(Arc::clone(&symbols))
        .thresholds(thresholds)
        .verdicts(verdicts)
        .memory_source(|| MemoryUse { used_bytes: 1, limit_bytes: 100 })
        .sample_interval(Duration::from_millis(1))
        .start(|_| Bests { work, ..Bests::default() })
        .unwrap();
    let mut ingress = pipeline.ingress().unwrap();
    let mut source = AsxSource::open(week, &symbols, OnMalformed::Stop).unwrap();
    pump(&mut source, &mut ingress, pace, || ControlFlow::Continue(())).unwrap();
    drop(ingress);
    let finished = pipeline.join().unwrap();
    finished.ledger.check().unwrap();
    let handler = finished.handlers.into_iter().next().unwrap();
    let name = |id: SymbolId| symbols.name(id).unwrap().to_string();
    let last = handler.last.into_iter().map(|(id, last)| (name(id), last)).collect();
    let mut ages = handler.ages;
    ages.sort_unstable();
    (last, ages, finished.ledger)
}

#[test]
fn conflated_a_week_ends_with_the_same_quotes_as_without_load() {
    let Some(week) = std::env::var_os("PLIMSOLL_ASX_WEEK").map(PathBuf::from) else { return };
    let pace: f64 = std::env::var("PLIMSOLL_ASX_PACE").map_or(40_000.0, |text| text.parse().unwrap());
    let (expected, ..) = run(&week, Pace::Max, Duration::ZERO, VerdictTable::default());
    assert!(expected.len() >= 4, "{expected:?}");
    // In trading hours some 3.4 messages a second come at the recorded pace; a third of that is managed.
    let work = Duration::from_secs_f64(0.875 / pace);
    for (name, verdicts) in [("default", VerdictTable::default()), ("conflate", VerdictTable::conflate())] {
        let (last, ages, ledger) = run(&week, Pace::Times(pace), work, verdicts);
        let age = |share: f64| Duration::from_nanos(ages[((ages.len() - 1) as f64 * share) as usize]);
        println!(
            "{name}: {} processed, {} conflated, {} shed, {} refused; age of quotes p50 {:?}, p99 {:?}, highest {:?}",
            ledger.processed(),
            ledger.conflated,
            ledger.shed,
            ledger.refused,
            age(0.5),
            age(0.99),
            age(1.0)
        );
        if name == "conflate" {
            assert_eq!(last, expected);
            assert!(ledger.conflated > 10_000 && ledger.refused == 0, "{ledger:?}");
        }
    }
}
