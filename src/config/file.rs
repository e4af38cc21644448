//! Finds and reads configuration files: which ones, in which order, and what their lines mean.
//!
//! Reads TOML through the recovering parser, so that one bad line hides no other; values carry
//! their place. Searched: the system's file, its drop-ins in `conf.d`, the user's file (XDG base
//! directories).

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::base::order::sorted;
use crate::config::Inputs;
use crate::config::draft::{Draft, Family, WITHOUT_QUOTES};
use crate::config::keys::{self, KEYS, Raw};
use crate::config::problems::{MAX_PROBLEMS, Source, hint, nearest, shown};

/// Largest configuration file, in bytes.
const MAX_FILE: usize = 256 * 1024;
/// Most files in `conf.d`.
const MAX_DROP_INS: usize = 64;

/// Puts the files on, weakest first, and returns those that were read.
pub fn read_all(inputs: &Inputs<'_>, draft: &mut Draft) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if let Some(path) = inputs.file {
        read_one(path, false, draft, &mut files);
        return files;
    }
    read_one(&inputs.etc.join("tetherlet.toml"), true, draft, &mut files);
    for path in drop_ins(&inputs.etc.join("conf.d"), draft) {
        read_one(&path, false, draft, &mut files);
    }
    if !inputs.root
        && let Some(folder) = user_folder(inputs)
    {
        read_one(&folder.join("tetherlet/tetherlet.toml"), true, draft, &mut files);
    }
    files
}

/// Reads a regular file of at most `max` bytes.
///
/// # Errors
///
/// [`FileError`], with nothing read.
pub fn slurp(path: &Path, max: usize) -> Result<(Vec<u8>, Metadata), FileError> {
    // Asked before opening: opening a pipe waits until somebody writes to it.
    if !fs::metadata(path).map_err(FileError::Io)?.is_file() {
        return Err(FileError::NotRegular);
    }
    let file = File::open(path).map_err(FileError::Io)?;
    let metadata = file.metadata().map_err(FileError::Io)?;
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(FileError::Io)?;
    if bytes.len() > max {
        return Err(FileError::TooLarge { max });
    }
    Ok((bytes, metadata))
}

/// Why a file was not read.
#[derive(Debug)]
pub enum FileError {
    Io(io::Error),
    /// A folder, pipe or device.
    NotRegular,
    TooLarge {
        max: usize,
    },
}

impl FileError {
    /// Whether there is no such file.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Io(error) => {
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            }
            Self::NotRegular | Self::TooLarge { .. } => false,
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot be read: {error}"),
            Self::NotRegular => f.write_str("is not a regular file"),
            Self::TooLarge { max } => write!(f, "is larger than {max} bytes"),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::NotRegular | Self::TooLarge { .. } => None,
        }
    }
}

/// The folder of the user's own configuration, `$XDG_CONFIG_HOME` or `~/.config`.
pub(super) fn user_folder(inputs: &Inputs<'_>) -> Option<PathBuf> {
    // A relative path is to be ignored (XDG base directory specification, "Basics").
    let rooted = |name: &str| (inputs.env)(name).map(PathBuf::from).filter(|it| it.is_absolute());
    rooted("XDG_CONFIG_HOME").or_else(|| rooted("HOME").map(|home| home.join(".config")))
}

fn drop_ins(folder: &Path, draft: &mut Draft) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let error = FileError::Io(error);
            if !error.is_missing() {
                draft.problems.add(whole(folder), "", error.to_string());
            }
            return found;
        }
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => {
                draft.problems.add(whole(folder), "", FileError::Io(error).to_string());
                break;
            }
        };
        // Editors keep their own files under hidden names.
        let is_hidden =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if is_hidden || path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        if found.len() >= MAX_DROP_INS {
            let rule = format!("holds more than {MAX_DROP_INS} files");
            draft.problems.add(whole(folder), "", rule);
            break;
        }
        found.push(path);
    }
    sorted(found, |a, b| a < b)
}

fn whole(path: &Path) -> Source {
    Source::File { path: path.to_owned(), line: 0, column: 0 }
}

