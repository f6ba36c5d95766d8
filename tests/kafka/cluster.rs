//! The cluster under test: librdkafka's mock in this process, or the brokers that `PLIMSOLL_TEST_KAFKA` names.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) brokers: String,
    pub(crate) mock: Option<MockCluster<'static, DefaultProducerContext>>,
    producer: BaseProducer,
    topics: std::cell::RefCell<Vec<String>>,
}

/// Waits until something is so.
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    until_within(PATIENCE, what, is_so);
}

/// The same, with another patience.
pub(crate) fn until_within(patience: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < patience, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until so many records of a topic are committed. librdkafka's mock refuses commits while a group rebalances, which Kafka does not.
pub(crate) fn until_committed(cluster: &Cluster, group: &str, topic: &str, partitions: i32, records: u64) {
    // Long, as after errors of the group's coordinator the client may take a minute to join again.
    until_within(4 * PATIENCE, "all is committed", || {
        let committed = cluster.committed(group, topic, partitions);
        committed.values().map(|(offset, _)| *offset as u64).sum::<u64>() == records
    });
}

/// A name that nobody has used.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
    format!("plimsoll-test-{what}-{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Cluster {
    /// The one that is configured, or a mock.
    pub(crate) fn any() -> Self {
        match std::env::var("PLIMSOLL_TEST_KAFKA") {
            Ok(brokers) => Self::new(brokers, None),
            Err(_) => Self::mock(),
        }
    }

    /// A mock, for what only a mock can be made to do. Three brokers.
    pub(crate) fn mock() -> Self {
        let mock = MockCluster::new(3).unwrap();
        Self::new(mock.bootstrap_servers(), Some(mock))
    }

    /// What went on is told with `RUST_LOG` set, as in `RUST_LOG=plimsoll=info`.
    #[cfg(feature = "cli")]
    fn tell() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }

    #[cfg(not(feature = "cli"))]
    fn tell() {}

    fn new(brokers: String, mock: Option<MockCluster<'static, DefaultProducerContext>>) -> Self {
        Self::tell();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &brokers).set("linger.ms", "1").set("acks", "all");
        // Real clusters make the test's topics by themselves, or by this.
        config.set("allow.auto.create.topics", "true");
        let producer = config.create().unwrap();
        Self { brokers, mock, producer, topics: Default::default() }
    }

    pub(crate) fn fake(&self) -> &MockCluster<'static, DefaultProducerContext> {
        self.mock.as_ref().unwrap()
    }

    /// Makes a topic of its own.
    pub(crate) fn topic(&self, partitions: i32) -> String {
        let topic = unique("topic");
        match &self.mock {
            Some(mock) => mock.create_topic(&topic, partitions, 3).unwrap(),
            None => self.admin("create", &topic, partitions),
        }
        self.topics.borrow_mut().push(topic.clone());
        let client: BaseConsumer = self.client().create().unwrap();
        until("the topic is there", || {
            let told = client.fetch_metadata(Some(&topic), Duration::from_secs(5));
            told.is_ok_and(|told| told.topics().first().is_some_and(|t| t.partitions().len() == partitions as usize))
        });
        topic
    }

    fn admin(&self, what: &str, topic: &str, partitions: i32) {
        use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
        let admin: AdminClient<_> = self.client().create().unwrap();
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        let new = [NewTopic::new(topic, partitions, TopicReplication::Fixed(1))];
        let names = [topic];
        if what == "create" {
            let answer = wait(admin.create_topics(&new, &options)).unwrap();
            assert!(answer.iter().all(Result::is_ok), "{answer:?}");
        } else {
            let _ = wait(admin.delete_topics(&names, &options));
        }
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// Writes a record; it is there after the next [`flush`](Self::flush).
    pub(crate) fn produce(&self, topic: &str, partition: i32, key: &str, payload: &[u8]) {
        let mut record = BaseRecord::to(topic).partition(partition).key(key).payload(payload);
        while let Err((error, back)) = self.producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(rdkafka::types::RDKafkaErrorCode::QueueFull), "{error}");
            self.producer.poll(Duration::from_millis(10));
            record = back;
        }
    }

    pub(crate) fn flush(&self) {
        self.producer.flush(PATIENCE).unwrap();
    }

    /// Numbered ticks: number n is of symbol `S{n % symbols}`, in the partition of its symbol; as JSON.
    pub(crate) fn produce_numbers(&self, topic: &str, partitions: i32, symbols: u64, numbers: std::ops::Range<u64>) {
        for n in numbers {
            let symbol = n % symbols;
            let json = format!("{{\"symbol\":\"S{symbol}\",\"ts\":{n},\"price\":1.5,\"size\":{n}}}");
            self.produce(topic, (symbol % partitions as u64) as i32, &format!("S{symbol}"), json.as_bytes());
        }
        self.flush();
    }

    /// What a group has committed, by partition, and what is written beside it.
    pub(crate) fn committed(&self, group: &str, topic: &str, partitions: i32) -> BTreeMap<i32, (i64, String)> {
        let client: BaseConsumer = self.client().set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        // Errors that a test has the mock make may come to this client, too.
        let mut told = None;
        until("the group tells what is committed", || {
            told = client.committed_offsets(list.clone(), PATIENCE).ok();
            told.is_some()
        });
        let told = told.unwrap();
        let known = told.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), (offset, element.metadata().to_owned()))),
            _ => None,
        });
        known.collect()
    }

    /// By partition, the offset that the next record gets.
    pub(crate) fn ends(&self, topic: &str, partitions: i32) -> BTreeMap<i32, i64> {
        let client: BaseConsumer = self.client().create().unwrap();
        let end = |partition| (partition, client.fetch_watermarks(topic, partition, PATIENCE).unwrap().1);
        (0..partitions).map(end).collect()
    }

    /// All records of a topic, read by a plain client.
    pub(crate) fn read_all(&self, topic: &str, partitions: i32) -> Vec<OwnedMessage> {
        let client: BaseConsumer = self.client().set("group.id", unique("reader")).create().unwrap();
        let mut list = TopicPartitionList::new();
        let mut left = 0;
        for (partition, end) in self.ends(topic, partitions) {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
            left += end;
        }
        client.assign(&list).unwrap();
        let mut records = Vec::new();
        until("all is read", || {
            while let Some(Ok(record)) = client.poll(Duration::from_millis(10)) {
                records.push(record.detach());
            }
            records.len() as i64 >= left
        });
        records
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.mock.is_none() {
            self.topics.borrow().iter().for_each(|topic| self.admin("delete", topic, 0));
        }
    }
}

/// Runs a future to its end; the admin client's own thread completes it.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
        std::thread::park();
    }
}

/// Payload as text.
pub(crate) fn text(record: &OwnedMessage) -> String {
    String::from_utf8(record.payload().unwrap().to_vec()).unwrap()
}
