//! The tree of a file, read with questions: an [`Item`] is a value with its place, and asking it for what it cannot be adds a
//! problem and gives `None`. So a reader asks for everything first, and only then drops out: all problems come in one run.
//!
//! References to the environment and to files are resolved here, scalar by scalar, after parsing. A text that came from
//! outside, and one that may hold a password, is never shown.

mod nearest;
mod scalar;
mod section;
mod substitute;
mod unit;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub(super) use section::{Section, or};

use xxhash_rust::xxh3::xxh3_64;

use super::files::Files;
use super::problem::Problem;
use super::yaml::{self, Entry, Kind, Mark, Node};
use substitute::Lookup;

/// What reading a file needs, and the problems so far.
pub(super) struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    /// Where relative paths begin: the folder of the configuration.
    folder: PathBuf,
    problems: RefCell<Vec<Problem>>,
    files: RefCell<Files>,
}

/// A value, where it stands, and what it is called.
#[derive(Clone)]
pub(super) struct Item<'a> {
    reader: &'a Reader<'a>,
    pub(super) path: String,
    pub(super) mark: Mark,
    content: Content,
    /// Shown in no message.
    hidden: bool,
}

#[derive(Clone)]
enum Content {
    Scalar(Scalar),
    List(Rc<[Node]>),
    Map(Rc<[Entry]>),
    /// Its problem has been told.
    Broken,
}

#[derive(Clone)]
struct Scalar {
    text: String,
    /// Without quotes.
    plain: bool,
    /// Holds something from outside; it may then be a number also in quotes.
    put_in: bool,
}

/// Bytes of one file that is referred to: enough for any chain of certificates.
const MAX_FILE: u64 = 1 << 20;

impl<'a> Reader<'a> {
    pub(super) fn new(
        file: &Path,
        env: &'a dyn Fn(&str) -> Option<String>,
        problems: Vec<Problem>,
    ) -> Self {
        Self {
            env,
            folder: file.parent().map(Path::to_owned).unwrap_or_default(),
            problems: RefCell::new(problems),
            files: RefCell::default(),
        }
    }

    /// The whole document.
    pub(super) fn root(&'a self, node: Node) -> Item<'a> {
        self.item(String::new(), node)
    }

    /// And the files that were read.
    pub(super) fn into_problems(self) -> (Vec<Problem>, Files) {
        (self.problems.into_inner(), self.files.into_inner())
    }

    fn problem(&self, mark: Mark, path: &str, text: impl Into<String>) {
        let path = path.to_owned();
        let problem = Problem {
            path,
            ..mark.problem(text)
        };
        self.problems.borrow_mut().push(problem);
    }

    fn item(&'a self, path: String, node: Node) -> Item<'a> {
        let content = match node.kind {
            Kind::List(list) => Content::List(list),
            Kind::Map(entries) => Content::Map(entries),
            Kind::Scalar { text, plain } => match substitute::substitute(&text, self) {
                Ok(resolved) => Content::Scalar(Scalar {
                    text: resolved.text,
                    plain,
                    put_in: resolved.put_in,
                }),
                Err(problems) => {
                    problems
                        .into_iter()
                        .for_each(|text| self.problem(node.mark, &path, text));
                    Content::Broken
                }
            },
        };
        Item {
            reader: self,
            path,
            mark: node.mark,
            content,
            hidden: false,
        }
    }

    /// At most [`MAX_FILE`] of a file's bytes.
    fn bytes(&self, path: &str) -> Result<Vec<u8>, String> {
        let path = self.folder.join(path);
        let read = self.files.borrow_mut().read(&path, MAX_FILE + 1);
        let bytes = read.map_err(|error| why(&error))?;
        match bytes.len() as u64 > MAX_FILE {
            true => Err("it is larger than 1MiB".to_owned()),
            false => Ok(bytes),
        }
    }
}

impl Lookup for Reader<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    fn file(&self, path: &str) -> Result<String, String> {
        String::from_utf8(self.bytes(path)?).map_err(|_| "it is not UTF-8".to_owned())
    }
}

impl<'a> Item<'a> {
    /// Adds a problem with this value.
    pub(super) fn problem(&self, text: impl Into<String>) {
        self.reader.problem(self.mark, &self.path, text);
    }

