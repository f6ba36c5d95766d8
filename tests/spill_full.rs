//! Proves that a full disk, a used-up budget and a floor of free space end spilling and nothing else: what was committed comes back,
//! that makes room, and the log goes on. The disk is a small one in memory, which a child process mounts for itself.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use plimsoll::spill::{SpillConfig, SpillLog};
use plimsoll::{Symbols, Tick};
use support::spill::*;

/// Size of the small disk, and of the segments on it.
const DISK_MIB: u32 = 16;
const SEGMENT: u64 = 1 << 20;
/// Records that fit into a segment.
const PER_SEGMENT: u64 = (SEGMENT / PAGE as u64 - 2) * PER_FRAME;

fn small_disk_config(dir: &Path) -> SpillConfig {
    SpillConfig { budget_bytes: 1 << 30, ..config(dir, SEGMENT / PAGE as u64) }
}

fn free(dir: &Path) -> u64 {
    let disk = rustix::fs::statvfs(dir).unwrap();
    disk.f_bavail * disk.f_frsize
}

/// Takes all room there is.
fn fill_disk(path: &Path) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    while match file.write(&[1; PAGE]) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            false
        }
    } {}
}

fn segment_bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir.join("worker-0")).unwrap().map(|entry| entry.unwrap());
    let segments = files.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "spill"));
    segments.map(|entry| entry.metadata().map_or(0, |meta| meta.len())).sum()
}

/// No more goes in, however often it is tried.
fn expect_full(log: &mut SpillLog<Tick>, symbols: &Symbols) {
    let next = log.next_sequence();
    for _ in 0..20_000 {
        log.refresh();
        assert!(!log.append(&tick(symbols, next), note(next)));
        std::thread::yield_now();
    }
    assert_eq!(log.commit(), 0);
}

/// The log is full: all that is in it comes back, in order, and then there is room for as much again, and again.
fn expect_back_and_room_again(log: &mut SpillLog<Tick>, symbols: &Symbols, from: u64) {
    let end = log.next_sequence();
    assert!(replay(log, symbols, u64::MAX).into_iter().eq(from..end));
    let mut next = end;
    for _ in 0..3 {
        append(log, symbols, next..next + 2 * PER_SEGMENT);
        assert!(replay(log, symbols, u64::MAX).into_iter().eq(next..next + 2 * PER_SEGMENT));
        next += 2 * PER_SEGMENT;
    }
    assert_eq!((log.pending(), log.take_lost()), (0, 0));
}

fn open(config: &SpillConfig, symbols: &Arc<Symbols>) -> SpillLog<Tick> {
    let (log, report) = open_one(config, symbols).unwrap();
    assert_eq!((report.lost(), report.faults().count()), (0, 0), "{report:?}");
    log
}

/// What happens on the small disk, in this directory.
type Story = fn(&Path);

