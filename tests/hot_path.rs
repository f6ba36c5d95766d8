//! Proves that the data path does not allocate: not the feed's thread in any kind of offer, and not the worker's, in
//! processing, shedding, spilling, replaying, telling of gaps and taking over new levels. A counting allocator stands under the whole
//! test; only the two threads that say so are counted, and only while the count is on.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/counting.rs"]
mod counting;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use counting::{COUNTING, MARKED, counted};
use plimsoll::spill::SpillConfig;
use plimsoll::{
    Budget, Context, DegradationLevel, Gradual, Handler, Ingress, LatencySnapshot, Ledger, MessagePriority, Offer,
    Offered, Pipeline, PipelineBuilder, ProportionalShedding, ShedReason, SymbolId, Tick, TickKind, Tier, VerdictTable,
};
use support::{ForcedLag, forced_pipeline, reference, trade, wait_until};

/// Marks the worker's thread, and counts by level.
#[derive(Clone, Default)]
struct Marker(Arc<Counts>);

#[derive(Default)]
struct Counts {
    processed: [AtomicU64; 5],
    missed: AtomicU64,
    held: AtomicBool,
    hold: AtomicBool,
}

impl Handler<Tick> for Marker {
    fn enrich(&mut self, tick: &mut Tick, _: &Context) {
        tick.ask_size = tick.size;
    }

    fn process(&mut self, _: &Tick, context: &Context) {
        MARKED.set(true);
        self.0.processed[context.level().index()].fetch_add(1, Ordering::Relaxed);
        while self.0.hold.load(Ordering::Acquire) {
            self.0.held.store(true, Ordering::Release);
            std::thread::yield_now();
        }
    }

    fn on_gap(&mut self, _: SymbolId, missed: u64) {
        self.0.missed.fetch_add(missed, Ordering::Relaxed);
    }
}

/// A burst of all symbols, tiers and kinds, received long ago, so that each block gives a latency sample.
fn burst() -> [Tick; 500] {
    std::array::from_fn(|i| {
        let symbol = SymbolId::new(i as u32 * 7 % 70); // some are beyond the registry's capacity
        let tick = match i % 5 {
            0 => reference(symbol, i as u64),
            1 => Tick { kind: TickKind::Quote, ..trade(symbol, i as u64) },
            _ => trade(symbol, i as u64),
        };
        Tick { receive_ns: 1, ..tick }
    })
}

/// All three ways to offer, and a flush. The last one waits for the worker, unless the gate is shut.
fn feed_some(pipeline: &Pipeline<Tick, Marker>, feed: &mut Ingress<Tick>, ticks: &[Tick; 500], total: &mut Offered) {
    for tick in ticks {
        match feed.offer(*tick) {
            Offer::Accepted => total.accepted += 1,
            Offer::Refused => total.refused += 1,
            Offer::Full => total.full += 1,
        }
    }
    feed.flush();
    let offered = feed.offer_slice(ticks);
    total.accepted += offered.accepted;
    total.refused += offered.refused;
    total.full += offered.full;
    let give_up = || pipeline.level() == DegradationLevel::CircuitBreak;
    total.accepted += usize::from(feed.offer_wait(ticks[1], give_up));
}

/// Many bursts under each level, up and down again, with a change in the midst of them.
fn ride(pipeline: &Pipeline<Tick, Marker>, feed: &mut Ingress<Tick>, lag: &ForcedLag, bursts: usize) -> Offered {
    let ticks = burst();
    let mut total = Offered::default();
    for level in [0, 1, 2, 3, 4, 3, 2, 1, 0, 4, 0].map(|i| DegradationLevel::ALL[i]) {
        lag.force(level);
        // The level changes while bursts are on their way, and stays for as many again.
        wait_until(level.name(), || {
            feed_some(pipeline, feed, &ticks, &mut total);
            pipeline.level() == level
        });
        (0..bursts).for_each(|_| feed_some(pipeline, feed, &ticks, &mut total));
    }
    total
}

