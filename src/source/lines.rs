//! Lines of fields between commas, without quoting: one line, one row, whatever stands in it.

use std::io::{BufRead, BufReader, Read, Result};
use std::ops::Range;

/// Reads line by line into one buffer, and knows where it is.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    /// The line read last, without its end.
    buffer: Vec<u8>,
    /// Its fields.
    fields: Vec<Range<usize>>,
    line: u64,
    bytes: u64,
}

impl<R: Read> Lines<R> {
    /// Bytes of memory, unless a line is longer.
    pub(super) const MEMORY_BYTES: u64 = 1 << 17;

    pub(super) fn new(reader: R) -> Self {
        let reader = BufReader::with_capacity(1 << 16, reader);
        Self { reader, buffer: Vec::new(), fields: Vec::new(), line: 0, bytes: 0 }
    }

    /// Reads the next line that is not blank; `false` at the end of the file. Lines end with a line feed, or a carriage
    /// return and a line feed.
    pub(super) fn read(&mut self) -> Result<bool> {
        loop {
            self.buffer.clear();
            let read = self.reader.read_until(b'\n', &mut self.buffer)?;
            if read == 0 {
                self.fields.clear();
                return Ok(false);
            }
            self.bytes += read as u64;
            self.line += 1;
            for end in [b'\n', b'\r'] {
                self.buffer.pop_if(|last| *last == end);
            }
            if !self.buffer.is_empty() {
                self.split();
                return Ok(true);
            }
        }
    }

    fn split(&mut self) {
        self.fields.clear();
        let mut start = 0;
        for field in self.buffer.split(|byte| *byte == b',') {
            let end = start + field.len();
            self.fields.push(start..end);
            start = end + 1;
        }
    }

    /// How many fields the line has.
    pub(super) fn fields(&self) -> usize {
        self.fields.len()
    }

    /// A field, from 0; empty beyond the last.
    pub(super) fn field(&self, index: usize) -> &[u8] {
        self.fields.get(index).map_or(&[], |range| &self.buffer[range.clone()])
    }

    /// The line's number, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_as_an_editor_does_whatever_ends_them() {
        let text = b"a,b\r\n\n\r\nc,\"d\n,\r\ne";
        let mut lines = Lines::new(&text[..]);
        let mut found = Vec::new();
        while lines.read().unwrap() {
            let fields: Vec<_> =
                (0..lines.fields()).map(|i| String::from_utf8_lossy(lines.field(i)).into_owned()).collect();
            found.push((lines.line(), fields.join("|")));
        }
        let expected = [(1, "a|b"), (4, "c|\"d"), (5, "|"), (6, "e")].map(|(line, text)| (line, text.to_owned()));
        assert_eq!(found, expected);
        assert_eq!(lines.bytes(), text.len() as u64);
        assert_eq!(lines.field(9), b"");
    }
}
