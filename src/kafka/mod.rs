//! Many Plimsolls in one Kafka consumer group: who outgrows one machine runs several, and Kafka divides the stream.
//!
//! ```text
//!            ┌──────── source thread, not pinned ────────┐         workers                sink thread
//!  brokers ──▶ client ─▶ decode ─▶ offer (by symbol) ────▶ lanes ─▶ handler ─▶ queue ─▶ producer ──▶ brokers
//!     ▲        │  which records are not finished ◀──── settled ◀───┘                       │
//!     └─offsets┘            (lowest of each partition) ◀────────────── delivered ◀──────────┘
//! ```
//!
//! [`KafkaSource`] takes its share of the partitions and feeds a pipeline; [`KafkaSink`] writes processed ticks and bars. Both stand on
//! librdkafka, which does the protocol. The source's thread owns the consumer, copies what a record holds at once, and never waits with the
//! client unpolled for more than half a second, but for what is said under *Rebalance*.
//!
//! # At least once, exactly accounted
//!
//! A record is *finished* when all messages made of it are: processed, or shed and counted, or spilled and as safe as the spill log's
//! [durability](crate::spill::Durability) makes them (with `Interval`, when they were written back); and, with a sink, when what handlers
//! have made of them is delivered. One that cannot be decoded is finished when it is safe with the [dead letters](OnUndecodable). The
//! offset of a partition that is stored, and committed by and by, is the lowest that is not finished: nothing is ever skipped.
//!
//! What comes again:
//!
//! * After an end in good order, nothing. What could not be finished in time comes again.
//! * After `kill -9`, what was not finished, at most [`unfinished_max`](KafkaConfig::unfinished_max) records, and what was finished since the
//!   last commit: [`commit_interval`](KafkaConfig::commit_interval) and some 20 ms. A worker finishes messages up to 128 at a time.
//! * What comes late for a partition that was lost does not count, even if the partition is back by then: each assignment is numbered.
//!
//! Beside each offset the source writes up to where records were offered. So whoever gets the partition next knows, as of the last commit,
//! which of its records were offered before; [`Ledger::redelivered`](crate::Ledger::redelivered) counts their messages.
//!
//! A record whose handler panics is not finished, nor is anything after it: it comes first after the next start. What is in the spill log
//! is this process's, whoever has the partition now: give each process a directory of its own, and keep it. Symbols keep their order within
//! an assignment. Bars and books of symbols that have moved begin anew; when a partition comes back, handlers are told of a
//! [hole](crate::Handler::on_feed_gap) of what others have had of it. Gaps in offsets within an assignment are no holes (transactions and
//! compaction make them); they are counted as [`skipped`](PartitionCounters::skipped).
//!
//! # Rebalance
//!
//! Partitions that are to go are drained, for [`drain_timeout`](KafkaConfig::drain_timeout) at most, their offsets committed synchronously,
//! and only then are they given up. New ones begin at the committed offset (or where this process has finished more than it could commit
//! and nobody has committed since), and are paused if the rest is. Eager and cooperative protocols are known, see [`AssignmentStrategy`].
//! While it drains and commits, the client is not polled: keep `max.poll.interval.ms` (five minutes by default) well above.
//!
//! # Lag
//!
//! [`KafkaLag`]: messages in the lanes, and the backlog of the assigned partitions, high watermark less position. Watermarks come from the client's
//! statistics, and while partitions are paused, when those tell nothing new, from a client beside it. When a broker is away, the figure stands
//! still, and [says so](KafkaCounters::is_stale).
//!
//! At CIRCUIT_BREAK all partitions are paused, once, and the client is polled on, or the group would give up on this member. A breaker that a
//! backlog has tripped is half open once the lanes are empty, as waiting does not shrink a backlog: see [`KafkaLag`].
//!
//! # Memory
//!
//! Beside the [pipeline's](crate::Footprint), with records of r bytes and B brokers, [`KafkaConfig::memory_bytes`]:
//!
//! | | bytes |
//! |---|---|
//! | kept ready by the client | `min(buffer_bytes, buffer_records × r) + B × fetch_bytes`, and 640 for each record of that |
//! | answers on their way | `B × fetch_bytes` |
//! | unfinished records | 16 for each, `unfinished_max` at most, and 40 for each message in a lane |
//! | sink | 8192 items of 208 bytes for each worker, and 32 MiB with the producer |
//!
//! All of it is heap, and so part of the memory that drives the level.
//!
//! # Brokers
//!
//! The tests (`cargo test --features kafka --test kafka`) run on librdkafka's mock cluster, and on any brokers that `PLIMSOLL_TEST_KAFKA` names;
//! `tools/kafka_broker.sh` starts one.
//!
//! * librdkafka's mock cluster: all tests, with kcat as a client that is not ours.
//! * Tansu 0.5.9, storage in memory: groups, rebalances of both protocols, commits, dead letters and the sink pass. It keeps nothing beside an
//!   offset, so that what is redelivered to another process is not counted. Some runs fail on it: now and then it serves some records to no
//!   client that it has acknowledged; and an answer that names a new leader for a topic without name or id crashes librdkafka 2.12.1 itself.
//! * Apache Kafka and Redpanda: not tried yet.
//!
//! # Scaling
//!
//! [`ScalingAdvice`] says how many members a group should have, as the gauge `k2_recommended_instances`; `tools/scaling` has a rule for
//! Prometheus, and what an autoscaler makes of it.
//!
//! # Example
//!
//! ```no_run
//! use std::sync::Arc;
//! use plimsoll::kafka::{KafkaConfig, KafkaSource, OnUndecodable, TickDecoder, TickFormat};
//! use plimsoll::{Context, DegradationThresholds, Handler, PipelineBuilder, Symbols, Tick};
//!
//! struct Volume(u64);
//! impl Handler<Tick> for Volume {
//!     fn process(&mut self, tick: &Tick, _: &Context) {
//!         self.0 += tick.size;
//!     }
//! }
//!
//! let symbols = Arc::new(Symbols::default());
//! let decoder = TickDecoder::new(Arc::clone(&symbols), TickFormat::Raw, "")?;
//! let config = KafkaConfig::new("127.0.0.1:9092", "volumes", ["ticks".to_owned()]);
//! let source = KafkaSource::open(config, decoder, OnUndecodable::File("/var/spool/plimsoll/dead.ndjson".into()))?;
//!
//! let thresholds = DegradationThresholds::default();
//! let mut pipeline = PipelineBuilder::new()
//!     .symbols(symbols)
//!     .thresholds(thresholds)
//!     .lag_source(source.lag(&thresholds))
//!     .lane_capacity(65_536) // what waits, waits in the partitions
//!     .kafka(Arc::clone(source.counters()), None, 1)
//!     .start(|_worker| Volume(0))?;
//! let mut ingress = pipeline.ingress().expect("there is one producer by default");
//! let stop = std::sync::atomic::AtomicBool::new(false); // raised by whoever ends the run
//! source.run(&mut ingress, || stop.load(std::sync::atomic::Ordering::Relaxed))?;
//! drop(ingress);
//! let finished = pipeline.join()?;
//! finished.ledger.check()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod close;
mod config;
mod context;
mod counters;
mod dead_letters;
mod decode;
mod encode;
mod error;
mod lag;
mod outbox;
mod partitions;
mod probe;
mod scaling;
mod sink;
mod source;
mod taking;
mod unfinished;
mod watch;
mod writer;

pub use config::{AssignmentStrategy, ClusterConfig, KafkaConfig, OnError, Secret, StartAt, is_secret};
pub use counters::{KafkaCount, KafkaCounters, PartitionCounters};
pub use dead_letters::OnUndecodable;
pub use decode::{DecodeRecord, Record, TickDecoder, TickFormat};
pub use error::KafkaError;
pub use lag::KafkaLag;
pub use outbox::{SinkCounters, SinkProgress};
pub use scaling::{SCALING_RULES, ScalingAdvice, ScalingRule};
pub use sink::{KafkaSink, SinkConfig, SinkFormat, SinkHandler};
pub use source::KafkaSource;
