//! `[source.kafka]` and `[sink.kafka]`: a member of a consumer group, and the topics that it writes.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plimsoll::Symbols;
use plimsoll::kafka::{
    AssignmentStrategy, ClusterConfig, KafkaConfig, OnError, OnUndecodable, Secret, SinkConfig, SinkFormat, StartAt,
    TickDecoder, TickFormat, is_secret,
};
use plimsoll::source::OnMalformed;
use serde::Deserialize;

use super::feed::{FeedSection, TimeText};
use super::units::Bytes;
use crate::cli::CliError;

/// How ticks are written in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Messages {
    /// Trades and quotes as JSON objects, one a line if a record has several
    #[default]
    Json,
    /// Rows of CSV; the columns are given with --header
    Csv,
    /// Ticks of 64 bytes each, as a sink writes them; the key is the symbol
    Raw,
}

/// `[source]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SourceSection {
    pub(crate) kafka: Option<KafkaSection>,
}

/// `[sink]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SinkSection {
    pub(crate) kafka: Option<KafkaSinkSection>,
}

/// Where a secret is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum SecretAt {
    /// In this variable of the environment.
    Env(String),
    /// In this file; a line's end at its end is not part of it.
    File(PathBuf),
}

impl SecretAt {
    fn read(&self, property: &str) -> Result<Secret, CliError> {
        match self {
            Self::Env(name) => std::env::var(name)
                .map(Secret::new)
                .map_err(|error| CliError::Config(format!("{property}: environment variable {name}: {error}"))),
            Self::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| CliError::Config(format!("{property}: {}: {error}", path.display())))?;
                Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
            }
        }
    }
}

/// `[source.kafka]`: what is not given keeps its default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KafkaSection {
    brokers: Option<String>,
    topics: Vec<String>,
    group: Option<String>,
    messages: Option<Messages>,
    key_is_symbol: Option<bool>,
    rows: Option<FeedSection>,
    prefix: Option<String>,
    start: Option<StartAt>,
    assignment: Option<AssignmentStrategy>,
    commit_interval: Option<TimeText>,
    drain_timeout: Option<TimeText>,
    session_timeout: Option<TimeText>,
    statistics_interval: Option<TimeText>,
    connect_timeout: Option<TimeText>,
    buffer_bytes: Option<Bytes>,
    buffer_records: Option<u32>,
    fetch_bytes: Option<Bytes>,
    unfinished_max: Option<usize>,
    on_unreachable: Option<OnError>,
    on_unknown_topic: Option<OnError>,
    on_unauthorized: Option<OnError>,
    on_malformed: Option<OnMalformed>,
    dead_letter_topic: Option<String>,
    dead_letter_file: Option<PathBuf>,
    instances: Option<u64>,
    properties: BTreeMap<String, String>,
    secrets: BTreeMap<String, SecretAt>,
}

/// `[sink.kafka]`: what is not given keeps its default; a cluster that is not given is the source's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KafkaSinkSection {
    brokers: Option<String>,
    ticks: Option<String>,
    format: Option<SinkFormat>,
    bars: Option<String>,
    bar_interval: Option<TimeText>,
    delivery_timeout: Option<TimeText>,
    properties: BTreeMap<String, String>,
    secrets: BTreeMap<String, SecretAt>,
}

