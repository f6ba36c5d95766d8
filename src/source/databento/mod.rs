//! Databento Binary Encoding (DBN): files of versions 1 to 3, plain, gzip or zstd.
//!
//! | schema | ticks |
//! | --- | --- |
//! | `trades` | a [`Trade`](crate::TickKind::Trade) |
//! | `mbp-1`, `tbbo` | a [`Quote`](crate::TickKind::Quote), after a trade if the record is of one |
//! | `bbo-1s`, `bbo-1m` | a quote |
//! | `mbo` | an [`Order`](crate::TickKind::Order) or a trade; fills are told of again by what follows them |
//! | `definition` | [`Reference`](crate::TickKind::Reference): `price` the least price increment, `ask_price` the display factor |
//! | `ohlcv-*` | reference: `ask_price` open, `price` close, `size` volume |
//! | `status` | reference: `size` action, `ask_size` reason |
//!
//! Reference ticks have the record's type in `flags`. Records of other kinds are counted as [`Foreign`](FeedCount::Foreign). The
//! format is decoded by the crate `dbn`, its publisher's own.

mod decoder;
mod names;
mod shape;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbn::decode::dbn::fsm::{DbnFsm, ProcessResult};

use super::{Burst, Facts, FeedCount, FeedCounters, Flow, Input, Offset, OnMalformed, Source, SourceError, SymbolSet};
use crate::symbols::Symbols;
use decoder::Decoder;
use shape::{Misshapen, Shape};

/// How a DBN file is to be read.
#[derive(Clone, Debug)]
pub struct DbnConfig {
    /// Orders that are remembered at the same time at most, for `mbo`.
    pub orders_max: usize,
    /// What stands before every symbol's name.
    pub prefix: String,
    /// What to do about a record that is malformed.
    pub on_malformed: OnMalformed,
}

impl Default for DbnConfig {
    /// 3 670 016 orders, which is what fits into 138 MB; no prefix; a malformed record stops the stream.
    fn default() -> Self {
        Self { orders_max: 7 << 19, prefix: String::new(), on_malformed: OnMalformed::default() }
    }
}

/// What a file begins with: `DBN`, the version, and the length of the metadata.
const PRELUDE: usize = 8;
/// The longest metadata.
const METADATA_MAX: u32 = 256 << 20;
/// What the decoder reads at once.
const BUFFER: usize = 1 << 17;

/// A DBN file, decoded.
#[derive(Debug)]
pub struct DbnSource {
    name: String,
    path: PathBuf,
    input: Input,
    fsm: DbnFsm,
    shape: Shape,
    decoder: Decoder,
    on_malformed: OnMalformed,
    sequence: u64,
    /// Bytes given to the state machine.
    filled: u64,
    metadata_bytes: u64,
    counters: Arc<FeedCounters>,
}

impl DbnSource {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be read, is no DBN, or is of a version that is not known.
    pub fn open(path: &Path, symbols: Arc<Symbols>, config: DbnConfig) -> Result<Self, SourceError> {
        let counters = Arc::default();
        let input = Input::open(path, &counters)?;
        Self::new(input, symbols, config, counters)
    }

