//! Hands the pipeline's counters to Prometheus handles. Runs on the monitor's thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString, Unit};

use super::cascade::{Cascade, SignalsExporter, Steering, SteeringCounts};
use super::latency::LatencySnapshot;
use super::{Telemetry, names};
use crate::degradation::gradual::PARTS;
use crate::degradation::{DegradationLevel, DegradationManager, ShedReason};
use crate::handler::{BookCounters, BookCounts};
use crate::ledger::{Counters, Ledger, PriorityLedger};
use crate::signals::MemoryUse;
use crate::source::{FeedCount, FeedCounters};
use crate::symbols::{MessagePriority, Tier};

/// What the monitor saw last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) lag: u64,
    pub(crate) memory: MemoryUse,
    /// Of the oldest message that a worker has in hand.
    pub(crate) age_ns: u64,
    /// By priority: parts of the symbols that are shed by lag.
    pub(crate) shed_parts: [u8; 4],
    /// By worker, over the last second.
    pub(crate) busy: Vec<f64>,
    /// Samples taken so far.
    pub(crate) count: u64,
    /// When, since the start.
    pub(crate) at: Duration,
    /// By worker.
    pub(crate) stalled: Vec<bool>,
    /// It is a dry run.
    pub(crate) observing: bool,
    /// What the shadow thresholds give.
    pub(crate) shadow: Option<DegradationLevel>,
}

impl Sample {
    /// By priority: the share of symbols that is shed by lag.
    pub(crate) fn shed_shares(&self) -> [f64; 4] {
        self.shed_parts.map(|parts| f64::from(parts) / f64::from(PARTS))
    }
}

/// Pre-made handles of the spill log's series.
struct SpillExporter {
    spilled: Counter,
    replayed: Counter,
    recovered: Counter,
    lost: Counter,
    /// By worker.
    pending: Vec<Gauge>,
    bytes: Vec<Gauge>,
    segments: Vec<Gauge>,
    full: Vec<Gauge>,
    not_ready: Vec<Counter>,
    sync_failures: Vec<Counter>,
}

impl SpillExporter {
    fn new(make: &Maker<'_>, workers: usize, budget_bytes: u64) -> Self {
        // It never changes.
        make.gauge(names::SPILL_BUDGET, []).set(budget_bytes as f64);
        let gauges = |series| (0..workers).map(|worker| make.gauge(series, [("worker", worker.to_string())])).collect();
        let counters =
            |series| (0..workers).map(|worker| make.counter(series, [("worker", worker.to_string())])).collect();
        Self {
            spilled: make.counter(names::SPILLED, []),
            replayed: make.counter(names::REPLAYED, []),
            recovered: make.counter(names::RECOVERED, []),
            lost: make.counter(names::SPILL_LOST, []),
            pending: gauges(names::SPILL_PENDING),
            bytes: gauges(names::SPILL_BYTES),
            segments: gauges(names::SPILL_SEGMENTS),
            full: gauges(names::SPILL_FULL),
            not_ready: counters(names::SPILL_NOT_READY),
            sync_failures: counters(names::SPILL_SYNC_FAILURES),
        }
    }

    fn export(&self, counters: &Counters, ledger: &Ledger) {
        self.spilled.absolute(ledger.spilled);
        self.replayed.absolute(ledger.replayed);
        self.recovered.absolute(ledger.recovered);
        self.lost.absolute(ledger.spill_lost);
        for (gauge, worker) in self.pending.iter().zip(&ledger.workers) {
            gauge.set(worker.spill_pending as f64);
        }
        for (worker, stats) in counters.spill.iter().enumerate() {
            self.bytes[worker].set(stats.bytes.load(Ordering::Relaxed) as f64);
            self.segments[worker].set(stats.segments.load(Ordering::Relaxed) as f64);
            self.full[worker].set(if stats.is_full() { 1.0 } else { 0.0 });
            self.not_ready[worker].absolute(stats.not_ready.get());
            self.sync_failures[worker].absolute(stats.sync_failures.load(Ordering::Relaxed));
        }
    }
}

/// Pre-made handles of a feed's series.
struct FeedExporter {
    counters: Arc<FeedCounters>,
    series: Vec<(FeedCount, FeedSeries)>,
}

