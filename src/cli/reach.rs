//! How commands reach an agent: which token they show, whom they trust, by which certificate they are known.
//!
//! A token is never an argument: everybody on the machine can read those.

use std::path::{Path, PathBuf};

use lexopt::Parser;

use crate::cli::{Failure, Settings, note};
use crate::config::credentials::{token, token_file};
use crate::config::trust::Identity;
use crate::config::{Inputs, Reaching, load_reaching, own_token};
use crate::outbound::client::{Credentials, origin};
use crate::outbound::failure::Failure as Why;
use crate::outbound::tls::Tls;

/// Flags of every command that calls an agent; `--token` only to be refused with a reason.
pub const FLAGS: [&str; 5] = ["token-file", "ca", "cert", "key", "token"];

/// Why `--token` is none.
pub fn no_token() -> Failure {
    let why = "invalid option '--token': what stands in a command line, everybody on this machine can read; put \
               the token into a file of mode 600 and give --token-file FILE, or set TETHERLET_TOKEN";
    Failure::Usage(why.to_owned())
}

/// What those flags say.
#[derive(Debug, Default)]
pub struct Reach {
    token_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Reach {
    /// Takes one of [`FLAGS`].
    pub fn take(&mut self, name: &str, parser: &mut Parser) -> Result<(), Failure> {
        let place = match name {
            "token-file" => &mut self.token_file,
            "ca" => &mut self.ca,
            "cert" => &mut self.cert,
            "key" => &mut self.key,
            _ => return Err(no_token()),
        };
        *place = Some(parser.value()?.into());
        Ok(())
    }

    /// What flags, environment and configuration say together, for the agent at `url`; `here` when that is the one
    /// whose configuration this is.
    pub fn credentials(
        &self,
        settings: &Settings,
        url: &str,
        here: bool,
    ) -> Result<Credentials, Failure> {
        settings.with(|inputs| self.credentials_by(inputs, url, here))
    }

    fn credentials_by(
        &self,
        inputs: &Inputs<'_>,
        url: &str,
        here: bool,
    ) -> Result<Credentials, Failure> {
        let Reaching { mut trust, peers, warnings } =
            load_reaching(inputs).map_err(|problems| Failure::Usage(problems.to_string()))?;
        for warning in warnings {
            note(&format!("warning: {warning}"));
        }
        let usage = |flag: &str| {
            let flag = flag.to_owned();
            move |rule: String| Failure::Usage(format!("{flag}: {rule}"))
        };
        if let Some(path) = &self.ca {
            std::sync::Arc::make_mut(&mut trust).add_file(path, false).map_err(usage("--ca"))?;
        }
        let identity = match (&self.cert, &self.key) {
            (Some(cert), key) => {
                Some(Identity::read(cert, key.as_deref()).map_err(usage("--cert"))?)
            }
            (None, Some(_)) => {
                return Err(Failure::Usage("--key goes with --cert".to_owned()));
            }
            (None, None) => None,
        };
        let tls = Tls::new(trust, identity);
        if tls.has_identity() {
            tls.check().map_err(|error| {
                if matches!(error, rustls::Error::InconsistentKeys(_)) {
                    return Failure::Usage(self.mismatch());
                }
                usage("--cert")(match Why::of_tls(&error) {
                    Why::BadCertificate(what) | Why::Tls(what) => format!("cannot be used: {what}"),
                    other => other.brief().to_owned(),
                })
            })?;
        }
        let found = match &self.token_file {
            Some(path) => {
                let secret = token_file(path, inputs)
                    .map_err(|rule| usage("--token-file")(of_token(&rule, path)))?;
                Some((secret, format!("file {}", path.display())))
            }
            None => token(inputs).map_err(Failure::Usage)?,
        };
        let found = found.or_else(|| {
            let mut named = peers.into_iter().filter(|peer| origin(&peer.url) == origin(url));
            named.find_map(|peer| Some((peer.token?, peer.token_source)))
        });
        // Whoever may read the agent's own configuration may talk to it.
        let found = if here { found.or_else(|| own_token(inputs)) } else { found };
        let (token, source) = match found {
            Some((secret, source)) => (Some(secret), source),
            None => (None, String::new()),
        };
        Ok(Credentials { token, header: None, source, tls })
    }

    /// Which files do not belong together.
    fn mismatch(&self) -> String {
        let shown =
            |path: &Option<PathBuf>| path.as_deref().unwrap_or(Path::new("")).display().to_string();
        let cert = shown(&self.cert);
        match &self.key {
            Some(key) => format!(
                "--cert {cert} and --key {} do not belong together: it is the key of another certificate",
                key.display()
            ),
            None => format!(
                "--cert: in {cert} the key does not belong to the first certificate: it is the key of another"
            ),
        }
    }
}

/// The rule that a file of a token breaks, which is worded for keys of providers.
fn of_token(rule: &str, path: &Path) -> String {
    let path = path.display().to_string();
    let Some(rest) = rule.strip_prefix(&path) else { return rule.to_owned() };
    let hint = if rest.ends_with("holds no key") {
        "; the agent's operator makes one with `tetherlet token new`"
    } else {
        ""
    };
    format!("{path}{}{hint}", rest.replace(" key", " token"))
}
