//! Paths with parameters, such as `/v1/prices/{symbol}`.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::Pattern;
use crate::params::Params;

/// A path of the edge. Literal segments are compared byte by byte with what was received; a parameter is one whole
/// segment that is not empty.
///
/// Several templates may fit one path; the caller asks those with fewer parameters first, so that literals win.
#[derive(Clone, Debug, PartialEq)]
pub struct PathTemplate {
    text: Box<str>,
    segments: Vec<Segment>,
    names: Vec<Box<str>>,
    patterns: Vec<Pattern>,
    alphabet: Alphabet,
}

/// What a received path is to a template that it has the shape of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The values, in the order of [`PathTemplate::param_names`].
    Params(Params),
    /// A pattern refuses a value: 404.
    Refused,
}

/// What the place where values go can hold, whatever the pattern allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Alphabet {
    /// Where every value is escaped: paths, queries, bodies.
    #[default]
    Any,
    /// Header values: visible ASCII (EDGE P22).
    VisibleAscii,
    /// Redis keys and channels: no separator, glob or hash-tag character, no space (EDGE R2).
    RedisKey,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    Param,
}

impl PathTemplate {
    /// Reads a path whose parameters are to match what `pattern` answers for their name. The error is one sentence; it
    /// quotes names of parameters only.
    pub fn parse(text: &str, pattern: &dyn Fn(&str) -> Pattern) -> Result<Self, String> {
        let mut template = Self {
            text: text.into(),
            segments: Vec::new(),
            names: Vec::new(),
            patterns: Vec::new(),
            alphabet: Alphabet::Any,
        };
        for piece in pieces(text)? {
            let name = match piece {
                Piece::Literal(literal) => {
                    template.segments.push(Segment::Literal(literal.into()));
                    continue;
                }
                Piece::Param(name) => name,
            };
            if template.names.iter().any(|known| **known == *name) {
                return Err(format!("the parameter `{name}` stands twice"));
            }
            template.segments.push(Segment::Param);
            template.names.push(name.into());
            template.patterns.push(pattern(name));
        }
        Ok(template)
    }

    /// Also refuses values that the place where they go cannot hold.
    pub fn for_alphabet(mut self, alphabet: Alphabet) -> Self {
        self.alphabet = alphabet;
        self
    }

    /// Compares with a path as it was received. `None`: another shape.
    ///
    /// A value is percent-decoded once before its pattern sees it, so `%20` is a space to the pattern. Refused whatever the
    /// pattern says: broken escapes, bytes that are not UTF-8, escapes of characters that need none (EDGE P12), and
    /// values that are `.` or `..` or hold a slash, a backslash or a control character (EDGE U2, P13, P14).
    pub fn matches(&self, path: &str) -> Option<Match> {
        let mut received = path.strip_prefix('/')?.split('/');
        let mut raw = Vec::with_capacity(self.names.len());
        for segment in &self.segments {
            let got = received.next()?;
            match segment {
                Segment::Literal(text) if **text != *got => return None,
                Segment::Literal(_) => {}
                Segment::Param if got.is_empty() => return None,
                Segment::Param => raw.push(got),
            }
        }
        if received.next().is_some() {
            return None;
        }
        let values: Option<Vec<Box<str>>> = raw
            .into_iter()
            .zip(&self.patterns)
            .map(|(raw, pattern)| self.value(raw, pattern))
            .collect();
        Some(values.map_or(Match::Refused, |values| Match::Params(values.into())))
    }

    /// The names of the parameters, in the order of the path.
    pub fn param_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// What the values of a parameter must match.
    pub fn pattern(&self, name: &str) -> Option<&Pattern> {
        let index = self.names.iter().position(|known| **known == *name)?;
        self.patterns.get(index)
    }

    /// The literals, with `{}` for each parameter: two templates of one shape fit the same paths, whatever their patterns.
    pub fn shape(&self) -> String {
        let segment = |segment: &Segment| match segment {
            Segment::Literal(text) => format!("/{text}"),
            Segment::Param => "/{}".to_owned(),
        };
        self.segments.iter().map(segment).collect()
    }

