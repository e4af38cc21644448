//! Signatures by key pairs as JSON has them: JWS with a detached payload (RFC 7515, RFC 8037) and JWK sets (RFC 7517).
//!
//! Signs with Ed25519 and P-256, verifies RSA as well. What is signed, and whose key is trusted, is the caller's to
//! decide. The private key stays in here: it is neither printed nor given out.

use std::fmt;

use crate::base::base64::{decode, encode_url};
use crate::base::json::Json;
use crate::base::members::{Members, elements};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};

/// Bytes before the 32 of a public Ed25519 key in its SPKI form (RFC 8410 §4).
const SPKI_ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// Bytes before the uncompressed point of a P-256 key in its SPKI form (RFC 5480 §2).
const SPKI_P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

/// Most bytes of a text with public keys.
pub const KEYS_BYTES: usize = 64 * 1024;

/// A private key that signs, and its name.
pub struct Signer {
    pair: Pair,
    id: String,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair, SystemRandom),
}

/// Why a text holds no key that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// No private key in PKCS#8.
    NotPkcs8,
    /// A key of another kind, or a damaged one.
    Kind,
    /// No public keys.
    NotPublic,
    /// A private key, where the public half belongs.
    Private,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPkcs8 => {
                "holds no unencrypted private key in PEM with PKCS#8; \
                 `openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW` makes that of another form"
            }
            Self::Kind => "holds neither an Ed25519 nor a P-256 key",
            Self::NotPublic => "holds no public key: neither a JWK set nor PEM (BEGIN PUBLIC KEY)",
            Self::Private => {
                "holds a private key; `openssl pkey -in KEY -pubout` prints its public half"
            }
        })
    }
}

impl std::error::Error for KeyError {}

impl Signer {
    /// Reads a PEM text with a private key; its name is `id`, or else its thumbprint (RFC 7638).
    ///
    /// # Errors
    /// When there is no such key in it. The error repeats nothing of the text.
    pub fn from_pem(text: &str, id: Option<&str>) -> Result<Self, KeyError> {
        let key = pem(text, "PRIVATE KEY").ok_or(KeyError::NotPkcs8)?;
        let random = SystemRandom::new();
        let pair = if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key) {
            Pair::Ed25519(pair)
        } else {
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &random)
                .map(|pair| Pair::P256(pair, random))
                .map_err(|_| KeyError::Kind)?
        };
        let mut signer = Self { pair, id: String::new() };
        signer.id = match id {
            Some(id) => id.to_owned(),
            // The required members, in the order of their names, without blanks.
            None => encode_url(digest(&SHA256, signer.public().as_bytes()).as_ref()),
        };
        Ok(signer)
    }

    /// The key's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it signs with, as `alg` names it.
    pub const fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Ed25519(_) => "EdDSA",
            Pair::P256(..) => "ES256",
        }
    }

    /// The required members of its public half, as one object.
    fn public(&self) -> String {
        let mut json = Json::default();
        json.open_object();
        match &self.pair {
            Pair::Ed25519(pair) => {
                json.word("crv", "Ed25519");
                json.word("kty", "OKP");
                json.member("x", &encode_url(pair.public_key().as_ref()));
            }
            Pair::P256(pair, _) => {
                // A byte that says "uncompressed", then both coordinates.
                let (x, y) = pair.public_key().as_ref().split_at(33);
                json.word("crv", "P-256");
                json.word("kty", "EC");
                json.member("x", &encode_url(&x[1..]));
                json.member("y", &encode_url(y));
            }
        }
        json.close_object();
        json.into_string()
    }

    /// A JWK set of its public half alone.
    pub fn jwks(&self) -> String {
        let public = self.public();
        let mut json = Json::default();
        json.open_object();
        json.member("kid", &self.id);
        json.word("alg", self.algorithm());
        json.word("use", "sig");
        let key = json.into_string() + public.replacen('{', ",", 1).as_str();
        format!("{{\"keys\":[{key}]}}")
    }

    /// Signs `payload` under a header that names algorithm, key and, with `keys`, the URL of the key set. Returns
    /// the header as it goes on the wire, and the signature.
    ///
    /// `None` when the kernel gives no random bytes.
    pub fn sign(&self, payload: &str, keys: &str) -> Option<(String, String)> {
        let mut header = Json::default();
        header.open_object();
        header.word("alg", self.algorithm());
        header.word("typ", "JOSE");
        header.member("kid", &self.id);
        header.member("jku", keys);
        header.close_object();
        let header = encode_url(header.as_str().as_bytes());
        let message = message(&header, payload);
        let signature = match &self.pair {
            Pair::Ed25519(pair) => encode_url(pair.sign(message.as_bytes()).as_ref()),
            Pair::P256(pair, random) => {
                encode_url(pair.sign(random, message.as_bytes()).ok()?.as_ref())
            }
        };
        Some((header, signature))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} {})", self.algorithm(), self.id)
    }
}

