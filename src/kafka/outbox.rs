//! What workers hand to a sink: a queue for each, and how far it is delivered.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::{Backoff, CachePadded};

use super::encode::Item;
use super::error::KafkaError;
use crate::settled::Follower;

/// Items that a worker's queue holds.
const QUEUE: usize = 8192;

/// What a sink counts.
#[derive(Debug, Default)]
pub struct SinkCounters {
    pub(super) delivered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) left_out: AtomicU64,
    pub(super) queued: AtomicU64,
}

impl SinkCounters {
    /// Records that the cluster has acknowledged.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Records that could not be delivered.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Ticks that the format has no form for.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Items on their way: in workers' queues, or with the producer.
    pub fn on_their_way(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }
}

/// A worker's queue.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) items: ArrayQueue<Item>,
    /// Items ever pushed; written by the worker.
    pub(super) pushed: CachePadded<AtomicU64>,
    /// All items below this number are delivered; written by the sink's thread.
    pub(super) delivered: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) outboxes: Vec<Outbox>,
    pub(super) counters: Arc<SinkCounters>,
    /// Nothing more will be written.
    pub(super) is_over: AtomicBool,
    pub(super) stop: AtomicBool,
    failure: Mutex<Option<KafkaError>>,
}

impl Shared {
    pub(super) fn new(workers: usize) -> Self {
        let outbox =
            || Outbox { items: ArrayQueue::new(QUEUE), pushed: CachePadded::default(), delivered: AtomicU64::new(0) };
        Self {
            outboxes: (0..workers).map(|_| outbox()).collect(),
            counters: Arc::default(),
            is_over: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    pub(super) fn fail(&self, error: KafkaError) {
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() {
            tracing::error!(%error, "the sink has failed");
            *failure = Some(error);
        }
        self.is_over.store(true, Ordering::Release);
    }

    pub(super) fn check(&self) -> Result<(), KafkaError> {
        if !self.is_over.load(Ordering::Acquire) {
            return Ok(());
        }
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }
}

/// A worker's end of its queue.
#[derive(Debug)]
pub(super) struct Outlet {
    shared: Arc<Shared>,
    worker: usize,
    pushed: u64,
}

impl Outlet {
    pub(super) fn new(shared: Arc<Shared>, worker: usize) -> Self {
        Self { shared, worker, pushed: 0 }
    }

    /// Hands an item over; waits while there is no room. What comes after the sink has failed is dropped: its offset is not stored.
    pub(super) fn push(&mut self, mut item: Item) {
        let outbox = &self.shared.outboxes[self.worker];
        let backoff = Backoff::new();
        while let Err(back) = outbox.items.push(item) {
            if self.shared.is_over.load(Ordering::Acquire) {
                return;
            }
            item = back;
            if backoff.is_completed() { std::thread::sleep(Duration::from_micros(50)) } else { backoff.snooze() }
        }
        self.pushed += 1;
        // Release: who sees the number finds the item in the queue, or gone from it.
        outbox.pushed.store(self.pushed, Ordering::Release);
    }
}

/// How much of what workers have finished is also delivered.
#[derive(Debug)]
pub struct SinkProgress {
    shared: Arc<Shared>,
    lanes: Vec<Follower>,
}

impl SinkProgress {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let lanes = vec![Follower::default(); shared.outboxes.len()];
        Self { shared, lanes }
    }

    /// How many messages of a lane are done with, of so many that its worker has finished, if those count only when all items that the worker
    /// had pushed by then are delivered.
    pub(super) fn settled(&mut self, lane: usize, finished: u64) -> u64 {
        let (outbox, lane) = (&self.shared.outboxes[lane], &mut self.lanes[lane]);
        let delivered = outbox.delivered.load(Ordering::Acquire);
        lane.follow(finished, || outbox.pushed.load(Ordering::Acquire), |pushed| pushed <= delivered);
        lane.get()
    }

    pub(super) fn check(&self) -> Result<(), KafkaError> {
        self.shared.check()
    }
}
