//! Signals beside lag and memory in a running pipeline: gauges and closures of an embedder's, the age of messages, and how full the spill log is.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use plimsoll::spill::SpillConfig;
use plimsoll::{
    Cause, Context, DegradationLevel, DegradationManager, Offer, OnStale, Pipeline, PipelineBuilder, Settings, Signal,
    SignalGauge, StartError, Telemetry, Tick, wall_clock_ns,
};
use proptest::prelude::*;
use support::{ForcedLag, TIER_1, TIER_3, forced_pipeline, start_held, trade, wait_until};

fn latency() -> Signal {
    Signal::new("write_latency", "ms", [5.0, 20.0, 100.0, 500.0]).unwrap()
}

fn nothing(_: usize) -> impl FnMut(&Tick, &Context) + Send + use<> {
    |_, _| {}
}

#[test]
fn a_gauge_raises_the_level_and_the_cause_names_it() {
    let (lag, gauge) = (ForcedLag::default(), SignalGauge::default());
    let pipeline: Pipeline<Tick, _> = forced_pipeline(&lag).signal(latency(), gauge.clone()).start(nothing).unwrap();
    wait_until("a sample", || pipeline.monitor_samples() > 2);
    assert_eq!(pipeline.level(), DegradationLevel::Normal, "it has no value yet");
    gauge.set(120.5);
    wait_until("AGGRESSIVE", || pipeline.level() == DegradationLevel::Aggressive);
    let transition = *pipeline.history().last().unwrap();
    assert_eq!(transition.cause.to_string(), "write_latency 120.5 ≥ 100");
    assert!(matches!(transition.cause, Cause::Signal { value: 120.5, trigger: 100.0, .. }));
    let text = pipeline.control().explain().to_string();
    for said in [
        "from NORMAL: write_latency 120.5 had reached 100.",
        "write_latency is 120.5 ms; AGGRESSIVE begins at 100 ms; CIRCUIT_BREAK begins at 500 ms.",
        "write_latency must be below 50 ms, which it is not",
    ] {
        assert!(text.contains(said), "no {said:?} in {text}");
    }
    // Below the threshold is not below the mark.
    gauge.set(60.0);
    let samples = pipeline.monitor_samples();
    wait_until("some samples", || pipeline.monitor_samples() > samples + 5);
    assert_eq!(pipeline.level(), DegradationLevel::Aggressive);
    gauge.set(49.9);
    wait_until("GRACEFUL", || pipeline.level() == DegradationLevel::Graceful);
    // The highest that any signal asks for.
    lag.force(DegradationLevel::CircuitBreak);
    wait_until("CIRCUIT_BREAK", || pipeline.level() == DegradationLevel::CircuitBreak);
    pipeline.shutdown().unwrap();
}

#[test]
fn a_signal_that_is_not_refreshed_is_shown_as_stale_and_does_as_it_was_told() {
    for (on_stale, level) in [
        (OnStale::Ignore, DegradationLevel::Normal),
        (OnStale::Hold, DegradationLevel::Graceful),
        (OnStale::Raise, DegradationLevel::Soft),
    ] {
        let (lag, gauge, telemetry) =
            (ForcedLag::default(), SignalGauge::default(), Telemetry::new(&Default::default()).unwrap());
        let signal =
            Signal { stale_after: Some(Duration::from_millis(300)), on_stale, recovery_factor: 1.0, ..latency() };
        let pipeline: Pipeline<Tick, _> =
            forced_pipeline(&lag).telemetry(telemetry.clone()).signal(signal, gauge.clone()).start(nothing).unwrap();
        gauge.set(25.0);
        // It may have been for a moment only, by the time that somebody looks.
        let was_graceful = || pipeline.history().iter().any(|transition| transition.to == DegradationLevel::Graceful);
        wait_until("GRACEFUL", was_graceful);
        wait_until("it is stale", || pipeline.control().explain().signals[0].is_stale);
        let samples = pipeline.monitor_samples();
        wait_until("some samples", || pipeline.monitor_samples() > samples + 5);
        assert_eq!(pipeline.level(), level, "{on_stale:?}");
        let has = |text: &str| {
            telemetry.render().lines().any(|line| {
                line.starts_with(text.split('|').next().unwrap()) && line.ends_with(text.split('|').nth(1).unwrap())
            })
        };
        wait_until("the metrics", || has("k2_signal_stale{| 1"));
        assert!(has("k2_signal_value{| 25") && has("k2_signal_threshold{| 500"), "{}", telemetry.render());
        gauge.set(1.0);
        wait_until("NORMAL", || pipeline.level() == DegradationLevel::Normal);
        wait_until("it is as good as new", || !pipeline.control().explain().signals[0].is_stale);
        pipeline.shutdown().unwrap();
    }
}

