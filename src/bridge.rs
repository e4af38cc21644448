//! The only channels between the runtime and the threads, and the only thread spawns.
//!
//! Threads are started when there is work and leave after a while without any. Jobs go out one by one, each to a
//! free thread, so the queue is the engine's alone; updates come back over one bounded channel, and a thread that
//! finds it full waits, which slows its provider by plain TCP back-pressure.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::config::providers::Route;
use crate::config::{Push, Relay};
use crate::engine::push::Lost;
use crate::inbound::cell::EngineCell;
use crate::inbound::service::Front;
use crate::llm::ModelError;
use crate::outbound::device;
use crate::outbound::http::KEEP_ALIVE;
use crate::outbound::model::{Line, Piece};
use crate::outbound::push;
use crate::outbound::tls::Tls;
use crate::skills::{device as device_skill, text_analyzer};
use crate::work::{End, Job, Lane, PostError, Run, Update, Work};

/// Updates under way.
const UPDATES: usize = 64;
/// Stack of a thread: only touched pages cost memory; TLS fits with room to spare.
const STACK: usize = if cfg!(debug_assertions) { 1024 * 1024 } else { 256 * 1024 };
/// A thread that keeps no connection leaves soon when it has no work.
const SHORT_KEEP: Duration = Duration::from_secs(5);
/// Between two lines of the log about webhooks that take nothing.
const LOST_EVERY: Duration = Duration::from_secs(10);

/// What a thread needs for its work.
#[derive(Debug)]
pub struct Tools {
    /// The provider, when there is one.
    pub route: Option<Route>,
    /// Its timers and bounds.
    pub relay: Relay,
    /// How webhooks are told.
    pub push: Push,
    /// Whom both trust.
    pub tls: Tls,
}

/// What a thread says.
#[derive(Debug)]
enum Note {
    Update(Update),
    /// Nothing to do for long: the thread asks to leave.
    Idle,
}

/// One thread, seen from the runtime.
#[derive(Debug)]
struct Hand {
    number: u32,
    lane: Lane,
    jobs: SyncSender<Job>,
    /// What it works on.
    run: Option<Run>,
    /// It works with tools that are no longer in force, and leaves after this job.
    is_last: bool,
}

/// All threads, and the channel on which they report.
#[derive(Debug)]
pub struct Bridge {
    front: Rc<Front>,
    tools: watch::Receiver<Arc<Tools>>,
    hands: Vec<Hand>,
    started: u32,
    sender: mpsc::Sender<(u32, Note)>,
    notes: mpsc::Receiver<(u32, Note)>,
    /// When the log was last told of a webhook.
    told: Option<Duration>,
}

impl Bridge {
    /// No thread is started yet. Threads work with the `tools` that are in force when they get their job.
    pub fn new(front: Rc<Front>, tools: watch::Receiver<Arc<Tools>>) -> Self {
        let (sender, notes) = mpsc::channel(UPDATES);
        Self { front, tools, hands: Vec::new(), started: 0, sender, notes, told: None }
    }

    /// Moves jobs and updates for as long as the agent runs.
    pub async fn run(mut self) {
        let front = self.front.clone();
        loop {
            tokio::select! {
                biased;
                // Before any job of the model that came with them.
                Ok(()) = self.tools.changed() => self.retool(),
                () = front.cell.jobs.notified() => self.dispatch(&front.cell),
                Some((number, note)) = self.notes.recv() => self.take(&front.cell, number, note),
            }
        }
    }

    /// Threads that know the old tools leave: at once, or when their job has ended.
    fn retool(&mut self) {
        self.hands.retain(|hand| hand.run.is_some());
        for hand in &mut self.hands {
            hand.is_last = true;
        }
    }

    fn dispatch(&mut self, cell: &EngineCell) {
        for lane in [Lane::Relay, Lane::Local, Lane::Push] {
            while let Some(job) = cell.with(|engine, now| engine.next_job(lane, now)) {
                let run = job.run;
                if let Err(what) = self.hand_over(lane, job) {
                    log::error!("cannot start a thread: {what}");
                    let what = "no thread can be started";
                    let end = match lane {
                        Lane::Relay | Lane::Local => {
                            End::Turn(Err(ModelError::Transport { what: what.to_owned() }))
                        }
                        Lane::Push => End::Post(Err(PostError::Failed(what))),
                    };
                    cell.with(|engine, now| {
                        engine.apply(Update::Ended(run, end), now);
                        engine.apply(Update::Free(run), now);
                    });
                }
            }
        }
    }

