//! Proves that no message is lost silently: whatever producers, workers, levels and the shutdown do to one another,
//! the ledger balances and agrees with what both ends counted, symbols keep their order, and every hole is told of
//! at its exact place in the stream.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use plimsoll::spill::AtShutdown;
use plimsoll::{
    Context, DegradationLevel, Failure, Finished, Ingress, MessagePriority, Offer, Pipeline, PipelineBuilder,
    ShedReason, SymbolId, Tick, Tier,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use support::random_run::{Answers, Plan, STRATEGIES, SpillPlan, plan, replay_rest, run};
use support::recorder::{Event, Recorder, check_events};
use support::{ForcedLag, TIER_1, TIER_3, forced_pipeline, trade, wait_until};

/// How many of a priority were offered.
fn sum_of(answers: &[Answers], priority: MessagePriority) -> u64 {
    answers.iter().map(|answers| answers.by_priority[priority.index()]).sum()
}

/// The ledger against what producers and handlers counted by themselves.
fn check_ledger(finished: &Finished<Recorder>, answers: &[Answers]) -> Result<(), TestCaseError> {
    let ledger = &finished.ledger;
    prop_assert_eq!(ledger.check(), Ok(()));
    prop_assert_eq!(ledger.in_flight, 0);
    let sum = |pick: fn(&Answers) -> u64| answers.iter().map(pick).sum::<u64>();
    prop_assert_eq!(ledger.offered, sum(Answers::offered));
    prop_assert_eq!(ledger.accepted, sum(|a| a.accepted));
    prop_assert_eq!(ledger.refused, sum(|a| a.refused));
    prop_assert_eq!(ledger.full, sum(|a| a.full));
    for (handler, worker) in finished.handlers.iter().zip(&ledger.workers) {
        prop_assert_eq!(worker.processed_live, handler.processed());
        prop_assert_eq!(worker.replayed, handler.replayed);
        prop_assert_eq!(worker.enriched, handler.enriched);
        prop_assert_eq!(worker.gaps, handler.gaps());
    }
    for priority in MessagePriority::ALL {
        let handled: u64 = finished.handlers.iter().map(|h| h.by_priority[priority.index()]).sum();
        let part = ledger.by_priority[priority.index()];
        prop_assert_eq!(part.processed_live, handled);
        prop_assert_eq!(part.offered(), sum_of(answers, priority), "{:?}", part);
    }
    prop_assert_eq!(ledger.processed(), ledger.processed_live + ledger.replayed);
    prop_assert_eq!([ledger.recovered, ledger.spill_lost], [0; 2]);
    prop_assert_eq!(ledger.shed_by.total(), ledger.shed);
    for (_, reason, count) in ledger.shed_by.iter() {
        prop_assert!(count == 0 || !matches!(reason, ShedReason::Policy | ShedReason::WorkerFailed));
    }
    Ok(())
}

proptest! {
    // A fixed seed, so that every run of the suite tries the same plans; how threads meet still differs.
    #![proptest_config(ProptestConfig {
        cases: 24, rng_seed: RngSeed::Fixed(20_140_303), failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn every_message_of_a_random_run_is_accounted_for_and_every_hole_is_in_its_place(plan in plan()) {
        let (finished, answers) = run(&plan, None);
        check_ledger(&finished, &answers)?;
        prop_assert_eq!(finished.ledger.spilled, 0);
        let by_symbol: Vec<_> = answers.into_iter().map(|a| a.by_symbol).collect();
        check_events(&finished.handlers, &by_symbol).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn with_one_producer_each_hole_is_exactly_what_is_missing_before_the_message(plan in plan()) {
        let plan = Plan { producers: 1, lane_capacity: plan.lane_capacity % 300 + 1, ..plan };
        let (finished, answers) = run(&plan, None);
        check_ledger(&finished, &answers)?;
        prop_assert_eq!(finished.ledger.spilled, 0);
        let by_symbol: Vec<_> = answers.into_iter().map(|a| a.by_symbol).collect();
        check_events(&finished.handlers, &by_symbol).map_err(TestCaseError::fail)?;
    }
}

/// A plan with a spill log; sometimes with so small a budget that there is often no room.
fn plan_with_spill() -> impl Strategy<Value = Plan> {
    let at_shutdown = prop_oneof![Just(AtShutdown::Leave), Just(AtShutdown::Replay)];
    let spill = (prop_oneof![Just(2u64), Just(3u64), Just(1000u64)], 0.05f64..0.95, at_shutdown);
    (plan(), spill).prop_map(|(plan, (budget_segments, replay_share, at_shutdown))| {
        let spill = Some(SpillPlan { budget_segments, replay_share, at_shutdown });
        Plan { spill, ..plan }
    })
}

/// A run with a spill log, and one more that replays what it leaves on disk: together they account for every message, in order.
fn check_with_spill(plan: &Plan) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut finished, answers) = run(plan, Some(dir.path()));
    check_ledger(&finished, &answers)?;
    let ledger = &finished.ledger;
    prop_assert!(ledger.spill_pending == 0 || plan.spill.as_ref().is_some_and(|s| s.at_shutdown == AtShutdown::Leave));
    let rest = replay_rest(plan, dir.path());
    prop_assert_eq!(rest.ledger.check(), Ok(()));
    prop_assert_eq!((rest.ledger.recovered, rest.ledger.replayed), (ledger.spill_pending, ledger.spill_pending));
    for (handler, more) in finished.handlers.iter_mut().zip(rest.handlers) {
        prop_assert_eq!(more.wrong, None);
        handler.events.push(Event::End);
        handler.events.extend(more.events);
    }
    let by_symbol: Vec<_> = answers.into_iter().map(|a| a.by_symbol).collect();
    check_events(&finished.handlers, &by_symbol).map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32, rng_seed: RngSeed::Fixed(20_260_101), failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn with_a_spill_log_every_message_is_accounted_for_and_symbols_keep_their_order(plan in plan_with_spill()) {
        check_with_spill(&plan)?;
    }

    #[test]
    fn with_a_spill_log_and_one_producer_each_hole_is_exactly_in_its_place(plan in plan_with_spill()) {
        check_with_spill(&Plan { producers: 1, ..plan })?;
    }
}

