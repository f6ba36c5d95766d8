//! The machine: which it is, and its cores.

use std::sync::OnceLock;

use core_affinity::CoreId;

/// The cores as they were before any thread was pinned: a pinned thread sees only its own.
fn cores() -> &'static [CoreId] {
    static CORES: OnceLock<Vec<CoreId>> = OnceLock::new();
    CORES.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default())
}

/// Pins the calling thread to the n-th core, counting from 0 and around. Call it first on the main thread.
///
/// # Panics
/// When the system does not let it: figures of threads that wander are worth nothing.
pub(crate) fn pin(core: usize) {
    let cores = cores();
    assert!(!cores.is_empty(), "the system does not tell which cores there are");
    let core = cores[core % cores.len()];
    assert!(core_affinity::set_for_current(core), "cannot pin to core {}: does a container forbid it?", core.id);
}

/// Runs on a thread of its own, so that a turn may pin it and leave no trace.
pub(crate) fn on_own_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let _ = cores();
    std::thread::scope(|scope| scope.spawn(run).join().expect("a turn panicked"))
}

/// Processor, cores and system in a line.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {} cores, Linux {}", cores().len(), kernel.trim())
}
