//! A day in packets: MoldUDP64.

use zerocopy::IntoBytes;

use super::Market;
use crate::source::mold::{END_OF_SESSION, HEARTBEAT, Header, PacketWriter, Session};

/// The payload of a packet at most, so that it fits an Ethernet frame.
const PACKET_BYTES: usize = 1400;
/// Messages that come within so many nanoseconds share a packet.
const TOGETHER_NS: u64 = 50_000;

/// Puts a market's messages into downstream packets, in order.
#[derive(Debug)]
pub struct Packets {
    session: Session,
    writer: PacketWriter,
    /// The number of the next message.
    sequence: u64,
    /// When the packet's first message was.
    begun_ns: u64,
    /// A message that did not go into the last packet, if it is not empty.
    held: Vec<u8>,
    time_ns: u64,
}

impl Packets {
    /// Packets of a session.
    pub fn new(session: Session) -> Self {
        let writer = PacketWriter::new(session, PACKET_BYTES);
        Self { session, writer, sequence: 1, begun_ns: 0, held: Vec::new(), time_ns: 0 }
    }

    /// The next packet; `None` when the day is over. `each` is told of every message that comes into it.
    pub fn next_packet(&mut self, market: &mut Market, mut each: impl FnMut(&[u8])) -> Option<&[u8]> {
        self.writer.begin(self.sequence);
        self.time_ns = market.time_ns();
        if !self.held.is_empty() {
            each(&self.held);
            let _ = self.writer.push(&self.held);
            self.held.clear();
            self.begun_ns = self.time_ns;
        }
        while let Some(message) = market.next_message() {
            let message = message.to_vec();
            if self.writer.is_empty() {
                self.begun_ns = market.time_ns();
            }
            if market.time_ns() - self.begun_ns > TOGETHER_NS || !self.writer.push(&message) {
                self.held = message;
                break;
            }
            self.time_ns = market.time_ns();
            each(&message);
        }
        self.sequence = self.writer.end();
        (!self.writer.is_empty()).then(|| self.writer.bytes())
    }

    /// When the last message of the packet was, in nanoseconds since midnight.
    pub fn time_ns(&self) -> u64 {
        self.time_ns
    }

    /// Messages in packets so far.
    pub fn messages(&self) -> u64 {
        self.sequence - 1
    }

    /// A packet that says what the next number is.
    pub fn heartbeat(&self) -> Vec<u8> {
        Header::new(self.session, self.sequence, HEARTBEAT).as_bytes().to_vec()
    }

    /// A packet that says that the session is over.
    pub fn end_of_session(&self) -> Vec<u8> {
        Header::new(self.session, self.sequence, END_OF_SESSION).as_bytes().to_vec()
    }
}
