//! What systemd is told, if it has started this process: sd_notify(3).

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Work may come.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The end has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// A reload has begun; `ready` ends it.
pub(super) fn reloading() {
    let monotonic = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let us = i128::from(monotonic.tv_sec) * 1_000_000 + i128::from(monotonic.tv_nsec) / 1000;
    let state = format!("MONOTONIC_USEC={us}");
    tell(&[NotifyState::Reloading, NotifyState::Custom(&state)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "systemd cannot be told how things are");
    }
}

/// Tells that all is well, as long as it is: the unit's `WatchdogSec`.
pub(super) struct Watchdog {
    /// Half of what the unit allows; `None` without a watchdog.
    interval: Option<Duration>,
    next: Instant,
}

impl Watchdog {
    pub(super) fn new() -> Self {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        // It may be meant for another process, whose environment this one has inherited: sd_watchdog_enabled(3).
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let usec = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0);
        Self { interval: usec.map(|usec| Duration::from_micros(usec / 2)), next: Instant::now() }
    }

    pub(super) fn look(&mut self, is_well: impl FnOnce() -> bool) {
        let now = Instant::now();
        let Some(interval) = self.interval.filter(|_| now >= self.next) else { return };
        self.next = now + interval;
        if is_well() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}
