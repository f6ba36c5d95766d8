//! What a message costs on its whole way, and what it would cost in a pipeline written by hand.
//!
//! ```text
//!   producer (core 0): build, offer ──▶ lane ──▶ worker (core 1): verdict, counters ──▶ handler
//! ```
//!
//! Run with `cargo bench --bench pipeline -- [PART…] [--rounds N] [--quick] [--json FILE]`. Contenders take turns, round after
//! round; ratios are those within a round. Every turn's sum and counts are checked, and the order within each symbol where the handler
//! can tell it (all but `empty` and `bars`). A turn begins with the first message and ends when the last worker has ended.
//!
//! | part | varies | goal |
//! |---|---|---|
//! | `peers` | the burst | ours at most 1.3 times the bare lane; peers at least twice ours |
//! | `levels` | the level; a refused offer; all shed | |
//! | `workers` | workers and producers | |
//! | `handlers` | the work for each message | |
//! | `symbols` | how many symbols, in turn or at random | |
//!
//! All else is as in the base case: one producer, one worker, bursts of 32, a hundred symbols in turn, a handler that sums, level NORMAL.
//!
//! # Contenders
//!
//! * **plimsoll**: `offer`, and `flush` after each burst. A producer that finds its lane full pauses and offers again; such an
//!   offer leaves a hole, of which the handler is told. `offer_wait` leaves none.
//! * **bare lane**: the hand-off alone, with the same handler.
//! * **disruptor + atomic**: a ring for each worker, bursts published at once, the level in an atomic byte.
//! * **crossbeam channel + mutex**: a channel for each worker, the level behind a mutex that is locked for each message.
//! * **tokio mpsc + service**: a channel and a task for each worker, permits taken a burst at once, a check for readiness
//!   before each message and a service call for each.
//!
//! All build their messages alike, hold as many, and call the same handlers; all but the bare lane route by symbol, decide by level and
//! priority, and count by priority. All but tokio's tasks, which the runtime wakes, spin while they wait. Peers do less than we do: they know no lag and no latency,
//! tell of no holes, have no gate (but for tokio's) and no policy that can change as a whole. Tokio gets a quarter of the
//! messages, as it takes its time.

#[path = "../harness/mod.rs"]
mod harness;

mod bare_lane;
mod channels;
mod contenders;
mod handlers;
mod load;
mod ours;
mod parts;
mod peer;
mod race;
mod report;
mod rings;
mod tasks;

use harness::Options;
use load::Load;
use report::Report;

/// A part's name, and what runs it from the base case.
type Part = (&'static str, fn(&mut Report<'_>, Load));

const PARTS: [Part; 5] = [
    ("peers", parts::peers),
    ("levels", parts::levels),
    ("workers", parts::workers),
    ("handlers", parts::handlers),
    ("symbols", parts::symbols),
];

fn main() {
    let options = Options::parse(&PARTS.map(|(name, _)| name), 9);
    load::cores(); // before any thread is pinned
    let base = Load::base(if options.quick { 40_000 } else { 4_000_000 });
    let mut report = Report::new(&options);
    for (name, run) in PARTS {
        if options.wants(name) {
            run(&mut report, base);
        }
    }
    report.end();
}
