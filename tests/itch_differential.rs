//! The ITCH decoder's reading of messages against that of the crate `itchy`, on generated and on mutated messages.
#![cfg(feature = "feeds")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use itchy::{Body, MessageStream};
use plimsoll::source::itch::wire::{Message, TYPES, WireError, trimmed};
use proptest::prelude::*;
use proptest::sample::select;

/// What `itchy` 0.3 does not know: the operational halt and the direct listing.
const UNKNOWN_TO_ITCHY: [u8; 2] = *b"hO";

/// A field of a message as it is generated.
#[derive(Clone, Copy)]
enum Field {
    /// A number of so many bytes.
    Number(usize),
    /// A text of so many bytes.
    Text(usize),
    /// One of these characters.
    One(&'static [u8]),
}

use Field::{Number as N, One, Text as T};

/// The fields after the head, by the specification.
fn layout(kind: u8) -> &'static [Field] {
    const CROSS: Field = One(b"OCHIA");
    match kind {
        b'S' => &[One(b"OSQMEC")],
        b'R' => &[
            T(8),
            One(b"QGSNAPZV "),
            One(b"NDEQSGHJKC "),
            N(4),
            One(b"YN"),
            One(b"ABCFILNOPQRSTUVW"),
            // A sub-type that is one of the specification's.
            One(b"Z"),
            One(b" "),
            One(b"PT"),
            One(b"YN "),
            One(b"YN "),
            One(b"12 "),
            One(b"YN "),
            N(4),
            One(b"YN"),
        ],
        b'H' => &[T(8), One(b"HPQT"), One(b" "), T(4)],
        b'Y' => &[T(8), One(b"012")],
        b'L' => &[T(4), T(8), One(b"YN"), One(b"NPSRL"), One(b"AEWSD")],
        b'V' => &[N(8), N(8), N(8)],
        b'W' => &[One(b"123")],
        b'K' => &[T(8), N(4), One(b"AC"), N(4)],
        b'J' => &[T(8), N(4), N(4), N(4), N(4)],
        b'h' => &[T(8), One(b"QBX"), One(b"HT")],
        b'A' => &[N(8), One(b"BS"), N(4), T(8), N(4)],
        b'F' => &[N(8), One(b"BS"), N(4), T(8), N(4), T(4)],
        b'E' => &[N(8), N(4), N(8)],
        b'C' => &[N(8), N(4), N(8), One(b"YN"), N(4)],
        b'X' => &[N(8), N(4)],
        b'D' => &[N(8)],
        b'U' => &[N(8), N(8), N(4), N(4)],
        b'P' => &[N(8), One(b"BS"), N(4), T(8), N(4), N(8)],
        b'Q' => &[N(8), T(8), N(4), N(8), CROSS],
        b'B' => &[N(8)],
        b'I' => &[N(8), N(8), One(b"BSNO"), T(8), N(4), N(4), N(4), One(b"OCHA"), One(b"L123456789ABC ")],
        b'N' => &[T(8), One(b"BSAN")],
        b'O' => &[T(8), One(b"YN"), N(4), N(4), N(4), N(8), N(4), N(4)],
        _ => unreachable!(),
    }
}

/// A message of any type that is valid by the specification.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let kinds: Vec<u8> = TYPES.iter().map(|(kind, _)| *kind).collect();
    (select(kinds), any::<[u8; 10]>(), proptest::collection::vec(any::<[u8; 8]>(), 16)).prop_map(
        |(kind, head, random)| {
            let mut bytes = vec![kind];
            bytes.extend(head);
            for (field, random) in layout(kind).iter().zip(random) {
                match *field {
                    N(size) => bytes.extend(&random[..size]),
                    // Letters, and blanks at the end.
                    T(size) => {
                        let letters = usize::from(random[0]) % size + 1;
                        bytes.extend((0..size).map(|i| if i < letters { b'A' + random[i] % 26 } else { b' ' }));
                    }
                    One(of) => bytes.push(of[usize::from(random[0]) % of.len()]),
                }
            }
            bytes
        },
    )
}

/// A reading: type, locate, tracking number, time, and then all numbers and texts.
#[derive(Debug, PartialEq)]
struct Reading {
    head: (u8, u16, u16, u64),
    numbers: Vec<u64>,
    texts: Vec<String>,
}

