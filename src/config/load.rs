//! Puts the file and the environment together, and says where what is wrong stands.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde::Deserialize as _;
use toml::de::DeTable;
use toml::{Spanned, Table, Value};

use super::Config;
use super::keys::{self, KeyInfo};
use crate::cli::CliError;

/// Where the configuration comes from: read again for a reload.
#[derive(Clone, Debug)]
pub(crate) struct Loader {
    path: Option<PathBuf>,
    environment: BTreeMap<String, String>,
}

/// A configuration, and where it came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// What is set, file and environment together.
    pub(crate) table: Table,
    /// By path: what is set, and by what.
    pub(crate) origins: BTreeMap<String, Origin>,
    /// What is no error, but hardly meant.
    pub(crate) warnings: Vec<String>,
}

/// What has set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    File { path: PathBuf, line: usize },
    Environment { variable: String },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment, {variable}"),
        }
    }
}

impl Loader {
    /// Of a file, or without one, and the process's environment.
    pub(crate) fn new(path: Option<&Path>) -> Self {
        let of_ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
                .filter(|(name, _)| name.starts_with("PLIMSOLL_"))
        };
        Self { path: path.map(Path::to_path_buf), environment: std::env::vars_os().filter_map(of_ours).collect() }
    }

    /// Reads and checks all of it.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub(crate) fn load(&self) -> Result<Loaded, CliError> {
        let file = self.path.as_deref().map(ConfigFile::read).transpose()?;
        let mut table = file.as_ref().map(|file| file.table.clone()).unwrap_or_default();
        let mut origins = file.as_ref().map(ConfigFile::origins).unwrap_or_default();
        let mut warnings = Vec::new();
        for (variable, text) in &self.environment {
            match set_from(variable, text, &mut table)? {
                Some(path) => {
                    origins.retain(|known, _| !known.starts_with(&format!("{path}.")));
                    origins.insert(path, Origin::Environment { variable: variable.clone() });
                }
                None if is_known(variable) => {}
                None => warnings.push(format!("{variable} is set, and no key of the configuration is called so")),
            }
        }
        let config = Config::deserialize(table.clone()).map_err(|error| {
            let set = origins.values().filter_map(|origin| match origin {
                Origin::Environment { variable } => Some(variable.as_str()),
                Origin::File { .. } => None,
            });
            let set: Vec<_> = set.collect();
            CliError::Config(format!("{}, as set by the environment ({})", error.message(), set.join(", ")))
        })?;
        if let Err((key, message)) = config.check() {
            return Err(wrong_at(file.as_ref(), key, &message, &origins));
        }
        let (one, two) = (config.symbol_tiers().tier_1(), config.symbol_tiers().tier_2());
        let both: Vec<_> = one.into_iter().filter(|name| two.contains(name)).collect();
        if !both.is_empty() {
            warnings.push(format!("{} are in tier_1 and in tier_2: they count as tier 1", both.join(", ")));
        }
        Ok(Loaded { config, table, origins, warnings })
    }
}

/// A file that was read, and is a configuration by itself.
struct ConfigFile {
    path: PathBuf,
    text: String,
    table: Table,
    spans: BTreeMap<String, Range<usize>>,
}

impl ConfigFile {
    fn read(path: &Path) -> Result<Self, CliError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            CliError::Config(format!("the configuration {} cannot be read: {error}", path.display()))
        })?;
        let wrong = |error: &toml::de::Error| report(path, &text, error.message(), error.span(), "here");
        let tree = DeTable::parse(&text).map_err(|error| wrong(&error))?;
        let mut spans = BTreeMap::new();
        note_spans(tree.get_ref(), "", &mut spans);
        // By itself, so that what is wrong with it is told with its place.
        toml::from_str::<Config>(&text).map_err(|error| wrong(&error))?;
        let table = toml::from_str(&text).map_err(|error| wrong(&error))?;
        Ok(Self { path: path.to_path_buf(), text, table, spans })
    }

    fn line_of(&self, span: &Range<usize>) -> usize {
        self.text[..span.start.min(self.text.len())].matches('\n').count() + 1
    }

    fn origins(&self) -> BTreeMap<String, Origin> {
        let mut origins = BTreeMap::new();
        keys::set_values(&self.table, &mut |path, _| {
            if let Some(span) = self.spans.get(path) {
                let origin = Origin::File { path: self.path.clone(), line: self.line_of(span) };
                origins.insert(path.to_owned(), origin);
            }
        });
        origins
    }
}

/// Where each key stands; those of feeds with their number.
fn note_spans(table: &DeTable<'_>, prefix: &str, spans: &mut BTreeMap<String, Range<usize>>) {
    use toml::de::DeValue;
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        spans.insert(path.clone(), key.span().start..value.span().end.max(key.span().end));
        match Spanned::get_ref(value) {
            DeValue::Table(inner) => note_spans(inner, &path, spans),
            DeValue::Array(elements) if path == "feed" => {
                for (i, element) in elements.iter().enumerate() {
                    if let DeValue::Table(inner) = element.get_ref() {
                        note_spans(inner, &format!("feed.{}", i + 1), spans);
                    }
                }
            }
            _ => {}
        }
    }
}

