//! Proves that a pipeline's memory is what its settings say: with every lane full and the spill logs at work, the most that was ever on the
//! heap, and what is mapped, are within 5 % of what [`PipelineBuilder::footprint`] tells before the start. A counting allocator
//! stands under the whole test; what the system says of a process of its own is compared, too.
#![allow(unsafe_code, reason = "an allocator that counts has to implement `GlobalAlloc`")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::channel::{Receiver, bounded};
use plimsoll::spill::{SpillConfig, worker_of};
use plimsoll::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use plimsoll::{
    Context, DataType, DegradationLevel, Footprint, Handler, Ingress, Message, Offer, Pipeline, PipelineBuilder,
    SymbolId, SymbolTiers, Symbols, Tick, VerdictTable,
};
use support::spill::{child, child_plan, run_child};
use support::{ForcedLag, forced_pipeline, trade, wait_until};

/// The system's allocator, with an account of what is in use.
struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

fn count(bytes: i64) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every call goes to `System` with the caller's own arguments, and so keeps its contract; the counting
// neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's contract, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's contract, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as i64 - layout.size() as i64);
        // SAFETY: the caller's contract, passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's contract, passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test after the other: the account is the process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds its worker in the first message until the test lets go.
#[derive(Clone)]
struct Gate {
    shut: Option<Receiver<()>>,
}

impl<M: Message> Handler<M> for Gate {
    fn process(&mut self, _: &M, _: &Context) {
        if let Some(shut) = self.shut.take() {
            // An error, once the other end is gone.
            let _ = shut.recv();
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    workers: usize,
    producers: usize,
    lane_capacity: usize,
    symbols: usize,
}

impl Plan {
    fn builder(&self, lag: &ForcedLag) -> PipelineBuilder {
        forced_pipeline(lag)
            .workers(self.workers)
            .producers(self.producers)
            .lane_capacity(self.lane_capacity)
            .symbols(Arc::new(Symbols::new(SymbolTiers::default(), self.symbols)))
            .prefault(true)
    }

    /// A symbol for each worker.
    fn one_for_each(&self) -> Vec<SymbolId> {
        let of = |worker| (0..).map(SymbolId::new).find(|symbol| worker_of(*symbol, self.workers) == worker).unwrap();
        (0..self.workers).map(of).collect()
    }
}

#[track_caller]
fn assert_close(what: &str, plan: &Plan, measured: u64, told: u64) {
    let difference = 100.0 * (measured as f64 - told as f64) / told as f64;
    println!("{plan:?}: {what}: {measured} bytes measured, {told} told: {difference:+.2} %");
    assert!(difference.abs() <= 5.0, "{what}: {measured} bytes, but {told} told, {difference:+.2} %: {plan:?}");
}

/// Offers to each lane until it is full. The handlers are held.
fn fill<M: Message>(pipeline: &mut Pipeline<M, Gate>, plan: &Plan, make: fn(SymbolId) -> M) -> Vec<Ingress<M>> {
    let mut feeds: Vec<_> = std::iter::from_fn(|| pipeline.ingress()).collect();
    for feed in &mut feeds {
        for symbol in plan.one_for_each() {
            while feed.offer(make(symbol)) == Offer::Accepted {}
        }
    }
    let ledger = pipeline.ledger();
    let lanes = plan.workers * plan.producers;
    assert!(ledger.in_flight >= (lanes * plan.lane_capacity) as u64, "{ledger:?}");
    assert_eq!(ledger.full, lanes as u64, "each lane has turned a message away");
    feeds
}

/// The heap's peak, from before there was a builder, until `run` returns; beside it what `run` says.
fn heap_peak<T>(run: impl FnOnce() -> T) -> (u64, T) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let said = run();
    ((PEAK.load(Ordering::Relaxed) - before) as u64, said)
}

fn check_heap<M: Message>(plan: Plan, make: fn(SymbolId) -> M) {
    check_heap_with(plan, VerdictTable::default(), make);
}

fn check_heap_with<M: Message>(plan: Plan, verdicts: VerdictTable, make: fn(SymbolId) -> M) {
    let _alone = alone();
    let (peak, told) = heap_peak(|| {
        let (release, shut) = bounded(0);
        let builder = plan.builder(&ForcedLag::default()).verdicts(verdicts);
        let told: Footprint = builder.footprint::<M>().unwrap();
        let mut pipeline = builder.start(|_| Gate { shut: Some(shut.clone()) }).unwrap();
        let feeds = fill(&mut pipeline, &plan, make);
        drop((release, feeds));
        pipeline.join().unwrap().ledger.check().unwrap();
        told
    });
    assert_eq!((told.spill_heap, told.spill_mapped), (0, 0));
    let heap = told.lanes + told.tables + told.conflation;
    assert_eq!((told.heap(), told.total(), told.conflation > 0), (heap, heap, verdicts.conflates()));
    assert_close("heap", &plan, peak, told.heap());
}

fn tick(symbol: SymbolId) -> Tick {
    trade(symbol, 1)
}

#[test]
fn lanes_and_tables() {
    let plan = |workers, producers, lane_capacity, symbols| Plan { workers, producers, lane_capacity, symbols };
    check_heap(plan(1, 1, 200_000, 65_536), tick);
    check_heap(plan(3, 1, 200_000, 65_536), tick);
    check_heap(plan(1, 2, 200_000, 1_000_000), tick);
    check_heap(plan(3, 2, 50_000, 65_536), tick);
    // Where tables are nearly all there is, what is conflated, and where lanes are.
    check_heap_with(plan(2, 1, 1_000, 65_536), VerdictTable::conflate(), tick);
    check_heap(plan(3, 2, 1_000, 1_000_000), tick);
    check_heap(plan(1, 1, 300_000, 64), tick);
}

/// A message that is smaller than what a lane keeps beside some.
#[derive(Clone, Copy, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[zerocopy(crate = "plimsoll::zerocopy")]
#[repr(C)]
struct Small(SymbolId);

impl Message for Small {
    fn symbol(&self) -> SymbolId {
        self.0
    }

