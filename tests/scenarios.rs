//! Scenarios, written once in neutral terms (`tests/scenarios/*.toml`), played through every binding: each must do
//! what the scenario expects, and all must answer alike.
//!
//! A scenario is a list of steps. A step asks one thing (`send`, `stream`, `get`, `list`, `cancel`, `subscribe`,
//! `push-create`, `push-get`, `push-list`, `push-delete`, `card`, `raw`, or `read` more of an open stream) and says what must
//! come of it. `save` keeps members of the reply for later steps, which write them `{name}`. A scenario with a `model`
//! has one that says these pieces, turn by turn; `go` lets it say the next piece of a turn, or end it.
//!
//! | key of a step | what it means |
//! |---|---|
//! | `message`, `configuration`, `params` | members laid over the request, as 1.0 spells them |
//! | `drop` | members of the message left out |
//! | `tenant`, `version`, `extensions` | the tenant, the `A2A-Version` sent, the extensions that the caller knows |
//! | `verb`, `body` | the verb of a REST request, the body |
//! | `open` | keep the stream under this name; without it the stream must end after `events` |
//! | `ends` | whether a stream that is kept or read must end after `events` |
//! | `until` | ask again until the task is in this state |
//! | `state`, `reply`, `says` | the task's state, the text of its artifacts, the text of its status |
//! | `result` | members the neutral reply must have |
//! | `events` | all events, each in a line: `task working`, `artifact result: 100`, `status completed: 100` |
//! | `error`, `field` | the error by its A2A name, and the member that 1.0 blames |
//! | `http` | the HTTP status: of a reply that is no A2A, or of REST where it is not the error's own |
//! | `later` | the step begins in a later millisecond than the one before it ended |
//!
//! Texts that stand for something else: `<null>`, `<absent>`, `<any>`, `<has ...>`, `<300*x>`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "a test has a deadline")]

mod support;

#[path = "scenarios/binding.rs"]
mod binding;

#[path = "support/provider.rs"]
mod provider;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use binding::{Binding, ERRORS, Known, Op, Request};
use provider::{Form, Provider, Script};
use serde_json::{Map, Value, json};
use support::{Agent, DEADLINE, Reply, connect};
use toml::de::{DeTable, DeValue};

/// Agents at the same time.
const ACTORS: usize = 4;

type Object = Map<String, Value>;

#[test]
fn every_skill_answers_alike_in_every_binding() {
    play_all("skills");
}

#[test]
fn a_question_is_asked_and_answered_alike_in_every_binding() {
    play_all("questions");
}

#[test]
fn ids_and_contexts_mean_the_same_in_every_binding() {
    play_all("contexts");
}

#[test]
fn history_is_cut_alike_in_every_binding() {
    play_all("history");
}

#[test]
fn what_a_message_holds_comes_back_alike_in_every_binding() {
    play_all("contents");
}

#[test]
fn a_wrong_message_is_refused_alike_in_every_binding() {
    play_all("refusals");
}

#[test]
fn streams_tell_the_same_in_every_binding() {
    play_all("streams");
}

#[test]
fn a_model_is_relayed_alike_in_every_binding() {
    play_all("models");
}

#[test]
fn tasks_end_alike_in_every_binding() {
    play_all("endings");
}

#[test]
fn tasks_are_listed_alike_in_every_binding() {
    play_all("lists");
}

#[test]
fn a_tenant_sees_its_own_tasks_alone() {
    play_all("tenants");
}

#[test]
fn push_configurations_are_kept_alike_in_every_binding() {
    play_all("push");
}

#[test]
fn push_into_the_own_network_is_refused_alike_in_every_binding() {
    play_all("guarded");
}

#[test]
fn an_extended_card_tells_the_same_in_every_binding() {
    play_all("cards");
}

#[test]
fn an_extension_that_is_required_is_asked_for_alike_in_every_binding() {
    play_all("extensions");
}

#[test]
fn spellings_that_are_allowed_mean_the_same_in_every_binding() {
    play_all("spellings");
}

