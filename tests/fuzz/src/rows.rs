//! What both kinds of rows are fuzzed by.

use std::sync::Arc;

use plimsoll::source::OnMalformed;
use plimsoll::source::rows::{DateFrom, RowFormat, RowsConfig, RowsSource, TimeFormat};

use crate::{drain, input, symbols};

/// The first byte says how the time is told, the rest is the file.
pub fn fuzz(bytes: &[u8], format: RowFormat) {
    let Some((how, file)) = bytes.split_first() else { return };
    if file.starts_with(&[0x1f, 0x8b]) || file.starts_with(&[0x28, 0xb5]) {
        return;
    }
    let zone = jiff::tz::TimeZone::UTC;
    let time = match how % 4 {
        0 => TimeFormat::Nanos,
        1 => TimeFormat::Seconds,
        2 => TimeFormat::Rfc3339,
        _ => {
            TimeFormat::Local { pattern: "%H:%M:%S%.f".to_owned(), date: DateFrom::Column("%d.%m.%Y".to_owned()), zone }
        }
    };
    for on_malformed in [OnMalformed::Skip, OnMalformed::Stop] {
        let config = RowsConfig { time: time.clone(), on_malformed, ..RowsConfig::new(format) };
        let Some(input) = input(file) else { return };
        let Ok(mut source) = RowsSource::new(input, symbols(), config, Arc::default()) else { return };
        drain(&mut source, file.len());
    }
}
