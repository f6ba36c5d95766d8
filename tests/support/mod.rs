//! What the pipeline tests share: signals that a test forces, and waiting for a condition.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod random_run;
pub(crate) mod recorder;
pub(crate) mod spill;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plimsoll::{
    Context, DegradationLevel, DegradationThresholds, Handler, LagSource, MemoryUse, Message, Pipeline,
    PipelineBuilder, Price, SymbolId, SymbolTiers, Symbols, Tick, Tier,
};

/// Lag that a test sets. It claims a backlog of its own, so that lanes may be as small as the test likes.
#[derive(Clone, Default)]
pub(crate) struct ForcedLag(Arc<AtomicU64>);

impl ForcedLag {
    /// Makes the monitor's next sample see the lag that means this level.
    pub(crate) fn force(&self, level: DegradationLevel) {
        self.0.store(lag_of(level), Ordering::Release);
    }

    /// Forces a level and waits until it is in force.
    pub(crate) fn reach<M: Message, H: Handler<M>>(&self, pipeline: &Pipeline<M, H>, level: DegradationLevel) {
        self.force(level);
        wait_until(level.name(), || pipeline.level() == level);
    }
}

impl LagSource for ForcedLag {
    fn lag(&mut self, _in_lanes: u64) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn has_backlog(&self) -> bool {
        true
    }
}

/// A lag that means this level, whatever the level was before.
pub(crate) fn lag_of(level: DegradationLevel) -> u64 {
    [0, 100, 1_000, 10_000, 100_000][level.index()]
}

/// Levels a power of ten apart, so that calm for one level is a trigger for the one below; and no cooldown.
pub(crate) fn thresholds() -> DegradationThresholds {
    DegradationThresholds {
        lag_soft: lag_of(DegradationLevel::Soft),
        lag_graceful: lag_of(DegradationLevel::Graceful),
        lag_aggressive: lag_of(DegradationLevel::Aggressive),
        lag_circuit_break: lag_of(DegradationLevel::CircuitBreak),
        recovery_cooldown_seconds: 0.0,
        ..Default::default()
    }
}

/// A pipeline whose level follows `lag` within about a millisecond, whatever the machine's memory is like.
pub(crate) fn forced_pipeline(lag: &ForcedLag) -> PipelineBuilder {
    PipelineBuilder::default()
        .thresholds(thresholds())
        .lag_source(lag.clone())
        .memory_source(calm_memory)
        .sample_interval(Duration::from_millis(1))
        .symbols(numbered_symbols())
        .lane_capacity(4096)
}

/// Started with handlers that stand still in a message for as long as the flag is up, which it is at first.
pub(crate) fn start_held(builder: PipelineBuilder) -> (Pipeline<Tick, impl Handler<Tick>>, Arc<AtomicBool>) {
    let hold = Arc::new(AtomicBool::new(true));
    let held = Arc::clone(&hold);
    let pipeline = builder.start(move |_| {
        let held = Arc::clone(&held);
        move |_: &Tick, _: &Context| {
            while held.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        }
    });
    (pipeline.expect("the settings are right"), hold)
}

pub(crate) fn calm_memory() -> MemoryUse {
    MemoryUse { used_bytes: 10, limit_bytes: 100 }
}

pub(crate) const TIER_1: SymbolId = SymbolId::new(0);
pub(crate) const TIER_2: SymbolId = SymbolId::new(1);
pub(crate) const TIER_3: SymbolId = SymbolId::new(2);

/// Symbols that are numbers: 0, 3, 6 … of tier 1, 1, 4, 7 … of tier 2, 2, 5, 8 … of tier 3.
pub(crate) fn numbered_symbols() -> Arc<Symbols> {
    let symbols = Symbols::new(SymbolTiers::default(), 64);
    for number in 0..64 {
        symbols.set_tier(SymbolId::new(number), Tier::ALL[number as usize % 3]);
    }
    Arc::new(symbols)
}

/// A trade with a sequence number, which is also its time and size.
pub(crate) fn trade(symbol: SymbolId, sequence: u64) -> Tick {
    Tick { sequence, ..Tick::trade(symbol, sequence, Price::ZERO, sequence) }
}

/// A reference-data update with a sequence number.
pub(crate) fn reference(symbol: SymbolId, sequence: u64) -> Tick {
    Tick { sequence, ..Tick::reference(symbol, sequence) }
}

/// Waits for a condition. The deadline is far off: it turns a hang into a failure, and measures nothing.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}
