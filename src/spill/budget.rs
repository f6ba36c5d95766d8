//! How much disk the log may take.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// The disk budget that all logs of a store share.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    floor: u64,
    dir: PathBuf,
    used: AtomicU64,
}

/// Why a segment cannot be made.
#[derive(Debug)]
pub(crate) enum Shortage {
    Budget {
        limit: u64,
        used: u64,
    },
    Floor {
        floor: u64,
        free: u64,
    },
    /// The disk is full, or the file system denies it.
    Io(io::Error),
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget { limit, used } => {
                write!(f, "the budget is used up: {used} of budget_bytes = {limit}")
            }
            Self::Floor { floor, free } => {
                write!(f, "{free} bytes are free on the disk, and free_space_floor_bytes = {floor} must stay so")
            }
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl Budget {
    pub(crate) fn new(limit: u64, floor: u64, dir: PathBuf, used: u64) -> Self {
        Self { limit, floor, dir, used: AtomicU64::new(used) }
    }

    /// Takes so many bytes out of the budget.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), Shortage> {
        let free = self.free().map_err(Shortage::Io)?;
        if free < self.floor.saturating_add(bytes) {
            return Err(Shortage::Floor { floor: self.floor, free });
        }
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(drop).map_err(|used| Shortage::Budget { limit: self.limit, used })
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that an unprivileged process may still write to the disk.
    fn free(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.dir)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}
