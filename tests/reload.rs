//! SIGHUP: a good configuration counts at once, a bad one changes nothing, and no signal ever ends the agent.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, as everything else here does"
)]

mod support;

#[path = "support/provider.rs"]
mod provider;

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use provider::{Event, Form, Provider, Script};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Agent, Events, Home, message, reply_of, streamed};

/// The line that ends a reload that was taken.
const TAKEN: &str = "configuration reloaded";
/// The line that ends one that was not.
const KEPT: &str = "reload failed";

/// An agent of the file `agent.toml`, at a level that tells of reloads and no more.
fn agent(toml: &str) -> Agent {
    let home = Home::new();
    home.file("agent.toml", &with_port(toml));
    Agent::start_as(home, &["run", "--config", "agent.toml"], &[])
}

fn with_port(toml: &str) -> String {
    format!("listen.port = 0\n{toml}")
}

fn file(agent: &Agent) -> PathBuf {
    agent.home.0.join("agent.toml")
}

/// Writes the file anew, has it read, and returns the line that says how that went.
fn reload(agent: &mut Agent, toml: &str, end: &str) -> String {
    agent.home.file("agent.toml", &with_port(toml));
    signal(agent, end)
}

fn signal(agent: &mut Agent, end: &str) -> String {
    agent.signal(Signal::HUP);
    agent.wait_for(end)
}

fn warnings(agent: &Agent) -> Vec<String> {
    let warnings = agent.status()["warnings"].take();
    serde_json::from_value(warnings).unwrap()
}

/// The status of a request with a body of so many bytes.
fn status_of(agent: &Agent, bytes: usize) -> u16 {
    agent.post("/", &" ".repeat(bytes)).status
}

#[test]
fn a_changed_bound_counts_at_once_and_the_log_names_its_key() {
    let mut agent = agent("");
    assert_eq!(status_of(&agent, 4000), 200);
    let line =
        reload(&mut agent, "limits.body-bytes = 2048\nlimits.streams = 7\nrun.grace-s = 3", TAKEN);
    assert!(line.ends_with("changed: limits.streams, limits.body-bytes, run.grace-s"), "{line}");
    assert_eq!(status_of(&agent, 4000), 413);
    assert_eq!(agent.status()["http"]["streamsLimit"], 7);
    let line = reload(&mut agent, "", TAKEN);
    assert!(line.ends_with("changed: limits.streams, limits.body-bytes, run.grace-s"), "{line}");
    assert_eq!(status_of(&agent, 4000), 200);
    let line = signal(&mut agent, TAKEN);
    assert!(line.ends_with("nothing has changed"), "{line}");
    assert_eq!(warnings(&agent), [""; 0]);
}

#[test]
fn a_bad_file_changes_nothing_and_every_problem_is_told_with_its_place() {
    let mut agent = agent("limits.streams = 7");
    let bad = "limits.streams = 5\nlimits.tasks = 1\nlog.levle = \"debug\"\nlog.audit = true";
    reload(&mut agent, bad, KEPT);
    let path = "agent.toml";
    for line in [
        "agent.toml:3:8: limits.tasks: must be a whole number, 4 to 1024",
        "agent.toml:4:5: log.levle: is not a known key, did you mean log.level?",
    ] {
        assert!(agent.log.contains(line), "{line} in {}", agent.log);
    }
    assert_eq!(agent.status()["http"]["streamsLimit"], 7);
    let warned = warnings(&agent);
    let [warning] = warned.as_slice() else { panic!("{warned:?}") };
    assert!(warning.starts_with("reload at 2") && warning.contains(" failed: "), "{warning}");
    assert!(warning.contains(path) && warning.ends_with("; 1 more in the log"), "{warning}");
    let said = agent.run(&["status"]);
    assert!(String::from_utf8(said.stdout).unwrap().contains(warning), "{warning}");
    reload(&mut agent, "limits.streams = 5", TAKEN);
    assert_eq!(
        (agent.status()["http"]["streamsLimit"].as_u64(), warnings(&agent).len()),
        (Some(5), 0)
    );
    assert!(!agent.log.contains("audit"), "{}", agent.log);
}

#[test]
fn garbage_a_missing_file_and_what_is_no_file_change_nothing() {
    let mut agent = agent("limits.streams = 7");
    let path = file(&agent);
    std::fs::write(&path, [0xff, 0, b'[', b'\n']).unwrap();
    signal(&mut agent, KEPT);
    assert!(agent.log.contains("agent.toml: is not UTF-8 text"), "{}", agent.log);
    std::fs::remove_file(&path).unwrap();
    signal(&mut agent, KEPT);
    assert!(agent.log.contains("agent.toml: cannot be read: No such file"), "{}", agent.log);
    std::fs::create_dir(&path).unwrap();
    signal(&mut agent, KEPT);
    assert!(agent.log.contains("agent.toml: is not a regular file"), "{}", agent.log);
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, vec![b'#'; 300 * 1024]).unwrap();
    signal(&mut agent, KEPT);
    assert!(agent.log.contains("agent.toml: is larger than"), "{}", agent.log);
    // Nobody ever writes to it: opening it would wait.
    std::fs::remove_file(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    signal(&mut agent, KEPT);
    assert_eq!(agent.status()["http"]["streamsLimit"], 7);
    std::fs::remove_file(&path).unwrap();
    reload(&mut agent, "", TAKEN);
}

