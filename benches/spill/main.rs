//! What spilling costs a worker, beside plain ways to write, and other logs.
//!
//! ```text
//!   worker (core 0): append, append, … ──▶ mapped segment      keeper (core 1): the next segments, pages made present
//! ```
//!
//! Run with `cargo bench --bench spill`, and the parts `append`, `replay`, `worst` as arguments for these alone. Files go to
//! `PLIMSOLL_BENCH_DIR`, or the system's temporary directory, and are deleted after each turn. Contenders take turns,
//! round after round; the ratios are medians of those of each round. What was written is read back, and its sum checked.
//!
//! No contender waits for the disk: what was appended survives the process, and not the machine. Threads that a contender starts may
//! use the other core, and their work is not counted; whatever the appending thread waits for is.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

mod append;
mod peers;
mod plain;
mod replay;
mod ticks;
mod worst;

use std::path::PathBuf;
use std::time::Duration;

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

/// Runs on a thread of its own, so that a turn may pin it and leave no trace.
fn on_own_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// Pins the calling thread to core 0. After it has started its helpers: they would inherit that.
fn pin() {
    if let Some(core) = core_affinity::get_core_ids().and_then(|cores| cores.first().copied()) {
        core_affinity::set_for_current(core);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn best(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The median of the ratios of each round.
fn ratio(of: &[f64], to: &[f64]) -> f64 {
    median(of.iter().zip(to).map(|(of, to)| of / to).collect())
}

fn main() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    println!("files in {}", bench_dir().display());
    if wants("append") {
        append::run();
    }
    if wants("replay") {
        replay::run();
    }
    if wants("worst") {
        worst::run();
    }
}
