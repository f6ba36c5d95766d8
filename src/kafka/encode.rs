//! Ticks and bars become records.

use std::fmt::Write as _;
use std::sync::Arc;

use zerocopy::IntoBytes;

use super::SinkFormat;
use crate::handler::Bar;
use crate::message::SymbolId;
use crate::price::Price;
use crate::source::rows::{RowFormat, RowWriter};
use crate::symbols::Symbols;
use crate::tick::Tick;

/// What a worker hands over.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "items lie in a queue of fixed size")]
pub(super) enum Item {
    Tick(Tick),
    Bar(SymbolId, Bar),
}

/// A symbol's name: as a key, and as it stands in JSON, without the quotes.
struct Name {
    key: Arc<str>,
    json: String,
}

/// Makes records; keeps the text of the last one.
pub(super) struct Encoder {
    symbols: Arc<Symbols>,
    ticks: Option<(String, SinkFormat)>,
    bars: Option<String>,
    /// By symbol id.
    names: Vec<Option<Name>>,
    rows: RowWriter<Vec<u8>>,
    text: String,
}

impl Encoder {
    pub(super) fn new(symbols: Arc<Symbols>, ticks: Option<(String, SinkFormat)>, bars: Option<String>) -> Self {
        let rows = RowWriter::headless(Vec::new(), RowFormat::Ndjson);
        Self { symbols, ticks, bars, names: Vec::new(), rows, text: String::new() }
    }

    /// Topic, key and payload of an item; `None`, if it has no form.
    pub(super) fn encode(&mut self, item: &Item) -> Option<(&str, &str, &[u8])> {
        let symbol = match item {
            Item::Tick(tick) => tick.symbol,
            Item::Bar(symbol, _) => *symbol,
        };
        let name = name_of(&mut self.names, &self.symbols, symbol);
        match item {
            Item::Tick(tick) => {
                let (topic, format) = self.ticks.as_ref()?;
                if *format == SinkFormat::Raw {
                    self.rows.out_mut().clear();
                    self.rows.out_mut().extend_from_slice(tick.as_bytes());
                } else {
                    self.rows.out_mut().clear();
                    if !self.rows.tick(&name.json, tick).is_ok_and(|is_written| is_written) {
                        return None;
                    }
                    self.rows.out_mut().pop(); // the line's end
                }
                Some((topic, &name.key, self.rows.out_mut()))
            }
            Item::Bar(_, bar) => {
                self.text.clear();
                write_bar(&mut self.text, &name.json, bar);
                Some((self.bars.as_ref()?, &name.key, self.text.as_bytes()))
            }
        }
    }
}

fn name_of<'a>(names: &'a mut Vec<Option<Name>>, symbols: &Symbols, symbol: SymbolId) -> &'a Name {
    let index = symbols.slot(symbol);
    if index >= names.len() {
        names.resize_with(index + 1, || None);
    }
    names[index].get_or_insert_with(|| {
        let key = symbols.name(symbol).unwrap_or_else(|| symbol.to_string().into());
        let json = serde_json::Value::from(&*key).to_string();
        Name { json: json[1..json.len() - 1].to_owned(), key }
    })
}

/// The columns of the CSV of bars, as an object; what is not known is null.
fn write_bar(text: &mut String, name: &str, bar: &Bar) {
    let known = |price: Option<Price>| price.map_or_else(|| "null".to_owned(), |price| price.to_string());
    let _ = write!(
        text,
        "{{\"symbol\":\"{name}\",\"start_ns\":{},\"open\":{},\"high\":{},\"low\":{},\"close\":{},\"volume\":{},\"trades\":{},\
         \"vwap\":{},\"mid\":{},\"spread\":{},\"vwap_deviation\":{}}}",
        bar.start_ns,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume,
        bar.trades,
        known(bar.vwap()),
        known(bar.mid()),
        known(bar.spread()),
        known(bar.vwap_deviation()),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_keys_and_stand_in_json_as_they_have_to() {
        let symbols = Arc::new(Symbols::default());
        let symbol = symbols.intern("A\"B\\").unwrap();
        let tick = Tick::trade(symbol, 5, "1.5".parse().unwrap(), 2);
        let mut encoder = Encoder::new(Arc::clone(&symbols), Some(("t".to_owned(), SinkFormat::Json)), None);
        let (topic, key, payload) = encoder.encode(&Item::Tick(tick)).unwrap();
        assert_eq!((topic, key), ("t", "A\"B\\"));
        let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
        assert_eq!((&json["symbol"], &json["price"], &json["ts"]), (&"A\"B\\".into(), &1.5.into(), &5.into()));
        let order = Tick::order(symbol, 5, crate::tick::Side::Buy, (Price::ZERO, 1), (Price::ZERO, 0));
        assert!(encoder.encode(&Item::Tick(order)).is_none(), "rows have no orders");

        let mut raw = Encoder::new(symbols, Some(("t".to_owned(), SinkFormat::Raw)), None);
        assert_eq!(raw.encode(&Item::Tick(order)).unwrap().2, order.as_bytes());
    }
}