#[test]
fn what_needs_a_restart_is_told_until_it_is_taken_back() {
    let mut agent = agent("run.state-dir = \"state\"");
    let address = agent.address;
    let changed = "listen.port = 4098\nrun.state-dir = \"other\"\nlog.format = \"json\"\n";
    agent.home.file("agent.toml", &format!("{changed}limits.streams = 7"));
    signal(&mut agent, TAKEN);
    agent.wait_for("run.state-dir changed");
    let told = [
        "listen.port changed from 0 to 4098: takes effect after a restart",
        "log.format changed from auto to json: takes effect after a restart",
        "run.state-dir changed from state to other: takes effect after a restart",
    ];
    assert_eq!(warnings(&agent), told);
    assert_eq!((agent.address, &agent.status()["http"]["streamsLimit"]), (address, &json!(7)));
    assert!(!agent.home.0.join("other").exists());
    // Still so after a reload that fails, and after one that changes something else.
    agent.home.file("agent.toml", "[");
    signal(&mut agent, KEPT);
    assert_eq!(warnings(&agent)[1..], told);
    agent.home.file("agent.toml", changed);
    signal(&mut agent, TAKEN);
    assert_eq!(warnings(&agent), told);
    reload(&mut agent, "run.state-dir = \"state\"", TAKEN);
    assert_eq!(warnings(&agent), [""; 0]);
}

#[test]
fn the_level_of_the_log_is_raised_and_lowered() {
    let mut agent = agent("");
    agent.get("/nowhere");
    reload(&mut agent, "log.level = \"debug\"", TAKEN);
    assert!(!agent.log.contains("DEBUG"), "{}", agent.log);
    agent.get("/nowhere");
    agent.wait_for("DEBUG");
    reload(&mut agent, "log.level = \"error\"", TAKEN);
    agent.get("/nowhere");
    // Of what follows only this is an error.
    agent.home.file("agent.toml", "[");
    agent.signal(Signal::HUP);
    let line = agent.wait_for(" ");
    assert!(line.contains("ERROR") && line.contains("agent.toml:1:"), "{line}");
}

#[test]
fn flags_stay_over_the_file() {
    let home = Home::new();
    home.file("agent.toml", "limits.streams = 7");
    let flags =
        ["run", "--port", "0", "--log-level", "info", "--config", "agent.toml", "--", "sub"];
    std::fs::create_dir(home.0.join("sub")).unwrap();
    // PROJECT changes the directory; the file is still meant from where the command was given.
    let mut agent = Agent::start_as(home, &flags, &[("TETHERLET_LIMITS_TASKS", "9")]);
    reload(&mut agent, "log.level = \"debug\"\nlimits.tasks = 5\nlimits.streams = 8", TAKEN);
    let status = agent.status();
    assert_eq!(
        (&status["http"]["streamsLimit"], &status["tasks"]["limit"]),
        (&json!(8), &json!(9))
    );
    agent.get("/nowhere");
    let (_, log) = agent.stop();
    assert!(!log.contains("DEBUG"), "{log}");
}

#[test]
fn what_would_let_strangers_in_is_refused_as_at_the_start() {
    let host = "listen.host = \"0.0.0.0\"";
    let open = &format!("{host}\nlisten.trust-lan = true");
    let mut agent = agent(open);
    agent.address.set_ip([127, 0, 0, 1].into());
    reload(&mut agent, host, KEPT);
    let warned = warnings(&agent);
    assert!(
        warned.iter().any(|it| it.contains("failed: refusing to listen on 0.0.0.0")),
        "{warned:?}"
    );
    reload(&mut agent, open, TAKEN);
}

