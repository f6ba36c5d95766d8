//! Records become messages.

use std::collections::HashMap;
use std::sync::Arc;

use zerocopy::TryFromBytes;

use crate::message::SymbolId;
use crate::source::rows::{RowDecoder, RowFormat, RowsConfig};
use crate::source::{Malformed, Stamp};
use crate::symbols::Symbols;
use crate::tick::Tick;

/// A record as it came from a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The payload; `None` is a tombstone, which says that the key is deleted.
    pub payload: Option<&'a [u8]>,
    /// When it was created or appended: milliseconds since the Unix epoch, if it is told.
    pub timestamp_ms: Option<i64>,
}

/// Makes messages of records: an embedder brings its own for messages of its own.
pub trait DecodeRecord<M>: Send {
    /// Adds the messages of a record to `out`, which may be none. `receive_ns` is when it was received: nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// When it cannot be decoded. Nothing of it counts then, and it becomes a dead letter, or ends the source.
    fn decode(&mut self, record: &Record<'_>, receive_ns: u64, out: &mut Vec<M>) -> Result<(), Malformed>;
}

/// How ticks are written in records.
#[derive(Clone, Debug)]
pub enum TickFormat {
    /// Rows of JSON or CSV, one or several of them in a record, each in a line of its own; of CSV the configuration names the columns. The
    /// key is the symbol of rows that have none, if `key_is_symbol` says so.
    Rows {
        /// How rows are to be read.
        rows: Box<RowsConfig>,
        /// Whether the record's key is the symbol.
        key_is_symbol: bool,
    },
    /// A [`Tick`]'s own 64 bytes, one or several of them, little-endian; the key is the symbol, as a tick's symbol id has no
    /// meaning beyond its process.
    Raw,
}

/// Makes ticks of records.
#[derive(Debug)]
pub struct TickDecoder {
    kind: Kind,
    symbols: Arc<Symbols>,
    /// Ids of keys.
    known: HashMap<Vec<u8>, SymbolId>,
    prefix: String,
}

#[derive(Debug)]
enum Kind {
    Rows { rows: Box<RowDecoder>, key_is_symbol: bool },
    Raw,
}

impl TickDecoder {
    /// A decoder that interns into `symbols`, with `prefix` before each name.
    ///
    /// # Errors
    /// What is wrong with the columns of rows.
    pub fn new(symbols: Arc<Symbols>, format: TickFormat, prefix: impl Into<String>) -> Result<Self, String> {
        let prefix = prefix.into();
        let kind = match format {
            TickFormat::Rows { rows, key_is_symbol } => {
                let mut rows = *rows;
                if key_is_symbol {
                    // So that no column is looked for.
                    rows.symbol.get_or_insert_default();
                }
                rows.prefix.clone_from(&prefix);
                if matches!(rows.format, RowFormat::Csv { .. }) && rows.header.is_empty() {
                    return Err("CSV in records has no line that names the columns: give them with header".to_owned());
                }
                Kind::Rows { rows: Box::new(RowDecoder::new(Arc::clone(&symbols), rows)?), key_is_symbol }
            }
            TickFormat::Raw if cfg!(target_endian = "big") => {
                return Err("raw ticks are little-endian, and this machine is not".to_owned());
            }
            TickFormat::Raw => Kind::Raw,
        };
        Ok(Self { kind, symbols, known: HashMap::new(), prefix })
    }
}

fn malformed(kind: &str, reason: impl Into<String>) -> Malformed {
    Malformed { kind: kind.to_owned(), reason: reason.into() }
}

impl DecodeRecord<Tick> for TickDecoder {
    fn decode(&mut self, record: &Record<'_>, receive_ns: u64, out: &mut Vec<Tick>) -> Result<(), Malformed> {
        let Some(payload) = record.payload else { return Ok(()) };
        let stamp = Stamp { sequence: record.offset as u64 + 1, receive_ns };
        match &mut self.kind {
            Kind::Raw => {
                let symbol = self.symbol_of_key(record.key)?;
                raw_ticks(payload, symbol, stamp, out)
            }
            Kind::Rows { rows, key_is_symbol } => {
                let symbol = if *key_is_symbol { Some(key_text(record.key)?) } else { None };
                let lines = payload.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
                for line in lines.filter(|line| !line.is_empty()) {
                    out.push(rows.decode(line, symbol, stamp).map_err(|reason| malformed("row", reason))?);
                }
                Ok(())
            }
        }
    }
}

impl TickDecoder {
    fn symbol_of_key(&mut self, key: Option<&[u8]>) -> Result<SymbolId, Malformed> {
        if let Some(known) = key.and_then(|key| self.known.get(key)) {
            return Ok(*known);
        }
        let name = key_text(key)?;
        let id = self.symbols.intern(&format!("{}{name}", self.prefix));
        let id = id.map_err(|error| malformed("key", error.to_string()))?;
        self.known.insert(name.as_bytes().to_vec(), id);
        Ok(id)
    }
}

fn key_text(key: Option<&[u8]>) -> Result<&str, Malformed> {
    let key = key.filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| malformed("key", "it is missing, and is to be the symbol"))?;
    std::str::from_utf8(key).map_err(|_| malformed("key", "it is to be the symbol, and is not UTF-8"))
}

