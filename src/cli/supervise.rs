//! Ends a run that does not come right by itself: one whose monitor does not do its work, so that the level would be frozen for ever, or whose
//! circuit stays broken. Handlers and workers are the pipeline's own concern.

use std::time::Duration;

use plimsoll::internals::rounded;
use plimsoll::{Control, DegradationLevel, Mode};

use super::CliError;
use super::signal::StopFlag;

/// Looks at a run now and then.
pub(crate) struct Supervisor {
    control: Control,
    stop: StopFlag,
    /// For how long the level may be CIRCUIT_BREAK.
    stuck_after: Option<Duration>,
    /// Why it has ended the run.
    trouble: Option<Trouble>,
}

/// Why a run was ended.
enum Trouble {
    MonitorDied,
    /// The level was CIRCUIT_BREAK for so long.
    Stuck(Duration),
}

impl Supervisor {
    pub(crate) fn new(control: Control, stop: StopFlag, stuck_after: Option<Duration>) -> Self {
        Self { control, stop, stuck_after, trouble: None }
    }

    pub(crate) fn look(&mut self) {
        if self.trouble.is_some() {
            return;
        }
        let health = self.control.health();
        // One that hangs in a signal source can be waited for: it may go on, and /livez tells of it meanwhile.
        if health.monitor_dead {
            tracing::error!("the monitor has died: the run ends");
            self.end(Trouble::MonitorDied);
        } else if let Some(time) = self.stuck_for() {
            tracing::error!(?time, "the level has been CIRCUIT_BREAK all the time: the run ends");
            self.end(Trouble::Stuck(time));
        }
    }

    /// How long the level has been CIRCUIT_BREAK without a break, if that is too long. Not what somebody holds by hand, nor in a dry run.
    fn stuck_for(&self) -> Option<Duration> {
        let limit = self.stuck_after?;
        let explanation = self.control.explain();
        let is_broken = explanation.level == DegradationLevel::CircuitBreak && explanation.pinned.is_none();
        let enforced = || self.control.settings().mode == Mode::Enforce;
        explanation.for_time.filter(|time| is_broken && *time >= limit && enforced())
    }

    fn end(&mut self, trouble: Trouble) {
        self.trouble = Some(trouble);
        self.stop.raise();
    }

    /// How it went.
    pub(crate) fn verdict(&self) -> Result<(), CliError> {
        match self.trouble {
            None => Ok(()),
            Some(Trouble::MonitorDied) => Err(CliError::Runtime(
                "the monitor has died, and with it the cascade: the run was ended in good order".to_owned(),
            )),
            Some(Trouble::Stuck(time)) => Err(CliError::Stuck(format!(
                "the level was CIRCUIT_BREAK for {} without a break, as [supervision] stuck_after allows no longer: the run was ended in good \
                 order, to be started again",
                rounded(time)
            ))),
        }
    }
}
