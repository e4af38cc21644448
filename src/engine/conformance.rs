//! Plays the scripts of the official conformance kits in place of the skills. Only in builds with the feature
//! `conformance`, which no release can be.
//!
//! A kit says with the id of its message what the agent is to do. What is replaced here is that choice and that
//! work alone: store, feed, codecs and HTTP are those that everyone runs, and a script advances by
//! [`Engine::tick`]. Source of the scripts: a2a-tck, branch 1.0-dev (`scenarios/`), tag 0.3.0.beta4.

use std::rc::Rc;
use std::time::Duration;

use smallvec::smallvec;

use crate::a2a::error::A2aError;
use crate::a2a::model::{
    Artifact, Content, Message, MessageId, Part, PartExtra, Parts, Role, TaskState,
};
use crate::a2a::op::{Operation, Scope, Send};
use crate::base::clock::Now;
use crate::base::ids::TaskId;
use crate::engine::{Engine, Outcome};

#[cfg(not(debug_assertions))]
compile_error!("the feature `conformance` is for tests of a debug build, never for a release");

/// Which kit is playing: they want opposite things of a message that names no script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kit {
    /// A2A 1.0: such a message completes its task.
    V1,
    /// A2A 0.3: it works for a moment and then asks.
    V03,
}

/// One thing to do with a task.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It works.
    Work,
    /// Nothing happens for so many milliseconds.
    Wait(u64),
    /// An artifact comes whole.
    Give(Piece),
    /// The streamed artifact grows.
    Write(&'static str),
    /// It ends, or asks for more.
    End(TaskState, &'static str),
}

/// What an artifact holds.
#[derive(Clone, Copy, Debug)]
enum Piece {
    Text(&'static str),
    /// `output.txt`, in base64.
    Raw(&'static str),
    /// `output.txt`, elsewhere.
    Url(&'static str),
    Data(&'static str),
}

type Script = &'static [Step];

const COMPLETE: Script = &[Step::End(TaskState::Completed, "Hello from TCK")];
const DONE: Step = Step::End(TaskState::Completed, "Done");
const ASK: Step = Step::End(TaskState::InputRequired, "What else?");
const OUTPUT: Step = Step::Give(Piece::Raw("b3V0cHV0LnR4dA=="));

const fn text(text: &'static str) -> Step {
    Step::Give(Piece::Text(text))
}

/// Scripts by the beginning of a message's id; longer ones stand before those they begin with.
const V1: &[(&str, Script)] = &[
    ("tck-complete-task", COMPLETE),
    ("tck-artifact-text", &[text("Generated text content"), DONE]),
    ("tck-artifact-file-url", &[Step::Give(Piece::Url("https://example.com/output.txt")), DONE]),
    ("tck-artifact-file", &[OUTPUT, DONE]),
    ("tck-artifact-data", &[Step::Give(Piece::Data(r#"{"key":"value","count":42}"#)), DONE]),
    ("tck-input-required", &[ASK]),
    ("tck-reject-task", &[Step::End(TaskState::Rejected, "rejected")]),
    ("tck-stream-001", &[Step::Work, text("Stream hello from TCK"), DONE]),
    ("tck-stream-002", &[DONE]),
    ("tck-stream-003", &[Step::Work, text("Stream task lifecycle"), DONE]),
    ("tck-stream-ordering-001", &[Step::Work, text("Ordered output"), DONE]),
    ("tck-stream-artifact-text", &[Step::Work, text("Streamed text content"), DONE]),
    ("tck-stream-artifact-file", &[Step::Work, OUTPUT, DONE]),
    (
        "tck-stream-artifact-chunked",
        &[Step::Work, Step::Write("chunk-1 "), Step::Wait(20), Step::Write("chunk-2"), DONE],
    ),
    ("test-resubscribe-message-id", &[Step::Work, Step::Wait(4000), DONE]),
];

const V03: &[(&str, Script)] =
    &[("test-resubscribe-message-id", &[Step::Work, Step::Wait(4000), ASK])];

const ASK_SOON: Script = &[Step::Work, Step::Wait(50), ASK];

/// A message of this id is answered with a message, and no task is made.
const WORDS: (&str, &str) = ("tck-message-response", "Direct message response");

/// The scripts that are being played.
#[derive(Debug, Default)]
pub(super) struct Plays {
    kit: Option<Kit>,
    /// One for each message of an unfinished task.
    running: Vec<Play>,
}

#[derive(Debug)]
struct Play {
    task: TaskId,
    /// Not before this.
    at: Duration,
    rest: Script,
}

impl Plays {
    /// Whether scripts answer, and not skills.
    pub(super) const fn is_on(&self) -> bool {
        self.kit.is_some()
    }

    fn script(&self, message: &Message) -> Script {
        let (scripts, other) = match self.kit {
            Some(Kit::V03) => (V03, ASK_SOON),
            Some(Kit::V1) | None => (V1, COMPLETE),
        };
        let id = id_of(message);
        scripts.iter().find(|(start, _)| id.starts_with(start)).map_or(other, |(_, script)| *script)
    }
}

fn id_of(message: &Message) -> &str {
    match &message.id {
        MessageId::Given(id) => id,
        MessageId::Own(_) => "",
    }
}

impl Engine {
    /// The engine, answering as the kit that `name` names wants: `1.0` or `0.3`; with skills for any other.
    #[must_use]
    pub fn playing(mut self, name: &str) -> Self {
        self.plays.kit = match name {
            "1.0" => Some(Kit::V1),
            "0.3" => Some(Kit::V03),
            _ => None,
        };
        self
    }

    /// The reply to a message that is to become no task.
    pub(super) fn words(&mut self, operation: &Operation) -> Option<Outcome> {
        let (Operation::Send(send) | Operation::Stream(send)) = operation else { return None };
        if self.plays.kit != Some(Kit::V1) || !id_of(&send.message).starts_with(WORDS.0) {
            return None;
        }
        let context = send.context.clone().unwrap_or_else(|| self.ids.context());
        // There is no task to be the first half of its id.
        let id = MessageId::Given(self.ids.context().to_string().as_str().into());
        let parts = smallvec![Part::plain(WORDS.1)];
        let message = Rc::new(Message { id, role: Role::Agent, parts, extra: None });
        Some(Outcome::Message { message, context })
    }

    /// Makes a task and begins its script.
    pub(super) fn play_new(
        &mut self,
        send: Send,
        scope: &Scope,
        now: Now,
    ) -> Result<TaskId, A2aError> {
        let script = self.plays.script(&send.message);
        let at = self.keep(send, scope, now)?;
        self.begin(at, script, now)
    }

    /// Begins the script of a task's next message.
    pub(super) fn play_on(&mut self, at: usize, send: Send, now: Now) -> Result<TaskId, A2aError> {
        let script = self.plays.script(&send.message);
        self.add(at, send, now)?;
        self.begin(at, script, now)
    }

    fn begin(&mut self, at: usize, rest: Script, now: Now) -> Result<TaskId, A2aError> {
        let task = self.store.slot(at).ok_or(A2aError::TaskNotFound)?.task.id;
        self.plays.running.push(Play { task, at: now.mono, rest });
        self.arm_plays();
        Ok(task)
    }

    /// Has [`Engine::tick`] called when a script goes on.
    pub(super) fn arm_plays(&mut self) {
        if let Some(next) = self.plays.running.iter().map(|play| play.at).min() {
            self.arm(next);
        }
    }

    /// Plays what is due.
    pub(super) fn advance(&mut self, now: Now) {
        for mut play in std::mem::take(&mut self.plays.running) {
            while play.at <= now.mono
                && let Some((step, rest)) = play.rest.split_first()
            {
                play.rest = rest;
                self.step(&mut play, *step, now);
            }
            if !play.rest.is_empty() {
                self.plays.running.push(play);
            }
        }
    }

    fn step(&mut self, play: &mut Play, step: Step, now: Now) {
        let live = |at: &usize| {
            self.store.slot(*at).is_some_and(|slot| !slot.task.status.state.is_final())
        };
        let Some(at) = self.store.find(play.task).filter(live) else {
            // Its caller has ended it.
            play.rest = &[];
            return;
        };
        let fits = match step {
            Step::Work => {
                self.set_status(at, TaskState::Working, None, now);
                true
            }
            Step::Wait(ms) => {
                play.at = now.mono + Duration::from_millis(ms);
                true
            }
            Step::Give(piece) => self.give(at, piece.artifact()).is_ok(),
            Step::Write(text) => self.append(at, text).is_ok(),
            Step::End(state, text) => {
                self.end(at, state, text, now);
                true
            }
        };
        debug_assert!(fits, "a script is far shorter than any bound");
    }
}

impl Piece {
    fn artifact(self) -> Artifact {
        let content = match self {
            Self::Text(text) => Content::Text(text.into()),
            Self::Raw(base64) => Content::Raw(base64.into()),
            Self::Url(url) => Content::Url(url.into()),
            Self::Data(json) => Content::Data(json.into()),
        };
        let extra = PartExtra {
            filename: Some("output.txt".into()),
            media_type: Some("text/plain".into()),
            metadata: None,
        };
        let is_file = matches!(self, Self::Raw(_) | Self::Url(_));
        let part = Part { content, extra: is_file.then(|| Box::new(extra)) };
        let parts: Parts = smallvec![part];
        Artifact::whole("result", "Result", parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_script_hides_another() {
        for scripts in [V1, V03] {
            for (at, (start, _)) in scripts.iter().enumerate() {
                let hidden = scripts[at + 1..].iter().find(|(later, _)| later.starts_with(start));
                assert!(hidden.is_none(), "{start} hides {hidden:?}");
            }
        }
    }
}
