//! Writes captures.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::PacketBuilder;

use super::reader::ETHERNET;

/// Of a capture with nanoseconds, little-endian: draft-ietf-opsawg-pcap, section 4.
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: (u16, u16) = (2, 4);
const SNAPSHOT_BYTES: u32 = 1 << 16;
const NS_PER_S: u64 = 1_000_000_000;
/// Where frames seem to come from.
const FROM: ([u8; 6], Ipv4Addr, u16) = ([2, 0, 0, 0, 0, 1], Ipv4Addr::new(10, 0, 0, 1), 26_000);
const HOPS: u8 = 16;

/// Writes UDP datagrams into a pcap file with nanoseconds, as Ethernet frames of IPv4 multicast.
#[derive(Debug)]
pub struct PcapWriter<W> {
    out: W,
    frame: Vec<u8>,
}

impl<W: Write> PcapWriter<W> {
    /// Begins a capture.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC.to_le_bytes())?;
        out.write_all(&VERSION.0.to_le_bytes())?;
        out.write_all(&VERSION.1.to_le_bytes())?;
        out.write_all(&[0; 8])?;
        out.write_all(&SNAPSHOT_BYTES.to_le_bytes())?;
        out.write_all(&ETHERNET.to_le_bytes())?;
        Ok(Self { out, frame: Vec::new() })
    }

    /// Writes a datagram that was sent to `to` at `time_ns` since the Unix epoch, which is before 2106.
    ///
    /// # Errors
    /// What the writer reports; and when the payload is longer than a datagram can be.
    pub fn datagram(&mut self, time_ns: u64, to: SocketAddrV4, payload: &[u8]) -> io::Result<()> {
        let [_, b, c, d] = to.ip().octets();
        // RFC 1112, section 6.4.
        let group = [0x01, 0x00, 0x5e, b & 0x7f, c, d];
        let builder = PacketBuilder::ethernet2(FROM.0, group).ipv4(FROM.1.octets(), to.ip().octets(), HOPS);
        let builder = builder.udp(FROM.2, to.port());
        self.frame.clear();
        builder.write(&mut self.frame, payload).map_err(io::Error::other)?;
        let length = self.frame.len() as u32;
        for field in [(time_ns / NS_PER_S) as u32, (time_ns % NS_PER_S) as u32, length, length] {
            self.out.write_all(&field.to_le_bytes())?;
        }
        self.out.write_all(&self.frame)
    }

    /// Ends the capture; returns what it was written to.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}
