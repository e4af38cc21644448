//! HTTP as strangers write it: every bad request has its answer, every page its form, and the agent goes on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Agent, Reply, connect, message, reply_of, request};

/// A whole JSON-RPC request that the calculator answers.
fn calculation() -> String {
    request("message/send", message("25*4"))
}

/// A body in one chunk.
fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// `POST /` with these header lines and nothing added.
fn post(headers: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\n{headers}\r\n{body}").into_bytes()
}

/// The lines that every good request has.
const GOOD: &str = "Host: localhost\r\nContent-Type: application/json\r\n";

/// Sends bytes and reads to the end of the connection, which must come.
fn to_the_end(address: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = connect(address);
    // It may be refused before all of it was read.
    let _ = stream.write_all(bytes);
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => {
            panic!("the connection stays open ({error}): {}", String::from_utf8_lossy(&reply))
        }
        Ok(_) | Err(_) => Reply::parse(&reply),
    }
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

    /// One reply, by its length; the body of a reply to HEAD or of a 1xx or 304 is not waited for.
    fn reply(&mut self, has_body: bool) -> Reply {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.reader.read_line(&mut head).unwrap() > 0, "closed: {head}");
        }
        let mut reply = Reply::parse(head.as_bytes());
        if has_body {
            let length = reply.header("content-length").unwrap().parse().unwrap();
            let mut body = vec![0; length];
            self.reader.read_exact(&mut body).unwrap();
            reply.body = String::from_utf8(body).unwrap();
        }
        reply
    }

    fn is_at_its_end(&mut self) -> bool {
        self.reader.read(&mut [0]).unwrap() == 0
    }
}

fn error_code(reply: &Reply) -> i64 {
    reply.json()["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {reply:?}"))
}

/// Each is answered once, with its status, and its connection ends: were its end misread, the request behind it would be
/// answered as well.
fn assert_refused(agent: &Agent, cases: Vec<(&str, Vec<u8>, u16)>) {
    for (what, bytes, status) in cases {
        let bytes = [&bytes[..], b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat();
        let reply = to_the_end(agent.address, &bytes);
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        assert!(!reply.body.contains("HTTP/1."), "{what}: a second reply: {reply:?}");
    }
    assert_eq!(reply_of(&agent.send("25*4")), "100");
}

#[test]
fn heads_that_break_http_are_refused_and_their_connection_ends() {
    let agent = Agent::start(&[], &[]);
    let body = calculation();
    let sized = format!("Content-Length: {}\r\n", body.len());
    let json = "Content-Type: application/json\r\n";
    let with = |headers: &str| post(&format!("{GOOD}{headers}"), &body);
    let line = |line: &str| format!("{line}\r\n{GOOD}{sized}\r\n{body}").into_bytes();
    let many = "X: 1\r\n".repeat(100);
    let long = "a".repeat(9000);
    let cases = vec![
        ("no Host", post(&format!("{json}{sized}"), &body), 400),
        ("two Hosts", with(&format!("Host: other\r\n{sized}")), 400),
        ("the same Host twice", with(&format!("Host: localhost\r\n{sized}")), 400),
        ("a Host with a blank", post(&format!("Host: a b\r\n{json}{sized}"), &body), 400),
        ("a Host with a path", post(&format!("Host: localhost/x\r\n{json}{sized}"), &body), 400),
        ("a Host with a user", post(&format!("Host: a@localhost\r\n{json}{sized}"), &body), 400),
        ("an empty Host", post(&format!("Host:\r\n{json}{sized}"), &body), 400),
        (
            "a blank before the colon",
            post(&format!("Host : localhost\r\n{json}{sized}"), &body),
            400,
        ),
        ("another host in the target", line("POST http://evil/ HTTP/1.1"), 400),
        ("another port in the target", line("POST http://localhost:81/ HTTP/1.1"), 400),
        ("a folded header line", with(&format!("X: a\r\n b\r\n{sized}")), 400),
        ("a folded first line", post(&format!(" X: a\r\n{GOOD}{sized}"), &body), 400),
        ("a line without a colon", with(&format!("X\r\n{sized}")), 400),
        ("a header without a name", with(&format!(": a\r\n{sized}")), 400),
        ("a blank in a header's name", with(&format!("X Y: a\r\n{sized}")), 400),
        ("a tab before the colon", with(&format!("X\t: a\r\n{sized}")), 400),
        ("a control character in a header's name", with(&format!("X\u{b}: a\r\n{sized}")), 400),
        ("a zero byte in a header's name", with(&format!("X\0: a\r\n{sized}")), 400),
        ("a header's name that is not ASCII", with(&format!("X\u{e9}: a\r\n{sized}")), 400),
        ("a zero byte in a header", with(&format!("X: a\0b\r\n{sized}")), 400),
        ("a lone CR in a header", with(&format!("X: a\rb\r\n{sized}")), 400),
        // hyper knows it and says nothing.
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 0),
        ("a TLS greeting in plain HTTP", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), 400),
        ("two blanks in the first line", line("POST  / HTTP/1.1"), 400),
        ("a blank in the target", line("POST /a b HTTP/1.1"), 400),
        ("a version of its own", line("POST / HTTP/1.1x"), 400),
        ("a version in small letters", line("POST / http/1.1"), 400),
        ("another scheme in the target", line("POST evil:///x HTTP/1.1"), 400),
        ("only a host in the target", line("POST localhost:80 HTTP/1.1"), 400),
        ("HTTP/1.2", line("POST / HTTP/1.2"), 400),
        ("HTTP/2.0", line("POST / HTTP/2.0"), 400),
        ("HTTP/0.9", b"GET /\r\n\r\n".to_vec(), 400),
        ("a method that is none", line("P@ST / HTTP/1.1"), 400),
        ("a target without a slash", line("POST health HTTP/1.1"), 400),
        ("a control character in the target", line("POST /\u{1} HTTP/1.1"), 400),
        ("a header of 9000 bytes", with(&format!("X: {long}\r\n{sized}")), 431),
        ("a hundred header lines", with(&format!("{many}{sized}")), 431),
        ("a target of 9000 bytes", line(&format!("POST /{long} HTTP/1.1")), 431),
    ];
    assert_refused(&agent, cases);
}

