//! Commands that talk to an agent: send, get, cancel, card, status.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;

use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};
use serde::Deserialize;

use crate::a2a::read::Str;
use crate::base::ids::{Ids, uuid_into};
use crate::base::json::Json;
use crate::cli::{Failure, Settings, is_terminal, say, variable};
use crate::outbound::client::{Client, ClientError};

/// Longest text that is read from standard input.
const INPUT: u64 = 1024 * 1024;

/// What `send` and its sisters are told.
#[derive(Debug, Default)]
struct Options {
    json: bool,
    stream: bool,
    values: bool,
    skill: Option<String>,
    context: Option<String>,
    task: Option<String>,
    settings: Settings,
    words: Vec<String>,
}

impl Options {
    fn read(arguments: &[OsString], known: &[&str]) -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut parser = Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long(name) if !known.contains(&name) => return Err(Long(name).unexpected().into()),
                Long("json") => options.json = true,
                Long("stream") => options.stream = true,
                Long("config") if known.contains(&"values") => options.values = true,
                Long("skill") => options.skill = Some(parser.value()?.string()?),
                Long("context") => options.context = Some(parser.value()?.string()?),
                Long("task") => options.task = Some(parser.value()?.string()?),
                Long("config") => options.settings.file = Some(PathBuf::from(parser.value()?)),
                Value(word) => options.words.push(word.string()?),
                // A lone dash is a word to lexopt; every other short option is none of ours.
                Short(_) | Long(_) => return Err(argument.unexpected().into()),
            }
        }
        Ok(options)
    }

    /// The URL, given or the local agent's, and the words behind it.
    fn target(&self, words: usize, usage: &str) -> Result<(Client, &[String]), Failure> {
        let is_url = |word: &String| word.starts_with("http://") || word.starts_with("https://");
        let given = self.words.first().filter(|word| is_url(word));
        let rest = if given.is_some() { &self.words[1..] } else { &self.words[..] };
        if rest.len() != words {
            return Err(Failure::Usage(format!("usage: tetherlet {usage}")));
        }
        let url = match given {
            Some(url) => url.clone(),
            None => self.local_url()?,
        };
        Ok((Client::new(&url), rest))
    }

    fn local_url(&self) -> Result<String, Failure> {
        if let Some(url) = variable("TETHERLET_URL").filter(|url| !url.is_empty()) {
            return Ok(url);
        }
        let listen = self.settings.load()?.config.listen;
        let host = match listen.host.as_str() {
            "0.0.0.0" => "127.0.0.1",
            "::" | "[::]" => "[::1]",
            host => host,
        };
        let host = if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        Ok(format!("http://{host}:{}", listen.port))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Failed(match &error {
            ClientError::Connect { .. } => {
                format!("{error}; is it running (`tetherlet run`), and is the URL right?")
            }
            _ => error.to_string(),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskView<'a> {
    #[serde(borrow)]
    id: Option<Str<'a>>,
    #[serde(borrow)]
    task_id: Option<Str<'a>>,
    #[serde(borrow)]
    kind: Option<Str<'a>>,
    #[serde(borrow)]
    status: Option<StatusView<'a>>,
    #[serde(borrow, default)]
    artifacts: Vec<ArtifactView<'a>>,
    #[serde(borrow)]
    artifact: Option<ArtifactView<'a>>,
    #[serde(borrow, default)]
    parts: Vec<PartView<'a>>,
}

#[derive(Deserialize)]
struct StatusView<'a> {
    #[serde(borrow)]
    state: Str<'a>,
    #[serde(borrow)]
    message: Option<ArtifactView<'a>>,
}

/// A message too: only its parts matter here.
#[derive(Deserialize)]
struct ArtifactView<'a> {
    #[serde(borrow, default)]
    parts: Vec<PartView<'a>>,
}

#[derive(Deserialize)]
struct PartView<'a> {
    #[serde(borrow)]
    text: Option<Str<'a>>,
}

fn texts<'v>(parts: &'v [PartView<'_>]) -> impl Iterator<Item = &'v str> {
    parts.iter().filter_map(|part| part.text.as_ref().map(Str::as_str))
}

impl TaskView<'_> {
    fn read(json: &str) -> Result<TaskView<'_>, Failure> {
        serde_json::from_str(json).map_err(|error| {
            Failure::Failed(format!("the agent's answer is not a task or a message: {error}"))
        })
    }

    /// The reply: artifacts, else what the status says, else the message's own parts.
    fn reply(&self) -> String {
        let artifacts = self.artifacts.iter().flat_map(|artifact| texts(&artifact.parts));
        let mut reply = artifacts.collect::<Vec<_>>().join("\n");
        if reply.is_empty() {
            let said = self.status.as_ref().and_then(|status| status.message.as_ref());
            reply = said
                .map_or_else(String::new, |said| texts(&said.parts).collect::<Vec<_>>().join("\n"));
        }
        if reply.is_empty() {
            reply = texts(&self.parts).collect::<Vec<_>>().join("\n");
        }
        reply
    }

    fn said(&self) -> String {
        let said = self.status.as_ref().and_then(|status| status.message.as_ref());
        said.map_or_else(String::new, |said| texts(&said.parts).collect::<Vec<_>>().join("\n"))
    }

    fn state(&self) -> &str {
        self.status.as_ref().map_or("completed", |status| status.state.as_str())
    }

    fn id(&self) -> &str {
        self.id.as_ref().or(self.task_id.as_ref()).map_or("", |id| id.as_str())
    }
}

