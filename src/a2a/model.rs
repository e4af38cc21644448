//! Tasks, messages, parts and artifacts in the terms of A2A 1.0 (§4.1), as the store keeps them.
//!
//! Text is shared, not copied: the reply in a status message and in an artifact is one allocation. `heap_bytes`
//! says what a thing costs, so that its holder can lease it.

use std::borrow::Cow;
use std::rc::Rc;

use smallvec::{SmallVec, smallvec};

use crate::a2a::read::{List, Str};
use crate::base::base64::decode;
use crate::base::ids::{ContextId, Short, TaskId};

/// What an allocation costs beside its bytes.
const ALLOCATION: usize = 32;

/// Where a task stands (A2A 1.0 §4.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Accepted, not begun.
    Submitted,
    /// Being worked on, or waiting for its turn.
    Working,
    /// Waiting for the caller's next message.
    InputRequired,
    /// Done; the result is in the artifacts.
    Completed,
    /// Ended without the result that was asked for.
    Failed,
    /// Ended because the caller said so.
    Canceled,
    /// Refused: this agent has nothing that could do it.
    Rejected,
    /// Waiting for the caller to prove who it is.
    AuthRequired,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Submitted,
        Self::Working,
        Self::InputRequired,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
        Self::Rejected,
        Self::AuthRequired,
    ];

    /// Whether nothing can follow.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Canceled | Self::Rejected => true,
            Self::Submitted | Self::Working | Self::InputRequired | Self::AuthRequired => false,
        }
    }

    /// Whether a blocking caller gets its answer now: final, or waiting for that caller.
    pub const fn is_settled(self) -> bool {
        self.is_final() || matches!(self, Self::InputRequired | Self::AuthRequired)
    }

    /// Whether a task may move from `self` to `next` (A2A 1.0 §4.1.3).
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Canceled | Self::Rejected => false,
            Self::Submitted | Self::Working | Self::InputRequired | Self::AuthRequired => {
                !matches!(next, Self::Submitted)
            }
        }
    }
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The caller.
    User,
    /// This agent.
    Agent,
}

/// The id of a message: a client's own, or the count of this agent's messages in its task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageId {
    /// As the client wrote it.
    Given(Short),
    /// The agent's n-th message; spelled `<task id>-<n>`.
    Own(u32),
}

/// One message of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Unique for its author.
    pub id: MessageId,
    /// Its author.
    pub role: Role,
    /// At least one.
    pub parts: Parts,
    /// Rare members.
    pub extra: Option<Box<MessageExtra>>,
}

/// Members of a message that few messages have, kept as the JSON they came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MessageExtra {
    /// An object.
    pub metadata: Option<Box<str>>,
    /// An array of URIs.
    pub extensions: Option<Box<str>>,
    /// An array of task ids.
    pub reference_task_ids: Option<Box<str>>,
}

impl Message {
    /// A message of this agent.
    pub fn own(number: u32, parts: Parts) -> Self {
        Self { id: MessageId::Own(number), role: Role::Agent, parts, extra: None }
    }

