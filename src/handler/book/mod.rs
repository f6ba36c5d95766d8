//! Price-level books from orders, executions and quotes, and what changes at their top.

mod bbo;
mod counters;
mod levels;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Context, Handler};
use crate::message::SymbolId;
use crate::price::Price;
use crate::source::SymbolSet;
use crate::tick::{Side, Tick, TickKind, flags};

pub use bbo::{Bbo, BboFormat, write_bbo};
pub use counters::{BookCounters, BookCounts};
pub use levels::Level;
use levels::Levels;

/// Keeps a book of price levels for each symbol, and hands every change of a best bid or offer to `tell`.
///
/// Books are made of [`Order`](TickKind::Order) ticks and of trades [against displayed orders](flags::FROM_BOOK); a
/// [`Quote`](TickKind::Quote) is a book of one level a side.
///
/// A symbol that has lost messages is *stale*: from the last message before the hole, until its book is cleared or shown anew as a
/// [picture](flags::SNAPSHOT), or a quote has come, which tells everything. In the meantime what comes is applied as far as it goes, and each
/// [`Bbo`] says that it is stale. A hole in the feed, of which nobody knows the symbols, makes all books stale. So does a message that the feed could not
/// [resolve](flags::INCOMPLETE), and one that takes what is not there, for its symbol.
///
/// With [`rebuilding`](Self::rebuilding), stale symbols are told to a [`Rebuild`](crate::source::Rebuild) of their feed.
///
/// `tell` runs on the worker, as part of its work for the message: it should be short.
pub struct BookHandler<T> {
    tell: T,
    /// By symbol id.
    books: Vec<Book>,
    rebuild: Option<Arc<SymbolSet>>,
    counters: Arc<BookCounters>,
    /// The latest event time so far.
    now_ns: u64,
    /// Stale time of books that are fresh again; and of those that are not, how many, and the sum of the times since when.
    closed_ns: u64,
    open: (u64, u128),
    messages: u64,
}

/// After so many messages, counts are brought up to date.
const COUNT_EVERY: u64 = 1024;

/// The book of a symbol.
#[derive(Clone, Debug, Default)]
pub struct Book {
    bids: Levels,
    asks: Levels,
    state: State,
    /// Event time of the symbol's last message.
    last_ns: u64,
    stale_ns: u64,
    told: Option<Bbo>,
}

/// Whether a book can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing was heard of the symbol.
    #[default]
    None,
    Fresh,
    Stale {
        since_ns: u64,
    },
    /// A picture is being shown.
    Rebuilding {
        since_ns: u64,
    },
}

impl Book {
    /// The levels of a side, from the best: bids for [`Side::Buy`], else asks.
    pub fn levels(&self, side: Side) -> impl ExactSizeIterator<Item = &Level> {
        self.side(side).iter()
    }

    /// The best level of a side.
    pub fn best(&self, side: Side) -> Option<&Level> {
        self.side(side).best()
    }

    /// Whether messages are missing, and what is in the book is a guess.
    pub fn is_stale(&self) -> bool {
        self.stale_since().is_some()
    }

    /// For how long it was stale, in nanoseconds of event time; while it is stale, up to when it became so for the last time.
    pub fn stale_ns(&self) -> u64 {
        self.stale_ns
    }

    fn stale_since(&self) -> Option<u64> {
        match self.state {
            State::None | State::Fresh => None,
            State::Stale { since_ns } | State::Rebuilding { since_ns } => Some(since_ns),
        }
    }

    fn side(&self, side: Side) -> &Levels {
        if side == Side::Buy { &self.bids } else { &self.asks }
    }

    fn side_mut(&mut self, side: Side) -> &mut Levels {
        if side == Side::Buy { &mut self.bids } else { &mut self.asks }
    }

    /// Applies a message; `false` if it takes what is not there, or there is no room for it.
    #[inline]
    fn apply(&mut self, tick: &Tick) -> bool {
        let is_gone = tick.has(flags::ORDER_DONE);
        match tick.kind {
            TickKind::Order => {
                let side = self.side_mut(tick.side);
                let fits = tick.ask_size == 0 || side.lose(tick.side, tick.ask_price, tick.ask_size, is_gone);
                let has_room = tick.size == 0 || side.gain(tick.side, tick.price, tick.size);
                fits && has_room
            }
            TickKind::Trade if tick.has(flags::FROM_BOOK) => {
                let side = if tick.side == Side::Buy { Side::Sell } else { Side::Buy };
                self.side_mut(side).lose(side, tick.ask_price, tick.size, is_gone)
            }
            TickKind::Quote => {
                let there = |price: Price, size| if price == Price::ZERO { 0 } else { size };
                self.bids.set(tick.price, there(tick.price, tick.size));
                self.asks.set(tick.ask_price, there(tick.ask_price, tick.ask_size));
                true
            }
            _ => true,
        }
    }
}

