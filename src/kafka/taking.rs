//! What becomes of a record: decoded, offered, and noted as unfinished.

use std::collections::VecDeque;

use rdkafka::message::{BorrowedMessage, Message as _};

use super::counters::{KafkaCount, KafkaCounters};
use super::decode::{DecodeRecord, Record};
use super::partitions::Partitions;
use super::unfinished::{RecordId, Unfinished};
use crate::ingress::Ingress;
use crate::message::Message;
use crate::source::Malformed;

/// A message that is not in a lane yet, the record that it was made of, and that one's offset.
pub(super) type Pending<M> = (RecordId, i64, M);

/// What a record is decoded and handed over with.
pub(super) struct Taking<'a, M, D> {
    pub(super) partitions: &'a mut Partitions,
    pub(super) unfinished: &'a mut Unfinished,
    pub(super) decoder: &'a mut D,
    pub(super) decoded: &'a mut Vec<M>,
    pub(super) pending: &'a mut VecDeque<Pending<M>>,
    pub(super) counters: &'a KafkaCounters,
    pub(super) receive_ns: u64,
}

pub(super) fn record_of<'a>(message: &'a BorrowedMessage<'_>) -> Record<'a> {
    Record {
        topic: message.topic(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key(),
        payload: message.payload(),
        timestamp_ms: message.timestamp().to_millis(),
    }
}

impl<M: Message, D: DecodeRecord<M>> Taking<'_, M, D> {
    /// Decodes a record, and offers what is made of it. Returns why, if it cannot be decoded.
    pub(super) fn take(
        &mut self,
        message: &BorrowedMessage<'_>,
        ingress: &mut Ingress<M>,
    ) -> Option<(RecordId, Malformed)> {
        let record = record_of(message);
        // A record of a partition that has just gone is left: its next owner gets it.
        let partition = self.partitions.of(record.topic, record.partition)?;
        if let Some(next) = partition.next {
            partition.counters.add_skipped(u64::try_from(record.offset - next).unwrap_or(0));
        } else if let Some(left_at) = partition.left_at
            && record.offset > left_at
        {
            // Others have handled what came in the meantime.
            ingress.note_gap((record.offset - left_at) as u64);
        }
        partition.next = Some(record.offset + 1);
        // What waits for a lane is backlog still.
        if self.pending.is_empty() {
            partition.counters.set_position(record.offset + 1);
        }
        let bytes = record.key.map_or(0, <[u8]>::len) + record.payload.map_or(0, <[u8]>::len);
        self.counters.add(KafkaCount::Records, 1);
        self.counters.add(KafkaCount::Bytes, bytes as u64);
        self.decoded.clear();
        if let Err(malformed) = self.decoder.decode(&record, self.receive_ns, self.decoded) {
            self.counters.add(KafkaCount::Undecodable, 1);
            partition.offered = partition.next;
            let record_id = self.unfinished.begin(partition.assignment, record.offset, 1)?;
            return Some((record_id, malformed));
        }
        let messages = self.decoded.len();
        self.counters.add(KafkaCount::Messages, messages as u64);
        if record.offset < partition.offered_before {
            partition.counters.add_redelivered(messages as u64);
            ingress.note_redelivered(messages as u64);
        }
        let record_id = self.unfinished.begin(partition.assignment, record.offset, messages as u32)?;
        for message in self.decoded.drain(..) {
            let place = if self.pending.is_empty() { ingress.try_offer(message) } else { None };
            match place {
                Some(place) => {
                    self.unfinished.place(record_id, place);
                    partition.offered = partition.next;
                }
                None => {
                    if self.pending.is_empty() {
                        partition.counters.set_position(record.offset);
                    }
                    self.pending.push_back((record_id, record.offset, message));
                }
            }
        }
        None
    }
}
