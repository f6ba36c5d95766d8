//! Proves that files of a spill log that are missing, copied, swapped or not its own do no harm: what is whole comes back, what is
//! not is named, what another program wrote is refused and left as it is, and the log always goes on.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::LazyLock;

use plimsoll::spill::{self, Fault, FaultKind, SpillConfig, SpillError};
use plimsoll::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use plimsoll::{DataType, Message, SymbolId, Tick};
use support::spill::*;

const RECORDS: u64 = 250;
/// Pages of a segment: two headers and two frames.
const PAGES: u64 = 4;
const SEGMENT: u64 = (PAGES - 2) * PER_FRAME;

/// A log of three segments of which nothing is replayed.
static LOG: LazyLock<Files> = LazyLock::new(|| log_of(0..RECORDS));

fn log_of(numbers: Range<u64>) -> Files {
    let dir = tempfile::tempdir().unwrap();
    let symbols = symbols(0);
    let (mut log, _) = open_one(&config(dir.path(), PAGES), &symbols).unwrap();
    append(&mut log, &symbols, numbers);
    drop(log);
    let mut files = read_files(dir.path());
    files.remove(&PathBuf::from("lock"));
    files
}

fn segment(number: u64) -> PathBuf {
    format!("worker-0/{number:010}.spill").into()
}

/// What came back, what the start reported, and what was found to be lost later.
struct Found {
    back: Vec<u64>,
    faults: Vec<Fault>,
    lost_later: u64,
}

impl Found {
    #[track_caller]
    fn check(&self, lost: Range<u64>, kinds: &[FaultKind]) {
        let expected = (0..RECORDS).filter(|number| !lost.contains(number));
        assert!(self.back.iter().copied().eq(expected), "{:?} {:?}", self.back, self.faults);
        let told = self.faults.iter().flat_map(|fault| fault.lost.clone());
        assert!(told.eq(lost), "{:?}", self.faults);
        let mut found: Vec<_> = self.faults.iter().map(|fault| fault.kind.clone()).collect();
        found.dedup();
        assert_eq!(found, kinds, "{:?}", self.faults);
        assert_eq!(self.lost_later, 0);
    }
}

/// Opens the log, replays all, then has it go on for a while and come back once more.
fn replay_all(config: &SpillConfig) -> Result<Found, SpillError> {
    let symbols = symbols(3);
    let (mut log, report) = open_one(config, &symbols)?;
    let back = replay(&mut log, &symbols, u64::MAX);
    let lost_later = log.take_lost();
    assert_eq!(report.pending(), back.len() as u64 + lost_later);
    let first = log.next_sequence();
    let end = first + 3 * SEGMENT;
    append(&mut log, &symbols, first..end);
    assert!(replay(&mut log, &symbols, 10).into_iter().eq(first..first + 10));
    drop(log);
    let (mut log, again) = open_one(config, &symbols)?;
    assert_eq!((again.pending(), again.lost()), (3 * SEGMENT - 10, 0), "{again:?}");
    assert!(replay(&mut log, &symbols, u64::MAX).into_iter().eq(first + 10..end));
    assert_eq!(log.take_lost(), 0);
    Ok(Found { back, faults: report.faults().cloned().collect(), lost_later })
}

/// Changes the files of a log and sees what comes back.
fn after(change: impl FnOnce(&mut Files)) -> Found {
    let dir = tempfile::tempdir().unwrap();
    let mut files = LOG.clone();
    change(&mut files);
    write_files(dir.path(), &files);
    replay_all(&config(dir.path(), PAGES)).unwrap()
}

/// Changes the files of a log, sees that it is refused, and that nothing was touched.
fn refused(change: impl FnOnce(&mut Files)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut files = LOG.clone();
    change(&mut files);
    write_files(dir.path(), &files);
    let error = replay_all(&config(dir.path(), PAGES)).err().unwrap();
    let SpillError::Foreign { path, why } = &error else { panic!("{error}") };
    assert_eq!(*path, dir.path().join(segment(2)));
    assert!(error.to_string().contains(why.as_str()) && error.to_string().contains("was left as it is"));
    let mut left = read_files(dir.path());
    left.remove(&PathBuf::from("lock"));
    assert!(left == files, "{:?}", left.keys());
    why.clone()
}

