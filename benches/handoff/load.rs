//! What is sent, and what becomes of it on the other side.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use plimsoll::{Price, SymbolId, Tick};

const SYMBOLS: usize = 128;

/// The producer's end of a queue.
pub(crate) trait Outlet {
    /// Sends the messages of these numbers, and lets the consumer see them. Waits where there is no room.
    fn send(&mut self, first: u64, count: u64);
}

/// What the producer's thread does.
pub(crate) trait Load: Copy + Send {
    /// How many messages it sends in all.
    fn total(&self) -> u64;
    fn produce(self, start: Instant, outlet: &mut impl Outlet);
}

/// What the consumer's thread does with each message.
pub(crate) trait Sink: Send + 'static {
    fn take(&mut self, tick: &Tick);
    /// How many it has taken.
    fn taken(&self) -> u64;
}

/// Message number `i`. The same few instructions for each contender.
#[inline(always)]
pub(crate) fn tick(i: u64) -> Tick {
    let symbol = SymbolId::new((i % SYMBOLS as u64) as u32);
    Tick { sequence: i, ..Tick::trade(symbol, i, Price::from_billionths(i as i64), i) }
}

/// As fast as it goes, in bursts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saturated {
    pub(crate) messages: u64,
    pub(crate) burst: u64,
}

impl Load for Saturated {
    fn total(&self) -> u64 {
        self.messages
    }

    fn produce(self, _: Instant, outlet: &mut impl Outlet) {
        for first in (0..self.messages).step_by(self.burst as usize) {
            outlet.send(first, self.burst.min(self.messages - first));
        }
    }
}

/// How many messages have come, and whether in order.
#[derive(Debug)]
struct Arrivals {
    taken: u64,
    ordered: bool,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { taken: 0, ordered: true }
    }
}

impl Arrivals {
    #[inline(always)]
    fn take(&mut self, tick: &Tick) {
        self.ordered &= tick.sequence == self.taken;
        self.taken += 1;
    }

    fn check(&self, messages: u64) {
        let Self { taken, ordered } = self;
        assert!(*ordered && *taken == messages, "{taken} of {messages} came, in order: {ordered}");
    }
}

/// Sums sizes by symbol, and watches over the order.
#[derive(Debug)]
pub(crate) struct Sums {
    arrivals: Arrivals,
    sums: [u64; SYMBOLS],
}

impl Default for Sums {
    fn default() -> Self {
        Self { arrivals: Arrivals::default(), sums: [0; SYMBOLS] }
    }
}

impl Sink for Sums {
    #[inline(always)]
    fn take(&mut self, tick: &Tick) {
        self.arrivals.take(tick);
        self.sums[tick.symbol.index() % SYMBOLS] += tick.size;
    }

    #[inline(always)]
    fn taken(&self) -> u64 {
        self.arrivals.taken
    }
}

impl Sums {
    /// # Panics
    /// When a message is missing, out of order, or not what was sent.
    pub(crate) fn check(&self, messages: u64) {
        self.arrivals.check(messages);
        assert_eq!(self.sums.iter().sum::<u64>(), messages * (messages - 1) / 2);
    }
}

/// Messages fall due one after the other, at an even pace. All that are due are sent as one burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paced {
    pub(crate) per_second: u64,
    pub(crate) messages: u64,
}

impl Paced {
    fn due(&self, elapsed: Duration) -> u64 {
        let due = elapsed.as_nanos() * u128::from(self.per_second) / 1_000_000_000;
        self.messages.min(due as u64)
    }
}

impl Load for Paced {
    fn total(&self) -> u64 {
        self.messages
    }

    fn produce(self, start: Instant, outlet: &mut impl Outlet) {
        let mut sent = 0;
        while sent < self.messages {
            let due = self.due(start.elapsed());
            if due > sent {
                outlet.send(sent, due - sent);
                sent = due;
            } else {
                spin_loop();
            }
        }
    }
}

/// Records how long each message took since it was due.
#[derive(Debug)]
pub(crate) struct Latencies {
    start: Instant,
    ns_per_message: f64,
    arrivals: Arrivals,
    pub(crate) histogram: Histogram<u64>,
}

impl Latencies {
    pub(crate) fn new(start: Instant, load: Paced) -> Self {
        let histogram = Histogram::new_with_bounds(1, 10_000_000_000, 3).unwrap();
        Self { start, ns_per_message: 1e9 / load.per_second as f64, arrivals: Arrivals::default(), histogram }
    }

    /// # Panics
    /// When a message is missing or out of order.
    pub(crate) fn check(&self, messages: u64) {
        self.arrivals.check(messages);
    }
}

impl Sink for Latencies {
    #[inline(always)]
    fn take(&mut self, tick: &Tick) {
        self.arrivals.take(tick);
        // Due when the count of due messages reaches this one's.
        let due = (tick.sequence + 1) as f64 * self.ns_per_message;
        let late = self.start.elapsed().as_nanos() as f64 - due;
        self.histogram.saturating_record((late as u64).max(1));
    }

    #[inline(always)]
    fn taken(&self) -> u64 {
        self.arrivals.taken
    }
}
