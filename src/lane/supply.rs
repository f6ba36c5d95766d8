//! Which empty block a sender uses next.

use std::collections::VecDeque;

/// The empty blocks of a lane, as its sender knows of them.
///
/// Blocks come back in the order in which they were sent. A sender that wrote into the one that came back last would write
/// into cache lines that the receiver has read a moment ago, and wait for each. One that went through the whole pool would
/// always write into cold memory. So it goes through a few blocks round and round, and to the rest when those
/// do not come back in time.
pub(crate) struct Supply {
    /// In the order of their use.
    warm: VecDeque<u32>,
    /// How many blocks go round.
    warm_max: usize,
    /// The rest; the one that was used last is on top.
    cold: Vec<u32>,
    /// Blocks that have come back, ever.
    returned: u64,
}

impl Supply {
    /// Bytes for each block.
    pub(crate) const BLOCK_BYTES: usize = size_of::<u32>();

    /// Of so many blocks, all empty.
    pub(crate) fn new(blocks: usize, warm_max: usize) -> Self {
        let warm_max = warm_max.clamp(1, blocks);
        let mut warm = VecDeque::with_capacity(warm_max);
        warm.extend(0..warm_max as u32);
        Self { warm, warm_max, cold: (warm_max as u32..blocks as u32).rev().collect(), returned: 0 }
    }

    /// Whether it is time to see what has come back.
    pub(crate) fn is_dry(&self) -> bool {
        self.warm.is_empty()
    }

    /// Takes back all blocks up to run number `finished`; `block_of` tells the block of a run.
    pub(crate) fn take_back(&mut self, finished: u64, block_of: impl Fn(u64) -> u32) {
        for run in self.returned..finished {
            if self.warm.len() < self.warm_max {
                self.warm.push_back(block_of(run));
            } else {
                self.cold.push(block_of(run));
            }
        }
        self.returned = finished;
    }

    /// The block to use next; `None` when all are full.
    pub(crate) fn next(&mut self) -> Option<u32> {
        self.warm.pop_front().or_else(|| self.cold.pop())
    }
}