    /// Keeps the value out of messages, as it may hold a password.
    pub(super) fn hide(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// The value for a sentence: `the number 5`, or what kind of thing it is when it must not be shown.
    pub(super) fn shown(&self) -> String {
        const LENGTH: usize = 60;
        match &self.content {
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
            Content::Broken => "the value".to_owned(),
            Content::Scalar(scalar) if scalar.text.is_empty() && scalar.plain && !scalar.put_in => {
                "nothing".to_owned()
            }
            Content::Scalar(_) if self.is_secret() => "the value".to_owned(),
            Content::Scalar(scalar) => {
                let mut text: String = scalar.text.chars().take(LENGTH).collect();
                if text.len() < scalar.text.len() {
                    text.push('…');
                }
                let text = text.escape_debug();
                let is_number = scalar.plain && scalar.text.parse::<f64>().is_ok();
                match (scalar.plain, is_number) {
                    (true, true) => format!("the number {text}"),
                    (true, false) => format!("`{text}`"),
                    (false, _) => format!("the text \"{text}\""),
                }
            }
        }
    }

    /// The elements; nothing is an empty list.
    pub(super) fn list(&self) -> Option<Vec<Self>> {
        match &self.content {
            Content::List(list) => {
                let nodes = list.iter().enumerate();
                Some(
                    nodes
                        .map(|(index, node)| self.element(index, node))
                        .collect(),
                )
            }
            Content::Scalar(_) if self.is_null() => Some(Vec::new()),
            _ => self.mismatch("a list", "write [a, b], or lines that begin with `- `"),
        }
    }

    /// The names and values; nothing is an empty map. Names are at their own places.
    pub(super) fn entries(&self) -> Option<Vec<(Self, Self)>> {
        let entries = self.raw_entries("write {name: value}, or lines of `name: value`")?;
        Some(
            entries
                .iter()
                .map(|entry| (self.name(entry), self.member(entry)))
                .collect(),
        )
    }

    /// The bytes of the file that the text names.
    pub(super) fn file(&self) -> Option<Vec<u8>> {
        match self.reader.bytes(&self.text()?) {
            Ok(bytes) => Some(bytes),
            Err(why) => {
                self.problem(format!(
                    "{} cannot be read: {why} (mount it, or write another path)",
                    self.shown()
                ));
                None
            }
        }
    }

    /// The path of the file that the text names.
    pub(super) fn file_path(&self) -> Option<PathBuf> {
        Some(self.reader.folder.join(self.text()?))
    }

    /// Stands for the whole value as it is written, with what came from outside in its place; equal in every process.
    pub(super) fn digest(&self) -> u64 {
        let mut out = Vec::new();
        self.write_digest(&mut out);
        xxh3_64(&out)
    }

    fn write_digest(&self, out: &mut Vec<u8>) {
        let mut push = |kind: u8, text: &str| {
            out.push(kind);
            out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        };
        match &self.content {
            Content::Scalar(scalar) => push(b's', &scalar.text),
            Content::Broken => push(b'b', ""),
            Content::List(list) => {
                push(b'[', "");
                for (index, node) in list.iter().enumerate() {
                    self.element(index, node).write_digest(out);
                }
                out.push(b']');
            }
            Content::Map(entries) => {
                push(b'{', "");
                for entry in entries.iter() {
                    out.extend_from_slice(&xxh3_64(entry.key.as_bytes()).to_le_bytes());
                    self.member(entry).write_digest(out);
                }
                out.push(b'}');
            }
        }
    }

    /// Whether this is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.content, Content::List(_))
    }

    /// Whether this is a list or map without anything, or null.
    pub(super) fn is_empty(&self) -> bool {
        match &self.content {
            Content::List(list) => list.is_empty(),
            Content::Map(entries) => entries.is_empty(),
            Content::Scalar(_) => self.is_null(),
            Content::Broken => false,
        }
    }

    /// Whether this is one of the texts, or the empty list `[]`.
    fn is_one_of(&self, values: &[&str]) -> bool {
        values.iter().any(|&value| match (value, &self.content) {
            ("null", _) => self.is_null(),
            ("off", _) => self.is_off(),
            ("[]", Content::List(list)) => list.is_empty(),
            (value, _) => self.is_plain(&[value]),
        })
    }

    /// Whether a part of the value came from outside the file.
    pub(super) fn is_put_in(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.put_in)
    }

    /// Whether no message may show the value.
    fn is_secret(&self) -> bool {
        self.hidden || self.is_put_in()
    }

    fn is_broken(&self) -> bool {
        matches!(self.content, Content::Broken)
    }

    fn raw_entries(&self, hint: &str) -> Option<Rc<[Entry]>> {
        match &self.content {
            Content::Map(entries) => Some(entries.clone()),
            Content::Scalar(_) if self.is_null() => Some(Rc::new([])),
            _ => self.mismatch("a map", hint),
        }
    }

    fn element(&self, index: usize, node: &Node) -> Self {
        let mut path = self.path.clone();
        yaml::push_index(&mut path, index);
        self.child(path, node.clone())
    }

    fn member(&self, entry: &Entry) -> Self {
        self.child(self.path_to(&entry.key), entry.value.clone())
    }

    /// The key itself as a value: not substituted.
    fn name(&self, entry: &Entry) -> Self {
        Self {
            content: Content::Scalar(Scalar {
                text: entry.key.to_string(),
                plain: false,
                put_in: false,
            }),
            mark: entry.mark,
            path: self.path_to(&entry.key),
            ..self.clone()
        }
    }

    fn child(&self, path: String, node: Node) -> Self {
        Self {
            hidden: self.hidden,
            ..self.reader.item(path, node)
        }
    }

    fn path_to(&self, key: &str) -> String {
        let mut path = self.path.clone();
        yaml::push_key(&mut path, key);
        path
    }

    fn mismatch<T>(&self, wanted: &str, hint: &str) -> Option<T> {
        if !self.is_broken() {
            self.problem(format!("{} is not {wanted} ({hint})", self.shown()));
        }
        None
    }
}

/// An error of the system in words, without its number.
pub(super) fn why(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_lowercase()
}
