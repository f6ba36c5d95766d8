#![no_main]

use std::sync::{Arc, OnceLock};

use dbn::encode::dbn::MetadataEncoder;
use dbn::{Metadata, SType, Schema};
use libfuzzer_sys::fuzz_target;
use plimsoll::source::OnMalformed;
use plimsoll::source::databento::{DbnConfig, DbnSource};
use plimsoll_fuzz::{drain, input, symbols};

/// What a file of single orders begins with, by version.
fn head(version: u8) -> &'static [u8] {
    static HEADS: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
    let heads = HEADS.get_or_init(|| {
        [1, 2, 3].map(|version| {
            let metadata = Metadata::builder().dataset("XNAS.ITCH".to_owned()).schema(Some(Schema::Mbo)).start(1);
            let metadata =
                metadata.stype_in(Some(SType::RawSymbol)).stype_out(SType::InstrumentId).version(version).build();
            let mut head = Vec::new();
            MetadataEncoder::new(&mut head).encode(&metadata).unwrap();
            head
        })
    });
    &heads[usize::from(version) - 1]
}

fn read(bytes: &[u8]) {
    for on_malformed in [OnMalformed::Skip, OnMalformed::Stop] {
        let config = DbnConfig { orders_max: 64, on_malformed, ..DbnConfig::default() };
        let Some(input) = input(bytes) else { return };
        let Ok(mut source) = DbnSource::new(input, symbols(), config, Arc::default()) else { return };
        drain(&mut source, bytes.len());
    }
}

// Much of it is records after good metadata.
fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((version @ 1..=3, records)) => read(&[head(*version), records].concat()),
        Some((_, file)) if !file.starts_with(&[0x1f, 0x8b]) && !file.starts_with(&[0x28, 0xb5]) => read(file),
        _ => {}
    }
});
