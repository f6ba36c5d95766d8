//! Proves conflation: of each state the handler gets the newest, symbols keep their order, what tells no state is untouched, counts are
//! exact, and nothing is lost when handlers panic.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use plimsoll::spill::{AtShutdown, SpillConfig};
use plimsoll::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use plimsoll::{
    Context, DataType, DegradationLevel, Handler, Ledger, Message, MessagePriority, Mode, Offer, Pipeline, Place,
    Restarts, Supervision, SymbolId, Tick, TickKind, VerdictTable,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use support::{ForcedLag, TIER_1, TIER_2, TIER_3, forced_pipeline, numbered_symbols, trade, wait_until};

fn quote(symbol: SymbolId, sequence: u64) -> Tick {
    let price = |n| plimsoll::Price::from_billionths(n);
    let quote = Tick::quote(symbol, sequence, (price(sequence as i64), 1), (price(sequence as i64 + 1), 1));
    Tick { sequence, ..quote }
}

/// What a handler got, in order.
#[derive(Default)]
struct Seen {
    /// Symbol, whether a quote, sequence, how many it took the place of, whether replayed.
    messages: Vec<(SymbolId, bool, u64, u64, bool)>,
    gaps: BTreeMap<SymbolId, u64>,
    /// Symbol, how many are missing, and how many messages came before that.
    places: Vec<(SymbolId, u64, usize)>,
    spins: u32,
}

impl Handler<Tick> for Seen {
    fn process(&mut self, tick: &Tick, context: &Context) {
        let is_quote = tick.kind == TickKind::Quote;
        self.messages.push((tick.symbol, is_quote, tick.sequence, context.conflated(), context.replayed()));
        (0..self.spins).for_each(|_| std::hint::spin_loop());
    }

    fn on_gap(&mut self, symbol: SymbolId, missed: u64) {
        *self.gaps.entry(symbol).or_default() += missed;
        self.places.push((symbol, missed, self.messages.len()));
    }
}

/// One step of a random run.
#[derive(Clone, Debug)]
enum Step {
    Level(usize),
    /// So many messages of a random mix.
    Offer(usize),
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..4usize).prop_map(Step::Level),
        4 => (1..400usize).prop_map(Step::Offer),
        1 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 1..30)
}

/// What was offered and accepted: symbol, whether a quote, sequence.
type Offered = Vec<(SymbolId, bool, u64)>;

fn play(steps: &[Step], workers: usize, seed: u64, spill: Option<&std::path::Path>) -> (Vec<Seen>, Ledger, Offered) {
    let lag = ForcedLag::default();
    let mut builder = forced_pipeline(&lag).workers(workers).verdicts(VerdictTable::conflate());
    if let Some(dir) = spill {
        let config =
            SpillConfig { free_space_floor_bytes: 0, at_shutdown: AtShutdown::Replay, ..SpillConfig::new(dir) };
        builder = builder.spill(SpillConfig { segment_bytes: 1 << 20, budget_bytes: 64 << 20, ..config });
    }
    let mut pipeline: Pipeline<Tick, Seen> =
        builder.symbols(numbered_symbols()).start(|_| Seen { spins: 300, ..Seen::default() }).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    let (mut random, mut sequence, mut offered) = (seed | 1, 0, Vec::new());
    let mut below = |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    for step in steps {
        match step {
            Step::Level(level) => lag.reach(&pipeline, DegradationLevel::ALL[*level]),
            Step::Wait => wait_until("nothing in flight", || pipeline.ledger().in_flight == 0),
            Step::Offer(count) => {
                for _ in 0..*count {
                    let symbol = SymbolId::new(below(7) as u32);
                    sequence += 1;
                    let is_quote = below(4) > 0;
                    let tick = if is_quote { quote(symbol, sequence) } else { trade(symbol, sequence) };
                    if feed.offer(tick) == Offer::Accepted {
                        offered.push((symbol, is_quote, sequence));
                    }
                }
                feed.flush();
            }
        }
    }
    drop(feed);
    lag.reach(&pipeline, DegradationLevel::Normal);
    let finished = pipeline.join().unwrap();
    (finished.handlers, finished.ledger, offered)
}

