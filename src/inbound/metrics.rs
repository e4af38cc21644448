//! `/metrics`: counts, bounds and what is in use, in Prometheus' text format 0.0.4.
//!
//! There are as many series at the end as at the start: no label is a caller's, a task's or a provider's word. Figures
//! of the process have the names that Prometheus' own clients give them.

use std::fmt::Write as _;
use std::rc::Rc;

use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};

use crate::a2a::error::{A2aError, Busy, spoken};
use crate::a2a::model::TaskState;
use crate::base::clock::Now;
use crate::base::limits::{PUSHES, TASKS};
use crate::engine::Engine;
use crate::engine::stats::RelayEnd;
use crate::inbound::body::Reply;
use crate::inbound::counters::{Came, Counters, Went};
use crate::inbound::process::Process;
use crate::inbound::service::{Front, Peer, with_type};
use crate::work::Lane;

/// Bytes of the page with room to spare: it is written in one piece, and never moves.
const CAPACITY: usize = 13 * 1024;

/// A start that is told anew within so many hundredths of a second is the same one: two clocks are read.
const SAME_START_CS: u64 = 200;

const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The page.
pub fn reply(front: &Rc<Front>, peer: &Peer) -> Response<Reply> {
    with_type(peer, StatusCode::OK, FORMAT, page(front))
}

/// What a family's numbers mean.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// It only goes up.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A page in the making: families, each with its samples.
#[derive(Debug)]
struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    fn new() -> Self {
        Self { text: String::with_capacity(CAPACITY), family: "" }
    }

    /// Begins a family; its samples follow.
    fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        for piece in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"] {
            self.text.push_str(piece);
        }
        self.family = name;
    }

    /// One number of the family.
    fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.name(labels);
        let _ = writeln!(self.text, " {value}");
    }

    /// One number of the family in hundredths.
    fn hundredths(&mut self, value: u64) {
        self.name(&[]);
        let _ = writeln!(self.text, " {}.{:02}", value / 100, value % 100);
    }

    fn name(&mut self, labels: &[(&str, &str)]) {
        self.text.push_str(self.family);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.text.push_str(if at == 0 { "{" } else { "," });
            self.text.push_str(label);
            self.text.push_str("=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    _ => self.text.push(letter),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
    }

    /// A family of one counter.
    fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, Kind::Counter, help);
        self.sample(&[], value);
    }

    /// A family of one gauge.
    fn gauge(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, Kind::Gauge, help);
        self.sample(&[], value);
    }

    /// The samples of a family whose one label has these values.
    fn each(&mut self, label: &str, names: &[&str], counts: &[u64]) {
        for (name, count) in names.iter().zip(counts) {
            self.sample(&[(label, name)], *count);
        }
    }
}

fn page(front: &Rc<Front>) -> String {
    let mut page = Page::new();
    page.family("tetherlet_build_info", Kind::Gauge, "The program; always 1.");
    page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    requests(&mut page, &front.counters);
    connections(&mut page, front);
    let now = front.cell.with(|engine, now| {
        tasks(&mut page, front, engine);
        bytes(&mut page, front, engine);
        relays(&mut page, engine);
        pushes(&mut page, engine);
        now
    });
    process(&mut page, &Process::read(), started_cs(front, now));
    page.text
}

fn requests(page: &mut Page, counters: &Counters) {
    page.family(
        "tetherlet_http_requests_total",
        Kind::Counter,
        "Requests answered, by binding, protocol version and outcome.",
    );
    for ((binding, version), tally) in Came::NAMES.into_iter().zip(&counters.requests) {
        for (outcome, value) in Went::NAMES.into_iter().zip(tally.counts()) {
            let labels = [("binding", binding), ("version", version), ("outcome", outcome)];
            page.sample(&labels, value);
        }
    }
    page.family("tetherlet_errors_total", Kind::Counter, "Errors told to callers.");
    page.each("error", &A2aError::NAMES, &counters.errors.counts());
    page.family("tetherlet_busy_total", Kind::Counter, "Busy replies, by what was full.");
    page.each("reason", &Busy::NAMES, &counters.busy.counts());
}

fn connections(page: &mut Page, front: &Front) {
    let limits = front.limits.get();
    let [accepted, turned_away] = front.counters.connections.counts();
    page.gauge("tetherlet_connections", "Connections open now.", front.connections.get() as u64);
    page.gauge(
        "tetherlet_connections_limit",
        "Connections that may be open.",
        limits.connections as u64,
    );
    page.counter("tetherlet_connections_accepted_total", "Connections accepted.", accepted);
    page.counter(
        "tetherlet_connections_refused_total",
        "Connections closed at once: their address has its share.",
        turned_away,
    );
    page.gauge("tetherlet_streams", "Event streams open now.", front.streams.get() as u64);
    page.gauge("tetherlet_streams_limit", "Event streams that may be open.", limits.streams as u64);
    page.counter(
        "tetherlet_streams_opened_total",
        "Event streams begun.",
        front.counters.streams.get(),
    );
}

