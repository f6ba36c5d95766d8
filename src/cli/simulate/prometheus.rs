//! A trace as Prometheus gives it: the answer of `/api/v1/query_range`, a matrix of `k2_*` series
//! (<https://prometheus.io/docs/prometheus/latest/querying/api/>, range queries).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use plimsoll::{DegradationLevel, DegradationThresholds, MessagePriority};
use serde::Deserialize;

use super::trace::{Point, Trace};
use crate::cli::CliError;

#[derive(Deserialize)]
struct Answer {
    status: String,
    error: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    /// A time in seconds since the Unix epoch, and a number as text.
    values: Vec<(f64, String)>,
}

/// By time in milliseconds since the Unix epoch.
type Values = BTreeMap<i64, f64>;

impl Series {
    fn name(&self) -> &str {
        self.label("__name__")
    }

    fn label(&self, name: &str) -> &str {
        self.metric.get(name).map_or("", String::as_str)
    }

    fn values(&self) -> Values {
        let parsed = |(at, text): &(f64, String)| Some(((at * 1000.0).round() as i64, text.parse().ok()?));
        self.values.iter().filter_map(parsed).collect()
    }
}

const LAG: &str = "k2_lag_messages";

pub(super) fn read(path: &Path, instance: Option<&str>) -> Result<Trace, CliError> {
    let failed = |why: &str| CliError::Runtime(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| CliError::io(&path.display(), &error))?;
    let answer: Answer = serde_json::from_str(&text)
        .map_err(|error| failed(&format!("that is no answer of Prometheus's query_range: {error}")))?;
    if answer.status != "success" {
        return Err(failed(&format!("Prometheus has answered with an error: {}", answer.error.unwrap_or_default())));
    }
    let data = answer.data.ok_or_else(|| failed("the answer has no data"))?;
    if data.kind != "matrix" {
        return Err(failed(&format!(
            "the answer is a {}, of one moment or of another kind of query; a trace is a matrix, as /api/v1/query_range gives it",
            data.kind
        )));
    }
    let all: Vec<Series> = serde_json::from_value(data.result)
        .map_err(|error| failed(&format!("the series are not as a matrix has them: {error}")))?;
    let series = of_instance(all, instance).map_err(|why| failed(&why))?;
    trace(&series).map_err(|why| failed(&why))
}

/// The series of one process: the one that is named, or the only one.
fn of_instance(all: Vec<Series>, instance: Option<&str>) -> Result<Vec<Series>, String> {
    let instances: BTreeSet<String> =
        all.iter().filter(|series| series.name() == LAG).map(|series| series.label("instance").to_owned()).collect();
    let list = instances.iter().cloned().collect::<Vec<_>>().join(", ");
    let chosen = match instance {
        Some(instance) if instances.contains(instance) => instance.to_owned(),
        Some(instance) => return Err(format!("there is no {LAG} of an instance {instance:?}; there is: {list}")),
        None if instances.len() > 1 => {
            return Err(format!("there are several processes: choose one by --instance, of {list}"));
        }
        None => instances.into_iter().next().ok_or_else(|| {
            format!(
                "there is no series {LAG}: ask for all of them, as in query={{__name__=~\"k2_.+\"}}, and see `plimsoll simulate --help`"
            )
        })?,
    };
    Ok(all.into_iter().filter(|series| series.label("instance") == chosen).collect())
}

fn trace(series: &[Series]) -> Result<Trace, String> {
    let lag_series = series.iter().find(|series| series.name() == LAG).ok_or("no lag")?;
    // Shadow thresholds have a component of their own.
    let component = lag_series.label("component");
    let named = |name: &'static str| {
        series.iter().filter(move |series| series.name() == name && series.label("component") == component)
    };
    let one = |name| named(name).next().map(Series::values).unwrap_or_default();
    let (lag, memory, level) = (lag_series.values(), one("k2_memory_used_ratio"), one("k2_degradation_level"));
    let age = one("k2_message_age_seconds");
    let offered = offered(&named("k2_messages_by_priority_total").collect::<Vec<_>>());
    let finished = rates(&sum(named("k2_messages_processed_total").chain(named("k2_messages_replayed_total"))));
    let begin = lag.keys().next().copied().unwrap_or_default();
    let point = |(at, lag): (&i64, &f64)| {
        lag.is_finite().then(|| Point {
            at: Duration::from_millis((at - begin).unsigned_abs()),
            lag: lag.max(0.0) as u64,
            memory_pct: memory.get(at).map_or(f64::NAN, |ratio| ratio * 100.0),
            age_ms: age.get(at).map(|seconds| seconds * 1e3),
            level: level.get(at).map(|level| *level as u8),
            offered: offered.as_ref().map(|rates| rates.each_ref().map(|rate| rate.get(at).copied().unwrap_or(0.0))),
            finished: finished.get(at).copied(),
        })
    };
    let points = lag.iter().filter_map(point).collect();
    let thresholds = thresholds(
        |level| at_level(named("k2_degradation_lag_threshold_messages"), level),
        |level| at_level(named("k2_degradation_memory_threshold_ratio"), level),
    );
    Ok(Trace { points, thresholds })
}

/// Messages offered a second, by priority: all that had an outcome.
fn offered(outcomes: &[&Series]) -> Option<[Values; 4]> {
    let is_first = |series: &Series| series.label("outcome") != "replayed";
    (!outcomes.is_empty()).then(|| {
        MessagePriority::ALL.map(|priority| {
            let name = priority.name().to_lowercase();
            let of = outcomes.iter().copied().filter(|series| series.label("priority") == name && is_first(series));
            rates(&sum(of))
        })
    })
}

fn sum<'a>(series: impl Iterator<Item = &'a Series>) -> Values {
    let mut total = Values::new();
    for (at, value) in series.flat_map(Series::values) {
        *total.entry(at).or_default() += value;
    }
    total
}

/// A counter's growth a second. One that has become smaller has begun anew, at 0.
fn rates(counter: &Values) -> Values {
    let pairs = counter.iter().zip(counter.iter().skip(1));
    let rate = |((before, old), (at, new)): ((&i64, &f64), (&i64, &f64))| {
        let grown = if new >= old { new - old } else { *new };
        (*at, grown / ((at - before) as f64 / 1000.0))
    };
    pairs.map(rate).collect()
}

/// The last value of the series of this level.
fn at_level<'a>(mut series: impl Iterator<Item = &'a Series>, level: DegradationLevel) -> Option<f64> {
    let found = series.find(|series| series.label("level") == level.label())?;
    found.values().values().next_back().copied()
}

/// Those in force at the end, if there are all of them; factors and the cooldown are not exported.
fn thresholds(
    lag: impl Fn(DegradationLevel) -> Option<f64>,
    memory: impl Fn(DegradationLevel) -> Option<f64>,
) -> Option<DegradationThresholds> {
    use DegradationLevel::{Aggressive, CircuitBreak, Graceful, Soft};
    let whole = |level| lag(level).map(|lag| lag as u64);
    // Shares of 1, which are percent here; without the noise of the multiplication.
    let percent = |level| memory(level).map(|ratio| (ratio * 100.0 * 1e6).round() / 1e6);
    Some(DegradationThresholds {
        lag_soft: whole(Soft)?,
        lag_graceful: whole(Graceful)?,
        lag_aggressive: whole(Aggressive)?,
        lag_circuit_break: whole(CircuitBreak)?,
        heap_soft: percent(Soft)?,
        heap_graceful: percent(Graceful)?,
        heap_aggressive: percent(Aggressive)?,
        heap_circuit_break: percent(CircuitBreak)?,
        ..DegradationThresholds::default()
    })
}