#[test]
fn a_missing_segment_costs_its_records() {
    after(|_| ()).check(0..0, &[]);
    for number in 1..=3 {
        let lost = (number - 1) * SEGMENT..(number * SEGMENT).min(RECORDS);
        after(|files| drop(files.remove(&segment(number)))).check(lost, &[FaultKind::MissingRecords]);
    }
    after(|files| files.retain(|path, _| path.extension().is_none())).check(0..RECORDS, &[FaultKind::MissingRecords]);
}

#[test]
fn a_copied_segment_is_seen_to_be_one() {
    for (number, copy) in [(1, 4), (3, 4), (1, 5), (2, u64::from(u32::MAX)), (2, 0)] {
        let found = after(|files| drop(files.insert(segment(copy), files[&segment(number)].clone())));
        found.check(0..0, &[FaultKind::Misplaced]);
    }
    let found = after(|files| drop(files.insert(segment(2), files[&segment(1)].clone())));
    found.check(SEGMENT..2 * SEGMENT, &[FaultKind::Misplaced]);
}

#[test]
fn swapped_segments_are_not_replayed_out_of_order() {
    let found = after(|files| {
        let (first, second) = (files[&segment(1)].clone(), files[&segment(2)].clone());
        files.insert(segment(1), second);
        files.insert(segment(2), first);
    });
    found.check(0..2 * SEGMENT, &[FaultKind::Misplaced]);
}

#[test]
fn a_segment_of_another_worker_is_not_replayed_and_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let symbols = symbols(0);
    // Worker 1 of 2 has some symbols.
    let (mut logs, _) = spill::open::<Tick>(&config(dir.path(), PAGES), &symbols, 2).unwrap();
    let number = (0..).find(|n| spill::worker_of(tick(&symbols, *n).symbol, 2) == 1).unwrap();
    assert!(logs[1].append(&tick(&symbols, number), note(number)));
    drop(logs);
    let other = read_files(dir.path())[&PathBuf::from("worker-1/0000000001.spill")].clone();
    for place in [4, 9] {
        after(|files| drop(files.insert(segment(place), other.clone()))).check(0..0, &[FaultKind::Misplaced]);
    }
    let found = after(|files| drop(files.insert(segment(1), other.clone())));
    found.check(0..SEGMENT, &[FaultKind::Misplaced]);
}

#[test]
fn a_misplaced_segment_is_kept_when_its_worker_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = LOG.clone();
    let stray = PathBuf::from("worker-5/0000000001.spill");
    files.insert(stray.clone(), LOG[&segment(1)].clone());
    write_files(dir.path(), &files);
    for _ in 0..2 {
        let (_, report) = open_one(&config(dir.path(), PAGES), &symbols(0)).unwrap();
        assert!(report.faults().any(|fault| fault.kind == FaultKind::Misplaced));
        assert_eq!((report.pending(), report.lost()), (RECORDS, 0));
        assert!(read_files(dir.path()).values().any(|bytes| *bytes == LOG[&segment(1)]));
    }
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 * (crc & 1))))
}

/// Changes both headers of a segment, with a right checksum or a wrong one.
fn change_headers(bytes: &mut [u8], right: bool, change: impl Fn(&mut [u8])) {
    for at in [0, bytes.len() - PAGE] {
        let header = &mut bytes[at..at + 144];
        let before = crc32c(&header[..140]).to_le_bytes();
        assert_eq!(header[140..], before);
        change(header);
        if right {
            let checksum = crc32c(&header[..140]).to_le_bytes();
            header[140..].copy_from_slice(&checksum);
        }
    }
}

