//! Text for people's terminals: nothing that came from outside drives the terminal (EDGE O6), colours only where they are wanted.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal};

/// Foreign text on one line: control characters, and those that reorder text, are shown as escapes such as `\u{1b}`.
pub(super) fn plain(text: &str) -> impl Display {
    Plain(text)
}

/// Whether a character would be obeyed instead of shown: C0, DEL and C1 controls, bidirectional controls, line and
/// paragraph separators.
pub(super) fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most about `limit` bytes of `text`, with a word on how much there is when it is cut.
pub(super) fn shortened(text: &str, limit: usize) -> impl Display {
    Shortened { text, limit }
}

/// Whether colours are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    /// Text alone.
    Off,
    /// ANSI SGR sequences.
    On,
}

/// What a colour says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tone {
    /// Less important.
    Dim,
    /// A name.
    Name,
    /// Something about the stream rather than the value.
    Notice,
    /// New.
    Added,
    /// Other than before.
    Changed,
    /// No more.
    Removed,
}

impl Colours {
    /// On when standard output is a terminal and `NO_COLOR` is not set.
    pub(super) fn for_stdout() -> Self {
        match io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            true => Self::On,
            false => Self::Off,
        }
    }

    /// `text` in the colour of `tone`. The text must be harmless: see [`plain`].
    pub(super) fn paint(self, tone: Tone, text: impl Display) -> impl Display {
        Painted {
            colours: self,
            tone,
            text,
        }
    }
}

struct Plain<'a>(&'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(is_obeyed) {
            f.write_str(&rest[..at])?;
            let mut chars = rest[at..].chars();
            if let Some(c) = chars.next() {
                // `escape_debug` would show some of these as they are.
                match c {
                    '\t' | '\n' | '\r' => write!(f, "{}", c.escape_debug())?,
                    c => write!(f, "{}", c.escape_unicode())?,
                }
            }
            rest = chars.as_str();
        }
        f.write_str(rest)
    }
}

struct Shortened<'a> {
    text: &'a str,
    limit: usize,
}

impl Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.limit.min(self.text.len());
        let cut = (0..=most)
            .rev()
            .find(|&at| self.text.is_char_boundary(at))
            .unwrap_or(0);
        write!(f, "{}", plain(&self.text[..cut]))?;
        match cut < self.text.len() {
            true => write!(f, " … ({} bytes in all)", self.text.len()),
            false => Ok(()),
        }
    }
}

struct Painted<T> {
    colours: Colours,
    tone: Tone,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.colours == Colours::Off {
            return self.text.fmt(f);
        }
        let code = match self.tone {
            Tone::Dim => "2",
            Tone::Name => "1",
            Tone::Notice => "35",
            Tone::Added => "32",
            Tone::Changed => "33",
            Tone::Removed => "31",
        };
        write!(f, "\u{1b}[{code}m{}\u{1b}[0m", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// EDGE O6: what would drive a terminal is shown instead.
    #[test]
    fn control_characters_are_shown_as_escapes() {
        let hostile = "a\u{1b}]0;x\u{7}\u{9b}2J\u{7f}\r\n\t\u{202e}\u{2028}é\u{1F600}\\";
        assert_eq!(
            plain(hostile).to_string(),
            "a\\u{1b}]0;x\\u{7}\\u{9b}2J\\u{7f}\\r\\n\\t\\u{202e}\\u{2028}é\u{1F600}\\"
        );
    }

    #[test]
    fn long_text_is_cut_between_characters_and_says_so() {
        assert_eq!(shortened("abc", 3).to_string(), "abc");
        assert_eq!(shortened("aéé", 4).to_string(), "aé … (5 bytes in all)");
    }

    #[test]
    fn colours_surround_the_text_or_are_not_there() {
        assert_eq!(Colours::Off.paint(Tone::Added, "+ 1").to_string(), "+ 1");
        assert_eq!(
            Colours::On.paint(Tone::Added, "+ 1").to_string(),
            "\u{1b}[32m+ 1\u{1b}[0m"
        );
    }

    proptest! {
        #[test]
        fn nothing_obeyed_is_left(text: String) {
            prop_assert!(!plain(&text).to_string().contains(is_obeyed));
        }
    }
}
