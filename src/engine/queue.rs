//! Who waits for a thread and who has one: run numbers, fairness between callers, and the deadlines of running jobs.
//!
//! A cancelled job keeps its thread until that thread says it ended; the run number tells its late words from
//! those of the task's current job.

use std::time::Duration;

use crate::a2a::op::Principal;
use crate::base::clock::Now;
use crate::base::ids::TaskId;
use crate::base::limits::{QUEUE, RELAYS};
use crate::llm::TurnEnd;
use crate::work::{Cancel, Lane, Run};

/// Local jobs that may wait: each takes milliseconds.
pub const LOCAL_QUEUE: usize = 32;

/// A thread whose job has ended may read the rest of the reply this long, to keep the connection.
const TIDY: Duration = Duration::from_millis(250);

/// A whole reply waits this long for its counts and the stream's end.
const REST: Duration = Duration::from_secs(2);

/// Relays and the one local thread.
const RUNNING: usize = RELAYS + 1;

/// The bounds of a lane.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Relays at once.
    pub relays: usize,
    /// Relayed tasks that wait.
    pub queue: usize,
}

/// The timers of a relayed job.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// To the first payload, connecting included.
    pub first: Duration,
    /// Between two payloads.
    pub idle: Duration,
    /// The whole turn.
    pub turn: Duration,
}

#[derive(Debug)]
struct Waiting {
    id: TaskId,
    lane: Lane,
    caller: Principal,
}

#[derive(Debug)]
struct Running {
    run: Run,
    /// `None` once the task no longer wants this job's words.
    task: Option<TaskId>,
    lane: Lane,
    caller: Principal,
    cancel: Cancel,
    started: Now,
    last_payload: Option<Now>,
    /// Set once the reply is whole: how it ended, and since when that is known.
    whole: Option<(TurnEnd, Now)>,
    /// Set once the job has ended: until when its thread may tidy up.
    tidy: Option<Duration>,
    timers: Option<Timers>,
}

/// Which timer of a job ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// No payload at all.
    First,
    /// No further payload.
    Idle,
    /// The whole turn took too long.
    Turn,
    /// The reply is whole, and what may follow it does not come.
    Rest(TurnEnd),
}

/// Waiting and running jobs.
#[derive(Debug)]
pub struct Queue {
    waiting: heapless::Vec<Waiting, { QUEUE + LOCAL_QUEUE }>,
    running: heapless::Vec<Running, RUNNING>,
    bounds: Bounds,
    runs: u32,
    /// No job can start until something here changes.
    is_parked: bool,
}

