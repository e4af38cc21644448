//! The program as its users start it: arguments, settings, output, exit codes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "tests have deadlines and threads of their own")]

mod support;

use std::io::{BufRead, BufReader, PipeWriter, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{Agent, DEADLINE, Home, exchange, program, reply_of};

const VERBS: [&str; 13] = [
    "run",
    "trust",
    "spawn",
    "send",
    "get",
    "list",
    "cancel",
    "subscribe",
    "card",
    "status",
    "check-config",
    "token new",
    "cert self-signed",
];

/// Runs a program that ends by itself, with `input` on its standard input.
fn ended_with(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    let (sender, output) = channel();
    std::thread::spawn(move || {
        // Most programs here read none of it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        sender.send(child.wait_with_output().unwrap())
    });
    output.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        let _ = kill_process(pid, Signal::KILL);
        panic!("{command:?} does not end")
    })
}

fn ended(command: &mut Command) -> Output {
    ended_with(command, "")
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// What the program printed when it did what it should, without a word to stderr.
fn printed(output: &Output) -> &str {
    assert_eq!((output.status.code(), err(output)), (Some(0), ""), "{}", out(output));
    out(output)
}

/// What the program complained about, with this exit code and nothing on stdout.
fn complaint(output: &Output, code: i32) -> &str {
    assert_eq!((output.status.code(), out(output)), (Some(code), ""), "{}", err(output));
    assert!(!err(output).contains("panicked"), "{}", err(output));
    err(output)
}

/// An agent that was not started by `run --port 0` alone; killed when dropped.
struct Started {
    child: Child,
    address: SocketAddr,
    lines: Receiver<String>,
    log: Vec<String>,
}

impl Started {
    fn new(command: &mut Command) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        Self::logging_to(command, BufReader::new(reader), writer)
    }

    fn logging_to(
        command: &mut Command,
        log: impl BufRead + Send + 'static,
        pipe: PipeWriter,
    ) -> Self {
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(pipe).spawn().unwrap();
        // The command keeps the pipe open; its end must be the agent's end.
        command.stderr(Stdio::null());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let address = ([127, 0, 0, 1], 0).into();
        let mut started = Self { child, address, lines, log: Vec::new() };
        let line = started.wait_for("listening on http://");
        let at = line.rsplit("http://").next().unwrap();
        let at: SocketAddr = at.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        started.address.set_port(at.port());
        started
    }

    fn wait_for(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => {
                    self.log.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("no log line with {text:?} ({error}): {:#?}", self.log),
            }
        }
    }

    /// SIGTERM, and every line of the log.
    fn stop(mut self) -> Vec<String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let mut log = std::mem::take(&mut self.log);
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            log.push(line);
        }
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{log:#?}");
        log
    }

    fn card(&self) -> Value {
        self.page("/.well-known/agent-card.json")
    }

    fn page(&self, path: &str) -> Value {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        exchange(self.address, request.as_bytes()).json()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The flags that a help text names.
fn flags_in(help: &str) -> Vec<&str> {
    let mut flags: Vec<&str> = help
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| word.len() > 2 && word.starts_with("--"))
        .collect();
    flags.sort_unstable();
    flags.dedup();
    flags
}

#[test]
fn help_is_the_same_however_it_is_asked_for() {
    let home = Home::new();
    let ask = |arguments: &[&str]| printed(&ended(program(&home.0).args(arguments))).to_owned();
    let help = ask(&["--help"]);
    for arguments in [&["-h"][..], &["help"], &["help", "--help"], &["help", "help"]] {
        assert_eq!(ask(arguments), help, "{arguments:?}");
    }
    assert!(help.contains("usage: tetherlet"));
    for verb in VERBS {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}");
        let words: Vec<&str> = verb.split(' ').collect();
        let own = ask(&["help", words[0]]);
        assert!(own.contains(&format!("tetherlet {verb}")), "{own}");
        for flag in ["--help", "-h"] {
            assert_eq!(ask(&[&words[..], &[flag]].concat()), own, "{verb}");
            assert_eq!(ask(&[words[0], flag]), own, "{verb}");
        }
        assert!(own.lines().all(|line| line.len() <= 100), "{own}");
        for line in own.lines().filter(|line| line.trim_start().starts_with('-')) {
            // A short option stands in front of its long one.
            let at = if line.trim_start().starts_with("--") { 6 } else { 2 };
            assert_eq!(line.len() - line.trim_start().len(), at, "{verb}: {line}");
        }
    }
    assert!(help.lines().all(|line| line.len() <= 100), "{help}");
}

