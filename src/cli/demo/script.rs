//! The day: chapters, and the feed that plays them.
//!
//! A chapter that is about a level lasts until the level is there, so that the story is the same on a slow machine as on a fast one.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, unbounded};
use memmap2::MmapMut;
use plimsoll::{
    Control, DegradationLevel, Ingress, MemoryUse, MessagePriority, Offer, Price, SymbolId, SymbolTiers, Symbols, Tick,
    wall_clock_ns,
};

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::Pace;
use crate::cli::CliError;
use crate::cli::picture::short;
use crate::cli::signal::StopFlag;

/// A part of the day.
#[derive(Debug)]
pub(super) struct Chapter {
    /// On the market's clock.
    pub(super) time: &'static str,
    pub(super) title: &'static str,
    /// Messages a second.
    pub(super) rate: f64,
    /// It lasts until the level is there, and then so many seconds.
    until: Option<DegradationLevel>,
    seconds: f64,
    /// Somebody else takes memory meanwhile.
    takes_memory: bool,
}

impl Chapter {
    /// What it is about, in a line.
    pub(super) fn headline(&self) -> String {
        format!("{}  {}: {} messages/s", self.time, self.title, short(self.rate))
    }
}

const fn chapter(time: &'static str, title: &'static str, rate: f64, seconds: f64) -> Chapter {
    Chapter { time, title, rate, until: None, seconds, takes_memory: false }
}

pub(super) const CHAPTERS: [Chapter; 10] = [
    chapter("09:59", "Before the open", 10e3, 5.0),
    chapter("10:00", "The open", 110e3, 4.0),
    chapter("10:15", "A steady morning", 25e3, 8.0),
    chapter("11:30", "News of a takeover", 190e3, 4.0),
    chapter("11:45", "The news is digested", 20e3, 11.0),
    Chapter { takes_memory: true, ..chapter("13:00", "A batch job takes memory", 20e3, 10.0) },
    Chapter { until: Some(DegradationLevel::CircuitBreak), ..chapter("14:15", "Flash crash", 400e3, 0.8) },
    Chapter { until: Some(DegradationLevel::Normal), ..chapter("14:20", "After the crash", 15e3, 6.0) },
    chapter("15:59", "The close", 70e3, 5.0),
    Chapter { until: Some(DegradationLevel::Normal), ..chapter("16:10", "After the close", 5e3, 4.0) },
];

/// What comes after the last chapter.
pub(super) const REPLAY: &str = "16:12  The feed has ended: what waits in the spill log is replayed";

/// How long the level may take to get where a chapter ends, whatever the pace.
const PATIENCE: Duration = Duration::from_secs(15);
/// A burst a millisecond.
const BURST: Duration = Duration::from_millis(1);
/// A feed that is so late does not make up for it.
const TOO_LATE: Duration = Duration::from_millis(50);
/// How much of the memory is in use when others have taken theirs: more than GRACEFUL's 80 %, less than AGGRESSIVE's 90 %.
const MEMORY_AT_MOST: f64 = 0.84;

/// What there is to tell of meanwhile.
#[derive(Debug)]
pub(super) enum News {
    /// A chapter begins.
    Chapter(usize),
    /// The feed is over, and the spill log is not empty.
    Replay,
}

/// A feed's thread, and how its day went.
type Played = JoinHandle<Result<(), String>>;

/// The day, not yet begun.
pub(super) struct Script {
    pace: Pace,
    /// By priority.
    symbols: Vec<Vec<SymbolId>>,
    sequence: u64,
    random: Pcg64Mcg,
}

/// Of ten messages three are of tier 1, two of tier 2, four of tier 3, and one is reference data. In no order: what a worker samples comes in
/// one.
const MIX: [MessagePriority; 10] = {
    use MessagePriority::{Critical as C, High as H, Low as L, Normal as N};
    [C, C, C, H, H, N, N, N, N, L]
};

impl Script {
    pub(super) fn new(symbols: &Symbols, pace: Pace) -> Result<Self, CliError> {
        let tiers = SymbolTiers::default();
        let unlisted = (0..100).map(|i| format!("X{i:02}")).collect();
        let intern = |names: Vec<String>| names.iter().map(|name| symbols.intern(name)).collect::<Result<Vec<_>, _>>();
        let groups = [tiers.tier_1(), tiers.tier_2(), unlisted, tiers.tier_1()].into_iter().map(intern);
        let symbols = groups.collect::<Result<_, _>>().map_err(|error| CliError::Runtime(error.to_string()))?;
        Ok(Self { pace, symbols, sequence: 0, random: Pcg64Mcg::seed_from_u64(1) })
    }

