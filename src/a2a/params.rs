//! What requests carry, in every dialect at once, and what each dialect makes of it.
//!
//! The raw shapes hold the members of all dialects, so that a request is read in one pass whatever its method turns
//! out to be. Checking is strict for the request's own dialect: an error names the member that does not fit.
//! Two exceptions are CodeTether's looser parts in 0.3 JSON, `{"type":"text","content":".."}` without `messageId`,
//! `role` or `kind`, and 0.3 REST, whose prose and whose SDKs differ: there both spellings are read.

use std::rc::Rc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::a2a::dialect::Dialect;
use crate::a2a::error::A2aError;
use crate::a2a::model::{Content, Message, MessageExtra, MessageId, Part, PartExtra, Parts, Role};
use crate::a2a::op::{Filter, Hook, PAGE, PAGE_MAX, Send, Tenant, tenant};
use crate::a2a::read::{
    Ignored, LIST, List, Loose, Object, Present, Str, member_at, object, offset_of,
    without_position,
};
use crate::base::clock::unix_ms_of;
use crate::base::ids::{ContextId, TaskId};

/// Bytes of a client's message id, and of its ids of other things.
const ID_BYTES: usize = 256;
/// Bytes of a webhook's URL, token or credentials.
const HOOK_BYTES: usize = 2048;

/// The parameters of the requests that most are: send, get, cancel, subscribe. Small, because they are moved about.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Params<'a> {
    #[serde(borrow)]
    id: Option<Str<'a>>,
    #[serde(borrow, alias = "task_id")]
    task_id: Option<Str<'a>>,
    #[serde(borrow)]
    tenant: Option<Str<'a>>,
    #[serde(alias = "history_length")]
    history_length: Option<i64>,
    #[serde(borrow)]
    message: Option<Box<Object<MessageIn<'a>>>>,
    #[serde(borrow)]
    configuration: Option<Box<Object<ConfigurationIn<'a>>>>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

/// The parameters of lists and webhooks.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details<'a> {
    #[serde(borrow)]
    id: Option<Str<'a>>,
    #[serde(borrow, alias = "task_id")]
    task_id: Option<Str<'a>>,
    #[serde(borrow)]
    tenant: Option<Str<'a>>,
    #[serde(alias = "history_length")]
    history_length: Option<i64>,
    /// 1.0 names a webhook's members here, 0.3 in objects of their own.
    #[serde(borrow)]
    url: Option<Str<'a>>,
    #[serde(borrow)]
    token: Option<Str<'a>>,
    #[serde(borrow)]
    authentication: Option<Object<AuthenticationIn<'a>>>,
    #[serde(borrow, alias = "push_notification_config")]
    push_notification_config: Option<Box<Object<HookIn<'a>>>>,
    #[serde(borrow, alias = "push_notification_config_id")]
    push_notification_config_id: Option<Str<'a>>,
    #[serde(borrow, alias = "config_id")]
    config_id: Option<Str<'a>>,
    #[serde(borrow)]
    config: Option<Box<Object<ConfigIn<'a>>>>,
    #[serde(borrow, alias = "context_id")]
    context_id: Option<Str<'a>>,
    #[serde(borrow)]
    status: Option<Str<'a>>,
    #[serde(alias = "page_size")]
    page_size: Option<i64>,
    #[serde(borrow, alias = "page_token")]
    page_token: Option<Str<'a>>,
    #[serde(borrow, alias = "status_timestamp_after")]
    status_timestamp_after: Option<Str<'a>>,
    #[serde(alias = "include_artifacts")]
    include_artifacts: Option<bool>,
}

