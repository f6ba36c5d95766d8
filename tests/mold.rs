//! MoldUDP64 over real sockets: what is sent comes out in order, or is announced, and the counts add up.
//!
//! The sender and the source share a thread, so that nothing waits for a clock but the windows of holes that stay.
#![cfg(feature = "feeds")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use plimsoll::source::mold::{
    ArbiterConfig, END_OF_SESSION, Header, LineConfig, MoldConfig, MoldSource, PacketWriter, RerequestServer,
    SentMessages, Session,
};
use plimsoll::source::{
    Burst, Decode, FeedCount, FeedCounters, Flow, Malformed, OnMalformed, Source, SourceError, Stamp, SymbolSet,
};
use plimsoll::zerocopy::IntoBytes;
use plimsoll::{Price, SymbolId, Tick};

const SESSION: Session = Session(*b"DAY 1     ");
const NEXT_SESSION: Session = Session(*b"DAY 2     ");
/// So long that it does not pass in a test.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(50);

/// A message is its own number; a tick has it as its price.
#[derive(Clone, Default)]
struct Numbers {
    sessions: Arc<AtomicU64>,
    gaps: Arc<AtomicU64>,
}

impl Decode for Numbers {
    fn decode(&mut self, message: &[u8], at: Stamp, burst: &mut Burst) -> Result<(), Malformed> {
        let bytes = message
            .try_into()
            .map_err(|_| Malformed { kind: "number".into(), reason: format!("{} bytes, not 8", message.len()) })?;
        let price = Price::from_billionths(i64::from_be_bytes(bytes));
        let tick = Tick::trade(SymbolId::new(0), 1, price, 1);
        burst.push(Tick { sequence: at.sequence, receive_ns: at.receive_ns, ..tick });
        Ok(())
    }

    fn note_gap(&mut self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    fn snapshot(&mut self, _: &SymbolSet, burst: &mut Burst) -> bool {
        burst.push(Tick::reference(SymbolId::new(0), 0));
        true
    }

    fn begin_session(&mut self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    fn memory_bytes(&self) -> u64 {
        0
    }

    fn count(&mut self, _: &FeedCounters) {}
}

/// A source, and what it has given.
struct Rig {
    source: MoldSource<Numbers>,
    decoder: Numbers,
    sender: UdpSocket,
    lines: Vec<SocketAddr>,
    /// Packets sent that must arrive.
    sent: u64,
    next: u64,
    missed: Vec<Range<u64>>,
    receive_ns: Vec<u64>,
    flow: Result<Flow, SourceError>,
}

/// Bytes that wait in the socket of a port, with what the kernel takes for itself: proc(5), `/proc/net/udp`.
fn waiting_bytes(address: SocketAddr) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let port = format!(":{:04X}", address.port());
    let row = table.lines().find(|row| row.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&port)));
    let queues = row.unwrap().split_whitespace().nth(4).unwrap();
    u64::from_str_radix(queues.split_once(':').unwrap().1, 16).unwrap()
}

fn wait_until(is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "what was sent does not come");
        std::thread::yield_now();
    }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn config(lines: usize, window: Duration) -> MoldConfig {
    let arbiter = ArbiterConfig { window, ..ArbiterConfig::default() };
    MoldConfig { arbiter, ..MoldConfig::new((0..lines).map(|_| LineConfig::from(loopback()))) }
}

impl Rig {
    fn new(config: MoldConfig) -> Self {
        let decoder = Numbers::default();
        let source = MoldSource::new(config, decoder.clone()).unwrap();
        Self {
            lines: source.local_addresses(),
            source,
            decoder,
            sender: UdpSocket::bind(loopback()).unwrap(),
            sent: 0,
            next: 1,
            missed: Vec::new(),
            receive_ns: Vec::new(),
            flow: Ok(Flow::Idle),
        }
    }

