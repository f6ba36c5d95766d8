//! How long single appends take, up to the worst one.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use plimsoll::zerocopy::IntoBytes;
use serde_json::{Value, json};

use crate::harness::{on_own_thread, pin};
use crate::plain::{BUFFER, open, wait_and_append};
use crate::ticks::{CHUNK, pool};
use crate::turn_dir;

const APPENDS: usize = 10_000_000;

/// Times in nanoseconds, in buckets that are an eighth of a power of two wide, and the worst one exactly.
struct Times {
    buckets: Vec<u64>,
    worst: u64,
    waits: u64,
    /// Page faults of the appending thread.
    faults: u64,
}

impl Times {
    fn new() -> Self {
        Self { buckets: vec![0; 64 * 8], worst: 0, waits: 0, faults: 0 }
    }

    #[inline]
    fn add(&mut self, ns: u64) {
        let bucket =
            if ns < 8 { ns as usize } else { (ns.ilog2() as usize - 2) * 8 + (ns >> (ns.ilog2() - 3) & 7) as usize };
        self.buckets[bucket] += 1;
        self.worst = self.worst.max(ns);
    }

    /// The upper end of the bucket that a share of all times is in.
    fn quantile(&self, share: f64) -> u64 {
        let wanted = (share * APPENDS as f64).ceil() as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        match bucket.unwrap_or_default() {
            small @ 0..8 => small as u64,
            bucket => ((bucket as u64 % 8 + 9) << (bucket / 8 - 1)) - 1,
        }
    }
}

/// Takes the time of each append: of the clock's readings, too, so what is measured is a little more than an append.
fn time_each(mut append: impl FnMut(usize) -> u64) -> Times {
    let mut times = Times::new();
    let faults = faults();
    let mut last = Instant::now();
    for i in 0..APPENDS {
        times.waits += append(i);
        let now = Instant::now();
        times.add((now - last).as_nanos() as u64);
        last = now;
    }
    times.faults = self::faults() - faults;
    times
}

/// Page faults of the calling thread so far: the tenth field of its stat file (proc(5)), the eighth after its name.
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().nth(7).unwrap().parse().unwrap()
}

fn clock_alone(_: &Path) -> Times {
    pin(0);
    time_each(|_| 0)
}

fn spill_log(dir: &Path) -> Times {
    let (pool, mut log) = (pool(), open(dir).0);
    pin(0);
    let times = time_each(|i| {
        let tick = &pool[i % pool.len()];
        let waits = if log.append(tick, 0) { 0 } else { wait_and_append(&mut log, tick) };
        if (i + 1).is_multiple_of(CHUNK) {
            log.commit();
            log.refresh();
        }
        waits
    });
    log.commit();
    assert_eq!(log.pending(), APPENDS as u64);
    times
}

fn buffered_file(dir: &Path) -> Times {
    let pool = pool();
    let mut out = BufWriter::with_capacity(BUFFER, File::create(dir.join("file")).unwrap());
    pin(0);
    time_each(|i| {
        out.write_all(pool[i % pool.len()].as_bytes()).unwrap();
        0
    })
}

type Contender = (&'static str, fn(&Path) -> Times);

pub(crate) fn run(rounds: usize) -> Value {
    let contenders: [Contender; 3] = [
        ("the clock alone", clock_alone),
        ("BufWriter, 64 KiB", buffered_file),
        ("spill log, commit each 128", spill_log),
    ];
    println!("\nworst: {APPENDS} appends of 64 bytes, ns an append, the clock's own time included");
    println!(
        "{:<32}{:>8}{:>8}{:>9}{:>10}{:>12}{:>8}{:>8}",
        "", "p50", "p99", "p99.9", "p99.99", "max", "waits", "faults"
    );
    let mut report = Vec::new();
    for round in 1..=rounds {
        for (name, run) in contenders {
            let times = on_own_thread(|| run(turn_dir().path()));
            let [p50, p99, p999, p9999] = [0.5, 0.99, 0.999, 0.9999].map(|share| times.quantile(share));
            let name = format!("{name}, round {round}");
            println!(
                "{name:<38}{p50:>6}{p99:>6}{p999:>8}{p9999:>10}{:>12}{:>8}{:>8}",
                times.worst, times.waits, times.faults
            );
            let quantiles = json!({ "p50": p50, "p99": p99, "p99.9": p999, "p99.99": p9999, "max": times.worst });
            report.push(json!({ "name": name, "ns": quantiles, "waits": times.waits, "faults": times.faults }));
        }
    }
    report.into()
}
