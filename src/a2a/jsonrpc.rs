//! The JSON-RPC 2.0 envelope: one request a body, its id echoed as it was written, batches refused.
//!
//! A well-formed request is read in one pass. Only when that fails is the text read again, to say which of
//! "no JSON", "no request" and "wrong params" it is, and which member is to blame.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::a2a::error::A2aError;
use crate::a2a::op::Operation;
use crate::a2a::read::{
    Object, Str, depth_within, is_json, member_at, offset_of, without_position,
};
use crate::a2a::v03;
use crate::base::ids::Short;
use crate::base::json::Json;

/// Bytes of a request id.
const ID_BYTES: usize = 256;

/// A request that was understood, with the id to echo.
#[derive(Debug)]
pub struct Request {
    /// The id as JSON.
    pub id: Id,
    /// What is asked.
    pub operation: Operation,
}

/// A request's id, as the JSON it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id(Short);

impl Id {
    /// The id of replies to requests whose id could not be read.
    pub fn null() -> Self {
        Self("null".into())
    }
}

/// A request that was not understood.
#[derive(Debug)]
pub struct Refusal {
    /// The id to echo, `null` when it could not be read.
    pub id: Id,
    /// Why.
    pub error: A2aError,
}

/// A member that may be absent; unlike an `Option`, a `null` is present.
#[derive(Default)]
struct Present<'a>(Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Present<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(Some(raw)))
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    jsonrpc: Option<Str<'a>>,
    #[serde(borrow, default)]
    id: Present<'a>,
    #[serde(borrow)]
    method: Option<Str<'a>>,
    #[serde(borrow)]
    params: Option<Object<v03::Params<'a>>>,
}

/// Reads one request from a body.
///
/// # Errors
/// -32700 when it is no JSON or nested deeper than `depth`, -32600 when it is no request (a batch included),
/// -32601 for an unknown method, -32602 naming the member for params that do not fit.
pub fn decode(body: &[u8], depth: usize) -> Result<Request, Refusal> {
    if !depth_within(body, depth) {
        let error = A2aError::Parse(format!("nested deeper than {depth} levels"));
        return Err(Refusal { id: Id::null(), error });
    }
    // Checked once for the whole text instead of string by string.
    let text = str::from_utf8(body).map_err(|error| {
        let error = A2aError::Parse(format!("not UTF-8 at byte {}", error.valid_up_to()));
        Refusal { id: Id::null(), error }
    })?;
    let Ok(Object(envelope)) = serde_json::from_str::<Object<Envelope<'_>>>(text) else {
        return Err(diagnose(text));
    };
    let id = match envelope.id.0.map(RawValue::get).map(checked_id) {
        Some(Ok(id)) => id,
        Some(Err(error)) => return Err(Refusal { id: Id::null(), error }),
        None => {
            let error = A2aError::InvalidRequest("id: missing".to_owned());
            return Err(Refusal { id: Id::null(), error });
        }
    };
    let version = envelope.jsonrpc.as_ref().map(Str::as_str);
    match checked(version, envelope.method.as_ref(), envelope.params.as_ref()) {
        Ok(operation) => Ok(Request { id, operation }),
        Err(error) => Err(Refusal { id, error }),
    }
}

fn checked(
    version: Option<&str>,
    method: Option<&Str<'_>>,
    params: Option<&Object<v03::Params<'_>>>,
) -> Result<Operation, A2aError> {
    if version != Some("2.0") {
        return Err(A2aError::InvalidRequest("jsonrpc: must be \"2.0\"".to_owned()));
    }
    let Some(method) = method else {
        return Err(A2aError::InvalidRequest("method: missing".to_owned()));
    };
    match params {
        Some(Object(params)) => operation(method.as_str(), params),
        None => operation(method.as_str(), &v03::Params::default()),
    }
}

