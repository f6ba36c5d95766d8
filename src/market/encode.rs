//! Messages in bytes: Nasdaq, "NASDAQ TotalView-ITCH 5.0", sections 1.1 to 1.8.
//!
//! Written apart from the decoder on purpose, so that one reading of the specification checks the other.

/// Bytes of the longest message.
pub(super) const LONGEST: usize = 50;

/// A message under construction, and the one before it until then.
#[derive(Debug)]
pub(super) struct Encoder {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { bytes: [0; LONGEST], length: 0 }
    }

    /// Begins a message: its type, the security's number, and nanoseconds since midnight.
    pub(super) fn begin(&mut self, kind: u8, locate: u16, time_ns: u64) -> &mut Self {
        self.length = 0;
        self.u8(kind).u16(locate).u16(0).put(&time_ns.to_be_bytes()[2..])
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
        self
    }

    pub(super) fn u8(&mut self, n: u8) -> &mut Self {
        self.put(&[n])
    }

    fn u16(&mut self, n: u16) -> &mut Self {
        self.put(&n.to_be_bytes())
    }

    pub(super) fn u32(&mut self, n: u32) -> &mut Self {
        self.put(&n.to_be_bytes())
    }

    pub(super) fn u64(&mut self, n: u64) -> &mut Self {
        self.put(&n.to_be_bytes())
    }

    /// A text that is padded already.
    pub(super) fn text(&mut self, text: &[u8]) -> &mut Self {
        self.put(text)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
