//! Times of the pure part: the diff of a document of 100 KB, as a Markdown table. Run by `make bench`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use wellspring::diff::{self, ArrayKeys};
use wellspring::value::{Selector, Value};

/// Runs of one case; the median is printed.
const RUNS: usize = 101;

fn main() {
    // `cargo test --benches` calls with other arguments: one run of each case shows that it works.
    let runs = if std::env::args().any(|argument| argument == "--bench") {
        RUNS
    } else {
        1
    };
    let by_id = Selector::parse("$").map(|root| ArrayKeys::new(vec![(root, "id".to_owned())]));
    let (none, by_id) = (ArrayKeys::default(), by_id.unwrap_or_default());
    let base = items(0..1000);
    let mut front = base.clone();
    front.insert(0, item(5000, 1));
    let mut changed = base.clone();
    changed[500] = item(500, 9);
    let mut moved = base.clone();
    moved.rotate_left(1);
    let reversed: Vec<String> = base.iter().rev().cloned().collect();

    println!(
        "| diff of {} KB, 1,000 elements | median | patch |",
        document(&base).encoded().len() / 1000
    );
    println!("|---|---|---|");
    for (what, new, keys) in [
        ("equal", &base, &none),
        ("one field changed", &changed, &none),
        ("one element inserted at the front", &front, &none),
        ("the same, `array_keys`", &front, &by_id),
        (
            "first element moved to the end, `array_keys`",
            &moved,
            &by_id,
        ),
        ("reversed (bounded)", &reversed, &none),
    ] {
        let (old, new) = (document(&base), document(new));
        let limit = new.encoded().len();
        let mut times: Vec<Duration> = (0..runs)
            .map(|_| {
                let began = Instant::now();
                black_box(diff::json_patch(
                    black_box(&old),
                    black_box(&new),
                    keys,
                    limit,
                ));
                began.elapsed()
            })
            .collect();
        times.sort();
        let patch = match diff::json_patch(&old, &new, keys, limit) {
            Some(patch) => {
                let operations = patch.matches(r#""op":"#).count();
                format!("{operations} operations, {} bytes", patch.len())
            }
            None => "a snapshot is smaller".to_owned(),
        };
        println!(
            "| {what} | {:.3} ms | {patch} |",
            times[runs / 2].as_secs_f64() * 1e3
        );
    }
}

fn document(items: &[String]) -> Value {
    let text = format!("[{}]", items.join(","));
    Value::parse_json(text.as_bytes()).unwrap_or_else(|_| Value::from_text(text))
}

fn items(ids: std::ops::Range<usize>) -> Vec<String> {
    ids.map(|id| item(id, 0)).collect()
}

fn item(id: usize, changes: usize) -> String {
    format!(
        r#"{{"id":{id},"name":"element number {id}","price":{}.{changes}5,"tags":["a","b"],"note":"some text that stays"}}"#,
        id * 7 % 100
    )
}
