//! Proves what a pipeline does with its spill log: what is spilled, when it comes back and in which order, what happens at the
//! end, after a restart, when a handler panics, and when there is no room.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll::spill::{AtShutdown, Durability, SpillConfig};
use plimsoll::{
    Context, DegradationLevel, Failure, Handler, Ingress, Ledger, Pipeline, PipelineBuilder, Price, ShedReason,
    SymbolId, SymbolTiers, Symbols, Tick, Tier,
};
use support::{ForcedLag, TIER_1, TIER_2, TIER_3, forced_pipeline, reference, trade, wait_until};
use tempfile::TempDir;

const NORMAL: DegradationLevel = DegradationLevel::Normal;
const SOFT: DegradationLevel = DegradationLevel::Soft;
const AGGRESSIVE: DegradationLevel = DegradationLevel::Aggressive;
const CIRCUIT_BREAK: DegradationLevel = DegradationLevel::CircuitBreak;

/// One call of the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    symbol: SymbolId,
    sequence: u64,
    replayed: bool,
    enriched: bool,
}

/// Records what it sees; can be held inside a message, and panic at one.
#[derive(Clone, Default)]
struct Witness {
    seen: Arc<Mutex<Vec<Seen>>>,
    hold: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
    /// Sequence number to panic at, 0 for none.
    panic_at: Arc<AtomicU64>,
}

impl Witness {
    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn replayed(&self) -> Vec<u64> {
        self.seen().iter().filter(|seen| seen.replayed).map(|seen| seen.sequence).collect()
    }

    fn hold(&self) {
        self.held.store(false, Ordering::Release);
        self.hold.store(true, Ordering::Release);
    }

    fn wait_until_held(&self) {
        wait_until("the handler", || self.held.load(Ordering::Acquire));
    }

    fn release(&self) {
        self.hold.store(false, Ordering::Release);
    }
}

impl Handler<Tick> for Witness {
    fn enrich(&mut self, tick: &mut Tick, _: &Context) {
        tick.ask_size = 1;
    }

    fn process(&mut self, tick: &Tick, context: &Context) {
        assert_ne!(tick.sequence, self.panic_at.load(Ordering::Acquire), "asked to");
        let (replayed, enriched) = (context.replayed(), tick.ask_size == 1);
        assert_eq!(enriched, context.enriched());
        self.seen.lock().unwrap().push(Seen { symbol: tick.symbol, sequence: tick.sequence, replayed, enriched });
        while self.hold.load(Ordering::Acquire) {
            self.held.store(true, Ordering::Release);
            std::thread::yield_now();
        }
    }
}

/// Segments of 826 ticks.
fn config(dir: &TempDir) -> SpillConfig {
    SpillConfig {
        segment_bytes: 16 * 4096,
        budget_bytes: 1 << 30,
        free_space_floor_bytes: 0,
        ..SpillConfig::new(dir.path())
    }
}

fn start(lag: &ForcedLag, config: SpillConfig, witness: &Witness) -> (Pipeline<Tick, Witness>, Ingress<Tick>) {
    start_with(forced_pipeline(lag), config, witness)
}

fn start_with(
    builder: PipelineBuilder,
    config: SpillConfig,
    witness: &Witness,
) -> (Pipeline<Tick, Witness>, Ingress<Tick>) {
    let mut pipeline = builder.spill(config).start(|_| witness.clone()).unwrap();
    let feed = pipeline.ingress().unwrap();
    (pipeline, feed)
}

/// Offers and waits until the worker has taken them all off the lane.
fn offer(pipeline: &Pipeline<Tick, Witness>, feed: &mut Ingress<Tick>, ticks: &[Tick]) {
    for some in ticks.chunks(1000) {
        assert_eq!(feed.offer_slice(some).accepted, some.len());
        quiet(pipeline);
    }
}

fn quiet(pipeline: &Pipeline<Tick, Witness>) -> Ledger {
    wait_until("empty lanes", || pipeline.ledger().in_flight == 0);
    pipeline.ledger()
}

fn all_replayed(pipeline: &Pipeline<Tick, Witness>) -> Ledger {
    wait_until("replay", || pipeline.ledger().spill_pending == 0);
    pipeline.ledger()
}

fn trades(symbol: SymbolId, sequences: std::ops::RangeInclusive<u64>) -> Vec<Tick> {
    sequences.map(|sequence| trade(symbol, sequence)).collect()
}