/// Lets a handler be held inside a message.
#[derive(Clone, Default)]
struct Latch {
    hold: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
}

impl Latch {
    fn pass(&self) {
        while self.hold.load(Ordering::Acquire) {
            self.held.store(true, Ordering::Release);
            std::thread::yield_now();
        }
    }
}

/// Turned away from a full lane, refused at the gate, shed by the worker: one hole, told of once.
#[test]
fn a_hole_with_three_causes_is_told_of_once_with_its_whole_size() {
    let lag = ForcedLag::default();
    let latch = Latch::default();
    let events = Arc::new(std::sync::Mutex::new(Vec::new()));
    struct Held(Latch, Arc<std::sync::Mutex<Vec<Event>>>);
    impl plimsoll::Handler<Tick> for Held {
        fn process(&mut self, tick: &Tick, _: &Context) {
            self.0.pass();
            let event = Event::Message { symbol: tick.symbol, producer: tick.flags, sequence: tick.sequence };
            self.1.lock().unwrap().push(event);
        }
        fn on_gap(&mut self, symbol: SymbolId, missed: u64) {
            self.1.lock().unwrap().push(Event::Gap { symbol, missed });
        }
    }
    let mut pipeline: Pipeline<Tick, Held> =
        forced_pipeline(&lag).lane_capacity(300).start(|_| Held(latch.clone(), Arc::clone(&events))).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    latch.hold.store(true, Ordering::Release);
    assert_eq!(feed.offer(trade(TIER_3, 1)), Offer::Accepted);
    feed.flush();
    wait_until("the handler", || latch.held.load(Ordering::Acquire));

    // The worker is in the first message, so nothing leaves the lane.
    let mut sequence = 1;
    let mut offer_many = |feed: &mut Ingress<Tick>, count: u64| {
        let ticks: Vec<_> = (1..=count).map(|i| trade(TIER_3, sequence + i)).collect();
        sequence += count;
        feed.offer_slice(&ticks)
    };
    let first = offer_many(&mut feed, 2000);
    assert!(first.accepted >= 299, "a lane takes what it was made for: {first:?}");
    assert!(first.full > 0 && first.refused == 0, "{first:?}");
    lag.reach(&pipeline, DegradationLevel::CircuitBreak);
    let second = offer_many(&mut feed, 10);
    assert_eq!((second.accepted, second.refused, second.full), (0, 10, 0));
    latch.hold.store(false, Ordering::Release);
    // At CIRCUIT_BREAK all that waits behind the first message is shed.
    wait_until("an empty lane", || pipeline.ledger().in_flight == 0);
    lag.reach(&pipeline, DegradationLevel::Normal);
    // The gate opens just after the level is out, so the first offer waits for it.
    assert!(feed.offer_wait(trade(TIER_1, 1), || false));
    assert_eq!(offer_many(&mut feed, 2).accepted, 2);
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    ledger.check().unwrap();
    let non_critical = ledger.shed_by.get(Tier::Tier3, ShedReason::NonCritical);
    assert_eq!((ledger.shed, non_critical), (first.accepted as u64, first.accepted as u64));
    let message = |symbol, sequence| Event::Message { symbol, producer: 0, sequence };
    let expected = [
        message(TIER_3, 1),
        message(TIER_1, 1),
        Event::Gap { symbol: TIER_3, missed: 2010 },
        message(TIER_3, 2012),
        message(TIER_3, 2013),
    ];
    assert_eq!(*events.lock().unwrap(), expected);
}

