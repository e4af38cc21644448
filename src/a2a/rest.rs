//! The REST binding (HTTP+JSON): paths, methods and queries of both versions (A2A 1.0 §11.3, 0.3 §3.5.3).
//!
//! 1.0 lives at `/` and `/{tenant}/`, 0.3 at `/v1/`; both also below `/a2a/rest`. No sockets here: strings in,
//! operations out.

use std::borrow::Cow;

use crate::a2a::dialect::Dialect;
use crate::a2a::error::A2aError;
use crate::a2a::op::{Call, Operation, Tenant, tenant};
use crate::a2a::params::{Details, Params, members};
use crate::a2a::read::{depth_within, is_json};

/// What a path stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Resource<'p> {
    Send,
    Stream,
    Tasks,
    Task(Cow<'p, str>),
    Cancel(Cow<'p, str>),
    Subscribe(Cow<'p, str>),
    Hooks(Cow<'p, str>),
    Hook(Cow<'p, str>, Cow<'p, str>),
    ExtendedCard,
}

/// A path of the REST binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'p> {
    /// The dialect that is spoken there.
    pub dialect: Dialect,
    /// The label before the resource.
    pub tenant: Option<Tenant>,
    resource: Resource<'p>,
}

/// Whether a request to a path reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET, and HEAD, whose reply has no body.
    Get,
    /// POST.
    Post,
    /// DELETE.
    Delete,
    /// Any other.
    Other,
}

impl<'p> Target<'p> {
    /// The resource at `path`; `None` when it is none of the REST binding.
    pub fn parse(path: &'p str) -> Option<Self> {
        let path = below(path).strip_prefix('/')?;
        let path = path.strip_suffix('/').unwrap_or(path);
        if let Some(rest) = path.strip_prefix("v1/") {
            let resource = Resource::parse(rest, Dialect::Proto03)?;
            return Some(Self { dialect: Dialect::Proto03, tenant: None, resource });
        }
        let dialect = Dialect::V1;
        if let Some(resource) = Resource::parse(path, dialect) {
            return Some(Self { dialect, tenant: None, resource });
        }
        let (label, rest) = path.split_once('/')?;
        let resource = Resource::parse(rest, dialect)?;
        let label = decoded(label)?;
        let tenant = (!label.is_empty()).then(|| tenant(&label).ok()).flatten()?;
        Some(Self { dialect, tenant: Some(tenant), resource })
    }

    /// The dialect that is spoken at `path`, whether or not there is a resource.
    pub fn dialect_at(path: &str) -> Dialect {
        if below(path).starts_with("/v1/") { Dialect::Proto03 } else { Dialect::V1 }
    }

    /// The methods that the resource takes, as the `Allow` header names them.
    pub const fn allowed(&self) -> &'static str {
        match self.resource {
            Resource::Send | Resource::Stream | Resource::Cancel(_) => "POST",
            Resource::Subscribe(_) | Resource::Hooks(_) => "GET, POST",
            Resource::Tasks | Resource::Task(_) | Resource::ExtendedCard => "GET",
            Resource::Hook(..) => "GET, DELETE",
        }
    }

    /// Whether the resource takes `method`.
    pub fn allows(&self, method: Method) -> bool {
        let name = match method {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
            Method::Other => return false,
        };
        self.allowed().split(", ").any(|allowed| allowed == name)
    }

    /// What a method asks of the resource.
    pub const fn call(&self, method: Method) -> Call {
        match (&self.resource, method) {
            (Resource::Send, _) => Call::Send,
            (Resource::Stream, _) => Call::Stream,
            (Resource::Tasks, _) => Call::List,
            (Resource::Task(_), _) => Call::Get,
            (Resource::Cancel(_), _) => Call::Cancel,
            (Resource::Subscribe(_), _) => Call::Subscribe,
            (Resource::Hooks(_), Method::Post) => Call::SetHook,
            (Resource::Hooks(_), _) => Call::ListHooks,
            (Resource::Hook(..), Method::Delete) => Call::DeleteHook,
            (Resource::Hook(..), _) => Call::GetHook,
            (Resource::ExtendedCard, _) => Call::ExtendedCard,
        }
    }

    /// Reads the request. `query` is what stands behind the question mark, `body` is empty for GET and DELETE.
    ///
    /// # Errors
    /// The protocol's own; `MethodNotAllowed` when the resource does not take `method`.
    pub fn operation(
        &self,
        method: Method,
        query: &str,
        body: &[u8],
        depth: usize,
    ) -> Result<(Operation, Option<Tenant>), A2aError> {
        if !self.allows(method) {
            return Err(A2aError::MethodNotAllowed(self.allowed()));
        }
        let query = Query::of(query)?;
        let body = match method {
            Method::Post => read(body, depth)?,
            Method::Get | Method::Delete | Method::Other => "{}",
        };
        let dialect = self.dialect;
        // Ids are the path's.
        let query =
            query.0.iter().filter(|(name, _)| !matches!(&**name, "id" | "taskId" | "configId"));
        let (operation, tenant) = match &self.resource {
            Resource::Send | Resource::Stream => {
                let params: Params<'_> = members(body)?;
                let send = params.send(dialect)?;
                let is_stream = self.resource == Resource::Stream;
                let operation =
                    if is_stream { Operation::Stream(send) } else { Operation::Send(send) };
                (operation, params.tenant(dialect)?)
            }
            Resource::Task(id) | Resource::Cancel(id) | Resource::Subscribe(id) => {
                let mut params: Params<'_> = members(body)?;
                for (name, value) in query {
                    params.set(name, value)?;
                }
                params.set("id", id)?;
                let id = params.task()?;
                let operation = match self.resource {
                    Resource::Cancel(_) => Operation::Cancel { id },
                    Resource::Subscribe(_) => Operation::Subscribe { id },
                    _ => Operation::Get { id, history: params.history()? },
                };
                (operation, params.tenant(dialect)?)
            }
            Resource::Tasks => {
                let mut details: Details<'_> = members(body)?;
                for (name, value) in query {
                    details.set(name, value)?;
                }
                (Operation::List(Box::new(details.filter(dialect)?)), details.tenant(dialect)?)
            }
            Resource::Hooks(id) | Resource::Hook(id, _) => {
                let mut details: Details<'_> = members(body)?;
                for (name, value) in query {
                    details.set(name, value)?;
                }
                details.set("taskId", id)?;
                let id = details.hook_task(dialect)?;
                let operation = match (&self.resource, method) {
                    (Resource::Hook(_, hook), Method::Delete) => {
                        Operation::DeleteHook { id, hook: (&**hook).into() }
                    }
                    (Resource::Hook(_, hook), _) => {
                        Operation::GetHook { id, hook: Some((&**hook).into()) }
                    }
                    (_, Method::Post) => {
                        Operation::SetHook { id, hook: Box::new(details.hook(dialect)?) }
                    }
                    _ => Operation::ListHooks { id },
                };
                (operation, details.tenant(dialect)?)
            }
            Resource::ExtendedCard => (Operation::ExtendedCard, None),
        };
        // The path's own wins.
        Ok((operation, self.tenant.clone().or(tenant)))
    }
}

