//! What does not fit the source of a stream: keys that would be read and mean nothing.

use super::super::read::Section;
use super::super::{Form, HttpFormat, RedisFormat, RedisShape, Source};
use crate::value::Selector;

/// Refuses what the source gives no meaning to. Keys whose values could not be read are left alone.
pub(super) fn refuse_idle_keys(
    section: &Section<'_>,
    source: &Source,
    select: Option<&Selector>,
    deliver: &[Form],
) {
    let has_patches = deliver
        .iter()
        .any(|form| matches!(form, Form::JsonPatch | Form::MergePatch));
    let patches = |why: &str| {
        if has_patches {
            section
                .get("deliver")
                .problem(format!("{why} (write [value])"));
        }
    };
    let selection = |why: &str| {
        if select.is_some_and(|select| !select.is_root()) {
            section.get("select").problem(format!("{why} (remove it)"));
        }
    };
    if is_text(source) {
        patches("text has no patches");
        selection("text has nothing to select from");
        refuse(
            section,
            &["ignore", "deadband", "array_keys"],
            "text has no members",
        );
        return;
    }
    match source {
        Source::Http(_) | Source::RedisKey(_) => {}
        Source::RedisPubSub(_) => {
            patches("a pub/sub channel has no current value that could be patched");
            refuse(
                section,
                &["ignore", "deadband", "array_keys"],
                "every message of a channel counts",
            );
        }
        Source::RedisStream(_) => {
            patches("a Redis stream has no current value that could be patched");
            refuse(
                section,
                &["ignore", "deadband", "array_keys"],
                "every entry of a stream counts",
            );
        }
        Source::Sse(_) => {
            patches("an event stream has no current value that could be patched");
            refuse(
                section,
                &["ignore", "deadband", "array_keys"],
                "every event of the stream counts",
            );
        }
        Source::Publish(publish) => {
            selection("what is published is delivered whole");
            refuse(
                section,
                &["ignore", "deadband"],
                "everything that is published counts",
            );
            if !publish.retain {
                patches("without retain there is no current value that could be patched");
                refuse(
                    section,
                    &["array_keys"],
                    "without retain there are no patches",
                );
            }
        }
    }
}

fn is_text(source: &Source) -> bool {
    match source {
        Source::Http(http) => http.format == HttpFormat::Text,
        Source::RedisKey(redis) => {
            redis.shape == RedisShape::String && redis.format == RedisFormat::Text
        }
        Source::RedisPubSub(redis) => redis.format == RedisFormat::Text,
        Source::RedisStream(_) | Source::Sse(_) | Source::Publish(_) => false,
    }
}

fn refuse(section: &Section<'_>, names: &[&'static str], why: &str) {
    for item in names.iter().filter_map(|name| section.given(name)) {
        if !item.is_empty() {
            item.problem(format!("{why} (remove it)"));
        }
    }
}