/// Flags that override both.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Kafka")]
pub(crate) struct KafkaFlags {
    /// Take part in a consumer group of this cluster: HOST:PORT, several with commas
    #[arg(long, value_name = "BROKERS")]
    kafka: Option<String>,
    /// Topic to read; one that begins with ^ is a pattern
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// Group whose members share the partitions
    #[arg(long)]
    group: Option<String>,
    /// How ticks are written in records [default: json]
    #[arg(long, value_enum)]
    messages: Option<Messages>,
    /// The records' key is the symbol of rows
    #[arg(long)]
    key_is_symbol: bool,
    /// Columns of CSV in records, with commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    header: Vec<String>,
    /// Where a group begins that has committed nothing [default: earliest]
    #[arg(long, value_enum)]
    start: Option<StartAt>,
    /// Topic for records that cannot be decoded [default: none: such a record ends the run, or see --on-malformed]
    #[arg(long, value_name = "TOPIC", conflicts_with = "dead_letter_file")]
    dead_letter_topic: Option<String>,
    /// The same, a file
    #[arg(long, value_name = "FILE")]
    dead_letter_file: Option<PathBuf>,
    /// Topic to write processed ticks to
    #[arg(long, value_name = "TOPIC")]
    sink_ticks: Option<String>,
    /// How ticks are written there [default: json]
    #[arg(long, value_enum, value_name = "FORMAT")]
    sink_format: Option<SinkFormat>,
    /// Topic to write bars to, as they close; see --bar-interval
    #[arg(long, value_name = "TOPIC")]
    sink_bars: Option<String>,
    /// A property of librdkafka's, as in socket.timeout.ms=5000; secrets are for the configuration
    #[arg(short = 'X', long = "kafka-property", value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| "give NAME=VALUE".to_owned())?;
    if is_secret(name) {
        return Err(format!(
            "{name} is a secret, and others see a process's arguments: give it in [source.kafka.secrets]"
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// What a run with Kafka is made from.
pub(crate) struct KafkaSettings {
    pub(crate) source: KafkaConfig,
    pub(crate) format: TickFormat,
    pub(crate) prefix: String,
    pub(crate) on_undecodable: OnUndecodable,
    pub(crate) sink: Option<SinkConfig>,
    pub(crate) instances: u64,
    /// For the whole end of a run.
    pub(crate) drain_timeout: Duration,
}

impl KafkaSettings {
    pub(crate) fn decoder(&self, symbols: &Arc<Symbols>) -> Result<TickDecoder, CliError> {
        let decoder = TickDecoder::new(Arc::clone(symbols), self.format.clone(), &self.prefix);
        decoder.map_err(|reason| CliError::Config(format!("kafka: {reason}")))
    }
}

fn secrets(at: &BTreeMap<String, SecretAt>) -> Result<BTreeMap<String, Secret>, CliError> {
    at.iter().map(|(property, at)| Ok((property.clone(), at.read(property)?))).collect()
}

fn duration(text: TimeText) -> Duration {
    Duration::from_nanos(text.0.get())
}

/// Whether the sections make sense by themselves; `with_secrets`: and whether their secrets are where they say.
///
/// # Errors
/// What is wrong.
pub(crate) fn check(
    source: Option<&KafkaSection>,
    sink: Option<&KafkaSinkSection>,
    with_secrets: bool,
) -> Result<(), CliError> {
    let (mut source, mut sink) = (source.cloned(), sink.cloned());
    if !with_secrets {
        source.iter_mut().for_each(|section| section.secrets.clear());
        sink.iter_mut().for_each(|section| section.secrets.clear());
    }
    let minute = NonZeroU64::new(60_000_000_000).unwrap_or(NonZeroU64::MIN);
    let settings = settings(source.as_ref(), sink.as_ref(), &KafkaFlags::default(), None, minute)?;
    settings.map_or(Ok(()), |settings| settings.source.check().map_err(|error| CliError::Config(error.to_string())))
}

/// The settings of the configuration and the flags; `None`: there is no Kafka. `rows`: what other flags tell of rows.
pub(crate) fn settings(
    section: Option<&KafkaSection>,
    sink: Option<&KafkaSinkSection>,
    flags: &KafkaFlags,
    rows: Option<FeedSection>,
    bar_interval: NonZeroU64,
) -> Result<Option<KafkaSettings>, CliError> {
    let given = section.cloned();
    if given.is_none() && flags.kafka.is_none() {
        return match is_any_given(flags) || sink.is_some() {
            true => Err(CliError::Usage("there is no cluster: give --kafka BROKERS, or [source.kafka]".to_owned())),
            false => Ok(None),
        };
    }
    let section = given.unwrap_or_default();
    let topics = if flags.topics.is_empty() { section.topics.clone() } else { flags.topics.clone() };
    let brokers = flags.kafka.clone().or(section.brokers.clone()).unwrap_or_default();
    let group = flags.group.clone().or(section.group.clone()).unwrap_or_default();
    let mut config = KafkaConfig::new(brokers, group, topics);
    config.cluster.properties.clone_from(&section.properties);
    config.cluster.properties.extend(flags.properties.iter().cloned());
    config.cluster.secrets = secrets(&section.secrets)?;
    apply(&mut config, &section, flags);
    let drain_timeout = config.drain_timeout;
    // The source's part; the lanes and the sink have a quarter each.
    config.drain_timeout = drain_timeout / 2;
    let sink = sink_config(&config.cluster, sink, flags, bar_interval)?;
    Ok(Some(KafkaSettings {
        format: format(&section, flags, rows)?,
        prefix: section.prefix.clone().unwrap_or_default(),
        on_undecodable: on_undecodable(&section, flags)?,
        instances: section.instances.unwrap_or(1),
        source: config,
        sink,
        drain_timeout,
    }))
}

fn is_any_given(flags: &KafkaFlags) -> bool {
    let KafkaFlags { topics, group, messages, sink_ticks, sink_bars, dead_letter_topic, dead_letter_file, .. } = flags;
    !topics.is_empty()
        || group.is_some()
        || messages.is_some()
        || [sink_ticks, sink_bars, dead_letter_topic].into_iter().any(Option::is_some)
        || dead_letter_file.is_some()
}

fn apply(config: &mut KafkaConfig, section: &KafkaSection, flags: &KafkaFlags) {
    fn set<T>(place: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *place = value;
        }
    }
    set(&mut config.start, flags.start.or(section.start));
    set(&mut config.assignment, section.assignment);
    set(&mut config.commit_interval, section.commit_interval.map(duration));
    set(&mut config.drain_timeout, section.drain_timeout.map(duration));
    set(&mut config.session_timeout, section.session_timeout.map(duration));
    set(&mut config.statistics_interval, section.statistics_interval.map(duration));
    set(&mut config.connect_timeout, section.connect_timeout.map(duration));
    set(&mut config.buffer_bytes, section.buffer_bytes.map(|bytes| bytes.0));
    set(&mut config.buffer_records, section.buffer_records);
    set(&mut config.fetch_bytes, section.fetch_bytes.map(|bytes| u32::try_from(bytes.0).unwrap_or(u32::MAX)));
    set(&mut config.unfinished_max, section.unfinished_max);
    set(&mut config.on_unreachable, section.on_unreachable);
    set(&mut config.on_unknown_topic, section.on_unknown_topic);
    set(&mut config.on_unauthorized, section.on_unauthorized);
}

fn on_undecodable(section: &KafkaSection, flags: &KafkaFlags) -> Result<OnUndecodable, CliError> {
    let topic = flags.dead_letter_topic.clone().or(section.dead_letter_topic.clone());
    let file = flags.dead_letter_file.clone().or(section.dead_letter_file.clone());
    match (topic, file, section.on_malformed) {
        (Some(_), Some(_), _) => {
            Err(CliError::Config("dead letters go to a topic or to a file, not to both".to_owned()))
        }
        (Some(topic), None, _) => Ok(OnUndecodable::Topic(topic)),
        (None, Some(file), _) => Ok(OnUndecodable::File(file)),
        (None, None, on_malformed) => Ok(on_malformed.unwrap_or_default().into()),
    }
}

fn format(section: &KafkaSection, flags: &KafkaFlags, rows: Option<FeedSection>) -> Result<TickFormat, CliError> {
    let wrong = |text: String| CliError::Config(format!("kafka: {text}"));
    let messages = flags.messages.or(section.messages).unwrap_or_default();
    let mut rows = rows.or(section.rows.clone()).unwrap_or_default();
    if !flags.header.is_empty() {
        rows.header.clone_from(&flags.header);
    }
    if messages == Messages::Raw {
        return match rows.is_given() {
            true => Err(wrong("raw ticks have no rows: leave out what tells of columns and times".to_owned())),
            false => Ok(TickFormat::Raw),
        };
    }
    let is_csv = messages == Messages::Csv;
    let rows = rows.rows_of_records(is_csv).map_err(wrong)?;
    let key_is_symbol = flags.key_is_symbol || section.key_is_symbol.unwrap_or(false);
    Ok(TickFormat::Rows { rows: Box::new(rows), key_is_symbol })
}

fn sink_config(
    source: &ClusterConfig,
    section: Option<&KafkaSinkSection>,
    flags: &KafkaFlags,
    bar_interval: NonZeroU64,
) -> Result<Option<SinkConfig>, CliError> {
    let section = section.cloned().unwrap_or_default();
    let cluster = match section.brokers {
        None => source.clone(),
        Some(brokers) => {
            ClusterConfig { brokers, properties: section.properties.clone(), secrets: secrets(&section.secrets)? }
        }
    };
    let mut config = SinkConfig::new(cluster);
    let format = flags.sink_format.or(section.format).unwrap_or_default();
    config.ticks = flags.sink_ticks.clone().or(section.ticks).map(|topic| (topic, format));
    let interval = section.bar_interval.map_or(bar_interval, |interval| interval.0);
    config.bars = flags.sink_bars.clone().or(section.bars).map(|topic| (topic, interval));
    if let Some(timeout) = section.delivery_timeout {
        config.delivery_timeout = duration(timeout);
    }
    Ok((config.ticks.is_some() || config.bars.is_some()).then_some(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        source: SourceSection,
        #[serde(default)]
        sink: SinkSection,
    }

    fn read(toml: &str, flags: &KafkaFlags) -> Result<Option<KafkaSettings>, String> {
        let file: File = toml::from_str(toml).map_err(|error| error.to_string())?;
        let minute = NonZeroU64::new(60_000_000_000).unwrap();
        let settings = settings(file.source.kafka.as_ref(), file.sink.kafka.as_ref(), flags, None, minute);
        settings.map_err(|error| error.to_string())
    }

    const SOURCE: &str = "[source.kafka]\nbrokers = \"a:1\"\ntopics = [\"t\"]\ngroup = \"g\"\n";

    #[test]
    fn keys_become_settings_and_flags_override_them() {
        let toml = format!(
            "{SOURCE}assignment = \"roundrobin\"\nstart = \"latest\"\ncommit_interval = \"2s\"\ndrain_timeout = \"8s\"\nbuffer_bytes = \"1MiB\"\n\
             messages = \"csv\"\nrows = {{ header = [\"ts\", \"symbol\", \"price\", \"size\"], time = \"ms\" }}\n[sink.kafka]\nbars = \"b\"\n"
        );
        let flags = KafkaFlags { group: Some("h".to_owned()), ..KafkaFlags::default() };
        let settings = read(&toml, &flags).unwrap().unwrap();
        let source = &settings.source;
        assert_eq!((&*source.cluster.brokers, &*source.group, source.topics.len()), ("a:1", "h", 1));
        assert_eq!((source.assignment, source.start), (AssignmentStrategy::RoundRobin, StartAt::Latest));
        assert_eq!((source.commit_interval, source.drain_timeout), (Duration::from_secs(2), Duration::from_secs(4)));
        assert_eq!(source.buffer_bytes, 1 << 20);
        assert!(matches!(&settings.format, TickFormat::Rows { rows, .. } if rows.header.len() == 4));
        let sink = settings.sink.unwrap();
        assert_eq!((sink.cluster, sink.bars.unwrap().0), (settings.source.cluster, "b".to_owned()));
        assert!(read("", &KafkaFlags::default()).unwrap().is_none());
    }

    #[test]
    fn secrets_come_from_files_or_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "hunter2\n").unwrap();
        let with =
            |at: &str| read(&format!("{SOURCE}secrets = {{ \"sasl.password\" = {at} }}"), &KafkaFlags::default());
        let settings = with(&format!("{{ file = {path:?} }}")).unwrap().unwrap();
        assert_eq!(settings.source.cluster.secrets["sasl.password"], Secret::new("hunter2"));
        let missing = |at: &str| with(at).err().unwrap();
        assert!(missing("{ file = \"/no/such\" }").contains("sasl.password: /no/such: No such file"));
        let error = missing("{ env = \"PLIMSOLL_NO_SUCH_VARIABLE\" }");
        assert!(error.contains("sasl.password: environment variable PLIMSOLL_NO_SUCH_VARIABLE"), "{error}");
        assert!(property("sasl.password=x").unwrap_err().contains("secret"));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (toml, reason) in [
            ("[source.kafka]\nbroker = \"a:1\"", "unknown field `broker`"),
            ("[sink.kafka]\nbars = \"b\"", "there is no cluster"),
            (&*format!("{SOURCE}dead_letter_topic = \"d\"\ndead_letter_file = \"f\""), "not to both"),
            (&*format!("{SOURCE}messages = \"raw\"\nrows = {{ time = \"ms\" }}"), "raw ticks have no rows"),
            (&*format!("{SOURCE}rows = {{ input = \"x\" }}"), "input means nothing"),
            (&*format!("{SOURCE}commit_interval = \"soon\""), "\"soon\" is no time"),
        ] {
            let error = read(toml, &KafkaFlags::default()).err().unwrap();
            assert!(error.contains(reason), "{error}");
        }
    }
}