const STORIES: [(&str, Story); 5] = [
    ("the log fills it", |dir| {
        let (config, symbols) = (small_disk_config(dir), symbols(0));
        let mut log = open(&config, &symbols);
        // The rest of the disk has the cursor, the names, and the lock.
        append(&mut log, &symbols, 0..15 * PER_SEGMENT);
        expect_full(&mut log, &symbols);
        expect_back_and_room_again(&mut log, &symbols, 0);
    }),
    ("the log fills it, with the last byte taken by another, and the cursor is written all the same", |dir| {
        let (config, symbols) = (small_disk_config(dir), symbols(0));
        let mut log = open(&config, &symbols);
        append(&mut log, &symbols, 0..15 * PER_SEGMENT);
        fill_disk(&dir.join("other"));
        assert_eq!(replay(&mut log, &symbols, 100).len(), 100);
        drop(log);
        // Not even the names of the symbols can be written now, and replay goes on.
        fill_disk(&dir.join("other"));
        let mut log = open(&config, &symbols);
        assert_eq!(log.pending(), 15 * PER_SEGMENT - 100);
        expect_full(&mut log, &symbols);
        expect_back_and_room_again(&mut log, &symbols, 100);
    }),
    ("another has filled it before the start", |dir| {
        let (config, symbols) = (small_disk_config(dir), symbols(0));
        fill_disk(&dir.join("other"));
        let mut log = open(&config, &symbols);
        expect_full(&mut log, &symbols);
        // Room for less than a segment is none.
        File::options().write(true).open(dir.join("other")).unwrap().set_len((16 << 20) - SEGMENT / 2).unwrap();
        expect_full(&mut log, &symbols);
        fs::remove_file(dir.join("other")).unwrap();
        append(&mut log, &symbols, 0..15 * PER_SEGMENT);
        expect_full(&mut log, &symbols);
        expect_back_and_room_again(&mut log, &symbols, 0);
    }),
    ("a process was killed when it was full", |dir| {
        let (config, symbols) = (small_disk_config(dir), symbols(0));
        let mut log = open(&config, &symbols);
        append(&mut log, &symbols, 0..15 * PER_SEGMENT);
        fill_disk(&dir.join("other"));
        expect_full(&mut log, &symbols);
        // It ends here without a destructor, and its files are locked no more.
        let files = read_files(dir);
        drop(log);
        write_files(dir, &files);
        let mut log = open(&config, &symbols);
        assert_eq!(log.pending(), 15 * PER_SEGMENT);
        expect_full(&mut log, &symbols);
        expect_back_and_room_again(&mut log, &symbols, 0);
    }),
    ("a floor of free space is kept", |dir| {
        let symbols = symbols(0);
        let floor = 8 << 20;
        let config = SpillConfig { free_space_floor_bytes: floor, ..small_disk_config(dir) };
        let mut log = open(&config, &symbols);
        append(&mut log, &symbols, 0..7 * PER_SEGMENT);
        expect_full(&mut log, &symbols);
        assert!(free(dir) >= floor && free(dir) < floor + SEGMENT);
        expect_back_and_room_again(&mut log, &symbols, 0);
        assert!(free(dir) >= floor);
    }),
];

/// What the child process runs; in any other it does nothing.
#[test]
fn child_on_a_small_disk() {
    let Some((dir, plan)) = child_plan() else { return };
    let (_, story) = STORIES.into_iter().find(|(name, _)| *name == plan).unwrap();
    assert!(free(&dir) <= u64::from(DISK_MIB) << 20);
    story(&dir);
}

#[test]
fn on_a_full_disk_what_was_committed_comes_back_and_makes_room() {
    for (name, _) in STORIES {
        let dir = tempfile::tempdir().unwrap();
        let Some(command) = child_on_small_disk("child_on_a_small_disk", dir.path(), DISK_MIB, name) else { return };
        println!("{name}");
        run_child(command);
    }
}

#[test]
fn the_budget_is_kept_and_what_comes_back_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let symbols = symbols(0);
    let budget = 3 * SEGMENT;
    let config = SpillConfig { budget_bytes: budget, ..small_disk_config(dir.path()) };
    let mut log = open(&config, &symbols);
    append(&mut log, &symbols, 0..3 * PER_SEGMENT);
    expect_full(&mut log, &symbols);
    assert_eq!(segment_bytes(dir.path()), budget);
    // A restart does not forget what is there.
    drop(log);
    let mut log = open(&config, &symbols);
    expect_full(&mut log, &symbols);
    assert_eq!(segment_bytes(dir.path()), budget);
    expect_back_and_room_again(&mut log, &symbols, 0);
    assert!(segment_bytes(dir.path()) <= budget);
}

#[test]
fn a_floor_that_cannot_be_kept_lets_nothing_in_and_all_out() {
    let dir = tempfile::tempdir().unwrap();
    let symbols = symbols(0);
    let config = small_disk_config(dir.path());
    let mut log = open(&config, &symbols);
    append(&mut log, &symbols, 0..1000);
    drop(log);
    let no_room = SpillConfig { free_space_floor_bytes: u64::MAX, ..config.clone() };
    let mut log = open(&no_room, &symbols);
    expect_full(&mut log, &symbols);
    assert!(replay(&mut log, &symbols, 600).into_iter().eq(0..600));
    drop(log);
    let mut log = open(&config, &symbols);
    expect_back_and_room_again(&mut log, &symbols, 600);
}
