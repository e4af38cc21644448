//! Calls as requests: method names and params over JSON-RPC, methods, paths and bodies over REST, in both versions.
//!
//! 0.3 over REST is not the JSON of 0.3 over JSON-RPC but that of its protocol buffers, as the official SDKs speak it.

use std::fmt::Write as _;

use crate::a2a::read::is_json;
use crate::base::ids::{Ids, random, uuid_into};
use crate::base::json::Json;
use crate::outbound::client::card::{Binding, Interface, Version};
use crate::outbound::client::error::ClientError;
use crate::outbound::client::types::{Content, Part, State};

/// A message to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// At least one.
    pub parts: Vec<Part>,
    /// The task that it continues.
    pub task_id: Option<String>,
    /// The conversation it belongs to.
    pub context_id: Option<String>,
    /// A JSON object about the message. tetherlet's agents choose a skill by its `skill`.
    pub metadata: Option<String>,
    /// Whether to answer at once with an unfinished task. Otherwise the answer waits until the task has ended or waits
    /// for its caller.
    pub return_immediately: bool,
    /// At most so many of the latest messages in the answer's `history`; `None` leaves it to the agent.
    pub history_length: Option<u32>,
}

impl Outgoing {
    /// A message of plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { parts: vec![Part::new(Content::Text(text.into()))], ..Self::default() }
    }
}

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those of this conversation.
    pub context_id: Option<String>,
    /// Only those in this state.
    pub state: Option<State>,
    /// At most so many on a page, 1 to 100; `None` leaves it to the agent.
    pub page_size: Option<u32>,
    /// [`Page::next`](super::Page::next) of the page before.
    pub page_token: Option<String>,
    /// At most so many of the latest messages of each task.
    pub history_length: Option<u32>,
    /// Whether to show artifacts.
    pub include_artifacts: bool,
}

