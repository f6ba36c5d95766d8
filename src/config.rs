//! The configuration: a TOML file, the environment, flags; all keys optional, unknown ones an error.
//!
//! `template.toml` lists every key with its default; it is what `plimsoll init` writes. [`load`] puts file and environment together.

mod feed;
mod gradual;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
pub(crate) mod keys;
pub(crate) mod load;
mod operation;
mod rows;
mod signals;
mod spill;
pub(crate) mod units;
mod verdicts;

use std::str::FromStr;
use std::time::Duration;

use plimsoll::{
    Budget, DegradationManager, DegradationThresholds, Gradual, Labels, MessagePriority, Mode, Pinning,
    ProportionalShedding, Settings, Shadow, SymbolTiers, WaitStrategy,
};
use serde::{Deserialize, Deserializer};

use feed::TimeText;
use verdicts::VerdictsSection;

pub(crate) use feed::{Feed, FeedFlags, FeedSection, new_york_midnight_ns};
pub(crate) use load::{Loaded, Loader, Origin};
pub(crate) use operation::{ControlSection, HttpSection, LogFormat, LogSection, NotReady, OnPanic, SupervisionSection};
pub(crate) use spill::{SpillFlags, SpillSection, settings as spill_settings};

/// All settings of a file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) thresholds: DegradationThresholds,
    pub(crate) tiers: Tiers,
    pub(crate) verdicts: VerdictsSection,
    pub(crate) signals: signals::SignalsSection,
    proportional: gradual::ByPriority<ProportionalShedding>,
    budget: gradual::ByPriority<Budget>,
    pub(crate) shadow: Option<operation::ShadowSection>,
    pub(crate) pipeline: PipelineConfig,
    pub(crate) supervision: SupervisionSection,
    pub(crate) http: HttpSection,
    pub(crate) control: ControlSection,
    pub(crate) log: LogSection,
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
    pub(crate) mode: Mode,
    sample_interval: Option<TimeText>,
    drain_timeout: Option<TimeText>,
}

impl PipelineConfig {
    pub(crate) fn sample_interval(&self) -> Duration {
        self.sample_interval.map_or(Duration::from_millis(10), TimeText::duration)
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        self.drain_timeout.map_or(Duration::from_secs(30), TimeText::duration)
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
    /// What contradicts itself, with the key that it is about.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        #[cfg(not(feature = "kafka"))]
        for (key, section) in [("source", &self.source), ("sink", &self.sink)] {
            if section.is_some() {
                let built = "this program was built without Kafka, which [source] and [sink] want: build it with --features kafka";
                return Err((key, built.to_owned()));
            }
        }
        self.thresholds.validated().map_err(|error| ("thresholds", error.to_string()))?;
        for (priority, gradual) in MessagePriority::ALL.into_iter().zip(self.gradual()) {
            let section = if gradual.shed.is_some() { "proportional" } else { "budget" };
            gradual.checked(priority).map_err(|error| (section, error.to_string()))?;
        }
        let mut manager = DegradationManager::default();
        manager.set_signals(self.signals.signals()).map_err(|error| ("signals", error.to_string()))?;
        if let Some(shadow) = &self.shadow {
            let thresholds = shadow.thresholds(&self.thresholds);
            thresholds.validated().map_err(|error| ("shadow.thresholds", error.to_string()))?;
        }
        Ok(())
    }

    /// Whether it is a member of a Kafka group.
    pub(crate) fn has_kafka(&self) -> bool {
        #[cfg(feature = "kafka")]
        let has_kafka = self.source.kafka.is_some();
        #[cfg(not(feature = "kafka"))]
        let has_kafka = false;
        has_kafka
    }

    /// What can be changed while a pipeline runs.
    pub(crate) fn settings(&self, replay_share: f64) -> Settings {
        Settings {
            thresholds: self.thresholds,
            signals: self.signals.signals(),
            gradual: self.gradual(),
            verdicts: self.verdicts.table(),
            tiers: self.symbol_tiers(),
            mode: self.pipeline.mode,
            sample_interval: self.pipeline.sample_interval(),
            replay_share,
            shadow: self.shadow(),
        }
    }

    /// What each priority gets beside its verdicts.
    pub(crate) fn gradual(&self) -> [Gradual; 4] {
        gradual::gradual(&self.proportional, &self.budget)
    }

    /// Thresholds that are tried out, if any are.
    pub(crate) fn shadow(&self) -> Option<Shadow> {
        self.shadow.as_ref().map(|shadow| shadow.shadow(&self.thresholds))
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
    fn every_key_of_the_template_is_one_and_its_value_is_the_default_where_there_is_one() {
        let config: Config = toml::from_str(&keys::template_in_full()).unwrap();
        assert_eq!(config.check(), Ok(()));
        let default = Config::default();
        assert_eq!(config.thresholds, DegradationThresholds::default());
        assert_eq!(config.verdicts.table(), default.verdicts.table());
        assert_eq!(config.pipeline.workers, Some(1));
        assert_eq!(config.pipeline.lane_capacity, Some(5_250_001));
        let times = |config: &Config| (config.pipeline.sample_interval(), config.pipeline.drain_timeout());
        assert_eq!(times(&config), times(&default));
        assert_eq!(config.supervision.supervision(), default.supervision.supervision());
        assert_eq!(config.supervision.on_panic, default.supervision.on_panic);
        assert_eq!(config.http.not_ready_from, default.http.not_ready_from);
        assert_eq!(config.log.format, default.log.format);
        assert_eq!(config.log.filter.as_deref(), Some(LogSection::FILTER));
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