    /// Reads from an input that counts in `counters`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn new(
        mut input: Input,
        symbols: Arc<Symbols>,
        config: DbnConfig,
        counters: Arc<FeedCounters>,
    ) -> Result<Self, SourceError> {
        let (name, path) = (input.path().display().to_string(), input.path().to_owned());
        let unsupported = |reason: String| SourceError::Unsupported { feed: name.clone(), reason };
        let mut prelude = Vec::with_capacity(PRELUDE);
        (&mut input).take(PRELUDE as u64).read_to_end(&mut prelude).map_err(|error| input.error(error))?;
        let Some([b'D', b'B', b'N', version, length @ ..]) = prelude.first_chunk::<PRELUDE>() else {
            let what = if prelude.is_empty() { "is empty" } else { "is no DBN file" };
            return Err(unsupported(format!("it {what}: give one, plain or packed")));
        };
        let metadata_bytes = u32::from_le_bytes(*length);
        if metadata_bytes > METADATA_MAX {
            return Err(unsupported(format!("its metadata has {metadata_bytes} bytes, more than {METADATA_MAX}")));
        }
        let mut fsm = DbnFsm::new(BUFFER, BUFFER);
        fsm.write_all(&prelude);
        let mut filled = PRELUDE as u64;
        let metadata = loop {
            match fsm.process() {
                ProcessResult::Metadata(metadata) => break metadata,
                ProcessResult::ReadMore(_) => match fill(&mut fsm, &mut input).map_err(|error| input.error(error))? {
                    0 => return Err(unsupported("it ends within its metadata".to_owned())),
                    read => filled += read,
                },
                ProcessResult::Record(()) => return Err(unsupported("it has no metadata".to_owned())),
                ProcessResult::Err(error) => {
                    return Err(unsupported(format!("its metadata (version {version}): {error}")));
                }
            }
        };
        let (on_malformed, shape) = (config.on_malformed, Shape::new(*version, metadata.ts_out));
        let decoder = Decoder::new(symbols, config, &metadata);
        let metadata_bytes = metadata_bytes.into();
        Ok(Self { name, path, input, fsm, shape, decoder, on_malformed, sequence: 0, filled, metadata_bytes, counters })
    }

    fn read(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        while burst.len() < Burst::TICKS {
            let begin = self.filled - self.fsm.data().len() as u64;
            match self.shape.check(self.fsm.data()) {
                Ok(()) => {}
                Err(Misshapen::Short(bytes, reason)) => {
                    self.sequence += 1;
                    self.fsm.skip(bytes);
                    self.leave_out(begin, "DBN record", reason)?;
                    continue;
                }
                Err(Misshapen::Unaligned(reason)) => {
                    return self.leave_out(begin, "DBN record", reason).map(|()| Flow::End);
                }
            }
            match self.fsm.process() {
                // What is here does not wait for what may take its time to come, through a pipe for instance.
                ProcessResult::ReadMore(_) if !burst.is_empty() => return Ok(Flow::More),
                ProcessResult::ReadMore(_) => {
                    let read = fill(&mut self.fsm, &mut self.input);
                    match read.map_err(|error| SourceError::Io { path: self.path.clone(), error })? {
                        0 if self.fsm.data().is_empty() => return Ok(Flow::End),
                        0 => {
                            let left = self.fsm.data().len();
                            let reason = format!("the file ends within it: {left} of its bytes are there");
                            // Nothing that could be read follows.
                            return self.leave_out(begin, "DBN record", reason).map(|()| Flow::End);
                        }
                        read => self.filled += read,
                    }
                }
                ProcessResult::Record(()) => {
                    self.sequence += 1;
                    let Some(record) = self.fsm.last_record() else { continue };
                    if let Err(malformed) = self.decoder.decode(record, self.sequence, burst) {
                        self.leave_out(begin, &malformed.kind, malformed.reason)?;
                    }
                }
                ProcessResult::Metadata(_) => {}
                ProcessResult::Err(error) => {
                    // Where the next record begins, nobody knows.
                    self.leave_out(begin, "DBN record", error.to_string())?;
                    return Ok(Flow::End);
                }
            }
        }
        Ok(Flow::More)
    }

    #[cold]
    fn leave_out(&self, begin: u64, kind: &str, reason: String) -> Result<(), SourceError> {
        let offset = Offset::Byte(begin);
        let error = SourceError::Malformed { feed: self.name.clone(), offset, kind: kind.to_owned(), reason };
        self.on_malformed.deal_with(error, &self.counters)
    }
}

/// Gives the state machine more; how many bytes.
fn fill(fsm: &mut DbnFsm, input: &mut Input) -> io::Result<u64> {
    loop {
        match input.read(fsm.space()) {
            Ok(read) => {
                fsm.fill(read);
                return Ok(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Source for DbnSource {
    fn next_burst(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        let flow = self.read(burst);
        self.counters.set(FeedCount::Messages, self.sequence);
        self.decoder.count(&self.counters);
        flow
    }

    fn facts(&self) -> Facts {
        // The metadata is held as bytes while it is read, and as mappings after that.
        let memory_bytes =
            Input::MEMORY_BYTES + 2 * BUFFER as u64 + 4 * self.metadata_bytes + self.decoder.memory_bytes();
        Facts { memory_bytes, burst: Burst::TICKS, can_wait: true }
    }

    fn counters(&self) -> &Arc<FeedCounters> {
        &self.counters
    }

    fn snapshot(&mut self, symbols: &SymbolSet, burst: &mut Burst) -> bool {
        self.decoder.snapshot(symbols, burst)
    }
}

#[cfg(test)]
mod tests;
