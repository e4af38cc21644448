//! All decisions and all state. Methods take `&mut self` and [`Now`], return values, never wait, never do I/O.
//!
//! A request enters through [`Engine::handle`]; what threads report enters through [`Engine::apply`]; time enters
//! through [`Engine::tick`]. What waits for a thread leaves through [`Engine::next_job`]. Readers pull with
//! [`Engine::read`] and learn from [`Engine::take_touched`] which tasks have something new.

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod feed;
mod hooks;
pub mod list;
pub mod memory;
pub mod push;
pub mod queue;
pub mod skills;
pub mod stats;
pub mod store;

use std::rc::Rc;
use std::time::Duration;

use smallvec::{SmallVec, smallvec};

use crate::a2a::error::{A2aError, Busy};
use crate::a2a::model::{Artifact, Message, Part, Parts, Status, Task, TaskState};
use crate::a2a::op::{Hook, Operation, Principal, Scope, Send};
use crate::a2a::write::{View, message_len, task_len};
use crate::base::budget::Budget;
use crate::base::clock::Now;
use crate::base::ids::{ContextId, Ids, TaskId};
use crate::base::json::Json;
use crate::base::limits::Limits;
use crate::base::order::sorted;
use crate::engine::feed::{Cursor, ENTRIES, Read};
use crate::engine::hooks::hook_bytes;
use crate::engine::list::Page;
use crate::engine::memory::{Memory, MemoryFull};
use crate::engine::push::{Lost, Policy, Pushes};
use crate::engine::queue::{Bounds, Late, Queue, Timers};
use crate::engine::skills::{Choice, INLINE_TEXT, MEMORY, choose, reads, refusal};
use crate::engine::stats::{RelayEnd, Stats};
use crate::engine::store::{Ask, Full, Pending, Slot, Store};
use crate::llm::{Finish as TurnFinish, ModelError, Role as Speaker, Said, Turn, TurnEnd};
use crate::skills::memory::{Answer, Command, normal_key};
use crate::skills::text_analyzer;
use crate::work::{End, Job, Lane, PostError, Run, Update, Work};

/// Seconds that a busy agent asks a caller to wait.
const RETRY_AFTER_S: u32 = 2;
/// Said in place of a reason that no longer fits; static, so it takes none.
const NO_ROOM: &str = "The task outgrew its place in the store (limits.store-bytes)";

/// Tasks whose readers are woken together: one bit each.
pub const SHARDS: usize = 64;

/// The model that answers what no skill takes.
#[derive(Clone, Debug)]
pub struct Brain {
    /// Its id at the provider.
    pub model: String,
    /// `provider/model`, for people.
    pub label: String,
    /// Where its key comes from, for people.
    pub key_source: String,
    /// The system prompt.
    pub system: Option<String>,
    /// Tokens of one reply.
    pub max_tokens: u32,
    /// How long to wait for it.
    pub timers: Timers,
}

/// What the engine is told at its start, and by a reload.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bounds.
    pub limits: Limits,
    /// Relays at once, and relayed tasks that wait.
    pub bounds: Bounds,
    /// Bytes of one relayed reply.
    pub reply_bytes: usize,
    /// Bytes of earlier messages that are sent along.
    pub context_bytes: usize,
    /// The model, when there is one.
    pub brain: Option<Brain>,
    /// How webhooks are told, when they are told at all.
    pub push: Option<Policy>,
}

/// What the caller of [`Engine::handle`] does next.
#[derive(Debug)]
pub enum Outcome {
    /// Reply with the task as it stands.
    Task {
        /// Which.
        id: TaskId,
        /// Most recent messages wanted.
        history: Option<usize>,
    },
    /// Reply with the task once it is settled.
    Settle {
        /// Which.
        id: TaskId,
        /// Most recent messages wanted.
        history: Option<usize>,
    },
    /// Send the task as it stands, then its events from `cursor` on.
    Follow {
        /// Which.
        id: TaskId,
        /// Where its events begin.
        cursor: Cursor,
        /// Whether the stream stays open while the task waits for input.
        until_final: bool,
    },
    /// Reply with a message that stands for itself.
    Message {
        /// This one.
        message: Rc<Message>,
        /// In this conversation.
        context: ContextId,
    },
    /// Reply with a page of tasks.
    Page(Page),
    /// Reply with a webhook.
    Hook(TaskId, Rc<Hook>),
    /// Reply with all webhooks of a task.
    Hooks(TaskId),
    /// Done, with nothing to say.
    Done,
    /// Reply with the extended card.
    ExtendedCard,
}

/// How a task's work turned out.
#[derive(Debug)]
enum Finish {
    Completed { text: String, data: Option<String> },
    Failed(String),
    Rejected(String),
    Ask(String, Pending),
}

/// The agent's mind.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    ids: Ids,
    store: Store,
    queue: Queue,
    pushes: Pushes,
    memory: Memory,
    work: Budget,
    /// The most that `work` was ever allowed: what came then must still find room.
    widest_work: usize,
    /// Finished work of a task whose caller first sees it working.
    due: Option<(TaskId, Finish)>,
    touched: u64,
    /// Not later than the next moment at which [`Engine::tick`] has something to do.
    deadline: Option<Duration>,
    stats: Stats,
    draining: bool,
    #[cfg(feature = "conformance")]
    plays: conformance::Plays,
}

impl Engine {
    /// An engine without tasks; `ids` is its only source of chance.
    pub fn new(settings: Settings, ids: Ids) -> Self {
        let limits = &settings.limits;
        let budget = Budget::new(limits.store_bytes);
        Self {
            store: Store::new(limits, budget.clone()),
            memory: Memory::new(limits.memory_keys, limits.memory_value_bytes, budget),
            work: Budget::new(limits.work_bytes),
            widest_work: limits.work_bytes,
            queue: Queue::new(settings.bounds),
            pushes: Pushes::new(settings.push),
            due: None,
            touched: 0,
            deadline: None,
            stats: Stats::default(),
            draining: false,
            #[cfg(feature = "conformance")]
            plays: conformance::Plays::default(),
            ids,
            settings,
        }
    }

    /// Puts other settings in force. What was taken before goes on: running jobs keep their timers, unfinished tasks
    /// their room. Returns the bytes of the task store, which are more than was asked for while the memory skill holds
    /// more than its share of them: nothing of that is ever evicted, so tasks would find no room again.
    pub fn configure(&mut self, settings: Settings, now: Now) -> usize {
        let limits = &settings.limits;
        let store_bytes = limits.store_bytes.max(self.memory.bytes() * memory::SHARE);
        self.store.budget().set_limit(store_bytes);
        self.store.set_limits(limits);
        self.memory.set_limits(limits.memory_keys, limits.memory_value_bytes);
        self.work.set_limit(limits.work_bytes);
        self.widest_work = self.widest_work.max(limits.work_bytes);
        self.queue.set_bounds(settings.bounds);
        self.pushes.set_policy(settings.push);
        self.settings = settings;
        // What waits for input may have waited long enough.
        self.arm(now.mono);
        store_bytes
    }

