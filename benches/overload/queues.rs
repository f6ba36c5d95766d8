//! The other contenders: queues that wait, or drop the newest, or drop the oldest, and know no priorities.
//!
//! Their workers look for the next message without a pause, as Plimsoll's does here: how a worker sleeps is not the question.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam::channel::{Sender, bounded};
use crossbeam::queue::ArrayQueue;
use plimsoll::{Symbols, Tick};

use crate::feed::{Intake, Mix, Schedule, feed};
use crate::harness::pin;
use crate::outcome::{Fates, Outcome};
use crate::work::Work;

/// The channel's `send`, which blocks; up to the end of the run.
struct Blocking {
    sender: Sender<Tick>,
    end: Instant,
}

impl Intake for Blocking {
    fn offer(&mut self, tick: Tick) -> bool {
        self.sender.send_deadline(tick, self.end).is_ok()
    }
}

/// The channel's `try_send`.
struct DropNewest {
    sender: Sender<Tick>,
    dropped: u64,
}

impl Intake for DropNewest {
    fn offer(&mut self, tick: Tick) -> bool {
        self.dropped += u64::from(self.sender.try_send(tick).is_err());
        true
    }
}

/// A ring that overwrites.
struct DropOldest {
    queue: Arc<ArrayQueue<Tick>>,
    dropped: u64,
}

impl Intake for DropOldest {
    fn offer(&mut self, tick: Tick) -> bool {
        self.dropped += u64::from(self.queue.force_push(tick).is_some());
        true
    }
}

pub(crate) fn blocking(schedule: &Schedule, capacity: usize) -> Outcome {
    let (sender, receiver) = bounded(capacity);
    let intake = |start: Instant| Blocking { sender, end: start + schedule.marks()[2] };
    run(schedule, intake, move || receiver.try_recv().ok(), |_| 0)
}

pub(crate) fn drop_newest(schedule: &Schedule, capacity: usize) -> Outcome {
    let (sender, receiver) = bounded(capacity);
    let intake = |_| DropNewest { sender, dropped: 0 };
    run(schedule, intake, move || receiver.try_recv().ok(), |intake| intake.dropped)
}

pub(crate) fn drop_oldest(schedule: &Schedule, capacity: usize) -> Outcome {
    let queue = Arc::new(ArrayQueue::new(capacity));
    let taking = Arc::clone(&queue);
    let intake = |_| DropOldest { queue, dropped: 0 };
    run(schedule, intake, move || taking.pop(), |intake| intake.dropped)
}

/// Feeds on this thread, works on another.
fn run<I: Intake>(
    schedule: &Schedule,
    intake: impl FnOnce(Instant) -> I,
    take: impl Fn() -> Option<Tick> + Send,
    dropped: impl FnOnce(&I) -> u64,
) -> Outcome {
    let mix = Mix::new(&Symbols::default());
    let over = &AtomicBool::new(false);
    let start = Instant::now();
    let mut intake = intake(start);
    let mut work = Work::new(start, schedule);
    let (sent, work) = std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            pin(1);
            loop {
                // Asked first: what was sent before is then seen by `take`.
                let last = over.load(Ordering::Acquire);
                match take() {
                    Some(tick) => work.handle(&tick, false),
                    None if last => return work,
                    None => std::hint::spin_loop(),
                }
            }
        });
        let sent = feed(schedule, &mix, start, &mut intake);
        over.store(true, Ordering::Release);
        (sent, worker.join().expect("the worker does not panic"))
    });
    let fates = Fates { dropped: dropped(&intake), waiting: sent.waiting, ..Fates::default() };
    Outcome { sent, work, fates, levels: None }
}
