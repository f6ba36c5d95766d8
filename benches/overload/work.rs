//! The work: the same for all contenders, and what it records of itself.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use plimsoll::{Context, Handler, Tick};

use crate::feed::{Phase, Schedule, label};

/// What a message costs. It is time, not instructions, so that the capacity is the same at every load, whatever the two
/// cores share.
pub(crate) const COST: Duration = Duration::from_micros(20);

/// From a microsecond to a hundred seconds, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 100_000_000_000, 3).expect("valid bounds")
}

/// A worker's handler: takes its time, then notes how long after its intended time the message was done.
pub(crate) struct Work {
    start: Instant,
    storm: [u64; 2],
    /// Messages handled as they came, by phase and priority.
    pub(crate) live: [[u64; 4]; 3],
    /// And those that came back from the spill log.
    pub(crate) replayed: [[u64; 4]; 3],
    /// Latencies of live messages of the storm, by priority.
    pub(crate) latency: [Histogram<u64>; 4],
    /// Of CRITICAL ones in the calm after it.
    pub(crate) after: Histogram<u64>,
    /// Of replayed messages.
    pub(crate) late: Histogram<u64>,
    /// Messages handled while the storm lasted, whenever they were sent.
    pub(crate) handled_in_storm: u64,
}

impl Work {
    pub(crate) fn new(start: Instant, schedule: &Schedule) -> Self {
        let [begin, end, _] = schedule.marks();
        Self {
            start,
            storm: [begin, end].map(|mark| mark.as_nanos() as u64),
            live: [[0; 4]; 3],
            replayed: [[0; 4]; 3],
            latency: std::array::from_fn(|_| histogram()),
            after: histogram(),
            late: histogram(),
            handled_in_storm: 0,
        }
    }

    #[inline]
    pub(crate) fn handle(&mut self, tick: &Tick, replayed: bool) {
        let begin = Instant::now();
        while begin.elapsed() < COST {
            std::hint::spin_loop();
        }
        let now = self.start.elapsed().as_nanos() as u64;
        let latency = now.saturating_sub(tick.event_ns);
        let (phase, priority) = label(tick);
        self.handled_in_storm += u64::from((self.storm[0]..self.storm[1]).contains(&now));
        if replayed {
            self.replayed[phase as usize][priority] += 1;
            self.late.saturating_record(latency);
            return;
        }
        self.live[phase as usize][priority] += 1;
        match (phase, priority) {
            (Phase::Storm, _) => self.latency[priority].saturating_record(latency),
            (Phase::After, 0) => self.after.saturating_record(latency),
            _ => {}
        }
    }
}

impl Handler<Tick> for Work {
    fn process(&mut self, tick: &Tick, context: &Context) {
        self.handle(tick, context.replayed());
    }
}

/// How many messages a second the handler manages by itself.
pub(crate) fn capacity() -> f64 {
    const MESSAGES: u64 = 5_000;
    let calm = (Phase::Before, Duration::ZERO, 0.0);
    let start = Instant::now();
    let mut work = Work::new(start, &Schedule { phases: [calm; 3] });
    let tick = Tick::reference(plimsoll::SymbolId::new(0), 0);
    (0..MESSAGES).for_each(|_| work.handle(std::hint::black_box(&tick), false));
    MESSAGES as f64 / start.elapsed().as_secs_f64()
}