#[test]
fn a_command_takes_the_flags_of_its_help_and_no_others() {
    let home = Home::new();
    let helps: Vec<String> = VERBS
        .iter()
        .map(|verb| verb.split(' ').next().unwrap())
        .map(|verb| printed(&ended(program(&home.0).args(["help", verb]))).to_owned())
        .collect();
    let mut all: Vec<&str> = helps.iter().flat_map(|help| flags_in(help)).collect();
    // Plausible ones that no help names.
    all.extend(["--values", "--url", "--host", "--quiet", "--verbose", "--token", "--version"]);
    all.sort_unstable();
    all.dedup();
    for (verb, help) in VERBS.iter().zip(&helps) {
        let named = flags_in(help);
        for flag in &all {
            // The last flag is none, so nothing is ever started.
            let given = format!("{flag}=x");
            let mut command = program(&home.0);
            command.args(verb.split(' ')).args([given.as_str(), "--no-such-flag"]);
            let output = ended(&mut command);
            let said = complaint(&output, 2);
            let is_taken = !said.contains(&format!("invalid option '{flag}'"));
            assert_eq!(is_taken, named.contains(flag), "{verb} {flag}: {said}");
        }
    }
    for short in ["-n", "-p", "-d"] {
        assert!(helps[0].contains(&format!("{short}, --")), "{short}");
        let output = ended(program(&home.0).args(["run", short, "x", "--no-such-flag"]));
        assert!(complaint(&output, 2).contains("--no-such-flag"));
    }
}

#[test]
fn the_version_is_one_line() {
    let home = Home::new();
    let wanted = format!("tetherlet {}\n", env!("CARGO_PKG_VERSION"));
    for flag in ["--version", "-V", "version"] {
        assert_eq!(printed(&ended(program(&home.0).arg(flag))), wanted);
    }
}

#[test]
fn wrong_usage_is_exit_code_2_and_names_what_is_wrong() {
    let home = Home::new();
    for (arguments, named) in [
        (&["snd"][..], "`snd` (did you mean `send`?)"),
        (&["stauts"], "`stauts` (did you mean `status`?)"),
        (&["chekc-config"], "did you mean `check-config`?"),
        (&["xylophone"], "`xylophone`; try `tetherlet --help`"),
        (&["help", "snd"], "did you mean `send`?"),
        (&["--prot", "1"], "'--prot'"),
        (&["run", "-x"], "'-x'"),
        (&["run", "--port"], "'--port'"),
        (&["run", "--port", "70000"], "listen.port: must be a whole number, 0 to 65535"),
        (&["run", "--port", "four"], "--port: listen.port: must be"),
        (&["run", "--hostname", "a b"], "--hostname: listen.host: must be"),
        (&["run", "--log-level", "loud"], "must be one of error, warn, info, debug, trace"),
        (&["run", "--log-format", "xml"], "must be one of auto, human, journal, json"),
        (&["run", "--public-url", "ftp://x"], "--public-url"),
        (&["run", "--public-url", "http://u:canary@x"], "--public-url"),
        (&["run", "--trust-lan=yes"], "--trust-lan"),
        (&["run", "--name", ""], "agent.name"),
        (&["run", "--config", "/no/such/file"], "/no/such/file"),
        (&["run", "one", "two"], "two"),
        (&["run", "--", "/no/such/directory"], "/no/such/directory"),
        (&["send"], "usage: tetherlet send"),
        (&["send", "one", "two"], "usage: tetherlet send"),
        (&["send", "http://127.0.0.1:1"], "usage: tetherlet send"),
        (&["send", "-x", "one"], "'-x'"),
        (&["get"], "usage: tetherlet get"),
        (&["cancel", "a", "b"], "usage: tetherlet cancel"),
        (&["subscribe"], "usage: tetherlet subscribe"),
        (&["list", "a"], "usage: tetherlet list"),
        (&["list", "--status", "done"], "--status: must be one of submitted, working, input-req"),
        (&["list", "--limit", "many"], "many"),
        (&["get", "--protocol", "2.0", "a"], "--protocol: must be 0.3 or 1.0"),
        (&["get", "--binding", "grpc", "a"], "--binding: must be jsonrpc or rest"),
        (&["list", "--stream"], "'--stream'"),
        (&["card", "x"], "usage: tetherlet card"),
        (&["status", "x"], "usage: tetherlet status"),
        (&["status", "--config", "x"], "TETHERLET_CONFIG"),
        (&["check-config", "a", "b"], "b"),
        (&["check-config", "/no/such/file"], "/no/such/file"),
    ] {
        let output = ended(program(&home.0).args(arguments));
        let said = complaint(&output, 2);
        assert!(said.starts_with("tetherlet: ") && said.contains(named), "{arguments:?}: {said}");
        assert!(!said.contains("canary"), "{said}");
    }
}

