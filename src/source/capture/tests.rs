use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::market::{CapturedDay, Impairment, Market, MarketConfig, write_pcap};
use crate::source::Input;
use crate::source::itch::{ItchConfig, ItchDecoder};
use crate::symbols::Symbols;
use crate::tick::Tick;

fn reader(bytes: &[u8]) -> Result<CaptureReader, SourceError> {
    let input = Input::new(Path::new("c.pcap"), Box::new(Cursor::new(bytes.to_vec())), &Arc::default());
    CaptureReader::new(input.unwrap())
}

/// All frames, and what ended them.
fn frames(bytes: &[u8]) -> (Vec<Frame>, Option<String>) {
    let mut reader = match reader(bytes) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let mut frames = Vec::new();
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => frames.push(frame.clone()),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error.to_string())),
        }
    }
}

/// A number in a byte order.
fn number<const N: usize>(n: u64, is_big: bool) -> Vec<u8> {
    if is_big { n.to_be_bytes()[8 - N..].to_vec() } else { n.to_le_bytes()[..N].to_vec() }
}

/// A pcap file of these frames: seconds, parts, bytes, and how many there were on the wire.
fn pcap(magic: u64, is_big: bool, linktype: u64, frames: &[(u64, u64, &[u8], u64)]) -> Vec<u8> {
    let n2 = |n| number::<2>(n, is_big);
    let n4 = |n| number::<4>(n, is_big);
    let mut file = [n4(magic), n2(2), n2(4), n4(0), n4(0), n4(65535), n4(linktype)].concat();
    for (seconds, parts, bytes, wire) in frames {
        file.extend([n4(*seconds), n4(*parts), n4(bytes.len() as u64), n4(*wire), bytes.to_vec()].concat());
    }
    file
}

/// A pcapng block.
fn block(kind: u64, body: &[u8], is_big: bool) -> Vec<u8> {
    let n4 = |n| number::<4>(n, is_big);
    let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
    let length = n4(12 + (body.len() + padding.len()) as u64);
    [n4(kind), length.clone(), body.to_vec(), padding, length].concat()
}

/// A pcapng section with an interface of this resolution and offset.
fn section(is_big: bool, linktype: u64, resolution: u8, offset_s: u64) -> Vec<u8> {
    let (n2, n4, n8) = (|n| number::<2>(n, is_big), |n| number::<4>(n, is_big), |n| number::<8>(n, is_big));
    let header = [n4(0x1a2b_3c4d), n2(1), n2(0), n8(u64::MAX)].concat();
    let options = [n2(9), n2(1), vec![resolution, 0, 0, 0], n2(14), n2(8), n8(offset_s), n2(0), n2(0)].concat();
    let interface = [n2(linktype), n2(0), n4(0), options].concat();
    [block(0x0a0d_0d0a, &header, is_big), block(1, &interface, is_big)].concat()
}

fn enhanced(is_big: bool, interface: u64, units: u64, bytes: &[u8], wire: u64) -> Vec<u8> {
    let n4 = |n| number::<4>(n, is_big);
    let head = [n4(interface), n4(units >> 32), n4(units & 0xffff_ffff), n4(bytes.len() as u64), n4(wire)].concat();
    block(6, &[head, bytes.to_vec()].concat(), is_big)
}

#[test]
fn pcap_is_read_in_either_byte_order_with_micro_and_nanoseconds() {
    for (magic, ns) in [(0xa1b2_c3d4, 7_000_000_005_000), (0xa1b2_3c4d, 7_000_000_000_005)] {
        for is_big in [false, true] {
            let file = pcap(magic, is_big, 101, &[(7000, 5, b"abc", 3), (7001, 0, b"", 9)]);
            let (frames, end) = frames(&file);
            assert_eq!(end, None);
            let first = Frame { number: 1, time_ns: ns, linktype: 101, bytes: b"abc".to_vec(), wire_bytes: 3 };
            assert_eq!(frames[0], first);
            assert!(!frames[0].is_cut() && frames[1].is_cut() && frames.len() == 2);
        }
    }
}

