//! How an event looks: for people, for programs, or as what it changed.

use std::io::{self, Write};
use std::time::SystemTime;

use chrono::{DateTime, Local};
use serde::Serialize;

use super::document::{Document, Step};
use super::patch::Change;
use crate::cli::screen::{self, Colours, Tone, plain};
use crate::sse::parser::Event;

/// What is printed of an event.
#[derive(Debug)]
pub(super) enum Style {
    /// Time, name, id and data.
    Text(Colours),
    /// One line of JSON.
    Json,
    /// What it changed of the value.
    Changes(Colours, Document),
}

/// Whether the events so far make sense together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sense {
    /// They do.
    Made,
    /// The value is lost, and only a whole one helps. The sentence says why.
    Lost(String),
}

/// Prints events to `out`, each at once.
#[derive(Debug)]
pub(super) struct Printer<W> {
    style: Style,
    out: W,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(style: Style, out: W) -> Self {
        Self { style, out }
    }

    /// Prints an event that came at `at`.
    pub(super) fn event(&mut self, event: &Event, at: SystemTime) -> io::Result<Sense> {
        let out = &mut self.out;
        let sense = match &mut self.style {
            Style::Text(colours) => text(out, *colours, event, at).map(|()| Sense::Made)?,
            Style::Json => json(out, event, at).map(|()| Sense::Made)?,
            Style::Changes(colours, document) => changes(out, *colours, document, event, at)?,
        };
        out.flush()?;
        Ok(sense)
    }
}

fn text(out: &mut impl Write, colours: Colours, event: &Event, at: SystemTime) -> io::Result<()> {
    head(out, colours, event, at)?;
    if !event.data.contains('\n') {
        return writeln!(out, " {}", plain(&event.data));
    }
    writeln!(out)?;
    for line in event.data.split('\n') {
        writeln!(out, "  {}", plain(line))?;
    }
    Ok(())
}

fn changes(
    out: &mut impl Write,
    colours: Colours,
    document: &mut Document,
    event: &Event,
    at: SystemTime,
) -> io::Result<Sense> {
    let step = match document.take(event) {
        Ok(Step::Notice) => return text(out, colours, event, at).map(|()| Sense::Made),
        Ok(step) => step,
        Err(unfit) => {
            return text(out, colours, event, at).map(|()| Sense::Lost(unfit.to_string()));
        }
    };
    head(out, colours, event, at)?;
    writeln!(out)?;
    match step {
        Step::Whole(value) => writeln!(out, "  = {}", plain(value.encoded()))?,
        Step::Changes(changes) if changes.is_empty() => {
            writeln!(out, "  {}", colours.paint(Tone::Dim, "(no change)"))?;
        }
        Step::Changes(changes) => {
            for change in changes {
                let (tone, line) = line(&change);
                writeln!(out, "  {}", colours.paint(tone, plain(&line)))?;
            }
        }
        Step::Notice => {}
    }
    Ok(Sense::Made)
}

/// Time, name and id, without the end of the line.
fn head(out: &mut impl Write, colours: Colours, event: &Event, at: SystemTime) -> io::Result<()> {
    let time = DateTime::<Local>::from(at).format("%H:%M:%S%.3f");
    let tone = match event.name.as_str() {
        "stale" | "fresh" | "gone" | "closing" | "reset" => Tone::Notice,
        _ => Tone::Name,
    };
    let id = if event.id.is_empty() { "-" } else { &event.id };
    let (time, id) = (
        colours.paint(Tone::Dim, time),
        colours.paint(Tone::Dim, plain(id)),
    );
    write!(
        out,
        "{time} {} {id}",
        colours.paint(tone, plain(&event.name))
    )
}

fn line(change: &Change) -> (Tone, String) {
    // The pointer to the whole document is empty text, which nobody would see.
    let place = |path: &str| {
        if path.is_empty() {
            "(all)".to_owned()
        } else {
            path.to_owned()
        }
    };
    match change {
        Change::Added { path, value } => (Tone::Added, format!("+ {} {value}", place(path))),
        Change::Replaced { path, old, new } => {
            (Tone::Changed, format!("~ {} {old} → {new}", place(path)))
        }
        Change::Removed { path, old } => (Tone::Removed, format!("- {} {old}", place(path))),
    }
}

/// CONTRACT.md §6: the members of a line, all strings. `time` is RFC 3339 in UTC; `id` is the last id of the stream, or empty;
/// `data` is the event's data as it came, also when that is JSON.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    id: &'a str,
    event: &'a str,
    data: &'a str,
}

