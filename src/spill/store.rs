//! The directory of a log: locked, recovered, and opened for each worker.

use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::backlog::Backlog;
use super::budget::{Budget, Shortage};
use super::config::{Durability, OnDamage, SpillConfig};
use super::cursor::{Cursor, Progress};
use super::dictionary::{self, Dictionary};
use super::error::{SpillError, at};
use super::format::{Geometry, RecordType};
use super::held::Held;
use super::keeper::{Keeper, State, ready_segments};
use super::log::SpillLog;
use super::reader::Reader;
use super::recovery::{Lives, Recovered, Recovery, RecoveryReport, set_aside, worker_dir};
use super::segment::{self, OpenFault, SegmentFile};
use super::shared::{LogShared, Notify};
use super::summary::{Fault, FaultKind, SegmentSummary};
use super::syncer::{SyncTargets, Syncer};
use super::writer::Extent;
use crate::message::Message;
use crate::symbols::Symbols;

const LOCK: &str = "lock";

/// A number that is most likely unique: std's hash keys are random.
pub(super) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(crate::message::wall_clock_ns());
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// What all logs of a directory have in common, and lives until the last of them is gone.
pub(super) struct StoreHandle {
    root: PathBuf,
    /// Its lock ends with it.
    _lock: File,
    /// The registry knows it, too, as long as it is here.
    dictionary: Arc<Dictionary>,
}

/// Deletes the dictionary if no segment needs it.
impl Drop for StoreHandle {
    fn drop(&mut self) {
        let life = self.dictionary.life();
        // What cannot be read for now may need it.
        let needs = |(_, path): &(u32, PathBuf)| match SegmentFile::open(path) {
            Ok(file) => file.id().life == life,
            Err(OpenFault::Io(_)) => true,
            Err(OpenFault::Header(_)) => false,
        };
        let is_needed = |worker: &u32| {
            segment::list(&worker_dir(&self.root, *worker)).map_or(true, |segments| segments.iter().any(needs))
        };
        let is_unused = super::recovery::worker_dirs(&self.root).is_ok_and(|workers| !workers.iter().any(is_needed));
        if is_unused {
            let _ = fs::remove_file(dictionary::path(&self.root, life));
        }
    }
}

/// Opens the logs of all workers: recovers what earlier processes have left, and starts the helper threads.
///
/// A pipeline does that by itself: see [`PipelineBuilder::spill`](crate::PipelineBuilder::spill). Symbols of the log are
/// interned into `symbols`; a symbol's messages belong into the log of its worker, as
/// [`worker_of`](super::worker_of) says.
///
/// # Errors
/// See [`SpillError`]. The log is left as it was.
pub fn open<M: Message>(
    config: &SpillConfig,
    symbols: &Arc<Symbols>,
    workers: usize,
) -> Result<(Vec<SpillLog<M>>, RecoveryReport), SpillError> {
    let notify = (0..workers).map(|_| Arc::new(|| ()) as Notify).collect();
    open_for(config, symbols, notify, &mut |_, _| {})
}

