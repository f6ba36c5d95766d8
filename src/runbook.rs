//! Runbook: what an alert means, and what to do. Nothing here is code.
//!
//! The alerts are in `tools/prometheus/plimsoll.rules.yml`, and each names its section here. Wherever one begins: `plimsoll ctl explain` says in
//! words why the level is what it is, `plimsoll top` and the page at `/` show it live, and `journalctl -u plimsoll` has every change of level
//! with its cause.
//!
//! # Messages of tier 1 are lost
//!
//! `PlimsollCriticalSymbolsShed`. CRITICAL messages are processed at every level, so this is a fault: the spill log had no room when they had to
//! queue behind spilled ones (`spill_full`), a handler panicked (`worker_failed`), or the verdict table is not the default one (`policy`).
//! Look at `k2_messages_shed_total` by reason; then go on with [the spill log](#the-spill-log-is-full-or-will-be) or [the
//! panic](#a-handler-panics). Reference data is LOW whatever its symbol, and is shed from GRACEFUL up by rule; it alerts nobody.
//!
//! # Messages are refused
//!
//! `PlimsollIntakeRefused`. The level is CIRCUIT_BREAK, or the process is ending. At CIRCUIT_BREAK see the cause: if it is the lag, the handler is too
//! slow for the feed even without enrichment and with most of it shed: more workers, a faster handler, or more instances of a Kafka group. If
//! it is memory, something other than lanes grows: lanes are bounded. It reopens by itself when the cooldown is over and both signals are
//! calm; `plimsoll ctl reset` reopens it now, and overload shuts it again.
//!
//! # The level does not come down
//!
//! `PlimsollStuckDegraded`: above SOFT for ten minutes. `plimsoll ctl explain` names the signal that is not calm. A lag that hovers between the mark for
//! going down and the trigger means that the handler just manages: work is given up all the time, and capacity is what is missing. Memory that
//! stays above nine tenths of a trigger may be what the process needs by now: raise the limit, or lower the lanes' capacity. Thresholds can be
//! changed without a restart (`plimsoll ctl reload`), and tried out first (`[shadow]`).
//!
//! # The level flaps
//!
//! `PlimsollFlapping`: more than twenty changes in ten minutes. The cooldown is short beside the storms, or a trigger lies within ordinary bursts. Raise
//! `recovery_cooldown_seconds` or `lag_soft`; try it as a shadow on live traffic, and compare `k2_degradation_transitions_total` of both
//! components. `plimsoll calibrate` proposes numbers for this host.
//!
//! # The level is held by hand
//!
//! `PlimsollLevelPinned`: for an hour. Somebody has pinned it, and the signals decide nothing. `plimsoll ctl unpin`; give `--for` the next time.
//!
//! # The spill log is full or will be
//!
//! `PlimsollSpillFull`, `PlimsollSpillNearBudget`. What should be kept is shed, or soon will be. Either the budget is used up (`k2_spill_disk_bytes` is near
//! `k2_spill_budget_bytes`): replay is slower than what comes, so raise `replay_share` (by reload) or the budget (by restart). Or the disk is full to
//! its floor, or is slower than the storm (`k2_spill_segment_not_ready_total` rises): free space, or give it a disk of its own. Or it has failed to write
//! (`k2_spill_sync_failures_total`): see the log.
//!
//! # Messages were lost from the spill log
//!
//! `PlimsollSpillLost`. A frame was damaged, or a message was given up as no handler could bear it in replay. The log names file, offset and
//! sequence numbers; `plimsoll spill verify DIR` finds all damage. Handlers were told of the holes.
//!
//! # The monitor stands still
//!
//! `PlimsollMonitorStalled`. Nobody samples, so the level is frozen where it was, and overload is not reacted to. It hangs in a signal source or a callback of
//! an embedder's, or has panicked: then the program ends by itself, unless `on_panic = "restart-worker"`. `/livez` answers 503, and systemd's watchdog
//! starts it again. Otherwise restart it, and look at the last lines of its log.
//!
//! # A worker stands still
//!
//! `PlimsollWorkerStalled`. Messages wait, and none was finished for `stall_after`: the handler hangs (on a lock, a full disk, a peer), or needs longer than
//! that for 128 messages. By default the run ends with exit code 1, within `drain_timeout`. `gdb -p PID -batch -ex 'thread apply all bt'` before that
//! shows where it hangs. If it is merely slow, raise `stall_after`.
//!
//! # A signal is not refreshed
//!
//! `PlimsollSignalStale`. Whoever sets the signal (an embedder's gauge or closure) has not done so for its `stale_after`. What that means for the level its `on_stale`
//! says: nothing is asked for, its last value counts on, or SOFT is. `plimsoll ctl explain` shows value and policy. Look for the thread that should
//! set it: it hangs in what it measures, as a rule.
//!
//! # A handler panics
//!
//! `PlimsollHandlerRestarted`: it was made anew, as `on_panic = "restart-worker"` says, and the message in hand was shed as `worker_failed`, or lost from the
//! spill log. What the handler had in memory is gone: bars and books of that worker begin anew, and the run's exit code is 1. The log has the panic's words.
//! More than `restarts_max` within `restart_window` end the run.
//!
//! # A reload was refused
//!
//! `PlimsollReloadFailed`. The file as it is now is wrong, or does not fit the running lanes; the old configuration is in force, and the next restart would
//! fail. `plimsoll validate FILE` says what is wrong, with line and column.
//!
//! # A feed loses messages
//!
//! `PlimsollFeedLosesMessages`. They were lost before they came here: by the network, or by a receive buffer that was full (`k2_feed_kernel_drops_total`): raise
//! `receive_buffer` and `net.core.rmem_max`. Books are stale until their session's end; handlers were told.
