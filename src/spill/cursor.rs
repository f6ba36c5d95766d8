//! How far replay has come, on disk: one small file that is written in two places in turn, so that one of them is always whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::format::{VERSION, crc32c};

/// The file's name in a worker's directory.
pub(crate) const FILE: &str = "cursor";

const MAGIC: [u8; 8] = *b"PLIMCUR\0";
/// Bytes from slot to slot: a page, so that what damages one leaves the other alone.
const SLOT: u64 = 4096;

/// How far a log has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Records below this sequence number are replayed, or known to be lost.
    pub(crate) replayed: u64,
    /// Records below this one were appended; there may be more.
    pub(crate) appended: u64,
    /// There are no more: the process ended in good order.
    pub(crate) clean: bool,
    /// The process that wrote this, and how many symbols it had named by then.
    pub(crate) life: u64,
    pub(crate) names: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Slot {
    magic: [u8; 8],
    version: U16,
    clean: U16,
    names: U32,
    generation: U64,
    replayed: U64,
    appended: U64,
    life: U64,
    reserved: U32,
    checksum: U32,
}

impl Slot {
    fn covered(&self) -> &[u8] {
        &self.as_bytes()[..size_of::<Self>() - 4]
    }

    fn is_whole(&self) -> bool {
        self.magic == MAGIC && self.version.get() == VERSION && self.checksum.get() == crc32c(self.covered())
    }
}

/// The cursor's file.
pub(crate) struct Cursor {
    file: File,
    generation: u64,
    /// Both places are there: writing to them takes no room on the disk.
    is_made: bool,
}

/// What was found where the cursor should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Whole(Progress),
    Missing,
    /// Both places are damaged.
    Damaged,
}

impl Cursor {
    /// Reads a cursor, and leaves it alone.
    pub(crate) fn read(dir: &Path) -> io::Result<Found> {
        match File::open(dir.join(FILE)) {
            Ok(file) => match Self::newest(&file)? {
                Some((_, progress)) => Ok(Found::Whole(progress)),
                // The process ended when it had just made the file.
                None if file.metadata()?.len() == 0 => Ok(Found::Missing),
                None => Ok(Found::Damaged),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
            Err(error) => Err(error),
        }
    }

    /// Opens the cursor to write it, or makes it.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(super::segment::NO_FOLLOW)
            .open(dir.join(FILE))?;
        let generation = Self::newest(&file)?.map_or(0, |(generation, _)| generation);
        Ok(Self { file, generation, is_made: false })
    }

    fn newest(file: &File) -> io::Result<Option<(u64, Progress)>> {
        let mut newest = None;
        for at in [0, SLOT] {
            let mut bytes = [0; size_of::<Slot>()];
            match file.read_exact_at(&mut bytes, at) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(error) => return Err(error),
            }
            let Ok(slot) = Slot::read_from_bytes(&bytes) else { continue };
            let generation = slot.generation.get();
            if slot.is_whole() && newest.is_none_or(|(other, _)| other < generation) {
                let progress = Progress {
                    replayed: slot.replayed.get(),
                    appended: slot.appended.get(),
                    clean: slot.clean.get() == 1,
                    life: slot.life.get(),
                    names: slot.names.get(),
                };
                newest = Some((generation, progress));
            }
        }
        Ok(newest)
    }

    /// Writes both places, if that was not done before: from then on saving takes no room on the disk.
    pub(crate) fn make(&mut self, progress: &Progress) -> io::Result<()> {
        if !self.is_made {
            self.save(progress)?;
            self.save(progress)?;
            self.is_made = true;
        }
        Ok(())
    }

    /// Writes to the older of the two places.
    pub(crate) fn save(&mut self, progress: &Progress) -> io::Result<()> {
        let generation = self.generation + 1;
        let mut slot = Slot {
            magic: MAGIC,
            version: VERSION.into(),
            clean: u16::from(progress.clean).into(),
            names: progress.names.into(),
            generation: generation.into(),
            replayed: progress.replayed.into(),
            appended: progress.appended.into(),
            life: progress.life.into(),
            reserved: 0.into(),
            checksum: 0.into(),
        };
        slot.checksum = crc32c(slot.covered()).into();
        self.file.write_all_at(slot.as_bytes(), generation % 2 * SLOT)?;
        self.generation = generation;
        Ok(())
    }

    /// Waits until it is on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_place_wins_whichever_bit_is_flipped() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Cursor::read(dir.path()).unwrap(), Found::Missing);
        let mut cursor = Cursor::open(dir.path()).unwrap();
        assert_eq!(Cursor::read(dir.path()).unwrap(), Found::Missing);
        let older = Progress { replayed: 3, appended: 8, clean: false, life: 5, names: 2 };
        let newer = Progress { replayed: 7, appended: 9, clean: true, life: 5, names: 4 };
        cursor.save(&older).unwrap();
        cursor.save(&newer).unwrap();
        assert_eq!(Cursor::read(dir.path()).unwrap(), Found::Whole(newer));
        let path = dir.path().join(FILE);
        let good = std::fs::read(&path).unwrap();
        let bits_of = |place: usize| place * 8..(place + size_of::<Slot>()) * 8;
        for bit in bits_of(0).chain(bits_of(SLOT as usize)) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            let found = Cursor::read(dir.path()).unwrap();
            let in_newer = bit / 8 < size_of::<Slot>(); // its generation, 2, is in the first place
            assert_eq!(found, Found::Whole(if in_newer { older } else { newer }), "bit {bit}");
        }
        // It goes on with the next generation, in the other place.
        std::fs::write(&path, &good).unwrap();
        let mut cursor = Cursor::open(dir.path()).unwrap();
        let newest = Progress { replayed: 8, ..newer };
        cursor.save(&newest).unwrap();
        assert_eq!(Cursor::read(dir.path()).unwrap(), Found::Whole(newest));
    }
}