    /// Carries out one request.
    ///
    /// # Errors
    /// The protocol's own; `Busy` when something is full or the agent is about to stop.
    pub fn handle(
        &mut self,
        operation: Operation,
        scope: &Scope,
        now: Now,
    ) -> Result<Outcome, A2aError> {
        #[cfg(feature = "conformance")]
        if let Some(reply) = self.words(&operation) {
            return Ok(reply);
        }
        match operation {
            Operation::SetHook { .. }
            | Operation::GetHook { .. }
            | Operation::ListHooks { .. }
            | Operation::DeleteHook { .. }
                if self.pushes.policy().is_none() =>
            {
                Err(A2aError::PushNotificationNotSupported)
            }
            Operation::Send(send) => {
                let (blocking, history) = (send.blocking, send.history);
                let id = self.submit(send, scope, now)?;
                if blocking {
                    self.run_due(now);
                    Ok(Outcome::Settle { id, history })
                } else {
                    Ok(Outcome::Task { id, history })
                }
            }
            Operation::Stream(send) => {
                let id = self.submit(Send { blocking: true, ..send }, scope, now)?;
                self.follow(id, false)
            }
            Operation::Get { id, history } => {
                self.store.seen(id, scope).ok_or(A2aError::TaskNotFound)?;
                Ok(Outcome::Task { id, history })
            }
            Operation::List(filter) => Ok(Outcome::Page(self.list(*filter, scope))),
            Operation::Cancel { id } => {
                let at = self.store.seen(id, scope).ok_or(A2aError::TaskNotFound)?;
                self.cancel(at, now)?;
                Ok(Outcome::Task { id, history: None })
            }
            Operation::Subscribe { id } => {
                let at = self.store.seen(id, scope).ok_or(A2aError::TaskNotFound)?;
                let slot = self.store.slot(at).ok_or(A2aError::TaskNotFound)?;
                if slot.task.status.state.is_final() {
                    return Err(A2aError::UnsupportedOperation(
                        "the task has ended; get it instead".to_owned(),
                    ));
                }
                self.follow(id, true)
            }
            Operation::SetHook { id, hook } => {
                let at = self.store.owned(id, scope).ok_or(A2aError::TaskNotFound)?;
                self.may_call(&hook, false)?;
                Ok(Outcome::Hook(id, self.set_hook(at, *hook, now)?))
            }
            Operation::GetHook { id, hook } => {
                let at = self.store.owned(id, scope).ok_or(A2aError::TaskNotFound)?;
                let hooks = self.store.slot(at).map_or(&[][..], |slot| &slot.hooks);
                let named = |known: &&Rc<Hook>| hook.as_ref().is_none_or(|id| known.id == *id);
                let hook = hooks.iter().find(named).ok_or(A2aError::TaskNotFound)?;
                Ok(Outcome::Hook(id, hook.clone()))
            }
            Operation::ListHooks { id } => {
                self.store.owned(id, scope).ok_or(A2aError::TaskNotFound)?;
                Ok(Outcome::Hooks(id))
            }
            Operation::DeleteHook { id, hook } => {
                let at = self.store.owned(id, scope).ok_or(A2aError::TaskNotFound)?;
                self.drop_hook(at, id, &hook);
                Ok(Outcome::Done)
            }
            Operation::ExtendedCard => Ok(Outcome::ExtendedCard),
        }
    }

    fn follow(&self, id: TaskId, until_final: bool) -> Result<Outcome, A2aError> {
        let slot = self.slot(id).ok_or(A2aError::TaskNotFound)?;
        Ok(Outcome::Follow { id, cursor: slot.feed.end(&slot.task), until_final })
    }

    fn submit(&mut self, send: Send, scope: &Scope, now: Now) -> Result<TaskId, A2aError> {
        if self.draining {
            return Err(self.busy(Busy::Stopping));
        }
        if let Some(hook) = &send.hook {
            self.may_call(hook, true)?;
        }
        if let Some(id) = send.task {
            return self.carry_on(id, send, scope, now);
        }
        #[cfg(feature = "conformance")]
        if self.plays.is_on() {
            return self.play_new(send, scope, now);
        }
        let has_model = self.settings.brain.is_some();
        let message = send.message.clone();
        let text = message.text();
        let is_plain = message.parts.iter().all(|part| part.text().is_some());
        if is_plain && text.trim().is_empty() {
            return Err(A2aError::InvalidParams(
                "message.parts: No text content in message".to_owned(),
            ));
        }
        let mut choice = choose(&text, send.skill.as_deref(), has_model)?;
        let readable = if is_plain { text.clone() } else { message.readable() };
        if let (Choice::Chat | Choice::Nobody, false, None) = (&choice, is_plain, &send.skill)
            && let Some(request) = text_analyzer::claim(&readable)
        {
            choice = Choice::Analyze(request.subject);
        }
        if !is_plain
            && has_model
            && send.skill.is_none()
            && reads(choice.skill(), &message).is_err()
        {
            // The skill understood the text, which is not the whole message.
            choice = Choice::Chat;
        }
        reads(choice.skill(), &message)?;
        let ask = match &choice {
            Choice::Chat => Some(Ask::Turn),
            Choice::Device => Some(Ask::Device),
            Choice::Analyze(subject) if subject.len() > INLINE_TEXT || !is_plain => {
                Some(Ask::Analyze)
            }
            _ => None,
        };
        if let Some(ask) = ask
            && !self.queue.has_room(ask.lane())
        {
            return Err(self.busy(Busy::Queue));
        }
        let at = self.keep(send, scope, now)?;
        let slot = self.store.slot_mut(at).expect("it was just stored");
        let id = slot.task.id;
        if let Some(ask) = ask {
            slot.ask = Some(ask);
            let has_room = self.queue.wait(id, ask.lane(), scope.who.clone());
            debug_assert!(has_room, "the lane was asked before the task was stored");
        } else {
            let finish = self.perform(choice, scope);
            self.due = Some((id, finish));
        }
        Ok(id)
    }

    /// Stores a new task with its first message, to be worked on.
    fn keep(&mut self, send: Send, scope: &Scope, now: Now) -> Result<usize, A2aError> {
        if send.hook.is_some() && !self.pushes.has_room(&scope.who) {
            return Err(self.busy(Busy::Webhooks));
        }
        let message = send.message;
        let context_bytes = send.context.as_ref().map_or(0, ContextId::heap_bytes);
        let hook = send.hook.map(|hook| self.named(*hook));
        let hook_bytes = hook.as_deref().map_or(0, hook_bytes);
        let bytes = message.heap_bytes() + 16 + context_bytes + hook_bytes;
        let stored = self.store.insert(&mut self.ids, scope, bytes, |id, ids| Task {
            id,
            context: send.context.unwrap_or_else(|| ids.context()),
            status: Status {
                state: TaskState::Working,
                message: (!send.blocking).then(|| message.clone()),
                unix_ms: now.unix_ms,
            },
            history: smallvec![message.clone()],
            artifacts: SmallVec::new(),
            metadata: None,
            loose: send.loose,
        });
        let at = match stored {
            Ok(at) => at,
            Err(Full::Store) => return Err(self.busy(Busy::Store)),
            Err(Full::Share) => return Err(self.busy(Busy::Share)),
            Err(Full::Task) => {
                return Err(A2aError::InvalidParams(format!(
                    "message: one task may hold {} bytes",
                    self.settings.limits.task_bytes()
                )));
            }
        };
        self.stats.submitted += 1;
        let slot = self.store.slot_mut(at).expect("it was just stored");
        if let Some(hook) = hook {
            slot.hooks.push(hook.clone());
            let id = slot.task.id;
            let has_place = self.pushes.reserve(id, &scope.who, hook, now);
            debug_assert!(has_place, "the table was asked before the task was stored");
        }
        Ok(at)
    }

