//! How fast a log is recovered and replayed, beside plain reading of the same bytes. All of it is in the page cache.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use plimsoll::spill::inspect;
use serde_json::Value;

use crate::harness::{median, on_own_thread, pin};
use crate::plain::{RECORDS, append_chunk, open};
use crate::ticks::{CHUNK, RECORD, expected_sum, pool, sum_of};
use crate::turn_dir;

/// A frame, its records, and where they begin: of ticks.
const FRAME: usize = 4096;
const PER_FRAME: usize = 59;
const RECORDS_AT: usize = 320;

/// What one round has come to.
struct Round {
    bytes: u64,
    read: Duration,
    inspect: Duration,
    open: Duration,
    replay: Duration,
}

pub(crate) fn run(count: usize) -> Value {
    let rounds: Vec<Round> = (0..count).map(|_| on_own_thread(round)).collect();
    let of = |pick: fn(&Round) -> Duration| -> Vec<f64> {
        rounds.iter().map(|round| pick(round).as_secs_f64() * 1e9 / RECORDS as f64).collect()
    };
    let read = of(|round| round.read);
    let bytes_per_record = rounds[0].bytes as f64 / RECORDS as f64;
    println!("\nreplay: {RECORDS} records of 64 bytes, {count} rounds, all in the page cache");
    println!("{:<32}{:>11}{:>9}{:>10}{:>12}", "", "ns/record", "best", "GB/s", "÷ reading");
    let mut report = serde_json::Map::new();
    for (name, mine) in [
        ("File::read, 1 MiB, and sum", read.clone()),
        ("inspect (checks all frames)", of(|round| round.inspect)),
        ("open (recovery)", of(|round| round.open)),
        ("replay, and sum", of(|round| round.replay)),
    ] {
        let ratios: Vec<f64> = mine.iter().zip(&read).map(|(mine, read)| mine / read).collect();
        let (ratio, median) = (median(&ratios), median(&mine));
        let best = mine.iter().copied().fold(f64::INFINITY, f64::min);
        let speed = bytes_per_record / median;
        println!("{name:<32}{median:>11.2}{best:>9.2}{speed:>10.2}{ratio:>12.2}");
        report.insert(name.to_owned(), mine.into());
    }
    report.into()
}

fn round() -> Round {
    let dir = turn_dir();
    fill(dir.path());
    let start = Instant::now();
    let (sum, bytes) = on_own_thread(|| {
        pin(0);
        read_plainly(&dir.path().join("worker-0"))
    });
    let read = start.elapsed();
    assert_eq!(sum, expected_sum(RECORDS));

    let start = Instant::now();
    let logs = inspect(dir.path(), |_| {}).unwrap();
    let inspect = start.elapsed();
    assert_eq!((logs[0].pending, logs[0].lost()), (RECORDS, 0));

    let start = Instant::now();
    let (mut log, report) = open(dir.path());
    let open = start.elapsed();
    assert_eq!((report.pending(), report.lost()), (RECORDS, 0));

    pin(0);
    let (mut sum, start) = (0, Instant::now());
    while log.is_pending() {
        if log.replay(CHUNK, |replayed| sum += replayed.message.size) == 0 {
            std::thread::yield_now();
        }
    }
    let replay = start.elapsed();
    assert_eq!((sum, log.take_lost()), (expected_sum(RECORDS), 0));
    Round { bytes, read, inspect, open, replay }
}

fn fill(dir: &Path) {
    let (pool, mut log) = (pool(), open(dir).0);
    for i in 0..RECORDS as usize / CHUNK {
        let at = i * CHUNK % pool.len();
        append_chunk(&mut log, &pool[at..at + CHUNK]);
    }
}

/// Reads all files of a directory that are segments, and adds up the sizes of the records that should be there.
fn read_plainly(dir: &Path) -> (u64, u64) {
    let mut buffer = vec![0; 1 << 20];
    let (mut sum, mut bytes) = (0, 0);
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "spill") {
            continue;
        }
        let mut file = File::open(path).unwrap();
        let pages = file.metadata().unwrap().len() as usize / FRAME;
        let mut page = 0;
        while page < pages {
            let some = buffer.len().min((pages - page) * FRAME);
            file.read_exact(&mut buffer[..some]).unwrap();
            bytes += some as u64;
            for frame in buffer[..some].chunks_exact(FRAME) {
                // Not the headers, at both ends. What was not written is 0.
                if (1..pages - 1).contains(&page) {
                    sum += sum_of(&frame[RECORDS_AT..RECORDS_AT + PER_FRAME * RECORD]);
                }
                page += 1;
            }
        }
    }
    (sum, bytes)
}
