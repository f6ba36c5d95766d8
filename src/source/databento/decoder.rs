//! Records become ticks.

use std::sync::Arc;

use dbn::symbol_map::TsSymbolMap;
use dbn::{
    Action, BboMsg, ErrorMsg, FlagSet, InstrumentDefMsg, MboMsg, Mbp1Msg, Metadata, OhlcvMsg, Record, RecordRef,
    StatusMsg, SymbolMappingMsg, TradeMsg, UNDEF_PRICE, rtype,
};

use super::DbnConfig;
use super::names::Names;
use crate::message::SymbolId;
use crate::price::Price;
use crate::source::orders::{Order, OrderTable};
use crate::source::{Burst, FeedCount, FeedCounters, Malformed, SymbolSet};
use crate::symbols::Symbols;
use crate::tick::{Side, Tick, flags};

const NOTHING: (Price, u64) = (Price::ZERO, 0);

/// Makes ticks of a file's records, and remembers its orders.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) names: Names,
    /// By publisher and instrument, and the venue's number of the order.
    orders: OrderTable<(u64, u64)>,
    /// Whether the file is one of single orders.
    has_orders: bool,
    /// Event time and sequence of the last record.
    last: (u64, u64),
    /// Records of kinds that make no tick.
    foreign: u64,
}

type Result<T> = std::result::Result<T, Malformed>;

/// What ticks of a record share.
#[derive(Clone, Copy)]
struct At {
    symbol: SymbolId,
    event_ns: u64,
    receive_ns: u64,
    sequence: u64,
    flags: u16,
}

impl At {
    fn push(self, burst: &mut Burst, tick: Tick) {
        let Self { symbol, event_ns, receive_ns, sequence, flags } = self;
        burst.push(Tick { symbol, event_ns, receive_ns, sequence, flags: tick.flags | flags, ..tick });
    }
}

impl Decoder {
    pub(super) fn new(symbols: Arc<Symbols>, config: DbnConfig, metadata: &Metadata) -> Self {
        // Files of other kinds of symbols have no mapping of numbers; the stream may tell their names.
        let by_time = metadata.symbol_map().unwrap_or_else(|_| TsSymbolMap::new());
        // Only a file of single orders needs the table.
        let orders_max =
            if metadata.schema.is_none_or(|schema| schema == dbn::Schema::Mbo) { config.orders_max } else { 0 };
        Self {
            names: Names::new(symbols, config.prefix, by_time),
            orders: OrderTable::new(orders_max),
            has_orders: orders_max > 0,
            last: (0, 0),
            foreign: 0,
        }
    }

    pub(super) fn count(&self, counters: &FeedCounters) {
        self.orders.count(counters);
        counters.set(FeedCount::Foreign, self.foreign);
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.orders.memory_bytes()
    }

    /// Decodes the record of this number.
    pub(super) fn decode(&mut self, record: RecordRef<'_>, sequence: u64, burst: &mut Burst) -> Result<()> {
        let kind = record.header().rtype;
        self.decode_kind(kind, &record, sequence, burst)
            .map_err(|malformed| Malformed { kind: name(kind), ..malformed })
    }

    fn decode_kind(&mut self, kind: u8, record: &RecordRef<'_>, sequence: u64, burst: &mut Burst) -> Result<()> {
        match kind {
            rtype::MBO => self.mbo(get::<MboMsg>(record)?, sequence, burst),
            rtype::MBP_0 => self.trade(get::<TradeMsg>(record)?, sequence, burst),
            rtype::MBP_1 | rtype::TBBO => self.mbp_1(get::<Mbp1Msg>(record)?, sequence, burst),
            rtype::BBO_1S | rtype::BBO_1M => self.bbo(get::<BboMsg>(record)?, sequence, burst),
            rtype::INSTRUMENT_DEF => self.definition(get::<InstrumentDefMsg>(record)?, sequence, burst),
            rtype::OHLCV_1S | rtype::OHLCV_1M | rtype::OHLCV_1H | rtype::OHLCV_1D | rtype::OHLCV_EOD => {
                self.bar(get::<OhlcvMsg>(record)?, sequence, burst)
            }
            rtype::STATUS => self.status(get::<StatusMsg>(record)?, sequence, burst),
            rtype::SYMBOL_MAPPING => self.mapping(get::<SymbolMappingMsg>(record)?),
            rtype::ERROR => {
                let text = get::<ErrorMsg>(record)?.err().unwrap_or("not told").to_owned();
                tracing::warn!(error = text, "the stream has an error record");
                self.foreign += 1;
                Ok(())
            }
            _ => {
                self.foreign += 1;
                Ok(())
            }
        }
    }

