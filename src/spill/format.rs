//! The bytes on disk: headers, frames, checksums. The layout is told on the module's [front page](super).

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::message::Message;

/// Version of everything below.
pub(crate) const VERSION: u16 = 1;
/// Bytes of a frame, and of a segment's header pages.
pub(crate) const FRAME: usize = 4096;
/// Offset of the commit word in a frame: the last eight bytes of the header.
pub(crate) const COMMIT_AT: usize = size_of::<FrameHeader>() - 8;

const SEGMENT_MAGIC: [u8; 8] = *b"PLIMSEG\0";
const FRAME_MAGIC: [u8; 4] = *b"PLFR";
const NOTES_AT: usize = size_of::<FrameHeader>();
const CACHE_LINE: usize = 64;

/// CRC-32C (Castagnoli), as in RFC 3720, section 12.1: computed by the processor's own instructions.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Where what is in a frame, given the size of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Bytes of a record.
    pub(crate) record: usize,
    /// Records that a frame has room for.
    pub(crate) per_frame: usize,
    /// Where in a frame the first record is.
    pub(crate) records_at: usize,
}

impl Geometry {
    /// As many records as fit; `None` where not even one does, or where a record would have no bytes.
    pub(crate) const fn of(record: usize) -> Option<Self> {
        if record == 0 || record > FRAME {
            return None;
        }
        let mut per_frame = (FRAME - NOTES_AT) / (record + 4);
        while per_frame > 0 {
            let records_at = (NOTES_AT + 4 * per_frame).next_multiple_of(CACHE_LINE);
            if records_at + per_frame * record <= FRAME {
                return Some(Self { record, per_frame, records_at });
            }
            per_frame -= 1;
        }
        None
    }

    /// Where in a frame a record is.
    #[inline]
    pub(crate) const fn record_at(self, index: usize) -> usize {
        self.records_at + index * self.record
    }

    /// Where in a frame the note beside a record is.
    #[inline]
    pub(crate) const fn note_at(self, index: usize) -> usize {
        NOTES_AT + 4 * index
    }

    /// The note beside a record: how many messages of its symbol are missing before it.
    #[inline]
    pub(crate) fn note(self, page: &[u8], index: usize) -> u32 {
        let at = self.note_at(index);
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&page[at..at + 4]);
        u32::from_le_bytes(bytes)
    }

    /// The bytes of some records.
    #[inline]
    pub(crate) fn records(self, page: &[u8], from: usize, to: usize) -> &[u8] {
        &page[self.record_at(from)..self.record_at(to)]
    }
}

/// What the records of a segment are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordType {
    /// [`Message::layout_name`], cut to 64 bytes.
    pub name: String,
    /// Bytes of a record.
    pub bytes: u32,
    hash: u64,
}

impl RecordType {
    /// The type of a message.
    pub fn of<M: Message>() -> Self {
        let name = M::layout_name();
        let mut end = name.len().min(64);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Self { name: name[..end].to_owned(), bytes: size_of::<M>() as u32, hash: fnv_1a(name.as_bytes()) }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.name, self.bytes)
    }
}

/// FNV-1a, 64 bits (draft-eastlake-fnv, section 2).
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

/// 1 where records are little-endian, 2 where they are big-endian.
pub(crate) const BYTE_ORDER: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };

/// The header of a segment, at the begin of its first page and of its last.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SegmentHeader {
    magic: [u8; 8],
    version: U16,
    byte_order: u8,
    reserved: u8,
    frame_bytes: U32,
    record_bytes: U32,
    per_frame: U32,
    segment_bytes: U64,
    worker: U32,
    number: U32,
    epoch: U64,
    life: U64,
    created_ns: U64,
    type_hash: U64,
    type_name: [u8; 64],
    reserved_too: U32,
    checksum: U32,
}

const HEADER: usize = size_of::<SegmentHeader>();

/// What tells one segment from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentId {
    pub(crate) worker: u32,
    /// Counts up from 1.
    pub(crate) number: u32,
    /// Random.
    pub(crate) epoch: u64,
    /// Random, one for all segments that one process writes; names the symbol dictionary.
    pub(crate) life: u64,
}

/// Why a segment's header is not one that we can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Neither copy is whole.
    Damaged,
    /// It was written by another version, or for other records: says what it is and what is wanted.
    Foreign(String),
}

