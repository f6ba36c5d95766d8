//! How many members a group should have: advice, from how long the lag has been high.

use std::time::Duration;

/// Lag above `lag` messages for `lasting`: so many more instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalingRule {
    /// The lag that is exceeded, in messages.
    pub lag: u64,
    /// For how long without a break.
    pub lasting: Duration,
    /// How many more instances that calls for.
    pub more: u64,
}

/// The reference's rules: more than 500 000 messages for five minutes, one more; more than 2 000 000 for one minute, three more.
pub const SCALING_RULES: [ScalingRule; 2] = [
    ScalingRule { lag: 500_000, lasting: Duration::from_secs(300), more: 1 },
    ScalingRule { lag: 2_000_000, lasting: Duration::from_secs(60), more: 3 },
];

/// Applies rules to a lag over time. Never advises fewer instances than there are: that takes knowing how busy they are.
#[derive(Clone, Debug)]
pub struct ScalingAdvice {
    /// With each, since when its lag is exceeded.
    rules: Vec<(ScalingRule, Option<Duration>)>,
    instances: u64,
}

impl ScalingAdvice {
    /// Advice by these rules.
    pub fn new(rules: &[ScalingRule]) -> Self {
        Self { rules: rules.iter().map(|rule| (*rule, None)).collect(), instances: 0 }
    }

    /// How many instances there should be, if there are `instances` now, which is at least one. `now` is the time since any fixed moment. When
    /// the number of instances changes, the rules begin anew: the new ones are to have their effect first.
    pub fn recommend(&mut self, now: Duration, lag: u64, instances: u64) -> u64 {
        if std::mem::replace(&mut self.instances, instances) != instances {
            self.rules.iter_mut().for_each(|(_, since)| *since = None);
        }
        let mut more = 0;
        for (rule, since) in &mut self.rules {
            if lag <= rule.lag {
                *since = None;
                continue;
            }
            if now.saturating_sub(*since.get_or_insert(now)) >= rule.lasting {
                more = more.max(rule.more);
            }
        }
        instances.max(1) + more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recommendation at each of these seconds, the lag being what it became last.
    fn at(advice: &mut ScalingAdvice, samples: &[(u64, u64)], instances: u64) -> Vec<u64> {
        samples.iter().map(|&(second, lag)| advice.recommend(Duration::from_secs(second), lag, instances)).collect()
    }

    #[test]
    fn the_references_rules() {
        let mut advice = ScalingAdvice::new(&SCALING_RULES);
        assert_eq!(at(&mut advice, &[(0, 500_001), (299, 500_001), (300, 500_001)], 1), [1, 1, 2]);
        assert_eq!(at(&mut advice, &[(301, 500_000), (302, 500_001), (601, 600_000), (602, 600_000)], 1), [1, 1, 1, 2]);
        let mut advice = ScalingAdvice::new(&SCALING_RULES);
        assert_eq!(at(&mut advice, &[(0, 2_000_001), (59, 3_000_000), (60, 2_000_001)], 2), [2, 2, 5]);
        assert_eq!(at(&mut advice, &[(61, 2_000_000), (300, 600_000)], 2), [2, 3], "the lesser rule goes on");
    }

    #[test]
    fn new_instances_are_given_time() {
        let mut advice = ScalingAdvice::new(&SCALING_RULES);
        at(&mut advice, &[(0, 600_000), (300, 600_000)], 1);
        assert_eq!(at(&mut advice, &[(310, 600_000), (609, 600_000), (610, 600_000)], 2), [2, 2, 3]);
        assert_eq!(ScalingAdvice::new(&[]).recommend(Duration::ZERO, u64::MAX, 0), 1);
    }
}
