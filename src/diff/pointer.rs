//! JSON Pointers (RFC 6901), grown and cut back while walking down and up.

use std::fmt;

/// The text of a pointer; empty for the root.
#[derive(Debug, Default)]
pub(super) struct Pointer(String);

/// How long a pointer was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth(usize);

impl Pointer {
    /// How long it is now.
    pub(super) fn depth(&self) -> Depth {
        Depth(self.0.len())
    }

    /// Goes into the member. `~` and `/` are escaped (RFC 6901 §4, EDGE J2).
    pub(super) fn enter_member(&mut self, name: &str) -> Depth {
        let depth = self.depth();
        self.0.push('/');
        for character in name.chars() {
            match character {
                '~' => self.0.push_str("~0"),
                '/' => self.0.push_str("~1"),
                other => self.0.push(other),
            }
        }
        depth
    }

    /// Goes into the element. No leading zeros (EDGE J2).
    pub(super) fn enter_element(&mut self, index: usize) -> Depth {
        let depth = self.depth();
        self.0.push('/');
        self.0.push_str(&index.to_string());
        depth
    }

    /// Goes back to where `depth` was taken.
    pub(super) fn leave(&mut self, depth: Depth) {
        self.0.truncate(depth.0);
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE J2; the members are those of RFC 6901 §5.
    #[test]
    fn members_are_escaped() {
        for (name, pointer) in [
            ("foo", "/foo"),
            ("", "/"),
            ("a/b", "/a~1b"),
            ("m~n", "/m~0n"),
            ("~1", "/~01"),
            (" ", "/ "),
        ] {
            let mut path = Pointer::default();
            path.enter_member(name);
            assert_eq!(path.as_str(), pointer);
        }
    }

    #[test]
    fn leaving_goes_back() {
        let mut path = Pointer::default();
        let root = path.enter_member("a/b");
        let depth = path.enter_element(10);
        assert_eq!(path.to_string(), "/a~1b/10");
        path.leave(depth);
        assert_eq!(path.to_string(), "/a~1b");
        path.leave(root);
        assert_eq!(path.to_string(), "");
    }
}
