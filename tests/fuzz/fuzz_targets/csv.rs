#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::source::rows::RowFormat;
use plimsoll_fuzz::rows;

fuzz_target!(|bytes: &[u8]| rows::fuzz(bytes, RowFormat::Csv { delimiter: b',' }));
