//! [`Tick`]: the message that ships with the crate.

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::message::{DataType, Message, SymbolId};
use crate::price::Price;

/// One market-data event in one cache line: 64 bytes, 64-byte aligned.
///
/// A trade uses `price` and `size`. A quote uses them for the bid and `ask_price`, `ask_size` for the
/// offer; a side whose price or size is 0 is empty. Reference data uses neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Tick {
    /// When it happened at the venue: nanoseconds since the Unix epoch.
    pub event_ns: u64,
    /// When the feed received it: nanoseconds of wall clock since the Unix epoch; 0 is unknown.
    pub receive_ns: u64,
    /// Position in the feed's stream, from 1; set by the source.
    pub sequence: u64,
    /// Trade price, or bid price.
    pub price: Price,
    /// Ask price; zero for trades.
    pub ask_price: Price,
    /// Traded volume, or bid size.
    pub size: u64,
    /// Ask size; zero for trades.
    pub ask_size: u64,
    /// The symbol.
    pub symbol: SymbolId,
    /// What it is.
    pub kind: TickKind,
    /// The aggressor's side of a trade, where the feed tells it.
    pub side: Side,
    /// Bits whose meaning the source defines; 0 where it defines none.
    pub flags: u16,
}

const _: () = assert!(size_of::<Tick>() == 64 && align_of::<Tick>() == 64);

/// What a [`Tick`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u8)]
pub enum TickKind {
    /// An executed trade.
    Trade = 1,
    /// The best bid and offer after a change.
    Quote = 2,
    /// A reference-data update.
    Reference = 3,
}

/// The side of an order or of a trade's aggressor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u8)]
pub enum Side {
    /// Not told.
    Unknown = 0,
    /// Buy.
    Buy = 1,
    /// Sell.
    Sell = 2,
}

impl Tick {
    /// A trade of `size` at `price`.
    pub const fn trade(symbol: SymbolId, event_ns: u64, price: Price, size: u64) -> Self {
        Self {
            event_ns,
            receive_ns: 0,
            sequence: 0,
            price,
            ask_price: Price::ZERO,
            size,
            ask_size: 0,
            symbol,
            kind: TickKind::Trade,
            side: Side::Unknown,
            flags: 0,
        }
    }

    /// A quote: bid and ask as (price, size); a zero in either leaves that side empty.
    pub const fn quote(symbol: SymbolId, event_ns: u64, bid: (Price, u64), ask: (Price, u64)) -> Self {
        Self { ask_price: ask.0, ask_size: ask.1, kind: TickKind::Quote, ..Self::trade(symbol, event_ns, bid.0, bid.1) }
    }

    /// A reference-data update.
    pub const fn reference(symbol: SymbolId, event_ns: u64) -> Self {
        Self { kind: TickKind::Reference, ..Self::trade(symbol, event_ns, Price::ZERO, 0) }
    }
}

impl Message for Tick {
    #[inline]
    fn symbol(&self) -> SymbolId {
        self.symbol
    }

    fn set_symbol(&mut self, symbol: SymbolId) {
        self.symbol = symbol;
    }

    #[inline]
    fn data_type(&self) -> DataType {
        match self.kind {
            TickKind::Trade => DataType::Trades,
            TickKind::Quote => DataType::Quotes,
            TickKind::Reference => DataType::ReferenceData,
        }
    }

    #[inline]
    fn receive_ns(&self) -> u64 {
        self.receive_ns
    }

    fn layout_name() -> &'static str {
        "plimsoll.tick.v1"
    }
}
