//! Reading a log from end to end: what is in it, and what is wrong with it.
//!
//! A page is valid, never written, opened but not committed, stale, or bad. The end of the log is its last valid
//! frame, not its first bad page; what lies between two valid frames and is not whole is lost, and their
//! sequence numbers tell exactly which records that were.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::cursor::{Cursor, Found, Progress};
use super::format::{FRAME, FrameInfo, Geometry, HeaderFault, Page, RecordType};
use super::segment::{self, FrameBuffer, OpenFault, SegmentFile};
use super::summary::{Fault, FaultKind, LogSummary, SegmentSummary};

/// Why a log cannot be read.
#[derive(Debug)]
pub(crate) enum ScanError {
    Io(PathBuf, io::Error),
    /// A segment of another version, or for other records: which, and what is wrong.
    Foreign(PathBuf, String),
}

/// A valid frame, to be looked at by whoever scans.
pub(crate) struct Frame<'a> {
    pub(crate) life: u64,
    pub(crate) geometry: Geometry,
    pub(crate) info: FrameInfo,
    /// The records that come next: the first ones of a frame may have been replayed.
    pub(crate) from: usize,
    pub(crate) count: usize,
    pub(crate) page: &'a [u8; FRAME],
}

impl Frame<'_> {
    /// The records' sequence numbers, notes and bytes.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, u32, &[u8])> {
        (self.from..self.count).map(|i| {
            let record = self.geometry.records(self.page, i, i + 1);
            (self.info.first + i as u64, self.geometry.note(self.page, i), record)
        })
    }
}

/// Reads the log of a worker, up to and including the segment of number `last`. `see` is shown each valid frame that has records
/// that were not replayed; `read` is told of bytes as they are read.
pub(crate) fn scan(
    worker: u32,
    dir: &Path,
    wanted: Option<&RecordType>,
    last: u32,
    mut see: impl FnMut(Frame<'_>),
    mut read: impl FnMut(u64),
) -> Result<LogSummary, ScanError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| ScanError::Io(path, error)
    };
    let cursor = Cursor::read(dir).map_err(io(&dir.join(super::cursor::FILE)))?;
    let mut files = segment::list(dir).map_err(io(dir))?;
    files.retain(|(number, _)| *number <= last);
    let mut scanner = Scanner::new(worker, dir, cursor, !files.is_empty());
    let mut buffer = FrameBuffer::default();
    for (number, path) in files {
        match SegmentFile::open(&path) {
            Ok(file) if (file.id().number, file.id().worker) != (number, worker) => {
                scanner.whole_file(&path, FaultKind::Misplaced);
            }
            Ok(file) => {
                if let Some(Err(HeaderFault::Foreign(why))) = wanted.map(|wanted| file.header.check_type(wanted)) {
                    return Err(ScanError::Foreign(path, why));
                }
                scanner.segment(&file, &mut buffer, &mut see).map_err(io(&path))?;
                read(file.len);
            }
            Err(OpenFault::Header(HeaderFault::Foreign(why))) => return Err(ScanError::Foreign(path, why)),
            // The process ended when it was making it, which is no fault; unless records are missing.
            Err(OpenFault::Header(HeaderFault::Damaged)) if segment::is_blank(&path).is_ok_and(|is_blank| is_blank) => {
                scanner.whole_file(&path, FaultKind::MissingRecords);
                scanner.log.headless.push(path);
            }
            Err(OpenFault::Header(HeaderFault::Damaged)) => {
                scanner.whole_file(&path, FaultKind::NoHeader);
                scanner.log.headless.push(path);
            }
            Err(OpenFault::Io(error)) if is_lasting(&error) => {
                scanner.whole_file(&path, FaultKind::Unreadable(error.to_string()));
                scanner.log.headless.push(path);
            }
            // Another try may well find it whole.
            Err(OpenFault::Io(error)) => return Err(ScanError::Io(path, error)),
        }
    }
    Ok(scanner.finish())
}

/// Whether a file that cannot be opened is of no use: the disk has lost it, or it is a symbolic link.
fn is_lasting(error: &io::Error) -> bool {
    [Errno::IO, Errno::LOOP].iter().any(|lasting| error.raw_os_error() == Some(lasting.raw_os_error()))
}

/// Pages in a row that are not valid, since the last one that was.
struct BadRun {
    kind: FaultKind,
    path: PathBuf,
    offset: u64,
    pages: u64,
    /// Records that these pages have room for.
    room: u64,
    /// Records that they claim to hold.
    claimed: u64,
}

