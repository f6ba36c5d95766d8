//! `plimsoll init`, `validate` and `config show`: the configuration, without a run.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use plimsoll::{Pinning, PipelineBuilder, Tick};
use toml::Value;

use super::CliError;
use super::output::write_new;
#[cfg(feature = "kafka")]
use crate::config::kafka;
use crate::config::{Config, Loaded, Loader, Origin, SpillFlags, keys, spill_settings};

/// Write a configuration that lists every key with its default.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll init                       # writes plimsoll.toml
  plimsoll init /etc/plimsoll.toml
  plimsoll init --print | less")]
pub(crate) struct InitArguments {
    /// Where to write it; a file that is there is left alone
    #[arg(default_value = "plimsoll.toml", value_name = "FILE")]
    file: PathBuf,
    /// Print it instead
    #[arg(long, conflicts_with = "file")]
    print: bool,
}

pub(crate) fn init(arguments: &InitArguments) -> Result<(), CliError> {
    if arguments.print {
        return io::stdout().write_all(keys::TEMPLATE.as_bytes()).map_err(CliError::stdout);
    }
    let path = &arguments.file;
    write_new(path, keys::TEMPLATE)?;
    writeln!(io::stdout(), "wrote {}: `plimsoll validate {0}` checks it", path.display()).map_err(CliError::stdout)
}

/// Check a configuration.
///
/// Keys, values, units, and whether they fit each other; then whether this machine has what they name: directories, files, ports, cores.
/// Exit code 78 if something is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll validate plimsoll.toml
  plimsoll validate --no-environment --deny-warnings plimsoll.toml     # in a pipeline, on another machine")]
pub(crate) struct ValidateArguments {
    /// The configuration
    #[arg(value_name = "FILE", env = "PLIMSOLL_CONFIG")]
    file: PathBuf,
    /// Do not look at disks, files, ports and cores
    #[arg(long)]
    no_environment: bool,
    /// Count a warning as an error
    #[arg(long)]
    deny_warnings: bool,
}

pub(crate) fn validate(arguments: &ValidateArguments) -> Result<(), CliError> {
    let Loaded { config, mut warnings, .. } = Loader::new(Some(&arguments.file)).load()?;
    let mut errors = Vec::new();
    check_static(&config, &mut errors, &mut warnings);
    #[cfg(feature = "kafka")]
    if let Err(error) =
        kafka::check(config.source.kafka.as_ref(), config.sink.kafka.as_ref(), !arguments.no_environment)
    {
        errors.push(error.to_string());
    }
    if !arguments.no_environment {
        check_environment(&config, &mut errors, &mut warnings);
    }
    let mut err = io::stderr();
    for warning in &warnings {
        let _ = writeln!(err, "warning: {warning}");
    }
    for error in &errors {
        let _ = writeln!(err, "error: {error}");
    }
    let path = arguments.file.display();
    let what = |errors: usize| CliError::Config(format!("{path}: {} wrong", super::summary::counted(errors, "thing")));
    match (errors.len(), arguments.deny_warnings) {
        (0, true) if !warnings.is_empty() => Err(CliError::Config(format!("{path}: there are warnings"))),
        (0, _) => writeln!(io::stdout(), "{path} is valid").map_err(CliError::stdout),
        (count, _) => Err(what(count)),
    }
}

/// What can be said without a look at the machine.
fn check_static(config: &Config, errors: &mut Vec<String>, warnings: &mut Vec<String>) {
    let spill = spill_settings(config.spill.as_ref(), &SpillFlags::default());
    let spill = spill.map_err(|error| errors.push(error.to_string())).ok().flatten();
    let settings = &config.pipeline;
    let mut builder = PipelineBuilder::new().thresholds(config.thresholds).workers(settings.workers.unwrap_or(1));
    if let Some(capacity) = settings.lane_capacity {
        builder = builder.lane_capacity(capacity);
    }
    if let Some(spill) = spill {
        builder = builder.spill(spill);
    }
    if !config.has_kafka()
        && let Err(error) = builder.footprint::<Tick>()
    {
        errors.push(format!("[pipeline] {error}"));
    }
    for (i, feed) in config.feed.iter().enumerate() {
        errors.extend(feed.check(i + 1).err().map(|error| error.to_string()));
    }
    if config.feed.is_empty() && !config.has_kafka() {
        warnings.push("there is no [[feed]]: flags have to tell of one".to_owned());
    }
    if config.spill.is_none() {
        warnings.push("there is no [spill] dir: what would be spilled is shed".to_owned());
    }
    if let Some(filter) = &config.log.filter
        && let Err(error) = tracing_subscriber::EnvFilter::builder().parse(filter)
    {
        errors.push(format!("[log] filter = {filter:?}: {error}"));
    }
}

/// What this machine has to say.
fn check_environment(config: &Config, errors: &mut Vec<String>, warnings: &mut Vec<String>) {
    if let Some(spill) = &config.spill
        && let Some(dir) = &spill.dir
        && let Err(why) = check_writable(dir)
    {
        errors.push(format!("[spill] dir = {dir:?}: {why}"));
    }
    for (i, feed) in config.feed.iter().enumerate() {
        if let Some(input) = &feed.input
            && input != Path::new("-")
            && let Err(error) = fs::metadata(input)
        {
            errors.push(format!("[[feed]] {}: input = {input:?}: {error}", i + 1));
        }
    }
    if let Some(address) = config.http.listen
        && let Err(error) = TcpListener::bind(address)
    {
        errors.push(format!("[http] listen = \"{address}\": {error}"));
    }
    if let Some(socket) = &config.control.socket {
        let dir = socket.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Err(error) = fs::metadata(dir) {
            errors.push(format!("[control] socket = {socket:?}: its directory: {error}"));
        }
    }
    let cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if let Some(Pinning::Cores(wanted)) = config.pipeline.pin.as_ref().map(|pin| &pin.0) {
        for core in wanted.iter().filter(|core| !cores.contains(core)) {
            errors.push(format!("[pipeline] pin: this process may not run on core {core}; it may on {cores:?}"));
        }
    }
    let workers = config.pipeline.workers.unwrap_or(1);
    if workers > cores.len() && !cores.is_empty() {
        warnings.push(format!("[pipeline] workers = {workers}: there are {} cores for them", cores.len()));
    }
}