    fn at<R: Record>(&mut self, record: &R, receive_ns: u64, sequence: u64, flags: FlagSet) -> Result<At> {
        // An instrument's number has 32 bits up to version 3.
        let instrument = record.instrument_id() as u32;
        let found = self.names.symbol(instrument, record.raw_index_ts());
        let (symbol, is_known) = found.map_err(|error| malformed(error.to_string()))?;
        self.orders.unresolved += u64::from(!is_known);
        let told = |ns: u64| if ns == dbn::UNDEF_TIMESTAMP { 0 } else { ns };
        let (event_ns, receive_ns) = (told(record.raw_ts_event()), told(receive_ns));
        // A snapshot's orders are as old as they are; what has no time of its own happened when it came.
        let event_ns = if event_ns == 0 { receive_ns } else { event_ns };
        self.last = (event_ns, sequence);
        let flags = if flags.is_maybe_bad_book() { flags::INCOMPLETE } else { 0 };
        Ok(At { symbol, event_ns, receive_ns, sequence, flags })
    }

    fn trade(&mut self, record: &TradeMsg, sequence: u64, burst: &mut Burst) -> Result<()> {
        let price = price(record.price)?;
        let side = side(record.side)?;
        // What is said of the book is no matter for trades alone.
        let at = self.at(record, record.ts_recv, sequence, FlagSet::empty())?;
        at.push(burst, Tick { side, ..Tick::trade(at.symbol, 0, price, record.size.into()) });
        Ok(())
    }

    fn mbp_1(&mut self, record: &Mbp1Msg, sequence: u64, burst: &mut Burst) -> Result<()> {
        let trade = match record.action as u8 {
            b'T' => Some((price(record.price)?, side(record.side)?)),
            _ => None,
        };
        let at = self.at(record, record.ts_recv, sequence, record.flags)?;
        if let Some((price, side)) = trade {
            let trade = Tick { side, ..Tick::trade(at.symbol, 0, price, record.size.into()) };
            At { flags: 0, ..at }.push(burst, trade);
        }
        at.push(burst, quote(at.symbol, &record.levels[0]));
        Ok(())
    }

    fn bbo(&mut self, record: &BboMsg, sequence: u64, burst: &mut Burst) -> Result<()> {
        // The trade that it tells of is the last one, which may have been told before.
        let at = self.at(record, record.ts_recv, sequence, record.flags)?;
        at.push(burst, quote(at.symbol, &record.levels[0]));
        Ok(())
    }

    fn definition(&mut self, record: &InstrumentDefMsg, sequence: u64, burst: &mut Burst) -> Result<()> {
        if let Ok(name) = record.raw_symbol() {
            self.names.tell(record.hd.instrument_id, name);
        }
        let at = self.at(record, record.ts_recv, sequence, FlagSet::empty())?;
        let defined = |price: i64| if price == UNDEF_PRICE { Price::ZERO } else { Price::from_billionths(price) };
        let (price, ask_price) = (defined(record.min_price_increment), defined(record.display_factor));
        let flags = u16::from(record.hd.rtype);
        at.push(burst, Tick { price, ask_price, flags, ..Tick::reference(at.symbol, 0) });
        Ok(())
    }

    fn bar(&mut self, record: &OhlcvMsg, sequence: u64, burst: &mut Burst) -> Result<()> {
        let (open, close) = (price(record.open)?, price(record.close)?);
        let at = self.at(record, 0, sequence, FlagSet::empty())?;
        let (size, flags) = (record.volume, u16::from(record.hd.rtype));
        at.push(burst, Tick { price: close, ask_price: open, size, flags, ..Tick::reference(at.symbol, 0) });
        Ok(())
    }

    fn status(&mut self, record: &StatusMsg, sequence: u64, burst: &mut Burst) -> Result<()> {
        let at = self.at(record, record.ts_recv, sequence, FlagSet::empty())?;
        let (size, ask_size) = (record.action.into(), record.reason.into());
        let flags = u16::from(record.hd.rtype);
        at.push(burst, Tick { size, ask_size, flags, ..Tick::reference(at.symbol, 0) });
        Ok(())
    }

    fn mapping(&mut self, record: &SymbolMappingMsg) -> Result<()> {
        let name = record.stype_out_symbol().map_err(|error| malformed(error.to_string()))?;
        self.names.tell(record.hd.instrument_id, name);
        self.foreign += 1;
        Ok(())
    }

    fn mbo(&mut self, record: &MboMsg, sequence: u64, burst: &mut Burst) -> Result<()> {
        let action = record.action().map_err(|_| unknown("action", record.action as u8))?;
        let side = side(record.side)?;
        let needs_price = matches!(action, Action::Add | Action::Modify | Action::Trade);
        let price = if needs_price { price(record.price)? } else { Price::ZERO };
        if matches!(action, Action::Add | Action::Modify) && side == Side::Unknown {
            return Err(malformed("an order has a side".to_owned()));
        }
        let at = self.at(record, record.ts_recv, sequence, record.flags)?;
        let key = (u64::from(record.hd.publisher_id) << 32 | u64::from(record.hd.instrument_id), record.order_id);
        let tick = match action {
            Action::Add => self.add(key, at.symbol, side, price, record.size),
            Action::Cancel => self.cancel(key, at.symbol, record.size),
            Action::Modify => self.modify(key, at.symbol, side, price, record.size),
            Action::Clear => {
                self.orders.remove_if(|(of, _), _| *of == key.0);
                Tick { flags: flags::CLEAR, ..nothing(at.symbol) }
            }
            Action::Trade => Tick { side, ..Tick::trade(at.symbol, 0, price, record.size.into()) },
            // A fill is told of again, by the cancellation or change that follows it.
            Action::Fill | Action::None => {
                self.foreign += 1;
                return Ok(());
            }
        };
        let snapshot = match (record.flags.is_snapshot(), record.flags.is_last()) {
            (true, true) => flags::SNAPSHOT | flags::SNAPSHOT_END,
            (true, false) => flags::SNAPSHOT,
            _ => 0,
        };
        // A record that stands for a whole side, and not for an order, is none that this can keep.
        let is_other = record.flags.is_tob() || record.flags.is_mbp();
        let incomplete = if is_other { flags::INCOMPLETE } else { 0 };
        at.push(burst, Tick { flags: tick.flags | snapshot | incomplete, ..tick });
        Ok(())
    }

