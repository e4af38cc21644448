//! What plays the scripts of the conformance kits (`tests/conformance/run`) is in no program that anyone runs.

#![cfg(not(feature = "conformance"))]
#![expect(clippy::unwrap_used, reason = "a failed read is a failed test")]

use std::path::Path;

fn source(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_program_holds_no_script() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_tetherlet")).unwrap();
    let script = source("src/engine/conformance.rs");
    for text in ["tck-complete-task", "tck-stream-", "Hello from TCK", "CONFORMANCE_KIT"] {
        let there = script.contains(text) || source("src/daemon.rs").contains(text);
        assert!(there, "{text} is not what to look for any more");
        let found = program.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!found, "{text} is in the program");
    }
}

#[test]
fn scripts_are_off_unless_asked_for_and_never_in_a_release() {
    let manifest = source("Cargo.toml");
    let features = manifest.split("[features]").nth(1).unwrap().split("\n[").next().unwrap();
    let naming: Vec<&str> = features
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains("conformance"))
        .collect();
    assert_eq!(naming, ["conformance = []"], "no other feature brings it along");
    let guard = "#[cfg(not(debug_assertions))]\ncompile_error!";
    assert!(source("src/engine/conformance.rs").contains(guard));
}
