//! Reports how the machine is doing: what a question for it looks like, and the answer to it.
//!
//! Reads nothing itself: texts of `/proc` and `/sys` come in as they were found, a file that was
//! not there as an empty text. A fact that cannot be made out is left out; no reading is an error.
//! Forms of the texts: `proc(5)` and the kernel's `sysfs-thermal` documentation.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::base::json::Json;

/// Raw texts as read from the system.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// `/proc/uptime`
    pub uptime: String,
    /// `/proc/loadavg`
    pub loadavg: String,
    /// `/proc/meminfo`
    pub meminfo: String,
    /// Processors in use; 0 when unknown.
    pub cpuinfo_cores: usize,
    /// Type and temperature in millidegrees of each thermal zone; the first 8 count.
    pub thermal: Vec<(String, String)>,
    /// From the device tree, where it ends in NUL, or from DMI.
    pub model: String,
    pub hostname: String,
    /// The kernel's release.
    pub kernel: String,
    /// The first 32 count.
    pub addresses: Vec<IpAddr>,
    pub disk: Option<Disk>,
}

/// The file system that holds the agent's files, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub total: u64,
    pub free: u64,
}

/// Whether the whole message asks for the report, or for a fact that the report holds.
///
/// Known subjects count alone (`uptime`), after a request (`show me the disk usage`) and after a
/// question that points at this machine (`what is the ip address of the device?`). `what is
/// uptime?` or `what is an ip address?` ask for knowledge and are left to a model.
pub fn claim(message: &str) -> bool {
    let message = message.trim();
    if message.len() > QUESTION_BYTES {
        return false;
    }
    let words = plain_words(message);
    let asked = words.strip_prefix("please ").unwrap_or(&words);
    let asked = asked.strip_suffix(" please").unwrap_or(asked);
    if SENTENCES.contains(&asked) {
        return true;
    }
    // Either end may be missing; both tables have the longer of two similar phrases first.
    let about = TAILS.iter().find_map(|tail| asked.strip_suffix(tail)).unwrap_or(asked);
    if let Some(subject) = QUESTIONS.iter().find_map(|start| about.strip_prefix(start)) {
        // Without one of these the question is about the word, not about this machine.
        return POINTERS
            .iter()
            .find_map(|pointer| subject.strip_prefix(pointer))
            .is_some_and(|subject| SUBJECTS.contains(&subject));
    }
    let subject = REQUESTS.iter().find_map(|start| about.strip_prefix(start)).unwrap_or(about);
    let subject =
        POINTERS.iter().find_map(|pointer| subject.strip_prefix(pointer)).unwrap_or(subject);
    SUBJECTS.contains(&subject)
}

/// Picks the facts out of the readings.
pub fn report(readings: &Readings) -> Report {
    let total = meminfo_bytes(&readings.meminfo, "MemTotal:");
    let available = meminfo_bytes(&readings.meminfo, "MemAvailable:");
    let sane_disk = |disk: &Disk| disk.total > 0 && disk.free <= disk.total;
    Report {
        model: line(&readings.model),
        hostname: line(&readings.hostname),
        kernel: line(&readings.kernel),
        uptime_s: uptime_s(&readings.uptime),
        load: load(&readings.loadavg),
        cpu_count: u64::try_from(readings.cpuinfo_cores).ok().filter(|count| *count > 0),
        memory_total_bytes: total,
        memory_available_bytes: available
            .filter(|available| total.is_none_or(|total| *available <= total)),
        disk: readings.disk.filter(sane_disk),
        cpu_temperature_mc: cpu_temperature_mc(&readings.thermal),
        addresses: readings.addresses.iter().copied().take(ADDRESSES).collect(),
    }
}

/// What is known about the machine.
#[derive(Clone, Debug)]
pub struct Report {
    model: Option<String>,
    hostname: Option<String>,
    kernel: Option<String>,
    uptime_s: Option<u64>,
    /// Over 1, 5 and 15 minutes.
    load: Option<[f64; 3]>,
    cpu_count: Option<u64>,
    memory_total_bytes: Option<u64>,
    memory_available_bytes: Option<u64>,
    disk: Option<Disk>,
    /// Thousandths of a degree Celsius.
    cpu_temperature_mc: Option<i32>,
    addresses: Vec<IpAddr>,
}