/// The newest quote of each symbol is what the handler got last of them; counts and order are exact.
fn check(handlers: &[Seen], ledger: &Ledger, offered: &Offered) -> Result<(), TestCaseError> {
    prop_assert_eq!(ledger.check(), Ok(()));
    prop_assert_eq!((ledger.in_flight, ledger.accepted), (0, offered.len() as u64));
    let mut last: BTreeMap<SymbolId, u64> = BTreeMap::new();
    let mut conflated = 0;
    for handler in handlers {
        let mut newest: BTreeMap<(SymbolId, bool, bool), u64> = BTreeMap::new();
        for &(symbol, is_quote, sequence, count, is_replayed) in &handler.messages {
            // Trades come in order, be they live or replayed; quotes come in order; and live ones of both do.
            let kinds = if is_replayed {
                vec![(is_quote, true)]
            } else {
                vec![(is_quote, true), (true, false), (false, false)]
            };
            let before: u64 = kinds
                .iter()
                .filter_map(|&(quotes, own)| newest.get(&(symbol, quotes, own)).copied())
                .max()
                .unwrap_or(0);
            prop_assert!(before < sequence, "{} of {symbol} after {before}", sequence);
            for own in if is_replayed { vec![true] } else { vec![true, false] } {
                newest.insert((symbol, is_quote, own), sequence);
            }
            prop_assert!(is_quote || count == 0, "a trade was conflated");
            prop_assert!(!(is_quote && is_replayed), "a state waits in no log");
            conflated += count;
            if is_quote {
                last.insert(symbol, sequence);
            }
        }
    }
    prop_assert_eq!(ledger.conflated, conflated);
    let seen = |quotes: bool| handlers.iter().flat_map(|h| &h.messages).filter(|m| m.1 == quotes).count() as u64;
    let of = |quotes: bool| offered.iter().filter(|(_, is_quote, _)| *is_quote == quotes).count() as u64;
    prop_assert_eq!(seen(true) + conflated, of(true), "each quote is handed on, or another in its place");
    prop_assert_eq!(seen(false) + ledger.shed, of(false));
    for (symbol, _, sequence) in offered.iter().filter(|(_, is_quote, _)| *is_quote) {
        // The last of them is inserted last.
        prop_assert!(last[symbol] >= *sequence, "{symbol}: the handler's last is {}, not {}", last[symbol], sequence);
    }
    // Without a spill log trades are shed, and every hole is told of; what is conflated is none.
    let told: u64 = handlers.iter().flat_map(|handler| handler.gaps.values()).sum();
    prop_assert_eq!(told, ledger.shed + ledger.full);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40, rng_seed: RngSeed::Fixed(20_260_302), failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn the_newest_of_each_state_arrives_and_the_rest_is_untouched(
        steps in steps(), workers in 1..4usize, seed in any::<u64>()
    ) {
        let (handlers, ledger, offered) = play(&steps, workers, seed, None);
        check(&handlers, &ledger, &offered)?;
    }

    #[test]
    fn with_a_spill_log_trades_wait_in_it_and_states_do_not(
        steps in steps(), workers in 1..3usize, seed in any::<u64>()
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (handlers, ledger, offered) = play(&steps, workers, seed, Some(dir.path()));
        prop_assert_eq!((ledger.spill_pending, ledger.spill_lost, ledger.replayed), (0, 0, ledger.spilled));
        check(&handlers, &ledger, &offered)?;
    }
}

/// Holds the first message until it is let go.
struct Held {
    hold: Arc<AtomicBool>,
    is_held: Arc<AtomicBool>,
    seen: Seen,
}

