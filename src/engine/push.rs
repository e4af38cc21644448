//! Which webhook hears next of its task, when, how often, and when no more (A2A 1.0 §4.3.3).
//!
//! Every webhook of an unfinished task has its place in a fixed table, so a change always finds room. A notification
//! is the task as it stands when it is sent: while one waits or is under way, further changes only make sure that
//! another look follows. So a slow webhook piles nothing up and still learns how its task ended. Callers take turns,
//! among equals first tries go before retries, and two threads always stay for other hosts than the slowest one.

use std::rc::Rc;
use std::time::Duration;

use crate::a2a::op::{Hook, Principal};
use crate::base::clock::Now;
use crate::base::ids::TaskId;
use crate::base::limits::{PUSH_THREADS, PUSHES};
use crate::base::reach::{Reach, reach};
use crate::config::url::Url;
use crate::work::{Cancel, Lane, PostError, Run};

/// To the first retry; each further one waits twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for a retry, whatever the webhook asks for.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// No retry begins later than this after its change, so that no finished task is kept for a webhook much longer.
const LIFETIME: Duration = Duration::from_mins(5);
/// A thread keeps its own time, except in a look-up; after this much more nobody waits for it.
const SPARE: Duration = Duration::from_secs(5);
/// Deliveries to one host at once.
const SAME_HOST: usize = PUSH_THREADS / 2;
/// Places that one caller may have.
const SHARE: usize = PUSHES / 4 * 3;

/// What the configuration says.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Whether a webhook may lie in a private network.
    pub allow_private: bool,
    /// Tries of one notification, at least one.
    pub attempts: usize,
    /// For one try.
    pub timeout: Duration,
}

/// A webhook that was not told what it should have been.
#[derive(Debug)]
pub struct Lost {
    /// Of this task.
    pub task: TaskId,
    /// Host and port; the rest of a URL may hold secrets.
    pub host: Box<str>,
    /// How often it was tried.
    pub tries: usize,
    /// Why the last time.
    pub error: PostError,
    /// Others since the last one was asked for.
    pub others: u32,
}

#[derive(Debug)]
struct Entry {
    task: TaskId,
    caller: Principal,
    hook: Rc<Hook>,
    stage: Stage,
    /// The task changes no more: the entry goes once it has been told, and the task is held until then.
    is_final: bool,
    /// Tries of this notification.
    tries: usize,
    /// When the task changed.
    since: Duration,
    /// Its place among those that are ready.
    turn: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing to tell.
    Idle,
    /// To be told as soon as a thread is free.
    Ready,
    /// To be told again at this time.
    Waiting(Duration),
    Running {
        run: Run,
        /// The task has changed since.
        dirty: bool,
    },
}

#[derive(Debug)]
struct Running {
    run: Run,
    caller: Principal,
    hook: Rc<Hook>,
    cancel: Cancel,
    /// Until when it is waited for; `None` once it has ended.
    until: Option<Duration>,
}

/// All webhooks that can still be told something.
#[derive(Debug)]
pub struct Pushes {
    policy: Option<Policy>,
    /// Whether webhooks are taken now; those that were taken before are told until their tasks have ended.
    is_open: bool,
    entries: heapless::Vec<Entry, PUSHES>,
    running: heapless::Vec<Running, PUSH_THREADS>,
    runs: u32,
    turns: u64,
    /// No delivery can start until bytes are given back.
    is_parked: bool,
    /// The agent is about to stop: every notification has one try left.
    is_last: bool,
    lost: Option<Lost>,
    delivered: u64,
    given_up: u64,
}

impl Pushes {
    /// An empty table; without a policy nothing is ever delivered.
    pub fn new(policy: Option<Policy>) -> Self {
        Self {
            policy,
            is_open: policy.is_some(),
            entries: heapless::Vec::new(),
            running: heapless::Vec::new(),
            runs: 0,
            turns: 0,
            is_parked: false,
            is_last: false,
            lost: None,
            delivered: 0,
            given_up: 0,
        }
    }

    /// What the configuration says, when it allows webhooks at all.
    pub const fn policy(&self) -> Option<&Policy> {
        if self.is_open { self.policy.as_ref() } else { None }
    }

