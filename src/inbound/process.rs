//! What the kernel tells about this process. Texts come from `/proc`; what is missing there is `None`.

use std::fs::File;
use std::io::Read;

use rustix::process::{Resource, getrlimit};

/// Bytes read of one file.
const FILE: u64 = 4096;

/// The figures that Prometheus' own clients tell of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Time of all processors, in hundredths of a second.
    pub cpu_cs: Option<u64>,
    /// Bytes of address space.
    pub virtual_bytes: Option<u64>,
    /// Bytes in RAM.
    pub resident_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// File descriptors in use.
    pub open_fds: Option<u64>,
    /// File descriptors that there may be.
    pub max_fds: Option<u64>,
}

impl Process {
    /// Asks the kernel.
    pub fn read() -> Self {
        Self {
            resident_bytes: resident_bytes(),
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::Nofile).current,
            ..Self::parse(&text("/proc/self/stat").unwrap_or_default())
        }
    }

    /// What `/proc/self/stat` tells, see `proc_pid_stat(5)`. It counts time in ticks, which are hundredths of a second in
    /// the kernel's interface on every machine this is built for.
    fn parse(stat: &str) -> Self {
        // The name stands in parentheses, with any letters in it. The field behind it is the third.
        let behind = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
        let field = |number: usize| -> Option<u64> {
            behind.split_ascii_whitespace().nth(number - 3)?.parse().ok()
        };
        let cpu = || field(14)?.checked_add(field(15)?);
        Self { cpu_cs: cpu(), virtual_bytes: field(23), threads: field(20), ..Self::default() }
    }
}

/// Bytes of this process that are in RAM.
pub fn resident_bytes() -> Option<u64> {
    resident(&text("/proc/self/status")?)
}

/// The line `VmRSS` of `/proc/self/status`: in kB, whatever the size of a page.
fn resident(status: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

fn open_fds() -> Option<u64> {
    // One of them is the directory's own.
    let entries = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(entries.saturating_sub(1))
}

fn text(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4097 (tether) let) S 1 4097 4097 0 -1 4194560 310 0 2 0 1234 66 0 0 20 0 3 0 \
        250000 5373952 560 18446744073709551615 1 1 0 0 0 0 0 4096 17474 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn the_figures_stand_behind_the_name() {
        let expected = Process {
            cpu_cs: Some(1300),
            virtual_bytes: Some(5_373_952),
            threads: Some(3),
            ..Process::default()
        };
        assert_eq!(Process::parse(STAT), expected);
    }

    #[test]
    fn what_is_missing_or_no_number_is_left_out() {
        assert_eq!(Process::parse(""), Process::default());
        assert_eq!(Process::parse("1 (a) S 1 2"), Process::default());
        let garbled = STAT.replace("1234", "many");
        assert_eq!(
            (Process::parse(&garbled).cpu_cs, Process::parse(&garbled).threads),
            (None, Some(3))
        );
        assert_eq!(resident("VmSize:\t 4 kB\nVmRSS:\tmany kB\n"), None);
    }

    #[test]
    fn resident_memory_is_told_in_bytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2148 kB\nRssAnon:\t 9 kB\n"), Some(2148 * 1024));
    }

    #[test]
    fn this_process_has_figures() {
        let process = Process::read();
        assert!(process.resident_bytes.unwrap() > 4096);
        assert!(process.virtual_bytes.unwrap() >= process.resident_bytes.unwrap());
        assert!(process.threads.unwrap() >= 1 && process.open_fds.unwrap() >= 3);
    }
}