#[test]
fn what_is_spilled_comes_back_below_aggressive_in_order_and_enriched_at_normal_alone() {
    let (lag, witness, dir) = (ForcedLag::default(), Witness::default(), TempDir::new().unwrap());
    let (pipeline, mut feed) = start(&lag, config(&dir), &witness);
    for level in [SOFT, NORMAL, DegradationLevel::Graceful] {
        witness.seen.lock().unwrap().clear();
        lag.reach(&pipeline, AGGRESSIVE);
        let before = pipeline.ledger();
        offer(&pipeline, &mut feed, &trades(TIER_3, 1..=3000));
        let ledger = quiet(&pipeline);
        assert_eq!((ledger.spilled - before.spilled, ledger.spill_pending), (3000, 3000));
        assert_eq!(witness.seen(), [], "nothing comes back at AGGRESSIVE");

        lag.reach(&pipeline, level);
        all_replayed(&pipeline).check().unwrap();
        let enriched = level == NORMAL;
        let expected: Vec<_> =
            (1..=3000).map(|sequence| Seen { symbol: TIER_3, sequence, replayed: true, enriched }).collect();
        assert_eq!(witness.seen(), expected, "{level}");
    }
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    ledger.check().unwrap();
    assert_eq!((ledger.spilled, ledger.replayed, ledger.shed), (9000, 9000, 0));
    let left: Vec<_> =
        std::fs::read_dir(dir.path().join("worker-0")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["cursor"], "replayed segments are deleted");
}

#[test]
fn a_symbol_goes_behind_its_spilled_messages_whatever_its_verdict_and_others_go_on_live() {
    let (lag, witness, dir) = (ForcedLag::default(), Witness::default(), TempDir::new().unwrap());
    let (pipeline, mut feed) = start(&lag, config(&dir), &witness);
    // Inside when the circuit breaks: HIGH is spilled.
    witness.hold();
    offer_held(&mut feed, &witness, trade(TIER_1, 1));
    assert_eq!(feed.offer_slice(&[trade(TIER_2, 1), trade(TIER_3, 1)]).accepted, 2);
    lag.reach(&pipeline, CIRCUIT_BREAK);
    witness.release();
    assert_eq!(quiet(&pipeline).spilled, 2);

    // HIGH is processed at AGGRESSIVE: not so TIER_2, which waits; but another one is. CRITICAL always is.
    lag.reach(&pipeline, AGGRESSIVE);
    let other_high = SymbolId::new(4);
    wait_until("the gate", || feed.offer(trade(TIER_1, 2)) == plimsoll::Offer::Accepted);
    offer(&pipeline, &mut feed, &[trade(TIER_2, 2), trade(other_high, 3), trade(TIER_1, 4)]);
    assert_eq!(quiet(&pipeline).spilled, 3);
    let live: Vec<_> = witness.seen().iter().map(|seen| (seen.symbol, seen.sequence)).collect();
    assert_eq!(live, [(TIER_1, 1), (TIER_1, 2), (other_high, 3), (TIER_1, 4)]);

    // At NORMAL even reference data of the symbol goes behind, as long as replay is held.
    witness.hold();
    lag.reach(&pipeline, NORMAL);
    witness.wait_until_held();
    assert_eq!(feed.offer_slice(&[reference(TIER_3, 2), trade(TIER_3, 3)]).accepted, 2);
    witness.release();
    quiet(&pipeline);
    all_replayed(&pipeline);
    let of = |symbol| {
        let seen = witness.seen();
        let of: Vec<_> = seen.iter().filter(|seen| seen.symbol == symbol).map(|seen| seen.sequence).collect();
        of
    };
    assert_eq!((of(TIER_2), of(TIER_3)), (vec![1, 2], vec![1, 2, 3]));
    // And then it goes live again.
    offer(&pipeline, &mut feed, &[trade(TIER_3, 4)]);
    assert!(!witness.seen().last().unwrap().replayed);
    drop(feed);
    pipeline.join().unwrap().ledger.check().unwrap();
}

/// Offers a message and waits until the handler is held in it.
fn offer_held(feed: &mut Ingress<Tick>, witness: &Witness, tick: Tick) {
    assert_eq!(feed.offer_slice(&[tick]).accepted, 1);
    witness.wait_until_held();
}

