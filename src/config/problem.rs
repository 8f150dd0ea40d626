//! What is wrong with a configuration file, and where.

use std::fmt::{self, Write};

/// One mistake. Prints as `LINE:COLUMN: key.path: what is wrong (what to write)`, on one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Such as `streams[0].every`; empty where there is none, as for a syntax error.
    pub path: String,
    /// What is wrong, and in parentheses what to write. Holds nothing that came from the environment or a file.
    pub text: String,
}

/// All mistakes of one file: at least one, sorted by position. Prints as whole lines, `FILE:LINE:COLUMN: ...` each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: String,
    list: Vec<Problem>,
}

impl Problems {
    /// Sorts them. `None` when there are none.
    pub(super) fn new(file: &str, mut list: Vec<Problem>) -> Option<Self> {
        list.sort();
        list.dedup();
        (!list.is_empty()).then(|| Self {
            file: file.to_owned(),
            list,
        })
    }

    /// A file with one mistake.
    pub(super) fn one(file: &str, problem: Problem) -> Self {
        Self {
            file: file.to_owned(),
            list: vec![problem],
        }
    }

    /// Each, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        // A name from the file may hold what ends a line, or moves the cursor of a terminal.
        self.text.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => f.write_char(c),
        })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list
            .iter()
            .try_for_each(|problem| writeln!(f, "{}:{problem}", self.file))
    }
}

impl std::error::Error for Problems {}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE O6: whatever stands in the file, a problem is one line.
    #[test]
    fn a_problem_is_one_line() {
        let problem = Problem {
            line: 1,
            column: 2,
            path: "a".into(),
            text: "write b\n\u{1b}[2Jc or ü".into(),
        };
        let line = r"1:2: a: write b\n\u{1b}[2Jc or ü";
        assert_eq!(problem.to_string(), line);
    }
}
