//! Messages as they are on the wire: Nasdaq, "NASDAQ TotalView-ITCH 5.0", sections 1.1 to 1.8.
//!
//! All numbers are big-endian; texts are ASCII, left-aligned and padded with blanks. A price is a count of 1/10 000 of a
//! dollar, but for the decline levels of the market-wide circuit breaker, which are counts of 1/100 000 000.

use std::fmt;

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// What every message begins with: 11 bytes.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Head {
    /// The type: an ASCII character.
    pub kind: u8,
    /// The security's number of the day.
    pub locate: U16,
    tracking_and_time: U64,
}

impl Head {
    /// Nasdaq's own tracking number.
    pub fn tracking(&self) -> u16 {
        (self.tracking_and_time.get() >> 48) as u16
    }

    /// Nanoseconds since midnight.
    #[inline]
    pub fn time_ns(&self) -> u64 {
        self.tracking_and_time.get() & ((1 << 48) - 1)
    }
}

/// A symbol: 8 bytes.
pub type Stock = [u8; 8];

/// A text without the blanks at its end.
pub fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    &text[..end]
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// There are none.
    Empty,
    /// The specification has no message of this type.
    UnknownType(u8),
    /// A message of this type has another length.
    Length {
        /// The type.
        kind: u8,
        /// Bytes that there are.
        found: usize,
        /// Bytes that there should be.
        expected: usize,
    },
    /// A character of a field that the decoder needs is none that the specification knows.
    Field {
        /// The type.
        kind: u8,
        /// The field.
        field: &'static str,
        /// What stands there.
        found: u8,
    },
}

impl WireError {
    /// What to call a message of a type.
    pub(super) fn kind_of(kind: u8) -> String {
        format!("{} ({})", name(kind), Char(kind))
    }

    /// The type of the message, as far as it is known.
    pub fn kind(self) -> String {
        match self {
            Self::Empty => "a message of no type".to_owned(),
            Self::UnknownType(kind) => format!("type {}", Char(kind)),
            Self::Length { kind, .. } | Self::Field { kind, .. } => Self::kind_of(kind),
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("it is empty"),
            Self::UnknownType(_) => f.write_str("ITCH 5.0 has no such message"),
            Self::Length { found, expected, .. } => write!(f, "it has {found} bytes, not {expected}"),
            Self::Field { field, found, .. } => write!(f, "{} is no {field}", Char(found)),
        }
    }
}

/// A byte as a character where it is one.
struct Char(u8);

impl fmt::Display for Char {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_ascii_graphic() { write!(f, "'{}'", self.0 as char) } else { write!(f, "0x{:02x}", self.0) }
    }
}

