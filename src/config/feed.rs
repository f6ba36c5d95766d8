//! `[[feed]]`: where ticks come from. One table a feed; each has a thread and an ingress of its own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Zoned;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use plimsoll::Symbols;
use plimsoll::source::capture::{CaptureConfig, CaptureSource};
use plimsoll::source::databento::{DbnConfig, DbnSource};
use plimsoll::source::itch::{ItchConfig, ItchDecoder, ItchFile};
use plimsoll::source::mold::{ArbiterConfig, LineConfig, MoldConfig, MoldSource};
use plimsoll::source::rows::{Role, RowsSource};
use plimsoll::source::{AsxSource, OnMalformed, Pace, Source};
use serde::{Deserialize, Deserializer};

use super::rows::{RowsOf, column};
use super::units::{self, Bytes};
use crate::cli::CliError;

/// What a feed is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A directory of CSV files by company: trades/, quotes/ and reference-data/
    Asx,
    /// A file of NASDAQ TotalView-ITCH 5.0 messages (BinaryFILE)
    Itch,
    /// ITCH messages over the network: MoldUDP64, on one line or more, see --listen
    Mold,
    /// A capture of such packets: pcap or pcapng
    Pcap,
    /// A file in Databento Binary Encoding: trades, mbp-1, bbo, mbo, definition
    Dbn,
    /// Trades and quotes as rows of CSV, with a header
    Csv,
    /// Trades and quotes as JSON objects, one a line
    Ndjson,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Asx => "asx",
            Self::Itch => "itch",
            Self::Mold => "mold",
            Self::Pcap => "pcap",
            Self::Dbn => "dbn",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }

    /// The keys, beside those for all kinds, that mean something to it.
    pub(super) const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Asx => &["input", "pace"],
            Self::Itch => &["input", "pace", "prefix", "day", "zone", "orders_max"],
            Self::Pcap => &["input", "pace", "ports", "window", "prefix", "day", "zone", "orders_max"],
            Self::Dbn => &["input", "pace", "prefix", "orders_max"],
            Self::Csv => &[
                "input",
                "pace",
                "prefix",
                "columns",
                "header",
                "delimiter",
                "time",
                "date",
                "day",
                "zone",
                "symbol",
                "rows",
            ],
            Self::Ndjson => &["input", "pace", "prefix", "columns", "time", "date", "day", "zone", "symbol", "rows"],
            Self::Mold => &[
                "lines",
                "rerequest",
                "request_timeout",
                "window",
                "receive_buffer",
                "prefix",
                "day",
                "zone",
                "orders_max",
            ],
        }
    }
}

/// A `[[feed]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FeedSection {
    pub(crate) name: Option<String>,
    pub(crate) kind: Option<Kind>,
    pub(crate) on_malformed: Option<OnMalformed>,
    pub(crate) input: Option<PathBuf>,
    pub(crate) pace: Option<PaceText>,
    pub(crate) prefix: Option<String>,
    pub(crate) day: Option<Date>,
    pub(crate) zone: Option<String>,
    pub(crate) orders_max: Option<usize>,
    pub(crate) lines: Vec<LineSection>,
    pub(crate) rerequest: Option<SocketAddr>,
    pub(crate) ports: Vec<u16>,
    pub(crate) window: Option<TimeText>,
    pub(crate) request_timeout: Option<TimeText>,
    pub(crate) receive_buffer: Option<Bytes>,
    pub(crate) columns: BTreeMap<Role, String>,
    pub(crate) header: Vec<String>,
    pub(crate) delimiter: Option<char>,
    pub(crate) time: Option<String>,
    pub(crate) date: Option<String>,
    pub(crate) symbol: Option<String>,
    pub(crate) rows: Option<RowsOf>,
}

/// One of a feed's `lines`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LineSection {
    listen: SocketAddr,
    interface: Option<Ipv4Addr>,
    source: Option<Ipv4Addr>,
    interface_index: Option<u32>,
}

