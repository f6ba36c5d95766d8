//! The packets of MoldUDP64.
//!
//! A downstream packet is a header of 20 bytes and message blocks, all big-endian:
//!
//! ```text
//! session 10 bytes | sequence of the first message u64 | message count u16 | (length u16 | message)…
//! ```
//!
//! Count 0 is a heartbeat, 0xFFFF the end of the session; both carry the sequence that would come next. A request for
//! messages is a header alone. See Nasdaq, *MoldUDP64 Protocol Specification V1.00*.

use std::fmt;

use zerocopy::big_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The name of a session: ten letters and digits, filled up with spaces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub struct Session(pub [u8; 10]);

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.trim_ascii().escape_ascii())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({self})")
    }
}

/// Message count of a heartbeat.
pub const HEARTBEAT: u16 = 0;
/// Message count that says that the session has ended.
pub const END_OF_SESSION: u16 = u16::MAX;
/// The most messages that a packet can hold or a request ask for.
pub const MAX_COUNT: u16 = u16::MAX - 1;
/// Bytes of a packet's header, and of a whole request.
pub const HEADER_BYTES: usize = size_of::<Header>();

/// The header of a packet, and a whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// The session.
    pub session: Session,
    /// Number of the first message, from 1; without messages that of the next one to come.
    pub sequence: U64,
    /// Number of messages in the packet, or asked for; or [`HEARTBEAT`] or [`END_OF_SESSION`].
    pub count: U16,
}

impl Header {
    /// A header; as bytes, with [`IntoBytes::as_bytes`], it is a heartbeat, an end of session or a request.
    pub fn new(session: Session, sequence: u64, count: u16) -> Self {
        Self { session, sequence: sequence.into(), count: count.into() }
    }
}

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The datagram did not fit into the receive buffer.
    #[error("the packet is longer than {0} bytes, and was cut off")]
    Truncated(usize),
    /// Not even a header.
    #[error("{0} bytes, but the header alone takes {HEADER_BYTES}")]
    ShortHeader(usize),
    /// There are fewer messages than the header says.
    #[error("the header says {count} messages, but the packet ends after {found}")]
    TooFew {
        /// What the header says.
        count: u16,
        /// Whole messages found.
        found: u16,
    },
    /// A message block goes past the end of the packet.
    #[error("message {index} of the packet has {length} bytes, but only {left} are left")]
    PastEnd {
        /// Which message, from 1.
        index: u16,
        /// Its length as told.
        length: u16,
        /// Bytes there are.
        left: usize,
    },
    /// Bytes after the last message.
    #[error("{0} bytes are left over after the last message")]
    Surplus(usize),
    /// Messages are numbered from 1, and numbers have 64 bits.
    #[error("{count} messages cannot begin with sequence {sequence}")]
    Sequence {
        /// The first message's number.
        sequence: u64,
        /// Number of messages.
        count: u16,
    },
}

/// A packet that is well formed.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a Header,
    blocks: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads and checks a whole packet, and copies nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let (header, blocks) = Header::ref_from_prefix(bytes).map_err(|_| PacketError::ShortHeader(bytes.len()))?;
        let packet = Self { header, blocks };
        let (sequence, count) = (packet.sequence(), packet.count());
        if sequence.checked_add(count.into()).is_none() || (sequence == 0 && count > 0) {
            return Err(PacketError::Sequence { sequence, count });
        }
        packet.check_blocks()?;
        Ok(packet)
    }

    fn check_blocks(&self) -> Result<(), PacketError> {
        let count = self.count();
        let mut left = self.blocks;
        for found in 0..count {
            let (length, rest) = U16::read_from_prefix(left).map_err(|_| PacketError::TooFew { count, found })?;
            let past_end = PacketError::PastEnd { index: found + 1, length: length.get(), left: rest.len() };
            left = rest.get(usize::from(length)..).ok_or(past_end)?;
        }
        if left.is_empty() { Ok(()) } else { Err(PacketError::Surplus(left.len())) }
    }

    /// The session.
    pub fn session(&self) -> Session {
        self.header.session
    }

    /// Number of the first message, or of the next one to come. [`end`](Self::end) does not overflow.
    pub fn sequence(&self) -> u64 {
        self.header.sequence.get()
    }

    /// Number of messages.
    pub fn count(&self) -> u16 {
        if self.is_end_of_session() { 0 } else { self.header.count.get() }
    }

    /// Number of the first message after this packet.
    pub fn end(&self) -> u64 {
        self.sequence() + u64::from(self.count())
    }

    /// Whether it says that the session has ended.
    pub fn is_end_of_session(&self) -> bool {
        self.header.count.get() == END_OF_SESSION
    }

    /// The messages, each with its number.
    pub fn messages(&self) -> Messages<'a> {
        Messages { sequence: self.sequence(), blocks: self.blocks }
    }
}

/// The messages of a [`Packet`], each with its number.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    sequence: u64,
    blocks: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = (u64, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = U16::read_from_prefix(self.blocks).ok()?;
        let (message, rest) = rest.split_at_checked(length.into())?;
        let sequence = self.sequence;
        (self.sequence, self.blocks) = (sequence.wrapping_add(1), rest);
        Some((sequence, message))
    }
}