fn ours(message: &Message<'_>) -> Reading {
    let head = message.head();
    let text = |bytes: &[u8]| String::from_utf8_lossy(trimmed(bytes)).into_owned();
    let (numbers, texts): (Vec<u64>, Vec<String>) = match message {
        Message::SystemEvent(m) => (vec![m.event.into()], vec![]),
        Message::StockDirectory(m) => {
            (vec![m.round_lot.get().into(), m.etp_leverage.get().into()], vec![text(&m.stock)])
        }
        Message::TradingAction(m) => (vec![], vec![text(&m.stock), text(&m.reason)]),
        Message::RegSho(m) => (vec![], vec![text(&m.stock)]),
        Message::ParticipantPosition(m) => (vec![], vec![text(&m.mpid), text(&m.stock)]),
        Message::MwcbDecline(m) => (vec![m.level_1.get(), m.level_2.get(), m.level_3.get()], vec![]),
        Message::MwcbStatus(m) => (vec![m.level.into()], vec![]),
        Message::IpoQuoting(m) => (vec![m.release_s.get().into(), m.price.get().into()], vec![text(&m.stock)]),
        Message::LuldCollar(m) => {
            let numbers = [m.reference, m.upper, m.lower, m.extension];
            (numbers.map(|n| n.get().into()).to_vec(), vec![text(&m.stock)])
        }
        Message::AddOrder(m) => {
            let numbers = [m.reference.get(), m.side.into(), m.shares.get().into(), m.price.get().into()];
            (numbers.to_vec(), vec![text(&m.stock)])
        }
        Message::AddOrderMpid(m) => {
            let numbers = [m.reference.get(), m.side.into(), m.shares.get().into(), m.price.get().into()];
            (numbers.to_vec(), vec![text(&m.stock), text(&m.attribution)])
        }
        Message::OrderExecuted(m) => (vec![m.reference.get(), m.shares.get().into(), m.match_number.get()], vec![]),
        Message::OrderExecutedAt(m) => {
            let printable = u64::from(m.printable == b'Y');
            let numbers =
                [m.reference.get(), m.shares.get().into(), m.match_number.get(), printable, m.price.get().into()];
            (numbers.to_vec(), vec![])
        }
        Message::OrderCancel(m) => (vec![m.reference.get(), m.shares.get().into()], vec![]),
        Message::OrderDelete(m) => (vec![m.reference.get()], vec![]),
        Message::OrderReplace(m) => {
            let (old, new) = (m.old_reference.get(), m.new_reference.get());
            (vec![old, new, m.shares.get().into(), m.price.get().into()], vec![])
        }
        Message::Trade(m) => {
            let numbers = [m.reference.get(), m.side.into(), m.shares.get().into(), m.price.get().into()];
            ([&numbers[..], &[m.match_number.get()]].concat(), vec![text(&m.stock)])
        }
        Message::CrossTrade(m) => {
            (vec![m.shares.get(), m.price.get().into(), m.match_number.get()], vec![text(&m.stock)])
        }
        Message::BrokenTrade(m) => (vec![m.match_number.get()], vec![]),
        Message::Imbalance(m) => {
            let prices = [m.far, m.near, m.reference].map(|price| price.get().into());
            let variation = [m.variation.into()];
            let numbers = [&[m.paired.get(), m.imbalance.get()], &prices[..], &variation].concat();
            (numbers, vec![text(&m.stock)])
        }
        Message::RetailInterest(m) => (vec![], vec![text(&m.stock)]),
        Message::OperationalHalt(_) | Message::DirectListing(_) => unreachable!("itchy does not know it"),
    };
    Reading { head: (head.kind, head.locate.get(), head.tracking(), head.time_ns()), numbers, texts }
}

