//! What a service in async Rust would have: a bounded tokio channel and a task for each worker, and services in the manner of tower.
//!
//! The producer is a thread, as feeds are. It asks its service whether it is ready before each call; the call sends. A burst's
//! permits are taken at once. The task receives as many as there are, and calls its service for each message.

use std::future::{Ready, poll_fn, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use crossbeam::utils::CachePadded;
use plimsoll::spill::worker_of;
use plimsoll::{DegradationLevel, Tick};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{PermitIterator, Receiver, Sender, channel};

use crate::handlers::Checked;
use crate::harness::pin;
use crate::load::{CAPACITY, Load, Seeds};
use crate::peer::{Desk, Ended};
use crate::race::{Outlet, Turn, pause, race};

type Level = Arc<CachePadded<AtomicU8>>;

/// Messages that a task takes at once.
const BATCH: usize = 256;

/// `tower::Service`, as far as it is needed.
trait Service<Request> {
    type Future: Future<Output = Result<(), Overloaded>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Overloaded>>;

    fn call(&mut self, request: Request) -> Self::Future;
}

/// The service sheds load.
#[derive(Debug)]
struct Overloaded;

pub(crate) fn turn<H: Checked>(load: &Load) -> Turn {
    let level: Level = Arc::new(CachePadded::new(AtomicU8::new(load.level.index() as u8)));
    let runtime = runtime(load);
    let (mut senders, mut workers) = (Vec::new(), Vec::new());
    for desk in Desk::<H>::all(load) {
        let (sender, receiver) = channel(CAPACITY);
        senders.push(sender);
        workers.push(runtime.spawn(serve(receiver, Decide { desk, level: Arc::clone(&level) })));
    }
    let outlet = |_| {
        let parts = senders.iter().map(|_| Vec::with_capacity(load.burst)).collect();
        Tasks { senders: senders.clone(), parts, level: Arc::clone(&level), shares_cores: load.shares_cores() }
    };
    let outlets = (0..load.producers).map(outlet).collect();
    drop(senders);
    let join = || {
        let join = async |workers: Vec<tokio::task::JoinHandle<Ended>>| {
            let mut ended = Vec::new();
            for worker in workers {
                ended.push(worker.await.expect("a worker panicked"));
            }
            ended
        };
        runtime.block_on(join(workers))
    };
    let (elapsed, ended) = race(load, outlets, join);
    Ended::turn(elapsed, ended)
}

/// A thread for each worker, on its core.
fn runtime(load: &Load) -> Runtime {
    let (load, next) = (*load, AtomicUsize::new(0));
    Builder::new_multi_thread()
        .worker_threads(load.workers)
        .on_thread_start(move || pin(load.worker_core(next.fetch_add(1, Ordering::Relaxed))))
        .build()
        .expect("threads can be started")
}

async fn serve<H: Checked>(mut receiver: Receiver<Tick>, mut service: Decide<H>) -> Ended {
    let mut batch = Vec::with_capacity(BATCH);
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        for tick in batch.drain(..) {
            if poll_fn(|context| service.poll_ready(context)).await.is_ok() {
                let _ = service.call(tick).await; // what it cannot take it sheds
            }
        }
    }
    service.desk.end()
}

/// A worker's service: decides by the level and the message's priority.
struct Decide<H> {
    desk: Desk<H>,
    level: Level,
}

impl<H: Checked> Service<Tick> for Decide<H> {
    type Future = Ready<Result<(), Overloaded>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Overloaded>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, mut tick: Tick) -> Self::Future {
        self.desk.decide(usize::from(self.level.load(Ordering::Relaxed)), &mut tick);
        ready(Ok(()))
    }
}

/// The producer's end.
struct Tasks {
    /// By worker.
    senders: Vec<Sender<Tick>>,
    /// What of a burst goes to each worker.
    parts: Vec<Vec<Tick>>,
    level: Level,
    shares_cores: bool,
}

impl Tasks {
    /// Not ready at CIRCUIT_BREAK, as a `LoadShed` whose service is overloaded.
    #[inline]
    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Overloaded>> {
        let open = usize::from(self.level.load(Ordering::Relaxed)) < DegradationLevel::CircuitBreak.index();
        Poll::Ready(if open { Ok(()) } else { Err(Overloaded) })
    }
}

impl Outlet for Tasks {
    #[inline]
    fn burst(&mut self, seeds: &mut Seeds, count: usize) {
        let mut context = Context::from_waker(Waker::noop());
        let workers = self.senders.len();
        if workers == 1 {
            let permits = reserve(&self.senders[0], count, self.shares_cores);
            for permit in permits {
                let tick = seeds.next().tick();
                if matches!(self.poll_ready(&mut context), Poll::Ready(Ok(()))) {
                    permit.send(tick);
                }
            }
            return;
        }
        for _ in 0..count {
            let seed = seeds.next();
            if matches!(self.poll_ready(&mut context), Poll::Ready(Ok(()))) {
                self.parts[worker_of(seed.symbol(), workers)].push(seed.tick());
            }
        }
        for (sender, part) in self.senders.iter().zip(&mut self.parts) {
            if !part.is_empty() {
                let permits = reserve(sender, part.len(), self.shares_cores);
                permits.zip(part.drain(..)).for_each(|(permit, tick)| permit.send(tick));
            }
        }
    }
}

/// Takes room for so many messages, as soon as there is.
#[inline]
fn reserve(sender: &Sender<Tick>, count: usize, shares_cores: bool) -> PermitIterator<'_, Tick> {
    loop {
        match sender.try_reserve_many(count) {
            Ok(permits) => return permits,
            Err(error) => assert!(matches!(error, TrySendError::Full(())), "the worker lives"),
        }
        pause(shares_cores);
    }
}
