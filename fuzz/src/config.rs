//! A file is either refused with mistakes that all stand in it, on one line each and without a secret in them, or read, the
//! same each time, and then the schema takes it too (EDGE O3, O4).

use std::sync::LazyLock;

use wellspring::config::{self, schema};

use super::schema::check;

const SECRET: &str = "c4narySaysNo";

static SCHEMA: LazyLock<serde_json::Value> =
    LazyLock::new(|| serde_json::from_str(&schema::json()).expect("JSON"));

pub fn holds(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // What it names is not ours to open: pipes and terminals among it.
    if text.contains("/dev") || text.contains("/proc") || text.contains("..") {
        return;
    }
    let env = |name: &str| (name != "MISSING").then(|| SECRET.to_owned());
    let read = || config::parse("nowhere/wellspring.yaml", text, &env);
    let broken = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<usize> = broken
        .split('\n')
        .map(|line| line.chars().count())
        .collect();
    match read() {
        Err(problems) => {
            assert!(problems.iter().next().is_some());
            for problem in &problems {
                let line = problem.line.checked_sub(1).and_then(|line| lines.get(line));
                let width = line.unwrap_or_else(|| panic!("outside the file: {problem}"));
                assert!(
                    (1..=width + 1).contains(&problem.column),
                    "outside the line: {problem}"
                );
                let told = problem.to_string();
                assert!(!told.chars().any(char::is_control), "{told:?}");
                assert!(!told.contains(SECRET), "{told}");
            }
            assert_eq!(read().err(), Some(problems));
        }
        Ok(config) => {
            assert_eq!(read().ok().as_ref(), Some(&config));
            let shown = config.shown.0.to_string();
            assert!(!shown.contains(SECRET), "{shown}");
            let document = schema::document(text).expect("YAML");
            assert_eq!(check(&SCHEMA, &SCHEMA, &document, ""), Ok(()));
        }
    }
}