/// Whether nothing is in the lanes. A ledger holds a list, so asking for it allocates: that is the test's own doing.
fn is_quiet(pipeline: &Pipeline<Tick, Marker>) -> bool {
    MARKED.set(false);
    let quiet = pipeline.ledger().in_flight == 0;
    MARKED.set(true);
    quiet
}

/// One test after the other: the counts are the process's.
#[test]
fn neither_the_feed_nor_the_worker_allocates_whatever_the_level() {
    let lag = ForcedLag::default();
    check(&lag, forced_pipeline(&lag), |ledger| assert_eq!((ledger.spilled, ledger.replayed), (0, 0)));

    let lag = ForcedLag::default();
    check(&lag, forced_pipeline(&lag).verdicts(VerdictTable::conflate()), |ledger| {
        assert!(ledger.conflated >= 20_000, "{ledger:?}");
    });

    let lag = ForcedLag::default();
    let shed = ProportionalShedding { from_lag: 500, to_lag: 9_000, from_percent: 10.0, to_percent: 100.0 };
    let budget = Budget { messages_per_second: 100_000.0, burst: 10_000 };
    let gradual = Gradual { shed: Some(shed), budget: Some(budget) };
    check(&lag, forced_pipeline(&lag).gradual(MessagePriority::Normal, gradual), |ledger| {
        assert!(Tier::ALL.iter().any(|tier| ledger.shed_by.get(*tier, ShedReason::Proportional) > 0), "{ledger:?}");
    });

    let dir = tempfile::tempdir().unwrap();
    let config = SpillConfig { segment_bytes: 1 << 20, free_space_floor_bytes: 0, ..SpillConfig::new(dir.path()) };
    let lag = ForcedLag::default();
    check(&lag, forced_pipeline(&lag).spill(config), |ledger| {
        assert!(ledger.spilled >= 20_000 && ledger.replayed >= 20_000, "{ledger:?}");
    });
}

fn check(lag: &ForcedLag, builder: PipelineBuilder, also: impl Fn(&Ledger)) {
    let marker = Marker::default();
    let counts = Arc::clone(&marker.0);
    let mut pipeline = builder.lane_capacity(10_000).start(|_| marker.clone()).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    let ticks = burst();

    // Warm up: threads set up what they keep for themselves. And see that the count counts.
    ride(&pipeline, &mut feed, lag, 1);
    MARKED.set(true);
    COUNTING.store(true, Ordering::Relaxed);
    let mut grown = Vec::with_capacity(10);
    grown.extend(0..std::hint::black_box(1000));
    drop(std::hint::black_box(grown));
    assert_eq!(counted(), [1, 1, 1], "an allocation, a reallocation, a deallocation");

    let offered = ride(&pipeline, &mut feed, lag, 180);
    // A full lane, for certain: the worker is held inside a message.
    counts.hold.store(true, Ordering::Release);
    wait_until("the handler", || {
        let _ = feed.offer_slice(&ticks);
        counts.held.load(Ordering::Acquire)
    });
    wait_until("a full lane", || feed.offer_slice(&ticks).full > 0);
    counts.hold.store(false, Ordering::Release);
    wait_until("an empty lane", || is_quiet(&pipeline));
    COUNTING.store(false, Ordering::Relaxed);
    assert_eq!(counted(), [0, 0, 0], "allocations, reallocations and deallocations on the data path");

    // The run was what it was meant to be.
    drop(feed);
    let finished = pipeline.join().unwrap();
    let ledger = &finished.ledger;
    ledger.check().unwrap();
    also(ledger);
    let all = offered.accepted + offered.refused + offered.full;
    assert!(all >= 1_900_000, "{offered:?}");
    assert!(offered.accepted >= 1_000_000 && offered.refused > 0, "{offered:?}");
    for (level, processed) in counts.processed.iter().enumerate().take(4) {
        assert!(processed.load(Ordering::Relaxed) > 0, "level {level}");
    }
    assert!(ledger.shed > 0 && ledger.workers[0].gaps > 0 && ledger.workers[0].enriched > 0, "{ledger:?}");
    assert!(counts.missed.load(Ordering::Relaxed) > 0);
    assert!(finished.latency.iter().map(LatencySnapshot::count).sum::<u64>() > 0);
    assert!(finished.transition_count >= 20);
}
