//! A market that never was: a trading day of NASDAQ TotalView-ITCH 5.0 messages, the same for the same seed.
//!
//! For tests, demonstrations and measurements: `plimsoll gen` writes it to files and sends it as packets. Symbols are drawn by Zipf's
//! law, the most traded ones being those of the default tiers; the day has an opening burst, a quiet midday, a rise to the
//! close, and, if wanted, a minute in which the market crashes. Every message of the specification occurs. Orders make sense:
//! what is executed, cancelled or replaced is there, and no book is ever crossed.
//!
//! [`Market`] keeps what is true of each symbol at the end, so that a test can compare: [`Market::truth`].

mod capture;
mod encode;
mod impair;
mod itch_file;
mod packets;
mod rows;
mod schedule;
mod send;
mod stock;

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

use crate::symbols::SymbolTiers;
use encode::Encoder;
use schedule::{Schedule, at};
use stock::{Live, ORDERS_MAX, Stock};

pub use capture::{CapturedDay, write_pcap};
pub use impair::{Impairment, Impairments};
pub use itch_file::write_itch;
pub use packets::Packets;
pub use rows::write_rows;
pub use send::{SendConfig, Sent, send_udp};

/// A market's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct MarketConfig {
    /// The same seed, the same bytes.
    pub seed: u64,
    /// Messages of the day in all, those of its frame included, which are 9 for each symbol and 15.
    pub messages: u64,
    /// Symbols: 1 to 65 535.
    pub symbols: usize,
    /// Zipf's exponent: the n-th symbol has a share of 1 ÷ nˢ of the messages.
    pub zipf_exponent: f64,
    /// Whether prices fall and messages come in a flood for a minute at 14:45.
    pub flash_crash: bool,
}

impl Default for MarketConfig {
    /// A million messages of 500 symbols, exponent 1, no crash.
    fn default() -> Self {
        Self { seed: 1, messages: 1_000_000, symbols: 500, zipf_exponent: 1.0, flash_crash: false }
    }
}

/// Messages of the day's frame: for each symbol, and besides.
const FRAME: (u64, u64) = (9, 15);

impl MarketConfig {
    /// Messages of the day's frame alone.
    pub fn frame_messages(&self) -> u64 {
        FRAME.0 * self.symbols as u64 + FRAME.1
    }

    /// What is wrong with it.
    ///
    /// # Errors
    /// Text that names the setting, its value, and its range.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=65_535).contains(&self.symbols) {
            return Err(format!("symbols = {} is out of range: 1 to 65535", self.symbols));
        }
        if !(0.0..=10.0).contains(&self.zipf_exponent) {
            return Err(format!("zipf_exponent = {} is out of range: 0 to 10", self.zipf_exponent));
        }
        if self.messages < self.frame_messages() {
            let (least, symbols) = (self.frame_messages(), self.symbols);
            return Err(format!(
                "messages = {} are too few: the frame of a day of {symbols} symbols takes {least}",
                self.messages
            ));
        }
        Ok(())
    }
}

/// What is true of a symbol when the messages so far have been applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// The symbol.
    pub symbol: String,
    /// Best bid.
    pub bid: Option<Best>,
    /// Best offer.
    pub ask: Option<Best>,
    /// Shares of printable trades.
    pub volume: u64,
    /// Printable trades.
    pub trades: u64,
    /// Σ price × shares of printable trades, in cents.
    pub turnover_cents: u128,
    /// Live orders.
    pub orders: usize,
}

/// A best price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Best {
    /// The price, in cents.
    pub cents: u32,
    /// Shares at it.
    pub shares: u64,
}

/// A trading day, message by message.
#[derive(Debug)]
pub struct Market {
    random: Random,
    schedule: Schedule,
    stocks: Vec<Stock>,
    /// Σ of the symbols' shares so far, of 2³².
    shares: Vec<u32>,
    encoder: Encoder,
    /// Messages of the day's frame, the next one last.
    frame: Vec<Framed>,
    /// Order flow: messages so far, and in all.
    flow: u64,
    flow_total: u64,
    time_ns: u64,
    reference: u64,
    match_number: u64,
}

/// A message of the day's frame: when, of which symbol (its place), and what.
type Framed = (u64, usize, u8);

/// So many of a symbol's orders are new.
const NEWEST: u32 = 8;

/// Places for system events in [`Framed`].
const MARKET: usize = usize::MAX;

