//! What agents answer, in the terms of A2A 1.0 (§4.1) and owned, read from any of the four wire forms: 0.3 and 1.0,
//! each over JSON-RPC and REST.
//!
//! Reading is tolerant: members that are missing or do not fit are empty, parts that hold nothing are left out. Only
//! what is neither a task nor a message is refused, and an answer of more than 65,536 things.

use crate::base::clock::unix_ms_of;
use crate::outbound::client::card::{Binding, Version};
use crate::outbound::client::error::{ClientError, cut};
use crate::outbound::client::members::{ELEMENTS, Members};

/// Where a task stands (A2A 1.0 §4.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Accepted, not begun.
    Submitted,
    /// Being worked on.
    Working,
    /// Waiting for the caller's next message.
    InputRequired,
    /// Waiting for credentials.
    AuthRequired,
    /// Done.
    Completed,
    /// Ended without the result that was asked for.
    Failed,
    /// Ended because the caller said so.
    Canceled,
    /// Refused.
    Rejected,
    /// Something that no version knows.
    #[default]
    Unknown,
}

impl State {
    /// Every state that agents may be asked for.
    pub const ALL: [Self; 8] = [
        Self::Submitted,
        Self::Working,
        Self::InputRequired,
        Self::AuthRequired,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
        Self::Rejected,
    ];

    /// Reads any spelling: `input-required`, `TASK_STATE_INPUT_REQUIRED`, `cancelled`.
    pub fn read(text: &str) -> Self {
        let plain = text.to_ascii_lowercase().replace('_', "-");
        let plain = plain.strip_prefix("task-state-").unwrap_or(&plain);
        if plain == "cancelled" {
            return Self::Canceled;
        }
        Self::ALL.into_iter().find(|state| state.name() == plain).unwrap_or_default()
    }

    /// As people say it, and 0.3 writes it: `input-required`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Working => "working",
            Self::InputRequired => "input-required",
            Self::AuthRequired => "auth-required",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
        }
    }

    /// Whether nothing can follow.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled | Self::Rejected)
    }

    /// Whether the agent waits for its caller.
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::InputRequired | Self::AuthRequired)
    }
}

/// What a part holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// A file's bytes, in base64.
    Raw(String),
    /// Where a file is.
    Url(String),
    /// A JSON value, as text; 0.3 knows only objects.
    Data(String),
}

/// One part of a message or an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it holds.
    pub content: Content,
    /// Name of the file.
    pub filename: Option<String>,
    /// Media type of the content.
    pub media_type: Option<String>,
    /// A JSON object.
    pub metadata: Option<String>,
}

impl Part {
    /// A part without any rare member.
    pub const fn new(content: Content) -> Self {
        Self { content, filename: None, media_type: None, metadata: None }
    }

    /// Its text, when it is text.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Raw(_) | Content::Url(_) | Content::Data(_) => None,
        }
    }
}

/// The text parts, a line break between two of them; without one when they bring their own white space, as the pieces
/// of a streamed text do that an agent has stored as they came.
pub fn joined(parts: &[Part]) -> String {
    let texts = || parts.iter().filter_map(Part::text).filter(|text| !text.is_empty());
    let blank = |c: Option<char>| c.is_some_and(char::is_whitespace);
    let are_pieces = texts()
        .zip(texts().skip(1))
        .any(|(before, after)| blank(before.chars().next_back()) || blank(after.chars().next()));
    texts().collect::<Vec<_>>().join(if are_pieces { "" } else { "\n" })
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The caller.
    User,
    /// The agent.
    Agent,
}

/// A message of either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Unique for its author.
    pub id: String,
    /// Its author.
    pub role: Role,
    /// What it holds.
    pub parts: Vec<Part>,
    /// The conversation it belongs to.
    pub context_id: Option<String>,
    /// The task it belongs to.
    pub task_id: Option<String>,
    /// A JSON object.
    pub metadata: Option<String>,
}

impl Message {
    /// Its text parts, a line break between two of them.
    pub fn text(&self) -> String {
        joined(&self.parts)
    }
}

