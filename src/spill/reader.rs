//! Reading records back, ahead of the worker that replays them.

use std::sync::Arc;

use super::dictionary::IdMap;
use super::format::Page;
use super::segment::{FrameBuffer, SegmentFile};
use crate::message::Message;

/// Frames that are read at a time.
const FRAMES: usize = 64;

/// Records with sequence numbers in a row, and the note beside each.
pub(super) struct Portion<M> {
    pub(super) first: u64,
    messages: Vec<M>,
    missed: Vec<u32>,
}

impl<M: Message> Portion<M> {
    /// An empty one, with room for `per_frame` records of so many frames as are read at a time.
    pub(super) fn new(per_frame: usize) -> Self {
        let capacity = per_frame * FRAMES;
        Self { first: 0, messages: Vec::with_capacity(capacity), missed: Vec::with_capacity(capacity) }
    }

    /// At most `max` records from the `skip`th on.
    pub(super) fn records(&self, skip: usize, max: usize) -> impl Iterator<Item = (&M, &u32)> {
        self.messages[skip..].iter().zip(&self.missed[skip..]).take(max)
    }

    fn has_room(&self) -> bool {
        self.messages.len() < self.messages.capacity()
    }

    fn push(&mut self, sequence: u64, message: M, missed: u32) {
        if self.messages.is_empty() {
            self.first = sequence;
        }
        self.messages.push(message);
        self.missed.push(missed);
    }
}

impl<M> Portion<M> {
    /// Sequence number after the last record.
    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.missed.clear();
    }
}

/// A record's message; `None` if the bytes are none.
#[inline]
pub(super) fn decode<M: Message>(record: &[u8]) -> Option<M> {
    M::try_read_from_bytes(record).ok()
}

/// A record's message, with the id that its symbol has in this process. `map`: of the life that wrote it.
#[inline]
pub(super) fn decode_mapped<M: Message>(record: &[u8], map: Option<&IdMap>) -> Option<M> {
    let mut message: M = decode(record)?;
    if let Some(map) = map {
        let symbol = map.get(message.symbol())?;
        message.set_symbol(symbol);
    }
    Some(message)
}

/// Reads one segment after the other, in order.
pub(super) struct Reader {
    buffer: FrameBuffer,
    /// The segment in hand.
    file: Option<SegmentFile>,
}

/// A segment to read: its file's number and path, the sequence numbers it holds, and what its ids mean.
pub(super) struct Source<'a> {
    pub(super) number: u32,
    pub(super) path: &'a std::path::Path,
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) map: Option<&'a Arc<IdMap>>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { buffer: FrameBuffer::new(FRAMES), file: None }
    }

    /// Fills an empty portion with records from `next` on; returns the sequence number to go on with, which is the segment's
    /// end when there is nothing more. Records that cannot be read are passed over: the portion ends before them.
    pub(super) fn fill<M: Message>(&mut self, source: &Source<'_>, next: u64, portion: &mut Portion<M>) -> u64 {
        if self.file.as_ref().is_none_or(|file| file.id().number != source.number) {
            match SegmentFile::open(source.path) {
                Ok(file) => self.file = Some(file),
                Err(error) => {
                    let path = source.path.display();
                    tracing::error!(%path, ?error, "a segment of the spill log cannot be read: its records are lost");
                    return source.end;
                }
            }
        }
        let Some(file) = &self.file else { return source.end };
        let map = source.map.map(Arc::as_ref);
        let mut next = next;
        let mut is_full = false;
        // A segment's frames are full but for the last, so a record is in this frame, or in a later one if frames before were lost.
        let frame = (next.saturating_sub(source.first) / file.geometry.per_frame as u64) as u32 + 1;
        let read = file.read_frames(frame, &mut self.buffer, |_, page, bytes| {
            let Page::Valid(info, count) = page else { return true };
            let skip = next.saturating_sub(info.first).min(count as u64) as usize;
            for index in skip..count {
                let sequence = info.first + index as u64;
                let record = file.geometry.records(bytes, index, index + 1);
                let message = decode_mapped::<M>(record, map);
                let goes_on = portion.is_empty() || (sequence == portion.end() && portion.has_room());
                match message {
                    Some(message) if goes_on => portion.push(sequence, message, file.geometry.note(bytes, index)),
                    None if portion.is_empty() => {}
                    _ => {
                        is_full = true;
                        return false;
                    }
                }
                next = sequence + 1;
            }
            is_full = !portion.has_room();
            !is_full
        });
        if let Err(error) = read {
            let path = file.path.display();
            tracing::error!(%path, %error, "a segment of the spill log cannot be read: its records are lost");
            return source.end;
        }
        if is_full { next } else { source.end }
    }

    /// Lets go of the segment in hand, if it is this one.
    pub(super) fn close(&mut self, number: u32) {
        self.file.take_if(|file| file.id().number == number);
    }
}
