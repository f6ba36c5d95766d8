//! The sink's thread: what workers have handed over goes to the producer, and what came of it is noted.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::encode::{Encoder, Item};
use super::error::KafkaError;
use super::outbox::{Outbox, Shared};

/// Items that are taken from a queue before the others are looked at.
const TURN: usize = 256;

/// Items of a worker that are with the producer, from the first one that is not delivered on.
#[derive(Default)]
struct Acks {
    first: u64,
    delivered: VecDeque<bool>,
}

pub(super) struct Reports {
    shared: Arc<Shared>,
    /// By worker. The sink's thread alone looks at them.
    acks: Vec<Mutex<Acks>>,
}

impl Reports {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let acks = shared.outboxes.iter().map(|_| Mutex::default()).collect();
        Self { shared, acks }
    }

    fn sent(&self, worker: usize) {
        self.acks[worker].lock().unwrap_or_else(PoisonError::into_inner).delivered.push_back(false);
    }

    fn delivered(&self, worker: usize, number: u64) {
        let mut acks = self.acks[worker].lock().unwrap_or_else(PoisonError::into_inner);
        let index = number.wrapping_sub(acks.first) as usize;
        if let Some(delivered) = acks.delivered.get_mut(index) {
            *delivered = true;
        }
        while acks.delivered.front() == Some(&true) {
            acks.delivered.pop_front();
            acks.first += 1;
        }
        self.shared.outboxes[worker].delivered.store(acks.first, Ordering::Release);
    }
}

/// Bits of an item's number in what the producer gives back with its report; the worker's are above.
const NUMBER_BITS: u32 = 48;

impl ClientContext for Reports {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(facility, "{text}");
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::info!(%error, reason, "kafka: the sink's client goes on trying");
    }
}

impl ProducerContext for Reports {
    /// The worker and the item's number.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, item: usize) {
        let (worker, number) = (item >> NUMBER_BITS, item as u64 & ((1 << NUMBER_BITS) - 1));
        match result {
            Ok(_) => {
                self.shared.counters.delivered.fetch_add(1, Ordering::Relaxed);
                self.delivered(worker, number);
            }
            Err((error, record)) => {
                let (topic, reason) = (record.topic().to_owned(), error.to_string());
                self.shared.fail(KafkaError::NotDelivered { topic, reason });
            }
        }
    }
}

/// The sink's thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    producer: BaseProducer<Reports>,
    encoder: Encoder,
    /// By worker: items that were given to the producer, or left out.
    sent: Vec<u64>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, producer: BaseProducer<Reports>, encoder: Encoder) -> Self {
        let sent = vec![0; shared.outboxes.len()];
        Self { shared, producer, encoder, sent }
    }

    pub(super) fn run(mut self) {
        loop {
            // Before the queues are looked at: what was pushed before the stop is found.
            let stop = self.shared.stop.load(Ordering::Acquire);
            let mut moved = 0;
            for worker in 0..self.sent.len() {
                moved += self.move_items(worker);
            }
            self.producer.poll(if moved > 0 { Duration::ZERO } else { Duration::from_millis(1) });
            self.count();
            if self.shared.is_over.load(Ordering::Acquire) {
                return;
            }
            if stop && moved == 0 && self.producer.in_flight_count() == 0 {
                return;
            }
        }
    }

    fn move_items(&mut self, worker: usize) -> usize {
        for moved in 0..TURN {
            let Some(item) = self.shared.outboxes[worker].items.pop() else { return moved };
            let number = self.sent[worker];
            self.sent[worker] += 1;
            self.producer.context().sent(worker);
            if !self.send(worker, number, &item) {
                return moved;
            }
        }
        TURN
    }

    /// Gives an item to the producer; waits while that has no room. Returns whether to go on.
    fn send(&mut self, worker: usize, number: u64, item: &Item) -> bool {
        let Some((topic, key, payload)) = self.encoder.encode(item) else {
            self.shared.counters.left_out.fetch_add(1, Ordering::Relaxed);
            self.producer.context().delivered(worker, number);
            return true;
        };
        let opaque = worker << NUMBER_BITS | number as usize;
        let mut record = BaseRecord::<str, [u8], _>::with_opaque_to(topic, opaque).key(key).payload(payload);
        loop {
            match self.producer.send(record) {
                Ok(()) => return true,
                Err((ClientError::MessageProduction(Code::QueueFull), back)) => {
                    if self.shared.is_over.load(Ordering::Acquire) {
                        return false;
                    }
                    record = back;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => {
                    let (topic, reason) = (topic.to_owned(), error.to_string());
                    self.shared.fail(KafkaError::NotDelivered { topic, reason });
                    return false;
                }
            }
        }
    }

    fn count(&self) {
        let on_its_way = |outbox: &Outbox| {
            let delivered = outbox.delivered.load(Ordering::Relaxed);
            outbox.pushed.load(Ordering::Relaxed).saturating_sub(delivered)
        };
        let queued = self.shared.outboxes.iter().map(on_its_way).sum();
        self.shared.counters.queued.store(queued, Ordering::Relaxed);
    }
}
