//! Proves that a directory belongs to one process at a time, that its files are nobody else's, and that what cannot be used is named.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use plimsoll::spill::{FaultKind, SpillError};
use support::spill::*;

fn locked_by(error: SpillError, dir: &Path) -> String {
    let SpillError::Locked { dir: locked, pid } = &error else { panic!("{error}") };
    assert_eq!(locked, dir);
    assert!(error.to_string().contains(&format!("in use by process {pid}")), "{error}");
    pid.clone()
}

/// What the child process runs; in any other it does nothing.
#[test]
fn child_finds_it_locked() {
    let Some((dir, parent)) = child_plan() else { return };
    assert_eq!(locked_by(open_one(&config(&dir, 8), &symbols(0)).err().unwrap(), &dir), parent);
}

#[test]
fn a_directory_in_use_is_refused_and_the_process_that_uses_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (config, symbols) = (config(dir.path(), 8), symbols(0));
    let (mut log, _) = open_one(&config, &symbols).unwrap();
    append(&mut log, &symbols, 0..100);
    let this = std::process::id().to_string();
    for _ in 0..2 {
        assert_eq!(locked_by(open_one(&config, &symbols).err().unwrap(), dir.path()), this);
        run_child(child("child_finds_it_locked", dir.path(), &this));
    }
    // That did it no harm, and when it is closed the next one has it.
    append(&mut log, &symbols, 100..1000);
    drop(log);
    let (mut log, report) = open_one(&config, &symbols).unwrap();
    assert_eq!(report.faults().count(), 0, "{report:?}");
    assert!(replay(&mut log, &symbols, u64::MAX).into_iter().eq(0..1000));
}

#[test]
fn a_store_stays_locked_until_the_last_of_its_logs_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (config, symbols) = (config(dir.path(), 8), symbols(0));
    let (mut logs, _) = plimsoll::spill::open::<plimsoll::Tick>(&config, &symbols, 2).unwrap();
    drop(logs.pop());
    locked_by(open_one(&config, &symbols).err().unwrap(), dir.path());
    drop(logs);
    open_one(&config, &symbols).unwrap();
}

#[test]
fn nobody_else_may_look_into_it() {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("a/log");
    let symbols = symbols(0);
    let (mut log, _) = open_one(&config(&dir, 8), &symbols).unwrap();
    append(&mut log, &symbols, 0..100);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for dir in [&dir, &dir.join("worker-0")] {
        assert_eq!(mode(dir), 0o700, "{}", dir.display());
    }
    let files = read_files(&dir);
    // Lock, cursor, names, segments.
    assert!(files.len() >= 4, "{:?}", files.keys());
    for path in files.into_keys().map(|path| dir.join(path)).filter(|path| path.exists()) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_segment_that_is_a_symbolic_link_is_not_followed() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (config, symbols) = (config(dir.path(), 4), symbols(0));
    let (mut log, _) = open_one(&config, &symbols).unwrap();
    append(&mut log, &symbols, 0..300);
    drop(log);
    let segment = |number: u32| dir.path().join(format!("worker-0/{number:010}.spill"));
    // One that is read, and those that would be made next.
    let (whole, victim) = (outside.path().join("whole"), outside.path().join("victim"));
    fs::rename(segment(2), &whole).unwrap();
    symlink(&whole, segment(2)).unwrap();
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, segment(4)).unwrap();
    symlink(outside.path().join("nothing"), segment(5)).unwrap();
    let before = read_files(outside.path());

    let (mut log, report) = open_one(&config, &symbols).unwrap();
    let kinds: Vec<_> = report.faults().map(|fault| fault.kind.clone()).collect();
    assert!(kinds.iter().all(|kind| matches!(kind, FaultKind::Unreadable(_))) && !kinds.is_empty(), "{kinds:?}");
    let lost: Vec<u64> = report.faults().flat_map(|fault| fault.lost.clone()).collect();
    assert!(lost.iter().copied().eq(2 * PER_FRAME..4 * PER_FRAME), "{lost:?}");
    let back = replay(&mut log, &symbols, u64::MAX);
    assert!(back.into_iter().eq((0..300).filter(|number| !lost.contains(number))));
    append(&mut log, &symbols, 300..900);
    assert!(replay(&mut log, &symbols, u64::MAX).into_iter().eq(300..900));
    drop(log);
    assert!(read_files(outside.path()) == before);
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let outside = tempfile::tempdir().unwrap();
    let named = |dir: &Path| {
        let error = open_one(&config(dir, 8), &symbols(0)).err().unwrap();
        let SpillError::Io { path, .. } = &error else { panic!("{error}") };
        assert!(path.starts_with(dir), "{error}");
        assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
    };
    // Where a file is in the way; and where nothing can be made.
    fs::write(outside.path().join("file"), "").unwrap();
    named(&outside.path().join("file"));
    named(&outside.path().join("file/log"));
    named(Path::new("/proc/no-such-directory"));
    // Where writing is forbidden, unless one may do everything.
    let closed = outside.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(closed.join("probe"), "").is_err() {
        named(&closed);
        named(&closed.join("log"));
    }
}
