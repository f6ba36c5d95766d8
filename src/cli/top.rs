//! `plimsoll top`: a running process, live in the terminal.

mod draw;

pub(super) use draw::COLOURS;

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde::Serialize;

use super::CliError;
use super::ctl;
use super::service::Request;
use super::status::Status;
use crate::config::units;

/// Seconds of history that the screen may show.
const KEPT: usize = 600;
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Watch a running process: level and its cause, signals against thresholds, rates, workers.
///
/// From its HTTP server (`run --metrics ADDR`, or `[http] listen`) or its control socket. `q` ends it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll top                                     # http://127.0.0.1:9100
  plimsoll top http://10.1.0.7:9100 --interval 500ms
  plimsoll top --socket /run/plimsoll/control.sock
  plimsoll top --once --json | jq .status.level    # rates are over one interval")]
pub(crate) struct Arguments {
    /// The process's HTTP server
    #[arg(default_value = "http://127.0.0.1:9100", value_name = "URL")]
    url: String,
    /// Its control socket, instead
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    socket: Option<PathBuf>,
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::time)]
    interval: std::num::NonZeroU64,
    /// Look twice, print what there is to see, and end
    #[arg(long)]
    once: bool,
    /// With --once: as JSON
    #[arg(long, requires = "once")]
    json: bool,
}

/// Where the status comes from.
enum Place {
    Url(String, ureq::Agent),
    Socket(PathBuf),
}

impl Place {
    fn of(arguments: &Arguments) -> Self {
        if let Some(path) = &arguments.socket {
            return Self::Socket(path.clone());
        }
        let url = arguments.url.trim_end_matches('/').trim_end_matches("/status.json").trim_end_matches("/metrics");
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build();
        Self::Url(format!("{url}/status.json"), config.into())
    }

    fn name(&self) -> String {
        match self {
            Self::Url(url, _) => url.trim_end_matches("/status.json").to_owned(),
            Self::Socket(path) => path.display().to_string(),
        }
    }

    fn status(&self) -> Result<Status, CliError> {
        match self {
            Self::Url(url, agent) => {
                let failed = |error: &dyn std::fmt::Display| CliError::Runtime(format!("{url}: {error}"));
                let mut answer = agent.get(url).call().map_err(|error| failed(&error))?;
                let text = answer.body_mut().read_to_string().map_err(|error| failed(&error))?;
                serde_json::from_str(&text).map_err(|error| failed(&format!("that is no status of Plimsoll: {error}")))
            }
            Self::Socket(path) => {
                let answer = ctl::ask(path, &Request::Status)?;
                if !answer.ok {
                    return Err(CliError::Runtime(answer.text));
                }
                let unreadable = |error| CliError::Runtime(format!("{}: that is no status: {error}", path.display()));
                serde_json::from_value(answer.data).map_err(unreadable)
            }
        }
    }
}

/// Messages a second, between two looks.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Rates {
    offered: f64,
    processed: f64,
    shed: [f64; 3],
    conflated: f64,
    spilled: f64,
    replayed: f64,
    refused: f64,
}

impl Rates {
    fn between(before: &Status, now: &Status) -> Self {
        let seconds = now.uptime_seconds - before.uptime_seconds;
        let (old, new) = (&before.totals, &now.totals);
        // Another process, or the same status again.
        let rate = |old: u64, new: u64| if seconds > 0.0 { new.saturating_sub(old) as f64 / seconds } else { 0.0 };
        Self {
            offered: rate(old.offered, new.offered),
            processed: rate(old.processed_live + old.replayed, new.processed_live + new.replayed),
            shed: std::array::from_fn(|tier| rate(old.shed_by_tier[tier], new.shed_by_tier[tier])),
            conflated: rate(old.conflated, new.conflated),
            spilled: rate(old.spilled, new.spilled),
            replayed: rate(old.replayed, new.replayed),
            refused: rate(old.refused, new.refused),
        }
    }
}

/// What the screen shows.
struct Screen {
    name: String,
    interval: Duration,
    status: Option<Status>,
    rates: Rates,
    /// Of each worker.
    worker_rates: Vec<f64>,
    /// Offered and processed a second, and the lag; the newest last.
    history: VecDeque<[f64; 3]>,
    /// Why there is nothing new.
    trouble: Option<String>,
}

impl Screen {
    fn new(name: String, interval: Duration) -> Self {
        let (rates, worker_rates, history) = (Rates::default(), Vec::new(), VecDeque::new());
        Self { name, interval, status: None, rates, worker_rates, history, trouble: None }
    }

    fn take(&mut self, answer: Result<Status, CliError>) {
        let now = match answer {
            Ok(now) => now,
            Err(error) => return self.trouble = Some(error.to_string()),
        };
        self.trouble = None;
        if let Some(before) = self.status.as_ref().filter(|before| before.pid == now.pid) {
            self.rates = Rates::between(before, &now);
            let seconds = (now.uptime_seconds - before.uptime_seconds).max(f64::MIN_POSITIVE);
            let pairs = before.workers.iter().zip(&now.workers);
            self.worker_rates =
                pairs.map(|(old, new)| new.processed.saturating_sub(old.processed) as f64 / seconds).collect();
            if self.history.len() == KEPT {
                self.history.pop_front();
            }
            self.history.push_back([self.rates.offered, self.rates.processed, now.lag.messages as f64]);
        } else {
            (self.rates, self.worker_rates) = (Rates::default(), vec![0.0; now.workers.len()]);
            self.history.clear();
        }
        self.status = Some(now);
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let (place, interval) = (Place::of(arguments), Duration::from_nanos(arguments.interval.get()));
    let mut screen = Screen::new(place.name(), interval);
    // So that what cannot work is told in plain words, not on a screen that goes away.
    screen.take(Ok(place.status()?));
    if arguments.once || !io::stdout().is_terminal() {
        std::thread::sleep(interval);
        screen.take(Ok(place.status()?));
        return once(&screen, arguments.json);
    }
    let mut terminal = ratatui::try_init().map_err(CliError::stdout)?;
    let ended = watch(&mut terminal, &mut screen, &place);
    ratatui::restore();
    ended
}

/// Draws, looks again, and minds the keys.
fn watch(terminal: &mut ratatui::DefaultTerminal, screen: &mut Screen, place: &Place) -> Result<(), CliError> {
    let mut next = Instant::now();
    loop {
        let now = Instant::now();
        if now >= next {
            screen.take(place.status());
            next = now + screen.interval;
        }
        terminal.draw(|frame| draw::draw(frame, screen)).map_err(CliError::stdout)?;
        let is_event = event::poll(next.saturating_duration_since(Instant::now())).map_err(CliError::stdout)?;
        if is_event
            && let Event::Key(key) = event::read().map_err(CliError::stdout)?
            && key.kind == KeyEventKind::Press
        {
            let is_interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
            if is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                return Ok(());
            }
        }
    }
}

/// Prints what there is to see.
fn once(screen: &Screen, as_json: bool) -> Result<(), CliError> {
    #[derive(Serialize)]
    struct Once<'a> {
        status: &'a Status,
        /// A second.
        rates: Rates,
    }
    let Some(status) = &screen.status else { return Ok(()) };
    let text = if as_json {
        let once = Once { status, rates: screen.rates };
        serde_json::to_string_pretty(&once).map_err(|error| CliError::Runtime(error.to_string()))?
    } else {
        draw::as_text(screen, 100, draw::height_of(screen))
    };
    writeln!(io::stdout(), "{text}").map_err(CliError::stdout)
}
