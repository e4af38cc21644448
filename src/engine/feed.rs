//! What happened to a task, in order, for as many readers as there are. Readers keep a [`Cursor`] and pull;
//! nothing here wakes, waits or knows who reads. Order and several readers: A2A 1.0 §3.5.2.
//!
//! Streamed text is stored once, in its artifact; an entry only says how far it had grown. So the feed is small,
//! and when it is full two neighbouring growths become one: a slow reader gets larger pieces, never a gap.

use std::collections::VecDeque;

use crate::a2a::model::{Status, Task};
use crate::a2a::op::Event;

/// Entries kept for a task.
pub const ENTRIES: usize = 64;

/// Where a reader stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Number of the next entry to read.
    next: u32,
    /// The artifact that `sent` counts for.
    artifact: u16,
    /// Bytes of its text that were read.
    sent: u32,
}

#[derive(Debug)]
enum Entry {
    Status(Status),
    /// The artifact came whole.
    Whole(u16),
    /// The artifact's text has this many bytes.
    Grown(u16, u32),
}

/// A task's events.
#[derive(Debug, Default)]
pub struct Feed {
    /// Number of the first entry kept.
    first: u32,
    entries: VecDeque<Entry>,
    /// Readers before this number missed something that later entries do not repeat.
    lost: u32,
}

/// What a reader gets.
#[derive(Debug)]
pub enum Read<'a> {
    /// The next event.
    Event(Event<'a>),
    /// Nothing new.
    Pending,
}

impl Feed {
    /// The state changed.
    pub fn status(&mut self, status: Status) {
        self.push(Entry::Status(status));
    }

    /// An artifact came whole.
    pub fn whole(&mut self, artifact: usize) {
        self.push(Entry::Whole(index(artifact)));
    }

    /// An artifact's text grew to `bytes`.
    pub fn grown(&mut self, artifact: usize, bytes: usize) {
        self.push(Entry::Grown(index(artifact), length(bytes)));
    }

    fn push(&mut self, entry: Entry) {
        if self.entries.len() == ENTRIES {
            self.drop_first();
        }
        self.entries.push_back(entry);
    }

    fn drop_first(&mut self) {
        let dropped = self.entries.pop_front();
        self.first += 1;
        let repeated = match (dropped, self.entries.front()) {
            (Some(Entry::Grown(dropped, _)), Some(Entry::Grown(next, _))) => dropped == *next,
            _ => false,
        };
        if !repeated {
            self.lost = self.first;
        }
    }

    /// Bytes the entries hold, at most.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// Where a reader stands who has just seen the task as it is now.
    pub fn end(&self, task: &Task) -> Cursor {
        let (artifact, sent) = match task.artifacts.last() {
            Some(last) => (task.artifacts.len() - 1, last.text().len()),
            None => (0, 0),
        };
        Cursor { next: self.next(), artifact: index(artifact), sent: length(sent) }
    }

    fn next(&self) -> u32 {
        self.first + u32::try_from(self.entries.len()).unwrap_or(0)
    }

    /// Reads on from `cursor` and moves it.
    ///
    /// A reader who missed something gets the task as it stands, and continues from there.
    pub fn read<'a>(&'a self, task: &'a Task, cursor: &mut Cursor) -> Read<'a> {
        if cursor.next < self.lost {
            *cursor = self.end(task);
            return Read::Event(Event::Task(task));
        }
        loop {
            let at = cursor.next.max(self.first) - self.first;
            let Some(entry) = self.entries.get(at as usize) else { return Read::Pending };
            cursor.next = self.first + at + 1;
            match entry {
                Entry::Status(status) => return Read::Event(Event::Status { task, status }),
                Entry::Whole(artifact) => {
                    if let Some(artifact) = task.artifacts.get(usize::from(*artifact)) {
                        let event = Event::Artifact { task, artifact, chunk: None, append: false };
                        return Read::Event(event);
                    }
                }
                Entry::Grown(at, end) => {
                    if cursor.artifact != *at {
                        (cursor.artifact, cursor.sent) = (*at, 0);
                    }
                    let (from, to) = (cursor.sent as usize, *end as usize);
                    let Some(artifact) = task.artifacts.get(usize::from(*at)) else { continue };
                    // Already seen in a snapshot when nothing is left of it.
                    let Some(chunk) = artifact.text().get(from..to).filter(|text| !text.is_empty())
                    else {
                        continue;
                    };
                    cursor.sent = *end;
                    let chunk = Some(chunk);
                    return Read::Event(Event::Artifact {
                        task,
                        artifact,
                        chunk,
                        append: from > 0,
                    });
                }
            }
        }
    }
}

