//! UDP out of frames.

use etherparse::{EtherType, LaxSlicedPacket, TransportSlice};
use pcap_parser::Linktype;

use super::reader::Frame;

/// A UDP datagram in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The port it was sent to.
    pub port: u16,
    /// Its payload, as far as it is there.
    pub payload: &'a [u8],
    /// Bytes that the payload should have.
    pub length: usize,
}

/// Bytes of a UDP header: RFC 768.
const UDP_HEADER: usize = 8;
/// Bytes of a header of Linux "cooked" captures, version 2: LINKTYPE_LINUX_SLL2.
const SLL2_HEADER: usize = 20;
/// Bytes of a header of a loopback interface: LINKTYPE_NULL, LINKTYPE_LOOP.
const LOOPBACK_HEADER: usize = 4;

impl Frame {
    /// The UDP datagram that the frame carries: over IPv4 or IPv6, over Ethernet with or without VLAN tags, Linux "cooked" captures, a
    /// loopback interface or nothing else. `None`: it carries something else, or a fragment of one. Checksums are not looked at, as
    /// those of packets that were captured where they were sent are not right.
    pub fn udp(&self) -> Option<Datagram<'_>> {
        let bytes = &self.bytes[..];
        let sliced = match Linktype(self.linktype) {
            Linktype::ETHERNET => LaxSlicedPacket::from_ethernet(bytes).ok()?,
            Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 => LaxSlicedPacket::from_ip(bytes).ok()?,
            Linktype::NULL | Linktype::LOOP => LaxSlicedPacket::from_ip(bytes.get(LOOPBACK_HEADER..)?).ok()?,
            Linktype::LINUX_SLL => cooked(bytes, 14, 16)?,
            Linktype::LINUX_SLL2 => cooked(bytes, 0, SLL2_HEADER)?,
            _ => return None,
        };
        let Some(TransportSlice::Udp(udp)) = sliced.transport else { return None };
        let payload = udp.payload();
        // A length of 0 stands for what there is, in jumbograms: RFC 2675, section 4.
        let told = usize::from(udp.length()).checked_sub(UDP_HEADER);
        Some(Datagram { port: udp.destination_port(), payload, length: told.unwrap_or(payload.len()) })
    }
}

/// What follows a header that tells the protocol at `at`.
fn cooked(bytes: &[u8], at: usize, header: usize) -> Option<LaxSlicedPacket<'_>> {
    let protocol = bytes.get(at..)?.first_chunk()?;
    Some(LaxSlicedPacket::from_ether_type(EtherType(u16::from_be_bytes(*protocol)), bytes.get(header..)?))
}
