//! Storms to try a pipeline against.

use std::time::Duration;

use super::model::Conditions;

/// A storm. Each begins with ten seconds of 100 000 messages a second, which the [default model](super::Model) manages, and ends with such
/// a load for as long as it takes to recover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Ten times the load for an hour: 1 million messages a second.
    TenTimesLoad,
    /// A hundred times the load for ten seconds: 10 million messages a second.
    FlashCrash,
    /// What the handler writes to takes ten times as long, for five minutes.
    SlowDownstream,
    /// Ten times the load for a minute, and the spill disk is full from the thirteenth second on, at AGGRESSIVE, until the storm is over.
    DiskFull,
    /// Load that swings about what the pipeline manages, every four seconds, for ten minutes: the lag goes up and down through a trigger and
    /// its recovery mark.
    Oscillating,
}

const BASE: f64 = 100_000.0;
/// When the storm begins.
const BEGIN: f64 = 10.0;

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::TenTimesLoad, Self::FlashCrash, Self::SlowDownstream, Self::DiskFull, Self::Oscillating];

    /// Its name, as the command line has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TenTimesLoad => "ten-times-load",
            Self::FlashCrash => "flash-crash",
            Self::SlowDownstream => "slow-downstream",
            Self::DiskFull => "disk-full",
            Self::Oscillating => "oscillating",
        }
    }

    /// When the storm is over, since the beginning.
    pub fn storm_end(self) -> Duration {
        let storm = match self {
            Self::TenTimesLoad => 3600.0,
            Self::FlashCrash => 10.0,
            Self::SlowDownstream => 300.0,
            Self::DiskFull => 60.0,
            Self::Oscillating => 600.0,
        };
        Duration::from_secs_f64(BEGIN + storm)
    }

    /// How long it takes in all, with the time to recover.
    pub fn length(self) -> Duration {
        let calm = match self {
            // What an hour has spilled takes a while.
            Self::TenTimesLoad => 6 * 3600,
            _ => 900,
        };
        self.storm_end() + Duration::from_secs(calm)
    }

    /// The conditions at a time since the beginning.
    pub fn conditions(self, at: Duration) -> Conditions {
        let calm = Conditions::offered(BASE);
        let seconds = at.as_secs_f64();
        if seconds < BEGIN || at >= self.storm_end() {
            return calm;
        }
        match self {
            Self::TenTimesLoad => Conditions::offered(10.0 * BASE),
            Self::FlashCrash => Conditions::offered(100.0 * BASE),
            Self::SlowDownstream => Conditions { slowdown: 10.0, ..calm },
            Self::DiskFull => Conditions { disk_full: seconds >= 13.0, ..Conditions::offered(10.0 * BASE) },
            Self::Oscillating => {
                let is_high = (((seconds - BEGIN) / 4.0) as u64).is_multiple_of(2);
                Conditions::offered(if is_high { 260_000.0 } else { 60_000.0 })
            }
        }
    }
}
