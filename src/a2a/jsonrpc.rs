//! The JSON-RPC 2.0 envelope: one request a body, its id echoed as it was written, batches refused.
//!
//! A well-formed request is read in one pass. Only when that fails is the text read again, to say which of
//! "no JSON", "no request" and "wrong params" it is, and which member is to blame.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::a2a::dialect::{Dialect, Version};
use crate::a2a::error::A2aError;
use crate::a2a::op::{Call, Operation, Tenant};
use crate::a2a::params::{Details, Params, members};
use crate::a2a::read::{Object, Present, Str, depth_within, is_json, without_position};
use crate::base::ids::Short;
use crate::base::json::Json;

/// Bytes of a request id.
const ID_BYTES: usize = 256;

/// A request that was understood, with the id to echo.
#[derive(Debug)]
pub struct Request {
    /// The id as JSON.
    pub id: Id,
    /// How it is spelled.
    pub dialect: Dialect,
    /// The label it carries.
    pub tenant: Option<Tenant>,
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
    /// How the request is spelled, as far as that was seen.
    pub dialect: Dialect,
    /// Whether it asks for a stream of 0.3.
    pub in_stream: bool,
    /// What it asks for, when its method is one.
    pub call: Option<Call>,
    /// Why.
    pub error: A2aError,
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
    params: Option<Object<Params<'a>>>,
}

/// Reads one request from a body. `version` is what its header says.
///
/// # Errors
/// -32700 when it is no JSON or nested deeper than `depth`, -32600 when it is no request (a batch included),
/// -32601 for an unknown method, -32009 for one of another version, -32602 naming the member for params that do not
/// fit.
pub fn decode(body: &[u8], depth: usize, version: Version) -> Result<Request, Refusal> {
    let dialect = spoken_as(version);
    let refuse = |id, error| Refusal { id, dialect, in_stream: false, call: None, error };
    if !depth_within(body, depth) {
        let error = A2aError::Parse(format!("nested deeper than {depth} levels"));
        return Err(refuse(Id::null(), error));
    }
    // Checked once for the whole text instead of string by string.
    let text = str::from_utf8(body).map_err(|error| {
        let error = A2aError::Parse(format!("not UTF-8 at byte {}", error.valid_up_to()));
        refuse(Id::null(), error)
    })?;
    let Ok(Object(envelope)) = serde_json::from_str::<Object<Envelope<'_>>>(text) else {
        return Err(diagnose(text, dialect));
    };
    let given = envelope.id.0.map(RawValue::get);
    let id = given.map_or(Ok(Id::null()), checked_id).map_err(|error| refuse(Id::null(), error))?;
    if envelope.jsonrpc.as_ref().map(Str::as_str) != Some("2.0") {
        let error = A2aError::InvalidRequest("jsonrpc: must be \"2.0\"".to_owned());
        return Err(refuse(id, error));
    }
    let Some(method) = envelope.method.as_ref().map(Str::as_str) else {
        return Err(refuse(id, A2aError::InvalidRequest("method: missing".to_owned())));
    };
    let none = Params::default();
    let params = envelope.params.as_ref().map_or(&none, |Object(params)| params);
    let known = named(method);
    match called(method, known, params, text, version) {
        // Looked for last: a caller who also errs elsewhere hears of that, as from the official servers.
        Ok(_) if given.is_none() => {
            Err(refuse(id, A2aError::InvalidRequest("id: missing".to_owned())))
        }
        Ok((dialect, tenant, operation)) => Ok(Request { id, dialect, tenant, operation }),
        Err(error) => {
            let in_stream = is_stream_of_v03(method, dialect);
            Err(Refusal { in_stream, call: known.map(|(_, call)| call), ..refuse(id, error) })
        }
    }
}

fn is_stream_of_v03(method: &str, dialect: Dialect) -> bool {
    dialect == Dialect::V03 && matches!(method, "message/stream" | "tasks/resubscribe")
}

/// The dialect of errors to a request that says this version.
const fn spoken_as(version: Version) -> Dialect {
    match version {
        Version::V03 => Dialect::V03,
        Version::V1 | Version::Other => Dialect::V1,
    }
}

/// The method of this name, and the dialect that has it.
fn named(method: &str) -> Option<(Dialect, Call)> {
    use Dialect::{V1, V03};
    Some(match method {
        "message/send" => (V03, Call::Send),
        "message/stream" => (V03, Call::Stream),
        "tasks/get" => (V03, Call::Get),
        "tasks/cancel" => (V03, Call::Cancel),
        "tasks/resubscribe" => (V03, Call::Subscribe),
        "tasks/pushNotificationConfig/set" => (V03, Call::SetHook),
        "tasks/pushNotificationConfig/get" => (V03, Call::GetHook),
        "tasks/pushNotificationConfig/list" => (V03, Call::ListHooks),
        "tasks/pushNotificationConfig/delete" => (V03, Call::DeleteHook),
        "agent/getAuthenticatedExtendedCard" => (V03, Call::ExtendedCard),
        "SendMessage" => (V1, Call::Send),
        "SendStreamingMessage" => (V1, Call::Stream),
        "GetTask" => (V1, Call::Get),
        "ListTasks" => (V1, Call::List),
        "CancelTask" => (V1, Call::Cancel),
        "SubscribeToTask" => (V1, Call::Subscribe),
        "CreateTaskPushNotificationConfig" => (V1, Call::SetHook),
        "GetTaskPushNotificationConfig" => (V1, Call::GetHook),
        "ListTaskPushNotificationConfigs" => (V1, Call::ListHooks),
        "DeleteTaskPushNotificationConfig" => (V1, Call::DeleteHook),
        "GetExtendedAgentCard" => (V1, Call::ExtendedCard),
        _ => return None,
    })
}

