//! The spill log of a run: what its start found there, and what its end leaves there.

use std::fmt::Write;
use std::path::Path;

use plimsoll::spill::{RecoveryReport, SpillConfig};
use plimsoll::{Ledger, PipelineBuilder};

use super::progress::Progress;
use super::summary::{self, grouped};

/// The builder with a spill log, if one is wanted, and a progress bar while that is read at the start.
pub(crate) fn with(builder: PipelineBuilder, config: Option<&SpillConfig>) -> PipelineBuilder {
    let Some(config) = config else { return builder };
    let mut progress = Progress::new();
    let show = move |read, total| progress.show_bytes(read, total, "reading the spill log");
    builder.spill(config.clone()).on_recovery(show)
}

/// What an earlier run has left; empty if that is nothing. Each fault is a log event of its own.
pub(crate) fn found(dir: &Path, recovery: &RecoveryReport) -> String {
    let mut out = String::new();
    let dir = dir.display();
    let (pending, lost, faults) = (recovery.pending(), recovery.lost(), recovery.faults().count());
    if pending > 0 {
        let _ = writeln!(out, "spill: {} messages of an earlier run wait in {dir} and are replayed", grouped(pending));
    }
    if recovery.moved > 0 {
        let moved = grouped(recovery.moved);
        let _ =
            writeln!(out, "spill: {moved} of them were moved to the logs of the workers that their symbols have now");
    }
    if faults > 0 {
        let (faults, lost) = (summary::counted(faults, "fault"), grouped(lost));
        let _ = writeln!(out, "spill: {dir} is damaged: {faults}, {lost} messages in damaged frames are lost");
    }
    out
}

/// What a run leaves for the next one.
pub(crate) fn left(dir: &Path, ledger: &Ledger) -> String {
    let text = match (ledger.spill_pending, ledger.spilled + ledger.recovered) {
        (0, 0) => "nothing was spilled".to_owned(),
        (0, _) if ledger.spill_lost == 0 => "all replayed".to_owned(),
        (0, _) => format!("{} messages replayed", grouped(ledger.replayed)),
        (pending, _) => format!("{} messages left in {} for the next start", grouped(pending), dir.display()),
    };
    let lost = match ledger.spill_lost {
        0 => String::new(),
        lost => format!("; {} messages lost", grouped(lost)),
    };
    format!("spill            {text}{lost}\n")
}