impl<T: FnMut(&Bbo) + Send + 'static> BookHandler<T> {
    /// A handler without books.
    pub fn new(tell: T) -> Self {
        Self {
            tell,
            books: Vec::new(),
            rebuild: None,
            counters: Arc::default(),
            now_ns: 0,
            closed_ns: 0,
            open: (0, 0),
            messages: 0,
        }
    }

    /// Keeps stale symbols in this set, for a [`Rebuild`](crate::source::Rebuild).
    #[must_use]
    pub fn rebuilding(mut self, stale: Arc<SymbolSet>) -> Self {
        self.rebuild = Some(stale);
        self
    }

    /// Counts here.
    #[must_use]
    pub fn counting(mut self, counters: Arc<BookCounters>) -> Self {
        self.counters = counters;
        self
    }

    /// What it counts.
    pub fn counters(&self) -> &Arc<BookCounters> {
        &self.counters
    }

    /// The book of a symbol, if there is one.
    pub fn book(&self, symbol: SymbolId) -> Option<&Book> {
        self.books.get(symbol.index()).filter(|book| book.state != State::None)
    }

    /// All books, ascending by symbol id.
    pub fn books(&self) -> impl Iterator<Item = (SymbolId, &Book)> {
        let numbered = self.books.iter().enumerate();
        numbered.filter(|(_, book)| book.state != State::None).map(|(id, book)| (SymbolId::new(id as u32), book))
    }

    #[inline]
    fn make(&mut self, symbol: SymbolId) -> &mut Book {
        if symbol.index() >= self.books.len() {
            self.books.resize_with(symbol.index() + 1, Book::default);
        }
        let book = &mut self.books[symbol.index()];
        if book.state == State::None {
            book.state = State::Fresh;
            let books = self.counters.books.load(Ordering::Relaxed);
            self.counters.books.store(books + 1, Ordering::Relaxed);
        }
        book
    }

    /// The symbol has lost messages.
    #[cold]
    fn lose_trust(&mut self, symbol: SymbolId) {
        let now_ns = self.now_ns;
        let book = self.make(symbol);
        let since_ns = book.stale_since();
        let begins = since_ns.is_none();
        let since_ns = since_ns.unwrap_or(if book.last_ns == 0 { now_ns } else { book.last_ns });
        book.state = State::Stale { since_ns };
        if begins {
            self.open = (self.open.0 + 1, self.open.1 + u128::from(since_ns));
            if let Some(rebuild) = &self.rebuild {
                rebuild.insert(symbol);
            }
            self.count();
        }
    }

    /// The book is right again.
    #[cold]
    fn regain_trust(&mut self, symbol: SymbolId) {
        let now_ns = self.now_ns;
        let book = self.make(symbol);
        let Some(since_ns) = book.stale_since() else { return };
        let stale_ns = now_ns.saturating_sub(since_ns);
        book.stale_ns += stale_ns;
        book.state = State::Fresh;
        self.closed_ns += stale_ns;
        self.open = (self.open.0 - 1, self.open.1 - u128::from(since_ns));
        if let Some(rebuild) = &self.rebuild {
            rebuild.remove(symbol);
        }
        self.count();
    }

    /// What a message says about the trust in its symbol's book, before it is applied.
    #[cold]
    fn heed(&mut self, tick: &Tick) {
        if tick.has(flags::CLEAR) {
            let book = self.make(tick.symbol);
            book.bids.clear();
            book.asks.clear();
            match (book.stale_since(), tick.has(flags::SNAPSHOT)) {
                (Some(since_ns), true) => book.state = State::Rebuilding { since_ns },
                (Some(_), false) => self.regain_trust(tick.symbol),
                // A picture of a book that is right: nothing is wrong with looking at it.
                (None, _) => {}
            }
        }
        if tick.has(flags::INCOMPLETE) {
            self.lose_trust(tick.symbol);
        }
    }

    /// Hands over the best prices if they have changed.
    #[inline]
    fn tell(&mut self, tick: &Tick) {
        let book = &mut self.books[tick.symbol.index()];
        if tick.has(flags::SNAPSHOT) && !tick.has(flags::SNAPSHOT_END) {
            return;
        }
        let of = |level: Option<&Level>| level.map_or((Price::ZERO, 0), |level| (level.price, level.size));
        let now = Bbo {
            symbol: tick.symbol,
            event_ns: tick.event_ns,
            sequence: tick.sequence,
            bid: of(book.bids.best()),
            ask: of(book.asks.best()),
            stale: book.is_stale(),
        };
        let same = |told: &Bbo| (told.bid, told.ask, told.stale) == (now.bid, now.ask, now.stale);
        let is_empty = now.bid.1 == 0 && now.ask.1 == 0 && !now.stale;
        if book.told.as_ref().map_or(is_empty, same) {
            return;
        }
        book.told = Some(now);
        let changes = self.counters.bbo_changes.load(Ordering::Relaxed);
        self.counters.bbo_changes.store(changes + 1, Ordering::Relaxed);
        (self.tell)(&now);
    }

    /// Brings the counts up to date.
    fn count(&mut self) {
        let (open, since) = self.open;
        let open_ns = (u128::from(open) * u128::from(self.now_ns)).saturating_sub(since);
        let stale_ns = u64::try_from(open_ns).unwrap_or(u64::MAX).saturating_add(self.closed_ns);
        self.counters.stale.store(open, Ordering::Relaxed);
        // Time that was counted stays so, even if the clock of another feed is behind.
        self.counters.stale_ns.fetch_max(stale_ns, Ordering::Relaxed);
    }
}

