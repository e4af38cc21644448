//! The agent card: who this agent is and what it can do (A2A 0.3 §5.5), written once at start.
//!
//! Members are those that CodeTether's peers need, so `skills` and `capabilities` are always there.

use crate::base::json::Json;

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

/// A finished card.
#[derive(Clone, Debug)]
pub struct Card {
    /// The JSON.
    pub json: String,
    /// Changes when the JSON does; quoted, as the header wants it.
    pub etag: String,
}

impl Card {
    /// Writes the card in the 0.3 shape.
    pub fn new(identity: &Identity, skills: &[Skill]) -> Self {
        let mut json = Json::with_capacity(4096);
        json.open_object();
        json.member("protocolVersion", "0.3.0");
        json.member("name", &identity.name);
        json.member("description", &identity.description);
        json.member("url", &identity.url);
        json.member("preferredTransport", "JSONRPC");
        json.key("additionalInterfaces");
        json.open_array();
        json.open_object();
        json.member("url", &identity.url);
        json.member("transport", "JSONRPC");
        json.close_object();
        json.close_array();
        json.member("version", env!("CARGO_PKG_VERSION"));
        json.key("provider");
        json.open_object();
        json.member("organization", &identity.organization);
        json.member("url", &identity.organization_url);
        json.close_object();
        if let Some(url) = &identity.documentation_url {
            json.member("documentationUrl", url);
        }
        json.key("capabilities");
        json.open_object();
        for (name, has) in
            [("streaming", true), ("pushNotifications", false), ("stateTransitionHistory", false)]
        {
            json.key(name);
            json.bool(has);
        }
        json.close_object();
        strings(&mut json, "defaultInputModes", &["text/plain"]);
        strings(&mut json, "defaultOutputModes", &["text/plain", "application/json"]);
        json.key("skills");
        json.open_array();
        for skill in skills {
            json.open_object();
            json.member("id", skill.id);
            json.member("name", skill.name);
            json.member("description", skill.description);
            strings(&mut json, "tags", skill.tags);
            strings(&mut json, "examples", skill.examples);
            strings(&mut json, "inputModes", &["text/plain"]);
            strings(&mut json, "outputModes", skill.output_modes);
            json.close_object();
        }
        json.close_array();
        json.key("supportsAuthenticatedExtendedCard");
        json.bool(false);
        json.close_object();
        let json = json.into_string();
        let etag = format!("\"{:016x}\"", fnv1a(json.as_bytes()));
        Self { json, etag }
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
    use super::*;

    #[test]
    fn the_card_has_every_member_that_peers_need() {
        let identity = Identity {
            name: "box".to_owned(),
            description: "a \"box\"".to_owned(),
            url: "http://127.0.0.1:4097".to_owned(),
            organization: "o".to_owned(),
            organization_url: "http://o".to_owned(),
            documentation_url: None,
        };
        let skill = Skill {
            id: "calculator",
            name: "Calculator",
            description: "d",
            tags: &["math"],
            examples: &["25*4"],
            output_modes: &["text/plain"],
        };
        let card = Card::new(&identity, &[skill]);
        let read: serde_json::Value = serde_json::from_str(&card.json).unwrap();
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
            assert!(!read[member].is_null(), "{member}");
        }
        for member in ["id", "name", "description", "tags", "examples", "inputModes", "outputModes"]
        {
            assert!(!read["skills"][0][member].is_null(), "{member}");
        }
        assert_eq!(read["capabilities"]["streaming"], true);
    }

    #[test]
    fn the_tag_follows_the_content() {
        let identity = |name: &str| Identity {
            name: name.to_owned(),
            description: String::new(),
            url: String::new(),
            organization: String::new(),
            organization_url: String::new(),
            documentation_url: None,
        };
        let tag = |name| Card::new(&identity(name), &[]).etag;
        assert_eq!(tag("a"), tag("a"));
        assert_ne!(tag("a"), tag("b"));
    }
}
