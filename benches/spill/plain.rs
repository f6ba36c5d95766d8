//! Appending with the spill log, and with as little as possible.
#![allow(unsafe_code, reason = "a file is mapped that nobody else knows of")]

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use plimsoll::spill::{self, SpillLog};
use plimsoll::zerocopy::IntoBytes;
use plimsoll::{Symbols, Tick};

use crate::Turn;
use crate::harness::pin;
use crate::ticks::{CHUNK, RECORD, SYMBOLS, config, expected_sum, pool, sum_of};

/// Records of the fast contenders.
pub(crate) const RECORDS: u64 = 8_000_000;
/// The buffer of the buffered file.
pub(crate) const BUFFER: usize = 64 << 10;

/// The spill log, open for one worker, and its symbols.
pub(crate) fn open(dir: &Path) -> (SpillLog<Tick>, spill::RecoveryReport) {
    let symbols = Arc::new(Symbols::default());
    for i in 0..SYMBOLS {
        symbols.intern(&format!("S{i}")).unwrap();
    }
    let (mut logs, report) = spill::open::<Tick>(&config(dir), &symbols, 1).unwrap();
    (logs.pop().unwrap(), report)
}

/// Appends a chunk and commits it; waits where there is no room. Returns how often that was.
#[inline]
pub(crate) fn append_chunk(log: &mut SpillLog<Tick>, chunk: &[Tick]) -> u64 {
    let mut waits = 0;
    log.refresh();
    for tick in chunk {
        if !log.append(tick, 0) {
            waits += wait_and_append(log, tick);
        }
    }
    log.commit();
    waits
}

#[cold]
pub(crate) fn wait_and_append(log: &mut SpillLog<Tick>, tick: &Tick) -> u64 {
    while !log.append(tick, 0) {
        std::thread::yield_now();
        log.refresh();
    }
    1
}

/// As fast as it goes, without an end: then making segments is what counts, and the appending thread waits for them.
pub(crate) fn spill_log(dir: &Path) -> Turn {
    append_in_bursts(dir, RECORDS as usize, Duration::ZERO)
}

/// As a storm comes: half a segment at once, and a pause, which does not count and in which the helper gets ahead again.
pub(crate) fn spill_log_in_bursts(dir: &Path) -> Turn {
    append_in_bursts(dir, 500_000, Duration::from_millis(20))
}

fn append_in_bursts(dir: &Path, burst: usize, pause: Duration) -> Turn {
    let pool = pool();
    let (mut log, _) = open(dir);
    pin(0);
    let (mut waits, mut elapsed, mut begun) = (0, Duration::ZERO, 0);
    while begun < RECORDS as usize / CHUNK {
        let end = (begun + burst / CHUNK).min(RECORDS as usize / CHUNK);
        let start = Instant::now();
        for i in begun..end {
            let at = i * CHUNK % pool.len();
            waits += append_chunk(&mut log, &pool[at..at + CHUNK]);
        }
        elapsed += start.elapsed();
        begun = end;
        std::thread::sleep(pause);
    }
    assert_eq!((log.pending(), log.next_sequence()), (RECORDS, RECORDS));
    drop(log);
    let mut sum = 0;
    let logs = spill::read_records::<Tick>(dir, |record| sum += record.message.size).unwrap();
    assert_eq!((sum, logs[0].lost()), (expected_sum(RECORDS), 0));
    Turn { records: RECORDS, elapsed, waits }
}

pub(crate) fn buffered_file(dir: &Path) -> Turn {
    let (pool, path) = (pool(), dir.join("file"));
    let mut out = BufWriter::with_capacity(BUFFER, File::create(&path).unwrap());
    pin(0);
    let start = Instant::now();
    for tick in pool.iter().cycle().take(RECORDS as usize) {
        out.write_all(tick.as_bytes()).unwrap();
    }
    out.flush().unwrap();
    let elapsed = start.elapsed();
    let mut input = BufReader::with_capacity(1 << 20, File::open(&path).unwrap());
    let (mut sum, mut record) = (0, [0; RECORD]);
    while input.read_exact(&mut record).is_ok() {
        sum += sum_of(&record);
    }
    assert_eq!(sum, expected_sum(RECORDS));
    Turn { records: RECORDS, elapsed, waits: 0 }
}

/// Copies into a mapped file whose pages are all there. The least that any log in shared memory can cost.
pub(crate) fn copy_into_map(dir: &Path) -> Turn {
    let (pool, bytes) = (pool(), RECORDS as usize * RECORD);
    let file = File::options().read(true).write(true).create_new(true).open(dir.join("map")).unwrap();
    file.set_len(bytes as u64).unwrap();
    // SAFETY: nobody else knows of the file.
    let mut map = unsafe { MmapMut::map_mut(&file) }.unwrap();
    map.fill(0);
    pin(0);
    let start = Instant::now();
    for (place, tick) in map.chunks_exact_mut(RECORD).zip(pool.iter().cycle()) {
        place.copy_from_slice(tick.as_bytes());
    }
    let elapsed = start.elapsed();
    assert_eq!(sum_of(&map), expected_sum(RECORDS));
    Turn { records: RECORDS, elapsed, waits: 0 }
}
