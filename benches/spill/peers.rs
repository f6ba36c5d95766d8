//! Appending with other logs, in batches and without waiting for the disk.
#![allow(unsafe_code, reason = "the environment is the only way to tell walrus its directory")]

use std::path::Path;
use std::sync::Once;
use std::time::Instant;

use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};
use plimsoll::Tick;
use plimsoll::zerocopy::IntoBytes;
use queue_file::QueueFile;
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use crate::Turn;
use crate::harness::pin;
use crate::ticks::{expected_sum, pool, sum_of};

/// Records of a peer: fewer, as they are slower.
const RECORDS: u64 = 1_024_000;
const RECORDS_OF_WALRUS: u64 = 256_000;

/// Appends records in batches; says how long that took.
fn append_all(records: u64, batch: usize, mut append: impl FnMut(&[Tick])) -> Turn {
    // Many times the pool, so that batches of any length are slices of it.
    let ticks: Vec<Tick> = pool().into_iter().cycle().take(16 * batch).collect();
    pin(0);
    let start = Instant::now();
    ticks.chunks(batch).cycle().take(records as usize / batch).for_each(&mut append);
    Turn { records, elapsed: start.elapsed(), waits: 0 }
}

/// One write for each batch, with a CRC-32C for each message, and an index in a mapped file.
pub(crate) fn commitlog(dir: &Path, batch: usize) -> Turn {
    let mut options = LogOptions::new(dir);
    options.segment_max_bytes(64 << 20).index_max_items(1 << 20);
    let mut log = CommitLog::new(options).unwrap();
    let turn = append_all(RECORDS, batch, |ticks| {
        let mut messages: MessageBuf = ticks.iter().map(Tick::as_bytes).collect();
        log.append(&mut messages).unwrap();
    });
    let (mut sum, mut next) = (0, 0);
    while next < RECORDS {
        let messages = log.read(next, ReadLimit::max_bytes(1 << 20)).unwrap();
        next += messages.len() as u64;
        sum += messages.iter().map(|message| sum_of(message.payload())).sum::<u64>();
    }
    assert_eq!(sum, expected_sum(RECORDS));
    turn
}

/// A ring in one file, with a CRC-32 for each element; as large from the start as it gets, so that it does not grow.
pub(crate) fn queue_file(dir: &Path, batch: usize) -> Turn {
    let mut queue = QueueFile::with_capacity(dir.join("queue"), RECORDS * 128).unwrap();
    queue.set_sync_writes(false);
    let turn = append_all(RECORDS, batch, |ticks| queue.add_n(ticks.iter().map(Tick::as_bytes)).unwrap());
    assert_eq!(queue.iter().map(|element| sum_of(&element)).sum::<u64>(), expected_sum(RECORDS));
    turn
}

/// A write-ahead log by topic, with a checksum for each record; in mapped files, which is the faster of its ways here.
pub(crate) fn walrus(dir: &Path, batch: usize) -> Turn {
    static ENVIRONMENT: Once = Once::new();
    // Its directory is set once, as it is read by threads that go on; so its files are removed by themselves.
    let key = dir.file_name().unwrap().to_str().unwrap().to_owned();
    let root = crate::bench_dir().join(format!("walrus-{}", std::process::id()));
    ENVIRONMENT.call_once(|| {
        // SAFETY: no other thread is there yet that reads the environment: turns come one after the other.
        unsafe {
            std::env::set_var("WALRUS_DATA_DIR", &root);
            std::env::set_var("WALRUS_QUIET", "1");
        }
    });
    walrus_rust::disable_fd_backend();
    let consistency = ReadConsistency::AtLeastOnce { persist_every: 1 << 30 };
    let log = Walrus::with_consistency_and_schedule_for_key(&key, consistency, FsyncSchedule::NoFsync).unwrap();
    let turn = append_all(RECORDS_OF_WALRUS, batch, |ticks| {
        let records: Vec<&[u8]> = ticks.iter().map(Tick::as_bytes).collect();
        log.batch_append_for_topic("ticks", &records).unwrap();
    });
    let (mut sum, mut count) = (0, 0);
    while count < RECORDS_OF_WALRUS {
        let entries = log.batch_read_for_topic("ticks", 1 << 20, true).unwrap();
        assert!(!entries.is_empty(), "{count} of {RECORDS_OF_WALRUS} records came back");
        count += entries.len() as u64;
        sum += entries.iter().map(|entry| sum_of(&entry.data)).sum::<u64>();
    }
    assert_eq!(sum, expected_sum(RECORDS_OF_WALRUS));
    drop(log);
    std::fs::remove_dir_all(&root).unwrap();
    turn
}