#[test]
fn send_prints_the_reply_and_tells_by_its_exit_code() {
    let agent = Agent::start(&[], &[]);
    assert_eq!(printed(&agent.run(&["send", "Calculate 25 * 4"])), "100\n");
    assert_eq!(printed(&agent.run(&["send", "--stream", "25*4"])), "100\n");
    assert_eq!(printed(&agent.run(&["send", "--skill", "calculator", "25 * 4"])), "100\n");
    assert_eq!(printed(&agent.run(&["send", "--skill=calculator", "--", "-5*4"])), "-20\n");
    // A URL stands before the text and wins over the variable.
    let url = agent.url();
    let other = ["send", url.as_str(), "25*4"];
    let mut command = program(&agent.home.0);
    command.args(other).env("TETHERLET_URL", "http://127.0.0.1:1");
    assert_eq!(printed(&ended(&mut command)), "100\n");
    let slash = format!("{url}/");
    assert_eq!(printed(&agent.run(&["send", &slash, "25*4"])), "100\n");
    // From standard input, whole.
    let mut command = program(&agent.home.0);
    command.args(["send", "-"]).env("TETHERLET_URL", &url);
    assert_eq!(printed(&ended_with(&mut command, "25\n* 4\n")), "100\n");
    let long = "x".repeat(1024 * 1024 + 1);
    assert!(complaint(&ended_with(&mut command, &long), 1).contains("longer than 1048576 bytes"));

    for failing in ["1/0", "Tell me a story."] {
        for arguments in [&["send", failing][..], &["send", "--stream", failing]] {
            let output = agent.run(arguments);
            let said = complaint(&output, 1);
            assert!(said.contains("failed: ") || said.contains("rejected: "), "{said}");
        }
    }
    assert!(complaint(&agent.run(&["send", ""]), 1).contains("No text content in message"));
    let said = agent.run(&["send", "--skill", "cook", "soup"]);
    assert!(complaint(&said, 1).contains("calculator, text_analyzer, memory, device"));
}