    /// Plays the day on a thread of its own. The news end with the day.
    pub(super) fn play(
        mut self,
        mut ingress: Ingress<Tick>,
        control: Control,
        stop: StopFlag,
    ) -> Result<(Played, Receiver<News>), CliError> {
        let (tell, news) = unbounded();
        let thread = std::thread::Builder::new().name("feed-demo".to_owned());
        let feed = thread.spawn(move || {
            let played = self.play_all(&mut ingress, &control, &stop, &tell);
            // The worker, which knows now that no more will come, replays what is left.
            drop(ingress);
            if control.ledger().spill_pending > 0 && !stop.is_raised() {
                let _ = tell.send(News::Replay);
            }
            let begin = Instant::now();
            while control.ledger().spill_pending > 0 && !stop.is_raised() && begin.elapsed() < PATIENCE {
                std::thread::sleep(BURST);
            }
            played
        });
        Ok((feed.map_err(|error| CliError::io(&"the feed's thread", &error))?, news))
    }

    fn play_all(
        &mut self,
        ingress: &mut Ingress<Tick>,
        control: &Control,
        stop: &StopFlag,
        tell: &Sender<News>,
    ) -> Result<(), String> {
        for (number, chapter) in CHAPTERS.iter().enumerate() {
            let _ = tell.send(News::Chapter(number));
            let level = self.play_chapter(chapter, ingress, control, stop);
            if stop.is_raised() {
                return Ok(());
            }
            if let Some(goal) = chapter.until
                && level != goal
            {
                let seconds = PATIENCE.as_secs();
                return Err(format!("the demo did not reach {goal} within {seconds} s; the level is {level}"));
            }
        }
        Ok(())
    }

    /// Offers a burst each millisecond until the chapter's end; returns the level by which it ended, or the last one.
    fn play_chapter(
        &mut self,
        chapter: &Chapter,
        ingress: &mut Ingress<Tick>,
        control: &Control,
        stop: &StopFlag,
    ) -> DegradationLevel {
        let begin = Instant::now();
        let length = self.pace.time(chapter.seconds);
        let mut ballast = chapter.takes_memory.then(|| Ballast::new(control)).flatten();
        // Since when the chapter's level is there.
        let mut reached = chapter.until.is_none().then_some(begin);
        let mut next_burst = begin;
        let per_burst = chapter.rate * BURST.as_secs_f64();
        let mut due = 0.0;
        loop {
            let level = control.level();
            if reached.is_none() && chapter.until == Some(level) {
                reached = Some(Instant::now());
            }
            if reached.is_some_and(|reached| reached.elapsed() >= length) {
                return chapter.until.unwrap_or(level);
            }
            if stop.is_raised() || (reached.is_none() && begin.elapsed() >= PATIENCE) {
                return level;
            }
            if let Some(taken) = &mut ballast {
                let progress = begin.elapsed().as_secs_f64() / length.as_secs_f64();
                // It grows, holds, and is let go of.
                if progress < 0.6 { taken.grow(progress / 0.4) } else { ballast = None }
            }
            due += per_burst;
            self.offer_burst(ingress, due as u64);
            due -= due.floor();
            next_burst += BURST;
            let late = next_burst.elapsed();
            if late > TOO_LATE {
                next_burst += late;
            }
            std::thread::sleep(next_burst.saturating_duration_since(Instant::now()));
        }
    }

    fn offer_burst(&mut self, ingress: &mut Ingress<Tick>, count: u64) {
        let now = wall_clock_ns();
        for _ in 0..count {
            let random = self.random.next_u32() as usize;
            let priority = MIX[random % MIX.len()];
            let ids = &self.symbols[priority.index()];
            let symbol = ids[random / MIX.len() % ids.len()];
            self.sequence += 1;
            let price = Price::from_billionths(10_000_000_000 + (self.sequence % 100) as i64 * 10_000_000);
            let tick = match priority {
                MessagePriority::Low => Tick::reference(symbol, now),
                _ => Tick::trade(symbol, now, price, 100),
            };
            let tick = Tick { receive_ns: now, sequence: self.sequence, ..tick };
            // A live feed does not wait; the ledger counts what was not accepted.
            let (Offer::Accepted | Offer::Refused | Offer::Full) = ingress.offer(tick);
        }
        ingress.flush();
    }
}

/// Memory that is really there, and really let go of.
struct Ballast {
    memory: MmapMut,
    touched: usize,
}

const PAGE: usize = 4096;

impl Ballast {
    /// None yet; `None` where there is no such memory to be had, and the chapter is a calm one.
    fn new(control: &Control) -> Option<Self> {
        let MemoryUse { used_bytes, limit_bytes } = control.snapshot().memory;
        let bytes = (limit_bytes as f64 * MEMORY_AT_MOST - used_bytes as f64).max(0.0) as usize;
        let memory = MmapMut::map_anon(bytes).ok()?;
        Some(Self { memory, touched: 0 })
    }

    /// Up to this share of it.
    fn grow(&mut self, share: f64) {
        let goal = (self.memory.len() as f64 * share.min(1.0)) as usize;
        while self.touched < goal {
            self.memory[self.touched] = 1;
            self.touched += PAGE;
        }
    }
}