#[test]
fn bodies_whose_end_is_in_doubt_are_refused_and_their_connection_ends() {
    let agent = Agent::start(&[], &[]);
    let body = calculation();
    let length = body.len();
    let sized = format!("Content-Length: {length}\r\n");
    let coded = |coding: &str| post(&format!("{GOOD}{coding}"), &chunked(&body));
    let with = |headers: &str| post(&format!("{GOOD}{headers}"), &body);
    let chunk = |body: &str| post(&format!("{GOOD}Transfer-Encoding: chunked\r\n"), body);
    let cases = vec![
        ("two lengths", with(&format!("{sized}Content-Length: {}\r\n", length - 1)), 400),
        ("a length with a sign", with(&format!("Content-Length: +{length}\r\n")), 400),
        ("a negative length", with("Content-Length: -1\r\n"), 400),
        ("a length with an underscore", with("Content-Length: 1_0\r\n"), 400),
        ("a length in hexadecimal", with("Content-Length: 0x10\r\n"), 400),
        ("a length of two numbers", with("Content-Length: 1 0\r\n"), 400),
        ("an empty length", with("Content-Length:\r\n"), 400),
        ("a fraction of a length", with("Content-Length: 1.0\r\n"), 400),
        ("a list of lengths", with(&format!("Content-Length: {length}, {length}\r\n")), 400),
        ("a length past 64 bits", with("Content-Length: 99999999999999999999\r\n"), 400),
        ("a folded coding", coded("Transfer-Encoding:\r\n chunked\r\n"), 400),
        ("a lone CR before a length", with(&format!("X: a\rContent-Length: 0\r\n{sized}")), 400),
        ("an unknown coding", coded("Transfer-Encoding: xchunked\r\n"), 400),
        ("a coding before chunked", coded("Transfer-Encoding: identity, chunked\r\n"), 400),
        (
            "two lines of codings",
            coded("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
            400,
        ),
        ("chunked before a coding", coded("Transfer-Encoding: chunked, identity\r\n"), 400),
        ("a coding in quotes", coded("Transfer-Encoding: \"chunked\"\r\n"), 400),
        ("a coding behind a vertical tab", coded("Transfer-Encoding: \u{b}chunked\r\n"), 400),
        ("an empty coding", coded("Transfer-Encoding:\r\n"), 400),
        (
            "chunked on two lines",
            coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            400,
        ),
        ("chunked twice", coded("Transfer-Encoding: chunked, chunked\r\n"), 400),
        (
            "a coding in HTTP/1.0",
            format!(
                "POST / HTTP/1.0\r\n{GOOD}Transfer-Encoding: chunked\r\n\r\n{}",
                chunked(&body)
            )
            .into_bytes(),
            400,
        ),
        ("a chunk whose size is no number", chunk("zz\r\n{}\r\n0\r\n\r\n"), 400),
        ("a chunk size past 64 bits", chunk("fffffffffffffffff\r\n{}"), 400),
        ("a lone LF in a chunk's extension", chunk("2;a\nb\r\n{}\r\n0\r\n\r\n"), 400),
        ("a chunk size in C's spelling", chunk("0x2\r\n{}\r\n0\r\n\r\n"), 400),
        ("a chunk size with a plus", chunk("+2\r\n{}\r\n0\r\n\r\n"), 400),
        ("a negative chunk size", chunk("-2\r\n{}\r\n0\r\n\r\n"), 400),
        ("a chunk size with an underscore", chunk("0_2\r\n{}\r\n0\r\n\r\n"), 400),
        ("an empty chunk size", chunk("\r\n{}\r\n0\r\n\r\n"), 400),
        ("a chunk size behind a blank", chunk(" 2\r\n{}\r\n0\r\n\r\n"), 400),
        ("a chunk longer than its size", chunk("2\r\n{}}\r\n0\r\n\r\n"), 400),
        ("a chunk size that ends in LF alone", chunk("2\n{}\r\n0\r\n\r\n"), 400),
        ("a chunk that ends in LF alone", chunk("2\r\n{}\n0\r\n\r\n"), 400),
    ];
    assert_refused(&agent, cases);
}

#[test]
fn what_breaks_http_is_told_in_the_protocols_own_form() {
    let agent = Agent::start(&[], &[]);
    let ask = |line: &str| {
        to_the_end(
            agent.address,
            format!("{line} HTTP/1.1\r\nContent-Length: 0\r\n\r\n").as_bytes(),
        )
    };
    for (line, member) in [
        ("POST /", "/error/code"),
        ("POST /a2a/jsonrpc", "/error/code"),
        ("POST /v1/message:send", "/code"),
    ] {
        let reply = ask(line);
        assert_eq!((reply.status, reply.header("connection")), (400, Some("close")), "{line}");
        assert_eq!(reply.json().pointer(member), Some(&json!(-32600)), "{line}: {reply:?}");
    }
    let reply = ask("POST /message:send");
    assert_eq!(reply.json()["error"]["status"], "INVALID_ARGUMENT", "{reply:?}");
    let reply = ask("GET /health");
    assert_eq!((reply.status, &*reply.body), (400, "the Host header is missing"));
}

#[test]
fn a_head_that_never_ends_is_refused_by_its_size() {
    let agent = Agent::start(&[], &[]);
    let mut stream = connect(agent.address);
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ").unwrap();
    let mut sent = 0;
    // A few buffers of the kernel at most: the agent reads 8 KiB of it and closes.
    while sent < 64 * 1024 * 1024 && stream.write_all(&[b'a'; 4096]).is_ok() {
        sent += 4096;
    }
    assert!(sent < 64 * 1024 * 1024, "all of it was taken");
}

#[test]
fn a_length_beside_chunks_cannot_smuggle_a_second_request() {
    let agent = Agent::start(&[], &[]);
    let body = chunked(&calculation());
    let smuggled = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let both = |headers: &str| post(&format!("{GOOD}{headers}"), &format!("{body}{smuggled}"));
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\ncontent-length: nonsense\r\n",
        "Content-Length: 0\r\nX: 1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ] {
        let reply = to_the_end(agent.address, &both(headers));
        assert_eq!(reply.status, 400, "{headers}: {reply:?}");
        assert!(reply.body.contains("Content-Length beside"), "{reply:?}");
        assert!(!reply.body.contains("HTTP/1.1"), "a second reply: {reply:?}");
    }
    // Also as the second request of a connection, and when it does not wait for the first reply.
    let sized = calculation();
    let sized = post(&format!("{GOOD}Content-Length: {}\r\n", sized.len()), &sized);
    let hidden = both("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n");
    for waits in [true, false] {
        let mut line = Line::open(agent.address);
        line.write(&sized);
        if !waits {
            line.write(&hidden);
        }
        assert_eq!(reply_of(&line.reply(true).json()["result"]), "100");
        if waits {
            line.write(&hidden);
        }
        assert_eq!(line.reply(true).status, 400);
        assert!(line.is_at_its_end());
    }
    // Either kind of body by itself is good, one after the other.
    let mut line = Line::open(agent.address);
    for _ in 0..3 {
        for request in [&sized, &post(&format!("{GOOD}Transfer-Encoding: chunked\r\n"), &body)] {
            line.write(request);
            assert_eq!(reply_of(&line.reply(true).json()["result"]), "100");
        }
    }
}

