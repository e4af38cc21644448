//! Secrets stay where they are: a canary in every place that can hold one, everything that the program says to anybody,
//! and a search for any part of any of them, plain, in base64 and in hex.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "a test starts programs")]

#[path = "support/provider.rs"]
mod provider;
mod support;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use provider::{Event, Form, Provider, Script};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Agent, Home, exchange, program, request};
use tetherlet::base::base64::{decode, encode, encode_url};

/// Characters of a canary that are too many to be seen by chance: an error may name the kind of a key, not more.
const PIECE: usize = 10;

/// Every page there is, and some that are none.
const PAGES: [&str; 14] = [
    "/.well-known/agent-card.json",
    "/.well-known/agent.json",
    "/.well-known/jwks.json",
    "/extendedAgentCard",
    "/v1/card",
    "/tasks",
    "/status.json",
    "/metrics",
    "/agents",
    "/health",
    "/health/ready",
    "/health/detail",
    "/nothing",
    "/%00%ff",
];

/// The secrets of one test: the place that holds each, and all that would give it away.
#[derive(Default)]
struct Canaries(Vec<(&'static str, Vec<String>)>);

/// What was said, by where it was heard.
type Heard = Vec<(String, Vec<u8>)>;

impl Canaries {
    /// A new secret for `place`: letters and digits that no other one shares.
    fn put(&mut self, place: &'static str) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
        let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(self.0.len() as u64 + 1);
        let body: String = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(LETTERS[usize::try_from(state % LETTERS.len() as u64).unwrap()])
        })
        .take(40)
        .collect();
        self.known(place, &body);
        body
    }

    /// A secret that somebody else has made.
    fn known(&mut self, place: &'static str, secret: &str) {
        self.0.push((place, forms(secret)));
    }

    /// The private half of a key, which has no letters of its own: its base64 wherever it begins, and its hex.
    fn key(&mut self, place: &'static str, private: &[u8]) {
        let mut pieces = Vec::new();
        for shift in 0..3 {
            let text = encode(&[&b"xx"[..shift], private].concat());
            // The letters at both ends are shared with what stands there.
            let inner = &text.as_bytes()[4..text.len() - 4];
            let windows = inner.windows(PIECE).map(|it| String::from_utf8_lossy(it).into_owned());
            pieces.extend(windows.flat_map(|it| [it.replace('+', "-").replace('/', "_"), it]));
        }
        for piece in private.windows(PIECE) {
            for apart in ["", ":", " ", ", "] {
                let hex: Vec<String> = piece.iter().map(|byte| format!("{byte:02x}")).collect();
                pieces.extend([hex.join(apart), hex.join(apart).to_uppercase()]);
            }
            // As Rust prints bytes.
            pieces.push(piece.iter().map(u8::to_string).collect::<Vec<_>>().join(", "));
        }
        self.0.push((place, pieces));
    }

    /// The place of a secret of which a piece is in `said`, and that piece.
    fn find(&self, said: &str) -> Option<(&'static str, String)> {
        self.0.iter().find_map(|(place, pieces)| {
            pieces.iter().find(|piece| said.contains(*piece)).map(|piece| (*place, piece.clone()))
        })
    }

    /// Fails when a piece of one of them is in `said`.
    fn search(&self, ear: &str, said: &[u8]) {
        let said = String::from_utf8_lossy(said);
        if let Some((place, piece)) = self.find(&said) {
            let line = said.lines().find(|line| line.contains(&piece)).unwrap_or(&said);
            panic!("the secret of {place} is in {ear}, as {piece}: {line}");
        }
    }
}

