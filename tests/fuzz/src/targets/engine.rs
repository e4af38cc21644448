//! The engine, driven by bytes: each operation is one byte, a letter in seeds, and its arguments follow.

use std::collections::BTreeSet;
use std::time::Duration;

use tetherlet::a2a::binding::Binding;
use tetherlet::a2a::dialect::Dialect;
use tetherlet::a2a::jsonrpc::{self, Id};
use tetherlet::a2a::model::{Content, Message, MessageId, Part, Role, Task, TaskState};
use tetherlet::a2a::op::{Event, Hook, Operation, Principal, Scope, Send};
use tetherlet::a2a::write::{View, event_len};
use tetherlet::base::clock::Now;
use tetherlet::base::ids::{ContextId, Ids, TaskId};
use tetherlet::base::limits::Limits;
use tetherlet::engine::feed::{Cursor, Read};
use tetherlet::engine::push::Policy;
use tetherlet::engine::queue::{Bounds, Timers};
use tetherlet::engine::{Brain, Engine, Outcome, SHARDS, Settings};
use tetherlet::llm::{Finish, Form, ModelError, TurnEnd, Usage};
use tetherlet::work::{End, Job, Lane, PostError, Update, Work};

use super::{Bytes, must_be_json};

/// Operations of one input: enough to fill every table of the small engine below several times.
const OPERATIONS: usize = 128;

/// Messages that each skill, or nobody, takes.
const TEXTS: [&str; 12] = [
    "Calculate 25 * 4",
    "2^10^9",
    "remember door code = 4711",
    "remember",
    "recall door code",
    "forget",
    "list memory",
    "device status",
    "Analyze text: One two. Three!",
    "why is the sky blue?",
    " ",
    "the answer",
];

const SKILLS: [Option<&str>; 8] =
    [None, None, None, Some("calculator"), Some("memory"), Some("chat"), Some("device"), Some("x")];

/// Limits and promises hold whatever happens in whatever order.
pub fn engine(input: &[u8]) {
    let mut bytes = Bytes(input);
    let mut world = World::new(bytes.below(2) == 1);
    for _ in 0..OPERATIONS {
        if bytes.is_empty() {
            break;
        }
        world.step(&mut bytes);
        world.check();
    }
    world.finish();
}

struct World {
    engine: Engine,
    now: Now,
    jobs: Vec<Running>,
    readers: Vec<Reader>,
    /// Tasks seen, the newest last.
    tasks: Vec<TaskId>,
    /// The webhook of the next message.
    hook: Option<Hook>,
    /// Every task as it was after the last operation.
    before: Vec<Task>,
    limits: Limits,
}

struct Running {
    job: Job,
    ended: bool,
}

