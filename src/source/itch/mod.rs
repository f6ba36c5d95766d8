//! NASDAQ TotalView-ITCH 5.0 (specification: Nasdaq, "NASDAQ TotalView-ITCH 5.0"): every order of a market.
//!
//! [`ItchDecoder`] makes ticks from messages, whatever carries them; [`ItchFile`] reads them from a file. One message is one
//! tick, whose sequence is the message's number in its stream. Times are nanoseconds since midnight, and count from the midnight that
//! [`ItchConfig`] gives.
//!
//! | message | tick |
//! | --- | --- |
//! | `A` `F` add order | [`Order`](TickKind::Order) that gains |
//! | `X` cancel, `D` delete | `Order` that loses; [`ORDER_DONE`](flags::ORDER_DONE) when it is gone |
//! | `U` replace | `Order` that loses the old one and gains the new one |
//! | `E` executed | [`Trade`](TickKind::Trade) [`FROM_BOOK`](flags::FROM_BOOK) at the order's price; the side is the aggressor's; the trade id is the match number |
//! | `C` executed with price | the same at the price told; [`NOT_PRINTABLE`](flags::NOT_PRINTABLE) if so |
//! | `P` trade | `Trade`, [`HIDDEN`](flags::HIDDEN); its side is not told |
//! | `Q` cross trade | `Trade`, [`CROSS`](flags::CROSS); with 0 shares no trade took place, and it is reference data |
//! | `B` broken trade | [`TradeBreak`](TickKind::TradeBreak) |
//! | all others | [`Reference`](TickKind::Reference): the message type in `flags`, and what the table below says |
//!
//! | reference data | `size` | `ask_size` | `price` | `ask_price` |
//! | --- | --- | --- | --- | --- |
//! | `S` system event, `W` MWCB status | the event's, or the level's, character | | | |
//! | `R` stock directory | round lot | | | |
//! | `H` trading action, `h` operational halt, `Y` Reg SHO, `N` retail interest | the state's character | | | |
//! | `L` participant position | state's character | | | |
//! | `V` MWCB decline level | | | level 1 | level 3 |
//! | `K` IPO quoting | release time, seconds | qualifier's character | IPO price | |
//! | `J` LULD collar | extensions | | lower collar | upper collar |
//! | `I` imbalance (side: its direction) | paired shares | imbalance | reference price | near price |
//! | `Q` of no shares | 0 | match number | | |
//! | `O` direct listing | near time, ns | | near price | upper collar |
//!
//! `S`, `V` and `W` are of no security; they go to a symbol named `*`.
//!
//! What the order table cannot tell is never made up: a message about an order that is not in it becomes an
//! [`INCOMPLETE`](flags::INCOMPLETE) tick, so that the symbol's book is known to be unreliable, and is counted as unresolved; so is
//! what refers to a security that neither the directory nor an order has named, which makes no tick. An order that finds the
//! table full is counted as untracked, and its tick is incomplete, too. `S` with event `O` begins a day: the
//! table is emptied, and all books are [cleared](flags::CLEAR).

mod decoder;
mod file;
mod reference;
pub mod wire;

pub use decoder::{ItchConfig, ItchDecoder};
pub use file::ItchFile;

#[cfg(doc)]
use crate::tick::{TickKind, flags};
