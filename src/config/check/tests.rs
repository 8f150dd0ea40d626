//! Every file under `tests/config`, and what the checked configuration holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::field::{Match, Rate};
use super::super::{
    ClientAddress, CorsOrigin, Form, HttpFormat, Overload, PubSubName, RedisShape, Resume, Source,
    Start, Stream, StreamLimits,
};
use super::*;
use crate::params::{Escape, Params};

fn parse(file: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    super::parse(file, text, env, &mut Files::default())
}

fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    super::load(path, env, &mut Files::default())
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn no_env(_: &str) -> Option<String> {
    None
}

fn config(text: &str) -> Config {
    parse("test.yaml", text, &no_env).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(text: &str) -> String {
    parse("test.yaml", text, &no_env)
        .map(|_| ())
        .expect_err("refused")
        .to_string()
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(ROOT).join(folder)).expect("a folder");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    files.sort();
    files
}

/// Each bad file gives exactly the lines beside it, each in the form that the contract gives (CONTRACT.md §1).
#[test]
fn bad_files_give_their_problems() {
    let files = files("tests/config/bad");
    assert!(files.len() >= 60, "found {}", files.len());
    let form = regex::Regex::new(r"^tests/config/bad/\w+\.yaml:[1-9]\d*:[1-9]\d*: .+ \(.+\)$")
        .expect("compiles");
    for file in files {
        let problems = load(&file, &no_env)
            .map(|_| ())
            .expect_err(&file.display().to_string())
            .to_string();
        let problems = problems.replace(&format!("{ROOT}/"), "");
        let expected = fs::read_to_string(file.with_extension("expect")).expect("an expectation");
        assert_eq!(problems, expected, "{}", file.display());
        for line in problems.lines() {
            assert!(form.is_match(line), "{line}");
            // EDGE A10: what was put in is in no message.
            assert!(!line.contains("canary"), "{line}");
        }
    }
}

#[test]
fn every_expectation_has_its_file() {
    let entries = fs::read_dir(Path::new(ROOT).join("tests/config/bad")).expect("a folder");
    for entry in entries {
        assert!(
            entry
                .expect("readable")
                .path()
                .with_extension("yaml")
                .exists()
        );
    }
}

