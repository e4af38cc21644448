//! One request and its reply in the four spellings of A2A, from and to one neutral form.
//!
//! Neutral is the JSON of 1.0, with what only one binding has left out: envelopes, the wrapper around a task that
//! was sent, `kind`, `final`, members that hold their default. Scenarios are written in it, and replies of all
//! bindings are compared in it.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// A version of the protocol over one of its transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// `kind` members, kebab-case states.
    OldRpc,
    /// The JSON form of the 0.3 protobuf messages, as the official clients speak it.
    OldRest,
    Rpc,
    Rest,
}

impl Binding {
    pub const ALL: [Self; 4] = [Self::OldRpc, Self::OldRest, Self::Rpc, Self::Rest];

    pub const fn name(self) -> &'static str {
        match self {
            Self::OldRpc => "0.3 JSON-RPC",
            Self::OldRest => "0.3 REST",
            Self::Rpc => "1.0 JSON-RPC",
            Self::Rest => "1.0 REST",
        }
    }

    /// What stands before every path.
    pub const fn root(self) -> &'static str {
        if matches!(self, Self::OldRest) { "/v1" } else { "" }
    }

    pub const fn is_rpc(self) -> bool {
        matches!(self, Self::OldRpc | Self::Rpc)
    }

    pub const fn is_old(self) -> bool {
        matches!(self, Self::OldRpc | Self::OldRest)
    }
}

/// What is asked of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Send,
    Stream,
    Get,
    List,
    Cancel,
    Subscribe,
    PushCreate,
    PushGet,
    PushList,
    PushDelete,
    Card,
}

impl Op {
    /// As scenarios call it.
    pub const NAMES: [(&'static str, Self); 11] = [
        ("send", Self::Send),
        ("stream", Self::Stream),
        ("get", Self::Get),
        ("list", Self::List),
        ("cancel", Self::Cancel),
        ("subscribe", Self::Subscribe),
        ("push-create", Self::PushCreate),
        ("push-get", Self::PushGet),
        ("push-list", Self::PushList),
        ("push-delete", Self::PushDelete),
        ("card", Self::Card),
    ];

    const fn old_method(self) -> &'static str {
        match self {
            Self::Send => "message/send",
            Self::Stream => "message/stream",
            Self::Get => "tasks/get",
            Self::List => "tasks/list",
            Self::Cancel => "tasks/cancel",
            Self::Subscribe => "tasks/resubscribe",
            Self::PushCreate => "tasks/pushNotificationConfig/set",
            Self::PushGet => "tasks/pushNotificationConfig/get",
            Self::PushList => "tasks/pushNotificationConfig/list",
            Self::PushDelete => "tasks/pushNotificationConfig/delete",
            Self::Card => "agent/getAuthenticatedExtendedCard",
        }
    }

    const fn method(self) -> &'static str {
        match self {
            Self::Send => "SendMessage",
            Self::Stream => "SendStreamingMessage",
            Self::Get => "GetTask",
            Self::List => "ListTasks",
            Self::Cancel => "CancelTask",
            Self::Subscribe => "SubscribeToTask",
            Self::PushCreate => "CreateTaskPushNotificationConfig",
            Self::PushGet => "GetTaskPushNotificationConfig",
            Self::PushList => "ListTaskPushNotificationConfigs",
            Self::PushDelete => "DeleteTaskPushNotificationConfig",
            Self::Card => "GetExtendedAgentCard",
        }
    }

    /// Verb and path below the root of a REST binding; the ids in the path are taken out of `params`.
    fn route(self, is_old: bool, params: &mut Map<String, Value>) -> (&'static str, String) {
        let mut id = |name: &str| encoded(&text_of(params.remove(name)));
        match self {
            Self::Send => ("POST", "/message:send".to_owned()),
            Self::Stream => ("POST", "/message:stream".to_owned()),
            Self::Get => ("GET", format!("/tasks/{}", id("id"))),
            Self::List => ("GET", "/tasks".to_owned()),
            Self::Cancel => ("POST", format!("/tasks/{}:cancel", id("id"))),
            Self::Subscribe => ("POST", format!("/tasks/{}:subscribe", id("id"))),
            Self::PushCreate => {
                ("POST", format!("/tasks/{}/pushNotificationConfigs", id("taskId")))
            }
            Self::PushList => ("GET", format!("/tasks/{}/pushNotificationConfigs", id("taskId"))),
            Self::PushGet => {
                let task = id("taskId");
                ("GET", format!("/tasks/{task}/pushNotificationConfigs/{}", id("id")))
            }
            Self::PushDelete => {
                let task = id("taskId");
                ("DELETE", format!("/tasks/{task}/pushNotificationConfigs/{}", id("id")))
            }
            Self::Card if is_old => ("GET", "/card".to_owned()),
            Self::Card => ("GET", "/extendedAgentCard".to_owned()),
        }
    }
}

