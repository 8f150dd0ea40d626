//! Where a node is, and a tree of things kept by where they are.

use std::collections::HashMap;
use std::fmt::{self, Write};

/// One step down into a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Into the member of an object.
    Member(Box<str>),
    /// Into the element of an array, from 0.
    Index(usize),
}

/// The way from the root to one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Location(pub Vec<Step>);

/// A normalised path (RFC 9535 §2.7).
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('$')?;
        for step in &self.0 {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Member(name) => {
                    f.write_str("['")?;
                    for character in name.chars() {
                        match character {
                            '\'' | '\\' => write!(f, "\\{character}")?,
                            '\u{8}' => f.write_str("\\b")?,
                            '\u{c}' => f.write_str("\\f")?,
                            '\n' => f.write_str("\\n")?,
                            '\r' => f.write_str("\\r")?,
                            '\t' => f.write_str("\\t")?,
                            control if control < ' ' => write!(f, "\\u{:04x}", control as u32)?,
                            other => f.write_char(other)?,
                        }
                    }
                    f.write_str("']")?;
                }
            }
        }
        Ok(())
    }
}

/// Things kept by the location that they belong to, to be followed while walking a document from its root.
#[derive(Debug)]
pub(crate) struct Located<T> {
    here: Option<T>,
    members: HashMap<Box<str>, Self>,
    elements: HashMap<usize, Self>,
}

impl<T> Located<T> {
    pub(crate) fn new() -> Self {
        Self {
            here: None,
            members: HashMap::new(),
            elements: HashMap::new(),
        }
    }

    /// The place for what belongs to `location`.
    pub(crate) fn at(&mut self, location: Location) -> &mut Option<T> {
        let node = location.0.into_iter().fold(self, |node, step| match step {
            Step::Member(name) => node.members.entry(name).or_insert_with(Self::new),
            Step::Index(index) => node.elements.entry(index).or_insert_with(Self::new),
        });
        &mut node.here
    }

    /// What belongs to this very place.
    pub(crate) fn here(&self) -> Option<&T> {
        self.here.as_ref()
    }

    /// What belongs to places inside the member.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        self.members.get(name)
    }

    /// What belongs to places inside the element.
    pub(crate) fn element(&self, index: usize) -> Option<&Self> {
        self.elements.get(&index)
    }
}
