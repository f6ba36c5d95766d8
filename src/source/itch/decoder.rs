//! Messages become ticks.

use std::sync::Arc;

use super::reference::content;
use super::wire::{self, Head, Message, WireError};
use crate::message::SymbolId;
use crate::price::Price;
use crate::source::orders::{Order, OrderTable};
use crate::source::{Burst, Decode, FeedCounters, Malformed, Stamp, SymbolSet};
use crate::symbols::Symbols;
use crate::tick::{Side, Tick, flags};

/// How messages are to be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItchConfig {
    /// Midnight of the day, in nanoseconds since the Unix epoch; 0: event times count from midnight.
    pub midnight_ns: u64,
    /// Orders that are remembered at the same time at most. The memory is reserved at once, and becomes real as it is used. A
    /// table of which most stays empty is slower than one of about twice the orders that are live: their neighbours are not in the cache.
    pub orders_max: usize,
    /// What stands before every symbol's name: for two markets that list the same symbols.
    pub prefix: String,
}

impl Default for ItchConfig {
    /// Times since midnight; 7 340 032 orders, which is what fits into 210 MB; no prefix.
    fn default() -> Self {
        Self { midnight_ns: 0, orders_max: 7 << 20, prefix: String::new() }
    }
}

/// No security of this number was named yet.
const UNKNOWN: u32 = u32::MAX;
const LOCATES: usize = 1 << 16;
/// One of the feed's price units in billionths.
const PRICE_4: i64 = 100_000;
const NOTHING: (Price, u64) = (Price::ZERO, 0);

/// Decodes messages, and remembers orders and securities.
#[derive(Debug)]
pub struct ItchDecoder {
    symbols: Arc<Symbols>,
    prefix: String,
    midnight_ns: u64,
    /// Symbol ids by the day's number of a security.
    by_locate: Box<[u32]>,
    orders: OrderTable<u64>,
    /// The symbol of messages about the whole market, when there was one.
    market: Option<SymbolId>,
    /// A session has begun, and books are to be cleared.
    clear_due: bool,
    /// The last message: its time, and where it stood.
    last: At,
}

type Result<T> = std::result::Result<T, Malformed>;

impl ItchDecoder {
    /// A decoder that interns the securities it meets in `symbols`.
    pub fn new(symbols: Arc<Symbols>, config: ItchConfig) -> Self {
        Self {
            symbols,
            prefix: config.prefix,
            midnight_ns: config.midnight_ns,
            by_locate: vec![UNKNOWN; LOCATES].into_boxed_slice(),
            orders: OrderTable::new(config.orders_max),
            market: None,
            clear_due: false,
            last: At { event_ns: 0, stamp: Stamp { sequence: 0, receive_ns: 0 } },
        }
    }

    /// Orders that are in the table.
    pub fn orders(&self) -> usize {
        self.orders.len()
    }

    #[inline]
    fn known(&self, head: &Head) -> Option<SymbolId> {
        let id = self.by_locate[usize::from(head.locate.get())];
        (id != UNKNOWN).then(|| SymbolId::new(id))
    }

    /// The symbol of a message that names it.
    #[inline]
    fn symbol(&mut self, head: &Head, stock: &wire::Stock) -> Result<SymbolId> {
        match self.known(head) {
            Some(symbol) => Ok(symbol),
            None => self.learn(head, stock),
        }
    }

    #[cold]
    fn learn(&mut self, head: &Head, stock: &wire::Stock) -> Result<SymbolId> {
        let symbol = self.intern(head.kind, wire::trimmed(stock))?;
        self.by_locate[usize::from(head.locate.get())] = symbol.get();
        Ok(symbol)
    }

    fn intern(&self, kind: u8, stock: &[u8]) -> Result<SymbolId> {
        let malformed = |reason| Malformed { kind: WireError::kind_of(kind), reason };
        let text = std::str::from_utf8(stock).ok().filter(|text| !text.is_empty() && text.is_ascii());
        let text = text.ok_or_else(|| malformed(format!("{:?} is no symbol", String::from_utf8_lossy(stock))))?;
        self.symbols.intern(&format!("{}{text}", self.prefix)).map_err(|error| malformed(error.to_string()))
    }

    fn market(&mut self, kind: u8) -> Result<SymbolId> {
        match self.market {
            Some(symbol) => Ok(symbol),
            None => Ok(*self.market.insert(self.intern(kind, b"*")?)),
        }
    }

    /// A new order.
    #[inline]
    fn add(&mut self, head: &Head, order: (u64, u8, u32, &wire::Stock, u32), at: At, burst: &mut Burst) -> Result<()> {
        let (reference, side, shares, stock, price) = order;
        let side = match side {
            b'B' => Side::Buy,
            b'S' => Side::Sell,
            found => return Err(WireError::Field { kind: head.kind, field: "side (B, S)", found }.into()),
        };
        let symbol = self.symbol(head, stock)?;
        let order = Order::new(symbol, side, price_4(price), shares);
        let flags = self.orders.track(reference, order);
        at.push(burst, Tick { flags, ..Tick::order(symbol, 0, side, (order.price, shares.into()), NOTHING) });
        Ok(())
    }