/// A request as it goes over a connection.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: String,
    pub path: String,
    pub content_type: Option<String>,
    pub version: Option<String>,
    /// Extensions that the caller knows, under the version's name for that header.
    pub extensions: Option<(&'static str, String)>,
    pub body: Option<String>,
}

impl Request {
    /// `op` with neutral `params` as this binding writes it.
    pub fn new(binding: Binding, op: Op, params: Map<String, Value>) -> Self {
        let params = if binding.is_old() { old_params(binding, op, params) } else { params };
        let version = (!binding.is_old()).then(|| "1.0".to_owned());
        let (verb, path, body) = match binding {
            Binding::OldRpc => ("POST", "/".to_owned(), Some(call(op.old_method(), &params))),
            Binding::Rpc => ("POST", "/".to_owned(), Some(call(op.method(), &params))),
            Binding::OldRest | Binding::Rest => rest(binding, op, params),
        };
        let content_type = body.as_ref().map(|_| "application/json".to_owned());
        Self { verb: verb.to_owned(), path, content_type, version, extensions: None, body }
    }

    pub fn bytes(&self, host: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", self.verb, self.path);
        head.push_str("Connection: close\r\n");
        if let Some(content_type) = &self.content_type {
            let _ = write!(head, "Content-Type: {content_type}\r\n");
        }
        if let Some(version) = &self.version {
            let _ = write!(head, "A2A-Version: {version}\r\n");
        }
        if let Some((name, extensions)) = &self.extensions {
            let _ = write!(head, "{name}: {extensions}\r\n");
        }
        if let Some(body) = &self.body {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        head.push_str(self.body.as_deref().unwrap_or_default());
        head.into_bytes()
    }
}

fn call(method: &str, params: &Map<String, Value>) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
}

fn rest(
    binding: Binding,
    op: Op,
    mut params: Map<String, Value>,
) -> (&'static str, String, Option<String>) {
    let tenant = params.remove("tenant").map(|tenant| encoded(&text_of(Some(tenant))));
    let (mut verb, path) = op.route(binding.is_old(), &mut params);
    let mut path = match (binding, tenant) {
        (Binding::Rest, Some(tenant)) => format!("/{tenant}{path}"),
        _ => format!("{}{path}", binding.root()),
    };
    // The official 0.3 client does so; the prose of both versions has POST.
    if binding == Binding::OldRest && op == Op::Subscribe {
        verb = "GET";
    }
    if verb == "POST" {
        return (verb, path, Some(Value::Object(params).to_string()));
    }
    let query: Vec<String> = params
        .into_iter()
        .map(|(name, value)| format!("{name}={}", encoded(&text_of(Some(value)))))
        .collect();
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query.join("&"));
    }
    (verb, path, None)
}

/// A scalar as a path or a query has it.
fn text_of(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Puts what `from` holds, changed, under `to`.
fn renamed(
    object: &mut Map<String, Value>,
    from: &str,
    to: &str,
    change: impl FnOnce(Value) -> Value,
) {
    if let Some(value) = object.remove(from) {
        object.insert(to.to_owned(), change(value));
    }
}

fn each(value: Value, change: impl FnMut(Value) -> Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(change).collect(),
        other => other,
    }
}

fn within(value: Value, change: impl FnOnce(&mut Map<String, Value>)) -> Value {
    match value {
        Value::Object(mut object) => {
            change(&mut object);
            Value::Object(object)
        }
        other => other,
    }
}

// Neutral to 0.3.

