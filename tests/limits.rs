//! Every limit is met: what is over it has its answer, nobody else notices, and what was held comes back.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "tests have deadlines and threads of their own")]

mod support;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{
    Agent, DEADLINE, Events, Home, Reply, connect, message, post_bytes, program, reply_of, request,
};

/// Held by tests that open hundreds of connections: together they would want more than a process may have.
static CROWD: Mutex<()> = Mutex::new(());

/// How long a client that sends drop by drop waits between two.
const DROP: Duration = Duration::from_millis(50);

const GOOD: &str = "Host: localhost\r\nContent-Type: application/json\r\n";

fn calculation() -> String {
    request("message/send", message("25*4"))
}

/// A connection that is used for several requests.
struct Line {
    reader: BufReader<TcpStream>,
}

impl Line {
    fn open(address: SocketAddr) -> Self {
        Self { reader: BufReader::new(connect(address)) }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Sends a JSON-RPC request and keeps the connection.
    fn call(&mut self, body: &str) -> Reply {
        let head = format!("POST / HTTP/1.1\r\n{GOOD}Content-Length: {}\r\n\r\n", body.len());
        self.write(format!("{head}{body}").as_bytes());
        self.reply()
    }

    fn page(&mut self, path: &str) -> Reply {
        self.write(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        self.reply()
    }

    fn reply(&mut self) -> Reply {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.reader.read_line(&mut head).unwrap() > 0, "closed: {head}");
        }
        let mut reply = Reply::parse(head.as_bytes());
        let mut body = vec![0; reply.header("content-length").unwrap().parse().unwrap()];
        self.reader.read_exact(&mut body).unwrap();
        reply.body = String::from_utf8(body).unwrap();
        reply
    }

    /// What comes until the agent closes, which it must.
    fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => {
                panic!("the connection stays open: {error}")
            }
            Ok(_) | Err(_) => rest,
        }
    }
}

/// Sends one byte after the other, slowly, until the other side has had enough; returns what it said.
fn drip(mut stream: TcpStream, byte: u8) -> Vec<u8> {
    let end = Instant::now() + DEADLINE;
    stream.set_read_timeout(Some(DROP)).unwrap();
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    while Instant::now() < end {
        match stream.read(&mut buffer) {
            Ok(0) => return said,
            Ok(read) => said.extend_from_slice(&buffer[..read]),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                // A write into a closed connection is noticed by the next read.
                let _ = stream.write_all(&[byte]);
            }
            Err(_) => return said,
        }
    }
    panic!("the agent listens for ever: {}", String::from_utf8_lossy(&said));
}

/// Asks until the answer is the one that must come.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        if let Some(found) = ask() {
            return found;
        }
        std::thread::yield_now();
    }
    panic!("never: {what}");
}

/// What a busy agent says: the code, when to come back, both in the head and in the error. Through JSON-RPC of 0.3, or
/// as REST does where a page was asked for.
fn assert_busy(reply: &Reply, why: &str) {
    assert_eq!(reply.status, 503, "{reply:?}");
    let reply_json = reply.json();
    let error = &reply_json["error"];
    let seconds = if error["code"] == -32000 {
        error["data"]["retryAfterS"].to_string()
    } else {
        assert_eq!(error["code"], 503, "{reply:?}");
        let delay = error["details"][0]["retryDelay"].as_str().unwrap();
        delay.trim_end_matches('s').to_owned()
    };
    assert!(seconds.parse::<u32>().unwrap() > 0);
    assert_eq!(reply.header("retry-after"), Some(&*seconds));
    assert!(error["message"].as_str().unwrap().contains(why), "{reply:?}");
}

/// Runs a program that ends by itself.
fn ended(command: &mut Command) -> Output {
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (sender, output) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
    output.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        let _ = kill_process(pid, Signal::KILL);
        panic!("{command:?} does not end")
    })
}

fn assert_works(agent: &Agent) {
    assert_eq!(reply_of(&agent.send("25*4")), "100");
}

/// A task that waits for its caller.
fn unfinished(agent: &Agent) -> Value {
    let task = agent.send("remember door code");
    assert_eq!(task["status"]["state"], "input-required");
    task
}

