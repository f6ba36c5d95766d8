//! Plimsoll itself.

use std::sync::Arc;

use plimsoll::{
    Context, DegradationLevel, DegradationThresholds, Handler, Ingress, LagSource, MemoryUse, Offer, Pinning, Pipeline,
    PipelineBuilder, Price, SymbolId, SymbolTiers, Symbols, Tick, WaitStrategy,
};

use crate::handlers::Checked;
use crate::load::{CAPACITY, Load, Seeds, tier};
use crate::race::{Outlet, Turn, pause, race};

/// Lag that means a level, whatever is in the lanes.
struct Forced(u64);

impl Forced {
    fn to(level: DegradationLevel) -> Self {
        let at = DegradationThresholds::default();
        Self([0, at.lag_soft, at.lag_graceful, at.lag_aggressive, at.lag_circuit_break][level.index()])
    }
}

impl LagSource for Forced {
    fn lag(&mut self, _: u64) -> u64 {
        self.0
    }

    fn has_backlog(&self) -> bool {
        true
    }
}

/// Starts a pipeline and waits until the load's level is in force.
fn start<H: Handler<Tick>>(load: &Load, make_handler: impl FnMut(usize) -> H) -> Pipeline<Tick, H> {
    let symbols = Symbols::new(SymbolTiers::default(), load.symbols as usize);
    (0..load.symbols).map(SymbolId::new).for_each(|symbol| symbols.set_tier(symbol, tier(symbol)));
    let wait = if load.shares_cores() { WaitStrategy::SpinThenYield } else { WaitStrategy::BusySpin };
    let pipeline = PipelineBuilder::new()
        .workers(load.workers)
        .producers(load.producers)
        .lane_capacity(CAPACITY)
        .verdicts(load.verdicts)
        .lag_source(Forced::to(load.level))
        .memory_source(|| MemoryUse { used_bytes: 0, limit_bytes: 1 })
        .symbols(Arc::new(symbols))
        .wait_strategy(wait)
        .pinning(Pinning::Cores((0..load.workers).map(|worker| load.worker_core(worker)).collect()))
        .start(make_handler)
        .expect("valid settings");
    while pipeline.level() != load.level {
        std::thread::yield_now();
    }
    pipeline
}

/// With `offer`, which answers that a lane is full; it is tried again, as the bench wants every message through.
pub(crate) fn offer<H: Checked>(load: &Load) -> Turn {
    run::<H, _>(load, |ingress| Offers { ingress, shares_cores: load.shares_cores() })
}

/// With `offer_wait`, the call for sources that can wait.
pub(crate) fn offer_wait<H: Checked>(load: &Load) -> Turn {
    run::<H, _>(load, |ingress| Waits { ingress })
}

fn run<H: Checked, O: Outlet>(load: &Load, outlet: impl Fn(Ingress<Tick>) -> O) -> Turn {
    let mut pipeline = start(load, |_| H::new(load));
    let ingresses = (0..load.producers).map(|_| pipeline.ingress().expect("one for each producer"));
    let outlets = ingresses.map(outlet).collect();
    let (elapsed, finished) = race(load, outlets, || pipeline.join().expect("no failure"));
    let ledger = &finished.ledger;
    ledger.check().expect("the ledger balances");
    let refused = if load.level == DegradationLevel::CircuitBreak { load.messages } else { 0 };
    assert_eq!(ledger.refused, refused);
    let (processed, shed) = (ledger.processed_live, ledger.shed);
    Turn { elapsed, processed, shed, seen: finished.handlers.into_iter().map(H::seen).collect() }
}

struct Offers {
    ingress: Ingress<Tick>,
    shares_cores: bool,
}

impl Outlet for Offers {
    #[inline]
    fn burst(&mut self, seeds: &mut Seeds, count: usize) {
        for _ in 0..count {
            let seed = seeds.next();
            while self.ingress.offer(seed.tick()) == Offer::Full {
                pause(self.shares_cores);
            }
        }
        self.ingress.flush();
    }
}

struct Waits {
    ingress: Ingress<Tick>,
}

impl Outlet for Waits {
    #[inline]
    fn burst(&mut self, seeds: &mut Seeds, count: usize) {
        for _ in 0..count {
            assert!(self.ingress.offer_wait(seeds.next().tick(), || false), "the pipeline has ended");
        }
        self.ingress.flush();
    }
}

/// Keeps the context of the last message.
#[derive(Default)]
struct Keep(Option<Context>);

impl Handler<Tick> for Keep {
    fn process(&mut self, _: &Tick, context: &Context) {
        self.0 = Some(*context);
    }
}

/// The context of a message of tier 1 at a level below CIRCUIT_BREAK.
pub(crate) fn context(level: DegradationLevel) -> Context {
    let mut pipeline = start(&Load { level, ..Load::base(1) }, |_| Keep::default());
    let mut ingress = pipeline.ingress().expect("one producer");
    let tick = Tick::trade(SymbolId::new(0), 0, Price::ZERO, 0);
    assert_eq!(ingress.offer(tick), Offer::Accepted);
    drop(ingress);
    pipeline.join().expect("no failure").handlers.remove(0).0.expect("a message of tier 1 is processed")
}
