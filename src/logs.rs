//! Log lines on stderr: for a person at a terminal, for the journal, or one JSON object each.
//!
//! Writing never waits: the runtime thread writes too, and one terminal on hold or one full pipe would stop the agent.
//! A line that finds no room is lost, and the next one that does says how many were.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Stderr, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use env_logger::{Builder, Logger, Target};
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::net::{SendFlags, send};

use crate::base::clock::{Now, rfc3339_into};
use crate::base::json::Json;
use crate::config::{self, Format};
use crate::inbound::audit::AUDIT;

/// Bytes of a message, before they are escaped.
const MESSAGE: usize = 4096;
/// Bytes of a field.
const FIELD: usize = 256;
/// Bytes written at once: a pipe that has room takes so many without waiting (`pipe(7)`).
const PIECE: usize = 4096;

static LINES: Lines = Lines {
    level: AtomicU8::new(0),
    audit: AtomicBool::new(false),
    format: OnceLock::new(),
    logger: OnceLock::new(),
    out: Mutex::new(Out { way: Way::Careful(PIECE), rest: Vec::new(), lost: 0 }),
};

/// Starts the log. `journal` tells whether stderr goes to systemd's journal.
pub fn start(settings: &config::Log, journal: bool) {
    let format = match settings.format {
        Format::Auto if journal => Format::Journal,
        Format::Auto => Format::Human,
        chosen => chosen,
    };
    // A second start in one process keeps the first log.
    if LINES.format.set(format).is_ok() {
        LINES.out.lock().unwrap_or_else(PoisonError::into_inner).way = Way::to(&io::stderr());
        // It would hide for good what its own filter hides at the start.
        let logger = Builder::new()
            .filter_level(LevelFilter::Trace)
            .format(move |out, record| out.write_all(line(format, record).as_bytes()))
            .target(Target::Pipe(Box::new(Unhurried)))
            .build();
        let _ = LINES.logger.set(logger);
        let _ = log::set_logger(&LINES);
    }
    set(settings);
}

/// Puts other settings in force, but for the form of the lines.
pub fn set(settings: &config::Log) {
    let level = match settings.level {
        config::Level::Error => LevelFilter::Error,
        config::Level::Warn => LevelFilter::Warn,
        config::Level::Info => LevelFilter::Info,
        config::Level::Debug => LevelFilter::Debug,
        config::Level::Trace => LevelFilter::Trace,
    };
    LINES.level.store(level as u8, Ordering::Relaxed);
    LINES.audit.store(settings.audit, Ordering::Relaxed);
    log::set_max_level(level);
}

/// Whether file descriptor 2 is the journal's stream that `JOURNAL_STREAM` (`device:inode`) names.
pub fn is_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    fstat(io::stderr())
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// What is written, where, and how.
struct Lines {
    /// Of our own modules.
    level: AtomicU8,
    audit: AtomicBool,
    format: OnceLock<Format>,
    logger: OnceLock<Logger>,
    out: Mutex<Out>,
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = self.level.load(Ordering::Relaxed);
        match metadata.target() {
            AUDIT => self.audit.load(Ordering::Relaxed),
            target if target == "tetherlet" || target.starts_with("tetherlet::") => {
                metadata.level() as u8 <= level
            }
            // It warns of what strangers send, as often as they send it.
            target if target == "rustls" || target.starts_with("rustls::") => {
                metadata.level() as u8 <= level.min(LevelFilter::Error as u8)
            }
            // Libraries say at debug what they do with every header, keys included.
            _ => metadata.level() as u8 <= level.min(LevelFilter::Warn as u8),
        }
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata())
            && let Some(logger) = self.logger.get()
        {
            logger.log(record);
        }
    }

    fn flush(&self) {}
}

const LOST: &str = "tetherlet::logs";

/// Takes whole lines, and loses those that standard error has no room for.
struct Unhurried;

