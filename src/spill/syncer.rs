//! The helper thread that writes a log back to the disk at intervals.

use std::fs::File;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::format::FRAME;
use super::map::SharedMap;
use super::shared::LogShared;
use super::writer::Extent;

/// A segment that is to be written back.
pub(super) struct SyncTarget {
    map: SharedMap,
    extent: Arc<Extent>,
    number: u32,
    /// The first frame that may have changed since.
    frame: u32,
    failed: bool,
}

impl SyncTarget {
    pub(super) fn new(map: SharedMap, extent: Arc<Extent>, number: u32) -> Self {
        Self { map, extent, number, frame: 0, failed: false }
    }
}

/// The segments of this life. The keeper adds and removes, the syncer works on them.
#[derive(Clone, Default)]
pub(super) struct SyncTargets(Arc<Mutex<Vec<SyncTarget>>>);

impl SyncTargets {
    fn lock(&self) -> MutexGuard<'_, Vec<SyncTarget>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, target: SyncTarget) {
        self.lock().push(target);
    }

    pub(super) fn remove(&self, number: u32) {
        self.lock().retain(|target| target.number != number);
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// Whether the worker has let go of a segment: then only the keeper's references are left, and those here.
    pub(super) fn are_last_beside(&self, number: u32, map: &SharedMap, extent: &Arc<Extent>) -> bool {
        let targets = self.lock();
        let here = targets.iter().filter(|target| target.number == number).count();
        map.references() <= 1 + here && Arc::strong_count(extent) <= 1 + here
    }
}

pub(super) struct Syncer {
    pub(super) shared: Arc<LogShared>,
    pub(super) targets: SyncTargets,
    pub(super) interval: Duration,
}

impl Syncer {
    pub(super) fn run(self) {
        let mut newest = 0;
        loop {
            let stop = self.shared.stop.load(Ordering::Acquire);
            self.round(&mut newest);
            if stop {
                return;
            }
            std::thread::park_timeout(self.interval);
        }
    }

    /// Writes back all that was committed before. `newest`: the last segment whose file name is on the disk.
    fn round(&self, newest: &mut u32) {
        let appended = self.shared.appended.load(Ordering::Acquire);
        if appended == self.shared.durable.load(Ordering::Relaxed) || self.shared.has_disk_failed() {
            return;
        }
        // Names before the records that need them, and files before what is in them.
        if let Err(error) = self.shared.dictionary.sync() {
            return self.failed(0, &error);
        }
        let last = self.targets.lock().last().map_or(0, |target| target.number);
        if last != *newest {
            if let Err(error) = File::open(&self.shared.dir).and_then(|dir| dir.sync_all()) {
                return self.failed(0, &error);
            }
            *newest = last;
        }
        // Not under the lock: the keeper shall not wait for the disk.
        let look = |target: &SyncTarget| {
            // Asked first: then nothing is added to the frame any more.
            let is_complete = target.extent.end().is_some();
            (target.map.clone(), target.number, target.frame, target.extent.frame(), is_complete)
        };
        let list: Vec<_> = self.targets.lock().iter().map(look).collect();
        for (map, number, from, to, is_complete) in list {
            let synced = map.sync(from as usize * FRAME, (to - from + 1) as usize * FRAME);
            let mut targets = self.targets.lock();
            let Some(target) = targets.iter_mut().find(|target| target.number == number) else { continue };
            // Also if it failed: another try would tell nothing.
            target.frame = to;
            target.failed |= synced.is_err();
            if is_complete && !target.failed {
                targets.retain(|target| target.number != number);
            }
            drop(targets);
            if let Err(error) = synced {
                self.failed(number, &error);
            }
        }
        if !self.targets.lock().iter().any(|target| target.failed) {
            self.shared.durable.store(appended, Ordering::Relaxed);
        }
    }

    /// The first time, another segment may do better; the second time, the disk is not to be trusted.
    fn failed(&self, number: u32, error: &std::io::Error) {
        let is_first = self.shared.stats.sync_failures.load(Ordering::Relaxed) == 0;
        if is_first && number != 0 {
            self.shared.leave_segment.store(number, Ordering::Relaxed);
            self.shared.sync_failed(false, error);
        } else {
            self.shared.sync_failed(true, error);
        }
    }
}