#[test]
fn a_slow_head_is_closed_while_others_are_served() {
    let agent = Agent::configured("[limits]\nheader-wait-s = 1\nidle-wait-s = 600\n", &[]);
    let mut half = Line::open(agent.address);
    half.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-");
    let mut dripping = connect(agent.address);
    dripping.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nX: ").unwrap();
    // The second request of a connection has no more time than the first.
    let mut second = Line::open(agent.address);
    assert_eq!(second.page("/health").body, "ok");
    second.write(b"GET /hea");
    assert_works(&agent);
    assert_eq!(half.rest(), b"");
    assert_eq!(drip(dripping, b'x'), b"");
    assert_eq!(second.rest(), b"");
    assert_works(&agent);
}

#[test]
fn a_slow_body_is_told_so_while_others_are_served() {
    let agent = Agent::configured("[limits]\nbody-wait-s = 1\nidle-wait-s = 600\n", &[]);
    let head = format!("POST / HTTP/1.1\r\n{GOOD}Content-Length: 1000\r\n\r\n{{");
    let mut half = Line::open(agent.address);
    half.write(head.as_bytes());
    let mut dripping = connect(agent.address);
    dripping.write_all(head.as_bytes()).unwrap();
    let mut chunks = Line::open(agent.address);
    let coded = format!("POST / HTTP/1.1\r\n{GOOD}Transfer-Encoding: chunked\r\n\r\n5\r\n{{");
    chunks.write(coded.as_bytes());
    assert_works(&agent);
    for said in [half.rest(), drip(dripping, b' '), chunks.rest()] {
        let reply = Reply::parse(&said);
        assert_eq!(reply.status, 408, "{reply:?}");
        assert_eq!(reply.header("connection"), Some("close"));
    }
    assert_eq!(agent.status()["bytes"]["inFlight"], 0);
    assert_works(&agent);
}

#[test]
fn a_connection_without_a_request_is_closed() {
    // The other waits are beyond the deadline: only this one can end them.
    let others = "header-wait-s = 120\nbody-wait-s = 120\nwrite-wait-s = 120\n";
    let agent = Agent::configured(&format!("[limits]\nidle-wait-s = 1\n{others}"), &[]);
    let silent = Line::open(agent.address);
    let mut used = Line::open(agent.address);
    assert_eq!(used.page("/health").body, "ok");
    assert_eq!(reply_of(&used.call(&calculation()).json()["result"]), "100");
    let mut halves = Line::open(agent.address);
    halves.write(b"GET /health HTTP/1.1\r\n");
    assert_works(&agent);
    halves.write(b"Host: localhost\r\n\r\n");
    assert_eq!(halves.reply().body, "ok");
    for line in [silent, used, halves] {
        assert_eq!(line.rest(), b"");
    }
    // A stream is no idle connection: it outlasts two of these waits.
    let task = unfinished(&agent);
    let mut events = agent.stream("tasks/resubscribe", json!({"id": task["id"]}));
    assert_eq!(events.next().unwrap()["kind"], "task");
    for _ in 0..2 {
        assert_eq!(Line::open(agent.address).rest(), b"");
    }
    agent.result("tasks/cancel", json!({"id": task["id"]}));
    assert_eq!(events.next().unwrap()["status"]["state"], "canceled");
}

#[test]
fn a_reader_that_takes_nothing_is_dropped_and_nobody_else_waits() {
    let mut agent = Agent::configured("[limits]\nwrite-wait-s = 1\n", &[]);
    // A task whose reply is long, asked for more often than all buffers on the way can hold.
    let text = format!("Analyze text: {}", "word ".repeat(40_000));
    let task = agent.send(&text);
    assert_eq!(task["status"]["state"], "completed");
    let asked = 200;
    let body = request("tasks/get", json!({"id": task["id"]}));
    let one = format!("POST / HTTP/1.1\r\n{GOOD}Content-Length: {}\r\n\r\n{body}", body.len());
    let mut greedy = Line::open(agent.address);
    greedy.write(one.repeat(asked).as_bytes());
    assert_works(&agent);
    agent.wait_for(&format!("peer={} connection: ", greedy.reader.get_ref().local_addr().unwrap()));
    assert_works(&agent);
    // Only the questions that were asked meanwhile are connected now.
    assert_eq!(agent.status()["http"]["connections"], 1);
    let taken = greedy.rest();
    assert!(taken.len() < asked * text.len(), "{}", taken.len());
}

