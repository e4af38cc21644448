//! The agent card: who this agent is and what it can do, written once at start (A2A 0.3 §5.5, 1.0 §4.4).
//!
//! The two versions name most members alike, and a reader of one skips what only the other knows; so the usual card
//! is the union of both. Its 0.3 members are those that CodeTether's peers need: `skills` and `capabilities` are
//! always there. A strict reader of 1.0 refuses members that it does not know, hence the other forms.

use crate::a2a::signed::{Reading, sign};
use crate::base::clock::http_date;
use crate::base::json::Json;
use crate::base::jws::Signer;

/// One thing the agent can do.
#[derive(Clone, Copy, Debug)]
pub struct Skill {
    /// Chosen by `metadata.skill`.
    pub id: &'static str,
    /// For people.
    pub name: &'static str,
    /// What it does and how to ask for it.
    pub description: &'static str,
    /// For search.
    pub tags: &'static [&'static str],
    /// Messages that this skill answers.
    pub examples: &'static [&'static str],
    /// Media types that it reads.
    pub input_modes: &'static [&'static str],
    /// Media types of its replies.
    pub output_modes: &'static [&'static str],
}

/// What a card says about the agent itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The agent's name.
    pub name: String,
    /// One or two sentences.
    pub description: String,
    /// Where it is reached.
    pub url: String,
    /// Who runs it.
    pub organization: String,
    /// Where they are found.
    pub organization_url: String,
    /// Where it is explained.
    pub documentation_url: Option<String>,
}

/// The version whose members a card has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Those of 0.3 and of 1.0.
    Union,
    /// Those of 1.0, and none that its schema has not.
    V10,
    /// Those of 0.3.
    V03,
}

impl Form {
    const fn has_v10(self) -> bool {
        matches!(self, Self::Union | Self::V10)
    }

    const fn has_v03(self) -> bool {
        matches!(self, Self::Union | Self::V03)
    }
}

/// An extension of the protocol that the card declares (A2A 1.0 §4.4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its name, compared byte by byte.
    pub uri: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// Whether a caller that does not name it is refused.
    pub required: bool,
    /// A JSON object.
    pub params: String,
}

impl Extension {
    /// `CodeTether`'s: under which identity, and optionally persona and SPIFFE id, this agent is known there.
    pub fn agent_identity(
        id: &str,
        persona: Option<&str>,
        spiffe: Option<&str>,
        required: bool,
    ) -> Self {
        let mut params = Json::default();
        params.open_object();
        params.member("agentIdentityId", id);
        for (name, value) in [("personaId", persona), ("spiffeId", spiffe)] {
            if let Some(value) = value {
                params.member(name, value);
            }
        }
        params.close_object();
        Self {
            uri: "https://codetether.run/extensions/agent-identity/v1",
            description: "The identity of this agent in CodeTether.",
            required,
            params: params.into_string(),
        }
    }
}

/// What only the extended card tells.
#[derive(Clone, Debug)]
pub struct Inside {
    /// The model behind the skill `chat`, as `provider/model`.
    pub model: Option<String>,
    /// Bounds in force, as a sentence.
    pub limits: String,
}

/// How callers may say who they are: any one of these ways. Nobody is asked where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Security<'a> {
    /// By `Authorization: Bearer`.
    pub bearer: bool,
    /// By the same token in a header of this name.
    pub header: Option<&'a str>,
    /// By a client certificate.
    pub certificate: bool,
}

impl<'a> Security<'a> {
    /// Name and kind of each way.
    fn ways(self) -> impl Iterator<Item = (&'static str, Way<'a>)> {
        let header = self.header.filter(|_| self.bearer).map(Way::Header);
        [
            ("bearer", self.bearer.then_some(Way::Bearer)),
            ("apiKey", header),
            ("mutualTLS", self.certificate.then_some(Way::Certificate)),
        ]
        .into_iter()
        .filter_map(|(name, way)| Some((name, way?)))
    }
}

