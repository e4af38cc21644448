//! The audit log: one line for every operation, once it is decided, of who asked for what and whether it was done.
//!
//! Written only where `log.audit` says so, and then whatever the level of the log. Names, addresses, ids and labels,
//! never a credential and nothing of a message; what comes from outside is escaped and cut by the log.

use log::kv::Value;
use log::{Level, Record};
use smallvec::SmallVec;

use crate::a2a::binding::Binding;
use crate::a2a::error::A2aError;
use crate::a2a::op::{Call, Principal, Tenant};
use crate::base::ids::TaskId;
use crate::inbound::counters::Came;
use crate::inbound::service::{Front, Peer};

/// The log's target.
pub const AUDIT: &str = "audit";

/// What a request asks for, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// From this caller.
    pub who: Option<Principal>,
    /// To do this.
    pub call: Option<Call>,
    /// With this task, or with a message that became this task.
    pub task: Option<TaskId>,
    /// Under this label.
    pub tenant: Option<Tenant>,
    /// It is decided and told: what fails from then on is another matter.
    is_told: bool,
}

type Fields<'f> = SmallVec<[(&'static str, Value<'f>); 9]>;

/// An operation is allowed.
pub fn allowed(front: &Front, peer: &Peer, binding: &Binding, asked: &mut Asked) {
    if front.audit.get() {
        operation(peer, binding, asked, None);
        asked.is_told = true;
    }
}

/// A request of the protocol is refused.
pub fn refused(front: &Front, peer: &Peer, binding: &Binding, asked: &Asked, error: &A2aError) {
    if front.audit.get() && !asked.is_told {
        operation(peer, binding, asked, Some(A2aError::NAMES[error.number()]));
    }
}

/// A page that not everybody may read is told to a caller, or kept from one.
pub fn page(
    front: &Front,
    peer: &Peer,
    who: Option<&Principal>,
    path: &str,
    error: Option<&A2aError>,
) {
    if front.audit.get() {
        let mut fields = from(who, peer);
        fields.push(("path", path.into()));
        fields.extend(error.map(|error| ("error", A2aError::NAMES[error.number()].into())));
        write(if error.is_none() { "allowed" } else { "refused" }, &fields);
    }
}

fn operation(peer: &Peer, binding: &Binding, asked: &Asked, error: Option<&'static str>) {
    let (binding, version) = Came::NAMES[Came::by(binding) as usize];
    let mut fields = from(asked.who.as_ref(), peer);
    fields.push(("binding", binding.into()));
    fields.push(("version", version.into()));
    fields.extend(asked.call.map(|call| ("operation", call.name().into())));
    fields.extend(asked.task.as_ref().map(|task| ("task", Value::from_display(task))));
    fields.extend(asked.tenant.as_ref().map(|tenant| ("tenant", (&**tenant).into())));
    fields.extend(error.map(|error| ("error", error.into())));
    write(if error.is_none() { "allowed" } else { "refused" }, &fields);
}

fn from<'f>(who: Option<&'f Principal>, peer: &'f Peer) -> Fields<'f> {
    let mut fields = Fields::new();
    fields.extend(who.map(|who| ("caller", Value::from_display(who))));
    fields.push(("peer", Value::from_display(&peer.address)));
    fields
}

fn write(decision: &str, fields: &Fields<'_>) {
    // Not by a macro of `log`: those go by the level.
    log::logger().log(
        &Record::builder()
            .level(Level::Info)
            .target(AUDIT)
            .args(format_args!("{decision}"))
            .key_values(&fields.as_slice())
            .build(),
    );
}
