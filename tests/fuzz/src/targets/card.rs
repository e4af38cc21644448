//! Cards of strangers and the keys to them.

use serde_json::Value;
use tetherlet::a2a::jcs::{Shape, canonical};
use tetherlet::a2a::signed::Signed;
use tetherlet::base::base64::{decode, encode_url};
use tetherlet::base::jws::{Header, Keys, Signer};

/// Somebody else's key: nothing that is found here was signed with it.
const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// The canonical text says the same as the text it was made of, and is its own; no signature holds by chance.
pub fn card(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let spell = |text: &str, ascii| canonical(text, &Shape::Whole, ascii);
    if let Ok(once) = spell(text, false) {
        assert_eq!(spell(&once, false).as_ref(), Ok(&once), "{text}");
        let ascii = spell(text, true).expect("both spellings are there or none");
        assert!(ascii.is_ascii(), "{ascii}");
        assert_eq!(spell(&ascii, false).as_ref(), Ok(&once), "{text}");
        let read = |text: &str| -> Value { serde_json::from_str(text).expect("it is JSON") };
        assert!(is_same(&read(text), &read(&once)), "{text} became {once}");
        let filled = canonical(text, &Shape::Filled, false).expect("less is no harder");
        assert!(filled.len() <= once.len(), "{filled}");
    }
    if let Ok(card) = Signed::read(text) {
        let keys = Keys::read(KEYS).expect("these are keys");
        for signature in &card.signatures {
            assert!(card.verify(signature, &keys).is_err(), "{text}");
        }
    }
    let _ = (Keys::read(text).is_ok(), Header::read(text).is_some());
    let _ = Signer::from_pem(text, None).is_ok();
    if let Some(bytes) = decode(text) {
        assert_eq!(decode(&encode_url(&bytes)), Some(bytes), "{text}");
    }
}

/// The parser that compares may be off by the last bit of a number.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let (one, other) = (one.as_f64().unwrap_or(0.0), other.as_f64().unwrap_or(1.0));
            (one - other).abs() <= one.abs() * 1e-15 + f64::MIN_POSITIVE
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, a)| other.get(name).is_some_and(|b| is_same(a, b)))
        }
        (one, other) => one == other,
    }
}