#[test]
fn a_busy_agent_says_so_alike_in_every_binding() {
    play_all("busy");
}

#[test]
fn requests_that_are_none_are_refused_alike_in_every_binding() {
    play_all("requests");
}

#[test]
fn every_file_of_scenarios_is_played() {
    let source = include_str!("scenarios.rs");
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let theme = path.file_stem().unwrap().to_str().unwrap().to_owned();
            assert!(source.contains(&format!("play_all(\"{theme}\")")), "{theme} is not played");
            count += scenarios(&theme).len();
        }
    }
    assert!(count >= 60, "only {count} scenarios");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

// Reading scenarios.

struct Scenario {
    name: String,
    /// The agent's configuration.
    config: String,
    bindings: Vec<Binding>,
    /// Whether what the agent says differs from one moment to the next.
    vague: bool,
    /// What the model says, in turns of pieces; there is none when empty.
    model: Vec<Vec<String>>,
    steps: Vec<Object>,
}

fn scenarios(theme: &str) -> Vec<Scenario> {
    let path = folder().join(theme).with_extension("toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let table = DeTable::parse(&text).unwrap_or_else(|error| panic!("{theme}: {error}"));
    let mut file = object_of(table.get_ref());
    let config = file.remove("config").map_or_else(String::new, |config| text_of(&config));
    let list = file.remove("scenario").unwrap();
    assert!(file.is_empty(), "{theme}: unknown {file:?}");
    let list: Vec<Scenario> =
        list.as_array().unwrap().iter().map(|value| scenario(theme, &config, value)).collect();
    for (at, one) in list.iter().enumerate() {
        assert!(list[..at].iter().all(|other| other.name != one.name), "twice: {}", one.name);
    }
    list
}

fn scenario(theme: &str, config: &str, value: &Value) -> Scenario {
    let name = format!("{theme}: {}", text_of(&value["name"]));
    for key in value.as_object().unwrap().keys() {
        assert!(
            ["name", "only", "vague", "model", "step"].contains(&key.as_str()),
            "{name}: key {key}"
        );
    }
    let bindings = match value["only"].as_array() {
        None => Binding::ALL.to_vec(),
        Some(only) => only
            .iter()
            .map(|wanted| {
                let mut all = Binding::ALL.into_iter();
                all.find(|binding| binding.name() == text_of(wanted))
                    .unwrap_or_else(|| panic!("{name}: no binding {wanted}"))
            })
            .collect(),
    };
    let steps = value["step"].as_array().unwrap_or_else(|| panic!("{name}: no steps"));
    Scenario {
        bindings,
        config: config.to_owned(),
        vague: value["vague"] == true,
        model: value["model"].as_array().map_or_else(Vec::new, |turns| {
            let pieces = |turn: &Value| turn.as_array().unwrap().iter().map(text_of).collect();
            turns.iter().map(pieces).collect()
        }),
        steps: steps.iter().map(|step| step.as_object().unwrap().clone()).collect(),
        name,
    }
}

fn object_of(table: &DeTable<'_>) -> Object {
    table.iter().map(|(key, value)| (key.get_ref().to_string(), json_of(value.get_ref()))).collect()
}

fn json_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => json!(text),
        DeValue::Integer(number) => json!(number.to_string().parse::<i64>().unwrap()),
        DeValue::Float(number) => json!(number.to_string().parse::<f64>().unwrap()),
        DeValue::Boolean(flag) => json!(flag),
        DeValue::Datetime(time) => json!(time.to_string()),
        DeValue::Array(items) => items.iter().map(|item| json_of(item.get_ref())).collect(),
        DeValue::Table(table) => Value::Object(object_of(table)),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

// Playing them.

fn play_all(theme: &str) {
    let scenarios = scenarios(theme);
    let roles: Vec<(usize, Binding)> = scenarios
        .iter()
        .enumerate()
        .flat_map(|(at, scenario)| scenario.bindings.iter().map(move |binding| (at, *binding)))
        .collect();
    let next = AtomicUsize::new(0);
    let played = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..ACTORS {
            scope.spawn(|| {
                while let Some((at, binding)) = roles.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let script = catch_unwind(|| play(&scenarios[*at], *binding));
                    let script = script.unwrap_or_else(|_| Err("panicked, see above".to_owned()));
                    played.lock().unwrap().push((*at, *binding, script));
                }
            });
        }
    });
    let mut played = played.into_inner().unwrap();
    played.sort_by_key(|(at, binding, _)| (*at, binding.name()));
    let mut failed = Vec::new();
    let mut first: Option<(usize, Binding, Vec<Value>)> = None;
    for (at, binding, script) in played {
        let name = &scenarios[at].name;
        let script = match script {
            Ok(script) => script,
            Err(why) => {
                failed.push(format!("{name}\n  {}: {why}", binding.name()));
                continue;
            }
        };
        match &first {
            Some((same, other, wanted)) if *same == at => {
                let steps = wanted.iter().zip(&script).enumerate();
                for (step, (wanted, is)) in steps.filter(|(_, (wanted, is))| wanted != is) {
                    failed.push(format!(
                        "{name}\n  step {}: {} answers\n    {wanted}\n  and {}\n    {is}",
                        step + 1,
                        other.name(),
                        binding.name()
                    ));
                }
            }
            _ => first = Some((at, binding, script)),
        }
    }
    assert!(failed.is_empty(), "{} failed:\n\n{}\n", failed.len(), failed.join("\n\n"));
}