    fn set_symbol(&mut self, symbol: SymbolId) {
        self.0 = symbol;
    }

    fn data_type(&self) -> DataType {
        DataType::Trades
    }
}

#[test]
fn messages_of_another_size() {
    check_heap(Plan { workers: 2, producers: 1, lane_capacity: 1_000_000, symbols: 65_536 }, Small);
}

const SEGMENT_BYTES: u64 = 4 << 20;

/// Bytes of a directory's segments that this process has mapped.
fn mapped(dir: &Path) -> u64 {
    let dir = dir.to_str().unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let segments = maps.lines().filter(|line| line.contains(dir) && line.contains(".spill"));
    let bytes = segments.map(|line| {
        let (from, to) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        u64::from_str_radix(to, 16).unwrap() - u64::from_str_radix(from, 16).unwrap()
    });
    bytes.sum()
}

/// Spills until each worker has filled two segments, and sees what is mapped meanwhile and at rest.
fn spill_some(
    pipeline: &Pipeline<Tick, Gate>,
    feed: &mut Ingress<Tick>,
    burst: &[Tick],
    config: &SpillConfig,
    told: u64,
) {
    // More than fill two: of a segment, some is headers and notes.
    let enough = 2 * SEGMENT_BYTES / size_of::<Tick>() as u64;
    wait_until("full segments", || {
        assert_eq!(feed.offer_slice(burst).accepted, burst.len());
        wait_until("empty lanes", || pipeline.ledger().in_flight == 0);
        let mapped = mapped(&config.dir);
        assert!(mapped <= config.budget_bytes, "{mapped} bytes are mapped");
        pipeline.ledger().workers.iter().all(|worker| worker.spilled >= enough)
    });
    wait_until("helper threads that have caught up", || mapped(&config.dir) == told);
}

fn check_spill(plan: Plan) {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let config = SpillConfig {
        segment_bytes: SEGMENT_BYTES,
        budget_bytes: 8 * SEGMENT_BYTES * plan.workers as u64,
        free_space_floor_bytes: 0,
        ..SpillConfig::new(dir.path().canonicalize().unwrap())
    };
    let burst: Vec<Tick> = plan.one_for_each().into_iter().flat_map(|symbol| vec![tick(symbol); 5_000]).collect();
    let (peak, told) = heap_peak(|| {
        let lag = ForcedLag::default();
        let (release, shut) = bounded(0);
        let builder = plan.builder(&lag).spill(config.clone());
        let told = builder.footprint::<Tick>().unwrap();
        let mut pipeline = builder.start(|_| Gate { shut: Some(shut.clone()) }).unwrap();

        lag.reach(&pipeline, DegradationLevel::Aggressive);
        let mut feed = pipeline.ingress().unwrap();
        spill_some(&pipeline, &mut feed, &burst, &config, told.spill_mapped);

        // Now the handlers are held, be it by a message that comes back or by a new one; until then new ones go behind what was spilled, or
        // are shed, and lanes do not stay full.
        lag.reach(&pipeline, DegradationLevel::Normal);
        wait_until("full lanes", || {
            for symbol in plan.one_for_each() {
                while feed.offer(tick(symbol)) == Offer::Accepted {}
            }
            pipeline.ledger().workers.iter().all(|worker| worker.in_flight >= plan.lane_capacity as u64)
        });
        let ledger = pipeline.ledger();
        assert!(ledger.full >= plan.workers as u64 && ledger.spill_pending > 0 && ledger.spilled > 0, "{ledger:?}");
        drop((release, feed));
        pipeline.join().unwrap().ledger.check().unwrap();
        told
    });
    assert_close("heap", &plan, peak, told.heap());
    // Of 16 MiB there are four segments, and one is written to.
    assert_eq!(told.spill_mapped, 5 * SEGMENT_BYTES * plan.workers as u64);
    assert_eq!(told.total(), told.heap() + told.spill_mapped);
}

#[test]
fn spill_logs() {
    check_spill(Plan { workers: 1, producers: 1, lane_capacity: 400_000, symbols: 1_000_000 });
    check_spill(Plan { workers: 3, producers: 1, lane_capacity: 600_000, symbols: 65_536 });
}

/// Anonymous memory of this process that is real.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

/// What the child process runs; in any other it does nothing.
#[test]
fn child_that_fills_its_lanes() {
    if child_plan().is_none() {
        return;
    }
    let plan = Plan { workers: 2, producers: 2, lane_capacity: 500_000, symbols: 65_536 };
    let before = resident();
    let (release, shut) = bounded(0);
    let builder = plan.builder(&ForcedLag::default());
    let told = builder.footprint::<Tick>().unwrap().heap();
    let mut pipeline = builder.start(|_| Gate { shut: Some(shut.clone()) }).unwrap();
    let at_start = resident() - before;
    let feeds = fill(&mut pipeline, &plan, tick);
    let when_full = resident() - before;
    drop((release, feeds));
    pipeline.join().unwrap().ledger.check().unwrap();
    assert_close("resident at the start", &plan, at_start, told);
    assert_close("resident when full", &plan, when_full, told);
}

#[test]
fn resident_memory() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    run_child(child("child_that_fills_its_lanes", dir.path(), "resident"));
}

#[test]
fn settings_that_are_not_valid_have_no_footprint() {
    let _alone = alone();
    assert!(PipelineBuilder::new().workers(0).footprint::<Tick>().is_err());
    let config = SpillConfig { segment_bytes: 1, ..SpillConfig::new("x") };
    let error = PipelineBuilder::new().spill(config).footprint::<Tick>().unwrap_err();
    assert!(error.to_string().contains("segment_bytes = 1"), "{error}");
}
