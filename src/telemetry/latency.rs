//! A histogram that one thread writes with plain stores and another reads.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets per doubling: values are told apart to within an eighth.
const SUB: usize = 8;
const SUB_BITS: u32 = SUB.trailing_zeros();
/// Doublings covered: up to 2⁴⁰ ns, about 18 minutes. Longer ones count in the last bucket.
const OCTAVES: usize = 38;
const BUCKETS: usize = OCTAVES * SUB;

/// Nanoseconds, log-linear: eight buckets per doubling.
///
/// HdrHistogram's layout with three bits; not that crate, since a worker has to record without a lock while
/// the monitor reads.
#[derive(Debug)]
pub(crate) struct LatencyHistogram {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self { buckets: array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl LatencyHistogram {
    /// Counts one value. One thread only.
    #[inline]
    pub(crate) fn record(&self, nanos: u64) {
        let bucket = &self.buckets[bucket_of(nanos)];
        bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// A copy of the counts.
    pub(crate) fn snapshot(&self) -> LatencySnapshot {
        LatencySnapshot { counts: self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect() }
    }
}

/// Latencies seen so far. Quantiles are exact to within an eighth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencySnapshot {
    counts: Vec<u64>,
}

impl LatencySnapshot {
    /// How many messages were sampled.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The latency, in nanoseconds, that a share `quantile` (0–1) of the sampled messages did not exceed;
    /// `None` when there were none.
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        let total = self.count();
        let rank = ((total as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).clamp(1, total.max(1));
        let mut below = 0;
        self.counts.iter().enumerate().find_map(|(bucket, count)| {
            below += count;
            (below >= rank).then(|| midpoint(bucket))
        })
    }

    /// Counts `count` times the same value.
    pub(crate) fn record(&mut self, nanos: u64, count: u64) {
        self.counts.resize(BUCKETS, 0);
        self.counts[bucket_of(nanos)] += count;
    }

    /// Adds another's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
    }

    /// What has come since an earlier snapshot of the same.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        Self { counts: self.counts.iter().zip(before).map(|(now, then)| now.saturating_sub(then)).collect() }
    }

    /// Pairs of a bucket's middle, in nanoseconds, and a count above 0.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counts = self.counts.iter().copied().enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(bucket, count)| (midpoint(bucket), count))
    }
}

/// Values below 8 have a bucket each; above, the top four bits choose.
fn bucket_of(nanos: u64) -> usize {
    if nanos < SUB as u64 {
        return nanos as usize;
    }
    let octave = nanos.ilog2() - SUB_BITS;
    let sub = (nanos >> octave) as usize - SUB;
    ((octave as usize + 1) * SUB + sub).min(BUCKETS - 1)
}

fn midpoint(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let octave = bucket / SUB - 1;
    let low = ((bucket % SUB + SUB) as u64) << octave;
    low + (1 << octave) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_stands_for_its_values_within_an_eighth(nanos in 0u64..1 << 40) {
            let middle = midpoint(bucket_of(nanos));
            prop_assert!(middle.abs_diff(nanos) <= nanos / 8, "{nanos} → {middle}");
        }
    }

    #[test]
    fn quantiles_count_from_the_smallest() {
        let histogram = LatencyHistogram::default();
        assert_eq!(histogram.snapshot().quantile_ns(0.5), None);
        for nanos in [1, 2, 3, 4, u64::MAX] {
            histogram.record(nanos);
        }
        let all = histogram.snapshot();
        assert_eq!(all.count(), 5);
        assert_eq!([0.0, 0.5, 0.8].map(|q| all.quantile_ns(q)), [Some(1), Some(3), Some(4)]);
        assert!(all.quantile_ns(1.0) > Some(1 << 39));
    }
}