/// Plays a scenario through one binding and returns what came of each step, comparable with other bindings.
fn play(scenario: &Scenario, binding: Binding) -> Result<Vec<Value>, String> {
    let model = Provider::start(scenario.model.iter().map(|turn| {
        let pieces: Vec<&str> = turn.iter().map(String::as_str).collect();
        Script::gated(Form::OpenAi, &pieces)
    }));
    let url = model.url();
    let variables = [("OPENAI_API_KEY", "no-key"), ("OPENAI_BASE_URL", url.as_str())];
    let variables = if scenario.model.is_empty() { &[] } else { &variables[..] };
    let mut stage = Stage {
        agent: Agent::configured(&scenario.config, variables),
        model,
        binding,
        saved: HashMap::from([("root".to_owned(), binding.root().to_owned())]),
        streams: HashMap::new(),
        sent: 0,
    };
    let mut script = Vec::new();
    for (at, step) in scenario.steps.iter().enumerate() {
        let mut asked = None;
        let came = stage.take(step.clone(), &mut asked).map_err(|why| {
            let mut asked = asked.map_or_else(String::new, |request: Request| {
                format!("{} {} {}", request.verb, request.path, request.body.unwrap_or_default())
            });
            asked.truncate(asked.char_indices().nth(1000).map_or(asked.len(), |(end, _)| end));
            format!("step {}: {why}\n    asked: {asked}", at + 1)
        })?;
        script.push(came);
    }
    let mut alike = Alike { seen: Vec::new(), vague: scenario.vague };
    Ok(script.into_iter().map(|came| alike.value("", came)).collect())
}

/// One agent and who talks to it.
struct Stage {
    agent: Agent,
    model: Provider,
    binding: Binding,
    saved: HashMap<String, String>,
    streams: HashMap<String, Stream>,
    /// Messages sent so far.
    sent: usize,
}

/// What a step expects.
struct Wanted {
    open: Option<String>,
    ends: Option<bool>,
    until: Option<String>,
    state: Option<String>,
    reply: Option<Value>,
    says: Option<Value>,
    result: Option<Value>,
    events: Option<Value>,
    error: Option<Known>,
    field: Option<String>,
    http: Option<u64>,
    save: Object,
}

