//! Path parameters and the texts that they fill. Pure: no I/O, no configuration.
//!
//! A parameter's value is client input. It reaches a path, a query, a header, a body or a Redis key only
//! through [`ParamText::render`], which escapes it for the place where it stands (EDGE U1).

mod forwarded;

use std::fmt;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub use forwarded::Forwarded;

/// The values of a stream's path parameters, in the order in which the path names them. A clone shares them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Params(pub Arc<[Box<str>]>);

impl From<Vec<Box<str>>> for Params {
    fn from(values: Vec<Box<str>>) -> Self {
        Self(values.into())
    }
}

/// One piece of a text with parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Stands as it is.
    Literal(String),
    /// The value of the parameter with this index in [`Params`].
    Param(usize),
}

/// A text from the configuration in which parameters may stand, such as `/v1/quotes/{symbol}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParamText(pub Vec<Part>);

/// How a parameter's value is made safe for its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// Percent-encoding of everything but RFC 3986 unreserved characters: path segments, query values, forms.
    Percent,
    /// RFC 8259 string escapes, without the quotes: inside a JSON string.
    Json,
    /// As it is: Redis keys (whose parameters were checked, EDGE R2) and header values (visible ASCII by pattern).
    Verbatim,
}

const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl ParamText {
    /// A text without parameters.
    pub fn literal(text: impl Into<String>) -> Self {
        Self(vec![Part::Literal(text.into())])
    }

    /// The text with each parameter's value in its place, escaped by `escape`. Literals are not escaped.
    pub fn render(&self, params: &Params, escape: Escape) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Param(index) => push_escaped(&mut out, &params.0[*index], escape),
            }
        }
        out
    }

    /// Whether any parameter stands in the text.
    pub fn has_params(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Param(_)))
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            // Debug formatting escapes control characters: this is for log lines (EDGE O6).
            write!(f, "{}", value.escape_debug())?;
        }
        Ok(())
    }
}

fn push_escaped(out: &mut String, value: &str, escape: Escape) {
    match escape {
        Escape::Percent => out.extend(utf8_percent_encode(value, RESERVED)),
        Escape::Json => {
            let quoted = serde_json::Value::from(value).to_string();
            out.push_str(&quoted[1..quoted.len() - 1]);
        }
        Escape::Verbatim => out.push_str(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> ParamText {
        ParamText(vec![Part::Literal("/q/".into()), Part::Param(0)])
    }

    /// EDGE U1: a value fills one segment and cannot leave it.
    #[test]
    fn percent_encoding_keeps_a_value_inside_its_segment() {
        let params = Params::from(vec!["a/../b?c=d#e%2F é".into()]);
        assert_eq!(
            text().render(&params, Escape::Percent),
            "/q/a%2F..%2Fb%3Fc%3Dd%23e%252F%20%C3%A9"
        );
    }

    #[test]
    fn json_escapes_keep_a_value_inside_its_string() {
        let params = Params::from(vec!["\",\"admin\":true,\"x\":\"\n\\".into()]);
        let body = format!("{{\"s\":\"{}\"}}", text().render(&params, Escape::Json));
        let back: serde_json::Value = serde_json::from_str(&body).expect("valid JSON");
        assert_eq!(back["s"], "/q/\",\"admin\":true,\"x\":\"\n\\");
        assert_eq!(back.as_object().map(serde_json::Map::len), Some(1));
    }
}
