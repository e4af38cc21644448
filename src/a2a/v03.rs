//! The JSON of A2A 0.3 (JSON-RPC binding): `kind` members, kebab-case states, `final`.
//!
//! Reading is tolerant where CodeTether's public pages write it looser: parts as `{"type":"text","content":".."}`,
//! without `messageId`, `role` or `kind`. Strict otherwise: an error names the member that does not fit.

use std::fmt::Write as _;
use std::ops::Range;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::a2a::error::A2aError;
use crate::a2a::model::{
    Artifact, Content, Message, MessageExtra, MessageId, Part, PartExtra, Parts, Role, Status,
    Task, TaskState,
};
use crate::a2a::op::{Event, Send};
use crate::a2a::read::{Ignored, LIST, List, Object, Str, object};
use crate::base::clock::rfc3339_into;
use crate::base::ids::{ContextId, TaskId, uuid_into};
use crate::base::json::Json;

/// Bytes of a client's message id.
const ID_BYTES: usize = 256;

/// The `params` of every 0.3 method at once, so that a request is read in one pass.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Params<'a> {
    #[serde(borrow)]
    id: Option<Str<'a>>,
    #[serde(borrow)]
    task_id: Option<Str<'a>>,
    history_length: Option<i64>,
    #[serde(borrow)]
    message: Option<Box<Object<MessageIn<'a>>>>,
    #[serde(borrow)]
    configuration: Option<Object<ConfigurationIn<'a>>>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigurationIn<'a> {
    accepted_output_modes: Option<List<Ignored>>,
    blocking: Option<bool>,
    history_length: Option<i64>,
    #[serde(borrow)]
    push_notification_config: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageIn<'a> {
    #[serde(borrow)]
    message_id: Option<Str<'a>>,
    #[serde(borrow)]
    role: Option<Str<'a>>,
    #[serde(borrow)]
    parts: Option<List<Object<PartIn<'a>>>>,
    #[serde(borrow)]
    context_id: Option<Str<'a>>,
    #[serde(borrow)]
    task_id: Option<Str<'a>>,
    #[serde(borrow)]
    kind: Option<Str<'a>>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    extensions: Option<&'a RawValue>,
    #[serde(borrow)]
    reference_task_ids: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct PartIn<'a> {
    #[serde(borrow)]
    kind: Option<Str<'a>>,
    #[serde(borrow, rename = "type")]
    loose_kind: Option<Str<'a>>,
    #[serde(borrow)]
    text: Option<Str<'a>>,
    #[serde(borrow)]
    content: Option<Str<'a>>,
    #[serde(borrow)]
    file: Option<Box<Object<FileIn<'a>>>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileIn<'a> {
    #[serde(borrow)]
    bytes: Option<Str<'a>>,
    #[serde(borrow)]
    uri: Option<Str<'a>>,
    #[serde(borrow)]
    mime_type: Option<Str<'a>>,
    #[serde(borrow)]
    name: Option<Str<'a>>,
}

fn invalid(what: impl Into<String>) -> A2aError {
    A2aError::InvalidParams(what.into())
}

impl Params<'_> {
    /// The task that `id`, or CodeTether's `taskId`, names.
    pub fn task(&self) -> Result<TaskId, A2aError> {
        let id = self.id.as_ref().or(self.task_id.as_ref());
        let id = id.ok_or_else(|| invalid("id: missing"))?;
        TaskId::parse(id.as_str()).ok_or(A2aError::TaskNotFound)
    }

    /// The number of most recent messages wanted.
    pub fn history(&self) -> Result<Option<usize>, A2aError> {
        length(self.history_length, "historyLength")
    }

    /// The message sent, checked.
    ///
    /// # Errors
    /// `InvalidParams` naming the member; `TaskNotFound` for a task id that is none of ours.
    pub fn send(&self) -> Result<Send, A2aError> {
        let Object(sent) = self.message.as_deref().ok_or_else(|| invalid("message: missing"))?;
        let parts = sent.parts.as_ref().ok_or_else(|| invalid("message.parts: missing"))?;
        let parts = parts.0.as_slice();
        if parts.is_empty() {
            return Err(invalid("message.parts: at least one part is needed"));
        }
        let loose =
            parts.iter().any(|Object(part)| part.kind.is_none() && part.loose_kind.is_some());
        expect_kind(sent.kind.as_ref(), "message", "message.kind")?;
        match sent.role.as_ref().map(Str::as_str) {
            Some("user") => {}
            None if loose => {}
            Some("agent") => return Err(invalid("message.role: must be `user` in a request")),
            Some(_) => return Err(invalid("message.role: must be `user`")),
            None => return Err(invalid("message.role: missing")),
        }
        let id = match &sent.message_id {
            Some(id) if id.as_str().is_empty() => return Err(invalid("message.messageId: empty")),
            Some(id) if id.as_str().len() > ID_BYTES => {
                return Err(invalid(format!("message.messageId: longer than {ID_BYTES} bytes")));
            }
            Some(id) => id.as_str(),
            None if loose => "message",
            None => return Err(invalid("message.messageId: missing")),
        };
        let parts = parts
            .iter()
            .enumerate()
            .map(|(at, Object(part))| part.checked(at))
            .collect::<Result<Parts, _>>()?;
        let task = match sent.task_id.as_ref().map(Str::as_str) {
            None | Some("") => None,
            Some(id) => Some(TaskId::parse(id).ok_or(A2aError::TaskNotFound)?),
        };
        let context = match sent.context_id.as_ref().map(Str::as_str) {
            None | Some("") => None,
            Some(id) => Some(ContextId::parse(id).ok_or_else(|| {
                invalid("message.contextId: must be 1 to 128 bytes without control characters")
            })?),
        };
        let metadata = sent
            .metadata
            .map(|raw| object(raw, "message.metadata").map_err(invalid))
            .transpose()?;
        let outer =
            self.metadata.map(|raw| object(raw, "metadata").map_err(invalid)).transpose()?;
        let skill = match chosen_skill(metadata, "message.metadata.skill")? {
            Some(skill) => Some(skill),
            None => chosen_skill(outer, "metadata.skill")?,
        };
        let extra = MessageExtra {
            metadata: metadata.map(Into::into),
            extensions: strings(sent.extensions, "message.extensions")?,
            reference_task_ids: strings(sent.reference_task_ids, "message.referenceTaskIds")?,
        };
        let message = Message {
            id: MessageId::Given(id.into()),
            role: Role::User,
            parts,
            extra: (extra != MessageExtra::default()).then(|| Box::new(extra)),
        };
        let configuration = self.configuration.as_ref().map(|Object(configuration)| configuration);
        if configuration.is_some_and(|c| c.push_notification_config.is_some()) {
            return Err(A2aError::PushNotificationNotSupported);
        }
        let length =
            length(configuration.and_then(|c| c.history_length), "configuration.historyLength")?;
        let blocking = configuration.and_then(|c| c.blocking).unwrap_or(true);
        // Advisory (A2A 0.3 §7.1.2); every reply here is text, with data beside it where there is some.
        let _ = configuration.and_then(|c| c.accepted_output_modes.as_ref());
        let message = Rc::new(message);
        Ok(Send { message, task, context, blocking, history: length, skill, loose })
    }
}

