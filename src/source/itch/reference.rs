//! What ticks of reference data tell of their messages: the table of the module above.

use super::decoder::price_4;
use super::wire::Message;
use crate::message::SymbolId;
use crate::price::Price;
use crate::tick::{Side, Tick};

/// One of the units of decline levels in billionths.
const PRICE_8: i64 = 10;

/// A tick in which all that reference data may use is 0.
const EMPTY: Tick = Tick::reference(SymbolId::new(0), 0);

/// What a tick of reference data tells of its message; its symbol is left open.
pub(super) fn content(message: &Message<'_>) -> Tick {
    let state = |state: u8| Tick { size: state.into(), ..EMPTY };
    match message {
        Message::StockDirectory(m) => Tick { size: m.round_lot.get().into(), ..EMPTY },
        Message::SystemEvent(m) => state(m.event),
        Message::MwcbStatus(m) => state(m.level),
        Message::TradingAction(m) => state(m.state),
        Message::OperationalHalt(m) => state(m.action),
        Message::RegSho(m) => state(m.action),
        Message::RetailInterest(m) => state(m.interest),
        Message::ParticipantPosition(m) => state(m.state),
        Message::MwcbDecline(m) => {
            Tick { price: price_8(m.level_1.get()), ask_price: price_8(m.level_3.get()), ..EMPTY }
        }
        Message::IpoQuoting(m) => Tick {
            size: m.release_s.get().into(),
            ask_size: m.qualifier.into(),
            price: price_4(m.price.get()),
            ..EMPTY
        },
        Message::LuldCollar(m) => Tick {
            size: m.extension.get().into(),
            price: price_4(m.lower.get()),
            ask_price: price_4(m.upper.get()),
            ..EMPTY
        },
        Message::Imbalance(m) => Tick {
            size: m.paired.get(),
            ask_size: m.imbalance.get(),
            price: price_4(m.reference.get()),
            ask_price: price_4(m.near.get()),
            side: match m.direction {
                b'B' => Side::Buy,
                b'S' => Side::Sell,
                _ => Side::Unknown,
            },
            ..EMPTY
        },
        Message::DirectListing(m) => {
            Tick { size: m.near_time.get(), price: price_4(m.near.get()), ask_price: price_4(m.upper.get()), ..EMPTY }
        }
        _ => EMPTY,
    }
}

/// Levels beyond what a price holds, which is 9 billion dollars, are as high as can be.
fn price_8(units: u64) -> Price {
    Price::from_billionths(i64::try_from(units).unwrap_or(i64::MAX).saturating_mul(PRICE_8))
}