impl BadRun {
    /// One that may have held any number of records.
    fn of_any_size(kind: FaultKind, path: PathBuf, offset: u64, pages: u64) -> Self {
        Self { kind, path, offset, pages, room: u64::MAX, claimed: 0 }
    }

    fn was_never_written(&self) -> bool {
        self.kind == FaultKind::MissingRecords
    }
}

struct Scanner {
    log: LogSummary,
    cursor: Progress,
    has_cursor: bool,
    /// What the next record's sequence number should be, once that is known.
    expected: Option<u64>,
    durable: u64,
    /// Since the last valid frame; those that hold no records at the log's end are no faults.
    runs: Vec<BadRun>,
}

impl Scanner {
    fn new(worker: u32, dir: &Path, found: Found, has_segments: bool) -> Self {
        let cursor = if let Found::Whole(cursor) = found { cursor } else { Progress::default() };
        let mut log = LogSummary {
            worker,
            dir: dir.to_owned(),
            segments: Vec::new(),
            faults: Vec::new(),
            replay_from: cursor.replayed,
            end: 0,
            pending: 0,
            nameless: 0,
            names: Vec::new(),
            headless: Vec::new(),
        };
        let is_whole = matches!(found, Found::Whole(_));
        if found == Found::Damaged || (has_segments && !is_whole) {
            log.faults.push(Fault::without_loss(FaultKind::NoCursor, dir.join(super::cursor::FILE), 0, 0));
        }
        if is_whole {
            log.note_names(cursor.life, cursor.names);
        }
        // Segments that are replayed may be gone or not, so the log may begin before the cursor, but not after it.
        let expected = is_whole.then_some(cursor.replayed);
        Self { log, cursor, has_cursor: is_whole, expected, durable: 0, runs: Vec::new() }
    }

    /// A file that cannot be read for what it is.
    fn whole_file(&mut self, path: &Path, kind: FaultKind) {
        let bytes = path.metadata().map_or(0, |meta| meta.len());
        self.runs.push(BadRun::of_any_size(kind, path.to_owned(), 0, bytes / FRAME as u64));
    }

