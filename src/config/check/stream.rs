//! `streams`

use std::sync::Arc;
use std::time::Duration;

use super::super::field::{Alphabet, PathTemplate};
use super::super::read::{Item, Section};
use super::super::{
    Adaptive, Auth, Cluster, Cors, EventName, Form, History, Inherited, RedisServer, Resume,
    Source, Start, Stream, StreamLimits, Upstream,
};
use super::path::{self, Paths};
use super::text::Names;
use super::{
    Named, all as all_of, auth, cluster, cors, fit, headers, http, keys, process, publish, redis,
    sse,
};
use crate::value::{DataTemplate, Selector};

/// What a stream may refer to, and what the streams before it have taken.
pub(super) struct World<'w, 'a> {
    pub(super) upstreams: &'w Named<Upstream>,
    pub(super) servers: &'w Named<RedisServer>,
    /// For streams without their own.
    pub(super) cors: Option<&'w Cors>,
    /// The same.
    pub(super) auth: Option<&'w Arc<Auth>>,
    pub(super) cluster: Option<&'w Cluster>,
    /// Publish sources that let everybody in.
    pub(super) open_publishing: Vec<Item<'a>>,
    pub(super) paths: Paths<'a>,
    /// Stands for what `upstreams` and `redis` say.
    pub(super) sources: u64,
}

/// SSE names that the gateway itself sends (CONTRACT.md §3).
const OWN_EVENTS: [&str; 8] = [
    "snapshot", "patch", "merge", "stale", "fresh", "gone", "closing", "reset",
];

pub(super) fn all<'a>(item: &Item<'a>, world: &mut World<'_, 'a>) -> Option<Vec<Arc<Stream>>> {
    all_of(item.list()?.into_iter().map(|item| {
        let section = item.section(&keys::STREAM)?;
        read(&section, world).map(Arc::new)
    }))
}

fn read<'a>(section: &Section<'a>, world: &mut World<'_, 'a>) -> Option<Stream> {
    let (path, params) = path::read(section);
    if let Some(path) = &path {
        world.paths.add_stream(section.get("path"), path);
    }
    let param_names = path
        .as_ref()
        .map(|path| path.param_names().map(str::to_owned).collect());
    let names = Names::new(param_names, !section.get("path").is_put_in());
    let auth = match section.given("auth") {
        Some(item) => auth::read(&item),
        None => world.auth.cloned(),
    };
    let source = source(section, world, path.as_ref(), &names, auth.as_ref());
    let every = section.duration("every");
    let adaptive = adaptive(&section.get("adaptive"));
    let start = start(section, path.as_ref());
    let linger = section.duration("linger");
    let select = selector(&section.get("select"));
    let ignore = section
        .get("ignore")
        .list()
        .and_then(|items| all_of(items.iter().map(selector)));
    let deadband = by_selector(&section.get("deadband"), Item::number);
    let array_keys = by_selector(&section.get("array_keys"), Item::text);
    let template = section
        .get("template")
        .or_null(|item| template(&item, &names));
    let event = section.get("event").or_null(|item| event(&item));
    let deliver = deliver(section);
    let history = history(section.get("history"));
    let resume = section.choice(
        "resume",
        &[("replay", Resume::Replay), ("latest", Resume::Latest)],
    );
    let stale_after = section.duration_or_null("stale_after");
    let expire_after = section.duration_or_null("expire_after");
    let snapshot = section.bool("snapshot");
    let heartbeat = section.duration("heartbeat");
    let max_stream_age = section.duration("max_stream_age");
    let max_channels = section.integer("max_channels");
    let cors = match section.given("cors") {
        Some(item) => cors::read(item).map(Inherited::own),
        None => world.cors.cloned().map(Inherited::from_file),
    };
    let limits = match section.given("limits") {
        Some(item) => process::stream_limits(item),
        None => Some(StreamLimits::default()),
    };
    let headers = headers::of_responses(&section.get("headers"));
    let stale_after = match (stale_after, every, adaptive) {
        (Some(given), Some(every), Some(adaptive)) => {
            Some(given.unwrap_or_else(|| patience(every, adaptive)))
        }
        _ => None,
    };
    if let (Some(Source::Http(http)), Some(Start::Always)) = (&source, start)
        && !http.forward_headers.is_empty()
    {
        section
            .get("start")
            .problem("nobody is there whose headers could be forwarded (write on-demand, or remove forward_headers)");
    }
    if let Some(source) = &source {
        let (select, deliver) = (select.as_ref(), deliver.as_deref().unwrap_or_default());
        fit::refuse_idle_keys(section, source, select, deliver);
    }
    params?;
    let (path, source) = (path?, source?);
    // Of other sources than its own it says too much, which costs a replay and nothing else.
    let definition = section.item.digest() ^ world.sources.rotate_left(1);
    // Replicas may reach their sources by different ways.
    let identity = section.item.digest();
    let sharing = cluster::sharing(&source, world.cluster, path.as_str(), identity);
    Some(Stream {
        path: path.for_alphabet(alphabet(&source)),
        // What replicas share each process has from there.
        continuity: Inherited::from_file(
            continuity(&source, definition).filter(|_| sharing.is_none()),
        ),
        source,
        sharing,
        every: every?,
        adaptive: adaptive?,
        start: start?,
        linger: linger?,
        select: select?,
        ignore: ignore?,
        deadband: deadband?,
        array_keys: array_keys?,
        template: template?,
        event: event?,
        deliver: deliver?,
        history: history?,
        resume: resume?,
        stale_after: stale_after?,
        expire_after: expire_after?,
        snapshot: snapshot?,
        heartbeat: heartbeat?,
        max_stream_age: max_stream_age?,
        max_channels: max_channels?,
        cors: cors?,
        limits: limits?,
        auth: auth?,
        headers: headers?,
    })
}