    /// What an order loses without a trade.
    #[inline]
    fn lose(&mut self, head: &Head, reference: u64, shares: u32, at: At, burst: &mut Burst) {
        let Some((order, gone)) = self.orders.reduce(reference, shares) else {
            return self.unknown_order(head, at, burst);
        };
        let lost = u64::from(order.size.min(shares));
        let flags = if gone { flags::ORDER_DONE } else { 0 };
        at.push(burst, Tick { flags, ..Tick::order(order.symbol(), 0, order.side(), NOTHING, (order.price, lost)) });
    }

    #[inline]
    fn replace(&mut self, message: &wire::OrderReplace, at: At, burst: &mut Burst) {
        let Some(old) = self.orders.remove(message.old_reference.get()) else {
            return self.unknown_order(&message.head, at, burst);
        };
        let (side, shares) = (old.side(), message.shares.get());
        let new = Order::new(old.symbol(), side, price_4(message.price.get()), shares);
        let flags = flags::ORDER_DONE | self.orders.track(message.new_reference.get(), new);
        let (gained, lost) = ((new.price, shares.into()), (old.price, old.size.into()));
        at.push(burst, Tick { flags, ..Tick::order(old.symbol(), 0, side, gained, lost) });
    }

    /// An execution; `told` is its price, and its flags, where the message tells them.
    #[inline]
    fn execute(&mut self, head: &Head, order: (u64, u32, u64), told: Option<(u32, u16)>, at: At, burst: &mut Burst) {
        let (reference, shares, match_number) = order;
        let told_flags = told.map_or(0, |(_, flags)| flags);
        let Some((order, gone)) = self.orders.reduce(reference, shares) else {
            let Some((price, symbol)) = told.map(|(price, _)| price).zip(self.known(head)) else {
                return self.unknown_order(head, at, burst);
            };
            // With its price the trade can be told of all the same.
            self.orders.unresolved += 1;
            let flags = flags::INCOMPLETE | told_flags;
            let trade = Tick::trade(symbol, 0, price_4(price), shares.into());
            return at.push(burst, Tick { ask_size: match_number, flags, ..trade });
        };
        let price = told.map_or(order.price, |(price, _)| price_4(price));
        let side = if order.side() == Side::Buy { Side::Sell } else { Side::Buy };
        let flags = flags::FROM_BOOK | told_flags | if gone { flags::ORDER_DONE } else { 0 };
        let trade = Tick::trade(order.symbol(), 0, price, shares.into());
        at.push(burst, Tick { ask_price: order.price, ask_size: match_number, side, flags, ..trade });
    }

    /// A message about an order that is not in the table.
    #[cold]
    fn unknown_order(&mut self, head: &Head, at: At, burst: &mut Burst) {
        self.orders.unresolved += 1;
        let Some(symbol) = self.known(head) else { return };
        at.push(burst, Tick { flags: flags::INCOMPLETE, ..Tick::order(symbol, 0, Side::Unknown, NOTHING, NOTHING) });
    }

    fn trade_break(&mut self, message: &wire::BrokenTrade, at: At, burst: &mut Burst) {
        let Some(symbol) = self.known(&message.head) else {
            self.orders.unresolved += 1;
            return;
        };
        at.push(burst, Tick::trade_break(symbol, 0, message.match_number.get()));
    }

    fn cross(&mut self, message: &wire::CrossTrade, at: At, burst: &mut Burst) -> Result<()> {
        let symbol = self.symbol(&message.head, &message.stock)?;
        let (shares, ask_size) = (message.shares.get(), message.match_number.get());
        if shares == 0 {
            let flags = u16::from(message.head.kind);
            at.push(burst, Tick { ask_size, flags, ..Tick::reference(symbol, 0) });
        } else {
            let trade = Tick::trade(symbol, 0, price_4(message.price.get()), shares);
            at.push(burst, Tick { ask_size, flags: flags::CROSS, ..trade });
        }
        Ok(())
    }

    /// The symbols that have a number, ascending.
    fn symbols_known(&self) -> Vec<SymbolId> {
        let known = self.by_locate.iter().filter(|id| **id != UNKNOWN);
        let mut symbols: Vec<_> = known.map(|id| SymbolId::new(*id)).collect();
        symbols.sort_unstable();
        symbols.dedup();
        symbols
    }

    /// Says that all books are empty, once, after a session or a day has begun.
    #[cold]
    fn clear_books(&mut self, at: At, burst: &mut Burst) {
        self.clear_due = false;
        for symbol in self.symbols_known() {
            let tick = Tick::order(symbol, 0, Side::Unknown, NOTHING, NOTHING);
            at.push(burst, Tick { flags: flags::CLEAR, ..tick });
        }
        // The numbers of securities are the day's.
        self.by_locate.fill(UNKNOWN);
    }