/// A result of a task, or a piece of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Unique in its task.
    pub id: String,
    /// For people.
    pub name: Option<String>,
    /// What it is.
    pub description: Option<String>,
    /// What it holds.
    pub parts: Vec<Part>,
    /// A JSON object.
    pub metadata: Option<String>,
}

impl Artifact {
    /// Its text parts, a line break between two of them.
    pub fn text(&self) -> String {
        joined(&self.parts)
    }
}

/// Where a task stands, and what the agent says about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// What the agent says.
    pub message: Option<Message>,
    /// Since when, as the agent wrote it (RFC 3339).
    pub timestamp: Option<String>,
}

impl Status {
    /// The text of its message; empty when there is none.
    pub fn text(&self) -> String {
        self.message.as_ref().map_or_else(String::new, Message::text)
    }
}

/// A task: one request and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// The conversation it belongs to.
    pub context_id: Option<String>,
    /// Where it stands.
    pub status: Status,
    /// Its results.
    pub artifacts: Vec<Artifact>,
    /// Its messages, as far as the agent shows them.
    pub history: Vec<Message>,
    /// A JSON object.
    pub metadata: Option<String>,
}

impl Task {
    /// The text of its artifacts, a line break between two of them.
    pub fn text(&self) -> String {
        let texts = self.artifacts.iter().map(Artifact::text).filter(|text| !text.is_empty());
        texts.collect::<Vec<_>>().join("\n")
    }
}

/// The answer to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Work that has a state of its own.
    Task(Task),
    /// All there is to say.
    Message(Message),
}

impl Reply {
    /// The text: of the artifacts, else of the status, else of the message.
    pub fn text(&self) -> String {
        match self {
            Self::Message(message) => message.text(),
            Self::Task(task) => {
                let text = task.text();
                if text.is_empty() { task.status.text() } else { text }
            }
        }
    }

    /// Where the task stands; a message is complete.
    pub const fn state(&self) -> State {
        match self {
            Self::Message(_) => State::Completed,
            Self::Task(task) => task.status.state,
        }
    }
}

/// One item of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The whole task as it stands: replaces everything before.
    Task(Task),
    /// A message; the stream ends with it.
    Message(Message),
    /// The task's status has changed.
    Status(StatusUpdate),
    /// An artifact was begun, or has grown.
    Artifact(ArtifactUpdate),
}

/// A change of a task's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// The task.
    pub task_id: String,
    /// The conversation it belongs to.
    pub context_id: Option<String>,
    /// Its status now.
    pub status: Status,
    /// Whether the agent says that it is the stream's last item (0.3 only).
    pub last: bool,
    /// A JSON object.
    pub metadata: Option<String>,
}

/// A piece of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactUpdate {
    /// The task.
    pub task_id: String,
    /// The conversation it belongs to.
    pub context_id: Option<String>,
    /// The new parts.
    pub artifact: Artifact,
    /// Whether they continue the artifact of this id; otherwise they replace it.
    pub append: bool,
    /// Whether it is complete with them.
    pub last_chunk: bool,
}

/// Some of an agent's tasks, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The tasks.
    pub tasks: Vec<Task>,
    /// What to ask for to get the next ones; `None` on the last page.
    pub next: Option<String>,
    /// How many there are on all pages, when the agent says so.
    pub total: Option<u64>,
}

/// An answer, or an event, as the agent sent it, out of its envelopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    json: String,
    kind: Kind,
    /// 0.3 REST puts data parts into one more object.
    boxed_data: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Task,
    Message,
    Status,
    Artifact,
}

/// A wrapping member, what it holds, and what 0.3 writes into `kind`.
const KINDS: [(&str, Kind, &str); 5] = [
    ("task", Kind::Task, "task"),
    ("message", Kind::Message, "message"),
    ("msg", Kind::Message, ""),
    ("statusUpdate", Kind::Status, "status-update"),
    ("artifactUpdate", Kind::Artifact, "artifact-update"),
];