#[test]
fn pcapng_is_read_with_its_interfaces_clocks() {
    for is_big in [false, true] {
        let n4 = |n| number::<4>(n, is_big);
        let file = [
            section(is_big, 1, 9, 0),
            enhanced(is_big, 0, 5_000_000_007, b"abcde", 5),
            block(5, &[n4(0), n4(0), n4(0)].concat(), is_big), // statistics
            section(is_big, 101, 0x8a, 100),                   // 2¹⁰ units a second
            enhanced(is_big, 0, 1536, b"x", 2),
            block(3, &[n4(2), b"yz".to_vec()].concat(), is_big),
        ];
        let (frames, end) = frames(&file.concat());
        assert_eq!(end, None, "big-endian: {is_big}");
        let told: Vec<_> = frames.iter().map(|f| (f.number, f.time_ns, f.linktype, &f.bytes[..], f.is_cut())).collect();
        let expected = [
            (1, 5_000_000_007, 1, &b"abcde"[..], false),
            (2, 101_500_000_000, 101, b"x", true),
            (3, 0, 101, b"yz", false),
        ];
        assert_eq!(told, expected);
    }
}

#[test]
fn what_is_no_capture_or_a_damaged_one_is_told_with_the_frame() {
    let good = pcap(0xa1b2_c3d4, false, 1, &[(1, 0, b"abc", 3), (2, 0, b"def", 3)]);
    let error = |bytes: &[u8]| frames(bytes).1.unwrap_or_default();
    assert_eq!(error(b""), "c.pcap: it is empty: give a capture");
    assert_eq!(error(b"symbol,price\nBHP,1\nRIO,2\nCSL,3\n"), "c.pcap: it is no pcap or pcapng file: give a capture");
    assert_eq!(error(&good[..10]), "c.pcap: it is no pcap or pcapng file: give a capture");
    let (found, end) = frames(&good[..good.len() - 1]);
    assert_eq!(
        (found.len(), end.unwrap()),
        (1, "c.pcap: at packet 2: capture block: the capture ends within it".to_owned())
    );
    let endless = pcap(0xa1b2_c3d4, false, 1, &[(1, 0, &vec![0; 17 << 20], 3)]);
    assert_eq!(
        error(&endless),
        "c.pcap: at packet 1: capture block: it is longer than 4194304 bytes, which no frame is"
    );
    let long = pcap(0xa1b2_c3d4, false, 1, &[(1, 0, &vec![7; 2 << 20], 3)]);
    assert_eq!(frames(&long).0[0].bytes.len(), 2 << 20);
    let unknown = [section(false, 1, 6, 0), enhanced(false, 3, 0, b"", 0)].concat();
    assert_eq!(error(&unknown), "c.pcap: at packet 1: capture block: its interface 3 was not described");
    let clock = section(false, 1, 20, 0);
    assert_eq!(
        error(&clock),
        "c.pcap: at packet 1: capture block: its interface's clock has 10 to the 20 units a second"
    );
    let mut damaged = [section(false, 1, 6, 0), enhanced(false, 0, 0, b"abcd", 4)].concat();
    let last = damaged.len() - 1;
    damaged[last] = 9; // the length at the block's end is not the one at its begin
    let (found, end) = frames(&damaged);
    assert!(found.len() == 1 || end.is_some(), "either is right, as the length is there twice");
}

fn frame(linktype: i32, bytes: Vec<u8>) -> Frame {
    Frame { linktype, wire_bytes: bytes.len() as u32, bytes, ..Frame::default() }
}

