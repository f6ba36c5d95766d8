//! What flows through a pipeline: the [`Message`] trait, symbol ids and data types.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// A message that Plimsoll can carry, shed and (with the spill log) write to disk and read back.
///
/// [`Tick`](crate::Tick) is the implementation that ships with the crate; an embedder brings its
/// own by implementing a few short methods. The zerocopy bounds exist so that a message's own bytes are
/// its record on disk: no padding, no pointers.
///
/// The methods run once per message on the worker's hot path. They should read a field, no more.
///
/// ```
/// use plimsoll::{DataType, Message, SymbolId};
/// use plimsoll::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
///
/// #[derive(Clone, Copy, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[zerocopy(crate = "plimsoll::zerocopy")]
/// #[repr(C)]
/// struct Print {
///     instrument: u32,
///     size: u32,
///     price: i64,
/// }
///
/// impl Message for Print {
///     fn symbol(&self) -> SymbolId {
///         SymbolId::new(self.instrument)
///     }
///     fn set_symbol(&mut self, symbol: SymbolId) {
///         self.instrument = symbol.get();
///     }
///     fn data_type(&self) -> DataType {
///         DataType::Trades
///     }
/// }
/// ```
pub trait Message: Copy + Send + TryFromBytes + IntoBytes + Immutable + KnownLayout + 'static {
    /// The symbol that decides which worker sees the message and which tier it belongs to.
    fn symbol(&self) -> SymbolId;

    /// Gives the message the id that its symbol has in this process. Called for messages that come back from a spill log
    /// of an earlier process, in which the symbol may have had another id.
    fn set_symbol(&mut self, symbol: SymbolId);

    /// What kind of data it is. Reference data is always [`Low`](crate::MessagePriority::Low).
    fn data_type(&self) -> DataType;

    /// When the feed received the message: nanoseconds of wall clock since the Unix epoch, or 0 when
    /// unknown. Messages that say 0 are left out of the latency histogram.
    fn receive_ns(&self) -> u64 {
        0
    }

    /// Whether the message tells a state, of which only the newest matters, and which one: a number below
    /// [`CONFLATION_CLASSES`], for bid and ask, say, where they come in messages of their own. Where the verdict is to conflate, a newer message of the same symbol and class
    /// takes the place of one that still waits. `None`, which is the default, for what must not be left out: trades, changes of orders.
    fn conflation_class(&self) -> Option<u8> {
        None
    }

    /// Names the layout of the message's bytes. It is written into each segment of a spill log, and a segment of another name
    /// is refused. Change it whenever the meaning of the bytes changes. By default the type's path.
    fn layout_name() -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// States that messages of one symbol may tell: see [`Message::conflation_class`].
pub const CONFLATION_CLASSES: usize = 4;

/// The wall clock, in nanoseconds since the Unix epoch: what [`Message::receive_ns`] is read from, and compared with. 0 before 1970.
///
/// A feed reads it once a burst.
pub fn wall_clock_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// A symbol's number within one process.
///
/// Ids are dense and start at 0; [`Symbols`](crate::Symbols) hands them out by name. They are not
/// stable across processes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, TryFromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct SymbolId(u32);

impl SymbolId {
    /// An id of the given number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for SymbolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The kind of data that a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// Executed trades.
    Trades,
    /// Best bid and offer.
    Quotes,
    /// Instrument definitions, company information and the like.
    ReferenceData,
    /// Anything else: it is prioritised by its symbol's tier, as trades and quotes are.
    Other,
}

impl DataType {
    /// Reads the reference's names: `trades`, `quotes`, `reference_data`; all others are
    /// [`Other`](Self::Other).
    pub fn from_name(name: &str) -> Self {
        match name {
            "trades" => Self::Trades,
            "quotes" => Self::Quotes,
            "reference_data" => Self::ReferenceData,
            _ => Self::Other,
        }
    }
}
