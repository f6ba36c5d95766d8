//! [`Tick`]: the message that ships with the crate.

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::message::{DataType, Message, SymbolId};
use crate::price::Price;

/// One market-data event in one cache line: 64 bytes, 64-byte aligned.
///
/// What the fields hold depends on the kind:
///
/// | kind | `price`, `size` | `ask_price`, `ask_size` | `side` |
/// | --- | --- | --- | --- |
/// | [`Trade`](TickKind::Trade) | of the trade | price of the displayed order it was against, trade id; 0 where not told | the aggressor's |
/// | [`Quote`](TickKind::Quote) | bid | ask; a side whose price or size is 0 is empty | |
/// | [`Order`](TickKind::Order) | what the book gains | what the book loses; size 0 is nothing | the order's |
/// | [`TradeBreak`](TickKind::TradeBreak) | 0 | 0, id of the trade that is void | |
/// | [`Reference`](TickKind::Reference) | the source defines it | the source defines it | |
///
/// One message of a venue is one tick, so that it is handled, shed or spilled as a whole: a replaced order is one
/// [`Order`](TickKind::Order) tick that gains and loses, an execution one [`Trade`](TickKind::Trade) that also takes from the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Tick {
    /// When it happened at the venue: nanoseconds since the Unix epoch.
    pub event_ns: u64,
    /// When the feed received it: nanoseconds of wall clock since the Unix epoch; 0 is unknown.
    pub receive_ns: u64,
    /// The message's number in the feed's stream, from 1; set by the source.
    pub sequence: u64,
    /// Trade price, bid price, or the price at which the book gains.
    pub price: Price,
    /// Ask price, or the price at which the book loses.
    pub ask_price: Price,
    /// Traded volume, bid size, or what the book gains.
    pub size: u64,
    /// Ask size, what the book loses, or a trade's id.
    pub ask_size: u64,
    /// The symbol.
    pub symbol: SymbolId,
    /// What it is.
    pub kind: TickKind,
    /// The aggressor's side of a trade, or the order's side, where the feed tells it.
    pub side: Side,
    /// Bits of [`flags`] for trades and orders; for reference data what the source defines; else 0.
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
    /// A change of a displayed order: see [`Tick::order`].
    Order = 4,
    /// A trade of before is void.
    TradeBreak = 5,
}

/// Bits of [`Tick::flags`] in trades and orders.
pub mod flags {
    /// A trade that was against a displayed order: the book loses the trade's size at `ask_price`, on the side opposite to
    /// the aggressor's.
    pub const FROM_BOOK: u16 = 1;
    /// The order that the book loses from is gone with this.
    pub const ORDER_DONE: u16 = 1 << 1;
    /// A trade that time and sales, bars and volume leave out, since it is reported elsewhere, too.
    pub const NOT_PRINTABLE: u16 = 1 << 2;
    /// A trade of an auction.
    pub const CROSS: u16 = 1 << 3;
    /// A trade against an order that was not displayed.
    pub const HIDDEN: u16 = 1 << 4;
    /// The book of the symbol is empty before this is applied: what was known of it is void.
    pub const CLEAR: u16 = 1 << 5;
    /// Not news, but part of a picture of the book. A picture begins with [`CLEAR`], and ends with [`SNAPSHOT_END`].
    pub const SNAPSHOT: u16 = 1 << 6;
    /// The feed could not tell all that this changes, so that the symbol's book is not to be trusted from here.
    pub const INCOMPLETE: u16 = 1 << 7;
    /// The picture of the book is complete with this.
    pub const SNAPSHOT_END: u16 = 1 << 8;
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

    /// A change of an order on one side of the book, as (price, size): what the book gains, and what it loses; size 0 is
    /// nothing. A new order only gains, a cancelled one only loses, a replaced one does both. What is gained is a new order;
    /// whether the one that is lost from is gone, [`flags::ORDER_DONE`] says.
    pub const fn order(symbol: SymbolId, event_ns: u64, side: Side, gained: (Price, u64), lost: (Price, u64)) -> Self {
        Self { kind: TickKind::Order, side, ..Self::quote(symbol, event_ns, gained, lost) }
    }

    /// A trade of before, by its id, is void.
    pub const fn trade_break(symbol: SymbolId, event_ns: u64, trade_id: u64) -> Self {
        let none = (Price::ZERO, 0);
        Self { kind: TickKind::TradeBreak, ..Self::quote(symbol, event_ns, none, (Price::ZERO, trade_id)) }
    }

    /// Whether all of these [`flags`] are set.
    #[inline]
    pub const fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
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
            TickKind::Trade | TickKind::TradeBreak => DataType::Trades,
            TickKind::Quote => DataType::Quotes,
            TickKind::Reference => DataType::ReferenceData,
            TickKind::Order => DataType::Other,
        }
    }

    #[inline]
    fn receive_ns(&self) -> u64 {
        self.receive_ns
    }

    /// A quote tells both sides of a symbol, and so all of one state.
    #[inline]
    fn conflation_class(&self) -> Option<u8> {
        matches!(self.kind, TickKind::Quote).then_some(0)
    }

    fn layout_name() -> &'static str {
        "plimsoll.tick.v2"
    }
}
