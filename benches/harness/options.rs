//! The command line of a bench: `cargo bench --bench NAME -- [PART…] [--rounds N] [--quick] [--json FILE] [--svg FILE]`.

use std::path::PathBuf;

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    parts: Vec<String>,
    /// Turns of each contender.
    pub(crate) rounds: usize,
    /// A short form, to see that everything runs; its figures mean nothing.
    pub(crate) quick: bool,
    /// Where all rounds go.
    pub(crate) json: Option<PathBuf>,
    /// Where the picture goes, for a bench that draws one.
    pub(crate) svg: Option<PathBuf>,
}

impl Options {
    /// Reads the command line; ends the process with a word on usage where that makes no sense.
    pub(crate) fn parse(parts: &[&str], rounds: usize) -> Self {
        Self::read(std::env::args().skip(1), parts, rounds).unwrap_or_else(|error| {
            eprintln!("{error}\nusage: [{}]… [--rounds N] [--quick] [--json FILE] [--svg FILE]", parts.join("|"));
            std::process::exit(2);
        })
    }

    fn read(mut arguments: impl Iterator<Item = String>, known: &[&str], rounds: usize) -> Result<Self, String> {
        let mut options = Self { parts: Vec::new(), rounds, quick: false, json: None, svg: None };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
            match argument.as_str() {
                "--bench" => {} // from cargo
                "--quick" => (options.quick, options.rounds) = (true, 1),
                "--json" => options.json = Some(value()?.into()),
                "--svg" => options.svg = Some(value()?.into()),
                "--rounds" => {
                    let text = value()?;
                    let rounds = text.parse().ok().filter(|rounds| *rounds > 0);
                    options.rounds = rounds.ok_or(format!("--rounds {text}: not a number above 0"))?;
                }
                part if known.contains(&part) => options.parts.push(argument),
                other => return Err(format!("{other}: no such part or option")),
            }
        }
        Ok(options)
    }

    /// Whether a part is to run: all are, where none was named.
    pub(crate) fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.asked_for(part)
    }

    /// Whether a part was named: for those that do not run unless asked for.
    pub(crate) fn asked_for(&self, part: &str) -> bool {
        self.parts.iter().any(|wanted| wanted == part)
    }

    /// Writes a report, if that was asked for.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub(crate) fn write_json(&self, report: &serde_json::Value) {
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(report).expect("values are plain");
            std::fs::write(path, text + "\n").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            println!("all rounds in {}", path.display());
        }
    }
}