/// What would give a secret away: every piece of it, in every spelling.
fn forms(secret: &str) -> Vec<String> {
    let mut all: Vec<String> = secret
        .as_bytes()
        .windows(PIECE)
        .map(|piece| String::from_utf8_lossy(piece).into_owned())
        .collect();
    // In base64 a text looks different behind each number of bytes modulo 3; the letters at both ends are shared.
    for shift in 0..3 {
        let text = [&b"xx"[..shift], secret.as_bytes()].concat();
        for encoded in [encode(&text), encode_url(&text)] {
            let inner = &encoded.trim_end_matches('=').as_bytes()[4..];
            let windows = inner.windows(2 * PIECE).filter(|piece| piece.len() == 2 * PIECE);
            all.extend(windows.map(|piece| String::from_utf8_lossy(piece).into_owned()));
        }
    }
    let hex = secret.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let windows = hex.as_bytes().windows(2 * PIECE).step_by(2);
    all.extend(windows.map(|piece| String::from_utf8_lossy(piece).into_owned()));
    all
}

/// The longest line of a PEM file: it is the key, not what stands around it.
fn inside(pem: &Path) -> String {
    let text = std::fs::read_to_string(pem).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('-'));
    // The beginning says only of what kind the key is.
    lines.max_by_key(|line| line.len()).unwrap()[48..].to_owned()
}

/// The private half of a P-256 key as `cert self-signed` writes it: PKCS#8 (RFC 5208) has it behind 36 bytes that every
/// such key begins with, and the public half behind it.
fn private_half(pem: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(pem).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let key = decode(&body).unwrap();
    assert_eq!((key.len(), &key[34..36]), (138, &[4, 32][..]));
    key[36..68].to_vec()
}

/// Every file below `folder` that this test did not plant.
fn left(folder: &Path, planted: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            if path != planted {
                left(&path, planted, found);
            }
        } else {
            found.push(path);
        }
    }
}

/// An HTTP request of its own connection, with these header lines.
fn ask(agent: &Agent, first: &str, headers: &str, body: &str) -> Vec<u8> {
    let text = format!(
        "{first} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n{headers}\r\n{body}",
        agent.address,
        body.len()
    );
    let reply = exchange(agent.address, text.as_bytes());
    format!("{} {}\n{}", reply.status, reply.head, reply.body).into_bytes()
}

fn json_of(reply: &[u8]) -> Value {
    let text = String::from_utf8_lossy(reply);
    serde_json::from_str(text.split_once("\n{").map_or("", |(_, rest)| rest)).unwrap_or_else(|_| {
        let at = text.find('{').unwrap_or(0);
        serde_json::from_str(&text[at..]).unwrap_or(Value::Null)
    })
}

/// Asks for every page with every kind of proof; the second is a good one.
fn every_page(agent: &Agent, proofs: &[String], presented: &str, heard: &mut Heard) {
    for page in PAGES {
        for (at, proof) in proofs.iter().enumerate() {
            for version in ["", "A2A-Version: 1.0\r\n"] {
                let reply = ask(agent, &format!("GET {page}"), &format!("{version}{proof}"), "");
                heard.push((format!("{page}, proof {at}"), reply));
            }
        }
        let first = format!("GET {page}?access_token={presented}");
        heard.push((format!("{page}?access_token"), ask(agent, &first, "", "")));
    }
    for (first, body) in [
        ("POST /", "no JSON"),
        ("POST /", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"no/such\"}"),
        ("POST /message:send", "{}"),
        ("DELETE /tasks/x", ""),
        ("BREW /", ""),
    ] {
        heard.push((first.to_owned(), ask(agent, first, &proofs[1], body)));
    }
    heard.push(("a broken head".to_owned(), {
        let text =
            format!("GET / HTTP/1.1\r\nAuthorization: Bearer {presented}\r\n broken\r\n\r\n");
        exchange(agent.address, text.as_bytes()).body.into_bytes()
    }));
}

/// Runs every command with the agent's own configuration and environment, in which a token lets it in.
fn every_command(agent: &Agent, file: &str, variables: &[(&str, &str)], heard: &mut Heard) {
    for arguments in [
        "status",
        "status --json",
        "status --config",
        "card",
        "card --verify",
        "list",
        "send 25*4",
        "send --json 25*4",
        "send --token-file planted/caller.token 25*4",
        "send --token-file planted/agent.toml 25*4",
        "send --ca planted/key.pem 25*4",
        "send --cert planted/cert.pem --key planted/key.pem 25*4",
        "check-config",
        "run --port 99999",
    ] {
        let done = program(&agent.home.0)
            .args(arguments.split(' '))
            .envs(variables.iter().copied())
            .env("TETHERLET_CONFIG", file)
            .env("TETHERLET_URL", agent.url())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        heard.push((arguments.to_owned(), [done.stdout, done.stderr].concat()));
    }
}

