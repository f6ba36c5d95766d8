//! Randomised runs of a pipeline: producers that mix all calls, levels that change, a spill log or none.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll::spill::{AtShutdown, SpillConfig};
use plimsoll::{
    DegradationLevel, Finished, Ingress, Message, MessagePriority, Offer, Pipeline, SymbolId, Symbols, Tick,
    WaitStrategy,
};
use proptest::prelude::*;

use super::recorder::{OfferedBySymbol, Recorder};
use super::{ForcedLag, forced_pipeline, numbered_symbols, reference, trade, wait_until};

pub(crate) const STRATEGIES: [WaitStrategy; 3] =
    [WaitStrategy::BusySpin, WaitStrategy::SpinThenYield, WaitStrategy::SpinThenPark];

/// What happens in one randomised run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) producers: usize,
    pub(crate) workers: usize,
    pub(crate) lane_capacity: usize,
    pub(crate) wait: usize,
    /// Calls that each producer makes.
    pub(crate) calls: u32,
    pub(crate) slow_every: u64,
    pub(crate) seed: u64,
    pub(crate) steps: Vec<Step>,
    /// Shut down after the last step, instead of waiting for the producers.
    pub(crate) shutdown: bool,
    /// With a spill log.
    pub(crate) spill: Option<SpillPlan>,
}

/// The spill log of a run.
#[derive(Clone, Debug)]
pub(crate) struct SpillPlan {
    /// So many segments for each worker may be on disk.
    pub(crate) budget_segments: u64,
    pub(crate) replay_share: f64,
    pub(crate) at_shutdown: AtShutdown,
}

/// What the main thread does while the producers work.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Forces a level and waits until it is in force.
    Level(usize),
    /// Lets the producers make this many more calls.
    Calls(usize),
}

pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let step = prop_oneof![(0usize..5).prop_map(Step::Level), (1usize..800).prop_map(Step::Calls)];
    // A spinning worker keeps a core from the others, so it comes less often.
    let wait = prop_oneof![1 => Just(0usize), 4 => 1usize..3];
    let sizes = (1usize..=3, 1usize..=4, 1usize..1500, wait, 300u32..2000);
    let rest = (prop_oneof![Just(0u64), 2u64..60], any::<u64>(), prop::collection::vec(step, 1..14), any::<bool>());
    (sizes, rest).prop_map(|((producers, workers, lane_capacity, wait, calls), (slow_every, seed, steps, shutdown))| {
        Plan { producers, workers, lane_capacity, wait, calls, slow_every, seed, steps, shutdown, spill: None }
    })
}

impl Plan {
    /// Segments of 826 ticks, so that small runs use many.
    fn spill_config(&self, dir: &Path) -> SpillConfig {
        let spill = self.spill.as_ref().expect("a plan with a spill log");
        let segment_bytes = 16 * 4096;
        SpillConfig {
            segment_bytes,
            budget_bytes: spill.budget_segments * segment_bytes * self.workers as u64,
            free_space_floor_bytes: 0,
            replay_share: spill.replay_share,
            at_shutdown: spill.at_shutdown,
            ..SpillConfig::new(dir)
        }
    }
}

/// What comes back in another pipeline, without a feed, from what a run has left on disk.
pub(crate) fn replay_rest(plan: &Plan, dir: &Path) -> Finished<Recorder> {
    let symbols = numbered_symbols();
    let config = SpillConfig { at_shutdown: AtShutdown::Replay, ..plan.spill_config(dir) };
    let pipeline: Pipeline<Tick, Recorder> = forced_pipeline(&ForcedLag::default())
        .workers(plan.workers)
        .spill(config)
        .symbols(Arc::clone(&symbols))
        .start(|worker| Recorder::new(worker, Arc::clone(&symbols), 0))
        .expect("the settings are valid");
    pipeline.join().expect("the run ends well")
}

/// What a producer counted from the answers it got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) full: u64,
    pub(crate) by_symbol: OfferedBySymbol,
    /// Offered.
    pub(crate) by_priority: [u64; 4],
}

impl Answers {
    pub(crate) fn offered(&self) -> u64 {
        self.by_symbol.values().sum()
    }
}

/// A feed thread that mixes all calls there are.
struct Producer {
    number: u16,
    feed: Ingress<Tick>,
    random: u64,
    answers: Answers,
    symbols: Arc<Symbols>,
}

