//! The feeds of a run: each on a thread of its own, until all are at their end.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, unbounded};
use plimsoll::source::{FeedCount, FeedCounters, PumpEnd, pump};
use plimsoll::{Handler, Ingress, Pipeline, Tick};

use super::CliError;
use super::signal::StopFlag;
use super::summary::grouped;
use crate::config::Feed;

/// Between two looks at how far the feeds have got.
const LOOK: Duration = Duration::from_millis(50);

/// A feed's name and its counts.
pub(crate) type Counts = Vec<(String, Arc<FeedCounters>)>;

/// Whatever feeds a pipeline through an ingress of its own.
pub(crate) struct Runner {
    pub(crate) name: String,
    pub(crate) counters: Arc<FeedCounters>,
    pub(crate) run: Box<Run>,
}

/// Runs until it is at its end, or stopped; an error is told in words.
pub(crate) type Run = dyn FnOnce(&mut Ingress<Tick>, &StopFlag) -> Result<PumpEnd, String> + Send;

impl From<Feed> for Runner {
    fn from(mut feed: Feed) -> Self {
        let (name, counters) = (feed.name, Arc::clone(feed.source.counters()));
        let run = Box::new(move |ingress: &mut Ingress<Tick>, stop: &StopFlag| {
            let observe = || if stop.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            pump(&mut *feed.source, ingress, feed.pace, observe).map_err(|error| error.to_string())
        });
        Self { name, counters, run }
    }
}

/// What the feeds count.
pub(crate) fn counts(feeds: &[Runner]) -> Counts {
    feeds.iter().map(|feed| (feed.name.clone(), Arc::clone(&feed.counters))).collect()
}

/// How a feed ended.
pub(crate) type Ended = (String, Result<PumpEnd, String>);

/// Moves all feeds into the pipeline, each through an ingress of its own; `look` is called now and then. A feed that fails is told
/// of at once, and the others go on.
pub(crate) fn run<H: Handler<Tick>>(
    feeds: Vec<Runner>,
    pipeline: &mut Pipeline<Tick, H>,
    stop: &StopFlag,
    mut look: impl FnMut(&Pipeline<Tick, H>),
) -> Result<Vec<Ended>, CliError> {
    let (tell, news) = unbounded();
    let mut running = 0;
    for feed in feeds {
        let mut ingress = pipeline.ingress().expect("there are as many producers as feeds");
        let (tell, stop, name) = (tell.clone(), stop.clone(), feed.name);
        let thread = std::thread::Builder::new().name(format!("feed-{name}"));
        let spawned = thread.spawn(move || {
            let ended = (feed.run)(&mut ingress, &stop);
            drop(ingress);
            let _ = tell.send((name, ended));
        });
        spawned.map_err(|error| CliError::io(&"a feed's thread", &error))?;
        running += 1;
    }
    drop(tell);
    let mut ended = Vec::with_capacity(running);
    while ended.len() < running {
        match news.recv_timeout(LOOK) {
            Ok((name, end)) => {
                if let Err(error) = &end
                    && running > 1
                {
                    tracing::error!(feed = %name, %error, "the feed has failed");
                }
                ended.push((name, end));
            }
            Err(RecvTimeoutError::Timeout) => {}
            // A thread has panicked, and said so.
            Err(RecvTimeoutError::Disconnected) => {
                return Err(CliError::Runtime("a feed's thread has panicked".to_owned()));
            }
        }
        look(pipeline);
    }
    Ok(ended)
}

/// A line for each feed: its messages, and whatever else has happened to it.
pub(crate) fn summary(counts: &Counts) -> String {
    const SHOWN: [FeedCount; 11] = [
        FeedCount::Malformed,
        FeedCount::Foreign,
        FeedCount::Duplicates,
        FeedCount::Reordered,
        FeedCount::Requested,
        FeedCount::Recovered,
        FeedCount::KernelDrops,
        FeedCount::Gaps,
        FeedCount::Missed,
        FeedCount::Unresolved,
        FeedCount::Untracked,
    ];
    let line = |(name, counters): &(String, Arc<FeedCounters>)| {
        let mut line = format!("feed {name:<12}{:>16} messages", grouped(counters.get(FeedCount::Messages)));
        for count in SHOWN.into_iter().filter(|count| counters.get(*count) > 0) {
            line += &format!(", {} {}", grouped(counters.get(count)), count.name().replace('_', " "));
        }
        line + "\n"
    };
    counts.iter().map(line).collect()
}