#[test]
fn unusual_but_lawful_requests_are_answered() {
    let agent = Agent::start(&[], &[]);
    let body = calculation();
    let sized = format!("Content-Length: {}\r\nConnection: close\r\n", body.len());
    let line = |line: &str| format!("{line}\r\n{GOOD}{sized}\r\n{body}").into_bytes();
    let coded = |coding: &str, body: &str| {
        post(&format!("{GOOD}Connection: close\r\nTransfer-Encoding: {coding}\r\n"), body)
    };
    let middle = body.len() / 2;
    let (first, second) = body.split_at(middle);
    let pieces = format!(
        "{middle:X};x=\"1\"\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\nT: 1\r\n\r\n",
        second.len()
    );
    let lf = String::from_utf8(line("POST / HTTP/1.1")).unwrap().replace("\r\n", "\n");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("lines that end in LF alone", lf.into_bytes()),
        ("empty lines before the request", [b"\r\n\r\n", &*line("POST / HTTP/1.1")].concat()),
        ("this host in the target", line("POST http://localhost/ HTTP/1.1")),
        ("a query", line("POST /?a=b HTTP/1.1")),
        (
            "the same length twice",
            line(&format!("POST / HTTP/1.1\r\nContent-Length: {}", body.len())),
        ),
        ("HTTP/1.0", line("POST / HTTP/1.0")),
        (
            "HTTP/1.0 without Host",
            format!("POST / HTTP/1.0\r\nContent-Type: application/json\r\n{sized}\r\n{body}")
                .into(),
        ),
        ("an IPv6 Host", {
            post(&format!("Host: [::1]:80\r\nContent-Type: application/json\r\n{sized}"), &body)
        }),
        ("a coding in capitals", coded("Chunked", &chunked(&body))),
        ("chunks with an extension and a trailer", coded("chunked", &pieces)),
        ("/a2a/jsonrpc", line("POST /a2a/jsonrpc HTTP/1.1")),
        ("/a2a/jsonrpc/", line("POST /a2a/jsonrpc/ HTTP/1.1")),
        ("an expectation nobody knows", line("POST / HTTP/1.1\r\nExpect: tea")),
        ("an offer of HTTP/2", line("POST / HTTP/1.1\r\nUpgrade: h2c")),
    ];
    for (what, bytes) in cases {
        let reply = to_the_end(agent.address, &bytes);
        assert_eq!(reply.status, 200, "{what}: {reply:?}");
        assert_eq!(reply_of(&reply.json()["result"]), "100", "{what}: {reply:?}");
    }
}

#[test]
fn a_body_over_the_limit_is_413_however_it_is_sent() {
    let agent = Agent::start(&[], &[]);
    let limit = 256 * 1024;
    // Announced: refused by the number alone, without waiting for the body.
    let announced = post(&format!("{GOOD}Content-Length: {}\r\n", limit + 1), "");
    let reply = to_the_end(agent.address, &announced);
    assert_eq!(reply.status, 413, "{reply:?}");
    assert!(reply.body.contains("262144 bytes"), "{reply:?}");
    let expected =
        post(&format!("{GOOD}Expect: 100-continue\r\nContent-Length: {}\r\n", limit + 1), "");
    assert_eq!(to_the_end(agent.address, &expected).status, 413);
    let body = chunked(&" ".repeat(limit + 1));
    let sent = post(&format!("{GOOD}Transfer-Encoding: chunked\r\n"), &body);
    assert_eq!(to_the_end(agent.address, &sent).status, 413);
    let endless = post(&format!("{GOOD}Transfer-Encoding: chunked\r\n"), "ffffffffffffffff\r\n");
    let endless = [endless, vec![b' '; limit + 1]].concat();
    assert_eq!(to_the_end(agent.address, &endless).status, 413);
    // One byte less is read, and then it is what it is: blanks around a request.
    let body = calculation();
    let body = format!("{}{body}", " ".repeat(limit - body.len()));
    let reply = agent.post("/", &body);
    assert_eq!(reply_of(&reply.json()["result"]), "100");
}

#[test]
fn the_content_type_is_looked_at_before_the_body() {
    let agent = Agent::start(&[], &[]);
    for kind in [
        "",
        "Content-Type:\r\n",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/jsonp\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=application/json\r\n",
    ] {
        // The body is neither JSON nor complete: nobody reads it.
        let bytes = post(&format!("Host: localhost\r\n{kind}Content-Length: 1000\r\n"), "{{{");
        let reply = to_the_end(agent.address, &bytes);
        assert_eq!(error_code(&reply), -32005, "{kind}");
        assert_eq!(reply.json()["id"], Value::Null);
    }
    for kind in ["application/json; charset=utf-8", "APPLICATION/JSON", "application/a2a+json"] {
        let body = calculation();
        let bytes = post(
            &format!(
                "Host: localhost\r\nContent-Type: {kind}\r\nConnection: close\r\nContent-Length: {}\r\n",
                body.len()
            ),
            &body,
        );
        assert_eq!(reply_of(&to_the_end(agent.address, &bytes).json()["result"]), "100", "{kind}");
    }
}

