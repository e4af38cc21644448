//! Signatures of agent cards: what exactly is signed, and which of them hold (A2A 1.0 §8.4).
//!
//! A signature is made over the canonical text of the card as a reader sees it, without `signatures`. A reader of
//! 1.0 sees the members of the protocol buffer that are not at their default; the SDKs leave out whatever is empty,
//! required or not, and they are followed here. So members of 0.3 in the same card are not covered; a second
//! signature covers those as a reader of 0.3 sees them, the way its Python SDK does.

use std::fmt;

use serde_json::value::RawValue;

use crate::a2a::jcs::{JcsError, Rule, Shape, canonical};
use crate::base::json::Json;
use crate::base::jws::{Header, Keys, Refused, Signer};
use crate::base::members::{Members, elements};

/// Longest card that is verified, in bytes.
const CARD: usize = 1024 * 1024;

/// How a card is read for a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// By its members of 1.0.
    V10,
    /// By its members of 0.3.
    V03,
    /// As it is, whatever its members are.
    Whole,
}

impl Reading {
    const ALL: [Self; 3] = [Self::V10, Self::V03, Self::Whole];

    fn payload(self, card: &str) -> Result<String, JcsError> {
        match self {
            Self::V10 => canonical(card, &V10, false),
            Self::V03 => canonical(card, &V03, true),
            Self::Whole => canonical(card, &WHOLE, false),
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V10 => "its members of A2A 1.0",
            Self::V03 => "its members of A2A 0.3",
            Self::Whole => "all its members",
        })
    }
}

/// Signs a card of ours in each of these readings; `keys` is the URL of the key set.
///
/// Without random bytes from the kernel it stays unsigned.
pub fn sign(card: String, readings: &[Reading], signer: &Signer, keys: &str) -> String {
    let mut json = Json::default();
    json.open_array();
    for reading in readings {
        let payload = reading.payload(&card);
        if let Some((protected, signature)) = payload.ok().and_then(|it| signer.sign(&it, keys)) {
            json.open_object();
            json.member("protected", &protected);
            json.member("signature", &signature);
            json.close_object();
        }
    }
    json.close_array();
    let signatures = json.into_string();
    match card.strip_suffix('}') {
        Some(rest) if signatures.len() > 2 => format!("{rest},\"signatures\":{signatures}}}"),
        _ => card,
    }
}

/// Anybody's card with its signatures.
#[derive(Debug)]
pub struct Signed<'a> {
    json: &'a str,
    /// The agent's name.
    pub name: String,
    /// Its signatures, as they stand.
    pub signatures: Vec<Signature>,
    /// Whether it has a member that only readers of 0.3 go by.
    pub has_url: bool,
}

/// One signature.
#[derive(Debug)]
pub struct Signature {
    protected: String,
    value: String,
    /// What it says of itself; `None` when that cannot be read, or demands what nobody here understands.
    pub header: Option<Header>,
}

/// Most signatures that are looked at.
const SIGNATURES: usize = 8;

impl<'a> Signed<'a> {
    /// Reads a card.
    ///
    /// # Errors
    /// What is wrong with it: not a card, or none that all readers see alike.
    pub fn read(json: &'a str) -> Result<Self, String> {
        if json.len() > CARD {
            return Err(format!("the card is longer than {CARD} bytes"));
        }
        // Before anything of it is believed: no member may stand twice.
        Reading::Whole
            .payload(json)
            .map_err(|error| format!("the card cannot be verified: {error}"))?;
        let not_a_card = || "this is no agent card: it has no name".to_owned();
        let card = Members::read(json).ok_or_else(not_a_card)?;
        let signatures = card.get("signatures").and_then(elements).unwrap_or_default();
        let signature = |json: &&RawValue| {
            let members = Members::read(json.get())?;
            let protected = members.text("protected")?;
            let value = members.text("signature")?;
            Some(Signature { header: Header::read(&protected), protected, value })
        };
        Ok(Self {
            json,
            name: card.text("name").ok_or_else(not_a_card)?,
            signatures: signatures.iter().take(SIGNATURES).filter_map(signature).collect(),
            has_url: card.has("url"),
        })
    }

    /// The first reading of the card for which `signature`, one of its own, holds with one of `keys`.
    ///
    /// # Errors
    /// Why none does; `None` when the signature says nothing of itself that could be understood.
    pub fn verify(&self, signature: &Signature, keys: &Keys) -> Result<Reading, Option<Refused>> {
        let header = signature.header.as_ref().ok_or(None)?;
        let mut refused = None;
        for reading in Reading::ALL {
            let Ok(payload) = reading.payload(self.json) else { continue };
            match keys.verify(header, &signature.protected, &payload, &signature.value) {
                Ok(()) => return Ok(reading),
                Err(why) => refused = Some(why),
            }
        }
        Err(refused)
    }
}