/// A time as text, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeText(pub(crate) NonZeroU64);

impl TimeText {
    pub(crate) fn duration(self) -> Duration {
        Duration::from_nanos(self.0.get())
    }
}

impl<'de> Deserialize<'de> for TimeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = units::time(&text).map_err(|why| serde::de::Error::custom(format!("{text:?} is no time: {why}")));
        time.map(Self)
    }
}

/// Flags for a single feed; several are for the configuration.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Feed")]
pub(crate) struct FeedFlags {
    /// What the feed is made of; for several feeds see [[feed]] in the configuration
    #[arg(long, value_enum, value_name = "KIND")]
    format: Option<Kind>,
    /// File or directory to read; `-` is standard input; .gz and .zst are unpacked
    #[arg(long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// How fast to play a recorded feed: max, realtime, xN (N times as fast as recorded), N/s (messages a second) [default: max]
    ///
    /// At `max` the feed waits where the pipeline is behind. At any other pace it does not: what is not accepted is gone.
    #[arg(long)]
    pace: Option<Pace>,
    /// What to do about a malformed message or row [default: stop]
    #[arg(long, value_enum, alias = "on-bad-row")]
    on_malformed: Option<OnMalformed>,
    /// Day of a feed that tells times since midnight, as in 2026-01-30 [default: times count from 1970-01-01]
    #[arg(long, value_name = "DATE")]
    day: Option<Date>,
    /// Time zone of that day, or of the times in rows [default, but for rows: America/New_York]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Address to listen on, or multicast group to join, with its port; give line A and line B for --format mold
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    /// UDP port of the feed in a capture; give one for each line [default: all that is UDP is the feed's]
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<u16>,
    /// Name of a column, as in price=Px, for each that is not called as what it means: symbol, ts, date, kind, price, size, side,
    /// trade_id, bid, bid_size, ask, ask_size, receive_ts
    #[arg(long = "column", value_name = "MEANING=NAME", value_parser = column)]
    columns: Vec<(Role, String)>,
    /// How a column tells the time: ns, us, ms or s since 1970, rfc3339, or a pattern as "%Y-%m-%d %H:%M:%S%.f", with --zone [default: ns]
    #[arg(long, value_name = "FORMAT")]
    time: Option<String>,
    /// Server to ask for messages that were lost on all lines
    #[arg(long, value_name = "ADDR")]
    rerequest: Option<SocketAddr>,
}

impl FeedFlags {
    /// The feed that they tell of, if they do.
    pub(crate) fn section(&self) -> Option<FeedSection> {
        let Self { format, input, pace, on_malformed, day, zone, listen, ports, columns, time, rerequest } =
            self.clone();
        let line = |listen| LineSection { listen, interface: None, source: None, interface_index: None };
        let section = FeedSection {
            kind: format,
            on_malformed,
            input,
            pace: pace.map(PaceText),
            day,
            zone,
            lines: listen.into_iter().map(line).collect(),
            ports,
            columns: columns.into_iter().collect(),
            time,
            rerequest,
            ..FeedSection::default()
        };
        (section.kind.is_some() || section.keys_given().next().is_some()).then_some(section)
    }
}

/// Where the markets are whose messages tell times since midnight.
const NEW_YORK: &str = "America/New_York";

/// When today began in New York; 0 where that is not known.
fn today_ns() -> u64 {
    let midnight = Zoned::now().in_tz(NEW_YORK).and_then(|now| now.start_of_day());
    midnight.map_or(0, |midnight| u64::try_from(midnight.timestamp().as_nanosecond()).unwrap_or_default())
}

/// A pace as text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PaceText(pub(crate) Pace);

