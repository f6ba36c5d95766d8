//! A turn: producers start together, and it ends when the last worker has.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use plimsoll::wall_clock_ns;

use crate::handlers::{Checked, Seen};
use crate::harness::pin;
use crate::load::{Load, Seeds};

/// A producer's end of a contender.
pub(crate) trait Outlet: Send {
    /// Sends the next `count` messages and lets workers see them. Waits where there is no room.
    fn burst(&mut self, seeds: &mut Seeds, count: usize);
}

/// What a turn has come to.
pub(crate) struct Turn {
    pub(crate) elapsed: Duration,
    pub(crate) seen: Vec<Seen>,
    /// By the contender's own counters.
    pub(crate) processed: u64,
    pub(crate) shed: u64,
}

impl Turn {
    /// Nanoseconds a message, after a look at whether all messages got where they should.
    pub(crate) fn checked<H: Checked>(&self, load: &Load) -> f64 {
        let expected = load.expected::<H>();
        assert_eq!((self.processed, self.shed), (expected.processed, expected.shed), "processed, shed");
        let of = |pick: fn(&Seen) -> u64| self.seen.iter().map(pick).sum::<u64>();
        assert_eq!((of(|s| s.sum), of(|s| s.count)), (expected.sum, expected.count), "sum and count");
        assert!(self.seen.iter().all(|seen| seen.in_order), "a symbol's messages are out of order");
        self.elapsed.as_secs_f64() * 1e9 / load.messages as f64
    }
}

/// Lets each outlet send its messages from a thread of its own, and then `finish` wait for the workers.
pub(crate) fn race<O: Outlet, R>(load: &Load, outlets: Vec<O>, finish: impl FnOnce() -> R) -> (Duration, R) {
    let together = Barrier::new(outlets.len());
    let run = |producer: usize, mut outlet: O| {
        pin(load.producer_core(producer));
        let mut seeds = load.seeds(producer, wall_clock_ns());
        let mut left = load.messages_of(producer);
        together.wait();
        let start = Instant::now();
        while left > 0 {
            let count = left.min(load.burst as u64);
            outlet.burst(&mut seeds, count as usize);
            left -= count;
        }
        start
    };
    let start = std::thread::scope(|scope| {
        let run = &run;
        let producers: Vec<_> =
            outlets.into_iter().enumerate().map(|(i, outlet)| scope.spawn(move || run(i, outlet))).collect();
        producers.into_iter().map(|producer| producer.join().expect("a producer panicked")).min()
    });
    let result = finish();
    (start.expect("there are producers").elapsed(), result)
}

/// Waits a moment for the other side.
#[cold]
pub(crate) fn pause(shares_cores: bool) {
    if shares_cores {
        std::thread::yield_now();
    } else {
        (0..16).for_each(|_| std::hint::spin_loop());
    }
}
