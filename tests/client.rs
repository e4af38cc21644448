//! The program, and the library, as a client: of the real agent in every version and binding, and of a server on
//! loopback that answers as other agents do, or as none should.
#![expect(clippy::disallowed_methods, reason = "tests have deadlines and threads of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

#[path = "support/provider.rs"]
mod provider;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};

use provider::{Asked, Event as Seen, Provider, Script};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{Agent, DEADLINE, Home, program};
use tetherlet::outbound::client::{
    Binding, Call, Client, ClientError, Event, Filter, Outgoing, State, Version, Wanted,
};

/// The flags for every version and binding.
const FORMS: [&[&str]; 4] = [
    &["--protocol", "1.0", "--binding", "jsonrpc"],
    &["--protocol", "1.0", "--binding", "rest"],
    &["--protocol", "0.3", "--binding", "jsonrpc"],
    &["--protocol", "0.3", "--binding", "rest"],
];

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// What was printed by a run that did what it should.
fn printed(output: &Output) -> &str {
    assert_eq!((output.status.code(), err(output)), (Some(0), ""), "{}", out(output));
    out(output)
}

/// What was said by a run that failed, on stderr.
fn complaint(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1), "{}{}", out(output), err(output));
    assert!(!err(output).contains("panicked"), "{}", err(output));
    err(output)
}

fn run(arguments: &[&str]) -> Output {
    let home = Home::new();
    let child = program(&home.0)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _watch = watch(&child);
    child.wait_with_output().unwrap()
}

/// Kills the program when it goes on for too long; its test then fails. Holding the sender is what counts.
fn watch(child: &Child) -> Sender<()> {
    let pid = Pid::from_child(child);
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        if receiver.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    sender
}

/// A run that is read while it goes on; ended when dropped.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    _watch: Sender<()>,
    _home: Home,
}

