//! Builds the agent from its configuration and runs it: listen first, then everything else, then the end.
//!
//! Order at the end: refuse new messages and stop accepting, let running tasks finish within the grace time, end
//! the rest with a final event, let their readers have it, leave. A second signal leaves at once. SIGHUP is no end: it
//! puts a changed configuration in force, see [`reload`].

mod reload;

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::a2a::card::{Card, Extension, Facts, Form, Identity, Inside, Security};
use crate::a2a::model::TaskState;
use crate::base::clock::Now;
use crate::base::ids::{Ids, random};
use crate::base::name::{auto_name, normal_url};
use crate::base::net::lan_ipv4;
use crate::base::x509::is_host;
use crate::bridge::{Bridge, Tools};
use crate::config::problems::Problems;
use crate::config::providers::Route;
use crate::config::url::Url;
use crate::config::{AuthMode, CardForm, Config, Loaded, Plain, Push};
use crate::daemon::reload::Agent;
use crate::engine::push::Policy;
use crate::engine::queue::{Bounds, Timers};
use crate::engine::{Brain, Engine, Settings, skills};
use crate::inbound::auth::Auth;
use crate::inbound::cell::EngineCell;
use crate::inbound::hosts::Hosts;
use crate::inbound::listen;
use crate::inbound::pages::About;
use crate::inbound::service::Front;
use crate::outbound::device;
use crate::outbound::tls::Tls;

/// Readers have this long to take the last events.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why the agent did not start, or stopped.
#[derive(Debug)]
pub enum DaemonError {
    /// Listening there would let strangers in.
    Open {
        /// Where.
        host: String,
        /// Why nobody is asked who they are.
        why: &'static str,
    },
    /// The listening address cannot be had.
    Listen {
        /// As configured.
        host: String,
        /// As configured.
        port: u16,
        /// Why.
        cause: io::Error,
    },
    /// The state directory cannot be used.
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The operating system refused something basic.
    System(io::Error),
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { host, why } => write!(
                f,
                "refusing to listen on {host}: anybody who reaches this machine could use the agent, because {why}"
            ),
            Self::Listen { host, port, cause } if cause.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "port {port} on {host} is in use, perhaps by another tetherlet; \
                 choose another with --port N, or let the system choose with --port 0"
                )
            }
            Self::Listen { host, port, cause }
                if cause.kind() == io::ErrorKind::PermissionDenied =>
            {
                write!(
                    f,
                    "port {port} on {host} needs privileges; choose one above 1023 with --port N"
                )
            }
            Self::Listen { host, port, cause } => write!(
                f,
                "cannot listen on {host} port {port}: {cause}; choose an address of this machine with --hostname"
            ),
            Self::State { path, cause } if cause.kind() == io::ErrorKind::WouldBlock => write!(
                f,
                "another tetherlet uses the state directory {}; give this one its own with --state-dir",
                path.display()
            ),
            Self::State { path, cause } => write!(
                f,
                "cannot use the state directory {}: {cause}; it must be a directory this user may write",
                path.display()
            ),
            Self::System(cause) => write!(f, "the operating system refused: {cause}"),
        }
    }
}

impl std::error::Error for DaemonError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open { .. } => None,
            Self::Listen { cause, .. } | Self::State { cause, .. } | Self::System(cause) => {
                Some(cause)
            }
        }
    }
}

/// Runs the agent until it is told to stop. `again` reads the configuration once more, from where `loaded` came.
///
/// # Errors
/// When it cannot start; once it listens, it ends only by a signal.
pub fn run(
    loaded: Loaded,
    again: &dyn Fn() -> Result<Loaded, Problems>,
) -> Result<(), DaemonError> {
    let config = &loaded.config;
    let addresses = listen_addresses(config)?;
    let _state = config.run.state_dir.as_deref().map(lock_state).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(DaemonError::System)?;
    runtime.block_on(serve(loaded, again, &addresses))
}

/// Where to listen, refused when strangers could come in that way.
fn listen_addresses(config: &Config) -> Result<Vec<SocketAddr>, DaemonError> {
    let (host, port) = (config.listen.host.as_str(), config.listen.port);
    let listen = |cause| DaemonError::Listen { host: host.to_owned(), port, cause };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = match bare.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => (bare, port).to_socket_addrs().map_err(listen)?.collect(),
    };
    if addresses.is_empty() {
        return Err(listen(io::ErrorKind::AddrNotAvailable.into()));
    }
    let is_open = addresses.iter().any(is_beyond_loopback);
    may_serve(config, is_open)?;
    Ok(addresses)
}

