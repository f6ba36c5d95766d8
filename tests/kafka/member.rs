//! A member of a group under test: a pipeline with a Kafka source, and handlers that write down what they get.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plimsoll::kafka::{
    KafkaConfig, KafkaCounters, KafkaError, KafkaSource, OnUndecodable, SinkHandler, SinkProgress, TickDecoder,
    TickFormat,
};
use plimsoll::source::PumpEnd;
use plimsoll::source::rows::{RowFormat, RowsConfig};
use plimsoll::{
    Context, DegradationLevel, DegradationThresholds, Handler, Ledger, MemoryUse, PipelineBuilder, SymbolId,
    SymbolTiers, Symbols, Tick,
};

use crate::cluster::Cluster;

/// Holds whatever number comes.
const ANY: u64 = u64::MAX;

/// What handlers share with a test.
#[derive(Default)]
pub(crate) struct Notebook {
    /// Symbols' ids and numbers, in the order in which they came.
    seen: Mutex<Vec<(u32, u64)>>,
    /// The number that is not to be finished for now.
    held: AtomicU64,
    released: Condvar,
    is_free: Mutex<bool>,
    is_held: AtomicBool,
    pub(crate) feed_gaps: AtomicU64,
}

impl Notebook {
    /// Holds whatever comes first.
    pub(crate) fn holding_the_first() -> Arc<Self> {
        Self::holding(ANY)
    }

    pub(crate) fn holding(number: u64) -> Arc<Self> {
        Arc::new(Self { held: AtomicU64::new(number), ..Self::default() })
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.seen.lock().unwrap().iter().map(|(_, number)| *number).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Whether a handler has come to the number that is held.
    pub(crate) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Acquire)
    }

    pub(crate) fn release(&self) {
        *self.is_free.lock().unwrap() = true;
        self.released.notify_all();
    }

    /// Whether each symbol's numbers rise, but for jumps back to where an assignment began.
    pub(crate) fn assert_order(&self) {
        let mut last: HashMap<u32, u64> = HashMap::new();
        for (symbol, number) in self.seen.lock().unwrap().iter() {
            let before = last.insert(*symbol, *number);
            assert!(before.is_none_or(|before| before < *number), "{number} after {before:?}");
        }
    }

    pub(crate) fn times(&self) -> BTreeMap<u64, usize> {
        let mut times = BTreeMap::new();
        self.numbers().into_iter().for_each(|number| *times.entry(number).or_default() += 1);
        times
    }
}

pub(crate) struct Recorder {
    notebook: Arc<Notebook>,
    sink: Option<SinkHandler>,
}

impl Handler<Tick> for Recorder {
    fn enrich(&mut self, tick: &mut Tick, context: &Context) {
        if let Some(sink) = &mut self.sink {
            sink.enrich(tick, context);
        }
    }

    fn process(&mut self, tick: &Tick, context: &Context) {
        let held = self.notebook.held.load(Ordering::Relaxed);
        if held > 0 && (held == ANY || tick.size == held) {
            self.notebook.is_held.store(true, Ordering::Release);
            let mut is_free = self.notebook.is_free.lock().unwrap();
            while !*is_free {
                is_free = self.notebook.released.wait(is_free).unwrap();
            }
        }
        self.notebook.seen.lock().unwrap().push((tick.symbol.get(), tick.size));
        if let Some(sink) = &mut self.sink {
            sink.process(tick, context);
        }
    }

    fn on_gap(&mut self, _: SymbolId, _: u64) {}

    fn on_feed_gap(&mut self, missed: u64) {
        self.notebook.feed_gaps.fetch_add(missed, Ordering::Relaxed);
    }
}

pub(crate) fn json() -> TickFormat {
    TickFormat::Rows { rows: Box::new(RowsConfig::new(RowFormat::Ndjson)), key_is_symbol: false }
}

/// Settings that make a test quick.
pub(crate) fn config(cluster: &Cluster, group: &str, topic: &str) -> KafkaConfig {
    let mut config = KafkaConfig::new(&cluster.brokers, group, [topic.to_owned()]);
    config.commit_interval = Duration::from_millis(50);
    config.statistics_interval = Duration::from_millis(50);
    config.session_timeout = Duration::from_secs(6);
    config.drain_timeout = Duration::from_secs(20);
    // Topics that a pattern fits are found soon.
    config.cluster.properties.insert("topic.metadata.refresh.interval.ms".to_owned(), "1000".to_owned());
    config
}

/// Makes a sink for so many workers: a handler for each, and what the source waits for.
pub(crate) type MakeSink = dyn Fn(Arc<Symbols>, usize) -> (Vec<SinkHandler>, SinkProgress) + Send;

pub(crate) struct Setup {
    pub(crate) config: KafkaConfig,
    pub(crate) workers: usize,
    pub(crate) notebook: Arc<Notebook>,
    pub(crate) format: TickFormat,
    pub(crate) on_undecodable: OnUndecodable,
    pub(crate) thresholds: DegradationThresholds,
    /// In percent.
    pub(crate) memory: Arc<AtomicU64>,
    pub(crate) sink: Option<Box<MakeSink>>,
    pub(crate) spill: Option<plimsoll::spill::SpillConfig>,
    pub(crate) tiers: SymbolTiers,
}

