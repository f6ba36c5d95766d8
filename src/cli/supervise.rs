//! Ends a run whose monitor does not do its work: the level would be frozen for ever. Handlers and workers are the pipeline's own
//! concern.

use plimsoll::Control;

use super::CliError;
use super::signal::StopFlag;

/// Looks at a run now and then.
pub(crate) struct Supervisor {
    control: Control,
    stop: StopFlag,
    /// Why it has ended the run.
    trouble: Option<&'static str>,
}

impl Supervisor {
    pub(crate) fn new(control: Control, stop: StopFlag) -> Self {
        Self { control, stop, trouble: None }
    }

    pub(crate) fn look(&mut self) {
        if self.trouble.is_some() {
            return;
        }
        let health = self.control.health();
        // One that hangs in a signal source can be waited for: it may go on, and /livez tells of it meanwhile.
        if health.monitor_dead {
            self.trouble = Some("the monitor has died, and with it the cascade: the run was ended in good order");
            tracing::error!("the monitor has died: the run ends");
            self.stop.raise();
        }
    }

    /// How it went.
    pub(crate) fn verdict(&self) -> Result<(), CliError> {
        match self.trouble {
            None => Ok(()),
            Some(trouble) => Err(CliError::Runtime(trouble.to_owned())),
        }
    }
}