    /// Whether some path could fit both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let fit = |pair: (&Segment, &Segment)| match pair {
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (Segment::Literal(text), Segment::Param) | (Segment::Param, Segment::Literal(text)) => {
                !text.is_empty()
            }
            (Segment::Param, Segment::Param) => true,
        };
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(fit)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn value(&self, raw: &str, pattern: &Pattern) -> Option<Box<str>> {
        let value = decode(raw)?;
        let allowed = |c: char| match self.alphabet {
            Alphabet::Any => true,
            Alphabet::VisibleAscii => c.is_ascii_graphic(),
            Alphabet::RedisKey => !c.is_whitespace() && !":|;*?[]{}".contains(c),
        };
        let safe = value != "."
            && value != ".."
            && value
                .chars()
                .all(|c| !c.is_control() && c != '/' && c != '\\' && allowed(c));
        (safe && pattern.is_match(&value)).then(|| value.into())
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A segment of a path as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Piece<'a> {
    /// Stands as it is.
    Literal(&'a str),
    /// The parameter of this name.
    Param(&'a str),
}

/// The segments of a path in the file.
pub(in crate::config) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err("the path must begin with a slash".into());
    };
    let last = rest.matches('/').count();
    let mut pieces = Vec::new();
    for (index, segment) in rest.split('/').enumerate() {
        if segment.is_empty() && index < last {
            return Err("the path has an empty segment".into());
        }
        match param_name(segment)? {
            Some(name) => pieces.push(Piece::Param(name)),
            None => {
                check_literal(segment)?;
                pieces.push(Piece::Literal(segment));
            }
        }
    }
    Ok(pieces)
}

