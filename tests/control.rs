//! Proves what an operator may do to a running pipeline: hold a level, change settings, try thresholds out, look on without any
//! effect; and that none of it loses a message.

mod support;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll::spill::SpillConfig;
use plimsoll::{
    Cause, Context, ControlError, DegradationLevel, DegradationThresholds, Handler, Labels, Mode, Offer, Pipeline,
    PipelineBuilder, Settings, Shadow, ShedReason, StartError, SymbolId, SymbolTiers, Symbols, Telemetry, Tick, Tier,
    Verdict, VerdictTable,
};
use support::{ForcedLag, TIER_1, TIER_2, TIER_3, forced_pipeline, reference, start_held, trade, wait_until};

use DegradationLevel::{Aggressive, CircuitBreak, Graceful, Normal, Soft};

/// What each worker saw: symbols, sequence numbers, and the level that it was told.
type Seen = Arc<Mutex<Vec<(SymbolId, u64, DegradationLevel)>>>;

fn start(builder: PipelineBuilder) -> (Pipeline<Tick, impl Handler<Tick>>, Seen) {
    let seen = Seen::default();
    let pipeline = builder.start(|_| {
        let seen = Arc::clone(&seen);
        move |tick: &Tick, context: &Context| {
            seen.lock().expect("no thread panics").push((tick.symbol, tick.sequence, context.level()));
        }
    });
    (pipeline.expect("the settings are right"), seen)
}

fn quiet<H: Handler<Tick>>(pipeline: &Pipeline<Tick, H>) {
    wait_until("empty lanes", || pipeline.ledger().in_flight == 0);
}

fn one_of_each(from: u64) -> [Tick; 4] {
    [trade(TIER_1, from), trade(TIER_2, from + 1), trade(TIER_3, from + 2), reference(TIER_1, from + 3)]
}

#[test]
fn a_pinned_level_holds_against_the_signals_and_runs_out_by_itself() {
    let lag = ForcedLag::default();
    let (pipeline, _) = start(forced_pipeline(&lag));
    let control = pipeline.control();
    control.pin(Aggressive, None).unwrap();
    assert_eq!(control.level(), Aggressive, "in force when the call returns");
    lag.force(CircuitBreak);
    let samples = pipeline.monitor_samples();
    wait_until("some samples", || pipeline.monitor_samples() > samples + 5);
    assert_eq!(control.level(), Aggressive);
    assert!(control.explain().to_string().contains("held at AGGRESSIVE by hand, until it is let go"));
    assert_eq!(control.unpin().ok(), Some(true));
    wait_until("the signals decide", || control.level() == CircuitBreak);
    assert_eq!(control.unpin().ok(), Some(false), "nothing is held any more");

    lag.reach(&pipeline, Normal);
    control.pin(Soft, Some(Duration::from_millis(30))).unwrap();
    assert_eq!(control.level(), Soft);
    wait_until("it runs out", || control.level() == Normal);
    let causes: Vec<_> = control.history().iter().map(|t| (t.to, t.cause == Cause::Pinned)).collect();
    let expected = [(Aggressive, true), (CircuitBreak, false), (Normal, false), (Soft, true), (Normal, false)];
    // On the way down the level may have been seen at others.
    assert!(expected.iter().all(|step| causes.contains(step)), "{causes:?}");
    pipeline.join().unwrap();
}

#[test]
fn a_reset_lets_go_of_a_pinned_level() {
    let lag = ForcedLag::default();
    let (pipeline, _) = start(forced_pipeline(&lag));
    let control = pipeline.control();
    control.pin(CircuitBreak, None).unwrap();
    control.reset().unwrap();
    assert_eq!((control.level(), control.snapshot().pinned), (Normal, None));
    pipeline.join().unwrap();
}