/// The card without signatures, and nothing else left out.
const WHOLE: Shape = Shape::Except(&[("signatures", Rule::Drop)], &Shape::Whole);

/// What a reader of 0.3 keeps of a card with both versions' members. Its SDK leaves two members out when they are at
/// their default, and the type of a security scheme always: each kind has its own as the default.
const V03: Shape = Shape::Except(
    &[
        ("signatures", Rule::Drop),
        ("supportedInterfaces", Rule::Drop),
        ("securityRequirements", Rule::Drop),
        (
            "securitySchemes",
            Rule::As(Shape::Each(&Shape::Except(
                &[
                    ("type", Rule::Drop),
                    ("httpAuthSecurityScheme", Rule::Drop),
                    ("apiKeySecurityScheme", Rule::Drop),
                    ("mtlsSecurityScheme", Rule::Drop),
                ],
                &Shape::Filled,
            ))),
        ),
        ("protocolVersion", Rule::DropIf("\"0.3.0\"")),
        ("preferredTransport", Rule::DropIf("\"JSONRPC\"")),
        (
            "capabilities",
            Rule::As(Shape::Except(&[("extendedAgentCard", Rule::Drop)], &Shape::Filled)),
        ),
    ],
    &Shape::Filled,
);

/// `AgentCard` of the protocol buffer, and what it is made of (A2A 1.0 §4.4). Only flags without presence lose their
/// `false`.
const V10: Shape = Shape::Members(&[
    ("name", Shape::Filled),
    ("description", Shape::Filled),
    (
        "supportedInterfaces",
        Shape::Members(&[
            ("url", Shape::Filled),
            ("protocolBinding", Shape::Filled),
            ("tenant", Shape::Filled),
            ("protocolVersion", Shape::Filled),
        ]),
    ),
    ("provider", Shape::Members(&[("url", Shape::Filled), ("organization", Shape::Filled)])),
    ("version", Shape::Filled),
    ("documentationUrl", Shape::Filled),
    (
        "capabilities",
        Shape::Members(&[
            ("streaming", Shape::Filled),
            ("pushNotifications", Shape::Filled),
            (
                "extensions",
                Shape::Members(&[
                    ("uri", Shape::Filled),
                    ("description", Shape::Filled),
                    ("required", Shape::Flag),
                    ("params", Shape::Filled),
                ]),
            ),
            ("extendedAgentCard", Shape::Filled),
        ]),
    ),
    ("securitySchemes", Shape::Each(&SCHEME)),
    ("securityRequirements", REQUIREMENT),
    ("defaultInputModes", Shape::Filled),
    ("defaultOutputModes", Shape::Filled),
    (
        "skills",
        Shape::Members(&[
            ("id", Shape::Filled),
            ("name", Shape::Filled),
            ("description", Shape::Filled),
            ("tags", Shape::Filled),
            ("examples", Shape::Filled),
            ("inputModes", Shape::Filled),
            ("outputModes", Shape::Filled),
            ("securityRequirements", REQUIREMENT),
        ]),
    ),
    ("iconUrl", Shape::Filled),
]);

const REQUIREMENT: Shape =
    Shape::Members(&[("schemes", Shape::Each(&Shape::Members(&[("list", Shape::Filled)])))]);

const SCHEME: Shape = Shape::Members(&[
    (
        "apiKeySecurityScheme",
        Shape::Members(&[
            ("description", Shape::Filled),
            ("location", Shape::Filled),
            ("name", Shape::Filled),
        ]),
    ),
    (
        "httpAuthSecurityScheme",
        Shape::Members(&[
            ("description", Shape::Filled),
            ("scheme", Shape::Filled),
            ("bearerFormat", Shape::Filled),
        ]),
    ),
    (
        "oauth2SecurityScheme",
        Shape::Members(&[
            ("description", Shape::Filled),
            (
                "flows",
                Shape::Members(&[
                    ("authorizationCode", FLOW),
                    ("clientCredentials", FLOW),
                    ("implicit", FLOW),
                    ("password", FLOW),
                    ("deviceCode", FLOW),
                ]),
            ),
            ("oauth2MetadataUrl", Shape::Filled),
        ]),
    ),
    (
        "openIdConnectSecurityScheme",
        Shape::Members(&[("description", Shape::Filled), ("openIdConnectUrl", Shape::Filled)]),
    ),
    ("mtlsSecurityScheme", Shape::Members(&[("description", Shape::Filled)])),
]);