impl Wanted {
    fn of(step: &mut Object) -> Self {
        let text = |value: Option<Value>| value.map(|value| text_of(&value));
        Self {
            open: text(step.remove("open")),
            ends: step.remove("ends").and_then(|value| value.as_bool()),
            until: text(step.remove("until")),
            state: text(step.remove("state")),
            reply: step.remove("reply"),
            says: step.remove("says"),
            result: step.remove("result"),
            events: step.remove("events"),
            error: text(step.remove("error")).map(|name| {
                let known = ERRORS.into_iter().find(|known| known.name == name);
                known.unwrap_or_else(|| panic!("no error {name}"))
            }),
            field: text(step.remove("field")),
            http: step.remove("http").and_then(|value| value.as_u64()),
            save: step.remove("save").map(object).unwrap_or_default(),
        }
    }
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("no table: {other}"),
    }
}

/// What a request brought.
enum Came {
    Reply(Reply),
    Stream(Stream),
}

impl Stage {
    fn take(&mut self, mut step: Object, asked: &mut Option<Request>) -> Result<Value, String> {
        for value in step.values_mut().filter(|value| !value.is_null()) {
            *value = self.filled(value.take());
        }
        if step.remove("later") == Some(json!(true)) {
            let now = SystemTime::now();
            while SystemTime::now().duration_since(now).unwrap_or_default().as_millis() < 1 {
                std::thread::yield_now();
            }
        }
        let wanted = Wanted::of(&mut step);
        let came = if let Some(turn) = step.remove("go") {
            self.model.go(usize::try_from(turn.as_u64().unwrap_or_default()).unwrap());
            json!("went")
        } else if let Some(name) = step.remove("read") {
            let stream = self.streams.remove(&text_of(&name)).ok_or("no such stream is open")?;
            self.follow(stream, Some(text_of(&name)), &wanted)?
        } else if let Some(raw) = step.remove("raw") {
            let mut raw = object(raw);
            let op = raw.remove("as").map(|name| {
                let mut ops = Op::NAMES.into_iter().filter(|(known, _)| name == *known);
                ops.next().unwrap_or_else(|| panic!("no operation {name}")).1
            });
            let request = self.raw(raw);
            *asked = Some(request.clone());
            self.answer(&request, op, &wanted)?
        } else {
            let (op, request) = self.request(&mut step)?;
            *asked = Some(request.clone());
            self.answer(&request, Some(op), &wanted)?
        };
        if !step.is_empty() {
            return Err(format!("unknown keys {step:?}"));
        }
        self.save(&wanted, &came)?;
        Ok(came)
    }

    /// Puts saved values for `{name}`, and what special texts stand for.
    fn filled(&self, value: Value) -> Value {
        match value {
            Value::String(text) => {
                let mut text = text;
                for (name, saved) in &self.saved {
                    text = text.replace(&format!("{{{name}}}"), saved);
                }
                if text == "<null>" {
                    return Value::Null;
                }
                let repeated = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
                match repeated.and_then(|text| text.split_once('*')) {
                    Some((times, what)) => json!(what.repeat(times.parse().unwrap())),
                    None => json!(text),
                }
            }
            Value::Array(items) => items.into_iter().map(|item| self.filled(item)).collect(),
            Value::Object(members) => {
                members.into_iter().map(|(name, value)| (name, self.filled(value))).collect()
            }
            other => other,
        }
    }

