//! Proves what is done about handlers that panic, workers that stand still, and a monitor that dies, when somebody is to do something about it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll::spill::SpillConfig;
use plimsoll::{
    Context, DegradationLevel, Failure, Handler, LagSource, OnStall, Restarts, ShedReason, Supervision, SymbolId, Tick,
    Tier,
};
use support::{ForcedLag, TIER_1, TIER_3, forced_pipeline, start_held, trade, wait_until};

fn restarts(max: u32) -> Supervision {
    Supervision { restarts: Restarts { max, within: Duration::from_secs(3600) }, ..Supervision::default() }
}

/// What all handlers of a worker have seen: which of them, and what.
type Seen = Arc<Mutex<Vec<(u64, u64)>>>;
/// Holes that they were told of.
type Gaps = Arc<Mutex<Vec<(SymbolId, u64)>>>;

/// Panics at some sequence numbers.
struct Touchy {
    number: u64,
    bad: &'static [u64],
    seen: Seen,
    gaps: Gaps,
}

impl Handler<Tick> for Touchy {
    fn process(&mut self, tick: &Tick, _: &Context) {
        assert!(!self.bad.contains(&tick.sequence), "bad tick {}", tick.sequence);
        self.seen.lock().unwrap().push((self.number, tick.sequence));
    }

    fn on_gap(&mut self, symbol: SymbolId, missed: u64) {
        self.gaps.lock().unwrap().push((symbol, missed));
    }
}

/// Makes touchy handlers, which are numbered.
fn touchy(bad: &'static [u64], seen: &Seen) -> (impl Fn(usize) -> Touchy + Send + Sync + use<>, Gaps) {
    let (made, seen, gaps) = (AtomicU64::new(0), Arc::clone(seen), Arc::default());
    let told = Arc::clone(&gaps);
    let make = move |_| Touchy {
        number: made.fetch_add(1, Ordering::Relaxed),
        bad,
        seen: Arc::clone(&seen),
        gaps: Arc::clone(&told),
    };
    (make, gaps)
}

#[test]
fn a_handler_that_panics_is_made_anew_and_only_the_message_in_hand_is_given_up() {
    // At the ends of chunks and blocks, twice in a row, and the first and the last of all.
    const BAD: &[u64] = &[1, 127, 128, 129, 256, 257, 700, 701, 1000];
    let (lag, seen) = (ForcedLag::default(), Seen::default());
    let (make, gaps) = touchy(BAD, &seen);
    let mut pipeline = forced_pipeline(&lag).supervision(restarts(9)).start_restarting(make).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    for sequence in 1..=1000 {
        assert!(feed.offer_wait(trade(TIER_1, sequence), || false), "the gate stays open");
    }
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    ledger.check().unwrap();
    assert_eq!((ledger.processed_live, ledger.shed, ledger.workers[0].restarts), (991, 9, 9));
    assert_eq!(ledger.shed_by.get(Tier::Tier1, ShedReason::WorkerFailed), 9);
    let seen = seen.lock().unwrap();
    assert!(seen.iter().map(|(_, n)| *n).eq((1..=1000).filter(|n| !BAD.contains(n))), "in order, each once");
    assert!(seen.iter().all(|(number, n)| *number == BAD.iter().filter(|bad| *bad < n).count() as u64));
    // Told of before the next message, be it a bad one, and at the end.
    assert_eq!(*gaps.lock().unwrap(), [(TIER_1, 1); 9]);
}

#[test]
fn a_handler_that_panics_too_often_ends_the_run() {
    let (lag, seen) = (ForcedLag::default(), Seen::default());
    let (make, _) = touchy(&[10, 20, 30], &seen);
    let mut pipeline = forced_pipeline(&lag).supervision(restarts(2)).start_restarting(make).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    let ticks: Vec<_> = (1..=100).map(|n| trade(TIER_1, n)).collect();
    let accepted = feed.offer_slice(&ticks).accepted as u64;
    drop(feed);
    let error = pipeline.join().map(drop).unwrap_err();
    assert_eq!(error.failures, [Failure::WorkerPanicked { worker: 0, cause: "bad tick 30".to_owned() }]);
    error.ledger.check().unwrap();
    assert_eq!((error.ledger.processed_live, error.ledger.shed), (27, accepted - 27));
}

