//! Finer than five steps: a share of symbols that is shed by lag, and budgets. Symbols are out or in as a whole, counts are exact, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll::{
    Budget, Context, DegradationLevel, Gradual, Handler, Ledger, MessagePriority, Mode, Offer, Pipeline,
    PipelineBuilder, ProportionalShedding, ShedReason, StartError, SymbolId, Symbols, Telemetry, Tick, Tier,
};
use support::{ForcedLag, TIER_3, calm_memory, forced_pipeline, reference, thresholds, trade, wait_until};

/// How many messages of each symbol a handler got, and how many it was told of as missing.
#[derive(Default)]
struct Counts {
    processed: BTreeMap<SymbolId, u64>,
    missed: BTreeMap<SymbolId, u64>,
}

impl Handler<Tick> for Counts {
    fn process(&mut self, tick: &Tick, _: &Context) {
        *self.processed.entry(tick.symbol).or_default() += 1;
    }

    fn on_gap(&mut self, symbol: SymbolId, missed: u64) {
        *self.missed.entry(symbol).or_default() += missed;
    }
}

/// A lag that a test sets to the message.
fn pipeline_at(lag: &Arc<AtomicU64>) -> PipelineBuilder {
    let lag = Arc::clone(lag);
    PipelineBuilder::new()
        .thresholds(thresholds())
        .lag_source(move |_| lag.load(Ordering::Acquire))
        .memory_source(calm_memory)
        .lane_capacity(200_000)
        .sample_interval(std::time::Duration::from_millis(1))
}

const SYMBOLS: u32 = 640;

/// All symbols, ten messages each, through a pipeline at a lag; tier 3, but for the first.
fn run(lag: u64, mode: Mode) -> (Counts, Ledger, String) {
    let value = Arc::new(AtomicU64::new(lag));
    let telemetry = Telemetry::new(&Default::default()).unwrap();
    let symbols = Symbols::default();
    symbols.set_tier(SymbolId::new(0), Tier::Tier1);
    let shed = ProportionalShedding { from_lag: 10, to_lag: 90, from_percent: 0.0, to_percent: 100.0 };
    let mut pipeline: Pipeline<Tick, Counts> = pipeline_at(&value)
        .symbols(Arc::new(symbols))
        .mode(mode)
        .telemetry(telemetry.clone())
        .gradual(MessagePriority::Normal, Gradual { shed: Some(shed), budget: None })
        .start(|_| Counts::default())
        .unwrap();
    let mut feed = pipeline.ingress().unwrap();
    // Not before the monitor has seen the lag.
    wait_until("two samples", || pipeline.monitor_samples() > 2);
    for sequence in 1..=10 {
        for id in 0..SYMBOLS {
            let tick =
                if id == 1 { reference(SymbolId::new(id), sequence) } else { trade(SymbolId::new(id), sequence) };
            assert_eq!(feed.offer(tick), Offer::Accepted);
        }
    }
    drop(feed);
    let finished = pipeline.join().unwrap();
    finished.ledger.check().unwrap();
    (finished.handlers.into_iter().next().unwrap(), finished.ledger, telemetry.render())
}

#[test]
fn a_symbol_is_out_or_in_as_a_whole_and_the_same_ones_are_out_first() {
    let mut before: Vec<SymbolId> = Vec::new();
    for (lag, parts) in [(0, 0.0), (10, 0.0), (20, 8.0), (50, 32.0), (80, 56.0), (90, 64.0)] {
        let (counts, ledger, metrics) = run(lag, Mode::Enforce);
        let out: Vec<SymbolId> =
            (0..SYMBOLS).map(SymbolId::new).filter(|symbol| !counts.processed.contains_key(symbol)).collect();
        assert!(counts.processed.values().all(|count| *count == 10), "a symbol is in with all its messages");
        assert!(out.iter().all(|symbol| counts.missed[symbol] == 10), "and out with all of them, and told of");
        assert!(before.iter().all(|symbol| out.contains(symbol)), "who is out at a lower lag is out at a higher one");
        // Of tier 1, and reference data, nothing: they are of other priorities.
        assert!(!out.contains(&SymbolId::new(0)) && !out.contains(&SymbolId::new(1)));
        let share = out.len() as f64 / f64::from(SYMBOLS - 2);
        assert!((share - parts / 64.0).abs() < 0.05, "{share} at {lag}");
        let shed = ledger.shed_by.get(Tier::Tier3, ShedReason::Proportional);
        assert_eq!((shed, ledger.shed), (10 * out.len() as u64, shed), "at {lag}");
        assert_eq!(ledger.by_priority[MessagePriority::Normal.index()].shed, shed);
        let line = metrics
            .lines()
            .find(|line| line.starts_with("k2_proportional_shed_ratio") && line.contains("normal"))
            .unwrap();
        assert!(line.ends_with(&format!(" {}", parts / 64.0)), "{line}");
        before = out;
    }
}