/// Reads an object of members.
///
/// # Errors
/// `InvalidParams` naming the member that does not fit.
pub fn members<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, A2aError> {
    serde_json::from_str::<Object<T>>(json).map(|Object(members)| members).map_err(|error| {
        let member = member_at(json, offset_of(json, error.line(), error.column()));
        let what = without_position(&error);
        invalid(if member.is_empty() { what } else { format!("{member}: {what}") })
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigurationIn<'a> {
    #[serde(alias = "accepted_output_modes")]
    accepted_output_modes: Option<List<Ignored>>,
    /// 0.3, like all that follows a value of whatever type until its dialect reads it.
    #[serde(borrow)]
    blocking: Option<&'a RawValue>,
    #[serde(borrow, alias = "return_immediately")]
    return_immediately: Option<&'a RawValue>,
    #[serde(alias = "history_length")]
    history_length: Option<i64>,
    /// 0.3 JSON.
    #[serde(borrow)]
    push_notification_config: Option<&'a RawValue>,
    /// ProtoJSON of 0.3.
    #[serde(borrow, alias = "push_notification")]
    push_notification: Option<&'a RawValue>,
    /// 1.0.
    #[serde(borrow, alias = "task_push_notification_config")]
    task_push_notification_config: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct HookIn<'a> {
    #[serde(borrow)]
    id: Option<Str<'a>>,
    #[serde(borrow)]
    url: Option<Str<'a>>,
    #[serde(borrow)]
    token: Option<Str<'a>>,
    #[serde(borrow)]
    authentication: Option<Object<AuthenticationIn<'a>>>,
}

/// 0.3 lists schemes, 1.0 names one.
#[derive(Debug, Deserialize)]
struct AuthenticationIn<'a> {
    #[serde(borrow)]
    scheme: Option<Str<'a>>,
    #[serde(borrow)]
    schemes: Option<List<Str<'a>>>,
    #[serde(borrow)]
    credentials: Option<Str<'a>>,
}

/// What the ProtoJSON of 0.3 wraps around a webhook.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigIn<'a> {
    #[serde(borrow, alias = "push_notification_config")]
    push_notification_config: Option<Object<HookIn<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageIn<'a> {
    #[serde(borrow, alias = "message_id")]
    message_id: Option<Str<'a>>,
    #[serde(borrow)]
    role: Option<Str<'a>>,
    #[serde(borrow)]
    parts: Option<List<Object<PartIn<'a>>>>,
    /// The parts, in the ProtoJSON of 0.3.
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow, alias = "context_id")]
    context_id: Option<Str<'a>>,
    #[serde(borrow, alias = "task_id")]
    task_id: Option<Str<'a>>,
    #[serde(borrow)]
    kind: Option<Loose<'a>>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    extensions: Option<&'a RawValue>,
    #[serde(borrow, alias = "reference_task_ids")]
    reference_task_ids: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartIn<'a> {
    #[serde(borrow)]
    kind: Option<Loose<'a>>,
    #[serde(borrow, rename = "type")]
    loose_kind: Option<Loose<'a>>,
    #[serde(borrow)]
    text: Option<Str<'a>>,
    #[serde(borrow)]
    content: Option<Loose<'a>>,
    #[serde(borrow)]
    file: Option<&'a RawValue>,
    /// May be `null` in 1.0.
    #[serde(borrow, default)]
    data: Present<'a>,
    #[serde(borrow)]
    raw: Option<Loose<'a>>,
    #[serde(borrow)]
    url: Option<Loose<'a>>,
    #[serde(borrow)]
    filename: Option<Loose<'a>>,
    #[serde(borrow, alias = "media_type")]
    media_type: Option<Loose<'a>>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileIn<'a> {
    #[serde(borrow, alias = "fileWithBytes", alias = "file_with_bytes")]
    bytes: Option<Str<'a>>,
    #[serde(borrow, alias = "fileWithUri", alias = "file_with_uri")]
    uri: Option<Str<'a>>,
    #[serde(borrow, alias = "mime_type")]
    mime_type: Option<Str<'a>>,
    #[serde(borrow)]
    name: Option<Str<'a>>,
}

fn invalid(what: impl Into<String>) -> A2aError {
    A2aError::InvalidParams(what.into())
}

/// The text of a member; ProtoJSON writes what is not there as an empty string.
fn given<'v>(member: Option<&'v Str<'_>>) -> Option<&'v str> {
    member.map(Str::as_str).filter(|text| !text.is_empty())
}

impl<'a> Params<'a> {
    /// Takes over what the path and the query of a REST request say.
    ///
    /// # Errors
    /// `InvalidParams` naming the parameter.
    pub fn set(&mut self, name: &str, value: &'a str) -> Result<(), A2aError> {
        match name {
            "historyLength" | "history_length" => self.history_length = Some(number(name, value)?),
            "id" => self.id = Some(Str(value.into())),
            "tenant" => self.tenant = Some(Str(value.into())),
            _ => {}
        }
        Ok(())
    }

    /// The label that the request carries; 0.3 has none.
    ///
    /// # Errors
    /// `InvalidParams` for one that cannot be.
    pub fn tenant(&self, dialect: Dialect) -> Result<Option<Tenant>, A2aError> {
        label(self.tenant.as_ref(), dialect)
    }

    /// The task that `id`, or CodeTether's `taskId`, names.
    pub fn task(&self) -> Result<TaskId, A2aError> {
        let id = self.id.as_ref().or(self.task_id.as_ref());
        let id = id.ok_or_else(|| invalid("id: missing"))?;
        TaskId::parse(id.as_str()).ok_or(A2aError::TaskNotFound)
    }

    /// Most recent messages wanted.
    pub fn history(&self) -> Result<Option<usize>, A2aError> {
        length(self.history_length, "historyLength")
    }

