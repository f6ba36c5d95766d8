//! Where ticks come from: feeds, and the pump that moves their ticks into a pipeline.
//!
//! A feed is a [`Source`]; an embedder brings its own by implementing that trait, or [`Decode`] for the messages that MoldUDP64,
//! files and captures carry. Those that ship with the crate, with the feature `feeds`:
//!
//! | | |
//! | --- | --- |
//! | `itch` | NASDAQ TotalView-ITCH 5.0, from files |
//! | `mold` | MoldUDP64 over UDP: lines arbitrated, holes asked for again |
//! | `capture` | the same from pcap and pcapng |
//! | `databento` | Databento Binary Encoding |
//! | `rows` | trades and quotes as CSV or NDJSON |
//! | `AsxSource` | a directory of recorded ASX ticks, whose files are rows |
//!
//! Each says what it is like ([`Facts`]) and counts what happens ([`FeedCounters`]). [`Rebuild`] shows books anew that have lost
//! messages.

#[cfg(feature = "feeds")]
mod asx;
mod burst;
#[cfg(feature = "feeds")]
pub mod capture;
mod counters;
#[cfg(feature = "feeds")]
pub mod databento;
mod error;
#[cfg(feature = "feeds")]
mod input;
#[cfg(feature = "feeds")]
pub mod itch;
#[cfg(feature = "feeds")]
mod lines;
#[cfg(feature = "feeds")]
pub mod mold;
#[cfg(feature = "feeds")]
mod orders;
mod pace;
mod pump;
mod rebuild;
#[cfg(feature = "feeds")]
pub mod rows;
#[cfg(feature = "feeds")]
mod waiting;

#[cfg(feature = "feeds")]
pub use asx::AsxSource;
pub use burst::Burst;
pub use counters::{FeedCount, FeedCounters};
#[cfg(feature = "kafka")]
pub(crate) use error::MALFORMED_TOLD;
pub use error::{Offset, OnMalformed, SourceError};
#[cfg(feature = "feeds")]
pub use input::Input;
pub use pace::{Pace, PaceError};
pub use pump::{PumpEnd, pump};
pub use rebuild::{Rebuild, SymbolSet};
#[cfg(feature = "feeds")]
pub use waiting::end_waiting_reads_by;

use std::sync::Arc;

/// A stream of ticks, in bursts.
///
/// A burst is what arrived together: the packets of one system call, or the next few hundred records of a file. The
/// [`pump()`] flushes the ingress at its end, so that nobody waits for a block to fill up.
pub trait Source: Send {
    /// Adds what comes next to `burst`, which is empty.
    ///
    /// Ticks carry their event time and their sequence. The receive time is set by a feed that cannot wait and knows it
    /// better than the pump, which sets it where it is 0. A recorded feed may give the recorded receive time, by which
    /// it is then played; see [`pump()`].
    ///
    /// A feed that cannot wait comes back at least every 50 ms, with [`Flow::Idle`] if there was nothing.
    ///
    /// # Errors
    /// What is wrong with the input, and where. What is in the burst by then counts.
    fn next_burst(&mut self, burst: &mut Burst) -> Result<Flow, SourceError>;

    /// What the feed is like.
    fn facts(&self) -> Facts;

    /// What the feed counts; others read it while it runs.
    fn counters(&self) -> &Arc<FeedCounters>;

    /// Adds a picture of the books of these symbols to `burst`, as they stand before what [`next_burst`](Self::next_burst) brings: for
    /// each a tick that [clears](crate::flags::CLEAR) its book, and then all its orders. Returns whether there is one; a feed that
    /// does not know, or cannot trust, what is in the books has none.
    ///
    /// [`Rebuild`] asks for it, for symbols whose messages were shed.
    fn snapshot(&mut self, symbols: &SymbolSet, burst: &mut Burst) -> bool {
        let _ = (symbols, burst);
        false
    }
}

/// Makes ticks from the messages of a protocol, whatever carries them: a file, packets, a capture.
pub trait Decode: Send {
    /// Decodes one message, and adds its ticks to the burst; `at` is where it stands in its stream, and when it came.
    ///
    /// # Errors
    /// When the message is malformed. It has then changed nothing, and the next one can be decoded.
    fn decode(&mut self, message: &[u8], at: Stamp, burst: &mut Burst) -> Result<(), Malformed>;

    /// The stream has a hole here: what the decoder remembers may be wrong from now on.
    fn note_gap(&mut self) {}

    /// As [`Source::snapshot`].
    fn snapshot(&mut self, symbols: &SymbolSet, burst: &mut Burst) -> bool {
        let _ = (symbols, burst);
        false
    }

    /// A new session begins: what was known of the one before is void.
    fn begin_session(&mut self);

    /// The most memory that it takes, in bytes.
    fn memory_bytes(&self) -> u64;

    /// Brings what it counts up to date. Called after each burst.
    fn count(&mut self, counters: &FeedCounters);
}

/// Where a message stands in its stream, and when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The message's number, from 1.
    pub sequence: u64,
    /// When it was received: nanoseconds since the Unix epoch; 0 where nobody knows.
    pub receive_ns: u64,
}

/// Why a message cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What kind of message it is, as far as that is known.
    pub kind: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What [`Source::next_burst`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More may come. The burst may be empty all the same, as when all of it was left out.
    More,
    /// Nothing is there just now.
    Idle,
    /// The stream is at its end. The burst may hold its last ticks.
    End,
}

/// What a feed is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The most memory that it takes, in bytes: buffers and tables.
    pub memory_bytes: u64,
    /// Ticks of a burst: about the most that one call of [`Source::next_burst`] gives.
    pub burst: usize,
    /// Whether it can wait for the pipeline, as a file can, and a network cannot.
    pub can_wait: bool,
}
