//! The JSON dialects of A2A and what differs by name alone. One model is written in three: 0.3 JSON (JSON-RPC), the
//! ProtoJSON of the 0.3 proto (the REST binding of the official SDKs), and 1.0, whose bindings share one.

use crate::a2a::error::A2aError;
use crate::a2a::model::{Role, TaskState};

/// How a request is spelled, and so its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// 0.3 JSON: `kind` members, kebab-case states, `final`.
    V03,
    /// ProtoJSON of the 0.3 proto: `content` for a message's parts, enum names.
    Proto03,
    /// 1.0, JSON-RPC and REST alike.
    V1,
}

/// What the version header or parameter of a request says (A2A 1.0 §3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 0.3, or nothing: who says nothing means 0.3.
    V03,
    /// 1.0.
    V1,
    /// One that is not spoken here.
    Other,
}

impl Version {
    /// Reads the value of `A2A-Version`. A patch number is no part of a version and is passed over.
    pub fn parse(text: &str) -> Self {
        let mut numbers = text.trim().split('.');
        let version = match (numbers.next(), numbers.next()) {
            (Some(""), None) | (Some("0"), Some("3")) => Self::V03,
            (Some("1"), Some("0") | None) => Self::V1,
            _ => return Self::Other,
        };
        let is_patch = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match (numbers.next(), numbers.next()) {
            (None, _) => version,
            (Some(patch), None) if is_patch(patch) => version,
            _ => Self::Other,
        }
    }

    /// Whether a request that only exists in `dialect` may carry this version.
    ///
    /// # Errors
    /// `VersionNotSupported`, saying what to send instead.
    pub fn allows(self, dialect: Dialect) -> Result<(), A2aError> {
        let what = match (self, dialect) {
            (Self::V03, Dialect::V03 | Dialect::Proto03) | (Self::V1, Dialect::V1) => return Ok(()),
            (Self::Other, _) => "this agent speaks 0.3 and 1.0",
            (Self::V03, Dialect::V1) => {
                "this is a request of 1.0; send the header `A2A-Version: 1.0` with it"
            }
            (Self::V1, Dialect::V03 | Dialect::Proto03) => {
                "this is a request of 0.3; send it without the header `A2A-Version: 1.0`"
            }
        };
        Err(A2aError::VersionNotSupported(what))
    }
}

impl Dialect {
    /// The name of a state. `loose` is CodeTether's dialect of 0.3, which spells `cancelled`.
    pub const fn state(self, state: TaskState, loose: bool) -> &'static str {
        match (self, state) {
            (Self::V03, TaskState::Canceled) if loose => "cancelled",
            (Self::V03, _) => crate::a2a::error::spoken(state),
            (Self::Proto03, TaskState::Canceled) => "TASK_STATE_CANCELLED",
            (_, TaskState::Submitted) => "TASK_STATE_SUBMITTED",
            (_, TaskState::Working) => "TASK_STATE_WORKING",
            (_, TaskState::InputRequired) => "TASK_STATE_INPUT_REQUIRED",
            (_, TaskState::Completed) => "TASK_STATE_COMPLETED",
            (_, TaskState::Failed) => "TASK_STATE_FAILED",
            (_, TaskState::Canceled) => "TASK_STATE_CANCELED",
            (_, TaskState::Rejected) => "TASK_STATE_REJECTED",
            (_, TaskState::AuthRequired) => "TASK_STATE_AUTH_REQUIRED",
        }
    }

    /// The state that a request calls `name`. What the prose of 0.3 and its SDKs write over REST differs.
    pub fn state_of(self, name: &str) -> Option<TaskState> {
        let called = |dialect: Self, state| dialect.state(state, false) == name;
        TaskState::ALL.into_iter().find(|state| {
            called(self, *state)
                || self == Self::Proto03 && (called(Self::V03, *state) || called(Self::V1, *state))
        })
    }

    /// Whether `name` stands for `role` in a request. What the prose of 0.3 and its SDKs write over REST differs.
    pub fn reads_role(self, name: &str, role: Role) -> bool {
        name == self.role(role) || self == Self::Proto03 && name == Self::V03.role(role)
    }

    /// The name of a message's author.
    pub const fn role(self, role: Role) -> &'static str {
        match (self, role) {
            (Self::V03, Role::User) => "user",
            (Self::V03, Role::Agent) => "agent",
            (Self::Proto03 | Self::V1, Role::User) => "ROLE_USER",
            (Self::Proto03 | Self::V1, Role::Agent) => "ROLE_AGENT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_major_and_minor() {
        for (text, version) in [
            ("", Version::V03),
            ("0.3", Version::V03),
            ("0.3.0", Version::V03),
            (" 1.0 ", Version::V1),
            ("1", Version::V1),
            ("1.0.1", Version::V1),
            ("1.1", Version::Other),
            ("0.2", Version::Other),
            ("99.0", Version::Other),
            ("1.0.x", Version::Other),
            ("1.0.", Version::Other),
            ("1.0.1.1", Version::Other),
            ("one", Version::Other),
        ] {
            assert_eq!(Version::parse(text), version, "{text}");
        }
    }

    #[test]
    fn every_state_is_read_by_its_name() {
        for state in TaskState::ALL {
            for dialect in [Dialect::V03, Dialect::Proto03, Dialect::V1] {
                let name = dialect.state(state, false);
                assert_eq!(dialect.state_of(name), Some(state));
                assert_eq!(Dialect::Proto03.state_of(name), Some(state), "REST of 0.3 reads all");
            }
        }
        assert_eq!(Dialect::V1.state_of("TASK_STATE_UNSPECIFIED"), None);
        assert_eq!(Dialect::V1.state_of("TASK_STATE_CANCELLED"), None);
    }
}
