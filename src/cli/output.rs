//! Files that a command writes: complete, or not there at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::CliError;

/// A file under construction. It is made beside its final place when the command starts, so that a path that cannot be
/// written is found before the work is done, and moved there by [`finish`](Self::finish).
pub(crate) struct OutputFile {
    path: PathBuf,
    /// Where it is written; `None` where the path is a device, a pipe or a link, which is written directly.
    temporary: Option<PathBuf>,
    out: BufWriter<File>,
}

impl OutputFile {
    /// Begins a file; `-` is standard output.
    pub(crate) fn create(path: &Path) -> Result<Self, CliError> {
        if path == Path::new("-") {
            let file = std::io::stdout().as_fd().try_clone_to_owned().map_err(CliError::stdout)?;
            return Ok(Self { path: path.to_owned(), temporary: None, out: BufWriter::new(file.into()) });
        }
        // A device, a pipe or a link stays what it is.
        let is_special = path.symlink_metadata().is_ok_and(|meta| !meta.is_file() && !meta.is_dir());
        let temporary = (!is_special).then(|| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{}.tmp", std::process::id()));
            PathBuf::from(name)
        });
        if path.is_dir() {
            return Err(CliError::Runtime(format!("{}: is a directory, not a file to write", path.display())));
        }
        let file = File::create(temporary.as_deref().unwrap_or(path));
        let file = file.map_err(|error| CliError::io(&path.display(), &error))?;
        Ok(Self { path: path.to_owned(), temporary, out: BufWriter::new(file) })
    }

    /// Writes the whole content and puts the file in its place.
    pub(crate) fn finish<T>(mut self, write: impl FnOnce(&mut dyn Write) -> std::io::Result<T>) -> Result<T, CliError> {
        let written = write(&mut self.out).and_then(|value| self.out.flush().map(|()| value));
        let placed = written.and_then(|value| {
            if let Some(temporary) = self.temporary.take() {
                std::fs::rename(&temporary, &self.path).inspect_err(|_| self.temporary = Some(temporary))?;
            }
            Ok(value)
        });
        placed.map_err(|error| CliError::io(&self.path.display(), &error))
    }
}

/// Removes what was not finished.
impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// Writes a file that must not be there.
pub(crate) fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                CliError::Runtime(format!("{} is there already, and stays as it is: give another name", path.display()))
            }
            _ => CliError::io(&path.display(), &error),
        })?;
    file.write_all(text.as_bytes()).map_err(|error| CliError::io(&path.display(), &error))
}
