//! A worker's end of its log: append, commit, replay.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use super::Durability;
use super::format::{FRAME, Geometry, Page, check_page};
use super::reader::{Portion, decode};
use super::shared::{Fullness, LogShared, SpillStats};
use super::store::StoreHandle;
use super::writer::Writer;
use crate::message::Message;
use crate::symbols::Symbols;

/// Records that may be replayed before their replay is noted on disk: so many may come twice after a crash.
pub const REPLAYED_TWICE_MAX: u64 = 65_536;

/// One worker's log.
///
/// [`append`](Self::append) and [`commit`](Self::commit) are the hot path: they copy and add up a checksum. They take no lock,
/// allocate nothing and call nothing of the system (but with [`Durability::Strict`], which waits for the disk
/// in `commit`). A helper thread makes segments ready, writes back, reads ahead and deletes.
///
/// Dropping it commits, notes how far replay has come, and leaves what was not replayed on disk.
pub struct SpillLog<M: Message> {
    pub(super) shared: Arc<LogShared<M>>,
    pub(super) helpers: Vec<JoinHandle<()>>,
    pub(super) symbols: Arc<Symbols>,
    pub(super) geometry: Geometry,
    pub(super) durability: Durability,
    pub(super) writer: Option<Writer>,
    /// Sequence number of the next record.
    pub(super) next: u64,
    /// Records below it are committed, and were counted.
    pub(super) committed: u64,
    /// No segment was ready when one was needed: asked again once in a while, not for each message.
    pub(super) out_of_room: bool,
    /// Nothing may be spilled for now: a symbol's name is not on disk, or the disk has failed.
    pub(super) blocked: bool,
    /// Sequence number of the next record to replay.
    pub(super) replay_next: u64,
    pub(super) portion: Option<Portion<M>>,
    /// Records that wait, by their symbol's slot, and in all.
    pub(super) pending: Box<[u64]>,
    pub(super) pending_total: u64,
    /// Known since the start, in order, and not passed yet.
    pub(super) known_losses: VecDeque<Range<u64>>,
    /// Lost, and not yet told to the owner.
    pub(super) lost: u64,
    /// Keeps the directory locked. After `helpers`, which are joined first.
    pub(super) _store: Arc<StoreHandle>,
}

/// A message that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed<M> {
    /// Its sequence number in the worker's log.
    pub sequence: u64,
    /// How many messages of its symbol are missing before it.
    pub missed: u32,
    /// The message.
    pub message: M,
}

impl<M: Message> SpillLog<M> {
    /// Appends a message, before which `missed` messages of its symbol are missing. It counts when it is committed.
    ///
    /// Returns `false` if there is no room: the message is not in the log then.
    #[inline]
    #[must_use = "a message that found no room is not in the log"]
    pub fn append(&mut self, message: &M, missed: u32) -> bool {
        if (self.blocked || self.writer.as_ref().is_none_or(Writer::frame_is_full)) && !self.make_room() {
            return false;
        }
        let Some(writer) = &mut self.writer else { return false };
        writer.push(message.as_bytes(), missed);
        self.next += 1;
        self.pending[self.symbols.slot(message.symbol())] += 1;
        self.pending_total += 1;
        true
    }

    /// Commits what was appended; returns how many messages that were. From then on they survive the process, and with
    /// [`Durability::Strict`] the machine.
    #[inline]
    pub fn commit(&mut self) -> u64 {
        let new = self.next - self.committed;
        if new > 0 {
            self.commit_new();
        }
        new
    }

