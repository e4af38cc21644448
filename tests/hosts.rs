//! A web page cannot have the operator's browser use the agent: not under a name of its own, and not from its own site.

mod support;

use serde_json::json;
use support::{Agent, Reply, exchange, message, reply_of, request};

const PAGES: [&str; 11] = [
    "/health",
    "/healthz",
    "/health/ready",
    "/readyz",
    "/health/detail",
    "/status.json",
    "/metrics",
    "/agents",
    "/.well-known/agent-card.json",
    "/.well-known/agent.json",
    "/.well-known/jwks.json",
];

/// Added where the agent has no reason of its own to close.
const CLOSE: &str = "Connection: close\r\n";

/// `GET path` with these header lines.
fn get(agent: &Agent, path: &str, headers: &str) -> Reply {
    let bytes = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
    exchange(agent.address, bytes.as_bytes())
}

/// A calculation with these header lines.
fn post(agent: &Agent, path: &str, headers: &str) -> Reply {
    let body = if path == "/message:send" {
        let part = json!({"text": "25*4"});
        json!({"message": {"messageId": "m", "role": "ROLE_USER", "parts": [part]}}).to_string()
    } else {
        request("message/send", message("25*4"))
    };
    let bytes = format!(
        "POST {path} HTTP/1.1\r\n{headers}A2A-Version: 1.0\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(agent.address, bytes.as_bytes())
}

#[test]
fn a_foreign_name_is_refused_on_every_path_in_its_own_form() {
    let agent = Agent::start(&[], &[]);
    let strange = "Host: evil.example:4097\r\n";
    for path in PAGES {
        let reply = get(&agent, path, strange);
        assert_eq!((reply.status, reply.header("connection")), (403, Some("close")), "{path}");
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"), "{path}");
        assert!(reply.body.contains("`evil.example`"), "{path}: {reply:?}");
        assert!(reply.body.contains("listen.hosts"), "{path}: {reply:?}");
        assert!(!reply.head.contains("etag"), "{path}: {reply:?}");
    }
    for (path, member, code) in [
        ("/", "/error/code", -32600),
        ("/a2a/jsonrpc", "/error/code", -32600),
        ("/message:send", "/error/code", 403),
        ("/v1/message:send", "/code", -32600),
        ("/nowhere", "/error/code", 403),
    ] {
        let reply = post(&agent, path, strange);
        assert_eq!((reply.status, reply.header("connection")), (403, Some("close")), "{path}");
        assert_eq!(reply.json().pointer(member), Some(&json!(code)), "{path}: {reply:?}");
        assert!(reply.body.contains("listen.hosts"), "{path}: {reply:?}");
    }
    assert_eq!(agent.status()["tasks"]["submitted"], 0);
}

#[test]
fn names_that_dns_could_lead_here_are_no_names_of_this_machine() {
    let agent = Agent::start(&[], &[]);
    let ask = |host: &str| get(&agent, "/health", &format!("Host: {host}\r\n{CLOSE}"));
    for host in [
        "localhost",
        "LOCALHOST.:1",
        "a.localhost",
        "127.0.0.1:65535",
        "127.1.2.3",
        "[::1]",
        "[::ffff:127.0.0.1]:80",
    ] {
        assert_eq!(ask(host).status, 200, "{host}");
    }
    let long = "a.".repeat(2000);
    for host in [
        "localhost.evil.example",
        "evil.localhost.example",
        "127.0.0.1.nip.io",
        "localhost..",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "[::]",
        "192.168.1.1",
        "xn--lcalhost-54a",
        &long,
    ] {
        assert_eq!(ask(host).status, 403, "{host}");
    }
    for host in ["", ":80", "user@localhost", "localhost:0", "localhost:65536", "[127.0.0.1]"] {
        assert_eq!(ask(host).status, 400, "{host}");
    }
    // What a control character could do to a terminal or a log, it does not get to do.
    let reply = get(&agent, "/health", "Host: evil\x1b[2J\r\n");
    assert!(reply.status == 400 && !reply.body.contains('\x1b'), "{reply:?}");
    // Old callers that name nobody, and targets that do.
    let old = |line: &str| exchange(agent.address, format!("{line} HTTP/1.0\r\n\r\n").as_bytes());
    assert_eq!(old("GET /health").status, 200);
    assert_eq!(old("GET http://localhost/health").status, 200);
    assert_eq!(old("GET http://evil.example/health").status, 403);
}

#[test]
fn names_are_added_by_configuration() {
    let agent = Agent::configured(
        "[listen]\nhosts = \"pi.lan, *.lab.example\"\npublic-url = \"https://pub.example/x\"\n",
        &[],
    );
    for (host, status) in [
        ("pi.lan:80", 200),
        ("PI.lan.", 200),
        ("a.lab.example", 200),
        ("pub.example", 200),
        ("localhost", 200),
        ("lab.example", 403),
        ("a.b.lab.example", 403),
        ("x.pi.lan", 403),
    ] {
        let reply = get(&agent, "/health", &format!("Host: {host}\r\n{CLOSE}"));
        assert_eq!(reply.status, status, "{host}");
    }
    let own = format!("Host: pi.lan\r\nOrigin: https://pub.example\r\n{CLOSE}");
    let reply = post(&agent, "/message:send", &own);
    assert_eq!(reply_of(&reply.json()["task"]), "100", "{reply:?}");
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let short = machine.trim().split('.').next().unwrap();
    for host in [machine.trim(), &format!("{short}.local")] {
        assert_eq!(
            get(&agent, "/health", &format!("Host: {host}\r\n{CLOSE}")).status,
            200,
            "{host}"
        );
    }
}

#[test]
fn only_pages_of_the_agent_itself_may_ask() {
    let agent = Agent::start(&[], &[]);
    let own = format!("Host: {0}\r\nOrigin: http://{0}\r\n{CLOSE}", agent.address);
    let reply = post(&agent, "/message:send", &own);
    assert_eq!(reply_of(&reply.json()["task"]), "100", "{reply:?}");
    for line in [
        "Origin: null",
        "Origin: http://evil.example",
        "Origin: http://localhost:1",
        "Origin: https://localhost",
        "Origin: http://localhost\r\nOrigin: http://evil.example",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        let headers = format!("Host: localhost\r\n{line}\r\n");
        for path in PAGES {
            let reply = get(&agent, path, &headers);
            assert_eq!(reply.status, 403, "{line} {path}");
            assert!(!reply.head.contains("access-control"), "{line} {path}: {reply:?}");
        }
        for path in ["/", "/message:send", "/v1/message:send", "/tasks"] {
            let reply = post(&agent, path, &headers);
            assert_eq!(reply.status, 403, "{line} {path}");
            assert!(reply.json().is_object() && !reply.head.contains("access-control"), "{line}");
        }
    }
    // What a browser asks before it sends JSON for a page is never granted.
    let preflight = b"OPTIONS /message:send HTTP/1.1\r\nHost: localhost\r\n\
        Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n\
        Access-Control-Request-Headers: content-type\r\n\r\n";
    let reply = exchange(agent.address, preflight);
    assert_eq!(reply.status, 403);
    assert!(!reply.head.contains("access-control"), "{reply:?}");
    assert_eq!(agent.status()["tasks"]["submitted"], 1);
}
