//! The agent card over HTTP: its forms, how it is kept, what vouches for it.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use serde_json::{Value, json};
use support::{Agent, Reply, exchange};

const CARD: &str = "/.well-known/agent-card.json";

/// An agent whose `[card]` section holds these lines.
fn with_card(lines: &str) -> Agent {
    Agent::configured(&format!("[agent]\nname = \"workshop\"\n[card]\n{lines}"), &[])
}

fn get_with(agent: &Agent, headers: &str) -> Reply {
    let request = format!("GET {CARD} HTTP/1.1\r\nHost: box\r\n{headers}Connection: close\r\n\r\n");
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
    assert_eq!(new["capabilities"], json!({"streaming": true}));
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
    assert_eq!(card["capabilities"], json!({"streaming": true, "extendedAgentCard": true}));
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