    /// The message sent, checked.
    ///
    /// # Errors
    /// `InvalidParams` naming the member; `TaskNotFound` for a task id that is none of ours.
    pub fn send(&self, dialect: Dialect) -> Result<Send, A2aError> {
        let Object(sent) = self.message.as_deref().ok_or_else(|| invalid("message: missing"))?;
        let spelled: Option<List<Object<PartIn<'_>>>> = match (dialect, sent.content) {
            (Dialect::Proto03, Some(raw)) => Some(value(raw, "message.content")?),
            _ => None,
        };
        let parts = spelled.as_ref().or(sent.parts.as_ref());
        let parts = parts.ok_or_else(|| invalid("message.parts: missing"))?.0.as_slice();
        if parts.is_empty() {
            return Err(invalid("message.parts: at least one part is needed"));
        }
        let loose = dialect == Dialect::V03
            && parts.iter().any(|Object(part)| part.kind.is_none() && part.loose_kind.is_some());
        if dialect == Dialect::V03 {
            expect_kind(sent.kind.as_ref(), "message", "message.kind")?;
        }
        match sent.role.as_ref().map(Str::as_str) {
            Some(role) if dialect.reads_role(role, Role::User) => {}
            None if loose => {}
            Some(role) if dialect.reads_role(role, Role::Agent) => {
                let user = dialect.role(Role::User);
                return Err(invalid(format!("message.role: must be `{user}` in a request")));
            }
            Some(_) => {
                return Err(invalid(format!(
                    "message.role: must be `{}`",
                    dialect.role(Role::User)
                )));
            }
            None => return Err(invalid("message.role: missing")),
        }
        let id = match &sent.message_id {
            Some(id) if id.as_str().is_empty() => return Err(invalid("message.messageId: empty")),
            Some(id) if id.as_str().len() > ID_BYTES => {
                return Err(invalid(format!("message.messageId: longer than {ID_BYTES} bytes")));
            }
            Some(id) => id.as_str(),
            None if loose => "message",
            None => return Err(invalid("message.messageId: missing")),
        };
        let parts = parts
            .iter()
            .enumerate()
            .map(|(at, Object(part))| part.checked(dialect, at))
            .collect::<Result<Parts, _>>()?;
        let task = match given(sent.task_id.as_ref()) {
            None => None,
            Some(id) => Some(TaskId::parse(id).ok_or(A2aError::TaskNotFound)?),
        };
        let context = given(sent.context_id.as_ref())
            .map(|id| {
                ContextId::parse(id).ok_or_else(|| invalid(format!("message.{CONTEXT_RULE}")))
            })
            .transpose()?;
        let metadata = sent
            .metadata
            .map(|raw| object(raw, "message.metadata").map_err(invalid))
            .transpose()?;
        let outer =
            self.metadata.map(|raw| object(raw, "metadata").map_err(invalid)).transpose()?;
        let skill = match chosen_skill(metadata, "message.metadata.skill")? {
            Some(skill) => Some(skill),
            None => chosen_skill(outer, "metadata.skill")?,
        };
        let extra = MessageExtra {
            metadata: metadata.map(Into::into),
            extensions: strings(sent.extensions, "message.extensions")?,
            reference_task_ids: strings(sent.reference_task_ids, "message.referenceTaskIds")?,
        };
        let message = Message {
            id: MessageId::Given(id.into()),
            role: Role::User,
            parts,
            extra: (extra != MessageExtra::default()).then(|| Box::new(extra)),
        };
        let message = Rc::new(message);
        let request = Send {
            message,
            task,
            context,
            blocking: true,
            history: None,
            skill,
            hook: None,
            loose,
        };
        match &self.configuration {
            Some(configuration) => configuration.0.checked(dialect, request),
            None => Ok(request),
        }
    }
}

