//! Log lines on stderr: for a person at a terminal, for the journal, or one JSON object each.

use std::fmt::Display;
use std::io::Write;

use env_logger::fmt::Formatter;
use env_logger::{Builder, Target};
use log::{Level, LevelFilter, Record};

use crate::base::clock::{Now, rfc3339_into};
use crate::base::json::Json;
use crate::config::{self, Format};

/// Starts the log. `journal` tells whether stderr goes to systemd's journal.
pub fn start(settings: &config::Log, journal: bool) {
    let level = match settings.level {
        config::Level::Error => LevelFilter::Error,
        config::Level::Warn => LevelFilter::Warn,
        config::Level::Info => LevelFilter::Info,
        config::Level::Debug => LevelFilter::Debug,
        config::Level::Trace => LevelFilter::Trace,
    };
    // Libraries say at debug what they do with every header, keys included.
    let libraries = level.min(LevelFilter::Warn);
    let format = match settings.format {
        Format::Auto if journal => Format::Journal,
        Format::Auto => Format::Human,
        chosen => chosen,
    };
    let mut builder = Builder::new();
    builder.target(Target::Stderr).filter_level(libraries).filter_module("tetherlet", level);
    match format {
        Format::Journal => builder.format(journal_line),
        Format::Json => builder.format(json_line),
        Format::Auto | Format::Human => builder.format(human_line),
    };
    // A second start in one process keeps the first log.
    let _ = builder.try_init();
}

/// Whether file descriptor 2 is the journal's stream that `JOURNAL_STREAM` (`device:inode`) names.
pub fn is_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

fn stamp() -> String {
    let mut stamp = String::with_capacity(24);
    rfc3339_into(&mut stamp, Now::read().unix_ms);
    stamp
}

fn human_line(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    writeln!(out, "{} {:<5} {}", stamp(), record.level(), one_line(record.args()))
}

fn journal_line(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    let priority = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    writeln!(out, "<{priority}>{}", one_line(record.args()))
}

fn json_line(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    let mut json = Json::with_capacity(160);
    json.open_object();
    json.member("ts", &stamp());
    json.member("level", record.level().as_str());
    json.member("target", record.target());
    json.key("msg");
    json.string_from(record.args());
    json.close_object();
    writeln!(out, "{}", json.as_str())
}

/// A stranger's text must not begin a line of its own.
fn one_line(text: &dyn Display) -> String {
    text.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_cannot_forge_a_line() {
        assert_eq!(one_line(&"a\nb\r\u{1b}[0m"), "a b  [0m");
    }

    #[test]
    fn only_a_matching_stream_is_the_journal() {
        assert!(!is_journal(None));
        assert!(!is_journal(Some("1:2")));
        assert!(!is_journal(Some("x")));
    }
}
