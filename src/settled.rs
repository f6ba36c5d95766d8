//! Which messages are done with for good: what a source waits for that is to acknowledge what it has offered.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::lane::LaneCounters;
use crate::spill::SpillProgress;

/// A count that follows what is finished, but only as far as that is safe.
///
/// What *safe* is shows as a mark that rises: the end of a log, say, or items handed on. Whoever finishes something has moved the mark
/// before. So all that was finished at some moment is safe once everything is that lies below the mark as it was after that moment; there is
/// no need to know what belongs to what.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Follower {
    settled: u64,
    /// So much was finished, and the mark was here after that; not yet safe.
    waiting: Option<(u64, u64)>,
}

impl Follower {
    /// How much, as of the last [`follow`](Self::follow).
    pub(crate) fn get(self) -> u64 {
        self.settled
    }

    /// So much is finished by now. `mark` says where the mark is, and is asked after that; `is_safe`, whether all below a mark is safe.
    pub(crate) fn follow(&mut self, finished: u64, mark: impl FnOnce() -> u64, is_safe: impl Fn(u64) -> bool) {
        if let Some((finished, mark)) = self.waiting
            && is_safe(mark)
        {
            (self.settled, self.waiting) = (finished, None);
        }
        if self.waiting.is_none() && finished > self.settled {
            let mark = mark();
            if is_safe(mark) {
                self.settled = finished;
            } else {
                self.waiting = Some((finished, mark));
            }
        }
    }
}

/// How many messages of one lane are done with for good, from the first on: processed, shed and counted, or spilled and as safe in the
/// spill log as its durability promises. A worker finishes a lane's messages in their order, and only after it has committed those that it
/// spilled.
pub(crate) struct Settled {
    lane: Arc<LaneCounters>,
    /// There, if messages go to a log that is not safe at once.
    log: Option<SpillProgress>,
    settled: Follower,
}

impl Settled {
    pub(crate) fn new(lane: Arc<LaneCounters>, log: Option<SpillProgress>) -> Self {
        Self { lane, log, settled: Follower::default() }
    }

    /// How many, as of the last [`look`](Self::look).
    pub(crate) fn get(&self) -> u64 {
        self.settled.get()
    }

    /// Looks again; `has_failed` is asked after the worker's count is read, and tells whether a worker has failed: then messages
    /// count as finished that no handler got.
    pub(crate) fn look(&mut self, has_failed: impl FnOnce() -> bool) {
        // Acquire: what the worker did before it finished those messages is seen: its commits to the log, and the gate if it has failed.
        let finished = self.lane.finished.load(Ordering::Acquire);
        // What is kept to be conflated is off the lane and not done with. Later than `finished`, it can only be further on.
        let finished = match self.lane.front.held_from.load(Ordering::Acquire) {
            0 => finished,
            first => finished.min(first - 1),
        };
        if has_failed() {
            return;
        }
        match &self.log {
            Some(log) => self.settled.follow(finished, || log.end(), |end| log.is_safe(end)),
            None => self.settled.follow(finished, || 0, |_| true),
        }
    }
}
