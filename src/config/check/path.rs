//! `path` and `params` of a stream, and that no path leads to two places

use std::collections::{BTreeMap, HashMap};

use super::super::field::{PathTemplate, Pattern};
use super::super::read::{Item, Section, or};

/// What to write for a path.
const HINT: &str = "write /v1/prices or /v1/prices/{symbol}";

/// The stream's path with the patterns of its parameters. The second is `None` when `params` cannot be used; the path then
/// still serves to check what refers to it.
pub(super) fn read(section: &Section<'_>) -> (Option<PathTemplate>, Option<()>) {
    let entries = section.get("params").entries();
    let mut patterns = BTreeMap::new();
    let mut sound = entries.is_some();
    for (name, value) in entries.iter().flatten() {
        let pattern = value.compiled(
            "pattern",
            "write a regular expression such as [A-Z]{1,8}",
            Pattern::parse,
        );
        sound &= pattern.is_some();
        patterns.insert(name.text().unwrap_or_default(), pattern.unwrap_or_default());
    }
    let path_item = section.get("path");
    let path = template(&path_item, &|name| {
        patterns.get(name).cloned().unwrap_or_default()
    });
    let Some(path) = path else {
        return (None, None);
    };
    for (name, _) in entries.iter().flatten() {
        let known: Vec<&str> = path.param_names().collect();
        if !name
            .text()
            .is_some_and(|name| known.contains(&name.as_str()))
        {
            sound = false;
            name.problem(match known.is_empty() || path_item.is_put_in() {
                true => "the path has no such parameter (remove it)".to_owned(),
                false => format!("the path has no such parameter (write {})", or(&known)),
            });
        }
    }
    (Some(path), sound.then_some(()))
}

/// A path whose parameters are to match what `pattern` answers.
pub(super) fn template(item: &Item<'_>, pattern: &dyn Fn(&str) -> Pattern) -> Option<PathTemplate> {
    item.parsed(HINT, |text| PathTemplate::parse(text, pattern))
}

/// The paths so far, of streams and for publishing.
#[derive(Default)]
pub(super) struct Paths<'a> {
    /// By shape.
    streams: HashMap<String, Place<'a>>,
    publish: Vec<Place<'a>>,
}

/// A path and where it stands. Messages name the place: the path may have come from the environment.
struct Place<'a> {
    path: PathTemplate,
    item: Item<'a>,
}

impl<'a> Paths<'a> {
    /// Takes a stream's path (EDGE O4).
    pub(super) fn add_stream(&mut self, item: Item<'a>, path: &PathTemplate) {
        let shape = path.shape();
        if let Some(other) = self.streams.get(&shape) {
            item.problem(format!(
                "the path is that of {}, too (write another)",
                other.item.path
            ));
            return;
        }
        if let Some(other) = overlapping(self.publish.iter(), path) {
            item.problem(format!(
                "the path overlaps {} (write another)",
                other.item.path
            ));
        }
        let path = path.clone();
        self.streams.insert(shape, Place { path, item });
    }

    /// Takes a path for publishing (EDGE O4).
    pub(super) fn add_publish(&mut self, item: Item<'a>, path: &PathTemplate) {
        let same = || {
            self.publish
                .iter()
                .find(|other| other.path.shape() == path.shape())
        };
        if let Some(other) = overlapping(self.streams.values(), path) {
            item.problem(format!(
                "the path overlaps {} (write another)",
                other.item.path
            ));
        } else if let Some(other) = same() {
            item.problem(format!(
                "the path is that of {}, too (write another)",
                other.item.path
            ));
        }
        let path = path.clone();
        self.publish.push(Place { path, item });
    }
}

/// The first in the file that could be meant by the same received path.
fn overlapping<'p, 'a: 'p>(
    places: impl Iterator<Item = &'p Place<'a>>,
    path: &PathTemplate,
) -> Option<&'p Place<'a>> {
    let found = places.filter(|other| other.path.overlaps(path));
    found.min_by_key(|place| (place.item.mark.line, place.item.mark.column))
}
