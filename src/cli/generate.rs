//! `plimsoll gen`: a market that never was, into a file or onto the network.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use plimsoll::market::{Impairment, Market, MarketConfig, SendConfig, send_udp, write_itch};
use plimsoll::source::Pace;

use super::output::OutputFile;
use super::signal::StopFlag;
use super::{CliError, summary};
use crate::config::units;

/// Make a trading day of ITCH messages: the same seed, the same day.
///
/// Symbols are drawn by Zipf's law; the day has an opening burst, a quiet midday and a rise to the close. It is written to a file
/// (NASDAQ BinaryFILE; packed, if the name ends with .gz), or sent as MoldUDP64 packets to one line or two, with loss, duplicates and
/// reordering as wanted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll gen --messages 10000000 --out day.itch.gz
  plimsoll gen --messages 1000000 --flash-crash --out crash.itch
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
    /// File to write
    #[arg(long, value_name = "FILE", conflicts_with = "udp", required_unless_present = "udp")]
    out: Option<PathBuf>,
    /// Address to send packets to, unicast or multicast; a second one is line B
    #[arg(long, value_name = "ADDR")]
    udp: Vec<SocketAddr>,
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
        Some(path) => {
            let file = OutputFile::create(path)?;
            let is_packed = path.extension().is_some_and(|extension| extension == "gz");
            let messages = file.finish(|out| match is_packed {
                true => {
                    let mut packed = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
                    let messages = write_itch(&mut market, &mut packed)?;
                    packed.finish().map(|_| messages)
                }
                false => write_itch(&mut market, out),
            })?;
            format!("{} messages → {}\n", summary::grouped(messages), path.display())
        }
        None => send(arguments, &mut market)?,
    };
    let text = text + &summary::rate(arguments.messages, start.elapsed());
    io::stdout().write_all(text.as_bytes()).map_err(CliError::stdout)
}

fn send(arguments: &Arguments, market: &mut Market) -> Result<String, CliError> {
    let stop = StopFlag::install()?;
    let config = SendConfig {
        pace: arguments.pace,
        lag: Duration::from_nanos(arguments.lag_b.map_or(0, NonZeroU64::get)),
        impairment: Impairment {
            loss: arguments.loss,
            duplicates: arguments.duplicates,
            reordering: arguments.reorder,
        },
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
    let mut text =
        format!("{} messages in {} packets\n", summary::grouped(sent.messages), summary::grouped(sent.packets));
    for (number, address) in arguments.udp.iter().enumerate() {
        let [lost, twice] = [&sent.lost, &sent.duplicated].map(|counts| summary::grouped(counts[number]));
        text += &format!("line {:<12}{lost:>16} packets lost, {twice} brought twice → {address}\n", number + 1);
    }
    let nowhere: u64 = sent.lost_everywhere.iter().map(|range| range.end - range.start).sum();
    text += &format!(
        "on no line       {:>16} messages, in {} packets\n",
        summary::grouped(nowhere),
        sent.lost_everywhere.len()
    );
    Ok(text)
}
