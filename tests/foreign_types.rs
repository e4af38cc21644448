//! The JSON of A2A 1.0 held against Rust types that others wrote after the specification (`a2a-lf`): what this agent
//! says they read and write again without loss, and what they write this agent takes.
//!
//! Whatever those types do not know is lost on the way through them, so that a misspelt or invented member shows.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use a2a::{
    A2AError, AgentCard, AuthenticationInfo, CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest, FieldViolation, GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest, GetTaskRequest, JsonRpcId, JsonRpcRequest,
    JsonRpcResponse, ListTaskPushNotificationConfigsRequest,
    ListTaskPushNotificationConfigsResponse, ListTasksRequest, ListTasksResponse, Message, Part,
    PartContent, Role, SendMessageConfiguration, SendMessageRequest, SendMessageResponse,
    StreamResponse, SubscribeToTaskRequest, Task, TaskPushNotificationConfig, TaskState,
    TypedDetail, errordetails, methods,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::{Agent, connect};

fn agent() -> Agent {
    Agent::start(&[], &[])
}

/// Reads `value` as a `T` and asserts that the `T` is the same JSON.
#[track_caller]
fn known<T: Serialize + DeserializeOwned>(value: &Value) -> T {
    let read: T =
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"));
    let mut ours = value.clone();
    without_zeros(&mut ours);
    assert_eq!(serde_json::to_value(&read).unwrap(), ours);
    read
}

/// A time at a full second is written without fraction over there.
fn without_zeros(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(time) if name == "timestamp" => {
                        *time = time.replace(".000Z", "Z");
                    }
                    member => without_zeros(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_zeros),
        _ => {}
    }
}

/// The head of a reply, and where the rest comes from.
fn open(agent: &Agent, head: &str, body: &str) -> (String, BufReader<TcpStream>) {
    let mut stream = connect(agent.address);
    let head = format!(
        "{head} HTTP/1.1\r\nHost: localhost\r\nA2A-Version: 1.0\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "no head: {head}");
    }
    (head, reader)
}

fn exchange(agent: &Agent, head: &str, body: &str) -> Value {
    let (head, mut reader) = open(agent, head, body);
    let mut body = String::new();
    reader.read_to_string(&mut body).unwrap();
    serde_json::from_str(&body).unwrap_or_else(|_| panic!("no JSON: {head}{body}"))
}

/// A request in the envelope of those types.
fn enveloped(method: &str, params: &impl Serialize) -> String {
    let params = serde_json::to_value(params).unwrap();
    let request = JsonRpcRequest::new(JsonRpcId::from("call 1"), method, Some(params));
    serde_json::to_string(&request).unwrap()
}

fn call(agent: &Agent, method: &str, params: &impl Serialize) -> JsonRpcResponse {
    let reply: JsonRpcResponse = known(&exchange(agent, "POST /", &enveloped(method, params)));
    assert_eq!(reply.id, JsonRpcId::from("call 1"));
    reply
}

/// The result of a call that succeeds.
#[track_caller]
fn result<T: Serialize + DeserializeOwned>(
    agent: &Agent,
    method: &str,
    params: &impl Serialize,
) -> T {
    let reply = call(agent, method, params);
    assert!(reply.error.is_none(), "{reply:?}");
    known(&reply.result.unwrap())
}

fn stream(agent: &Agent, method: &str, params: &impl Serialize) -> Vec<StreamResponse> {
    let (head, reader) = open(agent, "POST /", &enveloped(method, params));
    assert!(head.to_lowercase().contains("text/event-stream"), "{head}");
    reader
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| Some(line.strip_prefix("data: ")?.to_owned()))
        .map(|data| {
            let reply: JsonRpcResponse = known(&serde_json::from_str(&data).unwrap());
            known(&reply.result.unwrap())
        })
        .collect()
}

fn saying(text: &str) -> SendMessageRequest {
    SendMessageRequest {
        message: Message::new(Role::User, vec![Part::text(text)]),
        configuration: None,
        metadata: None,
        tenant: None,
    }
}

fn send(agent: &Agent, request: &SendMessageRequest) -> Task {
    match result(agent, methods::SEND_MESSAGE, request) {
        SendMessageResponse::Task(task) => task,
        SendMessageResponse::Message(message) => panic!("no task: {message:?}"),
    }
}