#[test]
fn replay_stops_when_the_level_rises() {
    let (lag, witness, dir) = (ForcedLag::default(), Witness::default(), TempDir::new().unwrap());
    let (pipeline, mut feed) = start(&lag, config(&dir), &witness);
    lag.reach(&pipeline, AGGRESSIVE);
    offer(&pipeline, &mut feed, &trades(TIER_3, 1..=5000));
    witness.hold();
    lag.reach(&pipeline, SOFT);
    witness.wait_until_held();
    lag.reach(&pipeline, AGGRESSIVE);
    witness.release();
    // A live message that comes after it: when that is done, the worker has looked at the level.
    offer(&pipeline, &mut feed, &[trade(TIER_1, 1)]);
    let replayed = witness.replayed().len();
    assert!((1..=200).contains(&replayed), "{replayed} were replayed: those in hand, and no more");
    offer(&pipeline, &mut feed, &[trade(TIER_1, 2), trade(TIER_1, 3)]);
    assert_eq!(witness.replayed().len(), replayed);
    lag.reach(&pipeline, NORMAL);
    all_replayed(&pipeline).check().unwrap();
    assert_eq!(witness.replayed(), (1..=5000).collect::<Vec<_>>());
}

#[test]
fn live_messages_are_not_starved_by_replay() {
    let (lag, witness, dir) = (ForcedLag::default(), Witness::default(), TempDir::new().unwrap());
    // One segment holds it all, so that nothing has to be read before it can be replayed.
    let config = SpillConfig { replay_share: 0.5, segment_bytes: 1 << 20, ..config(&dir) };
    let (pipeline, mut feed) = start(&lag, config, &witness);
    lag.reach(&pipeline, AGGRESSIVE);
    offer(&pipeline, &mut feed, &trades(TIER_3, 1..=5000));
    // The lane is filled while the worker is held, so that live messages wait all the time.
    witness.hold();
    offer_held(&mut feed, &witness, trade(TIER_1, 1));
    assert_eq!(feed.offer_slice(&trades(TIER_1, 2..=3000)).accepted, 2999);
    lag.reach(&pipeline, SOFT);
    witness.release();
    all_replayed(&pipeline);
    quiet(&pipeline);
    let seen = witness.seen();
    let last_live = seen.iter().rposition(|seen| !seen.replayed).unwrap();
    let runs = seen[..last_live].chunk_by(|a, b| a.replayed == b.replayed).filter(|run| run[0].replayed);
    let longest = runs.clone().map(<[Seen]>::len).max().unwrap();
    assert!(longest <= 128, "{longest} were replayed in a row while live messages waited");
    assert!(runs.count() > 5, "and replay is not starved either");
}

#[test]
fn what_is_left_is_replayed_after_a_restart_under_the_names_of_its_symbols() {
    let dir = TempDir::new().unwrap();
    let names = ["AAA", "BBB", "CCC", "DDD", "EEE"];
    let run = |order: &[&str], workers: usize, at_shutdown, count: u64| {
        let (lag, witness) = (ForcedLag::default(), Witness::default());
        let symbols = Arc::new(Symbols::new(SymbolTiers::default(), 64));
        order.iter().for_each(|name| _ = symbols.intern(name).unwrap());
        let builder = forced_pipeline(&lag).symbols(Arc::clone(&symbols)).workers(workers);
        let (pipeline, mut feed) = start_with(builder, SpillConfig { at_shutdown, ..config(&dir) }, &witness);
        if count > 0 {
            lag.reach(&pipeline, AGGRESSIVE);
            let ticks = (1..=count).map(|i| {
                let name = names[i as usize % names.len()];
                let price = Price::from_billionths(name.as_bytes()[0].into());
                Tick { price, ..trade(symbols.id(name).unwrap(), i) }
            });
            offer(&pipeline, &mut feed, &ticks.collect::<Vec<_>>());
        }
        drop(feed);
        let ledger = pipeline.join().unwrap().ledger;
        ledger.check().unwrap();
        let seen = witness.seen();
        let named: Vec<_> = seen.iter().map(|s| (symbols.name(s.symbol).unwrap().to_string(), s.sequence)).collect();
        (ledger, named)
    };
    let (ledger, seen) = run(&names, 3, AtShutdown::Leave, 4000);
    assert_eq!((ledger.spill_pending, seen.len()), (4000, 0));
    // Another order of names, and so other ids, and another number of workers.
    let (ledger, seen) = run(&["EEE", "XXX", "CCC"], 2, AtShutdown::Replay, 0);
    assert_eq!((ledger.recovered, ledger.replayed, ledger.spill_pending), (4000, 4000, 0));
    for (i, name) in names.iter().enumerate() {
        let of: Vec<u64> = seen.iter().filter(|(n, _)| n == name).map(|(_, sequence)| *sequence).collect();
        let expected: Vec<u64> = (1..=4000).filter(|sequence| *sequence as usize % names.len() == i).collect();
        assert_eq!(of, expected, "{name}");
    }
    let (ledger, _) = run(&names, 1, AtShutdown::Leave, 0);
    assert_eq!(ledger.recovered, 0, "nothing comes twice");
    assert!(!dir.path().join("worker-2").exists(), "a log without a worker goes when it is empty");
}

