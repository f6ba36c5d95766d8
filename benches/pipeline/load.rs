//! The load: which messages, from how many producers to how many workers, and what must come of them.

use plimsoll::{
    DegradationLevel, Message, MessagePriority, Price, SymbolId, Tick, TickKind, Tier, Verdict, VerdictTable,
};

use crate::handlers::Checked;

/// Messages that a lane, a channel and a ring hold: what a cache holds, so that none is measured by its page faults.
pub(crate) const CAPACITY: usize = 1 << 14;

/// In which order symbols come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// One after the other.
    Round,
    /// Pseudo-random: no branch predictor and no prefetcher knows what comes next.
    Random,
}

/// What one turn of a contender is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Messages of all producers together.
    pub(crate) messages: u64,
    /// Messages between two flushes.
    pub(crate) burst: usize,
    pub(crate) producers: usize,
    pub(crate) workers: usize,
    pub(crate) symbols: u32,
    pub(crate) order: Order,
    pub(crate) level: DegradationLevel,
    pub(crate) verdicts: VerdictTable,
}

impl Load {
    /// One producer, one worker, a hundred symbols in turn, level NORMAL.
    pub(crate) fn base(messages: u64) -> Self {
        Self {
            messages,
            burst: 32,
            producers: 1,
            workers: 1,
            symbols: 100,
            order: Order::Round,
            level: DegradationLevel::Normal,
            verdicts: VerdictTable::default(),
        }
    }

    /// The core of a producer: threads go round the cores, producers first.
    pub(crate) fn producer_core(&self, producer: usize) -> usize {
        producer % cores()
    }

    /// The core of a worker.
    pub(crate) fn worker_core(&self, worker: usize) -> usize {
        (self.producers + worker) % cores()
    }

    /// Whether there are more threads than cores. Then who waits lets others have the core.
    pub(crate) fn shares_cores(&self) -> bool {
        self.producers + self.workers > cores()
    }

    /// How many messages a producer makes.
    pub(crate) fn messages_of(&self, producer: usize) -> u64 {
        let (share, rest) = (self.messages / self.producers as u64, self.messages % self.producers as u64);
        share + u64::from((producer as u64) < rest)
    }

    /// A producer's messages from the first on.
    pub(crate) fn seeds(&self, producer: usize, receive_ns: u64) -> Seeds {
        let random = self.order == Order::Random;
        let state = producer as u64 + 1;
        Seeds { sequence: 0, receive_ns, symbol: 0, producer: producer as u16, symbols: self.symbols, random, state }
    }

    pub(crate) fn priority(symbol: SymbolId, kind: TickKind) -> MessagePriority {
        MessagePriority::of(tier(symbol), Tick { kind, ..Tick::reference(symbol, 0) }.data_type())
    }

    /// What a turn with this handler must come to.
    pub(crate) fn expected<H: Checked>(&self) -> Expected {
        let mut expected = Expected::default();
        if self.level == DegradationLevel::CircuitBreak {
            return expected; // all is refused
        }
        for producer in 0..self.producers {
            let mut seeds = self.seeds(producer, 0);
            for _ in 0..self.messages_of(producer) {
                let tick = seeds.next().tick();
                let priority = Self::priority(tick.symbol, tick.kind);
                if self.verdicts.verdict(self.level, priority) == Verdict::Process {
                    expected.processed += 1;
                    let counts = H::counts(&tick);
                    expected.sum += u64::from(counts) * tick.size;
                    expected.count += u64::from(counts);
                } else {
                    expected.shed += 1;
                }
            }
        }
        expected
    }
}

/// What a turn must come to: by the contender's counters, and by what its handlers saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) processed: u64,
    pub(crate) shed: u64,
    pub(crate) sum: u64,
    pub(crate) count: u64,
}

/// How many cores the process may use. First called on the main thread, which is not pinned.
pub(crate) fn cores() -> usize {
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// A third of the symbols in each tier.
pub(crate) fn tier(symbol: SymbolId) -> Tier {
    Tier::ALL[symbol.index() % 3]
}

/// By place in the stream: mostly trades, some quotes, a little reference data.
const KINDS: [TickKind; 16] = {
    use TickKind::{Quote as Q, Reference as R, Trade as T};
    [T, T, Q, T, T, T, Q, T, T, T, Q, T, T, T, R, T]
};

/// A producer's messages, as little as tells them apart. All contenders build their messages from these.
pub(crate) struct Seeds {
    sequence: u64,
    receive_ns: u64,
    symbol: u32,
    producer: u16,
    symbols: u32,
    random: bool,
    state: u64,
}

impl Seeds {
    // Field by field: to copy what was just written in smaller pieces would stall, in those contenders for which the compiler
    // does so.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Seed {
        let sequence = self.sequence + 1;
        self.sequence = sequence;
        let symbol = if self.random {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (((self.state >> 32) * u64::from(self.symbols)) >> 32) as u32
        } else {
            let next = self.symbol + 1;
            self.symbol = if next == self.symbols { 0 } else { next };
            self.symbol
        };
        Seed { sequence, receive_ns: self.receive_ns, symbol, producer: self.producer }
    }
}

/// What a message is made from. It stays at hand for another try where there is no room for the message.
#[derive(Clone, Copy)]
pub(crate) struct Seed {
    sequence: u64,
    receive_ns: u64,
    symbol: u32,
    producer: u16,
}

impl Seed {
    #[inline(always)] // so that it is built where it is to go
    pub(crate) fn tick(self) -> Tick {
        Tick {
            event_ns: self.sequence * 1000,
            receive_ns: self.receive_ns,
            sequence: self.sequence,
            price: Price::from_billionths(self.sequence as i64),
            ask_price: Price::from_billionths(self.sequence as i64 + 1),
            size: self.sequence & 7,
            ask_size: 1,
            symbol: SymbolId::new(self.symbol),
            kind: KINDS[self.sequence as usize % KINDS.len()],
            flags: self.producer,
            ..Tick::reference(SymbolId::new(0), 0)
        }
    }

    #[inline(always)]
    pub(crate) fn symbol(self) -> SymbolId {
        SymbolId::new(self.symbol)
    }
}
