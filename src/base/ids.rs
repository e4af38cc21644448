//! Identity of tasks and contexts, and the one source of randomness behind it.
//!
//! A task id is a random UUID (RFC 9562 §5.4) that carries its slot of the store in ten bits, so that a look-up
//! is one index and one comparison. Contexts may be named by clients; anything that is not a UUID stays text.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use crate::base::limits::TASKS;

/// Bytes of a context id that a client may choose.
pub const CONTEXT_BYTES: usize = 128;

const _: () = assert!(TASKS <= 1 << 10, "a task id carries its slot in ten bits");

/// A client's own id as it wrote it, with room for a UUID in quotes before it needs the heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Short {
    /// In place.
    Here(heapless::String<46, u8>),
    /// On the heap.
    There(Box<str>),
}

impl Short {
    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Here(_) => 0,
            Self::There(text) => text.len() + 32,
        }
    }
}

impl From<&str> for Short {
    fn from(text: &str) -> Self {
        heapless::String::try_from(text).map_or_else(|_| Self::There(text.into()), Self::Here)
    }
}

impl Deref for Short {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Here(text) => text,
            Self::There(text) => text,
        }
    }
}

/// The id of a task; only this agent makes them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TaskId([u8; 16]);

impl TaskId {
    /// Characters of its text.
    pub const LENGTH: usize = 36;

    /// An id that no task has.
    pub const NOBODYS: Self = Self([0; 16]);

    /// The id that `text` spells, or `None`: then no task here has it.
    pub fn parse(text: &str) -> Option<Self> {
        uuid_from(text).map(Self)
    }

    /// The store's slot that this id claims; the store compares the whole id.
    pub fn slot(self) -> usize {
        usize::from(u16::from_be_bytes([self.0[0], self.0[1]]) >> 6)
    }

    /// Appends the 36 characters of the id.
    pub fn write(self, out: &mut String) {
        uuid_into(out, &self.0);
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(36);
        self.write(&mut text);
        f.write_str(&text)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The id of a conversation: several tasks may share it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ContextId {
    /// One of ours, or a client's in the same form.
    Uuid([u8; 16]),
    /// A client's own name, 1 to [`CONTEXT_BYTES`] bytes.
    Text(Rc<str>),
}

impl ContextId {
    /// The context that `text` names; `None` when it is empty, too long, or holds control characters.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(uuid) = uuid_from(text) {
            return Some(Self::Uuid(uuid));
        }
        let fits = !text.is_empty() && text.len() <= CONTEXT_BYTES;
        (fits && !text.chars().any(char::is_control)).then(|| Self::Text(text.into()))
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Uuid(_) => 0,
            Self::Text(text) => text.len() + 32,
        }
    }
}

impl fmt::Display for ContextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => {
                let mut text = String::with_capacity(36);
                uuid_into(&mut text, uuid);
                f.write_str(&text)
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Fills its argument with random bytes.
type Source = Box<dyn FnMut(&mut [u8])>;

/// Makes ids from a source of random bytes, a kilobyte at a time.
pub struct Ids {
    source: Source,
    pool: [u8; 1024],
    used: usize,
}

impl Ids {
    /// `source` fills its argument with random bytes; tests script it.
    pub fn new(source: Source) -> Self {
        Self { source, pool: [0; 1024], used: 1024 }
    }

    /// A fresh task id for `slot` of the store.
    pub fn task(&mut self, slot: usize) -> TaskId {
        let mut uuid = self.uuid();
        let [high, low] = u16::try_from(slot << 6).unwrap_or(0).to_be_bytes();
        uuid[0] = high;
        uuid[1] = low | (uuid[1] & 0x3f);
        TaskId(uuid)
    }

    /// A fresh context id.
    pub fn context(&mut self) -> ContextId {
        ContextId::Uuid(self.uuid())
    }

    /// A fresh random UUID.
    pub fn uuid(&mut self) -> [u8; 16] {
        if self.used == self.pool.len() {
            (self.source)(&mut self.pool);
            self.used = 0;
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&self.pool[self.used..self.used + 16]);
        self.used += 16;
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ids(..)")
    }
}

/// Random bytes from the kernel. Ids must not be guessed, so without them there is no agent.
pub fn random(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel gives no random bytes: {error}"),
        }
    }
}

/// Appends the text of a UUID.
pub fn uuid_into(out: &mut String, uuid: &[u8; 16]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    const AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let mut text = [b'-'; 36];
    for (byte, at) in uuid.iter().zip(AT) {
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
    }
    out.push_str(str::from_utf8(&text).unwrap_or_default());
}

/// Reads a UUID in its one canonical, lower-case spelling; other spellings are other texts.
fn uuid_from(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 36 {
        return None;
    }
    let mut uuid = [0; 16];
    let mut at = 0;
    for (index, byte) in uuid.iter_mut().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        *byte = nibble(text[at])? << 4 | nibble(text[at + 1])?;
        at += 2;
    }
    Some(uuid)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting() -> Ids {
        let mut next = 0_u8;
        Ids::new(Box::new(move |bytes| {
            for byte in bytes {
                *byte = next;
                next = next.wrapping_mul(31).wrapping_add(7);
            }
        }))
    }

    #[test]
    fn a_task_id_survives_its_spelling_and_names_its_slot() {
        let mut ids = counting();
        for slot in [0, 1, 511, TASKS - 1] {
            let id = ids.task(slot);
            assert_eq!(TaskId::parse(&id.to_string()), Some(id));
            assert_eq!(id.slot(), slot);
        }
    }

    #[test]
    fn ids_are_version_4_uuids() {
        let text = counting().task(3).to_string();
        assert_eq!((text.len(), &text[14..15]), (36, "4"));
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
    }

    #[test]
    fn what_is_no_canonical_uuid_is_no_task() {
        for text in
            ["", "x", "00000000-0000-4000-8000-00000000000G", "é0000000-0000-4000-8000-00000000000"]
        {
            assert_eq!(TaskId::parse(text), None, "{text}");
        }
        assert_eq!(TaskId::parse("00000000-0000-4000-8000-00000000000A"), None);
        assert_eq!(TaskId::parse("000000000000-4000-8000-0000-00000000"), None);
    }

    #[test]
    fn a_clients_context_keeps_its_spelling() {
        for text in ["conversation 7", "00000000-0000-4000-8000-00000000000A"] {
            assert_eq!(ContextId::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(ContextId::parse(""), None);
        assert_eq!(ContextId::parse(&"x".repeat(CONTEXT_BYTES + 1)), None);
        assert_eq!(ContextId::parse("a\nb"), None);
    }
}
