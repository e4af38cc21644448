//! The agent card over HTTP: its forms, how it is kept, what vouches for it.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![expect(clippy::disallowed_methods, reason = "tests have threads of their own")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Output;

use serde_json::{Value, json};
use support::{Agent, Home, Reply, exchange, request};
use tetherlet::a2a::signed::{Reading, Signed};
use tetherlet::base::jws::Keys;

const CARD: &str = "/.well-known/agent-card.json";

/// An agent whose `[card]` section holds these lines.
fn with_card(lines: &str) -> Agent {
    Agent::configured(&format!("[agent]\nname = \"workshop\"\n[card]\n{lines}"), &[])
}

fn get_with(agent: &Agent, headers: &str) -> Reply {
    let request =
        format!("GET {CARD} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n");
    exchange(agent.address, request.as_bytes())
}

fn names(of: &Value) -> Vec<&str> {
    of.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn each_form_has_the_members_of_its_versions() {
    let union = with_card("").get(CARD).json();
    for member in ["supportedInterfaces", "url", "preferredTransport", "additionalInterfaces"] {
        assert!(!union[member].is_null(), "{member}");
    }
    assert_eq!(union["supportedInterfaces"].as_array().unwrap().len(), 4);
    let new = with_card("form = \"1.0\"").get(CARD).json();
    let all = [
        "capabilities",
        "defaultInputModes",
        "defaultOutputModes",
        "description",
        "name",
        "provider",
        "skills",
        "supportedInterfaces",
        "version",
    ];
    assert_eq!(names(&new), all);
    assert_eq!(new["capabilities"], json!({"streaming": true, "pushNotifications": true}));
    let old = with_card("form = \"0.3\"").get(CARD).json();
    assert_eq!(old["protocolVersion"], "0.3.0");
    assert!(old["supportedInterfaces"].is_null());
}

#[test]
fn a_card_that_did_not_change_since_is_not_sent_again() {
    let agent = with_card("");
    let card = agent.get(CARD);
    let date = card.header("last-modified").unwrap();
    // `Reply` has its headers in lower case, and the name of a month is compared as it is written.
    let date: String = date
        .split(' ')
        .map(|word| {
            let mut letters = word.chars();
            let first = letters.next().unwrap().to_ascii_uppercase();
            if word == "gmt" { "GMT".to_owned() } else { first.to_string() + letters.as_str() }
        })
        .collect::<Vec<_>>()
        .join(" ");
    for since in [date.as_str(), "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let reply = get_with(&agent, &format!("If-Modified-Since: {since}\r\n"));
        assert_eq!((reply.status, reply.body.as_str()), (304, ""), "{since}");
        assert_eq!(reply.header("last-modified"), card.header("last-modified"));
        assert_eq!(reply.header("etag"), card.header("etag"));
    }
    for since in ["Sun, 06 Nov 1994 08:49:37 GMT", "yesterday", ""] {
        let reply = get_with(&agent, &format!("If-Modified-Since: {since}\r\n"));
        assert_eq!((reply.status, reply.body == card.body), (200, true), "{since}");
    }
    // With a tag the date does not count, whatever the tag says.
    let both = format!("If-None-Match: \"other\"\r\nIf-Modified-Since: {date}\r\n");
    assert_eq!(get_with(&agent, &both).status, 200);
}

#[test]
fn an_extended_card_is_announced_in_both_versions() {
    let card = with_card("extended = true").get(CARD).json();
    assert_eq!(card["capabilities"]["extendedAgentCard"], true);
    assert_eq!(card["supportsAuthenticatedExtendedCard"], true);
    let card = with_card("extended = true\nform = \"1.0\"").get(CARD).json();
    let all = json!({"streaming": true, "pushNotifications": true, "extendedAgentCard": true});
    assert_eq!(card["capabilities"], all);
}

#[test]
fn the_identity_in_codetether_is_offered_when_configured() {
    let agent = with_card(
        "agent-identity-id = \"agent-1\"\npersona-id = \"p\"\nspiffe-id = \"spiffe://x/y\"\n\
         agent-identity-required = true",
    );
    let card = agent.get(CARD).json();
    let extension = &card["capabilities"]["extensions"][0];
    assert_eq!(extension["uri"], "https://codetether.run/extensions/agent-identity/v1");
    assert_eq!(extension["required"], true);
    let params =
        json!({"agentIdentityId": "agent-1", "personaId": "p", "spiffeId": "spiffe://x/y"});
    assert_eq!(extension["params"], params);
}

/// Ed25519, the seed of RFC 8037 appendix A.1.
const ED25519: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
    -----END PRIVATE KEY-----\n";
const ED25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
    -----END PUBLIC KEY-----\n";
const THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
/// P-256, the key of RFC 7517 appendix A.2.
const P256: &str = "-----BEGIN PRIVATE KEY-----\n\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg870MB6gfuTJ4HtUn\n\
    UvYMyJpr5eUZNP4Bk43bVdj3eAGhRANCAAQwoEJM0hwpRIOKLXXJKzfnbqINnwCJ\n\
    OjtO7oo8Cq/sPuBLZekkVtmIi1Kzeb371R7oae8fD8ZbZllpW2zOCBcj\n\
    -----END PRIVATE KEY-----\n";
const P256_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMKBCTNIcKUSDii11ySs3526iDZ8A\n\
    iTo7Tu6KPAqv7D7gS2XpJFbZiItSs3m9+9Ue6GnvHw/GW2ZZaVtszggXIw==\n\
    -----END PUBLIC KEY-----\n";

/// A signing agent, and the folder with its key.
fn signing(key: &str, lines: &str) -> (Agent, Home) {
    let home = Home::new();
    let file = home.file("card.key", key);
    (with_card(&format!("key-file = \"{}\"\n{lines}", file.display())), home)
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Pages under paths, until the test ends.
fn pages(listener: TcpListener, pages: BTreeMap<&'static str, String>) {
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    break;
                }
            }
            let page = head.split(' ').nth(1).and_then(|path| pages.get(path));
            let (status, body) = page.map_or(("404 Not Found", ""), |page| ("200 OK", page));
            let reply = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = reader.get_mut().write_all(reply.as_bytes());
        }
    });
}

