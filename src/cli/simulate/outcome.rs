//! What a set of thresholds would have come to, and several of them side by side.

use std::fmt::Write as _;

use plimsoll::simulation::{Simulation, Timeline};
use plimsoll::{
    DegradationLevel, DegradationManager, MessagePriority, SignalName, SignalStatus, Verdict, VerdictTable,
};
use serde::Serialize;

use super::trace::Trace;
use crate::cli::summary::{duration, grouped};

/// What would have become of a priority's messages, in shares of what was offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Shares {
    pub(crate) processed: f64,
    /// Conflated; of a trace, where it is not known which messages tell a state, all that may be.
    pub(crate) conflated: f64,
    pub(crate) spilled: f64,
    pub(crate) shed: f64,
    pub(crate) refused: f64,
}

/// Of one set of thresholds.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) timeline: Timeline,
    /// By priority.
    pub(crate) shares: [Shares; 4],
    /// In how many of so many samples the level was the recorded one.
    pub(crate) agrees: Option<(usize, usize)>,
    /// The highest lag.
    pub(crate) peak_lag: u64,
    /// Whether shares are of what was offered; if not, of time.
    pub(crate) is_weighted: bool,
    /// In closed loop only.
    pub(crate) critical_latency: Option<Latency>,
}

/// Of CRITICAL, in nanoseconds: 0 is less than what a simulation can tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) highest: u64,
    /// What it can tell.
    pub(crate) resolution: u64,
}

impl Latency {
    pub(crate) fn of(simulation: &Simulation) -> Self {
        let critical = &simulation.latency()[MessagePriority::Critical.index()];
        let quantile = |q| critical.quantile_ns(q).unwrap_or_default();
        let resolution = simulation.sample_interval().as_nanos() as u64;
        Self { p50: quantile(0.5), p99: quantile(0.99), highest: quantile(1.0), resolution }
    }

    pub(crate) fn text(&self, nanos: u64) -> String {
        if nanos == 0 { format!("< {}", duration(self.resolution)) } else { duration(nanos) }
    }
}

/// A trace through a manager. The loop is open: the signals are what they were, whatever the level.
pub(crate) fn of_trace(
    name: String,
    trace: &Trace,
    manager: &mut DegradationManager,
    verdicts: &VerdictTable,
    mut each: impl FnMut(DegradationLevel),
) -> Outcome {
    let mut timeline = Timeline::default();
    let mut sums = [[0.0; 5]; 4];
    let (mut agreed, mut known, mut peak_lag) = (0, 0, 0);
    let ends = trace.points.iter().skip(1).map(|next| (next.at, next.offered)).chain([(trace.length(), None)]);
    for (point, (end, offered)) in trace.points.iter().zip(ends) {
        let reading = |status: &SignalStatus| {
            let is_age = status.signal.name.as_str() == SignalName::AGE;
            point.age_ms.filter(|_| is_age)
        };
        let readings: Vec<_> = manager.signals().iter().map(reading).collect();
        let level = manager.check_all(point.at, point.lag, point.memory_pct, readings);
        timeline.add(point.at, manager);
        each(level);
        peak_lag = peak_lag.max(point.lag);
        if let Some(recorded) = point.level {
            known += 1;
            agreed += usize::from(recorded == level.value());
        }
        let seconds = end.saturating_sub(point.at).as_secs_f64();
        for priority in MessagePriority::ALL {
            // Where it is not known how many there were, each moment counts the same.
            let weight = offered.map_or(1.0, |rates| rates[priority.index()]) * seconds;
            let outcome = match (level, verdicts.verdict(level, priority)) {
                (DegradationLevel::CircuitBreak, _) => 4,
                (_, Verdict::Process) => 0,
                (_, Verdict::Spill) => 2,
                (_, Verdict::Shed) => 3,
                (_, Verdict::Conflate | Verdict::ConflateElseSpill | Verdict::ConflateElseShed) => 1,
            };
            sums[priority.index()][outcome] += weight;
        }
    }
    let shares = sums.map(|sums| {
        let all = sums.iter().sum::<f64>();
        let [processed, conflated, spilled, shed, refused] = sums.map(|sum| if all > 0.0 { sum / all } else { 0.0 });
        Shares { processed, conflated, spilled, shed, refused }
    });
    let agrees = (known > 0).then_some((agreed, known));
    let is_weighted = trace.points.iter().any(|point| point.offered.is_some());
    Outcome { name, timeline, shares, agrees, peak_lag, is_weighted, critical_latency: None }
}

