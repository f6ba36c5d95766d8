//! What is in a log, and what is wrong with it.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use super::format::RecordType;

/// Something that is not as it should be in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// The file.
    pub path: PathBuf,
    /// Where in the file the fault begins.
    pub offset: u64,
    /// How many bytes it concerns.
    pub bytes: u64,
    /// Sequence numbers of the records that are lost by it; of those that were not replayed before.
    pub lost: Range<u64>,
    /// Whether `lost` is certain. Where a crash and damage meet at a log's end, it is what the damaged frame claims.
    pub exact: bool,
    /// Whether the lost records had been written to the disk: then it has lost them. If not, a power loss explains it.
    pub was_durable: bool,
}

/// The kinds of [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Frames whose checksum is wrong, or that were never committed between others that were.
    DamagedFrames,
    /// Whole frames that belong elsewhere.
    StaleFrames,
    /// Bad pages after the last good frame: what was being written when the system went down.
    TornTail,
    /// The file ends before the segment does.
    CutShort,
    /// Records that no segment holds.
    MissingRecords,
    /// A whole frame that repeats what came before, or is out of its order.
    OutOfOrder,
    /// Neither copy of the segment's header is whole.
    NoHeader,
    /// The file does not belong where it is: its name or its worker is not that of its header.
    Misplaced,
    /// The system could not read it.
    Unreadable(String),
    /// The replay cursor is missing or damaged: replay begins at the first record there is.
    NoCursor,
    /// Names are missing from the symbol dictionary: records of those symbols cannot be replayed.
    Dictionary,
}

impl Fault {
    pub(super) fn without_loss(kind: FaultKind, path: PathBuf, offset: u64, bytes: u64) -> Self {
        Self { kind, path, offset, bytes, lost: 0..0, exact: true, was_durable: false }
    }

    /// How many records are lost by it.
    pub fn lost_records(&self) -> u64 {
        self.lost.end - self.lost.start
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.kind {
            FaultKind::DamagedFrames => "damaged frames",
            FaultKind::StaleFrames => "frames that belong elsewhere",
            FaultKind::TornTail => "torn tail",
            FaultKind::CutShort => "file cut short",
            FaultKind::MissingRecords => "missing records",
            FaultKind::OutOfOrder => "frame out of order",
            FaultKind::NoHeader => "no whole header",
            FaultKind::Misplaced => "file does not belong here",
            FaultKind::Unreadable(error) => error,
            FaultKind::NoCursor => "no whole replay cursor",
            FaultKind::Dictionary => "names missing from the dictionary",
        };
        write!(f, "{}: {what}, {} bytes at offset {}", self.path.display(), self.bytes, self.offset)?;
        let Range { start, end } = self.lost;
        if start < end {
            let (last, count) = (end - 1, end - start);
            let about = if self.exact { "" } else { "about " };
            let cause = if self.was_durable { "the disk had them" } else { "never synced to the disk" };
            write!(f, "; lost: {about}{count} records, sequence {start} to {last} ({cause})")?;
        }
        Ok(())
    }
}

/// A segment as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentSummary {
    /// Its file.
    pub path: PathBuf,
    /// Its number.
    pub number: u32,
    /// When it was made: nanoseconds since the Unix epoch.
    pub created_ns: u64,
    /// Bytes that it takes on the disk.
    pub allocated_bytes: u64,
    /// What its records are.
    pub record: RecordType,
    /// Whole frames.
    pub frames: u32,
    /// Records in them.
    pub records: u64,
    /// From the first record's sequence number to the one after the last.
    pub sequences: Range<u64>,
    pub(crate) life: u64,
}

/// A worker's log as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogSummary {
    /// The worker's number.
    pub worker: u32,
    /// Its directory.
    pub dir: PathBuf,
    /// The segments that can be read, by number.
    pub segments: Vec<SegmentSummary>,
    /// What is wrong, in the order of the log.
    pub faults: Vec<Fault>,
    /// Sequence number of the first record that has not been replayed.
    pub replay_from: u64,
    /// Sequence number after the last record.
    pub end: u64,
    /// Whole records that have not been replayed, and can be.
    pub pending: u64,
    /// Whole records that cannot be replayed, since the names of their symbols are lost. Only who knows the messages can tell.
    pub nameless: u64,
    /// Symbols that the lives of the log's segments had named at least.
    pub(crate) names: Vec<(u64, u32)>,
    /// Segments without a whole header.
    pub(crate) headless: Vec<PathBuf>,
}

impl LogSummary {
    /// How many records are lost.
    pub fn lost(&self) -> u64 {
        self.faults.iter().map(Fault::lost_records).sum::<u64>() + self.nameless
    }

    /// Bytes that the segments take on the disk.
    pub fn allocated_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.allocated_bytes).sum()
    }

    /// The lives whose symbols are needed to read the log's records, and how many names each of them had at least.
    pub(super) fn names_needed(&self) -> Vec<(u64, u32)> {
        let is_needed = |life| self.segments.iter().any(|segment| segment.life == life && segment.records > 0);
        self.names.iter().copied().filter(|(life, _)| is_needed(*life)).collect()
    }

    pub(super) fn note_names(&mut self, life: u64, names: u32) {
        match self.names.iter_mut().find(|(known, _)| *known == life) {
            Some((_, most)) => *most = names.max(*most),
            None => self.names.push((life, names)),
        }
    }
}