#[test]
fn replaying_everything_at_the_end_does_not_wait_for_the_level() {
    let (lag, witness, dir) = (ForcedLag::default(), Witness::default(), TempDir::new().unwrap());
    let at_shutdown = AtShutdown::Replay;
    let (pipeline, mut feed) = start(&lag, SpillConfig { at_shutdown, ..config(&dir) }, &witness);
    lag.reach(&pipeline, AGGRESSIVE);
    offer(&pipeline, &mut feed, &trades(TIER_3, 1..=2000));
    drop(feed);
    let finished = pipeline.shutdown().unwrap();
    finished.ledger.check().unwrap();
    assert_eq!((finished.ledger.replayed, finished.ledger.spill_pending), (2000, 0));
    assert_eq!(witness.replayed(), (1..=2000).collect::<Vec<_>>());
}

#[test]
fn a_panic_during_replay_leaves_the_message_and_all_after_it_on_disk() {
    let (lag, witness, dir) = (ForcedLag::default(), Witness::default(), TempDir::new().unwrap());
    let (pipeline, mut feed) = start(&lag, config(&dir), &witness);
    lag.reach(&pipeline, AGGRESSIVE);
    offer(&pipeline, &mut feed, &trades(TIER_3, 1..=2000));
    witness.panic_at.store(1500, Ordering::Release);
    lag.reach(&pipeline, NORMAL);
    wait_until("the panic", || feed.is_closed());
    drop(feed);
    let error = pipeline.join().map(drop).unwrap_err();
    assert!(matches!(&error.failures[..], [Failure::WorkerPanicked { worker: 0, .. }]), "{error}");
    error.ledger.check().unwrap();
    assert_eq!((error.ledger.replayed, error.ledger.spill_pending), (1499, 501));

    witness.panic_at.store(0, Ordering::Release);
    let at_shutdown = AtShutdown::Replay;
    let (pipeline, feed) = start(&ForcedLag::default(), SpillConfig { at_shutdown, ..config(&dir) }, &witness);
    drop(feed);
    assert_eq!(pipeline.join().unwrap().ledger.replayed, 501);
    assert_eq!(witness.replayed(), (1..=2000).collect::<Vec<_>>(), "each of them once, as nothing crashed");
}

#[test]
fn a_panic_between_appends_leaves_what_was_appended_on_disk() {
    let (lag, witness, dir) = (ForcedLag::default(), Witness::default(), TempDir::new().unwrap());
    let (pipeline, mut feed) = start(&lag, config(&dir), &witness);
    lag.reach(&pipeline, AGGRESSIVE);
    witness.panic_at.store(99, Ordering::Release);
    let mut ticks = trades(TIER_3, 1..=40);
    ticks.push(trade(TIER_1, 99));
    ticks.extend(trades(TIER_3, 41..=50));
    assert_eq!(feed.offer_slice(&ticks).accepted, 51);
    drop(feed);
    let ledger = pipeline.join().map(drop).unwrap_err().ledger;
    ledger.check().unwrap();
    let failed: u64 = Tier::ALL.iter().map(|tier| ledger.shed_by.get(*tier, ShedReason::WorkerFailed)).sum();
    assert_eq!((ledger.spilled, ledger.spill_pending, failed), (40, 40, 11));
}

#[test]
fn every_durability_keeps_the_same_promises_to_the_pipeline() {
    for durability in [Durability::None, Durability::Interval(Duration::from_millis(1)), Durability::Strict] {
        let (lag, witness, dir) = (ForcedLag::default(), Witness::default(), TempDir::new().unwrap());
        let (pipeline, mut feed) = start(&lag, SpillConfig { durability, ..config(&dir) }, &witness);
        lag.reach(&pipeline, AGGRESSIVE);
        offer(&pipeline, &mut feed, &trades(TIER_3, 1..=2500));
        assert_eq!(quiet(&pipeline).spilled, 2500);
        lag.reach(&pipeline, NORMAL);
        all_replayed(&pipeline).check().unwrap();
        assert_eq!(witness.replayed(), (1..=2500).collect::<Vec<_>>(), "{durability:?}");
        drop(feed);
        pipeline.join().unwrap().ledger.check().unwrap();
    }
}