/// The path without the prefix under which the whole binding is served once more.
fn below(path: &str) -> &str {
    path.strip_prefix("/a2a/rest").filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

impl<'p> Resource<'p> {
    fn parse(path: &'p str, dialect: Dialect) -> Option<Self> {
        match path {
            "message:send" | "message%3Asend" => return Some(Self::Send),
            "message:stream" | "message%3Astream" => return Some(Self::Stream),
            "tasks" => return Some(Self::Tasks),
            "extendedAgentCard" if dialect == Dialect::V1 => return Some(Self::ExtendedCard),
            "card" if dialect == Dialect::Proto03 => return Some(Self::ExtendedCard),
            _ => {}
        }
        let mut segments = path.strip_prefix("tasks/")?.split('/');
        let id = decoded(segments.next()?)?;
        if id.is_empty() {
            return None;
        }
        let rest = (segments.next(), segments.next().map(decoded), segments.next());
        match rest {
            (None, ..) => Some(match id.rsplit_once(':') {
                Some((id, "cancel")) => Self::Cancel(id.to_owned().into()),
                Some((id, "subscribe")) => Self::Subscribe(id.to_owned().into()),
                _ => Self::Task(id),
            }),
            (Some("pushNotificationConfigs"), None, _) => Some(Self::Hooks(id)),
            (Some("pushNotificationConfigs"), Some(Some(hook)), None) if !hook.is_empty() => {
                Some(Self::Hook(id, hook))
            }
            _ => None,
        }
    }
}

/// A body that is one JSON object; nothing at all stands for an empty one.
fn read(body: &[u8], depth: usize) -> Result<&str, A2aError> {
    if !depth_within(body, depth) {
        return Err(A2aError::Parse(format!("nested deeper than {depth} levels")));
    }
    let text = str::from_utf8(body)
        .map_err(|error| A2aError::Parse(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    if text.trim_ascii().is_empty() {
        return Ok("{}");
    }
    is_json(text).map_err(|error| A2aError::Parse(error.to_string()))?;
    Ok(text)
}

/// Parameters behind the question mark.
const QUERY: usize = 32;

/// The names and values of a query.
#[derive(Debug)]
pub struct Query<'q>(Vec<(Cow<'q, str>, Cow<'q, str>)>);

impl<'q> Query<'q> {
    /// Reads `name=value&...`.
    ///
    /// # Errors
    /// `InvalidParams` for more than 32 parameters, and for escapes that are none.
    pub fn of(query: &'q str) -> Result<Self, A2aError> {
        let mut all = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name), plus_decoded(value)) else {
                return Err(A2aError::InvalidParams(
                    "query: holds an escape that is none".to_owned(),
                ));
            };
            if all.len() == QUERY {
                return Err(A2aError::InvalidParams(format!(
                    "query: more than {QUERY} parameters"
                )));
            }
            all.push((name, value));
        }
        Ok(Self(all))
    }

    /// The value of the first parameter of this name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| &**value)
    }
}

