//! Whom the program trusts when it calls others, what it shows them, and what it says when that fails: every case
//! once, with certificates made by openssl and with the real program.
#![expect(clippy::disallowed_methods, reason = "tests have deadlines and threads of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/provider.rs"]
mod provider;
mod support;
#[path = "support/tls.rs"]
mod tls;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use provider::{Provider, Script};
use serde_json::json;
use support::{Agent, Home, message, program};
use tls::{AUTHORITY, HERE, Pair, Server, Wish, card, make, openssl};

/// A token that must turn up nowhere but in one header.
const CANARY: &str = "canary-token-4711";

/// Runs the program with pins of its own.
fn run(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    program(&home.0)
        .env("TETHERLET_OUTBOUND_PINS_FILE", home.0.join("pins"))
        .envs(variables.iter().copied())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn err(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

fn out(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

/// That the card comes.
fn comes(home: &Home, arguments: &[&str]) {
    let output = run(home, &[&["card"], arguments].concat(), &[]);
    assert_eq!((output.status.code(), err(&output)), (Some(0), ""), "{arguments:?}");
    assert_eq!(out(&output).trim(), r#"{"name":"behind TLS"}"#);
}

/// That it does not, and that all of this is said.
fn fails(home: &Home, arguments: &[&str], said: &[&str]) {
    let output = run(home, &[&["card"], arguments].concat(), &[]);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", out(&output));
    for said in said {
        assert!(err(&output).contains(said), "{said}: {}", err(&output));
    }
    assert_eq!(err(&output).lines().count(), 1, "{}", err(&output));
}

fn by(issuer: &Pair) -> Wish<'_> {
    Wish { issuer: Some(issuer), ..HERE }
}

#[test]
fn a_certificate_out_of_date_is_told_with_both_dates() {
    let home = Home::new();
    let root = make(&home.0, "root", AUTHORITY);
    let old = make(&home.0, "old", Wish { to: "20210203040506Z", ..by(&root) });
    let server = Server::start(&[&old], &card());
    let said = [
        "its certificate expired on 2021-02-03 04:05:06 UTC (the clock of this machine says 20",
        "; renew it on the server, or pin it as it is with `tetherlet trust https://127.0.0.1:",
    ];
    fails(&home, &["--ca", root.pem(), &server.url()], &said);
    let new = make(&home.0, "new", Wish { from: "20600101000000Z", ..by(&root) });
    let server = Server::start(&[&new], &card());
    let said = [
        "is valid from 2060-01-01 00:00:00 UTC, but the clock of this machine says 20",
        "; set the clock (`timedatectl set-ntp true`",
    ];
    fails(&home, &["--ca", root.pem(), &server.url()], &said);
}

#[test]
fn a_self_signed_certificate_is_pinned_or_given() {
    let home = Home::new();
    let pair = make(&home.0, "own", HERE);
    let server = Server::start(&[&pair], &card());
    let said = [
        "its certificate is self-signed; pin it with `tetherlet trust https://127.0.0.1:",
        "--ca FILE",
    ];
    fails(&home, &[&server.url()], &said);
    comes(&home, &["--ca", pair.pem(), &server.url()]);
    // What `openssl req -x509` makes is an authority's.
    let wish = Wish {
        extensions: "basicConstraints=critical,CA:TRUE\nsubjectAltName=IP:127.0.0.1",
        ..HERE
    };
    let pair = make(&home.0, "x509", wish);
    let server = Server::start(&[&pair], &card());
    fails(&home, &[&server.url()], &said);
    comes(&home, &["--ca", pair.pem(), &server.url()]);
    // As a given one it is held to its names and dates.
    let url = server.url().replace("127.0.0.1", "localhost");
    fails(&home, &["--ca", pair.pem(), &url], &["is for 127.0.0.1, not for localhost"]);
    let old = make(&home.0, "old", Wish { to: "20210101000000Z", ..wish });
    let server = Server::start(&[&old], &card());
    fails(&home, &["--ca", old.pem(), &server.url()], &["expired on 2021-01-01"]);
}

#[test]
fn an_unknown_authority_is_named_and_can_be_given_in_four_ways() {
    let home = Home::new();
    let root = make(&home.0, "root", AUTHORITY);
    let pair = make(&home.0, "pi", by(&root));
    let server = Server::start(&[&pair], &card());
    let url = server.url();
    let said = [
        "its certificate is from CN=Test Root, an authority that is not known here; give",
        "outbound.ca-file",
    ];
    fails(&home, &[&url], &said);
    comes(&home, &["--ca", root.pem(), &url]);
    let file = home.file("t.toml", &format!("[outbound]\nca-file = \"{}\"\n", root.pem()));
    comes(&home, &["--config", file.to_str().unwrap(), &url]);
    for name in ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "TETHERLET_OUTBOUND_CA_FILE"] {
        let output = run(&home, &["card", &url], &[(name, root.pem())]);
        assert!(output.status.success(), "{name}: {}", err(&output));
    }
    let output = run(&home, &["card", &url], &[("SSL_CERT_FILE", "/nonexistent/x")]);
    assert!(
        err(&output).starts_with("warning: environment SSL_CERT_FILE is not used: /none"),
        "{output:?}"
    );
    let damaged = "-----BEGIN CERTIFICATE-----\nMII$$$\n-----END CERTIFICATE-----\n";
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, text) in [("SSL_CERT_FILE", damaged), ("NODE_EXTRA_CA_CERTS", no_certificate)] {
        let file = home.file("damaged.pem", text);
        let output = run(&home, &["card", &url], &[(name, file.to_str().unwrap())]);
        let said = format!(
            "warning: environment {name} is not used: {} holds no certificate that can be used",
            file.display()
        );
        assert!(err(&output).starts_with(&said), "{output:?}");
        // One that can be used is enough.
        let whole = std::fs::read_to_string(&root.pem).unwrap();
        let file = home.file("damaged.pem", &format!("{text}{whole}"));
        let output = run(&home, &["card", &url], &[(name, file.to_str().unwrap())]);
        assert_eq!((output.status.code(), err(&output)), (Some(0), ""));
    }
    let output = run(&home, &["card", &url], &[("TETHERLET_OUTBOUND_CA_FILE", "/nonexistent/x")]);
    assert_eq!(output.status.code(), Some(2));
    let said =
        "environment TETHERLET_OUTBOUND_CA_FILE: outbound.ca-file: /nonexistent/x cannot be read: ";
    assert!(err(&output).contains(said), "{output:?}");
}

#[test]
fn a_missing_intermediate_is_the_servers_to_send() {
    let home = Home::new();
    let root = make(&home.0, "root", AUTHORITY);
    let middle =
        make(&home.0, "middle", Wish { name: "Test Middle", issuer: Some(&root), ..AUTHORITY });
    let pair = make(&home.0, "pi", by(&middle));
    let alone = Server::start(&[&pair], &card());
    let said =
        ["without the one of its issuer, CN=Test Middle; have it serve the full chain (`cat"];
    fails(&home, &["--ca", root.pem(), &alone.url()], &said);
    comes(&home, &["--ca", root.pem(), &Server::start(&[&pair, &middle], &card()).url()]);
    // A public one says where its issuer's certificate is.
    let extensions =
        "subjectAltName=IP:127.0.0.1\nauthorityInfoAccess=caIssuers;URI:http://127.0.0.1/ca";
    let public = make(&home.0, "public", Wish { extensions, ..by(&middle) });
    fails(&home, &[&Server::start(&[&public], &card()).url()], &said);
}

#[test]
fn a_certificate_for_others_says_for_whom() {
    let home = Home::new();
    let root = make(&home.0, "root", AUTHORITY);
    let extensions = "subjectAltName=DNS:pi.example,DNS:*.lan,IP:192.0.2.1";
    let pair = make(&home.0, "pi", Wish { extensions, ..by(&root) });
    let server = Server::start(&[&pair], &card());
    let said =
        ["is for pi.example, *.lan, 192.0.2.1, not for 127.0.0.1; write a name it has in the URL"];
    fails(&home, &["--ca", root.pem(), &server.url()], &said);
}

/// Where everybody is told this, whatever they say, and then nothing.
fn answering(text: &'static str) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut all: Vec<TcpStream> = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(text.as_bytes());
            all.push(stream);
        }
    });
    address
}

