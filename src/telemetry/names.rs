//! Names and help texts of all series. The first three are the reference's.

#[cfg(feature = "kafka")]
use crate::kafka::KafkaCount;
use crate::source::FeedCount;

pub(super) const LEVEL: (&str, &str) =
    ("k2_degradation_level", "Current degradation level (0=normal, 4=circuit_break)");
pub(super) const TRANSITIONS: (&str, &str) = ("k2_degradation_transitions_total", "Degradation level transitions");
pub(super) const SHED: (&str, &str) = ("k2_messages_shed_total", "Messages shed, by the symbol's tier and the reason");

pub(super) const OFFERED: (&str, &str) = ("k2_messages_offered_total", "Messages that producers offered");
pub(super) const REDELIVERED: (&str, &str) = (
    "k2_messages_redelivered_total",
    "Of the offered messages, those that the source knows to have been offered before",
);
pub(super) const ACCEPTED: (&str, &str) = ("k2_messages_accepted_total", "Messages taken into a lane");
pub(super) const REFUSED: (&str, &str) = ("k2_messages_refused_total", "Messages refused by the intake gate");
pub(super) const FULL: (&str, &str) = ("k2_messages_full_total", "Messages turned away from a full lane");
pub(super) const PROCESSED: (&str, &str) = ("k2_messages_processed_total", "Messages that a handler got, by priority");
pub(super) const BY_PRIORITY: (&str, &str) = (
    "k2_messages_by_priority_total",
    "What became of messages, by priority; a replayed one was spilled before, every other has one outcome",
);
pub(super) const OVER_BUDGET: (&str, &str) =
    ("k2_messages_over_budget_total", "Messages over their priority's budget, which got the verdict of the next level");
pub(super) const SHED_SHARE: (&str, &str) =
    ("k2_proportional_shed_ratio", "Share of a priority's symbols that is shed by the lag");
pub(super) const CONFLATED: (&str, &str) = (
    "k2_messages_conflated_total",
    "Messages left out, since a newer one of the same state came before the handler had them",
);
pub(super) const HELD: (&str, &str) =
    ("k2_messages_held", "Messages off their lanes that wait for the handler, or for a newer one of the same state");
pub(super) const IN_FLIGHT: (&str, &str) = ("k2_messages_in_flight", "Messages in lanes, not yet finished");
pub(super) const GAPS: (&str, &str) =
    ("k2_symbol_gaps_total", "Holes in a symbol's stream that were announced to a handler");

pub(super) const SPILLED: (&str, &str) = ("k2_messages_spilled_total", "Messages written to the spill log");
pub(super) const REPLAYED: (&str, &str) =
    ("k2_messages_replayed_total", "Messages read back from the spill log and handed to a handler");
pub(super) const RECOVERED: (&str, &str) =
    ("k2_messages_recovered_total", "Messages found in the spill log at the start, lost ones included");
pub(super) const SPILL_LOST: (&str, &str) =
    ("k2_messages_spill_lost_total", "Messages lost from the spill log by a fault that was reported");
pub(super) const SPILL_PENDING: (&str, &str) = ("k2_spill_pending_messages", "Messages that wait in the spill log");
pub(super) const SPILL_BYTES: (&str, &str) = ("k2_spill_disk_bytes", "Disk that the spill log takes");
pub(super) const SPILL_BUDGET: (&str, &str) =
    ("k2_spill_budget_bytes", "Disk that the spill log may take; 0 without one");
pub(super) const SPILL_SEGMENTS: (&str, &str) = ("k2_spill_segments", "Segment files of the spill log");
pub(super) const SPILL_FULL: (&str, &str) =
    ("k2_spill_full", "1 while a worker's spill log has no room, so that messages are shed as spill_full");
pub(super) const SPILL_NOT_READY: (&str, &str) =
    ("k2_spill_segment_not_ready_total", "How often a worker needed a new segment and none was ready");