impl Report {
    /// For people: one fact a line, no line break at the end.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(512);
        for (name, value) in
            [("model", &self.model), ("hostname", &self.hostname), ("kernel", &self.kernel)]
        {
            if let Some(value) = value {
                let _ = writeln!(text, "{name}: {value}");
            }
        }
        if let Some(uptime_s) = self.uptime_s {
            text.push_str("uptime: ");
            push_duration(&mut text, uptime_s);
            text.push('\n');
        }
        if let Some([one, five, fifteen]) = self.load {
            let _ = writeln!(text, "load: {one:.2} {five:.2} {fifteen:.2} (1, 5, 15 min)");
        }
        if let Some(count) = self.cpu_count {
            let _ = writeln!(text, "cpu count: {count}");
        }
        push_share(
            &mut text,
            "memory",
            "available",
            self.memory_available_bytes,
            self.memory_total_bytes,
        );
        if let Some(Disk { total, free }) = self.disk {
            push_share(&mut text, "disk", "free", Some(free), Some(total));
        }
        if let Some(mc) = self.cpu_temperature_mc {
            let _ = writeln!(text, "cpu temperature: {:.1} °C", f64::from(mc) / 1000.0);
        }
        for (at, addr) in self.addresses.iter().enumerate() {
            let _ = write!(text, "{}{addr}", if at == 0 { "addresses: " } else { ", " });
        }
        text.truncate(text.trim_end().len());
        if text.is_empty() {
            text.push_str("nothing is known about this device");
        }
        text
    }

    /// For programs: a JSON object with a member for each known fact; `addresses` is always there.
    pub fn json(&self) -> String {
        let mut json = Json::with_capacity(512);
        json.open_object();
        for (name, value) in
            [("model", &self.model), ("hostname", &self.hostname), ("kernel", &self.kernel)]
        {
            if let Some(value) = value {
                json.member(name, value);
            }
        }
        for (name, value) in [
            ("uptime_s", self.uptime_s),
            ("cpu_count", self.cpu_count),
            ("memory_total_bytes", self.memory_total_bytes),
            ("memory_available_bytes", self.memory_available_bytes),
            ("disk_total_bytes", self.disk.map(|disk| disk.total)),
            ("disk_free_bytes", self.disk.map(|disk| disk.free)),
        ] {
            if let Some(value) = value {
                json.key(name);
                json.number(value);
            }
        }
        for (at, name) in ["load_1m", "load_5m", "load_15m"].into_iter().enumerate() {
            if let Some(value) = self.load.and_then(|load| load.get(at).copied()) {
                json.key(name);
                json.float(value);
            }
        }
        if let Some(mc) = self.cpu_temperature_mc {
            json.key("cpu_temperature_c");
            json.float(f64::from(mc) / 1000.0);
        }
        json.key("addresses");
        json.open_array();
        for addr in &self.addresses {
            json.string_from(addr);
        }
        json.close_array();
        json.close_object();
        json.into_string()
    }
}

/// No known question is longer.
const QUESTION_BYTES: usize = 120;
const ADDRESSES: usize = 32;
const ZONES: usize = 8;
/// Bytes kept of a one-line fact.
const LINE_BYTES: usize = 128;
const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

const SENTENCES: &[&str] = &[
    "how is the device",
    "how is the device doing",
    "how's the device",
    "how's the device doing",
    "how is the system",
    "how is the system doing",
    "how is the box",
    "how is the box doing",
    "how is the machine",
    "how is the machine doing",
    "how is the host",
    "how is your device",
    "how hot is the cpu",
    "how hot is the device",
    "how warm is the cpu",
    "how warm is the device",
    "how long has the device been up",
    "how long has the device been running",
    "how long has the system been up",
    "how long has the system been running",
    "how long have you been up",
    "how long have you been running",
    "how much memory is free",
    "how much memory is left",
    "how much memory is available",
    "how much memory is used",
    "how much ram is free",
    "how much ram is available",
    "how much disk space is free",
    "how much disk space is left",
    "how much disk space is available",
    "how much disk is free",
];

const REQUESTS: &[&str] = &[
    "show me ", "show ", "tell me ", "give me ", "get ", "check ", "print ", "report ", "display ",
];

