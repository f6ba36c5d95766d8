//! Metrics: what an operator sees.
//!
//! Workers and producers only bump their own counters. The monitor hands these to Prometheus handles
//! that were made at start, so no metrics macro runs on the hot path and no global recorder is installed.

mod cascade;
mod exporter;
#[cfg(feature = "kafka")]
mod kafka;
mod latency;
mod names;

use std::sync::Arc;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};

pub(crate) use exporter::{Exported, Exporter, Sample};
#[cfg(feature = "kafka")]
pub(crate) use kafka::Kafka;
pub(crate) use latency::LatencyHistogram;
pub use latency::LatencySnapshot;

/// The labels that every series carries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "cli", serde(default, deny_unknown_fields))]
pub struct Labels {
    /// `service`.
    pub service: String,
    /// `environment`.
    pub environment: String,
    /// `component`.
    pub component: String,
}

/// The reference's service and environment.
impl Default for Labels {
    fn default() -> Self {
        Self { service: "k2-platform".to_owned(), environment: "dev".to_owned(), component: "plimsoll".to_owned() }
    }
}

/// A Prometheus registry of one's own. Give it to one pipeline, and serve [`render`](Self::render).
///
/// Cloning gives another handle to the same registry.
#[derive(Clone)]
pub struct Telemetry {
    recorder: Arc<PrometheusRecorder>,
}

impl Telemetry {
    /// An empty registry; the pipeline fills it with every series at 0.
    ///
    /// # Errors
    /// Never, with the buckets that are built in; the builder's error is passed on all the same.
    pub fn new(labels: &Labels) -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .add_global_label("service", &labels.service)
            .add_global_label("environment", &labels.environment)
            .add_global_label("component", &labels.component)
            .set_buckets_for_metric(Matcher::Full(names::LATENCY.to_owned()), &names::LATENCY_BUCKETS)?
            .build_recorder();
        Ok(Self { recorder: Arc::new(recorder) })
    }

    /// All series in the text format of Prometheus, as of the monitor's last export (every 100 ms, and at the end).
    pub fn render(&self) -> String {
        self.recorder.handle().render()
    }

    pub(crate) fn recorder(&self) -> &PrometheusRecorder {
        &self.recorder
    }

    /// Moves recorded samples into buckets, so that they do not pile up between scrapes.
    pub(crate) fn upkeep(&self) {
        self.recorder.handle().run_upkeep();
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}
