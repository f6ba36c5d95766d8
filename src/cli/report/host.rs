//! On what it ran.

use sysinfo::System;

use crate::cli::summary::bytes;

/// What there is to know, as names and values.
pub(super) fn facts() -> Vec<(String, String)> {
    let system = System::new().ok().map(|mut system| {
        system.refresh_memory();
        system
    });
    let memory = system.as_ref().map(System::total_memory);
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let limit = system.as_ref().and_then(System::cgroup_limits).map(|limits| limits.total_memory);
    let facts = [
        ("host", System::host_name().ok()),
        ("system", System::long_os_version().ok()),
        ("kernel", System::kernel_version().ok()),
        ("processor", model.map(str::to_owned)),
        ("cores for this process", Some(cores.to_string())),
        ("memory", memory.map(bytes)),
        ("memory limit of the cgroup", limit.filter(|limit| Some(*limit) < memory).map(bytes)),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