impl Market {
    /// A day.
    ///
    /// # Errors
    /// As [`MarketConfig::check`].
    pub fn new(config: &MarketConfig) -> Result<Self, String> {
        config.check()?;
        let mut random = Random(Pcg64Mcg::seed_from_u64(config.seed));
        let stock = |(i, name): (usize, String)| Stock::new(i as u16 + 1, &name, 1_000 + random.below(40_000));
        let stocks: Vec<_> = names(config.symbols).enumerate().map(stock).collect();
        let flow_total = config.messages - config.frame_messages();
        Ok(Self {
            random,
            schedule: Schedule::new(flow_total, config.flash_crash),
            shares: zipf(config.symbols, config.zipf_exponent),
            encoder: Encoder::new(),
            frame: frame(stocks.len()),
            stocks,
            flow: 0,
            flow_total,
            time_ns: 0,
            reference: 0,
            match_number: 0,
        })
    }

    /// The next message; `None` when the day is over.
    pub fn next_message(&mut self) -> Option<&[u8]> {
        let due = (self.flow < self.flow_total).then(|| self.schedule.time_ns(self.flow));
        match (self.frame.last().copied(), due) {
            (Some((time_ns, place, kind)), due) if due.is_none_or(|due| time_ns <= due) => {
                self.frame.pop();
                self.time_ns = self.time_ns.max(time_ns);
                self.framed(place, kind);
            }
            (_, Some(due)) => {
                self.flow += 1;
                // Some come together, a fraction of a microsecond apart.
                let together = self.random.below(4) > 0;
                self.time_ns = self.time_ns.max(if together { 0 } else { due }) + u64::from(self.random.below(300));
                self.flow();
            }
            (_, None) => return None,
        }
        Some(self.encoder.bytes())
    }

    /// When the last message was, in nanoseconds since midnight.
    pub fn time_ns(&self) -> u64 {
        self.time_ns
    }

    /// Orders that are live at the same time at most.
    pub fn orders_max(&self) -> usize {
        self.stocks.len() * ORDERS_MAX
    }

    /// What is true of each symbol by now.
    pub fn truth(&self) -> Vec<Truth> {
        self.stocks.iter().map(Stock::truth).collect()
    }

    /// A message of the frame.
    fn framed(&mut self, place: usize, kind: u8) {
        let time_ns = self.time_ns;
        let Some(stock) = self.stocks.get_mut(place) else {
            let message = self.encoder.begin(if b"VW".contains(&kind) { kind } else { b'S' }, 0, time_ns);
            match kind {
                b'V' => message.u64(93_000_000_000).u64(87_000_000_000).u64(80_000_000_000),
                b'W' => message.u8(b'1'),
                event => message.u8(event),
            };
            return;
        };
        let cents = stock.mid;
        let message = self.encoder.begin(if kind == b'q' { b'Q' } else { kind }, stock.locate, time_ns);
        match kind {
            b'R' => message.text(&stock.name).text(b"QN").u32(100).text(b"NCZ P N1N").u32(0).u8(b'N'),
            b'H' => message.text(&stock.name).text(b"T     "),
            b'Y' => message.text(&stock.name).u8(b'0'),
            b'L' => message.text(b"GSCO").text(&stock.name).text(b"YNA"),
            b'I' => {
                let message = message.u64(40_000).u64(1_200).u8(b'B').text(&stock.name);
                message.u32(cents * 100).u32(cents * 100).u32(cents * 100).text(b"OL")
            }
            b'Q' | b'q' => {
                self.match_number += 1;
                // A fifth of the symbols' auctions ends without a trade.
                let shares = if place % 5 == 4 { 0 } else { 100 * u64::from(1 + self.random.below(500)) };
                if shares > 0 {
                    stock.print(cents, shares);
                }
                let cross = if kind == b'Q' { b'O' } else { b'C' };
                let message = message.u64(shares).text(&stock.name).u32(if shares > 0 { cents * 100 } else { 0 });
                message.u64(self.match_number).u8(cross)
            }
            b'N' => message.text(&stock.name).u8(b'A'),
            b'K' => message.text(&stock.name).u32(34_200).u8(b'A').u32(cents * 100),
            b'J' => message.text(&stock.name).u32(cents * 100).u32(cents * 105).u32(cents * 95).u32(0),
            b'h' => message.text(&stock.name).text(b"QH"),
            _ => {
                let message = message.text(&stock.name).u8(b'Y').u32(cents * 90).u32(cents * 110);
                message.u32(cents * 100).u64(time_ns).u32(cents * 95).u32(cents * 105)
            }
        };
    }