fn index(artifact: usize) -> u16 {
    u16::try_from(artifact).unwrap_or(u16::MAX)
}

/// Texts are bounded by the store, far below this type's end.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::a2a::model::{Artifact, TaskState};
    use crate::base::ids::{ContextId, Ids};

    fn task() -> Task {
        Task {
            id: Ids::new(Box::new(|bytes| bytes.fill(1))).task(0),
            context: ContextId::parse("c").unwrap(),
            status: Status { state: TaskState::Working, message: None, unix_ms: 0 },
            history: smallvec::SmallVec::new(),
            artifacts: smallvec::SmallVec::new(),
            metadata: None,
            loose: false,
        }
    }

    fn grow(task: &mut Task, feed: &mut Feed, text: &str) {
        if task.artifacts.is_empty() {
            task.artifacts.push(Artifact::whole("reply", "Reply", smallvec::SmallVec::new()));
        }
        task.artifacts[0].growing.push_str(text);
        feed.grown(0, task.artifacts[0].growing.len());
    }

    /// Everything a reader can read now: chunks as text, states as `<State>`, snapshots as `[text]`.
    fn drain(task: &Task, feed: &Feed, cursor: &mut Cursor) -> String {
        let mut seen = String::new();
        while let Read::Event(event) = feed.read(task, cursor) {
            match event {
                Event::Task(task) => {
                    seen = format!("[{}]", task.artifacts.first().map_or("", |a| a.text()));
                }
                Event::Status { status, .. } => {
                    seen.extend(["<", crate::a2a::error::spoken(status.state), ">"]);
                }
                Event::Artifact { chunk: Some(chunk), append, .. } => {
                    assert_eq!(append, !seen.is_empty() || cursor.sent as usize > chunk.len());
                    seen.push_str(chunk);
                }
                Event::Artifact { .. } => seen.push('*'),
                Event::Message { .. } => panic!("no task says this"),
            }
        }
        seen
    }

    #[test]
    fn readers_get_the_same_events_in_order() {
        let (mut task, mut feed) = (task(), Feed::default());
        let mut readers = [Cursor::default(), Cursor::default()];
        grow(&mut task, &mut feed, "a");
        assert_eq!(drain(&task, &feed, &mut readers[0]), "a");
        grow(&mut task, &mut feed, "b");
        task.artifacts[0].seal();
        feed.status(Status { state: TaskState::Completed, message: None, unix_ms: 1 });
        assert_eq!(drain(&task, &feed, &mut readers[0]), "b<completed>");
        assert_eq!(drain(&task, &feed, &mut readers[1]), "ab<completed>");
    }

    #[test]
    fn a_reader_that_lags_in_a_text_misses_nothing() {
        let (mut task, mut feed) = (task(), Feed::default());
        let mut slow = Cursor::default();
        let mut whole = String::new();
        for n in 0..ENTRIES * 3 {
            let piece = format!("{n} ");
            whole.push_str(&piece);
            grow(&mut task, &mut feed, &piece);
        }
        assert!(feed.entries.len() <= ENTRIES);
        assert_eq!(drain(&task, &feed, &mut slow), whole);
    }

    #[test]
    fn a_reader_that_missed_a_state_gets_the_task_as_it_stands() {
        let (mut task, mut feed) = (task(), Feed::default());
        let mut slow = Cursor::default();
        grow(&mut task, &mut feed, "x");
        feed.status(Status { state: TaskState::Working, message: None, unix_ms: 1 });
        for _ in 0..ENTRIES {
            grow(&mut task, &mut feed, "y");
        }
        let seen = drain(&task, &feed, &mut slow);
        assert_eq!(seen, format!("[x{}]", "y".repeat(ENTRIES)));
        grow(&mut task, &mut feed, "z");
        assert_eq!(drain(&task, &feed, &mut slow), "z");
    }

    #[test]
    fn a_late_reader_continues_where_its_snapshot_ended() {
        let (mut task, mut feed) = (task(), Feed::default());
        grow(&mut task, &mut feed, "before ");
        let mut late = feed.end(&task);
        grow(&mut task, &mut feed, "after");
        assert_eq!(drain(&task, &feed, &mut late), "after");
    }
}