pub(super) const SPILL_SYNC_FAILURES: (&str, &str) =
    ("k2_spill_sync_failures_total", "How often the spill log could not be written back to the disk");

pub(super) const BOOKS: (&str, &str) = ("k2_books", "Symbols that have a book");
pub(super) const BOOKS_STALE: (&str, &str) =
    ("k2_books_stale", "Books that have lost messages and were not rebuilt yet");
pub(super) const BOOKS_STALE_SECONDS: (&str, &str) =
    ("k2_books_stale_seconds", "For how long books were stale so far, by event time, all symbols together");
pub(super) const BBO_CHANGES: (&str, &str) = ("k2_bbo_changes_total", "Changes of a best bid or offer");
pub(super) const BOOKS_UNMATCHED: (&str, &str) =
    ("k2_books_unmatched_total", "Messages that took from a price level what was not there");

/// A feed's series.
pub(super) const fn feed(count: FeedCount) -> (&'static str, &'static str) {
    match count {
        FeedCount::Bytes => ("k2_feed_bytes_total", "Bytes that a feed has read"),
        FeedCount::BytesTotal => ("k2_feed_size_bytes", "Bytes that there are to read; 0 when not known"),
        FeedCount::Packets => ("k2_feed_packets_total", "Packets received, all lines together"),
        FeedCount::Messages => ("k2_feed_messages_total", "Messages decoded, or rows read"),
        FeedCount::Malformed => ("k2_feed_malformed_total", "Malformed messages and rows that were left out"),
        FeedCount::Foreign => {
            ("k2_feed_foreign_packets_total", "Packets that are not the feed's, and records that make no tick")
        }
        FeedCount::Duplicates => ("k2_feed_duplicates_total", "Messages that came again, and were dropped"),
        FeedCount::Reordered => {
            ("k2_feed_reordered_total", "Messages that came out of order, and were put in their place")
        }
        FeedCount::Gaps => ("k2_feed_gaps_total", "Holes that were announced to handlers"),
        FeedCount::Missed => ("k2_feed_missed_total", "Messages in announced holes"),
        FeedCount::Requested => ("k2_feed_requested_total", "Messages that were asked for again"),
        FeedCount::Recovered => ("k2_feed_recovered_total", "Messages that came since they were asked for again"),
        FeedCount::KernelDrops => {
            ("k2_feed_kernel_drops_total", "Datagrams that the kernel dropped for lack of room in a receive buffer")
        }
        FeedCount::Unresolved => {
            ("k2_feed_unresolved_total", "Messages about orders or symbols that the feed does not know")
        }
        FeedCount::Untracked => ("k2_feed_untracked_orders_total", "Orders that found the order table full"),
        FeedCount::Orders => ("k2_feed_orders", "Orders in the order table"),
        FeedCount::Backlog => {
            ("k2_feed_backlog_messages", "Messages that have arrived and wait for the feed; part of the lag")
        }
    }
}

/// A Kafka source's series.
#[cfg(feature = "kafka")]
pub(super) const fn kafka(count: KafkaCount) -> (&'static str, &'static str) {
    match count {
        KafkaCount::Records => ("k2_kafka_records_total", "Records taken from partitions"),
        KafkaCount::Bytes => ("k2_kafka_bytes_total", "Bytes of keys and payloads of records taken"),
        KafkaCount::Messages => ("k2_kafka_messages_total", "Messages that records were made into"),
        KafkaCount::Undecodable => ("k2_kafka_undecodable_total", "Records that could not be decoded"),
        KafkaCount::DeadLetters => {
            ("k2_kafka_dead_letters_total", "Undecodable records that are safe with the dead letters")
        }
        KafkaCount::Rebalances => ("k2_kafka_rebalances_total", "Rebalances after which partitions were assigned"),
        KafkaCount::Lost => (
            "k2_kafka_lost_partitions_total",
            "Partitions that went without notice, as the group had given up on this member",
        ),
        KafkaCount::GivenUp => {
            ("k2_kafka_given_up_records_total", "Records that were not finished when their partition was given up")
        }
        KafkaCount::Commits => ("k2_kafka_commits_total", "Commits that a broker has acknowledged"),
        KafkaCount::CommitFailures => ("k2_kafka_commit_failures_total", "Commits that failed"),
        KafkaCount::Pauses => ("k2_kafka_pauses_total", "How often all partitions were paused"),
        KafkaCount::Errors => ("k2_kafka_errors_total", "Errors that the client reported and goes on after"),
        KafkaCount::Members => ("k2_kafka_group_members", "Members of the group; 0 while not known"),
    }
}

