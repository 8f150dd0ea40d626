//! `wellspring probe`: what a stream's source gives, and what a client would get, without serving anybody.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::screen::{plain, shortened};
use super::{CONFIG, FAILED, NO_STREAM, OK, block_on, print};
use crate::config;
use crate::gateway::probe::{Outcome, Seen, Step, probe as run};
use crate::source::SourceError;

/// Bytes of a value that are shown.
const SHOWN: usize = 2048;

pub(super) fn probe(file: &Path, path: &str) -> u8 {
    let config = match config::load(file) {
        Ok(config) => config,
        Err(problems) => {
            eprint!("{problems}");
            return CONFIG;
        }
    };
    let mut tell = |step| match step {
        // The two that keep anything from being read are no result.
        Step::NoStream { .. } | Step::NoClient(_) => eprintln!("{}", text(path, &step)),
        step => drop(print(&text(path, &step))),
    };
    block_on(async { code(run(&config, path, &mut tell).await) })
}

fn code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Answered => OK,
        Outcome::Failed => FAILED,
        Outcome::NoStream => NO_STREAM,
    }
}

/// One or more lines without the last line break. Nothing that a source sent reaches the terminal raw (EDGE O6).
fn text(asked: &str, step: &Step) -> String {
    match step {
        Step::NoStream { refused_by, known } => no_stream(asked, refused_by.as_deref(), known),
        Step::Stream {
            path,
            params,
            source,
        } => {
            let mut text = format!("stream {path}");
            for (name, value) in params {
                push(&mut text, format_args!(", {name} = {}", plain(value)));
            }
            push(&mut text, format_args!("\nsource {}\n", plain(source)));
            text
        }
        Step::NoClient(error) => plain(&error.to_string()).to_string(),
        Step::Reading {
            number,
            took,
            status,
            result,
        } => reading(*number, *took, *status, result),
        Step::Wait { wait, every, wish } => {
            let mut text = format!(
                "waiting until {} after the start of this reading",
                duration(*wait)
            );
            if wait < every {
                push(
                    &mut text,
                    format_args!(" (the stream itself waits {})", duration(*every)),
                );
            }
            if let Some(wish) = wish.filter(|wish| wish > every) {
                push(
                    &mut text,
                    format_args!(" (the source asks for {})", duration(wish)),
                );
            }
            text + "\n"
        }
        Step::Listening { took } => format!("listening after {}\n", duration(*took)),
        Step::Message {
            number,
            after,
            name,
            data,
        } => {
            let size = data.encoded().len();
            let mut text = format!("message {number}: after {}, {size} bytes", duration(*after));
            if let Some(name) = name {
                push(&mut text, format_args!(", event {name}"));
            }
            push(
                &mut text,
                format_args!("\nvalue: {}", shortened(data.encoded(), SHOWN)),
            );
            text
        }
        Step::Dropped { why } => format!("message dropped: {}\n", plain(why)),
        Step::Silent {
            messages,
            listening,
            waited,
        } => match (listening, messages) {
            (false, _) => format!("failed: not listening within {}", duration(*waited)),
            (true, 0) => format!("no message within {}", duration(*waited)),
            (true, _) => format!("no other message within {}", duration(*waited)),
        },
        Step::Down(error) => failed(error),
        Step::Published { path } => {
            format!("nothing to read: clients get what is sent with POST {path}")
        }
        Step::Events(None) => "events: none\n".into(),
        Step::Events(Some(events)) => {
            // Each line as it is, the blank one at the end of each event included.
            let lines = events.lines().map(|line| format!("\n{}", plain(line)));
            format!("events:{}", lines.collect::<String>())
        }
    }
}

fn no_stream(asked: &str, refused_by: Option<&str>, known: &[String]) -> String {
    let mut text = format!("no stream serves {}", plain(asked));
    if let Some(path) = refused_by {
        push(
            &mut text,
            format_args!(": a parameter of {path} does not match its pattern"),
        );
        return text;
    }
    text += "; the streams are:";
    for path in known {
        push(&mut text, format_args!("\n  {path}"));
    }
    text
}

fn reading(
    number: usize,
    took: Duration,
    status: Option<u16>,
    result: &Result<Seen, SourceError>,
) -> String {
    let took = match status {
        Some(status) => format!("status {status}, {}", duration(took)),
        None => duration(took),
    };
    match result {
        Ok(Seen::Value { size, selected }) => {
            let value = selected.encoded();
            let of = match value.len() == *size {
                true => String::new(),
                false => format!(", {} of them selected", value.len()),
            };
            format!(
                "reading {number}: value, {took}, {size} bytes{of}\nvalue: {}",
                shortened(value, SHOWN)
            )
        }
        Ok(Seen::Unchanged) => format!("reading {number}: unchanged (the same bytes), {took}"),
        Ok(Seen::NotModified) => {
            format!("reading {number}: not modified (the source said so), {took}")
        }
        Ok(Seen::Absent) => format!("reading {number}: absent (no such resource or key), {took}"),
        Err(error) => format!("reading {number}: {}, {took}", failed(error)),
    }
}

