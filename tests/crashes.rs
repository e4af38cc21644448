//! Past crashes, and the seeds of fuzzing: every file that is kept goes through its target once more.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "fuzz/src/targets/mod.rs"]
mod targets;

/// The files of a target; a folder that is missing or empty is a mistake.
fn kept(kind: &str, target: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let folder = root.join(kind).join(target);
    let entries = std::fs::read_dir(&folder);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a folder can be read to its end").path()).collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.sort();
    files
}

fn replay(kind: &str) {
    let mut failed = Vec::new();
    for (name, target) in targets::TARGETS {
        for file in kept(kind, name) {
            let bytes = std::fs::read(&file).expect("a kept input can be read");
            if catch_unwind(|| target(&bytes)).is_err() {
                failed.push(file);
            }
        }
    }
    assert!(failed.is_empty(), "these inputs fail, each with its message above: {failed:#?}");
}

#[test]
fn every_seed_passes_its_target() {
    replay("seeds");
}

#[test]
fn no_past_crash_comes_back() {
    replay("crashes");
}

#[test]
fn every_folder_belongs_to_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    for kind in ["seeds", "crashes"] {
        for entry in std::fs::read_dir(root.join(kind)).unwrap() {
            let name = entry.unwrap().file_name();
            let known = targets::TARGETS.iter().any(|(target, _)| name == *target);
            assert!(known, "{kind}/{} is nobody's", name.display());
        }
    }
}