/// Puts messages into a packet.
#[derive(Clone, Debug)]
pub struct PacketWriter {
    bytes: Vec<u8>,
    header: Header,
    max_bytes: usize,
}

impl PacketWriter {
    /// An empty packet, to hold `max_bytes`, header included; a first message is taken even if it is longer than that.
    pub fn new(session: Session, max_bytes: usize) -> Self {
        let mut writer = Self { bytes: Vec::new(), header: Header::new(session, 1, 0), max_bytes };
        writer.begin(1);
        writer
    }

    /// Empties it, for messages from number `sequence` on.
    pub fn begin(&mut self, sequence: u64) {
        self.header = Header::new(self.header.session, sequence, 0);
        self.bytes.clear();
        self.bytes.extend_from_slice(self.header.as_bytes());
    }

    /// Adds the next message; `false` when there is no room for it, or it has more than 65,535 bytes.
    pub fn push(&mut self, message: &[u8]) -> bool {
        let Ok(length) = u16::try_from(message.len()) else { return false };
        let has_room = self.bytes.len() + 2 + message.len() <= self.max_bytes && self.count() < MAX_COUNT;
        if !has_room && !self.is_empty() {
            return false;
        }
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(message);
        self.header.count.set(self.count() + 1);
        self.bytes[..HEADER_BYTES].copy_from_slice(self.header.as_bytes());
        true
    }

    /// Number of messages in it.
    pub fn count(&self) -> u16 {
        self.header.count.get()
    }

    /// Whether it has no messages.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Number of the message after the last one.
    pub fn end(&self) -> u64 {
        self.header.sequence.get() + u64::from(self.count())
    }

    /// The packet. Without messages it is a heartbeat.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SESSION: Session = Session(*b"S1        ");

    fn packet(sequence: u64, messages: &[&[u8]]) -> Vec<u8> {
        let mut writer = PacketWriter::new(SESSION, 1400);
        writer.begin(sequence);
        assert!(messages.iter().all(|message| writer.push(message)));
        writer.bytes().to_vec()
    }

    #[test]
    fn what_is_written_stands_as_specified_and_is_read() {
        let bytes = packet(0x0102, &[b"ab", b"", b"c"]);
        assert_eq!(bytes, *b"S1        \0\0\0\0\0\0\x01\x02\0\x03\0\x02ab\0\0\0\x01c");
        let read = Packet::parse(&bytes).unwrap();
        assert_eq!((read.session(), read.sequence(), read.count(), read.end()), (SESSION, 0x0102, 3, 0x0105));
        let messages: Vec<_> = read.messages().collect();
        assert_eq!(messages, [(0x0102, &b"ab"[..]), (0x0103, b""), (0x0104, b"c")]);
        assert_eq!(SESSION.to_string(), "S1");
    }

    #[test]
    fn a_header_alone_is_a_heartbeat_or_an_end() {
        let heartbeat = Header::new(SESSION, 7, HEARTBEAT);
        let read = Packet::parse(heartbeat.as_bytes()).unwrap();
        assert_eq!((read.sequence(), read.end(), read.is_end_of_session()), (7, 7, false));
        let end = Header::new(SESSION, u64::MAX, END_OF_SESSION);
        let read = Packet::parse(end.as_bytes()).unwrap();
        assert_eq!((read.end(), read.count(), read.is_end_of_session()), (u64::MAX, 0, true));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let whole = packet(5, &[b"abc", b"de"]);
        let error = |bytes: &[u8]| Packet::parse(bytes).unwrap_err();
        assert_eq!(error(&whole[..19]), PacketError::ShortHeader(19));
        assert_eq!(error(&whole[..26]), PacketError::TooFew { count: 2, found: 1 });
        assert_eq!(error(&whole[..28]), PacketError::PastEnd { index: 2, length: 2, left: 1 });
        assert_eq!(error(&[&whole[..], b"x"].concat()), PacketError::Surplus(1));
        assert_eq!(error(&packet(0, &[b"a"])), PacketError::Sequence { sequence: 0, count: 1 });
        let last = packet(u64::MAX, &[b"a"]);
        assert_eq!(error(&last), PacketError::Sequence { sequence: u64::MAX, count: 1 });
    }

    #[test]
    fn a_packet_takes_what_fits_and_one_message_in_any_case() {
        let mut writer = PacketWriter::new(SESSION, HEADER_BYTES + 10);
        assert!(writer.push(&[0; 100]) && !writer.push(&[0; 1]));
        writer.begin(4);
        assert!(writer.is_empty() && writer.push(&[0; 3]) && writer.push(&[0; 3]) && !writer.push(&[]));
        assert_eq!((writer.end(), writer.bytes().len()), (6, HEADER_BYTES + 10));
        assert!(!PacketWriter::new(SESSION, usize::MAX).push(&[0; 65_536]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0u16..4) {
            if let Some(field) = bytes.get_mut(18..20) {
                field.copy_from_slice(&count.to_be_bytes());
            }
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert_eq!(packet.messages().count(), usize::from(packet.count()));
            }
        }
    }
}