impl SegmentHeader {
    pub(crate) fn new(id: SegmentId, record: &RecordType, geometry: Geometry, bytes: u64, created_ns: u64) -> Self {
        let mut header = Self {
            magic: SEGMENT_MAGIC,
            version: VERSION.into(),
            byte_order: BYTE_ORDER,
            reserved: 0,
            frame_bytes: (FRAME as u32).into(),
            record_bytes: record.bytes.into(),
            per_frame: (geometry.per_frame as u32).into(),
            segment_bytes: bytes.into(),
            worker: id.worker.into(),
            number: id.number.into(),
            epoch: id.epoch.into(),
            life: id.life.into(),
            created_ns: created_ns.into(),
            type_hash: record.hash.into(),
            type_name: [0; 64],
            reserved_too: 0.into(),
            checksum: 0.into(),
        };
        header.type_name[..record.name.len()].copy_from_slice(record.name.as_bytes());
        header.checksum = crc32c(header.covered()).into();
        header
    }

    fn covered(&self) -> &[u8] {
        &self.as_bytes()[..HEADER - 4]
    }

    /// The header at the begin of a page, if it is whole.
    fn whole(page: &[u8]) -> Option<&Self> {
        let (header, _) = Self::ref_from_prefix(page).ok()?;
        (header.magic == SEGMENT_MAGIC && header.checksum.get() == crc32c(header.covered())).then_some(header)
    }

    /// Reads the header from its two copies.
    pub(crate) fn read(first: &[u8], last: &[u8]) -> Result<Self, HeaderFault> {
        if let Some(whole) = Self::whole(first).or_else(|| Self::whole(last)) {
            return match whole.version.get() {
                VERSION => Ok(*whole),
                other => Err(HeaderFault::Foreign(other_version(other))),
            };
        }
        // Another version may well have its checksum elsewhere. If both copies agree on a number, then that is no damage.
        let claimed = [first, last].map(|page| Self::ref_from_prefix(page).ok().map(|(header, _)| *header));
        if let [Some(a), Some(b)] = claimed
            && [a.magic, b.magic] == [SEGMENT_MAGIC; 2]
            && a.version == b.version
            && a.version.get() != VERSION
        {
            return Err(HeaderFault::Foreign(other_version(a.version.get())));
        }
        Err(HeaderFault::Damaged)
    }

    /// Whether records of this type can be read from the segment.
    pub(crate) fn check_type(&self, wanted: &RecordType) -> Result<(), HeaderFault> {
        let found = self.record_type();
        if found != *wanted {
            return Err(HeaderFault::Foreign(format!("it holds {found}, and {wanted} is wanted")));
        }
        self.geometry().map(drop)
    }

    /// Where what is in its frames.
    pub(crate) fn geometry(&self) -> Result<Geometry, HeaderFault> {
        let foreign = |what: String| Err(HeaderFault::Foreign(what));
        if self.byte_order != BYTE_ORDER {
            return foreign("its records have the byte order of another machine".to_owned());
        }
        let geometry = Geometry::of(self.record_bytes.get() as usize);
        let as_ours = |g: &Geometry| g.per_frame == self.per_frame.get() as usize;
        match geometry.filter(as_ours).filter(|_| self.frame_bytes.get() as usize == FRAME) {
            Some(geometry) => Ok(geometry),
            None => foreign(format!("its frames are of {} bytes and {} records", self.frame_bytes, self.per_frame)),
        }
    }

    pub(crate) fn id(&self) -> SegmentId {
        SegmentId {
            worker: self.worker.get(),
            number: self.number.get(),
            epoch: self.epoch.get(),
            life: self.life.get(),
        }
    }

    pub(crate) fn record_type(&self) -> RecordType {
        let end = self.type_name.iter().position(|byte| *byte == 0).unwrap_or(self.type_name.len());
        let name = String::from_utf8_lossy(&self.type_name[..end]).into_owned();
        RecordType { name, bytes: self.record_bytes.get(), hash: self.type_hash.get() }
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes.get()
    }

    pub(crate) fn created_ns(&self) -> u64 {
        self.created_ns.get()
    }
}

fn other_version(found: u16) -> String {
    format!("it is of version {found} of the format, and this program reads version {VERSION}")
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct FrameHeader {
    magic: [u8; 4],
    version: U16,
    reserved: U16,
    epoch: U64,
    segment: U32,
    frame: U32,
    first: U64,
    durable: U64,
    opened_ns: U64,
    names: U32,
    reserved_too: U32,
    /// Checksum (low 32 bits) and number of records; 0 while nothing is committed.
    commit: U64,
}

const _: () = assert!(size_of::<FrameHeader>() == CACHE_LINE);

/// What a frame says of itself, besides its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameInfo {
    /// Sequence number of its first record.
    pub(crate) first: u64,
    /// Records below this sequence number were on the disk, not only in the page cache, when the frame was opened.
    pub(crate) durable: u64,
    /// Wall clock at that moment, to about a millisecond.
    pub(crate) opened_ns: u64,
    /// Symbols in the dictionary at that moment.
    pub(crate) names: u32,
}

