//! The handlers, the same for all contenders, and what they saw.

use std::num::NonZeroU64;
use std::sync::OnceLock;

use plimsoll::{BarsHandler, Context, DegradationLevel, Handler, Tick, TickKind};

use crate::load::Load;
use crate::ours;

/// A handler that can tell whether it got what it should.
pub(crate) trait Checked: Handler<Tick> {
    fn new(load: &Load) -> Self;

    /// Whether it adds a processed message's size to its sum.
    fn counts(tick: &Tick) -> bool;

    fn seen(self) -> Seen;
}

/// What a handler saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) sum: u64,
    pub(crate) count: u64,
    /// No message came after a later one of its symbol.
    pub(crate) in_order: bool,
}

/// Does nothing.
pub(crate) struct Empty;

impl Handler<Tick> for Empty {
    #[inline]
    fn process(&mut self, _: &Tick, _: &Context) {}
}

impl Checked for Empty {
    fn new(_: &Load) -> Self {
        Self
    }

    fn counts(_: &Tick) -> bool {
        false
    }

    fn seen(self) -> Seen {
        Seen { sum: 0, count: 0, in_order: true }
    }
}

/// Sums sizes, and sees that each producer's messages come in order: then each symbol's do.
pub(crate) struct Sum<const PRODUCERS: usize> {
    sum: u64,
    count: u64,
    /// By producer.
    last: [u64; PRODUCERS],
    in_order: bool,
}

impl<const PRODUCERS: usize> Handler<Tick> for Sum<PRODUCERS> {
    #[inline]
    fn process(&mut self, tick: &Tick, _: &Context) {
        let last = &mut self.last[usize::from(tick.flags) % PRODUCERS];
        self.in_order &= tick.sequence > *last;
        *last = tick.sequence;
        self.sum += tick.size;
        self.count += 1;
    }
}

impl<const PRODUCERS: usize> Checked for Sum<PRODUCERS> {
    fn new(load: &Load) -> Self {
        assert_eq!(load.producers, PRODUCERS);
        Self { sum: 0, count: 0, last: [0; PRODUCERS], in_order: true }
    }

    fn counts(_: &Tick) -> bool {
        true
    }

    fn seen(self) -> Seen {
        Seen { sum: self.sum, count: self.count, in_order: self.in_order }
    }
}

/// Sums sizes by symbol: a table that is in cache, or is not.
pub(crate) struct PerSymbol {
    symbols: Vec<Volume>,
    count: u64,
    in_order: bool,
}

#[derive(Clone, Copy, Default)]
struct Volume {
    last: u64,
    sum: u64,
}

impl Handler<Tick> for PerSymbol {
    #[inline]
    fn process(&mut self, tick: &Tick, _: &Context) {
        let volume = &mut self.symbols[tick.symbol.index()];
        self.in_order &= tick.sequence > volume.last;
        volume.last = tick.sequence;
        volume.sum += tick.size;
        self.count += 1;
    }
}

impl Checked for PerSymbol {
    fn new(load: &Load) -> Self {
        assert_eq!(load.producers, 1, "sequences are a producer's own");
        // Not zeroed memory from the system: its pages are there.
        Self { symbols: (0..load.symbols).map(|_| Volume::default()).collect(), count: 0, in_order: true }
    }

    fn counts(_: &Tick) -> bool {
        true
    }

    fn seen(self) -> Seen {
        Seen { sum: self.symbols.iter().map(|v| v.sum).sum(), count: self.count, in_order: self.in_order }
    }
}

impl Checked for BarsHandler {
    fn new(_: &Load) -> Self {
        const SECOND: NonZeroU64 = NonZeroU64::new(1_000_000_000).expect("not zero");
        Self::new(SECOND)
    }

    fn counts(tick: &Tick) -> bool {
        tick.kind == TickKind::Trade
    }

    fn seen(self) -> Seen {
        let bars: Vec<_> = self.into_bars().flat_map(|(_, bars)| bars).collect();
        let sum = bars.iter().map(|bar| bar.volume as u64).sum();
        Seen { sum, count: bars.iter().map(|bar| bar.trades).sum(), in_order: true }
    }
}

/// The context that a worker of ours gives at a level below CIRCUIT_BREAK: peers call the same handlers, and only a worker
/// makes contexts.
pub(crate) fn context(level: DegradationLevel) -> Context {
    static CONTEXTS: OnceLock<Vec<Context>> = OnceLock::new();
    CONTEXTS.get_or_init(|| DegradationLevel::ALL[..4].iter().map(|level| ours::context(*level)).collect())
        [level.index().min(3)]
}
