//! A program for `tools/count_instructions.sh`, which counts its instructions: one part of the data path over so many messages.
//!
//! ```text
//! instructions producer BURST WAIT N      offer, and a flush after each burst; WAIT: spin or park
//! instructions worker LEVEL HANDLER N     what a worker does with its lane; HANDLER: empty, sum or enrich
//! instructions lane N                     the bare lane, by blocks of 256
//! instructions message N                  making the messages
//! ```
//!
//! No part ever waits for another: a count of instructions tells nothing of waiting. So the worker's handler holds the worker
//! at the first message until all are in the lane, and the bare lane is filled and emptied in turn by one thread. What is to be
//! counted is in functions that are not inlined, by whose names the script finds it.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Gate, channel};
use std::time::Duration;

use plimsoll::internals::{Receiver, Sender, Waker, lane};
use plimsoll::{
    Context, DegradationLevel, DegradationThresholds, Handler, Ingress, LagSource, MemoryUse, Offer, Pipeline,
    PipelineBuilder, Price, SymbolId, Symbols, Tick, TickKind, Tier, WaitStrategy,
};

/// Symbols of the stream: of each ten, two of tier 1, four of tier 2 and four of tier 3.
const SYMBOLS: u32 = 100;
/// Every so-many-th message is reference data.
const REFERENCE_EVERY: u64 = 16;
const BLOCK: u64 = 256;

#[inline(always)]
fn tick(i: u64) -> Tick {
    let kind = if i.is_multiple_of(REFERENCE_EVERY) { TickKind::Reference } else { TickKind::Trade };
    let trade = Tick::trade(SymbolId::new(i as u32 % SYMBOLS), i, Price::from_billionths(i as i64), i & 7);
    // A receive time, so that latency is sampled, once a block.
    Tick { sequence: i, receive_ns: 1, kind, ..trade }
}

/// Lag as this program says.
struct ForcedLag(Arc<AtomicU64>);

impl LagSource for ForcedLag {
    fn lag(&mut self, _: u64) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn has_backlog(&self) -> bool {
        true
    }
}

/// What a handler does: nothing, an addition, or a copy and an addition.
const EMPTY: u8 = 0;
const SUM: u8 = 1;
const ENRICH: u8 = 2;

/// A handler whose work is known, and which holds its worker when it is told of a gap: there is one, before the first message.
struct Held<const WORK: u8> {
    gate: Option<Gate<()>>,
    is_held: Arc<AtomicBool>,
    sum: u64,
}

impl<const WORK: u8> Handler<Tick> for Held<WORK> {
    #[inline]
    fn enrich(&mut self, tick: &mut Tick, _: &Context) {
        if WORK == ENRICH {
            tick.ask_size = tick.size;
        }
    }

    #[inline]
    fn process(&mut self, tick: &Tick, _: &Context) {
        if WORK != EMPTY {
            self.sum += tick.size;
        }
    }

    #[cold]
    fn on_gap(&mut self, _: SymbolId, _: u64) {
        if let Some(gate) = self.gate.take() {
            self.is_held.store(true, Ordering::Release);
            hold_worker(&gate);
        }
    }
}

/// By its name the script knows the worker's thread.
#[cold]
#[inline(never)]
fn hold_worker(gate: &Gate<()>) {
    // Opened by dropping the other end.
    let _ = gate.recv();
}

/// A pipeline whose worker is held, with room for `messages` more, at NORMAL; and what it takes to go on from there.
struct Stage<const WORK: u8> {
    pipeline: Pipeline<Tick, Held<WORK>>,
    ingress: Ingress<Tick>,
    lag: Arc<AtomicU64>,
    gate: std::sync::mpsc::Sender<()>,
}

fn stage<const WORK: u8>(messages: u64, wait: WaitStrategy) -> Stage<WORK> {
    let symbols = Symbols::default();
    for id in 0..SYMBOLS {
        let tier = [Tier::Tier1, Tier::Tier2, Tier::Tier3][[0, 0, 1, 1, 1, 1, 2, 2, 2, 2][id as usize % 10]];
        symbols.set_tier(SymbolId::new(id), tier);
    }
    let thresholds = DegradationThresholds { recovery_cooldown_seconds: 0.0, ..Default::default() };
    let lag = Arc::new(AtomicU64::new(thresholds.lag_circuit_break));
    let (gate, opened) = channel();
    let is_held = Arc::new(AtomicBool::new(false));
    let mut opened = Some(opened);
    let mut pipeline = PipelineBuilder::new()
        .thresholds(thresholds)
        .symbols(Arc::new(symbols))
        .lane_capacity(messages as usize + 1)
        .lag_source(ForcedLag(Arc::clone(&lag)))
        .memory_source(|| MemoryUse { used_bytes: 0, limit_bytes: 1 })
        .wait_strategy(wait)
        .start(|_| Held { gate: opened.take(), is_held: Arc::clone(&is_held), sum: 0 })
        .expect("valid settings");
    let mut ingress = pipeline.ingress().expect("one producer");
    until(|| pipeline.level() == DegradationLevel::CircuitBreak);
    assert_eq!(ingress.offer(tick(0)), Offer::Refused);
    lag.store(0, Ordering::Relaxed);
    until(|| pipeline.level() == DegradationLevel::Normal);
    assert_eq!(ingress.offer(tick(SYMBOLS.into())), Offer::Accepted);
    ingress.flush();
    until(|| is_held.load(Ordering::Acquire));
    Stage { pipeline, ingress, lag, gate }
}

fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[inline(never)]
fn produce(ingress: &mut Ingress<Tick>, burst: u64, messages: u64) {
    let mut left = burst;
    for i in 0..messages {
        if ingress.offer(tick(i)) != Offer::Accepted {
            panic!("there is room for all");
        }
        left -= 1;
        if left == 0 {
            ingress.flush();
            left = burst;
        }
    }
}

/// What making the messages costs by itself.
#[inline(never)]
fn produce_nothing(slot: &mut Tick, messages: u64) {
    for i in 0..messages {
        *slot = tick(i);
        black_box(&*slot);
    }
}

fn producer(burst: u64, wait: WaitStrategy, messages: u64) {
    let Stage { pipeline, mut ingress, gate, .. } = stage::<EMPTY>(messages, wait);
    produce(&mut ingress, burst, messages);
    drop((gate, ingress));
    finish(pipeline, messages);
}

fn worker<const WORK: u8>(level: DegradationLevel, messages: u64) {
    let Stage { pipeline, mut ingress, lag, gate } = stage::<WORK>(messages, WaitStrategy::SpinThenPark);
    produce(&mut ingress, BLOCK, messages);
    let thresholds = DegradationThresholds::default();
    let raised =
        [0, thresholds.lag_soft, thresholds.lag_graceful, thresholds.lag_aggressive, thresholds.lag_circuit_break];
    lag.store(raised[level.index()], Ordering::Relaxed);
    until(|| pipeline.level() == level);
    drop((gate, ingress));
    finish(pipeline, messages);
}

fn finish<const WORK: u8>(pipeline: Pipeline<Tick, Held<WORK>>, messages: u64) {
    let finished = pipeline.join().expect("no failure");
    let ledger = finished.ledger;
    assert_eq!((ledger.accepted, ledger.in_flight), (messages + 1, 0));
    ledger.check().expect("every message is accounted for");
    black_box(finished.handlers[0].sum);
}

#[inline(never)]
fn lane_send(sender: &mut Sender<Tick>, from: u64, count: u64) {
    for i in from..from + count {
        let slot = sender.reserve().expect("the lane has room");
        if slot.write(tick(i)) {
            sender.publish();
        }
    }
    sender.publish();
}

#[inline(never)]
fn lane_receive(receiver: &mut Receiver<Tick>) -> u64 {
    let mut sum = 0;
    while let Some(chunk) = receiver.front(128) {
        let count = chunk.messages.len();
        sum += chunk.messages.iter().map(|tick| tick.size).sum::<u64>();
        receiver.finish(count);
    }
    sum
}

/// Sends and receives in turn, some blocks at a time.
fn bare_lane(messages: u64) {
    let waker = Arc::new(Waker::new(WaitStrategy::BusySpin));
    let (mut sender, mut receiver) = lane::<Tick>(4096, true, waker).expect("memory for a small lane");
    let mut sum = 0;
    for from in (0..messages).step_by(1024) {
        lane_send(&mut sender, from, 1024.min(messages - from));
        sum += lane_receive(&mut receiver);
    }
    assert_eq!(sum, (0..messages).map(|i| i & 7).sum::<u64>());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| usage());
    match arguments[..] {
        ["message", n] => produce_nothing(&mut tick(0), number(n)),
        ["producer", burst, wait, n] => {
            let wait = if wait == "park" { WaitStrategy::SpinThenPark } else { WaitStrategy::BusySpin };
            producer(number(burst), wait, number(n));
        }
        ["worker", level, handler, n] => {
            let level =
                DegradationLevel::ALL.into_iter().find(|known| known.name() == level).unwrap_or_else(|| usage());
            let run = match handler {
                "empty" => worker::<EMPTY>,
                "sum" => worker::<SUM>,
                "enrich" => worker::<ENRICH>,
                _ => usage(),
            };
            run(level, number(n));
        }
        ["lane", n] => bare_lane(number(n)),
        _ => usage(),
    }
}

fn usage() -> ! {
    eprintln!("usage: instructions message N | producer BURST spin|park N | worker LEVEL empty|sum|enrich N | lane N");
    std::process::exit(2)
}
