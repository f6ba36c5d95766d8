//! What this program is: its version, and the commit that it was built from.

/// As in `0.1.0 (1a2b3c4d5e6f)`; the commit is left out where it was not known.
pub(crate) const VERSION: &str = env!("VERSION_WITH_COMMIT");