    fn request(&mut self, step: &mut Object) -> Result<(Op, Request), String> {
        let mut ops = Op::NAMES.into_iter().filter_map(|(name, op)| Some((op, step.remove(name)?)));
        let (op, subject) = ops.next().ok_or("asks nothing")?;
        drop(ops);
        let mut params = match op {
            Op::Send | Op::Stream => {
                let mut params = Object::new();
                params.insert("message".to_owned(), self.message(&subject, step));
                if let Some(configuration) = step.remove("configuration") {
                    params.insert("configuration".to_owned(), configuration);
                }
                params
            }
            Op::Get | Op::Cancel | Op::Subscribe => object(json!({"id": subject})),
            Op::List | Op::Card => object(subject),
            Op::PushCreate | Op::PushGet | Op::PushList | Op::PushDelete => {
                object(json!({"taskId": subject}))
            }
        };
        params.extend(step.remove("params").map(object).unwrap_or_default());
        if let Some(tenant) = step.remove("tenant") {
            params.insert("tenant".to_owned(), tenant);
        }
        let mut request = Request::new(self.binding, op, params);
        if let Some(version) = step.remove("version") {
            request.version = Some(text_of(&version)).filter(|version| !version.is_empty());
        }
        if let Some(verb) = step.remove("verb")
            && !self.binding.is_rpc()
        {
            request.verb = text_of(&verb);
            let has_body = request.verb == "POST";
            request.body = has_body.then(|| "{}".to_owned());
            request.content_type = has_body.then(|| "application/json".to_owned());
        }
        if let Some(extensions) = step.remove("extensions") {
            let name = if self.binding.is_old() { "X-A2A-Extensions" } else { "A2A-Extensions" };
            request.extensions = Some((name, text_of(&extensions)));
        }
        if let Some(body) = step.remove("body") {
            request.body = Some(text_of(&body));
        }
        Ok((op, request))
    }

    fn message(&mut self, text: &Value, step: &mut Object) -> Value {
        self.sent += 1;
        let mut message = object(json!({
            "messageId": format!("m{}", self.sent),
            "role": "ROLE_USER",
            "parts": [{"text": text}],
        }));
        message.extend(step.remove("message").map(object).unwrap_or_default());
        for name in step.remove("drop").iter().filter_map(Value::as_array).flatten() {
            message.remove(&text_of(name));
        }
        Value::Object(message)
    }

    /// A request byte by byte; what is not given is as a sent message has it.
    fn raw(&self, mut raw: Object) -> Request {
        let mut request = Request::new(self.binding, Op::Send, Object::new());
        let mut text = |name: &str| raw.remove(name).map(|value| text_of(&value));
        let given = |value: String| Some(value).filter(|value| !value.is_empty());
        request.verb = text("verb").unwrap_or(request.verb);
        request.path = text("path").unwrap_or(request.path);
        request.content_type = text("type").map_or(request.content_type, given);
        request.version = text("version").map_or(request.version, given);
        request.body = text("body").map_or(request.body, Some);
        assert!(raw.is_empty(), "unknown {raw:?}");
        request
    }

    fn answer(
        &mut self,
        request: &Request,
        op: Option<Op>,
        wanted: &Wanted,
    ) -> Result<Value, String> {
        let end = Instant::now() + DEADLINE;
        loop {
            let came = open(&self.agent, request);
            if let Some(known) = wanted.error {
                let http = wanted.http.and_then(|http| u16::try_from(http).ok());
                let known = Known { http: http.unwrap_or(known.http), ..known };
                return self.refused(request, op, came, &known, wanted.field.as_deref());
            }
            let reply = match came {
                Came::Stream(stream) => return self.follow(stream, wanted.open.clone(), wanted),
                Came::Reply(reply) => reply,
            };
            if let Some(http) = wanted.http {
                if u64::from(reply.status) != http {
                    return Err(format!("answered {reply:?}"));
                }
                return Ok(json!({"http": http}));
            }
            let op = op.ok_or("a raw request expects an error or http")?;
            let result = self.succeeded(op, &reply)?;
            if let Some(state) = &wanted.until
                && result["status"]["state"] != spelled(state)
                && Instant::now() < end
            {
                self.wait(&result);
                continue;
            }
            check_task(&result, wanted)?;
            return Ok(json!({"result": result}));
        }
    }

    /// Until the task has ended or asks something; it may have done so already, and then there is no stream.
    fn wait(&self, task: &Value) {
        let params = object(json!({"id": task["id"]}));
        if let Came::Stream(mut stream) =
            open(&self.agent, &Request::new(self.binding, Op::Subscribe, params))
        {
            while let Ok(Some(event)) = stream.next(self.binding)
                && told(&event).contains(" working")
            {}
        }
    }

