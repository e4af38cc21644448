//! What an operator writes and what the kernel tells: configuration, names, URLs, addresses, readings.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use tetherlet::base::limits::{CONNECTIONS, QUEUE, RELAYS, TASKS};
use tetherlet::base::name::{auto_name, normal_url};
use tetherlet::base::net::{lan_ipv4, local_addresses};
use tetherlet::config::keys::KEYS;
use tetherlet::config::problems::{MAX_PROBLEMS, Source};
use tetherlet::config::url::{Url, is_host, is_private};
use tetherlet::config::{Inputs, Loaded, load};
use tetherlet::skills::device::{Disk, Readings, claim, report};

use super::{Bytes, must_be_json};

/// A folder of one thread, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let thread = format!("{:?}", std::thread::current().id());
        let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
        let name = format!("tetherlet-fuzz-{}-{thread}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file is loaded within all ceilings, or refused with problems that stand in it, one a line.
pub fn config(input: &[u8]) {
    thread_local!(static FOLDER: Folder = Folder::new());
    let path = FOLDER.with(|folder| folder.0.join("tetherlet.toml"));
    std::fs::write(&path, input).expect("the folder for temporary files can be written");
    let inputs = Inputs {
        file: Some(&path),
        env: &|_| None,
        env_names: &[],
        flags: &[],
        root: true,
        etc: Path::new("/nonexistent"),
    };
    match load(&inputs) {
        Ok(loaded) => check_loaded(&loaded),
        Err(problems) => {
            let list = problems.list();
            assert!((1..=MAX_PROBLEMS).contains(&list.len()));
            let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
            for problem in list {
                assert!(!problem.rule.is_empty(), "{problems}");
                let Source::File { line, column, .. } = problem.source else { continue };
                if line > 0 {
                    assert!(line <= lines.len(), "{problem} is not in the file");
                    let length = String::from_utf8_lossy(lines[line - 1]).chars().count();
                    assert!((1..=length + 1).contains(&column), "{problem} is not in its line");
                }
            }
            let text = problems.to_string();
            let rows = list.len() + usize::from(text.contains("\nand "));
            assert_eq!(text.lines().count(), rows, "one problem a line: {text}");
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        }
    }
}

fn check_loaded(loaded: &Loaded) {
    let (limits, relay) = (&loaded.config.limits, &loaded.config.relay);
    assert!(loaded.settings.len() >= KEYS.len());
    assert!(limits.connections <= CONNECTIONS && limits.tasks <= TASKS);
    assert!((1..=RELAYS).contains(&relay.max) && relay.queue <= QUEUE);
    assert!(relay.reply_bytes <= limits.task_bytes());
    assert!(limits.streams <= limits.connections && limits.json_depth > 0);
    assert!(limits.body_bytes * 3 <= limits.in_flight_bytes);
}

/// The first line is a URL; then host name, folder and process id.
pub fn name(input: &[u8]) {
    let mut bytes = Bytes(input);
    let url = bytes.text(b'\n');
    match normal_url(&url) {
        Ok(normal) => {
            assert!(normal.starts_with("http://") || normal.starts_with("https://"), "{normal}");
            assert!(normal.len() <= 2048 && normal.bytes().all(|b| b.is_ascii_graphic()));
            assert!(!normal.ends_with('/') && !normal.contains(['?', '#']), "{normal}");
            assert_eq!(normal_url(&normal).as_ref(), Ok(&normal), "a normal url stays as it is");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Some(parts) = Url::read(&url) {
        assert!(is_host(parts.host) && url.contains(parts.host) && url.contains(parts.path));
    }
    let _ = is_private(&url);
    let (host, folder) = (bytes.text(b'\n'), bytes.text(b'\n'));
    let pid = u32::from(bytes.byte()) << 8 | u32::from(bytes.byte());
    let name = auto_name(&host, &folder, pid);
    assert!(name.len() <= 63 && name.ends_with(&format!("{pid:04x}")), "{name}");
    assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')), "{name}");
    assert!(!name.starts_with('-') && !name.contains("--"), "{name}");
}

/// Three files of the kernel, NUL between them: only addresses that can be one of this machine's.
pub fn net(input: &[u8]) {
    let mut bytes = Bytes(input);
    let all = local_addresses(&bytes.text(0), &bytes.text(0), &bytes.text(0));
    assert!(all.len() <= 32);
    let is_v6 = |addr: &IpAddr| addr.is_ipv6();
    assert!(all.is_sorted_by_key(|local| is_v6(&local.addr)), "IPv4 stands first");
    for (at, local) in all.iter().enumerate() {
        assert!(!local.addr.is_loopback());
        assert!(local.interface.as_ref().is_none_or(|name| (1..=15).contains(&name.len())));
        assert!(!all[..at].contains(local), "{local:?} twice");
    }
    if let Some(lan) = lan_ipv4(&all) {
        assert!(!lan.is_loopback() && !lan.is_link_local() && !lan.is_unspecified());
        assert!(all.iter().any(|local| local.addr == IpAddr::V4(lan)));
    }
}

/// A question and what was read of the machine, NUL between them: reports are lines of text, and JSON.
pub fn device(input: &[u8]) {
    let mut bytes = Bytes(input);
    let message = bytes.text(0);
    if claim(&message) {
        assert!(message.trim().len() <= 120, "{message}");
    }
    let mut next = || bytes.text(0);
    let readings = Readings {
        uptime: next(),
        loadavg: next(),
        meminfo: next(),
        cpuinfo_cores: next().len(),
        thermal: vec![(next(), next()), (next(), next())],
        model: next(),
        hostname: next(),
        kernel: next(),
        addresses: next().split_whitespace().filter_map(|word| word.parse().ok()).collect(),
        disk: Some(Disk {
            total: next().parse().unwrap_or(0),
            free: next().parse().unwrap_or(u64::MAX),
        }),
    };
    let report = report(&readings);
    let text = report.text();
    assert!(!text.is_empty() && !text.ends_with('\n'));
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    assert!(text.lines().count() <= 11, "one fact a line: {text}");
    must_be_json(&report.json());
}