fn read_one(path: &Path, may_be_missing: bool, draft: &mut Draft, files: &mut Vec<PathBuf>) {
    let rule = match slurp(path, MAX_FILE) {
        Ok((bytes, _)) => match str::from_utf8(&bytes) {
            Ok(text) => {
                files.push(path.to_owned());
                Reader::new(path, text).read(draft);
                return;
            }
            Err(_) => "is not UTF-8 text".to_owned(),
        },
        Err(error) if may_be_missing && error.is_missing() => return,
        Err(error) => error.to_string(),
    };
    draft.problems.add(whole(path), "", rule);
}

/// One file being read.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    findings: Vec<Finding>,
}

/// A problem before its place is known as line and column.
struct Finding {
    at: usize,
    /// Empty for a mistake in the syntax that belongs to none.
    key: String,
    rule: String,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, text: &'a str) -> Self {
        let starts = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let lines = std::iter::once(0).chain(starts.map(|(at, _)| at + 1)).collect();
        Self { path, text, lines, findings: Vec::new() }
    }

    fn read(mut self, draft: &mut Draft) {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        self.sections(root.get_ref(), draft);
        let mut findings = std::mem::take(&mut self.findings);

        // What follows the first syntax mistake of a line is mostly its echo.
        let mut broken: Vec<(usize, usize, &str)> = Vec::with_capacity(errors.len());
        for error in &errors {
            let at = error.span().map_or(self.text.len(), |span| span.start);
            broken.push((self.line(at), at, error.message()));
        }
        let mut broken = sorted(broken, |a, b| (a.0, a.1) < (b.0, b.1));
        broken.dedup_by_key(|&mut (line, ..)| line);
        // Of a value without quotes the parser makes a bad number; the key's own rule says more.
        let mut echoes = Vec::new();
        findings.retain_mut(|finding| {
            let line = self.line(finding.at);
            let is_echo = broken.binary_search_by_key(&line, |&(line, ..)| line).is_ok();
            if is_echo && echoes.len() < MAX_PROBLEMS {
                let rule = std::mem::take(&mut finding.rule);
                echoes.push((line, std::mem::take(&mut finding.key), rule));
            }
            !is_echo
        });
        for (line, at, message) in broken.into_iter().take(MAX_PROBLEMS) {
            let (key, rule) = match echoes.iter().find(|echo| echo.0 == line) {
                Some((_, key, rule)) => {
                    // It is the syntax that lacks quotes then.
                    let rule = rule.strip_suffix(WITHOUT_QUOTES).unwrap_or(rule);
                    (key.clone(), format!("{rule} (not valid TOML: {message})"))
                }
                None => (String::new(), format!("not valid TOML: {message}")),
            };
            findings.push(Finding { at, key, rule });
        }
        for finding in sorted(findings, |a, b| a.at < b.at) {
            draft.problems.add(self.place(finding.at), &finding.key, finding.rule);
        }
    }

    fn sections(&mut self, root: &DeTable<'_>, draft: &mut Draft) {
        for (name, value) in by_place(root) {
            let (at, section) = (name.span().start, name.get_ref().as_ref());
            let family = Family::ALL.into_iter().find(|family| family.name() == section);
            if family.is_none() && !keys::sections().any(|it| it == section) {
                let hint = self.section_hint(section);
                self.complain(at, shown(section), format!("is not a known section{hint}"));
                continue;
            }
            let Some(table) = value.get_ref().as_table() else {
                let rule = format!("must be a section, [{section}]");
                self.complain(at, section.to_owned(), rule);
                continue;
            };
            match family {
                Some(family) => self.named(family, table, draft),
                None => self.keys(section, table, draft),
            }
        }
    }

    fn keys(&mut self, section: &str, table: &DeTable<'_>, draft: &mut Draft) {
        for (name, value) in by_place(table) {
            let at = name.span().start;
            let full = format!("{section}.{}", name.get_ref());
            let outcome = match keys::position(&full) {
                Some(key) => draft.offer(key, raw(value), self.place(at)),
                None if self.is_full() => Err(String::new()),
                None => {
                    let mut names = KEYS.iter().map(|key| key.name);
                    Err(format!("is not a known key{}", hint(&full, &mut names)))
                }
            };
            if let Err(rule) = outcome {
                self.complain(at, shown(&full), rule);
            }
        }
    }

    /// The sections of one family.
    fn named(&mut self, family: Family, table: &DeTable<'_>, draft: &mut Draft) {
        for (name, value) in by_place(table) {
            let at = name.span().start;
            let full = format!("{}.{}", family.name(), shown(name.get_ref()));
            let Some(fields) = value.get_ref().as_table() else {
                let rule = format!(
                    "must be in a section of its {}, such as [{}.{}]",
                    family.member(),
                    family.name(),
                    if family == Family::Providers { "openai" } else { "workshop" }
                );
                self.complain(at, full, rule);
                continue;
            };
            let section = match draft.section(family, name.get_ref(), &self.place(at)) {
                Ok(section) => section,
                Err(rule) => {
                    self.complain(at, full, rule);
                    continue;
                }
            };
            for (name, value) in by_place(fields) {
                let at = name.span().start;
                let field = name.get_ref().as_ref();
                let mut known = family.fields().iter().copied();
                let outcome = match known.find(|it| it.name() == field) {
                    Some(known) => draft.offer_field(section, known, raw(value), self.place(at)),
                    None => Err(literal_key(family, field).map_or_else(
                        || {
                            let mut names = family.fields().iter().map(|field| field.name());
                            format!("is not a known key{}", hint(field, &mut names))
                        },
                        str::to_owned,
                    )),
                };
                if let Err(rule) = outcome {
                    self.complain(at, format!("{full}.{}", shown(field)), rule);
                }
            }
        }
    }

    /// A key above all sections is mostly one that has lost its section.
    fn section_hint(&self, name: &str) -> String {
        if self.is_full() {
            return String::new();
        }
        let last = |key: &&'static str| key.rsplit_once('.').is_some_and(|(_, last)| last == name);
        if let Some(key) = KEYS.iter().map(|key| key.name).find(last) {
            return format!(", did you mean {key}?");
        }
        let mut names = keys::sections().chain(Family::ALL.map(Family::name));
        nearest(name, &mut names).map_or_else(String::new, |it| format!(", did you mean [{it}]?"))
    }

    fn complain(&mut self, at: usize, key: String, rule: String) {
        self.findings.push(Finding { at, key, rule });
    }

    /// Whether further findings will only be counted, so that their words do not matter.
    fn is_full(&self) -> bool {
        self.findings.len() >= 2 * MAX_PROBLEMS
    }

    /// Line of a byte, from 1.
    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|&start| start <= at)
    }

    fn place(&self, at: usize) -> Source {
        let line = self.line(at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text.get(start..at).map_or(0, |before| before.chars().count()) + 1;
        Source::File { path: self.path.to_owned(), line, column }
    }
}

