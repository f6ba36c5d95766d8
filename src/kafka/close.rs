//! Leaving a group within a time, whatever the client does.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::Client;
use super::counters::{KafkaCount, KafkaCounters};

/// A client that takes part in a group. Dropped, however it comes to that, it leaves the group.
pub(super) struct Member(pub(super) Client);

impl Deref for Member {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Nobody else answers a rebalance any more, and the client waits for an answer before it is gone.
        self.0.context().close();
    }
}

/// The client gets as long at least, however little time is left.
const LEAST: Duration = Duration::from_secs(1);

/// Between two looks whether the client is closed.
const STEP: Duration = Duration::from_millis(20);

/// Commits, leaves the group and closes the client; gives up at the deadline, and leaves the client to itself.
pub(super) fn leave(client: Member, offsets: TopicPartitionList, counters: &Arc<KafkaCounters>, deadline: Instant) {
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
        drop(client);
    };
    // A thread of its own, since nothing of this can be called off.
    let thread = std::thread::Builder::new().name("plimsoll-kafka-close".to_owned()).spawn(close);
    let is_closed = thread.is_ok() && closed.recv_deadline(deadline.max(Instant::now() + LEAST)).is_ok();
    if !is_closed {
        tracing::warn!(
            "the kafka client was not closed in time: the group finds out by itself, and what was not committed comes again"
        );
    }
}
