//! Proves what each level does to a running pipeline: who is processed, who is shed and under which name, when the
//! gate is shut, when enrichment runs, and that transitions are told of.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use plimsoll::{
    Context, DegradationLevel, Handler, Offer, Pipeline, ShedReason, SymbolId, Tick, Tier, Transition, VerdictTable,
};
use support::{ForcedLag, TIER_1, TIER_2, TIER_3, forced_pipeline, reference, trade, wait_until};

/// What a handler saw of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    symbol: SymbolId,
    sequence: u64,
    level: DegradationLevel,
    /// What the context says, and whether it is so.
    enriched: (bool, bool),
}

/// Records what it sees, and can be held inside a message.
#[derive(Clone, Default)]
struct Witness {
    seen: Arc<Mutex<Vec<Seen>>>,
    gaps: Arc<Mutex<Vec<(SymbolId, u64)>>>,
    hold: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
}

impl Witness {
    fn sequences(&self) -> Vec<u64> {
        self.seen.lock().expect("no thread panics").iter().map(|seen| seen.sequence).collect()
    }
}

impl Handler<Tick> for Witness {
    fn enrich(&mut self, tick: &mut Tick, _: &Context) {
        tick.ask_size = 1;
    }

    fn process(&mut self, tick: &Tick, context: &Context) {
        let enriched = (context.enriched(), tick.ask_size == 1);
        let (symbol, sequence, level) = (tick.symbol, tick.sequence, context.level());
        self.seen.lock().expect("no thread panics").push(Seen { symbol, sequence, level, enriched });
        while self.hold.load(Ordering::Acquire) {
            self.held.store(true, Ordering::Release);
            std::thread::yield_now();
        }
    }

    fn on_gap(&mut self, symbol: SymbolId, missed: u64) {
        self.gaps.lock().expect("no thread panics").push((symbol, missed));
    }
}

fn quiet(pipeline: &Pipeline<Tick, Witness>) {
    wait_until("empty lanes", || pipeline.ledger().in_flight == 0);
}

/// One message of each priority, most valuable first, numbered from `from`.
fn one_of_each(from: u64) -> [Tick; 4] {
    [trade(TIER_1, from), trade(TIER_2, from + 1), trade(TIER_3, from + 2), reference(TIER_1, from + 3)]
}

#[test]
fn each_open_level_processes_what_its_row_says_and_enrichment_is_for_normal_alone() {
    let (lag, witness) = (ForcedLag::default(), Witness::default());
    let mut pipeline = forced_pipeline(&lag).start(|_| witness.clone()).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    let mut expected = Vec::new();
    // Up, and all the way down again.
    for (round, level) in [0, 1, 2, 3, 2, 1, 0].map(|i| DegradationLevel::ALL[i]).into_iter().enumerate() {
        lag.reach(&pipeline, level);
        let from = 10 * round as u64;
        assert_eq!(feed.offer_slice(&one_of_each(from)).accepted, 4);
        quiet(&pipeline);
        let processed = [4, 4, 3, 2][level.index()];
        let enriched = level == DegradationLevel::Normal;
        let seen =
            |tick: &Tick| Seen { symbol: tick.symbol, sequence: tick.sequence, level, enriched: (enriched, enriched) };
        expected.extend(one_of_each(from)[..processed].iter().map(seen));
        assert_eq!(*witness.seen.lock().unwrap(), expected);
    }
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    ledger.check().unwrap();
    assert_eq!((ledger.processed_live, ledger.shed, ledger.workers[0].enriched), (24, 4, 8));
    assert_eq!(ledger.shed_by.get(Tier::Tier1, ShedReason::LowPriority), 2);
    assert_eq!(ledger.shed_by.get(Tier::Tier1, ShedReason::NormalPriority), 1);
    assert_eq!(ledger.shed_by.get(Tier::Tier3, ShedReason::NormalPriority), 1);
    // Reference data of TIER_1 was shed three times and a trade of TIER_3 once, each told of before the next trade.
    assert_eq!(*witness.gaps.lock().unwrap(), [(TIER_1, 1), (TIER_1, 1), (TIER_3, 1), (TIER_1, 1)]);
}

