//! Segment files: how they are made, found, and read.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::format::{FRAME, Geometry, HeaderFault, Page, RecordType, SegmentHeader, SegmentId, check_page, zero_page};
use super::map::WriterMap;
use crate::message::wall_clock_ns;

const SUFFIX: &str = ".spill";
/// A symbolic link is not opened.
pub(crate) const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
/// Bytes that are read at a time.
pub(super) const READ: usize = 256 * FRAME;

/// The file of a segment.
pub(crate) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:010}{SUFFIX}"))
}

/// The segments in a directory, by number.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(SUFFIX)).and_then(|digits| digits.parse().ok());
        // Not one that is written in another way.
        let number = number.filter(|number| self::path(dir, *number) == path);
        found.extend(number.map(|number| (number, path.clone())));
    }
    found.sort_unstable_by_key(|(number, _)| *number);
    Ok(found)
}

/// What a segment that cannot be read is renamed to.
pub(crate) fn aside(path: &Path) -> PathBuf {
    path.with_extension("spill.damaged")
}

/// Whether a file has only zeros in it, as one that is being made.
pub(crate) fn is_blank(path: &Path) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(path)?;
    let mut buffer = vec![0; READ];
    let mut at = 0;
    loop {
        match read_up_to(&file, &mut buffer, at)? {
            0 => return Ok(true),
            got if buffer[..got].iter().any(|byte| *byte != 0) => return Ok(false),
            got => at += got as u64,
        }
    }
}

/// The first number from this one on that no file has, whatever the file is.
pub(crate) fn free_number(dir: &Path, from: u32) -> u32 {
    let is_taken = |number: &u32| {
        let path = path(dir, *number);
        [aside(&path), path].iter().any(|path| path.symlink_metadata().is_ok())
    };
    (from..u32::MAX).find(|number| !is_taken(number)).unwrap_or(u32::MAX)
}

/// A segment that is ready to be written.
pub(crate) struct NewSegment {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) map: WriterMap,
    pub(crate) bytes: u64,
}

/// Makes a segment: exclusively, with all its blocks allocated, and mapped. A full disk shows here, as an error.
pub(crate) fn create(
    dir: &Path,
    id: SegmentId,
    record: &RecordType,
    geometry: Geometry,
    bytes: u64,
) -> io::Result<NewSegment> {
    let path = path(dir, id.number);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    let fill = || {
        allocate(&file, bytes)?;
        let mut page = zero_page();
        let header = SegmentHeader::new(id, record, geometry, bytes, wall_clock_ns());
        page[..size_of::<SegmentHeader>()].copy_from_slice(zerocopy::IntoBytes::as_bytes(&header));
        file.write_all_at(&page[..], 0)?;
        file.write_all_at(&page[..], bytes - FRAME as u64)?;
        WriterMap::map(&file, bytes as usize)
    };
    match fill() {
        Ok(map) => Ok(NewSegment { path, file, map, bytes }),
        Err(error) => {
            let _ = fs::remove_file(&path);
            Err(error)
        }
    }
}

/// Gives a file its blocks, so that writing to it by way of memory can never run out of them.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // A file system that cannot allocate has to be written to.
    write_zeros(file, 0, bytes)
}

impl NewSegment {
    /// Writes some zeros, but not to the last page; returns where to go on.
    pub(crate) fn write_zeros(&self, at: u64, bytes: usize) -> io::Result<u64> {
        let end = (at + bytes as u64).min(self.bytes - FRAME as u64);
        write_zeros(&self.file, at, end)?;
        Ok(end)
    }
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    // Never written to, so all of it is one and the same page of zeros to the system, and stays in the cache.
    let zeros = vec![0; READ.min((to - from) as usize)];
    let mut at = from;
    while at < to {
        let some = zeros.len().min((to - at) as usize);
        file.write_all_at(&zeros[..some], at)?;
        at += some as u64;
    }
    Ok(())
}

/// Gives the blocks of all frames after this one back to the disk; they read as never written.
pub(crate) fn trim(path: &Path, frame: u32) -> io::Result<()> {
    let file = OpenOptions::new().write(true).custom_flags(NO_FOLLOW).open(path)?;
    let from = (u64::from(frame) + 1) * FRAME as u64;
    let to = file.metadata()?.len().saturating_sub(FRAME as u64);
    if from < to {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&file, flags, from, to - from) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A segment that is there, to be read.
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    pub(crate) geometry: Geometry,
    /// Bytes that the file has: fewer than the header says if it was cut.
    pub(crate) len: u64,
    /// Bytes that it takes on the disk.
    pub(crate) allocated: u64,
    file: File,
}