#[test]
fn tokens_come_and_go() {
    let one = "[callers.anna]\ntoken = \"tl_anna_one_0123456789\"\n";
    let two = "[callers.anna]\ntoken = \"tl_anna_two_0123456789\"\n";
    let mut agent = agent("");
    let status = |agent: &Agent, token: &str| {
        let head = format!(
            "GET /status.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        support::exchange(agent.address, head.as_bytes()).status
    };
    let line = reload(&mut agent, one, TAKEN);
    assert!(line.ends_with("changed: callers.anna.token, callers.anna.rights"), "{line}");
    assert_eq!(status(&agent, "tl_anna_one_0123456789"), 200);
    assert_eq!(agent.get("/status.json").status, 401);
    let line = reload(&mut agent, two, TAKEN);
    assert!(line.ends_with("changed: callers.anna.token"), "{line}");
    assert_eq!(status(&agent, "tl_anna_one_0123456789"), 401);
    assert_eq!(status(&agent, "tl_anna_two_0123456789"), 200);
    let line = reload(&mut agent, two, TAKEN);
    assert!(line.ends_with("nothing has changed"), "{line}");
    // A file that is being written is empty for a moment.
    reload(&mut agent, "", KEPT);
    assert_eq!(agent.get("/status.json").status, 401);
    assert_eq!(status(&agent, "tl_anna_two_0123456789"), 200);
    reload(&mut agent, "auth.mode = \"off\"", TAKEN);
    assert_eq!(agent.get("/status.json").status, 200);
}

#[test]
fn who_is_taken_off_the_list_hears_nothing_more() {
    let provider = Provider::start([Script::gated(Form::OpenAi, &["The ", "sea."])]);
    let toml = |token: &str| {
        format!(
            "[providers.house]\nbase-url = \"{}\"\nmodel = \"m\"\n[callers.anna]\ntoken = {token:?}\n",
            provider.url()
        )
    };
    let mut agent = agent(&toml("tl_anna_one_0123456789"));
    let body = support::request("message/stream", message("Tell me about tides"));
    let mut stream = support::connect(agent.address);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\
         Authorization: Bearer tl_anna_one_0123456789\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    provider.wait(Event::Asked(0));
    // The same name with another token is another holder: the stream ends although its task goes on.
    reload(&mut agent, &toml("tl_anna_two_0123456789"), TAKEN);
    let mut told = String::new();
    stream.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 200") && !told.contains("\"final\":true"), "{told}");
    for _ in 0..3 {
        provider.go(0);
    }
}

#[test]
fn the_card_says_what_is_in_force() {
    const CARD: &str = "/.well-known/agent-card.json";
    let mut agent = agent("agent.name = \"one\"\ncard.extended = true");
    let before = agent.get(CARD);
    reload(&mut agent, "agent.name = \"one\"\ncard.extended = true\nlimits.streams = 7", TAKEN);
    let same = agent.get(CARD);
    assert_eq!((same.header("etag"), &same.body), (before.header("etag"), &before.body));
    assert_eq!(same.header("last-modified"), before.header("last-modified"));
    let extended = agent.result("agent/getAuthenticatedExtendedCard", json!({}));
    assert!(extended["description"].as_str().unwrap().contains("up to 7 event streams"));
    reload(&mut agent, "agent.name = \"two\"\npush.enabled = false", TAKEN);
    let after = agent.get(CARD);
    assert_ne!(after.header("etag"), before.header("etag"));
    let card = after.json();
    assert_eq!((&card["name"], &agent.status()["name"]), (&json!("two"), &json!("two")));
    assert_eq!(card["capabilities"]["pushNotifications"], false);
    let refused = agent.rpc("tasks/pushNotificationConfig/get", json!({"id": "x"}));
    assert_eq!(refused["error"]["code"], -32003, "{refused}");
}

#[test]
fn a_running_turn_ends_with_the_old_key_and_the_next_one_has_the_new() {
    let provider = Provider::start([Script::gated(Form::OpenAi, &["The ", "sea."])]);
    let text = format!(
        "relay.max = 1\n[providers.house]\nbase-url = \"{}\"\nmodel = \"m\"\napi-key-file = \"KEY\"",
        provider.url()
    );
    let home = Home::new();
    let key = home.file("house.key", "canary-one");
    let text = text.replace("KEY", key.to_str().unwrap());
    home.file("agent.toml", &with_port(&text));
    let mut agent = Agent::start_as(home, &["run", "--config", "agent.toml"], &[]);
    let mut events = agent.stream("message/stream", message("Tell me about tides"));
    events.next().unwrap();
    provider.wait(Event::Asked(0));
    agent.home.file("house.key", "canary-two");
    let line = signal(&mut agent, TAKEN);
    assert!(line.ends_with("changed: providers.house.api-key"), "{line}");
    let next = agent.stream("message/stream", message("Tell me about the moon"));
    for _ in 0..3 {
        provider.go(0);
    }
    assert_eq!(streamed(&events.rest()), "The sea.");
    assert_eq!(streamed(&next.rest()), "fine");
    let keys: Vec<_> = (0..2).map(|at| provider.asked(at)).collect();
    assert_eq!(keys[0].header("authorization"), Some("Bearer canary-one"));
    assert_eq!(keys[1].header("authorization"), Some("Bearer canary-two"));
    let (_, log) = agent.stop();
    assert!(!log.contains("canary"), "{log}");
}