    /// The configuration says something else now.
    pub fn set_policy(&mut self, policy: Option<Policy>) {
        self.is_open = policy.is_some();
        self.policy = policy.or(self.policy);
        self.is_parked = false;
    }

    /// Whether one more webhook of an unfinished task of `caller` finds a place.
    pub fn has_room(&self, caller: &Principal) -> bool {
        let own = self.entries.iter().filter(|entry| entry.caller == *caller).count();
        !self.entries.is_full() && own < SHARE
    }

    /// Gives the webhook of an unfinished task its place, or that of the one with the same id, which is not called any
    /// more. `false`, changing nothing, when there is no place.
    #[must_use]
    pub fn reserve(&mut self, task: TaskId, caller: &Principal, hook: Rc<Hook>, now: Now) -> bool {
        if let Some(at) = self.position(task, &hook.id) {
            self.stop_running(at);
            let turn = self.turn();
            let entry = &mut self.entries[at];
            entry.hook = hook;
            if entry.stage != Stage::Idle {
                (entry.stage, entry.tries, entry.since) = (Stage::Ready, 0, now.mono);
                entry.turn = turn;
            }
            return true;
        }
        let entry = Entry {
            task,
            caller: caller.clone(),
            hook,
            stage: Stage::Idle,
            is_final: false,
            tries: 0,
            since: now.mono,
            turn: 0,
        };
        self.has_room(caller) && self.entries.push(entry).is_ok()
    }

    /// The webhook is not to be called any more. `true` when its task was held for it.
    #[must_use]
    pub fn forget(&mut self, task: TaskId, hook: &str) -> bool {
        let Some(at) = self.position(task, hook) else { return false };
        self.stop_running(at);
        self.entries.swap_remove(at).is_final
    }

    /// Whether the webhook can still be told something.
    pub fn knows(&self, task: TaskId, hook: &str) -> bool {
        self.position(task, hook).is_some()
    }

