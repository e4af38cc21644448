//! Which tasks a list holds, in which order, and where its pages end (A2A 1.0 §3.1.4).

use crate::a2a::op::{Filter, Place, Scope};
use crate::a2a::write::{View, task_len};
use crate::base::ids::TaskId;
use crate::base::order::sorted;
use crate::engine::Engine;
use crate::engine::store::Slot;

/// A page of a list of tasks.
#[derive(Debug)]
pub struct Page {
    /// Which, in order.
    pub tasks: Vec<TaskId>,
    /// Where the next page begins, if there is one.
    pub next: Option<Place>,
    /// Tasks in the whole list.
    pub total: usize,
    /// Bytes of what is told of these tasks, about.
    pub bytes: usize,
    /// What was asked for.
    pub filter: Filter,
}

/// Bytes of tasks in one page, about; there is always one task.
const PAGE_BYTES: usize = 256 * 1024;

impl Engine {
    /// The caller's tasks, newest state first (A2A 1.0 §3.1.4).
    pub(super) fn list(&self, filter: Filter, scope: &Scope) -> Page {
        let is_listed = |slot: &&Slot| {
            let status = &slot.task.status;
            slot.caller == scope.who
                && slot.tenant == scope.tenant
                && filter.context.as_ref().is_none_or(|context| slot.task.context == *context)
                && filter.state.is_none_or(|state| status.state == state)
                && filter.since_ms.is_none_or(|since| status.unix_ms >= since)
        };
        let all = || self.store.iter().map(|(_, slot)| slot).filter(is_listed);
        let total = all().count();
        let rest: Vec<&Slot> =
            all().filter(|slot| filter.after.is_none_or(|after| slot.place() < after)).collect();
        let (mut tasks, mut next, mut bytes) = (Vec::new(), None, 0);
        let mut last = None;
        for slot in sorted(rest, |a, b| a.place() > b.place()) {
            let view = View { history: filter.history, artifacts: filter.artifacts };
            let more = task_len(&slot.task, view);
            if tasks.len() == filter.page_size || (bytes + more > PAGE_BYTES && !tasks.is_empty()) {
                next = last;
                break;
            }
            bytes += more;
            tasks.push(slot.task.id);
            last = Some(slot.place());
        }
        Page { tasks, next, total, bytes, filter }
    }
}