    fn succeeded(&self, op: Op, reply: &Reply) -> Result<Value, String> {
        let wrong = || format!("answered {} {}", reply.head, reply.body);
        if reply.status != 200 || !self.is_own_type(reply) {
            return Err(wrong());
        }
        let mut body: Value = serde_json::from_str(&reply.body).map_err(|_| wrong())?;
        let value = if self.binding.is_rpc() {
            let is_answer = body["jsonrpc"] == "2.0" && body["id"] == 1;
            if !is_answer || body.get("error").is_some() || body.get("result").is_none() {
                return Err(wrong());
            }
            body["result"].take()
        } else {
            body
        };
        Ok(binding::result(self.binding, op, value))
    }

    fn is_own_type(&self, reply: &Reply) -> bool {
        match reply.header("content-type") {
            Some("application/json") => true,
            Some("application/a2a+json") => self.binding == Binding::Rest,
            _ => false,
        }
    }

    fn refused(
        &self,
        request: &Request,
        op: Option<Op>,
        came: Came,
        known: &Known,
        field: Option<&str>,
    ) -> Result<Value, String> {
        // Clients of 0.3 JSON-RPC look for the error of a stream in the stream; what HTTP refuses is no stream.
        let says_old = matches!(request.version.as_deref(), None | Some("0.3"));
        let wants_stream = self.binding == Binding::OldRpc
            && says_old
            && known.http != 503
            && matches!(op, Some(Op::Stream | Op::Subscribe));
        let (status, text) = match came {
            Came::Stream(stream) if wants_stream => (stream.status, stream.only()?),
            Came::Reply(reply) if !wants_stream && self.is_own_type(&reply) => {
                (reply.status, reply.body)
            }
            Came::Stream(_) => return Err("a stream came".to_owned()),
            Came::Reply(reply) => return Err(format!("answered {} {}", reply.head, reply.body)),
        };
        let said = || format!("answered {status} {text}");
        let body: Value = serde_json::from_str(&text).map_err(|_| said())?;
        // Who does not say 1.0 is told in the terms of 0.3.
        let is_told_why = !self.binding.is_old() && !says_old;
        binding::is_error(self.binding, status, &body, known, op.is_some())
            .and_then(|()| {
                if is_told_why {
                    binding::tells_why(self.binding, &body, known, field)
                } else {
                    Ok(())
                }
            })
            .map_err(|why| format!("{}: {why}; {}", known.name, said()))?;
        Ok(json!({"error": known.name}))
    }

    /// Reads the events that must come, and keeps the stream or sees it end.
    fn follow(
        &mut self,
        mut stream: Stream,
        name: Option<String>,
        wanted: &Wanted,
    ) -> Result<Value, String> {
        let lines = wanted.events.as_ref().and_then(Value::as_array);
        let lines = lines.ok_or("a stream came")?;
        let ends = wanted.ends.unwrap_or(name.is_none());
        let mut events = Vec::new();
        for line in lines {
            let Some(event) = stream.next(self.binding)? else {
                return Err(format!("the stream ends before {line}"));
            };
            let is = told(&event);
            matches(line, &json!(is), "events").map_err(|why| format!("{why} in {event}"))?;
            events.push(event);
        }
        if ends {
            if let Some(event) = stream.next(self.binding)? {
                return Err(format!("the stream goes on with {event}"));
            }
        } else if let Some(name) = name {
            self.streams.insert(name, stream);
        }
        Ok(json!({"events": events, "ends": ends}))
    }

    fn save(&mut self, wanted: &Wanted, came: &Value) -> Result<(), String> {
        for (name, path) in &wanted.save {
            let from = came.get("result").or(came.get("events")).unwrap_or(came);
            let pointer = format!("/{}", text_of(path).replace('.', "/"));
            let value = from.pointer(&pointer).ok_or_else(|| format!("no {path} in {from}"))?;
            self.saved.insert(name.clone(), text_of(value));
        }
        Ok(())
    }
}

// What is expected.

/// A state as scenarios write it.
fn spelled(state: &str) -> Value {
    json!(format!("TASK_STATE_{}", state.replace('-', "_").to_uppercase()))
}