pub fn send(arguments: &[OsString]) -> Result<(), Failure> {
    let known = ["stream", "json", "skill", "context", "task", "config"];
    let options = Options::read(arguments, &known)?;
    let (client, words) = options.target(1, "send [OPTIONS] [URL] TEXT (TEXT - reads stdin)")?;
    let text = match words[0].as_str() {
        "-" => standard_input()?,
        text => text.to_owned(),
    };
    let params = message(&text, &options);
    if options.stream {
        return stream(&client, &params, options.json);
    }
    let json = client.call("message/send", &params)?;
    if options.json {
        say(&json)?;
    }
    let task = TaskView::read(&json)?;
    let (state, id) = (task.state(), task.id());
    if !options.json && matches!(state, "completed" | "input-required") {
        say(task.reply())?;
    }
    conclude(state, id, &task.reply())
}

/// What the state of an ended task means for the exit code.
fn conclude(state: &str, id: &str, reply: &str) -> Result<(), Failure> {
    match state {
        "completed" => Ok(()),
        "input-required" => {
            let _ = writeln!(
                std::io::stderr(),
                "(the agent waits for an answer: tetherlet send --task {id} TEXT)"
            );
            Ok(())
        }
        "working" | "submitted" => {
            Err(Failure::Failed(format!("the task goes on; see `tetherlet get {id}`")))
        }
        state => Err(Failure::Failed(format!("{state}: {reply}"))),
    }
}

