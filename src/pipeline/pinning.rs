//! Which worker runs on which core.

use core_affinity::CoreId;

/// Which cores workers are pinned to. A core that is not there, or that the system denies, is a warning, not an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pinning {
    /// None: workers run where the thread that starts the pipeline may run.
    #[default]
    Off,
    /// One core each, from the last one down, as long as at least one core is left for the rest of the process. With
    /// more workers than that, none are pinned.
    Auto,
    /// Worker 0 to the first core of the list, and so on; workers beyond its end are not pinned.
    Cores(Vec<usize>),
}

/// As many cores as a `cpu_set_t` has bits (sched_setaffinity(2)).
const CORES_MAX: usize = 1024;

impl Pinning {
    /// By worker, the core to pin it to, given the cores that the process may use.
    pub(super) fn plan(&self, workers: usize, available: &[CoreId]) -> Vec<Option<CoreId>> {
        match self {
            Self::Off => vec![None; workers],
            Self::Auto if workers < available.len() => {
                available.iter().rev().take(workers).copied().map(Some).collect()
            }
            Self::Auto => {
                if !available.is_empty() {
                    let cores = available.len();
                    tracing::info!(workers, cores, "not pinned: more workers than cores to spare");
                }
                vec![None; workers]
            }
            // Tried whatever the calling thread's own mask says: that is narrow if it was pinned before.
            Self::Cores(list) => (0..workers)
                .map(|worker| {
                    let id = *list.get(worker)?;
                    if id >= CORES_MAX {
                        tracing::warn!(worker, core = id, "not pinned: there is no such core");
                    }
                    (id < CORES_MAX).then_some(CoreId { id })
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(n: usize) -> Vec<CoreId> {
        (0..n).map(|id| CoreId { id }).collect()
    }

    fn plan(pinning: &Pinning, workers: usize, available: usize) -> Vec<Option<usize>> {
        let plan = pinning.plan(workers, &cores(available));
        plan.into_iter().map(|core| core.map(|core| core.id)).collect()
    }

    #[test]
    fn automatic_pinning_leaves_a_core_for_the_rest() {
        assert_eq!(plan(&Pinning::Auto, 1, 2), [Some(1)]);
        assert_eq!(plan(&Pinning::Auto, 2, 2), [None, None]);
        assert_eq!(plan(&Pinning::Auto, 2, 8), [Some(7), Some(6)]);
        assert_eq!(plan(&Pinning::Auto, 1, 0), [None]);
    }

    #[test]
    fn a_listed_core_is_tried_and_an_impossible_one_is_passed_over() {
        assert_eq!(plan(&Pinning::Cores(vec![1, usize::MAX]), 3, 0), [Some(1), None, None]);
        assert_eq!(plan(&Pinning::Off, 2, 2), [None, None]);
    }
}
