//! Filling a segment, frame by frame. This is the hot path of spilling: a copy, and now and then a checksum.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zerocopy::IntoBytes;

use super::format::{COMMIT_AT, FRAME, FrameChecksum, FrameHeader, FrameInfo, Geometry, SegmentId};
use super::map::WriterMap;
use super::segment::frames_of;

/// Which records a segment holds, for the keeper to see.
#[derive(Debug)]
pub(crate) struct Extent {
    /// Sequence number of the first record; `UNSET` while there is none.
    first: AtomicU64,
    /// Sequence number after the last record; `UNSET` while the segment is written to.
    end: AtomicU64,
    /// The frame that is being filled.
    frame: AtomicU64,
}

const UNSET: u64 = u64::MAX;

impl Extent {
    pub(crate) fn unused() -> Self {
        Self { first: AtomicU64::new(UNSET), end: AtomicU64::new(UNSET), frame: AtomicU64::new(0) }
    }

    pub(crate) fn complete(first: u64, end: u64) -> Self {
        Self { first: AtomicU64::new(first), end: AtomicU64::new(end), frame: AtomicU64::new(0) }
    }

    pub(crate) fn first(&self) -> Option<u64> {
        Some(self.first.load(Ordering::Acquire)).filter(|first| *first != UNSET)
    }

    pub(crate) fn end(&self) -> Option<u64> {
        Some(self.end.load(Ordering::Acquire)).filter(|end| *end != UNSET)
    }

    pub(crate) fn frame(&self) -> u32 {
        self.frame.load(Ordering::Relaxed) as u32
    }
}

/// A prepared segment that waits for its writer.
pub(crate) struct ReadySegment {
    pub(crate) id: SegmentId,
    pub(crate) map: WriterMap,
    pub(crate) bytes: u64,
    pub(crate) extent: Arc<Extent>,
}

/// The writer of one segment.
pub(crate) struct Writer {
    id: SegmentId,
    map: WriterMap,
    geometry: Geometry,
    /// The last frame there is.
    frames: u32,
    /// The frame that is being filled, from 1.
    frame: u32,
    /// Where it begins, and where its next record goes.
    at: usize,
    record_at: usize,
    /// Sequence number of its first record.
    frame_first: u64,
    /// Records in it, and how many of them are committed.
    used: usize,
    committed: usize,
    checksum: FrameChecksum,
    /// There are notes in the frame in hand. Where there are none, their place is not touched.
    has_notes: bool,
    /// Sequence number of the segment's first record.
    first: u64,
    extent: Arc<Extent>,
}

impl Writer {
    /// Opens the first frame of a segment. Its first record has the sequence number that `info` says.
    pub(crate) fn new(segment: ReadySegment, geometry: Geometry, info: FrameInfo) -> Self {
        let ReadySegment { id, map, bytes, extent } = segment;
        extent.first.store(info.first, Ordering::Release);
        let mut this = Self {
            id,
            map,
            geometry,
            frames: frames_of(bytes),
            frame: 0,
            at: 0,
            record_at: 0,
            frame_first: info.first,
            used: 0,
            committed: 0,
            checksum: FrameChecksum::new(),
            has_notes: false,
            first: info.first,
            extent,
        };
        this.open_frame(info);
        this
    }

    /// Sequence number of the segment's first record.
    #[inline]
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Whether the frame in hand has no room.
    #[inline]
    pub(crate) fn frame_is_full(&self) -> bool {
        self.used == self.geometry.per_frame
    }

    /// Whether there is another frame after the one in hand.
    pub(crate) fn has_next_frame(&self) -> bool {
        self.frame < self.frames
    }

    /// Opens the next frame. The one in hand is full and committed.
    pub(crate) fn open_frame(&mut self, info: FrameInfo) {
        debug_assert!(self.has_next_frame() && self.committed == self.used);
        self.frame += 1;
        self.at = self.frame as usize * FRAME;
        self.record_at = self.at + self.geometry.records_at;
        self.frame_first = info.first;
        self.used = 0;
        self.committed = 0;
        let header = FrameHeader::new(self.id, self.frame, info);
        self.map.write(self.at, header.as_bytes());
        self.checksum.begin(header.as_bytes());
        self.has_notes = false;
        self.extent.frame.store(u64::from(self.frame), Ordering::Relaxed);
    }

    /// Copies a record into the frame in hand, which has room, and a note beside it.
    #[inline]
    pub(crate) fn push(&mut self, record: &[u8], note: u32) {
        debug_assert!(!self.frame_is_full() && record.len() == self.geometry.record);
        self.map.write(self.record_at, record);
        if note != 0 {
            self.map.write(self.at + self.geometry.note_at(self.used), &note.to_le_bytes());
            self.has_notes = true;
        }
        self.record_at += record.len();
        self.used += 1;
    }

    /// Sequence number that the next record gets.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.frame_first + self.used as u64
    }

    /// Makes all records of the frame in hand count.
    pub(crate) fn commit(&mut self) {
        if self.committed < self.used {
            let page = self.map.bytes(self.at, FRAME);
            match self.has_notes {
                false => self.checksum.add(self.geometry, page, self.committed, self.used),
                true => self.checksum.add_noted(self.geometry, page, self.committed, self.used),
            }
            let word = self.checksum.commit_word(self.used);
            self.map.commit(self.at + COMMIT_AT, word);
            self.committed = self.used;
        }
    }

    /// Waits until the frames from this one to the one in hand are on the disk.
    pub(crate) fn sync_from(&self, frame: u32) -> std::io::Result<()> {
        let from = frame as usize * FRAME;
        self.map.shared().sync(from, self.at + FRAME - from)
    }

    /// Where a committed record is: its frame, and how many are committed there.
    pub(crate) fn locate(&self, sequence: u64) -> (u32, usize) {
        let frame = ((sequence - self.first) / self.geometry.per_frame as u64) as u32 + 1;
        (frame, if frame == self.frame { self.committed } else { self.geometry.per_frame })
    }

    /// Sequence number after a full frame's last record.
    pub(crate) fn frame_end(&self, frame: u32) -> u64 {
        self.first + u64::from(frame) * self.geometry.per_frame as u64
    }

    /// A frame's page.
    pub(crate) fn page(&self, frame: u32) -> &[u8] {
        self.map.bytes(frame as usize * FRAME, FRAME)
    }

    pub(crate) fn id(&self) -> SegmentId {
        self.id
    }

    /// Leaves the segment. All is committed.
    pub(crate) fn finish(self) {
        debug_assert!(self.committed == self.used);
        self.extent.end.store(self.next(), Ordering::Release);
    }
}