#[test]
fn above_the_connection_limit_only_monitors_are_answered() {
    let agent = Agent::configured("[limits]\nconnections = 4\nstreams = 4\nper-address = 4\n", &[]);
    let mut lines: Vec<Line> = (0..4).map(|_| Line::open(agent.address)).collect();
    for line in &mut lines {
        assert_eq!(line.page("/health").body, "ok");
    }
    assert_busy(&agent.post("/", &calculation()), "too many connections");
    assert_busy(&agent.get("/.well-known/agent-card.json"), "too many connections");
    assert_eq!(agent.status()["http"]["connectionsLimit"], 4);
    assert_eq!(agent.get("/health").body, "ok");
    assert_eq!(agent.get("/health/ready").body, "ready");
    assert_eq!(agent.get("/metrics").status, 200);
    // Those inside do not notice.
    for line in &mut lines {
        assert_eq!(reply_of(&line.call(&calculation()).json()["result"]), "100");
    }
    // Above the reserve, whoever has been in it longest makes room, and nobody else does.
    let mut reserve: Vec<Line> = (0..8).map(|_| Line::open(agent.address)).collect();
    for line in &mut reserve {
        assert_eq!(line.page("/health").body, "ok");
    }
    let mut late = Line::open(agent.address);
    assert_eq!(late.page("/health").body, "ok");
    assert_eq!(reserve.remove(0).rest(), b"");
    for line in &mut reserve {
        assert_eq!(line.page("/health").body, "ok");
    }
    for line in &mut lines {
        assert_eq!(reply_of(&line.call(&calculation()).json()["result"]), "100");
    }
    drop((late, lines, reserve));
    until("a place is free again", || {
        (agent.post("/", &calculation()).status == 200).then_some(())
    });
}

#[test]
fn out_of_the_box_there_are_96_connections_and_80_streams() {
    let agent = Agent::start(&[], &[]);
    let task = unfinished(&agent);
    let follow = request("tasks/resubscribe", json!({"id": task["id"]}));
    let streams: Vec<Events> = (0..80).map(|_| Events::open(agent.address, &follow)).collect();
    assert_busy(&agent.post("/", &follow), "too many event streams");
    let mut lines: Vec<Line> = (80..96).map(|_| Line::open(agent.address)).collect();
    for line in &mut lines {
        assert_eq!(line.page("/.well-known/agent-card.json").status, 200);
    }
    assert_busy(&agent.get("/.well-known/agent-card.json"), "too many connections");
    for _ in 0..20 {
        assert_eq!(agent.get("/health").body, "ok");
    }
    drop((streams, lines));
    until("a place is free again", || {
        (agent.get("/.well-known/agent-card.json").status == 200).then_some(())
    });
}

#[test]
fn whoever_leaves_in_the_middle_takes_nothing_along() {
    let agent = Agent::start(&[], &[]);
    let task = unfinished(&agent);
    let follow = request("tasks/resubscribe", json!({"id": task["id"]}));
    let expected =
        format!("POST / HTTP/1.1\r\n{GOOD}Expect: 100-continue\r\nContent-Length: 9999\r\n\r\n");
    let page = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for round in 0..30 {
        // What was said and not read makes the kernel answer with a reset.
        let mut body = Line::open(agent.address);
        body.write(expected.as_bytes());
        body.reader.fill_buf().unwrap();
        body.write(&[b' '; 5000]);
        let mut head = Line::open(agent.address);
        head.write(format!("{page}{page}POST / HT").as_bytes());
        head.reader.get_ref().peek(&mut [0]).unwrap();
        let mut stream = Events::open(agent.address, &follow);
        assert_eq!(stream.next().unwrap()["kind"], "task", "{round}");
        // And those who say that they will say no more, and stay.
        let mut half = Line::open(agent.address);
        half.write(b"POST / HTTP/1.1\r\nHost: localhost\r\n");
        half.reader.get_ref().shutdown(Shutdown::Write).unwrap();
        let half_head = half.rest();
        assert!(half_head.is_empty() || Reply::parse(&half_head).status == 400, "{half_head:?}");
        let mut half = Line::open(agent.address);
        half.write(format!("POST / HTTP/1.1\r\n{GOOD}Content-Length: 99\r\n\r\n{{").as_bytes());
        half.reader.get_ref().shutdown(Shutdown::Write).unwrap();
        let half_body = half.rest();
        assert!(half_body.is_empty() || Reply::parse(&half_body).status == 400, "{half_body:?}");
    }
    until("everything is given back", || {
        let status = agent.status();
        let http = &status["http"];
        (http["connections"] == 1 && http["streams"] == 0 && status["bytes"]["inFlight"] == 0)
            .then_some(())
    });
    assert_works(&agent);
}

