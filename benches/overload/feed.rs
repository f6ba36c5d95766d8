//! The feed: what it sends, when, and how it counts.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use plimsoll::{MessagePriority, Price, SymbolId, SymbolTiers, Symbols, Tick};

use crate::work::histogram;

/// Percent of the messages that are CRITICAL, HIGH, NORMAL and LOW.
pub(crate) const SHARES: [u32; 4] = [5, 3, 62, 30];
/// Symbols of tier 3.
const UNLISTED: usize = 100;
/// Messages until the feed begins anew: so many that each symbol has had its turn.
const CYCLE: usize = 4000;
/// Messages of one burst at most: a feed that has fallen behind still flushes now and then.
const BURST: usize = 256;

/// When a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Before,
    Storm,
    After,
}

/// What the bench wants to know of a message, in the tick's flags.
pub(crate) fn label(tick: &Tick) -> (Phase, usize) {
    let phase = match tick.flags >> 2 {
        0 => Phase::Before,
        1 => Phase::Storm,
        _ => Phase::After,
    };
    (phase, usize::from(tick.flags & 3))
}

/// Who sends what, over and over: evenly mixed, as a feed's own bursts are not what is measured here.
pub(crate) struct Mix(Vec<(SymbolId, MessagePriority)>);

impl Mix {
    pub(crate) fn new(symbols: &Symbols) -> Self {
        let tiers = SymbolTiers::default();
        let unlisted: Vec<String> = (0..UNLISTED).map(|i| format!("X{i:02}")).collect();
        let names = [tiers.tier_1(), tiers.tier_2(), unlisted.clone(), unlisted];
        let ids = names.map(|names| names.iter().map(|name| symbols.intern(name).unwrap()).collect::<Vec<_>>());
        let mut sent = [0; 4];
        let slot = |i: usize| {
            // Whose share is the furthest behind.
            let behind = |p: usize| SHARES[p] as i64 * (i as i64 + 1) - 100 * sent[p] as i64;
            let p = (0..4).max_by_key(|p| behind(*p)).unwrap();
            let symbol = ids[p][sent[p] % ids[p].len()];
            sent[p] += 1;
            (symbol, MessagePriority::ALL[p])
        };
        Self((0..CYCLE).map(slot).collect())
    }

    #[inline]
    fn tick(&self, sequence: u64, intended_ns: u64, phase: Phase) -> Tick {
        let (symbol, priority) = self.0[sequence as usize % CYCLE];
        let trade = match priority {
            MessagePriority::Low => Tick::reference(symbol, intended_ns),
            _ => Tick::trade(symbol, intended_ns, Price::from_billionths(10_000_000_000), 100),
        };
        Tick { sequence, flags: (phase as u16) << 2 | priority.index() as u16, ..trade }
    }
}

/// A calm, a storm and another calm, in messages a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) phases: [(Phase, Duration, f64); 3],
}

impl Schedule {
    /// When the storm begins and ends, and when the feed ends: since the start.
    pub(crate) fn marks(&self) -> [Duration; 3] {
        let [before, storm, after] = self.phases.map(|(_, length, _)| length);
        [before, before + storm, before + storm + after]
    }

    /// For each message, when it is to be sent: nanoseconds since the start.
    fn times(self) -> impl Iterator<Item = (u64, Phase)> {
        let [storm, after, _] = self.marks();
        self.phases.into_iter().zip([Duration::ZERO, storm, after]).flat_map(|((phase, length, rate), begin)| {
            let count = (length.as_secs_f64() * rate) as u64;
            (0..count).map(move |i| (begin.as_nanos() as u64 + (i as f64 * 1e9 / rate) as u64, phase))
        })
    }
}

/// What a feed sends to.
pub(crate) trait Intake {
    /// Takes the message, or gives it or another one up. `false`: the time was up while it waited.
    fn offer(&mut self, tick: Tick) -> bool;

    /// The end of a burst.
    fn flush(&mut self) {}
}

/// What a feed has sent.
pub(crate) struct Sent {
    /// Messages by phase and priority, those that nobody took included.
    pub(crate) offered: [[u64; 4]; 3],
    /// Of these, those that still waited in front of the intake when the time was up.
    pub(crate) waiting: u64,
    /// How long CRITICAL ones of the storm had waited then, in nanoseconds.
    pub(crate) waits: Histogram<u64>,
    /// The most that a message of the storm was sent after its time, in nanoseconds.
    pub(crate) late_ns: u64,
}

/// Sends everything at its time, or as soon after it as it can, but never leaves anything out.
pub(crate) fn feed(schedule: &Schedule, mix: &Mix, start: Instant, intake: &mut impl Intake) -> Sent {
    let mut sent = Sent { offered: [[0; 4]; 3], waiting: 0, waits: histogram(), late_ns: 0 };
    let mut sequence = 0;
    let mut times = schedule.times().peekable();
    let mut in_time = true;
    while in_time && times.peek().is_some() {
        let now = start.elapsed().as_nanos() as u64;
        let mut burst = 0;
        while burst < BURST
            && let Some((at, phase)) = times.next_if(|(at, _)| *at <= now)
        {
            if phase == Phase::Storm {
                sent.late_ns = sent.late_ns.max(now - at);
            }
            let tick = mix.tick(sequence, at, phase);
            in_time = intake.offer(tick);
            if !in_time {
                still_waits(&mut sent, &tick, schedule);
            }
            sent.offered[phase as usize][label(&tick).1] += 1;
            sequence += 1;
            burst += 1;
            if !in_time {
                break;
            }
        }
        match burst {
            // The pipeline's monitor and the spill log's helper live on this core, too.
            0 => std::thread::yield_now(),
            _ => intake.flush(),
        }
    }
    for (at, phase) in times {
        let tick = mix.tick(sequence, at, phase);
        still_waits(&mut sent, &tick, schedule);
        sent.offered[phase as usize][label(&tick).1] += 1;
        sequence += 1;
    }
    sent
}

/// The time was up before somebody took it.
fn still_waits(sent: &mut Sent, tick: &Tick, schedule: &Schedule) {
    sent.waiting += 1;
    if label(tick) == (Phase::Storm, MessagePriority::Critical.index()) {
        let [_, _, end] = schedule.marks();
        sent.waits.saturating_record(end.as_nanos() as u64 - tick.event_ns);
    }
}
