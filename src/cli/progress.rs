//! The progress bar: on a terminal, none elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use plimsoll::source::Source;

/// How often the bar is drawn at most.
const INTERVAL: Duration = Duration::from_millis(100);

/// A bar of the bytes read.
pub(crate) struct Progress {
    bar: ProgressBar,
    next: Instant,
}

impl Progress {
    /// A bar on standard error; it draws nothing where that is no terminal.
    pub(crate) fn new() -> Self {
        let style = ProgressStyle::with_template(
            "{bar:40} {percent:>3} %  {bytes}/{total_bytes}  {elapsed}, {eta} left  {msg}",
        );
        let bar = ProgressBar::new(0);
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self { bar, next: Instant::now() }
    }

    pub(crate) fn show(&mut self, source: &dyn Source, message: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.bar.is_hidden() || now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        let (read, total) = source.position();
        self.bar.set_length(total);
        self.bar.set_position(read);
        self.bar.set_message(message());
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