fn operation(method: &str, params: &v03::Params<'_>) -> Result<Operation, A2aError> {
    match method {
        "message/send" => Ok(Operation::Send(params.send()?)),
        "message/stream" => Ok(Operation::Stream(params.send()?)),
        "tasks/get" => Ok(Operation::Get { id: params.task()?, history: params.history()? }),
        "tasks/cancel" => Ok(Operation::Cancel { id: params.task()? }),
        "tasks/resubscribe" => Ok(Operation::Subscribe { id: params.task()? }),
        "tasks/pushNotificationConfig/set"
        | "tasks/pushNotificationConfig/get"
        | "tasks/pushNotificationConfig/list"
        | "tasks/pushNotificationConfig/delete" => Err(A2aError::PushNotificationNotSupported),
        "agent/getAuthenticatedExtendedCard" => Err(A2aError::ExtendedCardNotConfigured),
        other => Err(A2aError::MethodNotFound(other.chars().take(128).collect())),
    }
}

fn checked_id(raw: &str) -> Result<Id, A2aError> {
    let is_scalar = raw == "null" || !raw.starts_with(['{', '[', 't', 'f', 'n']);
    if !is_scalar {
        return Err(A2aError::InvalidRequest("id: must be a string, a number or null".to_owned()));
    }
    if raw.len() > ID_BYTES {
        return Err(A2aError::InvalidRequest(format!("id: longer than {ID_BYTES} bytes")));
    }
    Ok(Id(raw.into()))
}

/// Why a body that did not fit `Envelope` is no request.
fn diagnose(body: &str) -> Refusal {
    #[derive(Deserialize)]
    struct Members<'a> {
        #[serde(borrow)]
        jsonrpc: Option<&'a RawValue>,
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        method: Option<&'a RawValue>,
        #[serde(borrow)]
        params: Option<&'a RawValue>,
    }
    let refuse = |id, error| Refusal { id, error };
    let invalid = |what: &str| A2aError::InvalidRequest(what.to_owned());
    if let Err(error) = is_json(body) {
        return refuse(Id::null(), A2aError::Parse(error.to_string()));
    }
    if body.trim_ascii_start().starts_with('[') {
        return refuse(
            Id::null(),
            invalid("batches are not supported; send one request at a time"),
        );
    }
    if !body.trim_ascii_start().starts_with('{') {
        return refuse(Id::null(), invalid("expected an object"));
    }
    let members = match serde_json::from_str::<Members<'_>>(body) {
        Ok(members) => members,
        Err(error) => return refuse(Id::null(), invalid(&without_position(&error))),
    };
    let id = match members.id.map_or(Ok(Id::null()), |raw| checked_id(raw.get())) {
        Ok(id) => id,
        Err(error) => return refuse(Id::null(), error),
    };
    let is_string = |raw: Option<&RawValue>| raw.is_some_and(|raw| raw.get().starts_with('"'));
    if !is_string(members.jsonrpc) {
        return refuse(id, invalid("jsonrpc: must be \"2.0\""));
    }
    if !is_string(members.method) {
        return refuse(id, invalid("method: must be a string"));
    }
    let params = members.params.map_or("{}", RawValue::get);
    if !params.starts_with('{') {
        let what = "params: expected an object".to_owned();
        return refuse(id, A2aError::InvalidParams(what));
    }
    match serde_json::from_str::<v03::Params<'_>>(params) {
        Ok(_) => refuse(id, invalid("a member is not what it should be")),
        Err(error) => {
            let member = member_at(params, offset_of(params, error.line(), error.column()));
            let what = without_position(&error);
            let named = if member.is_empty() { what } else { format!("{member}: {what}") };
            refuse(id, A2aError::InvalidParams(named))
        }
    }
}