impl<'a> Details<'a> {
    /// Takes over what the path and the query of a REST request say.
    ///
    /// # Errors
    /// `InvalidParams` naming the parameter.
    pub fn set(&mut self, name: &str, value: &'a str) -> Result<(), A2aError> {
        let text = Some(Str(value.into()));
        match name {
            "historyLength" | "history_length" => self.history_length = Some(number(name, value)?),
            "pageSize" | "page_size" => self.page_size = Some(number(name, value)?),
            "contextId" | "context_id" => self.context_id = text,
            "status" => self.status = text,
            "pageToken" | "page_token" => self.page_token = text,
            "statusTimestampAfter" | "status_timestamp_after" => {
                self.status_timestamp_after = text;
            }
            "includeArtifacts" | "include_artifacts" => {
                self.include_artifacts = Some(match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(invalid(format!("{name}: must be true or false"))),
                });
            }
            "taskId" => self.task_id = text,
            "configId" => self.config_id = text,
            "tenant" => self.tenant = text,
            _ => {}
        }
        Ok(())
    }

    /// The label that the request carries; 0.3 has none.
    ///
    /// # Errors
    /// `InvalidParams` for one that cannot be.
    pub fn tenant(&self, dialect: Dialect) -> Result<Option<Tenant>, A2aError> {
        label(self.tenant.as_ref(), dialect)
    }

    /// The task whose webhooks are meant.
    pub fn hook_task(&self, dialect: Dialect) -> Result<TaskId, A2aError> {
        let (id, name) = match (dialect, &self.push_notification_config) {
            // Only where a webhook is set is the task called `taskId` in 0.3.
            (Dialect::V03, None) => (self.id.as_ref().or(self.task_id.as_ref()), "id"),
            _ => (self.task_id.as_ref(), "taskId"),
        };
        let id = given(id).ok_or_else(|| invalid(format!("{name}: missing")))?;
        // Whether webhooks are told at all is answered before whether there is such a task.
        Ok(TaskId::parse(id).unwrap_or(TaskId::NOBODYS))
    }

    /// The webhook that is named, if one is.
    pub fn hook_id(&self, dialect: Dialect) -> Option<Box<str>> {
        let id = match dialect {
            Dialect::V03 => self.push_notification_config_id.as_ref(),
            Dialect::Proto03 => self.config_id.as_ref(),
            Dialect::V1 => self.id.as_ref(),
        };
        given(id).map(Into::into)
    }

    /// The webhook that is to be set, checked.
    pub fn hook(&self, dialect: Dialect) -> Result<Hook, A2aError> {
        let nested =
            self.config.as_ref().and_then(|config| config.0.push_notification_config.as_ref());
        let hook = match self.push_notification_config.as_deref().or(nested) {
            Some(Object(hook)) => hook.checked(dialect, "pushNotificationConfig.")?,
            None if dialect == Dialect::V03 => {
                return Err(invalid("pushNotificationConfig: missing"));
            }
            None => {
                let authentication = self.authentication.as_ref();
                let (url, token) = (self.url.as_ref(), self.token.as_ref());
                checked_hook(dialect, "", self.id.as_ref(), url, token, authentication)?
            }
        };
        match &self.config_id {
            Some(id) if hook.id.is_empty() => {
                Ok(Hook { id: hook_id(id.as_str(), "configId")?, ..hook })
            }
            _ => Ok(hook),
        }
    }

    /// Which tasks to list.
    pub fn filter(&self, dialect: Dialect) -> Result<Filter, A2aError> {
        let context = given(self.context_id.as_ref())
            .map(|id| ContextId::parse(id).ok_or_else(|| invalid(CONTEXT_RULE)))
            .transpose()?;
        let state = given(self.status.as_ref())
            .filter(|name| *name != "TASK_STATE_UNSPECIFIED")
            .map(|name| dialect.state_of(name).ok_or_else(|| invalid("status: no such state")))
            .transpose()?;
        let since_ms = given(self.status_timestamp_after.as_ref())
            .map(|text| {
                unix_ms_of(text).ok_or_else(|| {
                    invalid("statusTimestampAfter: must be a date as 2026-01-31T23:59:59Z")
                })
            })
            .transpose()?;
        let page_size = match self.page_size {
            None => PAGE,
            Some(size) => usize::try_from(size)
                .ok()
                .filter(|size| (1..=PAGE_MAX).contains(size))
                .ok_or_else(|| invalid(format!("pageSize: must be 1 to {PAGE_MAX}")))?,
        };
        let after = given(self.page_token.as_ref())
            .map(|text| text.parse().map_err(|()| invalid("pageToken: is none of this agent's")))
            .transpose()?;
        let (history, artifacts) = (
            length(self.history_length, "historyLength")?,
            self.include_artifacts.unwrap_or(false),
        );
        Ok(Filter { context, state, since_ms, page_size, after, history, artifacts })
    }
}

fn number(name: &str, value: &str) -> Result<i64, A2aError> {
    value.parse().map_err(|_| invalid(format!("{name}: must be a number")))
}

fn label(member: Option<&Str<'_>>, dialect: Dialect) -> Result<Option<Tenant>, A2aError> {
    given(member.filter(|_| dialect == Dialect::V1))
        .map(|text| tenant(text).map_err(|what| invalid(format!("tenant: {what}"))))
        .transpose()
}

const CONTEXT_RULE: &str = "contextId: must be 1 to 128 bytes without control characters";