#[test]
fn the_search_finds_a_piece_of_a_secret_in_every_spelling() {
    let mut canaries = Canaries::default();
    let (_, secret) = (canaries.put("one"), canaries.put("other"));
    assert_eq!(canaries.find("nothing of them, and some letters: abcdefghijklmn"), None);
    let hex = secret.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    for said in [
        secret.clone(),
        format!("sk-...{}", &secret[30..]),
        format!("{}...", &secret[..PIECE]),
        encode(secret.as_bytes()),
        encode_url(format!("user:{secret}").as_bytes()),
        encode(format!("{{\"key\":\"{secret}\"}}").as_bytes()),
        hex,
    ] {
        let found = canaries.find(&format!("it says {said} here"));
        assert_eq!(found.map(|(place, _)| place), Some("other"), "{said}");
    }
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one story: what is planted, all that is said, the search"
)]
fn no_page_log_command_or_file_gives_a_secret_away() {
    let mut canaries = Canaries::default();
    let home = Home::new();
    let path = |name: &str| home.0.join("planted").join(name).to_str().unwrap().to_owned();
    let plant = |name: &str, text: &str| {
        home.file(&format!("planted/{name}"), text);
        path(name)
    };

    // Every place that can hold a secret. A new one is a line here, and a line of the configuration.
    let house = canaries.put("providers.house.api-key-file");
    let house_file = plant("house.key", &house);
    let listed = canaries.put("auth.tokens-file");
    let list_file = plant("tokens", &format!("listed:{listed}\n"));
    let caller_file = plant("caller.token", &canaries.put("callers.filed.token-file"));
    let peer_file = plant("peer.token", &canaries.put("peers.attic.token-file"));
    let inline = canaries.put("callers.inline.token");
    let groq_file = plant("groq.key", &canaries.put("GROQ_API_KEY_FILE"));
    plant("mistral_api_key", &canaries.put("credential mistral_api_key"));
    let variables = [
        ("ANTHROPIC_API_KEY", canaries.put("ANTHROPIC_API_KEY")),
        ("A2A_AUTH_TOKENS", format!("many:{}", canaries.put("A2A_AUTH_TOKENS"))),
        ("CODETETHER_AUTH_TOKEN", canaries.put("CODETETHER_AUTH_TOKEN")),
        ("FROM_ENV", canaries.put("callers.env.token-env")),
        ("TETHERLET_CALLERS_SHELL_TOKEN", canaries.put("TETHERLET_CALLERS_SHELL_TOKEN")),
        ("TETHERLET_TOKEN", listed.clone()),
        ("GROQ_API_KEY_FILE", groq_file),
        ("CREDENTIALS_DIRECTORY", path("")),
    ];
    let made = program(&home.0).args(["cert", "self-signed", "--out", &path("")]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    canaries.known("tls.key-file, card.key-file", &inside(Path::new(&path("key.pem"))));

    let echo = format!("Bearer {house} and {house} are not known");
    let error = json!({"error": {"message": echo, "code": house, "type": house}}).to_string();
    let provider = Provider::start([
        Script::reply(401, &[("Content-Type", "application/json")], &error),
        Script::reply(500, &[("Content-Type", "text/html")], &echo),
        Script::reply(302, &[("Location", &format!("http://127.0.0.1:9/?key={house}"))], ""),
        Script::default().raw(format!("{echo}\r\n\r\n")).close(),
        Script::good(Form::OpenAi, &["fine"]),
    ]);
    let settings = format!(
        "[providers.house]\nbase-url = \"{}/v1\"\nmodel = \"m\"\napi-key-file = \"{house_file}\"\n\
         [model]\ndefault = \"house/m\"\n\
         [card]\nextended = true\nkey-file = \"{}\"\n\
         [push]\nallow-private = true\nattempts = 2\n\
         [auth]\nheader = \"X-API-Key\"\ntokens-file = \"{list_file}\"\n\
         [callers.inline]\ntoken = \"{inline}\"\nrights = \"tasks\"\n\
         [callers.filed]\ntoken-file = \"{caller_file}\"\n\
         [callers.env]\ntoken-env = \"FROM_ENV\"\n\
         [callers.shell]\nrights = \"status\"\n\
         [peers.attic]\nurl = \"https://attic.lan\"\ntoken-file = \"{peer_file}\"\n\
         [run]\nstate-dir = \"{}\"\n",
        provider.url(),
        path("key.pem"),
        home.0.join("state").display(),
    );
    let file = plant("agent.toml", &settings);

    let hook_token = canaries.put("a webhook's token");
    let hook_credentials = canaries.put("a webhook's credentials");
    let hook_query = canaries.put("a webhook's query");
    let taken = format!("{hook_token} Bearer {hook_credentials} ?key={hook_query}");
    let hooks = Provider::start([
        Script::reply(500, &[("X-Echo", &taken)], &taken),
        Script::reply(302, &[("Location", &format!("/{hook_query}"))], &taken),
        Script::default().raw(format!("{taken}\r\n\r\n")).close(),
        Script::reply(200, &[], &taken),
    ]);
    let presented = canaries.put("a wrong token that was presented");

    let variables: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let planted = home.0.join("planted");
    let agent = Agent::start_in(home, &["--config", &file, "--log-level", "trace"], &variables);
    let mut heard = Heard::new();

    let right = format!("Authorization: Bearer {listed}\r\n");
    let proofs = [
        String::new(),
        right.clone(),
        format!("X-API-Key: {inline}\r\n"),
        format!("Authorization: Bearer {presented}\r\n"),
        format!("Authorization: Basic {}\r\n", encode(format!("user:{presented}").as_bytes())),
        format!("Authorization: {presented}\r\n"),
        format!("Authorization: Bearer {presented}\r\nX-API-Key: {presented}\r\n"),
        format!("Cookie: token={presented}\r\nReferer: http://x/?{presented}\r\n"),
    ];
    every_page(&agent, &proofs, &presented, &mut heard);

    // A provider and a webhook that fail and say what they were shown.
    let call = |method: &str, params: Value| {
        let headers = format!("{right}A2A-Version: 1.0\r\n");
        ask(&agent, "POST /", &headers, &request(method, params))
    };
    let message =
        |text: &str| json!({"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}]});
    for round in 0..5 {
        let reply = call("SendMessage", json!({"message": message("Tell me about tides")}));
        let ended = if round < 4 { "TASK_STATE_FAILED" } else { "TASK_STATE_COMPLETED" };
        assert!(String::from_utf8_lossy(&reply).contains(ended), "{round}");
        heard.push(("a task of the model's".to_owned(), reply));
    }
    let stream = call("SendStreamingMessage", json!({"message": message("And about ebb?")}));
    heard.push(("a stream".to_owned(), stream));
    let hook = json!({"url": format!("{}/in?key={hook_query}", hooks.url()), "token": hook_token,
        "authentication": {"scheme": "Bearer", "credentials": hook_credentials}});
    for (at, text) in ["25*4", "26*4"].into_iter().enumerate() {
        let params = json!({"message": message(text),
            "configuration": {"taskPushNotificationConfig": hook}});
        let reply = call("SendMessage", params);
        let id = json_of(&reply)["result"]["task"]["id"].as_str().unwrap().to_owned();
        heard.push(("a task with a webhook".to_owned(), reply));
        heard.push(("the task again".to_owned(), call("GetTask", json!({"id": id}))));
        // Two attempts each.
        hooks.wait(Event::Asked(2 * at));
        hooks.wait(Event::Asked(2 * at + 1));
    }
    for url in [
        format!("http://user:{hook_query}@127.0.0.1/"),
        format!("ftp://127.0.0.1/{hook_query}"),
        format!("http://169.254.169.254/{hook_query}"),
    ] {
        let params = json!({"message": message("25*4"), "configuration": {"taskPushNotificationConfig": {
            "url": url, "token": format!("{hook_token}\r\n")}}});
        heard.push((format!("a refusal of {}", &url[..8]), call("SendMessage", params)));
    }

    every_command(&agent, &file, &variables, &mut heard);

    // What the system tells of the process, and what a signal makes it say.
    for file in ["cmdline", "comm", "status"] {
        let path = format!("/proc/{}/{file}", agent.pid());
        heard.push((path.clone(), std::fs::read(path).unwrap()));
    }
    let pages = [("status", "status.json"), ("metrics", "metrics")].map(|(name, page)| {
        (format!("{name} at the end"), ask(&agent, &format!("GET /{page}"), &right, ""))
    });
    heard.extend(pages);
    let folder = agent.home.0.clone();
    let mut files = Vec::new();
    left(&folder, &planted, &mut files);
    assert!(files.iter().any(|path| path.ends_with("state/lock")), "{files:?}");
    for path in files {
        heard.push((path.display().to_string(), std::fs::read(path).unwrap()));
    }

    // Each secret was really used: else this test would hear nothing wherever it listens.
    let keyed =
        |asked: &provider::Asked| asked.header("authorization") == Some(&format!("Bearer {house}"));
    assert!(provider.requests().len() >= 5 && provider.requests().iter().all(keyed));
    for asked in hooks.requests() {
        assert_eq!(asked.header("x-a2a-notification-token"), Some(hook_token.as_str()));
        assert!(asked.header("authorization").unwrap().ends_with(&hook_credentials));
    }
    let said = |name: &str| {
        let texts = heard.iter().filter(|(ear, _)| ear == name);
        texts.map(|(_, said)| String::from_utf8_lossy(said)).collect::<String>()
    };
    assert!(said("/status.json, proof 1").starts_with("200 "), "{}", said("/status.json, proof 1"));
    assert!(said("/tasks, proof 2").contains("200 "));
    // Later ones are told to wait.
    assert!(said("/extendedAgentCard, proof 3").starts_with("401 "));
    assert!(said("/.well-known/jwks.json, proof 0").contains("\"keys\""));
    for command in ["send 25*4", "send --token-file planted/caller.token 25*4"] {
        assert_eq!(said(command), "100\n", "{command}");
    }
    let config = said("status --config");
    for place in ["callers.env.token", "callers.shell.token", "peers.attic.token", "card.key-file"]
    {
        assert!(config.contains(place), "{place}: {config}");
    }

    let (_, log) = agent.stop();
    assert!(log.contains("refused"), "{log}");
    heard.push(("the log".to_owned(), log.into_bytes()));
    for (ear, said) in &heard {
        canaries.search(ear, said);
    }
}

#[test]
fn no_page_over_tls_log_or_reload_gives_the_key_away() {
    let mut canaries = Canaries::default();
    let home = Home::new();
    let path = |name: &str| home.0.join("planted").join(name);
    for folder in ["planted", "planted/next"] {
        std::fs::create_dir(home.0.join(folder)).unwrap();
        let made =
            program(&home.0).args(["cert", "self-signed", "--out", folder]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    canaries.key("tls.key-file", &private_half(&path("key.pem")));
    let next = private_half(&path("next/key.pem"));
    canaries.key("tls.key-file after SIGHUP", &next);
    // The search would find it.
    let body = std::fs::read_to_string(path("next/key.pem")).unwrap();
    assert!(canaries.find(&body).is_some_and(|(place, _)| place.ends_with("SIGHUP")));
    assert!(canaries.find(&format!("{next:?}")).is_some());
    let settings = format!(
        "[tls]\ncert-file = \"{}\"\nkey-file = \"{}\"\nclient-ca-file = \"{}\"\n\
         [auth]\nmode = \"off\"\n[card]\nextended = true\n[run]\nstate-dir = \"{}\"\n",
        path("cert.pem").display(),
        path("key.pem").display(),
        path("cert.pem").display(),
        home.0.join("state").display(),
    );
    let file = home.file("agent.toml", &settings).to_str().unwrap().to_owned();
    let planted = home.0.join("planted");
    let mut agent = Agent::start_in(home, &["--config", &file, "--log-level", "trace"], &[]);
    let mut heard = Heard::new();
    let all_pages = |agent: &Agent, heard: &mut Heard| {
        for page in PAGES {
            let url = format!("https://{}{page}", agent.address);
            let done = Command::new("curl")
                .args(["--silent", "--show-error", "--verbose", "--include", "--max-time", "20"])
                .args(["--cacert", "planted/cert.pem", &url])
                .current_dir(&agent.home.0)
                .output()
                .unwrap();
            assert!(done.status.success(), "{page}: {}", String::from_utf8_lossy(&done.stderr));
            assert!(done.stdout.starts_with(b"HTTP/1.1 "), "{page}");
            heard.push((format!("{page} over TLS"), [done.stdout, done.stderr].concat()));
        }
        every_command(agent, &file, &[], heard);
    };
    all_pages(&agent, &mut heard);

    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(planted.join("next").join(name), planted.join(name)).unwrap();
    }
    agent.signal(Signal::HUP);
    let line = agent.wait_for("configuration reloaded");
    assert!(line.contains("tls.cert-file"), "{line}");
    all_pages(&agent, &mut heard);
    // What is wrong with a key is said without it.
    let key = std::fs::read_to_string(planted.join("key.pem")).unwrap();
    std::fs::write(planted.join("key.pem"), &key[..key.len() / 2]).unwrap();
    agent.signal(Signal::HUP);
    agent.wait_for("reload failed");
    all_pages(&agent, &mut heard);

    for file in ["cmdline", "comm", "status"] {
        let path = format!("/proc/{}/{file}", agent.pid());
        heard.push((path.clone(), std::fs::read(path).unwrap()));
    }
    let mut files = Vec::new();
    left(&agent.home.0, &planted, &mut files);
    for path in files {
        heard.push((path.display().to_string(), std::fs::read(path).unwrap()));
    }
    let (_, log) = agent.stop();
    assert!(log.contains("key.pem:1: "), "{log}");
    heard.push(("the log".to_owned(), log.into_bytes()));
    for (ear, said) in &heard {
        canaries.search(ear, said);
    }
}

#[test]
fn a_complaint_about_the_configuration_repeats_no_secret() {
    let mut canaries = Canaries::default();
    let secret = canaries.put("the configuration");
    let home = Home::new();
    let planted = |name: &str, text: &str| home.file(name, text).to_str().unwrap().to_owned();
    let open = planted("open.key", &secret);
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o640)).unwrap();
    let blank = planted("blank.key", &format!("{secret} {secret}"));
    let unnamed = planted("unnamed", &format!("{secret}\n{secret}:\n"));
    let pem = planted(
        "key.pem",
        &format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"),
    );
    let house = "[providers.house]\nbase-url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n";
    let files = [
        format!("{house}api-key = \"{secret}\"\n"),
        format!("{house}api-key = {secret}\n"),
        format!("{house}api-key = \"{secret}\n"),
        format!("{house}api-key-env = \"{secret}\"\n"),
        format!("{house}api-key-file = \"{secret}\"\n"),
        format!("{house}api-key-file = \"{open}\"\n"),
        format!("{house}api-key-file = \"{blank}\"\n"),
        format!("{house}api-key-fiel = \"{secret}\"\n"),
        format!(
            "[providers.house]\nmodel = \"m\"\nbase-url = \"http://user:{secret}@127.0.0.1/v1\"\n"
        ),
        format!(
            "[providers.house]\nmodel = \"m\"\nbase-url = \"http://127.0.0.1/v1?key={secret}\"\n"
        ),
        format!("[providers]\nhouse = \"{secret}\"\n"),
        format!("[auth]\ntokens-file = \"{secret}\"\n"),
        format!("[auth]\ntokens-file = \"{open}\"\n"),
        format!("[auth]\ntokens-file = \"{unnamed}\"\n"),
        format!("[auth]\nheader = \"Bearer {secret}\"\n"),
        format!("[auth]\nmode = \"{secret}\"\n"),
        format!("[callers.a]\ntoken = \"{secret} {secret}\"\n"),
        format!("[callers.a]\ntoken = {secret}\n"),
        format!("[callers.a]\ntoken = [\"{secret}\"]\n"),
        format!("[callers.a]\ntoken-env = \"{secret}\"\n"),
        format!("[callers.a]\ntoken-file = \"{secret}\"\n"),
        format!("[callers.a]\nrights = \"{secret}\"\n"),
        format!("[callers]\na = \"{secret}\"\n"),
        format!("[callers.a]\ntoken = \"{secret}\"\n[callers.b]\ntoken = \"{secret}\"\n"),
        format!("[peers.a]\nurl = \"http://a.lan\"\ntoken = \"{secret}\"\n"),
        format!("[peers.a]\nurl = \"http://user:{secret}@a.lan\"\n"),
        format!("[peers.a]\nurl = \"http://a.lan\"\ntoken-env = \"{secret}\"\n"),
        format!("[card]\nkey-file = \"{pem}\"\n"),
        format!("[card]\nkey-file = \"{open}\"\n"),
    ];
    let none = planted("none.toml", "");
    let variables: &[(&str, String)] = &[
        ("OPENAI_API_KEY", format!("{secret} {secret}")),
        ("OPENAI_API_KEY_FILE", secret.clone()),
        ("OPENAI_API_KEY_FILE", open.clone()),
        ("A2A_AUTH_TOKENS", secret.clone()),
        ("A2A_AUTH_TOKENS", format!("a b:{secret}")),
        ("A2A_AUTH_TOKENS_FILE", open.clone()),
        ("CODETETHER_AUTH_TOKEN", format!("{secret} {secret}")),
        ("TETHERLET_CALLERS_A_TOKEN", format!("{secret} {secret}")),
        ("TETHERLET_CALLERS_A_TOKN", secret.clone()),
        ("OPENAI_BASE_URL", format!("http://user:{secret}@127.0.0.1/v1")),
    ];
    let written = files
        .iter()
        .enumerate()
        .map(|(at, toml)| (planted(&format!("agent{at}.toml"), toml), toml.as_str(), None));
    let set = variables.iter().map(|set| (none.clone(), set.0, Some((set.0, set.1.as_str()))));
    for (file, case, variable) in written.chain(set) {
        for arguments in [&["check-config"][..], &["status", "--config"], &["run", "--port", "x"]] {
            let mut command = program(&home.0);
            command.args(arguments).env("TETHERLET_CONFIG", &file).stdin(Stdio::null());
            command.envs(variable);
            let done = command.output().unwrap();
            let said = [done.stdout, done.stderr].concat();
            assert_ne!(done.status.code(), Some(101), "{case}");
            canaries.search(&format!("{arguments:?} with {}", case.replace(&secret, "...")), &said);
        }
    }
}

#[test]
fn secrets_are_compared_by_their_digests_alone() {
    fn search(folder: &Path, wrong: &mut Vec<String>) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                search(&path, wrong);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let production = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            for line in production.lines().filter(|line| line.contains(".expose()")) {
                let compares =
                    ["==", "!=", ".eq(", ".ne(", "starts_with", "cmp(", "assert", "matches!"];
                if compares.iter().any(|word| line.contains(word)) {
                    wrong.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    let mut wrong = Vec::new();
    search(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut wrong);
    assert!(wrong.is_empty(), "ask Secret::digest instead: {wrong:#?}");
}
