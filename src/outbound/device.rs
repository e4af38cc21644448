//! Reads the state of this machine from `/proc` and `/sys`; what it means is `skills::device`'s.

use std::fs::File;
use std::io::Read;

use crate::base::net::{Local, local_addresses};
use crate::skills::device::{Disk, Readings};

/// Bytes read of one file.
const FILE: u64 = 64 * 1024;
/// Thermal zones read.
const ZONES: usize = 8;

/// Reads everything a device report needs; what is missing stays empty.
pub fn read() -> Readings {
    let mut thermal = Vec::new();
    for zone in 0..ZONES {
        let folder = format!("/sys/class/thermal/thermal_zone{zone}");
        let temperature = text(&format!("{folder}/temp"));
        if temperature.is_empty() {
            break;
        }
        thermal.push((text(&format!("{folder}/type")), temperature));
    }
    let model = ["/proc/device-tree/model", "/sys/class/dmi/id/product_name"]
        .into_iter()
        .map(text)
        .find(|text| !text.trim().is_empty())
        .unwrap_or_default();
    let disk = rustix::fs::statvfs("/").ok().map(|fs| Disk {
        total: fs.f_blocks.saturating_mul(fs.f_frsize),
        free: fs.f_bavail.saturating_mul(fs.f_frsize),
    });
    Readings {
        uptime: text("/proc/uptime"),
        loadavg: text("/proc/loadavg"),
        meminfo: text("/proc/meminfo"),
        cpuinfo_cores: std::thread::available_parallelism().map_or(0, usize::from),
        thermal,
        model,
        hostname: hostname(),
        kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
        addresses: addresses().into_iter().map(|local| local.addr).collect(),
        disk,
    }
}

/// The machine's name, as the kernel has it.
pub fn hostname() -> String {
    text("/proc/sys/kernel/hostname").trim().to_owned()
}

/// The machine's addresses.
pub fn addresses() -> Vec<Local> {
    local_addresses(
        &text("/proc/net/fib_trie"),
        &text("/proc/net/route"),
        &text("/proc/net/if_inet6"),
    )
}

fn text(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // Some of these files fail in the middle; what came before is used.
        let _ = file.take(FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