#[test]
fn a_signed_card_is_verified_with_the_keys_that_its_agent_serves() {
    for (key, algorithm) in [(ED25519, "EdDSA"), (P256, "ES256")] {
        for (form, readings) in
            [("union", &["1.0", "0.3"][..]), ("1.0", &["1.0"]), ("0.3", &["0.3"])]
        {
            let (agent, _home) = signing(key, &format!("form = \"{form}\"\nkey-id = \"k 1\""));
            let url = agent.url();
            let mut want = format!("workshop at {url}\n");
            for reading in readings {
                want = format!(
                    "{want}  valid    its members of A2A {reading}; key k 1 ({algorithm}), \
                     from {url}/.well-known/jwks.json\n"
                );
            }
            assert_eq!(said(&agent.run(&["card", "--verify"])), (Some(0), want));
        }
    }
}

#[test]
fn the_key_may_be_named_by_the_user() {
    for (key, public, other) in
        [(ED25519, ED25519_PUBLIC, P256_PUBLIC), (P256, P256_PUBLIC, ED25519_PUBLIC)]
    {
        let (agent, home) = signing(key, "");
        let jwks = agent.get("/.well-known/jwks.json").body;
        for keys in [public, &jwks] {
            let file = home.file("keys", keys);
            let file = file.to_str().unwrap();
            let (code, text) = said(&agent.run(&["card", "--verify", "--key", file, &agent.url()]));
            assert_eq!(code, Some(0), "{text}");
            assert!(text.contains(&format!(", from {file}\n")), "{text}");
        }
        for (keys, want) in [
            (other, "the key is for another algorithm"),
            (&*jwks.replace("\"kid\":\"", "\"kid\":\"x"), "is not among the keys given"),
            (key, "holds a private key"),
            ("{}", "holds no public key"),
        ] {
            let file = home.file("keys", keys);
            let output = agent.run(&["card", "--verify", "--key", file.to_str().unwrap()]);
            let (code, text) = said(&output);
            assert!(code == Some(1) && text.contains(want), "{want}: {text}");
        }
        let (code, text) = said(&agent.run(&["card", "--key", "keys"]));
        assert!(code == Some(2) && text.contains("--key goes with --verify"), "{text}");
    }
}

