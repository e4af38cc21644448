//! Commands that talk to an agent: send, get, cancel, card, status.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;

use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::a2a::read::{List, Str};
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
        // A text may begin like a URL, but goes on.
        let is_url = |word: &String| {
            (word.starts_with("http://") || word.starts_with("https://"))
                && !word.contains(char::is_whitespace)
        };
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

/// The texts, a line break between two of them.
fn joined<'v>(texts: impl Iterator<Item = &'v str>) -> String {
    texts.collect::<Vec<_>>().join("\n")
}

impl TaskView<'_> {
    fn read(json: &str) -> Result<TaskView<'_>, Failure> {
        serde_json::from_str(json).map_err(|error| {
            Failure::Failed(format!("the agent's answer is not a task or a message: {error}"))
        })
    }

    /// What the artifacts hold.
    fn written(&self) -> String {
        joined(self.artifacts.iter().flat_map(|artifact| texts(&artifact.parts)))
    }

    /// The reply: artifacts, else what the status says, else the message's own parts.
    fn reply(&self) -> String {
        let places = [self.written(), self.said(), joined(texts(&self.parts))];
        places.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
    }

    /// What the status says.
    fn said(&self) -> String {
        let said = self.status.as_ref().and_then(|status| status.message.as_ref());
        said.map_or_else(String::new, |said| joined(texts(&said.parts)))
    }

    fn state(&self) -> &str {
        self.status.as_ref().map_or("completed", |status| status.state.as_str())
    }

    fn id(&self) -> &str {
        self.id.as_ref().or(self.task_id.as_ref()).map_or("", |id| id.as_str())
    }
}