fn texts(parts: &Value) -> String {
    let parts = parts.as_array().into_iter().flatten();
    let texts: Vec<&str> = parts.filter_map(|part| part["text"].as_str()).collect();
    texts.join("\n")
}

fn check_task(task: &Value, wanted: &Wanted) -> Result<(), String> {
    let within = |why: String| format!("{why} in {task}");
    if let Some(state) = &wanted.state {
        matches(&spelled(state), &task["status"]["state"], "the state").map_err(within)?;
    }
    if let Some(says) = &wanted.says {
        let is = texts(&task["status"]["message"]["parts"]);
        matches(says, &json!(is), "the status").map_err(within)?;
    }
    if let Some(reply) = &wanted.reply {
        let artifacts = task["artifacts"].as_array().into_iter().flatten();
        let all: Vec<String> = artifacts.map(|artifact| texts(&artifact["parts"])).collect();
        matches(reply, &json!(all.join("\n")), "the reply").map_err(within)?;
    }
    match &wanted.result {
        Some(result) => matches(result, task, "the result").map_err(within),
        None => Ok(()),
    }
}

/// Whether `is` has all that `wanted` has: an object may have more members, a list not more elements.
fn matches(wanted: &Value, is: &Value, what: &str) -> Result<(), String> {
    let differs = || Err(format!("{what} is {is}, not {wanted}"));
    match wanted {
        Value::String(text) if text == "<any>" => Ok(()),
        Value::String(text) if text.starts_with("<has ") => {
            let part = text.trim_start_matches("<has ").trim_end_matches('>');
            if is.as_str().is_some_and(|is| is.contains(part)) { Ok(()) } else { differs() }
        }
        Value::Object(members) if is.is_object() => {
            members.iter().try_for_each(|(name, wanted)| {
                let what = format!("{what}.{name}");
                match (wanted.as_str(), is.get(name)) {
                    (Some("<absent>"), None) => Ok(()),
                    (Some("<absent>"), Some(is)) => Err(format!("{what} is {is}")),
                    (_, Some(is)) => matches(wanted, is, &what),
                    (_, None) => Err(format!("{what} is missing")),
                }
            })
        }
        Value::Array(items) => match is.as_array() {
            Some(all) if all.len() == items.len() => {
                items.iter().zip(all).enumerate().try_for_each(|(at, (wanted, is))| {
                    matches(wanted, is, &format!("{what}[{at}]"))
                })
            }
            _ => differs(),
        },
        wanted if wanted == is => Ok(()),
        _ => differs(),
    }
}

/// An event in a line.
fn told(event: &Value) -> String {
    let state = |task: &Value| {
        let state = task["status"]["state"].as_str().unwrap_or("nothing");
        let state = state.trim_start_matches("TASK_STATE_").to_lowercase().replace('_', "-");
        match texts(&task["status"]["message"]["parts"]) {
            text if text.is_empty() => state,
            text => format!("{state}: {text}"),
        }
    };
    if let Some(task) = event.get("task") {
        format!("task {}", state(task))
    } else if let Some(update) = event.get("statusUpdate") {
        format!("status {}", state(update))
    } else if let Some(update) = event.get("artifactUpdate") {
        let id = update["artifact"]["artifactId"].as_str().unwrap_or("nothing");
        let mark = if update["append"] == true { "+" } else { "" };
        format!("artifact {id}{mark}: {}", texts(&update["artifact"]["parts"]))
    } else {
        event.to_string()
    }
}

/// Puts numbers for what differs from run to run: ids in the order they come, times, page tokens.
struct Alike {
    seen: Vec<String>,
    vague: bool,
}

