//! Proves that damage costs what is damaged and nothing more: whichever bit of the spill log is flipped and wherever a file is cut,
//! no wrong record comes back, none comes twice, the order is kept, and the lost ranges name exactly the records that are missing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use plimsoll::spill::{self, Fault, FaultKind, OnDamage, SpillConfig, SpillError};
use plimsoll::{Symbols, Tick};
use support::spill::*;

/// Records that are appended, and those of them that are replayed before the damage.
const RECORDS: u64 = 250;
const REPLAYED: u64 = 20;
/// Pages of a segment: two headers and two frames.
const PAGES: u64 = 4;
const SEGMENT: u64 = (PAGES - 2) * PER_FRAME;

/// A log of three segments that was closed in good order.
static LOG: LazyLock<Files> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let symbols = symbols(0);
    let (mut log, _) = open_one(&config(dir.path(), PAGES), &symbols).unwrap();
    append(&mut log, &symbols, 0..RECORDS);
    assert_eq!(replay(&mut log, &symbols, REPLAYED).len() as u64, REPLAYED);
    drop(log);
    let mut files = read_files(dir.path());
    files.remove(Path::new("lock"));
    assert_eq!(files.len(), 5, "{:?}", files.keys());
    files
});

fn segment(number: u64) -> PathBuf {
    format!("worker-0/{number:010}.spill").into()
}

fn cursor() -> PathBuf {
    "worker-0/cursor".into()
}

fn dictionary() -> PathBuf {
    LOG.keys().find(|path| path.to_string_lossy().starts_with("symbols-")).unwrap().clone()
}

/// What is in a log.
#[derive(Debug, PartialEq)]
struct Found {
    back: Vec<u64>,
    /// Of those that came back, how many have no name.
    nameless: usize,
    faults: Vec<Fault>,
}

impl Found {
    fn lost(&self) -> Vec<u64> {
        self.faults.iter().flat_map(|fault| fault.lost.clone()).collect()
    }

    fn kinds(&self) -> Vec<FaultKind> {
        self.faults.iter().map(|fault| fault.kind.clone()).collect()
    }

    /// What came back and what is reported lost are all that was pending, each once and in order; and just this is lost.
    #[track_caller]
    fn check(&self, pending: Range<u64>, lost: Range<u64>, what: &str) {
        assert!(self.back.is_sorted_by(|a, b| a < b), "{what}: {self:?}");
        let expected = pending.filter(|number| !lost.contains(number));
        assert!(self.back.iter().copied().eq(expected), "{what}: {self:?}");
        assert!(self.lost().into_iter().eq(lost), "{what}: {self:?}");
        assert!(self.faults.iter().all(|fault| fault.exact), "{what}: {self:?}");
    }
}

/// Reads a log, and compares each record with what was appended under its number.
fn read(dir: &Path, expected: &[(Tick, u32)]) -> Result<Found, SpillError> {
    let mut back = Vec::with_capacity(expected.len());
    let logs = spill::read_records::<Tick>(dir, |record| {
        let (tick, note) = expected[record.sequence as usize];
        assert_eq!((record.message, record.missed), (tick, note));
        assert_eq!(record.symbol, Some(name_of(record.sequence)));
        back.push(record.sequence);
    })?;
    let nameless = logs.iter().map(|log| log.nameless as usize).sum();
    assert_eq!(logs.iter().map(|log| log.pending).sum::<u64>(), back.len() as u64);
    Ok(Found { back, nameless, faults: logs.into_iter().flat_map(|log| log.faults).collect() })
}

fn expected() -> Vec<(Tick, u32)> {
    let symbols = symbols(0);
    (0..RECORDS).map(|number| (tick(&symbols, number), note(number))).collect()
}