fn is_beyond_loopback(address: &SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// Refuses a configuration under which strangers could come in; `is_open` when other machines reach the agent.
fn may_serve(config: &Config, is_open: bool) -> Result<(), DaemonError> {
    if is_open && !config.listen.trust_lan && !config.wants_credentials() {
        let why = match config.auth.mode {
            AuthMode::Off => "auth.mode is off",
            AuthMode::Auto | AuthMode::Required => "no caller has a token or certificate",
        };
        return Err(DaemonError::Open { host: config.listen.host.clone(), why });
    }
    Ok(())
}

/// Makes the state directory, closed to others, and holds it for this process alone.
fn lock_state(path: &Path) -> Result<File, DaemonError> {
    let fail = |cause: io::Error| DaemonError::State { path: path.to_owned(), cause };
    if path.is_dir() {
        // A directory that others may enter and that holds what is not ours may be theirs: /tmp, /var/lib.
        let is_open = std::fs::metadata(path).map_err(fail)?.permissions().mode() & 0o077 != 0;
        let is_ours =
            path.join("lock").exists() || std::fs::read_dir(path).map_err(fail)?.next().is_none();
        if is_open && !is_ours {
            let what = "others may enter it and it holds other files; close it with chmod 700, \
                        or name a directory of its own";
            return Err(fail(io::Error::other(what)));
        }
    } else {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(fail)?;
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join("lock"))
        .map_err(fail)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(fail(io::ErrorKind::WouldBlock.into())),
        Err(std::fs::TryLockError::Error(cause)) => Err(fail(cause)),
    }
}

async fn serve(
    loaded: Loaded,
    again: &dyn Fn() -> Result<Loaded, Problems>,
    addresses: &[SocketAddr],
) -> Result<(), DaemonError> {
    let config = &loaded.config;
    // Before anybody can know of the agent: without these a signal would kill it.
    let mut hangup = signal(SignalKind::hangup()).map_err(DaemonError::System)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::System)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::System)?;
    let listener = listen::bind(addresses).await.map_err(|cause| DaemonError::Listen {
        host: config.listen.host.clone(),
        port: config.listen.port,
        cause,
    })?;
    let address = listener.local_addr().map_err(DaemonError::System)?;
    let front = Rc::new(front(&loaded, address)?);
    announce(&loaded, &front, address);
    let (stop, stopping) = watch::channel(false);
    let accepting = tokio::task::spawn_local(listen::run(listener, front.clone(), stopping));
    let (tools, in_force) = watch::channel(Arc::new(tools(&loaded)));
    tokio::task::spawn_local(Bridge::new(front.clone(), in_force).run());
    tokio::task::spawn_local(keep_time(front.clone()));
    tokio::task::spawn_local(watch_certificate(front.clone()));
    let mut agent = Agent::new(front.clone(), address, tools, loaded);
    let first = loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = hangup.recv() => agent.reload(again),
        }
    };
    log::info!("{first}: stopping; a second signal stops at once");
    front.cell.with(|engine, _| engine.drain());
    let _ = stop.send(true);
    tokio::select! {
        () = wind_down(&front, agent.config().run.grace) => {}
        _ = terminate.recv() => log::warn!("second signal: stopped at once"),
        _ = interrupt.recv() => log::warn!("second signal: stopped at once"),
    }
    accepting.abort();
    log::info!("stopped");
    Ok(())
}

/// Calls the engine when it wants to be called.
async fn keep_time(front: Rc<Front>) {
    loop {
        let wait = front.cell.with(|engine, now| {
            engine.deadline().map(|deadline| deadline.saturating_sub(now.mono))
        });
        match wait {
            None => front.cell.timer.notified().await,
            Some(wait) => {
                tokio::select! {
                    () = front.cell.timer.notified() => continue,
                    () = tokio::time::sleep(wait) => {}
                }
                front.cell.with(Engine::tick);
            }
        }
    }
}

/// Says once a day when the certificate is about to end, or has. What is so at the start is said there.
async fn watch_certificate(front: Rc<Front>) {
    loop {
        tokio::time::sleep(Duration::from_hours(24)).await;
        let now = Now::read().unix_ms;
        if let Some(complaint) = front.tls.material().and_then(|tls| tls.complaint(now)) {
            log::warn!("{complaint}");
        }
    }
}

/// Lets running tasks finish, ends the others, and lets their readers and webhooks have the last event.
async fn wind_down(front: &Rc<Front>, grace: Duration) {
    let working = || front.cell.with(|engine, _| engine.store().count(TaskState::Working));
    let pushing = || front.cell.with(|engine, _| engine.pushes().pending()) > 0;
    let left = wait_until(grace, || working() == 0 && !pushing()).await;
    let failed = front.cell.with(|engine, now| {
        engine.stop(now);
        engine.stats().failed
    });
    log::debug!("tasks failed in all: {failed}");
    // Webhooks hear only now of the tasks that were ended: they may have what is left of the grace time.
    wait_until(FAREWELL, || front.connections.get() == 0 && !pushing()).await;
    wait_until(left.saturating_sub(FAREWELL), || !pushing()).await;
}

