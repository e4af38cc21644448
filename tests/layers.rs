//! The layers of `src/lib.rs`: a module uses what stands above it, never what stands below or beside it.

#![expect(clippy::unwrap_used, reason = "a failed read is a failed test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The layers, lowest first, as the crate's documentation lists them.
const LAYERS: &[&[&str]] = &[
    &["base"],
    &["a2a", "config", "llm", "skills"],
    &["work"],
    &["engine"],
    &["inbound", "outbound"],
    &["bridge", "logs"],
    &["daemon"],
    &["cli"],
    &["main", "lib"],
];

fn layer(module: &str) -> usize {
    LAYERS.iter().position(|layer| layer.contains(&module)).unwrap_or_else(|| {
        panic!("`{module}` stands in no layer: add it to tests/layers.rs and src/lib.rs")
    })
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// Modules named by `crate::NAME` in a file's production part.
fn uses(text: &str) -> Vec<String> {
    let production = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code = production.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found = Vec::new();
    for line in code {
        for module in LAYERS.iter().copied().flatten() {
            let hidden = format!("super::{module}::");
            assert!(!line.contains(&hidden), "a layer behind `super`: import it: {line}");
        }
        let mut rest = line;
        while let Some(at) = rest.find("crate::") {
            rest = &rest[at + "crate::".len()..];
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(
                !name.is_empty(),
                "`use crate::{{..}}` hides a layer; name each module: {line}"
            );
            found.push(name);
        }
    }
    found
}

#[test]
fn no_module_uses_what_stands_below_or_beside_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "the sources were not found");
    let mut wrong = BTreeMap::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        for used in uses(&std::fs::read_to_string(&file).unwrap()) {
            if used != module && layer(&used) >= layer(module) {
                wrong.insert(format!("{}", inside.display()), used);
            }
        }
    }
    assert!(wrong.is_empty(), "upward or sideways: {wrong:#?}");
}

#[test]
fn the_engine_does_no_io_and_reads_no_clock() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for pure in ["a2a", "llm", "skills", "engine"] {
        sources(&root.join(pure), &mut files);
    }
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let production = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for forbidden in ["std::fs", "std::net::Tcp", "tokio::", "ureq::", "Now::read", "std::env"]
        {
            assert!(!production.contains(forbidden), "{} uses {forbidden}", file.display());
        }
    }
}
