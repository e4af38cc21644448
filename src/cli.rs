//! Arguments to commands, help, exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

mod cert;
mod fresh;
mod help;
mod list;
mod reach;
mod remote;
mod token;
mod trust;
mod verify;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};

use crate::base::json::Json;
use crate::base::limits::PUSH_THREADS;
use crate::base::secret::seal_process;
use crate::cli::help::{HELP, help_of};
use crate::config::problems::Problems;
use crate::config::{self, Inputs, Loaded};
use crate::daemon::{self, DaemonError};
use crate::logs;

/// Why a command did not do what it should.
#[derive(Debug)]
enum Failure {
    /// Exit code 2.
    Usage(String),
    /// Exit code 1.
    Failed(String),
    /// The reader of our output is gone: nobody is left to tell.
    Pipe,
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(format!("{error}; try `tetherlet --help`"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::Pipe,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    seal_process();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Pipe) => ExitCode::FAILURE,
        Err(Failure::Failed(what)) => complain(&what, 1),
        Err(Failure::Usage(what)) => complain(&what, 2),
    }
}

fn complain(what: &str, code: u8) -> ExitCode {
    // With nobody to read it, the exit code must do.
    let _ = writeln!(std::io::stderr(), "tetherlet: {what}");
    ExitCode::from(code)
}

/// A line beside the output, for a person.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes to stdout; unlike `println`, a reader that has left is no panic.
fn say(text: impl Display) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

fn dispatch(arguments: &[OsString]) -> Result<(), Failure> {
    let verb = arguments.first().and_then(|first| first.to_str()).unwrap_or_default();
    let rest = arguments.get(1..).unwrap_or_default();
    let asks_help = rest.iter().take_while(|a| *a != "--").any(|a| a == "--help" || a == "-h");
    if asks_help && let Some(text) = help_of(verb) {
        return say(text);
    }
    match verb {
        "run" => run(rest, arguments, false),
        "spawn" => run(rest, arguments, true),
        "send" => remote::send(rest),
        "get" => remote::get(rest),
        "list" => list::list(rest),
        "cancel" => remote::cancel(rest),
        "subscribe" => remote::subscribe(rest),
        "card" => verify::card(rest),
        "status" => remote::status(rest),
        "trust" => trust::trust(rest),
        "check-config" => check_config(rest),
        "token" => token::token(rest),
        "cert" => cert::cert(rest),
        "help" => match rest.first().and_then(|topic| topic.to_str()) {
            None => say(HELP),
            Some(topic) => match help_of(topic) {
                Some(text) => say(text),
                None => Err(unknown_verb(topic)),
            },
        },
        "--help" | "-h" => say(HELP),
        "--version" | "-V" | "version" => say(concat!("tetherlet ", env!("CARGO_PKG_VERSION"))),
        verb if verb.starts_with('-') || verb.is_empty() => run(arguments, arguments, false),
        verb => Err(unknown_verb(verb)),
    }
}

fn unknown_verb(verb: &str) -> Failure {
    let known = [
        "run",
        "spawn",
        "send",
        "get",
        "list",
        "cancel",
        "subscribe",
        "card",
        "status",
        "trust",
        "check-config",
        "token",
        "cert",
        "help",
    ];
    let hint = config::problems::nearest(verb, &mut known.iter().copied())
        .map(|near| format!(" (did you mean `{near}`?)"))
        .unwrap_or_default();
    Failure::Usage(format!("no command `{verb}`{hint}; try `tetherlet --help`"))
}

/// What stands behind `known`, the one word that may follow `verb`.
fn subcommand<'a>(
    verb: &str,
    known: &str,
    arguments: &'a [OsString],
) -> Result<&'a [OsString], Failure> {
    match arguments.split_first() {
        Some((word, rest)) if word == known => Ok(rest),
        Some((word, _)) if !word.to_string_lossy().starts_with('-') => {
            let word = quoted(&word.to_string_lossy());
            Err(Failure::Usage(format!(
                "no command `{verb} {word}` (did you mean `{verb} {known}`?); try `tetherlet help {verb}`"
            )))
        }
        _ => Err(Failure::Usage(format!(
            "`{verb}` needs a word more: `tetherlet {verb} {known}`; try `tetherlet help {verb}`"
        ))),
    }
}