#[test]
fn good_files_are_accepted() {
    let files = files("tests/config/ok");
    assert!(files.len() >= 10, "found {}", files.len());
    for file in files {
        if let Err(problems) = load(&file, &no_env) {
            panic!("{problems}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_in_the_same_form() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.yaml");
    let refusal = || {
        load(&file, &no_env)
            .map(|_| ())
            .expect_err("refused")
            .to_string()
    };
    let name = file.display();
    assert!(
        refusal().starts_with(&format!(
            "{name}:1:1: the file cannot be read: no such file"
        )),
        "{}",
        refusal()
    );
    fs::write(&file, b"a: 1\n\xc3\xa9: \xff").expect("written");
    assert!(
        refusal().starts_with(&format!("{name}:2:4: the file is not UTF-8")),
        "{}",
        refusal()
    );
    fs::write(&file, vec![b'#'; (16 << 20) + 1]).expect("written");
    assert!(
        refusal().starts_with(&format!("{name}:1:1: the file is larger than 16MiB")),
        "{}",
        refusal()
    );
}

const BEGIN: &str = "listeners: [{address: \"127.0.0.1:8080\"}]\nupstreams: {api: {url: \"https://h:8443/base\"}}\nredis: {main: {url: \"redis://h\"}}\n";

fn one_stream(rest: &str) -> Stream {
    let config = config(&format!("{BEGIN}streams:\n  - {rest}\n"));
    Stream::clone(&config.streams[0])
}

/// The defaults of CONTRACT.md §2, as the rest of the program sees them.
#[test]
fn defaults_are_those_of_the_contract() {
    let stream = one_stream("{path: /a, http: {upstream: api}}");
    let seconds = Duration::from_secs;
    assert_eq!(
        (stream.every, stream.linger, stream.stale_after),
        (seconds(2), seconds(10), seconds(6))
    );
    assert_eq!(
        (stream.heartbeat, stream.max_stream_age),
        (seconds(15), seconds(3600))
    );
    assert_eq!(
        (stream.start, stream.resume, stream.snapshot),
        (Start::OnDemand, Resume::Replay, true)
    );
    assert_eq!(
        (stream.deliver.as_slice(), stream.max_channels),
        (&[Form::Value][..], 10_000)
    );
    let history = stream.history;
    assert_eq!(
        (history.events, history.bytes, history.age),
        (256, 1 << 20, seconds(300))
    );
    assert!(stream.select.is_root() && stream.adaptive.is_none() && stream.expire_after.is_none());
    assert!(stream.event.is_none() && stream.template.is_none() && stream.headers.is_empty());
    let Source::Http(http) = &stream.source else {
        panic!("http");
    };
    assert_eq!(
        (http.format, http.success.as_slice()),
        (HttpFormat::Json, &[200][..])
    );
    assert_eq!(http.path.render(&Params::default(), Escape::Percent), "/a");
    let upstream = &http.upstream;
    assert_eq!(
        (
            upstream.max_body,
            upstream.max_concurrent_polls,
            upstream.budget
        ),
        (1 << 20, 64, None)
    );
    let timeouts = upstream.timeouts;
    assert_eq!(
        (timeouts.connect, timeouts.first_byte, timeouts.total),
        (seconds(2), seconds(5), seconds(10))
    );
    assert!(!upstream.follow_redirects && !upstream.tls.insecure);
    let cors = &stream.cors;
    assert_eq!(
        (cors.origins.len(), cors.credentials, cors.max_age),
        (0, false, seconds(7200))
    );
    assert_eq!(
        (cors.allow_headers.len(), cors.expose_headers.len()),
        (6, 4)
    );
    let config = config(&format!(
        "{BEGIN}streams: [{{path: /a, http: {{upstream: api}}}}]"
    ));
    assert_eq!(
        (config.limits.overload, config.limits.queue),
        (Overload::Stream, 256 << 10)
    );
    assert_eq!(config.limits.write_stall, seconds(15));
    let per_second = Rate {
        count: 50,
        per: seconds(1),
    };
    assert_eq!(
        (config.limits.requests, config.limits.connects),
        (None, per_second)
    );
    assert_eq!(
        (config.limits.streams_per_client, config.limits.streams),
        (1000, 100_000)
    );
    assert_eq!(stream.limits, StreamLimits::default());
    assert_eq!(config.client_address, ClientAddress::default());
    assert_eq!(
        (config.shutdown.drain, config.shutdown.retry),
        (seconds(30), (seconds(1), seconds(30)))
    );
}

#[test]
fn patience_is_three_intervals_and_at_least_five_seconds() {
    let stale_after = |rest: &str| {
        one_stream(&format!("{{path: /a, http: {{upstream: api}}, {rest}}}")).stale_after
    };
    assert_eq!(stale_after("every: 50ms"), Duration::from_secs(5));
    assert_eq!(stale_after("every: 1m"), Duration::from_secs(180));
    assert_eq!(
        stale_after("adaptive: {min: 1s, max: 30s}"),
        Duration::from_secs(90)
    );
    assert_eq!(
        stale_after("every: 2s, stale_after: 2s"),
        Duration::from_secs(2)
    );
}

#[test]
fn parameters_go_where_they_are_named() {
    let stream = one_stream(
        "{path: \"/a/{x}/{y}\", http: {upstream: api, method: POST, path: \"/q/{y}\", query: {of: \"<{x}>\"}, body: '{\"x\": \"{x}\", \"z\": {z}}'}}",
    );
    let Source::Http(http) = &stream.source else {
        panic!("http");
    };
    let Some(Match::Params(params)) = stream.path.matches("/a/1/2") else {
        panic!("a match");
    };
    assert_eq!(http.path.render(&params, Escape::Percent), "/q/2");
    assert_eq!(http.query[0].1.render(&params, Escape::Percent), "<1>");
    let body = http
        .body
        .as_ref()
        .expect("a body")
        .render(&params, Escape::Json);
    assert_eq!(body, r#"{"x": "1", "z": {z}}"#);
}

/// EDGE R2, P22: the place of a parameter narrows what clients may write, whatever the pattern.
#[test]
fn the_source_narrows_parameters() {
    let refused = |source: &str, path: &str| {
        let stream = one_stream(&format!(
            "{{path: \"/a/{{x}}\", params: {{x: '.*'}}, {source}}}"
        ));
        stream.path.matches(path) == Some(Match::Refused)
    };
    assert!(refused("redis: {server: main, key: \"k:{x}\"}", "/a/1:2"));
    assert!(refused("redis: {server: main, channel: \"k:{x}\"}", "/a/*"));
    assert!(refused(
        "http: {upstream: api, headers: {x-a: \"{x}\"}}",
        "/a/%C3%A9"
    ));
    assert!(!refused("http: {upstream: api}", "/a/%C3%A9:*"));
}

#[test]
fn redis_sources_are_told_apart() {
    let source =
        |rest: &str| one_stream(&format!("{{path: /a, redis: {{server: main, {rest}}}}}")).source;
    for (key, shape) in [
        ("key", RedisShape::String),
        ("hash", RedisShape::Hash),
        ("zset", RedisShape::SortedSet),
    ] {
        assert!(
            matches!(source(&format!("{key}: k")), Source::RedisKey(redis) if redis.shape == shape)
        );
    }
    let channel = |text: &str| match source(&format!("channel: \"{text}\"")) {
        Source::RedisPubSub(redis) => redis.channel.clone(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(channel("orders"), PubSubName::Channel(_)));
    assert!(matches!(channel("orders:*"), PubSubName::Pattern(pattern) if pattern == "orders:*"));
}

#[test]
fn publish_parameters_are_matched_by_name() {
    let stream = one_stream("{path: \"/r/{room}/{day}\", publish: {path: \"/p/{day}/{room}\"}}");
    let Source::Publish(publish) = stream.source else {
        panic!("publish");
    };
    assert_eq!(
        (publish.params, publish.retain, publish.max_body),
        (vec![1, 0], true, 64 << 10)
    );
}

#[test]
fn routes_are_sorted_and_names_resolve() {
    let config = config(&format!(
        "{BEGIN}routes: [{{prefix: /, upstream: api}}, {{prefix: /longer, upstream: api}}, {{prefix: /a, upstream: api}}]"
    ));
    let prefixes: Vec<&str> = config
        .routes
        .iter()
        .map(|route| route.prefix.as_str())
        .collect();
    assert_eq!(prefixes, ["/longer", "/a", "/"]);
    assert_eq!(
        config.routes[0].upstream.url.as_str(),
        "https://h:8443/base"
    );
}

#[test]
fn a_streams_cors_replaces_the_global_one_wholly() {
    let text = format!(
        "{BEGIN}cors: {{origins: [\"*\"], max_age: 5s}}\nstreams:\n  - {{path: /a, http: {{upstream: api}}}}\n  - {{path: /b, http: {{upstream: api}}, cors: {{origins: [\"null\"]}}}}\n"
    );
    let config = config(&text);
    assert_eq!(config.streams[0].cors.origins, [CorsOrigin::Any]);
    let own = &config.streams[1].cors;
    assert_eq!(
        (own.origins.as_slice(), own.max_age),
        (&[CorsOrigin::Null][..], Duration::from_secs(7200))
    );
}

/// Numbers, booleans, null and durations may come from the environment, quoted or not; structure may not.
#[test]
fn the_environment_gives_values_and_never_structure() {
    let env = |name: &str| {
        let value = match name {
            "EVERY" => "3s",
            "POLLS" => "7",
            "FOLLOW" => "true",
            "BUDGET" => "600/m",
            "NULL" => "null",
            "TRICK" => "x\", evil: {y: 1}} # \n- z",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let text = "listeners: [{address: \"127.0.0.1:0\"}]
upstreams:
  api:
    url: http://h
    max_concurrent_polls: ${POLLS}
    follow_redirects: \"${FOLLOW}\"
    budget: ${BUDGET}
redis:
  main: {url: \"redis://${HOST:-h}\"}
streams:
  - path: /a
    redis: {server: main, key: \"k:${TRICK}\"}
    every: ${EVERY}
    expire_after: ${NULL}
";
    let config =
        parse("test.yaml", &text.replace("k:${TRICK}", "k:$${TRICK"), &env).expect_err("braces");
    assert!(
        config.to_string().contains("streams[0].redis.key"),
        "{config}"
    );
    let text = text.replace(
        "redis: {server: main, key: \"k:${TRICK}\"}",
        "http: {upstream: api, body: \"${TRICK}\", method: POST}",
    );
    let config = parse("test.yaml", &text, &env).unwrap_or_else(|problems| panic!("{problems}"));
    let stream = &config.streams[0];
    assert_eq!(
        (stream.every, stream.expire_after),
        (Duration::from_secs(3), None)
    );
    let upstream = &config.upstreams["api"];
    assert_eq!(
        (upstream.max_concurrent_polls, upstream.follow_redirects),
        (7, true)
    );
    let budget = Rate {
        count: 600,
        per: Duration::from_secs(60),
    };
    assert_eq!(upstream.budget, Some(budget));
    let Source::Http(http) = &stream.source else {
        panic!("http");
    };
    let body = http
        .body
        .as_ref()
        .expect("a body")
        .render(&Params::default(), Escape::Verbatim);
    assert_eq!(body, "x\", evil: {y: 1}} # \n- z");
}

/// EDGE O3, A10: secrets are in no debug output of the configuration.
#[test]
fn secrets_are_redacted_in_debug_output() {
    let text = "listeners: [{address: \"127.0.0.1:0\"}]
upstreams: {api: {url: \"http://h\", headers: {authorization: \"Bearer canary\"}}}
redis: {main: {url: \"redis://user:canary@h\"}}
streams: [{path: /a, http: {upstream: api, path: /canary, query: {key: canary}, headers: {x-key: canary}}}]
routes: [{prefix: /, upstream: api}]
";
    let shown = format!("{:?}", config(text));
    assert!(
        shown.contains("Listener") && !shown.contains("canary"),
        "{shown}"
    );
}

/// One run tells of everything: also of what depends on a section that is wrong.
#[test]
fn problems_do_not_hide_each_other_and_do_not_follow_from_each_other() {
    let text = "listeners: [{address: nowhere}]
upstreams: {api: {url: ftp}}
streams:
  - {path: nowhere, http: {upstream: api, query: {a: \"{x}\"}}, template: \"{x}\", every: soon}
routes: [{prefix: nowhere, upstream: api}]
";
    let told = problems(text);
    let paths: Vec<&str> = told
        .lines()
        .map(|line| line.split(": ").nth(1).expect("a path"))
        .collect();
    let wanted = [
        "listeners[0].address",
        "upstreams.api.url",
        "streams[0].path",
        "streams[0].every",
        "routes[0].prefix",
    ];
    assert_eq!(paths, wanted, "{told}");
}

/// Ten thousand streams are checked without a product of their number with itself.
#[test]
fn many_streams_are_checked_soon() {
    let mut text = BEGIN.to_owned() + "streams:\n";
    for number in 0..10_000 {
        text += &format!("  - {{path: \"/{number}/{{x}}\", http: {{upstream: api}}}}\n");
    }
    assert_eq!(config(&text).streams.len(), 10_000);
}