#[cfg(feature = "kafka")]
mod of_kafka {
    pub(crate) const KAFKA_PAUSED: (&str, &str) =
        ("k2_kafka_paused", "1 while all partitions are paused: at CIRCUIT_BREAK, or since lanes have no room");
    pub(crate) const KAFKA_LAG_STALE: (&str, &str) = (
        "k2_kafka_lag_stale",
        "1 while the backlog may be wrong, since a partition's broker has not told its end for a while",
    );
    pub(crate) const KAFKA_BACKLOG: (&str, &str) =
        ("k2_kafka_backlog_messages", "Records that wait in the assigned partitions: high watermark less position");
    pub(crate) const RECOMMENDED_INSTANCES: (&str, &str) = (
        "k2_recommended_instances",
        "How many members the group should have: more than there are, if the lag has been high for long",
    );
    pub(crate) const KAFKA_PARTITION_ASSIGNED: (&str, &str) =
        ("k2_kafka_partition_assigned", "1 while the partition is assigned to this member");
    pub(crate) const KAFKA_PARTITION_PAUSED: (&str, &str) =
        ("k2_kafka_partition_paused", "1 while the partition is assigned and paused");
    pub(crate) const KAFKA_PARTITION_POSITION: (&str, &str) =
        ("k2_kafka_partition_position", "Offset of the next record to be taken; NaN while not known");
    pub(crate) const KAFKA_PARTITION_COMMITTED: (&str, &str) =
        ("k2_kafka_partition_committed_offset", "Committed offset, as this member knows it; NaN while not known");
    pub(crate) const KAFKA_PARTITION_HIGH: (&str, &str) =
        ("k2_kafka_partition_high_watermark", "Offset that the next record to be written gets; NaN while not known");
    pub(crate) const KAFKA_PARTITION_LAG: (&str, &str) =
        ("k2_kafka_partition_lag_messages", "Records that wait in the partition for this member");
    pub(crate) const KAFKA_PARTITION_REDELIVERED: (&str, &str) =
        ("k2_kafka_partition_redelivered_total", "Messages of the partition that had been offered before");
    pub(crate) const KAFKA_PARTITION_SKIPPED: (&str, &str) = (
        "k2_kafka_partition_skipped_offsets_total",
        "Offsets that no record came for: markers of transactions, compacted or deleted records",
    );
    pub(crate) const KAFKA_SINK_DELIVERED: (&str, &str) =
        ("k2_kafka_sink_delivered_total", "Records of the sink that the cluster has acknowledged");
    pub(crate) const KAFKA_SINK_FAILED: (&str, &str) =
        ("k2_kafka_sink_failed_total", "Records of the sink that could not be delivered");
    pub(crate) const KAFKA_SINK_LEFT_OUT: (&str, &str) =
        ("k2_kafka_sink_left_out_total", "Ticks that the sink's format has no form for");
    pub(crate) const KAFKA_SINK_ON_THEIR_WAY: (&str, &str) =
        ("k2_kafka_sink_pending_records", "Records of the sink that are not acknowledged yet");
}
#[cfg(feature = "kafka")]
pub(super) use of_kafka::*;

pub(super) const LAG_THRESHOLD: (&str, &str) =
    ("k2_degradation_lag_threshold_messages", "Lag from which the level is at least this one");
pub(super) const MEMORY_THRESHOLD: (&str, &str) =
    ("k2_degradation_memory_threshold_ratio", "Share of the memory limit from which the level is at least this one");