/// As [`open`], for as many workers as there are `notify`. `progress` is told of bytes read and bytes to read.
pub(crate) fn open_for<M: Message>(
    config: &SpillConfig,
    symbols: &Arc<Symbols>,
    notify: Vec<Notify>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Vec<SpillLog<M>>, RecoveryReport), SpillError> {
    let workers = notify.len();
    config.check(workers).map_err(SpillError::Config)?;
    let geometry = Geometry::of(size_of::<M>()).ok_or_else(|| {
        SpillError::Config(format!("a message of {} bytes does not fit into a frame of 4096", size_of::<M>()))
    })?;
    let root = &config.dir;
    make_dir(root)?;
    let lock = lock(root)?;
    let mut lives = Lives::read(root, symbols)?;
    let dictionary = Dictionary::create(root, random(), config.durability == Durability::Strict);
    let dictionary = Arc::new(dictionary.map_err(at(root))?);
    symbols.attach(&dictionary);
    let store = Arc::new(StoreHandle { root: root.clone(), _lock: lock, dictionary: Arc::clone(&dictionary) });
    for worker in 0..workers as u32 {
        make_dir(&worker_dir(root, worker))?;
    }
    let record = RecordType::of::<M>();
    let segment_bytes = config.segment_bytes;
    let mut recovery = Recovery {
        root,
        symbols,
        workers,
        record: &record,
        geometry,
        segment_bytes,
        dictionary: &dictionary,
        lives: &mut lives,
    };
    let (mut report, all) = recover::<M>(&mut recovery, config, progress)?;

    for found in &all {
        set_aside(&found.log)?;
    }
    let segments = all.iter().flat_map(|found| &found.log.segments).filter(|segment| segment.path.exists());
    let used = segments.map(|segment| segment.allocated_bytes).sum();
    let budget = Arc::new(Budget::new(config.budget_bytes, config.free_space_floor_bytes, root.clone(), used));
    let open =
        Opening { config, symbols, store: &store, lives: &lives, budget: &budget, record: &record, geometry, workers };
    let mut logs = Vec::with_capacity(workers);
    let found = all.into_iter().filter(|found| (found.log.worker as usize) < workers);
    for (found, notify) in found.zip(notify) {
        report.logs.push(found.log.clone());
        logs.push(open.log::<M>(found, notify)?);
    }
    if config.durability != Durability::None {
        File::open(root).and_then(|dir| dir.sync_all()).map_err(at(root))?;
    }
    remove_old_dictionaries(root, &dictionary, &report);
    Ok((logs, report))
}

/// Reads all logs, and moves records where that is needed.
fn recover<M: Message>(
    recovery: &mut Recovery<'_>,
    config: &SpillConfig,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(RecoveryReport, Vec<Recovered>), SpillError> {
    let mut report = RecoveryReport::default();
    let total = total_bytes(recovery.root)?;
    let mut done = 0;
    let mut read = |bytes| {
        done += bytes;
        progress(done, total);
    };
    let all = recovery.read_all::<M>(&mut read)?;
    // A torn tail without a loss is what a crash leaves, not damage.
    let is_damage = |fault: &&Fault| fault.kind != FaultKind::TornTail || !fault.lost.is_empty();
    let faults: Vec<Fault> = all.iter().flat_map(|found| &found.log.faults).filter(is_damage).cloned().collect();
    if config.on_damage == OnDamage::Fail && !faults.is_empty() {
        return Err(SpillError::Damaged { faults });
    }
    let is_home = !all.iter().any(Recovered::is_misplaced);
    if is_home {
        return Ok((report, all));
    }
    recovery.move_home::<M>(all, &mut report)?;
    let all = recovery.read_all::<M>(&mut |_| {})?;
    Ok((report, all))
}

fn total_bytes(root: &Path) -> Result<u64, SpillError> {
    let mut total = 0;
    for worker in super::recovery::worker_dirs(root).map_err(at(root))? {
        let dir = worker_dir(root, worker);
        for (_, path) in super::segment::list(&dir).map_err(at(&dir))? {
            total += path.metadata().map_or(0, |meta| meta.len());
        }
    }
    Ok(total)
}

fn make_dir(dir: &Path) -> Result<(), SpillError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))
}

/// Locks the directory for this process.
fn lock(root: &Path) -> Result<File, SpillError> {
    let path = root.join(LOCK);
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(segment::NO_FOLLOW).open(&path);
    let mut file = file.map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => {
            // Only to tell others; the lock is what counts.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
            Err(SpillError::Locked { dir: root.to_owned(), pid })
        }
        Err(TryLockError::Error(error)) => Err(at(&path)(error)),
    }
}

/// Deletes dictionaries that no segment needs. One that stays is no harm.
fn remove_old_dictionaries(root: &Path, dictionary: &Dictionary, report: &RecoveryReport) {
    // A file that could not be read may need any of them.
    let is_unknown = |fault: &Fault| {
        matches!(
            fault.kind,
            FaultKind::Unreadable(_) | FaultKind::NoHeader | FaultKind::Misplaced | FaultKind::OutOfOrder
        )
    };
    if report.faults().any(is_unknown) {
        return;
    }
    let needed = |life| report.logs.iter().flat_map(|log| &log.segments).any(|segment| segment.life == life);
    for life in dictionary::lives(root).unwrap_or_default() {
        if life != dictionary.life() && !needed(life) {
            let _ = fs::remove_file(dictionary::path(root, life));
        }
    }
}

