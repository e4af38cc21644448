//! A task's webhooks: which may be set, what they hold, and what each is told when `push` says that it is its turn.

use std::rc::Rc;

use smallvec::SmallVec;

use crate::a2a::dialect::Dialect;
use crate::a2a::error::{A2aError, Busy};
use crate::a2a::model::{Status, Task};
use crate::a2a::op::{Event, Hook};
use crate::a2a::write::{View, Writer};
use crate::base::clock::Now;
use crate::base::ids::{TaskId, uuid_into};
use crate::base::json::Json;
use crate::engine::{Engine, push};
use crate::work::{Job, Post, PostError, Run, Work};

/// Webhooks of one task.
pub(super) const HOOKS: usize = 4;
/// The part of the bytes for threads that one notification may take: all of them together leave half to others.
const PUSH_SHARE: usize = 8;

impl Engine {
    /// Adds a webhook to a task, or puts it in the place of one with the same id.
    pub(super) fn set_hook(
        &mut self,
        at: usize,
        hook: Hook,
        now: Now,
    ) -> Result<Rc<Hook>, A2aError> {
        let hook = self.named(hook);
        let slot = self.store.slot(at).ok_or(A2aError::TaskNotFound)?;
        let known = slot.hooks.iter().position(|known| known.id == hook.id);
        if known.is_none() && slot.hooks.len() == HOOKS {
            return Err(self.busy(Busy::Hooks));
        }
        let (id, who) = (slot.task.id, slot.caller.clone());
        let is_final = slot.task.status.state.is_final();
        let before = known.map_or(0, |known| hook_bytes(&slot.hooks[known]));
        let after = hook_bytes(&hook);
        // A finished task has nothing to tell, unless it is still being told to the webhook that had this id.
        let takes_place = !is_final || self.pushes.knows(id, &hook.id);
        if takes_place && known.is_none() && !self.pushes.has_room(&who) {
            return Err(self.busy(Busy::Webhooks));
        }
        let more = after.saturating_sub(before);
        self.store.grow(at, more).map_err(|_| self.busy(Busy::Growth))?;
        if takes_place && !self.pushes.reserve(id, &who, hook.clone(), now) {
            self.store.shrink(at, more);
            return Err(self.busy(Busy::Webhooks));
        }
        self.store.shrink(at, before.saturating_sub(after));
        let slot = self.store.slot_mut(at).ok_or(A2aError::TaskNotFound)?;
        match known {
            Some(known) => slot.hooks[known] = hook.clone(),
            None => slot.hooks.push(hook.clone()),
        }
        Ok(hook)
    }

    /// Whether webhooks are told at all, and this one may be.
    pub(super) fn may_call(&self, hook: &Hook, inline: bool) -> Result<(), A2aError> {
        let policy = self.pushes.policy().ok_or(A2aError::PushNotificationNotSupported)?;
        push::check(&hook.url, policy.allow_private).map_err(|rule| {
            let member = match (hook.dialect, inline) {
                (Dialect::V1, false) => "url",
                (Dialect::V1, true) => "configuration.taskPushNotificationConfig.url",
                (Dialect::V03 | Dialect::Proto03, false) => "pushNotificationConfig.url",
                (Dialect::V03 | Dialect::Proto03, true) => {
                    "configuration.pushNotificationConfig.url"
                }
            };
            A2aError::InvalidParams(format!("{member}: {rule}"))
        })
    }

    /// The webhook with an id. In 0.3 one that has none is the task's only such one, and setting it again replaces it;
    /// in 1.0 each is another.
    pub(super) fn named(&mut self, mut hook: Hook) -> Rc<Hook> {
        if hook.id.is_empty() {
            hook.id = match hook.dialect {
                Dialect::V03 | Dialect::Proto03 => "default".into(),
                Dialect::V1 => {
                    let mut id = String::with_capacity(36);
                    uuid_into(&mut id, &self.ids.uuid());
                    id.into()
                }
            };
        }
        Rc::new(hook)
    }

    /// The webhooks of a task.
    pub fn hooks(&self, id: TaskId) -> &[Rc<Hook>] {
        self.slot(id).map_or(&[], |slot| &slot.hooks)
    }

    /// The next notification for a webhook: the task as it stands, or its state alone when that is too long.
    pub(super) fn next_post(&mut self, now: Now) -> Option<Job> {
        let (id, hook) = self.pushes.next()?;
        let Some(slot) = self.slot(id) else {
            let is_held = self.pushes.forget(id, &hook.id);
            debug_assert!(is_held, "a task that has something to tell is there");
            return None;
        };
        let share = self.settings.limits.work_bytes / PUSH_SHARE;
        let whole = (slot.bytes() <= share).then(|| notification(&slot.task, hook.dialect));
        let body = whole.filter(|body| body.len() <= share).unwrap_or_else(|| {
            let task = &slot.task;
            let status = Status { message: None, ..task.status.clone() };
            let bare = Task {
                id,
                context: task.context.clone(),
                status,
                history: SmallVec::new(),
                artifacts: SmallVec::new(),
                metadata: None,
                loose: task.loose,
            };
            notification(&bare, hook.dialect)
        });
        let Some(lease) = self.work.take(body.capacity() + hook.heap_bytes() + 4096) else {
            self.pushes.park();
            return None;
        };
        let (run, cancel) = self.pushes.start(id, &hook, now)?;
        self.arm_pushes();
        let work = Work::Post(Box::new(Post { hook: Hook::clone(&hook), body }));
        Some(Job { run, work, cancel, lease })
    }

    /// What became of a notification.
    pub(super) fn posted(&mut self, run: Run, outcome: Result<(), PostError>, now: Now) {
        if let Some(id) = self.pushes.ended(run, outcome, now) {
            self.store.detach(id);
        }
        self.arm_pushes();
    }
}

/// Bytes that a task leases for a webhook.
pub(super) fn hook_bytes(hook: &Hook) -> usize {
    hook.heap_bytes() + 16
}

/// The task as a webhook gets it: 0.3 has the task itself, as its SDKs post it; 1.0 an item of a stream (§4.3.3), which
/// is the whole task once it waits or has ended, and its state alone before.
pub(super) fn notification(task: &Task, dialect: Dialect) -> String {
    let mut json = Json::with_capacity(1024);
    let dialect = match dialect {
        Dialect::V03 | Dialect::Proto03 => Dialect::V03,
        Dialect::V1 => Dialect::V1,
    };
    let mut writer = Writer::new(&mut json, dialect);
    if dialect == Dialect::V1 && !task.status.state.is_settled() {
        writer.event(&Event::Status { task, status: &task.status }, false);
    } else {
        writer.sent(task, View::WHOLE);
    }
    json.into_string()
}