fn length(value: Option<i64>, member: &str) -> Result<Option<usize>, A2aError> {
    value
        .map(|n| usize::try_from(n).map_err(|_| invalid(format!("{member}: must not be negative"))))
        .transpose()
}

fn expect_kind(kind: Option<&Str<'_>>, wanted: &str, member: &str) -> Result<(), A2aError> {
    match kind {
        Some(kind) if kind.as_str() != wanted => {
            Err(invalid(format!("{member}: must be `{wanted}`")))
        }
        _ => Ok(()),
    }
}

fn strings(raw: Option<&RawValue>, member: &str) -> Result<Option<Box<str>>, A2aError> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str::<List<Ignored>>(raw.get())
        .map_err(|_| invalid(format!("{member}: expected an array of at most {LIST} strings")))?;
    Ok(Some(raw.get().into()))
}

/// The string member `skill` of a metadata object.
fn chosen_skill(metadata: Option<&str>, member: &str) -> Result<Option<Box<str>>, A2aError> {
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow)]
        skill: Option<Str<'a>>,
    }
    let Some(metadata) = metadata else { return Ok(None) };
    let choice = serde_json::from_str::<Choice<'_>>(metadata)
        .map_err(|_| invalid(format!("{member}: expected a string")))?;
    Ok(choice.skill.map(|skill| skill.as_str().into()))
}