/// Whether `name` can be a parameter's.
pub(in crate::config) fn is_param_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether a literal piece of a path can be sent and compared as it is (RFC 3986 §3.3).
pub(in crate::config) fn check_literal(segment: &str) -> Result<(), String> {
    if segment == "." || segment == ".." {
        return Err("the path has a dot segment".into());
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%".contains(&b);
    match segment
        .chars()
        .find(|&c| !c.is_ascii() || !allowed(c as u8))
    {
        Some('?' | '#') => return Err("the path holds a query or fragment".into()),
        Some(_) => return Err("the path holds a character that must be percent-encoded".into()),
        None => {}
    }
    match decode(segment) {
        Some(_) => Ok(()),
        None => Err("the path holds an ambiguous or broken percent-escape".into()),
    }
}

/// The parameter that `segment` is, if any.
fn param_name(segment: &str) -> Result<Option<&str>, String> {
    if !segment.contains(['{', '}']) {
        return Ok(None);
    }
    let inner = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
    let Some(inner) = inner.filter(|inner| !inner.contains(['{', '}'])) else {
        return Err("a parameter is a whole segment".into());
    };
    if inner.ends_with("...") {
        return Err(format!(
            "`{{{}}}` over several segments is not offered",
            inner.escape_debug()
        ));
    }
    match is_param_name(inner) {
        true => Ok(Some(inner)),
        false => Err("a parameter's name is made of letters, digits and `_`".into()),
    }
}

/// Decodes escapes once; `None` when they are broken, not UTF-8, or hide what needs no escape or could end a segment.
fn decode(raw: &str) -> Option<String> {
    for (at, _) in raw.match_indices('%') {
        let hex = raw.get(at + 1..at + 3)?;
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(hex, 16).ok()?;
        if byte.is_ascii_alphanumeric() || b"-._~/\\\0".contains(&byte) {
            return None;
        }
    }
    percent_decode_str(raw).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn template(text: &str, pattern: &str) -> PathTemplate {
        let pattern = Pattern::parse(pattern).expect("a pattern");
        PathTemplate::parse(text, &|_| pattern.clone()).expect("a path")
    }

    fn params(values: &[&str]) -> Option<Match> {
        Some(Match::Params(Params(
            values.iter().map(|&v| v.into()).collect(),
        )))
    }

    #[test]
    fn a_parameter_is_one_whole_segment() {
        let path = template("/v1/{a}/x/{b}", Pattern::DEFAULT);
        assert_eq!(path.matches("/v1/EUR/x/USD"), params(&["EUR", "USD"]));
        assert_eq!(path.param_names().collect::<Vec<_>>(), ["a", "b"]);
        for other in [
            "/v1/EUR/x",
            "/v1/EUR/x/",
            "/v1//x/USD",
            "/v1/EUR/x/USD/",
            "/V1/a/x/b",
            "v1/a/x/b",
            "",
        ] {
            assert_eq!(path.matches(other), None, "{other}");
        }
        assert_eq!(template("/", "x").matches("/"), params(&[]));
        assert_eq!(template("/a/", "x").matches("/a"), None);
    }

    /// EDGE U2, P13, P14: whatever the pattern allows, a value cannot leave its segment.
    #[test]
    fn no_value_leaves_its_segment() {
        let path = template("/{x}", "(?s).*");
        for raw in [
            ".", "..", "%2e", "%2E%2e", "a%2Fb", "a%2fb", "a%5Cb", "a\\b", "%00", "%0a", "%41",
            "%7E", "%", "%2", "%zz", "%+1", "%ff", "%C0%AF", "%C2%80",
        ] {
            assert_eq!(
                path.matches(&format!("/{raw}")),
                Some(Match::Refused),
                "{raw}"
            );
        }
        assert_eq!(path.matches("/a%20b%C3%A9%252F"), params(&["a bé%2F"]));
        assert_eq!(path.matches("/..."), params(&["..."]));
    }

    /// EDGE U2: the default pattern never takes an escape.
    #[test]
    fn the_default_pattern_takes_unreserved_characters_alone() {
        let path = template("/{x}", Pattern::DEFAULT);
        for raw in ["a%20b", "a b", "a+b", "a:b", "é", "a;b"] {
            assert_eq!(
                path.matches(&format!("/{raw}")),
                Some(Match::Refused),
                "{raw}"
            );
        }
        assert_eq!(path.matches("/A-z.0_~"), params(&["A-z.0_~"]));
    }

    /// EDGE R2, P22.
    #[test]
    fn the_place_of_a_value_narrows_its_pattern() {
        let redis = template("/{x}", ".*").for_alphabet(Alphabet::RedisKey);
        for raw in [
            "a:b", "a*", "a?", "[a", "a]", "{a", "a}", "a%5C", "a%20b", "a|b", "%7Ba%7D", "%2A",
        ] {
            assert_eq!(
                redis.matches(&format!("/{raw}")),
                Some(Match::Refused),
                "{raw}"
            );
        }
        assert_eq!(redis.matches("/a-b_c.d~e@f"), params(&["a-b_c.d~e@f"]));
        let header = template("/{x}", ".*").for_alphabet(Alphabet::VisibleAscii);
        assert_eq!(header.matches("/%C3%A9"), Some(Match::Refused));
        assert_eq!(header.matches("/a%20b"), Some(Match::Refused));
        assert_eq!(header.matches("/a:b"), params(&["a:b"]));
    }

    #[test]
    fn bad_paths_are_refused() {
        for text in [
            "", "a", "//", "/a//b", "/a/../b", "/.", "/a?b", "/a#b", "/a b", "/é", "/%41", "/%2F",
            "/%", "/a\\b", "/{a}{b}", "/x{a}", "/{a", "/{}", "/{1}", "/{a-b}", "/{a...}",
            "/{a}/{a}", "/{{a}}",
        ] {
            let made = PathTemplate::parse(text, &|_| Pattern::parse("x").expect("a pattern"));
            assert!(made.is_err(), "{text}");
        }
    }

    #[test]
    fn shapes_and_overlaps() {
        let path = |text| template(text, Pattern::DEFAULT);
        assert_eq!(path("/a/{x}").shape(), path("/a/{y}").shape());
        assert_ne!(path("/a/{x}").shape(), path("/a/b").shape());
        assert_ne!(path("/a").shape(), path("/a/").shape());
        assert!(path("/a/{x}").overlaps(&path("/a/b")) && path("/a/{x}").overlaps(&path("/{y}/b")));
        assert!(!path("/a/{x}").overlaps(&path("/b/c")) && !path("/a/{x}").overlaps(&path("/a/")));
        assert!(!path("/a/{x}").overlaps(&path("/a/b/c")));
    }

    proptest! {
        /// Any bytes of a client: no panic, and what is accepted is safe in a path and in a key.
        #[test]
        fn any_path_is_safe(raw in "\\PC{0,40}") {
            let path = template("/{x}", "(?s).*").for_alphabet(Alphabet::RedisKey);
            if let Some(Match::Params(Params(values))) = path.matches(&raw) {
                let breaks_out = values[0].contains(['/', '\\', ':', '*', '?', '[', ']', '{', '}', '\0', '\r', '\n']);
                prop_assert!(!breaks_out);
                prop_assert!(&*values[0] != "." && &*values[0] != "..");
            }
        }
    }
}