    /// Administrative messages.
    #[inline(never)]
    fn reference(&mut self, message: &Message<'_>, at: At, burst: &mut Burst) -> Result<()> {
        let head = message.head();
        let stock = match message {
            Message::StockDirectory(m) => {
                // A directory message gives the number its symbol, whatever it was before.
                self.learn(head, &m.stock)?;
                &m.stock
            }
            Message::TradingAction(m) => &m.stock,
            Message::RegSho(m) => &m.stock,
            Message::ParticipantPosition(m) => &m.stock,
            Message::IpoQuoting(m) => &m.stock,
            Message::LuldCollar(m) => &m.stock,
            Message::OperationalHalt(m) => &m.stock,
            Message::Imbalance(m) => &m.stock,
            Message::RetailInterest(m) => &m.stock,
            Message::DirectListing(m) => &m.stock,
            _ => {
                let symbol = self.market(head.kind)?;
                at.push(burst, Tick { symbol, flags: u16::from(head.kind), ..content(message) });
                return Ok(());
            }
        };
        let symbol = self.symbol(head, stock)?;
        at.push(burst, Tick { symbol, flags: u16::from(head.kind), ..content(message) });
        Ok(())
    }
}

/// When a message is of, and where it stands.
#[derive(Clone, Copy, Debug)]
struct At {
    event_ns: u64,
    stamp: Stamp,
}

impl At {
    /// Adds a tick that is of then and there. Each is made in its place: copied once more, it would cost as much again.
    #[inline]
    fn push(self, burst: &mut Burst, tick: Tick) {
        let Stamp { sequence, receive_ns } = self.stamp;
        burst.push(Tick { event_ns: self.event_ns, sequence, receive_ns, ..tick });
    }
}

#[inline]
pub(super) fn price_4(units: u32) -> Price {
    Price::from_billionths(i64::from(units) * PRICE_4)
}

impl From<WireError> for Malformed {
    fn from(error: WireError) -> Self {
        Self { kind: error.kind(), reason: error.to_string() }
    }
}

impl Decode for ItchDecoder {
    #[inline]
    fn decode(&mut self, message: &[u8], stamp: Stamp, burst: &mut Burst) -> Result<()> {
        let message = Message::parse(message)?;
        let at = At { event_ns: self.midnight_ns.saturating_add(message.head().time_ns()), stamp };
        if self.clear_due {
            self.clear_books(at, burst);
        }
        self.last = at;
        match &message {
            Message::AddOrder(m) => {
                let order = (m.reference.get(), m.side, m.shares.get(), &m.stock, m.price.get());
                self.add(&m.head, order, at, burst)?;
            }
            Message::AddOrderMpid(m) => {
                let order = (m.reference.get(), m.side, m.shares.get(), &m.stock, m.price.get());
                self.add(&m.head, order, at, burst)?;
            }
            Message::OrderDelete(m) => self.lose(&m.head, m.reference.get(), u32::MAX, at, burst),
            Message::OrderCancel(m) => self.lose(&m.head, m.reference.get(), m.shares.get(), at, burst),
            Message::OrderReplace(m) => self.replace(m, at, burst),
            Message::OrderExecuted(m) => {
                let order = (m.reference.get(), m.shares.get(), m.match_number.get());
                self.execute(&m.head, order, None, at, burst);
            }
            Message::OrderExecutedAt(m) => {
                let not_printable = match m.printable {
                    b'Y' => 0,
                    b'N' => flags::NOT_PRINTABLE,
                    found => {
                        return Err(WireError::Field { kind: m.head.kind, field: "printable (Y, N)", found }.into());
                    }
                };
                let order = (m.reference.get(), m.shares.get(), m.match_number.get());
                self.execute(&m.head, order, Some((m.price.get(), not_printable)), at, burst);
            }
            Message::Trade(m) => {
                let symbol = self.symbol(&m.head, &m.stock)?;
                let trade = Tick::trade(symbol, 0, price_4(m.price.get()), m.shares.get().into());
                at.push(burst, Tick { ask_size: m.match_number.get(), flags: flags::HIDDEN, ..trade });
            }
            Message::CrossTrade(m) => self.cross(m, at, burst)?,
            Message::BrokenTrade(m) => self.trade_break(m, at, burst),
            Message::SystemEvent(m) if m.event == b'O' => {
                self.begin_session();
                self.clear_books(at, burst);
                self.reference(&message, at, burst)?;
            }
            _ => self.reference(&message, at, burst)?,
        }
        Ok(())
    }

    fn note_gap(&mut self) {
        self.orders.note_gap();
    }

    fn snapshot(&mut self, symbols: &SymbolSet, burst: &mut Burst) -> bool {
        if self.orders.is_wrong() {
            return false;
        }
        let at = self.last;
        // Other symbols are another feed's.
        let mine: Vec<_> = self.symbols_known().into_iter().filter(|symbol| symbols.contains(*symbol)).collect();
        self.orders.picture(&mine, |tick| at.push(burst, tick));
        true
    }

    fn begin_session(&mut self) {
        self.orders.clear();
        self.clear_due = true;
    }

    fn memory_bytes(&self) -> u64 {
        self.orders.memory_bytes() + (LOCATES * size_of::<u32>()) as u64
    }

    fn count(&mut self, counters: &FeedCounters) {
        self.orders.count(counters);
    }
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
