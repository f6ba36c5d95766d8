//! What a worker costs while nothing comes, and how soon it is there when something does, for each way to wait.
//!
//! ```text
//!   producer (core 0): sleeps ──▶ clock ──▶ offer, flush ──▶ worker (core 1): waits ──▶ handler ──▶ clock
//! ```
//!
//! Run with `cargo bench --bench idle -- [cost|wake]`. Cost: the CPU time of the worker and of the monitor over some idle
//! seconds, as the scheduler tells it (`/proc/self/task/TID/schedstat`). Wake: one message at a time, each after a pause that
//! is long enough for the worker to be asleep, from just before the offer to the handler's first look at it. How often it did
//! sleep is counted: the scheduler knows.

#[path = "harness/mod.rs"]
mod harness;

use std::time::{Duration, Instant};

use harness::{Options, Rounds, machine, median, on_own_thread, pin};
use hdrhistogram::Histogram;
use plimsoll::{
    Context, Handler, LagSource, Offer, Pinning, Pipeline, PipelineBuilder, Price, SymbolId, Tick, WaitStrategy,
};
use serde_json::json;

const ROUNDS: usize = 5;
const STRATEGIES: [(&str, WaitStrategy); 3] = [
    ("busy spin", WaitStrategy::BusySpin),
    ("spin, then yield", WaitStrategy::SpinThenYield),
    ("spin, then park", WaitStrategy::SpinThenPark),
];

/// Before a worker counts as idle: its spinning is over long before.
const SETTLE: Duration = Duration::from_millis(100);
/// Between two messages: ten times what a worker spins before it sleeps.
const PAUSE: Duration = Duration::from_millis(2);

/// Keeps the level at NORMAL, and lanes small.
struct NoLag;

impl LagSource for NoLag {
    fn lag(&mut self, _: u64) -> u64 {
        0
    }
    fn has_backlog(&self) -> bool {
        true
    }
}

/// Keeps how long messages took, which say in `sequence` when they were offered: nanoseconds since `epoch`.
struct Arrivals {
    epoch: Instant,
    nanos: Histogram<u64>,
}

impl Handler<Tick> for Arrivals {
    fn process(&mut self, tick: &Tick, _: &Context) {
        let now = self.epoch.elapsed().as_nanos() as u64;
        self.nanos.saturating_record(now.saturating_sub(tick.sequence));
    }
}

fn pipeline(wait: WaitStrategy, epoch: Instant) -> Pipeline<Tick, Arrivals> {
    // 1 ns to 10 s.
    let nanos = Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("valid bounds");
    PipelineBuilder::new()
        .lane_capacity(4096)
        .lag_source(NoLag)
        .wait_strategy(wait)
        .pinning(Pinning::Cores(vec![1]))
        .start(|_| Arrivals { epoch, nanos: nanos.clone() })
        .expect("valid settings")
}

/// A thread of this process.
struct Task(String);

impl Task {
    /// The one of this name. There is one pipeline at a time.
    fn named(name: &str) -> Self {
        let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
        let mut paths = tasks.flatten().filter_map(|task| task.path().into_os_string().into_string().ok());
        let is_it =
            |path: &String| std::fs::read_to_string(format!("{path}/comm")).is_ok_and(|comm| comm.trim() == name);
        Self(paths.find(is_it).unwrap_or_else(|| panic!("no thread {name}")))
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("{}/{file}", self.0)).expect("the thread lives")
    }

    fn cpu_time(&self) -> Duration {
        let schedstat = self.read("schedstat");
        let nanos = schedstat.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
        Duration::from_nanos(nanos.expect("nanoseconds on a core come first"))
    }

    /// How often it went to sleep.
    fn sleeps(&self) -> u64 {
        let status = self.read("status");
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.and_then(|count| count.trim().parse().ok()).expect("the status tells of context switches")
    }
}

/// Shares of a core, in percent, that worker and monitor take while nothing comes.
fn cost(wait: WaitStrategy, idle: Duration) -> [f64; 2] {
    pin(0);
    let mut pipeline = pipeline(wait, Instant::now());
    let feed = pipeline.ingress().expect("one producer");
    std::thread::sleep(SETTLE);
    let tasks = ["plimsoll-0", "plimsoll-mon"].map(Task::named);
    let start = Instant::now();
    let before = tasks.each_ref().map(Task::cpu_time);
    std::thread::sleep(idle);
    let after = tasks.each_ref().map(Task::cpu_time);
    let elapsed = start.elapsed().as_secs_f64();
    drop(feed);
    pipeline.join().expect("no failure");
    std::array::from_fn(|i| 100.0 * (after[i] - before[i]).as_secs_f64() / elapsed)
}

