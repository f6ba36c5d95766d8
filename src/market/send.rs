//! A day over the network: MoldUDP64 packets on one line or more, at a pace, as good or bad as wanted.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

use super::{Impairment, Impairments, Market, Packets};
use crate::source::Pace;
use crate::source::mold::{RerequestServer, SentMessages, Session};

/// How a day is sent.
#[derive(Clone, Debug)]
pub struct SendConfig {
    /// The session's name.
    pub session: Session,
    /// Where to: line A, line B, …; the same packets go to each. Unicast or multicast.
    pub lines: Vec<SocketAddr>,
    /// How much later each line but the first brings a packet.
    pub lag: Duration,
    /// How fast: messages a second, or as the day's own time goes.
    pub pace: Pace,
    /// What each line does to its packets.
    pub impairment: Impairment,
    /// Share of the packets that no line brings: 0 to 1.
    pub loss_everywhere: f64,
    /// The dice's seed.
    pub seed: u64,
    /// Where to answer requests for messages that were lost; the last 256 MiB are kept.
    pub rerequest: Option<SocketAddr>,
    /// How long such requests are answered after the end.
    pub linger: Duration,
}

impl SendConfig {
    /// To these lines, as fast as can be, without harm.
    pub fn new(lines: Vec<SocketAddr>) -> Self {
        Self {
            session: Session(*b"PLIMSOLL  "),
            lines,
            lag: Duration::ZERO,
            pace: Pace::Max,
            impairment: Impairment::default(),
            loss_everywhere: 0.0,
            seed: 1,
            rerequest: None,
            linger: Duration::ZERO,
        }
    }
}

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Packets, before the lines did anything to them.
    pub packets: u64,
    /// Messages in them.
    pub messages: u64,
    /// Packets that each line lost.
    pub lost: Vec<u64>,
    /// Packets that each line brought twice.
    pub duplicated: Vec<u64>,
    /// Messages that no line brought, by their numbers; ascending.
    pub lost_everywhere: Vec<Range<u64>>,
}

/// Bytes of messages that are kept for those who ask for them again.
const KEPT_BYTES: usize = 256 << 20;
/// How often the end of the session is said, in case it is lost, too.
const ENDS: u32 = 5;
/// Between two of these.
const END_INTERVAL: Duration = Duration::from_millis(10);

/// A line: where its packets go, and what becomes of them.
struct Line {
    socket: UdpSocket,
    impairments: Impairments,
    lag: Duration,
    /// Packets on their way, with when they arrive.
    on_their_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Line {
    fn open(address: SocketAddr, impairments: Impairments, lag: Duration) -> io::Result<Self> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        Ok(Self { socket, impairments, lag, on_their_way: VecDeque::new() })
    }

    /// Returns whether the packet is lost.
    fn put(&mut self, packet: &[u8], lost: bool) -> bool {
        let (arrives, way) = (Instant::now() + self.lag, &mut self.on_their_way);
        self.impairments.pass(packet, lost, |packet| way.push_back((arrives, packet.to_vec())))
    }

    /// Sends what has arrived by now; `all`: everything, at its time.
    fn send(&mut self, all: bool) -> io::Result<()> {
        while let Some((arrives, packet)) = self.on_their_way.front() {
            let early = arrives.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                if !all {
                    break;
                }
                std::thread::sleep(early);
            }
            match self.socket.send(packet) {
                // Nobody listens there, or not yet: a packet lost like another.
                Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => return Err(error),
                _ => _ = self.on_their_way.pop_front(),
            }
        }
        Ok(())
    }
}

/// Sends what is left of a day. `observe` is called after each packet, and may wait, or end it.
///
/// # Errors
/// What the system says to a socket.
pub fn send_udp(
    market: &mut Market,
    config: &SendConfig,
    mut observe: impl FnMut(&Sent) -> ControlFlow<()>,
) -> io::Result<Sent> {
    let kept = SentMessages::new(KEPT_BYTES);
    let server = config.rerequest.map(|address| RerequestServer::start(address, config.session, kept.reader()));
    let server = server.transpose().map_err(|error| io::Error::other(error.to_string()))?;
    let mut lines = Vec::new();
    for (number, &address) in config.lines.iter().enumerate() {
        let impairments = Impairments::new(config.seed.wrapping_add(number as u64 + 1), config.impairment);
        lines.push(Line::open(address, impairments, if number == 0 { Duration::ZERO } else { config.lag })?);
    }
    let mut everywhere = Impairments::new(config.seed, Impairment::default());
    let (mut packets, mut sent) = (Packets::new(config.session), Sent::default());
    let (start, mut first_ns) = (Instant::now(), None);
    loop {
        let begin = packets.messages() + 1;
        let Some(packet) = packets.next_packet(market, |message| {
            if server.is_some() {
                kept.push(message);
            }
        }) else {
            break;
        };
        let lost = everywhere.happens(config.loss_everywhere);
        let mut lost_by = 0;
        for line in &mut lines {
            lost_by += usize::from(line.put(packet, lost));
        }
        if lost_by == lines.len() {
            sent.lost_everywhere.push(begin..packets.messages() + 1);
        }
        (sent.packets, sent.messages) = (sent.packets + 1, packets.messages());
        let since_first = packets.time_ns() - *first_ns.get_or_insert(packets.time_ns());
        let due = config.pace.due(begin - 1, Duration::from_nanos(since_first)).unwrap_or_default();
        send_until(&mut lines, start + due)?;
        if observe(&sent).is_break() {
            break;
        }
    }
    for line in &mut lines {
        let way = &mut line.on_their_way;
        line.impairments.finish(|packet| way.push_back((Instant::now(), packet.to_vec())));
        line.send(true)?;
    }
    sent.lost = lines.iter().map(|line| line.impairments.lost()).collect();
    sent.duplicated = lines.iter().map(|line| line.impairments.duplicated()).collect();
    let end = packets.end_of_session();
    let ends = ENDS.max((config.linger.as_millis() / END_INTERVAL.as_millis()) as u32);
    for _ in 0..ends {
        for line in &mut lines {
            line.on_their_way.push_back((Instant::now(), end.clone()));
            line.send(true)?;
        }
        std::thread::sleep(END_INTERVAL);
    }
    Ok(sent)
}

/// Sends what arrives until then.
fn send_until(lines: &mut [Line], due: Instant) -> io::Result<()> {
    loop {
        for line in &mut *lines {
            line.send(false)?;
        }
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        // A sleep takes at least 50 µs; lines have packets on their way meanwhile.
        std::thread::sleep(left.min(Duration::from_micros(200)));
    }
}
