//! `/metrics` of the real program: its form, and that each thing that happens moves its own counters and no other.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

#[path = "support/provider.rs"]
mod provider;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;

use provider::{Event, Form, Provider, Script};
use serde_json::{Value, json};
use support::{Agent, Reply, connect, exchange, message, request};

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The shortest timers there are.
const QUICK: &str = "[relay]\nmax = 1\nconnect-s = 1\nfirst-local-s = 1\nidle-s = 1\n";

/// A page, read: samples by name and labels as they stand there.
#[derive(Debug)]
struct Page(BTreeMap<String, String>);

impl Page {
    fn of(agent: &Agent) -> Self {
        let reply = agent.get("/metrics");
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(FORMAT)), "{reply:?}");
        Self::read(&reply.body)
    }

    /// Families of a help line, a type line and samples, none of them twice.
    fn read(text: &str) -> Self {
        let (mut families, mut samples) = (BTreeSet::new(), BTreeMap::new());
        let mut lines = text.strip_suffix('\n').unwrap().split('\n').peekable();
        while let Some(line) = lines.next() {
            let (name, help) = line.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
            assert!(is_name(name) && !help.is_empty() && !help.contains('\\'), "{line}");
            assert!(families.insert(name), "{name} comes twice");
            let kind = lines.next().unwrap().strip_prefix(&*format!("# TYPE {name} ")).unwrap();
            assert!(["counter", "gauge"].contains(&kind), "{name} is a {kind}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            let before = samples.len();
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let labels = series.strip_prefix(name).unwrap();
                assert!(labels.is_empty() || are_labels(labels), "{line}");
                assert!(is_number(value), "{line}");
                let other = samples.insert(series.to_owned(), value.to_owned());
                assert!(other.is_none(), "{series} comes twice");
            }
            assert!(samples.len() > before, "{name} has no sample");
        }
        Self(samples)
    }

    /// A whole number.
    fn value(&self, series: &str) -> u64 {
        self.text(series).parse().unwrap()
    }

    fn text(&self, series: &str) -> &str {
        self.0.get(series).unwrap_or_else(|| panic!("no {series}"))
    }

    /// What has moved since `before`, as `series +1`, without bytes and what the machine tells.
    fn moved(&self, before: &Self) -> BTreeSet<String> {
        let is_exact = |series: &str| !series.starts_with("process_") && !series.contains("_bytes");
        let names: Vec<_> = self.0.keys().collect();
        assert_eq!(names, before.0.keys().collect::<Vec<_>>(), "series come and go");
        names
            .into_iter()
            .filter(|series| is_exact(series))
            .map(|series| {
                (series, self.value(series).cast_signed() - before.value(series).cast_signed())
            })
            .filter(|(_, by)| *by != 0)
            .map(|(series, by)| format!("{series} {by:+}"))
            .collect()
    }
}

