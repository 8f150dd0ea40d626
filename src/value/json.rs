//! A JSON document in memory, and its one-line text.

use std::fmt::{self, Write};

use indexmap::IndexMap;

use super::Number;

/// A JSON value (RFC 8259 §3). Equality is that of change detection: see [`Value`](super::Value).
#[derive(Clone, Debug)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number with its text.
    Number(Number),
    /// A string, unescaped.
    String(Box<str>),
    /// Elements in order.
    Array(Vec<Self>),
    /// Members in the order in which they were read, which is no part of the value.
    Object(IndexMap<Box<str>, Self>),
}

/// Compact, as it goes on the wire: no whitespace, no line break (EDGE E12).
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self)
    }
}

impl Json {
    /// The members, when it is an object.
    pub fn as_object(&self) -> Option<&IndexMap<Box<str>, Self>> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The elements, when it is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// The text, when it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => {
                let mut members = a.iter().enumerate();
                a.len() == b.len()
                    && members
                        .all(|(index, (name, member))| counterpart(b, index, name) == Some(member))
            }
            _ => false,
        }
    }
}

impl Eq for Json {}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<Number> for Json {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

/// The member called `name`, which is probably at `index`: two readings of a resource mostly have one order, and then
/// nothing is hashed.
pub(crate) fn counterpart<'a>(
    members: &'a IndexMap<Box<str>, Json>,
    index: usize,
    name: &str,
) -> Option<&'a Json> {
    match members.get_index(index) {
        Some((there, member)) if **there == *name => Some(member),
        _ => members.get(name),
    }
}

/// Writes compact JSON. Stops at the first error of `out`, so a sink with a limit ends the walk.
pub(crate) fn write(out: &mut impl Write, json: &Json) -> fmt::Result {
    match json {
        Json::Null => out.write_str("null"),
        Json::Bool(true) => out.write_str("true"),
        Json::Bool(false) => out.write_str("false"),
        Json::Number(number) => out.write_str(number.as_str()),
        Json::String(text) => write_string(out, text),
        Json::Array(elements) => {
            out.write_char('[')?;
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.write_char(',')?;
                }
                write(out, element)?;
            }
            out.write_char(']')
        }
        Json::Object(members) => {
            out.write_char('{')?;
            for (index, (name, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.write_char(',')?;
                }
                write_string(out, name)?;
                out.write_char(':')?;
                write(out, member)?;
            }
            out.write_char('}')
        }
    }
}

/// Writes a quoted string, escaping what RFC 8259 §7 demands and nothing else.
pub(crate) fn write_string(out: &mut impl Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0x00..0x20 => "",
            _ => continue,
        };
        out.write_str(&text[written..at])?;
        if short.is_empty() {
            write!(out, "\\u{byte:04x}")?;
        } else {
            out.write_str(short)?;
        }
        written = at + 1;
    }
    out.write_str(&text[written..])?;
    out.write_char('"')
}

#[cfg(test)]
pub(crate) mod testing {
    use proptest::prelude::*;

    use super::*;

    /// Documents small enough to meet themselves again: few names, few numbers, nesting, duplicates. The numbers are such
    /// that other implementations read them as floats without loss.
    pub(crate) fn any_json() -> impl Strategy<Value = Json> {
        let name = prop_oneof![
            proptest::sample::select(vec!["a", "b", "id", "", "~", "/", "~1", "a/b", "0", "-"])
                .prop_map(str::to_owned),
            "[\\PC\\n\"\\\\]{0,3}",
        ];
        let leaf = prop_oneof![
            2 => Just(Json::Null),
            1 => any::<bool>().prop_map(Json::Bool),
            4 => any_number(5).prop_map(Json::Number),
            3 => any::<String>().prop_map(|text| Json::String(text.into())),
            3 => "[ab]{0,1}".prop_map(|text| Json::String(text.into())),
        ];
        leaf.prop_recursive(4, 48, 8, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Json::Array),
                proptest::collection::vec((name.clone(), inner), 0..6).prop_map(|members| {
                    Json::Object(
                        members
                            .into_iter()
                            .map(|(name, json)| (name.into(), json))
                            .collect(),
                    )
                }),
            ]
        })
    }

    /// Numbers in many spellings, with decimal exponents from `-exponent` to `exponent`, and zeros.
    pub(crate) fn any_number(exponent: i32) -> impl Strategy<Value = Number> {
        let mantissa = prop_oneof![
            proptest::sample::select(vec![
                "0", "-0", "1", "1.0", "10", "0.1", "100", "-1.50", "0.00"
            ])
            .prop_map(str::to_owned),
            "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?",
        ];
        let exponent = proptest::option::of((
            proptest::sample::select(vec!["e", "E", "e+"]),
            -exponent..=exponent,
        ));
        (mantissa, exponent).prop_map(|(mantissa, exponent)| {
            let text = match exponent {
                None => mantissa,
                Some((letter, exponent)) if exponent < 0 => {
                    format!("{mantissa}{}{exponent}", &letter[..1])
                }
                Some((letter, exponent)) => format!("{mantissa}{letter}{exponent}"),
            };
            Number::parse(&text).expect("a number")
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::any_json;
    use crate::value::Value;

    /// RFC 8259 §7: all control characters below U+0020 are escaped, and nothing else but the quote and the backslash.
    #[test]
    fn control_characters_are_escaped() {
        for code in 0..0x20_u8 {
            let text = super::Json::from(char::from(code).to_string().as_str()).to_string();
            assert!(
                text.starts_with("\"\\") && text.bytes().all(|byte| byte >= 0x20),
                "{text:?}"
            );
        }
        let plain = "\u{7f}/é\u{2028}\u{feff}😀'";
        assert_eq!(super::Json::from(plain).to_string(), format!("\"{plain}\""));
        assert_eq!(
            super::Json::from("\"\\\u{1f}").to_string(),
            r#""\"\\\u001f""#
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_the_same_to_the_letter(json in any_json()) {
            let text = json.to_string();
            prop_assert!(!text.contains(['\n', '\r']), "EDGE E12");
            let back = Value::parse_json(text.as_bytes()).expect("printed JSON is JSON");
            prop_assert_eq!(back.as_json(), Some(&json));
            prop_assert_eq!(back.encoded(), text);
        }

        #[test]
        fn others_read_it_too(json in any_json()) {
            let text = json.to_string();
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        }
    }
}