/// What a signature is made over (RFC 7515 §5.1).
fn message(header: &str, payload: &str) -> String {
    format!("{header}.{}", encode_url(payload.as_bytes()))
}

/// The protected header of a signature, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Header {
    /// The algorithm.
    pub alg: String,
    /// The key's name.
    pub kid: Option<String>,
    /// Where its public half is said to be.
    pub jku: Option<String>,
}

impl Header {
    /// Reads a header from the wire; `None` when it is none, or demands what nobody here understands (`crit`, RFC
    /// 7515 §4.1.11).
    pub fn read(protected: &str) -> Option<Self> {
        let json = String::from_utf8(decode(protected)?).ok()?;
        let members = Members::read(&json)?;
        (!members.has("crit")).then_some(())?;
        let (alg, kid, jku) = (members.text("alg")?, members.text("kid"), members.text("jku"));
        Some(Self { alg, kid, jku })
    }
}

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its algorithm is none that is verified here.
    Algorithm,
    /// None of the keys has its key's name.
    UnknownKey,
    /// The keys that may be meant are for other algorithms.
    OtherKind,
    /// It was not made by that key over this payload.
    Wrong,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Algorithm => "its algorithm is none of EdDSA, ES256 and RS256",
            Self::UnknownKey => "its key is not among the keys given",
            Self::OtherKind => "the key is for another algorithm",
            Self::Wrong => "it does not fit: the card was changed, or the key is another",
        })
    }
}

impl std::error::Error for Refused {}

/// Public keys of somebody.
#[derive(Debug)]
pub struct Keys(Vec<(Option<String>, Public)>);

#[derive(Debug)]
enum Public {
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

/// A JWK with its name; `None` for a key of a kind that is not verified here, or a damaged one.
fn jwk(json: &str) -> Option<(Option<String>, Public)> {
    let members = Members::read(json)?;
    let bytes = |name| decode(&members.text(name)?);
    let key = match (members.text("kty")?.as_str(), members.text("crv").as_deref()) {
        ("OKP", Some("Ed25519")) => Public::Ed25519(bytes("x")?),
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == 32 && y.len() == 32).then(|| Public::P256([&[4], &*x, &*y].concat()))?
        }
        ("RSA", _) => Public::Rsa { n: bytes("n")?, e: bytes("e")? },
        _ => return None,
    };
    Some((members.text("kid"), key))
}

impl Keys {
    /// Reads a JWK set, or a PEM text with one public key, which then goes for every name.
    ///
    /// # Errors
    /// When there is no key in it that can be used.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        if text.len() > KEYS_BYTES {
            return Err(KeyError::NotPublic);
        }
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        if let Some(spki) = pem(text, "PUBLIC KEY") {
            let rest = |start, length| {
                spki.strip_prefix(start).filter(|it| it.len() == length).map(<[u8]>::to_vec)
            };
            let public = rest(SPKI_ED25519, 32)
                .map(Public::Ed25519)
                .or_else(|| rest(SPKI_P256, 65).map(Public::P256))
                .ok_or(KeyError::Kind)?;
            return Ok(Self(vec![(None, public)]));
        }
        let set = Members::read(text).and_then(|set| elements(set.get("keys")?));
        let keys: Vec<_> =
            set.unwrap_or_default().into_iter().filter_map(|key| jwk(key.get())).collect();
        if keys.is_empty() { Err(KeyError::NotPublic) } else { Ok(Self(keys)) }
    }

    /// Whether `signature` was made over `payload` under `protected`, whose content is `header`, by one of the keys
    /// that fit the header's name; a key without name fits every one.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(
        &self,
        header: &Header,
        protected: &str,
        payload: &str,
        signature: &str,
    ) -> Result<(), Refused> {
        if !matches!(header.alg.as_str(), "EdDSA" | "Ed25519" | "ES256" | "RS256") {
            return Err(Refused::Algorithm);
        }
        let message = message(protected, payload);
        let signature = decode(signature).ok_or(Refused::Wrong)?;
        let mut refused = Refused::UnknownKey;
        for (name, key) in &self.0 {
            if name.is_some() && header.kid.is_some() && *name != header.kid {
                continue;
            }
            match key.verify(&header.alg, message.as_bytes(), &signature) {
                Some(true) => return Ok(()),
                Some(false) => refused = Refused::Wrong,
                None if refused == Refused::UnknownKey => refused = Refused::OtherKind,
                None => {}
            }
        }
        Err(refused)
    }
}