/// What an agent can be asked.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// Takes a message; the answer is a task or a message.
    Send(&'a Outgoing),
    /// Takes a message; the answer is a stream.
    Stream(&'a Outgoing),
    /// A task as it stands.
    Get {
        /// The task.
        id: &'a str,
        /// At most so many of the latest messages.
        history_length: Option<u32>,
    },
    /// A page of tasks; 1.0 only.
    List(&'a Filter),
    /// Ends a task; the answer is the task.
    Cancel {
        /// The task.
        id: &'a str,
    },
    /// A stream of what happens to a task.
    Subscribe {
        /// The task.
        id: &'a str,
    },
}

/// A request without its headers.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether it is a POST; otherwise a GET.
    pub post: bool,
    /// The whole URL.
    pub url: String,
    /// JSON; empty for a request without body.
    pub body: String,
}

impl Call<'_> {
    /// Whether it can be written: what stands in it as JSON is JSON, and ids are not empty.
    pub fn check(&self) -> Result<(), ClientError> {
        let bad = |what: &str| Err(ClientError::Unusable(what.to_owned()));
        match self {
            Self::Send(message) | Self::Stream(message) => {
                let data = message.parts.iter().filter_map(|part| match &part.content {
                    Content::Data(data) => Some(data),
                    Content::Text(_) | Content::Raw(_) | Content::Url(_) => None,
                });
                let mut metadata = message
                    .parts
                    .iter()
                    .filter_map(|part| part.metadata.as_ref())
                    .chain(&message.metadata);
                if message.parts.is_empty() {
                    return bad("the message has no parts");
                }
                if !data.into_iter().all(|data| is_json(data).is_ok()) {
                    return bad("a data part is no JSON");
                }
                if !metadata.all(|json| json.starts_with('{') && is_json(json).is_ok()) {
                    return bad("metadata is no JSON object");
                }
                Ok(())
            }
            Self::Get { id, .. } | Self::Cancel { id } | Self::Subscribe { id }
                if id.is_empty() =>
            {
                bad("the task's id is empty")
            }
            Self::Get { .. } | Self::Cancel { .. } | Self::Subscribe { .. } | Self::List(_) => {
                Ok(())
            }
        }
    }

    /// The request; `None` when the version has no such call.
    pub fn request(&self, at: &Interface) -> Option<Request> {
        let method = self.method(at.version)?;
        match at.binding {
            Binding::JsonRpc => {
                let mut json = Json::with_capacity(512);
                json.open_object();
                json.member("jsonrpc", "2.0");
                json.key("id");
                json.number(1);
                json.member("method", method);
                json.key("params");
                json.open_object();
                if let (Version::V1_0, Some(tenant)) = (at.version, &at.tenant) {
                    json.member("tenant", tenant);
                }
                self.params_into(&mut json, at);
                json.close_object();
                json.close_object();
                Some(Request { post: true, url: at.url.clone(), body: json.into_string() })
            }
            Binding::Rest => Some(self.rest(at)),
        }
    }

    const fn method(&self, version: Version) -> Option<&'static str> {
        Some(match (self, version) {
            (Self::Send(_), Version::V0_3) => "message/send",
            (Self::Send(_), Version::V1_0) => "SendMessage",
            (Self::Stream(_), Version::V0_3) => "message/stream",
            (Self::Stream(_), Version::V1_0) => "SendStreamingMessage",
            (Self::Get { .. }, Version::V0_3) => "tasks/get",
            (Self::Get { .. }, Version::V1_0) => "GetTask",
            (Self::List(_), Version::V0_3) => return None,
            (Self::List(_), Version::V1_0) => "ListTasks",
            (Self::Cancel { .. }, Version::V0_3) => "tasks/cancel",
            (Self::Cancel { .. }, Version::V1_0) => "CancelTask",
            (Self::Subscribe { .. }, Version::V0_3) => "tasks/resubscribe",
            (Self::Subscribe { .. }, Version::V1_0) => "SubscribeToTask",
        })
    }

    fn rest(&self, at: &Interface) -> Request {
        let mut url = at.url.trim_end_matches('/').to_owned();
        match (at.version, &at.tenant) {
            (Version::V0_3, _) => url.push_str("/v1"),
            (Version::V1_0, Some(tenant)) => {
                url.push('/');
                encode_into(&mut url, tenant);
            }
            (Version::V1_0, None) => {}
        }
        let mut json = Json::default();
        let post = match self {
            Self::Send(_) | Self::Stream(_) => {
                let is_stream = matches!(self, Self::Stream(_));
                url.push_str(if is_stream { "/message:stream" } else { "/message:send" });
                json.open_object();
                self.params_into(&mut json, at);
                json.close_object();
                true
            }
            Self::Get { id, history_length } => {
                task_path(&mut url, id, "");
                if let Some(length) = history_length {
                    let _ = write!(url, "?historyLength={length}");
                }
                false
            }
            Self::List(filter) => {
                url.push_str("/tasks");
                let mut before = '?';
                filter.each(&mut |name, value| {
                    url.push(before);
                    before = '&';
                    url.push_str(name);
                    url.push('=');
                    match value {
                        Value::Text(text) => encode_into(&mut url, text),
                        Value::Number(number) => {
                            let _ = write!(url, "{number}");
                        }
                        Value::True => url.push_str("true"),
                    }
                });
                false
            }
            Self::Cancel { id } | Self::Subscribe { id } => {
                let is_cancel = matches!(self, Self::Cancel { .. });
                task_path(&mut url, id, if is_cancel { ":cancel" } else { ":subscribe" });
                json.literal("{}");
                true
            }
        };
        Request { post, url, body: json.into_string() }
    }

    /// The members of `params`, and of a REST body.
    fn params_into(&self, json: &mut Json, at: &Interface) {
        match self {
            Self::Send(message) | Self::Stream(message) => message_into(json, message, at),
            Self::Get { id, history_length } => {
                json.member("id", id);
                if let Some(length) = history_length {
                    json.key("historyLength");
                    json.number(u64::from(*length));
                }
            }
            Self::Cancel { id } | Self::Subscribe { id } => json.member("id", id),
            Self::List(filter) => filter.each(&mut |name, value| {
                json.key(name);
                match value {
                    Value::Text(text) => json.string(text),
                    Value::Number(number) => json.number(u64::from(number)),
                    Value::True => json.bool(true),
                }
            }),
        }
    }
}

