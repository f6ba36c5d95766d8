//! Where ticks come from: recorded feeds, and the pump that moves them into a pipeline.

mod asx;
mod error;
mod lines;
mod pace;
mod pump;

pub use asx::{AsxSource, OnBadRow};
pub use error::SourceError;
pub use pace::{Pace, PaceError};
pub use pump::{PumpEnd, pump};

use crate::tick::Tick;

/// A stream of ticks, in order.
pub trait Source {
    /// The next tick; `None` at the end of the stream.
    ///
    /// Ticks carry their event time and their sequence, from 1; the receive time is the pump's to set.
    ///
    /// # Errors
    /// What is wrong with the input and where. The stream may be read on only where the source says so.
    fn next_tick(&mut self) -> Result<Option<Tick>, SourceError>;

    /// How far it has got: bytes read, and bytes there are.
    fn position(&self) -> (u64, u64);

    /// Rows that were malformed and left out.
    fn skipped_rows(&self) -> u64 {
        0
    }
}
