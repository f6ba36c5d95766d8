//! A segment file of a log, from the time it is made, or found, until it is deleted.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::dictionary::IdMap;
use super::map::SharedMap;
use super::segment;
use super::writer::Extent;

/// A segment file that is there.
pub(super) struct Held {
    pub(super) number: u32,
    pub(super) path: PathBuf,
    /// Bytes that it takes out of the budget.
    pub(super) bytes: u64,
    pub(super) extent: Arc<Extent>,
    /// What its ids mean; `None` for one of this life.
    pub(super) ids: Option<Arc<IdMap>>,
    /// The mapping, as long as the worker has it, and up to where its pages are present.
    pub(super) map: Option<SharedMap>,
    pub(super) present: usize,
    /// It could not be read.
    pub(super) faulty: bool,
}

impl Held {
    /// Gives the blocks of frames that were never used back to the disk.
    pub(super) fn trim(&self) -> io::Result<()> {
        match self.extent.frame() {
            0 => Ok(()), // of an earlier life
            frame => segment::trim(&self.path, frame),
        }
    }
}
