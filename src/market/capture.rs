//! A day in a capture: MoldUDP64 packets in a pcap file, as one would have recorded them.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::{Impairment, Impairments, Market, Packets, Sent};
use crate::source::capture::PcapWriter;
use crate::source::mold::Session;

/// How a day is captured.
#[derive(Clone, Debug)]
pub struct CapturedDay {
    /// Lines: 1, or 2 for A and B, which go to UDP ports [`PORTS`](Self::PORTS).
    pub lines: usize,
    /// Midnight of the day, in nanoseconds since the Unix epoch.
    pub midnight_ns: u64,
    /// How much later line B brings a packet.
    pub lag: Duration,
    /// What each line does to its packets.
    pub impairment: Impairment,
    /// Share of the packets that no line brings: 0 to 1.
    pub loss_everywhere: f64,
    /// The dice's seed.
    pub seed: u64,
}

impl CapturedDay {
    /// The lines' ports.
    pub const PORTS: [u16; 2] = [26_400, 26_401];
    /// The lines' groups.
    pub const GROUPS: [Ipv4Addr; 2] = [Ipv4Addr::new(233, 54, 12, 101), Ipv4Addr::new(233, 54, 12, 201)];

    /// One line, and nothing happens to it, on the first day of the epoch.
    pub fn new() -> Self {
        Self {
            lines: 1,
            midnight_ns: 0,
            lag: Duration::ZERO,
            impairment: Impairment::default(),
            loss_everywhere: 0.0,
            seed: 1,
        }
    }
}

impl Default for CapturedDay {
    fn default() -> Self {
        Self::new()
    }
}

/// Packets on their way, with when they arrive.
type Way = VecDeque<(u64, Vec<u8>)>;

/// Writes what is left of a day as a capture.
///
/// # Errors
/// What the writer reports.
///
/// # Panics
/// If there are neither one line nor two.
pub fn write_pcap(market: &mut Market, day: &CapturedDay, out: impl Write) -> io::Result<Sent> {
    assert!((1..=2).contains(&day.lines), "there are {} lines", day.lines);
    let mut out = PcapWriter::new(out)?;
    let dice = |number: usize| Impairments::new(day.seed.wrapping_add(number as u64 + 1), day.impairment);
    let mut lines: Vec<(Impairments, Way)> = (0..day.lines).map(|number| (dice(number), Way::new())).collect();
    let mut everywhere = Impairments::new(day.seed, Impairment::default());
    let (mut packets, mut sent) = (Packets::new(Session(*b"PLIMSOLL  ")), Sent::default());
    let lag_ns = u64::try_from(day.lag.as_nanos()).unwrap_or(u64::MAX);
    let arrival = |number: usize, time_ns: u64| day.midnight_ns + time_ns + if number == 0 { 0 } else { lag_ns };
    loop {
        let begin = packets.messages() + 1;
        let Some(packet) = packets.next_packet(market, |_| {}) else { break };
        let packet = packet.to_vec();
        let lost = everywhere.happens(day.loss_everywhere);
        let mut lost_by = 0;
        for (number, (impairments, way)) in lines.iter_mut().enumerate() {
            let arrives_ns = arrival(number, packets.time_ns());
            let bring = |packet: &[u8]| way.push_back((arrives_ns, packet.to_vec()));
            lost_by += usize::from(impairments.pass(&packet, lost, bring));
        }
        if lost_by == lines.len() {
            sent.lost_everywhere.push(begin..packets.messages() + 1);
        }
        (sent.packets, sent.messages) = (sent.packets + 1, packets.messages());
        write_until(&mut out, &mut lines, arrival(0, packets.time_ns()))?;
    }
    for (number, (impairments, way)) in lines.iter_mut().enumerate() {
        let arrives_ns = arrival(number, packets.time_ns());
        impairments.finish(|packet| way.push_back((arrives_ns, packet.to_vec())));
        way.push_back((arrives_ns, packets.end_of_session()));
    }
    write_until(&mut out, &mut lines, u64::MAX)?;
    out.finish()?;
    sent.lost = lines.iter().map(|(impairments, _)| impairments.lost()).collect();
    sent.duplicated = lines.iter().map(|(impairments, _)| impairments.duplicated()).collect();
    Ok(sent)
}

/// Writes what has arrived by then, in the order of arrival.
fn write_until(out: &mut PcapWriter<impl Write>, lines: &mut [(Impairments, Way)], until_ns: u64) -> io::Result<()> {
    loop {
        let first = lines.iter().enumerate().filter_map(|(number, (_, way))| Some((way.front()?.0, number))).min();
        let Some((arrives_ns, number)) = first.filter(|(arrives_ns, _)| *arrives_ns <= until_ns) else { return Ok(()) };
        if let Some((_, packet)) = lines[number].1.pop_front() {
            let to = SocketAddrV4::new(CapturedDay::GROUPS[number], CapturedDay::PORTS[number]);
            out.datagram(arrives_ns, to, &packet)?;
        }
    }
}