impl Queue {
    /// An empty queue.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            waiting: heapless::Vec::new(),
            running: heapless::Vec::new(),
            bounds,
            runs: 0,
            is_parked: false,
        }
    }

    /// Whether one more job of `lane` may wait, or start at once.
    pub fn has_room(&self, lane: Lane) -> bool {
        let waiting = self.waiting_in(lane);
        match lane {
            Lane::Relay => waiting < self.bounds.queue + self.idle(lane),
            Lane::Local => waiting < LOCAL_QUEUE,
            Lane::Push => false,
        }
    }

    /// Lets a task wait for a thread. `false` when the lane is full.
    #[must_use]
    pub fn wait(&mut self, id: TaskId, lane: Lane, caller: Principal) -> bool {
        self.is_parked = false;
        self.has_room(lane) && self.waiting.push(Waiting { id, lane, caller }).is_ok()
    }

    /// The task whose turn it is, when `lane` has a free thread: of the callers that have the fewest jobs running,
    /// the one who waits longest.
    pub fn next(&self, lane: Lane) -> Option<TaskId> {
        if self.idle(lane) == 0 {
            return None;
        }
        let load = |waiting: &&Waiting| {
            self.running
                .iter()
                .filter(|job| job.lane == lane && job.caller == waiting.caller)
                .count()
        };
        self.waiting.iter().filter(|waiting| waiting.lane == lane).min_by_key(load).map(|w| w.id)
    }

    /// The next job found no bytes for its work, which others hold: nothing starts until one of them is free, or the
    /// queue changes.
    pub fn park(&mut self) {
        self.is_parked = true;
    }

    /// Others gave bytes back.
    pub fn unpark(&mut self) {
        self.is_parked = false;
    }

    /// Whether a job could start now.
    pub fn has_next(&self) -> bool {
        let next = |lane| self.next(lane).is_some();
        !self.is_parked && (next(Lane::Relay) || next(Lane::Local))
    }

    /// The waiting task becomes a running job.
    ///
    /// Returns `None` when it does not wait, or no thread is free.
    pub fn start(&mut self, id: TaskId, timers: Option<Timers>, now: Now) -> Option<(Run, Cancel)> {
        let at = self.waiting.iter().position(|waiting| waiting.id == id)?;
        if self.idle(self.waiting[at].lane) == 0 {
            return None;
        }
        let Waiting { id, lane, caller } = self.waiting.remove(at);
        self.runs = self.runs.wrapping_add(1);
        let run = Run { lane, slot: u16::try_from(id.slot()).ok()?, number: self.runs };
        let cancel = Cancel::default();
        let job = Running {
            run,
            task: Some(id),
            lane,
            caller,
            cancel: cancel.clone(),
            started: now,
            last_payload: None,
            whole: None,
            tidy: None,
            timers,
        };
        self.running.push(job).ok()?;
        Some((run, cancel))
    }

    /// The task that `run` works for, or `None` when nobody waits for it any more.
    pub fn task_of(&self, run: Run) -> Option<TaskId> {
        self.running.iter().find(|job| job.run == run).and_then(|job| job.task)
    }

    /// The job said something that counts.
    pub fn payload(&mut self, run: Run, now: Now) {
        if let Some(job) = self.running.iter_mut().find(|job| job.run == run) {
            job.last_payload = Some(now);
        }
    }

    /// The job's reply is whole.
    pub fn whole(&mut self, run: Run, end: TurnEnd, now: Now) {
        if let Some(job) = self.running.iter_mut().find(|job| job.run == run) {
            job.whole = Some((end, now));
        }
    }

    /// The job has ended; its thread tidies up for a moment.
    pub fn ended(&mut self, run: Run, now: Now) {
        if let Some(job) = self.running.iter_mut().find(|job| job.run == run) {
            job.task = None;
            job.tidy = Some(now.mono + TIDY);
        }
    }

    /// Stops the threads that have tidied long enough.
    pub fn stop_tidying(&mut self, now: Now) {
        for job in &mut self.running {
            if job.tidy.is_some_and(|until| until <= now.mono) {
                job.tidy = None;
                job.cancel.fire();
            }
        }
    }

    /// The thread is free again.
    pub fn free(&mut self, run: Run) {
        self.is_parked = false;
        if let Some(at) = self.running.iter().position(|job| job.run == run) {
            self.running.swap_remove(at);
        }
    }

    /// The task wants no job any more: it stops waiting, or its job is stopped and its late words are dropped. Returns
    /// the lane of a job that was stopped.
    pub fn drop_task(&mut self, id: TaskId) -> Option<Lane> {
        self.is_parked = false;
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.id == id) {
            self.waiting.remove(at);
        }
        let job = self.running.iter_mut().find(|job| job.task == Some(id))?;
        job.task = None;
        job.cancel.fire();
        Some(job.lane)
    }

    /// A job whose timer has run out, with the time it was given.
    pub fn late(&self, now: Now) -> Option<(TaskId, Late, Duration)> {
        self.running.iter().find_map(|job| {
            let (late, after, deadline) = job.deadline()?;
            (deadline <= now.mono).then_some((job.task?, late, after))
        })
    }

    /// When the next timer runs out.
    pub fn deadline(&self) -> Option<Duration> {
        let next = |job: &Running| job.tidy.or_else(|| job.deadline().map(|(_, _, at)| at));
        self.running.iter().filter_map(next).min()
    }

    fn idle(&self, lane: Lane) -> usize {
        let bound = match lane {
            Lane::Relay => self.bounds.relays,
            Lane::Local => 1,
            // Deliveries to webhooks wait elsewhere.
            Lane::Push => 0,
        };
        bound.saturating_sub(self.running_in(lane))
    }

    /// Puts other bounds in force; what waits and runs already goes on.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        (self.bounds, self.is_parked) = (bounds, false);
    }

    /// The bounds.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Jobs of `lane` that have a thread.
    pub fn running_in(&self, lane: Lane) -> usize {
        self.running.iter().filter(|job| job.lane == lane).count()
    }

    /// Jobs of `lane` that wait for one.
    pub fn waiting_in(&self, lane: Lane) -> usize {
        self.waiting.iter().filter(|waiting| waiting.lane == lane).count()
    }
}

