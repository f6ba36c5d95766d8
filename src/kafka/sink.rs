//! Topics as the sink: processed ticks, and bars as they close.
//!
//! A worker hands what it has to a queue of its own, and goes on; a thread writes it to the topics. A queue that is full holds its worker up,
//! and so a slow cluster is a slow handler: the lag rises, and the cascade does the rest.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::producer::BaseProducer;

use super::config::{ClusterConfig, is_topic_name, refused};
use super::encode::{Encoder, Item};
use super::error::KafkaError;
use super::outbox::{Outlet, Shared, SinkCounters, SinkProgress};
use super::probe::Question;
use super::writer::{Reports, Writer};
use crate::handler::{BarsHandler, Context, Handler};
use crate::message::SymbolId;
use crate::symbols::Symbols;
use crate::tick::Tick;

/// How ticks are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum, serde::Deserialize))]
#[cfg_attr(feature = "cli", serde(rename_all = "kebab-case"))]
pub enum SinkFormat {
    /// Trades and quotes as a JSON object each, as [`TickFormat::Rows`](super::TickFormat::Rows) reads them; other ticks are left out.
    #[default]
    Json,
    /// Each tick's own 64 bytes, as [`TickFormat::Raw`](super::TickFormat::Raw) reads them.
    Raw,
}

/// What is written, and where to. All records have the symbol's name as their key.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// The cluster.
    pub cluster: ClusterConfig,
    /// The topic of processed ticks, and how they are written.
    pub ticks: Option<(String, SinkFormat)>,
    /// The topic of bars, as JSON objects, and how long a bar is.
    ///
    /// A bar is written when a trade of its symbol comes for a later one, or at the end. Bars over a rebalance or a restart come in parts, as do
    /// those of late trades: who wants whole ones adds up the parts of a symbol and start.
    pub bars: Option<(String, NonZeroU64)>,
    /// For how long a record is tried to be delivered, 2 minutes by default; then the sink has failed.
    pub delivery_timeout: Duration,
}

impl SinkConfig {
    /// A sink that writes nothing yet.
    pub fn new(cluster: ClusterConfig) -> Self {
        Self { cluster, ticks: None, bars: None, delivery_timeout: Duration::from_secs(120) }
    }
}

/// An idempotent producer's properties. A record is repeated, with a pause that grows, until it is delivered or its time is over, and
/// is there once and in its place all the same.
pub(super) fn producer_properties() -> [(&'static str, String); 8] {
    let set = |key, value: &str| (key, value.to_owned());
    [
        set("enable.idempotence", "true"),
        set("acks", "all"),
        set("linger.ms", "5"),
        set("compression.type", "lz4"),
        set("queue.buffering.max.messages", "65536"),
        set("queue.buffering.max.kbytes", "32768"),
        set("statistics.interval.ms", "0"),
        // As Java's clients divide keys among partitions.
        set("partitioner", "murmur2_random"),
    ]
}

/// A sink that runs.
#[derive(Debug)]
pub struct KafkaSink {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    bar_interval: Option<NonZeroU64>,
    has_ticks: bool,
}

impl KafkaSink {
    /// Starts a sink for so many workers, whose symbols are named in `symbols`.
    ///
    /// # Errors
    /// When the settings make no sense, or a topic is not there, or not for us.
    pub fn start(config: SinkConfig, symbols: Arc<Symbols>, workers: usize) -> Result<Self, KafkaError> {
        let topics = [config.ticks.as_ref().map(|ticks| &ticks.0), config.bars.as_ref().map(|bars| &bars.0)];
        let topics: Vec<String> = topics.into_iter().flatten().cloned().collect();
        if let Some(topic) = topics.iter().find(|topic| !is_topic_name(topic)) {
            return Err(KafkaError::Config(format!("{topic:?} is no topic's name for the sink")));
        }
        let mut properties = producer_properties().to_vec();
        properties.push(("message.timeout.ms", config.delivery_timeout.as_millis().to_string()));
        let client_config = config.cluster.client(&properties)?;
        Question::ask_to_write(&config.cluster, &topics)?;
        let shared = Arc::new(Shared::new(workers));
        let reports = Reports::new(Arc::clone(&shared));
        let producer = BaseProducer::from_config_and_context(&client_config, reports).map_err(refused)?;
        let (bar_interval, has_ticks) = (config.bars.as_ref().map(|bars| bars.1), config.ticks.is_some());
        let encoder = Encoder::new(symbols, config.ticks, config.bars.map(|bars| bars.0));
        let writer = Writer::new(Arc::clone(&shared), producer, encoder);
        let thread = std::thread::Builder::new().name("plimsoll-sink".to_owned()).spawn(move || writer.run());
        let thread = thread.map_err(|error| KafkaError::Client(format!("cannot start the sink's thread: {error}")))?;
        Ok(Self { shared, thread: Some(thread), bar_interval, has_ticks })
    }

    /// A worker's handler, which hands ticks and bars over. One for each worker.
    pub fn handler(&self, worker: usize) -> SinkHandler {
        let outlet = Outlet::new(Arc::clone(&self.shared), worker);
        SinkHandler { bars: self.bar_interval.map(BarsHandler::new), has_ticks: self.has_ticks, outlet }
    }

    /// For the source, which waits for what it has caused to be written.
    pub fn progress(&self) -> SinkProgress {
        SinkProgress::new(Arc::clone(&self.shared))
    }

    /// What it counts.
    pub fn counters(&self) -> &Arc<SinkCounters> {
        &self.shared.counters
    }

    /// Writes what there still is, and ends; when `within` is over, whatever was not delivered by then.
    ///
    /// # Errors
    /// When something could not be delivered.
    pub fn finish(mut self, within: Duration) -> Result<(), KafkaError> {
        self.shared.stop.store(true, Ordering::Release);
        let deadline = Instant::now() + within;
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            self.shared.is_over.store(true, Ordering::Release);
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
        self.shared.check()?;
        let left = self.shared.counters.on_their_way();
        if left > 0 {
            let reason = format!("{left} records were not delivered within {within:?}");
            return Err(KafkaError::NotDelivered { topic: "of the sink".to_owned(), reason });
        }
        Ok(())
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

/// Hands processed ticks, and bars as they close, to a [`KafkaSink`].
#[derive(Debug)]
pub struct SinkHandler {
    bars: Option<BarsHandler>,
    has_ticks: bool,
    outlet: Outlet,
}

impl SinkHandler {
    /// Hands over the bars that are still open. At the end of a run, when no more ticks will come.
    pub fn close_bars(&mut self) {
        let Some(bars) = self.bars.take() else { return };
        for (symbol, bars) in bars.into_bars() {
            bars.into_iter().for_each(|bar| self.outlet.push(Item::Bar(symbol, bar)));
        }
    }
}

impl Handler<Tick> for SinkHandler {
    fn enrich(&mut self, tick: &mut Tick, context: &Context) {
        if let Some(bars) = &mut self.bars {
            bars.enrich(tick, context);
        }
    }

    fn process(&mut self, tick: &Tick, context: &Context) {
        if let Some(bars) = &mut self.bars {
            bars.process(tick, context);
            for bar in bars.take_closed(tick.symbol) {
                self.outlet.push(Item::Bar(tick.symbol, bar));
            }
        }
        if self.has_ticks {
            self.outlet.push(Item::Tick(*tick));
        }
    }

    fn on_gap(&mut self, symbol: SymbolId, missed: u64) {
        if let Some(bars) = &mut self.bars {
            Handler::<Tick>::on_gap(bars, symbol, missed);
        }
    }
}