fn failed(error: &SourceError) -> String {
    format!("failed: {}: {}", error.cause, plain(&error.detail))
}

/// Milliseconds below a second, seconds above.
fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{:.1} ms", duration.as_secs_f64() * 1000.0),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Cause;
    use crate::value::Value;

    fn shown(step: &Step) -> String {
        text("/asked", step)
    }

    #[test]
    fn a_reading_tells_status_time_size_and_value() {
        let took = Duration::from_micros(12_345);
        let value = |size, text: &str| Seen::Value {
            size,
            selected: Value::from_text(text),
        };
        let read = |result| {
            shown(&Step::Reading {
                number: 1,
                took,
                status: None,
                result,
            })
        };
        assert_eq!(
            read(Ok(value(5, "12.34"))),
            "reading 1: value, 12.3 ms, 5 bytes\nvalue: 12.34"
        );
        assert_eq!(
            read(Ok(value(64, "1"))),
            "reading 1: value, 12.3 ms, 64 bytes, 1 of them selected\nvalue: 1"
        );
        assert_eq!(
            read(Ok(Seen::Absent)),
            "reading 1: absent (no such resource or key), 12.3 ms"
        );
        let error = SourceError::new(Cause::Timeout, "no head within 5s");
        assert_eq!(
            read(Err(error)),
            "reading 1: failed: timeout: no head within 5s, 12.3 ms"
        );
    }

    #[test]
    fn a_long_value_is_shortened_but_events_are_not() {
        let long = "x".repeat(10_000);
        let seen = Seen::Value {
            size: 10_000,
            selected: Value::from_text(long.as_str()),
        };
        let text = shown(&Step::Reading {
            number: 1,
            took: Duration::ZERO,
            status: None,
            result: Ok(seen),
        });
        assert!(text.len() < SHOWN + 200 && text.ends_with("x … (10000 bytes in all)"));
        assert!(shown(&Step::Events(Some(format!("data: {long}\n\n")))).len() > 10_000);
    }

    #[test]
    fn events_stand_as_they_are_sent() {
        let events = "id: a-1\ndata: 1\n\n";
        assert_eq!(
            shown(&Step::Events(Some(events.into()))),
            format!("events:\n{}", events.trim_end_matches('\n')) + "\n"
        );
        assert_eq!(shown(&Step::Events(None)), "events: none\n");
    }

    #[test]
    fn a_wait_tells_why_it_is_not_the_streams_own() {
        let (wait, every) = (Duration::from_secs(5), Duration::from_secs(300));
        let text = shown(&Step::Wait {
            wait,
            every,
            wish: Some(Duration::from_secs(600)),
        });
        let expected = "waiting until 5.0 s after the start of this reading (the stream itself waits 300.0 s) (the source asks for 600.0 s)\n";
        assert_eq!(text, expected);
        let text = shown(&Step::Wait {
            wait,
            every: wait,
            wish: Some(wait),
        });
        assert_eq!(
            text,
            "waiting until 5.0 s after the start of this reading\n"
        );
    }

    #[test]
    fn what_serves_nothing_is_told_with_what_there_is() {
        let known = vec!["/a/{x}".to_owned(), "/b".to_owned()];
        let text = shown(&Step::NoStream {
            refused_by: None,
            known: known.clone(),
        });
        assert_eq!(
            text,
            "no stream serves /asked; the streams are:\n  /a/{x}\n  /b"
        );
        let text = shown(&Step::NoStream {
            refused_by: Some("/a/{x}".into()),
            known,
        });
        assert_eq!(
            text,
            "no stream serves /asked: a parameter of /a/{x} does not match its pattern"
        );
    }

    /// EDGE O6.
    #[test]
    fn nothing_of_a_source_reaches_the_terminal_raw() {
        let hostile = "\u{1b}[2J\u{9b}\r";
        let value = || Value::from_text(hostile);
        let steps = [
            Step::Reading {
                number: 1,
                took: Duration::ZERO,
                status: None,
                result: Ok(Seen::Value {
                    size: 9,
                    selected: value(),
                }),
            },
            Step::Reading {
                number: 1,
                took: Duration::ZERO,
                status: None,
                result: Err(SourceError::new(Cause::Status, hostile)),
            },
            Step::Message {
                number: 1,
                after: Duration::ZERO,
                name: None,
                data: value(),
            },
            Step::Dropped {
                why: hostile.into(),
            },
            Step::Down(SourceError::new(Cause::Redis, hostile)),
            Step::Events(Some(format!("data: {hostile}\n\n"))),
            Step::NoStream {
                refused_by: None,
                known: Vec::new(),
            },
        ];
        for step in steps {
            assert!(
                !text(hostile, &step)
                    .replace('\n', "")
                    .contains(char::is_control),
                "{step:?}"
            );
        }
    }

    #[test]
    fn codes_are_those_of_the_contract() {
        assert_eq!(
            [Outcome::Answered, Outcome::Failed, Outcome::NoStream].map(code),
            [0, 1, 2]
        );
    }
}
