//! Budgets, as a chunk sees them.

use std::sync::atomic::{AtomicI64, Ordering};

/// What a chunk may take of the priorities' budgets. What it took is given up when it ends, be it by a panic.
pub(super) struct Tokens<'a> {
    shared: Option<&'a [AtomicI64; 4]>,
    left: [i64; 4],
    taken: [i64; 4],
}

impl<'a> Tokens<'a> {
    #[inline(always)]
    pub(super) fn new(shared: Option<&'a [AtomicI64; 4]>) -> Self {
        let left = shared.map_or([0; 4], |tokens| tokens.each_ref().map(|tokens| tokens.load(Ordering::Relaxed)));
        Self { shared, left, taken: [0; 4] }
    }

    #[inline]
    pub(super) fn take(&mut self, priority: usize) -> bool {
        let is_left = self.left[priority] > self.taken[priority];
        self.taken[priority] += i64::from(is_left);
        is_left
    }
}

impl Drop for Tokens<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        for (tokens, taken) in self.shared.into_iter().flatten().zip(self.taken) {
            if taken > 0 {
                tokens.fetch_sub(taken, Ordering::Relaxed);
            }
        }
    }
}
