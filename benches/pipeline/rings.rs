//! The fastest that is to be had ready-made: a disruptor ring for each worker, and the level in an atomic byte, read once a batch.
//!
//! One producer has rings for a single producer, several share rings for many. A burst is published at once; where it goes to several
//! workers, it is first sorted into a buffer for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crossbeam::utils::CachePadded;
use disruptor::{BusySpin, Polling, Producer, build_multi_producer, build_single_producer};
use plimsoll::spill::worker_of;
use plimsoll::{SymbolId, Tick};

use crate::handlers::Checked;
use crate::harness::pin;
use crate::load::{CAPACITY, Load, Seeds};
use crate::peer::{Desk, Ended, spawn};
use crate::race::{Outlet, Turn, pause, race};

type Level = Arc<CachePadded<AtomicU8>>;

/// Messages that a worker takes at once. Were it all there is, a producer with a full ring would wait for all of that.
const BATCH: u64 = 256;

pub(crate) fn turn<H: Checked>(load: &Load) -> Turn {
    let level: Level = Arc::new(CachePadded::new(AtomicU8::new(load.level.index() as u8)));
    if load.producers == 1 { single::<H>(load, &level) } else { multi::<H>(load, &level) }
}

fn single<H: Checked>(load: &Load, level: &Level) -> Turn {
    let (mut producers, mut workers) = (Vec::new(), Vec::new());
    for (id, desk) in Desk::<H>::all(load).into_iter().enumerate() {
        let (mut poller, builder) = build_single_producer(CAPACITY, empty, BusySpin).new_event_poller();
        producers.push(builder.build());
        let poll = move |desk: &mut Desk<H>, level: usize| {
            let mut batch = poller.take(BATCH)?;
            (&mut batch).for_each(|tick| desk.decide(level, &mut { *tick }));
            Ok(())
        };
        workers.push(start(load, id, level, desk, poll));
    }
    let outlets = vec![Rings::new(load, producers)];
    let (elapsed, ended) = race(load, outlets, || join(workers));
    Ended::turn(elapsed, ended)
}

fn multi<H: Checked>(load: &Load, level: &Level) -> Turn {
    let (mut producers, mut workers) = (Vec::new(), Vec::new());
    for (id, desk) in Desk::<H>::all(load).into_iter().enumerate() {
        let (mut poller, builder) = build_multi_producer(CAPACITY, empty, BusySpin).new_event_poller();
        producers.push(builder.build());
        let poll = move |desk: &mut Desk<H>, level: usize| {
            let mut batch = poller.take(BATCH)?;
            (&mut batch).for_each(|tick| desk.decide(level, &mut { *tick }));
            Ok(())
        };
        workers.push(start(load, id, level, desk, poll));
    }
    let mut outlets: Vec<_> = (1..load.producers).map(|_| Rings::new(load, producers.clone())).collect();
    outlets.push(Rings::new(load, producers));
    let (elapsed, ended) = race(load, outlets, || join(workers));
    Ended::turn(elapsed, ended)
}

fn empty() -> Tick {
    Tick::reference(SymbolId::new(0), 0)
}

type Worker = std::thread::JoinHandle<Ended>;

fn join(workers: Vec<Worker>) -> Vec<Ended> {
    workers.into_iter().map(|worker| worker.join().expect("a worker panicked")).collect()
}

/// Starts a worker. `poll` decides about a batch.
fn start<H: Checked>(
    load: &Load,
    id: usize,
    level: &Level,
    mut desk: Desk<H>,
    mut poll: impl FnMut(&mut Desk<H>, usize) -> Result<(), Polling> + Send + 'static,
) -> Worker {
    let (core, level, shares_cores) = (load.worker_core(id), Arc::clone(level), load.shares_cores());
    let serve = move || loop {
        match poll(&mut desk, usize::from(level.load(Ordering::Relaxed))) {
            Ok(()) => {}
            Err(Polling::NoEvents) => pause(shares_cores),
            Err(Polling::Shutdown) => return desk.end(),
        }
    };
    spawn(move || pin(core), serve)
}

struct Rings<P> {
    /// By worker.
    producers: Vec<P>,
    /// What of a burst goes to each worker.
    parts: Vec<Vec<Tick>>,
    shares_cores: bool,
}

impl<P: Producer<Tick> + Send> Rings<P> {
    fn new(load: &Load, producers: Vec<P>) -> Self {
        let parts = producers.iter().map(|_| Vec::with_capacity(load.burst)).collect();
        Self { producers, parts, shares_cores: load.shares_cores() }
    }
}

impl<P: Producer<Tick> + Send> Outlet for Rings<P> {
    #[inline]
    fn burst(&mut self, seeds: &mut Seeds, count: usize) {
        if let [producer] = &mut self.producers[..] {
            while producer.try_batch_publish(count, |slots| slots.for_each(|slot| *slot = seeds.next().tick())).is_err()
            {
                pause(self.shares_cores);
            }
            return;
        }
        let workers = self.producers.len();
        for _ in 0..count {
            let seed = seeds.next();
            self.parts[worker_of(seed.symbol(), workers)].push(seed.tick());
        }
        for (producer, part) in self.producers.iter_mut().zip(&mut self.parts) {
            while !part.is_empty()
                && producer.try_batch_publish(part.len(), |slots| slots.zip(&*part).for_each(|(s, t)| *s = *t)).is_err()
            {
                pause(self.shares_cores);
            }
            part.clear();
        }
    }
}