impl Handler<Tick> for Held {
    fn process(&mut self, tick: &Tick, context: &Context) {
        while self.hold.load(Ordering::Acquire) {
            self.is_held.store(true, Ordering::Release);
            std::thread::yield_now();
        }
        self.seen.process(tick, context);
    }

    fn on_gap(&mut self, symbol: SymbolId, missed: u64) {
        self.seen.on_gap(symbol, missed);
    }
}

/// A pipeline at a level, whose handler is held in a first trade of tier 1.
fn start_held(
    lag: &ForcedLag,
    level: DegradationLevel,
    mode: Mode,
) -> (Pipeline<Tick, Held>, Arc<AtomicBool>, plimsoll::Ingress<Tick>) {
    let hold = Arc::new(AtomicBool::new(true));
    let is_held = Arc::new(AtomicBool::new(false));
    let builder = forced_pipeline(lag).verdicts(VerdictTable::conflate()).mode(mode);
    let mut pipeline: Pipeline<Tick, Held> = builder
        .start(|_| Held { hold: Arc::clone(&hold), is_held: Arc::clone(&is_held), seen: Seen::default() })
        .unwrap();
    let mut feed = pipeline.ingress().unwrap();
    lag.reach(&pipeline, level);
    assert_eq!(feed.try_offer(trade(TIER_1, 1)), Some(Place { lane: 0, number: 1 }));
    feed.flush();
    wait_until("the handler", || is_held.load(Ordering::Acquire));
    (pipeline, hold, feed)
}

#[test]
fn a_quote_takes_the_place_of_the_one_that_waits_and_goes_before_a_trade_that_came_after_it() {
    let lag = ForcedLag::default();
    let (pipeline, hold, mut feed) = start_held(&lag, DegradationLevel::Graceful, Mode::Enforce);
    let ticks = [
        quote(TIER_3, 2),
        quote(TIER_2, 3),
        quote(TIER_3, 4),
        quote(TIER_1, 5), // CRITICAL is not conflated at GRACEFUL
        quote(TIER_3, 6),
        trade(TIER_2, 7), // takes the quote of its symbol along
        quote(TIER_2, 8),
    ];
    for tick in ticks {
        assert_eq!(feed.offer(tick), Offer::Accepted);
    }
    drop(feed);
    hold.store(false, Ordering::Release);
    let finished = pipeline.join().unwrap();
    let seen: Vec<_> = finished.handlers[0].seen.messages.iter().map(|m| (m.0, m.2, m.3)).collect();
    let expected = [(TIER_1, 1, 0), (TIER_1, 5, 0), (TIER_2, 3, 0), (TIER_2, 7, 0), (TIER_3, 6, 2), (TIER_2, 8, 0)];
    assert_eq!(seen, expected);
    let ledger = finished.ledger;
    ledger.check().unwrap();
    assert_eq!((ledger.conflated, ledger.by_priority[MessagePriority::Normal.index()].conflated), (2, 2));
    assert!(finished.handlers[0].seen.gaps.is_empty(), "what is conflated is no hole");
}

#[test]
fn a_hole_is_told_of_at_its_place_before_what_was_kept_or_after_it() {
    let lag = ForcedLag::default();
    let (pipeline, hold, mut feed) = start_held(&lag, DegradationLevel::Aggressive, Mode::Enforce);
    // Without a spill log trades of tier 3 are shed.
    let ticks = [
        trade(TIER_3, 2),
        quote(TIER_3, 3),
        trade(TIER_3, 4),
        trade(TIER_3, 5),
        quote(TIER_3, 6), // in the place of 3: three are missing before it
        trade(TIER_3, 7),
    ];
    for tick in ticks {
        assert_eq!(feed.offer(tick), Offer::Accepted);
    }
    drop(feed);
    hold.store(false, Ordering::Release);
    let finished = pipeline.join().unwrap();
    let seen = &finished.handlers[0].seen;
    assert_eq!(seen.messages.iter().map(|m| (m.2, m.3)).collect::<Vec<_>>(), [(1, 0), (6, 1)]);
    assert_eq!(seen.places, [(TIER_3, 3, 1), (TIER_3, 1, 2)]);
}