/// Begins a reply; write the result, then [`finish`] it.
pub fn begin(json: &mut Json, id: &Id) {
    json.literal(r#"{"jsonrpc":"2.0","id":"#);
    json.raw(&id.0);
    json.literal(r#","result":"#);
}

/// Ends a reply.
pub fn finish(json: &mut Json) {
    json.close_object();
}

/// A whole error reply.
pub fn error(id: &Id, error: &A2aError) -> String {
    let mut json = Json::with_capacity(160);
    json.open_object();
    json.word("jsonrpc", "2.0");
    json.key("id");
    json.raw(&id.0);
    json.key("error");
    json.open_object();
    json.key("code");
    json.signed(i64::from(error.wire().code));
    json.key("message");
    json.string_from(error);
    if let A2aError::Busy { retry_after_s, .. } = error {
        json.key("data");
        json.open_object();
        json.key("retryAfterS");
        json.number(u64::from(*retry_after_s));
        json.close_object();
    }
    json.close_object();
    json.close_object();
    json.into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(body: &str) -> (i32, String) {
        match decode(body.as_bytes(), 64) {
            Ok(request) => panic!("{body}: {request:?}"),
            Err(refusal) => (refusal.error.wire().code, error(&refusal.id, &refusal.error)),
        }
    }

    #[test]
    fn each_kind_of_bad_body_has_its_code() {
        let cases = [
            ("", -32700),
            ("\u{feff}{}", -32700),
            ("{", -32700),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":}}"#, -32700),
            (r#"{"jsonrpc":5,"id":1,"method":"tasks/get","params":{"a":}}"#, -32700),
            ("[]", -32600),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"x"}}]"#, -32600),
            (r#"["2.0",1,"tasks/get",{"id":"00000000-0000-4000-8000-000000000000"}]"#, -32600),
            ("5", -32600),
            (r#"{"id":1,"method":"tasks/get"}"#, -32600),
            (r#"{"jsonrpc":"1.0","id":1,"method":"tasks/get"}"#, -32600),
            (r#"{"jsonrpc":2.0,"id":1,"method":"tasks/get"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":{},"method":"tasks/get"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":true,"method":"tasks/get"}"#, -32600),
            (r#"{"jsonrpc":"2.0","method":"tasks/get"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":null,"method":"tasks/get"}"#, -32602),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tasks/fetch"}"#, -32601),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get"}"#, -32602),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":[1]}"#, -32602),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":["00000000-0000-4000-8000-000000000000"]}"#,
                -32602,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":["m","user",[["text",null,"x"]]]}}"#,
                -32602,
            ),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":5}}"#, -32602),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"x"}}"#, -32001),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tasks/pushNotificationConfig/set"}"#, -32003),
            (r#"{"jsonrpc":"2.0","id":1,"method":"agent/getAuthenticatedExtendedCard"}"#, -32007),
        ];
        for (body, wanted) in cases {
            assert_eq!(code(body).0, wanted, "{body}");
        }
    }

    #[test]
    fn bad_params_name_the_member() {
        let body = r#"{"jsonrpc":"2.0","id":"a","method":"message/send","params":{"message":{"messageId":"m","role":"user","parts":[{"kind":"text","text":"x"},{"kind":"text","text":7}]}}}"#;
        let (code, reply) = code(body);
        assert_eq!(code, -32602);
        assert!(reply.contains("message.parts[1].text: invalid type: integer `7`"), "{reply}");
        assert!(reply.contains(r#""id":"a""#), "{reply}");
    }

    #[test]
    fn deep_nesting_is_refused_before_it_is_parsed() {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":1,"x":{}{}}}"#, "[".repeat(80), "]".repeat(80));
        assert_eq!(code(&body).0, -32700);
    }

    #[test]
    fn a_body_that_is_not_utf8_is_no_json() {
        let body = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"nope\",\"x\":\"\xff\"}";
        assert_eq!(decode(body, 64).unwrap_err().error.wire().code, -32700);
    }

    #[test]
    fn the_id_comes_back_as_it_was_written() {
        for id in ["1", "-7", "\"a\\u00e9\"", "null", "1.5"] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"nope"}}"#);
            let (_, reply) = code(&body);
            assert!(reply.contains(&format!(r#""id":{id},"#)), "{reply}");
        }
    }

    #[test]
    fn unknown_members_do_not_matter() {
        let body = r#"{"jsonrpc":"2.0","id":1,"extra":{"a":[1]},"method":"tasks/cancel","params":{"taskId":"00000000-0000-4000-8000-000000000000","x":1}}"#;
        assert!(decode(body.as_bytes(), 64).is_ok());
    }
}