    /// The next message of a task that asked for one.
    fn carry_on(
        &mut self,
        id: TaskId,
        send: Send,
        scope: &Scope,
        now: Now,
    ) -> Result<TaskId, A2aError> {
        // A question is answered by the one who was asked: what is stored, is stored for its caller.
        let at = self.store.owned(id, scope).ok_or(A2aError::TaskNotFound)?;
        let slot = self.store.slot(at).ok_or(A2aError::TaskNotFound)?;
        if send.context.as_ref().is_some_and(|context| *context != slot.task.context) {
            return Err(A2aError::InvalidParams(
                "message.contextId: the task belongs to another context".to_owned(),
            ));
        }
        let state = slot.task.status.state;
        #[cfg(feature = "conformance")]
        if self.plays.is_on() && !state.is_final() {
            return self.play_on(at, send, now);
        }
        let Some((pending, _)) = slot.pending.clone() else {
            let what = if state.is_final() {
                "the task has ended; send the message without taskId"
            } else {
                "the task is being worked on and takes no further message"
            };
            return Err(A2aError::UnsupportedOperation(what.to_owned()));
        };
        let message = send.message.clone();
        reads(Some(&MEMORY), &message)?;
        let text = message.text();
        if text.trim().is_empty() {
            return Err(A2aError::InvalidParams(
                "message.parts: No text content in message".to_owned(),
            ));
        }
        self.add(at, send, now)?;
        let command = crate::skills::memory::complete(pending.command(), &text);
        let finish = self.remember(command, scope);
        self.due = Some((id, finish));
        Ok(id)
    }

    /// Adds a message to the task that waited for it; the work goes on.
    fn add(&mut self, at: usize, send: Send, now: Now) -> Result<(), A2aError> {
        let message = send.message;
        let bytes = message.heap_bytes() + 64;
        self.store.grow(at, bytes).map_err(|_| self.busy(Busy::Growth))?;
        // Last of what can fail: a message that is refused leaves no webhook behind.
        if let Some(hook) = send.hook
            && let Err(error) = self.set_hook(at, *hook, now)
        {
            self.store.shrink(at, bytes);
            return Err(error);
        }
        let slot = self.store.slot_mut(at).ok_or(A2aError::TaskNotFound)?;
        slot.pending = None;
        let question = slot.task.status.message.take();
        slot.task.history.extend(question);
        slot.task.history.push(message.clone());
        let echo = (!send.blocking).then(|| message.clone());
        self.set_status(at, TaskState::Working, echo, now);
        Ok(())
    }

    /// What a skill makes of its message, at once.
    fn perform(&mut self, choice: Choice<'_>, scope: &Scope) -> Finish {
        match choice {
            Choice::Calculate(expression) => {
                match expression.and_then(|expression| expression.evaluate()) {
                    Ok(value) => Finish::Completed { text: value.text(), data: None },
                    Err(error) => Finish::Failed(format!("Cannot calculate: {error}")),
                }
            }
            Choice::Analyze(subject) => {
                let report = text_analyzer::analyze(subject);
                Finish::Completed { text: report.text(), data: Some(report.json()) }
            }
            Choice::Memory(Ok(command)) => self.remember(command, scope),
            Choice::Memory(Err(error)) => Finish::Failed(format!("Cannot do that: {error}")),
            Choice::Device | Choice::Chat => Finish::Failed("not done at once".to_owned()),
            Choice::Nobody => Finish::Rejected(refusal()),
        }
    }

    fn remember(&mut self, command: Command<'_>, scope: &Scope) -> Finish {
        if command.missing().is_some() {
            return Finish::Ask(command.question(), Pending::of(&command));
        }
        let done = |answer: Answer<'_>| Finish::Completed { text: answer.to_string(), data: None };
        let key = match &command {
            Command::Store { key, .. } | Command::Recall { key } | Command::Forget { key } => {
                match normal_key(key.unwrap_or_default()) {
                    Ok(key) => key,
                    Err(error) => return Finish::Failed(format!("Cannot do that: {error}")),
                }
            }
            Command::List => String::new(),
        };
        match command {
            Command::Store { value, .. } => {
                let value = value.unwrap_or_default();
                self.store.make_room(Memory::cost(&key, value));
                match self.memory.store(scope, &key, value) {
                    Ok(replaced) => done(Answer::Stored { key: &key, replaced }),
                    Err(full) => Finish::Failed(self.memory_full(full)),
                }
            }
            Command::Recall { .. } => match self.memory.recall(scope, &key) {
                Some(value) => done(Answer::Recalled { key: &key, value }),
                None => self.unknown(&key, scope),
            },
            Command::List => {
                let keys: Vec<&str> = self.memory.keys(scope).collect();
                done(Answer::Listed(&keys))
            }
            Command::Forget { .. } => {
                if self.memory.forget(scope, &key) {
                    done(Answer::Forgotten { key: &key })
                } else {
                    self.unknown(&key, scope)
                }
            }
        }
    }

    fn unknown(&self, key: &str, scope: &Scope) -> Finish {
        let known: Vec<&str> = self.memory.keys(scope).collect();
        let text = Answer::Unknown { key, known: &known }.to_string();
        Finish::Completed { text, data: None }
    }

    fn memory_full(&self, full: MemoryFull) -> String {
        let limits = &self.settings.limits;
        match full {
            MemoryFull::Keys => Answer::Full { keys: limits.memory_keys }.to_string(),
            MemoryFull::Value => {
                Answer::ValueTooLong { limit_bytes: limits.memory_value_bytes }.to_string()
            }
            MemoryFull::Bytes => "Memory is full: forget something first".to_owned(),
        }
    }

    /// Finishes the task whose caller has now seen it working.
    pub fn run_due(&mut self, now: Now) {
        if let Some((id, finish)) = self.due.take()
            && let Some(at) = self.store.find(id)
        {
            self.finish(at, finish, now);
        }
    }

