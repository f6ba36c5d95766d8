//! What happens to the messages that matter most when a feed outruns its handler: Plimsoll beside queues that wait or
//! drop.
//!
//! ```text
//!                                       ┌─ Plimsoll: sheds LOW, spills NORMAL, goes on with CRITICAL and HIGH
//!   feed (core 0) ── 0.5 … 100 × ──▶ ───┼─ a channel that blocks                     ──▶ worker (core 1): 20 µs a message
//!   calm, storm, calm                   └─ queues that drop the newest, or the oldest
//! ```
//!
//! Run with `cargo bench --bench overload`, and loads, `10x` say, as arguments for these alone; `--rounds N` shows the
//! round whose CRITICAL p99 is the median one. The picture goes to `overload.svg` in cargo's directory for such things,
//! or to `--svg FILE`. The spill log is a real one, in `PLIMSOLL_BENCH_DIR`, or the system's temporary directory, and
//! is deleted after each run.
//!
//! **The feed** is an open loop: each message has a time at which it is to be sent, and latency counts from that time
//! to the end of its handling, whatever the producer had to wait in between. A calm at a fifth of the capacity, a
//! storm, and a calm again; then the time is up, and what is inside is finished. Only messages of the storm count for
//! goodput and latency. Of a hundred, 5 are CRITICAL, 3 HIGH, 62 NORMAL and 30 LOW, so that at ten times the capacity
//! CRITICAL and HIGH together are still within it, and at a hundred times CRITICAL alone is not: there nobody can
//! handle more of them than the picture's grey line.
//!
//! **The handler** takes the same time for each message, and the worker does not sleep, for all contenders. The large
//! queues hold as many messages as Plimsoll's lane; the small ones 1024, which is what one would choose for the sake of
//! latency. Plimsoll's thresholds and cooldown are set for this handler and for storms of seconds, see `ours`: the
//! defaults are for faster handlers and longer storms.
//!
//! **What still waits** when the time is up, in the spill log, or in front of a channel that blocks, is not lost: it
//! counts as waiting. Latencies of the channel that blocks contain these messages with the time that they have waited
//! so far, so they are less than what they come to ("≥"). Those of queues that drop are of what they let through.
//!
//! **Quotes** are looked at apart, at a hundred times the capacity: how old the newest quote that the handler has of a symbol is, by the default
//! verdicts and with the preset `conflate`; see `quotes`.
//!
//! **Not measured**: what a message costs without overload (that is the bench `pipeline`), more than one producer or
//! worker, bursts shorter than a storm, and feeds whose CRITICAL messages come in a burst of their own.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

#[path = "../harness/mod.rs"]
mod harness;

mod feed;
mod levels;
mod ours;
mod outcome;
mod plot;
mod queues;
mod quotes;
mod report;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::{Options, machine, on_own_thread, pin};
use serde_json::json;

use feed::{Phase, Schedule};
use ours::LANE;
use outcome::Outcome;

/// Times the handler's capacity, and how they are called.
const LOADS: [(f64, &str); 7] =
    [(0.5, "0.5x"), (1.0, "1x"), (2.0, "2x"), (5.0, "5x"), (10.0, "10x"), (30.0, "30x"), (100.0, "100x")];
/// What the calm is of the capacity.
const CALM: f64 = 0.2;
const SMALL: usize = 1024;

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Its feed may have to wait.
    pub(crate) blocks: bool,
    run: fn(&Schedule) -> Outcome,
}

/// Plimsoll first, the blocking channel of its size second.
const CONTENDERS: [Contender; 7] = [
    Contender { name: "Plimsoll", blocks: false, run: ours::plimsoll },
    Contender { name: "blocks, 65 536", blocks: true, run: |schedule| queues::blocking(schedule, LANE) },
    Contender { name: "drops newest, 65 536", blocks: false, run: |schedule| queues::drop_newest(schedule, LANE) },
    Contender { name: "drops oldest, 65 536", blocks: false, run: |schedule| queues::drop_oldest(schedule, LANE) },
    Contender { name: "blocks, 1024", blocks: true, run: |schedule| queues::blocking(schedule, SMALL) },
    Contender { name: "drops newest, 1024", blocks: false, run: |schedule| queues::drop_newest(schedule, SMALL) },
    Contender { name: "drops oldest, 1024", blocks: false, run: |schedule| queues::drop_oldest(schedule, SMALL) },
];

/// All runs at a load.
pub(crate) struct Load {
    pub(crate) times: f64,
    pub(crate) name: &'static str,
    /// By contender, then by round.
    runs: Vec<Vec<Outcome>>,
}

impl Load {
    /// A contender's run with the median CRITICAL p99.
    pub(crate) fn outcome(&self, contender: usize) -> &Outcome {
        let mut runs: Vec<&Outcome> = self.runs[contender].iter().collect();
        runs.sort_by_key(|run| run.critical().value_at_quantile(0.99));
        runs[runs.len() / 2]
    }
}

fn schedule(capacity: f64, times: f64, quick: bool) -> Schedule {
    let scale = if quick { 0.1 } else { 1.0 };
    let phase = |phase, seconds: f64, times| (phase, Duration::from_secs_f64(seconds * scale), capacity * times);
    Schedule {
        phases: [phase(Phase::Before, 0.2, CALM), phase(Phase::Storm, 2.0, times), phase(Phase::After, 1.0, CALM)],
    }
}

fn main() {
    let options = Options::parse(&LOADS.map(|(_, name)| name), 1);
    let capacity = on_own_thread(|| {
        pin(1);
        work::capacity()
    });
    println!("{}", machine());
    report::setting(capacity);
    let mut loads = Vec::new();
    for (times, name) in LOADS.into_iter().filter(|(_, name)| options.wants(name)) {
        let schedule = schedule(capacity, times, options.quick);
        let mut runs: Vec<Vec<Outcome>> = CONTENDERS.iter().map(|_| Vec::new()).collect();
        for _ in 0..options.rounds {
            for (contender, runs) in CONTENDERS.iter().zip(&mut runs) {
                let outcome = on_own_thread(|| {
                    // Threads that are started from here inherit it; workers pin themselves.
                    pin(0);
                    (contender.run)(&schedule)
                });
                outcome.check();
                runs.push(outcome);
            }
        }
        let load = Load { times, name, runs };
        report::load(&load, capacity, &schedule);
        loads.push(load);
    }
    if options.wants("100x") {
        quotes::compare(capacity, options.rounds, options.quick);
    }
    report::levels(&loads);
    report::goal(&loads);
    let svg = options.svg.clone().unwrap_or_else(default_picture);
    plot::draw(&svg, &loads, capacity).unwrap();
    println!("picture in {}", svg.display());
    options.write_json(&to_json(&loads, capacity, &options));
}

fn default_picture() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("overload.svg")
}

fn to_json(loads: &[Load], capacity: f64, options: &Options) -> serde_json::Value {
    let of = |load: &Load| -> serde_json::Value {
        let rounds = |runs: &Vec<Outcome>| runs.iter().map(Outcome::to_json).collect::<Vec<_>>();
        CONTENDERS.iter().zip(&load.runs).map(|(c, runs)| (c.name.to_owned(), json!(rounds(runs)))).collect()
    };
    json!({
        "machine": machine(),
        "quick": options.quick,
        "capacity_per_second": capacity,
        "shares_percent": feed::SHARES,
        "lag_thresholds": ours::LAG,
        "cooldown_seconds": ours::COOLDOWN_SECONDS,
        "loads": loads.iter().map(|load| (load.name.to_owned(), of(load))).collect::<serde_json::Map<_, _>>(),
    })
}
