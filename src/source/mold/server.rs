//! A server that sends messages again.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use zerocopy::FromBytes;

use super::packet::{END_OF_SESSION, Header, PacketWriter, Session};
use crate::source::SourceError;

/// Bytes of an answer's packet, so that it fits any network.
const PACKET_BYTES: usize = 1400;
/// How soon it notices that it is to stop.
const WAIT: Duration = Duration::from_millis(20);

/// Answers requests for messages of one session, on a thread of its own, until it is dropped.
///
/// A request is answered with as many packets as it takes. Messages that it does not have are left out.
#[derive(Debug)]
pub struct RerequestServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RerequestServer {
    /// Listens on `address`. `read` appends the message of a number to the buffer, and says whether it has it; see
    /// [`SentMessages::reader`].
    ///
    /// # Errors
    /// When it cannot listen there, or have a thread.
    pub fn start(
        address: SocketAddr,
        session: Session,
        read: impl FnMut(u64, &mut Vec<u8>) -> bool + Send + 'static,
    ) -> Result<Self, SourceError> {
        let failed = |action| move |error| SourceError::Network { address: address.to_string(), action, error };
        let socket = UdpSocket::bind(address).map_err(failed("listen there"))?;
        socket.set_read_timeout(Some(WAIT)).map_err(failed("set a timeout"))?;
        let address = socket.local_addr().map_err(failed("learn the port"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let server = Server { socket, writer: PacketWriter::new(session, PACKET_BYTES), session, read };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("rerequest".into()).spawn(move || server.run(&stopped));
        let thread = thread.map_err(failed("start a thread"))?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for RerequestServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has reported by itself that it panicked.
            let _ = thread.join();
        }
    }
}

struct Server<R> {
    socket: UdpSocket,
    writer: PacketWriter,
    session: Session,
    read: R,
}

impl<R: FnMut(u64, &mut Vec<u8>) -> bool> Server<R> {
    fn run(mut self, stop: &AtomicBool) {
        // One byte more than a request has, to tell what is longer.
        let mut bytes = [0; size_of::<Header>() + 1];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, client)) = self.socket.recv_from(&mut bytes) else { continue };
            let Ok(request) = Header::read_from_bytes(&bytes[..length]) else { continue };
            if request.session == self.session
                && request.count.get() != END_OF_SESSION
                && let Err(error) = self.answer(&request, client)
            {
                tracing::debug!(%client, %error, "an answer could not be sent");
            }
        }
    }

    fn answer(&mut self, request: &Header, client: SocketAddr) -> io::Result<()> {
        let first = request.sequence.get();
        let mut message = Vec::new();
        self.writer.begin(first);
        for sequence in first..first.saturating_add(request.count.get().into()) {
            message.clear();
            if !(self.read)(sequence, &mut message) {
                continue;
            }
            if self.writer.end() != sequence || !self.writer.push(&message) {
                self.send(client)?;
                self.writer.begin(sequence);
                self.writer.push(&message);
            }
        }
        self.send(client)
    }

    fn send(&self, client: SocketAddr) -> io::Result<()> {
        if self.writer.is_empty() { Ok(()) } else { self.socket.send_to(self.writer.bytes(), client).map(drop) }
    }
}

/// Messages that were sent last, of one session: at most so many bytes. Clones share them.
#[derive(Clone, Debug)]
pub struct SentMessages(Arc<Mutex<Sent>>);

#[derive(Debug)]
struct Sent {
    messages: VecDeque<Box<[u8]>>,
    /// Number of the first one that is kept.
    first: u64,
    bytes: usize,
    max_bytes: usize,
}

/// About what a message takes beside its bytes.
const OVERHEAD: usize = 32;

impl SentMessages {
    /// Keeps messages from number 1 on; when they take more than `max_bytes` (with 32 bytes each for keeping them), the
    /// first are forgotten.
    pub fn new(max_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Sent { messages: VecDeque::new(), first: 1, bytes: 0, max_bytes })))
    }

    /// Adds the next message.
    pub fn push(&self, message: &[u8]) {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.bytes += message.len() + OVERHEAD;
        sent.messages.push_back(message.into());
        while sent.bytes > sent.max_bytes {
            let Some(gone) = sent.messages.pop_front() else { break };
            sent.bytes -= gone.len() + OVERHEAD;
            sent.first += 1;
        }
    }

    /// What a [`RerequestServer`] reads them with.
    pub fn reader(&self) -> impl FnMut(u64, &mut Vec<u8>) -> bool + Send + 'static {
        let sent = Arc::clone(&self.0);
        move |sequence, message| {
            let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            let index = sequence.checked_sub(sent.first).and_then(|index| usize::try_from(index).ok());
            let found = index.and_then(|index| sent.messages.get(index));
            message.extend_from_slice(found.map_or(&[], |found| found));
            found.is_some()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::mold::packet::Packet;
    use zerocopy::IntoBytes;

    #[test]
    fn the_oldest_messages_are_forgotten() {
        let sent = SentMessages::new(2 * (OVERHEAD + 1));
        [b"a", b"b", b"c"].iter().for_each(|message| sent.push(*message));
        let mut read = sent.reader();
        let mut message = Vec::new();
        assert!(!read(1, &mut message) && !read(0, &mut message) && !read(4, &mut message));
        assert!(read(2, &mut message) && read(3, &mut message));
        assert_eq!(message, b"bc");
        sent.push(&[0; 200]);
        assert!(!read(4, &mut message), "longer than all that may be kept");
    }

    #[test]
    fn a_request_is_answered_with_what_is_there_and_nothing_else_is() {
        let session = Session(*b"S         ");
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let read = |n: u64, message: &mut Vec<u8>| {
            message.extend_from_slice(&n.to_be_bytes());
            !n.is_multiple_of(100)
        };
        let server = RerequestServer::start(local, session, read).unwrap();
        let client = UdpSocket::bind(local).unwrap();
        client.connect(server.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client.send(b"noise").unwrap();
        client.send(Header::new(Session([b'T'; 10]), 1, 5).as_bytes()).unwrap();
        client.send(Header::new(session, 1, END_OF_SESSION).as_bytes()).unwrap();
        client.send(&[Header::new(session, 1, 5).as_bytes(), b"x"].concat()).unwrap();
        client.send(Header::new(session, u64::MAX, 5).as_bytes()).unwrap();
        client.send(Header::new(session, 1000, 350).as_bytes()).unwrap();
        let (mut came, mut bytes) = (Vec::new(), [0; 2000]);
        while came.last() != Some(&1349) {
            let length = client.recv(&mut bytes).unwrap();
            assert!(length <= PACKET_BYTES);
            let packet = Packet::parse(&bytes[..length]).unwrap();
            for (sequence, message) in packet.messages() {
                assert_eq!(message, sequence.to_be_bytes());
                came.push(sequence);
            }
        }
        assert_eq!(came, (1000..1350u64).filter(|n| !n.is_multiple_of(100)).collect::<Vec<u64>>());
    }
}