impl Producer {
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// The next tick of a random symbol.
    fn tick(&mut self) -> Tick {
        let symbol = SymbolId::new(self.random(7) as u32);
        let next = self.answers.by_symbol.entry(symbol).or_insert(0);
        *next += 1;
        let sequence = *next;
        let make = if self.random(8) == 0 { reference } else { trade };
        let tick = Tick { flags: self.number, ..make(symbol, sequence) };
        self.answers.by_priority[self.priority(&tick)] += 1;
        tick
    }

    fn priority(&self, tick: &Tick) -> usize {
        MessagePriority::of(self.symbols.tier(tick.symbol), tick.data_type()).index()
    }

    fn call(&mut self) {
        match self.random(32) {
            0 => self.feed.flush(),
            1 => std::thread::yield_now(),
            2..6 => {
                let count = self.random(150);
                let ticks: Vec<Tick> = (0..count).map(|_| self.tick()).collect();
                let offered = self.feed.offer_slice(&ticks);
                assert_eq!(offered.accepted + offered.refused + offered.full, ticks.len());
                self.answers.accepted += offered.accepted as u64;
                self.answers.refused += offered.refused as u64;
                self.answers.full += offered.full as u64;
            }
            6 => {
                let tick = self.tick();
                if self.feed.offer_wait(tick, || false) {
                    self.answers.accepted += 1;
                } else {
                    // It does not count as offered, so its number is free again.
                    *self.answers.by_symbol.get_mut(&tick.symbol).expect("it was just numbered") -= 1;
                    self.answers.by_priority[self.priority(&tick)] -= 1;
                }
            }
            _ => {
                let tick = self.tick();
                let counter = match self.feed.offer(tick) {
                    Offer::Accepted => &mut self.answers.accepted,
                    Offer::Refused => &mut self.answers.refused,
                    Offer::Full => &mut self.answers.full,
                };
                *counter += 1;
            }
        }
    }
}

pub(crate) fn run(plan: &Plan, spill_dir: Option<&Path>) -> (Finished<Recorder>, Vec<Answers>) {
    let lag = ForcedLag::default();
    let mut builder = forced_pipeline(&lag)
        .producers(plan.producers)
        .workers(plan.workers)
        .lane_capacity(plan.lane_capacity)
        .wait_strategy(STRATEGIES[plan.wait]);
    if let Some(dir) = spill_dir {
        builder = builder.spill(plan.spill_config(dir));
    }
    let symbols = numbered_symbols();
    let mut pipeline = builder
        .symbols(Arc::clone(&symbols))
        .start(|worker| Recorder::new(worker, Arc::clone(&symbols), plan.slow_every))
        .expect("the settings are valid");
    let calls_made = Arc::new(AtomicUsize::new(0));
    let producers: Vec<_> = (0..plan.producers)
        .map(|number| {
            let feed = pipeline.ingress().expect("one for each producer");
            let random = plan.seed.wrapping_add(number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let (answers, symbols) = (Answers::default(), Arc::clone(&symbols));
            let mut producer = Producer { number: number as u16, feed, random, answers, symbols };
            let (calls, calls_made) = (plan.calls, Arc::clone(&calls_made));
            std::thread::spawn(move || {
                for _ in 0..calls {
                    producer.call();
                    calls_made.fetch_add(1, Ordering::Relaxed);
                }
                producer.answers
            })
        })
        .collect();
    assert!(pipeline.ingress().is_none());
    for step in &plan.steps {
        match *step {
            Step::Level(level) => lag.reach(&pipeline, DegradationLevel::ALL[level]),
            Step::Calls(more) => {
                let enough = calls_made.load(Ordering::Relaxed) + more;
                // At CIRCUIT_BREAK a producer may wait for the gate, so its calls need not come.
                let waits = pipeline.level() == DegradationLevel::CircuitBreak;
                wait_until("the producers", || {
                    let all_done = producers.iter().all(std::thread::JoinHandle::is_finished);
                    waits || all_done || calls_made.load(Ordering::Relaxed) >= enough
                });
            }
        }
    }
    let finished = if plan.shutdown {
        pipeline.shutdown()
    } else {
        lag.reach(&pipeline, DegradationLevel::Normal);
        pipeline.join()
    };
    let answers = producers.into_iter().map(|producer| producer.join().expect("no producer panics")).collect();
    (finished.expect("the run ends well"), answers)
}