/// A task that waits for input.
fn asking(agent: &Agent) -> Task {
    let task = send(agent, &saying("remember the door code"));
    assert_eq!(task.status.state, TaskState::InputRequired);
    task
}

fn members(value: &Value) -> std::collections::HashMap<String, Value> {
    value.as_object().unwrap().clone().into_iter().collect()
}

#[test]
fn a_task_loses_nothing_in_foreign_types() {
    let agent = agent();
    let task = send(&agent, &saying("25 * 4"));
    assert_eq!(task.status.state, TaskState::Completed);
    assert_eq!(task.artifacts.as_ref().unwrap()[0].parts[0].as_text(), Some("100"));
    let again: Task = result(
        &agent,
        methods::GET_TASK,
        &GetTaskRequest { id: task.id.clone(), history_length: Some(10), tenant: None },
    );
    assert_eq!(again, task);
    let report = send(&agent, &saying("device status"));
    let parts = &report.artifacts.as_ref().unwrap()[0].parts;
    assert!(parts.iter().any(|part| matches!(part.content, PartContent::Data(_))), "{parts:?}");
    let canceled: Task = result(
        &agent,
        methods::CANCEL_TASK,
        &CancelTaskRequest {
            id: asking(&agent).id,
            metadata: Some(members(&json!({"why": "enough"}))),
            tenant: None,
        },
    );
    assert_eq!(canceled.status.state, TaskState::Canceled);
    for (text, state) in [("1 / 0", TaskState::Failed), ("tell me a story", TaskState::Rejected)] {
        assert_eq!(send(&agent, &saying(text)).status.state, state);
    }
}

#[test]
fn a_message_with_every_member_loses_nothing_in_foreign_types() {
    let agent = agent();
    let mut request = saying("Keep this");
    let extra = Some(members(&json!({"a": [1, null, {"b": "c"}]})));
    request.message.context_id = Some("workshop".to_owned());
    request.message.metadata.clone_from(&extra);
    request.message.extensions = Some(vec!["https://example.com/one".to_owned()]);
    request.message.reference_task_ids = Some(vec!["6f1c2a34".to_owned()]);
    let mut first = request.message.parts.remove(0).with_filename("sum.txt");
    first.metadata.clone_from(&extra);
    request.message.parts = vec![
        first.with_media_type("text/plain"),
        Part::raw(vec![0, 1, 254, 255]).with_filename("four bytes").with_media_type("image/png"),
        Part::url("https://example.com/a.png").with_media_type("image/png"),
        Part::data(json!({"n": 1.5, "list": [true, null]})).with_media_type("application/json"),
        Part::data(json!([1, "two"])),
        Part::data(json!(null)),
    ];
    request.configuration = Some(SendMessageConfiguration {
        accepted_output_modes: Some(vec!["text/plain".to_owned()]),
        task_push_notification_config: None,
        history_length: Some(3),
        return_immediately: Some(false),
    });
    request.metadata.clone_from(&extra);
    request.tenant = Some("north".to_owned());
    let task = send(&agent, &request);
    let mut sent = request.message.clone();
    sent.task_id = Some(task.id.clone());
    assert_eq!(task.history.unwrap(), [sent]);
}

#[test]
fn a_stream_loses_nothing_in_foreign_types() {
    let agent = agent();
    let events = stream(&agent, methods::SEND_STREAMING_MESSAGE, &saying("25 * 4"));
    assert!(
        matches!(
            &events[..],
            [
                StreamResponse::Task(_),
                StreamResponse::ArtifactUpdate(_),
                StreamResponse::StatusUpdate(_)
            ]
        ),
        "{events:?}"
    );
    let mut request = SubscribeToTaskRequest { id: asking(&agent).id, tenant: None };
    let (_, mut reader) = open(&agent, "POST /", &enveloped(methods::SUBSCRIBE_TO_TASK, &request));
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "no event");
    }
    let reply: JsonRpcResponse = known(&serde_json::from_str(&line["data: ".len()..]).unwrap());
    let first: StreamResponse = known(&reply.result.unwrap());
    assert!(matches!(&first, StreamResponse::Task(task) if task.id == request.id), "{first:?}");
    request.id = "none".to_owned();
    assert_eq!(call(&agent, methods::SUBSCRIBE_TO_TASK, &request).error.unwrap().code, -32001);
}