fn theirs(message: &itchy::Message) -> Reading {
    let text = |text: &str| text.trim_end_matches(' ').to_owned();
    let side = |side: itchy::Side| if side == itchy::Side::Buy { u64::from(b'B') } else { u64::from(b'S') };
    let (numbers, texts): (Vec<u64>, Vec<String>) = match &message.body {
        Body::SystemEvent { event } => {
            use itchy::EventCode::*;
            let code = match event {
                StartOfMessages => b'O',
                StartOfSystemHours => b'S',
                StartOfMarketHours => b'Q',
                EndOfMarketHours => b'M',
                EndOfSystemHours => b'E',
                EndOfMessages => b'C',
            };
            (vec![code.into()], vec![])
        }
        Body::StockDirectory(m) => (vec![m.round_lot_size.into(), m.etp_leverage_factor.into()], vec![text(&m.stock)]),
        Body::TradingAction { stock, reason, .. } => (vec![], vec![text(stock), text(reason)]),
        Body::RegShoRestriction { stock, .. } => (vec![], vec![text(stock)]),
        Body::ParticipantPosition(m) => (vec![], vec![text(&m.mpid), text(&m.stock)]),
        Body::MwcbDeclineLevel { level1, level2, level3 } => (vec![level1.raw(), level2.raw(), level3.raw()], vec![]),
        Body::Breach(level) => {
            use itchy::LevelBreached::*;
            let code = match level {
                L1 => b'1',
                L2 => b'2',
                L3 => b'3',
            };
            (vec![code.into()], vec![])
        }
        Body::IpoQuotingPeriod(m) => (vec![m.release_time.into(), m.price.raw().into()], vec![text(&m.stock)]),
        Body::LULDAuctionCollar { stock, ref_price, upper_price, lower_price, extension } => {
            let prices = [ref_price, upper_price, lower_price].map(|price| u64::from(price.raw()));
            ([&prices[..], &[u64::from(*extension)]].concat(), vec![text(stock)])
        }
        Body::AddOrder(m) => {
            let texts = [Some(text(&m.stock)), m.mpid.as_deref().map(text)];
            (
                vec![m.reference, side(m.side), m.shares.into(), m.price.raw().into()],
                texts.into_iter().flatten().collect(),
            )
        }
        Body::OrderExecuted { reference, executed, match_number } => {
            (vec![*reference, (*executed).into(), *match_number], vec![])
        }
        Body::OrderExecutedWithPrice { reference, executed, match_number, printable, price } => {
            let numbers = [*reference, (*executed).into(), *match_number, (*printable).into(), price.raw().into()];
            (numbers.to_vec(), vec![])
        }
        Body::OrderCancelled { reference, cancelled } => (vec![*reference, (*cancelled).into()], vec![]),
        Body::DeleteOrder { reference } => (vec![*reference], vec![]),
        Body::ReplaceOrder(m) => {
            (vec![m.old_reference, m.new_reference, m.shares.into(), m.price.raw().into()], vec![])
        }
        Body::NonCrossTrade(m) => {
            let numbers = [m.reference, side(m.side), m.shares.into(), m.price.raw().into(), m.match_number];
            (numbers.to_vec(), vec![text(&m.stock)])
        }
        Body::CrossTrade(m) => (vec![m.shares, m.cross_price.raw().into(), m.match_number], vec![text(&m.stock)]),
        Body::BrokenTrade { match_number } => (vec![*match_number], vec![]),
        Body::Imbalance(m) => {
            let prices = [m.far_price, m.near_price, m.current_ref_price].map(|price| u64::from(price.raw()));
            let variation = [u64::from(m.price_variation_indicator as u32)];
            let numbers = [&[m.paired_shares, m.imbalance_shares], &prices[..], &variation].concat();
            (numbers, vec![text(&m.stock)])
        }
        Body::RetailPriceImprovementIndicator(m) => (vec![], vec![text(&m.stock)]),
    };
    let head = (message.tag, message.stock_locate, message.tracking_number, message.timestamp);
    Reading { head, numbers, texts }
}

/// What `itchy` makes of one message; `None`: an error, or one of its panics.
fn read_by_itchy(message: &[u8]) -> Option<Reading> {
    let block = [&(message.len() as u16).to_be_bytes()[..], message, &[0; 64]].concat();
    let read = catch_unwind(AssertUnwindSafe(|| MessageStream::from_reader(&block[..]).next()));
    read.ok()??.ok().map(|message| theirs(&message))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_message_is_read_as_itchy_reads_it(message in message()) {
        let read = Message::parse(&message);
        prop_assert!(read.is_ok(), "{read:?}");
        if !UNKNOWN_TO_ITCHY.contains(&message[0]) {
            let theirs = read_by_itchy(&message);
            prop_assert!(theirs.is_some(), "itchy does not read {message:?}");
            prop_assert_eq!(Some(ours(&read.unwrap())), theirs);
        }
    }

    /// Where `itchy` still reads something, it is what is read here; and what is refused here has another length or type.
    #[test]
    fn a_mutated_message_is_read_as_itchy_reads_it_or_refused(
        mut message in message(),
        changes in proptest::collection::vec((0usize..50, any::<u8>()), 1..4),
        cut in proptest::option::weighted(0.2, 0usize..50),
    ) {
        // Its panics on texts that are none are known.
        std::panic::set_hook(Box::new(|_| {}));
        for (at, byte) in changes {
            let length = message.len();
            message[at % length] = byte;
        }
        if let Some(cut) = cut {
            message.truncate(cut % message.len());
        }
        match Message::parse(&message) {
            Ok(read) if UNKNOWN_TO_ITCHY.contains(&read.head().kind) => {}
            Ok(read) => {
                // Nor does it read every value of every field.
                if let Some(theirs) = read_by_itchy(&message) {
                    prop_assert_eq!(ours(&read), theirs);
                }
            }
            Err(WireError::Empty) => prop_assert!(message.is_empty()),
            Err(WireError::UnknownType(kind)) => prop_assert!(TYPES.iter().all(|(known, _)| *known != kind)),
            Err(WireError::Length { kind, found, expected }) => {
                prop_assert!(TYPES.contains(&(kind, expected)) && found == message.len() && found != expected);
            }
            Err(error) => prop_assert!(false, "{error:?}"),
        }
    }
}