enum Value<'a> {
    Text(&'a str),
    Number(u32),
    True,
}

impl Filter {
    /// Every member that is set, by its name.
    fn each(&self, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        if let Some(context) = &self.context_id {
            put("contextId", Value::Text(context));
        }
        if let Some(state) = self.state {
            let name = state.name().to_ascii_uppercase().replace('-', "_");
            put("status", Value::Text(&format!("TASK_STATE_{name}")));
        }
        if let Some(size) = self.page_size {
            put("pageSize", Value::Number(size));
        }
        if let Some(token) = &self.page_token {
            put("pageToken", Value::Text(token));
        }
        if let Some(length) = self.history_length {
            put("historyLength", Value::Number(length));
        }
        if self.include_artifacts {
            put("includeArtifacts", Value::True);
        }
    }
}

fn message_into(json: &mut Json, message: &Outgoing, at: &Interface) {
    let is_kind = (at.version, at.binding) == (Version::V0_3, Binding::JsonRpc);
    let is_proto_03 = (at.version, at.binding) == (Version::V0_3, Binding::Rest);
    json.key("message");
    json.open_object();
    if is_kind {
        json.member("kind", "message");
    }
    let mut id = String::new();
    uuid_into(&mut id, &Ids::new(Box::new(random)).uuid());
    json.member("messageId", &id);
    json.member("role", if is_kind { "user" } else { "ROLE_USER" });
    json.key(if is_proto_03 { "content" } else { "parts" });
    json.open_array();
    for part in &message.parts {
        part_into(json, part, at);
    }
    json.close_array();
    for (name, value) in [("contextId", &message.context_id), ("taskId", &message.task_id)] {
        if let Some(value) = value {
            json.member(name, value);
        }
    }
    if let Some(metadata) = &message.metadata {
        json.key("metadata");
        json.raw(metadata);
    }
    json.close_object();
    // Left out it means to wait everywhere but in 0.3 over REST, where protocol buffers read it as `false`.
    if message.return_immediately || is_proto_03 || message.history_length.is_some() {
        json.key("configuration");
        json.open_object();
        if at.version == Version::V1_0 && message.return_immediately {
            json.key("returnImmediately");
            json.bool(true);
        } else if at.version == Version::V0_3 && (message.return_immediately || is_proto_03) {
            json.key("blocking");
            json.bool(!message.return_immediately);
        }
        if let Some(length) = message.history_length {
            json.key("historyLength");
            json.number(u64::from(length));
        }
        json.close_object();
    }
}

fn part_into(json: &mut Json, part: &Part, at: &Interface) {
    let is_kind = at.binding == Binding::JsonRpc;
    json.open_object();
    match at.version {
        Version::V1_0 => {
            match &part.content {
                Content::Text(text) => json.member("text", text),
                Content::Raw(bytes) => json.member("raw", bytes),
                Content::Url(url) => json.member("url", url),
                Content::Data(data) => {
                    json.key("data");
                    json.raw(data);
                }
            }
            for (name, value) in [("filename", &part.filename), ("mediaType", &part.media_type)] {
                if let Some(value) = value {
                    json.member(name, value);
                }
            }
        }
        Version::V0_3 => match &part.content {
            Content::Text(text) => {
                if is_kind {
                    json.member("kind", "text");
                }
                json.member("text", text);
            }
            Content::Raw(value) | Content::Url(value) => {
                let is_raw = matches!(part.content, Content::Raw(_));
                if is_kind {
                    json.member("kind", "file");
                }
                json.key("file");
                json.open_object();
                json.member(
                    match (is_raw, is_kind) {
                        (true, true) => "bytes",
                        (true, false) => "fileWithBytes",
                        (false, true) => "uri",
                        (false, false) => "fileWithUri",
                    },
                    value,
                );
                for (name, value) in [("mimeType", &part.media_type), ("name", &part.filename)] {
                    if let Some(value) = value {
                        json.member(name, value);
                    }
                }
                json.close_object();
            }
            Content::Data(data) => {
                if is_kind {
                    json.member("kind", "data");
                    json.key("data");
                    json.raw(data);
                } else {
                    json.key("data");
                    json.open_object();
                    json.key("data");
                    json.raw(data);
                    json.close_object();
                }
            }
        },
    }
    if let Some(metadata) = &part.metadata {
        json.key("metadata");
        json.raw(metadata);
    }
    json.close_object();
}

