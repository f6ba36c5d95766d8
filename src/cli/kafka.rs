//! A run's part in a consumer group, and its topics.

use std::sync::Arc;
use std::time::Duration;

use plimsoll::kafka::{
    KafkaCount, KafkaCounters, KafkaError, KafkaLag, KafkaSink, KafkaSource, SinkCounters, SinkHandler, TickDecoder,
};
use plimsoll::source::{FeedCount, FeedCounters};
use plimsoll::{DegradationThresholds, PipelineBuilder, Symbols, Tick};

use super::CliError;
use super::feeds::Runner;
use super::summary::grouped;
use crate::config::kafka::KafkaSettings;

/// Messages that a lane holds, if nobody says otherwise: what waits, waits in the partitions.
const LANE_CAPACITY: usize = 65_536;

impl From<KafkaError> for CliError {
    fn from(error: KafkaError) -> Self {
        match error {
            KafkaError::Config(_) => Self::Config(error.to_string()),
            _ => Self::Runtime(error.to_string()),
        }
    }
}

/// What a run with Kafka holds.
pub(crate) struct Kafka {
    source: Option<KafkaSource<Tick, TickDecoder>>,
    counters: Arc<KafkaCounters>,
    feed: Arc<FeedCounters>,
    sink: Option<KafkaSink>,
    sink_counters: Option<Arc<SinkCounters>>,
    instances: u64,
    /// A part of the time that the end of the run may take.
    quarter: Duration,
}

impl Kafka {
    pub(crate) fn open(settings: KafkaSettings, symbols: &Arc<Symbols>, workers: usize) -> Result<Self, CliError> {
        let decoder = settings.decoder(symbols)?;
        let mut source = KafkaSource::open(settings.source, decoder, settings.on_undecodable)?;
        let sink = settings.sink.map(|config| KafkaSink::start(config, Arc::clone(symbols), workers)).transpose()?;
        if let Some(sink) = &sink {
            source = source.with_sink(sink.progress());
        }
        Ok(Self {
            counters: Arc::clone(source.counters()),
            source: Some(source),
            feed: Arc::default(),
            sink_counters: sink.as_ref().map(|sink| Arc::clone(sink.counters())),
            sink,
            instances: settings.instances,
            quarter: settings.drain_timeout / 4,
        })
    }

    /// A pipeline whose lag and metrics are those of the group, too.
    pub(crate) fn build(
        &self,
        builder: PipelineBuilder,
        thresholds: &DegradationThresholds,
        lane_capacity: Option<usize>,
    ) -> PipelineBuilder {
        let builder = builder.kafka(Arc::clone(&self.counters), self.sink_counters.clone(), self.instances);
        let builder = builder.lag_source(KafkaLag::new(Arc::clone(&self.counters), thresholds));
        builder.drain_timeout(self.quarter).lane_capacity(lane_capacity.unwrap_or(LANE_CAPACITY))
    }

    /// The sink's end of each worker; none without a sink.
    pub(crate) fn sinks(&self, workers: usize) -> Vec<SinkHandler> {
        let handlers = self.sink.as_ref().map(|sink| (0..workers).map(|worker| sink.handler(worker)));
        handlers.into_iter().flatten().collect()
    }

    /// What feeds the pipeline.
    pub(crate) fn runner(&mut self) -> Option<Runner> {
        let source = self.source.take()?;
        let (counters, feed) = (Arc::clone(&self.counters), Arc::clone(&self.feed));
        let run = Box::new(move |ingress: &mut _, stop: &super::signal::StopFlag| {
            let look = || {
                feed.set(FeedCount::Messages, counters.get(KafkaCount::Messages));
                feed.set(FeedCount::Bytes, counters.get(KafkaCount::Bytes));
                feed.set(FeedCount::Malformed, counters.get(KafkaCount::Undecodable));
                stop.is_raised()
            };
            source.run(ingress, look).map_err(|error| error.to_string())
        });
        Some(Runner { name: "kafka".to_owned(), counters: Arc::clone(&self.feed), run })
    }

    /// Writes what is still to be written, and says what there is to say at the end.
    pub(crate) fn finish(mut self) -> (String, Result<(), CliError>) {
        let sink = self.sink.take();
        let finished = sink.map_or(Ok(()), |sink| sink.finish(self.quarter).map_err(CliError::from));
        (self.summary(), finished)
    }

    fn summary(&self) -> String {
        const SHOWN: [KafkaCount; 7] = [
            KafkaCount::DeadLetters,
            KafkaCount::Rebalances,
            KafkaCount::Lost,
            KafkaCount::GivenUp,
            KafkaCount::CommitFailures,
            KafkaCount::Pauses,
            KafkaCount::Errors,
        ];
        let mut line = format!("kafka            {:>16} records", grouped(self.counters.get(KafkaCount::Records)));
        for count in SHOWN.into_iter().filter(|count| self.counters.get(*count) > 0) {
            line += &format!(", {} {}", grouped(self.counters.get(count)), count.name().replace('_', " "));
        }
        line += "\n";
        if let Some(sink) = &self.sink_counters {
            line += &format!("sink             {:>16} records delivered", grouped(sink.delivered()));
            for (n, what) in
                [(sink.failed(), "failed"), (sink.left_out(), "left out"), (sink.on_their_way(), "pending")]
            {
                if n > 0 {
                    line += &format!(", {} {what}", grouped(n));
                }
            }
            line += "\n";
        }
        line
    }
}