/// An agent's text as a terminal may have it: escape sequences could rewrite what stands there already.
fn shown(text: &str) -> Cow<'_, str> {
    let is_unsafe = |c: char| c.is_control() && c != '\n' && c != '\t';
    if is_terminal() && text.contains(is_unsafe) {
        Cow::Owned(text.replace(is_unsafe, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
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
    // What comes next goes to the same agent.
    let at = if options.words.len() > 1 { format!("{} ", options.words[0]) } else { String::new() };
    if options.stream {
        return stream(&client, &params, options.json, &at);
    }
    let json = client.call("message/send", &params)?;
    if options.json {
        say(&json)?;
    }
    let task = TaskView::read(&json)?;
    let (state, id) = (task.state(), task.id());
    if !options.json {
        let reply = if state == "completed" { task.reply() } else { task.written() };
        if state == "completed" || !reply.is_empty() {
            say(shown(&reply))?;
        }
        if state == "input-required" {
            say(shown(&task.said()))?;
        }
    }
    conclude(state, id, &task.said(), &at)
}

/// What the state of an ended task means for the exit code. `at` is the agent's URL and a blank, if one was given.
fn conclude(state: &str, id: &str, said: &str, at: &str) -> Result<(), Failure> {
    match state {
        "completed" => Ok(()),
        "input-required" => {
            let _ = writeln!(
                std::io::stderr(),
                "(the agent waits for an answer: tetherlet send --task {id} {at}TEXT)"
            );
            Ok(())
        }
        "working" | "submitted" => {
            Err(Failure::Failed(format!("the task goes on; see `tetherlet get {at}{id}`")))
        }
        state if said.is_empty() => Err(Failure::Failed(format!("the task is {state}"))),
        state => Err(Failure::Failed(format!("{state}: {said}"))),
    }
}

fn stream(client: &Client, params: &str, json: bool, at: &str) -> Result<(), Failure> {
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
                    out.write_all(shown(piece).as_bytes())?;
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
        }
        if state == "input-required" || (state == "completed" && !printed) {
            say(shown(&said))?;
        }
    }
    match streamed {
        Ok(()) => conclude(&state, &id, &said, at),
        Err(error) if !id.is_empty() => {
            Err(Failure::Failed(format!("{error}; the task goes on: tetherlet get {at}{id}")))
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
    uuid_into(&mut id, &Ids::new(Box::new(crate::base::ids::random)).uuid());
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
    let (reply, said) = (task.reply(), task.said());
    if !reply.is_empty() {
        say(shown(&reply))?;
    }
    // Why it failed stands beside what had come of the reply.
    if task.state() == "completed" || said.is_empty() || said == reply {
        Ok(())
    } else {
        say(shown(&said))
    }
}

/// An agent's card, and the line to the agent.
pub fn fetch_card(arguments: &[OsString]) -> Result<(Client, String), Failure> {
    let options = Options::read(arguments, &["config", "json"])?;
    let (client, _) = options.target(0, "card [URL]")?;
    let card = match client.page("/.well-known/agent-card.json") {
        // The name that A2A 0.2 had.
        Err(ClientError::Http { status: 404, .. }) => client.page("/.well-known/agent.json")?,
        card => card?,
    };
    Ok((client, card))
}

/// A JSON object whose members are read by name; what is missing reads as a dash.
struct Page<'a>(BTreeMap<Str<'a>, &'a RawValue>);

impl<'a> Page<'a> {
    fn read(json: &'a str) -> Result<Self, Failure> {
        serde_json::from_str(json)
            .map(Self)
            .map_err(|error| Failure::Failed(format!("this is no tetherlet's status: {error}")))
    }

    fn raw(&self, name: &str) -> &'a str {
        self.0.get(name).map_or("-", |raw| raw.get())
    }

    fn text(&self, name: &str) -> String {
        serde_json::from_str(self.raw(name)).unwrap_or_else(|_| "-".to_owned())
    }

    fn number(&self, name: &str) -> u64 {
        self.raw(name).parse().unwrap_or(0)
    }

    fn page(&self, name: &str) -> Self {
        serde_json::from_str(self.raw(name)).map_or_else(|_| Self(BTreeMap::new()), Self)
    }
}

pub fn status(arguments: &[OsString]) -> Result<(), Failure> {
    let options = Options::read(arguments, &["json", "config", "values"])?;
    if options.values {
        if !options.words.is_empty() {
            let usage = "usage: tetherlet status --config (TETHERLET_CONFIG names another file)";
            return Err(Failure::Usage(usage.to_owned()));
        }
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
    print_status(&Page::read(&json)?)
}

fn print_status(page: &Page<'_>) -> Result<(), Failure> {
    let (red, plain) = if is_terminal() { ("\u{1b}[31m", "\u{1b}[0m") } else { ("", "") };
    for warning in
        serde_json::from_str::<List<Str<'_>>>(page.raw("warnings")).map_or(vec![], |l| l.0)
    {
        say(format_args!("{red}WARNING: {}{plain}", warning.as_str()))?;
    }
    let up = page.number("uptimeS");
    let (days, hours, minutes) = (up / 86400, up / 3600 % 24, up / 60 % 60);
    say(format_args!(
        "{}: {}, up {days} d {hours} h {minutes} min (tetherlet {}, pid {})",
        page.text("name"),
        page.text("state"),
        page.text("version"),
        page.raw("pid")
    ))?;
    say(format_args!("  url      {} (listening on {})", page.text("url"), page.text("listen")))?;
    if page.raw("model") == "null" {
        say("  model    none, only skills answer")?;
    } else {
        let (model, relays) = (page.page("model"), page.page("relays"));
        say(format_args!(
            "  model    {} at {}; {} running, {} waiting",
            model.text("name"),
            model.text("baseUrl"),
            relays.raw("running"),
            relays.raw("waiting")
        ))?;
    }
    let list = |label: &str, page: &Page<'_>, names: &[(&str, &str)]| {
        let items: Vec<String> =
            names.iter().map(|(name, word)| format!("{} {word}", page.raw(name))).collect();
        say(format_args!("  {label:<8} {}", items.join(", ")))
    };
    let (tasks, http, bytes) = (page.page("tasks"), page.page("http"), page.page("bytes"));
    list(
        "tasks",
        &tasks,
        &[
            ("working", "working"),
            ("inputRequired", "waiting for input"),
            ("stored", "stored"),
            ("limit", "at most"),
        ],
    )?;
    list(
        "",
        &tasks,
        &[
            ("completed", "completed"),
            ("failed", "failed"),
            ("canceled", "canceled"),
            ("rejected", "rejected"),
            ("evicted", "evicted"),
            ("refusedBusy", "refused busy"),
        ],
    )?;
    say(format_args!(
        "  http     {} requests; {}/{} connections, {}/{} streams",
        http.raw("requests"),
        http.raw("connections"),
        http.raw("connectionsLimit"),
        http.raw("streams"),
        http.raw("streamsLimit")
    ))?;
    say(format_args!(
        "  memory   {} KiB resident; store {}/{} KiB",
        page.number("residentBytes") / 1024,
        bytes.number("store") / 1024,
        bytes.number("storeLimit") / 1024
    ))
}
