//! Settings of the spill log.

use std::path::PathBuf;
use std::time::Duration;

use super::format::FRAME;

/// Where overflow goes, how much of it, and how safe it is there.
///
/// ```
/// use plimsoll::spill::{Durability, SpillConfig};
///
/// let config = SpillConfig { budget_bytes: 64 << 30, ..SpillConfig::new("/var/spool/plimsoll") };
/// assert_eq!(config.durability, Durability::None);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SpillConfig {
    /// Directory of the log; made if it is not there. Each worker has a directory of its own in it.
    pub dir: PathBuf,
    /// Bytes of a segment, a multiple of 4096: 64 MiB by default, 16 KiB at least, 1 GiB at most. The one that is written to is replayed
    /// from memory, so it should be small beside it.
    pub segment_bytes: u64,
    /// What a spilled message survives.
    pub durability: Durability,
    /// Bytes on disk that all workers' segments may take together: 16 GiB by default, two segments for each worker at least.
    pub budget_bytes: u64,
    /// Bytes that have to stay free on the disk: 1 GiB by default.
    pub free_space_floor_bytes: u64,
    /// How much of a busy worker's work replay may be: more than 0, less than 1, 0.5 by default. A worker that has nothing else to
    /// do replays as fast as it can; and it always replays a little more than it spills meanwhile, so that replay comes to an end.
    pub replay_share: f64,
    /// What happens at the end to messages that wait in the log.
    pub at_shutdown: AtShutdown,
    /// What happens at the start when the log turns out to be damaged.
    pub on_damage: OnDamage,
}

/// What a spilled message survives.
///
/// | | end of the process, `kill -9` too | power loss, crash of the system | costs the worker |
/// |---|---|---|---|
/// | `None` | all that counts as spilled | what the system had written back by itself | nothing |
/// | `Interval` | all that counts as spilled | all but the last interval, and the time a write takes | nothing |
/// | `Strict` | all that counts as spilled | all that counts as spilled | waits for the disk, once for each 128 messages |
///
/// The third column takes the disk at its word, and needs one that writes 4096 bytes as one: a frame that is written again as it is
/// filled can be torn otherwise. After a power loss more may be replayed twice than after the end of a process. If
/// the disk fails to write, that is logged and counted, and nothing more is spilled; what was spilled is replayed all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The page cache has it: that outlives the process.
    #[default]
    None,
    /// It is written to the disk in the background, this often.
    Interval(Duration),
    /// It is on the disk before it counts as spilled.
    Strict,
}

/// What happens at the end to messages that wait in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum, serde::Deserialize))]
#[cfg_attr(feature = "cli", serde(rename_all = "kebab-case"))]
pub enum AtShutdown {
    /// They stay on disk, and are replayed after the next start.
    #[default]
    Leave,
    /// They are replayed before the pipeline ends, whatever the level.
    Replay,
}

/// What happens at the start when the log turns out to be damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum, serde::Deserialize))]
#[cfg_attr(feature = "cli", serde(rename_all = "kebab-case"))]
pub enum OnDamage {
    /// It is reported, what is lost is counted, and all that is whole is replayed.
    #[default]
    Continue,
    /// The start fails, and the log stays as it is.
    Fail,
}

/// Two pages for the header, and two frames.
const SEGMENT_BYTES_MIN: u64 = 4 * FRAME as u64;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

impl SpillConfig {
    /// The defaults, in this directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            durability: Durability::default(),
            budget_bytes: 16 << 30,
            free_space_floor_bytes: 1 << 30,
            replay_share: 0.5,
            at_shutdown: AtShutdown::default(),
            on_damage: OnDamage::default(),
        }
    }

    /// Says what is wrong with the settings.
    pub(crate) fn check(&self, workers: usize) -> Result<(), String> {
        let bytes = self.segment_bytes;
        if !bytes.is_multiple_of(FRAME as u64) || !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) {
            let (min, max) = (SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
            return Err(format!("segment_bytes = {bytes} must be a multiple of {FRAME}, from {min} to {max}"));
        }
        let least = 2 * bytes * workers as u64;
        if self.budget_bytes < least {
            let budget = self.budget_bytes;
            return Err(format!(
                "budget_bytes = {budget} must be at least {least}, two segments of {bytes} bytes for each of {workers} workers: \
                 raise it, or lower segment_bytes"
            ));
        }
        if !(self.replay_share > 0.0 && self.replay_share < 1.0) {
            return Err(format!("replay_share = {} must be more than 0 and less than 1", self.replay_share));
        }
        if let Durability::Interval(interval) = self.durability
            && interval.is_zero()
        {
            return Err("the interval of durability must be more than 0: use `strict` to lose nothing".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_each_wrong_setting_is_named() {
        let good = SpillConfig::new("x");
        assert_eq!(good.check(8), Ok(()));
        for (config, workers, said) in [
            (SpillConfig { segment_bytes: 4096, ..good.clone() }, 1, "segment_bytes = 4096"),
            (SpillConfig { segment_bytes: 20_000, ..good.clone() }, 1, "segment_bytes = 20000"),
            (SpillConfig { segment_bytes: 1 << 40, ..good.clone() }, 1, "segment_bytes"),
            (SpillConfig { budget_bytes: 1 << 20, ..good.clone() }, 1, "budget_bytes = 1048576"),
            (good.clone(), 200, "budget_bytes"),
            (SpillConfig { replay_share: 0.0, ..good.clone() }, 1, "replay_share = 0"),
            (SpillConfig { replay_share: 1.0, ..good.clone() }, 1, "replay_share = 1"),
            (SpillConfig { replay_share: f64::NAN, ..good.clone() }, 1, "replay_share = NaN"),
            (SpillConfig { durability: Durability::Interval(Duration::ZERO), ..good.clone() }, 1, "interval"),
        ] {
            let error = config.check(workers).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
