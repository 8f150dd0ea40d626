//! Words of the configuration as types: what one of these holds needs no further check. Pure, knows no other room.

mod host;
mod origin;
mod path;
mod pattern;

use std::fmt;
use std::time::Duration;

pub use host::HostPattern;
pub use origin::CorsOrigin;
pub use path::{Alphabet, Match, PathTemplate};
pub(in crate::config) use path::{Piece, check_literal, is_param_name, pieces};
pub use pattern::Pattern;

/// How often something may happen: `count` times in `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many times; at least once.
    pub count: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
}

/// A text that no log, message or debug output shows (EDGE O3, A10).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE O3: a secret inside any structure that is printed stays out of the print.
    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("canary");
        assert_eq!(format!("{:?}", Some(&secret)), "Some(Secret(redacted))");
        assert_eq!(secret.expose(), "canary");
    }
}