/// Whether files can be made in a directory, or it can be made itself.
fn check_writable(dir: &Path) -> Result<(), String> {
    let there = dir.ancestors().find(|ancestor| ancestor.as_os_str().is_empty() || ancestor.exists());
    let there = there.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        return Err(format!("{} is no directory", there.display()));
    }
    // By doing it: rights are not all that may stand in the way.
    let probe = there.join(format!(".plimsoll-validate-{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).open(&probe);
    made.map_err(|error| format!("no file can be made in {}: {error}", there.display()))?;
    fs::remove_file(&probe).map_err(|error| format!("{}: {error}", probe.display()))
}

/// Show the configuration in force.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArguments {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    Show(ShowArguments),
}

/// Print every value that is in force, as TOML.
///
/// Flags of `run` are not known here; they would count more.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll config show --origin --config plimsoll.toml
  PLIMSOLL_THRESHOLDS_LAG_SOFT=5000 plimsoll config show --origin")]
struct ShowArguments {
    /// The configuration file
    #[arg(long, value_name = "FILE.toml", env = "PLIMSOLL_CONFIG")]
    config: Option<PathBuf>,
    /// Say where each value came from
    #[arg(long)]
    origin: bool,
}

pub(crate) fn config(arguments: &ConfigArguments) -> Result<(), CliError> {
    let ConfigCommand::Show(arguments) = &arguments.command;
    let loaded = Loader::new(arguments.config.as_deref()).load()?;
    let text = show(&loaded, arguments.origin);
    io::stdout().write_all(text.as_bytes()).map_err(CliError::stdout)?;
    for warning in &loaded.warnings {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    Ok(())
}

/// Sections that have defaults, whether they are given or not.
const ALWAYS: [&str; 8] = ["thresholds", "tiers", "verdicts", "pipeline", "supervision", "http", "log", "labels"];
/// One that has defaults when it is given.
const SPILL: &str = "spill";

/// All that is set, and the defaults of the rest; what may be a secret is hidden.
pub(super) fn show(loaded: &Loaded, with_origin: bool) -> String {
    let mut set = Vec::new();
    keys::set_values(&loaded.table, &mut |path, value| set.push((path.to_owned(), value.clone())));
    // Defaults, where they are not set.
    let has_defaults =
        |section: &str| ALWAYS.contains(&section) || (section == SPILL && loaded.table.contains_key(SPILL));
    let mut values: Vec<(String, Value, Option<&Origin>)> = Vec::new();
    for key in keys::all() {
        let Some((section, _)) = key.path.rsplit_once('.') else { continue };
        let is_set = set.iter().any(|(path, _)| *path == key.path);
        if !is_set && has_defaults(section) && !EXAMPLES.contains(&key.path.as_str()) {
            values.push((key.path.clone(), default_of(&loaded.config, key), None));
        }
    }
    values.extend(set.into_iter().map(|(path, value)| {
        let origin = loaded.origins.get(&path);
        (path, value, origin)
    }));
    let place = |path: &str| {
        let generic: String =
            path.split('.').filter(|part| part.parse::<usize>().is_err()).collect::<Vec<_>>().join(".");
        let feed = path.strip_prefix("feed.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        (feed, keys::all().iter().position(|known| known.path == generic))
    };
    values.sort_by_key(|(path, ..)| place(path));
    let mut text = String::new();
    let mut last = String::new();
    for (path, value, origin) in values {
        let (section, key) = path.rsplit_once('.').unwrap_or(("", &path));
        if section != last {
            let header = if section.starts_with("feed.") { "[[feed]]".to_owned() } else { format!("[{section}]") };
            let _ = writeln!(text, "{}{header}", if text.is_empty() { "" } else { "\n" });
            section.clone_into(&mut last);
        }
        let line = format!("{} = {}", quoted(key), hidden(&path, value));
        let _ = match (with_origin, origin) {
            (false, _) => writeln!(text, "{line}"),
            (true, Some(origin)) => writeln!(text, "{line:<44} # {origin}"),
            (true, None) => writeln!(text, "{line:<44} # default"),
        };
    }
    text
}

/// Keys that are shown in the template with an example, and have no default.
const EXAMPLES: [&str; 5] = ["tiers.tier_1", "tiers.tier_2", "http.listen", "pipeline.lane_capacity", "spill.dir"];

/// The template's, which are the defaults; but for verdicts, where another preset makes others.
fn default_of(config: &Config, key: &keys::KeyInfo) -> Value {
    config.verdicts.row(&key.path).unwrap_or_else(|| key.example.clone())
}

fn quoted(key: &str) -> String {
    let is_bare = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { key.to_owned() } else { format!("{key:?}") }
}

/// What may be a secret is not shown.
fn hidden(path: &str, value: Value) -> Value {
    let is_secret = |name: &str| ["password", "secret", "token", "key.pem"].iter().any(|word| name.contains(word));
    match value {
        Value::Table(table) if path.ends_with("properties") => {
            let hide = |(name, value): (String, Value)| {
                let value = if is_secret(&name) { Value::String("(hidden)".to_owned()) } else { value };
                (name, value)
            };
            Value::Table(table.into_iter().map(hide).collect())
        }
        value => value,
    }
}