impl Raw {
    /// The object inside `result`: 1.0 and 0.3 REST wrap it into a member that names it, 0.3 JSON-RPC names it by
    /// `kind`, CodeTether not at all.
    pub(super) fn new(result: &str, version: Version, binding: Binding) -> Self {
        let boxed_data = version == Version::V0_3 && binding == Binding::Rest;
        let members = Members::read(result).unwrap_or_default();
        let has = |name: &str| members.raw(&[name]).is_some();
        let wrapped = KINDS.iter().find_map(|(name, kind, _)| {
            let inner = members.raw(&[name]).filter(|raw| raw.starts_with('{'))?;
            Some((inner, *kind))
        });
        let spoken = members.text(&["kind"]);
        let named = KINDS.iter().find(|(_, _, name)| spoken.as_deref() == Some(*name));
        let (json, kind) = match (wrapped, named) {
            (Some(wrapped), None) if !has("status") => wrapped,
            (_, Some((_, kind, _))) => (result, *kind),
            _ if has("artifact") => (result, Kind::Artifact),
            _ if has("status") && has("taskId") && !has("id") => (result, Kind::Status),
            _ if !has("status") && (has("parts") || has("content")) => (result, Kind::Message),
            _ => (result, Kind::Task),
        };
        // Line breaks stand only between tokens of JSON: as blanks they leave one object a line.
        let json = json.replace(['\n', '\r'], " ");
        Self { json, kind, boxed_data }
    }

    /// One line of JSON.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Reads a task.
    ///
    /// # Errors
    /// `Broken` when it is none.
    pub fn task(&self) -> Result<Task, ClientError> {
        match self.event()? {
            Event::Task(task) => Ok(task),
            Event::Message(_) | Event::Status(_) | Event::Artifact(_) => Err(self.broken("a task")),
        }
    }

    /// Reads the answer to a message.
    ///
    /// # Errors
    /// `Broken` when it is neither a task nor a message.
    pub fn reply(&self) -> Result<Reply, ClientError> {
        match self.event()? {
            Event::Task(task) => Ok(Reply::Task(task)),
            Event::Message(message) => Ok(Reply::Message(message)),
            Event::Status(_) | Event::Artifact(_) => Err(self.broken("a task or a message")),
        }
    }

    /// Reads an event.
    ///
    /// # Errors
    /// `Broken` when it is none.
    pub fn event(&self) -> Result<Event, ClientError> {
        let members = Members::read(&self.json);
        let members = members.ok_or_else(|| self.broken("a task or a message"))?;
        let mut reader = Reader { left: ELEMENTS, boxed_data: self.boxed_data };
        let event = match self.kind {
            Kind::Task => reader.task(&members).map(|task| task.map(Event::Task)),
            Kind::Message => reader.message(&members).map(|message| message.map(Event::Message)),
            Kind::Status => reader.status_update(&members).map(|it| it.map(Event::Status)),
            Kind::Artifact => reader.artifact_update(&members).map(|it| it.map(Event::Artifact)),
        };
        event.map_err(ClientError::Broken)?.ok_or_else(|| self.broken("a task or a message"))
    }

    /// Reads a page of tasks.
    ///
    /// # Errors
    /// `Broken` when it is none.
    pub fn page(&self) -> Result<Page, ClientError> {
        let tasks = self.tasks()?.iter().map(Self::task).collect::<Result<_, _>>()?;
        let total = self.page_members()?.number(&["totalSize"]);
        Ok(Page { tasks, next: self.next_page(), total: total.and_then(|n| u64::try_from(n).ok()) })
    }

    /// What to ask for to get the page after this one; `None` on the last.
    pub fn next_page(&self) -> Option<String> {
        self.page_members().ok()?.filled(&["nextPageToken"])
    }

    /// The tasks of a page, each as the agent sent it.
    ///
    /// # Errors
    /// `Broken` when this is no page.
    pub fn tasks(&self) -> Result<Vec<Self>, ClientError> {
        let list = self.page_members()?.list(&["tasks"]).map_err(ClientError::Broken)?;
        let raw = |json: &str| Self { json: json.to_owned(), kind: Kind::Task, ..*self };
        Ok(list.into_iter().map(raw).collect())
    }