    /// All its text parts, a line break between two of them.
    pub fn text(&self) -> Cow<'_, str> {
        let mut texts = self.parts.iter().filter_map(Part::text);
        let Some(first) = texts.next() else { return Cow::Borrowed("") };
        let mut all = Cow::Borrowed(first);
        for text in texts {
            let all = all.to_mut();
            all.push('\n');
            all.push_str(text);
        }
        all
    }

    /// All it says that can be read: its texts, texts in files, data as JSON, and where further files are.
    pub fn readable(&self) -> Cow<'_, str> {
        if self.parts.iter().all(|part| part.text().is_some()) {
            return self.text();
        }
        let mut all = String::new();
        for part in &self.parts {
            let name = part.extra.as_ref().and_then(|extra| extra.filename.as_deref());
            let read = match &part.content {
                Content::Text(text) | Content::Data(text) => Cow::Borrowed(&**text),
                Content::Raw(bytes) => match decode(bytes).map(String::from_utf8) {
                    Some(Ok(text)) => Cow::Owned(text),
                    Some(Err(_)) | None => continue,
                },
                Content::Url(url) => match name {
                    Some(name) => Cow::Owned(format!("{name}: {url}")),
                    None => Cow::Borrowed(&**url),
                },
            };
            if !all.is_empty() {
                all.push('\n');
            }
            all.push_str(&read);
        }
        Cow::Owned(all)
    }

    /// The tasks it refers to (A2A 1.0 §4.1.4), as far as they can be tasks of this agent.
    pub fn references(&self) -> Vec<TaskId> {
        let list = self.extra.as_ref().and_then(|extra| extra.reference_task_ids.as_deref());
        let list = list.and_then(|list| serde_json::from_str::<List<Str<'_>>>(list).ok());
        list.map_or_else(Vec::new, |list| {
            list.0.iter().filter_map(|id| TaskId::parse(id.as_str())).collect()
        })
    }

    /// Bytes it holds on the heap, itself included.
    pub fn heap_bytes(&self) -> usize {
        let id = match &self.id {
            MessageId::Given(id) => id.heap_bytes(),
            MessageId::Own(_) => 0,
        };
        let extra = self.extra.as_ref().map_or(0, |extra| {
            [&extra.metadata, &extra.extensions, &extra.reference_task_ids]
                .into_iter()
                .flatten()
                .map(|json| json.len() + ALLOCATION)
                .sum::<usize>()
                + size_of::<MessageExtra>()
        });
        size_of::<Self>() + ALLOCATION + id + extra + parts_bytes(&self.parts)
    }
}

/// What a part holds: exactly one of these (A2A 1.0 §4.1.6).
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Plain text.
    Text(Rc<str>),
    /// A file's bytes, in base64 as they came.
    Raw(Rc<str>),
    /// Where a file is.
    Url(Rc<str>),
    /// A JSON value, as text.
    Data(Rc<str>),
}

/// The parts of a message or an artifact: mostly one.
pub type Parts = SmallVec<[Part; 1]>;

/// One part of a message or an artifact.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it holds.
    pub content: Content,
    /// Rare members.
    pub extra: Option<Box<PartExtra>>,
}

/// Members of a part that few parts have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartExtra {
    /// Name of the file.
    pub filename: Option<Box<str>>,
    /// Media type of the content.
    pub media_type: Option<Box<str>>,
    /// An object, as text.
    pub metadata: Option<Box<str>>,
}

impl Part {
    /// A part of plain text.
    pub fn plain(text: impl Into<Rc<str>>) -> Self {
        Self { content: Content::Text(text.into()), extra: None }
    }

    /// A part of structured data; `json` is one JSON value.
    pub fn data(json: impl Into<Rc<str>>) -> Self {
        Self { content: Content::Data(json.into()), extra: None }
    }

    /// Its text, when it is text.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Raw(_) | Content::Url(_) | Content::Data(_) => None,
        }
    }

    /// The media type of what it holds: its own word, or what such content usually is, without parameters.
    pub fn media_type(&self) -> &str {
        let own = self.extra.as_ref().and_then(|extra| extra.media_type.as_deref());
        let usual = match &self.content {
            Content::Text(_) => "text/plain",
            Content::Data(_) => "application/json",
            Content::Raw(_) => "application/octet-stream",
            // Nothing but a reference is known of it.
            Content::Url(_) => "text/uri-list",
        };
        own.map_or(usual, |own| own.split(';').next().unwrap_or_default().trim())
    }

    fn heap_bytes(&self) -> usize {
        let (Content::Text(text) | Content::Raw(text) | Content::Url(text) | Content::Data(text)) =
            &self.content;
        let extra = self.extra.as_ref().map_or(0, |extra| {
            [&extra.filename, &extra.media_type, &extra.metadata]
                .into_iter()
                .flatten()
                .map(|text| text.len() + ALLOCATION)
                .sum::<usize>()
                + size_of::<PartExtra>()
        });
        text.len() + ALLOCATION + extra
    }
}