const QUESTIONS: &[&str] = &["what is ", "what's ", "what are ", "whats ", "how is ", "how's "];

const POINTERS: &[&str] = &[
    "the current ",
    "your current ",
    "the device's ",
    "this device's ",
    "the system's ",
    "the ",
    "your ",
    "this ",
    "current ",
];

const TAILS: &[&str] = &[
    " of the device",
    " of this device",
    " of the box",
    " of this box",
    " of the system",
    " of this system",
    " of the machine",
    " of this machine",
    " on the device",
    " on this device",
    " on the box",
    " on this box",
    " right now",
    " now",
];

const SUBJECTS: &[&str] = &[
    "device status",
    "device report",
    "device info",
    "device information",
    "device health",
    "device state",
    "device temperature",
    "device uptime",
    "device memory",
    "system status",
    "system report",
    "system info",
    "system information",
    "system health",
    "system state",
    "system load",
    "system uptime",
    "system temperature",
    "host status",
    "host info",
    "box status",
    "machine status",
    "machine info",
    "status of the device",
    "status of the system",
    "uptime",
    "load average",
    "load averages",
    "cpu load",
    "cpu usage",
    "cpu temperature",
    "cpu temp",
    "cpu count",
    "cpu cores",
    "soc temperature",
    "core temperature",
    "board temperature",
    "disk space",
    "disk usage",
    "disk free",
    "free disk",
    "free disk space",
    "available disk space",
    "memory usage",
    "memory status",
    "memory free",
    "free memory",
    "available memory",
    "ram usage",
    "free ram",
    "available ram",
    "ip",
    "ips",
    "ip address",
    "ip addresses",
    "local ip",
    "local ip address",
    "local ip addresses",
    "lan ip",
    "lan ip address",
    "network addresses",
    "hostname",
    "host name",
    "kernel version",
    "kernel release",
    "device model",
    "board model",
];

/// Lower-case words with one blank between, typewriter apostrophes, no punctuation at a word's end.
fn plain_words(message: &str) -> String {
    let mut words = String::with_capacity(message.len());
    for word in message.split_whitespace() {
        let word = word.trim_end_matches(['.', ',', '?', '!', ';', ':']);
        if word.is_empty() {
            continue;
        }
        if !words.is_empty() {
            words.push(' ');
        }
        let typed = |char: char| if char == '’' { '\'' } else { char.to_ascii_lowercase() };
        words.extend(word.chars().map(typed));
    }
    words
}

/// The first line without control characters, trimmed and cut to [`LINE_BYTES`].
fn line(text: &str) -> Option<String> {
    let first = text.trim_start_matches(['\0', '\n']).lines().next()?;
    let mut line = String::new();
    for char in first.trim().chars().filter(|char| !char.is_control()) {
        if line.len() + char.len_utf8() > LINE_BYTES {
            break;
        }
        line.push(char);
    }
    line.truncate(line.trim_end().len());
    Some(line).filter(|line| !line.is_empty())
}

/// `/proc/uptime` begins with seconds and hundredths.
fn uptime_s(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.split('.').next()?.parse().ok()
}

fn load(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_whitespace();
    let mut next = || {
        let value: f64 = words.next()?.parse().ok()?;
        // Also keeps out what `parse` takes and a load cannot be: `inf` and `nan`.
        (0.0..1e6).contains(&value).then_some(value)
    };
    Some([next()?, next()?, next()?])
}

/// A line such as `MemTotal:        3884332 kB`, in bytes.
fn meminfo_bytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = value.split_whitespace();
    let amount: u64 = words.next()?.parse().ok()?;
    (words.next() == Some("kB")).then(|| amount.checked_mul(1024))?
}

/// The first plausible zone that is named after the processor, else the first plausible one.
fn cpu_temperature_mc(zones: &[(String, String)]) -> Option<i32> {
    let mut other = None;
    for (kind, temperature) in zones.iter().take(ZONES) {
        let Ok(mc) = temperature.trim().parse::<i32>() else { continue };
        if !(-40_000..=150_000).contains(&mc) {
            continue;
        }
        let kind = kind.to_ascii_lowercase();
        if ["cpu", "soc", "x86_pkg_temp"].iter().any(|name| kind.contains(name)) {
            return Some(mc);
        }
        other = other.or(Some(mc));
    }
    other
}