#[test]
fn a_segment_of_another_version_is_refused_and_left_alone() {
    for right in [true, false] {
        let why = refused(|files| change_headers(files.get_mut(&segment(2)).unwrap(), right, |header| header[8] = 2));
        assert!(why.contains("version 2") && why.contains("version 1"), "{why}");
    }
    // One header alone that says so is damage, and the other one counts.
    after(|files| files.get_mut(&segment(2)).unwrap()[8] = 2).check(0..0, &[]);
}

#[test]
fn a_segment_of_another_machine_or_of_another_size_of_frames_is_refused() {
    let why = refused(|files| change_headers(files.get_mut(&segment(2)).unwrap(), true, |header| header[10] = 2));
    assert!(why.contains("byte order"), "{why}");
    let why = refused(|files| change_headers(files.get_mut(&segment(2)).unwrap(), true, |header| header[13] = 32));
    assert!(why.contains("8192"), "{why}");
    let why = refused(|files| change_headers(files.get_mut(&segment(2)).unwrap(), true, |header| header[20] = 58));
    assert!(why.contains("58 records"), "{why}");
}

/// As large as a tick.
#[derive(Clone, Copy, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[zerocopy(crate = "plimsoll::zerocopy")]
#[repr(C)]
struct Other([u64; 8]);

impl Message for Other {
    fn symbol(&self) -> SymbolId {
        SymbolId::new(self.0[0] as u32)
    }
    fn set_symbol(&mut self, symbol: SymbolId) {
        self.0[0] = u64::from(symbol.get());
    }
    fn data_type(&self) -> DataType {
        DataType::Other
    }
}

#[test]
fn records_of_another_type_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &LOG);
    let errors = [
        spill::open::<Other>(&config(dir.path(), PAGES), &symbols(0), 1).err().unwrap(),
        spill::read_records::<Other>(dir.path(), |_| ()).err().unwrap(),
    ];
    for error in errors {
        let text = error.to_string();
        assert!(matches!(error, SpillError::Foreign { .. }));
        assert!(text.contains("plimsoll.tick.v2 of 64 bytes") && text.contains("Other of 64 bytes"), "{text}");
    }
    let mut left = read_files(dir.path());
    left.remove(&PathBuf::from("lock"));
    assert!(left == *LOG, "{:?}", left.keys());
    // It can be looked at all the same.
    assert_eq!(spill::inspect(dir.path(), |_| ()).unwrap()[0].pending, RECORDS);
    replay_all(&config(dir.path(), PAGES)).unwrap().check(0..0, &[]);
}

fn paste(files: &mut Files, from: (u64, usize), to: (u64, usize)) {
    let page = files[&segment(from.0)][from.1 * PAGE..(from.1 + 1) * PAGE].to_vec();
    files.get_mut(&segment(to.0)).unwrap()[to.1 * PAGE..(to.1 + 1) * PAGE].copy_from_slice(&page);
}

#[test]
fn frames_of_another_segment_or_of_another_place_are_no_records() {
    // In the tail, at the place that they had and at another one.
    after(|files| paste(files, (1, 2), (3, 2))).check(0..0, &[FaultKind::StaleFrames]);
    after(|files| paste(files, (1, 1), (3, 2))).check(0..0, &[FaultKind::StaleFrames]);
    after(|files| paste(files, (3, 1), (3, 2))).check(0..0, &[FaultKind::TornTail]);
    // Instead of others.
    after(|files| paste(files, (1, 2), (2, 2))).check(SEGMENT + PER_FRAME..2 * SEGMENT, &[FaultKind::StaleFrames]);
    after(|files| paste(files, (2, 1), (2, 2))).check(SEGMENT + PER_FRAME..2 * SEGMENT, &[FaultKind::DamagedFrames]);
    // Of a log with the same sequence numbers.
    let other = log_of(0..RECORDS);
    let found = after(|files| {
        let bytes = files.get_mut(&segment(2)).unwrap();
        bytes[PAGE..2 * PAGE].copy_from_slice(&other[&segment(2)][PAGE..2 * PAGE]);
    });
    found.check(SEGMENT..SEGMENT + PER_FRAME, &[FaultKind::StaleFrames]);
}

