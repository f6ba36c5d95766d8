//! Log events, on standard error: for people, or one JSON object a line.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSection};

/// Starts logging: what `RUST_LOG` says, else the configuration, else the default. `format` is a flag's, which counts more than the configuration's.
pub(crate) fn start(default: &str, section: &LogSection, format: Option<LogFormat>) {
    let given = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = given.as_deref().or(section.filter.as_deref()).unwrap_or(default);
    let events = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(EnvFilter::new(filter));
    match format.unwrap_or(section.format) {
        LogFormat::Json => events.json().flatten_event(true).init(),
        LogFormat::Auto | LogFormat::Text => events.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
    }
}
