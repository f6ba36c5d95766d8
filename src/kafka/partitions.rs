//! The partitions that are assigned to this member: where each stands, and what is remembered of those that were here before.

use std::collections::HashMap;
use std::sync::Arc;

use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::counters::{KafkaCounters, PartitionCounters};
use super::unfinished::{Assignment, Unfinished};

/// How the offset after the last record that was offered is written beside a committed offset: what lies between the two may have been
/// handled before, and counts as redelivered when it comes again.
const OFFERED: &str = "plimsoll offered=";

/// An assigned partition.
pub(super) struct Partition {
    pub(super) assignment: Assignment,
    pub(super) counters: Arc<PartitionCounters>,
    /// Records below this offset had been offered before, as far as is known.
    pub(super) offered_before: i64,
    /// The offset after the last record that this process had offered when it last had the partition.
    pub(super) left_at: Option<i64>,
    /// The next offset, once a record was taken.
    pub(super) next: Option<i64>,
    /// The offset after the last record of which anything was offered.
    pub(super) offered: Option<i64>,
    /// What was stored last: the offset, and the one after the last that was offered.
    stored: Option<(i64, i64)>,
}

/// How a partition was left.
#[derive(Clone, Copy)]
struct Left {
    /// The offset after the last record that was offered.
    offered: Option<i64>,
    /// All records below this offset are finished.
    finished: Option<i64>,
    /// What the group had committed by then, as far as was known.
    committed: Option<i64>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Partitions {
    assigned: Vec<Partition>,
    /// Of partitions that were here.
    left: HashMap<(Arc<str>, i32), Left>,
    /// Which one the last record was of.
    last: usize,
}

impl Partitions {
    /// A partition has come. `committed`: what the group has committed for it, with what was written beside it; `is_from_start`: it begins
    /// with the first record there is, if nothing is. Returns where to begin, if not at the committed offset: if this process has finished
    /// more than it could commit when it gave the partition up, and nobody has committed anything since.
    pub(super) fn add(
        &mut self,
        (topic, partition): (&str, i32),
        committed: Option<(i64, &str)>,
        is_from_start: bool,
        counters: &KafkaCounters,
        unfinished: &mut Unfinished,
    ) -> Option<i64> {
        let counters = counters.partition(topic, partition);
        counters.set_assigned(is_from_start);
        let left = self.left.get(&(Arc::clone(&counters.topic), partition)).copied();
        let left_at = left.and_then(|left| left.offered);
        let told = committed.and_then(|(_, beside)| beside.strip_prefix(OFFERED)?.parse().ok());
        let committed = committed.map(|(offset, _)| offset);
        let is_untouched = |left: &Left| left.committed == committed && left.finished > committed;
        let begin = left.filter(is_untouched).and_then(|left| left.finished);
        if let Some(position) = begin.or(committed) {
            counters.set_position(position);
        }
        if let Some(committed) = committed {
            counters.set_committed(committed);
        }
        let offered_before = left_at.max(told).unwrap_or(0);
        let assignment = unfinished.assign();
        self.assigned.push(Partition {
            assignment,
            counters,
            offered_before,
            left_at,
            next: None,
            offered: None,
            stored: None,
        });
        begin
    }

    /// The partition that a record is of.
    pub(super) fn of(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        let is_it = |there: &Partition| there.counters.partition == partition && *there.counters.topic == *topic;
        if !self.assigned.get(self.last).is_some_and(is_it) {
            self.last = self.assigned.iter().position(is_it)?;
        }
        self.assigned.get_mut(self.last)
    }

    /// Something of the record at this offset was offered.
    pub(super) fn offered(&mut self, assignment: Assignment, offset: i64) {
        if let Some(there) = self.assigned.iter_mut().find(|there| there.assignment == assignment) {
            there.offered = Some(offset + 1);
            there.counters.set_position(offset + 1);
        }
    }

    /// Those of a list that are here; all, if there is no list.
    pub(super) fn among(&self, list: Option<&TopicPartitionList>) -> Vec<Assignment> {
        let is_meant = |there: &&Partition| {
            list.is_none_or(|list| list.find_partition(&there.counters.topic, there.counters.partition).is_some())
        };
        self.assigned.iter().filter(is_meant).map(|there| there.assignment).collect()
    }

    /// Partitions are gone.
    pub(super) fn remove(&mut self, gone: &[Assignment], unfinished: &mut Unfinished) {
        for there in self.assigned.extract_if(.., |there| gone.contains(&there.assignment)) {
            let (finished, committed) = (unfinished.offset(there.assignment), there.counters.committed());
            let left = Left { offered: there.offered.or(there.left_at), finished, committed };
            unfinished.release(there.assignment);
            there.counters.set_gone();
            self.left.insert((Arc::clone(&there.counters.topic), there.counters.partition), left);
        }
    }

    /// All of them, as the client wants them.
    pub(super) fn list(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        self.assigned.iter().for_each(|there| _ = list.add_partition(&there.counters.topic, there.counters.partition));
        list
    }

    /// How far each has come, to be stored or committed: those of `only`, or else those that have come further since they were stored.
    pub(super) fn offsets(&mut self, only: Option<&[Assignment]>, unfinished: &mut Unfinished) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for there in &mut self.assigned {
            let offset = unfinished.offset(there.assignment);
            let offset = offset.map(|offset| (offset, there.offered.unwrap_or(offset)));
            let is_wanted = only.map_or(offset != there.stored, |only| only.contains(&there.assignment));
            let Some((offset, offered)) = offset.filter(|_| is_wanted) else { continue };
            let mut element = list.add_partition(&there.counters.topic, there.counters.partition);
            if element.set_offset(Offset::Offset(offset)).is_ok() {
                element.set_metadata(format!("{OFFERED}{offered}"));
                there.stored = Some((offset, offered));
            }
        }
        list
    }
}