fn raw_ticks(payload: &[u8], symbol: SymbolId, stamp: Stamp, out: &mut Vec<Tick>) -> Result<(), Malformed> {
    const BYTES: usize = size_of::<Tick>();
    if payload.is_empty() || !payload.len().is_multiple_of(BYTES) {
        let bytes = payload.len();
        return Err(malformed("tick", format!("{bytes} bytes are no multiple of {BYTES}")));
    }
    for bytes in payload.chunks_exact(BYTES) {
        let tick = Tick::try_read_from_bytes(bytes).map_err(|_| malformed("tick", "its kind or side is unknown"))?;
        out.push(Tick { symbol, sequence: stamp.sequence, receive_ns: stamp.receive_ns, ..tick });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::tick::TickKind;

    fn record<'a>(key: Option<&'a str>, payload: &'a [u8]) -> Record<'a> {
        let key = key.map(str::as_bytes);
        Record { topic: "t", partition: 0, offset: 6, key, payload: Some(payload), timestamp_ms: None }
    }

    fn decoder(format: TickFormat) -> (TickDecoder, Arc<Symbols>) {
        let symbols = Arc::new(Symbols::default());
        (TickDecoder::new(Arc::clone(&symbols), format, "X.").unwrap(), symbols)
    }

    fn rows(format: RowFormat, key_is_symbol: bool) -> TickFormat {
        let header = ["ts", "price", "size"].map(str::to_owned).to_vec();
        let rows = Box::new(RowsConfig { header, ..RowsConfig::new(format) });
        TickFormat::Rows { rows, key_is_symbol }
    }

    #[test]
    fn rows_of_json_name_their_symbol_or_the_key_does() {
        let (mut decoder, symbols) = decoder(rows(RowFormat::Ndjson, false));
        let text = b"{\"symbol\":\"BHP\",\"ts\":5,\"price\":1.5,\"size\":2}\n{\"symbol\":\"RIO\",\"ts\":6,\"bid\":1,\"bid_size\":2}\n";
        let mut ticks = Vec::new();
        decoder.decode(&record(None, text), 9, &mut ticks).unwrap();
        let names: Vec<_> = ticks.iter().map(|tick| symbols.name(tick.symbol).unwrap()).collect();
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["X.BHP", "X.RIO"]);
        assert_eq!((ticks[0].kind, ticks[1].kind), (TickKind::Trade, TickKind::Quote));
        assert_eq!((ticks[0].sequence, ticks[0].receive_ns), (7, 9));

        let (mut decoder, symbols) = self::decoder(rows(RowFormat::Ndjson, true));
        ticks.clear();
        decoder.decode(&record(Some("QAN"), b"{\"ts\":5,\"price\":1.5,\"size\":2}"), 9, &mut ticks).unwrap();
        assert_eq!(symbols.name(ticks[0].symbol).as_deref(), Some("X.QAN"));
        assert!(decoder.decode(&record(None, b"{}"), 9, &mut ticks).unwrap_err().reason.contains("missing"));
    }

    #[test]
    fn rows_of_csv_have_the_columns_that_are_configured() {
        let (mut decoder, symbols) = decoder(rows(RowFormat::Csv { delimiter: b',' }, true));
        let mut ticks = Vec::new();
        decoder.decode(&record(Some("QAN"), b"5,1.5,2"), 9, &mut ticks).unwrap();
        assert_eq!((symbols.name(ticks[0].symbol).as_deref(), ticks[0].size), (Some("X.QAN"), 2));
        let error = decoder.decode(&record(Some("QAN"), b"5,1.5"), 9, &mut ticks).unwrap_err();
        assert!(error.reason.contains("2 columns"), "{error:?}");
        let bare = TickFormat::Rows {
            rows: Box::new(RowsConfig::new(RowFormat::Csv { delimiter: b',' })),
            key_is_symbol: false,
        };
        assert!(TickDecoder::new(symbols, bare, "").unwrap_err().contains("header"));
    }

    #[test]
    fn raw_ticks_are_of_the_symbol_that_the_key_names() {
        let (mut decoder, symbols) = decoder(TickFormat::Raw);
        symbols.intern("OTHER").unwrap();
        let tick = Tick::trade(SymbolId::new(77), 5, "1.5".parse().unwrap(), 2);
        let bytes = [tick.as_bytes(), tick.as_bytes()].concat();
        let mut ticks = Vec::new();
        for _ in 0..2 {
            decoder.decode(&record(Some("BHP"), &bytes), 9, &mut ticks).unwrap();
        }
        let symbol = symbols.id("X.BHP").unwrap();
        assert_eq!(ticks, [Tick { symbol, sequence: 7, receive_ns: 9, ..tick }; 4]);
        let mut bad = tick.as_bytes().to_vec();
        bad[60] = 99; // the kind
        for (key, payload, reason) in [
            (Some("BHP"), &bytes[..63], "63 bytes"),
            (Some("BHP"), &b""[..], "0 bytes"),
            (Some("BHP"), &bad[..], "kind or side"),
            (None, &bytes[..], "missing"),
            (Some(""), &bytes[..], "missing"),
        ] {
            let error = decoder.decode(&record(key, payload), 9, &mut ticks).unwrap_err();
            assert!(error.reason.contains(reason), "{error:?}");
        }
        let tombstone = Record { payload: None, ..record(None, b"") };
        assert_eq!(decoder.decode(&tombstone, 9, &mut ticks), Ok(()));
    }
}
