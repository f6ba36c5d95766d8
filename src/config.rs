//! The configuration file: TOML, all keys optional, unknown ones an error.
//!
//! ```toml
//! [thresholds]                  # as `DegradationThresholds`: lag_*, heap_*, recovery_*
//! lag_soft = 100_000
//!
//! [tiers]                       # symbols by value; all others are tier 3
//! tier_1 = ["BHP", "RIO"]
//! tier_2 = ["QAN"]
//!
//! [pipeline]
//! workers = 2
//! lane_capacity = 6_000_000     # messages; must exceed lag_circuit_break
//! wait = "spin-then-park"       # or "busy-spin", "spin-then-yield"
//! pin = "auto"                  # or "off", or a list of cores: "1,2"
//! prefault = false
//! verdicts = "default"          # or "critical_only"
//!
//! [[feed]]                      # one table a feed; which keys mean something, its kind says
//! kind = "mold"                 # or "itch", "pcap", "dbn", "csv", "ndjson", "asx"
//! name = "nasdaq"               # in metrics and the ledger; else the kind, and from the second feed on its number
//! on_malformed = "stop"         # or "skip"
//! prefix = ""                   # before every symbol's name
//! day = "2026-01-30"            # itch, mold, pcap: of times since midnight; mold: today
//! zone = "America/New_York"     # of that day; csv, ndjson: of local times
//! orders_max = 7_340_032        # itch, mold, pcap, dbn: of the order table
//! lines = [{ listen = "233.54.12.111:26477", interface = "10.1.0.7", source = "206.200.43.72" }]  # mold; IPv6: interface_index
//! rerequest = "10.1.0.9:26477"  # mold
//! request_timeout = "500ms"     # mold: since the first request, or the last answer that brought something
//! window = "10ms"               # mold, pcap: how long a hole is waited for
//! receive_buffer = "8MiB"       # mold
//!
//! [[feed]]
//! kind = "csv"
//! input = "trades.csv.gz"       # all but mold; "-" is standard input
//! pace = "max"                  # all but mold; or "realtime", "x10", "50000/s"
//! ports = [26400, 26401]        # pcap: UDP ports of the lines; else all UDP is the feed's
//! columns = { price = "Px" }    # csv, ndjson: names of columns that are not called as what they mean
//! header = ["ts", "price"]      # csv: names of all columns, if the file does not have them
//! delimiter = ";"               # csv
//! time = "ns"                   # csv, ndjson: or us, ms, s, rfc3339, or a pattern of strptime(3), with zone
//! date = "%d/%m/%Y"             # csv, ndjson: pattern of the date's own column
//! symbol = "BHP"                # csv, ndjson: of rows that name none
//! rows = "trades"               # csv, ndjson: or "quotes"; else a row with a price is a trade
//!
//! [spill]                       # where overflow goes; without it, overflow is shed
//! dir = "/var/spool/plimsoll"
//! segment_bytes = "64MiB"       # sizes: a number of bytes, or one with KiB, MiB, GiB or TiB
//! budget_bytes = "16GiB"        # on disk, for all workers together
//! free_space_floor_bytes = "1GiB"
//! durability = "none"           # or "strict", or "interval:100ms"
//! replay_share = 0.5            # of a busy worker's work
//! at_shutdown = "leave"         # or "replay"
//! on_damage = "continue"        # or "fail"
//!
//! # With the feature `kafka`:
//!
//! [source.kafka]                # a member of a consumer group, instead of feeds
//! brokers = "10.1.0.5:9092,10.1.0.6:9092"
//! topics = ["ticks", "^quotes-.*"]      # one that begins with ^ is a pattern
//! group = "plimsoll"
//! messages = "json"             # or "csv", "raw": ticks of 64 bytes
//! key_is_symbol = false         # json, csv; of raw ticks it always is
//! rows = { columns = { price = "Px" }, time = "ns" }  # json, csv: keys as of a feed of kind csv
//! prefix = ""                   # before every symbol's name
//! start = "earliest"            # where a group begins that has committed nothing; or "latest", "error"
//! assignment = "cooperative-sticky"     # or "range", "roundrobin"
//! commit_interval = "1s"
//! drain_timeout = "10s"         # how long the end of a run may take, and half of that the loss of a partition
//! session_timeout = "45s"
//! statistics_interval = "250ms"
//! connect_timeout = "10s"
//! buffer_bytes = "16MiB"        # that the client keeps ready
//! buffer_records = 16_384
//! fetch_bytes = "4MiB"          # of an answer
//! unfinished_max = 1_048_576    # records
//! on_unreachable = "retry"      # or "fail"
//! on_unknown_topic = "fail"     # or "retry"
//! on_unauthorized = "fail"      # or "retry"
//! on_malformed = "stop"         # or "skip"
//! dead_letter_topic = "dead"    # or dead_letter_file: then on_malformed does not matter
//! instances = 1                 # of this group, while nobody tells how many members it has
//!
//! [source.kafka.properties]     # of librdkafka
//! "security.protocol" = "sasl_plaintext"
//! "sasl.mechanism" = "PLAIN"
//! "sasl.username" = "plimsoll"
//!
//! [source.kafka.secrets]        # properties that are secrets: env or file
//! "sasl.password" = { env = "KAFKA_PASSWORD" }
//!
//! [sink.kafka]
//! ticks = "processed"           # topic of processed ticks
//! format = "json"               # or "raw"
//! bars = "bars"                 # topic of bars
//! bar_interval = "60s"
//! delivery_timeout = "2m"
//! brokers = "10.1.0.7:9092"     # if not the source's; then with properties and secrets of its own
//!
//! [labels]                      # on every metric
//! service = "k2-platform"
//! environment = "dev"
//! component = "plimsoll"
//! ```