/// Waits until it is done or the time is over; returns what is left of it.
async fn wait_until(limit: Duration, done: impl Fn() -> bool) -> Duration {
    const STEP: Duration = Duration::from_millis(20);
    let mut left = limit;
    while !done() && !left.is_zero() {
        let step = STEP.min(left);
        tokio::time::sleep(step).await;
        left = left.saturating_sub(step);
    }
    left
}

fn front(loaded: &Loaded, address: SocketAddr) -> Result<Front, DaemonError> {
    let config = &loaded.config;
    let identity = identity(loaded, address);
    let about = about(loaded, &identity, address, Now::read().mono);
    let card = card(loaded, &identity);
    let engine = Engine::new(settings(loaded), Ids::new(Box::new(random)));
    #[cfg(feature = "conformance")]
    #[expect(clippy::disallowed_methods, reason = "no setting: no build that anyone runs has it")]
    let engine = engine.playing(&std::env::var("CONFORMANCE_KIT").unwrap_or_default());
    let front = Front::new(EngineCell::new(engine), card, about, config.limits.clone());
    open_to(&front, config);
    front.tls.replace(loaded.tls.clone()).map_err(DaemonError::System)?;
    Ok(front)
}

/// Who may come in, by which names, and whether that is written down.
fn open_to(front: &Front, config: &Config) {
    front.audit.set(config.log.audit);
    front.set_auth(Auth::new(config));
    front.hosts.replace(Hosts::new(&device::hostname(), &config.listen));
}

fn settings(loaded: &Loaded) -> Settings {
    let config = &loaded.config;
    Settings {
        limits: config.limits.clone(),
        bounds: Bounds { relays: config.relay.max, queue: config.relay.queue },
        reply_bytes: config.relay.reply_bytes,
        context_bytes: config.relay.context_bytes,
        brain: loaded.route.as_ref().map(|route| brain(config, route)),
        push: policy(config),
    }
}

fn tools(loaded: &Loaded) -> Tools {
    let Config { relay, push, .. } = &loaded.config;
    let tls = Tls::new(loaded.trust.clone(), None);
    Tools { route: loaded.route.clone(), relay: relay.clone(), push: push.clone(), tls }
}

/// What is wrong with being reached from the network, and the fix.
fn exposure(loaded: &Loaded) -> Option<&'static str> {
    let config = &loaded.config;
    let is_clear = loaded.tls.as_ref().is_none_or(|tls| tls.plain == Plain::All);
    if !config.wants_credentials() {
        Some(
            "open to the network without authentication (--trust-lan): anybody who reaches this agent can use it",
        )
    } else if is_clear && config.has_tokens() {
        Some(
            "tokens cross the network unencrypted: set tls.cert-file and tls.key-file (`tetherlet cert self-signed` \
             makes both), and leave tls.plain at local",
        )
    } else {
        None
    }
}

fn about(loaded: &Loaded, identity: &Identity, address: SocketAddr, started: Duration) -> About {
    About {
        name: identity.name.clone(),
        url: identity.url.clone(),
        listen: address.to_string(),
        exposure: is_beyond_loopback(&address).then(|| exposure(loaded)).flatten(),
        model: loaded.route.as_ref().map(|route| (route.label(), route.provider.base_url.clone())),
        started,
        pid: std::process::id(),
        metrics_open: loaded.config.listen.metrics_open,
    }
}

fn card(loaded: &Loaded, identity: &Identity) -> Card {
    let config = &loaded.config;
    let Config { card, limits, .. } = config;
    let model = loaded.route.as_ref().map(Route::label);
    let skills = skills::available(model.is_some());
    let extension = card.agent_identity_id.as_deref().map(|id| {
        let (persona, spiffe) = (card.persona_id.as_deref(), card.spiffe_id.as_deref());
        Extension::agent_identity(id, persona, spiffe, card.agent_identity_required)
    });
    let inside = card.extended.then(|| Inside {
        model,
        limits: format!(
            "It keeps up to {} tasks in {} KiB and serves up to {} event streams at a time.",
            limits.tasks,
            limits.store_bytes / 1024,
            limits.streams
        ),
    });
    Card::new(&Facts {
        identity,
        security: Security {
            bearer: config.wants_credentials() && config.has_tokens(),
            header: config.auth.header.as_deref(),
            certificate: config.wants_credentials() && config.knows_certificates(),
        },
        skills: &skills,
        form: match card.form {
            CardForm::Union => Form::Union,
            CardForm::V10 => Form::V10,
            CardForm::V03 => Form::V03,
        },
        push: loaded.config.push.enabled,
        extensions: extension.as_slice(),
        inside: inside.as_ref(),
        signer: loaded.card_key.as_deref(),
        start_unix_ms: Now::read().unix_ms,
    })
}

