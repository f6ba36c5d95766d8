//! `plimsoll demo`: the cascade at work, without any input.
//!
//! A feed at five times the handler's capacity until the circuit breaks, then a calm one until all is well again. The
//! feed looks at the level, so that the story has the same chapters on a slow machine as on a fast one.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, unbounded};
use plimsoll::spill::{AtShutdown, SpillConfig};
use plimsoll::{
    Context, DegradationLevel, DegradationThresholds, Handler, Ingress, Ledger, MemoryUse, Message, MessagePriority,
    Offer, Pipeline, PipelineBuilder, Price, StartError, SymbolId, SymbolTiers, Symbols, Tick, Transition,
    wall_clock_ns,
};

use super::signal::StopFlag;
use super::{CliError, summary};

/// Show the cascade at work: a synthetic feed outruns a slow handler, and recovers.
///
/// The level climbs to CIRCUIT_BREAK and comes back to NORMAL, each transition shown with its cause; what is spilled on
/// the way is replayed when it is over. Needs no input, and takes about ten seconds; the spill log is in a temporary directory,
/// which is removed at the end. Thresholds are scaled down: lag 20 000, 60 000, 120 000 and 300 000; cooldown one second.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

const THRESHOLDS: [u64; 4] = [20_000, 60_000, 120_000, 300_000];
/// What the handler takes for a message: 50 000 messages a second.
const WORK: Duration = Duration::from_micros(20);
/// A burst a millisecond.
const BURST: Duration = Duration::from_millis(1);
/// How long the level may take to get where a chapter ends.
const PATIENCE: Duration = Duration::from_secs(12);
/// How often a line of state is printed.
const TICKER: Duration = Duration::from_millis(500);

/// A part of the story.
struct Chapter {
    title: &'static str,
    /// Messages a burst.
    burst: u32,
    end: End,
}

/// When a chapter ends.
#[derive(Clone, Copy)]
enum End {
    After(Duration),
    At(DegradationLevel),
}

const CHAPTERS: [Chapter; 4] = [
    Chapter { title: "Calm: 10 000 messages/s.\n", burst: 10, end: End::After(Duration::from_millis(1500)) },
    Chapter {
        title: "Storm: 250 000 messages/s, five times what the worker manages.\n",
        burst: 250,
        end: End::At(DegradationLevel::CircuitBreak),
    },
    Chapter { title: "Calm again: 10 000 messages/s.\n", burst: 10, end: End::At(DegradationLevel::Normal) },
    Chapter { title: "", burst: 10, end: End::After(Duration::from_millis(1000)) },
];

/// A handler that takes its time, until an end is asked for.
struct SlowHandler {
    stop: StopFlag,
    symbols: Arc<Symbols>,
    /// Messages that came out of the spill log, by priority.
    replayed: [u64; 4],
}

impl Handler<Tick> for SlowHandler {
    fn process(&mut self, tick: &Tick, context: &Context) {
        if context.replayed() {
            let priority = MessagePriority::of(self.symbols.tier(tick.symbol), tick.data_type());
            self.replayed[priority.index()] += 1;
        }
        let start = Instant::now();
        while start.elapsed() < WORK && !self.stop.is_raised() {
            std::hint::spin_loop();
        }
    }
}

/// A directory for the spill log, gone when the demo is.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("plimsoll-demo-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

type DemoPipeline = Pipeline<Tick, SlowHandler>;

pub(crate) fn run(_: &Arguments) -> Result<(), CliError> {
    let stop = StopFlag::install()?;
    let (tell, transitions) = unbounded();
    let symbols = Arc::new(Symbols::default());
    let feed = Feed::new(&symbols)?;
    // Declared before the pipeline, so that it goes after it.
    let scratch = Scratch::create();
    let (mut pipeline, spills) = start(&symbols, &tell, &stop, &scratch)?;
    let ingress = pipeline.ingress().expect("the builder's default is one producer");
    let mut stage = Stage { pipeline: &pipeline, ingress, feed, transitions, stop, start: Instant::now() };
    let played = stage.play();
    let Stage { feed, ingress, stop, start, .. } = stage;
    drop(ingress);
    show_replay(&pipeline, &stop, start)?;
    let finished = pipeline.join().map_err(|error| CliError::Runtime(error.to_string()))?;
    let replayed = finished.handlers.first().map_or([0; 4], |handler| handler.replayed);
    let kept = kept(&feed, &finished.ledger, replayed);
    say(&format!("\n{}{kept}", summary::ledger(&finished.ledger, spills)))?;
    played?;
    finished.ledger.check().map_err(|error| CliError::Runtime(error.to_string()))
}