#[test]
fn a_flushed_message_is_seen_under_every_wait_strategy_without_another_one_behind_it() {
    for wait in STRATEGIES {
        let seen = Arc::new(AtomicU64::new(0));
        let mut pipeline = PipelineBuilder::default()
            .wait_strategy(wait)
            .start(|_| {
                let seen = Arc::clone(&seen);
                move |tick: &Tick, _: &Context| seen.store(tick.sequence, Ordering::Release)
            })
            .unwrap();
        let mut feed = pipeline.ingress().unwrap();
        for sequence in 1..=3000 {
            assert_eq!(feed.offer(trade(SymbolId::new(sequence as u32 % 50), sequence)), Offer::Accepted);
            feed.flush();
            wait_until("the message", || seen.load(Ordering::Acquire) == sequence);
        }
        drop(feed);
        assert_eq!(pipeline.join().unwrap().ledger.processed_live, 3000, "{wait:?}");
    }
}

#[test]
fn an_ingress_that_is_kept_past_the_shutdown_is_a_failure_and_its_handlers_see_nothing_more() {
    let seen = Arc::new(AtomicU64::new(0));
    let mut pipeline = PipelineBuilder::default()
        .workers(2)
        .drain_timeout(Duration::from_millis(50))
        .start(|_| {
            let seen = Arc::clone(&seen);
            move |_: &Tick, _: &Context| {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        })
        .unwrap();
    let mut feed = pipeline.ingress().unwrap();
    let ticks: Vec<_> = (1..=1000).map(|i| trade(SymbolId::new(i as u32 % 20), i)).collect();
    assert_eq!(feed.offer_slice(&ticks).accepted, 1000);
    wait_until("all messages", || pipeline.ledger().in_flight == 0);

    let error = pipeline.shutdown().map(drop).unwrap_err();
    let waited = Duration::from_millis(50);
    assert_eq!(error.failures, [Failure::DrainTimeout { workers: 2, waited }]);
    error.ledger.check().unwrap();
    assert_eq!((error.ledger.processed_live, error.ledger.in_flight), (1000, 0));
    assert!(feed.is_closed());
    assert_eq!(feed.offer_slice(&ticks).refused, 1000);
    assert!(!feed.offer_wait(ticks[0], || false));
    drop(feed);
    // The workers drop their handlers when they end.
    wait_until("the workers' end", || Arc::strong_count(&seen) == 1);
    assert_eq!(seen.load(Ordering::Relaxed), 1000);
}
