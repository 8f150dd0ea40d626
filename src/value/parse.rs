//! Bytes to JSON: RFC 8259 to the letter, with bounds (EDGE U9–U12).
//!
//! Our own reader, because numbers must keep their text and serde_json's way to that changes every user of it in the
//! program. It is a recursive descent whose depth is bounded before it recurses.

use indexmap::IndexMap;

use super::{Json, Malformed, number};

/// Levels of arrays and objects (EDGE U9).
pub(crate) const MAX_DEPTH: usize = 64;

/// Values in one document: a bound for memory, as `[0,0,…]` takes forty bytes for every byte read.
pub(crate) const MAX_VALUES: usize = 500_000;

/// Reads one document.
pub(super) fn json(bytes: &[u8]) -> Result<Json, Malformed> {
    let mut reader = Reader {
        text: utf8(bytes)?,
        at: 0,
        values: 0,
    };
    let json = reader.value(0)?;
    reader.skip_whitespace();
    match reader.peek() {
        None => Ok(json),
        Some(_) => Err(reader.unexpected("the end")),
    }
}

/// Reads UTF-8.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes)
        .map_err(|error| Malformed::new(format!("not UTF-8 at byte {}", error.valid_up_to())))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Json, Malformed> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.problem(&format!("more than {MAX_VALUES} values")));
        }
        self.skip_whitespace();
        match self.peek() {
            Some(b'{') => self.object(depth + 1).map(Json::Object),
            Some(b'[') => self.array(depth + 1).map(Json::Array),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<IndexMap<Box<str>, Json>, Malformed> {
        self.enter(depth)?;
        let mut members = IndexMap::new();
        if self.take(b'}') {
            return Ok(members);
        }
        loop {
            self.skip_whitespace();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a member's name"));
            }
            let name = self.string()?;
            if !self.take(b':') {
                return Err(self.unexpected("`:`"));
            }
            let value = self.value(depth)?;
            // The last of several wins (EDGE U10).
            members.insert(name, value);
            if self.take(b'}') {
                return Ok(members);
            }
            if !self.take(b',') {
                return Err(self.unexpected("`,` or `}`"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Json>, Malformed> {
        self.enter(depth)?;
        let mut elements = Vec::new();
        if self.take(b']') {
            return Ok(elements);
        }
        loop {
            elements.push(self.value(depth)?);
            if self.take(b']') {
                return Ok(elements);
            }
            if !self.take(b',') {
                return Err(self.unexpected("`,` or `]`"));
            }
        }
    }

    /// Steps over the opening bracket.
    fn enter(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > MAX_DEPTH {
            return Err(self.problem(&format!("deeper than {MAX_DEPTH} levels")));
        }
        self.at += 1;
        Ok(())
    }

    fn number(&mut self) -> Result<Json, Malformed> {
        let length = number::scan(&self.text.as_bytes()[self.at..])
            .ok_or_else(|| self.problem("not a number"))?;
        let text = &self.text[self.at..self.at + length];
        self.at += length;
        Ok(Json::Number(number::from_scanned(text)))
    }

    fn word(&mut self, word: &str, meaning: Json) -> Result<Json, Malformed> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(meaning)
    }

    /// Reads a string from its opening quote on.
    fn string(&mut self) -> Result<Box<str>, Malformed> {
        self.at += 1;
        let plain = self.plain_run();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(plain.into());
        }
        let mut out = plain.to_owned();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out.into());
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return Err(self.problem("unescaped control character in a string")),
                None => return Err(self.unexpected("`\"`")),
            }
            out.push_str(self.plain_run());
        }
    }

    /// Takes characters up to the next one that means something inside a string.
    fn plain_run(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let special = |byte: u8| byte == b'"' || byte == b'\\' || byte < 0x20;
        let length = rest.bytes().position(special).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn escape(&mut self) -> Result<char, Malformed> {
        let known = match self.text.as_bytes().get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.problem("unknown escape in a string")),
        };
        self.at += 2;
        Ok(known)
    }

    /// `\uXXXX`, or two of them that make one character (RFC 8259 §7). A half of a pair alone is refused (EDGE U12).
    fn unicode_escape(&mut self) -> Result<char, Malformed> {
        let first = self.four_hex_digits(self.at)?;
        let (code, length) = match first {
            0xD800..=0xDBFF => match self.four_hex_digits(self.at + 6) {
                Ok(second @ 0xDC00..=0xDFFF) => {
                    (0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00), 12)
                }
                _ => return Err(self.problem("lone surrogate in a string")),
            },
            other => (other, 6),
        };
        let character =
            char::from_u32(code).ok_or_else(|| self.problem("lone surrogate in a string"))?;
        self.at += length;
        Ok(character)
    }

    fn four_hex_digits(&self, at: usize) -> Result<u32, Malformed> {
        let escape = self.text.as_bytes().get(at..at + 6).unwrap_or_default();
        match escape {
            [b'\\', b'u', digits @ ..] if digits.iter().all(u8::is_ascii_hexdigit) => {
                Ok(digits.iter().fold(0, |code, digit| {
                    code * 16 + (*digit as char).to_digit(16).unwrap_or(0)
                }))
            }
            _ => Err(self.problem("unknown escape in a string")),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Steps over whitespace and then over `byte`, if it is there.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_whitespace();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn unexpected(&self, wanted: &str) -> Malformed {
        match self.text[self.at..].chars().next() {
            Some(found) => self.problem(&format!("found {found:?}, expected {wanted}")),
            None => self.problem(&format!("ends early, expected {wanted}")),
        }
    }

    fn problem(&self, what: &str) -> Malformed {
        let before = &self.text[..self.at];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Malformed::new(format!("not JSON at line {line}, column {column}: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn problem(bytes: &[u8]) -> String {
        json(bytes).expect_err("not JSON").to_string()
    }

    /// EDGE U12.
    #[test]
    fn refuses_what_is_not_json() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[1",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "1 2",
            "[1] x",
            "NaN",
            "-Infinity",
            "+1",
            "01",
            "1.",
            "-",
            "tru",
            "nul",
            "True",
            "\u{feff}1",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u+123\"",
            "\"a\nb\"",
            "\"\0\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"\\ud800x\"",
            "\"",
            "\"\\",
            "// 1",
            "[1]/**/",
            "\u{a0}1",
            "[\u{2028}1]",
        ] {
            assert!(json(text.as_bytes()).is_err(), "{text:?}");
        }
        for bytes in [
            &b"\"\xff\""[..],
            b"\xc0\xaf",
            b"\"\xed\xa0\x80\"",
            b"\xfe\xff\x00\x31",
        ] {
            assert!(json(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn unescapes() {
        let text = r#""\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00\u0000 \u2028""#;
        assert_eq!(
            json(text.as_bytes()),
            Ok(Json::from("\"\\/\u{8}\u{c}\n\r\tAé😀\0 \u{2028}"))
        );
        assert_eq!(json(r#""\uD83D\uDE00""#.as_bytes()), Ok(Json::from("😀")));
    }

    /// EDGE U10.
    #[test]
    fn the_last_of_duplicate_names_wins() {
        assert_eq!(
            json(br#"{"a":1,"b":2,"\u0061":3}"#)
                .expect("JSON")
                .to_string(),
            r#"{"a":3,"b":2}"#
        );
    }

    /// EDGE U9.
    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(json(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(problem(nested(MAX_DEPTH + 1).as_bytes()).contains("deeper than 64 levels"));
        assert!(problem(&b"[".repeat(1 << 20)).contains("column 65"));
        assert!(problem(&b"{\"a\":".repeat(1 << 18)).contains("deeper than 64 levels"));
    }

    /// EDGE U9.
    #[test]
    fn the_number_of_values_is_bounded() {
        let many = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        assert!(json(many(MAX_VALUES - 1).as_bytes()).is_ok());
        assert!(problem(many(MAX_VALUES).as_bytes()).contains("more than 500000 values"));
    }

    #[test]
    fn problems_say_where_and_quote_one_character() {
        assert_eq!(
            problem(b"{\n  \"a\": <html>secret"),
            "not JSON at line 2, column 8: found '<', expected a value"
        );
        assert_eq!(
            problem("[\"é\" 1]".as_bytes()),
            "not JSON at line 1, column 6: found '1', expected `,` or `]`"
        );
        assert_eq!(
            problem(b"[1"),
            "not JSON at line 1, column 3: ends early, expected `,` or `]`"
        );
        assert_eq!(problem(b"1 \xff"), "not UTF-8 at byte 2");
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = json(&bytes);
        }

        /// Text made of JSON's own pieces reaches deep into the grammar. The judge reads without a number type of its own.
        #[test]
        fn accepts_what_an_independent_reader_accepts(pieces in proptest::collection::vec(
            proptest::sample::select(vec!["{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\\", "\\n", "1", "0", "-", ".5", "e", "+", "true", "null", " ", "\n", "é"]),
            0..12,
        )) {
            let text = pieces.concat();
            let judge = serde_json::from_str::<&RawValue>(&text).is_ok();
            prop_assert_eq!(json(text.as_bytes()).is_ok(), judge, "{}", text);
        }
    }
}
