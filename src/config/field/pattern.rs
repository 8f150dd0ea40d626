//! Patterns of path parameters.

use std::fmt;
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

/// A regular expression that a whole text must match. Linear time (the `regex` crate), bounded size.
#[derive(Clone)]
pub struct Pattern {
    text: Box<str>,
    regex: Regex,
}

/// Bytes of a compiled pattern; a greedy repetition such as `\w{1,1000}` stays well below.
const SIZE_LIMIT: usize = 1 << 20;

impl Pattern {
    /// What a parameter without a pattern of its own must match (EDGE U2).
    pub const DEFAULT: &'static str = "[A-Za-z0-9._~-]{1,128}";

    /// Compiles `text`; the error is one sentence without the pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        // By itself first: `a)|(b` is whole only with the parentheses that are put around it, and would then match parts.
        compile(text)?;
        Ok(Self {
            text: text.into(),
            regex: compile(&format!(r"\A(?:{text})\z"))?,
        })
    }

    /// Whether all of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Default for Pattern {
    /// [`Pattern::DEFAULT`]
    fn default() -> Self {
        // The text is a constant, and `only_whole_matches_count` compiles it.
        static COMPILED: LazyLock<Pattern> = LazyLock::new(|| {
            #[expect(clippy::expect_used, reason = "a constant that a test compiles")]
            Pattern::parse(Pattern::DEFAULT).expect("the default pattern compiles")
        });
        COMPILED.clone()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "the pattern is too big".to_owned(),
            // The crate draws the pattern over several lines; its last line is the sentence.
            other => other
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("compiles")
    }

    /// EDGE U2: a pattern must match the whole text, whatever it holds.
    #[test]
    fn only_whole_matches_count() {
        assert!(pattern("a|ab").is_match("ab"));
        assert!(!pattern("a|b").is_match("ab"));
        assert!(!pattern("a").is_match("a\n"));
        assert!(!pattern("(?m)^a$").is_match("a\nb"));
        assert!(Pattern::parse("a)|(b").is_err());
        let default = Pattern::default();
        assert!(default.is_match("BRK.B") && default.is_match(&"x".repeat(128)));
        assert!(!default.is_match("") && !default.is_match(&"x".repeat(129)));
    }

    #[test]
    fn errors_are_one_line() {
        assert_eq!(
            Pattern::parse("[a").expect_err("bad"),
            "unclosed character class"
        );
        assert_eq!(
            Pattern::parse(r"\w{1000}{1000}").expect_err("big"),
            "the pattern is too big"
        );
    }
}
