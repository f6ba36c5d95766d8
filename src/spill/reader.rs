//! Reading frames back, ahead of the worker that replays them.

use std::path::Path;
use std::sync::Arc;

use super::dictionary::IdMap;
use super::format::{FRAME, Page};
use super::segment::SegmentFile;
use crate::message::Message;

/// Frames that are read at a time.
const FRAMES: usize = 64;

/// Some frames of a segment, as they are on disk, and what they hold.
pub(super) struct Portion {
    pages: Vec<[u8; FRAME]>,
    /// For each page the first record's sequence number, and how many records are in it: none in one that is not valid.
    found: Vec<(u64, usize)>,
    /// What its ids mean; `None` for a segment of this life.
    pub(super) ids: Option<Arc<IdMap>>,
}

/// A valid frame.
#[derive(Clone, Copy)]
pub(super) struct ReadFrame<'a> {
    pub(super) page: &'a [u8; FRAME],
    /// Sequence number of the first record.
    pub(super) first: u64,
    /// Records in it.
    pub(super) count: usize,
}

impl Portion {
    /// Bytes that it takes on the heap.
    pub(super) const BYTES: usize = FRAMES * (FRAME + size_of::<(u64, usize)>());

    pub(super) fn new() -> Self {
        Self { pages: vec![[0; FRAME]; FRAMES], found: Vec::with_capacity(FRAMES), ids: None }
    }

    pub(super) fn clear(&mut self) {
        self.found.clear();
        self.ids = None;
    }

    /// The valid frames that have records from this one on.
    pub(super) fn frame_with(&self, sequence: u64) -> Option<ReadFrame<'_>> {
        let with = |(_, (first, count)): &(_, &(u64, usize))| first + *count as u64 > sequence;
        let (page, (first, count)) = self.pages.iter().zip(&self.found).find(with)?;
        Some(ReadFrame { page, first: *first, count: *count })
    }

    /// Sequence number after the last record; 0 if there is none.
    pub(super) fn end(&self) -> u64 {
        self.found.iter().map(|(first, count)| first + *count as u64).max().unwrap_or(0)
    }

    /// Reads frames from this one on; returns how many.
    fn read(&mut self, file: &SegmentFile, frame: u32) -> std::io::Result<u32> {
        self.found.clear();
        let pages = file.read_pages(frame, &mut self.pages)?;
        for (i, page) in self.pages[..pages].iter().enumerate() {
            self.found.push(match file.check(frame + i as u32, page) {
                Page::Valid(info, count) => (info.first, count),
                _ => (0, 0),
            });
        }
        Ok(pages as u32)
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
#[derive(Default)]
pub(super) struct Reader {
    /// The segment in hand, and the next frame to read of it.
    file: Option<(SegmentFile, u32)>,
}

/// A segment to read: its file's number and path, and the sequence numbers it holds.
pub(super) struct Source<'a> {
    pub(super) number: u32,
    pub(super) path: &'a Path,
    pub(super) first: u64,
    pub(super) end: u64,
}

impl Reader {
    /// Reads frames that have records from `next` on into an empty portion; returns the sequence number to go on with, which is the
    /// segment's end when there is nothing more in it. There may be no valid frame among those read.
    pub(super) fn fill(&mut self, source: &Source<'_>, next: u64, portion: &mut Portion) -> std::io::Result<u64> {
        if self.file.as_ref().is_none_or(|(file, _)| file.id().number != source.number) {
            self.file = Some((SegmentFile::open(source.path)?, 1));
        }
        let Some((file, frame)) = &mut self.file else { return Ok(source.end) };
        // A segment's frames are full but for the last, so a record is in this frame, or in a later one if frames before were lost.
        let least = next.saturating_sub(source.first) / file.geometry.per_frame as u64 + 1;
        *frame = (*frame).max(u32::try_from(least).unwrap_or(u32::MAX));
        if *frame <= file.frames() {
            *frame += portion.read(file, *frame)?;
        }
        let next = next.max(portion.end());
        Ok(if *frame > file.frames() { source.end } else { next.min(source.end) })
    }

    /// Lets go of the segment in hand, if it is this one.
    pub(super) fn close(&mut self, number: u32) {
        self.file.take_if(|(file, _)| file.id().number == number);
    }
}
