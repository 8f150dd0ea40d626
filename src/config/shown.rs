//! The file as it can be shown to operators: with the defaults that are in force, and without secrets (EDGE O3).
//!
//! What may be a secret is left out by its place. Whatever comes from the environment or another file is left out wherever it
//! stands: that is what references are for.

use std::fmt;

use serde_json::{Map, Value, json};

use super::keys::{Key, Kind, ROOT, Table};
use super::schema::to_json;
use super::yaml::{self, Entry, Node};

const REDACTED: &str = "[redacted]";

/// Values of these keys are secrets.
const SECRETS: [&str; 5] = ["token", "secret", "sha256", "password", "body"];
/// All values in these maps may be.
const SECRET_MAPS: [&str; 2] = ["headers", "query"];

/// The file in JSON, for operators. Debug output, which may end up in a log, has none of it.
#[derive(Clone, Default, PartialEq)]
pub struct Shown(pub Value);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

/// What can be shown of a document.
pub(super) fn shown(document: &Node) -> Shown {
    Shown(section(&ROOT, document))
}

fn section(table: &Table, node: &Node) -> Value {
    let given: &[Entry] = match &node.kind {
        yaml::Kind::Map(entries) => entries,
        _ if is_null(node) => &[],
        // Such as `off`.
        _ => return scalar("", node),
    };
    let member = |key: &'static Key| {
        let entry = given.iter().find(|entry| &*entry.key == key.name);
        let default = || yaml::parse(key.default?).0;
        let node = entry.map(|entry| entry.value.clone()).or_else(default)?;
        Some((key.name.to_owned(), value(key.name, &key.kind, &node)))
    };
    let members = table
        .keys
        .iter()
        .filter(|key| !matches!(key.kind, Kind::Refused(_)));
    Value::Object(members.filter_map(member).collect())
}

fn value(name: &str, kind: &Kind, node: &Node) -> Value {
    match (kind, &node.kind) {
        (Kind::Section(_), _) if is_null(node) && ["tls", "sentinel"].contains(&name) => {
            Value::Null
        }
        (Kind::NoneOrMany(table), yaml::Kind::List(list)) => {
            list.iter().map(|node| section(table, node)).collect()
        }
        (Kind::Section(table) | Kind::SectionOrOff(table) | Kind::NoneOrMany(table), _) => {
            section(table, node)
        }
        (Kind::List(of) | Kind::Pair(of) | Kind::OneOrMany(of), yaml::Kind::List(list)) => {
            list.iter().map(|node| value(name, of, node)).collect()
        }
        (Kind::Map(of), yaml::Kind::Map(entries)) => {
            let members = entries.iter().map(|entry| {
                let shown = match SECRET_MAPS.contains(&name) {
                    true => json!(REDACTED),
                    false => value(&entry.key, of, &entry.value),
                };
                (entry.key.to_string(), shown)
            });
            Value::Object(members.collect::<Map<_, _>>())
        }
        _ => scalar(name, node),
    }
}

/// Anything that is not taken apart by its kind.
fn scalar(name: &str, node: &Node) -> Value {
    match &node.kind {
        _ if is_null(node) => Value::Null,
        _ if SECRETS.contains(&name) => json!(REDACTED),
        yaml::Kind::Scalar { text, .. } if text.contains("${") => json!(REDACTED),
        yaml::Kind::Scalar { text, .. } if text.contains("://") => json!(url(text)),
        yaml::Kind::Scalar { .. } => to_json(node),
        yaml::Kind::List(list) => list.iter().map(|node| scalar(name, node)).collect(),
        yaml::Kind::Map(entries) => {
            let members = entries
                .iter()
                .map(|entry| (entry.key.to_string(), scalar(&entry.key, &entry.value)));
            Value::Object(members.collect())
        }
    }
}

/// Without user, password and query.
fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (place, query) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], "?[redacted]"),
        None => (rest, ""),
    };
    // A password may hold a slash that ought to be escaped: everything before the last @ goes.
    match place.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}://{REDACTED}@{place}{query}"),
        None => format!("{scheme}://{place}{query}"),
    }
}

fn is_null(node: &Node) -> bool {
    let words = ["", "~", "null", "Null", "NULL"];
    matches!(&node.kind, yaml::Kind::Scalar { text, plain: true } if words.contains(&&**text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE O3, A10.
    #[test]
    fn secrets_are_left_out_and_defaults_are_filled_in() {
        let text = r#"
listeners: [{address: "127.0.0.1:0"}]
admin: {token: canary-canary-canary}
auth: [{api_keys: {keys: [{name: web, sha256: canary}]}}, {jwt: {issuer: i, audience: a, algorithms: [HS256], secret: canary}}]
upstreams:
  a: {url: "https://api.example/base", headers: {authorization: canary}, max_body: "${canary:-1MiB}"}
redis:
  r: {url: "redis://user:can/ary@host:1/0?canary"}
  s: {url: "redis://:canary@m", sentinel: {master: m, nodes: ["a:1"], user: ann, password: canary}}
  c: {url: ["redis://:canary@a", "b:1"]}
streams:
  - path: /v1/{id}
    http: {upstream: a, query: {key: canary}, headers: {x: canary}, method: POST, body: canary}
    adaptive: {min: 1s, max: 2s}
  - path: /b
    redis: {server: r, key: visible}
"#;
        let document = yaml::parse(text).0.expect("parses");
        let Shown(shown) = shown(&document);
        let printed = shown.to_string();
        assert!(
            !printed.contains("canary") && !printed.contains("can/ary"),
            "{printed}"
        );
        assert_eq!(
            shown["admin"],
            json!({"address": "127.0.0.1:9090", "token": "[redacted]"})
        );
        assert_eq!(shown["upstreams"]["a"]["url"], "https://api.example/base");
        assert_eq!(
            shown["upstreams"]["a"]["headers"]["authorization"],
            "[redacted]"
        );
        assert_eq!(shown["upstreams"]["a"]["timeouts"]["connect"], "2s");
        assert_eq!(
            shown["redis"]["r"]["url"],
            "redis://[redacted]@host:1/0?[redacted]"
        );
        assert_eq!(shown["redis"]["r"]["sentinel"], Value::Null);
        assert_eq!(
            shown["redis"]["s"]["sentinel"],
            json!({"master": "m", "nodes": ["a:1"], "user": "ann", "password": "[redacted]"})
        );
        assert_eq!(
            shown["redis"]["c"]["url"],
            json!(["redis://[redacted]@a", "b:1"])
        );
        assert_eq!(shown["streams"][0]["every"], "2s");
        assert_eq!(
            shown["streams"][0]["adaptive"],
            json!({"min": "1s", "max": "2s"})
        );
        assert_eq!(shown["streams"][1]["adaptive"], "off");
        assert_eq!(shown["streams"][1]["redis"]["key"], "visible");
        assert_eq!(shown["auth"][0]["api_keys"]["keys"][0]["name"], "web");
        assert_eq!(shown["auth"][1]["jwt"]["secret"], "[redacted]");
        assert_eq!(shown["shutdown"]["retry"], json!(["1s", "30s"]));
    }
}