#[test]
fn in_a_dry_run_nothing_is_given_up_and_counters_say_what_would_have_been() {
    let lag = ForcedLag::default();
    let (mut pipeline, seen) = start(forced_pipeline(&lag).mode(Mode::Observe));
    let (mut feed, control) = (pipeline.ingress().unwrap(), pipeline.control());
    for (round, level) in DegradationLevel::ALL.into_iter().enumerate() {
        lag.reach(&pipeline, level);
        assert_eq!(feed.offer_slice(&one_of_each(10 * round as u64)).accepted, 4, "{level}");
        quiet(&pipeline);
    }
    let observed = control.observed();
    assert_eq!((observed.refused, observed.spilled, observed.shed), (4, 0, 1 + 2 + 3));
    let shed = |tier, reason| observed.shed_by.get(tier, reason);
    assert_eq!(shed(Tier::Tier1, ShedReason::LowPriority), 1);
    assert_eq!((shed(Tier::Tier1, ShedReason::NormalPriority), shed(Tier::Tier3, ShedReason::NormalPriority)), (1, 1));
    assert_eq!(Tier::ALL.map(|tier| shed(tier, ShedReason::NonCritical)), [1; 3]);
    assert!(feed.offer_wait(trade(TIER_1, 60), || true), "who waits does not wait for a gate that only would be shut");
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    ledger.check().unwrap();
    assert_eq!((ledger.processed_live, ledger.shed, ledger.refused), (21, 0, 0));
    assert_eq!(ledger.workers[0].enriched, 21, "enrichment is not skipped");
    assert!(seen.lock().unwrap().iter().all(|(_, _, level)| *level == Normal), "handlers know nothing of it");
}

#[test]
fn in_a_dry_run_with_a_spill_log_what_would_go_there_counts_so_and_nothing_is_written() {
    let (lag, dir) = (ForcedLag::default(), tempfile::tempdir().unwrap());
    let spill = SpillConfig { segment_bytes: 1 << 20, free_space_floor_bytes: 0, ..SpillConfig::new(dir.path()) };
    let (mut pipeline, _) = start(forced_pipeline(&lag).mode(Mode::Observe).spill(spill));
    let mut feed = pipeline.ingress().unwrap();
    lag.reach(&pipeline, CircuitBreak);
    assert_eq!(feed.offer_slice(&one_of_each(0)).accepted, 4);
    quiet(&pipeline);
    let observed = pipeline.control().observed();
    assert_eq!((observed.refused, observed.spilled, observed.shed), (4, 2, 1));
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    assert_eq!((ledger.processed_live, ledger.spilled), (4, 0));
}

#[test]
fn the_mode_can_be_changed_while_it_runs() {
    let lag = ForcedLag::default();
    let (mut pipeline, _) = start(forced_pipeline(&lag));
    let (mut feed, control) = (pipeline.ingress().unwrap(), pipeline.control());
    lag.reach(&pipeline, CircuitBreak);
    assert_eq!(feed.offer(trade(TIER_1, 1)), Offer::Refused);
    control.apply(Settings { mode: Mode::Observe, ..(*control.settings()).clone() }).unwrap();
    assert_eq!(control.level(), CircuitBreak);
    assert_eq!(feed.offer(trade(TIER_1, 2)), Offer::Accepted);
    control.apply(Settings { mode: Mode::Enforce, ..(*control.settings()).clone() }).unwrap();
    assert_eq!(feed.offer(trade(TIER_1, 3)), Offer::Refused);
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    assert_eq!((ledger.accepted, ledger.refused), (1, 2));
    assert_eq!(control.observed().refused, 1);
}