impl PartIn<'_> {
    fn checked(&self, at: usize) -> Result<Part, A2aError> {
        let here = |what: &str| invalid(format!("message.parts[{at}]{what}"));
        let text = self.text.as_ref().or(match self.kind {
            None => self.content.as_ref(),
            Some(_) => None,
        });
        let contents = usize::from(text.is_some())
            + usize::from(self.file.is_some())
            + usize::from(self.data.is_some());
        if contents > 1 {
            return Err(here(": must hold one of text, file and data, not several"));
        }
        let kind = self.kind.as_ref().or(self.loose_kind.as_ref()).map(Str::as_str);
        let mut extra = PartExtra {
            metadata: self
                .metadata
                .map(|raw| object(raw, "metadata").map(Into::into))
                .transpose()
                .map_err(|what| here(&format!(".{what}")))?,
            ..PartExtra::default()
        };
        let content = match (kind, text, self.file.as_deref(), self.data) {
            (Some("text") | None, Some(text), ..) => Content::Text(text.as_str().into()),
            (Some("file") | None, _, Some(Object(file)), _) => file.checked(&here, &mut extra)?,
            (Some("data") | None, .., Some(data)) => {
                Content::Data(object(data, ".data").map_err(|what| here(&what))?.into())
            }
            (Some("text"), ..) => return Err(here(".text: missing")),
            (Some("file"), ..) => return Err(here(".file: missing")),
            (Some("data"), ..) => return Err(here(".data: missing")),
            (Some(_), ..) => return Err(here(".kind: must be one of text, file, data")),
            (None, ..) => return Err(here(".kind: missing")),
        };
        let extra = (extra != PartExtra::default()).then(|| Box::new(extra));
        Ok(Part { content, extra })
    }
}

impl FileIn<'_> {
    fn checked(
        &self,
        here: &dyn Fn(&str) -> A2aError,
        extra: &mut PartExtra,
    ) -> Result<Content, A2aError> {
        extra.filename = self.name.as_ref().map(|name| name.as_str().into());
        extra.media_type = self.mime_type.as_ref().map(|media_type| media_type.as_str().into());
        match (&self.bytes, &self.uri) {
            (Some(bytes), None) if is_base64(bytes.as_str()) => {
                Ok(Content::Raw(bytes.as_str().into()))
            }
            (Some(_), None) => Err(here(".file.bytes: not base64")),
            (None, Some(uri)) if !uri.as_str().is_empty() => Ok(Content::Url(uri.as_str().into())),
            (None, _) => Err(here(".file: needs bytes or uri")),
            (Some(_), Some(_)) => Err(here(".file: must hold bytes or uri, not both")),
        }
    }
}

/// Standard or URL-safe alphabet, padding right or absent (RFC 4648 §4, §5).
fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
    body.bytes().all(alphabet)
        && body.len() % 4 != 1
        && (padding == 0 || (padding <= 2 && text.len().is_multiple_of(4)))
}

/// How the state is spelled for this task's caller.
const fn state_name(state: TaskState, loose: bool) -> &'static str {
    match state {
        TaskState::Canceled if loose => "cancelled",
        _ => crate::a2a::error::spoken(state),
    }
}

/// Where the ids of a task stand in the text, to be written again: `"<task id>","contextId":"<context>"`.
type Ids = Range<usize>;

