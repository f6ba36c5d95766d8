//! `[verdicts]`: what each level does with each priority.

use plimsoll::{DegradationLevel, MessagePriority, Verdict, VerdictTable};
use serde::Deserialize;

/// A preset, and rows that change it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct VerdictsSection {
    preset: Preset,
    normal: Option<Row>,
    soft: Option<Row>,
    graceful: Option<Row>,
    aggressive: Option<Row>,
    circuit_break: Option<Row>,
}

/// Of CRITICAL, HIGH, NORMAL and LOW.
type Row = [VerdictText; 4];

/// A verdict table by name.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Preset {
    #[default]
    Default,
    CriticalOnly,
    Conflate,
}

/// A verdict by its name.
#[derive(Clone, Copy, Debug)]
struct VerdictText(Verdict);

impl<'de> Deserialize<'de> for VerdictText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let found = Verdict::ALL.into_iter().find(|verdict| verdict.name() == text);
        found.map(Self).ok_or_else(|| {
            let names: Vec<_> = Verdict::ALL.iter().map(|verdict| format!("`{}`", verdict.name())).collect();
            serde::de::Error::custom(format!("{text:?} is no verdict: give one of {}", names.join(", ")))
        })
    }
}

impl VerdictsSection {
    /// The row of a key such as `verdicts.soft`, as it is in force.
    pub(crate) fn row(&self, path: &str) -> Option<toml::Value> {
        let label = path.strip_prefix("verdicts.")?;
        let level = DegradationLevel::ALL.into_iter().find(|level| level.label() == label)?;
        let text = |priority| self.table().verdict(level, priority).name();
        Some(toml::Value::Array(
            MessagePriority::ALL.map(|priority| toml::Value::String(text(priority).to_owned())).to_vec(),
        ))
    }

    pub(crate) fn table(&self) -> VerdictTable {
        let preset = match self.preset {
            Preset::Default => VerdictTable::default(),
            Preset::CriticalOnly => VerdictTable::critical_only(),
            Preset::Conflate => VerdictTable::conflate(),
        };
        let rows = [self.normal, self.soft, self.graceful, self.aggressive, self.circuit_break];
        let given = DegradationLevel::ALL.into_iter().zip(rows).filter_map(|(level, row)| Some((level, row?)));
        let cells =
            given.flat_map(|(level, row)| MessagePriority::ALL.into_iter().zip(row).map(move |cell| (level, cell)));
        cells.fold(preset, |table, (level, (priority, text))| table.with(level, priority, text.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_change_the_preset() {
        let text = "preset = \"critical_only\"\nsoft = [\"process\", \"process\", \"spill\", \"shed\"]";
        let section: VerdictsSection = toml::from_str(text).unwrap();
        let (soft, table) = (DegradationLevel::Soft, VerdictTable::critical_only());
        let expected = table.with(soft, MessagePriority::Normal, Verdict::Spill);
        assert_eq!(section.table(), expected.with(soft, MessagePriority::Low, Verdict::Shed));
        for (text, said) in [
            ("soft = [\"process\"]", "4"),
            ("hard = []", "hard"),
            ("soft = [\"drop\", \"shed\", \"shed\", \"shed\"]", "drop"),
        ] {
            let error = toml::from_str::<VerdictsSection>(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
