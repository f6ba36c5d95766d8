#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use plimsoll::source::OnMalformed;
use plimsoll::source::itch::ItchFile;
use plimsoll_fuzz::{drain, input, itch};

fuzz_target!(|bytes: &[u8]| {
    for on_malformed in [OnMalformed::Skip, OnMalformed::Stop] {
        let Some(input) = input(bytes) else { return };
        // What is packed may be much more.
        if bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5]) {
            return;
        }
        drain(&mut ItchFile::new(input, itch(), on_malformed, Arc::default()), bytes.len());
    }
});