/// Bits that say something about the trust in a book.
const ABOUT_TRUST: u16 = flags::CLEAR | flags::INCOMPLETE | flags::SNAPSHOT_END;

impl<T: FnMut(&Bbo) + Send + 'static> Handler<Tick> for BookHandler<T> {
    #[inline]
    fn process(&mut self, tick: &Tick, _: &Context) {
        self.apply(tick);
    }

    fn on_gap(&mut self, symbol: SymbolId, _missed: u64) {
        self.lose_trust(symbol);
    }

    fn on_feed_gap(&mut self, _missed: u64) {
        let symbols: Vec<_> = self.books().map(|(symbol, _)| symbol).collect();
        symbols.into_iter().for_each(|symbol| self.lose_trust(symbol));
    }
}

impl<T: FnMut(&Bbo) + Send + 'static> BookHandler<T> {
    /// Applies a message to its symbol's book: what [`process`](Handler::process) does, for who has no pipeline.
    #[inline]
    pub fn apply(&mut self, tick: &Tick) {
        self.messages += 1;
        if self.messages.is_multiple_of(COUNT_EVERY) {
            self.count();
        }
        let is_about_books = match tick.kind {
            TickKind::Order | TickKind::Quote => true,
            TickKind::Trade => tick.flags & (flags::FROM_BOOK | flags::INCOMPLETE) != 0,
            _ => false,
        };
        if !is_about_books {
            return;
        }
        self.now_ns = self.now_ns.max(tick.event_ns);
        if tick.flags & ABOUT_TRUST != 0 {
            self.heed(tick);
        }
        let book = self.make(tick.symbol);
        let fits = book.apply(tick);
        let is_stale = book.is_stale();
        if !fits && !is_stale {
            let unmatched = self.counters.unmatched.load(Ordering::Relaxed);
            self.counters.unmatched.store(unmatched + 1, Ordering::Relaxed);
            self.lose_trust(tick.symbol);
        }
        let is_whole = tick.kind == TickKind::Quote || tick.has(flags::SNAPSHOT_END);
        if is_stale && is_whole && !tick.has(flags::INCOMPLETE) {
            self.see_whole(tick);
        }
        let last_ns = &mut self.books[tick.symbol.index()].last_ns;
        *last_ns = tick.event_ns.max(*last_ns);
        self.tell(tick);
    }

    /// A message that tells all there is: a quote, or the end of a picture, if nothing of the picture was lost.
    #[cold]
    fn see_whole(&mut self, tick: &Tick) {
        let state = self.books[tick.symbol.index()].state;
        if tick.kind == TickKind::Quote || matches!(state, State::Rebuilding { .. }) {
            self.regain_trust(tick.symbol);
        }
    }
}

impl<T> std::fmt::Debug for BookHandler<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BookHandler").field("books", &self.books.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