    fn page_members(&self) -> Result<Members<'_>, ClientError> {
        // An agent without tasks may leave the list out, as protocol buffers do.
        let fits = |page: &Members<'_>| {
            page.raw(&["id"]).is_none()
                && page.raw(&["tasks"]).is_none_or(|raw| raw.starts_with('['))
        };
        Members::read(&self.json).filter(fits).ok_or_else(|| self.broken("a list of tasks"))
    }

    /// What a stream's reader must know of an item.
    pub(super) fn mark(&self) -> Mark {
        let is_task = self.kind == Kind::Task;
        let Some(members) = Members::read(&self.json) else {
            return Mark { is_task, ..Mark::default() };
        };
        let status = members.object(&["status"]);
        let of = |name| status.as_ref().and_then(|status| status.text(&[name]));
        let state = of("state").map(|state| State::read(&state));
        let unix_ms = of("timestamp").and_then(|text| unix_ms_of(&text));
        let is_final = state.is_some_and(State::is_final);
        let last = match self.kind {
            Kind::Message => true,
            Kind::Task => is_final,
            // Where there is a `final`, it has the last word.
            Kind::Status => members.raw(&["final"]).map_or(is_final, |last| last == "true"),
            Kind::Artifact => false,
        };
        Mark { is_task, state, last, unix_ms }
    }

    fn broken(&self, wanted: &str) -> ClientError {
        ClientError::Broken(format!("not {wanted}: {}", cut(&self.json)))
    }
}

/// What an item of a stream says about the stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    /// Whether it is a whole task.
    pub is_task: bool,
    /// The state it tells.
    pub state: Option<State>,
    /// Whether it says that it is the last.
    pub last: bool,
    /// When its status was written.
    pub unix_ms: Option<u64>,
}

type Read<T> = Result<Option<T>, String>;

/// Reads the parts of one answer, at most [`ELEMENTS`] of all kinds together.
struct Reader {
    left: usize,
    boxed_data: bool,
}

impl Reader {
    fn take(&mut self) -> Result<(), String> {
        let more = || format!("more than {ELEMENTS} parts, artifacts and messages");
        self.left = self.left.checked_sub(1).ok_or_else(more)?;
        Ok(())
    }