    fn send(&mut self, line: usize, bytes: &[u8]) {
        self.sender.send_to(bytes, self.lines[line]).unwrap();
        self.sent += 1;
    }

    fn end_session(&mut self, next: u64) {
        let end = Header::new(SESSION, next, END_OF_SESSION);
        (0..self.lines.len()).for_each(|line| self.send(line, end.as_bytes()));
    }

    /// One burst; what is in it must go on where the last one stopped.
    fn take_burst(&mut self) {
        let mut burst = Burst::new();
        self.flow = self.source.next_burst(&mut burst);
        let mut gaps = burst.gaps().iter().peekable();
        for at in 0..=burst.len() {
            while let Some((_, missed)) = gaps.next_if(|(gap, _)| *gap == at) {
                self.missed.push(self.next..self.next + missed);
                self.next += missed;
            }
            let Some(tick) = burst.ticks().get(at) else { continue };
            assert_eq!((tick.sequence, tick.price), (self.next, Price::from_billionths(self.next as i64)));
            self.receive_ns.push(tick.receive_ns);
            self.next += 1;
        }
    }

    fn take_until(&mut self, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < Duration::from_secs(60), "stuck at {} with {:?}", self.next, self.flow);
            self.take_burst();
        }
    }

    /// Takes all that was sent.
    fn take_all(&mut self) {
        self.take_until(|rig| rig.count(FeedCount::Packets) >= rig.sent);
    }

    fn take_to_end(&mut self) {
        self.take_until(|rig| matches!(rig.flow, Ok(Flow::End)));
    }

    fn count(&self, count: FeedCount) -> u64 {
        self.source.counters().get(count)
    }
}

fn packet(numbers: Range<u64>) -> Vec<u8> {
    packet_of(SESSION, numbers)
}

fn packet_of(session: Session, numbers: Range<u64>) -> Vec<u8> {
    let mut writer = PacketWriter::new(session, 1400);
    writer.begin(numbers.start);
    assert!(numbers.clone().all(|n| writer.push(&n.to_be_bytes())));
    writer.bytes().to_vec()
}

/// Whether something of one chance in `n` happens: the same in each run.
struct Dice(u64);

impl Dice {
    fn one_in(&mut self, n: u64) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33).is_multiple_of(n)
    }
}

const PER_PACKET: u64 = 10;

/// The numbers of a packet, from 0.
fn numbers(index: u64) -> Range<u64> {
    index * PER_PACKET + 1..(index + 1) * PER_PACKET + 1
}

#[test]
fn what_one_line_loses_the_other_brings() {
    const PACKETS: u64 = 4000;
    const LAG: u64 = 20;
    let mut rig = Rig::new(config(2, LONG));
    let mut dice = Dice(1);
    let lost: Vec<_> =
        (0..PACKETS).map(|_| if dice.one_in(100) { Some(0) } else { dice.one_in(100).then_some(1) }).collect();
    let (mut sent_numbers, mut late) = (0, None);
    for step in 0..PACKETS + LAG {
        for (line, index) in [(0, Some(step)), (1, step.checked_sub(LAG))] {
            let Some(index) = index.filter(|index| *index < PACKETS && lost[*index as usize] != Some(line)) else {
                continue;
            };
            let mut packets = vec![index];
            if dice.one_in(100) {
                packets.push(index);
            }
            if late.is_none() && dice.one_in(50) {
                late = Some((line, packets));
                continue;
            }
            for index in packets {
                rig.send(line, &packet(numbers(index)));
                sent_numbers += PER_PACKET;
            }
        }
        if step % 3 == 0
            && let Some((line, packets)) = late.take()
        {
            for index in packets {
                rig.send(line, &packet(numbers(index)));
                sent_numbers += PER_PACKET;
            }
        }
        if step % 32 == 0 {
            rig.take_all();
        }
    }
    rig.end_session(PACKETS * PER_PACKET + 1);
    rig.take_to_end();
    let all = PACKETS * PER_PACKET;
    assert_eq!((rig.next, rig.missed.len()), (all + 1, 0));
    assert_eq!((rig.count(FeedCount::Messages), rig.count(FeedCount::Duplicates)), (all, sent_numbers - all));
    assert!(rig.count(FeedCount::Reordered) > PER_PACKET * PACKETS / 200);
    assert_eq!((rig.count(FeedCount::Gaps), rig.count(FeedCount::Backlog)), (0, 0));
}

