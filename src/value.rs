//! The value of a resource at one moment: JSON or text, immutable, cheap to clone. Pure: no I/O, no configuration.
//!
//! Numbers keep the text that the source wrote, so that a value that is only passed on is passed on exactly (EDGE U11).
//! What counts as a change is defined here alone: [`Value`]'s equality, narrowed by [`Significance`].

mod json;
mod number;
mod parse;
mod select;
mod significance;
mod template;

use std::sync::{Arc, OnceLock};

pub use json::Json;
pub use number::Number;
pub use select::{Location, Selector, Step};
pub use significance::Significance;
pub use template::DataTemplate;

pub(crate) use json::{counterpart, write, write_string};
pub(crate) use select::Located;

#[cfg(test)]
pub(crate) use json::testing;

/// One reading's value. A clone shares the document and its encoding.
#[derive(Clone, Debug)]
pub struct Value(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    content: Content,
    encoded: OnceLock<Box<str>>,
}

#[derive(Debug, PartialEq)]
enum Content {
    Json(Json),
    Text(Box<str>),
}

/// Why bytes are no value, or why a selection gave none: one lowercase sentence for the log, with line and column where
/// there are some. It quotes at most one character of what was read (EDGE U19).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

impl Malformed {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl Value {
    /// Reads RFC 8259 strictly: UTF-8 without a BOM, no `NaN`, no lone surrogates, nothing behind the value, at most 64
    /// levels deep and 500,000 values in all (EDGE U9–U12). Of members with the same name the last one wins.
    pub fn parse_json(bytes: &[u8]) -> Result<Self, Malformed> {
        parse::json(bytes).map(Self::from_json)
    }

    /// Reads UTF-8 as it is (EDGE E2).
    pub fn parse_text(bytes: &[u8]) -> Result<Self, Malformed> {
        parse::utf8(bytes).map(Self::from_text)
    }

    /// JSON when the bytes parse as JSON, else text.
    pub fn parse_auto(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::parse_json(bytes).or_else(|_| Self::parse_text(bytes))
    }

    /// A document built by hand. It should be no deeper than a parsed one (64): walks over it are recursive.
    pub fn from_json(json: Json) -> Self {
        Self::new(Content::Json(json))
    }

    /// A text.
    pub fn from_text(text: impl Into<Box<str>>) -> Self {
        Self::new(Content::Text(text.into()))
    }

    /// The document, unless the value is text.
    pub fn as_json(&self) -> Option<&Json> {
        match &self.0.content {
            Content::Json(json) => Some(json),
            Content::Text(_) => None,
        }
    }

    /// Whether the value is text.
    pub fn is_text(&self) -> bool {
        matches!(self.0.content, Content::Text(_))
    }

    /// JSON on one line (EDGE E12), numbers and the order of members as they were read; or the text as it is.
    /// Encoded at most once for all clones.
    pub fn encoded(&self) -> &str {
        match &self.0.content {
            Content::Json(json) => self.0.encoded.get_or_init(|| json.to_string().into()),
            Content::Text(text) => text,
        }
    }

    fn new(content: Content) -> Self {
        Self(Arc::new(Inner {
            content,
            encoded: OnceLock::new(),
        }))
    }
}

/// Change detection: the order of members, whitespace (EDGE J10) and the way a number is written (`1`, `1.0`, `10e-1`)
/// make no difference. A text never equals a JSON string.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.content == other.0.content
    }
}

impl Eq for Value {}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        Value::parse_json(text.as_bytes()).expect("valid JSON")
    }

    /// EDGE J10.
    #[test]
    fn order_and_whitespace_are_no_change() {
        assert_eq!(
            json(r#"{"a":1,"b":[1,2]}"#),
            json("{ \"b\" : [1.0, 2],\n\"a\": 10e-1 }")
        );
        assert_ne!(json("[1,2]"), json("[2,1]"));
        assert_ne!(json(r#"{"a":null}"#), json("{}"));
        assert_ne!(json("null"), json("false"));
    }

    #[test]
    fn text_is_not_a_json_string() {
        assert_ne!(json(r#""a""#), Value::from_text("a"));
        assert_ne!(json("1"), Value::from_text("1"));
        assert_eq!(Value::from_text("a"), Value::from_text("a"));
    }

    /// EDGE E12, U11.
    #[test]
    fn encoding_keeps_order_and_number_text_on_one_line() {
        let value =
            json("{\n \"b\": 1.10, \"a\": [ 18446744073709551616 , -0 ], \"c\": \"x\\ny\" }");
        assert_eq!(
            value.encoded(),
            r#"{"b":1.10,"a":[18446744073709551616,-0],"c":"x\ny"}"#
        );
    }

    #[test]
    fn the_encoding_is_shared_by_clones() {
        let value = json("[1]");
        let clone = value.clone();
        assert!(std::ptr::eq(value.encoded(), clone.encoded()));
    }

    #[test]
    fn auto_takes_json_first_then_text() {
        assert!(Value::parse_auto(b"12").is_ok_and(|value| !value.is_text()));
        for text in ["", "12 apples", "\u{feff}1", "{", "NaN"] {
            let value = Value::parse_auto(text.as_bytes()).expect("text");
            assert!(value.is_text(), "{text:?}");
            assert_eq!(value.encoded(), text);
        }
        assert!(Value::parse_auto(b"\xff").is_err(), "EDGE E2");
    }
}
