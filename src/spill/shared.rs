//! What a worker and its log's helper threads share. Nothing in here blocks the worker.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use super::dictionary::Dictionary;
use super::format::FrameInfo;
use super::reader::Portion;
use super::writer::ReadySegment;
use crate::ledger::Tally;

/// Portions that are read ahead.
pub(super) const PORTIONS: usize = 3;

/// Tells a log's keeper whether there may soon be something to spill.
pub(crate) type Arm = Box<dyn Fn(bool) + Send>;

/// Called when a worker that waits may have something to replay.
pub(crate) type Notify = Arc<dyn Fn() + Send + Sync>;

/// What one log tells the outside of itself.
#[derive(Debug, Default)]
pub(crate) struct SpillStats {
    /// Bytes that its segments take on the disk.
    pub(crate) bytes: AtomicU64,
    /// Its segments, ready ones and those being deleted included.
    pub(crate) segments: AtomicU64,
    /// How often a worker needed a segment and none was ready. Written by the worker.
    pub(crate) not_ready: Tally,
    /// How often writing back to the disk failed.
    pub(crate) sync_failures: AtomicU64,
    /// The worker found no room.
    full: AtomicBool,
}

impl SpillStats {
    #[inline]
    pub(crate) fn set_full(&self, full: bool) {
        if self.full.load(Ordering::Relaxed) != full {
            self.full.store(full, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}

pub(super) struct LogShared {
    pub(super) worker: u32,
    pub(super) dir: PathBuf,
    /// The next segments, from the keeper.
    pub(super) ready: ArrayQueue<ReadySegment>,
    /// Records read ahead, from the keeper, and empty portions, to it.
    pub(super) portions: ArrayQueue<Portion>,
    pub(super) spare: ArrayQueue<Portion>,
    /// Written by the worker: records below are committed; records below are replayed.
    pub(super) appended: CachePadded<AtomicU64>,
    pub(super) replayed: CachePadded<AtomicU64>,
    /// Written by the keeper: all complete segments are read up to here; the note on disk says that replay has come so far;
    /// records below are on the disk; the wall clock.
    pub(super) read_to: CachePadded<AtomicU64>,
    pub(super) saved: AtomicU64,
    pub(super) durable: AtomicU64,
    pub(super) clock_ns: AtomicU64,
    /// A segment that the worker shall leave when its frame is full, since the disk failed on it.
    pub(super) leave_segment: AtomicU32,
    /// The disk did not keep what it was given: nothing more is spilled.
    disk_failed: AtomicBool,
    /// The level says that there may soon be something to spill.
    pub(super) armed: AtomicBool,
    pub(super) stop: AtomicBool,
    pub(super) dictionary: Arc<Dictionary>,
    pub(super) stats: Arc<SpillStats>,
    pub(super) notify: Notify,
    pub(super) keeper: OnceLock<Thread>,
}

impl LogShared {
    pub(super) fn new(
        worker: u32,
        dir: PathBuf,
        dictionary: Arc<Dictionary>,
        notify: Notify,
        ready: usize,
        replay_from: u64,
        end: u64,
    ) -> Self {
        Self {
            worker,
            dir,
            ready: ArrayQueue::new(ready),
            portions: ArrayQueue::new(PORTIONS),
            spare: ArrayQueue::new(PORTIONS),
            appended: CachePadded::new(AtomicU64::new(end)),
            replayed: CachePadded::new(AtomicU64::new(replay_from)),
            read_to: CachePadded::new(AtomicU64::new(replay_from)),
            saved: AtomicU64::new(replay_from),
            durable: AtomicU64::new(0),
            clock_ns: AtomicU64::new(crate::message::wall_clock_ns()),
            leave_segment: AtomicU32::new(0),
            disk_failed: AtomicBool::new(false),
            armed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            dictionary,
            stats: Arc::default(),
            notify,
            keeper: OnceLock::new(),
        }
    }

    pub(super) fn frame_info(&self, first: u64) -> FrameInfo {
        FrameInfo {
            first,
            durable: self.durable.load(Ordering::Relaxed),
            opened_ns: self.clock_ns.load(Ordering::Relaxed),
            names: self.dictionary.names(),
        }
    }

    #[inline]
    pub(super) fn must_not_spill(&self) -> bool {
        self.dictionary.is_behind() || self.has_disk_failed()
    }

    #[inline]
    pub(super) fn has_disk_failed(&self) -> bool {
        self.disk_failed.load(Ordering::Relaxed)
    }

    pub(super) fn is_read_to(&self, sequence: u64) -> bool {
        // Acquire: portions that were pushed before are seen.
        self.read_to.load(Ordering::Acquire) >= sequence
    }

    /// Gives a portion back, and tells the keeper, which empties it.
    pub(super) fn give_back(&self, portion: Portion) {
        let _ = self.spare.push(portion); // it has room for all there are
        self.ask_for_more();
    }

    /// Tells the keeper whether there may soon be something to spill.
    pub(super) fn arm(&self, armed: bool) {
        if self.armed.swap(armed, Ordering::Relaxed) != armed {
            self.ask_for_more();
        }
    }

    pub(super) fn ask_for_more(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.unpark();
        }
    }

    /// The disk could not keep what it was given. The system has dropped its knowledge of that, so asking again would
    /// be answered with a lie (fsync(2), ERRORS): the segment is not trusted any more, or the whole disk.
    pub(super) fn sync_failed(&self, disk_failed: bool, error: &std::io::Error) {
        self.stats.sync_failures.fetch_add(1, Ordering::Relaxed);
        if disk_failed && self.disk_failed.swap(true, Ordering::Relaxed) {
            return; // it was said before
        }
        let (dir, worker) = (self.dir.display(), self.worker);
        let outcome = if disk_failed { "nothing more is spilled" } else { "a new segment is begun" };
        tracing::error!(worker, %dir, %error, "the spill log could not be written to the disk: {outcome}");
    }
}
