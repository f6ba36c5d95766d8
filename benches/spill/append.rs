//! How long an append takes on average, beside others.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Rounds, on_own_thread};
use crate::{Turn, peers, plain, turn_dir};

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

pub(crate) fn run(rounds: usize) -> Value {
    let mut waits = vec![0; CONTENDERS.len()];
    let times = Rounds::run(&CONTENDERS.map(|(name, _)| name), rounds, |contender| {
        let turn = on_own_thread(|| CONTENDERS[contender].1(turn_dir().path()));
        waits[contender] += turn.waits;
        turn.ns_per_record()
    });
    println!("\nappend: records of 64 bytes, {rounds} rounds, ns a record; ratios are medians of those of each round");
    println!("{:<32}{:>9}{:>9}{:>12}{:>14}{:>8}", "", "median", "best", "÷ memcpy", "÷ BufWriter", "waits");
    for (i, (name, waits)) in times.names().iter().zip(&waits).enumerate() {
        let ([_, to_memcpy, _], [_, to_file, _]) = (times.ratio(i, 0), times.ratio(i, 1));
        let (median, best) = (times.median(i), times.best(i));
        println!("{name:<32}{median:>9.2}{best:>9.2}{to_memcpy:>12.2}{to_file:>14.2}{waits:>8}");
    }
    times.to_json()
}