/// What some wake-ups took.
struct Wakes {
    nanos: Histogram<u64>,
    /// How often the worker slept, for each message.
    sleeps: f64,
}

fn wake(wait: WaitStrategy, wakes: u64) -> Wakes {
    pin(0);
    let epoch = Instant::now();
    let mut pipeline = pipeline(wait, epoch);
    let mut feed = pipeline.ingress().expect("one producer");
    std::thread::sleep(SETTLE);
    let worker = Task::named("plimsoll-0");
    let before = worker.sleeps();
    for i in 0..wakes {
        std::thread::sleep(PAUSE);
        let symbol = SymbolId::new(i as u32 % 100);
        let sequence = epoch.elapsed().as_nanos() as u64;
        let answer = feed.offer(Tick { sequence, ..Tick::trade(symbol, 0, Price::ZERO, 1) });
        feed.flush();
        assert_eq!(answer, Offer::Accepted);
    }
    std::thread::sleep(PAUSE);
    let sleeps = (worker.sleeps() - before) as f64 / wakes as f64;
    drop(feed);
    let mut finished = pipeline.join().expect("no failure");
    let nanos = finished.handlers.remove(0).nanos;
    assert_eq!(nanos.len(), wakes);
    Wakes { nanos, sleeps }
}

fn main() {
    let options = Options::parse(&["cost", "wake"], ROUNDS);
    let (idle, wakes) = if options.quick { (Duration::from_millis(200), 50) } else { (Duration::from_secs(2), 500) };
    let names = STRATEGIES.map(|(name, _)| name);
    let machine = machine();
    println!("{machine}; {} rounds", options.rounds);
    let mut report = json!({ "machine": machine, "idle_ms": idle.as_millis() as u64, "wakes": wakes });

    if options.wants("cost") {
        let mut monitor = vec![Vec::new(); names.len()];
        let worker = Rounds::run(&names, options.rounds, |i| {
            let [worker, its_monitor] = on_own_thread(|| cost(STRATEGIES[i].1, idle));
            monitor[i].push(its_monitor);
            worker
        });
        println!("\nidle for {idle:?}: % of a core, median");
        println!("{:<20}{:>10}{:>10}", "", "worker", "monitor");
        for (i, name) in names.iter().enumerate() {
            println!("{name:<20}{:>10.3}{:>10.3}", worker.median(i), median(&monitor[i]));
        }
        report["worker_percent"] = worker.to_json();
        report["monitor_percent"] = names.into_iter().zip(monitor).collect();
    }

    if options.wants("wake") {
        let mut all: Vec<Vec<Wakes>> = names.iter().map(|_| Vec::new()).collect();
        let p50 = Rounds::run(&names, options.rounds, |i| {
            let wakes = on_own_thread(|| wake(STRATEGIES[i].1, wakes));
            let p50 = wakes.nanos.value_at_quantile(0.5) as f64;
            all[i].push(wakes);
            p50
        });
        println!("\n{wakes} messages, {PAUSE:?} apart: offer to handler, µs, median of the rounds; max: of all");
        println!("{:<20}{:>10}{:>10}{:>10}{:>20}", "", "p50", "p99", "max", "sleeps a message");
        for (i, name) in names.iter().enumerate() {
            let figures = |of: &dyn Fn(&Wakes) -> f64| -> Vec<f64> { all[i].iter().map(of).collect() };
            let p99 = figures(&|wakes| wakes.nanos.value_at_quantile(0.99) as f64);
            let max = figures(&|wakes| wakes.nanos.max() as f64);
            let sleeps = figures(&|wakes| wakes.sleeps);
            let worst = max.iter().copied().fold(0.0, f64::max);
            let [p50_us, p99_us, max_us] = [p50.median(i), median(&p99), worst].map(|nanos| nanos / 1e3);
            println!("{name:<20}{p50_us:>10.2}{p99_us:>10.2}{max_us:>10.2}{:>20.2}", median(&sleeps));
            report["wake_ns"][*name] =
                json!({ "p50": p50.figures(i), "p99": p99, "max": max, "sleeps_a_message": sleeps });
        }
    }
    options.write_json(&report);
}
