//! Text around a value: `Current Price - {value}` (CONTRACT.md §2, `template`).

use super::{Json, Value};
use crate::params::Params;

/// A text in which the value, its members and path parameters stand, compiled once.
///
/// A placeholder is `{value}`, `{value.member}` (and deeper: `{value.a.b}`) or `{param}`. A `{` that does not open something of
/// that shape is itself, and so is every `}`: a template may be JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataTemplate(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    /// The members to follow; none: the value itself.
    Value(Vec<Box<str>>),
    /// Index into the parameters.
    Param(usize),
}

impl DataTemplate {
    /// Compiles `text` for a path whose parameters are `params`. The error names what may stand between braces.
    /// `{value}` is the value even when a parameter has that name.
    pub fn parse(text: &str, params: &[String]) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            literal.push_str(&rest[..open]);
            rest = &rest[open..];
            match placeholder(rest) {
                Some(inside) => {
                    flush(&mut literal, &mut pieces);
                    pieces.push(piece(inside, params)?);
                    rest = &rest[inside.len() + 2..];
                }
                None => {
                    literal.push('{');
                    rest = &rest[1..];
                }
            }
        }
        literal.push_str(rest);
        flush(&mut literal, &mut pieces);
        Ok(Self(pieces))
    }

    /// The text for one value. A JSON string stands without quotes and escapes, other scalars as their text, arrays and
    /// objects as compact JSON, text as it is; a member that is not there is nothing.
    pub fn render(&self, value: &Value, params: &Params) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Param(index) => out.push_str(params.0.get(*index).map_or("", |text| text)),
                Piece::Value(members) => push_value(&mut out, value, members),
            }
        }
        out
    }
}

/// What stands between the braces at the start of `text`, when it is an identifier with members.
fn placeholder(text: &str) -> Option<&str> {
    let inside = &text[1..text.find('}')?];
    let mut names = inside.split('.');
    let starts = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let goes_on = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    (starts(inside) && names.all(goes_on)).then_some(inside)
}

fn piece(inside: &str, params: &[String]) -> Result<Piece, String> {
    let mut names = inside.split('.');
    if names.next() == Some("value") {
        return Ok(Piece::Value(names.map(Box::from).collect()));
    }
    match params.iter().position(|name| name == inside) {
        Some(index) => Ok(Piece::Param(index)),
        None => {
            let known: Vec<String> = params.iter().map(|name| format!("{{{name}}}")).collect();
            let known = [
                &["{value}".to_owned(), "{value.member}".to_owned()],
                known.as_slice(),
            ]
            .concat();
            Err(format!(
                "unknown {{{inside}}}; known are {}",
                known.join(", ")
            ))
        }
    }
}

fn flush(literal: &mut String, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        pieces.push(Piece::Literal(std::mem::take(literal).into()));
    }
}

fn push_value(out: &mut String, value: &Value, members: &[Box<str>]) {
    let Some(json) = value.as_json() else {
        // Text has no members.
        if members.is_empty() {
            out.push_str(value.encoded());
        }
        return;
    };
    let found = members
        .iter()
        .try_fold(json, |json, name| json.as_object()?.get(name));
    match found {
        Some(Json::String(text)) => out.push_str(text),
        Some(_) if members.is_empty() => out.push_str(value.encoded()),
        Some(other) => out.push_str(&other.to_string()),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn render(template: &str, value: &str) -> String {
        let params = ["symbol".to_owned(), "day".to_owned()];
        let template = DataTemplate::parse(template, &params).expect("a template");
        let value = Value::parse_auto(value.as_bytes()).expect("UTF-8");
        template.render(&value, &Params::from(vec!["ACME".into(), "{value}".into()]))
    }

    #[test]
    fn the_value_stands_as_people_read_it() {
        assert_eq!(
            render("Current Price - {value}", "101.50"),
            "Current Price - 101.50"
        );
        assert_eq!(render("{value}", r#""say \"hi\"\n""#), "say \"hi\"\n");
        assert_eq!(render("{value}|{value}", "null"), "null|null");
        assert_eq!(
            render("{value}", r#"{ "a": [1, true] }"#),
            r#"{"a":[1,true]}"#
        );
        assert_eq!(render("<{value}>", "no json"), "<no json>");
        assert_eq!(render("{symbol}: {value}", "1"), "ACME: 1");
    }

    /// CONTRACT §6.
    #[test]
    fn members_and_what_is_missing() {
        let value = r#"{"a":{"b":"x","c":[1]},"with-dash":2}"#;
        assert_eq!(
            render("{value.a.b} {value.a.c} {value.with-dash}", value),
            "x [1] 2"
        );
        assert_eq!(render("[{value.z}{value.a.z}{value.a.b.z}]", value), "[]");
        assert_eq!(render("[{value.a}]", "plain text"), "[]");
        assert_eq!(render("[{value.a}]", "[1]"), "[]");
    }

    #[test]
    fn braces_that_open_no_placeholder_are_themselves() {
        assert_eq!(
            render(r#"{"price":{"now":{value}}}"#, "1"),
            r#"{"price":{"now":1}}"#
        );
        for text in [
            "{",
            "}",
            "{}",
            "{ value }",
            "{1}",
            "{value.}",
            "{value",
            "{a b}",
            "{value..a}",
            "{{}}",
            "{é}",
            "{a: 1}",
        ] {
            assert_eq!(render(text, "1"), text);
        }
        assert_eq!(render("{{value}}", "1"), "{1}");
    }

    /// EDGE E3 in spirit: what a client or an upstream says is never read as a template.
    #[test]
    fn what_is_put_in_is_not_read_again() {
        assert_eq!(render("{day}", "1"), "{value}");
        assert_eq!(render("{value}", r#""{symbol}""#), "{symbol}");
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_the_known_ones() {
        let error = DataTemplate::parse("{price}", &["symbol".to_owned()]);
        assert_eq!(
            error,
            Err("unknown {price}; known are {value}, {value.member}, {symbol}".into())
        );
        assert!(DataTemplate::parse("{symbol.x}", &["symbol".to_owned()]).is_err());
        assert!(DataTemplate::parse("{symbol}", &[]).is_err());
    }

    proptest! {
        #[test]
        fn without_an_opening_brace_a_template_is_itself(text in "[^{]*") {
            prop_assert_eq!(render(&text, "1"), text);
        }

        #[test]
        fn random_templates_never_panic(text in "[{}.value symbol-é]*") {
            let _ = DataTemplate::parse(&text, &["symbol".to_owned()]);
        }
    }
}
