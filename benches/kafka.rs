//! How fast one member of a consumer group takes records, beside a bare loop that only counts them.
//!
//! ```text
//!   brokers (librdkafka's mock, or PLIMSOLL_TEST_KAFKA) ──▶ client ──▶ bare: poll, count
//!                                                                 └──▶ ours: poll, decode, offer, account ──▶ worker, which counts
//! ```
//!
//! Run with `cargo bench --features kafka --bench kafka`. Both take the same records from the first on, in a group of their own each time; the
//! bare loop with the client's own settings. Timed from the first record to the last, as joining a group takes seconds.

#[path = "harness/mod.rs"]
mod harness;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::{Options, Rounds, machine};
use plimsoll::kafka::{KafkaConfig, KafkaSource, OnUndecodable, TickDecoder, TickFormat};
use plimsoll::source::rows::{RowFormat, RowsConfig};
use plimsoll::zerocopy::IntoBytes;
use plimsoll::{Context, Handler, PipelineBuilder, SymbolId, Symbols, Tick};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

const ROUNDS: usize = 7;
const PARTITIONS: i32 = 16;
/// Of each topic. The mock keeps 5 MB and 100 000 records of a partition.
const RECORDS: u64 = 1_000_000;
const SYMBOLS: u64 = 200;
const CONTENDERS: [&str; 4] = ["bare, ticks", "ours, ticks", "bare, json", "ours, json"];

/// Counts messages, for all workers.
struct Count(Arc<AtomicU64>);

impl Handler<Tick> for Count {
    fn process(&mut self, _: &Tick, _: &Context) {
        // One worker.
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

fn produce(brokers: &str, topic: &str, records: u64, is_json: bool) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "200000")
        .create()
        .expect("a producer");
    let price = "36.67".parse().expect("a price");
    for n in 0..records {
        let symbol = n % SYMBOLS;
        let key = format!("S{symbol}");
        let payload = if is_json {
            format!("{{\"symbol\":\"{key}\",\"ts\":{n},\"price\":36.67,\"size\":100}}").into_bytes()
        } else {
            Tick::trade(SymbolId::new(0), n, price, 100).as_bytes().to_vec()
        };
        let partition = (n % PARTITIONS as u64) as i32;
        let mut record = BaseRecord::to(topic).partition(partition).key(&key).payload(&payload);
        while let Err((_, back)) = producer.send(record) {
            producer.poll(Duration::from_millis(5));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(60)).expect("all is written");
}

fn group() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn bare(brokers: &str, topic: &str, records: u64) -> Duration {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group())
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[topic]).expect("a topic");
    let (mut count, mut start) = (0, None);
    while count < records {
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            let _record = record.expect("a good record");
            start.get_or_insert_with(Instant::now);
            count += 1;
        }
    }
    start.map_or(Duration::ZERO, |start| start.elapsed())
}

fn ours(brokers: &str, topic: &str, records: u64, format: TickFormat) -> Duration {
    let symbols = Arc::new(Symbols::default());
    let decoder = TickDecoder::new(Arc::clone(&symbols), format, "").expect("a decoder");
    let config = KafkaConfig::new(brokers, group(), [topic.to_owned()]);
    let source = KafkaSource::open(config, decoder, OnUndecodable::Stop).expect("a source");
    let done = Arc::new(AtomicU64::new(0));
    let mut pipeline = PipelineBuilder::new()
        .symbols(symbols)
        .lane_capacity(65_536)
        .lag_source(source.lag(&Default::default()))
        .start(|_| Count(Arc::clone(&done)))
        .expect("a pipeline");
    let mut ingress = pipeline.ingress().expect("an ingress");
    let (mut start, mut elapsed) = (None, Duration::ZERO);
    let ended = source.run(&mut ingress, || {
        let done = done.load(Ordering::Acquire);
        if done > 0 && start.is_none() {
            start = Some(Instant::now());
        }
        elapsed = start.map_or(Duration::ZERO, |start| start.elapsed());
        done >= records
    });
    ended.expect("a good run");
    drop(ingress);
    let ledger = pipeline.join().expect("a good end").ledger;
    assert_eq!((ledger.processed(), ledger.redelivered), (records, 0));
    elapsed
}

fn main() {
    let options = Options::parse(&[], ROUNDS);
    println!("{}", machine());
    let mock = std::env::var("PLIMSOLL_TEST_KAFKA").err().map(|_| MockCluster::new(1).expect("a mock"));
    let brokers = mock
        .as_ref()
        .map_or_else(|| std::env::var("PLIMSOLL_TEST_KAFKA").expect("it is set"), |m| m.bootstrap_servers());
    let records = if options.quick { 20_000 } else { RECORDS };
    let mut topics = HashMap::new();
    for (what, is_json) in [("ticks", false), ("json", true)] {
        let topic = format!("{}-{what}", group());
        if let Some(mock) = &mock {
            mock.create_topic(&topic, PARTITIONS, 1).expect("a topic");
        }
        produce(&brokers, &topic, records, is_json);
        topics.insert(what, topic);
    }
    let rounds = Rounds::run(&CONTENDERS, options.rounds, |contender| {
        let elapsed = match contender {
            0 => bare(&brokers, &topics["ticks"], records),
            1 => ours(&brokers, &topics["ticks"], records, TickFormat::Raw),
            2 => bare(&brokers, &topics["json"], records),
            _ => {
                let rows = Box::new(RowsConfig::new(RowFormat::Ndjson));
                ours(&brokers, &topics["json"], records, TickFormat::Rows { rows, key_is_symbol: false })
            }
        };
        elapsed.as_secs_f64() * 1e9 / records as f64
    });
    println!(
        "{records} records in {PARTITIONS} partitions, ns each: median (best); speed, of the bare loop's: quartiles and median"
    );
    for (contender, name) in CONTENDERS.iter().enumerate() {
        let [low, median, high] = rounds.ratio(contender / 2 * 2, contender);
        println!(
            "{name:<12} {:>7.0} ({:.0}) {:>7.2} M/s   {low:.2} {median:.2} {high:.2}",
            rounds.median(contender),
            rounds.best(contender),
            1e3 / rounds.median(contender)
        );
    }
    options.write_json(&json!({ "bench": "kafka", "records": records, "ns": rounds.to_json() }));
}