/// Writes a task with its `history` most recent messages.
pub fn task_into(json: &mut Json, task: &Task, history: Option<usize>) {
    json.open_object();
    json.literal(r#""kind":"task","id":"#);
    let ids = ids_into(json, task);
    json.literal(r#","status":"#);
    status_into(json, task, &ids, &task.status);
    if !task.artifacts.is_empty() {
        json.literal(r#","artifacts":"#);
        json.open_array();
        for artifact in &task.artifacts {
            artifact_into(json, artifact, None);
        }
        json.close_array();
    }
    let skipped = task.history.len().saturating_sub(history.unwrap_or(usize::MAX));
    if history != Some(0) && !task.history.is_empty() {
        json.literal(r#","history":"#);
        json.open_array();
        for message in &task.history[skipped..] {
            message_into(json, &ids, message);
        }
        json.close_array();
    }
    if let Some(metadata) = &task.metadata {
        json.key("metadata");
        json.raw(metadata);
    }
    json.close_object();
}

/// Writes one item of a stream; `last` when the stream ends with it.
pub fn event_into(json: &mut Json, event: &Event<'_>, last: bool) {
    match event {
        Event::Task(task) => task_into(json, task, None),
        Event::Status { task, status } => {
            json.open_object();
            json.literal(r#""kind":"status-update","taskId":"#);
            let ids = ids_into(json, task);
            json.literal(r#","status":"#);
            status_into(json, task, &ids, status);
            json.key("final");
            json.bool(last);
            // A stream is all that its reader sees of the task: how the reply ended belongs into it.
            if status.state.is_final()
                && let Some(metadata) = &task.metadata
            {
                json.key("metadata");
                json.raw(metadata);
            }
            json.close_object();
        }
        Event::Artifact { task, artifact, chunk, append } => {
            json.open_object();
            json.literal(r#""kind":"artifact-update","taskId":"#);
            ids_into(json, task);
            json.literal(r#","artifact":"#);
            artifact_into(json, artifact, *chunk);
            json.key("append");
            json.bool(*append);
            if chunk.is_none() {
                json.key("lastChunk");
                json.bool(true);
            }
            json.close_object();
        }
    }
}

fn ids_into(json: &mut Json, task: &Task) -> Ids {
    let start = json.len();
    json.plain(|text| task.id.write(text));
    json.literal(r#","contextId":"#);
    match &task.context {
        ContextId::Uuid(uuid) => json.plain(|text| uuid_into(text, uuid)),
        ContextId::Text(text) => json.string(text),
    }
    start..json.len()
}

fn status_into(json: &mut Json, task: &Task, ids: &Ids, status: &Status) {
    json.open_object();
    json.word("state", state_name(status.state, task.loose));
    if let Some(message) = &status.message {
        json.literal(r#","message":"#);
        message_into(json, ids, message);
    }
    json.literal(r#","timestamp":"#);
    json.plain(|text| rfc3339_into(text, status.unix_ms));
    json.close_object();
}

fn message_into(json: &mut Json, ids: &Ids, message: &Message) {
    json.open_object();
    json.literal(r#""kind":"message","messageId":"#);
    match &message.id {
        MessageId::Given(id) => json.string(id),
        MessageId::Own(number) => {
            let id = ids.start + 1..ids.start + 1 + TaskId::LENGTH;
            json.plain(|text| {
                text.extend_from_within(id);
                let _ = write!(text, "-{number}");
            });
        }
    }
    json.literal(match message.role {
        Role::User => r#","role":"user","parts":"#,
        Role::Agent => r#","role":"agent","parts":"#,
    });
    parts_into(json, &message.parts);
    json.literal(r#","taskId":"#);
    json.again(ids.clone());
    if let Some(extra) = &message.extra {
        let members = [
            ("metadata", &extra.metadata),
            ("extensions", &extra.extensions),
            ("referenceTaskIds", &extra.reference_task_ids),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                json.key(name);
                json.raw(value);
            }
        }
    }
    json.close_object();
}

fn artifact_into(json: &mut Json, artifact: &Artifact, chunk: Option<&str>) {
    json.open_object();
    json.word("artifactId", artifact.id);
    json.word("name", artifact.name);
    json.literal(r#","parts":"#);
    match chunk {
        None if !artifact.parts.is_empty() => parts_into(json, &artifact.parts),
        _ => {
            json.literal(r#"[{"kind":"text","text":"#);
            json.string(chunk.unwrap_or(&artifact.growing));
            json.close_object();
            json.close_array();
        }
    }
    json.close_object();
}

fn parts_into(json: &mut Json, parts: &[Part]) {
    json.open_array();
    for part in parts {
        json.open_object();
        let extra = part.extra.as_deref();
        let file = |json: &mut Json, member: &str, value: &str| {
            json.literal(r#""kind":"file","file":{"#);
            json.member(member, value);
            if let Some(media_type) = extra.and_then(|extra| extra.media_type.as_ref()) {
                json.member("mimeType", media_type);
            }
            if let Some(name) = extra.and_then(|extra| extra.filename.as_ref()) {
                json.member("name", name);
            }
            json.close_object();
        };
        match &part.content {
            Content::Text(text) => {
                json.literal(r#""kind":"text","text":"#);
                json.string(text);
            }
            Content::Raw(bytes) => file(json, "bytes", bytes),
            Content::Url(uri) => file(json, "uri", uri),
            Content::Data(data) => {
                json.literal(r#""kind":"data","data":"#);
                json.raw(data);
            }
        }
        if let Some(metadata) = extra.and_then(|extra| extra.metadata.as_ref()) {
            json.key("metadata");
            json.raw(metadata);
        }
        json.close_object();
    }
    json.close_array();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(params: &str) -> Result<Send, A2aError> {
        serde_json::from_str::<Params<'_>>(params).unwrap().send()
    }

    fn refusal(params: &str) -> String {
        send(params).unwrap_err().to_string()
    }

    #[test]
    fn a_plain_message_is_read() {
        let sent = send(
            r#"{"message":{"kind":"message","messageId":"m1","role":"user","parts":[{"kind":"text","text":"25*4"}],
                "contextId":"c","metadata":{"skill":"calculator"}},"configuration":{"blocking":false,"historyLength":2}}"#,
        )
        .unwrap();
        assert_eq!(sent.message.text(), "25*4");
        assert_eq!(sent.skill.as_deref(), Some("calculator"));
        assert_eq!((sent.blocking, sent.history, sent.loose), (false, Some(2), false));
    }

    #[test]
    fn codetethers_loose_parts_need_no_ids() {
        let sent = send(r#"{"message":{"parts":[{"type":"text","content":"hello"}]}}"#).unwrap();
        assert_eq!((&*sent.message.text(), sent.loose, sent.blocking), ("hello", true, true));
    }

    #[test]
    fn each_refusal_names_its_member() {
        let message = |members: &str| format!(r#"{{"message":{{{members}}}}}"#);
        let text = r#""parts":[{"kind":"text","text":"x"}]"#;
        let cases = [
            ("{}".to_owned(), "message: missing"),
            (message(r#""messageId":"m","role":"user""#), "message.parts: missing"),
            (message(r#""messageId":"m","role":"user","parts":[]"#), "message.parts: at least"),
            (message(&format!(r#""role":"user",{text}"#)), "message.messageId: missing"),
            (message(&format!(r#""messageId":"m",{text}"#)), "message.role: missing"),
            (message(&format!(r#""messageId":"m","role":"robot",{text}"#)), "message.role"),
            (
                message(r#""messageId":"m","role":"user","parts":[{"kind":"text"}]"#),
                "parts[0].text: missing",
            ),
            (
                message(r#""messageId":"m","role":"user","parts":[{"kind":"video"}]"#),
                "parts[0].kind",
            ),
            (message(r#""messageId":"m","role":"user","parts":[{}]"#), "parts[0].kind: missing"),
            (
                message(
                    r#""messageId":"m","role":"user","parts":[{"kind":"text","text":"x","data":{}}]"#,
                ),
                "parts[0]: must hold one",
            ),
            (
                message(r#""messageId":"m","role":"user","parts":[{"kind":"data","data":[1]}]"#),
                "parts[0].data: expected an object",
            ),
            (
                message(r#""messageId":"m","role":"user","parts":[{"kind":"file","file":{}}]"#),
                "parts[0].file: needs",
            ),
            (
                message(
                    r#""messageId":"m","role":"user","parts":[{"kind":"file","file":{"bytes":"a"}}]"#,
                ),
                "not base64",
            ),
            (
                message(&format!(r#""messageId":"m","role":"user",{text},"metadata":[]"#)),
                "message.metadata: expected an object",
            ),
            (
                message(&format!(
                    r#""messageId":"m","role":"user",{text},"metadata":{{"skill":1}}"#
                )),
                "metadata.skill",
            ),
            (
                message(&format!(r#""messageId":"m","role":"user",{text},"extensions":[1]"#)),
                "message.extensions",
            ),
            (
                message(&format!(r#""messageId":"m","role":"user",{text},"contextId":"a\u0000b""#)),
                "message.contextId",
            ),
        ];
        for (params, member) in cases {
            let said = refusal(&params);
            assert!(said.contains(member), "{params}: {said}");
        }
    }

    #[test]
    fn a_foreign_task_id_is_a_missing_task() {
        let params = r#"{"message":{"messageId":"m","role":"user","taskId":"nope","parts":[{"kind":"text","text":"x"}]}}"#;
        assert_eq!(send(params).unwrap_err(), A2aError::TaskNotFound);
    }

    #[test]
    fn base64_is_told_from_text() {
        for good in ["", "YQ==", "YWI=", "YWJj", "YQ", "_-8"] {
            assert!(is_base64(good), "{good}");
        }
        for bad in ["a", "a b=", "YQ=", "=", "====", "é"] {
            assert!(!is_base64(bad), "{bad}");
        }
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
        task_into(&mut json, &task, None);
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
        event_into(&mut json, &Event::Status { task: &task, status: &task.status }, true);
        assert!(json.as_str().ends_with(r#""final":true,"metadata":{"model":"m"}}"#));
        let loose = Task { loose: true, ..task };
        let mut json = Json::default();
        task_into(&mut json, &loose, Some(0));
        assert!(json.as_str().contains(r#""state":"cancelled""#));
        assert!(!json.as_str().contains("history"));
    }
}