    /// A message of the order flow.
    fn flow(&mut self) {
        let drawn = self.random.next();
        let place = self.shares.partition_point(|share| *share < drawn);
        let place = place.min(self.stocks.len() - 1);
        let is_crash = self.schedule.is_crash(self.time_ns);
        let stock = &mut self.stocks[place];
        match self.random.below(40) {
            0 => stock.mid = (stock.mid - 1).max(2),
            1 if !is_crash => stock.mid += 1,
            2..=9 if is_crash => stock.mid = (stock.mid - stock.mid / 500).max(2),
            _ => {}
        }
        let (orders, part) = (stock.orders.len(), self.random.below(1000));
        match if is_crash { part.max(250) } else { part } {
            0..450 if orders < ORDERS_MAX => self.add(place),
            450..830 if orders > 0 => self.delete(place),
            830..890 if orders > 0 => self.replace(place),
            890..945 if orders > 0 => self.execute(place),
            945..975 if orders > 0 => self.cancel(place),
            975..998 => self.hidden_trade(place),
            998 => self.break_trade(place),
            999 => self.imbalance(place),
            _ if orders < ORDERS_MAX => self.add(place),
            _ => self.delete(place),
        }
    }

    fn next_reference(&mut self) -> u64 {
        self.reference += 1 + u64::from(self.random.below(5));
        self.reference
    }

    /// Shares of an order: often round lots.
    fn next_shares(&mut self) -> u32 {
        if self.random.below(4) > 0 { 100 * (1 + self.random.below(10)) } else { 1 + self.random.below(999) }
    }

    /// Cents from the middle: the farther, the rarer.
    fn next_distance(&mut self) -> u32 {
        let depth = 1 << self.random.below(7);
        self.random.below(depth)
    }

    fn add(&mut self, place: usize) {
        let (reference, shares, distance) = (self.next_reference(), self.next_shares(), self.next_distance());
        let (buys, attributed) = (self.random.below(2) == 0, self.random.below(10) == 0);
        let stock = &mut self.stocks[place];
        let cents = stock.passive(buys, distance);
        stock.orders.push(Live { reference, buys, cents, shares });
        let message = self.encoder.begin(if attributed { b'F' } else { b'A' }, stock.locate, self.time_ns);
        let message = message.u64(reference).u8(if buys { b'B' } else { b'S' }).u32(shares).text(&stock.name);
        message.u32(cents * 100);
        if attributed {
            message.text(b"GSCO");
        }
    }

    /// One of a symbol's orders, by its place: mostly one of the newest, as most orders live briefly.
    fn pick(&mut self, place: usize) -> usize {
        let orders = self.stocks[place].orders.len() as u32;
        let among = if self.random.below(4) == 0 { orders } else { orders.min(NEWEST) };
        (orders - 1 - self.random.below(among)) as usize
    }

    fn delete(&mut self, place: usize) {
        let at = self.pick(place);
        let stock = &mut self.stocks[place];
        let order = stock.orders.remove(at);
        self.encoder.begin(b'D', stock.locate, self.time_ns).u64(order.reference);
    }

    fn replace(&mut self, place: usize) {
        let (at, reference) = (self.pick(place), self.next_reference());
        let (shares, distance) = (self.next_shares(), self.next_distance());
        let stock = &mut self.stocks[place];
        let old = stock.orders.remove(at);
        let cents = stock.passive(old.buys, distance);
        stock.orders.push(Live { reference, cents, shares, ..old });
        let message = self.encoder.begin(b'U', stock.locate, self.time_ns);
        message.u64(old.reference).u64(reference).u32(shares).u32(cents * 100);
    }

    fn cancel(&mut self, place: usize) {
        let at = self.pick(place);
        let order = self.stocks[place].orders[at];
        if order.shares == 1 {
            return self.delete(place);
        }
        let shares = 1 + self.random.below(order.shares - 1);
        let stock = &mut self.stocks[place];
        stock.reduce(at, shares);
        self.encoder.begin(b'X', stock.locate, self.time_ns).u64(order.reference).u32(shares);
    }

