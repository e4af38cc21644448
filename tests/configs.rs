//! The configuration files that are handed out work as they are.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};

use support::{Agent, Home, program, reply_of};
use tetherlet::config::keys::KEYS;

/// Every file in `config/`.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 2, "{files:?}");
    files
}

#[test]
fn every_file_passes_check_config_without_warnings() {
    let home = Home::new();
    for file in files() {
        let output = program(&home.0).arg("check-config").arg(&file).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), complaint.as_str()), (Some(0), ""), "{file:?}");
        assert!(said.starts_with(&format!("read {}\n", file.display())), "{said}");
        assert!(said.contains("memory, at most:") && said.ends_with("\nok\n"), "{said}");
        assert!(!said.contains("warning"), "{file:?}: {said}");
    }
}

#[test]
fn the_keys_that_wait_for_a_restart_say_so() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tetherlet.toml");
    let text = std::fs::read_to_string(file).unwrap();
    let (mut section, mut comment, mut found) = ("", String::new(), 0);
    for line in text.lines() {
        let bare = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((name, _)) = bare.split_once(" = ")
            && let Some(key) = KEYS.iter().find(|key| key.name == format!("{section}.{name}"))
        {
            let says = comment.contains("aits for a restart") || comment.contains("waits for one");
            assert_eq!(says, key.at_start, "{}", key.name);
            found += 1;
        }
        if line.starts_with('#') {
            comment.push_str(line);
        } else {
            comment.clear();
        }
    }
    assert_eq!(found, KEYS.len());
}

#[test]
fn the_file_that_documents_every_key_runs() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tetherlet.toml");
    let agent = Agent::start(&["--config", file.to_str().unwrap()], &[]);
    assert_eq!(reply_of(&agent.send("Calculate 25 * 4")), "100");
    let status = agent.status();
    // Its limits are those of an agent without any file.
    let bare = Agent::start(&[], &[]).status();
    for (section, member) in [
        ("tasks", "limit"),
        ("http", "connectionsLimit"),
        ("http", "streamsLimit"),
        ("bytes", "storeLimit"),
        ("bytes", "inFlightLimit"),
        ("bytes", "workLimit"),
    ] {
        assert!(status[section][member].as_u64().unwrap() > 0, "{section}.{member}");
        assert_eq!(status[section][member], bare[section][member], "{section}.{member}");
    }
}

#[test]
fn the_smallest_file_runs_and_warns() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/minimal.toml");
    let mut agent = Agent::start(&["--config", file.to_str().unwrap()], &[]);
    agent.address.set_ip([127, 0, 0, 1].into());
    agent.wait_for("open to the network without authentication");
    assert_eq!(agent.status()["name"], "edge-box");
    assert_eq!(reply_of(&agent.send("25*4")), "100");
}