enum FeedSeries {
    Counter(Counter),
    Gauge(Gauge),
}

impl FeedExporter {
    fn new(make: &Maker<'_>, name: &str, counters: &Arc<FeedCounters>) -> Self {
        let series = FeedCount::ALL.map(|count| {
            let (text, labels) = (names::feed(count), [("feed", name.to_owned())]);
            let gauge = count.is_gauge();
            let series = if gauge {
                FeedSeries::Gauge(make.gauge(text, labels))
            } else {
                FeedSeries::Counter(make.counter(text, labels))
            };
            (count, series)
        });
        Self { counters: Arc::clone(counters), series: series.into() }
    }

    fn export(&self) {
        for (count, series) in &self.series {
            let n = self.counters.get(*count);
            match series {
                FeedSeries::Counter(counter) => counter.absolute(n),
                FeedSeries::Gauge(gauge) => gauge.set(n as f64),
            }
        }
    }
}

/// Pre-made handles of the books' series.
struct BookExporter {
    counters: Vec<Arc<BookCounters>>,
    books: Gauge,
    stale: Gauge,
    stale_seconds: Gauge,
    bbo_changes: Counter,
    unmatched: Counter,
}

impl BookExporter {
    fn new(make: &Maker<'_>, counters: Vec<Arc<BookCounters>>) -> Self {
        Self {
            counters,
            books: make.gauge(names::BOOKS, []),
            stale: make.gauge(names::BOOKS_STALE, []),
            stale_seconds: make.gauge(names::BOOKS_STALE_SECONDS, []),
            bbo_changes: make.counter(names::BBO_CHANGES, []),
            unmatched: make.counter(names::BOOKS_UNMATCHED, []),
        }
    }

    fn export(&self) {
        let counts: BookCounts = self.counters.iter().map(|counters| counters.get()).sum();
        self.books.set(counts.books as f64);
        self.stale.set(counts.stale as f64);
        self.stale_seconds.set(counts.stale_ns as f64 / 1e9);
        self.bbo_changes.absolute(counts.bbo_changes);
        self.unmatched.absolute(counts.unmatched);
    }
}

/// What is exported beside the pipeline itself.
#[derive(Debug, Default)]
pub(crate) struct Exported {
    /// Of all workers' spill logs; 0 without.
    pub(crate) spill_budget_bytes: u64,
    /// By name.
    pub(crate) feeds: Vec<(String, Arc<FeedCounters>)>,
    pub(crate) books: Vec<Arc<BookCounters>>,
    #[cfg(feature = "kafka")]
    pub(crate) kafka: Option<super::Kafka>,
}

/// Pre-made handles of every series.
pub(crate) struct Exporter {
    telemetry: Telemetry,
    cascade: Cascade,
    steering: Steering,
    signals: SignalsExporter,
    /// Of the shadow thresholds: the component, and its series.
    shadow: Option<(String, Cascade)>,
    shed: Vec<(Tier, ShedReason, Counter)>,
    offered: Counter,
    redelivered: Counter,
    accepted: Counter,
    refused: Counter,
    full: Counter,
    processed: Vec<(MessagePriority, Counter)>,
    /// By priority, then by [`PriorityLedger::FIGURES`].
    by_priority: [[Counter; 7]; 4],
    over_budget: Vec<(MessagePriority, Counter, Gauge)>,
    conflated: Counter,
    held: Gauge,
    in_flight: Gauge,
    gaps: Counter,
    spill: SpillExporter,
    feeds: Vec<FeedExporter>,
    /// There, if there are books.
    books: Option<BookExporter>,
    #[cfg(feature = "kafka")]
    kafka: Option<super::kafka::KafkaExporter>,
    lag: Gauge,
    age: Gauge,
    memory_used: Gauge,
    memory_limit: Gauge,
    memory_ratio: Gauge,
    monitor_samples: Counter,
    /// By worker, then by producer.
    lane_fill: Vec<Vec<Gauge>>,
    /// By worker.
    busy: Vec<Gauge>,
    /// With what was exported before.
    latency: Vec<(MessagePriority, Histogram, LatencySnapshot)>,
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Makes handles and describes them.
pub(super) struct Maker<'a>(pub(super) &'a Telemetry);

