//! `[spill]`: where overflow goes, how much of it, and how safe it is there.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use plimsoll::spill::{AtShutdown, Durability, OnDamage, SpillConfig};
use serde::{Deserialize, Deserializer};

use super::units::{Bytes, time};
use crate::cli::CliError;

/// `[spill]`: what is not given keeps its default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SpillSection {
    pub(crate) dir: Option<PathBuf>,
    segment_bytes: Option<Bytes>,
    budget_bytes: Option<Bytes>,
    free_space_floor_bytes: Option<Bytes>,
    durability: Option<DurabilityText>,
    pub(crate) replay_share: Option<f64>,
    at_shutdown: Option<AtShutdown>,
    on_damage: Option<OnDamage>,
}

/// Flags that override it.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Spill log")]
pub(crate) struct SpillFlags {
    /// Directory to spill overflow to; messages that an earlier run has left there are replayed [default: none: it is shed]
    #[arg(long, value_name = "DIR")]
    spill: Option<PathBuf>,
    /// Most bytes on disk, as in 64MiB or 16GiB [default: 16GiB]
    #[arg(long, value_name = "SIZE")]
    spill_budget: Option<Bytes>,
    /// What a spilled message survives: none (the process), strict (the machine, at once), interval:100ms (the machine,
    /// after that time) [default: none]
    #[arg(long, value_name = "HOW")]
    spill_durability: Option<DurabilityText>,
    /// What happens at the end to messages that wait in the log [default: leave]
    #[arg(long, value_enum)]
    at_shutdown: Option<AtShutdown>,
}

/// Durability as text: `none`, `strict`, or `interval:` and a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DurabilityText(Durability);

impl FromStr for DurabilityText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_wrong = |why: &str| {
            format!(
                "{text:?} is no durability: {why}give `none`, `strict`, or `interval:` and a time, as in `interval:100ms`"
            )
        };
        Ok(Self(match text {
            "none" => Durability::None,
            "strict" => Durability::Strict,
            _ => {
                let interval = text.strip_prefix("interval:").ok_or_else(|| is_wrong(""))?;
                let ns = time(interval).map_err(|why| is_wrong(&format!("{why}; ")))?;
                Durability::Interval(Duration::from_nanos(ns.get()))
            }
        }))
    }
}

impl<'de> Deserialize<'de> for DurabilityText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The spill log's settings: of the flags, else of the file, else the defaults. `None` when no directory is given.
///
/// # Errors
/// When there are settings, and no directory that they are for.
pub(crate) fn settings(section: Option<&SpillSection>, flags: &SpillFlags) -> Result<Option<SpillConfig>, CliError> {
    let Some(dir) = flags.spill.as_deref().or_else(|| section?.dir.as_deref()) else {
        if let Some(flag) = flags.first_without_dir() {
            return Err(CliError::Usage(format!(
                "{flag} is for a spill log, and there is none: give --spill DIR, too"
            )));
        }
        return match section {
            None => Ok(None),
            Some(_) => Err(CliError::Config("[spill] has no dir: set dir, or give --spill DIR".to_owned())),
        };
    };
    if dir == Path::new("") {
        return Err(CliError::Config("the directory of the spill log has an empty name: give --spill DIR".to_owned()));
    }
    let default = SpillConfig::new(dir);
    let section = section.cloned().unwrap_or_default();
    let bytes = |given: Option<Bytes>, default| given.map_or(default, |bytes| bytes.0);
    Ok(Some(SpillConfig {
        segment_bytes: bytes(section.segment_bytes, default.segment_bytes),
        budget_bytes: bytes(flags.spill_budget.or(section.budget_bytes), default.budget_bytes),
        free_space_floor_bytes: bytes(section.free_space_floor_bytes, default.free_space_floor_bytes),
        durability: flags.spill_durability.or(section.durability).map_or(default.durability, |text| text.0),
        replay_share: section.replay_share.unwrap_or(default.replay_share),
        at_shutdown: flags.at_shutdown.or(section.at_shutdown).unwrap_or(default.at_shutdown),
        on_damage: section.on_damage.unwrap_or(default.on_damage),
        ..default
    }))
}

impl SpillFlags {
    /// A flag that says nothing without a directory.
    fn first_without_dir(&self) -> Option<&'static str> {
        let given = [
            (self.spill_budget.is_some(), "--spill-budget"),
            (self.spill_durability.is_some(), "--spill-durability"),
            (self.at_shutdown.is_some(), "--at-shutdown"),
        ];
        given.iter().find(|(is_given, _)| *is_given).map(|(_, flag)| *flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(toml: &str) -> SpillSection {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn flags_override_the_file_and_the_file_the_defaults() {
        let section = section(
            "dir = \"a\"\nbudget_bytes = 1_000_000\nsegment_bytes = \"1MiB\"\ndurability = \"interval:50ms\"\n\
             replay_share = 0.25\nat_shutdown = \"replay\"\non_damage = \"fail\"",
        );
        let file = SpillConfig {
            budget_bytes: 1_000_000,
            segment_bytes: 1 << 20,
            durability: Durability::Interval(Duration::from_millis(50)),
            replay_share: 0.25,
            at_shutdown: AtShutdown::Replay,
            on_damage: OnDamage::Fail,
            ..SpillConfig::new("a")
        };
        assert_eq!(settings(Some(&section), &SpillFlags::default()).unwrap(), Some(file.clone()));
        let flags = SpillFlags {
            spill: Some("b".into()),
            spill_budget: Some(Bytes(7)),
            spill_durability: Some("strict".parse().unwrap()),
            at_shutdown: Some(AtShutdown::Leave),
        };
        let both = SpillConfig {
            dir: "b".into(),
            budget_bytes: 7,
            durability: Durability::Strict,
            at_shutdown: AtShutdown::Leave,
            ..file
        };
        assert_eq!(settings(Some(&section), &flags).unwrap(), Some(both));
        let flags = SpillFlags { spill: Some("b".into()), ..Default::default() };
        assert_eq!(settings(None, &flags).unwrap(), Some(SpillConfig::new("b")));
    }

    #[test]
    fn without_a_directory_there_is_no_log_and_settings_for_one_are_an_error() {
        assert_eq!(settings(None, &SpillFlags::default()).unwrap(), None);
        let error = settings(Some(&section("replay_share = 0.25")), &SpillFlags::default()).unwrap_err();
        assert!(matches!(&error, CliError::Config(text) if text.contains("[spill] has no dir")), "{error}");
        let flags = SpillFlags { at_shutdown: Some(AtShutdown::Replay), ..Default::default() };
        let error = settings(None, &flags).unwrap_err();
        assert!(matches!(&error, CliError::Usage(text) if text.contains("--at-shutdown")), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        for (text, said) in [
            ("dirr = \"x\"", "dirr"),
            ("dir = \"x\"\nbudget_bytes = \"64MB\"", "\"64MB\" is no size"),
            ("dir = \"x\"\nbudget_bytes = -1", "cannot be less than 0"),
            ("dir = \"x\"\nbudget_bytes = 1.5", "a number of bytes, or a text"),
            ("dir = \"x\"\ndurability = \"often\"", "\"often\" is no durability"),
            ("dir = \"x\"\ndurability = \"interval:5\"", "whole number above 0 and a unit"),
            ("dir = \"x\"\nat_shutdown = \"drop\"", "`leave` or `replay`"),
            ("dir = \"x\"\non_damage = \"cry\"", "`continue` or `fail`"),
        ] {
            let error = toml::from_str::<SpillSection>(text).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("line "), "{error}");
        }
    }
}