fn task_path(url: &mut String, id: &str, action: &str) {
    url.push_str("/tasks/");
    encode_into(url, id);
    url.push_str(action);
}

/// Appends `text` as one segment of a path, or one value of a query (RFC 3986 §2.3).
fn encode_into(url: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
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

    fn at(form: (Version, Binding), tenant: Option<&str>) -> Interface {
        let url = "http://h/base".to_owned();
        Interface { url, version: form.0, binding: form.1, tenant: tenant.map(str::to_owned) }
    }

    /// What is asked over each form, in the order of `FORMS`: JSON-RPC as `METHOD PARAMS`, REST as it is.
    fn asked(call: &Call<'_>) -> Vec<String> {
        let mut all = Vec::new();
        for form in FORMS {
            all.push(call.request(&at(form, None)).map_or_else(String::new, |request| {
                let body = without_id(&request.body);
                if form.1 == Binding::Rest {
                    let method = if request.post { "POST" } else { "GET" };
                    let path = request.url.strip_prefix("http://h/base").unwrap();
                    return format!("{method} {path} {body}").trim_end().to_owned();
                }
                assert!(request.post && request.url == "http://h/base");
                let call = body.strip_prefix(r#"{"jsonrpc":"2.0","id":1,"method":""#).unwrap();
                let (method, params) = call.split_once(r#"","params":"#).unwrap();
                format!("{method} {}", params.strip_suffix('}').unwrap())
            }));
        }
        all
    }

    /// The body with `ID` for the random message id, which is checked.
    fn without_id(body: &str) -> String {
        let Some((before, rest)) = body.split_once(r#""messageId":""#) else {
            return body.to_owned();
        };
        let (id, after) = rest.split_once('"').unwrap();
        assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{id}");
        format!(r#"{before}"messageId":"ID"{after}"#)
    }

    #[test]
    fn every_call_has_its_name_and_path_in_every_form() {
        let get = Call::Get { id: "a/b c", history_length: Some(2) };
        assert_eq!(
            asked(&get),
            [
                r#"tasks/get {"id":"a/b c","historyLength":2}"#,
                "GET /v1/tasks/a%2Fb%20c?historyLength=2",
                r#"GetTask {"id":"a/b c","historyLength":2}"#,
                "GET /tasks/a%2Fb%20c?historyLength=2",
            ]
        );
        assert_eq!(
            asked(&Call::Cancel { id: "t" }),
            [
                r#"tasks/cancel {"id":"t"}"#,
                "POST /v1/tasks/t:cancel {}",
                r#"CancelTask {"id":"t"}"#,
                "POST /tasks/t:cancel {}",
            ]
        );
        assert_eq!(
            asked(&Call::Subscribe { id: "t" }),
            [
                r#"tasks/resubscribe {"id":"t"}"#,
                "POST /v1/tasks/t:subscribe {}",
                r#"SubscribeToTask {"id":"t"}"#,
                "POST /tasks/t:subscribe {}",
            ]
        );
        let filter = Filter {
            context_id: Some("c&d".to_owned()),
            state: Some(State::InputRequired),
            page_size: Some(5),
            page_token: Some("n=".to_owned()),
            history_length: Some(0),
            include_artifacts: true,
        };
        assert_eq!(
            asked(&Call::List(&filter)),
            [
                "",
                "",
                r#"ListTasks {"contextId":"c&d","status":"TASK_STATE_INPUT_REQUIRED","pageSize":5,"pageToken":"n=","historyLength":0,"includeArtifacts":true}"#,
                "GET /tasks?contextId=c%26d&status=TASK_STATE_INPUT_REQUIRED&pageSize=5&pageToken=n%3D&historyLength=0&includeArtifacts=true",
            ]
        );
    }

    #[test]
    fn a_message_is_written_as_each_form_wants_it() {
        let part = |content, name: &str| Part {
            filename: Some(name.to_owned()),
            media_type: Some("text/plain".to_owned()),
            ..Part::new(content)
        };
        let message = Outgoing {
            parts: vec![
                Part::new(Content::Text("hi \"you\"".to_owned())),
                part(Content::Raw("aGk=".to_owned()), "a"),
                part(Content::Url("https://x".to_owned()), "b"),
                Part::new(Content::Data("{}".to_owned())),
            ],
            task_id: Some("t".to_owned()),
            context_id: Some("c".to_owned()),
            metadata: Some(r#"{"skill":"s"}"#.to_owned()),
            return_immediately: true,
            history_length: Some(3),
        };
        let tail = r#""contextId":"c","taskId":"t","metadata":{"skill":"s"}}"#;
        let new = format!(
            r#"{{"message":{{"messageId":"ID","role":"ROLE_USER","parts":[{{"text":"hi \"you\""}},{{"raw":"aGk=","filename":"a","mediaType":"text/plain"}},{{"url":"https://x","filename":"b","mediaType":"text/plain"}},{{"data":{{}}}}],{tail},"configuration":{{"returnImmediately":true,"historyLength":3}}}}"#
        );
        assert_eq!(
            asked(&Call::Send(&message)),
            [
                format!(
                    r#"message/send {{"message":{{"kind":"message","messageId":"ID","role":"user","parts":[{{"kind":"text","text":"hi \"you\""}},{{"kind":"file","file":{{"bytes":"aGk=","mimeType":"text/plain","name":"a"}}}},{{"kind":"file","file":{{"uri":"https://x","mimeType":"text/plain","name":"b"}}}},{{"kind":"data","data":{{}}}}],{tail},"configuration":{{"blocking":false,"historyLength":3}}}}"#
                ),
                format!(
                    r#"POST /v1/message:send {{"message":{{"messageId":"ID","role":"ROLE_USER","content":[{{"text":"hi \"you\""}},{{"file":{{"fileWithBytes":"aGk=","mimeType":"text/plain","name":"a"}}}},{{"file":{{"fileWithUri":"https://x","mimeType":"text/plain","name":"b"}}}},{{"data":{{"data":{{}}}}}}],{tail},"configuration":{{"blocking":false,"historyLength":3}}}}"#
                ),
                format!("SendMessage {new}"),
                format!("POST /message:send {new}"),
            ]
        );
        // Waiting is the default everywhere but in protocol buffers.
        let plain = Outgoing::text("x");
        let asked = asked(&Call::Stream(&plain));
        let says: Vec<bool> = asked.iter().map(|text| text.contains("configuration")).collect();
        assert_eq!(says, [false, true, false, false]);
        assert!(asked[1].starts_with("POST /v1/message:stream "), "{}", asked[1]);
        assert!(asked[1].ends_with(r#""configuration":{"blocking":true}}"#), "{}", asked[1]);
    }

    #[test]
    fn a_tenant_is_a_member_or_a_path_and_only_in_1_0() {
        let call = Call::Cancel { id: "t" };
        let ask = |form| call.request(&at(form, Some("a b"))).unwrap();
        assert!(ask(FORMS[2]).body.contains(r#""params":{"tenant":"a b","id":"t"}"#));
        assert_eq!(ask(FORMS[3]).url, "http://h/base/a%20b/tasks/t:cancel");
        assert!(!ask(FORMS[0]).body.contains("tenant"));
        assert_eq!(ask(FORMS[1]).url, "http://h/base/v1/tasks/t:cancel");
    }

    #[test]
    fn what_would_break_a_request_is_refused() {
        let text = || Outgoing::text("x");
        assert!(Call::Send(&text()).check().is_ok());
        let metadata = |json: &str| Outgoing { metadata: Some(json.to_owned()), ..text() };
        assert!(Call::Send(&metadata("{}")).check().is_ok());
        let data = |json: &str| Outgoing {
            parts: vec![Part::new(Content::Data(json.to_owned()))],
            ..Outgoing::default()
        };
        for bad in [metadata("1"), metadata("{},\"a\":{}"), data("{"), Outgoing::default()] {
            assert!(Call::Stream(&bad).check().is_err(), "{bad:?}");
        }
        assert!(Call::Get { id: "", history_length: None }.check().is_err());
    }
}
