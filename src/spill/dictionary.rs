//! The symbol dictionary: what the symbol ids in a log mean, so that they survive a restart.
//!
//! One file for each life of a process, `symbols-LIFE`, of entries of 64 bytes, so that a damaged one hides no other. A
//! name is on file before the first message of its symbol can be offered.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::format::crc32c;
use crate::message::SymbolId;
use crate::symbols::{Symbols, SymbolsFull};

const PREFIX: &str = "symbols-";
const PIECE: usize = 48;

/// A piece of a name.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    checksum: U32,
    id: U32,
    /// Bytes of the whole name.
    len: U32,
    /// Which piece this is, from 0.
    piece: U16,
    reserved: U16,
    text: [u8; PIECE],
}

const ENTRY: usize = size_of::<Entry>();
const _: () = assert!(ENTRY == 64);

impl Entry {
    fn covered(&self) -> &[u8] {
        &self.as_bytes()[4..]
    }
}

pub(crate) fn path(root: &Path, life: u64) -> PathBuf {
    root.join(format!("{PREFIX}{life:016x}"))
}

/// The lives whose dictionaries are in a directory.
pub(crate) fn lives(root: &Path) -> io::Result<Vec<u64>> {
    let mut lives = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        lives.extend(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
    }
    Ok(lives)
}

/// The dictionary that this process writes.
#[derive(Debug)]
pub(crate) struct Dictionary {
    life: u64,
    sync: bool,
    file: File,
    /// Bytes in it.
    end: Mutex<u64>,
    /// Names that are on file: all with a smaller id.
    names: AtomicU32,
    /// A name could not be written.
    behind: AtomicBool,
}

