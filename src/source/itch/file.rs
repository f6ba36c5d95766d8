//! Messages from a file: Nasdaq's BinaryFILE, plain or packed.
//!
//! Each message follows its length, two bytes, big-endian; a length of 0 ends the session.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use crate::source::{
    Burst, Decode, Facts, FeedCount, FeedCounters, Flow, Input, Offset, OnMalformed, Source, SourceError, Stamp,
    SymbolSet,
};

/// A file of messages, decoded.
#[derive(Debug)]
pub struct ItchFile<D> {
    blocks: Blocks,
    decoder: D,
    on_malformed: OnMalformed,
    sequence: u64,
    counters: Arc<FeedCounters>,
}

impl<D: Decode> ItchFile<D> {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path, decoder: D, on_malformed: OnMalformed) -> Result<Self, SourceError> {
        let counters = Arc::default();
        let input = Input::open(path, &counters)?;
        Ok(Self::new(input, decoder, on_malformed, counters))
    }

    /// Reads from an input that counts in `counters`.
    pub fn new(input: Input, decoder: D, on_malformed: OnMalformed, counters: Arc<FeedCounters>) -> Self {
        Self { blocks: Blocks::new(input), decoder, on_malformed, sequence: 0, counters }
    }

    /// The decoder.
    pub fn decoder(&self) -> &D {
        &self.decoder
    }

    /// The decoder, for the next file.
    pub fn into_decoder(self) -> D {
        self.decoder
    }

    fn read(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        while burst.len() < Burst::TICKS {
            // What is here does not wait for what may take its time to come, through a pipe for instance.
            if !burst.is_empty() && self.blocks.whole().is_none() {
                break;
            }
            let offset = self.blocks.offset;
            let decoded = match self.blocks.next() {
                Ok(Some([])) => {
                    self.decoder.begin_session();
                    continue;
                }
                Ok(Some(message)) => {
                    self.sequence += 1;
                    self.decoder.decode(message, Stamp { sequence: self.sequence, receive_ns: 0 }, burst)
                }
                Ok(None) => return Ok(Flow::End),
                Err(BlockError::Io(error)) => return Err(self.blocks.input.error(error)),
                Err(BlockError::Truncated(what)) => {
                    // Nothing that could be read follows.
                    let error = self.malformed(offset, "block", what);
                    return self.leave_out(error).map(|()| Flow::End);
                }
            };
            if let Err(malformed) = decoded {
                let error = self.malformed(offset, &malformed.kind, malformed.reason);
                self.leave_out(error)?;
            }
        }
        Ok(Flow::More)
    }

    fn malformed(&self, offset: u64, kind: &str, reason: String) -> SourceError {
        let (feed, kind) = (self.blocks.input.path().display().to_string(), kind.to_owned());
        SourceError::Malformed { feed, offset: Offset::Byte(offset), kind, reason }
    }

    #[cold]
    fn leave_out(&self, error: SourceError) -> Result<(), SourceError> {
        self.on_malformed.deal_with(error, &self.counters)
    }
}

impl<D: Decode> Source for ItchFile<D> {
    fn next_burst(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        let flow = self.read(burst);
        self.counters.set(FeedCount::Messages, self.sequence);
        self.decoder.count(&self.counters);
        flow
    }

    fn facts(&self) -> Facts {
        let memory_bytes = BUFFER as u64 + Input::MEMORY_BYTES + self.decoder.memory_bytes();
        Facts { memory_bytes, burst: Burst::TICKS, can_wait: true }
    }

    fn counters(&self) -> &Arc<FeedCounters> {
        &self.counters
    }

    fn snapshot(&mut self, symbols: &SymbolSet, burst: &mut Burst) -> bool {
        self.decoder.snapshot(symbols, burst)
    }
}

/// Holds the longest block, and many of the usual ones.
const BUFFER: usize = 1 << 18;
/// Bytes of a block's length.
const LENGTH: usize = 2;

/// Cuts a file into blocks, which are handed out where they were read to.
#[derive(Debug)]
struct Blocks {
    input: Input,
    buffer: Box<[u8]>,
    /// What was read, and not handed out yet.
    start: usize,
    end: usize,
    /// Bytes before the next block.
    offset: u64,
}

enum BlockError {
    Io(std::io::Error),
    /// The file ends within a block.
    Truncated(String),
}

impl Blocks {
    fn new(input: Input) -> Self {
        Self { input, buffer: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0, offset: 0 }
    }

    /// The next block without its length; `None` at the end of the file.
    #[inline]
    fn next(&mut self) -> Result<Option<&[u8]>, BlockError> {
        loop {
            if let Some(length) = self.whole() {
                let begin = self.start + LENGTH;
                self.start = begin + length;
                self.offset += (LENGTH + length) as u64;
                return Ok(Some(&self.buffer[begin..begin + length]));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// The length of the next block, if all of it is here.
    #[inline]
    fn whole(&self) -> Option<usize> {
        let (length, rest) = self.buffer[self.start..self.end].split_first_chunk::<LENGTH>()?;
        Some(usize::from(u16::from_be_bytes(*length))).filter(|length| *length <= rest.len())
    }

    /// Reads more; `false` at the end of the file, where nothing is left over.
    #[cold]
    fn fill(&mut self) -> Result<bool, BlockError> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let read = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other.map_err(BlockError::Io)?,
            }
        };
        self.end += read;
        match (read, self.end) {
            (0, 0) => Ok(false),
            (0, left) => Err(BlockError::Truncated(match self.buffer[..left] {
                [high, low, ..] => {
                    let length = u16::from_be_bytes([high, low]);
                    format!("the file ends within it: {} of its {length} bytes are there", left - LENGTH)
                }
                _ => "the file ends within its length".to_owned(),
            })),
            _ => Ok(true),
        }
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