    /// An execution of the order at the front, of one side or the other; now and then at another price, or not printable.
    fn execute(&mut self, place: usize) {
        let (buys, at_other_price) = (self.random.below(2) == 0, self.random.below(5) == 0);
        let is_printable = !at_other_price || self.random.below(3) > 0;
        self.match_number += 1;
        let stock = &mut self.stocks[place];
        let Some(at) = stock.front(buys).or_else(|| stock.front(!buys)) else { return };
        let order = stock.orders[at];
        let shares = if self.random.below(2) == 0 { order.shares } else { 1 + self.random.below(order.shares) };
        let cents = if at_other_price { order.cents + 1 } else { order.cents };
        stock.reduce(at, shares);
        stock.last_trade = Some(self.match_number);
        if is_printable {
            stock.print(cents, shares.into());
        }
        let kind = if at_other_price { b'C' } else { b'E' };
        let message = self.encoder.begin(kind, stock.locate, self.time_ns);
        let message = message.u64(order.reference).u32(shares).u64(self.match_number);
        if at_other_price {
            message.u8(if is_printable { b'Y' } else { b'N' }).u32(cents * 100);
        }
    }

    fn hidden_trade(&mut self, place: usize) {
        self.match_number += 1;
        let shares = self.next_shares();
        let stock = &mut self.stocks[place];
        stock.last_trade = Some(self.match_number);
        stock.print(stock.mid, shares.into());
        let message = self.encoder.begin(b'P', stock.locate, self.time_ns).u64(0).u8(b'B').u32(shares);
        message.text(&stock.name).u32(stock.mid * 100).u64(self.match_number);
    }

    fn break_trade(&mut self, place: usize) {
        let stock = &self.stocks[place];
        let Some(id) = stock.last_trade else { return self.hidden_trade(place) };
        self.encoder.begin(b'B', stock.locate, self.time_ns).u64(id);
    }

    fn imbalance(&mut self, place: usize) {
        self.framed(place, b'I');
    }
}

/// The frame of a day, the last message first: what every symbol has, and what the market has.
fn frame(symbols: usize) -> Vec<Framed> {
    let each = |time, kind| (0..symbols).map(move |place| (time, place, kind));
    let mut frame = vec![(at(3, 0), MARKET, b'O')];
    for kind in *b"RHYL" {
        frame.extend(each(at(3, 5), kind));
    }
    frame.extend([(at(4, 0), MARKET, b'S'), (at(4, 0), MARKET, b'V')]);
    frame.extend([(at(4, 1), 0, b'K'), (at(4, 1), 0, b'h'), (at(4, 2), 0, b'O')]);
    frame.extend(each(at(9, 28), b'I'));
    frame.push((at(9, 30), MARKET, b'Q'));
    frame.extend(each(at(9, 30), b'Q'));
    frame.extend(each(at(10, 0), b'N'));
    frame.extend([(at(11, 0), 0, b'J'), (at(11, 0), 0, b'J'), (at(11, 5), 0, b'h'), (at(14, 46), MARKET, b'W')]);
    frame.extend(each(at(15, 55), b'I'));
    frame.push((at(16, 0), MARKET, b'M'));
    frame.extend(each(at(16, 0), b'q'));
    frame.extend([(at(20, 0), MARKET, b'E'), (at(20, 5), 0, b'H'), (at(20, 5), MARKET, b'C')]);
    debug_assert_eq!(frame.len() as u64, FRAME.0 * symbols as u64 + FRAME.1);
    frame.reverse();
    frame
}

/// Names of symbols: those of the default tiers, most valuable first, and then made-up ones.
fn names(count: usize) -> impl Iterator<Item = String> {
    let tiers = SymbolTiers::default();
    let made_up = (0..).map(|i| format!("Q{i:05}"));
    tiers.tier_1().into_iter().chain(tiers.tier_2()).chain(made_up).take(count)
}

/// Sums of the first symbols' shares, of 2³², by Zipf's law.
fn zipf(symbols: usize, exponent: f64) -> Vec<u32> {
    let weights: Vec<f64> = (1..=symbols).map(|rank| (rank as f64).powf(-exponent)).collect();
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    let share = |weight: f64| {
        sum += weight;
        (sum / total * f64::from(u32::MAX)) as u32
    };
    weights.into_iter().map(share).collect()
}

/// Whole random numbers.
#[derive(Debug)]
struct Random(Pcg64Mcg);

impl Random {
    fn next(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Below `n`; the bias, of `n` in 2³², does not matter here.
    fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(n)) >> 32) as u32
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
