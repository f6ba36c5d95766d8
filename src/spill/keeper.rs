//! The helper thread of a log: does all that a worker must not wait for.
//!
//! It keeps segments ready, makes the pages ahead of the writer present, reads ahead of replay, notes on disk how far replay has
//! come, and deletes what is replayed. It never waits for the disk while spilling goes on; writing back is the
//! [syncer](super::syncer)'s work.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::budget::{Budget, Shortage};
use super::config::SpillConfig;
use super::cursor::{Cursor, Progress};
use super::format::{FRAME, Geometry, RecordType, SegmentId};
use super::held::Held;
use super::log::REPLAYED_TWICE_MAX;
use super::reader::{Portion, Reader, Source};
use super::shared::{LogShared, PORTIONS};
use super::syncer::{SyncTarget, SyncTargets};
use super::writer::{Extent, ReadySegment};
use super::{Durability, segment};
use crate::message::wall_clock_ns;
use crate::symbols::Symbols;

/// Between two rounds, while something is going on and while nothing is.
const BUSY_PAUSE: Duration = Duration::from_micros(500);
const IDLE_PAUSE: Duration = Duration::from_millis(10);
/// Between two tries to make a segment where there is no room.
const RETRY: Duration = Duration::from_millis(50);
/// Between two notes of how far replay has come.
const SAVE_INTERVAL: Duration = Duration::from_millis(10);
/// Pages are made present so far ahead of the writer: what it fills in a pause, several times over; and in such steps.
const AHEAD: usize = 16 << 20;
const STEP: usize = 1 << 20;

/// How many segments are kept ready: two, since a busy disk can hold the keeper up while it makes one; more where they are small; and
/// not those that other workers may need.
pub(super) fn ready_segments(config: &SpillConfig, workers: usize) -> usize {
    let wanted = (AHEAD as u64 / config.segment_bytes).clamp(2, 16);
    let share = config.budget_bytes / (config.segment_bytes * workers as u64);
    wanted.min(share).max(1) as usize
}

/// Bytes that the logs of so many workers take: on the heap, with a table of so many slots each; and mapped.
pub(crate) fn bytes_of(config: &SpillConfig, workers: usize, slots: usize) -> (u64, u64) {
    // What waits of each symbol, what is read ahead, and the zeros that a new segment is filled with.
    let heap = slots * size_of::<u64>() + PORTIONS * Portion::BYTES + segment::READ;
    // Those that are ready, and the one that is written to.
    let segments = (ready_segments(config, workers) + 1) * workers;
    let mapped = (segments as u64).min(config.budget_bytes / config.segment_bytes) * config.segment_bytes;
    (heap as u64 * workers as u64, mapped)
}

/// Whether another try would end as this one did.
fn is_lasting(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData)
}

pub(super) struct Keeper {
    pub(super) shared: Arc<LogShared>,
    pub(super) symbols: Arc<Symbols>,
    pub(super) budget: Arc<Budget>,
    pub(super) durability: Durability,
    pub(super) record: RecordType,
    pub(super) geometry: Geometry,
    pub(super) segment_bytes: u64,
    pub(super) next_number: u32,
    /// By number.
    pub(super) held: VecDeque<Held>,
    pub(super) targets: SyncTargets,
    pub(super) cursor: Cursor,
    pub(super) saved: Progress,
    pub(super) state: State,
    pub(super) reader: Reader,
}

/// What a keeper remembers from round to round.
#[derive(Default)]
pub(super) struct State {
    /// Sequence number of the next record to read.
    read_next: u64,
    portions_made: usize,
    last_save: Option<Instant>,
    save_failed: bool,
    read_failed: bool,
    retry_at: Option<Instant>,
    /// There was no room, which was logged.
    short: bool,
    appended: u64,
    busy: bool,
}

impl Keeper {
    pub(super) fn run(mut self) {
        self.shared.keeper.get_or_init(std::thread::current);
        loop {
            // Asked first, so that the last round sees all that the worker did.
            let stop = self.shared.stop.load(Ordering::Acquire);
            let is_busy = self.round();
            if stop {
                return self.finish();
            }
            std::thread::park_timeout(if is_busy { BUSY_PAUSE } else { IDLE_PAUSE });
        }
    }