impl Public {
    /// `None`: the key is for another algorithm, whatever the header says.
    fn verify(&self, alg: &str, message: &[u8], signature: &[u8]) -> Option<bool> {
        let is_good = match (self, alg) {
            (Self::Ed25519(key), "EdDSA" | "Ed25519") => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature)
            }
            (Self::P256(key), "ES256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature)
            }
            (Self::Rsa { n, e }, "RS256") => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
            _ => return None,
        };
        Some(is_good.is_ok())
    }
}

/// The bytes between the lines that begin and end `label` (RFC 7468).
fn pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    decode(&body.split_ascii_whitespace().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037 appendix A.1, as `openssl` would have it.
    fn ed25519_pem() -> String {
        let mut key = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
        key.extend(decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap());
        let key = encode_url(&key).replace('-', "+").replace('_', "/");
        format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n{}\n-----END PRIVATE KEY-----\n",
            &key[..20],
            &key[20..]
        )
    }

    /// RFC 7517 appendix A.2's P-256 key.
    const P256_X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
    const P256_Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";
    const P256_D: &str = "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE";

    fn p256_pem() -> String {
        let mut key = b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x04\x6d\x30\x6b\x02\x01\x01\x04\x20".to_vec();
        key.extend(decode(P256_D).unwrap());
        key.extend(b"\xa1\x44\x03\x42\x00\x04");
        key.extend(decode(P256_X).unwrap());
        key.extend(decode(P256_Y).unwrap());
        let key = encode_url(&key).replace('-', "+").replace('_', "/");
        format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n")
    }

    #[test]
    fn the_signature_of_rfc_8037_comes_out_and_is_accepted() {
        // Appendix A.4 and A.5: the header is `{"alg":"EdDSA"}`.
        let signer = Signer::from_pem(&ed25519_pem(), None).unwrap();
        let Pair::Ed25519(pair) = &signer.pair else { panic!("Ed25519") };
        let (header, payload) = ("eyJhbGciOiJFZERTQSJ9", "Example of Ed25519 signing");
        let want = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert_eq!(encode_url(pair.sign(message(header, payload).as_bytes()).as_ref()), want);
        let keys = Keys::read(
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
        )
        .unwrap();
        let head = Header::read(header).unwrap();
        assert_eq!(keys.verify(&head, header, payload, want), Ok(()));
        assert_eq!(keys.verify(&head, header, "Example", want), Err(Refused::Wrong));
    }

    #[test]
    fn the_thumbprint_of_rfc_8037_names_the_key() {
        // Appendix A.3.
        let signer = Signer::from_pem(&ed25519_pem(), None).unwrap();
        assert_eq!(signer.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(Signer::from_pem(&ed25519_pem(), Some("me")).unwrap().id(), "me");
    }

    #[test]
    fn the_es256_signature_of_rfc_7515_is_accepted() {
        // Appendix A.3.
        let header = "eyJhbGciOiJFUzI1NiJ9";
        let payload =
            "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
        let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let set = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"not read"}]}"#;
        let keys = Keys::read(set).unwrap();
        let head = Header::read(header).unwrap();
        assert_eq!(keys.verify(&head, header, payload, signature), Ok(()));
        let other = signature.replace("DtEh", "DtEi");
        assert_eq!(keys.verify(&head, header, payload, &other), Err(Refused::Wrong));
        assert_eq!(keys.verify(&head, header, payload, ""), Err(Refused::Wrong));
    }

    #[test]
    fn the_rs256_signature_of_rfc_7515_is_accepted() {
        // Appendix A.2.
        let header = "eyJhbGciOiJSUzI1NiJ9";
        let payload =
            "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
        let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        let keys = Keys::read(&format!(r#"{{"keys":[{{"kty":"RSA","n":"{n}","e":"AQAB"}}]}}"#));
        let head = Header::read(header).unwrap();
        assert_eq!(keys.unwrap().verify(&head, header, payload, signature), Ok(()));
    }

    #[test]
    fn what_is_signed_is_accepted_with_the_served_keys_and_nothing_else() {
        let signers = [
            Signer::from_pem(&ed25519_pem(), Some("a\"b")).unwrap(),
            Signer::from_pem(&p256_pem(), Some("a\"b")).unwrap(),
        ];
        for (at, signer) in signers.iter().enumerate() {
            let keys = Keys::read(&signer.jwks()).unwrap();
            let (protected, signature) = signer.sign("{}", "http://x/jwks").unwrap();
            let header = Header::read(&protected).unwrap();
            assert_eq!(header.alg, signer.algorithm());
            assert_eq!(header.kid.as_deref(), Some("a\"b"));
            assert_eq!(header.jku.as_deref(), Some("http://x/jwks"));
            assert_eq!(keys.verify(&header, &protected, "{}", &signature), Ok(()));
            assert_eq!(keys.verify(&header, &protected, "{ }", &signature), Err(Refused::Wrong));
            let other = Keys::read(&signers[1 - at].jwks()).unwrap();
            let verdict = other.verify(&header, &protected, "{}", &signature);
            assert_eq!(verdict, Err(Refused::OtherKind));
            // The algorithm of the header is never taken on trust.
            let lie = Header { alg: signers[1 - at].algorithm().to_owned(), ..header.clone() };
            assert_eq!(keys.verify(&lie, &protected, "{}", &signature), Err(Refused::OtherKind));
            let none = Header { alg: "none".to_owned(), ..header.clone() };
            assert_eq!(keys.verify(&none, &protected, "{}", ""), Err(Refused::Algorithm));
            let stranger = Header { kid: Some("c".to_owned()), ..header.clone() };
            let verdict = keys.verify(&stranger, &protected, "{}", &signature);
            assert_eq!(verdict, Err(Refused::UnknownKey));
        }
    }

    #[test]
    fn a_jwk_set_has_the_public_half_alone() {
        let jwks = Signer::from_pem(&p256_pem(), Some("k")).unwrap().jwks();
        let want = format!(
            r#"{{"keys":[{{"kid":"k","alg":"ES256","use":"sig","crv":"P-256","kty":"EC","x":"{P256_X}","y":"{P256_Y}"}}]}}"#
        );
        assert_eq!(jwks, want);
        assert!(!jwks.contains(P256_D));
    }

    #[test]
    fn a_public_key_in_pem_goes_for_every_name() {
        let signer = Signer::from_pem(&ed25519_pem(), Some("k")).unwrap();
        let Pair::Ed25519(pair) = &signer.pair else { panic!("Ed25519") };
        let spki = encode_url(&[SPKI_ED25519, pair.public_key().as_ref()].concat());
        let pem = format!("text\n-----BEGIN PUBLIC KEY-----\r\n{spki}\r\n-----END PUBLIC KEY-----");
        let keys = Keys::read(&pem).unwrap();
        let (protected, signature) = signer.sign("x", "u").unwrap();
        let header = Header::read(&protected).unwrap();
        assert_eq!(keys.verify(&header, &protected, "x", &signature), Ok(()));
    }

    #[test]
    fn a_header_that_demands_more_is_none() {
        let read = |text: &str| Header::read(&encode_url(text.as_bytes()));
        assert!(read(r#"{"alg":"EdDSA","x":1}"#).is_some());
        for text in [
            r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#,
            r#"{"alg":1}"#,
            r#"{"kid":"k"}"#,
            r#"{"alg":"a","alg":"b"}"#,
            r#"["EdDSA",null,null]"#,
            "",
        ] {
            assert!(read(text).is_none(), "{text}");
        }
        assert!(Header::read("%").is_none());
    }

    #[test]
    fn texts_without_a_fitting_key_are_refused_without_repeating_them() {
        let refused = |text: &str| Signer::from_pem(text, None).unwrap_err();
        assert_eq!(refused(""), KeyError::NotPkcs8);
        assert_eq!(refused(&ed25519_pem().replace("PRIVATE", "EC PRIVATE")), KeyError::NotPkcs8);
        let empty = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";
        assert_eq!(refused(empty), KeyError::Kind);
        let damaged = "-----BEGIN PRIVATE KEY-----\n*\n-----END PRIVATE KEY-----";
        assert_eq!(refused(damaged), KeyError::NotPkcs8);
        let refused = |text: &str| Keys::read(text).unwrap_err();
        assert_eq!(refused(&ed25519_pem()), KeyError::Private);
        for text in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#] {
            assert_eq!(refused(text), KeyError::NotPublic, "{text}");
        }
        let short = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}"#;
        assert_eq!(refused(short), KeyError::NotPublic);
        let signer = Signer::from_pem(&ed25519_pem(), Some("k")).unwrap();
        assert_eq!(format!("{signer:?}"), "Signer(EdDSA k)");
    }
}
