//! How safe what was spilled is, for a source that waits for that.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::shared::LogShared;

/// How far a log whose records are not safe the moment they count has come.
pub(crate) struct SpillProgress {
    shared: Arc<LogShared>,
    /// Where the log ended at the start: what an earlier process has left there was not offered by this one.
    start: u64,
}

impl SpillProgress {
    pub(super) fn new(shared: &Arc<LogShared>) -> Self {
        Self { shared: Arc::clone(shared), start: shared.appended.load(Ordering::Acquire) }
    }

    /// Where the log ends: all committed records have lower sequence numbers.
    pub(crate) fn end(&self) -> u64 {
        self.shared.appended.load(Ordering::Acquire)
    }

    /// Whether all records below this sequence number are on the disk, or were replayed.
    pub(crate) fn is_safe(&self, end: u64) -> bool {
        let durable = self.shared.durable.load(Ordering::Relaxed);
        end <= self.start || end <= durable || end <= self.shared.replayed.load(Ordering::Relaxed)
    }
}
