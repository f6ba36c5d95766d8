//! The user's code: what happens to a message that is processed.

mod bars;
#[cfg(feature = "feeds")]
mod bars_csv;
mod book;

use crate::degradation::DegradationLevel;
use crate::message::{Message, SymbolId};

pub use bars::{Bar, BarsHandler};
#[cfg(feature = "feeds")]
pub use bars_csv::write_bars;
pub use book::{Bbo, BboFormat, Book, BookCounters, BookCounts, BookHandler, Level, write_bbo};

/// What a worker does with its messages. Each worker has a handler of its own, so `&mut self` needs no lock.
///
/// A symbol always meets the same handler, and its messages come in the order in which one producer
/// offered them, also those that come back from the spill log. Calls should be short: while a handler works, its lane fills. A handler that panics ends the
/// pipeline; see [`PipelineError`](crate::PipelineError).
///
/// Any `FnMut(&M, &Context)` is a handler that has no enrichment and ignores gaps.
pub trait Handler<M: Message>: Send + 'static {
    /// Adds what is nice to have: called before [`process`](Self::process) at NORMAL, skipped from SOFT up.
    ///
    /// It may change the message, which [`process`](Self::process) then sees.
    fn enrich(&mut self, message: &mut M, context: &Context) {
        let _ = (message, context);
    }

    /// Does the work.
    fn process(&mut self, message: &M, context: &Context);

    /// `missed` messages of `symbol` were offered and will not come: shed by policy, refused at the gate, or
    /// turned away from a full lane. Called once, before the symbol's next processed message of the same producer; and if there is none, at
    /// the end. What is left in the spill log by then is no hole.
    fn on_gap(&mut self, symbol: SymbolId, missed: u64) {
        let _ = (symbol, missed);
    }

    /// The feed itself has lost `missed` messages, and nobody knows of which symbols: any of them may have a hole here.
    ///
    /// Called on every worker, between its live messages, at each hole's place; the counts of all calls add up to what was lost, but
    /// where holes follow each other closely an earlier call may tell the count of a later one, for which it is then 0. Messages that were offered before the hole, and
    /// wait in the spill log, come after it.
    fn on_feed_gap(&mut self, missed: u64) {
        let _ = missed;
    }
}

impl<M: Message, F: FnMut(&M, &Context) + Send + 'static> Handler<M> for F {
    fn process(&mut self, message: &M, context: &Context) {
        self(message, context);
    }
}

/// The circumstances of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    pub(crate) level: DegradationLevel,
    pub(crate) worker: usize,
    pub(crate) enriched: bool,
    pub(crate) replayed: bool,
    pub(crate) conflated: u32,
}

impl Context {
    /// The level in force.
    pub fn level(&self) -> DegradationLevel {
        self.level
    }

    /// The worker's number, from 0.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Whether [`Handler::enrich`] was called for this message.
    pub fn enriched(&self) -> bool {
        self.enriched
    }

    /// How many messages of the same symbol and [class](Message::conflation_class) this one has taken the place of, so that they do not come; 0 where
    /// it was not conflated.
    pub fn conflated(&self) -> u64 {
        self.conflated.into()
    }

    /// Whether the message comes from the spill log, not live from its lane.
    pub fn replayed(&self) -> bool {
        self.replayed
    }
}
