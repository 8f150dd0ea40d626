//! A template is what its placeholders make of it, as one regular expression sees them (EDGE E3: nothing is read twice).
//!
//! Input: the template in the first line, then the value.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use wellspring::params::Params;
use wellspring::value::{DataTemplate, Json, Value};

static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| {
    let name = "[A-Za-z0-9_-]";
    Regex::new(&format!(r"\{{([A-Za-z_]{name}*(?:\.{name}+)*)\}}")).expect("a pattern")
});

pub fn holds(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (template, value) = text
        .split_once('\n')
        .unwrap_or((&text, r#"{"a":{"b":1.10},"c":"x"}"#));
    let value = Value::parse_auto(value.as_bytes()).expect("UTF-8");
    let names = ["symbol".to_owned(), "a-b".to_owned()];
    let params = ["{value}", "\n\nid: 1"];
    let known = |name: &str| {
        name.split('.').next() == Some("value") || names.iter().any(|known| known == name)
    };
    let parsed = DataTemplate::parse(template, &names);
    let all_known = PLACEHOLDER
        .captures_iter(template)
        .all(|found| known(&found[1]));
    assert_eq!(parsed.is_ok(), all_known, "{parsed:?}");
    let Ok(parsed) = parsed else { return };
    let expected = PLACEHOLDER.replace_all(template, |found: &Captures<'_>| {
        match names.iter().position(|name| *name == found[1]) {
            Some(index) => params[index].to_owned(),
            None => member(&value, found[1].split('.').skip(1)),
        }
    });
    assert_eq!(
        parsed.render(&value, &Params(params.map(Box::from).into())),
        expected
    );
}

fn member<'a>(value: &Value, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let Some(mut json) = value.as_json() else {
        return if names.is_empty() {
            value.encoded().to_owned()
        } else {
            String::new()
        };
    };
    for name in names {
        match json {
            Json::Object(members) if members.contains_key(name) => json = &members[name],
            _ => return String::new(),
        }
    }
    json.as_str()
        .map_or_else(|| json.to_string(), ToOwned::to_owned)
}
