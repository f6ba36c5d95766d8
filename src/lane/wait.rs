//! What a worker does when its lanes run dry.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};
use std::thread::Thread;

use crossbeam::utils::CachePadded;
use rustix::thread::{MembarrierCommand, membarrier};

/// How a worker waits for messages.
///
/// | strategy | wakes within | costs when idle |
/// |---|---|---|
/// | `BusySpin` | the pause between two looks, 10 ns to 50 ns | a whole core |
/// | `SpinThenYield` | the same, if no other thread wants the core | a core that others may borrow |
/// | `SpinThenPark` | the same at first, then a thread wake-up (10 µs to 60 µs) | next to nothing |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum, serde::Deserialize))]
#[cfg_attr(feature = "cli", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Look again and again. For a core that the worker has to itself.
    BusySpin,
    /// Look for a while, then offer the core to other threads between looks.
    SpinThenYield,
    /// Look for a while, then sleep until a producer flushes. The flush then costs the producer a system call.
    #[default]
    SpinThenPark,
}

/// Looks in turn that have found little, before a producer is let get ahead.
const STREAK: u32 = 2;
/// Fewer messages than this are little.
const LITTLE: usize = 128;
/// Pauses in which a producer gets ahead: half a microsecond to two, as a pause is 10 ns to 50 ns.
const BREATH: u32 = 48;
/// Messages that they must bring. They would, from 30 million a second.
const WORTH: usize = 16;
/// Looks before `SpinThenYield` begins to yield and `SpinThenPark` to park: some 40 µs to 200 µs.
const LOOKS: u32 = 4096;

/// The producer's side of waiting: wakes one worker, if that is parked.
///
/// A producer that publishes and then looks whether the worker is parked, and a worker that says it is parked and then looks
/// whether there is anything, must not miss each other: between the two steps each needs a fence. A producer would pay it for every
/// flush, with all its stores in flight. So the worker pays for both: before it parks it has the system put a fence into
/// whatever this process's other threads are doing (membarrier(2), private expedited). Where the system does not know how,
/// producers do pay.
#[derive(Debug)]
pub struct Waker {
    parks: bool,
    /// Whether producers have to fence for themselves.
    fences: bool,
    parked: CachePadded<AtomicBool>,
    thread: OnceLock<Thread>,
}

impl Waker {
    /// For a worker that waits in this way.
    pub fn new(strategy: WaitStrategy) -> Self {
        let parks = strategy == WaitStrategy::SpinThenPark;
        let fences = parks && membarrier(MembarrierCommand::RegisterPrivateExpedited).is_err();
        Self { parks, fences, parked: CachePadded::default(), thread: OnceLock::new() }
    }

    /// Called by a producer after it has published.
    #[inline]
    pub(crate) fn wake_if_parked(&self) {
        if self.parks {
            // Orders the publication before the look at `parked`; `park` has its counterpart. One of the two sees the other.
            if self.fences {
                fence(Ordering::SeqCst)
            } else {
                compiler_fence(Ordering::SeqCst)
            }
            if self.parked.load(Ordering::Acquire) {
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

    /// Parks the calling worker, unless there is something to do after all.
    fn park(&self, ready: impl Fn() -> bool) {
        // Release: who sees it sees `thread`, too.
        self.parked.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        let ordered = self.fences || membarrier(MembarrierCommand::PrivateExpedited).is_ok();
        if !ordered {
            // It was registered, so this does not happen; but to sleep would be wrong.
            std::thread::yield_now();
        } else if !ready() {
            // Returns at once if a producer has called `unpark` since the store.
            std::thread::park();
        }
        self.parked.store(false, Ordering::Relaxed);
    }
}

/// The worker's side of waiting.
pub struct Waiter<'a> {
    strategy: WaitStrategy,
    waker: &'a Waker,
    looks: u32,
    /// Looks in turn that have found little.
    streak: u32,
}

impl<'a> Waiter<'a> {
    /// Make it on the worker's own thread.
    pub fn new(strategy: WaitStrategy, waker: &'a Waker) -> Self {
        waker.thread.get_or_init(std::thread::current);
        Self { strategy, waker, looks: 0, streak: 0 }
    }

    /// There was work, of so many messages. The next wait begins anew.
    ///
    /// A worker that is faster than a producer in full flow would look again at once, find a message or three, and take the
    /// producer's cache line away from it for these, over and over. So when several looks in turn have found but little,
    /// it lets the producer get ahead, as long as that brings more. Where messages come singly each counts, and it does not.
    #[inline]
    pub fn worked(&mut self, messages: usize) {
        let had_breath = self.streak >= STREAK;
        let goes_on = self.looks == 0 && messages < LITTLE && (!had_breath || messages >= WORTH);
        // A single one is no sign of full flow.
        self.streak = if goes_on { self.streak.saturating_add(u32::from(messages > 1)) } else { 0 };
        if self.streak >= STREAK {
            (0..BREATH).for_each(|_| std::hint::spin_loop());
        }
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
            std::hint::spin_loop();
        } else if self.strategy == WaitStrategy::SpinThenYield {
            std::thread::yield_now();
        } else {
            self.waker.park(ready);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::lane::ring::lane;

    /// A lost wake-up hangs these tests: the answer to every message is awaited before the next is sent.
    fn wakes_for_every_message_and_for_the_end(strategy: WaitStrategy, waker: Waker) {
        let waker = Arc::new(waker);
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
            let _ = sender.reserve().expect("room for one").write(i);
            sender.publish();
            assert_eq!(answers.recv(), Ok(i));
        }
        drop(sender);
        worker.join().unwrap();
    }

    #[test]
    fn every_strategy_wakes() {
        for strategy in [WaitStrategy::BusySpin, WaitStrategy::SpinThenYield, WaitStrategy::SpinThenPark] {
            wakes_for_every_message_and_for_the_end(strategy, Waker::new(strategy));
        }
    }

    #[test]
    fn a_system_without_membarrier_wakes() {
        let waker = Waker { fences: true, ..Waker::new(WaitStrategy::SpinThenPark) };
        wakes_for_every_message_and_for_the_end(WaitStrategy::SpinThenPark, waker);
    }
}