/// What the flags of `run` and of every command that reads the configuration say.
#[derive(Debug, Default)]
struct Settings {
    file: Option<PathBuf>,
    flags: Vec<(&'static str, String, &'static str)>,
}

impl Settings {
    fn load(&self) -> Result<Loaded, Failure> {
        self.read().map_err(|problems| Failure::Usage(problems.to_string()))
    }

    /// What files, environment and flags say now.
    fn read(&self) -> Result<Loaded, Problems> {
        self.with(config::load)
    }

    /// Hands everything to `read` that a configuration is read from.
    fn with<R>(&self, read: impl FnOnce(&Inputs<'_>) -> R) -> R {
        let names: Vec<String> =
            std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        let elsewhere =
            variable("TETHERLET_CONFIG").filter(|file| !file.is_empty()).map(PathBuf::from);
        let inputs = Inputs {
            file: self.file.as_deref().or(elsewhere.as_deref()),
            env: &variable,
            env_names: &names,
            flags: &self.flags,
            root: rustix::process::geteuid().is_root(),
            etc: Path::new("/etc/tetherlet"),
        };
        read(&inputs)
    }

    fn flag(
        &mut self,
        key: &'static str,
        flag: &'static str,
        value: OsString,
    ) -> Result<(), Failure> {
        self.flags.push((key, value.string()?, flag));
        Ok(())
    }
}

fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the environment enters here, as data")]
    std::env::var(name).ok()
}

fn run(arguments: &[OsString], all: &[OsString], spawned: bool) -> Result<(), Failure> {
    let mut settings = Settings::default();
    let mut project = None;
    let mut has_port = false;
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        let (key, flag) = match argument {
            Short('n') | Long("name") => ("agent.name", "--name"),
            Short('d') | Long("description") => ("agent.description", "--description"),
            Long("hostname") => ("listen.host", "--hostname"),
            Short('p') | Long("port") => {
                has_port = true;
                ("listen.port", "--port")
            }
            Long("public-url") => ("listen.public-url", "--public-url"),
            Long("model") => ("model.default", "--model"),
            Long("log-level") => ("log.level", "--log-level"),
            Long("log-format") => ("log.format", "--log-format"),
            Long("state-dir") => ("run.state-dir", "--state-dir"),
            Long("trust-lan") => {
                settings.flags.push(("listen.trust-lan", "true".to_owned(), "--trust-lan"));
                continue;
            }
            // Logs go to stderr anyway.
            Long("print-logs") => continue,
            Long("config") => {
                settings.file = Some(from_here(parser.value()?).into());
                continue;
            }
            Short('h') | Long("help") => return say(HELP),
            Value(value) if project.is_none() => {
                project = Some(value);
                continue;
            }
            other => return Err(other.unexpected().into()),
        };
        let mut value = parser.value()?;
        if key == "log.level" {
            value = value.to_ascii_lowercase();
        }
        if key == "listen.public-url" {
            value = normal_public_url(&value)?.into();
        }
        if key == "run.state-dir" {
            value = from_here(value);
        }
        settings.flag(key, flag, value)?;
    }
    if spawned && !has_port {
        settings.flags.push(("listen.port", "0".to_owned(), "spawn"));
    }
    if let Some(project) = &project {
        std::env::set_current_dir(project).map_err(|error| {
            let project = project.to_string_lossy();
            Failure::Usage(format!("cannot work in {project}: {error}"))
        })?;
    }
    let loaded = settings.load()?;
    logs::start(&loaded.config.log, logs::is_journal(variable("JOURNAL_STREAM").as_deref()));
    daemon::run(loaded, &|| settings.read()).map_err(|error| match &error {
        DaemonError::Open { host, .. } => Failure::Usage(ways_out(&error, host, all)),
        _ => Failure::Failed(error.to_string()),
    })
}

/// PROJECT changes the directory, but paths are meant from where the command was given.
fn from_here(path: OsString) -> OsString {
    std::path::absolute(&path).map_or(path, Into::into)
}

/// `codetether spawn` takes `host:port` and trailing slashes; the configuration wants a URL.
fn normal_public_url(value: &OsString) -> Result<String, Failure> {
    let text = value.to_string_lossy();
    crate::base::name::normal_url(&text)
        .map_err(|error| Failure::Usage(format!("--public-url: {error}")))
}