#[test]
fn what_is_kept_is_in_flight_and_not_settled() {
    let lag = ForcedLag::default();
    let (pipeline, hold, mut feed) = start_held(&lag, DegradationLevel::Graceful, Mode::Enforce);
    // More than a chunk, so that the first ones are off the lane; then a trade that holds the handler again.
    for sequence in 2..=128 {
        assert_eq!(feed.offer(quote(TIER_3, sequence)), Offer::Accepted);
    }
    feed.flush();
    hold.store(false, Ordering::Release);
    wait_until("all is handed on", || pipeline.ledger().in_flight == 0);
    feed.look_settled();
    assert_eq!(feed.settled(0), 128);
    hold.store(true, Ordering::Release);
    // One quote is kept, while the handler is held in the one before it.
    assert_eq!(feed.offer(quote(TIER_2, 129)), Offer::Accepted);
    assert_eq!(feed.offer(quote(TIER_3, 130)), Offer::Accepted);
    assert_eq!(feed.offer(quote(TIER_3, 131)), Offer::Accepted);
    feed.flush();
    wait_until("all are off the lane", || pipeline.ledger().conflated == 127);
    let ledger = pipeline.ledger();
    assert!(ledger.in_flight >= 1, "{ledger:?}");
    feed.look_settled();
    assert_eq!(feed.settled(0), 128, "129 is in hand, and 130's place is waiting");
    hold.store(false, Ordering::Release);
    wait_until("all is handed on", || pipeline.ledger().in_flight == 0);
    feed.look_settled();
    assert_eq!(feed.settled(0), 131);
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    ledger.check().unwrap();
    // 2 to 128 are one, and 130 and 131.
    assert_eq!((ledger.conflated, ledger.processed_live), (126 + 1, 4));
}

#[test]
fn a_dry_run_counts_what_would_be_conflated_and_conflates_nothing() {
    let lag = ForcedLag::default();
    let (pipeline, hold, mut feed) = start_held(&lag, DegradationLevel::Aggressive, Mode::Observe);
    for sequence in 2..=101 {
        assert_eq!(feed.offer(quote(TIER_3, sequence)), Offer::Accepted);
    }
    assert_eq!(feed.offer(trade(TIER_3, 102)), Offer::Accepted);
    drop(feed);
    hold.store(false, Ordering::Release);
    let control = pipeline.control();
    let finished = pipeline.join().unwrap();
    assert_eq!((finished.ledger.conflated, finished.ledger.processed_live), (0, 102));
    let observed = control.observed();
    // The trade would be spilled, which is shed, where there is no log.
    assert_eq!((observed.conflated, observed.shed, observed.spilled), (100, 1, 0));
}

/// A handler that panics at some of its messages.
struct Fragile {
    panics: Arc<AtomicU64>,
    missed: Arc<AtomicU64>,
    seen: u64,
}

impl Handler<Tick> for Fragile {
    fn process(&mut self, _: &Tick, _: &Context) {
        self.seen += 1;
        if self.seen.is_multiple_of(40) {
            self.panics.fetch_add(1, Ordering::Relaxed);
            panic!("a fragile handler");
        }
    }

    fn on_gap(&mut self, _: SymbolId, missed: u64) {
        self.missed.fetch_add(missed, Ordering::Relaxed);
    }
}

