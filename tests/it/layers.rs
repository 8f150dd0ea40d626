//! The map in `src/lib.rs` is true: arrows between rooms point one way.

use std::path::{Path, PathBuf};

/// Each room, and the rooms it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("params", &[]),
    ("value", &["params"]),
    ("diff", &["value"]),
    ("sse", &[]),
    ("token", &[]),
    ("metrics", &[]),
    ("channel", &["value", "diff", "sse", "params", "metrics"]),
    ("config", &["params", "value", "sse", "channel", "token"]),
    ("source", &["value", "sse", "params", "config", "metrics"]),
    ("poller", &["source", "channel", "value", "sse", "metrics"]),
    ("cluster", &["source", "poller", "channel", "sse"]),
    ("fanout", &["channel", "sse"]),
    (
        "edge",
        &[
            "channel", "config", "fanout", "metrics", "params", "sse", "token", "value",
        ],
    ),
    ("admin", &["channel", "config", "edge", "fanout", "metrics"]),
    (
        "gateway",
        &[
            "admin", "channel", "cluster", "config", "diff", "edge", "fanout", "metrics", "params",
            "poller", "source", "sse", "value",
        ],
    ),
    (
        "cli",
        &[
            "admin", "config", "gateway", "sse", "diff", "value", "source",
        ],
    ),
];

/// Rooms and files that know neither the runtime nor the server nor the file.
const PURE: &[&str] = &[
    "params",
    "value",
    "diff",
    "sse",
    "token",
    "edge/auth/credential",
    "edge/auth/digest",
    "channel/log",
    "channel/event",
    "poller/schedule",
    "edge/client_address/header",
    "edge/limit/key",
    "edge/limit/policy",
    "edge/negotiate",
    "edge/front/body",
    "edge/front/head",
    "config/field",
];

#[test]
fn arrows_point_one_way() {
    let mut seen = 0;
    for file in sources() {
        let name = name(&file);
        let room = name.split('/').next().unwrap_or_default();
        if matches!(room, "lib" | "main") {
            continue;
        }
        let (_, allowed) = MAY_USE
            .iter()
            .find(|(known, _)| *known == room)
            .unwrap_or_else(|| panic!("{room} is on no map"));
        for used in used_rooms(&file) {
            seen += 1;
            assert!(
                used == room || allowed.contains(&used.as_str()),
                "{name} uses {used}"
            );
        }
    }
    assert!(seen > 40, "the test saw {seen} arrows");
}

#[test]
fn pure_rooms_do_no_io() {
    let mut seen = 0;
    for file in sources() {
        let name = name(&file);
        if !PURE
            .iter()
            .any(|pure| name == *pure || name.starts_with(&format!("{pure}/")))
        {
            continue;
        }
        seen += 1;
        let text = production(&file);
        for foreign in [
            "tokio::",
            "pingora::",
            "std::net::Tcp",
            "std::fs",
            "std::thread",
        ] {
            assert!(!text.contains(foreign), "{name} uses {foreign}");
        }
    }
    assert!(seen > 10, "the test saw {seen} files");
}

fn sources() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            match path.is_dir() {
                true if path.file_name().is_some_and(|name| name == "tests") => {}
                true => folders.push(path),
                // Tests may use what they like.
                _ if path.file_stem().is_some_and(|stem| stem == "tests") => {}
                false if path.extension().is_some_and(|ending| ending == "rs") => files.push(path),
                false => {}
            }
        }
    }
    files
}

fn name(file: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    file.strip_prefix(src)
        .expect("in src")
        .with_extension("")
        .display()
        .to_string()
}

/// Without the tests at the foot.
fn production(file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("readable");
    let code = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    // Links in comments are for readers.
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn used_rooms(file: &Path) -> Vec<String> {
    production(file)
        .split("crate::")
        .skip(1)
        .map(|rest| {
            rest.chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect::<String>()
        })
        .filter(|room| MAY_USE.iter().any(|(known, _)| known == room))
        .collect()
}