#[test]
fn above_the_stream_limit_no_task_is_begun_either() {
    let agent = Agent::configured("[limits]\nstreams = 1\n", &[]);
    let task = unfinished(&agent);
    let first = agent.stream("tasks/resubscribe", json!({"id": task["id"]}));
    let submitted = agent.status()["tasks"]["submitted"].clone();
    let stream = request("message/stream", message("remember secret = 1"));
    assert_busy(&agent.post("/", &stream), "too many event streams");
    let again = request("tasks/resubscribe", json!({"id": task["id"]}));
    assert_busy(&agent.post("/", &again), "too many event streams");
    assert_eq!(agent.status()["tasks"]["submitted"], submitted);
    assert!(!reply_of(&agent.send("recall secret")).contains('1'));
    first.hang_up();
    until("the stream's place is free", || (agent.status()["http"]["streams"] == 0).then_some(()));
    let events = agent.stream("message/stream", message("25*4")).rest();
    assert_eq!(events.last().unwrap()["status"]["state"], "completed");
}

#[test]
fn a_caller_with_its_share_of_tasks_is_told_to_come_back() {
    let agent = Agent::configured("[limits]\ncaller-tasks = 2\n", &[]);
    let first = unfinished(&agent);
    unfinished(&agent);
    for method in ["message/send", "message/stream"] {
        let reply = agent.post("/", &request(method, message("remember window code")));
        assert_busy(&reply, "share of tasks");
    }
    assert_eq!(agent.status()["tasks"]["refusedBusy"], 2);
    agent.result("tasks/cancel", json!({"id": first["id"]}));
    unfinished(&agent);
    assert_busy(&agent.post("/", &calculation()), "share of tasks");
}

#[test]
fn a_store_full_of_unfinished_tasks_is_busy_until_one_ends() {
    let agent = Agent::configured("[limits]\ntasks = 4\n", &[]);
    let tasks: Vec<Value> = (0..4).map(|_| unfinished(&agent)).collect();
    assert_busy(&agent.post("/", &calculation()), "full of unfinished tasks");
    // None of them was given up for it.
    for task in &tasks {
        let state = agent.result("tasks/get", json!({"id": task["id"]}))["status"]["state"].clone();
        assert_eq!(state, "input-required");
    }
    agent.result("tasks/cancel", json!({"id": tasks[0]["id"]}));
    assert_works(&agent);
}

#[test]
fn the_oldest_finished_task_goes_first_and_unfinished_ones_stay() {
    let agent = Agent::configured("[limits]\ntasks = 4\n", &[]);
    let kept = unfinished(&agent);
    let done: Vec<Value> = (0..3).map(|_| agent.send("25*4")).collect();
    let code =
        |task: &Value| agent.rpc("tasks/get", json!({"id": task["id"]}))["error"]["code"].clone();
    assert!(done.iter().all(|task| code(task).is_null()));
    agent.send("25*4");
    assert_eq!(code(&done[0]), -32001);
    assert!(code(&done[1]).is_null() && code(&done[2]).is_null() && code(&kept).is_null());
    agent.send("25*4");
    assert_eq!(code(&done[1]), -32001);
    assert!(code(&done[2]).is_null() && code(&kept).is_null());
    // A message does not find the task that took the other's place.
    let mut stale = message("4711");
    stale["message"]["taskId"] = done[0]["id"].clone();
    assert_eq!(agent.rpc("message/send", stale)["error"]["code"], -32001);
    assert_eq!(agent.status()["tasks"]["evicted"], 2);
}