/// Why a segment cannot be read.
#[derive(Debug)]
pub(crate) enum OpenFault {
    Io(io::Error),
    Header(HeaderFault),
}

impl From<OpenFault> for io::Error {
    fn from(fault: OpenFault) -> Self {
        match fault {
            OpenFault::Io(error) => error,
            OpenFault::Header(HeaderFault::Damaged) => Self::new(io::ErrorKind::InvalidData, "no whole header"),
            OpenFault::Header(HeaderFault::Foreign(why)) => Self::new(io::ErrorKind::InvalidData, why),
        }
    }
}

impl From<io::Error> for OpenFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<HeaderFault> for OpenFault {
    fn from(fault: HeaderFault) -> Self {
        Self::Header(fault)
    }
}

impl SegmentFile {
    /// Opens a segment; a symbolic link is not followed.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenFault> {
        let file = OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(path)?;
        let meta = file.metadata()?;
        let (mut first, mut last) = (zero_page(), zero_page());
        read_up_to(&file, &mut first[..], 0)?;
        if meta.len() >= 2 * FRAME as u64 {
            // Where the last page is, if nothing was cut off.
            read_up_to(&file, &mut last[..], meta.len() / FRAME as u64 * FRAME as u64 - FRAME as u64)?;
        }
        let header = SegmentHeader::read(&first[..], &last[..])?;
        let geometry = header.geometry()?;
        Ok(Self { path: path.to_owned(), header, geometry, len: meta.len(), allocated: meta.blocks() * 512, file })
    }

    pub(crate) fn id(&self) -> SegmentId {
        self.header.id()
    }

    /// Frames that a whole segment has.
    pub(crate) fn frames(&self) -> u32 {
        frames_of(self.header.segment_bytes())
    }

    /// Reads frames from this one on (the first is 1), as many as there are and as fit; returns how many. One that was cut off, in
    /// whole or in part, or that cannot be read, is all ones, which is no valid frame.
    pub(crate) fn read_pages(&self, from: u32, pages: &mut [[u8; FRAME]]) -> io::Result<usize> {
        let want = pages.len().min((self.frames() + 1).saturating_sub(from) as usize);
        let at = |page: usize| (u64::from(from) + page as u64) * FRAME as u64;
        match read_up_to(&self.file, pages[..want].as_flattened_mut(), at(0)) {
            Ok(got) => pages[got / FRAME..want].fill([0xFF; FRAME]),
            // Some of it cannot be read: that is no reason to lose the rest.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                for (i, page) in pages[..want].iter_mut().enumerate() {
                    if !read_up_to(&self.file, page, at(i)).is_ok_and(|got| got == FRAME) {
                        page.fill(0xFF);
                    }
                }
            }
            Err(error) => return Err(error),
        }
        Ok(want)
    }

    /// Looks at a page that should be this frame.
    pub(crate) fn check(&self, frame: u32, page: &[u8; FRAME]) -> Page {
        check_page(page, self.id(), frame, self.geometry)
    }

    /// Looks at all frames in order.
    pub(crate) fn read_frames(
        &self,
        buffer: &mut FrameBuffer,
        mut see: impl FnMut(u32, Page, &[u8; FRAME]),
    ) -> io::Result<()> {
        let mut next = 1;
        while next <= self.frames() {
            let pages = self.read_pages(next, &mut buffer.0)?;
            for page in &buffer.0[..pages] {
                see(next, self.check(next, page), page);
                next += 1;
            }
        }
        Ok(())
    }
}

/// Frames of a segment: all pages but the two that hold the header.
pub(crate) fn frames_of(segment_bytes: u64) -> u32 {
    (segment_bytes / FRAME as u64).saturating_sub(2).min(u64::from(u32::MAX) - 2) as u32
}

/// What frames are read into.
pub(crate) struct FrameBuffer(Vec<[u8; FRAME]>);

impl Default for FrameBuffer {
    fn default() -> Self {
        Self(vec![[0; FRAME]; READ / FRAME])
    }
}

/// Reads until the buffer is full or the file is at its end; returns how much that was.
fn read_up_to(file: &File, mut buffer: &mut [u8], mut at: u64) -> io::Result<usize> {
    let wanted = buffer.len();
    while !buffer.is_empty() {
        match file.read_at(buffer, at) {
            Ok(0) => break,
            Ok(got) => {
                buffer = &mut buffer[got..];
                at += got as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted - buffer.len())
}
