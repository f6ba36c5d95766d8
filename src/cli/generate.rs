//! `plimsoll gen`: a market that never was, into a file or onto the network.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::civil::Date;
use plimsoll::market::{
    CapturedDay, Impairment, Market, MarketConfig, SendConfig, Sent, send_udp, write_itch, write_pcap, write_rows,
};
use plimsoll::source::Pace;
use plimsoll::source::rows::RowFormat;

use super::output::OutputFile;
use super::signal::StopFlag;
use super::{CliError, summary};
use crate::config::{new_york_midnight_ns, units};

/// Make a trading day of ITCH messages: the same seed, the same day.
///
/// Symbols are drawn by Zipf's law; the day has an opening burst, a quiet midday and a rise to the close. It is written to a file, as
/// its name says: .itch (NASDAQ BinaryFILE), .pcap (MoldUDP64 packets), .csv or .ndjson (trades and quotes), packed if .gz or .zst follows. Or
/// it is sent as MoldUDP64 packets to one line or two. Packets are lost, doubled and reordered as wanted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll gen --messages 10000000 --out day.itch.gz
  plimsoll gen --messages 1000000 --flash-crash --out crash.itch
  plimsoll gen --lines 2 --loss 0.01 --out day.pcap
  plimsoll gen --udp 127.0.0.1:26400 --udp 127.0.0.1:26401 --pace 200000/s --loss 0.01 --lag-b 2ms")]
pub(crate) struct Arguments {
    /// The dice's seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Messages of the day
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    messages: u64,
    /// Symbols; the first sixty are those of the default tiers
    #[arg(long, value_name = "N", default_value_t = 500)]
    symbols: usize,
    /// Zipf's exponent: the n-th symbol has a share of 1/n^S of the messages
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    zipf: f64,
    /// Let prices fall and messages come in a flood for a minute at 14:45
    #[arg(long)]
    flash_crash: bool,
    /// File to write: .itch, .pcap, .csv or .ndjson; and .gz or .zst after it
    #[arg(long, value_name = "FILE", conflicts_with = "udp", required_unless_present = "udp")]
    out: Option<PathBuf>,
    /// Address to send packets to, unicast or multicast; a second one is line B
    #[arg(long, value_name = "ADDR")]
    udp: Vec<SocketAddr>,
    /// Lines of a capture: 1, or 2 for A and B, which go to UDP ports 26400 and 26401
    #[arg(long, value_name = "N", default_value_t = 1, requires = "out", value_parser = clap::value_parser!(u8).range(1..=2))]
    lines: u8,
    /// Day of a capture, whose packets have times of the clock, as in 2026-01-30, in New York [default: 1970-01-01, in UTC]
    #[arg(long, value_name = "DATE", requires = "out")]
    day: Option<Date>,
    /// How fast to send: max, realtime, xN (N times as fast as the day's own time), N/s (messages a second)
    #[arg(long, default_value = "200000/s", requires = "udp")]
    pace: Pace,
    /// Share of the packets that each line loses: 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    loss: f64,
    /// Share of the packets that a line brings twice
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    duplicates: f64,
    /// Share of the packets that come up to three packets late
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    reorder: f64,
    /// Share of the packets that no line brings
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    loss_everywhere: f64,
    /// How much later line B brings a packet: a number and ns, us, ms, s
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    lag_b: Option<NonZeroU64>,
    /// Address to answer requests for lost messages on
    #[arg(long, value_name = "ADDR", requires = "udp")]
    rerequest: Option<SocketAddr>,
    /// How long to answer them after the end
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "rerequest", value_parser = units::time)]
    linger: NonZeroU64,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share: give a number from 0 to 1, as 0.01 for one in a hundred"))
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let config = MarketConfig {
        seed: arguments.seed,
        messages: arguments.messages,
        symbols: arguments.symbols,
        zipf_exponent: arguments.zipf,
        flash_crash: arguments.flash_crash,
    };
    let mut market = Market::new(&config).map_err(CliError::Usage)?;
    let start = Instant::now();
    let text = match &arguments.out {
        Some(path) => write(arguments, &mut market, path)?,
        None => send(arguments, &mut market)?,
    };
    let text = text + &summary::rate(arguments.messages, start.elapsed());
    io::stdout().write_all(text.as_bytes()).map_err(CliError::stdout)
}

/// What a file is to hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Itch,
    Pcap,
    Rows(RowFormat),
}

