//! `plimsoll completions` and `plimsoll man`: what a package installs beside the program.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap_complete::Shell;

use super::CliError;

/// Print completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll completions bash > /usr/share/bash-completion/completions/plimsoll
  plimsoll completions zsh > ~/.zfunc/_plimsoll
  plimsoll completions fish > ~/.config/fish/completions/plimsoll.fish")]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::definition(), "plimsoll", &mut text);
    io::stdout().write_all(&text).map_err(CliError::stdout)
}

/// Print the manual page, or write those of all commands.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  plimsoll man | man -l -
  plimsoll man --dir /usr/share/man/man1")]
pub(crate) struct ManArguments {
    /// Where to write a page for each command; one that is there is written over
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn man(arguments: &ManArguments) -> Result<(), CliError> {
    let Some(dir) = &arguments.dir else {
        let mut text = Vec::new();
        let page = clap_mangen::Man::new(super::definition());
        page.render(&mut text).map_err(|error| CliError::io(&"the manual", &error))?;
        return io::stdout().write_all(&text).map_err(CliError::stdout);
    };
    fs::create_dir_all(dir).map_err(|error| CliError::io(&dir.display(), &error))?;
    clap_mangen::generate_to(super::definition(), dir).map_err(|error| CliError::io(&dir.display(), &error))
}