#[test]
fn http_and_https_are_told_from_each_other() {
    let home = Home::new();
    let url = format!("https://{}", answering("HTTP/1.1 400 Bad Request\r\n\r\n"));
    fails(&home, &[&url], &["does not speak TLS; write http:// in the URL"]);
    let server = Server::start(&[&make(&home.0, "own", HERE)], &card());
    let url = server.url().replace("https:", "http:");
    fails(&home, &[&url], &["speaks TLS; write https:// in the URL"]);
    let noise = Provider::start([Script::default().raw("220 smtp.example ESMTP\r\n").close()]);
    fails(&home, &[&noise.url()], &["does not answer in HTTP; is the port right?"]);
    let closed = Provider::start([Script::default().close()]);
    fails(
        &home,
        &[&closed.url()],
        &["closed or reset the connection; ", "if it speaks TLS, write https://"],
    );
}

#[test]
fn a_client_certificate_that_is_missing_or_wrong_is_told() {
    let home = Home::new();
    let (root, other) = (make(&home.0, "root", AUTHORITY), make(&home.0, "other", AUTHORITY));
    let pair = make(&home.0, "pi", by(&root));
    let client = make(&home.0, "client", Wish { name: "me", ..by(&root) });
    let stranger = make(&home.0, "stranger", Wish { name: "me", ..by(&other) });
    let old = make(&home.0, "version1", Wish { name: "me", extensions: "", ..by(&root) });
    let ca = ["--ca", root.pem()];
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = Server::asking(&pair, &root, version);
        let url = server.url();
        let with = |it: &Pair| {
            [&ca[..], &["--cert", it.pem(), "--key", it.key(), &url]]
                .concat()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let said = ["a client certificate", "--cert FILE --key FILE"];
        // `card` keeps `--key` for signatures.
        let status = |arguments: &[String]| {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run(&home, &[&["status", "--json"][..], &arguments].concat(), &[])
        };
        fails(&home, &[&ca[..], &[&url]].concat(), &said);
        let output = status(&with(&stranger));
        assert!(err(&output).contains("it refuses the client certificate ("), "{output:?}");
        let output = status(&with(&client));
        assert_eq!(out(&output).trim(), r#"{"name":"behind TLS"}"#, "{output:?}");
        // A request with a body is told as well.
        let output = run(
            &home,
            &["send", "--protocol", "1.0", "--binding", "jsonrpc", ca[0], ca[1], &url, "hello"],
            &[],
        );
        assert!(err(&output).contains("a client certificate"), "{output:?}");
        assert_eq!(server.heads().len(), 1);
    }
    let both = std::fs::read_to_string(&client.pem).unwrap()
        + &std::fs::read_to_string(&client.key).unwrap();
    let both = home.file("both.pem", &both);
    let server = Server::asking(&pair, &root, &rustls::version::TLS13);
    comes(&home, &[&ca[..], &["--cert", both.to_str().unwrap(), &server.url()]].concat());
    std::fs::set_permissions(&client.pem, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = run(&home, &["card", "--cert", client.pem(), &server.url()], &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = format!("--cert: {} holds no private key; give --key FILE\n", client.pem());
    assert!(err(&output).ends_with(&said), "{output:?}");
    let open = home.file("open.pem", &std::fs::read_to_string(&both).unwrap());
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mismatch =
        format!("--cert {} and --key {} do not belong together", client.pem(), pair.key());
    for (cert, key, said) in [
        (client.pem(), pair.key(), mismatch.as_str()),
        (old.pem(), old.key(), "--cert: cannot be used: it is of version 1 of X.509; make it with"),
        (client.key(), client.key(), "holds no certificate in PEM"),
        (client.pem(), client.pem(), "holds no private key in PEM"),
        (open.to_str().unwrap(), open.to_str().unwrap(), "is open to group or others: chmod 600 "),
    ] {
        let output = run(&home, &["status", "--cert", cert, "--key", key, &server.url()], &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(err(&output).contains(said), "{output:?}");
    }
}

#[test]
fn a_pinned_key_goes_over_everything_and_another_is_refused() {
    let home = Home::new();
    let wish =
        Wish { extensions: "subjectAltName=DNS:other.example", to: "20210101000000Z", ..HERE };
    let pair = make(&home.0, "pi", wish);
    let server = Server::start(&[&pair], &card());
    let url = server.url();
    let pins = home.file(
        "pins",
        "# kept\nother.example:1 sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
    );
    // Nobody to ask.
    let asked = run(&home, &["trust", &url], &[]);
    assert_eq!(asked.status.code(), Some(1));
    assert!(err(&asked).contains("nothing was stored: nobody to ask"), "{asked:?}");
    let key = openssl(&["pkey", "-in", pair.key(), "-pubout", "-outform", "PEM"]);
    let der: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    let der = tetherlet::base::base64::decode(&der).unwrap();
    let shown = tetherlet::config::trust::shown(&tetherlet::config::trust::sha256(&der));
    let fingerprint = openssl(&["x509", "-in", pair.pem(), "-noout", "-fingerprint", "-sha256"]);
    let fingerprint = fingerprint.trim().split_once('=').unwrap().1;
    for said in [
        "subject      CN=pi.local",
        "names        other.example",
        "valid        2020-01-01 00:00:00 UTC to 2021-01-01 00:00:00 UTC",
        "unpinned     refused: its certificate expired on 2021-01-01",
        &shown,
        fingerprint,
    ] {
        assert!(out(&asked).contains(said), "{said}: {}", out(&asked));
    }
    let wrong = run(
        &home,
        &["trust", "--fingerprint", &fingerprint.replace(':', "").replace(['0', '1'], "2"), &url],
        &[],
    );
    assert!(err(&wrong).contains("is another one than was given: nothing was stored"), "{wrong:?}");
    assert_eq!(std::fs::read_to_string(&pins).unwrap().lines().count(), 2);
    let stored = run(&home, &["trust", "--fingerprint", fingerprint, &url], &[]);
    assert!(stored.status.success(), "{stored:?}");
    let text = std::fs::read_to_string(&pins).unwrap();
    assert!(text.starts_with("# kept\nother.example:1 "), "{text}");
    assert!(text.ends_with(&format!("{} {shown}\n", server.address)), "{text}");
    // An agent of another user reads what root has stored.
    let wanted = if rustix::process::geteuid().is_root() { 0o644 } else { 0o600 };
    assert_eq!(std::fs::metadata(&pins).unwrap().permissions().mode() & 0o777, wanted);
    assert_eq!(server.heads(), Vec::<String>::new(), "nothing but a handshake was sent");
    comes(&home, &[&url]);
    let again = run(&home, &["trust", "--yes", &url], &[]);
    assert!(out(&again).contains("is pinned to this key already"), "{again:?}");
    // The pin is for that port.
    let twin = Server::start(&[&pair], &card());
    fails(&home, &[&twin.url()], &["expired on 2021"]);
    // Another key at the pinned place, although an authority vouches for it.
    let root = make(&home.0, "root", AUTHORITY);
    let good = Server::start(&[&make(&home.0, "good", by(&root))], &card());
    home.file("pins", &format!("{} {shown}\n", good.address));
    let said = [
        "it has another key than the one that was pinned, now sha256/",
        "`tetherlet trust https://127.0.0.1:",
    ];
    fails(&home, &["--ca", root.pem(), &good.url()], &said);
    assert_eq!(good.heads(), Vec::<String>::new());
    let changed = run(&home, &["trust", "--yes", &good.url()], &[]);
    assert!(out(&changed).contains(": ANOTHER KEY"), "{changed:?}");
    comes(&home, &[&good.url()]);
    let list = run(&home, &["trust", "--list"], &[]);
    assert!(out(&list).starts_with(&format!("{} sha256/", good.address)), "{list:?}");
    assert!(run(&home, &["trust", "--remove", &good.url()], &[]).status.success());
    assert_eq!(out(&run(&home, &["trust", "--list"], &[])), "");
    let gone = run(&home, &["trust", "--remove", &good.url()], &[]);
    assert!(err(&gone).contains("is not pinned"), "{gone:?}");
}

#[test]
fn a_server_that_demands_client_certificates_can_be_trusted() {
    let home = Home::new();
    let root = make(&home.0, "root", AUTHORITY);
    let pair = make(&home.0, "pi", HERE);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = Server::asking(&pair, &root, version);
        let output = run(&home, &["trust", "--yes", &server.url()], &[]);
        assert!(output.status.success(), "{output:?}");
        fails(&home, &[&server.url()], &["a client certificate"]);
    }
}

#[test]
fn what_has_no_key_is_not_trusted() {
    let home = Home::new();
    let url = format!("http://{}", answering("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let output = run(&home, &["trust", "--yes", &url], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("plain http: there is no key to pin"), "{output:?}");
    let output = run(&home, &["trust", "--yes", &url.replace("http:", "https:")], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("does not speak TLS"), "{output:?}");
    assert!(!home.0.join("pins").exists());
}

#[test]
fn providers_are_trusted_by_configuration_and_the_reason_stands_in_the_task() {
    let home = Home::new();
    let root = make(&home.0, "root", AUTHORITY);
    let pair = make(&home.0, "pi", by(&root));
    let body = provider::Form::OpenAi.document("hello from behind TLS");
    let server = Server::start(&[&pair], &tls::reply("application/json", &body));
    let url = server.url();
    let variables = [("OPENAI_API_KEY", CANARY), ("OPENAI_BASE_URL", url.as_str())];
    let ask = |agent: &Agent| agent.result("message/send", message("Tell me about tides"));
    let mut agent = Agent::configured("[push]\n", &variables);
    let task = ask(&agent).to_string();
    let said = "no connection to the provider: its certificate is from CN=Test Root, an authority that is not known";
    assert!(task.contains(said) && task.contains("outbound.ca-file"), "{task}");
    // Where the provider is, is not the caller's matter.
    assert!(!task.contains(&server.address.to_string()), "{task}");
    agent.wait_for(said);
    let toml = format!("[outbound]\nca-file = \"{}\"\n", root.pem());
    let task = ask(&Agent::configured(&toml, &variables));
    assert_eq!(support::reply_of(&task), "hello from behind TLS", "{task}");
    let pins = home.0.join("pins");
    assert!(run(&home, &["trust", "--yes", &url], &[]).status.success());
    let toml = format!("[outbound]\npins-file = \"{}\"\n", pins.display());
    let task = ask(&Agent::configured(&toml, &variables));
    assert_eq!(support::reply_of(&task), "hello from behind TLS", "{task}");
    assert_eq!(server.heads().len(), 2);
}

#[test]
fn a_provider_that_is_silent_where_tls_was_expected_is_told() {
    let url = format!("https://{}", answering(""));
    let variables = [("OPENAI_API_KEY", CANARY), ("OPENAI_BASE_URL", url.as_str())];
    let agent = Agent::configured("[relay]\nconnect-s = 1\n", &variables);
    let task = agent.result("message/send", message("Tell me about tides")).to_string();
    let said = "no connection to the provider: connected, but no TLS handshake in time; does the provider's base \
                URL speak TLS at all";
    assert!(task.contains(said), "{task}");
}

#[test]
fn the_log_says_why_a_webhook_with_tls_is_not_told() {
    let home = Home::new();
    let server = Server::start(&[&make(&home.0, "own", HERE)], &card());
    let mut agent = Agent::configured("[push]\nallow-private = true\nattempts = 1\n", &[]);
    let mut params = message("25*4");
    params["configuration"] =
        json!({"pushNotificationConfig": {"url": format!("{}/{CANARY}", server.url())}});
    agent.result("message/send", params);
    let line = agent.wait_for("given up");
    let said =
        "given up at try 1: TLS: its certificate is self-signed: pin it with `tetherlet trust`";
    assert!(line.contains(said), "{line}");
    assert!(!agent.log.contains(CANARY), "{}", agent.log);
}

#[test]
fn connections_that_fail_say_what_to_look_at() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let said = [
        "connection refused: nothing listens at 127.0.0.1:",
        "a firewall",
        "(`tetherlet run` starts one)",
    ];
    fails(&home, &[&url], &said);
}

/// A card with an interface of 1.0 at `url`, on a connection of its own.
fn card_at(url: &str) -> Script {
    let card = json!({"name": "n", "supportedInterfaces":
        [{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}]});
    let headers = [("Content-Type", "application/json"), ("Connection", "close")];
    Script::reply(200, &headers, &card.to_string()).close()
}

fn done() -> Script {
    let task = json!({"jsonrpc": "2.0", "id": 1, "result": {"task": {"id": "t", "contextId": "c",
        "status": {"state": "TASK_STATE_COMPLETED"}}}});
    Script::reply(200, &[("Content-Type", "application/json")], &task.to_string())
}

#[test]
fn a_token_comes_from_a_file_or_the_environment_and_goes_into_one_header() {
    let home = Home::new();
    let file = home.file("token", &format!("{CANARY}\n"));
    let file = file.to_str().unwrap();
    home.file("tetherlet_token", CANARY);
    let folder = home.0.to_str().unwrap();
    for (flags, variables) in [
        (&["--token-file", file][..], &[("TETHERLET_TOKEN", "other")][..]),
        (&[], &[("TETHERLET_TOKEN", CANARY), ("A2A_API_KEY", "other")]),
        (&[], &[("TETHERLET_TOKEN_FILE", file)]),
        (&[], &[("A2A_API_KEY", CANARY)]),
        (&[], &[("CREDENTIALS_DIRECTORY", folder)]),
    ] {
        let agent = Provider::start([card_at("http://0.0.0.0/rpc"), done()]);
        let url = agent.url();
        let output = run(&home, &[&["send"], flags, &[&url, "hello"]].concat(), variables);
        assert!(output.status.success(), "{output:?}");
        let requests = agent.requests();
        assert_eq!(requests.len(), 2);
        for request in requests {
            let wanted = format!("Bearer {CANARY}");
            assert_eq!(request.header("authorization"), Some(wanted.as_str()));
            assert!(!format!("{}{}", request.path, request.body).contains(CANARY));
        }
    }
    let agent = Provider::start([card_at("http://0.0.0.0/rpc"), done()]);
    assert!(run(&home, &["send", &agent.url(), "hello"], &[]).status.success());
    assert!(agent.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_peer_is_shown_the_token_of_its_section() {
    let home = Home::new();
    let agent = Provider::start([
        card_at("http://0.0.0.0/rpc"),
        done(),
        card_at("http://0.0.0.0/rpc"),
        done(),
    ]);
    let (url, token) = (agent.url(), home.file("token", CANARY));
    let toml = format!("[peers.hub]\nurl = \"{url}/base\"\ntoken-file = \"{}\"\n", token.display());
    let file = home.file("t.toml", &toml);
    let arguments = ["send", "--config", file.to_str().unwrap(), &url, "hello"];
    assert!(run(&home, &arguments, &[]).status.success());
    // What the environment says goes over files.
    assert!(run(&home, &arguments, &[("TETHERLET_TOKEN", "other")]).status.success());
    let shown: Vec<_> =
        agent.requests().iter().map(|it| it.header("authorization").map(str::to_owned)).collect();
    let (own, other) = (format!("Bearer {CANARY}"), "Bearer other".to_owned());
    assert_eq!(shown, [Some(own.clone()), Some(own), Some(other.clone()), Some(other)]);
}

#[test]
fn a_token_on_the_command_line_or_in_an_open_file_is_refused() {
    let home = Home::new();
    for arguments in [
        &["send", "--token", CANARY, "http://127.0.0.1:1", "x"][..],
        &["card", &format!("--token={CANARY}"), "http://127.0.0.1:1"],
        &["status", &format!("--token={CANARY}")],
    ] {
        let output = run(&home, arguments, &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            err(&output).contains("everybody on this machine can read")
                && err(&output).contains("--token-file")
        );
        assert!(!err(&output).contains(CANARY), "{output:?}");
    }
    let file = home.file("token", CANARY);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output =
        run(&home, &["card", "--token-file", file.to_str().unwrap(), "http://127.0.0.1:1"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("token is open to group or others: chmod 600 "), "{output:?}");
    assert!(!err(&output).contains(CANARY), "{output:?}");
    let (empty, two) = (home.file("empty key", "\n"), home.file("two", "a b"));
    for (file, said) in [
        (
            &empty,
            "/empty key holds no token; the agent's operator makes one with `tetherlet token new`",
        ),
        (&two, "/two does not hold a token: one line without blanks"),
    ] {
        let file = file.to_str().unwrap();
        let output = run(&home, &["card", "--token-file", file, "http://127.0.0.1:1"], &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(err(&output).contains(said), "{output:?}");
    }
}

#[test]
fn a_token_goes_to_the_place_it_was_given_for_and_nowhere_else() {
    let home = Home::new();
    let token = [("TETHERLET_TOKEN", CANARY)];
    // Another port is another place.
    let other = Provider::start([done()]);
    let agent = Provider::start([card_at(&format!("{}/rpc", other.url()))]);
    let output = run(&home, &["send", &agent.url(), "hello"], &token);
    assert_eq!(output.status.code(), Some(1));
    let said =
        format!("the agent's card names {}, another place than {}", other.url(), agent.url());
    assert!(err(&output).contains(&said) && err(&output).contains("give that URL"), "{output:?}");
    assert_eq!(other.requests().len(), 0);
    // Without a token it is followed, as before.
    let agent = Provider::start([card_at(&format!("{}/rpc", other.url()))]);
    assert!(run(&home, &["send", &agent.url(), "hello"], &[]).status.success());
    // A redirect is reported, for the card and for a call.
    let moved = || Script::reply(307, &[("Location", &format!("{}/x", other.url()))], "");
    for scripts in [vec![moved()], vec![card_at("http://0.0.0.0/rpc"), moved()]] {
        let agent = Provider::start(scripts);
        let output = run(&home, &["send", &agent.url(), "hello"], &token);
        assert_eq!(output.status.code(), Some(1));
        let said = format!(
            "has moved to {}/x (HTTP status 307), and redirects are not followed",
            other.url()
        );
        assert!(err(&output).contains(&said), "{output:?}");
    }
    assert_eq!(other.requests().len(), 1);
    // In clear it goes no further than the private network.
    let output = run(&home, &["send", "http://agent.example", "hello"], &token);
    assert!(
        err(&output).contains("the token from TETHERLET_TOKEN is not sent over plain http"),
        "{output:?}"
    );
    assert!(!err(&output).contains(CANARY));
}

#[test]
fn refused_credentials_are_told_from_missing_ones_and_missing_rights() {
    let home = Home::new();
    let file = home.file("token", CANARY);
    let file = file.to_str().unwrap();
    for (status, flags, said) in [
        (
            401,
            &[][..],
            "the agent wants a token: no (HTTP status 401); give one with --token-file FILE, TETHERLET_TOKEN",
        ),
        (401, &["--token-file", file], "the agent does not know the token from file "),
        (
            403,
            &["--token-file", file],
            " may not do this: no (HTTP status 403); ask the agent's operator for the right",
        ),
        (
            403,
            &[],
            "the agent does not permit this without credentials: no (HTTP status 403); give one",
        ),
    ] {
        let no = || Script::reply(status, &[], r#"{"error":{"message":"no"}}"#);
        let agent = Provider::start([card_at("http://0.0.0.0/rpc"), no(), no()]);
        for command in [&["get"][..], &["card"]] {
            let id: &[&str] = if command == ["get"] { &["t"] } else { &[] };
            let output = run(&home, &[command, flags, &[&agent.url()], id].concat(), &[]);
            assert_eq!(output.status.code(), Some(1));
            assert!(err(&output).contains(said), "{said}: {output:?}");
            assert!(!err(&output).contains(CANARY));
        }
    }
}

#[test]
fn what_a_real_agent_refuses_is_said_once_and_with_the_way_out() {
    let toml = "[callers.anna]\ntoken-env = \"ANNA\"\n[callers.guest]\ntoken-env = \"GUEST\"\nrights = \"card\"\n";
    let guest = "tl_guest0123456789abcdef";
    let agent = Agent::configured(toml, &[("ANNA", "tl_anna0123456789abcdef"), ("GUEST", guest)]);
    let (home, url) = (Home::new(), format!("http://{}", agent.address));
    let refused = |arguments: &[&str], token: Option<&str>| {
        let variables: Vec<_> = token.map(|token| ("TETHERLET_TOKEN", token)).into_iter().collect();
        let output = run(&home, arguments, &variables);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        err(&output).to_owned()
    };
    let commands = [&["send", &url, "25*4"][..], &["status", &url]];
    for command in commands {
        let said = "tetherlet: the agent wants a token (HTTP status 401); give one with --token-file FILE, \
                    TETHERLET_TOKEN, or token-file in [peers.NAME] of the configuration\n";
        assert_eq!(refused(command, None), said);
        let said = "tetherlet: the agent does not know the token from TETHERLET_TOKEN (HTTP status 401); is it \
                    whole, still valid, and meant for this agent?\n";
        assert_eq!(refused(command, Some("tl_wrong")), said);
    }
    let right = "the token from TETHERLET_TOKEN may not do this: ";
    for (command, name) in commands.iter().zip(["(right `tasks`)", "(right `status`)"]) {
        let said = refused(command, Some(guest));
        assert!(said.contains(right) && said.contains(name), "{said}");
    }
    // Two were wrong already.
    for _ in 0..20 {
        refused(&["status", &url], Some("tl_wrong"));
    }
    for command in commands {
        let said = refused(command, Some("tl_wrong"));
        let start = "tetherlet: the agent does not take the token from TETHERLET_TOKEN: too many wrong ones came \
                     from this address (HTTP status 429); check that it is the right one, and try again in ";
        assert!(said.starts_with(start) && said.ends_with(" s\n"), "{said}");
    }
}

#[test]
fn a_client_certificate_that_nobody_asks_for_is_told() {
    let home = Home::new();
    let root = make(&home.0, "root", AUTHORITY);
    let pair = make(&home.0, "pi", by(&root));
    let client = make(&home.0, "client", Wish { name: "me", ..by(&root) });
    let no = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for is_asking in [false, true] {
        let server = if is_asking {
            Server::asking_with(&pair, &root, no)
        } else {
            Server::start(&[&pair], no)
        };
        let flags = ["status", "--ca", root.pem(), "--cert", client.pem(), "--key", client.key()];
        let output = run(&home, &[&flags[..], &[&server.url()]].concat(), &[]);
        assert!(err(&output).contains("the agent wants a token (HTTP status 401)"), "{output:?}");
        let said =
            "; it did not ask for the client certificate: its operator sets tls.client-ca-file\n";
        assert_eq!(err(&output).ends_with(said), !is_asking, "{output:?}");
    }
}

/// A proxy that connects everybody to `upstream`, wherever they want to go, or says no. Tells what it was asked.
fn connecting_proxy(upstream: Option<std::net::SocketAddr>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") {
                client.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap();
            sender.send(head.lines().next().unwrap().to_owned()).unwrap();
            let Some(upstream) = upstream else {
                let _ = client.write_all(b"HTTP/1.1 403 No\r\n\r\n");
                continue;
            };
            let mut server = TcpStream::connect(upstream).unwrap();
            let (mut back, mut from) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            client.write_all(b"HTTP/1.1 200 Go\r\n\r\n").unwrap();
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut back);
                let _ = back.shutdown(std::net::Shutdown::Write);
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut client, &mut server);
                let _ = server.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    (url, asked)
}

#[test]
fn servers_behind_a_proxy_are_trusted_and_pinned_by_their_own_name() {
    let home = Home::new();
    let server = Server::start(&[&make(&home.0, "own", HERE)], &card());
    let (proxy, asked) = connecting_proxy(Some(server.address));
    let through = [("HTTPS_PROXY", proxy.as_str())];
    let url = "https://hub.example:8443";
    let output = run(&home, &["card", url], &through);
    assert!(
        err(&output)
            .contains("self-signed; pin it with `tetherlet trust https://hub.example:8443`"),
        "{output:?}"
    );
    assert!(run(&home, &["trust", "--yes", url], &through).status.success());
    let output = run(&home, &["card", url], &through);
    assert_eq!(out(&output).trim(), r#"{"name":"behind TLS"}"#, "{output:?}");
    let asked: Vec<String> = asked.try_iter().collect();
    assert_eq!(asked, ["CONNECT hub.example:8443 HTTP/1.1"; 3]);
    let (proxy, _asked) = connecting_proxy(None);
    let output = run(&home, &["card", url], &[("HTTPS_PROXY", proxy.as_str())]);
    let said = format!(
        "the proxy {} that HTTPS_PROXY names did not connect: proxy server responded 403",
        proxy.strip_prefix("http://").unwrap()
    );
    assert!(
        err(&output).contains(&said) && err(&output).contains("NO_PROXY=hub.example"),
        "{output:?}"
    );
}

#[test]
fn a_proxy_that_is_not_there_is_told_from_an_agent_that_is_not() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    let nowhere = "proxy.invalid:3128";
    for (variable, place, why) in [
        ("HTTPS_PROXY", dead.to_string(), "connection refused: nothing listens there"),
        ("http_proxy", dead.to_string(), "connection refused: nothing listens there"),
        ("ALL_PROXY", nowhere.to_owned(), "the host name cannot be resolved"),
    ] {
        let proxy = format!("http://user:{CANARY}@{place}");
        for arguments in [
            &["card", "https://agent.example"][..],
            &["send", "http://agent.example", "hello"],
            &["trust", "--yes", "https://agent.example"],
        ] {
            let output = run(&home, arguments, &[(variable, &proxy)]);
            let said = format!("the proxy {place} that {variable} names did not connect: {why}");
            assert_eq!(output.status.code(), Some(1));
            assert!(err(&output).contains(&said), "{said}: {output:?}");
            assert!(err(&output).contains("NO_PROXY=agent.example"), "{output:?}");
            assert!(!err(&output).contains("listens at"), "{output:?}");
            assert!(!err(&output).contains(CANARY), "{output:?}");
        }
    }
}

/// Passes connections on, and each answer only when it is whole.
fn collecting_proxy(upstream: std::net::SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut server = TcpStream::connect(upstream).unwrap();
            let mut back = client.try_clone().unwrap();
            let mut from = server.try_clone().unwrap();
            std::thread::spawn(move || {
                let mut answer = Vec::new();
                let _ = from.read_to_end(&mut answer);
                let _ = back.write_all(&answer);
                let _ = back.shutdown(std::net::Shutdown::Write);
            });
            std::thread::spawn(move || std::io::copy(&mut client, &mut server));
        }
    });
    url
}

#[test]
fn events_that_a_proxy_held_back_are_noticed() {
    let home = Home::new();
    let event = |second: u8, state: &str| {
        let status = json!({"state": state, "timestamp": format!("2026-11-20T10:00:{second:02}Z")});
        let update = json!({"taskId": "t", "contextId": "c", "status": status});
        format!("data: {}\n\n", json!({"result": {"statusUpdate": update}}))
    };
    let stream = |seconds: u8| {
        Script::open_stream()
            .piece(event(0, "TASK_STATE_WORKING"))
            .piece(event(seconds, "TASK_STATE_COMPLETED"))
            .close()
    };
    let hint = "note: all events came at once, when the task was over: a proxy on the way holds them back. \
                With nginx, set `proxy_buffering off;`";
    for (seconds, is_held) in [(4, true), (2, false)] {
        let agent = Provider::start([card_at("http://0.0.0.0/rpc"), stream(seconds)]);
        let url = collecting_proxy(agent.address);
        let output = run(&home, &["send", "--stream", &url, "hello"], &[]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(err(&output).starts_with(hint), is_held, "{output:?}");
        assert!(err(&output).is_empty() != is_held);
    }
}
