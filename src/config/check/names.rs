//! Upstreams and Redis servers by the names that the file gives them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::read::{Item, or};

/// What `upstreams` or `redis` names. A name whose value is wrong still is a known name.
pub(super) struct Named<T> {
    key: &'static str,
    /// `None`: the map itself cannot be read.
    map: Option<BTreeMap<String, Option<Arc<T>>>>,
}

impl<T> Named<T> {
    /// Reads each value with `read`.
    pub(super) fn read<'a>(
        key: &'static str,
        item: &Item<'a>,
        read: impl Fn(String, Item<'a>) -> Option<T>,
    ) -> Self {
        let map = item.entries().map(|entries| {
            let named = entries.into_iter().map(|(name, value)| {
                let read_value = |name: String| read(name, value).map(Arc::new);
                let checked = name.parsed("write another, as in pricing", check_name);
                (
                    name.text().unwrap_or_default(),
                    checked.and_then(read_value),
                )
            });
            named.collect()
        });
        Self { key, map }
    }

    /// What `item` names.
    pub(super) fn find(&self, item: &Item<'_>) -> Option<Arc<T>> {
        let name = item.text()?;
        let map = self.map.as_ref()?;
        if let Some(found) = map.get(&name) {
            return found.clone();
        }
        let known: Vec<&str> = map.keys().map(String::as_str).collect();
        let hint = match known.is_empty() {
            true => format!("add it there: `{}` is empty", self.key),
            false => format!("write {}, or add it there", or(&known)),
        };
        item.problem(format!(
            "{} is not in `{}` ({hint})",
            item.shown(),
            self.key
        ));
        None
    }

    /// All, if all could be read.
    pub(super) fn into_map(self) -> Option<BTreeMap<String, Arc<T>>> {
        let named = self.map?.into_iter();
        named.map(|(name, value)| Some((name, value?))).collect()
    }
}

fn check_name(name: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    match name.len() {
        1..=64 if name.bytes().all(allowed) => Ok(name.to_owned()),
        _ => Err("a name is 1 to 64 letters, digits, `_`, `-` or `.`".into()),
    }
}