#[test]
fn what_waits_in_a_socket_is_not_given_up() {
    let mut rig = Rig::new(config(2, Duration::ZERO));
    // More than is read for one burst, and in front of what fills the hole of the other line. The kernel may take its time
    // until what was sent is in a socket; this is about what is there.
    rig.send(1, &packet(1..2));
    wait_until(|| waiting_bytes(rig.lines[1]) > 0);
    let of_one = waiting_bytes(rig.lines[1]);
    (0..299).for_each(|_| rig.send(1, &packet(1..2)));
    rig.send(1, &packet(2..3));
    wait_until(|| waiting_bytes(rig.lines[1]) == 301 * of_one);
    rig.send(0, &packet(3..4));
    wait_until(|| waiting_bytes(rig.lines[0]) > 0);
    rig.take_burst();
    assert_eq!((rig.next, rig.count(FeedCount::Backlog) > 1), (2, true));
    rig.take_all();
    assert_eq!((rig.next, rig.missed.len()), (4, 0));
}

/// Sends packets on both lines, but for some, which neither brings. Returns the numbers in those.
fn send_with_losses(rig: &mut Rig, packets: u64) -> Vec<Range<u64>> {
    let mut dice = Dice(2);
    let mut lost = Vec::new();
    for index in 0..packets {
        if dice.one_in(250) && lost.last() != Some(&numbers(index.saturating_sub(1))) {
            lost.push(numbers(index));
        } else {
            (0..2).for_each(|line| rig.send(line, &packet(numbers(index))));
        }
        if index % 32 == 0 {
            rig.take_all();
        }
    }
    rig.end_session(packets * PER_PACKET + 1);
    assert!(lost.len() > 5);
    lost
}

#[test]
fn what_both_lines_lose_is_announced() {
    let mut rig = Rig::new(config(2, SHORT));
    let lost = send_with_losses(&mut rig, 5000);
    rig.take_to_end();
    assert_eq!(rig.missed, lost);
    assert_eq!(rig.count(FeedCount::Gaps), lost.len() as u64);
    assert_eq!(rig.decoder.gaps.load(Ordering::Relaxed), lost.len() as u64);
    assert_eq!(rig.count(FeedCount::Missed), lost.len() as u64 * PER_PACKET);
    assert_eq!(rig.count(FeedCount::Messages), 5000 * PER_PACKET - rig.count(FeedCount::Missed));
}

#[test]
fn what_both_lines_lose_the_server_sends_again() {
    let sent = SentMessages::new(100 << 20);
    (1..=5000 * PER_PACKET).for_each(|n| sent.push(&n.to_be_bytes()));
    let server = RerequestServer::start(loopback(), SESSION, sent.reader()).unwrap();
    let mut config = MoldConfig { rerequest: Some(server.address()), ..config(2, LONG) };
    config.arbiter.request_after = Some(Duration::ZERO);
    (config.arbiter.request_timeout, config.arbiter.request_retries) = (Duration::from_secs(60), 600);
    let mut rig = Rig::new(config);
    let lost = send_with_losses(&mut rig, 5000);
    rig.take_to_end();
    let lost = lost.len() as u64 * PER_PACKET;
    assert_eq!((rig.next, rig.missed.len()), (5000 * PER_PACKET + 1, 0));
    assert_eq!((rig.count(FeedCount::Requested), rig.count(FeedCount::Recovered)), (lost, lost));
}