#[test]
fn at_circuit_break_the_gate_refuses_and_of_what_is_inside_only_critical_is_processed() {
    let (lag, witness) = (ForcedLag::default(), Witness::default());
    let mut pipeline = forced_pipeline(&lag).start(|_| witness.clone()).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    witness.hold.store(true, Ordering::Release);
    assert_eq!(feed.offer(trade(TIER_3, 1)), Offer::Accepted);
    feed.flush();
    wait_until("the handler", || witness.held.load(Ordering::Acquire));
    assert_eq!(feed.offer_slice(&one_of_each(10)).accepted, 4);
    lag.reach(&pipeline, DegradationLevel::CircuitBreak);
    assert_eq!(feed.offer(trade(TIER_1, 20)), Offer::Refused);
    assert!(!feed.is_closed(), "shut, not closed for good");
    assert!(!feed.offer_wait(trade(TIER_1, 21), || true), "giving up is no offer");
    witness.hold.store(false, Ordering::Release);
    feed.flush();
    quiet(&pipeline);
    assert!(!pipeline.policy().accepts());

    lag.reach(&pipeline, DegradationLevel::Normal);
    assert!(feed.offer_wait(trade(TIER_1, 30), || false), "the gate is open again");
    assert_eq!(feed.offer(trade(TIER_1, 31)), Offer::Accepted);
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    ledger.check().unwrap();
    assert_eq!(witness.sequences(), [1, 10, 30, 31]);
    assert_eq!((ledger.shed, ledger.refused), (3, 1));
    for (tier, count) in [(Tier::Tier1, 1), (Tier::Tier2, 1), (Tier::Tier3, 1)] {
        assert_eq!(ledger.shed_by.get(tier, ShedReason::NonCritical), count);
    }
    // Reference data of TIER_1, shed, and the refused trade are one hole. The others had no message after theirs.
    assert_eq!(*witness.gaps.lock().unwrap(), [(TIER_1, 2), (TIER_2, 1), (TIER_3, 1)]);
}

#[test]
fn a_tier_that_is_changed_counts_from_the_next_message_on() {
    let (lag, witness) = (ForcedLag::default(), Witness::default());
    let mut pipeline = forced_pipeline(&lag).start(|_| witness.clone()).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    lag.reach(&pipeline, DegradationLevel::Aggressive);
    for (sequence, tier) in [(1, Tier::Tier3), (2, Tier::Tier2), (3, Tier::Tier3), (4, Tier::Tier1)] {
        pipeline.symbols().set_tier(TIER_3, tier);
        assert_eq!(feed.offer_slice(&[trade(TIER_3, sequence)]).accepted, 1);
        quiet(&pipeline);
    }
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    assert_eq!(witness.sequences(), [2, 4]);
    assert_eq!(*witness.gaps.lock().unwrap(), [(TIER_3, 1), (TIER_3, 1)]);
    assert_eq!(ledger.by_priority.map(|part| part.processed_live), [1, 1, 0, 0]);
}

#[test]
fn a_verdict_table_of_ones_own_decides_and_its_reason_is_the_policy() {
    let (lag, witness) = (ForcedLag::default(), Witness::default());
    let table = VerdictTable::critical_only().with(
        DegradationLevel::Normal,
        plimsoll::MessagePriority::High,
        plimsoll::Verdict::Shed,
    );
    let mut pipeline = forced_pipeline(&lag).verdicts(table).start(|_| witness.clone()).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    assert_eq!(feed.offer_slice(&one_of_each(1)).accepted, 4);
    quiet(&pipeline);
    lag.reach(&pipeline, DegradationLevel::Graceful);
    assert_eq!(feed.offer_slice(&one_of_each(10)).accepted, 4);
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    assert_eq!(witness.sequences(), [1, 3, 4, 10]);
    assert_eq!(ledger.shed_by.get(Tier::Tier2, ShedReason::Policy), 1);
    assert_eq!(ledger.shed, 4);
}

#[test]
fn a_source_that_can_wait_fills_no_lane_and_leaves_no_holes() {
    let (lag, witness) = (ForcedLag::default(), Witness::default());
    let mut pipeline = forced_pipeline(&lag).lane_capacity(1).start(|_| witness.clone()).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    for sequence in 1..=5000 {
        assert!(feed.offer_wait(trade(TIER_3, sequence), || false));
    }
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    assert_eq!((ledger.offered, ledger.processed_live, ledger.full), (5000, 5000, 0));
    assert!(witness.gaps.lock().unwrap().is_empty());
    assert_eq!(witness.sequences(), (1..=5000).collect::<Vec<_>>());
}

#[test]
fn every_transition_is_told_of_even_a_reset() {
    let lag = ForcedLag::default();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let thresholds = plimsoll::DegradationThresholds { recovery_cooldown_seconds: 1e6, ..support::thresholds() };
    let builder = forced_pipeline(&lag)
        .thresholds(thresholds)
        .on_transition(move |t: &Transition| tell.lock().unwrap().push((t.from, t.to)));
    let pipeline = builder.start(|_| Witness::default()).unwrap();
    use DegradationLevel::{Aggressive, CircuitBreak, Normal, Soft};
    lag.reach(&pipeline, Soft);
    lag.reach(&pipeline, CircuitBreak);
    lag.force(Normal);
    pipeline.reset_level(); // the cooldown is far from over
    wait_until("NORMAL", || pipeline.level() == Normal);
    lag.reach(&pipeline, Aggressive);
    let finished = pipeline.join().unwrap();
    let expected = [(Normal, Soft), (Soft, CircuitBreak), (CircuitBreak, Normal), (Normal, Aggressive)];
    assert_eq!(finished.transitions.iter().map(|t| (t.from, t.to)).collect::<Vec<_>>(), expected);
    assert_eq!(*told.lock().unwrap(), expected);
}
