//! Texts with parameters: `{symbol}` in paths, queries, headers, keys and bodies.

use super::super::field::{Piece, is_param_name, pieces};
use super::super::read::or;
use crate::params::{ParamText, Part};

/// What to write where parameters may stand.
pub(super) const HINT: &str = "write {name} for a parameter of the path, {{ and }} for braces";

/// The names of a stream's parameters.
pub(super) struct Names {
    known: Option<Vec<String>>,
    /// Whether messages may list them.
    shown: bool,
}

impl Names {
    /// `known: None`: the path could not be read, and every name is taken for known.
    pub(super) fn new(known: Option<Vec<String>>, shown: bool) -> Self {
        Self { known, shown }
    }

    /// In the order of the path.
    pub(super) fn known(&self) -> Option<&[String]> {
        self.known.as_deref()
    }

    /// Whether messages may list them.
    pub(super) fn are_shown(&self) -> bool {
        self.shown
    }

    /// A text in which `{name}` is a parameter and `{{`, `}}` are braces.
    pub(super) fn text(&self, text: &str) -> Result<ParamText, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = rest.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else {
                let inner = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
                let Some((name, after)) = inner.filter(|(name, _)| is_param_name(name)) else {
                    return Err("a brace that is no parameter".into());
                };
                let index = self.index(name)?;
                flush(&mut literal, &mut parts);
                parts.push(Part::Param(index));
                rest = after;
            }
        }
        literal.push_str(rest);
        flush(&mut literal, &mut parts);
        Ok(ParamText(parts))
    }

    /// A path in which a parameter is a whole segment (EDGE U1).
    pub(super) fn path(&self, text: &str) -> Result<ParamText, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        for piece in pieces(text)? {
            literal.push('/');
            match piece {
                Piece::Literal(segment) => literal.push_str(segment),
                Piece::Param(name) => {
                    flush(&mut literal, &mut parts);
                    parts.push(Part::Param(self.index(name)?));
                }
            }
        }
        flush(&mut literal, &mut parts);
        Ok(ParamText(parts))
    }

    /// A body: `{name}` is a parameter where the path has one of this name, and itself elsewhere, as JSON has braces.
    pub(super) fn body(&self, text: &str) -> ParamText {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            let known = |name: &str| self.known()?.iter().position(|known| known == name);
            let inner = rest[1..].split_once('}');
            match inner.and_then(|(name, after)| Some((known(name)?, after))) {
                Some((index, after)) => {
                    flush(&mut literal, &mut parts);
                    parts.push(Part::Param(index));
                    rest = after;
                }
                None => {
                    literal.push('{');
                    rest = &rest[1..];
                }
            }
        }
        literal.push_str(rest);
        flush(&mut literal, &mut parts);
        ParamText(parts)
    }

    fn index(&self, name: &str) -> Result<usize, String> {
        let Some(names) = self.known() else {
            return Ok(0);
        };
        names.iter().position(|known| known == name).ok_or_else(|| {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            match (known.is_empty(), self.shown) {
                (true, _) => {
                    format!("`{{{name}}}` is not in the stream's path, which has no parameters")
                }
                (false, true) => format!(
                    "`{{{name}}}` is not in the stream's path, which has {}",
                    or(&known)
                ),
                (false, false) => format!("`{{{name}}}` is not in the stream's path"),
            }
        })
    }
}

fn flush(literal: &mut String, parts: &mut Vec<Part>) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::params::{Escape, Params};

    fn names() -> Names {
        Names::new(Some(vec!["a".into(), "b".into()]), true)
    }

    fn rendered(text: &ParamText) -> String {
        text.render(
            &Params::from(vec!["1".into(), "2".into()]),
            Escape::Verbatim,
        )
    }

    #[test]
    fn braces_stand_for_parameters_or_for_themselves() {
        let text = |text| names().text(text).map(|text| rendered(&text));
        assert_eq!(text("x{b}y{a}{a}"), Ok("x2y11".into()));
        assert_eq!(text("{{{a}}}:{{b}}"), Ok("{1}:{b}".into()));
        assert_eq!(text(""), Ok("".into()));
        assert!(
            text("{c}")
                .expect_err("unknown")
                .contains("which has a or b")
        );
        for bad in ["{", "}", "{a", "a}", "{}", "{a.b}", "{ a }"] {
            assert!(text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_body_may_be_json() {
        let body = names().body(r#"{"s": "{a}", "o": {"b": 1}, "c": "{c}", "x": {b}}"#);
        assert_eq!(
            rendered(&body),
            r#"{"s": "1", "o": {"b": 1}, "c": "{c}", "x": 2}"#
        );
    }

    /// EDGE U1
    #[test]
    fn a_parameter_fills_a_whole_segment_of_a_path() {
        let path = |text| names().path(text).map(|text| rendered(&text));
        assert_eq!(path("/x/{a}/{b}/"), Ok("/x/1/2/".into()));
        assert_eq!(path("/"), Ok("/".into()));
        for bad in [
            "x",
            "/x{a}",
            "/{a}.json",
            "/{c}",
            "/a?b={a}",
            "/../{a}",
            "//{a}",
        ] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_braces_is_itself(text in "[^{}]{0,30}") {
            prop_assert_eq!(&rendered(&names().text(&text).expect("no braces")), &text);
            prop_assert_eq!(&rendered(&names().body(&text)), &text);
        }

        #[test]
        fn any_body_is_taken(text in "[{}ab \"]{0,30}") {
            names().body(&text);
        }
    }
}