#[test]
fn a_message_from_the_spill_log_that_no_handler_bears_counts_as_lost_and_the_next_are_replayed() {
    let (lag, seen, dir) = (ForcedLag::default(), Seen::default(), tempfile::tempdir().unwrap());
    let (make, gaps) = touchy(&[5, 6], &seen);
    let spill = SpillConfig { segment_bytes: 1 << 20, free_space_floor_bytes: 0, ..SpillConfig::new(dir.path()) };
    let builder = forced_pipeline(&lag).supervision(restarts(2)).spill(spill);
    let mut pipeline = builder.start_restarting(make).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    lag.reach(&pipeline, DegradationLevel::Aggressive);
    let ticks: Vec<_> = (1..=20).map(|n| trade(TIER_3, n)).collect();
    assert_eq!(feed.offer_slice(&ticks).accepted, 20);
    wait_until("all are spilled", || pipeline.ledger().spilled == 20);
    lag.reach(&pipeline, DegradationLevel::Normal);
    wait_until("all are replayed", || pipeline.ledger().spill_pending == 0);
    drop(feed);
    let ledger = pipeline.join().unwrap().ledger;
    ledger.check().unwrap();
    assert_eq!((ledger.replayed, ledger.spill_lost, ledger.workers[0].restarts), (18, 2, 2));
    assert!(seen.lock().unwrap().iter().map(|(_, n)| *n).eq((1..=20).filter(|n| ![5, 6].contains(n))));
    assert_eq!(gaps.lock().unwrap().iter().map(|(_, missed)| missed).sum::<u64>(), 2);
}

/// A lag source that panics when it is told to.
struct Fragile(ForcedLag, Arc<AtomicU64>);

impl LagSource for Fragile {
    fn lag(&mut self, in_lanes: u64) -> u64 {
        let left = self.1.load(Ordering::Acquire);
        if left > 0 {
            self.1.store(left - 1, Ordering::Release);
            panic!("the lag is unknowable");
        }
        self.0.lag(in_lanes)
    }

    fn has_backlog(&self) -> bool {
        true
    }
}

#[test]
fn a_monitor_that_panics_goes_on_if_it_may() {
    let (lag, panics) = (ForcedLag::default(), Arc::new(AtomicU64::new(0)));
    let source = Fragile(lag.clone(), Arc::clone(&panics));
    let builder = forced_pipeline(&lag).lag_source(source).supervision(restarts(2));
    let pipeline = builder.start_restarting(|_| |_: &Tick, _: &Context| ()).unwrap();
    lag.reach(&pipeline, DegradationLevel::Soft);
    panics.store(2, Ordering::Release);
    wait_until("the panics", || panics.load(Ordering::Acquire) == 0);
    lag.reach(&pipeline, DegradationLevel::CircuitBreak);
    assert!(pipeline.control().health().is_well());
    panics.store(1, Ordering::Release);
    wait_until("its end", || pipeline.control().health().monitor_dead);
    let error = pipeline.join().map(drop).unwrap_err();
    assert_eq!(error.failures, [Failure::MonitorPanicked { cause: "the lag is unknowable".to_owned() }]);
}

fn stalls(on_stall: OnStall) -> Supervision {
    Supervision { stall_after: Some(Duration::from_millis(300)), on_stall, ..Supervision::default() }
}

#[test]
fn a_worker_that_stands_still_is_seen_and_ends_the_run_within_the_drain_timeout() {
    let lag = ForcedLag::default();
    let drain = Duration::from_millis(50);
    let builder = forced_pipeline(&lag).workers(2).supervision(stalls(OnStall::Stop)).drain_timeout(drain);
    let (mut pipeline, stuck) = start_held(builder);
    let (mut feed, control) = (pipeline.ingress().unwrap(), pipeline.control());
    assert_eq!(feed.offer_slice(&[trade(TIER_1, 1)]).accepted, 1);
    wait_until("the gate", || feed.is_closed());
    let health = control.health();
    assert!(!health.is_well() && health.stalled_workers.len() == 1, "{health:?}");
    drop(feed);
    let error = pipeline.join().map(drop).unwrap_err();
    let worker = health.stalled_workers[0];
    let [Failure::WorkerStalled { worker: stalled, still }, Failure::DrainTimeout { workers: 1, .. }] =
        error.failures[..]
    else {
        panic!("{:?}", error.failures)
    };
    assert!(stalled == worker && still >= Duration::from_millis(300), "{still:?}");
    error.ledger.check().unwrap();
    assert_eq!(error.ledger.in_flight, 1);
    stuck.store(false, Ordering::Release);
}

#[test]
fn a_worker_that_stands_still_and_goes_on_is_reported_and_no_more_if_so_chosen() {
    let lag = ForcedLag::default();
    let (mut pipeline, stuck) = start_held(forced_pipeline(&lag).supervision(stalls(OnStall::Report)));
    let (mut feed, control) = (pipeline.ingress().unwrap(), pipeline.control());
    assert_eq!(feed.offer_slice(&[trade(TIER_1, 1)]).accepted, 1);
    wait_until("it is seen", || control.health().stalled_workers == [0]);
    assert!(!feed.is_closed());
    stuck.store(false, Ordering::Release);
    wait_until("it goes on", || control.health().is_well());
    drop(feed);
    assert_eq!(pipeline.join().unwrap().ledger.processed_live, 1);
}
