//! The fields of a line of text that nobody colours: `message name=value name="text"`. Written as they come, because every
//! request is logged.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Writes fields without colours.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Plain;

impl<'w> FormatFields<'w> for Plain {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line {
            writer,
            begun: false,
            result: Ok(()),
        };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'w> {
    writer: Writer<'w>,
    begun: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn field(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = self.name(field).and_then(|()| write(&mut self.writer));
        }
    }

    fn name(&mut self, field: &Field) -> fmt::Result {
        if std::mem::replace(&mut self.begun, true) {
            self.writer.write_char(' ')?;
        }
        if field.name() == "message" {
            return Ok(());
        }
        self.writer.write_str(field.name())?;
        self.writer.write_char('=')
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        match field.name() {
            "message" => self.field(field, |writer| writer.write_str(value)),
            // What needs no escapes is written as it is.
            _ if value.bytes().all(is_plain) => self.field(field, |writer| {
                writer.write_char('"')?;
                writer.write_str(value)?;
                writer.write_char('"')
            }),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, |writer| write!(writer, "{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::cli::log::Log;

    /// What a line's fields look like, as written by `layer`.
    fn logged(colourless: bool) -> String {
        let log = Log::default();
        let lines = || {
            tracing_subscriber::fmt::layer()
                .with_writer(log.clone())
                .with_ansi(false)
                .without_time()
        };
        let log_all = || {
            tracing::info!(a = 1, b = "x y", c = "q\"\\\n\u{e9}", d = %"as it is", e = 0.5, none = None::<u8>, "some {}", "text");
            tracing::warn!(only = true);
        };
        let registry = tracing_subscriber::registry();
        match colourless {
            true => {
                tracing::subscriber::with_default(registry.with(lines().fmt_fields(Plain)), log_all)
            }
            false => tracing::subscriber::with_default(registry.with(lines()), log_all),
        }
        let lines = log.0.lines.lock();
        String::from_utf8(lines.waiting.clone()).expect("text")
    }

    #[test]
    fn fields_look_as_they_do_in_colour() {
        let plain = logged(true);
        assert!(plain.contains(r#"some text a=1 b="x y" c="q\"\\\né" d=as it is e=0.5"#));
        assert_eq!(plain, logged(false));
    }
}
