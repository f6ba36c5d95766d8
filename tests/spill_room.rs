//! Proves that a pipeline whose spill log has no room, since a budget is used up or the disk is full, sheds what it cannot spill under
//! a name of its own, loses nothing else, and spills again when there is room.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};

use plimsoll::spill::SpillConfig;
use plimsoll::{Context, DegradationLevel, Handler, Ledger, Pipeline, ShedReason, SymbolId, Tick, Tier};
use support::spill::{child_on_small_disk, child_plan, run_child};
use support::{ForcedLag, TIER_3, forced_pipeline, trade, wait_until};

/// What a handler was told of a symbol: sequence numbers, and holes.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Call>>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Message(u64),
    Gap(u64),
}

impl Handler<Tick> for Told {
    fn process(&mut self, tick: &Tick, _: &Context) {
        self.0.lock().unwrap().push(Call::Message(tick.sequence));
    }

    fn on_gap(&mut self, _: SymbolId, missed: u64) {
        self.0.lock().unwrap().push(Call::Gap(missed));
    }
}

fn quiet(pipeline: &Pipeline<Tick, Told>) -> Ledger {
    wait_until("empty lanes", || pipeline.ledger().in_flight == 0);
    pipeline.ledger()
}

fn full(ledger: &Ledger) -> u64 {
    ledger.shed_by.get(Tier::Tier3, ShedReason::SpillFull)
}

/// Twice: offers until messages are shed for want of room, replays, and goes on.
fn fill_and_recover(config: SpillConfig) {
    let (lag, told) = (ForcedLag::default(), Told::default());
    let builder = forced_pipeline(&lag).lane_capacity(10_000).spill(config);
    let mut pipeline = builder.start(|_| told.clone()).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    let mut sequence = 0;
    let mut offer = |pipeline: &Pipeline<Tick, Told>, count: u64| {
        let ticks: Vec<Tick> = (1..=count).map(|i| trade(TIER_3, sequence + i)).collect();
        sequence += count;
        assert_eq!(feed.offer_slice(&ticks).accepted, ticks.len());
        quiet(pipeline)
    };
    for round in 1..=2 {
        lag.reach(&pipeline, DegradationLevel::Aggressive);
        let before = full(&pipeline.ledger());
        // Not only since the next segment is not ready yet: nothing at all goes in.
        wait_until("a full log", || {
            let (spilled, shed) = (pipeline.ledger().spilled, full(&pipeline.ledger()));
            let ledger = offer(&pipeline, 5000);
            ledger.check().unwrap();
            ledger.spilled == spilled && full(&ledger) == shed + 5000 && shed > before
        });
        let ledger = pipeline.ledger();
        assert_eq!(ledger.shed, full(&ledger), "shed for no other reason");

        lag.reach(&pipeline, DegradationLevel::Normal);
        wait_until("replay", || pipeline.ledger().spill_pending == 0);
        let ledger = pipeline.ledger();
        ledger.check().unwrap();
        assert!(ledger.spilled == ledger.replayed && ledger.spill_lost == 0, "round {round}: {ledger:?}");
    }
    // What comes after it goes live.
    assert_eq!(offer(&pipeline, 1).processed_live, 1);
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    ledger.check().unwrap();

    // In order, and each hole is just what is missing at its place.
    let mut last = 0;
    let mut hole = 0;
    for call in told.0.lock().unwrap().iter() {
        match *call {
            Call::Gap(missed) => hole += missed,
            Call::Message(sequence) => {
                assert_eq!(sequence, last + hole + 1);
                (last, hole) = (sequence, 0);
            }
        }
    }
    assert_eq!((last, hole), (sequence, 0));
}

#[test]
fn a_budget_that_is_used_up() {
    let dir = tempfile::tempdir().unwrap();
    let segment_bytes = 64 << 10;
    let budget_bytes = 3 * segment_bytes;
    let config = SpillConfig::new(dir.path());
    fill_and_recover(SpillConfig { segment_bytes, budget_bytes, free_space_floor_bytes: 0, ..config });
}

/// What the child process runs; in any other it does nothing.
#[test]
fn child_on_a_small_disk() {
    let Some((dir, _)) = child_plan() else { return };
    fill_and_recover(on_small_disk(&dir));
}

/// 16 MiB hold fifteen segments and a little.
fn on_small_disk(dir: &Path) -> SpillConfig {
    SpillConfig { segment_bytes: 1 << 20, free_space_floor_bytes: 0, ..SpillConfig::new(dir) }
}

#[test]
fn a_disk_that_is_full() {
    let dir = tempfile::tempdir().unwrap();
    if let Some(command) = child_on_small_disk("child_on_a_small_disk", dir.path(), 16, "pipeline") {
        run_child(command);
    }
}
