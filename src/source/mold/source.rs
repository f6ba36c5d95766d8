//! The source: sockets, the arbiter, and a decoder.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::packet::PacketError;
use super::sink::{Progress, Sink};
use super::socket::{BATCH, Datagram, PACKET_BYTES, Receiver};
use super::{Arbiter, ArbiterConfig, Line, MoldConfig};
use crate::message::wall_clock_ns;
use crate::source::{Burst, Decode, Facts, FeedCount, FeedCounters, Flow, Source, SourceError, SymbolSet};
use crate::tick::Tick;

/// Ticks after which no more is read for a burst.
const BURST: usize = 1024;
/// Batches of each socket that are read for a burst, lest packets without ticks keep it open.
const ROUNDS: usize = 8;
/// The longest wait for a packet.
const WAIT: Duration = Duration::from_millis(20);
/// The greatest age of a packet that is believed: beyond that the wall clock was set.
const MAX_AGE_NS: u64 = 1_000_000_000;
/// About the bytes that the kernel takes for a packet beside its own.
const PACKET_OVERHEAD: u64 = 768;

/// Messages of MoldUDP64 over UDP, decoded by `D`.
///
/// The receive time of a tick is the kernel's, of the packet that brought it. The stream is at its end when the session is.
/// A session that follows without such an end goes on in the same stream, with its numbers from 1.
#[derive(Debug)]
pub struct MoldSource<D> {
    /// Of the feed, in errors.
    name: String,
    sockets: Vec<Reader>,
    /// Which of the sockets is the re-request server's.
    server: Option<usize>,
    arbiter: Arbiter,
    decoder: D,
    progress: Progress,
    counters: Arc<FeedCounters>,
    start: Instant,
    memory_bytes: u64,
}

/// A socket, and up to when it has been read.
#[derive(Debug)]
struct Reader {
    receiver: Receiver,
    line: Line,
    reached_ns: u64,
}

impl<D: Decode> MoldSource<D> {
    /// Opens the sockets, joins the groups, and listens.
    ///
    /// # Errors
    /// When there are no lines, a line asks for what its kind of address does not have, or the network does not do what
    /// is asked. The address and the reason are told.
    pub fn new(config: MoldConfig, decoder: D) -> Result<Self, SourceError> {
        config.check()?;
        let name = config.name();
        let reader = |line| move |receiver| Reader { receiver, line, reached_ns: 0 };
        let lines = config.lines.iter().map(|line| Receiver::line(line, config.receive_buffer));
        let mut sockets = lines.map(|line| line.map(reader(Line::Feed))).collect::<Result<Vec<_>, _>>()?;
        let server = config.rerequest.map(|_| sockets.len());
        if let Some(address) = config.rerequest {
            sockets.push(Receiver::connected(address, config.receive_buffer).map(reader(Line::Answer))?);
        }
        let at_once = (config.lines.len() == 1).then_some(Duration::ZERO);
        let request_after = config.arbiter.request_after.or(at_once);
        let arbiter = ArbiterConfig { can_request: server.is_some(), request_after, ..config.arbiter };
        // A hole that is filled may free all that is held at once.
        let burst_bytes = (arbiter.max_messages as u64).saturating_mul(size_of::<Tick>() as u64);
        let arbiter = Arbiter::new(&arbiter);
        // The kernel takes up to twice the buffer.
        let socket_bytes = |reader: &Reader| Receiver::MEMORY_BYTES + 2 * reader.receiver.granted_bytes() as u64;
        let memory_bytes = sockets.iter().map(socket_bytes).sum::<u64>()
            + arbiter.memory_bytes().saturating_add(burst_bytes).saturating_add(decoder.memory_bytes());
        let progress = Progress { on_malformed: config.on_malformed, ends_with_session: true, ..Progress::default() };
        let (counters, start) = (Arc::default(), Instant::now());
        Ok(Self { name, sockets, server, arbiter, decoder, progress, counters, start, memory_bytes })
    }