    fn finish(&mut self, at: usize, finish: Finish, now: Now) {
        match finish {
            Finish::Completed { text, data } => {
                let mut parts: Parts = smallvec![Part::plain(text)];
                parts.extend(data.map(Part::data));
                let artifact = Artifact::whole("result", "Result", parts);
                // The text is shared between the artifact and the status message.
                let text = artifact.parts[0].clone();
                if self.give(at, artifact).is_err() {
                    self.end(at, TaskState::Failed, "The result does not fit the task store", now);
                    return;
                }
                let Some(slot) = self.store.slot_mut(at) else { return };
                let message = slot.say(text);
                self.set_status(at, TaskState::Completed, Some(message), now);
            }
            Finish::Failed(text) => self.end(at, TaskState::Failed, &text, now),
            Finish::Rejected(text) => self.end(at, TaskState::Rejected, &text, now),
            Finish::Ask(question, pending) => {
                if self.store.grow(at, pending.heap_bytes()).is_err() {
                    self.end(at, TaskState::Failed, "The message does not fit the task store", now);
                    return;
                }
                self.end(at, TaskState::InputRequired, &question, now);
                let Some(slot) = self.store.slot_mut(at) else { return };
                slot.pending = Some((pending, now));
                self.arm(now.mono + self.settings.limits.input_wait);
            }
        }
    }

    /// Adds a whole artifact to a task.
    fn give(&mut self, at: usize, artifact: Artifact) -> Result<(), Full> {
        self.store.grow(at, artifact.heap_bytes())?;
        let slot = self.store.slot_mut(at).ok_or(Full::Task)?;
        if slot.is_read() {
            slot.feed.whole(slot.task.artifacts.len());
        }
        slot.task.artifacts.push(artifact);
        self.touch(at);
        Ok(())
    }

    /// Sets a state with a text of the agent's own; when no byte is left for the text, without it.
    fn end(&mut self, at: usize, state: TaskState, text: &str, now: Now) {
        let fits = self.store.grow(at, text.len()).is_ok();
        let Some(slot) = self.store.slot_mut(at) else { return };
        let part = Part::plain(if fits { text } else { NO_ROOM });
        if let Some(artifact) = slot.task.artifacts.last_mut()
            && artifact.parts.is_empty()
        {
            artifact.seal();
        }
        let message = slot.say(part);
        self.set_status(at, state, Some(message), now);
    }

    fn set_status(
        &mut self,
        at: usize,
        state: TaskState,
        message: Option<Rc<Message>>,
        now: Now,
    ) -> bool {
        let changed = self.store.set_status(at, Status { state, message, unix_ms: now.unix_ms });
        if changed {
            self.touch(at);
            if let Some(id) = self.store.slot(at).map(|slot| slot.task.id) {
                let untold = self.pushes.changed(id, state.is_final(), now);
                for _ in 0..if state.is_final() { untold } else { 0 } {
                    self.store.attach(id);
                }
            }
            match state {
                TaskState::Completed => self.stats.completed += 1,
                TaskState::Failed => self.stats.failed += 1,
                TaskState::Canceled => self.stats.canceled += 1,
                TaskState::Rejected => self.stats.rejected += 1,
                TaskState::Submitted
                | TaskState::Working
                | TaskState::InputRequired
                | TaskState::AuthRequired => {}
            }
        }
        changed
    }

    fn cancel(&mut self, at: usize, now: Now) -> Result<(), A2aError> {
        let task = &self.store.slot(at).ok_or(A2aError::TaskNotFound)?.task;
        let (id, state) = (task.id, task.status.state);
        if state.is_final() {
            return Err(A2aError::TaskNotCancelable(state));
        }
        self.drop_job(id);
        self.end(at, TaskState::Canceled, "Canceled by the caller", now);
        Ok(())
    }

    /// Nobody waits any more for what a task's job would say.
    fn drop_job(&mut self, id: TaskId) {
        if self.queue.drop_task(id) == Some(Lane::Relay) {
            self.stats.relay_ended(RelayEnd::Canceled);
        }
    }

    fn busy(&mut self, what: Busy) -> A2aError {
        self.stats.busy += 1;
        A2aError::Busy { retry_after_s: RETRY_AFTER_S, what }
    }

    /// The next piece of work for a thread of `lane`, when one is free.
    pub fn next_job(&mut self, lane: Lane, now: Now) -> Option<Job> {
        if lane == Lane::Push {
            return self.next_post(now);
        }
        loop {
            let id = self.queue.next(lane)?;
            let Some((work, bytes)) = self.work_of(id) else {
                self.queue.drop_task(id);
                if let Some(at) = self.store.find(id)
                    && self.store.slot(at).is_some_and(|slot| slot.ask.is_some())
                {
                    self.end(at, TaskState::Failed, "No model is configured any more", now);
                }
                continue;
            };
            let running = [Lane::Relay, Lane::Local].map(|lane| self.queue.running_in(lane));
            let is_alone = running.iter().sum::<usize>() + self.pushes.running() == 0;
            let limit = if is_alone { self.widest_work } else { self.work.limit() };
            let Some(lease) = self.work.take_within(bytes, limit) else {
                if !is_alone {
                    // The next job that ends gives its bytes back, and asks again.
                    self.queue.park();
                    return None;
                }
                self.queue.drop_task(id);
                if let Some(at) = self.store.find(id) {
                    self.end(at, TaskState::Failed, "The message is too long to be worked on", now);
                }
                continue;
            };
            let timers = match lane {
                Lane::Relay => self.settings.brain.as_ref().map(|brain| brain.timers),
                Lane::Local | Lane::Push => None,
            };
            let (run, cancel) = self.queue.start(id, timers, now)?;
            self.stats.relays += u64::from(lane == Lane::Relay);
            self.arm_jobs();
            return Some(Job { run, work, cancel, lease });
        }
    }

    /// What the task waits for, and the bytes of it.
    fn work_of(&self, id: TaskId) -> Option<(Work, usize)> {
        let slot = self.slot(id)?;
        let last = slot.task.history.last()?;
        match slot.ask? {
            Ask::Turn => {
                let turn = self.turn(slot)?;
                let said: usize = turn.said.iter().map(|said| said.text.len() + 48).sum();
                let system = turn.system.as_ref().map_or(0, String::len);
                // The request's JSON is as long again, and the reply's line buffer is bounded by itself.
                Some((Work::Turn(turn), 2 * (said + system) + 4096))
            }
            Ask::Device => Some((Work::Device, 4096)),
            Ask::Analyze => {
                let text = text_analyzer::subject(&last.readable()).to_owned();
                let bytes = text.len() + 64 * 1024;
                Some((Work::Analyze(text), bytes))
            }
        }
    }