/// Opens a log in a process that met the symbols in another order, and replays all of it.
fn replay_all(config: &SpillConfig) -> Result<Found, SpillError> {
    let symbols: std::sync::Arc<Symbols> = symbols(7);
    let (mut log, report) = open_one(config, &symbols)?;
    let pending = log.pending();
    let back = replay(&mut log, &symbols, u64::MAX);
    assert_eq!((report.pending(), log.take_lost()), (pending, 0));
    assert_eq!(back.len() as u64, pending);
    let faults: Vec<Fault> = report.faults().cloned().collect();
    // What comes after the damage is kept and comes back as well, at once.
    let next = log.next_sequence();
    append(&mut log, &symbols, next..next + 10);
    assert!(replay(&mut log, &symbols, 10).into_iter().eq(next..next + 10));
    assert_eq!(log.take_lost(), 0);
    Ok(Found { back, nameless: report.logs[0].nameless as usize, faults })
}

/// A directory with a log in it.
struct Copy {
    dir: tempfile::TempDir,
    expected: Vec<(Tick, u32)>,
}

impl Copy {
    fn new() -> Self {
        Self::of(&LOG)
    }

    fn of(files: &Files) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_files(dir.path(), files);
        Self { dir, expected: expected() }
    }

    fn config(&self) -> SpillConfig {
        config(self.dir.path(), PAGES)
    }

    fn file(&self, path: &Path) -> File {
        OpenOptions::new().read(true).write(true).open(self.dir.path().join(path)).unwrap()
    }

    fn read(&self) -> Found {
        read(self.dir.path(), &self.expected).unwrap()
    }
}

/// Does the work for all numbers below `count`, in threads.
fn in_threads(count: u64, work: impl Fn(&Copy, Range<u64>) + Sync) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || work(&Copy::new(), count * thread / threads..count * (thread + 1) / threads));
        }
    });
}

/// The records of a frame of a segment, and of those the ones that are pending.
fn frame_records(number: u64, frame: u64) -> Range<u64> {
    let first = (number - 1) * SEGMENT + (frame - 1) * PER_FRAME;
    first.min(RECORDS)..(first + PER_FRAME).min(RECORDS)
}

fn pending(records: Range<u64>) -> Range<u64> {
    records.start.max(REPLAYED)..records.end.max(REPLAYED)
}

/// What a flipped bit in this byte of a segment costs: the frame that it is in, if it is of any meaning there.
fn cost_of_flip(number: u64, byte: usize) -> Range<u64> {
    let (page, at) = ((byte / PAGE) as u64, byte % PAGE);
    if page == 0 || page == PAGES - 1 {
        return 0..0;
    }
    let records = frame_records(number, page);
    let count = (records.end - records.start) as usize;
    let matters = count > 0
        && (at < NOTES_AT
            || (NOTES_AT..NOTES_AT + 4 * count).contains(&at)
            || (TICKS_AT..TICKS_AT + 64 * count).contains(&at));
    if matters { pending(records) } else { 0..0 }
}

#[test]
fn any_flipped_bit_of_a_segment_costs_its_frame_at_most() {
    for number in 1..=3 {
        let path = segment(number);
        let good = &LOG[&path];
        in_threads(good.len() as u64 * 8, |copy, bits| {
            let file = copy.file(&path);
            for bit in bits {
                let byte = bit as usize / 8;
                file.write_all_at(&[good[byte] ^ (1 << (bit % 8))], byte as u64).unwrap();
                let found = copy.read();
                let what = format!("bit {bit} of segment {number}");
                found.check(REPLAYED..RECORDS, cost_of_flip(number, byte), &what);
                file.write_all_at(&good[byte..=byte], byte as u64).unwrap();
            }
        });
    }
}