/// What is wrong with a section or a key, with the place of the first key that the message names, if it stands in the file.
fn wrong_at(file: Option<&ConfigFile>, section: &str, message: &str, origins: &BTreeMap<String, Origin>) -> CliError {
    let words = || message.split(|c: char| !c.is_alphanumeric() && c != '_');
    let path = words().map(|word| format!("{section}.{word}")).find(|path| origins.contains_key(path));
    let path = path.unwrap_or_else(|| section.to_owned());
    let message = format!("[{section}] {message}");
    match (origins.get(&path), file.and_then(|file| Some((file, file.spans.get(&path)?)))) {
        (Some(Origin::Environment { variable }), _) => {
            CliError::Config(format!("{message} (set by the environment, {variable})"))
        }
        (_, Some((file, span))) => report(&file.path, &file.text, &message, Some(span.clone()), "this"),
        (_, None) => CliError::Config(message),
    }
}

/// Sets what a variable is for; returns the key's path, or `None`, if it is for no key.
fn set_from(variable: &str, text: &str, table: &mut Table) -> Result<Option<String>, CliError> {
    let (name, feed) = match variable.strip_prefix("PLIMSOLL_FEED_").and_then(|rest| rest.split_once('_')) {
        Some((number, key)) if number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty() => {
            (format!("PLIMSOLL_FEED_{key}"), number.parse().ok())
        }
        _ => (variable.to_owned(), None),
    };
    let Some(key) = keys::all().iter().find(|key| key.variable() == name) else {
        return match section_of(variable) {
            None => Ok(None),
            Some(section) => Err(CliError::Config(format!(
                "{variable} is set, and [{section}] has no such key; `plimsoll init --print` lists all keys"
            ))),
        };
    };
    let value = value_of(key, text).map_err(|why| CliError::Config(format!("{variable} = {text:?}: {why}")))?;
    let mut place = table;
    let mut parts: Vec<&str> = key.path.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut path = key.path.clone();
    if parts.first() == Some(&"feed") {
        let feeds = place.entry("feed").or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(feeds) = feeds else { return Ok(None) };
        let number: usize = match feed {
            Some(number) => number,
            None if feeds.len() > 1 => {
                return Err(CliError::Config(format!(
                    "{variable} is for the only feed, and there are {}: give PLIMSOLL_FEED_1_{} or another number",
                    feeds.len(),
                    last.to_uppercase()
                )));
            }
            None => 1,
        };
        if number == 0 || number > feeds.len() + 1 {
            let (next, there) = (feeds.len() + 1, feeds.len());
            return Err(CliError::Config(format!(
                "{variable}: there are {there} feeds, so give a number from 1 to {next}"
            )));
        }
        if number > feeds.len() {
            feeds.push(Value::Table(Table::new()));
        }
        path = format!("feed.{number}.{last}");
        let Value::Table(feed) = &mut feeds[number - 1] else { return Ok(None) };
        feed.insert(last.to_owned(), value);
        return Ok(Some(path));
    }
    for part in parts {
        let inner = place.entry(part).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = inner else { return Ok(None) };
        place = inner;
    }
    place.insert(last.to_owned(), value);
    Ok(Some(path))
}

/// Variables that are for something else than a key.
fn is_known(variable: &str) -> bool {
    let others = ["PLIMSOLL_CONFIG", "PLIMSOLL_COMMIT", "PLIMSOLL_ASX_WEEK"];
    others.contains(&variable) || variable.starts_with("PLIMSOLL_TEST_") || variable.starts_with("PLIMSOLL_REQUIRE_")
}

/// The section that a variable seems to be for.
fn section_of(variable: &str) -> Option<String> {
    let sections = keys::all().iter().filter_map(|key| Some(key.path.rsplit_once('.')?.0.to_owned()));
    let is_for = |section: &String| variable.starts_with(&format!("{}_", keys::variable(section)));
    sections.filter(is_for).max_by_key(String::len)
}

/// A variable's value, of the kind that the key wants.
fn value_of(key: &KeyInfo, text: &str) -> Result<Value, String> {
    let parsed = |text: &str| toml::from_str::<Table>(&format!("v = {text}")).ok()?.remove("v");
    let wanted = |what: &str| format!("give {what}, as in {}", key.example);
    match &key.example {
        Value::String(_) => Ok(Value::String(text.to_owned())),
        Value::Array(_) => match parsed(text) {
            Some(Value::Array(list)) => Ok(Value::Array(list)),
            _ => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Ok(Value::Array(
                    items.map(|item| parsed(item).unwrap_or_else(|| Value::String(item.to_owned()))).collect(),
                ))
            }
        },
        Value::Float(_) => match parsed(text) {
            Some(Value::Integer(n)) => Ok(Value::Float(n as f64)),
            Some(value @ Value::Float(_)) => Ok(value),
            _ => Err(wanted("a number")),
        },
        example => {
            let what = match example {
                Value::Integer(_) => "a whole number",
                Value::Boolean(_) => "true or false",
                _ => "a table",
            };
            parsed(text).filter(|value| value.same_type(example)).ok_or_else(|| wanted(what))
        }
    }
}

/// A message with its place in a file.
fn report(path: &Path, text: &str, message: &str, span: Option<Range<usize>>, label: &str) -> CliError {
    let file = NamedSource::new(path.display().to_string(), text.to_owned()).with_language("toml");
    // What is said of a span at the very end has to be within the text.
    let span = span.map(|span| span.start.min(text.len())..span.end.min(text.len()));
    let labels = span.map(|span| LabeledSpan::new_primary_with_span(Some(label.to_owned()), span));
    let error = InFile { message: message.trim_end().to_owned(), file, label: labels };
    CliError::Report(Box::new(miette::Report::new(error)))
}

/// What is wrong in a file.
#[derive(Debug)]
struct InFile {
    message: String,
    file: NamedSource<String>,
    label: Option<LabeledSpan>,
}

impl fmt::Display for InFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InFile {}

impl Diagnostic for InFile {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.file)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.label.iter().cloned()))
    }
}