    fn each<T>(
        &mut self,
        members: &Members<'_>,
        names: &[&str],
        read: impl Fn(&mut Self, &Members<'_>) -> Read<T>,
    ) -> Result<Vec<T>, String> {
        let mut all = Vec::new();
        for element in members.list(names)?.into_iter().filter_map(Members::read) {
            all.extend(read(self, &element)?);
        }
        Ok(all)
    }

    fn task(&mut self, from: &Members<'_>) -> Read<Task> {
        let (Some(id), Some(status)) = (from.filled(&["id"]), from.object(&["status"])) else {
            return Ok(None);
        };
        Ok(Some(Task {
            id,
            context_id: from.filled(&["contextId"]),
            status: self.status(&status)?,
            artifacts: self.each(from, &["artifacts"], Self::artifact)?,
            history: self.each(from, &["history"], Self::message)?,
            metadata: from.opaque(&["metadata"]),
        }))
    }

    fn status(&mut self, from: &Members<'_>) -> Result<Status, String> {
        // ProtoJSON of 0.3 says `message` here, its proto `update`.
        let message = from.object(&["message", "update"]);
        Ok(Status {
            state: State::read(&from.text(&["state"]).unwrap_or_default()),
            message: message.map_or(Ok(None), |message| self.message(&message))?,
            timestamp: from.filled(&["timestamp"]),
        })
    }

    fn message(&mut self, from: &Members<'_>) -> Read<Message> {
        let parts = self.each(from, &["parts", "content"], Self::part)?;
        let id = from.text(&["messageId"]).unwrap_or_default();
        if id.is_empty() && parts.is_empty() {
            return Ok(None);
        }
        let role = from.text(&["role"]).unwrap_or_default();
        let role =
            if role.to_ascii_lowercase().ends_with("user") { Role::User } else { Role::Agent };
        self.take()?;
        Ok(Some(Message {
            id,
            role,
            parts,
            context_id: from.filled(&["contextId"]),
            task_id: from.filled(&["taskId"]),
            metadata: from.opaque(&["metadata"]),
        }))
    }

    fn artifact(&mut self, from: &Members<'_>) -> Read<Artifact> {
        let parts = self.each(from, &["parts"], Self::part)?;
        let id = from.text(&["artifactId"]).unwrap_or_default();
        if id.is_empty() && parts.is_empty() {
            return Ok(None);
        }
        self.take()?;
        Ok(Some(Artifact {
            id,
            name: from.filled(&["name"]),
            description: from.filled(&["description"]),
            parts,
            metadata: from.opaque(&["metadata"]),
        }))
    }

    fn part(&mut self, from: &Members<'_>) -> Read<Part> {
        let file = from.object(&["file"]);
        let of = file.as_ref().unwrap_or(from);
        let content = if let Some(text) = from.text(&["text"]) {
            Content::Text(text)
        } else if let Some(bytes) = of.text(&["bytes", "fileWithBytes", "raw"]) {
            Content::Raw(bytes)
        } else if let Some(url) = of.text(&["uri", "fileWithUri", "url"]) {
            Content::Url(url)
        } else if let Some(data) = from.raw(&["data"]) {
            let inner = if self.boxed_data { Members::read(data) } else { None };
            Content::Data(inner.and_then(|inner| inner.raw(&["data"])).unwrap_or(data).to_owned())
        } else {
            return Ok(None);
        };
        self.take()?;
        Ok(Some(Part {
            content,
            filename: of.filled(&["name", "filename"]),
            media_type: of.filled(&["mimeType", "mediaType"]),
            metadata: from.opaque(&["metadata"]),
        }))
    }

    fn status_update(&mut self, from: &Members<'_>) -> Read<StatusUpdate> {
        let Some(status) = from.object(&["status"]) else { return Ok(None) };
        Ok(Some(StatusUpdate {
            task_id: from.text(&["taskId"]).unwrap_or_default(),
            context_id: from.filled(&["contextId"]),
            status: self.status(&status)?,
            last: from.is(&["final"]),
            metadata: from.opaque(&["metadata"]),
        }))
    }

    fn artifact_update(&mut self, from: &Members<'_>) -> Read<ArtifactUpdate> {
        let Some(artifact) = from.object(&["artifact"]) else { return Ok(None) };
        let Some(artifact) = self.artifact(&artifact)? else { return Ok(None) };
        Ok(Some(ArtifactUpdate {
            task_id: from.text(&["taskId"]).unwrap_or_default(),
            context_id: from.filled(&["contextId"]),
            artifact,
            append: from.is(&["append"]),
            last_chunk: from.is(&["lastChunk"]),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: [(Version, Binding); 4] = [
        (Version::V0_3, Binding::JsonRpc),
        (Version::V0_3, Binding::Rest),
        (Version::V1_0, Binding::JsonRpc),
        (Version::V1_0, Binding::Rest),
    ];

    /// One task as each wire form writes it, in the order of `FORMS`.
    const TASKS: [&str; 4] = [
        r#"{"kind":"task","id":"t","contextId":"c","status":{"state":"input-required","timestamp":"2026-11-20T10:00:00Z",
            "message":{"kind":"message","messageId":"m2","role":"agent","taskId":"t","parts":[{"kind":"text","text":"which?"}]}},
            "history":[{"kind":"message","messageId":"m1","role":"user","parts":[
                {"kind":"file","file":{"bytes":"aGk=","mimeType":"text/plain","name":"a.txt"}},{"kind":"data","data":{"data":{"k":1}}}]}],
            "artifacts":[{"artifactId":"a","name":"A","parts":[{"kind":"file","file":{"uri":"https://x/y","mimeType":"image/png"}}]}],
            "metadata":{"x":1}}"#,
        r#"{"task":{"id":"t","contextId":"c","status":{"state":"TASK_STATE_INPUT_REQUIRED","timestamp":"2026-11-20T10:00:00Z",
            "message":{"messageId":"m2","role":"ROLE_AGENT","taskId":"t","contextId":"","content":[{"text":"which?"}]}},
            "history":[{"messageId":"m1","role":"ROLE_USER","content":[
                {"file":{"fileWithBytes":"aGk=","mimeType":"text/plain","name":"a.txt"}},{"data":{"data":{"data":{"k":1}}}}]}],
            "artifacts":[{"artifactId":"a","name":"A","description":"","parts":[{"file":{"fileWithUri":"https://x/y","mimeType":"image/png"}}]}],
            "metadata":{"x":1}}}"#,
        NEW,
        NEW,
    ];
    const NEW: &str = r#"{"task":{"id":"t","contextId":"c","status":{"state":"TASK_STATE_INPUT_REQUIRED","timestamp":"2026-11-20T10:00:00Z",
        "message":{"messageId":"m2","role":"ROLE_AGENT","taskId":"t","parts":[{"text":"which?"}]}},
        "history":[{"messageId":"m1","role":"ROLE_USER","parts":[
            {"raw":"aGk=","mediaType":"text/plain","filename":"a.txt"},{"data":{"data":{"k":1}}}]}],
        "artifacts":[{"artifactId":"a","name":"A","parts":[{"url":"https://x/y","mediaType":"image/png"}]}],
        "metadata":{"x":1}}}"#;

    #[test]
    fn a_task_reads_the_same_from_every_wire_form() {
        let read = |at: usize| Raw::new(TASKS[at], FORMS[at].0, FORMS[at].1).task().unwrap();
        let task = read(0);
        assert_eq!((task.id.as_str(), task.context_id.as_deref()), ("t", Some("c")));
        assert_eq!(
            (task.status.state, task.status.text()),
            (State::InputRequired, "which?".into())
        );
        let sent = &task.history[0];
        assert_eq!((sent.role, sent.id.as_str()), (Role::User, "m1"));
        assert_eq!(sent.parts[0].content, Content::Raw("aGk=".to_owned()));
        assert_eq!(sent.parts[0].filename.as_deref(), Some("a.txt"));
        assert_eq!(sent.parts[1].content, Content::Data(r#"{"data":{"k":1}}"#.to_owned()));
        assert_eq!(task.artifacts[0].parts[0].content, Content::Url("https://x/y".to_owned()));
        assert_eq!(task.metadata.as_deref(), Some(r#"{"x":1}"#));
        for (at, form) in FORMS.iter().enumerate().skip(1) {
            assert_eq!(read(at), task, "{form:?}");
        }
    }

    #[test]
    fn events_are_told_apart_in_every_wire_form() {
        let forms: [[&str; 4]; 3] = [
            [
                r#"{"kind":"message","messageId":"m","role":"agent","parts":[{"kind":"text","text":"x"}]}"#,
                r#"{"kind":"status-update","taskId":"t","contextId":"c","status":{"state":"completed"},"final":true}"#,
                r#"{"kind":"artifact-update","taskId":"t","contextId":"c","append":true,"lastChunk":true,
                    "artifact":{"artifactId":"a","parts":[{"kind":"text","text":"x"}]}}"#,
                r#"{"kind":"task","id":"t","contextId":"c","status":{"state":"working"}}"#,
            ],
            [
                r#"{"message":{"messageId":"m","role":"ROLE_AGENT","content":[{"text":"x"}]}}"#,
                r#"{"statusUpdate":{"taskId":"t","contextId":"c","status":{"state":"TASK_STATE_COMPLETED"},"final":true}}"#,
                r#"{"artifactUpdate":{"taskId":"t","contextId":"c","append":true,"lastChunk":true,
                    "artifact":{"artifactId":"a","parts":[{"text":"x"}]}}}"#,
                r#"{"task":{"id":"t","contextId":"c","status":{"state":"TASK_STATE_WORKING"}}}"#,
            ],
            // Without `kind` and wrapper, as CodeTether writes.
            [
                r#"{"messageId":"m","role":"agent","parts":[{"text":"x"}]}"#,
                r#"{"taskId":"t","contextId":"c","status":{"state":"completed"},"final":true}"#,
                r#"{"taskId":"t","contextId":"c","append":true,"lastChunk":true,
                    "artifact":{"artifactId":"a","parts":[{"text":"x"}]}}"#,
                r#"{"id":"t","contextId":"c","status":{"state":"working","message":null},"artifacts":null}"#,
            ],
        ];
        let read = |json| {
            let raw = Raw::new(json, Version::V0_3, Binding::JsonRpc);
            assert!(!raw.json().contains('\n'), "{}", raw.json());
            let mark = raw.mark();
            (raw.event().unwrap(), (mark.state, mark.last))
        };
        for kind in 0..4 {
            for form in &forms[1..] {
                assert_eq!(read(form[kind]), read(forms[0][kind]), "{}", form[kind]);
            }
        }
        let ends: Vec<bool> = forms[0].iter().map(|json| read(json).1.1).collect();
        assert_eq!(ends, [true, true, false, false]);
    }

    #[test]
    fn a_state_is_read_in_any_spelling() {
        for state in State::ALL {
            let shouted = state.name().to_uppercase().replace('-', "_");
            for text in [state.name(), &shouted, &format!("TASK_STATE_{shouted}")] {
                assert_eq!(State::read(text), state, "{text}");
            }
        }
        for text in ["cancelled", "TASK_STATE_CANCELLED"] {
            assert_eq!(State::read(text), State::Canceled);
        }
        for text in ["", "done", "TASK_STATE_UNSPECIFIED", "unknown"] {
            assert_eq!(State::read(text), State::Unknown);
        }
    }

    #[test]
    fn pieces_of_a_streamed_text_are_joined_without_line_breaks() {
        let parts = |texts: &[&str]| -> Vec<Part> {
            texts.iter().map(|text| Part::new(Content::Text((*text).to_owned()))).collect()
        };
        assert_eq!(joined(&parts(&["first", "", "second"])), "first\nsecond");
        assert_eq!(joined(&parts(&["The ", "qu", "ick"])), "The quick");
        assert_eq!(joined(&parts(&["one", " two"])), "one two");
        assert_eq!(joined(&[Part::new(Content::Data("{}".to_owned()))]), "");
    }

    #[test]
    fn what_holds_nothing_is_left_out_and_nonsense_refused() {
        let raw = |json: &str| Raw::new(json, Version::V1_0, Binding::JsonRpc);
        let task =
            raw(r#"{"task":{"id":"t","status":{},"history":[{},7],"artifacts":[{"parts":[{}]}]}}"#);
        let task = task.task().unwrap();
        assert_eq!(
            (task.status.state, task.history.len(), task.artifacts.len()),
            (State::Unknown, 0, 0)
        );
        for json in ["{}", "[]", r#"{"task":{"id":"t"}}"#, r#"{"task":7}"#, r#"{"tasks":[]}"#] {
            assert!(matches!(raw(json).reply(), Err(ClientError::Broken(_))), "{json}");
        }
        let update =
            raw(r#"{"statusUpdate":{"taskId":"t","status":{"state":"TASK_STATE_WORKING"}}}"#);
        assert!(update.reply().is_err() && update.task().is_err());
    }

    #[test]
    fn an_answer_holds_a_bounded_number_of_parts() {
        let part = r#"{"text":""},"#;
        let artifact =
            format!(r#"{{"artifactId":"a","parts":[{}{{}}]}}"#, part.repeat(ELEMENTS / 2));
        let answer = |artifacts: &[&str]| {
            let json = artifacts.join(",");
            let json = format!(r#"{{"task":{{"id":"t","status":{{}},"artifacts":[{json}]}}}}"#);
            Raw::new(&json, Version::V1_0, Binding::JsonRpc).task()
        };
        assert_eq!(answer(&[&artifact]).unwrap().artifacts[0].parts.len(), ELEMENTS / 2);
        let error = answer(&[&artifact, &artifact]).unwrap_err().to_string();
        assert!(error.contains("more than 65536 parts"), "{error}");
    }

    #[test]
    fn a_page_names_the_next_one() {
        let page = |json: &str| Raw::new(json, Version::V1_0, Binding::Rest).page();
        let read = page(
            r#"{"tasks":[{"id":"t","status":{"state":"TASK_STATE_FAILED"}}],"nextPageToken":"n",
            "pageSize":1,"totalSize":2}"#,
        );
        let read = read.unwrap();
        assert_eq!((read.tasks.len(), read.next.as_deref(), read.total), (1, Some("n"), Some(2)));
        assert_eq!(page(r#"{"tasks":[],"nextPageToken":""}"#).unwrap(), Page::default());
        assert_eq!(page("{}").unwrap(), Page::default());
        assert!(page(r#"{"id":"t","status":{}}"#).is_err() && page(r#"{"tasks":{}}"#).is_err());
    }
}