impl Running {
    /// The timer that runs out next: which, what it allows, and when.
    fn deadline(&self) -> Option<(Late, Duration, Duration)> {
        self.task?;
        let timers = self.timers?;
        if let Some((end, since)) = self.whole {
            return Some((Late::Rest(end), REST, since.mono + REST));
        }
        let silence = match self.last_payload {
            None => (Late::First, timers.first, self.started.mono + timers.first),
            Some(last) => (Late::Idle, timers.idle, last.mono + timers.idle),
        };
        let whole = (Late::Turn, timers.turn, self.started.mono + timers.turn);
        Some(if silence.2 <= whole.2 { silence } else { whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Ids;
    use crate::llm::{Finish, Usage};

    const TIMERS: Timers = Timers {
        first: Duration::from_mins(1),
        idle: Duration::from_secs(10),
        turn: Duration::from_secs(100),
    };

    fn at(seconds: u64) -> Now {
        Now { mono: Duration::from_secs(seconds), unix_ms: 0 }
    }

    fn task_ids(count: usize) -> Vec<TaskId> {
        let mut next = 0_u8;
        let mut ids = Ids::new(Box::new(move |bytes| {
            for byte in bytes {
                next = next.wrapping_add(1);
                *byte = next;
            }
        }));
        (0..count).map(|slot| ids.task(slot)).collect()
    }

    fn caller(last: u8) -> Principal {
        Principal::Address([192, 0, 2, last].into())
    }

    #[test]
    fn a_callers_many_jobs_do_not_hold_up_anothers_first() {
        let ids = task_ids(5);
        let mut queue = Queue::new(Bounds { relays: 2, queue: 8 });
        for id in &ids[..4] {
            assert!(queue.wait(*id, Lane::Relay, caller(1)));
        }
        assert!(queue.wait(ids[4], Lane::Relay, caller(2)));
        let first = queue.next(Lane::Relay).unwrap();
        assert_eq!(first, ids[0]);
        queue.start(first, None, at(0)).unwrap();
        assert_eq!(queue.next(Lane::Relay), Some(ids[4]));
    }

    #[test]
    fn a_full_lane_says_so() {
        let ids = task_ids(4);
        let mut queue = Queue::new(Bounds { relays: 1, queue: 2 });
        assert!(queue.wait(ids[0], Lane::Relay, caller(1)));
        queue.start(ids[0], None, at(0)).unwrap();
        assert!(queue.wait(ids[1], Lane::Relay, caller(1)));
        assert!(queue.wait(ids[2], Lane::Relay, caller(1)));
        assert!(!queue.wait(ids[3], Lane::Relay, caller(1)));
        assert!(queue.has_room(Lane::Local));
    }

    #[test]
    fn a_dropped_jobs_thread_stays_taken_and_its_words_are_nobodys() {
        let ids = task_ids(2);
        let mut queue = Queue::new(Bounds { relays: 1, queue: 2 });
        assert!(queue.wait(ids[0], Lane::Relay, caller(1)));
        let (run, cancel) = queue.start(ids[0], None, at(0)).unwrap();
        assert!(queue.wait(ids[1], Lane::Relay, caller(1)));
        queue.drop_task(ids[0]);
        assert!(cancel.is_fired());
        assert_eq!(queue.task_of(run), None);
        assert_eq!(queue.next(Lane::Relay), None);
        queue.ended(run, at(0));
        assert_eq!(queue.next(Lane::Relay), None);
        queue.free(run);
        assert_eq!(queue.next(Lane::Relay), Some(ids[1]));
    }

    #[test]
    fn tidying_up_ends_when_its_time_is_over() {
        let ids = task_ids(1);
        let mut queue = Queue::new(Bounds { relays: 1, queue: 2 });
        assert!(queue.wait(ids[0], Lane::Relay, caller(1)));
        let (run, cancel) = queue.start(ids[0], Some(TIMERS), at(0)).unwrap();
        queue.ended(run, at(1));
        assert_eq!(queue.deadline(), Some(Duration::from_secs(1) + TIDY));
        queue.stop_tidying(at(1));
        assert!(!cancel.is_fired());
        queue.stop_tidying(at(2));
        assert!(cancel.is_fired());
        assert_eq!(queue.deadline(), None);
    }

    #[test]
    fn a_whole_reply_waits_little_for_what_may_follow_it() {
        let ids = task_ids(1);
        let mut queue = Queue::new(Bounds { relays: 1, queue: 2 });
        assert!(queue.wait(ids[0], Lane::Relay, caller(1)));
        let (run, _) = queue.start(ids[0], Some(TIMERS), at(0)).unwrap();
        let end = TurnEnd { finish: Finish::Stop, usage: Usage::default() };
        queue.payload(run, at(5));
        queue.whole(run, end, at(5));
        assert_eq!(queue.late(at(6)), None);
        assert_eq!(queue.late(at(7)).map(|late| late.1), Some(Late::Rest(end)));
    }

    #[test]
    fn each_timer_runs_out_in_its_time() {
        let ids = task_ids(1);
        let mut queue = Queue::new(Bounds { relays: 1, queue: 2 });
        assert!(queue.wait(ids[0], Lane::Relay, caller(1)));
        let (run, _) = queue.start(ids[0], Some(TIMERS), at(0)).unwrap();
        assert_eq!(queue.late(at(59)), None);
        assert_eq!(queue.late(at(60)).map(|late| late.1), Some(Late::First));
        queue.payload(run, at(59));
        assert_eq!(queue.late(at(68)), None);
        assert_eq!(queue.late(at(69)).map(|late| late.1), Some(Late::Idle));
        queue.payload(run, at(95));
        assert_eq!(queue.deadline(), Some(Duration::from_secs(100)));
        assert_eq!(queue.late(at(100)).map(|late| late.1), Some(Late::Turn));
    }
}