fn write(arguments: &Arguments, market: &mut Market, path: &Path) -> Result<String, CliError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (name, packing) = match (name.strip_suffix(".gz"), name.strip_suffix(".zst")) {
        (Some(name), _) => (name, Packing::Gzip),
        (_, Some(name)) => (name, Packing::Zstd),
        _ => (&*name, Packing::None),
    };
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let content = match extension.as_deref() {
        Some("pcap") => Content::Pcap,
        Some("csv") => Content::Rows(RowFormat::Csv { delimiter: b',' }),
        Some("ndjson" | "jsonl") => Content::Rows(RowFormat::Ndjson),
        None | Some("itch" | "bin" | "nasdaq_itch50") => Content::Itch,
        Some(other) => {
            let path = path.display();
            return Err(CliError::Usage(format!(
                "{path}: what .{other} holds is not known: give .itch, .pcap, .csv or .ndjson, and .gz or .zst after it as you like"
            )));
        }
    };
    if content != Content::Pcap && arguments.is_impaired() {
        let path = path.display();
        return Err(CliError::Usage(format!(
            "{path} holds messages, not packets: lines, loss, duplicates, reordering and a day are for .pcap files"
        )));
    }
    let day = CapturedDay {
        lines: arguments.lines.into(),
        midnight_ns: arguments.day.map_or(Ok(0), new_york_midnight_ns).map_err(CliError::Usage)?,
        lag: arguments.lag(),
        impairment: arguments.impairment(),
        loss_everywhere: arguments.loss_everywhere,
        seed: arguments.seed,
    };
    let file = OutputFile::create(path)?;
    let text = file.finish(|out| {
        packed(packing, out, |out| {
            Ok(match content {
                Content::Itch => format!("{} messages", summary::grouped(write_itch(market, out)?)),
                Content::Rows(format) => format!("{} rows", summary::grouped(write_rows(market, format, out)?)),
                Content::Pcap => {
                    sent_text(&write_pcap(market, &day, out)?, &CapturedDay::PORTS.map(|port| format!("port {port}")))
                }
            })
        })
    })?;
    Ok(format!("{} → {}\n", text.trim_end(), path.display()))
}

enum Packing {
    None,
    Gzip,
    Zstd,
}

/// Writes through a packer.
fn packed<T>(
    packing: Packing,
    out: &mut dyn Write,
    write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
) -> io::Result<T> {
    match packing {
        Packing::None => write(out),
        Packing::Gzip => {
            let mut packer = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
            let written = write(&mut packer)?;
            packer.finish().map(|_| written)
        }
        Packing::Zstd => {
            let mut packer = zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            let written = write(&mut packer)?;
            packer.finish().map(|_| written)
        }
    }
}

impl Arguments {
    fn impairment(&self) -> Impairment {
        Impairment { loss: self.loss, duplicates: self.duplicates, reordering: self.reorder }
    }

    fn lag(&self) -> Duration {
        Duration::from_nanos(self.lag_b.map_or(0, NonZeroU64::get))
    }

    /// Whether something is asked for that only packets can have.
    fn is_impaired(&self) -> bool {
        self.impairment() != Impairment::default()
            || self.loss_everywhere > 0.0
            || self.lag_b.is_some()
            || self.lines > 1
            || self.day.is_some()
    }
}

fn send(arguments: &Arguments, market: &mut Market) -> Result<String, CliError> {
    let stop = StopFlag::install()?;
    let config = SendConfig {
        pace: arguments.pace,
        lag: arguments.lag(),
        impairment: arguments.impairment(),
        loss_everywhere: arguments.loss_everywhere,
        seed: arguments.seed,
        rerequest: arguments.rerequest,
        linger: if arguments.rerequest.is_some() {
            Duration::from_nanos(arguments.linger.get())
        } else {
            Duration::ZERO
        },
        ..SendConfig::new(arguments.udp.clone())
    };
    let observe = |_: &_| if stop.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let sent = send_udp(market, &config, observe).map_err(|error| CliError::io(&"sending", &error))?;
    let names: Vec<_> = arguments.udp.iter().map(SocketAddr::to_string).collect();
    Ok(sent_text(&sent, &names))
}

/// What was sent, and what each line did to it.
fn sent_text(sent: &Sent, lines: &[String]) -> String {
    let mut text =
        format!("{} messages in {} packets\n", summary::grouped(sent.messages), summary::grouped(sent.packets));
    for (number, ((lost, twice), name)) in sent.lost.iter().zip(&sent.duplicated).zip(lines).enumerate() {
        let [lost, twice] = [*lost, *twice].map(summary::grouped);
        text += &format!("line {:<12}{lost:>16} packets lost, {twice} brought twice → {name}\n", number + 1);
    }
    let nowhere: u64 = sent.lost_everywhere.iter().map(|range| range.end - range.start).sum();
    text += &format!(
        "on no line       {:>16} messages, in {} packets\n",
        summary::grouped(nowhere),
        sent.lost_everywhere.len()
    );
    text
}