#[test]
fn other_settings_are_in_force_when_the_call_returns_and_wrong_ones_change_nothing() {
    let lag = ForcedLag::default();
    let (mut pipeline, seen) = start(forced_pipeline(&lag).lane_capacity(200_000));
    let (mut feed, control) = (pipeline.ingress().unwrap(), pipeline.control());
    lag.reach(&pipeline, Graceful);
    let old = (*control.settings()).clone();
    let table = VerdictTable::default().with(Graceful, plimsoll::MessagePriority::High, Verdict::Shed);
    control.apply(Settings { verdicts: table, ..old.clone() }).unwrap();
    assert_eq!(feed.offer_slice(&one_of_each(1)).accepted, 4);
    quiet(&pipeline);
    assert_eq!(seen.lock().unwrap().iter().map(|(_, n, _)| *n).collect::<Vec<_>>(), [1, 3], "HIGH is shed now");

    // The lag of GRACEFUL becomes one of NORMAL.
    let high =
        DegradationThresholds { lag_soft: 50_000, lag_graceful: 60_000, lag_aggressive: 70_000, ..old.thresholds };
    control.apply(Settings { thresholds: high, ..old.clone() }).unwrap();
    wait_until("NORMAL", || control.level() == Normal);
    assert_eq!(control.policy().table, VerdictTable::default());

    let broken = DegradationThresholds { lag_soft: 60_000, ..high };
    let error = control.apply(Settings { thresholds: broken, ..old.clone() }).unwrap_err();
    assert!(matches!(error, ControlError::Settings(StartError::Thresholds(_))), "{error}");
    let error = control.apply(Settings { replay_share: 1.0, ..old.clone() }).unwrap_err();
    assert!(error.to_string().contains("replay_share = 1"), "{error}");
    let shadow = Shadow { thresholds: broken, component: "shadow".to_owned() };
    let error = control.apply(Settings { shadow: Some(shadow), ..old }).unwrap_err();
    assert!(error.to_string().contains("the shadow thresholds: lag_soft = 60000"), "{error}");
    assert_eq!(control.settings().thresholds, high);
    drop(feed);
    pipeline.join().unwrap();
}

#[test]
fn thresholds_that_the_lanes_are_too_small_for_are_refused() {
    let builder = PipelineBuilder::new().memory_source(support::calm_memory);
    let pipeline = builder.lane_capacity(6_000_000).start(|_| |_: &Tick, _: &Context| ()).unwrap();
    let control = pipeline.control();
    let old = (*control.settings()).clone();
    let thresholds = DegradationThresholds { lag_circuit_break: 6_000_000, ..old.thresholds };
    let error = control.apply(Settings { thresholds, ..old.clone() }).unwrap_err();
    assert!(error.to_string().contains("lane_capacity = 6000000 must exceed lag_circuit_break = 6000000"), "{error}");
    assert_eq!(*control.settings(), old);
    pipeline.join().unwrap();
}

/// A symbol whose tier changes while messages of it wait in the spill log keeps its order, and loses nothing.
#[test]
fn a_tier_that_changes_in_the_storm_loses_and_reorders_nothing() {
    let (lag, dir) = (ForcedLag::default(), tempfile::tempdir().unwrap());
    let spill = SpillConfig { segment_bytes: 1 << 20, free_space_floor_bytes: 0, ..SpillConfig::new(dir.path()) };
    let symbols = Arc::new(Symbols::new(SymbolTiers::new(["A"], ["B"]), 64));
    let ids = ["A", "B", "C"].map(|name| symbols.intern(name).unwrap());
    let (mut pipeline, seen) = start(forced_pipeline(&lag).workers(2).spill(spill).symbols(Arc::clone(&symbols)));
    let (mut feed, control) = (pipeline.ingress().unwrap(), pipeline.control());
    lag.reach(&pipeline, Aggressive);
    let tiers = [
        SymbolTiers::new(["A"], ["B"]),
        SymbolTiers::new(["B"], ["C"]),
        SymbolTiers::new(["C"], ["A"]),
        SymbolTiers::new([] as [&str; 0], []),
    ];
    let mut sequence = 0;
    for round in 0..40 {
        for _ in 0..50 {
            sequence += 1;
            for id in ids {
                assert!(feed.offer_wait(trade(id, sequence), || false));
            }
        }
        feed.flush();
        control.apply(Settings { tiers: tiers[round % 4].clone(), ..(*control.settings()).clone() }).unwrap();
        assert_eq!(symbols.tiers().tier_1(), tiers[round % 4].tier_1());
        // Now and then it is calm for a while, so that some is replayed in between.
        lag.reach(&pipeline, if round % 5 == 4 { Normal } else { Aggressive });
    }
    assert!(pipeline.ledger().spilled > 0);
    lag.reach(&pipeline, Normal);
    wait_until("all is replayed", || pipeline.ledger().spill_pending == 0 && pipeline.ledger().in_flight == 0);
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    ledger.check().unwrap();
    assert_eq!((ledger.processed(), ledger.shed, ledger.spill_lost), (3 * sequence, 0, 0));
    let seen = seen.lock().unwrap();
    for id in ids {
        let order: Vec<_> = seen.iter().filter(|(symbol, ..)| *symbol == id).map(|(_, n, _)| *n).collect();
        assert!(order.into_iter().eq(1..=sequence), "{id:?} is out of order");
    }
}

