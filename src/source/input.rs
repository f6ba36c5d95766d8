//! Bytes of a file or of standard input: plain, gzip or zstd, as their first bytes tell.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use super::counters::{FeedCount, FeedCounters};
use super::error::SourceError;
use super::waiting::Waiting;

/// What is read at once, of a file as it is on disk.
const BUFFER: usize = 1 << 18;
/// RFC 1952, section 2.3.1.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// RFC 8878, sections 3.1.1 and 3.1.2: a frame, or a skippable frame (0x184D2A5?).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// The bytes of a file, or of standard input, unpacked.
///
/// Counts what is read off the disk in [`FeedCount::Bytes`], and sets [`FeedCount::BytesTotal`] to the file's size.
pub struct Input {
    path: PathBuf,
    reader: Box<dyn Read + Send>,
}

impl Input {
    /// Bytes of memory that it takes at most, the window of zstd's long mode (128 MiB) left aside.
    pub const MEMORY_BYTES: u64 = 9 << 20;

    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read.
    pub fn open(path: &Path, counters: &Arc<FeedCounters>) -> Result<Self, SourceError> {
        if path == Path::new("-") {
            return Self::new(path, Box::new(Waiting(io::stdin())), counters);
        }
        let io = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => SourceError::Missing { path: path.to_owned(), expected: "a file to read" },
            _ => SourceError::Io { path: path.to_owned(), error },
        };
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if meta.is_dir() {
            return Err(SourceError::Missing { path: path.to_owned(), expected: "a file, not a directory" });
        }
        counters.add(FeedCount::BytesTotal, meta.len());
        let reader: Box<dyn Read + Send> = if meta.is_file() { Box::new(file) } else { Box::new(Waiting(file)) };
        Self::new(path, reader, counters)
    }

    /// Unpacks what `reader` gives, if it is packed. `path` is its name in errors.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(path: &Path, reader: Box<dyn Read + Send>, counters: &Arc<FeedCounters>) -> Result<Self, SourceError> {
        let counted = Counted { reader, counters: Arc::clone(counters) };
        let mut raw = BufReader::with_capacity(BUFFER, counted);
        let io = |error| SourceError::Io { path: path.to_owned(), error };
        let head = raw.fill_buf().map_err(io)?;
        let is_zstd = head.starts_with(&ZSTD_MAGIC)
            || (head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == ZSTD_SKIPPABLE);
        let reader: Box<dyn Read + Send> = if head.starts_with(&GZIP_MAGIC) {
            Box::new(MultiGzDecoder::new(raw))
        } else if is_zstd {
            Box::new(zstd::Decoder::with_buffer(raw).map_err(io)?)
        } else {
            Box::new(raw)
        };
        Ok(Self { path: path.to_owned(), reader })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error of reading it.
    pub(super) fn error(&self, error: io::Error) -> SourceError {
        SourceError::Io { path: self.path.clone(), error }
    }
}

impl Read for Input {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buf)
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Counts the bytes that go by.
struct Counted {
    reader: Box<dyn Read + Send>,
    counters: Arc<FeedCounters>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buf)?;
        self.counters.add(FeedCount::Bytes, read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_first_bytes_tell_what_it_is() {
        let text = b"symbol,price\nBHP,1\n".repeat(1000);
        let two_members = [gzip(&text[..100]), gzip(&text[100..])].concat();
        for bytes in [text.clone(), gzip(&text), two_members, zstd::encode_all(&text[..], 1).unwrap()] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &bytes).unwrap();
            let counters = Arc::default();
            let mut input = Input::open(file.path(), &counters).unwrap();
            let mut read = Vec::new();
            input.read_to_end(&mut read).unwrap();
            assert!(read == text);
            assert_eq!(counters.get(FeedCount::Bytes), bytes.len() as u64);
            assert_eq!(counters.get(FeedCount::BytesTotal), bytes.len() as u64);
        }
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let counters = Arc::default();
        let error = Input::open(&dir.path().join("none"), &counters).unwrap_err().to_string();
        assert!(error.contains("none: not found"), "{error}");
        let error = Input::open(dir.path(), &counters).unwrap_err().to_string();
        assert!(error.contains("not a directory"), "{error}");
    }
}