    fn position(&self, task: TaskId, hook: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.task == task && *entry.hook.id == *hook)
    }

    fn stop_running(&mut self, at: usize) {
        if let Stage::Running { run, .. } = self.entries[at].stage
            && let Some(job) = self.running.iter().find(|job| job.run == run)
        {
            job.cancel.fire();
        }
    }

    fn turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// The task's state has changed, for the last time when it `is_final`. Returns how many webhooks are to be told: a
    /// final task is held once for each of them.
    pub fn changed(&mut self, task: TaskId, is_final: bool, now: Now) -> usize {
        let mut count = 0;
        for entry in self.entries.iter_mut().filter(|entry| entry.task == task) {
            count += 1;
            entry.is_final = is_final;
            if let Stage::Running { dirty, .. } = &mut entry.stage {
                *dirty = true;
                continue;
            }
            // What waits for a retry keeps its time: a change must not make it knock more often.
            (entry.tries, entry.since) = (0, now.mono);
            if entry.stage == Stage::Idle {
                self.turns += 1;
                (entry.stage, entry.turn) = (Stage::Ready, self.turns);
            }
        }
        count
    }

    /// The webhook whose turn it is, when a thread is free for it.
    pub fn next(&self) -> Option<(TaskId, Rc<Hook>)> {
        if self.running.is_full() || self.is_parked {
            return None;
        }
        let is_free = |entry: &&Entry| {
            let same =
                |job: &&Running| host(&job.hook.url).eq_ignore_ascii_case(host(&entry.hook.url));
            entry.stage == Stage::Ready && self.running.iter().filter(same).count() < SAME_HOST
        };
        let rank = |entry: &&Entry| {
            let load = self.running.iter().filter(|job| job.caller == entry.caller).count();
            (load, entry.tries > 0, entry.turn)
        };
        let next = self.entries.iter().filter(is_free).min_by_key(rank)?;
        Some((next.task, next.hook.clone()))
    }

    /// The next delivery found no bytes, which others hold: nothing starts until some are given back.
    pub fn park(&mut self) {
        self.is_parked = true;
    }

    /// Bytes were given back.
    pub fn unpark(&mut self) {
        self.is_parked = false;
    }

    /// The webhook is being told. `None` when it is not ready, or no thread is free.
    pub fn start(&mut self, task: TaskId, hook: &Rc<Hook>, now: Now) -> Option<(Run, Cancel)> {
        let policy = self.policy?;
        let at = self.position(task, &hook.id)?;
        let entry = &mut self.entries[at];
        if entry.stage != Stage::Ready || self.running.is_full() {
            return None;
        }
        self.runs = self.runs.wrapping_add(1);
        let slot = u16::try_from(task.slot()).ok()?;
        let run = Run { lane: Lane::Push, slot, number: self.runs };
        let cancel = Cancel::default();
        entry.stage = Stage::Running { run, dirty: false };
        entry.tries += 1;
        let job = Running {
            run,
            caller: entry.caller.clone(),
            hook: hook.clone(),
            cancel: cancel.clone(),
            until: Some(now.mono + policy.timeout + SPARE),
        };
        self.running.push(job).ok()?;
        Some((run, cancel))
    }

    /// What became of a try. Returns the task that need not be held for this webhook any longer.
    pub fn ended(&mut self, run: Run, outcome: Result<(), PostError>, now: Now) -> Option<TaskId> {
        if let Some(job) = self.running.iter_mut().find(|job| job.run == run) {
            job.until = None;
        }
        let at = self.entry_of(run)?;
        let wait = outcome.as_ref().err().and_then(|error| self.wait(at, error));
        let turn = self.turn();
        let entry = &mut self.entries[at];
        let is_dirty = matches!(entry.stage, Stage::Running { dirty: true, .. });
        let tries = entry.tries;
        if is_dirty {
            (entry.tries, entry.since) = (0, now.mono);
        }
        let may_retry = is_dirty
            || !self.is_last
                && self.policy.is_some_and(|policy| tries < policy.attempts)
                && wait.is_some_and(|wait| now.mono + wait <= entry.since + LIFETIME);
        entry.stage = match wait {
            Some(wait) if may_retry && !self.is_last => Stage::Waiting(now.mono + wait),
            _ if is_dirty => Stage::Ready,
            _ => Stage::Idle,
        };
        entry.turn = turn;
        match outcome {
            Ok(()) => self.delivered += 1,
            Err(error) if entry.stage == Stage::Idle => {
                self.given_up += 1;
                let others = self.lost.as_ref().map_or(0, |lost| lost.others.saturating_add(1));
                let host = host(&entry.hook.url).into();
                self.lost = Some(Lost { task: entry.task, host, tries, error, others });
            }
            Err(_) => {}
        }
        if entry.stage != Stage::Idle {
            return None;
        }
        entry.tries = 0;
        entry.is_final.then(|| self.entries.swap_remove(at).task)
    }

    /// How long to wait before a failed try is repeated; `None` when it would fail again.
    fn wait(&self, at: usize, error: &PostError) -> Option<Duration> {
        let asked = match error {
            PostError::Failed(_) => Duration::ZERO,
            PostError::Refused { status: 408 | 425 | 429 | 500..=599, retry_after } => {
                retry_after.unwrap_or_default()
            }
            PostError::Refused { .. } | PostError::Forbidden(_) => return None,
        };
        let doubled = u32::try_from(self.entries[at].tries.saturating_sub(1)).unwrap_or(u32::MAX);
        let backoff = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(doubled));
        Some(backoff.max(asked).min(LONGEST_WAIT))
    }

    /// The thread is free again.
    pub fn free(&mut self, run: Run) {
        if let Some(at) = self.running.iter().position(|job| job.run == run) {
            self.running.swap_remove(at);
        }
    }

    /// Lets those whose time has come be told again, and stops a try that takes too long: it still has to end with
    /// [`Pushes::ended`].
    pub fn tick(&mut self, now: Now) -> Option<Run> {
        for at in 0..self.entries.len() {
            if matches!(self.entries[at].stage, Stage::Waiting(until) if until <= now.mono) {
                self.entries[at].stage = Stage::Ready;
                self.entries[at].turn = self.turn();
            }
        }
        let is_late = |job: &&Running| job.until.is_some_and(|until| until <= now.mono);
        let late = self.running.iter().find(is_late)?;
        late.cancel.fire();
        Some(late.run)
    }

    /// When [`Pushes::tick`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        let waiting = self.entries.iter().filter_map(|entry| match entry.stage {
            Stage::Waiting(until) => Some(until),
            Stage::Idle | Stage::Ready | Stage::Running { .. } => None,
        });
        waiting.chain(self.running.iter().filter_map(|job| job.until)).min()
    }

    /// From now on every notification has one try, at once: the agent is about to stop.
    pub fn hurry(&mut self) {
        self.is_last = true;
        for entry in &mut self.entries {
            if matches!(entry.stage, Stage::Waiting(_)) {
                entry.stage = Stage::Ready;
            }
        }
    }

    /// The task that `run` tells of, or `None` when nobody waits for it any more.
    pub fn task_of(&self, run: Run) -> Option<TaskId> {
        self.entry_of(run).map(|at| self.entries[at].task)
    }

    fn entry_of(&self, run: Run) -> Option<usize> {
        let is_running =
            |entry: &Entry| matches!(entry.stage, Stage::Running { run: of, .. } if of == run);
        self.entries.iter().position(is_running)
    }

    /// Webhooks that have a place.
    pub fn reserved(&self) -> usize {
        self.entries.len()
    }

    /// Deliveries under way, those that nobody waits for any more among them.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Notifications that wait for a thread, for their time, or for an answer.
    pub fn pending(&self) -> usize {
        self.entries.iter().filter(|entry| entry.stage != Stage::Idle).count()
    }

    /// How often finished tasks are held: once for each webhook that is still to be told.
    pub fn holds(&self, task: TaskId) -> usize {
        self.entries.iter().filter(|entry| entry.task == task && entry.is_final).count()
    }

    /// Notifications that were taken, and those given up.
    pub const fn counts(&self) -> (u64, u64) {
        (self.delivered, self.given_up)
    }

    /// The last notification that was given up since this was asked, for the log.
    pub fn take_lost(&mut self) -> Option<Lost> {
        self.lost.take()
    }
}