/// The one source.
fn source<'a>(
    section: &Section<'a>,
    world: &mut World<'_, 'a>,
    path: Option<&PathTemplate>,
    names: &Names,
    auth: Option<&Arc<Auth>>,
) -> Option<Source> {
    let given = ["http", "redis", "sse", "publish"]
        .map(|name| section.given(name).map(|item| (name, item)));
    let mut given = given.into_iter().flatten();
    let Some((name, item)) = given.next() else {
        section
            .item
            .problem("no source (write one of http, redis, sse or publish)");
        return None;
    };
    let own_path = path.map(PathTemplate::as_str);
    let source = match name {
        "http" => http::read(item, world.upstreams, names, own_path)
            .map(|http| Source::Http(Arc::new(http))),
        "sse" => {
            sse::read(item, world.upstreams, names, own_path).map(|sse| Source::Sse(Arc::new(sse)))
        }
        "redis" => redis::source(item, world.servers, names),
        _ => publish::read(item, world, path, auth).map(Source::Publish),
    };
    if let Some((name, _)) = given.next() {
        section
            .key_item(name)
            .problem("a second source (write exactly one of http, redis, sse or publish)");
        return None;
    }
    source
}

fn adaptive(item: &Item<'_>) -> Option<Option<Adaptive>> {
    if item.is_off() || item.is_null() {
        return Some(None);
    }
    let section = item.clone().section(&keys::ADAPTIVE)?;
    let (min, max) = (section.duration("min"), section.duration("max"));
    let (min, max) = (min?, max?);
    if min > max {
        item.problem("min is longer than max (write {min: 500ms, max: 30s})");
        return None;
    }
    Some(Some(Adaptive { min, max }))
}

fn start(section: &Section<'_>, path: Option<&PathTemplate>) -> Option<Start> {
    let start = section.choice(
        "start",
        &[("on-demand", Start::OnDemand), ("always", Start::Always)],
    )?;
    if start == Start::Always && path.is_some_and(|path| path.param_names().len() > 0) {
        section
            .get("start")
            .problem("a stream with parameters has no end of resources to poll (write on-demand)");
        return None;
    }
    Some(start)
}