#[test]
fn each_kind_of_bad_body_has_its_code_and_keeps_its_id() {
    let agent = Agent::start(&[], &[]);
    let batch = format!("[{}]", calculation());
    let cases = [
        ("", -32700, Value::Null),
        ("{", -32700, Value::Null),
        ("{{{", -32700, Value::Null),
        ("nonsense", -32700, Value::Null),
        ("\u{feff}{}", -32700, Value::Null),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get"} x"#, -32700, Value::Null),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"\ud800"}}"#,
            -32602,
            json!(1),
        ),
        ("[]", -32600, Value::Null),
        (&batch, -32600, Value::Null),
        ("\"text\"", -32600, Value::Null),
        ("{}", -32600, Value::Null),
        (r#"{"id":1,"method":"tasks/get"}"#, -32600, json!(1)),
        (r#"{"jsonrpc":"1.0","id":1,"method":"tasks/get"}"#, -32600, json!(1)),
        (r#"{"jsonrpc":2.0,"id":"a","method":"tasks/get"}"#, -32600, json!("a")),
        (r#"{"jsonrpc":"2.0","id":1}"#, -32600, json!(1)),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600, json!(1)),
        (r#"{"jsonrpc":"2.0","id":{},"method":"tasks/get"}"#, -32600, Value::Null),
        (
            r#"{"jsonrpc":"2.0","method":"tasks/get","params":{"id":"00000000-0000-4000-8000-000000000000"}}"#,
            -32600,
            Value::Null,
        ),
        (r#"{"jsonrpc":"2.0","method":"tasks/fetch"}"#, -32601, Value::Null),
        (r#"{"jsonrpc":"2.0","method":"tasks/get"}"#, -32602, Value::Null),
        (r#"{"jsonrpc":"2.0","id":"x","method":"message/sand"}"#, -32601, json!("x")),
        (r#"{"jsonrpc":"2.0","id":"x","method":""}"#, -32601, json!("x")),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"tasks/pushNotificationConfig/set"}"#,
            -32602,
            json!(7),
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"agent/getAuthenticatedExtendedCard"}"#,
            -32007,
            json!(7),
        ),
    ];
    for (body, code, id) in cases {
        let reply = agent.post("/", body);
        assert_eq!(reply.status, 200, "{body}");
        assert_eq!(error_code(&reply), code, "{body}: {reply:?}");
        assert_eq!(reply.json()["id"], id, "{body}");
        assert_eq!(reply.json()["jsonrpc"], "2.0");
    }
    let binary = [
        &post(&format!("{GOOD}Connection: close\r\nContent-Length: 4\r\n"), "")[..],
        b"\xff\xfe\0{",
    ];
    assert_eq!(error_code(&to_the_end(agent.address, &binary.concat())), -32700);
}

#[test]
fn bad_params_name_the_member() {
    let agent = Agent::start(&[], &[]);
    let text = json!({"kind": "text", "text": "25*4"});
    let sent = |message: Value| ("message/send", json!({ "message": message }));
    let good = json!({"messageId": "m", "role": "user", "parts": [text]});
    let changed = |member: &str, value: Value| {
        let mut message = good.clone();
        message[member] = value;
        sent(message)
    };
    let parts = |part: Value| changed("parts", json!([text, part]));
    let configured = |member: &str, value: Value| {
        ("message/send", json!({"message": good, "configuration": {member: value}}))
    };
    let cases = [
        ("params", ("message/send", json!([1]))),
        ("message", ("message/send", json!({}))),
        ("message", sent(json!(5))),
        ("message.messageId", sent(json!({"role": "user", "parts": [text]}))),
        ("message.messageId", changed("messageId", json!(5))),
        ("message.messageId", changed("messageId", json!(""))),
        ("message.messageId", changed("messageId", json!("x".repeat(257)))),
        ("message.role", changed("role", json!("agent"))),
        ("message.role", changed("role", json!("boss"))),
        ("message.role", sent(json!({"messageId": "m", "parts": [text]}))),
        ("message.kind", changed("kind", json!("task"))),
        ("message.parts", sent(json!({"messageId": "m", "role": "user"}))),
        ("message.parts", changed("parts", json!([]))),
        ("message.parts", changed("parts", json!({}))),
        ("message.parts", changed("parts", json!(vec![text.clone(); 65]))),
        ("No text content", changed("parts", json!([{"kind": "text", "text": "  "}]))),
        ("message.parts[1].text", parts(json!({"kind": "text", "text": 7}))),
        ("message.parts[1].text", parts(json!({"kind": "text"}))),
        ("message.parts[1].kind", parts(json!({"kind": "video", "text": "x"}))),
        ("message.parts[1].kind", parts(json!({}))),
        ("message.parts[1].data", parts(json!({"kind": "data", "data": [1]}))),
        ("message.parts[1].file", parts(json!({"kind": "file", "file": {}}))),
        ("message.parts[1].file.bytes", parts(json!({"kind": "file", "file": {"bytes": "?"}}))),
        ("message.parts[1]", parts(json!({"kind": "text", "text": "x", "data": {}}))),
        ("message.contextId", changed("contextId", json!("x".repeat(129)))),
        ("message.contextId", changed("contextId", json!({}))),
        ("message.metadata", changed("metadata", json!([]))),
        ("metadata.skill", changed("metadata", json!({"skill": 5}))),
        ("metadata.skill", changed("metadata", json!({"skill": "cook"}))),
        ("message.extensions", changed("extensions", json!("x"))),
        ("configuration.blocking", configured("blocking", json!("yes"))),
        ("configuration.historyLength", configured("historyLength", json!(-1))),
        ("id", ("tasks/get", json!({}))),
        ("id", ("tasks/cancel", json!({"id": 5}))),
        ("historyLength", ("tasks/get", json!({"id": "x", "historyLength": "1"}))),
    ];
    for (member, (method, params)) in cases {
        let reply = agent.rpc(method, params.clone());
        assert_eq!(reply["error"]["code"], -32602, "{member}: {params} {reply}");
        let said = reply["error"]["message"].as_str().unwrap();
        assert!(said.contains(member), "{member}: {params} {said}");
    }
}

#[test]
fn nesting_is_bounded_before_anything_is_parsed() {
    let agent = Agent::configured("[limits]\njson-depth = 8\n", &[]);
    let nested = |depth: usize| {
        let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        calculation().replacen('{', &format!("{{\"x\":{value},"), 1)
    };
    assert_eq!(reply_of(&agent.post("/", &nested(7)).json()["result"]), "100");
    assert_eq!(error_code(&agent.post("/", &nested(8))), -32700);
    assert_eq!(error_code(&agent.post("/", &nested(100_000))), -32700);
    assert_eq!(error_code(&agent.post("/", &"[".repeat(200_000))), -32700);
    // Brackets inside a text are no nesting.
    let text = format!("Analyze text: {}", "[".repeat(100));
    assert_eq!(agent.send(&text)["status"]["state"], "completed");
}

#[test]
fn unknown_paths_are_404_and_say_where_to_go() {
    let agent = Agent::start(&[], &[]);
    for path in [
        "/x",
        "//",
        "//health",
        "/health/",
        "/%68ealth",
        "/health%00",
        "/a/../health",
        "/.well-known/",
        "/.well-known/agent-card.json/",
        "/a2a",
        "/a2a/jsonrpc//",
        "/status",
        "/h\u{e9}",
    ] {
        let reply = agent.get(path);
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
        assert!(reply.body.contains("/.well-known/agent-card.json"), "{path}: {reply:?}");
    }
    for path in ["/v1/message/send", "/v1/message/stream"] {
        let reply = agent.post(path, &calculation());
        assert_eq!(reply.status, 404, "{path}");
        assert!(reply.body.contains("post JSON-RPC to /"), "{reply:?}");
        assert!(reply.body.contains("message/send"), "{reply:?}");
    }
    for bytes in [
        &b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"[..],
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\nConnection: close\r\n\r\n",
    ] {
        assert_eq!(to_the_end(agent.address, bytes).status, 404);
    }
}

#[test]
fn a_wrong_method_is_405_and_names_the_right_ones() {
    let agent = Agent::start(&[], &[]);
    let ask = |method: &str, path: &str| {
        let bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        to_the_end(agent.address, bytes.as_bytes())
    };
    for path in ["/", "/a2a/jsonrpc", "/a2a/jsonrpc/"] {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let reply = ask(method, path);
            assert_eq!(reply.status, 405, "{method} {path}");
            assert_eq!(reply.header("allow"), Some("post"), "{method} {path}");
        }
    }
    for path in [
        "/.well-known/agent-card.json",
        "/.well-known/agent.json",
        "/health",
        "/health/ready",
        "/health/detail",
        "/status.json",
        "/metrics",
        "/agents",
    ] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let reply = ask(method, path);
            assert_eq!(reply.status, 405, "{method} {path}");
            assert_eq!(reply.header("allow"), Some("get, head"), "{method} {path}");
        }
        let (get, head) = (ask("GET", path), ask("HEAD", path));
        assert_eq!((get.status, head.status), (200, 200), "{path}");
        assert!(head.body.is_empty() && !get.body.is_empty(), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert!(head.header("content-length").is_some(), "{path}");
    }
}

#[test]
fn a_body_is_never_read_as_a_request_and_its_end_never_missed() {
    let agent = Agent::start(&[], &[]);
    let body = calculation();
    let length = body.len();
    let inner = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let inside = inner.len();
    let get = |headers: &str, body: &str| {
        format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}").into_bytes()
    };
    let coded = format!("{GOOD}Transfer-Encoding: chunked\r\n");
    let pieces = format!("{length:x} ;a=\"b;\" \r\n{body}\r\n000;c\r\nT: 1\r\nU: 2\r\n\r\n");
    // Each is one request.
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("a page with a body", get(&format!("Content-Length: {inside}\r\n"), inner), 200),
        (
            "a page with a body in chunks",
            get("Transfer-Encoding: chunked\r\n", &chunked(inner)),
            200,
        ),
        (
            "no path with a body",
            {
                let head =
                    format!("GET /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {inside}");
                format!("{head}\r\n\r\n{inner}").into_bytes()
            },
            404,
        ),
        (
            "a request for a body",
            { post(&format!("{GOOD}Content-Length: {inside}\r\n"), inner) },
            200,
        ),
        (
            "a length with blanks around it",
            { post(&format!("{GOOD}Content-Length: \t {length} \r\n"), &body) },
            200,
        ),
        (
            "a length with zeros before it",
            { post(&format!("{GOOD}Content-Length: 000{length}\r\n"), &body) },
            200,
        ),
        ("chunks with extensions and trailers", post(&coded, &pieces), 200),
        (
            "an offer of HTTP/2",
            {
                get(
                    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
                    "",
                )
            },
            200,
        ),
        (
            "an offer of WebSocket",
            {
                get(
                    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                    "",
                )
            },
            200,
        ),
        (
            "headers named like those that count",
            {
                get(
                    "X-Content-Length: 9\r\nContent-Length-: 9\r\nTransfer_Encoding: chunked\r\n",
                    "",
                )
            },
            200,
        ),
        (
            "a wish to be told to go on",
            { get(&format!("Expect: 100-continue\r\nContent-Length: {inside}\r\n"), inner) },
            200,
        ),
        (
            "HTTP/1.0 that stays",
            {
                let head = "GET /health HTTP/1.0\r\nConnection: keep-alive\r\nHost: localhost";
                format!("{head}\r\nContent-Length: {inside}\r\n\r\n{inner}").into_bytes()
            },
            200,
        ),
    ];
    // Where the agent closes the connection instead, the last request has no reply; nothing else may differ.
    let last = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for (what, bytes, status) in cases {
        let reply = to_the_end(agent.address, &[&bytes[..], last].concat());
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        assert!(!reply.body.contains("tetherlet_"), "the body was answered: {what}: {reply:?}");
        let more = reply.body.matches("HTTP/1.").count();
        let is_closed = reply.header("connection") == Some("close");
        assert_eq!(more, usize::from(!is_closed), "{what}: {reply:?}");
        assert_eq!(reply.body.ends_with("ready"), !is_closed, "{what}: {reply:?}");
    }
}

#[test]
fn one_connection_carries_many_requests_and_pipelined_ones_in_order() {
    let agent = Agent::start(&[], &[]);
    let mut line = Line::open(agent.address);
    let numbered = |number: usize| {
        let mut call: Value = serde_json::from_str(&calculation()).unwrap();
        call["id"] = json!(number);
        let body = call.to_string();
        post(&format!("{GOOD}Content-Length: {}\r\n", body.len()), &body)
    };
    for number in 0..5 {
        line.write(&numbered(number));
        assert_eq!(line.reply(true).json()["id"], number);
    }
    let burst: Vec<u8> = (5..25).flat_map(numbered).collect();
    line.write(&burst);
    for number in 5..25 {
        assert_eq!(line.reply(true).json()["id"], number);
    }
    // Refusals of the protocol and of paths do not end it; a body that nobody asked for does no harm.
    let bad = "nonsense";
    line.write(&post(&format!("{GOOD}Content-Length: {}\r\n", bad.len()), bad));
    assert_eq!(error_code(&line.reply(true)), -32700);
    line.write(b"GET /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(line.reply(true).status, 404);
    line.write(b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(line.reply(false).status, 200);
    // A request that comes byte by byte is one, too.
    for byte in numbered(99) {
        line.write(&[byte]);
    }
    assert_eq!(line.reply(true).json()["id"], 99);
    line.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(line.reply(true).body, "ok");
    assert!(line.is_at_its_end());
}

#[test]
fn a_caller_who_waits_for_100_continue_gets_it_when_the_body_is_wanted() {
    let agent = Agent::start(&[], &[]);
    let body = calculation();
    let mut line = Line::open(agent.address);
    let headers = format!("{GOOD}Expect: 100-continue\r\nContent-Length: {}\r\n", body.len());
    line.write(&post(&headers, ""));
    assert_eq!(line.reply(false).status, 100);
    line.write(body.as_bytes());
    assert_eq!(reply_of(&line.reply(true).json()["result"]), "100");
    // The wrong type is refused without asking for the body.
    let mut line = Line::open(agent.address);
    line.write(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    );
    let reply = line.reply(true);
    assert_eq!((reply.status, error_code(&reply)), (200, -32005));
    assert!(line.is_at_its_end());
}

#[test]
fn the_card_is_the_same_at_both_paths_and_can_be_kept() {
    let agent = Agent::start(&["--name", "workshop"], &[]);
    let card = agent.get("/.well-known/agent-card.json");
    assert_eq!((card.status, card.header("content-type")), (200, Some("application/json")));
    assert_eq!(card.header("cache-control"), Some("public, max-age=60"));
    let tag = card.header("etag").unwrap().to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2, "{tag}");
    let other = agent.get("/.well-known/agent.json");
    assert_eq!((&card.body, card.header("etag")), (&other.body, other.header("etag")));
    assert_eq!(agent.get("/.well-known/agent-card.json?x=1").body, card.body);
    let content = card.json();
    assert_eq!(content["name"], "workshop");
    assert_eq!(content["url"], agent.url());
    assert_eq!(content["protocolVersion"], "0.3.0");
    assert_eq!(content["capabilities"]["streaming"], true);
    let ids: Vec<&str> =
        content["skills"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["calculator", "text_analyzer", "memory", "device"]);
    let ask = |tags: &str| {
        let bytes = format!(
            "GET /.well-known/agent-card.json HTTP/1.1\r\nHost: localhost\r\n{tags}Connection: close\r\n\r\n"
        );
        to_the_end(agent.address, bytes.as_bytes())
    };
    for tags in [
        format!("If-None-Match: {tag}\r\n"),
        format!("If-None-Match: W/{tag}\r\n"),
        format!("If-None-Match: \"a\", {tag}\r\n"),
        format!("If-None-Match: \"a\"\r\nIf-None-Match: {tag}\r\n"),
        "If-None-Match: *\r\n".to_owned(),
    ] {
        let reply = ask(&tags);
        assert_eq!((reply.status, reply.body.as_str()), (304, ""), "{tags}");
        assert_eq!(reply.header("etag"), Some(tag.as_str()), "{tags}");
        assert_eq!(reply.header("cache-control"), Some("public, max-age=60"), "{tags}");
    }
    for tags in ["If-None-Match: \"a\"\r\n", "If-None-Match:\r\n", "If-None-Match: \u{e9}\r\n"] {
        assert_eq!(ask(tags).status, 200, "{tags}");
    }
    // A kept connection goes on after a 304.
    let mut line = Line::open(agent.address);
    for _ in 0..2 {
        line.write(
            format!(
                "GET /.well-known/agent.json HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {tag}\r\n\r\n"
            )
            .as_bytes(),
        );
        assert_eq!(line.reply(false).status, 304);
    }
    // Another name, another tag.
    let agent = Agent::start(&["--name", "kitchen"], &[]);
    assert_ne!(agent.get("/.well-known/agent.json").header("etag"), Some(tag.as_str()));
}

#[test]
fn health_status_and_agents_are_pages_of_their_own() {
    let agent = Agent::start(&["--name", "workshop"], &[]);
    let page = agent.get("/health");
    assert_eq!((page.status, page.body.as_str()), (200, "ok"));
    let page = agent.get("/health/ready");
    assert_eq!((page.status, page.body.as_str()), (200, "ready"));
    agent.send("25*4");
    agent.send("remember door code");
    let detail = agent.get("/health/detail").json();
    assert_eq!(detail["status"], "ok");
    assert_eq!(detail["tasksRunning"], 1);
    let status = agent.status();
    assert_eq!(status["name"], "workshop");
    assert_eq!(status["state"], "ok");
    assert_eq!(status["pid"], agent.pid());
    assert_eq!(status["listen"], agent.address.to_string());
    assert_eq!(status["url"], agent.url());
    assert_eq!(status["warnings"], json!([]));
    assert_eq!(status["model"], Value::Null);
    assert_eq!(status["tasks"]["submitted"], 2);
    assert_eq!(status["tasks"]["completed"], 1);
    assert_eq!(status["tasks"]["inputRequired"], 1);
    assert_eq!(status["tasks"]["stored"], 2);
    assert_eq!(status["http"]["connections"], 1);
    assert_eq!(status["http"]["streams"], 0);
    for number in [
        &status["uptimeS"],
        &status["residentBytes"],
        &status["relays"]["running"],
        &status["relays"]["waiting"],
        &status["http"]["requests"],
        &status["http"]["connectionsLimit"],
        &status["http"]["streamsLimit"],
        &status["bytes"]["store"],
        &status["bytes"]["storeLimit"],
        &status["bytes"]["inFlight"],
        &status["bytes"]["inFlightLimit"],
        &status["bytes"]["work"],
        &status["bytes"]["workLimit"],
        &status["tasks"]["evicted"],
        &status["tasks"]["refusedBusy"],
    ] {
        assert!(number.is_u64(), "{status}");
    }
    assert!(status["residentBytes"].as_u64().unwrap() > 0);
    let agents = agent.get("/agents").json();
    assert_eq!(agents, json!([agent.get("/.well-known/agent-card.json").json()]));
}

#[test]
fn no_page_may_be_taken_for_another_type() {
    let agent = Agent::start(&[], &[]);
    for path in ["/", "/health", "/status.json", "/metrics", "/agents", "/v1/message/send"] {
        let page = agent.get(path);
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(!page.header("content-type").unwrap().contains("html"), "{path}");
        assert!(page.header("access-control-allow-origin").is_none(), "{path}");
    }
}

#[test]
fn an_agent_that_stops_is_alive_but_not_ready_and_takes_no_messages() {
    // A provider that takes the call and never answers keeps one task running.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", silent.local_addr().unwrap());
    let mut agent = Agent::start(
        &[],
        &[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", &base), ("NO_PROXY", "*")],
    );
    let mut params = message("Tell me about the sea.");
    params["configuration"] = json!({"blocking": false});
    let task = agent.result("message/send", params);
    assert_eq!(task["status"]["state"], "working");
    let _provider = silent.accept().unwrap();

    // Heads whose first half is there before the signal. What comes later on another connection proves that it
    // was read: the agent takes what is ready in turns.
    let half = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n";
    let (mut ready, mut health, mut send) =
        (Line::open(agent.address), Line::open(agent.address), Line::open(agent.address));
    ready.write(half);
    health.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n");
    let body = calculation();
    send.write(format!("POST / HTTP/1.1\r\n{GOOD}Content-Length: {}\r\n", body.len()).as_bytes());
    for _ in 0..3 {
        assert_eq!(agent.get("/health").body, "ok");
    }
    agent.signal(Signal::TERM);
    agent.wait_for("SIGTERM: stopping");

    ready.write(b"\r\n");
    let reply = ready.reply(true);
    assert_eq!((reply.status, reply.body.as_str()), (503, "stopping"));
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(ready.is_at_its_end());
    health.write(b"\r\n");
    assert_eq!(health.reply(true).body, "ok");
    send.write(format!("\r\n{body}").as_bytes());
    let reply = send.reply(true);
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(error_code(&reply), -32000);
    assert!(reply.header("retry-after").is_some());
    assert!(TcpStream::connect(agent.address).is_err(), "nobody is let in any more");

    agent.signal(Signal::TERM);
    let (status, log) = agent.wait();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("second signal"), "{log}");
}

#[test]
fn a_quiet_stream_shows_that_it_lives_and_stays_open_until_the_task_ends() {
    let agent = Agent::start(&[], &[]);
    let asked = agent.send("remember door code");
    assert_eq!(asked["status"]["state"], "input-required");
    let body = request("tasks/resubscribe", json!({"id": asked["id"]}));
    let mut stream = connect(agent.address);
    stream
        .write_all(&post(
            &format!("{GOOD}Connection: close\r\nContent-Length: {}\r\n", body.len()),
            &body,
        ))
        .unwrap();
    let mut reader = BufReader::new(stream);
    // Everything before this line, this line included.
    let mut until = |text: &str| {
        let mut seen = String::new();
        while !seen.contains(text) {
            assert!(reader.read_line(&mut seen).unwrap() > 0, "the stream ended: {seen}");
        }
        seen
    };
    let head = until("\r\n\r\n").to_ascii_lowercase();
    for line in [
        "http/1.1 200 ok",
        "content-type: text/event-stream",
        "cache-control: no-cache, no-transform",
        "x-accel-buffering: no",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert!(until("data: ").contains("\"kind\":\"task\""));
    let quiet = until(": ping");
    assert!(!quiet.contains("data:"), "{quiet}");
    assert_eq!(agent.status()["http"]["streams"], 1);

    let mut answer = message("4711");
    answer["message"]["taskId"] = asked["id"].clone();
    assert_eq!(agent.result("message/send", answer)["status"]["state"], "completed");
    let last = until("\"final\":true");
    assert!(last.contains("4711") || last.contains("stored"), "{last}");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap_or_else(|error| panic!("{error}: {rest}"));
    assert!(!rest.contains("data:"), "{rest}");
}

/// A message in `CodeTether`'s looser dialect.
fn loose(text: &str) -> Value {
    json!({"message": {"parts": [{"type": "text", "content": text}]}})
}

#[test]
fn codetethers_looser_messages_are_answered_and_its_spelling_is_kept() {
    let agent = Agent::start(&[], &[]);
    let task = agent.result("message/send", loose("25*4"));
    assert_eq!((&task["status"]["state"], reply_of(&task)), (&json!("completed"), "100"));
    let asked = agent.result("message/send", loose("remember door code"));
    assert_eq!(asked["status"]["state"], "input-required");
    let canceled = agent.result("tasks/cancel", json!({"taskId": asked["id"]}));
    assert_eq!(canceled["status"]["state"], "cancelled");
    let again = agent.result("tasks/get", json!({"taskId": asked["id"]}));
    assert_eq!(again["status"]["state"], "cancelled");
    // Who writes the protocol's own words gets them.
    let asked = agent.send("remember door code");
    let canceled = agent.result("tasks/cancel", json!({"id": asked["id"]}));
    assert_eq!(canceled["status"]["state"], "canceled");
}

#[test]
fn history_length_counts_the_most_recent_messages() {
    let agent = Agent::start(&[], &[]);
    let asked = agent.send("remember door code");
    let mut answer = message("4711");
    answer["message"]["messageId"] = json!("second");
    answer["message"]["taskId"] = asked["id"].clone();
    let done = agent.result("message/send", answer);
    let all = done["history"].as_array().unwrap().clone();
    assert_eq!(all.len(), 3, "{done}");
    assert_eq!(all[0]["parts"][0]["text"], "remember door code");
    assert_eq!(all[1]["role"], "agent");
    assert_eq!(all[2]["messageId"], "second");
    let get = |length: Value| {
        agent.result("tasks/get", json!({"id": done["id"], "historyLength": length}))
    };
    assert!(get(json!(0))["history"].is_null());
    assert_eq!(get(json!(1))["history"], json!([all[2]]));
    assert_eq!(get(json!(2))["history"], json!(all[1..]));
    assert_eq!(get(json!(1000))["history"], json!(all));
    assert_eq!(get(Value::Null)["history"], json!(all));
    let mut params = message("25*4");
    params["configuration"] = json!({"historyLength": 0});
    assert!(agent.result("message/send", params)["history"].is_null());
}

#[test]
fn a_context_is_kept_or_given() {
    let agent = Agent::start(&[], &[]);
    let mut params = message("25*4");
    params["message"]["contextId"] = json!("our talk");
    let task = agent.result("message/send", params.clone());
    assert_eq!(task["contextId"], "our talk");
    assert_eq!(task["status"]["message"]["contextId"], "our talk");
    assert_eq!(agent.result("tasks/get", json!({"id": task["id"]}))["contextId"], "our talk");
    let next = agent.result("message/send", params);
    assert_ne!(next["id"], task["id"]);
    let (first, second) = (agent.send("1+1"), agent.send("1+1"));
    assert_ne!(first["contextId"], second["contextId"]);
    assert!(!first["contextId"].as_str().unwrap().is_empty());
}

#[test]
fn tasks_that_are_unknown_or_over_have_their_own_errors() {
    let agent = Agent::start(&[], &[]);
    let code = |method: &str, params: Value| agent.rpc(method, params)["error"]["code"].clone();
    let done = agent.send("25*4");
    let to = |id: &Value| {
        let mut params = message("25*4");
        params["message"]["taskId"] = id.clone();
        params
    };
    for id in ["nonsense", "00000000-0000-4000-8000-000000000000"] {
        let id = json!(id);
        for method in ["tasks/get", "tasks/cancel", "tasks/resubscribe"] {
            assert_eq!(code(method, json!({ "id": id })), -32001, "{method} {id}");
        }
        assert_eq!(code("message/send", to(&id)), -32001, "{id}");
        assert_eq!(code("message/stream", to(&id)), -32001, "{id}");
    }
    assert_eq!(code("message/send", to(&done["id"])), -32004);
    assert_eq!(code("message/stream", to(&done["id"])), -32004);
    assert_eq!(code("tasks/resubscribe", json!({"id": done["id"]})), -32004);
    assert_eq!(code("tasks/cancel", json!({"id": done["id"]})), -32002);
    let asked = agent.send("remember door code");
    let mut elsewhere = to(&asked["id"]);
    elsewhere["message"]["contextId"] = json!("another");
    assert_eq!(code("message/send", elsewhere), -32602);
    let canceled = agent.result("tasks/cancel", json!({"id": asked["id"]}));
    assert_eq!(canceled["status"]["state"], "canceled");
    assert_eq!(code("tasks/cancel", json!({"id": asked["id"]})), -32002);
    assert_eq!(code("message/send", to(&asked["id"])), -32004);
}

#[test]
fn a_subscription_lasts_through_every_question_of_its_task() {
    let agent = Agent::start(&[], &[]);
    let mut params = message("remember");
    params["message"]["metadata"] = json!({"skill": "memory"});
    let asked = agent.result("message/send", params);
    assert_eq!(asked["status"]["state"], "input-required");
    let mut events = agent.stream("tasks/resubscribe", json!({"id": asked["id"]}));
    let snapshot = events.next().unwrap();
    assert_eq!((&snapshot["kind"], &snapshot["id"]), (&json!("task"), &asked["id"]));
    let say = |text: &str| {
        let mut params = message(text);
        params["message"]["taskId"] = asked["id"].clone();
        agent.result("message/send", params)
    };
    assert_eq!(say("door code")["status"]["state"], "input-required");
    assert_eq!(events.next().unwrap()["status"]["state"], "working");
    assert_eq!(events.next().unwrap()["status"]["state"], "input-required");
    assert_eq!(say("4711")["status"]["state"], "completed");
    let rest = events.rest();
    let states: Vec<_> =
        rest.iter().filter_map(|event| event["status"]["state"].as_str()).collect();
    assert_eq!(states, ["working", "completed"]);
    assert_eq!(rest.iter().filter(|event| event["kind"] == "artifact-update").count(), 1);
    assert_eq!(rest.last().unwrap()["final"], true);
    assert_eq!(reply_of(&agent.send("recall door code")), "`door code` is 4711");
}
