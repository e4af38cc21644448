//! A configuration while its layers are put on: values so far, who set each, and what went wrong.

use crate::config::Config;
use crate::config::keys::{self, KEYS, Kind, Raw, Value};
use crate::config::problems::{Problems, Source};
use crate::config::providers;

/// Most sections of one family.
pub const MAX_SECTIONS: usize = 32;

/// What the layers gave until now.
#[derive(Debug)]
pub struct Draft {
    pub config: Config,
    /// Who set each key, in the order of [`KEYS`].
    pub sources: Vec<Source>,
    pub sections: Vec<Section>,
    pub problems: Problems,
    pub warnings: Vec<String>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            config: Config::default(),
            sources: vec![Source::Default; KEYS.len()],
            sections: Vec::new(),
            problems: Problems::default(),
            warnings: Vec::new(),
        }
    }
}

impl Draft {
    /// Sets the key at a position of [`KEYS`].
    ///
    /// # Errors
    ///
    /// The rule that `raw` breaks; the key keeps its value.
    pub fn offer(&mut self, at: usize, raw: Raw<'_>, source: Source) -> Result<(), String> {
        let (Some(key), Some(slot)) = (KEYS.get(at), self.sources.get_mut(at)) else {
            return Err("is no key".to_owned());
        };
        key.set(&mut self.config, checked(key.kind, raw)?);
        *slot = source;
        Ok(())
    }

    /// Position of the section of that name, made when it is missing.
    ///
    /// # Errors
    ///
    /// The rule that `written`, the name or a provider's alias, breaks.
    pub fn section(
        &mut self,
        family: Family,
        written: &str,
        source: &Source,
    ) -> Result<usize, String> {
        family.check_name(written)?;
        let name = match family {
            Family::Providers => providers::known(written).map_or(written, |known| known.name),
            Family::Callers | Family::Peers => written,
        };
        let is_it = |section: &Section| section.family == family && section.name == name;
        if let Some(at) = self.sections.iter().position(is_it) {
            let Some(other) = self.sections.get(at).map(|it| it.written.as_str()) else {
                return Ok(at);
            };
            if other != written && !matches!(source, Source::Env(_)) {
                return Err(format!("is the same provider as providers.{other}: keep one of them"));
            }
            return Ok(at);
        }
        if self.sections.iter().filter(|section| section.family == family).count() >= MAX_SECTIONS {
            return Err(format!("at most {MAX_SECTIONS} {}", family.name()));
        }
        self.sections.push(Section {
            family,
            name: name.to_owned(),
            written: written.to_owned(),
            source: source.clone(),
            values: Default::default(),
        });
        Ok(self.sections.len() - 1)
    }

    /// Sets a key of a section that has a name of its own.
    ///
    /// # Errors
    ///
    /// As [`Draft::offer`].
    pub fn offer_field(
        &mut self,
        section: usize,
        field: Field,
        raw: Raw<'_>,
        source: Source,
    ) -> Result<(), String> {
        let value = match checked(field.kind(), raw)? {
            Value::Text(text) => text,
            Value::Bool(_) | Value::Number(_) => return Err(field.kind().to_string()),
        };
        if let Some(section) = self.sections.get_mut(section) {
            section.values[field as usize] = Some((value, source));
        }
        Ok(())
    }

    /// What was read for a key of the table; a failure becomes the problem of that key.
    pub fn keep<T>(&mut self, name: &str, read: Result<T, String>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(rule) => {
                self.problems.add(self.source(name).clone(), name, rule);
                None
            }
        }
    }

    /// Who set a key of the table.
    pub fn source(&self, name: &str) -> &Source {
        keys::position(name).and_then(|at| self.sources.get(at)).unwrap_or(&Source::Default)
    }

    /// A key of the table with its value.
    pub fn shown(&mut self, name: &str) -> String {
        let key = KEYS.iter().find(|key| key.name == name);
        match key.and_then(|key| key.show(&mut self.config)) {
            Some(value) => format!("{name} is {value}"),
            None => format!("{name} is not set"),
        }
    }
}

/// What was said in one section that has a name of its own.
#[derive(Debug)]
pub struct Section {
    pub family: Family,
    /// Its own name, never a provider's alias.
    pub name: String,
    /// The name its first mention used.
    pub written: String,
    /// Its first mention.
    pub source: Source,
    /// By [`Field`].
    pub values: [Option<(String, Source)>; Field::COUNT],
}