#[test]
fn udp_is_found_in_whatever_carries_it() {
    let found = |frame: &Frame| frame.udp().map(|udp| (udp.port, udp.payload.to_vec(), udp.length));
    let built = |builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>| {
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"payload").unwrap();
        bytes
    };
    let ethernet = || PacketBuilder::ethernet2([1; 6], [2; 6]);
    let expected = Some((9, b"payload".to_vec(), 7));
    let v4 = built(ethernet().ipv4([1; 4], [2; 4], 9).udp(8, 9));
    let v6 = built(ethernet().ipv6([1; 16], [2; 16], 9).udp(8, 9));
    let id = |id: u16| id.try_into().unwrap();
    let tagged = built(ethernet().single_vlan(id(7)).ipv4([1; 4], [2; 4], 9).udp(8, 9));
    let twice = built(ethernet().double_vlan(id(7), id(8)).ipv6([1; 16], [2; 16], 9).udp(8, 9));
    // Short frames are filled up to 60 bytes.
    let padded = [v4.clone(), vec![0; 11]].concat();
    for bytes in [&v4, &v6, &tagged, &twice, &padded] {
        assert_eq!(found(&frame(1, bytes.clone())), expected);
    }
    let ip = &v4[14..];
    assert_eq!(found(&frame(101, ip.to_vec())), expected);
    assert_eq!(found(&frame(228, ip.to_vec())), expected);
    assert_eq!(found(&frame(229, v6[14..].to_vec())), expected);
    assert_eq!(found(&frame(0, [&[2, 0, 0, 0][..], ip].concat())), expected);
    assert_eq!(found(&frame(113, [&[0; 14][..], &[8, 0], ip].concat())), expected);
    assert_eq!(found(&frame(276, [&[8, 0][..], &[0; 18], ip].concat())), expected);
    // Cut when it was captured.
    assert_eq!(found(&frame(1, v4[..v4.len() - 3].to_vec())), Some((9, b"payl".to_vec(), 7)));
    // Something else: a fragment, TCP, ARP, an unknown link, nothing.
    let mut fragment = v4.clone();
    fragment[20] = 0x20;
    let mut tcp = Vec::new();
    ethernet().ipv4([1; 4], [2; 4], 9).tcp(8, 9, 1, 1).write(&mut tcp, b"payload").unwrap();
    let mut arp = v4.clone();
    arp[12..14].copy_from_slice(&[8, 6]);
    for (linktype, bytes) in [(1, fragment), (1, tcp), (1, arp), (147, v4.clone()), (1, Vec::new()), (101, vec![0x45])]
    {
        assert_eq!(found(&frame(linktype, bytes)), None);
    }
}

fn market() -> Market {
    Market::new(&MarketConfig { seed: 5, messages: 20_000, symbols: 30, ..MarketConfig::default() }).unwrap()
}

/// Ticks; where holes are, and how large; what was counted; and what ended it.
type Played = (Vec<Tick>, Vec<(usize, u64)>, Arc<FeedCounters>, Option<String>);

fn play(capture: &[u8], config: CaptureConfig) -> Played {
    let decoder = ItchDecoder::new(Arc::default(), ItchConfig { orders_max: 10_000, ..ItchConfig::default() });
    let mut source = CaptureSource::new(reader(capture).unwrap(), config, decoder, Arc::default());
    let (mut ticks, mut gaps, mut burst) = (Vec::new(), Vec::new(), Burst::new());
    let error = loop {
        burst.clear();
        let flow = source.next_burst(&mut burst);
        gaps.extend(burst.gaps().iter().map(|(at, missed)| (ticks.len() + at, *missed)));
        ticks.extend_from_slice(burst.ticks());
        match flow {
            Ok(Flow::End) => break None,
            Ok(_) => {}
            Err(error) => break Some(error.to_string()),
        }
    };
    (ticks, gaps, Arc::clone(source.counters()), error)
}

/// What the file of the same day says.
fn truth() -> Vec<Tick> {
    let mut decoder =
        ItchDecoder::new(Arc::new(Symbols::default()), ItchConfig { orders_max: 10_000, ..ItchConfig::default() });
    let (mut market, mut burst, mut sequence) = (market(), Burst::new(), 0);
    while let Some(message) = market.next_message() {
        sequence += 1;
        decoder.decode(message, super::super::Stamp { sequence, receive_ns: 0 }, &mut burst).unwrap();
    }
    burst.ticks().to_vec()
}