#[test]
fn shadow_thresholds_have_a_level_of_their_own_and_no_effect() {
    let lag = ForcedLag::default();
    let labels = Labels { component: "real".to_owned(), ..Labels::default() };
    let telemetry = Telemetry::new(&labels).unwrap();
    let tried = DegradationThresholds { lag_soft: 10, lag_graceful: 50, ..support::thresholds() };
    let shadow = Shadow { thresholds: tried, component: "tried".to_owned() };
    let (pipeline, _) = start(forced_pipeline(&lag).shadow(shadow.clone()).telemetry(telemetry.clone()));
    let control = pipeline.control();
    lag.reach(&pipeline, Soft); // a lag of 100
    wait_until("the shadow's level", || control.snapshot().shadow == Some(Graceful));
    assert_eq!(control.policy().level, Soft);
    let line = |name: &str, component: &str, value: &str| {
        let label = format!("component=\"{component}\"");
        let text = telemetry.render();
        text.lines().any(|line| line.starts_with(name) && line.contains(&label) && line.ends_with(value))
    };
    wait_until("both are exported", || {
        line("k2_degradation_level{", "tried", " 2") && line("k2_degradation_level{", "real", " 1")
    });
    assert!(line("k2_degradation_transitions_total{", "tried", " 1"));
    assert!(line("k2_degradation_lag_threshold_messages{", "tried", " 10"));
    let other = Shadow { thresholds: support::thresholds(), ..shadow };
    control.apply(Settings { shadow: Some(other), ..(*control.settings()).clone() }).unwrap();
    wait_until("other thresholds are tried", || control.snapshot().shadow == Some(Soft));
    control.apply(Settings { shadow: None, ..(*control.settings()).clone() }).unwrap();
    wait_until("none are tried", || control.snapshot().shadow.is_none());
    pipeline.join().unwrap();
}

#[test]
fn a_pipeline_that_has_ended_says_so_instead_of_leaving_one_waiting() {
    let (pipeline, _) = start(forced_pipeline(&ForcedLag::default()));
    let control = pipeline.control();
    assert!(control.health().is_well());
    pipeline.join().unwrap();
    assert!(control.health().is_well(), "{:?}", control.health());
    assert!(matches!(control.pin(Soft, None), Err(ControlError::MonitorGone)));
}

#[test]
fn a_long_sample_interval_keeps_no_change_waiting() {
    let lag = ForcedLag::default();
    let (pipeline, _) = start(forced_pipeline(&lag).sample_interval(Duration::MAX));
    let control = pipeline.control();
    control.pin(Graceful, None).unwrap();
    assert_eq!(control.level(), Graceful);
    control.apply(Settings { sample_interval: Duration::from_millis(1), ..(*control.settings()).clone() }).unwrap();
    control.unpin().unwrap();
    lag.reach(&pipeline, CircuitBreak);
    pipeline.join().unwrap();
}

#[test]
fn a_waiting_source_follows_thresholds_that_become_smaller() {
    let lag = ForcedLag::default();
    let thresholds = DegradationThresholds { lag_soft: 2_000, lag_graceful: 3_000, ..support::thresholds() };
    let (mut pipeline, hold) = start_held(forced_pipeline(&lag).thresholds(thresholds));
    let (mut feed, control) = (pipeline.ingress().unwrap(), pipeline.control());
    let fill =
        |feed: &mut plimsoll::Ingress<Tick>| (1..).take_while(|n| feed.try_offer(trade(TIER_1, *n)).is_some()).count();
    assert_eq!(fill(&mut feed), 999, "just below the mark of SOFT");
    hold.store(false, Ordering::Release);
    feed.flush();
    quiet(&pipeline);
    hold.store(true, Ordering::Release);
    control.apply(Settings { thresholds: support::thresholds(), ..(*control.settings()).clone() }).unwrap();
    assert_eq!(fill(&mut feed), 49, "lag_soft is 100 now");
    hold.store(false, Ordering::Release);
    drop(feed);
    pipeline.join().unwrap();
}
