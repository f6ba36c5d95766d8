//! `Ingress::try_offer` and `Ingress::settled`: when a message is done with for good, for sources that acknowledge.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use plimsoll::spill::{Durability, SpillConfig};
use plimsoll::{
    Context, DegradationLevel, Handler, Ingress, MemoryUse, Pipeline, PipelineBuilder, Place, SymbolId, Tick,
};

/// Holds a number up until it is let go; panics at another.
#[derive(Clone, Debug)]
struct Gate {
    held: u64,
    fatal: u64,
    is_open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    fn new(held: u64, fatal: u64) -> Self {
        Self { held, fatal, is_open: Arc::default() }
    }

    fn open(&self) {
        *self.is_open.0.lock().unwrap() = true;
        self.is_open.1.notify_all();
    }
}

impl Handler<Tick> for Gate {
    fn process(&mut self, tick: &Tick, _: &Context) {
        assert!(tick.size != self.fatal, "a fatal number");
        if tick.size == self.held {
            let mut is_open = self.is_open.0.lock().unwrap();
            while !*is_open {
                is_open = self.is_open.1.wait(is_open).unwrap();
            }
        }
    }
}

fn tick(symbol: u32, number: u64) -> Tick {
    Tick::trade(SymbolId::new(symbol), number, "1".parse().unwrap(), number)
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        std::thread::yield_now();
    }
}

fn settled(ingress: &mut Ingress<Tick>) -> u64 {
    ingress.look_settled();
    ingress.settled(0)
}

#[test]
fn a_message_is_settled_when_its_handler_is_done_with_it_and_not_before() {
    let gate = Gate::new(300, 0);
    let mut pipeline = PipelineBuilder::new().start(|_| gate.clone()).unwrap();
    let mut ingress = pipeline.ingress().unwrap();
    for number in 1..=400 {
        assert_eq!(ingress.try_offer(tick(0, number)), Some(Place { lane: 0, number }));
    }
    ingress.flush();
    until("the handler is at the one that it holds", || settled(&mut ingress) >= 128);
    assert!(settled(&mut ingress) < 300);
    gate.open();
    until("all are settled", || settled(&mut ingress) == 400);
    drop(ingress);
    let ledger = pipeline.join().unwrap().ledger;
    assert_eq!((ledger.offered, ledger.processed(), ledger.redelivered), (400, 400, 0));
}

#[test]
fn nothing_is_settled_any_more_once_a_handler_has_panicked() {
    let gate = Gate::new(0, 300);
    let mut pipeline = PipelineBuilder::new().start(|_| gate.clone()).unwrap();
    let mut ingress = pipeline.ingress().unwrap();
    (1..=1000).for_each(|number| assert!(ingress.try_offer(tick(0, number)).is_some()));
    ingress.flush();
    until("the worker has failed", || ingress.has_failed());
    until("its lane is empty", || pipeline.ledger().in_flight == 0);
    assert!(settled(&mut ingress) < 300, "what no handler got does not count");
    assert!(!ingress.is_open() && ingress.try_offer(tick(0, 1)).is_none());
    drop(ingress);
    assert_eq!(pipeline.join().unwrap_err().ledger.offered, 1000);
}

#[test]
fn what_finds_no_room_does_not_count_as_offered() {
    let gate = Gate::new(1, 0);
    let mut pipeline = PipelineBuilder::new().start(|_| gate.clone()).unwrap();
    let mut ingress = pipeline.ingress().unwrap();
    let accepted = (1..=100_000).take_while(|number| ingress.try_offer(tick(0, *number)).is_some()).count() as u64;
    assert!((1..100_000).contains(&accepted));
    ingress.note_redelivered(7);
    ingress.flush();
    let ledger = pipeline.ledger();
    assert_eq!((ledger.offered, ledger.full, ledger.refused, ledger.redelivered), (accepted, 0, 0, 7));
    gate.open();
    until("all are settled", || settled(&mut ingress) == accepted);
    drop(ingress);
    pipeline.join().unwrap();
}

/// A pipeline at AGGRESSIVE, where all that it gets is spilled.
fn spilling(durability: Durability, dir: &std::path::Path) -> (Pipeline<Tick, Gate>, Arc<AtomicBool>) {
    let is_high = Arc::new(AtomicBool::new(true));
    let memory = Arc::clone(&is_high);
    let used = move || if memory.load(Ordering::Relaxed) { 92 } else { 10 };
    let thresholds = plimsoll::DegradationThresholds { recovery_cooldown_seconds: 0.0, ..Default::default() };
    let spill = SpillConfig { segment_bytes: 1 << 20, free_space_floor_bytes: 0, durability, ..SpillConfig::new(dir) };
    let pipeline = PipelineBuilder::new()
        .thresholds(thresholds)
        .memory_source(move || MemoryUse { used_bytes: used(), limit_bytes: 100 })
        .sample_interval(Duration::from_millis(1))
        .spill(spill)
        .start(|_| Gate::new(0, 0))
        .unwrap();
    until("the level is AGGRESSIVE", || pipeline.level() == DegradationLevel::Aggressive);
    (pipeline, is_high)
}

#[test]
fn what_is_spilled_is_settled_when_it_is_as_safe_as_it_is_to_be() {
    for (durability, is_settled) in [
        (Durability::None, true),
        (Durability::Strict, true),
        (Durability::Interval(Duration::from_millis(5)), true),
        // Never written back in this test.
        (Durability::Interval(Duration::from_secs(3600)), false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut pipeline, is_high) = spilling(durability, dir.path());
        let mut ingress = pipeline.ingress().unwrap();
        (1..=500).for_each(|number| assert!(ingress.try_offer(tick(0, number)).is_some()));
        ingress.flush();
        until("all are spilled", || pipeline.ledger().spilled == 500);
        if is_settled {
            until("all are settled", || settled(&mut ingress) == 500);
        } else {
            // The first may have been written back as the log began.
            let now = settled(&mut ingress);
            assert!(now < 500, "{now} are settled, though nothing was written back");
        }
        // What is replayed is processed, and that is as good.
        is_high.store(false, Ordering::Relaxed);
        until("all are settled, be it by replay", || settled(&mut ingress) == 500);
        drop(ingress);
        pipeline.join().unwrap();
    }
}