#[test]
fn a_list_loses_nothing_in_foreign_types() {
    let agent = agent();
    for _ in 0..3 {
        send(&agent, &saying("25 * 4"));
    }
    let mut request = ListTasksRequest {
        context_id: None,
        status: Some(TaskState::Completed),
        page_size: Some(2),
        page_token: None,
        history_length: Some(1),
        status_timestamp_after: None,
        include_artifacts: Some(true),
        tenant: None,
    };
    let page: ListTasksResponse = result(&agent, methods::LIST_TASKS, &request);
    assert_eq!((page.tasks.len(), page.page_size, page.total_size), (2, 2, 3));
    request.page_token = Some(page.next_page_token);
    let last: ListTasksResponse = result(&agent, methods::LIST_TASKS, &request);
    assert_eq!((last.tasks.len(), last.next_page_token.as_str()), (1, ""));
    request.page_token = None;
    // As those types write a time.
    request.status_timestamp_after = last.tasks[0].status.timestamp;
    let page: ListTasksResponse = result(&agent, methods::LIST_TASKS, &request);
    assert_eq!(page.total_size, 3);
    request.context_id = Some("nowhere".to_owned());
    let none: ListTasksResponse = result(&agent, methods::LIST_TASKS, &request);
    assert_eq!((none.tasks.len(), none.total_size), (0, 0));
}

#[test]
fn push_configurations_lose_nothing_in_foreign_types() {
    let agent = Agent::configured("[push]\nallow-private = true\n", &[]);
    let task_id = asking(&agent).id;
    let config = TaskPushNotificationConfig {
        url: "http://127.0.0.1:9/hook".to_owned(),
        id: Some("mine".to_owned()),
        task_id: task_id.clone(),
        token: Some("word".to_owned()),
        authentication: Some(AuthenticationInfo {
            scheme: "Bearer".to_owned(),
            credentials: Some("secret".to_owned()),
        }),
        tenant: None,
    };
    let created: TaskPushNotificationConfig = result(&agent, methods::CREATE_PUSH_CONFIG, &config);
    assert_eq!((&created.id, &created.task_id), (&config.id, &task_id));
    let one = GetTaskPushNotificationConfigRequest {
        task_id: task_id.clone(),
        id: "mine".to_owned(),
        tenant: None,
    };
    let read: TaskPushNotificationConfig = result(&agent, methods::GET_PUSH_CONFIG, &one);
    assert_eq!(read, created);
    let all = ListTaskPushNotificationConfigsRequest {
        task_id: task_id.clone(),
        page_size: None,
        page_token: None,
        tenant: None,
    };
    let reply = call(&agent, methods::LIST_PUSH_CONFIGS, &all).result.unwrap();
    let list: ListTaskPushNotificationConfigsResponse = known(&reply);
    assert_eq!(list.configs, [created]);
    let delete =
        DeleteTaskPushNotificationConfigRequest { task_id, id: "mine".to_owned(), tenant: None };
    // Their envelope takes a result that is null for none.
    let reply = exchange(&agent, "POST /", &enveloped(methods::DELETE_PUSH_CONFIG, &delete));
    assert_eq!(reply, json!({"jsonrpc": "2.0", "id": "call 1", "result": null}));
    let mut request = saying("remember the gate");
    let inline = TaskPushNotificationConfig { task_id: String::new(), ..config };
    request.configuration = Some(SendMessageConfiguration {
        accepted_output_modes: None,
        task_push_notification_config: Some(inline),
        history_length: None,
        return_immediately: None,
    });
    let all = ListTaskPushNotificationConfigsRequest { task_id: send(&agent, &request).id, ..all };
    let list: ListTaskPushNotificationConfigsResponse =
        result(&agent, methods::LIST_PUSH_CONFIGS, &all);
    assert_eq!(list.configs.len(), 1);
}

/// The details of an error, each with its type.
fn details(value: &Value) -> Vec<TypedDetail> {
    let details = value.as_array().unwrap_or_else(|| panic!("no list: {value}"));
    details.iter().map(known).collect()
}