#[test]
fn a_late_start_is_recovered_where_that_is_wanted() {
    let sent = SentMessages::new(100 << 20);
    (1..=20_000u64).for_each(|n| sent.push(&n.to_be_bytes()));
    let server = RerequestServer::start(loopback(), SESSION, sent.reader()).unwrap();
    let mut config = MoldConfig { rerequest: Some(server.address()), ..config(1, LONG) };
    config.arbiter.request_after = Some(Duration::ZERO);
    (config.arbiter.request_timeout, config.arbiter.request_retries) = (Duration::from_secs(60), 600);
    config.arbiter.recover_from_start = true;
    let mut rig = Rig::new(config);
    rig.end_session(20_001);
    rig.take_to_end();
    assert_eq!((rig.next, rig.count(FeedCount::Recovered)), (20_001, 20_000));
}

#[test]
fn a_server_that_is_not_there_is_no_error() {
    // Port 1 is for tcpmux, which nobody has had for decades; the kernel says that the request was refused.
    let nobody = Some((Ipv4Addr::LOCALHOST, 1).into());
    let mut config = MoldConfig { rerequest: nobody, ..config(1, SHORT) };
    config.arbiter.request_timeout = Duration::from_millis(20);
    let mut rig = Rig::new(config);
    rig.send(0, &packet(1..3));
    rig.send(0, &packet(5..6));
    rig.end_session(6);
    rig.take_to_end();
    assert_eq!((rig.missed.as_slice(), rig.count(FeedCount::Requested)), (std::slice::from_ref(&(3..5)), 2));
}

#[test]
fn what_the_kernel_drops_is_counted_and_announced() {
    let mut rig = Rig::new(MoldConfig { receive_buffer: 4096, ..config(1, SHORT) });
    assert!(rig.source.receive_buffers()[0] < 100_000);
    for n in 1..=500 {
        rig.sender.send_to(&packet(n..n + 1), rig.lines[0]).unwrap();
    }
    rig.take_until(|rig| rig.next > 1);
    rig.end_session(501);
    rig.take_to_end();
    let missed = 500 - rig.count(FeedCount::Messages);
    assert!(missed > 0);
    assert_eq!((rig.count(FeedCount::KernelDrops), rig.count(FeedCount::Missed)), (missed, missed));
}

#[test]
fn the_receive_buffer_is_told() {
    let rig = Rig::new(MoldConfig { receive_buffer: 100_000, ..config(2, LONG) });
    let granted = rig.source.receive_buffers();
    assert_eq!(granted.len(), 2);
    assert!(granted.iter().all(|bytes| *bytes > 10_000));
    let facts = rig.source.facts();
    assert!(!facts.can_wait && facts.memory_bytes > 2 * granted.iter().sum::<usize>() as u64);
}

#[test]
fn the_backlog_is_what_waits() {
    let mut rig = Rig::new(config(1, LONG));
    for n in 0..200 {
        rig.send(0, &packet(numbers(n)));
    }
    rig.take_burst();
    let (taken, backlog) = (rig.next - 1, rig.count(FeedCount::Backlog));
    assert!(taken < 200 * PER_PACKET, "a burst has its limits");
    let waiting = 200 * PER_PACKET - taken;
    assert!((waiting / 3..waiting * 3).contains(&backlog), "{waiting} wait, not {backlog}");
    rig.take_all();
    assert_eq!(rig.count(FeedCount::Backlog), 0);
    rig.send(0, &packet(20_000..20_003));
    rig.take_all();
    assert_eq!(rig.count(FeedCount::Backlog), 3);
}

#[test]
fn ticks_have_the_kernels_receive_time() {
    let mut rig = Rig::new(config(1, LONG));
    (1..100).for_each(|n| rig.send(0, &packet(n..n + 1)));
    rig.take_all();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    assert!(rig.receive_ns.iter().all(|at| now.abs_diff(*at) < 600 * 1_000_000_000));
    let distinct: std::collections::HashSet<_> = rig.receive_ns.iter().collect();
    assert!(distinct.len() > 50, "packets of one call have times of their own");
}