    /// Returns whether anything is going on.
    fn round(&mut self) -> bool {
        self.shared.clock_ns.store(wall_clock_ns(), Ordering::Relaxed);
        self.shared.dictionary.catch_up(&self.symbols);
        let appended = self.shared.appended.load(Ordering::Acquire);
        let appends = appended != std::mem::replace(&mut self.state.appended, appended);
        let is_busy = appends || self.shared.armed.load(Ordering::Relaxed);
        if is_busy && !std::mem::replace(&mut self.state.busy, is_busy) {
            self.forget_present();
        }
        self.state.busy = is_busy;
        self.make_present();
        self.read_ahead();
        self.save(false);
        self.unmap_complete();
        self.remove_replayed();
        if self.state.retry_at.is_none_or(|at| Instant::now() >= at)
            && let Err(shortage) = self.prepare_all()
        {
            self.state.retry_at = Some(Instant::now() + RETRY);
            self.tell_shortage(&shortage);
        }
        is_busy || self.shared.replayed.load(Ordering::Relaxed) != appended
    }

    /// Makes segments ready, until as many are as there should be.
    pub(super) fn prepare_all(&mut self) -> Result<(), Shortage> {
        while !self.shared.ready.is_full() {
            self.prepare()?;
            // In a flood the worker takes segments as fast as they are made: this loop may go on for long.
            self.unmap_complete();
        }
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), Shortage> {
        // Before there is a segment: one without a cursor would look damaged, and a disk that segments have filled would have no room
        // for the cursor, without which they cannot be deleted.
        let progress = self.progress(false);
        self.cursor.make(&progress).map_err(Shortage::Io)?;
        self.budget.take(self.segment_bytes)?;
        let made = self.make_segment();
        if made.is_err() {
            self.budget.give_back(self.segment_bytes);
        }
        let (ready, held) = made.map_err(Shortage::Io)?;
        if matches!(self.durability, Durability::Interval(_)) {
            self.targets.add(SyncTarget::new(ready.map.shared().clone(), Arc::clone(&ready.extent), ready.id.number));
        }
        self.held.push_back(held);
        self.count_held();
        let _ = self.shared.ready.push(ready); // it has room: this is the only thread that pushes
        self.state.retry_at = None;
        if std::mem::take(&mut self.state.short) {
            let (worker, dir) = (self.shared.worker, self.shared.dir.display());
            tracing::warn!(worker, %dir, "the spill log has room again");
        }
        Ok(())
    }

    fn make_segment(&mut self) -> io::Result<(ReadySegment, Held)> {
        let (worker, life) = (self.shared.worker, self.shared.dictionary.life());
        self.next_number = segment::free_number(&self.shared.dir, self.next_number);
        let id = SegmentId { worker, number: self.next_number, epoch: super::store::random(), life };
        let new = segment::create(&self.shared.dir, id, &self.record, self.geometry, self.segment_bytes)?;
        self.next_number += 1;
        let finished = self.fill(&new).and_then(|()| match self.durability {
            Durability::Strict => new.file.sync_all().and_then(|()| File::open(&self.shared.dir)?.sync_all()),
            Durability::None | Durability::Interval(_) => Ok(()),
        });
        if let Err(error) = finished {
            let _ = fs::remove_file(&new.path);
            return Err(error);
        }
        let extent = Arc::new(Extent::unused());
        let held = Held {
            number: id.number,
            path: new.path,
            bytes: new.bytes,
            extent: Arc::clone(&extent),
            ids: None,
            map: Some(new.map.shared().clone()),
            present: AHEAD.min(new.bytes as usize),
            faulty: false,
        };
        Ok((ReadySegment { id, map: new.map, bytes: new.bytes, extent }, held))
    }

    /// Brings a new segment's pages into the page cache, by writing zeros: that is much quicker than to let each of them fault. The
    /// first ones are made present, too. In between, the writer of another segment is not forgotten.
    fn fill(&mut self, new: &segment::NewSegment) -> io::Result<()> {
        let mut at = FRAME as u64;
        while at < new.bytes - FRAME as u64 {
            at = new.write_zeros(at, STEP)?;
            self.make_present();
        }
        new.map.shared().populate(0, AHEAD.min(new.bytes as usize))
    }

