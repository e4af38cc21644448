//! What SIGHUP does: reads the configuration again and puts it in force, or keeps the old one and says why.
//!
//! A configuration is taken as a whole or not at all. What it changes holds for what begins from then on; requests,
//! tasks, streams and connections that are there already go on under what they began with, unless their callers might
//! not be let in any more: their streams, webhooks and connections end.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;

use crate::base::clock::{Now, rfc3339_into};
use crate::bridge::Tools;
use crate::config::changes::{changed, waiting};
use crate::config::problems::{Problems, Source};
use crate::config::{AuthMode, Config, Loaded, Log, Setting};
use crate::daemon::{
    about, card, identity, is_beyond_loopback, may_serve, open_to, settings, tools,
};
use crate::inbound::service::Front;
use crate::logs;

/// A running agent, as a reload sees it.
#[derive(Debug)]
pub struct Agent {
    front: Rc<Front>,
    address: SocketAddr,
    tools: watch::Sender<Arc<Tools>>,
    /// As it was at the start: what only a restart changes still is so.
    start: Vec<Setting>,
    /// In force.
    loaded: Loaded,
    /// What only a restart will put in force.
    waiting: Vec<String>,
}

impl Agent {
    /// An agent that has just started with `loaded`.
    pub fn new(
        front: Rc<Front>,
        address: SocketAddr,
        tools: watch::Sender<Arc<Tools>>,
        loaded: Loaded,
    ) -> Self {
        let (start, waiting) = (loaded.settings.clone(), Vec::new());
        Self { front, address, tools, start, loaded, waiting }
    }

    /// The configuration in force.
    pub const fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// Puts in force what `again` reads.
    pub fn reload(&mut self, again: &dyn Fn() -> Result<Loaded, Problems>) {
        match again().and_then(|loaded| self.check(loaded)) {
            Ok(loaded) => self.take(loaded),
            Err(problems) => self.keep(&problems),
        }
    }

    /// What the start checks beside the configuration itself, and what only a reload can see.
    fn check(&self, loaded: Loaded) -> Result<Loaded, Problems> {
        let mut problems = Problems::default();
        if let Err(error) = may_serve(&loaded.config, is_beyond_loopback(&self.address)) {
            problems.add(Source::Default, "", error.to_string());
        }
        for path in gone(&self.loaded.files, &loaded.files) {
            let (path, line, column) = (path.clone(), 0, 0);
            let rule = "is gone; restart to go on without it".to_owned();
            problems.add(Source::File { path, line, column }, "", rule);
        }
        // A file that is being written anew is empty for a moment.
        let (was, is) = (self.config(), &loaded.config);
        if was.wants_credentials() && !is.wants_credentials() && is.auth.mode != AuthMode::Off {
            let rule = "nobody would be asked who they are any more; if that is meant, say \"off\" here, or restart";
            problems.add(Source::Default, "auth.mode", rule.to_owned());
        }
        // The one part that may still fail goes first.
        let has_changed = changed(&self.loaded, &loaded).iter().any(|key| key.starts_with("tls."));
        if problems.is_empty()
            && has_changed
            && let Err(error) = self.front.tls.replace(loaded.tls.clone())
        {
            problems.add(Source::Default, "tls.cert-file", format!("cannot be used: {error}"));
        }
        if problems.is_empty() { Ok(loaded) } else { Err(problems) }
    }

    fn take(&mut self, loaded: Loaded) {
        let keys = changed(&self.loaded, &loaded);
        // The lines about a change of level are written by the more talkative one.
        let log = &loaded.config.log;
        logs::set(&Log { level: log.level.max(self.loaded.config.log.level), ..log.clone() });
        let was_exposed = self.front.about.get().exposure;
        self.apply(&loaded);
        let exposure = self.front.about.get().exposure;
        match keys.as_slice() {
            [] => log::info!("configuration reloaded: nothing has changed"),
            keys => log::info!("configuration reloaded, changed: {}", keys.join(", ")),
        }
        for warning in loaded.warnings.iter().filter(|it| !self.loaded.warnings.contains(it)) {
            log::warn!("{warning}");
        }
        if let Some(exposure) = exposure.filter(|_| exposure != was_exposed) {
            log::warn!("{exposure}");
        }
        self.waiting = waiting(&self.start, &loaded);
        for warning in &self.waiting {
            log::warn!("{warning}");
        }
        self.front.warnings.replace(self.waiting.clone());
        logs::set(log);
        self.loaded = loaded;
    }

    /// Puts everything in force that a running agent can change, each part at its one place.
    fn apply(&self, loaded: &Loaded) {
        let (front, config) = (&self.front, &loaded.config);
        open_to(front, config);
        front.set_limits(config.limits.clone());
        let store_bytes = front.cell.with(|engine, now| engine.configure(settings(loaded), now));
        if store_bytes > config.limits.store_bytes {
            log::warn!(
                "limits.store-bytes stays at {store_bytes} bytes: the memory skill holds a quarter of them; \
                 restart to forget that"
            );
        }
        let identity = identity(loaded, self.address);
        let started = front.about.get().started;
        front.about.replace(about(loaded, &identity, self.address, started));
        let (mut card, old) = (card(loaded, &identity), front.card.get());
        if card.etag == old.etag {
            card.last_modified.clone_from(&old.last_modified);
        }
        front.card.replace(card);
        self.tools.send_replace(Arc::new(tools(loaded)));
    }

    /// Nothing changes but what the log and the status say.
    fn keep(&self, problems: &Problems) {
        let mut at = String::new();
        rfc3339_into(&mut at, Now::read().unix_ms);
        let list = problems.list();
        for problem in list {
            log::error!("{problem}");
        }
        let count = list.len();
        let what = if count == 1 { "a problem" } else { "problems" };
        log::error!(
            "reload failed by {what} in {count} line(s) above: the old configuration stays in force"
        );
        let mut failed = format!("reload at {at} failed: ");
        failed.extend(list.first().map(ToString::to_string));
        if count > 1 {
            let _ = write!(failed, "; {} more in the log", count - 1);
        }
        let warnings = std::iter::once(failed).chain(self.waiting.iter().cloned()).collect();
        self.front.warnings.replace(warnings);
    }
}

/// The files that were there and should still be: an editor may be between taking the old one away and putting the new
/// one there, and without it every key would have its default. Drop-ins come and go.
fn gone<'f>(old: &'f [PathBuf], new: &[PathBuf]) -> impl Iterator<Item = &'f PathBuf> {
    let is_drop_in =
        |path: &Path| path.parent().and_then(Path::file_name).is_some_and(|it| it == "conf.d");
    old.iter().filter(move |path| !new.contains(path) && !is_drop_in(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_may_go_and_the_other_files_may_not() {
        let files = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let old = files(&["/etc/tetherlet/tetherlet.toml", "/etc/tetherlet/conf.d/tls.toml"]);
        assert!(gone(&old, &old).next().is_none());
        assert!(gone(&old, &old[..1]).next().is_none());
        assert_eq!(gone(&old, &old[1..]).collect::<Vec<_>>(), [&old[0]]);
    }
}