mod feed;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
mod rows;
mod spill;
pub(crate) mod units;

use std::path::Path;
use std::str::FromStr;

use plimsoll::{DegradationThresholds, Labels, Pinning, SymbolTiers, VerdictTable, WaitStrategy};
use serde::{Deserialize, Deserializer};

use crate::cli::CliError;

pub(crate) use feed::{Feed, FeedFlags, FeedSection, new_york_midnight_ns};
pub(crate) use spill::{SpillFlags, SpillSection, settings as spill_settings};

/// All settings of a file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) thresholds: DegradationThresholds,
    pub(crate) tiers: Tiers,
    pub(crate) pipeline: PipelineConfig,
    pub(crate) spill: Option<SpillSection>,
    pub(crate) feed: Vec<FeedSection>,
    #[cfg(feature = "kafka")]
    pub(crate) source: kafka::SourceSection,
    #[cfg(feature = "kafka")]
    pub(crate) sink: kafka::SinkSection,
    /// Of a program that knows nothing of it, so that it can say so.
    #[cfg(not(feature = "kafka"))]
    source: Option<toml::Table>,
    #[cfg(not(feature = "kafka"))]
    sink: Option<toml::Table>,
    pub(crate) labels: Labels,
}

/// `[tiers]`: a tier that is not given keeps its default.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tiers {
    tier_1: Option<Vec<String>>,
    tier_2: Option<Vec<String>>,
}

/// `[pipeline]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PipelineConfig {
    pub(crate) workers: Option<usize>,
    pub(crate) lane_capacity: Option<usize>,
    pub(crate) wait: Option<WaitStrategy>,
    pub(crate) pin: Option<Pin>,
    pub(crate) prefault: bool,
    pub(crate) verdicts: Verdicts,
}

/// A verdict table by name.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdicts {
    #[default]
    Default,
    CriticalOnly,
}

impl Verdicts {
    pub(crate) fn table(self) -> VerdictTable {
        match self {
            Self::Default => VerdictTable::default(),
            Self::CriticalOnly => VerdictTable::critical_only(),
        }
    }
}

/// Pinning as text: `off`, `auto`, or core numbers with commas.
#[derive(Clone, Debug)]
pub(crate) struct Pin(pub(crate) Pinning);

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "off" => Pinning::Off,
            "auto" => Pinning::Auto,
            list => {
                let cores = list.split(',').map(|core| core.trim().parse()).collect::<Result<_, _>>();
                Pinning::Cores(cores.map_err(|_| {
                    format!("{list:?} is no pinning: give `off`, `auto`, or core numbers with commas, as in `1,2`")
                })?)
            }
        }))
    }
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Config {
    /// The file's settings, checked; defaults without a file.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, CliError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let wrong = |error: &dyn std::fmt::Display| CliError::Config(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        let config: Self = toml::from_str(&text).map_err(|error| wrong(&error))?;
        #[cfg(not(feature = "kafka"))]
        if config.source.is_some() || config.sink.is_some() {
            return Err(wrong(
                &"this program was built without Kafka, which [source] and [sink] want: build it with --features kafka",
            ));
        }
        config.thresholds.validated().map_err(|error| wrong(&format_args!("[thresholds] {error}")))?;
        Ok(config)
    }

    /// The tiers, with defaults where none are given.
    pub(crate) fn symbol_tiers(&self) -> SymbolTiers {
        let default = SymbolTiers::default();
        let Tiers { tier_1, tier_2 } = &self.tiers;
        let names = |given: &Option<Vec<String>>, default: Vec<String>| given.clone().unwrap_or(default);
        SymbolTiers::new(names(tier_1, default.tier_1()), names(tier_2, default.tier_2()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll::Tier;
    use plimsoll::spill::SpillConfig;

    #[test]
    fn the_documented_file_is_read() {
        let doc = include_str!("config.rs").lines().filter_map(|line| line.strip_prefix("//!"));
        let toml: Vec<&str> =
            doc.skip_while(|l| !l.contains("```toml")).skip(1).take_while(|l| !l.contains("```")).collect();
        let config: Config = toml::from_str(&toml.join("\n")).unwrap();
        assert_eq!(config.thresholds, DegradationThresholds::default());
        assert_eq!((config.pipeline.workers, config.pipeline.lane_capacity), (Some(2), Some(6_000_000)));
        assert_eq!(config.labels, Labels::default());
        let spill = spill_settings(config.spill.as_ref(), &SpillFlags::default()).unwrap();
        assert_eq!(spill, Some(SpillConfig::new("/var/spool/plimsoll")));
        let tiers = config.symbol_tiers();
        assert_eq!(["RIO", "QAN", "CBA"].map(|s| tiers.tier(s)), [Tier::Tier1, Tier::Tier2, Tier::Tier3]);
    }

    #[test]
    fn a_tier_that_is_not_given_keeps_its_default() {
        let config: Config = toml::from_str("[tiers]\ntier_1 = [\"XYZ\"]").unwrap();
        let tiers = config.symbol_tiers();
        assert_eq!(["XYZ", "QAN", "BHP"].map(|s| tiers.tier(s)), [Tier::Tier1, Tier::Tier2, Tier::Tier3]);
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_named_with_their_line() {
        for (text, said) in [
            ("[thresholds]\nlag_sofft = 1", "lag_sofft"),
            ("[pipeline]\nwait = \"sleep\"", "sleep"),
            ("[pipeline]\npin = \"a,b\"", "a,b"),
            ("[nonsense]", "nonsense"),
        ] {
            let error = toml::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("line "), "{error}");
        }
    }
}
