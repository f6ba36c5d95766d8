//! Moving records to other logs, where the number of workers or the ids of symbols have changed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{SpillError, at};
use super::format::{FrameInfo, SegmentId};
use super::recovery::{Recovery, worker_dir};
use super::segment;
use super::store::random;
use super::writer::{Extent, ReadySegment, Writer};
use crate::ingress::worker_of;
use crate::message::{Message, wall_clock_ns};

/// Appends records to the logs where they belong.
pub(super) struct Mover<'a, 'b> {
    recovery: &'a Recovery<'b>,
    ends: &'a mut HashMap<u32, (u64, u32)>,
    writers: HashMap<u32, (Writer, File)>,
    /// Segments that were made.
    made: Vec<(PathBuf, Arc<Extent>)>,
    pub(super) moved: u64,
}

impl<'a, 'b> Mover<'a, 'b> {
    pub(super) fn new(recovery: &'a Recovery<'b>, ends: &'a mut HashMap<u32, (u64, u32)>) -> Self {
        Self { recovery, ends, writers: HashMap::new(), made: Vec::new(), moved: 0 }
    }

    /// Deletes what was made.
    pub(super) fn undo(&self) {
        self.made.iter().for_each(|(path, _)| _ = fs::remove_file(path));
    }

    pub(super) fn append<M: Message>(&mut self, message: &M, missed: u32) -> Result<(), SpillError> {
        let owner = worker_of(message.symbol(), self.recovery.workers) as u32;
        let (next, number) = self.ends.entry(owner).or_insert((0, 1));
        let names = self.recovery.dictionary.names();
        let info = || FrameInfo { first: *next, durable: 0, opened_ns: wall_clock_ns(), names };
        if let Some((writer, _)) = self.writers.get_mut(&owner)
            && writer.frame_is_full()
        {
            writer.commit();
            if writer.has_next_frame() {
                writer.open_frame(info());
            } else if let Some((writer, file)) = self.writers.remove(&owner) {
                close(writer, &file)?;
            }
        }
        let (writer, _) = match self.writers.entry(owner) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                *number = segment::free_number(&worker_dir(self.recovery.root, owner), *number);
                let (ready, path, file) = make_segment(self.recovery, owner, *number)?;
                self.made.push((path, Arc::clone(&ready.extent)));
                *number += 1;
                entry.insert((Writer::new(ready, self.recovery.geometry, info()), file))
            }
        };
        writer.push(message.as_bytes(), missed);
        *next += 1;
        self.moved += 1;
        Ok(())
    }

    /// Commits, and waits for the disk: what is moved is deleted next.
    pub(super) fn finish(&mut self) -> Result<(), SpillError> {
        for (mut writer, file) in self.writers.drain().map(|(_, writer)| writer) {
            writer.commit();
            close(writer, &file)?;
        }
        // What was not used of the last segments is given back, or many workers would take much disk for few records.
        self.made.iter().try_for_each(|(path, extent)| segment::trim(path, extent.frame()).map_err(at(path)))
    }
}

fn close(writer: Writer, file: &File) -> Result<(), SpillError> {
    writer.finish();
    file.sync_all().map_err(at(Path::new("a segment that records were moved to")))
}

fn make_segment(
    recovery: &Recovery<'_>,
    worker: u32,
    number: u32,
) -> Result<(ReadySegment, PathBuf, File), SpillError> {
    let id = SegmentId { worker, number, epoch: random(), life: recovery.dictionary.life() };
    let dir = worker_dir(recovery.root, worker);
    let new = segment::create(&dir, id, recovery.record, recovery.geometry, recovery.segment_bytes);
    let new = new.map_err(|error| {
        let path = segment::path(&dir, number);
        SpillError::NoRoomToMove { path, bytes: recovery.segment_bytes, error }
    })?;
    let extent = Arc::new(Extent::unused());
    Ok((ReadySegment { id, map: new.map, bytes: new.bytes, extent }, new.path, new.file))
}