#[test]
fn tasks_make_room_for_each_other_in_bytes_too() {
    let agent = Agent::configured(
        "[limits]\nstore-bytes = \"64KiB\"\n[relay]\nreply-bytes = \"4KiB\"\n",
        &[],
    );
    let text = format!("Analyze text: {}", "word ".repeat(1000));
    for _ in 0..50 {
        assert_eq!(agent.send(&text)["status"]["state"], "completed");
        let status = agent.status();
        assert!(status["bytes"]["store"].as_u64() <= status["bytes"]["storeLimit"].as_u64());
    }
    // One that could never fit is refused as such, and is no reason to drop the others.
    let stored = agent.status()["tasks"]["stored"].clone();
    let huge = format!("Analyze text: {}", "word ".repeat(10_000));
    assert_eq!(agent.rpc("message/send", message(&huge))["error"]["code"], -32602);
    assert_eq!(agent.status()["tasks"]["stored"], stored);
}

#[test]
fn bodies_in_flight_are_bounded_together() {
    let limits = "[limits]\nbody-bytes = \"16KiB\"\nin-flight-bytes = \"64KiB\"\n";
    let agent = Agent::configured(limits, &[]);
    let head = format!("POST / HTTP/1.1\r\n{GOOD}Content-Length: 16000\r\n\r\n");
    let mut half = Line::open(agent.address);
    // What is only announced holds nothing; what has come holds three times its bytes.
    half.write(head.as_bytes());
    half.write(&[b' '; 15_999]);
    until("the first body is counted", || {
        (agent.status()["bytes"]["inFlight"].as_u64().unwrap() >= 47_000).then_some(())
    });
    let mut second = Line::open(agent.address);
    second.write(head.as_bytes());
    second.write(&[b' '; 15_999]);
    let reply = second.reply();
    assert_busy(&reply, "in flight");
    assert_eq!(second.rest(), b"");
    // Grown beyond what is left while it comes: the same.
    let pieces = format!("8000\r\n{}", " ".repeat(12_000));
    let mut third = Line::open(agent.address);
    third.write(
        format!("POST / HTTP/1.1\r\n{GOOD}Transfer-Encoding: chunked\r\n\r\n{pieces}").as_bytes(),
    );
    assert_busy(&third.reply(), "in flight");
    // Small ones still fit.
    assert_works(&agent);
    half.reader.get_ref().shutdown(Shutdown::Both).unwrap();
    until("its bytes are free", || (agent.status()["bytes"]["inFlight"] == 0).then_some(()));
    let body = calculation();
    let padded = format!("{body}{}", " ".repeat(16_000 - body.len()));
    assert_eq!(agent.post("/", &padded).status, 200);
}

#[test]
fn a_reply_takes_room_for_what_is_written_of_a_text() {
    let limits = "[limits]\nbody-bytes = \"64KiB\"\nin-flight-bytes = \"256KiB\"\n";
    let agent = Agent::configured(limits, &[]);
    // Each character is one byte in the store and six in a reply.
    let text = format!("hello {}", "\u{8}".repeat(10_000));
    let part = json!({"kind": "text", "text": text});
    let message = json!({"messageId": "m", "role": "user", "parts": [part, part]});
    let sent = agent.rpc("message/send", json!({"message": message}));
    let id = sent["result"]["id"].as_str().unwrap();
    let got = agent.rpc("tasks/get", json!({"id": id}));
    assert_eq!(got["result"]["history"][0]["parts"][1]["text"], *text);
    // Told twice, as the state and in the history, it is longer than replies may be together.
    let stored = agent.status()["tasks"]["stored"].clone();
    let at_once = json!({"message": message, "configuration": {"blocking": false}});
    assert_eq!(agent.rpc("message/send", at_once)["error"]["code"], -32004);
    assert_eq!(agent.status()["tasks"]["stored"], stored, "nothing was stored of it");
}