fn without_receive_time(ticks: &[Tick]) -> Vec<Tick> {
    ticks.iter().map(|tick| Tick { receive_ns: 0, ..*tick }).collect()
}

#[test]
fn a_captured_day_is_the_day() {
    let mut capture = Vec::new();
    let sent = write_pcap(&mut market(), &CapturedDay::new(), &mut capture).unwrap();
    let (ticks, gaps, counters, error) = play(&capture, CaptureConfig::default());
    assert_eq!((error, gaps), (None, vec![]));
    assert!(without_receive_time(&ticks) == truth());
    // The packet is captured when its last message has come.
    assert!(ticks.iter().all(|tick| tick.receive_ns >= tick.event_ns && tick.receive_ns < tick.event_ns + 100_000));
    assert_eq!(counters.get(FeedCount::Packets), sent.packets + 1, "and the end of the session");
    assert_eq!((counters.get(FeedCount::Messages), counters.get(FeedCount::Foreign)), (20_000, 0));
}

#[test]
fn two_bad_lines_make_one_good_stream_and_what_both_lack_is_announced() {
    let impairment = Impairment { loss: 0.01, duplicates: 0.01, reordering: 0.01 };
    let lag = std::time::Duration::from_millis(2);
    let day = CapturedDay { lines: 2, impairment, lag, ..CapturedDay::new() };
    let mut capture = Vec::new();
    let sent = write_pcap(&mut market(), &day, &mut capture).unwrap();
    assert!(sent.lost.iter().all(|lost| *lost > 20) && sent.duplicated.iter().all(|twice| *twice > 20), "{sent:?}");
    let lost: u64 = sent.lost_everywhere.iter().map(|range| range.end - range.start).sum();
    let (ticks, gaps, counters, error) = play(&capture, CaptureConfig::default());
    assert_eq!(error, None);
    assert_eq!(gaps.iter().map(|(_, missed)| missed).sum::<u64>(), lost);
    assert_eq!(ticks.len() as u64 + lost, 20_000);
    assert!(ticks.iter().all(|tick| !sent.lost_everywhere.iter().any(|range| range.contains(&tick.sequence))));
    assert!(ticks.is_sorted_by_key(|tick| tick.sequence));
    assert!(counters.get(FeedCount::Duplicates) > 19_000);

    // Line A alone lacks more; line B's port is not asked for.
    let one = CaptureConfig { ports: vec![CapturedDay::PORTS[0]], ..CaptureConfig::default() };
    let (alone, gaps, counters, _) = play(&capture, one);
    let missed: u64 = gaps.iter().map(|(_, missed)| missed).sum();
    assert!(missed > lost && alone.len() as u64 + missed == 20_000);
    assert!(counters.get(FeedCount::Foreign) > 1000);
}

#[test]
fn a_hole_is_waited_for_by_the_capture_s_own_time() {
    use crate::source::mold::{PacketWriter, Session};
    let mut market = market();
    let messages: Vec<_> = (0..4).map(|_| market.next_message().unwrap().to_vec()).collect();
    let mut capture = PcapWriter::new(Vec::new()).unwrap();
    // The second message comes 12 ms after the third has shown that it is missing.
    for (ms, line, sequence) in [(1000, 0, 1), (1001, 0, 3), (1013, 1, 2), (1014, 0, 4)] {
        let mut packet = PacketWriter::new(Session(*b"DAY       "), 1400);
        packet.begin(sequence);
        assert!(packet.push(&messages[sequence as usize - 1]));
        packet.end();
        let to = SocketAddrV4::new(CapturedDay::GROUPS[line], CapturedDay::PORTS[line]);
        capture.datagram(ms * 1_000_000, to, packet.bytes()).unwrap();
    }
    let capture = capture.finish().unwrap();
    let of = |window_ms| {
        let arbiter = ArbiterConfig { window: std::time::Duration::from_millis(window_ms), ..ArbiterConfig::default() };
        let (ticks, gaps, counters, error) = play(&capture, CaptureConfig { arbiter, ..CaptureConfig::default() });
        assert_eq!(error, None);
        let sequences: Vec<_> = ticks.iter().map(|tick| tick.sequence).collect();
        (sequences, gaps, counters.get(FeedCount::Duplicates), counters.get(FeedCount::Reordered))
    };
    assert_eq!(of(20), (vec![1, 2, 3, 4], vec![], 0, 1));
    assert_eq!(of(10), (vec![1, 3, 4], vec![(1, 1)], 1, 0));
}