    fn hand_over(&mut self, lane: Lane, job: Job) -> std::io::Result<()> {
        let run = job.run;
        let is_free = |hand: &Hand| hand.lane == lane && hand.run.is_none() && !hand.is_last;
        if !self.hands.iter().any(is_free) {
            self.started += 1;
            let tools = self.tools.borrow().clone();
            let hand = start(self.started, lane, tools, self.sender.clone())?;
            self.hands.push(hand);
        }
        let hand = self.hands.iter_mut().find(|hand| is_free(hand)).expect("one is free now");
        hand.run = Some(run);
        // A free thread waits for its next job with an empty slot in front of it.
        hand.jobs.try_send(job).map_err(|_| std::io::Error::other("the thread is gone"))
    }

    fn take(&mut self, cell: &EngineCell, number: u32, note: Note) {
        match note {
            Note::Update(update) => {
                if matches!(update, Update::Free(_))
                    && let Some(hand) = self.hands.iter_mut().find(|hand| hand.number == number)
                {
                    hand.run = None;
                    if hand.is_last {
                        self.hands.retain(|hand| hand.number != number);
                    }
                }
                if let Update::Ended(_, End::Turn(Err(error))) = &update
                    && *error != ModelError::Canceled
                {
                    let tools = self.tools.borrow();
                    let route = tools.route.as_ref();
                    let key = route.map_or("the key", |route| &*route.provider.key_source);
                    log::warn!("{}", error.explain(key));
                }
                let lost = cell.with(|engine, now| {
                    engine.apply(update, now);
                    let is_time = self.told.is_none_or(|told| now.mono >= told + LOST_EVERY);
                    is_time.then(|| engine.take_lost()).flatten().map(|lost| (lost, now))
                });
                if let Some((lost, now)) = lost {
                    self.told = Some(now.mono);
                    tell_lost(&lost);
                }
            }
            // A job that was sent meanwhile keeps the thread; otherwise its channel closes, and it leaves.
            Note::Idle => {
                self.hands.retain(|hand| hand.number != number || hand.run.is_some());
            }
        }
    }
}

/// One line about what a webhook was not told; only the host of its URL may be written down.
fn tell_lost(lost: &Lost) {
    let Lost { task, host, tries, error, others } = lost;
    let more = if *others > 0 { format!("; {others} more before it") } else { String::new() };
    log::warn!("task={task} webhook at {host} given up at try {tries}: {error}{more}");
}

fn start(
    number: u32,
    lane: Lane,
    tools: Arc<Tools>,
    sender: mpsc::Sender<(u32, Note)>,
) -> std::io::Result<Hand> {
    let (jobs, inbox) = sync_channel::<Job>(1);
    let (name, keep) = match lane {
        Lane::Relay => (format!("relay-{number}"), KEEP_ALIVE),
        Lane::Local => (format!("local-{number}"), SHORT_KEEP),
        Lane::Push => (format!("push-{number}"), SHORT_KEEP),
    };
    let work = move || {
        let route = tools.route.clone().filter(|_| lane == Lane::Relay);
        let mut provider =
            route.map(|route| Line::new(route, tools.relay.clone(), tools.tls.clone()));
        // An error means that the runtime is gone, and so is the reader of every update.
        let tell = |note| sender.blocking_send((number, note)).is_ok();
        loop {
            let job = match inbox.recv_timeout(keep) {
                Ok(job) => job,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    tell(Note::Idle);
                    match inbox.recv() {
                        Ok(job) => job,
                        Err(_) => return,
                    }
                }
            };
            let run = job.run;
            do_job(job, provider.as_mut(), &tools, &|update| tell(Note::Update(update)));
            tell(Note::Update(Update::Free(run)));
        }
    };
    #[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
    Builder::new().name(name).stack_size(STACK).spawn(work)?;
    Ok(Hand { number, lane, jobs, run: None, is_last: false })
}

fn do_job(mut job: Job, line: Option<&mut Line>, tools: &Tools, tell: &dyn Fn(Update) -> bool) {
    let run = job.run;
    match (job.work, line) {
        (Work::Turn(turn), Some(line)) => {
            line.turn(&turn, &job.cancel, &mut job.lease, &mut |piece| {
                tell(match piece {
                    Piece::Text(text) => Update::Text(run, text.to_owned()),
                    Piece::Alive => Update::Alive(run),
                    Piece::Whole(end) => Update::Whole(run, end),
                    Piece::End(end) => Update::Ended(run, End::Turn(end)),
                });
            });
        }
        (Work::Turn(_), None) => {
            let error = ModelError::Transport { what: "no provider is configured".to_owned() };
            tell(Update::Ended(run, End::Turn(Err(error))));
        }
        (Work::Device, _) => {
            let report = device_skill::report(&device::read());
            tell(Update::Ended(run, End::Local { text: report.text(), json: report.json() }));
        }
        (Work::Analyze(text), _) => {
            let report = text_analyzer::analyze(&text);
            tell(Update::Ended(run, End::Local { text: report.text(), json: report.json() }));
        }
        (Work::Post(post), _) => {
            let end = push::post(&post, &tools.push, &tools.tls, &job.cancel);
            tell(Update::Ended(run, End::Post(end)));
        }
    }
}