fn parts_bytes(parts: &[Part]) -> usize {
    parts.iter().map(|part| size_of::<Part>() + part.heap_bytes()).sum()
}

/// A result of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// Unique in its task.
    pub id: &'static str,
    /// What a person reads.
    pub name: &'static str,
    /// The finished parts. Empty while `growing` is being written.
    pub parts: Parts,
    /// The text of an artifact that is still being streamed.
    pub growing: String,
}

impl Artifact {
    /// An artifact that is there at once.
    pub fn whole(id: &'static str, name: &'static str, parts: Parts) -> Self {
        Self { id, name, parts, growing: String::new() }
    }

    /// Its text, grown so far or finished.
    pub fn text(&self) -> &str {
        self.parts.first().map_or(&self.growing, |part| part.text().unwrap_or_default())
    }

    /// Turns the grown text into the artifact's one part and returns it, shared.
    pub fn seal(&mut self) -> Part {
        let part = Part::plain(std::mem::take(&mut self.growing));
        self.parts = smallvec![part.clone()];
        part
    }

    /// Bytes it holds on the heap, itself included.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.growing.capacity() + parts_bytes(&self.parts)
    }
}

/// Where a task stands, since when, and what was said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The state.
    pub state: TaskState,
    /// What the agent says about it.
    pub message: Option<Rc<Message>>,
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// A task: one request and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The conversation it belongs to.
    pub context: ContextId,
    /// Where it stands.
    pub status: Status,
    /// Messages in the order they came, without the one in `status`.
    pub history: SmallVec<[Rc<Message>; 2]>,
    /// Results.
    pub artifacts: SmallVec<[Artifact; 1]>,
    /// About the work: model, finish reason, tokens. An object, as text.
    pub metadata: Option<Box<str>>,
    /// Whether its caller speaks CodeTether's looser dialect, which spells a state `cancelled`.
    pub loose: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_a_final_state() {
        for from in TaskState::ALL {
            for to in TaskState::ALL {
                assert_eq!(
                    from.may_become(to),
                    !from.is_final() && to != TaskState::Submitted,
                    "{from:?}"
                );
            }
        }
    }

    #[test]
    fn a_sealed_artifact_shares_its_text() {
        let mut artifact = Artifact::whole("reply", "Reply", Parts::new());
        artifact.growing.push_str("hello");
        assert_eq!(artifact.text(), "hello");
        let part = artifact.seal();
        let (Content::Text(ours), Content::Text(theirs)) =
            (&artifact.parts[0].content, &part.content)
        else {
            panic!("not text");
        };
        assert!(Rc::ptr_eq(ours, theirs));
        assert_eq!(artifact.text(), "hello");
    }

    #[test]
    fn what_can_be_read_of_a_message_is_read() {
        let named = |content, filename: Option<&str>| {
            let filename = filename.map(Into::into);
            Part { content, extra: Some(Box::new(PartExtra { filename, ..PartExtra::default() })) }
        };
        let parts = smallvec![
            Part::plain("a"),
            named(Content::Raw("YmMK".into()), None),
            named(Content::Raw("/w==".into()), None),
            Part::data("[1]"),
            named(Content::Url("http://a/b".into()), Some("plan")),
        ];
        assert_eq!(Message::own(1, parts).readable(), "a\nbc\n\n[1]\nplan: http://a/b");
    }

    #[test]
    fn a_part_says_its_media_type_or_has_the_usual_one() {
        let mut part = Part::plain("a");
        assert_eq!(part.media_type(), "text/plain");
        let media_type = Some("text/csv; charset=utf-8".into());
        part.extra = Some(Box::new(PartExtra { media_type, ..PartExtra::default() }));
        assert_eq!(part.media_type(), "text/csv");
        assert_eq!(Part::data("1").media_type(), "application/json");
    }

    #[test]
    fn text_parts_are_joined_in_order() {
        let parts = smallvec![Part::plain("a"), Part::data("{}"), Part::plain("b")];
        let message = Message::own(1, parts);
        assert_eq!(message.text(), "a\nb");
    }
}