    /// The first time, it is news.
    pub(super) fn tell_shortage(&mut self, shortage: &Shortage) {
        if self.shared.ready.is_empty() && !std::mem::replace(&mut self.state.short, true) {
            let (worker, dir) = (self.shared.worker, self.shared.dir.display());
            tracing::warn!(
                worker, %dir, %shortage,
                "no room for another segment of the spill log: when the one in use is full, messages are shed as spill_full"
            );
        }
    }

    /// While nothing was written, the system may have written pages back, after which the next write to them is a fault again.
    fn forget_present(&mut self) {
        for held in self.held.iter_mut().filter(|held| held.extent.end().is_none()) {
            held.present = 0;
        }
    }

    /// Makes the pages ahead of the writer present, so that it takes no faults.
    fn make_present(&mut self) {
        for held in self.held.iter_mut().filter(|held| held.extent.end().is_none()) {
            let Some(map) = &held.map else { continue };
            let at = held.extent.frame() as usize * FRAME;
            let wanted = (at + AHEAD).min(self.segment_bytes as usize);
            // The writer's own page is left alone, and the next, which it may open any moment.
            held.present = held.present.max(at + 2 * FRAME);
            while held.present < wanted {
                let step = STEP.min(wanted - held.present);
                if let Err(error) = map.populate(held.present, step) {
                    // The worker is told to go on in another segment, before it comes to the bad page.
                    let path = held.path.display();
                    tracing::error!(%path, %error, "a page of the spill log cannot be written: the segment is left");
                    self.shared.leave_segment.store(held.number, Ordering::Relaxed);
                    held.present = usize::MAX;
                    break;
                }
                held.present += step;
            }
        }
    }

    /// Reads complete segments, as far ahead as there are empty portions.
    fn read_ahead(&mut self) {
        let replayed = self.shared.replayed.load(Ordering::Acquire);
        self.state.read_next = self.state.read_next.max(replayed);
        let mut pushed = false;
        loop {
            let next = self.state.read_next;
            let complete = |held: &&Held| held.extent.end().is_some_and(|end| end > next);
            let Some(index) = self.held.iter().position(|held| complete(&held)) else { break };
            let Some(mut portion) = self.spare_portion() else { break };
            let held = &self.held[index];
            let (Some(first), Some(end)) = (held.extent.first(), held.extent.end()) else { break };
            let source = Source { number: held.number, path: &held.path, first, end };
            match self.reader.fill(&source, next.max(first), &mut portion) {
                Ok(next) => self.state.read_next = next,
                Err(error) => {
                    let _ = self.shared.spare.push(portion);
                    if is_lasting(&error) {
                        let path = held.path.display();
                        tracing::error!(%path, %error, "a segment of the spill log cannot be read: its records are lost");
                        self.held[index].faulty = true;
                        self.state.read_next = end;
                        continue;
                    }
                    if !std::mem::replace(&mut self.state.read_failed, true) {
                        let path = held.path.display();
                        tracing::warn!(%path, %error, "a segment of the spill log cannot be read for now: replay waits");
                    }
                    break;
                }
            }
            self.state.read_failed = false;
            if portion.end() <= next {
                let _ = self.shared.spare.push(portion);
            } else {
                portion.ids.clone_from(&held.ids);
                let _ = self.shared.portions.push(portion); // it has room for all portions there are
                pushed = true;
            }
            // Release: after the portion.
            self.shared.read_to.store(self.state.read_next, Ordering::Release);
        }
        // Where nothing is left to read, what the worker has come past counts as read, and so does what cannot be read.
        let before = self.shared.read_to.swap(self.state.read_next, Ordering::Release);
        if pushed || before != self.state.read_next {
            (self.shared.notify)();
        }
    }

    fn spare_portion(&mut self) -> Option<Portion> {
        let emptied = self.shared.spare.pop().map(|mut portion| {
            portion.clear();
            portion
        });
        emptied.or_else(|| {
            // Made when first needed: a log that is never read back needs no memory for it.
            let may_make = self.state.portions_made < PORTIONS;
            self.state.portions_made += usize::from(may_make);
            may_make.then(Portion::new)
        })
    }