#[test]
fn any_cut_of_a_segment_costs_the_frames_that_are_cut() {
    for number in 1..=3 {
        let path = segment(number);
        let good = &LOG[&path];
        in_threads(good.len() as u64, |copy, lengths| {
            let file = copy.file(&path);
            for length in lengths.rev() {
                file.set_len(length).unwrap();
                let first_cut = if length < 144 { 1 } else { length / PAGE as u64 };
                let lost = frame_records(number, first_cut.max(1)).start..frame_records(number, PAGES - 2).end;
                let lost = if first_cut > PAGES - 2 { 0..0 } else { pending(lost) };
                copy.read().check(REPLAYED..RECORDS, lost, &format!("segment {number} cut to {length}"));
            }
        });
    }
}

#[test]
fn any_flipped_bit_of_the_cursor_costs_nothing_as_there_are_two_of_them() {
    let good = &LOG[&cursor()];
    in_threads(good.len() as u64 * 8, |copy, bits| {
        let file = copy.file(&cursor());
        for bit in bits {
            let byte = bit as usize / 8;
            file.write_all_at(&[good[byte] ^ (1 << (bit % 8))], byte as u64).unwrap();
            copy.read().check(REPLAYED..RECORDS, 0..0, &format!("bit {bit} of the cursor"));
            file.write_all_at(&good[byte..=byte], byte as u64).unwrap();
        }
    });
}

#[test]
fn a_cursor_that_is_cut_or_missing_costs_nothing_but_repeats() {
    let copy = Copy::new();
    let file = copy.file(&cursor());
    for length in (0..LOG[&cursor()].len() as u64).rev() {
        file.set_len(length).unwrap();
        let found = copy.read();
        let from = if length < 56 { 0 } else { REPLAYED };
        found.check(from..RECORDS, 0..0, &format!("cursor cut to {length}"));
        assert_eq!(found.kinds(), if length < 56 { vec![FaultKind::NoCursor] } else { vec![] });
    }
    std::fs::remove_file(copy.dir.path().join(cursor())).unwrap();
    let found = replay_all(&copy.config()).unwrap();
    found.check(0..RECORDS, 0..0, "no cursor");
    assert_eq!(found.kinds(), [FaultKind::NoCursor]);
}

/// Records whose symbols these are not.
fn without(names: &BTreeSet<&str>) -> impl Iterator<Item = u64> {
    (REPLAYED..RECORDS).filter(|number| !names.contains(name_of(*number)))
}

/// Just the records of these names are lost, and no others.
#[track_caller]
fn check_names(found: &Found, bad: &BTreeSet<&str>, what: &str) {
    assert!(found.back.iter().copied().eq(without(bad)), "{what}: {found:?}");
    assert_eq!(found.nameless as u64, RECORDS - REPLAYED - found.back.len() as u64, "{what}");
    assert!(found.lost().is_empty(), "{what}");
}

/// The names in the order of the dictionary, with how many entries each has.
fn names_in_order() -> Vec<(&'static str, usize)> {
    let symbols = symbols(0);
    let mut names: Vec<_> = NAMES.into_iter().map(|name| (name, name.len().div_ceil(48))).collect();
    names.sort_by_key(|(name, _)| symbols.id(name));
    names
}

/// The names that have an entry in this range of entries.
fn names_at(entries: Range<usize>) -> BTreeSet<&'static str> {
    let all = names_in_order().into_iter().flat_map(|(name, count)| vec![name; count]);
    all.enumerate().filter(|(entry, _)| entries.contains(entry)).map(|(_, name)| name).collect()
}

#[test]
fn any_flipped_bit_of_the_dictionary_costs_one_name_and_no_record_gets_a_wrong_one() {
    let path = dictionary();
    let good = &LOG[&path];
    assert_eq!(good.len(), 64 * 8);
    in_threads(good.len() as u64 * 8, |copy, bits| {
        for bit in bits {
            let byte = bit as usize / 8;
            let file = copy.file(&path);
            file.write_all_at(&[good[byte] ^ (1 << (bit % 8))], byte as u64).unwrap();
            let bad = names_at(byte / 64..byte / 64 + 1);
            let found = copy.read();
            check_names(&found, &bad, &format!("bit {bit} of the dictionary"));
            if bit % 97 == 0 {
                let found = replay_all(&Copy::of(&read_files(copy.dir.path())).config()).unwrap();
                assert!(found.back.into_iter().eq(without(&bad)), "bit {bit}");
                assert_eq!(found.faults.len(), 1);
                assert_eq!(found.faults[0].kind, FaultKind::Dictionary);
            }
            file.write_all_at(&good[byte..=byte], byte as u64).unwrap();
        }
    });
}

