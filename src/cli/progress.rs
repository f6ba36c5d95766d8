//! The progress bar: on a terminal, none elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use plimsoll::source::FeedCount;

use super::feeds::Counts;

/// How often the bar is drawn at most.
const INTERVAL: Duration = Duration::from_millis(100);

/// A bar of the bytes read. It is gone when this is dropped.
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

    pub(crate) fn show(&mut self, feeds: &Counts, message: impl FnOnce() -> String) {
        if self.is_due() {
            let sum = |count| feeds.iter().map(|(_, counters)| counters.get(count)).sum();
            self.draw(sum(FeedCount::Bytes), sum(FeedCount::BytesTotal), message());
        }
    }

    /// Shows how much of something that is no source was read.
    pub(crate) fn show_bytes(&mut self, read: u64, total: u64, message: &str) {
        if self.is_due() {
            self.draw(read, total, message.to_owned());
        }
    }

    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = !self.bar.is_hidden() && now >= self.next;
        if is_due {
            self.next = now + INTERVAL;
        }
        is_due
    }

    fn draw(&self, read: u64, total: u64, message: String) {
        self.bar.set_length(total);
        self.bar.set_position(read);
        self.bar.set_message(message);
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
