//! Which messages are done with for good: what a source waits for that is to acknowledge what it has offered.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::lane::LaneCounters;
use crate::spill::SpillProgress;

/// How many messages of one lane are done with for good, from the first on: processed, shed and counted, or spilled and as safe in the
/// spill log as its durability promises.
///
/// A worker finishes a lane's messages in their order, and only after it has committed those that it spilled. So all that was finished
/// at some moment is safe once the log is safe up to where it ended after that moment; there is no need to know which of them were spilled.
pub(crate) struct Settled {
    lane: Arc<LaneCounters>,
    /// There, if messages go to a log that is not safe at once.
    log: Option<SpillProgress>,
    settled: u64,
    /// Finished, and where the log ended after that; not yet safe.
    unsafe_yet: Option<(u64, u64)>,
}

impl Settled {
    pub(crate) fn new(lane: Arc<LaneCounters>, log: Option<SpillProgress>) -> Self {
        Self { lane, log, settled: 0, unsafe_yet: None }
    }

    /// How many, as of the last [`look`](Self::look).
    pub(crate) fn get(&self) -> u64 {
        self.settled
    }

    /// Looks again; `has_failed` is asked after the worker's count is read, and tells whether a worker has failed: then messages
    /// count as finished that no handler got.
    pub(crate) fn look(&mut self, has_failed: impl FnOnce() -> bool) {
        // Acquire: what the worker did before it finished those messages is seen: its commits to the log, and the gate if it has failed.
        let finished = self.lane.finished.load(Ordering::Acquire);
        if has_failed() {
            return;
        }
        let Some(log) = &self.log else {
            self.settled = finished;
            return;
        };
        if let Some((finished, end)) = self.unsafe_yet
            && log.is_safe(end)
        {
            self.settled = finished;
            self.unsafe_yet = None;
        }
        if self.unsafe_yet.is_none() && finished > self.settled {
            let end = log.end();
            if log.is_safe(end) {
                self.settled = finished;
            } else {
                self.unsafe_yet = Some((finished, end));
            }
        }
    }
}
