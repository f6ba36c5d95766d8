//! A handler that records everything it is told, and what a record must look like.

use std::collections::HashMap;

use plimsoll::{
    Context, DegradationLevel, Handler, Message, MessagePriority, SymbolId, Symbols, Tick, Verdict, VerdictTable,
};

/// One call of the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Gap {
        symbol: SymbolId,
        missed: u64,
    },
    Message {
        symbol: SymbolId,
        producer: u16,
        sequence: u64,
    },
    /// The pipeline has ended, and another one goes on with what it has left. Not a call.
    End,
}

/// Records events. A tick's producer is in its flags, and its sequence counts per producer and symbol, from 1.
pub(crate) struct Recorder {
    worker: usize,
    symbols: std::sync::Arc<Symbols>,
    /// Every how many messages it takes its time.
    slow_every: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) enriched: u64,
    /// Live ones.
    pub(crate) by_priority: [u64; 4],
    pub(crate) replayed: u64,
    /// The first thing that was wrong.
    pub(crate) wrong: Option<String>,
}

impl Recorder {
    pub(crate) fn new(worker: usize, symbols: std::sync::Arc<Symbols>, slow_every: u64) -> Self {
        let (events, by_priority) = (Vec::new(), [0; 4]);
        Self { worker, symbols, slow_every, events, enriched: 0, by_priority, replayed: 0, wrong: None }
    }

    pub(crate) fn processed(&self) -> u64 {
        self.by_priority.iter().sum()
    }

    pub(crate) fn gaps(&self) -> u64 {
        self.events.iter().filter(|event| matches!(event, Event::Gap { .. })).count() as u64
    }

    fn expect(&mut self, ok: bool, what: &str) {
        if !ok && self.wrong.is_none() {
            self.wrong = Some(format!("event {}: {what}", self.events.len()));
        }
    }
}

/// What enrichment writes into a tick, for `process` to see.
const ENRICHED: u64 = 77;

impl Handler<Tick> for Recorder {
    fn enrich(&mut self, tick: &mut Tick, context: &Context) {
        self.expect(context.enriched(), "enriched, and the context denies it");
        self.expect(tick.ask_size == 0, "enriched twice, or a slot holds an old message");
        tick.ask_size = ENRICHED;
        self.enriched += 1;
    }

    fn process(&mut self, tick: &Tick, context: &Context) {
        let priority = MessagePriority::of(self.symbols.tier(tick.symbol), tick.data_type());
        let verdict = VerdictTable::default().verdict(context.level(), priority);
        self.expect(context.replayed() || verdict == Verdict::Process, "processed at a level that does not process it");
        self.expect(context.enriched() == (tick.ask_size == ENRICHED), "what enrichment wrote is not there");
        self.expect(context.enriched() == (context.level() == DegradationLevel::Normal), "enriched at a wrong level");
        self.expect(context.worker() == self.worker, "another worker's number");
        if context.replayed() {
            self.replayed += 1;
        } else {
            self.by_priority[priority.index()] += 1;
        }
        self.events.push(Event::Message { symbol: tick.symbol, producer: tick.flags, sequence: tick.sequence });
        if self.slow_every > 0 && tick.sequence.is_multiple_of(self.slow_every) {
            (0..20_000).for_each(|_| std::hint::spin_loop());
        }
    }

    fn on_gap(&mut self, symbol: SymbolId, missed: u64) {
        self.events.push(Event::Gap { symbol, missed });
    }
}

/// Messages that a producer offered, by symbol.
pub(crate) type OfferedBySymbol = HashMap<SymbolId, u64>;

/// Checks all events of a run: a symbol has one worker, each producer's messages of a symbol are in order, and holes
/// are told of just before the next processed message of their symbol, or at the end if there is none. With one producer, each hole is
/// exactly what is missing at its place. Of each symbol, what was processed and what was missed are all that was offered.
pub(crate) fn check_events(handlers: &[Recorder], producers: &[OfferedBySymbol]) -> Result<(), String> {
    let mut worker_of = HashMap::new();
    for (worker, handler) in handlers.iter().enumerate() {
        if let Some(wrong) = &handler.wrong {
            return Err(format!("worker {worker}, {wrong}"));
        }
        let mut last: HashMap<(SymbolId, u16), u64> = HashMap::new();
        let mut sums: HashMap<SymbolId, (u64, u64)> = HashMap::new();
        let (mut told, mut is_ending) = (None, false);
        for (i, event) in handler.events.iter().enumerate() {
            let fail = |what: String| Err(format!("worker {worker}, event {i}, {event:?}: {what}"));
            match *event {
                Event::Gap { symbol, missed } => {
                    if missed == 0 {
                        return fail("a hole of nothing".to_owned());
                    }
                    // Several in a row are those that no message follows.
                    is_ending |= told.is_some();
                    told = Some((symbol, missed));
                    sums.entry(symbol).or_default().1 += missed;
                }
                Event::End => (told, is_ending) = (None, false),
                Event::Message { symbol, producer, sequence } => {
                    if is_ending {
                        return fail("a message after the holes at the end".to_owned());
                    }
                    if *worker_of.entry(symbol).or_insert(worker) != worker {
                        return fail("two workers have this symbol".into());
                    }
                    let before = last.insert((symbol, producer), sequence).unwrap_or(0);
                    if sequence <= before {
                        return fail(format!("comes after {before}"));
                    }
                    let hole = told.take().unwrap_or((symbol, 0));
                    let exact = producers.len() > 1 || hole.1 == sequence - before - 1;
                    if hole.0 != symbol || !exact {
                        return fail(format!("after {before}, told of {hole:?}"));
                    }
                    sums.entry(symbol).or_default().0 += 1;
                }
            }
        }
        for (symbol, (processed, missed)) in sums {
            let offered: u64 = producers.iter().filter_map(|by_symbol| by_symbol.get(&symbol)).sum();
            if processed + missed != offered {
                return Err(format!("{symbol}: {processed} processed, {missed} missed, of {offered} offered"));
            }
        }
    }
    Ok(())
}
