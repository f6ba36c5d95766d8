//! A worker's end of its log: append, commit, replay.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use super::Durability;
use super::backlog::Backlog;
use super::format::{FRAME, Geometry, Page, check_page};
use super::progress::SpillProgress;
use super::reader::{Portion, ReadFrame};
use super::shared::{Arm, LogShared, SpillStats};
use super::store::StoreHandle;
use super::writer::Writer;
use crate::message::Message;

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
    pub(super) shared: Arc<LogShared>,
    pub(super) helpers: Vec<JoinHandle<()>>,
    pub(super) geometry: Geometry,
    pub(super) durability: Durability,
    pub(super) writer: Option<Writer>,
    /// Sequence number of the next record, while there is no writer that knows it.
    pub(super) end: u64,
    /// Records below it are committed, and were counted.
    pub(super) committed: u64,
    /// No segment was ready when one was needed: asked again once in a while, not for each message.
    pub(super) out_of_room: bool,
    /// Nothing may be spilled for now: a symbol's name is not on disk, or the disk has failed.
    pub(super) blocked: bool,
    /// What waits.
    pub(super) backlog: Backlog,
    /// What the keeper has read of it, in hand.
    pub(super) portion: Option<Portion>,
    pub(super) messages: PhantomData<fn(M)>,
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
        self.backlog.add(message.symbol());
        true
    }

    /// Commits what was appended; returns how many messages that were. From then on they survive the process, and with
    /// [`Durability::Strict`] the machine.
    #[inline]
    pub fn commit(&mut self) -> u64 {
        let next = self.next_sequence();
        let new = next - self.committed;
        if new > 0 {
            self.commit_to(next);
        }
        new
    }

    /// Whether any message waits in the log.
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.backlog.total() > 0
    }

    /// Messages that wait in the log.
    #[inline]
    pub fn pending(&self) -> u64 {
        self.backlog.total()
    }

    /// Whether messages of a symbol, by its slot, wait in the log.
    #[inline]
    pub(crate) fn is_pending_at(&self, slot: usize) -> bool {
        self.backlog.at(slot) > 0
    }

    /// For a thread that sees overload coming.
    pub(crate) fn arm(&self) -> Arm {
        let shared = Arc::clone(&self.shared);
        Box::new(move |armed| shared.arm(armed))
    }

    /// Whether its helper threads are alive.
    pub(crate) fn is_kept(&self) -> bool {
        !self.helpers.iter().any(JoinHandle::is_finished)
    }

    /// Sequence number of the next record to replay.
    pub(crate) fn replay_next(&self) -> u64 {
        self.backlog.next()
    }

    /// For a source that waits until what was spilled is safe; `None`, where it is that at once.
    pub(crate) fn progress(&self) -> Option<SpillProgress> {
        (self.durability != Durability::None).then(|| SpillProgress::new(&self.shared))
    }

    pub(crate) fn stats(&self) -> Arc<SpillStats> {
        Arc::clone(&self.shared.stats)
    }

    /// Sequence number that the next message gets; the first one ever is 0.
    #[inline]
    pub fn next_sequence(&self) -> u64 {
        self.writer.as_ref().map_or(self.end, Writer::next)
    }

    /// Records that were found to be lost since this was last asked, beyond those that the recovery reported.
    pub fn take_lost(&mut self) -> u64 {
        self.backlog.take_lost()
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
                let info = self.shared.frame_info(writer.next());
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
        let info = self.shared.frame_info(self.end);
        self.writer = Some(Writer::new(segment, self.geometry, info));
        true
    }

    fn leave_segment(&mut self) {
        let Some(mut writer) = self.writer.take() else { return };
        writer.commit();
        if self.durability == Durability::Strict {
            self.sync(&writer, 1);
        }
        self.end = writer.next();
        writer.finish();
    }

    /// Makes all that was appended count: it ends before `next`.
    fn commit_to(&mut self, next: u64) {
        if let Some(writer) = &mut self.writer {
            writer.commit();
        }
        if self.durability == Durability::Strict
            && let Some(writer) = &self.writer
        {
            let first = self.committed.max(writer.first()).min(next - 1);
            self.sync(writer, writer.locate(first).0);
        }
        self.committed = next;
        // Release: whoever sees the number finds the records.
        self.shared.appended.store(next, Ordering::Release);
    }

    /// Waits for the disk.
    fn sync(&self, writer: &Writer, frame: u32) {
        match writer.sync_from(frame) {
            Ok(()) => self.shared.durable.store(writer.next(), Ordering::Relaxed),
            Err(error) => self.shared.sync_failed(true, &error),
        }
    }

    /// Whether [`replay`](Self::replay) would deliver something now.
    pub fn can_replay(&self) -> bool {
        if self.backlog.total() == 0 || self.may_replay() == 0 {
            return false;
        }
        let in_hand = self.portion.as_ref().is_some_and(|portion| portion.end() > self.backlog.next());
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
        debug_assert_eq!(self.committed, self.next_sequence(), "commit before replaying");
        let mut delivered = 0;
        while delivered < max && self.backlog.next() < self.committed {
            let some = self.may_replay().min((max - delivered) as u64) as usize;
            let more = match some {
                0 => None,
                _ if self.is_in_writer() => self.replay_from_writer(some, &mut deliver),
                _ => self.replay_from_portion(some, &mut deliver),
            };
            let Some(more) = more else { break };
            delivered += more;
            // Release: whoever sees the number knows that the handler is done with what is below.
            self.shared.replayed.store(self.backlog.next(), Ordering::Release);
        }
        if self.backlog.total() == 0 && self.backlog.next() < self.committed {
            self.backlog.pass_rest(self.committed);
            self.shared.replayed.store(self.committed, Ordering::Release);
        }
        delivered
    }

    /// Symbols whose messages were lost in the log since it was last empty, with how many. Once nothing is pending, they
    /// are forgotten as this is asked.
    pub(crate) fn take_lost_by_slot(&mut self, tell: impl FnMut(usize, u64)) {
        self.backlog.take_rest(tell);
    }

    /// How many records may be replayed until a note on disk says how far replay has come.
    fn may_replay(&self) -> u64 {
        let unsaved = self.backlog.next().saturating_sub(self.shared.saved.load(Ordering::Relaxed));
        REPLAYED_TWICE_MAX.saturating_sub(unsaved)
    }

    /// Where the segment that is written to begins: below that, the helper reads.
    fn written_from(&self) -> u64 {
        self.writer.as_ref().map_or(self.committed, Writer::first)
    }

    fn is_in_writer(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| (writer.first()..self.committed).contains(&self.backlog.next()))
    }

    /// Replays from the segment that is written to, in memory: so replay catches up with appending, whatever the disk does.
    fn replay_from_writer(&mut self, max: usize, deliver: &mut impl FnMut(Replayed<M>)) -> Option<usize> {
        let writer = self.writer.as_ref()?;
        let (number, committed) = writer.locate(self.backlog.next());
        let page: &[u8; FRAME] = writer.page(number).try_into().ok()?;
        let frame = match check_page(page, writer.id(), number, self.geometry) {
            Page::Valid(info, count) if count == committed => ReadFrame { page, first: info.first, count },
            _ => {
                let segment = writer.id().number;
                tracing::error!(segment, frame = number, "a frame of the spill log changed in memory: it is lost");
                self.lose(writer.frame_end(number).min(self.committed));
                return Some(0);
            }
        };
        Some(self.backlog.deliver(frame, self.geometry, None, max, deliver))
    }

    /// Replays what the keeper has read; `None` when it has yet to read it.
    fn replay_from_portion(&mut self, max: usize, deliver: &mut impl FnMut(Replayed<M>)) -> Option<usize> {
        let next = self.backlog.next();
        let Some(portion) = &self.portion else { return self.next_portion().then_some(0) };
        let Some(frame) = portion.frame_with(next) else { return self.next_portion().then_some(0) };
        if frame.first > next {
            let first = frame.first;
            self.lose(first);
            return Some(0);
        }
        Some(self.backlog.deliver(frame, self.geometry, portion.ids.as_deref(), max, deliver))
    }

    /// Takes the next portion. `false` when there is none yet.
    fn next_portion(&mut self) -> bool {
        if let Some(empty) = self.portion.take() {
            self.shared.give_back(empty);
        }
        // Asked first: what the keeper pushes after that is none of this answer's business.
        let all_read = self.shared.is_read_to(self.written_from());
        self.portion = self.shared.portions.pop();
        if self.portion.is_none() && all_read {
            self.lose(self.written_from());
            return true;
        }
        self.portion.is_some()
    }

    /// Passes over records that cannot be read: those below `to`.
    fn lose(&mut self, to: u64) {
        self.backlog.lose(to);
        self.shared.replayed.store(to, Ordering::Release);
    }
}

impl<M: Message> Drop for SpillLog<M> {
    fn drop(&mut self) {
        self.commit();
        self.leave_segment();
        // Also what was replayed before a panic in the midst of a batch.
        self.shared.replayed.store(self.backlog.next(), Ordering::Release);
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
            .field("next", &self.next_sequence())
            .field("pending", &self.backlog.total())
            .finish_non_exhaustive()
    }
}
