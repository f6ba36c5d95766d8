//! What is done with the logs of earlier processes at the start: read from end to end, symbols mapped, records counted, and moved
//! where they belong if their symbols have other workers now.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cursor::{Cursor, Found, Progress};
use super::dictionary::{self, Dictionary, IdMap, Names};
use super::error::{SpillError, at};
use super::format::{Geometry, RecordType};
use super::mover::Mover;
use super::reader::decode_mapped;
use super::scan::scan;
use super::segment;
use super::summary::{Fault, FaultKind, LogSummary, SegmentSummary};
use crate::ingress::worker_of;
use crate::message::Message;
use crate::symbols::Symbols;

/// What the start found in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The logs of all workers.
    pub logs: Vec<LogSummary>,
    /// Records that were moved to other logs, since the number of workers or the symbols' ids have changed.
    pub moved: u64,
    /// What was wrong in the logs that they were moved out of.
    pub moved_faults: Vec<Fault>,
    /// Records in those whose symbol's name is lost, so that they could not be moved.
    pub nameless: u64,
}

impl RecoveryReport {
    /// Records that will be replayed.
    pub fn pending(&self) -> u64 {
        self.logs.iter().map(|log| log.pending).sum()
    }

    /// Records that are lost.
    pub fn lost(&self) -> u64 {
        let of_logs: u64 = self.logs.iter().map(LogSummary::lost).sum();
        of_logs + self.moved_faults.iter().map(Fault::lost_records).sum::<u64>() + self.nameless
    }

    /// All that is wrong.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.moved_faults.iter().chain(self.logs.iter().flat_map(|log| &log.faults))
    }
}

/// A directory of a worker, by number.
pub(super) fn worker_dir(root: &Path, worker: u32) -> PathBuf {
    root.join(format!("worker-{worker}"))
}

/// The workers that have a directory.
pub(super) fn worker_dirs(root: &Path) -> std::io::Result<Vec<u32>> {
    let mut workers = Vec::new();
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix("worker-"));
        let number = digits.and_then(|digits| digits.parse::<u32>().ok());
        // Not `worker-01`.
        workers.extend(number.filter(|number| name == format!("worker-{number}").as_str()));
    }
    workers.sort_unstable();
    Ok(workers)
}

/// What is known of symbols: the dictionaries of all lives.
pub(super) struct Lives {
    maps: HashMap<u64, Arc<IdMap>>,
    damaged: Vec<(u64, usize)>,
}

impl Lives {
    /// Reads all dictionaries in a directory, and interns their names.
    pub(super) fn read(root: &Path, symbols: &Symbols) -> Result<Self, SpillError> {
        let mut this = Self { maps: HashMap::new(), damaged: Vec::new() };
        for life in dictionary::lives(root).map_err(at(root))? {
            let names = Names::read(root, life).map_err(at(&dictionary::path(root, life)))?;
            if names.damaged > 0 {
                this.damaged.push((life, names.damaged));
            }
            this.maps.insert(life, Arc::new(names.intern(symbols)?));
        }
        Ok(this)
    }

    /// The mapping of a life, once its logs were read.
    pub(super) fn map(&self, life: u64) -> Arc<IdMap> {
        self.maps.get(&life).cloned().unwrap_or_default()
    }
}

/// A log that was read.
pub(super) struct Recovered {
    pub(super) log: LogSummary,
    /// Records that wait, by symbol slot.
    pub(super) pending: Box<[u64]>,
    /// Some records' symbols belong to another worker.
    misplaced: bool,
}

impl Recovered {
    pub(super) fn is_misplaced(&self) -> bool {
        self.misplaced
    }
}

/// What a store is made of, as far as recovery needs it.
pub(super) struct Recovery<'a> {
    pub(super) root: &'a Path,
    pub(super) symbols: &'a Symbols,
    pub(super) workers: usize,
    pub(super) record: &'a RecordType,
    pub(super) geometry: Geometry,
    pub(super) segment_bytes: u64,
    pub(super) dictionary: &'a Arc<Dictionary>,
    pub(super) lives: &'a mut Lives,
}

