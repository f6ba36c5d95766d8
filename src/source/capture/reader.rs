//! Frames out of a capture: pcap and pcapng.

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Block, InterfaceDescriptionBlock, Linktype, OptionCode, PcapBlockOwned, PcapError};

use crate::source::{FeedCounters, Input, Offset, SourceError};

/// What is read at once, and the longest block that is read without making room for it.
const BUFFER: usize = 1 << 18;
/// The longest block that is read at all.
const BLOCK_MAX: usize = 4 << 20;
/// Interfaces of a section, at most.
const INTERFACES_MAX: usize = 1 << 12;
const NS_PER_S: u64 = 1_000_000_000;

/// Reads the frames of a capture in the order in which they are in the file: pcap with micro- or nanoseconds in either byte
/// order, and pcapng; plain, gzip or zstd.
///
/// The formats are those of the IETF drafts *PCAP Capture File Format* (draft-ietf-opsawg-pcap) and *PCAP Now Generic Capture
/// File Format* (draft-ietf-opsawg-pcapng).
pub struct CaptureReader {
    name: String,
    blocks: Box<dyn PcapReaderIterator + Send>,
    read_error: ReadError,
    /// Bytes of the block handed out last.
    taken: usize,
    room: usize,
    format: Format,
    frame: Frame,
}

/// A captured frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its number in the capture, from 1.
    pub number: u64,
    /// When it was captured: nanoseconds since the Unix epoch; 0 where the capture does not tell.
    pub time_ns: u64,
    /// What it begins with: the LINKTYPE of its interface.
    pub linktype: i32,
    /// Its bytes, as far as they were captured.
    pub bytes: Vec<u8>,
    /// Its length on the wire.
    pub wire_bytes: u32,
}

/// What blocks before have told.
#[derive(Debug)]
enum Format {
    Pcap {
        linktype: i32,
        ns_per_unit: u64,
    },
    PcapNg {
        big_endian: bool,
        /// Link type, units a second, and what is to be added, in seconds.
        interfaces: Vec<(i32, u64, i64)>,
    },
}

impl CaptureReader {
    /// The most memory that it takes, in bytes.
    pub const MEMORY_BYTES: u64 = (2 * BLOCK_MAX) as u64 + Input::MEMORY_BYTES;

    /// Opens a capture; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be read, or is no capture.
    pub fn open(path: &Path, counters: &Arc<FeedCounters>) -> Result<Self, SourceError> {
        Self::new(Input::open(path, counters)?)
    }

    /// Reads a capture.
    ///
    /// # Errors
    /// When it cannot be read, or is no capture.
    pub fn new(input: Input) -> Result<Self, SourceError> {
        let (name, path) = (input.path().display().to_string(), input.path().to_owned());
        let read_error = ReadError::default();
        let whole = WholeReads { input, error: read_error.clone() };
        let blocks = pcap_parser::create_reader(BUFFER, whole).map_err(|error| match (read_error.take(), error) {
            (Some(error), _) => SourceError::Io { path, error },
            (None, error) => {
                let what = if error == PcapError::Eof { "is empty" } else { "is no pcap or pcapng file" };
                SourceError::Unsupported { feed: name.clone(), reason: format!("it {what}: give a capture") }
            }
        })?;
        let format = Format::PcapNg { big_endian: false, interfaces: Vec::new() };
        Ok(Self { name, blocks, read_error, taken: 0, room: BUFFER, format, frame: Frame::default() })
    }

    /// The next frame; `None` at the end. It stands until the next call.
    ///
    /// # Errors
    /// When the capture cannot be read on, which its frame's number tells. There is no way to go on after that.
    pub fn next_frame(&mut self) -> Result<Option<&Frame>, SourceError> {
        loop {
            self.blocks.consume(std::mem::take(&mut self.taken));
            let problem = match self.blocks.next() {
                Ok((bytes, block)) => {
                    self.taken = bytes;
                    match take(block, &mut self.format, &mut self.frame) {
                        Ok(false) => continue,
                        Ok(true) => return Ok(Some(&self.frame)),
                        Err(reason) => reason,
                    }
                }
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::Incomplete(_)) => {
                    let before = self.blocks.data().len();
                    let _ = self.blocks.refill();
                    if let Some(error) = self.read_error.take() {
                        return Err(SourceError::Io { path: self.name.clone().into(), error });
                    }
                    if self.blocks.data().len() > before || self.blocks.reader_exhausted() {
                        continue;
                    }
                    "it is damaged".to_owned()
                }
                Err(PcapError::BufferTooSmall) if self.room < BLOCK_MAX => {
                    self.room *= 2;
                    self.blocks.grow(self.room);
                    continue;
                }
                Err(PcapError::BufferTooSmall) => format!("it is longer than {BLOCK_MAX} bytes, which no frame is"),
                Err(PcapError::UnexpectedEof) => "the capture ends within it".to_owned(),
                Err(_) => "it is damaged".to_owned(),
            };
            return Err(self.error(self.frame.number + 1, "capture block", problem));
        }
    }

    /// The frame handed out last.
    pub(super) fn frame_now(&self) -> Option<&Frame> {
        (self.frame.number > 0).then_some(&self.frame)
    }

    /// That something is wrong with a frame.
    pub(super) fn error(&self, number: u64, kind: &str, reason: String) -> SourceError {
        SourceError::Malformed {
            feed: self.name.clone(),
            offset: Offset::Packet(number),
            kind: kind.to_owned(),
            reason,
        }
    }

    /// The capture's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Takes a block in; whether it is a frame.
