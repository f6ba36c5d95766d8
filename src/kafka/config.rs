//! Settings of a source and a sink.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as ClientError;

use super::KafkaError;

/// Where a cluster is, and how to talk to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterConfig {
    /// `HOST:PORT`, several with commas: the brokers that are asked first.
    pub brokers: String,
    /// Further properties of librdkafka's, by name: `security.protocol`, `sasl.mechanism`, `client.rack` and many more. They are set
    /// last, but for those that the source and the sink rely on, which are refused.
    pub properties: BTreeMap<String, String>,
    /// Properties that are secrets, such as `sasl.password`. They are shown nowhere.
    pub secrets: BTreeMap<String, Secret>,
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Whether a property of librdkafka's holds a secret: those whose names tell of a password, a secret or a key in the text itself.
pub fn is_secret(property: &str) -> bool {
    property.contains("password")
        || property.contains("secret")
        || matches!(property, "ssl.key.pem" | "sasl.oauthbearer.config" | "ssl_key")
}

/// Properties that a guarantee depends on, and by what they are decided instead.
const FIXED: [(&str, &str); 17] = [
    ("bootstrap.servers", "brokers"),
    ("metadata.broker.list", "brokers"),
    ("group.id", "group"),
    ("auto.offset.reset", "start"),
    ("enable.auto.offset.store", "the ledger: an offset is stored when all before it is finished"),
    ("enable.auto.commit", "commit_interval"),
    ("auto.commit.interval.ms", "commit_interval"),
    ("partition.assignment.strategy", "assignment"),
    ("session.timeout.ms", "session_timeout"),
    ("queued.max.messages.kbytes", "buffer_bytes"),
    ("queued.min.messages", "buffer_records"),
    ("fetch.max.bytes", "fetch_bytes"),
    ("fetch.message.max.bytes", "fetch_bytes"),
    ("max.partition.fetch.bytes", "fetch_bytes"),
    ("receive.message.max.bytes", "fetch_bytes"),
    ("statistics.interval.ms", "statistics_interval"),
    ("enable.idempotence", "the sink, which is always idempotent"),
];

impl ClusterConfig {
    /// A cluster without further properties.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), ..Self::default() }
    }

    /// Says what is wrong with it.
    pub(super) fn check(&self) -> Result<(), KafkaError> {
        if self.brokers.trim().is_empty() {
            return Err(KafkaError::Config("there are no brokers: give HOST:PORT, several with commas".to_owned()));
        }
        for property in self.properties.keys().chain(self.secrets.keys()) {
            if let Some((_, by)) = FIXED.iter().find(|(fixed, _)| fixed == property) {
                return Err(KafkaError::Config(format!("{property} is not to be set as it is: it is decided by {by}")));
            }
        }
        if let Some(secret) = self.properties.keys().find(|property| is_secret(property)) {
            return Err(KafkaError::Config(format!("{secret} is a secret: give it by environment or file")));
        }
        Ok(())
    }

    /// A client's properties, those of `own` first, so that an unknown one is told by its name.
    pub(super) fn client(&self, own: &[(&str, String)]) -> Result<ClientConfig, KafkaError> {
        self.check()?;
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.brokers).set("client.id", "plimsoll");
        client.set_log_level(RDKafkaLogLevel::Info);
        own.iter().for_each(|(key, value)| _ = client.set(*key, value));
        self.properties.iter().for_each(|(key, value)| _ = client.set(key, value));
        self.secrets.iter().for_each(|(key, Secret(value))| _ = client.set(key, value));
        client.create_native_config().map(drop).map_err(refused)?;
        Ok(client)
    }
}

/// A property that librdkafka refuses. Its value is not told if it is a secret, nor is what librdkafka says then, which has it in it.
pub(super) fn refused(error: ClientError) -> KafkaError {
    KafkaError::Config(match error {
        ClientError::ClientConfig(_, _, property, _) if is_secret(&property) => {
            format!("{property}: librdkafka refuses its value")
        }
        ClientError::ClientConfig(_, reason, property, _) => format!("{property}: {reason}"),
        ClientError::ClientCreation(reason) => reason,
        other => other.to_string(),
    })
}

/// Where a group begins in a partition for which it has committed nothing, or whose records it wants are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum, serde::Deserialize))]
#[cfg_attr(feature = "cli", serde(rename_all = "kebab-case"))]
pub enum StartAt {
    /// With the first record there is.
    #[default]
    Earliest,
    /// With the next record to be written.
    Latest,
    /// Not at all: the source ends with an error.
    Error,
}

/// How a group divides the partitions among its members. All members have to agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum, serde::Deserialize))]
#[cfg_attr(feature = "cli", serde(rename_all = "kebab-case"))]
pub enum AssignmentStrategy {
    /// In a rebalance only those partitions stop that move.
    #[default]
    CooperativeSticky,
    /// In a rebalance all stop; shares of neighbouring partitions.
    Range,
    /// In a rebalance all stop; one partition after the other to each member in turn.
    #[cfg_attr(feature = "cli", value(name = "roundrobin"), serde(rename = "roundrobin"))]
    RoundRobin,
}