    fn add(&mut self, key: (u64, u64), symbol: SymbolId, side: Side, price: Price, size: u32) -> Tick {
        let flags = self.orders.track(key, Order::new(symbol, side, price, size));
        Tick { flags, ..Tick::order(symbol, 0, side, (price, size.into()), NOTHING) }
    }

    fn cancel(&mut self, key: (u64, u64), symbol: SymbolId, size: u32) -> Tick {
        let Some((order, gone)) = self.orders.reduce(key, size) else { return self.unknown_order(symbol) };
        let lost = (order.price, order.size.min(size).into());
        let flags = if gone { flags::ORDER_DONE } else { 0 };
        Tick { flags, ..Tick::order(symbol, 0, order.side(), NOTHING, lost) }
    }

    /// A changed order is one that is gone, and another; one that is not known is new, and something was missed.
    fn modify(&mut self, key: (u64, u64), symbol: SymbolId, side: Side, price: Price, size: u32) -> Tick {
        let old = self.orders.remove(key);
        let flags = self.orders.track(key, Order::new(symbol, side, price, size));
        let gained = (price, size.into());
        match old {
            Some(old) if old.side() == side => {
                let flags = flags | flags::ORDER_DONE;
                Tick { flags, ..Tick::order(symbol, 0, side, gained, (old.price, old.size.into())) }
            }
            _ => {
                self.orders.unresolved += 1;
                Tick { flags: flags | flags::INCOMPLETE, ..Tick::order(symbol, 0, side, gained, NOTHING) }
            }
        }
    }

    #[cold]
    fn unknown_order(&mut self, symbol: SymbolId) -> Tick {
        self.orders.unresolved += 1;
        Tick { flags: flags::INCOMPLETE, ..nothing(symbol) }
    }

    pub(super) fn snapshot(&mut self, symbols: &SymbolSet, burst: &mut Burst) -> bool {
        if self.orders.is_wrong() || !self.has_orders {
            return false;
        }
        let (event_ns, sequence) = self.last;
        let mine: Vec<_> = self.names.symbols().into_iter().filter(|symbol| symbols.contains(*symbol)).collect();
        self.orders.picture(&mine, |tick| burst.push(Tick { event_ns, sequence, ..tick }));
        true
    }
}

/// The record as what it says that it is.
fn get<'a, T: dbn::HasRType<Header = dbn::RecordHeader>>(record: &RecordRef<'a>) -> Result<&'a T> {
    // Not `get`, which panics when the record is too short.
    record.try_get::<T>().map_err(|_| malformed("it is not as long as one of its type is".to_owned()))
}

/// What a kind of record is called.
fn name(kind: u8) -> String {
    dbn::RType::try_from(kind).map_or_else(|_| format!("DBN record {kind:#04x}"), |kind| format!("DBN {kind}"))
}

fn malformed(reason: String) -> Malformed {
    Malformed { kind: String::new(), reason }
}

fn unknown(field: &str, found: u8) -> Malformed {
    malformed(format!("{field} {:?} is unknown", char::from(found)))
}

fn price(billionths: i64) -> Result<Price> {
    if billionths == UNDEF_PRICE {
        return Err(malformed("it has no price".to_owned()));
    }
    Ok(Price::from_billionths(billionths))
}

fn side(side: std::ffi::c_char) -> Result<Side> {
    match side as u8 {
        b'B' => Ok(Side::Buy),
        b'A' => Ok(Side::Sell),
        b'N' => Ok(Side::Unknown),
        found => Err(unknown("side", found)),
    }
}

fn nothing(symbol: SymbolId) -> Tick {
    Tick::order(symbol, 0, Side::Unknown, NOTHING, NOTHING)
}

/// The best bid and offer; a side without a price is empty.
fn quote(symbol: SymbolId, level: &dbn::BidAskPair) -> Tick {
    let side = |price: i64, size: u32| match price {
        UNDEF_PRICE => NOTHING,
        _ => (Price::from_billionths(price), u64::from(size)),
    };
    Tick::quote(symbol, 0, side(level.bid_px, level.bid_sz), side(level.ask_px, level.ask_sz))
}
