//! What a worker does when its lanes run dry.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::Thread;

use crossbeam::utils::CachePadded;

/// How a worker waits for messages.
///
/// | strategy | wakes within | costs when idle |
/// |---|---|---|
/// | `BusySpin` | the pause between two looks, well under 10 µs | a whole core |
/// | `SpinThenYield` | the same, if no other thread wants the core | a core that others may borrow |
/// | `SpinThenPark` | the same at first, then a thread wake-up (some 10 µs) | next to nothing |
///
/// All three pause for a moment between two looks: a receiver that looks the instant it runs dry
/// drags the sender's cache line back and forth for every single message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum, serde::Deserialize))]
#[cfg_attr(feature = "cli", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Look again and again. For a core that the worker has to itself.
    BusySpin,
    /// Look for a while, then offer the core to other threads between looks.
    SpinThenYield,
    /// Look for a while, then sleep until a producer flushes. A flush then costs the producer a memory
    /// fence, and a system call when the worker is in fact asleep.
    #[default]
    SpinThenPark,
}

/// Pauses between two looks: longer than a cache line takes from core to core, shorter than a microsecond or so.
const PAUSES: u32 = 16;
/// Looks before `SpinThenYield` begins to yield and `SpinThenPark` to park.
const LOOKS: u32 = 256;

/// The producer's side of waiting: wakes one worker, if that is parked.
#[derive(Debug)]
pub struct Waker {
    parks: bool,
    parked: CachePadded<AtomicBool>,
    thread: OnceLock<Thread>,
}

impl Waker {
    pub fn new(strategy: WaitStrategy) -> Self {
        Self { parks: strategy == WaitStrategy::SpinThenPark, parked: CachePadded::default(), thread: OnceLock::new() }
    }

    /// Called by a producer after it has published.
    #[inline]
    pub fn wake_if_parked(&self) {
        if self.parks {
            // The fence orders the publication before the look at `parked`; the worker's fence orders its
            // `parked` before its look at what is published. So one of the two sees the other.
            fence(Ordering::SeqCst);
            if self.parked.load(Ordering::Relaxed) {
                self.wake();
            }
        }
    }

    #[cold]
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// The worker's side of waiting.
pub struct Waiter<'a> {
    strategy: WaitStrategy,
    waker: &'a Waker,
    looks: u32,
}

impl<'a> Waiter<'a> {
    /// Make it on the worker's own thread.
    pub fn new(strategy: WaitStrategy, waker: &'a Waker) -> Self {
        waker.thread.get_or_init(std::thread::current);
        Self { strategy, waker, looks: 0 }
    }

    /// There was work: the next wait begins anew.
    #[inline]
    pub fn reset(&mut self) {
        self.looks = 0;
    }

    /// Whether there was no work when last looked.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.looks > 0
    }

    /// Waits for a moment. `ready` says whether there is work or an end after all.
    pub fn wait(&mut self, ready: impl Fn() -> bool) {
        self.looks = self.looks.saturating_add(1);
        if self.looks <= LOOKS || self.strategy == WaitStrategy::BusySpin {
            (0..PAUSES).for_each(|_| std::hint::spin_loop());
        } else if self.strategy == WaitStrategy::SpinThenYield {
            std::thread::yield_now();
        } else {
            self.park(ready);
        }
    }

    fn park(&self, ready: impl Fn() -> bool) {
        self.waker.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst); // see `wake_if_parked`
        if !ready() {
            // Returns at once if a producer has called `unpark` since the store.
            std::thread::park();
        }
        self.waker.parked.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::lane::ring::lane;

    /// A lost wake-up hangs this test: the answer to every message is awaited before the next is sent.
    #[test]
    fn every_strategy_wakes_for_every_message_and_for_the_end() {
        for strategy in [WaitStrategy::BusySpin, WaitStrategy::SpinThenYield, WaitStrategy::SpinThenPark] {
            let waker = Arc::new(Waker::new(strategy));
            let (mut sender, mut receiver) = lane::<u64>(10, false, Arc::clone(&waker)).unwrap();
            let (answer, answers) = crossbeam::channel::bounded(1);
            let worker = std::thread::spawn(move || {
                let mut waiter = Waiter::new(strategy, &waker);
                while !receiver.is_done() {
                    if let Some(chunk) = receiver.front(1) {
                        answer.send(chunk.messages[0]).unwrap();
                        receiver.finish(1);
                    } else {
                        waiter.looks = LOOKS; // straight to the last resort
                        waiter.wait(|| receiver.is_ready() || receiver.is_done());
                    }
                }
            });
            for i in 0..20_000 {
                assert!(sender.reserve());
                let _ = sender.write(i);
                sender.publish();
                assert_eq!(answers.recv(), Ok(i));
            }
            drop(sender);
            worker.join().unwrap();
        }
    }
}