/// With a spill log in the directory, if that can be had, else without; returns whether with.
fn start(
    symbols: &Arc<Symbols>,
    tell: &Sender<Transition>,
    stop: &StopFlag,
    scratch: &io::Result<Scratch>,
) -> Result<(DemoPipeline, bool), CliError> {
    let start = |spill: Option<SpillConfig>| {
        let tell = tell.clone();
        let builder = match spill {
            Some(config) => PipelineBuilder::new().spill(config),
            None => PipelineBuilder::new(),
        };
        builder
            .thresholds(thresholds())
            .symbols(Arc::clone(symbols))
            // The story is about lag: the memory of the machine that it runs on shall not tell another.
            .memory_source(|| MemoryUse { used_bytes: 0, limit_bytes: 1 })
            .on_transition(move |transition| _ = tell.send(*transition))
            .start(|_| SlowHandler { stop: stop.clone(), symbols: Arc::clone(symbols), replayed: [0; 4] })
    };
    let why = match scratch {
        Ok(Scratch(dir)) => match start(Some(spill_config(dir.clone()))) {
            Ok(pipeline) => return Ok((pipeline, true)),
            Err(StartError::Spill(error)) => error.to_string(),
            Err(error) => return Err(error.into()),
        },
        Err(error) => format!("{}: {error}", std::env::temp_dir().display()),
    };
    say(&format!("There is no spill log, so what would be spilled is shed: {why}\n\n"))?;
    Ok((start(None)?, false))
}

fn thresholds() -> DegradationThresholds {
    let [lag_soft, lag_graceful, lag_aggressive, lag_circuit_break] = THRESHOLDS;
    DegradationThresholds {
        lag_soft,
        lag_graceful,
        lag_aggressive,
        lag_circuit_break,
        recovery_cooldown_seconds: 1.0,
        ..DegradationThresholds::default()
    }
}

fn spill_config(dir: PathBuf) -> SpillConfig {
    SpillConfig {
        segment_bytes: 4 << 20,
        budget_bytes: 128 << 20,
        free_space_floor_bytes: 0,
        at_shutdown: AtShutdown::Replay,
        ..SpillConfig::new(dir)
    }
}

/// Shows how what still waits in the spill log is replayed.
fn show_replay(pipeline: &DemoPipeline, stop: &StopFlag, start: Instant) -> Result<(), CliError> {
    let begin = Instant::now();
    let mut pending = pipeline.ledger().spill_pending;
    if pending > 0 {
        say("End of the feed: what waits in the spill log is replayed.\n")?;
    }
    while pending > 0 && !stop.is_raised() && begin.elapsed() < PATIENCE {
        let (at, waiting) = (start.elapsed().as_secs_f64(), summary::grouped(pending));
        say(&format!("{at:>8.2} s    replay        {waiting:>11} messages wait\n"))?;
        std::thread::sleep(TICKER);
        pending = pipeline.ledger().spill_pending;
    }
    Ok(())
}

/// The demo while it runs.
struct Stage<'a> {
    pipeline: &'a DemoPipeline,
    ingress: Ingress<Tick>,
    feed: Feed,
    transitions: Receiver<Transition>,
    stop: StopFlag,
    start: Instant,
}