impl Recovery<'_> {
    /// Reads the logs of all workers there are or ever were.
    pub(super) fn read_all<M: Message>(&mut self, progress: &mut dyn FnMut(u64)) -> Result<Vec<Recovered>, SpillError> {
        let mut all = Vec::new();
        for worker in worker_dirs(self.root).map_err(at(self.root))? {
            all.push(self.read::<M>(worker, progress)?);
        }
        Ok(all)
    }

    fn read<M: Message>(&mut self, worker: u32, progress: &mut dyn FnMut(u64)) -> Result<Recovered, SpillError> {
        let mut found = self.count::<M>(worker, progress)?;
        if self.check_names(&mut found.log) {
            // Records of symbols without a name were counted as other symbols'.
            let again = self.count::<M>(worker, &mut |_| {})?;
            let log = LogSummary { faults: found.log.faults, ..again.log };
            found = Recovered { log, ..again };
        }
        Ok(found)
    }

    /// Reads a log and counts its records by symbol.
    fn count<M: Message>(&self, worker: u32, progress: &mut dyn FnMut(u64)) -> Result<Recovered, SpillError> {
        let mut pending = vec![0; self.symbols.capacity() + 1].into_boxed_slice();
        let (mut misplaced, mut nameless) = (false, 0);
        let dir = worker_dir(self.root, worker);
        let (symbols, workers, lives) = (self.symbols, self.workers, &*self.lives);
        let see = |frame: super::scan::Frame<'_>| {
            let map = lives.maps.get(&frame.life).map(Arc::as_ref);
            for (_, _, record) in frame.records() {
                if let Some(message) = decode_mapped::<M>(record, map) {
                    pending[symbols.slot(message.symbol())] += 1;
                    misplaced |= worker_of(message.symbol(), workers) != worker as usize;
                } else {
                    nameless += 1;
                }
            }
        };
        let mut log = scan(worker, &dir, Some(self.record), u32::MAX, see, progress)?;
        log.pending -= nameless;
        log.nameless = nameless;
        Ok(Recovered { log, pending, misplaced: misplaced || (worker as usize >= workers && log_is_left(&dir)) })
    }

    /// Notes names that are lost: of lives that the log's segments belong to. Returns whether that is news.
    fn check_names(&mut self, log: &mut LogSummary) -> bool {
        let mut is_news = false;
        for (life, known) in log.names_needed() {
            if life == self.dictionary.life() {
                continue;
            }
            let map = Arc::make_mut(self.lives.maps.entry(life).or_default());
            is_news |= map.expect_names(known);
            let damaged = self.lives.damaged.iter().any(|(damaged, _)| *damaged == life);
            if map.lost_names() > 0 || damaged {
                log.faults.push(dictionary_fault(self.root, life));
            }
        }
        is_news
    }

    /// Moves all records of logs that hold some of another worker's symbols to where they belong, in order. A crash in the midst
    /// of it leaves records twice, and none lost.
    pub(super) fn move_home<M: Message>(
        &self,
        all: Vec<Recovered>,
        report: &mut RecoveryReport,
    ) -> Result<(), SpillError> {
        // A log that is new gets its cursor first: segments without one would look damaged, if this process were killed.
        for Recovered { log, .. } in &all {
            if log.segments.is_empty() && Cursor::read(&log.dir).map_err(at(&log.dir))? == Found::Missing {
                let made = Cursor::open(&log.dir).and_then(|mut cursor| cursor.make(&Progress::default()));
                made.map_err(at(&log.dir))?;
            }
        }
        // By worker: where its log ends, and its next segment's number.
        let mut ends: HashMap<u32, (u64, u32)> = HashMap::new();
        for Recovered { log, .. } in &all {
            let last = log.segments.last().map_or(0, |segment| segment.number);
            ends.insert(log.worker, (log.end, last + 1));
        }
        let misplaced: Vec<_> = all.into_iter().filter(|found| found.misplaced).map(|found| found.log).collect();
        let mut mover = Mover::new(self, &mut ends);
        let nameless = misplaced.iter().map(|log| self.copy::<M>(log, &mut mover)).sum::<Result<u64, _>>();
        let nameless = match nameless.and_then(|nameless| mover.finish().map(|()| nameless)) {
            Ok(nameless) => nameless,
            Err(error) => {
                // What was copied is still where it was.
                mover.undo();
                return Err(error);
            }
        };
        report.moved += mover.moved;
        report.nameless += nameless;
        for log in misplaced {
            self.empty(&log, ends.get(&log.worker).map_or(0, |(end, _)| *end))?;
            report.moved_faults.extend(log.faults);
        }
        Ok(())
    }

    /// Appends all records of a log to where they belong; returns how many have no name.
    fn copy<M: Message>(&self, log: &LogSummary, mover: &mut Mover<'_, '_>) -> Result<u64, SpillError> {
        let (mut nameless, mut outcome, before) = (0, Ok(()), mover.moved);
        let see = |frame: super::scan::Frame<'_>| {
            let map = self.lives.maps.get(&frame.life).map(Arc::as_ref);
            for (_, missed, record) in frame.records() {
                match decode_mapped::<M>(record, map) {
                    Some(message) if outcome.is_ok() => outcome = mover.append(&message, missed),
                    Some(_) => {}
                    None => nameless += 1,
                }
            }
        };
        // Not what was moved into it meanwhile.
        let last = log.segments.last().map_or(0, |segment| segment.number);
        scan(log.worker, &log.dir, Some(self.record), last, see, |_| {})?;
        outcome?;
        if (mover.moved - before, nameless) != (log.pending, log.nameless) {
            let error = std::io::Error::other("it was not read as before: try again");
            return Err(SpillError::Io { path: log.dir.clone(), error });
        }
        Ok(nameless)
    }

    /// Deletes the segments of a log, whose records are elsewhere now.
    fn empty(&self, log: &LogSummary, end: u64) -> Result<(), SpillError> {
        let mut cursor = Cursor::open(&log.dir).map_err(at(&log.dir))?;
        let progress = Progress { replayed: log.end, appended: end, ..Progress::default() };
        cursor.make(&progress).and_then(|()| cursor.sync()).map_err(at(&log.dir))?;
        set_aside(log)?;
        for SegmentSummary { path, .. } in log.segments.iter().filter(|segment| segment.path.exists()) {
            fs::remove_file(path).map_err(at(path))?;
        }
        if log.worker as usize >= self.workers {
            remove_unless_needed(&log.dir).map_err(at(&log.dir))?;
        }
        Ok(())
    }
}