type Entry<'a, 'i> = (&'a Spanned<toml::de::DeString<'i>>, &'a Spanned<DeValue<'i>>);

/// The entries as they stand in the file; the table itself is sorted by name.
fn by_place<'a, 'i>(table: &'a DeTable<'i>) -> Vec<Entry<'a, 'i>> {
    sorted(table.iter().collect(), |a: &Entry<'_, '_>, b| a.0.span().start < b.0.span().start)
}

fn raw<'a>(value: &'a Spanned<DeValue<'_>>) -> Raw<'a> {
    match value.get_ref() {
        DeValue::String(text) => Raw::Text(text),
        DeValue::Boolean(value) => Raw::Bool(*value),
        DeValue::Integer(value) => {
            Raw::Number(u64::from_str_radix(value.as_str(), value.radix()).ok())
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            Raw::Other
        }
    }
}

/// What to do in place of writing a secret into the file.
fn literal_key(family: Family, field: &str) -> Option<&'static str> {
    let is_key = matches!(
        field,
        "api-key" | "api_key" | "apikey" | "apiKey" | "key" | "token" | "secret" | "password"
    );
    match family {
        _ if !is_key => None,
        Family::Providers => {
            Some("keys do not belong in this file: use api-key-file or api-key-env")
        }
        Family::Peers => Some("tokens do not belong in this file: use token-file or token-env"),
        Family::Callers => None,
    }
}