impl ConfigurationIn<'_> {
    /// Adds what the caller wants of the reply.
    fn checked(&self, dialect: Dialect, send: Send) -> Result<Send, A2aError> {
        let hook = match dialect {
            Dialect::V03 => self.push_notification_config,
            Dialect::Proto03 => self.push_notification.or(self.push_notification_config),
            Dialect::V1 => self.task_push_notification_config,
        };
        let place = match dialect {
            Dialect::V03 | Dialect::Proto03 => "configuration.pushNotificationConfig",
            Dialect::V1 => "configuration.taskPushNotificationConfig",
        };
        let hook: Option<Object<HookIn<'_>>> = hook.map(|raw| value(raw, place)).transpose()?;
        let hook = hook.map(|Object(hook)| hook.checked(dialect, &format!("{place}.")));
        let hook = hook.transpose()?.map(Box::new);
        let history = length(self.history_length, "configuration.historyLength")?;
        let flag = |raw: Option<&RawValue>, member| raw.map(|raw| value(raw, member)).transpose();
        let blocking = match dialect {
            Dialect::V03 => flag(self.blocking, "configuration.blocking")?.unwrap_or(true),
            // ProtoJSON leaves out what is false.
            Dialect::Proto03 => flag(self.blocking, "configuration.blocking")?.unwrap_or(false),
            Dialect::V1 => {
                !flag(self.return_immediately, "configuration.returnImmediately")?.unwrap_or(false)
            }
        };
        // Advisory (A2A 1.0 §3.2.2); every reply here is text, with data beside it where there is some.
        let _ = &self.accepted_output_modes;
        Ok(Send { blocking, history, hook, ..send })
    }
}

impl HookIn<'_> {
    fn checked(&self, dialect: Dialect, place: &str) -> Result<Hook, A2aError> {
        let (url, token) = (self.url.as_ref(), self.token.as_ref());
        checked_hook(dialect, place, self.id.as_ref(), url, token, self.authentication.as_ref())
    }
}

fn checked_hook(
    dialect: Dialect,
    place: &str,
    id: Option<&Str<'_>>,
    url: Option<&Str<'_>>,
    token: Option<&Str<'_>>,
    authentication: Option<&Object<AuthenticationIn<'_>>>,
) -> Result<Hook, A2aError> {
    let url = given(url).ok_or_else(|| invalid(format!("{place}url: missing")))?;
    let fits = |text: &str, member: &str| {
        // All of them become parts of a request's head.
        if text.len() > HOOK_BYTES || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            let rule = format!("must be at most {HOOK_BYTES} printable ASCII characters");
            return Err(invalid(format!("{place}{member}: {rule}")));
        }
        Ok(text.into())
    };
    let authentication = match authentication {
        // An object without members is how some clients write what is not there.
        None
        | Some(Object(AuthenticationIn { scheme: None, schemes: None, credentials: None })) => None,
        Some(Object(authentication)) => {
            let first = authentication.schemes.as_ref().and_then(|list| list.0.first());
            let scheme = given(authentication.scheme.as_ref().or(first))
                .ok_or_else(|| invalid(format!("{place}authentication.scheme: missing")))?;
            if scheme.contains(' ') {
                return Err(invalid(format!("{place}authentication.scheme: must be one word")));
            }
            let credentials = given(authentication.credentials.as_ref()).unwrap_or_default();
            Some((
                fits(scheme, "authentication.scheme")?,
                fits(credentials, "authentication.credentials")?,
            ))
        }
    };
    let id = given(id).map_or(Ok("".into()), |id| hook_id(id, &format!("{place}id")))?;
    let token = given(token).map(|token| fits(token, "token")).transpose()?;
    Ok(Hook { id, url: fits(url, "url")?, token, authentication, dialect })
}

fn hook_id(id: &str, member: &str) -> Result<Box<str>, A2aError> {
    if id.len() > ID_BYTES || id.chars().any(char::is_control) {
        let rule = format!("must be at most {ID_BYTES} bytes without control characters");
        return Err(invalid(format!("{member}: {rule}")));
    }
    Ok(id.into())
}

fn length(value: Option<i64>, member: &str) -> Result<Option<usize>, A2aError> {
    value
        .map(|n| usize::try_from(n).map_err(|_| invalid(format!("{member}: must not be negative"))))
        .transpose()
}

/// The value of a member that this dialect knows.
///
/// # Errors
/// `InvalidParams` naming the member, and what in it does not fit.
fn value<'a, T: Deserialize<'a>>(raw: &'a RawValue, member: &str) -> Result<T, A2aError> {
    serde_json::from_str(raw.get()).map_err(|error| {
        let inner = member_at(raw.get(), offset_of(raw.get(), error.line(), error.column()));
        let dot = if inner.is_empty() || inner.starts_with('[') { "" } else { "." };
        invalid(format!("{member}{dot}{inner}: {}", without_position(&error)))
    })
}