/// Names are missing from a life's dictionary.
pub(super) fn dictionary_fault(root: &Path, life: u64) -> Fault {
    let path = dictionary::path(root, life);
    let bytes = path.metadata().map_or(0, |meta| meta.len());
    Fault::without_loss(FaultKind::Dictionary, path, 0, bytes)
}

/// Removes the directory of a worker that is no more. If there is anything left in it but the cursor, someone may want to look.
fn remove_unless_needed(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        if entry?.file_name() != super::cursor::FILE {
            return Ok(());
        }
    }
    fs::remove_dir_all(dir)
}

fn log_is_left(dir: &Path) -> bool {
    segment::list(dir).is_ok_and(|segments| !segments.is_empty())
}

/// Renames segments that cannot be read, so that they are kept for whoever wants to look, and are in nobody's way. Deletes those that
/// were made ready and never used: a process that is killed leaves some each time.
pub(super) fn set_aside(log: &LogSummary) -> Result<(), SpillError> {
    let has_fault = |path: &Path| log.faults.iter().any(|fault| fault.path == path);
    // Frames out of their order may be what another fault has hidden before.
    let is_kept = |fault: &Fault| !fault.lost.is_empty() || fault.kind == FaultKind::OutOfOrder;
    let has_loss = |path: &Path| log.faults.iter().any(|fault| fault.path == path && is_kept(fault));
    let empty = log.segments.iter().filter(|segment| segment.records == 0).map(|segment| &segment.path);
    let (unused, bad): (Vec<_>, Vec<_>) = log.headless.iter().chain(empty).partition(|path| !has_fault(path));
    let headless = |path: &PathBuf| log.headless.contains(path);
    for path in bad.into_iter().filter(|path| (headless(path) || has_loss(path)) && path.exists()) {
        fs::rename(path, segment::aside(path)).map_err(at(path))?;
    }
    for path in unused.into_iter().filter(|path| path.exists()) {
        fs::remove_file(path).map_err(at(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{SpillConfig, open};
    use crate::message::SymbolId;
    use crate::symbols::{SymbolTiers, Symbols};
    use crate::tick::Tick;
    use std::sync::Arc;

    #[test]
    fn records_without_a_name_wait_for_no_other_symbol() {
        let dir = tempfile::tempdir().unwrap();
        let config = SpillConfig { free_space_floor_bytes: 0, segment_bytes: 1 << 16, ..SpillConfig::new(dir.path()) };
        let symbols = Arc::new(Symbols::new(SymbolTiers::default(), 8));
        let (mut logs, _) = open::<Tick>(&config, &symbols, 1).unwrap();
        for name in ["BHP", "CBA"] {
            assert!(logs[0].append(&Tick::reference(symbols.intern(name).unwrap(), 0), 0));
        }
        drop(logs);
        // The second name is cut off.
        for entry in std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap()) {
            if entry.file_name().to_string_lossy().starts_with("symbols-") {
                std::fs::File::options().write(true).open(entry.path()).unwrap().set_len(64).unwrap();
            }
        }
        let symbols = Arc::new(Symbols::new(SymbolTiers::default(), 8));
        let others = ["WES", "XRO"].map(|name| symbols.intern(name).unwrap());
        let (logs, report) = open::<Tick>(&config, &symbols, 1).unwrap();
        assert_eq!((report.pending(), report.lost(), report.faults().count()), (1, 1, 1));
        // CBA's number is that of another one now.
        assert_eq!(others[1], SymbolId::new(1));
        let waiting: Vec<usize> = (0..9).filter(|slot| logs[0].is_pending_at(*slot)).collect();
        assert_eq!(waiting, [symbols.id("BHP").unwrap().index()]);
    }
}