#[test]
fn errors_lose_nothing_in_foreign_types() {
    let agent = agent();
    let unknown = GetTaskRequest { id: "none".to_owned(), history_length: None, tenant: None };
    let error = call(&agent, methods::GET_TASK, &unknown).error.unwrap();
    let theirs = A2AError::task_not_found("none");
    assert_eq!(error.code, theirs.code);
    let info = details(&error.data.unwrap());
    let info = info.iter().find(|detail| detail.type_url == errordetails::ERROR_INFO_TYPE).unwrap();
    assert_eq!(info.value["reason"], a2a::error_reason(theirs.code));
    assert_eq!(info.value["domain"], errordetails::PROTOCOL_DOMAIN);
    let mut request = saying("1 + 1");
    request.message.parts.clear();
    let error = call(&agent, methods::SEND_MESSAGE, &request).error.unwrap();
    assert_eq!(error.code, a2a::error_code::INVALID_PARAMS);
    let bad = details(&error.data.unwrap());
    let bad = bad.iter().find(|detail| detail.type_url == errordetails::BAD_REQUEST_TYPE).unwrap();
    let fields: Vec<FieldViolation> =
        bad.value["fieldViolations"].as_array().unwrap().iter().map(known).collect();
    assert_eq!(fields[0].field, "message.parts");
    let reply = exchange(&agent, "GET /tasks/none", "");
    assert_eq!(reply["error"]["code"], theirs.http_status_code());
    assert_eq!(details(&reply["error"]["details"])[0].value["reason"], "TASK_NOT_FOUND");
}

#[test]
fn rest_takes_what_foreign_types_write() {
    let agent = agent();
    let body = serde_json::to_string(&saying("25 * 4")).unwrap();
    let SendMessageResponse::Task(task) = known(&exchange(&agent, "POST /message:send", &body))
    else {
        panic!("no task");
    };
    let again: Task = known(&exchange(&agent, &format!("GET /tasks/{}", task.id), ""));
    assert_eq!(again, task);
    let page: ListTasksResponse = known(&exchange(&agent, "GET /tasks?pageSize=1", ""));
    assert_eq!(page.tasks[0].id, task.id);
}

/// Every member that a card of this agent may have.
const WHOLE_CARD: &str = r#"
[agent]
name = "workshop"
description = "Answers questions."
organization = "Example Org"
organization-url = "https://example.org"
documentation-url = "https://example.org/workshop"
[card]
extended = true
agent-identity-id = "agent-4711"
persona-id = "gardener"
spiffe-id = "spiffe://example.org/workshop"
"#;

#[test]
fn the_cards_of_one_zero_lose_nothing_in_foreign_types() {
    let agent = Agent::configured(&format!("{WHOLE_CARD}form = \"1.0\"\n"), &[]);
    let card: AgentCard = known(&agent.get("/.well-known/agent-card.json").json());
    assert_eq!(card.capabilities.extended_agent_card, Some(true));
    let request = GetExtendedAgentCardRequest { tenant: None };
    let extended: AgentCard = result(&agent, methods::GET_EXTENDED_AGENT_CARD, &request);
    assert_eq!(extended.supported_interfaces, card.supported_interfaces);
    let over_rest: AgentCard = known(&exchange(&agent, "GET /extendedAgentCard", ""));
    assert_eq!(over_rest, extended);
}

#[test]
fn a_card_of_both_versions_is_one_of_one_zero_with_more_members() {
    let agent = Agent::configured(WHOLE_CARD, &[]);
    let card = agent.get("/.well-known/agent-card.json").json();
    let theirs: AgentCard = serde_json::from_value(card.clone()).unwrap();
    assert!(!theirs.supported_interfaces.is_empty() && !theirs.skills.is_empty(), "{card}");
    let kept = serde_json::to_value(&theirs).unwrap();
    assert!(same_or_fewer(&kept, &card), "{kept} of {card}");
}

/// Whether `part` is `whole` without some members of objects.
fn same_or_fewer(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part
            .iter()
            .all(|(name, value)| whole.get(name).is_some_and(|whole| same_or_fewer(value, whole))),
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len()
                && part.iter().zip(whole).all(|(part, whole)| same_or_fewer(part, whole))
        }
        (part, whole) => part == whole,
    }
}