#[derive(Clone, Copy)]
enum Way<'a> {
    Bearer,
    Header(&'a str),
    Certificate,
}

/// All that a card is made of.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Who it is about.
    pub identity: &'a Identity,
    /// What the agent can do; 1.0 wants one at least.
    pub skills: &'a [Skill],
    /// The members that the public card has.
    pub form: Form,
    /// Whether tasks are reported to webhooks.
    pub push: bool,
    /// How callers say who they are.
    pub security: Security<'a>,
    /// What is declared beyond the protocol.
    pub extensions: &'a [Extension],
    /// There is an extended card when this is there.
    pub inside: Option<&'a Inside>,
    /// What the cards are signed with.
    pub signer: Option<&'a Signer>,
    /// When the agent started, in milliseconds since 1970.
    pub start_unix_ms: u64,
}

/// A finished card.
#[derive(Clone, Debug)]
pub struct Card {
    /// The JSON of the public card.
    pub json: String,
    /// Changes when the JSON does; quoted, as the header wants it.
    pub etag: String,
    /// When the agent started, as the header wants it.
    pub last_modified: String,
    /// The extended card for requests of 1.0 (§3.1.11), with 1.0's members only; `None` when not configured.
    pub extended: Option<String>,
    /// The same for requests of 0.3 (§7.10), with the members of 0.3's schema and protocol buffer only.
    pub extended_v03: Option<String>,
    /// The set with the public half of the key that signed; `None` when nothing is signed.
    pub jwks: Option<String>,
    extensions: Vec<Extension>,
}

impl Card {
    /// Writes the card, and the extended ones when there is something to tell in them.
    pub fn new(facts: &Facts<'_>) -> Self {
        let json = write(facts, facts.form, None);
        let extended = |form| facts.inside.map(|inside| write(facts, form, Some(inside)));
        Self {
            etag: format!("\"{:016x}\"", fnv1a(json.as_bytes())),
            last_modified: http_date(facts.start_unix_ms),
            extended: extended(Form::V10),
            extended_v03: extended(Form::V03),
            jwks: facts.signer.map(Signer::jwks),
            extensions: facts.extensions.to_vec(),
            json,
        }
    }

    /// The extensions it declares: a request may name them, and must name the required ones.
    pub fn extensions(&self) -> &[Extension] {
        &self.extensions
    }
}

/// Where the key set is, below the agent's URL.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

fn write(facts: &Facts<'_>, form: Form, inside: Option<&Inside>) -> String {
    let card = unsigned(facts, form, inside);
    let Some(signer) = facts.signer else { return card };
    let readings: &[Reading] = match form {
        Form::Union => &[Reading::V10, Reading::V03],
        Form::V10 => &[Reading::V10],
        Form::V03 => &[Reading::V03],
    };
    sign(card, readings, signer, &format!("{}{JWKS_PATH}", facts.identity.url))
}

