//! Plimsoll is a lock-free stream processor for market-data ticks that degrades gracefully under overload: it gives
//! up the least valuable work first, in five announced steps, says exactly what it gave up, and takes it all
//! back when the storm is over.
//!
//! ```text
//!  source ──offer──▶ Ingress ──▶ lane 0 ▶ worker 0 (pinned) ─▶ Handler: enrich?, process, on_gap
//!    (feed thread)      │    ──▶ lane 1 ▶ worker 1 (pinned) ─▶ Handler       │
//!                       │ gate: refuses at CIRCUIT_BREAK         ▲ replay     └─▶ spill log (mmap, one a worker)
//!                       ▼                                        └────────────────┘
//!               counters (relaxed, padded) ──sampled──▶ Monitor ──▶ DegradationManager ──▶ Policy (arc-swap)
//!                                           lag, memory             pure state machine      ▲ read by workers
//! ```
//!
//! # The life of a pipeline
//!
//! **Set up.** Say what flows (a [`Message`]; [`Tick`] is ready to use), what handles it (a [`Handler`], one for each worker),
//! and what matters most ([`SymbolTiers`]). **Run.** A feed thread offers messages to its [`Ingress`] and flushes at the end of each
//! burst; a symbol always meets the same worker and keeps its order. **Overload.** The [monitor](PipelineBuilder::sample_interval) sees
//! lag or memory rise, the [`DegradationManager`] raises the level, and workers skip enrichment, then shed by
//! [`MessagePriority`], or [spill](PipelineBuilder::spill) to disk what can wait; at the last level the gate refuses new messages. A symbol's handler is told of every hole, at its place in
//! the stream. **Recover.** When both signals are well below their marks and the cooldown is over, the level goes down again, and what was spilled is replayed
//! between live messages, each symbol in its order.
//! **Shut down.** Drop the ingress and [`join`](Pipeline::join): what was accepted is finished, and the [`Ledger`] says where every message went.
//!
//! ```
//! use std::sync::Arc;
//! use plimsoll::{Context, Handler, Offer, PipelineBuilder, Price, Symbols, Tick};
//!
//! /// Counts traded volume.
//! #[derive(Default)]
//! struct Volume(u64);
//!
//! impl Handler<Tick> for Volume {
//!     fn process(&mut self, tick: &Tick, _: &Context) {
//!         self.0 += tick.size;
//!     }
//! }
//!
//! // Set up
//! let symbols = Arc::new(Symbols::default());
//! let bhp = symbols.intern("BHP")?;
//! let mut pipeline = PipelineBuilder::new()
//!     .workers(2)
//!     .symbols(Arc::clone(&symbols))
//!     .start(|_worker| Volume::default())?;
//!
//! // Run
//! let mut feed = pipeline.ingress().expect("there is one producer by default");
//! let price: Price = "36.667".parse()?;
//! for second in 0..100 {
//!     let tick = Tick::trade(bhp, second * 1_000_000_000, price, 10);
//!     assert_eq!(feed.offer(tick), Offer::Accepted);
//! }
//! feed.flush();
//!
//! // Shut down
//! drop(feed);
//! let finished = pipeline.join()?;
//! assert_eq!(finished.handlers.iter().map(|h| h.0).sum::<u64>(), 1000);
//! assert_eq!(finished.ledger.processed(), 100);
//! finished.ledger.check()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! `feeds`: decoders of recorded and live feeds ([`source`]), and a generator of [markets](market). `kafka`: a member of a Kafka consumer
//! group as the source, and topics as the sink (the module `kafka`); `kafka-tls`, `kafka-gssapi`: the same with TLS, SCRAM and OAUTHBEARER, and
//! with Kerberos. `cli` (default): the program. An embedder builds with
//! `default-features = false`, and gets no command line, no async runtime, no logger and no global recorder; log events go
//! to `tracing`, which does nothing until a subscriber is set.

mod degradation;
mod handler;
mod holes;
mod ingress;
#[cfg(feature = "kafka")]
pub mod kafka;
mod lane;
mod ledger;
#[cfg(feature = "feeds")]
pub mod market;
mod message;
mod monitor;
mod pipeline;
mod price;
pub mod runbook;
mod settled;
mod signals;
pub mod simulation;
pub mod source;
pub mod spill;
mod supervision;
mod symbols;
mod telemetry;
mod tick;
pub mod tuning;
mod words;
mod worker;

pub use degradation::{
    Budget, Cause, DegradationLevel, DegradationManager, DegradationStatus, DegradationThresholds, Explanation,
    Gradual, GradualError, LoadShedder, Mode, OnStale, Pin, Policy, ProportionalShedding, ShedReason, ShedStats,
    ShedderStats, Signal, SignalError, SignalName, SignalStatus, ThresholdError, Transition, Verdict, VerdictTable,
};
#[cfg(feature = "feeds")]
pub use handler::write_bars;
pub use handler::{
    Bar, BarsHandler, Bbo, BboFormat, Book, BookCounters, BookCounts, BookHandler, Context, Handler, Level, write_bbo,
};
pub use ingress::{Ingress, Offer, Offered, Place};
pub use lane::WaitStrategy;
pub use ledger::{Imbalance, Ledger, Observed, PriorityLedger, ShedCounts, WorkerLedger};
pub use message::{CONFLATION_CLASSES, DataType, Message, SymbolId, wall_clock_ns};
pub use pipeline::{
    Control, ControlError, Failure, Finished, Footprint, Health, Pinning, Pipeline, PipelineBuilder, PipelineError,
    Settings, Shadow, Snapshot, StartError, WorkerSnapshot,
};
pub use price::{Price, PriceError};
pub use signals::{LagSource, LaneLag, MemorySource, MemoryUse, ProcessMemory, SignalGauge, SignalSource};
pub use supervision::{OnStall, Restarts, Supervision};
pub use symbols::{MessagePriority, SymbolTiers, Symbols, SymbolsFull, Tier};
pub use telemetry::{Labels, LatencySnapshot, Telemetry};
pub use tick::{Side, Tick, TickKind, flags};
pub use zerocopy;

/// Parts that the benches measure by themselves, and what the program shares. Not for use: they change without notice.
#[doc(hidden)]
pub mod internals {
    pub use crate::degradation::published::{PolicyReader, Published};
    pub use crate::lane::{Chunk, Receiver, Reserved, Sender, Waiter, Waker, lane};
    pub use crate::symbols::TierTable;
    pub use crate::words::{grouped, rounded};
}

/// Compiles and runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
