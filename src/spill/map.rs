//! A segment's pages in memory. All `unsafe` of the spill log is here.
//!
//! The directory is this process's alone (mode 0700, and locked). If another process writes into a mapped segment all the same, checksums
//! will not fit; if it cuts the file short, the system ends this process with SIGBUS, as with any mapped file.
#![allow(unsafe_code, reason = "a mapped file is written through a pointer")]

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::format::FRAME;

/// The mapping itself, to be shared with a thread that makes pages present or writes them back.
#[derive(Clone)]
pub(crate) struct SharedMap(Arc<MmapRaw>);

/// The one writer of a mapping. It writes through `&mut self` and reads through `&self`.
pub(crate) struct WriterMap {
    map: SharedMap,
    base: *mut u8,
    len: usize,
}

// SAFETY: `base` points into the mapping that `map` keeps alive, wherever the value goes; the mapping belongs to no thread.
unsafe impl Send for WriterMap {}

impl SharedMap {
    /// Makes some pages present and writable, so that the writer takes no fault on them. What is in them stays.
    ///
    /// An error says that the system could not do it (a bad disk): the writer's fault would end the process then.
    pub(crate) fn populate(&self, at: usize, len: usize) -> io::Result<()> {
        match self.0.advise_range(Advice::PopulateWrite, at, len) {
            // Linux before 5.14.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                self.touch(at, len);
                Ok(())
            }
            done => done,
        }
    }

    /// Writes each page's last word over with what it holds.
    fn touch(&self, at: usize, len: usize) {
        for page in (at..at + len).step_by(FRAME) {
            let last_word = page + super::format::COMMIT_AT;
            assert!(last_word + 8 <= self.0.len());
            // SAFETY: in bounds (asserted), aligned (pages are, and the offset is a multiple of 8), and only ever accessed
            // atomically: it is the commit word, which the writer stores by `WriterMap::commit`.
            let word = unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().add(last_word).cast()) };
            word.fetch_or(0, Ordering::Relaxed);
        }
    }

    /// Writes some pages back to the disk and waits for it.
    pub(crate) fn sync(&self, at: usize, len: usize) -> io::Result<()> {
        self.0.flush_range(at, len)
    }

    /// How many have it, this one included.
    pub(crate) fn references(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

impl WriterMap {
    /// Maps a whole file, of this many bytes: a mapping and its one writer.
    pub(crate) fn map(file: &File, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(len).map_raw(file)?;
        let (base, len) = (map.as_mut_ptr(), map.len());
        Ok(Self { map: SharedMap(Arc::new(map)), base, len })
    }

    pub(crate) fn shared(&self) -> &SharedMap {
        &self.map
    }

    /// Copies bytes to their place.
    ///
    /// # Panics
    /// When they would go beyond the end.
    #[inline]
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at);
        // SAFETY: in bounds (asserted). No reference into the mapping is alive: `bytes` below borrows `self`, which is
        // borrowed uniquely here, and no other thread of ours writes these bytes or looks at them but the system.
        unsafe { self.base.add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Stores a frame's commit word: from then on its records count.
    ///
    /// # Panics
    /// When `at` is beyond the end or no multiple of 8.
    #[inline]
    pub(crate) fn commit(&mut self, at: usize, word: u64) {
        assert!(at.is_multiple_of(8) && at < self.len && 8 <= self.len - at);
        // SAFETY: in bounds and aligned (asserted; mappings begin at a page), and valid for atomic access: the only other
        // access to it in this process is `SharedMap::touch`, which is atomic as well, and reads by the same thread.
        let commit = unsafe { AtomicU64::from_ptr(self.base.add(at).cast()) };
        // Release: whoever sees the word, in memory or in the page cache, sees the records that it covers.
        commit.store(word.to_le(), Ordering::Release);
    }

    /// Some of the bytes.
    ///
    /// # Panics
    /// When they go beyond the end.
    #[inline]
    pub(crate) fn bytes(&self, at: usize, len: usize) -> &[u8] {
        assert!(at <= self.len && len <= self.len - at);
        // SAFETY: in bounds (asserted), initialised (a file's pages are), and written through `&mut self` alone: whoever calls
        // `SharedMap::populate` keeps away from the frame that is being filled.
        unsafe { std::slice::from_raw_parts(self.base.add(at), len) }
    }
}