fn policy(config: &Config) -> Option<Policy> {
    let Push { enabled, allow_private, attempts, timeout } = config.push;
    enabled.then_some(Policy { allow_private, attempts, timeout })
}

fn brain(config: &Config, route: &Route) -> Brain {
    let relay = &config.relay;
    let first = relay.first_payload(&route.provider);
    Brain {
        model: route.model.clone(),
        label: route.label(),
        key_source: route.provider.key_source.clone(),
        system: config.model.system.clone(),
        max_tokens: config.model.max_tokens,
        // The thread connects inside this time, and the connection has a limit of its own.
        timers: Timers { first: first + relay.connect, idle: relay.idle, turn: relay.turn },
    }
}

fn identity(loaded: &Loaded, address: SocketAddr) -> Identity {
    let agent = &loaded.config.agent;
    let url = public_url(loaded, address);
    let directory = std::env::current_dir().unwrap_or_default();
    let directory = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let organization_url = agent.organization_url.clone().unwrap_or_else(|| url.clone());
    Identity {
        name: agent
            .name
            .clone()
            .unwrap_or_else(|| auto_name(&device::hostname(), &directory, std::process::id())),
        description: agent.description.clone().unwrap_or_else(|| {
            "A small agent on an edge device: exact calculation, text analysis, memory, device reports, \
             and a language model where one is configured."
                .to_owned()
        }),
        url,
        organization: agent.organization.clone().unwrap_or_else(|| "tetherlet".to_owned()),
        organization_url,
        documentation_url: agent.documentation_url.clone(),
    }
}

/// The URL on the card: as configured, else made from the address that was bound; for a wildcard, the first one
/// that a neighbour can reach.
fn public_url(loaded: &Loaded, address: SocketAddr) -> String {
    if let Some(url) =
        loaded.config.listen.public_url.as_deref().and_then(|url| normal_url(url).ok())
    {
        return url;
    }
    let ip = match address.ip().to_canonical() {
        ip if ip.is_unspecified() => {
            IpAddr::V4(lan_ipv4(&device::addresses()).unwrap_or(Ipv4Addr::LOCALHOST))
        }
        ip => ip,
    };
    let scheme = match &loaded.tls {
        Some(tls) if tls.plain != Plain::All => "https",
        Some(_) | None => "http",
    };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

fn announce(loaded: &Loaded, front: &Front, address: SocketAddr) {
    let config = &loaded.config;
    let about = front.about.get();
    match &loaded.tls {
        None => log::info!("listening on http://{address}"),
        Some(tls) => {
            log::info!("listening on https://{address}");
            match tls.plain {
                Plain::Local => {
                    log::info!("plain http is spoken there with callers on this machine alone");
                }
                Plain::All => log::info!("plain http is spoken there as well"),
                Plain::None => {}
            }
            let url = Url::read(&about.url).filter(|url| url.is_https);
            if url.is_some_and(|url| !is_host(&tls.names, url.host)) {
                log::warn!(
                    "the TLS certificate does not name the host of {}: clients will refuse it; set listen.public-url \
                     to a name in the certificate",
                    about.url
                );
            }
        }
    }
    log::info!("agent {} at {}", about.name, about.url);
    if let Some(exposure) = about.exposure {
        log::warn!("{exposure}");
    }
    if config.wants_credentials() {
        let mut names: Vec<&str> = config.callers.iter().map(|it| it.name.as_str()).collect();
        names.dedup();
        log::info!("callers must show who they are; known: {}", names.join(", "));
    }
    match &loaded.route {
        Some(route) => {
            let key = if route.provider.key.is_some() {
                format!("key from {}", route.provider.key_source)
            } else {
                "no key".to_owned()
            };
            log::info!(
                "messages that no skill takes go to {} at {} ({key})",
                route.label(),
                route.provider.base_url
            );
        }
        None => log::info!("no model is configured: only skills answer"),
    }
    if let Some(key) = &loaded.card_key {
        log::info!("the agent card is signed with {} key {}", key.algorithm(), key.id());
    }
    for file in &loaded.files {
        log::debug!("configuration read from {}", file.display());
    }
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
}