/// Whether a webhook may be at `url`, as far as its text tells; names are looked up when they are called.
///
/// # Errors
/// What the URL must be.
pub fn check(url: &str, allow_private: bool) -> Result<(), &'static str> {
    let parts =
        Url::read(url).ok_or("must be an http or https URL with a host and without user name")?;
    if !url.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b)) {
        return Err("must have what is no character of a URL percent-encoded");
    }
    let reach = match parts.host.parse() {
        Ok(address) => reach(address),
        Err(_) => reach_of_name(parts.host)?,
    };
    match reach {
        Reach::Public => Ok(()),
        Reach::Private if allow_private => Ok(()),
        Reach::Private => Err("is in a private network; push.allow-private = true permits that"),
        Reach::Never => Err("must be the address of one host that is not reserved"),
    }
}

/// Other spellings of addresses than the usual ones are no names: who looks them up gets the address.
fn reach_of_name(host: &str) -> Result<Reach, &'static str> {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = match last.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => last.bytes().all(|b| b.is_ascii_digit()),
    };
    if is_number {
        return Err("must have an address written as four decimal numbers");
    }
    Ok(if last == "localhost" { Reach::Private } else { Reach::Public })
}

/// Host and port of a URL that was checked.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::a2a::dialect::Dialect;
    use crate::base::ids::Ids;

    const POLICY: Policy =
        Policy { allow_private: false, attempts: 5, timeout: Duration::from_secs(15) };
    const NOBODY: PostError = PostError::Failed("nobody");

    fn at(ms: u64) -> Now {
        Now { mono: Duration::from_millis(ms), unix_ms: 0 }
    }

    fn refused(status: u16, retry_after_s: Option<u64>) -> PostError {
        PostError::Refused { status, retry_after: retry_after_s.map(Duration::from_secs) }
    }

    fn task(slot: usize) -> TaskId {
        Ids::new(Box::new(|bytes| bytes.fill(3))).task(slot)
    }

    fn hook(id: &str, url: &str) -> Rc<Hook> {
        Rc::new(Hook {
            id: id.into(),
            url: url.into(),
            token: None,
            authentication: None,
            dialect: Dialect::V1,
        })
    }

    fn caller(last: u8) -> Principal {
        Principal::Address([192, 0, 2, last].into())
    }

    /// A table with one webhook for each task, every one on a host and of a caller of its own.
    fn pushes(tasks: u8) -> Pushes {
        let mut pushes = Pushes::new(Some(POLICY));
        for number in 0..tasks {
            let hook = hook("h", &format!("http://host{number}/secret?key=1"));
            let id = task(usize::from(number));
            assert!(pushes.reserve(id, &caller(number), hook, at(0)));
        }
        pushes
    }

    fn start(pushes: &mut Pushes, now: u64) -> Option<Run> {
        let (task, hook) = pushes.next()?;
        pushes.start(task, &hook, at(now)).map(|(run, _)| run)
    }

    fn end(
        pushes: &mut Pushes,
        run: Run,
        outcome: Result<(), PostError>,
        now: u64,
    ) -> Option<TaskId> {
        let released = pushes.ended(run, outcome, at(now));
        pushes.free(run);
        released
    }

    #[test]
    fn a_failed_try_is_repeated_after_twice_the_time_and_then_given_up() {
        let mut pushes = pushes(1);
        assert_eq!(pushes.changed(task(0), true, at(0)), 1);
        let mut now = 0;
        for wait in [1000, 2000, 4000, 8000] {
            let run = start(&mut pushes, now).unwrap();
            assert_eq!(end(&mut pushes, run, Err(NOBODY), now), None);
            assert_eq!(pushes.deadline(), Some(Duration::from_millis(now + wait)));
            assert_eq!(pushes.tick(at(now + wait - 1)), None);
            assert_eq!(start(&mut pushes, now + wait - 1), None);
            now += wait;
            assert_eq!(pushes.tick(at(now)), None);
        }
        let run = start(&mut pushes, now).unwrap();
        assert_eq!(end(&mut pushes, run, Err(NOBODY), now), Some(task(0)), "the last try");
        assert_eq!((pushes.reserved(), pushes.counts()), (0, (0, 1)));
        let lost = pushes.take_lost().unwrap();
        assert_eq!((&*lost.host, lost.tries, lost.others), ("host0", 5, 0));
        assert!(!format!("{lost:?}").contains("secret"));
        assert!(pushes.take_lost().is_none());
    }

    #[test]
    fn what_would_fail_again_is_not_repeated() {
        for error in [
            refused(400, None),
            refused(401, Some(1)),
            refused(404, None),
            refused(410, None),
            refused(301, None),
            refused(307, None),
            PostError::Forbidden("x"),
        ] {
            let mut pushes = pushes(1);
            pushes.changed(task(0), true, at(0));
            let run = start(&mut pushes, 0).unwrap();
            assert_eq!(end(&mut pushes, run, Err(error.clone()), 1), Some(task(0)), "{error:?}");
        }
    }

    #[test]
    fn a_webhook_may_say_when_to_come_again_within_bounds() {
        for (error, wait) in [
            (refused(429, Some(7)), 7),
            (refused(503, Some(100_000)), 60),
            (refused(503, Some(0)), 1),
            (refused(500, None), 1),
            (refused(408, None), 1),
            (refused(425, None), 1),
        ] {
            let mut pushes = pushes(1);
            pushes.changed(task(0), false, at(0));
            let run = start(&mut pushes, 0).unwrap();
            end(&mut pushes, run, Err(error.clone()), 0);
            assert_eq!(pushes.deadline(), Some(Duration::from_secs(wait)), "{error:?}");
        }
    }

    #[test]
    fn no_retry_begins_later_than_five_minutes_after_the_change() {
        let mut pushes = pushes(1);
        pushes.changed(task(0), true, at(0));
        let run = start(&mut pushes, 299_500).unwrap();
        assert_eq!(end(&mut pushes, run, Err(NOBODY), 299_500), Some(task(0)));
    }

    #[test]
    fn changes_while_a_webhook_is_told_make_one_more_look() {
        let mut pushes = pushes(1);
        pushes.changed(task(0), false, at(0));
        let run = start(&mut pushes, 0).unwrap();
        pushes.changed(task(0), false, at(1));
        pushes.changed(task(0), true, at(2));
        assert_eq!(start(&mut pushes, 2), None, "one at a time");
        assert_eq!(end(&mut pushes, run, Ok(()), 3), None);
        let run = start(&mut pushes, 3).unwrap();
        assert_eq!(end(&mut pushes, run, Ok(()), 4), Some(task(0)));
        assert_eq!((start(&mut pushes, 4), pushes.counts()), (None, (2, 0)));
    }

    #[test]
    fn a_change_gives_a_failing_webhook_all_its_tries_again_but_not_sooner() {
        let mut pushes = pushes(1);
        pushes.changed(task(0), false, at(0));
        let run = start(&mut pushes, 0).unwrap();
        end(&mut pushes, run, Err(NOBODY), 0);
        pushes.changed(task(0), true, at(500));
        assert_eq!(pushes.deadline(), Some(Duration::from_secs(1)));
        pushes.tick(at(1000));
        let run = start(&mut pushes, 1000).unwrap();
        end(&mut pushes, run, Err(NOBODY), 1000);
        assert_eq!(pushes.deadline(), Some(Duration::from_secs(2)), "it counts from the start");
    }

    #[test]
    fn a_refused_change_does_not_keep_the_next_one_from_its_try() {
        let mut pushes = pushes(1);
        pushes.changed(task(0), false, at(0));
        let run = start(&mut pushes, 0).unwrap();
        pushes.changed(task(0), true, at(1));
        assert_eq!(end(&mut pushes, run, Err(refused(404, None)), 1), None);
        let run = start(&mut pushes, 1).unwrap();
        assert_eq!(end(&mut pushes, run, Ok(()), 2), Some(task(0)));
    }

    #[test]
    fn a_told_webhook_keeps_its_place_until_its_task_ends() {
        let mut pushes = pushes(1);
        pushes.changed(task(0), false, at(0));
        let run = start(&mut pushes, 0).unwrap();
        assert_eq!(end(&mut pushes, run, Ok(()), 1), None);
        assert_eq!((pushes.reserved(), pushes.pending(), pushes.holds(task(0))), (1, 0, 0));
        pushes.changed(task(0), true, at(2));
        assert_eq!((pushes.pending(), pushes.holds(task(0))), (1, 1));
        let run = start(&mut pushes, 2).unwrap();
        assert_eq!(end(&mut pushes, run, Ok(()), 3), Some(task(0)));
        assert_eq!((pushes.reserved(), pushes.holds(task(0))), (0, 0));
    }

    #[test]
    fn first_tries_go_before_retries() {
        let mut pushes = pushes(2);
        pushes.changed(task(0), true, at(0));
        let run = start(&mut pushes, 0).unwrap();
        end(&mut pushes, run, Err(NOBODY), 0);
        pushes.tick(at(1000));
        pushes.changed(task(1), true, at(1000));
        assert_eq!(pushes.next().map(|(id, _)| id), Some(task(1)));
    }

    #[test]
    fn one_host_never_has_all_threads_and_callers_take_turns() {
        let mut pushes = Pushes::new(Some(POLICY));
        for number in 0..6 {
            let url = ["http://slow:80/a", "HTTP://SLOW:80/b"][number % 2];
            assert!(pushes.reserve(task(number), &caller(0), hook("h", url), at(0)));
        }
        assert!(pushes.reserve(task(6), &caller(0), hook("h", "http://other"), at(0)));
        assert!(pushes.reserve(task(7), &caller(1), hook("h", "http://third"), at(0)));
        for number in 0..8 {
            pushes.changed(task(number), true, at(0));
        }
        let runs: Vec<u16> =
            std::iter::from_fn(|| start(&mut pushes, 0)).map(|run| run.slot).collect();
        assert_eq!(runs, [0, 7, 1, 6]);
    }

    #[test]
    fn a_full_table_says_so_and_leaves_a_part_to_others() {
        let mut pushes = Pushes::new(Some(POLICY));
        let add = |pushes: &mut Pushes, number: usize, who: u8| {
            pushes.reserve(task(number), &caller(who), hook("h", "http://host"), at(0))
        };
        for number in 0..SHARE {
            assert!(pushes.has_room(&caller(0)) && add(&mut pushes, number, 0));
        }
        assert!(!pushes.has_room(&caller(0)) && !add(&mut pushes, SHARE, 0));
        for number in SHARE..PUSHES {
            assert!(add(&mut pushes, number, 1));
        }
        assert!(!pushes.has_room(&caller(2)) && !add(&mut pushes, PUSHES, 2));
        assert!(add(&mut pushes, 0, 0), "the place of the same webhook");
        assert!(!pushes.forget(task(0), "h"), "a live task is not held");
        assert!(add(&mut pushes, PUSHES, 2));
    }

    #[test]
    fn a_forgotten_webhook_is_stopped_and_its_thread_counts_until_it_is_free() {
        let mut pushes = pushes(1);
        pushes.changed(task(0), true, at(0));
        let (id, hook) = pushes.next().unwrap();
        let (run, cancel) = pushes.start(id, &hook, at(0)).unwrap();
        assert!(pushes.forget(task(0), "h"), "the task was held");
        assert!(cancel.is_fired());
        assert_eq!((pushes.reserved(), pushes.running()), (0, 1));
        assert_eq!(end(&mut pushes, run, Err(NOBODY), 1), None);
        assert_eq!((pushes.running(), pushes.counts()), (0, (0, 0)));
    }

    #[test]
    fn one_callers_first_tries_do_not_keep_another_ones_retry_away() {
        let mut pushes = pushes(1);
        pushes.changed(task(0), true, at(0));
        let run = start(&mut pushes, 0).unwrap();
        end(&mut pushes, run, Err(NOBODY), 0);
        for number in 1..=9 {
            let hook = hook("h", &format!("http://host{number}"));
            assert!(pushes.reserve(task(number), &caller(1), hook, at(1)));
            pushes.changed(task(number), true, at(1));
        }
        assert_eq!(pushes.tick(at(2000)), None);
        let mut told = Vec::new();
        while let Some((id, hook)) = pushes.next() {
            pushes.start(id, &hook, at(2000)).unwrap();
            told.push(id);
        }
        assert_eq!(told, [task(1), task(0), task(2), task(3)]);
    }

    #[test]
    fn a_replaced_webhook_is_stopped_and_the_new_one_told() {
        let mut pushes = pushes(1);
        pushes.changed(task(0), false, at(0));
        let (id, old) = pushes.next().unwrap();
        let (run, cancel) = pushes.start(id, &old, at(0)).unwrap();
        assert!(pushes.reserve(task(0), &caller(0), hook("h", "http://new"), at(1)));
        assert!(cancel.is_fired());
        assert_eq!(end(&mut pushes, run, Ok(()), 2), None);
        assert_eq!(pushes.next().map(|(_, hook)| hook.url.clone()), Some("http://new".into()));
    }

    #[test]
    fn a_try_that_hangs_in_its_look_up_is_not_waited_for() {
        let mut pushes = pushes(1);
        pushes.changed(task(0), true, at(0));
        let run = start(&mut pushes, 0).unwrap();
        let late = POLICY.timeout + SPARE;
        assert_eq!(pushes.deadline(), Some(late));
        let now = Now { mono: late, unix_ms: 0 };
        assert_eq!(pushes.tick(now), Some(run));
        assert_eq!(pushes.ended(run, Err(NOBODY), now), None);
        assert_eq!(pushes.tick(now), None);
        assert_eq!(pushes.running(), 1, "the thread is still there");
        assert_eq!(pushes.ended(run, Ok(()), now), None, "and its word counts no more");
        assert_eq!(pushes.counts(), (0, 0));
    }

    #[test]
    fn an_agent_about_to_stop_tries_once_more_and_at_once() {
        let mut pushes = pushes(2);
        pushes.changed(task(0), true, at(0));
        let run = start(&mut pushes, 0).unwrap();
        end(&mut pushes, run, Err(NOBODY), 0);
        pushes.hurry();
        let run = start(&mut pushes, 1).unwrap();
        assert_eq!(end(&mut pushes, run, Err(NOBODY), 1), Some(task(0)));
        pushes.changed(task(1), true, at(2));
        let run = start(&mut pushes, 2).unwrap();
        assert_eq!(end(&mut pushes, run, Err(refused(503, Some(1))), 2), Some(task(1)));
        assert_eq!((pushes.pending(), pushes.counts()), (0, (0, 2)));
    }

    #[test]
    fn urls_of_the_world_are_taken() {
        for url in [
            "http://example.org",
            "https://example.org./hook",
            "https://hooks.example.org:8443/a/b?c=d&e=%2F#f",
            "HTTPS://EXAMPLE.ORG/",
            "http://8.8.8.8/",
            "http://[2606:4700::1111]:8080/x",
            "http://[64:ff9b::8.8.8.8]/",
            "http://host/",
            "http://nas.local/",
            "http://1and1.example/",
            "http://localhost.example/",
            "http://0x7f.1.example/",
        ] {
            assert_eq!(check(url, false), Ok(()), "{url}");
        }
    }

    #[test]
    fn a_private_url_needs_permission() {
        for url in [
            "http://localhost/",
            "http://LocalHost:8080/",
            "http://localhost./",
            "http://a.localhost",
            "http://a.LOCALHOST./x",
            "http://127.0.0.1/",
            "http://127.255.0.1/",
            "http://10.0.0.1/",
            "http://172.16.0.1:80",
            "http://192.168.1.1/x",
            "http://169.254.1.1",
            "http://100.64.0.1",
            "http://192.0.2.1",
            "http://198.51.100.7",
            "http://203.0.113.9",
            "http://198.18.0.1",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::FFFF:7F00:1]/",
            "http://[::ffff:10.0.0.1]:81/",
            "http://[fd00::1]/",
            "http://[fe80::1]/",
            "http://[2001:db8::1]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[2002:c0a8:101::]/",
        ] {
            let refused = check(url, false).unwrap_err();
            assert!(refused.contains("push.allow-private"), "{url}: {refused}");
            assert_eq!(check(url, true), Ok(()), "{url}");
        }
    }

    #[test]
    fn other_urls_are_never_taken() {
        for url in [
            "",
            "example.org/hook",
            "//example.org",
            "ftp://example.org",
            "file:///etc/passwd",
            "http://",
            "http:///x",
            "http://./",
            "http://example.org../",
            "http://user@example.org/",
            "http://user:pass@example.org/",
            "http://example.org@127.0.0.1/",
            "http://example.org\\@127.0.0.1/",
            "http://127.0.0.1#@example.org:80@x/ y",
            "http://example.org:0/",
            "http://example.org:65536/",
            "http://example.org:/",
            "http://exa mple.org/",
            "http://ex\u{e4}mple.org/",
            "http://example.org/\r\nx: y",
            "http://example.org/<x>",
            "http://example.org/\"x\"",
            "http://example.org/{x}",
            "http://[::1/",
            "http://[::1%25lo]/",
            "http://[fe80::1%eth0]/",
            "http://[127.0.0.1]/",
            "http://::1/",
            // Numbers that a look-up takes for addresses.
            "http://2130706433/",
            "http://0/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0x/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://127.0.0.1./",
            "http://127.0.0.0x1/",
            "http://1.2.3.4.5/",
            "http://256.256.256.256/",
            "http://example.1/",
            // No host, or one that hands out credentials.
            "http://0.0.0.0/",
            "http://0.1.2.3/",
            "http://[::]/",
            "http://[::127.0.0.1]/",
            "http://[::ffff:0.0.0.0]/",
            "http://224.0.0.1/",
            "http://239.255.255.250:1900/",
            "http://255.255.255.255/",
            "http://240.0.0.1/",
            "http://[ff02::1]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[fd00:ec2::254]/",
            "http://100.100.100.200/",
            "http://[2001::1]/",
        ] {
            assert!(check(url, true).is_err(), "{url}");
        }
    }
}