    /// Whether any message waits in the log.
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.pending_total > 0
    }

    /// Messages that wait in the log.
    #[inline]
    pub fn pending(&self) -> u64 {
        self.pending_total
    }

    /// Whether messages of a symbol, by its slot, wait in the log.
    #[inline]
    pub(crate) fn is_pending_at(&self, slot: usize) -> bool {
        self.pending[slot] > 0
    }

    pub(crate) fn stats(&self) -> Arc<SpillStats> {
        Arc::clone(&self.shared.stats)
    }

    /// Sequence number that the next message gets; the first one ever is 0.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Records that were found to be lost since this was last asked, beyond those that the recovery reported.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Looks whether there is room, and whether there is any reason not to use it. Call it before each batch of appends, a hundred
    /// or so; it costs next to nothing.
    #[inline]
    pub fn refresh(&mut self) {
        if self.out_of_room {
            self.out_of_room = self.shared.ready.is_empty();
        }
        self.blocked = self.shared.must_not_spill();
        self.shared.stats.set_full(self.out_of_room || self.blocked);
    }

    /// Room for a record: another frame, or another segment.
    #[cold]
    fn make_room(&mut self) -> bool {
        if self.blocked {
            return false;
        }
        if let Some(writer) = &mut self.writer {
            writer.commit();
            let leave = self.shared.leave_segment.load(Ordering::Relaxed) == writer.id().number;
            if writer.has_next_frame() && !leave {
                let info = self.shared.frame_info(self.next);
                writer.open_frame(info);
                return true;
            }
        }
        self.next_segment()
    }

    /// Exchanges the full segment for the one that is ready.
    fn next_segment(&mut self) -> bool {
        let segment = if self.out_of_room { None } else { self.shared.ready.pop() };
        let Some(segment) = segment else {
            if !self.out_of_room {
                self.out_of_room = true;
                self.shared.stats.not_ready.add(1);
                self.shared.stats.set_full(true);
            }
            return false;
        };
        self.leave_segment();
        self.shared.stats.set_full(false);
        let info = self.shared.frame_info(self.next);
        self.writer = Some(Writer::new(segment, self.geometry, info));
        true
    }

    fn leave_segment(&mut self) {
        let Some(mut writer) = self.writer.take() else { return };
        writer.commit();
        if self.durability == Durability::Strict {
            self.sync(&writer, 1);
        }
        writer.finish(self.next);
    }

    fn commit_new(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.commit();
        }
        if self.durability == Durability::Strict
            && let Some(writer) = &self.writer
        {
            let first = self.committed.max(writer.first()).min(self.next - 1);
            self.sync(writer, writer.locate(first).0);
        }
        self.committed = self.next;
        // Release: whoever sees the number finds the records.
        self.shared.appended.store(self.next, Ordering::Release);
    }

    /// Waits for the disk.
    fn sync(&self, writer: &Writer, frame: u32) {
        match writer.sync_from(frame) {
            Ok(()) => self.shared.durable.store(self.next, Ordering::Relaxed),
            Err(error) => self.shared.sync_failed(Fullness::SyncFailed, &error),
        }
    }

    /// Whether [`replay`](Self::replay) would deliver something now.
    pub fn can_replay(&self) -> bool {
        if self.pending_total == 0 || self.may_replay() == 0 {
            return false;
        }
        let in_hand = self.portion.as_ref().is_some_and(|portion| portion.end() > self.replay_next);
        in_hand
            || self.is_in_writer()
            || !self.shared.portions.is_empty()
            || self.shared.is_read_to(self.written_from())
    }

    /// Delivers at most `max` messages, oldest first; returns how many. Fewer than `max` if no more are pending, or
    /// if the helper has yet to read them.
    ///
    /// If `deliver` panics, the message in hand and all after it stay pending.
    pub fn replay(&mut self, max: usize, mut deliver: impl FnMut(Replayed<M>)) -> usize {
        debug_assert_eq!(self.committed, self.next, "commit before replaying");
        let mut delivered = 0;
        while delivered < max && self.replay_next < self.committed {
            let some = self.may_replay().min((max - delivered) as u64) as usize;
            let more = match some {
                0 => None,
                _ if self.is_in_writer() => self.replay_from_writer(some, &mut deliver),
                _ => self.replay_from_portion(some, &mut deliver),
            };
            let Some(more) = more else { break };
            delivered += more;
            // Release: whoever sees the number knows that the handler is done with what is below.
            self.shared.replayed.store(self.replay_next, Ordering::Release);
        }
        delivered
    }

    /// Symbols whose messages were lost in the log since it was last empty, with how many. Once nothing is pending, they
    /// are forgotten as this is asked.
    pub(crate) fn take_lost_by_slot(&mut self, mut tell: impl FnMut(usize, u64)) {
        debug_assert_eq!(self.pending_total, 0);
        for (slot, count) in self.pending.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            tell(slot, std::mem::take(count));
        }
    }

    /// How many records may be replayed until a note on disk says how far replay has come.
    fn may_replay(&self) -> u64 {
        let unsaved = self.replay_next.saturating_sub(self.shared.saved.load(Ordering::Relaxed));
        REPLAYED_TWICE_MAX.saturating_sub(unsaved)
    }

    /// Where the segment that is written to begins: below that, the helper reads.
    fn written_from(&self) -> u64 {
        self.writer.as_ref().map_or(self.committed, Writer::first)
    }

    fn is_in_writer(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| (writer.first()..self.committed).contains(&self.replay_next))
    }

    /// Replays from the segment that is written to, in memory: so replay catches up with appending, whatever the disk does.
    fn replay_from_writer(&mut self, max: usize, deliver: &mut impl FnMut(Replayed<M>)) -> Option<usize> {
        let writer = self.writer.as_ref()?;
        let (frame, from, committed) = writer.locate(self.replay_next);
        let page: &[u8; FRAME] = writer.page(frame).try_into().ok()?;
        if !matches!(check_page(page, writer.id(), frame, self.geometry), Page::Valid(_, n) if n == committed) {
            tracing::error!(
                segment = writer.id().number,
                frame,
                "a frame of the spill log changed in memory: it is lost"
            );
            self.lose(self.replay_next + (committed - from) as u64);
            return Some(0);
        }
        let to = committed.min(from + max);
        for index in from..to {
            // What was a message when it was appended is one now: the checksum says so.
            let message: Option<M> = decode(self.geometry.records(page, index, index + 1));
            if let Some(message) = message {
                let (sequence, missed) = (self.replay_next, self.geometry.note(page, index));
                deliver(Replayed { sequence, missed, message });
                let pending = &mut self.pending[self.symbols.slot(message.symbol())];
                *pending = pending.saturating_sub(1);
            } else {
                self.lost += 1;
            }
            self.pending_total -= 1;
            self.replay_next += 1;
        }
        Some(to - from)
    }

    /// Replays what the helper has read; `None` when it has yet to read it.
    fn replay_from_portion(&mut self, max: usize, deliver: &mut impl FnMut(Replayed<M>)) -> Option<usize> {
        let Some(portion) = self.portion.take_if(|portion| portion.end() > self.replay_next) else {
            return self.next_portion().then_some(0);
        };
        let portion = self.portion.insert(portion);
        let skip = (self.replay_next - portion.first) as usize;
        let records = portion.records(skip, max);
        let mut count = 0;
        for (message, missed) in records {
            deliver(Replayed { sequence: self.replay_next, missed: *missed, message: *message });
            let pending = &mut self.pending[self.symbols.slot(message.symbol())];
            *pending = pending.saturating_sub(1);
            self.pending_total -= 1;
            self.replay_next += 1;
            count += 1;
        }
        Some(count)
    }

    /// Takes the next portion that is worth having. `false` when there is none yet.
    fn next_portion(&mut self) -> bool {
        if let Some(empty) = self.portion.take() {
            self.shared.give_back(empty);
        }
        // Asked first: what the helper pushes after that is none of this answer's business.
        let all_read = self.shared.is_read_to(self.written_from());
        match self.shared.portions.pop() {
            Some(portion) if portion.end() <= self.replay_next => self.shared.give_back(portion),
            Some(portion) => {
                if portion.first > self.replay_next {
                    self.lose(portion.first);
                }
                self.portion = Some(portion);
            }
            None if all_read => self.lose(self.written_from()),
            None => {
                self.shared.ask_for_more();
                return false;
            }
        }
        true
    }

    /// Passes over records that cannot be read: those below `to`.
    fn lose(&mut self, to: u64) {
        let gap = self.replay_next..to;
        let mut known = 0;
        while let Some(loss) = self.known_losses.front() {
            known += loss.end.min(gap.end).saturating_sub(loss.start.max(gap.start));
            if loss.end > gap.end {
                break;
            }
            self.known_losses.pop_front();
        }
        let new = (gap.end - gap.start) - known;
        self.lost += new;
        debug_assert!(new <= self.pending_total, "{new} of {} lost", self.pending_total);
        self.pending_total = self.pending_total.saturating_sub(new);
        self.replay_next = to;
        self.shared.replayed.store(to, Ordering::Release);
    }
}

impl<M: Message> Drop for SpillLog<M> {
    fn drop(&mut self) {
        self.commit();
        self.leave_segment();
        // Also what was replayed before a panic in the midst of a batch.
        self.shared.replayed.store(self.replay_next, Ordering::Release);
        self.shared.stop.store(true, Ordering::Release);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            let _ = helper.join();
        }
    }
}

impl<M: Message> std::fmt::Debug for SpillLog<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpillLog")
            .field("next", &self.next)
            .field("pending", &self.pending_total)
            .finish_non_exhaustive()
    }
}