fn unsigned(facts: &Facts<'_>, form: Form, inside: Option<&Inside>) -> String {
    let identity = facts.identity;
    let mut json = Json::with_capacity(6 * 1024);
    json.open_object();
    if form.has_v03() {
        json.word("protocolVersion", "0.3.0");
    }
    json.member("name", &identity.name);
    json.key("description");
    match inside {
        None => json.string(&identity.description),
        Some(inside) => json.string(&format!("{} {}", identity.description, inside.limits)),
    }
    if form.has_v03() {
        json.member("url", &identity.url);
        json.word("preferredTransport", "JSONRPC");
        json.key("additionalInterfaces");
        json.open_array();
        for transport in BINDINGS {
            json.open_object();
            json.member("url", &identity.url);
            json.word("transport", transport);
            json.close_object();
        }
        json.close_array();
    }
    if form.has_v10() {
        interfaces(&mut json, &identity.url, facts.form.has_v03());
    }
    json.word("version", env!("CARGO_PKG_VERSION"));
    json.key("provider");
    json.open_object();
    json.member("organization", &identity.organization);
    json.member("url", &identity.organization_url);
    json.close_object();
    if let Some(url) = &identity.documentation_url {
        json.member("documentationUrl", url);
    }
    capabilities(&mut json, facts, form);
    security(&mut json, facts.security, form, inside.is_some());
    strings(&mut json, "defaultInputModes", &["text/plain"]);
    strings(&mut json, "defaultOutputModes", &["text/plain", "application/json"]);
    json.key("skills");
    json.open_array();
    for skill in facts.skills {
        json.open_object();
        json.member("id", skill.id);
        json.member("name", skill.name);
        json.key("description");
        match inside.and_then(|inside| inside.model.as_deref()) {
            Some(model) if skill.id == "chat" => {
                json.string(&format!("{} The model is {model}.", skill.description));
            }
            _ => json.string(skill.description),
        }
        strings(&mut json, "tags", skill.tags);
        strings(&mut json, "examples", skill.examples);
        strings(&mut json, "inputModes", skill.input_modes);
        strings(&mut json, "outputModes", skill.output_modes);
        json.close_object();
    }
    json.close_array();
    if form.has_v03() {
        json.key("supportsAuthenticatedExtendedCard");
        json.bool(facts.inside.is_some());
    }
    json.close_object();
    json.into_string()
}

const BINDINGS: [&str; 2] = ["JSONRPC", "HTTP+JSON"];

/// Where 1.0 finds what is served, the best first. Every binding has the same URL: clients of 0.3 append `/v1/...`
/// for REST themselves, and those of 1.0 the paths without it.
fn interfaces(json: &mut Json, url: &str, has_v03: bool) {
    json.key("supportedInterfaces");
    json.open_array();
    for (version, is_offered) in [("1.0", true), ("0.3", has_v03)] {
        for binding in BINDINGS.into_iter().filter(|_| is_offered) {
            json.open_object();
            json.member("url", url);
            json.word("protocolBinding", binding);
            json.word("protocolVersion", version);
            json.close_object();
        }
    }
    json.close_array();
}

fn capabilities(json: &mut Json, facts: &Facts<'_>, form: Form) {
    json.key("capabilities");
    json.open_object();
    let mut flag = |name: &str, is_written: bool, has: bool| {
        if is_written {
            json.key(name);
            json.bool(has);
        }
    };
    // A pure 1.0 card leaves out what is false (ProtoJSON); peers of 0.3 want to see it.
    flag("streaming", true, true);
    flag("pushNotifications", facts.push || form.has_v03(), facts.push);
    flag("stateTransitionHistory", form.has_v03(), false);
    flag("extendedAgentCard", form.has_v10() && facts.inside.is_some(), true);
    if !facts.extensions.is_empty() {
        json.key("extensions");
        json.open_array();
        for extension in facts.extensions {
            json.open_object();
            json.member("uri", extension.uri);
            json.member("description", extension.description);
            if extension.required || form.has_v03() {
                json.key("required");
                json.bool(extension.required);
            }
            json.key("params");
            json.raw(&extension.params);
            json.close_object();
        }
        json.close_array();
    }
    json.close_object();
}