/// The text of a member that this dialect knows.
fn word<'v>(
    member: Option<&'v Loose<'_>>,
    name: &str,
    here: &dyn Fn(&str) -> A2aError,
) -> Result<Option<&'v str>, A2aError> {
    match member {
        None => Ok(None),
        Some(Loose(Some(text))) => Ok(Some(text.as_str())),
        Some(Loose(None)) => Err(here(&format!("{name}: expected a string"))),
    }
}

fn expect_kind(kind: Option<&Loose<'_>>, wanted: &str, member: &str) -> Result<(), A2aError> {
    match kind {
        Some(kind) if kind.0.as_ref().map(Str::as_str) != Some(wanted) => {
            Err(invalid(format!("{member}: must be `{wanted}`")))
        }
        _ => Ok(()),
    }
}

fn strings(raw: Option<&RawValue>, member: &str) -> Result<Option<Box<str>>, A2aError> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str::<List<Ignored>>(raw.get())
        .map_err(|_| invalid(format!("{member}: expected an array of at most {LIST} strings")))?;
    Ok(Some(raw.get().into()))
}

/// The string member `skill` of a metadata object.
fn chosen_skill(metadata: Option<&str>, member: &str) -> Result<Option<Box<str>>, A2aError> {
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow)]
        skill: Option<Str<'a>>,
    }
    let Some(metadata) = metadata else { return Ok(None) };
    let choice = serde_json::from_str::<Choice<'_>>(metadata)
        .map_err(|_| invalid(format!("{member}: expected a string")))?;
    Ok(choice.skill.map(|skill| skill.as_str().into()))
}

impl PartIn<'_> {
    fn checked(&self, dialect: Dialect, at: usize) -> Result<Part, A2aError> {
        let here = |what: &str| invalid(format!("message.parts[{at}]{what}"));
        let mut extra = PartExtra {
            metadata: self
                .metadata
                .map(|raw| object(raw, "metadata").map(Into::into))
                .transpose()
                .map_err(|what| here(&format!(".{what}")))?,
            ..PartExtra::default()
        };
        let content = match dialect {
            Dialect::V1 => self.content_v1(&here, &mut extra)?,
            Dialect::V03 | Dialect::Proto03 => self.content_v03(dialect, &here, &mut extra)?,
        };
        let extra = (extra != PartExtra::default()).then(|| Box::new(extra));
        Ok(Part { content, extra })
    }

    fn content_v1(
        &self,
        here: &dyn Fn(&str) -> A2aError,
        extra: &mut PartExtra,
    ) -> Result<Content, A2aError> {
        let text = |member, name| {
            word(member, name, here).map(|text| text.filter(|text| !text.is_empty()))
        };
        extra.filename = text(self.filename.as_ref(), ".filename")?.map(Into::into);
        extra.media_type = text(self.media_type.as_ref(), ".mediaType")?.map(Into::into);
        let raw = word(self.raw.as_ref(), ".raw", here)?;
        let url = word(self.url.as_ref(), ".url", here)?;
        // Some clients write `null` for what is not there, and `null` is a JSON value as well.
        let is_other = self.text.is_some() || raw.is_some() || url.is_some();
        let data = self.data.0.filter(|data| !is_other || data.get() != "null");
        match (&self.text, raw, url, data) {
            (Some(text), None, None, None) => Ok(Content::Text(text.as_str().into())),
            (None, Some(raw), None, None) if is_base64(raw) => Ok(Content::Raw(padded(raw))),
            (None, Some(_), None, None) => Err(here(".raw: not base64")),
            (None, None, Some(url), None) if !url.is_empty() => Ok(Content::Url(url.into())),
            (None, None, Some(_), None) => Err(here(".url: empty")),
            (None, None, None, Some(data)) => Ok(Content::Data(data.get().into())),
            (None, None, None, None) => Err(here(": must hold one of text, raw, url and data")),
            _ => Err(here(": must hold one of text, raw, url and data, not several")),
        }
    }

    fn content_v03(
        &self,
        dialect: Dialect,
        here: &dyn Fn(&str) -> A2aError,
        extra: &mut PartExtra,
    ) -> Result<Content, A2aError> {
        let text = match (&self.text, &self.kind) {
            (Some(text), _) => Some(text.as_str()),
            (None, None) => word(self.content.as_ref(), ".content", here)?,
            (None, Some(_)) => None,
        };
        let file: Option<Object<FileIn<'_>>> = self
            .file
            .map(|raw| {
                value(raw, ".file").map_err(|error| match error {
                    A2aError::InvalidParams(what) => here(&what),
                    other => other,
                })
            })
            .transpose()?;
        let data = self.data.0.filter(|data| data.get() != "null");
        let contents =
            usize::from(text.is_some()) + usize::from(file.is_some()) + usize::from(data.is_some());
        if contents > 1 {
            return Err(here(": must hold one of text, file and data, not several"));
        }
        let kind = word(self.kind.as_ref().or(self.loose_kind.as_ref()), ".kind", here)?;
        match (kind, text, &file, data) {
            (Some("text") | None, Some(text), ..) => Ok(Content::Text(text.into())),
            (Some("file") | None, _, Some(Object(file)), _) => file.checked(here, extra),
            (Some("data") | None, .., Some(data)) => {
                let data = object(data, ".data").map_err(|what| here(&what))?;
                Ok(Content::Data(unwrapped(dialect, data).into()))
            }
            (Some("text"), ..) => Err(here(".text: missing")),
            (Some("file"), ..) => Err(here(".file: missing")),
            (Some("data"), ..) => Err(here(".data: missing")),
            (Some(_), ..) => Err(here(".kind: must be one of text, file, data")),
            (None, ..) if dialect == Dialect::Proto03 => {
                Err(here(": must hold one of text, file and data"))
            }
            (None, ..) => Err(here(".kind: missing")),
        }
    }
}