/// With a handler that is made anew nothing else is lost than what it had in hand; without, what is kept is shed, and counted.
#[test]
fn a_panic_costs_what_is_in_hand_and_no_more_is_unaccounted_for() {
    for restarts in [true, false] {
        let (lag, panics) = (ForcedLag::default(), Arc::new(AtomicU64::new(0)));
        let restarting = Restarts { max: 1_000, within: Duration::from_secs(60) };
        let builder = forced_pipeline(&lag)
            .verdicts(VerdictTable::conflate())
            .supervision(Supervision { restarts: restarting, ..Supervision::default() });
        let missed = Arc::new(AtomicU64::new(0));
        let (told, of) = (Arc::clone(&panics), Arc::clone(&missed));
        let make = move |_| Fragile { panics: Arc::clone(&told), missed: Arc::clone(&of), seen: 0 };
        let mut pipeline: Pipeline<Tick, Fragile> =
            if restarts { builder.start_restarting(make).unwrap() } else { builder.start(make).unwrap() };
        lag.reach(&pipeline, DegradationLevel::Graceful);
        let mut feed = pipeline.ingress().unwrap();
        let mut accepted = 0;
        for sequence in 1..=20_000u64 {
            let symbol = SymbolId::new(sequence as u32 * 7 % 50);
            let tick = if sequence.is_multiple_of(5) { trade(symbol, sequence) } else { quote(symbol, sequence) };
            accepted += u64::from(feed.offer(tick) == Offer::Accepted);
        }
        drop(feed);
        let ledger = match pipeline.join() {
            Ok(finished) => finished.ledger,
            Err(error) => (*error.ledger).clone(),
        };
        ledger.check().unwrap();
        assert_eq!((ledger.accepted, ledger.in_flight), (accepted, 0));
        let panics = panics.load(Ordering::Relaxed);
        assert!(panics >= 1);
        if restarts {
            assert_eq!(ledger.shed, panics, "each panic costs one");
            assert_eq!(missed.load(Ordering::Relaxed), panics + ledger.full, "and is told of");
        }
        assert_eq!(ledger.accepted, ledger.processed_live + ledger.conflated + ledger.shed);
    }
}

/// One side of a quote in a message of its own, and a trade.
#[derive(Clone, Copy, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Side {
    symbol: u32,
    /// 0 bid, 1 ask, 2 a trade.
    side: u32,
    number: u64,
}

impl Message for Side {
    fn symbol(&self) -> SymbolId {
        SymbolId::new(self.symbol)
    }
    fn set_symbol(&mut self, symbol: SymbolId) {
        self.symbol = symbol.get();
    }
    fn data_type(&self) -> DataType {
        if self.side == 2 { DataType::Trades } else { DataType::Quotes }
    }
    fn conflation_class(&self) -> Option<u8> {
        (self.side < 2).then_some(self.side as u8)
    }
}

#[test]
fn bid_and_ask_of_an_embedders_message_are_states_of_their_own() {
    let lag = ForcedLag::default();
    let (hold, is_held) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (told, holding, held) = (Arc::new(std::sync::Mutex::new(Vec::new())), Arc::clone(&hold), Arc::clone(&is_held));
    let seen = Arc::clone(&told);
    let mut pipeline: Pipeline<Side, _> = forced_pipeline(&lag)
        .verdicts(VerdictTable::conflate())
        .start(move |_| {
            let (seen, holding, held) = (Arc::clone(&seen), Arc::clone(&holding), Arc::clone(&held));
            move |side: &Side, context: &Context| {
                while holding.load(Ordering::Acquire) {
                    held.store(true, Ordering::Release);
                    std::thread::yield_now();
                }
                seen.lock().unwrap().push((side.side, side.number, context.conflated()));
            }
        })
        .unwrap();
    lag.reach(&pipeline, DegradationLevel::Graceful);
    let mut feed = pipeline.ingress().unwrap();
    let mut offer = |side, number| assert_eq!(feed.offer(Side { symbol: 5, side, number }), Offer::Accepted);
    offer(2, 1);
    offer(0, 2);
    offer(1, 3);
    offer(0, 4);
    offer(0, 5);
    offer(1, 6);
    drop(feed);
    wait_until("the handler", || is_held.load(Ordering::Acquire));
    hold.store(false, Ordering::Release);
    pipeline.join().unwrap().ledger.check().unwrap();
    assert_eq!(*told.lock().unwrap(), [(2, 1, 0), (0, 5, 2), (1, 6, 1)]);
}