#[test]
fn the_memory_skill_keeps_to_its_bounds() {
    let agent = Agent::configured("[limits]\nmemory-keys = 2\nmemory-value-bytes = 64\n", &[]);
    for key in ["one", "two"] {
        assert_eq!(
            reply_of(&agent.send(&format!("remember {key} = 1"))),
            format!("stored `{key}`")
        );
    }
    let refused = agent.send("remember three = 1");
    assert_eq!(refused["status"]["state"], "failed");
    let long = agent.send(&format!("remember one = {}", "x".repeat(65)));
    assert_eq!(long["status"]["state"], "failed");
    agent.send("forget one");
    assert_eq!(reply_of(&agent.send("remember three = 1")), "stored `three`");
}

#[test]
fn a_task_waits_for_its_caller_only_so_long() {
    let agent = Agent::configured("[limits]\ninput-wait-s = 1\n", &[]);
    let task = unfinished(&agent);
    let events = agent.stream("tasks/resubscribe", json!({"id": task["id"]})).rest();
    let last = events.last().unwrap();
    assert_eq!((&last["status"]["state"], &last["final"]), (&json!("failed"), &json!(true)));
    assert_eq!(agent.status()["tasks"]["inputRequired"], 0);
}

#[test]
fn five_hundred_stuck_clients_do_not_delay_a_caller() {
    let _crowd = CROWD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let waits = "header-wait-s = 120\nbody-wait-s = 120\nidle-wait-s = 120\nwrite-wait-s = 120\n";
    let agent =
        Agent::configured(&format!("[limits]\nconnections = 512\nstreams = 80\n{waits}"), &[]);
    let task = unfinished(&agent);
    // Fifty who never read their stream, and 450 who stop in the middle of a head or a body.
    let follow = request("tasks/resubscribe", json!({"id": task["id"]}));
    let stuck: Vec<Events> = (0..50).map(|_| Events::open(agent.address, &follow)).collect();
    let body = calculation();
    let whole = post_bytes(agent.address, "/", &body);
    let half: Vec<TcpStream> = (0..450)
        .map(|at| {
            let mut stream = connect(agent.address);
            let cut = 1 + at * (whole.len() - 2) / 450;
            stream.write_all(&whole.as_bytes()[..cut]).unwrap();
            stream
        })
        .collect();
    until("all are connected", || {
        (agent.status()["http"]["connections"].as_u64().unwrap() > 500).then_some(())
    });
    for _ in 0..20 {
        assert_works(&agent);
    }
    assert_eq!(agent.get("/.well-known/agent-card.json").status, 200);
    assert_eq!(agent.status()["http"]["streams"], 50);
    // And whoever goes on after all is served.
    for (at, mut stream) in half.into_iter().enumerate().filter(|(at, _)| at % 50 == 0) {
        let cut = 1 + at * (whole.len() - 2) / 450;
        stream.write_all(&whole.as_bytes()[cut..]).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        assert_eq!(reply_of(&Reply::parse(&reply).json()["result"]), "100");
    }
    drop(stuck);
}

#[test]
fn five_hundred_half_sent_requests_over_the_limit_are_outlived() {
    let _crowd = CROWD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let agent = Agent::configured("[limits]\nheader-wait-s = 1\nbody-wait-s = 1\n", &[]);
    let crowd: Vec<TcpStream> = (0..500)
        .map(|at| {
            let mut stream = connect(agent.address);
            let half = if at % 2 == 0 {
                "POST / HTTP/1.1\r\nHost: localhost\r\nX-".to_owned()
            } else {
                format!("POST / HTTP/1.1\r\n{GOOD}Content-Length: 100\r\n\r\n{{")
            };
            stream.write_all(half.as_bytes()).unwrap();
            stream
        })
        .collect();
    // He stands behind all of them, does as he is told when the agent is busy, and is served while they still are
    // there: they leave by the agent's clocks, not by their own will.
    until("an answer", || {
        let reply = agent.post("/", &calculation());
        if reply.status == 200 {
            assert_eq!(reply_of(&reply.json()["result"]), "100");
            return Some(());
        }
        assert_busy(&reply, "too many connections");
        None
    });
    drop(crowd);
}

