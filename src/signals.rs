//! The signals that drive the level, lag, memory and others: where they come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::degradation::DegradationThresholds;

/// Tells the lag: messages that have arrived and are not yet finished.
///
/// A closure `FnMut(u64) -> u64` is one.
pub trait LagSource: Send + 'static {
    /// The lag, in messages, given how many are in the lanes. Called on the monitor's thread, every sample.
    ///
    /// A source with a backlog of its own (a Kafka consumer's lag, unread bytes of a socket) adds it here.
    fn lag(&mut self, in_lanes: u64) -> u64;

    /// Other thresholds are in force from the next sample on.
    fn set_thresholds(&mut self, thresholds: &DegradationThresholds) {
        let _ = thresholds;
    }

    /// Whether messages can wait before the lanes. If so, a lane may be smaller than `lag_circuit_break`.
    fn has_backlog(&self) -> bool {
        false
    }
}

/// The default: what is in the lanes is all there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct LaneLag;

impl LagSource for LaneLag {
    fn lag(&mut self, in_lanes: u64) -> u64 {
        in_lanes
    }
}

impl<F: FnMut(u64) -> u64 + Send + 'static> LagSource for F {
    fn lag(&mut self, in_lanes: u64) -> u64 {
        self(in_lanes)
    }
}

/// Tells the value of a [signal](crate::Signal) of the embedder's own.
///
/// A closure `FnMut() -> Option<f64>` is one, and so is a [`SignalGauge`].
pub trait SignalSource: Send + 'static {
    /// The value now, in the signal's unit; `None` where there is nothing new since the last call. Called on the monitor's thread, every sample.
    fn sample(&mut self) -> Option<f64>;
}

impl<F: FnMut() -> Option<f64> + Send + 'static> SignalSource for F {
    fn sample(&mut self) -> Option<f64> {
        self()
    }
}

/// A value that any thread sets, and the monitor reads. Setting it costs two stores.
///
/// ```
/// use plimsoll::{PipelineBuilder, Signal, SignalGauge, Tick};
///
/// let latency = SignalGauge::default();
/// let writes = Signal::new("write_latency", "ms", [5.0, 20.0, 100.0, 500.0])?;
/// let pipeline = PipelineBuilder::new().signal(writes, latency.clone()).start(|_| |_: &Tick, _: &plimsoll::Context| ())?;
/// latency.set(3.2);
/// # pipeline.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SignalGauge {
    shared: Arc<GaugeCell>,
    /// As of the last sample.
    seen: u64,
}

#[derive(Debug, Default)]
struct GaugeCell {
    /// Bits of an `f64`.
    value: AtomicU64,
    /// How often it was set.
    revision: AtomicU64,
}

impl SignalGauge {
    /// The value from now on; the signal is as good as new.
    pub fn set(&self, value: f64) {
        self.shared.value.store(value.to_bits(), Ordering::Relaxed);
        // Release: who sees that there is something new sees what it is.
        self.shared.revision.fetch_add(1, Ordering::Release);
    }
}

impl SignalSource for SignalGauge {
    fn sample(&mut self) -> Option<f64> {
        let revision = self.shared.revision.load(Ordering::Acquire);
        if revision == self.seen {
            return None;
        }
        self.seen = revision;
        Some(f64::from_bits(self.shared.value.load(Ordering::Relaxed)))
    }
}

/// Tells how much of the memory that the process may have is used.
///
/// A closure `FnMut() -> MemoryUse` is one.
pub trait MemorySource: Send + 'static {
    /// Called on the monitor's thread, at most every 100 ms.
    fn sample(&mut self) -> MemoryUse;
}

impl<F: FnMut() -> MemoryUse + Send + 'static> MemorySource for F {
    fn sample(&mut self) -> MemoryUse {
        self()
    }
}

/// A reading of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes used.
    pub used_bytes: u64,
    /// Bytes that may be used; 0 when not known.
    pub limit_bytes: u64,
}

impl MemoryUse {
    /// Used of the limit, in percent; not-a-number where the limit is not known, which the manager takes as
    /// neither high nor calm.
    pub fn percent(&self) -> f64 {
        match self.limit_bytes {
            0 => f64::NAN,
            limit => self.used_bytes as f64 / limit as f64 * 100.0,
        }
    }
}

/// The default: anonymous memory of this process against the tightest limit of its cgroup, or against the
/// machine's memory where there is none.
///
/// Anonymous memory (`RssAnon` of `/proc/self/status`, proc(5)) and not the resident set: that counts the mapped
/// pages of files, so writing a mapped file would raise the very signal that makes us write it. Where the
/// system does not tell it, the resident set has to do.
#[derive(Debug)]
pub struct ProcessMemory {
    limit_bytes: u64,
}

impl ProcessMemory {
    /// Reads the limit once.
    pub fn new() -> Self {
        Self { limit_bytes: memory_limit().unwrap_or_default() }
    }

    /// The limit, in bytes; 0 where the system does not tell it.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }
}

impl Default for ProcessMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl MemorySource for ProcessMemory {
    fn sample(&mut self) -> MemoryUse {
        let status = std::fs::read_to_string("/proc/self/status").ok();
        let anonymous = status.as_deref().and_then(anonymous_bytes);
        match anonymous.or_else(resident_bytes) {
            Some(used_bytes) => MemoryUse { used_bytes, limit_bytes: self.limit_bytes },
            // Unknown, which is neither high nor calm.
            None => MemoryUse::default(),
        }
    }
}

/// The tightest limit of the cgroup, or the machine's memory.
fn memory_limit() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let machine = system.total_memory();
    let cgroup = own_process(&mut system).and_then(|process| process.cgroup_limits());
    Some(cgroup.map_or(machine, |limits| limits.total_memory.min(machine)))
}

fn resident_bytes() -> Option<u64> {
    own_process(&mut System::new().ok()?).map(|process| process.memory())
}

fn own_process(system: &mut System) -> Option<&sysinfo::Process> {
    let pid: Pid = sysinfo::get_current_pid().ok()?;
    let what = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
    system.process(pid)
}

/// `RssAnon` of a `/proc/PID/status`, which is in units of 1024 bytes.
fn anonymous_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_memory_is_read_from_the_status() {
        let status = "Name:\tx\nVmRSS:\t  9000 kB\nRssAnon:\t    1234 kB\nRssFile:\t 7766 kB\n";
        assert_eq!(anonymous_bytes(status), Some(1234 * 1024));
        assert_eq!(anonymous_bytes("VmRSS: 1 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn heap_pages_count() {
        const SIZE: usize = 64 << 20;
        let mut memory = ProcessMemory::new();
        let before = memory.sample();
        let heap = std::hint::black_box(vec![1u8; SIZE]);
        let after = memory.sample();
        drop(heap);
        assert!(after.used_bytes >= before.used_bytes + (SIZE as u64) / 2, "{before:?} {after:?}");
        assert!(after.limit_bytes > 0 && after.percent() > 0.0 && after.percent() <= 100.0);
    }

    #[test]
    fn an_unknown_limit_is_not_a_percentage() {
        assert!(MemoryUse { used_bytes: 5, limit_bytes: 0 }.percent().is_nan());
    }
}