#[test]
fn a_packet_that_is_malformed_is_counted_and_left_out() {
    let mut rig = Rig::new(config(1, LONG));
    rig.send(0, &packet(1..3));
    rig.send(0, b"noise");
    rig.send(0, &[packet(3..4), vec![0; 10_000]].concat());
    rig.send(0, &[]);
    rig.send(0, &packet(3..5));
    rig.take_all();
    assert_eq!((rig.next, rig.count(FeedCount::Malformed), rig.count(FeedCount::Packets)), (5, 3, 5));
}

#[test]
fn a_message_that_is_malformed_stops_the_source_or_is_skipped() {
    let mut writer = PacketWriter::new(SESSION, 1400);
    [&1u64.to_be_bytes()[..], b"xyz", &3u64.to_be_bytes()].iter().for_each(|message| assert!(writer.push(message)));
    let mut rig = Rig::new(config(1, LONG));
    rig.send(0, writer.bytes());
    rig.take_all();
    let error = rig.flow.as_ref().unwrap_err().to_string();
    assert!(error.contains(&rig.lines[0].ip().to_string()), "{error}");
    assert!(error.ends_with("at sequence 2: number: 3 bytes, not 8"), "{error}");
    assert_eq!(rig.next, 2, "what came before counts");

    let config = MoldConfig { on_malformed: OnMalformed::Skip, ..config(1, LONG) };
    let mut source = MoldSource::new(config, Numbers::default()).unwrap();
    rig.sender.send_to(writer.bytes(), source.local_addresses()[0]).unwrap();
    let mut burst = Burst::new();
    while source.counters().get(FeedCount::Packets) == 0 {
        assert_ne!(source.next_burst(&mut burst).unwrap(), Flow::End);
    }
    assert_eq!(burst.ticks().iter().map(|tick| tick.sequence).collect::<Vec<_>>(), [1, 3]);
    let count = |count| source.counters().get(count);
    assert_eq!((count(FeedCount::Messages), count(FeedCount::Malformed)), (2, 1));
}

#[test]
fn another_session_is_told_to_the_decoder() {
    let mut rig = Rig::new(config(1, LONG));
    rig.send(0, &packet(1..4));
    rig.take_all();
    assert_eq!(rig.decoder.sessions.load(Ordering::Relaxed), 0);
    rig.next = 1;
    rig.send(0, &packet_of(NEXT_SESSION, 1..3));
    rig.send(0, &packet(2..5));
    rig.take_all();
    assert_eq!((rig.next, rig.decoder.sessions.load(Ordering::Relaxed)), (3, 1));
    assert_eq!(rig.count(FeedCount::Duplicates), 3);
}

#[test]
fn a_picture_of_the_books_is_the_decoders() {
    let mut burst = Burst::new();
    assert!(Rig::new(config(1, LONG)).source.snapshot(&SymbolSet::new(1), &mut burst));
    assert_eq!(burst.len(), 1);
}

#[test]
fn the_end_of_the_session_ends_the_source() {
    let mut rig = Rig::new(config(1, LONG));
    rig.send(0, &packet(1..4));
    rig.end_session(4);
    rig.send(0, &packet(4..5));
    rig.take_to_end();
    rig.take_burst();
    assert!(matches!(rig.flow, Ok(Flow::End)));
    assert_eq!(rig.next, 4);
}

#[test]
fn nothing_is_idle_and_soon() {
    let mut rig = Rig::new(config(2, LONG));
    rig.take_burst();
    assert!(matches!(rig.flow, Ok(Flow::Idle)));
}