impl Maker<'_> {
    pub(super) fn counter(
        &self,
        (name, help): (&'static str, &'static str),
        labels: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Counter {
        let recorder = self.0.recorder();
        recorder.describe_counter(name.into(), None, SharedString::const_str(help));
        recorder.register_counter(&key(name, labels), &METADATA)
    }

    pub(super) fn gauge(
        &self,
        (name, help): (&'static str, &'static str),
        labels: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Gauge {
        let recorder = self.0.recorder();
        recorder.describe_gauge(name.into(), None, SharedString::const_str(help));
        let gauge = recorder.register_gauge(&key(name, labels), &METADATA);
        gauge.set(0.0);
        gauge
    }

    fn latency(&self, priority: MessagePriority) -> Histogram {
        let recorder = self.0.recorder();
        let help = SharedString::const_str(names::LATENCY_HELP);
        recorder.describe_histogram(names::LATENCY.into(), Some(Unit::Seconds), help);
        let labels = [("priority", priority_label(priority))];
        recorder.register_histogram(&key(names::LATENCY, labels), &METADATA)
    }
}

fn key(name: &'static str, labels: impl IntoIterator<Item = (&'static str, String)>) -> Key {
    let labels: Vec<_> = labels.into_iter().map(|(k, v)| Label::new(k, v)).collect();
    Key::from_parts(name, labels)
}

fn priority_label(priority: MessagePriority) -> String {
    priority.name().to_lowercase()
}

impl Exporter {
    /// Registers every series, at 0.
    pub(crate) fn new(telemetry: Telemetry, counters: &Counters, exported: Exported) -> Self {
        let Exported { feeds, books, spill_budget_bytes, .. } = exported;
        let make = Maker(&telemetry);
        let cells = Tier::ALL.iter().flat_map(|&tier| ShedReason::ALL.map(|reason| (tier, reason)));
        let shed = cells.map(|(tier, reason)| {
            let labels = [("symbol_tier", tier.label().into()), ("reason", reason.label().into())];
            (tier, reason, make.counter(names::SHED, labels))
        });
        let processed = MessagePriority::ALL.map(|priority| {
            let labels = [("priority", priority_label(priority))];
            (priority, make.counter(names::PROCESSED, labels))
        });
        let by_priority = MessagePriority::ALL.map(|priority| {
            PriorityLedger::FIGURES.map(|(outcome, ..)| {
                let labels = [("priority", priority_label(priority)), ("outcome", outcome.to_owned())];
                make.counter(names::BY_PRIORITY, labels)
            })
        });
        let over_budget = MessagePriority::ALL.map(|priority| {
            let label = || [("priority", priority_label(priority))];
            (priority, make.counter(names::OVER_BUDGET, label()), make.gauge(names::SHED_SHARE, label()))
        });
        let latency =
            MessagePriority::ALL.map(|priority| (priority, make.latency(priority), LatencySnapshot::default()));
        let lane_fill = counters.lanes.iter().enumerate().map(|(worker, lanes)| {
            let gauges = lanes.iter().enumerate().map(|(producer, _)| {
                let labels = [("worker", worker.to_string()), ("producer", producer.to_string())];
                make.gauge(names::LANE_FILL, labels)
            });
            gauges.collect()
        });
        let busy = (0..counters.workers.len()).map(|worker| make.gauge(names::BUSY, [("worker", worker.to_string())]));
        Self {
            cascade: Cascade::new(&make, None),
            signals: SignalsExporter::default(),
            steering: Steering::new(&make, counters.workers.len()),
            shadow: None,
            shed: shed.collect(),
            offered: make.counter(names::OFFERED, []),
            redelivered: make.counter(names::REDELIVERED, []),
            accepted: make.counter(names::ACCEPTED, []),
            refused: make.counter(names::REFUSED, []),
            full: make.counter(names::FULL, []),
            processed: processed.into(),
            by_priority,
            over_budget: over_budget.into(),
            conflated: make.counter(names::CONFLATED, []),
            held: make.gauge(names::HELD, []),
            in_flight: make.gauge(names::IN_FLIGHT, []),
            gaps: make.counter(names::GAPS, []),
            spill: SpillExporter::new(&make, counters.workers.len(), spill_budget_bytes),
            feeds: feeds.iter().map(|(name, counters)| FeedExporter::new(&make, name, counters)).collect(),
            books: (!books.is_empty()).then(|| BookExporter::new(&make, books)),
            #[cfg(feature = "kafka")]
            kafka: exported.kafka.map(|kafka| super::kafka::KafkaExporter::new(&make, kafka)),
            lag: make.gauge(names::LAG, []),
            age: make.gauge(names::AGE, []),
            memory_used: make.gauge(names::MEMORY_USED, []),
            memory_limit: make.gauge(names::MEMORY_LIMIT, []),
            memory_ratio: make.gauge(names::MEMORY_RATIO, []),
            monitor_samples: make.counter(names::MONITOR_SAMPLES, []),
            lane_fill: lane_fill.collect(),
            busy: busy.collect(),
            latency: latency.into(),
            telemetry,
        }
    }