fn stream(client: &Client, params: &str, json: bool) -> Result<(), Failure> {
    let (mut state, mut id, mut said, mut printed) =
        (String::new(), String::new(), String::new(), false);
    let mut failure = None;
    let streamed = client.stream("message/stream", params, &mut |event| {
        let mut show = || -> Result<(), Failure> {
            if json {
                say(event)?;
            }
            let view = TaskView::read(event)?;
            if view.status.is_some() || view.kind.as_ref().is_some_and(|k| k.as_str() == "message")
            {
                view.state().clone_into(&mut state);
                said = view.said();
            }
            if !view.id().is_empty() {
                view.id().clone_into(&mut id);
            }
            let pieces: Vec<&str> = match &view.artifact {
                Some(artifact) => texts(&artifact.parts).collect(),
                None => texts(&view.parts).collect(),
            };
            if !json && !pieces.is_empty() {
                let mut out = std::io::stdout().lock();
                for piece in pieces {
                    out.write_all(piece.as_bytes())?;
                }
                out.flush()?;
                printed = true;
            }
            Ok(())
        };
        failure = show().err();
        failure.is_none()
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    if !json {
        if printed {
            say("")?;
        } else if matches!(state.as_str(), "completed" | "input-required") {
            say(&said)?;
        }
    }
    match streamed {
        Ok(()) => conclude(&state, &id, &said),
        Err(error) if !id.is_empty() => {
            Err(Failure::Failed(format!("{error}; the task goes on: tetherlet get {id}")))
        }
        Err(error) => Err(error.into()),
    }
}

fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().lock().take(INPUT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > INPUT {
        return Err(Failure::Failed(format!("standard input is longer than {INPUT} bytes")));
    }
    Ok(text)
}

fn message(text: &str, options: &Options) -> String {
    let mut id = String::new();
    uuid_into(&mut id, &Ids::new(Box::new(crate::daemon::random)).uuid());
    let mut json = Json::with_capacity(text.len() + 256);
    json.open_object();
    json.key("message");
    json.open_object();
    json.member("kind", "message");
    json.member("messageId", &id);
    json.member("role", "user");
    json.key("parts");
    json.open_array();
    json.open_object();
    json.member("kind", "text");
    json.member("text", text);
    json.close_object();
    json.close_array();
    if let Some(context) = &options.context {
        json.member("contextId", context);
    }
    if let Some(task) = &options.task {
        json.member("taskId", task);
    }
    if let Some(skill) = &options.skill {
        json.key("metadata");
        json.open_object();
        json.member("skill", skill);
        json.close_object();
    }
    json.close_object();
    json.close_object();
    json.into_string()
}

pub fn get(arguments: &[OsString]) -> Result<(), Failure> {
    let options = Options::read(arguments, &["json", "config"])?;
    let (client, words) = options.target(1, "get [--json] [URL] ID")?;
    print_task(&client.call("tasks/get", &by_id(&words[0]))?, options.json)
}

pub fn cancel(arguments: &[OsString]) -> Result<(), Failure> {
    let options = Options::read(arguments, &["json", "config"])?;
    let (client, words) = options.target(1, "cancel [--json] [URL] ID")?;
    print_task(&client.call("tasks/cancel", &by_id(&words[0]))?, options.json)
}

fn by_id(id: &str) -> String {
    let mut json = Json::with_capacity(64);
    json.open_object();
    json.member("id", id);
    json.close_object();
    json.into_string()
}

fn print_task(json: &str, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return say(json);
    }
    let task = TaskView::read(json)?;
    say(format_args!("{} {}", task.id(), task.state()))?;
    let reply = task.reply();
    if reply.is_empty() { Ok(()) } else { say(reply) }
}

pub fn card(arguments: &[OsString]) -> Result<(), Failure> {
    let options = Options::read(arguments, &["config", "json"])?;
    let (client, _) = options.target(0, "card [URL]")?;
    match client.page("/.well-known/agent-card.json") {
        // The name that A2A 0.2 had.
        Err(ClientError::Http { status: 404, .. }) => say(client.page("/.well-known/agent.json")?),
        card => say(card?),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusPage {
    name: String,
    version: String,
    url: String,
    listen: String,
    pid: u32,
    state: String,
    uptime_s: u64,
    warnings: Vec<String>,
    model: Option<ModelPage>,
    tasks: TasksPage,
    relays: RelaysPage,
    http: HttpPage,
    bytes: BytesPage,
    resident_bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModelPage {
    name: String,
    base_url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TasksPage {
    stored: u64,
    limit: u64,
    working: u64,
    input_required: u64,
    completed: u64,
    failed: u64,
    canceled: u64,
    rejected: u64,
    evicted: u64,
    refused_busy: u64,
}

#[derive(Deserialize)]
struct RelaysPage {
    running: u64,
    waiting: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpPage {
    requests: u64,
    connections: u64,
    connections_limit: u64,
    streams: u64,
    streams_limit: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BytesPage {
    store: u64,
    store_limit: u64,
}

pub fn status(arguments: &[OsString]) -> Result<(), Failure> {
    let options = Options::read(arguments, &["json", "config", "values"])?;
    if options.values {
        for setting in options.settings.load()?.settings {
            say(format_args!("{} = {}  ({})", setting.key, setting.value, setting.source))?;
        }
        return Ok(());
    }
    let (client, _) = options.target(0, "status [--json] [URL]")?;
    let json = client.page("/status.json")?;
    if options.json {
        return say(json);
    }
    let page: StatusPage = serde_json::from_str(&json)
        .map_err(|error| Failure::Failed(format!("this is no tetherlet's status: {error}")))?;
    print_status(&page)
}

fn print_status(page: &StatusPage) -> Result<(), Failure> {
    let (red, plain) = if is_terminal() { ("\u{1b}[31m", "\u{1b}[0m") } else { ("", "") };
    for warning in &page.warnings {
        say(format_args!("{red}WARNING: {warning}{plain}"))?;
    }
    let StatusPage { name, version, state, pid, uptime_s, .. } = page;
    let (days, hours, minutes) = (uptime_s / 86400, uptime_s / 3600 % 24, uptime_s / 60 % 60);
    say(format_args!(
        "{name}: {state}, up {days} d {hours} h {minutes} min (tetherlet {version}, pid {pid})"
    ))?;
    say(format_args!("  url      {} (listening on {})", page.url, page.listen))?;
    match &page.model {
        Some(model) => say(format_args!(
            "  model    {} at {}; {} running, {} waiting",
            model.name, model.base_url, page.relays.running, page.relays.waiting
        ))?,
        None => say("  model    none, only skills answer")?,
    }
    let tasks = &page.tasks;
    say(format_args!(
        "  tasks    {} working, {} waiting for input; {}/{} stored",
        tasks.working, tasks.input_required, tasks.stored, tasks.limit
    ))?;
    say(format_args!(
        "           {} completed, {} failed, {} canceled, {} rejected, {} evicted, {} refused busy",
        tasks.completed,
        tasks.failed,
        tasks.canceled,
        tasks.rejected,
        tasks.evicted,
        tasks.refused_busy
    ))?;
    let http = &page.http;
    say(format_args!(
        "  http     {} requests; {}/{} connections, {}/{} streams",
        http.requests, http.connections, http.connections_limit, http.streams, http.streams_limit
    ))?;
    say(format_args!(
        "  memory   {} KiB resident; store {}/{} KiB",
        page.resident_bytes / 1024,
        page.bytes.store / 1024,
        page.bytes.store_limit / 1024
    ))
}