/// Days, hours and minutes from the largest that is not zero; seconds only below a minute.
fn push_duration(text: &mut String, seconds: u64) {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let _ = match (days, hours, minutes) {
        (0, 0, 0) => write!(text, "{seconds} s"),
        (0, 0, _) => write!(text, "{minutes} min"),
        (0, _, _) => write!(text, "{hours} h {minutes} min"),
        _ => write!(text, "{days} d {hours} h {minutes} min"),
    };
}

/// `memory: 1.2 GiB of 3.7 GiB available`, or what is known of it.
fn push_share(text: &mut String, name: &str, state: &str, part: Option<u64>, total: Option<u64>) {
    match (part, total) {
        (Some(part), Some(total)) => {
            let _ = writeln!(text, "{name}: {} of {} {state}", size(part), size(total));
        }
        (Some(part), None) => {
            let _ = writeln!(text, "{name}: {} {state}", size(part));
        }
        (None, Some(total)) => {
            let _ = writeln!(text, "{name}: {}", size(total));
        }
        (None, None) => {}
    }
}

/// Whole MiB below one GiB, tenths of a GiB from there on.
fn size(bytes: u64) -> String {
    if bytes < GIB {
        return format!("{} MiB", bytes / MIB);
    }
    let tenths = bytes % GIB * 10 / GIB;
    format!("{}.{tenths} GiB", bytes / GIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pi() -> Readings {
        let zone = |kind: &str, mc: &str| (kind.to_owned(), mc.to_owned());
        Readings {
            uptime: "273935.18 1049843.21\n".to_owned(),
            loadavg: "0.52 0.58 0.59 1/214 5120\n".to_owned(),
            meminfo: "MemTotal:        3884332 kB\nMemFree:          210548 kB\n\
                      MemAvailable:     812344 kB\n"
                .to_owned(),
            cpuinfo_cores: 4,
            thermal: vec![zone("gpu-thermal\n", "51000\n"), zone("cpu-thermal\n", "48312\n")],
            model: "Raspberry Pi 4 Model B Rev 1.4\0".to_owned(),
            hostname: "pi\n".to_owned(),
            kernel: "6.6.31+rpt-rpi-v8\n".to_owned(),
            addresses: vec!["192.168.1.23".parse().unwrap(), "fd55::aa".parse().unwrap()],
            disk: Some(Disk { total: 62_534_000_000, free: 21_600_000_000 }),
        }
    }

    #[test]
    fn a_report_has_one_fact_a_line() {
        let expected = "model: Raspberry Pi 4 Model B Rev 1.4\n\
                        hostname: pi\n\
                        kernel: 6.6.31+rpt-rpi-v8\n\
                        uptime: 3 d 4 h 5 min\n\
                        load: 0.52 0.58 0.59 (1, 5, 15 min)\n\
                        cpu count: 4\n\
                        memory: 793 MiB of 3.7 GiB available\n\
                        disk: 20.1 GiB of 58.2 GiB free\n\
                        cpu temperature: 48.3 °C\n\
                        addresses: 192.168.1.23, fd55::aa";
        assert_eq!(report(&pi()).text(), expected);
    }

    #[test]
    fn the_object_has_stable_members() {
        let json: serde_json::Value = serde_json::from_str(&report(&pi()).json()).unwrap();
        let expected = serde_json::json!({
            "model": "Raspberry Pi 4 Model B Rev 1.4",
            "hostname": "pi",
            "kernel": "6.6.31+rpt-rpi-v8",
            "uptime_s": 273_935,
            "cpu_count": 4,
            "memory_total_bytes": 3_977_555_968_u64,
            "memory_available_bytes": 831_840_256_u64,
            "disk_total_bytes": 62_534_000_000_u64,
            "disk_free_bytes": 21_600_000_000_u64,
            "load_1m": 0.52,
            "load_5m": 0.58,
            "load_15m": 0.59,
            "cpu_temperature_c": 48.312,
            "addresses": ["192.168.1.23", "fd55::aa"],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_machine_that_tells_nothing_gets_a_short_report() {
        let report = report(&Readings::default());
        assert_eq!(report.text(), "nothing is known about this device");
        assert_eq!(report.json(), r#"{"addresses":[]}"#);
    }

    #[test]
    fn malformed_readings_are_left_out() {
        let broken = Readings {
            uptime: "-1.5 up".to_owned(),
            loadavg: "inf nan 1".to_owned(),
            meminfo: "MemTotal: 99999999999999999999 kB\nMemAvailable: 5\n".to_owned(),
            thermal: vec![(String::new(), "hot".to_owned()), ("cpu".to_owned(), String::new())],
            model: "\0\0\n".to_owned(),
            hostname: "\u{1b}\u{7}".to_owned(),
            disk: Some(Disk { total: 1, free: 2 }),
            ..Readings::default()
        };
        assert_eq!(report(&broken).json(), r#"{"addresses":[]}"#);
        let huge = Readings {
            meminfo: format!("MemTotal: {} kB\n", u64::MAX),
            uptime: u64::MAX.to_string(),
            disk: Some(Disk { total: u64::MAX, free: u64::MAX }),
            ..Readings::default()
        };
        let text = report(&huge).text();
        assert!(text.ends_with("disk: 17179869183.9 GiB of 17179869183.9 GiB free"), "{text}");
    }

    #[test]
    fn long_and_hostile_lines_are_cut_and_cleaned() {
        let long = Readings { hostname: "é\u{1b}".repeat(200), ..Readings::default() };
        assert_eq!(report(&long).hostname, Some("é".repeat(64)));
    }

    #[test]
    fn memory_without_the_available_part_is_the_total_alone() {
        let old = Readings { meminfo: "MemTotal: 61440 kB\n".to_owned(), ..Readings::default() };
        assert_eq!(report(&old).text(), "memory: 60 MiB");
    }

    #[test]
    fn an_uptime_begins_with_its_largest_part() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3600, "1 h 0 min"),
            (86_400, "1 d 0 h 0 min"),
            (273_900, "3 d 4 h 5 min"),
        ] {
            let mut text = String::new();
            push_duration(&mut text, seconds);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn the_processor_zone_is_preferred_when_plausible() {
        let zones = |list: &[(&str, &str)]| {
            let own = |(kind, mc): &(&str, &str)| ((*kind).to_owned(), (*mc).to_owned());
            cpu_temperature_mc(&list.iter().map(own).collect::<Vec<_>>())
        };
        assert_eq!(zones(&[("acpitz", "27800"), ("x86_pkg_temp", "45000")]), Some(45_000));
        assert_eq!(zones(&[("wifi", "33000"), ("SoC-thermal", "-1500")]), Some(-1500));
        assert_eq!(zones(&[("acpitz", "27800"), ("cpu", "-274000")]), Some(27_800));
        assert_eq!(zones(&[("acpitz", "200000"), ("nvme", "31000")]), Some(31_000));
        assert_eq!(zones(&[("cpu", "99999999999")]), None);
        let mut nine = vec![("battery", "x"); 8];
        nine.push(("cpu", "40000"));
        assert_eq!(zones(&nine), None);
    }

    #[test]
    fn questions_for_the_device_are_claimed() {
        for message in [
            "device status",
            "Device report.",
            "system status, please",
            "how is the device?",
            "How’s the device doing?",
            "uptime",
            "UPTIME?",
            "cpu temperature",
            "what is the cpu temperature?",
            "what's your uptime",
            "disk space",
            "show me the disk usage",
            "memory usage",
            "ip address",
            "Please tell me the IP address of the device!",
            "what is the load average right now?",
            "how much memory is free?",
            " system   info ",
            "get hostname",
            "please report device status",
        ] {
            assert!(claim(message), "{message}");
        }
    }

    #[test]
    fn prose_is_left_to_others() {
        for message in [
            "",
            "please",
            "?",
            "what is uptime?",
            "what is an ip address?",
            "what is my ip address?",
            "what is load average",
            "explain memory usage in rust",
            "memory usage of firefox",
            "memory",
            "temperature",
            "what is the temperature in Paris?",
            "write a system status page",
            "how is the weather?",
            "how are you?",
            "device status of the printer in room 5",
            "the",
            "show me",
            "the uptime of our service was bad, why?",
        ] {
            assert!(!claim(message), "{message}");
        }
        assert!(!claim(&"uptime ".repeat(50_000)));
    }
}
