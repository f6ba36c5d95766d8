//! What the closed loop is told of the pipeline.

use std::num::NonZeroU64;
use std::time::Duration;

use plimsoll::simulation::{Model, SpillModel};

use crate::config::{Config, units};

/// What messages cost, and how many workers there are.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Closed loop")]
pub(crate) struct ModelFlags {
    /// What the handler takes for a message, without enrichment [default: 4us, or what the trace tells]
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub(crate) cost: Option<NonZeroU64>,
    /// What enrichment takes beside that [default: 2500ns, or nothing where --cost is given]
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    enrich: Option<NonZeroU64>,
    /// Worker threads [default: as configured, or 1]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroU64>,
    /// Of each priority, this share of messages are quotes, and may be conflated, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    quotes: f64,
    /// Without a spill log: what would be spilled is shed
    #[arg(long)]
    no_spill: bool,
}

impl ModelFlags {
    /// The model of a pipeline with these settings. `capacity`: messages a second that it was seen to manage.
    pub(crate) fn model(&self, config: &Config, capacity: Option<f64>) -> Model {
        let default = Model::default();
        let workers = self.workers.map(|n| n.get() as usize).or(config.pipeline.workers).unwrap_or(1);
        let seen = capacity.map(|rate| workers as f64 / rate * 1e9);
        let process_ns = self.cost.map(|cost| cost.get() as f64).or(seen);
        let enrich_ns = self.enrich.map(|cost| cost.get() as f64);
        let enrich_default = if process_ns.is_some() { 0.0 } else { default.enrich_ns };
        let break_lag = config.thresholds.lag_circuit_break;
        let lane_capacity = config.pipeline.lane_capacity.map(|capacity| capacity as u64);
        Model {
            workers,
            gradual: config.gradual(),
            process_ns: process_ns.unwrap_or(default.process_ns),
            enrich_ns: enrich_ns.unwrap_or(enrich_default),
            // As the pipeline has it: that, and a twentieth more.
            lane_capacity: lane_capacity.unwrap_or(break_lag.saturating_add(break_lag / 20).saturating_add(1)),
            replay_share: config.spill.as_ref().and_then(|spill| spill.replay_share).unwrap_or(default.replay_share),
            states: [self.quotes / 100.0, self.quotes / 100.0, self.quotes / 100.0, 0.0],
            spill: (!self.no_spill).then_some(SpillModel { capacity: u64::MAX }),
            sample_interval: config.pipeline.sample_interval().max(Duration::from_micros(100)),
            ..default
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse().ok().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| "give a number from 0 to 100".to_owned())
}
