//! What a scalar can be asked for: texts, numbers, units, words.

use super::{Content, Item, unit};
use crate::config::field::Rate;

impl Item<'_> {
    /// `null`, `~` or nothing, without quotes.
    pub(in crate::config) fn is_null(&self) -> bool {
        self.is_plain(&["", "null", "Null", "NULL", "~"])
    }

    /// `off` or `false`, with or without quotes, or put in: where it may stand no other text may.
    pub(in crate::config) fn is_off(&self) -> bool {
        let words = ["off", "false", "Off", "OFF", "False", "FALSE"];
        self.any_text().is_some_and(|text| words.contains(&text))
    }

    /// `none`, in the same way.
    pub(in crate::config) fn is_none(&self) -> bool {
        self.any_text() == Some("none")
    }

    /// What `read` makes of it, or nothing for null. The outer `None`: a problem.
    pub(in crate::config) fn or_null<T>(
        self,
        read: impl FnOnce(Self) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.is_null() {
            true => Some(None),
            false => read(self).map(Some),
        }
    }

    /// Any scalar but null, as it is written.
    pub(in crate::config) fn text(&self) -> Option<String> {
        match &self.content {
            Content::Scalar(scalar) if !self.is_null() || scalar.put_in => {
                Some(scalar.text.clone())
            }
            _ => self.mismatch(
                "a text",
                "write one, in quotes if it holds `: `, ` #`, `{` or `[`",
            ),
        }
    }

    /// What `parse` makes of the text; its error becomes the problem, with `hint` in parentheses.
    pub(in crate::config) fn parsed<T>(
        &self,
        hint: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(&self.text()?) {
            Ok(value) => Some(value),
            Err(why) => {
                // What is quoted stands in backquotes.
                let why = if self.is_put_in() && why.contains('`') {
                    "the value cannot be used".to_owned()
                } else {
                    why
                };
                self.problem(format!("{why} ({hint})"));
                None
            }
        }
    }

    /// The same for a `parse` whose errors quote the text, such as those of other crates.
    pub(in crate::config) fn compiled<T>(
        &self,
        what: &str,
        hint: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.parsed(hint, |text| {
            parse(text).map_err(|why| match self.is_secret() {
                true => format!("{} is no {what}", self.shown()),
                false => format!("{} is no {what}: {}", self.shown(), one_line(&why)),
            })
        })
    }

    pub(in crate::config) fn bool(&self) -> Option<bool> {
        match self.value_text() {
            Some("true" | "True" | "TRUE") => Some(true),
            Some("false" | "False" | "FALSE") => Some(false),
            _ => self.mismatch("true or false", "write true or false"),
        }
    }

    pub(in crate::config) fn integer(&self, min: u64, max: u64) -> Option<u64> {
        let digits = self
            .value_text()
            .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(number) => self.within(number, min, max, |number| number.to_string()),
            None => self.mismatch("a whole number", &format!("write {min} to {max}")),
        }
    }

    /// Not negative, finite.
    pub(in crate::config) fn number(&self) -> Option<f64> {
        let number = |text: &str| {
            // `inf` and `nan` are numbers to Rust, and text to everybody else.
            let looks = text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
            text.parse::<f64>()
                .ok()
                .filter(|number| looks && number.is_finite())
        };
        match self.value_text().and_then(number) {
            Some(number) => Some(number),
            None => self.mismatch("a number from 0", "write one such as 0.01"),
        }
    }

    /// In milliseconds.
    pub(in crate::config) fn duration(&self, min: u64, max: u64) -> Option<u64> {
        match self.any_text().and_then(unit::duration) {
            Some(time) => self.within(time, min, max, unit::show_duration),
            None => self.mismatch("a duration", &format!("write {}", unit::DURATION_HINT)),
        }
    }

    /// In bytes.
    pub(in crate::config) fn size(&self, min: u64, max: u64) -> Option<u64> {
        match self.any_text().and_then(unit::size) {
            Some(size) => self.within(size, min, max, unit::show_size),
            None => self.mismatch("a size", &format!("write {}", unit::SIZE_HINT)),
        }
    }

    pub(in crate::config) fn rate(&self) -> Option<Rate> {
        match self.any_text().and_then(unit::rate) {
            Some(rate) => Some(rate),
            None => self.mismatch("a rate", &format!("write {}", unit::RATE_HINT)),
        }
    }

    pub(super) fn is_plain(&self, texts: &[&str]) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.plain && texts.contains(&scalar.text.as_str()))
    }

    /// A scalar that may be more than text: without quotes, or put in.
    fn value_text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(scalar) if scalar.plain || scalar.put_in => Some(&scalar.text),
            _ => None,
        }
    }

    pub(super) fn any_text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    fn within(&self, value: u64, min: u64, max: u64, show: fn(u64) -> String) -> Option<u64> {
        if (min..=max).contains(&value) {
            return Some(value);
        }
        let side = if value < min { "small" } else { "large" };
        self.problem(format!(
            "{} is too {side} (write {} to {})",
            self.shown(),
            show(min),
            show(max)
        ));
        None
    }
}

/// The text without its control characters and line breaks.
fn one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .escape_debug()
        .to_string()
}
