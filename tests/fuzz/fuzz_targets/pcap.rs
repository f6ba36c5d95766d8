#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use plimsoll::source::OnMalformed;
use plimsoll::source::capture::{CaptureConfig, CaptureReader, CaptureSource};
use plimsoll::source::mold::ArbiterConfig;
use plimsoll_fuzz::{drain, input, itch};

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5]) {
        return;
    }
    for on_malformed in [OnMalformed::Skip, OnMalformed::Stop] {
        let Some(Ok(reader)) = input(bytes).map(CaptureReader::new) else { return };
        let arbiter = ArbiterConfig { max_messages: 64, max_bytes: 1 << 16, ..ArbiterConfig::default() };
        let config = CaptureConfig { arbiter, on_malformed, ..CaptureConfig::default() };
        drain(&mut CaptureSource::new(reader, config, itch(), Arc::default()), bytes.len());
    }
});