    /// The conversation so far: earlier tasks of the caller that are of the same context or referred to, newest first
    /// until the bytes are used.
    fn turn(&self, slot: &Slot) -> Option<Turn> {
        let brain = self.settings.brain.as_ref()?;
        let last = slot.task.history.last()?;
        let (message, references) = (last.readable().into_owned(), last.references());
        let earlier: Vec<&Slot> = self
            .store
            .iter()
            .map(|(_, other)| other)
            .filter(|other| {
                other.sequence < slot.sequence
                    && other.task.status.state == TaskState::Completed
                    && (other.task.context == slot.task.context
                        || references.contains(&other.task.id))
                    && other.caller == slot.caller
                    && other.tenant == slot.tenant
            })
            .collect();
        let mut room = self.settings.context_bytes.saturating_sub(message.len());
        let mut said = vec![Said { role: Speaker::User, text: message }];
        for other in sorted(earlier, |a, b| a.sequence > b.sequence) {
            let asked = other.task.history.first().map(|first| first.readable());
            let answered = other.task.status.message.as_ref().map(|last| last.text());
            let (Some(asked), Some(answered)) = (asked, answered) else { continue };
            let Some(left) = room.checked_sub(asked.len() + answered.len()) else { break };
            room = left;
            said.push(Said { role: Speaker::Assistant, text: answered.into_owned() });
            said.push(Said { role: Speaker::User, text: asked.into_owned() });
        }
        said.reverse();
        Some(Turn {
            model: brain.model.clone(),
            system: brain.system.clone(),
            said,
            max_tokens: brain.max_tokens,
        })
    }

    /// Takes in what a thread reports. Words of a job that nobody waits for any more are dropped.
    pub fn apply(&mut self, update: Update, now: Now) {
        match update {
            Update::Free(run) => {
                if run.lane == Lane::Push {
                    self.pushes.free(run);
                    self.queue.unpark();
                } else {
                    self.queue.free(run);
                }
                self.pushes.unpark();
            }
            Update::Ended(run, End::Post(outcome)) => self.posted(run, outcome, now),
            Update::Alive(run) => {
                self.queue.payload(run, now);
                self.arm_jobs();
            }
            Update::Whole(run, end) => {
                self.queue.whole(run, end, now);
                self.arm_jobs();
            }
            Update::Text(run, text) => {
                self.queue.payload(run, now);
                self.arm_jobs();
                let task = self.queue.task_of(run).and_then(|id| self.store.find(id));
                if let Some(at) = task
                    && let Err(error) = self.append(at, &text)
                {
                    self.abandon(run, at, &error, now);
                }
            }
            Update::Ended(run, end) => {
                let task = self.queue.task_of(run).and_then(|id| self.store.find(id));
                self.queue.ended(run, now);
                self.arm_jobs();
                let Some(at) = task else { return };
                match end {
                    End::Local { text, json } => {
                        self.finish(at, Finish::Completed { text, data: Some(json) }, now);
                    }
                    End::Turn(Ok(turn)) => self.complete(at, &turn, now),
                    End::Turn(Err(error)) => self.fail(at, &error, now),
                    End::Post(_) => {}
                }
            }
        }
    }

    /// Adds to the reply of a relayed task.
    fn append(&mut self, at: usize, text: &str) -> Result<(), ModelError> {
        let limit = self.settings.reply_bytes;
        let slot = self.store.slot(at).ok_or(ModelError::Canceled)?;
        let (length, capacity) = slot
            .task
            .artifacts
            .last()
            .map_or((0, 0), |last| (last.growing.len(), last.growing.capacity()));
        let length = length + text.len();
        if length > limit {
            return Err(ModelError::TooLarge { limit });
        }
        let first = slot.task.artifacts.is_empty();
        let overhead = if first { size_of::<Artifact>() + ENTRIES * 64 } else { 0 };
        let mut wanted = capacity;
        if length > capacity {
            wanted = (capacity * 2).max(length).max(256).min(limit);
            if self.store.grow(at, wanted - capacity + overhead).is_err() {
                wanted = length;
                self.store
                    .grow(at, wanted - capacity + overhead)
                    .map_err(|_| ModelError::TooLarge { limit: capacity })?;
            }
        }
        let slot = self.store.slot_mut(at).ok_or(ModelError::Canceled)?;
        if first {
            slot.task.artifacts.push(Artifact::whole("reply", "Reply", Parts::new()));
        }
        let index = slot.task.artifacts.len() - 1;
        let growing = &mut slot.task.artifacts[index].growing;
        growing.reserve_exact(wanted.saturating_sub(growing.len()));
        growing.push_str(text);
        if slot.is_read() {
            slot.feed.grown(index, length);
        }
        self.touch(at);
        Ok(())
    }

    /// Ends a task whose job is still running.
    fn abandon(&mut self, run: Run, at: usize, error: &ModelError, now: Now) {
        if let Some(id) = self.queue.task_of(run) {
            self.queue.drop_task(id);
        }
        self.fail(at, error, now);
    }

    fn fail(&mut self, at: usize, error: &ModelError, now: Now) {
        if self.store.slot(at).is_some_and(|slot| slot.ask == Some(Ask::Turn)) {
            self.stats.relay_ended(RelayEnd::failed(error));
        }
        let key_source = self.settings.brain.as_ref().map_or("the key", |brain| &*brain.key_source);
        let text = error.explain(key_source).to_string();
        self.end(at, TaskState::Failed, &text, now);
    }

    /// The model has ended its reply.
    fn complete(&mut self, at: usize, turn: &TurnEnd, now: Now) {
        let metadata = self.turn_metadata(turn);
        let fits = self.store.grow(at, metadata.len() + 32).is_ok();
        let Some(slot) = self.store.slot_mut(at) else { return };
        slot.task.metadata = fits.then(|| metadata.into());
        let is_empty = slot.task.artifacts.is_empty();
        self.stats.spent(turn.usage);
        self.stats.relay_ended(match RelayEnd::finished(turn.finish) {
            RelayEnd::Ok if is_empty => RelayEnd::Empty,
            end => end,
        });
        let refusal = match turn.finish {
            TurnFinish::Stop | TurnFinish::Length | TurnFinish::Other => None,
            TurnFinish::Filtered => Some("The provider's content filter stopped the reply"),
            TurnFinish::Refused => Some("The model refused to answer"),
            TurnFinish::Tools => Some("The model asked for a tool, and this agent offers none"),
        };
        if let Some(refusal) = refusal {
            self.end(at, TaskState::Failed, refusal, now);
            return;
        }
        let Some(reply) = slot.task.artifacts.last_mut() else {
            self.end(at, TaskState::Failed, "The model ended without a word", now);
            return;
        };
        let part = reply.seal();
        let message = slot.say(part);
        self.set_status(at, TaskState::Completed, Some(message), now);
    }

    fn turn_metadata(&self, turn: &TurnEnd) -> String {
        let mut json = Json::with_capacity(96);
        json.open_object();
        if let Some(brain) = &self.settings.brain {
            json.member("model", &brain.label);
        }
        json.member("finishReason", turn.finish.name());
        for (name, tokens) in
            [("inputTokens", turn.usage.input), ("outputTokens", turn.usage.output)]
        {
            if let Some(tokens) = tokens {
                json.key(name);
                json.number(tokens);
            }
        }
        json.close_object();
        json.into_string()
    }

