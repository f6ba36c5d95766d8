//! How many messages a second pass through one pipeline: offer → lane → verdict → counters → handler.
//!
//! ```text
//!   producer (core 0) ──▶ lane ──▶ worker (core 1): sum of sizes
//! ```
//!
//! Run with `cargo bench --bench pipeline`. Contenders take turns, round after round, and every round's sum is
//! checked. An absolute figure says something of the machine at that moment; the ratio to the bare crossbeam channel of the
//! same round says something of the code.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll::{
    Context, Handler, Ingress, LagSource, Offer, Pinning, Pipeline, PipelineBuilder, Price, SymbolId, Symbols, Tick,
    WaitStrategy,
};

const MESSAGES: u64 = 4_000_000;
const ROUNDS: usize = 9;
const SYMBOLS: u32 = 100;

/// Messages that a lane, and the channel, hold: what a cache holds, so that neither is measured by its page faults.
const LANE: usize = 1 << 14;

/// Keeps the level at NORMAL, whatever is in the lanes.
struct NoLag;

impl LagSource for NoLag {
    fn lag(&mut self, _: u64) -> u64 {
        0
    }
    fn has_backlog(&self) -> bool {
        true
    }
}

/// Sums sizes.
#[derive(Default)]
struct Sum(u64);

impl Handler<Tick> for Sum {
    #[inline]
    fn process(&mut self, tick: &Tick, _: &Context) {
        self.0 += tick.size;
    }
}

fn tick(i: u64) -> Tick {
    Tick { sequence: i, ..Tick::trade(SymbolId::new(i as u32 % SYMBOLS), i, Price::from_billionths(i as i64), i % 7) }
}

fn expected_sum() -> u64 {
    (0..MESSAGES).map(|i| i % 7).sum()
}

fn pin_producer() {
    if let Some(core) = core_affinity::get_core_ids().and_then(|cores| cores.first().copied()) {
        core_affinity::set_for_current(core);
    }
}

/// Offers all messages in bursts; a full lane is tried again, as the bench wants every message through.
fn produce(ingress: &mut Ingress<Tick>, burst: u64) {
    for i in 0..MESSAGES {
        if ingress.offer(tick(i)) != Offer::Accepted {
            offer_again(ingress, i);
        }
        if (i + 1).is_multiple_of(burst) {
            ingress.flush();
        }
    }
}

#[cold]
fn offer_again(ingress: &mut Ingress<Tick>, i: u64) {
    loop {
        ingress.flush();
        std::thread::yield_now();
        if ingress.offer(tick(i)) == Offer::Accepted {
            return;
        }
    }
}

fn pipeline(burst: u64, wait: WaitStrategy) -> Duration {
    let symbols = Arc::new(Symbols::default());
    for i in 0..SYMBOLS {
        symbols.intern(&format!("S{i}")).expect("room for 100 symbols");
    }
    let mut pipeline: Pipeline<Tick, Sum> = PipelineBuilder::new()
        .lane_capacity(LANE)
        .lag_source(NoLag)
        .symbols(symbols)
        .wait_strategy(wait)
        .pinning(Pinning::Cores(vec![1]))
        .start(|_| Sum::default())
        .expect("valid settings");
    let mut ingress = pipeline.ingress().expect("one producer");
    let start = Instant::now();
    produce(&mut ingress, burst);
    drop(ingress);
    let finished = pipeline.join().expect("no failure");
    let elapsed = start.elapsed();
    assert_eq!(finished.handlers[0].0, expected_sum());
    assert_eq!(finished.ledger.processed_live, MESSAGES);
    elapsed
}

fn channel() -> Duration {
    let (sender, receiver) = crossbeam::channel::bounded::<Tick>(LANE);
    let consumer = std::thread::spawn(move || {
        if let Some(core) = core_affinity::get_core_ids().and_then(|cores| cores.get(1).copied()) {
            core_affinity::set_for_current(core);
        }
        receiver.iter().map(|tick| black_box(tick).size).sum::<u64>()
    });
    let start = Instant::now();
    for i in 0..MESSAGES {
        sender.send(tick(i)).expect("the consumer lives");
    }
    drop(sender);
    assert_eq!(consumer.join().expect("no panic"), expected_sum());
    start.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    pin_producer();
    type Contender = (&'static str, fn() -> Duration);
    let contenders: [Contender; 6] = [
        ("crossbeam channel, bare", channel),
        ("plimsoll, burst 1, busy spin", || pipeline(1, WaitStrategy::BusySpin)),
        ("plimsoll, burst 8, busy spin", || pipeline(8, WaitStrategy::BusySpin)),
        ("plimsoll, burst 32, busy spin", || pipeline(32, WaitStrategy::BusySpin)),
        ("plimsoll, burst 256, busy spin", || pipeline(256, WaitStrategy::BusySpin)),
        ("plimsoll, burst 256, spin then park", || pipeline(256, WaitStrategy::SpinThenPark)),
    ];
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for (times, (_, run)) in times.iter_mut().zip(contenders) {
            times.push(run().as_secs_f64() * 1e9 / MESSAGES as f64);
        }
    }
    println!("{MESSAGES} messages of 64 bytes, {ROUNDS} rounds, ns a message");
    println!("{:<38}{:>8}{:>8}{:>14}{:>22}", "", "median", "best", "best M/s", "channel ÷ it, median");
    for ((name, _), mine) in contenders.iter().zip(&times) {
        let ratio = median(times[0].iter().zip(mine).map(|(channel, mine)| channel / mine).collect());
        let best = mine.iter().copied().fold(f64::INFINITY, f64::min);
        println!("{name:<38}{:>8.2}{best:>8.2}{:>14.1}{ratio:>22.2}", median(mine.clone()), 1e3 / best);
    }
}
