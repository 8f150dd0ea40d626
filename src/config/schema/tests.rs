use std::collections::BTreeSet;

use super::super::parse;
use super::verdict::check;
use super::*;

const REFERENCE: &str = include_str!("../../../config/wellspring.yaml");

fn tree(text: &str) -> Node {
    let (node, problems) = yaml::parse(text);
    assert_eq!(problems, []);
    node.expect("a document")
}

fn schema() -> Value {
    serde_json::from_str(&json()).expect("JSON")
}

/// Calls `see` with every key of the file that has one in the tables.
fn walk(
    table: &'static Table,
    node: &Node,
    see: &mut dyn FnMut(&'static Table, &'static Key, &Node),
) {
    let yaml::Kind::Map(entries) = &node.kind else {
        return;
    };
    for entry in entries.iter() {
        let key = table.key(&entry.key).expect("a known key");
        see(table, key, &entry.value);
        walk_kind(&key.kind, &entry.value, see);
    }
}

fn walk_kind(
    kind: &'static Kind,
    node: &Node,
    see: &mut dyn FnMut(&'static Table, &'static Key, &Node),
) {
    match (kind, &node.kind) {
        (Kind::NoneOrMany(table), yaml::Kind::List(list)) => {
            list.iter().for_each(|node| walk(table, node, see));
        }
        (Kind::Section(table) | Kind::SectionOrOff(table) | Kind::NoneOrMany(table), _) => {
            walk(table, node, see);
        }
        (Kind::List(of), yaml::Kind::List(list)) => {
            list.iter().for_each(|node| walk_kind(of, node, see))
        }
        (Kind::Map(of), yaml::Kind::Map(map)) => map
            .iter()
            .for_each(|entry| walk_kind(of, &entry.value, see)),
        _ => {}
    }
}

fn each_table(kind: &'static Kind, see: &mut dyn FnMut(&'static Table)) {
    match kind {
        Kind::Section(table) | Kind::NoneOrMany(table) | Kind::SectionOrOff(table) => {
            see(table);
            table.keys.iter().for_each(|key| each_table(&key.kind, see));
        }
        Kind::List(of) | Kind::Map(of) | Kind::Pair(of) | Kind::OneOrMany(of) => {
            each_table(of, see)
        }
        _ => {}
    }
}

#[test]
fn the_reference_is_a_sound_file() {
    if let Err(problems) = parse("config/wellspring.yaml", REFERENCE, &|_| None) {
        panic!("{problems}");
    }
    let value = to_json(&tree(REFERENCE));
    assert_eq!(check(&schema(), &schema(), &value, ""), Ok(()));
}

/// What the reference does not call an example is the default that the reader takes.
#[test]
fn the_reference_states_the_defaults() {
    let lines: Vec<&str> = REFERENCE.lines().collect();
    let mut compared = 0;
    walk(&ROOT, &tree(REFERENCE), &mut |_, key, node| {
        let is_example = lines[node.mark.line - 1].contains("# example");
        let is_section = matches!(
            key.kind,
            Kind::Section(_) | Kind::SectionOrOff(_) | Kind::Map(_) | Kind::List(Kind::Section(_))
        );
        let Some(default) = key.default.filter(|_| !is_example) else {
            return;
        };
        let stated = to_json(node);
        if is_section
            && stated.as_object().is_none_or(|map| !map.is_empty())
            && key.default != Some("off")
        {
            return;
        }
        assert_eq!(
            stated,
            to_json(&tree(default)),
            "{} in line {}",
            key.name,
            node.mark.line
        );
        compared += 1;
    });
    assert!(compared > 50, "{compared}");
}

/// Every key that the schema names is read by the reader: the reference has them all, and the reader takes it.
#[test]
fn the_reference_has_every_key() {
    let mut seen = BTreeSet::new();
    walk(&ROOT, &tree(REFERENCE), &mut |table, key, _| {
        seen.insert((std::ptr::from_ref(table).addr(), key.name));
    });
    let mut missing = Vec::new();
    static DOCUMENT: Kind = Kind::Section(&ROOT);
    each_table(&DOCUMENT, &mut |table| {
        for key in table
            .keys
            .iter()
            .filter(|key| !matches!(key.kind, Kind::Refused(_) | Kind::Only(_)))
        {
            // A table whose keys are all for later is in no file.
            if !seen.contains(&(std::ptr::from_ref(table).addr(), key.name)) {
                missing.push(key.name);
            }
        }
    });
    // A key set would have to be shipped with the reference, which names it in a comment.
    missing.retain(|name| !["telemetry", "jwks_file"].contains(name));
    assert_eq!(missing, [""; 0]);
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let schema = schema();
    let verdict = |text: &str| check(&schema, &schema, &to_json(&tree(text)), "");
    let listener = "listeners: [{address: 0.0.0.0:1}]\n";
    let route = "routes: [{prefix: /, upstream: a}]\n";
    for good in [
        "auth: none\n",
        "compression: zstd\n",
        "compression: false\n",
        "auth: {jwt: {secret: s, algorithms: [HS512]}}\n",
        "auth: [{jwt: {jwks_file: f}}, {basic: {users: [{name: a, sha256: b}]}}]\n",
    ] {
        assert_eq!(verdict(&format!("{listener}{route}{good}")), Ok(()));
    }
    assert_eq!(verdict(&format!("{listener}{route}")), Ok(()));
    for bad in [
        listener.to_owned(),
        route.to_owned(),
        format!("{listener}{route}lisners: []\n"),
        format!("{listener}{route}limits: {{queue: big}}\n"),
        format!("{listener}{route}limits: {{streams: 0}}\n"),
        format!(
            "{listener}streams: [{{path: /a, http: {{upstream: a}}, limits: {{queue: 1KiB}}}}]\n"
        ),
        format!("{listener}{route}compression: brotli\n"),
        format!("{listener}{route}auth: open\n"),
        format!("{listener}{route}auth: []\n"),
        format!("{listener}{route}auth: {{basic: {{users: []}}, jwt: {{secret: s}}}}\n"),
        format!("{listener}{route}auth: {{jwt: {{secret: s, jwks_file: f}}}}\n"),
        format!("{listener}{route}cors: {{max_age: 2}}\n"),
        format!("{listener}streams: [{{path: /a}}]\n"),
        format!(
            "{listener}streams: [{{path: /a, http: {{upstream: a}}, publish: {{path: /b}}}}]\n"
        ),
        format!("{listener}streams: [{{path: /a, redis: {{server: a, key: b, list: c}}}}]\n"),
    ] {
        assert!(verdict(&bad).is_err(), "{bad}");
    }
}
