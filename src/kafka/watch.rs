//! A look at the cluster from beside: what the client's statistics do not tell. A thread and a client of its own, so that the thread that polls
//! never waits for an answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::counters::{KafkaCount, KafkaCounters};
use super::error::KafkaError;
use super::probe::{self, Listener};

/// Between two looks at watermarks that the client does not ask for.
const INTERVAL: Duration = Duration::from_millis(500);
/// Between two looks at the group's members.
const MEMBERS_INTERVAL: Duration = Duration::from_secs(10);
/// How long an answer is waited for.
const WAIT: Duration = Duration::from_secs(2);

/// Ends the thread when it is dropped; that does not wait for it.
pub(super) struct Watch {
    _stop: Sender<()>,
}

impl Watch {
    /// `config`: of the client that it looks on beside.
    pub(super) fn start(
        config: ClientConfig,
        group: String,
        counters: &Arc<KafkaCounters>,
    ) -> Result<Self, KafkaError> {
        let (stop, stopped) = bounded(0);
        let (client, counters) = (probe::client(config)?, Arc::clone(counters));
        let thread = std::thread::Builder::new().name("plimsoll-kafka-watch".to_owned());
        let thread = thread.spawn(move || run(&client, &group, &counters, &stopped));
        thread.map_err(|error| KafkaError::Client(format!("cannot start a thread: {error}")))?;
        Ok(Self { _stop: stop })
    }
}

fn run(client: &BaseConsumer<Listener>, group: &str, counters: &KafkaCounters, stopped: &Receiver<()>) {
    let is_stopped = || stopped.recv_timeout(Duration::ZERO) == Err(RecvTimeoutError::Disconnected);
    let mut members_at = Instant::now();
    while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        // Has the client tell its troubles, which are told elsewhere.
        while client.poll(Duration::ZERO).is_some() {}
        let is_asked = counters.is_paused() || counters.is_stale();
        let assigned = counters.partitions().into_iter().filter(|partition| is_asked && partition.is_assigned());
        for partition in assigned {
            if is_stopped() {
                return;
            }
            let Ok((low, high)) = client.fetch_watermarks(&partition.topic, partition.partition, WAIT) else { break };
            partition.set_watermarks(low, high);
            partition.set_fresh(counters.now_ms());
        }
        if Instant::now() >= members_at {
            members_at = Instant::now() + MEMBERS_INTERVAL;
            let told = client.fetch_group_list(Some(group), WAIT).ok();
            let members = told.and_then(|told| told.groups().first().map(|group| group.members().len()));
            if let Some(members) = members {
                counters.set(KafkaCount::Members, members as u64);
            }
        }
    }
}