/// A simulation that has run.
pub(crate) fn of_simulation(name: String, simulation: &Simulation, peak_lag: u64) -> Outcome {
    let ledger = simulation.ledger();
    let shares = ledger.by_priority.map(|part| {
        let share = |count: u64| count as f64 / part.offered().max(1) as f64;
        Shares {
            processed: share(part.processed_live),
            conflated: share(part.conflated),
            spilled: share(part.spilled),
            shed: share(part.shed),
            refused: share(part.refused + part.full),
        }
    });
    Outcome {
        name,
        timeline: simulation.timeline().clone(),
        shares,
        agrees: None,
        peak_lag,
        is_weighted: true,
        critical_latency: Some(Latency::of(simulation)),
    }
}

/// Rows of figures, a column for each set.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let widths: Vec<_> = outcomes.iter().map(|outcome| outcome.name.chars().count().max(13) + 2).collect();
    let mut row = |name: &str, cell: &dyn Fn(&Outcome) -> String| {
        let _ = write!(text, "{name:<24}");
        for (outcome, width) in outcomes.iter().zip(&widths) {
            let _ = write!(text, "{:>width$}", cell(outcome));
        }
        text.push('\n');
    };
    row("", &|outcome| outcome.name.clone());
    for level in DegradationLevel::ALL {
        row(&format!("time at {level}"), &|outcome| time(outcome.timeline.time_at(level).as_secs_f64()));
    }
    row("transitions", &|outcome| outcome.timeline.transitions().len().to_string());
    row("transitions an hour", &|outcome| format!("{:.1}", outcome.timeline.transitions_per_hour()));
    row("flaps", &|outcome| outcome.timeline.flaps().to_string());
    row("highest lag", &|outcome| grouped(outcome.peak_lag));
    if outcomes.iter().any(|outcome| outcome.agrees.is_some()) {
        row("as recorded", &|outcome| match outcome.agrees {
            Some((agreed, known)) => format!("{agreed} of {known}"),
            None => String::new(),
        });
    }
    if outcomes.iter().all(|outcome| outcome.critical_latency.is_some()) {
        let mut latency = |name: &str, pick: fn(&Latency) -> u64| {
            let text = |found: Latency| found.text(pick(&found));
            row(&format!("CRITICAL latency {name}"), &|outcome| outcome.critical_latency.map(text).unwrap_or_default());
        };
        latency("p50", |found| found.p50);
        latency("p99", |found| found.p99);
        latency("highest", |found| found.highest);
    }
    for priority in MessagePriority::ALL {
        let of = |outcome: &Outcome| outcome.shares[priority.index()];
        row(&format!("{} processed", priority.name()), &|outcome| share(of(outcome).processed));
        if outcomes.iter().any(|outcome| of(outcome).conflated > 0.0) {
            row("         conflated", &|outcome| share(of(outcome).conflated));
        }
        row("         spilled", &|outcome| share(of(outcome).spilled));
        row("         shed", &|outcome| share(of(outcome).shed));
        row("         refused", &|outcome| share(of(outcome).refused));
    }
    text += if outcomes.iter().all(|outcome| outcome.is_weighted) {
        "Shares are of what was offered.\n"
    } else {
        "Shares are of time, since the trace does not tell what was offered.\n"
    };
    text
}

fn share(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.01 { "< 0.01 %".to_owned() } else { format!("{percent:.2} %") }
}

fn time(seconds: f64) -> String {
    match seconds {
        ..600.0 => format!("{seconds:.2} s"),
        _ => plimsoll::internals::rounded(std::time::Duration::from_secs_f64(seconds)),
    }
}

/// The same for programs.
pub(crate) fn json(outcomes: &[Outcome]) -> String {
    let set = |outcome: &Outcome| {
        let timeline = &outcome.timeline;
        let transitions: Vec<_> = timeline
            .transitions()
            .iter()
            .map(|transition| {
                serde_json::json!({
                    "at_seconds": transition.at.as_secs_f64(),
                    "from": transition.from.name(),
                    "to": transition.to.name(),
                    "cause": transition.cause.to_string(),
                })
            })
            .collect();
        let seconds: serde_json::Map<_, _> = DegradationLevel::ALL
            .into_iter()
            .map(|level| (level.name().to_owned(), timeline.time_at(level).as_secs_f64().into()))
            .collect();
        let shares: serde_json::Map<_, _> = MessagePriority::ALL
            .into_iter()
            .map(|priority| (priority.name().to_owned(), serde_json::json!(outcome.shares[priority.index()])))
            .collect();
        serde_json::json!({
            "name": outcome.name,
            "seconds_at_level": seconds,
            "transitions": transitions,
            "flaps": timeline.flaps(),
            "peak_lag": outcome.peak_lag,
            "as_recorded": outcome.agrees.map(|(agreed, known)| serde_json::json!({"agreed": agreed, "known": known})),
            "critical_latency_seconds": outcome.critical_latency.map(|found| {
                [found.p50, found.p99, found.highest].map(|ns| ns as f64 / 1e9)
            }),
            "shares": shares,
        })
    };
    let sets: Vec<_> = outcomes.iter().map(set).collect();
    format!("{:#}\n", serde_json::Value::from(sets))
}
