//! What is wrong with a configuration and where, in words for the operator.
//!
//! Problems are collected, never thrown at the first one; their number is bounded. Nothing here
//! repeats a value: it could be a key that was pasted into the wrong line.

use std::fmt;
use std::path::PathBuf;

/// Most problems kept; further ones are only counted.
pub const MAX_PROBLEMS: usize = 64;

/// Longest name that is compared with known ones, and longest foreign name that is shown.
const MAX_NAME: usize = 64;

/// Where a value came from, or where a problem lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A line of a file, counted from 1; line 0 is the file as a whole.
    File { path: PathBuf, line: usize, column: usize },
    /// An environment variable.
    Env(String),
    /// A flag of the command line.
    Flag(&'static str),
    /// A file or credential that holds one secret.
    Store(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0, .. } => write!(f, "{}", path.display()),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Store(text) => f.write_str(text),
        }
    }
}

/// One rule that the configuration breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub source: Source,
    /// Dotted name of the key; empty when the problem is about a file as a whole or its syntax.
    pub key: String,
    /// What must hold, or what to do.
    pub rule: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source != Source::Default {
            write!(f, "{}: ", self.source)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.rule)
    }
}

/// Everything that is wrong, in the order of the layers and, within a file, of its lines.
///
/// `Display` writes one problem a line.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    /// Problems beyond [`MAX_PROBLEMS`].
    more: usize,
}

impl Problems {
    /// Adds a problem unless the same one is there already.
    pub fn add(&mut self, source: Source, key: &str, rule: String) {
        if self.is_full() {
            self.more = self.more.saturating_add(1);
            return;
        }
        let problem = Problem { source, key: key.to_owned(), rule };
        if !self.list.contains(&problem) {
            self.list.push(problem);
        }
    }

    /// The problems kept, [`MAX_PROBLEMS`] at most.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether further problems are only counted.
    pub fn is_full(&self) -> bool {
        self.list.len() >= MAX_PROBLEMS
    }

    /// Whether a problem is about `key` or, when it ends in a dot, about a key below it.
    pub fn mention(&self, key: &str) -> bool {
        self.list.iter().any(|problem| match key.strip_suffix('.') {
            Some(_) => problem.key.starts_with(key),
            None => problem.key == key,
        })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.list.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The known name that `name` was probably meant to be.
///
/// Differences in case and between `-`, `_` and `.` are not counted as mistakes. Returns `None`
/// when all are further away than a third of the name, or the name is longer than any of ours.
pub fn nearest<'a>(name: &str, known: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.is_empty() || name.len() > MAX_NAME {
        return None;
    }
    let mut best = None;
    // The first strictly smaller distance wins, so ties go to the order of the table.
    let mut limit = name.len().div_ceil(3).min(4) + 1;
    for candidate in known {
        let distance = distance(name.as_bytes(), candidate.as_bytes());
        if distance < limit {
            limit = distance;
            best = Some(candidate);
        }
    }
    best
}

/// `, did you mean X?` with the nearest known name, or nothing.
pub fn hint(name: &str, known: &mut dyn Iterator<Item = &str>) -> String {
    nearest(name, known).map_or_else(String::new, |found| format!(", did you mean {found}?"))
}

/// A name from outside, safe to print: escaped and cut to a line's length.
pub fn shown(name: &str) -> String {
    let mut out: String = name.chars().take(MAX_NAME).flat_map(char::escape_debug).collect();
    if name.chars().nth(MAX_NAME).is_some() {
        out.push_str("...");
    }
    out
}

/// Edits (insert, delete, replace) between two names of at most [`MAX_NAME`] bytes.
fn distance(a: &[u8], b: &[u8]) -> usize {
    if b.len() > MAX_NAME {
        return usize::MAX;
    }
    let mut row: [usize; MAX_NAME + 1] = std::array::from_fn(|at| at);
    for (i, &from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(folded(from) != folded(to));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn folded(byte: u8) -> u8 {
    match byte {
        b'_' | b'.' => b'-',
        other => other.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(name: &str) -> Option<&'static str> {
        nearest(name, &mut ["listen.port", "listen.host", "log.level"].into_iter())
    }

    #[test]
    fn the_nearest_name_is_found() {
        assert_eq!(near("listen.prot"), Some("listen.port"));
        assert_eq!(near("LISTEN_HOST"), Some("listen.host"));
        assert_eq!(near("log.levle"), Some("log.level"));
    }

    #[test]
    fn a_far_or_huge_name_has_no_neighbour() {
        assert_eq!(near("database"), None);
        assert_eq!(near(""), None);
        assert_eq!(near(&"x".repeat(100_000)), None);
    }

    #[test]
    fn distances_are_edits() {
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"abc", b""), 3);
        assert_eq!(distance(&[b'x'; MAX_NAME], &[b'y'; MAX_NAME]), MAX_NAME);
    }

    #[test]
    fn foreign_names_are_escaped_and_cut() {
        assert_eq!(shown("a\u{1b}[2J"), "a\\u{1b}[2J");
        assert_eq!(shown(&"é".repeat(65)), format!("{}...", "é".repeat(64)));
    }

    #[test]
    fn the_same_problem_is_kept_once_and_their_number_is_bounded() {
        let mut problems = Problems::default();
        for at in 0..200 {
            problems.add(Source::Flag("--port"), "listen.port", format!("rule {}", at / 2));
        }
        assert_eq!(problems.list().len(), MAX_PROBLEMS);
        assert!(problems.to_string().ends_with(" more"), "{problems}");
    }
}
