//! Leaving a group within a time, whatever the client does.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{RecvTimeoutError, bounded};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::Client;
use super::counters::{KafkaCount, KafkaCounters};

/// A client that takes part in a group. Dropped, however it comes to that, it leaves the group; within a time, even if the client hangs.
pub(super) struct Member(
    /// There until it is dropped.
    Option<Client>,
);

impl Member {
    pub(super) fn new(client: Client) -> Self {
        Self(Some(client))
    }
}

impl Deref for Member {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let Some(client) = self.0.take() else { return };
        // Nobody else answers a rebalance any more, and the client waits for an answer before it is gone.
        client.context().close();
        let (tell, gone) = bounded::<()>(0);
        let close = move || {
            drop(client);
            drop(tell);
        };
        let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(close);
        if thread.is_ok() && gone.recv_timeout(DROP) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the kafka client does not end: the group finds out by itself");
        }
    }
}

/// Where clients end.
const THREAD: &str = "plimsoll-kafka-close";

/// How long a client that is dropped is waited for.
const DROP: Duration = Duration::from_secs(5);

/// The client gets as long at least, however little time is left.
const LEAST: Duration = Duration::from_secs(1);

/// Between two looks whether the client is closed.
const STEP: Duration = Duration::from_millis(20);

/// Commits, leaves the group and closes the client; gives up at the deadline, and leaves the client to itself.
pub(super) fn leave(mut client: Member, offsets: TopicPartitionList, counters: &Arc<KafkaCounters>, deadline: Instant) {
    let (tell, closed) = bounded(1);
    let counters = Arc::clone(counters);
    let close = move || {
        if offsets.count() > 0 {
            match client.commit(&offsets, CommitMode::Sync) {
                Ok(()) => counters.add(KafkaCount::Commits, 1),
                Err(error) => {
                    counters.add(KafkaCount::CommitFailures, 1);
                    tracing::warn!(%error, "the last offsets could not be committed: what they cover comes again");
                }
            }
        }
        client.context().close();
        match client.close_queue() {
            Ok(()) => {
                while !client.closed() {
                    client.poll(STEP);
                }
            }
            Err(error) => tracing::warn!(%error, "the group could not be left in good order"),
        }
        let _ = tell.send(());
        // That frees the client's memory, nothing else, and nobody waits for it.
        drop(client.0.take());
    };
    // A thread of its own, since nothing of this can be called off.
    let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(close);
    let is_closed = thread.is_ok() && closed.recv_deadline(deadline.max(Instant::now() + LEAST)).is_ok();
    if !is_closed {
        tracing::warn!(
            "the kafka client was not closed in time: the group finds out by itself, and what was not committed comes again"
        );
    }
}
