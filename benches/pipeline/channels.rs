//! The first that comes to mind: a bounded channel for each worker, and the level behind a mutex.
//!
//! Both sides spin where there is nothing to do, as ours do, instead of going to sleep. The mutex is hardly ever contended: its
//! price is its own.

use std::sync::{Arc, Mutex};

use crossbeam::channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use plimsoll::spill::worker_of;
use plimsoll::{DegradationLevel, Tick};

use crate::handlers::Checked;
use crate::harness::pin;
use crate::load::{CAPACITY, Load, Seeds};
use crate::peer::{Desk, Ended, spawn};
use crate::race::{Outlet, Turn, pause, race};

type Level = Arc<Mutex<DegradationLevel>>;

pub(crate) fn turn<H: Checked>(load: &Load) -> Turn {
    let level: Level = Arc::new(Mutex::new(load.level));
    let shares_cores = load.shares_cores();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..load.workers).map(|_| bounded(CAPACITY)).unzip();
    let start = |(id, (receiver, desk)): (usize, (_, Desk<H>))| {
        let (core, level) = (load.worker_core(id), Arc::clone(&level));
        spawn(move || pin(core), move || serve(&receiver, &level, desk, shares_cores))
    };
    let workers: Vec<_> = receivers.into_iter().zip(Desk::all(load)).enumerate().map(start).collect();
    let outlets = (0..load.producers).map(|_| Channels { senders: senders.clone(), shares_cores }).collect();
    drop(senders);
    let join = || workers.into_iter().map(|worker| worker.join().expect("a worker panicked")).collect();
    let (elapsed, ended) = race(load, outlets, join);
    Ended::turn(elapsed, ended)
}

fn serve<H: Checked>(receiver: &Receiver<Tick>, level: &Level, mut desk: Desk<H>, shares_cores: bool) -> Ended {
    loop {
        match receiver.try_recv() {
            Ok(mut tick) => {
                let level = *level.lock().expect("nobody panics with it");
                desk.decide(level.index(), &mut tick);
            }
            Err(TryRecvError::Empty) => pause(shares_cores),
            Err(TryRecvError::Disconnected) => return desk.end(),
        }
    }
}

struct Channels {
    senders: Vec<Sender<Tick>>,
    shares_cores: bool,
}

impl Outlet for Channels {
    #[inline]
    fn burst(&mut self, seeds: &mut Seeds, count: usize) {
        for _ in 0..count {
            let seed = seeds.next();
            let sender = &self.senders[worker_of(seed.symbol(), self.senders.len())];
            while let Err(error) = sender.try_send(seed.tick()) {
                assert!(matches!(error, TrySendError::Full(_)), "the worker lives");
                pause(self.shares_cores);
            }
        }
    }
}