impl Setup {
    pub(crate) fn new(config: KafkaConfig) -> Self {
        Self {
            config,
            workers: 2,
            notebook: Arc::default(),
            format: json(),
            on_undecodable: OnUndecodable::Stop,
            thresholds: DegradationThresholds { recovery_cooldown_seconds: 0.05, ..Default::default() },
            memory: Arc::new(AtomicU64::new(10)),
            sink: None,
            spill: None,
            tiers: SymbolTiers::new([] as [&str; 0], []),
        }
    }
}

/// What a member looks like while it runs. When a test fails, it says so.
pub(crate) struct Member {
    pub(crate) notebook: Arc<Notebook>,
    pub(crate) counters: Arc<KafkaCounters>,
    pub(crate) memory: Arc<AtomicU64>,
    look: Arc<Mutex<(u64, DegradationLevel, Ledger)>>,
    stop: Arc<AtomicBool>,
    /// Until it is joined.
    thread: Option<JoinHandle<(Result<PumpEnd, KafkaError>, Ledger)>>,
}

impl Drop for Member {
    fn drop(&mut self) {
        if std::thread::panicking() && self.thread.is_some() {
            let (lag, level, ledger) = &*self.look.lock().unwrap();
            let seen = self.notebook.count();
            eprintln!(
                "member: ended {}, seen {seen}, lag {lag}, {level}, {:#?}, {ledger:?}",
                self.has_ended(),
                self.counters
            );
        }
    }
}

impl Member {
    pub(crate) fn start(setup: Setup) -> Self {
        Self::try_start(setup).unwrap()
    }

    pub(crate) fn try_start(setup: Setup) -> Result<Self, KafkaError> {
        let symbols = Arc::new(Symbols::new(setup.tiers, 4096));
        let decoder = TickDecoder::new(Arc::clone(&symbols), setup.format, "").unwrap();
        let source = KafkaSource::open(setup.config, decoder, setup.on_undecodable)?;
        let counters = Arc::clone(source.counters());
        let memory = Arc::clone(&setup.memory);
        let sample = Arc::clone(&memory);
        let mut builder = PipelineBuilder::new()
            .workers(setup.workers)
            .symbols(Arc::clone(&symbols))
            .lane_capacity(4096)
            .thresholds(setup.thresholds)
            .lag_source(source.lag(&setup.thresholds))
            .sample_interval(Duration::from_millis(2))
            .memory_source(move || MemoryUse { used_bytes: sample.load(Ordering::Relaxed), limit_bytes: 100 });
        if let Some(spill) = setup.spill {
            builder = builder.spill(spill);
        }
        let (mut sinks, source) = match setup.sink {
            None => (Vec::new(), source),
            Some(make) => {
                let (handlers, progress) = make(symbols, setup.workers);
                (handlers, source.with_sink(progress))
            }
        };
        sinks.reverse();
        let notebook = Arc::clone(&setup.notebook);
        let make_handler = |_| Recorder { notebook: Arc::clone(&notebook), sink: sinks.pop() };
        let mut pipeline = builder.start(make_handler).unwrap();
        let look = Arc::new(Mutex::new((0, DegradationLevel::Normal, Ledger::default())));
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, shown) = (Arc::clone(&stop), Arc::clone(&look));
        let thread = std::thread::spawn(move || {
            let mut ingress = pipeline.ingress().unwrap();
            let mut next_look = Instant::now();
            let ended = source.run(&mut ingress, || {
                if Instant::now() >= next_look {
                    next_look = Instant::now() + Duration::from_millis(5);
                    *shown.lock().unwrap() = (pipeline.signals().0, pipeline.level(), pipeline.ledger());
                }
                stopped.load(Ordering::Relaxed)
            });
            drop(ingress);
            let ledger = match pipeline.join() {
                Ok(finished) => {
                    for mut handler in finished.handlers {
                        handler.sink.iter_mut().for_each(SinkHandler::close_bars);
                    }
                    finished.ledger
                }
                Err(error) => *error.ledger,
            };
            (ended, ledger)
        });
        Ok(Self { notebook: setup.notebook, counters, memory, look, stop, thread: Some(thread) })
    }

    pub(crate) fn lag(&self) -> u64 {
        self.look.lock().unwrap().0
    }

    pub(crate) fn level(&self) -> DegradationLevel {
        self.look.lock().unwrap().1
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.look.lock().unwrap().2.clone()
    }

    /// How many partitions it has.
    pub(crate) fn assigned(&self) -> usize {
        self.counters.partitions().iter().filter(|partition| partition.is_assigned()).count()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub(crate) fn tell_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn end(mut self) -> (Result<PumpEnd, KafkaError>, Ledger) {
        self.tell_to_stop();
        let (ended, ledger) = self.thread.take().expect("it is ended once").join().unwrap();
        ledger.check().unwrap();
        (ended, ledger)
    }
}