fn template(item: &Item<'_>, names: &Names) -> Option<DataTemplate> {
    let hint = "write {value}, {value.member} or a parameter of the path";
    let known = names.known()?;
    item.compiled("template", hint, |text| {
        // The error lists the names that are known.
        let whole = DataTemplate::parse(text, known);
        whole.map_err(|why| {
            if names.are_shown() {
                why
            } else {
                "it names what is not there".to_owned()
            }
        })
    })
}

fn selector(item: &Item<'_>) -> Option<Selector> {
    item.compiled("JSONPath", "write $ or $.data.price", Selector::parse)
}

fn by_selector<'a, T>(
    item: &Item<'a>,
    read: impl Fn(&Item<'a>) -> Option<T>,
) -> Option<Vec<(Selector, T)>> {
    all_of(item.entries()?.into_iter().map(|(path, value)| {
        let (path, value) = (selector(&path), read(&value));
        Some((path?, value?))
    }))
}

/// EDGE E6
fn event(item: &Item<'_>) -> Option<EventName> {
    item.parsed("write a name such as price", |text| {
        if OWN_EVENTS.contains(&text) {
            return Err(format!(
                "{} is an event of the gateway itself",
                item.shown()
            ));
        }
        EventName::parse(text)
    })
}

fn deliver(section: &Section<'_>) -> Option<Vec<Form>> {
    let words = [
        ("value", Form::Value),
        ("json-patch", Form::JsonPatch),
        ("merge-patch", Form::MergePatch),
    ];
    let item = section.get("deliver");
    let items = item.list()?;
    if items.is_empty() {
        item.problem("no form (write [value])");
        return None;
    }
    let mut forms = Vec::new();
    all_of(items.iter().map(|item| {
        let form = section.choice_of("deliver", item, &words)?;
        if forms.contains(&form) {
            item.problem("the form stands twice (remove one)");
        }
        forms.push(form);
        Some(form)
    }))
}

fn history(item: Item<'_>) -> Option<History> {
    let section = item.section(&keys::HISTORY)?;
    let (events, bytes, age) = (
        section.integer("events"),
        section.size("bytes"),
        section.duration("age"),
    );
    Some(History {
        events: events?,
        bytes: bytes?,
        age: age?,
    })
}

/// When a reading is stale if nobody says so: three intervals, of the longest there are, and not at a hiccup.
fn patience(every: Duration, adaptive: Option<Adaptive>) -> Duration {
    let longest = adaptive.map_or(every, |adaptive| adaptive.max.max(every));
    (longest * 3).max(Duration::from_secs(5))
}

/// Stands for the definition, where another process can go on with it.
fn continuity(source: &Source, definition: u64) -> Option<u64> {
    match source {
        Source::RedisPubSub(_) | Source::Sse(_) => None,
        // It goes on by itself: the ids mean the same in every process.
        Source::RedisStream(_) => None,
        // Who reads it comes with credentials that are in no file.
        Source::Http(http) if !http.forward_headers.is_empty() => None,
        Source::Http(_) | Source::RedisKey(_) | Source::Publish(_) => Some(definition),
    }
}

/// Where the parameters go decides what they can hold.
fn alphabet(source: &Source) -> Alphabet {
    match source {
        Source::Http(http) if http.headers.iter().any(|(_, value)| value.has_params()) => {
            Alphabet::VisibleAscii
        }
        Source::Sse(sse) if sse.headers.iter().any(|(_, value)| value.has_params()) => {
            Alphabet::VisibleAscii
        }
        Source::Http(_) | Source::Sse(_) | Source::Publish(_) => Alphabet::Any,
        Source::RedisKey(_) | Source::RedisPubSub(_) | Source::RedisStream(_) => Alphabet::RedisKey,
    }
}