/// What the logs of a store are opened with.
struct Opening<'a> {
    config: &'a SpillConfig,
    symbols: &'a Arc<Symbols>,
    store: &'a Arc<StoreHandle>,
    lives: &'a Lives,
    budget: &'a Arc<Budget>,
    record: &'a RecordType,
    geometry: Geometry,
    workers: usize,
}

impl Opening<'_> {
    /// A worker's log, after recovery.
    fn log<M: Message>(&self, found: Recovered, notify: Notify) -> Result<SpillLog<M>, SpillError> {
        let Recovered { log, pending, .. } = found;
        // What is lost at the log's end counts as read when the last record is: replay passes it, and goes on with what comes next.
        let last = log.segments.iter().rfind(|segment| segment.records > 0).map(|segment| segment.number);
        let end_of = |segment: &SegmentSummary| {
            if Some(segment.number) == last { log.end } else { segment.sequences.end }
        };
        let replay_from = if log.pending == 0 { log.end } else { log.replay_from };
        let held = log.segments.iter().filter(|segment| segment.path.exists()).map(|segment| Held {
            number: segment.number,
            path: segment.path.clone(),
            bytes: segment.allocated_bytes,
            extent: Arc::new(Extent::complete(segment.sequences.start, end_of(segment))),
            // What was moved here has ids of this life already.
            ids: (segment.life != self.store.dictionary.life()).then(|| self.lives.map(segment.life)),
            map: None,
            present: 0,
            faulty: false,
        });
        let dictionary = Arc::clone(&self.store.dictionary);
        let ready = ready_segments(self.config, self.workers);
        let (dir, end) = (log.dir.clone(), log.end);
        let shared = Arc::new(LogShared::new(log.worker, dir, dictionary, notify, ready, replay_from, end));
        let targets = SyncTargets::default();
        let durability = self.config.durability;
        let mut keeper = Keeper {
            shared: Arc::clone(&shared),
            symbols: Arc::clone(self.symbols),
            budget: Arc::clone(self.budget),
            durability,
            record: self.record.clone(),
            geometry: self.geometry,
            segment_bytes: self.config.segment_bytes,
            next_number: log.segments.last().map_or(0, |segment| segment.number) + 1,
            held: held.collect(),
            targets: targets.clone(),
            cursor: Cursor::open(&log.dir).map_err(at(&log.dir))?,
            saved: Progress { replayed: log.replay_from, ..Progress::default() },
            state: State::default(),
            reader: Reader::default(),
        };
        keeper.count_held();
        match keeper.prepare_all() {
            Ok(()) => {}
            // A file that cannot be made is an error; a lack of room will pass, and what is there has to be replayed.
            Err(Shortage::Io(error)) if !is_lack_of_room(&error) => return Err(at(&log.dir)(error)),
            Err(shortage) => keeper.tell_shortage(&shortage),
        }
        let mut helpers = Vec::new();
        if let Durability::Interval(interval) = durability {
            let syncer = Syncer { shared: Arc::clone(&shared), targets, interval };
            helpers.push(spawn(&format!("plimsoll-sync{}", log.worker), move || syncer.run())?);
        }
        helpers.push(spawn(&format!("plimsoll-log{}", log.worker), move || keeper.run())?);
        Ok(SpillLog {
            helpers,
            geometry: self.geometry,
            durability,
            writer: None,
            end: log.end,
            committed: log.end,
            out_of_room: false,
            blocked: false,
            backlog: Backlog::new(Arc::clone(self.symbols), replay_from, &log, pending),
            portion: None,
            messages: PhantomData,
            shared,
            _store: Arc::clone(self.store),
        })
    }
}

/// A full disk, a quota that is used up, or a limit on the size of files.
fn is_lack_of_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, SpillError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(at(Path::new(name)))
}
