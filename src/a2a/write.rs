//! Writes tasks, events, lists and webhooks in the dialect that their reader speaks.
//!
//! One pass into the buffer that goes to the socket; ids that stand in every message of a task are written once and
//! then copied.

use std::fmt::Write as _;
use std::ops::Range;

use crate::a2a::dialect::Dialect;
use crate::a2a::model::{Artifact, Content, Message, MessageId, Part, Role, Status, Task};
use crate::a2a::op::{Event, Hook};
use crate::base::clock::rfc3339_into;
use crate::base::ids::{ContextId, TaskId, uuid_into};
use crate::base::json::{Json, raw_len, string_len};

/// Where the ids of a task stand in the text, to be written again: `"<task id>","contextId":"<context>"`.
type Ids = Range<usize>;

/// A writer of one dialect.
#[derive(Debug)]
pub struct Writer<'j> {
    json: &'j mut Json,
    dialect: Dialect,
}

/// What of a task is written.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Most recent messages; all when absent.
    pub history: Option<usize>,
    /// Whether the artifacts.
    pub artifacts: bool,
}

impl View {
    /// Everything.
    pub const WHOLE: Self = Self { history: None, artifacts: true };

    /// With so many messages.
    pub const fn with(history: Option<usize>) -> Self {
        Self { history, artifacts: true }
    }
}

impl<'j> Writer<'j> {
    /// Writes to `json`.
    pub const fn new(json: &'j mut Json, dialect: Dialect) -> Self {
        Self { json, dialect }
    }