#[test]
fn a_dry_run_sheds_no_share() {
    let (counts, ledger, _) = run(90, Mode::Observe);
    assert_eq!((counts.processed.len(), ledger.shed), (SYMBOLS as usize, 0));
}

fn budget(messages_per_second: f64, burst: u64) -> Gradual {
    Gradual { shed: None, budget: Some(Budget { messages_per_second, burst }) }
}

#[test]
fn what_is_over_budget_gets_the_verdict_of_the_next_level() {
    // So little comes in a second that what there is at first is all there is.
    for (level, processed, reason) in [
        // GRACEFUL's verdict is to process, too.
        (DegradationLevel::Soft, 1_000, None),
        // AGGRESSIVE's is to spill, which is to shed, where there is no log.
        (DegradationLevel::Graceful, 40, Some(ShedReason::LowPriority)),
    ] {
        let lag = ForcedLag::default();
        let builder = forced_pipeline(&lag).gradual(MessagePriority::Normal, budget(1e-6, 40));
        let mut pipeline: Pipeline<Tick, Counts> = builder.start(|_| Counts::default()).unwrap();
        let mut feed = pipeline.ingress().unwrap();
        lag.reach(&pipeline, level);
        for sequence in 1..=1_000 {
            assert_eq!(feed.offer(trade(TIER_3, sequence)), Offer::Accepted);
        }
        drop(feed);
        let finished = pipeline.join().unwrap();
        let ledger = &finished.ledger;
        ledger.check().unwrap();
        assert_eq!((ledger.processed_live, ledger.shed), (processed, 1_000 - processed), "{level}");
        if let Some(reason) = reason {
            assert_eq!(ledger.shed_by.get(Tier::Tier3, reason), 960);
        }
        assert_eq!(finished.handlers[0].missed.values().sum::<u64>(), ledger.shed);
    }
}

#[test]
fn a_priority_that_is_shed_at_the_next_level_is_shed_as_over_budget_and_a_budget_fills_again() {
    let lag = ForcedLag::default();
    let telemetry = Telemetry::new(&Default::default()).unwrap();
    let builder =
        forced_pipeline(&lag).telemetry(telemetry.clone()).gradual(MessagePriority::Low, budget(50_000.0, 100));
    let mut pipeline: Pipeline<Tick, Counts> = builder.workers(2).start(|_| Counts::default()).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    // LOW is processed at SOFT, and shed at GRACEFUL.
    lag.reach(&pipeline, DegradationLevel::Soft);
    let mut sequence = 0;
    let mut offer = |count: u64| {
        for _ in 0..count {
            sequence += 1;
            let symbol = SymbolId::new((sequence % 60) as u32);
            wait_until("room", || feed.offer(reference(symbol, sequence)) == Offer::Accepted);
        }
        feed.flush();
    };
    offer(2_000);
    wait_until("all are through", || pipeline.ledger().in_flight == 0);
    let first = pipeline.ledger();
    assert!(first.processed_live >= 100 && first.shed > 0, "{first:?}");
    // Another hundred within 2 ms.
    wait_until("the budget is there again", || {
        offer(1);
        pipeline.ledger().processed_live >= first.processed_live + 100
    });
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    ledger.check().unwrap();
    let over: u64 = Tier::ALL.iter().map(|tier| ledger.shed_by.get(*tier, ShedReason::OverBudget)).sum();
    assert_eq!((ledger.shed, over), (over, ledger.shed));
    let metrics = telemetry.render();
    let line =
        metrics.lines().find(|line| line.starts_with("k2_messages_over_budget_total") && line.contains("low")).unwrap();
    assert!(line.ends_with(&format!(" {over}")), "{line}, {over}");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let shed = ProportionalShedding { from_lag: 10, to_lag: 90, from_percent: 0.0, to_percent: 120.0 };
    let builder = PipelineBuilder::new().gradual(MessagePriority::High, Gradual { shed: Some(shed), budget: None });
    let error = builder.start::<Tick, _>(|_| Counts::default()).map(drop).unwrap_err();
    assert!(matches!(error, StartError::Gradual(_)));
    assert_eq!(error.to_string(), "HIGH: to_percent = 120 is out of range: a percentage from 0 to 100");
}
