//! Tables.

use std::time::Duration;

use plimsoll::DegradationLevel;

use crate::feed::{Phase, SHARES, Schedule};
use crate::ours::{COOLDOWN_SECONDS, LAG, LANE, SAMPLE_INTERVAL};
use crate::outcome::{Fates, Outcome};
use crate::work::COST;
use crate::{CONTENDERS, Load};

/// Of how much CRITICAL at ten times the capacity, and of how many times less latency than a channel that blocks.
const GOAL: (f64, f64) = (99.9, 100.0);

/// What is common to all runs.
pub(crate) fn setting(capacity: f64) {
    let [critical, high, normal, low] = SHARES;
    println!("a handler of {COST:?} a message: {capacity:.0} messages/s, which is 1x");
    println!("a feed of {critical} % CRITICAL, {high} % HIGH, {normal} % NORMAL, {low} % LOW");
    let alone = |times: f64| times * f64::from(critical);
    println!("CRITICAL alone is {:.0} % of the capacity at 10x, and {:.0} % at 100x", alone(10.0), alone(100.0));
    println!(
        "Plimsoll: lane {LANE}, lag thresholds {LAG:?}, cooldown {COOLDOWN_SECONDS} s, sampled each {SAMPLE_INTERVAL:?}, with a spill log"
    );
}

/// All contenders at a load.
pub(crate) fn load(load: &Load, capacity: f64, schedule: &Schedule) {
    let (_, storm, rate) = schedule.phases[Phase::Storm as usize];
    println!("\n{}: {rate:.0} messages/s for {storm:?}", load.name);
    println!(
        "{:<22}{:>9}{:>8}{:>8}{:>8} │{:>10}{:>10}{:>10}{:>10} │{:>9}{:>9} │{:>7}",
        "", "CRITICAL", "HIGH", "NORMAL", "LOW", "p50", "p99", "p99.9", "max", "p99", "p99.9", "worker"
    );
    println!(
        "{:<22}{:>33} │{:>40} │{:>18} │{:>7}",
        "", "handled by the end, %", "CRITICAL latency, ms", "after storm, ms", "busy %"
    );
    for (i, contender) in CONTENDERS.iter().enumerate() {
        let run = load.outcome(i);
        let [critical, high, normal, low] = std::array::from_fn(|p| run.goodput(p)[1]);
        let latency = run.critical();
        let sign = if run.is_at_least() { "≥ " } else { "" };
        let [p50, p99, p999, max] =
            [0.5, 0.99, 0.999, 1.0].map(|q| format!("{sign}{}", ms(latency.value_at_quantile(q))));
        let after = [0.99, 0.999].map(|q| match run.work.after.is_empty() {
            true => "-".to_owned(),
            false => ms(run.work.after.value_at_quantile(q)),
        });
        let busy = run.work.handled_in_storm as f64 / capacity / storm.as_secs_f64() * 100.0;
        println!(
            "{:<22}{critical:>9.2}{high:>8.2}{normal:>8.2}{low:>8.2} │{p50:>10}{p99:>10}{p999:>10}{max:>10} │{:>9}{:>9} │{busy:>7.0}",
            contender.name, after[0], after[1]
        );
    }
    println!(
        "{:<22}{:>12}{:>12}{:>11}{:>12}{:>11}{:>12}{:>9}{:>11}{:>11}{:>12}",
        "messages",
        "offered",
        "live",
        "replayed",
        "waiting",
        "spilled",
        "shed",
        "full",
        "refused",
        "dropped",
        "feed late"
    );
    for (i, contender) in CONTENDERS.iter().enumerate() {
        fates(contender.name, load.outcome(i));
    }
    let live = load.outcome(0);
    let [critical, high, normal, low] = std::array::from_fn(|p| live.goodput(p)[0]);
    println!("Plimsoll without what was replayed: {critical:.2}, {high:.2}, {normal:.2}, {low:.2} %");
    if !live.work.late.is_empty() {
        let late = &live.work.late;
        let [p50, max] = [0.5, 1.0].map(|q| ms(late.value_at_quantile(q)));
        println!("replayed after {p50} ms (p50), {max} ms at most");
    }
}

fn fates(name: &str, run: &Outcome) {
    let sum = |counts: &[[u64; 4]; 3]| counts.iter().flatten().sum::<u64>();
    let [offered, live, replayed] = [&run.sent.offered, &run.work.live, &run.work.replayed].map(sum);
    let Fates { dropped, shed, refused, full, spilled, waiting } = run.fates;
    let late = ms(run.sent.late_ns);
    println!(
        "{name:<22}{offered:>12}{live:>12}{replayed:>11}{waiting:>12}{spilled:>11}{shed:>12}{full:>9}{refused:>11}{dropped:>11}{late:>12}"
    );
}

/// Plimsoll's levels at all loads.
pub(crate) fn levels(loads: &[Load]) {
    println!("\nPlimsoll's levels: ms from the begin of the storm to each, and from its end back to NORMAL");
    println!(
        "{:<6}{:>9}{:>10}{:>12}{:>15}{:>12}{:>18}  share of the storm at each level, %",
        "", "SOFT", "GRACEFUL", "AGGRESSIVE", "CIRCUIT_BREAK", "to NORMAL", "down in the storm"
    );
    for load in loads {
        let Some(levels) = &load.outcome(0).levels else { continue };
        let time = |time: Option<Duration>| time.map_or("-".to_owned(), |time| ms(time.as_nanos() as u64));
        let [_, soft, graceful, aggressive, circuit_break] =
            DegradationLevel::ALL.map(|level| time(levels.reached(level)));
        let (back, down) = (time(levels.recovered()), levels.recoveries_in_storm());
        let shares = levels.shares().map(|share| format!("{:.1}", share * 100.0)).join(" / ");
        println!(
            "{:<6}{soft:>9}{graceful:>10}{aggressive:>12}{circuit_break:>15}{back:>12}{down:>18}  {shares}",
            load.name
        );
    }
}

/// Whether what is promised for ten times the capacity holds.
pub(crate) fn goal(loads: &[Load]) {
    let Some(load) = loads.iter().find(|load| load.times == 10.0) else { return };
    let (ours, blocking) = (load.outcome(0), load.outcome(1));
    let goodput = ours.goodput(0)[1];
    let [mine, theirs] = [ours, blocking].map(|run| run.critical().value_at_quantile(0.99));
    let ratio = theirs as f64 / mine as f64;
    let holds = |it: bool| if it { "holds" } else { "does not hold" };
    println!("\nat 10x: CRITICAL goodput {goodput:.3} %; {:.1} % {}", GOAL.0, holds(goodput >= GOAL.0));
    let (mine, theirs) = (ms(mine), ms(theirs));
    println!(
        "at 10x: CRITICAL p99 {mine} ms, of the channel that blocks at least {theirs} ms, {ratio:.0} times as much; {} times {}",
        GOAL.1,
        holds(ratio >= GOAL.1)
    );
}

/// Milliseconds, three digits.
fn ms(ns: u64) -> String {
    let ms = ns as f64 / 1e6;
    match ms {
        ..1.0 => format!("{ms:.3}"),
        ..10.0 => format!("{ms:.2}"),
        ..100.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}