    /// The task.
    pub fn task(&mut self, task: &Task, view: View) {
        self.json.open_object();
        self.json.literal(match self.dialect {
            Dialect::V03 => r#""kind":"task","id":"#,
            Dialect::Proto03 | Dialect::V1 => r#""id":"#,
        });
        let ids = self.ids(task);
        self.json.literal(r#","status":"#);
        self.status(task, &ids, &task.status);
        if view.artifacts && !task.artifacts.is_empty() {
            self.json.literal(r#","artifacts":"#);
            self.json.open_array();
            for artifact in &task.artifacts {
                self.artifact(artifact, None);
            }
            self.json.close_array();
        }
        let skipped = task.history.len().saturating_sub(view.history.unwrap_or(usize::MAX));
        if view.history != Some(0) && !task.history.is_empty() {
            self.json.literal(r#","history":"#);
            self.json.open_array();
            for message in &task.history[skipped..] {
                self.message_of(&ids, message);
            }
            self.json.close_array();
        }
        self.metadata(task.metadata.as_deref());
        self.json.close_object();
    }

    /// The task as the result of a message: under the name `task` where a dialect has other results beside it.
    pub fn sent(&mut self, task: &Task, view: View) {
        match self.dialect {
            Dialect::V03 => self.task(task, view),
            Dialect::Proto03 | Dialect::V1 => self.named("task", |writer| writer.task(task, view)),
        }
    }

    /// A message that stands for itself, as the result of another.
    pub fn answered(&mut self, message: &Message, context: &ContextId) {
        match self.dialect {
            Dialect::V03 => self.message(message, context),
            Dialect::Proto03 | Dialect::V1 => {
                self.named("message", |writer| writer.message(message, context));
            }
        }
    }

    /// One item of a stream; `last` when the stream ends with it.
    pub fn event(&mut self, event: &Event<'_>, last: bool) {
        match (event, self.dialect) {
            (Event::Task(task), _) => self.sent(task, View::WHOLE),
            (Event::Message { message, context }, _) => self.answered(message, context),
            (Event::Status { task, status }, Dialect::V03) => self.status_event(task, status, last),
            (Event::Status { task, status }, _) => {
                self.named("statusUpdate", |writer| writer.status_event(task, status, last));
            }
            (Event::Artifact { task, artifact, chunk, append }, Dialect::V03) => {
                self.artifact_event(task, artifact, *chunk, *append);
            }
            (Event::Artifact { task, artifact, chunk, append }, _) => {
                self.named("artifactUpdate", |writer| {
                    writer.artifact_event(task, artifact, *chunk, *append);
                });
            }
        }
    }

    fn named(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.json.open_object();
        self.json.key(name);
        write(self);
        self.json.close_object();
    }

    fn status_event(&mut self, task: &Task, status: &Status, last: bool) {
        self.json.open_object();
        self.json.literal(match self.dialect {
            Dialect::V03 => r#""kind":"status-update","taskId":"#,
            Dialect::Proto03 | Dialect::V1 => r#""taskId":"#,
        });
        let ids = self.ids(task);
        self.json.literal(r#","status":"#);
        self.status(task, &ids, status);
        if self.dialect != Dialect::V1 {
            self.json.key("final");
            self.json.bool(last);
        }
        // A stream is all that its reader sees of the task: how the reply ended belongs into it.
        if status.state.is_final() {
            self.metadata(task.metadata.as_deref());
        }
        self.json.close_object();
    }

    fn artifact_event(
        &mut self,
        task: &Task,
        artifact: &Artifact,
        chunk: Option<&str>,
        append: bool,
    ) {
        self.json.open_object();
        self.json.literal(match self.dialect {
            Dialect::V03 => r#""kind":"artifact-update","taskId":"#,
            Dialect::Proto03 | Dialect::V1 => r#""taskId":"#,
        });
        self.ids(task);
        self.json.literal(r#","artifact":"#);
        self.artifact(artifact, chunk);
        self.json.key("append");
        self.json.bool(append);
        if chunk.is_none() {
            self.json.key("lastChunk");
            self.json.bool(true);
        }
        self.json.close_object();
    }

    fn ids(&mut self, task: &Task) -> Ids {
        let start = self.json.len();
        self.json.plain(|text| task.id.write(text));
        self.json.literal(r#","contextId":"#);
        self.context(&task.context);
        start..self.json.len()
    }

    fn context(&mut self, context: &ContextId) {
        match context {
            ContextId::Uuid(uuid) => self.json.plain(|text| uuid_into(text, uuid)),
            ContextId::Text(text) => self.json.string(text),
        }
    }

    fn status(&mut self, task: &Task, ids: &Ids, status: &Status) {
        self.json.open_object();
        self.json.word("state", self.dialect.state(status.state, task.loose));
        if let Some(message) = &status.message {
            self.json.literal(r#","message":"#);
            self.message_of(ids, message);
        }
        self.json.literal(r#","timestamp":"#);
        self.json.plain(|text| rfc3339_into(text, status.unix_ms));
        self.json.close_object();
    }

    /// A message of a task.
    fn message_of(&mut self, ids: &Ids, message: &Message) {
        self.message_head(message, |text| {
            let id = ids.start + 1..ids.start + 1 + TaskId::LENGTH;
            text.extend_from_within(id);
        });
        self.json.literal(r#","taskId":"#);
        self.json.again(ids.clone());
        self.message_rest(message);
    }

    /// A message that belongs to no task.
    fn message(&mut self, message: &Message, context: &ContextId) {
        self.message_head(message, |text| text.push_str("message"));
        self.json.literal(r#","contextId":"#);
        self.context(context);
        self.message_rest(message);
    }

    /// Up to the parts; `whose` begins the ids of the agent's own messages.
    fn message_head(&mut self, message: &Message, whose: impl FnOnce(&mut String)) {
        self.json.open_object();
        self.json.literal(match self.dialect {
            Dialect::V03 => r#""kind":"message","messageId":"#,
            Dialect::Proto03 | Dialect::V1 => r#""messageId":"#,
        });
        match &message.id {
            MessageId::Given(id) => self.json.string(id),
            MessageId::Own(number) => self.json.plain(|text| {
                whose(text);
                let _ = write!(text, "-{number}");
            }),
        }
        self.json.literal(match (self.dialect, message.role) {
            (Dialect::V03, Role::User) => r#","role":"user","parts":"#,
            (Dialect::V03, Role::Agent) => r#","role":"agent","parts":"#,
            (Dialect::Proto03, Role::User) => r#","role":"ROLE_USER","content":"#,
            (Dialect::Proto03, Role::Agent) => r#","role":"ROLE_AGENT","content":"#,
            (Dialect::V1, Role::User) => r#","role":"ROLE_USER","parts":"#,
            (Dialect::V1, Role::Agent) => r#","role":"ROLE_AGENT","parts":"#,
        });
        self.parts(&message.parts);
    }

    fn message_rest(&mut self, message: &Message) {
        if let Some(extra) = &message.extra {
            let members = [
                ("metadata", &extra.metadata),
                ("extensions", &extra.extensions),
                ("referenceTaskIds", &extra.reference_task_ids),
            ];
            for (name, value) in members {
                // The 0.3 proto has no such member in a message.
                let is_unknown = self.dialect == Dialect::Proto03 && name == "referenceTaskIds";
                if let Some(value) = value
                    && !is_unknown
                {
                    self.json.key(name);
                    self.json.raw(value);
                }
            }
        }
        self.json.close_object();
    }

    fn metadata(&mut self, metadata: Option<&str>) {
        if let Some(metadata) = metadata {
            self.json.key("metadata");
            self.json.raw(metadata);
        }
    }

    fn artifact(&mut self, artifact: &Artifact, chunk: Option<&str>) {
        self.json.open_object();
        self.json.word("artifactId", artifact.id);
        self.json.word("name", artifact.name);
        self.json.literal(r#","parts":"#);
        match chunk {
            None if !artifact.parts.is_empty() => self.parts(&artifact.parts),
            _ => {
                self.json.literal(match self.dialect {
                    Dialect::V03 => r#"[{"kind":"text","text":"#,
                    Dialect::Proto03 | Dialect::V1 => r#"[{"text":"#,
                });
                self.json.string(chunk.unwrap_or(&artifact.growing));
                self.json.close_object();
                self.json.close_array();
            }
        }
        self.json.close_object();
    }

    fn parts(&mut self, parts: &[Part]) {
        self.json.open_array();
        for part in parts {
            self.json.open_object();
            match self.dialect {
                Dialect::V1 => self.content_v1(part),
                Dialect::V03 | Dialect::Proto03 => self.content_v03(part),
            }
            self.metadata(part.extra.as_ref().and_then(|extra| extra.metadata.as_deref()));
            self.json.close_object();
        }
        self.json.close_array();
    }

    fn content_v1(&mut self, part: &Part) {
        match &part.content {
            Content::Text(text) => {
                self.json.literal(r#""text":"#);
                self.json.string(text);
            }
            Content::Raw(bytes) => self.json.member("raw", bytes),
            Content::Url(url) => self.json.member("url", url),
            Content::Data(data) => {
                self.json.key("data");
                self.json.raw(data);
            }
        }
        if let Some(extra) = &part.extra {
            if let Some(filename) = &extra.filename {
                self.json.member("filename", filename);
            }
            if let Some(media_type) = &extra.media_type {
                self.json.member("mediaType", media_type);
            }
        }
    }

    /// What 0.3 cannot say is left out: a name and a media type beside text, and data that is no object stands in one.
    fn content_v03(&mut self, part: &Part) {
        let kind = |json: &mut Json, kind: &'static str, dialect| {
            if dialect == Dialect::V03 {
                json.word("kind", kind);
            }
        };
        let bytes_name = if self.dialect == Dialect::V03 { "bytes" } else { "fileWithBytes" };
        let uri_name = if self.dialect == Dialect::V03 { "uri" } else { "fileWithUri" };
        match &part.content {
            Content::Text(text) => {
                self.json.literal(match self.dialect {
                    Dialect::V03 => r#""kind":"text","text":"#,
                    Dialect::Proto03 | Dialect::V1 => r#""text":"#,
                });
                self.json.string(text);
            }
            Content::Raw(bytes) => {
                kind(self.json, "file", self.dialect);
                self.file(part, bytes_name, bytes);
            }
            Content::Url(uri) => {
                kind(self.json, "file", self.dialect);
                self.file(part, uri_name, uri);
            }
            Content::Data(data) => {
                kind(self.json, "data", self.dialect);
                let is_object = data.trim_ascii_start().starts_with('{');
                let is_wrapped = self.dialect == Dialect::Proto03;
                let wrappers = [(is_wrapped, "data"), (!is_object, "value")];
                self.json.key("data");
                for (_, name) in wrappers.iter().filter(|(is_there, _)| *is_there) {
                    self.json.open_object();
                    self.json.key(name);
                }
                self.json.raw(data);
                for _ in wrappers.iter().filter(|(is_there, _)| *is_there) {
                    self.json.close_object();
                }
            }
        }
    }

    fn file(&mut self, part: &Part, member: &str, value: &str) {
        self.json.key("file");
        self.json.open_object();
        self.json.member(member, value);
        if let Some(extra) = &part.extra {
            if let Some(media_type) = &extra.media_type {
                self.json.member("mimeType", media_type);
            }
            if let Some(filename) = &extra.filename {
                self.json.member("name", filename);
            }
        }
        self.json.close_object();
    }

    /// A page of a list (A2A 1.0 §3.1.4).
    pub fn page<'t>(
        &mut self,
        tasks: impl Iterator<Item = &'t Task>,
        view: View,
        sizes: (usize, usize),
        next: Option<&dyn std::fmt::Display>,
    ) {
        self.json.open_object();
        self.json.key("tasks");
        self.json.open_array();
        for task in tasks {
            self.task(task, view);
        }
        self.json.close_array();
        self.json.key("nextPageToken");
        match next {
            Some(next) => self.json.string_from(next),
            None => self.json.string(""),
        }
        self.json.key("pageSize");
        self.json.number(sizes.0 as u64);
        self.json.key("totalSize");
        self.json.number(sizes.1 as u64);
        self.json.close_object();
    }

    /// A webhook of a task.
    pub fn hook(&mut self, task: TaskId, hook: &Hook) {
        self.json.open_object();
        match self.dialect {
            Dialect::V03 => {
                self.json.key("taskId");
                self.json.plain(|text| task.write(text));
                self.json.key("pushNotificationConfig");
                self.json.open_object();
                self.hook_members(hook);
                self.json.close_object();
            }
            Dialect::Proto03 => {
                self.json.key("name");
                self.json
                    .string_from(&format_args!("tasks/{task}/pushNotificationConfigs/{}", hook.id));
                self.json.key("pushNotificationConfig");
                self.json.open_object();
                self.hook_members(hook);
                self.json.close_object();
            }
            Dialect::V1 => {
                self.json.key("taskId");
                self.json.plain(|text| task.write(text));
                self.hook_members(hook);
            }
        }
        self.json.close_object();
    }

    fn hook_members(&mut self, hook: &Hook) {
        self.json.member("id", &hook.id);
        self.json.member("url", &hook.url);
        if let Some(token) = &hook.token {
            self.json.member("token", token);
        }
        if let Some((scheme, credentials)) = &hook.authentication {
            self.json.key("authentication");
            self.json.open_object();
            if self.dialect == Dialect::V1 {
                self.json.member("scheme", scheme);
            } else {
                self.json.key("schemes");
                self.json.open_array();
                self.json.string(scheme);
                self.json.close_array();
            }
            if !credentials.is_empty() {
                self.json.member("credentials", credentials);
            }
            self.json.close_object();
        }
    }

    /// All webhooks of a task.
    pub fn hooks<'h>(&mut self, task: TaskId, hooks: impl Iterator<Item = &'h Hook>) {
        if self.dialect != Dialect::V03 {
            self.json.open_object();
            self.json.key("configs");
        }
        self.json.open_array();
        for hook in hooks {
            self.hook(task, hook);
        }
        self.json.close_array();
        if self.dialect != Dialect::V03 {
            self.json.word("nextPageToken", "");
            self.json.close_object();
        }
    }
}

/// Longest that anything written around the texts of a task, a message, a part, an artifact or a webhook is: names,
/// our own ids, states, dates, and the reply that holds it.
const AROUND: usize = 512;

/// Texts of so many bytes are not worth measuring.
const SHORT: usize = 48;
/// Bytes of one byte at most, as in `\u0000`.
const LONGEST_ESCAPE: usize = 6;

/// Bytes of `text` as a JSON string, at most.
fn text_len(text: &str) -> usize {
    if text.len() <= SHORT { 2 + LONGEST_ESCAPE * text.len() } else { string_len(text) }
}

/// Bytes of a task as it is written in any dialect, and of the reply around it, at most.
pub fn task_len(task: &Task, view: View) -> usize {
    let context = context_len(&task.context);
    let skipped = task.history.len().saturating_sub(view.history.unwrap_or(usize::MAX));
    let history = task.history[skipped..].iter().map(|message| message_len(message) + context);
    let artifacts = if view.artifacts { task.artifacts.iter().map(artifact_len).sum() } else { 0 };
    AROUND + status_len(task, &task.status) + history.sum::<usize>() + artifacts
}

/// Bytes of a message with its parts, at most; of its context only as much as an id of ours has.
pub fn message_len(message: &Message) -> usize {
    let id = match &message.id {
        MessageId::Given(id) => text_len(id),
        MessageId::Own(_) => 0,
    };
    let extra = message.extra.as_ref().map_or(0, |extra| {
        let members = [&extra.metadata, &extra.extensions, &extra.reference_task_ids];
        members.into_iter().flatten().map(|json| raw_len(json)).sum()
    });
    AROUND + id + extra + parts_len(&message.parts)
}

/// Bytes of one item of a stream, at most.
pub fn event_len(event: &Event<'_>) -> usize {
    AROUND
        + match event {
            Event::Task(task) => task_len(task, View::WHOLE),
            Event::Message { message, context } => message_len(message) + context_len(context),
            Event::Status { task, status } => status_len(task, status),
            Event::Artifact { task, artifact, chunk, .. } => {
                context_len(&task.context)
                    + chunk.map_or_else(|| artifact_len(artifact), |text| AROUND + text_len(text))
            }
        }
}

/// Bytes of a webhook, at most.
pub fn hook_len(hook: &Hook) -> usize {
    let (scheme, credentials) =
        hook.authentication.as_ref().map_or(("", ""), |(scheme, rest)| (scheme, rest));
    let texts =
        [&hook.id, &hook.url, hook.token.as_deref().unwrap_or_default(), scheme, credentials];
    // In 0.3 the id stands in a name, too.
    AROUND + text_len(&hook.id) + texts.into_iter().map(text_len).sum::<usize>()
}

fn status_len(task: &Task, status: &Status) -> usize {
    let context = context_len(&task.context);
    let message = status.message.as_ref().map_or(0, |message| message_len(message) + context);
    AROUND + context + message + task.metadata.as_deref().map_or(0, raw_len)
}

fn artifact_len(artifact: &Artifact) -> usize {
    AROUND + text_len(&artifact.growing) + parts_len(&artifact.parts)
}

fn parts_len(parts: &[Part]) -> usize {
    let len = |part: &Part| {
        let content = match &part.content {
            Content::Text(text) | Content::Raw(text) | Content::Url(text) => text_len(text),
            Content::Data(json) => raw_len(json),
        };
        let extra = part.extra.as_ref().map_or(0, |extra| {
            let texts = [&extra.filename, &extra.media_type].into_iter().flatten();
            texts.map(|text| text_len(text)).sum::<usize>()
                + extra.metadata.as_deref().map_or(0, raw_len)
        });
        128 + content + extra
    };
    parts.iter().map(len).sum()
}

fn context_len(context: &ContextId) -> usize {
    match context {
        ContextId::Uuid(_) => 0,
        ContextId::Text(text) => text_len(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::a2a::model::{Parts, TaskState};
    use crate::a2a::params::Params;

    fn send(params: &str) -> Result<crate::a2a::op::Send, crate::a2a::error::A2aError> {
        serde_json::from_str::<Params<'_>>(params).unwrap().send(Dialect::V03)
    }

    #[test]
    fn a_task_reads_back_member_by_member() {
        let mut ids = crate::base::ids::Ids::new(Box::new(|bytes| bytes.fill(7)));
        let sent = send(
            r#"{"message":{"messageId":"m1","role":"user","parts":[
                {"kind":"text","text":"a \"quoted\" text","metadata":{"a":1}},
                {"kind":"file","file":{"uri":"https://example.org/x","mimeType":"text/plain","name":"x"}},
                {"kind":"data","data":{"k":[1,2]}}],"referenceTaskIds":["t"]}}"#,
        )
        .unwrap();
        let mut artifact = Artifact::whole("reply", "Reply", Parts::new());
        artifact.growing.push_str("half");
        let task = Task {
            id: ids.task(5),
            context: ContextId::parse("c").unwrap(),
            status: Status { state: TaskState::Canceled, message: None, unix_ms: 0 },
            history: vec![sent.message].into(),
            artifacts: vec![artifact].into(),
            metadata: Some(r#"{"model":"m"}"#.into()),
            loose: false,
        };
        let mut json = Json::default();
        Writer::new(&mut json, Dialect::V03).task(&task, View::WHOLE);
        let id = task.id.to_string();
        let expected = serde_json::json!({
            "kind": "task", "id": id, "contextId": "c",
            "status": {"state": "canceled", "timestamp": "1970-01-01T00:00:00.000Z"},
            "artifacts": [{"artifactId": "reply", "name": "Reply", "parts": [{"kind": "text", "text": "half"}]}],
            "history": [{"kind": "message", "messageId": "m1", "role": "user", "taskId": id, "contextId": "c",
                "referenceTaskIds": ["t"], "parts": [
                {"kind": "text", "text": "a \"quoted\" text", "metadata": {"a": 1}},
                {"kind": "file", "file": {"uri": "https://example.org/x", "mimeType": "text/plain", "name": "x"}},
                {"kind": "data", "data": {"k": [1, 2]}}]}],
            "metadata": {"model": "m"},
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(json.as_str()).unwrap(), expected);
        let mut json = Json::default();
        Writer::new(&mut json, Dialect::V03)
            .event(&Event::Status { task: &task, status: &task.status }, true);
        assert!(json.as_str().ends_with(r#""final":true,"metadata":{"model":"m"}}"#));
        let loose = Task { loose: true, ..task };
        let mut json = Json::default();
        Writer::new(&mut json, Dialect::V03).task(&loose, View::with(Some(0)));
        assert!(json.as_str().contains(r#""state":"cancelled""#));
        assert!(!json.as_str().contains("history"));
    }

    #[test]
    fn a_task_is_never_longer_than_it_was_measured() {
        let text = "\u{8}\"\u{2028}".repeat(5000);
        let sent = send(&format!(
            r#"{{"message":{{"messageId":"\\u0001","role":"user","contextId":"\"\"","parts":[
                {{"kind":"text","text":{text}}},{{"kind":"data","data":{{"a":{text}
                }}}},{{"kind":"file","file":{{"uri":"u","name":{text}}}}}],"metadata":{{"\u2028":{text}}}}}}}"#,
            text = serde_json::to_string(&text).unwrap(),
        ))
        .unwrap();
        let status =
            Status { state: TaskState::Working, message: Some(sent.message.clone()), unix_ms: 0 };
        let task = Task {
            id: crate::base::ids::Ids::new(Box::new(|bytes| bytes.fill(7))).task(5),
            context: sent.context.unwrap(),
            status,
            history: vec![sent.message].into(),
            artifacts: vec![Artifact::whole("a", "b", Parts::new())].into(),
            metadata: None,
            loose: false,
        };
        for dialect in [Dialect::V03, Dialect::Proto03, Dialect::V1] {
            let binding = crate::a2a::binding::Binding::rest(dialect);
            let written = binding.frame(&Event::Task(&task), false).len();
            let measured = task_len(&task, View::WHOLE);
            assert!(written <= measured && measured < written + 4096, "{written} {measured}");
            assert!(task_len(&task, View { history: Some(0), artifacts: false }) < measured);
        }
    }
}