/// What a method asks, in which dialect.
fn called(
    method: &str,
    known: Option<(Dialect, Call)>,
    params: &Params<'_>,
    text: &str,
    version: Version,
) -> Result<(Dialect, Option<Tenant>, Operation), A2aError> {
    let Some((dialect, call)) = known else {
        if version == Version::Other {
            version.allows(Dialect::V1)?;
        }
        return Err(A2aError::MethodNotFound(method.chars().take(128).collect()));
    };
    version.allows(dialect)?;
    let operation = match call {
        Call::Send => Operation::Send(params.send(dialect)?),
        Call::Stream => Operation::Stream(params.send(dialect)?),
        Call::Get => Operation::Get { id: params.task()?, history: params.history()? },
        Call::Cancel => Operation::Cancel { id: params.task()? },
        Call::Subscribe => Operation::Subscribe { id: params.task()? },
        Call::ExtendedCard => Operation::ExtendedCard,
        Call::List | Call::SetHook | Call::GetHook | Call::ListHooks | Call::DeleteHook => {
            detailed(call, &details(text)?, dialect)?
        }
    };
    Ok((dialect, params.tenant(dialect)?, operation))
}

/// Reads the parameters of a request once more, for the members that few requests have.
fn details(text: &str) -> Result<Details<'_>, A2aError> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        params: Option<&'a RawValue>,
    }
    let envelope = serde_json::from_str::<Envelope<'_>>(text);
    let params = envelope.ok().and_then(|envelope| envelope.params).map_or("{}", RawValue::get);
    members(params)
}

fn detailed(call: Call, details: &Details<'_>, dialect: Dialect) -> Result<Operation, A2aError> {
    let missing = |name: &str| A2aError::InvalidParams(format!("{name}: missing"));
    Ok(match call {
        Call::SetHook => Operation::SetHook {
            id: details.hook_task(dialect)?,
            hook: Box::new(details.hook(dialect)?),
        },
        Call::GetHook => {
            let hook = details.hook_id(dialect);
            if hook.is_none() && dialect == Dialect::V1 {
                return Err(missing("id"));
            }
            Operation::GetHook { id: details.hook_task(dialect)?, hook }
        }
        Call::DeleteHook => {
            let name = if dialect == Dialect::V1 { "id" } else { "pushNotificationConfigId" };
            let hook = details.hook_id(dialect).ok_or_else(|| missing(name))?;
            Operation::DeleteHook { id: details.hook_task(dialect)?, hook }
        }
        Call::ListHooks => Operation::ListHooks { id: details.hook_task(dialect)? },
        _ => Operation::List(Box::new(details.filter(dialect)?)),
    })
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
fn diagnose(body: &str, dialect: Dialect) -> Refusal {
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
    let refuse = |id, error| Refusal { id, dialect, in_stream: false, call: None, error };
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
    let envelope = match serde_json::from_str::<Members<'_>>(body) {
        Ok(envelope) => envelope,
        Err(error) => return refuse(Id::null(), invalid(&without_position(&error))),
    };
    let id = match envelope.id.map_or(Ok(Id::null()), |raw| checked_id(raw.get())) {
        Ok(id) => id,
        Err(error) => return refuse(Id::null(), error),
    };
    let is_string = |raw: Option<&RawValue>| raw.is_some_and(|raw| raw.get().starts_with('"'));
    if !is_string(envelope.jsonrpc) {
        return refuse(id, invalid("jsonrpc: must be \"2.0\""));
    }
    if !is_string(envelope.method) {
        return refuse(id, invalid("method: must be a string"));
    }
    let params = envelope.params.map_or("{}", RawValue::get);
    let error = if params.starts_with('{') {
        let error = members::<Params<'_>>(params).err();
        error.unwrap_or_else(|| invalid("a member is not what it should be"))
    } else {
        A2aError::InvalidParams("params: expected an object".to_owned())
    };
    let method = envelope.method.and_then(|raw| serde_json::from_str::<Str<'_>>(raw.get()).ok());
    let in_stream = method.is_some_and(|method| is_stream_of_v03(method.as_str(), dialect));
    Refusal { in_stream, ..refuse(id, error) }
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
pub fn error(id: &Id, error: &A2aError, dialect: Dialect) -> String {
    let mut json = Json::with_capacity(160);
    json.open_object();
    json.word("jsonrpc", "2.0");
    json.key("id");
    json.raw(&id.0);
    json.key("error");
    json.open_object();
    error.rpc_into(&mut json, dialect);
    json.close_object();
    json.close_object();
    json.into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(body: &str) -> (i32, String) {
        match decode(body.as_bytes(), 64, Version::V03) {
            Ok(request) => panic!("{body}: {request:?}"),
            Err(refusal) => {
                (refusal.error.wire().code, error(&refusal.id, &refusal.error, refusal.dialect))
            }
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
            (
                r#"{"jsonrpc":"2.0","method":"tasks/get","params":{"id":"00000000-0000-4000-8000-000000000000"}}"#,
                -32600,
            ),
            (r#"{"jsonrpc":"2.0","method":"tasks/fetch"}"#, -32601),
            (r#"{"jsonrpc":"2.0","method":"tasks/get"}"#, -32602),
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
            (r#"{"jsonrpc":"2.0","id":1,"method":"tasks/pushNotificationConfig/set"}"#, -32602),
            (r#"{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"x"}}"#, -32009),
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
        assert_eq!(decode(body, 64, Version::V03).unwrap_err().error.wire().code, -32700);
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
        assert!(decode(body.as_bytes(), 64, Version::V03).is_ok());
    }
}