/// `12` or `12.34`.
fn is_number(text: &str) -> bool {
    let (whole, part) = text.split_once('.').unwrap_or((text, "00"));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !whole.is_empty() && are_digits(whole) && part.len() == 2 && are_digits(part)
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// `{name="value",..}`, whose values have nothing to escape.
fn are_labels(text: &str) -> bool {
    let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    inside.is_some_and(|inside| {
        inside.split(',').all(|label| {
            label.split_once('=').is_some_and(|(name, value)| {
                let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
                is_name(name) && value.is_some_and(|value| value.bytes().all(is_plain))
            })
        })
    })
}

/// What moves with `calls` connections of one request each and one scrape before, which is a page, and these.
fn expected(calls: usize, pages: usize, others: &[&str]) -> BTreeSet<String> {
    let page = "tetherlet_http_requests_total{binding=\"page\",version=\"none\",outcome=\"ok\"}";
    let mut all: BTreeSet<String> = others.iter().map(|&other| other.to_owned()).collect();
    all.insert(format!("tetherlet_connections_accepted_total +{}", calls + 1));
    all.insert(format!("{page} +{}", pages + 1));
    all
}

/// A request with this head line and version.
fn ask(agent: &Agent, line: &str, version: &str, body: &str) -> u16 {
    let head = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nA2A-Version: {version}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(agent.address, head.as_bytes()).status
}

/// A message of 1.0, which is also one of 0.3's REST binding but for the name of its parts.
fn message_1(parts: &str) -> String {
    let mut message = json!({"messageId": "m", "role": "ROLE_USER"});
    message[parts] = json!([{"text": "25*4"}]);
    json!({"message": message}).to_string()
}

#[test]
fn each_binding_and_version_has_its_own_counts() {
    let agent = Agent::start(&[], &[]);
    let before = Page::of(&agent);
    agent.send("25*4");
    agent.send("25*4");
    let rpc: Value = serde_json::from_str(&message_1("parts")).unwrap();
    assert_eq!(ask(&agent, "POST /", "1.0", &request("SendMessage", rpc)), 200);
    assert_eq!(ask(&agent, "POST /message:send", "1.0", &message_1("parts")), 200);
    assert_eq!(ask(&agent, "POST /v1/message:send", "0.3", &message_1("content")), 200);
    assert_eq!(agent.get("/health").status, 200);
    assert_eq!(
        Page::of(&agent).moved(&before),
        expected(
            6,
            1,
            &[
                "tetherlet_http_requests_total{binding=\"jsonrpc\",version=\"0.3\",outcome=\"ok\"} +2",
                "tetherlet_http_requests_total{binding=\"jsonrpc\",version=\"1.0\",outcome=\"ok\"} +1",
                "tetherlet_http_requests_total{binding=\"rest\",version=\"0.3\",outcome=\"ok\"} +1",
                "tetherlet_http_requests_total{binding=\"rest\",version=\"1.0\",outcome=\"ok\"} +1",
                "tetherlet_tasks_submitted_total +5",
                "tetherlet_tasks_finished_total{state=\"completed\"} +5",
                "tetherlet_tasks{state=\"completed\"} +5",
            ]
        )
    );
}

#[test]
fn what_is_refused_is_counted_by_its_reason() {
    let agent = Agent::start(&[], &[]);
    let task = agent.send("25*4");
    let before = Page::of(&agent);
    agent.post("/", "{");
    agent.rpc("tasks/nothing", json!({}));
    agent.rpc("tasks/get", json!({"id": "00000000-0000-4000-8000-000000000000"}));
    agent.rpc("tasks/cancel", json!({"id": task["id"]}));
    agent.rpc("message/send", message(" "));
    assert_eq!(ask(&agent, "GET /nowhere", "1.0", ""), 404);
    assert_eq!(ask(&agent, "PUT /message:send", "1.0", ""), 405);
    assert_eq!(ask(&agent, "GET /v1/tasks/x", "1.0", ""), 400);
    assert_eq!(ask(&agent, "PUT /health", "1.0", ""), 405);
    assert_eq!(exchange(agent.address, b"GET /health HTTP/1.1\r\n\r\n").status, 400);
    assert_eq!(
        Page::of(&agent).moved(&before),
        expected(
            10,
            0,
            &[
                "tetherlet_errors_total{error=\"parse\"} +1",
                "tetherlet_errors_total{error=\"method_not_found\"} +1",
                "tetherlet_errors_total{error=\"task_not_found\"} +1",
                "tetherlet_errors_total{error=\"task_not_cancelable\"} +1",
                "tetherlet_errors_total{error=\"invalid_params\"} +1",
                "tetherlet_errors_total{error=\"no_such_path\"} +1",
                "tetherlet_errors_total{error=\"method_not_allowed\"} +1",
                "tetherlet_errors_total{error=\"version_not_supported\"} +1",
                "tetherlet_http_requests_total{binding=\"jsonrpc\",version=\"0.3\",outcome=\"refused\"} +5",
                "tetherlet_http_requests_total{binding=\"rest\",version=\"0.3\",outcome=\"refused\"} +1",
                "tetherlet_http_requests_total{binding=\"rest\",version=\"1.0\",outcome=\"refused\"} +2",
                "tetherlet_http_requests_total{binding=\"page\",version=\"none\",outcome=\"refused\"} +2",
            ]
        )
    );
}

#[test]
fn what_is_full_is_counted_and_the_page_is_told_even_then() {
    let limits = "connections = 4\nstreams = 1\nper-address = 4\ncaller-tasks = 1";
    let agent = Agent::configured(&format!("[limits]\n{limits}\n"), &[]);
    let before = Page::of(&agent);
    let mut first = agent.stream("message/stream", message("remember door code"));
    assert_eq!(first.next().unwrap()["kind"], "task");
    let asked = first.rest();
    assert_eq!(asked[0]["status"]["state"], "input-required");
    let id = json!({"id": asked[0]["taskId"]});
    let mut open = agent.stream("tasks/resubscribe", id);
    open.next().unwrap();
    let again = request("message/stream", message("25*4"));
    assert_eq!(agent.post("/", &again).status, 503);
    assert_eq!(agent.post("/", &request("message/send", message("25*4"))).status, 503);
    let others: Vec<TcpStream> = (0..3).map(|_| connect(agent.address)).collect();
    assert_eq!(agent.post("/", &again).status, 503);
    let rpc = "tetherlet_http_requests_total{binding=\"jsonrpc\",version=\"0.3\"";
    assert_eq!(
        Page::of(&agent).moved(&before),
        expected(
            8,
            0,
            &[
                "tetherlet_busy_total{reason=\"streams\"} +1",
                "tetherlet_busy_total{reason=\"share\"} +1",
                "tetherlet_busy_total{reason=\"connections\"} +1",
                "tetherlet_errors_total{error=\"busy\"} +3",
                &format!("{rpc},outcome=\"ok\"}} +2"),
                &format!("{rpc},outcome=\"busy\"}} +3"),
                "tetherlet_connections +4",
                "tetherlet_streams +1",
                "tetherlet_streams_opened_total +2",
                "tetherlet_tasks_submitted_total +1",
                "tetherlet_tasks{state=\"input-required\"} +1",
            ]
        )
    );
    drop(others);
}

#[test]
fn tasks_that_make_room_are_counted_and_the_limits_are_told() {
    let agent = Agent::configured("[limits]\ntasks = 4\nstore-bytes = \"4MiB\"\n", &[]);
    let before = Page::of(&agent);
    for _ in 0..6 {
        agent.send("25*4");
    }
    assert_eq!(agent.send("1/0")["status"]["state"], "failed");
    assert_eq!(agent.send("what is love")["status"]["state"], "rejected");
    let after = Page::of(&agent);
    assert_eq!(
        after.moved(&before),
        expected(
            8,
            0,
            &[
                "tetherlet_http_requests_total{binding=\"jsonrpc\",version=\"0.3\",outcome=\"ok\"} +8",
                "tetherlet_tasks_submitted_total +8",
                "tetherlet_tasks_finished_total{state=\"completed\"} +6",
                "tetherlet_tasks_finished_total{state=\"failed\"} +1",
                "tetherlet_tasks_finished_total{state=\"rejected\"} +1",
                "tetherlet_tasks_evicted_total +4",
                "tetherlet_tasks{state=\"completed\"} +2",
                "tetherlet_tasks{state=\"failed\"} +1",
                "tetherlet_tasks{state=\"rejected\"} +1",
            ]
        )
    );
    assert!(after.value("tetherlet_leased_bytes{pool=\"store\"}") > 0);
    assert_eq!(after.value("tetherlet_leased_limit_bytes{pool=\"store\"}"), 4_194_304);
    assert_eq!(after.value("tetherlet_tasks_limit"), 4);
}

#[test]
fn a_relay_is_counted_once_by_its_end() {
    let begun = Script::stream().piece(Form::OpenAi.opening()).piece(Form::OpenAi.token("one "));
    let provider = Provider::start([
        Script::good(Form::OpenAi, &["The ", "sea."]),
        begun.clone().hold(),
        Script::reply(401, &[("Content-Type", "application/json")], "{}"),
        begun.gate(),
    ]);
    let url = provider.url();
    let agent = Agent::configured(QUICK, &[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", &url)]);
    let before = Page::of(&agent);
    for state in ["completed", "failed", "failed"] {
        let task = agent.send("Tell me about tides");
        assert_eq!(task["status"]["state"], state, "{task}");
    }
    // One runs and one waits; the first is cancelled, and then the second, which never ran.
    let mut params = message("Tell me about tides");
    params["configuration"]["blocking"] = json!(false);
    let first = agent.result("message/send", params.clone());
    let second = agent.result("message/send", params);
    provider.wait(Event::Waiting(3));
    let busy = Page::of(&agent);
    assert_eq!(busy.value("tetherlet_relays_running"), 1);
    assert_eq!(busy.value("tetherlet_relays_waiting"), 1);
    assert!(busy.value("tetherlet_leased_bytes{pool=\"work\"}") > 0);
    for task in [second, first] {
        agent.result("tasks/cancel", json!({"id": task["id"]}));
    }
    provider.wait(Event::HungUp(provider.asked(3).connection));
    let running = |page: &Page| page.value("tetherlet_relays_running");
    let mut scrapes = 1;
    let after = loop {
        let page = Page::of(&agent);
        scrapes += 1;
        if running(&page) == 0 {
            break page;
        }
    };
    assert_eq!(
        after.moved(&before),
        expected(
            7 + scrapes - 1,
            scrapes - 1,
            &[
                "tetherlet_http_requests_total{binding=\"jsonrpc\",version=\"0.3\",outcome=\"ok\"} +7",
                "tetherlet_tasks_submitted_total +5",
                "tetherlet_tasks_finished_total{state=\"completed\"} +1",
                "tetherlet_tasks_finished_total{state=\"failed\"} +2",
                "tetherlet_tasks_finished_total{state=\"canceled\"} +2",
                "tetherlet_tasks{state=\"completed\"} +1",
                "tetherlet_tasks{state=\"failed\"} +2",
                "tetherlet_tasks{state=\"canceled\"} +2",
                "tetherlet_relays_started_total +4",
                "tetherlet_relays_finished_total{outcome=\"ok\"} +1",
                "tetherlet_relays_finished_total{outcome=\"stalled\"} +1",
                "tetherlet_relays_finished_total{outcome=\"unauthorized\"} +1",
                "tetherlet_relays_finished_total{outcome=\"canceled\"} +1",
                "tetherlet_model_tokens_total{direction=\"input\"} +11",
                "tetherlet_model_tokens_total{direction=\"output\"} +7",
            ]
        )
    );
}

#[test]
fn the_process_has_its_usual_figures() {
    let agent = Agent::start(&[], &[]);
    // On a connection that stays, so that it is counted here as it was there.
    let mut stream = connect(agent.address);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\nprocess_threads 1\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    let page = Page::read(&Reply::parse(&said).body);
    let kernel = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", agent.pid()));
    // The agent shows its files to itself and to root alone.
    match std::fs::read_dir(format!("/proc/{}/fd", agent.pid())) {
        Ok(open) => assert_eq!(page.value("process_open_fds"), open.count() as u64),
        Err(_) => assert!(!rustix::process::geteuid().is_root()),
    }
    drop(stream);
    let most = kernel("limits").unwrap();
    let most = most.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let most: u64 = most.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert_eq!(page.value("process_max_fds"), most);
    let resident = page.value("process_resident_memory_bytes");
    assert!(resident >= 500_000 && resident <= page.value("process_virtual_memory_bytes"));
    // Told alike every time, and so no restart.
    let again = Page::of(&agent);
    let start = page.text("process_start_time_seconds");
    assert_eq!(again.text("process_start_time_seconds"), start);
    let seconds = |text: &str| text.parse::<f64>().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((now - 600.0..=now).contains(&seconds(start)), "{start} {now}");
    let cpu = |page: &Page| seconds(page.text("process_cpu_seconds_total"));
    assert!(cpu(&again) >= cpu(&page));
}