fn old_params(binding: Binding, op: Op, mut params: Map<String, Value>) -> Map<String, Value> {
    match op {
        Op::Send | Op::Stream => {
            renamed(&mut params, "message", "message", |message| old_message(binding, message));
            renamed(&mut params, "configuration", "configuration", |configuration| {
                within(configuration, |members| {
                    match members.remove("returnImmediately") {
                        Some(Value::Bool(flag)) => {
                            members.insert("blocking".to_owned(), json!(!flag));
                        }
                        // The protobuf form takes a flag that is left out for false.
                        None | Some(Value::Null) if binding == Binding::OldRest => {
                            members.insert("blocking".to_owned(), json!(true));
                        }
                        None => {}
                        Some(other) => {
                            members.insert("blocking".to_owned(), other);
                        }
                    }
                    let push = if binding == Binding::OldRpc {
                        "pushNotificationConfig"
                    } else {
                        "pushNotification"
                    };
                    renamed(members, "taskPushNotificationConfig", push, |config| {
                        within(config, old_authentication)
                    });
                })
            });
            params
        }
        Op::PushCreate => {
            let task = params.remove("taskId").unwrap_or_default();
            let id = params.get("id").cloned();
            old_authentication(&mut params);
            let config = Value::Object(params);
            let mut old = if binding == Binding::OldRpc {
                json!({"taskId": task, "pushNotificationConfig": config})
            } else {
                let name = id.as_ref().map(|id| {
                    format!("tasks/{}/pushNotificationConfigs/{}", word(&task), word(id))
                });
                json!({"taskId": task, "parent": format!("tasks/{}", word(&task)), "configId": id,
                    "config": {"name": name, "pushNotificationConfig": config}})
            };
            without_nulls(&mut old);
            old.as_object().cloned().unwrap_or_default()
        }
        Op::PushGet | Op::PushDelete if binding == Binding::OldRpc => {
            renamed(&mut params, "id", "pushNotificationConfigId", |id| id);
            renamed(&mut params, "taskId", "id", |id| id);
            params
        }
        Op::PushList if binding == Binding::OldRpc => {
            renamed(&mut params, "taskId", "id", |id| id);
            params
        }
        _ => params,
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn without_nulls(value: &mut Value) {
    if let Value::Object(members) = value {
        members.retain(|_, member| !member.is_null());
        members.values_mut().for_each(without_nulls);
    }
}

fn old_authentication(config: &mut Map<String, Value>) {
    renamed(config, "authentication", "authentication", |authentication| {
        within(authentication, |members| {
            renamed(members, "scheme", "schemes", |scheme| json!([scheme]));
        })
    });
}

fn old_message(binding: Binding, message: Value) -> Value {
    within(message, |members| {
        if binding == Binding::OldRpc {
            members.insert("kind".to_owned(), json!("message"));
            renamed(members, "role", "role", |role| match role {
                Value::String(role) => json!(role.trim_start_matches("ROLE_").to_lowercase()),
                other => other,
            });
            renamed(members, "parts", "parts", |parts| each(parts, old_rpc_part));
        } else {
            renamed(members, "parts", "content", |parts| each(parts, old_rest_part));
        }
    })
}

fn old_rpc_part(part: Value) -> Value {
    within(part, |members| {
        let file = ["raw", "url"].iter().any(|member| members.contains_key(*member));
        let kind = if file {
            let mut file = Map::new();
            for (from, to) in
                [("raw", "bytes"), ("url", "uri"), ("mediaType", "mimeType"), ("filename", "name")]
            {
                if let Some(value) = members.remove(from) {
                    file.insert(to.to_owned(), value);
                }
            }
            members.insert("file".to_owned(), Value::Object(file));
            Some("file")
        } else if members.contains_key("data") {
            Some("data")
        } else if members.contains_key("text") {
            Some("text")
        } else {
            None
        };
        if let Some(kind) = kind {
            members.insert("kind".to_owned(), json!(kind));
        }
    })
}

fn old_rest_part(part: Value) -> Value {
    within(part, |members| {
        let mut file = Map::new();
        for (from, to) in [
            ("raw", "fileWithBytes"),
            ("url", "fileWithUri"),
            ("mediaType", "mimeType"),
            ("filename", "name"),
        ] {
            if let Some(value) = members.remove(from) {
                file.insert(to.to_owned(), value);
            }
        }
        if !file.is_empty() {
            members.insert("file".to_owned(), Value::Object(file));
        }
        renamed(members, "data", "data", |data| json!({"data": data}));
    })
}

// Replies to neutral.

/// The result of a single reply, out of its JSON-RPC envelope already.
pub fn result(binding: Binding, op: Op, value: Value) -> Value {
    match op {
        Op::Send => match binding {
            Binding::OldRpc => task_or_message(binding, value),
            _ => match unwrapped(&value) {
                Some(("task", task)) => self::task(binding, task),
                Some(("message", message)) => json!({"message": self::message(binding, message)}),
                _ => json!({"neither task nor message": value}),
            },
        },
        Op::Get | Op::Cancel => task(binding, value),
        Op::List => within(value, |members| {
            renamed(members, "tasks", "tasks", |tasks| each(tasks, |item| task(binding, item)));
        }),
        Op::PushCreate | Op::PushGet => push_config(binding, value),
        Op::PushList => {
            let configs = if binding == Binding::OldRpc { value } else { value["configs"].clone() };
            // An empty list is a default of the protobuf form.
            let configs = if configs.is_null() { json!([]) } else { configs };
            json!({"configs": each(configs, |config| push_config(binding, config))})
        }
        Op::PushDelete => {
            let nothing = if binding == Binding::OldRpc || binding == Binding::Rpc {
                value.is_null() || value == json!({})
            } else {
                value == json!({})
            };
            if nothing { json!("deleted") } else { json!({"not nothing": value}) }
        }
        Op::Stream | Op::Subscribe => event(binding, value),
        Op::Card => card(binding, &value),
    }
}

/// What both versions have on a card, and whether it is one of its version.
fn card(binding: Binding, value: &Value) -> Value {
    let is_old = value.get("protocolVersion").is_some() && value.get("url").is_some();
    let is_new = value.get("supportedInterfaces").is_some();
    let mut common = json!({"is of its version": is_old == binding.is_old() && is_new != is_old});
    for name in ["name", "description", "version", "provider", "documentationUrl", "skills"] {
        common[name] = value[name].clone();
    }
    common
}

/// The only member of an object.
fn unwrapped(value: &Value) -> Option<(&str, Value)> {
    let members = value.as_object()?;
    let (name, inner) = members.iter().next()?;
    (members.len() == 1).then(|| (name.as_str(), inner.clone()))
}

fn task_or_message(binding: Binding, value: Value) -> Value {
    match value["kind"].as_str() {
        Some("task") => task(binding, value),
        Some("message") => json!({"message": message(binding, value)}),
        _ => json!({"no kind": value}),
    }
}

/// One item of a stream: an object with one member, as in 1.0.
pub fn event(binding: Binding, value: Value) -> Value {
    if binding == Binding::OldRpc {
        return match value["kind"].as_str() {
            Some("task") => json!({"task": task(binding, value)}),
            Some("message") => json!({"message": message(binding, value)}),
            Some("status-update") => json!({"statusUpdate": update(binding, value)}),
            Some("artifact-update") => json!({"artifactUpdate": update(binding, value)}),
            _ => json!({"no kind": value}),
        };
    }
    match unwrapped(&value) {
        Some(("task", inner)) => json!({"task": task(binding, inner)}),
        Some(("message", inner)) => json!({"message": message(binding, inner)}),
        Some((name @ ("statusUpdate" | "artifactUpdate"), inner)) => {
            json!({name: update(binding, inner)})
        }
        _ => json!({"no event": value}),
    }
}

/// Whether an item of a 0.3 stream says that it is the last.
pub fn is_last(value: &Value) -> bool {
    value["final"] == true || value["statusUpdate"]["final"] == true
}

fn update(binding: Binding, value: Value) -> Value {
    within(value, |members| {
        if binding.is_old() {
            members.remove("final");
        }
        if binding == Binding::OldRpc {
            members.remove("kind");
        }
        renamed(members, "status", "status", |value| status(binding, value));
        renamed(members, "artifact", "artifact", |value| artifact(binding, value));
        for flag in ["append", "lastChunk"] {
            if members.get(flag) == Some(&Value::Bool(false)) {
                members.remove(flag);
            }
        }
    })
}

fn task(binding: Binding, value: Value) -> Value {
    within(value, |members| {
        if binding == Binding::OldRpc {
            expected_kind(members, "task");
        }
        renamed(members, "status", "status", |value| status(binding, value));
        renamed(members, "artifacts", "artifacts", |list| {
            each(list, |value| artifact(binding, value))
        });
        renamed(members, "history", "history", |list| each(list, |value| message(binding, value)));
    })
}

/// Takes `kind` out when it is right, so that a wrong or a missing one is seen.
fn expected_kind(members: &mut Map<String, Value>, kind: &str) {
    if members.get("kind").and_then(Value::as_str) == Some(kind) {
        members.remove("kind");
    } else {
        members.insert("kind".to_owned(), json!(format!("is not {kind}")));
    }
}

fn status(binding: Binding, value: Value) -> Value {
    within(value, |members| {
        renamed(members, "message", "message", |value| message(binding, value));
        renamed(members, "state", "state", |state| match (binding, state.as_str()) {
            (Binding::OldRpc, Some(state)) => {
                json!(format!("TASK_STATE_{}", state.replace('-', "_").to_uppercase()))
            }
            (Binding::OldRest, Some("TASK_STATE_CANCELLED")) => json!("TASK_STATE_CANCELED"),
            (Binding::OldRest, Some("TASK_STATE_CANCELED")) => json!("spelled with one L"),
            _ => state,
        });
    })
}

fn message(binding: Binding, value: Value) -> Value {
    within(value, |members| {
        match binding {
            Binding::OldRpc => {
                expected_kind(members, "message");
                renamed(members, "role", "role", |role| {
                    json!(format!("ROLE_{}", word(&role).to_uppercase()))
                });
            }
            Binding::OldRest => renamed(members, "content", "parts", |parts| parts),
            Binding::Rpc | Binding::Rest => {}
        }
        renamed(members, "parts", "parts", |list| each(list, |value| part(binding, value)));
    })
}

fn artifact(binding: Binding, value: Value) -> Value {
    within(value, |members| {
        renamed(members, "parts", "parts", |list| each(list, |value| part(binding, value)));
    })
}

fn part(binding: Binding, value: Value) -> Value {
    within(value, |members| {
        if !binding.is_old() {
            return;
        }
        if binding == Binding::OldRpc {
            let kind =
                ["text", "file", "data"].into_iter().find(|name| members.contains_key(*name));
            expected_kind(members, kind.unwrap_or("known"));
        } else {
            renamed(members, "data", "data", |data| match unwrapped(&data) {
                Some(("data", data)) => data,
                _ => json!({"not wrapped": data}),
            });
        }
        if let Some(Value::Object(file)) = members.remove("file") {
            for (name, value) in file {
                let name = match name.as_str() {
                    "bytes" | "fileWithBytes" => "raw",
                    "uri" | "fileWithUri" => "url",
                    "mimeType" => "mediaType",
                    "name" => "filename",
                    other => other,
                };
                members.insert(name.to_owned(), value);
            }
        }
    })
}

fn push_config(binding: Binding, value: Value) -> Value {
    if !binding.is_old() {
        return value;
    }
    let Value::Object(mut flat) = value["pushNotificationConfig"].clone() else {
        return json!({"no config": value});
    };
    let task = if binding == Binding::OldRpc {
        value["taskId"].clone()
    } else {
        // tasks/{task}/pushNotificationConfigs/{id}
        let name: Vec<&str> = word(&value["name"]).split('/').collect();
        match name[..] {
            ["tasks", task, "pushNotificationConfigs", id]
                if flat.get("id") == Some(&json!(id)) =>
            {
                json!(task)
            }
            _ => json!({"wrong name": name}),
        }
    };
    flat.insert("taskId".to_owned(), task);
    renamed(&mut flat, "authentication", "authentication", |authentication| {
        within(authentication, |members| {
            renamed(members, "schemes", "scheme", |schemes| schemes[0].clone());
        })
    });
    Value::Object(flat)
}

// Errors.

/// An error by its A2A name, and what each binding makes of it (A2A 1.0.1 §5.4).
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub name: &'static str,
    pub code: i64,
    pub http: u16,
    pub status: &'static str,
    /// Of JSON-RPC's own errors what the official clients call them; empty where nobody names one.
    pub reason: &'static str,
}

const fn known(
    name: &'static str,
    code: i64,
    http: u16,
    status: &'static str,
    reason: &'static str,
) -> Known {
    Known { name, code, http, status, reason }
}

pub const ERRORS: [Known; 13] = [
    known("Parse", -32700, 400, "INVALID_ARGUMENT", ""),
    known("InvalidRequest", -32600, 400, "INVALID_ARGUMENT", "INVALID_REQUEST"),
    known("MethodNotFound", -32601, 404, "NOT_FOUND", "METHOD_NOT_FOUND"),
    known("InvalidParams", -32602, 400, "INVALID_ARGUMENT", "INVALID_PARAMS"),
    known("TaskNotFound", -32001, 404, "NOT_FOUND", "TASK_NOT_FOUND"),
    known("TaskNotCancelable", -32002, 400, "FAILED_PRECONDITION", "TASK_NOT_CANCELABLE"),
    known(
        "PushNotificationNotSupported",
        -32003,
        400,
        "FAILED_PRECONDITION",
        "PUSH_NOTIFICATION_NOT_SUPPORTED",
    ),
    known("UnsupportedOperation", -32004, 400, "FAILED_PRECONDITION", "UNSUPPORTED_OPERATION"),
    known("ContentTypeNotSupported", -32005, 400, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED"),
    known(
        "ExtendedAgentCardNotConfigured",
        -32007,
        400,
        "FAILED_PRECONDITION",
        "EXTENDED_AGENT_CARD_NOT_CONFIGURED",
    ),
    known(
        "ExtensionSupportRequired",
        -32008,
        400,
        "FAILED_PRECONDITION",
        "EXTENSION_SUPPORT_REQUIRED",
    ),
    known("VersionNotSupported", -32009, 400, "FAILED_PRECONDITION", "VERSION_NOT_SUPPORTED"),
    known("Busy", -32000, 503, "UNAVAILABLE", ""),
];

/// Whether a reply is this error as the binding has it; the reply to a proper `is_call` names it.
///
/// # Errors
/// What is wrong with it.
pub fn is_error(
    binding: Binding,
    http: u16,
    body: &Value,
    wanted: &Known,
    is_call: bool,
) -> Result<(), String> {
    let error = &body["error"];
    if binding == Binding::OldRest {
        // 0.3 says nothing of the body; its official clients read the code of JSON-RPC at the top.
        same("the HTTP status", &json!(http), &json!(wanted.http))?;
        same("the code", &body["code"], &json!(wanted.code))?;
        return has_message(body);
    }
    if binding.is_rpc() {
        let status = if matches!(wanted.http, 413 | 503) { wanted.http } else { 200 };
        same("the HTTP status", &json!(http), &json!(status))?;
        same("jsonrpc", &body["jsonrpc"], &json!("2.0"))?;
        if is_call {
            same("the id", &body["id"], &json!(1))?;
        }
        same("the code", &error["code"], &json!(wanted.code))?;
    } else {
        same("the HTTP status", &json!(http), &json!(wanted.http))?;
        same("the code", &error["code"], &json!(wanted.http))?;
        same("the status", &error["status"], &json!(wanted.status))?;
    }
    has_message(error)
}

fn has_message(error: &Value) -> Result<(), String> {
    let is_empty = error["message"].as_str().is_none_or(str::is_empty);
    if is_empty { Err("there is no message".to_owned()) } else { Ok(()) }
}

/// Whether an error of 1.0 has its reason, and blames `field` when there is one.
///
/// # Errors
/// What is wrong with it.
pub fn tells_why(
    binding: Binding,
    body: &Value,
    wanted: &Known,
    field: Option<&str>,
) -> Result<(), String> {
    let details = &body["error"][if binding.is_rpc() { "data" } else { "details" }];
    let detail = |name: &str| {
        let kind = format!("type.googleapis.com/google.rpc.{name}");
        let mut all = details.as_array().into_iter().flatten();
        all.find(|detail| detail["@type"] == kind)
            .ok_or_else(|| format!("there is no {name} in {details}"))
    };
    if !wanted.reason.is_empty() {
        let info = detail("ErrorInfo")?;
        same("the reason", &info["reason"], &json!(wanted.reason))?;
        same("the domain", &info["domain"], &json!("a2a-protocol.org"))?;
    }
    if let Some(field) = field {
        let violation = &detail("BadRequest")?["fieldViolations"][0];
        same("the field", &violation["field"], &json!(field))?;
        if violation["description"].as_str().is_none_or(str::is_empty) {
            return Err(format!("there is no description in {violation}"));
        }
    }
    Ok(())
}

fn same(what: &str, is: &Value, wanted: &Value) -> Result<(), String> {
    if is == wanted { Ok(()) } else { Err(format!("{what} is {is}, not {wanted}")) }
}
