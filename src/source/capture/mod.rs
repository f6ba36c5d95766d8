//! Captured packets of a feed, played again: pcap and pcapng.

mod frame;
mod reader;
mod writer;

use std::path::Path;
use std::sync::Arc;

pub use frame::Datagram;
pub use reader::{CaptureReader, Frame};
pub use writer::PcapWriter;

use super::mold::sink::{Progress, Sink};
use super::mold::{Arbiter, ArbiterConfig, Line};
use super::{Burst, Decode, Facts, FeedCount, FeedCounters, Flow, OnMalformed, Source, SourceError, SymbolSet};

/// How a capture is to be read.
#[derive(Clone, Debug, Default)]
pub struct CaptureConfig {
    /// The UDP ports of the feed's lines; empty: all that is UDP is the feed's.
    pub ports: Vec<u16>,
    /// How the lines become one stream, by the capture's own time. Nothing is asked for again.
    pub arbiter: ArbiterConfig,
    /// What to do about a packet or a message that is malformed.
    pub on_malformed: OnMalformed,
}

/// MoldUDP64 packets of a capture, decoded by `D`.
///
/// All lines that the capture has are arbitrated as they would have been [live](super::mold::MoldSource). The receive time of a
/// tick is when its packet was captured, by which the [`pump`](super::pump()) plays it. Sessions follow each other, until the
/// capture ends.
#[derive(Debug)]
pub struct CaptureSource<D> {
    reader: CaptureReader,
    ports: Vec<u16>,
    arbiter: Arbiter,
    decoder: D,
    progress: Progress,
    counters: Arc<FeedCounters>,
    /// The capture's time: it does not go back, even if a clock did.
    now_ns: u64,
    memory_bytes: u64,
}

impl<D: Decode> CaptureSource<D> {
    /// Opens a capture; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be read, or is no capture.
    pub fn open(path: &Path, config: CaptureConfig, decoder: D) -> Result<Self, SourceError> {
        let counters = Arc::default();
        let reader = CaptureReader::open(path, &counters)?;
        Ok(Self::new(reader, config, decoder, counters))
    }

    /// Plays what a reader reads, and counts in `counters`.
    pub fn new(reader: CaptureReader, config: CaptureConfig, decoder: D, counters: Arc<FeedCounters>) -> Self {
        let arbiter = Arbiter::new(&ArbiterConfig { can_request: false, ..config.arbiter });
        let memory_bytes = CaptureReader::MEMORY_BYTES + arbiter.memory_bytes() + decoder.memory_bytes();
        let progress = Progress { on_malformed: config.on_malformed, ..Progress::default() };
        Self { reader, ports: config.ports, arbiter, decoder, progress, counters, now_ns: 0, memory_bytes }
    }

    fn read(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        while burst.len() < Burst::TICKS {
            match self.reader.next_frame() {
                Ok(Some(_)) => self.take_frame(burst)?,
                Ok(None) => {
                    self.finish(burst);
                    return self.progress.error.take().map_or(Ok(Flow::End), Err);
                }
                Err(error @ SourceError::Malformed { .. }) if self.progress.on_malformed == OnMalformed::Skip => {
                    // Nothing that could be read follows.
                    self.progress.malformed += 1;
                    tracing::warn!(%error, "left out, and all that follows");
                    self.finish(burst);
                    return Ok(Flow::End);
                }
                Err(error) => {
                    self.finish(burst);
                    return Err(error);
                }
            }
        }
        Ok(Flow::More)
    }

    fn take_frame(&mut self, burst: &mut Burst) -> Result<(), SourceError> {
        self.counters.add(FeedCount::Packets, 1);
        let Some(frame) = self.reader.frame_now() else { return Ok(()) };
        let datagram = frame.udp().filter(|udp| self.ports.is_empty() || self.ports.contains(&udp.port));
        let Some(datagram) = datagram else {
            self.counters.add(FeedCount::Foreign, 1);
            return Ok(());
        };
        self.now_ns = self.now_ns.max(frame.time_ns);
        let (decoder, progress) = (&mut self.decoder, &mut self.progress);
        let mut out = Sink { decoder, burst, progress, name: self.reader.name(), server: None };
        // What did not come by then would not have been waited for.
        self.arbiter.poll(self.now_ns, &mut out);
        let (there, length) = (datagram.payload.len(), datagram.length);
        let problem = if there < length {
            out.progress.malformed += 1;
            let why = if frame.is_cut() { ", as it was cut when it was captured" } else { "" };
            Some(format!("only {there} of its {length} bytes are there{why}"))
        } else {
            let taken = self.arbiter.packet(Line::Feed, datagram.payload, self.now_ns, frame.time_ns, &mut out);
            taken.err().map(|error| error.to_string())
        };
        if let Some(error) = self.progress.error.take() {
            return Err(error);
        }
        match problem {
            Some(reason) if self.progress.on_malformed == OnMalformed::Stop => Err(self.reader.error(
                frame.number,
                "MoldUDP64 packet",
                format!("{reason} (to port {})", datagram.port),
            )),
            Some(reason) => {
                let number = frame.number;
                self.progress.tell(self.reader.name(), &format!("packet {number}: {reason}"));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Delivers what waits for something that will not come.
    fn finish(&mut self, burst: &mut Burst) {
        let (decoder, progress) = (&mut self.decoder, &mut self.progress);
        let mut out = Sink { decoder, burst, progress, name: self.reader.name(), server: None };
        self.arbiter.finish(&mut out);
    }
}

impl<D: Decode> Source for CaptureSource<D> {
    fn next_burst(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        let flow = self.read(burst);
        self.progress.count(self.arbiter.take_stats(), &self.counters);
        self.decoder.count(&self.counters);
        flow
    }

    fn facts(&self) -> Facts {
        Facts { memory_bytes: self.memory_bytes, burst: Burst::TICKS, can_wait: true }
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
