//! Lines of a file, one after the other, in bounded memory.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;

/// Reads line by line into one buffer, and knows where it is.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    /// The line read last, without its end.
    buffer: Vec<u8>,
    line: u64,
    bytes: u64,
}

/// Why there is no line.
#[derive(Debug)]
pub(super) enum LineError {
    /// The system could not read it.
    Io(io::Error),
    /// It is longer than a row can be; the next one follows it.
    TooLong,
}

impl LineError {
    pub(super) const TOO_LONG: &str = "it is longer than 1 MiB";
}

/// The longest line.
const LINE_MAX: usize = 1 << 20;

impl<R: Read> Lines<R> {
    /// The most memory that it takes, in bytes.
    pub(super) const MEMORY_BYTES: u64 = (1 << 16) + 2 * LINE_MAX as u64;

    pub(super) fn new(reader: R) -> Self {
        let reader = BufReader::with_capacity(1 << 16, reader);
        Self { reader, buffer: Vec::new(), line: 0, bytes: 0 }
    }

    /// Reads the next line that is not blank; `false` at the end of the file. Lines end with a line feed, or a carriage
    /// return and a line feed.
    pub(super) fn read(&mut self) -> Result<bool, LineError> {
        loop {
            self.buffer.clear();
            let mut limited = (&mut self.reader).take(LINE_MAX as u64 + 1);
            let read = limited.read_until(b'\n', &mut self.buffer).map_err(LineError::Io)?;
            if read == 0 {
                return Ok(false);
            }
            self.bytes += read as u64;
            self.line += 1;
            if read > LINE_MAX && self.buffer.last() != Some(&b'\n') {
                self.skip_rest().map_err(LineError::Io)?;
                return Err(LineError::TooLong);
            }
            for end in [b'\n', b'\r'] {
                self.buffer.pop_if(|last| *last == end);
            }
            if !self.buffer.is_empty() {
                return Ok(true);
            }
        }
    }

    /// Whether the next line is here already, so that [`read`](Self::read) will not wait for it.
    pub(super) fn has_next(&self) -> bool {
        self.reader.buffer().contains(&b'\n')
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            let read = (&mut self.reader).take(LINE_MAX as u64).read_until(b'\n', &mut self.buffer)?;
            self.bytes += read as u64;
            if read == 0 || self.buffer.last() == Some(&b'\n') {
                self.buffer.clear();
                return Ok(());
            }
        }
    }

    /// The line read last, without its end.
    pub(super) fn text(&self) -> &[u8] {
        &self.buffer
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

/// The fields of a line between commas, without quoting, as places in it.
pub(super) fn split(line: &[u8], fields: &mut Vec<Range<usize>>) {
    fields.clear();
    let mut start = 0;
    for field in line.split(|byte| *byte == b',') {
        let end = start + field.len();
        fields.push(start..end);
        start = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_as_an_editor_does_whatever_ends_them() {
        let text = b"a,b\r\n\n\r\nc,\"d\n,\r\ne";
        let (mut lines, mut fields) = (Lines::new(&text[..]), Vec::new());
        let mut found = Vec::new();
        while lines.read().unwrap() {
            split(lines.text(), &mut fields);
            let texts: Vec<_> = fields.iter().map(|f| String::from_utf8_lossy(&lines.text()[f.clone()])).collect();
            found.push((lines.line(), texts.join("|")));
        }
        let expected = [(1, "a|b"), (4, "c|\"d"), (5, "|"), (6, "e")].map(|(line, text)| (line, text.to_owned()));
        assert_eq!(found, expected);
        assert_eq!(lines.bytes(), text.len() as u64);
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_in_bounded_memory() {
        let longest = vec![b'x'; LINE_MAX];
        let text = [&longest[..], b"\n", &longest, b"y\nnext\n", &longest, &longest, &longest, b"\nlast"].concat();
        let mut lines = Lines::new(&text[..]);
        assert!(lines.read().unwrap() && lines.text() == longest);
        assert!(matches!(lines.read(), Err(LineError::TooLong)));
        assert!(lines.read().unwrap() && lines.text() == b"next" && lines.line() == 3);
        assert!(matches!(lines.read(), Err(LineError::TooLong)));
        assert!(lines.read().unwrap() && lines.text() == b"last" && lines.line() == 5);
        assert!(!lines.read().unwrap() && lines.bytes() == text.len() as u64);
        assert!(lines.buffer.capacity() as u64 <= Lines::<&[u8]>::MEMORY_BYTES);
    }
}