impl Running {
    fn new(arguments: &[&str]) -> Self {
        let home = Home::new();
        let mut child = program(&home.0)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { _watch: watch(&child), child, out, _home: home }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    fn bytes(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.out.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// The rest of its output, and its exit code.
    fn rest(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json_reply(body: &Value) -> Script {
    Script::reply(200, &[("Content-Type", "application/json")], &body.to_string())
}

/// A JSON-RPC reply.
fn result(result: &Value) -> Script {
    json_reply(&json!({"jsonrpc": "2.0", "id": 1, "result": result}))
}

fn status(code: u16) -> Script {
    Script::reply(code, &[], "")
}

/// An event stream of these objects.
fn events(items: &[Value]) -> Script {
    items.iter().fold(Script::stream(), |script, item| script.piece(provider::frame(item)))
}

/// A card with one interface.
fn card(url: &str, binding: &str, version: &str) -> Script {
    json_reply(&json!({"name": "x", "supportedInterfaces": [
        {"url": url, "protocolBinding": binding, "protocolVersion": version}]}))
}

/// A card of 1.0 over JSON-RPC at a host that is whatever was typed.
fn new_card() -> Script {
    card("http://0.0.0.0/rpc", "JSONRPC", "1.0")
}

fn old_rest_card() -> Script {
    json_reply(&json!({"name": "x", "url": "http://0.0.0.0/rest", "protocolVersion": "0.3.0",
        "preferredTransport": "HTTP+JSON"}))
}

fn done(text: &str) -> Value {
    json!({"task": {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_COMPLETED"},
        "artifacts": [{"artifactId": "a", "parts": [{"text": text}]}]}})
}

fn piece(id: &str, text: &str, append: bool) -> Value {
    json!({"artifactUpdate": {"taskId": "t", "contextId": "c", "append": append,
        "artifact": {"artifactId": id, "parts": [{"text": text}]}}})
}

fn now(state: &str) -> Value {
    json!({"statusUpdate": {"taskId": "t", "contextId": "c", "status": {"state": state}}})
}

fn begun() -> Value {
    json!({"task": {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}}})
}

fn in_rpc(items: &[Value]) -> Vec<Value> {
    items.iter().map(|item| json!({"jsonrpc": "2.0", "id": 1, "result": item})).collect()
}

fn asked_for(asked: &Asked) -> (&str, &str, Option<&str>) {
    (&asked.method, &asked.path, asked.header("a2a-version"))
}

#[test]
fn every_verb_works_in_every_version_and_binding() {
    let agent = Agent::start(&[], &[]);
    for form in FORMS {
        let run = |words: &[&str]| agent.run(&[&words[..1], form, &words[1..]].concat());
        assert_eq!(printed(&run(&["send", "25*4"])), "100\n", "{form:?}");
        assert_eq!(printed(&run(&["send", "--stream", "25*4"])), "100\n", "{form:?}");
        assert_eq!(printed(&run(&["send", "--skill", "calculator", "25 * 4"])), "100\n");
        assert!(complaint(&run(&["send", "1/0"])).contains("failed: "), "{form:?}");

        let asked = run(&["send", "--json", "--context", "talk", "remember door code"]);
        let task: Value = serde_json::from_str(out(&asked)).unwrap();
        assert_eq!(task["contextId"], "talk", "{form:?}");
        let id = task["id"].as_str().unwrap();
        assert!(err(&asked).contains(&format!("tetherlet send --task {id} TEXT")), "{form:?}");
        assert!(printed(&run(&["get", id])).starts_with(&format!("{id} input-required\nwhat ")));
        let answer = run(&["send", "--task", id, "4711"]);
        assert!(printed(&answer).starts_with("stored `door code`"), "{form:?}");
        assert!(printed(&run(&["get", id])).starts_with(&format!("{id} completed\nstored ")));
        assert!(printed(&run(&["subscribe", id])).starts_with("stored "), "{form:?}");
        assert!(complaint(&run(&["cancel", id])).contains("(-32002)"), "{form:?}");

        let asked = agent.send("remember door code");
        let id = asked["id"].as_str().unwrap();
        assert!(printed(&run(&["cancel", id])).starts_with(&format!("{id} canceled\n")));
        for verb in ["get", "cancel", "subscribe"] {
            assert!(complaint(&run(&[verb, "no/such"])).contains("(-32001)"), "{form:?} {verb}");
        }
        assert!(complaint(&run(&["send", "--skill", "cook", "x"])).contains("(-32602)"));
    }
}

#[test]
fn a_subscription_shows_the_question_and_then_the_answer() {
    let agent = Agent::start(&[], &[]);
    for form in FORMS {
        let asked = agent.send("remember door code");
        let id = asked["id"].as_str().unwrap();
        let url = agent.url();
        let mut reader = Running::new(&[&["subscribe"], form, &[&url, id]].concat());
        assert_eq!(reader.line(), "what should be stored under `door code`?\n", "{form:?}");
        printed(&agent.run(&["send", "--task", id, "4711"]));
        let (rest, code) = reader.rest();
        assert!(rest.starts_with("stored `door code`") && rest.ends_with('\n'), "{rest}");
        assert_eq!((rest.lines().count(), code), (1, Some(0)), "{form:?}: {rest}");
    }
}

#[test]
fn a_list_has_a_line_for_each_task_that_is_asked_for() {
    let agent = Agent::start(&[], &[]);
    assert_eq!(printed(&agent.run(&["list"])), "");
    let question = agent.send("remember door code");
    let ids: Vec<Value> =
        (0..25).map(|number| agent.send(&format!("{number}+1"))["id"].clone()).collect();
    for form in &FORMS[..2] {
        let list = |words: &[&str]| {
            let output = agent.run(&[&["list"], *form, words].concat());
            printed(&output).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let all = list(&[]);
        assert_eq!(all.len(), 26, "{all:#?}");
        for line in &all {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(words[2].ends_with('Z') && words[2].len() == 20, "{line}");
            let at = ids.iter().position(|id| id == words[0]);
            match at {
                Some(at) => assert_eq!((words[1], words[3]), ("completed", &*(at + 1).to_string())),
                None => assert!(line.contains(" input-required ") && line.ends_with("door code`?")),
            }
        }
        assert_eq!(list(&["--limit", "22"]), all[..22]);
        assert_eq!(list(&["--limit", "0"]), [""; 0]);
        let waiting = list(&["--status", "input-required"]);
        assert!(waiting.len() == 1 && waiting[0].starts_with(question["id"].as_str().unwrap()));
        let context = question["contextId"].as_str().unwrap();
        assert_eq!(list(&["--context", context]), waiting);
        let objects = list(&["--json", "--limit", "21"]);
        assert_eq!(objects.len(), 21);
        for (object, line) in objects.iter().zip(&all) {
            let task: Value = serde_json::from_str(object).unwrap();
            assert!(line.starts_with(task["id"].as_str().unwrap()), "{object}");
        }
    }
    let output = agent.run(&["list", "--protocol", "0.3"]);
    assert!(complaint(&output).contains("over A2A 0.3, which has no list of tasks"));
}

#[test]
fn a_list_goes_from_page_to_page_until_an_agent_repeats_itself() {
    let page = |ids: [&str; 2], next: &str| {
        let task = |id| {
            json!({"id": id, "status": {"state": "TASK_STATE_WORKING"},
            "history": [{"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "\n one\ntwo"}]}]})
        };
        result(&json!({"tasks": ids.map(task), "nextPageToken": next}))
    };
    let pages =
        [new_card(), page(["1", "2"], "more"), page(["3", "4"], "more"), page(["5", "6"], "")];
    let agent = Provider::start(pages);
    let output = run(&["list", &agent.url()]);
    let lines: Vec<&str> = printed(&output).lines().collect();
    let first = "1 working        -                    one";
    assert_eq!((lines.len(), lines[0]), (4, first));
    let asked: Vec<Value> =
        agent.requests()[1..].iter().map(|asked| asked.json()["params"].clone()).collect();
    assert_eq!(asked.len(), 2);
    assert_eq!((&asked[0]["pageSize"], &asked[0]["pageToken"]), (&json!(20), &Value::Null));
    assert_eq!(
        (&asked[0]["historyLength"], &asked[0]["includeArtifacts"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(asked[1]["pageToken"], "more");
}

#[test]
fn the_card_and_the_call_share_one_connection() {
    let agent = Provider::start([new_card(), result(&done("hi"))]);
    assert_eq!(printed(&run(&["send", &agent.url(), "hello"])), "hi\n");
    let requests = agent.requests();
    assert_eq!(asked_for(&requests[0]), ("GET", "/.well-known/agent-card.json", None));
    assert_eq!(asked_for(&requests[1]), ("POST", "/rpc", Some("1.0")));
    assert_eq!(requests[1].json()["method"], "SendMessage");
    assert_eq!((requests.len(), requests[1].connection), (2, 0));
    assert!(!agent.log().contains(&Seen::Connected(1)));
}

#[test]
fn an_agent_is_talked_to_as_its_card_says() {
    let send = "message/send";
    let old = json!({"kind": "task", "id": "t", "contextId": null, "status": {"state": "completed",
        "message": {"messageId": "m", "role": "agent", "parts": [{"kind": "text", "text": "hi"}]}}});
    let new = result(&done("hi"));
    // CodeTether's hub, CodeTether's spawn, 0.2, no card at all.
    let hub = json!({"name": "hub", "url": "http://0.0.0.0/", "protocol_version": "0.3",
        "additional_interfaces": [{"transport": "livekit", "url": "/v1/livekit/token"}]});
    let snake = json!({"supported_interfaces": [{"url": "http://0.0.0.0/s",
        "protocol_binding": "JSONRPC", "protocol_version": "1.0"}]});
    let early = json!({"name": "x", "url": "http://0.0.0.0/early", "protocolVersion": "0.2.5"});
    let none = || vec![status(404), status(404)];
    for (cards, reply, path, version, method) in [
        (vec![json_reply(&hub)], result(&old), "/", None, send),
        (vec![json_reply(&snake)], new.clone(), "/s", Some("1.0"), "SendMessage"),
        (vec![status(404), json_reply(&early)], result(&old), "/early", None, send),
        (vec![json_reply(&json!({"name": "x"}))], result(&old), "/base", None, send),
        (none(), result(&old), "/base", None, send),
    ] {
        let fetched = cards.len();
        let agent = Provider::start(cards.into_iter().chain([reply]));
        let url = format!("{}/base", agent.url());
        assert_eq!(printed(&run(&["send", &url, "hello"])), "hi\n", "{path}");
        let asked = agent.asked(fetched);
        assert_eq!(asked_for(&asked), ("POST", path, version));
        assert_eq!(asked.json()["method"], method, "{path}");
    }
    // Flags say what a missing, or a broken, card does not.
    for cards in [none(), vec![Script::reply(200, &[], "<html>")], vec![status(500)]] {
        let fetched = cards.len();
        let agent = Provider::start(cards.into_iter().chain([json_reply(&done("hi"))]));
        let url = agent.url();
        let arguments = [&["send"], FORMS[1], &["--tenant", "a b", &url, "hello"]].concat();
        assert_eq!(printed(&run(&arguments)), "hi\n");
        let asked = agent.asked(fetched);
        assert_eq!(asked_for(&asked), ("POST", "/a%20b/message:send", Some("1.0")));
    }
}

#[test]
fn a_card_that_cannot_be_used_says_why() {
    let grpc =
        json!({"url": "http://0.0.0.0", "preferredTransport": "GRPC", "protocolVersion": "0.3.0"});
    let file = json!({"url": "file:///etc/passwd"});
    let old = json!({"url": "http://0.0.0.0", "protocolVersion": "0.3.0"});
    let html = || Script::reply(200, &[], "<html>hello</html>");
    let moved = Script::reply(301, &[("Location", "https://elsewhere/")], "");
    let long = Script::reply(200, &[], &format!("{{\"name\":\"{}\"}}", "x".repeat(1024 * 1024)));
    for (card, flags, said) in [
        (json_reply(&grpc), &[][..], "names no interface that fits; it has: 0.3.0 GRPC"),
        (json_reply(&file), &[], "file:///etc/passwd is no http or https URL"),
        (json_reply(&old), &["--protocol", "1.0"], "it has: 0.3.0 JSONRPC"),
        (json_reply(&old), &["--tenant", "t"], "it has: 0.3.0 JSONRPC"),
        (html(), &[], "the agent card is no JSON object"),
        (long, &[], "longer than 1048576 bytes"),
        (
            moved,
            &[],
            "moved to https://elsewhere/ (HTTP status 301), and redirects are not followed",
        ),
        (status(401), &[], "HTTP status 401"),
    ] {
        let agent = Provider::start([card]);
        let url = agent.url();
        let output = run(&[&["send"], flags, &[&url, "hello"]].concat());
        assert!(complaint(&output).contains(said), "{said}: {}", err(&output));
        assert_eq!((agent.requests().len(), out(&output)), (1, ""), "{said}");
    }
    let output = run(&["send", "--protocol", "0.3", "--tenant", "t", "http://127.0.0.1:1", "x"]);
    assert!(complaint(&output).contains("0.3 has no tenants"));
    let home = Home::new();
    for url in ["ftp://box", "box", "http://user:canary@box"] {
        let output =
            program(&home.0).args(["get", "x"]).env("TETHERLET_URL", url).output().unwrap();
        assert!(complaint(&output).contains("no http or https URL"), "{}", err(&output));
        assert!(!err(&output).contains("canary"));
    }
}

#[test]
fn what_a_card_says_of_other_hosts_does_not_lead_away_from_this_machine() {
    for elsewhere in ["http://192.0.2.1:9/rpc", "https://agent.example/rpc", "http://[::]:9/rpc"] {
        let agent = Provider::start([card(elsewhere, "JSONRPC", "1.0"), result(&done("hi"))]);
        assert_eq!(printed(&run(&["send", &agent.url(), "hello"])), "hi\n");
        assert_eq!(agent.asked(1).path, "/rpc");
    }
    // Another port of this machine is one.
    let other = Provider::start([result(&done("there"))]);
    let agent = Provider::start([card(&format!("{}/rpc", other.url()), "JSONRPC", "1.0")]);
    assert_eq!(printed(&run(&["send", &agent.url(), "hello"])), "there\n");
    // The agent of this machine is reached where its configuration says, whatever it tells others.
    let public = Agent::start(&["--public-url", "https://agent.example/garden"], &[]);
    let port = public.address.port().to_string();
    let mut command = program(&public.home.0);
    let command = command.args(["send", "25*4"]).env("TETHERLET_LISTEN_PORT", &port);
    assert_eq!(printed(&command.output().unwrap()), "100\n");
}

#[test]
fn the_rest_binding_of_0_3_is_that_of_the_official_sdk() {
    let task = json!({"task": {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_COMPLETED",
            "message": {"messageId": "m", "role": "ROLE_AGENT", "content": [{"text": "done"}]}},
        "history": [{"messageId": "m0", "role": "ROLE_USER", "content": [{"text": "hello"}]}]}});
    let agent = Provider::start([old_rest_card(), json_reply(&task)]);
    assert_eq!(printed(&run(&["send", &agent.url(), "hello"])), "done\n");
    let asked = agent.asked(1);
    assert_eq!(asked_for(&asked), ("POST", "/rest/v1/message:send", None));
    let body = asked.json();
    let message = &body["message"];
    assert_eq!(
        (&message["role"], &message["content"]),
        (&json!("ROLE_USER"), &json!([{"text": "hello"}]))
    );
    assert!(message["kind"].is_null() && message["parts"].is_null());
    assert_eq!(body["configuration"], json!({"blocking": true}));

    let agent = Provider::start([old_rest_card(), json_reply(&task["task"])]);
    assert_eq!(printed(&run(&["get", &agent.url(), "t"])), "t completed\ndone\n");
    assert_eq!(asked_for(&agent.asked(1)), ("GET", "/rest/v1/tasks/t", None));

    let gone = Script::reply(404, &[], r#"{"message":"Task not found"}"#);
    let agent = Provider::start([old_rest_card(), gone]);
    assert_eq!(
        complaint(&run(&["cancel", &agent.url(), "t"])),
        "tetherlet: Task not found (HTTP status 404)\n"
    );
    assert_eq!(asked_for(&agent.asked(1)), ("POST", "/rest/v1/tasks/t:cancel", None));
    // Its servers subscribe with GET only.
    let mut last = now("TASK_STATE_COMPLETED");
    last["statusUpdate"]["final"] = json!(true);
    let agent =
        Provider::start([old_rest_card(), status(405), events(&[piece("a", "hi", false), last])]);
    assert_eq!(printed(&run(&["subscribe", &agent.url(), "t"])), "hi\n");
    let path = "/rest/v1/tasks/t:subscribe";
    assert_eq!(asked_for(&agent.asked(1)), ("POST", path, None));
    assert_eq!(asked_for(&agent.asked(2)), ("GET", path, None));
}

#[test]
fn a_refusal_is_told_by_what_can_be_done_about_it() {
    let rpc = |error: Value| json!({"jsonrpc": "2.0", "id": 1, "error": error}).to_string();
    let seconds = &[("Retry-After", "7")][..];
    let text = |text: &str| text.to_owned();
    for (code, headers, body, wanted, said) in [
        (
            200,
            &[][..],
            rpc(json!({"code": -32001, "message": "gone\u{1b}[2J"})),
            ClientError::Refused { code: Some(-32001), status: 200, message: text("gone [2J") },
            "gone [2J (-32001)",
        ),
        (
            503,
            seconds,
            rpc(json!({"code": -32000, "message": "full"})),
            ClientError::Busy { retry_after_s: Some(7), message: text("full") },
            "full (busy; again in 7 s)",
        ),
        (
            200,
            &[],
            rpc(json!({"code": -32009, "message": "only 0.3"})),
            ClientError::Version { asked: Version::V1_0, message: text("only 0.3") },
            "the agent does not speak A2A 1.0: only 0.3 (-32009); try `--protocol 0.3`",
        ),
        (
            401,
            &[],
            String::new(),
            ClientError::Denied {
                status: 401,
                message: String::new(),
                sent: None,
                unasked: false,
                retry_after_s: None,
            },
            "the agent wants a token (HTTP status 401); give one with --token-file FILE, TETHERLET_TOKEN, \
             or token-file in [peers.NAME] of the configuration",
        ),
        (
            502,
            &[],
            text("<html>\nBad gateway"),
            ClientError::Http { status: 502, body: text("<html> Bad gateway") },
            "HTTP status 502: <html> Bad gateway",
        ),
        (
            200,
            &[],
            text(r#"{"jsonrpc":"2.0","id":1,"result":null}"#),
            ClientError::Http {
                status: 200,
                body: text(r#"{"jsonrpc":"2.0","id":1,"result":null}"#),
            },
            r#"HTTP status 200: {"jsonrpc":"2.0","id":1,"result":null}"#,
        ),
        (
            200,
            &[],
            text(r#"{"result":{"id":7}}"#),
            ClientError::Broken(text(r#"not a task or a message: {"id":7}"#)),
            r#"the agent's answer cannot be used: not a task or a message: {"id":7}"#,
        ),
    ] {
        let reply = Script::reply(code, headers, &body);
        let agent = Provider::start([new_card(), reply.clone(), new_card(), reply]);
        let output = run(&["get", &agent.url(), "t"]);
        assert_eq!(complaint(&output), format!("tetherlet: {said}\n"));
        let error = Client::connect(&agent.url()).unwrap().task("t", None).unwrap_err();
        assert_eq!(error, wanted);
    }
    let broken = [
        Script::reply(200, &[], &format!("{{\"result\":\"{}\"}}", "x".repeat(8 * 1024 * 1024))),
        Script::default().raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe"),
        Script::default().raw(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{\"result\"").close(),
    ];
    for reply in broken {
        let agent = Provider::start([new_card(), reply]);
        let error = Client::connect(&agent.url()).unwrap().task("t", None).unwrap_err();
        assert!(matches!(error, ClientError::Broken(_)), "{error:?}");
    }
}

#[test]
fn pieces_are_printed_as_they_come() {
    for (card, wrap) in [
        (new_card(), in_rpc as fn(&[Value]) -> Vec<Value>),
        (card("http://0.0.0.0/rest", "HTTP+JSON", "1.0"), <[Value]>::to_vec),
    ] {
        let items = wrap(&[
            begun(),
            piece("a", "one ", false),
            piece("a", "two", true),
            now("TASK_STATE_COMPLETED"),
        ]);
        let stream = items
            .iter()
            .fold(Script::stream(), |script, item| script.gate().piece(provider::frame(item)));
        // Nothing ends this connection: the final state does.
        let agent = Provider::start([card, stream.hold()]);
        let mut reader = Running::new(&["send", "--stream", &agent.url(), "hello"]);
        agent.go(1);
        agent.go(1);
        assert_eq!(reader.bytes(4), "one ");
        agent.go(1);
        assert_eq!(reader.bytes(3), "two");
        agent.go(1);
        assert_eq!(reader.rest(), ("\n".to_owned(), Some(0)));
    }
}

#[test]
fn what_comes_again_is_not_printed_again() {
    let whole = |text: &str| {
        let mut task = done(text);
        task["task"]["artifacts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"artifactId": "b", "parts": [{"text": "second "}, {"text": "artifact"}]}));
        task
    };
    for (items, wanted) in [
        // The whole task at the end, the same artifact whole, another artifact in between.
        (
            vec![
                begun(),
                piece("a", "one ", false),
                piece("a", "two", true),
                whole("one two three"),
            ],
            "one two three\nsecond artifact\n",
        ),
        (
            vec![
                begun(),
                piece("a", "one", false),
                piece("a", "one", false),
                now("TASK_STATE_COMPLETED"),
            ],
            "one\n",
        ),
        (
            vec![
                piece("a", "one", false),
                piece("b", "two", false),
                piece("b", "!", true),
                whole("one"),
            ],
            "one\ntwo!\nsecond artifact\n",
        ),
        // What was printed is no more: the new text stands on a line of its own.
        (
            vec![
                begun(),
                piece("a", "one", false),
                piece("a", "other", false),
                now("TASK_STATE_COMPLETED"),
            ],
            "one\nother\n",
        ),
    ] {
        let agent = Provider::start([new_card(), events(&in_rpc(&items)).end()]);
        let output = run(&["send", "--stream", &agent.url(), "hello"]);
        assert_eq!(printed(&output), wanted, "{items:?}");
    }
}

#[test]
fn a_stream_that_breaks_off_is_told_from_one_that_ends() {
    let begun = [begun(), piece("a", "one", false)];
    let on = |more: &[Value]| events(&in_rpc(&[&begun[..], more].concat()));
    let failure = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "boom"}});
    for (stream, said) in [
        (on(&[]).end(), "the stream broke off: it ended before the task did"),
        (on(&[]).close(), "the stream broke off: "),
        (on(&[now("TASK_STATE_WORKING")]).end(), "the stream broke off: "),
        (on(&[]).piece(format!("event: error\ndata: {failure}\n\n")).end(), "boom (-32603)"),
        (on(&[]).piece(provider::frame(&failure)).end(), "boom (-32603)"),
        (on(&[]).piece(b"data: \xff\n\n").end(), "the agent's answer cannot be used: "),
    ] {
        let agent = Provider::start([new_card(), stream]);
        let url = agent.url();
        let output = run(&["send", "--stream", &url, "hello"]);
        assert!(complaint(&output).starts_with(&format!("tetherlet: {said}")), "{}", err(&output));
        assert!(err(&output).ends_with(&format!("the task goes on: tetherlet get {url} t\n")));
        assert_eq!(out(&output), "one\n");
    }
    // A task that waits for its caller, a bare message, an answer that is no stream.
    let mut question = now("TASK_STATE_INPUT_REQUIRED");
    question["statusUpdate"]["status"]["message"] =
        json!({"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "which?"}]});
    let message =
        json!({"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "hi"}]}});
    for (stream, wanted) in [
        (on(&[question]).end(), "one\nwhich?\n"),
        (events(&in_rpc(&[message])).end(), "hi\n"),
        (result(&done("hi")), "hi\n"),
    ] {
        let agent = Provider::start([new_card(), stream]);
        let output = run(&["send", "--stream", &agent.url(), "hello"]);
        assert_eq!((output.status.code(), out(&output)), (Some(0), wanted), "{}", err(&output));
    }
    let agent = Provider::start([new_card(), result(&begun[0])]);
    let output = run(&["send", "--stream", &agent.url(), "hello"]);
    assert!(complaint(&output).contains("the task goes on; see `tetherlet get"));
}

#[test]
fn a_task_that_has_ended_is_shown_where_watching_it_is_refused() {
    let ended = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32004, "message": "ended"}});
    for refusal in [json_reply(&ended), events(&[ended]).end(), Script::stream().end()] {
        let task = result(&done("hi")["task"]);
        let agent = Provider::start([new_card(), refusal.clone(), task]);
        assert_eq!(printed(&run(&["subscribe", &agent.url(), "t"])), "hi\n");
        // One that goes on is not: that would look like its end.
        let agent = Provider::start([new_card(), refusal, result(&begun()["task"])]);
        assert!(!complaint(&run(&["subscribe", &agent.url(), "t"])).is_empty());
    }
}

#[test]
fn programs_get_owned_things_and_the_json_they_came_from() {
    let agent = Agent::start(&[], &[]);
    for (version, binding) in [
        (Version::V1_0, Binding::JsonRpc),
        (Version::V1_0, Binding::Rest),
        (Version::V0_3, Binding::JsonRpc),
        (Version::V0_3, Binding::Rest),
    ] {
        let wanted = Wanted { version: Some(version), binding: Some(binding), ..Wanted::default() };
        let client = Client::connect_as(&agent.url(), &wanted).unwrap();
        assert_eq!((client.interface().version, client.interface().binding), (version, binding));
        assert!(client.card().unwrap().skills.iter().any(|skill| skill.id == "calculator"));
        let sent = Outgoing { context_id: Some("talk".to_owned()), ..Outgoing::text("25*4") };
        let reply = client.send(&sent).unwrap();
        assert_eq!((reply.text().as_str(), reply.state()), ("100", State::Completed));
        let seen: Vec<Event> = client.stream(&sent).unwrap().map(Result::unwrap).collect();
        let Some(Event::Task(first)) = seen.first() else { panic!("{seen:?}") };
        let Some(Event::Status(last)) = seen.last() else { panic!("{seen:?}") };
        assert_eq!(last.status.state, State::Completed);
        let task = client.task(&first.id, Some(1)).unwrap();
        assert_eq!((task.text().as_str(), task.history.len()), ("100", 1));
        assert_eq!(task.context_id.as_deref(), Some("talk"));
        let raw = client.call(&Call::Get { id: &first.id, history_length: Some(1) }).unwrap();
        let json: Value = serde_json::from_str(raw.json()).unwrap();
        assert_eq!((&json["id"], raw.task().unwrap()), (&json!(first.id), task));
        let filter = Filter { page_size: Some(1), ..Filter::default() };
        match version {
            Version::V1_0 => {
                let page = client.tasks(&filter).unwrap();
                assert!(page.tasks.len() == 1 && page.next.is_some() && page.total >= Some(2));
            }
            Version::V0_3 => {
                assert!(matches!(client.tasks(&filter), Err(ClientError::Unusable(_))));
            }
        }
    }
}