    /// Does what is due by time alone.
    pub fn tick(&mut self, now: Now) {
        while let Some((id, late, after)) = self.queue.late(now) {
            let end = match late {
                Late::First => Err(ModelError::Stalled { after, first: true }),
                Late::Idle => Err(ModelError::Stalled { after, first: false }),
                Late::Turn => Err(ModelError::TurnTooLong { after }),
                Late::Rest(end) => Ok(end),
            };
            self.queue.drop_task(id);
            let Some(at) = self.store.find(id) else { continue };
            match end {
                Ok(turn) => self.complete(at, &turn, now),
                Err(error) => self.fail(at, &error, now),
            }
        }
        self.queue.stop_tidying(now);
        while let Some(run) = self.pushes.tick(now) {
            self.posted(run, Err(PostError::Failed("no answer in time")), now);
        }
        #[cfg(feature = "conformance")]
        self.advance(now);
        let input = loop {
            match self.store.expired(now) {
                (Some(at), _) => {
                    if let Some(slot) = self.store.slot_mut(at) {
                        slot.pending = None;
                    }
                    self.end(at, TaskState::Failed, "No answer came in time", now);
                }
                (None, next) => break next,
            }
        };
        let deadlines = [self.queue.deadline(), self.pushes.deadline(), input];
        self.deadline = deadlines.into_iter().flatten().min();
        #[cfg(feature = "conformance")]
        self.arm_plays();
    }

    /// Whatever a job reports can bring its next timer nearer: silence is given less time than a first word.
    fn arm_jobs(&mut self) {
        if let Some(deadline) = self.queue.deadline() {
            self.arm(deadline);
        }
    }

    fn arm_pushes(&mut self) {
        if let Some(deadline) = self.pushes.deadline() {
            self.arm(deadline);
        }
    }

    fn arm(&mut self, deadline: Duration) {
        self.deadline = Some(self.deadline.map_or(deadline, |armed| armed.min(deadline)));
    }

    /// When [`Engine::tick`] wants to be called next, on [`Now::mono`]'s scale.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// From now on no message is taken, and no notification is tried again.
    pub fn drain(&mut self) {
        self.draining = true;
        self.pushes.hurry();
    }

    /// Whether the agent is about to stop.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Ends every task that is not finished, because the agent stops now.
    pub fn stop(&mut self, now: Now) {
        self.drain();
        let live: Vec<TaskId> = self
            .store
            .iter()
            .filter(|(_, slot)| !slot.task.status.state.is_final())
            .map(|(_, slot)| slot.task.id)
            .collect();
        for id in live {
            self.drop_job(id);
            if let Some(at) = self.store.find(id) {
                self.end(at, TaskState::Failed, "The agent stopped before the task was done", now);
            }
        }
    }

    fn drop_hook(&mut self, at: usize, id: TaskId, hook: &str) {
        if let Some(slot) = self.store.slot_mut(at)
            && let Some(known) = slot.hooks.iter().position(|known| *known.id == *hook)
        {
            let gone = slot.hooks.remove(known);
            self.store.shrink(at, hook_bytes(&gone));
        }
        if self.pushes.forget(id, hook) {
            self.store.detach(id);
        }
    }

    /// Forgets the hooks of all callers but those.
    pub fn keep_hooks(&mut self, keeps: impl Fn(&Principal) -> bool) {
        let others = self.store.iter().filter(|(_, slot)| !keeps(&slot.caller));
        let gone: Vec<(usize, TaskId, Rc<Hook>)> = others
            .flat_map(|(at, slot)| {
                slot.hooks.iter().map(move |hook| (at, slot.task.id, hook.clone()))
            })
            .collect();
        for (at, id, hook) in gone {
            self.drop_hook(at, id, &hook.id);
        }
    }

    /// Who sent the task with this id.
    pub fn owner(&self, id: TaskId) -> Option<&Principal> {
        self.slot(id).map(|slot| &slot.caller)
    }

