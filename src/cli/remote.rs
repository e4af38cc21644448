//! Commands that talk to an agent: send, get, cancel, subscribe, card, status; `list` has a file of its own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::iter::once;
use std::path::PathBuf;

use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};
use serde_json::value::RawValue;

use crate::a2a::read::{List, Str};
use crate::base::json::Json;
use crate::cli::reach::{FLAGS, Reach};
use crate::cli::{Failure, Settings, is_terminal, note, say, variable};
use crate::config::{Plain, load_local};
use crate::outbound::client::{
    Binding, Call, Client, ClientError, Credentials, Event, Events, Outgoing, Part, Raw, Reply,
    State, Status, Version, Wanted, joined,
};

/// Longest text that is read from standard input.
const INPUT: u64 = 1024 * 1024;
/// Bytes of streamed text that are remembered, to see what of it comes again.
const REMEMBERED: usize = 8 * 1024 * 1024;
/// Artifacts of which it is remembered.
const ARTIFACTS: usize = 256;

/// How an agent is talked to: flags of every command that calls one.
const WIRE: [&str; 4] = ["config", "protocol", "binding", "tenant"];

/// What `send` and its sisters are told.
#[derive(Debug, Default)]
pub struct Options {
    pub json: bool,
    stream: bool,
    values: bool,
    skill: Option<String>,
    pub context: Option<String>,
    task: Option<String>,
    pub status: Option<State>,
    pub limit: Option<u32>,
    wanted: Wanted,
    reach: Reach,
    settings: Settings,
    words: Vec<String>,
}

impl Options {
    /// Reads the arguments of a command that takes these flags; [`WIRE`]'s when `calls`.
    fn read(arguments: &[OsString], calls: bool, known: &[&str]) -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut parser = Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long(name) if let Some(flag) = FLAGS.iter().find(|flag| **flag == name) => {
                    options.reach.take(flag, &mut parser)?;
                }
                Long(name) if !(known.contains(&name) || calls && WIRE.contains(&name)) => {
                    return Err(Long(name).unexpected().into());
                }
                Long("json") => options.json = true,
                Long("stream") => options.stream = true,
                Long("config") if known.contains(&"values") => options.values = true,
                Long("skill") => options.skill = Some(parser.value()?.string()?),
                Long("context") => options.context = Some(parser.value()?.string()?),
                Long("task") => options.task = Some(parser.value()?.string()?),
                Long("status") => options.status = Some(state(&parser.value()?.string()?)?),
                Long("limit") => options.limit = Some(parser.value()?.parse()?),
                Long("protocol") => {
                    options.wanted.version = Some(match parser.value()?.string()?.as_str() {
                        "0.3" => Version::V0_3,
                        "1.0" => Version::V1_0,
                        _ => return Err(Failure::Usage("--protocol: must be 0.3 or 1.0".into())),
                    });
                }
                Long("binding") => {
                    options.wanted.binding = Some(match parser.value()?.string()?.as_str() {
                        "jsonrpc" => Binding::JsonRpc,
                        "rest" => Binding::Rest,
                        _ => {
                            return Err(Failure::Usage(
                                "--binding: must be jsonrpc or rest".into(),
                            ));
                        }
                    });
                }
                Long("tenant") => options.wanted.tenant = Some(parser.value()?.string()?),
                Long("config") => options.settings.file = Some(PathBuf::from(parser.value()?)),
                Value(word) => options.words.push(word.string()?),
                // A lone dash is a word to lexopt; every other short option is none of ours.
                Short(_) | Long(_) => return Err(argument.unexpected().into()),
            }
        }
        Ok(options)
    }

    /// The arguments of `list`.
    pub fn of_list(arguments: &[OsString]) -> Result<Self, Failure> {
        Self::read(arguments, true, &["json", "context", "status", "limit"])
    }

    /// The URL, if one is given, and the words behind it.
    fn target(&self, words: usize, usage: &str) -> Result<(Option<&str>, &[String]), Failure> {
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
        Ok((given.map(String::as_str), rest))
    }

    /// A client for the agent's pages, which asks for no card, and what it shows there.
    fn pages(&self, words: usize, usage: &str) -> Result<(Client, Credentials), Failure> {
        let (given, _) = self.target(words, usage)?;
        let (url, here) = self.url(given)?;
        let credentials = self.reach.credentials(&self.settings, &url, here)?;
        Ok((Client::at(&url, &credentials)?, credentials))
    }

    /// A client that speaks as the agent's card says, and the words behind the URL.
    pub fn client(&self, words: usize, usage: &str) -> Result<(Client, &[String]), Failure> {
        let (given, rest) = self.target(words, usage)?;
        let (url, here) = self.url(given)?;
        let wanted = Wanted { here, ..self.wanted.clone() };
        let credentials = self.reach.credentials(&self.settings, &url, here)?;
        Ok((Client::connect_with(&url, &wanted, &credentials)?, rest))
    }

    /// The URL given, else the local agent's. The latter's own card may name a public URL instead: `true` for "here".
    fn url(&self, given: Option<&str>) -> Result<(String, bool), Failure> {
        if let Some(url) = given {
            return Ok((url.to_owned(), false));
        }
        if let Some(url) = variable("TETHERLET_URL").filter(|url| !url.is_empty()) {
            return Ok((url, false));
        }
        let local = self.settings.with(load_local);
        let (listen, tls) = local.map_err(|problems| Failure::Usage(problems.to_string()))?;
        if listen.port == 0 {
            let what = "listen.port is 0, so the agent's port is chosen at its start: give its URL, as its log says \
                        it (`listening on ...`), or set TETHERLET_URL";
            return Err(Failure::Usage(what.to_owned()));
        }
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
        let scheme = if tls.plain == Plain::None { "https" } else { "http" };
        Ok((format!("{scheme}://{host}:{}", listen.port), true))
    }

    /// What a hint must repeat to reach the same agent.
    fn again(&self) -> String {
        let url = self.target(1, "").ok().and_then(|(url, _)| url);
        url.map_or_else(String::new, |url| format!("{url} "))
    }
}