/// The object inside: the 0.3 proto has a message of one member, `data`, around it.
fn unwrapped(dialect: Dialect, data: &str) -> &str {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    match serde_json::from_str::<Wrapped<'_>>(data) {
        Ok(inner) if dialect == Dialect::Proto03 && inner.data.get().starts_with('{') => {
            inner.data.get()
        }
        _ => data,
    }
}

impl FileIn<'_> {
    fn checked(
        &self,
        here: &dyn Fn(&str) -> A2aError,
        extra: &mut PartExtra,
    ) -> Result<Content, A2aError> {
        extra.filename = given(self.name.as_ref()).map(Into::into);
        extra.media_type = given(self.mime_type.as_ref()).map(Into::into);
        match (&self.bytes, &self.uri) {
            (Some(bytes), None) if is_base64(bytes.as_str()) => {
                Ok(Content::Raw(padded(bytes.as_str())))
            }
            (Some(_), None) => Err(here(".file.bytes: not base64")),
            (None, Some(uri)) if !uri.as_str().is_empty() => Ok(Content::Url(uri.as_str().into())),
            (None, _) => Err(here(".file: needs bytes or uri")),
            (Some(_), Some(_)) => Err(here(".file: must hold bytes or uri, not both")),
        }
    }
}

/// The base64 text in the standard alphabet with its padding, which is what every reader takes.
fn padded(text: &str) -> Rc<str> {
    if text.len().is_multiple_of(4) && !text.contains(['-', '_']) {
        return text.into();
    }
    let mut padded = text.replace('-', "+").replace('_', "/");
    while !padded.len().is_multiple_of(4) {
        padded.push('=');
    }
    padded.into()
}