    /// What the shadow thresholds give, as series of a component of its own.
    pub(crate) fn export_shadow(&mut self, shadow: &DegradationManager, component: &str) {
        if self.shadow.as_ref().is_none_or(|(known, _)| known != component) {
            let cascade = Cascade::new(&Maker(&self.telemetry), Some(component));
            self.shadow = Some((component.to_owned(), cascade));
        }
        self.shadow.iter().for_each(|(_, cascade)| cascade.export(shadow));
    }

    /// Brings every series up to date.
    pub(crate) fn export(
        &mut self,
        counters: &Counters,
        manager: &DegradationManager,
        sample: &Sample,
        steering: SteeringCounts,
    ) {
        let ledger = counters.ledger();
        self.cascade.export(manager);
        self.steering.export(counters, &ledger, manager, sample, steering);
        for (tier, reason, counter) in &self.shed {
            counter.absolute(ledger.shed_by.get(*tier, *reason));
        }
        self.offered.absolute(ledger.offered);
        self.redelivered.absolute(ledger.redelivered);
        self.accepted.absolute(ledger.accepted);
        self.refused.absolute(ledger.refused);
        self.full.absolute(ledger.full);
        for (priority, counter) in &self.processed {
            counter.absolute(ledger.by_priority[priority.index()].processed_live);
        }
        for (counters, part) in self.by_priority.iter().zip(&ledger.by_priority) {
            for (counter, (_, _, pick)) in counters.iter().zip(PriorityLedger::FIGURES) {
                counter.absolute(pick(part));
            }
        }
        for (priority, counter, share) in &self.over_budget {
            counter.absolute(counters.over_budget(*priority));
            share.set(sample.shed_shares()[priority.index()]);
        }
        self.conflated.absolute(ledger.conflated);
        self.held.set(counters.held() as f64);
        self.in_flight.set(ledger.in_flight as f64);
        self.gaps.absolute(ledger.workers.iter().map(|w| w.gaps).sum());
        self.spill.export(counters, &ledger);
        self.feeds.iter().for_each(FeedExporter::export);
        self.books.iter().for_each(BookExporter::export);
        #[cfg(feature = "kafka")]
        self.kafka.iter_mut().for_each(|kafka| kafka.export(&self.telemetry, ledger.in_flight));
        self.lag.set(sample.lag as f64);
        self.age.set(sample.age_ns as f64 / 1e9);
        self.signals.export(&self.telemetry, manager);
        self.memory_used.set(sample.memory.used_bytes as f64);
        self.memory_limit.set(sample.memory.limit_bytes as f64);
        self.memory_ratio.set(sample.memory.percent() / 100.0);
        self.monitor_samples.absolute(sample.count);
        for (gauge, lane) in self.lane_fill.iter().flatten().zip(counters.lanes.iter().flatten()) {
            // Partly filled blocks let a lane take a little more than its capacity.
            gauge.set((lane.in_flight() as f64 / lane.capacity as f64).min(1.0));
        }
        for (gauge, busy) in self.busy.iter().zip(&sample.busy) {
            gauge.set(*busy);
        }
        for (priority, histogram, before) in &mut self.latency {
            let now = counters.latency(*priority);
            for (nanos, count) in now.since(before).buckets() {
                histogram.record_many(nanos as f64 / 1e9, count as usize);
            }
            *before = now;
        }
        self.telemetry.upkeep();
    }
}