fn take(block: PcapBlockOwned<'_>, format: &mut Format, frame: &mut Frame) -> Result<bool, String> {
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            let ns_per_unit = if header.is_nanosecond_precision() { 1 } else { 1000 };
            // The upper bits tell of a checksum at the frame's end, which is no matter here.
            *format = Format::Pcap { linktype: header.network.0 & 0xffff, ns_per_unit };
            Ok(false)
        }
        PcapBlockOwned::Legacy(packet) => {
            let Format::Pcap { linktype, ns_per_unit } = *format else { return Err("it has no header".to_owned()) };
            let time_ns = u64::from(packet.ts_sec) * NS_PER_S + u64::from(packet.ts_usec) * ns_per_unit;
            frame.set(time_ns, linktype, packet.data, packet.origlen);
            Ok(true)
        }
        PcapBlockOwned::NG(block) => {
            let Format::PcapNg { big_endian, interfaces } = format else {
                return Err("it is of another format".to_owned());
            };
            let interface = |interfaces: &[_], id: u32| {
                let found = interfaces.get(id as usize).copied();
                found.ok_or_else(|| format!("its interface {id} was not described"))
            };
            match block {
                Block::SectionHeader(section) => {
                    *big_endian = section.big_endian();
                    interfaces.clear();
                }
                Block::InterfaceDescription(described) => {
                    if interfaces.len() == INTERFACES_MAX {
                        return Err(format!("there are more than {INTERFACES_MAX} interfaces"));
                    }
                    let resolution = units_per_second(described.if_tsresol)?;
                    interfaces.push((described.linktype.0, resolution, clock_offset_s(&described, *big_endian)));
                }
                Block::EnhancedPacket(packet) => {
                    let (linktype, resolution, offset) = interface(interfaces, packet.if_id)?;
                    let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                    let ns = u128::from(units) * u128::from(NS_PER_S) / u128::from(resolution);
                    let time_ns = i128::from(offset) * i128::from(NS_PER_S) + ns as i128;
                    frame.set(
                        time_ns.clamp(0, i128::from(u64::MAX)) as u64,
                        linktype,
                        packet.packet_data(),
                        packet.origlen,
                    );
                    return Ok(true);
                }
                Block::SimplePacket(packet) => {
                    let (linktype, ..) = interface(interfaces, 0)?;
                    frame.set(0, linktype, packet.packet_data(), packet.origlen);
                    return Ok(true);
                }
                _ => {}
            }
            Ok(false)
        }
    }
}

/// What an interface's `if_tsresol` stands for: draft-ietf-opsawg-pcapng, section 4.2.
fn units_per_second(resolution: u8) -> Result<u64, String> {
    let exponent = u32::from(resolution & 0x7f);
    let base: u64 = if resolution & 0x80 == 0 { 10 } else { 2 };
    base.checked_pow(exponent)
        .ok_or_else(|| format!("its interface's clock has {base} to the {exponent} units a second"))
}

/// What is to be added to an interface's times: its `if_tsoffset`, in the byte order of the section.
fn clock_offset_s(described: &InterfaceDescriptionBlock<'_>, big_endian: bool) -> i64 {
    let option = described.options.iter().find(|option| option.code == OptionCode::IfTsoffset);
    let Some(bytes) = option.and_then(|option| option.value().first_chunk()) else { return 0 };
    if big_endian { i64::from_be_bytes(*bytes) } else { i64::from_le_bytes(*bytes) }
}

impl Frame {
    fn set(&mut self, time_ns: u64, linktype: i32, bytes: &[u8], wire_bytes: u32) {
        self.number += 1;
        (self.time_ns, self.linktype, self.wire_bytes) = (time_ns, linktype, wire_bytes);
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether it was cut when it was captured.
    pub fn is_cut(&self) -> bool {
        (self.bytes.len() as u64) < u64::from(self.wire_bytes)
    }
}

/// Ethernet, as the writer of captures needs it.
pub(super) const ETHERNET: i32 = Linktype::ETHERNET.0;

/// What the reader below the parser has met: the parser forgets it.
#[derive(Clone, Debug, Default)]
struct ReadError(Arc<Mutex<Option<io::Error>>>);

impl ReadError {
    fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Fills what is to be read, unless the file ends: the parser wants the header in one piece.
struct WholeReads {
    input: Input,
    error: ReadError,
}

impl Read for WholeReads {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.input.read(&mut buf[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let told = io::Error::new(error.kind(), error.to_string());
                    *self.error.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return Err(told);
                }
            }
        }
        Ok(filled)
    }
}

impl std::fmt::Debug for CaptureReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureReader").field("name", &self.name).field("frames", &self.frame.number).finish()
    }
}