impl FrameHeader {
    pub(crate) fn new(segment: SegmentId, frame: u32, info: FrameInfo) -> Self {
        Self {
            magic: FRAME_MAGIC,
            version: VERSION.into(),
            reserved: 0.into(),
            epoch: segment.epoch.into(),
            segment: segment.number.into(),
            frame: frame.into(),
            first: info.first.into(),
            durable: info.durable.into(),
            opened_ns: info.opened_ns.into(),
            names: info.names.into(),
            reserved_too: 0.into(),
            commit: 0.into(),
        }
    }

    fn info(&self) -> FrameInfo {
        FrameInfo {
            first: self.first.get(),
            durable: self.durable.get(),
            opened_ns: self.opened_ns.get(),
            names: self.names.get(),
        }
    }
}

/// The checksum of a frame while it is being filled.
#[derive(Clone)]
pub(crate) struct FrameChecksum(Digest);

impl FrameChecksum {
    pub(crate) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Begins with the header of a frame. The commit word is not covered.
    pub(crate) fn begin(&mut self, header: &[u8]) {
        self.0.reset();
        self.0.update(&header[..COMMIT_AT]);
    }

    /// Adds records that have no notes. In how many steps makes no difference.
    pub(crate) fn add(&mut self, geometry: Geometry, page: &[u8], from: usize, to: usize) {
        self.0.update(geometry.records(page, from, to));
    }

    /// Adds records, and before each of them its note, if it has one.
    pub(crate) fn add_noted(&mut self, geometry: Geometry, page: &[u8], from: usize, to: usize) {
        let mut run = from;
        for index in from..to {
            let note = geometry.note(page, index);
            if note != 0 {
                self.0.update(geometry.records(page, run, index));
                self.0.update(&note.to_le_bytes());
                run = index;
            }
        }
        self.0.update(geometry.records(page, run, to));
    }

    /// The commit word for so many records.
    pub(crate) fn commit_word(&self, records: usize) -> u64 {
        (records as u64) << 32 | u64::from(self.0.finalize() as u32)
    }
}

/// What a page of a segment turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// A frame with this many records.
    Valid(FrameInfo, usize),
    /// Never written.
    Zero,
    /// A frame of this place without a record: opened, and then the process ended.
    Open,
    /// A whole frame of another segment, or of another life of this one.
    Stale,
    /// None of these. If the commit word can be believed, so many records were in it.
    Bad(Option<usize>),
}

/// Looks at a page, which should be this frame of this segment.
pub(crate) fn check_page(page: &[u8; FRAME], segment: SegmentId, frame: u32, geometry: Geometry) -> Page {
    let Ok((header, _)) = FrameHeader::ref_from_prefix(page) else { return Page::Bad(None) };
    let commit = header.commit.get();
    if commit == 0 {
        let as_opened = FrameHeader::new(segment, frame, header.info());
        return match () {
            () if page.iter().all(|byte| *byte == 0) => Page::Zero,
            () if is_begun(header.as_bytes(), as_opened.as_bytes()) => Page::Open,
            () => Page::Bad(None),
        };
    }
    let count = usize::try_from(commit >> 32).unwrap_or(usize::MAX);
    if count == 0 || count > geometry.per_frame {
        return Page::Bad(None);
    }
    let mut checksum = FrameChecksum::new();
    checksum.begin(page);
    checksum.add_noted(geometry, page, 0, count);
    if checksum.commit_word(count) != commit || header.magic != FRAME_MAGIC || header.version.get() != VERSION {
        let was_a_frame = header.magic == FRAME_MAGIC || header.epoch.get() == segment.epoch;
        return Page::Bad(was_a_frame.then_some(count));
    }
    if (header.epoch.get(), header.segment.get()) != (segment.epoch, segment.number) {
        return Page::Stale;
    }
    if header.frame.get() != frame {
        return Page::Bad(Some(count));
    }
    Page::Valid(header.info(), count)
}

/// Whether a header is another one, or a part of it: a process may be killed in the midst of writing it, between two words.
fn is_begun(header: &[u8], whole: &[u8]) -> bool {
    header.chunks_exact(8).zip(whole.chunks_exact(8)).all(|(word, whole)| word == whole || word == [0; 8])
}

/// A page of zeros.
pub(crate) fn zero_page() -> Box<[u8; FRAME]> {
    Box::new([0; FRAME])
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