/// Undoes percent-encoding (RFC 3986 §2.1); `None` for an escape that is none, or no UTF-8.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// The same in a query's value, where a plus stands for a blank. One in a date is meant as such.
fn plus_decoded(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('+') && !text.contains('T') {
        return decoded(&text.replace('+', " ")).map(|text| Cow::Owned(text.into_owned()));
    }
    decoded(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000000-0000-4000-8000-000000000000";

    fn read_as(method: Method, path: &str, query: &str, body: &str) -> Result<String, A2aError> {
        let target = Target::parse(path).ok_or(A2aError::NoSuchPath(""))?;
        let (operation, tenant) = target.operation(method, query, body.as_bytes(), 64)?;
        Ok(format!("{:?} {tenant:?} {operation:?}", target.dialect))
    }

    #[test]
    fn each_path_is_its_operation() {
        let cases = [
            (Method::Get, format!("/tasks/{ID}"), "V1 None Get"),
            (Method::Get, format!("/v1/tasks/{ID}"), "Proto03 None Get"),
            (Method::Get, format!("/a2a/rest/tasks/{ID}"), "V1 None Get"),
            (Method::Get, format!("/a2a/rest/v1/tasks/{ID}"), "Proto03 None Get"),
            (Method::Get, format!("/team%20a/tasks/{ID}"), "V1 Some(\"team a\") Get"),
            (Method::Get, "/tasks".to_owned(), "V1 None List"),
            (Method::Get, "/tasks/".to_owned(), "V1 None List"),
            (Method::Post, format!("/a2a/rest/v1/tasks/{ID}:cancel/"), "Proto03 None Cancel"),
            (Method::Get, "/team/tasks".to_owned(), "V1 Some(\"team\") List"),
            (Method::Post, format!("/tasks/{ID}:cancel"), "V1 None Cancel"),
            (Method::Post, format!("/tasks/{ID}%3Acancel"), "V1 None Cancel"),
            (Method::Post, format!("/tasks/{ID}:subscribe"), "V1 None Subscribe"),
            (Method::Get, format!("/tasks/{ID}:subscribe"), "V1 None Subscribe"),
            (Method::Get, format!("/tasks/{ID}/pushNotificationConfigs"), "V1 None ListHooks"),
            (Method::Get, format!("/tasks/{ID}/pushNotificationConfigs/x"), "V1 None GetHook"),
            (
                Method::Delete,
                format!("/v1/tasks/{ID}/pushNotificationConfigs/x"),
                "Proto03 None DeleteHook",
            ),
            (Method::Get, "/extendedAgentCard".to_owned(), "V1 None ExtendedCard"),
            (Method::Get, "/v1/card".to_owned(), "Proto03 None ExtendedCard"),
        ];
        for (method, path, wanted) in cases {
            let read = read_as(method, &path, "", "").unwrap();
            assert!(read.starts_with(wanted), "{path}: {read}");
        }
    }

    #[test]
    fn what_is_no_resource_is_no_path() {
        for path in [
            "",
            "/",
            "/v1/",
            "/v1/message/send",
            "/tasks//pushNotificationConfigs",
            "/tasks/x/pushNotificationConfigs/y/z",
            "/tasks/x/y",
            "/v1/tasks/x/y",
            "/a/b/tasks",
            "/health/tasks",
            "/v1/v1/tasks",
            "/mcp/tasks",
            "/%ff/tasks",
            "/%zz/tasks",
            "/a2a/resttasks",
            "//tasks",
        ] {
            assert_eq!(Target::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_query_fills_the_parameters() {
        let read = read_as(
            Method::Get,
            "/tasks",
            "contextId=a+b&pageSize=7&status=TASK_STATE_WORKING&includeArtifacts=true&historyLength=2\
             &statusTimestampAfter=1970-01-01T01:00:00%2B01:00&pageToken=a-b&A2A-Version=1.0",
            "",
        );
        let read = read.unwrap();
        for part in
            ["a b", "page_size: 7", "Working", "artifacts: true", "history: Some(2)", "Some(0)"]
        {
            assert!(read.contains(part), "{part}: {read}");
        }
        for query in [
            "pageSize=0",
            "pageSize=101",
            "pageSize=x",
            "status=working",
            "includeArtifacts=1",
            "pageToken=x",
            "statusTimestampAfter=now",
            "a=%zz",
        ] {
            let error = read_as(Method::Get, "/tasks", query, "").unwrap_err();
            assert_eq!(error.wire().code, -32602, "{query}: {error}");
        }
    }

    #[test]
    fn a_tenant_is_named_by_the_path_or_else_by_a_parameter() {
        for path in
            ["/tasks", &format!("/tasks/{ID}"), &format!("/tasks/{ID}/pushNotificationConfigs")]
        {
            let read = read_as(Method::Get, path, "tenant=team", "").unwrap();
            assert!(read.starts_with("V1 Some(\"team\") "), "{path}: {read}");
            let read = read_as(Method::Get, &format!("/north{path}"), "tenant=team", "").unwrap();
            assert!(read.starts_with("V1 Some(\"north\") "), "{path}: {read}");
            let error = read_as(Method::Get, path, "tenant=health", "").unwrap_err();
            assert_eq!(error.wire().code, -32602, "{path}: {error}");
            let read = read_as(Method::Get, &format!("/v1{path}"), "tenant=health", "").unwrap();
            assert!(read.starts_with("Proto03 None "), "{path}: {read}");
        }
    }

    #[test]
    fn a_list_of_0_3_finds_states_by_the_names_it_writes() {
        for name in ["TASK_STATE_CANCELLED", "TASK_STATE_CANCELED", "canceled"] {
            let read = read_as(Method::Get, "/v1/tasks", &format!("status={name}"), "").unwrap();
            assert!(read.contains("state: Some(Canceled)"), "{name}: {read}");
        }
    }

    #[test]
    fn each_kind_of_bad_body_has_its_error() {
        let send = |body: &str| read_as(Method::Post, "/message:send", "", body).unwrap_err();
        assert_eq!(send("").to_string(), "Invalid params: message: missing");
        assert_eq!(send("{").wire().code, -32700);
        assert_eq!(send("[]").wire().code, -32602);
        assert_eq!(
            send(r#"{"message":{"parts":7}}"#).to_string(),
            "Invalid params: message.parts: invalid type: integer `7`, expected an array"
        );
        assert_eq!(
            read_as(Method::Get, "/message:send", "", "").unwrap_err(),
            A2aError::MethodNotAllowed("POST")
        );
    }
}