fn json(out: &mut impl Write, event: &Event, at: SystemTime) -> io::Result<()> {
    let line = Line {
        time: humantime::format_rfc3339_millis(at).to_string(),
        id: &event.id,
        event: &event.name,
        data: &event.data,
    };
    let line = serde_json::to_string(&line)?;
    // What is left of what a terminal would obey stands inside strings, where RFC 8259 allows any character as an escape.
    let mut safe = String::with_capacity(line.len());
    for c in line.chars() {
        match screen::is_obeyed(c) {
            true => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => safe.push(c),
        }
    }
    writeln!(out, "{safe}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn event(name: &str, id: &str, data: &str) -> Event {
        Event {
            name: name.into(),
            data: data.into(),
            id: id.into(),
        }
    }

    /// All events, without the 13 characters of local time, whatever the time zone of the machine.
    fn printed(style: Style, events: &[Event]) -> String {
        let mut printer = Printer::new(style, Vec::new());
        for event in events {
            assert_eq!(
                printer.event(event, UNIX_EPOCH).expect("memory"),
                Sense::Made
            );
        }
        let text = String::from_utf8(printer.out).expect("UTF-8");
        let timeless = |line: &str| match line.starts_with("  ") {
            true => line.to_owned(),
            false => line[12..].to_owned(),
        };
        text.lines().map(timeless).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn text_shows_name_id_and_data() {
        let events = [
            event("message", "", r#"{"a":1}"#),
            event("price", "ab-1", "x\n y\n"),
        ];
        assert_eq!(
            printed(Style::Text(Colours::Off), &events),
            " message - {\"a\":1}\n price ab-1\n  x\n   y\n  "
        );
    }

    #[test]
    fn the_time_is_that_of_the_clock_on_the_wall() {
        let mut printer = Printer::new(Style::Text(Colours::Off), Vec::new());
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        printer
            .event(&event("message", "", ""), at)
            .expect("memory");
        let text = String::from_utf8(printer.out).expect("UTF-8");
        let wall = DateTime::<Local>::from(at).time().to_string();
        assert_eq!(text, format!("{wall} message - \n"));
    }

    /// EDGE O6: a hostile stream cannot drive the terminal, in any field and any style.
    #[test]
    fn nothing_of_a_stream_reaches_the_terminal_raw() {
        let hostile = "\u{1b}[2J\u{9b}1m\r\u{202e}";
        let mut events = vec![
            event(hostile, hostile, hostile),
            event("snapshot", hostile, &format!(r#"{{"{hostile}":1}}"#)),
        ];
        events[1].data = events[1]
            .data
            .replace('\u{1b}', "\\u001b")
            .replace('\r', "\\r");
        events.push(event("merge", hostile, r#"{"\u009b":"\u009b"}"#));
        for style in [
            Style::Text(Colours::Off),
            Style::Json,
            Style::Changes(Colours::Off, Document::default()),
        ] {
            let mut printer = Printer::new(style, Vec::new());
            for event in &events {
                printer.event(event, UNIX_EPOCH).expect("memory");
            }
            let text = String::from_utf8(printer.out).expect("UTF-8");
            assert!(
                !text.replace('\n', "").contains(screen::is_obeyed),
                "{text:?}"
            );
        }
    }

    #[test]
    fn changes_are_one_line_an_operation() {
        let patch = r#"[{"op":"replace","path":"/a","value":2},{"op":"add","path":"/b","value":"x"},{"op":"remove","path":"/c"}]"#;
        let events = [
            event("snapshot", "ab-1", r#"{"a":1,"c":null}"#),
            event("patch", "ab-2", patch),
            event("patch", "ab-3", "[]"),
            event("stale", "ab-3", r#"{"cause":"timeout"}"#),
            event("message", "ab-4", "text"),
        ];
        let style = Style::Changes(Colours::Off, Document::default());
        let expected = [
            " snapshot ab-1",
            r#"  = {"a":1,"c":null}"#,
            " patch ab-2",
            "  ~ /a 1 → 2",
            r#"  + /b "x""#,
            "  - /c null",
            " patch ab-3",
            "  (no change)",
            r#" stale ab-3 {"cause":"timeout"}"#,
            " message ab-4",
            r#"  ~ (all) {"a":2,"b":"x"} → text"#,
        ];
        assert_eq!(printed(style, &events), expected.join("\n"));
    }

    #[test]
    fn changes_are_coloured() {
        let mut printer =
            Printer::new(Style::Changes(Colours::On, Document::default()), Vec::new());
        for data in ["1", "2"] {
            printer
                .event(&event("message", "", data), UNIX_EPOCH)
                .expect("memory");
        }
        let text = String::from_utf8(printer.out).expect("UTF-8");
        assert!(
            text.ends_with("  \u{1b}[33m~ (all) 1 → 2\u{1b}[0m\n"),
            "{text:?}"
        );
    }

    #[test]
    fn a_patch_that_does_not_fit_is_shown_as_it_came() {
        let mut printer = Printer::new(
            Style::Changes(Colours::Off, Document::default()),
            Vec::new(),
        );
        let sense = printer
            .event(&event("patch", "", "[]"), UNIX_EPOCH)
            .expect("memory");
        assert!(matches!(sense, Sense::Lost(_)));
        assert!(
            String::from_utf8(printer.out)
                .expect("UTF-8")
                .ends_with(" patch - []\n")
        );
    }

    /// CONTRACT.md §6.
    #[test]
    fn a_json_line_has_four_members_in_order() {
        let mut printer = Printer::new(Style::Json, Vec::new());
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        printer
            .event(&event("price", "ab-1", "{\"a\":\n1}"), at)
            .expect("memory");
        let text = String::from_utf8(printer.out).expect("UTF-8");
        let expected = r#"{"time":"2023-11-14T22:13:20.123Z","id":"ab-1","event":"price","data":"{\"a\":\n1}"}"#;
        assert_eq!(text, format!("{expected}\n"));
    }

    proptest! {
        /// Whatever is escaped, a program reads the data as it came.
        #[test]
        fn a_json_line_reads_back(data: String) {
            let mut printer = Printer::new(Style::Json, Vec::new());
            printer.event(&event("message", "", &data), UNIX_EPOCH).expect("memory");
            let text = String::from_utf8(printer.out).expect("UTF-8");
            prop_assert_eq!(text.matches('\n').count(), 1);
            let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(&line["data"], &serde_json::Value::from(data));
        }
    }
}