impl io::Write for Unhurried {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut out = LINES.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.put(line, |lost| {
            let args = format_args!("{lost} lines of the log are lost: nobody took them");
            let record = Record::builder().level(Level::Warn).target(LOST).args(args).build();
            self::line(LINES.format.get().copied().unwrap_or_default(), &record)
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error, and what it did not take.
struct Out {
    way: Way,
    /// Of a line that has begun.
    rest: Vec<u8>,
    /// Lines since the last one that was written.
    lost: usize,
}

impl Out {
    fn put(&mut self, line: &[u8], told: impl FnOnce(usize) -> String) {
        if self.lost > 0 && self.drain() {
            self.rest = told(self.lost).into_bytes();
            self.lost = 0;
        }
        if self.drain() {
            self.rest = line.to_vec();
            self.drain();
        } else {
            self.lost += 1;
        }
    }

    /// Writes what is left of a line. `false` when some still is.
    fn drain(&mut self) -> bool {
        let stderr = io::stderr();
        while !self.rest.is_empty() {
            let rest = self.rest.as_slice();
            let written = match &self.way {
                Way::Own(own) => rustix::io::write(own, rest),
                Way::Socket => send(&stderr, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
                Way::Careful(bytes) if has_room(stderr.as_fd()) => {
                    rustix::io::write(&stderr, &rest[..rest.len().min(*bytes)])
                }
                Way::Careful(_) => return false,
            };
            match written {
                Ok(count) => drop(self.rest.drain(..count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return false,
                // Nobody will ever read it.
                Err(_) => self.rest.clear(),
            }
        }
        true
    }
}

/// How to write to standard error without waiting.
enum Way {
    /// A pipe or terminal, opened a second time: what is set for the one we were given is set for the shell too.
    Own(OwnedFd),
    Socket,
    /// A file, or what another user's process made and this one may not open again, as in a container: a look before
    /// each so many bytes, for which there is room then.
    Careful(usize),
}

impl Way {
    fn to(stderr: &Stderr) -> Self {
        let kind = fstat(stderr).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            Ok(FileType::Socket) => Self::Socket,
            Ok(kind @ (FileType::Fifo | FileType::CharacterDevice)) => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                // A terminal says that it has room when it has any.
                let bytes = if kind == FileType::Fifo { PIECE } else { 1 };
                open("/proc/self/fd/2", flags, Mode::empty())
                    .map_or(Self::Careful(bytes), Self::Own)
            }
            _ => Self::Careful(PIECE),
        }
    }
}

fn has_room(out: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(out, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&now)).is_ok_and(|ready| ready > 0)
}

fn line(format: Format, record: &Record<'_>) -> String {
    let mut line = match format {
        Format::Json => json_line(record),
        Format::Journal => {
            let priority = match record.level() {
                Level::Error => 3,
                Level::Warn => 4,
                Level::Info => 6,
                Level::Debug | Level::Trace => 7,
            };
            format!("<{priority}>{}", Told(record))
        }
        Format::Auto | Format::Human => {
            format!("{} {:<5} {}", stamp(), record.level(), Told(record))
        }
    };
    line.push('\n');
    line
}

fn stamp() -> String {
    let mut stamp = String::with_capacity(24);
    rfc3339_into(&mut stamp, Now::read().unix_ms);
    stamp
}

/// Message and fields of a record, on one line whatever is in them: a stranger's text must not begin one of its own.
struct Told<'r>(&'r Record<'r>);

impl Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(record) = self;
        if record.target() == AUDIT {
            f.write_str("audit: ")?;
        }
        for c in cut(&record.args().to_string(), MESSAGE).chars() {
            f.write_char(if c.is_control() { ' ' } else { c })?;
        }
        fields(record, |name, value| {
            let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '=');
            if !value.is_empty() && value.chars().all(plain) {
                write!(f, " {name}={value}")
            } else {
                write!(f, " {name}={value:?}")
            }
        })
    }
}

fn json_line(record: &Record<'_>) -> String {
    let mut json = Json::with_capacity(160);
    json.open_object();
    json.member("ts", &stamp());
    json.member("level", record.level().as_str());
    json.member("target", record.target());
    json.member("msg", cut(&record.args().to_string(), MESSAGE));
    let _ = fields(record, |name, value| {
        json.member(name, value);
        Ok(())
    });
    json.close_object();
    json.into_string()
}

/// Hands on the fields of a record, each cut to its length.
fn fields(record: &Record<'_>, each: impl FnMut(&str, &str) -> fmt::Result) -> fmt::Result {
    struct Visitor<F>(F);
    impl<'r, F: FnMut(&str, &str) -> fmt::Result> VisitSource<'r> for Visitor<F> {
        fn visit_pair(&mut self, key: Key<'r>, value: Value<'r>) -> Result<(), kv::Error> {
            (self.0)(key.as_str(), cut(&value.to_string(), FIELD)).map_err(kv::Error::from)
        }
    }
    record.key_values().visit(&mut Visitor(each)).map_err(|_| fmt::Error)
}

/// At most `bytes` of a text.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(format: Format, message: &str, fields: &[(&str, &str)]) -> String {
        let args = format_args!("{message}");
        let target = if fields.is_empty() { "tetherlet::x" } else { AUDIT };
        let mut record = Record::builder();
        let record =
            record.level(Level::Info).target(target).args(args).key_values(&fields).build();
        line(format, &record)
    }

    #[test]
    fn a_stranger_cannot_forge_a_line() {
        assert_eq!(told(Format::Journal, "a\nb\r\u{1b}[0m", &[]), "<6>a b  [0m\n");
        let fields = [("caller", "x\n<6>audit: allowed"), ("peer", "::1 task=\"y\""), ("path", "")];
        assert_eq!(
            told(Format::Journal, "refused", &fields),
            "<6>audit: refused caller=\"x\\n<6>audit: allowed\" peer=\"::1 task=\\\"y\\\"\" path=\"\"\n"
        );
        let json = told(Format::Json, "a\nb", &fields);
        assert_eq!(json.matches('\n').count(), 1);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["target"], &json["msg"]), (&"audit".into(), &"a\nb".into()));
        assert_eq!(json["caller"], fields[0].1);
    }

    #[test]
    fn what_comes_from_outside_is_cut_between_characters() {
        let long = "é".repeat(MESSAGE);
        assert_eq!(told(Format::Journal, &long, &[]).len(), 3 + MESSAGE + 1);
        let field = told(Format::Journal, "m", &[("name", &format!("x{long}"))]);
        assert_eq!(field.matches('é').count(), FIELD / 2 - 1);
    }

    #[test]
    fn only_a_matching_stream_is_the_journal() {
        assert!(!is_journal(None));
        assert!(!is_journal(Some("1:2")));
        assert!(!is_journal(Some("x")));
    }
}