/// Defines a structure for each type of message, and the choice among them.
macro_rules! messages {
    ($($(#[$doc:meta])* $kind:literal $name:ident $title:literal $length:literal {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
            #[repr(C)]
            pub struct $name {
                /// What every message begins with.
                pub head: Head,
                $($(#[$field_doc])* pub $field: $type,)*
            }

            const _: () = assert!(size_of::<$name>() == $length);
        )*

        /// A message, in the bytes that it came in.
        #[derive(Clone, Copy, Debug)]
        #[allow(missing_docs, reason = "each is what its structure says")]
        pub enum Message<'a> {
            $($name(&'a $name),)*
        }

        impl<'a> Message<'a> {
            /// Reads a message: its type and length are checked, its fields are not.
            ///
            /// # Errors
            /// When there is no such type, or the length is not that of the type.
            #[inline]
            pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
                let &kind = bytes.first().ok_or(WireError::Empty)?;
                // One comparison for all types, so that nothing is left to decide but which it is.
                if usize::from(LENGTHS[usize::from(kind)]) != bytes.len() {
                    return Err(Self::refused(kind, bytes.len()));
                }
                match kind {
                    $($kind => $name::ref_from_bytes(bytes).map(Self::$name).map_err(|_| Self::refused(kind, bytes.len())),)*
                    _ => Err(WireError::UnknownType(kind)),
                }
            }

            /// Checks type and length, and gives what every message begins with. For who needs the rest of some messages alone: which of them
            /// it is has not to be decided then.
            ///
            /// # Errors
            /// As [`parse`](Self::parse).
            #[inline]
            pub fn head_of(bytes: &'a [u8]) -> Result<&'a Head, WireError> {
                let &kind = bytes.first().ok_or(WireError::Empty)?;
                if usize::from(LENGTHS[usize::from(kind)]) != bytes.len() {
                    return Err(Self::refused(kind, bytes.len()));
                }
                Head::ref_from_prefix(bytes).map(|(head, _)| head).map_err(|_| Self::refused(kind, bytes.len()))
            }

            #[cold]
            fn refused(kind: u8, found: usize) -> WireError {
                match LENGTHS[usize::from(kind)] {
                    0 => WireError::UnknownType(kind),
                    expected => WireError::Length { kind, found, expected: expected.into() },
                }
            }

            /// What it begins with.
            pub fn head(&self) -> &'a Head {
                match self {
                    $(Self::$name(message) => &message.head,)*
                }
            }
        }

        /// All types, with their length in bytes.
        pub const TYPES: &[(u8, usize)] = &[$(($kind, $length),)*];

        /// Lengths by type; 0: there is no such type.
        static LENGTHS: [u8; 256] = {
            let mut lengths = [0; 256];
            $(lengths[$kind as usize] = $length;)*
            lengths
        };

        /// What the specification calls a type.
        fn name(kind: u8) -> &'static str {
            match kind {
                $($kind => $title,)*
                _ => "unknown",
            }
        }
    };
}

messages! {
    /// Section 1.1: the day's parts begin and end.
    b'S' SystemEvent "system event" 12 {
        /// `O`, `S`, `Q`, `M`, `E` or `C`.
        event: u8,
    }
    /// Section 1.2.1: a security of the day.
    b'R' StockDirectory "stock directory" 39 {
        /// The symbol.
        stock: Stock,
        /// Listing market and tier.
        market_category: u8,
        /// Financial status.
        financial_status: u8,
        /// Shares of a round lot.
        round_lot: U32,
        /// Only round lots: `Y` or `N`.
        round_lots_only: u8,
        /// Issue classification.
        classification: u8,
        /// Issue sub-type.
        sub_type: [u8; 2],
        /// `P`: live; `T`: test.
        authenticity: u8,
        /// Short-sale threshold.
        short_sale_threshold: u8,
        /// Set up for an IPO.
        ipo: u8,
        /// LULD reference price tier.
        luld_tier: u8,
        /// An exchange-traded product.
        etp: u8,
        /// Leverage of the product.
        etp_leverage: U32,
        /// Inverse product.
        inverse: u8,
    }
    /// Section 1.2.2: trading state of a security.
    b'H' TradingAction "trading action" 25 {
        /// The symbol.
        stock: Stock,
        /// `H`: halted, `P`: paused, `Q`: quotation only, `T`: trading.
        state: u8,
        /// Reserved.
        reserved: u8,
        /// Reason.
        reason: [u8; 4],
    }
    /// Section 1.2.3: short-sale price test.
    b'Y' RegSho "Reg SHO restriction" 20 {
        /// The symbol.
        stock: Stock,
        /// `0`: none, `1`: from an intraday drop, `2`: remains.
        action: u8,
    }
    /// Section 1.2.4: a market participant's position.
    b'L' ParticipantPosition "market participant position" 26 {
        /// The participant.
        mpid: [u8; 4],
        /// The symbol.
        stock: Stock,
        /// Primary market maker: `Y` or `N`.
        primary: u8,
        /// Mode.
        mode: u8,
        /// State.
        state: u8,
    }
    /// Section 1.2.5.1: decline levels of the market-wide circuit breaker.
    b'V' MwcbDecline "MWCB decline level" 35 {
        /// Level 1, in 1/100 000 000.
        level_1: U64,
        /// Level 2, in 1/100 000 000.
        level_2: U64,
        /// Level 3, in 1/100 000 000.
        level_3: U64,
    }
    /// Section 1.2.5.2: a decline level was breached.
    b'W' MwcbStatus "MWCB status" 12 {
        /// `1`, `2` or `3`.
        level: u8,
    }
    /// Section 1.2.6: the quoting period of an IPO.
    b'K' IpoQuoting "IPO quoting period update" 28 {
        /// The symbol.
        stock: Stock,
        /// Release time, in seconds since midnight.
        release_s: U32,
        /// Release qualifier.
        qualifier: u8,
        /// Price, in 1/10 000.
        price: U32,
    }
    /// Section 1.2.7: collars of an auction after a LULD pause.
    b'J' LuldCollar "LULD auction collar" 35 {
        /// The symbol.
        stock: Stock,
        /// Reference price, in 1/10 000.
        reference: U32,
        /// Upper collar, in 1/10 000.
        upper: U32,
        /// Lower collar, in 1/10 000.
        lower: U32,
        /// Number of extensions.
        extension: U32,
    }
    /// Section 1.2.8: an operational halt.
    b'h' OperationalHalt "operational halt" 21 {
        /// The symbol.
        stock: Stock,
        /// Market: `Q`, `B` or `X`.
        market: u8,
        /// `H`: halted, `T`: lifted.
        action: u8,
    }
    /// Section 1.3.1: a new order without attribution.
    b'A' AddOrder "add order" 36 {
        /// The order's reference number.
        reference: U64,
        /// `B` or `S`.
        side: u8,
        /// Shares.
        shares: U32,
        /// The symbol.
        stock: Stock,
        /// Price, in 1/10 000.
        price: U32,
    }
    /// Section 1.3.2: a new order with attribution.
    b'F' AddOrderMpid "add order with MPID" 40 {
        /// The order's reference number.
        reference: U64,
        /// `B` or `S`.
        side: u8,
        /// Shares.
        shares: U32,
        /// The symbol.
        stock: Stock,
        /// Price, in 1/10 000.
        price: U32,
        /// Who.
        attribution: [u8; 4],
    }
    /// Section 1.4.1: an order is executed at its price.
    b'E' OrderExecuted "order executed" 31 {
        /// The order's reference number.
        reference: U64,
        /// Shares executed.
        shares: U32,
        /// The trade's id.
        match_number: U64,
    }
    /// Section 1.4.2: an order is executed at another price.
    b'C' OrderExecutedAt "order executed with price" 36 {
        /// The order's reference number.
        reference: U64,
        /// Shares executed.
        shares: U32,
        /// The trade's id.
        match_number: U64,
        /// `Y`, or `N`: not for time and sales.
        printable: u8,
        /// Price, in 1/10 000.
        price: U32,
    }
    /// Section 1.4.3: a part of an order is cancelled.
    b'X' OrderCancel "order cancel" 23 {
        /// The order's reference number.
        reference: U64,
        /// Shares cancelled.
        shares: U32,
    }
    /// Section 1.4.4: an order is cancelled.
    b'D' OrderDelete "order delete" 19 {
        /// The order's reference number.
        reference: U64,
    }
    /// Section 1.4.5: an order is replaced by another.
    b'U' OrderReplace "order replace" 35 {
        /// Reference number of the order that goes.
        old_reference: U64,
        /// Reference number of the order that comes.
        new_reference: U64,
        /// Its shares.
        shares: U32,
        /// Its price, in 1/10 000.
        price: U32,
    }
    /// Section 1.5.1: a trade against an order that was not displayed.
    b'P' Trade "trade (non-cross)" 44 {
        /// Always 0 since 2010.
        reference: U64,
        /// Always `B` since 2014, whatever the side.
        side: u8,
        /// Shares.
        shares: U32,
        /// The symbol.
        stock: Stock,
        /// Price, in 1/10 000.
        price: U32,
        /// The trade's id.
        match_number: U64,
    }
    /// Section 1.5.2: an auction's trade, or, with 0 shares, its end without one.
    b'Q' CrossTrade "cross trade" 40 {
        /// Shares.
        shares: U64,
        /// The symbol.
        stock: Stock,
        /// Price, in 1/10 000.
        price: U32,
        /// The trade's id.
        match_number: U64,
        /// Which auction.
        cross: u8,
    }
    /// Section 1.5.3: a trade of before is void.
    b'B' BrokenTrade "broken trade" 19 {
        /// The trade's id.
        match_number: U64,
    }
    /// Section 1.6: net order imbalance indicator.
    b'I' Imbalance "net order imbalance indicator" 50 {
        /// Shares that can be matched.
        paired: U64,
        /// Shares that cannot.
        imbalance: U64,
        /// `B`, `S`, `N` or `O`.
        direction: u8,
        /// The symbol.
        stock: Stock,
        /// Far price, in 1/10 000.
        far: U32,
        /// Near price, in 1/10 000.
        near: U32,
        /// Current reference price, in 1/10 000.
        reference: U32,
        /// Which auction.
        cross: u8,
        /// Price variation indicator.
        variation: u8,
    }
    /// Section 1.7: retail price improvement interest.
    b'N' RetailInterest "retail price improvement indicator" 20 {
        /// The symbol.
        stock: Stock,
        /// `B`, `S`, `A` or `N`.
        interest: u8,
    }
    /// Section 1.8: price discovery of a direct listing with capital raise.
    b'O' DirectListing "direct listing price discovery" 48 {
        /// The symbol.
        stock: Stock,
        /// Eligible to be released: `Y` or `N`.
        eligible: u8,
        /// Lowest price allowed, in 1/10 000.
        minimum: U32,
        /// Highest price allowed, in 1/10 000.
        maximum: U32,
        /// Near execution price, in 1/10 000.
        near: U32,
        /// When it was set, in nanoseconds since midnight.
        near_time: U64,
        /// Lower price range collar, in 1/10 000.
        lower: U32,
        /// Upper price range collar, in 1/10 000.
        upper: U32,
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