impl<'de> Deserialize<'de> for PaceText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Pace::from_str(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A feed that is open.
pub(crate) struct Feed {
    pub(crate) name: String,
    pub(crate) source: Box<dyn Source>,
    pub(crate) pace: Pace,
    /// Where it listens, if it does.
    pub(crate) listening: Vec<SocketAddr>,
}

impl FeedSection {
    /// Opens it: files and sockets are there, or this says why not.
    ///
    /// # Errors
    /// When a key is missing or means nothing to this kind, or the source cannot be opened.
    pub(crate) fn open(&self, number: usize, symbols: &Arc<Symbols>) -> Result<Feed, CliError> {
        let wrong = |text: String| CliError::Config(format!("feed {}: {text}", self.title(number)));
        let kind = self.check(number)?;
        let input = || self.input.as_deref().ok_or_else(|| wrong("it has no input; give a file's path".to_owned()));
        let on_malformed = self.on_malformed.unwrap_or_default();
        let mut listening = Vec::new();
        let source: Box<dyn Source> = match kind {
            Kind::Asx => Box::new(AsxSource::open(input()?, symbols, on_malformed)?),
            Kind::Mold => {
                let decoder = self.itch(symbols, today_ns()).map_err(wrong)?;
                let source = MoldSource::new(self.mold(on_malformed), decoder)?;
                listening = source.local_addresses();
                Box::new(source)
            }
            Kind::Dbn => Box::new(DbnSource::open(input()?, Arc::clone(symbols), self.dbn(on_malformed))?),
            Kind::Csv | Kind::Ndjson => {
                let config = self.rows(kind == Kind::Csv, on_malformed).map_err(wrong)?;
                Box::new(RowsSource::open(input()?, Arc::clone(symbols), config)?)
            }
            Kind::Pcap => {
                let decoder = self.itch(symbols, 0).map_err(wrong)?;
                Box::new(CaptureSource::open(input()?, self.capture(on_malformed), decoder)?)
            }
            Kind::Itch => Box::new(ItchFile::open(input()?, self.itch(symbols, 0).map_err(wrong)?, on_malformed)?),
        };
        let pace = self.pace.map_or(Pace::Max, |pace| pace.0);
        Ok(Feed { name: self.title(number), source, pace, listening })
    }

    /// What can be said of it before it is opened; returns its kind.
    ///
    /// # Errors
    /// When a key is missing, or means nothing to this kind, or its value makes no sense.
    pub(crate) fn check(&self, number: usize) -> Result<Kind, CliError> {
        let wrong = |text: String| CliError::Config(format!("feed {}: {text}", self.title(number)));
        let kind = self.kind.ok_or_else(|| wrong("it has no kind; give kind = \"itch\", for instance".to_owned()))?;
        if let Some(key) = self.keys_given().find(|key| !kind.keys().contains(key)) {
            let known = kind.keys().join(", ");
            return Err(wrong(format!("{key} means nothing to a feed of kind {}: it takes {known}", kind.name())));
        }
        match kind {
            Kind::Mold if self.lines.is_empty() => {
                return Err(wrong("it has no lines; give lines, or --listen ADDR, twice for A and B".to_owned()));
            }
            Kind::Mold => {}
            _ if self.input.is_none() => return Err(wrong("it has no input; give a file's path".to_owned())),
            _ => {}
        }
        if matches!(kind, Kind::Csv | Kind::Ndjson) {
            self.rows(kind == Kind::Csv, self.on_malformed.unwrap_or_default()).map_err(wrong)?;
        } else {
            self.midnight_ns().map_err(wrong)?;
        }
        Ok(kind)
    }

    /// The feed's name, or its kind and number.
    fn title(&self, number: usize) -> String {
        match (&self.name, self.kind) {
            (Some(name), _) => name.clone(),
            (None, Some(kind)) if number == 1 => kind.name().to_owned(),
            (None, Some(kind)) => format!("{}-{number}", kind.name()),
            (None, None) => number.to_string(),
        }
    }

    pub(super) fn keys_given(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("input", self.input.is_some()),
            ("pace", self.pace.is_some()),
            ("prefix", self.prefix.is_some()),
            ("day", self.day.is_some()),
            ("zone", self.zone.is_some()),
            ("orders_max", self.orders_max.is_some()),
            ("lines", !self.lines.is_empty()),
            ("rerequest", self.rerequest.is_some()),
            ("ports", !self.ports.is_empty()),
            ("window", self.window.is_some()),
            ("request_timeout", self.request_timeout.is_some()),
            ("receive_buffer", self.receive_buffer.is_some()),
            ("columns", !self.columns.is_empty()),
            ("header", !self.header.is_empty()),
            ("delimiter", self.delimiter.is_some()),
            ("time", self.time.is_some()),
            ("date", self.date.is_some()),
            ("symbol", self.symbol.is_some()),
            ("rows", self.rows.is_some()),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key)
    }

    fn mold(&self, on_malformed: OnMalformed) -> MoldConfig {
        let line = |line: &LineSection| LineConfig {
            address: line.listen,
            interface: line.interface,
            source: line.source,
            interface_index: line.interface_index.unwrap_or_default(),
        };
        let mut config = MoldConfig::new(self.lines.iter().map(line));
        config.rerequest = self.rerequest;
        config.on_malformed = on_malformed;
        if let Some(Bytes(bytes)) = self.receive_buffer {
            config.receive_buffer = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
        config.arbiter = self.arbiter();
        config
    }

    fn dbn(&self, on_malformed: OnMalformed) -> DbnConfig {
        let orders_max = self.orders_max.unwrap_or(DbnConfig::default().orders_max);
        DbnConfig { orders_max, prefix: self.prefix.clone().unwrap_or_default(), on_malformed }
    }

    fn capture(&self, on_malformed: OnMalformed) -> CaptureConfig {
        CaptureConfig { ports: self.ports.clone(), arbiter: self.arbiter(), on_malformed }
    }

    fn arbiter(&self) -> ArbiterConfig {
        let default = ArbiterConfig::default();
        let window = self.window.map_or(default.window, |TimeText(window)| Duration::from_nanos(window.get()));
        let request_timeout = self.request_timeout.map(|TimeText(timeout)| Duration::from_nanos(timeout.get()));
        let request_timeout = request_timeout.unwrap_or(default.request_timeout);
        ArbiterConfig { window, request_timeout, ..default }
    }

    /// The decoder of an ITCH feed; `midnight_ns`: where no day is given.
    fn itch(&self, symbols: &Arc<Symbols>, midnight_ns: u64) -> Result<ItchDecoder, String> {
        let default = ItchConfig::default();
        let config = ItchConfig {
            midnight_ns: self.midnight_ns()?.unwrap_or(midnight_ns),
            orders_max: self.orders_max.unwrap_or(default.orders_max),
            prefix: self.prefix.clone().unwrap_or_default(),
        };
        Ok(ItchDecoder::new(Arc::clone(symbols), config))
    }

    /// When the day begins in its zone, which is New York's where none is given.
    fn midnight_ns(&self) -> Result<Option<u64>, String> {
        let Some(day) = self.day else {
            return match &self.zone {
                None => Ok(None),
                Some(zone) => Err(format!("zone {zone} is of no use without a day")),
            };
        };
        midnight_ns(day, self.zone.as_deref().unwrap_or(NEW_YORK)).map(Some)
    }
}

/// When a day begins in a zone, in nanoseconds since the Unix epoch.
fn midnight_ns(day: Date, zone: &str) -> Result<u64, String> {
    let zone = TimeZone::get(zone).map_err(|error| format!("zone {zone:?}: {error}"))?;
    let midnight = zone.to_zoned(day.at(0, 0, 0, 0)).map_err(|error| format!("day {day}: {error}"))?;
    let ns = u64::try_from(midnight.timestamp().as_nanosecond());
    ns.map_err(|_| format!("day {day}: give one from 1970 to 2554"))
}

/// When a day begins in New York, in nanoseconds since the Unix epoch.
///
/// # Errors
/// When it is not from 1970 to 2554.
pub(crate) fn new_york_midnight_ns(day: Date) -> Result<u64, String> {
    midnight_ns(day, NEW_YORK)
}