impl Section {
    pub fn value(&self, field: Field) -> Option<&(String, Source)> {
        self.values[field as usize].as_ref()
    }

    /// The key as the operator wrote it.
    pub fn key(&self, field: Field) -> String {
        format!("{}.{}.{}", self.family.name(), self.written, field.name())
    }
}

/// Sections whose names the operator chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Who is asked for answers: `[providers.NAME]`.
    Providers,
    /// Who may ask: `[callers.NAME]`.
    Callers,
    /// Other agents: `[peers.NAME]`.
    Peers,
}

impl Family {
    pub const ALL: [Self; 3] = [Self::Providers, Self::Callers, Self::Peers];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Providers => "providers",
            Self::Callers => "callers",
            Self::Peers => "peers",
        }
    }

    /// Checks the name of a section.
    ///
    /// # Errors
    ///
    /// The rule that it breaks.
    pub fn check_name(self, name: &str) -> Result<(), String> {
        let fits = (1..=32).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && name.starts_with(|first: char| first.is_ascii_lowercase());
        let rule =
            || format!("a {}'s name is 1 to 32 lower-case letters, digits and '-'", self.member());
        fits.then_some(()).ok_or_else(rule)
    }

    /// What one of them is.
    pub const fn member(self) -> &'static str {
        match self {
            Self::Providers => "provider",
            Self::Callers => "caller",
            Self::Peers => "peer",
        }
    }

    /// The keys of its sections.
    pub const fn fields(self) -> &'static [Field] {
        match self {
            Self::Providers => {
                &[Field::BaseUrl, Field::ApiKeyEnv, Field::ApiKeyFile, Field::Model, Field::Form]
            }
            Self::Callers => &[
                Field::Token,
                Field::TokenEnv,
                Field::TokenFile,
                Field::Certificate,
                Field::Rights,
            ],
            Self::Peers => &[Field::Url, Field::TokenEnv, Field::TokenFile],
        }
    }
}

/// A key of a section that has a name of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    BaseUrl,
    ApiKeyEnv,
    ApiKeyFile,
    Model,
    Form,
    Token,
    TokenEnv,
    TokenFile,
    Certificate,
    Rights,
    Url,
}

impl Field {
    pub const COUNT: usize = Self::Url as usize + 1;

    pub const fn name(self) -> &'static str {
        match self {
            Self::BaseUrl => "base-url",
            Self::ApiKeyEnv => "api-key-env",
            Self::ApiKeyFile => "api-key-file",
            Self::Model => "model",
            Self::Form => "form",
            Self::Token => "token",
            Self::TokenEnv => "token-env",
            Self::TokenFile => "token-file",
            Self::Certificate => "certificate",
            Self::Rights => "rights",
            Self::Url => "url",
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::BaseUrl | Self::Url => Kind::Base,
            Self::ApiKeyEnv | Self::TokenEnv => Kind::Variable,
            Self::ApiKeyFile | Self::TokenFile => Kind::RootedPath,
            Self::Model | Self::Certificate => Kind::Line { max: 256 },
            Self::Form => Kind::Choice(&["openai", "anthropic"]),
            Self::Token => Kind::Line { max: 8 * 1024 },
            Self::Rights => Kind::Line { max: 64 },
        }
    }
}

/// End of a rule about a number that was written as text.
pub const WITHOUT_QUOTES: &str = ", without quotes";

fn checked(kind: Kind, raw: Raw<'_>) -> Result<Value, String> {
    kind.check(raw).ok_or_else(|| {
        let is_bare = matches!(kind, Kind::Number { .. } | Kind::Seconds { .. } | Kind::Bool);
        let is_either = matches!(kind, Kind::Bytes { .. });
        let advice = match raw {
            Raw::Text(_) if is_bare => WITHOUT_QUOTES,
            Raw::Bool(_) | Raw::Number(_) | Raw::Other if !is_bare && !is_either => ", in quotes",
            Raw::Bool(_) | Raw::Number(_) | Raw::Text(_) | Raw::Loose(_) | Raw::Other => "",
        };
        format!("{kind}{advice}")
    })
}
