//! What spilling costs a worker, beside plain ways to write, and other logs.
//!
//! ```text
//!   worker (core 0): append, append, … ──▶ mapped segment      keeper (core 1): the next segments, pages made present
//! ```
//!
//! Run with `cargo bench --bench spill`, and the parts `append`, `replay`, `worst` as arguments for these alone; `--quick` is one round
//! of each. Files go to `PLIMSOLL_BENCH_DIR`, or the system's temporary directory, and are deleted after each turn. Contenders take turns,
//! round after round; the ratios are medians of those of each round. What was written is read back, and its sum checked.
//!
//! No contender waits for the disk: what was appended survives the process, and not the machine. Threads that a contender starts may
//! use the other core, and their work is not counted; whatever the appending thread waits for is. So a turn pins its thread after it
//! has started these: they would inherit that.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

#[path = "../harness/mod.rs"]
mod harness;

mod append;
mod peers;
mod plain;
mod replay;
mod ticks;
mod worst;

use std::path::PathBuf;
use std::time::Duration;

use harness::{Options, machine};
use serde_json::json;

/// What a contender's turn has come to.
struct Turn {
    records: u64,
    elapsed: Duration,
    /// How often the appending thread found no room and had to wait.
    waits: u64,
}

impl Turn {
    fn ns_per_record(&self) -> f64 {
        self.elapsed.as_secs_f64() * 1e9 / self.records as f64
    }
}

/// A new directory for a turn.
fn turn_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(bench_dir()).unwrap()
}

fn bench_dir() -> PathBuf {
    std::env::var_os("PLIMSOLL_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// What can be asked for, and how many rounds each has by default.
const PARTS: [&str; 3] = ["append", "replay", "worst"];
const ROUNDS: [usize; 3] = [9, 7, 3];

fn main() {
    let [append, replay, worst] = ROUNDS.map(|rounds| Options::parse(&PARTS, rounds));
    println!("{}; files in {}", machine(), bench_dir().display());
    let mut report = json!({ "machine": machine() });
    if append.wants("append") {
        report["append"] = append::run(append.rounds);
    }
    if replay.wants("replay") {
        report["replay"] = replay::run(replay.rounds);
    }
    if worst.wants("worst") {
        report["worst"] = worst::run(worst.rounds);
    }
    append.write_json(&report);
}