/// Standard or URL-safe alphabet, padding right or absent (RFC 4648 §4, §5).
fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
    body.bytes().all(alphabet)
        && body.len() % 4 != 1
        && (padding == 0 || (padding <= 2 && text.len().is_multiple_of(4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(params: &str) -> Result<Send, A2aError> {
        serde_json::from_str::<Params<'_>>(params).unwrap().send(Dialect::V03)
    }

    fn refusal(params: &str) -> String {
        send(params).unwrap_err().to_string()
    }

    #[test]
    fn a_plain_message_is_read() {
        let sent = send(
            r#"{"message":{"kind":"message","messageId":"m1","role":"user","parts":[{"kind":"text","text":"25*4"}],
                "contextId":"c","metadata":{"skill":"calculator"}},"configuration":{"blocking":false,"historyLength":2}}"#,
        )
        .unwrap();
        assert_eq!(sent.message.text(), "25*4");
        assert_eq!(sent.skill.as_deref(), Some("calculator"));
        assert_eq!((sent.blocking, sent.history, sent.loose), (false, Some(2), false));
    }

    #[test]
    fn codetethers_loose_parts_need_no_ids() {
        let sent = send(r#"{"message":{"parts":[{"type":"text","content":"hello"}]}}"#).unwrap();
        assert_eq!((&*sent.message.text(), sent.loose, sent.blocking), ("hello", true, true));
    }

    #[test]
    fn each_refusal_names_its_member() {
        let message = |members: &str| format!(r#"{{"message":{{{members}}}}}"#);
        let text = r#""parts":[{"kind":"text","text":"x"}]"#;
        let cases = [
            ("{}".to_owned(), "message: missing"),
            (message(r#""messageId":"m","role":"user""#), "message.parts: missing"),
            (message(r#""messageId":"m","role":"user","parts":[]"#), "message.parts: at least"),
            (message(&format!(r#""role":"user",{text}"#)), "message.messageId: missing"),
            (message(&format!(r#""messageId":"m",{text}"#)), "message.role: missing"),
            (message(&format!(r#""messageId":"m","role":"robot",{text}"#)), "message.role"),
            (
                message(r#""messageId":"m","role":"user","parts":[{"kind":"text"}]"#),
                "parts[0].text: missing",
            ),
            (
                message(r#""messageId":"m","role":"user","parts":[{"kind":"video"}]"#),
                "parts[0].kind",
            ),
            (message(r#""messageId":"m","role":"user","parts":[{}]"#), "parts[0].kind: missing"),
            (
                message(
                    r#""messageId":"m","role":"user","parts":[{"kind":"text","text":"x","data":{}}]"#,
                ),
                "parts[0]: must hold one",
            ),
            (
                message(r#""messageId":"m","role":"user","parts":[{"kind":"data","data":[1]}]"#),
                "parts[0].data: expected an object",
            ),
            (
                message(r#""messageId":"m","role":"user","parts":[{"kind":"file","file":{}}]"#),
                "parts[0].file: needs",
            ),
            (
                message(
                    r#""messageId":"m","role":"user","parts":[{"kind":"file","file":{"bytes":"a"}}]"#,
                ),
                "not base64",
            ),
            (
                message(&format!(r#""messageId":"m","role":"user",{text},"metadata":[]"#)),
                "message.metadata: expected an object",
            ),
            (
                message(&format!(
                    r#""messageId":"m","role":"user",{text},"metadata":{{"skill":1}}"#
                )),
                "metadata.skill",
            ),
            (
                message(&format!(r#""messageId":"m","role":"user",{text},"extensions":[1]"#)),
                "message.extensions",
            ),
            (
                message(&format!(r#""messageId":"m","role":"user",{text},"contextId":"a\u0000b""#)),
                "message.contextId",
            ),
        ];
        for (params, member) in cases {
            let said = refusal(&params);
            assert!(said.contains(member), "{params}: {said}");
        }
    }

    #[test]
    fn what_another_dialect_knows_is_unknown_and_does_not_matter() {
        let read = |dialect, params: &str| {
            serde_json::from_str::<Params<'_>>(params).unwrap().send(dialect)
        };
        let one = r#"{"message":{"messageId":"m","role":"ROLE_USER","kind":5,"content":{},
            "parts":[{"text":"x","kind":5,"type":[],"content":{"a":[1.5]},"file":true}]},
            "configuration":{"blocking":"no","pushNotificationConfig":5,"pushNotification":[]}}"#;
        assert!(read(Dialect::V1, one).is_ok_and(|sent| sent.blocking));
        let three = r#"{"message":{"messageId":"m","role":"user","kind":"message","content":7,
            "parts":[{"text":"x","kind":"text","raw":1,"url":{},"filename":[],"mediaType":null}]},
            "configuration":{"returnImmediately":7,"taskPushNotificationConfig":5}}"#;
        assert!(read(Dialect::V03, three).is_ok_and(|sent| sent.blocking));
        for (dialect, params, member) in [
            (
                Dialect::V03,
                one.replace("ROLE_USER", "user").replace("\"kind\":5,\"content\"", "\"content\""),
                "parts[0]",
            ),
            (
                Dialect::V1,
                three.replace("user", "ROLE_USER"),
                "parts[0].filename: expected a string",
            ),
        ] {
            let said = read(dialect, &params).unwrap_err().to_string();
            assert!(said.contains(member), "{said}");
        }
    }

    #[test]
    fn a_foreign_task_id_is_a_missing_task() {
        let params = r#"{"message":{"messageId":"m","role":"user","taskId":"nope","parts":[{"kind":"text","text":"x"}]}}"#;
        assert_eq!(send(params).unwrap_err(), A2aError::TaskNotFound);
    }

    #[test]
    fn bytes_are_kept_as_every_reader_takes_them() {
        for (given, kept) in [("YQ==", "YQ=="), ("YQ", "YQ=="), ("_-8", "/+8="), ("", "")] {
            assert_eq!(&*padded(given), kept);
        }
    }

    #[test]
    fn base64_is_told_from_text() {
        for good in ["", "YQ==", "YWI=", "YWJj", "YQ", "_-8"] {
            assert!(is_base64(good), "{good}");
        }
        for bad in ["a", "a b=", "YQ=", "=", "====", "é"] {
            assert!(!is_base64(bad), "{bad}");
        }
    }
}