fn tasks(page: &mut Page, front: &Front, engine: &Engine) {
    let (store, stats) = (engine.store(), engine.stats());
    let mut stored = [0; TaskState::ALL.len()];
    for (_, slot) in store.iter() {
        stored[slot.task.status.state as usize] += 1;
    }
    page.family("tetherlet_tasks", Kind::Gauge, "Tasks in the store, by state.");
    page.each("state", &TaskState::ALL.map(spoken), &stored);
    let limit = front.limits.get().tasks.min(TASKS) as u64;
    page.gauge("tetherlet_tasks_limit", "Tasks that the store keeps.", limit);
    page.counter("tetherlet_tasks_submitted_total", "Tasks taken.", stats.submitted);
    page.family("tetherlet_tasks_finished_total", Kind::Counter, "Tasks ended, by final state.");
    page.each(
        "state",
        &[TaskState::Completed, TaskState::Failed, TaskState::Canceled, TaskState::Rejected]
            .map(spoken),
        &[stats.completed, stats.failed, stats.canceled, stats.rejected],
    );
    page.counter(
        "tetherlet_tasks_evicted_total",
        "Finished tasks that made room for others.",
        store.evicted(),
    );
}

fn bytes(page: &mut Page, front: &Front, engine: &Engine) {
    let (store, in_flight, work) = (engine.store().budget(), &front.in_flight, engine.work());
    let pools = ["store", "in_flight", "work"];
    page.family("tetherlet_leased_bytes", Kind::Gauge, "Bytes held now, by what for.");
    let used = [store.used(), in_flight.used(), work.used()];
    page.each("pool", &pools, &used.map(|bytes| bytes as u64));
    page.family("tetherlet_leased_limit_bytes", Kind::Gauge, "Bytes that may be held.");
    let limits = [store.limit(), in_flight.limit(), work.limit()];
    page.each("pool", &pools, &limits.map(|bytes| bytes as u64));
}

fn relays(page: &mut Page, engine: &Engine) {
    let (queue, stats) = (engine.queue(), engine.stats());
    let bounds = queue.bounds();
    for (name, help, value) in [
        (
            "tetherlet_relays_running",
            "Model calls that hold a thread.",
            queue.running_in(Lane::Relay),
        ),
        ("tetherlet_relays_limit", "Model calls at the same time.", bounds.relays),
        ("tetherlet_relays_waiting", "Tasks that wait for a call.", queue.waiting_in(Lane::Relay)),
        ("tetherlet_relays_waiting_limit", "Tasks that may wait.", bounds.queue),
    ] {
        page.gauge(name, help, value as u64);
    }
    page.counter("tetherlet_relays_started_total", "Model calls begun.", stats.relays);
    page.family("tetherlet_relays_finished_total", Kind::Counter, "Model calls, by their end.");
    page.each("outcome", &RelayEnd::NAMES, &stats.relay_ends);
    page.family("tetherlet_model_tokens_total", Kind::Counter, "Tokens, as providers count.");
    page.each("direction", &["input", "output"], &stats.tokens);
}

fn pushes(page: &mut Page, engine: &Engine) {
    let (pushes, stats) = (engine.pushes(), engine.stats());
    for (name, help, value) in [
        ("tetherlet_webhooks", "Webhooks that can still be told something.", pushes.reserved()),
        ("tetherlet_webhooks_limit", "Webhooks of unfinished tasks that may be.", PUSHES),
        ("tetherlet_pushes_pending", "Notifications not yet taken.", pushes.pending()),
        ("tetherlet_pushes_running", "Notifications that hold a thread.", pushes.running()),
    ] {
        page.gauge(name, help, value as u64);
    }
    page.family("tetherlet_pushes_total", Kind::Counter, "Notifications, by what became of them.");
    page.each("outcome", &["taken", "given_up"], &[stats.pushed, stats.push_failed]);
}

fn process(page: &mut Page, process: &Process, started_cs: u64) {
    if let Some(value) = process.cpu_cs {
        page.family("process_cpu_seconds_total", Kind::Counter, "Processor time, all kinds.");
        page.hundredths(value);
    }
    page.family("process_start_time_seconds", Kind::Gauge, "Start, in seconds since 1970.");
    page.hundredths(started_cs);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory in RAM.", process.resident_bytes),
        ("process_virtual_memory_bytes", "Address space.", process.virtual_bytes),
        ("process_open_fds", "File descriptors in use.", process.open_fds),
        ("process_max_fds", "File descriptors that may be used.", process.max_fds),
        ("process_threads", "Threads.", process.threads),
    ] {
        if let Some(value) = value {
            page.gauge(name, help, value);
        }
    }
}