#[test]
fn send_prints_json_as_one_object_a_line() {
    let agent = Agent::start(&[], &[]);
    for (version, failed) in [("0.3", "failed"), ("1.0", "TASK_STATE_FAILED")] {
        let send = ["send", "--protocol", version, "--json"];
        let output = agent.run(&[&send[..], &["--context", "our talk", "25*4"]].concat());
        let lines: Vec<&str> = printed(&output).lines().collect();
        let task: Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(
            (lines.len(), reply_of(&task), &task["contextId"]),
            (1, "100", &json!("our talk"))
        );
        let output = agent.run(&[&send[..], &["--stream", "25*4"]].concat());
        let events: Vec<Value> =
            printed(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let members = ["id", "artifact", "status"];
        assert_eq!(events.len(), members.len());
        for (event, member) in events.iter().zip(members) {
            assert!(!event[member].is_null(), "{member}: {event}");
        }
        // A failed one is printed as well, and still is exit code 1.
        let output = agent.run(&[&send[..], &["1/0"]].concat());
        assert_eq!(output.status.code(), Some(1));
        let task: Value = serde_json::from_str(out(&output)).unwrap();
        assert_eq!(task["status"]["state"], failed);
    }
}

#[test]
fn a_question_is_answered_with_the_task_it_names() {
    let agent = Agent::start(&[], &[]);
    for stream in [&["send"][..], &["send", "--stream"]] {
        let asked = agent.run(&[stream, &["remember door code"]].concat());
        assert_eq!(asked.status.code(), Some(0));
        assert_eq!(out(&asked), "what should be stored under `door code`?\n");
        let hint = err(&asked);
        let id = hint.split("--task ").nth(1).unwrap().split(' ').next().unwrap();
        assert_eq!(
            printed(&agent.run(&["get", id])),
            format!("{id} input-required\nwhat should be stored under `door code`?\n")
        );
        let answer = agent.run(&[stream, &["--task", id, "4711"]].concat());
        assert!(printed(&answer).starts_with("stored `door code`"));
    }
    assert_eq!(printed(&agent.run(&["send", "recall door code"])), "`door code` is 4711\n");
}

#[test]
fn get_and_cancel_print_the_task() {
    let agent = Agent::start(&[], &[]);
    let done = agent.send("25*4");
    let id = done["id"].as_str().unwrap();
    assert_eq!(printed(&agent.run(&["get", id])), format!("{id} completed\n100\n"));
    let output = agent.run(&["get", "--json", "--protocol", "0.3", &agent.url(), id]);
    assert_eq!(serde_json::from_str::<Value>(printed(&output)).unwrap(), done);
    assert!(complaint(&agent.run(&["cancel", id]), 1).contains("already completed (-32002)"));
    let asked = agent.send("remember door code");
    let id = asked["id"].as_str().unwrap();
    assert!(printed(&agent.run(&["cancel", id])).starts_with(&format!("{id} canceled\n")));
    assert!(complaint(&agent.run(&["cancel", id]), 1).contains("already canceled"));
    for verb in ["get", "cancel"] {
        assert!(complaint(&agent.run(&[verb, "nosuch"]), 1).contains("Task not found (-32001)"));
    }
}

#[test]
fn card_and_status_print_what_the_agent_serves() {
    let agent = Agent::start(&["--name", "workshop"], &[]);
    let card = agent.get("/.well-known/agent-card.json").body;
    assert_eq!(printed(&agent.run(&["card"])).trim_end(), card);
    assert_eq!(printed(&agent.run(&["card", &agent.url()])).trim_end(), card);
    agent.send("25*4");
    let output = agent.run(&["status"]);
    let status = printed(&output);
    for part in ["workshop: ok, up 0 d", &agent.url(), "1 completed", "only skills answer", "KiB"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    assert!(!status.contains("WARNING") && !status.contains('\u{1b}'), "{status}");
    let output = agent.run(&["status", "--json"]);
    let object: Value = serde_json::from_str(printed(&output)).unwrap();
    assert_eq!(object["pid"], agent.pid());
    assert_eq!(printed(&output).lines().count(), 1);
}

#[test]
fn without_an_agent_every_client_command_names_the_url_and_the_fix() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://127.0.0.1:{port}");
    for arguments in [
        &["send", "25*4"][..],
        &["send", "--stream", "25*4"],
        &["get", "x"],
        &["cancel", "x"],
        &["list"],
        &["subscribe", "x"],
        &["card"],
        &["status"],
        &["status", "--json"],
    ] {
        // The local agent is where the configuration says.
        let mut command = program(&home.0);
        command.args(arguments).env("TETHERLET_LISTEN_PORT", port.to_string());
        let output = ended(&mut command);
        let said = complaint(&output, 1);
        assert!(said.contains(&url) && said.contains("tetherlet run"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_port_that_is_chosen_at_the_start_must_be_told() {
    let home = Home::new();
    for arguments in [&["status"][..], &["send", "25*4"], &["card"]] {
        let mut command = program(&home.0);
        let output = ended(command.args(arguments).env("TETHERLET_LISTEN_PORT", "0"));
        let said = complaint(&output, 2);
        assert!(said.contains("listen.port is 0, so") && said.contains("give its URL"), "{said}");
    }
}

#[test]
fn the_local_agent_is_found_by_its_configuration() {
    let agent = Agent::start(&[], &[]);
    let toml = format!(
        "[listen]\nport = {}\nhost = \"0.0.0.0\"\ntrust-lan = true\n",
        agent.address.port()
    );
    let file = agent.home.file("there.toml", &toml);
    let file = file.to_str().unwrap();
    let mut command = program(&agent.home.0);
    assert_eq!(printed(&ended(command.args(["send", "--config", file, "25*4"]))), "100\n");
    let mut command = program(&agent.home.0);
    command.args(["send", "25*4"]).env("TETHERLET_CONFIG", file);
    assert_eq!(printed(&ended(&mut command)), "100\n");
}

#[test]
fn status_config_tells_every_setting_and_who_set_it_but_no_secret() {
    let home = Home::new();
    let text = "[agent]\nname = \"filed\"\n[listen]\nport = 1\n";
    let file = home.file("agent.toml", text);
    let key_file = home.file("house.key", "canary-in-a-file\n");
    let file = file.to_str().unwrap();
    let ask = |variables: &[(&str, &str)]| {
        let mut command = program(&home.0);
        command.args(["status", "--config"]).env("TETHERLET_CONFIG", file);
        printed(&ended(command.envs(variables.iter().copied()))).to_owned()
    };
    let has = |text: &str, line: &str| {
        assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
    };
    let plain = ask(&[]);
    has(&plain, &format!("agent.name = filed  ({file}:2:1)"));
    has(&plain, &format!("listen.port = 1  ({file}:4:1)"));
    has(&plain, "listen.host = 127.0.0.1  (default)");
    has(&plain, "agent.description = not set  (default)");
    // CodeTether's names over files, ours over those.
    let both = [("A2A_PORT", "2"), ("A2A_AGENT_NAME", "theirs"), ("A2A_HOST", "127.0.0.2")];
    let theirs = ask(&both);
    has(&theirs, "listen.port = 2  (environment A2A_PORT)");
    has(&theirs, "agent.name = theirs  (environment A2A_AGENT_NAME)");
    has(&theirs, "listen.host = 127.0.0.2  (environment A2A_HOST)");
    let ours = ask(&[&both[..], &[("TETHERLET_LISTEN_PORT", "3")]].concat());
    has(&ours, "listen.port = 3  (environment TETHERLET_LISTEN_PORT)");
    has(&ours, "agent.name = theirs  (environment A2A_AGENT_NAME)");
    // Empty ones count as not set.
    let empty = ask(&[("TETHERLET_LISTEN_PORT", ""), ("A2A_PORT", " ")]);
    has(&empty, &format!("listen.port = 1  ({file}:4:1)"));

    let secret = ask(&[("OPENAI_API_KEY", "canary-0123456789")]);
    has(&secret, "providers.openai.api-key = set (17 bytes)  (environment OPENAI_API_KEY)");
    let from_file = ask(&[("OPENAI_API_KEY_FILE", key_file.to_str().unwrap())]);
    assert!(from_file.contains("providers.openai.api-key = set (16 bytes)"), "{from_file}");
    for text in [secret, from_file] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn flags_win_over_the_environment_which_wins_over_files() {
    let home = Home::new();
    let file = home.file(
        "agent.toml",
        "[agent]\nname = \"filed\"\ndescription = \"filed\"\norganization = \"filed\"\n[listen]\nport = 1\n",
    );
    let mut command = program(&home.0);
    command
        .args(["run", "--port", "0", "-n", "flagged", "--config"])
        .arg(&file)
        .env("TETHERLET_LISTEN_PORT", "2")
        .env("A2A_AGENT_NAME", "theirs")
        .env("A2A_AGENT_DESCRIPTION", "theirs");
    let card = Started::new(&mut command).card();
    assert_eq!(card["name"], "flagged");
    assert_eq!(card["description"], "theirs");
    assert_eq!(card["provider"]["organization"], "filed");
}

#[test]
fn check_config_prints_all_problems_at_once_with_their_places() {
    let home = Home::new();
    let text = "[agent]\nnmae = \"x\"\n[listen]\nport = \"a\"\n  host = \"-\"\n[limits]\ntasks = 1\n\
                streams = 200\n[listen]\n[providers.openai]\napi-key = \"canary\"\n";
    let file = home.file("bad.toml", text);
    let file = file.to_str().unwrap();
    for arguments in [&["check-config", file][..], &["check-config", "--config", file]] {
        let output = ended(program(&home.0).args(arguments));
        let said = complaint(&output, 2).strip_prefix("tetherlet: ").unwrap();
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        let wanted = [
            (":11:1: providers.openai.api-key: ", "api-key-file or api-key-env"),
            (":2:1: agent.nmae: ", "did you mean agent.name?"),
            (":4:1: listen.port: ", "a whole number, 0 to 65535"),
            (":5:3: listen.host: ", "must be an IP address or a host name"),
            (":7:1: limits.tasks: ", "a whole number, 4 to 1024"),
            (":8:1: limits.streams: ", "at most limits.connections"),
            (":9:2: not valid TOML: ", "duplicate key"),
        ];
        assert_eq!(lines.len(), wanted.len(), "{said}");
        for (line, (place, rule)) in lines.iter().zip(wanted) {
            assert!(line.starts_with(&format!("{file}{place}")), "{place}: {said}");
            assert!(line.contains(rule), "{rule}: {said}");
        }
        assert!(!said.contains("canary"), "{said}");
    }
    // `run` says the same and does not start.
    let output = ended(program(&home.0).args(["run", "--port", "0", "--config", file]));
    assert!(complaint(&output, 2).contains(":7:1: limits.tasks: "));
    let broken = home.file("broken.toml", "[listen]\nport = 1\nport = 2\n");
    let output = ended(program(&home.0).arg("check-config").arg(&broken));
    let said = complaint(&output, 2);
    assert!(said.contains(&format!("{}:3:1: ", broken.display())), "{said}");
}

#[test]
fn check_config_prints_what_holds_and_the_memory_table() {
    let home = Home::new();
    let file = home.file("agent.toml", "[limits]\nstore-bytes = \"4MiB\"\n");
    let output = ended(
        program(&home.0)
            .arg("check-config")
            .arg(&file)
            .env("OPENAI_API_KEY", "canary")
            .env("TETHERLET_LISTEN_PROT", "1"),
    );
    let said = printed(&output);
    assert!(said.contains(&format!("read {}\n", file.display())), "{said}");
    assert!(said.contains("warning: environment TETHERLET_LISTEN_PROT"), "{said}");
    assert!(said.contains("did you mean TETHERLET_LISTEN_PORT"), "{said}");
    assert!(said.contains("model: openai/"), "{said}");
    assert!(said.ends_with("\nok\n") && !said.contains("canary"), "{said}");
    let rows: Vec<(&str, u64)> = said
        .lines()
        .filter_map(|line| {
            let (name, size) = line.strip_suffix(" KiB")?.trim().rsplit_once(' ')?;
            Some((name.trim(), size.parse().unwrap()))
        })
        .collect();
    assert!(rows.contains(&("task store", 4096)), "{said}");
    let (last, parts) = rows.split_last().unwrap();
    assert!(parts.len() >= 5, "{said}");
    assert_eq!(*last, ("sum", parts.iter().map(|(_, size)| size).sum()));
}

#[test]
fn a_port_in_use_is_named_with_the_fix() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for verb in ["run", "spawn"] {
        let output = ended(program(&home.0).args([verb, "--port", &port]));
        assert_eq!(output.status.code(), Some(1));
        let said = err(&output);
        assert!(said.contains(&format!("port {port} on 127.0.0.1 is in use")), "{said}");
        assert!(said.contains("--port N") && said.contains("--port 0"), "{said}");
    }
}

#[test]
fn an_address_for_everybody_is_refused_with_both_ways_out() {
    let home = Home::new();
    for host in ["0.0.0.0", "::", "::ffff:0.0.0.0", "203.0.113.7"] {
        for arguments in [
            &["run", "--hostname", host, "-n", "a b"][..],
            &["spawn", "-n", "a b", "--hostname", host],
        ] {
            let output = ended(program(&home.0).args(arguments));
            let said = complaint(&output, 2);
            assert!(said.contains(&format!("refusing to listen on {host}")), "{said}");
            let same = arguments.join(" ").replace("a b", "'a b'");
            let local = format!("    tetherlet {}\n", same.replace(host, "127.0.0.1"));
            assert!(said.contains(&local), "{local}\nis not in\n{said}");
            assert!(said.contains(&format!("    tetherlet {same} --trust-lan")), "{said}");
        }
    }
    // The same when the address comes from elsewhere.
    let output = ended(program(&home.0).args(["--port", "0"]).env("A2A_HOST", "0.0.0.0"));
    let said = complaint(&output, 2);
    assert!(said.contains("tetherlet --port 0 --hostname 127.0.0.1\n"), "{said}");
    assert!(said.contains("tetherlet --port 0 --trust-lan"), "{said}");
}

#[test]
fn an_address_for_everybody_is_warned_about_in_log_and_status() {
    let home = Home::new();
    let mut command = program(&home.0);
    let mut open =
        Started::new(command.args(["run", "-p", "0", "--hostname", "0.0.0.0", "--trust-lan"]));
    open.wait_for("WARN  open to the network without authentication (--trust-lan)");
    let warnings = open.page("/status.json")["warnings"].clone();
    assert!(warnings[0].as_str().unwrap().contains("without authentication"), "{warnings}");
    let url = format!("http://{}", open.address);
    let output = ended(program(&home.0).args(["status", &url]));
    assert!(printed(&output).starts_with("WARNING: open to the network"), "{}", out(&output));
    // The card names an address that a neighbour can use, never the wildcard.
    let card = open.card();
    let card = card["url"].as_str().unwrap();
    assert!(card.starts_with("http://") && !card.contains("0.0.0.0"), "{card}");
    assert!(card.ends_with(&format!(":{}", open.address.port())), "{card}");
}

fn short_host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let short = name.trim().split('.').next().unwrap().to_ascii_lowercase();
    // As in a DNS label: one dash for everything else.
    let words = short.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

#[test]
fn spawn_takes_a_free_port_and_names_itself_after_host_directory_and_process() {
    let home = Home::new();
    let project = home.0.join("My Project_2");
    std::fs::create_dir(&project).unwrap();
    let mut commands: Vec<Command> = (0..3).map(|_| program(&home.0)).collect();
    // In the directory; told of it; told of it by a path from here, with the flags of CodeTether.
    commands[0].arg("spawn").current_dir(&project);
    commands[1].args(["spawn", "--"]).arg(&project);
    commands[2].args(["spawn", "--print-logs", "--log-level", "INFO", "--", "My Project_2"]);
    for command in &mut commands {
        let spawned = Started::new(command);
        let card = spawned.card();
        let pid = spawned.child.id() & 0xffff;
        let wanted = format!("{}-my-project-2-{pid:04x}", short_host());
        assert_eq!(card["name"], wanted);
        assert_eq!(card["url"], format!("http://{}", spawned.address));
        assert_ne!(spawned.address.port(), 4097);
        assert!(spawned.stop().iter().any(|line| line.contains(&wanted)));
    }
}

#[test]
fn spawn_puts_its_flags_on_the_card() {
    let home = Home::new();
    for (given, normal) in [
        ("example.org:80/", "http://example.org:80"),
        ("https://Example.org/agents//", "https://example.org/agents"),
        ("http://[fd00::1]:8080", "http://[fd00::1]:8080"),
    ] {
        let mut command = program(&home.0);
        command.args(["spawn", "-n", "workshop", "-d", "Knows the lathe.", "--public-url", given]);
        let spawned = Started::new(&mut command);
        let card = spawned.card();
        assert_eq!(card["url"], normal);
        assert_eq!(card["additionalInterfaces"][0]["url"], normal);
        assert_eq!(card["name"], "workshop");
        assert_eq!(card["description"], "Knows the lathe.");
    }
    let mut command = program(&home.0);
    command.args(["spawn", "--hostname=127.0.0.2", "--port=0", "--name=a", "--description=b"]);
    let mut spawned = Started::new(&mut command);
    spawned.address.set_ip([127, 0, 0, 2].into());
    assert_eq!(spawned.card()["url"], format!("http://{}", spawned.address));
}

#[test]
fn paths_of_flags_are_meant_from_where_the_command_was_given() {
    let home = Home::new();
    std::fs::create_dir(home.0.join("project")).unwrap();
    home.file("agent.toml", "[agent]\nname = \"configured\"\n");
    let mut command = program(&home.0);
    command.args(["spawn", "--config", "agent.toml", "--state-dir", "state", "--", "project"]);
    let spawned = Started::new(&mut command);
    assert_eq!(spawned.card()["name"], "configured");
    assert!(home.0.join("state/lock").exists());
    assert!(!home.0.join("project/state").exists());
}

#[test]
fn run_is_the_verb_when_there_is_none() {
    let home = Home::new();
    let mut command = program(&home.0);
    let agent = Started::new(command.args(["--port", "0", "--name", "bare"]));
    assert_eq!(agent.card()["name"], "bare");
}

#[test]
fn log_levels_may_be_in_capitals_and_say_less_or_more() {
    let home = Home::new();
    let log = |level: &str| {
        let mut command = program(&home.0);
        let agent = Started::new(command.args(["spawn", "--log-level", level]));
        exchange(agent.address, b"nonsense\r\n\r\n");
        agent.stop()
    };
    assert!(log("INFO").iter().all(|line| !line.contains("DEBUG")));
    assert!(log("debug").iter().any(|line| line.contains(" DEBUG ")));
    // At ERROR a start is not worth a line: the port must be known before.
    let refused = ended(program(&home.0).args(["spawn", "--log-level", "ERROR", "--port", "x"]));
    assert!(!complaint(&refused, 2).contains("log.level"));
}

#[test]
fn json_logs_are_one_object_a_line() {
    let home = Home::new();
    for variables in [&[("A2A_LOG_FORMAT", "json")][..], &[]] {
        let mut command = program(&home.0);
        command.args(["spawn", "--log-level", "debug", "--name", "a \"quoted\" name"]);
        command.envs(variables.iter().copied());
        if variables.is_empty() {
            command.args(["--log-format", "JSON"]);
        }
        let agent = Started::new(&mut command);
        exchange(
            agent.address,
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: \"\x7f\r\n\r\n",
        );
        let log = agent.stop();
        assert!(log.len() >= 4, "{log:#?}");
        for line in &log {
            let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
            for member in ["ts", "level", "target", "msg"] {
                assert!(object[member].is_string(), "{member}: {line}");
            }
            assert!(object["ts"].as_str().unwrap().ends_with('Z'), "{line}");
        }
        assert!(log.iter().any(|line| line.contains("a \\\"quoted\\\" name")), "{log:#?}");
    }
}

#[test]
fn under_systemd_lines_carry_the_journals_priorities() {
    let home = Home::new();
    let run = |journal: bool| {
        let (reader, writer) = std::io::pipe().unwrap();
        let stat = rustix::fs::fstat(&writer).unwrap();
        let inode = if journal { stat.st_ino } else { stat.st_ino + 1 };
        let mut command = program(&home.0);
        command
            .args(["spawn", "--hostname", "0.0.0.0", "--trust-lan"])
            .env("JOURNAL_STREAM", format!("{}:{inode}", stat.st_dev));
        Started::logging_to(&mut command, BufReader::new(reader), writer).stop()
    };
    let log = run(true);
    assert!(log.iter().all(|line| line.starts_with("<6>") || line.starts_with("<4>")), "{log:#?}");
    assert!(log.iter().any(|line| line.starts_with("<6>listening on http://")), "{log:#?}");
    assert!(log.iter().any(|line| line.starts_with("<4>open to the network")), "{log:#?}");
    // The variable is inherited by programs whose stderr goes elsewhere.
    let log = run(false);
    assert!(log.iter().all(|line| line.starts_with("20")), "{log:#?}");
}

#[test]
fn a_reader_that_has_left_is_no_reason_to_panic() {
    let agent = Agent::start(&[], &[]);
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["help", "run"],
        &["check-config"],
        &["status"],
        &["status", "--json"],
        &["status", "--config"],
        &["card"],
        &["send", "25*4"],
        &["send", "--json", "25*4"],
        &["send", "--stream", "25*4"],
        &["send", "--stream", "--json", "25*4"],
        &["list"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = program(&agent.home.0);
        command.args(arguments).env("TETHERLET_URL", agent.url());
        let child = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let output = child.spawn().unwrap().wait_with_output().unwrap();
        assert_eq!((output.status.code(), err(&output)), (Some(1), ""), "{arguments:?}");
    }
    // Nobody reads the complaint either: the exit code says it.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = program(&agent.home.0).arg("snd").stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn the_agent_is_there_before_any_provider_is_asked() {
    // Takes connections in the kernel and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed_url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    for base in [silent_url.as_str(), closed_url.as_str(), "http://provider.invalid"] {
        let home = Home::new();
        let toml = format!("[providers.house]\nbase-url = \"{base}/v1\"\nmodel = \"m\"\n");
        let file = home.file("agent.toml", &toml);
        let mut command = program(&home.0);
        let mut agent = Started::new(command.args(["spawn", "--config"]).arg(file));
        assert!(agent.log[0].contains("listening on http://"), "{:?}", agent.log);
        let card = agent.card();
        assert_eq!(card["skills"].as_array().unwrap().last().unwrap()["id"], "chat");
        let line = agent.wait_for("messages that no skill takes go to house/m");
        assert!(line.contains(base) && line.contains("no key"), "{line}");
        let url = format!("http://{}", agent.address);
        let output = ended(program(&home.0).args(["send", &url, "25*4"]));
        assert_eq!(printed(&output), "100\n");
        agent.stop();
    }
    silent.set_nonblocking(true).unwrap();
    assert!(silent.accept().is_err(), "the provider was called although nobody asked");
}

#[test]
fn other_programs_of_the_same_user_cannot_read_its_memory() {
    let home = Home::new();
    let copy = home.0.join("tetherlet");
    let mut command = if rustix::process::geteuid().is_root() {
        // Root's own files in /proc tell nothing, and nobody else may reach the original. It is another process that
        // copies: a file that is open for writing in a child of this one cannot be started.
        let mut copied = Command::new("cp");
        copied.arg(env!("CARGO_BIN_EXE_tetherlet")).arg(&copy);
        assert!(copied.status().unwrap().success());
        let mut command = Command::new(&copy);
        command.uid(65534).gid(65534).env_clear();
        command
    } else {
        program(&home.0)
    };
    let agent = Started::new(command.args(["spawn", "--log-level", "debug"]).current_dir("/"));
    let pid = agent.child.id();
    let owner = |file: &str| std::fs::metadata(format!("/proc/{pid}/{file}")).unwrap().uid();
    assert_eq!((owner("environ"), owner("mem")), (0, 0));
    // It still reads what it tells of itself.
    let reply = exchange(
        agent.address,
        format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", agent.address)
            .as_bytes(),
    );
    for name in [
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_max_fds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_threads",
    ] {
        assert!(reply.body.contains(&format!("\n{name} ")), "{name}: {}", reply.body);
    }
}

#[test]
fn no_core_is_ever_written() {
    let agent = Agent::start(&[], &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", agent.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
}