#[test]
fn malformed_packets_stop_the_stream_or_are_left_out() {
    let to = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), 5);
    let mut capture = Vec::new();
    write_pcap(&mut market(), &CapturedDay::new(), &mut capture).unwrap();
    let mut bad = PcapWriter::new(Vec::new()).unwrap();
    bad.datagram(1, to, b"what?").unwrap();
    let bad = bad.finish().unwrap();
    let bad = [&bad, &capture[24..]].concat();
    let (ticks, _, _, error) = play(&bad, CaptureConfig::default());
    let error = error.unwrap();
    assert!(
        ticks.is_empty()
            && error.starts_with("c.pcap: at packet 1: MoldUDP64 packet: ")
            && error.ends_with("(to port 5)"),
        "{error}"
    );
    let skip = CaptureConfig { on_malformed: OnMalformed::Skip, ..CaptureConfig::default() };
    let (ticks, _, counters, error) = play(&bad, skip.clone());
    assert_eq!((ticks.len(), counters.get(FeedCount::Malformed), error), (20_000, 1, None));
    let ports = CaptureConfig { ports: vec![CapturedDay::PORTS[0]], ..CaptureConfig::default() };
    let (ticks, _, counters, error) = play(&bad, ports);
    assert_eq!((ticks.len(), counters.get(FeedCount::Foreign), error), (20_000, 1, None));
    // A frame that was cut, and a file that was.
    let cut =
        [&bad[..28], &5u32.to_le_bytes(), &(46u32).to_le_bytes(), &47u32.to_le_bytes(), &bad[40..86], &capture[24..]]
            .concat();
    let error = play(&cut, CaptureConfig::default()).3.unwrap();
    assert!(error.contains("only 4 of its 5 bytes are there, as it was cut when it was captured"), "{error}");
    let half = &capture[..capture.len() / 2];
    let (ticks, _, counters, error) = play(half, skip);
    assert!(ticks.len() > 9_000 && error.is_none() && counters.get(FeedCount::Malformed) == 1);
    let (stopped, _, _, error) = play(half, CaptureConfig::default());
    assert!(stopped.len() == ticks.len() && error.unwrap().contains("the capture ends within it"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_are_a_panic(
        kind in 0usize..3,
        cut in 0usize..4000,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
    ) {
        static FILES: std::sync::OnceLock<[Vec<u8>; 3]> = std::sync::OnceLock::new();
        let files = FILES.get_or_init(|| {
            let mut pcap = Vec::new();
            write_pcap(&mut market(), &CapturedDay { lines: 2, ..CapturedDay::new() }, &mut pcap).unwrap();
            let bytes = &pcap[24 + 16..24 + 16 + 300];
            let ng = |is_big| [section(is_big, 1, 9, 5), enhanced(is_big, 0, 7, bytes, 300), enhanced(is_big, 0, 9, bytes, 400)].concat();
            [pcap[..4000].to_vec(), ng(false), ng(true)]
        });
        let mut bytes = files[kind].clone();
        bytes.truncate(cut.max(40));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = frames(&bytes);
        if reader(&bytes).is_ok() {
            let skip = CaptureConfig { on_malformed: OnMalformed::Skip, ..CaptureConfig::default() };
            let (ticks, ..) = play(&bytes, skip);
            prop_assert!(ticks.len() < 1000);
        }
    }
}
