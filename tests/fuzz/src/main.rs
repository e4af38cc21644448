//! One fuzzing program for all targets: libFuzzer around the function that `FUZZ_TARGET` names.

#![no_main]

use std::sync::OnceLock;

mod targets;

static CHOSEN: OnceLock<targets::Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var_os("FUZZ_TARGET").unwrap_or_default();
        let known = targets::TARGETS.iter().find(|(known, _)| name == *known);
        let Some((_, target)) = known else {
            let names: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
            panic!("FUZZ_TARGET must be one of: {}", names.join(" "));
        };
        let _ = CHOSEN.set(*target);
    },
    |bytes: &[u8]| {
        if let Some(target) = CHOSEN.get() {
            target(bytes);
        }
    }
);
