//! What the tests of the spill log share: ticks that follow from their number, logs to damage, a process to kill, a disk to fill.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll::spill::{self, RecoveryReport, SpillConfig, SpillError, SpillLog};
use plimsoll::{Price, Side, SymbolTiers, Symbols, Tick, TickKind};

/// Bytes of a page of the log.
pub(crate) const PAGE: usize = 4096;
/// Ticks that a frame has room for, and where in it the first one and its note are.
pub(crate) const PER_FRAME: u64 = 59;
pub(crate) const NOTES_AT: usize = 64;
pub(crate) const TICKS_AT: usize = 320;

/// The symbols. One name takes two entries of the dictionary.
pub(crate) const NAMES: [&str; 7] =
    ["BHP", "CBA", "RIO", "WES", "XRO", "a name that is too long for one entry of the dictionary", "Ørsted"];

/// A small generator of numbers that look random: the same ones for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below another one.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0) % below
    }
}

/// SplitMix64.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A registry that knows all names. The seed says in which order it met them, so that ids differ.
pub(crate) fn symbols(seed: u64) -> Arc<Symbols> {
    let symbols = Symbols::new(SymbolTiers::default(), 64);
    let mut names = NAMES.to_vec();
    let mut random = Random::new(seed);
    while !names.is_empty() {
        let name = names.swap_remove(random.below(names.len() as u64) as usize);
        symbols.intern(name).unwrap();
    }
    Arc::new(symbols)
}

/// Which symbol the tick with this number is of.
pub(crate) fn name_of(number: u64) -> &'static str {
    NAMES[(mix(number) >> 32) as usize % NAMES.len()]
}

/// The tick with this number. No two have the same content.
pub(crate) fn tick(symbols: &Symbols, number: u64) -> Tick {
    Tick {
        event_ns: mix(number),
        receive_ns: mix(number + 1),
        sequence: number,
        price: Price::from_billionths(mix(number + 2) as i64),
        ask_price: Price::from_billionths(mix(number + 3) as i64),
        size: mix(number + 4),
        ask_size: mix(number + 5),
        symbol: symbols.id(name_of(number)).unwrap(),
        kind: [TickKind::Trade, TickKind::Quote, TickKind::Reference][number as usize % 3],
        side: [Side::Unknown, Side::Buy, Side::Sell][number as usize / 3 % 3],
        flags: mix(number + 6) as u16,
    }
}

/// The note that goes with it: most have none.
pub(crate) fn note(number: u64) -> u32 {
    if number.is_multiple_of(5) { mix(number) as u32 | 1 } else { 0 }
}

/// A small log: segments of so many pages.
pub(crate) fn config(dir: &Path, segment_pages: u64) -> SpillConfig {
    SpillConfig {
        segment_bytes: segment_pages * PAGE as u64,
        budget_bytes: 64 << 20,
        free_space_floor_bytes: 0,
        ..SpillConfig::new(dir)
    }
}

/// A limit that turns a hang into a failure, and measures nothing.
pub(crate) struct Deadline(Instant, &'static str);

impl Deadline {
    pub(crate) fn new(what: &'static str) -> Self {
        Self(Instant::now() + Duration::from_secs(60), what)
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        assert!(Instant::now() < self.0, "waited in vain for {}", self.1);
        std::thread::yield_now();
    }
}

/// Appends the ticks with these numbers, waits for room where there is none yet, and commits them.
pub(crate) fn append(log: &mut SpillLog<Tick>, symbols: &Symbols, numbers: std::ops::Range<u64>) {
    let deadline = Deadline::new("room");
    for number in numbers {
        while !log.append(&tick(symbols, number), note(number)) {
            log.refresh();
            deadline.check();
        }
    }
    log.commit();
}

/// Replays so many ticks, or all that are pending if those are fewer. Each must be the one that was appended under its number,
/// if numbers are those of the log; returns the numbers.
pub(crate) fn replay(log: &mut SpillLog<Tick>, symbols: &Symbols, count: u64) -> Vec<u64> {
    let deadline = Deadline::new("records to replay");
    let mut numbers = Vec::new();
    while (numbers.len() as u64) < count && log.is_pending() {
        let max = (count - numbers.len() as u64).min(100) as usize;
        log.replay(max, |replayed| {
            let number = replayed.message.sequence;
            assert_eq!(replayed.message, tick(symbols, number));
            assert_eq!(replayed.missed, note(number));
            assert_eq!(replayed.sequence, number);
            numbers.push(number);
        });
        deadline.check();
    }
    numbers
}

/// Opens the log of one worker.
pub(crate) fn open_one(
    config: &SpillConfig,
    symbols: &Arc<Symbols>,
) -> Result<(SpillLog<Tick>, RecoveryReport), SpillError> {
    let (mut logs, report) = spill::open::<Tick>(config, symbols, 1)?;
    Ok((logs.remove(0), report))
}

/// All files below a directory, by their path in it.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

pub(crate) fn read_files(root: &Path) -> Files {
    let mut files = Files::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let bytes = fs::read(&path).unwrap_or_default();
                files.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
            }
        }
    }
    files
}