    /// How far the log has come.
    fn progress(&self, clean: bool) -> Progress {
        Progress {
            replayed: self.shared.replayed.load(Ordering::Acquire),
            appended: self.shared.appended.load(Ordering::Acquire),
            clean,
            life: self.shared.dictionary.life(),
            names: self.shared.dictionary.names(),
        }
    }

    /// Notes on disk how far the log has come, if that has changed.
    fn save(&mut self, clean: bool) {
        let progress = self.progress(clean);
        let replayed = progress.replayed;
        let is_time = self.state.last_save.is_none_or(|last| last.elapsed() >= SAVE_INTERVAL);
        let is_due = clean || is_time || replayed - self.saved.replayed >= REPLAYED_TWICE_MAX / 2;
        if progress == self.saved || !is_due {
            return;
        }
        self.state.last_save = Some(Instant::now());
        if let Err(error) = self.cursor.save(&progress) {
            if !std::mem::replace(&mut self.state.save_failed, true) {
                let dir = self.shared.dir.display();
                tracing::error!(%dir, %error, "the replay cursor cannot be written: replay stops until it can");
            }
            return;
        }
        self.state.save_failed = false;
        self.saved = progress;
        if self.shared.saved.swap(replayed, Ordering::Release) != replayed {
            (self.shared.notify)();
        }
    }

    /// Unmaps segments that the worker has left. Not while it still holds the mapping, as it would have to unmap it then.
    fn unmap_complete(&mut self) {
        for held in self.held.iter_mut().filter(|held| held.extent.end().is_some()) {
            let targets = &self.targets;
            held.map.take_if(|map| targets.are_last_beside(held.number, map, &held.extent));
        }
    }

    /// Deletes segments whose records are all replayed, once a note on disk says so.
    fn remove_replayed(&mut self) {
        let mut is_synced = self.durability == Durability::None;
        while let Some(held) = self.held.front() {
            let is_replayed = held.extent.end().is_some_and(|end| end <= self.saved.replayed);
            if !is_replayed || held.map.is_some() {
                break;
            }
            if !is_synced && self.cursor.sync().is_err() {
                break;
            }
            is_synced = true;
            let Some(held) = self.held.pop_front() else { break };
            self.remove(held);
        }
    }

    fn remove(&mut self, held: Held) {
        self.targets.remove(held.number);
        self.reader.close(held.number);
        drop(held.map);
        let removed = match held.faulty {
            // Someone may want to look.
            true => fs::rename(&held.path, segment::aside(&held.path)),
            false => fs::remove_file(&held.path),
        };
        if let Err(error) = removed {
            let path = held.path.display();
            tracing::error!(%path, %error, "a replayed segment of the spill log cannot be deleted");
        }
        self.budget.give_back(held.bytes);
        self.count_held();
    }

    pub(super) fn count_held(&self) {
        let bytes = self.held.iter().map(|held| held.bytes).sum();
        self.shared.stats.bytes.store(bytes, Ordering::Relaxed);
        self.shared.stats.segments.store(self.held.len() as u64, Ordering::Relaxed);
    }

    /// The worker is gone: notes the log's end, and deletes what nobody needs.
    fn finish(mut self) {
        while self.shared.ready.pop().is_some() {}
        // Both places of the cursor tell the end.
        self.save(true);
        self.saved.clean = false;
        self.save(true);
        if self.durability != Durability::None {
            let _ = self.cursor.sync();
        }
        let unused = |held: &Held| held.extent.first().is_none();
        for held in std::mem::take(&mut self.held) {
            if unused(&held) {
                self.remove(held);
            } else {
                self.held.push_back(held);
            }
        }
        self.targets.clear();
        self.unmap_complete();
        for held in &mut self.held {
            held.map = None;
            if let Err(error) = held.trim() {
                let path = held.path.display();
                tracing::warn!(%path, %error, "the rest of a segment of the spill log cannot be given back to the disk");
            }
        }
        self.remove_replayed();
    }
}