#[test]
fn no_stream_breaks_whatever_is_lowered_below_what_it_holds() {
    let scripts = (0..4).map(|_| Script::gated(Form::OpenAi, &["The ", "sea."]));
    let provider = Provider::start(scripts);
    let base = format!("[providers.house]\nbase-url = \"{}\"\nmodel = \"m\"\n", provider.url());
    let mut agent = agent(&base);
    for _ in 0..20 {
        assert_eq!(reply_of(&agent.send("25*4")), "100");
    }
    let mut streams: Vec<Events> = (0..64)
        .map(|at| agent.stream("message/stream", message(&format!("Tell me of tides {at}"))))
        .collect();
    for stream in &mut streams {
        stream.next().unwrap();
    }
    for at in 0..4 {
        provider.wait(Event::Asked(at));
    }
    let lowered = "limits.connections = 4\nlimits.streams = 1\nlimits.per-address = 1\n\
        limits.body-bytes = 1024\nlimits.in-flight-bytes = \"16KiB\"\nlimits.tasks = 4\n\
        limits.store-bytes = \"64KiB\"\nlimits.work-bytes = \"64KiB\"\nlimits.caller-tasks = 1\n\
        limits.write-wait-s = 1\nlimits.idle-wait-s = 1\nrelay.max = 1\nrelay.queue = 1\n\
        relay.reply-bytes = \"16KiB\"\n";
    reload(&mut agent, &format!("{lowered}{base}"), TAKEN);
    let status: Value = agent.get("/metrics").body.lines().filter_map(gauge).collect();
    assert_eq!(status["tetherlet_tasks_limit"], 4);
    assert_eq!(status["tetherlet_streams"], 64);
    for at in 0..4 {
        (0..3).for_each(|_| provider.go(at));
    }
    let texts: Vec<String> = streams.into_iter().map(|stream| streamed(&stream.rest())).collect();
    assert!(texts.iter().all(|text| text == "The sea." || text == "fine"), "{texts:?}");
    assert_eq!(texts.iter().filter(|text| *text == "fine").count(), 60);
    // It fits again, and takes new work.
    assert_eq!(reply_of(&agent.send("25*4")), "100");
    let status = agent.status();
    assert!(status["tasks"]["stored"].as_u64().unwrap() <= 4, "{status}");
    assert!(status["bytes"]["store"].as_u64().unwrap() <= 64 * 1024, "{status}");
}

/// A sample without labels.
fn gauge(line: &str) -> Option<(String, Value)> {
    let (name, value) = line.split_once(' ')?;
    (!name.starts_with('#')).then(|| Some((name.to_owned(), json!(value.parse::<u64>().ok()?))))?
}

#[test]
fn connections_that_waited_for_room_come_in_when_the_bound_is_raised() {
    let mut agent = agent("limits.connections = 4\nlimits.streams = 1\nlimits.per-address = 4");
    // Four, and the reserve of eight.
    let held: Vec<_> = (0..12).map(|_| support::connect(agent.address)).collect();
    let waits = support::connect(agent.address);
    reload(&mut agent, "", TAKEN);
    let request =
        format!("GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", agent.address);
    let reply = support::exchange_on(waits, request.as_bytes());
    assert_eq!((reply.status, held.len()), (200, 12));
}

#[test]
fn signals_in_a_row_end_with_the_last_configuration() {
    let mut agent = agent("");
    for streams in 1..=40 {
        agent.home.file("agent.toml", &with_port(&format!("limits.streams = {streams}")));
        agent.signal(Signal::HUP);
    }
    // The last file was there before the last signal.
    while agent.status()["http"]["streamsLimit"] != 40 {
        agent.wait_for(TAKEN);
    }
    assert_eq!(reply_of(&agent.send("25*4")), "100");
}

#[test]
fn a_signal_at_the_first_moment_reloads_and_kills_nothing() {
    for _ in 0..10 {
        // Returns with the line that announces it.
        let mut agent = agent("");
        signal(&mut agent, TAKEN);
        let (status, log) = agent.stop();
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[test]
fn a_signal_while_it_stops_changes_nothing() {
    let provider = Provider::start([Script::gated(Form::OpenAi, &["The ", "sea."])]);
    let base = format!("[providers.house]\nbase-url = \"{}\"\nmodel = \"m\"\n", provider.url());
    let mut agent = agent(&base);
    let mut events = agent.stream("message/stream", message("Tell me about tides"));
    events.next().unwrap();
    provider.wait(Event::Asked(0));
    agent.signal(Signal::TERM);
    agent.wait_for("stopping");
    agent.home.file("agent.toml", "[");
    for _ in 0..5 {
        agent.signal(Signal::HUP);
    }
    for _ in 0..3 {
        provider.go(0);
    }
    assert_eq!(streamed(&events.rest()), "The sea.");
    let (status, log) = agent.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("reload"), "{log}");
}
