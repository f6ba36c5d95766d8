//! What a source hands over at once.

use crate::tick::Tick;

/// Ticks that arrived together, and the holes among them.
#[derive(Debug, Default)]
pub struct Burst {
    ticks: Vec<Tick>,
    /// Before which tick, and how many messages are missing there; ascending.
    gaps: Vec<(usize, u64)>,
}

impl Burst {
    /// Ticks that recorded feeds put into a burst.
    pub const TICKS: usize = 256;

    /// An empty burst.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tick.
    #[inline]
    pub fn push(&mut self, tick: Tick) {
        self.ticks.push(tick);
    }

    /// Says that the feed has lost `missed` messages here, whose symbols nobody knows. Nothing is said of none.
    pub fn note_gap(&mut self, missed: u64) {
        if missed > 0 {
            self.gaps.push((self.ticks.len(), missed));
        }
    }

    /// The ticks.
    pub fn ticks(&self) -> &[Tick] {
        &self.ticks
    }

    /// The ticks, to be changed in place.
    pub fn ticks_mut(&mut self) -> &mut [Tick] {
        &mut self.ticks
    }

    /// Holes: before which tick (its index; the number of ticks: after the last), and how many messages are missing there.
    pub fn gaps(&self) -> &[(usize, u64)] {
        &self.gaps
    }

    /// Number of ticks.
    pub fn len(&self) -> usize {
        self.ticks.len()
    }

    /// Whether there are neither ticks nor holes.
    pub fn is_empty(&self) -> bool {
        self.ticks.is_empty() && self.gaps.is_empty()
    }

    /// Empties it, and keeps its memory.
    pub fn clear(&mut self) {
        self.ticks.clear();
        self.gaps.clear();
    }
}
