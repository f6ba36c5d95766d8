//! Topics as the sink: processed ticks, and bars as they close.
//!
//! A worker hands what it has to a queue of its own, and goes on; a thread writes it to the topics. A queue that is full holds its worker up,
//! and so a slow cluster is a slow handler: the lag rises, and the cascade does the rest.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::{Backoff, CachePadded};
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::config::{ClusterConfig, is_topic_name, refused};
use super::encode::{Encoder, Item};
use super::error::KafkaError;
use super::probe::Question;
use crate::handler::{BarsHandler, Context, Handler};
use crate::message::SymbolId;
use crate::symbols::Symbols;
use crate::tick::Tick;

/// Items that a worker's queue holds.
const QUEUE: usize = 8192;
/// Items that are taken from a queue before the others are looked at.
const TURN: usize = 256;

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

/// What a sink counts.
#[derive(Debug, Default)]
pub struct SinkCounters {
    delivered: AtomicU64,
    failed: AtomicU64,
    left_out: AtomicU64,
    queued: AtomicU64,
}

impl SinkCounters {
    /// Records that the cluster has acknowledged.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Records that could not be delivered.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Ticks that the format has no form for.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Items on their way: in workers' queues, or with the producer.
    pub fn on_their_way(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }
}

/// A worker's queue.
#[derive(Debug)]
struct Outbox {
    items: ArrayQueue<Item>,
    /// Items ever pushed; written by the worker.
    pushed: CachePadded<AtomicU64>,
    /// All items below this number are delivered; written by the sink's thread.
    delivered: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    outboxes: Vec<Outbox>,
    counters: Arc<SinkCounters>,
    /// Nothing more will be written.
    is_over: AtomicBool,
    stop: AtomicBool,
    failure: Mutex<Option<KafkaError>>,
}

impl Shared {
    fn fail(&self, error: KafkaError) {
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() {
            tracing::error!(%error, "the sink has failed");
            *failure = Some(error);
        }
        self.is_over.store(true, Ordering::Release);
    }