#[test]
fn the_age_of_messages_is_that_of_the_oldest_in_hand() {
    let lag = ForcedLag::default();
    // Half a second, a minute, an hour, a day.
    let age = Signal::age([500.0, 6e4, 3.6e6, 8.64e7]);
    let (mut pipeline, hold) = start_held(forced_pipeline(&lag).own_signal(age));
    let mut feed = pipeline.ingress().unwrap();
    let ago = |seconds: u64| wall_clock_ns() - seconds * 1_000_000_000;
    // The one that the handler is held in came two minutes ago; those behind it later.
    for (sequence, receive_ns) in [(1, ago(120)), (2, ago(1)), (3, 0)] {
        assert_eq!(feed.offer(Tick { receive_ns, ..trade(TIER_1, sequence) }), Offer::Accepted);
    }
    feed.flush();
    wait_until("GRACEFUL", || pipeline.level() == DegradationLevel::Graceful);
    let signal = pipeline.control().explain().signals[0].clone();
    assert!((120_000.0..200_000.0).contains(&signal.value.unwrap()), "{signal:?}");
    // Without messages there is no age.
    hold.store(false, Ordering::Release);
    wait_until("NORMAL", || pipeline.level() == DegradationLevel::Normal);
    wait_until("no age", || pipeline.control().explain().signals[0].value == Some(0.0));
    // What comes much later is as old as it is, and not as its predecessor.
    assert_eq!(feed.offer(Tick { receive_ns: wall_clock_ns(), ..trade(TIER_1, 4) }), Offer::Accepted);
    feed.flush();
    wait_until("it is processed", || pipeline.ledger().processed_live == 4);
    drop(feed);
    let finished = pipeline.join().unwrap();
    assert_eq!(finished.transition_count, 2, "{:?}", finished.transitions);
}

/// Holds the handler in messages of odd size, until it is told to go on.
struct Odd(Arc<AtomicU64>, Arc<AtomicU64>);

impl plimsoll::Handler<Tick> for Odd {
    fn process(&mut self, tick: &Tick, _: &Context) {
        if !tick.size.is_multiple_of(2) {
            self.1.store(tick.size, Ordering::Release);
            wait_until("to go on", || self.0.load(Ordering::Acquire) >= tick.size);
        }
    }
}

/// Two lanes: while the worker is held in one, the other's age is that of nothing, be there nothing in it, or something that was not looked at yet.
#[test]
fn a_lane_that_is_empty_has_no_age_whatever_was_in_it_before() {
    let lag = ForcedLag::default();
    let (allowed, held) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (go, at) = (Arc::clone(&allowed), Arc::clone(&held));
    let age = Signal::age([6e4, 3.6e6, 8.64e7, 1e9]);
    let builder = forced_pipeline(&lag).own_signal(age).producers(2);
    let mut pipeline: Pipeline<Tick, Odd> = builder.start(move |_| Odd(Arc::clone(&go), Arc::clone(&at))).unwrap();
    let (mut first, mut second) = (pipeline.ingress().unwrap(), pipeline.ingress().unwrap());
    let offer = |feed: &mut plimsoll::Ingress<Tick>, size: u64, seconds: u64| {
        let receive_ns = wall_clock_ns() - seconds * 1_000_000_000;
        assert_eq!(feed.offer(Tick { receive_ns, ..trade(TIER_1, size) }), Offer::Accepted);
        feed.flush();
    };
    let held_in = |size| wait_until("it is held", || held.load(Ordering::Acquire) == size);
    let is_young = || {
        let samples = pipeline.monitor_samples();
        wait_until("some samples", || pipeline.monitor_samples() > samples + 5);
        let value = pipeline.control().explain().signals[0].value.unwrap();
        assert!(value < 60_000.0, "{value}");
    };
    // Held in the second lane; then an old one in the first, which is finished before the next of the second.
    offer(&mut second, 1, 0);
    held_in(1);
    offer(&mut first, 2, 120);
    offer(&mut second, 3, 0);
    allowed.store(1, Ordering::Release);
    held_in(3);
    is_young();
    // By the next one of the second the first lane was seen to be empty. What is in it then is not as old as what was.
    offer(&mut second, 5, 0);
    allowed.store(3, Ordering::Release);
    held_in(5);
    offer(&mut first, 6, 0);
    is_young();
    allowed.store(5, Ordering::Release);
    drop((first, second));
    assert_eq!(pipeline.join().unwrap().transition_count, 0);
}