fn state(text: &str) -> Result<State, Failure> {
    match State::read(text) {
        State::Unknown => {
            let names: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
            Err(Failure::Usage(format!("--status: must be one of {}", names.join(", "))))
        }
        state => Ok(state),
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Failed(match &error {
            ClientError::Version { asked, .. } => {
                let other = match asked {
                    Version::V0_3 => Version::V1_0,
                    Version::V1_0 => Version::V0_3,
                };
                format!("{error}; try `--protocol {other}`")
            }
            _ => error.to_string(),
        })
    }
}

/// An agent's text as a terminal may have it: escape sequences could rewrite what stands there already.
pub fn shown(text: &str) -> Cow<'_, str> {
    if is_terminal() { tame(text) } else { Cow::Borrowed(text) }
}

/// The text without control characters.
fn tame(text: &str) -> Cow<'_, str> {
    let is_unsafe = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(is_unsafe) {
        Cow::Owned(text.replace(is_unsafe, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

pub fn send(arguments: &[OsString]) -> Result<(), Failure> {
    let options = Options::read(arguments, true, &["stream", "json", "skill", "context", "task"])?;
    let usage = "send [OPTIONS] [URL] TEXT (TEXT - reads stdin)";
    let text = match options.target(1, usage)?.1[0].as_str() {
        "-" => standard_input()?,
        text => text.to_owned(),
    };
    let (client, _) = options.client(1, usage)?;
    let message = Outgoing {
        context_id: options.context.clone(),
        task_id: options.task.clone(),
        metadata: options.skill.as_deref().map(chosen),
        ..Outgoing::text(text)
    };
    // What comes next goes to the same agent.
    let at = options.again();
    if options.stream {
        let mut events = client.events(&Call::Stream(&message))?;
        let outcome = Printer::new(options.json).print(&mut events.raw(), &at);
        hint(&events);
        return outcome;
    }
    let raw = client.call(&Call::Send(&message))?;
    if options.json {
        say(raw.json())?;
    }
    let reply = raw.reply()?;
    let (id, said) = match &reply {
        Reply::Task(task) => (task.id.as_str(), task.status.text()),
        Reply::Message(_) => ("", String::new()),
    };
    let state = reply.state();
    if !options.json {
        let text = match &reply {
            Reply::Task(task) if state != State::Completed => task.text(),
            _ => reply.text(),
        };
        if state == State::Completed || !text.is_empty() {
            say(shown(&text))?;
        }
        if state == State::InputRequired {
            say(shown(&said))?;
        }
    }
    conclude(state, id, &said, &at)
}

/// Says where a stream's events were probably kept.
fn hint(events: &Events) {
    if events.were_held_back() {
        note(
            "note: all events came at once, when the task was over: a proxy on the way holds them back. \
             With nginx, set `proxy_buffering off;` for this agent, or let it see the agent's header \
             X-Accel-Buffering: no",
        );
    }
}

/// What the state of an ended task means for the exit code. `at` is the agent's URL and a blank, if one was given.
fn conclude(state: State, id: &str, said: &str, at: &str) -> Result<(), Failure> {
    let id = tame(id);
    match state {
        State::Completed => Ok(()),
        State::InputRequired => {
            let _ = writeln!(
                std::io::stderr(),
                "(the agent waits for an answer: tetherlet send --task {id} {at}TEXT)"
            );
            Ok(())
        }
        State::Working | State::Submitted => {
            Err(Failure::Failed(format!("the task goes on; see `tetherlet get {at}{id}`")))
        }
        state if said.is_empty() => Err(Failure::Failed(format!("the task is {}", state.name()))),
        state => Err(Failure::Failed(format!("{}: {}", state.name(), tame(said)))),
    }
}

/// What a stream brings.
type Items<'a> = dyn Iterator<Item = Result<Raw, ClientError>> + 'a;

/// Prints a stream as it comes: pieces as they are, and of what comes again only what is new.
struct Printer {
    json: bool,
    state: State,
    id: String,
    said: String,
    cursor: Cursor,
    /// The artifact printed last.
    last: String,
    /// The text of every artifact so far, without what was put between parts.
    texts: Vec<(String, String)>,
}

/// What was printed last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cursor {
    Untouched,
    /// A line of its own.
    Line,
    /// A piece that ends within a line.
    Within,
    /// A piece that ends with a line break, which is the agent's.
    Broken,
}

impl Printer {
    const fn new(json: bool) -> Self {
        Self {
            json,
            state: State::Unknown,
            id: String::new(),
            said: String::new(),
            cursor: Cursor::Untouched,
            last: String::new(),
            texts: Vec::new(),
        }
    }

    fn print(mut self, items: &mut Items<'_>, at: &str) -> Result<(), Failure> {
        let mut broken = None;
        for raw in items {
            match raw.and_then(|raw| raw.event().map(|event| (raw, event))) {
                Ok((raw, event)) => self.take(&raw, event)?,
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        if matches!(self.cursor, Cursor::Within | Cursor::Broken) {
            say("")?;
        }
        let is_said = self.state == State::Completed && self.cursor == Cursor::Untouched;
        if !self.json && broken.is_none() && is_said {
            say(shown(&self.said))?;
        }
        match broken {
            None => conclude(self.state, &self.id, &self.said, at),
            Some(error) if !self.id.is_empty() => {
                let id = tame(&self.id);
                Err(Failure::Failed(format!("{error}; the task goes on: tetherlet get {at}{id}")))
            }
            Some(error) => Err(error.into()),
        }
    }

    fn take(&mut self, raw: &Raw, event: Event) -> Result<(), Failure> {
        if self.json {
            say(raw.json())?;
        }
        match event {
            Event::Task(task) => {
                for artifact in &task.artifacts {
                    self.artifact(&artifact.id, &artifact.parts, false)?;
                }
                self.status(task.id, &task.status)?;
            }
            Event::Status(update) => self.status(update.task_id, &update.status)?,
            Event::Artifact(update) => {
                self.id = update.task_id;
                self.artifact(&update.artifact.id, &update.artifact.parts, update.append)?;
            }
            Event::Message(message) => {
                self.state = State::Completed;
                self.artifact("", &message.parts, false)?;
            }
        }
        Ok(())
    }

    fn status(&mut self, id: String, status: &Status) -> Result<(), Failure> {
        let said = status.text();
        let is_new = (self.state, &self.said) != (status.state, &said);
        (self.id, self.state, self.said) = (id, status.state, said);
        // A question may be the last thing for hours.
        if !self.json && is_new && self.state == State::InputRequired {
            if self.cursor == Cursor::Within {
                say("")?;
            }
            say(shown(&self.said))?;
            self.cursor = Cursor::Line;
        }
        Ok(())
    }

    fn artifact(&mut self, id: &str, parts: &[Part], append: bool) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        let new: String = parts.iter().filter_map(Part::text).collect();
        if new.is_empty() {
            return Ok(());
        }
        let at = self.texts.iter().position(|(known, _)| known == id);
        let at = at.unwrap_or_else(|| {
            self.texts.push((id.to_owned(), String::new()));
            self.texts.len() - 1
        });
        let known = &mut self.texts[at].1;
        let text = if append {
            known.push_str(&new);
            joined(parts)
        } else {
            let rest = new.strip_prefix(known.as_str()).map(str::to_owned);
            let text = match rest {
                Some(_) if known.is_empty() => joined(parts),
                Some(rest) => rest,
                // What stands there was replaced.
                None => {
                    self.last.clear();
                    joined(parts)
                }
            };
            *known = new;
            text
        };
        let bytes: usize = self.texts.iter().map(|(id, text)| id.len() + text.len()).sum();
        if bytes > REMEMBERED || self.texts.len() > ARTIFACTS {
            self.texts.clear();
        }
        if text.is_empty() {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        if self.cursor == Cursor::Within && self.last != id {
            out.write_all(b"\n")?;
        }
        out.write_all(shown(&text).as_bytes())?;
        out.flush()?;
        id.clone_into(&mut self.last);
        self.cursor = if text.ends_with('\n') { Cursor::Broken } else { Cursor::Within };
        Ok(())
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

/// The metadata by which a tetherlet's skill is chosen.
fn chosen(skill: &str) -> String {
    let mut json = Json::with_capacity(64);
    json.open_object();
    json.member("skill", skill);
    json.close_object();
    json.into_string()
}

pub fn get(arguments: &[OsString]) -> Result<(), Failure> {
    let options = Options::read(arguments, true, &["json"])?;
    let (client, words) = options.client(1, "get [OPTIONS] [URL] ID")?;
    let call = Call::Get { id: &words[0], history_length: None };
    print_task(&client.call(&call)?, options.json)
}

pub fn cancel(arguments: &[OsString]) -> Result<(), Failure> {
    let options = Options::read(arguments, true, &["json"])?;
    let (client, words) = options.client(1, "cancel [OPTIONS] [URL] ID")?;
    print_task(&client.call(&Call::Cancel { id: &words[0] })?, options.json)
}

fn print_task(raw: &Raw, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return say(raw.json());
    }
    let task = raw.task()?;
    say(format_args!("{} {}", shown(&task.id), task.status.state.name()))?;
    let (text, said) = (task.text(), task.status.text());
    let reply = if text.is_empty() { &said } else { &text };
    if !reply.is_empty() {
        say(shown(reply))?;
    }
    // Why it failed stands beside what had come of the reply.
    if task.status.state == State::Completed || said.is_empty() || said == *reply {
        Ok(())
    } else {
        say(shown(&said))
    }
}

pub fn subscribe(arguments: &[OsString]) -> Result<(), Failure> {
    let options = Options::read(arguments, true, &["json"])?;
    let (client, words) = options.client(1, "subscribe [OPTIONS] [URL] ID")?;
    let (id, at) = (&words[0], options.again());
    let printer = Printer::new(options.json);
    let error = match client.events(&Call::Subscribe { id }) {
        Ok(mut events) => match events.next_raw() {
            Some(Ok(first)) => {
                let outcome = printer.print(&mut once(Ok(first)).chain(events.raw()), &at);
                hint(&events);
                return outcome;
            }
            Some(Err(error)) => error,
            None => ClientError::Lost("nothing came".to_owned()),
        },
        Err(error) => error,
    };
    // Agents refuse to watch a task that has ended, some by ending the stream; it still can be shown.
    if !matches!(error, ClientError::Refused { .. } | ClientError::Lost(_)) {
        return Err(error.into());
    }
    let raw = client.call(&Call::Get { id, history_length: None })?;
    let task = raw.task()?;
    if !task.status.state.is_final() {
        return Err(error.into());
    }
    printer.print(&mut once(Ok(raw)), &at)
}

/// An agent's card, the line to the agent, and what was shown there.
pub fn fetch_card(arguments: &[OsString]) -> Result<(Client, String, Credentials), Failure> {
    let options = Options::read(arguments, false, &["config", "json"])?;
    let (client, credentials) = options.pages(0, "card [URL]")?;
    let card = client.card_json()?;
    Ok((client, card, credentials))
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
    let options = Options::read(arguments, false, &["json", "config", "values"])?;
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
    let (client, _) = options.pages(0, "status [--json] [URL]")?;
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
    let tls = page.page("tls");
    if !tls.0.is_empty() {
        say(format_args!(
            "  tls      certificate ends on {}, in {} days; client certificates: {}; plain HTTP: {}",
            tls.text("certificateEnds"),
            tls.raw("daysLeft"),
            tls.text("clientCert"),
            tls.text("plain")
        ))?;
    }
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
