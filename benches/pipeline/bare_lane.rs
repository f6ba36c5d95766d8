//! The lane by itself, one producer and one worker: no verdict, no counters, no ledger. What is left of a hand-off when all
//! that the pipeline adds to it is taken away.

use std::sync::Arc;

use plimsoll::internals::{Receiver, Sender, Waiter, Waker, lane};
use plimsoll::{Tick, WaitStrategy};

use crate::handlers::{Checked, context};
use crate::harness::pin;
use crate::load::{CAPACITY, Load, Seeds};
use crate::peer::spawn;
use crate::race::{Outlet, Turn, pause, race};

/// Messages a look at the lane, as in a worker.
const CHUNK: usize = 128;

pub(crate) fn turn<H: Checked>(load: &Load) -> Turn {
    assert_eq!((load.producers, load.workers), (1, 1));
    let waker = Arc::new(Waker::new(WaitStrategy::BusySpin));
    let (sender, receiver) = lane(CAPACITY, false, Arc::clone(&waker)).expect("there is memory");
    let (core, handler, context) = (load.worker_core(0), H::new(load), context(load.level));
    let worker = spawn(move || pin(core), move || serve(receiver, &waker, handler, &context));
    let (elapsed, (handler, processed)) =
        race(load, vec![Direct(sender)], || worker.join().expect("the worker panicked"));
    Turn { elapsed, seen: vec![handler.seen()], processed, shed: 0 }
}

fn serve<H: Checked>(
    mut receiver: Receiver<Tick>,
    waker: &Waker,
    mut handler: H,
    context: &plimsoll::Context,
) -> (H, u64) {
    let mut waiter = Waiter::new(WaitStrategy::BusySpin, waker);
    let mut processed = 0;
    loop {
        if let Some(chunk) = receiver.front(CHUNK) {
            let count = chunk.messages.len();
            for tick in chunk.messages {
                handler.enrich(tick, context);
                handler.process(tick, context);
            }
            receiver.finish(count);
            processed += count as u64;
            waiter.worked(count);
        } else if receiver.is_done() {
            return (handler, processed);
        } else {
            waiter.wait(|| receiver.is_ready() || receiver.is_done());
        }
    }
}

struct Direct(Sender<Tick>);

impl Outlet for Direct {
    #[inline]
    fn burst(&mut self, seeds: &mut Seeds, count: usize) {
        for _ in 0..count {
            let seed = seeds.next();
            let is_full = loop {
                if let Some(reserved) = self.0.reserve() {
                    break reserved.write(seed.tick());
                }
                self.0.publish();
                pause(false);
            };
            if is_full {
                self.0.publish();
            }
        }
        self.0.publish();
    }
}
