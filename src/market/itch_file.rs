//! A day in a file: Nasdaq's BinaryFILE.

use std::io::{self, Write};

use super::Market;

/// Writes what is left of a day: each message after its length, two bytes, big-endian, and at the end a length of 0. Returns
/// how many messages.
///
/// # Errors
/// What the writer reports.
pub fn write_itch(market: &mut Market, mut out: impl Write) -> io::Result<u64> {
    let mut messages = 0;
    while let Some(message) = market.next_message() {
        out.write_all(&(message.len() as u16).to_be_bytes())?;
        out.write_all(message)?;
        messages += 1;
    }
    out.write_all(&[0, 0])?;
    out.flush()?;
    Ok(messages)
}
