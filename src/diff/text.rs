//! Text that is never longer than a limit, and the operations of a JSON Patch written into it.

use std::fmt::{self, Write};

use super::pointer::Pointer;
use crate::value::{self, Json};

/// Text with a limit in bytes. Writing past it is an error and leaves a part behind: cut back, or give up.
#[derive(Debug)]
pub(super) struct Bounded {
    text: String,
    limit: usize,
}

impl Bounded {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            text: String::new(),
            limit,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn cut_back(&mut self, length: usize) {
        self.text.truncate(length);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.len().saturating_add(text.len()) > self.limit {
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

/// The operations of RFC 6902 §4 that we use, in the order in which they apply.
#[derive(Debug)]
pub(super) struct Operations(Bounded);

impl Operations {
    /// `limit` is that of the finished patch.
    pub(super) fn new(limit: usize) -> Self {
        // The closing bracket's place is kept; the opening one is written with the first operation.
        Self(Bounded::new(limit.saturating_sub(1)))
    }

    pub(super) fn add(&mut self, path: &Pointer, value: &Json) -> fmt::Result {
        self.with_value("add", path, value)
    }

    pub(super) fn replace(&mut self, path: &Pointer, value: &Json) -> fmt::Result {
        self.with_value("replace", path, value)
    }

    pub(super) fn remove(&mut self, path: &Pointer) -> fmt::Result {
        self.open("remove")?;
        self.member("path", path.as_str())?;
        self.0.write_char('}')
    }

    /// Takes what is at `from` out, then adds it at `path` (RFC 6902 §4.4): an index in `path` counts without it.
    pub(super) fn relocate(&mut self, from: &str, path: &str) -> fmt::Result {
        self.open("move")?;
        self.member("from", from)?;
        self.member("path", path)?;
        self.0.write_char('}')
    }

    /// Where the next operation will begin, for [`Operations::or_replace`].
    pub(super) fn mark(&self) -> usize {
        self.0.len()
    }

    /// Replaces everything written since `mark` by one replacement of what is at `path`, if that is shorter or if what was
    /// written did not fit (`written` is an error).
    pub(super) fn or_replace(
        &mut self,
        mark: usize,
        written: fmt::Result,
        path: &Pointer,
        whole: &Json,
    ) -> fmt::Result {
        let detail = self.0.text.split_off(mark);
        let limit = self.0.limit;
        if written.is_ok() {
            self.0.limit = limit.min((mark + detail.len()).saturating_sub(1));
        }
        let replaced = self.replace(path, whole);
        self.0.limit = limit;
        if replaced.is_err() {
            self.0.cut_back(mark);
            if written.is_ok() {
                self.0.text.push_str(&detail);
            }
            return written;
        }
        replaced
    }

    /// The patch.
    pub(super) fn finish(self) -> Option<String> {
        let limit = self.0.limit;
        let mut text = self.0.into_text();
        if text.is_empty() {
            // Two brackets: one of them is in the limit.
            return (limit >= 1).then(|| "[]".to_owned());
        }
        text.push(']');
        Some(text)
    }

    fn with_value(&mut self, name: &str, path: &Pointer, value: &Json) -> fmt::Result {
        self.open(name)?;
        self.member("path", path.as_str())?;
        self.0.write_str(",\"value\":")?;
        value::write(&mut self.0, value)?;
        self.0.write_char('}')
    }

    fn open(&mut self, name: &str) -> fmt::Result {
        self.0
            .write_char(if self.0.len() == 0 { '[' } else { ',' })?;
        write!(self.0, "{{\"op\":\"{name}\"")
    }

    fn member(&mut self, name: &str, pointer: &str) -> fmt::Result {
        write!(self.0, ",\"{name}\":")?;
        value::write_string(&mut self.0, pointer)
    }
}
