//! How fast NASDAQ TotalView-ITCH 5.0 is decoded, beside the crate `itchy`.
//!
//! ```text
//!   a generated day in memory (BinaryFILE) ──▶ reader ──▶ decoder ──▶ a sum that has to be right
//! ```
//!
//! Run with `cargo bench --bench itch`. *Ticks* is all that a feed does: blocks, messages, the order table, ticks in bursts.
//! *Messages* checks type and length of each message, and reads its time, and the shares of new orders, where they are; `itchy` makes a structure of
//! each, in which its reader then finds the same. It has no order table. All take turns on one pinned thread, over the same bytes.

#[path = "harness/mod.rs"]
mod harness;

use std::hint::black_box;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use harness::{Options, Rounds, machine, on_own_thread, pin};
use itchy::{Body, MessageStream};
use plimsoll::market::{Market, MarketConfig, write_itch};
use plimsoll::source::itch::wire::Message;
use plimsoll::source::itch::{ItchConfig, ItchDecoder, ItchFile};
use plimsoll::source::{Burst, Flow, Input, OnMalformed, Source};
use plimsoll::{Symbols, TickKind, flags};
use serde_json::json;

const ROUNDS: usize = 9;
const MESSAGES: u64 = 4_000_000;
/// Room for half as many orders again as are live at once, of 64 for each symbol: a table that is much too large is slow, as every order is
/// then in memory that no cache holds.
const ORDERS: usize = 100_000;
const CONTENDERS: [&str; 3] = ["ticks", "messages", "itchy"];

/// A day without the messages that `itchy` does not know, and how many shares its executions and new orders have in all.
fn day(messages: u64) -> Vec<u8> {
    let config = MarketConfig { seed: 7, messages, symbols: 1_000, ..MarketConfig::default() };
    let (mut market, mut file) = (Market::new(&config).expect("a day"), Vec::new());
    write_itch(&mut market, &mut file).expect("memory");
    let mut known = Vec::with_capacity(file.len());
    let mut rest = &file[..];
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let (message, tail) = tail.split_at(usize::from(u16::from_be_bytes(*length)));
        if !message.is_empty() && !b"hO".contains(&message[0]) {
            known.extend_from_slice(length);
            known.extend_from_slice(message);
        }
        rest = tail;
    }
    known
}

/// Messages, shares of new orders, and all times in one: what every contender has to come to.
type Sum = (u64, u64, u64);

fn decoder() -> ItchDecoder {
    ItchDecoder::new(Arc::new(Symbols::default()), ItchConfig { orders_max: ORDERS, ..ItchConfig::default() })
}

fn ticks(day: &'static [u8], decoder: ItchDecoder) -> (Sum, ItchDecoder) {
    let counters = Arc::default();
    let input = Input::new(Path::new("day"), Box::new(Cursor::new(day)), &counters).expect("memory");
    let mut source = ItchFile::new(input, decoder, OnMalformed::Stop, counters);
    let (mut burst, mut sum) = (Burst::new(), (0, 0, 0));
    loop {
        burst.clear();
        let flow = source.next_burst(&mut burst).expect("a good day");
        for tick in black_box(burst.ticks()) {
            let is_order = tick.kind == TickKind::Order;
            // The day before left books to be emptied.
            let is_message = !(is_order && tick.has(flags::CLEAR));
            sum.0 += u64::from(is_message);
            sum.2 ^= if is_message { tick.event_ns } else { 0 };
            sum.1 += if is_order && tick.ask_size == 0 { tick.size } else { 0 };
        }
        if flow == Flow::End {
            return (sum, source.into_decoder());
        }
    }
}

fn messages(day: &[u8]) -> Sum {
    let (mut sum, mut rest) = ((0, 0, 0), day);
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let (message, tail) = tail.split_at(usize::from(u16::from_be_bytes(*length)));
        let head = Message::head_of(message).expect("a good day");
        sum.0 += 1;
        sum.2 ^= head.time_ns();
        if matches!(head.kind, b'A' | b'F') {
            sum.1 += match Message::parse(message) {
                Ok(Message::AddOrder(add)) => u64::from(add.shares.get()),
                Ok(Message::AddOrderMpid(add)) => add.shares.get().into(),
                _ => 0,
            };
        }
        rest = tail;
    }
    sum
}

fn itchy(day: &[u8]) -> Sum {
    let mut sum = (0, 0, 0);
    for message in MessageStream::from_reader(day) {
        let message = message.expect("a good day");
        sum.0 += 1;
        sum.2 ^= message.timestamp;
        if let Body::AddOrder(add) = &message.body {
            sum.1 += u64::from(add.shares);
        }
    }
    sum
}

fn main() {
    let options = Options::parse(&[], ROUNDS);
    println!("{}", machine());
    let day: &'static [u8] = day(if options.quick { 100_000 } else { MESSAGES }).leak();
    let expected = messages(day);
    let turn = |contender: usize| {
        on_own_thread(move || {
            pin(0);
            // A day before this one, as the table's memory becomes real when it is first used.
            let decoder = (contender == 0).then(|| ticks(day, decoder()).1);
            let start = Instant::now();
            let sum = match contender {
                0 => decoder.map(|decoder| ticks(day, decoder).0).expect("it ran"),
                1 => messages(day),
                _ => itchy(day),
            };
            let elapsed = start.elapsed();
            assert_eq!(sum, expected, "{}", CONTENDERS[contender]);
            elapsed.as_secs_f64() * 1e9 / sum.0 as f64
        })
    };
    let rounds = Rounds::run(&CONTENDERS, options.rounds, turn);
    println!("{} messages, ns each: median (best), million a second at best, itchy ÷ this: median", expected.0);
    for (contender, name) in CONTENDERS.iter().enumerate() {
        let (median, best) = (rounds.median(contender), rounds.best(contender));
        let ratio = rounds.ratio(2, contender)[1];
        println!("{name:<10} {median:>7.1} ({best:.1}) {:>8.1} M/s {ratio:>7.2}", 1e3 / best);
    }
    options.write_json(&json!({ "bench": "itch", "messages": expected.0, "ns": rounds.to_json() }));
}
