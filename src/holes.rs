//! Holes in symbols' streams. A producer keeps those of offers that failed, a worker those of messages that were shed.

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

    /// Takes the hole of a symbol away.
    pub(crate) fn take(&mut self, slot: usize) -> u32 {
        let missed = std::mem::take(&mut self.missed[slot]);
        self.open -= usize::from(missed > 0);
        missed
    }
}