pub(super) const PINNED: (&str, &str) = ("k2_degradation_pinned", "1 while the level is held by hand");
pub(super) const OBSERVING: (&str, &str) = (
    "k2_degradation_observe_mode",
    "1 in a dry run: the level has no effect, and k2_observed_* say what it would have had",
);
pub(super) const OBSERVED_SHED: (&str, &str) =
    ("k2_observed_shed_total", "Messages that would have been shed, were this no dry run");
pub(super) const OBSERVED_CONFLATED: (&str, &str) =
    ("k2_observed_conflated_total", "Messages that would have been conflated, were this no dry run");
pub(super) const OBSERVED_SPILLED: (&str, &str) =
    ("k2_observed_spilled_total", "Messages that would have been spilled, were this no dry run");
pub(super) const OBSERVED_REFUSED: (&str, &str) =
    ("k2_observed_refused_total", "Messages that would have been refused, were this no dry run");
pub(super) const RELOADS: (&str, &str) = ("k2_config_reloads_total", "Changes of settings that were put in force");
pub(super) const RELOAD_FAILURES: (&str, &str) =
    ("k2_config_reload_failures_total", "Changes of settings that were refused, so that the old ones stayed");
pub(super) const MONITOR_RESTARTS: (&str, &str) =
    ("k2_monitor_restarts_total", "How often the monitor went on after a panic");
pub(super) const WORKER_RESTARTS: (&str, &str) =
    ("k2_worker_restarts_total", "How often a worker's handler was made anew after a panic");
pub(super) const WORKER_STALLED: (&str, &str) =
    ("k2_worker_stalled", "1 while a worker has messages waiting and finishes none");

pub(super) const AGE: (&str, &str) = (
    "k2_message_age_seconds",
    "How long the oldest message that a worker has in hand has waited since it was received",
);
pub(super) const SIGNAL: (&str, &str) = ("k2_signal_value", "Value of a signal beside lag and memory, in its unit");
pub(super) const SIGNAL_LEVEL: (&str, &str) =
    ("k2_signal_level", "Level that a signal beside lag and memory asks for (0=normal, 4=circuit_break)");
pub(super) const SIGNAL_STALE: (&str, &str) = ("k2_signal_stale", "1 while a signal was not refreshed in its time");
pub(super) const SIGNAL_THRESHOLD: (&str, &str) =
    ("k2_signal_threshold", "Value of a signal from which the level is at least this one");
pub(super) const LAG: (&str, &str) =
    ("k2_lag_messages", "Lag that drives the level: messages in lanes plus the source's backlog");
pub(super) const MEMORY_USED: (&str, &str) = ("k2_memory_used_bytes", "Anonymous memory of the process");
pub(super) const MEMORY_LIMIT: (&str, &str) =
    ("k2_memory_limit_bytes", "Memory that the process may use; 0 when not known");
pub(super) const MEMORY_RATIO: (&str, &str) =
    ("k2_memory_used_ratio", "Memory that drives the level, as a share of the limit");
pub(super) const LANE_FILL: (&str, &str) = ("k2_lane_fill_ratio", "Messages in a lane as a share of its capacity");
pub(super) const BUSY: (&str, &str) =
    ("k2_worker_busy_ratio", "Share of the last second in which a worker had messages to work on");
pub(super) const MONITOR_SAMPLES: (&str, &str) =
    ("k2_monitor_samples_total", "Samples that the monitor took; the level is frozen when this stands still");

/// Receive to processed, by priority.
pub(super) const LATENCY: &str = "k2_message_latency_seconds";
pub(super) const LATENCY_HELP: &str = "Time from receive to processed, sampled once a block of messages, by priority";
/// 1-2-5 steps from a microsecond to ten seconds, then a minute and five.
pub(super) const LATENCY_BUCKETS: [f64; 24] = [
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0,
    5.0, 10.0, 60.0, 300.0,
];