    fn segment(
        &mut self,
        file: &SegmentFile,
        buffer: &mut FrameBuffer,
        see: &mut impl FnMut(Frame<'_>),
    ) -> io::Result<()> {
        let id = file.id();
        let mut summary = SegmentSummary {
            path: file.path.clone(),
            number: id.number,
            created_ns: file.header.created_ns(),
            allocated_bytes: file.allocated,
            record: file.header.record_type(),
            frames: 0,
            records: 0,
            sequences: 0..0,
            life: id.life,
        };
        let whole_pages = file.len / FRAME as u64;
        let cut = file.len < file.header.segment_bytes();
        file.read_frames(buffer, |frame, page, bytes| {
            let is_cut = cut && u64::from(frame) >= whole_pages;
            match page {
                Page::Valid(info, count) => {
                    self.frame(file, frame, info, count, bytes, &mut summary, see);
                }
                Page::Zero | Page::Open => self.bad_page(file, frame, FaultKind::MissingRecords, 0),
                Page::Stale => self.bad_page(file, frame, FaultKind::StaleFrames, 0),
                Page::Bad(claimed) => {
                    let kind = if is_cut { FaultKind::CutShort } else { FaultKind::DamagedFrames };
                    self.bad_page(file, frame, kind, claimed.unwrap_or(0));
                }
            }
        })?;
        self.log.segments.push(summary);
        Ok(())
    }

    fn bad_page(&mut self, file: &SegmentFile, frame: u32, kind: FaultKind, claimed: usize) {
        let (claimed, room) = (claimed as u64, file.geometry.per_frame as u64);
        if let Some(run) = self.runs.last_mut()
            && run.kind == kind
            && run.path == file.path
        {
            run.pages += 1;
            run.room += room;
            run.claimed += claimed;
            return;
        }
        let offset = u64::from(frame) * FRAME as u64;
        self.runs.push(BadRun { kind, path: file.path.clone(), offset, pages: 1, room, claimed });
    }

    #[expect(clippy::too_many_arguments, reason = "all that is known of a frame, once")]
    fn frame(
        &mut self,
        file: &SegmentFile,
        frame: u32,
        info: FrameInfo,
        count: usize,
        page: &[u8; FRAME],
        summary: &mut SegmentSummary,
        see: &mut impl FnMut(Frame<'_>),
    ) {
        let (first, end) = (info.first, info.first + count as u64);
        self.durable = self.durable.max(info.durable);
        self.log.note_names(file.id().life, info.names);
        let is_first_of_all = summary.frames == 0 && self.log.segments.iter().all(|segment| segment.frames == 0);
        // What was replayed may still be there.
        let before_cursor = is_first_of_all && self.expected.is_some_and(|expected| first < expected);
        match self.expected {
            Some(expected) if first < expected && !before_cursor => {
                let offset = u64::from(frame) * FRAME as u64;
                let fault = Fault::without_loss(FaultKind::OutOfOrder, file.path.clone(), offset, FRAME as u64);
                self.log.faults.push(fault);
                return;
            }
            Some(expected) if first > expected => {
                if self.runs.is_empty() {
                    let offset = u64::from(frame) * FRAME as u64;
                    self.runs.push(BadRun::of_any_size(FaultKind::MissingRecords, file.path.clone(), offset, 0));
                }
                self.settle(expected, first, true);
            }
            _ => self.settle(first, first, true),
        }
        if summary.frames == 0 {
            summary.sequences.start = first;
        }
        summary.frames += 1;
        summary.records += count as u64;
        summary.sequences.end = end;
        self.expected = Some(end);
        let from = self.cursor.replayed.saturating_sub(first).min(count as u64) as usize;
        if from < count {
            self.log.pending += (count - from) as u64;
            see(Frame { life: file.id().life, geometry: file.geometry, info, from, count, page });
        }
    }

    /// Turns the runs since the last valid frame into faults that share the records from `from` to `to`.
    fn settle(&mut self, from: u64, to: u64, exact: bool) {
        let mut runs = std::mem::take(&mut self.runs);
        // Pages that were never written are no loss where those that were and are bad account for all of it.
        let bad =
            runs.iter().filter(|run| !run.was_never_written()).fold(0, |sum: u64, run| sum.saturating_add(run.room));
        if bad >= to - from {
            runs.iter_mut().filter(|run| run.was_never_written()).for_each(|run| run.room = 0);
        }
        let last = runs.iter().rposition(|run| run.room > 0);
        let mut next = from;
        for (i, run) in runs.into_iter().enumerate() {
            // Only the last run may have frames that were not full.
            let end = if Some(i) == last { to } else { next.saturating_add(run.room).min(to) };
            let lost = next.max(self.cursor.replayed)..end.max(self.cursor.replayed);
            next = end;
            // Pages that were never written say nothing, unless records are missing.
            let says_nothing = matches!(run.kind, FaultKind::MissingRecords) && lost.is_empty();
            if !says_nothing {
                let was_durable = false; // not known before the end
                let bytes = run.pages * FRAME as u64;
                let (kind, path, offset) = (run.kind, run.path, run.offset);
                self.log.faults.push(Fault { kind, path, offset, bytes, lost, exact, was_durable });
            }
        }
    }

    fn finish(mut self) -> LogSummary {
        let end = self.expected.unwrap_or(0);
        let claimed: u64 = self.runs.iter().map(|run| run.claimed).sum();
        let (known, exact) = match self.cursor.clean {
            true => (self.cursor.appended, true),
            // What was written to the end, and is bad, may have held more than is known.
            false => (self.cursor.appended.max(end + claimed), self.runs.iter().all(BadRun::was_never_written)),
        };
        let known = known.max(end);
        if known > end && self.runs.is_empty() {
            let path = self.log.segments.last().map_or_else(|| self.log.dir.clone(), |segment| segment.path.clone());
            self.runs.push(BadRun::of_any_size(FaultKind::MissingRecords, path, 0, 0));
        }
        if known == end {
            // Nothing was lost, so what is bad there was being written when the process or the system ended.
            for run in &mut self.runs {
                if run.kind == FaultKind::DamagedFrames {
                    run.kind = FaultKind::TornTail;
                }
            }
        }
        self.settle(end, known, exact);
        for fault in &mut self.log.faults {
            fault.was_durable = !fault.lost.is_empty() && fault.lost.end <= self.durable;
        }
        self.log.end = known;
        if !self.has_cursor {
            let first = self.log.segments.iter().find(|segment| segment.records > 0);
            self.log.replay_from = first.map_or(known, |segment| segment.sequences.start);
        }
        self.log
    }
}
