//! A day as rows: its trades, and its best bids and offers after each change.

use std::io::{self, Write};
use std::sync::Arc;

use super::Market;
use crate::handler::{Bbo, BookHandler};
use crate::source::itch::{ItchConfig, ItchDecoder};
use crate::source::rows::{RowFormat, RowWriter};
use crate::source::{Burst, Decode, Stamp};
use crate::symbols::Symbols;
use crate::tick::{Tick, TickKind, flags};

/// Writes what is left of a day as rows: printable trades, and quotes. Times count from midnight. Returns how many rows. A trade that is
/// broken later is there all the same.
///
/// # Errors
/// What the writer reports.
pub fn write_rows(market: &mut Market, format: RowFormat, out: impl Write) -> io::Result<u64> {
    let symbols = Arc::new(Symbols::default());
    let config = ItchConfig { orders_max: market.orders_max(), ..ItchConfig::default() };
    let mut decoder = ItchDecoder::new(Arc::clone(&symbols), config);
    let (tell, told) = std::sync::mpsc::channel();
    let mut books = BookHandler::new(move |bbo: &Bbo| _ = tell.send(*bbo));
    let (mut writer, mut burst, mut rows) = (RowWriter::new(out, format)?, Burst::new(), 0);
    let mut names: Vec<Option<Arc<str>>> = Vec::new();
    let mut sequence = 0;
    while let Some(message) = market.next_message() {
        sequence += 1;
        let stamp = Stamp { sequence, receive_ns: 0 };
        decoder.decode(message, stamp, &mut burst).map_err(|error| io::Error::other(error.reason))?;
        for tick in burst.ticks() {
            let id = tick.symbol;
            if id.index() >= names.len() {
                names.resize(id.index() + 1, None);
            }
            let name = names[id.index()].get_or_insert_with(|| symbols.name(id).unwrap_or_else(|| "?".into()));
            if tick.kind == TickKind::Trade && !tick.has(flags::NOT_PRINTABLE) {
                rows += u64::from(writer.tick(name, tick)?);
            }
            books.apply(tick);
            if let Ok(bbo) = told.try_recv() {
                let quote = Tick::quote(id, bbo.event_ns, bbo.bid, bbo.ask);
                rows += u64::from(writer.tick(name, &quote)?);
            }
        }
        burst.clear();
    }
    writer.finish()?;
    Ok(rows)
}