#[test]
fn the_key_set_is_a_page_and_holds_the_public_half_alone() {
    let (agent, _home) = signing(ED25519, "");
    let page = agent.get("/.well-known/jwks.json");
    assert_eq!((page.status, page.header("content-type")), (200, Some("application/json")));
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let want = json!({"keys": [{"kid": THUMBPRINT, "alg": "EdDSA", "use": "sig", "kty": "OKP",
        "crv": "Ed25519", "x": x}]});
    assert_eq!(page.json(), want);
    assert_eq!(agent.post("/.well-known/jwks.json", "").status, 405);
}

#[test]
fn the_extended_card_is_signed_as_well() {
    let (agent, _home) = signing(P256, "extended = true");
    let body = request("GetExtendedAgentCard", json!({}));
    let bytes = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nA2A-Version: 1.0\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let card = exchange(agent.address, bytes.as_bytes()).json()["result"].to_string();
    assert!(card.contains("It keeps up to 1024 tasks in 2048 KiB"), "{card}");
    let keys = Keys::read(&agent.get("/.well-known/jwks.json").body).unwrap();
    let card = Signed::read(&card).unwrap();
    let verdicts: Vec<_> = card.signatures.iter().map(|it| card.verify(it, &keys)).collect();
    assert_eq!(verdicts, [Ok(Reading::V10)]);
}

#[test]
fn an_unsigned_card_has_no_keys_and_is_not_verified() {
    let agent = with_card("");
    assert_eq!(agent.get("/.well-known/jwks.json").status, 404);
    let want = "tetherlet: the card of workshop is not signed\n".to_owned();
    assert_eq!(said(&agent.run(&["card", "--verify"])), (Some(1), want));
}

#[test]
fn a_changed_card_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let home = Home::new();
    let file = home.file("card.key", ED25519);
    let toml = format!(
        "[agent]\nname = \"workshop\"\n[listen]\npublic-url = \"{url}\"\n[card]\nkey-file = \"{}\"",
        file.display()
    );
    let agent = Agent::configured(&toml, &[]);
    let card = agent.get(CARD).body;
    let jwks = agent.get("/.well-known/jwks.json").body;
    // The keys are elsewhere, and nobody said that they may be fetched from there.
    let (code, text) = said(&agent.run(&["card", "--verify"]));
    assert!(code == Some(1) && text.contains("not where the card is from"), "{text}");
    assert!(text.contains(&format!("{url}/.well-known/jwks.json")) && text.contains("--key"));
    let changed = card.replacen("\"streaming\":true", "\"streaming\":false", 1);
    let moved = card.replacen(
        &format!("\"url\":\"{url}\",\"preferred"),
        "\"url\":\"http://elsewhere\",\"preferred",
        1,
    );
    let twice = card.replacen('{', "{\"name\":\"other\",", 1);
    assert!(changed != card && moved != card);
    pages(
        listener,
        BTreeMap::from([
            (CARD, card),
            ("/changed/.well-known/agent-card.json", changed),
            ("/moved/.well-known/agent-card.json", moved),
            ("/twice/.well-known/agent-card.json", twice),
            ("/.well-known/jwks.json", jwks),
        ]),
    );
    let verify = |path: &str| said(&agent.run(&["card", "--verify", &format!("{url}{path}")]));
    let (code, text) = verify("");
    assert!(code == Some(0) && !text.contains("invalid") && !text.contains("note"), "{text}");
    let (code, text) = verify("/changed");
    let want = format!(
        "tetherlet: no signature on the card of workshop holds: key {THUMBPRINT} (EdDSA): \
         it does not fit: the card was changed, or the key is another\n"
    );
    assert_eq!((code, text), (Some(1), want));
    // What only readers of 0.3 go by: the signature for 1.0 holds, and the user is told how far.
    let (code, text) = verify("/moved");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("valid    its members of A2A 1.0; "), "{text}");
    assert!(!text.contains("valid    its members of A2A 0.3"), "{text}");
    assert!(text.contains("\n  invalid  key ") && text.contains("\n  note     no valid"), "{text}");
    let (code, text) = verify("/twice");
    assert!(code == Some(1) && text.contains("a member stands twice"), "{text}");
    let (code, text) = verify("/none");
    assert!(code == Some(1) && text.contains("404"), "{text}");
}
