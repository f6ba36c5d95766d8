//! Proves that what goes wrong is reported, and goes wrong in an orderly way: panics of user code, settings that
//! cannot work, a pipeline that is dropped. Nothing hangs, and the ledger balances through all of it.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use plimsoll::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use plimsoll::{
    Context, DataType, DegradationLevel, DegradationThresholds, Failure, Handler, LagSource, Message, Offer, Pinning,
    PipelineBuilder, ShedReason, StartError, SymbolId, ThresholdError, Tick, Tier, Transition,
};
use support::{ForcedLag, TIER_1, TIER_2, TIER_3, forced_pipeline, trade, wait_until};

/// Started with a handler that does nothing: for settings that are wrong.
fn start_error(builder: PipelineBuilder) -> StartError {
    builder.start(|_| |_: &Tick, _: &Context| ()).map(drop).expect_err("the settings are wrong")
}

/// A handler that panics at one sequence number.
fn panics_at(bad: u64) -> impl FnMut(&Tick, &Context) + Send + 'static {
    move |tick, _| assert!(tick.sequence != bad, "bad tick {bad}")
}

#[test]
fn a_handler_that_panics_is_named_with_its_words_and_its_messages_stay_accounted_for() {
    // One symbol for each of two workers.
    let (bad_worker, other_seen) = (Arc::new(AtomicUsize::new(99)), Arc::new(AtomicU64::new(0)));
    let lag = ForcedLag::default();
    let mut pipeline = forced_pipeline(&lag)
        .workers(2)
        .lane_capacity(10_000)
        .start(|worker| {
            let (bad_worker, other_seen) = (Arc::clone(&bad_worker), Arc::clone(&other_seen));
            move |tick: &Tick, context: &Context| {
                assert_eq!(context.worker(), worker);
                if tick.symbol == TIER_1 {
                    bad_worker.store(worker, Ordering::Relaxed);
                    assert!(tick.sequence != 500, "bad tick {}", tick.sequence);
                } else {
                    other_seen.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
        .unwrap();
    let mut feed = pipeline.ingress().unwrap();
    let (mut accepted, mut accepted_other) = (0, 0);
    for sequence in 1..=3000 {
        for symbol in [TIER_1, TIER_2] {
            if feed.offer(trade(symbol, sequence)) == Offer::Accepted {
                accepted += 1;
                accepted_other += u64::from(symbol == TIER_2);
            }
        }
    }
    drop(feed);
    let error = pipeline.join().map(drop).unwrap_err();
    let worker = bad_worker.load(Ordering::Relaxed);
    assert_eq!(error.failures, [Failure::WorkerPanicked { worker, cause: "bad tick 500".to_owned() }]);
    let ledger = &error.ledger;
    ledger.check().unwrap();
    assert_eq!((ledger.offered, ledger.accepted, ledger.in_flight), (6000, accepted, 0));
    assert_eq!(ledger.processed_live, 499 + other_seen.load(Ordering::Relaxed));
    assert!(ledger.workers.iter().all(|w| w.accepted > 0), "each of the two symbols has a worker of its own");
    let bad = &ledger.workers[worker];
    // The message that panicked is not counted as processed.
    let failed: u64 = Tier::ALL.map(|tier| bad.shed_by.get(tier, ShedReason::WorkerFailed)).iter().sum();
    assert_eq!(failed, bad.shed);
    assert_eq!(bad.processed_live + bad.shed, bad.accepted);
    assert_eq!(ledger.workers.iter().map(|w| w.shed).sum::<u64>(), failed, "the other worker shed nothing");
    assert_eq!(other_seen.load(Ordering::Relaxed), accepted_other, "the other worker finished its own");
    let text = error.to_string();
    assert!(text.contains(&format!("worker {worker}")) && text.contains("bad tick 500"), "{text}");
}

#[test]
fn a_panic_at_any_place_of_a_chunk_loses_no_message_and_counts_none_twice() {
    for bad in [1, 2, 127, 128, 129, 255, 256, 257, 512, 1000] {
        let lag = ForcedLag::default();
        let mut pipeline = forced_pipeline(&lag).start(|_| panics_at(bad)).unwrap();
        let mut feed = pipeline.ingress().unwrap();
        let ticks: Vec<_> = (1..=1000).map(|i| trade(TIER_1, i)).collect();
        let offered = feed.offer_slice(&ticks);
        drop(feed);
        let ledger = pipeline.join().map(drop).unwrap_err().ledger;
        ledger.check().unwrap();
        let accepted = offered.accepted as u64;
        assert_eq!((ledger.accepted, ledger.in_flight), (accepted, 0));
        assert_eq!((ledger.processed_live, ledger.shed), (bad - 1, accepted - (bad - 1)), "panicked at {bad}");
    }
}

#[test]
fn panics_in_enrich_and_in_on_gap_are_a_workers_failure_too() {
    struct Touchy;
    impl Handler<Tick> for Touchy {
        fn enrich(&mut self, tick: &mut Tick, _: &Context) {
            assert!(tick.symbol != TIER_3, "cannot enrich");
        }
        fn process(&mut self, _: &Tick, _: &Context) {}
        fn on_gap(&mut self, _: SymbolId, missed: u64) {
            panic!("cannot bear a gap of {missed}");
        }
    }
    let lag = ForcedLag::default();
    let mut pipeline = forced_pipeline(&lag).start(|_| Touchy).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    assert_eq!(feed.offer_slice(&[trade(TIER_1, 1), trade(TIER_3, 1)]).accepted, 2);
    drop(feed);
    let error = pipeline.join().map(drop).unwrap_err();
    assert_eq!(error.failures, [Failure::WorkerPanicked { worker: 0, cause: "cannot enrich".to_owned() }]);
    error.ledger.check().unwrap();
    assert_eq!((error.ledger.processed_live, error.ledger.shed), (1, 1));

    let mut pipeline = forced_pipeline(&lag).start(|_| Touchy).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    lag.reach(&pipeline, DegradationLevel::CircuitBreak);
    assert_eq!(feed.offer(trade(TIER_1, 1)), Offer::Refused);
    lag.reach(&pipeline, DegradationLevel::Normal);
    // The gate opens just after the level is out.
    assert!(feed.offer_wait(trade(TIER_1, 2), || false));
    drop(feed);
    let error = pipeline.join().map(drop).unwrap_err();
    let cause = "cannot bear a gap of 1".to_owned();
    assert_eq!(error.failures, [Failure::WorkerPanicked { worker: 0, cause }]);
    error.ledger.check().unwrap();
    assert_eq!((error.ledger.processed_live, error.ledger.shed, error.ledger.refused), (0, 1, 1));
}

#[test]
fn after_a_workers_panic_the_gate_is_shut_for_good_and_a_producer_that_stays_is_no_hang() {
    let lag = ForcedLag::default();
    let drain = Duration::from_millis(50);
    let mut pipeline = forced_pipeline(&lag).workers(3).drain_timeout(drain).start(|_| panics_at(10)).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    for sequence in 1..=20 {
        assert_eq!(feed.offer(trade(TIER_1, sequence)), Offer::Accepted);
    }
    feed.flush();
    wait_until("the gate", || feed.is_closed());
    assert_eq!(feed.offer(trade(TIER_1, 21)), Offer::Refused);
    assert!(!feed.offer_wait(trade(TIER_1, 22), || false));
    feed.flush();
    wait_until("empty lanes", || pipeline.ledger().in_flight == 0);

    let error = pipeline.join().map(drop).unwrap_err();
    let [Failure::WorkerPanicked { cause, .. }, Failure::DrainTimeout { workers: 3, waited }] = &error.failures[..]
    else {
        panic!("{:?}", error.failures)
    };
    assert_eq!((cause.as_str(), *waited), ("bad tick 10", drain));
    error.ledger.check().unwrap();
    assert_eq!((error.ledger.processed_live, error.ledger.shed, error.ledger.refused), (9, 11, 1));
    assert_eq!(feed.offer(trade(TIER_1, 23)), Offer::Refused);
}

#[test]
fn what_a_full_block_publishes_is_offered_too() {
    let lag = ForcedLag::default();
    let mut pipeline = forced_pipeline(&lag).start(|_| |_: &Tick, _: &Context| ()).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    for sequence in 1..=300 {
        assert_eq!(feed.offer(trade(TIER_1, sequence)), Offer::Accepted);
    }
    wait_until("the block", || pipeline.ledger().processed_live == 256);
    assert_eq!((pipeline.ledger().offered, pipeline.ledger().check()), (256, Ok(())));
}

#[test]
fn the_ledger_of_a_failure_balances_even_where_a_producer_that_stays_has_not_flushed() {
    let lag = ForcedLag::default();
    let builder = forced_pipeline(&lag).drain_timeout(Duration::from_millis(50));
    let mut pipeline = builder.start(|_| panics_at(1)).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    assert_eq!(feed.offer_slice(&[trade(TIER_1, 1)]).accepted, 1);
    wait_until("the gate", || feed.is_closed());
    wait_until("empty lanes", || pipeline.ledger().in_flight == 0);
    for sequence in 2..=6 {
        assert_eq!(feed.offer(trade(TIER_1, sequence)), Offer::Refused);
    }
    let error = pipeline.join().map(drop).unwrap_err();
    assert_eq!(error.failures.len(), 2, "{error}");
    assert_eq!(error.ledger.check(), Ok(()));
}

#[test]
fn the_last_level_stays_in_force_when_a_lag_source_panics() {
    struct Fragile(ForcedLag, Arc<AtomicBool>);
    impl LagSource for Fragile {
        fn lag(&mut self, in_lanes: u64) -> u64 {
            assert!(!self.1.load(Ordering::Acquire), "the lag is unknowable");
            self.0.lag(in_lanes)
        }
        fn has_backlog(&self) -> bool {
            true
        }
    }
    let (lag, broken) = (ForcedLag::default(), Arc::new(AtomicBool::new(false)));
    let builder = forced_pipeline(&lag).lag_source(Fragile(lag.clone(), Arc::clone(&broken)));
    let mut pipeline = builder.start(|_| |_: &Tick, _: &Context| ()).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    let graceful = DegradationLevel::Graceful;
    lag.reach(&pipeline, graceful);
    broken.store(true, Ordering::Release);
    // The source is dropped with the monitor's thread.
    wait_until("the monitor's end", || Arc::strong_count(&broken) == 1);
    lag.force(DegradationLevel::Normal);
    assert_eq!(feed.offer(support::reference(TIER_1, 1)), Offer::Accepted);
    assert_eq!(feed.offer(trade(TIER_1, 2)), Offer::Accepted);
    let samples = pipeline.monitor_samples();
    feed.flush();
    wait_until("the messages", || pipeline.ledger().in_flight == 0);
    assert_eq!((pipeline.level(), pipeline.monitor_samples()), (graceful, samples));
    drop(feed);
    let error = pipeline.join().map(drop).unwrap_err();
    assert_eq!(error.failures, [Failure::MonitorPanicked { cause: "the lag is unknowable".to_owned() }]);
    error.ledger.check().unwrap();
    assert_eq!((error.ledger.processed_live, error.ledger.shed), (1, 1));
}

#[test]
fn a_monitor_that_dies_behind_a_shut_gate_closes_it_for_good_so_that_nobody_waits_for_ever() {
    let lag = ForcedLag::default();
    let builder = forced_pipeline(&lag).on_transition(|transition: &Transition| {
        assert!(transition.to != DegradationLevel::CircuitBreak, "the callback fails");
    });
    let mut pipeline = builder.start(|_| |_: &Tick, _: &Context| ()).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    lag.force(DegradationLevel::CircuitBreak);
    wait_until("the gate", || feed.is_closed());
    assert!(!feed.offer_wait(trade(TIER_1, 1), || false));
    drop(feed);
    let error = pipeline.join().map(drop).unwrap_err();
    assert_eq!(error.failures, [Failure::MonitorPanicked { cause: "the callback fails".to_owned() }]);
}

#[test]
fn a_handler_that_panics_again_when_it_is_dropped_is_one_failure() {
    struct Fragile;
    impl Handler<Tick> for Fragile {
        fn process(&mut self, _: &Tick, _: &Context) {
            panic!("once");
        }
    }
    impl Drop for Fragile {
        fn drop(&mut self) {
            panic!("twice");
        }
    }
    let mut pipeline = forced_pipeline(&ForcedLag::default()).start(|_| Fragile).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    assert_eq!(feed.offer_slice(&[trade(TIER_1, 1)]).accepted, 1);
    drop(feed);
    let error = pipeline.join().map(std::mem::forget).unwrap_err();
    assert_eq!(error.failures, [Failure::WorkerPanicked { worker: 0, cause: "once".to_owned() }]);
    error.ledger.check().unwrap();
}

#[test]
fn the_new_level_is_in_force_when_a_transition_callback_panics() {
    let lag = ForcedLag::default();
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let builder = forced_pipeline(&lag).on_transition(move |transition: &Transition| {
        let _held = &held;
        panic!("no words for {}", transition.to);
    });
    let mut pipeline = builder.start(|_| |_: &Tick, _: &Context| ()).unwrap();
    let feed = pipeline.ingress().unwrap();
    lag.reach(&pipeline, DegradationLevel::Soft);
    wait_until("the monitor's end", || Arc::strong_count(&alive) == 1);
    assert_eq!(pipeline.level(), DegradationLevel::Soft);
    assert_eq!(pipeline.history().len(), 1);
    drop(feed);
    let error = pipeline.join().map(drop).unwrap_err();
    assert_eq!(error.failures, [Failure::MonitorPanicked { cause: "no words for SOFT".to_owned() }]);
}

#[test]
fn thresholds_out_of_order_are_refused_and_named() {
    let thresholds = DegradationThresholds { lag_graceful: 50_000, ..Default::default() };
    let error = start_error(PipelineBuilder::default().thresholds(thresholds));
    let StartError::Thresholds(ThresholdError::NotRising { lower: "lag_soft", higher: "lag_graceful", .. }) = error
    else {
        panic!("{error}")
    };
    let text = error.to_string();
    assert!(text.contains("lag_soft = 100000") && text.contains("lag_graceful = 50000"), "{text}");
}

#[test]
fn a_lane_that_fills_before_the_circuit_breaks_is_refused_with_both_numbers_unless_there_is_a_backlog() {
    let small = || PipelineBuilder::default().lane_capacity(5_000_000);
    let error = start_error(small());
    assert!(
        matches!(error, StartError::LaneTooSmall { lane_capacity: 5_000_000, lag_circuit_break: 5_000_000 }),
        "{error}"
    );
    assert!(error.to_string().contains("lane_capacity = 5000000"), "{error}");
    assert!(error.to_string().contains("lag_circuit_break = 5000000"), "{error}");
    // A closure has no backlog of its own; a source that says so has one.
    let error = start_error(small().lag_source(|in_lanes| in_lanes));
    assert!(matches!(error, StartError::LaneTooSmall { .. }), "{error}");
    let with_backlog = small().lag_source(ForcedLag::default()).start(|_| |_: &Tick, _: &Context| ());
    with_backlog.unwrap().join().unwrap();
    let just_enough = PipelineBuilder::default().lane_capacity(5_000_001).start(|_| |_: &Tick, _: &Context| ());
    just_enough.unwrap().join().unwrap();
}

#[test]
fn a_circuit_that_never_breaks_by_lag_needs_a_lane_capacity_and_the_error_says_so() {
    let thresholds = DegradationThresholds { lag_circuit_break: u64::MAX, ..Default::default() };
    let error = start_error(PipelineBuilder::default().thresholds(thresholds));
    assert!(matches!(error, StartError::OutOfRange { .. } | StartError::LaneTooSmall { .. }), "{error}");
}

#[test]
fn no_workers_no_producers_and_no_room_are_refused_and_named() {
    for (setting, builder) in [
        ("workers", PipelineBuilder::default().workers(0)),
        ("producers", PipelineBuilder::default().producers(0)),
        ("lane_capacity", PipelineBuilder::default().lane_capacity(0)),
    ] {
        let error = start_error(builder);
        assert!(error.to_string().starts_with(&format!("{setting} = 0")), "{error}");
    }
}

/// A message of 64 KiB.
#[derive(Clone, Copy, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[zerocopy(crate = "plimsoll::zerocopy")]
#[repr(C)]
struct Page([u8; 1 << 16]);

impl Message for Page {
    fn set_symbol(&mut self, _: SymbolId) {}

    fn symbol(&self) -> SymbolId {
        SymbolId::new(u32::from(self.0[0]))
    }
    fn data_type(&self) -> DataType {
        DataType::Other
    }
}

#[test]
fn a_lane_beyond_all_memory_is_an_error_that_says_how_much_it_would_have_been() {
    let builder = PipelineBuilder::new().lane_capacity(1 << 34); // 2⁵⁰ bytes
    let error = builder.start(|_| |_: &Page, _: &Context| ()).map(drop).unwrap_err();
    let expected = StartError::NoMemory { lane_capacity: 1 << 34, message_bytes: 1 << 16 };
    assert_eq!(error.to_string(), expected.to_string());
}

#[test]
fn a_core_that_is_not_there_leaves_the_worker_unpinned() {
    let pinning = Pinning::Cores(vec![usize::MAX, 1 << 20]);
    let builder = PipelineBuilder::default().workers(3).pinning(pinning);
    let pipeline = builder.start(|_| |_: &Tick, _: &Context| ()).unwrap();
    assert_eq!(pipeline.pinned_cores(), [None, None, None]);
    pipeline.join().unwrap();
}

#[test]
fn a_pipeline_that_is_dropped_shuts_the_gate_and_its_threads_end_when_the_producers_are_gone() {
    let alive = Arc::new(AtomicU64::new(0));
    let lag = ForcedLag::default();
    let mut pipeline = forced_pipeline(&lag)
        .workers(2)
        .producers(2)
        .start(|_| {
            let alive = Arc::clone(&alive);
            move |_: &Tick, _: &Context| {
                alive.fetch_add(1, Ordering::Relaxed);
            }
        })
        .unwrap();
    let mut feed = pipeline.ingress().unwrap(); // the other one is never taken
    assert_eq!(feed.offer(trade(TIER_1, 1)), Offer::Accepted);
    drop(pipeline);
    assert!(feed.is_closed());
    assert_eq!(feed.offer(trade(TIER_1, 2)), Offer::Refused);
    drop(feed);
    wait_until("the workers' end", || Arc::strong_count(&alive) == 1);
    assert_eq!(alive.load(Ordering::Relaxed), 1, "what was accepted is finished");
}

#[test]
fn the_longest_of_all_drain_timeouts_means_to_wait_without_an_end() {
    let lag = ForcedLag::default();
    let builder = forced_pipeline(&lag).drain_timeout(Duration::MAX);
    let pipeline = builder.start(|_| |_: &Tick, _: &Context| ()).unwrap();
    pipeline.shutdown().unwrap();
}

#[test]
fn a_long_sample_interval_is_no_failure_of_the_monitor() {
    let lag = ForcedLag::default();
    let builder = forced_pipeline(&lag).sample_interval(Duration::MAX);
    let pipeline = builder.start(|_| |_: &Tick, _: &Context| ()).unwrap();
    wait_until("a sample", || pipeline.monitor_samples() > 0);
    pipeline.join().unwrap();
}