impl Alike {
    fn value(&mut self, name: &str, value: Value) -> Value {
        match value {
            Value::String(text) if name == "timestamp" && is_time(&text) => json!("<time>"),
            Value::String(text) if name == "nextPageToken" && !text.is_empty() => json!("<token>"),
            Value::String(text) if name == "text" && self.vague => {
                json!(if text.is_empty() { "" } else { "<text>" })
            }
            Value::String(text) => json!(self.text(text)),
            Value::Object(_) if name == "data" && self.vague => json!("<data>"),
            Value::Array(items) => items.into_iter().map(|item| self.value(name, item)).collect(),
            Value::Object(members) => members
                .into_iter()
                .map(|(name, value)| {
                    let value = self.value(&name, value);
                    (name, value)
                })
                .collect(),
            other => other,
        }
    }

    fn text(&mut self, mut text: String) -> String {
        let mut at = 0;
        while let Some(id) = text.get(at..at + 36) {
            if is_uuid(id) {
                let number = self.seen.iter().position(|seen| seen == id).unwrap_or_else(|| {
                    self.seen.push(id.to_owned());
                    self.seen.len() - 1
                });
                text.replace_range(at..at + 36, &format!("<id {number}>"));
            }
            at += 1;
            while !text.is_char_boundary(at) {
                at += 1;
            }
        }
        text
    }
}

fn is_uuid(text: &str) -> bool {
    text.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase(),
    })
}

/// `2026-01-31T12:00:00.000Z`; the milliseconds may be left out.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    text.ends_with('Z')
        && [0..4, 5..7, 8..10, 11..13, 14..16, 17..19].into_iter().all(digits)
        && [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')]
            .into_iter()
            .all(|(at, byte)| bytes[at] == byte)
        && (text.len() == 20 || (text.len() == 24 && bytes[19] == b'.' && digits(20..23)))
}

// Over the wire.

/// Sends a request on a connection of its own.
fn open(agent: &Agent, request: &Request) -> Came {
    let mut stream = connect(agent.address);
    // It may be refused before all of it was read.
    let _ = stream.write_all(&request.bytes(&agent.address.to_string()));
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "no head for {request:?}: {head}");
    }
    let mut reply = Reply::parse(head.as_bytes());
    if reply.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
        return Came::Stream(Stream { reader, status: reply.status, is_over: false });
    }
    let mut body = Vec::new();
    let _ = reader.read_to_end(&mut body);
    reply.body = String::from_utf8(body).unwrap();
    Came::Reply(reply)
}

/// An open event stream.
struct Stream {
    reader: BufReader<TcpStream>,
    status: u16,
    /// Whether a 0.3 stream has said that nothing follows.
    is_over: bool,
}

impl Stream {
    /// The data of the next event, `None` at the end.
    fn line(&mut self) -> Result<Option<String>, String> {
        let mut line = String::new();
        while self.reader.read_line(&mut line).map_err(|error| format!("no event: {error}"))? > 0 {
            if let Some(data) = line.strip_prefix("data: ") {
                return Ok(Some(data.trim_end().to_owned()));
            }
            line.clear();
        }
        Ok(None)
    }

    /// The data of the only event.
    fn only(mut self) -> Result<String, String> {
        let data = self.line()?.ok_or("a stream without events")?;
        match self.line()? {
            None => Ok(data),
            Some(more) => Err(format!("after {data} comes {more}")),
        }
    }

    /// The next event in neutral form, `None` at the end.
    fn next(&mut self, binding: Binding) -> Result<Option<Value>, String> {
        if self.status != 200 {
            return Err(format!("a stream with HTTP status {}", self.status));
        }
        let Some(data) = self.line()? else {
            if binding.is_old() && !self.is_over {
                return Err("the stream ends without a final event".to_owned());
            }
            return Ok(None);
        };
        let mut value: Value =
            serde_json::from_str(&data).map_err(|error| format!("{error}: {data}"))?;
        if binding.is_rpc() {
            if value["jsonrpc"] != "2.0" || value["id"] != 1 || value.get("result").is_none() {
                return Err(format!("an event is {data}"));
            }
            value = value["result"].take();
        }
        if binding.is_old() {
            if self.is_over {
                return Err(format!("after the final event comes {data}"));
            }
            self.is_over = binding::is_last(&value);
        }
        Ok(Some(binding::event(binding, value)))
    }
}
