use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::*;
use crate::source::mold::{Packet, Session};

fn config(messages: u64) -> MarketConfig {
    MarketConfig { seed: 7, messages, symbols: 100, ..MarketConfig::default() }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// What a reader who knows nothing of the generator makes of the messages.
#[derive(Default)]
struct Reader {
    names: HashMap<u64, String>,
    /// Security, whether it buys, price, shares.
    orders: HashMap<u64, (u64, bool, u64, u64)>,
    /// By security: volume, trades, Σ price × shares.
    trades: HashMap<u64, (u64, u64, u128)>,
    kinds: BTreeMap<u8, u64>,
    last_reference: u64,
    last_match: u64,
    matches: BTreeSet<u64>,
    last_ns: u64,
}

impl Reader {
    fn trade(&mut self, locate: u64, price: u64, shares: u64, id: u64, printable: bool) {
        assert!(id > self.last_match);
        self.last_match = id;
        self.matches.insert(id);
        if printable {
            let trades = self.trades.entry(locate).or_default();
            *trades = (trades.0 + shares, trades.1 + 1, trades.2 + u128::from(price) * u128::from(shares));
        }
    }

    fn take(&mut self, locate: u64, reference: u64, shares: u64) -> u64 {
        let order = self.orders.get_mut(&reference).expect("a live order");
        assert!(order.0 == locate && shares > 0 && order.3 >= shares);
        order.3 -= shares;
        let price = order.2;
        if order.3 == 0 {
            self.orders.remove(&reference);
        }
        price
    }

    fn add(&mut self, locate: u64, reference: u64, buys: bool, price: u64, shares: u64) {
        assert!(reference > self.last_reference && shares > 0 && price > 0 && price.is_multiple_of(100));
        self.last_reference = reference;
        self.orders.insert(reference, (locate, buys, price, shares));
    }

    fn read(&mut self, m: &[u8]) {
        let (kind, locate, time) = (m[0], number(&m[1..3]), number(&m[5..11]));
        assert!(time >= self.last_ns && time < 86_400_000_000_000);
        self.last_ns = time;
        *self.kinds.entry(kind).or_default() += 1;
        let length = match kind {
            b'R' => {
                self.names.insert(locate, String::from_utf8(m[11..19].to_vec()).unwrap().trim_end().to_owned());
                39
            }
            b'A' | b'F' => {
                assert!(matches!(m[19], b'B' | b'S'));
                assert_eq!(self.names[&locate], String::from_utf8_lossy(&m[24..32]).trim_end());
                self.add(locate, number(&m[11..19]), m[19] == b'B', number(&m[32..36]), number(&m[20..24]));
                if kind == b'A' { 36 } else { 40 }
            }
            b'D' => {
                let order = self.orders.remove(&number(&m[11..19])).expect("a live order");
                assert_eq!(order.0, locate);
                19
            }
            b'X' => {
                self.take(locate, number(&m[11..19]), number(&m[19..23]));
                23
            }
            b'U' => {
                let old = self.orders.remove(&number(&m[11..19])).expect("a live order");
                self.add(locate, number(&m[19..27]), old.1, number(&m[31..35]), number(&m[27..31]));
                35
            }
            b'E' => {
                let (shares, id) = (number(&m[19..23]), number(&m[23..31]));
                let price = self.take(locate, number(&m[11..19]), shares);
                self.trade(locate, price, shares, id, true);
                31
            }
            b'C' => {
                let (shares, id) = (number(&m[19..23]), number(&m[23..31]));
                self.take(locate, number(&m[11..19]), shares);
                self.trade(locate, number(&m[32..36]), shares, id, m[31] == b'Y');
                36
            }
            b'P' => {
                self.trade(locate, number(&m[32..36]), number(&m[20..24]), number(&m[36..44]), true);
                44
            }
            b'Q' => {
                let shares = number(&m[11..19]);
                self.trade(locate, number(&m[27..31]), shares, number(&m[31..39]), shares > 0);
                40
            }
            b'B' => {
                assert!(self.matches.contains(&number(&m[11..19])));
                19
            }
            b'S' | b'W' => 12,
            b'H' => 25,
            b'Y' | b'N' => 20,
            b'L' => 26,
            b'V' | b'J' => 35,
            b'K' => 28,
            b'h' => 21,
            b'I' => 50,
            b'O' => 48,
            _ => panic!("type {kind}"),
        };
        assert_eq!(m.len(), length, "type {}", kind as char);
    }

    fn best(&self, locate: u64, buys: bool) -> Option<Best> {
        let mut levels: BTreeMap<u64, u64> = BTreeMap::new();
        for order in self.orders.values().filter(|order| order.0 == locate && order.1 == buys) {
            *levels.entry(order.2).or_default() += order.3;
        }
        let best = if buys { levels.last_key_value() } else { levels.first_key_value() };
        best.map(|(price, shares)| Best { cents: (price / 100) as u32, shares: *shares })
    }

    fn truth(&self) -> Vec<Truth> {
        let mut locates: Vec<_> = self.names.keys().copied().collect();
        locates.sort_unstable();
        let truth = |locate| {
            let (volume, trades, turnover) = self.trades.get(&locate).copied().unwrap_or_default();
            Truth {
                symbol: self.names[&locate].clone(),
                bid: self.best(locate, true),
                ask: self.best(locate, false),
                volume,
                trades,
                turnover_cents: turnover / 100,
                orders: self.orders.values().filter(|order| order.0 == locate).count(),
            }
        };
        locates.into_iter().map(truth).collect()
    }
}

#[test]
fn a_day_makes_sense_to_a_reader_who_knows_nothing_of_it() {
    for flash_crash in [false, true] {
        let config = MarketConfig { flash_crash, ..config(200_000) };
        let (mut market, mut reader) = (Market::new(&config).unwrap(), Reader::default());
        let mut messages = 0;
        while let Some(message) = market.next_message() {
            reader.read(message);
            messages += 1;
            if messages % 10_000 == 0 {
                assert_eq!(market.truth().iter().map(|t| t.orders).sum::<usize>(), reader.orders.len());
            }
        }
        assert_eq!(messages, config.messages);
        assert_eq!(market.truth(), reader.truth()[..market.truth().len()]);
        // All types of the specification.
        assert_eq!(reader.kinds.len(), 23, "{:?}", reader.kinds);
        // No book is crossed, and those of much traded symbols have both sides.
        for (place, truth) in market.truth().iter().enumerate() {
            let sides = truth.bid.zip(truth.ask);
            assert!(sides.is_none_or(|(bid, ask)| bid.cents < ask.cents), "{truth:?}");
            assert!(place >= 20 || sides.is_some(), "{truth:?}");
        }
        // Zipf: the first symbol has twice the trades of the second, about.
        let trades = |place: usize| market.truth()[place].trades as f64;
        assert!((1.6..2.5).contains(&(trades(0) / trades(1))));
    }
}

#[test]
fn the_same_seed_is_the_same_day_on_every_machine() {
    let hash = |seed| {
        let mut market = Market::new(&MarketConfig { seed, ..config(20_000) }).unwrap();
        let mut hasher = DefaultHasher::new();
        while let Some(message) = market.next_message() {
            message.hash(&mut hasher);
        }
        hasher.finish()
    };
    assert_eq!(hash(7), hash(7));
    assert_ne!(hash(7), hash(8));
}

#[test]
fn a_config_that_makes_no_day_is_told() {
    for (config, said) in [
        (MarketConfig { symbols: 0, ..config(1_000) }, "symbols = 0 is out of range"),
        (config(900), "messages = 900 are too few: the frame of a day of 100 symbols takes 915"),
        (MarketConfig { zipf_exponent: f64::NAN, ..config(1_000) }, "zipf_exponent = NaN"),
    ] {
        let error = Market::new(&config).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    let mut least = Market::new(&config(915)).unwrap();
    assert_eq!(std::iter::from_fn(|| least.next_message().map(|_| ())).count(), 915);
}

#[test]
fn packets_hold_all_messages_in_order_and_fit() {
    let (mut market, mut same) = (Market::new(&config(5_000)).unwrap(), Market::new(&config(5_000)).unwrap());
    let mut packets = Packets::new(Session(*b"20260130  "));
    let (mut next, mut told, mut last_ns, mut count) = (1, 0, 0, 0);
    while let Some(bytes) = packets.next_packet(&mut market, |_| told += 1) {
        assert!(bytes.len() <= 1400);
        let packet = Packet::parse(bytes).unwrap();
        assert_eq!(packet.sequence(), next);
        for (sequence, message) in packet.messages() {
            assert_eq!(sequence, next);
            assert_eq!(Some(message), same.next_message());
            next += 1;
        }
        count += 1;
        assert!(packets.time_ns() >= last_ns);
        last_ns = packets.time_ns();
    }
    assert_eq!((next, told, packets.messages(), same.next_message()), (5_001, 5_000, 5_000, None));
    assert!(count > 1000, "some messages come alone");
    assert_eq!(Packet::parse(&packets.heartbeat()).unwrap().sequence(), 5_001);
    assert!(Packet::parse(&packets.end_of_session()).unwrap().is_end_of_session());
}