/// The ways to say who one is, of which any will do (0.3 §5.5, 1.0 §4.5). In the union an object has
/// the members of both versions, as the SDKs write it. In an extended card a scheme has both in any case: over REST one
/// SDK of 0.3 reads it by the schema and another by the protocol buffer, where schemes are written as in 1.0.
fn security(json: &mut Json, security: Security<'_>, form: Form, is_extended: bool) {
    if security.ways().next().is_none() {
        return;
    }
    json.key("securitySchemes");
    json.open_object();
    for (name, way) in security.ways() {
        json.key(name);
        json.open_object();
        if form.has_v03() {
            match way {
                Way::Bearer => {
                    json.word("type", "http");
                    json.word("scheme", "bearer");
                }
                Way::Header(header) => {
                    json.word("type", "apiKey");
                    json.word("in", "header");
                    json.member("name", header);
                }
                Way::Certificate => json.word("type", "mutualTLS"),
            }
        }
        if form.has_v10() || is_extended {
            json.key(match way {
                Way::Bearer => "httpAuthSecurityScheme",
                Way::Header(_) => "apiKeySecurityScheme",
                Way::Certificate => "mtlsSecurityScheme",
            });
            json.open_object();
            match way {
                // In lower case as above: a reader of 1.0 may take either, and both must be signed alike.
                Way::Bearer => json.word("scheme", "bearer"),
                Way::Header(header) => {
                    json.word("location", "header");
                    json.member("name", header);
                }
                Way::Certificate => {}
            }
            json.close_object();
        }
        json.close_object();
    }
    json.close_object();
    if form.has_v03() {
        json.key("security");
        json.open_array();
        for (name, _) in security.ways() {
            json.open_object();
            json.key(name);
            json.raw("[]");
            json.close_object();
        }
        json.close_array();
    }
    if form.has_v10() {
        json.key("securityRequirements");
        json.open_array();
        for (name, _) in security.ways() {
            json.open_object();
            json.key("schemes");
            json.open_object();
            json.key(name);
            json.raw("{\"list\":[]}");
            json.close_object();
            json.close_object();
        }
        json.close_array();
    }
}

fn strings(json: &mut Json, name: &str, values: &[&str]) {
    json.key(name);
    json.open_array();
    for value in values {
        json.string(value);
    }
    json.close_array();
}