impl Stage<'_> {
    fn play(&mut self) -> Result<(), CliError> {
        say("One worker that manages 50 000 messages/s, and a feed of all tiers.\n\n")?;
        for chapter in &CHAPTERS {
            say(chapter.title)?;
            let level = self.offer_until(chapter.burst, chapter.end)?;
            if self.stop.is_raised() {
                return say("Stopped by a signal.\n");
            }
            if let End::At(goal) = chapter.end
                && level != goal
            {
                let seconds = PATIENCE.as_secs();
                let text = format!("the demo did not reach {goal} within {seconds} s; the level is {level}");
                return Err(CliError::Runtime(text));
            }
        }
        Ok(())
    }

    /// Offers a burst each millisecond until the chapter's end, and prints what happens. Returns the level then.
    fn offer_until(&mut self, burst: u32, end: End) -> Result<DegradationLevel, CliError> {
        let begin = Instant::now();
        let mut next_burst = begin;
        let mut next_line = begin + TICKER;
        loop {
            let level = self.pipeline.level();
            for transition in self.transitions.try_iter() {
                say(&format!("{}\n", summary::transition(&transition)))?;
            }
            let over = match end {
                End::After(time) => begin.elapsed() >= time,
                End::At(goal) => level == goal || begin.elapsed() >= PATIENCE,
            };
            if over || self.stop.is_raised() {
                return Ok(level);
            }
            if Instant::now() >= next_line {
                next_line += TICKER;
                self.print_state(level)?;
            }
            self.feed.offer_burst(&mut self.ingress, burst);
            next_burst += BURST;
            std::thread::sleep(next_burst.saturating_duration_since(Instant::now()));
        }
    }

    fn print_state(&self, level: DegradationLevel) -> Result<(), CliError> {
        let (lag, _) = self.pipeline.signals();
        let ledger = self.pipeline.ledger();
        let counts = [ledger.processed(), ledger.spilled, ledger.shed, ledger.refused];
        let [processed, spilled, shed, refused] = counts.map(summary::grouped);
        let at = self.start.elapsed().as_secs_f64();
        let lag = summary::grouped(lag);
        say(&format!(
            "{at:>8.2} s    {level:<13} lag {lag:>7}  processed {processed:>7}  spilled {spilled:>7}  shed {shed:>7}  \
             refused {refused:>9}\n"
        ))
    }
}

/// A synthetic feed: in ten messages three of tier 1, two of tier 2, four of tier 3, and one of reference data.
struct Feed {
    symbols: Vec<(MessagePriority, Vec<SymbolId>)>,
    sequence: u64,
    /// Messages offered, by priority.
    offered: [u64; 4],
}

/// In which order priorities come.
const PATTERN: [MessagePriority; 10] = {
    use MessagePriority::{Critical as C, High as H, Low as L, Normal as N};
    [C, N, H, N, C, L, N, H, C, N]
};

impl Feed {
    fn new(symbols: &Symbols) -> Result<Self, CliError> {
        let tiers = SymbolTiers::default();
        let unlisted: Vec<String> = (0..100).map(|i| format!("X{i:02}")).collect();
        let names = [tiers.tier_1(), tiers.tier_2(), unlisted, tiers.tier_1()];
        let intern = |names: Vec<String>| names.iter().map(|name| symbols.intern(name)).collect::<Result<Vec<_>, _>>();
        let mut groups = Vec::new();
        for (priority, names) in MessagePriority::ALL.into_iter().zip(names) {
            let ids = intern(names).map_err(|error| CliError::Runtime(error.to_string()))?;
            groups.push((priority, ids));
        }
        Ok(Self { symbols: groups, sequence: 0, offered: [0; 4] })
    }

    fn offer_burst(&mut self, ingress: &mut Ingress<Tick>, count: u32) {
        let now = wall_clock_ns();
        for _ in 0..count {
            let priority = PATTERN[self.sequence as usize % PATTERN.len()];
            let (_, ids) = &self.symbols[priority.index()];
            let symbol = ids[self.sequence as usize / PATTERN.len() % ids.len()];
            self.sequence += 1;
            let price = Price::from_billionths(10_000_000_000 + (self.sequence % 100) as i64 * 10_000_000);
            let tick = match priority {
                MessagePriority::Low => Tick::reference(symbol, now),
                _ => Tick::trade(symbol, now, price, 100),
            };
            self.offered[priority.index()] += 1;
            let tick = Tick { receive_ns: now, sequence: self.sequence, ..tick };
            // A live feed does not wait; the ledger counts what was not accepted.
            let (Offer::Accepted | Offer::Refused | Offer::Full) = ingress.offer(tick);
        }
        ingress.flush();
    }
}

/// What each priority got.
fn kept(feed: &Feed, ledger: &Ledger, replayed: [u64; 4]) -> String {
    let line = |priority: &MessagePriority| {
        let i = priority.index();
        let (offered, replayed) = (feed.offered[i], replayed[i]);
        let processed = ledger.by_priority[i].processed_live + replayed;
        let share = processed as f64 / offered.max(1) as f64 * 100.0;
        let by_replay = match replayed {
            0 => String::new(),
            replayed => format!(", {} by replay", summary::grouped(replayed)),
        };
        let [offered, processed] = [offered, processed].map(summary::grouped);
        format!("  {:<10} {share:>5.1} %   {processed:>9} of {offered:>9}{by_replay}\n", priority.name())
    };
    let lines: String = MessagePriority::ALL.iter().map(line).collect();
    format!("processed of what was offered\n{lines}")
}

fn say(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::stdout)
}
