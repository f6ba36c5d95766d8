//! How long an append takes on average, beside others.

use std::path::Path;

use crate::{Turn, best, median, on_own_thread, peers, plain, ratio, turn_dir};

const ROUNDS: usize = 9;

type Contender = (&'static str, fn(&Path) -> Turn);

/// The first two are what the others are compared with.
const CONTENDERS: [Contender; 9] = [
    ("memcpy into a present map", plain::copy_into_map),
    ("BufWriter, 64 KiB", plain::buffered_file),
    ("spill log, bursts of 500 000", plain::spill_log_in_bursts),
    ("spill log, without a pause", plain::spill_log),
    ("commitlog, batches of 128", |dir| peers::commitlog(dir, 128)),
    ("commitlog, batches of 2000", |dir| peers::commitlog(dir, 2000)),
    ("queue-file, batches of 128", |dir| peers::queue_file(dir, 128)),
    ("queue-file, batches of 2000", |dir| peers::queue_file(dir, 2000)),
    ("walrus-rust, batches of 2000", |dir| peers::walrus(dir, 2000)),
];

pub(crate) fn run() {
    let mut times = vec![Vec::new(); CONTENDERS.len()];
    let mut waits = vec![0; CONTENDERS.len()];
    for _ in 0..ROUNDS {
        for (i, (_, run)) in CONTENDERS.iter().enumerate() {
            let turn = on_own_thread(|| run(turn_dir().path()));
            times[i].push(turn.ns_per_record());
            waits[i] += turn.waits;
        }
    }
    println!("\nappend: records of 64 bytes, {ROUNDS} rounds, ns a record; ratios are medians of those of each round");
    println!("{:<32}{:>9}{:>9}{:>12}{:>14}{:>8}", "", "median", "best", "÷ memcpy", "÷ BufWriter", "waits");
    for ((name, _), (mine, waits)) in CONTENDERS.iter().zip(times.iter().zip(&waits)) {
        let (to_memcpy, to_file) = (ratio(mine, &times[0]), ratio(mine, &times[1]));
        let (median, best) = (median(mine.clone()), best(mine));
        println!("{name:<32}{median:>9.2}{best:>9.2}{to_memcpy:>12.2}{to_file:>14.2}{waits:>8}");
    }
}