    fn check(&self) -> Result<(), KafkaError> {
        if !self.is_over.load(Ordering::Acquire) {
            return Ok(());
        }
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }
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
        let outbox =
            || Outbox { items: ArrayQueue::new(QUEUE), pushed: CachePadded::default(), delivered: AtomicU64::new(0) };
        let shared = Arc::new(Shared {
            outboxes: (0..workers).map(|_| outbox()).collect(),
            counters: Arc::default(),
            is_over: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            failure: Mutex::default(),
        });
        let acks = (0..workers).map(|_| Mutex::default()).collect();
        let reports = Reports { shared: Arc::clone(&shared), acks };
        let producer = BaseProducer::from_config_and_context(&client_config, reports).map_err(refused)?;
        let (bar_interval, has_ticks) = (config.bars.as_ref().map(|bars| bars.1), config.ticks.is_some());
        let encoder = Encoder::new(symbols, config.ticks, config.bars.map(|bars| bars.0));
        let writer = Writer { shared: Arc::clone(&shared), producer, encoder, sent: vec![0; workers] };
        let thread = std::thread::Builder::new().name("plimsoll-sink".to_owned()).spawn(move || writer.run());
        let thread = thread.map_err(|error| KafkaError::Client(format!("cannot start the sink's thread: {error}")))?;
        Ok(Self { shared, thread: Some(thread), bar_interval, has_ticks })
    }

    /// A worker's handler, which hands ticks and bars over. One for each worker.
    pub fn handler(&self, worker: usize) -> SinkHandler {
        let outlet = Outlet { shared: Arc::clone(&self.shared), worker, pushed: 0 };
        SinkHandler { bars: self.bar_interval.map(BarsHandler::new), has_ticks: self.has_ticks, outlet }
    }

    /// For the source, which waits for what it has caused to be written.
    pub fn progress(&self) -> SinkProgress {
        let lanes = vec![Waiting::default(); self.shared.outboxes.len()];
        SinkProgress { shared: Arc::clone(&self.shared), lanes }
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

/// A worker's end of its queue.
#[derive(Debug)]
struct Outlet {
    shared: Arc<Shared>,
    worker: usize,
    pushed: u64,
}

impl Outlet {
    /// Hands an item over; waits while there is no room. What comes after the sink has failed is dropped: its offset is not stored.
    fn push(&mut self, mut item: Item) {
        let outbox = &self.shared.outboxes[self.worker];
        let backoff = Backoff::new();
        while let Err(back) = outbox.items.push(item) {
            if self.shared.is_over.load(Ordering::Acquire) {
                return;
            }
            item = back;
            if backoff.is_completed() { std::thread::sleep(Duration::from_micros(50)) } else { backoff.snooze() }
        }
        self.pushed += 1;
        // Release: who sees the number finds the item in the queue, or gone from it.
        outbox.pushed.store(self.pushed, Ordering::Release);
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

/// How much of what workers have finished is also delivered.
#[derive(Debug)]
pub struct SinkProgress {
    shared: Arc<Shared>,
    lanes: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    settled: u64,
    /// So many messages of the lane were finished when so many items had been pushed.
    finished: Option<(u64, u64)>,
}

impl SinkProgress {
    /// How many messages of a lane are done with, of so many that its worker has finished, if those count only when all items that the worker
    /// had pushed by then are delivered.
    pub(super) fn settled(&mut self, lane: usize, finished: u64) -> u64 {
        let (outbox, waiting) = (&self.shared.outboxes[lane], &mut self.lanes[lane]);
        let delivered = outbox.delivered.load(Ordering::Acquire);
        if let Some((finished, pushed)) = waiting.finished
            && pushed <= delivered
        {
            (waiting.settled, waiting.finished) = (finished, None);
        }
        if waiting.finished.is_none() && finished > waiting.settled {
            // After the worker has finished them, and so after it has pushed their items.
            let pushed = outbox.pushed.load(Ordering::Acquire);
            if pushed <= delivered {
                waiting.settled = finished;
            } else {
                waiting.finished = Some((finished, pushed));
            }
        }
        waiting.settled
    }

    pub(super) fn check(&self) -> Result<(), KafkaError> {
        self.shared.check()
    }
}

/// Items of a worker that are with the producer, from the first one that is not delivered on.
#[derive(Default)]
struct Acks {
    first: u64,
    delivered: VecDeque<bool>,
}

struct Reports {
    shared: Arc<Shared>,
    /// By worker. The sink's thread alone looks at them.
    acks: Vec<Mutex<Acks>>,
}

impl Reports {
    fn sent(&self, worker: usize) {
        self.acks[worker].lock().unwrap_or_else(PoisonError::into_inner).delivered.push_back(false);
    }

    fn delivered(&self, worker: usize, number: u64) {
        let mut acks = self.acks[worker].lock().unwrap_or_else(PoisonError::into_inner);
        let index = number.wrapping_sub(acks.first) as usize;
        if let Some(delivered) = acks.delivered.get_mut(index) {
            *delivered = true;
        }
        while acks.delivered.front() == Some(&true) {
            acks.delivered.pop_front();
            acks.first += 1;
        }
        self.shared.outboxes[worker].delivered.store(acks.first, Ordering::Release);
    }
}

/// Bits of an item's number in what the producer gives back with its report; the worker's are above.
const NUMBER_BITS: u32 = 48;

impl ClientContext for Reports {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(facility, "{text}");
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::info!(%error, reason, "kafka: the sink's client goes on trying");
    }
}

impl ProducerContext for Reports {
    /// The worker and the item's number.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, item: usize) {
        let (worker, number) = (item >> NUMBER_BITS, item as u64 & ((1 << NUMBER_BITS) - 1));
        match result {
            Ok(_) => {
                self.shared.counters.delivered.fetch_add(1, Ordering::Relaxed);
                self.delivered(worker, number);
            }
            Err((error, record)) => {
                let (topic, reason) = (record.topic().to_owned(), error.to_string());
                self.shared.fail(KafkaError::NotDelivered { topic, reason });
            }
        }
    }
}

/// The sink's thread.
struct Writer {
    shared: Arc<Shared>,
    producer: BaseProducer<Reports>,
    encoder: Encoder,
    /// By worker: items that were given to the producer, or left out.
    sent: Vec<u64>,
}

impl Writer {
    fn run(mut self) {
        loop {
            // Before the queues are looked at: what was pushed before the stop is found.
            let stop = self.shared.stop.load(Ordering::Acquire);
            let mut moved = 0;
            for worker in 0..self.sent.len() {
                moved += self.move_items(worker);
            }
            self.producer.poll(if moved > 0 { Duration::ZERO } else { Duration::from_millis(1) });
            self.count();
            if self.shared.is_over.load(Ordering::Acquire) {
                return;
            }
            if stop && moved == 0 && self.producer.in_flight_count() == 0 {
                return;
            }
        }
    }

    fn move_items(&mut self, worker: usize) -> usize {
        for moved in 0..TURN {
            let Some(item) = self.shared.outboxes[worker].items.pop() else { return moved };
            let number = self.sent[worker];
            self.sent[worker] += 1;
            self.producer.context().sent(worker);
            if !self.send(worker, number, &item) {
                return moved;
            }
        }
        TURN
    }

    /// Gives an item to the producer; waits while that has no room. Returns whether to go on.
    fn send(&mut self, worker: usize, number: u64, item: &Item) -> bool {
        let Some((topic, key, payload)) = self.encoder.encode(item) else {
            self.shared.counters.left_out.fetch_add(1, Ordering::Relaxed);
            self.producer.context().delivered(worker, number);
            return true;
        };
        let opaque = worker << NUMBER_BITS | number as usize;
        let mut record = BaseRecord::<str, [u8], _>::with_opaque_to(topic, opaque).key(key).payload(payload);
        loop {
            match self.producer.send(record) {
                Ok(()) => return true,
                Err((ClientError::MessageProduction(Code::QueueFull), back)) => {
                    if self.shared.is_over.load(Ordering::Acquire) {
                        return false;
                    }
                    record = back;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => {
                    let (topic, reason) = (topic.to_owned(), error.to_string());
                    self.shared.fail(KafkaError::NotDelivered { topic, reason });
                    return false;
                }
            }
        }
    }

    fn count(&self) {
        let on_its_way = |outbox: &Outbox| {
            let delivered = outbox.delivered.load(Ordering::Relaxed);
            outbox.pushed.load(Ordering::Relaxed).saturating_sub(delivered)
        };
        let queued = self.shared.outboxes.iter().map(on_its_way).sum();
        self.shared.counters.queued.store(queued, Ordering::Relaxed);
    }
}