/// A reader and what it has pieced together.
struct Reader {
    id: TaskId,
    cursor: Cursor,
    state: TaskState,
    artifacts: Vec<(&'static str, String)>,
}

impl World {
    fn new(has_model: bool) -> Self {
        let limits = Limits {
            tasks: 6,
            store_bytes: 32 * 1024,
            work_bytes: 16 * 1024,
            caller_tasks: 4,
            input_wait: Duration::from_mins(1),
            memory_keys: 3,
            memory_value_bytes: 64,
            ..Limits::default()
        };
        let timers = Timers {
            first: Duration::from_secs(10),
            idle: Duration::from_secs(5),
            turn: Duration::from_secs(30),
        };
        let brain = Brain {
            model: "m".to_owned(),
            label: "p/m".to_owned(),
            key_source: "THE_KEY".to_owned(),
            system: Some("be brief".to_owned()),
            max_tokens: 100,
            timers,
        };
        let settings = Settings {
            limits: limits.clone(),
            bounds: Bounds { relays: 2, queue: 2 },
            reply_bytes: 2048,
            context_bytes: 512,
            brain: has_model.then_some(brain),
            push: Some(Policy {
                allow_private: false,
                attempts: 3,
                timeout: Duration::from_secs(15),
            }),
        };
        let mut next = 0_u32;
        let ids = Ids::new(Box::new(move |bytes| {
            for chunk in bytes.chunks_mut(4) {
                next = next.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
                chunk.copy_from_slice(&next.to_be_bytes()[..chunk.len()]);
            }
        }));
        Self {
            engine: Engine::new(settings, ids),
            now: Now { mono: Duration::from_secs(1000), unix_ms: 1_000_000_000_000 },
            jobs: Vec::new(),
            readers: Vec::new(),
            tasks: Vec::new(),
            hook: None,
            before: Vec::new(),
            limits,
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.byte() {
            letter @ b'@'..=b'_' => self.webhook_step(letter, bytes),
            letter => self.task_step(letter, bytes),
        }
    }

    fn webhook_step(&mut self, letter: u8, bytes: &mut Bytes<'_>) {
        match letter {
            b'@'..=b'D' => {
                let (id, hook) = (self.task(bytes), Box::new(hook(bytes)));
                self.handle(Operation::SetHook { id, hook }, bytes);
            }
            b'E' | b'F' => {
                let (id, hook) = (self.task(bytes), hook(bytes).id);
                self.handle(Operation::DeleteHook { id, hook }, bytes);
            }
            b'G' => {
                let (id, hook) = (self.task(bytes), Some(hook(bytes).id));
                self.handle(Operation::GetHook { id, hook }, bytes);
            }
            b'H'..=b'K' => self.hook = Some(hook(bytes)),
            b'L' => {
                let id = self.task(bytes);
                self.handle(Operation::ListHooks { id }, bytes);
            }
            b'M'..=b'S' => self.start(Lane::Push),
            b'T'..=b'W' => self.end(bytes),
            b'X'..=b'Z' => self.free(bytes),
            _ => drop(self.engine.take_lost()),
        }
    }

    fn task_step(&mut self, letter: u8, bytes: &mut Bytes<'_>) {
        match letter & 0x1f {
            0..=5 => {
                let send = self.message(bytes);
                self.handle(Operation::Send(send), bytes);
            }
            6..=9 => {
                let send = self.message(bytes);
                self.handle(Operation::Stream(send), bytes);
            }
            10 => {
                let (id, history) = (self.task(bytes), Some(bytes.below(4)));
                self.handle(Operation::Get { id, history }, bytes);
            }
            11 | 12 => {
                let id = self.task(bytes);
                self.handle(Operation::Cancel { id }, bytes);
            }
            13 | 14 => {
                let id = self.task(bytes);
                self.handle(Operation::Subscribe { id }, bytes);
            }
            15..=17 => self.start(Lane::Relay),
            18 => self.start(Lane::Local),
            19..=21 => self.tell(bytes),
            22 => self.end(bytes),
            23 => self.free(bytes),
            24 => self.wait(Duration::from_millis(300)),
            25 => self.wait(Duration::from_secs(1 + bytes.below(64) as u64)),
            26..=28 => self.read(bytes),
            29 => {
                if !self.readers.is_empty() {
                    let reader = self.readers.swap_remove(bytes.below(self.readers.len()));
                    self.engine.detach(reader.id);
                }
            }
            30 if bytes.byte() == b'!' => self.engine.stop(self.now),
            31 if bytes.byte() == b'!' => self.engine.drain(),
            _ => self.engine.tick(self.now),
        }
    }

    fn task(&self, bytes: &mut Bytes<'_>) -> TaskId {
        let back = bytes.below(64);
        let known = self.tasks.len().checked_sub(1 + back).and_then(|at| self.tasks.get(at));
        known.copied().unwrap_or_else(|| {
            TaskId::parse("00000000-0000-4000-8000-000000000000").expect("it is one")
        })
    }

    /// Text, context, task, skill, and whether the caller waits.
    fn message(&mut self, bytes: &mut Bytes<'_>) -> Send {
        let text = match bytes.below(TEXTS.len() + 2) {
            at if at < TEXTS.len() => TEXTS[at].to_owned(),
            at if at == TEXTS.len() => bytes.text(b'\n'),
            _ => "word ".repeat(200 * bytes.below(16)),
        };
        let context = match bytes.below(6) {
            0..=2 => None,
            at => ContextId::parse(&format!("context {at}")),
        };
        let task = (bytes.below(4) == 3).then(|| self.task(bytes));
        let skill = SKILLS[bytes.below(SKILLS.len())].map(Into::into);
        let part = Part { content: Content::Text(text.into()), extra: None };
        Send {
            message: Message {
                id: MessageId::Given("m".into()),
                role: Role::User,
                parts: vec![part].into(),
                extra: None,
            }
            .into(),
            task,
            context,
            blocking: bytes.below(2) == 0,
            history: None,
            skill,
            hook: self.hook.take().map(Box::new),
            loose: false,
        }
    }

    fn handle(&mut self, operation: Operation, bytes: &mut Bytes<'_>) {
        let who = match bytes.below(4) {
            0 => Principal::Local,
            last => Principal::Address([192, 0, 2, u8::try_from(last).unwrap_or(0)].into()),
        };
        let outcome = self.engine.handle(operation, &Scope::of(who), self.now);
        // The service writes what is to be said in the same borrow, before the engine goes on.
        match outcome {
            Ok(Outcome::Task { id, history } | Outcome::Settle { id, history }) => {
                let task = self.engine.task(id).expect("the task of an outcome is there");
                must_be_json(&written(task, history));
                self.remember(id);
            }
            Ok(Outcome::Follow { id, cursor, .. }) => {
                let task = self.engine.task(id).expect("the task of an outcome is there");
                let mut reader = Reader { id, cursor, state: task.status.state, artifacts: vec![] };
                reader.take(&Event::Task(task));
                if self.readers.len() < 8 {
                    assert!(self.engine.attach(id));
                    self.readers.push(reader);
                }
                self.remember(id);
            }
            Ok(Outcome::Page(page)) => {
                assert!(
                    page.tasks.len() <= page.filter.page_size && page.tasks.len() <= page.total
                );
                for id in &page.tasks {
                    assert!(self.engine.task(*id).is_some(), "a task of a list is there");
                }
            }
            Ok(
                Outcome::Hook(..)
                | Outcome::Hooks(_)
                | Outcome::Message { .. }
                | Outcome::Done
                | Outcome::ExtendedCard,
            ) => {}
            Err(error) => must_be_json(&jsonrpc::error(&Id::null(), &error, Dialect::V1)),
        }
        self.engine.run_due(self.now);
    }

    fn remember(&mut self, id: TaskId) {
        if !self.tasks.contains(&id) {
            self.tasks.push(id);
        }
    }

    fn start(&mut self, lane: Lane) {
        let Some(job) = self.engine.next_job(lane, self.now) else { return };
        assert_eq!(job.work.lane(), lane);
        assert!(job.lease.bytes() > 0 && !job.cancel.is_fired());
        assert!(self.jobs.iter().all(|other| other.job.run != job.run), "a run is one job's");
        if let Work::Turn(turn) = &job.work {
            let said: usize = turn.said.iter().map(|said| said.text.len()).sum();
            assert!(!turn.said.is_empty() && said <= job.lease.bytes());
            must_be_json(&Form::OpenAi.body(turn));
            must_be_json(&Form::Anthropic.body(turn));
        }
        if let Work::Post(post) = &job.work {
            assert!(post.body.len() <= job.lease.bytes());
            must_be_json(&post.body);
        }
        self.jobs.push(Running { job, ended: false });
    }

    fn tell(&mut self, bytes: &mut Bytes<'_>) {
        let Some(at) = self.pick(bytes) else { return };
        let Running { job, ended: false } = &self.jobs[at] else { return };
        let (run, is_turn) = (job.run, matches!(job.work, Work::Turn(_)));
        if !is_turn {
            return;
        }
        let update = match bytes.below(8) {
            0 => Update::Alive(run),
            1 => Update::Text(run, "é".repeat(bytes.below(64) * 32 + 1)),
            number => Update::Text(run, format!("{number} 😀")),
        };
        self.engine.apply(update, self.now);
    }

    fn pick(&self, bytes: &mut Bytes<'_>) -> Option<usize> {
        (!self.jobs.is_empty()).then(|| bytes.below(self.jobs.len()))
    }

    fn end(&mut self, bytes: &mut Bytes<'_>) {
        let Some(at) = self.pick(bytes) else { return };
        let running = &mut self.jobs[at];
        if std::mem::replace(&mut running.ended, true) {
            return;
        }
        let usage = Usage { input: Some(3), output: None };
        let finished = |finish| End::Turn(Ok(TurnEnd { finish, usage }));
        let refused =
            |status, retry_after| End::Post(Err(PostError::Refused { status, retry_after }));
        let after = Duration::from_secs(5);
        let end = match (&running.job.work, bytes.below(8)) {
            (Work::Device | Work::Analyze(_), 1) => {
                End::Turn(Err(ModelError::Transport { what: "no thread".to_owned() }))
            }
            (Work::Device | Work::Analyze(_), size) => {
                let (text, json) = ("load: 1 ".repeat(size * 64), "{\"a\":1}".to_owned());
                End::Local { text, json }
            }
            (Work::Post(_), 1 | 2) => End::Post(Err(PostError::Failed("nobody there"))),
            (Work::Post(_), 3) => refused(503, Some(Duration::from_secs(90))),
            (Work::Post(_), 4) => refused(429, None),
            (Work::Post(_), 5) => refused(410, None),
            (Work::Post(_), 6) => End::Post(Err(PostError::Forbidden("not there"))),
            (Work::Post(_), _) => End::Post(Ok(())),
            (Work::Turn(_), 1) => finished(Finish::Length),
            (Work::Turn(_), 2) => finished(Finish::Filtered),
            (Work::Turn(_), 3) => finished(Finish::Tools),
            (Work::Turn(_), 4) => End::Turn(Err(ModelError::Canceled)),
            (Work::Turn(_), 5) => End::Turn(Err(ModelError::Stalled { after, first: false })),
            (Work::Turn(_), _) => finished(Finish::Stop),
        };
        let run = running.job.run;
        self.engine.apply(Update::Ended(run, end), self.now);
    }

    /// Nothing that runs succeeds.
    fn end_all(&mut self) {
        for running in self.jobs.iter_mut().filter(|running| !running.ended) {
            running.ended = true;
            let end = match running.job.work {
                Work::Post(_) => End::Post(Err(PostError::Failed("nobody there"))),
                Work::Turn(_) | Work::Device | Work::Analyze(_) => {
                    End::Turn(Err(ModelError::Canceled))
                }
            };
            self.engine.apply(Update::Ended(running.job.run, end), self.now);
        }
    }

    /// Only what has ended becomes free.
    fn free(&mut self, bytes: &mut Bytes<'_>) {
        let Some(at) = self.pick(bytes).filter(|at| self.jobs[*at].ended) else { return };
        let run = self.jobs.swap_remove(at).job.run;
        self.engine.apply(Update::Free(run), self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.unix_ms += u64::try_from(time.as_millis()).unwrap_or(0);
        self.engine.tick(self.now);
        let next = self.engine.deadline();
        assert!(next.is_none_or(|next| next > self.now.mono), "a tick leaves nothing to do");
    }

    fn read(&mut self, bytes: &mut Bytes<'_>) {
        if self.readers.is_empty() {
            return;
        }
        let at = bytes.below(self.readers.len());
        let events = bytes.below(8) + 1;
        self.readers[at].read(&self.engine, events);
    }

    /// What holds after every operation.
    fn check(&mut self) {
        let engine = &mut self.engine;
        let touched = engine.take_touched();
        let store = engine.store();
        assert!(store.budget().used() <= self.limits.store_bytes);
        assert!(engine.work().used() <= self.limits.work_bytes);
        let leased: usize = self.jobs.iter().map(|running| running.job.lease.bytes()).sum();
        assert_eq!(engine.work().used(), leased, "the bytes of jobs are those of their leases");
        assert!(store.len() <= self.limits.tasks);

        let stats = engine.stats();
        let ended = stats.completed + stats.failed + stats.canceled + stats.rejected;
        let live = store.iter().filter(|(_, slot)| !slot.task.status.state.is_final()).count();
        assert_eq!(store.live(), live);
        assert_eq!(stats.submitted - ended, live as u64, "every task ends once");
        assert_eq!(store.iter().count(), store.len());

        let held: usize = store.iter().map(|(_, slot)| text_bytes(&slot.task)).sum();
        assert!(held <= store.budget().used(), "{held} bytes of text are not leased");

        let after: Vec<Task> = store.iter().map(|(_, slot)| slot.task.clone()).collect();
        for task in &after {
            let old = self.before.iter().find(|old| old.id == task.id);
            let Some(old) = old.filter(|old| *old != task) else { continue };
            let (was, is) = (old.status.state, task.status.state);
            must_be_json(&written(task, None));
            assert!(!was.is_final(), "a final task has changed: {old:?} {task:?}");
            assert!(was == is || was.may_become(is), "{was:?} became {is:?}");
            assert!(touched & 1 << (task.id.slot() % SHARDS) != 0, "nobody is woken for {task:?}");
        }
        for reader in &self.readers {
            assert!(after.iter().any(|task| task.id == reader.id), "a task went while it was read");
        }
        let (store, pushes) = (self.engine.store(), self.engine.pushes());
        let mut places = 0;
        for (_, slot) in store.iter() {
            let (id, holds) = (slot.task.id, pushes.holds(slot.task.id));
            let readers = self.readers.iter().filter(|reader| reader.id == id).count();
            assert_eq!(usize::from(slot.readers()), readers + holds, "who holds on to {id}");
            let is_final = slot.task.status.state.is_final();
            assert!(holds == 0 || is_final, "a live task is held for its webhooks");
            places += if is_final { holds } else { slot.hooks.len() };
            assert!(slot.hooks.len() <= 4);
        }
        assert_eq!(pushes.reserved(), places, "a place for every webhook that can hear something");
        assert!(pushes.pending() <= pushes.reserved());
        let posts = self.jobs.iter().filter(|running| running.job.run.lane == Lane::Push).count();
        assert_eq!(pushes.running(), posts);
        for running in &self.jobs {
            let run = running.job.run;
            let owner = self.engine.queue().task_of(run).or_else(|| pushes.task_of(run));
            assert!(owner.is_none() || !running.ended, "an ended job has no task");
            let wanted = owner.is_some() || running.ended || running.job.cancel.is_fired();
            assert!(wanted, "a job that nobody waits for is not stopped");
        }
        self.before = after;
    }

    /// All jobs end, all readers read to the end, and time passes: nothing is left open.
    fn finish(mut self) {
        for at in 0..self.readers.len() {
            self.readers[at].read(&self.engine, usize::MAX);
        }
        let none = || Bytes(&[]);
        self.end_all();
        self.check();
        while !self.jobs.is_empty() {
            self.free(&mut none());
        }
        self.check();
        assert_eq!(self.engine.work().used(), 0);
        self.wait(self.limits.input_wait * 2);
        self.check();
        assert_eq!(self.engine.store().count(TaskState::InputRequired), 0, "nobody answers");
        self.start(Lane::Relay);
        self.wait(Duration::from_mins(10));
        self.check();
        for running in self.jobs.iter().filter(|running| running.job.work.lane() == Lane::Relay) {
            assert!(running.job.cancel.is_fired(), "a silent relay is stopped");
        }
        self.engine.stop(self.now);
        self.check();
        for _ in 0..64 {
            self.start(Lane::Push);
            self.end_all();
            while !self.jobs.is_empty() {
                self.free(&mut none());
            }
            self.check();
        }
        assert_eq!(self.engine.pushes().reserved(), 0, "every webhook has its last try");
        assert_eq!(self.engine.store().live(), 0, "nothing lives after a stop");
        for lane in [Lane::Relay, Lane::Local] {
            assert_eq!(self.engine.queue().waiting_in(lane), 0, "nothing waits after a stop");
        }
        for at in 0..self.readers.len() {
            self.readers[at].read(&self.engine, usize::MAX);
            assert!(self.readers[at].state.is_final(), "a reader was left behind");
        }
        for reader in std::mem::take(&mut self.readers) {
            self.engine.detach(reader.id);
        }
        self.check();
    }
}

impl Reader {
    /// Reads up to `events` events; at the end it must have all there is.
    fn read(&mut self, engine: &Engine, events: usize) {
        for _ in 0..events {
            let read = engine.read(self.id, &mut self.cursor);
            let read = read.expect("a task that is read is not evicted");
            let Read::Event(event) = read else {
                let task = engine.task(self.id).expect("it was just read");
                assert_eq!(self.state, task.status.state, "the last state was not told");
                for artifact in &task.artifacts {
                    let own = self.artifacts.iter().find(|(id, _)| *id == artifact.id);
                    let own = own.map_or("", |(_, text)| text);
                    assert_eq!(own, artifact.text(), "pieces make the artifact");
                }
                return;
            };
            self.take(&event);
        }
    }

    fn take(&mut self, event: &Event<'_>) {
        for dialect in [Dialect::V03, Dialect::Proto03, Dialect::V1] {
            let binding = Binding::rpc(Id::null(), dialect);
            must_be_json(&binding.reply(|w| w.event(event, false)));
            assert!(binding.frame(event, false).len() <= event_len(event));
        }
        match event {
            Event::Task(task) => {
                self.state = task.status.state;
                let whole = |a: &tetherlet::a2a::model::Artifact| (a.id, a.text().to_owned());
                self.artifacts = task.artifacts.iter().map(whole).collect();
            }
            Event::Status { status, .. } => {
                assert!(!self.state.is_final(), "something follows the final state");
                self.state = status.state;
            }
            Event::Artifact { artifact, chunk, append, .. } => {
                assert!(!self.state.is_final(), "something follows the final state");
                let known = self.artifacts.iter().position(|(id, _)| *id == artifact.id);
                let at = known.unwrap_or_else(|| {
                    self.artifacts.push((artifact.id, String::new()));
                    self.artifacts.len() - 1
                });
                let own = &mut self.artifacts[at].1;
                if !append {
                    own.clear();
                }
                own.push_str(chunk.unwrap_or_else(|| artifact.text()));
            }
            Event::Message { .. } => panic!("no task says this"),
        }
    }
}

/// One of five ids, or none; two that may be called, and one that may not.
fn hook(bytes: &mut Bytes<'_>) -> Hook {
    const URLS: [&str; 3] = ["https://example.org/a", "http://example.com:81", "http://localhost"];
    let id = match bytes.below(6) {
        0 => String::new(),
        number => number.to_string(),
    };
    Hook {
        id: id.into(),
        url: URLS[bytes.below(3)].into(),
        token: (bytes.below(2) == 1).then(|| "t".repeat(500).into()),
        authentication: Some(("Bearer".into(), "c".into())),
        dialect: [Dialect::V03, Dialect::Proto03, Dialect::V1][bytes.below(3)],
    }
}

fn written(task: &Task, history: Option<usize>) -> String {
    Binding::rest(Dialect::V1).reply(|writer| writer.task(task, View::with(history)))
}

/// Bytes of text a task holds, each text counted once however often it is shared.
fn text_bytes(task: &Task) -> usize {
    let said = task.history.iter().map(|message| &**message).chain(task.status.message.as_deref());
    let parts = said.flat_map(|message| &message.parts);
    let made = task.artifacts.iter().flat_map(|artifact| &artifact.parts);
    let mut seen = BTreeSet::new();
    let texts: usize = parts
        .chain(made)
        .map(|part| match &part.content {
            Content::Text(text) | Content::Raw(text) | Content::Url(text) | Content::Data(text) => {
                if seen.insert(text.as_ptr()) {
                    text.len()
                } else {
                    0
                }
            }
        })
        .sum();
    let growing: usize = task.artifacts.iter().map(|artifact| artifact.growing.capacity()).sum();
    texts + growing + task.metadata.as_ref().map_or(0, |json| json.len())
}
