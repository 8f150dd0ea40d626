//! A map with a [`Table`]: unknown keys, keys that are refused, and defaults.

#[cfg(test)]
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::nearest::nearest;
use super::{Content, Item};
use crate::config::keys::{Key, Kind, Table};
use crate::config::yaml::{self, Entry};

/// A map whose keys are those of a table.
pub(in crate::config) struct Section<'a> {
    /// The whole map.
    pub(in crate::config) item: Item<'a>,
    table: &'static Table,
    entries: Rc<[Entry]>,
    /// Keys that were asked for. Those of the table that are not would parse and do nothing.
    #[cfg(test)]
    asked: std::cell::RefCell<BTreeSet<&'static str>>,
}

impl<'a> Item<'a> {
    /// Reads the value as a map with these keys; nothing is an empty map.
    pub(in crate::config) fn section(self, table: &'static Table) -> Option<Section<'a>> {
        let names: Vec<&str> = known(table).collect();
        let hint = format!("write keys such as {}", names.first().unwrap_or(&"none"));
        let entries = self.raw_entries(&hint)?;
        let section = Section {
            item: self,
            table,
            entries,
            #[cfg(test)]
            asked: Default::default(),
        };
        section.refuse_unknown();
        Some(section)
    }
}

impl<'a> Section<'a> {
    /// The value, or its default. A value that is needed and missing is a problem.
    pub(in crate::config) fn get(&self, name: &'static str) -> Item<'a> {
        if let Some(item) = self.given(name) {
            return item;
        }
        let key = self.table.key(name);
        if let Some(example) = key.and_then(|key| key.required) {
            self.absent(name)
                .problem(format!("is missing (write {example})"));
        }
        match key.and_then(|key| key.default) {
            // A default is part of the program; the tests read each.
            Some(default) => match yaml::parse(default) {
                (Some(node), _) => {
                    let mark = self.item.mark;
                    Item {
                        mark,
                        ..self.item.child(self.item.path_to(name), node)
                    }
                }
                (None, _) => self.absent(name),
            },
            None => self.absent(name),
        }
    }

    /// The value, if there is one.
    pub(in crate::config) fn given(&self, name: &'static str) -> Option<Item<'a>> {
        debug_assert!(self.table.key(name).is_some(), "{name} is in no table");
        #[cfg(test)]
        self.asked.borrow_mut().insert(name);
        let entry = self.entries.iter().find(|entry| &*entry.key == name)?;
        Some(self.item.member(entry))
    }

    /// Whether the file has the key.
    pub(in crate::config) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| &*entry.key == name)
    }

    /// The key itself, for problems that are not with its value.
    pub(in crate::config) fn key_item(&self, name: &str) -> Item<'a> {
        match self.entries.iter().find(|entry| &*entry.key == name) {
            Some(entry) => self.item.name(entry),
            None => self.absent(name),
        }
    }

    pub(in crate::config) fn bool(&self, name: &'static str) -> Option<bool> {
        self.get(name).bool()
    }

    /// A whole number within the bounds of its key.
    pub(in crate::config) fn integer(&self, name: &'static str) -> Option<usize> {
        let (min, max) = self.bounds(name);
        self.get(name)
            .integer(min, max)
            .and_then(|number| number.try_into().ok())
    }

    /// Bytes within the bounds of its key.
    pub(in crate::config) fn size(&self, name: &'static str) -> Option<usize> {
        let (min, max) = self.bounds(name);
        self.get(name)
            .size(min, max)
            .and_then(|size| size.try_into().ok())
    }

    /// A time within the bounds of its key.
    pub(in crate::config) fn duration(&self, name: &'static str) -> Option<Duration> {
        self.duration_of(name, &self.get(name))
    }

    /// The same, or nothing for null.
    pub(in crate::config) fn duration_or_null(
        &self,
        name: &'static str,
    ) -> Option<Option<Duration>> {
        self.get(name).or_null(|item| self.duration_of(name, &item))
    }

    /// `item` as a time within the bounds of the key `name`.
    pub(in crate::config) fn duration_of(&self, name: &str, item: &Item<'_>) -> Option<Duration> {
        let (min, max) = self.bounds(name);
        item.duration(min, max).map(Duration::from_millis)
    }

