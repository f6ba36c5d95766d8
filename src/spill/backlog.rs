//! What waits in a log, and the account of it: how many messages of which symbols, which one is next, what was lost.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::dictionary::IdMap;
use super::format::Geometry;
use super::log::Replayed;
use super::reader::{ReadFrame, decode_mapped};
use super::summary::LogSummary;
use crate::message::{Message, SymbolId};
use crate::symbols::Symbols;

pub(super) struct Backlog {
    symbols: Arc<Symbols>,
    /// Sequence number of the next record to replay.
    next: u64,
    /// Records that wait, by their symbol's slot.
    by_slot: Box<[u64]>,
    /// And in all.
    total: u64,
    /// Records among them that are not counted, as the names of their symbols are lost.
    nameless: u64,
    /// Known since the start, in order, and not passed yet.
    known_losses: VecDeque<Range<u64>>,
    /// Lost, and not yet told to the owner.
    lost: u64,
}

impl Backlog {
    /// What recovery has found, beginning with record `next`.
    pub(super) fn new(symbols: Arc<Symbols>, next: u64, log: &LogSummary, by_slot: Box<[u64]>) -> Self {
        let losses = log.faults.iter().map(|fault| fault.lost.clone()).filter(|lost| !lost.is_empty());
        Self {
            symbols,
            next,
            by_slot,
            total: log.pending,
            nameless: log.nameless,
            known_losses: losses.collect(),
            lost: 0,
        }
    }

    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    #[inline]
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    #[inline]
    pub(super) fn at(&self, slot: usize) -> u64 {
        self.by_slot[slot]
    }

    /// A message was appended.
    #[inline]
    pub(super) fn add(&mut self, symbol: SymbolId) {
        self.by_slot[self.symbols.slot(symbol)] += 1;
        self.total += 1;
    }

    /// Delivers at most `max` records of a frame that holds the next one; returns how many were passed. If `deliver` panics, the
    /// record in hand still waits.
    pub(super) fn deliver<M: Message>(
        &mut self,
        frame: ReadFrame<'_>,
        geometry: Geometry,
        ids: Option<&IdMap>,
        max: usize,
        deliver: &mut impl FnMut(Replayed<M>),
    ) -> usize {
        let from = (self.next - frame.first) as usize;
        let to = frame.count.min(from.saturating_add(max));
        for index in from..to {
            match decode_mapped::<M>(geometry.records(frame.page, index, index + 1), ids) {
                Some(message) => {
                    let missed = geometry.note(frame.page, index);
                    deliver(Replayed { sequence: self.next, missed, message });
                    let waiting = &mut self.by_slot[self.symbols.slot(message.symbol())];
                    *waiting = waiting.saturating_sub(1);
                    self.total -= 1;
                }
                None if self.nameless > 0 => self.nameless -= 1,
                None => {
                    self.lost += 1;
                    self.total -= 1;
                }
            }
            self.next += 1;
        }
        to - from
    }

    /// Passes over records that cannot be read: those below `to`.
    pub(super) fn lose(&mut self, to: u64) {
        let gap = self.next..to;
        let mut known = 0;
        while let Some(loss) = self.known_losses.front() {
            known += loss.end.min(gap.end).saturating_sub(loss.start.max(gap.start));
            if loss.end > gap.end {
                break;
            }
            self.known_losses.pop_front();
        }
        let new = (gap.end - gap.start) - known;
        debug_assert!(new <= self.total, "{new} of {} lost", self.total);
        self.lost += new;
        self.total = self.total.saturating_sub(new);
        self.next = to;
    }

    /// Passes over what is left, which is known to be lost: nothing waits.
    pub(super) fn pass_rest(&mut self, to: u64) {
        debug_assert_eq!(self.total, 0);
        self.known_losses.clear();
        self.nameless = 0;
        self.next = to;
    }

    /// How many were found to be lost since this was last asked.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Of whom records were lost: what is left by slot when nothing waits any more.
    pub(super) fn take_rest(&mut self, mut tell: impl FnMut(usize, u64)) {
        debug_assert_eq!(self.total, 0);
        for (slot, count) in self.by_slot.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            tell(slot, std::mem::take(count));
        }
    }
}