impl Dictionary {
    /// Makes the file. `sync`: each name is on the disk before its id is given out.
    pub(crate) fn create(root: &Path, life: u64, sync: bool) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path(root, life))?;
        Ok(Self { life, sync, file, end: Mutex::new(0), names: AtomicU32::new(0), behind: AtomicBool::new(false) })
    }

    pub(crate) fn life(&self) -> u64 {
        self.life
    }

    pub(crate) fn names(&self) -> u32 {
        self.names.load(Ordering::Relaxed)
    }

    /// Whether there are symbols whose name is not on file: then nothing may be spilled.
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        // Relaxed: the feed set it before it offered a message of the symbol, which the lane's hand-off orders.
        self.behind.load(Ordering::Relaxed)
    }

    /// Adds a name; ids come in order. Called by [`Symbols`], which hands out the ids.
    pub(crate) fn add(&self, id: SymbolId, name: &str) {
        if self.is_behind() {
            return; // `catch_up` will come to it
        }
        if let Err(error) = self.write(id, name) {
            self.behind.store(true, Ordering::Relaxed);
            tracing::warn!(%error, symbol = name, "the spill log cannot note a symbol's name: nothing is spilled until it can");
        }
    }

    fn write(&self, id: SymbolId, name: &str) -> io::Result<()> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if id.get() < self.names() {
            return Ok(());
        }
        let pieces: Vec<&[u8]> = if name.is_empty() { vec![&[]] } else { name.as_bytes().chunks(PIECE).collect() };
        let mut bytes = Vec::with_capacity(pieces.len() * ENTRY);
        for (number, text) in pieces.into_iter().enumerate() {
            let mut entry = Entry {
                checksum: 0.into(),
                id: id.get().into(),
                len: (name.len() as u32).into(),
                piece: (number as u16).into(),
                reserved: 0.into(),
                text: [0; PIECE],
            };
            entry.text[..text.len()].copy_from_slice(text);
            entry.checksum = crc32c(entry.covered()).into();
            bytes.extend_from_slice(entry.as_bytes());
        }
        self.file.write_all_at(&bytes, *end)?;
        if self.sync {
            self.file.sync_data()?;
        }
        *end += bytes.len() as u64;
        self.names.store(id.get() + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the names that could not be written before.
    pub(crate) fn catch_up(&self, symbols: &Symbols) {
        if !self.is_behind() {
            return;
        }
        // Names first, without the file's lock: whoever adds a symbol takes the locks in that order.
        let missing = symbols.names_from(self.names() as usize);
        for (id, name) in &missing {
            if self.write(*id, name).is_err() {
                return;
            }
        }
        symbols.with_names(|count| {
            if self.names() as usize >= count {
                self.behind.store(false, Ordering::Relaxed);
            }
        });
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// A dictionary that is read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// By id; `None` where it is missing.
    names: Vec<Option<String>>,
    /// Entries that are damaged.
    pub(crate) damaged: usize,
}

impl Names {
    pub(crate) fn read(root: &Path, life: u64) -> io::Result<Self> {
        let bytes = match std::fs::read(path(root, life)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut this = Self { names: Vec::new(), damaged: usize::from(!bytes.len().is_multiple_of(ENTRY)) };
        let mut text = Vec::new();
        for entry in bytes.chunks_exact(ENTRY) {
            let whole = Entry::read_from_bytes(entry).ok().filter(|e| e.checksum.get() == crc32c(e.covered()));
            let Some(entry) = whole else {
                this.damaged += 1;
                text.clear();
                continue;
            };
            let (piece, len) = (usize::from(entry.piece.get()), entry.len.get() as usize);
            if piece == 0 {
                text.clear();
            }
            if text.len() == piece * PIECE && len >= text.len() {
                text.extend_from_slice(&entry.text[..PIECE.min(len - text.len())]);
            }
            if text.len() == len
                && let Ok(name) = std::str::from_utf8(&text)
            {
                let id = entry.id.get() as usize;
                if this.names.len() <= id {
                    this.names.resize(id + 1, None);
                }
                this.names[id] = Some(name.to_owned());
            }
        }
        Ok(this)
    }

    /// Whether there are no names, and never were any.
    pub(crate) fn are_none(&self) -> bool {
        self.names.is_empty() && self.damaged == 0
    }

    /// Whether all names are there of which there once were so many.
    pub(crate) fn are_whole(&self, known: u32) -> bool {
        self.damaged == 0 && self.names.len() >= known as usize && self.names.iter().all(Option::is_some)
    }

    pub(crate) fn get(&self, id: SymbolId) -> Option<&str> {
        self.names.get(id.index())?.as_deref()
    }

    /// Interns all names: what ids of the dictionary are in this process.
    pub(crate) fn intern(&self, symbols: &Symbols) -> Result<IdMap, SymbolsFull> {
        let intern = |name: &Option<String>| name.as_deref().map(|name| symbols.intern(name)).transpose();
        let ids = self.names.iter().map(intern).collect::<Result<Vec<_>, _>>()?;
        Ok(IdMap { ids, damaged: self.damaged > 0 })
    }
}

/// What the ids of an earlier life are in this one.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdMap {
    ids: Vec<Option<SymbolId>>,
    damaged: bool,
}

impl IdMap {
    /// There once were so many names. Returns whether some of them are missing that were not known to be.
    pub(crate) fn expect_names(&mut self, known: u32) -> bool {
        let is_news = self.ids.len() < known as usize;
        if is_news {
            self.ids.resize(known as usize, None);
        }
        is_news
    }

    /// Ids whose name is lost.
    pub(crate) fn lost_names(&self) -> usize {
        self.ids.iter().filter(|id| id.is_none()).count()
    }

    /// The id in this process; `None` when the dictionary has lost it. Where there were no names at all, since the embedder numbers
    /// symbols itself, ids stay as they are.
    #[inline]
    pub(crate) fn get(&self, id: SymbolId) -> Option<SymbolId> {
        match self.ids.get(id.index()) {
            Some(known) => *known,
            None => (self.ids.is_empty() && !self.damaged).then_some(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::SymbolTiers;

    fn written(names: &[&str]) -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let dictionary = Dictionary::create(dir.path(), 7, false).unwrap();
        for (i, name) in names.iter().enumerate() {
            dictionary.add(SymbolId::new(i as u32), name);
        }
        assert_eq!(dictionary.names() as usize, names.len());
        let bytes = std::fs::read(path(dir.path(), 7)).unwrap();
        (dir, bytes)
    }

    #[test]
    fn names_of_any_length_come_back() {
        let long = "LONG".repeat(50);
        let names = ["BHP", "", &long, "Ωμέγα", &"x".repeat(48), &"y".repeat(49)];
        let (dir, _) = written(&names);
        let read = Names::read(dir.path(), 7).unwrap();
        assert_eq!((read.names.len(), read.damaged), (names.len(), 0));
        for (i, name) in names.iter().enumerate() {
            assert_eq!(read.get(SymbolId::new(i as u32)), Some(*name));
        }
        assert_eq!(lives(dir.path()).unwrap(), [7]);
    }

    #[test]
    fn a_flipped_bit_costs_one_name_and_never_makes_a_wrong_one() {
        let names = ["BHP", &"L".repeat(100), "RIO"];
        let (dir, good) = written(&names);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(path(dir.path(), 7), bad).unwrap();
            let read = Names::read(dir.path(), 7).unwrap();
            assert_eq!(read.damaged, 1);
            let symbols = Symbols::new(SymbolTiers::default(), 10);
            let mut map = read.intern(&symbols).unwrap();
            map.expect_names(3);
            let entry = bit / 8 / ENTRY;
            let lost = [0, 1, 1, 1, 2][entry];
            for (id, name) in names.iter().enumerate() {
                let mapped = map.get(SymbolId::new(id as u32)).and_then(|id| symbols.name(id));
                assert_eq!(mapped.as_deref(), (id != lost).then_some(*name), "bit {bit}, id {id}");
            }
        }
    }

    #[test]
    fn ids_without_names_stay_as_they_are_unless_names_were_lost() {
        let symbols = Symbols::new(SymbolTiers::default(), 10);
        let none = Names::default().intern(&symbols).unwrap();
        assert_eq!(none.get(SymbolId::new(5)), Some(SymbolId::new(5)));
        let mut lost = none;
        lost.expect_names(6);
        // A name may have been lost that nobody knew of.
        assert_eq!((lost.get(SymbolId::new(5)), lost.get(SymbolId::new(6))), (None, None));
    }
}
