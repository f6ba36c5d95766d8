//! Holes in symbols' streams. A producer keeps those of offers that failed, a worker those of messages that were shed.

use std::sync::{Arc, Mutex, PoisonError};

/// Holes of producers that are gone, for the workers to tell of at their end: by worker, slots and how many messages were missed. Locked
/// when a producer goes, and when a worker ends.
#[derive(Clone, Debug)]
pub(crate) struct LastHoles(Arc<[Mutex<Left>]>);

/// Slots, and how many messages each has missed.
type Left = Vec<(usize, u32)>;

impl LastHoles {
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Mutex::default()).collect())
    }

    pub(crate) fn leave(&self, worker: usize, slot: usize, missed: u32) {
        self.0[worker].lock().unwrap_or_else(PoisonError::into_inner).push((slot, missed));
    }

    pub(crate) fn take(&self, worker: usize) -> Left {
        std::mem::take(&mut *self.0[worker].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How many messages of each symbol were missed since its last one that went through.
pub(crate) struct Holes {
    missed: Box<[u32]>,
    /// Symbols that have missed any.
    open: usize,
}

impl Holes {
    /// Bytes of a table of so many slots.
    pub(crate) fn bytes(slots: usize) -> u64 {
        slots as u64 * size_of::<u32>() as u64
    }

    pub(crate) fn new(slots: usize) -> Self {
        Self { missed: vec![0; slots].into_boxed_slice(), open: 0 }
    }

    /// Whether any symbol has a hole: one comparison on the common path.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.open > 0
    }

    pub(crate) fn add(&mut self, slot: usize, missed: u32) {
        if missed > 0 {
            let hole = &mut self.missed[slot];
            self.open += usize::from(*hole == 0);
            *hole = hole.saturating_add(missed);
        }
    }

    /// Whether a symbol with a slot of its own has a hole; the last slot is for all others.
    pub(crate) fn any_named(&self) -> bool {
        self.open > usize::from(self.missed.last().is_some_and(|missed| *missed > 0))
    }

    /// Takes all holes of symbols with a slot of their own away, and tells each by its slot. Looks at every slot.
    pub(crate) fn drain(&mut self, mut tell: impl FnMut(usize, u32)) {
        if !self.any_named() {
            return;
        }
        let named = self.missed.len() - 1;
        for slot in 0..named {
            if self.missed[slot] > 0 {
                tell(slot, self.take(slot));
            }
        }
    }

    /// Takes the hole of a symbol away.
    pub(crate) fn take(&mut self, slot: usize) -> u32 {
        let missed = std::mem::take(&mut self.missed[slot]);
        self.open -= usize::from(missed > 0);
        missed
    }
}