#[test]
fn a_spill_log_that_fills_raises_the_level_before_it_is_full() {
    let (lag, dir) = (ForcedLag::default(), tempfile::tempdir().unwrap());
    let config = SpillConfig {
        segment_bytes: 1 << 20,
        budget_bytes: 32 << 20,
        free_space_floor_bytes: 0,
        ..SpillConfig::new(dir.path())
    };
    let builder = forced_pipeline(&lag).spill(config).own_signal(Signal::spill_disk([30.0, 40.0, 50.0, 60.0]));
    let mut pipeline: Pipeline<Tick, _> = builder.start(nothing).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    lag.reach(&pipeline, DegradationLevel::Aggressive);
    let mut sequence = 0;
    wait_until("CIRCUIT_BREAK", || {
        for _ in 0..100 {
            sequence += 1;
            let _ = feed.offer(trade(TIER_3, sequence));
        }
        feed.flush();
        pipeline.level() == DegradationLevel::CircuitBreak
    });
    let cause = pipeline.history().last().unwrap().cause.to_string();
    assert!(cause.starts_with("spill_disk ") && cause.ends_with(" ≥ 60"), "{cause}");
    drop(feed);
    let _ = pipeline.shutdown().unwrap();
}

#[test]
fn signals_can_be_changed_while_it_runs_and_what_makes_no_sense_is_refused() {
    let (lag, gauge) = (ForcedLag::default(), SignalGauge::default());
    let pipeline: Pipeline<Tick, _> = forced_pipeline(&lag).signal(latency(), gauge.clone()).start(nothing).unwrap();
    gauge.set(10.0);
    wait_until("SOFT", || pipeline.level() == DegradationLevel::Soft);
    let control = pipeline.control();
    let apply = |signals: Vec<Signal>| control.apply(Settings { signals, ..(*control.settings()).clone() });
    // It keeps its value.
    apply(vec![Signal { thresholds: [1.0, 2.0, 3.0, 400.0], ..latency() }, Signal::age([1e9, 2e9, 3e9, 4e9])]).unwrap();
    wait_until("AGGRESSIVE", || pipeline.level() == DegradationLevel::Aggressive);
    let error = apply(vec![Signal::new("error_rate", "/s", [1.0, 2.0, 3.0, 4.0]).unwrap()]).unwrap_err().to_string();
    assert_eq!(error, "signal error_rate has no source: there are write_latency, age, spill_disk");
    let error = apply(vec![Signal { thresholds: [1.0, 1.0, 3.0, 4.0], ..latency() }]).unwrap_err().to_string();
    assert!(
        error.starts_with("signal write_latency: thresholds [1.0, 1.0, 3.0, 4.0] must be numbers that rise"),
        "{error}"
    );
    apply(vec![]).unwrap();
    wait_until("NORMAL", || pipeline.level() == DegradationLevel::Normal);
    pipeline.shutdown().unwrap();

    let twice = PipelineBuilder::new().signal(latency(), SignalGauge::default()).signal(latency(), || None);
    let error = twice.start::<Tick, _>(nothing).map(drop).unwrap_err();
    assert!(matches!(error, StartError::Signal(_)), "{error}");
}

/// A source that panics freezes the level, and the program is told.
#[test]
fn a_closure_is_a_source_and_is_asked_every_sample() {
    let (lag, is_bad) = (ForcedLag::default(), Arc::new(AtomicBool::new(false)));
    let bad = Arc::clone(&is_bad);
    let source = move || Some(if bad.load(Ordering::Acquire) { 1e6 } else { 0.0 });
    let pipeline: Pipeline<Tick, _> = forced_pipeline(&lag).signal(latency(), source).start(nothing).unwrap();
    is_bad.store(true, Ordering::Release);
    wait_until("CIRCUIT_BREAK", || pipeline.level() == DegradationLevel::CircuitBreak);
    is_bad.store(false, Ordering::Release);
    wait_until("NORMAL", || pipeline.level() == DegradationLevel::Normal);
    pipeline.shutdown().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// A signal that is a copy of the lag gives the level that the lag gives: the rules are the same.
    #[test]
    fn a_signal_obeys_the_rules_of_lag(
        samples in prop::collection::vec((0u64..20_000, 0u64..6_000_000), 1..200)
    ) {
        let (mut by_lag, mut by_signal) = (DegradationManager::default(), DegradationManager::default());
        by_signal.set_signals(vec![Signal::new("copy", "messages", [1e5, 5e5, 1e6, 5e6]).unwrap()]).unwrap();
        let mut now = Duration::ZERO;
        for (millis, lag) in samples {
            now += Duration::from_millis(millis);
            let expected = by_lag.check_and_degrade(now, lag, 10.0);
            prop_assert_eq!(by_signal.check_all(now, 0, 10.0, [Some(lag as f64)]), expected);
        }
    }
}