#[test]
fn a_port_in_use_is_named() {
    let other = UdpSocket::bind(loopback()).unwrap();
    let address = other.local_addr().unwrap();
    let error = MoldSource::new(MoldConfig::new([address.into()]), Numbers::default()).err().unwrap().to_string();
    assert!(error.starts_with(&format!("{address}: cannot listen there: ")), "{error}");
    let error = RerequestServer::start(address, SESSION, |_, _| false).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{address}: cannot listen there: ")), "{error}");
    let error = MoldSource::new(MoldConfig::new([]), Numbers::default()).err().unwrap().to_string();
    assert!(error.contains("no lines"), "{error}");
}

#[test]
fn a_line_that_contradicts_itself_is_refused() {
    let unicast = LineConfig::from(SocketAddr::from(([127, 0, 0, 1], 0)));
    let interface = Some(Ipv4Addr::LOCALHOST);
    for (line, word) in [
        (LineConfig { interface, ..unicast.clone() }, "IPv4"),
        (LineConfig { source: interface, ..unicast.clone() }, "IPv4"),
        (LineConfig { interface_index: 1, ..unicast.clone() }, "IPv6"),
        (LineConfig { interface_index: 1, ..SocketAddr::from(([239, 255, 71, 5], 0)).into() }, "IPv6"),
    ] {
        let error = MoldSource::new(MoldConfig::new([line]), Numbers::default()).err().unwrap().to_string();
        assert!(error.contains(word) && error.ends_with("out"), "{error}");
    }
}

/// Joins a group on the loopback interface and sends to it; where this machine has no such thing, says so.
fn multicast(line: LineConfig) {
    let interface = socket2::Domain::for_address(line.address);
    let sender = socket2::Socket::new(interface, socket2::Type::DGRAM, None).unwrap();
    let prepared = match line.address.ip() {
        IpAddr::V4(_) => sender.set_multicast_if_v4(&Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => sender.set_multicast_if_v6(line.interface_index),
    };
    let (group, interface_index) = (line.address, line.interface_index);
    let source = prepared
        .map_err(|error| error.to_string())
        .and_then(|()| MoldSource::new(MoldConfig::new([line]), Numbers::default()).map_err(|error| error.to_string()));
    let mut source = match source {
        Ok(source) => source,
        Err(error) => return println!("skipped: no multicast to {group} here: {error}"),
    };
    let mut address = source.local_addresses()[0];
    if let SocketAddr::V6(address) = &mut address {
        address.set_scope_id(interface_index);
    }
    if let Err(error) = sender.send_to(&packet(1..5), &address.into()) {
        return println!("skipped: no multicast to {group} here: {error}");
    }
    let mut burst = Burst::new();
    for _ in 0..100 {
        source.next_burst(&mut burst).unwrap();
        if !burst.is_empty() {
            return assert_eq!(burst.len(), 4);
        }
    }
    println!("skipped: no multicast to {group} here: it does not come back");
}

#[test]
fn a_multicast_group_is_heard() {
    let group = |ip: IpAddr| LineConfig::from(SocketAddr::new(ip, 0));
    let interface = Some(Ipv4Addr::LOCALHOST);
    multicast(LineConfig { interface, ..group(Ipv4Addr::new(239, 255, 71, 3).into()) });
    let source = Some(Ipv4Addr::LOCALHOST);
    multicast(LineConfig { interface, source, ..group(Ipv4Addr::new(232, 1, 71, 3).into()) });
    let interface_local = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0x71, 3);
    multicast(LineConfig { interface_index: 1, ..group(interface_local.into()) });
}

#[test]
fn two_may_listen_to_the_same_group() {
    let line = |port| LineConfig {
        interface: Some(Ipv4Addr::LOCALHOST),
        ..SocketAddr::from((Ipv4Addr::new(239, 255, 71, 4), port)).into()
    };
    let Ok(first) = MoldSource::new(MoldConfig::new([line(0)]), Numbers::default()) else {
        return println!("skipped: no multicast here");
    };
    let port = first.local_addresses()[0].port();
    MoldSource::new(MoldConfig::new([line(port)]), Numbers::default()).unwrap();
}