/// The refusal, and the same command with each way out.
fn ways_out(error: &DaemonError, host: &str, arguments: &[OsString]) -> String {
    let words: Vec<String> = arguments.iter().map(|word| quoted(&word.to_string_lossy())).collect();
    let mut local: Vec<String> = Vec::new();
    let mut replaced = false;
    let mut words_left = words.iter();
    while let Some(word) = words_left.next() {
        if word == "--hostname" {
            local.extend([word.clone(), "127.0.0.1".to_owned()]);
            let _ = words_left.next();
            replaced = true;
        } else if word.starts_with("--hostname=") {
            local.push("--hostname=127.0.0.1".to_owned());
            replaced = true;
        } else {
            local.push(word.clone());
        }
    }
    let put = |mut words: Vec<String>, extra: &[&str]| {
        if words.is_empty() {
            words.push("run".to_owned());
        }
        // Behind `--` stands the project.
        let at = words.iter().position(|word| word == "--").unwrap_or(words.len());
        for (offset, word) in extra.iter().enumerate() {
            words.insert(at + offset, (*word).to_owned());
        }
        words.join(" ")
    };
    let local = put(local, if replaced { &[] } else { &["--hostname", "127.0.0.1"] });
    let with_token = put(words.clone(), &[]);
    let open = put(words, &["--trust-lan"]);
    format!(
        "{error} ({host} is not loopback).\n\
         To serve this machine only:\n    tetherlet {local}\n\
         To serve whoever has a token (`tetherlet cert self-signed` makes a certificate for TLS beside it):\n    \
         tetherlet token new --file $PWD/me.token\n    \
         (echo -n me:; cat me.token) > tokens; chmod 600 tokens\n    \
         A2A_AUTH_TOKENS_FILE=$PWD/tokens tetherlet {with_token}\n\
         To serve everybody on a network you trust, without authentication:\n    tetherlet {open}"
    )
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// A text as a value in a configuration file.
fn toml_text(text: &str) -> String {
    let mut json = Json::default();
    json.string(text);
    json.into_string()
}

fn check_config(arguments: &[OsString]) -> Result<(), Failure> {
    let mut settings = Settings::default();
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") => settings.file = Some(parser.value()?.into()),
            Value(file) if settings.file.is_none() => settings.file = Some(file.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    let loaded = settings.load()?;
    for file in &loaded.files {
        say(format_args!("read {}", file.display()))?;
    }
    if loaded.files.is_empty() {
        say("no configuration file: every key has its default")?;
    }
    for warning in &loaded.warnings {
        say(format_args!("warning: {warning}"))?;
    }
    let model = match &loaded.route {
        Some(route) => format!("{} at {}", route.label(), route.provider.base_url),
        None => "none, only skills answer".to_owned(),
    };
    say(format_args!("model: {model}"))?;
    say("\nmemory, at most:")?;
    let config = &loaded.config;
    let pushes = if config.push.enabled { PUSH_THREADS } else { 0 };
    let parts = config.limits.worst_case(config.relay.max, pushes, loaded.tls.is_some());
    for (part, bytes) in parts.into_iter().filter(|(_, bytes)| *bytes > 0) {
        say(format_args!("  {part:<28} {:>7} KiB", bytes / 1024))?;
    }
    let sum: usize = parts.iter().map(|(_, bytes)| bytes).sum();
    say(format_args!("  {:<28} {:>7} KiB", "sum", sum / 1024))?;
    say("\nok")
}

/// Whether a person reads our output.
fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn ways(command: &str) -> String {
        let error = DaemonError::Open { host: "0.0.0.0".to_owned(), why: "x" };
        ways_out(&error, "0.0.0.0", &words(command))
    }

    #[test]
    fn the_refusal_prints_the_same_command_with_each_way_out() {
        let text = ways("spawn --hostname 0.0.0.0 -p 5000 -- project");
        assert!(
            text.contains("tetherlet spawn --hostname 127.0.0.1 -p 5000 -- project\n"),
            "{text}"
        );
        assert!(
            text.contains("tetherlet spawn --hostname 0.0.0.0 -p 5000 --trust-lan -- project"),
            "{text}"
        );
        let text = ways("");
        assert!(text.contains("tetherlet run --hostname 127.0.0.1\n"), "{text}");
        assert!(text.ends_with("tetherlet run --trust-lan"), "{text}");
        assert!(ways("--hostname=::").contains("tetherlet --hostname=127.0.0.1\n"));
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted("http://x:1/y"), "http://x:1/y");
    }
}