/// FNV-1a, 64 bits: tells one card from the next, and need not resist anybody.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::a2a::signed::Signed;
    use crate::base::jws::{Keys, Refused};

    fn identity() -> Identity {
        Identity {
            name: "box".to_owned(),
            description: "a \"box\"".to_owned(),
            url: "http://127.0.0.1:4097".to_owned(),
            organization: "o".to_owned(),
            organization_url: "http://o".to_owned(),
            documentation_url: None,
        }
    }

    const SKILLS: [Skill; 2] = [
        Skill {
            id: "calculator",
            name: "Calculator",
            description: "d",
            tags: &["math"],
            examples: &["25*4"],
            input_modes: &["text/plain"],
            output_modes: &["text/plain"],
        },
        Skill {
            id: "chat",
            name: "Chat",
            description: "Talks.",
            tags: &["llm"],
            examples: &["Hi"],
            input_modes: &["text/plain"],
            output_modes: &["text/plain"],
        },
    ];

    fn facts(identity: &Identity, form: Form) -> Facts<'_> {
        Facts {
            identity,
            skills: &SKILLS,
            form,
            push: false,
            security: Security::default(),
            extensions: &[],
            inside: None,
            signer: None,
            start_unix_ms: 0,
        }
    }

    fn read(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    fn names(of: &Value) -> Vec<&str> {
        of.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn the_card_has_every_member_that_peers_need() {
        for form in [Form::Union, Form::V03] {
            let card = read(&Card::new(&facts(&identity(), form)).json);
            for member in [
                "name",
                "description",
                "url",
                "version",
                "protocolVersion",
                "capabilities",
                "skills",
                "defaultInputModes",
                "defaultOutputModes",
                "supportsAuthenticatedExtendedCard",
                "provider",
                "preferredTransport",
            ] {
                assert!(!card[member].is_null(), "{member}");
            }
            for member in
                ["id", "name", "description", "tags", "examples", "inputModes", "outputModes"]
            {
                assert!(!card["skills"][0][member].is_null(), "{member}");
            }
            let flags = json!({"streaming": true, "pushNotifications": false,
                "stateTransitionHistory": false});
            assert_eq!(card["capabilities"], flags);
            let url = "http://127.0.0.1:4097";
            let both = json!([{"url": url, "transport": "JSONRPC"},
                {"url": url, "transport": "HTTP+JSON"}]);
            assert_eq!(card["additionalInterfaces"], both);
        }
    }

    #[test]
    fn the_union_offers_1_0_before_0_3() {
        let card = read(&Card::new(&facts(&identity(), Form::Union)).json);
        let offered: Vec<String> = card["supportedInterfaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| format!("{} {} {}", it["protocolVersion"], it["protocolBinding"], it["url"]))
            .map(|text| text.replace('"', ""))
            .collect();
        let url = "http://127.0.0.1:4097";
        let wanted = ["1.0 JSONRPC", "1.0 HTTP+JSON", "0.3 JSONRPC", "0.3 HTTP+JSON"];
        assert_eq!(offered, wanted.map(|it| format!("{it} {url}")));
    }

    #[test]
    fn a_1_0_card_has_no_member_of_0_3_and_no_default() {
        let extensions = [Extension::agent_identity("a", None, None, false)];
        let identity = identity();
        let card = Card::new(&Facts { extensions: &extensions, ..facts(&identity, Form::V10) });
        let card = read(&card.json);
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
        assert_eq!(names(&card), all);
        assert_eq!(names(&card["capabilities"]), ["extensions", "streaming"]);
        let extension = &card["capabilities"]["extensions"][0];
        assert_eq!(names(extension), ["description", "params", "uri"]);
        let interfaces = card["supportedInterfaces"].as_array().unwrap();
        assert_eq!(interfaces.len(), 2);
        for interface in interfaces {
            assert_eq!(names(interface), ["protocolBinding", "protocolVersion", "url"]);
            assert_eq!(interface["protocolVersion"], "1.0");
        }
    }

    #[test]
    fn a_0_3_card_has_no_member_of_1_0() {
        let identity = identity();
        let inside = Inside { model: None, limits: "l".to_owned() };
        let card = Card::new(&Facts { inside: Some(&inside), ..facts(&identity, Form::V03) });
        let card = read(&card.json);
        assert!(card["supportedInterfaces"].is_null());
        assert!(card["capabilities"]["extendedAgentCard"].is_null());
    }

    #[test]
    fn the_extended_card_tells_model_and_limits_and_the_public_one_does_not() {
        let identity = identity();
        let inside = Inside { model: Some("p/m".to_owned()), limits: "Keeps 5.".to_owned() };
        let card = Card::new(&Facts { inside: Some(&inside), ..facts(&identity, Form::Union) });
        let public = read(&card.json);
        assert_eq!(public["capabilities"]["extendedAgentCard"], true);
        assert_eq!(public["supportsAuthenticatedExtendedCard"], true);
        assert!(!card.json.contains("p/m") && !card.json.contains("Keeps"), "{}", card.json);
        let new = read(&card.extended.unwrap());
        let old = read(&card.extended_v03.unwrap());
        for extended in [&new, &old] {
            assert_eq!(extended["description"], "a \"box\" Keeps 5.");
            assert_eq!(extended["skills"][1]["description"], "Talks. The model is p/m.");
            assert_eq!(extended["skills"][0]["description"], "d");
        }
        assert_eq!(new["capabilities"], json!({"streaming": true, "extendedAgentCard": true}));
        assert_eq!(new["supportedInterfaces"].as_array().unwrap().len(), 4);
        assert!(new["url"].is_null() && new["supportsAuthenticatedExtendedCard"].is_null());
        assert!(old["supportedInterfaces"].is_null());
        assert_eq!(old["supportsAuthenticatedExtendedCard"], true);
    }

    #[test]
    fn schemes_of_an_extended_card_of_0_3_are_read_by_schema_and_by_protocol_buffer() {
        let identity = identity();
        let inside = Inside { model: None, limits: "l".to_owned() };
        let security = Security { bearer: true, header: Some("X-Key"), certificate: true };
        let facts = Facts { inside: Some(&inside), security, ..facts(&identity, Form::V03) };
        let card = Card::new(&facts);
        let old = read(&card.extended_v03.unwrap());
        let wanted = json!({
            "bearer": {"type": "http", "scheme": "bearer",
                "httpAuthSecurityScheme": {"scheme": "bearer"}},
            "apiKey": {"type": "apiKey", "in": "header", "name": "X-Key",
                "apiKeySecurityScheme": {"location": "header", "name": "X-Key"}},
            "mutualTLS": {"type": "mutualTLS", "mtlsSecurityScheme": {}}});
        assert_eq!(old["securitySchemes"], wanted);
        assert_eq!(old["security"], json!([{"bearer": []}, {"apiKey": []}, {"mutualTLS": []}]));
        assert!(old["securityRequirements"].is_null());
        let public = read(&card.json);
        assert_eq!(public["securitySchemes"]["mutualTLS"], json!({"type": "mutualTLS"}));
    }

    #[test]
    fn the_identity_in_codetether_is_an_extension() {
        let whole = Extension::agent_identity("a\"", Some("p"), Some("spiffe://x/y"), true);
        let identity = identity();
        let facts =
            Facts { extensions: std::slice::from_ref(&whole), ..facts(&identity, Form::Union) };
        let card = Card::new(&facts);
        assert_eq!(card.extensions(), std::slice::from_ref(&whole));
        let wanted = json!([{"uri": whole.uri, "description": whole.description, "required": true,
            "params": {"agentIdentityId": "a\"", "personaId": "p", "spiffeId": "spiffe://x/y"}}]);
        assert_eq!(read(&card.json)["capabilities"]["extensions"], wanted);
        let bare = Extension::agent_identity("a", None, None, false);
        assert_eq!(bare.params, r#"{"agentIdentityId":"a"}"#);
    }

    #[test]
    fn each_form_is_signed_for_those_who_read_it() {
        let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v_VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
                   -----END PRIVATE KEY-----";
        let signer = Signer::from_pem(key, Some("k")).unwrap();
        let identity = Identity { name: "böx".to_owned(), ..identity() };
        let inside = Inside { model: None, limits: "l".to_owned() };
        for (form, wanted) in [
            (Form::Union, &[Reading::V10, Reading::V03][..]),
            (Form::V10, &[Reading::V10]),
            (Form::V03, &[Reading::V03]),
        ] {
            let facts =
                Facts { signer: Some(&signer), inside: Some(&inside), ..facts(&identity, form) };
            let card = Card::new(&facts);
            let keys = Keys::read(card.jwks.as_ref().unwrap()).unwrap();
            let readings = |json: &str| {
                let read = Signed::read(json).unwrap();
                let verify = |it| read.verify(it, &keys).unwrap();
                read.signatures.iter().map(verify).collect::<Vec<_>>()
            };
            assert_eq!(readings(&card.json), wanted);
            assert_eq!(readings(&card.extended.unwrap()), [Reading::V10]);
            assert_eq!(readings(&card.extended_v03.unwrap()), [Reading::V03]);
            let own = Signed::read(&card.json).unwrap();
            let header = own.signatures[0].header.as_ref().unwrap();
            assert_eq!(header.jku.as_deref(), Some("http://127.0.0.1:4097/.well-known/jwks.json"));
            // Any change of what is covered is seen, and by both readers.
            let forged = card.json.replace("böx", "bøx");
            let forged = Signed::read(&forged).unwrap();
            for signature in &forged.signatures {
                assert_eq!(forged.verify(signature, &keys), Err(Some(Refused::Wrong)));
            }
        }
    }

    #[test]
    fn the_tag_follows_the_content() {
        let tag = |name: &str| {
            let identity = Identity { name: name.to_owned(), ..identity() };
            Card::new(&facts(&identity, Form::Union)).etag
        };
        assert_eq!(tag("a"), tag("a"));
        assert_ne!(tag("a"), tag("b"));
    }
}