    /// One of the words of its key, as what `values` says that it is.
    pub(in crate::config) fn choice<T: Copy>(
        &self,
        name: &'static str,
        values: &[(&str, T)],
    ) -> Option<T> {
        self.choice_of(name, &self.get(name), values)
    }

    /// `item` as one of the words of the key `name`.
    pub(in crate::config) fn choice_of<T: Copy>(
        &self,
        name: &str,
        item: &Item<'_>,
        values: &[(&str, T)],
    ) -> Option<T> {
        let words: Vec<&str> = values.iter().map(|(word, _)| *word).collect();
        if let Some(Kind::Choice(known)) = self.kind(name) {
            debug_assert_eq!(&words[..], *known, "{name}");
        }
        let hint = format!("write {}", or(&words));
        let text = item.any_text();
        if let Some((_, value)) = values.iter().find(|(word, _)| text == Some(*word)) {
            return Some(*value);
        }
        item.mismatch(&or(&words), &hint)
    }

    /// A value that stands nowhere and whose problem is told elsewhere.
    fn absent(&self, name: &str) -> Item<'a> {
        Item {
            path: self.item.path_to(name),
            content: Content::Broken,
            ..self.item.clone()
        }
    }

    fn refuse_unknown(&self) {
        for entry in self.entries.iter() {
            let name = self.item.name(entry);
            let Some(key) = self.table.key(&entry.key) else {
                name.problem(self.unknown(&entry.key));
                continue;
            };
            match &key.kind {
                Kind::Refused(why) => name.problem(*why),
                Kind::Only(values) => {
                    let value = self.item.member(entry);
                    if !value.is_broken() && !value.is_one_of(values) {
                        name.problem(format!(
                            "not supported yet (write {}, or remove the key)",
                            or(values)
                        ));
                    }
                }
                _ => {}
            }
        }
    }

    fn unknown(&self, key: &str) -> String {
        if key == "<<" {
            return "merge keys are not YAML 1.2 (write the keys out, or alias a whole value)"
                .to_owned();
        }
        match nearest(key, known(self.table)) {
            Some(best) => format!("unknown key (did you mean {best}?)"),
            None => format!(
                "unknown key (write {})",
                or(&known(self.table).collect::<Vec<_>>())
            ),
        }
    }

    fn bounds(&self, name: &str) -> (u64, u64) {
        match self.kind(name) {
            Some(
                Kind::Integer { min, max }
                | Kind::Duration { min, max }
                | Kind::Size { min, max }
                | Kind::Pair(Kind::Duration { min, max })
                | Kind::List(Kind::Integer { min, max }),
            ) => (*min, *max),
            _ => (0, u64::MAX),
        }
    }

    /// The bounds of a list's whole numbers, for its elements.
    pub(in crate::config) fn integer_of(&self, name: &str, item: &Item<'_>) -> Option<u64> {
        let (min, max) = self.bounds(name);
        item.integer(min, max)
    }

    fn kind(&self, name: &str) -> Option<&'static Kind> {
        match &self.table.key(name)?.kind {
            Kind::List(inner @ Kind::Choice(_)) => Some(inner),
            kind => Some(kind),
        }
    }
}

#[cfg(test)]
impl Drop for Section<'_> {
    fn drop(&mut self) {
        let read = |key: &&Key| !matches!(key.kind, Kind::Refused(_) | Kind::Only(_));
        let wanted: BTreeSet<_> = self
            .table
            .keys
            .iter()
            .filter(read)
            .map(|key| key.name)
            .collect();
        if !std::thread::panicking() {
            assert_eq!(*self.asked.borrow(), wanted, "every key of a table is read");
        }
    }
}

/// The keys that can be written now.
fn known(table: &'static Table) -> impl Iterator<Item = &'static str> {
    let now = |key: &&Key| !matches!(key.kind, Kind::Refused(_) | Kind::Only(_));
    table.keys.iter().filter(now).map(|key| key.name)
}

/// `a`, `a or b`, `a, b or c`.
pub(in crate::config) fn or(words: &[&str]) -> String {
    match words {
        [] => "none".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