/// What to do about an error that may pass by itself, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum, serde::Deserialize))]
#[cfg_attr(feature = "cli", serde(rename_all = "kebab-case"))]
pub enum OnError {
    /// Go on trying; the client backs off by itself.
    Retry,
    /// End with the error.
    Fail,
}

/// How a member takes part in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaConfig {
    /// The cluster.
    pub cluster: ClusterConfig,
    /// Topics. One that begins with `^` is a pattern, a POSIX extended regular expression for topics' names.
    pub topics: Vec<String>,
    /// The group.
    pub group: String,
    /// Where it begins.
    pub start: StartAt,
    /// How it divides the partitions.
    pub assignment: AssignmentStrategy,
    /// How often offsets are committed: 1 s by default. What a process has finished since its last commit comes again if it is killed.
    pub commit_interval: Duration,
    /// How long partitions that are to be given up are waited for until their records are finished, 10 s by default; what is not comes again
    /// at their next owner. Also how long the end of the source may take: it is over then, even if the client hangs.
    pub drain_timeout: Duration,
    /// After how long without a heartbeat the group gives up on a member, 45 s by default.
    pub session_timeout: Duration,
    /// How often the client tells its statistics, from which the backlog comes, 250 ms by default.
    pub statistics_interval: Duration,
    /// Bytes of records that the client may keep ready, 16 MiB by default.
    pub buffer_bytes: u64,
    /// Records that the client wants to have ready, 16 384 by default; it fetches no more while it has so many.
    pub buffer_records: u32,
    /// Bytes of one answer of a broker, 4 MiB by default. A larger record still comes, by itself.
    pub fetch_bytes: u32,
    /// Records that may be unfinished, with those that are finished behind them, 1 048 576 by default.
    pub unfinished_max: usize,
    /// How long the start waits for a broker's answer, 10 s by default.
    pub connect_timeout: Duration,
    /// What to do while no broker can be reached.
    pub on_unreachable: OnError,
    /// What to do about a topic that is not there.
    pub on_unknown_topic: OnError,
    /// What to do when a broker refuses to know us, or lets us not do what we want.
    pub on_unauthorized: OnError,
}

impl KafkaConfig {
    /// The defaults.
    pub fn new(brokers: impl Into<String>, group: impl Into<String>, topics: impl IntoIterator<Item = String>) -> Self {
        Self {
            cluster: ClusterConfig::new(brokers),
            topics: topics.into_iter().collect(),
            group: group.into(),
            start: StartAt::default(),
            assignment: AssignmentStrategy::default(),
            commit_interval: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(10),
            session_timeout: Duration::from_secs(45),
            statistics_interval: Duration::from_millis(250),
            buffer_bytes: 16 << 20,
            buffer_records: 16_384,
            fetch_bytes: 4 << 20,
            unfinished_max: 1 << 20,
            connect_timeout: Duration::from_secs(10),
            on_unreachable: OnError::Retry,
            on_unknown_topic: OnError::Fail,
            on_unauthorized: OnError::Fail,
        }
    }

    /// Says what is wrong with it, without a look at a broker.
    ///
    /// # Errors
    /// The first setting that makes no sense.
    pub fn check(&self) -> Result<(), KafkaError> {
        let wrong = |text: String| Err(KafkaError::Config(text));
        if self.topics.is_empty() {
            return wrong("there are no topics: give one or more; one that begins with ^ is a pattern".to_owned());
        }
        if let Some(topic) = self.topics.iter().find(|topic| !topic.starts_with('^') && !is_topic_name(topic)) {
            return wrong(format!(
                "{topic:?} is no topic's name: it has 1 to 249 letters, digits, dots, dashes and underscores; a pattern begins with ^"
            ));
        }
        if self.group.is_empty() {
            return wrong("there is no group: processes of one group share the partitions among them".to_owned());
        }
        let times = [
            ("commit_interval", self.commit_interval, 10),
            ("drain_timeout", self.drain_timeout, 1),
            ("session_timeout", self.session_timeout, 1000),
            ("statistics_interval", self.statistics_interval, 50),
            ("connect_timeout", self.connect_timeout, 1),
        ];
        for (name, time, least_ms) in times {
            if time.as_millis() < least_ms || time > Duration::from_secs(3600) {
                return wrong(format!("{name} = {time:?} is out of range: from {least_ms} ms to one hour"));
            }
        }
        // The client's own limits: queued.max.messages.kbytes, queued.min.messages, fetch.max.bytes.
        let sizes = [
            ("buffer_bytes", self.buffer_bytes, 64 << 10, 2047 << 20),
            ("buffer_records", self.buffer_records.into(), 1, 10_000_000),
            ("fetch_bytes", self.fetch_bytes.into(), 4 << 10, 1 << 30),
            ("unfinished_max", self.unfinished_max as u64, 1, 1 << 32),
        ];
        for (name, size, least, most) in sizes {
            if !(least..=most).contains(&size) {
                return wrong(format!("{name} = {size} is out of range: from {least} to {most}"));
            }
        }
        Ok(())
    }