    /// The task with this id.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.slot(id).map(|slot| &slot.task)
    }

    /// Bytes that a reply to `send` takes at most when it comes at once: the message, and the task that it continues.
    pub fn reply_len(&self, send: &Send, scope: &Scope) -> usize {
        // Unless the caller waits, the message is the task's state, too.
        let said = message_len(&send.message) * if send.blocking { 1 } else { 2 };
        let context = send.context.as_ref().map_or(0, |context| 2 * context.heap_bytes());
        let earlier = send.task.and_then(|id| self.store.slot(self.store.owned(id, scope)?));
        // A new task's head, or an old task whole.
        said + 4 * context + earlier.map_or(4096, |slot| task_len(&slot.task, View::WHOLE) + 4096)
    }

    fn slot(&self, id: TaskId) -> Option<&Slot> {
        self.store.slot(self.store.find(id)?)
    }

    /// The next event of a task after `cursor`, which moves on; `None` when there is no such task.
    pub fn read<'a>(&'a self, id: TaskId, cursor: &mut Cursor) -> Option<Read<'a>> {
        let slot = self.slot(id)?;
        Some(slot.feed.read(&slot.task, cursor))
    }

    /// A reader holds on to a task; every `true` needs a [`Engine::detach`].
    pub fn attach(&mut self, id: TaskId) -> bool {
        self.store.attach(id)
    }

    /// The reader is gone.
    pub fn detach(&mut self, id: TaskId) {
        self.store.detach(id);
    }

    fn touch(&mut self, at: usize) {
        self.touched |= 1 << (at % SHARDS);
    }

    /// Which tasks changed since this was asked last: a bit for every slot number modulo [`SHARDS`].
    pub fn take_touched(&mut self) -> u64 {
        std::mem::take(&mut self.touched)
    }

    /// Whether a thread could start something now.
    pub fn has_job(&self) -> bool {
        self.queue.has_next() || self.pushes.next().is_some()
    }

    /// The tasks.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The jobs.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The webhooks that can still be told something.
    pub fn pushes(&self) -> &Pushes {
        &self.pushes
    }

    /// The last notification that was given up since this was asked, for the log.
    pub fn take_lost(&mut self) -> Option<Lost> {
        self.pushes.take_lost()
    }

    /// Bytes handed to threads.
    pub fn work(&self) -> &Budget {
        &self.work
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        let (pushed, push_failed) = self.pushes.counts();
        Stats { pushed, push_failed, ..self.stats }
    }

    /// `provider/model`, when there is one.
    pub fn model(&self) -> Option<&str> {
        self.settings.brain.as_ref().map(|brain| &*brain.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::a2a::dialect::Dialect;
    use crate::a2a::model::{MessageId, Role};
    use crate::engine::hooks::HOOKS;
    use crate::llm::{Finish as Reason, Usage};

    const TIMERS: Timers = Timers {
        first: Duration::from_mins(5),
        idle: Duration::from_secs(10),
        turn: Duration::from_mins(10),
    };

    fn at(seconds: u64) -> Now {
        Now { mono: Duration::from_secs(seconds), unix_ms: 0 }
    }

    /// An engine with a model and four relays.
    fn engine() -> Engine {
        engine_within(Limits::default())
    }

    fn engine_within(limits: Limits) -> Engine {
        let brain = Brain {
            model: "m".to_owned(),
            label: "p/m".to_owned(),
            key_source: "KEY".to_owned(),
            system: None,
            max_tokens: 0,
            timers: TIMERS,
        };
        let timeout = Duration::from_secs(15);
        let settings = Settings {
            limits,
            bounds: Bounds { relays: 4, queue: 8 },
            reply_bytes: 512 * 1024,
            context_bytes: 32 * 1024,
            brain: Some(brain),
            push: Some(Policy { allow_private: false, attempts: 5, timeout }),
        };
        let mut next = 0_u8;
        Engine::new(
            settings,
            Ids::new(Box::new(move |bytes| {
                bytes.fill_with(|| {
                    next = next.wrapping_mul(31).wrapping_add(7);
                    next
                });
            })),
        )
    }

    fn send(engine: &mut Engine, text: &str, skill: Option<&str>) -> TaskId {
        send_with(engine, text, skill, None)
    }

    fn send_with(
        engine: &mut Engine,
        text: &str,
        skill: Option<&str>,
        hook: Option<Hook>,
    ) -> TaskId {
        let message = Message {
            id: MessageId::Given("m".into()),
            role: Role::User,
            parts: smallvec![Part::plain(text)],
            extra: None,
        };
        let send = Send {
            message: Rc::new(message),
            task: None,
            context: None,
            blocking: true,
            history: None,
            skill: skill.map(Into::into),
            hook: hook.map(Box::new),
            loose: false,
        };
        match engine.handle(Operation::Send(send), &Scope::of(Principal::Local), at(0)) {
            Ok(Outcome::Settle { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn after_a_first_word_silence_is_noticed_in_its_own_time() {
        let mut engine = engine();
        let id = send(&mut engine, "tell me about tides", None);
        let run = engine.next_job(Lane::Relay, at(0)).unwrap().run;
        assert_eq!(engine.deadline(), Some(TIMERS.first));
        engine.apply(Update::Text(run, "tides ".to_owned()), at(1));
        assert_eq!(engine.deadline(), Some(Duration::from_secs(1) + TIMERS.idle));
        engine.tick(at(11));
        assert_eq!(engine.task(id).map(|task| task.status.state), Some(TaskState::Failed));
    }

    #[test]
    fn a_job_whose_bytes_others_hold_asks_again_when_one_of_them_is_free() {
        let mut engine = engine();
        for _ in 0..3 {
            send(&mut engine, &"tell me ".repeat(25_000), None);
        }
        let first = engine.next_job(Lane::Relay, at(0)).unwrap();
        let _second = engine.next_job(Lane::Relay, at(0)).unwrap();
        assert!(engine.has_job());
        assert!(engine.next_job(Lane::Relay, at(0)).is_none());
        assert!(!engine.has_job(), "nothing has changed, so asking again is idle work");
        let run = first.run;
        let end = TurnEnd { finish: Reason::Stop, usage: Usage::default() };
        engine.apply(Update::Ended(run, End::Turn(Ok(end))), at(1));
        drop(first);
        engine.apply(Update::Free(run), at(1));
        assert!(engine.has_job());
        assert!(engine.next_job(Lane::Relay, at(1)).is_some());
    }

    /// Puts changed settings in force.
    fn configure(engine: &mut Engine, change: impl FnOnce(&mut Settings)) -> usize {
        let mut settings = engine.settings.clone();
        change(&mut settings);
        engine.configure(settings, at(1))
    }

    fn state(engine: &Engine, id: TaskId) -> TaskState {
        engine.task(id).map(|task| task.status.state).unwrap()
    }

    #[test]
    fn a_message_taken_under_wider_bounds_is_still_worked_on() {
        let mut engine = engine();
        let running = send(&mut engine, &"tell me ".repeat(25_000), None);
        let waiting = send(&mut engine, &"tell me ".repeat(25_000), None);
        let job = engine.next_job(Lane::Relay, at(0)).unwrap();
        configure(&mut engine, |settings| {
            settings.limits.work_bytes = 64 * 1024;
            settings.limits.store_bytes = 64 * 1024;
            settings.bounds = Bounds { relays: 1, queue: 1 };
        });
        assert!(engine.next_job(Lane::Relay, at(1)).is_none());
        engine.apply(Update::Text(job.run, "tides ".repeat(20_000)), at(1));
        let end = TurnEnd { finish: Reason::Stop, usage: Usage::default() };
        engine.apply(Update::Ended(job.run, End::Turn(Ok(end))), at(1));
        assert_eq!(state(&engine, running), TaskState::Completed);
        let run = job.run;
        drop(job);
        engine.apply(Update::Free(run), at(1));
        let job = engine.next_job(Lane::Relay, at(1)).expect("it is alone now");
        engine.apply(Update::Text(job.run, "tides".to_owned()), at(1));
        engine.apply(Update::Ended(job.run, End::Turn(Ok(end))), at(1));
        assert_eq!(state(&engine, waiting), TaskState::Completed);
    }

    #[test]
    fn what_waits_for_a_model_that_is_taken_away_is_told_so() {
        let mut engine = engine();
        let ids: Vec<_> = (0..6).map(|_| send(&mut engine, "tell me of tides", None)).collect();
        let jobs: Vec<_> = (0..4).map(|_| engine.next_job(Lane::Relay, at(0)).unwrap()).collect();
        configure(&mut engine, |settings| settings.brain = None);
        engine.apply(Update::Free(jobs[0].run), at(1));
        assert!(engine.next_job(Lane::Relay, at(1)).is_none());
        assert_eq!(state(&engine, ids[5]), TaskState::Failed);
        assert_eq!(state(&engine, ids[1]), TaskState::Working, "it has its job already");
        assert!(!engine.has_job());
    }

    #[test]
    fn the_store_is_not_lowered_to_what_the_memory_skill_would_fill() {
        let mut engine = engine();
        for key in 0..60 {
            let id = send(&mut engine, &format!("remember k{key} = {}", "v".repeat(4000)), None);
            engine.run_due(at(0));
            assert_eq!(state(&engine, id), TaskState::Completed);
        }
        let bytes = configure(&mut engine, |settings| settings.limits.store_bytes = 64 * 1024);
        assert!((960_000..1_500_000).contains(&bytes), "{bytes}");
        let id = send(&mut engine, "recall k1", None);
        engine.run_due(at(1));
        assert_eq!(state(&engine, id), TaskState::Completed);
    }

    #[test]
    fn a_shorter_wait_for_input_counts_for_those_who_wait_already() {
        let mut engine = engine();
        let id = send(&mut engine, "remember", None);
        engine.run_due(at(0));
        assert_eq!(state(&engine, id), TaskState::InputRequired);
        configure(&mut engine, |settings| settings.limits.input_wait = Duration::from_secs(1));
        assert_eq!(engine.deadline(), Some(Duration::from_secs(1)));
        engine.tick(at(1));
        assert_eq!(state(&engine, id), TaskState::Failed);
    }

    #[test]
    fn webhooks_taken_before_they_were_switched_off_are_told() {
        let mut engine = engine();
        let id = send_with(&mut engine, "tell me of tides", None, Some(hook()));
        configure(&mut engine, |settings| settings.push = None);
        let job = engine.next_job(Lane::Relay, at(1)).unwrap();
        let end = TurnEnd { finish: Reason::Stop, usage: Usage::default() };
        engine.apply(Update::Ended(job.run, End::Turn(Ok(end))), at(1));
        let post = engine.next_job(Lane::Push, at(1)).expect("it is told");
        engine.apply(Update::Ended(post.run, End::Post(Ok(()))), at(1));
        assert_eq!(engine.pushes().reserved(), 0);
        let list = Operation::ListHooks { id };
        let refused = engine.handle(list, &Scope::of(Principal::Local), at(1));
        assert!(matches!(refused, Err(A2aError::PushNotificationNotSupported)));
    }

    #[test]
    fn what_a_question_keeps_until_its_answer_is_leased() {
        let mut engine = engine();
        let value = "v".repeat(100_000);
        let id = send(&mut engine, &format!(" = {value}"), Some("memory"));
        assert_eq!(engine.task(id).map(|task| task.status.state), Some(TaskState::InputRequired));
        assert!(engine.store().budget().used() > 2 * value.len(), "the message and its value");
    }

    fn hook() -> Hook {
        Hook {
            id: "h".into(),
            url: "https://example.org/".into(),
            token: None,
            authentication: None,
            dialect: Dialect::V1,
        }
    }

    #[test]
    fn a_webhook_without_a_place_makes_no_task() {
        let mut engine = engine();
        let mut tasks = 0;
        let busy = loop {
            let message = Message::own(1, smallvec![Part::plain("remember")]);
            let send = Send {
                message: Rc::new(message),
                task: None,
                context: None,
                blocking: true,
                history: None,
                skill: None,
                hook: Some(Box::new(hook())),
                loose: false,
            };
            let scope = Scope::of(Principal::Local);
            match engine.handle(Operation::Send(send), &scope, at(0)) {
                Ok(_) => engine.run_due(at(0)),
                Err(error) => break error,
            }
            tasks += 1;
        };
        assert!(matches!(busy, A2aError::Busy { what: Busy::Webhooks, .. }), "{busy:?}");
        assert_eq!((engine.store().len(), engine.pushes().reserved()), (tasks, tasks));
        send(&mut engine, "remember", None);
    }

    #[test]
    fn a_job_waits_for_the_bytes_of_a_notification_and_is_not_called_too_long() {
        let mut engine = engine_within(Limits { work_bytes: 64 * 1024, ..Limits::default() });
        send_with(&mut engine, "25*4", None, Some(hook()));
        engine.run_due(at(0));
        let post = engine.next_job(Lane::Push, at(0)).unwrap();
        send(&mut engine, &"tell me ".repeat(3_750), None);
        assert!(engine.next_job(Lane::Relay, at(0)).is_none());
        let run = post.run;
        engine.apply(Update::Ended(run, End::Post(Ok(()))), at(1));
        drop(post);
        engine.apply(Update::Free(run), at(1));
        assert!(engine.next_job(Lane::Relay, at(1)).is_some());
        assert_eq!((engine.stats().pushed, engine.stats().failed), (1, 0));
    }

    #[test]
    fn a_message_that_is_refused_leaves_neither_webhook_nor_bytes() {
        let limits = Limits { store_bytes: 64 * 1024, ..Limits::default() };
        let mut engine = engine_within(limits);
        let id = send(&mut engine, "remember", None);
        engine.run_due(at(0));
        let scope = Scope::of(Principal::Local);
        let answer = |engine: &mut Engine, text: &str| {
            let send = Send {
                message: Rc::new(Message::own(1, smallvec![Part::plain(text)])),
                task: Some(id),
                context: None,
                blocking: true,
                history: None,
                skill: None,
                hook: Some(Box::new(hook())),
                loose: false,
            };
            let used = engine.store().budget().used();
            let refused = engine.handle(Operation::Send(send), &scope, at(0)).unwrap_err();
            assert_eq!(engine.store().budget().used(), used);
            assert_eq!(
                engine.task(id).map(|task| task.status.state),
                Some(TaskState::InputRequired)
            );
            refused
        };
        let refused = answer(&mut engine, &"v".repeat(20_000));
        assert!(matches!(refused, A2aError::Busy { what: Busy::Growth, .. }), "{refused:?}");
        assert_eq!((engine.hooks(id).len(), engine.pushes().reserved()), (0, 0));
        for number in 0..HOOKS {
            let hook = Hook { id: format!("other{number}").into(), ..hook() };
            let set = Operation::SetHook { id, hook: Box::new(hook) };
            assert!(engine.handle(set, &scope, at(0)).is_ok());
        }
        let refused = answer(&mut engine, "a = b");
        assert!(matches!(refused, A2aError::Busy { what: Busy::Hooks, .. }), "{refused:?}");
    }

    fn set_hook(engine: &mut Engine, who: &Principal, id: TaskId, url_bytes: usize) {
        let hook = Hook {
            id: "h".into(),
            url: format!("http://example.org/{}", "u".repeat(url_bytes)).into(),
            token: None,
            authentication: None,
            dialect: Dialect::V1,
        };
        let set = Operation::SetHook { id, hook: Box::new(hook) };
        let outcome = engine.handle(set, &Scope::of(who.clone()), at(0));
        assert!(matches!(outcome, Ok(Outcome::Hook(..))), "{outcome:?}");
    }

    #[test]
    fn a_webhook_that_is_replaced_or_deleted_gives_its_bytes_back() {
        let mut engine = engine();
        let id = send(&mut engine, "remember", Some("memory"));
        let before = engine.store().budget().used();
        for round in 0..1000 {
            set_hook(&mut engine, &Principal::Local, id, if round % 2 == 0 { 2000 } else { 1 });
        }
        assert!(engine.store().budget().used() < before + 1000, "only the last one is held");
        let delete = Operation::DeleteHook { id, hook: "h".into() };
        engine.handle(delete, &Scope::of(Principal::Local), at(0)).unwrap();
        assert_eq!(engine.store().budget().used(), before);
    }

    #[test]
    fn a_caller_who_is_gone_has_no_webhooks() {
        let mut engine = engine();
        let id = send(&mut engine, "remember", Some("memory"));
        let before = engine.store().budget().used();
        set_hook(&mut engine, &Principal::Local, id, 100);
        engine.keep_hooks(|who| *who == Principal::Local);
        assert_eq!(engine.hooks(id).len(), 1);
        engine.keep_hooks(|_| false);
        assert_eq!(engine.hooks(id).len(), 0);
        assert_eq!(engine.pushes().reserved(), 0);
        assert_eq!(engine.store().budget().used(), before);
    }

    #[test]
    fn webhooks_of_ended_tasks_are_no_part_of_anybodys_share() {
        let mut engine = engine();
        engine.settings.limits.caller_tasks = 4;
        let ended: Vec<TaskId> =
            (0..200).map(|_| send(&mut engine, "2+2", Some("calculator"))).collect();
        send(&mut engine, "remember", Some("memory"));
        for id in ended {
            set_hook(&mut engine, &Principal::Local, id, 6000);
        }
        assert!(engine.store().budget().used() > 200 * 6000);
        let large = "tell me ".repeat(450_000 / 8);
        send(&mut engine, &large, Some("chat"));
    }
}
