//! The JSON Schema (2020-12) of the file, for editors: the tables of `keys` in other words.

use serde_json::{Map, Value, json};

use super::keys::{Key, Kind, ROOT, Table};
use super::yaml::{self, Node};

/// The schema as indented JSON. It refuses unknown keys; what only the reader can know, such as names that must exist, it
/// lets pass.
pub fn json() -> String {
    let mut schema = section(&ROOT);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("wellspring.yaml");
    schema["type"] = json!("object");
    schema["anyOf"] = json!([{"required": ["streams"]}, {"required": ["routes"]}]);
    schema["$defs"] = json!({
        "reference": {
            "description": "${NAME}, ${NAME:-default} or ${file:/path}.",
            "type": "string",
            "pattern": "\\$\\{",
        }
    });
    format!("{schema:#}")
}

/// The file as an editor sees it, if it is YAML: for those who hold the schema against files. No part of the interface.
#[doc(hidden)]
pub fn document(text: &str) -> Option<Value> {
    yaml::parse(text).0.map(|node| to_json(&node))
}

/// A YAML value as JSON, by the core schema of YAML 1.2.
pub(super) fn to_json(node: &Node) -> Value {
    match &node.kind {
        yaml::Kind::List(list) => list.iter().map(to_json).collect(),
        yaml::Kind::Map(map) => {
            let members = map
                .iter()
                .map(|entry| (entry.key.to_string(), to_json(&entry.value)));
            Value::Object(members.collect())
        }
        yaml::Kind::Scalar { text, plain: true } => match &**text {
            "" | "~" | "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            other => match serde_json::from_str(other) {
                Ok(Value::Number(number)) => Value::Number(number),
                _ => json!(other),
            },
        },
        yaml::Kind::Scalar { text, plain: false } => json!(**text),
    }
}

fn section(table: &Table) -> Value {
    let mut schema = json!({"type": ["object", "null"], "additionalProperties": false});
    let offered = || {
        table
            .keys
            .iter()
            .filter(|key| !matches!(key.kind, Kind::Refused(_)))
    };
    let properties: Map<String, Value> = offered()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    schema["properties"] = Value::Object(properties);
    let required: Vec<&str> = offered()
        .filter(|key| key.required.is_some())
        .map(|key| key.name)
        .collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
        // Nothing has no keys.
        schema["type"] = json!("object");
    }
    if !table.one_of.is_empty() {
        let each = table.one_of.iter().map(|name| json!({"required": [name]}));
        schema["oneOf"] = each.collect();
        schema["type"] = json!("object");
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = kind(&key.kind);
    let default = key
        .default
        .and_then(|text| yaml::parse(text).0)
        .map(|node| to_json(&node));
    match &default {
        Some(Value::Null) if !matches!(key.kind, Kind::Only(_)) => {
            schema = json!({"anyOf": [schema, {"type": "null"}]});
        }
        Some(Value::String(off)) if off == "off" && !matches!(key.kind, Kind::Only(_)) => {
            schema = json!({"anyOf": [schema, {"enum": ["off", false, null]}]});
        }
        _ => {}
    }
    schema["description"] = json!(key.doc);
    if let Some(default) = default {
        schema["default"] = default;
    }
    schema
}

fn kind(kind: &Kind) -> Value {
    let text = |pattern: &str| json!({"type": "string", "pattern": format!("{pattern}|\\$\\{{")});
    let or_reference = |schema: Value| json!({"anyOf": [schema, {"$ref": "#/$defs/reference"}]});
    match kind {
        Kind::Text => json!({"type": ["string", "number", "boolean"]}),
        Kind::Bool => or_reference(json!({"type": "boolean"})),
        Kind::Integer { min, max } => {
            or_reference(json!({"type": "integer", "minimum": min, "maximum": max}))
        }
        Kind::Number => or_reference(json!({"type": "number", "minimum": 0})),
        Kind::Duration { .. } => text("^[0-9]+(ms|s|m|h|d)$"),
        Kind::Size { min, max } => {
            let bytes = json!({"type": "integer", "minimum": min, "maximum": max});
            json!({"anyOf": [bytes, text("^[0-9]+(KiB|MiB|GiB)?$")]})
        }
        Kind::Rate => text("^[0-9]+/[smh]$"),
        Kind::Choice(words) => or_reference(json!({"enum": words})),
        Kind::Section(table) => section(table),
        Kind::NoneOrMany(table) => {
            let one = section(table);
            json!({"anyOf": [{"enum": ["none"]}, one, {"type": "array", "items": one, "minItems": 1}]})
        }
        Kind::SectionOrOff(table) => {
            json!({"anyOf": [section(table), {"enum": ["off", false]}]})
        }
        Kind::List(of) => json!({"type": ["array", "null"], "items": self::kind(of)}),
        Kind::OneOrMany(of) => {
            let one = self::kind(of);
            json!({"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]})
        }
        Kind::Pair(of) => {
            json!({"type": "array", "items": self::kind(of), "minItems": 2, "maxItems": 2})
        }
        Kind::Map(of) => {
            json!({"type": ["object", "null"], "additionalProperties": self::kind(of)})
        }
        Kind::Only(values) => {
            let mut allowed: Vec<Value> = Vec::new();
            for value in *values {
                allowed.extend(yaml::parse(value).0.map(|node| to_json(&node)));
            }
            if values.contains(&"off") {
                allowed.push(json!(false));
            }
            json!({"enum": allowed})
        }
        // Left out of every section.
        Kind::Refused(_) => json!(false),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod verdict;