    /// The address of each line's socket; its port is the one that was chosen where the configuration says 0.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.lines().map(Receiver::local_address).collect()
    }

    /// Bytes of receive buffer that the system has given each line.
    pub fn receive_buffers(&self) -> Vec<usize> {
        self.lines().map(Receiver::granted_bytes).collect()
    }

    fn lines(&self) -> impl Iterator<Item = &Receiver> {
        self.sockets.iter().filter(|reader| reader.line == Line::Feed).map(|reader| &reader.receiver)
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Reads the sockets in turn, until nothing is there or the burst is full. Returns the number of packets.
    fn read(&mut self, burst: &mut Burst) -> Result<u64, SourceError> {
        let mut packets = 0;
        for _ in 0..ROUNDS {
            let mut has_more = false;
            for socket in 0..self.sockets.len() {
                let received = self.read_batch(socket, burst)?;
                packets += received as u64;
                has_more |= received == BATCH;
            }
            if !has_more || burst.len() >= BURST || self.progress.is_over() {
                break;
            }
        }
        Ok(packets)
    }

    fn read_batch(&mut self, socket: usize, burst: &mut Burst) -> Result<usize, SourceError> {
        // Before the call: what comes after it may wait unread.
        let (now_ns, wall_ns) = (self.now_ns(), wall_clock_ns());
        let reader = &mut self.sockets[socket];
        let mut out =
            Sink { decoder: &mut self.decoder, burst, progress: &mut self.progress, name: &self.name, server: None };
        let (mut bytes, mut truncated, mut last_ns) = (0, 0, now_ns);
        let received = reader.receiver.receive(|datagram: Datagram<'_>| {
            bytes += datagram.bytes.len() as u64;
            last_ns = came_ns(datagram.receive_ns, now_ns, wall_ns);
            let taken = if datagram.is_truncated {
                truncated += 1;
                Err(PacketError::Truncated(PACKET_BYTES))
            } else {
                self.arbiter.packet(reader.line, datagram.bytes, last_ns, datagram.receive_ns, &mut out)
            };
            if let Err(error) = taken {
                out.progress.tell(out.name, &error.to_string());
            }
        })?;
        reader.reached_ns = if received == BATCH { last_ns } else { now_ns };
        self.counters.add(FeedCount::Packets, received as u64);
        self.counters.add(FeedCount::Bytes, bytes);
        self.counters.add(FeedCount::Malformed, truncated);
        Ok(received)
    }

    /// Gives up holes and asks for what is missing. What waits in a socket may fill a hole, so that time goes only as far
    /// as all of them have been read.
    fn poll(&mut self, burst: &mut Burst) {
        let reached_ns = self.sockets.iter().map(|reader| reader.reached_ns).min().unwrap_or(0);
        let server = self.server.map(|server| &self.sockets[server].receiver);
        let mut out =
            Sink { decoder: &mut self.decoder, burst, progress: &mut self.progress, name: &self.name, server };
        self.arbiter.poll(reached_ns, &mut out);
    }

    /// Waits until a packet is there, or something is due.
    fn wait(&self) {
        let due = self.arbiter.due_ns().map(|due_ns| Duration::from_nanos(due_ns.saturating_sub(self.now_ns())));
        let wait = due.map_or(WAIT, |due| due.min(WAIT)).as_micros().div_ceil(1000);
        let mut sockets: Vec<_> =
            self.sockets.iter().map(|reader| PollFd::new(reader.receiver.as_fd(), PollFlags::POLLIN)).collect();
        // When it fails, as by a signal, the sockets are read all the same.
        let _ = poll(&mut sockets, PollTimeout::from(wait as u16));
    }

    fn count(&mut self) {
        self.progress.count(self.arbiter.take_stats(), &self.counters);
        let mut waiting_bytes = 0;
        for reader in &mut self.sockets {
            let (waiting, dropped) = reader.receiver.kernel_state();
            // The lines carry the same: what waits on the fullest is what there is.
            waiting_bytes = waiting_bytes.max(waiting);
            self.counters.add(FeedCount::KernelDrops, dropped);
        }
        let backlog = self.waiting_messages(waiting_bytes) + self.arbiter.held() as u64;
        self.counters.set(FeedCount::Backlog, backlog);
        self.decoder.count(&self.counters);
    }

    /// About how many messages wait in so many bytes of the kernel's memory.
    fn waiting_messages(&self, waiting_bytes: u64) -> u64 {
        let total = |count| self.counters.get(count);
        let packets = total(FeedCount::Packets);
        if waiting_bytes == 0 || packets == 0 {
            return 0;
        }
        let messages = total(FeedCount::Messages) + total(FeedCount::Duplicates) + self.arbiter.held() as u64;
        let waiting_packets = waiting_bytes / (total(FeedCount::Bytes) / packets + PACKET_OVERHEAD);
        waiting_packets.saturating_mul(messages) / packets
    }

    fn take_in(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        let mut packets = self.read(burst)?;
        if packets == 0 {
            self.wait();
            packets = self.read(burst)?;
        }
        self.poll(burst);
        if let Some(error) = self.progress.error.take() {
            return Err(error);
        }
        Ok(if self.progress.has_ended {
            Flow::End
        } else if packets == 0 && burst.is_empty() {
            Flow::Idle
        } else {
            Flow::More
        })
    }
}

impl<D: Decode> Source for MoldSource<D> {
    fn next_burst(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        if self.progress.has_ended {
            return Ok(Flow::End);
        }
        let flow = self.take_in(burst);
        self.count();
        flow
    }

    fn facts(&self) -> Facts {
        Facts { memory_bytes: self.memory_bytes, burst: BURST, can_wait: false }
    }

    fn counters(&self) -> &Arc<FeedCounters> {
        &self.counters
    }

    fn snapshot(&mut self, symbols: &SymbolSet, burst: &mut Burst) -> bool {
        self.decoder.snapshot(symbols, burst)
    }
}

/// When a packet came, in the clock of `now_ns`, by the kernel's time stamp.
fn came_ns(receive_ns: u64, now_ns: u64, wall_ns: u64) -> u64 {
    if receive_ns == 0 {
        return now_ns;
    }
    now_ns.saturating_sub(wall_ns.saturating_sub(receive_ns).min(MAX_AGE_NS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_as_old_as_its_time_stamp_says_within_reason() {
        const NOW: u64 = 50 * MAX_AGE_NS;
        const WALL: u64 = 1_700_000_000 * MAX_AGE_NS;
        assert_eq!(came_ns(WALL - 7, NOW, WALL), NOW - 7);
        assert_eq!(came_ns(0, NOW, WALL), NOW, "nobody knows");
        assert_eq!(came_ns(WALL + 7, NOW, WALL), NOW, "the clock was set back");
        assert_eq!(came_ns(1, NOW, WALL), NOW - MAX_AGE_NS, "the clock was set forward");
        assert_eq!(came_ns(1, 5, WALL), 0);
    }
}