/// The members of all flows; none has one that means another thing in the next.
const FLOW: Shape = Shape::Members(&[
    ("authorizationUrl", Shape::Filled),
    ("deviceAuthorizationUrl", Shape::Filled),
    ("tokenUrl", Shape::Filled),
    ("refreshUrl", Shape::Filled),
    ("scopes", Shape::Filled),
    ("pkceRequired", Shape::Flag),
]);

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(reading: Reading, card: &str) -> String {
        reading.payload(card).unwrap()
    }

    const UNION: &str = r#"{"protocolVersion":"0.3.0","name":"é","url":"http://x","preferredTransport":"JSONRPC",
        "supportedInterfaces":[{"url":"http://x","protocolBinding":"JSONRPC","protocolVersion":"1.0","x":1}],
        "capabilities":{"streaming":true,"pushNotifications":false,"stateTransitionHistory":false,
            "extendedAgentCard":true,
            "extensions":[{"uri":"u","required":false,"params":{"n":1.50,"e":"","l":[[],0]}}]},
        "securitySchemes":{"k":{"type":"mutualTLS","mtlsSecurityScheme":{}},
            "b":{"httpAuthSecurityScheme":{"scheme":"Bearer","bearerFormat":""}}},
        "securityRequirements":[{"schemes":{"b":{"list":[]}}},{"schemes":{"b":{"list":["r"]}}}],
        "skills":[],"description":"","signatures":[{"protected":"p","signature":"s"}]}"#;

    #[test]
    fn a_reader_of_1_0_keeps_what_its_schema_has_and_is_not_default() {
        let want = r#"{"capabilities":{"extendedAgentCard":true,"extensions":[{"params":{"l":[0],"n":1.5},"uri":"u"}],"pushNotifications":false,"streaming":true},"name":"é","securityRequirements":[{"schemes":{"b":{"list":["r"]}}}],"securitySchemes":{"b":{"httpAuthSecurityScheme":{"scheme":"Bearer"}}},"supportedInterfaces":[{"protocolBinding":"JSONRPC","protocolVersion":"1.0","url":"http://x"}]}"#;
        assert_eq!(payload(Reading::V10, UNION), want);
    }

    #[test]
    fn a_reader_of_0_3_keeps_its_own() {
        let card = r#"{"protocolVersion":"0.3.0","preferredTransport":"HTTP+JSON","name":"é","url":"u",
            "supportedInterfaces":[1],"capabilities":{"streaming":false,"extendedAgentCard":true},
            "skills":[],"signatures":[]}"#;
        let want = r#"{"capabilities":{"streaming":false},"name":"\u00e9","preferredTransport":"HTTP+JSON","url":"u"}"#;
        assert_eq!(payload(Reading::V03, card), want);
    }

    #[test]
    fn both_readers_of_security_schemes_keep_what_the_sdks_keep() {
        let card = r#"{"name":"n","securitySchemes":{
            "b":{"type":"http","scheme":"bearer","httpAuthSecurityScheme":{"scheme":"bearer"}},
            "k":{"type":"apiKey","in":"header","name":"X","apiKeySecurityScheme":{"location":"header","name":"X"}},
            "m":{"type":"mutualTLS","mtlsSecurityScheme":{}}},
            "security":[{"b":[]}],"securityRequirements":[{"schemes":{"b":{"list":[]}}}]}"#;
        let old = r#"{"name":"n","securitySchemes":{"b":{"scheme":"bearer"},"k":{"in":"header","name":"X"}}}"#;
        assert_eq!(payload(Reading::V03, card), old);
        let new = r#"{"name":"n","securitySchemes":{"b":{"httpAuthSecurityScheme":{"scheme":"bearer"}},"k":{"apiKeySecurityScheme":{"location":"header","name":"X"}}}}"#;
        assert_eq!(payload(Reading::V10, card), new);
    }

    #[test]
    fn as_it_is_only_the_signatures_are_left_out() {
        let card = r#"{"signatures":[1],"b":"","a":[null,{}],"skills":[{"signatures":1}]}"#;
        let want = r#"{"a":[null,{}],"b":"","skills":[{"signatures":1}]}"#;
        assert_eq!(payload(Reading::Whole, card), want);
    }

    #[test]
    fn what_is_no_card_is_not_verified() {
        for card in ["", r#"["a",null,null]"#, "{}", r#"{"name":1}"#, r#"{"name":"a","name":"b"}"#]
        {
            assert!(Signed::read(card).is_err(), "{card}");
        }
        let card = Signed::read(r#"{"name":"a"}"#).unwrap();
        assert!(card.signatures.is_empty() && !card.has_url);
        let long = format!("{{\"name\":\"{}\"}}", "x".repeat(CARD));
        assert!(Signed::read(&long).unwrap_err().contains("longer than"));
        let card = Signed::read(UNION).unwrap();
        assert!(card.signatures[0].header.is_none() && card.has_url);
    }
}
