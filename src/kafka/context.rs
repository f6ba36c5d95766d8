//! What the client tells us on the way: rebalances, statistics, commits, errors.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError as ClientError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::counters::{KafkaCount, KafkaCounters};
use super::error::Trouble;

/// A consumer that tells us.
pub(super) type Client = BaseConsumer<Context>;

/// A change of the assignment that is to be carried out.
#[derive(Debug)]
pub(super) enum Change {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
}

/// All callbacks run on the thread that polls; the locks are there since the client is shared while it is closed.
pub(super) struct Context {
    counters: Arc<KafkaCounters>,
    changes: Mutex<VecDeque<Change>>,
    /// What the client has said last of each kind of trouble, in words.
    reasons: Mutex<HashMap<&'static str, String>>,
    /// Why the last commit has failed.
    commit_error: Mutex<Option<Code>>,
    /// Nobody looks at changes any more.
    is_closing: AtomicBool,
}

impl Context {
    pub(super) fn new(counters: Arc<KafkaCounters>) -> Self {
        let is_closing = AtomicBool::new(false);
        Self {
            counters,
            changes: Mutex::default(),
            reasons: Mutex::default(),
            commit_error: Mutex::default(),
            is_closing,
        }
    }

    pub(super) fn next_change(&self) -> Option<Change> {
        lock(&self.changes).pop_front()
    }

    /// From here on changes are carried out as they come.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// What the client said of this trouble last; else what the error says.
    pub(super) fn reason(&self, trouble: Trouble, error: &ClientError) -> String {
        let told = lock(&self.reasons).get(kind_of(trouble)).cloned();
        told.unwrap_or_else(|| error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kind_of(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Unreachable => "unreachable",
        Trouble::UnknownTopic => "unknown topic",
        Trouble::Unauthorized => "unauthorized",
        Trouble::Passing => "passing",
        Trouble::Lasting => "lasting",
    }
}

/// What we read of librdkafka's statistics (its STATISTICS.md).
#[derive(serde::Deserialize)]
struct Statistics<'a> {
    #[serde(borrow, default)]
    brokers: HashMap<Cow<'a, str>, BrokerStatistics<'a>>,
    #[serde(borrow, default)]
    topics: HashMap<Cow<'a, str>, TopicStatistics<'a>>,
}

#[derive(serde::Deserialize)]
struct BrokerStatistics<'a> {
    nodeid: i32,
    state: Cow<'a, str>,
}

#[derive(serde::Deserialize)]
struct TopicStatistics<'a> {
    #[serde(borrow, default)]
    partitions: HashMap<Cow<'a, str>, PartitionStatistics<'a>>,
}

#[derive(serde::Deserialize)]
struct PartitionStatistics<'a> {
    partition: i32,
    leader: i32,
    fetch_state: Cow<'a, str>,
    lo_offset: i64,
    hi_offset: i64,
    committed_offset: i64,
}

impl Statistics<'_> {
    fn tell(&self, counters: &KafkaCounters) {
        let now = counters.now_ms();
        let is_up = |node| self.brokers.values().any(|broker| broker.nodeid == node && broker.state == "UP");
        for partition in counters.partitions().iter().filter(|partition| partition.is_assigned()) {
            let topic = self.topics.get(&*partition.topic);
            let number = partition.partition.to_string();
            let Some(told) = topic.and_then(|topic| topic.partitions.get(number.as_str())) else { continue };
            debug_assert_eq!(told.partition, partition.partition);
            partition.set_watermarks(told.lo_offset, told.hi_offset);
            // While it is paused nothing is asked, and so nothing is news.
            if told.fetch_state == "active" && is_up(told.leader) && !counters.is_paused() {
                partition.set_fresh(now);
            }
            if told.committed_offset >= 0 {
                partition.set_committed(told.committed_offset);
            }
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // What matters of it comes as an error, too, and is told once; connections that are tried again and again are not.
        match level {
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info => tracing::debug!(facility, "{text}"),
            _ => tracing::info!(facility, "{text}"),
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        match serde_json::from_slice::<Statistics<'_>>(json) {
            Ok(statistics) => statistics.tell(&self.counters),
            Err(error) => {
                tracing::warn!(%error, "the kafka client's statistics cannot be read: the backlog is not known")
            }
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        let trouble = error.rdkafka_error_code().map_or(Trouble::Passing, Trouble::of_code);
        lock(&self.reasons).insert(kind_of(trouble), reason.to_owned());
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, client: &Client, error: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let is_assignment = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.is_closing.load(Ordering::Relaxed) {
            let _ = if is_assignment { assign(client, partitions) } else { revoke(client, partitions) };
            return;
        }
        // Carried out when the poll is over: that may take a while, and needs what the polling thread owns.
        let partitions = partitions.clone();
        let change = if is_assignment { Change::Assign(partitions) } else { Change::Revoke(partitions) };
        lock(&self.changes).push_back(change);
    }

    fn commit_callback(&self, result: KafkaResult<()>, partitions: &TopicPartitionList) {
        match result {
            Ok(()) => {
                self.counters.add(KafkaCount::Commits, 1);
                *lock(&self.commit_error) = None;
            }
            // There was nothing to commit.
            Err(ClientError::ConsumerCommit(Code::NoOffset)) => return,
            Err(error) => {
                self.counters.add(KafkaCount::CommitFailures, 1);
                // It is tried again and again, and told once.
                let code = error.rdkafka_error_code();
                if std::mem::replace(&mut *lock(&self.commit_error), code) != code {
                    tracing::warn!(%error, "offsets could not be committed: they are committed with the next ones");
                }
                return;
            }
        }
        for element in partitions.elements() {
            if let (Ok(()), Offset::Offset(offset)) = (element.error(), element.offset()) {
                self.counters.partition(element.topic(), element.partition()).set_committed(offset);
            }
        }
    }
}

/// Gives partitions up, as the group's protocol wants it.
pub(super) fn revoke(client: &Client, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match client.rebalance_protocol() {
        RebalanceProtocol::Cooperative => client.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => client.unassign(),
    }
}

/// Takes partitions, as the group's protocol wants it.
pub(super) fn assign(client: &Client, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match client.rebalance_protocol() {
        RebalanceProtocol::Cooperative => client.incremental_assign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => client.assign(partitions),
    }
}
