//! Series of a Kafka source and sink.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge};

use super::exporter::Maker;
use super::{Telemetry, names};
use crate::kafka::{KafkaCount, KafkaCounters, PartitionCounters, SCALING_RULES, ScalingAdvice, SinkCounters};

/// What is to be exported.
#[derive(Clone, Debug)]
pub(crate) struct Kafka {
    pub(crate) source: Arc<KafkaCounters>,
    pub(crate) sink: Option<Arc<SinkCounters>>,
    /// Members of the group, as far as nobody tells how many there are.
    pub(crate) instances: u64,
}

/// Handles of all series; those of partitions are made as partitions come.
pub(super) struct KafkaExporter {
    kafka: Kafka,
    counts: Vec<(KafkaCount, Counter)>,
    members: Gauge,
    paused: Gauge,
    stale: Gauge,
    backlog: Gauge,
    recommended: Gauge,
    sink: Option<SinkSeries>,
    partitions: Vec<PartitionSeries>,
    advice: ScalingAdvice,
    start: Instant,
}

struct SinkSeries {
    delivered: Counter,
    failed: Counter,
    left_out: Counter,
    on_their_way: Gauge,
}

struct PartitionSeries {
    counters: Arc<PartitionCounters>,
    assigned: Gauge,
    paused: Gauge,
    position: Gauge,
    committed: Gauge,
    high: Gauge,
    lag: Gauge,
    redelivered: Counter,
    skipped: Counter,
}

impl KafkaExporter {
    pub(super) fn new(make: &Maker<'_>, kafka: Kafka) -> Self {
        let counted = KafkaCount::ALL.into_iter().filter(|count| !count.is_gauge());
        let sink = kafka.sink.as_ref().map(|_| SinkSeries {
            delivered: make.counter(names::KAFKA_SINK_DELIVERED, []),
            failed: make.counter(names::KAFKA_SINK_FAILED, []),
            left_out: make.counter(names::KAFKA_SINK_LEFT_OUT, []),
            on_their_way: make.gauge(names::KAFKA_SINK_ON_THEIR_WAY, []),
        });
        Self {
            counts: counted.map(|count| (count, make.counter(names::kafka(count), []))).collect(),
            members: make.gauge(names::kafka(KafkaCount::Members), []),
            paused: make.gauge(names::KAFKA_PAUSED, []),
            stale: make.gauge(names::KAFKA_LAG_STALE, []),
            backlog: make.gauge(names::KAFKA_BACKLOG, []),
            recommended: make.gauge(names::RECOMMENDED_INSTANCES, []),
            sink,
            partitions: Vec::new(),
            advice: ScalingAdvice::new(&SCALING_RULES),
            start: Instant::now(),
            kafka,
        }
    }

    pub(super) fn export(&mut self, telemetry: &Telemetry, in_lanes: u64) {
        let source = &self.kafka.source;
        self.counts.iter().for_each(|(count, series)| series.absolute(source.get(*count)));
        let (members, backlog) = (source.get(KafkaCount::Members), source.backlog());
        self.members.set(members as f64);
        self.paused.set(one_if(source.is_paused()));
        self.stale.set(one_if(source.is_stale()));
        self.backlog.set(backlog as f64);
        let instances = if members > 0 { members } else { self.kafka.instances };
        let recommended = self.advice.recommend(self.now(), in_lanes.saturating_add(backlog), instances);
        self.recommended.set(recommended as f64);
        if let (Some(series), Some(sink)) = (&self.sink, &self.kafka.sink) {
            series.delivered.absolute(sink.delivered());
            series.failed.absolute(sink.failed());
            series.left_out.absolute(sink.left_out());
            series.on_their_way.set(sink.on_their_way() as f64);
        }
        // Partitions are only ever added.
        let partitions = self.kafka.source.partitions();
        let make = Maker(telemetry);
        let new = partitions.into_iter().skip(self.partitions.len());
        self.partitions.extend(new.map(|counters| PartitionSeries::new(&make, counters)));
        let is_paused = self.kafka.source.is_paused();
        self.partitions.iter().for_each(|partition| partition.export(is_paused));
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

impl PartitionSeries {
    fn new(make: &Maker<'_>, counters: Arc<PartitionCounters>) -> Self {
        let labels = || [("topic", counters.topic.to_string()), ("partition", counters.partition.to_string())];
        Self {
            assigned: make.gauge(names::KAFKA_PARTITION_ASSIGNED, labels()),
            paused: make.gauge(names::KAFKA_PARTITION_PAUSED, labels()),
            position: make.gauge(names::KAFKA_PARTITION_POSITION, labels()),
            committed: make.gauge(names::KAFKA_PARTITION_COMMITTED, labels()),
            high: make.gauge(names::KAFKA_PARTITION_HIGH, labels()),
            lag: make.gauge(names::KAFKA_PARTITION_LAG, labels()),
            redelivered: make.counter(names::KAFKA_PARTITION_REDELIVERED, labels()),
            skipped: make.counter(names::KAFKA_PARTITION_SKIPPED, labels()),
            counters,
        }
    }

    fn export(&self, is_paused: bool) {
        let counters = &self.counters;
        let offset = |offset: Option<i64>| offset.map_or(f64::NAN, |offset| offset as f64);
        self.assigned.set(one_if(counters.is_assigned()));
        self.paused.set(one_if(counters.is_assigned() && is_paused));
        self.position.set(offset(counters.position()));
        self.committed.set(offset(counters.committed()));
        self.high.set(offset(counters.high()));
        self.lag.set(counters.lag() as f64);
        self.redelivered.absolute(counters.redelivered());
        self.skipped.absolute(counters.skipped());
    }
}

fn one_if(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}
