//! What people and monitors read: health, readiness, the status object. Numbers only, no secret, no text of a task.

use std::rc::Rc;

use crate::a2a::model::TaskState;
use crate::base::json::Json;
use crate::base::limits::TASKS;
use crate::config::tls::Material;
use crate::inbound::process::resident_bytes;
use crate::inbound::service::Front;
use crate::work::Lane;

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct About {
    /// The agent's name.
    pub name: String,
    /// Where it is reached.
    pub url: String,
    /// Where it listens.
    pub listen: String,
    /// What the network could do that it should not, and the fix.
    pub exposure: Option<&'static str>,
    /// `provider/model`, and where it is.
    pub model: Option<(String, String)>,
    /// Start, on the monotonic clock.
    pub started: std::time::Duration,
    /// The program's process id.
    pub pid: u32,
    /// Whether other machines may read `/metrics`.
    pub metrics_open: bool,
}

/// `/health/detail`: enough for a monitor, nothing that a stranger should not see.
pub fn detail(front: &Rc<Front>) -> String {
    let mut json = Json::with_capacity(256);
    json.open_object();
    let (draining, live, busy) = front
        .cell
        .with(|engine, _| (engine.is_draining(), engine.store().live(), engine.stats().busy));
    json.member("status", if draining { "stopping" } else { "ok" });
    json.member("version", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("tasksRunning", live as u64),
        ("connections", front.connections.get() as u64),
        ("streams", front.streams.get() as u64),
        ("refusedBusy", busy),
    ] {
        json.key(name);
        json.number(value);
    }
    json.close_object();
    json.into_string()
}

/// `/status.json`: the one object behind `tetherlet status`.
pub fn status(front: &Rc<Front>) -> String {
    let (about, limits) = (front.about.get(), front.limits.get());
    let mut json = Json::with_capacity(1024);
    json.open_object();
    json.member("name", &about.name);
    json.member("version", env!("CARGO_PKG_VERSION"));
    json.member("url", &about.url);
    json.member("listen", &about.listen);
    json.key("pid");
    json.number(u64::from(about.pid));
    let tls = front.tls.material();
    front.cell.with(|engine, now| {
        json.member("state", if engine.is_draining() { "stopping" } else { "ok" });
        json.key("uptimeS");
        json.number(now.mono.saturating_sub(about.started).as_secs());
        warnings(&mut json, front, tls.as_deref(), now.unix_ms);
        tls_of(&mut json, tls.as_deref(), now.unix_ms);
        json.key("model");
        match &about.model {
            Some((model, base_url)) => {
                json.open_object();
                json.member("name", model);
                json.member("baseUrl", base_url);
                json.close_object();
            }
            None => json.raw("null"),
        }
        let (store, queue, stats) = (engine.store(), engine.queue(), engine.stats());
        let pushes = engine.pushes();
        object(
            &mut json,
            "tasks",
            &[
                ("stored", store.len() as u64),
                ("limit", limits.tasks.min(TASKS) as u64),
                ("working", store.count(TaskState::Working) as u64),
                ("inputRequired", store.count(TaskState::InputRequired) as u64),
                ("submitted", stats.submitted),
                ("completed", stats.completed),
                ("failed", stats.failed),
                ("canceled", stats.canceled),
                ("rejected", stats.rejected),
                ("evicted", store.evicted()),
                ("refusedBusy", stats.busy),
            ],
        );
        object(
            &mut json,
            "relays",
            &[
                ("running", queue.running_in(Lane::Relay) as u64),
                ("waiting", queue.waiting_in(Lane::Relay) as u64),
            ],
        );
        object(
            &mut json,
            "push",
            &[
                ("webhooks", pushes.reserved() as u64),
                ("pending", pushes.pending() as u64),
                ("running", pushes.running() as u64),
                ("pushed", stats.pushed),
                ("failed", stats.push_failed),
            ],
        );
        object(
            &mut json,
            "http",
            &[
                ("requests", front.requests.get()),
                ("connections", front.connections.get() as u64),
                ("connectionsLimit", limits.connections as u64),
                ("streams", front.streams.get() as u64),
                ("streamsLimit", limits.streams as u64),
            ],
        );
        object(
            &mut json,
            "bytes",
            &[
                ("store", store.budget().used() as u64),
                ("storeLimit", store.budget().limit() as u64),
                ("inFlight", front.in_flight.used() as u64),
                ("inFlightLimit", front.in_flight.limit() as u64),
                ("work", engine.work().used() as u64),
                ("workLimit", engine.work().limit() as u64),
            ],
        );
    });
    json.key("residentBytes");
    json.number(resident_bytes().unwrap_or(0));
    json.close_object();
    json.into_string()
}

/// What the operator should look at.
fn warnings(json: &mut Json, front: &Front, tls: Option<&Material>, unix_ms: u64) {
    json.key("warnings");
    json.open_array();
    if let Some(exposure) = front.about.get().exposure {
        json.string(exposure);
    }
    for warning in front.warnings.get().iter() {
        json.string(warning);
    }
    if let Some(complaint) = tls.and_then(|tls| tls.complaint(unix_ms)) {
        json.string(&complaint);
    }
    json.close_array();
}

/// How the port is served.
fn tls_of(json: &mut Json, tls: Option<&Material>, unix_ms: u64) {
    json.key("tls");
    let Some(tls) = tls else { return json.raw("null") };
    json.open_object();
    json.member("certificateEnds", &tls.end());
    json.key("daysLeft");
    json.number(tls.days_left(unix_ms));
    json.member("clientCert", tls.clients.as_ref().map_or("none", |_| tls.client_cert.name()));
    json.member("plain", tls.plain.name());
    json.close_object();
}

fn object(json: &mut Json, name: &str, members: &[(&str, u64)]) {
    json.key(name);
    json.open_object();
    for (name, value) in members {
        json.key(name);
        json.number(*value);
    }
    json.close_object();
}