/// When the agent started, on the clock as it stands now: a small machine may learn the time long after its start.
/// Told alike every time, because a new start looks like a new process.
fn started_cs(front: &Front, now: Now) -> u64 {
    let age_ms = now.mono.saturating_sub(front.about.get().started).as_millis();
    let age_ms = u64::try_from(age_ms).unwrap_or(u64::MAX);
    let started = &front.counters.started;
    started.set(same_start(started.get(), now.unix_ms.saturating_sub(age_ms) / 10));
    started.get()
}

/// Of two starts that are nearly the same, the one that was told already.
const fn same_start(told: u64, computed: u64) -> u64 {
    if told.abs_diff(computed) <= SAME_START_CS { told } else { computed }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::a2a::card::{Card, Facts, Form, Identity, Security};
    use crate::base::ids::Ids;
    use crate::base::limits::{Limits, SMALL_REPLY};
    use crate::engine::Settings;
    use crate::engine::queue::Bounds;
    use crate::inbound::cell::EngineCell;
    use crate::inbound::pages::About;

    fn front() -> Rc<Front> {
        let limits = Limits::default();
        let settings = Settings {
            limits: limits.clone(),
            bounds: Bounds { relays: 1, queue: 1 },
            reply_bytes: 1024,
            context_bytes: 1024,
            brain: None,
            push: None,
        };
        let identity = Identity {
            name: "box".to_owned(),
            description: "a box".to_owned(),
            url: "http://127.0.0.1:4097".to_owned(),
            organization: "o".to_owned(),
            organization_url: "http://o".to_owned(),
            documentation_url: None,
        };
        let facts = Facts {
            identity: &identity,
            skills: &[],
            form: Form::Union,
            push: false,
            security: Security::default(),
            extensions: &[],
            inside: None,
            signer: None,
            start_unix_ms: 0,
        };
        let about = About {
            name: identity.name.clone(),
            url: identity.url.clone(),
            listen: String::new(),
            exposure: None,
            model: None,
            started: Duration::ZERO,
            pid: 1,
            metrics_open: false,
        };
        let ids = Ids::new(Box::new(|bytes| bytes.fill(1)));
        let cell = EngineCell::new(Engine::new(settings, ids));
        Rc::new(Front::new(cell, Card::new(&facts), about, limits))
    }

    #[test]
    fn the_largest_page_has_room_where_it_is_written_and_is_a_small_reply() {
        let page = page(&front());
        let samples = page.lines().filter(|line| !line.starts_with('#')).count();
        let digits = u64::MAX.to_string().len();
        assert!(page.len() + samples * digits < CAPACITY, "{} + {samples} numbers", page.len());
        assert_eq!(page.capacity(), CAPACITY);
        const { assert!(CAPACITY <= SMALL_REPLY) }
    }

    #[test]
    fn a_family_is_help_type_and_samples() {
        let mut page = Page::new();
        page.family("a_total", Kind::Counter, "What a is.");
        page.each("b", &["x", "y"], &[1, 2]);
        page.gauge("c", "What c is.", 3);
        assert_eq!(
            page.text,
            "# HELP a_total What a is.\n# TYPE a_total counter\n\
             a_total{b=\"x\"} 1\na_total{b=\"y\"} 2\n\
             # HELP c What c is.\n# TYPE c gauge\nc 3\n"
        );
    }

    #[test]
    fn a_labels_value_is_escaped() {
        let mut page = Page { text: String::new(), family: "a" };
        page.sample(&[("b", "\\ \" \n ü"), ("c", "")], 0);
        assert_eq!(page.text, "a{b=\"\\\\ \\\" \\n ü\",c=\"\"} 0\n");
    }

    #[test]
    fn hundredths_have_two_digits() {
        let mut page = Page { text: String::new(), family: "a" };
        for value in [0, 7, 1305] {
            page.hundredths(value);
        }
        assert_eq!(page.text, "a 0.00\na 0.07\na 13.05\n");
    }

    #[test]
    fn a_start_moves_only_with_the_clock() {
        let started = 176_000_000_000;
        assert_eq!(same_start(0, started), started);
        assert_eq!(same_start(started, started + 3), started);
        assert_eq!(same_start(started, started + 360_000), started + 360_000);
    }

    #[test]
    fn every_state_is_counted_under_its_name() {
        assert_eq!(TaskState::ALL.map(|state| state as usize), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
