//! Holds a document against the schema: for tests and fuzz targets, which include this file. Pure.

use serde_json::{Value, json};

/// What of JSON Schema this schema uses: enough to see that it and the reader take the same files.
pub(super) fn check(root: &Value, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let all = |list: &Value| list.as_array().cloned().unwrap_or_default();
    if schema == &json!(false) {
        return Err(format!("{path}: refused"));
    }
    let known = [
        "$defs",
        "$ref",
        "$schema",
        "additionalProperties",
        "anyOf",
        "default",
        "description",
        "enum",
        "items",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "oneOf",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    ];
    for (word, rule) in schema.as_object().expect("a schema") {
        assert!(known.contains(&word.as_str()), "{word}");
        let fits = |rule: &Value| check(root, rule, value, path).is_ok();
        let number = |rule: &Value| rule.as_f64().expect("a number");
        let holds = match word.as_str() {
            "$ref" => fits(&root["$defs"]["reference"]),
            "anyOf" => all(rule).iter().any(fits),
            "oneOf" => all(rule).iter().filter(|rule| fits(rule)).count() == 1,
            "enum" => all(rule).contains(value),
            "type" => match rule {
                Value::String(one) => is_type(value, one),
                many => all(many)
                    .iter()
                    .any(|one| is_type(value, one.as_str().expect("a type"))),
            },
            "pattern" => value.as_str().is_none_or(|text| {
                regex::Regex::new(rule.as_str().expect("a pattern"))
                    .expect("compiles")
                    .is_match(text)
            }),
            "minimum" => value.as_f64().is_none_or(|value| value >= number(rule)),
            "maximum" => value.as_f64().is_none_or(|value| value <= number(rule)),
            "minItems" => value
                .as_array()
                .is_none_or(|list| list.len() as f64 >= number(rule)),
            "maxItems" => value
                .as_array()
                .is_none_or(|list| list.len() as f64 <= number(rule)),
            "required" => value.as_object().is_none_or(|map| {
                all(rule)
                    .iter()
                    .all(|name| map.contains_key(name.as_str().expect("a name")))
            }),
            _ => true,
        };
        if !holds {
            return Err(format!("{path}: {value} against {word} {rule}"));
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(
            root,
            schema.get("items").unwrap_or(&json!({})),
            item,
            &format!("{path}[{index}]"),
        )?;
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let of_name = schema
            .get("properties")
            .and_then(|properties| properties.get(name));
        let rule = of_name
            .or(schema.get("additionalProperties"))
            .cloned()
            .unwrap_or(json!({}));
        check(root, &rule, member, &format!("{path}.{name}"))?;
    }
    Ok(())
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other}"),
    }
}