/// Memory of a process that is in RAM, in bytes.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn memory_does_not_grow_with_the_number_of_messages() {
    let agent = Agent::start(&["--log-level", "info"], &[]);
    let mut line = Line::open(agent.address);
    let mut number = 0;
    let mut send = |count: usize| {
        for _ in 0..count {
            number += 1;
            let mut params = message(&format!("{number} * 4"));
            params["message"]["contextId"] = json!(format!("talk {number}"));
            let reply = line.call(&request("message/send", params)).json();
            assert_eq!(reply_of(&reply["result"]), (number * 4).to_string());
        }
    };
    // The store fills with the first 1024; the bound holds for the debug build, whose allocator is the release's.
    send(1100);
    let before = resident(agent.pid());
    send(2000);
    let after = resident(agent.pid());
    assert!(after <= before + 1024 * 1024, "{before} bytes, then {after}");
}

/// Seeded xorshift: the same garbage in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn bytes(&mut self, limit: usize) -> Vec<u8> {
        (0..self.below(limit)).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

#[test]
fn garbage_on_two_hundred_connections_stops_nothing() {
    let agent = Agent::start(&[], &[]);
    let bodies = [
        calculation(),
        request("message/stream", message("remember door code")),
        request(
            "tasks/get",
            json!({"id": "00000000-0000-4000-8000-000000000000", "historyLength": 3}),
        ),
        request(
            "message/send",
            json!({"message": {"parts": [{"type": "text", "content": "2^9"}]}}),
        ),
    ];
    for seed in 1..=200_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let bytes = if seed % 4 == 0 {
            random.bytes(4096)
        } else {
            let body = &bodies[random.below(bodies.len())];
            let mut body = body.clone().into_bytes();
            let whole = seed % 4 == 1;
            // Either only the JSON is broken, behind a head that fits it, or anything.
            if whole {
                spoil(&mut body, &mut random);
            }
            let head = format!(
                "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let mut bytes = [head.into_bytes(), body].concat();
            if !whole {
                spoil(&mut bytes, &mut random);
            }
            bytes
        };
        let mut stream = connect(agent.address);
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut reply = Vec::new();
        if let Err(error) = stream.read_to_end(&mut reply) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "seed {seed}");
        }
        let status = Reply::parse(&reply).status;
        assert!(reply.is_empty() || (200..505).contains(&status), "seed {seed}: {status}");
    }
    assert_works(&agent);
    let (status, log) = agent.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// A few bytes changed, doubled, cut or put in.
fn spoil(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        match random.below(4) {
            0 if !bytes.is_empty() => bytes[at] = random.next().to_le_bytes()[0],
            1 => bytes.truncate(at),
            2 => {
                let more = random.bytes(32);
                bytes.splice(at..at, more);
            }
            _ => {
                let more = bytes[at..bytes.len().min(at + 16)].to_vec();
                bytes.splice(at..at, more);
            }
        }
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_state_directory_is_closed_to_others_and_belongs_to_one_agent() {
    let home = Home::new();
    let state = home.0.join("deep/state");
    let path = state.to_str().unwrap();
    let agent = Agent::start(&["--state-dir", path], &[]);
    assert_eq!(mode(&state), 0o700);

    let second = ended(program(&home.0).args(["run", "--port", "0", "--state-dir", path]));
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(path) && said.contains("--state-dir"), "{said}");
    assert_works(&agent);

    // Killed without a word: the lock goes with the process.
    agent.signal(Signal::KILL);
    assert_eq!(agent.wait().0.code(), None);
    let agent = Agent::start(&["--state-dir", path], &[]);
    assert_works(&agent);
    assert_eq!(agent.stop().0.code(), Some(0));

    // One that stood open before is closed, and systemd's way to name it is known.
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    let agent = Agent::start(&[], &[("STATE_DIRECTORY", path)]);
    assert_eq!(mode(&state), 0o700);
    drop(agent);

    let file = home.file("no-directory", "");
    let wrong = file.to_str().unwrap();
    let refused = ended(program(&home.0).args(["run", "--port", "0", "--state-dir", wrong]));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(wrong), "{said}");
    assert_eq!(mode(&file), 0o600, "the file was changed: {said}");
}