fn zero(files: &mut Files, number: u64, pages: Range<usize>) {
    files.get_mut(&segment(number)).unwrap()[pages.start * PAGE..pages.end * PAGE].fill(0);
}

#[test]
fn a_segment_whose_pages_are_zeros_costs_its_records() {
    for number in 1..=3 {
        let lost = (number - 1) * SEGMENT..(number * SEGMENT).min(RECORDS);
        after(|files| zero(files, number, 1..3)).check(lost.clone(), &[FaultKind::MissingRecords]);
        after(|files| zero(files, number, 0..4)).check(lost, &[FaultKind::MissingRecords]);
    }
    after(|files| zero(files, 2, 1..2)).check(SEGMENT..SEGMENT + PER_FRAME, &[FaultKind::MissingRecords]);
}

#[test]
fn a_segment_that_was_replayed_and_is_damaged_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &LOG);
    let symbols = symbols(0);
    let (mut log, _) = open_one(&config(dir.path(), PAGES), &symbols).unwrap();
    replay(&mut log, &symbols, SEGMENT + 30);
    drop(log);
    // As after a crash before it was deleted.
    for pages in [1..1, 1..2, 2..3, 1..3, 0..4] {
        let mut files = read_files(dir.path());
        assert!(files.insert(segment(1), LOG[&segment(1)].clone()).is_none());
        zero(&mut files, 1, pages.clone());
        let copy = tempfile::tempdir().unwrap();
        write_files(copy.path(), &files);
        let found = replay_all(&config(copy.path(), PAGES)).unwrap();
        assert!(found.back.into_iter().eq(SEGMENT + 30..RECORDS), "{pages:?}");
        assert!(found.faults.iter().all(|fault| fault.lost.is_empty()), "{:?}", found.faults);
    }
}

#[test]
fn what_cannot_be_read_is_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = LOG.clone();
    let bytes = files.get_mut(&segment(2)).unwrap();
    bytes[PAGE + 400] ^= 1;
    bytes[2 * PAGE + 400] ^= 1;
    let bad = bytes.clone();
    write_files(dir.path(), &files);
    let found = replay_all(&config(dir.path(), PAGES)).unwrap();
    found.check(SEGMENT..2 * SEGMENT, &[FaultKind::DamagedFrames]);
    let left = read_files(dir.path());
    assert_eq!(left.get(&PathBuf::from("worker-0/0000000002.spill.damaged")), Some(&bad), "{:?}", left.keys());
}

#[test]
fn pages_that_were_never_written_are_not_what_is_blamed() {
    let dir = tempfile::tempdir().unwrap();
    let (config, symbols) = (config(dir.path(), PAGES), symbols(0));
    // The first segment is left when it is not full.
    for numbers in [0..30, 30..200] {
        let (mut log, _) = open_one(&config, &symbols).unwrap();
        append(&mut log, &symbols, numbers);
    }
    let mut files = read_files(dir.path());
    for frame in [1, 2] {
        files.get_mut(&segment(2)).unwrap()[frame * PAGE + 400] ^= 1;
    }
    let bad = files[&segment(2)].clone();
    write_files(dir.path(), &files);
    let (mut log, report) = open_one(&config, &symbols).unwrap();
    let faults: Vec<_> = report.faults().map(|fault| (fault.path.clone(), fault.lost.clone())).collect();
    assert_eq!(faults, [(dir.path().join(segment(2)), 30..30 + SEGMENT)]);
    assert!(replay(&mut log, &symbols, u64::MAX).into_iter().eq((0..30).chain(30 + SEGMENT..200)));
    drop(log);
    assert!(read_files(dir.path()).values().any(|bytes| *bytes == bad), "it is kept for whoever wants to look");
}