/// Makes a directory hold these files and no other.
pub(crate) fn write_files(root: &Path, files: &Files) {
    for path in read_files(root).into_keys().filter(|path| !files.contains_key(path)) {
        fs::remove_file(root.join(path)).unwrap();
    }
    for (path, bytes) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Says where in a child process its part of a test begins: a directory to work in.
const CHILD_DIR: &str = "PLIMSOLL_TEST_CHILD_DIR";
/// And what else it is told.
const CHILD_PLAN: &str = "PLIMSOLL_TEST_CHILD_PLAN";

/// In a child process, the directory and the plan that it was given.
pub(crate) fn child_plan() -> Option<(PathBuf, String)> {
    Some((std::env::var_os(CHILD_DIR)?.into(), std::env::var(CHILD_PLAN).ok()?))
}

/// This program again, as a child that runs one test alone, which finds the plan by [`child_plan`].
pub(crate) fn child(test: &str, dir: &Path, plan: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    with_plan(&mut command, test, dir, plan);
    command
}

fn with_plan(command: &mut Command, test: &str, dir: &Path, plan: &str) {
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD_DIR, dir).env(CHILD_PLAN, plan);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// As [`child`], and for it alone a file system of so many MiB in memory is mounted on the directory. `None` where that is not
/// allowed; that is a failure if `PLIMSOLL_REQUIRE_TMPFS` is set.
pub(crate) fn child_on_small_disk(test: &str, dir: &Path, mib: u32, plan: &str) -> Option<Command> {
    let mount = format!(r#"mount -t tmpfs -o size={mib}m,mode=700 none "$0" && exec "$@""#);
    for flags in ["-Urm", "-m"] {
        let on_disk = || {
            let mut command = Command::new("unshare");
            command.args([flags, "sh", "-c", &mount]).arg(dir);
            command
        };
        if on_disk().arg("true").output().is_ok_and(|output| output.status.success()) {
            let mut command = on_disk();
            command.arg(std::env::current_exe().unwrap());
            with_plan(&mut command, test, dir, plan);
            return Some(command);
        }
    }
    let required = std::env::var_os("PLIMSOLL_REQUIRE_TMPFS").is_some();
    assert!(!required, "no file system can be mounted, and PLIMSOLL_REQUIRE_TMPFS is set");
    println!("skipped: no file system can be mounted here");
    None
}

/// Runs a child to its end, which must be a good one.
#[track_caller]
pub(crate) fn run_child(mut command: Command) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{}\n{out}\n{err}", output.status);
}

/// When a child is killed.
#[derive(Debug)]
pub(crate) struct Moment {
    /// After it has said so many lines,
    pub(crate) lines: u64,
    /// and then at some instant.
    pub(crate) then: Duration,
}

/// Says a letter and a number to the parent, in one write: a killed process leaves such a line whole or not at all.
pub(crate) fn say(letter: char, number: u64) {
    std::io::stdout().write_all(format!("@{letter}{number}\n").as_bytes()).unwrap();
}

/// Reads such a line; `None` for others.
fn hear(line: &str) -> Option<(char, u64)> {
    let (_, said) = line.strip_suffix('\n')?.split_once('@')?;
    Some((said.chars().next()?, said[1..].parse().unwrap()))
}

/// Kills a child with SIGKILL, and hears all that it has said. It must not have ended by itself.
pub(crate) fn kill(mut command: Command, moment: &Moment, mut heard: impl FnMut(char, u64)) {
    let mut process = command.spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    // Whether there was a line, and whether it was such a one.
    let mut next = || {
        line.clear();
        let is_more = lines.read_line(&mut line).unwrap() > 0;
        let said = hear(&line);
        said.into_iter().for_each(|(letter, number)| heard(letter, number));
        (is_more, said.is_some())
    };
    let mut count = 0;
    while count < moment.lines {
        let (is_more, is_said) = next();
        if !is_more {
            break;
        }
        count += u64::from(is_said);
    }
    // An instant, no synchronisation: whatever the child does then, the log must be whole.
    let start = Instant::now();
    while start.elapsed() < moment.then {
        std::hint::spin_loop();
    }
    process.kill().unwrap();
    while next().0 {}
    let status = process.wait().unwrap();
    let mut said = String::new();
    process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.signal(), Some(9), "the child ended by itself: {status}\n{said}");
}
