//! I-Regexp (RFC 9485) by the `regex` crate, whose time is linear in the text (EDGE J8).

use regex::{Regex, RegexBuilder};

/// Bytes of a pattern.
const MAX_PATTERN: usize = 1024;

/// Bytes of a compiled program: `(.{1000}){1000}` is short, what it stands for is not.
const MAX_PROGRAM: usize = 256 * 1024;

/// Compiles `pattern` for `match()` (`whole`: from the first to the last character) or for `search()`.
pub(super) fn compile(pattern: &str, whole: bool) -> Result<Regex, String> {
    if pattern.len() > MAX_PATTERN {
        return Err(format!(
            "regular expression is longer than {MAX_PATTERN} bytes"
        ));
    }
    // Compiled alone first, so that a `)` in it cannot close the group that anchors it.
    let alone = translate(pattern);
    let regex = build(&alone, pattern)?;
    if whole {
        build(&format!(r"\A(?:{alone})\z"), pattern)
    } else {
        Ok(regex)
    }
}

fn build(translated: &str, pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(translated)
        .size_limit(MAX_PROGRAM)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("regular expression {pattern:?} is too big"),
            _ => format!("regular expression {pattern:?} is not one"),
        })
}

/// Says the differences between RFC 9485 and the crate: `.` is neither line feed nor carriage return, and `[`, `&` and `~` mean
/// nothing inside a class.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut in_class = false;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                out.push('\\');
                out.extend(characters.next());
            }
            '.' if !in_class => out.push_str(r"[^\n\r]"),
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(character);
            }
            '[' => {
                in_class = true;
                out.push('[');
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        compile(pattern, true).expect("a pattern").is_match(text)
    }

    #[test]
    fn match_is_of_the_whole_text() {
        assert!(matches("a|bc", "bc") && matches("a|bc", "a"));
        assert!(!matches("a|bc", "abc") && !matches("a", "a\n"));
        assert!(compile("b", false).expect("a pattern").is_match("abc"));
    }

    #[test]
    fn a_dot_is_no_line_break() {
        assert!(matches("a.c", "a\u{2028}c"));
        assert!(!matches("a.c", "a\rc") && !matches("a.c", "a\nc"));
        assert!(matches("[.]", ".") && !matches("[.]", "x") && !matches(r"\.", "x"));
    }

    #[test]
    fn classes_have_no_operators() {
        assert!(matches("[a&&b]+", "a&b") && matches("[[x]+", "[x") && matches("[a~~b]", "~"));
    }

    /// EDGE J8.
    #[test]
    fn what_does_not_compile_or_is_too_big_is_refused() {
        for pattern in ["(", "a)(b", "*", "[", r"\", "(?=a)", "a{2,1}"] {
            assert!(compile(pattern, true).is_err(), "{pattern:?}");
        }
        assert!(compile("(.{1000}){1000}", true).is_err());
        assert!(compile(&"a".repeat(MAX_PATTERN + 1), true).is_err());
    }
}