    /// The consumer's properties.
    pub(super) fn consumer(&self) -> Result<ClientConfig, KafkaError> {
        self.check()?;
        let ms = |time: Duration| time.as_millis().to_string();
        let strategy = match self.assignment {
            AssignmentStrategy::CooperativeSticky => "cooperative-sticky",
            AssignmentStrategy::Range => "range",
            AssignmentStrategy::RoundRobin => "roundrobin",
        };
        let start = match self.start {
            StartAt::Earliest => "earliest",
            StartAt::Latest => "latest",
            StartAt::Error => "error",
        };
        self.cluster.client(&[
            ("group.id", self.group.clone()),
            ("auto.offset.reset", start.to_owned()),
            ("partition.assignment.strategy", strategy.to_owned()),
            ("session.timeout.ms", ms(self.session_timeout)),
            ("heartbeat.interval.ms", ms((self.session_timeout / 10).min(Duration::from_secs(3)))),
            ("enable.auto.offset.store", "false".to_owned()),
            ("enable.auto.commit", "true".to_owned()),
            ("auto.commit.interval.ms", ms(self.commit_interval)),
            ("statistics.interval.ms", ms(self.statistics_interval)),
            ("queued.max.messages.kbytes", (self.buffer_bytes >> 10).to_string()),
            ("queued.min.messages", self.buffer_records.to_string()),
            ("fetch.message.max.bytes", self.fetch_bytes.to_string()),
            ("fetch.max.bytes", self.fetch_bytes.to_string()),
            ("receive.message.max.bytes", (u64::from(self.fetch_bytes) + 512).max(1000).to_string()),
            // Answers come as soon as there is anything, and the next is asked for as soon as there is room.
            ("fetch.wait.max.ms", "100".to_owned()),
            ("fetch.error.backoff.ms", "100".to_owned()),
            ("fetch.queue.backoff.ms", "5".to_owned()),
        ])
    }

    /// The most memory that the client takes for records, in bytes: what it keeps ready, an answer in hand for each of so many brokers, and
    /// what it keeps beside each record. librdkafka fetches while it has fewer than [`buffer_records`](Self::buffer_records) and
    /// [`buffer_bytes`](Self::buffer_bytes), so the last answers come on top; `record_bytes` is the size of a record, key and payload.
    pub fn memory_bytes(&self, brokers: u64, record_bytes: u64) -> u64 {
        let record_bytes = record_bytes.max(1);
        let answers = brokers * u64::from(self.fetch_bytes);
        let kept = self.buffer_bytes.min(u64::from(self.buffer_records) * record_bytes) + answers;
        kept + kept / record_bytes * RECORD_OVERHEAD + answers
    }
}

/// What librdkafka keeps beside each record, measured.
const RECORD_OVERHEAD: u64 = 640;

/// A topic's name, as Kafka takes it (its `Topic.validate`).
pub(super) fn is_topic_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=249).contains(&name.len()) && name.bytes().all(is_legal) && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KafkaConfig {
        KafkaConfig::new("127.0.0.1:9092", "g", ["ticks".to_owned(), "^quotes-.*".to_owned()])
    }

    #[test]
    fn offsets_are_stored_by_us_alone() {
        let client = config().consumer().unwrap();
        assert_eq!(client.get("enable.auto.offset.store"), Some("false"));
        assert_eq!(client.get("partition.assignment.strategy"), Some("cooperative-sticky"));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let with = |change: fn(&mut KafkaConfig)| {
            let mut config = config();
            change(&mut config);
            config.consumer().unwrap_err().to_string()
        };
        assert!(with(|c| c.topics.clear()).contains("no topics"));
        assert!(with(|c| c.topics.push("a b".to_owned())).contains("\"a b\" is no topic's name"));
        assert!(with(|c| c.group.clear()).contains("no group"));
        assert!(with(|c| c.cluster.brokers.clear()).contains("no brokers"));
        assert!(with(|c| c.commit_interval = Duration::ZERO).contains("commit_interval = 0ns is out of range"));
        assert!(with(|c| c.buffer_bytes = 1).contains("buffer_bytes = 1 is out of range"));
        let set = |property: &str, value: &str| {
            let mut config = config();
            config.cluster.properties.insert(property.to_owned(), value.to_owned());
            config.consumer().unwrap_err().to_string()
        };
        assert!(set("enable.auto.offset.store", "true").contains("decided by the ledger"));
        assert!(set("no.such.thing", "1").contains("no.such.thing"));
        assert!(set("socket.timeout.ms", "soon").contains("socket.timeout.ms"));
        assert!(set("sasl.password", "x").contains("secret"));
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        let mut config = config();
        let secret = || Secret::new("hunter2");
        config.cluster.secrets.insert("sasl.password".to_owned(), secret());
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.consumer().unwrap().get("sasl.password"), Some("hunter2"));
        config.cluster.secrets.insert("ssl.key.password.of.no.such.name".to_owned(), secret());
        let error = config.consumer().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}
