//! Reads that wait, through a pipe or a terminal, and can be made to end.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How often one who waits looks whether to go on.
const LOOK_MS: u16 = 50;

static END: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Reads of standard input, and of other pipes, fail within a moment once this flag is up: [`pump`](super::pump()) then ends, if its
/// `observe` says so, too. For the process, once; a program that ends in good order by a signal wants it, since a read would be waited for
/// otherwise.
pub fn end_waiting_reads_by(flag: Arc<AtomicBool>) {
    let _ = END.set(flag);
}

/// A pipe, a terminal, or whatever else may keep one waiting.
pub(super) struct Waiting<R>(pub(super) R);

impl<R: Read + AsFd> Read for Waiting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(end) = END.get() {
            loop {
                if end.load(Ordering::Relaxed) {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the run was told to end"));
                }
                let mut it = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
                match poll(&mut it, PollTimeout::from(LOOK_MS)) {
                    // Timed out, or a signal came.
                    Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                    _ => break,
                }
            }
        }
        self.0.read(buf)
    }
}