#[test]
fn a_dictionary_that_is_cut_or_missing_costs_the_names_that_are_cut() {
    let path = dictionary();
    in_threads(LOG[&path].len() as u64 + 1, |copy, lengths| {
        for length in lengths.rev() {
            copy.file(&path).set_len(length).unwrap();
            let bad = names_at(length as usize / 64..8);
            let found = copy.read();
            check_names(&found, &bad, &format!("dictionary cut to {length}"));
            if length % 16 == 0 {
                let copy = Copy::of(&read_files(copy.dir.path()));
                if length == 0 {
                    std::fs::remove_file(copy.dir.path().join(&path)).unwrap();
                }
                let found = replay_all(&copy.config()).unwrap();
                assert!(found.back.into_iter().eq(without(&bad)), "cut to {length}");
                assert_eq!(found.faults.len(), usize::from(length < 512), "cut to {length}");
            }
        }
    });
}

#[test]
fn after_damage_the_log_opens_and_replays_all_the_rest_and_goes_on() {
    for number in 1..=3 {
        let path = segment(number);
        let good = &LOG[&path];
        in_threads(80, |_, cases| {
            for case in cases {
                let bit = mix(number * 1000 + case) % (good.len() as u64 * 8);
                let byte = bit as usize / 8;
                let mut files = LOG.clone();
                files.get_mut(&path).unwrap()[byte] ^= 1 << (bit % 8);
                let copy = Copy::of(&files);
                let found = replay_all(&copy.config()).unwrap();
                found.check(REPLAYED..RECORDS, cost_of_flip(number, byte), &format!("bit {bit} of segment {number}"));
            }
        });
        for length in [0, 143, 144, 4096, 4097, 8192, 12_287, 12_288, 16_383] {
            let mut files = LOG.clone();
            files.get_mut(&path).unwrap().truncate(length);
            let copy = Copy::of(&files);
            let before = copy.read();
            let found = replay_all(&copy.config()).unwrap();
            assert_eq!((found.back, found.faults), (before.back, before.faults), "segment {number} cut to {length}");
        }
    }
}

#[test]
fn with_on_damage_fail_a_damaged_log_is_refused_and_stays_as_it_is() {
    let cases: [fn(&mut Files); 5] = [
        |files| files.get_mut(&segment(2)).unwrap()[PAGE + 400] ^= 1,
        |files| files.get_mut(&segment(3)).unwrap().truncate(5000),
        |files| drop(files.remove(&segment(1))),
        |files| drop(files.remove(&cursor())),
        |files| files.get_mut(&dictionary()).unwrap()[70] ^= 1,
    ];
    for damage in cases {
        let mut files = LOG.clone();
        damage(&mut files);
        let copy = Copy::of(&files);
        let config = SpillConfig { on_damage: OnDamage::Fail, ..copy.config() };
        for _ in 0..2 {
            let error = replay_all(&config).unwrap_err();
            assert!(matches!(&error, SpillError::Damaged { faults } if !faults.is_empty()), "{error}");
        }
        let mut after = read_files(copy.dir.path());
        after.remove(Path::new("lock"));
        assert!(after == files, "{:?}", after.keys());
    }
    // And a whole one is not refused.
    let copy = Copy::new();
    let found = replay_all(&SpillConfig { on_damage: OnDamage::Fail, ..copy.config() }).unwrap();
    found.check(REPLAYED..RECORDS, 0..0, "whole");
}
